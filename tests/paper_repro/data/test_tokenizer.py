"""Every text can be encoded and comes back; id 0 is where a document begins, and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tokenizers")
from paper_repro.data import tokenizer

ENCODER = tokenizer.train(["the quick brown fox jumps over the lazy dog " * 3, "so it goes " * 5], 280)


@given(st.lists(st.text() | st.just("a <|document|> b"), min_size=1, max_size=4))
def test_texts_come_back(texts):
    for ids, text in zip(tokenizer.encode(ENCODER, texts), texts, strict=True):
        assert ids[0] == 0
        assert 0 not in ids[1:]
        assert max(ids) < 280
        assert ENCODER.decode(ids[1:]) == text
