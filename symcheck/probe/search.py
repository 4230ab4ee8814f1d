"""The adversarial search: strata and shapes, then hypothesis, then the smallest exact witness of what was found."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch

from groups import Block
from symcheck.probe.arithmetic import PLAIN, Arithmetic, Census
from symcheck.probe.measure import LEAST_FLOOR, MARGIN, Defect, Trial, compare, gauge_defects, with_floors, worst
from symcheck.probe.names import Budget
from symcheck.probe.relation import Property, Relation
from symcheck.probe.strata import STRATA, Shapes, centred, draw_inputs
from symcheck.probe.trajectory import CandidateError, CandidateLike, Inputs, Tensors, run
from symcheck.result import ORDINARY

_GENERATED = "hypothesis"
"""The name of the stratum of generated examples."""
FLOOR_RUNS = 2
CONFIRMING_RUNS = 8
UNDETERMINED = 0.05
"""Above this noise floor an update is decided by rounding rather than by its input."""
COARSEST = 0.25
"""Where the precision of a candidate cannot be followed, only a defect of a quarter of the update counts as
structure."""

_UNITS = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
_SHRINKABLE = 40
"""Blocks with at most this many entries are small enough for a witness to be looked for by shrinking."""
_LADDER_STEPS = 900
_LARGE = 64
"""Blocks with more entries than this are tried in the generic stratum only."""


@dataclass(frozen=True)
class Nature:
    """What kind of code the candidate is, found before any property is judged."""

    arithmetic: Arithmetic
    """The arithmetic in which structure is judged: as it runs, or with its casts undone."""
    casts: tuple[str, ...]
    """Lower precisions that it computes in when its parameters are float64."""
    least_floor: float
    """Relative noise floor that has to be granted: larger where its precision cannot be followed."""
    random: tuple[str, ...]
    """Random operations it was seen to use."""
    reproducible: bool
    """Whether two runs from one seed agree bitwise."""
    seed_dependent: bool
    """Whether runs from two seeds differ."""
    factorises: bool
    """Whether it computes eigenvectors or singular vectors, which may not be unique."""
    notes: tuple[str, ...] = ()


def observe(candidate: CandidateLike, inputs: Inputs) -> Nature:
    """Find out how the candidate computes, on one ordinary trajectory.

    Raises:
        CandidateError: it cannot be run.
    """
    census = Census()
    plain = run(candidate, inputs, Arithmetic(census=census), seed=1)
    again = run(candidate, inputs, seed=1)
    other = run(candidate, inputs, seed=2)
    casts = tuple(sorted(census.casts))
    arithmetic, least, notes = PLAIN, LEAST_FLOOR, []
    if casts:
        promoted = Census()
        arithmetic = Arithmetic(promote=True)
        try:
            run(candidate, inputs, Arithmetic(promote=True, census=promoted), seed=1)
            run(candidate, inputs, arithmetic, seed=1)
        except CandidateError:
            arithmetic, promoted = PLAIN, census
        if promoted.casts:
            least = max(least, min(COARSEST / MARGIN, 8 * max(_UNITS[name] for name in promoted.casts)))
            notes.append(f"computes in {', '.join(sorted(promoted.casts))} in a way that cannot be undone")
    if census.escapes:
        least = COARSEST / MARGIN
        notes.append(f"leaves torch through {', '.join(sorted(census.escapes))}: small defects count as rounding")
    return Nature(
        arithmetic=arithmetic,
        casts=casts,
        least_floor=least,
        random=tuple(sorted(census.random)),
        reproducible=_equal(plain, again),
        seed_dependent=not _equal(again, other),
        factorises=census.factorises,
        notes=tuple(notes),
    )


def _equal(first: list[Tensors], second: list[Tensors]) -> bool:
    return all(
        torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
        for x, y in zip(first, second, strict=True)
        for a, b in zip(x, y, strict=True)
    )


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
        self.floors: dict[tuple[str, Shapes], dict[int, float]] = {}

    def run(self) -> Findings:
        """Search until something is refuted or the budget is spent.

        Raises:
            CandidateError: the candidate raised on an input that it should take.
        """
        for stratum, inputs, relations in itertools.chain(self._battery(), self._long(), self._hypothesis()):
            self._examine(stratum, inputs, relations)
            if self.found.refutation is not None:
                break
        return self.found

    # -- sources of examples -------------------------------------------------------------------------------------

    def _battery(self) -> Iterator[tuple[str, Inputs, tuple[Relation, ...]]]:
        generator = torch.Generator().manual_seed(self.seed)
        for stratum in STRATA:
            for shapes in self.block.shapes[: self.budget.shapes] if stratum != ORDINARY else self.block.shapes:
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
                    yield ORDINARY, inputs, self.question.random(shapes, 1, generator)
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
            raise
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
        least = self.nature.least_floor
        # The floor of other group elements on the same inputs, or else the smallest: a defect that is not far above it
        # needs no measurement of its own, for none could turn it into a refutation.
        known = self.floors.get((stratum, trial.inputs.shapes), {})
        quick = worst([replace(defect, floor=known.get(defect.step, least)) for defect in trial.defects()])
        if quick is None:
            return
        if quick.ratio < MARGIN:
            if self.found.worst is None or quick.value > self.found.worst[1].value:
                self.found.worst = (trial, quick, stratum)
            return
        floors = with_floors(
            self.candidate, trial, self.nature.arithmetic, runs=FLOOR_RUNS, least=least, seed=self.seed
        )
        measured = worst(floors)
        if measured is None:
            return
        if stratum != _GENERATED:  # where every example has inputs of its own
            self.floors[stratum, trial.inputs.shapes] = {defect.step: defect.floor for defect in floors}
        if measured.ratio >= MARGIN:
            measured = self.confirm(trial) or measured
        if measured.floor > UNDETERMINED:
            self.found.undetermined[stratum] = max(measured.floor, self.found.undetermined.get(stratum, 0.0))
            # On a singular gradient an undetermined basis is a side condition; on ordinary ones it is the rule's fault.
            if self.nature.factorises and stratum == ORDINARY:
                found = self._gauge_defects(trial)
                if found:
                    self.found.gauge = True
                    measured = found[0]
        if measured.ratio >= MARGIN:
            self.found.refutation = (trial, measured, stratum)
        elif self.found.worst is None or measured.ratio > self.found.worst[1].ratio:
            self.found.worst = (trial, measured, stratum)

    def _gauge_defects(self, trial: Trial) -> list[Defect]:
        return gauge_defects(
            self.candidate,
            trial,
            self.nature.arithmetic,
            runs=FLOOR_RUNS,
            least=self.nature.least_floor,
            seed=self.seed,
        )

    def confirm(self, trial: Trial) -> Defect | None:
        """The worst defect of a trial against a floor from more randomised runs, or, where the choice of eigenvectors
        is at fault, against the rounding of these eigenvectors."""
        if self.found.gauge:
            return worst(self._gauge_defects(trial))
        return worst(
            with_floors(
                self.candidate,
                trial,
                self.nature.arithmetic,
                runs=CONFIRMING_RUNS,
                least=self.nature.least_floor,
                seed=self.seed,
                noise=7,
            )
        )

    def floor_of_worst(self) -> Defect | None:
        """The worst surviving defect with its measured floor, for the report."""
        if self.found.worst is None:
            return None
        trial, defect, _ = self.found.worst
        measured = with_floors(
            self.candidate,
            trial,
            self.nature.arithmetic,
            runs=FLOOR_RUNS,
            least=self.nature.least_floor,
            seed=self.seed,
        )
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
            if defect.value / self.nature.least_floor >= MARGIN and defect.value > least_defect:
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
