"""Operations that see the order of the entries along one dimension, and sorting, which does not."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import torch

from symcheck.trace.builder import Builder, Sym
from symcheck.trace.lowering.operands import cast
from symcheck.trace.lowering.table import Arguments, lowers


def keeping(builder: Builder, fn: str, x: Sym, dim: int, *, linear: bool, dtype: torch.dtype) -> Sym:
    """A function along one dimension that keeps its size; the dimension becomes one axis."""
    dim = x.dim(dim)
    x = builder.merge(x, dim) if x.dims else x
    (axis,) = x.positions(dim)
    out = [None if number == axis else number for number in range(len(x.axes))]
    return builder.along(fn, [x], [[axis]], out, x.dims, linear=linear, dtype=dtype)


def picked(builder: Builder, x: Sym, dim: int, indices: Sequence[int]) -> Sym:
    """The entries at constant ``indices`` along one dimension, which stays."""
    dim = x.dim(dim)
    size = x.shape[dim]
    indices = [range(size)[index] for index in indices]
    if indices == list(range(size)):
        return x
    listed = x.positions(dim)
    new = () if len(indices) == 1 else (len(indices),)
    before = sum(map(len, x.dims[:dim]))
    out: list[int | None] = [axis for axis in range(len(x.axes)) if axis not in listed]
    out[before:before] = [None] * len(new)
    dims = (*x.dims[:dim], new, *x.dims[dim + 1 :])
    return builder.take("index", [x], [listed], out, new, indices, dims)


def sorted_values(builder: Builder, x: Sym, dim: int, descending: bool) -> Sym:
    """The entries along ``dim`` in order."""
    values = builder.symmetric("sort", x, [dim])
    return picked(builder, values, dim, range(x.shape[dim])[::-1]) if descending and x.dims else values


def sorted_order(builder: Builder, x: Sym, dim: int, descending: bool) -> Sym:
    """The positions of the entries along ``dim`` in order; equal entries in the order they have."""
    if not x.dims or not x.dims[dim]:
        return builder.zero(x.dims, torch.int64)
    return keeping(builder, "argsort", builder.neg(x) if descending else x, dim, linear=False, dtype=torch.int64)


@lowers("sort")
def _sort(builder: Builder, given: Arguments) -> tuple[Sym, Sym]:
    x, dim, descending = given["self"], given["dim"], given["descending"]
    return sorted_values(builder, x, dim, descending), sorted_order(builder, x, dim, descending)


@lowers("argsort")
def _argsort(builder: Builder, given: Arguments) -> Sym:
    return sorted_order(builder, given["self"], given["dim"], given["descending"])


@lowers("topk")
def _topk(builder: Builder, given: Arguments) -> tuple[Sym, Sym]:
    x, dim, largest = given["self"], given["dim"], given["largest"]
    if not x.dims:
        return x, builder.zero((), torch.int64)
    first = range(given["k"])
    values = sorted_values(builder, x, dim, largest)
    return picked(builder, values, dim, first), picked(builder, sorted_order(builder, x, dim, largest), dim, first)


@lowers("kthvalue")
def _kthvalue(builder: Builder, given: Arguments) -> tuple[Sym, Sym]:
    x, dim, at = given["self"], given["dim"], [given["k"] - 1]
    if not x.dims:
        return x, builder.zero((), torch.int64)
    results = (sorted_values(builder, x, dim, False), sorted_order(builder, x, dim, False))
    value, index = (picked(builder, result, dim, at) for result in results)
    return (value, index) if given["keepdim"] else (value.squeeze([dim]), index.squeeze([dim]))


def _cumulative(builder: Builder, given: Arguments, *, fn: str) -> Sym:
    x = cast(builder, given["self"], given.get("dtype"))
    dtype = x.dtype if x.dtype.is_floating_point else torch.int64
    if not x.dims or not x.dims[given["dim"]]:
        return replace(x, dtype=dtype)
    return keeping(builder, fn, x, given["dim"], linear=fn == "cumsum", dtype=dtype)


for _fn in ("cumsum", "cumprod"):
    lowers(_fn)(functools.partial(_cumulative, fn=_fn))
