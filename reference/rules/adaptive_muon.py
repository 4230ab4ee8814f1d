"""Muon with a second moment of the orthogonalised momentum: NorMuon, AdaMuon, Emerging-Optimizers' AdaptiveMuon."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from array_api_compat import array_namespace

from reference.orthogonalizers import Orthogonalizer
from reference.rule import (
    COLUMN_STATISTICS,
    INVARIANT,
    LIKE_GRADIENT,
    LIKE_SQUARES,
    ROW_STATISTICS,
    DirectionTraits,
    State,
    StateAction,
    register,
    require_choice,
    require_fraction,
    require_nonnegative,
    zeros_like,
)
from reference.rules.muon import AdjustLr, Muon, shape_scale
from reference.transforms.arrays import block_norm
from reference.transforms.momentum import ema
from reference.transforms.normalize import divide_or_zero

Rescale = Literal["norm", "rms"]
RESCALES: tuple[Rescale, ...] = ("norm", "rms")

SecondMoment = Literal["adamuon", "normuon", "namo"]
SECOND_MOMENTS: tuple[SecondMoment, ...] = ("adamuon", "normuon", "namo")


@dataclass(frozen=True, kw_only=True)
class _AdaptiveMuon(Muon):
    """A Muon whose polar factor is divided by statistics of its entries before it is scaled."""

    beta2: float = 0.95
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "beta2")
        require_nonnegative(self, "eps")

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0; rows are divided by numbers of their own, which leaves the column space."""
        return DirectionTraits(degree=0)


@register
@dataclass(frozen=True, kw_only=True)
class NorMuon(_AdaptiveMuon):
    """``O = polar(v)``, ``s_i = ema(mean_j O_ij^2)``, ``N_i = O_i / (sqrt(s_i) + eps)``; ``U = sqrt(max(1, m / n))
    N ||O|| / (||N|| + eps)``.

    Momentum as in Muon; ``s`` starts at zero without bias correction. ``rescale`` "rms" is the paper's form, ``U = 0.2
    sqrt(m n) N / ||N||``, from a transcription of it. With the exact polar factor and ``m <= n`` all rows of ``O`` have
    norm one, and the rule is Muon's.
    """

    name: ClassVar[str] = "normuon"
    source: ClassVar[str] = "arXiv 2510.05491; zichongli5/NorMuon normuon.py"

    eps: float = 1e-10
    rescale: Rescale = "norm"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "rescale", RESCALES)

    @property
    def symmetry(self) -> str:
        """Signed permutations of the rows, rotations of the columns (as far as the orthogonaliser has them)."""
        return f"SPerm(rows) x {self.axis_family}(cols)"

    @property
    def state_actions(self) -> Mapping[str, StateAction]:
        """Momentum, and one number per row."""
        return {"momentum": LIKE_GRADIENT, "square": ROW_STATISTICS}

    def initial_state(self, weight: Any) -> State:
        """Zero buffer and mean squares."""
        return {**super().initial_state(weight), "square": zeros_like(weight[..., :1])}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The polar factor with its rows brought to a common long-term size."""
        xp = array_namespace(grad)
        momentum, ahead = self.look_ahead(grad, state["momentum"])
        factor = self.orthogonalize(ahead)
        square = ema(state["square"], xp.mean(factor * factor, axis=-1, keepdims=True), self.beta2)
        rows = divide_or_zero(factor, xp.sqrt(square) + self.eps)
        m, n = grad.shape[-2:]
        if self.rescale == "rms":
            direction = 0.2 * math.sqrt(m * n) * divide_or_zero(rows, block_norm(rows))
        else:
            size = divide_or_zero(block_norm(factor), block_norm(rows) + self.eps)
            direction = shape_scale(self.adjust_lr, m, n) * (size * rows)
        return direction, {"momentum": momentum, "square": square}


@register
@dataclass(frozen=True, kw_only=True)
class AdaMuon(_AdaptiveMuon):
    """``O = polar(v)``, ``s = ema(O^2)`` entrywise, bias-corrected; ``N = O / (sqrt(s) + eps)``; ``U = 0.2
    sqrt(max(m, n)) sqrt(min(m, n)) N / (||N|| + eps)``: root mean square 0.2.

    The authors' code, where the second factor of the scale multiplies the learning rate. A later version of the paper
    takes the polar factor of the *sign* of the momentum; it is not here.
    """

    name: ClassVar[str] = "adamuon"
    source: ClassVar[str] = "arXiv 2507.11005; Chongjie-Si/AdaMuon adamuon.py"

    weight_decay: float = 0.01
    beta2: float = 0.999
    adjust_lr: AdjustLr = "match_rms_adamw"

    @property
    def symmetry(self) -> str:
        """Signed permutations of both axes."""
        return "SPerm(rows) x SPerm(cols)"

    @property
    def state_actions(self) -> Mapping[str, StateAction]:
        """Momentum, and one number per entry."""
        return {"momentum": LIKE_GRADIENT, "square": LIKE_SQUARES}

    def initial_state(self, weight: Any) -> State:
        """Zero buffer, mean squares and step count."""
        return {"step": 0, **super().initial_state(weight), "square": zeros_like(weight)}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The polar factor over its long-term root mean square, entry by entry."""
        step = state["step"] + 1
        momentum, ahead = self.look_ahead(grad, state["momentum"])
        factor = self.orthogonalize(ahead)
        square = ema(state["square"], factor * factor, self.beta2)
        root = array_namespace(grad).sqrt(square / (1 - self.beta2**step))
        entries = divide_or_zero(factor, root + self.eps)
        m, n = grad.shape[-2:]
        size = math.sqrt(min(m, n)) * shape_scale(self.adjust_lr, m, n)
        direction = size * divide_or_zero(entries, block_norm(entries) + self.eps)
        return direction, {"step": step, "momentum": momentum, "square": square}


@register
@dataclass(frozen=True, kw_only=True)
class AdaptiveMuon(_AdaptiveMuon):
    """``O = polar(v)`` divided by the root of a moving average, then scaled by the shape; no norm is restored.

    ``second_moment`` "adamuon": ``O / (sqrt(ema(O^2)) + eps)`` by entries. "normuon": ``O / sqrt(max(ema(mean O^2),
    eps))``, the mean over columns if ``m >= n`` and over rows if not, so that the statistics are those of the longer
    axis. "namo" (arXiv 2602.17080): ``O ||v|| / (sqrt(ema(||g||^2)) + eps)``, one number per weight.

    Emerging-Optimizers has no defaults for learning rate, momentum and decay; those of its Muon are taken.
    """

    name: ClassVar[str] = "adaptive_muon"
    source: ClassVar[str] = "NVIDIA-NeMo/Emerging-Optimizers adaptive_muon.py"

    lr: float = 3e-4
    weight_decay: float = 0.01
    nesterov: bool = False
    adjust_lr: AdjustLr = "spectral"
    orthogonalizer: str | Orthogonalizer = "you"
    second_moment: SecondMoment = "adamuon"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "second_moment", SECOND_MOMENTS)

    @property
    def symmetry(self) -> str:
        """That of the statistics; for rows or columns, whichever are longer, what holds for either."""
        if self.second_moment == "namo":
            return super().symmetry
        return "SPerm(rows) x SPerm(cols)"

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0; one number per weight keeps the column space."""
        return DirectionTraits(degree=0, horizontal=self.second_moment == "namo" and self.keeps_range)

    @property
    def state_actions(self) -> Mapping[str, StateAction]:
        """Momentum, and statistics of entries, rows, columns or the whole."""
        return {
            "momentum": LIKE_GRADIENT,
            "square": LIKE_SQUARES,
            "row_square": ROW_STATISTICS,
            "column_square": COLUMN_STATISTICS,
            "norm_square": INVARIANT,
        }

    def initial_state(self, weight: Any) -> State:
        """Zero buffer and averages."""
        state = super().initial_state(weight)
        if self.second_moment == "adamuon":
            return {**state, "square": zeros_like(weight)}
        if self.second_moment == "namo":
            return {**state, "norm_square": zeros_like(weight[..., :1, :1])}
        if weight.shape[-2] >= weight.shape[-1]:
            return {**state, "row_square": zeros_like(weight[..., :1])}
        return {**state, "column_square": zeros_like(weight[..., :1, :])}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The polar factor over the root of the average."""
        xp = array_namespace(grad)
        momentum, ahead = self.look_ahead(grad, state["momentum"])
        factor = self.orthogonalize(ahead)
        (name,) = state.keys() - {"momentum"}
        if name == "norm_square":
            average = ema(state[name], block_norm(grad) ** 2, self.beta2)
            factor = factor * divide_or_zero(block_norm(ahead), xp.sqrt(average) + self.eps)
        elif name == "square":
            average = ema(state[name], factor * factor, self.beta2)
            factor = divide_or_zero(factor, xp.sqrt(average) + self.eps)
        else:
            axis = -1 if name == "row_square" else -2
            average = ema(state[name], xp.mean(factor * factor, axis=axis, keepdims=True), self.beta2)
            factor = divide_or_zero(factor, xp.sqrt(xp.clip(average, min=self.eps)))
        return shape_scale(self.adjust_lr, *grad.shape[-2:]) * factor, {"momentum": momentum, name: average}
