"""``python -m paper_repro data``: fetch, clean, tokenise and pack the data sets; or check them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from paper_repro.data.manifest import SPLITS, Manifest, verify
from paper_repro.presets import data_names, data_root, load_data_spec


@click.command("data")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the data sets: PAPER_REPRO_DATA, else paper-repro-data.",
)
@click.option("--files", type=click.Path(exists=True, file_okay=False), help="Make NAME from the text in this folder.")
@click.option("--vocabulary", type=click.IntRange(min=257), default=16384, show_default=True, help="With --files.")
@click.option("--held-out", type=float, default=0.01, show_default=True, help="With --files: share of each split.")
@click.option("--mirror", metavar="'URI [SUITE]'", help="Debian archive, instead of this system's own.")
@click.option(
    "--shards", type=click.IntRange(min=1), help="Of published shards, fetch only so many (100M tokens each)."
)
@click.option("--verify", "check", is_flag=True, help="Compare every file with the manifest, and make nothing.")
def command(
    names: tuple[str, ...],
    data: Path | None,
    files: str | None,
    vocabulary: int,
    held_out: float,
    mirror: str | None,
    shards: int | None,
    check: bool,
) -> None:
    """Make the data sets NAME... (without NAME: list them). What is interrupted goes on when called again."""
    from paper_repro.data.prepare import DataSpec, prepare

    root = data_root(data)
    if not names:
        for name in sorted({*data_names(), *(path.parent.name for path in root.glob("*/manifest.json"))}):
            there = (root / name / "manifest.json").exists()
            click.echo(f"{name}  {'ready in ' + str(root / name) if there else 'not made yet'}")
        return
    if files is not None and len(names) != 1:
        raise ValueError("--files makes one data set: give it one NAME")
    for name in names:
        if check:
            click.echo(describe(verify(root / name)))
            continue
        if files is not None:
            spec = DataSpec(name, "files", vocabulary, held_out, {"path": files})
        else:
            spec = load_data_spec(name)
        if mirror and spec.source == "debian":
            spec = replace(spec, options={**spec.options, "mirror": mirror})
        if shards and spec.source == "hub":
            spec = replace(spec, options={**spec.options, "train_shards": shards})
        click.echo(describe(prepare(spec, root, lambda line: click.echo(line, err=True))))


def describe(manifest: Manifest) -> str:
    """One line about a data set."""
    counts = ", ".join(f"{manifest.tokens(split):,} {split}" for split in SPLITS)
    return f"{manifest.name}: {counts} tokens, vocabulary {manifest.vocabulary:,}, hash {manifest.hash[:16]}"
