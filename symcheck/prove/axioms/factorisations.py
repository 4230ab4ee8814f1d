"""Inverses, factorisations and exponentials: existence of the moved factors, and what uniqueness leaves open."""

from __future__ import annotations

from collections.abc import Iterator

import sympy
from sympy import Matrix, Rational, eye, symbols

from symcheck.prove.axioms.elements import C2, S2, Equation, matrix, orthogonal, permutations, signs


def inverse() -> Iterator[Equation]:
    """``(A X B^T)^-1 = B^-T X^-1 A^-1``."""
    a, b, x = matrix("a", 2), matrix("b", 2), matrix("x", 2)
    yield (a * x * b.T) * (b.inv().T * x.inv() * a.inv()) - eye(2)
    yield (b.inv().T * x.inv() * a.inv()) * (a * x * b.T) - eye(2)


def eigh() -> Iterator[Equation]:
    """``P X P^T = (P V) L (P V)^T``; and if ``V L V^T = U L U^T`` then ``T = V^T U`` has ``(l_i - l_j) T_ij = 0``."""
    values = sympy.diag(*symbols("l1 l2", real=True))
    for v in orthogonal(C2, S2):
        x = v * values * v.T
        for p in orthogonal():
            yield (p * v) * values * (p * v).T - p * x * p.T
            yield (p * v).T * (p * v) - eye(2)
    l3 = symbols("l1 l2 l3", real=True)
    spectrum, t = sympy.diag(*l3), matrix("t", 3)
    commutator = spectrum * t - t * spectrum
    yield commutator - Matrix(3, 3, lambda i, j: (l3[i] - l3[j]) * t[i, j])
    yield (t.T * t)[0, 0].subs({t[1, 0]: 0, t[2, 0]: 0}) - t[0, 0] ** 2  # simple spectrum: T_ii^2 = 1


def svd() -> Iterator[Equation]:
    """``P X Q^T = (P U) S (Q V)^T``; on non-zero singular values two choices differ by one rotation of both sides.

    ``U' = U L`` and ``V' = V R`` give the same product iff ``L S R^T = S``, that is ``L S = S R``, and transposed
    (``L`` and ``R`` are orthogonal) ``S L = R S``. Hence ``L S^2 = S^2 L``, and ``L = R`` where singular values
    are equal and not zero.
    """
    s = symbols("s1 s2", nonnegative=True)
    values = sympy.diag(*s)
    u, v = matrix("u", 2), matrix("v", 2)
    for p in orthogonal():
        for q in orthogonal(C2, S2):
            yield (p * u) * values * (q * v).T - p * (u * values * v.T) * q.T
    left, right = matrix("l", 2), matrix("r", 2)
    one, two = left * values - values * right, values * left - right * values
    yield (left * values**2 - values**2 * left) - (one * values - values * two)
    yield one.subs(s[1], s[0]) - s[0] * (left - right)


def qr() -> Iterator[Equation]:
    """``P X B^T = (P Q)(R B^T)``; two bases of one space differ by a rotation; a triangular rotation is signs."""
    q, r, b = matrix("q", 3, 2), matrix("r", 2), matrix("b", 2)
    p = matrix("p", 3)
    yield p * (q * r) * b.T - (p * q) * (r * b.T)
    # Q' = Q T has Q'^T Q' = T^T T where Q^T Q = I: T is orthogonal. Written out for a Q of two columns of I.
    t = matrix("t", 2)
    basis = eye(3)[:, :2]
    yield (basis * t).T * (basis * t) - t.T * t
    a, c, d = symbols("a c d", real=True)
    triangular = Matrix([[a, c], [0, d]])
    ideal = sympy.groebner(list(triangular.T * triangular - eye(2)), a, c, d)
    for entry in (c, a**2 - 1, d**2 - 1):
        yield ideal.reduce(entry)[1]
    yield (triangular * signs(2))[1, 0]  # the columns' signs keep R triangular


def cholesky() -> Iterator[Equation]:
    """``P X P^T = (P L)(P L)^T``; two factors of one matrix differ by a rotation ``T = L^-1 L'``."""
    a, b, d = symbols("a b d", positive=True)
    lower = Matrix([[a, 0], [b, d]])
    for p in orthogonal():
        yield (p * lower) * (p * lower).T - p * (lower * lower.T) * p.T
        yield (lower * p) * (lower * p).T - lower * lower.T
    yield lower.inv() * (lower * lower.T) * lower.inv().T - eye(2)


def expm() -> Iterator[Equation]:
    """``(A X A^-1)^k = A X^k A^-1`` for every term of the power series (``k`` up to 3 written out; then induction)."""
    a, x = matrix("a", 2), matrix("x", 2)
    moved, power, total, series = eye(2), eye(2), sympy.zeros(2), sympy.zeros(2)
    for k in range(4):
        yield moved - a * power * a.inv()
        total += moved * Rational(1, sympy.factorial(k))
        series += power * Rational(1, sympy.factorial(k))
        moved, power = (moved * (a * x * a.inv())).applyfunc(sympy.cancel), (power * x).applyfunc(sympy.expand)
    yield total - a * series * a.inv()
    for p in permutations(2):
        yield p * x * p.T * p * x * p.T - p * x * x * p.T
