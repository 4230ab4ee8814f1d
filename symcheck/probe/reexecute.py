"""Executing a witness again: the same inputs, a noise floor measured here and now, and the verdict that follows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from symcheck.probe.arithmetic import PLAIN, Arithmetic
from symcheck.probe.judge import probe
from symcheck.probe.measure import LEAST_FLOOR, MARGIN, Defect, compare, confirmed, gauge_defects, worst
from symcheck.probe.names import ALL, CONTRACTS, Question
from symcheck.probe.relation import SIDES, Property
from symcheck.probe.trajectory import CandidateError, ConfiguredCandidate, Tensors
from symcheck.probe.witness import read
from symcheck.result import Verdict


@dataclass(frozen=True)
class Replay:
    """What a re-execution of a witness found; ``text`` shows both sides."""

    confirmed: bool
    defect: float
    noise_floor: float
    text: str


def replay(candidate: ConfiguredCandidate, witness: Mapping[str, Any]) -> Replay:
    """Re-execute a witness and judge it anew, with a noise floor measured here and now.

    Raises:
        ValueError: the document is not a witness, or is damaged.
    """
    if witness.get("property") in CONTRACTS:
        return _replay_contract(candidate, witness)
    question, inputs, relation = read(witness)
    arithmetic = Arithmetic(promote=True) if witness.get("promoted") else PLAIN
    seed = int(witness.get("seed", 0))
    step = int(witness["step"])
    if not 1 <= step <= inputs.steps:
        raise ValueError(f"damaged witness: step {step} of {inputs.steps}")
    try:
        trial = compare(candidate, inputs.first(step), relation, arithmetic, seed=seed)
        if witness.get("gauge"):
            defects = gauge_defects(candidate, trial, arithmetic, runs=8, seed=seed)
        else:
            unseen = float(witness.get("unseen", 0.0))
            defects = confirmed(candidate, trial, arithmetic, unseen=unseen, seed=seed)
        measured = worst(defects)
    except CandidateError as error:
        return Replay(False, float("nan"), float("nan"), str(error))
    if measured is None:
        return Replay(False, 0.0, LEAST_FLOOR, "nothing moves: the displacements are zero on both sides")
    text = _sides(question, trial.left[measured.step - 1], trial.right[measured.step - 1], measured)
    return Replay(measured.ratio >= MARGIN, measured.value, measured.floor, text)


def _replay_contract(candidate: ConfiguredCandidate, witness: Mapping[str, Any]) -> Replay:
    """A contract is about whole runs, so its check itself is repeated."""
    question = Question(ALL, str(witness["property"]), "-")
    (result,) = probe(candidate, [question], budget="quick", dtypes=["float64"], seed=int(witness.get("seed", 0)))
    evidence = result.evidence
    return Replay(
        result.verdict is Verdict.REFUTED,
        evidence.defect if evidence.defect is not None else math.nan,
        evidence.noise_floor if evidence.noise_floor is not None else math.nan,
        f"{question.property}: {result.verdict}" + (f": {result.reason}" if result.reason else ""),
    )


def _sides(question: Property, left: Tensors, right: Tensors, defect: Defect) -> str:
    names = SIDES[question.name]
    width = max(map(len, names))
    lines = [f"displacement of step {defect.step}:"]
    for tensor, a, b in zip(question.action.tensors, left, right, strict=True):
        prefix = f"{tensor}: " if len(left) > 1 else ""
        lines.append(f"  {prefix}{names[0]:<{width}} = {_short(a)}")
        lines.append(f"  {prefix}{names[1]:<{width}} = {_short(b)}")
    lines.append(f"  relative defect {defect.value:.2g}, noise floor {defect.floor:.1e}")
    return "\n".join(lines)


def _short(tensor: torch.Tensor) -> str:
    return str([[round(entry, 6) for entry in row] for row in tensor.reshape(-1, tensor.shape[-1]).tolist()])
