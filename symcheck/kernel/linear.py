"""The other laws: shifts of weights or gradients, column sums, independence (``docs/proof.md``, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from symcheck.kernel.document import flag, fraction, integer, items, text
from symcheck.kernel.rules import Line, letters, places, signs

Simple = tuple[Any, ...]
"""``("fixed",) ("base", q) ("moves", axis)``, or ``("sum", q, axis) ("zero",)``, or ``("independent",)``"""
FIXED: Simple = ("fixed",)
FREE_OF: Simple = ("independent",)
ZERO: Simple = ("zero",)
_NUMBERS = {"base": (fraction,), "moves": (integer,), "sum": (fraction, integer)}


def read_simple(property: str, data: Any, path: str) -> Simple | None:
    """A law of this property from JSON."""
    if data is None:
        return None
    kinds = {"horizontality": {"sum", "zero"}, "independence": {"independent"}}
    kind, *rest = items(data, at=path) or [None]
    form = _NUMBERS.get(text(kind, kinds.get(property, {"fixed", "base", "moves"}), at=path), ())
    pairs = zip(form, items(rest, len(form), at=path), strict=True)
    return (kind, *(fraction(x, at=path) if f is fraction else integer(x, 0, 64, at=path) for f, x in pairs))


def _letters(line: Line) -> tuple[list[list[int]], list[int]]:
    """The letters of a ``contract``; there are no ranks to compare them with."""
    rows = items(line.at.get("indices"), len(line.ins), at="contract")
    return letters(line, [len(items(row, at="contract")) for row in rows])


def _centre(lines: Sequence[Line], line: Line) -> int | None:
    """The axis ``a`` if the line is ``x - expand(mean(x, a), a)``."""
    if line.op != "add" or len(line.ins) != 2 or signs(line) != [1, -1]:
        return None
    spread = lines[line.ins[1]]
    mean = lines[spread.ins[0]] if spread.op == "expand" and len(spread.ins) == 1 else spread
    if mean.op != "contract" or mean.ins != line.ins[:1] or spread is mean or not flag(mean.at.get("mean"), at="mean"):
        return None
    (row,), out = _letters(mean)
    axes = places(spread)
    good = len(axes) == 1 and axes[0] < len(row) == len(set(row)) and out == row[: axes[0]] + row[axes[0] + 1 :]
    return axes[0] if good else None


def _expanded(axis: int, line: Line) -> int:
    for place in sorted(places(line)):
        axis += place <= axis
    return axis


def _product(lines: Sequence[Line], line: Line, mover: int, q: Fraction | None, axis: int) -> Simple | None:
    """What a product does to an operand that is ``q`` times something, or special along ``axis``: ``(factor,)`` if
    it is multiplied by known numbers, ``(0, axis)`` if nothing else has the letter of its axis."""
    rows, out = _letters(line)
    values = [
        lines[number].at.get("value") if lines[number].op == "number" and not rows[place] else None
        for place, number in enumerate(line.ins)
        if place != mover
    ]
    if q is not None and rows[mover] == out and None not in values:
        total = q
        for value in values:
            total *= fraction(value, at="number")
        return (total,)
    letter = rows[mover][axis] if axis < len(rows[mover]) else None
    alone = letter in out and sum(row.count(letter) for row in rows if letter is not None) == 1
    return (0, out.index(letter)) if letter is not None and alone else None


def shift(lines: Sequence[Line], line: Line, laws: Sequence[Simple | None]) -> Simple | None:
    """What a shift does to the value; None where nothing is known. Random numbers are the same on both sides."""
    centred = _centre(lines, line)
    if centred is not None and laws[0] is not None and (laws[0] == FIXED or _axis(laws[0]) == centred):
        return FIXED
    if None in laws:
        return None
    movers = [(place, law) for place, law in enumerate(laws) if law is not None and law != FIXED]
    if not movers:
        return FIXED
    mover, law = movers[0]
    if len(laws) == 1 and line.op in ("round", "expand"):
        return law if line.op == "round" else ("moves", _expanded(_axis(law), line))
    if line.op == "add":
        if all(law[0] == "base" for _, law in movers):
            return _base(sum((signs(line)[place] * law[1] for place, law in movers), Fraction(0)))
        return ("moves", _axis(law)) if len({_axis(law) for _, law in movers}) == 1 and signs(line) else None
    if line.op != "contract" or len(movers) != 1:
        return None
    found = _product(lines, line, mover, law[1] if law[0] == "base" else None, _axis(law))
    return found and (_base(found[0]) if len(found) == 1 else ("moves", found[1]))


def _axis(law: Simple) -> int:
    return int(law[1]) if law[0] == "moves" else 0


def _base(q: Fraction) -> Simple:
    return ("base", q) if q else FIXED


def column_sum(lines: Sequence[Line], line: Line, laws: Sequence[Simple | None]) -> Simple | None:
    """What is known of the sums along an axis: ``("sum", q, axis)``, those of the value minus ``q W`` are zero."""
    centred = _centre(lines, line)
    if centred is not None:
        return ("sum", Fraction(0), centred)
    known = [(place, law) for place, law in enumerate(laws) if law is not None and law != ZERO]
    linear = line.op in ("add", "round", "expand") and laws and None not in laws
    if line.op == "zero" or (line.op == "contract" and ZERO in laws) or (linear and not known):
        return ZERO
    if not known:
        return None
    place, law = known[0]
    if len(laws) == 1 and line.op in ("round", "expand"):
        if line.op == "round":
            return law
        return ("sum", Fraction(0), _expanded(law[2], line)) if not law[1] else None
    if linear and len({law[2] for _, law in known}) == 1:
        return ("sum", sum((signs(line)[p] * law[1] for p, law in known), Fraction(0)), law[2])
    for place, law in known if line.op == "contract" else ():
        found = _product(lines, line, place, law[1], law[2])
        if found and (len(found) == 1 or not law[1]):
            return ("sum", found[0], law[2]) if len(found) == 1 else ("sum", Fraction(0), found[1])
    return None


def independence(lines: Sequence[Line], line: Line, laws: Sequence[Simple | None]) -> Simple | None:
    """A function of independent values is independent."""
    return None if None in laws else FREE_OF


def implies(law: Simple | None, goal: Simple | None) -> bool:
    """Whether one of these laws implies another (``base`` moves along the rows, axis 0)."""
    if law == goal or goal is None or law is None:
        return law == goal or goal is None
    if goal[0] == "moves":
        return law == FIXED or (law[0] == "base" and goal[1] == 0)
    return law == ZERO and goal[0] == "sum" and not goal[1]


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
    if property == "shift_quotient":
        return implies(law, ("moves", 0))
    same = {"shift_insensitivity": FIXED, "horizontality": ("sum", Fraction(1), 0), "independence": FREE_OF}
    return law == same.get(property, ("base", Fraction(1)))


INFERENCE = {
    "shift_equivariance": shift,
    "shift_quotient": shift,
    "shift_insensitivity": shift,
    "horizontality": column_sum,
    "independence": independence,
}
