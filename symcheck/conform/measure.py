"""How far a target is from the reference, in units of roundoff times conditioning.

**Definition.** Let ``x`` be a displacement or a state tensor of the reference at one step, ``|x|`` its largest entry in
magnitude, ``u64 = 2^-53``. The float64 reference is run again several times in Monte Carlo arithmetic: every rounded
operation is perturbed by up to ``4 u64``. ``scatter`` is the largest change of any entry of ``x`` that this makes. The
*conditioning* of ``x`` is what one roundoff in every operation does to it,

    kappa = max(1, scatter / (4 u64 |x|), |W| / |x|),

the last for displacements only, which are read off as differences of weights ``W`` that are rounded themselves. The
*error* of a target that rounds with unit roundoff ``u`` (of its parameters' dtype, or of the lowest precision that it
was seen to compute in) is

    error = |x_target - x| / (u kappa |x|)   units.

Rounding alone gives about one unit. More than `ANOTHER_FORMULA` units in exact terms (float64 parameters, casts undone)
are another formula, and more than `STABLE_WITHIN` units in the target's own precision a loss of precision. Where ``u
kappa`` exceeds `VISIBLE`, rounding decides the value and there is nothing to compare.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from reference.rule import State
from symcheck.conform.oracle import Oracle, Path, follow
from symcheck.probe.arithmetic import AMPLITUDE, Arithmetic
from symcheck.probe.measure import LEAST_FLOOR, MARGIN, UNIT, VISIBLE
from symcheck.probe.numeric import STABLE_WITHIN
from symcheck.probe.trajectory import Inputs, largest

__all__ = ["ANOTHER_FORMULA", "DISPLACEMENT", "STABLE_WITHIN", "Difference", "Floors", "difference", "floors_of"]

ANOTHER_FORMULA = MARGIN * LEAST_FLOOR / UNIT
"""Units beyond which no rounding explains a difference in float64: the margin of every refutation here, over the least
floor of any comparison."""

_PER_ROUNDOFF = UNIT / AMPLITUDE
"""From the scatter of randomised runs to what a single roundoff in every operation does."""

DISPLACEMENT = "displacement"


@dataclass(frozen=True)
class Difference:
    """One tensor at one step: the entry where target and reference are farthest apart.

    ``floor`` is one unit: roundoff times conditioning times the size of the tensor, absolute.
    """

    step: int
    tensor: str
    parameter: int
    index: tuple[int, ...]
    expected: float
    got: float
    absolute: float
    size: float
    floor: float

    @property
    def units(self) -> float:
        """The difference in units of roundoff times conditioning."""
        if self.absolute == 0.0 or not self.determined:
            return 0.0
        return self.absolute / self.floor if self.floor else math.inf

    @property
    def relative(self) -> float:
        """The difference as a share of the largest entry."""
        if self.absolute == 0.0:
            return 0.0
        return self.absolute / self.size if self.size else math.inf

    @property
    def determined(self) -> bool:
        """Whether rounding leaves something to compare."""
        return math.isfinite(self.size) and (self.size == 0.0 or self.floor <= VISIBLE * self.size)


Floor = Mapping[str, float]


@dataclass(frozen=True)
class Floors:
    """One unit of every tensor of a path at float64 roundoff, absolute: ``[step][parameter][tensor]``."""

    steps: list[list[Floor]]

    def of(self, step: int, parameter: int, tensor: str) -> float:
        """The unit of ``tensor`` (`DISPLACEMENT` or a state of the rule) at a step counted from 1."""
        return self.steps[step - 1][parameter][tensor]


def floors_of(
    oracle: Oracle,
    inputs: Inputs,
    path: Path,
    *,
    runs: int,
    rates: Sequence[float] | None = None,
    negate: bool = False,
) -> Floors:
    """The units of a path, from ``runs`` randomised runs of its oracle."""
    noisy = [
        follow(oracle, inputs, rates=rates, negate=negate, arithmetic=Arithmetic(noise=1_000_003 * number))
        for number in range(1, runs + 1)
    ]
    steps = []
    for step, displacements in enumerate(path.displacements):
        weights = path.weights[step]
        row: list[Floor] = []
        for parameter, displacement in enumerate(displacements):
            spread = max(_apart(other.displacements[step][parameter], displacement) for other in noisy)
            size = largest((displacement,))
            weight = largest((weights[parameter],)) + size
            unit = {DISPLACEMENT: max(UNIT * size, UNIT * weight, _PER_ROUNDOFF * spread)}
            if parameter < len(path.states[step]):
                others = [other.states[step][parameter] for other in noisy]
                unit |= {
                    name: max(UNIT * largest((value,)), _PER_ROUNDOFF * max(_apart(o[name], value) for o in others))
                    for name, value in arrays(path.states[step][parameter])
                }
            row.append(unit)
        steps.append(row)
    return Floors(steps)


def arrays(state: State) -> list[tuple[str, torch.Tensor]]:
    """The tensors of a rule's state, without those that a suspect keeps for itself."""
    return [
        (name, value) for name, value in state.items() if isinstance(value, torch.Tensor) and not name.startswith("_")
    ]


def difference(
    got: torch.Tensor, expected: torch.Tensor, floor: float, *, step: int, tensor: str, parameter: int
) -> Difference:
    """The largest difference of two tensors of one shape; entries that are not finite alike agree."""
    apart = (got - expected).abs()
    apart = torch.where((got == expected) | (got.isnan() & expected.isnan()), torch.zeros_like(apart), apart)
    apart = torch.nan_to_num(apart, nan=math.inf, posinf=math.inf)
    if not apart.numel():
        return Difference(step, tensor, parameter, (), 0.0, 0.0, 0.0, 0.0, 0.0)
    index = tuple(int(i) for i in np.unravel_index(int(apart.argmax()), tuple(apart.shape)))
    return Difference(
        step,
        tensor,
        parameter,
        index,
        float(expected[index]),
        float(got[index]),
        float(apart[index]),
        largest((expected,)),
        floor,
    )


def _apart(first: torch.Tensor, second: torch.Tensor) -> float:
    apart = (first - second).abs_()
    if not apart.isfinite().all():
        return difference(first, second, 0.0, step=0, tensor="", parameter=0).absolute
    return float(apart.max()) if apart.numel() else 0.0
