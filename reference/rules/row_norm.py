"""Row normalisation of the momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from reference.rule import (
    DirectionTraits,
    GradientRule,
    State,
    register,
    require_choice,
    require_fraction,
    require_nonnegative,
    zeros_like,
)
from reference.symmetry import oriented_row_traits, row_geometry
from reference.transforms.center import center
from reference.transforms.layout import ORIENTATIONS, Orientation, orient, unorient
from reference.transforms.momentum import ema
from reference.transforms.normalize import ROW_MODES, RowMode, row_normalize


@register
@dataclass(frozen=True, kw_only=True)
class RowNorm(GradientRule):
    """On the oriented momentum ``m = orient(ema(g))``: ``U_i = m_i / (||m_i|| + eps)``, or ``m_i / max(||m_i||, eps)``.

    With ``center_rows``: centre, normalise, centre again; the final rows are then no longer unit. A row whose gradient
    is zero from the start is not moved; a row whose gradient *stopped* (a rare token) keeps a full-size update until
    its momentum has decayed to ``eps``. Positive rescaling of single gradient rows leaves the update unchanged: an
    invariance, not an equivariance.

    Departure from the source: weights with fewer than two axes are refused, not skipped without a word.
    """

    name: ClassVar[str] = "row_norm"
    source: ClassVar[str] = "arXiv 2605.18106; timlautk/equivariant_optimizers optim/rownorm.py"
    min_ndim: ClassVar[int] = 2

    lr: float = 1e-3
    momentum: float = 0.95
    eps: float = 1e-8
    orientation: Orientation = "row"
    center_rows: bool = False
    row_mode: RowMode = "inverse_eps"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "momentum")
        require_nonnegative(self, "eps")
        require_choice(self, "orientation", ORIENTATIONS)
        require_choice(self, "row_mode", ROW_MODES)

    @property
    def symmetry(self) -> str:
        """Signed permutations of the units and rotations of the other axis; centring leaves the permutations only."""
        return row_geometry(self.orientation, centered=self.center_rows, polarized=False)

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0; blind to the shift when the stored rows are centred, horizontal when columns are the units too."""
        return oriented_row_traits(self.orientation, self.center_rows)

    def initial_state(self, weight: Any) -> State:
        """Zero momentum; ValueError for an odd paired axis."""
        orient(weight, self.orientation)
        return {"momentum": zeros_like(weight)}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The row-normalised momentum."""
        momentum = ema(state["momentum"], grad, self.momentum)
        work = orient(momentum, self.orientation)
        if self.center_rows:
            direction = center(row_normalize(center(work), self.eps, self.row_mode))
        else:
            direction = row_normalize(work, self.eps, self.row_mode)
        return unorient(direction, self.orientation), {"momentum": momentum}
