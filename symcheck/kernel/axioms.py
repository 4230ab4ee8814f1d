"""What the kernel believes: its axioms, and how elementwise functions treat signs and scales.

The hash of this table is part of every certificate. Each axiom is derived with sympy on small symbolic matrices and
tested over exact rationals (``symcheck/prove/axioms``, ``tests``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

LIE = "Lau & Su, arXiv 2605.18106"
AXIOMS = (
    ("input", "weights move by rho, gradients by its inverse transpose, state by the law of its node", LIE),
    ("constant", "a constant is invariant; zero obeys every law; delta_ij is fixed by every (A, A^-T)", "definition"),
    ("random", "iid numbers are permuted, symmetric ones also reflected, normal ones also rotated, in law", "Maxwell"),
    ("expand", "an array repeated along a new axis is constant along it", "definition"),
    ("contract-monomial", "(s_i d_i x_i)(s_i d_i^-1 y_i) = x_i y_i, and a sum over i ignores order", "definition"),
    ("contract-orth", "sum_k (P x)_k (P y)_k = sum_k x_k y_k; the diagonal of x (x) y has a trace", "P^T P = I"),
    ("contract-stab1", "sum_k (P x)_k = sum_k x_k where P 1 = 1", "P^T 1 = 1"),
    ("contract-eigen", "what is constant on eigenspaces commutes with rotations within them", "Schur"),
    ("contract-delta", "sum_j delta_ij x_j = x_i", "definition"),
    ("contract-fibre", "what differs from head to head is contracted within a head before heads are summed", LIE),
    ("add", "a linear combination of values of one law has that law", "linearity"),
    ("map", "elementwise f commute with permutations, odd and even f with signs, homogeneous ones with scales", "def."),
    ("select", "a choice by an invariant mask is linear in what it chooses from", "linearity"),
    ("symmetric", "max, min, product, median and sorting ignore order", "definition"),
    ("along", "a function of constant axes commutes with what acts on the others, if linear or entry by entry", "def."),
    ("inverse", "(A X B^T)^-1 = B^-T X^-1 A^-1", "algebra"),
    ("eigh", "P X P^T has the spectrum of X and the eigenvectors P V, up to a rotation within eigenspaces", "spectral"),
    ("svd", "P X Q^T has singular values of X, vectors P U and Q V, up to one rotation within non-zero spaces", "SVD"),
    ("qr", "P X B^T spans P span(X): its Q is P Q up to a rotation; up to signs if B is diagonal signs", "QR"),
    ("cholesky", "P X P^T = (P L)(P L)^T: its factor is P L up to a rotation", "uniqueness"),
    ("expm", "exp(A X A^-1) = A exp(X) A^-1", "power series"),
    ("round", "a cast is the identity in exact arithmetic", "definition"),
    ("coerce", "a law implies every weaker one", "definition"),
    ("shift-linear", "a linear map of what moves by q 1c^T, or by something constant along rows, moves so", "def."),
    ("shift-centre", "x - mean(x) forgets what is constant along the axis of the mean", "projection"),
    ("sum-linear", "zero column sums survive sums, scalars and every product that leaves the axis alone", "linearity"),
    ("sum-centre", "x - mean(x) has zero sum", "projection"),
    ("independence", "a function of independent values is independent", "definition"),
)  # fmt: skip

ODD, EVEN, NEITHER = "odd", "even", "none"
_FUNCTIONS = """
    odd -1   f(0)?  reciprocal
    odd 0    f(0)=0 sign
    odd 1/3  f(0)=0 cube_root
    odd 1    f(0)=0 neg
    odd -    f(0)=0 tanh atan asin sin erf round trunc sinh asinh clamp_symmetric softshrink hardshrink
    even 0   f(0)=0 is_nonzero ne
    even 0   f(0)?  is_zero eq
    even 1   f(0)=0 abs hypot
    even 2   f(0)=0 square
    even -   f(0)?  cos cosh
    none 1/2 f(0)=0 sqrt
    none -1/2 f(0)? rsqrt
    none 0   f(0)=0 lt gt and or xor
    none 0   f(0)?  le ge atan2
    none 1   f(0)=0 relu maximum minimum leaky_relu
    none 1   f(0)?  fmod remainder
    none -   f(0)=0 expm1 log1p silu gelu ceil floor elu
    none -   f(0)?  exp log log2 sigmoid softplus not clamp pow digamma lgamma
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BINARY = _words("eq ne hypot maximum minimum fmod remainder le ge atan2 lt gt and or xor pow")
NON_NEGATIVE = _words("""
    abs square is_zero is_nonzero eq ne hypot sqrt rsqrt relu exp sigmoid softplus not lt le gt ge and or xor cosh
""")
SIGN_PRESERVING = _words("""
    reciprocal sign cube_root tanh atan asin sinh asinh erf round trunc ceil floor log1p expm1
""")
"""They map what is not negative to what is not negative."""
PARAMETERS = {"power": 1, "clamp": 2, "clamp_symmetric": 1, "softshrink": 1, "hardshrink": 1, "leaky_relu": 1}
LINEAR_ALONG = frozenset({"take", "cumsum"})


def _degree(word: str) -> Fraction | None:
    return None if word == "-" else Fraction(word)


FUNCTIONS = {
    name: (parity, _degree(degree), at_zero == "f(0)=0")
    for parity, degree, at_zero, *names in (row.split() for row in _FUNCTIONS.strip().splitlines())
    for name in names
}
"""Parity, degree and whether ``f(0) = 0``, of every elementwise function but ``power``."""
SYMMETRIC: dict[str, tuple[str, Fraction | None]] = {
    **dict.fromkeys(("max", "min", "median", "sort"), (NEITHER, Fraction(1))),
    **dict.fromkeys(("prod", "logsumexp"), (NEITHER, None)),
    **dict.fromkeys(("any", "all"), (EVEN, Fraction(0))),
}
CONDITIONS = {
    ("eigh", "sign"): "simple spectrum",
    ("svd", "sign"): "simple non-zero singular values",
    ("svd", "core"): "non-zero singular values",
    ("qr", "sign"): "full rank of the first columns",
    ("qr", "orth"): "full rank",
    ("cholesky", "orth"): "positive definite",
}
"""What a gauge of this class assumes of the matrix; ``block`` ones assume nothing."""
HASH = hashlib.sha256(
    repr((AXIOMS, sorted(FUNCTIONS.items()), sorted(SYMMETRIC.items()), sorted(CONDITIONS.items()), PARAMETERS,
          *map(sorted, (BINARY, NON_NEGATIVE, SIGN_PRESERVING, LINEAR_ALONG)))).encode()
).hexdigest()  # fmt: skip


def behaviour(fn: str, args: Sequence[Any]) -> tuple[str, Fraction | None, bool] | None:
    """Parity, degree and ``f(0) = 0`` of a function of ``map``, or None for an unknown one."""
    if fn != "power":
        return FUNCTIONS.get(fn)
    p: Fraction = args[0]
    parity = NEITHER if p.denominator != 1 else (ODD if p.numerator % 2 else EVEN)
    return parity, p, p > 0
