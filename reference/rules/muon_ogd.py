"""Muon-OGD: the spectral-norm step of steepest descent that does not move along protected directions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from array_api_compat import array_namespace, device

from reference.orthogonalizers import Orthogonalizer
from reference.rule import (
    LIKE_GRADIENT,
    DirectionTraits,
    State,
    StateAction,
    register,
    require_choice,
    require_count,
    require_fraction,
    require_nonnegative,
    zeros_like,
)
from reference.rules.muon import ACCUMULATE, Accumulation
from reference.rules.orthogonalizing import OrthogonalizingRule
from reference.transforms.arrays import block_norm
from reference.transforms.normalize import divide_or_zero


def zeros_for(weight: Any, *shape: int) -> Any:
    """Zeros ``(*batch, *shape)`` for a batch of weights ``(*batch, m, n)``, in their dtype and on their device."""
    return array_namespace(weight).zeros((*weight.shape[:-2], *shape), dtype=weight.dtype, device=device(weight))


def given(array: Any, weight: Any, axes: int) -> Any:
    """A copy of ``array`` for a batch of weights ``(*batch, m, n)``, in their library, dtype and device.

    The last ``axes`` axes of ``array`` belong to one weight; those in front of them are broadcast to the batch.
    """
    array = array_namespace(weight).asarray(array, dtype=weight.dtype, device=device(weight))
    return array + zeros_for(weight, *array.shape[-axes:])


def copied(array: Any) -> Any:
    """A copy: a rule keeps no array that it was given."""
    return array_namespace(array).asarray(array, copy=True)


@dataclass(frozen=True, kw_only=True)
class DualRule(OrthogonalizingRule):
    """Minimises ``<G, D>`` over ``||D||_2 <= lr`` and linear constraints ``L(D) = 0`` by ascent on their multipliers.

    With ``H = G + L^*(lambda)`` the best ``D`` for given multipliers is ``-lr polar(H)``, and the dual problem is to
    minimise the nuclear norm of ``H``, whose gradient is ``L(polar(H))``: ``dual_steps`` times ``lambda = lambda -
    dual_lr L(polar(H))``. After finitely many steps the constraint holds approximately. If the best ``H`` has
    full rank then ``L(polar(H)) = 0`` there; if not, it is the kink of a nuclear norm, the iteration does not settle,
    and only the average of its polar factors satisfies the constraint.

    ``G`` is the momentum ``b = mu b + g`` ("heavy_ball", the paper) or a moving average; the public code has none, so
    ``momentum`` is 0. ``warm_start`` keeps the multipliers from one step to the next. ``dynamic_scale`` multiplies the
    polar factor by ``||g|| / ||polar(H)||``. Without constraints it is Muon with that orthogonaliser and no shape
    scale.

    Only abstract, blog and transcription of the paper could be read; defaults are those of public code of unconfirmed
    provenance. Its Newton-Schulz is not taken over: it iterates ``T = (3 I - Z Y^T Y) / 2``, ``Y = Y T``, ``Z = T Z``
    from ``Y = A``, ``Z = I``, whose fixed point has singular values ``sigma^(1/3)``, not 1. Here it is the paper's:
    five steps of ``1.5 X - 0.5 X X^T X``, or any other orthogonaliser.
    """

    source: ClassVar[str] = "arXiv 2605.08949 (abstract; formula from a transcription and public code)"

    lr: float = 1e-4
    momentum: float = 0.0
    accumulation: Accumulation = "heavy_ball"
    dual_lr: float = 1e-4
    dual_steps: int = 1
    warm_start: bool = True
    dynamic_scale: bool = False
    orthogonalizer: str | Orthogonalizer = "cubic"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "momentum")
        require_choice(self, "accumulation", tuple(ACCUMULATE))
        require_nonnegative(self, "dual_lr")
        require_count(self, "dual_steps")

    @abstractmethod
    def constraint(self, state: State, x: Any) -> Any:
        """``L(x)``: zero if ``x`` is allowed."""

    @abstractmethod
    def pull(self, state: State, multipliers: Any) -> Any:
        """The adjoint ``L^*(multipliers)``: the matrix to add to the gradient."""

    def dual_iteration(self, target: Any, state: State) -> tuple[Any, Any]:
        """``polar(H)`` and the multipliers after ``dual_steps`` steps from those in ``state``."""
        multipliers = state["multipliers"]
        for _ in range(self.dual_steps):
            factor = self.orthogonalize(target + self.pull(state, multipliers))
            multipliers = multipliers - self.dual_lr * self.constraint(state, factor)
        return self.orthogonalize(target + self.pull(state, multipliers)), multipliers

    def scaled(self, factor: Any, grad: Any) -> Any:
        """The polar factor, with the norm of the gradient if asked for."""
        if not self.dynamic_scale:
            return factor
        return divide_or_zero(block_norm(grad) * factor, block_norm(factor))

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The polar factor of the momentum, pulled towards what the constraints allow."""
        buffer = ACCUMULATE[self.accumulation](state["momentum"], grad, self.momentum)
        if "multipliers" not in state:
            return self.scaled(self.orthogonalize(buffer), grad), {"momentum": buffer}
        factor, multipliers = self.dual_iteration(buffer, state)
        new = {name: copied(value) for name, value in state.items()} | {"momentum": buffer}
        if self.warm_start:
            new["multipliers"] = multipliers
        return self.scaled(factor, grad), new


@register
@dataclass(frozen=True, kw_only=True)
class MuonOGD(DualRule):
    """``U = polar(H)`` with ``H = G + sum_i lambda_i C_i`` and ``lambda_i = lambda_i - dual_lr <C_i, polar(H)>``: the
    step of steepest descent in the spectral norm among those with ``<C_i, U> = 0``.

    ``G`` is the momentum. ``dual_steps`` updates of the multipliers come before the step; they minimise the nuclear
    norm of ``H``. If the best ``H`` has full rank its polar factor meets the constraints. If not, it is a kink of the
    nuclear norm, the iteration does not settle, and only the average of its polar factors meets them.

    The protected directions ``C_i`` are state: ``protected``, an array ``(k, m, n)`` (or ``(..., k, m, n)`` for a stack
    of weights), is copied into it. In a front end it is a hyper-parameter like the others, to be given to the group of
    the weight (or weights of one shape) that it protects. Or ``collect=k``: the first ``k`` gradients, those of old
    tasks, move nothing and become the protected directions. Two rules that differ in ``protected`` only compare equal.

    For fixed ``C_i`` the group is only what leaves every one of them alone; rotations of weight, gradients *and*
    protected directions together are a symmetry, and with ``collect`` that is what happens by itself. An orthogonal
    change of basis of the protected directions changes the multipliers and nothing else.

    Only abstract, blog and transcription of the paper could be read; the defaults are those of public code of
    unconfirmed provenance. Its Newton-Schulz iteration is not taken over (see `DualRule`).
    """

    name: ClassVar[str] = "muon_ogd"

    protected: Any = field(default=None, compare=False)
    collect: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.collect:
            require_count(self, "collect")
            if self.protected is not None:
                raise ValueError(f"rule {self.name!r}: give protected directions or collect them, not both")

    @property
    def symmetry(self) -> str:
        """Rotations of both axes; nothing at all where fixed directions are given."""
        return super().symmetry if self.protected is None else "1"

    @property
    def joint_symmetry(self) -> str:
        """Rotations of both axes."""
        return super().symmetry

    @property
    def state_actions(self) -> Mapping[str, StateAction]:
        """Protected directions move like the gradients, multipliers not at all."""
        return {
            "momentum": LIKE_GRADIENT,
            "protected": StateAction(("directions", "rows", "cols")),
            "multipliers": StateAction(("directions", None, None)),
        }

    @property
    def gauges(self) -> Mapping[str, str]:
        """The basis of the protected directions."""
        return {"directions": "O"}

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0 without constraints (1 with the gradient's norm); collected directions keep the column space."""
        free = self.protected is None and not self.collect
        return DirectionTraits(
            degree=int(self.dynamic_scale) if free else None, horizontal=self.protected is None and self.keeps_range
        )

    def initial_state(self, weight: Any) -> State:
        """Zero momentum and multipliers, and the protected directions; ValueError if they do not fit the weight."""
        state: State = {"momentum": zeros_like(weight)}
        if self.protected is not None:
            shape = tuple(self.protected.shape)
            if len(shape) < 3 or shape[-2:] != tuple(weight.shape[-2:]):
                m, n = weight.shape[-2:]
                raise ValueError(f"rule {self.name!r}: protected must have shape (k, {m}, {n}), got {shape}")
            state["protected"] = given(self.protected, weight, axes=3)
        elif self.collect:
            state["step"] = 0
            state["protected"] = zeros_for(weight, self.collect, *weight.shape[-2:])
        if "protected" in state:
            state["multipliers"] = zeros_for(weight, state["protected"].shape[-3], 1, 1)
        return state

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The polar factor of ``H``; zero while directions are collected."""
        if not self.collect:
            return super().direction(grad, state)
        step = state["step"]
        if step >= self.collect:
            direction, new = super().direction(grad, {key: value for key, value in state.items() if key != "step"})
            return direction, {**new, "step": step}
        kept = {name: copied(state[name]) for name in ("momentum", "multipliers")}
        latest = grad[..., None, :, :]
        if self.collect == 1:
            protected = copied(latest)
        else:
            protected = array_namespace(grad).concat([state["protected"][..., 1:, :, :], latest], axis=-3)
        return 0 * grad, {**kept, "step": step + 1, "protected": protected}

    def constraint(self, state: State, x: Any) -> Any:
        """``<C_i, x>``."""
        return array_namespace(x).sum(state["protected"] * x[..., None, :, :], axis=(-2, -1), keepdims=True)

    def pull(self, state: State, multipliers: Any) -> Any:
        """``sum_i lambda_i C_i``."""
        return array_namespace(multipliers).sum(multipliers * state["protected"], axis=-3)


@register
@dataclass(frozen=True, kw_only=True)
class MuonOGDBilinear(DualRule):
    """``U = polar(H)`` with ``H = G + L Lambda R^T`` and ``Lambda = Lambda - dual_lr L^T polar(H) R``: the step of
    steepest descent in the spectral norm among those with ``L^T U R = 0`` (the paper's Algorithm 2).

    ``G`` is the momentum, ``dual_steps`` updates of the multipliers come before the step, as in `MuonOGD`.

    ``left`` ``L`` ``(m, k)`` and ``right`` ``R`` ``(n, l)`` (or with the batch axes of a stack of weights in front) are
    copied into the state; the public code takes the first singular vectors of old weights or gradients. They are
    hyper-parameters of the group of the weight that they protect; without them the rule is Muon. Two rules that differ
    in them only compare equal.

    For fixed ``L`` and ``R`` the group is what leaves both alone; with ``L -> A L`` and ``R -> B R`` it is every
    rotation. Orthogonal changes of basis of ``L`` and of ``R`` change ``Lambda`` and nothing else.

    Only abstract, blog and transcription of the paper could be read; the defaults are those of public code of
    unconfirmed provenance. Its Newton-Schulz iteration is not taken over (see `DualRule`).
    """

    name: ClassVar[str] = "muon_ogd_bilinear"

    left: Any = field(default=None, compare=False)
    right: Any = field(default=None, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.left is None) != (self.right is None):
            raise ValueError(f"rule {self.name!r}: left and right are given together or not at all")

    @property
    def symmetry(self) -> str:
        """Rotations of both axes; nothing at all where fixed spaces are given."""
        return super().symmetry if self.left is None else "1"

    @property
    def joint_symmetry(self) -> str:
        """Rotations of both axes."""
        return super().symmetry

    @property
    def state_actions(self) -> Mapping[str, StateAction]:
        """``L`` moves with the rows, ``R`` with the columns, multipliers not at all."""
        return {
            "momentum": LIKE_GRADIENT,
            "left": StateAction(("rows", "left_basis")),
            "right": StateAction(("cols", "right_basis")),
            "multipliers": StateAction(("left_basis", "right_basis")),
        }

    @property
    def gauges(self) -> Mapping[str, str]:
        """The bases of the two spaces."""
        return {"left_basis": "O", "right_basis": "O"}

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0 without constraints (1 with the gradient's norm), and then the column space is kept."""
        free = self.left is None
        return DirectionTraits(degree=int(self.dynamic_scale) if free else None, horizontal=free and self.keeps_range)

    def initial_state(self, weight: Any) -> State:
        """Zero momentum and multipliers, and the two bases; ValueError if they do not fit the weight."""
        state: State = {"momentum": zeros_like(weight)}
        if self.left is None:
            return state
        for name, size in zip(("left", "right"), weight.shape[-2:], strict=True):
            shape = tuple(getattr(self, name).shape)
            if len(shape) < 2 or shape[-2] != size:
                raise ValueError(f"rule {self.name!r}: {name} must have shape ({size}, k), got {shape}")
            state[name] = given(getattr(self, name), weight, axes=2)
        state["multipliers"] = zeros_for(weight, state["left"].shape[-1], state["right"].shape[-1])
        return state

    def constraint(self, state: State, x: Any) -> Any:
        """``L^T x R``."""
        return array_namespace(x).matrix_transpose(state["left"]) @ x @ state["right"]

    def pull(self, state: State, multipliers: Any) -> Any:
        """``L Lambda R^T``."""
        return state["left"] @ multipliers @ array_namespace(multipliers).matrix_transpose(state["right"])
