"""Scion: steps to the vertex of a norm ball that lies furthest along the momentum."""

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
    require_fraction,
    require_nonnegative,
    zeros_like,
)
from reference.rules.orthogonalizing import OrthogonalizingRule
from reference.symmetry import ENTRYWISE_ORTHOGONAL, ENTRYWISE_SIGNED, row_geometry
from reference.transforms.arrays import block_axes, block_norm
from reference.transforms.layout import Orientation, orient
from reference.transforms.momentum import ema
from reference.transforms.normalize import divide_or_zero, row_norms

Norm = Literal["spectral", "sign", "col", "row", "bias_rms"]
NORMS: tuple[Norm, ...] = ("spectral", "sign", "col", "row", "bias_rms")


@register
@dataclass(frozen=True, kw_only=True)
class Scion(OrthogonalizingRule):
    """``m = ema(g)``; ``U = scale * lmo(m)``; constrained steps also shrink the weight by ``1 - lr`` (Frank-Wolfe).

    ``lmo`` of a weight with ``out`` rows and ``in`` columns, normalised / not:

    - spectral: ``sqrt(out / in) polar(m)`` / ``sqrt(out) polar(m)``; with ``at_least_one`` the factor is at least 1. A
      flattened convolution ``[out, in * k]`` with ``kernel_positions = k`` has ``sqrt(out / in) / k``.
    - sign: ``sign(m) / in`` / ``sign(m)``.
    - col: ``m_j / (||m_j|| in / sqrt(out) + eps)`` / ``m_j / (||m_j|| / sqrt(out) + eps)`` for every column.
    - row: ``m_i / (||m_i|| sqrt(in) + eps)`` / ``m_i / (||m_i|| + eps)`` for every row.
    - bias_rms: ``m / (rms(m) + eps)`` over the whole weight.

    ``normalized`` None takes the source's default: False for col, True for the others. ``transpose`` (col, row) reads
    the weight as ``[in, out]``, as for embeddings. ``momentum`` is one minus the source's. The source's Auto, a choice
    of norm by the number of axes, is left to routing. ScionLight keeps ``m / (1 - momentum)``: the same rule but for
    eps.
    """

    name: ClassVar[str] = "scion"
    source: ClassVar[str] = "arXiv 2502.07529; LIONS-EPFL/scion scion.py"
    min_ndim: ClassVar[int] = 0

    lr: float = 1e-3
    momentum: float = 0.0
    norm: Norm = "spectral"
    scale: float = 1.0
    constrained: bool = True
    normalized: bool | None = None
    transpose: bool = False
    at_least_one: bool = False
    kernel_positions: int = 1
    eps: float = 1e-8
    orthogonalizer: str | Orthogonalizer = "jordan"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "momentum")
        require_nonnegative(self, "scale", "eps")
        require_choice(self, "norm", NORMS)
        require_count(self, "kernel_positions")
        if self.constrained and self.weight_decay:
            raise ValueError("rule 'scion': constrained steps shrink the weight already; set weight_decay = 0")

    @property
    def decay_rate(self) -> float:
        """A constrained step is decoupled decay at rate 1."""
        return 1.0 if self.constrained else self.weight_decay

    @property
    def symmetry(self) -> str:
        """The isometries of the norm."""
        if self.norm == "spectral":
            return super().symmetry
        if self.norm == "sign":
            return ENTRYWISE_SIGNED
        if self.norm == "bias_rms":
            return ENTRYWISE_ORTHOGONAL
        return row_geometry("col" if self._units_are_columns else "row", centered=False, polarized=False)

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0. The column space is kept by the spectral norm, by scaling columns and by scaling everything."""
        keeps = self.keeps_range if self.norm == "spectral" else self.norm == "bias_rms" or self._units_are_columns
        return DirectionTraits(degree=0, horizontal=keeps)

    @property
    def _units_are_columns(self) -> bool:
        return self.norm in ("col", "row") and (self.norm == "col") != self.transpose

    def initial_state(self, weight: Any) -> State:
        """Zero momentum, if there is any; ValueError for a weight with too few axes for the norm."""
        if weight.ndim < 2 and self.norm != "bias_rms":
            raise ValueError(f"rule 'scion': norm {self.norm!r} needs at least 2 axes, got shape {tuple(weight.shape)}")
        return {"momentum": zeros_like(weight)} if self.momentum else {}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The scaled vertex for the momentum."""
        if not self.momentum:
            return self.scale * self.lmo(grad), {}
        momentum = ema(state["momentum"], grad, self.momentum)
        return self.scale * self.lmo(momentum), {"momentum": momentum}

    def lmo(self, m: Any) -> Any:
        """The vertex of the unit ball of the norm that maximises ``<., m>``."""
        if self.norm == "bias_rms":
            size = math.prod(m.shape[axis] for axis in block_axes(m))
            return divide_or_zero(m, block_norm(m) / math.sqrt(size) + self.eps)
        if self.norm == "spectral":
            return self._spectral_factor(*m.shape[-2:]) * self.orthogonalize(m)
        if self.norm == "sign":
            return array_namespace(m).sign(m) / (m.shape[-1] if self._normalized else 1)
        view: Orientation = "col" if self.transpose else "row"
        return orient(self._unit_vectors(orient(m, view)), view)

    @property
    def _normalized(self) -> bool:
        return self.norm != "col" if self.normalized is None else self.normalized

    def _spectral_factor(self, out: int, cols: int) -> float:
        fan_in = cols / self.kernel_positions
        factor = math.sqrt(out / fan_in) / self.kernel_positions if self._normalized else math.sqrt(out)
        return max(1.0, factor) if self.at_least_one else factor

    def _unit_vectors(self, m: Any) -> Any:
        out, fan_in = m.shape[-2:]
        if self.norm == "row":
            return divide_or_zero(m, row_norms(m) * (math.sqrt(fan_in) if self._normalized else 1.0) + self.eps)
        norms = array_namespace(m).matrix_transpose(row_norms(orient(m, "col")))
        return divide_or_zero(m, norms * ((fan_in if self._normalized else 1.0) / math.sqrt(out)) + self.eps)
