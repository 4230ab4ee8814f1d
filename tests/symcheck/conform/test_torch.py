"""torch.optim within its documented semantics: nothing is found but what is known, and precision is no fault."""

from __future__ import annotations

import functools

import pytest
import torch

from symcheck.conform.command import compare
from symcheck.conform.conformance import Conformance, Options
from symcheck.conform.page import text
from symcheck.run import resolve_one

SHAPES = ((6, 4), (4, 6), (5,), (3, 4, 2), (4, 2, 3, 2))


@functools.cache
def _found(target: str, rule: str, dtypes: tuple[str, ...] = ("float64", "float32", "bfloat16")) -> Conformance:
    (one,) = resolve_one(target, {})
    return compare(one, rule, Options(shapes=SHAPES, steps=3, dtypes=dtypes))


PAIRS = [
    ("torch.optim.AdamW", "adamw", ("exp_avg", "exp_avg_sq")),
    ("torch.optim.Adam", "adam", ("exp_avg", "exp_avg_sq")),
    ("torch.optim.SGD", "sgd", ()),
    ("torch.optim.Adafactor", "adafactor", ("row_var", "col_var", "variance")),
    ("torch.optim.Muon", "muon_torch", ("momentum_buffer",)),
    ("torch.optim.RMSprop", "rmsprop", ("square_avg",)),
    ("torch.optim.Adagrad", "adagrad", ("sum",)),
]


@pytest.mark.parametrize(("target", "rule", "states"), PAIRS, ids=[pair[0] for pair in PAIRS])
def test_torch_follows_its_rule(target: str, rule: str, states: tuple[str, ...]) -> None:
    found = _found(target, rule)
    assert found.verdict == "conforms", text(found)
    assert {match.target for match in found.states} == set(states)
    assert all(match.factor == 1.0 for match in found.states)
    assert {row.dtype for row in found.precision} == {"float64", "float32", "bfloat16"}
    assert all(row.stable for row in found.precision)


def test_bfloat16_inside_is_precision_and_no_fault() -> None:
    found = _found("torch.optim.Muon", "muon_torch")
    exact, native, *_ = found.precision
    assert (exact.exact, native.exact) == (True, False)
    assert native.casts == ("bfloat16",)
    assert exact.relative < 2.0**-30 < native.relative  # the formula is right, its rounding visible
    assert "computes in bfloat16" in text(found)


def _fused_moves() -> bool:
    weight = torch.nn.Parameter(torch.ones(64, dtype=torch.bfloat16))
    weight.grad = torch.ones_like(weight)
    torch.optim.SGD([weight], lr=0.5, fused=True).step()
    return bool((weight != 1).all())


@pytest.mark.skipif(_fused_moves(), reason="this torch has mended pytorch #191763")
def test_fused_sgd_that_does_not_move_is_found_and_known() -> None:
    found = _found("torch.optim.SGD", "sgd")
    (reason,) = found.known
    assert "#191763" in reason
    assert all("fused=True" in where and "bfloat16" in where for where in found.known[reason])


@pytest.mark.skipif(_fused_moves(), reason="this torch has mended pytorch #191763")
def test_a_defect_is_known_of_its_own_target_only() -> None:
    (one,) = resolve_one(torch.optim.SGD, {})
    found = compare(one, "sgd", Options(shapes=((8, 8),), steps=2, dtypes=("bfloat16",)))
    assert found.verdict == "conforms"  # the same class under the same name

    class Mine(torch.optim.SGD):
        """Somebody's subclass."""

    (mine,) = resolve_one(Mine, {})
    found = compare(mine, "sgd", Options(shapes=((8, 8),), steps=2, dtypes=("bfloat16",)))
    assert found.verdict == "departs"
    assert found.departure is not None
    assert found.departure.configurations == ("fused=True, bfloat16",)
    assert found.diagnosis is not None
    assert found.diagnosis.explanations[0].texts == ("nothing moves: the step is zero",)


def test_normalised_momentum_buffer_of_muon_is_found_and_known() -> None:
    found = _found("torch.optim.Muon", "muon_torch")
    assert any("nesterov=False" in where for reason in found.known for where in found.known[reason])


def test_reference_front_ends_follow_their_rules() -> None:
    for name in ("adamw", "muon", "row_norm", "shampoo"):
        (one,) = resolve_one(f"rule:{name}", {})
        found = compare(one, name, Options(shapes=((6, 4), (3, 4, 2)), steps=3, dtypes=("float64", "bfloat16")))
        assert found.verdict == "conforms", text(found)


def test_the_wrong_rule_is_no_match() -> None:
    found = _found("torch.optim.Adam", "adamw", ("float64",))
    assert found.verdict == "departs"
    assert found.departure is not None
    assert found.departure.configurations == ("weight_decay=0.1",)
    assert found.diagnosis is not None
    assert found.diagnosis.explanations[0].families == ("decay",)


def test_a_random_update_is_declined() -> None:
    class Noisy(torch.optim.SGD):
        """Adds noise."""

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for param in group["params"]:
                    param.grad = param.grad + torch.randn_like(param.grad)
            return super().step(closure)

    (one,) = resolve_one(Noisy, {})
    found = compare(one, "sgd", Options(shapes=((3, 2),)))
    assert (found.verdict, found.exit_code) == ("declined", 3)
    assert "random" in found.declined


def test_a_closure_is_declined() -> None:
    (one,) = resolve_one("torch.optim.LBFGS", {})
    found = compare(one, "sgd", Options(shapes=((3, 2),)))
    assert found.verdict == "declined"
    assert "closure" in found.declined
