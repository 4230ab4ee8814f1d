"""Proofs about whole optimizers: what must be proved, what must not, and the reason that a person reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from groups import get_block, parse_action
from symcheck.kernel.__main__ import verify
from symcheck.probe.names import BUDGETS
from symcheck.prove.claims import equivariance_claim, with_units
from symcheck.prove.errors import NoProof
from symcheck.prove.workshop import NO_UNIT_AXES, Proved, Workshop
from symcheck.target import Candidate

MATRIX = get_block("matrix")


def stepping(update: Callable[[torch.Tensor, torch.Tensor, dict[str, Any]], torch.Tensor]) -> Candidate:
    """A candidate that adds ``-0.1 update(grad, weight, state)`` to every parameter."""

    class Stepping(torch.optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {})

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(update(p.grad, p, self.state[p]), alpha=-0.1)

    return Candidate("test", {}, Stepping)


def prove(candidate: Candidate, action: str, property: str = "equivariance") -> Proved:
    workshop = Workshop(candidate, BUDGETS["quick"])
    return workshop.prove(property, parse_action(action), MATRIX.shapes)


def torch_optimizer(name: str, **settings: Any) -> Candidate:
    return Candidate(name, settings, lambda params: getattr(torch.optim, name)(params, lr=0.1, **settings))


@pytest.mark.parametrize(
    ("name", "settings", "action"),
    [
        ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, "O(entries)"),
        ("Adam", {"amsgrad": True}, "SPerm(entries)"),
        ("AdamW", {"foreach": True}, "SPerm(entries)"),
        ("AdamW", {"fused": True}, "SPerm(entries)"),
        ("Adafactor", {}, "SPerm(rows) x SPerm(cols)"),
        ("Muon", {}, "O(rows) x O(cols)"),
        ("RAdam", {}, "SPerm(entries)"),
    ],
    ids=lambda value: str(value).replace(" ", ""),
)
def test_torch_optimizers_are_proved_for_their_groups(name: str, settings: dict[str, Any], action: str) -> None:
    proved = prove(torch_optimizer(name, **settings), action)
    assert proved.proofs
    assert proved.conditions == ()
    accepted = verify(json.dumps(proved.document))
    assert "equivariance" in accepted.statement


@pytest.mark.parametrize(
    ("name", "action"),
    [("SGD", "Scale+(rows)"), ("Adam", "O(cols)"), ("Adafactor", "SPerm(entries)"), ("RAdam", "O(cols)")],
)
def test_nothing_is_proved_one_class_above(name: str, action: str) -> None:
    with pytest.raises(NoProof):
        prove(torch_optimizer(name), action)


def test_a_switch_at_a_later_step_is_seen() -> None:
    def update(g: torch.Tensor, w: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
        state["step"] = state.get("step", 0) + 1
        return g if state["step"] < 20 else g.sign()

    with pytest.raises(NoProof, match="elementwise"):
        prove(stepping(update), "O(rows) x O(cols)")


def test_a_decision_on_one_entry_is_no_proof() -> None:
    def update(g: torch.Tensor, w: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
        return g * (2.0 if g[0, 0].item() > 1e9 else 1.0)

    with pytest.raises(NoProof, match=r"leaves torch|take"):
        prove(stepping(update), "Perm(rows) x O(cols)")


def test_a_decision_on_the_norm_is_one() -> None:
    def update(g: torch.Tensor, w: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
        return g / 2.0 if g.norm().item() > 10.0 else g

    assert prove(stepping(update), "O(rows) x O(cols)").proofs


def test_what_numpy_writes_is_noticed() -> None:
    def update(g: torch.Tensor, w: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
        out = g.clone()
        np.abs(out.numpy(), out=out.numpy())
        return out

    with pytest.raises(NoProof):
        prove(stepping(update), "SPerm(rows) x SPerm(cols)")


def test_what_a_closure_remembers_is_no_state() -> None:
    memory: dict[str, torch.Tensor] = {}

    def update(g: torch.Tensor, w: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
        memory["m"] = 0.9 * memory["m"] + g if "m" in memory and memory["m"].shape == g.shape else g.clone()
        return memory["m"]

    with pytest.raises(NoProof, match="outside"):
        prove(stepping(update), "O(rows) x O(cols)")


def test_eigenvectors_of_a_wide_gradient_are_not_determined() -> None:
    def update(g: torch.Tensor, w: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
        q = torch.linalg.eigh(g.mT @ g).eigenvectors
        return (g @ q).sign() @ q.mT

    with pytest.raises(NoProof, match="simple spectrum"):
        prove(stepping(update), "Perm(rows) x O(cols)")


def test_functions_of_eigenvalues_need_no_condition() -> None:
    def update(g: torch.Tensor, w: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
        values, q = torch.linalg.eigh(g.mT @ g)
        return g @ (q * (values + 1e-3).rsqrt()) @ q.mT

    assert prove(stepping(update), "O(rows) x O(cols)").conditions == ()


def test_eps_added_to_every_entry_is_found() -> None:
    def update(g: torch.Tensor, w: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
        return g @ torch.linalg.inv(g.mT @ g + torch.eye(g.shape[1], dtype=g.dtype) + 1e-2)

    with pytest.raises(NoProof):
        prove(stepping(update), "O(rows) x O(cols)")
    assert prove(stepping(update), "O(rows) x Perm(cols)").proofs


def test_horizontality_follows_from_rotations() -> None:
    workshop = Workshop(torch_optimizer("Muon", weight_decay=0.0), BUDGETS["quick"])
    router = get_block("router")
    assert workshop.prove("horizontality", router.action, router.shapes).proofs
    decayed = Workshop(torch_optimizer("Muon", weight_decay=0.1), BUDGETS["quick"])
    with pytest.raises(NoProof):
        decayed.prove("horizontality", router.action, router.shapes)


def unless_single(g: torch.Tensor, w: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
    """Odd, except on a single row or column."""
    return g + torch.relu(g - 1e9) if 1 in g.shape[-2:] else g


def plain(g: torch.Tensor, w: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
    return g


@pytest.mark.parametrize("action", ["O(rows) x O(cols)", "SPerm(rows)", "Sign(cols)", "O(entries)"])
def test_a_sign_on_a_single_row_or_column_is_part_of_the_claim(action: str) -> None:
    """What is left of a rotation on an axis of length one is -1."""
    assert not prove(stepping(plain), action).conditions
    assert prove(stepping(unless_single), action).conditions == (NO_UNIT_AXES,)


@pytest.mark.parametrize("action", ["Scale(rows)", "Scale+(cols)"])
def test_a_scale_on_a_single_row_or_column_is_part_of_the_claim(action: str) -> None:
    def dual(g: torch.Tensor, w: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
        return g * w.square()

    def unless(g: torch.Tensor, w: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
        return g if 1 in g.shape else g * w.square()

    assert not prove(stepping(dual), action).conditions
    assert prove(stepping(unless), action).conditions == (NO_UNIT_AXES,)


def test_a_single_row_has_no_order() -> None:
    assert not prove(stepping(unless_single), "Perm(rows) x Perm(cols)").conditions


@pytest.mark.parametrize("name", ["experts", "attention_qkv"])
def test_experts_and_heads_of_one_entry_have_signs_of_their_own(name: str) -> None:
    block = get_block(name)
    shapes = (*block.shapes, *([((2, 3),)] if name == "attention_qkv" else []))
    action = parse_action("(O wr Perm[2])(rows) x O(cols)") if name == "attention_qkv" else block.action
    conditions = [
        Workshop(stepping(update), BUDGETS["quick"]).prove("equivariance", action, shapes).conditions
        for update in (plain, unless_single)
    ]
    assert conditions == [(), (NO_UNIT_AXES,)]


def test_the_sign_of_a_single_expert_is_not_forgotten() -> None:
    """Its axis has length one too, so that no base is left to carry the sign."""
    action = parse_action("(O(cols)) wr Perm(experts)")
    assert with_units(equivariance_claim(action, ((2, 3, 1),))).claim["variables"][0]["class"] == "sperm"
    assert with_units(equivariance_claim(action, ((1, 3, 1),))).unsaid


def test_a_single_column_can_be_shifted() -> None:
    def unless_column(g: torch.Tensor, w: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
        return g + torch.relu(w - 1e9) if g.shape[1] == 1 else g

    router = get_block("router")
    for property in ("shift_equivariance", "shift_quotient"):
        for update, conditions in ((plain, ()), (unless_column, (NO_UNIT_AXES,))):
            workshop = Workshop(stepping(update), BUDGETS["quick"])
            assert workshop.prove(property, router.action, router.shapes).conditions == conditions


def test_heads_are_proved_with_and_without_splitting() -> None:
    block = get_block("attention_qkv")

    def per_head(g: torch.Tensor, w: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
        heads = g.reshape(2, g.shape[0] // 2, g.shape[1])
        return (heads / (1e-8 + heads.square().sum((1, 2), keepdim=True).sqrt())).reshape(g.shape)

    assert Workshop(stepping(per_head), BUDGETS["quick"]).prove("equivariance", block.action, block.shapes).proofs
    with pytest.raises(NoProof):
        prove_on_rows(stepping(per_head))


def prove_on_rows(candidate: Candidate) -> Proved:
    block = get_block("attention_qkv")
    return Workshop(candidate, BUDGETS["quick"]).prove("equivariance", parse_action("O(rows) x O(cols)"), block.shapes)


def test_block_independence_is_dataflow() -> None:
    assert Workshop(torch_optimizer("AdamW"), BUDGETS["quick"]).prove_independence().proofs

    class Clipped(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            grads = [p.grad for group in self.param_groups for p in group["params"]]
            norm = torch.stack([g.norm() for g in grads]).norm()
            for g in grads:
                g.div_(norm)
            super().step()

    with pytest.raises(NoProof):
        Workshop(Candidate("clipped", {}, lambda p: Clipped(p, lr=0.1)), BUDGETS["quick"]).prove_independence()


@pytest.mark.parametrize(
    ("name", "settings", "degree"), [("SGD", {"momentum": 0.9}, 1), ("SGD", {"weight_decay": 0.1}, 1)]
)
def test_linear_rules_have_degree_one(name: str, settings: dict[str, Any], degree: int) -> None:
    workshop = Workshop(torch_optimizer(name, **settings), BUDGETS["quick"])
    assert workshop.prove_degree(Fraction(degree)).proofs
    assert workshop.prove_oddness().proofs
    with pytest.raises(NoProof):
        workshop.prove_degree(Fraction(0))


def test_signs_have_degree_zero_and_a_square_root_one_half() -> None:
    signs = Workshop(stepping(lambda g, w, state: g.sign()), BUDGETS["quick"])
    assert signs.prove_degree(Fraction(0)).proofs
    assert signs.prove_oddness().proofs
    roots = Workshop(stepping(lambda g, w, state: g.abs().sqrt() * g.sign()), BUDGETS["quick"])
    assert roots.prove_degree(Fraction(1, 2)).proofs
    with pytest.raises(NoProof):
        roots.prove_degree(Fraction(1))


def test_eps_has_no_degree_and_squares_are_not_odd() -> None:
    adam = Workshop(torch_optimizer("Adam"), BUDGETS["quick"])
    with pytest.raises(NoProof):
        adam.prove_degree(Fraction(0))
    assert adam.prove_oddness().proofs
    with pytest.raises(NoProof):
        Workshop(stepping(lambda g, w, state: g * g), BUDGETS["quick"]).prove_oddness()


def test_eigenvectors_of_an_invariant_matrix_are_not_determined_either() -> None:
    # Rotating the rows leaves G^T G as it is, in exact arithmetic; but rounding chooses the basis of its null space.
    def update(g: torch.Tensor, w: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
        q = torch.linalg.eigh(g.mT @ g).eigenvectors
        return g @ (q * torch.arange(g.shape[1], dtype=g.dtype)) @ q.mT

    with pytest.raises(NoProof, match="simple spectrum"):
        prove(stepping(update), "O(rows)")
