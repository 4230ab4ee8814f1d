"""Muon-OGD: its dual iteration, its constraints, and protected directions as state that moves with the weight."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from groups import parse_action
from reference import Rule, get_rule
from reference.optimizers import MuonOGD, MuonOGDBilinear
from reference.state import align_gauge, move_state
from reference.trajectory import trajectory

EPS = float(np.finfo(np.float64).eps)
M, N, K = 5, 4, 2


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def gradients(shape: tuple[int, ...] = (M, N), steps: int = 4, seed: int = 0) -> list[np.ndarray]:
    base = rng(seed).normal(size=shape)
    u, _, vt = np.linalg.svd(base, full_matrices=False)
    base = (u * np.linspace(1.0, 2.0, min(shape[-2:]))[..., None, :]) @ vt
    return [base + 0.1 * rng(seed + step + 1).normal(size=shape) for step in range(steps)]


def cubic(x: np.ndarray) -> np.ndarray:
    """The paper's five Newton-Schulz steps."""
    x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(5):
        x = 1.5 * x - 0.5 * x @ x.T @ x
    return x


PROTECTED = rng(7).normal(size=(K, M, N))
LEFT, RIGHT = rng(8).normal(size=(M, K)), rng(9).normal(size=(N, K + 1))


# The algorithm -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("scaled", [True, False])
def test_list_form_agrees_with_loops(warm: bool, scaled: bool) -> None:
    eta, dual, inner, beta, decay = 0.1, 0.05, 3, 0.9, 0.1
    weight, buffer, lam = rng(1).normal(size=(M, N)), np.zeros((M, N)), [0.0] * K
    hyper = {"lr": eta, "dual_lr": dual, "dual_steps": inner, "momentum": beta, "weight_decay": decay}
    rule = get_rule("muon_ogd", protected=PROTECTED, warm_start=warm, dynamic_scale=scaled, **hyper)
    grads = gradients()
    got, state = trajectory(rule, weight, grads)
    for grad in grads:
        buffer = beta * buffer + grad
        if not warm:
            lam = [0.0] * K
        for _ in range(inner):  # all multipliers at once, from one H
            factor = cubic(buffer + sum(each * c for each, c in zip(lam, PROTECTED, strict=True)))
            lam = [each - dual * float((c * factor).sum()) for each, c in zip(lam, PROTECTED, strict=True)]
        step = cubic(buffer + sum(each * c for each, c in zip(lam, PROTECTED, strict=True)))
        scale = np.linalg.norm(grad) / np.linalg.norm(step) if scaled else 1.0
        weight = (1 - eta * decay) * weight - eta * scale * step
    np.testing.assert_allclose(rng(1).normal(size=(M, N)) + sum(got), weight, atol=1e3 * EPS)
    np.testing.assert_allclose(state["multipliers"].ravel(), lam if warm else 0.0, atol=1e3 * EPS)


def test_bilinear_form_agrees_with_loops() -> None:
    eta, dual, inner = 0.1, 0.05, 2
    weight, lam = np.zeros((M, N)), np.zeros((K, K + 1))
    grads = gradients()
    rule = get_rule("muon_ogd_bilinear", lr=eta, dual_lr=dual, dual_steps=inner, left=LEFT, right=RIGHT)
    for grad in grads:
        for _ in range(inner):
            lam = lam - dual * LEFT.T @ cubic(grad + LEFT @ lam @ RIGHT.T) @ RIGHT
        weight = weight - eta * cubic(grad + LEFT @ lam @ RIGHT.T)
    got, state = trajectory(rule, np.zeros((M, N)), grads)
    np.testing.assert_allclose(sum(got), weight, atol=1e3 * EPS)
    np.testing.assert_allclose(state["multipliers"], lam, atol=1e3 * EPS)


def test_bilinear_form_is_the_list_form_of_its_outer_products() -> None:
    outer = np.stack([np.outer(u, v) for u in LEFT.T for v in RIGHT.T])
    hyper = {"dual_lr": 0.05, "dual_steps": 3, "orthogonalizer": "exact", "lr": 1.0, "momentum": 0.5}
    grads = gradients()
    one, _ = trajectory(get_rule("muon_ogd", protected=outer, **hyper), np.zeros((M, N)), grads)
    two, _ = trajectory(get_rule("muon_ogd_bilinear", left=LEFT, right=RIGHT, **hyper), np.zeros((M, N)), grads)
    np.testing.assert_allclose(np.stack(one), np.stack(two), atol=1e4 * EPS)


@pytest.mark.parametrize("name", ["muon_ogd", "muon_ogd_bilinear"])
@pytest.mark.parametrize("method", ["cubic", "exact", "jordan"])
def test_without_protected_directions_it_is_muon(name: str, method: str) -> None:
    hyper = {"orthogonalizer": method, "momentum": 0.9, "lr": 0.1, "weight_decay": 0.1}
    for shape in ((4, 5), (4, 4)):  # where Muon's shape scale is one
        grads, weight = gradients(shape), rng(3).normal(size=shape)
        muon = get_rule("muon", nesterov=False, accumulation="heavy_ball", **hyper)
        expected, _ = trajectory(muon, weight, grads)
        got, _ = trajectory(get_rule(name, **hyper), weight, grads)
        np.testing.assert_array_equal(np.stack(got), np.stack(expected))


# The constraints ---------------------------------------------------------------------------------------------------


def residual(direction: np.ndarray) -> float:
    """The largest constraint, relative to what it is for some direction of that size."""
    inner = [(c * direction).sum() / np.linalg.norm(c) for c in PROTECTED]
    return float(np.abs(inner).max() / np.linalg.norm(direction))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99))
def test_on_average_over_dual_steps_the_constraints_hold(seed: int) -> None:
    """The multipliers sum up the constraints, ``lambda_T = -dual_lr sum_t <C, polar(H_t)>``, and stay bounded."""
    dual_lr = 0.05
    rule = get_rule("muon_ogd", protected=PROTECTED, orthogonalizer="exact", dual_lr=dual_lr)
    (grad,) = gradients(steps=1, seed=seed)
    averages = []
    for steps in (1, 1000):
        _, state = replace(rule, dual_steps=steps).update(grad, rule.init(grad), grad)
        averages.append(np.linalg.norm(state["multipliers"]) / (dual_lr * steps))
    # Of a minimiser ||C(lambda)||_* <= 2 ||G||_* is known, which bounds lambda: the average falls like 1 / T.
    smallest = np.linalg.svd(PROTECTED.reshape(K, -1), compute_uv=False)[-1]
    assert averages[1] <= (2 * np.linalg.norm(grad, "nuc") / smallest + dual_lr * K) / (dual_lr * 1000)
    assert averages[1] < averages[0]


def test_dual_steps_reduce_the_residual() -> None:
    rule = get_rule("muon_ogd", protected=PROTECTED, orthogonalizer="exact", lr=1.0, dual_lr=0.05)
    (grad,) = gradients(steps=1)
    residuals = []
    for steps in (1, 5, 25, 600):
        moved, _ = trajectory(replace(rule, dual_steps=steps), np.zeros((M, N)), [grad])
        residuals.append(residual(moved[0]))
    assert np.all(np.diff(residuals) < 0)
    assert residuals[-1] < 1e-6


def test_where_the_optimum_has_no_full_rank_the_iteration_does_not_settle() -> None:
    # Seed 11: the nuclear norm has its minimum in a kink, where polar(H) is only one of many subgradients.
    rule = get_rule("muon_ogd", protected=PROTECTED, orthogonalizer="exact", lr=1.0, dual_lr=0.05, dual_steps=600)
    (grad,) = gradients(steps=1, seed=11)
    moved, _ = rule.update(grad, rule.init(grad), grad)
    assert residual(moved) > 0.1


def test_the_dual_objective_falls_with_every_step() -> None:
    (grad,) = gradients(steps=1)
    norms = []
    for steps in range(1, 30):
        rule = get_rule("muon_ogd", protected=PROTECTED, orthogonalizer="exact", dual_lr=0.01, dual_steps=steps)
        _, state = rule.update(grad, rule.init(grad), grad)
        norms.append(np.linalg.norm(grad + (state["multipliers"] * PROTECTED).sum(0), "nuc"))
    assert np.all(np.diff(norms) < 0)


def test_at_the_optimum_the_polar_factor_satisfies_the_constraints() -> None:
    """<C_i, polar(H*)> = 0, with H* found by an independent minimiser of the nuclear norm."""
    (grad,) = gradients(steps=1)

    def dual(lam: np.ndarray) -> float:
        return float(np.linalg.norm(grad + np.tensordot(lam, PROTECTED, 1), "nuc"))

    best = minimize(dual, np.zeros(K), method="Nelder-Mead", options={"xatol": 1e-12, "fatol": 1e-15, "maxiter": 4000})
    factor = scipy.linalg.polar(grad + np.tensordot(best.x, PROTECTED, 1))[0]
    # The minimum of a smooth function is known to the root of the rounding of its values.
    assert residual(factor) < 1e3 * np.sqrt(EPS)
    rule = get_rule("muon_ogd", protected=PROTECTED, orthogonalizer="exact", lr=1.0, dual_lr=0.05, dual_steps=3000)
    moved, state = rule.update(grad, rule.init(grad), grad)
    np.testing.assert_allclose(state["multipliers"].ravel(), best.x, atol=1e3 * np.sqrt(EPS))
    np.testing.assert_allclose(-moved, factor, atol=1e3 * np.sqrt(EPS))
    # It descends as far as the constraints and the spectral norm allow: duality without a gap.
    assert -(grad * moved).sum() == pytest.approx(dual(best.x), rel=1e3 * np.sqrt(EPS))


def test_a_warm_start_goes_on_where_the_last_step_ended() -> None:
    (grad,) = gradients(steps=1)
    rule = get_rule("muon_ogd", protected=PROTECTED, orthogonalizer="exact", lr=1.0, dual_lr=0.05)
    warm, _ = trajectory(rule, np.zeros((M, N)), [grad] * 30)
    once, _ = trajectory(replace(rule, dual_steps=30), np.zeros((M, N)), [grad])
    np.testing.assert_allclose(warm[-1], once[0], atol=1e3 * EPS)
    cold, _ = trajectory(replace(rule, warm_start=False), np.zeros((M, N)), [grad] * 30)
    np.testing.assert_array_equal(cold[-1], cold[0])


def test_the_iteration_of_the_public_code_is_not_a_polar_factor() -> None:
    """Why it is not taken over: its singular values tend to sigma^(1/3)."""
    x = gradients(steps=1)[0]
    a = x / np.linalg.norm(x)
    y, z = a, np.eye(N)
    for _ in range(60):
        t = 0.5 * (3 * np.eye(N) - z @ y.T @ y)
        y, z = y @ t, t @ z
    roots = np.linalg.svd(a, compute_uv=False) ** (1 / 3)
    np.testing.assert_allclose(np.linalg.svd(y, compute_uv=False), roots, rtol=1e4 * EPS)
    moved = get_rule("muon_ogd", lr=1.0, orthogonalizer="exact").update(x, {"momentum": 0 * x}, x)[0]
    np.testing.assert_allclose(np.linalg.svd(moved, compute_uv=False), 1.0, rtol=64 * EPS)


# Protected directions as state ----------------------------------------------------------------------------------------

GIVEN: list[Rule] = [
    get_rule("muon_ogd", protected=PROTECTED, dual_lr=0.05, dual_steps=2, momentum=0.9, lr=0.1),
    get_rule("muon_ogd_bilinear", left=LEFT, right=RIGHT, dual_lr=0.05, dual_steps=2, weight_decay=0.1, lr=0.1),
]
every_form = pytest.mark.parametrize("rule", GIVEN, ids=lambda rule: rule.name)


def step_defect(rule: Rule, *, move_protected: bool) -> float:
    """Largest relative defect of a trajectory under rotations of weight, gradients and (if asked) given directions."""
    weight, grads = rng(1).normal(size=(M, N)), gradients()
    action = parse_action(rule.joint_symmetry)
    worst = 0.0
    for g in action.sample(((M, N),), 4, rng=torch.Generator().manual_seed(0)):
        plain, moved = rule.init(weight), move_state(rule, g, rule.init(weight))
        if not move_protected:
            moved = rule.init(weight)
        w = weight
        for grad in grads:
            expected, plain = rule.update(grad, plain, w)
            found, moved = rule.update(g.act_dual((grad,))[0], moved, g.act((w,))[0])
            wanted = g.act_linear((expected,))[0]
            worst = max(worst, float(np.abs(found - wanted).max() / np.abs(wanted).max()))
            w = w + expected
        if move_protected:
            after = move_state(rule, g, plain)
            for name, value in align_gauge(rule, moved, after).items():
                worst = max(worst, float(np.abs(value - after[name]).max() / max(np.abs(after[name]).max(), 1e-300)))
    return worst


@every_form
def test_rotations_move_the_protected_directions_along(rule: Rule) -> None:
    # Backward errors of a step, (m + n) eps each, magnified by at most 1.5^5 by the cubic and carried over four steps.
    assert step_defect(rule, move_protected=True) <= 64 * (M + N) * EPS * 1.5**5
    assert step_defect(rule, move_protected=False) > 1e-3
    assert rule.symmetry == "1"
    assert rule.joint_symmetry == "O(rows) x O(cols)"


def test_what_fixes_every_protected_direction_is_a_symmetry_without_moving_them() -> None:
    # Columns 0 and 1 are protected; rotations of the others leave the directions alone.
    protected = np.zeros((K, M, N))
    protected[0, :, 0], protected[1, :, 1] = rng(2).normal(size=(2, M))
    turn = scipy.linalg.block_diag(np.eye(2), np.linalg.qr(rng(3).normal(size=(N - 2, N - 2)))[0])
    rule = get_rule("muon_ogd", protected=protected, dual_lr=0.1, dual_steps=3, lr=1.0)
    grads = gradients()
    plain, _ = trajectory(rule, np.zeros((M, N)), grads)
    moved, _ = trajectory(rule, np.zeros((M, N)), [grad @ turn.T for grad in grads])
    np.testing.assert_allclose(np.stack(moved), np.stack(plain) @ turn.T, atol=1e3 * EPS)


@every_form
def test_a_change_of_basis_is_a_gauge(rule: Rule) -> None:
    weight, grads = np.zeros((M, N)), gradients()
    state, other = rule.init(weight), rule.init(weight)
    left = np.linalg.qr(rng(4).normal(size=(K, K)))[0]
    right = np.linalg.qr(rng(5).normal(size=(K + 1, K + 1)))[0]
    if rule.name == "muon_ogd":
        other["protected"] = np.tensordot(left, other["protected"], 1)
    else:
        other["left"], other["right"] = other["left"] @ left.T, other["right"] @ right.T
    for grad in grads:
        one, state = rule.update(grad, state, weight)
        two, other = rule.update(grad, other, weight)
        np.testing.assert_allclose(one, two, atol=1e3 * EPS)
    aligned = align_gauge(rule, other, state)
    assert np.abs(other["multipliers"] - state["multipliers"]).max() > 1e-3
    for name, value in aligned.items():
        np.testing.assert_allclose(value, state[name], atol=1e3 * EPS)


def test_a_skewed_basis_is_no_gauge() -> None:
    skewed = replace(GIVEN[0], protected=np.tensordot(np.array([[1.0, 2.0], [0.0, 1.0]]), PROTECTED, 1))
    one, two = (trajectory(rule, np.zeros((M, N)), gradients())[0] for rule in (GIVEN[0], skewed))
    assert np.abs(np.stack(one) - np.stack(two)).max() > 1e-3 * np.abs(np.stack(one)).max()


def test_collected_directions_are_the_first_gradients() -> None:
    grads = gradients(steps=6)
    hyper: dict[str, Any] = {"dual_lr": 0.1, "dual_steps": 3, "lr": 0.1, "momentum": 0.5}
    collected, state = trajectory(get_rule("muon_ogd", collect=2, **hyper), np.zeros((M, N)), grads)
    assert not np.any(collected[:2])
    np.testing.assert_array_equal(state["protected"], np.stack(grads[:2]))
    given, _ = trajectory(get_rule("muon_ogd", protected=np.stack(grads[:2]), **hyper), np.zeros((M, N)), grads[2:])
    np.testing.assert_array_equal(np.stack(collected[2:]), np.stack(given))


def test_traits() -> None:
    for rule, degree, horizontal in (
        (get_rule("muon_ogd"), 0, True),
        (get_rule("muon_ogd", dynamic_scale=True), 1, True),
        (get_rule("muon_ogd", collect=2), None, True),
        (GIVEN[0], None, False),
        (get_rule("muon_ogd_bilinear"), 0, True),
        (replace(GIVEN[1], weight_decay=0.0), None, False),
    ):
        assert rule.traits.degree == degree
        assert rule.traits.horizontal == horizontal
    centred = [grad - grad.mean(axis=0) for grad in gradients()]
    moved, _ = trajectory(GIVEN[0], np.zeros((M, N)), centred)
    assert np.abs(np.stack(moved).mean(axis=1)).max() > 1e-3 * np.abs(np.stack(moved)).max()


# Front ends ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(M, N), (3, M, N)], ids=str)
def test_protected_directions_are_a_hyper_parameter_of_the_group(shape: tuple[int, ...]) -> None:
    grads, weight = gradients(shape), rng(1).normal(size=shape)
    parameters = [torch.nn.Parameter(torch.from_numpy(weight.copy())) for _ in range(2)]
    groups = [
        {"params": parameters[:1], "protected": torch.from_numpy(PROTECTED)},
        {"params": parameters[1:]},
    ]
    optimizer = MuonOGD(groups, lr=0.1, dual_lr=0.05, dual_steps=2)
    saved = io.BytesIO()
    for step, grad in enumerate(grads):
        if step == 2:
            torch.save(optimizer.state_dict(), saved)
            saved.seek(0)
            optimizer = MuonOGD(groups, lr=0.1, dual_lr=0.05, dual_steps=2)
            optimizer.load_state_dict(torch.load(saved, weights_only=True))
        for parameter in parameters:
            parameter.grad = torch.from_numpy(grad.copy())
        optimizer.step()
    for parameter, protected in zip(parameters, (PROTECTED, None), strict=True):
        rule = get_rule("muon_ogd", lr=0.1, dual_lr=0.05, dual_steps=2, protected=protected)
        moved, _ = trajectory(rule, weight, grads)
        np.testing.assert_allclose(parameter.detach().numpy(), weight + sum(moved), atol=1e3 * EPS)


def test_a_stack_may_have_directions_of_its_own() -> None:
    shape = (3, M, N)
    protected = rng(2).normal(size=(3, K, M, N))
    grads = gradients(shape)
    hyper = {"lr": 0.1, "dual_lr": 0.05}
    moved, _ = trajectory(get_rule("muon_ogd", protected=protected, **hyper), np.zeros(shape), grads)
    for expert in range(3):
        rule = get_rule("muon_ogd", protected=protected[expert], **hyper)
        alone, _ = trajectory(rule, np.zeros((M, N)), [grad[expert] for grad in grads])
        np.testing.assert_allclose(np.stack(moved)[:, expert], np.stack(alone), atol=1e3 * EPS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bases_are_converted_to_the_precision_of_the_computation(dtype: torch.dtype) -> None:
    parameter = torch.nn.Parameter(torch.ones(M, N, dtype=dtype))
    optimizer = MuonOGDBilinear([parameter], left=torch.from_numpy(LEFT), right=torch.from_numpy(RIGHT))
    parameter.grad = torch.from_numpy(gradients()[0]).to(dtype)
    optimizer.step()
    state = optimizer.state[parameter]
    assert {state[name].dtype for name in ("left", "right", "multipliers")} == {torch.float32}
    assert state["left"].data_ptr() != optimizer.param_groups[0]["left"].data_ptr()


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("muon_ogd", {"protected": PROTECTED[0]}, r"protected must have shape \(k, 5, 4\), got \(5, 4\)"),
        ("muon_ogd", {"protected": PROTECTED.transpose(0, 2, 1)}, r"protected must have shape \(k, 5, 4\)"),
        ("muon_ogd", {"protected": PROTECTED, "collect": 1}, "give protected directions or collect them, not both"),
        ("muon_ogd", {"collect": -1}, "collect must be an integer >= 1"),
        ("muon_ogd", {"dual_steps": 0}, "dual_steps must be an integer >= 1"),
        ("muon_ogd", {"dual_lr": -1.0}, "dual_lr must be finite and >= 0"),
        ("muon_ogd_bilinear", {"left": LEFT}, "left and right are given together or not at all"),
        ("muon_ogd_bilinear", {"left": RIGHT, "right": LEFT}, r"left must have shape \(5, k\), got \(4, 3\)"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, hyper: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"rule '{name}': {message}"):
        get_rule(name, **hyper).init(np.zeros((M, N)))
