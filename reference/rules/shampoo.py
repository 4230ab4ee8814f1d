"""Shampoo: accumulated Gram matrices of the gradients, and their inverse roots on both sides or on one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from array_api_compat import array_namespace

from reference.rule import (
    COLUMN_GRAM,
    COLUMN_STATISTICS,
    LIKE_GRADIENT,
    ROW_GRAM,
    ROW_STATISTICS,
    DirectionTraits,
    GradientRule,
    State,
    StateAction,
    register,
    require_choice,
    require_fraction,
    require_nonnegative,
    zeros_like,
)
from reference.symmetry import BI_ORTHOGONAL
from reference.transforms.arrays import block_norm
from reference.transforms.gram_root import inverse_root, left_gram, right_gram, symmetric_map
from reference.transforms.momentum import ema
from reference.transforms.normalize import divide_or_zero

Diagonal = Literal["none", "left", "right", "both"]
DIAGONALS: tuple[Diagonal, ...] = ("none", "left", "right", "both")

OneSide = Literal["left", "right", "smaller"]
ONE_SIDES: tuple[OneSide, ...] = ("left", "right", "smaller")


@register
@dataclass(frozen=True, kw_only=True)
class Shampoo(GradientRule):
    """``L = L + g g^T``, ``R = R + g^T g``; ``U = (L + eps I)^{-p} g (R + eps I)^{-p}`` with ``p = exponent = 1/4``.

    The paper starts its sums at ``eps I``, which is the same. ``beta``: moving averages ``L = beta L + (1 - beta) g
    g^T`` instead of sums. ``diagonal``: the sides of which only the diagonal is kept (the paper's way with a dimension
    that is too large), so that rows or columns are divided by powers of their accumulated norms; the group of that axis
    is then the signed permutations. ``exponent = 1/2`` is the square of the paper's preconditioner, of later work. With
    ``eps = 0`` inverse roots are zero on the null space, and the first step is ``polar(g)`` (``exponent = 1/4``).

    The paper leaves the constants open; the defaults are those of moskomule/shampoo.pytorch, which computes the same.
    Which dimensions count as too large is left to the caller.
    """

    name: ClassVar[str] = "shampoo"
    source: ClassVar[str] = "arXiv 1802.09568; moskomule/shampoo.pytorch shampoo.py"
    min_ndim: ClassVar[int] = 2
    decay: ClassVar[Literal["decoupled", "coupled", "inner"]] = "coupled"

    lr: float = 0.1
    exponent: float = 0.25
    beta: float | None = None
    eps: float = 1e-4
    diagonal: Diagonal = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_nonnegative(self, "eps", "exponent")
        require_choice(self, "diagonal", DIAGONALS)
        if self.beta is not None:
            require_fraction(self, "beta")

    @property
    def symmetry(self) -> str:
        """Rotations of both axes; signed permutations of an axis of which only the diagonal is kept."""
        rows, cols = ("SPerm" if self.diagonal in (side, "both") else "O" for side in ("left", "right"))
        return f"{rows}(rows) x {cols}(cols)"

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree ``1 - 4 p``; the column space is kept unless rows are divided by their own norms."""
        degree = 1 - 4 * self.exponent
        return DirectionTraits(
            degree=int(degree) if degree.is_integer() else degree, horizontal=self.diagonal in ("none", "right")
        )

    @property
    def state_actions(self) -> Mapping[str, StateAction]:
        """Gram matrices, or the squared norms of rows and columns."""
        return {
            "left": ROW_GRAM,
            "right": COLUMN_GRAM,
            "left_diagonal": ROW_STATISTICS,
            "right_diagonal": COLUMN_STATISTICS,
        }

    def initial_state(self, weight: Any) -> State:
        """Zero on either side."""
        zeros = zeros_like(weight)
        left = {"left_diagonal": zeros_like(weight[..., :1])}
        right = {"right_diagonal": zeros_like(weight[..., :1, :])}
        return {
            **(left if self.diagonal in ("left", "both") else {"left": left_gram(zeros)}),
            **(right if self.diagonal in ("right", "both") else {"right": right_gram(zeros)}),
        }

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The gradient between the two inverse roots."""
        xp = array_namespace(grad)
        new: State = {}
        if "left" in state:
            new["left"] = self._accumulate(state["left"], left_gram(grad))
            direction = self._root(new["left"]) @ grad
        else:
            new["left_diagonal"] = self._accumulate(state["left_diagonal"], xp.sum(grad * grad, axis=-1, keepdims=True))
            direction = divide_or_zero(grad, (new["left_diagonal"] + self.eps) ** self.exponent)
        if "right" in state:
            new["right"] = self._accumulate(state["right"], right_gram(grad))
            direction = direction @ self._root(new["right"])
        else:
            new["right_diagonal"] = self._accumulate(
                state["right_diagonal"], xp.sum(grad * grad, axis=-2, keepdims=True)
            )
            direction = divide_or_zero(direction, (new["right_diagonal"] + self.eps) ** self.exponent)
        return direction, new

    def _root(self, gram: Any) -> Any:
        return inverse_root(gram, self.exponent, self.eps)

    def _accumulate(self, total: Any, term: Any) -> Any:
        return total + term if self.beta is None else ema(total, term, self.beta)


@dataclass(frozen=True, kw_only=True)
class _OneSided(GradientRule):
    """What the two forms of one-sided Shampoo share: ``side`` "smaller" is left for wide matrices, else right."""

    min_ndim: ClassVar[int] = 2

    side: OneSide = "left"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "side", ONE_SIDES)

    @property
    def symmetry(self) -> str:
        """Rotations of both axes."""
        return BI_ORTHOGONAL

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0; the column space of the gradients is kept."""
        return DirectionTraits(degree=0, horizontal=True)

    @property
    def state_actions(self) -> Mapping[str, StateAction]:
        """The Gram matrix of one side, and a momentum."""
        return {"left": ROW_GRAM, "right": COLUMN_GRAM, "momentum": LIKE_GRADIENT}

    def initial_state(self, weight: Any) -> State:
        """A zero Gram matrix."""
        zeros = zeros_like(weight)
        side = self.side_of(weight)
        return {side: left_gram(zeros) if side == "left" else right_gram(zeros)}

    def side_of(self, weight: Any) -> str:
        """The side of the Gram matrix for a weight of this shape."""
        if self.side != "smaller":
            return self.side
        return "left" if weight.shape[-2] < weight.shape[-1] else "right"


@register
@dataclass(frozen=True, kw_only=True)
class OneSidedShampoo(_OneSided):
    """``V = V + g g^T`` from zero; ``U = (V^{1/2} + eps I)^{-1} g``. Right: ``V = V + g^T g``, ``U = g (V^{1/2} + eps
    I)^{-1}``.

    The form that the papers analyse (ASGO, and one-sided Shampoo of arXiv 2503.20762); eps is outside the root. Read
    from a transcription of the paper, which leaves the constants open: the defaults are ours.
    """

    name: ClassVar[str] = "one_sided_shampoo"
    source: ClassVar[str] = "arXiv 2503.20762"

    lr: float = 1e-2
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        require_nonnegative(self, "eps")

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The gradient times the inverse root."""
        side = self.side_of(grad)
        gram = state[side] + (left_gram(grad) if side == "left" else right_gram(grad))
        root = symmetric_map(gram, lambda values: 1 / (values**0.5 + self.eps))
        return root @ grad if side == "left" else grad @ root, {side: gram}


@register
@dataclass(frozen=True, kw_only=True)
class ASGO(_OneSided):
    """``m = ema(g)``, ``V = ema(g^T g)`` or ``ema(g g^T)`` on the smaller side; ``U = 0.2 sqrt(m n) D / ||D||`` with
    ``D = m V^{-1/2}`` or ``V^{-1/2} m``.

    The authors' code, which computes the root by ten coupled Polar Express steps in float32, where ``eps = 1e-10`` is
    part of the starting scale only; here it is exact, and zero on the null space.
    """

    name: ClassVar[str] = "asgo"
    source: ClassVar[str] = "arXiv 2503.20762; infinity-stars/ASGO optimizers/asgo.py"

    lr: float = 1e-2
    weight_decay: float = 0.1
    momentum: float = 0.9
    beta2: float = 0.8
    side: OneSide = "smaller"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "momentum", "beta2")

    def initial_state(self, weight: Any) -> State:
        """Zero momentum and Gram matrix."""
        return {"momentum": zeros_like(weight), **super().initial_state(weight)}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The preconditioned momentum, scaled to the root mean square 0.2."""
        side = self.side_of(grad)
        momentum = ema(state["momentum"], grad, self.momentum)
        gram = ema(state[side], left_gram(grad) if side == "left" else right_gram(grad), self.beta2)
        root = inverse_root(gram, 0.5)
        direction = root @ momentum if side == "left" else momentum @ root
        size = 0.2 * math.sqrt(grad.shape[-2] * grad.shape[-1])
        return size * divide_or_zero(direction, block_norm(direction)), {"momentum": momentum, side: gram}
