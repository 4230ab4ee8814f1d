"""Several steps of one rule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from reference.rule import Rule, State


def trajectory(rule: Rule, weight: Any, grads: Iterable[Any]) -> tuple[list[Any], State]:
    """The displacement of every step that ``rule`` takes from ``weight`` along ``grads``, and the last state.

    ``weight`` and every gradient have one shape and dtype and live on one device; nothing is written to them.
    """
    state = rule.init(weight)
    displacements = []
    for grad in grads:
        displacement, state = rule.update(grad, state, weight)
        weight = weight + displacement
        displacements.append(displacement)
    return displacements, state
