"""Rules with Gram matrices, bases, factored or entrywise statistics, and trust ratios, against loops and scipy.

Every textbook below steps one matrix after another, entry by entry where the rule is entrywise, with powers of matrices
from ``scipy.linalg``. What is typed there is the formula of the source, not of the rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reference import Rule, get_rule
from reference.trajectory import trajectory
from reference.transforms.polar import polar

Matrix = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)
STEPS = 5


def problem(shape: tuple[int, ...], seed: int = 0, steps: int = STEPS) -> tuple[Matrix, list[Matrix]]:
    """A weight and gradients near one matrix with singular values in [1, 2]."""
    rng = np.random.default_rng(seed)
    u, _, vt = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    base = (u * np.linspace(1.0, 2.0, u.shape[-1])) @ vt
    return rng.normal(size=shape), [base + 0.2 * rng.normal(size=shape) for _ in range(steps)]


def loop(textbook: Callable[[Matrix], Iterator[Any]], weight: Matrix, grads: list[Matrix]) -> list[Matrix]:
    """Displacements of a textbook, a generator that takes ``(gradient, weight)`` and yields the next weight."""
    steps, moves = textbook(weight), []
    next(steps)
    for grad in grads:
        new = steps.send((grad, weight))
        moves.append(new - weight)
        weight = new
    return moves


def agree(rule: Rule, textbook: Callable[[Matrix], Iterator[Any]], condition: float = 1.0, **kind: Any) -> None:
    """Rule and textbook move alike, to rounding times ``condition`` of the method, on all shapes."""
    for shape in kind.get("shapes", ((5, 3), (3, 5), (4, 4), (1, 3))):
        weight, grads = problem(shape, steps=kind.get("steps", STEPS))
        found, _ = trajectory(rule, weight, grads)
        expected = loop(textbook, weight, grads)
        scale = max(np.abs(each).max() for each in expected)
        # A displacement is read off two weights of size up to 4, which costs their rounding too.
        allowed = 64 * sum(shape) * EPS * (condition * scale + 4)
        assert max(np.abs(a - b).max() for a, b in zip(found, expected, strict=True)) <= allowed, shape
        assert scale > 0


def gram_condition(exponent: float, steps: int = STEPS) -> float:
    """The inverse root of a Gram matrix of gradients with singular values in [0.5, 3] magnifies by at most this; the
    singular larger Gram matrices of a few gradients are worse by the size of what they have beyond, above 1e-2."""
    return float((3 / 1e-2) ** (4 * exponent) * steps)


# Gram matrices -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [0.25, 0.5])
@pytest.mark.parametrize("beta", [None, 0.9])
def test_shampoo(exponent: float, beta: float | None) -> None:
    lr, eps = 0.1, 1e-4

    def textbook(weight: Matrix) -> Iterator[Any]:
        left, right = (np.zeros((n, n)) for n in weight.shape)
        new = weight
        while True:
            grad, weight = yield new
            left = left + grad @ grad.T if beta is None else beta * left + (1 - beta) * grad @ grad.T
            right = right + grad.T @ grad if beta is None else beta * right + (1 - beta) * grad.T @ grad
            roots = [
                np.linalg.inv(np.real(scipy.linalg.fractional_matrix_power(a + eps * np.eye(len(a)), exponent)))
                for a in (left, right)
            ]
            new = weight - lr * roots[0] @ grad @ roots[1]

    agree(get_rule("shampoo", lr=lr, eps=eps, exponent=exponent, beta=beta), textbook, gram_condition(exponent) ** 2)


def test_shampoo_with_diagonals() -> None:
    lr, eps = 0.1, 1e-4

    def textbook(weight: Matrix) -> Iterator[Any]:
        rows, cols = (np.full(n, eps) for n in weight.shape)
        new = weight
        while True:
            grad, weight = yield new
            new = weight.copy()
            for i in range(grad.shape[0]):
                rows[i] += sum(grad[i] ** 2)
            for j in range(grad.shape[1]):
                cols[j] += sum(grad[:, j] ** 2)
            for i, j in np.ndindex(*grad.shape):
                new[i, j] -= lr * grad[i, j] / rows[i] ** 0.25 / cols[j] ** 0.25

    agree(get_rule("shampoo", lr=lr, eps=eps, diagonal="both"), textbook)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)], ids=str)
def test_first_step_of_shampoo_without_eps_is_the_polar_factor(shape: tuple[int, int]) -> None:
    weight, (grad, *_) = problem(shape)
    rule = get_rule("shampoo", lr=1.0, eps=0.0)
    (found,), _ = trajectory(rule, weight, [grad])
    np.testing.assert_allclose(-found, polar(grad), atol=256 * sum(shape) * EPS)
    low = np.outer(grad[:, 0], grad[0])
    (found,), _ = trajectory(rule, weight, [low])
    np.testing.assert_allclose(-found, polar(low), atol=256 * sum(shape) * EPS)


@pytest.mark.parametrize("side", ["left", "right"])
def test_one_sided_shampoo(side: str) -> None:
    lr, eps = 0.1, 1e-3

    def textbook(weight: Matrix) -> Iterator[Any]:
        gram, new = 0.0, weight
        while True:
            grad, weight = yield new
            gram = gram + (grad @ grad.T if side == "left" else grad.T @ grad)
            root = np.linalg.inv(np.real(scipy.linalg.sqrtm(gram)) + eps * np.eye(len(gram)))
            new = weight - lr * (root @ grad if side == "left" else grad @ root)

    # The square root of a singular Gram matrix is only good to the root of machine precision: smaller sides.
    shapes = {"left": ((3, 5), (4, 4), (1, 3)), "right": ((5, 3), (4, 4), (3, 1))}[side]
    agree(get_rule("one_sided_shampoo", lr=lr, eps=eps, side=side), textbook, gram_condition(0.5), shapes=shapes)


def test_first_step_of_one_sided_shampoo_divides_singular_values() -> None:
    weight, (grad, *_) = problem((3, 5))
    u, sigma, vt = np.linalg.svd(grad, full_matrices=False)
    (found,), _ = trajectory(get_rule("one_sided_shampoo", lr=1.0, eps=0.1), weight, [grad])
    np.testing.assert_allclose(-found, (u * (sigma / (sigma + 0.1))) @ vt, atol=64 * 8 * EPS)


def test_asgo() -> None:
    lr, decay = 0.1, 0.1

    def textbook(weight: Matrix) -> Iterator[Any]:
        m, n = weight.shape
        momentum, gram, new = np.zeros((m, n)), 0.0, weight
        while True:
            grad, weight = yield new
            momentum = 0.9 * momentum + 0.1 * grad
            gram = 0.8 * gram + 0.2 * (grad @ grad.T if m < n else grad.T @ grad)
            root = np.linalg.inv(np.real(scipy.linalg.sqrtm(gram)))
            step = root @ momentum if m < n else momentum @ root
            new = (1 - lr * decay) * weight - lr * step * 0.2 * math.sqrt(m * n) / np.linalg.norm(step)

    agree(get_rule("asgo", lr=lr, weight_decay=decay), textbook, gram_condition(0.5))


# Bases -------------------------------------------------------------------------------------------------------------


def test_soap() -> None:
    """Two refreshes, decay on, on square matrices, where the eigenvectors are determined."""
    lr, decay, (beta1, beta2), eps, every = 0.1, 0.1, (0.9, 0.95), 1e-8, 3

    def textbook(weight: Matrix) -> Iterator[Any]:
        grad, weight = yield weight
        left, right = (1 - beta2) * grad @ grad.T, (1 - beta2) * grad.T @ grad
        ql, qr = (scipy.linalg.eigh(a)[1][:, ::-1] for a in (left, right))
        mean, square, new, t = np.zeros_like(grad), np.zeros_like(grad), weight, 0
        while True:
            grad, weight = yield new
            t += 1
            projected = ql.T @ grad @ qr
            mean = beta1 * mean + (1 - beta1) * projected
            step = np.zeros_like(grad)
            for i, j in np.ndindex(*grad.shape):
                square[i, j] = beta2 * square[i, j] + (1 - beta2) * projected[i, j] ** 2
                step[i, j] = mean[i, j] / (math.sqrt(square[i, j]) + eps)
            size = lr * math.sqrt(1 - beta2**t) / (1 - beta1**t)
            new = weight - size * ql @ step @ qr.T
            new = new - lr * decay * new
            back = ql @ mean @ qr.T
            left = beta2 * left + (1 - beta2) * grad @ grad.T
            right = beta2 * right + (1 - beta2) * grad.T @ grad
            if t % every == 0:
                for axis, (q, a) in enumerate(((ql, left), (qr, right))):
                    order = np.argsort(-np.diag(q.T @ a @ q))
                    square = np.take(square, order, axis=axis)
                    q[:] = scipy.linalg.qr(a @ q[:, order])[0]
                mean = ql.T @ back @ qr

    rule = get_rule("soap", lr=lr, weight_decay=decay, betas=(beta1, beta2), eps=eps, frequency=every)
    # Eigenvalues of the first Gram matrices are at least 0.3 apart; Adam divides by entries above 1e-3.
    agree(rule, textbook, condition=1e4, shapes=((4, 4), (3, 3)), steps=9)


def test_soap_moves_nothing_at_first_and_then_decays_after_the_step() -> None:
    weight, (first, second) = problem((3, 3), steps=2)
    rule = get_rule("soap", lr=0.1, weight_decay=0.5)
    plain = get_rule("soap", lr=0.1, weight_decay=0.0)
    (zero, found), _ = trajectory(rule, weight, [first, second])
    (_, step), _ = trajectory(plain, weight, [first, second])
    assert np.all(zero == 0)
    np.testing.assert_allclose(weight + found, (1 - 0.05) * (weight + step), atol=16 * EPS)


def test_soap_on_one_side_leaves_the_other_axis_alone() -> None:
    """With a diagonal right Gram matrix the right basis is a permutation of the coordinates, and no rotation."""
    weight, _ = problem((4, 4))
    grads = [np.diag([4.0, 3.0, 2.0, 1.0]) * size for size in (1.0, 0.5, 2.0)]
    both, left = (
        trajectory(get_rule("soap", rotated=which, weight_decay=0.0), weight, grads)[0] for which in ("both", "left")
    )
    np.testing.assert_allclose(np.stack(both), np.stack(left), atol=16 * EPS)


@pytest.mark.parametrize("rank", [2, 768])
def test_dion(rank: int) -> None:
    lr, mu, decay, eps = 0.1, 0.9, 0.1, 1e-8

    def textbook(weight: Matrix) -> Iterator[Any]:
        m, n = weight.shape
        np.random.seed(0)  # noqa: NPY002
        basis = np.random.standard_normal((n, min(rank, m, n)))  # noqa: NPY002
        momentum, new = np.zeros((m, n)), weight
        while True:
            grad, weight = yield new
            momentum = momentum + grad
            left, _ = scipy.linalg.qr(momentum @ basis, mode="economic")
            right = momentum.T @ left
            momentum = momentum - (1 - mu) * left @ right.T
            basis = right / (np.linalg.norm(right, axis=0) + eps)
            new = (1 - lr * decay) * weight - lr * math.sqrt(m / n) * left @ basis.T

    for shape in ((5, 3), (3, 5), (4, 4)):
        weight, grads = problem(shape)
        expected = loop(textbook, weight, grads)
        np.random.seed(0)  # noqa: NPY002
        rule = get_rule("dion", lr=lr, momentum=mu, weight_decay=decay, eps=eps, rank=rank)
        found, _ = trajectory(rule, weight, grads)
        # Power iteration starts from a normal matrix, whose condition number is below 1e3 here.
        np.testing.assert_allclose(np.stack(found), np.stack(expected), atol=64 * sum(shape) * EPS * 1e3)


def test_dion_of_full_rank_keeps_nothing_but_the_momentum_factor() -> None:
    """With ``m = r`` columns ``P P^T`` is the identity, so the error feedback is a plain decay of the momentum."""
    weight, grads = problem((3, 5))
    np.random.seed(0)  # noqa: NPY002
    rule = get_rule("dion", momentum=0.9)
    _, state = trajectory(rule, weight, grads)
    expected = np.zeros_like(weight)
    for grad in grads:
        expected = 0.9 * (expected + grad)
    np.testing.assert_allclose(state["momentum"], expected, atol=64 * 8 * EPS)


def test_dion_draws_from_the_generator_of_its_library() -> None:
    rule = get_rule("dion", rank=2)
    np.random.seed(3)  # noqa: NPY002
    drawn = rule.init(np.zeros((4, 5)))["basis"]
    assert drawn.shape == (5, 2)
    np.random.seed(3)  # noqa: NPY002
    np.testing.assert_array_equal(rule.init(np.zeros((4, 5)))["basis"], drawn)
    torch.manual_seed(3)
    first = rule.init(torch.zeros(2, 4, 5))["basis"]
    torch.manual_seed(3)
    assert torch.equal(rule.init(torch.zeros(2, 4, 5))["basis"], first)
    assert first.shape == (2, 5, 2)
    assert not torch.equal(first[0], first[1])
    assert rule.init(torch.empty(4, 5, device="meta"))["basis"].is_meta


# Statistics of the polar factor ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rescale", ["norm", "rms"])
def test_normuon(rescale: str) -> None:
    lr, mu, beta2, eps = 0.1, 0.95, 0.9, 1e-10

    def textbook(weight: Matrix) -> Iterator[Any]:
        m, n = weight.shape
        momentum, square, new = np.zeros((m, n)), np.zeros(m), weight
        while True:
            grad, weight = yield new
            momentum = mu * momentum + (1 - mu) * grad
            factor = scipy.linalg.polar((1 - mu) * grad + mu * momentum)[0]
            rows = np.zeros_like(factor)
            for i in range(m):
                square[i] = beta2 * square[i] + (1 - beta2) * np.mean(factor[i] ** 2)
                rows[i] = factor[i] / (math.sqrt(square[i]) + eps)
            if rescale == "rms":
                new = weight - 0.2 * lr * math.sqrt(m * n) * rows / np.linalg.norm(rows)
            else:
                size = np.linalg.norm(factor) / (np.linalg.norm(rows) + eps)
                new = weight - lr * math.sqrt(max(1, m / n)) * size * rows

    rule = get_rule("normuon", lr=lr, beta2=beta2, orthogonalizer="exact", rescale=rescale)
    agree(rule, textbook, 10)


def test_normuon_is_muon_when_the_rows_of_the_polar_factor_are_unit() -> None:
    weight, grads = problem((3, 5))
    for rescale, scale in (("norm", 1.0), ("rms", 0.2 * math.sqrt(5))):
        normuon = get_rule("normuon", orthogonalizer="exact", rescale=rescale)
        muon = get_rule("muon", orthogonalizer="exact")
        found, _ = trajectory(normuon, weight, grads)
        expected, _ = trajectory(muon, weight, grads)
        # eps = 1e-10 is added to denominators of size one.
        np.testing.assert_allclose(np.stack(found), scale * np.stack(expected), atol=4e-10 * normuon.lr)


def test_adamuon() -> None:
    lr, mu, beta2, eps, decay = 0.1, 0.95, 0.999, 1e-8, 0.1

    def textbook(weight: Matrix) -> Iterator[Any]:
        m, n = weight.shape
        momentum, square, new, t = np.zeros((m, n)), np.zeros((m, n)), weight, 0
        while True:
            grad, weight = yield new
            t += 1
            momentum = mu * momentum + (1 - mu) * grad
            factor = scipy.linalg.polar((1 - mu) * grad + mu * momentum)[0]
            for i, j in np.ndindex(m, n):
                square[i, j] = beta2 * square[i, j] + (1 - beta2) * factor[i, j] ** 2
                factor[i, j] /= math.sqrt(square[i, j] / (1 - beta2**t)) + eps
            factor *= math.sqrt(min(m, n)) / (np.linalg.norm(factor) + eps)
            new = (1 - lr * decay) * weight - lr * 0.2 * math.sqrt(max(m, n)) * factor

    # Entries of the polar factors are above 1e-3.
    agree(get_rule("adamuon", lr=lr, weight_decay=decay, orthogonalizer="exact"), textbook, 1e3)


def test_first_step_of_adamuon_is_the_sign_of_the_polar_factor() -> None:
    weight, (grad, *_) = problem((3, 5))
    (found,), _ = trajectory(get_rule("adamuon", lr=1.0, weight_decay=0.0, orthogonalizer="exact"), weight, [grad])
    np.testing.assert_allclose(-found, 0.2 * np.sign(polar(grad)), rtol=1e-5)  # eps over entries above 1e-3


@pytest.mark.parametrize("method", ["adamuon", "normuon", "namo"])
def test_adaptive_muon(method: str) -> None:
    lr, mu, beta2, eps = 0.1, 0.95, 0.95, 1e-8

    def textbook(weight: Matrix) -> Iterator[Any]:
        m, n = weight.shape
        momentum, new, average = np.zeros((m, n)), weight, 0.0
        while True:
            grad, weight = yield new
            momentum = mu * momentum + (1 - mu) * grad
            factor = scipy.linalg.polar(momentum)[0]
            if method == "namo":
                average = beta2 * average + (1 - beta2) * np.sum(grad**2)
                step = factor * np.linalg.norm(momentum) / (math.sqrt(average) + eps)
            elif method == "adamuon":
                average = beta2 * average + (1 - beta2) * factor**2
                step = factor / (np.sqrt(average) + eps)
            elif m >= n:
                average = beta2 * average + (1 - beta2) * np.array([np.mean(row**2) for row in factor])
                step = np.stack([row / math.sqrt(each) for row, each in zip(factor, average, strict=True)])
            else:
                average = beta2 * average + (1 - beta2) * np.array([np.mean(col**2) for col in factor.T])
                step = np.stack([col / math.sqrt(each) for col, each in zip(factor.T, average, strict=True)]).T
            new = weight - lr * math.sqrt(max(m, n)) * step

    rule = get_rule("adaptive_muon", lr=lr, weight_decay=0.0, orthogonalizer="exact", second_moment=method)
    agree(rule, textbook, 1e3)


# Factored moments, trust ratios, preconditioned descent ------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (6,)], ids=str)
def test_adafactor_is_torch_optim_adafactor(shape: tuple[int, ...], decay: float) -> None:
    rng = np.random.default_rng(0)
    weight, grads = rng.normal(size=shape), [rng.normal(size=shape) * 10**k for k in (0.0, -2.0, 1.0, 0.5)]
    parameter = torch.nn.Parameter(torch.from_numpy(weight.copy()))
    theirs = torch.optim.Adafactor([parameter], lr=0.4, weight_decay=decay, d=1.1)
    rule = get_rule("adafactor", lr=0.4, weight_decay=decay, d=1.1)
    state = rule.init(weight)
    for grad in grads:
        displacement, state = rule.update(grad, state, weight)
        weight = weight + displacement
        parameter.grad = torch.from_numpy(grad.copy())
        theirs.step()
        np.testing.assert_allclose(weight, parameter.detach().numpy(), atol=64 * sum(shape) * EPS)


def test_adafactor_of_the_paper() -> None:
    lr, eps1, eps2, d = 0.05, 1e-30, 1e-3, 1.0

    def rms(x: Matrix) -> float:
        return math.sqrt(np.mean(x**2))

    def textbook(weight: Matrix) -> Iterator[Any]:
        m, n = weight.shape
        rows, cols, new, t = np.zeros(m), np.zeros(n), weight, 0
        while True:
            grad, weight = yield new
            t += 1
            beta = 1 - t**-0.8
            for i in range(m):
                rows[i] = beta * rows[i] + (1 - beta) * sum(grad[i] ** 2 + eps1)
            for j in range(n):
                cols[j] = beta * cols[j] + (1 - beta) * sum(grad[:, j] ** 2 + eps1)
            update = grad / np.sqrt(np.outer(rows, cols) / sum(rows))
            update /= max(1.0, rms(update) / d)
            new = weight - max(eps2, rms(weight)) * min(lr, 1 / math.sqrt(t)) * update

    agree(get_rule("adafactor", lr=lr, semantics="paper", eps=(eps1, eps2)), textbook, 10)


@given(shape=st.tuples(st.integers(2, 5), st.integers(2, 5)), seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_both_forms_of_adafactor_agree_above_their_eps(shape: tuple[int, int], seed: int) -> None:
    weight, grads = problem(shape, seed)
    torch_form, paper = (
        trajectory(get_rule("adafactor", semantics=name, eps=eps), weight, grads)[0]
        for name, eps in (("torch", (None, 1e-3)), ("paper", (1e-30, 1e-3)))
    )
    np.testing.assert_allclose(np.stack(torch_form), np.stack(paper), atol=64 * sum(shape) * EPS)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_lars(decay: float) -> None:
    lr, mu, eta = 0.1, 0.9, 1e-2

    def textbook(weight: Matrix) -> Iterator[Any]:
        buffer, new = np.zeros_like(weight), weight
        while True:
            grad, weight = yield new
            local = eta * np.linalg.norm(weight) / (np.linalg.norm(grad) + decay * np.linalg.norm(weight))
            buffer = mu * buffer + lr * local * (grad + decay * weight)
            new = weight - buffer

    agree(get_rule("lars", lr=lr, momentum=mu, trust=eta, weight_decay=decay), textbook)


@pytest.mark.parametrize("bound", [math.inf, 0.5])
def test_lamb(bound: float) -> None:
    lr, (beta1, beta2), eps, decay = 0.1, (0.9, 0.999), 1e-6, 0.1

    def textbook(weight: Matrix) -> Iterator[Any]:
        mean, square, new, t = np.zeros_like(weight), np.zeros_like(weight), weight, 0
        while True:
            grad, weight = yield new
            t += 1
            mean = beta1 * mean + (1 - beta1) * grad
            square = beta2 * square + (1 - beta2) * grad**2
            ratio = mean / (1 - beta1**t) / (np.sqrt(square / (1 - beta2**t)) + eps) + decay * weight
            new = weight - lr * min(np.linalg.norm(weight), bound) / np.linalg.norm(ratio) * ratio

    rule = get_rule("lamb", lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay, max_norm=bound)
    agree(rule, textbook, 1e2)


def test_trust_ratios_move_a_zero_weight_and_stay_at_zero_gradients() -> None:
    zero, grad = np.zeros((2, 3)), np.ones((2, 3))
    for name in ("lars", "lamb"):
        rule = get_rule(name, weight_decay=0.0)
        assert np.abs(rule.update(grad, rule.init(zero), zero)[0]).min() > 0
        assert np.all(rule.update(zero, rule.init(zero), grad)[0] == 0)


@pytest.mark.parametrize("name", ["lars", "lamb"])
def test_trust_ratios_respect_the_scale_of_a_weight_before_a_normalisation(name: str) -> None:
    """``W -> c W, g -> g / c``: for LAMB up to its eps, and without decay, which is a multiple of ``W``."""
    weight, grads = problem((3, 4))
    rule = get_rule(name, weight_decay=0.0).without_eps()
    plain, _ = trajectory(rule, weight, grads)
    moved, _ = trajectory(rule, 4 * weight, [grad / 4 for grad in grads])
    np.testing.assert_allclose(np.stack(moved), 4 * np.stack(plain), atol=256 * EPS)


@pytest.mark.parametrize("name", ["adaspectral", "rmsspectral"])
def test_preconditioned_spectral_descent(name: str) -> None:
    lr, eps, beta = 0.01, 1e-3, 0.95

    def textbook(weight: Matrix) -> Iterator[Any]:
        history, new = (np.zeros if name == "adaspectral" else np.ones)(weight.shape), weight
        while True:
            grad, weight = yield new
            for i, j in np.ndindex(*grad.shape):
                square = grad[i, j] ** 2
                history[i, j] = (
                    history[i, j] + square if name == "adaspectral" else (beta * history[i, j] + (1 - beta) * square)
                )
            scale = np.sqrt(eps + np.sqrt(history))
            scaled = grad / scale
            sharp = scipy.linalg.svdvals(scaled).sum() * scipy.linalg.polar(scaled)[0]
            new = weight - lr * sharp / scale

    agree(get_rule(name, lr=lr, eps=eps), textbook, 1e2)


# The remaining options of older rules ------------------------------------------------------------------------------


def test_polargrad_of_emerging_optimizers_scales_by_an_inexact_nuclear_norm() -> None:
    weight, grads = problem((3, 5))
    rule = get_rule("polargrad", lr=0.1, nesterov=True, orthogonalizer="you")
    found, _ = trajectory(rule, weight, grads)
    momentum = np.zeros_like(weight)
    for grad, displacement in zip(grads, found, strict=True):
        momentum = 0.95 * momentum + 0.05 * grad
        ahead = 0.05 * grad + 0.95 * momentum
        factor = rule.orthogonalize(ahead)  # type: ignore[attr-defined]
        np.testing.assert_allclose(displacement, -0.1 * np.sum(factor * ahead) * factor, atol=1e-12)


def test_shape_scales_of_emerging_optimizers() -> None:
    weight, (grad, *_) = problem((6, 3))
    plain, spectral, unit = (
        trajectory(get_rule("muon", adjust_lr=name), weight, [grad])[0][0]
        for name in ("original", "spectral", "unit_rms_norm")
    )
    np.testing.assert_allclose(spectral * math.sqrt(2 / 6), plain, rtol=64 * EPS)
    np.testing.assert_array_equal(unit, plain)


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("shampoo", {"diagonal": "rows"}, "diagonal must be one of none, left, right, both, got 'rows'"),
        ("shampoo", {"beta": 1.0}, "beta must lie in [0, 1), got 1.0"),
        ("one_sided_shampoo", {"side": "both"}, "side must be one of left, right, smaller, got 'both'"),
        ("soap", {"frequency": 0}, "frequency must be an integer >= 1, got 0"),
        ("dion", {"rank": 0}, "rank must be an integer >= 1, got 0"),
        ("normuon", {"rescale": "none"}, "rescale must be one of norm, rms, got 'none'"),
        ("adafactor", {"d": 0.0}, "needs d > 0 and eps >= 0, got d = 0.0"),
        ("adafactor", {"beta2_decay": 0.8}, "beta2_decay must be at most 0, got 0.8"),
        ("lamb", {"max_norm": 0.0}, "max_norm must be positive, got 0.0"),
        ("polargrad", {"nesterov": True, "polar_first": True}, "polar_first averages polar factors"),
    ],
)
def test_bad_hyper_parameters_get_one_line(name: str, hyper: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="rule") as caught:
        get_rule(name, **hyper)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
