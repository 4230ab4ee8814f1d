"""DDC for the shift gauge of softmax heads. It ties no tensors together, so it is an ordinary rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from reference.joint.rescaling import CONSTRUCTION
from reference.joint.rule import BASES, Base
from reference.orthogonalizers import Orthogonalizer, get_orthogonalizer, without_eps
from reference.rule import DirectionTraits, GradientRule, State, StateAction, register, require_choice
from reference.rules.adam import Adam
from reference.rules.muon import Muon
from reference.transforms.center import center


@register
@dataclass(frozen=True, kw_only=True)
class DDCShift(GradientRule):
    """Dead-direction conditioner of the shift ``W -> W + 1 c^T`` of an LM head or a softmax router: our construction
    from the published abstract of arXiv 2606.29176.

    The metric is Euclidean and the dead directions are the common rows. The base runs on centred gradients ``Pi g`` and
    its direction is centred again, so that the state never sees the gauge and no step moves along it. A gradient of
    softmax cross-entropy is centred already: then only the second centring does anything, on Adam; Muon keeps the
    column space as it is.
    """

    name: ClassVar[str] = "ddc_shift"
    source: ClassVar[str] = CONSTRUCTION
    min_ndim: ClassVar[int] = 2

    lr: float = 1e-3
    base: Base = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.95
    nesterov: bool = True
    orthogonalizer: str | Orthogonalizer = "jordan"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "base", BASES)
        self._base()

    def _base(self) -> Adam | Muon:
        if self.base == "adam":
            return Adam(lr=self.lr, betas=self.betas, eps=self.eps)
        return Muon(lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, orthogonalizer=self.orthogonalizer)

    @property
    def symmetry(self) -> str:
        """On Adam permutations of the rows; on Muon all that fixes the ones vector. Columns as the base."""
        base = self._base()
        rotates = isinstance(base, Muon) and base.axis_family == "O"
        return "Stab1(rows) x O(cols)" if rotates else "Perm(rows) x SPerm(cols)"

    @property
    def state_actions(self) -> Mapping[str, StateAction]:
        """Those of the base."""
        return self._base().state_actions

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0; blind to common rows and free of them."""
        return DirectionTraits(degree=0, shift_insensitive=True, horizontal=True)

    def without_eps(self) -> Self:
        """The same rule with the eps of both bases set to zero."""
        method = without_eps(get_orthogonalizer(self.orthogonalizer))
        return dataclasses.replace(self, eps=0.0, orthogonalizer=method)

    def initial_state(self, weight: Any) -> State:
        """The base's."""
        return self._base().init(weight)

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The base's direction on the centred gradient, centred."""
        direction, state = self._base().direction(center(grad), state)
        return center(direction), state
