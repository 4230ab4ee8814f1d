"""Preconditioned spectral descent: the spectral step in coordinates that are scaled entry by entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from array_api_compat import array_namespace

from reference.rule import (
    LIKE_SQUARES,
    DirectionTraits,
    State,
    StateAction,
    register,
    require_fraction,
    require_nonnegative,
    zeros_like,
)
from reference.rules.orthogonalizing import OrthogonalizingRule
from reference.transforms.arrays import inner
from reference.transforms.momentum import ema
from reference.transforms.normalize import divide_or_zero


@register
@dataclass(frozen=True, kw_only=True)
class ADAspectral(OrthogonalizingRule):
    """``s = s + g^2``, ``D = sqrt(s) + eps``; ``U = (g / sqrt(D))^# / sqrt(D)``, where ``X^# = <X, polar(X)> polar(X)``
    and division is by entries.

    Departures from the authors' code: the spectral step is exact, there by a randomised decomposition of rank 30; bias
    and weight are stepped apart, there as one matrix. Decay is coupled.
    """

    name: ClassVar[str] = "adaspectral"
    source: ClassVar[str] = "Carlson, Collins, Hsieh, Carin & Cevher, NeurIPS 2015, and their Matlab demo"
    decay: ClassVar[Literal["decoupled", "coupled", "inner"]] = "coupled"

    lr: float = 1e-3
    eps: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        require_nonnegative(self, "eps")

    @property
    def symmetry(self) -> str:
        """Signed permutations of both axes."""
        return "SPerm(rows) x SPerm(cols)"

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0."""
        return DirectionTraits(degree=0)

    @property
    def state_actions(self) -> Mapping[str, StateAction]:
        """Squares of the entries."""
        return {"square": LIKE_SQUARES}

    def initial_state(self, weight: Any) -> State:
        """Zero squares."""
        return {"square": zeros_like(weight)}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The spectral step in scaled coordinates, scaled back."""
        square = self.accumulated(state["square"], grad * grad)
        scale = array_namespace(grad).sqrt(array_namespace(grad).sqrt(square) + self.eps)
        scaled = divide_or_zero(grad, scale)
        factor = self.orthogonalize(scaled)
        return divide_or_zero(inner(scaled, factor) * factor, scale), {"square": square}

    def accumulated(self, total: Any, square: Any) -> Any:
        """The squares so far with those of one more gradient."""
        return total + square


@register
@dataclass(frozen=True, kw_only=True)
class RMSspectral(ADAspectral):
    """The same with ``s = ema(g^2)``, which starts at one in the authors' code, and therefore has no degree."""

    name: ClassVar[str] = "rmsspectral"

    beta: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "beta")

    @property
    def direction_traits(self) -> DirectionTraits:
        """None: the start value is a size that gradients are compared with."""
        return DirectionTraits(degree=None)

    def initial_state(self, weight: Any) -> State:
        """Ones."""
        return {"square": zeros_like(weight) + 1.0}

    def accumulated(self, total: Any, square: Any) -> Any:
        """The moving average."""
        return ema(total, square, self.beta)
