"""OLion against the formula of the paper, and what the sign does to size and symmetry."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import get_rule
from reference.orthogonalizers import NewtonSchulz
from reference.trajectory import trajectory

EPS = float(np.finfo(np.float64).eps)
TIE = 1e-9
"""Entries of the polar factor below this have a sign that rounding may choose, far above the rounding itself."""


def gradients(shape: tuple[int, ...], steps: int = 5, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    base = rng.normal(size=shape)
    return [base + 0.3 * rng.normal(size=shape) for _ in range(steps)]


def quintics(x: np.ndarray) -> np.ndarray:
    x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    return x


@pytest.mark.parametrize("shape", [(5, 4), (4, 5), (4, 4)], ids=str)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_agrees_with_the_paper(shape: tuple[int, int], decay: float) -> None:
    m, n = shape
    b1, b2, lr = 0.95, 0.98, 0.02
    grads, weight = gradients(shape), np.random.default_rng(1).normal(size=shape)
    momentum, expected = np.zeros(shape), weight.copy()
    for grad in grads:
        momentum = b2 * momentum + (1 - b2) * grad
        factor = quintics((1 - b1) * grad + b1 * momentum)  # the updated momentum
        assert np.abs(factor).min() > TIE
        gamma = 0.2 * math.sqrt(m * n) / math.sqrt(np.count_nonzero(factor))
        expected = (1 - lr * decay) * expected - lr * gamma * np.sign(factor)
    got, state = trajectory(get_rule("olion", weight_decay=decay, eps=0.0), weight, grads)
    np.testing.assert_allclose(weight + sum(got), expected, atol=64 * EPS * len(grads))
    np.testing.assert_allclose(state["momentum"], momentum, atol=8 * EPS)


@settings(max_examples=25, deadline=None)
@given(shape=st.sampled_from([(5, 3), (3, 5), (1, 4), (4, 4)]), seed=st.integers(0, 99), zeros=st.booleans())
def test_the_root_mean_square_is_a_fifth(shape: tuple[int, int], seed: int, zeros: bool) -> None:
    grads = gradients(shape, steps=2, seed=seed)
    if zeros:
        for grad in grads:
            grad[:, 0] = 0
    for moved in trajectory(get_rule("olion", lr=1.0, eps=0.0), np.zeros(shape), grads)[0]:
        assert math.sqrt((moved**2).mean()) == pytest.approx(0.2, rel=16 * EPS)
        entries = np.abs(moved[moved != 0])
        np.testing.assert_allclose(entries, 0.2 * math.sqrt(moved.size / entries.size), rtol=16 * EPS)
        assert (entries.size < moved.size) == zeros


def test_eps_is_that_of_the_source() -> None:
    # s * sqrt(min) / (||s|| + 1e-8) * 0.2 sqrt(max): a relative change of 1e-8 / sqrt(20) on 5 x 4.
    moved = trajectory(get_rule("olion", lr=1.0), np.zeros((5, 4)), gradients((5, 4)))[0]
    np.testing.assert_allclose(np.abs(moved), 0.2 / (1 + 1e-8 / math.sqrt(20)), rtol=32 * EPS)


def test_the_orthogonalisation_is_not_left_out() -> None:
    # One file of the public code takes the sign of the momentum.
    grads = gradients((5, 4))
    moved = trajectory(get_rule("olion"), np.zeros((5, 4)), grads)[0]
    plain = trajectory(get_rule("olion", orthogonalizer=NewtonSchulz(())), np.zeros((5, 4)), grads)[0]
    assert any((np.sign(a) != np.sign(b)).any() for a, b in zip(moved, plain, strict=True))


def test_it_looks_ahead_with_the_momentum_after_its_update() -> None:
    # Lion would use the momentum before it: (1 - b1) g only, at the first step the same direction, then not.
    grads = gradients((5, 4))
    rule = get_rule("olion", betas=(0.5, 0.9), orthogonalizer="exact", lr=1.0)
    first, second = trajectory(rule, np.zeros((5, 4)), grads[:2])[0]
    before = 0.1 * grads[0]
    after = 0.9 * before + 0.1 * grads[1]
    ahead = scipy.linalg.polar(0.5 * grads[1] + 0.5 * after)[0]
    np.testing.assert_array_equal(np.sign(second), -np.sign(ahead))
    np.testing.assert_array_equal(np.sign(first), -np.sign(scipy.linalg.polar(grads[0])[0]))


def test_single_entries_may_not_be_permuted() -> None:
    # B_m x B_n is all of the group: the polar factor sees rows and columns, though the sign does not.
    grad = gradients((4, 4))[0]
    swapped = grad.copy()
    swapped[0, 0], swapped[1, 1] = grad[1, 1], grad[0, 0]
    rule = get_rule("olion", lr=1.0)
    moved, other = (trajectory(rule, np.zeros((4, 4)), [each])[0][0] for each in (grad, swapped))
    wanted = moved.copy()
    wanted[0, 0], wanted[1, 1] = moved[1, 1], moved[0, 0]
    assert np.abs(other - wanted).max() > 0.1


def test_symmetry_and_traits() -> None:
    rule = get_rule("olion")
    assert rule.symmetry == "SPerm(rows) x SPerm(cols)"
    assert rule.traits.degree == 0
    assert not rule.traits.horizontal
    with pytest.raises(ValueError, match="rule 'olion': betas must lie in"):
        get_rule("olion", betas=(0.9, 1.0))
