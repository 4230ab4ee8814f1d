"""From aten operations to the vocabulary of programs (``docs/proof.md``, section 1).

Each module enters the operations of its topic into one table; `lower` looks them up.
"""

from __future__ import annotations

from symcheck.trace.builder import NotInVocabulary
from symcheck.trace.lowering import (
    arithmetic,
    foreach,
    functions,
    fused,
    logic,
    matrices,
    movement,
    order,
    reductions,
    sources,
)
from symcheck.trace.lowering.table import TABLE, Arguments, Result, lower

__all__ = [
    "TABLE",
    "Arguments",
    "NotInVocabulary",
    "Result",
    "arithmetic",
    "foreach",
    "functions",
    "fused",
    "logic",
    "lower",
    "matrices",
    "movement",
    "order",
    "reductions",
    "sources",
]
