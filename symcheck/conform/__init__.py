"""Conformance: an optimizer, step by step, against a float64 reference rule.

Importing this package imports no torch; `conform` does so when it is first looked up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from symcheck.conform.conformance import Conformance, conform

_LAZY = {"Conformance": "symcheck.conform.conformance", "conform": "symcheck.conform.conformance"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)


__all__ = ["Conformance", "conform"]
