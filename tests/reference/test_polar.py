"""Polar factors: exact, by polynomials, by QDWH, by coupled inverse roots; and the ranges of the polynomials."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.orthogonalizers import ORTHOGONALIZERS, QDWH, Exact, NewtonSchulz, get_orthogonalizer, without_eps
from reference.transforms.inverse_root import coupled_inverse_root
from reference.transforms.newton_schulz import aol_normalize, frobenius_normalize, gram_newton_schulz, newton_schulz
from reference.transforms.polar import damped_polar, polar, spectral_map
from reference.transforms.polynomials import (
    AOL,
    CUBIC,
    DEEPSEEK_V4,
    JORDAN,
    POLAR_EXPRESS_2E2,
    YOU,
    Schedule,
    evaluate,
    polar_express,
)
from reference.transforms.qdwh import halley_weights
from reference.transforms.spectral import spectral_factor

EPS = float(np.finfo(np.float64).eps)

shapes = st.tuples(st.integers(1, 7), st.integers(1, 7))


def with_spectrum(shape: tuple[int, int], sigma: list[float], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A matrix with singular values ``sigma`` and its polar factor over the non-zero ones."""
    rng = np.random.default_rng(seed)
    u, _ = np.linalg.qr(rng.normal(size=(shape[0], len(sigma))))
    v, _ = np.linalg.qr(rng.normal(size=(shape[1], len(sigma))))
    return (u * sigma) @ v.T, (u * (np.asarray(sigma) > 0)) @ v.T


def rounding(shape: tuple[int, int], sigma: list[float]) -> float:
    """First-order error of the polar factor: ``2 |E| / (sigma_i + sigma_j)`` with ``|E|`` some ``(m + n) eps``."""
    positive = [each for each in sigma if each > 0]
    return 8 * (sum(shape)) * EPS * max(positive) / min(positive)


# The exact polar factor --------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(shape=shapes, seed=st.integers(0, 10**6), values=st.data())
def test_polar_of_a_known_decomposition(shape: tuple[int, int], seed: int, values: st.DataObject) -> None:
    sizes = st.one_of(st.just(0.0), st.floats(2.0**-10, 1.0))
    sigma = values.draw(st.lists(sizes, min_size=min(shape), max_size=min(shape)))
    x, expected = with_spectrum(shape, sigma, seed)
    if max(sigma) == 0:
        assert np.all(polar(x) == 0)
    else:
        assert np.abs(polar(x) - expected).max() <= rounding(shape, sigma)


@settings(max_examples=50, deadline=None)
@given(shape=shapes, seed=st.integers(0, 10**6))
def test_polar_is_a_partial_isometry_nearest_to_its_argument(shape: tuple[int, int], seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=shape)
    p = polar(x)
    allowed = rounding(shape, list(np.linalg.svd(x, compute_uv=False)))
    assert np.abs(p @ p.T @ p - p).max() <= allowed
    assert abs(np.sum(p * x) - np.linalg.norm(x, "nuc")) <= allowed * np.linalg.norm(x, "nuc")
    hermitian = p.T @ x
    assert np.abs(hermitian - hermitian.T).max() <= allowed * np.linalg.norm(x)
    assert np.linalg.eigvalsh(hermitian).min() >= -allowed * np.linalg.norm(x)


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 5), (5, 2)])
def test_polar_of_zero_is_zero(shape: tuple[int, int]) -> None:
    assert np.all(polar(np.zeros(shape)) == 0)
    assert np.all(damped_polar(np.zeros(shape), 0.0) == 0)


def test_polar_of_a_row_and_of_a_column_is_the_unit_vector() -> None:
    x = np.array([[3.0, 0.0, -4.0]])
    np.testing.assert_allclose(polar(x), x / 5, rtol=4 * EPS)
    np.testing.assert_allclose(polar(x.T), x.T / 5, rtol=4 * EPS)


@pytest.mark.parametrize("scale", [1e-300, 1e-6, 1.0, 1e6, 1e150])
def test_the_rank_cutoff_is_relative(scale: float) -> None:
    x, expected = with_spectrum((5, 4), [1.0, 0.5, 0.0, 0.0])
    assert np.abs(polar(scale * x) - expected).max() <= rounding((5, 4), [1.0, 0.5])


@pytest.mark.parametrize("size", [2, 64])
def test_a_singular_value_above_the_cutoff_counts_and_one_below_does_not(size: int) -> None:
    cutoff = 32 * size**0.5 * EPS
    for sigma, counts in ((2 * cutoff, 1.0), (cutoff / 2, 0.0)):
        x = np.zeros((2, size))
        x[0, 0], x[1, 1] = 1.0, sigma
        expected = np.zeros_like(x)
        expected[0, 0], expected[1, 1] = 1.0, counts
        np.testing.assert_array_equal(polar(x), expected)


def test_the_cutoff_spares_small_singular_values_of_a_large_float32_matrix() -> None:
    x = np.zeros((20_000, 2), dtype=np.float32)
    x[0, 0], x[1, 1] = 1.0, 1e-3
    np.testing.assert_allclose(np.diag(polar(x)), 1.0, rtol=1e-5)


def test_spectral_map_never_evaluates_its_function_at_zero() -> None:
    seen = []

    def inverse(sigma: np.ndarray) -> np.ndarray:
        seen.append(sigma)
        return 1 / sigma

    x = np.diag([2.0, 0.0])
    np.testing.assert_array_equal(spectral_map(x, inverse), np.diag([0.5, 0.0]))
    assert np.all(seen[0] > 0)


def test_damped_polar_is_the_damped_inverse_root() -> None:
    x, eps = np.random.default_rng(0).normal(size=(5, 3)), 0.1
    values, vectors = np.linalg.eigh(x.T @ x + eps * np.eye(3))
    np.testing.assert_allclose(damped_polar(x, eps), x @ (vectors / np.sqrt(values)) @ vectors.T, atol=1e3 * EPS)
    values, vectors = np.linalg.eigh(x @ x.T + eps * np.eye(5))
    np.testing.assert_allclose(damped_polar(x, eps), (vectors / np.sqrt(values)) @ vectors.T @ x, atol=1e3 * EPS)


# Polynomials: ranges of singular values after all steps ------------------------------------------------------------


def value_range(schedule: Schedule, low: float) -> tuple[float, float]:
    values = evaluate(schedule, np.geomspace(low, 1.0, 200_001))
    return float(values.min()), float(values.max())


@pytest.mark.parametrize(
    ("schedule", "low", "expected"),
    [
        ((JORDAN,) * 5, 1e-2, (0.682, 1.134)),
        ((JORDAN,) * 5, 1e-3, (0.471, 1.202)),
        (polar_express(5, safety=1.05), 1e-3, (0.7290, 1.1236)),
        (polar_express(5, safety=1.01), 1e-3, (0.8462, 1.1236)),
        (POLAR_EXPRESS_2E2, 1e-3, (0.8589, 1.1411)),
    ],
    ids=["jordan 1e-2", "jordan 1e-3", "polar express 1.05", "polar express 1.01", "polar express 2e-2"],
)
def test_singular_value_ranges(schedule: Schedule, low: float, expected: tuple[float, float]) -> None:
    # Quoted to the digits shown: half a unit of the last one.
    digits = max(len(str(each).split(".")[1]) for each in expected)
    assert value_range(schedule, low) == pytest.approx(expected, abs=0.5 * 10**-digits)


def test_slope_of_jordans_quintic_at_zero() -> None:
    assert JORDAN[0] ** 5 == pytest.approx(484.876, abs=5e-4)


def test_eight_polar_express_steps_converge() -> None:
    low, high = value_range(polar_express(8, safety=1.05), 1e-3)
    assert low == pytest.approx(1 - 2.1e-8, abs=5e-10)
    assert high == pytest.approx(1.0, abs=1e-10)


def test_polar_express_repeats_its_last_quintic_unscaled() -> None:
    schedule = polar_express(10, safety=1.05)
    assert len(schedule) == 10
    assert schedule[7:] == ((1.875, -1.25, 0.375),) * 3
    assert schedule[0][0] == pytest.approx(8.28721201814563 / 1.05)


def test_other_families_are_what_they_say() -> None:
    assert (len(POLAR_EXPRESS_2E2), len(YOU), len(DEEPSEEK_V4)) == (5, 5, 10)
    assert DEEPSEEK_V4[:8] == (JORDAN,) * 8
    low, high = value_range(DEEPSEEK_V4, 1e-2)
    assert 1 - low < 0.05
    assert high - 1 < 0.05
    assert evaluate((CUBIC,) * 20, 0.1) == pytest.approx(1.0, abs=4 * EPS)


def test_aol_without_its_rescaling_reverses_large_singular_values() -> None:
    assert evaluate(AOL, 0.85) > 0.5
    assert evaluate(AOL, 1.0) < -0.5


# Iterations --------------------------------------------------------------------------------------------------------

METHODS = sorted(ORTHOGONALIZERS)


@pytest.mark.parametrize("name", [each for each in METHODS if isinstance(ORTHOGONALIZERS[each], NewtonSchulz)])
@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)], ids=str)
def test_a_method_applies_its_polynomial_to_every_singular_value(name: str, shape: tuple[int, int]) -> None:
    method = ORTHOGONALIZERS[name]
    assert isinstance(method, NewtonSchulz)
    sigma = [1.0, 0.5, 0.01]
    x, _ = with_spectrum(shape, sigma)
    if method.normalizer == "frobenius":
        norm = method.margin * np.linalg.norm(x)
        np.testing.assert_allclose(
            method.normalize(x),
            x / (norm + method.eps if method.floor == "add" else max(norm, method.eps)),
            rtol=sum(shape) * EPS,
        )
    u, s, vt = np.linalg.svd(method.normalize(x), full_matrices=False)
    assert s.max() <= 1 + sum(shape) * EPS
    expected = (u * evaluate(method.schedule, s)) @ vt
    slope = np.prod([a for a, _, _ in method.schedule])
    assert np.abs(method(x) - expected).max() <= 8 * sum(shape) * EPS * slope


@pytest.mark.parametrize("name", METHODS)
def test_methods_keep_the_range_or_say_that_they_do_not(name: str) -> None:
    method = ORTHOGONALIZERS[name]
    x = np.random.default_rng(3).normal(size=(4, 6))
    x -= x.mean(axis=0)
    if not isinstance(method, QDWH):  # which lifts what rounding leaves in the missing direction
        assert (np.abs(method(x).mean(axis=0)).max() <= 1e6 * EPS) == method.keeps_range


def test_aol_divides_rows_or_columns_so_that_the_spectral_norm_is_at_most_one() -> None:
    x = np.random.default_rng(4).normal(size=(3, 5))
    gram = np.abs(x @ x.T)
    expected = np.stack([row / math.sqrt(sum(gram[i])) for i, row in enumerate(x)])
    np.testing.assert_allclose(aol_normalize(x, 1.0, 0.0, "clamp"), expected, rtol=16 * EPS)
    np.testing.assert_allclose(aol_normalize(x.T, 1.0, 0.0, "clamp"), expected.T, rtol=16 * EPS)
    # Gershgorin: diag(s)^{-1/2} |G| diag(s)^{-1/2} is similar to a matrix with row sums one.
    assert np.linalg.norm(expected, 2) <= 1 + 16 * EPS


@pytest.mark.parametrize("shape", [(24, 16), (16, 24), (24, 24)], ids=str)
def test_gram_newton_schulz_is_newton_schulz_to_thirteen_digits(shape: tuple[int, int]) -> None:
    gram = get_orthogonalizer("gram_newton_schulz")
    assert isinstance(gram, NewtonSchulz)
    # Both magnify rounding by their slope at the smallest singular value; below a tenth of the norm it is 2e-13.
    x, _ = with_spectrum(shape, list(np.geomspace(0.5, 1.0, 16)))
    np.testing.assert_allclose(gram(x), dataclasses.replace(gram, gram_restarts=None)(x), rtol=0, atol=1e-13)


@settings(max_examples=25, deadline=None)
@given(shape=shapes, restarts=st.sets(st.integers(0, 4)), seed=st.integers(0, 10**6))
def test_the_gram_form_is_the_same_polynomial(shape: tuple[int, int], restarts: set[int], seed: int) -> None:
    x = frobenius_normalize(np.random.default_rng(seed).normal(size=shape), 1.0, 1e-7, "add")
    schedule = polar_express(5, safety=1.05)
    # The Gram form squares: without restarts its rounding is magnified by the square of the slope.
    allowed = 8 * sum(shape) * EPS * np.prod([a for a, _, _ in schedule]) ** 2
    assert np.abs(gram_newton_schulz(x, schedule, restarts) - newton_schulz(x, schedule)).max() <= allowed


def test_no_steps_do_nothing() -> None:
    x = np.random.default_rng(0).normal(size=(3, 2))
    np.testing.assert_array_equal(newton_schulz(x, ()), x)
    np.testing.assert_array_equal(gram_newton_schulz(x, (), ()), x)


@pytest.mark.parametrize("condition", [1.0, 1e3, 1e9])
@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (3, 3)], ids=str)
def test_qdwh_converges_to_the_polar_factor(shape: tuple[int, int], condition: float) -> None:
    sigma = [1.0, condition**-0.5, 1 / condition]
    x, expected = with_spectrum(shape, sigma)
    assert np.abs(QDWH()(x) - expected).max() <= rounding(shape, sigma)


def test_six_halley_iterations_are_enough_in_float64() -> None:
    assert len(halley_weights(EPS, 100)) == 6
    assert len(halley_weights(2.0**-23, 100)) == 4
    assert QDWH(6).bi_orthogonal
    assert not QDWH(5).bi_orthogonal


def test_two_halley_iterations_are_not_converged_and_see_the_basis() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 4))
    q, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    sigma = np.linalg.svd(QDWH(2)(x), compute_uv=False)
    assert sigma.max() < 0.9
    assert np.abs(QDWH(2)(x @ q.T) - QDWH(2)(x) @ q.T).max() > 1e-3
    assert np.abs(QDWH(6)(x @ q.T) - QDWH(6)(x) @ q.T).max() <= rounding((5, 4), [np.linalg.cond(x), 1.0])


@pytest.mark.parametrize("name", METHODS)
def test_methods_treat_zero_rows_and_batches_as_they_come(name: str) -> None:
    method = ORTHOGONALIZERS[name]
    stack = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    batched = method(stack)
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(batched[index], method(stack[index]), atol=1e6 * EPS)
    assert np.all(method(np.zeros((3, 2))) == 0)
    assert np.all(without_eps(method)(np.zeros((3, 2))) == 0)
    row = np.array([[3.0, 4.0]])
    sigma = np.sum(method(row) * row) / 5
    np.testing.assert_allclose(method(row), sigma * row / 5, atol=8 * EPS)
    assert (sigma < 0) == (name == "aol")


@pytest.mark.parametrize("name", METHODS)
def test_methods_agree_between_numpy_and_torch(name: str) -> None:
    x = np.random.default_rng(1).normal(size=(4, 6))
    np.testing.assert_allclose(ORTHOGONALIZERS[name](torch.from_numpy(x)), ORTHOGONALIZERS[name](x), atol=1e6 * EPS)


def test_methods_are_values_with_names() -> None:
    assert get_orthogonalizer("exact") == Exact() == get_orthogonalizer(Exact())
    with pytest.raises(ValueError, match=re.escape("unknown orthogonalizer 'svd'; known: aol, cans, cubic")):
        get_orthogonalizer("svd")


# Coupled inverse roots ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("shape", [(5, 3), (3, 5)], ids=str)
def test_the_coupled_root_is_the_damped_map_times_the_polynomial(side: str, shape: tuple[int, int]) -> None:
    # sigma -> sigma / sqrt(sigma^2 + eps) * p_5(sqrt((sigma^2 + eps) / alpha)), in exact arithmetic.
    sigma, eps = np.array([1.0, 0.5, 0.1]), 1e-3
    x, _ = with_spectrum(shape, list(sigma))
    size = shape[1] if side == "right" else shape[0]
    damped = sigma**2 + eps
    alpha = 1.02 * np.sqrt(np.sum(damped**2) + (size - 3) * eps**2) + eps
    schedule = polar_express(5, safety=1.05)
    u, _, vt = np.linalg.svd(x, full_matrices=False)
    expected = (u * (sigma / np.sqrt(damped) * evaluate(schedule, np.sqrt(damped / alpha)))) @ vt
    got = spectral_factor(x, side=side, backend="polar_express", eps=eps, steps=5)
    slope = np.prod([a for a, _, _ in schedule])
    assert np.abs(got - expected).max() <= 8 * sum(shape) * EPS * slope**2


@pytest.mark.parametrize("method", ["polar_express", "newton_schulz"])
def test_coupled_roots_converge_with_many_steps(method: str) -> None:
    x, _ = with_spectrum((6, 4), [1.0, 0.9, 0.5, 0.2])
    gram, eps = x.T @ x, 1e-8
    values, vectors = np.linalg.eigh(gram + eps * np.eye(4))
    root = coupled_inverse_root(gram, eps=eps, method=method, steps=20)
    # The iteration is only conditionally stable: rounding grows by about the condition number of the Gram matrix (25).
    assert np.abs(root - (vectors / np.sqrt(values)) @ vectors.T).max() <= 1e3 * 25 * EPS * values.min() ** -0.5


def test_five_cubic_steps_are_far_from_the_root_of_a_small_eigenvalue() -> None:
    gram = np.diag([1.0, 1e-6])
    root = coupled_inverse_root(gram, eps=0.0, method="newton_schulz", steps=5)
    assert root[1, 1] == pytest.approx(1.5**5, rel=1e-2)
    assert root[1, 1] < 0.01 * 1e3
