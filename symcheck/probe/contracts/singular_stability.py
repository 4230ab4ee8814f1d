"""`singular_stability`: in low precision a degenerate input may cost digits, but not all of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from symcheck.probe.arithmetic import Arithmetic, Census
from symcheck.probe.contracts.agreement import reach
from symcheck.probe.contracts.outcome import Outcome, Setting
from symcheck.probe.numeric import DTYPES, STABLE_WITHIN, UNITS
from symcheck.probe.strata import Shapes, centred, draw_inputs
from symcheck.probe.trajectory import CandidateError, Inputs, Tensors, largest, run
from symcheck.result import ORDINARY, Evidence, Numeric, Status, Verdict

STRATA = (ORDINARY, "rank_deficient", "repeated_spectrum", "ties", "zero_rows")
STEPS = 2

NO_DIGIT = 2.0
"""Where the low-precision update is farther from the float64 one than this many times its size, not even its order of
magnitude is right. Two unrelated updates of one size are apart by at most twice that size: beyond it the code blew
up."""

NOISY_RUNS = 8
"""Randomised float64 runs that show whether the float64 update is determined, where an error seems too large: a sign
that is arbitrary stays the same in all of them once in 256 times."""


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
                here = _relative(rounded, truth, reach(inputs, truth), UNITS[dtype])
                if NO_DIGIT < here < math.inf:
                    if setting.draws:
                        return Outcome(
                            Verdict.DECLINED, f"its update is random: {dtype} draws other numbers than float64"
                        )
                    if here <= NO_DIGIT * _scatter(setting, inputs, truth, UNITS[dtype]):
                        continue
                examples += 1
                casts |= census.casts - {dtype}
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
        return Outcome(
            Verdict.VACUOUS, "in float64 no input moves it, but for what rounding decides: nothing to compare"
        )
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


def _relative(rounded: list[Tensors], truth: list[Tensors], weights: list[float], unit: float) -> float:
    """Largest error of a step relative to the true displacement, or to what rounding of the weights explains where that
    is more; infinite if only the rounded one is not finite."""
    most = 0.0
    for a, b, weight in zip(rounded, truth, weights, strict=True):
        size = largest(b)
        if size > 0 and size < float("inf"):
            error = largest([torch.nan_to_num(x.double() - y, nan=float("inf")) for x, y in zip(a, b, strict=True)])
            most = max(most, error / max(size, STABLE_WITHIN * 2 * unit * weight))
    return most


def _scatter(setting: Setting, inputs: Inputs, truth: list[Tensors], unit: float) -> float:
    """How far float64 itself goes from ``truth`` when its rounding is randomised: where the input leaves a choice, as a
    null space does, nothing is lost by another one."""
    promote = setting.nature.arithmetic.promote
    noisy = [
        run(setting.candidate, inputs, Arithmetic(promote=promote, noise=1_000_003 * number), seed=setting.seed)
        for number in range(1, NOISY_RUNS + 1)
    ]
    return max(_relative(other, truth, reach(inputs, truth), unit) for other in noisy)


def _numeric(errors: Mapping[str, _Errors], casts: set[str]) -> dict[str, Numeric]:
    found = tuple(sorted(casts))
    return {dtype: dataclasses.replace(each.numeric, casts=found) for dtype, each in errors.items()}


def _refuted(reason: str, shapes: Shapes, errors: Mapping[str, _Errors], casts: set[str]) -> Outcome:
    return Outcome(
        Verdict.REFUTED, reason, (), Evidence(examples=1, steps=STEPS, shapes=shapes), _numeric(errors, casts)
    )
