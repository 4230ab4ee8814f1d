"""AdaGO: the orthogonalised momentum with the step size of AdaGrad-Norm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from array_api_compat import array_namespace

from reference.orthogonalizers import Orthogonalizer
from reference.rule import (
    INVARIANT,
    LIKE_GRADIENT,
    DirectionTraits,
    State,
    StateAction,
    register,
    require_fraction,
    require_nonnegative,
    zeros_like,
)
from reference.rules.orthogonalizing import OrthogonalizingRule
from reference.transforms.arrays import block_norm
from reference.transforms.momentum import ema
from reference.transforms.normalize import divide_or_zero


@register
@dataclass(frozen=True, kw_only=True)
class AdaGO(OrthogonalizingRule):
    """``m = ema(g)``; ``s = s + min(||g||, gamma)^2`` from ``s = v0^2``;
    ``W = W - max(eps, lr min(||g||, gamma) / sqrt(s)) polar(m)``.

    ``eps`` is a floor of the step size, not of a denominator, and does not scale with the learning rate. At ``lr = 0``
    nothing moves, where the formula read literally would still take steps of ``eps``. All scalars are Frobenius norms
    of one matrix, so the group is that of the polar factor; ``gamma``, ``v0`` and ``eps`` break the degree.

    Only a transcription of the paper could be read: that the norm is Frobenius's is inferred, and the defaults of the
    paper are not confirmed. Those here are optax's (``optax.contrib.adago``), which has no default learning rate; it is
    pytorch_optimizer's. Not taken over: optax's shape scale ``sqrt(max(1, m / n))`` and bias correction of the momentum
    (of no effect on a polar factor but through its eps); pytorch_optimizer 4.1 divides by ``s`` instead of its root,
    and with its default ``nesterov=True`` overwrites the gradient and takes the norm of what it has become.
    """

    name: ClassVar[str] = "adago"
    source: ClassVar[str] = "arXiv 2509.02981 (formula from a transcription; defaults of optax.contrib.adago)"

    lr: float = 0.05
    momentum: float = 0.95
    gamma: float = 1.0
    v0: float = 1.0
    eps: float = 1e-6
    orthogonalizer: str | Orthogonalizer = "jordan"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "momentum")
        require_nonnegative(self, "v0", "eps")
        if not self.gamma > 0:
            raise ValueError(f"rule {self.name!r}: gamma must be > 0 (math.inf for no bound), got {self.gamma!r}")

    @property
    def state_actions(self) -> Mapping[str, StateAction]:
        """The accumulator is a number."""
        return {"momentum": LIKE_GRADIENT, "square": INVARIANT}

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0 if norms are not bounded and the accumulator starts at zero; the column space is kept."""
        bounded = self.gamma < math.inf or self.v0 > 0
        return DirectionTraits(degree=None if bounded else 0, horizontal=self.keeps_range)

    def initial_state(self, weight: Any) -> State:
        """Zero momentum, and ``v0^2`` for every matrix."""
        zeros = zeros_like(weight)
        return {"momentum": zeros, "square": block_norm(zeros) + self.v0**2}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The polar factor at the adaptive rate, relative to ``lr``."""
        xp = array_namespace(grad)
        momentum = ema(state["momentum"], grad, self.momentum)
        norm = block_norm(grad)
        if self.gamma < math.inf:
            norm = xp.clip(norm, max=self.gamma)
        square = state["square"] + norm * norm
        rate = divide_or_zero(norm, xp.sqrt(square))
        if self.lr:
            rate = xp.clip(rate, min=self.eps / self.lr)
        return rate * self.orthogonalize(momentum), {"momentum": momentum, "square": square}
