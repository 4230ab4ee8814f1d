"""How far rounding may take a fast polar factor from the float64 one.

First-order error analysis with known singular values. Every step of an iteration commits an error ``E`` of a known size
``delta``, and what follows multiplies it by its derivative. In the singular bases of the iterate that derivative is
diagonal: it multiplies the entries of the symmetric part of ``E`` by ``(f(s) - f(t)) / (s - t)``, those of the
antisymmetric part by ``(f(s) + f(t)) / (s + t)``, and those that leave the row space by ``f(s) / s``, where ``s, t``
are singular values and ``f`` is the polynomial still to come (Higham, Functions of Matrices, 2008, theorem 3.11, for
the Hermitian dilation). Rounding errors have no preferred direction and no common sign. Therefore what counts of these
numbers is their root mean square, the `gain`; an error of size ``|E|`` next to a factor ``M`` leaves ``|E| |M| /
sqrt(n)``; a number is off by ``unit / sqrt(3)`` in the mean; and errors add in squares:

    ||computed - exact||_F <= 3 sqrt(sum_k (gain_k delta_k)^2)

The gain is the slope of ``f`` at zero (485 for five steps of `JORDAN`) where most singular values vanish, and about one
where they are all of one size. The factor 3 is for everything that is not as random as this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reference.fast.polar import FastNewtonSchulz, segments, uses_gram_form
from reference.fast.precision import Arithmetic, arithmetic
from reference.transforms.polynomials import Quintic, evaluate

_MARGIN = 3.0
_MEAN = 3.0**-0.5
"""Root mean square of a number that is uniform in [-1, 1]."""


def polar_error_bound(method: FastNewtonSchulz, x: Tensor) -> float:
    """A bound on ``||method(x) - f(x)||_F``, where ``f`` is the same method in exact arithmetic.

    Args:
        method: the fast method.
        x: one matrix ``(m, n)`` in the dtype in which ``method`` gets it.
    """
    used = arithmetic(method.precision)
    rows, cols = sorted(x.shape)
    schedule = method.schedule
    sigma = torch.linalg.svdvals(method.normalize(x.double())).numpy()
    unit = float(torch.finfo(x.dtype).eps) / 2
    size = float(np.linalg.norm(sigma))
    # Norm, margin and quotient in the dtype of x, of which the error of the norm scales everything; then the cast.
    errors = [
        gain(schedule, sigma, cols) * (_MEAN * (used.unit + 3 * unit) * size + _underflow(used, rows * cols)),
        _sums(rows * cols) * unit * float(np.linalg.norm(sigma * _derivative(schedule, sigma))),
    ]
    parts = segments(schedule, method.gram_restarts or ()) if uses_gram_form(method, *x.shape) else ()
    for start, length in _cuts(parts, len(schedule)):
        part, rest = schedule[start : start + length], schedule[start + length :]
        delta = (_segment_error if parts else _step_error)(part, sigma, cols, used)
        sigma = np.abs(evaluate(part, sigma))
        errors.append(gain(rest, sigma, cols) * delta)
    errors.append(unit * float(np.linalg.norm(sigma)))
    return _MARGIN * float(np.linalg.norm(errors))


def gain(schedule: Sequence[Quintic], sigma: np.ndarray, cols: int) -> float:
    """Root mean square by which the composed quintics multiply a small random perturbation.

    Of a matrix with ``len(sigma)`` rows, ``cols`` columns (not fewer) and these singular values.
    """
    f, s, t = evaluate(schedule, sigma), sigma[:, None], sigma[None, :]
    minus = _divided_difference(f[:, None] - f[None, :], s - t, _derivative(schedule, (s + t) / 2))
    plus = _divided_difference(f[:, None] + f[None, :], s + t, _derivative(schedule, 0 * s * t))
    leaving = _divided_difference(f, sigma, _derivative(schedule, 0 * sigma))
    np.fill_diagonal(plus, np.diag(minus))  # which is all symmetric
    squares = (minus**2 + plus**2).sum() / 2 + (cols - len(sigma)) * (leaving**2).sum()
    return float((squares / (len(sigma) * cols)) ** 0.5)


def _cuts(parts: Sequence[Sequence[Quintic]], steps: int) -> list[tuple[int, int]]:
    """(start, length) of every part; of single steps if there are no parts."""
    lengths = [len(part) for part in parts] or [1] * steps
    return [(sum(lengths[:index]), length) for index, length in enumerate(lengths)]


def _step_error(part: Sequence[Quintic], sigma: np.ndarray, cols: int, used: Arithmetic) -> float:
    """What one quintic of the plain form rounds: the Gram matrix, its polynomial and the result."""
    ((a, b, c),) = part
    n, norm = len(sigma), float(np.linalg.norm(sigma))
    r = sigma**2
    z = b * r + c * r**2
    gram = _stored(used, np.linalg.norm(r), r.max() ** 0.5 * norm, cols, n * n) * (abs(b) + 2 * abs(c) * r.max())
    poly = _stored(used, _size(b * r, c * r**2), abs(c) * r.max() * np.linalg.norm(r), n, n * n)
    result = _stored(used, _size(a * sigma, z * sigma), np.abs(z).max() * norm, n, n * cols)
    return float(np.linalg.norm([gram * norm / n**0.5, poly * norm / n**0.5, result]))


def _segment_error(part: Sequence[Quintic], sigma: np.ndarray, cols: int, used: Arithmetic) -> float:
    """What one segment of the Gram form rounds.

    A perturbation of the Gram matrix, at any of its steps, reaches the iterate through the derivative of the factor
    still to come; one of the factor directly.
    """
    n, norm = len(sigma), float(np.linalg.norm(sigma))
    r, done = sigma**2, np.ones_like(sigma)
    stored = _stored(used, np.linalg.norm(r), r.max() ** 0.5 * norm, cols, n * n)
    errors = []
    for step, (a, b, c) in enumerate(part):
        reach = float(np.linalg.norm(done * sigma)) / n**0.5
        errors.append(stored * _factor_gain(part[step:], r) * reach)
        z = b * r + c * r**2
        later = float(np.abs(_factor(part[step + 1 :], r * (a + z) ** 2)).max())
        poly = _stored(used, _size(b * r, c * r**2), abs(c) * r.max() * np.linalg.norm(r), n, n * n)
        factor = _stored(used, _size(a * done, z * done), np.abs(z).max() * np.linalg.norm(done), n, n * n)
        errors.append(later * (poly * reach + factor * norm / n**0.5))
        done, r = done * (a + z), r * (a + z) ** 2
        stored = 2 * _stored(used, np.linalg.norm(r), r.max() * np.abs(a + z).max(), n, n * n)
    errors.append(_stored(used, np.linalg.norm(done * sigma), np.abs(done).max() * norm, n, n * cols))
    return float(np.linalg.norm(errors))


def _stored(used: Arithmetic, size: Any, product: Any, terms: int, entries: int) -> float:
    """Error of a stored sum of products: ``size`` its norm, ``product`` the norm of one factor times that of the
    other in the spectral norm, ``terms`` the length of the sums, ``entries`` the number of results.
    """
    in_product = (2**0.5 * used.product_unit + _sums(terms) * used.sum_unit) * _MEAN * float(product)
    return float(np.linalg.norm([_MEAN * used.unit * float(size), in_product, _underflow(used, entries)]))


def _size(*terms: np.ndarray) -> float:
    """Norm of a sum with the norms of its terms, each of which a backend may store before it adds the next."""
    return float(np.linalg.norm([np.linalg.norm(sum(terms)), *(np.linalg.norm(term) for term in terms)]))


def _underflow(used: Arithmetic, entries: int) -> float:
    return used.smallest * math.sqrt(entries)


def _factor(segment: Sequence[Quintic], r: np.ndarray) -> np.ndarray:
    """``q(r)`` with ``f(s) = s q(s^2)``."""
    product = np.ones_like(r)
    for a, b, c in segment:
        z = a + b * r + c * r**2
        product, r = product * z, r * z**2
    return product


def _factor_gain(segment: Sequence[Quintic], r: np.ndarray) -> float:
    """Root mean square by which `_factor` multiplies a small random perturbation of a matrix with eigenvalues ``r``."""
    q, middle, step = _factor(segment, r), (r[:, None] + r[None, :]) / 2, 1e-6
    slope = (_factor(segment, middle + step) - _factor(segment, middle - step)) / (2 * step)
    differences = _divided_difference(q[:, None] - q[None, :], r[:, None] - r[None, :], slope)
    return float(np.sqrt(np.mean(differences**2)))


def _sums(terms: int) -> float:
    """By how much a sum errs, in units (Higham & Mary, SIAM J. Sci. Comput. 41, 2019)."""
    return math.sqrt(terms)


def _derivative(schedule: Sequence[Quintic], t: np.ndarray) -> np.ndarray:
    slope = np.ones_like(t)
    for a, b, c in schedule:
        slope = slope * (a + 3 * b * t**2 + 5 * c * t**4)
        t = a * t + b * t**3 + c * t**5
    return slope


def _divided_difference(numerator: np.ndarray, denominator: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """The quotient, and its limit where cancellation has eaten more than half of the digits."""
    close = np.abs(denominator) < 1e-8
    return np.where(close, limit, numerator / np.where(close, 1.0, denominator))
