"""The form of a joint rule: a frozen value that steps the tensors of one symmetry block together.

A symmetry such as ``W_up -> D W_up, W_down -> W_down D^{-1}`` ties tensors together, so a rule that respects it has to
see all of them. The rules here have one form. They run an ordinary rule, the *base* (Adam, Muon), on coordinates of the
gradients that the symmetry does not change, and map the base's directions back:

    displacement = -lr * back(base(invariant(gradients, weights), state), weights) - lr * weight_decay * weights.

The state belongs to the base and never moves. That is exactly equivariant for every element that is the same at all
steps, with eps and with decay (which is decoupled: a scalar commutes with every linear action).
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypeVar

from reference.joint.gauge import action_of
from reference.orthogonalizers import Orthogonalizer, get_orthogonalizer, without_eps
from reference.rule import Array, GradientRule, State, build_rule
from reference.rules.adam import Adam
from reference.rules.muon import Muon

Base = Literal["adam", "muon"]
BASES: tuple[Base, ...] = ("adam", "muon")

JointState: TypeAlias = tuple[State, ...]
"""The state of the base for every tensor, in the order of the tensors."""


@dataclass(frozen=True)
class JointTraits:
    """What one configuration does beside being equivariant, as `reference.Traits`. ``degree``: ``U(c G) = c**degree
    U(G)`` with all eps zero. ``horizontal``: without decay the displacement is orthogonal to the orbit of the weights,
    in the metric that the symmetry does not change."""

    degree: float | None
    horizontal: bool


@dataclass(frozen=True, kw_only=True)
class JointRule(ABC):
    """A rule for the tensors ``(..., m, n)`` of one block, with its hyper-parameters. Leading axes are a batch.

    ``gauge`` is the symmetry that the rule is built for, a spec string of `groups` whose tensors are, in this order,
    those of the block. ``base`` "adam" uses ``betas`` and ``eps``; "muon" uses ``momentum``, ``nesterov`` and
    ``orthogonalizer``, with the shape scale ``sqrt(max(1, m / n))``. Decay is decoupled.
    """

    lr: float
    weight_decay: float = 0.0
    gauge: str = ""
    base: Base = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.95
    nesterov: bool = True
    orthogonalizer: str | Orthogonalizer = "jordan"

    name: ClassVar[str]
    """Name in `JOINT_RULES`."""
    source: ClassVar[str]
    """arXiv id, and how far the formula follows it."""

    def __post_init__(self) -> None:
        if self.base not in BASES:
            raise ValueError(f"rule {self.name!r}: base must be one of {', '.join(BASES)}, got {self.base!r}")
        try:
            self.parts  # noqa: B018  (building them checks the gauge and every hyper-parameter)
        except ValueError as error:
            raise ValueError(f"rule {self.name!r}: {error}") from None

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of the tensors of a block, in order."""
        return action_of(self.gauge).tensors

    @property
    @abstractmethod
    def symmetry(self) -> str:
        """A group of this configuration, as a joint spec string of `groups` on the tensors of the block: the gauge, and
        what the base respects beside it."""

    @property
    @abstractmethod
    def traits(self) -> JointTraits:
        """The traits of this configuration."""

    @property
    def base_family(self) -> str:
        """What the base respects on an axis that the gauge leaves alone: ``SPerm``, or ``O`` for a polar factor."""
        base = self.base_rule()
        return base.axis_family if isinstance(base, Muon) else "SPerm"

    @property
    @abstractmethod
    def parts(self) -> tuple[GradientRule, ...]:
        """The base rule of every tensor, to which its part of the state belongs."""

    @abstractmethod
    def directions(
        self, grads: Sequence[Array], states: JointState, weights: Sequence[Array]
    ) -> tuple[list[Array], JointState]:
        """The ascent directions (no learning rate, no decay) and the new state; writes to no argument."""

    def base_rule(self) -> GradientRule:
        """The base with the hyper-parameters of this rule."""
        if self.base == "adam":
            return Adam(lr=self.lr, weight_decay=self.weight_decay, betas=self.betas, eps=self.eps)
        return Muon(
            lr=self.lr,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            nesterov=self.nesterov,
            orthogonalizer=self.orthogonalizer,
        )

    def without_eps(self) -> Self:
        """The same rule with every eps set to zero, for which ``traits.degree`` is exact."""
        method = without_eps(get_orthogonalizer(self.orthogonalizer))
        return dataclasses.replace(self, eps=0.0, orthogonalizer=method)

    def init(self, weights: Sequence[Array]) -> JointState:
        """The state before the first step, for the tensors ``(..., m, n)`` of a block in the order of `tensors`.

        Raises ValueError, one line, if the rule cannot act on tensors of these shapes.
        """
        self.check_shapes([weight.shape for weight in weights])
        return tuple(part.init(weight) for part, weight in zip(self.parts, weights, strict=True))

    def update(
        self, grads: Sequence[Array], states: JointState, weights: Sequence[Array]
    ) -> tuple[tuple[Array, ...], JointState]:
        """One step: the displacements to add to the weights, and the new state. Pure: no argument is written or kept.

        Raises ValueError, one line, if the number or the shapes of the tensors do not fit.
        """
        self.check_shapes([weight.shape for weight in weights])
        for name, grad, weight in zip(self.tensors, grads, weights, strict=True):
            if grad.shape != weight.shape:
                raise ValueError(
                    f"rule {self.name!r}: the gradient of {name} has shape {tuple(grad.shape)} "
                    f"but the weight has {tuple(weight.shape)}"
                )
        directions, new = self.directions(grads, states, weights)
        moved = [-self.lr * direction for direction in directions]
        if self.weight_decay:
            moved = [u - (self.lr * self.weight_decay) * w for u, w in zip(moved, weights, strict=True)]
        return tuple(moved), new

    def check_shapes(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """ValueError, one line, unless the gauge acts on tensors of these shapes; leading axes are a batch."""
        if len(shapes) != len(self.tensors):
            raise ValueError(
                f"rule {self.name!r} steps blocks of {len(self.tensors)} tensors "
                f"({', '.join(self.tensors)}), got {len(shapes)}"
            )
        try:
            action_of(self.gauge).check(tuple(tuple(shape[-2:]) for shape in shapes))
        except ValueError as error:
            raise ValueError(f"rule {self.name!r}: {error}") from None


JointRuleType = TypeVar("JointRuleType", bound=type[JointRule])
_rules: dict[str, type[JointRule]] = {}
JOINT_RULES: Mapping[str, type[JointRule]] = MappingProxyType(_rules)
"""Every joint rule by name."""


def register_joint(rule: JointRuleType) -> JointRuleType:
    """Class decorator: list a rule in `JOINT_RULES` under its name."""
    _rules[rule.name] = rule
    return rule


def get_joint_rule(name: str, **hyper: Any) -> JointRule:
    """The joint rule ``name`` with hyper-parameters ``hyper``, its defaults for the rest.

    Raises ValueError, one line, for an unknown name or hyper-parameter (listing the known ones) or a value out of
    range.
    """
    return build_rule("joint rule", JOINT_RULES, name, hyper)
