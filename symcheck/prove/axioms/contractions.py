"""Products and sums: why contractions, sums, choices and symmetric functions keep the laws that the kernel says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import sympy
from sympy import Function, Integer, Matrix, Rational, Symbol, eye, ones, symbols, zeros

from symcheck.prove.axioms.elements import (
    SCALES,
    SIGNS,
    Equation,
    column,
    entrywise,
    every_permutation,
    in_eigenspaces,
    matrix,
    orthogonal,
    permutations,
    scales,
    signs,
    stab1,
)


def dual() -> Iterator[Equation]:
    """Gradients move by the inverse transpose: the chain rule for ``f(A^-1 W B^-T)``, and the pairing is invariant."""
    a, b, w, v = matrix("a", 2), matrix("b", 2), matrix("w", 2), matrix("v", 2)
    back = a.inv() * w * b.inv().T
    coefficients = matrix("f", 2)
    gradient = Matrix(2, 2, lambda i, j: coefficients[i, j] * 2 * back[i, j])
    moved = sum(coefficients[i, j] * back[i, j] ** 2 for i in range(2) for j in range(2))
    yield Matrix(2, 2, lambda i, j: sympy.diff(moved, w[i, j])) - a.inv().T * gradient * b.inv()
    yield ((a.inv().T * w * b.inv()).T * (a * v * b.T)).trace() - (w.T * v).trace()


def constant() -> Iterator[Equation]:
    """Zero obeys every law; ``delta`` is fixed by ``(A, A^-T)`` and by every rotation of both axes."""
    a, b = matrix("a", 2), matrix("b", 2)
    yield a * zeros(2) * b.T
    yield a * eye(2) * (a.inv().T).T - eye(2)
    for p in orthogonal():
        yield p * eye(2) * p.T - eye(2)
    p = signs(3) * scales(3)
    yield p * eye(3) * p.inv().T - eye(3)


def random() -> Iterator[Equation]:
    """Densities: products are permuted, even ones reflected, and ``exp(-|z|^2/2)`` rotated, with volume kept."""
    z = column("z", 3)
    density, even = Function("f"), Function("g")
    for p in every_permutation(3):
        moved = p * z
        yield sympy.prod([density(x) for x in moved]) - sympy.prod([density(x) for x in z])
        yield p.det() ** 2 - 1
    for choice in itertools.product((1, -1), repeat=3):
        moved = [sign * x for sign, x in zip(choice, z, strict=True)]
        yield sympy.prod([even(x**2) for x in moved]) - sympy.prod([even(x**2) for x in z])
    for p in orthogonal():
        yield (p * z[:2, :]).dot(p * z[:2, :]) - z[:2, :].dot(z[:2, :])
        yield p.det() ** 2 - 1


def expand() -> Iterator[Equation]:
    """``x 1^T`` is constant along its columns and moves with ``x``; permutations and Stab1 do not see the new axis."""
    a, x = matrix("a", 3), column("x", 3)
    repeated = x * ones(1, 3)
    yield (a * x) * ones(1, 3) - a * repeated
    for p in (*permutations(3), *stab1()):
        yield repeated * p.T - repeated


def contract_monomial() -> Iterator[Equation]:
    """Signs square to one, scales cancel their inverses, sums ignore order."""
    x, y = column("x", 3), column("y", 3)
    for p in permutations(3):
        d = p * signs(3) * scales(3)
        dual_ = p * signs(3) * scales(3).inv()
        yield (d * x).dot(dual_ * y) - x.dot(y)
        yield entrywise(d * x, dual_ * y) - p * entrywise(x, y)
        yield sum(p * x) - sum(x)
    one, two = symbols("a b", real=True)
    for x0, scale, sign in zip(x, SCALES, SIGNS, strict=False):
        moved = (sign * scale**one * x0) * (sign * scale**two * x0)
        yield sympy.powsimp(moved) / sign**2 - scale ** (one + two) * x0**2


def contract_orth() -> Iterator[Equation]:
    """Inner products of rotated vectors, and the trace: in all of O(2), and for 3 x 3 from ``P^T P = I`` alone."""
    x, y, m = column("x", 2), column("y", 2), matrix("m", 2)
    for p in orthogonal():
        yield (p * x).dot(p * y) - x.dot(y)
        yield (p * m * p.T).trace() - m.trace()
    p, x, y = matrix("p", 3), column("x", 3), column("y", 3)
    gram = p.T * p - eye(3)
    yield (p * x).dot(p * y) - x.dot(y) - (x.T * gram * y)[0]  # what is left is a combination of P^T P - I


def contract_stab1() -> Iterator[Equation]:
    """Sums of entries, where ``P`` is orthogonal with ``P 1 = 1`` (then ``P^T 1 = 1``)."""
    x = column("x", 3)
    for p in stab1():
        yield p * ones(3, 1) - ones(3, 1)
        yield p.T * p - eye(3)
        yield sum(p * x) - sum(x)


def contract_eigen() -> Iterator[Equation]:
    """What is constant on eigenspaces commutes with rotations in them; null spaces may differ where it vanishes."""
    v, w = matrix("v", 3), matrix("w", 3)
    for theta, d in in_eigenspaces():
        yield (v * theta) * d * (w * theta).T - v * d * w.T
        yield theta * d - d * theta
    a = Symbol("a", real=True)
    free_u, free_v = column("u", 3), column("n", 3)
    d = sympy.diag(a, a, 0)
    for plane in orthogonal():
        theta = sympy.diag(plane, 1)
        left, right = v * theta, w * theta
        left[:, 2], right[:, 2] = free_u, free_v  # vectors of the null space: anything
        yield left * d * right.T - v * d * w.T


def contract_delta() -> Iterator[Equation]:
    """``sum_j delta_ij x_j = x_i``."""
    x, m = column("x", 3), matrix("m", 3, 2)
    yield eye(3) * x - x
    yield eye(3) * m - m
    yield sum(eye(3)[i, j] * m[i, 0] * m[j, 1] for i in range(3) for j in range(3)) - m[:, 0].dot(m[:, 1])


def contract_fibre() -> Iterator[Equation]:
    """Inner products within heads do not see the rotations of the heads; their sum does not see the order of heads."""
    x, y = matrix("x", 2), matrix("y", 2)
    for one, two in itertools.product(orthogonal(), orthogonal(*symbols("c2 s2", real=True))):
        heads = [(one * x[:, 0]).dot(one * y[:, 0]), (two * x[:, 1]).dot(two * y[:, 1])]
        still = [x[:, 0].dot(y[:, 0]), x[:, 1].dot(y[:, 1])]
        yield Matrix(heads) - Matrix(still)
        yield sum(reversed(heads)) - sum(still)


def add() -> Iterator[Equation]:
    """Linearity of ``X -> A X B^T``."""
    a, b, x, y = matrix("a", 2), matrix("b", 3), matrix("x", 2, 3), matrix("y", 2, 3)
    s, t = symbols("s t", real=True)
    yield s * (a * x * b.T) + t * (a * y * b.T) - a * (s * x + t * y) * b.T


def select() -> Iterator[Equation]:
    """``m x + (1 - m) y`` with a mask of zeros and ones: one number, one for each row, or permuted along."""
    x, y, b = matrix("x", 3, 2), matrix("y", 3, 2), matrix("b", 2)
    for values in itertools.product((0, 1), repeat=3):
        mask = sympy.diag(*values)
        rest = eye(3) - mask
        yield mask * (x * b.T) + rest * (y * b.T) - (mask * x + rest * y) * b.T
        for p in permutations(3):
            moved = p * mask * p.T
            yield moved * (p * x) + (eye(3) - moved) * (p * y) - p * (mask * x + rest * y)


def symmetric() -> Iterator[Equation]:
    """Functions of the order statistics, products and sums of exponentials; degrees of those that have one."""
    x, c = column("x", 3), Symbol("c", positive=True)

    def statistics(z: Matrix) -> list[sympy.Expr]:
        high, low = sympy.Max(*z), sympy.Min(*z)
        return [low, sum(z) - high - low, high]  # of three numbers: sorted, the second is the median

    for p in every_permutation(3):
        for one, two in zip(statistics(p * x), statistics(x), strict=True):
            yield sympy.expand(one - two)
        yield sympy.prod(p * x) - sympy.prod(x)
        yield sum(sympy.exp(z) for z in p * x) - sum(sympy.exp(z) for z in x)
    small, large = symbols("p q", positive=True)
    for z in (Matrix([small, small + large, -small]), Matrix([-small - large, -small, Integer(0)])):
        for one, two in zip(statistics(c * z), statistics(z), strict=True):
            yield sympy.expand(one - c * two)
    for z in itertools.product((0, 1), repeat=3):  # any and all: of non-zero entries, whatever their sign and size
        moved = [sign * value for sign, value in zip(SIGNS, z, strict=False)]
        yield bool(any(z)) == any(value != 0 for value in moved)
        yield bool(all(z)) == all(value != 0 for value in moved)


def along() -> Iterator[Equation]:
    """A linear map of constant columns commutes with what acts on rows; any function of rows with permutations."""
    a, x, t = matrix("a", 2), matrix("x", 2, 3), matrix("t", 3, 4)
    yield (a * x) * t - a * (x * t)
    f = Function("f")
    rows = matrix("x", 3, 2)
    for p in permutations(3):
        moved = p * rows
        yield Matrix([f(*moved.row(i)) for i in range(3)]) - p * Matrix([f(*rows.row(i)) for i in range(3)])


def coerce() -> Iterator[Equation]:
    """A constant column is fixed by permutations and Stab1; delta by ``(A, A^-T)``; eigenvectors may lose a face."""
    k = Symbol("k", real=True)
    for p in (*permutations(3), *stab1()):
        yield p * (k * ones(3, 1)) - k * ones(3, 1)
    a = matrix("a", 2)
    yield a * (k * eye(2)) * a.inv() - k * eye(2)
    core = matrix("v", 3) * sympy.diag(k, Rational(1, 2), 0)
    for plane in orthogonal():
        one, two = sympy.diag(plane, 1), sympy.diag(plane, -1)
        yield core * one - core * two  # what vanishes on the null space moves alike on all faces
