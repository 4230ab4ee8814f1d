"""Which operations treat an axis of an operand as a batch axis, and what they do to each slice along it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from symcheck.trace.program import BUNDLES, Line

_ELEMENTWISE = frozenset({"add", "map", "select", "round"})
_MATRICES = frozenset({"inverse", "cholesky", "expm", *BUNDLES})


@dataclass(frozen=True)
class Plan:
    """How an operation works on slices: the axis at which each operand is cut (None: shared by all slices), the
    attributes of the lines of the slices, and where their results are stacked (None: they are summed)."""

    cuts: Sequence[int | None]
    attributes: Mapping[str, Any]
    axis: int | None


def plan_for(line: Line, ranks: Sequence[int], at: int, axis: int) -> Plan | None:
    """How the operation works on the slices of operand ``at``, a stack along ``axis``; None if it is not a batch."""
    if line.op in _ELEMENTWISE:
        return Plan([axis] * len(line.operands), line.attributes, axis)
    if line.op == "part" or (line.op in _MATRICES and axis < ranks[0] - 2):
        return Plan([axis], line.attributes, axis)
    if line.op == "expand":
        new = set(line.attributes["axes"])
        position = [a for a in range(ranks[0] + len(new)) if a not in new][axis]
        return Plan([axis], {"axes": closed(line.attributes["axes"], position)}, position)
    if line.op == "symmetric":
        return _symmetric_plan(line, ranks[0], axis)
    if line.op == "contract":
        return _contract_plan(line, at, axis)
    if line.op == "along":
        return _along_plan(line, ranks, at, axis)
    return None


def _symmetric_plan(line: Line, rank: int, axis: int) -> Plan | None:
    axes = line.attributes["axes"]
    if axis in axes:
        return None
    attributes = {**line.attributes, "axes": closed(axes, axis)}
    return Plan([axis], attributes, sum(1 for other in range(axis) if other not in axes))


def _contract_plan(line: Line, at: int, axis: int) -> Plan | None:
    indices, out = line.attributes["indices"], list(line.attributes["out"])
    letter = indices[at][axis]
    if any(list(letters).count(letter) > 1 for letters in indices):
        return None
    cuts = [list(letters).index(letter) if letter in letters else None for letters in indices]
    names: dict[int, int] = {}
    for other in (other for letters in indices for other in letters if other != letter):
        names.setdefault(other, len(names))
    attributes = {
        **line.attributes,
        "indices": [[names[other] for other in letters if other != letter] for letters in indices],
        "out": [names[other] for other in out if other != letter],
    }
    return Plan(cuts, attributes, out.index(letter) if letter in out else None)


def _along_plan(line: Line, ranks: Sequence[int], at: int, axis: int) -> Plan | None:
    listed = line.attributes["axes"]
    if axis in listed[at]:
        return None
    batches = [[a for a in range(rank) if a not in axes] for rank, axes in zip(ranks, listed, strict=True)]
    cuts = [batch[batches[at].index(axis)] for batch in batches]
    out: list[list[Any]] = [list(entry) for entry in line.attributes["out"]]
    position = out.index(["batch", cuts[0]])
    del out[position]
    attributes = {
        **line.attributes,
        "axes": [closed(own, cut) for own, cut in zip(listed, cuts, strict=True)],
        "out": [entry if entry == ["new"] else ["batch", *closed(entry[1:], cuts[0])] for entry in out],
    }
    return Plan(cuts, attributes, position)


def closed(axes: Sequence[int], gone: int) -> list[int]:
    """Axes of a value as axes of its slices along ``gone``, which is left out."""
    return [axis - (axis > gone) for axis in axes if axis != gone]


def without(sizes: Sequence[int], axis: int) -> tuple[int, ...]:
    """The shape of the slices of a value along ``axis``."""
    return (*sizes[:axis], *sizes[axis + 1 :])
