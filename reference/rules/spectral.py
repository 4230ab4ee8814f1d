"""Spectral descent: one-sided spectral rules of the paper, stochastic spectral descent, PolarGrad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from reference.orthogonalizers import Orthogonalizer
from reference.rule import (
    DirectionTraits,
    GradientRule,
    State,
    register,
    require_count,
    require_fraction,
    require_nonnegative,
    zeros_like,
)
from reference.rules.orthogonalizing import OrthogonalizingRule, require_backend
from reference.symmetry import BI_ORTHOGONAL
from reference.transforms.arrays import inner
from reference.transforms.center import center
from reference.transforms.momentum import ema, nesterov
from reference.transforms.spectral import Backend, Side, scale_by_inner, spectral_factor


@register
@dataclass(frozen=True, kw_only=True)
class RightSpectral(GradientRule):
    """``m = ema(g)``; ``U = nu^alpha m (m^T m + eps I)^{-1/2}``, ``nu = max(<m, m (m^T m + eps I)^{-1/2}>, eps)``.

    ``alpha = 0`` is Muon's direction, ``alpha = 1`` PolarGrad's (``nu`` tends to the nuclear norm). With
    ``center_rows`` the momentum is centred before and the result after; the first makes the rule blind to the shift,
    the second only repairs rounding.

    Right and left are the same map and share the group ``O(rows) x O(cols)``, not a one-sided one. Departures from the
    source: the default backend is the exact damped root, from the SVD of ``m`` so that the singular Gram matrix of a
    centred ``m`` is never formed (the source's is ``polar_express``, five coupled steps in float32); and vectors are
    refused, which the source skips without a word. ``eps = 1e-8`` is added to a *Gram* matrix, as in
    the source: singular values of the momentum below 1e-4 are not normalised but followed in proportion.
    """

    name: ClassVar[str] = "right_spectral"
    source: ClassVar[str] = "arXiv 2605.18106; timlautk/equivariant_optimizers optim/rightpolargrad.py"
    min_ndim: ClassVar[int] = 2
    side: ClassVar[Side] = "right"

    lr: float = 1e-3
    momentum: float = 0.95
    alpha: float = 1.0
    eps: float = 1e-8
    center_rows: bool = False
    backend: Backend = "exact"
    steps: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "momentum")
        require_nonnegative(self, "alpha", "eps")
        require_count(self, "steps")
        require_backend(self)

    @property
    def symmetry(self) -> str:
        """Rotations of both axes; of the rows, only those that fix the all-ones vector when centred."""
        return "Stab1(rows) x O(cols)" if self.center_rows else BI_ORTHOGONAL

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree ``alpha``; the column space is kept, hence horizontal with or without centring."""
        return DirectionTraits(degree=_degree(self.alpha), shift_insensitive=self.center_rows, horizontal=True)

    def initial_state(self, weight: Any) -> State:
        """Zero momentum."""
        return {"momentum": zeros_like(weight)}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The scaled spectral factor of the momentum."""
        momentum = ema(state["momentum"], grad, self.momentum)
        work = center(momentum) if self.center_rows else momentum
        factor = spectral_factor(work, side=self.side, backend=self.backend, eps=self.eps, steps=self.steps)
        direction = scale_by_inner(factor, work, alpha=self.alpha, eps=self.eps)
        return center(direction) if self.center_rows else direction, {"momentum": momentum}


@register
@dataclass(frozen=True, kw_only=True)
class LeftSpectral(RightSpectral):
    """The same map, ``U = nu^alpha (m m^T + eps I)^{-1/2} m``: cheaper with fewer rows than columns (routers)."""

    name: ClassVar[str] = "left_spectral"
    source: ClassVar[str] = "arXiv 2605.18106; timlautk/equivariant_optimizers optim/leftpolargrad.py"
    side: ClassVar[Side] = "left"


@register
@dataclass(frozen=True, kw_only=True)
class SSD(OrthogonalizingRule):
    """Stochastic spectral descent, ``U = <g, polar(g)> polar(g)``: steepest in the spectral norm. No momentum."""

    name: ClassVar[str] = "ssd"
    source: ClassVar[str] = "Carlson, Cevher & Carin, AISTATS 2015"

    lr: float = 1e-3

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 1; the column space is kept as far as the orthogonaliser keeps it."""
        return DirectionTraits(degree=1, horizontal=self.keeps_range)

    def initial_state(self, weight: Any) -> State:
        """Nothing."""
        return {}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The polar factor of the gradient times the nuclear norm."""
        factor = self.orthogonalize(grad)
        return inner(grad, factor) * factor, {}


@register
@dataclass(frozen=True, kw_only=True)
class PolarGrad(OrthogonalizingRule):
    """``m = ema(g)``, ``U = <m, P> P`` with ``P = polar(m)``; polar first: ``U = <g, P> ema(P)`` with ``P = polar(g)``.

    ``nesterov``, of Emerging-Optimizers: the look-ahead ``(1 - mu) g + mu m`` in place of ``m``.

    Departure from the source: the default method is the exact polar factor. The source's is QDWH with two iterations
    (``orthogonalizer="qdwh_2"``), which is not converged and equivariant under signed permutations only; its
    multi-device version uses five. Its ZOLO-PD converges to the exact factor; its Newton-Schulz has 2.031 for the last
    coefficient of ``jordan``.
    """

    name: ClassVar[str] = "polargrad"
    source: ClassVar[str] = "arXiv 2505.21799; timlautk/polargrad polar_grad.py"

    lr: float = 0.02
    momentum: float = 0.95
    polar_first: bool = False
    nesterov: bool = False
    orthogonalizer: str | Orthogonalizer = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "momentum")
        if self.polar_first and self.nesterov:
            raise ValueError(
                "rule 'polargrad': polar_first averages polar factors and has no look-ahead; unset nesterov"
            )

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 1; the column space is kept as far as the orthogonaliser keeps it."""
        return DirectionTraits(degree=1, horizontal=self.keeps_range)

    def initial_state(self, weight: Any) -> State:
        """Zero average, of gradients or of their polar factors."""
        return {"momentum": zeros_like(weight)}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The polar factor or its average times the nuclear norm."""
        if self.polar_first:
            factor = self.orthogonalize(grad)
            momentum = ema(state["momentum"], factor, self.momentum)
            return inner(grad, factor) * momentum, {"momentum": momentum}
        momentum = ema(state["momentum"], grad, self.momentum)
        ahead = nesterov(ema, momentum, grad, self.momentum) if self.nesterov else momentum
        factor = self.orthogonalize(ahead)
        return inner(ahead, factor) * factor, {"momentum": momentum}


def _degree(alpha: float) -> float:
    return int(alpha) if float(alpha).is_integer() else alpha
