"""Stacks taken apart: the outputs keep their values, and what was one tensor in the end was one all along."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reference.optimizers
from symcheck.probe.strata import draw_inputs
from symcheck.trace.builder import Builder, Sym
from symcheck.trace.interpret import interpret
from symcheck.trace.lowering import lower
from symcheck.trace.program import Program, Step, live_lines
from symcheck.trace.session import record
from symcheck.trace.unstack import MOST, unstack

EPS = 2.0**-52
SHAPE = (3, 2)


def stacks(program: Program) -> int:
    """Lines that string several values together."""
    return sum(line.op == "along" and len(line.operands) > 1 for line in program.lines)


def check(program: Program, sizes: Any, constants: Any, inputs: dict[str, np.ndarray]) -> Program:
    """Taken apart, the program has the same outputs; everything else is well-formed."""
    new, new_sizes, new_constants = unstack(program, sizes, constants)
    before = interpret(program, constants, inputs, sizes)
    after = interpret(new, new_constants, inputs, new_sizes)
    assert new.outputs.keys() == program.outputs.keys()
    assert new.inputs.keys() == program.inputs.keys()
    if new is not program:
        assert live_lines(new.lines, [*new.outputs.values(), *new.leaks]) == [*range(len(new.lines))]
    # Sums may be grouped in another way. Each of at most six moves magnifies a rounding by less than ten.
    largest = max(float(np.abs(value).max(initial=1.0)) for value in before if isinstance(value, np.ndarray))
    bound = 10**6 * EPS * largest
    for name, at in new.outputs.items():
        np.testing.assert_allclose(after[at], before[program.outputs[name]], rtol=0, atol=bound)
    leaked = [entry for at in new.leaks for entry in np.ravel(after[at])]
    for entry in (entry for at in program.leaks for entry in np.ravel(before[at])):
        assert min(abs(entry - other) for other in leaked) <= bound
    return new


class Sketch:
    """A program over a few inputs of one shape."""

    def __init__(self, count: int) -> None:
        self.builder = Builder()
        self.inputs: dict[str, np.ndarray] = {}
        self.tensors = [self.input(f"grad:{number}", SHAPE) for number in range(count)]

    def input(self, name: str, shape: tuple[int, ...]) -> Sym:
        seed = len(self.inputs)
        self.inputs[name] = np.random.default_rng(seed).uniform(0.5, 2.0, shape)
        return self.builder.input(name, tuple((size,) for size in shape), torch.float64)

    def op(self, name: str, **arguments: Any) -> Any:
        return lower(self.builder, name, arguments)

    def stack(self, tensors: list[Sym], dim: int = 0) -> Sym:
        return self.builder.take(
            "stack",
            tensors,
            [[] for _ in tensors],
            [*range(dim), None, *range(dim, len(tensors[0].axes))],
            [len(tensors)],
            range(len(tensors)),
            (*tensors[0].dims[:dim], (len(tensors),), *tensors[0].dims[dim:]),
        )

    def pick(self, x: Sym, dim: int, index: int) -> Sym:
        (axis,) = x.positions(dim)
        out = [a for a in range(len(x.axes)) if a != axis]
        return self.builder.take("view", [x], [[axis]], out, [], [index], (*x.dims[:dim], *x.dims[dim + 1 :]))

    def check(self, outputs: dict[str, Sym], leaks: tuple[int, ...] = ()) -> tuple[Program, Program]:
        lines = self.builder.lines
        live = live_lines(lines, [*(x.line for x in outputs.values()), *leaks])
        assert live  # dead lines are harmless to the rewriting; they go
        program = Program(tuple(lines), {name: x.line for name, x in outputs.items()}, leaks)
        return program, check(program, self.builder.sizes, self.builder.constants, self.inputs)


def _scaled(s: Sketch, x: Sym) -> Sym:
    return s.builder.scale(x, 3)


def _spread(s: Sketch, x: Sym) -> Sym:
    return s.builder.add(x, s.builder.number(2))


def _array(s: Sketch, x: Sym) -> Sym:
    constant = s.builder.array(np.arange(1.0, 1 + x.shape[0]))
    return s.builder.mul(x, s.builder.expand_to(_front(constant, x), x.dims))


def _front(v: Sym, x: Sym) -> Sym:
    return v.with_dims([v.dims[0], *[() for _ in x.dims[1:]]])


def _plus_array(s: Sketch, x: Sym) -> Sym:
    return s.builder.add(x, s.builder.array(np.random.default_rng(1).uniform(1, 2, x.axes)))


def _bounded(s: Sketch, x: Sym, y: Sym) -> Sym:
    return s.builder.div(x, s.builder.add(s.builder.number(1), y))


def _normalised(s: Sketch, x: Sym) -> Sym:
    return _bounded(s, x, s.builder.map("sqrt", s.builder.sum(s.builder.mul(x, x), range(1, len(x.dims)))))


def _averaged(s: Sketch, x: Sym) -> Sym:
    return s.builder.sub(x, s.builder.sum(x, [len(x.dims) - 1], mean=True))


def _across(s: Sketch, x: Sym) -> Sym:
    return s.builder.sub(x, s.builder.sum(x, [0], mean=True))


def _everything(s: Sketch, x: Sym) -> Sym:
    return _bounded(s, x, s.builder.sum(s.builder.mul(x, x), range(len(x.dims))))


def _masked(s: Sketch, x: Sym) -> Sym:
    mask = s.builder.map("lt", x, s.builder.number(1.2345))
    return s.builder.select(mask, s.builder.zero(x.dims), s.builder.map("tanh", x))


def _largest(s: Sketch, x: Sym) -> Sym:
    return _bounded(s, x, s.builder.symmetric("max", s.builder.mul(x, x), [len(x.dims) - 1]))


def _largest_of_all(s: Sketch, x: Sym) -> Sym:
    return _bounded(s, x, s.builder.symmetric("max", s.builder.mul(x, x), [0]))


def _sorted(s: Sketch, x: Sym) -> Sym:
    return s.builder.symmetric("sort", x, [random.Random(len(s.builder.lines)).randrange(len(x.dims))])


def _gram(s: Sketch, x: Sym) -> Sym:
    x = _normalised(s, x)
    letters, p = s.builder.letters(x), (100,)
    batch, m, n = letters[:-2], letters[-2], letters[-1]
    gram = s.builder.contract([x, s.builder.transpose(x)], [letters, [*batch, n, p]], [*batch, m, p])
    return s.builder.contract([gram, x], [[*batch, m, p], [*batch, p, n]], [*batch, m, n])


def _factored(s: Sketch, x: Sym) -> Sym:
    u, singular, vh = s.builder.factor("svd", x)
    letters, p = s.builder.letters(x), (100,)
    batch, m, n = letters[:-2], letters[-2], letters[-1]
    return s.builder.contract([u, singular, vh], [[*batch, m, p], [*batch, p], [*batch, p, n]], letters)


def _whitened(s: Sketch, x: Sym) -> Sym:
    letters = s.builder.letters(x)
    batch, m, n = letters[:-2], letters[-2], letters[-1]
    gram = s.builder.contract([x, x], [letters, [*batch, m, (100,)]], [*batch, n, (100,)])
    eye = s.builder.eye(x.shape[-1])
    eye = s.builder.expand_to(eye, gram.dims)
    inverse = s.builder.inverse(s.builder.add(gram, eye))
    return s.builder.contract([x, inverse], [letters, [*batch, n, (100,)]], [*batch, m, (100,)])


def _cumulative(s: Sketch, x: Sym) -> Sym:
    last = len(x.axes) - 1
    return s.builder.along("cumsum", [x], [[last]], [*range(last), None], x.dims, linear=True)


def _flipped(s: Sketch, x: Sym) -> Sym:
    last, size = len(x.axes) - 1, x.axes[-1]
    return s.builder.take("flip", [x], [[last]], [*range(last), None], [size], reversed(range(size)), x.dims)


def _rotated(s: Sketch, x: Sym) -> Sym:
    size, rest = x.axes[0], range(1, len(x.axes))
    return s.builder.take("roll", [x], [[0]], [None, *rest], [size], [*range(1, size), 0], x.dims)


def _padded(s: Sketch, x: Sym) -> Sym:
    size, rest = x.axes[0], range(1, len(x.axes))
    return s.builder.take("triangle", [x], [[0]], [None, *rest], [size], [*range(size - 1), -1], x.dims)


def _rounded(s: Sketch, x: Sym) -> Sym:
    return s.builder.round_(x, torch.float64)


def _restacked(s: Sketch, x: Sym) -> Sym:
    return s.stack([s.pick(x, 0, index) for index in range(x.shape[0])])


def _joined(s: Sketch, x: Sym) -> Sym:
    size, rest = x.axes[0], range(1, len(x.axes))
    both = s.builder.take(
        "cat", [x, x], [[0], [0]], [None, *rest], [2 * size], range(2 * size), ((2 * size,), *x.dims[1:])
    )
    return s.builder.take("view", [both], [[0]], [None, *rest], [size], range(1, 1 + size), x.dims)


MOVES: list[Callable[[Sketch, Sym], Sym]] = [
    _scaled, _spread, _array, _plus_array, _normalised, _averaged, _across, _everything, _masked, _largest,
    _largest_of_all, _sorted, _gram, _factored, _whitened, _cumulative, _flipped, _rotated, _padded, _rounded,
    _restacked, _joined,
]  # fmt: skip
BATCHED = [
    _scaled, _spread, _array, _plus_array, _normalised, _averaged, _masked, _largest, _gram, _factored, _whitened,
    _cumulative, _flipped, _rotated, _rounded, _restacked,
]  # fmt: skip
"""Those that treat the first axis as a batch, or permute it."""


@settings(max_examples=50, deadline=None)
@given(
    st.integers(2, 3), st.lists(st.sampled_from(MOVES), max_size=6), st.booleans(), st.randoms(use_true_random=False)
)
def test_outputs_are_what_they_were(count: int, moves: list[Any], nested: bool, rng: random.Random) -> None:
    s = Sketch(2 * count if nested else count)
    pool = s.tensors
    if nested:
        dim = rng.randrange(3)
        pool = [s.stack(pool[2 * i : 2 * i + 2], dim) for i in range(count)]
    x = s.stack(pool)
    for move in moves:
        x = move(s, x)
    outputs = {f"weight:{index}": s.pick(x, 0, index) for index in range(count)}
    if rng.random() < 0.3:
        outputs["state:whole"] = x
    s.check(outputs, leaks=(x.line,) if rng.random() < 0.3 else ())


@settings(max_examples=50, deadline=None)
@given(st.integers(2, MOST), st.lists(st.sampled_from(BATCHED), max_size=5))
def test_batches_are_taken_apart(count: int, moves: list[Any]) -> None:
    s = Sketch(count)
    x = s.stack(s.tensors)
    for move in moves:
        x = move(s, x)
    _, new = s.check({f"weight:{index}": s.pick(x, 0, index) for index in range(count)})
    assert stacks(new) == 0
    for index in range(count):  # and a slice depends on its own tensor only
        above = live_lines(new.lines, [new.outputs[f"weight:{index}"]])
        used = {o for at in above for o in new.lines[at].operands} | {new.outputs[f"weight:{index}"]}
        rotations = sum(move is _rotated for move in moves)
        assert {at for at in used if new.lines[at].op == "input"} == {(index + rotations) % count}


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_any_axis_may_be_the_stack(dim: int) -> None:
    s = Sketch(3)
    x = s.stack(s.tensors, dim)
    x = s.builder.add(s.builder.scale(x, 2), s.builder.number(1))
    x = s.builder.permute(x, [2, 0, 1])
    where = [2, 0, 1].index(dim)
    program, new = s.check({f"weight:{index}": s.pick(x, where, index) for index in range(3)})
    assert stacks(program) == 1
    assert stacks(new) == 0


@pytest.mark.parametrize("fn", ["max", "sort"])
def test_the_stack_moves_up_when_axes_before_it_go(fn: str) -> None:
    s = Sketch(3)
    x = s.stack(s.tensors, 2)
    attributes = {"fn": fn, "axes": [0]}
    kept = (SHAPE[1], 3, *((SHAPE[0],) if fn == "sort" else ()))
    line = s.builder.emit("symmetric", (x.line,), kept, attributes)
    x = Sym(line, tuple((size,) for size in kept), x.dtype)
    _, new = s.check({f"weight:{index}": s.pick(x, 1, index) for index in range(3)})
    assert stacks(new) == 0


def test_several_axes_are_listed_with_the_stack() -> None:
    s = Sketch(2)
    x = s.builder.scale(s.stack(s.tensors), 2)
    m, n = SHAPE
    row = s.builder.take("view", [x], [[0, 1]], [None, 2], [m - 1], range(m + 1, 2 * m), ((m - 1,), (n,)))
    turned = s.builder.take("view", [x], [[1, 0]], [None, None, 2], [m, 2], range(2 * m), ((m,), (2,), (n,)))
    _, new = s.check({"state:row": row, "weight:0": s.pick(turned, 1, 0)})
    assert stacks(new) == 0


def test_slices_that_are_not_cut_along_the_stack_stay() -> None:
    s = Sketch(2)
    x = s.builder.scale(s.stack(s.tensors), 2)
    m, n = SHAPE
    merged = s.builder.merge(x.with_dims([(2, m), (n,)]), 0)
    program, new = s.check({"weight:0": merged})
    assert stacks(program) == stacks(new) == 1
    assert max(len(line.operands) for line in new.lines) == 2  # and not as many as there are rows


def test_a_state_that_is_a_stack_stays_one() -> None:
    s = Sketch(2)
    old = s.input("state:m", (2, *SHAPE))
    m = s.builder.add(s.builder.scale(old, 0.5), s.stack(s.tensors))
    program, new = s.check({"state:m": m, "weight:0": s.pick(m, 0, 0)})
    assert new.digest == program.digest


def test_factorisations_are_not_taken_apart_to_be_stacked_again() -> None:
    s = Sketch(2)
    u, _, _ = s.builder.factor("svd", s.stack(s.tensors))
    program, new = s.check({"state:u": u, "weight:0": s.pick(u, 0, 0)})
    assert sum(line.op == "svd" for line in new.lines) == 1
    assert stacks(program) == stacks(new)


def test_many_slices_are_left_alone() -> None:
    s = Sketch(MOST + 1)
    x = s.builder.scale(s.stack(s.tensors), 2)
    program, new = s.check({"weight:0": s.pick(x, 0, 0)})
    assert stacks(new) == stacks(program) == 1


def test_random_numbers_are_drawn_whole() -> None:
    s = Sketch(2)
    noise = s.builder.random(((2,), *((size,) for size in SHAPE)), "normal")
    s.builder.constants[noise.line] = np.random.default_rng(3).standard_normal((2, *SHAPE))
    x = s.builder.add(s.stack(s.tensors), noise)
    program, new = s.check({"weight:0": s.pick(x, 0, 0)})
    assert stacks(new) == 1
    assert new.digest == check(new, *unstack(program, s.builder.sizes, s.builder.constants)[1:], s.inputs).digest


def test_a_lone_stack_of_statistics_is_summed_by_its_slices() -> None:
    s = Sketch(3)
    norms = [s.builder.sum(s.builder.mul(x, x), [0, 1]).with_dims([()]) for x in s.tensors]
    norms = [x.with_dims([]) for x in norms]
    total = s.builder.sum(s.stack(norms), [0], mean=True)
    _, new = s.check({"weight:0": s.builder.div(s.tensors[0], total)})
    assert stacks(new) == 0


# -- recorded optimizers -----------------------------------------------------------------------------------------------

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "Muon": lambda params: reference.optimizers.Muon(params, lr=0.1),
    "RowNorm": lambda params: reference.optimizers.RowNorm(params, lr=0.1),
    "AdaGradNorm": lambda params: reference.optimizers.AdaGradNorm(params, lr=0.1),
    "PolarGrad": lambda params: reference.optimizers.PolarGrad(params, lr=0.1),
}


def steps(make: Callable[[Any], Any], shapes: tuple[tuple[int, ...], ...]) -> tuple[Step, ...]:
    inputs = draw_inputs("generic", shapes, 2, centre=False, seed=0)
    trace = record(SimpleNamespace(target="optimizer", make=make), inputs)
    assert trace.unsupported is None
    assert len(trace.steps) == 3
    return trace.steps


@pytest.fixture
def unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are recorded as they ran."""
    monkeypatch.setattr("symcheck.trace.session.unstack", lambda *recorded: recorded)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.usefixtures("unchanged")
def test_optimizers_that_batch_parameters(name: str, count: int) -> None:
    digests = []
    for shape in ((4, 3), (4, 4), (9, 12)):
        runs = steps(OPTIMIZERS[name], (shape,) * count)
        assert stacks(runs[-1].program) > 0
        for step in runs:
            new = check(step.program, step.sizes, step.constants, dict(step.inputs))
            assert stacks(new) == 0
        digests.append(unstack(runs[-1].program, runs[-1].sizes, runs[-1].constants)[0].digest)
    if name != "Muon":  # it transposes matrices that are tall
        assert len(set(digests)) == 1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_recorded_programs_are_taken_apart(name: str) -> None:
    for step in steps(OPTIMIZERS[name], ((4, 3), (4, 3))):
        assert stacks(step.program) == 0


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.usefixtures("unchanged")
def test_without_stacks_nothing_changes(name: str) -> None:
    for step in steps(OPTIMIZERS[name], ((4, 3),)):
        program, sizes, constants = unstack(step.program, step.sizes, step.constants)
        assert program is step.program
        assert sizes == list(step.sizes)
        assert constants == step.constants
