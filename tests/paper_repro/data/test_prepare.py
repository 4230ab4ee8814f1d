"""Preparing a data set: complete or resumable, deterministic, and honest about its hold-out."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from paper_repro.data import prepare as module
from paper_repro.data import tokenizer
from paper_repro.data.manifest import read_manifest, sha256_of, verify
from paper_repro.data.prepare import DataSpec, prepare, split_of
from paper_repro.data.shards import map_shard, write_shard
from paper_repro.data.sources import optional

pytest.importorskip("tokenizers")
WORDS = "the optimizer moves every weight along some direction that its own symmetry leaves alone while the loss falls"


def text(number):
    """Documents that are all different, and enough of them for 300 tokens."""
    words = WORDS.split()
    return " ".join(words[(number * 7 + place * place) % len(words)] + str(place % 5) for place in range(40 + number))


@pytest.fixture
def folder(tmp_path):
    source = tmp_path / "text"
    (source / "sub").mkdir(parents=True)
    for number in range(30):
        (source / f"{number:02}.txt").write_text(text(number))
    (source / "sub" / "many.jsonl").write_text("".join(json.dumps({"text": text(n)}) + "\n" for n in range(20, 60)))
    return source


def spec(folder, **changes):
    return DataSpec(
        **{"name": "mine", "source": "files", "vocabulary": 300, "held_out": 0.15, **changes},
        options={"path": str(folder)},
    )


def documents(root, split):
    """The documents of a split as texts, out of the shards."""
    encoder = tokenizer.load(root / "mine" / "tokenizer.json")
    found = []
    for path in sorted((root / "mine").glob(f"{split}_*.bin")):
        for token in map_shard(path).tolist():
            if token == 0:
                found.append([])
            else:
                found[-1].append(token)
    return [encoder.decode(ids) for ids in found]


def test_every_document_is_on_one_side_once(tmp_path, folder):
    manifest = prepare(spec(folder), tmp_path / "data")
    sides = {split: documents(tmp_path / "data", split) for split in ("train", "validation", "tuning")}
    together = [each for side in sides.values() for each in side]
    assert sorted(together) == sorted(text(number) + "\n" for number in range(60))
    for split, texts in sides.items():
        assert texts
        assert {split_of(each, 0.15) for each in texts} == {split}
        assert manifest.documents[split] == len(texts)
        assert manifest.tokens(split) == sum(map(len, _encoded(tmp_path / "data", texts)))


def _encoded(root, texts):
    return tokenizer.encode(tokenizer.load(root / "mine" / "tokenizer.json"), texts)


def test_the_tokenizer_sees_training_documents_only(tmp_path, folder, monkeypatch):
    seen = []
    train = tokenizer.train
    monkeypatch.setattr(tokenizer, "train", lambda texts, size: train(seen.extend(texts) or iter(seen), size))
    prepare(spec(folder), tmp_path / "data")
    assert seen
    assert {split_of(each, 0.15) for each in seen} == {"train"}


def test_the_same_text_gives_the_same_hash_wherever_it_lies(tmp_path, folder):
    first = prepare(spec(folder), tmp_path / "a")
    assert prepare(spec(folder), tmp_path / "b").hash == first.hash
    assert prepare(spec(folder, vocabulary=310), tmp_path / "c").hash != first.hash
    (folder / "00.txt").write_text("something else entirely, and long enough to be another document")
    assert prepare(spec(folder), tmp_path / "d").hash != first.hash


@pytest.mark.parametrize("step", ["_keep", "_tokenizer", "_pack"])
def test_an_interrupted_preparation_goes_on_and_ends_the_same(tmp_path, folder, monkeypatch, step):
    whole = prepare(spec(folder), tmp_path / "whole")
    original, calls = getattr(module, step), []

    def breaks(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2 or step == "_tokenizer":
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(module, step, breaks)
    with pytest.raises(KeyboardInterrupt):
        prepare(spec(folder), tmp_path / "data")
    with pytest.raises(ValueError, match=r"run `python -m paper_repro data mine` first"):
        read_manifest(tmp_path / "data" / "mine")
    monkeypatch.setattr(module, step, original)
    assert prepare(spec(folder), tmp_path / "data") == whole


def test_leftovers_of_another_attempt_are_not_used(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(module, "_pack", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepare(spec(folder, vocabulary=310), tmp_path / "data")
    monkeypatch.undo()
    assert prepare(spec(folder), tmp_path / "data") == prepare(spec(folder), tmp_path / "clean")


def test_damage_is_noticed(tmp_path, folder):
    prepare(spec(folder), tmp_path)
    path = next((tmp_path / "mine").glob("train_*.bin"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    read_manifest(tmp_path / "mine")  # sizes are right
    with pytest.raises(ValueError, match="sha256 differs"):
        verify(tmp_path / "mine")
    path.write_bytes(data[:-2])
    with pytest.raises(ValueError, match="header promises"):
        read_manifest(tmp_path / "mine")


def test_a_manifest_that_was_edited_is_refused(tmp_path, folder):
    prepare(spec(folder), tmp_path)
    path = tmp_path / "mine" / "manifest.json"
    data = json.loads(path.read_text())
    data["vocabulary"] += 1
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match="damaged"):
        read_manifest(tmp_path / "mine")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "web"}, "unknown source 'web'"),
        ({"held_out": 0.6}, "held_out must lie"),
        ({"vocabulary": 200}, "need 257"),
        ({"vocabulary": 60000}, "use more text or fewer tokens"),
        ({"held_out": 1e-9}, "no document fell into 'validation'"),
    ],
)
def test_bad_requests_are_one_line(tmp_path, folder, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        prepare(spec(folder, **changes), tmp_path / "data")
    assert "\n" not in str(error.value)


def test_a_line_that_is_no_document_is_named(tmp_path, folder):
    (folder / "bad.jsonl").write_text('{"text": "fine"}\n{"body": 1}\n')
    with pytest.raises(ValueError, match=r"bad\.jsonl, line 2: not a JSON object"):
        prepare(spec(folder), tmp_path / "data")


def test_an_empty_folder_is_said_so(tmp_path):
    with pytest.raises(ValueError, match=r"no \.txt"):
        prepare(spec(tmp_path), tmp_path / "data")


def test_pydoc_needs_nothing_but_python(tmp_path):
    manifest = prepare(DataSpec("pydoc", "pydoc", 512, 0.08), tmp_path)
    assert manifest.tokens("train") > 50_000
    assert manifest.pins["topics"].startswith("Python ")
    assert sha256_of(tmp_path / "pydoc" / "tokenizer.json") in manifest.tokenizer


def test_streamed_documents_are_resumed_part_by_part(tmp_path, monkeypatch):
    rows = [{"id": str(number), "text": text(number)} for number in range(60)]

    class Stream:
        def __init__(self, rows):
            self.rows = rows

        def skip(self, count):
            return Stream(self.rows[count:])

        def take(self, count):
            return self.rows[:count]

    asked = []

    def load_dataset(*names, **keywords):
        asked.append((names, keywords))
        return Stream(rows)

    fake = SimpleNamespace(load_dataset=load_dataset)
    monkeypatch.setattr("paper_repro.data.sources.optional", lambda module, extra: fake)
    options = {"documents": 60, "per_part": 25}
    manifest = prepare(DataSpec("web", "fineweb", 300, 0.15, options), tmp_path)
    assert sum(manifest.documents.values()) == 60
    assert list(manifest.pins) == ["documents-000000000", "documents-000000025", "documents-000000050"]
    keywords = {"name": "sample-10BT", "split": "train", "streaming": True, "revision": None}
    assert asked == [(("HuggingFaceFW/fineweb-edu",), keywords)]


def test_published_shards_are_fetched_and_described(tmp_path, monkeypatch):
    def hf_hub_download(repository, file, *, repo_type, revision, local_dir):
        assert (repository, repo_type) == ("authors/shards", "dataset")
        write_shard(Path(local_dir) / file, np.arange(100, dtype=np.uint32), delimiter=99)

    fake = SimpleNamespace(hf_hub_download=hf_hub_download)
    monkeypatch.setattr("paper_repro.data.hub.optional", lambda module, extra: fake)
    options = {"repository": "authors/shards", "train_shards": 2}
    manifest = prepare(DataSpec("published", "hub", 100, options=options), tmp_path)
    assert [manifest.tokens(split) for split in ("train", "validation", "tuning")] == [200, 50, 50]
    assert verify(tmp_path / "published") == manifest


def test_a_missing_extra_is_named():
    with pytest.raises(ModuleNotFoundError, match=r"this needs no_such_module: install it with .*symcheck\[fineweb\]"):
        optional("no_such_module", "fineweb")
