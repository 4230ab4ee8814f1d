"""Symbols for the sizes of axes: programs have no sizes, but formulas about matrices do."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from sympy import Expr, Symbol


def axis_sizes(
    lines: Sequence[Mapping[str, Any]], ranks: Sequence[int], tensors: Mapping[tuple[int, int], Expr]
) -> list[tuple[Expr, ...]]:
    """A symbol for the size of every axis of every line, equal where an operation makes them equal."""
    parent: dict[tuple[int, int], tuple[int, int]] = {}

    def find(node: tuple[int, int]) -> tuple[int, int]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    def unite(one: tuple[int, int], two: tuple[int, int]) -> None:
        one, two = sorted((find(one), find(two)))
        parent[two] = one

    for n, line in enumerate(lines):
        for one, two in _equal_axes(n, line, lines, ranks):
            unite(one, two)
    names: dict[tuple[int, int], Expr] = {}
    for n, line in enumerate(lines):
        if line["op"] == "input" and line["at"]["name"].startswith(("weight:", "grad:")):
            number = int(line["at"]["name"].partition(":")[2])
            names |= {find((n, axis)): tensors[number, axis] for axis in range(ranks[n]) if (number, axis) in tensors}
    used = {str(name) for name in tensors.values()}
    more = (f"n_{{{k}}}" for k in itertools.count(1))
    letters = (x for x in itertools.chain("mnpqrdl", more) if x not in used)
    result = []
    for n, rank in enumerate(ranks):
        sizes = []
        for axis in range(max(rank, 0)):
            node = find((n, axis))
            if node not in names:
                names[node] = Symbol(next(letters), integer=True, positive=True)
            sizes.append(names[node])
        result.append(tuple(sizes))
    return result


def _equal_axes(
    n: int, line: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], ranks: Sequence[int]
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    op, operands, at = line["op"], line["in"], line.get("at", {})
    rank = ranks[n]
    if op == "contract":
        places: dict[int, tuple[int, int]] = {letter: (n, axis) for axis, letter in enumerate(at["out"])}
        pairs = []
        for operand, row in zip(operands, at["indices"], strict=True):
            for axis, letter in enumerate(row):
                pairs.append(((operand, axis), places.setdefault(letter, (operand, axis))))
        return pairs
    if op == "expand":
        old = [axis for axis in range(rank) if axis not in at["axes"]]
        return [((operands[0], k), (n, axis)) for k, axis in enumerate(old)]
    if op == "symmetric":
        kept = [axis for axis in range(ranks[operands[0]]) if axis not in at["axes"]]
        kept += at["axes"] if at["fn"] == "sort" else []
        return [((operands[0], axis), (n, k)) for k, axis in enumerate(kept)]
    if op == "along":
        batch = [(axis, entry[1]) for axis, entry in enumerate(at["out"]) if entry[0] == "batch"]
        return [((operands[0], source), (n, axis)) for axis, source in batch]
    if op == "part":
        return _part_axes(n, line, lines, rank)
    pairs = [((operand, axis), (n, axis)) for operand in operands for axis in range(max(rank, 0))]
    if op in ("inverse", "expm", "cholesky", "eye"):
        pairs.append(((n, rank - 2), (n, rank - 1)))
    return pairs


def _part_axes(
    n: int, line: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], rank: int
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    bundle = line["in"][0]
    matrix, part = lines[bundle]["in"][0], line["at"]["part"]
    inner = (-1 - bundle, 0)  # the axis of a factorisation that no operand has
    batch = rank - (1 if part in ("values", "s") else 2)
    pairs = [((matrix, axis), (n, axis)) for axis in range(batch)]
    if part in ("values", "s"):
        pairs.append((inner, (n, batch)))
    elif part in ("vh", "r"):
        pairs += [(inner, (n, batch)), ((matrix, batch + 1), (n, batch + 1))]
    else:
        pairs += [((matrix, batch), (n, batch)), (inner, (n, batch + 1))]
    if lines[bundle]["op"] == "eigh":
        pairs += [((matrix, batch), inner), ((matrix, batch + 1), inner)]
    return pairs
