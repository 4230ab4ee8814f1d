"""Certifies whether a neural-network optimizer respects the symmetry of the weights it updates.

    report = symcheck.certify(MyOptimizer, block="router", lr=0.02)
    report["router", "equivariance"].verdict

Importing this package imports no torch; that happens when an optimizer is first certified. Source of the principle:
Lau & Su, "Symmetry-Compatible Principle for Optimizer Design", arXiv 2605.18106.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from symcheck.claims import Claim, Expectation
    from symcheck.errors import UsageError
    from symcheck.probe import equivariance_error
    from symcheck.registry import OptimizerInfo, register
    from symcheck.report import CertificationError, Report
    from symcheck.result import Evidence, Numeric, Result, Status, Verdict
    from symcheck.run import assert_equivariant, certify

__version__ = "0.1.0"

_HOME = {
    "CertificationError": "symcheck.report",
    "Claim": "symcheck.claims",
    "Evidence": "symcheck.result",
    "Expectation": "symcheck.claims",
    "Numeric": "symcheck.result",
    "OptimizerInfo": "symcheck.registry",
    "Report": "symcheck.report",
    "Result": "symcheck.result",
    "Status": "symcheck.result",
    "UsageError": "symcheck.errors",
    "Verdict": "symcheck.result",
    "assert_equivariant": "symcheck.run",
    "certify": "symcheck.run",
    "equivariance_error": "symcheck.probe",
    "register": "symcheck.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'symcheck' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


__all__ = [
    "CertificationError",
    "Claim",
    "Evidence",
    "Expectation",
    "Numeric",
    "OptimizerInfo",
    "Report",
    "Result",
    "Status",
    "UsageError",
    "Verdict",
    "assert_equivariant",
    "certify",
    "equivariance_error",
    "register",
]
