"""The numbers that runs are compared by: how each is read from a record, and which difference counts.

Losses are compared in nats, with the margins of the statistics. Everything else is a mean over the last tenth of its
series, since single steps are noisy; sizes are compared by their logarithm, so that a difference of 0.05 is 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from paper_repro.records import RunRecord
from paper_repro.statistics import Margins, late_area

_LAST = 10
"""The last tenth."""


@dataclass(frozen=True)
class Metric:
    """A number of one run.

    Attributes:
        title: as a table shows it.
        unit: of differences, e.g. ``nats``.
        read: the number, NaN where the record has none.
        margins: which differences count, and which are none.
        series: the diagnostic it is read from, if it is one.
    """

    title: str
    unit: str
    read: Callable[[RunRecord], float]
    margins: Margins
    series: str | None = None

    @property
    def is_loss(self) -> bool:
        """Whether a diverged run has a stand-in: see `paper_repro.planning.pairs`."""
        return self.series is None


def final_loss(record: RunRecord) -> float:
    """Validation cross-entropy at the end, in nats; NaN unless the run finished."""
    return float(record.final.get("val_loss", math.nan)) if record.outcome == "finished" else math.nan


def initial_loss(record: RunRecord) -> float:
    """What the run started from: its first validation loss before any step, else its first training loss."""
    curves = record.curves
    if curves["val_step"] and curves["val_step"][0] == 0 and math.isfinite(curves["val_loss"][0]):
        return float(curves["val_loss"][0])
    return float(curves["train_loss"][0]) if curves["train_loss"] else math.nan


def late_loss(record: RunRecord) -> float:
    """Mean validation loss over the last 60 % of the steps, in nats."""
    return late_area(record.curves["val_step"], record.curves["val_loss"])


def _last(name: str, *, logarithm: bool) -> Callable[[RunRecord], float]:
    def read(record: RunRecord) -> float:
        values: Sequence[float] = record.diagnostics.get(name, ())
        kept = values[-max(1, len(values) // _LAST) :]
        mean = math.fsum(kept) / len(kept) if kept else math.nan
        if not logarithm:
            return mean
        return math.log(mean) if mean > 0 else math.nan

    return read


def _size(title: str, series: str) -> Metric:
    """A positive quantity: 5 % counts, and within 10 % two are equivalent."""
    return Metric(title, "log ratio", _last(series, logarithm=True), Margins(0.05, 0.10), series)


def _share(title: str, unit: str, series: str) -> Metric:
    """A quantity of order one with a natural unit: 0.01 counts, and within 0.02 two are equivalent."""
    return Metric(title, unit, _last(series, logarithm=False), Margins(0.01, 0.02), series)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "final_loss": Metric("final validation loss", "nats", final_loss, Margins()),
        "load_variation": _size("coefficient of variation of expert load", "router_load_cv"),
        "load_entropy": _share("entropy of expert load / log E", "of log E", "router_load_entropy"),
        "dead_experts": _share("share of experts with little load", "share", "router_dead_experts"),
        "largest_logit": _size("largest vocabulary logit", "head_max_logit"),
        "largest_logsumexp": _size("largest log-sum-exp of the vocabulary logits", "head_logsumexp_max"),
        "head_spread": _size("spread of the head's row norms", "head_row_norm_cv"),
        "head_drift": _size("drift of the shift that the head's rows share", "head_drift"),
        "router_z": _size("router z (mean squared log-sum-exp)", "router_z"),
        "router_rms": _size("root mean square of router logits", "router_logit_rms"),
        "router_drift": _size("drift of the shift that a router's rows share", "router_drift"),
    }
)
