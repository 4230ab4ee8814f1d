"""The other laws: shifts of weights or gradients, column sums, independence (``docs/proof.md``, section 4).

A law ``(q, axis)`` says that ``v - q B`` lies in ``L(axis)``. For shifts and independence ``v`` is the difference of a
value between two runs, ``B = 1 c^T`` that of the shifted weights, and ``L`` the arrays constant along the axis.
For horizontality ``v`` is the value itself, ``B`` the weights before the step, and ``L`` the arrays whose sum along the
axis is zero. Without an axis ``L`` is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod
from typing import Any, NamedTuple

from symcheck.kernel.document import Maybe, Reject, conform, rational, upto
from symcheck.kernel.rules import Line

LINEAR = ("add", "expand", "round", "coerce")


class Span(NamedTuple):
    """The law of a value: ``v - q B`` lies in ``L(axis)``."""

    q: Fraction
    axis: int | None


ZERO, BASE, ROWS = Span(Fraction(0), None), Span(Fraction(1), None), Span(Fraction(0), 0)
PROPERTIES: dict[str, tuple[Span, Span, Span]] = {
    "shift_equivariance": (BASE, ZERO, BASE),
    "shift_quotient": (BASE, ZERO, ROWS),
    "shift_insensitivity": (ZERO, ROWS, ZERO),
    "horizontality": (Span(Fraction(1), 0), ROWS, Span(Fraction(1), 0)),
    "independence": (ZERO, ZERO, ZERO),
}
"""By property: the laws of weights and gradients, and what it says of the new weights."""


class Linear:
    """The laws of one property, and how operations carry them."""

    def __init__(self, property: str) -> None:
        self.sums = property == "horizontality"
        self.weight, self.grad, self.goal = PROPERTIES[property]
        self.variables: dict[str, Any] = {}
        self.conditions: set[str] = set()

    def read(self, data: Any) -> Span | None:
        """A law from JSON; null if nothing is known."""
        conform(data, Maybe((rational, Maybe(upto(64)))), "law")
        law = None if data is None else Span(Fraction(data[0]), data[1])
        if law is not None and law != self._span(*law):
            raise Reject("law: 1 c^T itself is constant along the rows")
        return law

    def _span(self, q: Fraction, axis: int | None) -> Span:
        """In normal form: ``1 c^T`` itself is constant along the rows."""
        return Span(Fraction(0) if axis == 0 and not self.sums else q, axis)

    def implies(self, law: Span | None, goal: Span | None) -> bool:
        """Whether what has one law has the other."""
        if law is None or goal is None:
            return goal is None
        return law.axis in (None, goal.axis) and self._span(law.q, goal.axis).q == goal.q

    def lasting(self, law: Span | None) -> bool:
        """Whether the law holds after the step too: there ``B`` may be another, by something that the goal allows."""
        return law is None or not law.q or law.axis == self.goal.axis

    def still(self, law: Span | None) -> bool:
        """Whether a value is the same in both runs; sums are about one run."""
        return self.sums or law == ZERO

    def infer(self, lines: Sequence[Line], laws: Sequence[Span | None]) -> Span | None:
        """The law of the last line, of the right form; None where nothing is known. Noise is the same in both runs."""
        line = lines[-1]
        centred = _centre(lines)
        if centred is not None and (self.sums or self.implies(laws[0], Span(Fraction(0), centred))):
            return Span(Fraction(0), centred) if self.sums else ZERO
        if line.op == "contract":
            return self._product(lines, laws)
        spans = [law for law in laws if law is not None]
        if len(spans) < len(laws) or (self.sums and line.op not in ("zero", *LINEAR)):
            return None
        if all(law == ZERO for law in spans):
            return ZERO  # functions of equal values are equal, and linear ones keep zero
        if line.op == "add":
            axes = {law.axis for law in spans if law.axis is not None}
            q = sum((sign * law.q for sign, law in zip(line.at["signs"], spans, strict=True)), Fraction(0))
            return self._span(q, max(axes, default=None)) if len(axes) < 2 else None
        if line.op == "expand" and (axis := self._axis(spans[0])) is not None:
            for place in sorted(line.at["axes"]):
                axis += place <= axis
            return Span(Fraction(0), axis)
        return spans[0] if line.op in ("round", "coerce") else None

    def _axis(self, law: Span) -> int | None:
        """An axis for which all of the value lies in ``L(axis)``, if one is known."""
        if law.q:
            return 0 if law.axis is None and not self.sums else None
        return law.axis

    def _product(self, lines: Sequence[Line], laws: Sequence[Span | None]) -> Span | None:
        """A product is linear in each factor. In differences all factors but one must be the same in both runs."""
        line, moved = lines[-1], [place for place, law in enumerate(laws) if law != ZERO]
        if len(moved) < len(laws) if self.sums else not moved:
            return ZERO
        rows, out = line.at["indices"], line.at["out"]
        for place in moved if self.sums or len(moved) == 1 else ():
            law, others = laws[place], [p for p in range(len(laws)) if p != place]
            if law is None:
                continue
            numbers: list[Any] = [lines[line.ins[p]].at.get("value") for p in others if not rows[p]]
            if rows[place] == out and len(numbers) == len(others) and None not in numbers:
                return self._span(prod(map(Fraction, numbers), start=law.q), law.axis)
            axis = self._axis(law)
            letter = rows[place][axis] if axis is not None and axis < len(rows[place]) else None
            if letter in out and [i for row in rows for i in row].count(letter) == 1:
                return Span(Fraction(0), out.index(letter))
        return None


def _centre(lines: Sequence[Line]) -> int | None:
    """The axis ``a`` if the last line is ``x - expand(mean(x, a), a)``."""
    line = lines[-1]
    if line.op != "add" or line.at["signs"] != [1, -1]:
        return None
    spread = lines[line.ins[1]]
    mean = lines[spread.ins[0]] if spread.op == "expand" else line
    if mean.op != "contract" or mean.ins != line.ins[:1] or not mean.at["mean"]:
        return None
    (row,), out, axes = mean.at["indices"], mean.at["out"], spread.at["axes"]
    good = len(axes) == 1 and axes[0] < len(row) == len(set(row)) and out == row[: axes[0]] + row[axes[0] + 1 :]
    return int(axes[0]) if good else None
