"""From claims and records to rows of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from paper_repro.planning.claims import Claim, Contrast
from paper_repro.planning.metrics import METRICS
from paper_repro.planning.pairs import Evidence, Secondary, gather, secondary
from paper_repro.planning.runs import Runs
from paper_repro.statistics import Comparison, Finding, Judgement, judge

_WORST_FIRST = (Finding.REFUTED, Finding.INCONCLUSIVE, Finding.NOT_RUN, Finding.NO_DIFFERENCE, Finding.CONFIRMED)

WORDS = {
    "scaled": {
        Finding.CONFIRMED: "scaled: consistent with the claim",
        Finding.REFUTED: "scaled: inconsistent with the claim",
        Finding.NO_DIFFERENCE: "scaled: no difference",
        Finding.INCONCLUSIVE: "scaled: inconclusive",
        Finding.NOT_RUN: "not run",
    },
    "paper": {finding: finding.value for finding in Finding},
}
"""How a finding reads. A scaled model can bear a claim out or not; it confirms nothing about the paper's models."""


@dataclass(frozen=True)
class Row:
    """One comparison: its evidence, what the statistics say, and why if that needs a word."""

    claim: Claim
    evidence: Evidence
    judgement: Judgement
    secondary: Secondary
    reason: str = ""

    @property
    def finding(self) -> Finding:
        """Of this comparison alone."""
        return self.judgement.finding


@dataclass(frozen=True)
class Verdict:
    """One claim: its rows, what they say together, and the comparisons that the study does not have."""

    claim: Claim
    rows: tuple[Row, ...]
    absent: tuple[Contrast, ...] = ()

    @property
    def finding(self) -> Finding:
        """A claim is refuted if one comparison is, and confirmed only if all are.

        When no comparison has run it is not run; when some have not, or the study does not have them, inconclusive.
        """
        found = {row.finding for row in self.rows} | ({Finding.NOT_RUN} if self.absent else set())
        if found <= {Finding.NOT_RUN}:
            return Finding.NOT_RUN
        worst = next(finding for finding in _WORST_FIRST if finding in found)
        return Finding.INCONCLUSIVE if worst is Finding.NOT_RUN else worst


def verdicts(runs: Runs, claims: Sequence[Claim]) -> list[Verdict]:
    """The verdicts on all claims.

    A family of tests is one metric on one model family, over all presets and claims of the study. Raises ValueError
    for a smoke study, whose runs are too short to say anything.
    """
    if runs.study.scale not in WORDS:
        raise ValueError(f"{runs.study.scale} runs give no verdicts: use scaled or paper presets")
    evidence = [
        (claim, gather(runs, contrast, preset))
        for claim in claims
        for contrast in claim.comparisons
        for preset in runs.study.presets
        if runs.has(contrast, preset)
    ]
    families: dict[tuple[str, str], list[int]] = {}
    for place, (_, found) in enumerate(evidence):
        families.setdefault((found.contrast.family, found.contrast.metric), []).append(place)
    rows: dict[int, Row] = {}
    for members in families.values():
        judged = judge({str(place): _comparison(evidence[place][1]) for place in members})
        for place in members:
            claim, found = evidence[place]
            rows[place] = _row(claim, found, judged[str(place)])
    return [
        Verdict(
            claim,
            tuple(rows[place] for place in sorted(rows) if rows[place].claim == claim),
            tuple(
                each for each in claim.comparisons if not any(runs.has(each, preset) for preset in runs.study.presets)
            ),
        )
        for claim in claims
    ]


def _comparison(evidence: Evidence) -> Comparison:
    """What is tested: nothing before all planned seeds have run, since a look in between would be a test of its own."""
    differences = evidence.differences if evidence.complete else ()
    contrast = evidence.contrast
    return Comparison(differences, contrast.direction, METRICS[contrast.metric].margins)


def _row(claim: Claim, evidence: Evidence, judgement: Judgement) -> Row:
    done, planned = len(evidence.pairs), evidence.planned
    reason = "; ".join(evidence.notes)
    if done and not evidence.complete:
        judgement = replace(judgement, finding=Finding.INCONCLUSIVE)
        reason = "; ".join(filter(None, (f"{done} of {planned} planned seeds have run, no test before that", reason)))
    elif done and not evidence.differences:
        judgement = replace(judgement, finding=Finding.INCONCLUSIVE)
    elif evidence.barred and judgement.finding is Finding.CONFIRMED:
        judgement = replace(judgement, finding=Finding.INCONCLUSIVE)
        reason += ": not confirmed"
    elif judgement.finding is Finding.INCONCLUSIVE:
        added = judgement.seeds_to_add
        more = f"add {added} seed{'s' if added > 1 else ''}" if added else "eight seeds did not settle it"
        reason = "; ".join(filter(None, (more, reason)))
    return Row(claim, evidence, judgement, secondary(evidence.pairs), reason)
