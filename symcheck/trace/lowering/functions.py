"""Elementwise functions of one and of two tensors."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from fractions import Fraction

import torch

from symcheck.trace.builder import Builder, NotInVocabulary, Scalar, Sym, exact
from symcheck.trace.lowering.operands import computed, float_dtype, reciprocal_number, result_dtype, value
from symcheck.trace.lowering.table import Arguments, lowers

_TO_FLOAT = (
    "reciprocal tanh atan asin sin erf sinh asinh cos cosh sqrt rsqrt exp expm1 log log1p log2 sigmoid silu digamma "
    "lgamma"
)
"""Functions of one operand that turn integers into floating-point numbers."""
_SAME_TYPE = "abs sign trunc ceil floor relu"
_OTHER_NAMES = {"arctan": "atan", "arcsin": "asin", "arcsinh": "asinh", "sgn": "sign", "fix": "trunc"}


def _unary(builder: Builder, given: Arguments, *, fn: str, to_float: bool) -> Sym:
    x = given["self"]
    return builder.map(fn, x, dtype=float_dtype(x) if to_float else computed(x.dtype))


for _fn in _TO_FLOAT.split():
    lowers(_fn)(functools.partial(_unary, fn=_fn, to_float=True))
for _fn in _SAME_TYPE.split():
    lowers(_fn)(functools.partial(_unary, fn=_fn, to_float=False))
for _name, _fn in _OTHER_NAMES.items():
    lowers(_name)(functools.partial(_unary, fn=_fn, to_float=_fn in _TO_FLOAT.split()))


def _binary(builder: Builder, given: Arguments, *, fn: str) -> Sym:
    x, y = given["self"], given["other"]
    if fn in ("maximum", "minimum") and not isinstance(y, Sym):
        return _bounded(builder, x, y, fn)
    dtype = float_dtype(x, y) if fn in ("hypot", "atan2") else result_dtype(x, y)
    return builder.map(fn, value(builder, x), value(builder, y), dtype=dtype)


def _bounded(builder: Builder, x: Sym, bound: Scalar, fn: str) -> Sym:
    """``x`` bounded by a number. Bounded by opposite numbers from both sides it is an odd function: a clamp to one of
    ``x / bound``, so that the bound, which may change from step to step, stays a number of the program."""
    dtype = result_dtype(x, bound)
    line = builder.lines[x.line]
    if line.op == "map" and line.attributes["fn"] == {"maximum": "minimum", "minimum": "maximum"}[fn]:
        inner, before = line.operands
        other = builder.lines[before]
        while other.op == "expand":
            other = builder.lines[other.operands[0]]
        height = exact(bound) if fn == "minimum" else -exact(bound)
        if other.op == "number" and other.attributes["value"] == str(-exact(bound)) and height > 0:
            share = builder.scale(replace(x, line=inner), 1 / height)
            return builder.scale(builder.map("clamp_symmetric", share, args=(1,)), height, dtype=dtype)
    return builder.map(fn, x, value(builder, bound), dtype=dtype)


for _fn in ("maximum", "minimum", "hypot", "atan2", "fmod", "remainder"):
    lowers(_fn)(functools.partial(_binary, fn=_fn))
for _name, _fn in {"fmax": "maximum", "fmin": "minimum", "arctan2": "atan2"}.items():
    lowers(_name)(functools.partial(_binary, fn=_fn))


@lowers("round")
def _round(builder: Builder, given: Arguments) -> Sym:
    if given.get("decimals", 0) != 0:
        raise NotInVocabulary("rounding to decimals")
    return builder.map("round", given["self"])


@lowers("frac")
def _frac(builder: Builder, given: Arguments) -> Sym:
    return builder.sub(given["self"], builder.map("trunc", given["self"]))


@lowers("exp2")
def _exp2(builder: Builder, given: Arguments) -> Sym:
    return builder.map("pow", builder.number(2), given["self"], dtype=float_dtype(given["self"]))


@lowers("erfc")
def _erfc(builder: Builder, given: Arguments) -> Sym:
    return builder.sub(builder.number(1), builder.map("erf", given["self"]), dtype=float_dtype(given["self"]))


@lowers("tan")
def _tan(builder: Builder, given: Arguments) -> Sym:
    x = given["self"]
    return builder.div(builder.map("sin", x), builder.map("cos", x), dtype=float_dtype(x))


@lowers("log_sigmoid_forward")
def _log_sigmoid(builder: Builder, given: Arguments) -> tuple[Sym, Sym]:
    x = given["self"]
    return builder.map("log", builder.map("sigmoid", x)), builder.zero(((0,),), x.dtype)


@lowers("clamp", "clip", "hardtanh", "clamp_min", "clamp_max")
def _clamp(builder: Builder, given: Arguments) -> Sym:
    low = given.get("min", given.get("min_val"))
    high = given.get("max", given.get("max_val"))
    return clamp(builder, given["self"], low, high)


def clamp(builder: Builder, x: Sym, low: Sym | Scalar | None, high: Sym | Scalar | None) -> Sym:
    """``x`` between bounds, which are numbers, tensors or None."""
    dtype = result_dtype(x, *(bound for bound in (low, high) if bound is not None))
    if isinstance(low, Sym) or isinstance(high, Sym):
        x = x if low is None else builder.map("maximum", x, value(builder, low), dtype=dtype)
        return x if high is None else builder.map("minimum", x, value(builder, high), dtype=dtype)
    low = None if low == -math.inf else low
    high = None if high == math.inf else high
    if low is None and high is None:
        return x
    low, high, x = _bounds(builder, low, high, x)
    if low is not None and high is not None and low == -high and high >= 0:
        return builder.map("clamp_symmetric", x, args=(high,), dtype=dtype)
    if low == 0 and high is None:
        return builder.map("relu", x, dtype=dtype)
    if low is not None and high is not None and low > high:
        raise NotInVocabulary("a lower bound above the upper one")
    return builder.map("clamp", x, args=(low, high), dtype=dtype)


def _bounds(
    builder: Builder, low: Scalar | None, high: Scalar | None, x: Sym
) -> tuple[Scalar | None, Scalar | None, Sym]:
    """A bound together with the opposite one that ``x`` was clamped to before: both at once may be symmetric."""
    line = builder.lines[x.line]
    if line.op != "map" or line.attributes["fn"] != "clamp" or (low is None) == (high is None):
        return low, high, x
    below, above = (None if bound is None else Fraction(bound) for bound in line.attributes["args"])
    if high is not None and above is None and below is not None and below <= exact(high):
        low = below
    elif low is not None and below is None and above is not None and exact(low) <= above:
        high = above
    else:
        return low, high, x
    return low, high, replace(x, line=line.operands[0])


@lowers("relu6")
def _relu6(builder: Builder, given: Arguments) -> Sym:
    return clamp(builder, given["self"], 0, 6)


@lowers("leaky_relu")
def _leaky_relu(builder: Builder, given: Arguments) -> Sym:
    return builder.map("leaky_relu", given["self"], args=(given["negative_slope"],))


@lowers("softshrink")
def _softshrink(builder: Builder, given: Arguments) -> Sym:
    return builder.map("softshrink", given["self"], args=(given["lambd"],))


@lowers("hardshrink")
def _hardshrink(builder: Builder, given: Arguments) -> Sym:
    return builder.map("hardshrink", given["self"], args=(given["lambd"],))


@lowers("elu")
def _elu(builder: Builder, given: Arguments) -> Sym:
    _only(given, alpha=1, scale=1, input_scale=1)
    return builder.map("elu", given["self"])


@lowers("softplus")
def _softplus(builder: Builder, given: Arguments) -> Sym:
    x, beta = given["self"], given["beta"]
    steep = builder.scale(x, beta)
    smooth = builder.scale(builder.map("softplus", steep), reciprocal_number(beta))
    # Torch goes over to the identity where the difference is small, and so does the program.
    above = builder.map("gt", steep, builder.number(given["threshold"]), dtype=torch.bool)
    return builder.select(above, x, smooth, dtype=x.dtype)


@lowers("gelu")
def _gelu(builder: Builder, given: Arguments) -> Sym:
    _only(given, approximate="none")
    return builder.map("gelu", given["self"])


@lowers("mish")
def _mish(builder: Builder, given: Arguments) -> Sym:
    x = given["self"]
    return builder.mul(x, builder.map("tanh", builder.map("softplus", x)))


@lowers("threshold")
def _threshold(builder: Builder, given: Arguments) -> Sym:
    x = given["self"]
    above = builder.map("gt", x, value(builder, given["threshold"]), dtype=torch.bool)
    return builder.select(above, x, value(builder, given["value"]), dtype=x.dtype)


@lowers("heaviside")
def _heaviside(builder: Builder, given: Arguments) -> Sym:
    x, at_zero = given["self"], given["values"]
    above = builder.map("gt", x, builder.number(0), dtype=torch.bool)
    return builder.select(builder.map("is_zero", x, dtype=torch.bool), at_zero, above, dtype=x.dtype)


@lowers("logaddexp")
def _logaddexp(builder: Builder, given: Arguments) -> Sym:
    x, y = given["self"], given["other"]
    return builder.map("log", builder.add(builder.map("exp", x), builder.map("exp", y)), dtype=result_dtype(x, y))


@lowers("nan_to_num", "_conj_physical", "conj_physical", "real", "resolve_conj", "resolve_neg")
def _identity(builder: Builder, given: Arguments) -> Sym:
    # Values are finite (docs/proof.md) and real.
    x: Sym = given["self"]
    if x.dtype.is_complex:
        raise NotInVocabulary("complex numbers")
    return x


def _only(given: Arguments, **supported: Scalar | str) -> None:
    for name, expected in supported.items():
        if given.get(name, expected) != expected:
            raise NotInVocabulary(f"the argument {name}={given[name]!r}")
