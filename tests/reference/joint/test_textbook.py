"""Every joint rule against loops over single units and entries, written from the formulas and from nothing else.

A loop and the rule do the same few hundred operations in another order: the bound is 1000 eps, of the weights' size.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from reference import get_rule
from reference.joint import get_joint_rule

EPS = np.finfo(np.float64).eps
LR, DECAY, STEPS = 0.05, 0.1, 6
BETAS, ADAM_EPS, MU = (0.9, 0.99), 1e-3, 0.9
SHIFT, RESCALING = "ddc_shift", "ddc_rescaling"


def normal(*shape, seed):
    return np.random.default_rng(seed).standard_normal(shape)


def run(rule, weights, grads):
    """The weights after all steps."""
    state = rule.init(weights)
    for step in grads:
        moved, state = rule.update(step, state, weights)
        weights = tuple(w + u for w, u in zip(weights, moved, strict=True))
    return weights


class Coordinate:
    """Adam of one number, one step at a time."""

    def __init__(self):
        self.mean = self.square = 0.0
        self.step = 0

    def direction(self, g, square=None):
        beta1, beta2 = BETAS
        self.step += 1
        self.mean = beta1 * self.mean + (1 - beta1) * g
        self.square = beta2 * self.square + (1 - beta2) * (g * g if square is None else square)
        mean, root = self.mean / (1 - beta1**self.step), math.sqrt(self.square / (1 - beta2**self.step))
        return mean / (root + ADAM_EPS)


class Momentum:
    """Muon of one matrix with the polar factor by svd, one step at a time; Nesterov, averages."""

    def __init__(self):
        self.buffer = 0.0

    def direction(self, g):
        self.buffer = MU * self.buffer + (1 - MU) * g
        u, s, vt = np.linalg.svd((1 - MU) * g + MU * self.buffer, full_matrices=False)
        assert s.min() > 1e-6 * s.max()
        return math.sqrt(max(1.0, g.shape[0] / g.shape[1])) * (u @ vt)


def adams(shape):
    return np.array([Coordinate() for _ in range(math.prod(shape))], dtype=object).reshape(shape)


def hyper(base):
    return {"lr": LR, "weight_decay": DECAY, "betas": BETAS, "eps": ADAM_EPS, "momentum": MU, "base": base} | {
        "orthogonalizer": "exact"
    }


def close(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert np.abs(a - b).max() <= 1000 * EPS * max(1.0, np.abs(b).max())
        assert np.isfinite(a).all()


def length(*vectors):
    return math.sqrt(sum(float(x) ** 2 for v in vectors for x in np.ravel(v)))


@pytest.mark.parametrize("base", ["adam", "muon"])
def test_shift(base):
    m, n = 5, 3
    weight, grads = normal(m, n, seed=0), [normal(m, n, seed=1 + t) for t in range(STEPS)]
    expected, each, whole = weight.copy(), adams((m, n)), Momentum()
    for grad in grads:
        centred = np.array([[grad[i, j] - sum(grad[:, j]) / m for j in range(n)] for i in range(m)])
        if base == "adam":
            u = np.array([[each[i, j].direction(centred[i, j]) for j in range(n)] for i in range(m)])
        else:
            u = whole.direction(centred)
        u = np.array([[u[i, j] - sum(u[:, j]) / m for j in range(n)] for i in range(m)])
        expected = expected - LR * u - LR * DECAY * expected
    rule = get_rule("ddc_shift", **hyper(base))
    state, found = rule.init(weight), weight
    for grad in grads:
        moved, state = rule.update(grad, state, found)
        found = found + moved
    close((found,), (expected,))


@pytest.mark.parametrize("horizontal", [False, True])
def test_rescaling_of_neurons_with_biases_on_adam(horizontal):
    r, d, out = 4, 3, 2
    gauge = "up: D(rows); bias: D(rows); down: D*(cols) where D = Scale+"
    shapes = ((r, d), (r, 1), (out, r))
    weights = tuple(normal(*s, seed=k) for k, s in enumerate(shapes))
    grads = [tuple(normal(*s, seed=10 * t + k) for k, s in enumerate(shapes)) for t in range(1, 1 + STEPS)]
    up, bias, down = (w.copy() for w in weights)
    of_up, of_bias, of_down = map(adams, shapes)
    for g_up, g_bias, g_down in grads:
        new = [up.copy(), bias.copy(), down.copy()]
        for j in range(r):
            a, b = length(up[j], bias[j]), length(down[:, j])
            u_up = [of_up[j, i].direction(a * g_up[j, i]) for i in range(d)]
            u_bias = of_bias[j, 0].direction(a * g_bias[j, 0])
            u_down = [of_down[i, j].direction(b * g_down[i, j]) for i in range(out)]
            if horizontal:
                along_a = (sum(u_up[i] * up[j, i] for i in range(d)) + u_bias * bias[j, 0]) / a
                along_b = sum(u_down[i] * down[i, j] for i in range(out)) / b
                k = (along_a - along_b) / 2
                u_up = [u_up[i] - k * up[j, i] / a for i in range(d)]
                u_bias = u_bias - k * bias[j, 0] / a
                u_down = [u_down[i] + k * down[i, j] / b for i in range(out)]
            for i in range(d):
                new[0][j, i] += -LR * a * u_up[i] - LR * DECAY * up[j, i]
            new[1][j, 0] += -LR * a * u_bias - LR * DECAY * bias[j, 0]
            for i in range(out):
                new[2][i, j] += -LR * b * u_down[i] - LR * DECAY * down[i, j]
        up, bias, down = new
    rule = get_joint_rule("ddc_rescaling", gauge=gauge, horizontal=horizontal, **hyper("adam"))
    close(run(rule, weights, grads), (up, bias, down))


def test_rescaling_of_neurons_on_muon_and_the_gate_beside_them():
    r, d = 4, 3
    gauge = "gate: 1; up: D(rows); down: D*(cols) where D = Scale"
    shapes = ((r, d), (r, d), (d, r))
    weights = tuple(normal(*s, seed=k) for k, s in enumerate(shapes))
    grads = [tuple(normal(*s, seed=10 * t + k) for k, s in enumerate(shapes)) for t in range(1, 1 + STEPS)]
    gate, up, down = (w.copy() for w in weights)
    each = Momentum(), Momentum(), Momentum()
    for g_gate, g_up, g_down in grads:
        a = np.diag([length(up[j]) for j in range(r)])
        b = np.diag([length(down[:, j]) for j in range(r)])
        u = each[0].direction(g_gate), a @ each[1].direction(a @ g_up), each[2].direction(g_down @ b) @ b
        gate, up, down = (w - LR * x - LR * DECAY * w for w, x in zip((gate, up, down), u, strict=True))
    rule = get_joint_rule("ddc_rescaling", gauge=gauge, **hyper("muon"))
    close(run(rule, weights, grads), (gate, up, down))


@pytest.mark.parametrize("base", ["adam", "muon"])
@pytest.mark.parametrize("horizontal", [False, True])
def test_scale_of_several_weights(base, horizontal):
    gauge = "embedding: c(all); output: c(all) where c = Scale+"
    shapes = ((3, 2), (2, 4))
    weights = tuple(normal(*s, seed=k) for k, s in enumerate(shapes))
    grads = [tuple(normal(*s, seed=10 * t + k) for k, s in enumerate(shapes)) for t in range(1, 1 + STEPS)]
    theta = list(weights)
    each, whole = [adams(s) for s in shapes], [Momentum(), Momentum()]
    for step in grads:
        size = length(*theta)
        if base == "adam":
            u = [
                np.array([[box[i, j].direction(size * g[i, j]) for j in range(g.shape[1])] for i in range(len(g))])
                for box, g in zip(each, step, strict=True)
            ]
        else:
            u = [one.direction(size * g) for one, g in zip(whole, step, strict=True)]
        if horizontal:
            radial = sum(float((x * w).sum()) for x, w in zip(u, theta, strict=True)) / size**2
            u = [x - radial * w for x, w in zip(u, theta, strict=True)]
        theta = [w - LR * size * x - LR * DECAY * w for w, x in zip(theta, u, strict=True)]
    rule = get_joint_rule("ddc_scale", gauge=gauge, horizontal=horizontal, **hyper(base))
    close(run(rule, weights, grads), theta)


def test_rotation_of_values_and_outputs_on_adam():
    heads, size, d = 2, 3, 4
    gauge = "value: B(rows); output: B(cols) where B = (O wr 1[2])"
    shapes = ((heads * size, d), (d, heads * size))
    weights = tuple(normal(*s, seed=k) for k, s in enumerate(shapes))
    grads = [tuple(normal(*s, seed=10 * t + k) for k, s in enumerate(shapes)) for t in range(1, 1 + STEPS)]
    value, output = (w.copy() for w in weights)
    of_value, of_output = map(adams, shapes)
    for g_value, g_output in grads:
        u_value, u_output = np.zeros_like(value), np.zeros_like(output)
        for h in range(heads):
            inside = range(h * size, (h + 1) * size)
            for j in range(d):
                square = sum(g_value[i, j] ** 2 for i in inside) / size
                for i in inside:
                    u_value[i, j] = of_value[i, j].direction(g_value[i, j], square)
                square = sum(g_output[j, i] ** 2 for i in inside) / size
                for i in inside:
                    u_output[j, i] = of_output[j, i].direction(g_output[j, i], square)
        value, output = (w - LR * u - LR * DECAY * w for w, u in ((value, u_value), (output, u_output)))
    rule = get_joint_rule("ddc_rotation", gauge=gauge, **hyper("adam"))
    close(run(rule, weights, grads), (value, output))


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_rotation_of_queries_and_keys_on_adam(layout):
    heads, size, d = 2, 4, 3
    gauge = f"query: A(rows); key: A(rows) where A = (U1[{layout}] wr 1[2])"
    shapes = ((heads * size, d), (heads * size, d))
    weights = tuple(normal(*s, seed=k) for k, s in enumerate(shapes))
    grads = [tuple(normal(*s, seed=10 * t + k) for k, s in enumerate(shapes)) for t in range(1, 1 + STEPS)]
    expected, each = [w.copy() for w in weights], [adams(s) for s in shapes]
    for step in grads:
        for k, g in enumerate(step):
            u = np.zeros_like(g)
            for h in range(heads):
                for plane in range(size // 2):
                    pair = (plane, plane + size // 2) if layout == "half" else (2 * plane, 2 * plane + 1)
                    rows = [h * size + i for i in pair]
                    for j in range(d):
                        square = (g[rows[0], j] ** 2 + g[rows[1], j] ** 2) / 2
                        for i in rows:
                            u[i, j] = each[k][i, j].direction(g[i, j], square)
            expected[k] = expected[k] - LR * u - LR * DECAY * expected[k]
    rule = get_joint_rule("ddc_rotation", gauge=gauge, **hyper("adam"))
    close(run(rule, weights, grads), expected)


def test_rotation_of_values_and_outputs_on_muon():
    heads, size, d = 2, 3, 4
    gauge = "value: B(rows); output: B(cols) where B = (O wr 1[2])"
    shapes = ((heads * size, d), (d, heads * size))
    weights = tuple(normal(*s, seed=k) for k, s in enumerate(shapes))
    grads = [tuple(normal(*s, seed=10 * t + k) for k, s in enumerate(shapes)) for t in range(1, 1 + STEPS)]
    value, output = (w.copy() for w in weights)
    each = [[Momentum(), Momentum()] for _ in range(heads)]
    for g_value, g_output in grads:
        u_value, u_output = np.zeros_like(value), np.zeros_like(output)
        for h in range(heads):
            inside = slice(h * size, (h + 1) * size)
            u_value[inside] = each[h][0].direction(g_value[inside])
            u_output[:, inside] = each[h][1].direction(g_output[:, inside])
        value, output = (w - LR * u - LR * DECAY * w for w, u in ((value, u_value), (output, u_output)))
    rule = get_joint_rule("ddc_rotation", gauge=gauge, **hyper("muon"))
    close(run(rule, weights, grads), (value, output))
