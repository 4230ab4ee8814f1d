"""How much a rule's own arithmetic magnifies rounding, beyond the conditioning of its input."""

from __future__ import annotations

import math

from reference.orthogonalizers import NewtonSchulz, Orthogonalizer, get_orthogonalizer
from reference.rule import Rule
from reference.transforms.polynomials import Schedule, polar_express


def slope(schedule: Schedule) -> float:
    """Slope at zero of the composed quintics: what a perturbation of the smallest singular values is multiplied by."""
    return math.prod(a for a, _, _ in schedule)


def method_of(rule: Rule) -> Orthogonalizer:
    """How ``rule`` computes its polar factor; the exact method if it takes none."""
    backend = getattr(rule, "backend", None)
    if backend == "gram_newton_schulz" or isinstance(backend, NewtonSchulz):
        return get_orthogonalizer(backend)
    return get_orthogonalizer(getattr(rule, "orthogonalizer", "exact"))


def magnification(rule: Rule) -> float:
    """The factor by which ``rule`` can multiply a rounding error of the normalised momentum; 1 for a stable method.

    An iteration of quintics multiplies it by its slope at zero. A coupled inverse root multiplies its rounding, of size
    ``eps |Y|``, by ``Z``, which grows to that slope, and then by the slope once more; the Gram form likewise squares.
    """
    backend = getattr(rule, "backend", "exact")
    if backend == "polar_express":
        return slope(polar_express(rule.steps, safety=1.05)) ** 2  # type: ignore[attr-defined]
    if backend == "newton_schulz":
        return float(1.5 ** (2 * rule.steps))  # type: ignore[attr-defined]
    method = method_of(rule)
    if not isinstance(method, NewtonSchulz):
        return 1.0
    return slope(method.schedule) ** (1 if method.gram_restarts is None else 2)
