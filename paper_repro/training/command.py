"""``python -m paper_repro run``: one run, or with ``--dry-run`` what it would take."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from paper_repro.presets import data_root, default_spec, preset_names
from paper_repro.records import RATE_ROLES, RunInterrupted, RunRecord, RunSpec

DEFAULT_RESULTS = Path("paper-repro-results")


@click.command("run", epilog=f"Presets: {', '.join(preset_names())}.")
@click.argument("preset", metavar="PRESET")
@click.argument("optimizer", metavar="OPTIMIZER")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Initialisation and data order.")
@click.option(
    "--rate", "rates", multiple=True, metavar="ROLE=RATE", help=f"Learning rate; roles: {', '.join(RATE_ROLES)}."
)
@click.option("--steps", type=click.IntRange(min=1), help="Instead of the preset's.")
@click.option(
    "--target-offset", type=click.Choice(["1", "2"]), default="2", show_default=True, help="2 as in the paper."
)
@click.option("--precision", type=click.Choice(["fp32", "tf32", "bf16_autocast"]), help="Instead of the preset's.")
@click.option("--split", type=click.Choice(["validation", "tuning"]), default="validation", show_default=True)
@click.option("--results", type=click.Path(file_okay=False, path_type=Path), default=DEFAULT_RESULTS, show_default=True)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the data sets: PAPER_REPRO_DATA, else paper-repro-data.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="A GPU if there is one, unless said otherwise.")
@click.option("--sequences-per-forward", type=click.IntRange(min=1), help="Less memory; the same run but for rounding.")
@click.option("--minutes", type=click.FloatRange(min=0), help="Stop after so long; the same command goes on.")
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard files into RESULTS/logs.")
@click.option("--no-certify", is_flag=True, help="Do not ask symcheck about the optimizer first.")
@click.option("--deterministic", is_flag=True, help="Bit-for-bit repeatable on a GPU too; slower.")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
@click.option("--dry-run", is_flag=True, help="Say how long it takes and how much memory, and do nothing.")
@click.option("--devices", type=click.IntRange(min=1), default=1, help="For --dry-run: how many.")
@click.option("--device-name", metavar="NAME", help="For --dry-run: of which kind, e.g. H100.")
def command(
    preset: str,
    optimizer: str,
    rates: tuple[str, ...],
    target_offset: str,
    precision: str | None,
    dry_run: bool,
    devices: int,
    device_name: str | None,
    quiet: bool,
    no_certify: bool,
    seed: int,
    steps: int | None,
    split: Any,
    minutes: float | None,
    **options: Any,
) -> None:
    """Train PRESET with OPTIMIZER and write its record to RESULTS.

    OPTIMIZER is <vocabulary>-<units>[-<router>]: rules for embedding and LM head (adamw, row, hybrid, right), for the
    SwiGLU weights or experts (muon, hybrid, row) and for the router (adamw, row, left, left_uncentered, hybrid), such
    as row-muon-left; or any rule of reference.

    An interrupted run (Ctrl-C, a signal TERM, --minutes) saves a checkpoint and exits with 3; the same command goes on
    from it. With several devices: torchrun --nproc_per_node=8 -m paper_repro run ...
    """
    if preset not in preset_names():
        raise ValueError(f"unknown preset {preset!r}: use one of {', '.join(preset_names())}")
    from paper_repro.configurations import parse_configuration

    parse_configuration(optimizer)  # a typing error shows before anything is prepared
    spec = default_spec(
        preset,
        optimizer,
        rates=_rates(rates),
        seed=seed,
        steps=steps,
        split=split,
        target_offset=int(target_offset),
    )
    if precision:
        spec = replace(spec, precision=precision)  # type: ignore[arg-type]  # click checked it
    if dry_run:
        _say_estimate(spec, devices, device_name)
        return
    from paper_repro.training.run import run_one

    options["data"] = data_root(options["data"])
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    with stop_on_signal() as asked:
        try:
            record = run_one(
                spec,
                stop=lambda: asked() or time.monotonic() > deadline,
                progress=not quiet,
                certify=not no_certify,
                **options,
            )
        except RunInterrupted as interrupted:
            click.echo(str(interrupted), err=True)
            sys.exit(3)
    if os.environ.get("RANK", "0") == "0":
        click.echo(summary(record))


def summary(record: RunRecord) -> str:
    """One line about a finished run."""
    spec, final = record.spec, record.final
    head = f"{record.id}  {spec.preset} {spec.optimizer} seed {spec.seed} offset {spec.target_offset}: {record.outcome}"
    if record.outcome != "finished":
        return f"{head} ({record.message})"
    speed = record.throughput["tokens_per_second"]
    return (
        f"{head}, {spec.split} loss {final['val_loss']:.4f} after {final['step']} steps, "
        f"{speed:,.0f} tokens/s on {record.device['count']} x {record.device['name']}"
    )


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """A function that turns true at the first SIGINT or SIGTERM; a second one interrupts at once, as usual."""
    asked: list[int] = []
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}

    def take(number: int, _frame: Any) -> None:
        asked.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for each in before:
        signal.signal(each, take)
    try:
        yield lambda: bool(asked)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _rates(given: tuple[str, ...]) -> dict[str, float]:
    rates = {}
    for each in given:
        role, _, value = each.partition("=")
        try:
            rates[role] = float(value)
        except ValueError:
            raise ValueError(f"--rate {each!r}: write ROLE=RATE, as in embedding=0.5") from None
    return rates


def _say_estimate(spec: RunSpec, devices: int, device_name: str | None) -> None:
    from paper_repro.training.estimates import estimate
    from paper_repro.training.log import duration

    found = estimate(spec, devices=devices, device=device_name)
    click.echo(
        f"{spec.preset} {spec.optimizer}: {found.parameters / 1e6:,.0f} million parameters, "
        f"{found.active / 1e6:,.0f} active per token; {found.tokens / 1e6:,.0f} million tokens\n"
        f"estimate for {found.devices} x {found.device} at {found.speed / 1e12:,.3g} TFLOP/s each ({spec.precision}): "
        f"{duration(found.seconds)}, {found.bytes_per_device / 2**30:,.1f} GiB per device"
    )
