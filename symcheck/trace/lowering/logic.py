"""Comparisons, logic, and choices between values by a mask."""

from __future__ import annotations

import functools
import math

import torch

from symcheck.trace.builder import Builder, NotInVocabulary, Sym
from symcheck.trace.lowering.operands import cast, result_dtype, truth, value
from symcheck.trace.lowering.table import Arguments, lowers

_COMPARISONS = {
    **{name: name for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    "not_equal": "ne",
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
}
_ZERO_TESTS = {"eq": "is_zero", "ne": "is_nonzero"}


_OUTCOMES = {"eq": (0, 0), "ne": (1, 1), "lt": (1, 0), "le": (1, 0), "gt": (0, 1), "ge": (0, 1)}
"""What a comparison with infinity gives, and one with minus infinity: values are finite."""
_REFLEXIVE = {"eq": 1, "le": 1, "ge": 1, "ne": 0, "lt": 0, "gt": 0}
"""What a comparison with itself gives: ``x != x`` asks for NaN."""


def _compare(builder: Builder, given: Arguments, *, fn: str) -> Sym:
    x, y = given["self"], given["other"]
    if isinstance(y, float) and math.isinf(y):
        return builder.full(x.dims, _OUTCOMES[fn][y < 0], torch.bool)
    if isinstance(y, Sym) and (x.line, x.dims) == (y.line, y.dims):
        return builder.full(x.dims, _REFLEXIVE[fn], torch.bool)
    if fn in _ZERO_TESTS and not isinstance(y, Sym) and y == 0:
        return builder.map(_ZERO_TESTS[fn], x, dtype=torch.bool)
    return builder.map(fn, value(builder, x), value(builder, y), dtype=torch.bool)


for _name, _fn in _COMPARISONS.items():
    lowers(_name)(functools.partial(_compare, fn=_fn))


def _logic(builder: Builder, given: Arguments, *, fn: str) -> Sym:
    operands = [value(builder, given[name]) for name in ("self", "other")]
    return builder.map(fn, *(truth(builder, operand) for operand in operands), dtype=torch.bool)


def _bitwise(builder: Builder, given: Arguments, *, fn: str) -> Sym:
    if result_dtype(given["self"], given["other"]) != torch.bool:
        raise NotInVocabulary("bits of integers")
    return _logic(builder, given, fn=fn)


for _fn in ("and", "or", "xor"):
    lowers(f"logical_{_fn}")(functools.partial(_logic, fn=_fn))
    lowers(f"bitwise_{_fn}", f"__{_fn}__")(functools.partial(_bitwise, fn=_fn))


@lowers("logical_not")
def _logical_not(builder: Builder, given: Arguments) -> Sym:
    return builder.map("not", truth(builder, given["self"]), dtype=torch.bool)


@lowers("bitwise_not")
def _bitwise_not(builder: Builder, given: Arguments) -> Sym:
    if given["self"].dtype != torch.bool:
        raise NotInVocabulary("bits of integers")
    return _logical_not(builder, given)


@lowers("isnan", "isinf", "isposinf", "isneginf")
def _never(builder: Builder, given: Arguments) -> Sym:
    # Values are finite: an assumption of every claim.
    return builder.zero(given["self"].dims, torch.bool)


@lowers("isfinite", "isreal")
def _always(builder: Builder, given: Arguments) -> Sym:
    return builder.full(given["self"].dims, 1, torch.bool)


@lowers("where")
def _where(builder: Builder, given: Arguments) -> Sym:
    if "self" not in given:
        raise NotInVocabulary("the positions of true entries")
    x, y = given["self"], given["other"]
    mask = truth(builder, given["condition"])
    return builder.select(mask, value(builder, x), value(builder, y), dtype=result_dtype(x, y))


@lowers("masked_fill")
def _masked_fill(builder: Builder, given: Arguments) -> Sym:
    x = given["self"]
    filling = cast(builder, value(builder, given["value"]), x.dtype)
    return builder.select(truth(builder, given["mask"]), filling, x, dtype=x.dtype)


@lowers("isclose")
def _isclose(builder: Builder, given: Arguments) -> Sym:
    x, y = given["self"], given["other"]
    bound = builder.add(builder.number(given["atol"]), builder.scale(builder.map("abs", y), given["rtol"]))
    return builder.map("le", builder.map("abs", builder.sub(x, y)), bound, dtype=torch.bool)


@lowers("allclose")
def _allclose(builder: Builder, given: Arguments) -> Sym:
    return _everywhere(builder, _isclose(builder, given))


@lowers("equal")
def _equal(builder: Builder, given: Arguments) -> Sym:
    x, y = given["self"], given["other"]
    if x.shape != y.shape:
        return builder.number(0, torch.bool)
    return _everywhere(builder, builder.map("eq", x, y, dtype=torch.bool))


@lowers("is_nonzero")
def _is_nonzero(builder: Builder, given: Arguments) -> Sym:
    return truth(builder, given["self"]).with_dims(())


def _everywhere(builder: Builder, mask: Sym) -> Sym:
    dims = range(len(mask.dims))
    return builder.symmetric("all", mask, dims).squeeze(dims)
