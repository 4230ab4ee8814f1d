"""SOAP: Adam in the eigenbasis of Shampoo's Gram matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from array_api_compat import array_namespace, device

from reference.rule import (
    COLUMN_GRAM,
    ROW_GRAM,
    DirectionTraits,
    GradientRule,
    State,
    StateAction,
    register,
    require_choice,
    require_count,
    require_fraction,
    require_nonnegative,
    zeros_like,
)
from reference.transforms.arrays import copied, symmetrize
from reference.transforms.gram_root import left_gram, right_gram
from reference.transforms.momentum import ema
from reference.transforms.normalize import divide_or_zero

Rotated = Literal["both", "left", "right"]
ROTATED: tuple[Rotated, ...] = ("both", "left", "right")


@register
@dataclass(frozen=True, kw_only=True)
class SOAP(GradientRule):
    """``P = Q_L^T g Q_R``, ``m = ema(P)``, ``v = ema(P^2)``; ``U = Q_L [m / (sqrt(v) + eps)] Q_R^T`` with Adam's bias
    corrections, where ``Q_L``, ``Q_R`` are eigenvectors of ``L = ema(g g^T)``, ``R = ema(g^T g)``.

    The semantics of the authors' code. The first gradient only fills ``L`` and ``R`` and their eigenvectors (largest
    eigenvalue first): nothing moves, not even by decay. After every later step ``L`` and ``R`` are updated, and after
    every ``frequency``-th the bases: columns sorted by their Rayleigh quotients (``v`` with them), one step of power
    iteration, QR; ``m`` is kept in the bases and turned with them. ``eps`` is added to the uncorrected ``sqrt(v)``, and
    decay acts on the weight *after* the step. ``rotated``: the side(s) with a basis; on the other one, which the source
    leaves out above ``max_precond_dim = 10000``, Adam's coordinates are the stored ones. (Which dimensions are too
    large is left to the caller, because the group depends on it.)

    An eigenvector has no preferred sign, and none matters: ``m`` is odd and ``v`` even in it. But in an eigenspace of
    dimension two or more no basis is preferred at all, Adam is not blind to which one it gets, and then no rotation of
    that axis is respected. That is the rule at the first step of every weight that is not square: the larger Gram
    matrix has rank ``min(m, n)``.
    """

    name: ClassVar[str] = "soap"
    source: ClassVar[str] = "arXiv 2409.11321; nikhilvyas/SOAP soap.py"
    min_ndim: ClassVar[int] = 2

    lr: float = 3e-3
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.95, 0.95)
    eps: float = 1e-8
    frequency: int = 10
    rotated: Rotated = "both"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "betas")
        require_nonnegative(self, "eps")
        require_count(self, "frequency")
        require_choice(self, "rotated", ROTATED)

    @property
    def symmetry(self) -> str:
        """Rotations of the axes with a basis, under the side condition; signed permutations of one without."""
        rows, cols = ("O" if self._has(side) else "SPerm" for side in ("left", "right"))
        return f"{rows}(rows) x {cols}(cols)"

    @property
    def side_conditions(self) -> tuple[str, ...]:
        """No repeated eigenvalue, zero included."""
        sides = " and ".join(name for side, name in (("left", "g g^T"), ("right", "g^T g")) if self._has(side))
        return (f"simple spectrum of the averages of {sides}",)

    @property
    def gauges(self) -> Mapping[str, str]:
        """The signs of the eigenvectors."""
        return {f"{side}_eigenvectors": "Sign" for side in ("left", "right") if self._has(side)}

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0. With a zero eigenvalue for the all-ones vector nothing moves along it, rotated rows assumed."""
        return DirectionTraits(degree=0, horizontal=self._has("left"))

    @property
    def state_actions(self) -> Mapping[str, StateAction]:
        """Gram matrices and eigenvectors turn with their axis; the moments in the eigenbasis do not."""
        rows = "left_eigenvectors" if self._has("left") else "rows"
        cols = "right_eigenvectors" if self._has("right") else "cols"
        return {
            "left": ROW_GRAM,
            "right": COLUMN_GRAM,
            "left_basis": StateAction(("rows", "left_eigenvectors")),
            "right_basis": StateAction(("cols", "right_eigenvectors")),
            "momentum": StateAction((rows, cols)),
            "square": StateAction((rows, cols), signed=False),
        }

    def _has(self, side: str) -> bool:
        return self.rotated in (side, "both")

    def initial_state(self, weight: Any) -> State:
        """Zeros, the bases too: there are none before the first gradient."""
        zeros = zeros_like(weight)
        state: State = {"step": 0, "momentum": zeros, "square": zeros_like(weight)}
        for side, gram in (("left", left_gram), ("right", right_gram)):
            if self._has(side):
                state |= {side: gram(zeros), f"{side}_basis": gram(zeros)}
        return state

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """Adam's direction in the eigenbasis, turned back; zero at the first step."""
        grams = {
            side: ema(state[side], gram(grad), self.betas[1])
            for side, gram in (("left", left_gram), ("right", right_gram))
            if side in state
        }
        step = state["step"]
        if step == 0:
            bases = {f"{side}_basis": _eigenvectors(gram) for side, gram in grams.items()}
            moments = {"momentum": zeros_like(grad), "square": zeros_like(grad)}
            return zeros_like(grad), {"step": 1, **moments, **grams, **bases}
        beta1, beta2 = self.betas
        projected = _turn(grad, state, back=False)
        momentum = ema(state["momentum"], projected, beta1)
        square = ema(state["square"], projected * projected, beta2)
        correction = (1 - beta2**step) ** 0.5 / (1 - beta1**step)
        adam = divide_or_zero(momentum, array_namespace(grad).sqrt(square) + self.eps)
        direction = correction * _turn(adam, state, back=True)
        bases = {name: copied(value) for name, value in state.items() if name.endswith("_basis")}
        new = {"step": step + 1, "momentum": momentum, "square": square, **grams, **bases}
        return direction, _refreshed(new) if step % self.frequency == 0 else new

    def decayed(self, displacement: Any, state: State, weight: Any) -> Any:
        """Decay of the weight after the step, and none at the first."""
        if state["step"] == 0:
            return displacement
        return displacement - (self.lr * self.weight_decay) * (weight + displacement)


def _turn(x: Any, state: State, *, back: bool) -> Any:
    """``Q_L^T x Q_R``, or ``Q_L x Q_R^T`` (``back``); an axis without a basis stays."""
    transpose = array_namespace(x).matrix_transpose
    if "left_basis" in state:
        x = (state["left_basis"] if back else transpose(state["left_basis"])) @ x
    if "right_basis" in state:
        x = x @ (transpose(state["right_basis"]) if back else state["right_basis"])
    return x


def _eigenvectors(gram: Any) -> Any:
    """Eigenvectors as columns, largest eigenvalue first."""
    _, vectors = array_namespace(gram).linalg.eigh(-symmetrize(gram))  # eigh sorts by rising eigenvalue
    return vectors


def _refreshed(state: State) -> State:
    """The state with sorted bases after one step of power iteration and QR, and the moments in these bases."""
    xp = array_namespace(state["momentum"])
    momentum = _turn(state["momentum"], state, back=True)
    new, square = dict(state), state["square"]
    for side in ("left", "right"):
        if side not in state:
            continue
        basis, gram = state[f"{side}_basis"], state[side]
        order = _sorting(xp.sum(basis * (gram @ basis), axis=-2))
        new[f"{side}_basis"], _ = xp.linalg.qr(gram @ (basis @ order))
        square = xp.matrix_transpose(order) @ square if side == "left" else square @ order
    new["square"] = square
    new["momentum"] = _turn(momentum, new, back=False)
    return new


def _sorting(values: Any) -> Any:
    """Permutation matrices ``P`` such that the columns of ``Q P`` are those of ``Q`` by falling ``values``."""
    xp = array_namespace(values)
    order = xp.argsort(values, axis=-1, descending=True)
    places = xp.arange(values.shape[-1], dtype=order.dtype, device=device(values))
    return xp.astype(order[..., None, :] == places[:, None], values.dtype)
