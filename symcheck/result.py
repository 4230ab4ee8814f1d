"""What a certification says: verdicts, evidence, numeric status, and one result per question asked.

Everything here is plain data. Nothing imports torch, so that ``symcheck --help`` stays fast.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ORDINARY = "generic"
"""The stratum of ordinary gradients: no zero, tie, repeated singular value or extreme scale."""


class Verdict(enum.StrEnum):
    """The answer to one question "does TARGET have PROPERTY on BLOCK?"."""

    PROVED = "proved"
    """A certificate was accepted by the independent kernel."""
    REFUTED = "refuted"
    """A replayable witness: exact group element, exact inputs, both sides, the step at which they part."""
    SUPPORTED = "supported"
    """No proof; an adversarial search over all strata and steps found no defect above the noise floor."""
    VACUOUS = "vacuous"
    """The check could not have failed: zero or NaN update, trivial group element, frozen parameter."""
    DECLINED = "declined"
    """Outside what the tool handles; the reason says why."""
    ERROR = "error"
    """The candidate raised, hung, or took its process down."""


class Status(enum.StrEnum):
    """How a floating-point implementation behaves beside its exact-arithmetic verdict."""

    STABLE = "stable"
    UNSTABLE = "unstable"
    UNTESTED = "untested"


@dataclass(frozen=True)
class Numeric:
    """How the implementation rounds when its parameters have one dtype.

    ``defect_over_floor`` is the largest equivariance defect of the code as it runs, in units of the noise floor that
    its parameter dtype alone would explain; ``relative_error`` is that defect relative to the size of the update, and
    ``ordinary_error`` the same on ordinary gradients. ``casts`` are the lower precisions that the candidate was seen to
    compute in, ``stratum`` is where the worst defect was found.
    """

    status: Status
    defect_over_floor: float | None = None
    relative_error: float | None = None
    ordinary_error: float | None = None
    casts: tuple[str, ...] = ()
    stratum: str | None = None


@dataclass(frozen=True)
class Evidence:
    """What stands behind a verdict.

    ``certificate`` is the document that the kernel accepted; a written report has its name instead.
    ``witness`` is the witness document (see ``symcheck.probe.witness``) until a report is written; a report stores it
    in a file of its own and replaces it by that file's path. ``defect`` and ``noise_floor`` are relative to the
    largest update. ``shapes`` are the block shapes that were tried, or the witness's shape.
    """

    certificate: Mapping[str, Any] | str | None = None
    witness: Mapping[str, Any] | str | None = None
    examples: int = 0
    steps: int = 0
    defect: float | None = None
    noise_floor: float | None = None
    shapes: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Result:
    """One question and its answer; ``expected`` is the claimed verdict, if someone claimed one."""

    target: str
    config: Mapping[str, Any]
    block: str
    property: str
    action: str
    verdict: Verdict
    reason: str = ""
    conditions: tuple[str, ...] = ()
    expected: str | None = None
    evidence: Evidence = field(default_factory=Evidence)
    numeric: Mapping[str, Numeric] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-ready data (``symcheck.report/1``)."""
        data = dataclasses.asdict(self)
        data["verdict"] = self.verdict.value
        return data
