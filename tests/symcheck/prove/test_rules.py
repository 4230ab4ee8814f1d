"""Every configuration of every reference rule is proved for the group that it claims, and for none above it."""

from __future__ import annotations

import pytest

from groups import parse_action
from reference import Rule
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
SQUARE = (((4, 4),), ((3, 3),))
STACKS = (((2, 4, 6),), ((3, 6, 4),))
_STACKED = "stacks a matrix on an identity, whose rows move differently: no law describes that axis"
_PAIRED = "cuts an axis into interleaved or halved pairs, which no law of that axis follows"
_SORTED = "sorts eigenvectors, whose signs no law follows through a permutation that depends on data"
_FULL = "QR of as many columns as rows: nothing tells the two axes of the square factor apart"
UNREACHED = {
    "soap/often": _SORTED,
    "soap/right": _SORTED,
    "dion": _FULL,
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


def _shapes(rule: Rule) -> tuple[tuple[tuple[int, ...]], ...]:
    """Matrices or stacks; square ones for a rule that needs a simple spectrum of both Gram matrices."""
    if "spectrum" in str(rule.side_conditions):
        return SQUARE
    return MATRICES if type(rule).min_ndim < 3 else STACKS


@pytest.mark.parametrize("name", VARIANTS)
def test_the_claimed_group_is_proved(name: str) -> None:
    rule = VARIANTS[name]
    shapes = _shapes(rule)
    action = parse_action(rule.symmetry)
    if name in UNREACHED:
        with pytest.raises(NoProof):
            _workshop(name).prove("equivariance", action, shapes)
        return
    assert _workshop(name).prove("equivariance", action, shapes).proofs


# One configuration for every group that a rule has; the Muons have those of the spectral rules.
GROUPS = {(type(rule), rule.symmetry): name for name, rule in reversed(VARIANTS.items()) if "muon" not in name}


@pytest.mark.parametrize("name", sorted(GROUPS.values()))
def test_no_wider_group_is_proved(name: str) -> None:
    rule = VARIANTS[name]
    if type(rule).min_ndim > 2:
        return
    action = parse_action(rule.joint_symmetry)  # a random state that no direction is preferred by moves in law
    wider = [parse_action(spec) for spec in WIDE if not parse_action(spec) <= action]
    assert wider
    for other in wider:
        with pytest.raises(NoProof):
            _workshop(name).prove("equivariance", other, _shapes(rule))


def test_soap_is_proved_where_the_spectra_are_simple_and_nowhere_else() -> None:
    both = parse_action("O(rows) x O(cols)")
    assert _workshop("soap").prove("equivariance", both, SQUARE).conditions == ("simple spectrum",)
    with pytest.raises(NoProof, match="assumes a simple spectrum, which ordinary 4x6 gradients do not have"):
        _workshop("soap").prove("equivariance", both, (((4, 6),),))


def test_dion_is_equivariant_in_law_under_rotations_of_both_axes() -> None:
    rule = VARIANTS["dion/rank_3"]
    proved = _workshop("dion/rank_3").prove("equivariance", parse_action(rule.joint_symmetry), MATRICES)
    assert "in distribution over its random numbers" in proved.conditions
