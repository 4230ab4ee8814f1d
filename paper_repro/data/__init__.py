"""Text for training: sources, cleaning, tokenizer, packed shards, and the manifest that says what they are.

`paper_repro.data.prepare.prepare` makes a data set, `paper_repro.data.stream` reads it.
"""
