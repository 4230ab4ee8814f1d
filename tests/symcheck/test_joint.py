"""Joint blocks on the way from a target to a verdict: what is proved, what is refuted, and what is asked of whom."""

from __future__ import annotations

import pytest

from groups import BLOCKS, JOINT_BLOCKS, get_block, parse_action
from symcheck import builtin
from symcheck.decide import decide
from symcheck.errors import UsageError
from symcheck.kernel.check import check
from symcheck.kernel.document import Reject
from symcheck.kernel.refutation import check_refutation
from symcheck.probe.names import ALL, Budget, Question
from symcheck.prove.claims import equivariance_claim
from symcheck.prove.errors import NoProof
from symcheck.prove.workshop import Workshop
from symcheck.result import Verdict
from symcheck.run import Request, resolve_one

ROPE = "query: A(rows); key: A(rows) where A = (U1[half] wr 1[2])"
VALUES = "value: B(rows); output: B(cols) where B = (O wr 1[2])"
GROUPED = "value: H/2(rows); output: H(cols) where H = ((1[2] x O) wr 1[2])"
STREAM = "embedding: c(all); output: c(all); down: c(all) where c = Scale+"


SMALL = Budget(shapes=2, elements=1, steps=3, long=6, examples=0)


def few_shapes(block):
    shapes = get_block(block).shapes
    return (shapes[0], *shapes[2:4])


def answer(target, settings, block):
    (found,) = resolve_one(target, settings)
    question = Question(block, "equivariance", str(get_block(block).action), few_shapes(block))
    (result,) = decide(found.load(), [question], budget="quick", dtypes=["float64"], seed=0)
    return result, found.claim.expectation(block, "equivariance")


@pytest.mark.parametrize(
    ("target", "settings", "block"),
    [
        ("rule:ddc_rescaling", {}, "swiglu_scaling"),
        ("rule:ddc_rescaling", {"base": "muon"}, "swiglu_scaling"),
        ("rule:ddc_scale", {}, "norm_scale"),
        ("rule:ddc_scale", {"gauge": STREAM, "base": "muon"}, "stream_scale"),
        ("rule:ddc_rotation", {"gauge": VALUES}, "value_output_rotation"),
        ("rule:ddc_rotation", {"gauge": ROPE, "base": "muon"}, "query_key_rope"),
        ("rule:ddc_rotation", {"gauge": GROUPED}, "grouped_value_output"),
        ("torch.optim.AdamW", {}, "residual_sign"),
        ("torch.optim.AdamW", {}, "grouped_heads"),
    ],
)
def test_proved(target, settings, block):
    """By the prover alone; that the search agrees is tested of one of them, and of all by ``symcheck certify``."""
    (found,) = resolve_one(target, settings)
    workshop = Workshop(found.load(), SMALL, seed=0)
    proved = workshop.prove("equivariance", get_block(block).action, few_shapes(block))
    assert not proved.conditions
    assert all(check(document).statement for document in proved.document["certificates"])
    assert found.claim.expectation(block, "equivariance").met_by(Verdict.PROVED)


def test_search_and_proof_agree():
    result, expected = answer("rule:ddc_rescaling", {"horizontal": True, "weight_decay": 0.1}, "swiglu_scaling")
    assert result.verdict is Verdict.PROVED, result.reason
    assert expected.met_by(result.verdict)
    assert result.evidence.defect < 1e-12


@pytest.mark.parametrize(
    ("target", "block"),
    [
        ("torch.optim.SGD", "relu_scaling"),
        ("torch.optim.AdamW", "relu_scaling"),
        ("torch.optim.Muon", "swiglu_scaling"),
        ("rule:row_norm", "swiglu_scaling"),
    ],
)
def test_refuted_by_a_small_witness_that_the_kernel_evaluates(target, block):
    """Sections A to D of the rules have none of the stretches, and Adam no rotations."""
    result, expected = answer(target, {}, block)
    assert result.verdict is Verdict.REFUTED
    assert expected.verdict is Verdict.REFUTED
    assert result.evidence.defect > 0.1
    assert sum(rows * cols for rows, cols in result.evidence.shapes) <= 20
    check_refutation(result.evidence.certificate)


@pytest.mark.parametrize(
    ("target", "settings", "block"),
    [
        ("torch.optim.Muon", {}, "swiglu_whole"),
        ("torch.optim.AdamW", {}, "value_output_rotation"),
        ("rule:ddc_rotation", {"gauge": VALUES}, "value_output_linear"),
    ],
)
def test_refuted(target, settings, block):
    result, expected = answer(target, settings, block)
    assert result.verdict is Verdict.REFUTED
    assert expected.verdict is Verdict.REFUTED


def test_supported_where_no_law_reaches():
    gauge = "gate: 1; up: D(rows); down: D*(cols) where D = Scale"
    result, expected = answer("rule:ddc_rescaling", {"gauge": gauge, "base": "muon"}, "swiglu_whole")
    assert result.verdict is Verdict.SUPPORTED
    assert expected.met_by(result.verdict)
    assert "image" in result.reason


def test_no_claim_is_written_for_what_no_law_describes():
    shapes = {name: block.shapes[3] for name, block in JOINT_BLOCKS.items()}
    for name in ("grouped_query_key", "residual_sign", "swiglu_whole", "value_output_linear"):
        with pytest.raises(NoProof):
            equivariance_claim(JOINT_BLOCKS[name].action, shapes[name])
    with pytest.raises(NoProof, match="of whole tensors and of axes"):
        equivariance_claim(parse_action("a: c(all); b: c(rows) where c = Scale"), ((2, 2), (1, 2)))


def test_a_factor_on_all_of_a_tensor_is_a_character_and_not_forgotten():
    """A claim that dropped the factor would be a proof of something else."""
    claim = equivariance_claim(parse_action("a: c(all); b: 1; d: c*(all) where c = Scale"), ((2, 2),) * 3).claim
    assert claim["characters"] == {
        "weight:0": [["c", 1, "1"]],
        "grad:0": [["c", 1, "-1"]],
        "weight:2": [["c", 1, "-1"]],
        "grad:2": [["c", 1, "1"]],
    }
    claim = equivariance_claim(parse_action("Scale(all) x O(rows)"), ((3, 2),)).claim
    assert claim["characters"] == {"weight:0": [["all", 1, "1"]], "grad:0": [["all", 1, "-1"]]}
    assert {row["name"]: (row["class"], row["axes"]) for row in claim["variables"]} == {
        "all": ("scale", 0),
        "rows": ("orth", 1),
    }


def test_joint_blocks_are_asked_about_by_name_only():
    plain = [target for target in builtin.builtin_targets() if target.blocks is None]
    joint = [target for target in builtin.builtin_targets() if target.blocks is not None]
    assert plain
    assert {target.name for target in joint} == {"rule:ddc_rescaling", "rule:ddc_scale", "rule:ddc_rotation"}
    for target in joint:
        assert set(target.blocks) <= JOINT_BLOCKS.keys()
        assert {block for block, _ in target.claim.expectations} == {*target.blocks, ALL}
    assert not JOINT_BLOCKS.keys() & BLOCKS.keys()
    assert Request(blocks=("relu_scaling",)).narrow


@pytest.mark.parametrize(
    ("symmetry", "block", "held"),
    [
        *(("O(rows) x O(cols)", "moe", True), ("SPerm(entries)", "moe", False), ("SPerm(entries)", "heads", True)),
        *(("O(entries)", "grouped_query_key", True), ("SPerm(entries)", "grouped_query_key", False)),
        *(("O(entries)", "relu_scaling", False), ("O(entries)", "norm_scale", False)),
        *(("SPerm(entries)", "residual_sign", True), ("Perm(rows) x SPerm(cols)", "residual_sign", False)),
        ("O(rows) x O(cols)", "query_key_rope", True),
    ],
)
def test_what_a_group_of_single_matrices_contains(symmetry, block, held):
    assert builtin.contains(symmetry, block) is held


def test_optimizers_that_see_their_weights_are_not_claimed_to_break_a_stretch():
    adafactor = builtin.torch_claim("Adafactor", {})
    assert adafactor.expectation("norm_scale", "equivariance") is None
    assert adafactor.expectation("moe", "equivariance").verdict is Verdict.REFUTED
    assert builtin.torch_claim("AdamW", {}).expectation("norm_scale", "equivariance").verdict is Verdict.REFUTED


def test_a_bad_joint_target_is_a_usage_error():
    with pytest.raises(UsageError, match="base must be one of adam, muon"):
        builtin.rule_target("ddc_rescaling", {"base": "lion"})
    with pytest.raises(UsageError, match="no hyper-parameter 'heads'"):
        builtin.rule_target("ddc_rotation", {"heads": 2})


def test_a_tampered_certificate_of_a_stretch_is_rejected():
    (found,) = resolve_one("rule:ddc_rescaling", {})
    block = get_block("relu_scaling")
    proved = Workshop(found.load(), SMALL, seed=0).prove("equivariance", block.action, few_shapes(block.name))
    document = proved.document["certificates"][0]
    check(document)
    document["claim"]["variables"][0]["class"] = "orth"
    with pytest.raises(Reject):
        check(document)
