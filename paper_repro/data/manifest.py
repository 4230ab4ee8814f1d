"""The manifest of a data set: which shards it has, and where they came from.

Its hash covers what decides the tokens of a run (vocabulary, delimiter, and size and sha256 of every shard), not where
the text came from: two machines with the same tokens have the same hash. Losses are compared only within one hash.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paper_repro.data.shards import read_header
from paper_repro.records import write_atomically

SCHEMA = "paper_repro.data/1"
SPLITS = ("train", "validation", "tuning")


@dataclass(frozen=True)
class ShardEntry:
    """Tokens ``start`` to ``start + tokens`` of one file belong to ``split``."""

    file: str
    split: str
    tokens: int
    sha256: str
    start: int = 0


@dataclass(frozen=True)
class Manifest:
    """A finished data set.

    Attributes:
        name: of the data set.
        source: name of the source, with its options in ``options``.
        vocabulary: number of token ids; every id in the shards is smaller.
        delimiter: id in front of every document.
        tokenizer: sha256 of ``tokenizer.json``, or the name of a published tokenizer.
        shards: all shards, in reading order.
        documents: number of documents by split.
        pins: versions and hashes of what the text was made from.
        licence: of the text.
    """

    name: str
    source: str
    options: Mapping[str, Any]
    vocabulary: int
    delimiter: int
    tokenizer: str
    shards: tuple[ShardEntry, ...]
    documents: Mapping[str, int]
    pins: Mapping[str, str]
    licence: str

    @property
    def hash(self) -> str:
        """sha256, 64 hexadecimal digits, of everything that decides the tokens."""
        content = {
            "vocabulary": self.vocabulary,
            "delimiter": self.delimiter,
            "shards": [[each.split, each.start, each.tokens, each.sha256] for each in self.shards],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def tokens(self, split: str) -> int:
        """Number of tokens of ``split``."""
        return sum(each.tokens for each in self.shards if each.split == split)

    def write(self, folder: Path) -> None:
        """Writes ``folder/manifest.json``: the last step of preparation, and the mark that it is complete."""
        data = {"schema": SCHEMA, "hash": self.hash, **dataclasses.asdict(self)}
        write_atomically(folder / "manifest.json", json.dumps(data, indent=1, sort_keys=True) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest in ``folder``, after a look at every shard's header and size.

    Raises ValueError, one line with the path and the remedy, if it is missing, damaged, or disagrees with a shard.
    """
    path = folder / "manifest.json"
    if not path.exists():
        raise ValueError(f"{path} does not exist: run `python -m paper_repro data {folder.name}` first")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("schema") != SCHEMA:
            raise ValueError(f"not of schema {SCHEMA}")
        stated = data.pop("hash")
        shards = tuple(ShardEntry(**each) for each in data.pop("shards"))
        manifest = Manifest(**data, shards=shards)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}): prepare the data set again") from None
    if manifest.hash != stated:
        raise ValueError(f"{path} is damaged (its hash does not match): prepare the data set again")
    for each in manifest.shards:
        held = read_header(folder / each.file).tokens
        if held < each.start + each.tokens:
            raise ValueError(f"{folder / each.file}: {held} tokens where the manifest promises more: prepare it again")
    return manifest


def verify(folder: Path) -> Manifest:
    """`read_manifest`, and the sha256 of every file compared; ValueError naming the first that differs."""
    manifest = read_manifest(folder)
    for file, expected in {each.file: each.sha256 for each in manifest.shards}.items():
        if sha256_of(folder / file) != expected:
            raise ValueError(f"{folder / file}: sha256 differs from the manifest: prepare the data set again")
    return manifest


def sha256_of(path: Path) -> str:
    """sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
