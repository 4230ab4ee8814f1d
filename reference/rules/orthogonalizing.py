"""What rules with an ``orthogonalizer`` parameter share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from reference.orthogonalizers import NewtonSchulz, Orthogonalizer, get_orthogonalizer, without_eps
from reference.rule import GradientRule, Rule, require_choice
from reference.transforms.spectral import BACKENDS


def require_backend(rule: Rule) -> None:
    """ValueError unless ``rule.backend`` is the name of a backend or a polynomial method itself."""
    if not isinstance(getattr(rule, "backend", None), NewtonSchulz):
        require_choice(rule, "backend", BACKENDS)


@dataclass(frozen=True, kw_only=True)
class OrthogonalizingRule(GradientRule):
    """A rule of a matrix whose direction is built from a polar factor, computed by the method ``orthogonalizer``."""

    min_ndim: ClassVar[int] = 2

    orthogonalizer: str | Orthogonalizer = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        get_orthogonalizer(self.orthogonalizer)

    @property
    def axis_family(self) -> str:
        """Rotations of an axis; signed permutations when an iteration stops before it forgets its starting scale."""
        return "O" if get_orthogonalizer(self.orthogonalizer).bi_orthogonal else "SPerm"

    @property
    def symmetry(self) -> str:
        """The family of one axis on both."""
        return f"{self.axis_family}(rows) x {self.axis_family}(cols)"

    @property
    def keeps_range(self) -> bool:
        """Whether the columns of a polar factor stay in the span of the columns of the matrix."""
        return get_orthogonalizer(self.orthogonalizer).keeps_range

    def orthogonalize(self, x: Any) -> Any:
        """The polar factor of ``x`` by the rule's method."""
        return get_orthogonalizer(self.orthogonalizer)(x)

    def without_eps(self) -> Self:
        """The same with the eps of the method set to zero too."""
        return replace(super().without_eps(), orthogonalizer=without_eps(get_orthogonalizer(self.orthogonalizer)))
