"""Two configurations on one preset, seed by seed, and what becomes of runs that diverged.

The rule for divergence, fixed before the first run: a run that diverged counts with the loss that it started from,
since it has learnt nothing. A pair in which both diverged says nothing and is left out. For numbers other than losses
there is no such stand-in: a pair with a diverged run is left out, and if the side that the claim favours diverged in
any seed, the comparison cannot be confirmed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from paper_repro.calibrate import device_of
from paper_repro.planning.claims import Contrast
from paper_repro.planning.metrics import METRICS, final_loss, initial_loss, late_loss
from paper_repro.planning.runs import Runs
from paper_repro.records import RunRecord
from paper_repro.statistics import MOST_SEEDS, steps_to


@dataclass(frozen=True)
class Pair:
    """Both runs of one seed."""

    seed: int
    treatment: RunRecord
    baseline: RunRecord

    @property
    def diverged(self) -> tuple[bool, bool]:
        """Which of the two did: treatment, baseline."""
        return self.treatment.outcome == "diverged", self.baseline.outcome == "diverged"


@dataclass(frozen=True)
class Evidence:
    """All pairs of one contrast on one preset, and the differences (treatment minus baseline) that count.

    ``planned`` is the number of seeds the study has from the start; ``notes`` say what was imputed or left out.
    """

    contrast: Contrast
    preset: str
    planned: int
    pairs: tuple[Pair, ...]
    differences: tuple[float, ...]
    notes: tuple[str, ...] = ()
    barred: bool = False

    @property
    def complete(self) -> bool:
        """Whether all planned pairs have run: before that nothing is tested, whatever the numbers look like."""
        return len(self.pairs) >= self.planned


def gather(runs: Runs, contrast: Contrast, preset: str) -> Evidence:
    """The pairs of a contrast on a preset that both sides have run."""
    planned = min(
        runs.study.seeds(preset, side, contrast.target_offset) for side in (contrast.treatment, contrast.baseline)
    )
    pairs = []
    for seed in range(MOST_SEEDS):
        treatment = runs.record(preset, contrast.treatment, seed, contrast.target_offset)
        baseline = runs.record(preset, contrast.baseline, seed, contrast.target_offset)
        if treatment is not None and baseline is not None:
            pairs.append(Pair(seed, treatment, baseline))
    return _evidence(contrast, preset, planned, tuple(pairs))


def _evidence(contrast: Contrast, preset: str, planned: int, pairs: tuple[Pair, ...]) -> Evidence:
    metric = METRICS[contrast.metric]
    differences, both, imputed, unread = [], 0, 0, 0
    barred = False
    for pair in pairs:
        if all(pair.diverged):
            both += 1
            continue
        if any(pair.diverged):
            imputed += 1
            barred = barred or (not metric.is_loss and pair.diverged[0])
        if any(pair.diverged) and not metric.is_loss:
            continue
        difference = _value(pair.treatment, pair, contrast) - _value(pair.baseline, pair, contrast)
        if math.isfinite(difference):
            differences.append(difference)
        else:
            unread += 1
    notes = []
    if both:
        notes.append(f"both runs diverged in {both} of {len(pairs)} seeds, left out")
    if imputed:
        stand_in = "counted with their initial loss" if metric.is_loss else "left out"
        notes.append(f"one run diverged in {imputed} of {len(pairs)} seeds, {stand_in}")
    if unread:
        notes.append(f"{unread} of {len(pairs)} pairs have no {metric.title}")
    devices = {device_of(record) for pair in pairs for record in (pair.treatment, pair.baseline)}
    if len(devices) > 1:
        notes.append(f"runs from several devices: {', '.join(sorted(devices))}")
    return Evidence(contrast, preset, planned, pairs, tuple(differences), tuple(notes), barred)


def _value(record: RunRecord, pair: Pair, contrast: Contrast) -> float:
    metric = METRICS[contrast.metric]
    if record.outcome != "diverged":
        return metric.read(record)
    # The same seed gives both the same start, so the partner's stands in where the record has none.
    own = initial_loss(record)
    partner = pair.baseline if record is pair.treatment else pair.treatment
    return own if math.isfinite(own) else initial_loss(partner)


@dataclass(frozen=True)
class Secondary:
    """What is reported beside the test, and decides nothing; means over the pairs in which both runs finished.

    ``steps_share``: step at which the treatment reaches the baseline's final loss, as a share of the baseline's steps
    (infinite if it never does in some seed). ``late_difference``: mean loss of the last 60 %, treatment minus baseline.
    """

    steps_share: float
    late_difference: float


def secondary(pairs: tuple[Pair, ...]) -> Secondary:
    """Both secondary numbers; NaN without a pair of finished runs."""
    finished = [pair for pair in pairs if pair.treatment.outcome == pair.baseline.outcome == "finished"]
    if not finished:
        return Secondary(math.nan, math.nan)
    shares, late = [], []
    for pair in finished:
        curves = pair.treatment.curves
        reached = steps_to(curves["val_step"], curves["val_loss"], final_loss(pair.baseline))
        shares.append(reached / pair.baseline.final["step"])
        late.append(late_loss(pair.treatment) - late_loss(pair.baseline))
    return Secondary(math.fsum(shares) / len(shares), math.fsum(late) / len(late))
