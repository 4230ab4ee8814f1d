"""Verdicts on real optimizers, and the witnesses behind the refutations."""

from __future__ import annotations

import copy
import subprocess
import sys
from fractions import Fraction
from typing import Any

import pytest
import torch

import symcheck
from groups import BLOCKS, get_block
from symcheck.probe import plan, probe, replay, repro_script
from symcheck.probe.measure import LEAST_FLOOR, MARGIN
from symcheck.result import Result, Status, Verdict
from symcheck.selftest.optimizer import FromUpdate
from symcheck.target import Candidate

ADAMW = Candidate("torch.optim.AdamW", {"lr": 0.1}, lambda params: torch.optim.AdamW(params, lr=0.1))
MUON = Candidate("torch.optim.Muon", {"lr": 0.1}, lambda params: torch.optim.Muon(params, lr=0.1))


def _ask(candidate: Candidate, block: str, prop: str = "equivariance", action: str | None = None) -> Result:
    (result,) = probe(candidate, plan([block], [prop], action), budget="quick", dtypes=["float64"], seed=0)
    return result


def _fractions(data: Any) -> list[Fraction]:
    return [f for item in data for f in _fractions(item)] if isinstance(data, list) else [Fraction(data)]


def _witness(result: Result) -> dict[str, Any]:
    assert isinstance(result.evidence.witness, dict)
    return result.evidence.witness


def test_adamw_is_refuted_on_embeddings_by_a_textbook_example() -> None:
    result = _ask(ADAMW, "embedding")
    assert result.verdict is Verdict.REFUTED
    witness = _witness(result)
    assert all(extent <= 2 for shape in result.evidence.shapes for extent in shape)
    entries = _fractions(witness["weights"]) + _fractions(witness["grads"])
    assert all(abs(entry.numerator) <= 100 and entry.denominator <= 25 for entry in entries)
    assert witness["exact"]
    assert replay(ADAMW, witness).confirmed


@pytest.mark.parametrize("block", [name for name in BLOCKS if name != "experts"])
def test_muon_is_refuted_on_no_block(block: str) -> None:
    result = _ask(MUON, block)
    assert result.verdict is Verdict.SUPPORTED
    numeric = result.numeric["float64"]
    assert numeric.casts == ("bfloat16",)
    if block not in ("coordinate",):
        assert numeric.status is Status.UNSTABLE
        assert numeric.relative_error is not None
        assert numeric.relative_error > 1e-3


def test_a_block_that_the_constructor_refuses_is_declined() -> None:
    result = _ask(MUON, "experts")
    assert result.verdict is Verdict.DECLINED
    assert "2D" in result.reason


@pytest.mark.parametrize(
    ("prop", "expected"),
    [
        ("shift_equivariance", Verdict.REFUTED),
        ("shift_quotient", Verdict.SUPPORTED),
        ("shift_insensitivity", Verdict.REFUTED),
        ("horizontality", Verdict.REFUTED),
    ],
)
def test_decay_moves_a_shift_but_not_its_quotient(prop: str, expected: Verdict) -> None:
    assert _ask(MUON, "lm_head", prop).verdict is expected


def test_every_refutation_stands_far_above_its_floor_and_replays() -> None:
    for prop in ("equivariance", "shift_equivariance", "shift_insensitivity", "horizontality"):
        result = _ask(ADAMW, "router", prop)
        assert result.verdict is Verdict.REFUTED
        assert result.evidence.defect is not None
        assert result.evidence.noise_floor is not None
        assert result.evidence.noise_floor >= LEAST_FLOOR
        assert result.evidence.defect > MARGIN * result.evidence.noise_floor
        assert replay(ADAMW, _witness(result)).confirmed


def test_a_witness_against_another_optimizer_is_not_confirmed() -> None:
    witness = _witness(_ask(ADAMW, "embedding"))
    sgd = Candidate("torch.optim.SGD", {}, lambda params: torch.optim.SGD(params, lr=0.1))
    outcome = replay(sgd, witness)
    assert not outcome.confirmed
    assert outcome.defect < 1e-12


def test_a_witness_with_the_identity_as_element_is_not_confirmed() -> None:
    witness = copy.deepcopy(_witness(_ask(ADAMW, "embedding")))
    element = BLOCKS["embedding"].action.identity(((1, 2),))
    witness["transformation"] = {"element": element.to_json()}
    assert not replay(ADAMW, witness).confirmed


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("schema", "other/1", "schema"),
        ("grads", [[[["one half"]]]], "damaged|Invalid"),
        ("weights", None, "damaged"),
        ("step", 7, "step 7"),
        ("action", "Perm(rows", "rows"),
    ],
)
def test_a_damaged_witness_is_one_clear_error(key: str, value: object, message: str) -> None:
    witness = {**_witness(_ask(ADAMW, "embedding")), key: value}
    with pytest.raises(ValueError, match=message) as caught:
        replay(ADAMW, witness)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("block", "prop"),
    [
        ("embedding", "equivariance"),
        ("swiglu", "equivariance"),
        ("experts", "equivariance"),
        ("router", "horizontality"),
    ]
    + [("lm_head", name) for name in ("shift_equivariance", "shift_insensitivity")],
)
def test_the_repro_script_runs_and_shows_both_sides(block: str, prop: str) -> None:
    result = _ask(ADAMW, block, prop)
    script = repro_script(_witness(result))
    assert "symcheck" not in script
    compile(script, "repro.py", "exec")
    lines = [line for line in script.splitlines() if line.strip().startswith(("import", "from"))]
    assert all("torch" in line for line in lines)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    difference = max(float(line.split(":")[1]) for line in done.stdout.splitlines() if "difference" in line)
    assert difference > 1e-5  # the smallest is a decay of 1e-2 times lr = 0.1 on entries of size one
    assert result.conditions == ()


def test_a_gauge_dependence_is_refuted_on_tall_and_supported_on_square_weights() -> None:
    from symcheck.selftest.mutants import MUTANTS

    soap = next(mutant for mutant in MUTANTS if mutant.name == "adam_in_an_eigenbasis")
    candidate = Candidate("soap", {}, soap.make)
    result = _ask(candidate, "matrix")
    assert result.verdict is Verdict.REFUTED
    assert "eigenvectors" in result.reason
    rows, cols = result.evidence.shapes[0]
    assert rows != cols
    assert replay(candidate, _witness(result)).confirmed


def test_an_update_that_rounding_decides_is_declined() -> None:
    def noise(grad: torch.Tensor, state: dict[str, Any], weight: torch.Tensor) -> torch.Tensor:
        centred = grad - grad.mean(-2, keepdim=True)
        return -0.1 * centred.mean(-2, keepdim=True).expand_as(grad).sign()  # the sign of an exact zero

    result = _ask(Candidate("noise", {}, lambda params: FromUpdate(params, noise)), "embedding")
    assert result.verdict in (Verdict.DECLINED, Verdict.VACUOUS)


def test_another_action_can_be_asked_for() -> None:
    assert _ask(ADAMW, "matrix", action="SPerm(entries)").verdict is Verdict.SUPPORTED
    assert _ask(ADAMW, "matrix", action="O(entries)").verdict is Verdict.REFUTED
    result = _ask(ADAMW, "matrix", action="Scale(rows)")
    assert result.verdict is Verdict.REFUTED


def test_closures_and_sparse_gradients_are_declined_in_words() -> None:
    lbfgs = Candidate("lbfgs", {}, lambda params: torch.optim.LBFGS(params))
    sparse = Candidate("sparse", {}, lambda params: torch.optim.SparseAdam(params))
    for candidate, word in ((lbfgs, "closure"), (sparse, "sparse")):
        result = _ask(candidate, "embedding")
        assert result.verdict is Verdict.DECLINED
        assert word in result.reason


def test_one_result_for_each_question_in_order() -> None:
    questions = plan(["lm_head", "coordinate"])
    results = list(probe(ADAMW, questions, budget="quick", dtypes=["float64"], seed=0))
    assert [(r.block, r.property) for r in results] == [(q.block, q.property) for q in questions]


@pytest.mark.parametrize(
    ("blocks", "properties", "action", "message"),
    [
        (["nowhere"], None, None, "unknown block"),
        (["matrix"], ["beauty"], None, "unknown property"),
        (["matrix"], ["horizontality"], None, "needs a block with a shift"),
        (["matrix"], None, "O(rows", "O\\(rows"),
    ],
)
def test_a_plan_that_makes_no_sense_is_one_line(blocks, properties, action, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        plan(blocks, properties, action)
    assert "\n" not in str(caught.value)


def test_shapes_that_do_not_fit_an_action_are_declined() -> None:
    result = _ask(ADAMW, "matrix", action="U1[half](rows)")
    assert result.verdict in (Verdict.REFUTED, Verdict.SUPPORTED)
    assert all(shape[-2] % 2 == 0 for shape in result.evidence.shapes)
    assert get_block("matrix").shapes


def _from(update: Any) -> Candidate:
    return Candidate("test", {}, lambda params: FromUpdate(params, update))


@pytest.mark.parametrize("prop", ["equivariance", "horizontality", "shift_insensitivity"])
def test_nan_and_zero_updates_are_vacuous_for_every_property(prop: str) -> None:
    assert _ask(_from(lambda g, s, w: g * float("nan")), "router", prop).verdict is Verdict.VACUOUS
    assert _ask(_from(lambda g, s, w: 0 * g), "router", prop).verdict is Verdict.VACUOUS


def test_a_warm_up_on_opposite_rows_does_not_hide_a_vertical_motion() -> None:
    radam = Candidate("torch.optim.RAdam", {}, lambda params: torch.optim.RAdam(params, lr=0.1))
    assert _ask(radam, "lm_head", "horizontality").verdict is Verdict.REFUTED


def test_a_contract_witness_replays_and_has_no_script() -> None:
    def overwrites(grad: torch.Tensor, state: dict[str, Any], weight: torch.Tensor) -> torch.Tensor:
        return -0.1 * grad.mul_(0.5)

    guilty, innocent = _from(overwrites), _from(lambda g, s, w: -0.1 * g)
    (result,) = probe(guilty, plan([], ["purity"]), budget="quick", dtypes=["float64"], seed=0)
    witness = _witness(result)
    assert replay(guilty, witness).confirmed
    assert not replay(innocent, witness).confirmed
    with pytest.raises(ValueError, match="replay"):
        repro_script(witness)


def test_shrinking_survives_a_condition_that_stops_agreeing_with_itself() -> None:
    import random

    from symcheck.probe.generate import shrink
    from symcheck.probe.relation import Property

    question = Property("equivariance", BLOCKS["embedding"].action, centred=False)
    calls = iter(range(10_000))
    found = shrink(question, [((2, 2),)], 2, lambda inputs, relation: next(calls) < 12, random.Random(0))
    assert found is not None
    assert shrink(question, [((2, 2),)], 2, lambda inputs, relation: False, random.Random(0)) is None


def test_equivariance_error_measures_and_does_not_judge() -> None:
    from symcheck import equivariance_error

    weight = torch.arange(12, dtype=torch.float64).reshape(4, 3)
    grads = [weight.cos(), weight.sin()]
    sgd = equivariance_error(lambda p: torch.optim.SGD(p, lr=0.1), "O(rows) x O(cols)", W=weight, grads=grads)
    adam = equivariance_error(lambda p: torch.optim.Adam(p, lr=0.1), "O(rows) x O(cols)", W=weight, grads=grads)
    assert 0 < sgd < 1e-13
    assert adam > 0.1
    nan = equivariance_error(
        lambda p: FromUpdate(p, lambda g, s, w: g * float("nan")), "O(cols)", W=weight, grads=grads
    )
    assert nan == float("inf")
    with pytest.raises(ValueError, match="finite"):
        equivariance_error(lambda p: torch.optim.SGD(p), "O(cols)", W=weight, grads=[weight / 0])
    with pytest.raises(ValueError, match="U1"):
        equivariance_error(lambda p: torch.optim.SGD(p), "U1[half](cols)", W=weight, grads=grads)


def test_a_step_that_stumbles_over_an_idle_parameter_is_an_error_of_purity_and_no_refusal_of_a_shape() -> None:
    class NeedsAllGradients(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for group in self.param_groups:
                for param in group["params"]:
                    param.data.add_(param.grad, alpha=-0.1)

    candidate = Candidate("greedy", {}, lambda params: NeedsAllGradients(params, lr=0.1))
    (result,) = probe(candidate, plan([], ["purity"]), budget="quick", dtypes=["float64"], seed=0)
    assert result.verdict is Verdict.ERROR
    assert "shape" not in result.reason
    assert _ask(candidate, "embedding").verdict is Verdict.SUPPORTED


def test_the_script_of_a_reference_rule_runs(capsys: pytest.CaptureFixture[str]) -> None:
    report = symcheck.certify("rule:signsgd", block="embedding", property="equivariance")
    witness = report["embedding", "equivariance"].evidence.witness
    assert isinstance(witness, dict)
    exec(compile(repro_script(witness), "repro.py", "exec"), {})
    assert float(capsys.readouterr().out.split()[-1]) > 0.01
