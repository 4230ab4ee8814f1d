"""How far two trajectories are apart, and how far rounding alone may take them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch

from symcheck.probe.arithmetic import Arithmetic
from symcheck.probe.contracts.outcome import Setting
from symcheck.probe.measure import LEAST_FLOOR, MARGIN, UNIT, UNSEEN_MARGIN, Defect
from symcheck.probe.trajectory import CandidateLike, Inputs, Tensors, largest, run


def reach(inputs: Inputs, trajectory: Sequence[Tensors]) -> list[float]:
    """What the weights do not exceed up to the end of each step: a displacement is a difference of weights, and each of
    them was rounded."""
    return list(itertools.accumulate(map(largest, trajectory), initial=largest(inputs.weights)))[1:]


def apart(setting: Setting, inputs: Inputs, first: Sequence[Tensors], second: Sequence[Tensors]) -> Defect:
    """The step in which two trajectories from ``inputs`` differ most, in units of the floor that no arithmetic can go
    below; infinite where only one is finite."""
    least = max(LEAST_FLOOR, setting.nature.unseen * UNSEEN_MARGIN / MARGIN)
    worst = Defect(0, 0.0, least)
    for step, (a, b, weight) in enumerate(zip(first, second, reach(inputs, first), strict=True), start=1):
        size = max(largest(a), largest(b))
        if not math.isfinite(size):
            alike = all(torch.equal(x.isfinite(), y.isfinite()) for x, y in zip(a, b, strict=True))
            here = Defect(step, 0.0 if alike else math.inf, least)
        elif size > 0:
            difference = largest([x - y for x, y in zip(a, b, strict=True)])
            here = Defect(step, difference / size, max(least, 2 * UNIT * weight / size))
        else:
            continue
        worst = max(worst, here, key=lambda defect: defect.ratio)
    return worst


def threshold(
    setting: Setting, candidate: CandidateLike, inputs: Inputs, base: Sequence[Tensors], *, runs: int = 2
) -> float:
    """The floors above which a difference from the trajectory ``base`` of ``candidate`` on ``inputs`` is none of
    rounding: the scatter of randomised runs, with the margin of every refutation.

    Raises:
        CandidateError: the candidate raised in a randomised run.
    """
    noisy = [
        run(
            candidate,
            inputs,
            Arithmetic(promote=setting.nature.arithmetic.promote, noise=1_000_003 * number),
            seed=setting.seed,
        )
        for number in range(1, runs + 1)
    ]
    scatter = max(apart(setting, inputs, other, base).ratio for other in noisy)
    return MARGIN * max(1.0, 2 * scatter)
