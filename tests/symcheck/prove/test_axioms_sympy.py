"""Every axiom of the kernel: derived with sympy on generic matrices, and tested over exact rationals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from symcheck.kernel.axioms import (
    AXIOMS,
    BINARY,
    EVEN,
    FUNCTIONS,
    ODD,
    SYMMETRIC,
    behaviour,
)
from symcheck.prove.axioms import DERIVATIONS, holds
from symcheck.prove.axioms.elements import column, matrix, orthogonal, stab1
from symcheck.prove.axioms.functions import DEFINITIONS, DENSITIES

Array = npt.NDArray[Any]
NAMES = [name for name, _, _ in AXIOMS]

# -- derivations ------------------------------------------------------------------------------------------------------


def test_every_axiom_has_a_derivation_and_every_derivation_an_axiom() -> None:
    assert set(DERIVATIONS) == set(NAMES)
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize("name", NAMES)
def test_derivation_holds(name: str) -> None:
    equations = list(DERIVATIONS[name]())
    assert equations
    for number, equation in enumerate(equations):
        assert holds(equation), f"{name}, equation {number}: {equation}"


def test_every_elementwise_function_has_a_definition() -> None:
    assert set(DEFINITIONS) | set(DENSITIES) == set(FUNCTIONS)


X, Y = column("x", 2), column("y", 2)
FALSE = {
    "a rotation keeps sums": lambda: sum(orthogonal()[0] * X) - sum(X),
    "a rotation keeps entrywise products": lambda: (
        (orthogonal()[0] * X).multiply_elementwise(orthogonal()[0] * Y) - orthogonal()[0] * X.multiply_elementwise(Y)
    ),
    "any matrix keeps inner products": lambda: (matrix("a", 2) * X).dot(matrix("a", 2) * Y) - X.dot(Y),
    "Stab1 keeps entrywise squares": lambda: (
        (stab1()[0] * column("x", 3)).applyfunc(lambda z: z**2) - stab1()[0] * column("x", 3).applyfunc(lambda z: z**2)
    ),
    "gradients move like weights": lambda: (
        (matrix("a", 2) * matrix("g", 2)).T * matrix("a", 2) * matrix("w", 2) - matrix("g", 2).T * matrix("w", 2)
    ),
    "what differs within an eigenspace commutes": lambda: (
        orthogonal()[0] * sympy.diag(1, 2) - sympy.diag(1, 2) * orthogonal()[0]
    ),
    "a shift of the columns is forgotten": lambda: matrix("x", 2) + Y * sympy.ones(1, 2) - matrix("x", 2),
    "a false truth value": lambda: sympy.false,
}


@pytest.mark.parametrize("name", FALSE)
def test_false_equations_do_not_hold(name: str) -> None:
    assert not holds(FALSE[name]())


# -- exact rationals --------------------------------------------------------------------------------------------------

numbers = st.fractions(-3, 3, max_denominator=8)
positive = st.fractions(Fraction(1, 8), 4, max_denominator=8)
nonzero = numbers.filter(bool)


@st.composite
def arrays(draw: Any, *shape: int, of: Any = numbers) -> Array:
    result = np.empty(shape, dtype=object)
    for place in np.ndindex(*shape):
        result[place] = draw(of)
    return result


def one(size: int) -> Array:
    return np.array([[Fraction(int(i == j)) for j in range(size)] for i in range(size)], dtype=object)


def inv(a: Array) -> Array:
    """Gauss-Jordan over the rationals."""
    size = len(a)
    rows = np.concatenate([a, one(size)], axis=1)
    for k in range(size):
        pivot = next(i for i in range(k, size) if rows[i, k])
        rows[[k, pivot]] = rows[[pivot, k]]
        rows[k] = rows[k] / rows[k, k]
        for i in range(size):
            if i != k:
                rows[i] = rows[i] - rows[i, k] * rows[k]
    return rows[:, size:]


def det(a: Array) -> Fraction:
    total = Fraction(0)
    for order in itertools.permutations(range(len(a))):
        swaps = sum(order[i] > order[j] for i in range(len(a)) for j in range(i + 1, len(a)))
        total += (-1) ** swaps * math.prod(a[i, j] for i, j in enumerate(order))
    return total


def reflect(v: Array) -> Array:
    """The reflection along ``v``: orthogonal, and rational when ``v`` is."""
    return one(len(v)) - 2 * np.outer(v, v) / v.dot(v)


def nonzero_vector(size: int) -> Any:
    return arrays(size).filter(lambda v: any(v))


@st.composite
def rotations(draw: Any, size: int = 3) -> Array:
    result = one(size)
    for _ in range(draw(st.integers(0, 3))):
        result = reflect(draw(nonzero_vector(size))) @ result
    return result


@st.composite
def fixing_ones(draw: Any, size: int = 3) -> Array:
    result = one(size)
    for _ in range(draw(st.integers(0, 2))):
        v = draw(nonzero_vector(size))
        v = v - sum(v) / size
        if any(v):
            result = reflect(v) @ result
    return result


@st.composite
def permutations(draw: Any, size: int = 3) -> Array:
    return one(size)[draw(st.permutations(range(size)))]


@st.composite
def signs(draw: Any, size: int = 3) -> Array:
    return np.diag(draw(arrays(size, of=st.sampled_from([Fraction(1), Fraction(-1)])))) * one(size)


def invertible(size: int = 2) -> Any:
    return arrays(size, size).filter(lambda a: det(a) != 0)


def diagonal(values: Array) -> Array:
    return np.diag(values) * one(len(values))


def equal(a: Any, b: Any) -> bool:
    return bool(np.all(np.asarray(a, dtype=object) == np.asarray(b, dtype=object)))


Property = Callable[[st.DataObject], None]
PROPERTIES: dict[str, Property] = {}


def of(name: str) -> Callable[[Property], Property]:
    def register(function: Property) -> Property:
        PROPERTIES[name] = function
        return function

    return register


@of("input")
def dual(data: st.DataObject) -> None:
    a, b, g, v = data.draw(invertible()), data.draw(invertible()), data.draw(arrays(2, 2)), data.draw(arrays(2, 2))
    assert equal(np.sum((inv(a).T @ g @ inv(b)) * (a @ v @ b.T)), np.sum(g * v))


@of("constant")
def constants(data: st.DataObject) -> None:
    a = data.draw(invertible())
    assert equal(a @ one(2) @ inv(a).T.T, one(2))
    assert not (a @ (0 * one(2))).any()


@of("random")
def densities(data: st.DataObject) -> None:
    z = data.draw(arrays(3))
    p = data.draw(rotations())
    assert (p @ z).dot(p @ z) == z.dot(z)
    assert det(p) ** 2 == 1
    moved = data.draw(permutations()) @ data.draw(signs()) @ z
    assert sorted(abs(x) for x in moved) == sorted(abs(x) for x in z)


@of("expand")
def expansions(data: st.DataObject) -> None:
    a, x = data.draw(arrays(3, 3)), data.draw(arrays(3))
    p = data.draw(st.one_of(permutations(), fixing_ones()))
    repeated = np.outer(x, [1, 1, 1])
    assert equal(np.outer(a @ x, [1, 1, 1]), a @ repeated @ p.T)


@of("contract-monomial")
def monomials(data: st.DataObject) -> None:
    x, y, p, s = data.draw(arrays(3)), data.draw(arrays(3)), data.draw(permutations()), data.draw(signs())
    d = diagonal(data.draw(arrays(3, of=positive)))
    assert (p @ s @ d @ x).dot(p @ s @ inv(d) @ y) == x.dot(y)
    assert equal((p @ s @ d @ x) * (p @ s @ inv(d) @ y), p @ (x * y))
    assert sum(p @ x) == sum(x)


@of("contract-orth")
def rotated_products(data: st.DataObject) -> None:
    x, y, p, m = data.draw(arrays(3)), data.draw(arrays(3)), data.draw(rotations()), data.draw(arrays(3, 3))
    assert (p @ x).dot(p @ y) == x.dot(y)
    assert np.trace(p @ m @ p.T) == np.trace(m)


@of("contract-stab1")
def sums(data: st.DataObject) -> None:
    x, p = data.draw(arrays(3)), data.draw(fixing_ones())
    assert equal(p.T @ p, one(3))
    assert sum(p @ x) == sum(x)


@st.composite
def eigenspaces(draw: Any) -> tuple[Array, Array]:
    """A rotation within eigenspaces of dimensions 2 and 1, and values that are constant on them."""
    theta = one(3)
    theta[:2, :2] = draw(rotations(2))
    theta[2, 2] = draw(st.sampled_from([Fraction(1), Fraction(-1)]))
    a, b = draw(numbers), draw(numbers)
    return theta, diagonal(np.array([a, a, b], dtype=object))


@of("contract-eigen")
def eigen(data: st.DataObject) -> None:
    theta, d = data.draw(eigenspaces())
    v, w = data.draw(arrays(3, 3)), data.draw(arrays(3, 3))
    assert equal((v @ theta) @ d @ (w @ theta).T, v @ d @ w.T)
    d[2, 2] = Fraction(0)
    left, right = v @ theta, w @ theta
    left[:, 2], right[:, 2] = data.draw(arrays(3)), data.draw(arrays(3))
    assert equal(left @ d @ right.T, v @ d @ w.T)


@of("contract-delta")
def deltas(data: st.DataObject) -> None:
    m = data.draw(arrays(3, 2))
    assert equal(np.einsum("ij,jk->ik", one(3), m), m)


@of("contract-fibre")
def fibres(data: st.DataObject) -> None:
    x, y, p = data.draw(arrays(3, 2)), data.draw(arrays(3, 2)), data.draw(permutations())
    rotated = [data.draw(rotations(2)) for _ in range(3)]
    xs = p @ np.stack([r @ row for r, row in zip(rotated, x, strict=True)])
    ys = p @ np.stack([r @ row for r, row in zip(rotated, y, strict=True)])
    assert equal(np.einsum("hk,hk->h", xs, ys), p @ np.einsum("hk,hk->h", x, y))
    assert np.sum(xs * ys) == np.sum(x * y)


@of("add")
def linear(data: st.DataObject) -> None:
    a, b, x, y = (data.draw(arrays(2, 2)) for _ in range(4))
    s, t = data.draw(numbers), data.draw(numbers)
    assert equal(s * (a @ x @ b.T) + t * (a @ y @ b.T), a @ (s * x + t * y) @ b.T)


def _sign(x: Fraction) -> Fraction:
    return Fraction((x > 0) - (x < 0))


EXACT: Mapping[str, Callable[..., Fraction]] = {
    "neg": lambda x: -x, "reciprocal": lambda x: 1 / x, "sign": _sign, "round": lambda x: Fraction(round(x)),
    "trunc": lambda x: Fraction(math.trunc(x)), "ceil": lambda x: Fraction(math.ceil(x)),
    "floor": lambda x: Fraction(math.floor(x)), "abs": abs, "square": lambda x: x * x,
    "is_zero": lambda x: Fraction(x == 0), "is_nonzero": lambda x: Fraction(x != 0), "not": lambda x: Fraction(x == 0),
    "relu": lambda x: max(x, Fraction(0)), "maximum": max, "minimum": min,
    "eq": lambda x, y: Fraction(x == y), "ne": lambda x, y: Fraction(x != y), "lt": lambda x, y: Fraction(x < y),
    "gt": lambda x, y: Fraction(x > y), "le": lambda x, y: Fraction(x <= y), "ge": lambda x, y: Fraction(x >= y),
    "and": lambda x, y: Fraction(bool(x) and bool(y)), "or": lambda x, y: Fraction(bool(x) or bool(y)),
    "xor": lambda x, y: Fraction(bool(x) != bool(y)), "remainder": lambda x, y: x - y * math.floor(x / y),
    "fmod": lambda x, y: x - y * math.trunc(x / y),
    "clamp_symmetric": lambda x: min(max(x, Fraction(-1, 2)), Fraction(1, 2)),
    "softshrink": lambda x: x - min(max(x, Fraction(-1, 2)), Fraction(1, 2)),
    "hardshrink": lambda x: x if abs(x) > Fraction(1, 2) else Fraction(0),
    "leaky_relu": lambda x: x if x > 0 else x / 5,
}  # fmt: skip
"""The functions that are rational at rational arguments."""


def _holds_exactly(fn: str, x: list[Fraction], c: Fraction) -> None:
    parity, degree, vanishes, sign = FUNCTIONS[fn]
    f = EXACT[fn]
    if parity == ODD:
        assert f(*[-z for z in x]) == -f(*x)
    if parity == EVEN:
        assert f(*[-z for z in x]) == f(*x)
    if degree is not None and degree.denominator == 1:
        assert f(*[c * z for z in x]) == c ** int(degree) * f(*x)
    if vanishes:
        assert f(*[Fraction(0)] * len(x)) == 0
    if sign == ">=0" or (sign == "+" and min(x) >= 0):
        assert f(*x) >= 0


@of("map")
def maps(data: st.DataObject) -> None:
    fn = data.draw(st.sampled_from(sorted(EXACT)))
    of_nonzero = fn in ("reciprocal", "remainder", "fmod")
    x = [data.draw(nonzero if of_nonzero else numbers) for _ in range(2 if fn in BINARY else 1)]
    _holds_exactly(fn, x, data.draw(positive))
    exponent = data.draw(st.integers(-3, 4))
    parity, degree, *_ = behaviour("power", [Fraction(exponent)])
    z, c = data.draw(nonzero), data.draw(positive)
    assert (-z) ** exponent == (-1 if parity == ODD else 1) * z**exponent
    assert (c * z) ** exponent == c ** int(degree) * z**exponent


@of("select")
def choices(data: st.DataObject) -> None:
    x, y, b, p = data.draw(arrays(3, 2)), data.draw(arrays(3, 2)), data.draw(arrays(2, 2)), data.draw(permutations())
    mask = data.draw(arrays(3, 1, of=st.booleans())).astype(bool)
    assert equal(np.where(mask, x @ b.T, y @ b.T), np.where(mask, x, y) @ b.T)
    moved = (p @ mask.astype(int)).astype(bool)
    assert equal(np.where(moved, p @ x, p @ y), p @ np.where(mask, x, y))


ORDERLESS: Mapping[str, Callable[[list[Fraction]], Any]] = {
    "max": max, "min": min, "median": lambda z: sorted(z)[len(z) // 2],
    "sort": lambda z: np.array(sorted(z), dtype=object), "prod": math.prod,
    "any": lambda z: Fraction(any(z)), "all": lambda z: Fraction(all(z)),
}  # fmt: skip


@of("symmetric")
def orderless(data: st.DataObject) -> None:
    z, c = data.draw(st.lists(numbers, min_size=1, max_size=4)), data.draw(positive)
    shuffled = data.draw(st.permutations(z))
    for fn, f in ORDERLESS.items():
        assert equal(f(z), f(shuffled))
        parity, degree, *_ = SYMMETRIC[fn]
        if degree is not None:
            assert equal(f([c * x for x in z]), c ** int(degree) * f(z))
        if parity == EVEN:
            assert equal(f([-x for x in z]), f(z))


@of("along")
def alongs(data: st.DataObject) -> None:
    a, x, p = data.draw(arrays(3, 3)), data.draw(arrays(3, 4)), data.draw(permutations())
    take = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=5))
    assert equal((a @ x)[:, take], a @ x[:, take])
    assert equal(np.cumsum(a @ x, axis=1), a @ np.cumsum(x, axis=1))
    assert equal(np.maximum.accumulate(p @ x, axis=1), p @ np.maximum.accumulate(x, axis=1))


@of("inverse")
def inverses(data: st.DataObject) -> None:
    a, b, x = (data.draw(invertible()) for _ in range(3))
    assert equal(inv(a @ x @ b.T), inv(b).T @ inv(x) @ inv(a))


@of("eigh")
def eigenvectors(data: st.DataObject) -> None:
    theta, d = data.draw(eigenspaces())
    p, v = data.draw(rotations()), data.draw(rotations())
    x = v @ d @ v.T
    moved = p @ v @ theta
    assert equal(moved @ d @ moved.T, p @ x @ p.T)
    assert equal(moved.T @ moved, one(3))


@of("svd")
def singular_vectors(data: st.DataObject) -> None:
    theta, d = data.draw(eigenspaces())
    p, q, u, v = (data.draw(rotations()) for _ in range(4))
    assert equal((p @ u @ theta) @ d @ (q @ v @ theta).T, p @ (u @ d @ v.T) @ q.T)


@of("qr")
def triangular(data: st.DataObject) -> None:
    p, basis, s = data.draw(rotations()), data.draw(rotations())[:, :2], data.draw(signs(2))
    r = np.triu(data.draw(arrays(2, 2, of=positive)))
    x, b = basis @ r, data.draw(invertible())
    assert equal((p @ basis) @ (r @ b.T), p @ x @ b.T)
    signed = r @ s
    assert signed[1, 0] == 0  # the columns' signs keep R triangular, so Q of P X S is P Q up to signs
    assert equal((p @ basis) @ signed, p @ x @ s)


@of("cholesky")
def triangular_root(data: st.DataObject) -> None:
    p, theta = data.draw(rotations()), data.draw(rotations())
    lower = np.tril(data.draw(arrays(3, 3, of=positive)))
    moved = p @ lower @ theta
    assert equal(moved @ moved.T, p @ (lower @ lower.T) @ p.T)


@of("expm")
def series(data: st.DataObject) -> None:
    a, x = data.draw(invertible()), data.draw(arrays(2, 2))

    def partial(y: Array) -> Array:
        term, total = one(2), one(2)
        for k in range(1, 5):
            term = term @ y / k
            total = total + term
        return total

    assert equal(partial(a @ x @ inv(a)), a @ partial(x) @ inv(a))


@of("round")
def casts(data: st.DataObject) -> None:
    x = data.draw(numbers)
    assert Fraction(x) == x


@of("coerce")
def weaker(data: st.DataObject) -> None:
    k, a = data.draw(numbers), data.draw(invertible())
    p = data.draw(st.one_of(permutations(), fixing_ones()))
    assert equal(p @ np.array([k] * 3, dtype=object), [k] * 3)
    assert equal(a @ (k * one(2)) @ inv(a), k * one(2))


ONES = np.array([[Fraction(1)]] * 3, dtype=object)


@of("shift-linear")
def shifts(data: st.DataObject) -> None:
    x, c, b = data.draw(arrays(3, 2)), data.draw(arrays(1, 2)), data.draw(arrays(2, 2))
    q, s = data.draw(numbers), data.draw(numbers)
    assert equal(s * (x + q * ONES @ c), s * x + s * q * ONES @ c)
    assert equal((x + ONES @ c) @ b - x @ b, ONES @ (c @ b))


@of("shift-centre")
def centred(data: st.DataObject) -> None:
    x, c = data.draw(arrays(3, 2)), data.draw(arrays(1, 2))
    moved = x + ONES @ c
    assert equal(moved - ONES @ (ONES.T @ moved) / 3, x - ONES @ (ONES.T @ x) / 3)


@of("sum-linear")
def zero_sums(data: st.DataObject) -> None:
    x, w, b = data.draw(arrays(3, 2)), data.draw(arrays(3, 2)), data.draw(arrays(2, 2))
    s, q = data.draw(numbers), data.draw(numbers)
    x = x - ONES @ (ONES.T @ x) / 3
    assert not (ONES.T @ (s * x) @ b).any()
    assert equal(ONES.T @ (s * (q * w + x)), s * q * (ONES.T @ w))


@of("sum-centre")
def zero_mean(data: st.DataObject) -> None:
    x = data.draw(arrays(3, 2))
    assert not (ONES.T @ (x - ONES @ (ONES.T @ x) / 3)).any()


@of("independence")
def independent(data: st.DataObject) -> None:
    x, y = data.draw(numbers), data.draw(numbers)
    unused = [data.draw(numbers) for _ in range(2)]
    values = [(lambda a, b, z: a * b + b)(x, y, z) for z in unused]
    assert values[0] == values[1]


def test_every_axiom_has_a_property() -> None:
    assert set(PROPERTIES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_property_over_rationals(name: str, data: st.DataObject) -> None:
    PROPERTIES[name](data)


def test_rational_functions_are_all_but_the_transcendental_ones() -> None:
    others = (
        "cube_root hypot sqrt rsqrt tanh atan asin sin erf sinh asinh cos cosh exp expm1 log log2 log1p sigmoid "
        "softplus silu gelu elu clamp pow atan2 digamma lgamma"
    )
    assert set(EXACT) | set(others.split()) == set(FUNCTIONS)
