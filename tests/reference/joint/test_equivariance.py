"""Joint rules commute with their gauges over whole trajectories, and the rules of single matrices do not.

Both sides of a defect are float64 trajectories of `STEPS` steps. Rounding of a step is multiplied by at most
``magnification`` (the slope of the polynomials of Muon; 1 for Adam, over the eps that is on), so the bound is
``C eps magnification`` of the size of the weights, with C for the few hundred operations of a trajectory.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groups import JOINT_BLOCKS, parse_action
from reference import JOINT_RULES, get_joint_rule, get_rule
from reference.conditioning import slope
from reference.orthogonalizers import get_orthogonalizer
from symcheck.builtin import JOINT_CONFIGS, RULE_CONFIGS, joint_target

STEPS = 15
EPS = float(np.finfo(np.float64).eps)
C = 500.0
HYPER = {"lr": 0.05, "weight_decay": 0.1, "eps": 1e-3}


def configurations():
    for name, configs in JOINT_CONFIGS.items():
        for config in configs:
            rule = get_joint_rule(name, **{**HYPER, **config})
            for block in joint_target(name, config).blocks:
                yield pytest.param(
                    rule, JOINT_BLOCKS[block], id=f"{name}-{'-'.join(map(str, config.values()))}-{block}"
                )


CONFIGURATIONS = list(configurations())
HELD = [p for p in CONFIGURATIONS if p.values[1].action <= parse_action(p.values[0].symmetry)]
BROKEN = [p for p in CONFIGURATIONS if p not in HELD]


def magnification(rule):
    return slope(get_orthogonalizer(rule.orthogonalizer).schedule) if rule.base == "muon" else 1.0


def inputs(shapes, seed, steps=STEPS):
    source = np.random.default_rng(seed)
    weights = tuple(source.standard_normal(shape) for shape in shapes)
    return weights, [tuple(source.standard_normal(shape) for shape in shapes) for _ in range(steps)]


def trajectory(rule, weights, grads):
    """The weights after all steps, the last displacements, and the last state."""
    state, moved = rule.init(weights), ()
    for step in grads:
        moved, state = rule.update(step, state, weights)
        weights = tuple(w + u for w, u in zip(weights, moved, strict=True))
    return weights, moved, state


def relative(first, second):
    sizes = [max(np.abs(b).max(), np.finfo(np.float64).tiny) for b in second]
    return max(np.abs(a - b).max() / size for a, b, size in zip(first, second, sizes, strict=True))


def defect(run, element, weights, grads):
    """How far the trajectory of transformed inputs is from the transformed trajectory, of its size."""
    there = run(element.act_linear(weights), [element.act_dual(step) for step in grads])
    return relative(there, element.act_linear(run(weights, grads)))


def bound(rule):
    return C * EPS * magnification(rule)


@pytest.mark.parametrize(("rule", "block"), HELD)
def test_trajectories_are_equivariant_to_rounding(rule, block):
    shapes = block.shapes[3]
    weights, grads = inputs(shapes, 3)
    elements = [*block.action.exact(shapes), *block.action.sample(shapes, 3, rng=torch.Generator().manual_seed(5))]
    assert len(elements) > 3
    run = lambda w, g: trajectory(rule, w, g)[0]  # noqa: E731
    assert max(defect(run, element, weights, grads) for element in elements) <= bound(rule)


@pytest.mark.parametrize(("rule", "block"), BROKEN)
def test_what_is_not_claimed_does_not_hold(rule, block):
    shapes = block.shapes[3]
    weights, grads = inputs(shapes, 3)
    run = lambda w, g: trajectory(rule, w, g)[0]  # noqa: E731
    assert max(defect(run, element, weights, grads) for element in block.action.exact(shapes)) > 1e-3


@pytest.mark.parametrize("name", ["ddc_rescaling", "ddc_scale"])
@pytest.mark.parametrize("base", ["adam", "muon"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_element_of_the_claimed_group(name, base, data):
    """Not the gauge alone: reflections and permutations of the units, and what the base respects beside them."""
    rule = get_joint_rule(name, base=base, horizontal=data.draw(st.booleans()), **HYPER)
    action = parse_action(rule.symmetry)
    shapes = data.draw(st.sampled_from([((3, 2), (2, 3)), ((2, 4), (4, 2)), ((1, 2), (3, 1))]))[: len(rule.tensors)]
    element = data.draw(action.elements(shapes))
    weights, grads = inputs(shapes, data.draw(st.integers(0, 99)), steps=4)
    run = lambda w, g: trajectory(rule, w, g)[0]  # noqa: E731
    # An element is a product of four moves at most, which stretch an entry by 2^10 and its neighbours not at all.
    assert defect(run, element, weights, grads) <= 2**10 * bound(rule)


def test_plain_adam_breaks_the_rescaling_and_keeps_reflections():
    block = JOINT_BLOCKS["swiglu_scaling"]
    shapes = block.shapes[3]
    weights, grads = inputs(shapes, 3)
    adam = get_rule("adamw", **HYPER)

    def run(weights, grads):
        states = [adam.init(w) for w in weights]
        for step in grads:
            pairs = [adam.update(g, s, w) for g, s, w in zip(step, states, weights, strict=True)]
            weights, states = tuple(w + u for w, (u, _) in zip(weights, pairs, strict=True)), [s for _, s in pairs]
        return weights

    stretches = JOINT_BLOCKS["relu_scaling"].action.exact(shapes)
    reflections = parse_action("up: S(rows); down: S(cols) where S = Sign").exact(shapes)
    assert max(defect(run, element, weights, grads) for element in stretches) > 0.1
    assert max(defect(run, element, weights, grads) for element in reflections) <= C * EPS


@pytest.mark.parametrize(("rule", "block"), HELD)
def test_the_state_never_moves_with_a_stretch_and_turns_with_a_rotation(rule, block):
    """The state of the base is a function of invariant gradients, but for what the gauge merely turns."""
    shapes = block.shapes[3]
    weights, grads = inputs(shapes, 3)
    turning = rule.name == "ddc_rotation" or block.name == "swiglu_whole"
    for element in block.action.exact(shapes):
        _, _, here = trajectory(rule, weights, grads)
        _, _, there = trajectory(rule, element.act_linear(weights), [element.act_dual(g) for g in grads])
        first, linear = "mean" if rule.base == "adam" else "momentum", [dict(state) for state in here]
        expected = tuple(state[first] for state in linear)
        if turning and rule.name == "ddc_rotation":
            expected = element.act_dual(expected)
        elif turning:
            continue  # the whole group permutes units as well: covered by the trajectories
        found = tuple(state[first] for state in there)
        signs = [np.sign(np.where(b == 0, 1, a * b)) for a, b in zip(found, expected, strict=True)]
        if not turning:  # a reflection of a unit is one of its state
            expected = tuple(s * e for s, e in zip(signs, expected, strict=True))
            assert element.act_linear(weights) is not weights
        assert relative(found, expected) <= bound(rule)
        if rule.base == "adam":
            squares = [(state["square"], other["square"]) for state, other in zip(there, here, strict=True)]
            assert relative([a for a, _ in squares], [b for _, b in squares]) <= bound(rule)


@pytest.mark.parametrize("base", ["adam", "muon"])
@pytest.mark.parametrize(
    ("name", "gauge"),
    [
        ("ddc_rescaling", "up: D(rows); down: D*(cols) where D = Scale"),
        ("ddc_rescaling", "gain: D(rows); gate: D*(cols); up: D*(cols) where D = Scale"),
        ("ddc_scale", "gain: c(all); gate: c*(all); up: c*(all) where c = Scale"),
        ("ddc_scale", "Scale(all)"),
    ],
)
def test_horizontal_displacements_are_orthogonal_to_the_orbit(base, name, gauge):
    """In the invariant metric; the orbit's directions come from the Lie algebra of the gauge, by differences."""
    action = parse_action(gauge)
    shapes = {2: ((4, 3), (3, 4)), 3: ((4, 1), (3, 4), (2, 4)), 1: ((3, 4),)}[len(action.tensors)]
    weights, grads = inputs(shapes, 8)
    horizontal = get_joint_rule(name, gauge=gauge, base=base, horizontal=True, lr=0.05)
    free = get_joint_rule(name, gauge=gauge, base=base, horizontal=False, lr=0.05)
    sizes = action.sizes(shapes)[action.variable_names[0]]
    for rule, largest in ((horizontal, C * EPS * magnification(horizontal)), (free, np.inf)):
        before, _, state = trajectory(rule, weights, grads[:-1])
        moved, _ = rule.update(grads[-1], state, before)
        found = []
        for unit in range(sizes):
            direction = tangent(action, shapes, unit, before)
            metric = [length_of_unit(action, k, unit, before) ** 2 for k in range(len(shapes))]
            terms = [u * v / square for u, v, square in zip(moved, direction, metric, strict=True)]
            found.append(abs(sum(float(t.sum()) for t in terms)) / sum(float(np.abs(t).sum()) for t in terms))
        assert max(found) <= largest
        if rule is free:
            assert max(found) > 1e-3
    assert horizontal.traits.horizontal
    assert not free.traits.horizontal


def tangent(action, shapes, unit, weights):
    """The derivative of ``exp(t E_unit) . weights`` at zero: ``(g - g^{-1}) W / (2 sinh t)`` is exact for scalings."""
    from groups import Element

    n = action.sizes(shapes)[action.variable_names[0]]
    values = [[2 if i == j == unit else int(i == j) for j in range(n)] for i in range(n)]
    up = action.element(shapes, {action.variable_names[0]: Element.from_exact(values)})
    down = ~up
    # d/dt of c^k at c = 1 is k: (2^k - 2^-k) / 1.5 is k for k = 1, -1 and 0.
    return tuple((a - b) / 1.5 for a, b in zip(up.act_linear(weights), down.act_linear(weights), strict=True))


def length_of_unit(action, index, unit, weights):
    """The length of the unit over all tensors that move as this one does."""
    own = action.factors[index][0]
    total = 0.0
    for k, w in enumerate(weights):
        (factor,) = action.factors[k]
        if factor.dual == own.dual:
            part = w if factor.axis == "all" else w[unit] if factor.axis == "rows" else w[:, unit]
            total += float((part * part).sum())
    return total**0.5


@pytest.mark.parametrize("name", JOINT_RULES)
@pytest.mark.parametrize("base", ["adam", "muon"])
@pytest.mark.parametrize("power", [-20, 20])
def test_degree_without_eps(name, base, power):
    rule = get_joint_rule(name, base=base, lr=0.05, weight_decay=0.1).without_eps()
    assert rule.traits.degree == 0
    shapes = ((4, 3), (3, 4))[: len(rule.tensors)]
    weights, grads = inputs(shapes, 1, steps=4)
    scaled = [tuple(2.0**power * g for g in step) for step in grads]
    assert relative(trajectory(rule, weights, scaled)[0], trajectory(rule, weights, grads)[0]) <= bound(rule)


@pytest.mark.parametrize(("rule", "block"), HELD)
def test_numpy_and_torch_and_batches_agree(rule, block):
    shapes = block.shapes[3]
    weights, grads = inputs(shapes, 4, steps=3)
    alone, *_ = trajectory(rule, weights, grads)
    tensors, *_ = trajectory(
        rule, tuple(map(torch.tensor, weights)), [tuple(map(torch.tensor, step)) for step in grads]
    )
    assert relative([t.numpy() for t in tensors], alone) <= bound(rule)
    other_weights, other_grads = inputs(shapes, 5, steps=3)
    stacked = tuple(np.stack(pair) for pair in zip(weights, other_weights, strict=True))
    steps = [tuple(np.stack(p) for p in zip(a, b, strict=True)) for a, b in zip(grads, other_grads, strict=True)]
    together, *_ = trajectory(rule, stacked, steps)
    assert relative([t[0] for t in together], alone) <= bound(rule)


@pytest.mark.parametrize(("rule", "block"), HELD)
def test_no_argument_is_written(rule, block):
    weights, grads = inputs(block.shapes[3], 4, steps=1)
    state = rule.init(weights)
    kept = [w.copy() for w in (*weights, *grads[0])]
    held = [{k: v.copy() if hasattr(v, "copy") else v for k, v in part.items()} for part in state]
    moved, new = rule.update(grads[0], state, weights)
    assert all((a == b).all() for a, b in zip((*weights, *grads[0]), kept, strict=True))
    for part, before, after in zip(state, held, new, strict=True):
        assert part.keys() == before.keys()
        assert all(np.array_equal(part[k], before[k]) for k in part)
        assert not any(
            np.shares_memory(v, w) for v in after.values() if hasattr(v, "shape") for w in (*weights, *grads[0])
        )
    assert all(np.abs(u).max() > 0 for u in moved)


@pytest.mark.parametrize("horizontal", [False, True])
def test_a_unit_without_weights_stands_still_and_hurts_nobody(horizontal):
    rule = get_joint_rule("ddc_rescaling", lr=0.1, horizontal=horizontal)
    weights, grads = inputs(((3, 2), (2, 3)), 1, steps=3)
    weights[1][:, 1] = 0.0
    found, _, state = trajectory(rule, weights, grads)
    assert (found[1][:, 1] == 0).all()
    assert all(np.isfinite(w).all() for w in found)
    assert all(np.isfinite(s["mean"]).all() for s in state)
    assert (found[0][1] != weights[0][1]).any()


def test_configurations_are_those_of_every_joint_rule():
    assert JOINT_CONFIGS.keys() == JOINT_RULES.keys()
    assert {p.values[0].base for p in HELD} == {"adam", "muon"}
    assert "ddc_shift" in RULE_CONFIGS
    assert len(HELD) >= 12
    assert len(BROKEN) >= 2


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("ddc_rescaling", {"base": "sgd"}, "base must be one of adam, muon, got 'sgd'"),
        ("ddc_rescaling", {"betas": (1.0, 0.9)}, "betas must lie in"),
        ("ddc_rescaling", {"gauge": "up: D(rows); down: D(cols) where D = O"}, "a scaling is one variable in Scale"),
        ("ddc_rescaling", {"gauge": "up: D(rows; down"}, "position 10: expected"),
        ("ddc_rescaling", {"gauge": "(up: D(rows); down: D*(cols) where D = Scale) wr Perm(experts)"}, "of one expert"),
        ("ddc_rotation", {"gauge": "value: B(rows); output: B*(cols) where B = GL"}, "a rotation is O, U1"),
        ("ddc_rotation", {"gauge": "value: 1; output: 1"}, "a rotation is O, U1"),
        ("ddc_scale", {"lr": -1.0}, "lr must be finite and >= 0"),
        ("ddc_scale", {"orthogonalizer": "qr", "base": "muon"}, "unknown orthogonalizer 'qr'"),
        ("ddc_scale", {"gain": 1}, "no hyper-parameter 'gain'; it has: lr, weight_decay, gauge"),
        ("ddc_gauge", {}, "unknown joint rule 'ddc_gauge'; known joint rules: ddc_rescaling, ddc_rotation, ddc_scale"),
    ],
)
def test_bad_hyper_parameters_get_one_line(name, hyper, message):
    with pytest.raises(ValueError, match=message) as caught:
        get_joint_rule(name, **hyper)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((3, 2),), r"blocks of 2 tensors \(up, down\), got 1"),
        (((3, 2), (2, 4)), "variable D has size 3 on up rows but 4 on down cols"),
    ],
)
def test_bad_shapes_get_one_line(shapes, message):
    rule = get_joint_rule("ddc_rescaling")
    with pytest.raises(ValueError, match=message) as caught:
        rule.init(tuple(np.zeros(shape) for shape in shapes))
    assert "\n" not in str(caught.value)
    weights = np.ones((3, 2)), np.ones((2, 3))
    with pytest.raises(ValueError, match="the gradient of down has shape"):
        rule.update((weights[0], np.ones((3, 2))), rule.init(weights), weights)
