# ruff: noqa: D102  (what overrides a documented method is documented there)
"""What a property demands: the inputs of a second run, and the two sides that have to agree.

Each property of theory section 4 is a relation between the run on ``(W, G_1..T)`` and the run on transformed inputs. A
search varies the transformation: a group element for equivariance, the shared rows for the shift properties.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import torch

from groups import Action, GroupElement
from symcheck.probe.trajectory import Inputs, Tensors

Shapes = tuple[tuple[int, ...], ...]


class Relation(ABC):
    """One instance of a property: a transformation of the inputs, and what it predicts."""

    @abstractmethod
    def transform(self, inputs: Inputs) -> Inputs:
        """The inputs of the second run."""

    @abstractmethod
    def predict(self, displacement: Tensors) -> Tensors:
        """The right-hand side of one step, from the first run's displacement."""

    def observe(self, displacement: Tensors) -> Tensors:
        """The left-hand side of one step, from the second run's displacement."""
        return displacement

    @property
    @abstractmethod
    def exact(self) -> bool:
        """Whether the transformation is known exactly, so that it may stand in a witness."""

    @property
    def rounds(self) -> bool:
        """Whether transforming dyadic inputs rounds them."""
        return False

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The transformation as data; fractions are strings."""


@dataclass(frozen=True)
class Equivariance(Relation):
    """``run(g.W, g.G) = g . run(W, G)``; only the linear part, since a translation has properties of its own."""

    element: GroupElement

    def transform(self, inputs: Inputs) -> Inputs:
        return Inputs(
            self.element.act_linear(inputs.weights), tuple(self.element.act_dual(step) for step in inputs.grads)
        )

    def predict(self, displacement: Tensors) -> Tensors:
        return self.element.act_linear(displacement)

    @property
    def exact(self) -> bool:
        return self.element.is_exact

    @property
    def rounds(self) -> bool:
        return not self.element.is_dyadic

    def to_json(self) -> dict[str, Any]:
        return {"element": self.element.to_json()}


def centre_rows(tensor: torch.Tensor) -> torch.Tensor:
    """``tensor`` minus its mean row: the projection off the orbit of the shared shift."""
    return tensor - tensor.mean(-2, keepdim=True)


@dataclass(frozen=True)
class ShiftWeights(Relation):
    """The displacement is the same after ``W -> W + 1 c^T``; ``quotient`` compares centred displacements only."""

    row: tuple[Fraction, ...]
    quotient: bool

    def transform(self, inputs: Inputs) -> Inputs:
        return Inputs(tuple(weight + _row(self.row, weight) for weight in inputs.weights), inputs.grads)

    def predict(self, displacement: Tensors) -> Tensors:
        return tuple(map(centre_rows, displacement)) if self.quotient else displacement

    def observe(self, displacement: Tensors) -> Tensors:
        return self.predict(displacement)

    @property
    def exact(self) -> bool:
        return True

    def to_json(self) -> dict[str, Any]:
        return {"shift": [str(entry) for entry in self.row]}


@dataclass(frozen=True)
class ShiftGradients(Relation):
    """The displacement is the same after ``G_t -> G_t + 1 c_t^T`` with one row ``c_t`` for each step, repeated if
    short."""

    rows: tuple[tuple[Fraction, ...], ...]

    def transform(self, inputs: Inputs) -> Inputs:
        grads = tuple(
            tuple(grad + _row(self.rows[step % len(self.rows)], grad) for grad in tensors)
            for step, tensors in enumerate(inputs.grads)
        )
        return Inputs(inputs.weights, grads)

    def predict(self, displacement: Tensors) -> Tensors:
        return displacement

    @property
    def exact(self) -> bool:
        return True

    def to_json(self) -> dict[str, Any]:
        return {"shifts": [[str(entry) for entry in row] for row in self.rows]}


@dataclass(frozen=True)
class Horizontality(Relation):
    """``1^T U = 0``: the mean row of the displacement, which should vanish, against zero."""

    def transform(self, inputs: Inputs) -> Inputs:
        return inputs

    def observe(self, displacement: Tensors) -> Tensors:
        return tuple((tensor.mean(-2, keepdim=True)).expand_as(tensor) for tensor in displacement)

    def predict(self, displacement: Tensors) -> Tensors:
        # Zero, but NaN where the mean row is: an update that is not finite says nothing about motion along the orbit.
        return tuple(0 * tensor for tensor in self.observe(displacement))

    @property
    def exact(self) -> bool:
        return True

    def to_json(self) -> dict[str, Any]:
        return {}


def _row(row: Sequence[Fraction], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor([float(entry) for entry in row], dtype=like.dtype, device=like.device)


@dataclass(frozen=True)
class Property:
    """A property under one action: how to draw relations, how to read one from a witness, which gradients it is
    about."""

    name: str
    action: Action
    centred: bool
    """Whether gradients must satisfy ``1^T G = 0``."""

    def from_json(self, data: Mapping[str, Any], shapes: Shapes) -> Relation:
        """The relation that ``Relation.to_json`` described."""
        if self.name == "equivariance":
            return Equivariance(self.action.linear.element_from_json({"shapes": shapes, **data["element"]}))
        if self.name == "horizontality":
            return Horizontality()
        if self.name == "shift_insensitivity":
            return ShiftGradients(tuple(tuple(map(Fraction, row)) for row in data["shifts"]))
        return ShiftWeights(tuple(map(Fraction, data["shift"])), quotient=self.name == "shift_quotient")

    def small(self, shapes: Shapes) -> tuple[Relation, ...]:
        """Few, small, exact instances, the simplest first: for witnesses that a person reads."""
        if self.name == "equivariance":
            action = self.action.linear
            seen = dict.fromkeys([*action.generators(shapes), *action.exact(shapes)])
            return tuple(Equivariance(element) for element in seen if not element.is_identity)
        width = shapes[0][-1]
        one = tuple(Fraction(int(j == 0)) for j in range(width))
        return (self._shift((one,)), self._shift((tuple(Fraction(1) for _ in range(width)),)))

    def random(self, shapes: Shapes, count: int, generator: torch.Generator) -> tuple[Relation, ...]:
        """``count`` random instances: products of exact elements in turn with Haar elements."""
        if self.name != "equivariance":
            width = shapes[0][-1]
            return tuple(
                self._shift(
                    tuple(
                        tuple(
                            Fraction(int(k), 4) * 2 ** (8 * (number % 2))
                            for k in torch.randint(-40, 41, (width,), generator=generator)
                        )
                        for _ in range(3)
                    )
                )
                for number in range(1 if self.name == "horizontality" else count)
            )
        action = self.action.linear
        exact = [element for element in action.exact(shapes) if not element.is_identity]
        # Dyadic elements keep every tie and every zero of the inputs, so they come first and never miss.
        # Those that mix entries tell most: a permutation with signs is respected by every coordinate-wise rule.
        dyadic = [g for g in exact if g.is_dyadic]
        mixing = [g for g in dyadic if "/" in json.dumps(g.to_json())]
        pools = [pool for pool in (mixing or dyadic, exact) if pool]
        elements: list[GroupElement] = []
        for number in range(count):
            if number % 2 == 1 or not pools:
                elements.extend(action.sample(shapes, 1, rng=generator))
                continue
            pool = pools[(number // 2) % len(pools)]
            first = pool[int(torch.randint(len(pool), (), generator=generator))]
            others = dyadic if pool is pools[0] and dyadic else pool
            second = others[int(torch.randint(len(others), (), generator=generator))]
            product = first @ second
            elements.append(first if product.is_identity else product)
        return tuple(Equivariance(element) for element in elements)

    def strategy(self, shapes: Shapes) -> Any:
        """A hypothesis strategy of exact instances that shrinks to the simplest."""
        from hypothesis import strategies as st

        if self.name == "equivariance":
            return self.action.linear.elements(shapes).map(Equivariance)
        if self.name == "horizontality":
            return st.just(Horizontality())
        entry = st.integers(-4, 4).map(Fraction)
        width = shapes[0][-1]
        return st.lists(st.tuples(*[entry] * width), min_size=1, max_size=2).map(lambda rows: self._shift(tuple(rows)))

    def _shift(self, rows: tuple[tuple[Fraction, ...], ...]) -> Relation:
        makers: Mapping[str, Callable[[], Relation]] = {
            "horizontality": Horizontality,
            "shift_insensitivity": lambda: ShiftGradients(rows),
            "shift_equivariance": lambda: ShiftWeights(rows[0], quotient=False),
            "shift_quotient": lambda: ShiftWeights(rows[0], quotient=True),
        }
        return makers[self.name]()


SIDES = MappingProxyType(
    {
        "equivariance": ("run(g.W, g.G)", "g . run(W, G)"),
        "shift_equivariance": ("run(W + 1 c^T, G)", "run(W, G)"),
        "shift_quotient": ("centred run(W + 1 c^T, G)", "centred run(W, G)"),
        "shift_insensitivity": ("run(W, G + 1 c^T)", "run(W, G)"),
        "horizontality": ("mean row of run(W, G)", "0"),
    }
)
"""How a report names the two sides."""
