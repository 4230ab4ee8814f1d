"""Learning-rate schedules of the paper's training scripts, as factors of the rate that the preset gives.

Every role is flat, then falls linearly to zero over the last 40 % of the steps, without warm-up; role ``other`` (gains,
biases, sinks) warms up linearly and follows a cosine to zero. Source: timlautk/equivariant_optimizers ``train_*.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer

COOLDOWN = 0.4
Schedule = Callable[[int], float]


def flat_then_linear(steps: int) -> Schedule:
    """1 until 40 % of the steps are left, then linear; never below 1e-12 / 0.4, as in the source."""

    def factor(step: int) -> float:
        left = max(1 - step / steps, 1e-12)
        return min(1.0, left / COOLDOWN)

    return factor


def warmup_then_cosine(steps: int, warmup: int) -> Schedule:
    """Linear from 0 to 1 over ``warmup`` steps, then half a cosine to 0; the first step has rate 0 there too."""

    def factor(step: int) -> float:
        if step < warmup:
            return step / warmup
        progress = (step - warmup) / max(1, steps - warmup)
        return max(0.0, 0.5 * (1 + math.cos(math.pi * progress)))

    return factor


class Scheduler:
    """Sets the learning rate of every parameter group from the number of steps taken; it has no state to save."""

    def __init__(self, optimizer: Optimizer, steps: int, warmup: int) -> None:
        self._optimizer = optimizer
        self._rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._main = flat_then_linear(steps)
        self._other = warmup_then_cosine(steps, warmup)

    def set(self, step: int) -> float:
        """Sets the rates for the step after ``step`` steps; returns the factor of the roles that are not ``other``."""
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * (self._other if group["role"] == "other" else self._main)(step)
        return self._main(step)
