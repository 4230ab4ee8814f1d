"""What remains to be run, in order of value, and how long it will take."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from paper_repro.calibrate import seconds_per_step
from paper_repro.planning.claims import Claim
from paper_repro.planning.runs import Runs
from paper_repro.planning.verdicts import verdicts
from paper_repro.records import RunRecord, RunSpec

TUNING = "learning rates"
MORE_SEEDS = "more seeds where inconclusive"

Status = Literal["done", "todo", "waiting"]


@dataclass(frozen=True)
class Job:
    """One run of the plan.

    ``spec`` is None while the learning rates are unknown (status ``waiting``). ``seconds`` is the time a whole run
    takes, from runs of the same preset; NaN before there is one.
    """

    stage: str
    preset: str
    optimizer: str
    seed: int
    target_offset: int
    spec: RunSpec | None
    record: RunRecord | None
    seconds: float

    @property
    def status(self) -> Status:
        """``waiting`` for learning rates, ``todo``, or ``done``."""
        if self.record is not None:
            return "done"
        return "waiting" if self.spec is None else "todo"


def make_plan(runs: Runs, claims: Sequence[Claim] = ()) -> list[Job]:
    """All jobs of the study by falling value, done ones included; ``claims`` decide where seeds are added.

    Stage by stage, preset by preset: first the trials of learning rates that the stage still needs, then its runs, one
    seed of every configuration after the other, so that pairs are complete as early as possible.
    """
    jobs: dict[tuple[str, str, int, int] | RunSpec, Job] = {}
    for stage in runs.study.stages:
        for preset in stage.presets:
            for job in _tuning(runs, preset, stage.optimizers):
                jobs.setdefault(_key(job), job)
            for seed in range(stage.seeds):
                for optimizer in stage.optimizers:
                    job = _job(runs, stage.name, preset, optimizer, seed, stage.target_offset)
                    jobs.setdefault(_key(job), job)
    for job in _more_seeds(runs, claims):
        jobs.setdefault(_key(job), job)
    return list(jobs.values())


def remaining_seconds(jobs: Sequence[Job]) -> tuple[float, int]:
    """(seconds that the jobs still to do will take, how many of them have no estimate)."""
    left = [job.seconds for job in jobs if job.status != "done"]
    known = [seconds for seconds in left if math.isfinite(seconds)]
    return math.fsum(known), len(left) - len(known)


def _key(job: Job) -> tuple[str, str, int, int] | RunSpec:
    if job.spec is not None and job.spec.split == "tuning":
        return job.spec
    return job.preset, job.optimizer, job.seed, job.target_offset


def _tuning(runs: Runs, preset: str, optimizers: Sequence[str]) -> Iterator[Job]:
    for optimizer in optimizers:
        for trial in runs.choice(preset, optimizer).trials:
            yield Job(
                TUNING,
                trial.spec.preset,
                trial.spec.optimizer,
                trial.spec.seed,
                trial.spec.target_offset,
                trial.spec,
                trial.record,
                _seconds(runs, trial.spec.preset, trial.spec.optimizer, trial.spec.steps),
            )


def _job(runs: Runs, stage: str, preset: str, optimizer: str, seed: int, target_offset: int) -> Job:
    spec = runs.spec(preset, optimizer, seed, target_offset)
    record = runs.records.get(spec) if spec is not None else None
    return Job(stage, preset, optimizer, seed, target_offset, spec, record, _seconds(runs, preset, optimizer, None))


def _seconds(runs: Runs, preset: str, optimizer: str, steps: int | None) -> float:
    per_step = seconds_per_step(runs.records.values(), preset, optimizer)
    return per_step * (steps if steps is not None else runs.catalogue.steps(preset))


def _more_seeds(runs: Runs, claims: Sequence[Claim]) -> Iterator[Job]:
    if runs.study.scale == "smoke":
        return
    for verdict in verdicts(runs, claims):
        for row in verdict.rows:
            contrast, preset = row.evidence.contrast, row.evidence.preset
            if not row.evidence.complete:
                continue
            done = len(row.evidence.pairs)
            for seed in range(done, done + row.judgement.seeds_to_add):
                for optimizer in (contrast.baseline, contrast.treatment):
                    yield _job(runs, MORE_SEEDS, preset, optimizer, seed, contrast.target_offset)
