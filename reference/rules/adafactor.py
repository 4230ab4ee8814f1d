"""Adafactor: second moments factored into rows and columns, a step relative to the size of the weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from array_api_compat import array_namespace

from reference.rule import (
    COLUMN_STATISTICS,
    LIKE_SQUARES,
    ROW_STATISTICS,
    DirectionTraits,
    Rule,
    State,
    StateAction,
    register,
    require_choice,
    require_nonnegative,
    zeros_like,
)
from reference.transforms.arrays import block_axes, block_norm
from reference.transforms.momentum import ema
from reference.transforms.normalize import divide_or_zero

Semantics = Literal["torch", "paper"]
SEMANTICS: tuple[Semantics, ...] = ("torch", "paper")


@register
@dataclass(frozen=True, kw_only=True)
class Adafactor(Rule):
    """``R_i = ema(mean_j g_ij^2)``, ``C_j = ema(mean_i g_ij^2)`` with ``beta_t = 1 - t^{beta2_decay}``, ``V = R C /
    mean(R)``; ``U = g / sqrt(V)``, divided by ``max(1, rms(U) / d)``; the step is ``max(eps_2, rms(W)) min(lr, 1 /
    sqrt(t))``.

    ``semantics`` "torch": ``torch.optim.Adafactor``, with ``mean(R)`` clamped at ``eps_1`` and ``V`` at ``eps_1^2``;
    ``eps_1`` None is the machine epsilon. "paper": ``eps_1`` (1e-30 there) is added to ``g^2`` instead. The paper's
    sums instead of means are the same ``V``. A vector keeps all of its second moments. Decay is decoupled.

    The step depends on the weight, through a number that every rotation keeps and no shift does. Departures from torch:
    rms and scale are taken for every matrix of a stack, there for the whole tensor; the front end shows a vector as one
    row, which is the same but for gradients below ``eps_1``.
    """

    name: ClassVar[str] = "adafactor"
    source: ClassVar[str] = "arXiv 1804.04235; pytorch torch/optim/_adafactor.py"

    lr: float = 1e-2
    beta2_decay: float = -0.8
    eps: tuple[float | None, float] = (None, 1e-3)
    d: float = 1.0
    semantics: Semantics = "torch"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_nonnegative(self, "d")
        require_choice(self, "semantics", SEMANTICS)
        if self.beta2_decay > 0:
            raise ValueError(f"rule 'adafactor': beta2_decay must be at most 0, got {self.beta2_decay!r}")
        if self.d == 0 or min(each for each in self.eps if each is not None) < 0:
            raise ValueError(f"rule 'adafactor': needs d > 0 and eps >= 0, got d = {self.d!r}, eps = {self.eps!r}")

    @property
    def symmetry(self) -> str:
        """Signed permutations of both axes."""
        return "SPerm(rows) x SPerm(cols)"

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0; scaled by the size of the weight."""
        return DirectionTraits(degree=0, weight_free=False)

    @property
    def state_actions(self) -> Mapping[str, StateAction]:
        """One number per row and one per column, or all squares of a vector."""
        return {"row_square": ROW_STATISTICS, "column_square": COLUMN_STATISTICS, "square": LIKE_SQUARES}

    def without_eps(self) -> Self:
        """The same with ``eps_1 = 0``; ``eps_2`` compares with the weight, not with the gradient."""
        return replace(self, eps=(0.0, self.eps[1]))

    def initial_state(self, weight: Any) -> State:
        """Zero averages and step count."""
        if weight.ndim < 2:
            return {"step": 0, "square": zeros_like(weight)}
        return {"step": 0, "row_square": zeros_like(weight[..., :1]), "column_square": zeros_like(weight[..., :1, :])}

    def displacement(self, grad: Any, state: State, weight: Any) -> tuple[Any, State]:
        """The clipped direction times the relative step size."""
        xp = array_namespace(grad)
        step = state["step"] + 1
        new, variance = self._second_moment(grad, state, 1 - step**self.beta2_decay)
        update = divide_or_zero(grad, xp.sqrt(variance))
        size = math.sqrt(math.prod(grad.shape[axis] for axis in block_axes(grad)))
        update = update / xp.clip(block_norm(update) / (size * self.d), min=1.0)
        relative = xp.clip(block_norm(weight) / size, min=self.eps[1]) * min(self.lr, 1 / math.sqrt(step))
        return -relative * update, {"step": step, **new}

    def _second_moment(self, grad: Any, state: State, beta2: float) -> tuple[State, Any]:
        """The new averages and the variances that they stand for."""
        xp = array_namespace(grad)
        eps = float(xp.finfo(grad.dtype).eps) if self.eps[0] is None else self.eps[0]
        torch = self.semantics == "torch"
        square = grad * grad if torch else grad * grad + eps
        if "square" in state:
            new = {"square": ema(state["square"], square, beta2)}
            variance = new["square"]
        else:
            rows = ema(state["row_square"], xp.mean(square, axis=-1, keepdims=True), beta2)
            columns = ema(state["column_square"], xp.mean(square, axis=-2, keepdims=True), beta2)
            mean = xp.mean(rows, axis=-2, keepdims=True)
            new = {"row_square": rows, "column_square": columns}
            variance = divide_or_zero(rows * columns, xp.clip(mean, min=eps) if torch else mean)
        return new, xp.clip(variance, min=eps * eps) if torch else variance
