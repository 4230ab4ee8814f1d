"""The other laws: what a shift of weights or gradients does, column sums, independence (``docs/proof.md``, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from symcheck.kernel.document import fraction, integer, items, text
from symcheck.kernel.rules import Line, letters

Simple = tuple[Any, ...]
FIXED: Simple = ("fixed",)
FREE_OF: Simple = ("independent",)


def read_simple(data: Any, path: str) -> Simple | None:
    """One of ``fixed``, ``base q``, ``moves axis``, ``sum q axis``, ``zero``, ``independent`` from JSON."""
    if data is None:
        return None
    row = items(data, at=path)
    kind = text(row[0] if row else None, {"fixed", "base", "moves", "sum", "zero", "independent"}, at=path)
    form = {"base": [fraction], "moves": [integer], "sum": [fraction, integer]}.get(kind, [])
    rest = items(row[1:], len(form), at=path)
    values = [f(x, at=path) if f is fraction else integer(x, 0, 64, at=path) for f, x in zip(form, rest, strict=True)]
    return (kind, *values)


def _centre(lines: Sequence[Line], line: Line) -> int | None:
    """The axis ``a`` if the line is ``x - expand(mean(x, a), a)``."""
    if line.op != "add" or len(line.ins) != 2 or line.at.get("signs") != [1, -1]:
        return None
    spread = lines[line.ins[1]]
    mean = lines[spread.ins[0]] if spread.op == "expand" and len(spread.ins) == 1 else spread
    if mean.op != "contract" or mean.ins != (line.ins[0],) or mean.at.get("mean") is not True:
        return None
    row, out, axes = mean.at["indices"][0], mean.at["out"], spread.at["axes"]
    if len(axes) != 1 or len(set(row)) != len(row) or out != [i for p, i in enumerate(row) if p != axes[0]]:
        return None
    return int(axes[0]) if axes[0] < len(row) else None


def _scaled(rows: list[list[int]], out: list[int], lines: Sequence[Line], line: Line, mover: int) -> Fraction | None:
    """The factor, if the line is operand ``mover`` times known numbers."""
    if rows[mover] != out or len(set(out)) != len(out):
        return None
    total = Fraction(1)
    for place, number in enumerate(line.ins):
        value = lines[number].at.get("value") if lines[number].op == "number" else None
        if place != mover and value is None:
            return None
        total *= Fraction(1) if place == mover else Fraction(value)
    return total


def _only(rows: list[list[int]], out: list[int], mover: int, axis: int) -> int | None:
    """Where ``axis`` of operand ``mover`` is found in the result, if nothing else has its letter."""
    letter = rows[mover][axis] if axis < len(rows[mover]) else None
    if letter is None or sum(row.count(letter) for row in rows) != 1 or letter not in out:
        return None
    return out.index(letter)


def _expanded(axis: int, line: Line) -> int:
    for place in sorted(line.at["axes"]):
        axis += place <= axis
    return axis


def shift(lines: Sequence[Line], line: Line, laws: Sequence[Simple | None]) -> Simple | None:
    """What a shift does to the value of a line; None where nothing is known. Random numbers are the same on both sides."""
    axis = _centre(lines, line)
    if axis is not None and laws[0] is not None and (laws[0][0] == "fixed" or _axis(laws[0]) == axis):
        return FIXED
    if all(law == FIXED for law in laws):
        return FIXED
    if None in laws:
        return None
    if line.op == "round":
        return laws[0]
    if line.op == "expand":
        place = _expanded(_axis(laws[0]), line)
        return ("moves", place)
    if line.op == "add":
        if all(law[0] in ("fixed", "base") for law in laws if law):
            total = sum(
                (s * law[1] for s, law in zip(line.at["signs"], laws, strict=True) if law and len(law) > 1), Fraction(0)
            )
            return ("base", total) if total else FIXED
        places = {_axis(law) for law in laws if law and law != FIXED}
        return ("moves", places.pop()) if len(places) == 1 else None
    movers = [place for place, law in enumerate(laws) if law != FIXED]
    if line.op != "contract" or len(movers) != 1:
        return None
    mover, law = movers[0], laws[movers[0]]
    rows, out = letters(line, [len(row) for row in line.at["indices"]])
    factor = _scaled(rows, out, lines, line, mover) if law and law[0] == "base" else None
    if law and factor is not None:
        return ("base", factor * law[1]) if factor else FIXED
    found = _only(rows, out, mover, _axis(law))
    return None if found is None else ("moves", found)


def _axis(law: Simple | None) -> int:
    return int(law[1]) if law and law[0] == "moves" else 0


def column_sum(lines: Sequence[Line], line: Line, laws: Sequence[Simple | None]) -> Simple | None:
    """What is known about the column sums of the value of a line: ``("sum", q, axis)``, minus ``q W`` they vanish."""
    axis = _centre(lines, line)
    if axis is not None:
        return ("sum", Fraction(0), axis)
    if line.op == "zero" or (
        line.op in ("contract", "add", "round") and laws and all(law == ("zero",) for law in laws)
    ):
        return ("zero",)
    if line.op == "contract" and ("zero",) in laws:
        return ("zero",)
    if line.op == "round":
        return laws[0]
    if line.op == "expand" and laws[0] is not None and laws[0][0] == "sum" and not laws[0][1]:
        return ("sum", Fraction(0), _expanded(laws[0][2], line))
    if line.op == "add" and None not in laws and len({law[2] for law in laws if law and law[0] == "sum"}) == 1:
        known = [(s, law) for s, law in zip(line.at["signs"], laws, strict=True) if law and law[0] == "sum"]
        return ("sum", sum((s * law[1] for s, law in known), Fraction(0)), known[0][1][2])
    if line.op != "contract":
        return None
    rows, out = letters(line, [len(row) for row in line.at["indices"]])
    for mover, law in enumerate(laws):
        if law is None or law[0] != "sum":
            continue
        factor = _scaled(rows, out, lines, line, mover)
        if factor is not None:
            return ("sum", factor * law[1], law[2])
        found = _only(rows, out, mover, law[2]) if not law[1] else None
        if found is not None:
            return ("sum", Fraction(0), found)
    return None


def independence(lines: Sequence[Line], line: Line, laws: Sequence[Simple | None]) -> Simple | None:
    """A function of independent values is independent."""
    return FREE_OF if None not in laws else None


def implies(law: Simple | None, goal: Simple | None) -> bool:
    """Whether one of these laws implies another (``base`` moves along the rows, axis 0)."""
    if law == goal or goal is None:
        return True
    if law is None:
        return False
    if goal[0] == "moves":
        return law[0] == "fixed" or (law[0] == "base" and goal[1] == 0)
    return law[0] == "zero" and goal[0] == "sum" and not goal[1]


def inputs(property: str, name: str) -> Simple | None:
    """The law of a weight or gradient; state has that of its node."""
    weight = name.startswith("weight:")
    if property == "shift_insensitivity":
        return FIXED if weight else ("moves", 0)
    if property == "horizontality":
        return ("sum", Fraction(int(weight)), 0)
    return ("base", Fraction(1)) if weight else FIXED


def outputs(property: str, law: Simple | None) -> bool:
    """Whether this law of the new weights is what the property says."""
    if property == "shift_insensitivity":
        return law == FIXED
    if property == "horizontality":
        return law == ("sum", Fraction(1), 0)
    if property == "shift_quotient":
        return implies(law, ("moves", 0))
    return law == ("base", Fraction(1))


INFERENCE = {
    "shift_equivariance": shift,
    "shift_quotient": shift,
    "shift_insensitivity": shift,
    "horizontality": column_sum,
    "independence": independence,
}
