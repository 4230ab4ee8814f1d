"""Sequences of a prepared data set in an order that depends on nothing but the seed and the position.

The stream of a split is cut into sequences of ``length`` tokens, each read with the one token behind it. A training
step takes the next ``sequences_per_step`` of them, in the order of the stream (as the paper's loader does) or of a
permutation of each epoch. Which process reads which sequence does not change what a step sees, and resuming needs no
state but the step.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from paper_repro.data.manifest import Manifest
from paper_repro.data.shards import Tokens, map_shard


class TokenStream:
    """The tokens of one split, all shards in a row, read from memory maps."""

    def __init__(self, folder: Path, manifest: Manifest, split: str) -> None:
        entries = [each for each in manifest.shards if each.split == split and each.tokens]
        if not entries:
            raise ValueError(f"{folder}: no tokens in split {split!r}")
        self.vocabulary = manifest.vocabulary
        self._shards = [map_shard(folder / each.file)[each.start : each.start + each.tokens] for each in entries]
        self._ends = list(itertools.accumulate(len(each) for each in self._shards))

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, start: int, count: int) -> Tokens:
        """Tokens ``start`` to ``start + count``, across the ends of shards."""
        if not 0 <= start <= start + count <= len(self):
            raise ValueError(f"tokens {start} to {start + count} of a stream of {len(self)}")
        pieces = []
        shard = bisect.bisect_right(self._ends, start)
        offset = start - (self._ends[shard - 1] if shard else 0)
        while count:
            piece = self._shards[shard][offset : offset + count]
            pieces.append(piece)
            count -= len(piece)
            shard, offset = shard + 1, 0
        return np.concatenate(pieces) if pieces else np.empty(0, dtype=np.uint16)


class Sequences:
    """The sequences of a stream in training order; ``seed=None`` is the order of the stream, in every epoch."""

    def __init__(self, stream: TokenStream, length: int, seed: int | None) -> None:
        self.stream = stream
        self.length = length
        self.seed = seed
        self.count = (len(stream) - 1) // length
        if self.count < 1:
            raise ValueError(f"{len(stream)} tokens are fewer than one sequence of {length}")
        self._epoch: tuple[int, np.ndarray[tuple[int], np.dtype[np.int64]]] | None = None

    def batch(self, positions: Sequence[int]) -> torch.Tensor:
        """The sequences at these positions of the (endless) order: int64, ``(len(positions), length + 1)``."""
        rows = [self.stream.read(self._index(each) * self.length, self.length + 1) for each in positions]
        tokens = torch.from_numpy(np.stack(rows).astype(np.int64))
        if (largest := int(tokens.max())) >= self.stream.vocabulary:
            raise ValueError(f"token {largest} in the shards, but the manifest says {self.stream.vocabulary} tokens")
        return tokens

    def _index(self, position: int) -> int:
        epoch, place = divmod(position, self.count)
        if self.seed is None:
            return place
        if self._epoch is None or self._epoch[0] != epoch:
            # The legacy generator: numpy promises that its stream never changes.
            self._epoch = epoch, np.random.RandomState([self.seed, epoch]).permutation(self.count)
        return int(self._epoch[1][place])
