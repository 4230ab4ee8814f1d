"""The shard format of the paper's code: tokens of one split in a row, behind a header of 256 little-endian int32.

Header: magic 20260317, version 2, number of tokens, bytes per token (2 or 4), id of the document delimiter (-1: none),
delimiters before and after each document, then zeros. Source: timlautk/equivariant_optimizers
``data/hf_dataset_to_bin.py``; the authors' published shards load as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MAGIC = 20260317
VERSION = 2
HEADER_BYTES = 256 * 4
_DTYPES: Mapping[int, np.dtype[Any]] = {2: np.dtype("<u2"), 4: np.dtype("<u4")}

Tokens = npt.NDArray[Any]
"""One-dimensional array of uint16 or uint32."""


@dataclass(frozen=True)
class Header:
    """What a shard says of itself."""

    tokens: int
    bytes_per_token: int
    delimiter: int = -1
    before: int = 0
    after: int = 0

    def pack(self) -> bytes:
        """The 1024 bytes in front of the tokens."""
        words = np.zeros(256, dtype="<i4")
        words[:7] = MAGIC, VERSION, self.tokens, self.bytes_per_token, self.delimiter, self.before, self.after
        return words.tobytes()


def token_dtype(vocabulary: int) -> np.dtype[Any]:
    """uint16 where every id below ``vocabulary`` fits, else uint32."""
    return _DTYPES[2 if vocabulary <= 2**16 else 4]


def write_shard(path: Path, tokens: Tokens, *, delimiter: int = 0) -> None:
    """Writes one shard; ``tokens`` must be uint16 or uint32, fewer than 2**31, with one delimiter per document."""
    if tokens.dtype not in _DTYPES.values() or tokens.ndim != 1 or len(tokens) >= 2**31:
        raise ValueError(f"{path}: a shard holds a row of uint16 or uint32, got {tokens.dtype} of shape {tokens.shape}")
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(Header(len(tokens), tokens.dtype.itemsize, delimiter, before=1).pack())
        file.write(tokens.tobytes())
    partial.replace(path)


def read_header(path: Path) -> Header:
    """The header of a shard. Raises ValueError, one line, unless ``path`` is a complete shard of this format."""
    with path.open("rb") as file:
        words = np.frombuffer(file.read(HEADER_BYTES), dtype="<i4")
    if len(words) != 256 or words[0] != MAGIC or words[1] != VERSION:
        raise ValueError(f"{path}: not a token shard of magic {MAGIC}, version {VERSION}")
    header = Header(*(int(word) for word in words[2:7]))
    if header.bytes_per_token not in _DTYPES:
        raise ValueError(f"{path}: {header.bytes_per_token} bytes per token, expected 2 or 4")
    expected = HEADER_BYTES + header.tokens * header.bytes_per_token
    if (size := path.stat().st_size) != expected:
        raise ValueError(f"{path}: {size} bytes where the header promises {expected}; fetch or prepare it again")
    return header


def map_shard(path: Path) -> Tokens:
    """The tokens of a shard as a read-only memory map; errors as in `read_header`."""
    header = read_header(path)
    return np.memmap(path, _DTYPES[header.bytes_per_token], "r", offset=HEADER_BYTES, shape=(header.tokens,))
