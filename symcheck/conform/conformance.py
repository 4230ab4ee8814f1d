"""The comparison of one target with one rule, from the hyper-parameters to the cause of a departure."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from reference.rule import Rule
from symcheck.conform.cases import SHAPES, Case, Subject, plan
from symcheck.conform.compare import Refusal, Run, first_parting, local_differences, run_case, worst
from symcheck.conform.diagnose import Diagnosis, diagnose
from symcheck.conform.hyper import Mapped, Row, map_hyper, values_of
from symcheck.conform.known import known_reason
from symcheck.conform.measure import DISPLACEMENT, Difference
from symcheck.conform.oracle import Shape
from symcheck.conform.states import Match, match_states
from symcheck.errors import CandidateFault, UsageError
from symcheck.probe.measure import VISIBLE
from symcheck.probe.names import BUDGETS
from symcheck.probe.nature import observe
from symcheck.probe.strata import draw_inputs
from symcheck.probe.trajectory import CandidateError, CandidateLike
from symcheck.result import ORDINARY

NOISE_RUNS = 3
FLAGS = ("foreach", "fused", "capturable", "differentiable", "maximize")
"""Options that choose a code path; each is tried alone where the constructor has it."""
_PAIR_SECONDS: Mapping[str, float] = {"quick": 30.0, "ci": 120.0, "full": 900.0}


@dataclass(frozen=True)
class Precision:
    """The largest error with parameters of one dtype, as the code runs; ``casts`` are lower precisions inside.

    ``exact``: in float64 with those casts undone, which shows the formula alone.
    """

    dtype: str
    exact: bool
    cases: int
    units: float
    relative: float
    roundoff: float
    casts: tuple[str, ...]
    where: str
    stable: bool


@dataclass(frozen=True)
class Departure:
    """The first place where target and reference part, in the simplest case in which they do.

    ``states`` are the matched state tensors that part by then, with the step; ``agreeing`` those that do not. ``local``
    says whether one step from the target's own state parts too: True (a fault of that step), False (accumulated), or
    None if the reference cannot be put into the target's state.
    """

    case: str
    difference: Difference
    limit: float
    states: tuple[Difference, ...]
    agreeing: tuple[str, ...]
    local: bool | None
    local_steps: tuple[int, ...]
    parting: int
    compared: int
    configurations: tuple[str, ...]


@dataclass(frozen=True)
class Conformance:
    """What a comparison found."""

    target: str
    config: Mapping[str, object]
    rule: str
    rows: tuple[Row, ...]
    unmapped: Mapping[str, Any]
    states: tuple[Match, ...]
    worst_states: Mapping[str, float]
    cases: int
    refused: Mapping[str, tuple[str, ...]]
    precision: tuple[Precision, ...]
    departure: Departure | None
    diagnosis: Diagnosis | None
    declined: str = ""
    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Departures that are expected (see `known`), each with the cases that show it."""
    overwrites: int | None = None
    """The first step that overwrote a gradient it was given."""
    notes: tuple[str, ...] = field(default=())

    @property
    def verdict(self) -> str:
        """``conforms``, ``departs`` or ``declined``."""
        if self.departure is not None:
            return "departs"
        return "declined" if self.declined else "conforms"

    @property
    def exit_code(self) -> int:
        """0 conforms, 1 departs, 3 declined."""
        return {"conforms": 0, "departs": 1, "declined": 3}[self.verdict]


@dataclass(frozen=True)
class Options:
    """How to compare; shapes None: those of `cases.SHAPES`, steps None: those of the budget."""

    against: Mapping[str, object] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ("float64", "float32", "bfloat16")
    shapes: tuple[Shape, ...] | None = None
    steps: int | None = None
    budget: str = "quick"
    seed: int = 0


Maker = Callable[[Mapping[str, object]], CandidateLike]
"""From constructor arguments beside the configured ones to a candidate."""


def conform(
    make: Maker,
    rule: str,
    options: Options | None = None,
    *,
    name: str = "target",
    config: Mapping[str, object] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Conformance:
    """Compare what ``make({})`` builds with the rule named ``rule``, step by step.

    ``arguments`` are the options of the constructor with their defaults; those that choose a code path or switch a part
    of the formula are tried too. ``config`` is what the target was asked to be built with.

    Raises:
        UsageError: unknown rule or hyper-parameter.
    """
    options = options or Options()
    return _Comparison(make, rule, options, name, dict(config or {}), dict(arguments or {})).result()


class _Comparison:
    def __init__(
        self,
        make: Maker,
        rule: str,
        options: Options,
        name: str,
        config: dict[str, object],
        arguments: dict[str, Any],
    ) -> None:
        self.make, self.rule, self.options = make, rule, options
        self.name, self.config, self.arguments = name, config, arguments
        self.shapes = options.shapes or SHAPES
        self.budget = BUDGETS[options.budget]
        self.refused: dict[str, list[str]] = {}

    # -- the parts of the answer -------------------------------------------------------------------------------------

    def result(self) -> Conformance:
        """The whole comparison."""
        candidate = self.make({})
        values, shape, trouble = self._values(candidate)
        mapped = map_hyper(self.rule, values, self.options.against)
        if shape is None:
            return self._declined(mapped, trouble)
        try:
            subjects = [self._subject("", {}, mapped), *self._configured(mapped, values)]
        except CandidateError as error:
            return self._declined(mapped, str(error))
        nature = subjects[0].nature
        if nature.seed_dependent or not nature.reproducible:
            return self._declined(mapped, "its update is random; there is no trajectory to compare with the rule's")
        runs = self._run(subjects)
        exact = [run for run in runs if not run.case.native]
        if not exact:
            return self._declined(mapped, next(iter(self.refused), "no case could be compared"))
        if not any(each.determined and each.size > 0 for run in exact for each in run.displacements()):
            return self._declined(mapped, "the update of the rule is zero or rounding everywhere: nothing to compare")
        default = [
            run.observed
            for run in exact
            if not run.case.subject.label and not run.case.keep and not known_reason(self.name, self.rule, run.case)
        ]
        matches = match_states(subjects[0].rule, default)
        parting = [run for run in runs if self._parts(run, matches)]
        expected: dict[str, list[str]] = {}
        for run in parting:
            if reason := known_reason(self.name, self.rule, run.case):
                expected.setdefault(reason, []).append(run.case.text)
        parting = [run for run in parting if not known_reason(self.name, self.rule, run.case)]
        departure = self._departure(parting, runs, matches) if parting else None
        return Conformance(
            target=self.name,
            config=self.config,
            rule=self.rule,
            rows=mapped.rows,
            unmapped=mapped.unmapped,
            states=tuple(matches),
            worst_states=_worst_states([run for run in exact if not run.case.subject.label], matches),
            cases=len(runs),
            refused={text: tuple(where) for text, where in self.refused.items()},
            precision=tuple(self._precision(runs)),
            departure=departure,
            diagnosis=self._diagnosis(parting, runs, matches) if parting else None,
            known={reason: tuple(where) for reason, where in expected.items()},
            overwrites=_first_overwritten(runs),
            notes=nature.notes,
        )

    def _declined(self, mapped: Mapped, why: str) -> Conformance:
        refused = {text: tuple(where) for text, where in self.refused.items()}
        return Conformance(
            self.name, self.config, self.rule, mapped.rows, mapped.unmapped, (), {}, 0, refused, (), None, None, why
        )

    # -- configurations ----------------------------------------------------------------------------------------------

    def _values(self, candidate: CandidateLike) -> tuple[dict[str, Any], Shape | None, str]:
        """The hyper-parameters that the target uses, the first shape that it takes, and why it takes none."""
        trouble = ""
        values = {**self.arguments, **self.config}
        for shape in self.shapes:
            try:
                optimizer = candidate.make([torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64))])
            except Exception as error:
                trouble = trouble or f"its constructor raised {type(error).__name__}: {error}"
                continue
            values = values_of(optimizer, values)
            try:
                observe(candidate, _probe_inputs(shape))
                return values, shape, ""
            except CandidateError as error:
                trouble = trouble or str(error)
                if error.needs_closure:
                    trouble = "step() needs a closure: its update depends on a loss function, not on given gradients"
        return values, None, trouble

    def _subject(self, label: str, settings: Mapping[str, object], mapped: Mapped, **kind: bool) -> Subject:
        candidate = self.make(settings)
        error: CandidateError | None = None
        for shape in self.shapes:
            try:
                return Subject(label, candidate, mapped.rule, observe(candidate, _probe_inputs(shape)), **kind)
            except CandidateError as trouble:
                error = error or trouble
        assert error is not None  # there is a shape
        raise error

    def _configured(self, mapped: Mapped, values: Mapping[str, Any]) -> list[Subject]:
        """The target with every switch of its constructor that the rule knows of, or that chooses a code path."""
        subjects = []
        for label, settings, kind in self._switches(mapped, values):
            try:
                optimizer = self.make(settings).make([torch.nn.Parameter(torch.zeros(self._some_shape()))])
                again = map_hyper(self.rule, values_of(optimizer, {**values, **settings}), self.options.against)
                subjects.append(self._subject(label, settings, again, **kind))
            except (CandidateError, CandidateFault, UsageError) as error:
                self.refused.setdefault(str(error), []).append(label)
            except Exception as error:
                self.refused.setdefault(f"{type(error).__name__}: {error}", []).append(label)
        return subjects

    def _some_shape(self) -> Shape:
        return next((shape for shape in self.shapes if len(shape) == 2), self.shapes[0])

    def _switches(
        self, mapped: Mapped, values: Mapping[str, Any]
    ) -> list[tuple[str, dict[str, object], dict[str, bool]]]:
        found: list[tuple[str, dict[str, object], dict[str, bool]]] = []
        flags = [flag for flag in FLAGS if flag in self.arguments and not values.get(flag)]
        found += [(f"{flag}=True", {flag: True}, {"negate": flag == "maximize"}) for flag in flags]
        origins = {row.field: row.origin for row in mapped.rows if row.origin in self.arguments}
        moving: dict[str, object] = {}
        if "momentum" in origins and not mapped.rule.momentum:  # type: ignore[attr-defined]
            moving = {origins["momentum"]: 0.9}
            found.append((f"{origins['momentum']}=0.9", moving, {}))
        for field_name, origin in origins.items():
            value = getattr(mapped.rule, field_name)
            if field_name == "weight_decay" and not value:
                found.append((f"{origin}=0.1", {origin: 0.1}, {}))
            elif isinstance(value, bool):
                extra = moving if field_name == "nesterov" else {}
                found.append((f"{origin}={not value}", {origin: not value, **extra}, {}))
            elif isinstance(value, str):
                others = [option for option in _options(mapped.rule, field_name) if option != value]
                found += [(f"{origin}={option!r}", {origin: option}, {}) for option in others]
        if "lr" in values:
            found.append(("lr halved after step 2", {}, {"halves": True}))
        return found

    # -- running -----------------------------------------------------------------------------------------------------

    def _run(self, subjects: Sequence[Subject]) -> list[Run]:
        cases = plan(subjects, self.shapes, self.options.dtypes, self.budget, self.options.steps, self.options.seed)
        runs = []
        for case in cases:
            outcome = run_case(case, noise_runs=NOISE_RUNS)
            if isinstance(outcome, Refusal):
                self.refused.setdefault(outcome.text, []).append(case.text)
            else:
                runs.append(outcome)
        return runs

    def _parts(self, run: Run, matches: Sequence[Match]) -> bool:
        """Whether a run is another formula: beyond the margin in exact terms, or, in the target's own precision, so far
        off on ordinary gradients that no rounding explains it. There a state tensor counts as well, if it is the rule's
        in exact terms."""
        beyond = [each for each in run.displacements() if each.units > run.limit]
        if not run.case.native:
            return bool(beyond)
        if run.case.stratum != ORDINARY:
            return False
        states = run.states([match for match in matches if match.factor is not None])
        beyond += [each for each in states if each.units > run.limit]
        return any(each.relative > VISIBLE for each in beyond)

    def _precision(self, runs: Sequence[Run]) -> list[Precision]:
        """One row for the formula, one for every dtype."""
        judged = [run for run in runs if not known_reason(self.name, self.rule, run.case)]
        kinds = [("float64", True), *((dtype, False) for dtype in self.options.dtypes)]
        groups = [
            (d, exact, [r for r in judged if (r.case.dtype, not r.case.native) == (d, exact)]) for d, exact in kinds
        ]
        return [_row(dtype, exact, chosen) for dtype, exact, chosen in groups if chosen]

    # -- a departure -------------------------------------------------------------------------------------------------

    def _departure(self, parting: Sequence[Run], runs: Sequence[Run], matches: Sequence[Match]) -> Departure:
        run = parting[0]
        states = run.states(matches)
        shown = first_parting([*run.displacements(), *states], run.limit)
        assert shown is not None  # the run parts
        apart = [each for each in states if each.units > run.limit and each.step <= shown.step]
        first_of: dict[str, Difference] = {}
        for each in apart:
            first_of.setdefault(each.tensor, each)
        names = {each.tensor for each in states}
        alone = local_differences(run, matches)
        local_steps = sorted({each.step for each in alone or () if each.units > run.limit})
        return Departure(
            case=run.case.text,
            difference=shown,
            limit=run.limit,
            states=tuple(first_of.values()),
            agreeing=tuple(sorted(names - set(first_of))),
            local=None if alone is None else bool(local_steps),
            local_steps=tuple(local_steps),
            parting=len(parting),
            compared=len(runs),
            configurations=tuple(dict.fromkeys(_configuration(run.case) for run in parting)),
        )

    def _diagnosis(self, parting: Sequence[Run], runs: Sequence[Run], matches: Sequence[Match]) -> Diagnosis:
        chosen = _spread(parting, 8)
        # A fault of one code path is none of the others: only runs of the same configurations have to go on conforming.
        where = {_configuration(run.case) for run in parting}
        conforming = [run for run in runs if run not in parting and _configuration(run.case) in where]
        fresh = []
        for run in _spread(parting, 2):
            case = dataclasses.replace(run.case, seed=run.case.seed + 1)
            outcome = run_case(case, noise_runs=NOISE_RUNS)
            if isinstance(outcome, Run):
                fresh.append(outcome)
        seconds = _PAIR_SECONDS[self.options.budget]
        return diagnose(chosen, _spread(conforming, 4), fresh, matches, noise_runs=NOISE_RUNS, seconds=seconds)


def _row(dtype: str, exact: bool, runs: Sequence[Run]) -> Precision:
    found = [(most, run) for run in runs if (most := worst(run.displacements())) is not None]
    most, run = max(found, key=lambda item: item[0].units)
    return Precision(
        dtype=dtype,
        exact=exact,
        cases=len(runs),
        units=most.units,
        relative=most.relative,
        roundoff=max(run.roundoff for run in runs),
        casts=tuple(sorted({cast for run in runs for cast in run.casts})),
        where=run.case.text,
        stable=all(each.units <= one.limit for each, one in found),
    )


def _probe_inputs(shape: Shape) -> Any:
    flat = (1,) * (2 - len(shape)) + tuple(shape)
    drawn = draw_inputs(ORDINARY, (flat,), 3, centre=False, seed=0)
    return drawn.map(lambda tensor: tensor.reshape(shape))


def _options(rule: Rule, field_name: str) -> list[str]:
    choices = typing.get_args(typing.get_type_hints(type(rule)).get(field_name))
    return [choice for choice in choices if isinstance(choice, str)]


def _configuration(case: Case) -> str:
    parts = [case.subject.label or "default", *([case.dtype] if case.dtype != "float64" else [])]
    if case.keep:
        parts.append("gradients kept between steps")
    return ", ".join(parts)


def _spread(runs: Sequence[Run], count: int) -> list[Run]:
    """Some of the runs, of as many configurations, shapes and strata as possible; the first is always among them."""
    chosen: list[Run] = []
    seen: set[object] = set()
    for key in (
        lambda run: run.case.subject.label,
        lambda run: (run.case.keep, len(run.case.shapes)),
        lambda run: run.case.shapes,
        lambda run: run.case.stratum,
        id,
    ):
        for run in runs:
            mark = (key, key(run))
            if len(chosen) < count and mark not in seen and run not in chosen:
                chosen.append(run)
            seen.add(mark)
    return chosen


def _first_overwritten(runs: Sequence[Run]) -> int | None:
    return min((run.observed.record.overwritten for run in runs if run.observed.record.overwritten), default=None)


def _worst_states(runs: Sequence[Run], matches: Sequence[Match]) -> dict[str, float]:
    """The largest error of every matched state tensor, in units."""
    found: dict[str, float] = {}
    for run in runs:
        for each in run.states(matches):
            name = each.tensor.removeprefix("state ")
            found[name] = max(found.get(name, 0.0), each.units)
    return found


__all__ = ["DISPLACEMENT", "Conformance", "Departure", "Options", "Precision", "conform"]
