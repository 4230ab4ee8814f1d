"""`scale_orbit`: the homogeneity degree of the update, measured, and the range of gradient scales in which it holds."""

from __future__ import annotations

import math

import torch

from symcheck.probe.contracts.agreement import reach
from symcheck.probe.contracts.outcome import Outcome, Setting
from symcheck.probe.measure import MARGIN, UNIT
from symcheck.probe.strata import Shapes
from symcheck.probe.trajectory import CandidateError, Tensors, largest, run
from symcheck.result import Evidence, Verdict

EXPONENTS = range(-60, 41, 4)
"""Gradients are multiplied by ``2**k`` for these k, which is exact: what changes is the rule and its eps, not the
input."""

WITHIN = 0.01
"""A scale belongs to the range while the update is within 1 % of the homogeneous one."""

STEPS = 3


def scale_orbit(setting: Setting) -> Outcome:
    """Measure the degree near scale one and how far it reaches; refuted if a claimed degree is another.

    The code runs as it is, casts included, since overflow in a cast is one of the defects that this is about. Without
    a claim the degree is reported: a characterisation never fails.
    """
    claim = getattr(setting.candidate, "claim", None)
    claimed = getattr(claim, "degree", None)
    shapes_list = setting.shapes(2)
    tried = tuple(shape for shapes in shapes_list for shape in shapes)
    evidence = Evidence(examples=len(EXPONENTS) * len(shapes_list), steps=STEPS, shapes=tried)
    try:
        degree, low, high = homogeneity(setting, shapes_list)
    except Breaks as fault:
        return Outcome(Verdict.REFUTED, str(fault), evidence=Evidence(examples=1, steps=STEPS, shapes=fault.shapes))
    if not setting.nature.reproducible:
        return Outcome(Verdict.DECLINED, "its update is random: runs at two scales cannot be compared")
    if degree is None:
        if claimed is None:
            return Outcome(
                Verdict.DECLINED, "not homogeneous of any degree near scale one, and no degree is claimed", (), evidence
            )
        return Outcome(Verdict.REFUTED, f"claimed degree {claimed}, but it is homogeneous of no degree", (), evidence)
    measured = f"degree {degree} for gradient scales 2^{low} to 2^{high}"
    if claimed is not None and degree != claimed:
        return Outcome(Verdict.REFUTED, f"claimed degree {claimed}, measured {measured}", (), evidence)
    return Outcome(Verdict.SUPPORTED, conditions=(measured,), evidence=evidence)


def homogeneity(setting: Setting, shapes_list: list[Shapes]) -> tuple[int | float | None, int, int]:
    """The degree near scale one, None if there is none, and the exponents ``k`` of ``2^k`` between which it holds.

    Raises:
        Breaks: the update raises or overflows at some scale.
    """
    results = [_orbit(setting, shapes) for shapes in shapes_list]
    degrees = {degree for degree, _, _ in results}
    if len(degrees) != 1:
        return None, 0, 0
    return degrees.pop(), max(low for _, low, _ in results), min(high for _, _, high in results)


class Breaks(Exception):
    """The update raises or overflows at some scale: homogeneous of no degree there, claimed or not."""

    def __init__(self, text: str, shapes: Shapes) -> None:
        super().__init__(text)
        self.shapes = shapes


def _orbit(setting: Setting, shapes: Shapes) -> tuple[int | float | None, int, int]:
    """The degree near scale one (None if there is none) and the exponents between which it holds."""
    inputs = setting.draw("generic", shapes, STEPS)
    # From zero weights decay is homogeneous too; a rule that does not move from there is measured where it stands.
    zeroed = type(inputs)(tuple(0 * weight for weight in inputs.weights), inputs.grads)
    base = run(setting.candidate, zeroed, seed=setting.seed)
    if not any(largest(step) > 0 for step in base):
        zeroed = inputs
        base = run(setting.candidate, zeroed, seed=setting.seed)
    at = {0: base}
    for exponent in (*EXPONENTS, -1, 1):
        scaled = type(inputs)(
            zeroed.weights, tuple(tuple(grad * 2.0**exponent for grad in step) for step in zeroed.grads)
        )
        try:
            at[exponent] = run(setting.candidate, scaled, seed=setting.seed)
        except CandidateError as error:
            raise Breaks(f"at gradient scale 2^{exponent}: {error}", shapes) from error
        if not all(torch.isfinite(tensor).all() for step in at[exponent] for tensor in step):
            raise Breaks(f"at gradient scale 2^{exponent} the update is not finite", shapes)
    ratio = _size(at[1]) / _size(base) if _size(base) else math.nan
    if not math.isfinite(ratio) or ratio <= 0:
        return None, 0, 0
    degree = round(2 * math.log2(ratio)) / 2
    degree = int(degree) if degree == int(degree) else degree
    weights = reach(zeroed, base)
    if any(_departure(at[k], base, degree * k, weights) > WITHIN for k in (-1, 1)):
        return None, 0, 0
    low = high = 0
    for exponent in sorted((k for k in at if k < 0), reverse=True):
        if _departure(at[exponent], base, degree * exponent, weights) > WITHIN:
            break
        low = exponent
    for exponent in sorted(k for k in at if k > 0):
        if _departure(at[exponent], base, degree * exponent, weights) > WITHIN:
            break
        high = exponent
    return degree, low, high


def _size(trajectory: list[Tensors]) -> float:
    return max(map(largest, trajectory))


def _departure(scaled: list[Tensors], base: list[Tensors], power: float, weights: list[float]) -> float:
    """Distance between a rescaled trajectory and the one at scale one, relative to its displacements; nothing where the
    rounding of ``weights`` explains it."""
    worst = 0.0
    for a, b, weight in zip(scaled, base, weights, strict=True):
        size = largest(b)
        difference = largest([x * 2.0**-power - y for x, y in zip(a, b, strict=True)])
        if size > 0 and difference > MARGIN * 2 * UNIT * weight:
            worst = max(worst, difference / size)
    return worst
