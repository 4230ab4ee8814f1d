"""Measuring a defect and the noise floor below it. Judging is `search`'s work; nothing here knows a verdict."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from symcheck.probe.arithmetic import AMPLITUDE, Arithmetic
from symcheck.probe.relation import Relation
from symcheck.probe.trajectory import CandidateLike, Inputs, Tensors, largest, run

UNIT = 2.0**-53
"""Unit roundoff of float64."""

MARGIN = 2.0**10
"""A defect is structure only if it exceeds this many noise floors. Rounding that is as bad as the worst of a handful of
randomised runs gives a ratio of about one; every bit of this margin is a bit of safety against a wrong REFUTED."""

UNSEEN_MARGIN = 2.0**5
"""The same for precision that cannot be followed, where the spread is taken over jittered inputs: it is the effect of
one rounding of every input, so that code which rounds all along its way stays within a few of it."""

VISIBLE = 0.1
"""Where even a defect of this share of the update would drown in the noise, there is nothing to be judged."""

CONFIRMING_RUNS = 8
COARSE_RUNS = 24
COARSER = 2.0**6
"""Where a rounding decides on which side of a jump a run comes down, a few runs of that size may all agree; many of a
larger one do not. What answers in proportion has the same floor, and a jump no more than this many of them."""

LEAST_FLOOR = 8 * UNIT
"""Relative floor of any comparison: the transformation and the subtraction round too, however exact the candidate
is."""


@dataclass(frozen=True)
class Defect:
    """How far the two sides are apart at one step (from 1), relative to the largest displacement of that step.

    ``value`` is infinite where exactly one side is not finite. ``floor`` is relative to the same size.
    """

    step: int
    value: float
    floor: float = LEAST_FLOOR

    @property
    def ratio(self) -> float:
        """The defect in noise floors; infinite over infinite counts as noise."""
        if math.isinf(self.floor):
            return 0.0
        return self.value / self.floor


@dataclass(frozen=True)
class Trial:
    """One comparison: the inputs, the relation, and both sides of every step."""

    inputs: Inputs
    relation: Relation
    left: list[Tensors]
    right: list[Tensors]
    sizes: list[float]
    """Largest displacement of each step on either side; the unit of its defect."""
    weight: float
    """Largest initial weight on either side."""

    def defects(self) -> list[Defect]:
        """The defect of every step in which something moved, above the floor that no arithmetic can go below.

        A displacement is read off as a difference of weights, and each side's weight was rounded when it was added.
        """
        found = []
        weight = self.weight
        for step, (left, right, size) in enumerate(zip(self.left, self.right, self.sizes, strict=True), start=1):
            if size == 0.0:
                continue
            if not math.isfinite(size):
                found.append(Defect(step, _mismatch(left, right)))
                continue
            weight += size
            found.append(Defect(step, _distance(left, right) / size, max(LEAST_FLOOR, 2 * UNIT * weight / size)))
        return found

    @property
    def finite(self) -> bool:
        """Whether every displacement is finite on both sides."""
        return all(math.isfinite(size) for size in self.sizes)

    @property
    def moved(self) -> bool:
        """Whether any displacement is not zero."""
        return any(size > 0.0 for size in self.sizes)


def compare(
    candidate: CandidateLike,
    inputs: Inputs,
    relation: Relation,
    arithmetic: Arithmetic,
    *,
    base: list[Tensors] | None = None,
    seed: int = 0,
) -> Trial:
    """Run both sides of a relation. ``base`` is the run on ``inputs`` itself, if it is known already.

    Raises:
        CandidateError: the candidate raised.
    """
    if base is None:
        base = run(candidate, inputs, arithmetic, seed=seed)
    moved_inputs = relation.transform(inputs)
    moved = base if moved_inputs is inputs else run(candidate, moved_inputs, arithmetic, seed=seed)
    return Trial(
        inputs,
        relation,
        left=[relation.observe(step) for step in moved],
        right=[relation.predict(step) for step in base],
        sizes=[max(largest(a), largest(b)) for a, b in zip(base, moved, strict=True)],
        weight=max(largest(inputs.weights), largest(moved_inputs.weights)),
    )


def with_floors(
    candidate: CandidateLike,
    trial: Trial,
    arithmetic: Arithmetic,
    *,
    runs: int,
    unseen: float = 0.0,
    seed: int = 0,
    noise: int = 0,
    coarser: float = 1.0,
) -> list[Defect]:
    """The defects of a trial with the noise floor of each step measured by ``runs`` randomised runs of each side.

    ``unseen`` is the amplitude of rounding that cannot be followed (zero if there is none): inputs are then jittered
    by it. ``noise`` seeds the randomised rounding, while ``seed`` has to be the seed of the trial's own runs. Inputs
    that a relation rounds are jittered by so much ``coarser`` than one rounding.

    Raises:
        CandidateError: the candidate raised in a randomised run.
    """
    inputs, relation = trial.inputs, trial.relation
    moved_inputs = relation.transform(inputs)
    # A rotation rounds the moved inputs. The other side is jittered alike: where it is special only by an exact zero
    # that no rotated matrix can have, the two sides are different questions and not a defect.
    jitter = max(unseen, coarser * AMPLITUDE if relation.rounds else 0.0)
    spread = [0.0] * inputs.steps
    for number in range(1, runs + 1):
        noisy = Arithmetic(promote=arithmetic.promote, noise=1_000_003 * number + noise)
        left = run(candidate, _jitter(moved_inputs, f"moved {noise} {number}", jitter), noisy, seed=seed)
        observed = [relation.observe(step) for step in left]
        same = moved_inputs is inputs
        right = left if same else run(candidate, _jitter(inputs, f"plain {noise} {number}", jitter), noisy, seed=seed)
        predicted = [relation.predict(step) for step in right]
        for index in range(inputs.steps):
            spread[index] = max(
                spread[index],
                _distance(observed[index], trial.left[index]),
                _distance(predicted[index], trial.right[index]),
            )
    scale = UNSEEN_MARGIN / MARGIN if unseen else 2.0
    measured = []
    for defect in trial.defects():
        index = defect.step - 1
        if math.isfinite(trial.sizes[index]):
            # One unseen rounding of the result is granted even where no jittered run happened to show it.
            floor = max(defect.floor, scale * max(spread[index] / trial.sizes[index], unseen))
        else:
            floor = math.inf if spread[index] else defect.floor
        measured.append(Defect(defect.step, defect.value, floor))
    return measured


def confirmed(
    candidate: CandidateLike, trial: Trial, arithmetic: Arithmetic, *, unseen: float = 0.0, seed: int = 0
) -> list[Defect]:
    """The defects of a trial with the floors on which a refutation stands.

    Raises:
        CandidateError: the candidate raised in a randomised run.
    """
    fine = with_floors(candidate, trial, arithmetic, runs=CONFIRMING_RUNS, unseen=unseen, seed=seed, noise=7)
    if not trial.relation.rounds or all(defect.ratio < MARGIN for defect in fine):
        return fine
    coarse = with_floors(
        candidate, trial, arithmetic, runs=COARSE_RUNS, unseen=unseen, seed=seed, noise=11, coarser=COARSER
    )
    return [replace(a, floor=max(a.floor, b.floor / COARSER)) for a, b in zip(fine, coarse, strict=True)]


GAUGE_VISIBLE = 0.01
"""A dependence on the choice of eigenvectors counts from this share of the update."""


def gauge_defects(
    candidate: CandidateLike, trial: Trial, arithmetic: Arithmetic, *, runs: int, seed: int = 0
) -> list[Defect]:
    """The defects of those steps at which the update depends on the choice of basis in a repeated eigenspace.

    Every other valid basis must change the untransformed update visibly, and rounding of the eigenvectors alone must
    not: its effect is the floor of the defects that are returned.

    Raises:
        CandidateError: the candidate raised.
    """
    promote = arithmetic.promote
    base = run(candidate, trial.inputs, arithmetic, seed=seed)
    turned = [math.inf] * trial.inputs.steps
    control = [0.0] * trial.inputs.steps
    for number in range(1, runs + 1):
        other = run(candidate, trial.inputs, Arithmetic(promote=promote, gauge=number), seed=seed)
        rounded = run(candidate, trial.inputs, Arithmetic(promote=promote, gauge=number, turn=False), seed=seed)
        for index in range(trial.inputs.steps):
            turned[index] = min(turned[index], _distance(other[index], base[index]))
            control[index] = max(control[index], _distance(rounded[index], base[index]))
    found = []
    for defect in trial.defects():
        index = defect.step - 1
        size = trial.sizes[index]
        floor = max(defect.floor, 2 * control[index] / size)
        if defect.value > GAUGE_VISIBLE and turned[index] / size > max(GAUGE_VISIBLE, MARGIN * floor):
            found.append(Defect(defect.step, defect.value, floor))
    return found


def _jitter(inputs: Inputs, run: str, amplitude: float) -> Inputs:
    """Inputs perturbed by ``amplitude`` times the largest entry of each tensor: rounding after a rotation is of that
    size in every entry, but a zero row or column stays zero. Every ``run`` has numbers of its own."""
    if amplitude == 0.0:
        return inputs

    def noisy(tensor: torch.Tensor) -> torch.Tensor:
        # Equal tensors stay equal, as they do when they are rotated alike: a gradient that repeats goes on repeating.
        # torch's generator takes the last 32 bits of a seed and no more.
        seed = zlib.crc32(run.encode(), zlib.crc32(tensor.cpu().numpy().tobytes()))
        generator = torch.Generator().manual_seed(seed)
        drawn = 2 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 1
        busy = tensor.any(-1, keepdim=True) & tensor.any(-2, keepdim=True)
        return tensor + amplitude * tensor.abs().max() * drawn.to(tensor.device) * busy

    return inputs.map(noisy)


def is_smooth(candidate: CandidateLike, inputs: Inputs, arithmetic: Arithmetic, *, seed: int = 0) -> bool:
    """Whether the update answers to perturbations below the roundoff of float32 in proportion, as float64 code does and
    code with a hidden cast does not. False where it does not answer at all (a sign), since nothing can be told then.

    Raises:
        CandidateError: the candidate raised.
    """
    base = run(candidate, inputs, arithmetic, seed=seed)
    coarse, fine = (
        run(candidate, _jitter(inputs, "smooth", amplitude), arithmetic, seed=seed)
        for amplitude in (2.0**-26, 2.0**-30)
    )
    for a, b, c in zip(base, coarse, fine, strict=True):
        answer = _distance(b, a)
        departure = _distance(
            [y - x for x, y in zip(a, b, strict=True)], [16 * (z - x) for x, z in zip(a, c, strict=True)]
        )
        if not 0.0 < answer < math.inf or departure > answer / 4:
            return False
    return True


def _distance(left: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> float:
    """Largest absolute difference; infinite where the two are not finite in the same entries."""
    if _mismatch(left, right):
        return math.inf
    return max(
        (
            float(torch.where(torch.isfinite(a), a - b, torch.zeros_like(a)).abs().max())
            for a, b in zip(left, right, strict=True)
        ),
        default=0.0,
    )


def _mismatch(left: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> float:
    same = all(torch.equal(torch.isfinite(a), torch.isfinite(b)) for a, b in zip(left, right, strict=True))
    return 0.0 if same else math.inf


def worst(defects: Sequence[Defect]) -> Defect | None:
    """The defect with the largest ratio to its floor."""
    return max(defects, key=lambda defect: (defect.ratio, defect.value), default=None)
