"""What is compared: configurations of a target, dtypes, shapes and strata, in the order in which a fault is shown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from reference.rule import Rule
from symcheck.conform.oracle import Shape, as_matrices
from symcheck.probe.names import Budget
from symcheck.probe.nature import Nature
from symcheck.probe.numeric import DTYPES
from symcheck.probe.strata import STRATA, Shapes, draw_inputs
from symcheck.probe.trajectory import CandidateLike, Inputs
from symcheck.result import ORDINARY

SHAPES: tuple[Shape, ...] = ((6, 4), (4, 6), (4, 4), (6,), (3, 4, 2), (6, 2, 3, 3), (24, 16))
"""Tall, wide, square, vector, stack, convolution, and one larger than any internal block."""

_LOW_STRATA = (ORDINARY, "rank_deficient", "scale_1e-6")
_SMALL = 2.0**5
_CONFIGURED_STRATA = (ORDINARY, "eps_dominated")


@dataclass(frozen=True)
class Subject:
    """One configuration of the target beside the rule that it is to follow.

    ``negate``: it maximises. ``halves``: the learning rate is halved after the second step, as a schedule does.
    """

    label: str
    candidate: CandidateLike
    rule: Rule
    nature: Nature
    negate: bool = False
    halves: bool = False


@dataclass(frozen=True)
class Case:
    """One run to compare.

    ``keep``: every step finds the same gradient tensors in ``p.grad``. ``native``: the target runs in its own
    arithmetic, not in float64 with its casts undone.
    """

    subject: Subject
    stratum: str
    shapes: Shapes
    steps: int
    dtype: str = "float64"
    keep: bool = False
    native: bool = False
    seed: int = 0

    @property
    def rule(self) -> Rule:
        """The rule of the subject; an eps that is left to the dtype is that of this one."""
        rule, eps = self.subject.rule, getattr(self.subject.rule, "eps", None)
        if not isinstance(eps, tuple) or None not in eps:
            return rule
        own = torch.finfo(DTYPES[self.dtype]).eps
        if self.subject.candidate.target.startswith("rule:"):
            # The front ends compute 16-bit parameters in float32.
            own = min(own, torch.finfo(torch.float32).eps)
        changed: dict[str, Any] = {"eps": tuple(own if each is None else each for each in eps)}
        return dataclasses.replace(rule, **changed)

    @property
    def rates(self) -> tuple[float, ...] | None:
        """The learning rate of every step, if it is scheduled."""
        lr = self.subject.rule.lr
        return tuple(lr if step < 2 else lr / 2 for step in range(self.steps)) if self.subject.halves else None

    def inputs(self) -> Inputs:
        """Weights and gradients in float64; all entries are exact in every dtype."""
        flat = tuple(_drawable(shape) for shape in self.shapes)
        drawn = draw_inputs(self.stratum, flat, self.steps, centre=False, seed=self.seed)

        def shaped(tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
            return tuple(tensor.reshape(shape) for tensor, shape in zip(tensors, self.shapes, strict=True))

        weights = shaped(drawn.weights)
        if self.native:
            # Small weights, so that a displacement in low precision is not lost in the rounding of what it is added to.
            weights = tuple(weight / _SMALL for weight in weights)
        return Inputs(weights, tuple(shaped(grads) for grads in drawn.grads))

    @property
    def text(self) -> str:
        """Where this is: configuration, stratum, shape, dtype."""
        where = [" and ".join("x".join(map(str, shape)) for shape in self.shapes), f"stratum {self.stratum}"]
        where.append(f"{self.dtype} parameters{' as it runs' if self.native else ''}")
        if self.subject.label:
            where.append(self.subject.label)
        if self.keep:
            where.append("the same gradient tensor in every step")
        return ", ".join(where)


def _drawable(shape: Shape) -> Shape:
    viewed = as_matrices(shape)
    return (1,) * (2 - len(viewed)) + viewed


def plan(
    subjects: Sequence[Subject],
    shapes: Sequence[Shape],
    dtypes: Sequence[str],
    budget: Budget,
    asked: int | None,
    seed: int,
) -> list[Case]:
    """The cases of one comparison, simplest first: the first that parts is the one that a user wants to see.

    Every run has the steps that were ``asked`` for; else those of the budget, and one run goes past warm-ups.
    """
    default, *configured = subjects
    steps = asked or budget.steps
    small = sorted(shapes, key=math.prod)
    main = [shape for shape in shapes if len(shape) == 2][:3] or list(shapes)[:1]
    cases = [Case(default, ORDINARY, (shape,), steps, seed=seed) for shape in shapes]
    for stratum in STRATA:
        if stratum != ORDINARY:
            chosen = small[: len(shapes) - 1] or small if stratum == "eps_dominated" else main
            cases += [Case(default, stratum, (shape,), steps, seed=seed) for shape in chosen]
    cases.append(Case(default, ORDINARY, (main[0],) * 2, steps, seed=seed))
    cases.append(Case(default, "constant", (main[0],), steps, keep=True, seed=seed))
    if asked is None:
        cases.append(Case(default, ORDINARY, (main[-1],), budget.long, seed=seed))
    for subject in configured:
        cases += [Case(subject, s, (shape,), steps, seed=seed) for shape in main[:2] for s in _CONFIGURED_STRATA]
    for dtype in dtypes:
        if dtype == "float64" and not default.nature.casts:
            continue  # its own arithmetic is that of all cases above
        settings: dict[str, Any] = {"dtype": dtype, "native": True, "seed": seed}
        cases += [Case(default, s, (shape,), steps, **settings) for shape in main for s in _LOW_STRATA]
        cases += [Case(subject, ORDINARY, (main[0],), steps, **settings) for subject in configured]
    return cases
