"""The form of every reference rule: a frozen value with a pure ``init`` and ``update``.

A rule maps ``(gradient, state, weight)`` to ``(displacement, new state)``. The displacement carries the minus sign, so
the optimizer only adds it. Written once as

    displacement = -lr * direction(gradient, state) - lr * weight_decay * weight,

the only part that a `GradientRule` supplies is the *direction*, and its direction never sees the weight. Equivariance
under every translation of the weights (Lau & Su, arXiv 2605.18106: the softmax shift) therefore holds by construction
when there is no decay. Rules whose decay is *coupled* add ``weight_decay * weight`` to the gradient instead. Rules that
do look at the weight (trust ratios, relative step sizes) derive from `Rule` itself, supply the displacement without
decay, and say so in their traits.

Beside its symmetry a rule declares, as data, how every array of its state moves under it (`StateAction`): then

    update(rho_S state, rho_dual gradient, rho weight) = (rho displacement, rho_S state')

is a statement about one step from *any* state, and one test goes through all rules.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypeVar

from array_api_compat import array_namespace

Array: TypeAlias = Any
"""A floating-point array of any library that follows the array API standard (numpy, torch, ...)."""

State: TypeAlias = dict[str, Any]
"""What a rule remembers between steps: arrays shaped like the weight or its statistics, and step counts (``int``)."""


@dataclass(frozen=True)
class Traits:
    """What one configuration of a rule does beside being equivariant; exact arithmetic, generic weights, ``lr > 0``.

    ``degree``: ``U(c G) = c**degree U(G)`` for the displacements ``U`` of a whole trajectory, every ``c > 0``, with all
    eps set to zero; ``None`` when no degree holds. ``shift_equivariant``: ``U`` is unchanged when ``W`` becomes ``W + 1
    c^T``. ``shift_quotient``: the row-centred ``U`` is unchanged then. ``shift_insensitive``: ``U`` is unchanged when a
    gradient ``G`` becomes ``G + 1 c^T``. ``horizontal``: ``1^T U = 0`` whenever ``1^T G = 0`` for all gradients so far.
    """

    degree: float | None
    shift_equivariant: bool
    shift_quotient: bool
    shift_insensitive: bool
    horizontal: bool


@dataclass(frozen=True)
class DirectionTraits:
    """The same for the direction alone, before decay. ``linear``: the direction is linear in the gradients so far.
    ``weight_free``: the direction does not depend on the weight.
    """

    degree: float | None
    linear: bool = False
    shift_insensitive: bool = False
    horizontal: bool = False
    weight_free: bool = True


@dataclass(frozen=True)
class StateAction:
    """How one array of the state moves when the weight moves by ``W -> A W B^T``.

    ``axes`` names its last axes: "rows" (multiplied by ``A``), "cols" (by ``B``), None (fixed), any other name the axis
    of a gauge (see `Rule.gauges`; fixed as well); ``("entries",)`` says that the array has the shape of the gradient
    and moves like it, whatever the action. The axes before the named ones are a batch, and permuted with the experts of
    a stack. ``signed=False`` is for statistics of magnitudes, which are not negative and do not see signs: the array
    moves by the absolute values of the matrices, which must be signed permutations.
    """

    axes: tuple[str | None, ...]
    signed: bool = True


LIKE_GRADIENT = StateAction(("entries",))
"""A momentum."""
LIKE_SQUARES = StateAction(("entries",), signed=False)
"""Averages of squared entries."""
ROW_STATISTICS = StateAction(("rows", None), signed=False)
"""One magnitude per row, ``(..., m, 1)``."""
COLUMN_STATISTICS = StateAction((None, "cols"), signed=False)
"""One magnitude per column, ``(..., 1, n)``."""
ROW_GRAM = StateAction(("rows", "rows"))
"""Averages of ``G G^T``: ``L -> A L A^T``."""
COLUMN_GRAM = StateAction(("cols", "cols"))
"""Averages of ``G^T G``: ``R -> B R B^T``."""
INVARIANT = StateAction((None, None))
"""One number per weight, ``(..., 1, 1)``."""


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """An update rule with its hyper-parameters; a weight ``(..., m, n)`` is a stack of independent matrices."""

    lr: float
    weight_decay: float = 0.0

    name: ClassVar[str]
    """Name in `RULES`."""
    source: ClassVar[str]
    """arXiv id or repository path that the formula follows."""
    min_ndim: ClassVar[int] = 0
    """Fewest axes a weight may have; 2 for rules of a matrix."""
    decay: ClassVar[Literal["decoupled", "coupled", "inner"]] = "decoupled"
    """Whether ``weight_decay`` shrinks the weight directly, enters through the gradient, or is part of the displacement
    (which then has the traits of a direction with decay)."""

    def __post_init__(self) -> None:
        require_nonnegative(self, "lr", "weight_decay")

    @property
    @abstractmethod
    def symmetry(self) -> str:
        """The largest group of this configuration, as a spec string of `groups`, acting on one stored weight.

        "Largest" is meant inside ``O(rows) x O(cols)`` for rules of a matrix and inside ``O(entries)`` for
        coordinate-wise ones. It is the group of the optimizer, which starts every run from `init`.
        """

    @property
    def joint_symmetry(self) -> str:
        """The group under which one step from any state is equivariant when the state moves by `state_actions`.

        Larger than `symmetry` if the initial state is not fixed by the group: drawn at random, or given.
        """
        return self.symmetry

    @property
    def state_actions(self) -> Mapping[str, StateAction]:
        """How every array of the state moves, by its name in the state (names that are not kept do no harm).

        Step counts are fixed and not listed. By default: a momentum, which moves like the gradient.
        """
        return {"momentum": LIKE_GRADIENT}

    @property
    def gauges(self) -> Mapping[str, str]:
        """Axes of the state that only a basis was chosen for: their names in `state_actions`, and the group of changes
        of basis that the displacement does not see (``Sign``: every vector of the basis may change its sign).

        States that differ by a gauge are the same, and equality of states is meant up to it.
        """
        return {}

    @property
    def side_conditions(self) -> tuple[str, ...]:
        """What must hold of gradients or state for `symmetry` to hold; empty for most."""
        return ()

    @property
    @abstractmethod
    def direction_traits(self) -> DirectionTraits:
        """The traits of the displacement without decay, from which `traits` follows."""

    @abstractmethod
    def initial_state(self, weight: Array) -> State:
        """The state before the first step; depends on the shape, dtype and device of ``weight``, not on its values."""

    @abstractmethod
    def displacement(self, grad: Array, state: State, weight: Array) -> tuple[Array, State]:
        """What is added to the weight, without decoupled decay, and the new state; writes to no argument."""

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The source's hyper-parameters."""
        return {field.name: field.default for field in dataclasses.fields(self)}

    @property
    def decay_rate(self) -> float:
        """The coefficient in front of ``lr * weight``."""
        return self.weight_decay

    @property
    def traits(self) -> Traits:
        """The traits of this configuration: those of the direction, less what decay takes away.

        Decoupled decay maps the common row ``c`` to ``(1 - lr * weight_decay) c``: it is visible in the displacement
        but not in its centred part. Coupled decay sends ``1 c^T`` through the direction, so only a linear direction
        keeps the quotient. A direction that depends on the weight keeps neither.
        """
        base = self.direction_traits
        decays = self.decay_rate != 0 and self.decay != "inner"
        quotient = not decays or self.decay == "decoupled" or base.linear
        return Traits(
            degree=base.degree if not decays or (base.degree == 0 and self.decay == "decoupled") else None,
            shift_equivariant=base.weight_free and not decays,
            shift_quotient=base.weight_free and quotient,
            shift_insensitive=base.shift_insensitive,
            horizontal=base.horizontal and not decays,
        )

    def without_eps(self) -> Self:
        """The same rule with every eps set to zero, for which ``traits.degree`` is exact."""
        changes: dict[str, Any] = {"eps": 0.0} if hasattr(self, "eps") else {}
        return dataclasses.replace(self, **changes)

    def init(self, weight: Array) -> State:
        """The state before the first step for ``weight``; ValueError if the rule cannot act on that shape."""
        if weight.ndim < self.min_ndim:
            raise ValueError(f"rule {self.name!r} needs at least {self.min_ndim} axes, got shape {tuple(weight.shape)}")
        return self.initial_state(weight)

    def update(self, grad: Array, state: State, weight: Array) -> tuple[Array, State]:
        """One step: the displacement to add to ``weight``, and the new state. Pure: no argument is written or kept."""
        if grad.shape != weight.shape:
            raise ValueError(
                f"rule {self.name!r}: gradient has shape {tuple(grad.shape)} but weight has {tuple(weight.shape)}"
            )
        # A zero rate skips the weight altogether: 0 * inf would put NaN into an update that must not depend on it.
        if self.decay == "inner" or self.decay_rate == 0:
            return self.displacement(grad, state, weight)
        if self.decay == "coupled":
            return self.displacement(grad + self.decay_rate * weight, state, weight)
        displacement, new = self.displacement(grad, state, weight)
        return self.decayed(displacement, state, weight), new

    def decayed(self, displacement: Array, state: State, weight: Array) -> Array:
        """Decoupled decay added to the displacement of a step from ``state``: here, of the weight before the step."""
        return displacement - (self.lr * self.decay_rate) * weight


@dataclass(frozen=True, kw_only=True)
class GradientRule(Rule):
    """A rule whose direction is a function of the gradients alone."""

    @abstractmethod
    def direction(self, grad: Array, state: State) -> tuple[Array, State]:
        """The ascent direction (no learning rate, no decay) and the new state; writes to neither argument."""

    def displacement(self, grad: Array, state: State, weight: Array) -> tuple[Array, State]:
        """``-lr`` times the direction."""
        direction, state = self.direction(grad, state)
        return -self.lr * direction, state


AnyRule = TypeVar("AnyRule")
RuleType = TypeVar("RuleType", bound=type[Rule])
_rules: dict[str, type[Rule]] = {}
RULES: Mapping[str, type[Rule]] = MappingProxyType(_rules)
"""Every reference rule by name."""


def register(rule: RuleType) -> RuleType:
    """Class decorator: list a rule in `RULES` under its name."""
    if rule.name in _rules:
        raise ValueError(f"two rules are named {rule.name!r}")
    _rules[rule.name] = rule
    return rule


def get_rule(name: str, **hyper: Any) -> Rule:
    """The rule ``name`` with hyper-parameters ``hyper``, the source's defaults for the rest.

    Raises ValueError, one line, for an unknown name or hyper-parameter (listing the known ones) or a value out of
    range.
    """
    return build_rule("rule", RULES, name, hyper)


def build_rule(kind: str, rules: Mapping[str, type[AnyRule]], name: str, hyper: Mapping[str, Any]) -> AnyRule:
    """One of ``rules``, which are of this ``kind``; raises as `get_rule` does."""
    if name not in rules:
        raise ValueError(f"unknown {kind} {name!r}; known {kind}s: {', '.join(sorted(rules))}")
    known = [field.name for field in dataclasses.fields(rules[name])]  # type: ignore[arg-type]
    unknown = sorted(set(hyper) - set(known))
    if unknown:
        raise ValueError(f"rule {name!r} has no hyper-parameter {unknown[0]!r}; it has: {', '.join(known)}")
    return rules[name](**hyper)


def require_choice(rule: Rule, field: str, choices: Collection[str]) -> None:
    """ValueError unless the string field ``field`` of ``rule`` is one of ``choices``."""
    value = getattr(rule, field)
    if value not in choices:
        raise ValueError(f"rule {rule.name!r}: {field} must be one of {', '.join(choices)}, got {value!r}")


def require_fraction(rule: Rule, *fields: str) -> None:
    """ValueError unless every named field of ``rule``, a number or a pair of them, lies in [0, 1)."""
    for field in fields:
        value = getattr(rule, field)
        if not all(0 <= each < 1 for each in (value if isinstance(value, Sequence) else (value,))):
            raise ValueError(f"rule {rule.name!r}: {field} must lie in [0, 1), got {value!r}")


def require_nonnegative(rule: Rule, *fields: str) -> None:
    """ValueError unless every named field of ``rule`` is finite and not negative."""
    for field in fields:
        value = getattr(rule, field)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"rule {rule.name!r}: {field} must be finite and >= 0, got {value!r}")


def require_count(rule: Rule, *fields: str) -> None:
    """ValueError unless every named field of ``rule`` is an integer and at least 1."""
    for field in fields:
        value = getattr(rule, field)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"rule {rule.name!r}: {field} must be an integer >= 1, got {value!r}")


def zeros_like(weight: Array) -> Array:
    """Zeros with the shape, dtype and device of ``weight``."""
    return array_namespace(weight).zeros_like(weight)
