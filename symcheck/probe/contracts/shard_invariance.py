"""`shard_invariance`: stepping a sharded parameter is stepping the parameter, and sharding what comes out.

Run on real groups of processes (gloo) with ``DTensor`` parameters on the CPU. That takes seconds, so a survey leaves it
out: ask for it by name (``--property shard_invariance``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from symcheck.probe.contracts.agreement import apart, threshold
from symcheck.probe.contracts.outcome import Outcome, Setting
from symcheck.probe.contracts.processes import Answer, Task, run_sharded
from symcheck.probe.trajectory import CandidateError, run
from symcheck.result import Evidence, Verdict

WORLDS = (2, 4)
STEPS = 3
TIME_LIMIT = 120.0
"""Seconds for one group of processes, all of its cases together."""

_CASES: tuple[tuple[str, int, tuple[int, ...]], ...] = (
    ("rows", 0, (8, 6)),
    ("rows", 0, (6, 4)),
    ("columns", 1, (6, 8)),
    ("columns", 1, (4, 6)),
    ("experts", 0, (4, 6, 4)),
)
"""What is sharded, its axis, the shape: with shards of equal size and without."""


@dataclass(frozen=True)
class Sharded:
    """One case: the defect relative to the update and whether it is more than rounding, or why it was not run."""

    axis: str
    shape: tuple[int, ...]
    processes: int
    defect: float = 0.0
    broken: bool = False
    """Whether the sharded step is another one."""
    refusal: str = ""


def shard_invariance(setting: Setting) -> Outcome:
    """Compare steps sharded by rows, columns and experts over 2 and 4 processes with those of the whole parameter."""
    if not setting.nature.reproducible or setting.nature.seed_dependent:
        return Outcome(Verdict.DECLINED, "its update is random: a sharded run cannot be compared with a whole one")
    cases = shard_cases(setting)
    ran = [case for case in cases if not case.refusal]
    evidence = Evidence(
        examples=len(ran),
        steps=STEPS,
        defect=max((case.defect for case in ran), default=None),
        shapes=tuple(dict.fromkeys(case.shape for case in ran)),
    )
    broken = [case for case in ran if case.broken]
    if broken:
        return Outcome(Verdict.REFUTED, _reason(broken, ran), evidence=evidence)
    refusals = _grouped([case for case in cases if case.refusal])
    if not ran:
        return Outcome(Verdict.DECLINED, "; ".join(refusals) or "no case could be run")
    kept = ", ".join(dict.fromkeys(case.axis for case in ran))
    counts = " and ".join(str(world) for world in WORLDS)
    return Outcome(
        Verdict.SUPPORTED,
        conditions=(f"sharded by {kept} over {counts} processes", *(f"not run: {text}" for text in refusals)),
        evidence=evidence,
    )


def shard_cases(setting: Setting, worlds: Sequence[int] = WORLDS) -> list[Sharded]:
    """Every case, with its defect or its refusal."""
    prepared = []
    found = []
    for axis, dim, shape in _CASES:
        inputs = setting.draw("generic", (shape,), STEPS)
        try:
            whole = run(setting.candidate, inputs, setting.nature.arithmetic, seed=setting.seed)
            limit = threshold(setting, setting.candidate, inputs, whole)
        except CandidateError as error:
            found.append(Sharded(axis, shape, 1, refusal=str(error)))
            continue
        prepared.append((axis, dim, shape, inputs, whole, limit))
    for world in worlds:
        tasks = [Task(inputs, dim) for _, dim, _, inputs, _, _ in prepared]
        answers = _run(setting, tasks, world)
        for (axis, _, shape, inputs, whole, limit), answer in zip(prepared, answers, strict=True):
            if answer.displacements is None:
                found.append(Sharded(axis, shape, world, refusal=_refusal(answer.error)))
            else:
                defect = apart(setting, inputs, answer.displacements, whole)
                found.append(Sharded(axis, shape, world, defect.value, defect.ratio > limit))
    return found


def _run(setting: Setting, tasks: Sequence[Task], world: int) -> list[Answer]:
    return run_sharded(
        setting.candidate,
        tasks,
        processes=world,
        arithmetic=setting.nature.arithmetic,
        seed=setting.seed,
        time_limit=TIME_LIMIT,
    )


def _refusal(error: str) -> str:
    """Why a sharded parameter was not stepped, with the operation that has no sharded form where there is one."""
    operation = re.search(r"aten[.:]+[A-Za-z0-9_.]+", error)
    where = f" at {operation.group(0).rstrip('.')}" if operation else ""
    return f"refuses DTensor{where}: {error}"


def _reason(broken: Sequence[Sharded], ran: Sequence[Sharded]) -> str:
    worst = max(broken, key=lambda case: case.defect)
    where = " and ".join(dict.fromkeys(case.axis for case in broken))
    sound = [axis for axis in dict.fromkeys(case.axis for case in ran) if axis not in {case.axis for case in broken}]
    shape = "x".join(map(str, worst.shape))
    return (
        f"sharded by {where} the step is another one: {worst.defect:.2g} of the update for {shape} over "
        f"{worst.processes} processes" + (f"; sharded by {' and '.join(sound)} it is the same" if sound else "")
    )


def _grouped(refused: Sequence[Sharded]) -> list[str]:
    """One line for every different refusal, with the axes that it is about, cut to a readable length."""
    axes: dict[str, list[str]] = {}
    for case in refused:
        axes.setdefault(case.refusal, []).append(case.axis)
    lines = [f"sharded by {', '.join(dict.fromkeys(which))}: {text}" for text, which in axes.items()]
    return [line if len(line) <= 240 else line[:237] + "..." for line in lines]
