"""How runs become findings. Fixed before the first run, and without a switch.

The unit is the seed: it fixes initialisation and data order for every optimizer, so runs are compared in pairs. A claim
says on which side of zero the mean difference lies. Inside a family of comparisons (all those on one model family, run
or not) every p-value is adjusted after Holm, separately for the three questions asked of each comparison:

=============== =====================================================================================================
confirmed       one-sided paired t, p < 0.05; every seed has the claimed sign; the mean difference exceeds the smallest
                one that counts (0.003 nats for losses)
refuted         the opposite claim is confirmed
no difference   neither, and two one-sided tests put the mean difference inside the margin of equivalence (0.005 nats)
inconclusive    none of these: more seeds, up to 8
not run         no pair of runs
=============== =====================================================================================================

Needs numpy and scipy, and nothing of this project.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

LEVEL = 0.05
"""Of every test, after Holm."""
MOST_SEEDS = 8
"""Where adding seeds ends."""
LAST_SHARE = 0.6
"""Share of the training, counted from its end, that the area under the loss curve covers."""

Direction = Literal["lower", "higher"]


class Finding(enum.StrEnum):
    """What the data say of one comparison."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    NO_DIFFERENCE = "no difference"
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Margins:
    """The smallest mean difference that counts as an effect, and the one below which two results are equivalent."""

    effect: float = 0.003
    equivalence: float = 0.005

    def __post_init__(self) -> None:
        if not (0 <= self.effect < math.inf and 0 < self.equivalence < math.inf):
            raise ValueError(f"margins must be finite, effect >= 0 and equivalence > 0, got {self}")


@dataclass(frozen=True)
class Comparison:
    """Differences (treatment minus baseline), one per seed, and the side of zero on which the claim sees their mean."""

    differences: tuple[float, ...]
    direction: Direction = "lower"
    margins: Margins = Margins()

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.differences)):
            raise ValueError(
                f"differences must be finite, got {self.differences}: drop or impute them by a stated rule"
            )
        if self.direction not in ("lower", "higher"):
            raise ValueError(f"direction must be lower or higher, got {self.direction!r}")


@dataclass(frozen=True)
class Judgement:
    """A finding and what it rests on.

    ``mean`` and ``interval`` (95 %, Student, of this comparison alone) are of the differences as given. ``p_claimed``,
    ``p_opposite`` and ``p_equivalent`` are adjusted after Holm. ``seeds_to_add`` is 0 unless inconclusive; it is the
    number that would settle the matter if mean and spread stayed as they are, else all that are left up to 8.
    """

    finding: Finding
    pairs: int
    mean: float
    interval: tuple[float, float]
    p_claimed: float
    p_opposite: float
    p_equivalent: float
    seeds_to_add: int = 0


def judge(family: Mapping[str, Comparison]) -> dict[str, Judgement]:
    """The findings of all comparisons of one family. Comparisons without a single pair count as members too."""
    claimed = holm({name: p_mean_below(_towards(each), 0.0) for name, each in family.items()})
    opposite = holm({name: p_mean_below(-_towards(each), 0.0) for name, each in family.items()})
    equivalent = holm({name: p_equivalent(each) for name, each in family.items()})
    return {
        name: _judgement(each, claimed[name], opposite[name], equivalent[name], len(family))
        for name, each in family.items()
    }


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values: the family-wise error rate stays below the level under any dependence."""
    adjusted, highest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return adjusted


def p_mean_below(values: np.ndarray, bound: float) -> float:
    """One-sided t-test of the hypothesis that the mean is at least ``bound``; small p: it lies below.

    Fewer than two values are no evidence (p = 1). Equal values other than zero are none either: real seeds spread, so
    the same difference twice means that the seed decided nothing. All zeros say that two runs are the same run: p = 0
    where the bound is above zero.
    """
    if not _is_evidence(values):
        return 1.0
    spread = float(np.std(values, ddof=1)) / math.sqrt(values.size)
    gap = float(np.mean(values)) - bound
    if spread == 0:
        return 0.0 if gap < 0 else 1.0
    return float(special.stdtr(values.size - 1, gap / spread))


def p_equivalent(comparison: Comparison) -> float:
    """Two one-sided tests: small p says that the mean difference lies inside the margin of equivalence."""
    values = np.asarray(comparison.differences, dtype=np.float64)
    margin = comparison.margins.equivalence
    return max(p_mean_below(values, margin), p_mean_below(-values, margin))


def confidence_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student's interval for the mean; infinite where the values are no evidence (see `p_mean_below`)."""
    if not _is_evidence(np.asarray(values)):
        return -math.inf, math.inf
    half = float(special.stdtrit(len(values) - 1, 0.5 + level / 2) * np.std(values, ddof=1) / math.sqrt(len(values)))
    mean = float(np.mean(values))
    return mean - half, mean + half


def steps_to(steps: Sequence[float], losses: Sequence[float], target: float) -> float:
    """The step at which the curve first reaches ``target``, linear between evaluations; infinite if it never does."""
    before: tuple[float, float] | None = None
    for step, loss in zip(steps, losses, strict=True):
        if loss <= target:
            if before is None or loss == before[1]:
                return float(step)
            return before[0] + (step - before[0]) * (before[1] - target) / (before[1] - loss)
        before = (float(step), float(loss))
    return math.inf


def late_area(steps: Sequence[float], losses: Sequence[float]) -> float:
    """Mean of the curve over the last `LAST_SHARE` of its steps (trapezoids), in nats; NaN without two points there.

    The area itself divided by the width, so that it reads like a loss.
    """
    x, y = np.asarray(steps, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if x.size < 2:
        return math.nan
    start = x[-1] - LAST_SHARE * (x[-1] - x[0])
    kept = x > start
    x, y = np.append(start, x[kept]), np.append(np.interp(start, x, y), y[kept])
    return float(np.trapezoid(y, x) / (x[-1] - x[0])) if x[-1] > x[0] else math.nan


def _is_evidence(values: np.ndarray) -> bool:
    return values.size >= 2 and bool(np.ptp(values) > 0 or values[0] == 0)


def _towards(comparison: Comparison) -> np.ndarray:
    """The differences with a sign such that the claim expects them below zero."""
    values = np.asarray(comparison.differences, dtype=np.float64)
    return values if comparison.direction == "lower" else -values


def _judgement(comparison: Comparison, claimed: float, opposite: float, equivalent: float, members: int) -> Judgement:
    values = _towards(comparison)
    finding = Finding.INCONCLUSIVE
    if not values.size:
        finding = Finding.NOT_RUN
    elif _is_effect(values, claimed, comparison.margins):
        finding = Finding.CONFIRMED
    elif _is_effect(-values, opposite, comparison.margins):
        finding = Finding.REFUTED
    elif equivalent < LEVEL:
        finding = Finding.NO_DIFFERENCE
    return Judgement(
        finding,
        pairs=values.size,
        mean=float(np.mean(comparison.differences)) if values.size else math.nan,
        interval=confidence_interval(comparison.differences),
        p_claimed=claimed,
        p_opposite=opposite,
        p_equivalent=equivalent,
        seeds_to_add=_seeds_to_add(comparison, members) if finding is Finding.INCONCLUSIVE else 0,
    )


def _is_effect(values: np.ndarray, p: float, margins: Margins) -> bool:
    """Below zero for certain, in every seed, and by enough to matter."""
    return bool(p < LEVEL and np.all(values < 0) and float(np.mean(values)) < -margins.effect)


def _seeds_to_add(comparison: Comparison, members: int) -> int:
    """Projects the present mean and spread onto more seeds, with Bonferroni's level for the family's ``members``."""
    values = np.asarray(comparison.differences, dtype=np.float64)
    left = MOST_SEEDS - values.size
    if left <= 0 or values.size < 2:
        return max(left, 0)
    size, deviation = abs(float(np.mean(values))), float(np.std(values, ddof=1))
    one_sign = bool(np.all(values > 0) or np.all(values < 0))
    for total in range(values.size + 1, MOST_SEEDS + 1):
        reach = float(special.stdtrit(total - 1, 1 - LEVEL / members)) * deviation / math.sqrt(total)
        effect = one_sign and size > max(reach, comparison.margins.effect)
        if effect or comparison.margins.equivalence - size > reach:
            return total - values.size
    return left
