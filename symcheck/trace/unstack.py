"""Stacks of equally shaped tensors taken apart again, where a program works on each of them by itself.

Optimizers batch: they stack the parameters of one shape, work on the stack with its first axis as a batch axis, and
take the results out of it. The tensors have laws of their own and the stack has none. Here a line whose value is a
stack is replaced by one line for each slice wherever its operation treats the axis of the stack as a batch axis.
Whatever else reads a stack reads the slices stacked again, so every output has the value it had.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from symcheck.trace.program import BUNDLES, Line, Program, live_lines
from symcheck.trace.slicing import Plan, closed, plan_for, without

MOST = 8
"""Stacks of more slices are left alone: a program grows with every one of them."""

_FACTORS = frozenset({"cholesky", *BUNDLES})
Sizes = Sequence[tuple[int, ...]]
Indices = npt.NDArray[np.int64]


def unstack(
    program: Program, sizes: Sizes, constants: Mapping[int, Any]
) -> tuple[Program, list[tuple[int, ...]], dict[int, Any]]:
    """The same outputs, computed slice by slice where stacks are no more than batches (``docs/proof.md``, section 1).

    Args:
        program: of one step.
        sizes: the shape of the value of every line in this run.
        constants: the values of ``number``, ``array`` and ``random`` lines.

    Returns:
        Program, sizes and constants as given; those given themselves if there is nothing to take apart. The result
        depends on what the program says, not on the sizes of axes other than those of stacks: equal paths through the
        code stay equal programs.
    """
    # A stack of stacks is taken apart one axis after the other.
    for _ in range(max((line.rank for line in program.lines), default=0)):
        kept: frozenset[int] = frozenset()
        while True:
            rewriting = _Rewriting(program, sizes, constants, kept)
            rewriting.run()
            if not rewriting.spoiled:
                break
            kept |= rewriting.spoiled
        if not rewriting.changed:
            break
        program, sizes, constants = rewriting.result()
    return program, list(sizes), dict(constants)


@dataclass(frozen=True)
class _Stack:
    """The value of line ``origin`` of the old program: ``parts``, lines of the new one, stacked as axis ``axis``.

    ``sources`` are the old lines that stacked them; ``gauged`` if a factorisation is among what was computed since.
    """

    origin: int
    axis: int
    parts: tuple[int, ...]
    sources: frozenset[int]
    gauged: bool = False


class _Rewriting:
    """One pass over a program.

    Attributes:
        changed: an operation was applied to slices.
        spoiled: stacks whose slices would be factorised on their own only to be stacked again. Every factorisation
            has gauges of its own, which no law of the new stack could name: these are better left whole.
    """

    def __init__(self, program: Program, sizes: Sizes, constants: Mapping[int, Any], kept: frozenset[int]) -> None:
        self.program, self.old_sizes, self.old_constants, self.kept = program, sizes, constants, kept
        self.lines: list[Line] = []
        self.sizes: list[tuple[int, ...]] = []
        self.constants: dict[int, Any] = {}
        self.values: list[int | _Stack] = []
        self.changed = False
        self.spoiled: frozenset[int] = frozenset()
        self._stacked: dict[int, int] = {}
        self._slices: dict[tuple[int, int, int], int] = {}

    def run(self) -> None:
        """Rewrite every line; stack again what is given out."""
        for number, line in enumerate(self.program.lines):
            value = self._sliced(number, line)
            self.values.append(self._whole_line(number, line) if value is None else value)
        for at in self.program.outputs.values():
            self._whole(self.values[at])

    def result(self) -> tuple[Program, list[tuple[int, ...]], dict[int, Any]]:
        """The new program without lines that nothing depends on, its sizes and its constants."""
        outputs = {name: self._whole(self.values[at]) for name, at in self.program.outputs.items()}
        leaks: set[int] = set()
        for at in self.program.leaks:  # to know a stack is to know its slices
            value = self.values[at]
            leaks.update(value.parts if isinstance(value, _Stack) else [value])
        live = live_lines(self.lines, [*outputs.values(), *leaks])
        new = {old: number for number, old in enumerate(live)}
        lines = (replace(line, operands=tuple(new[o] for o in line.operands)) for line in (self.lines[i] for i in live))
        return (
            Program(
                tuple(lines), {name: new[at] for name, at in outputs.items()}, tuple(sorted(new[at] for at in leaks))
            ),
            [self.sizes[old] for old in live],
            {new[old]: value for old, value in self.constants.items() if old in new},
        )

    # -- lines -----------------------------------------------------------------------------------------------------

    def _emit(
        self, like: Line, op: str, operands: Sequence[int], sizes: Sequence[int], attributes: Mapping[str, Any]
    ) -> int:
        rank = -1 if op in BUNDLES else len(sizes)
        self.lines.append(Line(op, tuple(operands), dict(attributes), rank, like.where))
        self.sizes.append(tuple(sizes))
        return len(self.lines) - 1

    def _whole_line(self, number: int, line: Line) -> int:
        at = self._emit(line, line.op, [self._whole(self.values[o]) for o in line.operands], (), line.attributes)
        self.lines[at] = replace(self.lines[at], rank=line.rank)
        self.sizes[at] = tuple(self.old_sizes[number])
        if number in self.old_constants:
            self.constants[at] = self.old_constants[number]
        return at

    def _whole(self, value: int | _Stack) -> int:
        """The line of a value; of a stack, one that stacks its slices."""
        if isinstance(value, int):
            return value
        if value.origin not in self._stacked:
            if value.gauged:
                self.spoiled |= value.sources
            origin = self.program.lines[value.origin]
            sizes = self.old_sizes[value.origin]
            out: list[list[Any]] = [["batch", axis] for axis in range(len(sizes) - 1)]
            out.insert(value.axis, ["new"])
            count = len(value.parts)
            attributes: dict[str, Any] = {
                "fn": origin.attributes["fn"] if value.origin in value.sources else "stack",
                "axes": [[] for _ in value.parts],
                "out": out,
                "linear": True,
                "args": {"sizes": [count], "take": list(range(count))},
            }
            self._stacked[value.origin] = self._emit(origin, "along", value.parts, sizes, attributes)
        return self._stacked[value.origin]

    def _cut(self, value: int | _Stack, axis: int, count: int) -> tuple[int, ...] | None:
        """The slices of a value along ``axis``, of size ``count``; None if they are no simpler than the value."""
        if isinstance(value, _Stack):
            return value.parts if value.axis == axis and len(value.parts) == count else None
        if not self._constant_slices(value, axis):
            return None
        return tuple(self._slice(value, axis, index) for index in range(count))

    def _constant_slices(self, value: int, axis: int) -> bool:
        line = self.lines[value]
        if line.op == "expand" and axis not in line.attributes["axes"]:
            return self._constant_slices(line.operands[0], _inner(line, axis))
        return line.op in ("zero", "array", "expand")

    def _slice(self, value: int, axis: int, index: int) -> int:
        line = self.lines[value]
        if line.op == "zero" or (line.op == "expand" and axis in line.attributes["axes"]):
            index = 0  # all are equal
        key = (value, axis, index)
        if key not in self._slices:
            self._slices[key] = self._new_slice(line, value, axis, index)
        return self._slices[key]

    def _new_slice(self, line: Line, value: int, axis: int, index: int) -> int:
        sizes = without(self.sizes[value], axis)
        if line.op == "zero":
            return self._emit(line, "zero", (), sizes, {"rank": len(sizes)})
        if line.op == "expand":
            axes, (operand,) = closed(line.attributes["axes"], axis), line.operands
            if axis not in line.attributes["axes"]:
                operand = self._slice(operand, _inner(line, axis), index)
            return self._emit(line, "expand", [operand], sizes, {"axes": axes}) if axes else operand
        attributes: dict[str, Any] = {
            "fn": "view",
            "axes": [[axis]],
            "out": [["batch", other] for other in range(line.rank) if other != axis],
            "linear": True,
            "args": {"sizes": [], "take": [index]},
        }
        return self._emit(line, "along", [value], sizes, attributes)

    # -- operations ------------------------------------------------------------------------------------------------

    def _sliced(self, number: int, line: Line) -> int | _Stack | None:
        """The value of a line computed by slices; None where that is not understood."""
        values = [self.values[operand] for operand in line.operands]
        for at, value in enumerate(values):
            if isinstance(value, _Stack):
                ranks = [self.program.lines[operand].rank for operand in line.operands]
                plan = plan_for(line, ranks, at, value.axis)
                result = None if plan is None else self._apply(number, line, plan, len(value.parts))
                if result is not None:
                    return result
        if line.op == "along" and line.attributes.get("args"):
            return self._moved(number, line, values)
        return None

    def _apply(self, number: int, line: Line, plan: Plan, count: int) -> int | _Stack | None:
        values = [self.values[operand] for operand in line.operands]
        columns: list[tuple[int, ...] | None] = []
        for value, cut in zip(values, plan.cuts, strict=True):
            columns.append(None if cut is None else self._cut(value, cut, count))
            if cut is not None and columns[-1] is None:
                return None
        shared = [self._whole(value) if cut is None else -1 for value, cut in zip(values, plan.cuts, strict=True)]
        sizes = tuple(self.old_sizes[number])
        if plan.axis is not None and line.op not in BUNDLES:
            sizes = without(sizes, plan.axis)
        parts = []
        for index in range(count):
            operands = [
                whole if column is None else column[index] for whole, column in zip(shared, columns, strict=True)
            ]
            if line.op == "contract" and plan.attributes["indices"] == [plan.attributes["out"]]:
                parts.append(operands[0])
            else:
                parts.append(self._emit(line, line.op, operands, sizes, plan.attributes))
        self.changed = True
        if plan.axis is None:
            return self._summed(line, parts, sizes)
        stacks = [value for value in values if isinstance(value, _Stack)]
        return _Stack(
            number,
            plan.axis,
            tuple(parts),
            frozenset[int]().union(*(stack.sources for stack in stacks)),
            line.op in _FACTORS or any(stack.gauged for stack in stacks),
        )

    def _summed(self, line: Line, parts: Sequence[int], sizes: tuple[int, ...]) -> int:
        total = self._emit(line, "add", parts, sizes, {"signs": [1] * len(parts)})
        if not line.attributes.get("mean", False):
            return total
        share = Fraction(1, len(parts))
        number = self._emit(line, "number", (), (), {"value": str(share), "nonneg": True})
        self.constants[number] = float(share)
        letters = list(range(len(sizes)))
        attributes = {"indices": [letters, []], "out": letters, "mean": False}
        return self._emit(line, "contract", [total, number], sizes, attributes)

    # -- movements of entries along the axis of a stack ------------------------------------------------------------

    def _moved(self, number: int, line: Line, values: Sequence[int | _Stack]) -> int | _Stack | None:
        """Slices taken out of stacks, stacks concatenated or permuted, and, where it all begins, stacks made."""
        if number in self.kept:
            return None
        pieces: list[_Piece] = []
        owners: list[Indices] = []
        places: list[Indices] = []
        for operand, value, listed in zip(line.operands, values, line.attributes["axes"], strict=True):
            axis = value.axis if isinstance(value, _Stack) and value.axis in listed else None
            if axis is None and listed:
                return None  # entries of an ordinary axis, whose number is no part of the program
            batch = [a for a in range(self.program.lines[operand].rank) if a not in listed]
            if isinstance(value, _Stack) and axis is not None:
                owner, place = _strung([self.old_sizes[operand][a] for a in listed], list(listed).index(axis))
                owners.append(owner + len(pieces))
                places.append(place)
                pieces += [_Piece(part, closed(batch, axis), closed(listed, axis)) for part in value.parts]
            else:
                owners.append(np.array([len(pieces)]))
                places.append(np.array([0]))
                pieces.append(_Piece(value, batch, []))
        owner, place = _taken(line, owners), _taken(line, places)
        stacks = [value for value in values if isinstance(value, _Stack)]
        if stacks and len(_whose(owner)) == 1:
            self.changed = True
            return self._piece(number, line, pieces[_whose(owner).pop()], place, None)
        which = _separating(owner)
        if which is None:
            return None
        axis = [at for at, entry in enumerate(line.attributes["out"]) if list(entry) == ["new"]][which]
        parts = []
        for owns, plane in zip(np.moveaxis(owner, which, 0), np.moveaxis(place, which, 0), strict=True):
            parts.append(self._piece(number, line, pieces[_whose(owns).pop()], plane, axis))
        self.changed |= bool(stacks)
        return _Stack(
            number,
            axis,
            tuple(parts),
            frozenset({number}).union(*(stack.sources for stack in stacks)),
            any(stack.gauged for stack in stacks),
        )

    def _piece(self, number: int, line: Line, piece: _Piece, take: Indices, gone: int | None) -> int:
        """The entries ``take`` of one piece, as the slice of a line's value at the axis ``gone``, or all of it."""
        source = self._whole(piece.value)
        first = [a for a in range(self.program.lines[line.operands[0]].rank) if a not in line.attributes["axes"][0]]
        entries = [entry for at, entry in enumerate(line.attributes["out"]) if at != gone]
        out: list[int | None] = [
            None if list(entry) == ["new"] else piece.batch[first.index(entry[1])] for entry in entries
        ]
        sizes = self.old_sizes[number] if gone is None else without(self.old_sizes[number], gone)
        core = tuple(self.sizes[source][axis] for axis in piece.listed)
        if take.shape == core and np.array_equal(take.reshape(-1), np.arange(take.size)):
            listed = iter(piece.listed)
            order = [next(listed) if axis is None else axis for axis in out]
            return self._permuted(line, source, order)
        attributes = {
            "fn": line.attributes["fn"],
            "axes": [list(piece.listed)],
            "out": [["new"] if axis is None else ["batch", axis] for axis in out],
            "linear": True,
            "args": {"sizes": list(take.shape), "take": [int(index) for index in take.reshape(-1)]},
        }
        return self._emit(line, "along", [source], sizes, attributes)

    def _permuted(self, line: Line, source: int, order: Sequence[int]) -> int:
        if list(order) == sorted(order):
            return source
        letters = list(range(len(order)))
        sizes = [self.sizes[source][axis] for axis in order]
        return self._emit(line, "contract", [source], sizes, {"indices": [letters], "out": list(order), "mean": False})


@dataclass(frozen=True)
class _Piece:
    """A value that a movement of entries takes as it is, or a slice of one: its batch axes and its listed axes."""

    value: int | _Stack
    batch: Sequence[int]
    listed: Sequence[int]


def _inner(line: Line, axis: int) -> int:
    """The axis of its operand that an ``expand`` line shows as ``axis``."""
    return axis - sum(1 for new in line.attributes["axes"] if new < axis)


def _strung(core: Sequence[int], at: int) -> tuple[Indices, Indices]:
    """Of every entry of axes of sizes ``core``, row-major: its index along axis ``at``, and its place among the
    entries that share it."""
    owner = np.indices(core)[at]
    rest = without(core, at)
    place = np.broadcast_to(np.expand_dims(np.arange(math.prod(rest)).reshape(rest), at), core)
    return owner.reshape(-1), place.reshape(-1)


def _taken(line: Line, strings: Sequence[Indices]) -> Indices:
    """What an ``along`` line takes from the operands strung together, -1 where it takes nothing."""
    args = line.attributes["args"]
    string = np.concatenate([*strings, np.array([-1])])
    taken: Indices = string[np.asarray(args["take"], dtype=np.int64)].reshape(tuple(args["sizes"]))
    return taken


def _whose(owner: Indices) -> set[int]:
    return {int(number) for number in np.unique(owner)} - {-1}


def _separating(owner: Indices) -> int | None:
    """The axis whose every index belongs to one piece, a different one for each; None if there is none."""
    for axis, size in enumerate(owner.shape):
        planes = [_whose(plane) for plane in np.moveaxis(owner, axis, 0)]
        if 2 <= size <= MOST and all(len(plane) == 1 for plane in planes) and len(set().union(*planes)) == size:
            return axis
    return None
