"""Transposes taken into the products that use them: ``X^T`` then ``X^T X`` becomes one contraction of ``X`` with ``X``.

That is how a product shows that it is symmetric, and how it is written on paper.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from symcheck.trace.program import Line, Program, live_lines

Sizes = tuple[int, ...]


def inline_transposes(
    program: Program, sizes: Sequence[Sizes], constants: Mapping[int, Any]
) -> tuple[Program, list[Sizes], dict[int, Any]]:
    """The same program with every transposed operand of a ``contract`` replaced by what is transposed.

    ``sizes`` and ``constants`` are those of a :class:`~symcheck.trace.program.Step`. Lines that nothing uses any more
    are removed.
    """
    lines = list(program.lines)
    for number, line in enumerate(lines):
        if line.op != "contract":
            continue
        operands, indices = list(line.operands), [list(row) for row in line.attributes["indices"]]
        for place, operand in enumerate(operands):
            order = _order(lines[operand])
            if order is not None:
                operands[place] = lines[operand].operands[0]
                indices[place] = [indices[place][position] for position in order]
        if operands != list(line.operands):
            attributes = {**line.attributes, "indices": indices}
            lines[number] = dataclasses.replace(line, operands=tuple(operands), attributes=attributes)
    live = live_lines(lines, [*program.outputs.values(), *program.leaks])
    new = {old: number for number, old in enumerate(live)}
    kept = tuple(
        dataclasses.replace(lines[old], operands=tuple(new[operand] for operand in lines[old].operands)) for old in live
    )
    return (
        Program(
            kept, {name: new[line] for name, line in program.outputs.items()}, tuple(new[at] for at in program.leaks)
        ),
        [sizes[old] for old in live],
        {new[old]: value for old, value in constants.items() if old in new},
    )


def _order(line: Line) -> list[int] | None:
    """Where each axis of the operand of a transpose goes; None for any other line."""
    if line.op != "contract" or len(line.operands) != 1:
        return None
    (row,), out = line.attributes["indices"], line.attributes["out"]
    if line.attributes["mean"] or sorted(row) != sorted(out) or len(set(row)) != len(row):
        return None
    return [list(out).index(letter) for letter in row]
