"""What a report looks like: tables as data, and their rendering as plain text or with rich."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from symcheck.claims import is_met
from symcheck.probe.names import ALL
from symcheck.report import ANSWERED, Report, label
from symcheck.result import ORDINARY, Result, Status, Verdict

if TYPE_CHECKING:
    from rich.console import Console

GLYPHS: Mapping[Verdict, str] = {
    Verdict.PROVED: "■ proved",
    Verdict.SUPPORTED: "✓ supp.",
    Verdict.REFUTED: "✗ refuted",
    Verdict.VACUOUS: "∅ vacuous",
    Verdict.DECLINED: "– decl.",
    Verdict.ERROR: "! error",
}
STYLES: Mapping[Verdict, str] = {
    Verdict.PROVED: "bold green",
    Verdict.SUPPORTED: "green",
    Verdict.REFUTED: "red",
    Verdict.VACUOUS: "yellow",
    Verdict.DECLINED: "dim",
    Verdict.ERROR: "magenta",
}
LEGEND: Mapping[Verdict, str] = {
    Verdict.PROVED: "a certificate for every input on the traced paths, under the conditions given",
    Verdict.SUPPORTED: "no proof; an adversarial search found no defect above the noise floor",
    Verdict.REFUTED: "a witness: exact inputs on which the property fails",
    Verdict.VACUOUS: "the check could not have failed: zero or NaN update, or nothing to compare",
    Verdict.DECLINED: "outside what symcheck handles",
    Verdict.ERROR: "the optimizer raised, hung or died",
}
UNEXPECTED = "*"


@dataclass(frozen=True)
class Cell:
    """Text with the verdict that colours it."""

    text: str
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Grid:
    """A table: the first column names the row."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def split(self, width: int) -> Iterator[Grid]:
        """The same table in pieces no wider than ``width``, each with the first column."""
        sizes = _widths(self)
        start = 1
        while start < len(sizes):
            stop, used = start, sizes[0]
            while stop < len(sizes) and (stop == start or used + 2 + sizes[stop] <= width):
                used += 2 + sizes[stop]
                stop += 1
            title = self.title if start == 1 else f"{self.title} (continued)"
            rows = tuple((row[0], *row[start:stop]) for row in self.rows)
            yield Grid(title, (self.headers[0], *self.headers[start:stop]), rows)
            start = stop


def grids(report: Report) -> list[Grid]:
    """The tables of a report: one target in detail, or one row per configuration."""
    configurations = [list(group) for _, group in groupby(report.results, key=lambda r: (r.target, repr(r.config)))]
    found = [_detailed(configurations[0])] if len(configurations) == 1 else _survey(configurations)
    return [grid for grid in (*found, _rounding(configurations)) if grid.rows]


def _detailed(results: Sequence[Result]) -> Grid:
    """One row per question; no rows if there is nothing to see but one reason why there is no answer."""
    title = f"{results[0].target}({', '.join(f'{key}={value}' for key, value in results[0].config.items())})"
    if not any(result.verdict in ANSWERED for result in results) and len({result.reason for result in results}) == 1:
        return Grid(title, (), ())
    columns: dict[str, list[Cell]] = {
        "block": [Cell(result.block) for result in results],
        "property": [Cell(result.property) for result in results],
        "verdict": [_verdict_cell([result]) for result in results],
        "claimed": [Cell(result.expected or "") for result in results],
        "defect": [Cell(_number(result.evidence.defect)) for result in results],
        "noise floor": [Cell(_number(result.evidence.noise_floor)) for result in results],
    }
    shown = {name: cells for name, cells in columns.items() if any(cell.text for cell in cells)}
    return Grid(title, tuple(shown), tuple(zip(*shown.values(), strict=True)))


def _survey(configurations: Sequence[Sequence[Result]]) -> list[Grid]:
    """Equivariance by block, the shift properties, the contracts: one row per configuration each."""
    everything = [result for results in configurations for result in results]
    blocks = _distinct(r.block for r in everything if r.property == "equivariance")
    shift = [r for r in everything if r.property != "equivariance" and r.block != ALL]
    shifted = ", ".join(_distinct(r.block for r in shift))
    contracts = _distinct(r.property for r in everything if r.block == ALL)
    tables: tuple[tuple[str, list[str], Callable[[Result], str]], ...] = (
        ("Equivariance, by block", blocks, lambda r: r.block if r.property == "equivariance" else ""),
        (
            f"Shift properties ({shifted})",
            _distinct(r.property for r in shift),
            lambda r: r.property if r.block != ALL else "",
        ),
        ("Contracts", contracts, lambda r: r.property if r.block == ALL else ""),
    )
    return [
        Grid(
            title,
            ("target", *columns),
            tuple(
                (Cell(label(rs[0])), *(_verdict_cell([r for r in rs if column_of(r) == column]) for column in columns))
                for rs in configurations
            ),
        )
        for title, columns, column_of in tables
        if columns
    ]


def _rounding(configurations: Sequence[Sequence[Result]]) -> Grid:
    """How the code rounds as it runs: by dtype of the parameters, the worst over all blocks."""
    dtypes = _distinct(dtype for results in configurations for result in results for dtype in result.numeric)
    title = "Rounding, by dtype of the parameters; worst over all blocks"
    if len(configurations) == 1:
        entries = [(dtype, _worst_rounding(configurations[0], dtype)) for dtype in dtypes]
        return Grid(title, ("dtype", "behaviour"), tuple((Cell(dtype), Cell(text)) for dtype, text in entries if text))
    rows = tuple(
        (Cell(label(results[0])), *(Cell(_worst_rounding(results, dtype)) for dtype in dtypes))
        for results in configurations
    )
    known = [row for row in rows if any(cell.text for cell in row[1:])]
    telling = tuple(row for row in known if any(cell.text not in ("", "stable") for cell in row[1:]))
    rest = len(known) - len(telling)
    return Grid(f"{title} ({rest} configurations stable in every dtype are left out)", ("target", *dtypes), telling)


def _worst_rounding(results: Sequence[Result], dtype: str) -> str:
    """For example ``unstable, in bfloat16: off by 0.01, by 0.6 on rank_deficient``."""
    tested = [r.numeric[dtype] for r in results if dtype in r.numeric and r.block != ALL]
    tested = [one for one in tested if one.status is not Status.UNTESTED]
    if not tested:
        return ""
    worst = max(tested, key=lambda one: (one.status is Status.UNSTABLE, one.relative_error or 0.0))
    casts = _distinct(cast for one in tested for cast in one.casts)
    computes = f", in {' '.join(casts)}" if casts else ""
    if worst.status is Status.STABLE:
        return f"stable{computes}"
    ordinary = max((one.ordinary_error or 0.0 for one in tested), default=0.0)
    errors = [f"by {ordinary:.2g}"] if ordinary else []
    if worst.relative_error is not None and worst.stratum != ORDINARY:
        errors.append(f"by {worst.relative_error:.2g} on {worst.stratum}")
    return f"unstable{computes}: off {', '.join(errors) or 'on ' + (worst.stratum or 'some inputs')}"


def _verdict_cell(results: Sequence[Result]) -> Cell:
    """One verdict for questions that share a cell, or all of them where they differ."""
    if not results:
        return Cell("")
    mark = UNEXPECTED if any(r.expected and not is_met(r.expected, r.verdict) for r in results) else ""
    verdicts = _distinct(result.verdict for result in results)
    if len(verdicts) == 1:
        return Cell(GLYPHS[results[0].verdict] + mark, results[0].verdict)
    return Cell(" / ".join(GLYPHS[result.verdict] for result in results) + mark)


def details(report: Report) -> list[tuple[str, str]]:
    """What needs words: (heading, text) for every result that is unexpected, open, refuted on request or conditional.

    Results of one configuration with the same verdict and reason share an entry.
    """
    single = len({(r.target, repr(r.config)) for r in report.results}) == 1
    wanted = {id(r) for r in (*report.contradicted, *report.incomplete, *report.refuted_on_request)}
    groups: dict[tuple[str, str, str, str], list[Result]] = {}
    for result in report.results:
        if id(result) in wanted or (single and (result.reason or result.conditions or result.evidence.witness)):
            expected = "" if result.expected is None or is_met(result.expected, result.verdict) else result.expected
            key = (label(result), result.verdict.value, expected, result.reason)
            groups.setdefault(key, []).append(result)
    entries = []
    for (name, verdict, expected, reason), results in groups.items():
        claimed = f", claimed {expected}" if expected else ""
        heading = f"{name}: {verdict}{claimed}: {_questions(results, report)}"
        lines = [reason] if reason else []
        lines += _distinct(condition for r in results for condition in r.conditions)
        lines += [
            f"witness: {report.base / r.evidence.witness}" for r in results if isinstance(r.evidence.witness, str)
        ]
        entries.append((heading, "\n".join(lines)))
    return entries


def _questions(results: Sequence[Result], report: Report) -> str:
    if len(results) > 1 and len(results) == sum(label(r) == label(results[0]) for r in report.results):
        return "every question"
    return ", ".join(r.property if r.block == ALL else f"{r.block}/{r.property}" for r in results)


def summary(report: Report) -> str:
    """Counts and what the exit code means, in one paragraph."""
    counts = report.counts
    said = ", ".join(f"{counts[verdict.value]} {verdict}" for verdict in Verdict if counts[verdict.value])
    claimed = sum(r.expected is not None for r in report.results)
    outcome = {
        0: "nothing contradicts a claim" if claimed else "survey without claims: nothing to contradict",
        1: f"{len(report.contradicted)} contradict a claim, {len(report.refuted_on_request)} refuted as asked",
        3: f"incomplete: {len(report.incomplete)} without an answer" + (", interrupted" if report.interrupted else ""),
        4: "symcheck itself failed",
    }[report.exit_code]
    noun = "question" if counts["planned"] == 1 else "questions"
    asked = f"{counts['planned']} {noun}: {said or 'none'}; {claimed} with a claim."
    return f"{asked} {outcome} (exit code {report.exit_code})."


def legend(report: Report) -> str:
    """The meaning of the verdicts that occur."""
    seen = [verdict for verdict in Verdict if any(r.verdict is verdict for r in report.results)]
    lines = [f"{GLYPHS[verdict]:10} {LEGEND[verdict]}" for verdict in seen]
    if any(r.expected and not is_met(r.expected, r.verdict) for r in report.results):
        lines.append(f"{UNEXPECTED:10} not what was claimed")
    return "\n".join(lines)


def environment_text(report: Report) -> str:
    """One line that says what ran."""
    return " · ".join(
        f"{key} {' '.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in report.environment.items()
    )


def plain_text(report: Report, width: int = 160) -> str:
    """The whole report as text, no wider than ``width`` where the tables allow."""
    parts = [environment_text(report)]
    parts += [plain_grid(piece) for grid in grids(report) for piece in grid.split(width)]
    for heading, text in details(report):
        parts.append(
            "\n".join([heading, *(textwrap.indent(textwrap.fill(line, width - 2), "  ") for line in text.splitlines())])
        )
    parts += [legend(report), summary(report)]
    return "\n\n".join(part for part in parts if part)


def print_rich(report: Report, console: Console) -> None:
    """The same as :func:`plain_text`, in colour and fitted to the terminal."""
    from rich.text import Text

    console.print(Text(environment_text(report), style="dim"))
    for grid in grids(report):
        for piece in grid.split(console.width - 2 * len(grid.headers)):
            print_grid(piece, console)
    for heading, text in details(report):
        console.print(Text(heading, style="bold"), soft_wrap=True)
        if text:
            console.print(Text(textwrap.indent(text, "  ")), soft_wrap=True)
    console.print(Text(legend(report), style="dim"))
    console.print(Text(summary(report), style="bold"))


def print_grid(grid: Grid, console: Console) -> None:
    """A table in colour."""
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    table = Table(title=escape(grid.title), title_justify="left", header_style="bold")
    for header in grid.headers:
        table.add_column(escape(header.replace("_", " ")), overflow="fold")
    for row in grid.rows:
        table.add_row(*(Text(cell.text, style=STYLES[cell.verdict] if cell.verdict else "") for cell in row))
    console.print(table)


def plain_grid(grid: Grid) -> str:
    """A table as plain text."""
    sizes = _widths(grid)
    wrapped = [header.replace("_", " ").split(" ") for header in grid.headers]
    height = max(map(len, wrapped))
    head = [[words[line] if line < len(words) else "" for words in wrapped] for line in range(height)]
    lines = [*head, ["-" * size for size in sizes], *([cell.text for cell in row] for row in grid.rows)]
    text = ["  ".join(part.ljust(size) for part, size in zip(line, sizes, strict=True)).rstrip() for line in lines]
    return "\n".join([grid.title, "", *text])


def _widths(grid: Grid) -> list[int]:
    """Column widths, with headers broken at underscores and blanks."""
    words = [max(map(len, header.replace("_", " ").split(" "))) for header in grid.headers]
    return [max([words[n], *(len(row[n].text) for row in grid.rows)]) for n in range(len(words))]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _distinct(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
