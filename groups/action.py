# ruff: noqa: D102  (what overrides a documented method is documented there)
"""Actions of group variables on the axes of one or several tensors, with an optional shift of the rows.

One mechanism covers left, right, two-sided, conjugation, joint, per-head and contragredient actions: an action names
group variables and says on which axis of which tensor each of them multiplies, by itself, its inverse transpose, or an
image of it under a homomorphism. A factor with matrix ``A`` on the rows
and ``B`` on the columns acts as ``W -> A W B^T``; a contragredient factor uses the inverse transpose of its matrix.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

from groups.element import Element
from groups.group import Group
from groups.group_element import (
    GroupElement,
    ProductElement,
    Shapes,
    Translation,
    matrix_from_json,
    translation_from_json,
)
from groups.images import Image, copies, image_group
from groups.permutation import Trivial

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy

    from groups.experts import ExpertAction

AXES = ("rows", "cols", "entries", "experts", "all")
"""Axis -2, axis -1, all entries of the tensor as one vector, axis -3; ``all`` is none: a 1 x 1 matrix multiplies all of
the tensor."""
SINGLE = "W"
"""The name of the tensor of an action on one unnamed tensor."""


@dataclass(frozen=True)
class Factor:
    """One variable on one axis of one tensor; ``dual`` if by its inverse transpose.

    ``image``: "", or the homomorphism of `groups.images` through which the variable acts here.
    """

    variable: str
    axis: str
    dual: bool = False
    image: Image = ""


class Action(abc.ABC):
    """A group acting on the tensors of a block; a value, whose ``str`` is its spec and read back by ``parse_action``.

    ``shapes`` everywhere is the tuple of the shapes of the tensors, in the order of :attr:`tensors`.
    """

    tensors: tuple[str, ...]

    @property
    @abc.abstractmethod
    def shift(self) -> bool:
        """Whether there is a translation part ``W -> W + 1 c^T``."""

    @property
    @abc.abstractmethod
    def linear(self) -> Action:
        """The same action without its translation part."""

    @property
    @abc.abstractmethod
    def is_orthogonal(self) -> bool:
        """Whether the linear part is orthogonal, so that gradients move like displacements."""

    @abc.abstractmethod
    def check(self, shapes: Shapes) -> None:
        """Raises ValueError, one line, if the action does not fit tensors of these shapes."""

    @abc.abstractmethod
    def identity(self, shapes: Shapes) -> GroupElement:
        """The element that moves nothing."""

    @abc.abstractmethod
    def generators(self, shapes: Shapes) -> tuple[GroupElement, ...]:
        """Exact elements that generate the discrete part, and the unit translations."""

    @abc.abstractmethod
    def exact(self, shapes: Shapes) -> tuple[GroupElement, ...]:
        """Exact elements other than the identity: dyadic ones first, each variable alone before several together."""

    @abc.abstractmethod
    def sample(self, shapes: Shapes, count: int, *, rng: torch.Generator) -> tuple[GroupElement, ...]:
        """``count`` independent random elements by the law of each family; translations are standard normal."""

    @abc.abstractmethod
    def elements(self, shapes: Shapes) -> SearchStrategy[GroupElement]:
        """Strategy: exact elements, products of few simple moves; shrinks to the identity."""

    @abc.abstractmethod
    def element_from_json(self, data: Any) -> GroupElement:
        """The inverse of ``GroupElement.to_json``. Raises ValueError, one line, unless the element is one of this."""

    @abc.abstractmethod
    def restrict(self, tensor: str) -> Action:
        """The action on one of the tensors alone, as an action on a single tensor ``W``."""

    def over_experts(self) -> ExpertAction:
        """``(self) wr Perm(experts)``: a stack of blocks, each moved by its own element, in any order."""
        from groups.experts import ExpertAction

        return ExpertAction(self)

    def __le__(self, other: Action) -> bool:
        """Whether every map of this action is known to be one of ``other``: sound, not complete."""
        from groups.containment import is_subaction

        return is_subaction(self, other) if isinstance(other, Action) else NotImplemented

    def __str__(self) -> str:
        from groups.spec import format_action

        return format_action(self)


@dataclass(frozen=True, repr=False)
class ProductAction(Action):
    """A product of group variables, each acting on some axes of some tensors, and shifts of the rows of some tensors.

    ``variables`` pairs names with families in the order of first use; a variable used once is named by its place
    (``rows``, or ``gate.rows`` if there are several tensors). Build it with :func:`product_action`.
    """

    tensors: tuple[str, ...]
    variables: tuple[tuple[str, Group], ...]
    factors: tuple[tuple[Factor, ...], ...]
    shifts: tuple[bool, ...]

    def __repr__(self) -> str:
        return f"parse_action({str(self)!r})"

    @property
    def variable_names(self) -> tuple[str, ...]:
        """The names of the variables, in order."""
        return tuple(name for name, _ in self.variables)

    @cached_property
    def groups(self) -> Mapping[str, Group]:
        """The family of each variable."""
        return dict(self.variables)

    @property
    def shift(self) -> bool:
        return any(self.shifts)

    @property
    def linear(self) -> ProductAction:
        return ProductAction(self.tensors, self.variables, self.factors, (False,) * len(self.tensors))

    @property
    def is_orthogonal(self) -> bool:
        return all(group.is_orthogonal for _, group in self.variables)

    def group_on(self, tensor: int, axis: str) -> Factor | None:
        """The factor on one axis of one tensor, or None if that axis does not move."""
        return next((factor for factor in self.factors[tensor] if factor.axis == axis), None)

    def sizes(self, shapes: Shapes) -> dict[str, int]:
        """The size of each variable's matrix. Raises ValueError, one line, if the shapes do not fit."""
        if len(shapes) != len(self.tensors):
            raise ValueError(
                f"{self}: expected {len(self.tensors)} shapes ({', '.join(self.tensors)}), got {len(shapes)}"
            )
        sizes: dict[str, int] = {}
        places: dict[str, str] = {}
        for tensor, shape, factors, shift in zip(self.tensors, shapes, self.factors, self.shifts, strict=True):
            if min(shape, default=1) < 1:
                raise ValueError(f"{self}: tensor {tensor} has an empty axis: shape {shape}")
            if shift and len(shape) < 2:
                raise ValueError(f"{self}: Shift(rows) of tensor {tensor} needs rows and columns, got shape {shape}")
            for factor in factors:
                size = _axis_size(shape, factor.axis)
                place = f"{tensor} {factor.axis}"
                if size is None:
                    raise ValueError(f"{self}: tensor {tensor} of shape {shape} has no axis '{factor.axis}'")
                size *= copies(factor.image)
                if sizes.setdefault(factor.variable, size) != size:
                    before = f"{sizes[factor.variable]} on {places[factor.variable]}"
                    raise ValueError(f"{self}: variable {factor.variable} has size {before} but {size} on {place}")
                places.setdefault(factor.variable, place)
        for name, group in self.variables:
            try:
                group.check_size(sizes[name])
            except ValueError as error:
                raise ValueError(f"{self}: {places[name]}: {error}") from None
        return sizes

    def check(self, shapes: Shapes) -> None:
        self.sizes(shapes)

    def element(
        self,
        shapes: Shapes,
        values: Mapping[str, Element] | None = None,
        translations: Mapping[str, Sequence[Fraction | float]] | None = None,
    ) -> ProductElement:
        """The element with these matrices by variable and these row vectors by tensor; what is absent does not move.

        Raises ValueError, one line, for an unknown name, a wrong size, or a matrix outside the variable's group.
        """
        shapes = tuple(map(tuple, shapes))
        sizes, values, translations = self.sizes(shapes), dict(values or {}), dict(translations or {})
        unknown = [*(values.keys() - sizes.keys()), *(translations.keys() - set(self._shifted()))]
        if unknown:
            known = ", ".join([*sizes, *(f"shift of {name}" for name in self._shifted())])
            raise ValueError(f"{self}: nothing called {unknown[0]!r} moves here; known: {known}")
        for name, value in values.items():
            if value.size != sizes[name] or not self.groups[name].contains(value):
                size = sizes[name]
                raise ValueError(
                    f"{self}: the {value.size} x {value.size} matrix of {name} is not in {self.groups[name]}({size})"
                )
        matrices = tuple(values.get(name) or Element.identity(sizes[name]) for name in self.variable_names)
        rows: list[Translation | None] = []
        for name, shape, shift in zip(self.tensors, shapes, self.shifts, strict=True):
            row = translations.get(name, (Fraction(0),) * shape[-1]) if shift else None
            if row is not None and len(row) != shape[-1]:
                raise ValueError(f"{self}: the shift of {name} has {len(row)} entries, the tensor {shape[-1]} columns")
            rows.append(_translation(row) if row is not None else None)
        return ProductElement(self, shapes, matrices, tuple(rows))

    def _shifted(self) -> list[str]:
        return [name for name, shift in zip(self.tensors, self.shifts, strict=True) if shift]

    def identity(self, shapes: Shapes) -> ProductElement:
        return self.element(shapes)

    def generators(self, shapes: Shapes) -> tuple[ProductElement, ...]:
        sizes = self.sizes(shapes)
        found = [
            self.element(shapes, {name: g}) for name, group in self.variables for g in group.generators(sizes[name])
        ]
        columns = dict(zip(self.tensors, (shape[-1] if shape else 0 for shape in shapes), strict=True))
        for name in self._shifted():
            found += [self.element(shapes, translations={name: _unit(columns[name], i)}) for i in range(columns[name])]
        return tuple(found)

    def exact(self, shapes: Shapes) -> tuple[ProductElement, ...]:
        sizes = self.sizes(shapes)
        pools = {name: group.exact(sizes[name]) for name, group in self.variables}
        pools = {name: pool for name, pool in pools.items() if pool}
        columns = dict(zip(self.tensors, (shape[-1] if shape else 0 for shape in shapes), strict=True))
        rows = {name: _small_rows(columns[name]) for name in self._shifted()}
        single = [self.element(shapes, {name: value}) for name, pool in pools.items() for value in pool]
        single += [self.element(shapes, translations={name: row}) for name, pool in rows.items() for row in pool]
        joint = []
        if len(pools) + len(rows) > 1:
            for k in range(max(map(len, [*pools.values(), *rows.values()]))):
                values = {name: pool[k % len(pool)] for name, pool in pools.items()}
                joint.append(self.element(shapes, values, {name: pool[k % len(pool)] for name, pool in rows.items()}))
        return tuple(sorted(dict.fromkeys([*single, *joint]), key=lambda element: not element.is_dyadic))

    def sample(self, shapes: Shapes, count: int, *, rng: torch.Generator) -> tuple[ProductElement, ...]:
        import torch

        shapes = tuple(map(tuple, shapes))
        sizes = self.sizes(shapes)
        drawn = [_elements(group, group.sample(sizes[name], count, rng=rng)) for name, group in self.variables]
        rows: list[list[Translation | None]] = []
        for shape, shift in zip(shapes, self.shifts, strict=True):
            if not shift:
                rows.append([None] * count)
                continue
            normal = torch.randn(count, shape[-1], generator=rng, dtype=torch.float64, device=rng.device)
            rows.append([tuple(row) for row in normal.tolist()])
        return tuple(
            ProductElement(self, shapes, tuple(pool[k] for pool in drawn), tuple(pool[k] for pool in rows))
            for k in range(count)
        )

    def elements(self, shapes: Shapes) -> SearchStrategy[GroupElement]:
        import hypothesis.strategies as st

        shapes = tuple(map(tuple, shapes))
        sizes = self.sizes(shapes)
        matrices = st.tuples(*(group.elements(sizes[name]) for name, group in self.variables))
        entries = st.integers(-2, 2).map(Fraction)
        rows = st.tuples(
            *(
                st.tuples(*[entries] * shape[-1]) if shift else st.none()
                for shape, shift in zip(shapes, self.shifts, strict=True)
            )
        )
        return st.builds(
            lambda values, translations: ProductElement(self, shapes, values, translations), matrices, rows
        )

    def element_from_json(self, data: Any) -> ProductElement:
        shapes = shapes_from_json(data, str(self))
        matrices, shifts = data.get("matrices", {}), data.get("shift", {})
        if not isinstance(matrices, dict) or not isinstance(shifts, dict):
            raise ValueError(f"{self}: 'matrices' and 'shift' of a group element are objects")
        columns = dict(zip(self.tensors, (shape[-1] if shape else 0 for shape in shapes), strict=False))
        values = {name: matrix_from_json(rows, f"{self}: {name}") for name, rows in matrices.items()}
        rows = {name: translation_from_json(c, columns.get(name, 0), f"{self}: {name}") for name, c in shifts.items()}
        return self.element(shapes, values, rows)

    def restrict(self, tensor: str) -> ProductAction:
        if tensor not in self.tensors:
            raise ValueError(f"{self}: no tensor {tensor!r}; known: {', '.join(self.tensors)}")
        index = self.tensors.index(tensor)
        return product_action((SINGLE,), self.groups, (self.factors[index],), (self.shifts[index],))


def product_action(
    tensors: Sequence[str],
    groups: Mapping[str, Group],
    factors: Sequence[Sequence[Factor]],
    shifts: Sequence[bool],
) -> ProductAction:
    """The action in normal form: trivial factors dropped, variables in order of use, single-use ones named by place.

    Raises ValueError, one line: for an axis that is used twice on a tensor, ``entries`` beside another axis, or a shift
    that the rows do not normalise (``A 1 = 1`` is needed for ``W -> A W + 1 c^T`` to be a group).
    """
    uses = [factor.variable for row in factors for factor in row]
    variables: dict[str, Group] = {}
    kept: list[tuple[Factor, ...]] = []
    for tensor, row, shift in zip(tensors, factors, shifts, strict=True):
        _check_axes("" if tensor == SINGLE else f" of tensor {tensor}", row, groups, shift)
        live = []
        for factor in sorted(row, key=lambda factor: AXES.index(factor.axis)):
            group = groups[factor.variable]
            place = factor.axis if len(tensors) == 1 else f"{tensor}.{factor.axis}"
            shared = uses.count(factor.variable) > 1
            if not shared:
                group = image_group(group, factor.image)
            if group == Trivial:
                continue
            name = factor.variable if shared else place
            variables.setdefault(name, group)
            acting = image_group(group, factor.image) if shared else group
            dual = factor.dual and not acting.is_orthogonal
            live.append(Factor(name, factor.axis, dual, factor.image if shared else ""))
        kept.append(tuple(live))
    return ProductAction(tuple(tensors), tuple(variables.items()), tuple(kept), tuple(shifts))


def _check_axes(where: str, row: Sequence[Factor], groups: Mapping[str, Group], shift: bool) -> None:
    from groups.orthogonal import Stab1

    axes = [factor.axis for factor in row]
    if len(set(axes)) < len(axes):
        raise ValueError(f"two factors act on the same axis{where}; join them into one group")
    if "entries" in axes and (len(axes) > 1 or shift):
        raise ValueError(f"entries{where} are all axes at once; no other factor or shift can stand beside them")
    for factor in row:
        group = image_group(groups[factor.variable], factor.image)
        if shift and factor.axis in ("rows", "experts") and not group <= Stab1:
            raise ValueError(f"Shift(rows){where} needs {factor.axis} in Stab1 (A 1 = 1), got {group}")
        if shift and factor.axis == "all":
            raise ValueError(f"Shift(rows){where} has no law beside a factor on all of the tensor")


def shapes_from_json(data: Any, where: str) -> Shapes:
    """The shapes of an element's JSON. Raises ValueError, one line, if they are missing or malformed."""
    shapes = data.get("shapes") if isinstance(data, dict) else None
    if not isinstance(shapes, list) or not all(
        isinstance(shape, list) and all(type(size) is int for size in shape) for shape in shapes
    ):
        raise ValueError(f"{where}: a group element is an object with 'shapes', a list of lists of integers")
    return tuple(map(tuple, shapes))


def _axis_size(shape: tuple[int, ...], axis: str) -> int | None:
    if axis in ("entries", "all"):
        return prod(shape) if axis == "entries" else 1
    index = {"rows": -2, "cols": -1, "experts": -3}[axis]
    return shape[index] if len(shape) >= -index else None


def _elements(group: Group, batch: torch.Tensor) -> list[Element]:
    """A batch of sampled matrices as elements; exact for the finite families."""
    arrays = batch.cpu().numpy()
    if not group.is_finite:
        return [Element.from_float(array, orthogonal=group.is_orthogonal) for array in arrays]
    return [
        Element.from_sparse(tuple(tuple((int(j), Fraction(int(row[j]))) for j in row.nonzero()[0]) for row in a))
        for a in arrays
    ]


def _unit(size: int, index: int) -> tuple[Fraction, ...]:
    return tuple(Fraction(int(i == index)) for i in range(size))


def _small_rows(size: int) -> list[tuple[Fraction, ...]]:
    """Two translations: along one column, and along all columns by different amounts."""
    return [_unit(size, 0), tuple(Fraction((-1) ** i * (i % 3 + 1)) for i in range(size))]


def _translation(row: Sequence[Fraction | float]) -> Translation:
    if any(isinstance(c, float) for c in row):
        return tuple(float(c) for c in row)
    return tuple(Fraction(c) for c in row)
