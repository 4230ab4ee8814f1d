"""Defects, floors and the line between structure and rounding."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

import symcheck.probe.strata as strata
from groups import get_block
from symcheck.probe.arithmetic import PLAIN, Arithmetic
from symcheck.probe.measure import LEAST_FLOOR, MARGIN, Defect, compare, with_floors, worst
from symcheck.probe.relation import Property, ShiftGradients
from symcheck.selftest.optimizer import FromUpdate, State, Update, momentum, newton_schulz, row_norm
from symcheck.target import Candidate

ACTION = get_block("embedding").action


def _candidate(update: Update) -> Candidate:
    return Candidate("test", {}, lambda params: FromUpdate(params, update))


def _relation(shape: tuple[int, int], seed: int = 0):
    question = Property("equivariance", ACTION, centred=False)
    return question.random((shape,), 2, torch.Generator().manual_seed(seed))[1]


def _inputs(stratum: str = "generic", shape: tuple[int, int] = (5, 3), steps: int = 3):
    return strata.draw_inputs(stratum, (shape,), steps, centre=False, seed=3)


def test_an_equivariant_rule_stays_near_its_floor() -> None:
    candidate = _candidate(lambda g, s, w: -0.1 * row_norm(momentum(g, s)))
    trial = compare(candidate, _inputs(), _relation((5, 3)), PLAIN)
    measured = worst(with_floors(candidate, trial, PLAIN, runs=4))
    assert measured is not None
    # The floor is the spread of runs that round four times as coarsely: the defect of correct code is about that size.
    assert measured.ratio < 16


@pytest.mark.parametrize("share", [1e-9, 3e-6, 1e-2])
def test_structure_stands_far_above_the_floor(share: float) -> None:
    candidate = _candidate(lambda g, s, w: -0.1 * (row_norm(g) + share * g.sign()))
    trial = compare(candidate, _inputs(), _relation((5, 3)), PLAIN)
    measured = worst(with_floors(candidate, trial, PLAIN, runs=4))
    assert measured is not None
    assert measured.ratio > MARGIN
    assert share / 100 < measured.value < 10 * share


def test_conditioning_is_in_the_floor() -> None:
    def cancels(g: torch.Tensor, s: State, w: torch.Tensor) -> torch.Tensor:
        return -0.1 * ((g * 1e9 + row_norm(g)) - g * 1e9)

    candidate = _candidate(cancels)
    trial = compare(candidate, _inputs(), _relation((5, 3)), PLAIN)
    measured = worst(with_floors(candidate, trial, PLAIN, runs=4))
    assert measured is not None
    assert measured.value > 1e3 * LEAST_FLOOR  # a fixed tolerance of 1e-12 would accuse it
    assert measured.ratio < MARGIN


def test_one_sided_nan_is_an_infinite_defect_and_two_sided_nan_is_no_evidence() -> None:
    def one_sided(g: torch.Tensor, s: State, w: torch.Tensor) -> torch.Tensor:
        return -0.1 * g if float(g[0, 0]) > 0 else g * math.nan

    inputs = _inputs(steps=1)
    first = float(inputs.grads[0][0][0, 0])
    shift = ShiftGradients(((Fraction(-2 * int(first * 8), 8) - (8 if first > 0 else -8),) * 3,))
    trial = compare(_candidate(one_sided), inputs, shift, PLAIN)
    assert math.isinf(trial.defects()[0].value)
    both = compare(_candidate(lambda g, s, w: g * math.nan), inputs, shift, PLAIN)
    assert not both.finite
    assert both.defects()[0].value == 0.0


def test_a_zero_update_has_no_defect_to_measure() -> None:
    trial = compare(_candidate(lambda g, s, w: torch.zeros_like(g)), _inputs(), _relation((5, 3)), PLAIN)
    assert trial.defects() == []
    assert not trial.moved
    assert worst([]) is None


def test_bfloat16_is_rounding_and_not_structure() -> None:
    def muon(g: torch.Tensor, s: State, w: torch.Tensor) -> torch.Tensor:
        x = g.bfloat16()
        return -0.1 * newton_schulz(x, x / (x.norm() + 1e-7)).to(g.dtype)

    native = worst(compare(_candidate(muon), _inputs(), _relation((5, 3)), PLAIN).defects())
    promoted = worst(compare(_candidate(muon), _inputs(), _relation((5, 3)), Arithmetic(promote=True)).defects())
    assert native is not None
    assert promoted is not None
    assert native.value > 1e-3
    assert promoted.value < 1e-12


def test_an_infinite_floor_is_never_a_refutation() -> None:
    assert Defect(1, math.inf, math.inf).ratio == 0.0
    assert Defect(1, 1.0, 1e-15).ratio > MARGIN
