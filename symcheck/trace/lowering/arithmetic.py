"""Sums, products, quotients, powers, and the fused forms of them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import torch

from symcheck.trace.builder import Builder, NotInVocabulary, Scalar, Sym
from symcheck.trace.lowering.operands import (
    computed,
    float_dtype,
    plus,
    reciprocal_number,
    result_dtype,
    scaled,
    value,
)
from symcheck.trace.lowering.table import Arguments, lowers

_ROOTS = {Fraction(1, 2): "sqrt", Fraction(-1, 2): "rsqrt", Fraction(-1): "reciprocal"}


@lowers("add")
def _add(builder: Builder, given: Arguments) -> Sym:
    x, y = given["self"], given["other"]
    dtype = result_dtype(x, y)
    if dtype == torch.bool:
        return builder.map("or", value(builder, x), value(builder, y), dtype=dtype)
    return plus(builder, value(builder, x), value(builder, y), given.get("alpha", 1), dtype)


@lowers("sub", "subtract")
def _sub(builder: Builder, given: Arguments) -> Sym:
    x, y, alpha = given["self"], given["other"], given.get("alpha", 1)
    return _difference(builder, x, y, alpha)


@lowers("rsub")
def _rsub(builder: Builder, given: Arguments) -> Sym:
    return _difference(builder, given["other"], given["self"], given.get("alpha", 1))


def _difference(builder: Builder, x: Sym | Scalar, y: Sym | Scalar, alpha: Sym | Scalar) -> Sym:
    dtype = result_dtype(x, y)
    return builder.sub(value(builder, x), scaled(builder, value(builder, y), alpha), dtype=dtype)


@lowers("mul", "multiply")
def _mul(builder: Builder, given: Arguments) -> Sym:
    x, y = given["self"], given["other"]
    dtype = result_dtype(x, y)
    if isinstance(x, Sym) and not isinstance(y, Sym) and y == -1:
        return replace(builder.neg(x), dtype=dtype)
    return builder.mul(value(builder, x), value(builder, y), dtype=dtype)


@lowers("div", "divide", "true_divide")
def _div(builder: Builder, given: Arguments) -> Sym:
    x, y, mode = given["self"], given["other"], given.get("rounding_mode")
    result = quotient(builder, x, y)
    if mode is None:
        return result
    return builder.map(mode, result, dtype=result_dtype(x, y))


@lowers("floor_divide")
def _floor_divide(builder: Builder, given: Arguments) -> Sym:
    x, y = given["self"], given["other"]
    return builder.map("floor", quotient(builder, x, y), dtype=result_dtype(x, y))


def quotient(builder: Builder, x: Sym | Scalar, y: Sym | Scalar) -> Sym:
    """``x / y``; by a number it is a product with the exact reciprocal. By the number zero it is infinite: no value of
    a program, but torch's RAdam takes the reciprocal of one, which is zero."""
    dtype = float_dtype(x, y)
    if not isinstance(y, Sym) and y == 0:
        return builder.infinite(value(builder, x).dims, dtype, "a division by the number zero")
    if isinstance(y, Sym):
        return builder.div(value(builder, x), y, dtype=dtype)
    return builder.mul(value(builder, x), builder.number(reciprocal_number(y)), dtype=dtype)


@lowers("neg", "negative")
def _neg(builder: Builder, given: Arguments) -> Sym:
    computed(given["self"].dtype)
    return builder.neg(given["self"])


@lowers("square")
def _square(builder: Builder, given: Arguments) -> Sym:
    return builder.mul(given["self"], given["self"], dtype=computed(given["self"].dtype))


@lowers("pow", "float_power")
def _pow(builder: Builder, given: Arguments) -> Sym:
    x, exponent = given["self"], given["exponent"]
    dtype = result_dtype(x, exponent)
    if isinstance(x, Sym) and not isinstance(exponent, Sym):
        return power(builder, x, exponent, dtype)
    return builder.map("pow", value(builder, x), value(builder, exponent), dtype=dtype)


def power(builder: Builder, x: Sym, exponent: Scalar, dtype: torch.dtype | None = None) -> Sym:
    """``x`` to a constant power."""
    if isinstance(exponent, float) and exponent - exponent != 0:
        raise NotInVocabulary(f"the power {exponent}")
    dtype = dtype or x.dtype
    p = Fraction(exponent)
    if p == 0:
        return builder.full(x.dims, 1, dtype)
    if p == 1:
        return replace(x, dtype=dtype)
    if p == 2:
        return builder.mul(x, x, dtype=dtype)
    if p in _ROOTS:
        return builder.map(_ROOTS[p], x, dtype=dtype)
    return builder.map("power", x, args=(p,), dtype=dtype)


@lowers("addcmul")
def _addcmul(builder: Builder, given: Arguments) -> Sym:
    x, first, second, factor = given["self"], given["tensor1"], given["tensor2"], given["value"]
    dtype = result_dtype(x, first, second)
    return builder.add(x, product(builder, factor, first, second), dtype=dtype)


@lowers("addcdiv")
def _addcdiv(builder: Builder, given: Arguments) -> Sym:
    x, first, second, factor = given["self"], given["tensor1"], given["tensor2"], given["value"]
    dtype = result_dtype(x, first, second)
    return builder.add(x, product(builder, factor, first, builder.map("reciprocal", second)), dtype=dtype)


def product(builder: Builder, factor: Sym | Scalar, *operands: Sym) -> Sym:
    """``factor`` times all operands; the integer 1 is no factor."""
    if isinstance(factor, int) and factor == 1:
        return builder.mul(*operands)
    return builder.mul(value(builder, factor), *operands, dtype=operands[0].dtype)


@lowers("lerp")
def _lerp(builder: Builder, given: Arguments) -> Sym:
    # x + w (y - x) and not (1 - w) x + w y: both move by the same when x and y do, whatever the number w is.
    x, y, weight = given["self"], given["end"], given["weight"]
    dtype = result_dtype(x, y)
    return builder.add(x, builder.mul(builder.sub(y, x), value(builder, weight)), dtype=dtype)
