"""Plans and calibrations as lines of text for a terminal."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from paper_repro.calibrate import speeds
from paper_repro.planning.plan import Job, remaining_seconds
from paper_repro.planning.runs import Runs
from paper_repro.records import RunSpec
from paper_repro.report.document import duration


def table(jobs: Iterable[Job]) -> Iterator[str]:
    """One line for each job; jobs that follow on each other with the same stage share its heading."""
    stage = None
    for job in jobs:
        if job.stage != stage:
            stage = job.stage
            yield stage
        offset = "" if job.target_offset == 2 else "  next token"
        rates = ""
        if job.spec is not None and job.spec.split == "tuning":
            rates = "  " + " ".join(f"{role}={rate:.3g}" for role, rate in job.spec.rates.items())
        yield (
            f"  {job.status:8}{job.preset:26}{job.optimizer:28}seed {job.seed:<5}{duration(job.seconds):>8}"
            f"{offset}{rates}"
        )


def estimated(jobs: Sequence[Job], device: str, devices: int) -> list[Job]:
    """The jobs with estimates of `paper_repro.training.estimates` where no time was measured.

    One estimate per preset, scaled by the steps of each run. Raises ValueError for a device without a data sheet.
    """
    from paper_repro.planning.catalogue import Presets
    from paper_repro.presets import default_spec
    from paper_repro.training.estimates import estimate

    per_step: dict[str, float] = {}
    found = []
    for job in jobs:
        if not math.isfinite(job.seconds):
            steps = Presets().steps(job.preset)
            if job.preset not in per_step:
                spec = default_spec(job.preset, job.optimizer)
                per_step[job.preset] = estimate(spec, devices=devices, device=device).seconds / steps
            steps = (job.spec.steps if job.spec is not None else None) or steps
            job = dataclasses.replace(job, seconds=per_step[job.preset] * steps)
        found.append(job)
    return found


def overview(jobs: Sequence[Job]) -> str:
    """Counts and the time that is left, in one line."""
    counts = Counter(job.status for job in jobs)
    text = f"{counts['done']} of {len(jobs)} runs done"
    if not (left := counts["todo"] + counts["waiting"]):
        return text
    waiting = f" ({counts['waiting']} wait for learning rates)" if counts["waiting"] else ""
    seconds, unknown = remaining_seconds(jobs)
    time = f"about {duration(seconds)}" if seconds else "time unknown before the first run"
    if seconds and unknown:
        time += f" and {unknown} runs of presets not yet timed"
    return f"{text}, {left} left{waiting}: {time}"


def started(job: Job, jobs: Sequence[Job]) -> str:
    """What a queue says before a run."""
    place = 1 + sum(each.status == "done" for each in jobs)
    return f"[{place}/{len(jobs)}] {job.stage}: {job.preset} {job.optimizer} seed {job.seed}; {overview(jobs)}"


def as_command(spec: RunSpec, results: Path, data: Path | None) -> str:
    """The `run` command of a spec, without the interpreter: what goes behind ``python`` or ``torchrun ... ``."""
    words = ["-m", "paper_repro", "run", spec.preset, spec.optimizer, "--seed", str(spec.seed)]
    words += ["--target-offset", str(spec.target_offset), "--precision", spec.precision, "--split", spec.split]
    for role, rate in spec.rates.items():
        words += ["--rate", f"{role}={rate!r}"]
    if spec.steps is not None:
        words += ["--steps", str(spec.steps)]
    words += ["--results", str(results)]
    if data is not None:
        words += ["--data", str(data)]
    return shlex.join(words)


def calibration(runs: Runs) -> Iterator[str]:
    """Chosen learning rates, and throughput with peak memory, as far as they are known."""
    if runs.study.tuning is not None:
        yield "learning rates (loss by factor; * chosen)"
        pairs = dict.fromkeys(
            (preset, optimizer.partition("+")[0])
            for stage in runs.study.stages
            for preset in stage.presets
            if preset not in runs.study.tuning.like
            for optimizer in stage.optimizers
        )
        for preset, optimizer in pairs:
            choice = runs.choice(preset, optimizer)
            losses = "  ".join(
                f"{trial.factor:g}: {'not run' if math.isnan(trial.loss) else f'{trial.loss:.4f}'}"
                + ("*" if trial.factor == choice.factor else "")
                for trial in choice.trials
            )
            edge = "  (edge: a better rate may lie outside)" if choice.at_edge else ""
            yield f"  {preset:26}{optimizer:28}{losses}{edge}"
    yield "throughput"
    for speed in speeds(runs.records.values()):
        memory = speed.peak_memory_bytes
        yield (
            f"  {speed.preset:26}{speed.optimizer:28}{speed.tokens_per_second:>12,.0f} tokens/s"
            f"{1000 * speed.seconds_per_step:>9.0f} ms/step"
            + ("" if math.isnan(memory) else f"{memory / 2**30:>8.2f} GiB")
            + f"  {speed.device}"
        )
