"""Drawings of the report. Equal records give equal files: no dates, fixed identifiers, one backend."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repro.records import RunRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

_STYLE: Any = {
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "paper_repro",
    "svg.fonttype": "none",
    "figure.dpi": 120,
}
_METADATA: Mapping[str, Mapping[str, None]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}


def save(canvas: Canvas, folder: Path, name: str) -> None:
    """Writes ``name.png`` and ``name.svg``."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        canvas.draw_without_rendering()
        canvas.set_layout_engine("none")  # the layout is found; finding it again for every file takes most of the time
        for kind, metadata in _METADATA.items():
            canvas.savefig(folder / f"{name}.{kind}", metadata=dict(metadata))


def loss_curves(groups: Mapping[str, Sequence[RunRecord]], title: str) -> Canvas:
    """Validation loss against step by configuration: mean of the seeds, and the band between smallest and largest.

    Beside it the same from the step on at which 40 % of the training is over, where rivals part.
    """
    canvas, (whole, late) = _canvas(2)
    for index, (name, records) in enumerate(groups.items()):
        series = [(record.curves["val_step"], record.curves["val_loss"]) for record in records]
        for axes in (whole, late):
            _band(axes, series, name, index)
    last = max((max(record.curves["val_step"], default=0) for each in groups.values() for record in each), default=0)
    late.set_xlim(0.4 * last, last * 1.01)
    _fit_heights(late, 0.4 * last)
    whole.set_title("all steps")
    late.set_title("the last 60 %")
    canvas.suptitle(title)
    for axes in (whole, late):
        axes.set_xlabel("optimizer step")
    whole.set_ylabel("validation loss, nats per token")
    whole.legend(frameon=False)
    return canvas


def diagnostic_curves(groups: Mapping[str, Sequence[RunRecord]], series: Mapping[str, str], title: str) -> Canvas:
    """One panel for each of the series (name -> label) against step, with the band of the seeds."""
    canvas, panels = _canvas(len(series))
    for axes, (name, label) in zip(panels, series.items(), strict=True):
        for index, (optimizer, records) in enumerate(groups.items()):
            known = [record.diagnostics for record in records if name in record.diagnostics]
            _band(axes, [(each["step"], each[name]) for each in known], optimizer, index)
        axes.set_title(label)
        axes.set_xlabel("optimizer step")
    panels[0].legend(frameon=False)
    canvas.suptitle(title)
    return canvas


def verdict_intervals(rows: Iterable[tuple[str, float, float, float]], margin: float, title: str) -> Canvas:
    """Mean differences with their intervals: (label, mean, low, high) each; the shaded strip is the equivalence."""
    found = list(rows)
    canvas, (axes,) = _canvas(1, width=9.0, height=1.1 + 0.3 * len(found))
    axes.axvspan(-margin, margin, color="0.92", zorder=0)
    axes.axvline(0, color="0.4", linewidth=0.8)
    for place, (_, mean, low, high) in enumerate(found):
        if math.isfinite(low):
            axes.plot([low, high], [place, place], color="C0", linewidth=1.5)
        axes.plot([mean], [place], "o", color="C0", markersize=4)
    axes.set_yticks(range(len(found)), [label for label, *_ in found])
    axes.invert_yaxis()
    axes.set_xlabel("difference of the final loss, nats (left: lower)")
    axes.set_title(title)
    return canvas


def _canvas(panels: int, *, width: float | None = None, height: float = 3.4) -> tuple[Canvas, Sequence[Any]]:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        canvas = Figure(figsize=(width or max(6.0, 3.6 * panels), height), layout="constrained")
        FigureCanvasAgg(canvas)
        return canvas, list(canvas.subplots(1, panels, squeeze=False)[0])


def _band(axes: Any, series: Sequence[tuple[Sequence[float], Sequence[float]]], label: str, index: int) -> None:
    """Mean over the runs at the steps that all of them have, and the range as a band."""
    if not series:
        return
    steps = sorted(set.intersection(*(set(each) for each, _ in series)))
    values = np.array([[dict(zip(*each, strict=True))[step] for step in steps] for each in series], dtype=float)
    colour = f"C{index % 10}"
    axes.plot(steps, values.mean(axis=0), color=colour, linewidth=1.3, label=f"{label} ({len(series)})")
    if len(series) > 1:
        axes.fill_between(steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, linewidth=0)


def _fit_heights(axes: Any, start: float) -> None:
    shown = [
        value
        for line in axes.get_lines()
        for step, value in zip(line.get_xdata(), line.get_ydata(), strict=True)
        if step >= start and math.isfinite(value)
    ]
    if shown:
        room = 0.08 * (max(shown) - min(shown)) + 1e-3
        axes.set_ylim(min(shown) - room, max(shown) + room)
