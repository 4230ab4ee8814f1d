"""Intervals against exact fractions and against mpmath: the true value is always inside."""

from fractions import Fraction

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symcheck.kernel.document import Decline
from symcheck.kernel.interval import BITS, FUNCTIONS, REDUCTIONS, Interval, add, mul, neg, outward

FRACTIONS = st.fractions(-20, 20, max_denominator=50) | st.builds(
    lambda n, k: n * Fraction(2) ** k, st.integers(-9, 9), st.integers(-700, 700)
)
WIDTHS = st.just(Fraction(0)) | st.fractions(0, 3, max_denominator=9)
PLACES = st.fractions(0, 1, max_denominator=7)


@st.composite
def inside(draw: st.DrawFn) -> tuple[Interval, Fraction]:
    """An interval and a number in it."""
    low, width = draw(FRACTIONS), draw(WIDTHS)
    return (low, low + width), low + width * draw(PLACES)


def contains(x: Interval, value: Fraction | int) -> bool:
    return x[0] <= value <= x[1]


@settings(max_examples=50)
@given(inside(), inside())
def test_arithmetic(one: tuple[Interval, Fraction], two: tuple[Interval, Fraction]) -> None:
    (x, a), (y, b) = one, two
    assert contains(add(x, y), a + b)
    assert contains(mul(x, y), a * b)
    assert contains(neg(x), -a)


EXACT = {
    ("neg", 1, 0): lambda a: -a,
    ("reciprocal", 1, 0): lambda a: 1 / a,
    ("sign", 1, 0): lambda a: (a > 0) - (a < 0),
    ("abs", 1, 0): abs,
    ("square", 1, 0): lambda a: a * a,
    ("relu", 1, 0): lambda a: max(a, 0),
    ("floor", 1, 0): lambda a: a // 1,
    ("ceil", 1, 0): lambda a: -(-a // 1),
    ("trunc", 1, 0): lambda a: a // 1 if a > 0 else -(-a // 1),
    ("round", 1, 0): lambda a: a // 1 + (a % 1 > Fraction(1, 2) or (a % 1 == Fraction(1, 2) and (a // 1) % 2)),
    ("is_zero", 1, 0): lambda a: a == 0,
    ("is_nonzero", 1, 0): lambda a: a != 0,
    ("not", 1, 0): lambda a: a == 0,
    ("maximum", 2, 0): max,
    ("minimum", 2, 0): min,
    ("eq", 2, 0): lambda a, b: a == b,
    ("ne", 2, 0): lambda a, b: a != b,
    ("lt", 2, 0): lambda a, b: a < b,
    ("le", 2, 0): lambda a, b: a <= b,
    ("gt", 2, 0): lambda a, b: a > b,
    ("ge", 2, 0): lambda a, b: a >= b,
    ("and", 2, 0): lambda a, b: bool(a) and bool(b),
    ("or", 2, 0): lambda a, b: bool(a) or bool(b),
    ("xor", 2, 0): lambda a, b: bool(a) != bool(b),
    ("clamp", 1, 2): lambda a, low, high: min(max(a, low), high),
    ("clamp_symmetric", 1, 1): lambda a, c: min(max(a, -c), c),
}
ROOTS = {("sqrt", 1, 0), ("rsqrt", 1, 0), ("hypot", 2, 0), ("power", 1, 1)}


def test_every_function_is_tested() -> None:
    assert EXACT.keys() | ROOTS == FUNCTIONS.keys()


@pytest.mark.parametrize("key", sorted(EXACT), ids=str)
def test_functions(key: tuple[str, int, int]) -> None:
    @settings(max_examples=30, deadline=None)
    @given(st.lists(inside(), min_size=key[1], max_size=key[1]), st.lists(FRACTIONS, min_size=key[2], max_size=key[2]))
    def holds(operands: list[tuple[Interval, Fraction]], parameters: list[Fraction]) -> None:
        try:
            result = FUNCTIONS[key](*(x for x, _ in operands), *parameters)
        except Decline:
            assert key[0] == "reciprocal"
            assert contains(operands[0][0], 0)
            return
        value = EXACT[key](*(a for _, a in operands), *parameters)
        assert contains(outward(result), value)
        if all(x[0] == x[1] for x, _ in operands):
            assert result == (value, value)

    holds()


def _inside(x: Interval, value: mpmath.mpf) -> bool:
    return bool(mpmath.mpf(x[0].numerator) / x[0].denominator <= value * (1 + mpmath.mpf(2) ** -900)) and bool(
        value * (1 - mpmath.mpf(2) ** -900) <= mpmath.mpf(x[1].numerator) / x[1].denominator
    )


@settings(max_examples=100, deadline=None)
@given(FRACTIONS, st.fractions(-8, 8, max_denominator=2))
def test_roots(a: Fraction, p: Fraction) -> None:
    with mpmath.workprec(1000):
        value = mpmath.mpf(a.numerator) / a.denominator
        point = (a, a)
        if a > 0:
            for key, args in ((("sqrt", 1, 0), ()), (("rsqrt", 1, 0), ()), (("power", 1, 1), (p,))):
                power = mpmath.mpf(p.numerator) / p.denominator if args else {"sqrt": 0.5, "rsqrt": -0.5}[key[0]]
                result = outward(FUNCTIONS[key](*[point], *args))
                assert _inside(result, value**power)
                # Narrow: a relative width of few units in the last place, more for a higher power.
                assert result[1] - result[0] <= result[1] * Fraction(2) ** (8 - BITS)
        result = FUNCTIONS["hypot", 2, 0](point, (Fraction(1), Fraction(1)))
        assert _inside(result, mpmath.sqrt(value**2 + 1))
        assert contains(FUNCTIONS["power", 1, 1](point, Fraction(3)), a**3)


def test_rational_roots_are_exact() -> None:
    nine = (Fraction(9, 4),) * 2
    assert FUNCTIONS["sqrt", 1, 0](nine) == (Fraction(3, 2),) * 2
    assert FUNCTIONS["power", 1, 1](nine, Fraction(-3, 2)) == (Fraction(8, 27),) * 2
    assert FUNCTIONS["clamp", 1, 2](nine, None, Fraction(2)) == (2, 2)


@settings(max_examples=50)
@given(st.integers(1, 2**900), st.integers(1, 2**900), st.booleans())
def test_rounding_is_outward_and_short(n: int, d: int, minus: bool) -> None:
    value = Fraction(-n if minus else n, d)
    low, high = outward((value, value))
    assert low <= value <= high
    assert high - low <= abs(value) * Fraction(2) ** (2 - BITS)
    if low != high:
        for end in (low, high):
            assert min(abs(end.numerator).bit_length(), end.denominator.bit_length()) <= BITS + 1


@settings(max_examples=30)
@given(st.lists(inside(), min_size=1, max_size=5))
def test_reductions(operands: list[tuple[Interval, Fraction]]) -> None:
    values = [a for _, a in operands]
    product = Fraction(1)
    for a in values:
        product *= a
    ordered = sorted(values)
    expected = {
        "max": [max(values)],
        "min": [min(values)],
        "prod": [product],
        "any": [any(values)],
        "all": [all(values)],
        "sort": ordered,
        "median": [ordered[(len(values) - 1) // 2]],
    }
    assert expected.keys() == REDUCTIONS.keys()
    for name, function in REDUCTIONS.items():
        result = function(*(x for x, _ in operands))
        assert len(result) == len(expected[name])
        assert all(map(contains, result, expected[name])), name


def test_declines() -> None:
    zero, minus = (Fraction(-1), Fraction(1)), (Fraction(-1, 10**90), Fraction(1))
    for key, operands in (
        (("reciprocal", 1, 0), [zero]),
        (("sqrt", 1, 0), [minus]),
        (("rsqrt", 1, 0), [(Fraction(0),) * 2]),
    ):
        with pytest.raises(Decline):
            FUNCTIONS[key](*operands)
    for power in (Fraction(1, 3), Fraction(65), Fraction(-65, 2) * 2, Fraction(-1)):
        with pytest.raises(Decline):
            FUNCTIONS["power", 1, 1](zero, power)
    huge = (Fraction(2) ** (1 << 16),) * 2
    with pytest.raises(Decline, match="too large"):
        mul(huge, huge)
