"""Where torch.optim is known to part from the reference, and why: shown, with the reason, and expected.

A departure that is not listed is a finding. A listed one that is gone (another version of torch) is no error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from symcheck.conform.cases import Case


@dataclass(frozen=True)
class Known:
    """Departures of ``target`` from ``rule`` in the cases for which ``where`` holds, and their reason."""

    target: str
    rule: str
    where: Callable[[Case], bool]
    reason: str


def _low(case: Case) -> bool:
    return case.dtype in ("bfloat16", "float16")


KNOWN: tuple[Known, ...] = (
    Known(
        "torch.optim.SGD",
        "sgd",
        lambda case: _low(case) and case.subject.label.startswith("fused"),
        "the fused kernel of the CPU leaves 16-bit parameters where they are, whole vector registers at a time "
        "(pytorch #191763)",
    ),
    Known(
        "torch.optim.Muon",
        "muon_torch",
        lambda case: case.dtype == "bfloat16" and not getattr(case.subject.rule, "nesterov", True),
        "without Nesterov the Newton-Schulz iteration gets the momentum buffer itself, which .bfloat16() does not "
        "copy, and normalises it in place",
    ),
    Known(
        "torch.optim.Adafactor",
        "adafactor",
        lambda case: any(len(shape) > 2 for shape in case.shapes),
        "documented in rule:adafactor: torch takes norms over the whole of a tensor with more than two axes, the rule "
        "over every matrix of it",
    ),
    Known(
        "rule:adafactor",
        "adafactor",
        lambda case: any(len(shape) < 2 for shape in case.shapes),
        "documented in the rule: the front end shows it a vector as one row, which is the same but for gradients below "
        "eps",
    ),
)


def known_reason(target: str, rule: str, case: Case) -> str:
    """Why ``target`` may part from ``rule`` in this case; empty if it may not."""
    for known in KNOWN:
        if known.target == target and known.rule == rule and known.where(case):
            return known.reason
    return ""
