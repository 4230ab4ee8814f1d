"""Counterexamples that become refutations of the kernel, and those that must not."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groups import BLOCKS, get_block, parse_action
from reference import get_rule
from reference.optimizers import from_rule
from symcheck.decide import decide
from symcheck.kernel.__main__ import verify
from symcheck.kernel.document import Decline, Reject
from symcheck.kernel.element import act, read_labels, read_variables
from symcheck.probe import plan
from symcheck.probe.measure import compare
from symcheck.probe.relation import Equivariance, Property, Relation
from symcheck.probe.strata import draw_inputs
from symcheck.probe.witness import describe, rationals
from symcheck.prove.claims import equivariance_claim
from symcheck.prove.errors import NoProof
from symcheck.prove.refute import _EXACT, _element, build, refutation
from symcheck.report import Report
from symcheck.result import Verdict
from symcheck.target import Candidate

Update = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
SHIFTS = ("shift_equivariance", "shift_quotient", "shift_insensitivity", "horizontality")


def stepping(update: Update) -> Candidate:
    """A candidate that adds ``-0.1 update(grad, weight)`` to every parameter."""

    class Stepping(torch.optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {})

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(update(p.grad, p), alpha=-0.1)

    return Candidate("test", {}, Stepping)


def torch_optimizer(name: str, **settings: Any) -> Candidate:
    return Candidate(name, settings, lambda params: getattr(torch.optim, name)(params, **settings))


def rule(name: str, **settings: Any) -> Candidate:
    return Candidate(name, settings, from_rule(get_rule(name, **settings)))


SIGN = stepping(lambda g, w: g.sign())


def flat(rows: list[list[str]]) -> list[str]:
    return [entry for row in rows for entry in row]


def shown(
    candidate: Candidate,
    block: str,
    shapes: tuple[tuple[int, ...], ...],
    name: str = "equivariance",
    action: str | None = None,
    steps: int = 2,
    relations: tuple[Relation, ...] = (),
    stratum: str = "generic",
) -> dict[str, Any]:
    """The witness of the largest defect among some small exact transformations."""
    spec = get_block(block)
    centred = spec.centred_gradients or name == "horizontality"
    question = Property(name, spec.action if action is None else parse_action(action), centred)
    inputs = draw_inputs(stratum, shapes, steps, centre=centred, seed=1)
    trials = [compare(candidate, inputs, r, _EXACT) for r in relations or question.small(shapes)]
    defect, number = max(
        ((defect, k) for k, trial in enumerate(trials) for defect in trial.defects()), key=lambda pair: pair[0].value
    )
    about: dict[str, Any] = {"promoted": True, "unseen": 0.0, "gauge": False, "seed": 0}
    return describe(candidate, {}, block, question, trials[number], defect, **about)


CASES: dict[str, tuple[Candidate, str, tuple[tuple[int, ...], ...], str, str | None]] = {
    "adamw-rotated": (torch_optimizer("AdamW", lr=0.1), "embedding", ((2, 3),), "equivariance", None),
    "adamw-one-row": (torch_optimizer("AdamW", lr=0.1), "embedding", ((1, 2),), "equivariance", None),
    "adamw-foreach": (torch_optimizer("AdamW", lr=0.1, foreach=True), "matrix", ((2, 2),), "equivariance", None),
    "row-norm": (rule("row_norm", lr=0.1), "matrix", ((2, 3),), "equivariance", "O(rows)"),
    "sign": (SIGN, "matrix", ((3, 2),), "equivariance", None),
    "sign-any-entries": (SIGN, "matrix", ((1, 4),), "equivariance", "O(entries)"),
    "adafactor": (torch_optimizer("Adafactor", lr=0.1), "lm_head", ((3, 2),), "horizontality", None),
    "clipped": (stepping(lambda g, w: g.clamp(-0.1, 0.1)), "embedding", ((2, 2),), "equivariance", None),
    "centred": (SIGN, "lm_head", ((3, 2),), "equivariance", None),
    "joint": (SIGN, "swiglu", ((2, 3), (2, 3), (3, 2)), "equivariance", None),
    "experts": (SIGN, "experts", ((2, 2, 2),), "equivariance", None),
    "heads": (SIGN, "attention_qkv", ((4, 2),), "equivariance", None),
    "heads-on-columns": (SIGN, "attention_o", ((2, 4),), "equivariance", None),
    "heads-of-one": (SIGN, "attention_qkv", ((2, 2),), "equivariance", None),
    "scaled": (torch_optimizer("SGD", lr=0.1), "matrix", ((2, 2),), "equivariance", "Scale+(rows)"),
    "decay-shifted": (torch_optimizer("AdamW", lr=0.1), "lm_head", ((3, 2),), "shift_equivariance", None),
    "quotient": (stepping(lambda g, w: w * w), "router", ((3, 2),), "shift_quotient", None),
    "insensitive": (SIGN, "router", ((3, 2),), "shift_insensitivity", None),
    "horizontal": (SIGN, "lm_head", ((3, 2),), "horizontality", None),
}


def document(name: str) -> tuple[dict[str, Any], bool]:
    candidate, block, shapes, prop, action = CASES[name]
    centred = get_block(block).centred_gradients or prop == "horizontality"
    return build(candidate, shown(candidate, block, shapes, prop, action), centred=centred), centred


@pytest.mark.parametrize("name", CASES)
def test_a_counterexample_becomes_a_refutation_that_the_kernel_accepts(name: str) -> None:
    found, centred = document(name)
    accepted = verify(json.dumps(found))
    assert accepted.statement.startswith(CASES[name][3])
    assert " is false: entry " in accepted.statement
    assert bool(accepted.conditions) == centred == found["claim"]["centred"]


@pytest.mark.parametrize(
    ("candidate", "name", "action"),
    [
        (torch_optimizer("AdamW", lr=0.1), "equivariance", "SPerm(entries)"),
        (rule("row_norm", lr=0.1), "equivariance", "SPerm(rows) x O(cols)"),
        (torch_optimizer("SGD", lr=0.1, momentum=0.9), "equivariance", "O(entries)"),
        (SIGN, "shift_equivariance", "Perm(rows) x O(cols) + Shift(rows)"),
        (stepping(lambda g, w: g - g.mean(0)), "shift_insensitivity", "Perm(rows) x O(cols) + Shift(rows)"),
        (stepping(lambda g, w: g), "horizontality", "Perm(rows) x O(cols) + Shift(rows)"),
    ],
)
def test_what_holds_is_not_refuted_whatever_the_witness_says(candidate: Candidate, name: str, action: str) -> None:
    witness = shown(candidate, "matrix", ((3, 2),), name, action)
    with pytest.raises(NoProof, match="kernel did not accept"):
        build(candidate, witness, centred=name == "horizontality")


def _branch(g: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return g.sign() if float(g[0, 0]) > float(g[0, 1]) else g


def _noise(g: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return g + torch.randn_like(g)


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        (_branch, "same path|leaks"),
        (_noise, "operation 'random'"),
        (lambda g, w: g.tanh(), "map tanh"),
        (lambda g, w: g.sign() * float(g.abs().sum()), "same path|leaks"),
        (lambda g, w: g.sign() @ torch.linalg.eigh(g.mT @ g)[1].abs(), "eigh"),
    ],
    ids=["branch", "random", "tanh", "leak", "eigh"],
)
def test_what_the_kernel_cannot_know_is_no_refutation(update: Update, reason: str) -> None:
    candidate = stepping(update)
    witness = shown(candidate, "matrix", ((2, 2),))
    assert refutation(candidate, witness, centred=False) is None
    with pytest.raises(NoProof, match=reason):
        build(candidate, witness, centred=False)


def test_the_root_that_adafactor_takes_out_of_torch_is_no_rational_number() -> None:
    candidate = torch_optimizer("Adafactor", lr=0.1)
    with pytest.raises(NoProof, match=r"leaks|same path"):
        build(candidate, shown(candidate, "matrix", ((2, 2),)), centred=False)


def test_an_invariant_that_leaks_exactly_is_no_obstacle() -> None:
    candidate = stepping(lambda g, w: g.sign() * (2.0 if float((g * g).sum()) > 0 else 1.0))
    # The sum of squares of dyadic numbers under a dyadic rotation is the same number on both sides.
    turn = next(e for e in parse_action("O(rows)").exact(((4, 1),)) if e.is_dyadic and "1/2" in json.dumps(e.to_json()))
    witness = shown(candidate, "matrix", ((4, 1),), action="O(rows)", relations=(Equivariance(turn),), steps=1)
    assert refutation(candidate, witness, centred=False) is not None


def test_an_element_that_is_not_exact_is_no_refutation() -> None:
    element = parse_action("O(rows)").sample(((2, 2),), 1, rng=torch.Generator().manual_seed(0))[0]
    witness = shown(SIGN, "matrix", ((2, 2),), action="O(rows)", relations=(Equivariance(element),))
    with pytest.raises(NoProof, match="not exact"):
        build(SIGN, witness, centred=False)


def test_a_large_witness_is_left_alone() -> None:
    with pytest.raises(NoProof, match="too large"):
        build(SIGN, shown(SIGN, "matrix", ((24, 16),), steps=1), centred=False)
    muon = torch_optimizer("Muon", lr=0.1)
    with pytest.raises(NoProof, match="too long"):
        build(muon, shown(muon, "matrix", ((8, 8),), action="O(entries)", steps=2), centred=False)


@pytest.mark.parametrize("action", ["GL(rows)", "Cyclic(rows)", "U1[half](cols)", "(U1[half] wr Perm[1])(rows)"])
def test_a_group_without_a_class_has_no_refutation(action: str) -> None:
    candidate = stepping(lambda g, w: g[:1].sign().expand_as(g))
    with pytest.raises(NoProof, match=r"no law describes|no class"):
        build(candidate, shown(candidate, "matrix", ((2, 2),), action=action), centred=False)


# -- documents mean what the witness shows ----------------------------------------------------------------------------

ACTIONS = (
    ("SPerm(entries)", ((3, 2),)),
    ("O(entries)", ((1, 3),)),
    ("Scale(rows) x Stab1(cols)", ((2, 3),)),
    ("gate: D*(rows) x Q(cols); up: D(rows) x Q(cols); down: Q(rows) x D(cols) where D = Scale, Q = O", None),
    *((str(BLOCKS[name].action.linear), None) for name in ("swiglu", "attention_qkv", "attention_o")),
    *(("(SPerm(rows) x O(cols)) wr Perm(experts)", ((3, 2, 2),)), ("(O wr Perm[3])(rows) x Sign(cols)", ((6, 1),))),
    ("(Scale wr Perm[2])(rows)", ((4, 2),)),
)
THREE = ((4, 2), (4, 2), (2, 4))


@pytest.mark.parametrize(("spec", "shapes"), ACTIONS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_kernel_moves_arrays_as_the_element_does(spec: str, shapes: Any, data: st.DataObject) -> None:
    action = parse_action(spec)
    shapes = shapes or THREE[: len(action.tensors)] if len(action.tensors) > 1 else shapes or ((4, 4),)
    element = data.draw(action.elements(shapes))
    claimed = equivariance_claim(action, shapes)
    rows = claimed.claim["variables"]
    variables = read_variables(rows, _element(action, {"element": element.to_json()}, rows))
    entry = st.fractions(-3, 3, max_denominator=4)
    tensors = tuple(
        np.array(data.draw(st.lists(entry, min_size=n, max_size=n)), dtype=object).reshape(shape)
        for shape, n in ((shape, int(np.prod(shape))) for shape in shapes)
    )
    for dual, moved in ((False, element.act_linear(tensors)), (True, element.act_dual(tensors))):
        for before, after, axes in zip(tensors, moved, claimed.axes, strict=True):
            sizes = tuple(size for size, _ in axes)
            entries = {index: (x, x) for index, x in np.ndenumerate(before.reshape(sizes))}
            labels = read_labels([label for _, label in axes], variables)
            size, result = act((sizes, entries), labels, variables, dual)
            assert size == sizes
            assert result == {index: (x, x) for index, x in np.ndenumerate(after.reshape(sizes))}


@pytest.mark.parametrize("name", ["adamw-rotated", "heads", "experts", "horizontal", "insensitive", "decay-shifted"])
def test_a_tampered_document_is_not_accepted(name: str) -> None:
    found, centred = document(name)
    step = len(found["steps"]) - 1

    def wrong(change: Callable[[dict[str, Any]], object]) -> None:
        bad = copy.deepcopy(found)
        change(bad)
        with pytest.raises((Reject, Decline)):
            verify(json.dumps(bad))

    wrong(lambda d: d["steps"].pop())
    wrong(lambda d: d["gradients"].pop())
    wrong(lambda d: d["differs"].update(entry=[99] * len(d["shapes"][0])))
    wrong(lambda d: d["differs"].update(step=step + 1))
    wrong(lambda d: d["weights"][0].pop())
    wrong(lambda d: [own["outputs"].update({"weight:0": 0}) for own in d["steps"]])  # nothing moves
    if centred:
        wrong(lambda d: d["gradients"][0].__setitem__(0, ["1"] * len(d["gradients"][0][0])))
    for variable in found["element"]:
        wrong(lambda d, v=variable: d["element"][v][0][0].__setitem__(0, "7/3"))  # type: ignore[misc]
        wrong(lambda d, v=variable: d["element"].pop(v))  # type: ignore[misc]
    if found["claim"]["property"] == "equivariance":
        wrong(_identity)
    for row in found["shifts"]:
        assert row
        wrong(lambda d: d.update(shifts=[]))


def _identity(data: dict[str, Any]) -> None:
    for matrices in data["element"].values():
        for k, rows in enumerate(matrices):
            matrices[k] = [[str(int(i == j)) for j in range(len(rows))] for i in range(len(rows))]


def test_inputs_are_those_of_the_witness_to_the_last_bit() -> None:
    candidate, block, shapes, name, action = CASES["adamw-rotated"]
    witness = shown(candidate, block, shapes, name, action)
    found = build(candidate, witness, centred=False)
    assert found["weights"] == [flat(weight) for weight in witness["weights"]]
    assert found["gradients"] == [[flat(grad) for grad in grads] for grads in witness["grads"]]
    assert len(found["gradients"]) == witness["step"]


def test_centred_gradients_are_so_exactly_and_as_near_as_rounding() -> None:
    candidate, block, shapes, name, action = CASES["horizontal"]
    witness = shown(candidate, block, shapes, name, action)
    # Thirds are no binary fractions: the mean was subtracted with rounding.
    third = rationals(torch.tensor([[1 / 3, 0.1], [1 / 3, 0.7], [-2 / 3 + 1e-16, -0.8]], dtype=torch.float64))
    witness["grads"] = [[third] for _ in witness["grads"]]
    for data in build(candidate, witness, centred=True)["gradients"]:
        exact = [Fraction(x) for x in data[0]]
        assert sum(exact[::2]) == sum(exact[1::2]) == 0
        assert all(abs(x - Fraction(y)) < 2**-50 for x, y in zip(exact, flat(third), strict=True))


# -- in verdicts ------------------------------------------------------------------------------------------------------


def test_a_refuted_verdict_carries_it(tmp_path: Any) -> None:
    questions = plan(["embedding"], ["equivariance"], None)
    (result,) = decide(CASES["adamw-rotated"][0], questions, budget="quick", dtypes=["float64"], seed=0)
    assert result.verdict is Verdict.REFUTED
    assert result.reason.endswith(", certified in exact arithmetic")
    assert isinstance(result.evidence.certificate, Mapping)
    assert isinstance(result.evidence.witness, Mapping)
    assert Report(results=[result]).write_certificates(tmp_path) == 1
    (path,) = tmp_path.iterdir()
    assert "equivariance" in verify(path.read_bytes()).statement


def test_one_without_stays_as_it_was() -> None:
    questions = plan(["matrix"], ["equivariance"], None)
    (result,) = decide(stepping(lambda g, w: g.tanh()), questions, budget="quick", dtypes=["float64"], seed=0)
    assert result.verdict is Verdict.REFUTED
    assert "exact" not in result.reason
    assert result.evidence.certificate is None
