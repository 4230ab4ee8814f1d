"""What memory holds while a run is recorded: for every storage the lines of the program whose values lie there.

A tensor is only a window on a storage. Views therefore need no rules: a tensor is located in the memory that it shows,
and reading it emits what that takes; a write replaces the value of the storage, or of a part of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from symcheck.trace.builder import Builder, NotInVocabulary, Sym, dims_of
from symcheck.trace.geometry import Dims, Ints, Layout, Location, layout_of, locate, offsets

NEVER_WRITTEN = "memory that nothing was written to"
OUTSIDE = "a tensor kept from an earlier step outside the optimizer"


@dataclass(frozen=True)
class Region:
    """A part of a storage that holds the value of one line."""

    layout: Layout
    line: int
    dtype: torch.dtype


@dataclass
class Storage:
    """The memory behind tensors. ``handle`` keeps it alive, so that its address is not given to another one.

    ``step`` is the step to whose program the lines of ``regions`` belong. An ``external`` storage was made outside
    torch's dispatcher and is a constant until torch writes to it. The memory of an ``exposed`` one is known outside
    torch: all its values leak. ``foreign`` memory belongs to somebody else, who may write to it at any time.
    """

    handle: torch.UntypedStorage
    step: int
    regions: list[Region] = field(default_factory=list)
    missing: str = NEVER_WRITTEN
    external: bool = False
    exposed: bool = False
    foreign: bool = False

    @property
    def span(self) -> range:
        """The addresses of its bytes."""
        start = self.handle.data_ptr()
        return range(start, start + self.handle.nbytes())


def place_of(tensor: torch.Tensor) -> tuple[Ints, Ints, int]:
    """Sizes, strides and offset of a tensor in its storage."""
    return tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset())


def _flat(line: int, axes: tuple[int, ...], dtype: torch.dtype) -> Sym:
    return Sym(line, tuple((size,) for size in axes), dtype)


def undefined(builder: Builder, dims: Dims, dtype: torch.dtype, why: str) -> Sym:
    """A value that nobody may use: if it is live in the end, the run is unsupported for this reason."""
    return Sym(builder.emit("undefined", (), itertools.chain(*dims), {"why": why}), dims, dtype)


def conform(builder: Builder, value: Sym, dims: Dims) -> Sym:
    """``value``, of the right shape, with its dimensions made of the axes ``dims``."""
    for dim, sizes in enumerate(dims):
        if value.dims[dim] != sizes:
            value = builder.split(builder.merge(value, dim), dim, sizes)
    return value


def read(builder: Builder, storage: Storage, tensor: torch.Tensor) -> Sym:
    """The value that a tensor shows.

    Raises:
        NotInVocabulary: it shows memory in a way that programs cannot say.
    """
    sizes, strides, offset = place_of(tensor)
    if 0 in sizes:
        raise NotInVocabulary("a tensor without entries")
    for region in storage.regions:
        location = locate(region.layout, sizes, strides, offset)
        if location is not None:
            if region.dtype != tensor.dtype:
                raise NotInVocabulary(f"memory of {region.dtype} read as {tensor.dtype}")
            return _view(builder, region, location)
    return undefined(builder, dims_of(sizes), tensor.dtype, storage.missing)


def _view(builder: Builder, region: Region, location: Location) -> Sym:
    axes, line = region.layout.sizes, region.line
    if location.listed:
        kept = [axis for axis in range(len(axes)) if axis not in location.listed]
        axes = (*(axes[axis] for axis in kept), *location.new)
        line = _taken(builder, region, location, kept, axes)
    if location.letters != location.out:
        line = builder.contract(
            [_flat(line, axes, region.dtype)],
            [[(letter,) for letter in location.letters]],
            [[letter] for letter in location.out],
        ).line
    value = Sym(line, location.dims, region.dtype)
    return builder.expand_to(value, location.full) if location.is_expanded else value


def _taken(builder: Builder, region: Region, location: Location, kept: list[int], axes: tuple[int, ...]) -> int:
    source = builder.lines[region.line]
    dims = tuple((size,) for size in axes)
    if source.op == "zero":
        return builder.zero(dims, region.dtype).line
    if source.op == "expand" and set(location.listed) <= set(source.attributes["axes"]):
        constant = [position for position, axis in enumerate(kept) if axis in source.attributes["axes"]]
        constant += range(len(kept), len(axes))
        return builder.emit("expand", source.operands, axes, {"axes": constant}) if constant else source.operands[0]
    value = _flat(region.line, region.layout.sizes, region.dtype)
    out = [*kept, *[None] * len(location.new)]
    return builder.take("view", [value], [location.listed], out, location.new, location.take, dims).line


def write(builder: Builder, storage: Storage, tensor: torch.Tensor, value: Sym) -> None:
    """The tensor now shows ``value``, of its shape.

    Raises:
        NotInVocabulary: what the write does to the rest of the memory is not understood.
    """
    sizes, strides, offset = place_of(tensor)
    if 0 in sizes:
        return
    for number, region in enumerate(storage.regions):
        location = locate(region.layout, sizes, strides, offset)
        if location is None:
            continue
        if region.dtype != tensor.dtype:
            raise NotInVocabulary(f"memory of {region.dtype} written as {tensor.dtype}")
        if location.is_whole:
            storage.regions[number] = _region(value, strides, offset)
        else:
            line = _written(builder, region, location, value)
            storage.regions[number] = replace(region, line=line)
        return
    new = _region(value, strides, offset)
    places = set(new.layout.places.tolist())
    left = []
    for region in storage.regions:
        if value.dtype.itemsize != region.dtype.itemsize:
            raise NotInVocabulary(f"memory of {region.dtype} written as {value.dtype}")
        here = set(region.layout.places.tolist())
        if not here & places:
            left.append(region)
        elif not here <= places:
            raise NotInVocabulary("a write to a part of a tensor and of other memory")
    storage.regions = [*left, new]


def _region(value: Sym, strides: tuple[int, ...], offset: int) -> Region:
    layout = layout_of(value.dims, strides, offset)
    if not layout.is_injective:
        raise NotInVocabulary("a write to a tensor whose entries overlap in memory")
    return Region(layout, value.line, value.dtype)


def _written(builder: Builder, region: Region, location: Location, value: Sym) -> int:
    """The new value of a region after a write to a part of it."""
    value = conform(builder, value, location.dims) if location.dims == location.full else value
    old = _flat(region.line, region.layout.sizes, region.dtype)
    if location.is_diagonal and not location.listed and not location.is_expanded:
        return _on_diagonal(builder, old, location, value)
    if not location.is_part:
        raise NotInVocabulary("a write to a tensor whose entries overlap in memory")
    ordered = builder.contract(
        [_flat(value.line, value.axes, value.dtype)],
        [[(letter,) for letter in location.out]],
        [(letter,) for letter in location.letters],
    )
    count = len(old.axes)
    own = list(range(int(np.prod([old.axes[axis] for axis in location.listed]))))
    for position, entry in enumerate(location.take):
        own[entry] = len(own) + position
    new_axes = list(range(count - len(location.listed), len(ordered.axes)))
    out = [None if axis in location.listed else axis for axis in range(count)]
    listed_sizes = [old.axes[axis] for axis in location.listed]
    return builder.take("place", [old, ordered], [location.listed, new_axes], out, listed_sizes, own, old.dims).line


def _on_diagonal(builder: Builder, old: Sym, location: Location, value: Sym) -> int:
    """``old + delta * (value - its diagonal)``: the identity matrix says what a diagonal is to every group."""
    if len(location.letters) != 2:
        raise NotInVocabulary("a write to the diagonal of a stack of matrices")
    change = _added_to_diagonal(builder, old, value)
    if change is None:
        now = builder.contract([old], [[(0,), (0,)]], [(0,)])
        change = builder.sub(value, now)
    eye = builder.eye(old.axes[0], old.dtype)
    delta = builder.contract([eye, change], [[(0,), (1,)], [(0,)]], [(0,), (1,)])
    return builder.add(old, delta).line


def _added_to_diagonal(builder: Builder, old: Sym, value: Sym) -> Sym | None:
    """What was added, if ``value`` is a sum in which the diagonal of ``old`` itself is a term."""
    line = builder.lines[value.line]
    if line.op != "add":
        return None
    for position, operand in enumerate(line.operands):
        term = builder.lines[operand]
        if (
            line.attributes["signs"][position] == 1
            and term.op == "contract"
            and term.operands == (old.line,)
            and term.attributes == {"indices": [[0, 0]], "out": [0], "mean": False}
        ):
            rest = [number for number in range(len(line.operands)) if number != position]
            terms = [Sym(line.operands[number], value.dims, value.dtype) for number in rest]
            return builder.add(*terms, signs=[line.attributes["signs"][number] for number in rest])
    return None


def copy_bytes(storage: Storage, tensor: torch.Tensor, source: Storage, original: torch.Tensor) -> bool:
    """A copy of all bytes of a storage, as ``copy.deepcopy`` does it; False if this is something else."""
    spans = [
        (item.untyped_storage().nbytes(), item.numel() * item.element_size(), item.storage_offset(), item.stride())
        for item in (tensor, original)
    ]
    if tensor.dtype != torch.uint8 or original.dtype != torch.uint8 or spans[0] != spans[1]:
        return False
    if spans[0][:3] != (spans[0][1], spans[0][1], 0) or not tensor.is_contiguous():
        return False
    if any(region.dtype == torch.uint8 for region in source.regions):
        return False  # an ordinary copy of integers
    storage.regions = list(source.regions)
    return True


def values(tensor: torch.Tensor) -> Any:
    """The entries of a tensor as a float64 numpy array.

    Raises:
        NotInVocabulary: they are not real numbers that float64 can hold.
    """
    if tensor.is_complex() or tensor.is_quantized:
        raise NotInVocabulary(f"a constant of type {tensor.dtype}")
    array = tensor.detach().to(torch.float64).numpy()
    if tensor.dtype == torch.int64 and np.abs(array).max(initial=0.0) > 2.0**53:
        raise NotInVocabulary("an integer constant above 2^53")
    return array.copy()


def check_hazards(written: Collection[str], arguments: Mapping[str, Any]) -> None:
    """An operation must not meet its own writes: only entry by entry, in place, is the order of no matter.

    Raises:
        NotInVocabulary: it overwrites, in ``written`` of its ``arguments``, memory that it uses in another way too.
    """
    uses = list(_uses(arguments))
    homes = [tensor.untyped_storage()._cdata for _, _, tensor in uses]
    if len(set(homes)) == len(homes):
        return
    for target, home in zip(uses, homes, strict=True):
        if target[0] not in written:
            continue
        for other, place in zip(uses, homes, strict=True):
            if place != home or other is target:
                continue
            in_step = other[0] not in written and other[1] == target[1]
            if (in_step and place_of(other[2]) == place_of(target[2])) or not _overlap(target[2], other[2]):
                continue
            raise NotInVocabulary("an operation that overwrites memory that it also uses in another way")


def _uses(arguments: Mapping[str, Any]) -> Iterator[tuple[str, int | None, torch.Tensor]]:
    """Every tensor among the arguments, with the name of its argument and its place if that is a list."""
    for name, value in arguments.items():
        if isinstance(value, torch.Tensor):
            yield name, None, value
        elif isinstance(value, (list, tuple)):
            for position, item in enumerate(value):
                if isinstance(item, torch.Tensor):
                    yield name, position, item


def _overlap(first: torch.Tensor, second: torch.Tensor) -> bool:
    places = []
    for tensor in (first, second):
        sizes, strides, offset = place_of(tensor)
        places.append(set((offset + offsets(sizes, strides)).tolist()))
    return bool(places[0] & places[1])
