"""Why a target departs: every suspect is run, and accused only if the reference with its change follows the target."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from symcheck.conform.compare import Run, displacement_differences, suspect_floors, suspect_path, worst
from symcheck.conform.oracle import Oracle, Path
from symcheck.conform.states import Match
from symcheck.conform.suspect import Suspect
from symcheck.conform.suspects import suspects_for

_TELLING = 0.25
"""A change that leaves more than this share of the difference where it was is no explanation: rounding is far below."""


@dataclass(frozen=True)
class Explanation:
    """Suspects with which the reference follows the target in all of ``cases`` cases, ``fresh`` of them on inputs that
    no search had seen. ``before`` and ``after`` are the largest errors in units; ``same_as`` are other suspects that
    give the same updates on all of them."""

    texts: tuple[str, ...]
    families: tuple[str, ...]
    before: float
    after: float
    cases: int
    fresh: int
    same_as: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """Every explanation found, minimal ones first, out of ``tried`` suspects and ``pairs`` pairs of them."""

    explanations: tuple[Explanation, ...]
    tried: int
    pairs: int


def diagnose(
    parting: Sequence[Run],
    conforming: Sequence[Run],
    fresh: Sequence[Run],
    matches: Sequence[Match],
    *,
    noise_runs: int,
    seconds: float,
) -> Diagnosis:
    """Try every suspect, then pairs of them, on the runs that part, on some that do not, and on ``fresh`` ones.

    Where only a state tensor of ``matches`` parts, the suspect has to explain that. ``seconds`` bounds the search for
    pairs.
    """
    suspects = list(
        {s.text: s for rule in dict.fromkeys(r.case.subject.rule for r in parting) for s in suspects_for(rule)}.values()
    )
    trial = _Trial(parting, [*conforming, *fresh], len(fresh), matches, noise_runs)
    alone: list[tuple[Suspect, ...]] = [(suspect,) for suspect in suspects if trial.explains_all((suspect,))]
    found = [(one, explanation) for one in alone if (explanation := trial.explanation(one)) is not None]
    if found:
        return Diagnosis(_merged(found, trial), len(suspects), 0)
    partial = [suspect for suspect in suspects if trial.explains_some((suspect,))]
    pairs = 0
    deadline = time.monotonic() + seconds
    for pair in _pairs(suspects, partial):
        if time.monotonic() > deadline or (found and sum(s.weight for s in pair) > _weight(found[0][0])):
            break
        pairs += 1
        if trial.explains_all(pair):
            explanation = trial.explanation(pair)
            if explanation is not None:
                found.append((pair, explanation))
    return Diagnosis(_merged(found, trial), len(suspects), pairs)


def _weight(suspects: Iterable[Suspect]) -> int:
    return sum(suspect.weight for suspect in suspects)


def _pairs(suspects: Sequence[Suspect], partial: Sequence[Suspect]) -> Iterable[tuple[Suspect, ...]]:
    """Pairs of different families: those that each explain a part of the cases, then one of them with any, then all."""
    seen: set[tuple[str, str]] = set()
    sources = (itertools.combinations(partial, 2), itertools.product(partial, suspects))
    everything = sorted(itertools.combinations([s for s in suspects if s.weight < 3], 2), key=_weight)
    for first, second in itertools.chain(*sources, everything):
        key = (min(first.text, second.text), max(first.text, second.text))
        if first.family != second.family and key not in seen:
            seen.add(key)
            yield first, second


class _Trial:
    """Runs suspects on the cases of one comparison."""

    def __init__(
        self, parting: Sequence[Run], others: Sequence[Run], fresh: int, matches: Sequence[Match], noise_runs: int
    ) -> None:
        self.matches = matches
        self.parting = parting
        self.others = others
        self.fresh = fresh
        self.noise_runs = noise_runs

    def explains_some(self, suspects: Sequence[Suspect]) -> bool:
        """Whether they explain one of the parting runs."""
        return any(self._after(suspects, run) is not None for run in self.parting)

    def explains_all(self, suspects: Sequence[Suspect]) -> bool:
        """Whether they explain every parting run; stops at the first that they do not."""
        return all(self._after(suspects, run) is not None for run in self.parting)

    def explanation(self, suspects: Sequence[Suspect]) -> Explanation | None:
        """The evidence, if the suspects also follow the target where it conformed and on fresh inputs."""
        runs = [*self.parting, *self.others]
        after = [self._after(suspects, run, compare_with_before=run in self.parting) for run in runs]
        if any(value is None for value in after):
            return None
        return Explanation(
            tuple(suspect.text for suspect in suspects),
            tuple(suspect.family for suspect in suspects),
            before=max(_most(run) for run in self.parting),
            after=max(value for value in after if value is not None),
            cases=len(runs),
            fresh=self.fresh,
        )

    def paths(self, suspects: Sequence[Suspect]) -> list[Path]:
        """What the suspects would have done in every parting run."""
        return [suspect_path(_oracle(suspects, run), run) for run in self.parting]

    def _after(self, suspects: Sequence[Suspect], run: Run, *, compare_with_before: bool = True) -> float | None:
        """The error in units that is left on a run, or None if the suspects do not explain it."""
        try:
            oracle = _oracle(suspects, run)
            path = suspect_path(oracle, run)
            rough = displacement_differences(run, path, run.observed.floors)
            share = _largest_share(run)
            left = max((each.relative for each in rough if each.determined), default=0.0)
            if compare_with_before and share and not left <= _TELLING * share:
                return None
            if compare_with_before and not share and not self._states_follow(run, path):
                return None
            # The units of the reference serve the suspect as well, but where it is conditioned worse.
            exact = rough
            if not all(each.units <= run.limit for each in rough):
                exact = displacement_differences(run, path, suspect_floors(oracle, run, path, self.noise_runs))
        except (ArithmeticError, KeyError, RuntimeError, TypeError, ValueError):
            return None  # the change makes no sense for this rule, or for this shape
        most = worst(exact)
        if most is None or not most.units <= run.limit:
            return None
        # Where the change only makes everything a matter of rounding it explains nothing.
        told = [each for each in exact if each.determined and (each.size > 0.0 or each.absolute == 0.0)]
        return most.units if told else None

    def _states_follow(self, run: Run, path: Path) -> bool:
        """Whether the matched states agree with those of ``path``."""
        found = run.states(self.matches, path)
        return bool(found) and all(each.units <= run.limit for each in found)


def _oracle(suspects: Sequence[Suspect], run: Run) -> Oracle:
    oracle = Oracle(run.case.rule)
    for suspect in suspects:
        oracle = suspect.change(oracle)
    return oracle


def _most(run: Run) -> float:
    most = worst(run.displacements())
    return most.units if most is not None else 0.0


def _largest_share(run: Run) -> float:
    return max((each.relative for each in run.displacements() if each.units > run.limit), default=0.0)


def _merged(found: Sequence[tuple[tuple[Suspect, ...], Explanation]], trial: _Trial) -> tuple[Explanation, ...]:
    """Minimal explanations first; those that give the very same updates are one, under the plainest name."""
    ordered = sorted(found, key=lambda item: (len(item[0]), _weight(item[0])))
    kept: list[tuple[list[Path], Explanation]] = []
    for suspects, explanation in ordered:
        paths = trial.paths(suspects)
        for number, (other, first) in enumerate(kept):
            if all(_same(a, b) for a, b in zip(paths, other, strict=True)):
                same = (*first.same_as, "; and ".join(explanation.texts))
                kept[number] = (other, Explanation(**{**vars(first), "same_as": same}))
                break
        else:
            kept.append((paths, explanation))
    return tuple(explanation for _, explanation in kept)


def _same(first: Path, second: Path) -> bool:
    # Equal but for the order of a few operations.
    return all(
        bool(((a - b).abs() <= 2.0**-40 * (a.abs() + b.abs()).max()).all())
        for x, y in zip(first.displacements, second.displacements, strict=True)
        for a, b in zip(x, y, strict=True)
    )
