"""MuonEq: rows, columns or both are brought to one size before the polar factor is taken."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from array_api_compat import array_namespace

from reference.orthogonalizers import Orthogonalizer
from reference.rule import (
    DirectionTraits,
    State,
    register,
    require_choice,
    require_count,
    require_nonnegative,
)
from reference.rules.muon import ACCUMULATE, Accumulation, AdjustLr, Muon
from reference.transforms.momentum import nesterov
from reference.transforms.normalize import divide_or_zero

Sides = Literal["R", "C", "RC"]
SIDES: tuple[Sides, ...] = ("R", "C", "RC")

Statistic = Literal["l2", "inf"]
STATISTICS: tuple[Statistic, ...] = ("l2", "inf")


def equilibrate(x: Any, axes: tuple[int, ...], statistic: Statistic, exponent: float, eps: float, clip: float) -> Any:
    """Every row (axis -1) or column (axis -2) of ``(..., m, n)`` times ``(s + eps)^exponent``, for every axis in
    ``axes``, with ``s`` the sum of its squares ("l2") or its largest magnitude ("inf").

    All statistics are of ``x`` itself. Factors are kept in ``[1 / clip, clip]``. A row with ``s + eps = 0`` is zero.
    """
    xp = array_namespace(x)
    y = x
    for axis in axes:
        reduce, entries = (xp.sum, x * x) if statistic == "l2" else (xp.max, xp.abs(x))
        s = reduce(entries, axis=axis, keepdims=True)
        inverse = (s + eps) ** -exponent
        if clip < math.inf:
            inverse = xp.clip(inverse, min=1 / clip, max=clip)
        y = divide_or_zero(y, inverse)
    return y


@register
@dataclass(frozen=True, kw_only=True)
class MuonEq(Muon):
    """``U = 0.2 sqrt(max(m, n)) polar(D_r v D_c)``, ``D_r = diag(||v_i||^2 + eps)^e``, ``D_c`` likewise of columns.

    ``v`` is Muon's look-ahead. ``mode`` "R" (the paper's default) equilibrates rows only, "C" columns only, "RC" both,
    from the statistics of one and the same ``v``. With ``exponent`` ``e = -1/2`` and no eps the result of "R" is
    unchanged when rows of ``v`` are rescaled by positive numbers; "RC" is not, because its two sides are not iterated.
    ``clip`` bounds the factors to ``[1 / clip, clip]``; it keeps the group and breaks the degree. ``statistic`` "inf"
    takes the largest magnitude for the squared norm (the source's CIFAR variant, there with momentum 0.9 and learning
    rate 5e-3); it does not survive a rotation.

    ``phase``, for mode "RC": from that step on (the first is 1) only rows are equilibrated. Both phases keep the
    group of "RC", which is claimed for the whole run. ``theory_momentum``: ``1 - t^(-1/2)`` in
    the place of ``momentum``, as in the paper's theory, there with ``accumulation="ema"``, ``nesterov=False`` and
    learning rates ``t^(-3/4)``. The norm "spc" of the source is ``orthogonalizer="jordan_spc"``.

    The formula follows the code; of the paper only the abstract and a transcription could be read. Departures: steps
    are counted for each weight, there for each group. The docstring of the source says that ``phase`` switches in mode
    "row", where its code ignores it; here that is an error. Not taken over: in its helpers a missing exponent means
    -1/4, everywhere else -1/2.
    """

    name: ClassVar[str] = "muoneq"
    source: ClassVar[str] = "arXiv 2603.28254; MaeChd/muon-eq optimizers/muon_variants/muoneq.py"

    lr: float = 1e-3
    weight_decay: float = 0.1
    accumulation: Accumulation = "heavy_ball"
    adjust_lr: AdjustLr = "match_rms_adamw"
    orthogonalizer: str | Orthogonalizer = "jordan"
    mode: Sides = "R"
    exponent: float = -0.5
    eps: float = 1e-8
    clip: float = math.inf
    statistic: Statistic = "l2"
    phase: int | None = None
    theory_momentum: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "mode", SIDES)
        require_choice(self, "statistic", STATISTICS)
        require_nonnegative(self, "eps")
        if not (math.isfinite(self.exponent) and self.exponent <= 0):
            raise ValueError(f"rule {self.name!r}: exponent must be finite and <= 0, got {self.exponent!r}")
        if not self.clip >= 1:
            raise ValueError(f"rule {self.name!r}: clip must be at least 1, got {self.clip!r}")
        if self.phase is not None:
            require_count(self, "phase")
            if self.mode != "RC":
                raise ValueError(f"rule {self.name!r}: phase ends mode 'RC', but the mode is {self.mode!r}")

    @property
    def symmetry(self) -> str:
        """Signed permutations of every axis that is equilibrated, or of both if magnitudes are taken."""
        rows, cols = (
            "SPerm" if side in self.mode or self.statistic == "inf" else self.axis_family for side in ("R", "C")
        )
        return f"{rows}(rows) x {cols}(cols)"

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0 without clipping; factors of columns keep the column space."""
        return DirectionTraits(degree=0 if self.clip == math.inf else None, horizontal=self.mode == "C")

    def initial_state(self, weight: Any) -> State:
        """Zero buffer and a step count."""
        return {"step": 0, **super().initial_state(weight)}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The scaled polar factor of the equilibrated look-ahead."""
        step = state["step"] + 1
        momentum = 1 - step**-0.5 if self.theory_momentum else self.momentum
        accumulate = ACCUMULATE[self.accumulation]
        buffer = accumulate(state["momentum"], grad, momentum)
        ahead = nesterov(accumulate, buffer, grad, momentum) if self.nesterov else buffer
        mode = "R" if self.phase is not None and step >= self.phase else self.mode
        axes = tuple(axis for side, axis in (("R", -1), ("C", -2)) if side in mode)
        level = equilibrate(ahead, axes, self.statistic, self.exponent, self.eps, self.clip)
        return self.blockwise(level), {"step": step, "momentum": buffer}
