"""How far two trajectories are apart, and how far rounding alone may take them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from symcheck.probe.arithmetic import Arithmetic
from symcheck.probe.contracts.outcome import Setting
from symcheck.probe.measure import LEAST_FLOOR, MARGIN, UNSEEN_MARGIN
from symcheck.probe.trajectory import CandidateLike, Inputs, Tensors, largest, run


def apart(first: Sequence[Tensors], second: Sequence[Tensors]) -> float:
    """The largest difference of two trajectories in any step, relative to the displacement of that step; infinite where
    only one is finite."""
    worst = 0.0
    for a, b in zip(first, second, strict=True):
        size = max(largest(a), largest(b))
        if size > 0:
            difference = largest([torch.nan_to_num(x - y, nan=float("inf")) for x, y in zip(a, b, strict=True)])
            worst = max(worst, difference / size)
    return worst


def threshold(
    setting: Setting, candidate: CandidateLike, inputs: Inputs, base: Sequence[Tensors], *, runs: int = 2
) -> float:
    """Where a difference from the trajectory ``base`` of ``candidate`` on ``inputs`` is none of rounding: the scatter
    of randomised runs, with the margin of every refutation.

    Raises:
        CandidateError: the candidate raised in a randomised run.
    """
    nature = setting.nature
    noisy = [
        run(
            candidate,
            inputs,
            Arithmetic(promote=nature.arithmetic.promote, noise=1_000_003 * number),
            seed=setting.seed,
        )
        for number in range(1, runs + 1)
    ]
    scatter = max(apart(other, base) for other in noisy)
    return max(MARGIN * max(LEAST_FLOOR, 2 * scatter), UNSEEN_MARGIN * nature.unseen)
