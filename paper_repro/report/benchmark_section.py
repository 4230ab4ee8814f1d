"""The step-time benchmark as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from paper_repro.report.document import Section, Table


def benchmark_section(stored: Sequence[Mapping[str, Any]]) -> Section:
    """One table for each preset and device that was timed."""
    return Section(
        "Step time",
        paragraphs=(
            "One training step in milliseconds, rivals taking turns in one process on one model; medians over the "
            "rounds. The ratio is the whole step against AdamW (fused).",
        ),
        tables=tuple(_table(each) for each in stored),
    )


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The same for a terminal."""
    table = _table(found)
    yield table.title
    widths = [max(map(len, column)) for column in zip(table.headers, *table.rows, strict=True)]
    for row in (table.headers, *table.rows):
        first, *others = (
            cell.ljust(width) if not i else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join([first, *others])
    yield table.note


def _table(found: Mapping[str, Any]) -> Table:
    whole = [_whole(each) for each in found["rivals"]]
    rows = tuple(
        (
            each["name"],
            *(f"{1000 * each[f'{part}_seconds']:.1f}" for part in ("forward", "backward", "step")),
            f"{1000 * total:.1f}",
            f"{total / whole[0]:.2f}",
            f"{each['state_bytes'] / 2**20:.1f}",
            "–" if each["step_bytes"] is None else f"{each['step_bytes'] / 2**20:.1f}",
        )
        for each, total in zip(found["rivals"], whole, strict=True)
    )
    threads = f", {found['threads']} threads" if found["threads"] else ""
    return Table(
        f"{found['preset']} on {found['device']}{threads}, {found['precision']}, torch {found['versions']['torch']}",
        ("optimizer", "forward", "backward", "optimizer step", "whole step", "ratio", "state MiB", "extra MiB in step"),
        rows,
        note=(
            f"{found['parameters'] / 1e6:.2f} million parameters, {found['tokens_per_step']} tokens, "
            f"{found['rounds']} rounds. Extra memory is measured on GPUs only."
        ),
    )


def _whole(rival: Mapping[str, Any]) -> float:
    return float(sum(rival[f"{part}_seconds"] for part in ("forward", "backward", "step")))
