"""Parity, degree, zero and sign of every elementwise function of the kernel's table, from its definition.

Functions with thresholds are looked at case by case (which operand is larger, what is positive); a case is a choice of
positive symbols, so that every comparison in it is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import sympy
from sympy import E, I, Integer, Rational, Symbol, log, pi, sqrt

from symcheck.kernel.axioms import BINARY, EVEN, FUNCTIONS, ODD, behaviour
from symcheck.prove.axioms.elements import Equation

P, Q, C = sympy.symbols("p q c", positive=True)
X = Symbol("x", real=True)
T = Symbol("t", real=True)


def _positive(x: Any) -> bool:
    x = sympy.factor(x)
    if x.is_positive is None:
        raise ValueError(f"the case does not decide whether {x} is positive")
    return bool(x.is_positive)


def _sign(x: Any) -> Any:
    return Integer(1) if _positive(x) else Integer(-1) if _positive(-x) else Integer(0)


def _step(x: Any) -> Any:
    return Integer(int(_positive(x)))


def _zero(x: Any) -> Any:
    return 1 - _step(x) - _step(-x)


def _clamp(x: Any, low: Any, high: Any) -> Any:
    return high if _positive(x - high) else low if _positive(low - x) else x


def _round_half_even(x: Any) -> Any:
    whole = sympy.floor(x)
    rest = sympy.expand(x - whole)
    half = Rational(1, 2)
    up = rest > half or (rest == half and whole.is_even is False)
    return whole + (1 if up else 0)


def _angle(y: Any, x: Any) -> Any:
    if _zero(x) == 1:
        return _sign(y) * pi / 2
    turn = _step(-x) * (pi if not _positive(-y) else -pi)
    return sympy.atan(sympy.cancel(y / x)) + turn


DEFINITIONS: Mapping[str, Callable[..., Any]] = MappingProxyType({
    "neg": lambda x: -x,
    "reciprocal": lambda x: 1 / x,
    "sign": _sign,
    "cube_root": lambda x: _sign(x) * (x * _sign(x)) ** Rational(1, 3),
    "tanh": lambda x: (E**x - E**-x) / (E**x + E**-x),
    "sin": lambda x: (E ** (I * x) - E ** (-I * x)) / (2 * I),
    "cos": lambda x: (E ** (I * x) + E ** (-I * x)) / 2,
    "sinh": lambda x: (E**x - E**-x) / 2,
    "cosh": lambda x: (E**x + E**-x) / 2,
    "round": _round_half_even,
    "trunc": lambda x: _sign(x) * sympy.floor(x * _sign(x)),
    "ceil": sympy.ceiling,
    "floor": sympy.floor,
    "clamp_symmetric": lambda x, c: _clamp(x, -c, c),
    "softshrink": lambda x, c: x - _clamp(x, -c, c),
    "hardshrink": lambda x, c: x * (_step(x - c) + _step(-x - c)),
    "abs": lambda x: x * _sign(x),
    "square": lambda x: x**2,
    "is_zero": _zero,
    "is_nonzero": lambda x: 1 - _zero(x),
    "eq": lambda x, y: _zero(x - y),
    "ne": lambda x, y: 1 - _zero(x - y),
    "hypot": lambda x, y: sqrt(x**2 + y**2),
    "sqrt": sqrt,
    "rsqrt": lambda x: 1 / sqrt(x),
    "relu": lambda x: x * _step(x),
    "leaky_relu": lambda x, c: x * (_step(x) + c * _step(-x)),
    "elu": lambda x, c: x * _step(x) + c * (E**x - 1) * _step(-x),
    "maximum": lambda x, y: x if _positive(x - y) else y,
    "minimum": lambda x, y: y if _positive(x - y) else x,
    "fmod": lambda x, y: x - y * DEFINITIONS["trunc"](x / y),
    "remainder": lambda x, y: x - y * sympy.floor(x / y),
    "lt": lambda x, y: _step(y - x),
    "gt": lambda x, y: _step(x - y),
    "le": lambda x, y: 1 - _step(x - y),
    "ge": lambda x, y: 1 - _step(y - x),
    "and": lambda x, y: (1 - _zero(x)) * (1 - _zero(y)),
    "or": lambda x, y: 1 - _zero(x) * _zero(y),
    "xor": lambda x, y: (_zero(x) - _zero(y)) ** 2,
    "not": _zero,
    "atan2": lambda y, x: _angle(y, x),
    "exp": lambda x: E**x,
    "expm1": lambda x: E**x - 1,
    "log": log,
    "log2": lambda x: log(x) / log(2),
    "log1p": lambda x: log(1 + x),
    "sigmoid": lambda x: 1 / (1 + E**-x),
    "softplus": lambda x: log(1 + E**x),
    "silu": lambda x: x / (1 + E**-x),
    "gelu": lambda x: x * (1 + sympy.erf(x / sqrt(2))) / 2,
    "clamp": _clamp,
    "pow": lambda x, y: x**y,
    "digamma": sympy.digamma,
    "lgamma": sympy.loggamma,
})  # fmt: skip
"""Definitions by arithmetic, exponentials, floors and comparisons; integrals of `DENSITIES` are the others."""
DENSITIES: Mapping[str, Any] = MappingProxyType({
    "atan": 1 / (1 + T**2),
    "asin": 1 / sqrt(1 - T**2),
    "asinh": 1 / sqrt(1 + T**2),
    "erf": 2 / sqrt(pi) * E ** (-(T**2)),
})  # fmt: skip
"""Functions defined as the integral from 0 to x of a density: odd if it is even, positive with it."""
THRESHOLDS = {"clamp_symmetric", "softshrink", "hardshrink"}
PARAMETERS = {**dict.fromkeys(THRESHOLDS, 1), "leaky_relu": 1, "elu": 1, "clamp": 2}


def cases(fn: str) -> Iterator[tuple[Any, ...]]:
    """Operands (and thresholds) that stand for all there are: signs, zero, and all orders."""
    if fn in ("round", "trunc", "ceil", "floor"):
        n = Symbol("n", integer=True, positive=True)
        for whole in (Integer(0), Integer(1), 2 * n, 2 * n + 1):
            for rest in (Integer(0), Rational(1, 3), Rational(1, 2), Rational(2, 3)):
                yield from ((whole + rest,), (-whole - rest,))
    elif fn in THRESHOLDS:
        for x, c in ((P, P + Q), (P + Q, P), (P, P), (Integer(0), P), (P, Integer(0)), (Integer(0), Integer(0))):
            yield from ((x, c), (-x, c))
    elif fn in ("fmod", "remainder"):
        n = Symbol("n", integer=True, positive=True)
        yield from ((sign * y * (n + Rational(1, 3)), y) for y in (P, -P) for sign in (1, -1))
    elif fn in BINARY:
        values = (P, P + Q, -P, -P - Q, Integer(0))
        yield from ((x, y) for x in values for y in values)
    elif fn == "clamp":
        yield from ((x, Integer(0), P) for x in (P + Q, P, P / 2, Integer(0), -Q))
    else:
        extra = (Q,) * PARAMETERS.get(fn, 0)
        yield from ((x, *extra) for x in (P, -P, Integer(0)))


def _defined(fn: str, operands: Sequence[Any]) -> bool:
    """Exact arithmetic is assumed to stay finite and real."""
    value = DEFINITIONS[fn](*operands)
    return not value.has(sympy.zoo, sympy.nan, sympy.oo, I) or fn in ("sin", "cos")


def _moved(fn: str, operands: Sequence[Any], factor: Any) -> list[Any]:
    """The operands times a factor; parameters stay."""
    moving = len(operands) - PARAMETERS.get(fn, 0)
    return [sympy.expand(x * factor) if k < moving else x for k, x in enumerate(operands)]


def parity_equations(fn: str) -> Iterator[Equation]:
    """``f(-x) = -f(x)`` or ``f(-x) = f(x)``, as the table says."""
    parity = FUNCTIONS[fn][0]
    if fn in DENSITIES:
        yield parity == ODD
        yield DENSITIES[fn] - DENSITIES[fn].subs(T, -T)
        return
    if parity not in (ODD, EVEN):
        return
    for operands in cases(fn):
        if _defined(fn, operands):
            one, two = DEFINITIONS[fn](*operands), DEFINITIONS[fn](*_moved(fn, operands, -1))
            yield two + one if parity == ODD else two - one


def degree_equations(fn: str) -> Iterator[Equation]:
    """``f(c x) = c^k f(x)`` for ``c > 0``, as the table says."""
    degree = FUNCTIONS[fn][1]
    if degree is None:
        return
    power = C ** Rational(degree.numerator, degree.denominator)
    for operands in cases(fn):
        if _defined(fn, operands) and all(sympy.sympify(x).is_nonnegative for x in operands if "sqrt" in fn):
            one = power * DEFINITIONS[fn](*operands)
            two = DEFINITIONS[fn](*_moved(fn, operands, C))
            yield sympy.powdenest(sympy.factor(two, deep=True), force=True) - sympy.factor(one, deep=True)


def zero_equations(fn: str) -> Iterator[Equation]:
    """``f(0) = 0`` where the table says so; integrals from 0 to 0 vanish."""
    if FUNCTIONS[fn][2] and fn not in DENSITIES:
        parameters = [Q] * PARAMETERS.get(fn, 0)
        yield DEFINITIONS[fn](*[Integer(0)] * (2 if fn in BINARY else 1), *parameters)


def sign_equations(fn: str) -> Iterator[Equation]:
    """``f >= 0``, always or for operands that are not negative, where the kernel's lists say so."""
    if fn in DENSITIES:
        yield bool(sympy.factor(DENSITIES[fn].subs(T, P / (P + 1)), deep=True).is_positive)
        return
    for operands in cases(fn):
        if not _defined(fn, operands) or (FUNCTIONS[fn].sign == "+" and any(x.is_negative for x in operands)):
            continue
        if FUNCTIONS[fn].sign != "?":
            value = DEFINITIONS[fn](*operands)
            yield _nonnegative(fn, value)


def _nonnegative(fn: str, value: Any) -> bool:
    known = sympy.factor(value).is_nonnegative
    if known is None:  # a quotient or logarithm of exponentials: monotone, look at the substitution u = exp(p) > 1
        u = Symbol("u", positive=True)
        value = sympy.factor(sympy.expand(value).subs(E**P, 1 + u).subs(E**-P, 1 / (1 + u)))
        known = value.is_nonnegative
    return bool(known)


def power_equations() -> Iterator[Equation]:
    """Parity of integer powers, and the degree of all."""
    for exponent in (-3, -2, -1, 1, 2, 3, 4):
        parity, degree, *_ = behaviour("power", [Fraction(exponent)])
        sign = -1 if parity == ODD else 1
        yield (-X) ** exponent - sign * X**exponent
        yield degree == exponent
    exponent = Symbol("k", real=True)
    yield sympy.expand_power_base((C * P) ** exponent) - C**exponent * P**exponent
