"""Several steps of one rule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from reference.rule import Rule, State


def trajectory(rule: Rule, weight: Any, grads: Iterable[Any], state: State | None = None) -> tuple[list[Any], State]:
    """The displacement of every step that ``rule`` takes from ``weight`` along ``grads``, and the last state.

    ``weight`` and every gradient have one shape and dtype and live on one device; nothing is written to them. The first
    step is from ``state``, by default the rule's initial one.
    """
    state = rule.init(weight) if state is None else state
    displacements = []
    for grad in grads:
        displacement, state = rule.update(grad, state, weight)
        weight = weight + displacement
        displacements.append(displacement)
    return displacements, state
