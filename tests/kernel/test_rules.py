"""Shifts, column sums and independence, in numbers: what is inferred of random programs is true of random values."""

from __future__ import annotations

import itertools
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from symcheck.kernel.document import Reject
from symcheck.kernel.linear import BASE, PROPERTIES, ROWS, ZERO, Linear, Span
from symcheck.kernel.rules import Line, check_form
from symcheck.trace.interpret import _OPERATIONS, Arithmetic

SIZE = 3
PROGRAMS = 1500
Pair = tuple[np.ndarray, np.ndarray]


class Run:
    """A random program, its values with and without the shift, and the laws that the kernel infers."""

    def __init__(self, rng: np.random.Generator, logic: Linear) -> None:
        self.rng, self.logic = rng, logic
        self.lines: list[Line] = []
        self.laws: list[Span | None] = []
        self.values: list[Pair] = []
        self.w = self.entries(2)
        self.c = rng.normal(size=(1, SIZE)) * np.ones((SIZE, 1))

    def entries(self, rank: int) -> np.ndarray:
        return np.asarray(self.rng.normal(size=(SIZE,) * rank))

    def put(self, line: Line, law: Span | None, pair: Pair) -> None:
        self.lines.append(line)
        self.laws.append(law)
        self.values.append(pair)

    def input(self, law: Span | None) -> None:
        x = self.entries(2)
        y = x
        if law is None:
            y = self.entries(2)
        elif self.logic.sums:
            x = x * 0 if law.axis is None else x - x.mean(law.axis, keepdims=True)
            x = y = x + float(law.q) * self.w
        else:
            x = self.w if law.q == 1 else x
            y = x + float(law.q) * self.c + (0 if law.axis is None else np.take(self.entries(2), [0], law.axis))
        self.put(Line("input", (), {"name": "any"}), law, (x, y))

    def number(self) -> None:
        value = Fraction(int(self.rng.integers(-2, 3)), 2)
        known = self.rng.random() < 0.8
        at = {"value": str(value) if known else None, "nonneg": value >= 0}
        x = np.asarray(float(value))
        line = Line("number", (), at)
        self.put(line, self.logic.infer([*self.lines, line], []), (x, x))

    def apply(self, op: str, ins: list[int], at: dict[str, Any], rank: int) -> int:
        line = Line(op, tuple(ins), at)
        law = self.logic.infer([*self.lines, line], [self.laws[i] for i in ins])
        pairs = [self.values[i] for i in ins]
        x, y = (_OPERATIONS[op]([pair[run] for pair in pairs], at, (SIZE,) * rank, Arithmetic()) for run in (0, 1))
        self.put(line, law, (np.asarray(x), np.asarray(y)))
        return len(self.lines) - 1

    def some(self, rank: int) -> int:
        return int(self.rng.choice([i for i, (x, _) in enumerate(self.values) if x.ndim == rank]))

    def step(self) -> None:
        """One more random line, or the few of a centring."""
        rng = self.rng
        kind = rng.choice(["add", "contract", "contract", "scale", "centre", "map", "round"])
        if kind == "add":
            ins = [self.some(2) for _ in range(int(rng.integers(1, 4)))]
            self.apply("add", ins, {"signs": [int(s) for s in rng.choice([1, -1], size=len(ins))]}, 2)
        elif kind == "scale":
            numbers = [i for i, line in enumerate(self.lines) if line.op == "number"]
            ins = [self.some(2), int(rng.choice(numbers))]
            self.apply("contract", ins, {"indices": [[0, 1], []], "out": [0, 1], "mean": False}, 2)
        elif kind == "contract":
            ins = [self.some(2) for _ in range(int(rng.integers(1, 3)))]
            rows = [[int(i) for i in rng.integers(0, 4, size=2)] for _ in ins]
            used = sorted({i for row in rows for i in row})
            out = [int(i) for i in rng.permutation(used)[:2]]
            if len(out) == 2:
                self.apply("contract", ins, {"indices": rows, "out": out, "mean": bool(rng.random() < 0.5)}, 2)
        elif kind == "centre":
            x, axis, place = self.some(2), int(rng.integers(2)), int(rng.integers(2))
            place = axis if rng.random() < 0.8 else place
            row = [0, 1] if rng.random() < 0.8 else [1, 0]
            at = {
                "indices": [row],
                "out": [i for a, i in enumerate(row) if a != axis],
                "mean": bool(rng.random() < 0.8),
            }
            mean = self.apply("contract", [x], at, 1)
            spread = self.apply("expand", [mean], {"axes": [place]}, 2)
            self.apply("add", [x, spread], {"signs": [1, -1] if rng.random() < 0.9 else [-1, 1]}, 2)
        elif kind == "map":
            self.apply("map", [self.some(2)], {"fn": "tanh", "args": []}, 2)
        else:
            self.apply("round", [self.some(2)], {"dtype": "float32"}, 2)

    def holds(self, law: Span, pair: Pair) -> bool:
        """Whether a law is true of the values."""
        x, y = pair
        v, base = (x, self.w) if self.logic.sums else (y - x, self.c)
        v = v - float(law.q) * base if law.q else v
        if law.axis is None:
            return np.allclose(v, 0, atol=1e-8)
        inside = v.sum(law.axis) if self.logic.sums else v - np.take(v, [0], law.axis)
        return np.allclose(inside, 0, atol=1e-8)


HALF = Fraction(-1, 2)
LAWS: dict[str, list[Span | None]] = {
    "shift_quotient": [ZERO, BASE, Span(HALF, None), ROWS, Span(Fraction(0), 1), Span(HALF, 1), None],
    "horizontality": [Span(Fraction(1), 0), Span(HALF, 0), ROWS, Span(Fraction(0), 1), ZERO, None],
}


@pytest.mark.parametrize("kind", LAWS)
def test_random_programs(kind: str) -> None:
    rng = np.random.default_rng(20260518)
    logic = Linear(kind)
    found: Counter[tuple[bool, int | None]] = Counter()
    for _ in range(PROGRAMS):
        run = Run(rng, logic)
        for number in rng.permutation(len(LAWS[kind]))[:4]:
            run.input(LAWS[kind][number])
        run.number()
        run.number()
        first = len(run.lines)
        for _ in range(int(rng.integers(1, 6))):
            run.step()
        for number in range(first, len(run.lines)):
            law = run.laws[number]
            if law is not None and np.abs(run.values[number]).max() < 1e3:
                assert run.holds(law, run.values[number]), f"{law} of line {number} of {run.lines}"
                found[bool(law.q), law.axis] += run.lines[number].op != "round"
                whole = run.values[number][0].ndim == 2
                for goal in (g for g in LAWS[kind] if whole and logic.implies(law, g) and g is not None):
                    assert run.holds(goal, run.values[number]), f"{law} does not imply {goal}"
    assert all(found[bool(law.q), law.axis] > 50 for law in LAWS[kind] if law is not None), found


def test_independence_is_what_all_operands_have() -> None:
    logic, f = Linear("independence"), Line("map", (0, 1), {"fn": "maximum", "args": []})
    assert logic.infer([f], [ZERO, ZERO]) == ZERO
    assert logic.infer([Line("number", (), {"value": "1", "nonneg": True})], []) == ZERO
    assert logic.infer([f], [ZERO, None]) is None


def test_a_mean_without_expand_is_no_centring() -> None:
    lines = [Line("input", (), {"name": "grad:0"}), Line("contract", (0,), {"indices": [[]], "out": [], "mean": True})]
    assert Linear("shift_quotient").infer([*lines, Line("add", (0, 1), {"signs": [1, -1]})], [ROWS, None]) is None


@pytest.mark.parametrize(
    "at", [{}, {"signs": [1]}, {"signs": [0, 1]}, {"signs": [True, -1]}, {"signs": None}, {"signs": [1, "-1"]}]
)
def test_attributes_are_read_strictly(at: dict[str, Any]) -> None:
    with pytest.raises(Reject):
        check_form(Line("add", (0, 1), at))


@pytest.mark.parametrize("name", PROPERTIES)
def test_what_lasts_holds_after_a_step_too(name: str) -> None:
    """In numbers: the state keeps its value while the weights move as the property says, and with them ``B``."""
    rng, logic = np.random.default_rng(7), Linear(name)
    for q, axis in itertools.product((0, 1, -2), (None, 0, 1)):
        law = Span(Fraction(q), axis)
        if law != logic._span(*law) or not logic.lasting(law):
            continue
        base = rng.normal(size=(SIZE, SIZE)) if logic.sums else np.ones((SIZE, 1)) * rng.normal(size=(1, SIZE))
        if logic.weight == ZERO:  # the weights are not shifted
            base = 0 * base
        inside = rng.normal(size=(SIZE, SIZE))
        if logic.sums:
            inside = inside - inside.mean(axis or 0, keepdims=True)
        elif axis is not None:
            inside = np.take(inside, [0], axis) + 0 * inside
        x = float(law.q) * base + (0 if axis is None else inside)
        other = {"shift_equivariance": base, "horizontality": base + rng.normal(size=(SIZE, SIZE))}
        moved = other.get(name, base * rng.normal(size=(1, SIZE)))
        if logic.sums:
            moved = moved - (moved - base).mean(0, keepdims=True)
        rest = x - float(law.q) * moved
        if axis is None:
            assert np.allclose(rest, 0)
        else:
            assert np.allclose(rest.sum(axis) if logic.sums else rest - np.take(rest, [0], axis), 0)
