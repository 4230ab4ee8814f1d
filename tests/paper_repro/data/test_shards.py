"""The shard format: what the authors' loader reads, and nothing else."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_repro.data.shards import Header, map_shard, read_header, token_dtype, write_shard


@given(st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=50), st.sampled_from([np.uint16, np.uint32]))
def test_tokens_come_back(tmp_path_factory, tokens, dtype):
    path = tmp_path_factory.mktemp("shard") / "train_000000.bin"
    write_shard(path, np.array(tokens, dtype=dtype))
    assert map_shard(path).tolist() == tokens
    assert map_shard(path).dtype == dtype
    assert read_header(path) == Header(len(tokens), np.dtype(dtype).itemsize, 0, 1, 0)


def test_a_shard_written_by_hand_as_the_source_describes_it_is_read(tmp_path):
    path = tmp_path / "dataset_val_000000.bin"
    words = [20260317, 2, 3, 4, 151643, 1, 0] + [0] * 249
    path.write_bytes(struct.pack("<256i", *words) + struct.pack("<3I", 151643, 7, 151935))
    assert read_header(path) == Header(3, 4, 151643, 1, 0)
    assert map_shard(path).tolist() == [151643, 7, 151935]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "header promises"),
        (lambda data: data + b"\0", "header promises"),
        (lambda data: b"\0" + data[1:], "magic 20260317"),
        (lambda data: data[:100], "magic 20260317"),
        (lambda data: data[:12] + struct.pack("<i", 3) + data[16:], "3 bytes per token"),
    ],
)
def test_damaged_shards_are_refused_in_one_line(tmp_path, change, message):
    path = tmp_path / "train_000000.bin"
    write_shard(path, np.arange(10, dtype=np.uint16))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as error:
        read_header(path)
    assert "\n" not in str(error.value)


def test_only_tokens_are_written(tmp_path):
    with pytest.raises(ValueError, match="uint16 or uint32"):
        write_shard(tmp_path / "train_000000.bin", np.arange(10))


def test_ids_above_16_bits_need_32():
    assert [token_dtype(size).itemsize for size in (2048, 65536, 65537, 262144)] == [2, 2, 4, 4]
