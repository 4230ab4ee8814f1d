"""Rational interval arithmetic: an interval holds the value of the exact real computation.

End points are fractions. They stay exact while they are short and are rounded outward to ``BITS`` bits afterwards: a
short rational computation has points as values, and no rounding is ever mistaken for a difference.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import reduce

from symcheck.kernel.document import Decline

Interval = tuple[Fraction, Fraction]
BITS = 256
MAX_POWER = 64
MAX_MAGNITUDE = 1 << 16  # of the exponent of 2
ZERO: Interval = (Fraction(0), Fraction(0))
ONE: Interval = (Fraction(1), Fraction(1))
_TWO = Fraction(2)


def _bound(value: Fraction, up: bool) -> Fraction:
    above, below = value.numerator.bit_length(), value.denominator.bit_length()
    if max(above, below) <= 2 * BITS:
        return value
    if abs(above - below) > MAX_MAGNITUDE:
        raise Decline("a value is too large or too small")
    unit = _TWO ** (above - below - BITS)
    return (math.ceil(value / unit) if up else math.floor(value / unit)) * unit


def outward(x: Interval) -> Interval:
    """An interval around ``x`` whose end points are short; ``x`` itself if they are."""
    return _bound(x[0], False), _bound(x[1], True)


def neg(x: Interval) -> Interval:
    """Negation."""
    return -x[1], -x[0]


def add(x: Interval, y: Interval) -> Interval:
    """Sum."""
    return outward((x[0] + y[0], x[1] + y[1]))


def mul(x: Interval, y: Interval) -> Interval:
    """Product."""
    ends = (x[0] * y[0],) if x[0] == x[1] and y[0] == y[1] else [a * b for a in x for b in y]
    return outward((min(ends), max(ends)))


def _reciprocal(x: Interval) -> Interval:
    if x[0] <= 0 <= x[1]:
        raise Decline("reciprocal of what may be zero")
    return 1 / x[1], 1 / x[0]


def _root(value: Fraction, up: bool) -> Fraction:
    n, d = value.numerator, value.denominator
    if math.isqrt(n) ** 2 == n and math.isqrt(d) ** 2 == d:
        return Fraction(math.isqrt(n), math.isqrt(d))
    places = max(0, BITS + (d.bit_length() - n.bit_length()) // 2)
    return Fraction(math.isqrt((n << 2 * places) // d) + up, 1 << places)


def _sqrt(x: Interval) -> Interval:
    if x[0] < 0:
        raise Decline("square root of what may be negative")
    return _root(x[0], False), _root(x[1], True)


def _abs(x: Interval) -> Interval:
    return x if x[0] >= 0 else neg(x) if x[1] <= 0 else (Fraction(0), max(-x[0], x[1]))


def _power(x: Interval, p: Fraction) -> Interval:
    if p.denominator > 2 or abs(p) > MAX_POWER:
        raise Decline(f"power {p}")
    if p.denominator == 2:
        x, p = _sqrt(x), 2 * p
    n = abs(p.numerator)
    x = x if n % 2 else _abs(x)
    return _reciprocal((x[0] ** n, x[1] ** n)) if p < 0 else (x[0] ** n, x[1] ** n)


def _monotone(f: Callable[..., Fraction | int]) -> Callable[..., Interval]:
    return lambda x, *args: (Fraction(f(x[0], *args)), Fraction(f(x[1], *args)))


def _clamp(t: Fraction, low: Fraction | None, high: Fraction | None) -> Fraction:
    t = t if low is None else max(t, low)
    return t if high is None else min(t, high)


def _not(x: Interval) -> Interval:
    return 1 - x[1], 1 - x[0]


def _differ(x: Interval, y: Interval = ZERO) -> Interval:
    return _sign(_abs(add(x, neg(y))))


def _above(x: Interval, y: Interval) -> Interval:
    return _positive(add(x, neg(y)))


def _least(*xs: Interval) -> Interval:
    return min(x[0] for x in xs), min(x[1] for x in xs)


def _most(*xs: Interval) -> Interval:
    return max(x[0] for x in xs), max(x[1] for x in xs)


def _sort(*xs: Interval) -> list[Interval]:
    return list(zip(sorted(x[0] for x in xs), sorted(x[1] for x in xs), strict=True))


_sign, _positive = _monotone(lambda t: (t > 0) - (t < 0)), _monotone(lambda t: t > 0)
_UNARY: dict[str, Callable[..., Interval]] = {
    "neg": neg, "reciprocal": _reciprocal, "sign": _sign, "abs": _abs, "square": lambda x: _power(x, _TWO),
    "sqrt": _sqrt, "rsqrt": lambda x: _reciprocal(_sqrt(x)), "relu": _monotone(lambda t: max(t, 0)),
    "floor": _monotone(math.floor), "ceil": _monotone(math.ceil), "trunc": _monotone(math.trunc),
    "round": _monotone(round), "is_nonzero": _differ, "is_zero": lambda x: _not(_differ(x)),
    "not": lambda x: _not(_differ(x)),
}  # fmt: skip
_BINARY: dict[str, Callable[..., Interval]] = {
    "maximum": _most, "minimum": _least, "ne": _differ, "eq": lambda x, y: _not(_differ(x, y)), "gt": _above,
    "lt": lambda x, y: _above(y, x), "le": lambda x, y: _not(_above(x, y)), "ge": lambda x, y: _not(_above(y, x)),
    "and": lambda x, y: _least(_differ(x), _differ(y)), "or": lambda x, y: _most(_differ(x), _differ(y)),
    "xor": lambda x, y: _differ(_differ(x), _differ(y)),
    "hypot": lambda x, y: _sqrt(add(_power(x, _TWO), _power(y, _TWO))),
}  # fmt: skip
_WITH_PARAMETERS: dict[tuple[str, int, int], Callable[..., Interval]] = {
    ("power", 1, 1): _power, ("clamp", 1, 2): _monotone(_clamp),
    ("clamp_symmetric", 1, 1): _monotone(lambda t, c: _clamp(t, -c, c)),
}  # fmt: skip
FUNCTIONS = _WITH_PARAMETERS | {(k, 1, 0): f for k, f in _UNARY.items()} | {(k, 2, 0): f for k, f in _BINARY.items()}
"""The elementwise functions by name, number of operands and number of parameters; ``round`` halves to even."""
REDUCTIONS: dict[str, Callable[..., list[Interval]]] = {
    "max": lambda *xs: [_most(*xs)], "min": lambda *xs: [_least(*xs)], "prod": lambda *xs: [reduce(mul, xs)],
    "any": lambda *xs: [_most(*map(_differ, xs))], "all": lambda *xs: [_least(*map(_differ, xs))],
    "sort": _sort, "median": lambda *xs: [_sort(*xs)[(len(xs) - 1) // 2]],
}  # fmt: skip
"""The functions of ``symmetric``; of two medians the lower one."""
