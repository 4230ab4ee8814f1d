"""``symcheck.certify``: what is asked, what is kept when a candidate fails, what is claimed of built-in optimizers."""

import os
import sys
import time
from collections.abc import Iterable

import pytest
import torch

import symcheck
from groups import BLOCKS, JOINT_BLOCKS
from symcheck import builtin, registry, testing
from symcheck.errors import UsageError
from symcheck.probe.names import CONTRACTS, ON_REQUEST
from symcheck.result import Verdict
from symcheck.run import Request, run
from tests.symcheck import fake_probe


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_probe.install(monkeypatch)


class Sgd(torch.optim.SGD):
    pass


def failing(action: object) -> type[torch.optim.Optimizer]:
    class Failing(torch.optim.SGD):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            action()  # type: ignore[operator]

    return Failing


def test_the_example_of_the_contract() -> None:
    report = symcheck.certify(Sgd, block="router", lr=0.02)
    assert report["router", "equivariance"].verdict is symcheck.Verdict.SUPPORTED
    assert report["router", "equivariance"].config == {"lr": 0.02}
    report.raise_for_status()


def test_a_survey_asks_every_block_and_contract() -> None:
    report = symcheck.certify(Sgd)
    assert {result.block for result in report.results} == {*BLOCKS, "all"}
    assert {result.property for result in report.results if result.block == "all"} == CONTRACTS.keys() - ON_REQUEST
    assert report.counts["planned"] == len(report.results)


def test_a_block_or_property_or_action_narrows() -> None:
    def asked(**options: object) -> set[tuple[str, str]]:
        return {(r.block, r.property) for r in symcheck.certify(Sgd, **options).results}  # type: ignore[arg-type]

    assert asked(block="embedding") == {("embedding", "equivariance")}
    assert asked(block=["matrix", "embedding"]) == {("matrix", "equivariance"), ("embedding", "equivariance")}
    assert asked(property="horizontality") == {("lm_head", "horizontality"), ("router", "horizontality")}
    assert asked(property="purity") == {("all", "purity")}
    assert len(asked(block="router")) == 5
    assert asked(action="Perm(cols)") == {("matrix", "equivariance")}
    assert asked(action="Perm(cols)", block="router") == {("router", "equivariance")}
    assert asked(action=str(BLOCKS["swiglu"].action)) == {("swiglu", "equivariance")}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"block": "ruoter"}, "unknown block 'ruoter': did you mean 'router'"),
        ({"property": "equivarience"}, "unknown property 'equivarience': did you mean 'equivariance'"),
        ({"dtype": "float63"}, "unknown dtype 'float63'"),
        ({"budget": "cii"}, "unknown budget 'cii': did you mean 'ci'"),
        ({"action": "Prem(rows)"}, "--action"),
        ({"action": str(BLOCKS["swiglu"].action), "block": "router"}, "on block 'router'"),
        ({"block": "matrix", "property": "horizontality"}, "shift"),
    ],
)
def test_an_unknown_name_is_one_line(options: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        symcheck.certify(Sgd, **options)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("thing", [3, "AdamW", int, torch.nn.Linear])
def test_what_is_not_an_optimizer_is_one_line(thing: object) -> None:
    with pytest.raises(UsageError, match=r"optimizer|target"):
        symcheck.certify(thing, block="router")


@pytest.mark.parametrize(
    ("action", "words", "limit"),
    [
        (lambda: 1 / 0, "ZeroDivisionError", None),
        (lambda: sys.exit(3), "sys.exit(3)", None),
        (lambda: os._exit(0), "exit code 0", None),
        (lambda: time.sleep(60), "time limit of 1 s", 1.0),
    ],
)
def test_a_fault_of_the_candidate_is_a_verdict(action: object, words: str, limit: float | None) -> None:
    report = symcheck.certify(failing(action), block=["matrix", "router"], time_limit=limit)
    assert report.counts["error"] == report.counts["planned"] == 6
    assert all(words in result.reason and "\n" not in result.reason for result in report.results)
    assert report.exit_code == 3


def test_answers_before_a_crash_are_kept() -> None:
    steps = iter(range(100))
    report = symcheck.certify(failing(lambda: os._exit(1) if next(steps) == 2 else None), block=["matrix", "router"])
    assert [result.verdict.value for result in report.results] == ["supported"] * 2 + ["error"] * 4


def test_a_constructor_that_raises_is_a_verdict_with_the_remedy() -> None:
    class Picky(torch.optim.SGD):
        def __init__(self, params: Iterable[torch.nn.Parameter], lr: float, kind: str) -> None:
            super().__init__(params, lr=lr)

    report = symcheck.certify(Picky, block="matrix")
    assert report["matrix", "equivariance"].verdict is Verdict.ERROR
    assert "'kind'" in report["matrix", "equivariance"].reason
    assert "--set" in report["matrix", "equivariance"].reason
    assert report.exit_code == 3


def test_an_error_of_ours_is_not_the_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AssertionError("our mistake")

    monkeypatch.setattr("symcheck.decide.decide", broken)
    report = symcheck.certify(Sgd, block="matrix")
    assert report.exit_code == 4
    assert "our mistake" in report.failures[0]
    assert report.counts["planned"] == report.counts["error"] == 1


def test_claims_are_attached_and_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", {})
    fake_probe.install(monkeypatch, {("matrix", "equivariance"): Verdict.REFUTED})
    info = symcheck.OptimizerInfo(make=lambda p: Sgd(p, lr=1.0), blocks=["matrix"], claims={"matrix": "proved"})
    symcheck.register("acme:sgd")(lambda: info)
    report = symcheck.certify("acme:sgd")
    assert [result.block for result in report.contradicted] == ["matrix"]
    assert report.exit_code == 1
    with pytest.raises(symcheck.CertificationError, match="claimed: proved"):
        report.raise_for_status()


def test_a_claim_is_about_the_blocks_own_action() -> None:
    assert symcheck.certify("torch.optim.AdamW", block="embedding").results[0].expected == "refuted"
    assert symcheck.certify("torch.optim.AdamW", block="embedding", action="Perm(rows)").results[0].expected is None


def test_assert_equivariant(monkeypatch: pytest.MonkeyPatch) -> None:
    symcheck.assert_equivariant(Sgd, block="embedding", lr=0.1)
    fake_probe.install(monkeypatch, {("embedding", "equivariance"): Verdict.REFUTED})
    with pytest.raises(AssertionError, match="embedding equivariance: refuted"):
        symcheck.assert_equivariant(Sgd, block="embedding")
    fake_probe.install(monkeypatch, default=Verdict.VACUOUS)
    with pytest.raises(AssertionError, match="vacuous"):
        symcheck.assert_equivariant(Sgd, block="embedding")


def test_one_test_per_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", {})
    claims = {"matrix": "supported", "purity": "supported", "router/horizontality": "refuted"}
    info = symcheck.OptimizerInfo(make=lambda p: Sgd(p, lr=1.0), blocks=["matrix", "router"], claims=claims)
    symcheck.register("acme:sgd")(lambda: info)
    checks = testing.claim_checks("acme:sgd", budget="quick")
    assert [str(check) for check in checks] == [
        "acme:sgd[]-matrix-equivariance",
        "acme:sgd[]-all-purity",
        "acme:sgd[]-router-horizontality",
    ]
    checks[0]()
    checks[1]()
    with pytest.raises(AssertionError, match=r"supported \(claimed: refuted"):
        checks[2]()

    @testing.parametrize_with_claims("acme:sgd")
    def test(check: testing.ClaimCheck) -> None:
        check()

    (mark,) = test.pytestmark  # type: ignore[attr-defined]
    assert (mark.args[0], len(mark.args[1])) == ("check", 3)
    with pytest.raises(UsageError, match="no claim"):
        testing.claim_checks(Sgd)


def test_ctrl_c_keeps_what_is_known() -> None:
    class Slow(torch.optim.SGD):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            time.sleep(60)

    def interrupt(**_: object) -> None:
        raise KeyboardInterrupt

    request = Request(blocks=("matrix", "embedding"))
    report = run((Sgd, Slow), {}, request, listener=interrupt)  # type: ignore[arg-type]
    assert report.counts["planned"] == 4
    assert [result.verdict.value for result in report.results] == ["supported"] * 2 + ["declined"] * 2
    assert report.results[-1].reason == "interrupted before it was answered"
    assert report.exit_code == 3


# -- what is claimed of the built-in optimizers ------------------------------------------------------------------


def compatible(symmetry: str) -> set[str]:
    return {block for block in BLOCKS if builtin.contains(symmetry, block)}


@pytest.mark.parametrize(
    ("symmetry", "blocks"),
    [
        ("O(entries)", set(BLOCKS)),
        ("O(rows) x O(cols)", set(BLOCKS)),
        (
            "SPerm(rows) x O(cols)",
            {"embedding", "lm_head", "swiglu_gate", "swiglu_up", "router", "experts", "coordinate"},
        ),
        ("SPerm(entries)", {"coordinate"}),
        ("SPerm(rows) x SPerm(cols)", {"coordinate"}),
    ],
)
def test_the_table_follows_from_the_groups(symmetry: str, blocks: set[str]) -> None:
    """Section 3 of the theory: Muon is compatible with every row; the coordinate-wise rules with none but their own."""
    assert compatible(symmetry) == blocks


def claimed(name: str, **settings: object) -> dict[str, str]:
    claim = builtin.torch_claim(name, settings)
    assert claim is not None
    return {name: answer.verdict.value for (block, name), answer in claim.expectations.items() if block == "lm_head"}


def test_decay_breaks_the_shift_but_not_its_quotient_when_it_is_decoupled() -> None:
    assert claimed("AdamW")["shift_equivariance"] == "refuted"
    assert claimed("AdamW")["shift_quotient"] == "proved"
    assert claimed("AdamW", weight_decay=0.0)["shift_equivariance"] == "proved"
    assert claimed("Adam", weight_decay=0.1)["shift_quotient"] == "refuted"
    assert claimed("Adam", weight_decay=0.1, decoupled_weight_decay=True)["shift_quotient"] == "proved"
    assert claimed("SGD", weight_decay=0.1)["shift_quotient"] == "proved"
    assert claimed("Adafactor")["shift_quotient"] == "refuted"


def test_linear_and_spectral_rules_move_horizontally_unless_they_decay() -> None:
    assert claimed("SGD")["horizontality"] == "proved"
    assert claimed("SGD", weight_decay=0.1)["horizontality"] == "refuted"
    assert claimed("Muon")["horizontality"] == "refuted"
    assert claimed("Muon", weight_decay=0.0)["horizontality"] == "proved"
    assert claimed("AdamW", weight_decay=0.0)["horizontality"] == "refuted"


def test_every_optimizer_of_torch_has_been_analysed() -> None:
    assert set(builtin.torch_names()) == set(builtin.TORCH_OPTIM)


def test_every_claim_has_a_question_and_every_refusal_a_reason() -> None:
    from symcheck.probe.names import plan

    questions = {(question.block, question.property) for question in plan((*BLOCKS, *JOINT_BLOCKS))}
    for target in builtin.builtin_targets():
        assert target.claim is not None
        assert set(target.claim.expectations) <= questions
        for expectation in target.claim.expectations.values():
            assert expectation.reason or expectation.verdict in (Verdict.PROVED, Verdict.SUPPORTED)


def test_a_newer_optimizer_of_torch_is_certified_without_claims() -> None:
    assert builtin.torch_claim("NotYetWritten", {}) is None
