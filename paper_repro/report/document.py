"""A report before it is Markdown or HTML: sections of text, tables and figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


@dataclass(frozen=True)
class Table:
    """Cells are text; a title says what the rows are, a note how to read them."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """``name`` is the stem of its files, ``caption`` says what was measured, on what, at which scale."""

    name: str
    caption: str
    draw: Callable[[], Canvas]


@dataclass(frozen=True)
class Section:
    """One heading with its paragraphs, lists, tables and figures, in that order."""

    title: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class Document:
    """The whole report; ``banner`` stands above everything else."""

    title: str
    banner: str
    sections: tuple[Section, ...]


def number(value: float, digits: int = 4) -> str:
    """``value`` with a fixed number of decimals; a dash where there is none."""
    if math.isnan(value):
        return "–"
    return f"{value:.{digits}f}" if math.isfinite(value) else ("∞" if value > 0 else "−∞")


def signed(value: float, digits: int = 4) -> str:
    """`number` with its sign."""
    if not math.isfinite(value):
        return number(value)
    return f"{value:+.{digits}f}".replace("-", "−")


def probability(value: float) -> str:
    """A p-value with the digits that mean something."""
    if math.isnan(value):
        return "–"
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def duration(seconds: float) -> str:
    """Seconds as people read them: ``45 s``, ``12 min``, ``3.4 h``."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def joined(parts: Iterable[str]) -> str:
    """Sorted, without repetition, separated by commas; a dash for nothing."""
    return ", ".join(sorted(set(parts))) or "–"
