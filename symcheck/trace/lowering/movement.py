"""Copies that move entries: concatenations, repetitions, flips, triangles, and indexing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from symcheck.trace.builder import Builder, NotInVocabulary, Sym, refine
from symcheck.trace.lowering.operands import cast, constant, result_dtype
from symcheck.trace.lowering.order import picked
from symcheck.trace.lowering.table import Arguments, lowers


@lowers("clone", "contiguous", "alias", "detach", "lift_fresh", "lift_fresh_copy", "lift", "_to_copy", "to", "positive")
def _copy(builder: Builder, given: Arguments) -> Sym:
    return cast(builder, given["self"], given.get("dtype"))


@lowers("copy", "_copy_from")
def _copy_into(builder: Builder, given: Arguments) -> Sym:
    x, source = given["self"], given["src"]
    if source.shape != x.shape:
        source = builder.expand_to(source, x.dims)
    return cast(builder, source, x.dtype)  # a flat buffer takes on the axes of what it is given


@lowers("_unsafe_view", "reshape", "_reshape_copy", "view_copy", "_reshape_alias", "view")
def _reshape(builder: Builder, given: Arguments) -> Sym:
    x: Sym = given["self"]
    shape = list(given["size"] if "size" in given else given["shape"])
    if -1 in shape:
        shape[shape.index(-1)] = x.numel // -math.prod(shape)
    return builder.reshape(x, shape)


@lowers("expand_copy")
def _expand(builder: Builder, given: Arguments) -> Sym:
    x: Sym = given["self"]
    size = given["size"]
    new = len(size) - len(x.dims)
    aligned = ((),) * new + x.dims
    dims = tuple(own if own or wanted in (1, -1) else (int(wanted),) for own, wanted in zip(aligned, size, strict=True))
    return builder.expand_to(x, dims)


@lowers("permute_copy")
def _permute(builder: Builder, given: Arguments) -> Sym:
    return builder.permute(given["self"], given["dims"])


@lowers("transpose_copy")
def _transpose(builder: Builder, given: Arguments) -> Sym:
    return builder.transpose(given["self"], given["dim0"], given["dim1"])


@lowers("t_copy")
def _t(builder: Builder, given: Arguments) -> Sym:
    x: Sym = given["self"]
    return builder.transpose(x) if len(x.dims) == 2 else x


@lowers("repeat")
def _repeat(builder: Builder, given: Arguments) -> Sym:
    x, repeats = given["self"], [int(count) for count in given["repeats"]]
    if 0 in repeats:
        raise NotInVocabulary("tensors without entries")
    x = replace(x, dims=((),) * (len(repeats) - len(x.dims)) + x.dims)
    # A new axis in front of the axes of each repeated dimension.
    pairs = [((count,) if count > 1 else (), own) for count, own in zip(repeats, x.dims, strict=True)]
    apart = x.with_dims(itertools.chain.from_iterable(((), own) for _, own in pairs))
    return builder.expand_to(apart, tuple(itertools.chain(*pairs))).with_dims(new + own for new, own in pairs)


def joined(builder: Builder, operands: Sequence[Sym], dim: int) -> Sym:
    """Concatenation along dimension ``dim``, of which every operand has at least a size of one."""
    for number in range(len(operands[0].dims)):
        if number != dim:
            sizes = refine([x.dims[number] for x in operands])
            operands = [builder.split(x, number, sizes) for x in operands]
    total = sum(x.shape[dim] for x in operands)
    first = operands[0]
    listed = [x.positions(dim) for x in operands]
    before = sum(map(len, first.dims[:dim]))
    out: list[int | None] = [axis for axis in range(len(first.axes)) if axis not in listed[0]]
    out[before:before] = [None]
    dims = (*first.dims[:dim], (total,), *first.dims[dim + 1 :])
    return builder.take("cat", operands, listed, out, (total,), range(total), dims)


@lowers("cat", "concat")
def _cat(builder: Builder, given: Arguments) -> Sym:
    operands = [x for x in given["tensors"] if x.shape != (0,)]
    dtype = result_dtype(*given["tensors"])
    if len(operands) == 1:
        return cast(builder, operands[0], dtype)
    return replace(joined(builder, operands, operands[0].dim(given["dim"])), dtype=dtype)


@lowers("stack")
def _stack(builder: Builder, given: Arguments) -> Sym:
    operands: list[Sym] = given["tensors"]
    dim = given["dim"]
    dim %= len(operands[0].dims) + 1
    stacked = [x.unsqueeze(dim) for x in operands]
    if len(stacked) == 1:
        return stacked[0]
    return replace(joined(builder, stacked, dim), dtype=result_dtype(*operands))


@lowers("flip")
def _flip(builder: Builder, given: Arguments) -> Sym:
    x: Sym = given["self"]
    for dim in given["dims"]:
        if x.dims and x.dims[dim]:
            x = picked(builder, x, dim, range(x.shape[dim])[::-1])
    return x


@lowers("roll")
def _roll(builder: Builder, given: Arguments) -> Sym:
    x: Sym = given["self"]
    shifts, dims = given["shifts"], given["dims"]
    if not dims:
        flat = builder.reshape(x, [x.numel])
        return builder.reshape(_roll(builder, {"self": flat, "shifts": shifts, "dims": [0]}), x.shape)
    for shift, dim in zip(shifts, dims, strict=True):
        size = x.shape[dim]
        x = picked(builder, x, dim, [(index - shift) % size for index in range(size)])
    return x


def triangle(builder: Builder, x: Sym, diagonal: int, *, upper: bool) -> Sym:
    """``x`` with zeros below (``upper``) or above a diagonal of its last two dimensions."""
    rows, cols = x.shape[-2:]
    row, col = np.indices((rows, cols))
    keep = col - row >= diagonal if upper else col - row <= diagonal
    if keep.all():
        return x
    listed = [*x.positions(-2), *x.positions(-1)]
    indices = np.where(keep, np.arange(rows * cols).reshape(rows, cols), -1)
    out = [None if axis in listed else axis for axis in range(len(x.axes))]
    return builder.take("triangle", [x], [listed], out, (*x.dims[-2], *x.dims[-1]), indices.flat, x.dims)


@lowers("triu")
def _triu(builder: Builder, given: Arguments) -> Sym:
    return triangle(builder, given["self"], given["diagonal"], upper=True)


@lowers("tril")
def _tril(builder: Builder, given: Arguments) -> Sym:
    return triangle(builder, given["self"], given["diagonal"], upper=False)


@lowers("diag_embed")
def _diag_embed(builder: Builder, given: Arguments) -> Sym:
    x: Sym = given["self"]
    last = len(x.dims)
    if given["offset"] or {given["dim1"] % (last + 1), given["dim2"] % (last + 1)} != {last - 1, last}:
        raise NotInVocabulary("a diagonal elsewhere than in the middle of the last two dimensions")
    x = builder.merge(x, -1)
    letters = builder.letters(x)
    new = tuple(letter + len(x.axes) for letter in letters[-1])
    if not new:
        return x.unsqueeze(-1)
    eye = builder.eye(x.shape[-1])
    return builder.contract([x, eye], [letters, [letters[-1], new]], [*letters, new], dtype=x.dtype)


@lowers("constant_pad_nd")
def _pad(builder: Builder, given: Arguments) -> Sym:
    x: Sym = given["self"]
    pad = given["pad"]
    if given["value"] != 0 or min(pad) < 0:
        raise NotInVocabulary("padding by other than zeros")
    for number, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        dim = len(x.dims) - 1 - number
        size = before + x.shape[dim] + after
        if before or after:
            listed = x.positions(dim)
            out: list[int | None] = [axis for axis in range(len(x.axes)) if axis not in listed]
            out.insert(sum(map(len, x.dims[:dim])), None)
            indices = [-1] * before + list(range(x.shape[dim])) + [-1] * after
            dims = (*x.dims[:dim], (size,), *x.dims[dim + 1 :])
            x = builder.take("pad", [x], [listed], out, (size,), indices, dims)
    return x


# -- indexing ----------------------------------------------------------------------------------------------------------


def _may_raise(builder: Builder, index: Sym, size: int) -> None:
    """An index that is out of range raises; that of a sorted order is not, in as many entries as were sorted."""
    line = index.line
    while (found := builder.lines[line]).op in ("expand", "round") or "take" in found.attributes.get("args", {}):
        if len(found.operands) != 1:
            break
        (line,) = found.operands
    if found.op == "along" and found.attributes["fn"] == "argsort":
        ((axis,),) = found.attributes["axes"]
        if builder.sizes[found.operands[0]][axis] <= size:
            return
    if found.op != "zero":
        builder.leaks.append(index.line)


def gather(builder: Builder, x: Sym, dim: int, index: Sym) -> Sym:
    """``x[..., index, ...]`` along ``dim`` for an ``index`` that is computed; it agrees in the other dimensions."""
    x = builder.merge(x, dim)
    index = builder.merge(index, dim)
    _may_raise(builder, index, x.shape[dim])
    if not x.dims[dim]:  # the index is 0
        return builder.expand_to(x, (*x.dims[:dim], index.dims[dim], *x.dims[dim + 1 :]))
    if not index.dims[dim]:  # one entry: as many times as there are entries, and the first of them
        repeated = builder.expand_to(index, (*index.dims[:dim], x.dims[dim], *index.dims[dim + 1 :]))
        return picked(builder, gather(builder, x, dim, repeated), dim, [0])
    if any(a != b for number, (a, b) in enumerate(zip(x.dims, index.dims, strict=True)) if number != dim):
        raise NotInVocabulary("an index whose other dimensions are not those of the tensor")
    axes = [x.positions(dim), index.positions(dim)]
    out = [None if axis in axes[0] else axis for axis in range(len(x.axes))]
    return builder.along("gather", [x, index], axes, out, index.dims, linear=False, dtype=x.dtype)


@lowers("index_select")
def _index_select(builder: Builder, given: Arguments) -> Sym:
    x: Sym = given["self"]
    index = given["index"]
    known = constant(builder, index)
    if not x.dims:
        _may_raise(builder, index, 1)
        return x
    dim = x.dim(given["dim"])
    if known is not None:
        return picked(builder, x, dim, known.reshape(-1).tolist())
    if len(index.dims) == 0:
        index = index.unsqueeze(0)
    index = replace(index, dims=(*index.dims, *[()] * (len(x.dims) - 1 - dim)))
    return gather(builder, x, dim, builder.expand_to(index, (*x.dims[:dim], index.dims[0], *x.dims[dim + 1 :])))


@lowers("gather")
def _gather(builder: Builder, given: Arguments) -> Sym:
    x: Sym = given["self"]
    index = given["index"]
    if not x.dims:
        _may_raise(builder, index, 1)
        return x
    return gather(builder, x, x.dim(given["dim"]), index)


def _positions(builder: Builder, x: Sym, indices: Sequence[Sym | None]) -> tuple[int, int, np.ndarray] | None:
    """Constant integer indices of adjacent dimensions: the first, one after the last, row-major positions in them."""
    given = [(dim, index) for dim, index in enumerate(indices) if index is not None]
    first, last = given[0][0], given[-1][0] + 1
    arrays = [constant(builder, index) for _, index in given]
    if last - first != len(given) or any(index.dtype == torch.bool for _, index in given):
        return None
    known = [array for array in arrays if array is not None]
    if len(known) < len(arrays):
        return None
    shape = x.shape[first:last]
    return first, last, np.arange(math.prod(shape)).reshape(shape)[tuple(known)]


@lowers("index")
def _index(builder: Builder, given: Arguments) -> Sym:
    x: Sym = given["self"]
    indices = given["indices"]
    chosen = [(dim, index) for dim, index in enumerate(indices) if index is not None]
    if any(index.dtype == torch.bool for _, index in chosen):
        raise NotInVocabulary("a result whose shape depends on a mask")
    at = _positions(builder, x, indices)
    if at is not None:
        first, last, positions = at
        listed = [axis for dim in range(first, last) for axis in x.positions(dim)]
        before = sum(map(len, x.dims[:first]))
        new = tuple(() if size == 1 else (size,) for size in positions.shape)
        sizes = tuple(itertools.chain(*new))
        out: list[int | None] = [axis for axis in range(len(x.axes)) if axis not in listed]
        out[before:before] = [None] * len(sizes)
        return builder.take("index", [x], [listed], out, sizes, positions.flat, (*x.dims[:first], *new, *x.dims[last:]))
    if len(chosen) != 1 or len(chosen[0][1].dims) != 1:
        raise NotInVocabulary("several computed indices")
    return _index_select(builder, {"self": x, "dim": chosen[0][0], "index": chosen[0][1]})


@lowers("index_put", "_index_put_impl")
def _index_put(builder: Builder, given: Arguments) -> Sym:
    x, indices, values = given["self"], given["indices"], given["values"]
    if given.get("accumulate"):
        raise NotInVocabulary("accumulation at indices")
    values = cast(builder, values, x.dtype)
    chosen = [index for index in indices if index is not None]
    if len(chosen) == 1 and indices[0] is not None and chosen[0].dtype == torch.bool and values.numel == 1:
        mask = chosen[0]
        mask = replace(mask, dims=(*mask.dims, *[()] * (len(x.dims) - len(mask.dims))))
        return builder.select(mask, values.with_dims(()), x, dtype=x.dtype)
    at = _positions(builder, x, indices)
    if at is None:
        raise NotInVocabulary("values written at computed places")
    first, last, positions = at
    wanted = (*x.dims[:first], *((size,) if size > 1 else () for size in positions.shape), *x.dims[last:])
    return _overwritten(builder, x, first, last, positions, builder.expand_to(values, wanted))


@lowers("index_copy")
def _index_copy(builder: Builder, given: Arguments) -> Sym:
    x: Sym = given["self"]
    source = given["source"]
    dim = x.dim(given["dim"])
    at = _positions(builder, x, [*[None] * dim, given["index"]]) if x.dims else None
    if at is None:
        raise NotInVocabulary("values written at computed places")
    return _overwritten(builder, x, dim, dim + 1, at[2].reshape(-1), cast(builder, source, x.dtype))


def _overwritten(builder: Builder, x: Sym, first: int, last: int, positions: np.ndarray, values: Sym) -> Sym:
    """``x`` with ``values`` at row-major ``positions`` of its dimensions from ``first`` to ``last``."""
    listed = [axis for dim in range(first, last) for axis in x.positions(dim)]
    after = first + positions.ndim
    source = [axis for dim in range(first, after) for axis in values.positions(dim)]
    sizes = tuple(itertools.chain(*x.dims[first:last]))
    indices = np.arange(math.prod(sizes))
    indices[positions.reshape(-1)] = len(indices) + np.arange(positions.size)
    out = [None if axis in listed else axis for axis in range(len(x.axes))]
    if (
        len(x.axes) - len(listed) != len(values.axes) - len(source)
        or x.dims[:first] + x.dims[last:] != values.dims[:first] + values.dims[after:]
    ):
        raise NotInVocabulary("values whose other dimensions are not those of the tensor")
    return builder.take("overwrite", [x, values], [listed, source], out, sizes, indices, x.dims)
