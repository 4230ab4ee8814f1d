"""The report: from records alone, the same bytes every time, and no word more than they bear out."""

from __future__ import annotations

import dataclasses
import json
import random
import re

import pytest

from paper_repro.planning import claims as claims_module
from paper_repro.planning import study as study_module
from paper_repro.planning.plan import make_plan
from paper_repro.planning.runs import Runs
from paper_repro.records import RunSpec
from paper_repro.report import build as build_module
from paper_repro.report.build import build, write_reports
from paper_repro.report.document import Document, Section, Table, duration, number, probability, signed
from paper_repro.report.models_section import LOGIT_SERIES, ROUTER_SERIES
from paper_repro.report.smoke_section import learnt
from tests.paper_repro.synthetic import Catalogue, record

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

TUNING = """
[tuning]
factors = [0.5, 1.0]
roles = ["embedding", "lm_head"]
seed = 1000
steps_share = 0.5
"""
STAGE = """
[[stage]]
name = "core"
presets = ["scaled/olmoe-s"]
optimizers = ["adamw-muon-adamw", "row-muon-adamw"]
seeds = 3
"""
STUDY = 'scale = "scaled"' + TUNING + STAGE
CLAIMS = claims_module.parse(
    """
[[claim]]
id = "C3"
source = "paper"
statement = "row-norm ends below AdamW | on <OLMoE>"
comparisons = [
    { family = "olmoe", treatment = "row-muon-adamw", baseline = "adamw-muon-adamw", metric = "final_loss",
      direction = "lower" },
]
[[claim]]
id = "C4"
source = "paper"
statement = "also on gpt-oss"
comparisons = [
    { family = "gpt_oss", treatment = "row-muon-adamw", baseline = "adamw-muon-adamw", metric = "final_loss",
      direction = "lower" },
]
""".replace("\n      ", " ")
)

PROVED = {"equivariance": {"verdict": "proved", "conditions": []}}


def made(spec):
    noise = random.Random(spec.canonical())
    loss = 4.2 + 0.01 * spec.seed - (0.03 if spec.optimizer.startswith("row") else 0.0) + 0.001 * noise.random()
    series = {name: [noise.random() for _ in range(7)] for name in (*ROUTER_SERIES, *LOGIT_SERIES)}
    outcome = "diverged" if (spec.seed, spec.optimizer) == (7, "row-muon-adamw") else "finished"
    return dataclasses.replace(
        record(spec, loss, diagnostics=series, outcome=outcome, device="Some GPU"),
        symmetry={"embedding": {"rule": "row_norm", "settings": {}, "block": "embedding", "verdicts": PROVED}},
    )


@pytest.fixture(scope="module")
def records():
    study = study_module.parse(STUDY)
    done = []
    while jobs := [job for job in make_plan(Runs.of(study, Catalogue(), done), CLAIMS) if job.status == "todo"]:
        done += [made(job.spec) for job in jobs]
    return done


@pytest.fixture(scope="module")
def written(records, tmp_path_factory):
    """The report of the records, and the function that writes it anywhere."""
    folder = tmp_path_factory.mktemp("report")
    for each in records:
        each.write(folder / "results")
    old = folder / "out" / "scaled" / "figures" / "old.png"
    old.parent.mkdir(parents=True)
    old.touch()

    def write(out):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(study_module, "load_study", lambda scale: study_module.parse(STUDY))
            patch.setattr(build_module, "claims", lambda: CLAIMS)
            write_reports(folder / "results", out, Catalogue())
        return out / "scaled"

    return write(folder / "out"), write


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_equal_results_give_equal_files(written, tmp_path):
    folder, write = written
    one = files(folder)
    assert one == files(write(tmp_path))
    assert {path.suffix for path in one} == {".md", ".html", ".png", ".svg"}


def test_figures_say_what_they_show(written):
    """At which scale it was measured, and on what; and those of earlier reports are gone."""
    folder, _ = written
    text = (folder / "report.md").read_text()
    shown = re.findall(r"\]\((figures/[^)]*)\)", text)
    assert len(shown) == 4
    assert {folder / link for link in shown} == set(folder.glob("figures/*.png"))
    for caption in re.findall(r"!\[([^]]*)\]", text):
        assert "scaled; Some GPU" in caption
    for drawing in folder.glob("figures/*.svg"):
        assert "scaled, Some GPU" in drawing.read_text()
    assert "\n\n\n" not in text


def cells(document, title):
    table = next(table for section in document.sections for table in section.tables if table.title == title)
    return [dict(zip(table.headers, row, strict=True)) for row in table.rows]


def test_scaled_runs_are_consistent_with_a_claim_and_never_confirm_it(records):
    document = build(Runs.of(study_module.parse(STUDY), Catalogue(), records), CLAIMS, {})
    first, second = cells(document, "Verdicts")
    assert first["verdict"] == "scaled: consistent with the claim"
    assert second["verdict"] == "not run (1 of 1 comparisons are not part of this study)"
    (row,) = cells(document, "Comparisons")
    assert row["finding"] == "consistent with the claim"
    assert row["seeds"] == "3"
    assert row["mean difference"].startswith("−0.0")
    assert document.banner.startswith("SCALED")


def test_diverged_runs_are_listed(records):
    study = study_module.parse(STUDY.replace("seeds = 3", "seeds = 8"))
    done = list(records)
    while jobs := [job for job in make_plan(Runs.of(study, Catalogue(), done), CLAIMS) if job.status == "todo"]:
        done += [made(job.spec) for job in jobs]
    document = build(Runs.of(study, Catalogue(), done), CLAIMS, {})
    (row,) = cells(document, "Comparisons")
    assert "one run diverged in 1 of 8 seeds" in row["remarks"]
    assert row["finding"] == "inconclusive"
    missing = next(section for section in document.sections if section.title == "What is missing")
    assert any("train loss became nan" in point for point in missing.points)
    configurations = cells(document, "Configurations")
    assert [each["diverged"] for each in configurations] == ["0", "1"]


def test_smoke_runs_give_no_verdict():
    study = study_module.parse('scale = "smoke"' + STAGE.replace("scaled", "smoke"))
    specs = [RunSpec("smoke/olmoe-s", name) for name in ("adamw-muon-adamw", "row-muon-adamw")]
    runs = Runs.of(study, Catalogue(), [record(spec, loss) for spec, loss in zip(specs, (4.2, 4.1), strict=True)])
    document = build(runs, CLAIMS, {})
    assert document.banner.startswith("SMOKE")
    titles = [section.title for section in document.sections]
    assert titles[0] == "Did it work?"
    assert "Claims" not in titles
    text = repr(document)
    for word in ("confirmed", "refuted", "consistent", "p (claim)"):
        assert word not in text
    assert learnt(list(runs.records.values())).all
    assert not learnt([record(specs[0], 7.7)]).all, "a loss that rises"
    assert not learnt([record(specs[0], outcome="diverged")]).all


def test_text_is_escaped(written):
    folder, _ = written
    html = (folder / "report.html").read_text()
    assert "on &lt;OLMoE&gt;" in html
    assert "<OLMoE>" not in html
    assert "below AdamW \\| on" in (folder / "report.md").read_text()


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no runs in"):
        write_reports(tmp_path, tmp_path / "out", Catalogue())


def test_numbers():
    assert number(float("nan")) == "–"
    assert signed(-0.5, 1) == "−0.5"
    assert signed(0.5, 1) == "+0.5"
    assert probability(1e-9) == "< 0.0001"
    assert [duration(s) for s in (5, 600, 7200, float("nan"))] == ["5 s", "10 min", "2.0 h", "unknown"]


def test_documents_are_plain_data():
    document = Document("t", "b", (Section("s", tables=(Table("t", ("a",), (("1",),)),)),))
    assert json.dumps(dataclasses.asdict(document))
