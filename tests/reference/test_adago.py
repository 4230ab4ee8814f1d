"""AdaGO against the formula, its step sizes, and where its degree goes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg

from reference import get_rule
from reference.rule import INVARIANT
from reference.trajectory import trajectory

EPS = float(np.finfo(np.float64).eps)


def gradients(shape: tuple[int, ...], steps: int = 6, seed: int = 0) -> list[np.ndarray]:
    """Well-conditioned, and of norms between 0.4 and 4: some above, some below a bound of 1."""
    rng = np.random.default_rng(seed)
    u, _, vt = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    base = (u * np.linspace(1.0, 2.0, min(shape[-2:]))) @ vt
    return [scale * (base + 0.1 * rng.normal(size=shape)) for scale in np.geomspace(0.2, 1.0, steps)]


def polar(x: np.ndarray) -> np.ndarray:
    return scipy.linalg.polar(x)[0] if x.shape[0] >= x.shape[1] else scipy.linalg.polar(x.T)[0].T


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)], ids=str)
@pytest.mark.parametrize(("gamma", "v0", "eps"), [(1.0, 1.0, 1e-6), (math.inf, 0.0, 0.0), (0.5, 0.1, 0.03)])
def test_agrees_with_the_paper(shape: tuple[int, int], gamma: float, v0: float, eps: float) -> None:
    eta, mu, decay = 0.05, 0.95, 0.1
    grads, weight = gradients(shape), np.random.default_rng(1).normal(size=shape)
    momentum, square, expected, floored = np.zeros(shape), v0**2, weight.copy(), False
    for grad in grads:
        norm = math.sqrt(sum(entry**2 for entry in grad.flat))
        momentum = mu * momentum + (1 - mu) * grad
        square += min(norm**2, gamma**2)
        step = eta * min(norm, gamma) / math.sqrt(square)
        floored |= step < eps
        expected = (1 - eta * decay) * expected - max(eps, step) * polar(momentum)
    hyper = {"lr": eta, "gamma": gamma, "v0": v0, "eps": eps, "weight_decay": decay, "orthogonalizer": "exact"}
    got, state = trajectory(get_rule("adago", **hyper), weight, grads)
    np.testing.assert_allclose(weight + sum(got), expected, atol=1e3 * EPS)
    np.testing.assert_allclose(state["square"], square, rtol=64 * EPS)
    assert floored == (eps == 0.03)


def test_the_floor_is_of_the_step_and_not_of_the_learning_rate() -> None:
    shape = (4, 3)
    # The norm of a step along a polar factor of rank 3 is sqrt(3) times its length.
    for lr in (1e-3, 1e-5, 1e-9):
        rule = get_rule("adago", lr=lr, eps=1e-4, orthogonalizer="exact", gamma=1.0, v0=1.0)
        for moved in trajectory(rule, np.zeros(shape), gradients(shape))[0]:
            length = np.linalg.norm(moved) / math.sqrt(3)
            assert length == pytest.approx(1e-4, rel=32 * EPS) if lr <= 1e-5 else length >= 1e-4 * (1 - 32 * EPS)


def test_at_rate_zero_nothing_moves() -> None:
    moved = trajectory(get_rule("adago", lr=0.0, eps=1e-2), np.ones((3, 3)), gradients((3, 3)))[0]
    assert not np.any(moved)


def test_step_sizes_fall_like_adagrad_norm() -> None:
    grad = gradients((4, 3))[-1]
    rule = get_rule("adago", lr=1.0, gamma=math.inf, v0=0.0, eps=0.0, orthogonalizer="exact")
    lengths = [np.linalg.norm(moved, 2) for moved in trajectory(rule, np.zeros((4, 3)), [grad] * 6)[0]]
    np.testing.assert_allclose(lengths, [1 / math.sqrt(t) for t in range(1, 7)], rtol=64 * EPS)


def test_the_accumulator_is_under_a_root() -> None:
    # pytorch_optimizer 4.1 divides by the sum of squares itself: at a constant norm its steps fall like 1 / t.
    grad = gradients((4, 3))[-1]
    rule = get_rule("adago", lr=1.0, eps=0.0, orthogonalizer="exact", gamma=1.0, v0=1.0)
    lengths = [np.linalg.norm(moved, 2) for moved in trajectory(rule, np.zeros((4, 3)), [grad] * 4)[0]]
    np.testing.assert_allclose(lengths, [1 / math.sqrt(1 + t) for t in range(1, 5)], rtol=64 * EPS)


def test_matrices_of_a_stack_have_step_sizes_of_their_own() -> None:
    small, large = gradients((4, 3), seed=1), gradients((4, 3), seed=2)
    stack = [np.stack([a, 10 * b]) for a, b in zip(small, large, strict=True)]
    moved = trajectory(get_rule("adago"), np.zeros((2, 4, 3)), stack)[0]
    alone = trajectory(get_rule("adago"), np.zeros((4, 3)), small)[0]
    slope = 3.4445**5
    np.testing.assert_allclose([each[0] for each in moved], alone, atol=64 * EPS * slope)


@pytest.mark.parametrize(("hyper", "degree"), [({}, None), ({"gamma": math.inf}, None), ({"v0": 0.0}, None)], ids=str)
def test_a_bound_or_a_start_value_leaves_no_degree(hyper: dict[str, float], degree: int | None) -> None:
    assert get_rule("adago", **hyper).traits.degree == degree
    assert get_rule("adago", gamma=math.inf, v0=0.0).traits.degree == 0


def test_symmetry_state_and_refusals() -> None:
    rule = get_rule("adago")
    assert rule.symmetry == "O(rows) x O(cols)"
    assert rule.traits.horizontal
    assert rule.state_actions["square"] == INVARIANT
    for hyper, message in (({"gamma": 0.0}, "gamma must be > 0"), ({"v0": -1.0}, "v0 must be finite and >= 0")):
        with pytest.raises(ValueError, match=f"rule 'adago': {message}"):
            get_rule("adago", **hyper)
