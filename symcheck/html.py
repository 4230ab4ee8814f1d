"""The report as one HTML page that needs nothing else."""

from __future__ import annotations

from html import escape
from string import Template
from typing import TYPE_CHECKING

from symcheck.result import Verdict
from symcheck.table import Cell, Grid, details, environment_text, grids, legend, summary

if TYPE_CHECKING:
    from symcheck.report import Report

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>symcheck report</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 96em; padding: 0 1em; color: #1b1f24; }
table { border-collapse: collapse; margin: 0 0 2em; font-size: 13px; }
caption { text-align: left; font-weight: 600; font-size: 16px; padding: .4em 0; }
th, td { border: 1px solid #d5dae1; padding: .25em .6em; text-align: left; white-space: nowrap; }
thead th { background: #f2f4f7; position: sticky; top: 0; vertical-align: bottom; white-space: normal; }
tbody th { font-weight: 500; }
.proved { background: #b9e6c4; } .supported { background: #e2f5e6; } .refuted { background: #fbdcd9; }
.vacuous { background: #fdf0c8; } .declined { background: #eceff3; } .error { background: #f1dcf6; }
.environment, .legend { color: #57606a; } .legend, .detail { white-space: pre-wrap; }
.legend { font-family: monospace; }
</style>
</head>
<body>
<h1>symcheck report</h1>
<p><strong>$summary</strong></p>
<p class="environment">$environment</p>
<p class="legend">$legend</p>
$tables
$details
</body>
</html>
""")


def page(report: Report) -> str:
    """The whole page; every text in it is escaped."""
    entries = "\n".join(
        f'<h3>{escape(heading)}</h3>\n<p class="detail">{escape(text)}</p>' for heading, text in details(report)
    )
    return _PAGE.substitute(
        summary=escape(summary(report)),
        environment=escape(environment_text(report)),
        legend=escape(legend(report)),
        tables="\n".join(map(_table, grids(report))),
        details=f"<h2>Details</h2>\n{entries}" if entries else "",
    )


def _table(grid: Grid) -> str:
    head = "".join(f"<th>{escape(header.replace('_', ' '))}</th>" for header in grid.headers)
    body = "\n".join(f"<tr><th>{escape(row[0].text)}</th>{''.join(map(_cell, row[1:]))}</tr>" for row in grid.rows)
    title = f"<caption>{escape(grid.title)}</caption>"
    return f"<table>{title}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"


def _cell(cell: Cell) -> str:
    kind = f' class="{Verdict(cell.verdict).value}"' if cell.verdict else ""
    return f"<td{kind}>{escape(cell.text)}</td>"
