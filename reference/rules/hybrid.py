"""Row normalisation and polar factor combined, in either order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from reference.rule import (
    DirectionTraits,
    GradientRule,
    State,
    register,
    require_choice,
    require_count,
    require_fraction,
    require_nonnegative,
    zeros_like,
)
from reference.rules.orthogonalizing import require_backend
from reference.symmetry import oriented_row_traits, row_geometry
from reference.transforms.center import center
from reference.transforms.layout import ORIENTATIONS, Orientation, orient, unorient
from reference.transforms.momentum import ema
from reference.transforms.normalize import ROW_MODES, RowMode, row_normalize
from reference.transforms.spectral import SIDES, Backend, Side, scale_by_inner, spectral_factor

Order = Literal["polar_then_row", "row_then_polar"]
ORDERS: tuple[Order, ...] = ("polar_then_row", "row_then_polar")


@register
@dataclass(frozen=True, kw_only=True)
class Hybrid(GradientRule):
    """Row normalisation ``R(x)_i = x_i / (||x_i|| + eps)`` and polar factor ``P(x) = x (x^T x + eps I)^{-1/2}``
    combined.

    On the oriented momentum ``m = orient(ema(g))``:
    ``polar_then_row``: ``U = R(nu^alpha P(m))``, ``nu = max(<m, P(m)>, eps)``;
    ``row_then_polar``: ``U = nu^alpha P(R(m))``, ``nu = max(<R(m), P(R(m))>, eps)``.

    With ``center_rows`` the matrix is centred before the first map, between the two of ``row_then_polar``, and at the
    end.

    What follows from the formulas: in ``polar_then_row`` the scale cancels, so ``alpha`` does nothing (up to ``eps``),
    and on a wide matrix of full row rank the rows of the polar factor are unit already, so the rule is the plain polar
    factor. In ``row_then_polar`` ``nu`` is the nuclear norm of a matrix with unit rows, between ``sqrt(m)`` and
    ``sqrt(m rank)``: it carries no gradient magnitude, and the degree is 0 whatever ``alpha``. This order is invariant
    under positive rescaling of single rows of the momentum; the other is not.

    Departures: the default backend is the exact damped root (the source's is ``polar_express``); weights with fewer
    than two axes are refused, not skipped; the paper's routing uses ``row_then_polar`` everywhere while the class
    default, kept here, is the other.
    """

    name: ClassVar[str] = "hybrid"
    source: ClassVar[str] = "arXiv 2605.18106; timlautk/equivariant_optimizers optim/hybrid.py"
    min_ndim: ClassVar[int] = 2

    lr: float = 1e-3
    momentum: float = 0.95
    alpha: float = 1.0
    eps: float = 1e-8
    order: Order = "polar_then_row"
    orientation: Orientation = "row"
    center_rows: bool = False
    row_mode: RowMode = "inverse_eps"
    side: Side = "right"
    backend: Backend = "exact"
    steps: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "momentum")
        require_nonnegative(self, "alpha", "eps")
        require_count(self, "steps")
        for field, choices in (
            ("order", ORDERS),
            ("orientation", ORIENTATIONS),
            ("row_mode", ROW_MODES),
            ("side", SIDES),
        ):
            require_choice(self, field, choices)
        require_backend(self)

    @property
    def symmetry(self) -> str:
        """Signed permutations of the units and rotations of the other axis; plain permutations when centred."""
        return row_geometry(self.orientation, centered=self.center_rows, polarized=True)

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0; blind to the shift when the stored rows are centred, horizontal when columns are the units too."""
        return oriented_row_traits(self.orientation, self.center_rows)

    def initial_state(self, weight: Any) -> State:
        """Zero momentum; ValueError for an odd paired axis."""
        orient(weight, self.orientation)
        return {"momentum": zeros_like(weight)}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The two maps in the chosen order, on the oriented momentum."""
        momentum = ema(state["momentum"], grad, self.momentum)
        work = self._centered(orient(momentum, self.orientation))
        if self.order == "polar_then_row":
            direction = self._rows(self._scaled(self._factor(work), work))
        else:
            work = self._centered(self._rows(work))
            direction = self._scaled(self._factor(work), work)
        return unorient(self._centered(direction), self.orientation), {"momentum": momentum}

    def _centered(self, x: Any) -> Any:
        return center(x) if self.center_rows else x

    def _rows(self, x: Any) -> Any:
        return row_normalize(x, self.eps, self.row_mode)

    def _factor(self, x: Any) -> Any:
        return spectral_factor(x, side=self.side, backend=self.backend, eps=self.eps, steps=self.steps)

    def _scaled(self, factor: Any, work: Any) -> Any:
        return scale_by_inner(factor, work, alpha=self.alpha, eps=self.eps)
