"""A probe that answers at once: what the orchestration does must not depend on how a question is decided."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

import pytest
import torch

from symcheck.probe.names import Question
from symcheck.result import Evidence, Numeric, Result, Status, Verdict
from symcheck.target import Candidate

Script = Mapping[tuple[str, str], Verdict]


def install(
    monkeypatch: pytest.MonkeyPatch, script: Script | None = None, default: Verdict = Verdict.SUPPORTED
) -> None:
    """Answer ``script[block, property]``, else ``default``; every question builds and steps the candidate once."""
    verdicts = script or {}

    def probe(
        candidate: Candidate, questions: Sequence[Question], *, budget: str, dtypes: Sequence[str], seed: int
    ) -> Iterator[Result]:
        for question in questions:
            verdict = verdicts.get((question.block, question.property), default)
            verdict, reason = step_once(candidate, verdict)
            evidence = Evidence()
            if verdict is Verdict.REFUTED:
                witness = {"schema": "symcheck.witness/1", "target": candidate.target, "config": dict(candidate.config)}
                witness["defect"] = float("inf")
                evidence = Evidence(witness=witness, examples=1, steps=1, defect=float("inf"), noise_floor=1e-15)
            yield Result(
                target=candidate.target,
                config=candidate.config,
                block=question.block,
                property=question.property,
                action=question.action,
                verdict=verdict,
                reason=reason,
                evidence=evidence,
                numeric={dtype: Numeric(Status.STABLE, 1.0) for dtype in dtypes},
                seconds=float(Fraction(1, 8)),
            )

    monkeypatch.setattr("symcheck.decide.decide", probe)


def step_once(candidate: Candidate, verdict: Verdict) -> tuple[Verdict, str]:
    parameter = torch.nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    parameter.grad = torch.ones_like(parameter)
    try:
        candidate.make([parameter]).step()
    except Exception as error:
        return Verdict.ERROR, f"step raised {type(error).__name__}: {error}"
    return verdict, ""
