"""Shards that somebody tokenised already: the authors' FineWeb-Edu 10B for the four model families, by the hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from paper_repro.data.manifest import Manifest, ShardEntry, sha256_of
from paper_repro.data.shards import read_header
from paper_repro.data.sources import optional


def fetch(
    folder: Path,
    name: str,
    vocabulary: int,
    *,
    repository: str,
    train_shards: int = 99,
    revision: str | None = None,
    licence: str = "ODC-By 1.0",
    say: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Downloads ``dataset_val_000000.bin`` and ``train_shards`` training shards into ``folder``; resumes by itself.

    The first half of the validation shard is ``validation`` (the paper evaluates on its first tenth), the second half
    ``tuning``. Raises ValueError for a file that is no shard, ModuleNotFoundError naming the extra.
    """
    download = optional("huggingface_hub", "repro").hf_hub_download
    names = ["dataset_val_000000.bin", *(f"dataset_train_{number:06d}.bin" for number in range(1, train_shards + 1))]
    for number, file in enumerate(names, 1):
        download(repository, file, repo_type="dataset", revision=revision, local_dir=str(folder))
        say(f"shard {number}/{len(names)}: {read_header(folder / file).tokens:,} tokens")
    return describe(
        folder, name, vocabulary, names, {"repository": repository, "revision": revision or "main"}, licence
    )


def describe(
    folder: Path, name: str, vocabulary: int, files: list[str], origin: dict[str, str], licence: str
) -> Manifest:
    """The manifest of shards in the authors' layout: the first is for validation, the rest for training."""
    headers = {file: read_header(folder / file) for file in files}
    hashes = {file: sha256_of(folder / file) for file in files}
    held, *train = files
    half = headers[held].tokens // 2
    shards = [
        ShardEntry(held, "validation", half, hashes[held]),
        ShardEntry(held, "tuning", headers[held].tokens - half, hashes[held], start=half),
        *(ShardEntry(file, "train", headers[file].tokens, hashes[file]) for file in train),
    ]
    return Manifest(
        name=name,
        source="hub",
        options=origin,
        vocabulary=vocabulary,
        delimiter=headers[held].delimiter,
        tokenizer="that of the published shards",
        shards=tuple(shards),
        documents={},
        pins=origin,
        licence=licence,
    )
