"""Rules of stacked experts ``(..., E, m, n)``: every expert is a block of its own, and experts may be permuted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from reference.orthogonalizers import Orthogonalizer
from reference.rule import DirectionTraits, State, register, require_choice
from reference.rules.hybrid import Hybrid
from reference.rules.muon import Accumulation, Muon
from reference.rules.row_norm import RowNorm
from reference.symmetry import blocks_of, experts_of
from reference.transforms.layout import (
    ORIENTATIONS,
    Orientation,
    merge_columns,
    merge_rows,
    orient,
    split_columns,
    split_rows,
    unorient,
)
from reference.transforms.spectral import scale_by_inner


@register
@dataclass(frozen=True, kw_only=True)
class ExpertRowNorm(RowNorm):
    """`RowNorm` on every expert of a stack."""

    name: ClassVar[str] = "expert_row_norm"
    min_ndim: ClassVar[int] = 3

    @property
    def symmetry(self) -> str:
        """The group of one expert on each, and the permutations of the experts."""
        return experts_of(super().symmetry)


@register
@dataclass(frozen=True, kw_only=True)
class ExpertHybrid(Hybrid):
    """`Hybrid` on every expert of a stack; each expert has its own scale ``nu``.

    ``shared_scale=True`` reproduces the source, which adds ``nu`` up over the experts: the group is the same, but for
    ``alpha > 0`` the step of one expert then depends on the gradients of the others.
    """

    name: ClassVar[str] = "expert_hybrid"
    min_ndim: ClassVar[int] = 3

    shared_scale: bool = False

    @property
    def symmetry(self) -> str:
        """The group of one expert on each, and the permutations of the experts."""
        return experts_of(super().symmetry)

    def _scaled(self, factor: Any, work: Any) -> Any:
        return scale_by_inner(factor, work, alpha=self.alpha, eps=self.eps, axis=(-3,) if self.shared_scale else ())


@register
@dataclass(frozen=True, kw_only=True)
class ExpertMuon(Muon):
    """Muon on every expert of a stack: heavy ball, Nesterov, five Polar Express steps, ``s = sqrt(max(1, m / n))``.

    ``orientation`` "row": one matrix per expert; "col": the same with the scale of the transposed shape; the two
    gate-and-up orientations: gate and up are orthogonalised *apart*, each with the scale of its own shape. (The paper's
    routing passes "row" for OLMoE's fused ``[2r, d]`` weight, although the docstring there says that gate and up are
    apart.)
    """

    name: ClassVar[str] = "expert_muon"
    source: ClassVar[str] = "arXiv 2605.18106; timlautk/equivariant_optimizers optim/muon_experts.py"
    min_ndim: ClassVar[int] = 3

    lr: float = 1e-3
    accumulation: Accumulation = "heavy_ball"
    orthogonalizer: str | Orthogonalizer = "polar_express_2e-2"
    orientation: Orientation = "row"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "orientation", ORIENTATIONS)

    @property
    def symmetry(self) -> str:
        """The group of one expert on each, and the permutations of the experts.

        Gate and up apart: rotations of the two halves of the rows and their exchange (OLMoE); for interleaved columns
        only the rotations of the model axis have a name as an action on the stored weight.
        """
        family = self.axis_family
        return experts_of(
            {
                "olmoe_gate_up_pair": f"{blocks_of(family, 2)}(rows) x {family}(cols)",
                "gpt_oss_gate_up_pair": f"{family}(rows)",
            }.get(self.orientation, f"{family}(rows) x {family}(cols)")
        )

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0; the column space of a block is kept, and the OLMoE halves are blocks of rows."""
        return DirectionTraits(degree=0, horizontal=self.keeps_range and self.orientation != "olmoe_gate_up_pair")

    def initial_state(self, weight: Any) -> State:
        """Zero buffer; ValueError for an odd paired axis."""
        orient(weight, self.orientation)
        return super().initial_state(weight)

    def blockwise(self, x: Any) -> Any:
        """The scaled polar factor of every expert, or of its gate and up halves."""
        if self.orientation == "olmoe_gate_up_pair":
            return merge_rows(self.scaled_factor(split_rows(x, 2)))
        if self.orientation == "gpt_oss_gate_up_pair":
            return merge_columns(self.scaled_factor(split_columns(x, 2, interleaved=True)), interleaved=True)
        return unorient(self.scaled_factor(orient(x, self.orientation)), self.orientation)
