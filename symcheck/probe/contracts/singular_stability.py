"""`singular_stability`: in low precision a degenerate input may cost digits, but not all of them."""

from __future__ import annotations

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


def singular_stability(setting: Setting) -> Outcome:
    """Compare the code in float32 and bfloat16 with its own float64 arithmetic on square, tall, wide, rank-deficient,
    centred and tied gradients that are exact in all three types."""
    errors: dict[str, tuple[float, str]] = {"float32": (0.0, ""), "bfloat16": (0.0, "")}
    casts: set[str] = set()
    shapes_list = setting.shapes(4)
    examples = 0
    for shapes in shapes_list:
        for stratum in (*STRATA, "centred"):
            inputs = _draw(setting, stratum, shapes)
            truth = run(setting.candidate, inputs, setting.nature.arithmetic, seed=setting.seed)
            for dtype, (most, _) in errors.items():
                census = Census()
                examples += 1
                try:
                    rounded = run(
                        setting.candidate, inputs.to(DTYPES[dtype]), Arithmetic(census=census), seed=setting.seed
                    )
                except CandidateError as error:
                    if stratum == ORDINARY:
                        errors[dtype] = (most, f"not run: {error}")
                        continue
                    return _refuted(f"{dtype}, stratum {stratum}: {error}", shapes, errors, casts)
                casts |= census.casts - {dtype}
                error_here = _relative(rounded, truth)
                if not error_here <= most:
                    errors[dtype] = (error_here, stratum)
                if not error_here <= NO_DIGIT:
                    return _refuted(
                        f"{dtype}, stratum {stratum}: the update is {error_here:.2g} times its own size away "
                        "from the float64 arithmetic of the same code",
                        shapes,
                        errors,
                        casts,
                    )
    tried = tuple(shape for shapes in shapes_list for shape in shapes)
    return Outcome(
        Verdict.SUPPORTED,
        conditions=tuple(
            f"{dtype}: error at most {error:.1e} of the update ({where})" for dtype, (error, where) in errors.items()
        ),
        evidence=Evidence(examples=examples, steps=STEPS, shapes=tried),
        numeric=_numeric(errors, casts),
    )


def _draw(setting: Setting, stratum: str, shapes: Shapes) -> Inputs:
    name = ORDINARY if stratum == "centred" else stratum
    inputs = draw_inputs(name, shapes, STEPS, centre=False, seed=setting.seed)
    if stratum == "centred":
        inputs = Inputs(inputs.weights, tuple(tuple(map(centred, step)) for step in inputs.grads))
    # From zero weights, so that a displacement is not lost in the rounding of the weight it is added to.
    return Inputs(tuple(torch.zeros_like(weight) for weight in inputs.weights), inputs.grads)


def _relative(rounded: list[Tensors], truth: list[Tensors]) -> float:
    """Largest error of a step relative to the true displacement; infinite if only the rounded one is not finite."""
    most = 0.0
    for a, b in zip(rounded, truth, strict=True):
        size = largest(b)
        if size > 0 and size < float("inf"):
            error = largest([torch.nan_to_num(x.double() - y, nan=float("inf")) for x, y in zip(a, b, strict=True)])
            most = max(most, error / size)
    return most


def _numeric(errors: dict[str, tuple[float, str]], casts: set[str]) -> dict[str, Numeric]:
    return {
        dtype: Numeric(
            Status.STABLE if error <= NO_DIGIT else Status.UNSTABLE,
            relative_error=error,
            casts=tuple(sorted(casts)),
            stratum=where,
        )
        for dtype, (error, where) in errors.items()
    }


def _refuted(reason: str, shapes: Shapes, errors: dict[str, tuple[float, str]], casts: set[str]) -> Outcome:
    return Outcome(
        Verdict.REFUTED, reason, (), Evidence(examples=1, steps=STEPS, shapes=shapes), _numeric(errors, casts)
    )
