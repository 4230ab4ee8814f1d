"""Random programs for the test of the prover: update rules put together from the ways in which rules are built.

Uniform noise over the vocabulary has no symmetry. These programs are sentences of a grammar: a momentum, a direction
made of one to three transforms, gated by statistics, applied to the weights. Most transforms come in a correct form
and in forms that are wrong for some group: an even function for an odd one, eps added to entries, a sum for a norm,
half of a factorisation, one wrong operand anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from symcheck.selftest.sketch import Node, Sized, Sketch
from symcheck.trace.interpret import interpret
from symcheck.trace.program import Step, Trace

Transform = Callable[[Sketch, Node], Node]

STATES = {
    "momentum": ("m", "n"),
    "variance": ("m", "n"),
    "rows": ("m",),
    "cols": ("n",),
    "norm": (),
    "gram": ("m", "m"),
    "right_gram": ("n", "n"),
}
"""Kinds of state tensors, all zero in the beginning, and their axes."""


@dataclass(frozen=True)
class RandomProgram:
    """A program for every shape ``(m, n)`` of the weights, with ``states`` that start from zero."""

    seed: int
    states: tuple[str, ...]

    def at(self, m: int, n: int) -> Sized:
        """One step of it at this shape."""
        return _write(self, m, n)

    def initial(self, m: int, n: int) -> Sized:
        """What happens before the first step: the state is created."""
        sketch = Sketch(m, n, random.Random(0))
        outputs = {"weight:0": sketch.input("weight:0", "m", "n")}
        outputs |= {f"state:{name}": sketch.zero(*STATES[name]) for name in self.states}
        return sketch.finish(outputs)

    def trace(self, m: int, n: int, steps: int = 3) -> Trace:
        """A run in float64 on random inputs, as if it had been recorded."""
        rng = np.random.default_rng(self.seed)
        weight = rng.standard_normal((m, n))
        result = []
        inputs: dict[str, Any] = {"weight:0": weight}
        for number in range(steps + 1):
            sized = self.at(m, n) if number else self.initial(m, n)
            values = interpret(sized.program, sized.constants, inputs, sized.sizes)
            outputs = {name: values[line] for name, line in sized.program.outputs.items()}
            result.append(Step(sized.program, sized.constants, inputs, outputs, sized.sizes))
            inputs = {**outputs, "grad:0": rng.standard_normal((m, n))}
        return Trace(((m, n),), tuple(result))


def random_program(rng: random.Random, *, stateful: bool) -> RandomProgram:
    """A random program on ``weight:0`` and ``grad:0``; if ``stateful`` with one or two state tensors of rank 0 to 2."""
    states = tuple(rng.sample(sorted(STATES), rng.choice((1, 2)))) if stateful else ()
    return RandomProgram(rng.getrandbits(64), states)


@cache
def _write(source: RandomProgram, m: int, n: int) -> Sized:
    rng = random.Random(source.seed)
    s = Sketch(m, n, rng, mutation=rng.choice((0.0, 0.0, 0.0, 0.01, 0.04)))
    weight, grad = s.input("weight:0", "m", "n"), s.input("grad:0", "m", "n")
    outputs, x = {}, grad
    for name in source.states:
        old = s.input(f"state:{name}", *STATES[name])
        x, outputs[f"state:{name}"] = _with_state(s, name, old, x)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
        x = _direction(s, x, weight)
    if rng.random() < 0.2:
        x = s.add(x, s.times(_direction(s, grad, weight), rng.choice(("1/10", "1/1000000000"))))
    leaks = [_statistic(s, x, (0, 1))] if rng.random() < 0.1 else []
    kept = s.times(weight, rng.choice(("99/100", "1"))) if rng.random() < 0.5 else weight
    outputs["weight:0"] = s.add(kept, s.times(x, "1/10"), signs=[1, -1])
    return s.finish(outputs, leaks)


def _average(s: Sketch, old: Node, new: Node) -> Node:
    return s.add(s.times(old, "9/10"), s.times(new, "1/10"))


def _with_state(s: Sketch, name: str, old: Node, x: Node) -> tuple[Node, Node]:
    """A direction that uses the state tensor, and its new value."""
    if name == "momentum":
        new = _average(s, old, x)
        return (s.add(x, s.times(new, "9/10")) if s.rng.random() < 0.3 else new), new
    if name == "variance":
        new = _average(s, old, s.product(x, x) if s.rng.random() < 0.7 else s.map("abs", x))
        if s.rng.random() < 0.2:
            new = s.map("maximum", old, new)
        return s.product(x, s.map("reciprocal", s.plus(s.map("sqrt", new), "1/1000"))), new
    if name in ("rows", "cols", "norm"):
        axes = {"rows": (1,), "cols": (0,), "norm": (0, 1)}[name]
        new = _average(s, old, _statistic(s, x, axes))
        return _gate(s, x, _damped(s, new), axes), new
    left = name == "gram"
    new = _average(s, old, _gram(s, x, left))
    factor = s.rng.choice((_eigen_function, _inverse, _series))(s, new)
    return (s.matmul(factor, x) if left else s.matmul(x, factor)), new


def _direction(s: Sketch, x: Node, weight: Node) -> Node:
    if s.rng.random() < 0.12:
        return _mix_weight(s, x, weight)
    (transform,) = s.rng.choices(list(TRANSFORMS), list(TRANSFORMS.values()))
    return transform(s, x)


# -- statistics and gates ----------------------------------------------------------------------------------------------

_KEEP = {(0,): "j", (1,): "i", (0, 1): ""}
AXES: tuple[tuple[int, ...], ...] = ((0,), (1,), (1,), (0, 1), (0, 1))


def _statistic(s: Sketch, x: Node, axes: tuple[int, ...]) -> Node:
    """A number for every line of ``x`` along ``axes``; most often its squared norm."""
    keep, kind = _KEEP[axes], s.rng.random()
    if kind < 0.55:
        return s.einsum(f"ij,ij->{keep}", x, x, mean=s.rng.random() < 0.3)
    if kind < 0.65:
        return s.einsum(f"ij->{keep}", s.map("abs", x))
    if kind < 0.75:
        return s.symmetric("max", s.map("abs", x), *axes)
    if kind < 0.85:
        return s.einsum(f"ij->{keep}", x, mean=s.rng.random() < 0.5)
    if kind < 0.9:
        return s.einsum(f"ij->{keep}", s.map(s.rng.choice(("is_nonzero", "square", "tanh")), x))
    return s.symmetric(s.rng.choice(("median", "min", "logsumexp", "any", "prod", "max")), x, *axes)


def _damped(s: Sketch, x: Node) -> Node:
    """A bounded function of a statistic."""
    kind = s.rng.randrange(6)
    if kind == 0:
        return s.map("rsqrt", s.plus(x, s.rng.choice(("1", "1/1000000"))))
    if kind == 1:
        return s.map("reciprocal", s.plus(s.map("sqrt", x), "1/100"))
    if kind == 2:
        return s.map("reciprocal", s.plus(x, "1"))
    if kind == 3:
        return s.map("tanh", x)
    if kind == 4:
        return s.map("clamp", x, args=["1/4", "2"])
    return s.map("power", s.plus(x, "1/10"), args=["-1/4"])


def _gate(s: Sketch, x: Node, factor: Node, axes: tuple[int, ...]) -> Node:
    keep = _KEEP[axes]
    return s.einsum(f"ij,{keep}->ij", x, factor)


def _normalise(s: Sketch, x: Node) -> Node:
    axes = s.rng.choice(AXES)
    return _gate(s, x, _damped(s, _statistic(s, x, axes)), axes)


def _normalise_safely(s: Sketch, x: Node) -> Node:
    """Zero where the norm is zero, and nothing in the denominator."""
    axes = s.rng.choice(AXES)
    norm = s.map("sqrt", _statistic(s, x, axes))
    one = s.expand(s.number(1), range(len(norm.axes)), norm.axes) if norm.axes else s.number(1)
    return _gate(s, x, s.map("reciprocal", s.select(s.map("is_zero", norm), one, norm)), axes)


def _factored(s: Sketch, x: Node) -> Node:
    """Adafactor's outer product of row and column statistics."""
    rows, cols = _statistic(s, x, (1,)), _statistic(s, x, (0,))
    return s.einsum("ij,i,j->ij", x, _damped(s, rows), _damped(s, cols))


def _mask(s: Sketch, x: Node) -> Node:
    """Some rows, or everything, where a statistic is above a threshold."""
    axes = s.rng.choice(AXES)
    statistic = _statistic(s, x, axes)
    threshold = s.number(s.rng.choice(("1", "3")))
    if statistic.axes:
        threshold = s.expand(threshold, (0,), statistic.axes)
    return _gate(s, x, s.map(s.rng.choice(("gt", "le")), statistic, threshold), axes)


# -- entrywise ---------------------------------------------------------------------------------------------------------

ODD: tuple[tuple[str, tuple[str, ...]], ...] = (
    *((name, ()) for name in "sign tanh atan erf asinh cube_root sin trunc round".split()),  # noqa: SIM905
    ("clamp_symmetric", ("1/2",)),
    ("softshrink", ("1/4",)),
    ("hardshrink", ("1/4",)),
    ("power", ("3",)),
)
OTHER: tuple[tuple[str, tuple[str, ...]], ...] = (
    *((name, ()) for name in "relu abs square exp sigmoid silu gelu floor softplus expm1 is_zero".split()),  # noqa: SIM905
    ("clamp", ("-1/2", "3/4")),
    ("leaky_relu", ("1/10",)),
    ("power", ("2",)),
)


def _entrywise(s: Sketch, x: Node) -> Node:
    fn, args = s.rng.choice(ODD if s.rng.random() < 0.6 else OTHER)
    return s.map(fn, x, args=args)


def _shift_entries(s: Sketch, x: Node) -> Node:
    return s.plus(x, s.rng.choice(("1/100", "1/1000000000", "0")))


def _choose_entries(s: Sketch, x: Node) -> Node:
    mask = s.map(s.rng.choice(("gt", "eq", "lt", "ne")), s.map("abs", x), s.plus(s.zero(*x.axes), "1/2"))
    return s.select(mask, x, s.rng.choice((s.zero(*x.axes), s.times(x, "1/2"))))


def _cautious(s: Sketch, x: Node) -> Node:
    """Only where two directions agree in sign."""
    y = s.map("tanh", s._like(x))
    return s.product(x, s.map("gt", s.product(x, y), s.zero(*x.axes)))


# -- matrices ----------------------------------------------------------------------------------------------------------


def _gram(s: Sketch, x: Node, left: bool) -> Node:
    return s.einsum("ik,jk->ij", x, x) if left else s.einsum("ki,kj->ij", x, x)


def _plus_eye(s: Sketch, a: Node, eps: str) -> Node:
    if s.rng.random() < 0.1:
        return s.plus(a, eps)  # added to all entries
    return s.add(a, s.times(s.eye(a.axes[0]), eps))


def _eigen_function(s: Sketch, a: Node) -> Node:
    parts = s.factor("eigh", a)
    fn, args = s.rng.choice((("abs", ()), ("tanh", ()), ("exp", ()), ("square", ()), ("clamp", ("1/8", "2"))))
    inner = s.map("rsqrt", s.plus(s.map("abs", parts["values"]), "1/10")) if s.rng.random() < 0.5 else None
    values = inner or s.map(fn, parts["values"], args=args)
    if s.rng.random() < 0.1:
        values = s.along("cumsum", values, 0)
    right = parts["vectors"] if s.rng.random() < 0.92 else s.transpose(parts["vectors"])
    return s.einsum("ik,k,jk->ij", parts["vectors"], values, right)


def _inverse(s: Sketch, a: Node) -> Node:
    return s.factor("inverse", _plus_eye(s, a, "1/2"))[""]


def _cholesky(s: Sketch, a: Node) -> Node:
    """The inverse by Cholesky, or half of it."""
    half = s.factor("inverse", s.factor("cholesky", _plus_eye(s, a, "1/2"))[""])[""]
    return s.einsum("ki,kj->ij", half, half) if s.rng.random() < 0.7 else half


def _series(s: Sketch, a: Node) -> Node:
    """A polynomial, exponential or mistake in a gram matrix."""
    kind = s.rng.randrange(6)
    if kind < 3:
        small = s.times(a, "1/8")
        return s.add(s.times(s.eye(a.axes[0]), "3/2"), small, s.matmul(small, small), signs=[1, -1, 1])
    if kind == 3:
        return s.factor("expm", s.times(a, "-1/16"))[""]
    if kind == 4:
        return s.product(a, s.eye(a.axes[0]))  # the diagonal
    return s.rng.choice((lambda: s.triangle(a), lambda: s.map("tanh", a), lambda: s.map("sign", a)))()


def _matrix_function(s: Sketch, x: Node) -> Node:
    left = s.rng.random() < 0.5
    gram = _gram(s, x, left)
    if s.rng.random() < 0.3:
        trace = s.einsum("ii->", gram)
        gram = s.times(gram, s.map("reciprocal", s.plus(trace, "1/1000")))
    function = s.rng.choice((_series, _series, _eigen_function, _inverse, _cholesky))
    factor = function(s, gram)
    return s.matmul(factor, x) if left else s.matmul(x, factor)


def _singular(s: Sketch, x: Node) -> Node:
    parts = s.factor("svd", x)
    u, values, vh = (parts[name] for name in ("u", "s", "vh"))
    fn, args = s.rng.choice((("is_nonzero", ()), ("tanh", ()), ("sqrt", ()), ("clamp", ("0", "1")), ("exp", ())))
    kind = s.rng.random()
    if kind < 0.5:
        return s.einsum("ik,k,kj->ij", u, s.map(fn, values, args=args), vh)
    if kind < 0.75:
        return s.matmul(u, vh)
    if kind < 0.85:
        return s.times(x, _damped(s, s.rng.choice((s.einsum("k->", values), s.symmetric("max", values, 0)))))
    return s.rng.choice((lambda: s.matmul(u, s.map("tanh", vh)), lambda: s.matmul(s.map("abs", u), vh)))()


def _orthogonal_factor(s: Sketch, x: Node) -> Node:
    parts = s.factor("qr", x)
    kind = s.rng.randrange(4)
    if kind == 0:
        return s.matmul(parts["q"], parts["r"])
    if kind == 1:
        return s.matmul(parts["q"], s.map("tanh", parts["r"]))
    if kind == 2:
        return s.einsum("ik,lk,lj->ij", parts["q"], parts["q"], s.map("tanh", x))
    return s.times(x, s.einsum("kj,kj->", parts["r"], parts["r"]))


def _diagonal(s: Sketch, x: Node) -> Node:
    left = s.rng.random() < 0.5
    diagonal = s.einsum("ii->i", _gram(s, x, left))
    return _gate(s, x, _damped(s, diagonal), (1,) if left else (0,))


# -- along axes --------------------------------------------------------------------------------------------------------


def _centre(s: Sketch, x: Node) -> Node:
    axes = s.rng.choice(AXES)
    mean = s.einsum(f"ij->{_KEEP[axes]}", x, mean=s.rng.random() < 0.9)
    return s.add(x, s.expand(mean, axes, x.axes), signs=[1, -1])


def _softmax(s: Sketch, x: Node) -> Node:
    axis = s.rng.randrange(2)
    e = s.map("exp", s.map("clamp_symmetric", x, args=["4"]))
    return _gate(s, e, s.map("reciprocal", s.einsum(f"ij->{_KEEP[axis,]}", e)), (axis,))


def _sort(s: Sketch, x: Node) -> Node:
    axis = s.rng.randrange(2)
    result = s.symmetric("sort", x, axis)
    return s.transpose(result) if axis == 0 else result


def _join(s: Sketch, x: Node) -> Node:
    """Two values side by side, something done to all, and one taken out again."""
    axis = s.rng.randrange(2)
    symbol = x.axes[axis]
    joint = s.take("cat", (x, s.times(s._like(x), "2")), axis, f"{symbol}+{symbol}", lambda sizes: [*range(sum(sizes))])
    joint = _normalise(s, joint) if s.rng.random() < 0.5 else joint
    return s.take("slice", (joint,), axis, symbol, lambda sizes: [*range(sizes[0] // 2)])


def _move(s: Sketch, x: Node) -> Node:
    """A slice, flip, roll or running sum."""
    axis, kind = s.rng.randrange(2), s.rng.randrange(4)
    if kind == 0:
        return s.take("pad", (x,), axis, x.axes[axis], lambda sizes: [0, 1, *[-1] * (sizes[0] - 2)])
    if kind == 1:
        return s.take("flip", (x,), axis, x.axes[axis], lambda sizes: [*range(sizes[0])][::-1])
    if kind == 2:
        return s.take("roll", (x,), axis, x.axes[axis], lambda sizes: [sizes[0] - 1, *range(sizes[0] - 1)])
    return s.along(s.rng.choice(("cumsum", "cumsum", "cummax")), x, axis)


def _stack(s: Sketch, x: Node) -> Node:
    """Two values along a constant axis, and one value of both."""
    pair = [s.expand(y, (2,), (*x.axes, "2")) for y in (x, s.rng.choice((s.times(x, "-1"), s._like(x))))]
    chosen = [s.einsum("ijk,k->ijk", y, s.array("2")) if s.rng.random() < 0.3 else y for y in pair]
    both = s.add(*chosen, signs=[1, s.rng.choice((1, -1))])
    if s.rng.random() < 0.5:
        return s.symmetric(s.rng.choice(("max", "min", "median")), both, 2)
    return s.einsum("ijk,ijk,ijk->ij", both, both, both) if s.rng.random() < 0.5 else s.einsum("ijk->ij", both)


def _constants(s: Sketch, x: Node) -> Node:
    """An array that knows the position of an entry."""
    axes = s.rng.choice(AXES)
    keep = _KEEP[axes]
    return _gate(s, x, s.array(*({"i": "m", "j": "n"}[letter] for letter in keep)), axes)


def _mix_weight(s: Sketch, x: Node, weight: Node) -> Node:
    kind = s.rng.randrange(6)
    if kind == 0:
        return s.times(x, s.map("sqrt", s.einsum("ij,ij->", weight, weight)))  # a trust ratio
    if kind == 4:
        return s.product(x, s.product(weight, weight))  # exponentiated gradients: respects scalings
    if kind in (1, 5):
        axes = s.rng.choice(AXES)
        along = _gate(s, weight, s.einsum(f"ij,ij->{_KEEP[axes]}", x, weight), axes)
        return s.add(x, along, signs=[1, -1]) if kind == 1 else along  # orthogonal to the weights, or along them
    if kind == 2:
        return s.add(x, s.einsum("ik,lk,lj->ij", weight, x, weight), signs=[1, -1])
    return s.add(x, s.times(weight, "1/100"))


TRANSFORMS: dict[Transform, int] = {
    _normalise: 5,
    _normalise_safely: 2,
    _factored: 2,
    _mask: 2,
    _entrywise: 4,
    _shift_entries: 1,
    _choose_entries: 1,
    _cautious: 1,
    _matrix_function: 8,
    _singular: 3,
    _orthogonal_factor: 1,
    _diagonal: 2,
    _centre: 3,
    _softmax: 1,
    _sort: 1,
    _join: 1,
    _move: 1,
    _stack: 1,
    _constants: 1,
}
"""The transforms of a direction, and how often each is drawn."""
