"""DDC for the gauge of rotations between attention matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from array_api_compat import array_namespace

from reference.joint.gauge import Planes, Rotated, rotated_tensors, spec
from reference.joint.rescaling import CONSTRUCTION
from reference.joint.rule import JointRule, JointState, JointTraits, register_joint
from reference.rule import DirectionTraits, GradientRule, State, zeros_like
from reference.rules.adam import Adam
from reference.rules.muon import MuonHeads
from reference.symmetry import blocks_of
from reference.transforms.momentum import ema
from reference.transforms.normalize import divide_or_zero


@dataclass(frozen=True, kw_only=True)
class AdamOfVectors(Adam):
    """Adam whose second moment is shared by the coordinates of a vector: the base of `DDCRotation`.

    Along ``axis`` ("rows" or "cols") of ``(..., m, n)`` lie ``heads`` blocks. The entries of a block at one index of
    the other axis are a vector (``planes`` ""), or its pairs ``(j, j + size / 2)`` ("half") or ``(2j, 2j + 1)``
    ("interleaved") are. ``square`` is the average of the mean square over a vector, so that the direction turns with
    it.
    """

    name: ClassVar[str] = "adam_of_vectors"
    source: ClassVar[str] = CONSTRUCTION
    min_ndim: ClassVar[int] = 2

    axis: str = "rows"
    heads: int = 1
    planes: Planes = ""

    @property
    def symmetry(self) -> str:
        """Rotations of the vectors (of the planes: in one direction), signed permutations of the other axis."""
        other = "cols" if self.axis == "rows" else "rows"
        family = blocks_of(f"U1[{self.planes}]" if self.planes else "O", self.heads)
        return f"{family}({self.axis}) x SPerm({other})"

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0."""
        return DirectionTraits(degree=0)

    def initial_state(self, weight: Any) -> State:
        """Zero moments and step count; ValueError if the heads or planes do not divide their axis."""
        size = weight.shape[-2 if self.axis == "rows" else -1]
        if size % (self.heads * (2 if self.planes else 1)):
            what = f"{self.heads} heads" + (" of planes" if self.planes else "")
            raise ValueError(f"rule {self.name!r}: {what} do not divide an axis of size {size}")
        return {"step": 0, "mean": zeros_like(weight), "square": zeros_like(self._shared(weight))}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The bias-corrected mean over the root of the bias-corrected mean square of its vector."""
        xp = array_namespace(grad)
        beta1, beta2 = self.betas
        step = state["step"] + 1
        mean = ema(state["mean"], grad, beta1)
        square = ema(state["square"], self._shared(grad * grad), beta2)
        denominator = xp.sqrt(square / (1 - beta2**step)) + self.eps
        direction = divide_or_zero(mean / (1 - beta1**step), self._spread(denominator, grad))
        return direction, {"step": step, "mean": mean, "square": square}

    def _view(self, x: Any) -> tuple[Any, int]:
        """``(..., m, n)`` with the coordinates of a vector on an axis of their own, and that axis."""
        xp = array_namespace(x)
        x = x if self.axis == "rows" else xp.matrix_transpose(x)
        *batch, m, n = x.shape
        part = m // self.heads
        if not self.planes:
            return xp.reshape(x, (*batch, self.heads, part, n)), -2
        if self.planes == "half":
            return xp.reshape(x, (*batch, self.heads, 2, part // 2, n)), -3
        return xp.reshape(x, (*batch, self.heads, part // 2, 2, n)), -2

    def _shared(self, x: Any) -> Any:
        """The mean over every vector, with an axis of size one in its place."""
        view, axis = self._view(x)
        return array_namespace(x).mean(view, axis=axis, keepdims=True)

    def _spread(self, shared: Any, like: Any) -> Any:
        """One value per vector for each of its coordinates, in the shape of ``like``."""
        xp = array_namespace(like)
        full = xp.broadcast_to(shared, self._view(like)[0].shape)
        if self.axis == "rows":
            return xp.reshape(full, like.shape)
        *batch, m, n = like.shape
        return xp.matrix_transpose(xp.reshape(full, (*batch, n, m)))


@register_joint
@dataclass(frozen=True, kw_only=True)
class DDCRotation(JointRule):
    """Dead-direction conditioner of the per-head rotation gauge: our construction from the published abstract of arXiv
    2606.29176, which says that it is matched to the rotary embedding and composes exactly with a Muon base.

    ``W_V -> B W_V, W_O -> W_O B^T`` with ``B`` orthogonal, or ``W_Q -> A W_Q, W_K -> A W_K`` with one phase per plane
    of the rotary embedding (``U1[half]`` or ``U1[interleaved]``, the layout of the model). Rotations are isometries, so
    the gradients turn like the weights and need no other coordinates; the state must only not know the basis. On Adam:
    the second moment is one number for each rotated vector (head and column of ``W_V``, head and row of ``W_O``; plane
    and column of ``W_Q`` and ``W_K``). On Muon: the polar factor of every head by itself.

    The tensors are stepped independently: what is joint is the symmetry. ``GL`` of the heads, which value and output
    have too, is no rotation and not respected.
    """

    name: ClassVar[str] = "ddc_rotation"
    source: ClassVar[str] = CONSTRUCTION

    lr: float = 1e-3
    gauge: str = "value: B(rows); output: B(cols) where B = O"

    @property
    def parts(self) -> tuple[GradientRule, ...]:
        """Adam of vectors, or Muon of heads; the plain base where nothing turns."""
        return tuple(self._part(one) for one in rotated_tensors(self.gauge))

    def _part(self, one: Rotated) -> GradientRule:
        plain = self.base_rule()
        if not one.axis:
            return plain
        common: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay, "heads": one.heads}
        if self.base == "adam":
            return AdamOfVectors(**common, betas=self.betas, eps=self.eps, axis=one.axis, planes=one.planes)
        return MuonHeads(
            **common,
            layout="qkv" if one.axis == "rows" else "o",
            accumulation="ema",
            momentum=self.momentum,
            nesterov=self.nesterov,
            orthogonalizer=self.orthogonalizer,
        )

    @property
    def traits(self) -> JointTraits:
        """Degree 0."""
        return JointTraits(degree=0, horizontal=False)

    @property
    def symmetry(self) -> str:
        """That of every tensor by itself; the gauge is a part of it."""
        return spec(self.tensors, [[part.symmetry] for part in self.parts])

    def directions(
        self, grads: Sequence[Any], states: JointState, weights: Sequence[Any]
    ) -> tuple[list[Any], JointState]:
        """The direction of every part."""
        pairs = [part.direction(grad, state) for part, grad, state in zip(self.parts, grads, states, strict=True)]
        return [direction for direction, _ in pairs], tuple(state for _, state in pairs)
