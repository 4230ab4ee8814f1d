"""MuonEq against loops over rows and columns, and what equilibration does and does not change."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import get_rule
from reference.orthogonalizers import ORTHOGONALIZERS, NewtonSchulz, without_eps
from reference.trajectory import trajectory

EPS = float(np.finfo(np.float64).eps)
JORDAN_SLOPE = 3.4445**5
"""What five steps of the quintic multiply a rounding error of the smallest singular values by."""


def gradients(shape: tuple[int, int], steps: int = 5, seed: int = 0) -> list[np.ndarray]:
    """Near one well-conditioned matrix, so that no momentum cancels."""
    rng = np.random.default_rng(seed)
    u, _, vt = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    base = (u * np.linspace(1.0, 2.0, min(shape))) @ vt
    return [base + 0.1 * rng.normal(size=shape) for _ in range(steps)]


def textbook(hyper: dict[str, Any], weight: np.ndarray, grads: list[np.ndarray]) -> np.ndarray:
    """The public code line by line, one row and one column at a time, with an exact or a quintic polar factor."""
    lr, decay, mu = hyper.get("lr", 1e-3), hyper.get("weight_decay", 0.1), hyper.get("momentum", 0.95)
    m, n = weight.shape
    buffer = np.zeros((m, n))
    for step, grad in enumerate(grads, start=1):
        if hyper.get("theory_momentum"):
            mu = 1 - 1 / math.sqrt(step)
        gain = 1 - mu if hyper.get("accumulation") == "ema" else 1.0
        buffer = mu * buffer + gain * grad
        update = gain * grad + mu * buffer if hyper.get("nesterov", True) else buffer
        mode = hyper.get("mode", "R")
        if mode == "RC" and hyper.get("phase") is not None and step >= hyper["phase"]:
            mode = "R"

        def factor(entries: np.ndarray) -> float:
            statistic = max(abs(entries)) if hyper.get("statistic") == "inf" else sum(entries**2)
            scale = (statistic + hyper.get("eps", 1e-8)) ** hyper.get("exponent", -0.5)
            clip = hyper.get("clip", math.inf)
            return min(max(scale, 1 / clip), clip)

        level = update.copy()
        for i in range(m):
            for j in range(n):
                level[i, j] *= factor(update[i]) if "R" in mode else 1.0
                level[i, j] *= factor(update[:, j]) if "C" in mode else 1.0
        weight = (1 - lr * decay) * weight - 0.2 * math.sqrt(max(m, n)) * lr * polar(level, hyper)
    return weight


def polar(x: np.ndarray, hyper: dict[str, Any]) -> np.ndarray:
    method = hyper.get("orthogonalizer", "jordan")
    if method == "exact":
        return scipy.linalg.polar(x)[0] if x.shape[0] >= x.shape[1] else scipy.linalg.polar(x.T)[0].T
    a, b, c = 3.4445, -4.7750, 2.0315
    if method == "jordan_spc":
        x = x * (np.linalg.norm(x @ x.T @ x @ x.T) + 1e-7) ** -0.25
    else:
        x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + b * gram @ x + c * gram @ gram @ x
    return x


CONFIGS: list[dict[str, Any]] = [
    {},
    {"mode": "C", "nesterov": False},
    {"mode": "RC", "accumulation": "ema"},
    {"mode": "RC", "phase": 3},
    {"mode": "RC", "phase": 1, "momentum": 0.0},
    {"exponent": -0.25, "mode": "RC", "orthogonalizer": "exact"},
    {"clip": 4.0, "lr": 0.1},
    {"statistic": "inf", "mode": "RC"},
    {"orthogonalizer": "jordan_spc", "weight_decay": 0.0},
    {"theory_momentum": True, "accumulation": "ema", "nesterov": False, "orthogonalizer": "exact"},
]


@pytest.mark.parametrize("hyper", CONFIGS, ids=str)
@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)], ids=str)
def test_agrees_with_loops(hyper: dict[str, Any], shape: tuple[int, int]) -> None:
    grads, weight = gradients(shape), np.random.default_rng(1).normal(size=shape)
    got, _ = trajectory(get_rule("muoneq", **hyper), weight, grads)
    # Backward errors of (m + n) eps per step, magnified by the iteration; updates have entries of at most lr.
    allowed = 8 * 8 * EPS * len(grads) * JORDAN_SLOPE
    np.testing.assert_allclose(weight + sum(got), textbook(hyper, weight, grads), atol=allowed)


def test_the_configurations_differ_from_one_another() -> None:
    grads, weight = gradients((5, 3)), np.zeros((5, 3))
    ends = [textbook({**hyper, "lr": 0.1, "weight_decay": 0.0}, weight, grads) for hyper in CONFIGS]
    gaps = [np.abs(a - b).max() for i, a in enumerate(ends) for b in ends[:i]]
    assert min(gaps) > 1e-3


def displacements(rule: Any, grads: list[np.ndarray]) -> np.ndarray:
    return np.stack(trajectory(rule, np.zeros_like(grads[0]), grads)[0])


scales = st.lists(st.floats(0.01, 100), min_size=5, max_size=5)


@settings(max_examples=25, deadline=None)
@given(factors=scales, shape=st.sampled_from([(5, 3), (5, 7)]))
def test_rows_may_be_rescaled_in_mode_r(factors: list[float], shape: tuple[int, int]) -> None:
    rule = get_rule("muoneq", eps=0.0, weight_decay=0.0, lr=1.0, orthogonalizer="exact")
    grads = gradients(shape)
    scaled = [np.asarray(factors)[:, None] * grad for grad in grads]
    conditioning = max(np.linalg.cond(grad / np.linalg.norm(grad, axis=1, keepdims=True)) for grad in grads)
    allowed = 0.2 * math.sqrt(max(shape)) * 32 * sum(shape) * EPS * conditioning
    np.testing.assert_allclose(displacements(rule, scaled), displacements(rule, grads), atol=allowed)
    columns = [grad.T for grad in scaled]
    mirrored = displacements(replace(rule, mode="C"), columns)
    np.testing.assert_allclose(mirrored.transpose(0, 2, 1), displacements(rule, scaled), atol=allowed)


@pytest.mark.parametrize("changes", [{"mode": "RC"}, {"exponent": -0.25}, {"clip": 2.0}], ids=str)
def test_rows_may_not_be_rescaled_otherwise(changes: dict[str, Any]) -> None:
    rule = replace(get_rule("muoneq", eps=0.0, lr=1.0, orthogonalizer="exact"), **changes)
    grads = gradients((5, 3))
    scaled = [np.geomspace(0.1, 10, 5)[:, None] * grad for grad in grads]
    assert np.abs(displacements(rule, scaled) - displacements(rule, grads)).max() > 1e-2


def test_mode_r_is_row_norm_followed_by_the_polar_factor() -> None:
    # The hybrid of arXiv 2605.18106 in the order row_then_polar: another momentum, the same map.
    grads = gradients((5, 3))
    exact = {"orthogonalizer": "exact", "accumulation": "ema", "nesterov": False, "weight_decay": 0.0, "eps": 0.0}
    level = displacements(get_rule("muoneq", lr=1.0, **exact), grads) / (0.2 * math.sqrt(5))
    hybrid = displacements(get_rule("hybrid", order="row_then_polar", alpha=0.0, eps=0.0, lr=1.0), grads)
    np.testing.assert_allclose(level, hybrid, atol=1e3 * EPS)


def test_a_zero_row_and_a_zero_column_stay_zero() -> None:
    grads = gradients((5, 4))
    for grad in grads:
        grad[1], grad[:, 2] = 0, 0
    for eps in (0.0, 1e-8):
        moved = displacements(get_rule("muoneq", mode="RC", eps=eps, weight_decay=0.0), grads)
        assert np.isfinite(moved).all()
        assert not moved[:, 1].any()
        assert not moved[:, :, 2].any()


@settings(max_examples=25, deadline=None)
@given(shape=st.sampled_from([(5, 3), (3, 5), (4, 4), (1, 6)]), seed=st.integers(0, 99), power=st.integers(-40, 40))
def test_the_spc_normaliser_is_the_schatten_8_norm(shape: tuple[int, int], seed: int, power: int) -> None:
    x = 2.0**power * np.random.default_rng(seed).normal(size=shape)
    start = NewtonSchulz((), eps=0.0, normalizer="schatten8")(x)
    sigma = np.linalg.svd(x, compute_uv=False)
    schatten = np.linalg.norm(sigma, 8)
    np.testing.assert_allclose(start * schatten, x, rtol=32 * EPS)
    # Between the spectral and the Frobenius norm: singular values start at most at 1, nearer to it than usual.
    assert sigma[0] * (1 - 32 * EPS) <= schatten <= np.linalg.norm(x) * (1 + 32 * EPS)


def test_spc_gives_the_same_direction_when_the_iteration_converges() -> None:
    x = gradients((5, 3))[0]
    cubic = NewtonSchulz(((1.5, -0.5, 0.0),) * 40, normalizer="schatten8")
    np.testing.assert_allclose(cubic(x), scipy.linalg.polar(x)[0], atol=64 * EPS)
    assert np.abs(ORTHOGONALIZERS["jordan_spc"](x) - ORTHOGONALIZERS["jordan"](x)).max() > 1e-3
    assert without_eps(cubic) == replace(cubic, eps=0.0)


def test_the_phase_starts_at_its_own_step() -> None:
    grads = gradients((5, 3))
    switched, rows, both = (
        displacements(get_rule("muoneq", weight_decay=0.0, **hyper), grads)
        for hyper in ({"mode": "RC", "phase": 3}, {"mode": "R"}, {"mode": "RC"})
    )
    np.testing.assert_array_equal(switched[:2], both[:2])
    np.testing.assert_array_equal(switched[2:], rows[2:])


def test_theory_weights_forget_nothing_at_once_and_everything_at_the_start() -> None:
    # b_1 = 0: the first buffer is the gradient; weights are positive and sum to one ever after.
    rule = get_rule("muoneq", theory_momentum=True, accumulation="ema", nesterov=False)
    _, state = trajectory(rule, np.zeros((3, 3)), [np.ones((3, 3))] * 5)
    np.testing.assert_allclose(state["momentum"], 1.0, rtol=8 * EPS)


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"mode": "row"}, "mode must be one of R, C, RC, got 'row'"),
        ({"phase": 3}, "phase ends mode 'RC', but the mode is 'R'"),
        ({"mode": "RC", "phase": 0}, "phase must be an integer >= 1, got 0"),
        ({"clip": 0.5}, "clip must be at least 1, got 0.5"),
        ({"exponent": 0.5}, "exponent must be finite and <= 0, got 0.5"),
        ({"eps": -1.0}, "eps must be finite and >= 0"),
        ({"statistic": "l1"}, "statistic must be one of l2, inf, got 'l1'"),
    ],
)
def test_values_out_of_range_are_refused(hyper: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"rule 'muoneq': {message}"):
        get_rule("muoneq", **hyper)


@pytest.mark.parametrize(
    ("hyper", "symmetry", "degree", "horizontal"),
    [
        ({}, "SPerm(rows) x O(cols)", 0, False),
        ({"mode": "C", "weight_decay": 0.0}, "O(rows) x SPerm(cols)", 0, True),
        ({"mode": "RC", "phase": 2}, "SPerm(rows) x SPerm(cols)", 0, False),
        ({"statistic": "inf"}, "SPerm(rows) x SPerm(cols)", 0, False),
        ({"clip": 2.0, "weight_decay": 0.0}, "SPerm(rows) x O(cols)", None, False),
        ({"mode": "C", "orthogonalizer": "qdwh_2"}, "SPerm(rows) x SPerm(cols)", 0, False),
    ],
    ids=str,
)
def test_symmetry_and_traits(hyper: dict[str, Any], symmetry: str, degree: int | None, horizontal: bool) -> None:
    rule = get_rule("muoneq", **hyper)
    assert rule.symmetry == symmetry
    assert rule.traits.degree == degree
    assert rule.traits.horizontal == horizontal
