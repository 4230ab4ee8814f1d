"""Where the numbers come from and how they were judged: provenance, method, departures, symmetry, what is missing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from paper_repro.calibrate import device_of
from paper_repro.planning.plan import Job, remaining_seconds
from paper_repro.planning.runs import Runs
from paper_repro.records import RunRecord
from paper_repro.report.document import Section, Table, duration, joined

SEQUENTIAL_RATE = 0.10
"""Bound of the rate at which a comparison without effect ends as confirmed when seeds are added; tests simulate it."""


def provenance_section(runs: Runs) -> Section:
    """Devices, versions, data and code of the runs."""
    records = list(runs.records.values())
    names = sorted({name for record in records for name in record.versions if name != "sources"})
    manifests: dict[str, set[str]] = {}
    for record in records:
        manifests.setdefault(record.manifest[:16], set()).add(record.spec.preset)
    points = [
        f"Runs: {len(records)}; device: {joined(map(device_of, records))}; "
        f"precision: {joined(record.spec.precision for record in records)}.",
        "Versions: "
        + "; ".join(f"{name} {joined(r.versions[name] for r in records if name in r.versions)}" for name in names),
        f"Code and preset versions: {joined(record.code for record in records)}; hash of the sources that ran: "
        f"{joined(record.versions.get('sources', 'unknown')[:12] for record in records)}.",
        *(f"Data manifest {manifest}: {joined(presets)}." for manifest, presets in sorted(manifests.items())),
        *(f"Left out: {count} runs of {why}; losses compare only within one." for why, count in runs.left_out.items()),
    ]
    return Section("Where the numbers come from", points=tuple(points))


def method_section(runs: Runs) -> Section:
    """The statistics as they were fixed before the first run."""
    return Section(
        "Method, fixed before the first run",
        points=(
            "Unit: the seed. It fixes initialisation and data order for every optimizer: runs are compared in pairs.",
            "Metric: final validation cross-entropy in float32 on the same held-out documents. Diagnostics are means "
            "over the last tenth of their series; sizes are compared by their logarithm.",
            "Confirmed: one-sided paired t-test with p < 0.05 after Holm, every seed has the claimed sign, and the "
            "mean difference exceeds 0.003 nats (sizes: 5 %; shares: 0.01). Refuted: the opposite is confirmed. No "
            "difference: neither, and two one-sided tests put the mean inside ± 0.005 nats (sizes: 10 %; shares: "
            "0.02). Otherwise inconclusive: seeds are added, up to 8.",
            "Holm counts every comparison of the study on one metric and model family, run or not. Nothing is tested "
            "before all planned seeds of a comparison have run. A claim is confirmed if all of its comparisons are, "
            "and refuted if one is.",
            "Adding seeds where the first look was inconclusive raises the rate at which a comparison without effect "
            f"ends as confirmed from 5 % to at most {SEQUENTIAL_RATE:.0%} (simulated, in the tests).",
            "Divergence: a run that diverged counts with the loss that it started from; a pair in which both diverged "
            "is left out. For other metrics a pair with a diverged run is left out, and a comparison whose treatment "
            "diverged is never confirmed. A run that failed for a technical reason is no result.",
        ),
    )


def departures_section(stored: Mapping[str, Any] | None) -> Section:
    """Where the paper's public code departs from its description; ``stored`` is what the check wrote."""
    if stored is None:
        return Section(
            "Where the reference code departs from its description",
            paragraphs=("Not checked: the folder of results has no departures.json. `queue` writes it.",),
        )
    points = []
    for each in stored["departures"]:
        evidence = "; ".join(each["evidence"])
        found = "Checked" if each["holds"] else "NOT FOUND with these versions"
        points.append(
            f"{each['title']}. Described: {each['described']}. The code: {each['actual']}. Here: {each['switch']}. "
            f"{found}: {evidence}."
        )
    versions = ", ".join(f"{name} {version}" for name, version in sorted(stored["versions"].items()))
    return Section(
        "Where the reference code departs from its description",
        paragraphs=(
            f"Read in the public code and checked on models of two layers with {versions}. The runs follow the code, "
            "so that they test what was measured.",
        ),
        points=tuple(points),
    )


def symmetry_section(records: Sequence[RunRecord]) -> Section | None:
    """What symcheck said of the rules before the first step."""
    asked: dict[str, set[str]] = {}
    for record in records:
        for role, answer in record.symmetry.items():
            settings = ", ".join(f"{key}={value}" for key, value in sorted(answer.get("settings", {}).items()))
            rule = answer.get("rule", "?") + (f"({settings})" if settings else "")
            row = (
                role,
                rule,
                str(answer.get("block", "?")),
                _verdicts(answer.get("verdicts")),
                answer.get("note") or "–",
            )
            asked.setdefault(json.dumps(row), set()).add(record.spec.optimizer)
    if not asked:
        return None
    return Section(
        "Symmetry of the optimizers, certified before training",
        tables=(
            Table(
                "Rules on the blocks that they step",
                ("role", "rule", "block", "symcheck", "remark", "configurations"),
                tuple((*json.loads(row), joined(users)) for row, users in sorted(asked.items())),
                note="Proved and refuted are answers of the verifier with a certificate or a counterexample.",
            ),
        ),
    )


def _verdicts(found: Any) -> str:
    if not isinstance(found, Mapping):
        return "–"
    parts = []
    for name, answer in sorted(found.items()):
        if isinstance(answer, Mapping):
            conditions = f" ({'; '.join(answer['conditions'])})" if answer.get("conditions") else ""
            parts.append(f"{name.replace('_', ' ')}: {answer.get('verdict', '?')}{conditions}")
        else:
            parts.append(f"{name}: {answer}")
    return "; ".join(parts) or "–"


def open_section(runs: Runs, jobs: Sequence[Job]) -> Section:
    """What has not run, failed or diverged."""
    status = Counter(job.status for job in jobs)
    seconds, unknown = remaining_seconds(jobs)
    left = status["todo"] + status["waiting"]
    about = f"about {duration(seconds)}" if seconds else "for an unknown time"
    about += f", {unknown} of them without an estimate" if seconds and unknown else ""
    points = [
        f"{status['done']} of {len(jobs)} runs of the plan are done"
        + (f"; the rest will take {about}." if left else ".")
    ]
    for outcome in ("diverged", "failed"):
        points += [
            f"{outcome.capitalize()}: {record.id}, {record.spec.preset}, {record.spec.optimizer}, seed "
            f"{record.spec.seed}, {record.spec.split} split: {record.message}"
            for record in sorted(runs.records.values(), key=lambda each: each.id)
            if record.outcome == outcome
        ]
    return Section("What is missing", points=tuple(points))
