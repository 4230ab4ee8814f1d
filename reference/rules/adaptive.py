"""Accumulated squared gradients without bias correction: RMSprop, AdaGrad, AdaGrad-Norm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from array_api_compat import array_namespace

from reference.rule import (
    INVARIANT,
    LIKE_GRADIENT,
    LIKE_SQUARES,
    DirectionTraits,
    GradientRule,
    State,
    StateAction,
    register,
    require_fraction,
    require_nonnegative,
    zeros_like,
)
from reference.symmetry import ENTRYWISE_ORTHOGONAL, ENTRYWISE_SIGNED
from reference.transforms.arrays import block_norm
from reference.transforms.momentum import ema, heavy_ball
from reference.transforms.normalize import divide_or_zero


@register
@dataclass(frozen=True, kw_only=True)
class RMSprop(GradientRule):
    """``v = ema(g^2)``; ``U = g / (sqrt(v) + eps)``, then optional heavy-ball momentum. Decay is coupled.

    The semantics of ``torch.optim.RMSprop``, whose ``alpha`` is ``beta`` here. ``centered`` replaces ``v`` by the
    variance ``v - ema(g)^2``; it is not negative, and a rounding error below zero is taken as zero (torch returns NaN
    there).
    """

    name: ClassVar[str] = "rmsprop"
    source: ClassVar[str] = "pytorch torch/optim/rmsprop.py"
    decay: ClassVar[Literal["decoupled", "coupled"]] = "coupled"

    lr: float = 1e-2
    beta: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "beta", "momentum")
        require_nonnegative(self, "eps")

    @property
    def symmetry(self) -> str:
        """Signed permutations of the entries."""
        return ENTRYWISE_SIGNED

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0."""
        return DirectionTraits(degree=0)

    @property
    def state_actions(self) -> Mapping[str, StateAction]:
        """Averages of the entries."""
        return {"square": LIKE_SQUARES, "mean": LIKE_GRADIENT, "momentum": LIKE_GRADIENT}

    def initial_state(self, weight: Any) -> State:
        """Zero averages."""
        state = {"square": zeros_like(weight)}
        if self.centered:
            state["mean"] = zeros_like(weight)
        if self.momentum:
            state["momentum"] = zeros_like(weight)
        return state

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The gradient over its root mean square, or the buffer of such steps."""
        xp = array_namespace(grad)
        new = {"square": ema(state["square"], grad * grad, self.beta)}
        variance = new["square"]
        if self.centered:
            new["mean"] = ema(state["mean"], grad, self.beta)
            variance = xp.clip(variance - new["mean"] * new["mean"], min=0.0)
        direction = divide_or_zero(grad, xp.sqrt(variance) + self.eps)
        if self.momentum:
            new["momentum"] = direction = heavy_ball(state["momentum"], direction, self.momentum)
        return direction, new


@register
@dataclass(frozen=True, kw_only=True)
class AdaGrad(GradientRule):
    """``s = s + g^2``; ``U = g / (sqrt(s) + eps) / (1 + (t - 1) lr_decay)``. Decay is coupled.

    The semantics of ``torch.optim.Adagrad``. A positive ``initial_accumulator_value`` keeps the group and breaks the
    degree.
    """

    name: ClassVar[str] = "adagrad"
    source: ClassVar[str] = "Duchi, Hazan & Singer 2011; pytorch torch/optim/adagrad.py"
    decay: ClassVar[Literal["decoupled", "coupled"]] = "coupled"

    lr: float = 1e-2
    lr_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        require_nonnegative(self, "lr_decay", "initial_accumulator_value", "eps")

    @property
    def symmetry(self) -> str:
        """Signed permutations of the entries."""
        return ENTRYWISE_SIGNED

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0 if the accumulator starts at zero."""
        return DirectionTraits(degree=None if self.initial_accumulator_value else 0)

    @property
    def state_actions(self) -> Mapping[str, StateAction]:
        """Sums of the entries' squares."""
        return {"square": LIKE_SQUARES}

    def initial_state(self, weight: Any) -> State:
        """The accumulator's start value and a step count."""
        return {"step": 0, "square": zeros_like(weight) + self.initial_accumulator_value}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The gradient over the root of the summed squares."""
        square = state["square"] + grad * grad
        direction = divide_or_zero(grad, array_namespace(grad).sqrt(square) + self.eps)
        return direction / (1 + state["step"] * self.lr_decay), {"step": state["step"] + 1, "square": square}


@register
@dataclass(frozen=True, kw_only=True)
class AdaGradNorm(GradientRule):
    """``s = s + ||g||^2`` from ``s = b0^2``; ``U = g / (sqrt(s) + eps)``: AdaGrad with one scalar per weight. Decay is
    coupled.

    The norm is that of one matrix (the last two axes), or of a whole vector.
    """

    name: ClassVar[str] = "adagrad_norm"
    source: ClassVar[str] = "arXiv 1806.01811"
    decay: ClassVar[Literal["decoupled", "coupled"]] = "coupled"

    lr: float = 1e-2
    b0: float = 0.0
    eps: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        require_nonnegative(self, "b0", "eps")

    @property
    def symmetry(self) -> str:
        """Every orthogonal transformation of the flattened weight."""
        return ENTRYWISE_ORTHOGONAL

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0 if the accumulator starts at zero; a positive multiple of the gradient, hence horizontal."""
        return DirectionTraits(degree=None if self.b0 else 0, horizontal=True)

    @property
    def state_actions(self) -> Mapping[str, StateAction]:
        """One number."""
        return {"square": INVARIANT}

    def initial_state(self, weight: Any) -> State:
        """``b0^2`` for every weight of the batch."""
        return {"square": block_norm(zeros_like(weight)) + self.b0**2}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The gradient over the root of the summed squared norms."""
        square = state["square"] + block_norm(grad) ** 2
        return divide_or_zero(grad, array_namespace(grad).sqrt(square) + self.eps), {"square": square}
