"""Sums, means, norms, extrema, and other functions of the entries along dimensions."""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import torch

from symcheck.trace.builder import Builder, NotInVocabulary, Scalar, Sym
from symcheck.trace.lowering.arithmetic import power
from symcheck.trace.lowering.operands import cast, finish, reduced_dims, result_dtype, truth
from symcheck.trace.lowering.order import picked, sorted_order
from symcheck.trace.lowering.table import Arguments, lowers


def _start(builder: Builder, given: Arguments) -> tuple[Sym, list[int], bool]:
    """The operand in the type asked for, the dimensions to reduce, and whether they stay."""
    x = cast(builder, given["self"], given.get("dtype"))
    return x, reduced_dims(x, given.get("dim")), bool(given.get("keepdim", False))


@lowers("sum", "nansum")
def _sum(builder: Builder, given: Arguments) -> Sym:
    x, dims, keepdim = _start(builder, given)
    dtype = x.dtype if x.dtype.is_floating_point else torch.int64
    return finish(builder.sum(x, dims, dtype=dtype), dims, keepdim)


@lowers("mean", "nanmean")
def _mean(builder: Builder, given: Arguments) -> Sym:
    x, dims, keepdim = _start(builder, given)
    return finish(builder.sum(x, dims, mean=True, dtype=x.dtype), dims, keepdim)


@lowers("count_nonzero")
def _count_nonzero(builder: Builder, given: Arguments) -> Sym:
    x, dims, _ = _start(builder, given)
    return builder.sum(truth(builder, x), dims, dtype=torch.int64).squeeze(dims)


def sum_of_products(builder: Builder, x: Sym, y: Sym, dims: list[int]) -> Sym:
    """The sum of ``x * y`` over ``dims``, which stay with size one; both of one shape, split alike."""
    letters = builder.letters(x)
    out = [() if number in dims else group for number, group in enumerate(letters)]
    return builder.contract([x, y], [letters, letters], out)


def norm(builder: Builder, x: Sym, order: Scalar, dims: list[int]) -> Sym:
    """The vector norm over ``dims``, which stay with size one."""
    if order == 2:
        return builder.map("sqrt", sum_of_products(builder, x, x, dims))
    if order == 0:
        return builder.sum(builder.map("is_nonzero", x), dims, dtype=x.dtype)
    size = builder.map("abs", x)
    if order in (math.inf, -math.inf):
        return builder.symmetric("max" if order > 0 else "min", size, dims)
    total = builder.sum(power(builder, size, order), dims)
    return power(builder, total, 1 / Fraction(order))


@lowers("linalg_vector_norm", "norm", "frobenius_norm")
def _norm(builder: Builder, given: Arguments) -> Sym:
    x, dims, keepdim = _start(builder, given)
    order = given.get("ord", given.get("p", 2))
    return finish(norm(builder, x, 2 if order is None else order, dims), dims, keepdim)


@lowers("dist")
def _dist(builder: Builder, given: Arguments) -> Sym:
    difference = builder.sub(given["self"], given["other"])
    dims = list(range(len(difference.dims)))
    return norm(builder, difference, given["p"], dims).squeeze(dims)


def _moments(builder: Builder, given: Arguments) -> tuple[Sym, Sym, list[int], bool]:
    """Variance and mean, with the reduced dimensions of size one."""
    x, dims, keepdim = _start(builder, given)
    correction = given.get("correction")
    if correction is None:
        correction = 1 if given.get("unbiased", True) else 0
    count = math.prod(x.shape[dim] for dim in dims)
    degrees = count - Fraction(correction)
    if degrees <= 0:
        raise NotInVocabulary(f"the variance of {count} numbers with correction {correction}")
    mean = builder.sum(x, dims, mean=True)
    centred = builder.sub(x, mean)
    variance = builder.scale(sum_of_products(builder, centred, centred, dims), 1 / degrees)
    return variance, mean, dims, keepdim


@lowers("var")
def _var(builder: Builder, given: Arguments) -> Sym:
    variance, _, dims, keepdim = _moments(builder, given)
    return finish(variance, dims, keepdim)


@lowers("std")
def _std(builder: Builder, given: Arguments) -> Sym:
    return builder.map("sqrt", _var(builder, given))


@lowers("var_mean")
def _var_mean(builder: Builder, given: Arguments) -> tuple[Sym, Sym]:
    variance, mean, dims, keepdim = _moments(builder, given)
    return finish(variance, dims, keepdim), finish(mean, dims, keepdim)


@lowers("std_mean")
def _std_mean(builder: Builder, given: Arguments) -> tuple[Sym, Sym]:
    variance, mean = _var_mean(builder, given)
    return builder.map("sqrt", variance), mean


def _extremum(builder: Builder, given: Arguments, *, fn: str) -> Sym | tuple[Sym, ...]:
    if "other" in given:
        x, y = given["self"], given["other"]
        return builder.map(f"{fn}imum", x, y, dtype=result_dtype(x, y))
    x, dims, keepdim = _start(builder, given)
    values = finish(builder.symmetric(fn, x, dims), dims, keepdim)
    return values if "dim" not in given else (values, _position(builder, given, descending=fn == "max"))


def _position(builder: Builder, given: Arguments, *, descending: bool) -> Sym:
    """Where the extremum is: it sees the order of the entries."""
    x, dims, keepdim = given["self"], reduced_dims(given["self"], given["dim"]), bool(given.get("keepdim", False))
    if given["dim"] is None:
        x, dims = builder.reshape(x, [x.numel]), [0]
        order = sorted_order(builder, x, 0, descending)
        return picked(builder, order, 0, [0]).squeeze([0])
    order = sorted_order(builder, x, given["dim"], descending)
    return finish(picked(builder, order, dims[0], [0]) if dims else order, dims, keepdim)


lowers("argmax")(functools.partial(_position, descending=True))
lowers("argmin")(functools.partial(_position, descending=False))
for _fn in ("max", "min"):
    lowers(_fn)(functools.partial(_extremum, fn=_fn))


@lowers("amax")
def _amax(builder: Builder, given: Arguments) -> Sym:
    return _symmetric(builder, given, fn="max")


@lowers("amin")
def _amin(builder: Builder, given: Arguments) -> Sym:
    return _symmetric(builder, given, fn="min")


@lowers("aminmax")
def _aminmax(builder: Builder, given: Arguments) -> tuple[Sym, Sym]:
    return _amin(builder, given), _amax(builder, given)


def _symmetric(builder: Builder, given: Arguments, *, fn: str) -> Sym:
    x, dims, keepdim = _start(builder, given)
    return finish(builder.symmetric(fn, x, dims), dims, keepdim)


lowers("logsumexp")(functools.partial(_symmetric, fn="logsumexp"))
lowers("prod")(functools.partial(_symmetric, fn="prod"))


def _quantifier(builder: Builder, given: Arguments, *, fn: str) -> Sym:
    return _symmetric(builder, {**given, "self": truth(builder, given["self"])}, fn=fn)


lowers("any")(functools.partial(_quantifier, fn="any"))
lowers("all")(functools.partial(_quantifier, fn="all"))


@lowers("median", "nanmedian")
def _median(builder: Builder, given: Arguments) -> Sym | tuple[Sym, ...]:
    values = _symmetric(builder, given, fn="median")
    if "dim" not in given:
        return values
    x, dims, keepdim = _start(builder, given)
    order = sorted_order(builder, x, given["dim"], False)
    if not dims:
        return values, order
    return values, finish(picked(builder, order, dims[0], [(x.shape[dims[0]] - 1) // 2]), dims, keepdim)


@lowers("_softmax")
def _softmax(builder: Builder, given: Arguments) -> Sym:
    return builder.map("exp", _log_softmax(builder, given))


@lowers("_log_softmax")
def _log_softmax(builder: Builder, given: Arguments) -> Sym:
    x = given["self"]
    return builder.sub(x, builder.symmetric("logsumexp", x, reduced_dims(x, given["dim"])))
