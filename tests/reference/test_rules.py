"""Every configuration of every rule: one code on all array libraries, purity, the claimed group and traits, no more."""

from __future__ import annotations

import copy
import dataclasses
import math
import re
import subprocess
import sys
from typing import Any

import array_api_strict
import numpy as np
import pytest
import torch
from array_api_compat import array_namespace
from hypothesis import given, settings
from hypothesis import strategies as st

from groups import parse_action
from reference import RULES, Rule, State, get_rule
from reference.conditioning import magnification, method_of
from reference.orthogonalizers import QDWH
from reference.rule import COLUMN_GRAM, ROW_GRAM
from reference.rules.soap import SOAP
from reference.state import align_gauge, move_state
from reference.trajectory import trajectory
from reference.variants import VARIANTS

EPS = float(np.finfo(np.float64).eps)
STEPS = 4
SHAPES = ((6, 4), (4, 6), (4, 4))
EXPERTS = 3

every_variant = pytest.mark.parametrize("rule", VARIANTS.values(), ids=VARIANTS.keys())


def stored(rule: Rule, shape: tuple[int, ...]) -> tuple[int, ...]:
    return (EXPERTS, *shape) if rule.min_ndim == 3 else shape


def data(shape: tuple[int, ...], seed: int = 0, *, centred: bool = False) -> tuple[np.ndarray, list[np.ndarray]]:
    """A weight and gradients that stay near one well-conditioned matrix, as momentum does: no cancellation by luck."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=shape)
    u, _, vt = np.linalg.svd(base, full_matrices=False)
    base = (u * np.linspace(1.0, 2.0, u.shape[-1])) @ vt
    grads = [base + 0.05 * rng.normal(size=shape) for _ in range(STEPS)]
    if centred:
        grads = [grad - grad.mean(axis=-2, keepdims=True) for grad in grads]
    return rng.normal(size=shape), grads


def shapes_of(rule: Rule) -> tuple[tuple[int, ...], ...]:
    """Shapes on which the side conditions of ``rule`` hold: the larger Gram matrix of a gradient is singular."""
    simple = any("simple spectrum" in condition for condition in rule.side_conditions)
    return tuple(stored(rule, shape) for shape in (SHAPES[2:] if simple else SHAPES))


def walk(rule: Rule, weight: Any, grads: list[Any]) -> tuple[list[Any], State]:
    """The trajectory from one and the same initial state in every library, and in every member of a batch."""
    np.random.seed(0)  # noqa: NPY002  (what rules with a random initial state draw from)
    xp, ndim = array_namespace(weight), max(2, rule.min_ndim)
    batch = tuple(weight.shape[: weight.ndim - ndim])
    state = {
        name: value
        if isinstance(value, int)
        else xp.asarray(np.broadcast_to(value, (*batch, *value.shape)).copy(), dtype=weight.dtype)
        for name, value in rule.init(np.zeros(weight.shape[weight.ndim - ndim :])).items()
    }
    return trajectory(rule, weight, grads, state)


def conditioning(grads: list[np.ndarray]) -> float:
    """Largest ratio of a gradient's norm to its smallest row, column or non-zero singular value, centred or not."""
    worst = 1.0
    for grad in grads:
        for x in (grad, grad - grad.mean(axis=-2, keepdims=True), grad - grad.mean(axis=-1, keepdims=True)):
            sigma = np.linalg.svd(x, compute_uv=False)
            small = np.concatenate([sigma[sigma > 1e-10].ravel(), np.linalg.norm(x, axis=-1).ravel()])
            small = np.concatenate([small, np.linalg.norm(x, axis=-2).ravel()])
            worst = max(worst, float(np.linalg.norm(x, axis=(-2, -1)).max() / small[small > 1e-10].min()))
    return worst


def bound(rule: Rule, grads: list[np.ndarray]) -> float:
    """Relative rounding bound: a backward error of a few ``(m + n) eps`` per step, times what the rule does to it."""
    m, n = grads[0].shape[-2:]
    return 8 * EPS * (m + n) * STEPS * max(conditioning(grads), gram_conditioning(rule, grads)) * magnification(rule)


def gram_conditioning(rule: Rule, grads: list[np.ndarray]) -> float:
    """Largest condition number of an accumulated Gram matrix: inverse roots magnify its rounding by at most that."""
    worst, (_, state) = 1.0, walk(rule, np.zeros_like(grads[0]), grads)
    for name, action in rule.state_actions.items():
        if name in state and action in (ROW_GRAM, COLUMN_GRAM):
            values = np.linalg.eigvalsh(state[name])
            worst = max(worst, float(values.max() / values[values > 1e-12 * values.max()].min()))
    return worst


def difference(got: list[Any], expected: list[Any]) -> float:
    """Largest difference over all steps, relative to the largest displacement; NaN counts as infinite."""
    scale = max(float(np.abs(np.asarray(each)).max()) for each in expected)
    assert scale > 0, "zero displacement: the comparison could not fail"
    worst = max(float(np.abs(np.asarray(a) - np.asarray(b)).max() / scale) for a, b in zip(got, expected, strict=True))
    return math.inf if math.isnan(worst) else worst


def defect(rule: Rule, spec: str, shape: tuple[int, ...], seed: int = 0) -> tuple[float, float]:
    """Largest equivariance defect over elements of the action ``spec``, and the bound; all elements in one batch."""
    weight, grads = data(shape, seed)
    action = parse_action(spec)
    elements = [*action.exact((shape,)), *action.sample((shape,), 6, rng=torch.Generator().manual_seed(seed))]
    moved, _ = walk(
        rule,
        np.stack([g.act((weight,))[0] for g in elements]),
        [np.stack([g.act_dual((grad,))[0] for g in elements]) for grad in grads],
    )
    plain, _ = walk(rule, weight, grads)
    return difference(moved, [np.stack([g.act_linear((each,))[0] for g in elements]) for each in plain]), bound(
        rule, grads
    )


# One array code ----------------------------------------------------------------------------------------------------


@every_variant
def test_numpy_and_torch_agree(rule: Rule) -> None:
    for shape in shapes_of(rule):
        weight, grads = data(shape)
        expected, _ = walk(rule, weight, grads)
        got, _ = walk(rule, torch.from_numpy(weight), [torch.from_numpy(grad) for grad in grads])
        assert difference(got, expected) <= bound(rule, grads), shape


@every_variant
def test_array_api_strict_accepts_the_code(rule: Rule) -> None:
    weight, grads = data(shapes_of(rule)[0])
    expected, _ = walk(rule, weight, grads)
    got, _ = walk(rule, array_api_strict.asarray(weight), [array_api_strict.asarray(grad) for grad in grads])
    assert difference(got, expected) <= bound(rule, grads)


@every_variant
def test_dtype_and_shape_are_kept(rule: Rule) -> None:
    weight, grads = data(stored(rule, SHAPES[1]))
    got, state = walk(rule, torch.from_numpy(weight).float(), [torch.from_numpy(grad).float() for grad in grads])
    assert {(each.dtype, tuple(each.shape)) for each in got} == {(torch.float32, weight.shape)}
    assert all(value.dtype == torch.float32 for value in state.values() if isinstance(value, torch.Tensor))


def test_names_need_no_array_library() -> None:
    code = "import sys, reference; assert reference.RULES; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Purity and batching -----------------------------------------------------------------------------------------------


@every_variant
def test_update_writes_no_argument_and_keeps_none(rule: Rule) -> None:
    weight, grads = data(stored(rule, SHAPES[0]))
    weight, grads = torch.from_numpy(weight), [torch.from_numpy(grad) for grad in grads]
    state = rule.init(weight)
    for grad in grads:
        before = copy.deepcopy((grad, state, weight))
        displacement, new = rule.update(grad, state, weight)
        assert torch.equal(grad, before[0])
        assert torch.equal(weight, before[2])
        assert state.keys() == before[1].keys() == new.keys()
        for key, value in before[1].items():
            assert torch.equal(state[key], value) if isinstance(value, torch.Tensor) else state[key] == value
        arguments = [grad, weight, *(each for each in state.values() if isinstance(each, torch.Tensor))]
        results = [displacement, *(each for each in new.values() if isinstance(each, torch.Tensor))]
        storages = [each.untyped_storage().data_ptr() for each in arguments + results]
        assert len(set(storages)) == len(storages)
        state = new


@every_variant
def test_a_batch_is_stepped_like_its_members(rule: Rule) -> None:
    members = [data(shapes_of(rule)[0], seed) for seed in range(2)]
    weight = np.stack([weight for weight, _ in members])
    grads = [np.stack(pair) for pair in zip(*(grads for _, grads in members), strict=True)]
    batched, _ = walk(rule, weight, grads)
    for index, (one_weight, one_grads) in enumerate(members):
        alone, _ = walk(rule, one_weight, one_grads)
        assert difference([each[index] for each in batched], alone) <= bound(rule, one_grads)


@every_variant
def test_initial_state_ignores_the_values_of_the_weight(rule: Rule) -> None:
    weight = np.full(stored(rule, SHAPES[0]), np.nan)
    for value in rule.init(weight).values():
        assert np.all(np.isfinite(value))


@every_variant
def test_zero_gradients_do_not_move_the_direction(rule: Rule) -> None:
    weight, _ = data(stored(rule, SHAPES[0]))
    for each in (rule, rule.without_eps()):
        displacement, _ = each.update(np.zeros_like(weight), each.init(weight), weight)
        if rule.decay_rate == 0:
            assert np.all(displacement == 0)
        assert np.all(np.isfinite(displacement))


@every_variant
def test_nan_in_the_gradient_is_never_hidden(rule: Rule) -> None:
    weight, (grad, *_) = data(stored(rule, SHAPES[0]))
    for library in (np.asarray, torch.tensor):
        bad = grad.copy()
        bad[..., 1, 2] = np.nan
        try:
            displacement, _ = rule.update(library(bad), rule.init(library(weight)), library(weight))
        except (np.linalg.LinAlgError, RuntimeError):
            continue  # numpy's and torch's SVD refuse NaN
        assert np.isnan(np.asarray(displacement)[..., 1, 2]).all()


# The claimed group, and nothing above it ---------------------------------------------------------------------------


@every_variant
def test_equivariance_under_the_claimed_group(rule: Rule) -> None:
    for shape in shapes_of(rule):
        found, allowed = defect(rule, rule.symmetry, shape)
        assert found <= allowed, shape


@settings(max_examples=25, deadline=None)
@given(rule=st.sampled_from(list(VARIANTS.values())), values=st.data())
def test_equivariance_under_exact_elements(rule: Rule, values: st.DataObject) -> None:
    shape = values.draw(st.sampled_from(shapes_of(rule)))
    g = values.draw(parse_action(rule.symmetry).elements((shape,)))
    weight, grads = data(shape)
    plain, _ = walk(rule, weight, grads)
    moved, _ = walk(rule, g.act((weight,))[0], [g.act_dual((grad,))[0] for grad in grads])
    assert difference(moved, [g.act_linear((each,))[0] for each in plain]) <= bound(rule, grads)


@every_variant
def test_one_step_from_any_state_commutes_with_the_group(rule: Rule) -> None:
    """``update(rho_S S, rho_dual G, rho W) = (rho U, rho_S S')``, with ``rho_S`` as declared, up to declared gauges."""
    for shape in shapes_of(rule):
        weight, grads = data(shape)
        action = parse_action(rule.joint_symmetry)
        elements = [*action.exact((shape,)), *action.sample((shape,), 4, rng=torch.Generator().manual_seed(0))]
        state = rule.init(weight)
        for grad in grads:
            expected, after = rule.update(grad, state, weight)
            for g in elements:
                found, moved = rule.update(g.act_dual((grad,))[0], move_state(rule, g, state), g.act((weight,))[0])
                if np.any(expected):
                    assert difference([found], [g.act_linear((expected,))[0]]) <= bound(rule, grads)
                else:
                    assert not np.any(found)
                wanted = move_state(rule, g, after)
                assert moved.keys() == wanted.keys()
                for name, value in align_gauge(rule, moved, wanted).items():
                    if isinstance(value, int):
                        assert value == wanted[name]
                    else:
                        assert np.abs(value - wanted[name]).max() <= bound(rule, grads) * np.abs(wanted[name]).max()
            weight, state = weight + expected, after


GAUGED = {name: rule for name, rule in VARIANTS.items() if "Sign" in rule.gauges.values()}


@pytest.mark.parametrize("rule", GAUGED.values(), ids=GAUGED.keys())
def test_the_displacement_does_not_see_the_declared_signs(rule: Rule) -> None:
    shape = shapes_of(rule)[0]
    weight, grads = data(shape)
    _, state = walk(rule, weight, grads)
    expected, after = rule.update(grads[0], state, weight)
    flipped = dict(state)
    for label, family in rule.gauges.items():
        assert family == "Sign"
        for name, action in rule.state_actions.items():
            if name in state and action.signed and label in action.axes:
                axis = action.axes.index(label)
                signs = np.where(np.arange(state[name].shape[axis]) % 2, 1.0, -1.0)
                flipped[name] = flipped[name] * np.expand_dims(signs, 1 - axis)
    assert any(not np.array_equal(flipped[name], state[name]) for name in state)
    found, moved = rule.update(grads[0], flipped, weight)
    assert difference([found], [expected]) <= bound(rule, grads)
    for name, value in align_gauge(rule, moved, after).items():
        assert np.abs(np.asarray(value) - after[name]).max() <= bound(rule, grads) * np.abs(after[name]).max()


def test_a_state_without_declared_action_is_refused() -> None:
    rule = get_rule("sgd")
    (g,) = parse_action("O(rows)").sample((SHAPES[0],), 1, rng=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="rule 'sgd' does not declare how its state 'velocity' moves"):
        move_state(rule, g, {"velocity": np.zeros(SHAPES[0])})


def test_declared_actions_of_states_are_needed() -> None:
    """What the test above would miss if it moved no state: squares that stay where they are."""
    rule, (weight, grads) = get_rule("adam"), data(SHAPES[0])
    (g,) = parse_action(rule.symmetry).sample((SHAPES[0],), 1, rng=torch.Generator().manual_seed(0))
    expected, state = rule.update(grads[0], rule.init(weight), weight)
    still = {**move_state(rule, g, state), "square": state["square"]}
    moved, _ = rule.update(g.act_dual((grads[1],))[0], still, g.act((weight,))[0])
    expected, _ = rule.update(grads[1], state, weight)
    assert difference([moved], [g.act_linear((expected,))[0]]) > 1e-3


ABOVE = {
    "Perm(": ("SPerm(", "Stab1("),
    "SPerm(": ("O(",),
    "Stab1(": ("O(",),
    "(O wr Perm[2])(": ("O(",),
    "O(rows)": ("GL(rows)",),
    "O(cols)": ("GL(cols)",),
    "O(entries)": ("GL(rows)", "GL(cols)"),
}
"""Each family of an axis and the next larger ones; every replacement of one factor must break the rule."""


def one_class_above(spec: str) -> list[str]:
    larger = []
    for family, replacements in ABOVE.items():
        for match in re.finditer(rf"(?<![\w*]){re.escape(family)}(?!experts)", spec):
            larger += [spec[: match.start()] + new + spec[match.end() :] for new in replacements]
    return larger + (["O(entries)"] if spec == "O(rows) x O(cols)" else [])


def test_one_class_above_replaces_one_factor() -> None:
    assert one_class_above("Perm(rows) x O(cols)") == [
        "SPerm(rows) x O(cols)",
        "Stab1(rows) x O(cols)",
        "Perm(rows) x GL(cols)",
    ]
    assert "(O(rows) x O(cols)) wr Perm(experts)" in one_class_above("(SPerm(rows) x O(cols)) wr Perm(experts)")


PAIRS = [name for name in VARIANTS if "pair" in name]
"""Their full group has no name as an action on the stored weight; see `test_pair_orientations_have_the_pair_group`."""
MAXIMAL = [
    pytest.param(VARIANTS[name], spec, id=f"{name}: {spec}")
    for name in VARIANTS
    if name not in PAIRS
    for spec in one_class_above(VARIANTS[name].symmetry)
]


@pytest.mark.parametrize(("rule", "spec"), MAXIMAL)
def test_equivariance_fails_one_class_above(rule: Rule, spec: str) -> None:
    # Some shape must show it: the polar factor of a wide matrix has unit rows, so there one order of the hybrid is
    # bi-orthogonal.
    assert any(defect(rule, spec, shape)[0] > 1e-3 for shape in shapes_of(rule))


# Traits ------------------------------------------------------------------------------------------------------------


def shifted(x: np.ndarray, seed: int) -> np.ndarray:
    return x + np.random.default_rng(seed).normal(size=(*x.shape[:-2], 1, x.shape[-1]))


def centre(x: np.ndarray) -> np.ndarray:
    return x - x.mean(axis=-2, keepdims=True)


def assert_trait(claimed: bool, found: list[float], allowed: float) -> None:
    """The trait holds on all shapes if claimed, and visibly fails on one if not."""
    if claimed:
        assert max(found) <= allowed
    else:
        assert max(found) > 1e-3


@every_variant
def test_shift_traits(rule: Rule) -> None:
    fast = dataclasses.replace(rule, lr=0.1)
    equivariance, quotient, insensitivity, horizontality, allowed = [], [], [], [], 0.0
    for shape in shapes_of(rule):
        weight, grads = data(shape)
        allowed = max(allowed, 10 * bound(rule, grads))  # decay of a shifted weight: entries up to 10 times larger
        plain, _ = walk(fast, weight, grads)
        moved, _ = walk(fast, shifted(weight, 1), grads)
        seen, _ = walk(fast, weight, [shifted(grad, 2 + i) for i, grad in enumerate(grads)])
        level, _ = walk(fast, weight, data(shape, centred=True)[1])
        scale = max(float(np.abs(each).max()) for each in plain)
        equivariance.append(difference(moved, plain))
        quotient.append(max(float(np.abs(centre(a - b)).max()) for a, b in zip(moved, plain, strict=True)) / scale)
        insensitivity.append(difference(seen, plain))
        # SOAP divides the row that belongs to the all-ones vector, rounding over nothing, by eps.
        noise = STEPS * EPS * math.sqrt(weight.size) / rule.eps if isinstance(rule, SOAP) else 0.0
        # A centred matrix has rank below m. QDWH lifts the rounding in its null direction unless m > n leaves no room.
        if not isinstance(method_of(rule), QDWH) or shape[0] > shape[1]:
            found = max(float(np.abs(each.mean(axis=-2)).max()) for each in level) / scale
            horizontality.append(max(found - noise, 0.0))
    traits = rule.traits
    assert_trait(traits.shift_equivariant, equivariance, allowed)
    assert_trait(traits.shift_quotient, quotient, allowed)
    assert_trait(traits.shift_insensitive, insensitivity, allowed)
    assert_trait(traits.horizontal, horizontality, allowed)


@every_variant
def test_homogeneity_degree_without_eps(rule: Rule) -> None:
    rule = rule.without_eps()
    weight, grads = data(shapes_of(rule)[0])
    plain, _ = walk(rule, weight, grads)
    factors = (2.0**-12, 2.0**9)
    scaled = [walk(rule, weight, [factor * grad for grad in grads])[0] for factor in factors]

    def worst(degree: float) -> float:
        pairs = zip(scaled, factors, strict=True)
        return max(difference([each / factor**degree for each in moved], plain) for moved, factor in pairs)

    degree = rule.traits.degree
    if degree is not None:
        assert worst(degree) <= bound(rule, grads)
    else:
        for wrong in (0, 1):
            assert worst(wrong) > 1e-3


# The registry ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RULES)
def test_rules_are_frozen_values_with_defaults_and_sources(name: str) -> None:
    rule = get_rule(name)
    assert rule == get_rule(name)
    assert hash(rule) == hash(get_rule(name))
    assert rule.name == name
    assert rule.source
    assert rule.lr > 0
    assert rule.weight_decay >= 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.lr = 1.0  # type: ignore[misc]
    assert str(parse_action(rule.symmetry)) == rule.symmetry


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("rownorm", {}, "unknown rule 'rownorm'; known rules: adafactor"),
        ("sgd", {"beta": 1}, "rule 'sgd' has no hyper-parameter 'beta'; it has: lr, weight_decay"),
        ("sgd", {"lr": -1.0}, "rule 'sgd': lr must be finite and >= 0, got -1.0"),
        ("sgd", {"nesterov": True}, "rule 'sgd': nesterov needs momentum > 0"),
        ("adam", {"betas": (0.9, 1.0)}, "rule 'adam': betas must lie in [0, 1)"),
        ("hybrid", {"order": "row"}, "rule 'hybrid': order must be one of polar_then_row, row_then_polar, got 'row'"),
        ("muon", {"orthogonalizer": "svd"}, "unknown orthogonalizer 'svd'; known: aol"),
        ("muon_heads", {"heads": 0}, "rule 'muon_heads': heads must be an integer >= 1, got 0"),
        ("scion", {"weight_decay": 0.1}, "rule 'scion': constrained steps shrink the weight already"),
    ],
)
def test_bad_hyper_parameters_get_one_line(name: str, hyper: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        get_rule(name, **hyper)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "shape", "message"),
    [
        (get_rule("muon"), (3,), "rule 'muon' needs at least 2 axes, got shape (3,)"),
        (get_rule("expert_muon"), (3, 2), "rule 'expert_muon' needs at least 3 axes"),
        (get_rule("scion"), (3,), "rule 'scion': norm 'spectral' needs at least 2 axes"),
        (get_rule("muon_heads", heads=2), (3, 4), "rule 'muon_heads': 2 heads do not divide an axis of size 3"),
        (get_rule("row_norm", orientation="olmoe_gate_up_pair"), (3, 4), "even size, got 3"),
    ],
)
def test_bad_shapes_get_one_line(rule: Rule, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        rule.init(np.zeros(shape))


def test_gradient_of_another_shape_is_refused() -> None:
    rule = get_rule("sgd")
    with pytest.raises(ValueError, match=r"gradient has shape \(3, 2\) but weight has \(2, 3\)"):
        rule.update(np.zeros((3, 2)), {}, np.zeros((2, 3)))
