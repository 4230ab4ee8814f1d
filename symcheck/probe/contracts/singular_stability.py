"""`singular_stability`: in low precision a degenerate input may cost digits, but not all of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from symcheck.probe.arithmetic import Arithmetic, Census
from symcheck.probe.contracts.outcome import Outcome, Setting
from symcheck.probe.numeric import DTYPES
from symcheck.probe.strata import Shapes, centred, draw_inputs
from symcheck.probe.trajectory import CandidateError, Inputs, Tensors, largest, run
from symcheck.result import ORDINARY, Evidence, Numeric, Status, Verdict

STRATA = (ORDINARY, "rank_deficient", "repeated_spectrum", "ties", "zero_rows")
STEPS = 2

NO_DIGIT = 2.0
"""Where the low-precision update is farther from the float64 one than this many times its size, not even its order of
magnitude is right. Two unrelated updates of one size are apart by at most twice that size: beyond it the code blew
up."""


@dataclass
class _Errors:
    """What one dtype has shown so far: the largest error and the stratum of it, or why the code does not run in it."""

    relative: float = 0.0
    stratum: str = ""
    refused: str = ""

    @property
    def numeric(self) -> Numeric:
        if self.refused:
            return Numeric(Status.UNTESTED)
        status = Status.STABLE if self.relative <= NO_DIGIT else Status.UNSTABLE
        return Numeric(status, relative_error=self.relative, stratum=self.stratum)

    def __str__(self) -> str:
        return self.refused or f"error at most {self.relative:.1e} of the update ({self.stratum})"


def singular_stability(setting: Setting) -> Outcome:
    """Compare the code in float32 and bfloat16 with its own float64 arithmetic on square, tall, wide, rank-deficient,
    centred and tied gradients that are exact in all three types. Vacuous if nothing moves in float64."""
    errors = {"float32": _Errors(), "bfloat16": _Errors()}
    casts: set[str] = set()
    shapes_list = setting.shapes(4)
    examples = 0
    for shapes in shapes_list:
        for stratum in (*STRATA, "centred"):
            inputs, truth = _moving(setting, stratum, shapes)
            if truth is None:
                continue
            for dtype, found in errors.items():
                if found.refused:
                    continue
                census = Census()
                try:
                    rounded = run(
                        setting.candidate, inputs.to(DTYPES[dtype]), Arithmetic(census=census), seed=setting.seed
                    )
                except CandidateError as error:
                    if stratum == ORDINARY:
                        found.refused = f"does not run: {error}"
                        continue
                    return _refuted(f"{dtype}, stratum {stratum}: {error}", shapes, errors, casts)
                examples += 1
                casts |= census.casts - {dtype}
                here = _relative(rounded, truth)
                if not here <= found.relative:
                    found.relative, found.stratum = here, stratum
                if not here <= NO_DIGIT:
                    return _refuted(
                        f"{dtype}, stratum {stratum}: the update is {here:.2g} times its own size away "
                        "from the float64 arithmetic of the same code",
                        shapes,
                        errors,
                        casts,
                    )
    conditions = tuple(f"{dtype}: {found}" for dtype, found in errors.items())
    if not examples and not any(found.refused for found in errors.values()):
        return Outcome(Verdict.VACUOUS, "in float64 it moves nothing on any of the inputs: nothing to compare")
    if not examples:
        return Outcome(Verdict.DECLINED, "; ".join(conditions))
    tried = tuple(shape for shapes in shapes_list for shape in shapes)
    evidence = Evidence(examples=examples, steps=STEPS, shapes=tried)
    return Outcome(Verdict.SUPPORTED, conditions=conditions, evidence=evidence, numeric=_numeric(errors, casts))


def _moving(setting: Setting, stratum: str, shapes: Shapes) -> tuple[Inputs, list[Tensors] | None]:
    """Inputs of a stratum and the float64 trajectory on them, None if nothing moves.

    They start from zero weights, so that a displacement is not lost in the rounding of the weight that it is added to;
    a rule that does not move from there starts from ordinary ones.
    """
    drawn = _draw(setting, stratum, shapes)
    zero = Inputs(tuple(torch.zeros_like(weight) for weight in drawn.weights), drawn.grads)
    for inputs in (zero, drawn):
        truth = run(setting.candidate, inputs, setting.nature.arithmetic, seed=setting.seed)
        if any(0 < largest(step) < math.inf for step in truth):
            return inputs, truth
    return drawn, None


def _draw(setting: Setting, stratum: str, shapes: Shapes) -> Inputs:
    name = ORDINARY if stratum == "centred" else stratum
    inputs = draw_inputs(name, shapes, STEPS, centre=False, seed=setting.seed)
    if stratum == "centred":
        inputs = Inputs(inputs.weights, tuple(tuple(map(centred, step)) for step in inputs.grads))
    return inputs


def _relative(rounded: list[Tensors], truth: list[Tensors]) -> float:
    """Largest error of a step relative to the true displacement; infinite if only the rounded one is not finite."""
    most = 0.0
    for a, b in zip(rounded, truth, strict=True):
        size = largest(b)
        if size > 0 and size < float("inf"):
            error = largest([torch.nan_to_num(x.double() - y, nan=float("inf")) for x, y in zip(a, b, strict=True)])
            most = max(most, error / size)
    return most


def _numeric(errors: Mapping[str, _Errors], casts: set[str]) -> dict[str, Numeric]:
    found = tuple(sorted(casts))
    return {dtype: dataclasses.replace(each.numeric, casts=found) for dtype, each in errors.items()}


def _refuted(reason: str, shapes: Shapes, errors: Mapping[str, _Errors], casts: set[str]) -> Outcome:
    return Outcome(
        Verdict.REFUTED, reason, (), Evidence(examples=1, steps=STEPS, shapes=shapes), _numeric(errors, casts)
    )
