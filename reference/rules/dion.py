"""Dion: a low-rank polar factor by one step of power iteration per update."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from array_api_compat import array_namespace

from reference.rule import (
    LIKE_GRADIENT,
    DirectionTraits,
    GradientRule,
    State,
    StateAction,
    register,
    require_count,
    require_fraction,
    require_nonnegative,
    zeros_like,
)
from reference.symmetry import BI_ORTHOGONAL
from reference.transforms.draws import normal
from reference.transforms.normalize import divide_or_zero


@register
@dataclass(frozen=True, kw_only=True)
class Dion(GradientRule):
    """``B = M + g``; ``P = qr(B Q)``, ``R = B^T P``; ``M = B - (1 - mu) P R^T``, ``Q_j = R_j / (||R_j|| + eps)``; ``U =
    sqrt(m / n) P Q^T``.

    ``Q`` has ``r = min(rank, m, n)`` columns and starts as a standard normal matrix, drawn in `init`. What ``M``
    keeps of the part that was used is the error feedback. The signs of QR cancel: in ``P R^T`` and in ``P Q^T``.

    A rotation of the columns also has to turn ``Q``. So a run from a given ``Q`` respects rotations of the rows only;
    one step from a moved state, and the law of a run (a normal matrix has no preferred direction), respect both axes.
    The division of columns by their norms depends on the basis ``Q`` of its span, and no rotation among its columns is
    respected. If ``B Q`` has not full column rank, QR completes its columns in a way that no symmetry fixes.

    This is the reference form for any shape; the source's distributed form transposes wide weights and orthonormalises
    by a randomised Cholesky QR.
    """

    name: ClassVar[str] = "dion"
    source: ClassVar[str] = "arXiv 2504.05295; microsoft/dion dion/dion_simple.py"
    min_ndim: ClassVar[int] = 2

    lr: float = 0.01
    weight_decay: float = 0.01
    momentum: float = 0.95
    rank: int = 768
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "momentum")
        require_count(self, "rank")
        require_nonnegative(self, "eps")

    @property
    def symmetry(self) -> str:
        """Rotations of the rows: the start ``Q`` is given."""
        return "O(rows)"

    @property
    def joint_symmetry(self) -> str:
        """Rotations of both axes."""
        return BI_ORTHOGONAL

    @property
    def gauges(self) -> Mapping[str, str]:
        """The signs of the columns of ``Q``."""
        return {"rank": "Sign"}

    @property
    def side_conditions(self) -> tuple[str, ...]:
        """Almost every ``Q`` meets it if ``B`` has rank ``r``."""
        return ("full column rank of B Q",)

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0; the column space of the gradients is kept."""
        return DirectionTraits(degree=0, horizontal=True)

    @property
    def state_actions(self) -> Mapping[str, StateAction]:
        """``M`` like the gradient, ``Q -> B Q``."""
        return {"momentum": LIKE_GRADIENT, "basis": StateAction(("cols", "rank"))}

    def initial_state(self, weight: Any) -> State:
        """Zero ``M``, standard normal ``Q``."""
        *batch, m, n = weight.shape
        return {"momentum": zeros_like(weight), "basis": normal((*batch, n, min(self.rank, m, n)), weight)}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The low-rank factor with the shape scale."""
        xp = array_namespace(grad)
        buffer = state["momentum"] + grad
        left, _ = xp.linalg.qr(buffer @ state["basis"])
        right = xp.matrix_transpose(buffer) @ left
        momentum = buffer - (1 - self.momentum) * (left @ xp.matrix_transpose(right))
        basis = divide_or_zero(right, xp.linalg.vector_norm(right, axis=-2, keepdims=True) + self.eps)
        direction = math.sqrt(grad.shape[-2] / grad.shape[-1]) * (left @ xp.matrix_transpose(basis))
        return direction, {"momentum": momentum, "basis": basis}
