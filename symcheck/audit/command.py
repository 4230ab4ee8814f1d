"""The command ``symcheck audit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from symcheck.errors import UsageError
from symcheck.options import SECONDS, SEED, TorchCommand
from symcheck.output import make_room, writing

if TYPE_CHECKING:
    from symcheck.audit.study import Record

_FOLDER = Path("symcheck-report")


@click.command(cls=TorchCommand)
@click.argument("plugins", nargs=-1, metavar="[PLUGIN]...")
@click.option("--budget", default="quick", show_default=True, metavar="quick|ci|full", help="How hard to search.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the search.")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Processes at a time.")
@click.option("--time-limit", type=SECONDS, default=600.0, help="Seconds per candidate.")
@click.option("--unpruned", is_flag=True, help="Ask about every pair by itself, also where another one decides it.")
@click.option("--sample", type=click.IntRange(min=1), default=1, metavar="N", help="Only one in N configurations.")
@click.option("--json", "records_path", metavar="F", help="The records, as JSON lines; those in F are kept.")
@click.option("--atlas", "atlas_path", metavar="F", help="Write the atlas, a Markdown page, to F.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def audit(
    plugins: tuple[str, ...],
    budget: str,
    seed: int,
    workers: int,
    time_limit: float,
    unpruned: bool,
    sample: int,
    records_path: str | None,
    atlas_path: str | None,
    debug: bool,
) -> int:
    """Classify every registered optimizer: which of Perm, SPerm and O it respects on rows and on columns.

    A PLUGIN is torch.optim, an installed plugin such as pytorch_optimizer, or one optimizer of it
    (pytorch_optimizer:muon); without any, all of them. Tall, wide and square matrices are told apart. An audit that was
    interrupted goes on where it stopped. Writes symcheck-report/audit.jsonl and symcheck-report/atlas.md.

    Exit codes: 0 all cells proved or refuted, or open with a reason, 2 unusable input, 3 a candidate gave no answer,
    4 symcheck contradicts itself.
    """
    from symcheck.audit import atlas, study
    from symcheck.run import Request

    Request(budget=budget, seed=seed, time_limit=time_limit)  # it knows which there are
    records_file = Path(records_path or _FOLDER / "audit.jsonl")
    page = Path(atlas_path or _FOLDER / "atlas.md")
    settings = study.Settings(budget, seed, not unpruned, workers, time_limit)
    known = study.targets(plugins)
    targets = [target for target in known if study.sampled(target, sample)]
    if not targets:
        raise UsageError(f"--sample {sample}: takes none of {len(known)} configurations; take a smaller number")
    make_room("audit", str(records_file), str(page))
    if bad := study.damaged(records_file):
        click.echo(f"{records_file}:{bad[0]}: not a record, passed over (lines like this: {len(bad)})", err=True)
    records: list[Record] = []
    with writing("audit"):
        for record in study.audit(targets, settings, records_file):
            records.append(record)
            said = record.reason or atlas.score([record])
            click.echo(f"[{len(records)}/{len(targets)}] {record.target}: {said}", err=True)
        page.write_text(atlas.page(records, study.not_runnable(plugins), study.versions(settings)), encoding="utf-8")
    for label, reason, count in atlas.undecided(records):
        click.echo(f"open: {label}: {count} cells {reason}", err=True)
    click.echo(f"{len(records)} configurations: {atlas.score(records)}")
    click.echo(f"records: {records_file}, atlas: {page}", err=True)
    if any("contradicts itself" in cell["reason"] for record in records for cell in record.cells):
        return 4
    return 3 if any(not record.cells for record in records) else 0
