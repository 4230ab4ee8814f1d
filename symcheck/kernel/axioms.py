"""What the kernel believes: its axioms, and how elementwise functions treat signs and scales.

The hash of this table is part of every certificate. Each axiom is derived with sympy on small symbolic matrices and
tested over exact rationals (``symcheck/prove/axioms``, ``tests``).
"""

import hashlib
import json
from fractions import Fraction

LIE = "Lau & Su, arXiv 2605.18106"
AXIOMS = (
    ("input", "weights move by rho, gradients by its inverse transpose, state by the law of its node", LIE),
    ("constant", "a constant is invariant; zero obeys every law; delta_ij is fixed by every (A, A^-T)", "definition"),
    ("random", "iid numbers are permuted, symmetric ones also reflected, normal ones also rotated, in law", "Maxwell"),
    ("expand", "an array repeated along a new axis is constant along it", "definition"),
    ("contract-monomial", "(s_i d_i x_i)(s_i d_i^-1 y_i) = x_i y_i, and a sum over i ignores their order", "definition"),
    ("contract-orth", "sum_k (P x)_k (P y)_k = sum_k x_k y_k; the diagonal of x (x) y has a trace", "P^T P = I"),
    ("contract-stab1", "sum_k (P x)_k = sum_k x_k where P 1 = 1", "P^T 1 = 1"),
    ("contract-eigen", "what is constant on eigenspaces commutes with rotations within them", "Schur"),
    ("contract-delta", "sum_j delta_ij x_j = x_i", "definition"),
    ("contract-fibre", "what differs from head to head is contracted within a head before heads are summed", LIE),
    ("add", "a linear combination of values of one law has that law", "linearity"),
    ("map", "an elementwise f commutes with permutations; odd and even f with signs; homogeneous f with scales", "def."),
    ("select", "a choice by an invariant mask is linear in what it chooses from", "linearity"),
    ("symmetric", "max, min, product, median and sorting ignore order", "definition"),
    ("along", "a function of constant axes commutes with what acts on the others, if linear or entry by entry", "def."),
    ("inverse", "(A X B^T)^-1 = B^-T X^-1 A^-1", "algebra"),
    ("eigh", "P X P^T has the spectrum of X and the eigenvectors P V, up to a rotation within eigenspaces", "spectral"),
    ("svd", "P X Q^T has singular values of X, vectors P U and Q V, up to one rotation within non-zero spaces", "SVD"),
    ("qr", "P X B^T spans P span(X): its Q is P Q up to a rotation; up to signs if B is diagonal signs", "uniqueness"),
    ("cholesky", "P X P^T = (P L)(P L)^T: its factor is P L up to a rotation", "uniqueness"),
    ("expm", "exp(A X A^-1) = A exp(X) A^-1", "power series"),
    ("round", "a cast is the identity in exact arithmetic", "definition"),
    ("coerce", "a law implies every weaker one", "definition"),
    ("shift-linear", "a linear map of what moves by q 1c^T, or by something constant along rows, moves so", "linearity"),
    ("shift-centre", "x - mean(x) forgets what is constant along the axis of the mean", "projection"),
    ("sum-linear", "zero column sums survive sums, scalars and every product that leaves the axis alone", "linearity"),
    ("sum-centre", "x - mean(x) has zero sum", "projection"),
    ("independence", "a function of independent values is independent", "definition"),
)  # fmt: skip

ODD, EVEN, NEITHER = "odd", "even", "none"
FUNCTIONS = {
    **{name: (ODD, Fraction(1), True) for name in ("neg",)},
    **dict.fromkeys(("tanh", "atan", "asin", "sin", "erf", "round", "trunc", "sinh", "asinh"), (ODD, None, True)),
    **dict.fromkeys(("clamp_symmetric", "softshrink", "hardshrink"), (ODD, None, True)),
    "reciprocal": (ODD, Fraction(-1), False),
    "sign": (ODD, Fraction(0), True),
    "cube_root": (ODD, Fraction(1, 3), True),
    "abs": (EVEN, Fraction(1), True),
    "square": (EVEN, Fraction(2), True),
    "cos": (EVEN, None, False),
    "cosh": (EVEN, None, False),
    "is_zero": (EVEN, Fraction(0), False),
    "is_nonzero": (EVEN, Fraction(0), True),
    "eq": (EVEN, Fraction(0), False),
    "ne": (EVEN, Fraction(0), True),
    "hypot": (EVEN, Fraction(1), True),
    "sqrt": (NEITHER, Fraction(1, 2), True),
    "rsqrt": (NEITHER, Fraction(-1, 2), False),
    **{name: (NEITHER, Fraction(1), True) for name in ("relu", "maximum", "minimum", "leaky_relu")},
    **{name: (NEITHER, Fraction(1), False) for name in ("fmod", "remainder")},
    **{name: (NEITHER, Fraction(0), False) for name in ("le", "ge", "atan2")},
    **{name: (NEITHER, Fraction(0), True) for name in ("lt", "gt", "and", "or", "xor")},
    **dict.fromkeys(("expm1", "log1p", "silu", "gelu", "ceil", "floor", "elu"), (NEITHER, None, True)),
    **dict.fromkeys(("exp", "log", "log2", "sigmoid", "softplus", "not", "clamp", "pow"), (NEITHER, None, False)),
    **dict.fromkeys(("digamma", "lgamma"), (NEITHER, None, False)),
}
"""Parity, degree and whether ``f(0) = 0``, of every elementwise function but ``power``."""
BINARY = frozenset(
    [
        "eq",
        "ne",
        "hypot",
        "maximum",
        "minimum",
        "fmod",
        "remainder",
        "le",
        "ge",
        "atan2",
        "lt",
        "gt",
        "and",
        "or",
        "xor",
        "pow",
    ]
)
NON_NEGATIVE = frozenset(
    [
        "abs",
        "square",
        "is_zero",
        "is_nonzero",
        "eq",
        "ne",
        "hypot",
        "sqrt",
        "rsqrt",
        "relu",
        "exp",
        "sigmoid",
        "softplus",
        "not",
        "lt",
        "le",
        "gt",
        "ge",
        "and",
        "or",
        "xor",
        "cosh",
    ]
)
SIGN_PRESERVING = frozenset(
    [
        "reciprocal",
        "sign",
        "cube_root",
        "tanh",
        "atan",
        "asin",
        "sinh",
        "asinh",
        "erf",
        "round",
        "trunc",
        "ceil",
        "floor",
        "log1p",
        "expm1",
    ]
)
LINEAR_ALONG = frozenset({"take", "cumsum"})
SYMMETRIC = {name: (NEITHER, Fraction(1)) for name in ("max", "min", "median", "sort")}
SYMMETRIC |= {
    "prod": (NEITHER, None),
    "logsumexp": (NEITHER, None),
    "any": (EVEN, Fraction(0)),
    "all": (EVEN, Fraction(0)),
}

_TABLE = [AXIOMS, sorted((k, str(v)) for k, v in {**FUNCTIONS, **SYMMETRIC}.items()), sorted(BINARY | LINEAR_ALONG)]
HASH = hashlib.sha256(json.dumps(_TABLE).encode()).hexdigest()


def behaviour(fn, args):
    """Parity, degree and ``f(0) = 0`` of a function of ``map``, or None for an unknown one."""
    if fn != "power":
        return FUNCTIONS.get(fn)
    p = args[0]
    parity = NEITHER if p.denominator != 1 else (ODD if p.numerator % 2 else EVEN)
    return parity, p, p > 0
