"""Row normalisation of the momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from reference.rule import DirectionTraits, Rule, State, register, require_fraction, require_nonnegative, zeros_like
from reference.transforms.center import center
from reference.transforms.momentum import ema
from reference.transforms.normalize import row_normalize


@register
@dataclass(frozen=True, kw_only=True)
class RowNorm(Rule):
    """``m = ema(g)``; ``U_i = m_i / (||m_i|| + eps)``. With ``center_rows``: centre, normalise, centre again.

    A row whose gradient is zero from the start is not moved; a row whose gradient *stopped* keeps a full-size update until its
    momentum has decayed to ``eps``. Positive rescaling of single gradient rows leaves the update unchanged (an invariance).
    """

    name: ClassVar[str] = "row_norm"
    source: ClassVar[str] = "arXiv 2605.18106; timlautk/equivariant_optimizers optim/rownorm.py"
    min_ndim: ClassVar[int] = 2

    lr: float = 1e-3
    momentum: float = 0.95
    eps: float = 1e-8
    center_rows: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "momentum")
        require_nonnegative(self, "eps")

    @property
    def symmetry(self) -> str:
        """Signed row permutations and column rotations; centring leaves the permutations only."""
        return "Perm(rows) x O(cols)" if self.center_rows else "SPerm(rows) x O(cols)"

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0; the shift is seen and followed unless the rows are centred."""
        return DirectionTraits(degree=0, shift_insensitive=self.center_rows, horizontal=self.center_rows)

    def initial_state(self, weight: Any) -> State:
        """Zero momentum."""
        return {"momentum": zeros_like(weight)}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The row-normalised momentum."""
        momentum = ema(state["momentum"], grad, self.momentum)
        if self.center_rows:
            return center(row_normalize(center(momentum), self.eps)), {"momentum": momentum}
        return row_normalize(momentum, self.eps), {"momentum": momentum}
