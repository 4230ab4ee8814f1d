"""Draws the verdicts of a report as one picture, for the README: ``python docs/verdict_table.py REPORT.json``.

Writes ``verdicts-light.svg`` and ``verdicts-dark.svg`` beside this file. Nothing is drawn that is not in the report.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

Result = Mapping[str, Any]
Row = tuple[str, tuple[str, ...]]

SIZE = 19
"""Width and height of a cell, in pixels."""
FONT = "system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif"
HEADER = 138
GAP = 12
"""Between the three groups of columns."""
LETTER = 7
"""Width of a letter, in pixels, in the widest of the fonts."""

CONDITIONAL = "proved on condition"
SHAPES = {
    "proved": "m5.5 6.3h7m-7 1.4h7m-7 1.3h7m-7 1.3h7m-7 1.4h7",
    CONDITIONAL: "m6 6h6v6h-6z",
    "refuted": "m5.5 5.5 7 7m0-7-7 7",
    "supported": "m4.5 9.5 3.3 3.5 6.2-7",
    "vacuous": "m6 9a3 3 0 1 0 6 0a3 3 0 1 0-6 0m-1 5 8-10",
    "declined": "m6 9h6",
    "error": "m9 4v6m0 3v1",
}
"""The mark of each answer, so that the picture does not speak by colour alone. A full square is a proof."""


@dataclass(frozen=True)
class Theme:
    """Colours: text, faint text, and background and mark of each answer."""

    text: str
    faint: str
    cells: Mapping[str, tuple[str, str]]


THEMES = {
    "light": Theme(
        "#1f2328",
        "#59636e",
        {
            "proved": ("#b9e6c4", "#116329"),
            CONDITIONAL: ("#ddf4e3", "#116329"),
            "refuted": ("#fbd9c0", "#a33c00"),
            "supported": ("#cfe8f5", "#0b5c8a"),
            "vacuous": ("#f5efc9", "#7d6a00"),
            "declined": ("#eaedf0", "#818b98"),
            "error": ("#ecd5f5", "#6b2a86"),
        },
    ),
    "dark": Theme(
        "#e6edf3",
        "#9198a1",
        {
            "proved": ("#12402a", "#7ee2a0"),
            CONDITIONAL: ("#0f2c20", "#7ee2a0"),
            "refuted": ("#582a10", "#ffb77c"),
            "supported": ("#133a52", "#79c0ff"),
            "vacuous": ("#3d3711", "#e3c84b"),
            "declined": ("#21262d", "#7d8590"),
            "error": ("#41214f", "#dcaef0"),
        },
    ),
}


def columns_of(results: Sequence[Result]) -> dict[str, list[tuple[str, str]]]:
    """(block, property) of every question that most are asked, by group of columns. Blocks with a shift answer alike:
    one stands for it.
    """
    asked = Counter((r["block"], r["property"]) for r in results)
    questions = [question for question, count in asked.items() if 2 * count > max(asked.values())]
    shift = [(block, name) for block, name in questions if name != "equivariance" and block != "all"]
    return {
        "equivariance on": [question for question in questions if question[1] == "equivariance"],
        "shift (router)": [(block, name) for block, name in shift if block == "router"],
        "contracts": [question for question in questions if question[0] == "all"],
    }


def answer_of(result: Result) -> str:
    """The verdict; a proof says if it needs a condition."""
    verdict: str = result["verdict"]
    return CONDITIONAL if verdict == "proved" and result["conditions"] else verdict


def rows_of(results: Sequence[Result], columns: Sequence[tuple[str, str]]) -> list[Row]:
    """Name and answers of each configuration; those of one target that agree in everything share a row. Rules of joint
    blocks are asked other questions and are left out.
    """
    verdicts: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
    for r in results:
        configuration = (r["target"], json.dumps(r["config"]))
        verdicts.setdefault(configuration, {})[r["block"], r["property"]] = answer_of(r)
    shared: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (target, config), answers in verdicts.items():
        if not answers.keys() >= set(columns):
            continue
        shared.setdefault((target, tuple(answers[column] for column in columns)), []).append(config)
    return [(_name(target, configs), answers) for (target, answers), configs in shared.items()]


def _name(target: str, configs: Sequence[str]) -> str:
    if len(configs) > 1:
        return f"{target} ({len(configs)} configurations)"
    options = ", ".join(f"{key}={value}" for key, value in json.loads(configs[0]).items() if key != "lr")
    return f"{target} ({options})" if options else target


def svg(report: Mapping[str, Any], theme: Theme) -> str:
    """The whole picture."""
    groups = columns_of(report["results"])
    rows = rows_of(report["results"], [column for group in groups.values() for column in group])
    left = 8 + LETTER * max(len(name) for name, _ in rows)
    places = list(_places(groups, left))
    width, height = places[-1] + SIZE + 70, HEADER + len(rows) * SIZE + 48
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="{FONT}" font-size="12" fill="{theme.text}">',
        f"<title>{escape(_summary(report))}</title>",
        *_headers(groups, places, theme),
        *(
            f'<text x="{left - 8}" y="{HEADER + n * SIZE + 13.5}" text-anchor="end">{escape(name)}</text>'
            for n, (name, _) in enumerate(rows)
        ),
    ]
    for answer, (fill, stroke) in theme.cells.items():
        cells = [
            (x, HEADER + n * SIZE)
            for n, (_, answers) in enumerate(rows)
            for x, found in zip(places, answers, strict=True)
            if found == answer
        ]
        if cells:
            squares = "".join(f"M{x + 0.5} {y + 0.5}h18v18h-18z" for x, y in cells)
            marks = "".join(f"M{x} {y}{SHAPES[answer]}" for x, y in cells)
            parts.append(f'<path d="{squares}" fill="{fill}"/>')
            parts.append(f'<path d="{marks}" fill="none" stroke="{stroke}" stroke-width="1.7"/>')
    parts += _legend(report, theme, height)
    return "\n".join([*parts, "</svg>", ""])


def _places(groups: Mapping[str, Sequence[object]], left: int) -> Iterator[int]:
    x = left
    for columns in groups.values():
        for _ in columns:
            yield x
            x += SIZE
        x += GAP


def _headers(groups: Mapping[str, Sequence[tuple[str, str]]], places: Sequence[int], theme: Theme) -> Iterator[str]:
    remaining = iter(places)
    for title, columns in groups.items():
        for number, (block, name) in enumerate(columns):
            x = next(remaining)
            if number == 0:
                yield f'<text x="{x}" y="14" fill="{theme.faint}">{escape(title)}</text>'
            told = block if name == "equivariance" else name
            yield (
                f'<text transform="translate({x + 9} {HEADER - 6}) rotate(-55)">{escape(told.replace("_", " "))}</text>'
            )


def _legend(report: Mapping[str, Any], theme: Theme, height: int) -> Iterator[str]:
    x, y = 8, height - 36
    counts = Counter(map(answer_of, report["results"]))
    for answer, (fill, stroke) in theme.cells.items():
        if counts[answer]:
            yield f'<path d="M{x} {y}h18v18h-18z" fill="{fill}"/>'
            yield f'<path d="M{x} {y}{SHAPES[answer]}" fill="none" stroke="{stroke}" stroke-width="1.7"/>'
            told = f"{answer} ({counts[answer]})"
            yield f'<text x="{x + 24}" y="{y + 13}">{told}</text>'
            x += 32 + LETTER * len(told)
    yield f'<text x="8" y="{height - 3}" font-size="11" fill="{theme.faint}">{escape(_summary(report))}</text>'


def _summary(report: Mapping[str, Any]) -> str:
    environment, results = report["environment"], report["results"]
    configurations = len({(r["target"], json.dumps(r["config"])) for r in results})
    return (
        f"symcheck {environment['symcheck']}, torch {environment['torch']}, budget {environment['budget']}: "
        f"{len(results)} questions about {configurations} configurations"
    )


def main(path: str) -> None:
    """Draw the report in ``path``."""
    report = json.loads(Path(path).read_text(encoding="utf-8"))
    for name, theme in THEMES.items():
        (Path(__file__).parent / f"verdicts-{name}.svg").write_text(svg(report, theme), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
