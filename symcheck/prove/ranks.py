"""The rank of every value of a certificate's edge, which its operations determine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

KEEP = frozenset({"add", "map", "select", "round", "coerce", "inverse", "cholesky", "expm"})
"""Operations whose value and operands have one rank."""


def ranks_of(lines: Sequence[Mapping[str, Any]], inputs: Mapping[str, int]) -> list[int]:
    """The ranks of the lines (-1 for bundles); ``inputs`` gives those of inputs whose law says nothing about it."""
    ranks: list[int | None] = [None] * len(lines)
    for n, line in enumerate(lines):
        ranks[n] = _forward(line, [ranks[o] for o in line["in"]], inputs)
    for n in reversed(range(len(lines))):
        for operand, rank in _backward(lines[n], ranks[n]):
            ranks[operand] = rank if ranks[operand] is None else ranks[operand]
    for n, line in enumerate(lines):
        if line["op"] == "part" and ranks[n] is None:
            matrix = ranks[lines[line["in"][0]]["in"][0]]
            ranks[n] = (matrix or 2) - (line["at"]["part"] in ("values", "s"))
        if ranks[n] is None:
            ranks[n] = _forward(line, [ranks[o] for o in line["in"]], inputs)
    return [rank or 0 for rank in ranks]


def _forward(line: Mapping[str, Any], operands: Sequence[int | None], inputs: Mapping[str, int]) -> int | None:
    op, at, law = line["op"], line.get("at", {}), line.get("law")
    if isinstance(law, dict):
        return int(law["zero"]) if "zero" in law else len(law["axes"])
    if op == "input":
        return inputs.get(at["name"])
    if op in ("number", "array", "zero", "random"):
        return int(at.get("rank", 0))
    if op == "eye":
        return 2
    if op in ("contract", "along"):
        return len(at["out"])
    if op in ("eigh", "svd", "qr"):
        return -1
    if op == "part":
        return None
    known = next((rank for rank in operands if rank is not None), None)
    if known is None or op in KEEP:
        return known
    if op == "expand":
        return known + len(at["axes"])
    if op == "symmetric":
        return int(known - len(at["axes"]) + (at["fn"] == "sort"))
    return None


def _backward(line: Mapping[str, Any], rank: int | None) -> list[tuple[int, int]]:
    if line["op"] == "contract":
        return [(operand, len(row)) for operand, row in zip(line["in"], line["at"]["indices"], strict=True)]
    if line["op"] in KEEP and rank is not None:
        return [(operand, rank) for operand in line["in"]]
    return []
