"""Rules that follow the sign of the gradient: signSGD, Signum, Lion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from array_api_compat import array_namespace

from reference.rule import DirectionTraits, GradientRule, State, register, require_fraction, zeros_like
from reference.symmetry import ENTRYWISE_SIGNED
from reference.transforms.momentum import ema


@register
@dataclass(frozen=True, kw_only=True)
class SignSGD(GradientRule):
    """``U = sign(g)`` with ``sign(0) = 0``. Decay is decoupled."""

    name: ClassVar[str] = "signsgd"
    source: ClassVar[str] = "arXiv 1802.04434"

    lr: float = 1e-3

    @property
    def symmetry(self) -> str:
        """Signed permutations of the entries."""
        return ENTRYWISE_SIGNED

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0."""
        return DirectionTraits(degree=0)

    def initial_state(self, weight: Any) -> State:
        """Nothing."""
        return {}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The sign of the gradient."""
        return array_namespace(grad).sign(grad), {}


@register
@dataclass(frozen=True, kw_only=True)
class Signum(SignSGD):
    """``m = ema(g)``; ``U = sign(m)``. Decay is decoupled."""

    name: ClassVar[str] = "signum"

    momentum: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "momentum")

    def initial_state(self, weight: Any) -> State:
        """Zero momentum."""
        return {"momentum": zeros_like(weight)}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The sign of the momentum."""
        momentum = ema(state["momentum"], grad, self.momentum)
        return array_namespace(grad).sign(momentum), {"momentum": momentum}


@register
@dataclass(frozen=True, kw_only=True)
class Lion(SignSGD):
    """``U = sign(beta1 m + (1 - beta1) g)`` with the momentum *before* its update ``m = beta2 m + (1 - beta2) g``."""

    name: ClassVar[str] = "lion"
    source: ClassVar[str] = "arXiv 2302.06675"

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "betas")

    def initial_state(self, weight: Any) -> State:
        """Zero momentum."""
        return {"momentum": zeros_like(weight)}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The sign of the interpolation."""
        beta1, beta2 = self.betas
        momentum = state["momentum"]
        return array_namespace(grad).sign(ema(momentum, grad, beta1)), {"momentum": ema(momentum, grad, beta2)}
