"""OLion: the sign of the orthogonalised double momentum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from array_api_compat import array_namespace

from reference.orthogonalizers import Orthogonalizer
from reference.rule import DirectionTraits, State, register, require_fraction, require_nonnegative, zeros_like
from reference.rules.muon import shape_scale
from reference.rules.orthogonalizing import OrthogonalizingRule
from reference.transforms.momentum import ema
from reference.transforms.newton_schulz import frobenius_norm
from reference.transforms.normalize import divide_or_zero


@register
@dataclass(frozen=True, kw_only=True)
class OLion(OrthogonalizingRule):
    """``m = beta2 m + (1 - beta2) g``; ``s = sign(polar(beta1 m + (1 - beta1) g))``; ``U = 0.2 sqrt(m n) s / ||s||``.

    Unlike Lion the look-ahead uses the momentum *after* its update. Every entry of ``U`` has magnitude 0.2 if no entry
    of the polar factor is zero; with zeros the others grow so that the root mean square stays 0.2. The sign breaks the
    rotations of the polar factor, and the polar factor the permutations of single entries: the group is what is
    common to both. The sign of an entry near zero is decided by rounding: compare with a tolerance for ties.

    ``source`` is the version that its README describes. Not taken over from the same repository: nanoGPT/OLion.py,
    which defines the iteration and never calls it (sign of the momentum, group ``SPerm(entries)``); the single-device
    path under Llama/, which calls a function that is not defined; ``grad.lerp_``, which overwrites the gradient;
    ``use_scale=False``, which leaves out the division by ``||s||`` and multiplies by ``0.2 sqrt(max(m, n))`` all the
    same. Departure: computed in the dtype of the weight, there in bfloat16.
    """

    name: ClassVar[str] = "olion"
    source: ClassVar[str] = "arXiv 2602.01105; kv-wang/OLion SIT/olion.py"

    lr: float = 0.02
    betas: tuple[float, float] = (0.95, 0.98)
    eps: float = 1e-8
    orthogonalizer: str | Orthogonalizer = "jordan"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "betas")
        require_nonnegative(self, "eps")

    @property
    def symmetry(self) -> str:
        """Signed permutations of rows and of columns."""
        return "SPerm(rows) x SPerm(cols)"

    @property
    def direction_traits(self) -> DirectionTraits:
        """Degree 0."""
        return DirectionTraits(degree=0)

    def initial_state(self, weight: Any) -> State:
        """Zero momentum."""
        return {"momentum": zeros_like(weight)}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The sign matrix, at a root mean square of 0.2."""
        beta1, beta2 = self.betas
        momentum = ema(state["momentum"], grad, beta2)
        sign = array_namespace(grad).sign(self.orthogonalize(ema(momentum, grad, beta1)))
        rows, cols = grad.shape[-2:]
        unit = divide_or_zero(math.sqrt(min(rows, cols)) * sign, frobenius_norm(sign) + self.eps)
        return shape_scale("match_rms_adamw", rows, cols) * unit, {"momentum": momentum}
