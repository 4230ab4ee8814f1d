"""Programs: what one call of ``step()`` computes, in exact real arithmetic and without sizes (``docs/proof.md``).

This module is the common language of the recorder, the interpreters and the prover. It imports nothing heavy.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

SOURCES = ("input", "number", "array", "zero", "eye", "random")
BUNDLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"eigh": ("values", "vectors"), "svd": ("u", "s", "vh"), "qr": ("q", "r")}
)
"""Operations with several results, and the names of their parts."""


@dataclass(frozen=True)
class Line:
    """One operation: ``op`` applied to the values of earlier lines ``operands``.

    ``attributes`` are JSON-ready and part of the program. ``where`` is the source location ``file:line`` that caused
    it; ``axes`` the rank of its value (of a bundle: -1).
    """

    op: str
    operands: tuple[int, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    rank: int = 0
    where: str = ""


@dataclass(frozen=True)
class Program:
    """The lines of one step, its outputs by name (``weight:0``, ``state:PATH``), and the lines that leaked."""

    lines: tuple[Line, ...]
    outputs: Mapping[str, int]
    leaks: tuple[int, ...] = ()

    @property
    def inputs(self) -> Mapping[str, int]:
        """The line of every input by name."""
        return {line.attributes["name"]: number for number, line in enumerate(self.lines) if line.op == "input"}

    def to_json(self) -> dict[str, Any]:
        """The program as JSON-ready data, without source locations."""
        return {
            "lines": [
                {"op": line.op, "in": list(line.operands), **({"at": dict(line.attributes)} if line.attributes else {})}
                for line in self.lines
            ],
            "outputs": dict(sorted(self.outputs.items())),
            "leaks": list(self.leaks),
        }

    @cached_property
    def digest(self) -> str:
        """A hash of the program that ignores the values of its numbers: equal for two runs of the same path."""
        data = self.to_json()
        for line in data["lines"]:
            if line["op"] == "number":
                line["at"] = {key: value for key, value in line["at"].items() if key == "nonneg"}
            elif line["op"] == "along" and "args" in line["at"]:
                line["at"] = {key: value for key, value in line["at"].items() if key != "args"}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Step:
    """One traced call: its program, and what flowed through it in this run.

    ``constants`` holds the value of every ``number`` and ``array`` line, and the drawn values of ``random`` lines, by
    line number; ``inputs`` and ``outputs`` hold numpy float64 arrays by name, axes of size one removed and merged
    dimensions unmerged, as the program sees them. ``source`` and ``target`` are the sets of state tensors before and
    after. ``sizes`` gives the shape of every line's value in this run (for interpreters that need sizes: ``zero``,
    ``expand``, ``eye`` and for choosing laws of random numbers).
    """

    program: Program
    constants: Mapping[int, Any]
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    sizes: Sequence[tuple[int, ...]]
    casts: tuple[str, ...] = ()

    @property
    def source(self) -> frozenset[str]:
        """The state tensors that exist before the step."""
        return frozenset(name for name in self.inputs if name.startswith("state:"))

    @property
    def target(self) -> frozenset[str]:
        """The state tensors that exist after it."""
        return frozenset(name for name in self.outputs if name.startswith("state:"))


@dataclass(frozen=True)
class Unsupported:
    """Why a run has no program: the first operation or escape outside the vocabulary, and where."""

    what: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.what} ({self.where})" if self.where else self.what


@dataclass(frozen=True)
class Trace:
    """A traced run on one block: ``steps[0]`` is the constructor, then one entry for each call of ``step()``."""

    shapes: tuple[tuple[int, ...], ...]
    steps: tuple[Step, ...]
    unsupported: Unsupported | None = None


def live_lines(lines: Sequence[Line], roots: Sequence[int]) -> list[int]:
    """The numbers of the lines that ``roots`` depend on, and of all inputs, in order."""
    live = {number for number, line in enumerate(lines) if line.op == "input"}
    waiting = list(roots)
    while waiting:
        number = waiting.pop()
        if number not in live:
            live.add(number)
            waiting.extend(lines[number].operands)
    return sorted(live)


def with_common_numbers(programs: Sequence[Program]) -> Program:
    """One program for several runs of the same path: numbers that differ between them lose their value.

    Raises:
        ValueError: the programs are not equal up to numbers.
    """
    first = programs[0]
    if any(other.digest != first.digest for other in programs[1:]):
        raise ValueError("programs of different paths cannot be merged")
    lines = list(first.lines)
    for number, line in enumerate(lines):
        if line.op == "number" and len({other.lines[number].attributes["value"] for other in programs}) > 1:
            lines[number] = dataclasses.replace(line, attributes={**line.attributes, "value": None})
    return dataclasses.replace(first, lines=tuple(lines))
