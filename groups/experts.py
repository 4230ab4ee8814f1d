# ruff: noqa: D102  (what overrides a documented method is documented there)
"""The wreath action on a stack of experts: each expert moved by its own element, then the experts permuted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from groups.action import Action, shapes_from_json
from groups.element import Element
from groups.group_element import ExpertElement, GroupElement, Shapes, matrix_from_json
from groups.permutation import Perm

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, repr=False)
class ExpertAction(Action):
    """``(block) wr Perm(experts)`` on tensors ``(E, m, n)`` that share their leading expert axis."""

    block: Action

    def __post_init__(self) -> None:
        if isinstance(self.block, ExpertAction):
            raise ValueError("a stack of experts has one expert axis; (...) wr Perm(experts) cannot be nested")
        if any(factor.axis == "experts" for row in getattr(self.block, "factors", ()) for factor in row):
            raise ValueError("inside (...) wr Perm(experts) no factor acts on the experts axis")

    def __repr__(self) -> str:
        return f"parse_action({str(self)!r})"

    @property
    def tensors(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.block.tensors

    @property
    def shift(self) -> bool:
        return self.block.shift

    @property
    def linear(self) -> ExpertAction:
        return ExpertAction(self.block.linear)

    @property
    def is_orthogonal(self) -> bool:
        return self.block.is_orthogonal

    def split_shapes(self, shapes: Shapes) -> tuple[int, Shapes]:
        """The number of experts and the shapes of one block. Raises ValueError, one line, if the shapes do not fit."""
        shapes = tuple(map(tuple, shapes))
        if any(len(shape) != 3 for shape in shapes):
            raise ValueError(f"{self}: tensors are stacks (experts, rows, cols), got shapes {shapes}")
        experts = {shape[0] for shape in shapes}
        if len(experts) != 1 or min(experts) < 1:
            raise ValueError(f"{self}: all tensors have the same positive number of experts, got {sorted(experts)}")
        inner = tuple(shape[1:] for shape in shapes)
        self.block.check(inner)
        return experts.pop(), inner

    def check(self, shapes: Shapes) -> None:
        self.split_shapes(shapes)

    def element(self, shapes: Shapes, inner: tuple[GroupElement, ...], permutation: Element) -> ExpertElement:
        """The element with these block elements and this expert permutation, both checked (ValueError, one line)."""
        experts, blocks = self.split_shapes(shapes)
        if not permutation.is_exact or permutation.size != experts or not Perm.contains(permutation):
            raise ValueError(f"{self}: the experts are moved by an exact permutation of size {experts}")
        if len(inner) != experts or any((g.action, g.shapes) != (self.block, blocks) for g in inner):
            raise ValueError(f"{self}: expected {experts} elements of {self.block} on {blocks}")
        return ExpertElement(self, tuple(map(tuple, shapes)), inner, permutation)

    def _with(self, shapes: Shapes, at: dict[int, GroupElement], permutation: Element | None = None) -> ExpertElement:
        experts, blocks = self.split_shapes(shapes)
        still = self.block.identity(blocks)
        inner = tuple(at.get(e, still) for e in range(experts))
        return ExpertElement(self, tuple(map(tuple, shapes)), inner, permutation or Element.identity(experts))

    def identity(self, shapes: Shapes) -> ExpertElement:
        return self._with(shapes, {})

    def generators(self, shapes: Shapes) -> tuple[ExpertElement, ...]:
        experts, blocks = self.split_shapes(shapes)
        inside = [self._with(shapes, {e: g}) for e in range(experts) for g in self.block.generators(blocks)]
        return (*inside, *(self._with(shapes, {}, p) for p in Perm.generators(experts)))

    def exact(self, shapes: Shapes) -> tuple[ExpertElement, ...]:
        experts, blocks = self.split_shapes(shapes)
        pool, tops = self.block.exact(blocks), Perm.exact(experts)
        found = [self._with(shapes, {}, top) for top in tops]
        found += [self._with(shapes, {k % experts: g}) for k, g in enumerate(pool)]
        if pool:
            every = {e: pool[e % len(pool)] for e in range(experts)}
            found += [self._with(shapes, every), *(self._with(shapes, every, top) for top in tops)]
        return tuple(sorted(dict.fromkeys(found), key=lambda element: not element.is_dyadic))

    def sample(self, shapes: Shapes, count: int, *, rng: torch.Generator) -> tuple[ExpertElement, ...]:
        experts, blocks = self.split_shapes(shapes)
        inner = self.block.sample(blocks, count * experts, rng=rng)
        tops = [Element.from_exact(p) for p in Perm.sample(experts, count, rng=rng).long().tolist()]
        return tuple(
            ExpertElement(self, tuple(map(tuple, shapes)), inner[k * experts : (k + 1) * experts], top)
            for k, top in enumerate(tops)
        )

    def elements(self, shapes: Shapes) -> SearchStrategy[GroupElement]:
        import hypothesis.strategies as st

        experts, blocks = self.split_shapes(shapes)
        fixed = tuple(map(tuple, shapes))
        inner = st.tuples(*[self.block.elements(blocks)] * experts)
        return st.builds(lambda parts, top: ExpertElement(self, fixed, parts, top), inner, Perm.elements(experts))

    def element_from_json(self, data: Any) -> ExpertElement:
        shapes = shapes_from_json(data, str(self))
        self.check(shapes)
        if not isinstance(data.get("inner"), list):
            raise ValueError(f"{self}: 'inner' of a group element is the list of its block elements")
        inner = tuple(self.block.element_from_json(g) for g in data["inner"])
        return self.element(shapes, inner, matrix_from_json(data.get("experts"), f"{self}: experts"))

    def restrict(self, tensor: str) -> ExpertAction:
        return ExpertAction(self.block.restrict(tensor))
