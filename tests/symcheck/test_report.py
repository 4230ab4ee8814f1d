"""Counts, exit codes, JSON against the schema, witness files, and what a person reads."""

import dataclasses
import json
import math
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symcheck.report import CertificationError, Report, schema
from symcheck.result import Evidence, Numeric, Result, Status, Verdict
from symcheck.table import grids, plain_text

VERDICTS = st.sampled_from(list(Verdict))
NUMBERS = st.none() | st.floats()
DTYPES = st.sampled_from(["float64", "float32", "bfloat16"])


@st.composite
def numerics(draw: st.DrawFn) -> Numeric:
    return Numeric(
        status=draw(st.sampled_from(list(Status))),
        defect_over_floor=draw(NUMBERS),
        relative_error=draw(NUMBERS),
        casts=tuple(draw(st.lists(DTYPES, max_size=2))),
        stratum=draw(st.none() | st.text(max_size=8)),
    )


@st.composite
def results(draw: st.DrawFn) -> Result:
    return Result(
        target=draw(st.sampled_from(["torch.optim.AdamW", "a/b c.py:X<y>", "rule:row_norm"])),
        config=draw(
            st.dictionaries(st.sampled_from(["lr", "weight_decay", "kind"]), st.floats(0, 1) | st.text(max_size=5))
        ),
        block=draw(st.sampled_from(["router", "embedding", "all"])),
        property=draw(st.sampled_from(["equivariance", "horizontality", "purity"])),
        action="Perm(rows) x O(cols)",
        verdict=draw(VERDICTS),
        reason=draw(st.text(max_size=30)),
        conditions=tuple(draw(st.lists(st.text(max_size=10), max_size=2))),
        expected=draw(st.none() | VERDICTS.map(lambda verdict: verdict.value)),
        evidence=Evidence(
            witness=draw(st.none() | st.just({"schema": "symcheck.witness/1", "defect": math.inf})),
            examples=draw(st.integers(0, 9)),
            defect=draw(NUMBERS),
            noise_floor=draw(NUMBERS),
            shapes=((2, 1),),
        ),
        numeric=draw(st.dictionaries(DTYPES, numerics(), max_size=2)),
        seconds=0.5,
    )


def result(verdict: Verdict, *, expected: str | None = None, target: str = "t", block: str = "router") -> Result:
    return Result(target, {"lr": 0.1}, block, "equivariance", "O(rows)", verdict, expected=expected)


@settings(max_examples=40)
@given(st.lists(results(), max_size=6), st.booleans(), st.booleans())
def test_any_report_is_valid_json_counts_up_and_can_be_read(found: list[Result], asked: bool, named: bool) -> None:
    report = Report(
        environment={"symcheck": "0", "torch": "2", "python": "3", "device": "cpu", "seed": 0},
        results=found,
        asked=asked,
        named=named,
    )
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    jsonschema.Draft202012Validator(schema()).validate(data)
    counts = dict(data["counts"])
    assert counts.pop("planned") == sum(counts.values()) == len(found)
    assert report.exit_code in (0, 1, 3)
    if found:
        assert f"exit code {report.exit_code}" in str(report)


def test_the_schema_is_one_and_refuses_what_is_not_a_report() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    data = Report(results=[result(Verdict.PROVED)]).to_dict()
    data["environment"] = {"symcheck": "0", "torch": "2", "python": "3", "device": "cpu", "seed": 0}
    jsonschema.validate(data, schema())
    for key, value in (("verdict", "PROVED"), ("expected", "yes"), ("seconds", -1)):
        broken = json.loads(json.dumps(data))
        broken["results"][0][key] = value
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema())


@pytest.mark.parametrize(
    ("found", "asked", "named", "code"),
    [
        ([result(Verdict.SUPPORTED)], False, True, 0),
        ([result(Verdict.SUPPORTED)], True, True, 0),
        # A survey reports; a question that was asked by name judges.
        ([result(Verdict.REFUTED)], False, True, 0),
        ([result(Verdict.REFUTED)], True, True, 1),
        # Claims, positive and negative.
        ([result(Verdict.PROVED, expected="proved")], False, True, 0),
        ([result(Verdict.PROVED, expected="supported")], False, True, 0),
        ([result(Verdict.SUPPORTED, expected="proved")], False, True, 1),
        ([result(Verdict.REFUTED, expected="proved")], False, True, 1),
        ([result(Verdict.REFUTED, expected="refuted")], False, True, 0),
        ([result(Verdict.REFUTED, expected="refuted")], True, True, 1),
        ([result(Verdict.SUPPORTED, expected="refuted")], False, True, 1),
        ([result(Verdict.PROVED, expected="declined")], False, True, 1),
        # Open questions.
        ([result(Verdict.DECLINED)], True, True, 3),
        ([result(Verdict.VACUOUS)], True, True, 3),
        ([result(Verdict.SUPPORTED), result(Verdict.DECLINED)], False, True, 0),
        ([result(Verdict.SUPPORTED), result(Verdict.VACUOUS)], False, True, 0),
        ([result(Verdict.SUPPORTED), result(Verdict.ERROR)], False, True, 3),
        ([result(Verdict.SUPPORTED), result(Verdict.DECLINED, expected="proved")], False, True, 3),
        ([result(Verdict.SUPPORTED), result(Verdict.DECLINED, expected="declined")], False, True, 0),
        # A named target that gives no answer at all is not a success; in the built-in survey it may be expected.
        ([result(Verdict.DECLINED, expected="declined")], False, True, 3),
        ([result(Verdict.DECLINED, expected="declined")], False, False, 0),
        ([result(Verdict.VACUOUS)], False, True, 3),
        ([result(Verdict.SUPPORTED), result(Verdict.VACUOUS, target="other")], False, True, 3),
        # A refutation weighs more than an open question.
        ([result(Verdict.REFUTED, expected="proved"), result(Verdict.ERROR)], False, True, 1),
        ([], False, True, 3),
    ],
)
def test_exit_codes(found: list[Result], asked: bool, named: bool, code: int) -> None:
    report = Report(results=found, asked=asked, named=named)
    assert report.exit_code == code
    if code:
        with pytest.raises(CertificationError):
            report.raise_for_status()
    else:
        report.raise_for_status()


def test_an_interruption_is_incomplete_and_a_failure_of_ours_is_internal() -> None:
    assert Report(results=[result(Verdict.SUPPORTED)], interrupted=True).exit_code == 3
    assert Report(results=[result(Verdict.SUPPORTED)], failures=["Traceback"]).exit_code == 4


def test_lookup() -> None:
    report = Report(results=[result(Verdict.SUPPORTED), result(Verdict.REFUTED, target="u", block="matrix")])
    assert report["router", "equivariance"].verdict is Verdict.SUPPORTED
    assert report["u", "matrix", "equivariance"].verdict is Verdict.REFUTED
    with pytest.raises(KeyError, match="no result"):
        report["embedding", "equivariance"]
    report.results.append(result(Verdict.REFUTED, target="u"))
    with pytest.raises(KeyError, match="2 results"):
        report["router", "equivariance"]


def test_witnesses_go_into_files_of_their_own(tmp_path: Path) -> None:
    witness = {"schema": "symcheck.witness/1", "defect": math.nan}
    one = Result(
        "x/y.py:Z", {"lr": 0.1}, "router", "equivariance", "O", Verdict.REFUTED, evidence=Evidence(witness=witness)
    )
    report = Report(results=[one, one])
    report.to_json(tmp_path / "deep" / "report.json")
    data = json.loads((tmp_path / "deep" / "report.json").read_text())
    paths = [entry["evidence"]["witness"] for entry in data["results"]]
    assert paths == ["witness/x_y.py_Z-router-equivariance.json", "witness/x_y.py_Z-router-equivariance-2.json"]
    for path in paths:
        assert json.loads((tmp_path / "deep" / path).read_text())["defect"] == "nan"
    assert str(tmp_path / "deep" / paths[0]) in str(report)


def test_a_name_cannot_leave_the_witness_folder(tmp_path: Path) -> None:
    evil = Result("../../x", {}, "..", "/etc", "O", Verdict.REFUTED, evidence=Evidence(witness={"a": 1}))
    report = Report(results=[evil])
    report.to_json(tmp_path / "report.json")
    assert [path.parent for path in tmp_path.rglob("*.json") if path.name != "report.json"] == [tmp_path / "witness"]


def test_the_page_escapes_what_it_shows(tmp_path: Path) -> None:
    bad = Result("<script>alert(1)</script>", {}, "router", "equivariance", "O", Verdict.ERROR, reason="<b>$x</b>")
    report = Report(results=[bad, result(Verdict.SUPPORTED)])
    report.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<script>" not in page
    assert "&lt;b&gt;$x&lt;/b&gt;" in page
    assert "http" not in page.split("</style>")[1]


def test_one_target_is_shown_in_detail_and_many_in_a_survey() -> None:
    (detail,) = grids(Report(results=[result(Verdict.SUPPORTED), result(Verdict.SUPPORTED, block="matrix")]))
    assert len(detail.rows) == 2
    (survey,) = grids(Report(results=[result(Verdict.SUPPORTED), result(Verdict.REFUTED, target="u")]))
    assert survey.headers == ("target", "router")
    assert [row[0].text for row in survey.rows] == ["t", "u"]


def test_a_table_too_wide_is_split_with_its_first_column() -> None:
    blocks = ["router", "matrix", "embedding", "lm_head", "swiglu"]
    found = [result(Verdict.SUPPORTED, target=target, block=block) for target in "tu" for block in blocks]
    (grid,) = grids(Report(results=found))
    pieces = list(grid.split(30))
    assert [piece.headers for piece in pieces] == [
        ("target", "router", "matrix"),
        ("target", "embedding", "lm_head"),
        ("target", "swiglu"),
    ]
    assert "(continued)" in plain_text(Report(results=found), width=30)


def test_what_is_not_as_claimed_is_marked_and_explained() -> None:
    text = str(Report(results=[result(Verdict.REFUTED, expected="proved"), result(Verdict.SUPPORTED, target="u")]))
    assert "✗ refuted*" in text
    assert "t: refuted, claimed proved: router/equivariance" in text
    assert "not what was claimed" in text


def test_rounding_is_told_by_its_worst_case() -> None:
    numeric = {
        "float64": Numeric(Status.UNSTABLE, 1e12, relative_error=0.6, casts=("bfloat16",), stratum="rank_deficient"),
        "float32": Numeric(Status.STABLE, 1.0, relative_error=1e-7),
        "bfloat16": Numeric(Status.UNTESTED),
    }
    harmless = {dtype: Numeric(Status.STABLE, 1.0) for dtype in numeric}
    one = dataclasses.replace(result(Verdict.SUPPORTED), numeric=numeric)
    other = dataclasses.replace(result(Verdict.SUPPORTED, block="matrix"), numeric=harmless)
    rounding = grids(Report(results=[one, other]))[-1]
    assert [[cell.text for cell in row] for row in rounding.rows] == [
        ["float64", "unstable, in bfloat16: off by 0.6 on rank_deficient"],
        ["float32", "stable"],
        ["bfloat16", "stable"],
    ]


def test_a_target_without_any_answer_is_told_and_not_tabulated() -> None:
    silent = [result(Verdict.ERROR), result(Verdict.ERROR, block="matrix")]
    report = Report(results=[dataclasses.replace(one, reason="it called sys.exit(1)") for one in silent])
    assert grids(report) == []
    assert "t: error: every question\n  it called sys.exit(1)" in str(report)


def test_certificates_are_stored_once_and_named_in_the_report(tmp_path: Path) -> None:
    document = {"schema": "symcheck.certificates/1", "certificates": []}
    found = [
        dataclasses.replace(result(Verdict.PROVED), block=block, evidence=Evidence(certificate=document))
        for block in ("embedding", "swiglu_gate")
    ]
    report = Report(results=found)
    assert report.write_certificates(tmp_path / "certs") == 1
    (path,) = (tmp_path / "certs").iterdir()
    assert json.loads(path.read_text()) == document
    assert {item["evidence"]["certificate"] for item in report.to_dict()["results"]} == {path.stem}
