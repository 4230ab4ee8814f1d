"""What the runs say of the claims: one table of verdicts, one of comparisons, one figure of intervals."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from paper_repro.planning.metrics import METRICS
from paper_repro.planning.verdicts import WORDS, Row, Verdict
from paper_repro.report import figures
from paper_repro.report.document import Figure, Section, Table, number, probability, signed


def claims_section(scale: str, devices: str, found: Sequence[Verdict]) -> Section:
    """The section of a scaled or paper study."""
    words = WORDS[scale]
    verdict_rows = tuple(
        (
            verdict.claim.id,
            verdict.claim.statement + (" (ours)" if verdict.claim.source == "ours" else ""),
            words[verdict.finding] + _gap(verdict),
            verdict.claim.published or "–",
        )
        for verdict in found
    )
    rows = [row for verdict in found for row in verdict.rows]
    losses = [row for row in rows if METRICS[row.evidence.contrast.metric].is_loss and row.judgement.pairs]
    shown = (
        Figure(
            "differences",
            f"{scale}; {devices}. Mean paired differences of the final validation loss with 95 % intervals (Student, "
            "each for itself); shaded: the margin of equivalence, 0.005 nats.",
            functools.partial(
                figures.verdict_intervals,
                [(_label(row), row.judgement.mean, *row.judgement.interval) for row in losses],
                0.005,
                f"{scale}, {devices}",
            ),
        ),
    )
    return Section(
        "Claims",
        paragraphs=(_reading(scale),),
        tables=(
            Table("Verdicts", ("claim", "statement", "verdict", "published (one seed, ±0.003)"), verdict_rows),
            _comparisons(rows, scale),
        ),
        figures=shown if losses else (),
    )


def _reading(scale: str) -> str:
    if scale == "scaled":
        return (
            "These models are 5 to 80 times smaller than the paper's and see a fraction of its tokens. A verdict says "
            "whether they behave as the claim says; it neither confirms nor refutes the claim for the paper's models."
        )
    return "These are the paper's model sizes, data and hyper-parameters."


def _gap(verdict: Verdict) -> str:
    if not verdict.absent:
        return ""
    return f" ({len(verdict.absent)} of {len(verdict.claim.comparisons)} comparisons are not part of this study)"


def _label(row: Row) -> str:
    contrast = row.evidence.contrast
    offset = ", next token" if contrast.target_offset == 1 else ""
    return f"{row.claim.id} {row.evidence.preset.partition('/')[2]}: {contrast.treatment} − {contrast.baseline}{offset}"


def _comparisons(rows: Sequence[Row], scale: str) -> Table:
    headers = (
        "claim", "model", "treatment", "baseline", "metric", "claimed", "seeds", "mean difference", "95 % interval",
        "p (claim)", "p (opposite)", "p (equivalent)", "finding", "steps to baseline's loss", "late loss", "remarks",
    )  # fmt: skip
    return Table(
        "Comparisons",
        headers,
        tuple(_comparison(row, scale) for row in rows),
        note=(
            "Differences are treatment minus baseline, paired by seed; of logarithms where the metric is a size. "
            "p-values are adjusted after Holm within metric and model family; the intervals are not. Beside the test, "
            "means over finished pairs, which decide nothing: the share of the baseline's steps after which the "
            "treatment has reached its final loss, and the difference of the mean loss over the last 60 % of steps."
        ),
    )


def _comparison(row: Row, scale: str) -> tuple[str, ...]:
    contrast, judgement = row.evidence.contrast, row.judgement
    metric = METRICS[contrast.metric]
    low, high = judgement.interval
    tested = judgement.pairs > 0
    words = WORDS[scale][judgement.finding].removeprefix("scaled: ")
    return (
        row.claim.id,
        row.evidence.preset.partition("/")[2] + (" (next token)" if contrast.target_offset == 1 else ""),
        contrast.treatment,
        contrast.baseline,
        f"{metric.title} ({metric.unit})",
        contrast.direction,
        _seeds(len(row.evidence.pairs), row.evidence.planned),
        signed(judgement.mean),
        f"{signed(low)} to {signed(high)}" if math.isfinite(low) else "–",
        probability(judgement.p_claimed) if tested else "–",
        probability(judgement.p_opposite) if tested else "–",
        probability(judgement.p_equivalent) if tested else "–",
        words,
        number(row.secondary.steps_share, 2) if metric.is_loss else "–",
        signed(row.secondary.late_difference) if metric.is_loss else "–",
        row.reason or "–",
    )


def _seeds(done: int, planned: int) -> str:
    if done < planned:
        return f"{done} of {planned}"
    return f"{done}" if done == planned else f"{done} ({planned} planned)"
