"""What is discovered of optimizers that are understood."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from groups import get_block
from symcheck.discover import discovery
from symcheck.discover.character import Trait, characterise
from symcheck.discover.command import discover as command
from symcheck.discover.discovery import Discovery, disagreements, discover, searching, to_dict
from symcheck.discover.table import plain_text, sentences
from symcheck.errors import UsageError
from symcheck.probe.contracts import Setting
from symcheck.probe.names import BUDGETS, Budget
from symcheck.probe.nature import observe
from symcheck.probe.strata import draw_inputs
from symcheck.probe.trajectory import ConfiguredCandidate
from symcheck.result import Result, Verdict
from symcheck.target import Candidate
from tests.symcheck.discover import candidates
from tests.symcheck.discover.candidates import load

SMALL = Budget(shapes=2, elements=2, steps=3, long=0, examples=0)


def _searched(candidate: ConfiguredCandidate) -> Discovery:
    """What is discovered by search alone, with a small budget, and an estimate on one shape."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discovery, "SHAPES", discovery.SHAPES[:1])
        return discover(candidate, decide=searching(candidate, SMALL, 0), proofs=False)


@functools.cache
def _sgd() -> Discovery:
    return _searched(load("torch.optim.SGD"))


@functools.cache
def _row_norm() -> Discovery:
    return _searched(load("rule:row_norm"))


KNOWN = [
    ("torch.optim.Adam", {}, {"SPerm(entries)"}),
    ("rule:right_spectral", {}, {"O(rows) x O(cols)"}),
    ("torch.optim.Adafactor", {}, {"SPerm(rows) x SPerm(cols)", "Sign(entries)"}),
]


@pytest.mark.parametrize(("target", "settings", "groups"), KNOWN)
def test_known_groups(target: str, settings: dict[str, object], groups: set[str]) -> None:
    _assert_found(_searched(load(target, **settings)), groups)


def test_known_groups_of_rules_with_symmetries_of_single_entries() -> None:
    _assert_found(_sgd(), {"O(entries)"})
    # Beyond its product, every entry of a row may change its sign: the norm of a row does not see it.
    _assert_found(_row_norm(), {"SPerm(rows) x O(cols)", "Sign(entries)"})


def _assert_found(found: Discovery, groups: set[str]) -> None:
    assert set(found.groups) == groups
    assert not found.undecided
    assert not found.disagreements
    assert found.meets_claim is True
    assert found.exit_code == 0
    refuted = [answer for answer in found.answers if answer.verdict is Verdict.REFUTED]
    assert {answer.action for answer in refuted} == set(found.excluded)
    assert all(answer.evidence.witness for answer in refuted)


def test_proved_and_tight() -> None:
    found = discover(load("torch.optim.Muon"))
    _assert_found(found, {"O(rows) x O(cols)"})
    assert found.proved == found.groups
    assert found.tight
    assert found.answers[0].evidence.certificate
    text = plain_text(found)
    assert "largest group: O(rows) x O(cols) (proved)" in text
    assert "this is tight: every class outside of it is refuted" in text


def test_made_to_be_weird() -> None:
    found = _searched(candidates.weird)
    assert found.groups == ("Sign(rows)",)
    text = plain_text(found)
    assert "a symmetry of cols on 3x4 of no class: exp(sX), X = E12 - E21" in text
    assert "DISAGREES" not in text


def test_general_linear() -> None:
    assert _searched(candidates.natural).groups == ("GL(rows) x O(cols)",)


def test_vacuous() -> None:
    found = _searched(candidates.still)
    assert found.exit_code == 3
    assert found.groups == ()
    assert "the update is zero" in found.reason
    assert plain_text(found).startswith("still: vacuous: the update is zero")


def test_takes_no_matrix() -> None:
    found = _searched(load("torch.optim.LBFGS"))
    assert (found.exit_code, found.groups) == (3, ())
    assert "closure" in found.reason


def _traits(candidate: ConfiguredCandidate) -> dict[str, Trait]:
    nature = observe(candidate, draw_inputs("generic", ((5, 3),), 3, centre=False, seed=0))
    setting = Setting(candidate, nature, get_block("matrix"), BUDGETS["quick"], seed=0)
    return {trait.name: trait for trait in characterise(setting)}


def test_traits() -> None:
    sgd = _traits(load("torch.optim.SGD", weight_decay=0.1))
    assert {name: trait.answer for name, trait in sgd.items()} == {
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
    relu = _traits(candidates.relu)
    assert [relu[name].answer for name in ("odd", "weight dependence", "descent")] == ["no", "no", "yes"]
    assert _traits(candidates.ascent)["descent"].answer == "no"
    noise = _traits(candidates.noise)
    assert [noise[name].answer for name in ("random", "odd", "couples parameters")] == ["yes", "undecided", "undecided"]
    coupled = _traits(load("torch.optim.SGD"))["couples parameters"]
    assert coupled.answer == "no"
    adafactor = _traits(load("torch.optim.Adafactor"))["state tensors"]
    assert adafactor.data["tensors"] == {"step": "", "row_var": "m x 1", "col_var": "1 x n"}
    assert adafactor.answer == "2"
    muon = _traits(load("torch.optim.Muon"))
    assert (muon["computes in"].answer, muon["homogeneity degree"].data["degree"]) == ("bfloat16", 0)


class _Clipped(candidates.Stateless):
    """One scale for all parameters, from all of their gradients."""

    def step(self, closure: object = None) -> None:
        grads = [param.grad for group in self.param_groups for param in group["params"] if param.grad is not None]
        norm = torch.stack([grad.norm() for grad in grads]).norm()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    param.data.sub_(0.1 * param.grad / norm)


def test_coupling_is_seen() -> None:
    clipped = Candidate("clipped", {}, lambda params: _Clipped(params, lambda grad, weight: grad))
    assert _traits(clipped)["couples parameters"].answer == "yes"


def test_random_rules_stay_undecided() -> None:
    found = _searched(candidates.noise)
    assert found.exit_code == 3
    assert "undecided: every class on every axis: the update is random" in plain_text(found)


def test_the_estimate_contradicts_a_wrong_answer_aloud() -> None:
    found = _row_norm()
    for atom, wrong in (("O(rows)", Verdict.PROVED), ("O(cols)", Verdict.REFUTED)):
        verdicts = {**found.verdicts, atom: wrong}
        lines = disagreements(verdicts, found.estimates)
        assert len(lines) == 1
        assert lines[0].startswith(f"{atom} is {wrong}, but")
        altered = replace(found, verdicts=verdicts, disagreements=tuple(lines))
        assert altered.exit_code == 3
        assert "THE NUMERICAL ESTIMATE DISAGREES" in plain_text(altered)


def test_a_claim_that_is_not_the_largest_group() -> None:
    found = _sgd()
    for claim, expected in (("O(entries)", True), ("O(rows) x O(cols)", False), ("GL(rows)", False)):
        assert replace(found, claimed=claim).meets_claim is expected
    assert replace(found, claimed="O(rows)").exit_code == 1
    heads = replace(found, groups=("Sign(rows)",), excluded=("Perm(rows)",), verdicts={"Sign(rows)": Verdict.SUPPORTED})
    assert replace(heads, claimed="(O wr Perm[2])(rows) x O(cols)").meets_claim is None


def test_with_a_prover_it_is_tight() -> None:
    def decide(spec: str) -> Result:
        verdict = Verdict.PROVED if spec == "O(entries)" else Verdict.REFUTED
        return Result("sgd", {}, "matrix", "equivariance", spec, verdict)

    found = discover(load("torch.optim.SGD"), decide=decide)
    assert found.tight
    said = [text for text, _ in sentences(found)]
    assert said[0] == "largest group: O(entries) (proved)"
    assert said[1].startswith("this is tight: every class outside of it is refuted")


def test_command_writes_json_and_witnesses(tmp_path: Path) -> None:
    path = tmp_path / "out" / "found.json"
    certificates = tmp_path / "certs"
    # Centred row normalisation: what it is, and how it is written down.
    arguments = ["rule:row_norm", "--set", "center_rows=True", "--json", str(path), "--certs", str(certificates)]
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert result.exception is None
    assert result.return_value == 0
    data = json.loads(path.read_text())
    assert data["schema"] == "symcheck.discovery/1"
    (found,) = data["discoveries"]
    assert found["groups"] == found["proved"] == ["Perm(rows) x O(cols)"]
    assert found["tight"] is True
    assert found["estimates"][0]["algebras"]["entries"]["dimension"] == 54
    assert found["traits"]["homogeneity degree"]["data"]["degree"] == 0
    # Proofs, and the refutations that are certified in exact arithmetic.
    assert {file.stem for file in certificates.iterdir()} == {
        name for answer in found["answers"] if (name := answer["evidence"]["certificate"]) is not None
    }
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
    json.dumps(to_dict(_searched(candidates.still)), allow_nan=False)
