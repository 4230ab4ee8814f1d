"""Re-execution of a program to many digits, so that a defect of symmetry can be told from rounding.

Functions that jump need to know whether their argument is exactly where they jump. A sum that cancels to within the
last `GUARD` digits is therefore taken to be zero, eigenvalues that agree as closely to be equal, and so for every
comparison and rounding to whole numbers. With 60 digits that is wrong only for programs with terms below 1e-42.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
from mpmath import mp, mpf

from symcheck.trace.interpret import Arithmetic, Bundle, Value, contract, evaluate
from symcheck.trace.program import Program

Array = npt.NDArray[Any]
Scalar = Any
"""An ``mpf``."""

DIGITS = 60
GUARD = 18
"""Digits at the end of a number that may be rounding: operations lose a digit or two, factorisations a few."""
_HUGE = 1 << 17
"""Exponentials of more are infinite: far beyond every float, and mpmath would need as many digits."""


def interpret_exact(
    program: Program,
    constants: Mapping[int, Any],
    inputs: Mapping[str, Any],
    sizes: Sequence[tuple[int, ...]],
    digits: int = DIGITS,
) -> list[Value]:
    """`interpret` in numbers of this many digits: object arrays of ``mpf``, not finite where there is no value.

    Constants and inputs may be arrays of floats, ``mpf`` or fractions.

    Raises:
        ValueError: a line is outside the language or does not fit its operands; the line is named.
    """
    with mp.workdps(digits):
        return evaluate(program, constants, inputs, sizes, Exact())


def exact_array(data: Any) -> Array:
    """An object array of ``mpf`` in the present precision."""
    array = np.asarray(data)
    if array.dtype != object:
        array = array.astype(np.float64).astype(object)
    return _entrywise(_number, array)


def _number(value: Any) -> Scalar:
    if isinstance(value, Fraction):
        return mpf(value.numerator) / value.denominator
    return mpf(value)


def _entrywise(function: Callable[..., Scalar], *operands: Array) -> Array:
    return np.asarray(np.frompyfunc(function, len(operands), 1)(*operands), dtype=object)


def _tiny() -> Scalar:
    return mpf(10) ** (GUARD - mp.dps)


def _settle(value: Scalar, magnitude: Scalar) -> Scalar:
    """Zero where ``value`` is rounding of terms of this magnitude."""
    return mpf(0) if abs(value) <= _tiny() * magnitude else value


class Exact(Arithmetic):
    """Entries are ``mpf`` in the present precision of mpmath."""

    dtype = object

    def array(self, data: Any) -> Array:
        """An object array of ``mpf``."""
        return exact_array(data)

    def number(self, value: str) -> Array:
        """The fraction to all digits."""
        return exact_array(Fraction(value))

    def map(self, fn: str, parameters: Sequence[Fraction | None], operands: Sequence[Array]) -> Array:
        """The function entry by entry."""
        numbers = [None if p is None else _number(p) for p in parameters]
        return _entrywise(lambda *values: _apply(FUNCTIONS[fn], values, numbers), *operands)

    def logsumexp(self, values: Array) -> Array:
        """Over the last axis."""
        total = np.sum(self.map("exp", (), [values]), axis=-1)
        return self.map("log", (), [np.asarray(total, dtype=object)])

    def rounded(self, op: str, at: Mapping[str, Any], operands: Sequence[Array], value: Array) -> Array:
        """``value``, zero where it is what rounding left of terms that cancel."""
        if op == "add":
            magnitude = np.asarray(sum(abs(term) for term in operands), dtype=object)
        elif op == "contract":
            magnitude = contract([np.asarray(abs(term), dtype=object) for term in operands], at, value.shape, self)
        else:
            return value
        return _entrywise(_settle, value, magnitude)

    def inverse(self, matrix: Array) -> Array:
        """Of square matrices; NaN where there is none. So for every factorisation."""
        n = matrix.shape[-1]
        return _each(_inverse, matrix, {"x": (n, n)})["x"]

    def cholesky(self, matrix: Array) -> Array:
        """The lower factor."""
        n = matrix.shape[-1]
        return _each(_cholesky, matrix, {"x": (n, n)})["x"]

    def expm(self, matrix: Array) -> Array:
        """The matrix exponential."""
        n = matrix.shape[-1]
        return _each(lambda a: (_rows(mp.expm(a)),), matrix, {"x": (n, n)})["x"]

    def eigh(self, matrix: Array) -> Bundle:
        """Of symmetric matrices, read from their lower triangle as LAPACK does: ascending eigenvalues."""
        n = matrix.shape[-1]
        return _each(_eigh, matrix, {"values": (n,), "vectors": (n, n)})

    def svd(self, matrix: Array) -> Bundle:
        """Reduced: descending singular values."""
        m, n = matrix.shape[-2:]
        k = min(m, n)
        return _each(_svd, matrix, {"u": (m, k), "s": (k,), "vh": (k, n)})

    def qr(self, matrix: Array) -> Bundle:
        """Reduced, by Householder reflections with the signs of LAPACK."""
        m, n = matrix.shape[-2:]
        return _each(_qr, matrix, {"q": (m, min(m, n)), "r": (min(m, n), n)})


# -- matrices ----------------------------------------------------------------------------------------------------------

Matrix = Any
"""An ``mpmath.matrix``."""


def _each(
    function: Callable[[Matrix], tuple[Array, ...]], stack: Array, shapes: Mapping[str, tuple[int, ...]]
) -> Bundle:
    """``function`` of every matrix of a stack; NaN where it has no value."""
    batch = stack.shape[:-2]
    result = {name: np.full((*batch, *shape), mp.nan, dtype=object) for name, shape in shapes.items()}
    for index in np.ndindex(*batch):
        if not all(mp.isfinite(entry) for entry in stack[index].flat):
            continue
        try:
            parts = function(mp.matrix(_on_a_grid(stack[index]).tolist()))
        except (ZeroDivisionError, ValueError, RuntimeError):
            continue
        for name, part in zip(result, parts, strict=True):
            largest = max((abs(x) for x in part.flat), default=mpf(0))
            result[name][index] = _entrywise(partial(_settle, magnitude=largest), part)
    return result


def _on_a_grid(a: Array) -> Array:
    """The matrix rounded in its last ten digits, so that matrices equal up to rounding have the same factors.

    Eigenvectors of a repeated eigenvalue are any basis, and which one is found depends on the last digit.
    """
    largest = max((abs(x) for x in a.flat), default=mpf(0))
    if not largest:
        return a
    # Floats lie on a binary grid. 1.37 keeps its spacing from depending on rounding where the largest is a power of 2.
    spacing = mpf(2) ** (mp.frexp(1.37 * largest)[1] - mp.prec + 33)
    return _entrywise(lambda x: mp.nint(x / spacing) * spacing, a)


def _rows(part: Matrix) -> Array:
    return np.array(part.tolist(), dtype=object).reshape(part.rows, part.cols)


def _spectrum(values: Matrix) -> Array:
    """Numbers in order, where those that agree up to rounding are equal, and zero where they are rounding."""
    result = [mpf(value) for value in values]
    largest = max(map(abs, result), default=mpf(0))
    for i, value in enumerate(result):
        result[i] = _settle(value, largest)
        if i and not _settle(value - result[i - 1], largest):
            result[i] = result[i - 1]
    return np.array(result, dtype=object)


def _inverse(a: Matrix) -> tuple[Array]:
    # mpmath divides by whatever pivot rounding left; singular is a matrix whose smallest singular value is rounding.
    if not _spectrum(mp.svd_r(a, compute_uv=False))[-1]:
        raise ZeroDivisionError
    return (_rows(mp.inverse(a)),)


def _cholesky(a: Matrix) -> tuple[Array]:
    lower = mp.cholesky(a)
    if min(lower[i, i] ** 2 for i in range(a.rows)) <= _tiny() * max(map(abs, a)):
        raise ZeroDivisionError
    return (_rows(lower),)


def _eigh(a: Matrix) -> tuple[Array, Array]:
    symmetric = mp.matrix(a.rows, a.cols)
    for i in range(a.rows):
        for j in range(i + 1):
            symmetric[i, j] = symmetric[j, i] = a[i, j]
    values, vectors = mp.eigsy(symmetric)
    return _spectrum(values), _rows(vectors)


def _svd(a: Matrix) -> tuple[Array, Array, Array]:
    u, s, vh = mp.svd_r(a, full_matrices=False)
    return _rows(u), _spectrum(s), _rows(vh)


def _qr(a: Matrix) -> tuple[Array, Array]:
    # mpmath wants at least as many rows as columns; the first columns determine Q.
    q, _ = mp.qr(a[:, : min(a.rows, a.cols)], "skinny")
    r = _rows(q.T * a)
    return _rows(q), np.triu(r) + mpf(0)


# -- elementwise functions ---------------------------------------------------------------------------------------------


def _apply(function: Callable[..., Any], values: Sequence[Scalar], parameters: Sequence[Scalar | None]) -> Scalar:
    """A real number; NaN where the function has no real value."""
    if any(map(mp.isnan, values)):
        return mp.nan
    try:
        result = function(*values, *parameters)
    except (ZeroDivisionError, ValueError, OverflowError):
        return mp.nan
    return mp.nan if isinstance(result, mpmath.mpc) else mpf(result)


def _difference(a: Scalar, b: Scalar) -> Scalar:
    if not (mp.isfinite(a) and mp.isfinite(b)):
        return mpf(0) if a == b else a - b
    return _settle(a - b, max(abs(a), abs(b)))


def _whole(function: Callable[[Scalar], Scalar]) -> Callable[[Scalar], Scalar]:
    """A rounding to whole numbers that sees a number within rounding of one as that one."""

    def rounded(x: Scalar) -> Scalar:
        doubled = mp.nint(2 * x)  # halves are where rounding to the nearest jumps
        return function(doubled / 2 if mp.isfinite(x) and not _settle(2 * x - doubled, abs(x)) else x)

    return rounded


def _trunc(x: Scalar) -> Scalar:
    return mp.floor(x) if x >= 0 else mp.ceil(x)


def _exp(x: Scalar) -> Scalar:
    if abs(x) > _HUGE:
        return mp.inf if x > 0 else mpf(0)
    return mp.exp(x)


def _tame(function: Callable[[Scalar], Scalar], far: Callable[[Scalar], Scalar]) -> Callable[[Scalar], Scalar]:
    """``function``, and ``far`` where it would need exponentials too large for mpmath."""
    return lambda x: far(x) if abs(x) > _HUGE else function(x)


def _power(x: Scalar, p: Scalar) -> Scalar:
    whole = mp.isint(p)
    if x == 0:
        return mpf(1) if p == 0 else mpf(0) if p > 0 else mp.inf
    if x < 0 and not whole:
        return mp.nan
    magnitude = _exp(p * mp.log(abs(x)))
    if whole and abs(p) < _HUGE:
        return x ** int(p)
    return -magnitude if x < 0 and int(p) % 2 else magnitude


def _clamp(x: Scalar, low: Scalar | None, high: Scalar | None) -> Scalar:
    bounded = x if low is None else max(x, low)
    return bounded if high is None else min(bounded, high)


def _modulo(whole: Callable[[Scalar], Scalar]) -> Callable[[Scalar, Scalar], Scalar]:
    return lambda x, y: x - y * _whole(whole)(x / y)


def _log(x: Scalar) -> Scalar:
    return mp.log(x) if x > 0 else (-mp.inf if x == 0 else mp.nan)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "neg": lambda x: -x,
    "reciprocal": lambda x: 1 / x if x else mp.inf,
    "sign": mp.sign,
    "tanh": _tame(mp.tanh, mp.sign),
    "atan": mp.atan,
    "asin": lambda x: mp.asin(x) if abs(x) <= 1 else mp.nan,
    "sin": mp.sin,
    "erf": _tame(mp.erf, mp.sign),
    "round": _whole(mp.nint),
    "trunc": _whole(_trunc),
    "cube_root": lambda x: mp.sign(x) * mp.cbrt(abs(x)),
    "clamp_symmetric": lambda x, c: min(max(x, -c), c),
    "softshrink": lambda x, c: x - c * mp.sign(x) if abs(x) > c else mpf(0),
    "hardshrink": lambda x, c: x if _difference(abs(x), c) > 0 else mpf(0),
    "sinh": _tame(mp.sinh, lambda x: mp.sign(x) * mp.inf),
    "asinh": mp.asinh,
    "abs": abs,
    "square": lambda x: x * x,
    "cos": mp.cos,
    "cosh": _tame(mp.cosh, lambda x: mp.inf),
    "is_zero": lambda x: x == 0,
    "is_nonzero": lambda x: x != 0,
    "eq": lambda a, b: _difference(a, b) == 0,
    "ne": lambda a, b: _difference(a, b) != 0,
    "hypot": mp.hypot,
    "power": _power,
    "sqrt": mp.sqrt,
    "rsqrt": lambda x: 1 / mp.sqrt(x) if x else mp.inf,
    "relu": lambda x: max(x, mpf(0)),
    "exp": _exp,
    "expm1": _tame(mp.expm1, lambda x: mp.inf if x > 0 else mpf(-1)),
    "log": _log,
    "log1p": lambda x: _log(1 + x),
    "log2": lambda x: _log(x) / mp.log(2),
    "sigmoid": lambda x: 1 / (1 + _exp(-x)),
    "softplus": _tame(lambda x: mp.log(1 + mp.exp(x)), lambda x: max(x, mpf(0))),
    "silu": lambda x: x / (1 + _exp(-x)),
    "gelu": _tame(lambda x: x * mp.ncdf(x), lambda x: max(x, mpf(0))),
    "ceil": _whole(mp.ceil),
    "floor": _whole(mp.floor),
    "not": lambda x: x == 0,
    "maximum": max,
    "minimum": min,
    "lt": lambda a, b: _difference(a, b) < 0,
    "le": lambda a, b: _difference(a, b) <= 0,
    "gt": lambda a, b: _difference(a, b) > 0,
    "ge": lambda a, b: _difference(a, b) >= 0,
    "clamp": _clamp,
    "pow": _power,
    "atan2": mp.atan2,
    "fmod": _modulo(_trunc),
    "remainder": _modulo(mp.floor),
    "and": lambda a, b: a != 0 and b != 0,
    "or": lambda a, b: a != 0 or b != 0,
    "xor": lambda a, b: (a != 0) != (b != 0),
    "leaky_relu": lambda x, c: x if x > 0 else c * x,
    "elu": lambda x: x if x > 0 else (mp.expm1(x) if x > -_HUGE else mpf(-1)),
    "digamma": mp.digamma,
    "lgamma": lambda x: mp.re(mp.loggamma(x)),
}
"""The elementwise functions on ``mpf``, by name."""
