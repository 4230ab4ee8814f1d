"""The adversarial search: strata and shapes, then hypothesis, then the smallest exact witness of what was found."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch

from groups import Block
from symcheck.probe.measure import MARGIN, VISIBLE, Defect, Trial, compare, confirmed, gauge_defects, with_floors, worst
from symcheck.probe.names import Budget
from symcheck.probe.nature import Nature, observe
from symcheck.probe.relation import Property, Relation
from symcheck.probe.strata import STRATA, Shapes, centred, draw_inputs
from symcheck.probe.trajectory import CandidateError, CandidateLike, Inputs, Tensors, run
from symcheck.result import ORDINARY

_GENERATED = "hypothesis"
"""The name of the stratum of generated examples."""
FLOOR_RUNS = 2
_SHRINKABLE = 40
"""Blocks with at most this many entries are small enough for a witness to be looked for by shrinking."""
_LADDER_STEPS = 900
_RESTARTS = 3
_SMALLEST_SHAPES = 2
"""How many shapes at the start of a block's list are a single row or column: too special for most strata."""
_LARGE = 64
"""Blocks with more entries than this are tried in the generic stratum only."""


@dataclass
class Findings:
    """What a search saw. ``refutation`` is set as soon as one trial stands far above its noise floor."""

    examples: int = 0
    steps: int = 0
    shapes: set[Shapes] = field(default_factory=set)
    worst: tuple[Trial, Defect, str] | None = None
    refutation: tuple[Trial, Defect, str] | None = None
    moved: bool = False
    """Some displacement was not zero."""
    discerning: bool = False
    """Some transformation predicted a displacement different from the untransformed one."""
    nonfinite: set[str] = field(default_factory=set)
    undetermined: dict[str, float] = field(default_factory=dict)
    """Strata in which rounding decides the update, with the noise floor there."""
    gauge: bool = False
    """The refutation is a dependence on the choice of eigenvectors."""
    refused: dict[Shapes, CandidateError] = field(default_factory=dict)


class Search:
    """Searches for a counterexample to one property of one candidate on one block."""

    def __init__(
        self, candidate: CandidateLike, nature: Nature, question: Property, block: Block, budget: Budget, seed: int
    ) -> None:
        self.candidate = candidate
        self.nature = nature
        self.question = question
        self.block = block
        self.budget = budget
        self.seed = seed
        self.found = Findings()
        self.floors: dict[tuple[str, Shapes, bool], dict[int, float]] = {}

    def run(self) -> Findings:
        """Search until something is refuted or the budget is spent.

        Raises:
            CandidateError: the candidate raised on an input that it should take.
        """
        for _ in range(_RESTARTS):
            for stratum, inputs, relations in itertools.chain(self._battery(), self._long(), self._hypothesis()):
                self._examine(stratum, inputs, relations)
                if self.found.refutation is not None:
                    break
            if self.found.refutation is None or not self._learns(self.found.refutation[0]):
                break
            self.found, self.floors = Findings(), {}
        return self.found

    def _learns(self, trial: Trial) -> bool:
        """Whether the refuting trial shows a cast, an escape or a random number that ordinary inputs did not: code that
        only computes in float32 at step 10, or on large blocks. The search then has to start again."""
        seen = observe(self.candidate, trial.inputs, trial.relation.transform(trial.inputs))
        known = self.nature
        merged = Nature(
            arithmetic=seen.arithmetic if seen.arithmetic.promote else known.arithmetic,
            casts=tuple(sorted({*known.casts, *seen.casts})),
            unseen=max(known.unseen, seen.unseen),
            random=tuple(sorted({*known.random, *seen.random})),
            reproducible=known.reproducible and seen.reproducible,
            seed_dependent=known.seed_dependent or seen.seed_dependent,
            factorises=known.factorises or seen.factorises,
            notes=tuple(dict.fromkeys([*known.notes, *seen.notes])),
        )
        self.nature = merged
        return merged != known

    # -- sources of examples -------------------------------------------------------------------------------------

    def _battery(self) -> Iterator[tuple[str, Inputs, tuple[Relation, ...]]]:
        generator = torch.Generator().manual_seed(self.seed)
        small = self.block.shapes[_SMALLEST_SHAPES : _SMALLEST_SHAPES + self.budget.shapes]
        for stratum in STRATA:
            for shapes in small if stratum not in (ORDINARY, "ties") else self.block.shapes:
                if stratum != ORDINARY and sum(map(math.prod, shapes)) > _LARGE * len(shapes):
                    continue
                inputs = self._draw(stratum, shapes, self.budget.steps)
                if inputs is not None:
                    yield stratum, inputs, self.question.random(shapes, self.budget.elements, generator)

    def _long(self) -> Iterator[tuple[str, Inputs, tuple[Relation, ...]]]:
        """One long trajectory on a small block, past warm-ups and switches."""
        for shapes in self.block.shapes if self.budget.long else ():
            # Two rows are too few: centred, they are opposite, and any odd rule keeps them so.
            if min(min(shape[-2:]) for shape in shapes) > 2 and shapes not in self.found.refused:
                inputs = self._draw(ORDINARY, shapes, self.budget.long)
                generator = torch.Generator().manual_seed(self.seed + 1)
                if inputs is not None:
                    yield ORDINARY, inputs, self.question.random(shapes, 2, generator)
                return

    def _hypothesis(self) -> Iterator[tuple[str, Inputs, tuple[Relation, ...]]]:
        """Examples that hypothesis generates: small integers, many zeros and ties, group elements near the identity."""
        from symcheck.probe.generate import examples

        shapes = [s for s in self.block.shapes[: self.budget.shapes] if s not in self.found.refused]
        if shapes and self.budget.examples:
            for inputs, relation in examples(self.question, shapes, self.budget.examples, self.seed):
                yield _GENERATED, inputs, (relation,)

    def _draw(self, stratum: str, shapes: Shapes, steps: int) -> Inputs | None:
        if shapes in self.found.refused or (self.question.centred and shapes[0][-2] < 2):
            return None
        return draw_inputs(stratum, shapes, steps, centre=self.question.centred, seed=self.seed)

    # -- one example ---------------------------------------------------------------------------------------------

    def _examine(self, stratum: str, inputs: Inputs, relations: Iterable[Relation]) -> None:
        found = self.found
        shapes = inputs.shapes
        if shapes in found.refused:
            return
        try:
            base = run(self.candidate, inputs, self.nature.arithmetic, seed=self.seed)
        except CandidateError as error:
            if error.stage in ("constructor", "step 1") and stratum == ORDINARY:
                found.refused[shapes] = error
                return
            raise error.on(stratum, shapes) from error
        found.shapes.add(shapes)
        for relation in relations:
            trial = compare(self.candidate, inputs, relation, self.nature.arithmetic, base=base, seed=self.seed)
            found.examples += 1
            found.steps = max(found.steps, inputs.steps)
            found.moved |= trial.moved
            found.discerning |= _discerning(base, trial)
            if not all(torch.isfinite(tensor).all() for step in base for tensor in step):
                found.nonfinite.add(stratum)
            self._judge(stratum, trial)
            if found.refutation is not None:
                return

    def _judge(self, stratum: str, trial: Trial) -> None:
        # The floor of other group elements of this kind on the same inputs: a defect that is not far above it needs no
        # measurement of its own, for none could turn it into a refutation. Rotations, which jitter the inputs, and
        # exact elements, which do not, have floors of their own.
        key = (stratum, trial.inputs.shapes, trial.relation.rounds)
        known = self.floors.get(key, {})
        quick = worst([replace(d, floor=max(d.floor, known.get(d.step, 0.0))) for d in trial.defects()])
        if quick is None:
            return
        if quick.ratio < MARGIN and not self.nature.unseen:
            self._settle(stratum, trial, quick)
            return
        floors = self._measure(trial)
        if stratum != _GENERATED:  # where every example has inputs of its own
            self.floors[key] = {defect.step: defect.floor for defect in floors}
        measured = worst(floors)
        if measured is None:
            return
        if measured.ratio >= MARGIN:
            measured = self.confirm(trial) or measured
        # On a singular gradient an undetermined basis is a side condition; on ordinary ones it is the rule's fault.
        if _drowns(measured) and self.nature.factorises and stratum == ORDINARY:
            found = self._gauge_defects(trial)
            if found:
                self.found.gauge = True
                measured = found[0]
        if measured.ratio >= MARGIN:
            self.found.refutation = (trial, measured, stratum)
        else:
            self._settle(stratum, trial, measured)

    def _settle(self, stratum: str, trial: Trial, defect: Defect) -> None:
        """Take note of a trial that refutes nothing: the worst of them, and whether it could have refuted anything."""
        if _drowns(defect):
            self.found.undetermined[stratum] = max(defect.floor, self.found.undetermined.get(stratum, 0.0))
        elif self.found.worst is None or defect.ratio > self.found.worst[1].ratio:
            self.found.worst = (trial, defect, stratum)

    def _measure(self, trial: Trial) -> list[Defect]:
        nature = self.nature
        return with_floors(
            self.candidate, trial, nature.arithmetic, runs=FLOOR_RUNS, unseen=nature.unseen, seed=self.seed
        )

    def _gauge_defects(self, trial: Trial) -> list[Defect]:
        return gauge_defects(self.candidate, trial, self.nature.arithmetic, runs=FLOOR_RUNS, seed=self.seed)

    def confirm(self, trial: Trial) -> Defect | None:
        """The worst defect of a trial against a floor from more randomised runs, or, where the choice of eigenvectors
        is at fault, against the rounding of these eigenvectors."""
        if self.found.gauge:
            return worst(self._gauge_defects(trial))
        nature = self.nature
        return worst(confirmed(self.candidate, trial, nature.arithmetic, unseen=nature.unseen, seed=self.seed))

    def floor_of_worst(self) -> Defect | None:
        """The worst surviving defect with its measured floor, for the report."""
        if self.found.worst is None:
            return None
        trial, defect, _ = self.found.worst
        measured = self._measure(trial)
        return next((entry for entry in measured if entry.step == defect.step), defect)

    # -- the witness ---------------------------------------------------------------------------------------------

    def smallest(self) -> tuple[Trial, Defect]:
        """The refutation on the smallest exact example that shows it: the first rung of a ladder of textbook inputs
        that holds, else what hypothesis shrinks to, else the example that was found, cut at the step where the sides
        part."""
        if self.found.refutation is None:
            raise ValueError("nothing was refuted: there is no witness to make small")
        trial, defect, _ = self.found.refutation
        # A witness should show the defect, not its last trace: tiny defects are taken only where the first was tiny.
        visible = min(0.02, defect.value / 8)
        for inputs, relation in self._ladder(defect.step):
            smaller = self._refutes(inputs, relation, visible)
            if smaller is not None:
                return smaller
        from symcheck.probe.generate import shrink

        size = min(_entries(trial.inputs.shapes), _SHRINKABLE)
        shrunk = shrink(
            self.question,
            [s for s in self.block.shapes if _entries(s) <= size and s not in self.found.refused],
            defect.step,
            lambda inputs, relation: self._suspect(inputs, relation, visible) is not None,
            random.Random(self.seed),
        )
        smaller = self._refutes(*shrunk, visible) if shrunk is not None else None
        return smaller or self._cut(trial, defect) or (trial, defect)

    def _ladder(self, steps: int) -> Iterator[tuple[Inputs, Relation]]:
        """Textbook examples from small to larger; not more of them than ``_LADDER_STEPS`` steps of the candidate."""
        steps = max(2, steps)
        single = len(self.block.action.tensors) == 1
        small: list[Shapes] = [((1, 2),), ((2, 1),), ((2, 2),), ((2, 3),), ((3, 2),), ((3, 3),)] if single else []
        small += sorted((s for s in self.block.shapes if _entries(s) <= _SHRINKABLE and s not in small), key=_entries)
        rungs = 0
        for shapes in small:
            if not self._fits(shapes):
                continue
            relations = self.question.small(shapes)
            for weights, pattern in _TEXTBOOK:
                grads = [tuple(pattern(shape, step) for shape in shapes) for step in range(steps)]
                if self.question.centred:
                    grads = [tuple(map(centred, step)) for step in grads]
                inputs = Inputs(tuple(weights(shape, 0) for shape in shapes), tuple(grads))
                for relation in relations:
                    rungs += 1
                    if rungs * steps > _LADDER_STEPS:
                        return
                    yield inputs, relation

    def _fits(self, shapes: Shapes) -> bool:
        try:
            self.question.action.check(shapes)
        except ValueError:
            return False
        return shapes not in self.found.refused and not (self.question.centred and shapes[0][-2] < 2)

    def _suspect(self, inputs: Inputs, relation: Relation, least_defect: float) -> tuple[Trial, Defect] | None:
        """A defect far above the smallest floor: cheap, and not yet a refutation."""
        try:
            trial = compare(self.candidate, inputs, relation, self.nature.arithmetic, seed=self.seed)
        except CandidateError:
            return None
        for defect in trial.defects():
            if defect.ratio >= MARGIN and defect.value > least_defect:
                return trial, defect
        return None

    def _refutes(self, inputs: Inputs, relation: Relation, least_defect: float) -> tuple[Trial, Defect] | None:
        suspect = self._suspect(inputs, relation, least_defect)
        try:
            return self._cut(*suspect) if suspect is not None else None
        except CandidateError:
            return None

    def _cut(self, trial: Trial, defect: Defect) -> tuple[Trial, Defect] | None:
        """The trial up to the step at which the sides part, if it stands there against a floor of many runs."""
        inputs = trial.inputs.first(defect.step)
        short = compare(self.candidate, inputs, trial.relation, self.nature.arithmetic, seed=self.seed)
        confirmed = self.confirm(short)
        return (short, confirmed) if confirmed is not None and confirmed.ratio >= MARGIN else None


def _discerning(base: list[Tensors], trial: Trial) -> bool:
    """Whether the transformation had anything to move: a prediction that differs from the original displacement, or,
    for properties that predict no change, an input that differs."""
    moved = trial.relation.transform(trial.inputs)
    inputs_moved = moved is trial.inputs or any(
        not torch.equal(a, b)
        for a, b in zip(
            (*moved.weights, *itertools.chain(*moved.grads)),
            (*trial.inputs.weights, *itertools.chain(*trial.inputs.grads)),
            strict=True,
        )
    )
    return trial.moved and inputs_moved


def _entries(shapes: Shapes) -> int:
    return sum(map(math.prod, shapes))


def _zeros(shape: tuple[int, ...], step: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.float64)


def _spike(shape: tuple[int, ...], step: int) -> torch.Tensor:
    out = torch.zeros(shape, dtype=torch.float64)
    out.view(-1)[step % out.numel()] = 2.0
    return out


def _wide(shape: tuple[int, ...], step: int) -> torch.Tensor:
    """Entries of different orders of magnitude: past clamps and thresholds."""
    cycle = [1, 16, -4, 64, 2, -32, 8, 0]
    entries = [float(cycle[(3 * step + k) % len(cycle)]) for k in range(math.prod(shape))]
    return torch.tensor(entries, dtype=torch.float64).reshape(shape)


def _pattern(start: int) -> Callable[[tuple[int, ...], int], torch.Tensor]:
    """Small distinct integers in a fixed order that differs from step to step."""
    cycle = [1, 2, -1, 3, -2, 0, 4, -3, 1, -4, 2, 5]

    def pattern(shape: tuple[int, ...], step: int) -> torch.Tensor:
        entries = [float(cycle[(start - 1 + 5 * step + k) % len(cycle)]) for k in range(math.prod(shape))]
        return torch.tensor(entries, dtype=torch.float64).reshape(shape)

    return pattern


_TEXTBOOK = ((_zeros, _pattern(1)), (_zeros, _wide), (_pattern(3), _pattern(1)), (_zeros, _spike))
"""Weights and gradients of the ladder: from zero weights first, so that a witness of a weight-free rule says so."""


def _drowns(defect: Defect) -> bool:
    """Whether even a visible share of the update would not have stood out from the noise."""
    return MARGIN * defect.floor > VISIBLE
