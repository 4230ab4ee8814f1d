"""From a source to a data set: fetch and clean each part, train the tokenizer, pack the shards, write the manifest.

Every step leaves a file that appears only when it is complete, so that an interrupted preparation goes on where it was:

    <root>/.work/<name>/text/<part>.jsonl.gz    cleaned documents of one part
    <root>/<name>/tokenizer.json                trained on the documents of the training split
    <root>/<name>/train_000000.bin ...          one shard per split and part that has documents in it
    <root>/<name>/manifest.json                 last: the data set is complete

Whole documents are held out, by the hash of their text: a document is on the same side whatever else is in the corpus,
and copies of it are dropped.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paper_repro.data import hub, tokenizer
from paper_repro.data.debian import Debian
from paper_repro.data.manifest import SPLITS, Manifest, ShardEntry, read_manifest, sha256_of
from paper_repro.data.shards import read_header, token_dtype, write_shard
from paper_repro.data.sources import Document, Files, FineWeb, Part, Pydoc, Source
from paper_repro.records import write_atomically

SOURCES: Mapping[str, Callable[..., Source]] = {"pydoc": Pydoc, "files": Files, "debian": Debian, "fineweb": FineWeb}
"""Sources of text by name; ``hub`` (shards that exist already) is the one that is none."""

_TRAINING_CHARACTERS = 100_000_000
"""The tokenizer sees no more than this; its merges hardly change beyond."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class DataSpec:
    """What a data set is made from: a file of ``presets/data/``, or the options of the command line.

    ``held_out`` is the share of documents in each of the splits ``validation`` and ``tuning``.
    """

    name: str
    source: str
    vocabulary: int
    held_out: float = 0.01
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.source not in (*SOURCES, "hub"):
            raise ValueError(
                f"data set {self.name!r}: unknown source {self.source!r}; known: {', '.join(SOURCES)}, hub"
            )
        if not 0 < self.held_out < 0.5:
            raise ValueError(f"data set {self.name!r}: held_out must lie between 0 and 0.5, got {self.held_out}")


def prepare(spec: DataSpec, root: Path, say: Say = lambda _: None) -> Manifest:
    """The data set ``root/spec.name``, made or completed if it is not there; its manifest.

    ``say`` hears one line per step. Raises ValueError for a source that cannot be read, ModuleNotFoundError naming the
    extra for a source that needs one.
    """
    folder = root / spec.name
    if (folder / "manifest.json").exists():
        return read_manifest(folder)
    folder.mkdir(parents=True, exist_ok=True)
    work = root / ".work" / spec.name
    if spec.source == "hub":
        manifest = hub.fetch(folder, spec.name, spec.vocabulary, say=say, **spec.options)
    else:
        manifest = _from_text(spec, SOURCES[spec.source](**spec.options), folder, work, say)
    manifest.write(folder)
    shutil.rmtree(work, ignore_errors=True)
    say(f"{folder}: {', '.join(f'{manifest.tokens(split):,} {split}' for split in SPLITS)} tokens")
    return manifest


def split_of(text: str, held_out: float) -> str:
    """The split of a document: a function of its text alone."""
    place = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
    if place < held_out:
        return "validation"
    return "tuning" if place < 2 * held_out else "train"


def _from_text(spec: DataSpec, source: Source, folder: Path, work: Path, say: Say) -> Manifest:
    (work / "text").mkdir(parents=True, exist_ok=True)
    parts = source.parts(work)
    files = []
    for number, part in enumerate(parts, 1):
        files.append(_keep(part, work / "text"))
        say(f"text {number}/{len(parts)}: {part.name} ({part.pin.partition(',')[0]})")
    # What was packed by an earlier, different attempt (other parts, another tokenizer) must not survive into this one.
    state = {
        "parts": [[part.name, part.pin] for part in parts],
        "vocabulary": spec.vocabulary,
        "held_out": spec.held_out,
    }
    _forget_unless(work / "packing.json", state, folder)
    encoder = _tokenizer(spec, files, folder / "tokenizer.json", say)
    shards: list[ShardEntry] = []
    documents: Counter[str] = Counter(dict.fromkeys(SPLITS, 0))
    for number, new in enumerate(_without_copies(files)):
        entries, counts = _pack(new, number, encoder, spec, folder)
        shards += entries
        documents += counts
        say(f"tokens {number + 1}/{len(files)}: {sum(each.tokens for each in entries):,}")
    for split in SPLITS:
        if not documents[split]:
            raise ValueError(
                f"data set {spec.name!r}: no document fell into {split!r}; give more documents, or a larger held_out"
            )
    pins = {part.name: part.pin for part in parts}
    if len(pins) > 1000:  # a folder of very many files: one pin for all of them
        joined = "\n".join(f"{name} {pin}" for name, pin in pins.items())
        pins = {f"{len(parts)} parts": "sha256 " + hashlib.sha256(joined.encode()).hexdigest()}
    return Manifest(
        name=spec.name,
        source=spec.source,
        options={key: value for key, value in spec.options.items() if key not in ("path", "mirror")},
        vocabulary=spec.vocabulary,
        delimiter=0,
        tokenizer="sha256 " + sha256_of(folder / "tokenizer.json"),
        shards=tuple(shards),
        documents={split: documents[split] for split in SPLITS},
        pins=pins,
        licence=source.licence,
    )


def _keep(part: Part, folder: Path) -> Path:
    """The file with the part's documents, written unless it is there already."""
    digest = hashlib.sha256(f"{part.name}\0{part.pin}".encode()).hexdigest()[:16]
    path = folder / f"{digest}.jsonl.gz"
    if not path.exists():
        partial = path.with_suffix(".partial")
        with gzip.open(partial, "wt", encoding="utf-8", compresslevel=3) as file:
            for document in part.documents():
                file.write(json.dumps(document) + "\n")
        os.replace(partial, path)
    return path


def _read(path: Path) -> Iterator[Document]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield Document(*json.loads(line))


def _without_copies(files: list[Path]) -> Iterator[list[Document]]:
    """The documents of each file that no earlier one has word for word."""
    seen: set[bytes] = set()
    for path in files:
        new = []
        for document in _read(path):
            digest = hashlib.sha256(document.text.encode()).digest()[:16]
            if digest not in seen and document.text.strip():
                seen.add(digest)
                new.append(document)
        yield new


def _forget_unless(path: Path, state: Any, folder: Path) -> None:
    text = json.dumps(state, sort_keys=True)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    for stale in (*folder.glob("*.bin"), *folder.glob("tokenizer.json")):
        stale.unlink()
    write_atomically(path, text)


def _tokenizer(spec: DataSpec, files: list[Path], path: Path, say: Say) -> Any:
    if not path.exists():
        say(f"training a tokenizer of {spec.vocabulary:,} tokens")
        partial = path.with_suffix(".partial")
        tokenizer.train(_training_text(spec, files), spec.vocabulary).save(str(partial))
        os.replace(partial, path)
    return tokenizer.load(path)


def _training_text(spec: DataSpec, files: list[Path]) -> Iterator[str]:
    """Documents of the training split, the same number of characters from every part."""
    for new in _without_copies(files):
        left = _TRAINING_CHARACTERS // len(files)
        for document in new:
            if split_of(document.text, spec.held_out) == "train" and left > 0:
                left -= len(document.text)
                yield document.text


def _pack(
    documents: list[Document], number: int, encoder: Any, spec: DataSpec, folder: Path
) -> tuple[list[ShardEntry], Counter[str]]:
    """The shards of one part: the documents of each split in a row."""
    by_split: dict[str, list[str]] = {split: [] for split in SPLITS}
    for document in documents:
        by_split[split_of(document.text, spec.held_out)].append(document.text)
    entries = []
    for split, texts in by_split.items():
        if not texts:
            continue
        path = folder / f"{split}_{number:06d}.bin"
        if not path.exists():
            rows = [np.asarray(ids, dtype=token_dtype(spec.vocabulary)) for ids in tokenizer.encode(encoder, texts)]
            write_shard(path, np.concatenate(rows))
        entries.append(ShardEntry(path.name, split, read_header(path).tokens, sha256_of(path)))
    return entries, Counter({split: len(texts) for split, texts in by_split.items()})
