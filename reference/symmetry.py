"""Spec strings of the groups that rules claim, in the grammar of `groups`, and the traits of oriented rules."""

from __future__ import annotations

from reference.rule import DirectionTraits
from reference.transforms.layout import Orientation

ENTRYWISE_SIGNED = "SPerm(entries)"
"""Signed permutations of all entries: the maximal orthogonal group of a coordinate-wise odd rule."""
ENTRYWISE_ORTHOGONAL = "O(entries)"
BI_ORTHOGONAL = "O(rows) x O(cols)"


def row_geometry(orientation: Orientation, *, centered: bool, polarized: bool) -> str:
    """Group of a rule that treats the rows of the oriented matrix alike; ``polarized`` if it also takes a polar factor.

    On the oriented matrix it is ``SPerm x O``, or ``Perm x O`` when centred. A pair orientation glues two stored axes
    together, and the group on the pair matrix ``[gate | up]`` has no name as an action on the rows and columns of the
    stored weight: the permutation acts on both halves at once and the rotations mix them. Claimed is the largest part
    that has one: the rotations of the model axis and, for plain row norms, an independent rotation of every (gate_j,
    up_j) plane.
    """
    units = "Perm" if centered else "SPerm"
    if orientation == "row":
        return f"{units}(rows) x O(cols)"
    if orientation == "col":
        return f"O(rows) x {units}(cols)"
    planes = not (centered or polarized)
    if orientation == "olmoe_gate_up_pair":
        return "U1[half](rows) x O(cols)" if planes else "O(cols)"
    return "O(rows) x U1[interleaved](cols)" if planes else "O(rows)"


def oriented_row_traits(orientation: Orientation, centered: bool) -> DirectionTraits:
    """Traits of a degree-0 rule on the rows of the oriented matrix.

    Scaling and mixing the *columns* of a stored weight keeps its column space, so ``col`` and the gpt-oss pair (whose
    units are columns) are horizontal as they are. Centring the OLMoE pair matrix centres gate rows and up rows each.
    """
    units_are_rows = orientation in ("row", "olmoe_gate_up_pair")
    return DirectionTraits(
        degree=0, shift_insensitive=centered and units_are_rows, horizontal=centered or not units_are_rows
    )


def blocks_of(family: str, blocks: int) -> str:
    """``family`` on each of ``blocks`` contiguous blocks of an axis, and the permutations of the blocks."""
    return family if blocks == 1 else f"({family} wr Perm[{blocks}])"


def experts_of(matrix_spec: str) -> str:
    """``matrix_spec`` on every matrix of a stack, and the permutations of the stack."""
    return f"({matrix_spec}) wr Perm(experts)"
