"""The report of one scale, from the folder of results alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from paper_repro.calibrate import device_of
from paper_repro.planning import study as studies
from paper_repro.planning.claims import Claim, claims
from paper_repro.planning.plan import make_plan
from paper_repro.planning.runs import Runs
from paper_repro.planning.study import SCALES, Catalogue
from paper_repro.planning.verdicts import verdicts
from paper_repro.records import read_records, write_atomically
from paper_repro.report.claims_section import claims_section
from paper_repro.report.document import Document, Section, joined
from paper_repro.report.method_section import (
    departures_section,
    method_section,
    open_section,
    provenance_section,
    symmetry_section,
)
from paper_repro.report.models_section import compute_section, model_sections, tuning_section
from paper_repro.report.smoke_section import smoke_section

DEPARTURES = "departures.json"
BENCHMARK = "benchmark.json"

_BANNERS: Mapping[str, str] = {
    "smoke": "SMOKE: two-layer models, tens of steps, a few minutes of CPU. This shows that everything works from data "
    "to report. It says nothing about the claims of the paper, and no claim is judged.",
    "scaled": "SCALED: small models on one device. Verdicts say whether they behave as the paper claims of its models.",
    "paper": "PAPER: the sizes, data and hyper-parameters of the paper.",
}


def write_reports(results: Path, out: Path, catalogue: Catalogue) -> list[Path]:
    """Writes ``out/<scale>/report.md``, ``report.html`` and ``figures/`` for every scale that has results.

    Raises ValueError if there are none, ModuleNotFoundError naming the extra without its libraries.
    """
    from paper_repro.report.render import write

    records = list(read_records(results))
    written = []
    for scale in SCALES:
        ours = [record for record in records if record.spec.scale == scale]
        if ours:
            document = build(Runs.of(studies.load_study(scale), catalogue, ours), claims(), extras(results))
            written.append(write(document, out / scale))
    if not written:
        raise ValueError(f"no runs in {results}: train some first (python -m paper_repro queue)")
    return written


def extras(results: Path) -> dict[str, Any]:
    """The files beside the runs that the report prints, by name; those that are missing are absent."""
    found = {}
    for name in (DEPARTURES, BENCHMARK):
        path = results / name
        if path.exists():
            found[name] = json.loads(path.read_text(encoding="utf-8"))
    return found


def store_departures(results: Path) -> None:
    """Checks the departures of the reference code once per folder of results and keeps the answer there."""
    path = results / DEPARTURES
    if not path.exists():
        from paper_repro.report.departures import departures

        write_atomically(path, json.dumps(departures(), indent=1) + "\n")


def build(runs: Runs, judged: Sequence[Claim], found: Mapping[str, Any]) -> Document:
    """The document of one scale. Smoke runs give no verdicts."""
    scale = runs.study.scale
    records = [runs.records[spec] for spec in sorted(runs.records, key=lambda spec: spec.canonical())]
    devices = joined(device_of(record) for record in records)
    smoke = scale == "smoke"
    sections: Iterable[Section | None] = (
        smoke_section(records) if smoke else claims_section(scale, devices, verdicts(runs, judged)),
        provenance_section(runs),
        *model_sections(runs),
        tuning_section(runs),
        compute_section(runs),
        _benchmark(found.get(BENCHMARK)),
        departures_section(found.get(DEPARTURES)),
        symmetry_section(records),
        None if smoke else method_section(runs),
        open_section(runs, make_plan(runs, judged)),
    )
    return Document(
        f"Reproduction of arXiv 2605.18106: {scale} runs",
        _BANNERS[scale] + f" Measured on {devices}.",
        tuple(section for section in sections if section is not None),
    )


def _benchmark(stored: Sequence[Mapping[str, Any]] | None) -> Section | None:
    if stored is None:
        return None
    from paper_repro.report.benchmark_section import benchmark_section

    return benchmark_section(stored)
