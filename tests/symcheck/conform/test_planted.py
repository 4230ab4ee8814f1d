"""Planted faults: each is found, and its cause is named; without a fault there is nothing to find."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from symcheck.conform.conformance import Conformance, Options, conform
from symcheck.conform.hyper import constructor_arguments
from symcheck.conform.page import text
from symcheck.conform.suspects import suspects_for
from symcheck.target import Candidate
from tests.symcheck.conform import planted

MATRICES = ((6, 4), (4, 6))
STACK = (*MATRICES, (3, 4, 2))
CONVOLUTION = (*MATRICES, (6, 2, 3, 2))


def compare(kind, rule: str, fault: str, shapes=MATRICES, settings: Mapping[str, object] | None = None) -> Conformance:
    cls = planted.planted(kind, fault)
    base = {"lr": 0.1, **(settings or {})}
    return conform(
        lambda extra: Candidate(kind.__name__, dict(extra), lambda params: cls(params, **{**base, **extra})),
        rule,
        Options(dtypes=("float64",), shapes=shapes, steps=3),
        name=kind.__name__,
        config=base,
        arguments=constructor_arguments(kind),
    )


FAULTS = [
    (planted.AdamW, "adamw", "betas swapped", "the two betas are swapped"),
    (planted.AdamW, "adamw", "sign", "the sign of the gradient is flipped"),
    (planted.AdamW, "adamw", "coupled decay", "weight decay is coupled"),
    (planted.AdamW, "adamw", "decay without lr", "weight decay is not multiplied by the learning rate"),
    (planted.AdamW, "adamw", "decay after", "weights decay after the update"),
    (planted.AdamW, "adamw", "late correction", "the bias correction counts one step too many"),
    (planted.AdamW, "adamw", "no correction of v", "no bias correction of the second moment"),
    (planted.AdamW, "adamw", "no correction", "no bias correction"),
    (planted.AdamW, "adamw", "eps inside", "eps is inside the root: sqrt(v + eps)"),
    (planted.AdamW, "adamw", "eps scale", "eps is 1e-06, not 1e-08"),
    (planted.AdamW, "adamw", "eps uncorrected", "uncorrected_eps is on"),
    (planted.Muon, "muon", "gradient overwritten", "an earlier step overwrote the gradient in p.grad"),
    (planted.Muon, "muon", "heavy ball", "momentum is a heavy ball"),
    (planted.Muon, "muon", "no nesterov", "nesterov is off"),
    (planted.Muon, "muon", "swapped look-ahead", "the look-ahead swaps its coefficients"),
    (planted.Muon, "muon", "buffer normalised", "the momentum buffer is normalised in place"),
    (planted.Muon, "muon", "one step more", "6 steps of the iteration in place of 5"),
    (planted.Muon, "muon", "coefficients", "the orthogonalisation is 'cubic'"),
    (planted.Muon, "muon", "scale transposed", "the shape scale is transposed"),
    (planted.Muon, "muon", "scale missing", "the shape scale sqrt(max(1, m/n)) is missing"),
    (planted.Muon, "muon", "decay adjusted", "weight decay uses the learning rate adjusted by sqrt(max(1, m/n))"),
    (planted.SGD, "sgd", "decoupled decay", "weight decay is decoupled"),
    (planted.SGD, "sgd", "dampening", "the gradient is damped by 1 - momentum"),
    (planted.SGD, "sgd", "moving average", "momentum is a moving average"),
    (planted.SGD, "sgd", "lr in buffer", "the learning rate is inside the momentum buffer"),
    (planted.SGD, "sgd", "nesterov on", "nesterov is on"),
    (planted.SGD, "sgd", "late momentum", "the step uses the momentum of before this gradient"),
    (planted.Lion, "lion", "momentum first", "the momentum is updated before the step"),
    (planted.Lion, "lion", "keeps interpolation", "the momentum keeps the interpolation of the step"),
    (planted.RowNorm, "row_norm", "heavy ball", "momentum is a heavy ball"),
    (planted.RowNorm, "row_norm", "columns", "columns are normalised in place of rows"),
    (planted.RowNorm, "row_norm", "eps inside", "eps is inside the root"),
    (planted.RowNorm, "row_norm", "clamp", "eps is a floor of the row norms"),
    (planted.RowNorm, "row_norm", "starts full", "the moving average starts with the first gradient"),
    (planted.Adafactor, "adafactor", "no relative step", "the step is not scaled by the size of the weights"),
    (planted.Adafactor, "adafactor", "no clipping", "the update is not clipped"),
]


def _explained(found: Conformance, cause: str) -> None:
    assert found.verdict == "departs"
    assert found.diagnosis is not None
    assert found.departure is not None
    assert found.diagnosis.explanations, text(found)
    first = found.diagnosis.explanations[0]
    assert len(first.texts) == 1  # one fault, one cause
    assert first.texts[0].startswith(cause), text(found)
    assert first.fresh > 0  # the evidence is not only what the search has seen
    assert first.after <= found.departure.limit < first.before
    assert f"= cause: {cause}" in text(found)


@pytest.mark.parametrize(
    ("kind", "rule", "fault", "cause"), FAULTS, ids=lambda value: str(getattr(value, "__name__", value))
)
def test_cause_of_a_planted_fault_is_named(kind, rule: str, fault: str, cause: str) -> None:
    # Of a sign little is seen in few entries.
    _explained(compare(kind, rule, fault, ((24, 16),) if kind is planted.Lion else MATRICES), cause)


@pytest.mark.parametrize(
    ("fault", "cause"),
    [("stale basis", "the first moment keeps its coordinates"), ("decay first", "weights decay before the update")],
)
def test_faults_of_soap_are_named(fault: str, cause: str) -> None:
    _explained(compare(planted.SOAP, "soap", fault, ((4, 4),), {"frequency": 1}), cause)


def test_soap_follows_up_to_the_signs_of_its_eigenvectors() -> None:
    found = compare(planted.SOAP, "soap", "", ((4, 4),), {"frequency": 2})
    assert found.verdict == "conforms", text(found)
    assert {match.rule for match in found.states if match.factor == 1.0} >= {"left", "right", "momentum", "square"}


def test_a_stack_taken_as_one_matrix_is_named() -> None:
    _explained(compare(planted.Muon, "muon", "stack as one", STACK), "a stack of matrices is stepped as one matrix")


def test_scale_of_a_convolution_s_kernel_is_named() -> None:
    cause = "the shape scale is that of the last two axes"
    _explained(compare(planted.Muon, "muon", "scale of kernel", CONVOLUTION), cause)


def test_two_faults_at_once_are_both_named() -> None:
    class Twice(planted.AdamW):
        """Without decay coupling, and with its betas swapped."""

        def move(self, weight, grad, state, group):
            self.fault = "coupled decay"
            super().move(weight, grad, state, {**group, "betas": group["betas"][::-1]})

    found = compare(Twice, "adamw", "coupled decay")
    assert found.diagnosis is not None
    assert sorted(found.diagnosis.explanations[0].families) == ["betas", "decay"]


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (planted.AdamW, "adamw"),
        (planted.Muon, "muon"),
        (planted.SGD, "sgd"),
        (planted.Lion, "lion"),
        (planted.RowNorm, "row_norm"),
        (planted.Adafactor, "adafactor"),
    ],
    ids=lambda value: str(getattr(value, "__name__", value)),
)
def test_without_a_fault_there_is_nothing_to_find(kind, rule: str) -> None:
    found = compare(kind, rule, "")
    assert found.verdict == "conforms", text(found)
    assert all(match.factor is not None for match in found.states)
    assert all(row.stable for row in found.precision)


def test_sums_of_squares_are_another_state_but_the_same_rule() -> None:
    found = compare(planted.Adafactor, "adafactor", "sums", ((6, 4),))
    assert found.verdict == "conforms"
    (row,) = [match for match in found.states if match.rule == "row_square"]
    assert row.factor == pytest.approx(4.0, rel=2.0**-40)  # sums over four columns in place of means


def test_no_suspect_is_accused_without_evidence() -> None:
    found = compare(planted.AdamW, "adamw", "unknown", ((4, 3),))
    assert found.verdict == "departs"
    assert found.diagnosis is not None
    assert found.diagnosis.explanations == ()
    assert f"none of {found.diagnosis.tried} suspects" in text(found)
    assert found.diagnosis.tried > 50


def test_heavy_ball_that_no_step_shows_is_told_by_the_factor_of_its_state() -> None:
    # With eps far below every gradient the two conventions of a rule of degree 0 take the same steps.
    found = compare(planted.RowNorm, "row_norm", "heavy ball", ((4, 6),), {"eps": 1e-300})
    assert found.verdict == "conforms"
    (match,) = found.states
    assert match.factor == pytest.approx(20.0, rel=2.0**-40)
    assert match.meaning == "heavy ball for a moving average: 1/(1 - momentum)"
    assert "20 times the rule's: heavy ball" in text(found)


def test_first_parting_is_named_with_both_values() -> None:
    found = compare(planted.SGD, "sgd", "dampening")
    assert found.departure is not None
    difference = found.departure.difference
    assert (difference.step, difference.tensor) == (2, "displacement")  # the first gradient is not damped
    assert difference.expected != difference.got
    assert found.departure.local  # the step itself is wrong
    assert "step 2, displacement[" in text(found)
    assert [each.tensor for each in found.departure.states] == ["state buf"]


def test_a_fault_of_one_code_path_is_named_with_the_path() -> None:
    class Foreach(planted.RowNorm):
        """Its foreach path puts eps inside the root."""

        def __init__(self, params, lr=1e-2, momentum=0.95, eps=1e-8, foreach=False) -> None:
            super().__init__(params, lr, momentum, eps)
            self.fault = "eps inside" if foreach else ""

    found = conform(
        lambda extra: Candidate("Foreach", dict(extra), lambda params: Foreach(params, **{"lr": 0.1, **extra})),
        "row_norm",
        Options(dtypes=("float64",), shapes=MATRICES, steps=3),
        arguments=constructor_arguments(Foreach),
    )
    assert found.departure is not None
    assert found.departure.configurations == ("foreach=True",)
    _explained(found, "eps is inside the root")


def test_suspects_are_told_apart_by_their_texts() -> None:
    from reference import RULES, get_rule

    for name in RULES:
        texts = [suspect.text for suspect in suspects_for(get_rule(name))]
        assert len(texts) == len(set(texts)), name
