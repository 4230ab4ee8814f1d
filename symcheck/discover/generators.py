"""A quick numerical test of single transformations: which classes to expect on which axis, before any is decided."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from groups import Action
from symcheck.discover.lattice import ATOMS, action, below
from symcheck.probe.measure import MARGIN, compare, with_floors, worst
from symcheck.probe.nature import Nature
from symcheck.probe.relation import Equivariance, Relation
from symcheck.probe.strata import Shapes
from symcheck.probe.trajectory import CandidateLike, Inputs

FLOOR_RUNS = 2
SAMPLES = 2
"""Random elements of an infinite group, beside its discrete generators and exact elements."""


def hints(
    candidate: CandidateLike, nature: Nature, shapes: Sequence[tuple[int, int]], *, steps: int, seed: int
) -> dict[str, bool]:
    """For every atom whether its generators, and random elements of infinite groups, are respected on random inputs.

    Raises:
        CandidateError: the candidate raised.
    """
    # Entries that are not dyadic, unlike those of the strata, hide nothing that happens between multiples of 1/8.
    examples = [random_points(shape, steps, 1, seed)[0] for shape in shapes]
    found: dict[str, bool] = {}
    for atom in ATOMS:
        if any(not holds and below(smaller, atom) for smaller, holds in found.items()):
            found[atom] = False
            continue
        found[atom] = all(
            respects(candidate, nature, relation, inputs, seed)
            for inputs in examples
            for relation in _relations(action(atom), inputs.shapes, seed)
        )
    return found


def random_points(shape: tuple[int, int], steps: int, count: int, seed: int) -> list[Inputs]:
    """``count`` trajectories of one matrix, entries of either sign and of size 1/2 to 2, away from a kink at 0."""
    generator = torch.Generator().manual_seed(seed)

    def draw() -> tuple[torch.Tensor]:
        size = 2.0 ** (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1)
        sign = 2.0 * torch.randint(2, shape, generator=generator) - 1
        return (sign * size,)

    return [Inputs(draw(), tuple(draw() for _ in range(steps))) for _ in range(count)]


def _relations(acting: Action, shapes: Shapes, seed: int) -> Iterator[Relation]:
    elements = list(dict.fromkeys([*acting.generators(shapes), *acting.exact(shapes)]))
    elements += acting.sample(shapes, SAMPLES, rng=torch.Generator().manual_seed(seed))
    return (Equivariance(element) for element in elements if not element.is_identity)


def respects(candidate: CandidateLike, nature: Nature, relation: Relation, inputs: Inputs, seed: int) -> bool:
    """Whether no step departs from what ``relation`` demands by more than rounding.

    Raises:
        CandidateError: the candidate raised.
    """
    trial = compare(candidate, inputs, relation, nature.arithmetic, seed=seed)
    quick = worst(trial.defects())
    if quick is None or (quick.ratio < MARGIN and not nature.unseen):
        return True
    measured = worst(with_floors(candidate, trial, nature.arithmetic, runs=FLOOR_RUNS, unseen=nature.unseen, seed=seed))
    return measured is None or measured.ratio < MARGIN
