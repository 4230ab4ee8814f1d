"""The prover examined: random programs, and whether anything that was proved of one of them is false."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from symcheck.prove.errors import NoProof
from symcheck.prove.prover import machine_of, prove
from symcheck.selftest.defect import SYMMETRIES, Report, check_programs
from symcheck.trace.program import Trace

BATCH = 10
"""Programs that are asked about the same symmetries."""
ASKED = 2
"""Symmetries asked about each program: all of them get their turn, and the examination stays short."""


def examine_prover(count: int, seed: int, *, progress: Callable[[Report], None] | None = None) -> Report:
    """Prove what can be proved of ``count`` random programs and look for a counterexample to all of it.

    Programs are drawn in batches from ``seed``; every batch asks about some of the symmetries. ``progress`` hears the
    report so far after each batch.
    """
    total = Report()
    rng = random.Random(seed)
    while total.programs < count:
        symmetries = rng.sample(SYMMETRIES, ASKED)
        size = min(BATCH, count - total.programs)
        _add(total, check_programs(size, rng.getrandbits(32), _conditions, symmetries=symmetries))
        if progress is not None:
            progress(total)
    return total


def _conditions(traces: Sequence[Trace], claim: Mapping[str, Any]) -> Sequence[str] | None:
    try:
        return prove(machine_of(traces), claim).conditions
    except NoProof:
        return None


def _add(total: Report, part: Report) -> None:
    total.programs += part.programs
    total.total += part.total
    for mine, other in ((total.equivariant, part.equivariant), (total.proved, part.proved)):
        for name, number in other.items():
            mine[name] = mine.get(name, 0) + number
    total.unsound += part.unsound
    total.infinite += part.infinite
    total.unproved += part.unproved
