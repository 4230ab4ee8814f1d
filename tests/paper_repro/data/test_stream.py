"""Sequences: every one once an epoch, the same ones for every division of the work."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_repro.data.hub import describe
from paper_repro.data.manifest import Manifest, ShardEntry, sha256_of
from paper_repro.data.shards import write_shard
from paper_repro.data.stream import Sequences, TokenStream


def stream(folder, lengths, vocabulary=10_000):
    """A stream of the numbers 0, 1, 2, ... in shards of these lengths."""
    entries, start = [], 0
    for number, length in enumerate(lengths):
        path = folder / f"train_{number:06d}.bin"
        write_shard(path, np.arange(start, start + length, dtype=np.uint16))
        entries.append(ShardEntry(path.name, "train", length, sha256_of(path)))
        start += length
    manifest = Manifest("numbers", "files", {}, vocabulary, 0, "", tuple(entries), {}, {}, "")
    return TokenStream(folder, manifest, "train")


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6).flatmap(
        lambda lengths: st.tuples(st.just(lengths), st.integers(0, sum(lengths)), st.integers(0, sum(lengths)))
    )
)
def test_reading_crosses_the_ends_of_shards(tmp_path_factory, case):
    lengths, *ends = case
    start, end = sorted(ends)
    assert stream(tmp_path_factory.mktemp("s"), lengths).read(start, end - start).tolist() == list(range(start, end))


@given(st.integers(0, 5), st.integers(1, 7))
def test_an_epoch_has_every_sequence_once(tmp_path_factory, seed, length):
    sequences = Sequences(stream(tmp_path_factory.mktemp("s"), [20, 31]), length, seed)
    for epoch in range(2):
        rows = sequences.batch(range(epoch * sequences.count, (epoch + 1) * sequences.count))
        assert rows.shape == (sequences.count, length + 1)
        assert sorted(rows[:, 0].tolist()) == [place * length for place in range(sequences.count)]
        assert (rows.diff(dim=1) == 1).all()


def test_the_order_is_the_seed_s_and_differs_between_epochs(tmp_path):
    numbers = stream(tmp_path, [400])
    orders = [Sequences(numbers, 4, seed).batch(range(198))[:, 0].tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0][:99] != orders[0][99:]
    assert Sequences(numbers, 4, None).batch(range(198))[:, 0].tolist() == [*range(0, 396, 4)] * 2


def test_the_paper_s_batches(tmp_path):
    """Its loader gives rank ``r`` the tokens from ``r * B * T`` on, one more than it needs."""
    rows = Sequences(stream(tmp_path, [50]), 5, None).batch(range(4))
    expected = np.arange(21)
    assert rows[:, :-1].tolist() == expected[:20].reshape(4, 5).tolist()
    assert rows[:, 1:].tolist() == expected[1:].reshape(4, 5).tolist()


def test_too_few_tokens_and_foreign_tokens_are_said_so(tmp_path):
    with pytest.raises(ValueError, match="fewer than one sequence"):
        Sequences(stream(tmp_path, [8]), 8, 0)
    with pytest.raises(ValueError, match="token 7 in the shards"):
        Sequences(stream(tmp_path, [8], vocabulary=7), 7, 0).batch([0])
    with pytest.raises(ValueError, match="of a stream of 8"):
        stream(tmp_path, [8]).read(5, 4)


def test_published_shards_are_halved_between_validation_and_tuning(tmp_path):
    names = ["dataset_val_000000.bin", "dataset_train_000001.bin"]
    for place, name in enumerate(names):
        write_shard(tmp_path / name, np.arange(place * 100, place * 100 + 21, dtype=np.uint32), delimiter=151643)
    manifest = describe(tmp_path, "fineweb-qwen3", 151936, names, {"repository": "x"}, "ODC-By 1.0")
    read = {split: TokenStream(tmp_path, manifest, split) for split in ("train", "validation", "tuning")}
    assert read["validation"].read(0, 10).tolist() == list(range(10))
    assert read["tuning"].read(0, 11).tolist() == list(range(10, 21))
    assert read["train"].read(0, 21).tolist() == list(range(100, 121))
    assert manifest.delimiter == 151643
