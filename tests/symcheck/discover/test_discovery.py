"""What is discovered of optimizers that are understood."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from symcheck.discover.command import discover as command
from symcheck.discover.discovery import Discovery, disagreements, discover, to_dict
from symcheck.discover.table import plain_text, sentences
from symcheck.errors import UsageError
from symcheck.probe.names import Budget
from symcheck.result import Result, Verdict
from tests.symcheck.discover import candidates
from tests.symcheck.discover.candidates import load

SMALL = Budget(shapes=2, elements=2, steps=3, long=0, examples=0)

KNOWN = [
    ("torch.optim.SGD", {}, {"O(entries)"}),
    ("torch.optim.Adam", {}, {"SPerm(entries)"}),
    ("torch.optim.Muon", {}, {"O(rows) x O(cols)"}),
    # Beyond its product, every entry of a row may change its sign: the norm of a row does not see it.
    ("rule:row_norm", {}, {"SPerm(rows) x O(cols)", "Sign(entries)"}),
    ("rule:row_norm", {"center_rows": True}, {"Perm(rows) x O(cols)"}),
    ("rule:right_spectral", {}, {"O(rows) x O(cols)"}),
    ("torch.optim.Adafactor", {}, {"SPerm(rows) x SPerm(cols)", "Sign(entries)"}),
]


@pytest.mark.parametrize(("target", "settings", "groups"), KNOWN)
def test_known_groups(target: str, settings: dict[str, object], groups: set[str]) -> None:
    found = discover(load(target, **settings), budget=SMALL)
    assert set(found.groups) == groups
    assert not found.undecided
    assert not found.disagreements
    assert found.meets_claim is True
    assert found.exit_code == 0
    refuted = [answer for answer in found.answers if answer.verdict is Verdict.REFUTED]
    assert {answer.action for answer in refuted} == set(found.excluded)
    assert all(answer.evidence.witness for answer in refuted)


def test_made_to_be_weird() -> None:
    found = discover(candidates.weird, budget=SMALL)
    assert found.groups == ("Sign(rows)",)
    text = plain_text(found)
    assert "a symmetry of cols on 3x4 of no class: exp(sX), X = E12 - E21" in text
    assert "DISAGREES" not in text


def test_general_linear() -> None:
    assert discover(candidates.natural, budget=SMALL).groups == ("GL(rows) x O(cols)",)


def test_vacuous() -> None:
    found = discover(candidates.still, budget=SMALL)
    assert found.exit_code == 3
    assert found.groups == ()
    assert "the update is zero" in found.reason
    assert plain_text(found).startswith("still: vacuous: the update is zero")


def test_takes_no_matrix() -> None:
    found = discover(load("torch.optim.LBFGS"), budget=SMALL)
    assert (found.exit_code, found.groups) == (3, ())
    assert "closure" in found.reason


def _trait(found: Discovery, name: str) -> str:
    return next(trait.answer for trait in found.traits if trait.name == name)


def test_traits() -> None:
    sgd = discover(load("torch.optim.SGD", weight_decay=0.1), budget=SMALL)
    assert {trait.name: trait.answer for trait in sgd.traits} == {
        "homogeneity degree": "1",
        "odd": "yes",
        "transpose symmetry": "yes",
        "descent": "yes",
        "weight dependence": "yes",
        "couples parameters": "no",
        "random": "no",
        "state tensors": "0",
        "computes in": "the dtype of the parameters",
    }
    relu = discover(candidates.relu, budget=SMALL)
    assert (_trait(relu, "odd"), _trait(relu, "weight dependence"), _trait(relu, "descent")) == ("no", "no", "yes")
    assert _trait(discover(candidates.ascent, budget=SMALL), "descent") == "no"
    noise = discover(candidates.noise, budget=SMALL)
    assert (_trait(noise, "random"), _trait(noise, "couples parameters")) == ("yes", "undecided")
    assert noise.exit_code == 3
    adafactor = next(t for t in discover(load("torch.optim.Adafactor"), budget=SMALL).traits if t.name[:5] == "state")
    assert adafactor.data["tensors"] == {"step": "", "row_var": "m x 1", "col_var": "1 x n"}


def test_the_estimate_contradicts_a_wrong_answer_aloud() -> None:
    found = discover(load("rule:row_norm"), budget=SMALL)
    for atom, wrong in (("O(rows)", Verdict.PROVED), ("O(cols)", Verdict.REFUTED)):
        verdicts = {**found.verdicts, atom: wrong}
        lines = disagreements(verdicts, found.estimates)
        assert len(lines) == 1
        assert lines[0].startswith(f"{atom} is {wrong}, but")
        altered = replace(found, verdicts=verdicts, disagreements=tuple(lines))
        assert altered.exit_code == 3
        assert "THE NUMERICAL ESTIMATE DISAGREES" in plain_text(altered)


def test_a_claim_that_is_not_the_largest_group() -> None:
    found = discover(load("torch.optim.SGD"), budget=SMALL)
    for claim, expected in (("O(entries)", True), ("O(rows) x O(cols)", False), ("GL(rows)", False)):
        assert replace(found, claimed=claim).meets_claim is expected
    assert replace(found, claimed="O(rows)").exit_code == 1
    heads = replace(found, groups=("Sign(rows)",), excluded=("Perm(rows)",), verdicts={"Sign(rows)": Verdict.SUPPORTED})
    assert replace(heads, claimed="(O wr Perm[2])(rows) x O(cols)").meets_claim is None


def test_with_a_prover_it_is_tight() -> None:
    def decide(spec: str) -> Result:
        verdict = Verdict.PROVED if spec == "O(entries)" else Verdict.REFUTED
        return Result("sgd", {}, "matrix", "equivariance", spec, verdict)

    found = discover(load("torch.optim.SGD"), decide=decide, proofs=True, budget=SMALL)
    assert found.tight
    said = [text for text, _ in sentences(found)]
    assert said[0] == "largest group: O(entries) (proved)"
    assert said[1].startswith("this is tight: every class outside of it is refuted")


def test_command_writes_json_and_witnesses(tmp_path: Path) -> None:
    path = tmp_path / "out" / "found.json"
    result = CliRunner().invoke(command, ["torch.optim.SGD", "--json", str(path)], standalone_mode=False)
    assert result.exception is None
    assert result.return_value == 0
    data = json.loads(path.read_text())
    assert data["schema"] == "symcheck.discovery/1"
    (found,) = data["discoveries"]
    assert found["groups"] == ["O(entries)"]
    assert found["estimates"][0]["algebras"]["entries"]["dimension"] == 66
    assert found["traits"]["homogeneity degree"]["data"]["degree"] == 1
    witnesses = [answer["evidence"]["witness"] for answer in found["answers"] if answer["verdict"] == "refuted"]
    assert witnesses
    assert all((path.parent / witness).is_file() for witness in witnesses)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["torch.optim.Nope"], "no class or function 'Nope'"),
        (["rule:nope"], "nope"),
        (["torch.optim.SGD", "--set", "lr"], "expected NAME=VALUE"),
        (["torch.optim.SGD", "--budget", "big"], "unknown budget 'big'"),
        (["torch.optim.SGD", "--json", "/proc/nowhere/x.json"], "cannot be written"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert isinstance(result.exception, UsageError | ValueError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_json_of_a_discovery_is_plain_data() -> None:
    json.dumps(to_dict(discover(candidates.still, budget=SMALL)), allow_nan=False)
