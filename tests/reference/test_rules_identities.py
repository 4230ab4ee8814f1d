"""Identities between rules, and facts about the source that their docstrings state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import Rule, get_rule
from reference.orthogonalizers import ORTHOGONALIZERS, QDWH, NewtonSchulz, without_eps
from reference.trajectory import trajectory
from reference.transforms.center import center
from reference.transforms.layout import (
    ORIENTATIONS,
    Orientation,
    merge_columns,
    merge_rows,
    orient,
    split_columns,
    split_rows,
    unorient,
)
from reference.transforms.normalize import row_normalize
from reference.transforms.polar import polar

EPS = float(np.finfo(np.float64).eps)
STEPS = 4


def gradients(shape: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return list(rng.normal(size=(STEPS, *shape)))


def steps(rule: Rule, grads: list[np.ndarray]) -> np.ndarray:
    """The displacements of all steps in units of the learning rate, from the zero weight."""
    return np.stack(trajectory(rule, np.zeros_like(grads[0]), grads)[0]) / rule.lr


def allowed(grads: list[np.ndarray]) -> float:
    """Rounding ``(m + n) eps`` magnified by the condition number of the momentum (the rules are Lipschitz in its
    direction).

    Momentum is a moving average of the gradients, so its condition number is measured on those averages, centred or
    not.
    """
    condition, average = 1.0, np.zeros_like(grads[0])
    for grad in grads:
        average = 0.95 * average + 0.05 * grad
        for x in (average, center(average)):
            sigma = np.linalg.svd(x, compute_uv=False)
            sigma = sigma[sigma > 1e-12 * sigma.max()]
            condition = max(condition, float(sigma.max() / sigma.min()))
    return 32 * sum(grads[0].shape[-2:]) * EPS * condition


# Spectral rules ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("center_rows", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)], ids=str)
def test_left_and_right_spectral_are_the_same_map(shape: tuple[int, int], alpha: float, center_rows: bool) -> None:
    grads = gradients(shape)
    right, left = (get_rule(f"{side}_spectral", alpha=alpha, center_rows=center_rows) for side in ("right", "left"))
    np.testing.assert_array_equal(steps(left, grads), steps(right, grads))


def test_coupled_roots_of_the_two_sides_differ_only_through_the_damping() -> None:
    grads = gradients((6, 3))
    for eps, far in ((1e-2, True), (0.0, False)):
        right, left = (
            steps(get_rule(f"{side}_spectral", alpha=0.0, eps=eps, backend="polar_express"), grads)
            for side in ("right", "left")
        )
        gap = np.abs(right - left).max()
        # With eps = 0 both are the polynomial of the same normalised matrix; the left Gram is singular, so its
        # iteration
        # magnifies rounding by the square of the slope, 485^2 for these five steps.
        assert gap > 1e-4 if far else gap <= 1e2 * EPS * 485**2


def test_exponent_zero_is_muons_direction_and_one_is_polargrads() -> None:
    grads = gradients((5, 4))
    direction = steps(get_rule("right_spectral", alpha=0.0, eps=0.0), grads)
    muon = get_rule("muon", orthogonalizer="exact", nesterov=False, adjust_lr="original")
    np.testing.assert_allclose(direction, steps(muon, grads) / np.sqrt(5 / 4), atol=allowed(grads))
    full = steps(get_rule("right_spectral", alpha=1.0, eps=0.0), grads)
    np.testing.assert_allclose(full, steps(get_rule("polargrad"), grads), atol=10 * allowed(grads))


def test_the_damping_of_the_gram_matrix_makes_small_gradients_follow_the_gradient() -> None:
    # Eps = 1e-8 is added to a Gram matrix, so it acts at singular values of 1e-4.
    grads = [1e-8 * grad for grad in gradients((4, 3))]
    got = steps(get_rule("right_spectral", alpha=0.0), grads)[0]
    np.testing.assert_allclose(got, -0.05 * grads[0] / 1e-4, rtol=1e-6)


@pytest.mark.parametrize("name", ["right_spectral", "left_spectral"])
def test_centring_before_is_all_that_centring_needs_in_exact_arithmetic(name: str) -> None:
    # Cross-entropy gradients are centred already, and the map keeps the column space.
    grads = [center(grad) for grad in gradients((5, 3))]
    centred = steps(get_rule(name, center_rows=True), grads)
    np.testing.assert_allclose(centred, steps(get_rule(name), grads), atol=10 * allowed(grads))


def test_steepest_descent_in_the_spectral_norm() -> None:
    grad = gradients((4, 3))[0]
    got = -steps(get_rule("ssd"), [grad])[0]
    nuclear = np.linalg.norm(grad, "nuc")
    np.testing.assert_allclose(np.linalg.svd(got, compute_uv=False), nuclear, rtol=1e2 * EPS * np.linalg.cond(grad))
    assert np.sum(got * grad) == pytest.approx(nuclear**2, rel=1e2 * EPS)


def test_polar_first_averages_polar_factors() -> None:
    grads = gradients((4, 3))
    rule = get_rule("polargrad", polar_first=True, momentum=0.5)
    average = np.zeros((4, 3))
    for grad, got in zip(grads, steps(rule, grads), strict=True):
        average = 0.5 * average + 0.5 * polar(grad)
        np.testing.assert_allclose(got, -np.linalg.norm(grad, "nuc") * average, atol=1e3 * EPS * np.linalg.cond(grad))


# Row normalisation and hybrids -------------------------------------------------------------------------------------


def test_row_norm_gives_unit_rows_and_centring_spoils_them() -> None:
    grads = gradients((5, 3))
    np.testing.assert_allclose(np.linalg.norm(steps(get_rule("row_norm", eps=0.0), grads), axis=-1), 1, rtol=8 * EPS)
    centred = steps(get_rule("row_norm", eps=0.0, center_rows=True), grads)
    assert np.abs(np.linalg.norm(centred, axis=-1) - 1).max() > 1e-2
    again = center(row_normalize(center(centred), 0.0))
    assert np.abs(again + centred).max() > 1e-2


def test_a_row_whose_gradient_stopped_keeps_a_full_size_update_and_one_without_gradient_none() -> None:
    grads = gradients((3, 4))
    for step, grad in enumerate(grads):
        grad[1] = 0
        if step:
            grad[0] = 0
    norms = np.linalg.norm(steps(get_rule("row_norm"), grads), axis=-1)
    np.testing.assert_allclose(norms[:, 0], 1, rtol=1e-6)
    assert np.all(norms[:, 1] == 0)


rows = st.lists(st.floats(0.01, 100), min_size=5, max_size=5)


@settings(max_examples=25, deadline=None)
@given(scales=rows, shape=st.sampled_from([(5, 3), (5, 7)]))
@pytest.mark.parametrize("name", ["row_norm", "hybrid"])
def test_positive_row_scaling_changes_nothing(name: str, scales: list[float], shape: tuple[int, int]) -> None:
    options = {"order": "row_then_polar"} if name == "hybrid" else {}
    rule = get_rule(name, eps=0.0, **options)
    grads = gradients(shape)
    scaled = [np.asarray(scales)[:, None] * grad for grad in grads]
    np.testing.assert_allclose(steps(rule, scaled), steps(rule, grads), atol=10 * allowed(grads))


def test_polar_then_row_is_not_invariant_to_row_scaling() -> None:
    rule, grads = get_rule("hybrid", eps=0.0), gradients((5, 3))
    scaled = [np.arange(1.0, 6.0)[:, None] * grad for grad in grads]
    assert np.abs(steps(rule, scaled) - steps(rule, grads)).max() > 1e-2


@pytest.mark.parametrize("shape", [(5, 3), (3, 5)], ids=str)
def test_alpha_does_nothing_in_polar_then_row(shape: tuple[int, int]) -> None:
    # The row normalisation cancels any positive scale.
    grads = gradients(shape)
    plain = steps(get_rule("hybrid", alpha=0.0, eps=0.0), grads)
    np.testing.assert_allclose(steps(get_rule("hybrid", alpha=1.0, eps=0.0), grads), plain, atol=allowed(grads))


def test_polar_then_row_of_a_wide_matrix_is_its_polar_factor() -> None:
    for shape, same in (((3, 5), True), ((5, 3), False)):
        grads = gradients(shape)
        factor = steps(get_rule("right_spectral", alpha=0.0, eps=0.0), grads)
        gap = np.abs(steps(get_rule("hybrid", eps=0.0), grads) - factor)
        assert gap.max() <= allowed(grads) if same else gap.max() > 1e-2


def test_the_scale_of_row_then_polar_carries_no_gradient_magnitude() -> None:
    # Nu is the nuclear norm of a matrix with unit rows, between sqrt(m) and sqrt(m rank).
    for shape in ((5, 3), (3, 5), (1, 4)):
        grads = gradients(shape)
        scaled, plain = (
            steps(get_rule("hybrid", order="row_then_polar", alpha=alpha, eps=0.0), grads) for alpha in (1.0, 0.0)
        )
        nu = np.linalg.norm(scaled, axis=(-2, -1)) / np.linalg.norm(plain, axis=(-2, -1))
        assert np.all(nu >= np.sqrt(shape[0]) * (1 - 1e2 * EPS))
        assert np.all(nu <= np.sqrt(shape[0] * min(shape)) * (1 + 1e2 * EPS))
        tiny = steps(get_rule("hybrid", order="row_then_polar", eps=0.0), [2.0**-40 * grad for grad in grads])
        np.testing.assert_array_equal(tiny, scaled)


def test_experts_share_the_scale_only_when_asked() -> None:
    grads = gradients((2, 4, 3))
    other = [grad.copy() for grad in grads]
    for grad in other:
        grad[1] = np.random.default_rng(9).normal(size=(4, 3))
    for shared in (False, True):
        rule = get_rule("expert_hybrid", order="row_then_polar", shared_scale=shared)
        gap = np.abs(steps(rule, grads)[:, 0] - steps(rule, other)[:, 0]).max()
        assert (gap > 1e-2) == shared


# Orientations, heads, experts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)], ids=str)
def test_orientations_are_undone(orientation: Orientation, batch: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=(*batch, 4, 6))
    np.testing.assert_array_equal(unorient(orient(x, orientation), orientation), x)


def test_pair_orientations_interleave_gate_and_up() -> None:
    r, d = 3, 2
    gate, up = np.random.default_rng(0).normal(size=(2, r, d))
    expected = np.stack([gate, up], axis=-1).reshape(r, 2 * d)
    np.testing.assert_array_equal(orient(np.concatenate([gate, up]), "olmoe_gate_up_pair"), expected)
    gpt_oss = np.empty((d, 2 * r))
    gpt_oss[:, ::2], gpt_oss[:, 1::2] = gate.T, up.T
    np.testing.assert_array_equal(orient(gpt_oss, "gpt_oss_gate_up_pair"), expected)


def test_blocks_are_where_the_models_store_them() -> None:
    x = np.arange(24.0).reshape(4, 6)
    np.testing.assert_array_equal(split_rows(x, 2)[1], x[2:])
    np.testing.assert_array_equal(split_columns(x, 2)[1], x[:, 3:])
    np.testing.assert_array_equal(split_columns(x, 2, interleaved=True)[1], x[:, 1::2])
    for interleaved in (False, True):
        np.testing.assert_array_equal(
            merge_columns(split_columns(x, 3, interleaved=interleaved), interleaved=interleaved), x
        )
    np.testing.assert_array_equal(merge_rows(split_rows(x, 2)), x)


@pytest.mark.parametrize("orientation", ["olmoe_gate_up_pair", "gpt_oss_gate_up_pair"])
@pytest.mark.parametrize("name", ["row_norm", "hybrid"])
@pytest.mark.parametrize("center_rows", [False, True])
def test_pair_orientations_have_the_pair_group(orientation: Orientation, name: str, center_rows: bool) -> None:
    # (Signed) permutations of the units and every rotation of the 2d columns of the pair matrix.
    options = {"order": "row_then_polar"} if name == "hybrid" else {}
    rule = get_rule(name, orientation=orientation, center_rows=center_rows, **options)
    grads = gradients((8, 3) if orientation == "olmoe_gate_up_pair" else (3, 8))
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    p = np.eye(4)[rng.permutation(4)]
    signs = np.diag([1.0, -1.0, 1.0, -1.0])

    def moved(x: np.ndarray, left: np.ndarray) -> np.ndarray:
        return unorient(left @ orient(x, orientation) @ q.T, orientation)

    plain = steps(rule, grads)
    for left, holds in ((p, True), (signs @ p, not center_rows)):
        gap = np.abs(steps(rule, [moved(grad, left) for grad in grads]) - moved(plain, left)).max()
        assert gap <= 10 * allowed(grads) if holds else gap > 1e-2


def test_signs_of_the_up_half_are_respected_by_pair_rows_and_not_by_pair_polar() -> None:
    grads = gradients((8, 3))
    signs = np.concatenate([np.ones(4), [1.0, -1.0, -1.0, 1.0]])[:, None]
    for name, options, holds in (("row_norm", {}, True), ("hybrid", {"order": "row_then_polar"}, False)):
        rule = get_rule(name, orientation="olmoe_gate_up_pair", **options)
        gap = np.abs(steps(rule, [signs * grad for grad in grads]) - signs * steps(rule, grads)).max()
        assert gap == 0 if holds else gap > 1e-2


def test_heads_are_stepped_as_matrices_of_their_own() -> None:
    for layout, axis in (("qkv", -2), ("o", -1)):
        grads = gradients((6, 6))
        rule = get_rule("muon_heads", heads=2, layout=layout)
        parts = [np.split(grad, 2, axis=axis) for grad in grads]
        alone = [steps(replace(rule, heads=1), [part[head] for part in parts]) for head in range(2)]
        np.testing.assert_allclose(steps(rule, grads), np.concatenate(alone, axis=axis), atol=1e4 * EPS)


def test_the_scale_of_a_head_uses_the_shape_of_the_head() -> None:
    grads = gradients((8, 8))
    exact = {"orthogonalizer": "exact"}
    whole, heads = (steps(get_rule("muon_heads", heads=h, layout="o", **exact), grads) for h in (1, 4))
    assert np.linalg.norm(whole[0], 2) == pytest.approx(1.0)
    assert np.linalg.norm(heads[0][:, :2], 2) == pytest.approx(2.0)


def test_gate_and_up_of_an_expert_are_orthogonalised_apart() -> None:
    grads = gradients((2, 6, 4))
    rule = get_rule("expert_muon", orientation="olmoe_gate_up_pair")
    one = replace(rule, orientation="row")
    apart = [steps(one, [grad[:, half] for grad in grads]) for half in (slice(3), slice(3, 6))]
    np.testing.assert_allclose(steps(rule, grads), np.concatenate(apart, axis=-2), atol=1e4 * EPS)
    assert np.abs(steps(rule, grads) - steps(replace(rule, orientation="row"), grads)).max() > 1e-2


# Momentum ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nesterov", [False, True])
def test_moving_average_and_heavy_ball_give_one_direction(nesterov: bool) -> None:
    # The buffers differ by 1 - momentum, look-ahead included.
    grads = gradients((4, 3))
    method = without_eps(ORTHOGONALIZERS["jordan"])
    rules = [
        get_rule("muon", nesterov=nesterov, accumulation=each, orthogonalizer=method) for each in ("ema", "heavy_ball")
    ]
    buffers = [trajectory(rule, np.zeros((4, 3)), grads)[1]["momentum"] for rule in rules]
    np.testing.assert_allclose(buffers[0], 0.05 * buffers[1], atol=32 * EPS)
    slope = 3.4445**5
    np.testing.assert_allclose(steps(rules[0], grads), steps(rules[1], grads), atol=32 * EPS * slope)


def test_the_two_conventions_differ_for_a_rule_with_magnitude() -> None:
    grads = gradients((4, 3))
    sgd = steps(get_rule("sgd", momentum=0.95), grads)
    average = steps(get_rule("sgd", momentum=0.95, dampening=0.95), grads)
    assert np.abs(sgd - average).max() > 0.1


def test_muon_conventions_are_one_rule_with_other_defaults() -> None:
    grads = gradients((6, 3))
    base = steps(get_rule("muon"), grads)
    torch_muon = replace(get_rule("muon_torch"), weight_decay=0.0)
    moonlight = replace(get_rule("muon_moonlight"), weight_decay=0.0)
    # Adding 1e-7 to a norm of order 0.1 or clamping at it: a relative change of 1e-6, magnified by the slope 485 at
    # most.
    np.testing.assert_allclose(steps(torch_muon, grads), base, atol=485e-6)
    ratio = 0.2 * np.sqrt(6) / np.sqrt(2)
    np.testing.assert_allclose(steps(moonlight, grads), ratio * base, atol=485e-6)


def test_constrained_scion_is_decoupled_decay_at_rate_one() -> None:
    grads, weight = gradients((4, 3)), np.ones((4, 3))
    frank_wolfe, _ = trajectory(get_rule("scion", lr=0.1), weight, grads)
    decayed, _ = trajectory(get_rule("scion", lr=0.1, constrained=False, weight_decay=1.0), weight, grads)
    np.testing.assert_array_equal(np.stack(frank_wolfe), np.stack(decayed))


@pytest.mark.parametrize(
    ("options", "norm"),
    [
        ({"norm": "spectral", "orthogonalizer": "exact"}, lambda u: np.linalg.norm(u, 2) / np.sqrt(4 / 3)),
        ({"norm": "spectral", "orthogonalizer": "exact", "normalized": False}, lambda u: np.linalg.norm(u, 2) / 2),
        ({"norm": "sign"}, lambda u: np.abs(u).max() * 3),
        ({"norm": "sign", "normalized": False}, lambda u: np.abs(u).max()),
        ({"norm": "col"}, lambda u: np.linalg.norm(u, axis=0).max() / 2),
        ({"norm": "col", "normalized": True}, lambda u: np.linalg.norm(u, axis=0).max() * 3 / 2),
        ({"norm": "col", "transpose": True}, lambda u: np.linalg.norm(u, axis=1).max() / np.sqrt(3)),
        ({"norm": "row"}, lambda u: np.linalg.norm(u, axis=1).max() * np.sqrt(3)),
        ({"norm": "row", "normalized": False}, lambda u: np.linalg.norm(u, axis=1).max()),
        ({"norm": "bias_rms"}, lambda u: np.linalg.norm(u) / np.sqrt(12)),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_scion_steps_to_the_surface_of_its_ball(options: dict[str, object], norm: object) -> None:
    grads = gradients((4, 3))
    for got in steps(get_rule("scion", constrained=False, eps=0.0, scale=7.0, **options), grads):
        assert norm(got) == pytest.approx(7.0, rel=1e2 * EPS)  # type: ignore[operator]


# Methods inside rules ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["muon", "polargrad", "ssd", "scion"])
def test_converged_methods_give_the_exact_rule(name: str) -> None:
    grads = gradients((5, 3))
    exact = steps(get_rule(name, orthogonalizer="exact"), grads)
    converged = NewtonSchulz(((1.5, -0.5, 0.0),) * 40)
    for method in (QDWH(), converged):
        gap = np.abs(steps(get_rule(name, orthogonalizer=method), grads) - exact).max() / np.abs(exact).max()
        assert gap <= 10 * allowed(grads)


def test_the_gram_form_inside_muon_changes_nothing() -> None:
    grads = gradients((5, 3))
    gram = ORTHOGONALIZERS["gram_newton_schulz"]
    plain = replace(gram, gram_restarts=None)
    assert isinstance(plain, NewtonSchulz)
    slope = np.prod([a for a, _, _ in plain.schedule])
    np.testing.assert_allclose(
        steps(get_rule("muon", orthogonalizer=gram), grads),
        steps(get_rule("muon", orthogonalizer=plain), grads),
        atol=32 * 8 * EPS * slope**2,
    )


# Coordinate-wise rules ---------------------------------------------------------------------------------------------


def test_adam_without_eps_takes_a_sign_step_first_and_never_moves_a_dead_entry() -> None:
    grad = np.array([[3.0, -2.0, 0.0]])
    np.testing.assert_allclose(-steps(get_rule("adam", eps=0.0), [grad])[0], np.sign(grad), rtol=8 * EPS)


def test_uncorrected_eps_weighs_more_early() -> None:
    grad = np.full((1, 1), 1e-8)
    usual, raw = (-steps(get_rule("adamw", uncorrected_eps=each), [grad])[0, 0, 0] for each in (False, True))
    assert usual == pytest.approx(1 / 2)
    assert raw == pytest.approx(1 / (1 + 0.001**-0.5))


def test_lion_moves_by_the_momentum_before_its_update() -> None:
    first, second = np.array([[1.0]]), np.array([[-0.05]])
    # c = 0.9 * (0.01 * 1) + 0.1 * (-0.05) > 0: the old momentum wins.
    np.testing.assert_array_equal(steps(get_rule("lion"), [first, second])[1], [[-1.0]])


def test_adagrad_norm_is_one_scalar_per_matrix() -> None:
    grads = gradients((2, 4, 3))
    got = steps(get_rule("adagrad_norm", eps=0.0), grads)
    np.testing.assert_allclose(np.linalg.norm(got[0], axis=(-2, -1)), 1.0, rtol=8 * EPS)
    total = np.sqrt(np.sum(np.stack(grads) ** 2, axis=(0, -2, -1)))
    np.testing.assert_allclose(got[-1], -grads[-1] / total[:, None, None], rtol=64 * EPS)
