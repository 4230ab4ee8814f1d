"""Shifts, column sums and independence, in numbers: what is inferred of random programs is true of random values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from symcheck.kernel.document import Reject
from symcheck.kernel.linear import FIXED, FREE_OF, INFERENCE, Simple, column_sum, implies, shift
from symcheck.kernel.rules import Line
from symcheck.trace.interpret import _OPERATIONS, Arithmetic

SIZE = 3
PROGRAMS = 1500
Pair = tuple[np.ndarray, np.ndarray]


class Run:
    """A random program, its values with and without the shift, and the laws that the kernel infers."""

    def __init__(self, rng: np.random.Generator, infer: Callable[..., Simple | None]) -> None:
        self.rng, self.infer = rng, infer
        self.lines: list[Line] = []
        self.laws: list[Simple | None] = []
        self.values: list[Pair] = []
        self.w = self.entries(2)
        self.c = rng.normal(size=(1, SIZE)) * np.ones((SIZE, 1))

    def entries(self, rank: int) -> np.ndarray:
        return np.asarray(self.rng.normal(size=(SIZE,) * rank))

    def put(self, line: Line, law: Simple | None, pair: Pair) -> None:
        self.lines.append(line)
        self.laws.append(law)
        self.values.append(pair)

    def input(self, law: Simple | None) -> None:
        x = self.entries(2)
        y = x
        if law is None:
            y = self.entries(2)
        elif law[0] == "base":
            x = self.w if law[1] == 1 else x
            y = x + float(law[1]) * self.c
        elif law[0] == "moves":
            y = x + np.take(self.entries(2), [0], law[1])
        elif law[0] == "sum":
            x = x - x.mean(law[2], keepdims=True) + float(law[1]) * self.w
            y = x
        elif law[0] == "zero":
            x = y = np.zeros((SIZE, SIZE))
        self.put(Line("input", (), {"name": "any"}), law, (x, y))

    def number(self) -> None:
        value = Fraction(int(self.rng.integers(-2, 3)), 2)
        known = self.rng.random() < 0.8
        at = {"value": str(value) if known else None, "nonneg": value >= 0}
        x = np.asarray(float(value))
        self.put(Line("number", (), at), self.infer(self.lines, Line("number", (), at), []), (x, x))

    def apply(self, op: str, ins: list[int], at: dict[str, Any], rank: int) -> int:
        line = Line(op, tuple(ins), at)
        law = self.infer(self.lines, line, [self.laws[i] for i in ins])
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

    def holds(self, law: Simple, pair: Pair) -> bool:
        """Whether a law is true of the values."""
        x, y = pair
        if law[0] == "fixed":
            return np.allclose(x, y, atol=1e-8)
        if law[0] == "base":
            return np.allclose(y - x, float(law[1]) * self.c, atol=1e-8)
        if law[0] == "moves":
            return np.allclose(y - x, np.take(y - x, [0], law[1]), atol=1e-8)
        if law[0] == "sum":
            return np.allclose((x - float(law[1]) * self.w if law[1] else x).sum(law[2]), 0, atol=1e-8)
        return np.allclose(x, 0, atol=1e-8)


LAWS: dict[str, list[Simple | None]] = {
    "shift": [FIXED, ("base", Fraction(1)), ("base", Fraction(-1, 2)), ("moves", 0), ("moves", 1), None],
    "sum": [("sum", Fraction(1), 0), ("sum", Fraction(-1, 2), 0), ("sum", Fraction(0), 0), ("sum", Fraction(0), 1),
            ("zero",), None],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "infer"), [("shift", shift), ("sum", column_sum)])
def test_random_programs(kind: str, infer: Callable[..., Simple | None]) -> None:
    rng = np.random.default_rng(20260518)
    found: Counter[str] = Counter()
    for _ in range(PROGRAMS):
        run = Run(rng, infer)
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
                found[law[0]] += run.lines[number].op != "round"
                whole = run.values[number][0].ndim == 2
                for goal in (g for g in LAWS[kind] if whole and implies(law, g) and g is not None):
                    assert run.holds(goal, run.values[number]), f"{law} does not imply {goal}"
    assert all(found[law[0]] > 50 for law in LAWS[kind] if law is not None), found


def test_independence_is_what_all_operands_have() -> None:
    infer = INFERENCE["independence"]
    assert infer([], Line("map", (0, 1)), [FREE_OF, FREE_OF]) == FREE_OF
    assert infer([], Line("number", ()), []) == FREE_OF
    assert infer([], Line("map", (0, 1)), [FREE_OF, None]) is None


def test_a_mean_without_expand_is_no_centring() -> None:
    lines = [Line("input", (), {"name": "grad:0"}), Line("contract", (0,), {"indices": [[]], "out": [], "mean": True})]
    assert shift(lines, Line("add", (0, 1), {"signs": [1, -1]}), [("moves", 0), None]) is None


@pytest.mark.parametrize(
    "at", [{}, {"signs": [1]}, {"signs": [0, 1]}, {"signs": [True, -1]}, {"signs": None}, {"signs": [1, "-1"]}]
)
def test_attributes_are_read_strictly(at: dict[str, Any]) -> None:
    with pytest.raises(Reject):
        shift([Line("input", ())] * 2, Line("add", (0, 1), at), [("base", Fraction(1)), FIXED])
