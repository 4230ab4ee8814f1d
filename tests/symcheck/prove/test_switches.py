"""Rules that change their formula on the way: what a proof is about, and what it is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from groups import get_block, parse_action
from reference import optimizers
from symcheck.probe.names import BUDGETS
from symcheck.probe.strata import draw_inputs
from symcheck.prove.errors import NoProof
from symcheck.prove.workshop import ANOTHER_PATH, Proved, Workshop
from symcheck.target import Candidate

MATRIX = get_block("matrix")
SHAPES = tuple(shapes for shapes in MATRIX.shapes if min(shapes[0]) > 1)[:3]
MONOMIAL = "SPerm(rows) x SPerm(cols)"


def workshop_of(name: str, **hyper: Any) -> Workshop:
    def build(params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return getattr(optimizers, name)(params, lr=0.1, **hyper)  # type: ignore[no-any-return]

    return Workshop(Candidate(name, hyper, build), BUDGETS["quick"])


def prove(workshop: Workshop, action: str) -> Proved:
    return workshop.prove("equivariance", parse_action(action), SHAPES)


def edges(proved: Proved) -> int:
    return max(len(proof.certificate["edges"]) for proof in proved.proofs)


def test_a_switch_within_the_traced_steps_is_part_of_the_proof() -> None:
    plain = prove(workshop_of("MuonEq", mode="RC"), MONOMIAL)
    switched = prove(workshop_of("MuonEq", mode="RC", phase=3), MONOMIAL)
    rows = prove(workshop_of("MuonEq", mode="RC", phase=1), "SPerm(rows) x O(cols)")
    assert edges(switched) > edges(plain) == edges(rows)


def test_a_switch_that_breaks_the_claim_is_not_overlooked() -> None:
    # Rows only from step 2 on: rotations of the columns hold from there, but not at step 1.
    with pytest.raises(NoProof):
        prove(workshop_of("MuonEq", mode="RC", phase=2), "SPerm(rows) x O(cols)")


def test_a_switch_beyond_the_traced_steps_is_outside_the_proof() -> None:
    workshop = workshop_of("MuonEq", mode="RC", phase=40)
    proved = prove(workshop, MONOMIAL)
    assert edges(proved) == edges(prove(workshop_of("MuonEq", mode="RC"), MONOMIAL))
    for steps, excuse in ((39, ""), (40, ANOTHER_PATH)):
        inputs = draw_inputs("generic", ((3, 2),), steps, centre=False, seed=0)
        assert workshop.excuses(proved, inputs) == excuse


def test_directions_that_are_collected_move_with_the_gradients_they_come_from() -> None:
    workshop = workshop_of("MuonOGD", collect=2, dual_lr=0.1, dual_steps=2, momentum=0.9)
    assert prove(workshop, "O(rows) x O(cols)").proofs
    with pytest.raises(NoProof):
        prove(workshop, "O(entries)")


def test_directions_that_are_given_stay_where_they_are() -> None:
    shape = (4, 3)
    protected = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    workshop = workshop_of("MuonOGD", protected=protected, dual_lr=0.1)
    with pytest.raises(NoProof):
        workshop.prove("equivariance", parse_action("Perm(rows) x Perm(cols)"), ((shape,),))
