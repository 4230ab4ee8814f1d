"""Steps as long as a fraction of the weight: LARS, LAMB."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from array_api_compat import array_namespace

from reference.rule import (
    LIKE_GRADIENT,
    LIKE_SQUARES,
    DirectionTraits,
    Rule,
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


def trust_ratio(weight_norm: Any, update_norm: Any) -> Any:
    """``weight_norm / update_norm``, and one where either is zero (else a zero weight would never move)."""
    xp = array_namespace(weight_norm)
    some = (weight_norm == 0) | (update_norm == 0)
    safe = xp.where(update_norm == 0, xp.ones_like(update_norm), update_norm)
    return xp.where(some, xp.ones_like(weight_norm), weight_norm / safe)


@register
@dataclass(frozen=True, kw_only=True)
class LARS(Rule):
    """``v = mu v + lr eta ||W|| / (||g|| + lam ||W||) (g + lam W)`` with ``eta = trust``, ``lam = weight_decay``; the
    displacement is ``-v``.

    The learning rate is inside the buffer, as in the paper, which says nothing of zero norms: the ratio is then one, as
    in the common implementations. Norms are those of one matrix, or of a whole vector. Rotations of all entries at once
    keep them. (Not a translation: a shift changes ``||W||``. A weight before a normalisation, which may be scaled by
    ``c > 0``, has gradients scaled by ``1 / c``, and that the rule respects.)
    """

    name: ClassVar[str] = "lars"
    source: ClassVar[str] = "arXiv 1708.03888"
    decay: ClassVar[Literal["decoupled", "coupled", "inner"]] = "inner"

    lr: float = 0.1
    momentum: float = 0.9
    trust: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "momentum")
        require_nonnegative(self, "trust")

    @property
    def symmetry(self) -> str:
        """Every orthogonal transformation of the flattened weight."""
        return ENTRYWISE_ORTHOGONAL

    @property
    def direction_traits(self) -> DirectionTraits:
        """Without decay, degree 0 and multiples of gradients."""
        plain = self.weight_decay == 0
        return DirectionTraits(degree=0 if plain else None, horizontal=plain, weight_free=False)

    def initial_state(self, weight: Any) -> State:
        """Zero buffer."""
        return {"momentum": zeros_like(weight)}

    def displacement(self, grad: Any, state: State, weight: Any) -> tuple[Any, State]:
        """Minus the buffer of scaled gradients."""
        norm = block_norm(weight)
        ratio = self.trust * trust_ratio(norm, block_norm(grad) + self.weight_decay * norm)
        decayed = grad if self.weight_decay == 0 else grad + self.weight_decay * weight
        momentum = heavy_ball(state["momentum"], self.lr * ratio * decayed, self.momentum)
        return -momentum, {"momentum": momentum}


@register
@dataclass(frozen=True, kw_only=True)
class LAMB(Rule):
    """``r = m / (sqrt(v) + eps) + lam W`` with Adam's bias-corrected moments; ``U = r min(||W||, max_norm) / ||r||``.

    The ratio is one where a norm is zero. ``max_norm`` is the upper bound of the paper's ``phi``, infinite by default
    (common implementations take 10).
    """

    name: ClassVar[str] = "lamb"
    source: ClassVar[str] = "arXiv 1904.00962"
    decay: ClassVar[Literal["decoupled", "coupled", "inner"]] = "inner"

    lr: float = 1e-3
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-6
    max_norm: float = math.inf

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "betas")
        require_nonnegative(self, "eps")
        if not self.max_norm > 0:
            raise ValueError(f"rule 'lamb': max_norm must be positive, got {self.max_norm!r}")

    @property
    def symmetry(self) -> str:
        """Signed permutations of the entries."""
        return ENTRYWISE_SIGNED

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0, with decay too: it is added to a direction without magnitude."""
        return DirectionTraits(degree=0, weight_free=False)

    @property
    def state_actions(self) -> Mapping[str, StateAction]:
        """Moments of the entries."""
        return {"mean": LIKE_GRADIENT, "square": LIKE_SQUARES}

    def initial_state(self, weight: Any) -> State:
        """Zero moments and step count."""
        return {"step": 0, "mean": zeros_like(weight), "square": zeros_like(weight)}

    def displacement(self, grad: Any, state: State, weight: Any) -> tuple[Any, State]:
        """Adam's direction with decay, as long as the weight."""
        xp = array_namespace(grad)
        beta1, beta2 = self.betas
        step = state["step"] + 1
        mean = ema(state["mean"], grad, beta1)
        square = ema(state["square"], grad * grad, beta2)
        direction = divide_or_zero(mean / (1 - beta1**step), xp.sqrt(square / (1 - beta2**step)) + self.eps)
        if self.weight_decay != 0:
            direction = direction + self.weight_decay * weight
        ratio = trust_ratio(xp.clip(block_norm(weight), max=self.max_norm), block_norm(direction))
        return -self.lr * ratio * direction, {"step": step, "mean": mean, "square": square}
