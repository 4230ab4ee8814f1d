"""What a contract is given and what it answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from groups import Block
from symcheck.probe.names import Budget
from symcheck.probe.nature import Nature
from symcheck.probe.strata import Shapes, draw_inputs
from symcheck.probe.trajectory import CandidateError, CandidateLike, Inputs, Tensors, largest, run
from symcheck.result import Evidence, Numeric, Verdict


@dataclass(frozen=True)
class Outcome:
    """The verdict of a contract, with its reason, conditions and evidence."""

    verdict: Verdict
    reason: str = ""
    conditions: tuple[str, ...] = ()
    evidence: Evidence = field(default_factory=Evidence)
    numeric: Mapping[str, Numeric] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """The candidate, what is known of it, and the block whose shapes it takes."""

    candidate: CandidateLike
    nature: Nature
    block: Block
    budget: Budget
    seed: int

    def shapes(self, count: int) -> list[Shapes]:
        """The first shapes, neither one-row nor large, that the candidate takes."""
        taken: list[Shapes] = []
        for shapes in self.block.shapes:
            if len(taken) == count:
                break
            if min(min(shape[-2:]) for shape in shapes) < 2:
                continue
            try:
                run(self.candidate, self.draw("generic", shapes, 1))
            except CandidateError:
                continue
            taken.append(shapes)
        return taken

    def draw(self, stratum: str, shapes: Shapes, steps: int, offset: int = 0) -> Inputs:
        """Inputs of a stratum; a different ``offset`` gives different ones."""
        return draw_inputs(stratum, shapes, steps, centre=False, seed=self.seed + offset)

    def stands_still(self) -> bool:
        """Whether a long trajectory on ordinary gradients changes no weight by anything finite: then a contract holds
        because nothing could have failed."""
        steps = [
            step
            for shapes in self.shapes(1)
            for step in run(self.candidate, self.draw("generic", shapes, self.budget.long), seed=self.seed)
        ]
        return bool(steps) and not any(0 < largest(step) < math.inf for step in steps)

    @property
    def draws(self) -> bool:
        """Whether it draws random numbers: a run that draws them in another order differs, and nothing is shown."""
        nature = self.nature
        return bool(nature.random) or nature.seed_dependent or not nature.reproducible

    def single(self, shapes: Shapes) -> bool:
        """Whether the block is one tensor."""
        return len(shapes) == 1


def same(first: list[Tensors], second: list[Tensors]) -> bool:
    """Bitwise equality of two trajectories; NaN equals NaN."""
    return all(equal_bits(a, b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True))


def equal_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Equality of every entry, where NaN equals NaN."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return bool(((first == second) | (first.isnan() & second.isnan())).all())
