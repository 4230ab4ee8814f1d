"""How a rule replaces a matrix by its polar factor: one parameter, whose values are the methods in use.

A rule takes the name of a method (`ORTHOGONALIZERS`) or a value of one of the three classes below.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from reference.transforms.newton_schulz import (
    aol_normalize,
    frobenius_normalize,
    gram_newton_schulz,
    newton_schulz,
    schatten_normalize,
)
from reference.transforms.normalize import Floor
from reference.transforms.polar import polar
from reference.transforms.polynomials import (
    AOL,
    CANS,
    CUBIC,
    DEEPSEEK_V4,
    JORDAN,
    POLAR_EXPRESS_2E2,
    YOU,
    Schedule,
    polar_express,
)
from reference.transforms.qdwh import halley_weights, qdwh

Normalizer = Literal["frobenius", "schatten8", "aol"]
_NORMALIZE: Mapping[str, Callable[[Any, float, float, Floor], Any]] = {
    "frobenius": frobenius_normalize,
    "schatten8": schatten_normalize,
    "aol": aol_normalize,
}


@dataclass(frozen=True)
class Exact:
    """The polar factor by SVD, zero on the numerical null space (see `reference.transforms.polar`)."""

    bi_orthogonal = True
    """Whether rotations of both axes are respected, not only signed permutations."""
    keeps_range = True
    """Whether the columns of the result lie in the span of the columns of the argument."""

    def __call__(self, x: Any) -> Any:
        """Polar factor of every matrix ``(..., m, n)``."""
        return polar(x)


@dataclass(frozen=True)
class NewtonSchulz:
    """Frobenius normalisation ``x / (margin * ||x|| + eps)`` (or ``max(., eps)``), then one quintic per step.

    ``normalizer`` "schatten8" divides by a smaller norm instead, "aol" every row (column, if tall) by a number of its
    own, which only signed permutations respect (`reference.transforms.newton_schulz`).
    ``gram_restarts``: None for the plain iteration, else the Gram form with a restart before these 0-based steps; in
    exact arithmetic both are the same map.
    """

    schedule: Schedule
    margin: float = 1.0
    eps: float = 1e-7
    floor: Floor = "add"
    gram_restarts: tuple[int, ...] | None = None
    normalizer: Normalizer = "frobenius"

    @property
    def bi_orthogonal(self) -> bool:
        """Whether the matrix is divided by one number."""
        return self.normalizer != "aol"

    @property
    def keeps_range(self) -> bool:
        """Whether the matrix is divided by one number."""
        return self.bi_orthogonal

    def __call__(self, x: Any) -> Any:
        """``M q(M^T M)`` for every matrix ``(..., m, n)``."""
        return self.iterate(self.normalize(x))

    def normalize(self, x: Any) -> Any:
        """``x`` with its singular values brought into [0, 1]."""
        return _NORMALIZE[self.normalizer](x, self.margin, self.eps, self.floor)

    def iterate(self, y: Any) -> Any:
        """The quintics applied to a normalised matrix; what `reference.fast` does in another precision."""
        if self.gram_restarts is None:
            return newton_schulz(y, self.schedule)
        return gram_newton_schulz(y, self.schedule, self.gram_restarts)


@dataclass(frozen=True)
class QDWH:
    """Weighted Halley iterations; fewer than six are not converged in float64, nor equivariant under rotations."""

    max_iterations: int = 10

    keeps_range = True

    @property
    def bi_orthogonal(self) -> bool:
        """Whether the float64 iteration converges, so that its starting scale is forgotten."""
        return self.max_iterations >= len(halley_weights(2.0**-52, 100))

    def __call__(self, x: Any) -> Any:
        """Polar factor of every matrix ``(..., m, n)``."""
        return qdwh(x, self.max_iterations)


Orthogonalizer: TypeAlias = Exact | NewtonSchulz | QDWH

ORTHOGONALIZERS: Mapping[str, Orthogonalizer] = MappingProxyType(
    {
        "exact": Exact(),
        "qdwh": QDWH(),
        # The single-device default of timlautk/polargrad polar_grad.py: not converged.
        "qdwh_2": QDWH(2),
        # KellerJordan/Muon, MuonEq, NorMuon, Scion; and torch.optim.Muon.
        "jordan": NewtonSchulz((JORDAN,) * 5),
        "torch": NewtonSchulz((JORDAN,) * 5, floor="clamp"),
        # MaeChd/muon-eq, zeropower_mode "spc".
        "jordan_spc": NewtonSchulz((JORDAN,) * 5, normalizer="schatten8"),
        "cubic": NewtonSchulz((CUBIC,) * 5),
        # timlautk/polargrad polar_express.py.
        "polar_express": NewtonSchulz(polar_express(5, safety=1.01), margin=1.01),
        # timlautk/equivariant_optimizers polar_express.py, after microsoft/dion.
        "polar_express_2e-2": NewtonSchulz(POLAR_EXPRESS_2E2, margin=1.02, eps=1e-6),
        # Dao-AILab/gram-newton-schulz with the coefficients of the paper's *_GramNS optimizers.
        "gram_newton_schulz": NewtonSchulz(polar_express(5, safety=1.05), gram_restarts=(2,)),
        # NVIDIA-NeMo/Emerging-Optimizers muon_utils.py: "quintic" (its default), "aol", "cans", "deepseekv4".
        "you": NewtonSchulz(YOU, floor="clamp"),
        "aol": NewtonSchulz(AOL, floor="clamp"),
        "cans": NewtonSchulz(CANS, floor="clamp"),
        # Turbo-Muon, thib-s/flash-newton-schulz newton_schulz_triton.py: a better start in place of the first quintic.
        "turbo": NewtonSchulz(YOU[1:], floor="clamp", normalizer="aol"),
        "deepseek_v4": NewtonSchulz(DEEPSEEK_V4, floor="clamp"),
    }
)
"""The methods in use, with the constants of their sources (which compute in bf16 or fp16, not in the input dtype)."""


def get_orthogonalizer(method: str | Orthogonalizer) -> Orthogonalizer:
    """The method named ``method``, or ``method`` itself; ValueError for an unknown name."""
    if not isinstance(method, str):
        return method
    if method not in ORTHOGONALIZERS:
        raise ValueError(f"unknown orthogonalizer {method!r}; known: {', '.join(sorted(ORTHOGONALIZERS))}")
    return ORTHOGONALIZERS[method]


def without_eps(method: Orthogonalizer) -> Orthogonalizer:
    """The same method with its eps set to zero: positively homogeneous of degree 0."""
    return dataclasses.replace(method, eps=0.0) if isinstance(method, NewtonSchulz) else method
