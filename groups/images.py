"""Homomorphisms of group variables: a tensor may move by an image of the element that moves another one.

Two occur in networks. A norm gain moves by the permutation ``|P|`` that a signed permutation ``P`` of the residual
stream contains, because a gain has no sign to lose. With grouped queries the heads of a group move alike, up to their
order, and the key and value head that they share moves by ``H/2``, what the two copies have in common.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TypeAlias

from groups.copies import Copies
from groups.element import Element, block_diagonal
from groups.group import Group, monomial
from groups.linear import Monomial, PositiveMonomial, PositiveScale, Scale
from groups.permutation import Perm, Sign, SPerm, Trivial
from groups.wreath import Wreath

Image: TypeAlias = str
""""" for the element itself, `PATTERN`, or ``/n`` (`quotient`)."""
PATTERN = "|.|"
"""The permutation of a monomial matrix: ones in the place of its entries."""

_PATTERNS = {
    **dict.fromkeys((Trivial, Sign, PositiveScale, Scale), Trivial),
    **dict.fromkeys((Perm, SPerm, PositiveMonomial, Monomial), Perm),
}


def quotient(copies: int) -> Image:
    """The image that forgets the order of ``copies`` copies which move alike."""
    return f"/{copies}"


def copies(image: Image) -> int:
    """By how much the matrix of the variable is larger than the image."""
    return int(image[1:]) if image.startswith("/") else 1


def image_group(group: Group, image: Image) -> Group:
    """The family of the images of ``group``. Raises ValueError, one line, if there is no such homomorphism."""
    if not image:
        return group
    if image == PATTERN:
        if group not in _PATTERNS:
            known = ", ".join(map(str, _PATTERNS))
            raise ValueError(f"|.| is the permutation of a monomial matrix; {group} is none of {known}")
        return _PATTERNS[group]
    if isinstance(group, Wreath) and isinstance(group.inner, Copies) and group.inner.blocks == copies(image):
        return Wreath(group.inner.inner, group.top, group.blocks)
    if isinstance(group, Copies) and group.blocks == copies(image):
        return group.inner
    raise ValueError(f"{image} needs (Perm[{image[1:]}] x F) or (1[{image[1:]}] x F), alone or in heads, got {group}")


def image_element(group: Group, element: Element, image: Image) -> Element:
    """The image of an element of ``group``."""
    if not image:
        return element
    if image == PATTERN:
        entries = monomial(element) or []
        return Element.from_sparse(tuple(((column, Fraction(1)),) for column, _ in entries))
    if isinstance(group, Copies):
        return group.common(element)
    assert isinstance(group, Wreath)  # image_group has seen this
    assert isinstance(group.inner, Copies)
    split = group.split(element)
    assert split is not None  # it is an element of the group
    top, parts = split
    own = [group.inner.common(part) for part in parts]
    # Block row b of an element holds its part at the column of the block that lands there.
    return block_diagonal(own) @ Wreath(group.inner.inner, group.top, group.blocks).lift(top, own[0].size)
