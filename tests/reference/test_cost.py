"""Costs that can be worked out by hand, and that the counts are polynomials indeed."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from reference import RULES, get_rule
from reference.cost import SIZES, cost, evaluate, fit, step_counts


def test_five_newton_schulz_steps() -> None:
    # Per step the Gram matrix and the last product take 2 m^2 n each, its square 2 m^3; tall matrices are transposed.
    wide, tall = cost(get_rule("muon"))
    assert wide.multiply_flops == {(3, 0): 10, (2, 1): 20}
    assert tall.multiply_flops == {(0, 3): 10, (1, 2): 20}
    assert wide.state == tall.state == {(1, 1): 1}


def test_factorisations_are_listed_and_not_counted() -> None:
    wide, tall = cost(get_rule("ssd"))
    assert wide.factorisations == tall.factorisations == {("SVD", "m x n"): 1}
    assert wide.multiply_flops == {(2, 1): 2}  # u diag(s) v^T
    (shampoo,) = cost(get_rule("shampoo"))
    assert shampoo.factorisations == {("eigendecomposition", "m x m"): 1, ("eigendecomposition", "n x n"): 1}
    assert shampoo.state == {(2, 0): 1, (0, 2): 1}


def test_sign_of_the_gradient_is_one_operation_per_entry_and_the_scale_another() -> None:
    (plain,) = cost(get_rule("sgd"))
    assert plain.entry_flops == {(1, 1): 1}  # times the learning rate
    assert plain.traffic == {(1, 1): 2}
    assert plain.regime == "all m, n"
    assert not plain.state


def test_state_is_counted_with_its_step_count() -> None:
    (adam,) = cost(get_rule("adam"))
    assert adam.state == {(1, 1): 2, (0, 0): 1}


@pytest.mark.parametrize("name", ["muon", "muoneq", "polargrad"])
def test_products_agree_with_the_counter_of_torch(name: str) -> None:
    rule = get_rule(name)
    weight, grad = torch.randn(2, 14, 20, dtype=torch.float64).unbind()
    state = rule.init(weight)
    with FlopCounterMode(display=False) as counter:
        rule.update(grad, state, weight)
    wide = cost(rule)[0]
    assert evaluate(wide.multiply_flops, 14, 20) == counter.get_total_flops()


@pytest.mark.parametrize("name", ["muon", "adafactor", "one_sided_shampoo"])
def test_the_polynomial_holds_at_another_size(name: str) -> None:
    rule = get_rule(name)
    m, n = 106, 118
    assert (m, n - m) not in SIZES
    counts, state = step_counts(rule, (m, n))
    wide = cost(rule)[0]
    assert evaluate(wide.multiply_flops, m, n) == counts.multiply
    assert evaluate(wide.entry_flops, m, n) == counts.entries
    assert evaluate(wide.traffic, m, n) == counts.traffic
    assert evaluate(wide.state, m, n) == state


def test_fit_refuses_what_is_no_cubic() -> None:
    sizes = [(m, m + excess) for m, excess in SIZES]
    assert fit([((m, n), 3 * m * m * n - m // 2 + 1) for m, n in sizes]) == {
        (2, 1): 3,
        (1, 0): Fraction(-1, 2),
        (0, 0): 1,
    }
    with pytest.raises(ValueError, match="no cubic polynomial"):
        fit([((m, n), m**4) for m, n in sizes])
    with pytest.raises(ValueError, match="do not determine"):
        fit([((m, n), m) for m, n in sizes[:5]])


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_a_cost(name: str) -> None:
    rule = get_rule(name)
    shape = (1, 22, 26) if rule.min_ndim == 3 else (22, 26)
    counts, _ = step_counts(rule, shape)
    assert counts.entries > 0
    assert counts.traffic >= 2 * 22 * 26
