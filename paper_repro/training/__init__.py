"""Training one run of the reproduction: `run_one`, `estimate`.

Importing this package imports neither torch nor transformers; that happens with the first of its names.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paper_repro.training.estimates import Estimate, estimate
    from paper_repro.training.run import run_one

_HOME = {
    "Estimate": "paper_repro.training.estimates",
    "estimate": "paper_repro.training.estimates",
    "run_one": "paper_repro.training.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'paper_repro.training' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


__all__ = ["Estimate", "estimate", "run_one"]
