"""Results by model: tables of configurations, loss curves, routers and logits, learning rates, compute."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from paper_repro.calibrate import device_of, speeds
from paper_repro.planning.metrics import final_loss, late_loss
from paper_repro.planning.runs import Runs
from paper_repro.records import RunRecord
from paper_repro.report import figures
from paper_repro.report.document import Figure, Section, Table, duration, joined, number

ROUTER_SERIES: Mapping[str, str] = {
    "router_load_cv": "load: deviation / mean",
    "router_load_entropy": "load: entropy / log E",
    "router_dead_experts": "share of experts with little load",
    "router_logit_rms": "router logits: RMS",
}
LOGIT_SERIES: Mapping[str, str] = {
    "head_max_logit": "largest vocabulary logit",
    "head_logsumexp_max": "largest log-sum-exp",
    "head_row_norm_cv": "head row norms: deviation / mean",
}


def model_sections(runs: Runs) -> list[Section]:
    """One section for each preset of the study that has run."""
    found = []
    for preset in runs.study.presets:
        for offset in (2, 1):
            groups = _groups(runs, preset, offset)
            if groups:
                found.append(_model_section(runs, preset, offset, groups))
    return found


def _groups(runs: Runs, preset: str, target_offset: int) -> dict[str, list[RunRecord]]:
    """Full runs by configuration, in the order of the study, seeds in order."""
    optimizers = dict.fromkeys(
        optimizer
        for stage in runs.study.stages
        if preset in stage.presets and stage.target_offset == target_offset
        for optimizer in stage.optimizers
    )
    groups = {}
    for optimizer in optimizers:
        seeds = range(8)
        records = [runs.record(preset, optimizer, seed, target_offset) for seed in seeds]
        if kept := [record for record in records if record is not None]:
            groups[optimizer] = kept
    return groups


def _model_section(runs: Runs, preset: str, target_offset: int, groups: Mapping[str, Sequence[RunRecord]]) -> Section:
    scale, _, name = preset.partition("/")
    records = [record for each in groups.values() for record in each]
    devices = joined(map(device_of, records))
    where = f"{scale}; {devices}"
    objective = "token after the next" if target_offset == 2 else "next token"
    stem = f"{name}-{'offset2' if target_offset == 2 else 'offset1'}"
    finished = {key: [r for r in each if r.outcome == "finished"] for key, each in groups.items()}
    finished = {key: each for key, each in finished.items() if each}
    caption = f"{where}. {preset}, {objective}; number of seeds in brackets; band: smallest to largest."
    title = f"{scale}, {devices}: {name}, {objective}"
    shown = []
    if finished:
        draw = functools.partial(figures.loss_curves, finished, title)
        shown.append(Figure(f"{stem}-loss", f"Loss curves. {caption}", draw))
    for kind, what, series in (
        ("routers", "Router load and logits", ROUTER_SERIES),
        ("logits", "Growth of the vocabulary logits", LOGIT_SERIES),
    ):
        known = {key: label for key, label in series.items() if any(key in record.diagnostics for record in records)}
        if known:
            draw = functools.partial(figures.diagnostic_curves, groups, known, title)
            shown.append(Figure(f"{stem}-{kind}", f"{what}. {caption}", draw))
    return Section(
        f"{preset}" + (", next token" if target_offset == 1 else ""),
        paragraphs=(f"Objective: {objective}. Measured on {devices}.",),
        tables=(_table(groups),),
        figures=tuple(shown),
    )


def _table(groups: Mapping[str, Sequence[RunRecord]]) -> Table:
    rows = []
    for optimizer, records in groups.items():
        losses = [final_loss(record) for record in records if record.outcome == "finished"]
        late = [late_loss(record) for record in records if record.outcome == "finished"]
        starts = [record.curves["val_loss"][0] for record in records if record.curves["val_loss"]]
        rows.append(
            (
                optimizer,
                str(len(records)),
                str(sum(record.outcome == "diverged" for record in records)),
                number(fmean(starts) if starts else math.nan, 3),
                number(fmean(losses) if losses else math.nan),
                number(stdev(losses) if len(losses) > 1 else math.nan),
                number(fmean(late) if late else math.nan),
                str(int(records[0].final["step"])),
                f"{records[0].final.get('tokens', math.nan) / 1e6:.2f}",
            )
        )
    return Table(
        "Configurations",
        (
            "configuration", "seeds", "diverged", "first val. loss", "final val. loss", "sd of seeds",
            "mean of last 60 %", "steps", "million tokens",
        ),
        tuple(rows),
        note="Means over finished runs, nats per token. Means say nothing about significance; the claims table does.",
    )  # fmt: skip


def tuning_section(runs: Runs) -> Section | None:
    """The learning-rate trials and what they chose; None without tuning or trials."""
    if runs.study.tuning is None:
        return None
    rows = []
    for preset in runs.study.presets:
        for stage in runs.study.stages:
            if preset not in stage.presets or preset in runs.study.tuning.like:
                continue
            for optimizer in stage.optimizers:
                choice = runs.choice(preset, optimizer)
                row = (
                    preset,
                    optimizer,
                    *(number(trial.loss, 3) for trial in choice.trials),
                    "–" if choice.factor is None else f"{choice.factor:g}" + (" (edge)" if choice.at_edge else ""),
                )
                if row not in rows and any(trial.record for trial in choice.trials):
                    rows.append(row)
    if not rows:
        return None
    factors = tuple(f"× {factor:g}" for factor in runs.study.tuning.factors)
    borrowed = "; ".join(f"{preset} takes those of {other}" for preset, other in runs.study.tuning.like.items())
    return Section(
        "Learning rates",
        paragraphs=(
            "Every configuration, AdamW included, gets the same trials: one factor on the rates of "
            f"{', '.join(runs.study.tuning.roles)} at once, seed {runs.study.tuning.seed}, "
            f"{runs.study.tuning.steps_share:.0%} of the steps, loss on held-out documents that no verdict uses. The "
            "best factor is then used for every seed, under both objectives. An edge means that a better rate may "
            "lie outside the trials." + (f" Without trials of their own: {borrowed}." if borrowed else ""),
        ),
        tables=(Table("Loss of the trials", ("preset", "configuration", *factors, "chosen"), tuple(rows)),),
    )


def compute_section(runs: Runs) -> Section:
    """Throughput, memory and device time."""
    records = list(runs.records.values())
    rows = []
    for speed in speeds(records):
        members = [
            record
            for record in records
            if (record.spec.preset, record.spec.optimizer, device_of(record))
            == (speed.preset, speed.optimizer, speed.device)
        ]
        memory = speed.peak_memory_bytes
        rows.append(
            (
                speed.preset,
                speed.optimizer,
                speed.device,
                str(speed.runs),
                f"{speed.tokens_per_second:,.0f}",
                f"{1000 * speed.seconds_per_step:.0f}",
                "–" if math.isnan(memory) else f"{memory / 2**30:.2f}",
                duration(math.fsum(record.seconds * record.device["count"] for record in members)),
            )
        )
    total = math.fsum(record.seconds * record.device["count"] for record in records)
    return Section(
        "Compute",
        paragraphs=(
            f"{len(records)} runs, {duration(total)} of device time in all, trials of learning rates included.",
        ),
        tables=(
            Table(
                "Cost",
                ("preset", "configuration", "device", "runs", "tokens/s", "ms per step", "peak GiB", "device time"),
                tuple(rows),
                note="Medians over runs; steps and tokens without evaluation, device time with it. Peak memory is "
                "measured on GPUs only.",
            ),
        ),
    )
