"""Every configuration of every reference rule is proved for the group that it claims, and for none above it."""

from __future__ import annotations

import pytest

from groups import parse_action
from reference.optimizers import from_rule
from reference.variants import VARIANTS
from symcheck.probe.names import Budget
from symcheck.prove.errors import NoProof
from symcheck.prove.workshop import Workshop
from symcheck.target import Candidate

SHORT = Budget(shapes=3, elements=1, steps=2, long=5, examples=0)
MATRICES = (((4, 6),), ((6, 4),), ((4, 4),))
WIDE = (
    *("O(rows)", "O(cols)", "Stab1(rows)", "Sign(rows)", "Sign(cols)", "Perm(rows)", "Perm(cols)", "Scale+(rows)"),
    *("Perm(entries)", "SPerm(entries)", "O(entries)"),
)
STACKS = (((2, 4, 6),), ((3, 6, 4),))
_STACKED = "stacks a matrix on an identity, whose rows move differently: no law describes that axis"
_PAIRED = "cuts an axis into interleaved or halved pairs, which no law of that axis follows"
UNREACHED = {
    "polargrad/qdwh": _STACKED,
    "polargrad/qdwh_2": _STACKED,
    "muon/qdwh": _STACKED,
    "hybrid/row_then_polar_olmoe_pair": _PAIRED,
    "hybrid/row_then_polar_gpt_oss_pair": _PAIRED,
    "row_norm/olmoe_pair": _PAIRED,
    "row_norm/gpt_oss_pair": _PAIRED,
    "expert_muon/olmoe_pair": _PAIRED,
}
"""Configurations whose group no proof reaches, and why. The search supports them (tests/symcheck)."""


def _workshop(name: str) -> Workshop:
    return Workshop(Candidate(name, {}, from_rule(VARIANTS[name])), SHORT)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_claimed_group_is_proved(name: str) -> None:
    rule = VARIANTS[name]
    shapes = MATRICES if type(rule).min_ndim < 3 else STACKS
    action = parse_action(rule.symmetry)
    if name in UNREACHED:
        with pytest.raises(NoProof):
            _workshop(name).prove("equivariance", action, shapes)
        return
    assert _workshop(name).prove("equivariance", action, shapes).proofs


@pytest.mark.parametrize("name", [name for name in VARIANTS if "muon" not in name])
def test_no_wider_group_is_proved(name: str) -> None:
    rule = VARIANTS[name]
    if type(rule).min_ndim > 2:
        return
    action = parse_action(rule.symmetry)
    wider = [parse_action(spec) for spec in WIDE if not parse_action(spec) <= action]
    assert wider
    for other in wider:
        with pytest.raises(NoProof):
            _workshop(name).prove("equivariance", other, MATRICES)
