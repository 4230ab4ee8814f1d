"""Runs the plan, one run after the other in this process, until it is finished, time is up or a signal arrives.

Nothing is lost at any moment. A record is written at once when its run ends; a run that is told to stop leaves a
checkpoint, and one that is killed has its last periodic one; the plan itself is computed anew from the records each
time, so there is no other state. One queue works in a folder at a time.
"""

from __future__ import annotations

import fcntl
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from paper_repro.planning.plan import Job
from paper_repro.records import RunInterrupted, RunRecord, RunSpec

Ending = Literal["finished", "time", "signal", "waiting"]
Stop = Callable[[], bool]

LOCK = ".queue.lock"


@dataclass(frozen=True)
class Summary:
    """How a queue ended, and the records it added, in order.

    ``waiting``: jobs are left that no run can start, because the trials of their learning rates all diverged.
    """

    ending: Ending
    added: tuple[RunRecord, ...]


def work(
    plan: Callable[[], Sequence[Job]],
    run: Callable[[RunSpec, Stop], RunRecord],
    *,
    results: Path,
    seconds: float | None = None,
    before: Callable[[Job, Sequence[Job]], None] = lambda job, jobs: None,
    after: Callable[[RunRecord], None] = lambda record: None,
) -> Summary:
    """Runs the first job that is to do, asks ``plan`` again, and so on.

    Args:
        plan: the jobs by falling value; asked again after every run, because learning rates and inconclusive
            comparisons add jobs.
        run: one run; stops with `RunInterrupted` soon after the function that it is given says so.
        results: the folder that the lock is in.
        seconds: time budget; a run under way at its end stops and is resumed by the next call.
        before, after: called around each run.

    Raises:
        BlockingIOError: another queue works in ``results``.
        RuntimeError: a run ended, and the plan asks for it again.
    """
    deadline = time.monotonic() + seconds if seconds is not None else None
    added: list[RunRecord] = []
    with _alone(results), _signals() as caught:

        def out_of_time() -> bool:
            return deadline is not None and time.monotonic() >= deadline

        def stop() -> bool:
            return bool(caught) or out_of_time()

        while True:
            jobs = plan()
            job = next((each for each in jobs if each.status == "todo"), None)
            if job is None or job.spec is None:
                waiting = any(each.status == "waiting" for each in jobs)
                return Summary("waiting" if waiting else "finished", tuple(added))
            if not stop():
                before(job, jobs)
                try:
                    record = run(job.spec, stop)
                except RunInterrupted:
                    if not stop():
                        raise
                else:
                    if any(record.spec == each.spec for each in added):
                        raise RuntimeError(f"run {record.id} is done, but the plan asks for it again")
                    added.append(record)
                    after(record)
                    continue
            return Summary("signal" if caught else "time", tuple(added))


@contextmanager
def _alone(results: Path) -> Iterator[None]:
    """Holds the lock of the folder; the operating system releases it however the process ends."""
    results.mkdir(parents=True, exist_ok=True)
    with (results / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(f"another queue works in {results}: wait for it, or name another folder") from None
        yield


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying of them; a second one of them ends the process as usual."""
    caught: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        for each, previous in before.items():
            signal.signal(each, previous)

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each in before:
        signal.signal(each, handle)
    try:
        yield caught
    finally:
        for each, previous in before.items():
            signal.signal(each, previous)
