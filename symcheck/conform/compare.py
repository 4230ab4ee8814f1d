"""One case: the target and the reference on the same inputs, and how far they are apart at every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from reference.rule import State
from symcheck.conform.cases import Case
from symcheck.conform.measure import (
    ANOTHER_FORMULA,
    DISPLACEMENT,
    STABLE_WITHIN,
    Difference,
    Floors,
    arrays,
    difference,
    floors_of,
)
from symcheck.conform.oracle import Oracle, Path, follow
from symcheck.conform.record import record
from symcheck.conform.states import Match, Observed, as_rule, rule_state, up_to_gauge
from symcheck.probe.arithmetic import Arithmetic, Census
from symcheck.probe.measure import UNIT
from symcheck.probe.numeric import DTYPES, UNITS
from symcheck.probe.trajectory import CandidateError, Inputs


@dataclass(frozen=True, eq=False)
class Run:
    """A case that both sides ran. ``roundoff`` is the unit roundoff that the target is granted;
    ``casts`` are lower precisions that it was seen to compute in."""

    case: Case
    inputs: Inputs
    observed: Observed
    roundoff: float
    casts: tuple[str, ...] = ()

    @property
    def limit(self) -> float:
        """How many units are rounding."""
        return STABLE_WITHIN if self.case.native else ANOTHER_FORMULA

    def displacements(self) -> list[Difference]:
        """The difference of the displacement of every step and parameter."""
        return displacement_differences(self, self.observed.path, self.observed.floors)

    def states(self, matches: Sequence[Match], path: Path | None = None) -> list[Difference]:
        """The difference of every matched state tensor after every step, in the target's own scale; ``path`` is what it
        is compared with if that is not the reference's own."""
        found = []
        path, floors = path or self.observed.path, self.observed.floors
        for step, (states, own) in enumerate(zip(path.states, self.observed.record.states, strict=True), start=1):
            for parameter, (state, entries) in enumerate(zip(states, own, strict=False)):
                for match in matches:
                    if not isinstance(state.get(match.rule), torch.Tensor) or match.target not in entries:
                        continue
                    value = as_rule(entries[match.target], state[match.rule])
                    if value is None:
                        continue
                    value, like = up_to_gauge(self.case.rule, match.rule, value, state[match.rule])
                    factor = match.factor or 1.0
                    floor = abs(factor) * floors.of(step, parameter, match.rule) * self.roundoff / UNIT
                    floor *= 1.0 if factor == 1.0 else 2.0  # the factor was measured, with a unit of its own
                    found.append(
                        difference(
                            value,
                            factor * like,
                            floor,
                            step=step,
                            tensor=f"state {match.target}",
                            parameter=parameter,
                        )
                    )
        return found


@dataclass(frozen=True)
class Refusal:
    """A case that one of the sides does not take."""

    case: Case
    text: str


def run_case(case: Case, *, noise_runs: int) -> Run | Refusal:
    """Run the target and the reference on one case; ``noise_runs`` randomised runs of the reference give the units."""
    subject = case.subject
    inputs = case.inputs()
    oracle = Oracle(case.rule)
    census = Census()
    try:
        path = follow(oracle, inputs, rates=case.rates, negate=subject.negate)
    except (TypeError, ValueError) as error:
        return Refusal(case, f"rule:{subject.rule.name} refuses it: {error}")
    arithmetic = Arithmetic(census=census) if case.native else subject.nature.arithmetic
    try:
        kept = record(
            subject.candidate,
            inputs.to(DTYPES[case.dtype]),
            arithmetic,
            rates=case.rates,
            keep_gradients=case.keep,
            seed=case.seed,
        )
    except CandidateError as error:
        return Refusal(case, str(error))
    floors = floors_of(oracle, inputs, path, runs=noise_runs, rates=case.rates, negate=subject.negate)
    casts = {name for name in census.casts if UNITS.get(name, 0.0) > UNITS[case.dtype]}
    roundoff = max(UNITS[case.dtype], subject.nature.unseen, *(UNITS[name] for name in casts))
    return Run(case, inputs, Observed(kept, path, floors), roundoff, tuple(sorted(casts)))


def displacement_differences(run: Run, path: Path, floors: Floors) -> list[Difference]:
    """The displacements of a run beside those of ``path``, the reference's or a suspect's."""
    found = []
    for step, (got, expected) in enumerate(zip(run.observed.record.displacements, path.displacements, strict=True), 1):
        for parameter, (a, b) in enumerate(zip(got, expected, strict=True)):
            floor = floors.of(step, parameter, DISPLACEMENT) * run.roundoff / UNIT
            found.append(difference(a, b, floor, step=step, tensor=DISPLACEMENT, parameter=parameter))
    return found


def suspect_path(oracle: Oracle, run: Run) -> Path:
    """What a suspect would have done on the inputs of a run.

    Raises:
        ValueError: it does not take them.
    """
    return follow(oracle, _inputs_for(oracle, run), rates=run.case.rates, negate=run.case.subject.negate)


def suspect_floors(oracle: Oracle, run: Run, path: Path, noise_runs: int) -> Floors:
    """The units of `suspect_path`."""
    inputs, negate = _inputs_for(oracle, run), run.case.subject.negate
    return floors_of(oracle, inputs, path, runs=noise_runs, rates=run.case.rates, negate=negate)


def _inputs_for(oracle: Oracle, run: Run) -> Inputs:
    if not oracle.as_seen:
        return run.inputs
    return dataclasses.replace(run.inputs, grads=tuple(run.observed.record.seen))


def local_differences(run: Run, matches: Sequence[Match]) -> list[Difference] | None:
    """Every step judged alone: the reference takes one step from the target's own state and weights.

    What parts here is a fault of that step; what parts only in the free run had accumulated. None if a tensor of the
    rule's state has no partner in the target's, so that the reference cannot be put there.
    """
    subject, observed = run.case.subject, run.observed
    oracle = Oracle(run.case.rule)
    found = []
    for number in range(1, run.case.steps + 1):
        weights = observed.record.weights[number - 1]
        likes = observed.path.states[number - 2] if number > 1 else oracle.init(weights)
        states = []
        for parameter, like in enumerate(likes):
            entries = observed.record.states[number - 2][parameter] if number > 1 else {}
            own = rule_state(matches, entries, like) if number > 1 else like
            if own is None:
                return None
            states.append(own)
        grads = run.inputs.grads[number - 1]
        given = tuple(-grad for grad in grads) if subject.negate else grads
        rate = run.case.rates[number - 1] if run.case.rates else None
        displacements, after = oracle.update(given, states, weights, lr=rate)
        found.extend(_step_differences(run, matches, number, displacements, after))
    return found


def _step_differences(
    run: Run, matches: Sequence[Match], number: int, displacements: Sequence[torch.Tensor], after: Sequence[State]
) -> list[Difference]:
    observed, scale = run.observed, run.roundoff / UNIT
    found = []
    for parameter, expected in enumerate(displacements):
        got = observed.record.displacements[number - 1][parameter]
        floor = observed.floors.of(number, parameter, DISPLACEMENT) * scale
        found.append(difference(got, expected, floor, step=number, tensor=DISPLACEMENT, parameter=parameter))
        entries = observed.record.states[number - 1][parameter]
        for name, value in arrays(after[parameter]):
            match = next((match for match in matches if match.rule == name), None)
            if match is None or match.target not in entries:
                continue
            own = as_rule(entries[match.target], value)
            factor = match.factor or 1.0
            if own is not None:
                own, value = up_to_gauge(run.case.rule, name, own, value)
                floor = 2 * abs(factor) * observed.floors.of(number, parameter, name) * scale
                tensor = f"state {match.target}"
                found.append(difference(own, factor * value, floor, step=number, tensor=tensor, parameter=parameter))
    return found


def worst(differences: Sequence[Difference]) -> Difference | None:
    """The largest difference in units."""
    return max(differences, key=lambda each: each.units, default=None)


def first_parting(differences: Sequence[Difference], limit: float) -> Difference | None:
    """The first difference beyond ``limit`` units: the displacement's, if a state tensor parts at the same step."""
    parting = [each for each in differences if each.units > limit]
    return min(parting, key=lambda each: (each.step, each.tensor != DISPLACEMENT, -each.units), default=None)
