"""Certification by adversarial search: strata, group elements, noise floors, exact witnesses, contracts.

Importing this package imports neither torch nor hypothesis; `probe`, `replay`, `repro_script` and `equivariance_error`
do so when they are first looked up. The names of the questions are in `symcheck.probe.names`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from symcheck.probe.names import ALL, BUDGETS, CONTRACTS, PROPERTIES, Question, plan

if TYPE_CHECKING:
    from symcheck.probe.error import equivariance_error
    from symcheck.probe.judge import probe
    from symcheck.probe.reexecute import Replay, replay
    from symcheck.probe.witness import repro_script

_LAZY = {
    "probe": "symcheck.probe.judge",
    "Replay": "symcheck.probe.reexecute",
    "replay": "symcheck.probe.reexecute",
    "repro_script": "symcheck.probe.witness",
    "equivariance_error": "symcheck.probe.error",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)


__all__ = [
    "ALL",
    "BUDGETS",
    "CONTRACTS",
    "PROPERTIES",
    "Question",
    "Replay",
    "equivariance_error",
    "plan",
    "probe",
    "replay",
    "repro_script",
]
