"""What a joint rule reads off the spec string of its gauge: which axis of which tensor moves, and by what.

`groups` is imported when a gauge is first read, because importing `reference` imports no array library.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from groups import ProductAction
    from groups.group import Group

Planes = Literal["", "half", "interleaved"]
"""How the coordinates of a head are paired into planes; "" if they are not."""


@dataclass(frozen=True)
class Scaled:
    """The units of one tensor that a scaling moves: ``axis`` "rows", "cols" or "all" (the tensor is one unit), and
    ``power`` 1 or -1 (the inverse moves it); an axis "" if the tensor stands still."""

    axis: str
    power: int


@dataclass(frozen=True)
class Rotated:
    """The heads of one tensor that a rotation turns, along ``axis`` "rows" or "cols"; "" if the tensor stands still."""

    axis: str
    heads: int
    planes: Planes


@functools.cache
def scaled_tensors(gauge: str) -> tuple[Scaled, ...]:
    """The units of every tensor under a gauge of one diagonal variable.

    Raises ValueError, one line, for any other gauge.
    """
    action = action_of(gauge)
    wrong = ValueError(
        f"gauge {gauge!r}: a scaling is one variable in Scale or Scale+ on rows, cols or all of every tensor, "
        "such as 'up: D(rows); down: D*(cols) where D = Scale'"
    )
    if len(action.variables) != 1 or str(action.variables[0][1]) not in ("Scale", "Scale+") or action.shift:
        raise wrong
    found = []
    for factors in action.factors:
        if len(factors) > 1 or any(f.axis not in ("rows", "cols", "all") or f.image for f in factors):
            raise wrong
        found.append(Scaled(factors[0].axis, -1 if factors[0].dual else 1) if factors else Scaled("", 0))
    return tuple(found)


@functools.cache
def rotated_tensors(gauge: str) -> tuple[Rotated, ...]:
    """The heads of every tensor under a gauge of rotations: ``O`` or ``U1`` of whole axes or of their blocks.

    Raises ValueError, one line, for any other gauge.
    """
    action = action_of(gauge)
    wrong = ValueError(
        f"gauge {gauge!r}: a rotation is O, U1[half] or U1[interleaved], or blocks of them, on rows or cols, "
        "such as 'value: B(rows); output: B(cols) where B = (O wr 1[8])'"
    )
    found = []
    for name, factors in zip(action.tensors, action.factors, strict=True):
        if not factors:
            found.append(Rotated("", 1, ""))
            continue
        own = action.restrict(name)
        if len(factors) > 1 or factors[0].axis not in ("rows", "cols") or own.shift:
            raise wrong
        family, heads = _heads(own.variables[0][1])
        if family not in _PLANES:
            raise wrong
        found.append(Rotated(factors[0].axis, heads, _PLANES[family]))
    if all(not one.axis for one in found):
        raise wrong
    return tuple(found)


_PLANES: dict[str, Planes] = {"O": "", "U1[half]": "half", "U1[interleaved]": "interleaved"}


def _heads(group: Group) -> tuple[str, int]:
    """The family of one head, and the number of heads."""
    from groups.pieces import Pieces

    heads = 1
    while isinstance(group, Pieces):
        heads *= group.blocks
        group = group.inner
    return str(group), heads


@functools.cache
def action_of(gauge: str) -> ProductAction:
    """The action of a gauge. Raises ValueError, one line, for an unreadable spec and for a stack of experts."""
    from groups import ProductAction, parse_action

    action = parse_action(gauge)
    if not isinstance(action, ProductAction):
        raise ValueError(f"gauge {gauge!r}: give the gauge of one expert; the leading axis of a stack is a batch")
    return action


def spec(tensors: Sequence[str], factors: Sequence[Sequence[str]], variables: str = "") -> str:
    """The spec string with these factors, such as ``"O(rows)"``, on each tensor."""
    clauses = [" x ".join(row) or "1" for row in factors]
    if len(tensors) > 1 or tensors[0] != "W":
        clauses = [f"{name}: {clause}" for name, clause in zip(tensors, clauses, strict=True)]
    return "; ".join(clauses) + (f" where {variables}" if variables else "")
