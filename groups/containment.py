"""When every map of one action is a map of another: the order that decides which claims follow from which."""

from __future__ import annotations

from groups.action import Action, Factor, ProductAction
from groups.experts import ExpertAction
from groups.group import Group
from groups.images import PATTERN, image_group
from groups.linear import PositiveScale, Scale
from groups.order import BLOCK_DIAGONAL_CLOSED
from groups.permutation import Perm, Sign


def is_subaction(small: Action, large: Action) -> bool:
    """Whether ``small`` is contained in ``large`` on all shapes that fit both; False also where unknown."""
    if small.tensors != large.tensors:
        return False
    if isinstance(small, ExpertAction):
        if isinstance(large, ExpertAction):
            return is_subaction(small.block, large.block)
        return isinstance(large, ProductAction) and _wreath_in_entries(small, large)
    if isinstance(small, ProductAction) and isinstance(large, ExpertAction):
        return _product_in_wreath(small, large)
    if isinstance(small, ProductAction) and isinstance(large, ProductAction):
        return _product_in_product(small, large)
    return False


def _product_in_product(small: ProductAction, large: ProductAction) -> bool:
    """Every element of ``small`` must arise from one choice of the variables of ``large``.

    A variable used once can follow its axis freely, so the projection to that axis decides. A variable used several
    times needs the same variable of ``small``, with the same duals, in all its places.
    """
    if any(a and not b for a, b in zip(small.shifts, large.shifts, strict=True)):
        return False
    small = _spread(small, large)
    places: dict[str, list[tuple[int, Factor]]] = {name: [] for name in large.variable_names}
    for index, factors in enumerate(large.factors):
        for factor in factors:
            places[factor.variable].append((index, factor))
        axes = {factor.axis for factor in factors}
        if "entries" not in axes and not {factor.axis for factor in small.factors[index]} <= axes:
            return False
    return all(_follows(small, large.groups[name], uses) for name, uses in places.items())


def _spread(small: ProductAction, large: ProductAction) -> ProductAction:
    """``small``, or an action that contains it: a factor on all of a tensor as a diagonal matrix on an axis where
    ``large`` has such matrices and ``small`` none. Sizes need not fit: what is compared are families."""
    rows = []
    for own, others in zip(small.factors, large.factors, strict=True):
        free = [f.axis for f in others if f.axis in ("rows", "cols") and f.axis not in {g.axis for g in own}]
        scalars = [f for f in own if f.axis == "all" and not any(g.axis in ("all", "entries") for g in others)]
        places = [
            axis
            for axis in free
            for f in others
            if f.axis == axis
            and scalars
            and small.groups[scalars[0].variable] <= image_group(large.groups[f.variable], f.image)
        ]
        if scalars and places and small.groups[scalars[0].variable] in (Sign, PositiveScale, Scale):
            moved = Factor(scalars[0].variable, places[0], scalars[0].dual)
            own = (*(f for f in own if f.axis != "all"), moved)
        rows.append(own)
    return ProductAction(small.tensors, small.variables, tuple(rows), small.shifts)


def _follows(small: ProductAction, group: Group, uses: list[tuple[int, Factor]]) -> bool:
    """Whether a variable of that family, in these places, can reproduce what ``small`` does there."""
    if len(uses) == 1 and uses[0][1].axis == "entries":
        return _within_entries(small, uses[0][0], group)
    factors = [small.group_on(index, factor.axis) for index, factor in uses]
    if any(
        use.axis == "entries" and small.factors[index] and found is None
        for (index, use), found in zip(uses, factors, strict=True)
    ):
        return False
    found = [factor for factor in factors if factor is not None]
    if not found:
        return True
    variable = found[0].variable
    images = {(factor.image, use.image) for factor, (_, use) in zip(found, uses, strict=False)}
    inner = own = small.groups[variable]
    if {use.image for _, use in uses} == {""}:  # the variable then follows the images, which must be one
        inner = image_group(inner, found[0].image)
        images = {(factor.image, found[0].image) for factor in found}
    # A permutation is its own pattern.
    if any(one != other and not (other == PATTERN and not one and own <= Perm) for one, other in images):
        return False
    if len(found) < len(uses) or any(factor.variable != variable for factor in found):
        return False
    # Whether each place uses the matrix or its dual must agree, up to one dual for all, which the group absorbs.
    swaps = {factor.dual != use.dual for factor, (_, use) in zip(found, uses, strict=True)}
    if len(swaps) > 1 and not inner.is_orthogonal:
        return False
    if swaps == {True} and not group.is_self_dual and not inner.is_orthogonal:
        return False
    return inner <= group


def _within_entries(small: ProductAction, index: int, group: Group) -> bool:
    factors = small.factors[index]
    if [factor.axis for factor in factors] in ([], ["entries"]):
        return all(small.groups[factor.variable] <= group for factor in factors)
    # A product over axes is a Kronecker product on the entries.
    return group in BLOCK_DIAGONAL_CLOSED and all(small.groups[factor.variable] <= group for factor in factors)


def _wreath_in_entries(small: ExpertAction, large: ProductAction) -> bool:
    """On all entries of a stack, per-expert elements are block diagonal, and the expert order is a permutation."""
    block = small.block
    if small.shift or not isinstance(block, ProductAction):
        return False
    if any(len(factors) != 1 or factors[0].axis != "entries" for factors in large.factors):
        return False
    if len(large.variables) < len(large.tensors):
        return False
    return all(
        Perm <= group and _within_entries(block, index, group)
        for index, group in enumerate(large.groups[factors[0].variable] for factors in large.factors)
    )


def _product_in_wreath(small: ProductAction, large: ExpertAction) -> bool:
    """The same element for every expert, and a permutation of the experts that all tensors share."""
    on_experts = {small.group_on(index, "experts") for index in range(len(small.tensors))}
    rest = tuple(tuple(f for f in factors if f.axis != "experts") for factors in small.factors)
    names = {factor.variable for factor in on_experts if factor is not None}
    if names:
        shared = {factor.variable for factors in rest for factor in factors}
        if None in on_experts or len(names) > 1 or names & shared or not small.groups[min(names)] <= Perm:
            return False
    if any(factor.axis == "entries" for factors in rest for factor in factors):
        return False
    variables = tuple((name, group) for name, group in small.variables if name not in names)
    return is_subaction(ProductAction(small.tensors, variables, rest, small.shifts), large.block)
