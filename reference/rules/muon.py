"""Muon: the orthogonalised momentum, in the conventions of its common implementations and by heads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from reference.orthogonalizers import Orthogonalizer
from reference.rule import DirectionTraits, State, register, require_choice, require_count, require_fraction, zeros_like
from reference.rules.orthogonalizing import OrthogonalizingRule
from reference.symmetry import blocks_of
from reference.transforms.layout import merge_columns, merge_rows, split_columns, split_rows
from reference.transforms.momentum import ema, heavy_ball, nesterov

Accumulation = Literal["ema", "heavy_ball"]
ACCUMULATE: Mapping[str, Callable[[Any, Any, float], Any]] = {"ema": ema, "heavy_ball": heavy_ball}

AdjustLr = Literal["original", "match_rms_adamw", "spectral", "unit_rms_norm"]
ADJUST_LR: tuple[AdjustLr, ...] = ("original", "match_rms_adamw", "spectral", "unit_rms_norm")

HeadLayout = Literal["qkv", "o"]
HEAD_LAYOUTS: tuple[HeadLayout, ...] = ("qkv", "o")


def shape_scale(adjust: AdjustLr, rows: int, cols: int) -> float:
    """``sqrt(max(1, rows / cols))`` ("original"), ``0.2 sqrt(max(rows, cols))`` ("match_rms_adamw"), and
    Emerging-Optimizers' ``sqrt(max(rows, cols))`` ("spectral") and ``sqrt(rows / cols)`` ("unit_rms_norm").
    """
    if adjust == "original":
        return math.sqrt(max(1.0, rows / cols))
    if adjust == "unit_rms_norm":
        return math.sqrt(rows / cols)
    return (0.2 if adjust == "match_rms_adamw" else 1.0) * math.sqrt(max(rows, cols))


@register
@dataclass(frozen=True, kw_only=True)
class Muon(OrthogonalizingRule):
    """Momentum, Nesterov look-ahead, orthogonalisation, shape scale: ``U = s(m, n) polar(v)``. K. Jordan's defaults.

    ``accumulation`` "ema": ``b = mu b + (1 - mu) g``, ``v = (1 - mu) g + mu b``; "heavy_ball": ``b = mu b + g``,
    ``v = g + mu b``. The two differ by the factor ``1 - mu``, so but for the eps of the orthogonaliser the directions
    are equal. ``adjust_lr`` is the shape scale: ``sqrt(max(1, m / n))`` ("original"), ``0.2 sqrt(max(m, n))``
    ("match_rms_adamw"), ``sqrt(max(m, n))`` ("spectral") or ``sqrt(m / n)`` ("unit_rms_norm"). Decay is decoupled and
    not scaled. The number of polynomial steps does not change the group.

    Departure from the source: the gradient is left alone, which the source's ``grad.lerp_`` overwrites.
    """

    name: ClassVar[str] = "muon"
    source: ClassVar[str] = "KellerJordan/Muon muon.py"

    lr: float = 0.02
    momentum: float = 0.95
    nesterov: bool = True
    accumulation: Accumulation = "ema"
    adjust_lr: AdjustLr = "original"
    orthogonalizer: str | Orthogonalizer = "jordan"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "momentum")
        require_choice(self, "accumulation", tuple(ACCUMULATE))
        require_choice(self, "adjust_lr", ADJUST_LR)

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0; the column space is kept as far as the orthogonaliser keeps it."""
        return DirectionTraits(degree=0, horizontal=self.keeps_range)

    def initial_state(self, weight: Any) -> State:
        """Zero buffer."""
        return {"momentum": zeros_like(weight)}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The scaled, orthogonalised look-ahead."""
        buffer, ahead = self.look_ahead(grad, state["momentum"])
        return self.blockwise(ahead), {"momentum": buffer}

    def look_ahead(self, grad: Any, buffer: Any) -> tuple[Any, Any]:
        """The new momentum buffer, and what is orthogonalised: Nesterov's look-ahead, or the buffer itself."""
        accumulate = ACCUMULATE[self.accumulation]
        buffer = accumulate(buffer, grad, self.momentum)
        return buffer, nesterov(accumulate, buffer, grad, self.momentum) if self.nesterov else buffer

    def blockwise(self, x: Any) -> Any:
        """The scaled polar factor, of the whole matrix here; rules of heads and experts override this."""
        return self.scaled_factor(x)

    def scaled_factor(self, x: Any) -> Any:
        """``s(m, n) polar(x)`` of every matrix ``(..., m, n)``."""
        return shape_scale(self.adjust_lr, *x.shape[-2:]) * self.orthogonalize(x)


@register
@dataclass(frozen=True, kw_only=True)
class MuonMoonlight(Muon):
    """Moonlight's Muon: heavy ball, Nesterov, ``s = 0.2 sqrt(max(m, n))`` to match the RMS of AdamW's updates.

    The report takes learning rate and decay from its AdamW baseline; the defaults here are 1e-3 and 0.1.
    """

    name: ClassVar[str] = "muon_moonlight"
    source: ClassVar[str] = "arXiv 2502.16982"

    lr: float = 1e-3
    weight_decay: float = 0.1
    accumulation: Accumulation = "heavy_ball"
    adjust_lr: AdjustLr = "match_rms_adamw"


@register
@dataclass(frozen=True, kw_only=True)
class MuonTorch(Muon):
    """``torch.optim.Muon``: moving average (its docstring says heavy ball), Nesterov, the norm clamped at 1e-7.

    Its ``ns_coefficients``, ``ns_steps`` and ``eps`` are ``orthogonalizer=NewtonSchulz((ns_coefficients,) * ns_steps,
    eps=eps, floor="clamp")``, its ``adjust_lr_fn`` is ``adjust_lr`` (None means "original"). Departures: computed in
    the dtype of the weight, there in bfloat16; batched, there for one matrix only.
    """

    name: ClassVar[str] = "muon_torch"
    source: ClassVar[str] = "pytorch torch/optim/_muon.py"

    lr: float = 1e-3
    weight_decay: float = 0.1
    orthogonalizer: str | Orthogonalizer = "torch"


@register
@dataclass(frozen=True, kw_only=True)
class MuonHeads(Muon):
    """Muon on each attention head: heavy ball, Nesterov, five Polar Express steps per head.

    ``layout`` "qkv": ``heads`` contiguous blocks of rows of a weight ``[heads * d_h, d]`` (for K and V, the key-value
    heads); "o": ``heads`` contiguous blocks of columns of ``[d, heads * d_h]``. The scale uses the shape of a block.
    One head is plain Muon.

    The group is smaller than Muon's, which contains it; what is gained is that no head sees another. Horizontality is
    lost in the layout "qkv": ``1^T G = 0`` holds for the sum over heads, not for each. Departure: the source sends its
    update through a bfloat16 buffer.
    """

    name: ClassVar[str] = "muon_heads"
    source: ClassVar[str] = "arXiv 2605.18106; timlautk/equivariant_optimizers optim/muon_heads.py"

    accumulation: Accumulation = "heavy_ball"
    orthogonalizer: str | Orthogonalizer = "polar_express_2e-2"
    heads: int = 1
    layout: HeadLayout = "qkv"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "layout", HEAD_LAYOUTS)
        require_count(self, "heads")

    @property
    def symmetry(self) -> str:
        """Rotations and permutations of the heads, and rotations of the model axis."""
        family = self.axis_family
        blocks = blocks_of(family, self.heads)
        return f"{blocks}(rows) x {family}(cols)" if self.layout == "qkv" else f"{family}(rows) x {blocks}(cols)"

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0; the column space of a *block* is kept."""
        return DirectionTraits(degree=0, horizontal=self.keeps_range and (self.heads == 1 or self.layout == "o"))

    def initial_state(self, weight: Any) -> State:
        """Zero buffer; ValueError if the heads do not divide their axis."""
        size = weight.shape[-2] if self.layout == "qkv" else weight.shape[-1]
        if size % self.heads:
            raise ValueError(f"rule {self.name!r}: {self.heads} heads do not divide an axis of size {size}")
        return super().initial_state(weight)

    def blockwise(self, x: Any) -> Any:
        """The scaled polar factor of every head."""
        if self.layout == "qkv":
            return merge_rows(self.scaled_factor(split_rows(x, self.heads)))
        return merge_columns(self.scaled_factor(split_columns(x, self.heads)))
