"""Models, symmetries and runs of the paper (arXiv 2605.18106); importing it does not import transformers."""
