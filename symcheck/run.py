"""The main job: targets and questions in, a report out. Verdicts never raise; a request that makes no sense does."""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from symcheck import isolate
from symcheck.errors import UsageError, one_line, unknown
from symcheck.limits import MAX_SECONDS, MAX_SEED
from symcheck.report import Report
from symcheck.result import Result, Verdict
from symcheck.target import Candidate, Target, is_optimizer_class, locate_in_file, locate_in_module, object_name

if TYPE_CHECKING:
    from symcheck.probe.names import Question

TIME_LIMITS: Mapping[str, float] = {"quick": 300.0, "ci": 1200.0, "full": 7200.0}
"""Seconds that one candidate may take in all, by budget."""

DTYPES = ("float64", "float32", "bfloat16", "float16")


class Listener(Protocol):
    """Hears how a run goes; ``done`` counts the finished candidates out of ``total``."""

    def __call__(self, *, done: int, total: int, target: str, results: Sequence[Result]) -> None:
        """Candidate ``target`` is finished with ``results``."""


@dataclass(frozen=True)
class _Task:
    """One candidate and its questions."""

    target: Target
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class _Loaded:
    """The first thing that a worker says: the constructor arguments it really used."""

    config: Mapping[str, object]


@dataclass(frozen=True)
class Request:
    """What to ask of every target; None means all that apply. ``time_limit`` is in seconds per candidate."""

    blocks: tuple[str, ...] | None = None
    properties: tuple[str, ...] | None = None
    action: str | None = None
    dtypes: tuple[str, ...] = DTYPES[:3]
    budget: str = "quick"
    seed: int = 0
    time_limit: float | None = None

    def __post_init__(self) -> None:
        for dtype in self.dtypes:
            if dtype not in DTYPES:
                raise unknown("dtype", dtype, DTYPES)
        if str(self.budget) not in TIME_LIMITS:
            raise unknown("budget", str(self.budget), TIME_LIMITS)
        if type(self.seed) is not int or not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"seed {self.seed!r}: expected an integer from 0 to {MAX_SEED}")
        if not isinstance(self.action, str | None):
            raise UsageError(f"action {self.action!r}: expected a text such as 'O(rows) x O(cols)'")
        limit = self.time_limit
        if limit is not None and not (isinstance(limit, int | float) and 0 < limit <= MAX_SECONDS):
            raise UsageError(f"time limit {limit!r}: expected seconds, above 0 and at most {MAX_SECONDS:.0f}")

    @property
    def seconds(self) -> float:
        """The time limit of a candidate: what was asked for, else that of the budget."""
        return TIME_LIMITS[self.budget] if self.time_limit is None else self.time_limit

    @property
    def narrow(self) -> bool:
        """Whether a block, property or action was asked for by name: then a refutation is a failure."""
        return not (self.blocks is None and self.properties is None and self.action is None)


def certify(
    *targets: object,
    block: str | Sequence[str] | None = None,
    property: str | Sequence[str] | None = None,
    action: str | None = None,
    dtype: str | Sequence[str] = Request.dtypes,
    budget: str = Request.budget,
    seed: int = 0,
    time_limit: float | None = None,
    **settings: object,
) -> Report:
    """Certify optimizers; without ``targets`` all reference rules and torch.optim.

    A target is an optimizer class, a factory ``params -> Optimizer``, or a string of the command line
    (``"torch.optim.AdamW"``, ``"pkg.mod:Name"``, ``"path/file.py:Name"``, ``"rule:row_norm"``, a registered name).
    ``settings`` are constructor arguments. ``block``, ``property`` and ``dtype`` take one name or several; ``action``
    replaces the blocks' own action by a spec such as ``"O(rows) x O(cols)"``. ``time_limit`` is in seconds per
    candidate. Each candidate runs in a process of its own.

    Returns a :class:`Report` whatever the candidates do. Raises UsageError (a ValueError) for an unknown name, an
    unreadable target, or something that is not an optimizer.
    """
    names = _names("block", block), _names("property", property)
    request = Request(*names, action, _names("dtype", dtype) or (), budget, seed, time_limit)
    return run(targets, settings, request)


def run(
    targets: Sequence[object], settings: Mapping[str, object], request: Request, listener: Listener | None = None
) -> Report:
    """Carry out ``request`` on every target (none: see :func:`resolve`); errors as in :func:`certify`."""
    return answer(resolve(targets, settings), request, named=bool(targets), listener=listener)


def answer(
    targets: Sequence[Target], request: Request, *, named: bool = True, listener: Listener | None = None
) -> Report:
    """The same for resolved targets; ``named``: somebody chose them, so that each should give an answer."""
    tasks = _tasks(targets, request)
    report = Report(environment=environment(request), asked=request.narrow, named=named)
    _carry_out(tasks, request, report, listener)
    return report


def resolve(targets: Sequence[object], settings: Mapping[str, object]) -> tuple[Target, ...]:
    """The targets meant; none: those of ``[tool.symcheck]`` in this folder's pyproject.toml, else the built-in ones.

    Nothing of a candidate is imported or run, except for registered plugins.
    """
    from symcheck.builtin import builtin_targets
    from symcheck.registry import project_targets

    if targets:
        return tuple(found for target in targets for found in resolve_one(target, settings))
    if settings:
        raise UsageError("constructor arguments (--set) need a TARGET")
    if entries := project_targets(Path("pyproject.toml")):
        return tuple(found for entry in entries for found in _resolve_entry(entry))
    return builtin_targets()


def resolve_one(target: object, settings: Mapping[str, object]) -> tuple[Target, ...]:
    """The configurations that one target stands for (several only for registered optimizers)."""
    from symcheck import builtin, registry

    if not isinstance(target, str):
        return (_in_memory(target, settings),)
    if target.startswith("rule:"):
        return (builtin.rule_target(target.removeprefix("rule:"), settings),)
    if (found := registry.find(target)) is not None:
        return tuple(dataclasses.replace(one, settings={**one.settings, **settings}) for one in found)
    path, colon, name = target.rpartition(":")
    if path.endswith(".py") or "/" in path:
        return (Target(target, locate_in_file(Path(path), name), settings),)
    if target.endswith(".py"):
        raise UsageError(f"{target}: which optimizer? write {target}:NAME")
    if not colon:
        path, _, name = target.rpartition(".")
    if not all(part.isidentifier() for part in (*path.split("."), *name.split("."))):
        raise UsageError(f"{target!r} is not a target; write torch.optim.Name, pkg.mod:Name, file.py:Name or rule:name")
    if path == "torch.optim":
        return (dataclasses.replace(builtin.torch_target(name, settings), name=target),)
    return (Target(target, locate_in_module(path, name), settings),)


def _resolve_entry(entry: Any) -> Iterator[Target]:
    from symcheck.claims import Claim, check_blocks, parse_claims

    check_blocks(entry.blocks)
    claims = parse_claims(entry.claims)
    for target in resolve_one(entry.target, entry.settings):
        base = target.claim or Claim()
        merged = dataclasses.replace(base, expectations={**base.expectations, **claims})
        yield dataclasses.replace(target, claim=merged, blocks=entry.blocks or target.blocks)


def _in_memory(thing: object, settings: Mapping[str, object]) -> Target:
    from symcheck import builtin

    if not callable(thing) or (isinstance(thing, type) and not is_optimizer_class(thing)):
        raise UsageError(
            f"{one_line(repr(thing))} is not an optimizer: expected an Optimizer class, a factory or a target string"
        )
    factory = thing
    name = object_name(thing)
    claim = builtin.torch_claim(name.rpartition(".")[2], settings) if name.startswith("torch.optim.") else None
    return Target(name, lambda: factory, settings, claim)


def _names(kind: str, value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, Iterable | None) or not all(isinstance(name, str) for name in names or ()):
        raise UsageError(f"{kind} {value!r}: expected a name or a list of names")
    return tuple(names or ()) or None


def _tasks(targets: Sequence[Target], request: Request) -> list[_Task]:
    from groups import BLOCKS
    from symcheck.claims import check_blocks
    from symcheck.probe.names import ALL, CONTRACTS, PROPERTIES, plan

    blocks, properties, action = request.blocks, request.properties, request.action
    check_blocks(blocks or ())
    for name in properties or ():
        if name not in PROPERTIES and name not in CONTRACTS:
            raise unknown("property", name, [*PROPERTIES, *CONTRACTS])
    narrow = blocks is not None or action is not None
    if action is not None:
        blocks = _fitting(action, blocks)
    tasks = []
    for target in targets:
        try:
            questions = plan(blocks or target.blocks or tuple(BLOCKS), properties, action)
        except ValueError as error:
            raise UsageError(str(error)) from None
        # A question about one block is not about the contracts: those belong to a survey, or are asked for by name.
        tasks.append(_Task(target, tuple(q for q in questions if q.block != ALL or properties or not narrow)))
    return tasks


def _fitting(spec: str, blocks: Sequence[str] | None) -> tuple[str, ...]:
    """The blocks to try ``spec`` on: those asked for, which must have fitting shapes, else the first that has."""
    from groups import BLOCKS, JOINT_BLOCKS, get_block, parse_action

    try:
        action = parse_action(spec)
    except ValueError as error:
        raise UsageError(f"--action {spec!r}: {error}") from None
    misfit = ValueError("fits no block")
    fitting = []
    for name in blocks or (*BLOCKS, *JOINT_BLOCKS):
        try:
            for shapes in get_block(name).shapes:
                action.check(shapes)
            fitting.append(name)
        except ValueError as error:
            if blocks is not None:
                raise UsageError(f"--action {spec!r} on block {name!r}: {error}") from None
            misfit = error
    if not fitting:
        raise UsageError(f"--action {spec!r}: fits the shapes of no block: {misfit}")
    return tuple(fitting) if blocks is not None else (fitting[0],)


def _stream(task: _Task, request: Request) -> Iterator[object]:
    """What a worker does; runs in the child."""
    from symcheck.decide import decide

    candidate: Candidate = task.target.load()
    yield _Loaded(candidate.config)
    yield from decide(candidate, task.questions, budget=request.budget, dtypes=request.dtypes, seed=request.seed)


def _carry_out(tasks: Sequence[_Task], request: Request, report: Report, listener: Listener | None) -> None:
    _warm_up()
    jobs = [isolate.Job(functools.partial(_stream, task, request), request.seconds) for task in tasks]
    answers: list[list[Result]] = [[] for _ in tasks]
    configs = [dict(task.target.settings) for task in tasks]
    endings: dict[int, isolate.Ended] = {}
    events = isolate.run(jobs, workers=max(1, min(os.cpu_count() or 1, len(jobs))))
    try:
        for event in events:
            if isinstance(event, isolate.Ended):
                if event.end == "unusable":
                    raise UsageError(event.text)
                endings[event.job] = event
                answers[event.job] = _complete(tasks[event.job], answers[event.job], configs[event.job], event)
                if listener is not None:
                    name, results = tasks[event.job].target.name, answers[event.job]
                    listener(done=len(endings), total=len(tasks), target=name, results=results)
            elif isinstance(event.value, _Loaded):
                configs[event.job] = dict(event.value.config)
            else:
                answers[event.job].append(event.value)
    except KeyboardInterrupt:
        report.interrupted = True
        for number, task in enumerate(tasks):
            answers[number] = _complete(task, answers[number], configs[number], endings.get(number))
    finally:
        events.close()  # type: ignore[attr-defined]
    report.failures.extend(ended.details or ended.text for ended in endings.values() if ended.end == "internal")
    report.results.extend(result for results in answers for result in results)


@isolate.interrupts_wait()
def _warm_up() -> None:
    """Import here, once, what every forked child would otherwise import for itself."""
    import torch

    from symcheck.decide import decide  # noqa: F401

    # The first optimizer of a process makes torch import its compiler (seconds).
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.0)


def _complete(
    task: _Task, answers: Sequence[Result], config: Mapping[str, object], ended: isolate.Ended | None
) -> list[Result]:
    """One result per question: the answers, then what kept the rest from being answered."""
    from symcheck.target import plain

    results = []
    for number, question in enumerate(task.questions):
        if number < len(answers):
            result = answers[number]
        else:
            verdict, reason = Verdict.ERROR, "no answer"
            if ended is None:
                verdict, reason = Verdict.DECLINED, "interrupted before it was answered"
            elif ended.text:
                reason = ended.text
            result = Result(
                target=task.target.name,
                config={key: plain(value) for key, value in config.items()},
                block=question.block,
                property=question.property,
                action=question.action,
                verdict=verdict,
                reason=reason,
            )
        claim = task.target.claim
        # Claims are about the blocks' own actions; another action is a question that nobody made a claim on.
        expectation = claim.expectation(question.block, question.property) if claim and _is_own(question) else None
        results.append(dataclasses.replace(result, expected=expectation.verdict.value if expectation else None))
    return results


def _is_own(question: Question) -> bool:
    from groups import get_block
    from symcheck.probe.names import ALL

    return question.block == ALL or question.action == str(get_block(question.block).action)


def environment(request: Request) -> dict[str, object]:
    """What a reader needs to know to repeat a run."""
    import torch

    from symcheck import __version__

    return {
        "symcheck": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "device": "cpu",
        "seed": request.seed,
        "budget": request.budget,
        "dtypes": list(request.dtypes),
    }


def assert_equivariant(
    target: object,
    block: str | Sequence[str] | None = None,
    *,
    action: str | None = None,
    budget: str = "quick",
    seed: int = 0,
    **settings: object,
) -> None:
    """AssertionError unless ``target`` is equivariant on ``block`` (default: every block of the table).

    The message shows every question that was not answered "proved" or "supported". For a test suite.
    """
    request = Request(_names("block", block), ("equivariance",), action, budget=budget, seed=seed)
    report = run((target,), settings, request)
    wrong = [result for result in report.results if result.verdict not in (Verdict.PROVED, Verdict.SUPPORTED)]
    if wrong:
        raise AssertionError("\n".join(report.describe(result) for result in wrong))
