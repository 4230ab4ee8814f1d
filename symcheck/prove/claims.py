"""From an action on a block to the claim of a certificate: variables, and how each axis of each tensor moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from groups import Action, ExpertAction, ProductAction, Wreath
from groups.group import Group
from symcheck.prove.errors import NoProof

Shapes = Sequence[tuple[int, ...]]
Splits = tuple[tuple[tuple[int, ...], ...], ...]
"""For every tensor and axis: the sizes of the axes that it is cut into."""

CLASSES = {"Perm": "perm", "Sign": "sign", "SPerm": "sperm", "O": "orth", "Stab1": "stab1", "Scale+": "scale+"} | {
    "Scale": "scale"
}
"""Classes of variables by the name of the family."""
WIDER = {"Cyclic": "Perm", "U1[half]": "O", "U1[interleaved]": "O"}
"""Families without a law of their own, and one with a law that contains them."""


@dataclass(frozen=True)
class ClaimedAction:
    """The ``claim`` part of a certificate, and how the axes of the parameters are split for it (None: not at all).

    ``axes`` lists for every tensor its axes as they are split, those of size one too: size, and how the axis moves.
    ``unsaid`` says why the claim does not say all of what is asked, if so.
    """

    claim: dict[str, Any]
    splits: Splits | None
    axes: tuple[tuple[tuple[int, Any], ...], ...] = ()
    unsaid: str = ""


def equivariance_claim(action: Action, shapes: Shapes) -> ClaimedAction:
    """The claim that a rule commutes with (the linear part of) ``action`` on tensors of these ``shapes``.

    Raises:
        NoProof: the action has a factor that no law describes (GL, a user's matrix group).
    """
    action = action.linear
    stacked = isinstance(action, ExpertAction)
    inner = action.block if isinstance(action, ExpertAction) else action
    if not isinstance(inner, ProductAction):
        raise NoProof(f"no law describes the action {action}")
    characters = _characters(inner)
    if stacked and characters:
        raise NoProof("no law describes one factor on every expert of a stack")
    variables: list[dict[str, Any]] = []
    if stacked:
        variables.append(_variable("experts", "perm"))
    base = "experts" if stacked else None
    heads: dict[str, tuple[str | None, str | None, int]] = {}
    for name, group in inner.variables:
        if name in characters:
            variables.append(_variable(name, _scalar_class(group), axes=0))
            continue
        heads[name] = _declare(name, group, base, variables, _entries(inner, name, shapes))
    tensors, splits, whole, cut = [], [], [], False
    for number, shape in enumerate(shapes):
        axes: list[Any] = [["experts", 0, 1]] if stacked else []
        sizes: list[tuple[int, ...]] = [(shape[0],)] if stacked else []
        for position in range(len(axes), len(shape)):
            factor = next((f for f in inner.factors[number] if position in _positions(f.axis, len(shape))), None)
            if factor is None:
                axes.append(None)
                sizes.append((shape[position],))
                continue
            top, own, blocks = heads[factor.variable]
            power = -1 if factor.dual else 1
            if blocks > 1:
                axes += [None if top is None else [top, 0, 1], None if own is None else [own, 0, power]]
                sizes.append((blocks, shape[position] // blocks))
                cut = True
            else:
                sub = sum(size > 1 for size in shape[:position]) if factor.axis == "entries" else 0
                # An axis of size one is none of those that entries have, unless there is no other.
                single = factor.axis == "entries" and shape[position] == 1 and (max(shape) > 1 or position > 0)
                axes.append(None if own is None or single else [own, sub, power])
                sizes.append((shape[position],))
        flat = [size for split in sizes for size in split]
        whole.append(tuple(zip(flat, axes, strict=True)))
        tensors.append([axis for axis, size in zip(axes, flat, strict=True) if size > 1])
        splits.append(tuple(tuple(size for size in split if size > 1) for split in sizes))
    claim: dict[str, Any] = {"property": "equivariance", "variables": variables, "tensors": tensors}
    return ClaimedAction(_with(claim, characters), tuple(splits) if cut else None, tuple(whole))


SCALARS = {"orth": "sign", "sperm": "sign", "sign": "sign", "scale+": "scale+", "scale": "scale"}
"""What is left of a class on an axis of size one, if anything."""


def with_units(claimed: ClaimedAction) -> ClaimedAction:
    """The claim with what variables do to axes of size one, which programs do not have: they multiply whole tensors by
    a sign or a scale, or those of every head or expert."""
    variables = {row["name"]: dict(row) for row in claimed.claim["variables"]}
    characters: dict[str, list[int]] = {}
    for name, row in variables.items():
        powers = [sum(x[2] for n, x in axes if n == 1 and x and x[0] == name) for axes in claimed.axes]
        scalar = SCALARS.get(row["class"])
        if scalar is None or not any(powers):
            continue
        base = row["fibre"] and variables[row["fibre"]]
        if not base:
            row |= {"class": scalar, "axes": 0}
            characters[name] = powers
            continue
        places = [sum(n > 1 and bool(x) and x[0] == row["fibre"] for n, x in axes) for axes in claimed.axes]
        if scalar != "sign" or base["class"] != "perm" or [power % 2 for power in powers] != places:
            return replace(claimed, unsaid=f"no law describes {name} on an axis of length one")
        base["class"] = "sperm"
    claim = {**claimed.claim, "variables": [*variables.values()]}
    return replace(claimed, claim=_with(claim, characters))


def _with(claim: Mapping[str, Any], characters: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """The claim with variables that multiply every tensor by a power of theirs, which is 0 for those that they leave
    alone."""
    classes = {row["name"]: row["class"] for row in claim["variables"]}
    said = {name: list(rows) for name, rows in claim.get("characters", {}).items()}
    for name, powers in sorted(characters.items()):
        for number, power in enumerate(powers):
            k = int(classes[name] != "scale+") * (power % 2)
            for kind, e in (("weight", power), ("grad", -power)):
                row = [name, k, str(e if classes[name] != "sign" else 0)]
                if row[1:] != [0, "0"]:
                    said.setdefault(f"{kind}:{number}", []).append(row)
    return {**claim, "characters": {name: sorted(rows) for name, rows in said.items()}} if said else dict(claim)


def _characters(action: ProductAction) -> dict[str, list[int]]:
    """The variables that multiply whole tensors, with their power for every tensor.

    Raises:
        NoProof: a variable acts on the tensors in different ways, or through an image.
    """
    if any(factor.image for factors in action.factors for factor in factors):
        raise NoProof("no law describes a tensor that moves by an image (|P|, H/2) of a variable")
    powers: dict[str, list[int]] = {}
    for name, _ in action.variables:
        found = [[f for f in factors if f.variable == name] for factors in action.factors]
        axes = {f.axis for factors in found for f in factors}
        if axes > {"all"}:
            raise NoProof(f"no law describes a factor ({name}) of whole tensors and of axes")
        if axes == {"all"}:
            powers[name] = [sum(-1 if f.dual else 1 for f in factors) for factors in found]
    return powers


def _scalar_class(group: Group) -> str:
    if str(group) not in ("Scale+", "Scale", "Sign"):
        raise NoProof(f"no law describes {group} on a whole tensor")
    return CLASSES[str(group)]


def _variable(name: str, kind: str, axes: int = 1, fibre: str | None = None) -> dict[str, Any]:
    return {"name": name, "class": kind, "axes": axes, "fibre": fibre}


def _entries(action: ProductAction, name: str, shapes: Shapes) -> int:
    """How many axes the variable acts on at once."""
    for factors, shape in zip(action.factors, shapes, strict=True):
        if any(factor.variable == name and factor.axis == "entries" for factor in factors):
            return max(1, sum(size > 1 for size in shape))
    return 1


def _declare(
    name: str, group: Group, base: str | None, variables: list[dict[str, Any]], axes: int
) -> tuple[str | None, str | None, int]:
    """Declare a variable; the permutation of blocks it contains, its own name, and the number of blocks."""
    if isinstance(group, Wreath):
        if base is not None:
            raise NoProof(f"no law describes {group} inside a stack of experts")
        top = None
        if str(group.top) == "Perm":
            top = f"{name}.blocks"
            variables.append(_variable(top, "perm"))
        elif str(group.top) != "1":
            raise NoProof(f"no law describes {group}")
        if str(group.inner) == "1":
            return top, None, group.blocks
        if top is None:
            raise NoProof(f"no law describes {group}")
        _, own, _ = _declare(name, group.inner, top, variables, 1)
        return top, own, group.blocks
    family = WIDER.get(str(group), str(group))
    if family == "1":
        return None, None, 1
    if family not in CLASSES:
        raise NoProof(f"no law describes {group}")
    variables.append(_variable(name, CLASSES[family], axes, base))
    return None, name, 1


def _positions(axis: str, rank: int) -> tuple[int, ...]:
    named = {"rows": (rank - 2,), "cols": (rank - 1,), "experts": (rank - 3,), "entries": tuple(range(rank)), "all": ()}
    return named[axis]
