"""From aten operations to the vocabulary of programs (``docs/proof.md``, section 1)."""

from __future__ import annotations

from symcheck.trace.builder import NotInVocabulary
from symcheck.trace.lowering.table import Arguments, Result, lower

__all__ = ["Arguments", "NotInVocabulary", "Result", "lower"]
