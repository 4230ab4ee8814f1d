"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from array_api_compat import array_namespace

from reference.rule import (
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
from reference.symmetry import ENTRYWISE_SIGNED
from reference.transforms.momentum import ema
from reference.transforms.normalize import divide_or_zero


@register
@dataclass(frozen=True, kw_only=True)
class Adam(GradientRule):
    """``m = ema(g)``, ``v = ema(g^2)``, both bias-corrected; ``U = m / (sqrt(v) + eps)``. Decay is coupled.

    The semantics of ``torch.optim.Adam``: with ``amsgrad`` the largest *uncorrected* ``v`` so far is used.
    ``uncorrected_eps`` adds ``eps`` to the uncorrected ``sqrt(v)`` instead, where it weighs ``1 / sqrt(1 - beta2^t)``
    times more: the AdamW branch of the paper's ``optim/muon_heads.py``. An entry whose gradients were all zero is not
    moved, even with ``eps = 0``.
    """

    name: ClassVar[str] = "adam"
    source: ClassVar[str] = "arXiv 1412.6980; pytorch torch/optim/adam.py"
    decay: ClassVar[Literal["decoupled", "coupled"]] = "coupled"

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    amsgrad: bool = False
    uncorrected_eps: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "betas")
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
        """Moments of the entries."""
        return {"mean": LIKE_GRADIENT, "square": LIKE_SQUARES, "largest_square": LIKE_SQUARES}

    def initial_state(self, weight: Any) -> State:
        """Zero moments and step count."""
        state = {"step": 0, "mean": zeros_like(weight), "square": zeros_like(weight)}
        return {**state, "largest_square": zeros_like(weight)} if self.amsgrad else state

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The bias-corrected mean over the root of the bias-corrected mean square."""
        xp = array_namespace(grad)
        beta1, beta2 = self.betas
        step = state["step"] + 1
        mean = ema(state["mean"], grad, beta1)
        square = ema(state["square"], grad * grad, beta2)
        new = {"step": step, "mean": mean, "square": square}
        if self.amsgrad:
            new["largest_square"] = square = xp.maximum(state["largest_square"], square)
        root_correction = (1 - beta2**step) ** 0.5
        eps = self.eps / root_correction if self.uncorrected_eps else self.eps
        denominator = xp.sqrt(square) / root_correction + eps
        return divide_or_zero(mean / (1 - beta1**step), denominator), new


@register
@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled decay: ``W = (1 - lr weight_decay) W`` beside the Adam step."""

    name: ClassVar[str] = "adamw"
    source: ClassVar[str] = "arXiv 1711.05101; pytorch torch/optim/adamw.py"
    decay: ClassVar[Literal["decoupled", "coupled"]] = "decoupled"

    weight_decay: float = 1e-2
