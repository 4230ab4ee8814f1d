"""Learning rates from trials, and how fast a preset runs, both read off the records.

Every configuration gets the same trials: one factor on the rates of all roles under study, on a seed and on held-out
documents that no verdict uses. The trial with the lowest loss decides. Nothing else is stored: whoever has the records
has the rates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from paper_repro.planning.study import Catalogue, Study, Tuning
from paper_repro.records import RunRecord, RunSpec


@dataclass(frozen=True)
class Trial:
    """One attempt: the factor, what it runs, and what became of it so far."""

    factor: float
    spec: RunSpec
    record: RunRecord | None

    @property
    def loss(self) -> float:
        """Loss on the tuning documents; infinite if the run diverged, NaN before it ran."""
        if self.record is None:
            return math.nan
        return float(self.record.final["val_loss"]) if self.record.outcome == "finished" else math.inf


@dataclass(frozen=True)
class Choice:
    """The outcome of the trials of one configuration on one preset.

    ``rates`` is what full runs get: empty without tuning, None while a trial is missing or when all diverged.
    ``at_edge``: the best factor is the smallest or largest tried, so a better one may lie outside.
    """

    trials: tuple[Trial, ...]
    rates: Mapping[str, float] | None
    factor: float | None = None
    at_edge: bool = False

    @property
    def settled(self) -> bool:
        """Whether every trial has run."""
        return all(trial.record is not None for trial in self.trials)


def choose(
    study: Study, preset: str, optimizer: str, catalogue: Catalogue, records: Mapping[RunSpec, RunRecord]
) -> Choice:
    """The trials of one configuration and the rates that they lead to; ties go to the factor nearest to 1."""
    tuning = study.tuning
    if tuning is None:
        return Choice((), {})
    specs = [(factor, trial_spec(tuning, preset, optimizer, catalogue, factor)) for factor in tuning.factors]
    trials = tuple(Trial(factor, spec, records.get(spec)) for factor, spec in specs)
    if any(trial.record is None for trial in trials):
        return Choice(trials, None)
    best = min(trials, key=lambda trial: (trial.loss, abs(math.log(trial.factor)), trial.factor))
    if not math.isfinite(best.loss):
        return Choice(trials, None)
    at_edge = len(trials) > 1 and best.factor in (tuning.factors[0], tuning.factors[-1])
    return Choice(trials, _scaled(tuning, preset, optimizer, catalogue, best.factor), best.factor, at_edge)


def trial_spec(tuning: Tuning, preset: str, optimizer: str, catalogue: Catalogue, factor: float) -> RunSpec:
    """The run that tries ``factor``; where preset or optimizer take theirs from others, the run of those."""
    where = tuning.like.get(preset, preset)
    optimizer = optimizer.partition("+")[0]
    return RunSpec(
        where,
        optimizer,
        rates=_scaled(tuning, where, optimizer, catalogue, factor),
        seed=tuning.seed,
        precision=catalogue.precision(where),
        steps=max(1, round(catalogue.steps(where) * tuning.steps_share)),
        split="tuning",
    )


def _scaled(tuning: Tuning, preset: str, optimizer: str, catalogue: Catalogue, factor: float) -> dict[str, float]:
    rates = catalogue.rates(preset, optimizer)
    return {role: rate * factor for role, rate in rates.items() if role in tuning.roles}


def device_of(record: RunRecord) -> str:
    """What a run ran on, as reports name it: ``CPU (x86_64)``, ``NVIDIA H100``, ``8 x NVIDIA H100``."""
    name = str(record.device["name"])
    name = f"CPU ({name})" if record.device["type"] == "cpu" else name
    return name if record.device["count"] == 1 else f"{record.device['count']} x {name}"


@dataclass(frozen=True)
class Speed:
    """Throughput of one preset and configuration on one device, from finished runs."""

    preset: str
    optimizer: str
    device: str
    runs: int
    seconds_per_step: float
    tokens_per_second: float
    peak_memory_bytes: float


def speeds(records: Iterable[RunRecord]) -> list[Speed]:
    """Median throughput and largest memory by preset, configuration and device."""
    groups: dict[tuple[str, str, str], list[RunRecord]] = {}
    for record in records:
        if record.throughput.get("seconds_per_step") is not None:
            key = (record.spec.preset, record.spec.optimizer, device_of(record))
            groups.setdefault(key, []).append(record)
    return [
        Speed(
            *key,
            runs=len(members),
            seconds_per_step=median(float(each.throughput["seconds_per_step"]) for each in members),
            tokens_per_second=median(float(each.throughput["tokens_per_second"] or math.nan) for each in members),
            peak_memory_bytes=max(float(each.throughput["peak_memory_bytes"] or math.nan) for each in members),
        )
        for key, members in sorted(groups.items())
    ]


def seconds_per_step(records: Iterable[RunRecord], preset: str, optimizer: str) -> float:
    """The best guess from what has run: this configuration, else this preset; NaN if the preset never ran.

    Wall time by step taken, evaluation included, since that is what a budget pays for.
    """
    same = [record for record in records if record.spec.preset == preset and record.final["step"] > 0]
    exact = [record for record in same if record.spec.optimizer == optimizer]
    measured = [record.seconds / record.final["step"] for record in exact or same]
    return median(measured) if measured else math.nan
