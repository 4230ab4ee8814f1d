"""Byte-level byte-pair encoding, trained on the training split alone; id 0 stands in front of every document."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DOCUMENT = "<|document|>"
"""The token with id 0."""


def _tokenizers() -> Any:
    try:
        return importlib.import_module("tokenizers")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "preparing data needs tokenizers: install it with `pip install 'symcheck[repro]'`", name="tokenizers"
        ) from error


def train(texts: Iterable[str], vocabulary: int) -> Any:
    """A tokenizer of ``vocabulary`` ids; every text can be encoded, whatever its characters.

    Raises ValueError if ``vocabulary`` has no room for the 256 bytes and the document token, or the texts are too few
    to fill it: a head with rows that no token ever reaches would blur what is measured on it.
    """
    if vocabulary < 257:
        raise ValueError(f"vocabulary {vocabulary} is too small: 256 bytes and the document token need 257")
    library = _tokenizers()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[DOCUMENT],
        initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if (size := tokenizer.get_vocab_size()) != vocabulary:
        raise ValueError(f"the training text gives only {size} of {vocabulary} tokens: use more text or fewer tokens")
    return tokenizer


def load(path: Path) -> Any:
    """The tokenizer in a ``tokenizer.json``."""
    return _tokenizers().Tokenizer.from_file(str(path))


def encode(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """The ids of each text behind the document token. A text cannot smuggle in that token: it is spelt in bytes."""
    tokenizer.encode_special_tokens = True
    return [[0, *encoding.ids] for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
