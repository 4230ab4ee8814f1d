"""Tracing: what a candidate computes, as a program in exact real arithmetic without sizes (``docs/proof.md``).

``record(candidate, inputs)`` runs a candidate and returns a :class:`~symcheck.trace.program.Trace`. Operations reach
the recorder below torch's dispatcher (``recorder``), which knows what memory holds (``storage``, ``geometry``) and asks
``lowering`` what an operation means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from symcheck.trace.program import Line, Program, Step, Trace, Unsupported

if TYPE_CHECKING:
    from symcheck.trace.session import record

__all__ = ["Line", "Program", "Step", "Trace", "Unsupported", "record"]


def __getattr__(name: str) -> Any:
    # Programs must be readable without torch: it is imported when the first run is recorded.
    if name == "record":
        from symcheck.trace.session import record

        return record
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
