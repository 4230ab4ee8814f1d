"""How a strided view of memory is made of the axes of a value that lies there.

All positions are in elements. Nothing here knows torch: sizes and strides are tuples of integers.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = tuple[int, ...]
Dims = tuple[Ints, ...]


@dataclass(frozen=True)
class Layout:
    """Where the axes of a value lie in memory: their sizes (all above one), strides, and the place of entry 0."""

    sizes: Ints
    strides: Ints
    offset: int

    @property
    def is_injective(self) -> bool:
        """Whether every entry has a place of its own (sufficient condition: strides are nested)."""
        reach = 0
        for stride, size in sorted(zip(self.strides, self.sizes, strict=True)):
            if stride <= reach:
                return False
            reach += stride * (size - 1)
        return True

    @functools.cached_property
    def places(self) -> npt.NDArray[np.int64]:
        """The place of every entry, row-major, flat."""
        return self.offset + offsets(self.sizes, self.strides)


@dataclass(frozen=True)
class Location:
    """A view of a value: entries taken along the axes ``listed``, then axes renamed, then constant axes.

    Entry ``j`` of the ``new`` axes is entry ``take[j]`` of the listed ones, both row-major; the new axes follow those
    that are kept. ``letters`` names the axes then, a diagonal has one letter twice; ``out`` are the letters of the
    result. ``dims`` are the sizes of the axes of every dimension of the view, without those that are constant
    (stride 0), ``full`` with them.
    """

    listed: Ints
    take: Ints
    new: Ints
    letters: Ints
    out: Ints
    dims: Dims
    full: Dims

    @property
    def is_expanded(self) -> bool:
        """Whether the view repeats entries along a dimension."""
        return self.dims != self.full

    @property
    def is_diagonal(self) -> bool:
        """Whether the view is a diagonal of two axes."""
        return len(set(self.letters)) < len(self.letters)

    @property
    def is_whole(self) -> bool:
        """Whether the view has every entry of the value exactly once."""
        return not self.listed and not self.is_diagonal and not self.is_expanded

    @property
    def is_part(self) -> bool:
        """Whether the view has every entry of the value at most once, and is no diagonal."""
        return len(set(self.take)) == len(self.take) and not self.is_diagonal and not self.is_expanded


def layout_of(dims: Dims, strides: Ints, offset: int) -> Layout:
    """The layout of a value that a tensor with these ``strides`` shows, each dimension made of axes, row-major."""
    axis_sizes: list[int] = []
    axis_strides: list[int] = []
    for sizes, stride in zip(dims, strides, strict=True):
        for position, size in enumerate(sizes):
            axis_sizes.append(size)
            axis_strides.append(stride * math.prod(sizes[position + 1 :]))
    return Layout(tuple(axis_sizes), tuple(axis_strides), offset)


def offsets(sizes: Sequence[int], strides: Sequence[int]) -> npt.NDArray[np.int64]:
    """The distance from the first entry of every entry, row-major, flat."""
    total = np.zeros((), dtype=np.int64)
    for size, stride in zip(sizes, strides, strict=True):
        total = total[..., None] + np.arange(size, dtype=np.int64) * stride
    return total.reshape(-1)


@functools.lru_cache(maxsize=1 << 14)
def locate(layout: Layout, sizes: Ints, strides: Ints, offset: int) -> Location | None:
    """The view of these sizes, strides and offset in an injective ``layout``; None if it reaches beyond.

    Dimensions that are whole axes, or several merged ones, or a diagonal, are told by their strides; whatever else the
    view does is an explicit table of entries along the axes that are left.
    """
    runs = [_run(layout, size, stride) for size, stride in zip(sizes, strides, strict=True)]
    claims = [axis for run in runs if run is not None for axis in run]
    if len(set(claims)) < len(claims):
        runs = [run if not run or all(claims.count(axis) == 1 for axis in run) else None for run in runs]
    # A dimension that begins in the middle of an axis and runs over its end only looks like that axis.
    return _compose(layout, sizes, strides, offset - layout.offset, runs) or _compose(
        layout, sizes, strides, offset - layout.offset, [() if run == () else None for run in runs]
    )


def _run(layout: Layout, size: int, stride: int) -> Ints | None:
    """The axes that a dimension walks through completely: one, several merged, or the two of a diagonal."""
    if size == 1 or stride == 0:
        return ()
    axes: list[int] = []
    count = 1
    while count < size and stride * count in layout.strides:
        axes.insert(0, layout.strides.index(stride * count))
        count *= layout.sizes[axes[0]]
    if count == size:
        return tuple(axes)
    for pair in itertools.combinations(range(len(layout.sizes)), 2):
        if sum(layout.strides[axis] for axis in pair) == stride and all(layout.sizes[axis] == size for axis in pair):
            return pair
    return None


def _is_diagonal(layout: Layout, run: Ints, stride: int) -> bool:
    return len(run) == 2 and layout.strides[run[0]] + layout.strides[run[1]] == stride


def _compose(layout: Layout, sizes: Ints, strides: Ints, start: int, runs: Sequence[Ints | None]) -> Location | None:
    claimed = {axis for run in runs if run is not None for axis in run}
    listed = tuple(axis for axis in range(len(layout.sizes)) if axis not in claimed)
    irregular = [dim for dim, run in enumerate(runs) if run is None]
    new = tuple(sizes[dim] for dim in irregular)
    take: Ints = ()
    wanted = start + offsets(new, [strides[dim] for dim in irregular])
    if listed:
        found = _places_in(layout, listed, wanted)
        if found is None:
            return None
        take = found
    elif wanted.any():
        return None
    letter = {axis: number for number, axis in enumerate(sorted(claimed))}
    fresh = {dim: len(letter) + number for number, dim in enumerate(irregular)}
    out: list[int] = []
    dims: list[Ints] = []
    full: list[Ints] = []
    for dim, run in enumerate(runs):
        if run is None:
            out.append(fresh[dim])
            dims.append((sizes[dim],))
        elif _is_diagonal(layout, run, strides[dim]):
            letter[run[1]] = letter[run[0]]
            out.append(letter[run[0]])
            dims.append((sizes[dim],))
        else:
            out.extend(letter[axis] for axis in run)
            dims.append(tuple(layout.sizes[axis] for axis in run))
        full.append((sizes[dim],) if run == () and sizes[dim] > 1 else dims[-1])
    letters = (*(letter[axis] for axis in sorted(claimed)), *fresh.values())
    return Location(listed, take, new, letters, tuple(out), tuple(dims), tuple(full))


def _places_in(layout: Layout, listed: Ints, wanted: npt.NDArray[np.int64]) -> Ints | None:
    """Which entry along the ``listed`` axes lies at each of the ``wanted`` distances; None if one has none."""
    there = offsets([layout.sizes[axis] for axis in listed], [layout.strides[axis] for axis in listed])
    order = np.argsort(there)
    at = np.minimum(np.searchsorted(there, wanted, sorter=order), len(there) - 1)
    if (there[order[at]] != wanted).any():
        return None
    return tuple(order[at].tolist())
