"""Runs untrusted generators, each in a process of its own, and streams what they yield.

A candidate may hang, print, call ``sys.exit`` or ``os._exit``, die from a signal or eat memory. None of that reaches
the parent: what was yielded before is kept, the rest is one line that says what happened. The processes are forked, so
that classes and lambdas of the caller's session need no import path.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import selectors
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Literal

from symcheck.errors import CandidateFault, UsageError, describe_exception, one_line

MEMORY_LIMIT = 4 << 30
"""Bytes that a candidate may allocate beyond what its process starts with."""

_TAIL = 4096  # bytes of a candidate's output that are kept
_TICK = 0.2  # seconds between looks whether a process still lives: its pipes may be held open by its own children
_GRACE = 2.0  # seconds for a process to end once it said it was done

End = Literal["done", "fault", "unusable", "internal"]


@dataclass(frozen=True)
class Job:
    """One generator to run: ``stream()`` is called in the child, and what it yields must pickle."""

    stream: Callable[[], Iterator[object]]
    time_limit: float


@dataclass(frozen=True)
class Item:
    """Job number ``job`` yielded ``value``."""

    job: int
    value: Any


@dataclass(frozen=True)
class Ended:
    """Job number ``job`` is over.

    ``end`` is "done", "fault" (the candidate's: it exited, crashed, hung...), "unusable" (a UsageError) or "internal"
    (any other exception); ``text`` is one line on it, ``details`` a traceback where there is one.
    """

    job: int
    end: End
    text: str = ""
    details: str = ""
    seconds: float = 0.0


@contextlib.contextmanager
def interrupts_wait() -> Iterator[None]:
    """SIGINT takes effect at the end of the body: torch, imported half, raises anything, or aborts the process."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield  # only the main thread of Python is interrupted, and only by handlers of Python
        return
    waiting: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting:
        signal.raise_signal(signal.SIGINT)


def answer(stream: Callable[[], Iterator[object]], time_limit: float) -> tuple[Any, str]:
    """What a generator yields last, or None, and one line on what the candidate did to end it early, or nothing.

    Raises UsageError if the candidate is unusable, RuntimeError, with the traceback as a note, if symcheck failed.
    """
    value: Any = None
    for event in run([Job(stream, time_limit)], workers=1):
        if isinstance(event, Item):
            value = event.value
        elif event.end == "unusable":
            raise UsageError(event.text)
        elif event.end == "internal":
            error = RuntimeError(event.text)
            error.add_note(event.details)
            raise error
        elif event.end == "fault":
            return value, event.text
    return value, ""


def run(jobs: Sequence[Job], *, workers: int, memory_limit: int = MEMORY_LIMIT) -> Iterator[Item | Ended]:
    """Run ``jobs`` in order, ``workers`` at a time; closing the iterator kills what still runs.

    Every job gives its items in order and then exactly one :class:`Ended`.
    """
    if not hasattr(os, "fork"):
        raise UsageError("certifying needs a POSIX system (processes are forked); on Windows use WSL")
    waiting = deque(enumerate(jobs))
    running: list[_Worker] = []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                number, job = waiting.popleft()
                running.append(_Worker(number, job, memory_limit))
            _wait(running)
            for worker in list(running):
                yield from worker.poll()
                if worker.ended:
                    running.remove(worker)
    finally:
        for worker in running:
            worker.kill()


def _wait(workers: Sequence[_Worker]) -> None:
    """Sleep until a worker says, prints or does something, or has run out of time."""
    with selectors.DefaultSelector() as selector:
        for worker in workers:
            for source in worker.sources():
                selector.register(source, selectors.EVENT_READ)
        remaining = min(worker.deadline for worker in workers) - time.monotonic()
        selector.select(max(0.0, min(_TICK, remaining)))


class _Worker:
    """The parent's side of one child process."""

    def __init__(self, number: int, job: Job, memory_limit: int) -> None:
        self.number, self.limit = number, job.time_limit
        self.ended = False
        self._tail = b""
        self._last: tuple[End, str, str] | None = None
        self._connection: Connection | None
        self._connection, child_end = multiprocessing.Pipe(duplex=False)
        self._output: int | None
        self._output, child_output = os.pipe()
        os.set_blocking(self._output, False)
        self._process: BaseProcess = multiprocessing.get_context("fork").Process(
            target=_child, args=(job, child_end, child_output, memory_limit, _cuda_in_use())
        )
        self._start = time.monotonic()
        self.deadline = self._start + job.time_limit
        with warnings.catch_warnings():
            # Python >= 3.12 warns of forking beside the idle threads of BLAS; the child runs single-threaded.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()
        child_end.close()
        os.close(child_output)

    def sources(self) -> list[Any]:
        """What can become readable; empty once the child has closed everything."""
        return [source for source in (self._connection, self._output) if source is not None]

    def poll(self) -> Iterator[Item | Ended]:
        """Everything new; the last event is :class:`Ended`, after which the process is gone."""
        dead = not self._process.is_alive()
        self._drain_output()
        yield from self._receive()
        if self._last is not None and not dead:
            # It said its last word: give it a moment to go, then make it go.
            self._process.join(_GRACE)
            dead = True
        late = time.monotonic() >= self.deadline
        if dead or late:
            self.kill()
            self._drain_output()
            self.ended = True
            end, text, details = self._last or self._post_mortem(late and not dead)
            if end != "done" and (said := self._said()):
                text = f"{text}; its last output: {said}"
            self._close()
            yield Ended(self.number, end, text, details, time.monotonic() - self._start)

    def kill(self) -> None:
        """End the child and everything that it started."""
        if self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()

    def _receive(self) -> Iterator[Item]:
        while self._connection is not None and self._last is None:
            try:
                if not self._connection.poll():
                    return
                kind, value = self._connection.recv()
            except (EOFError, OSError):
                self._connection.close()
                self._connection = None
                return
            except Exception as error:  # whatever unpickling raises
                self._last = ("internal", f"an answer could not be read: {describe_exception(error)}", "")
                return
            if kind == "item":
                yield Item(self.number, value)
            else:
                self._last = value

    def _drain_output(self) -> None:
        while self._output is not None:
            try:
                chunk = os.read(self._output, 1 << 16)
            except BlockingIOError:
                return
            if not chunk:
                os.close(self._output)
                self._output = None
                return
            self._tail = (self._tail + chunk)[-_TAIL:]
            if time.monotonic() >= self.deadline:
                return  # it prints faster than we read

    def _said(self) -> str:
        lines = [line for line in self._tail.decode(errors="replace").splitlines() if line.strip()]
        return one_line(" | ".join(lines[-2:]), 200)

    def _post_mortem(self, late: bool) -> tuple[End, str, str]:
        if late:
            return "fault", f"no answer within the time limit of {self.limit:g} s (--time-limit)", ""
        code = self._process.exitcode or 0
        if code < 0:
            name = signal.Signals(-code).name if -code in {s.value for s in signal.Signals} else str(-code)
            hint = ", perhaps out of memory" if name == "SIGKILL" else ""
            return "fault", f"its process was killed by signal {name}{hint}", ""
        return "fault", f"it ended its process with exit code {code}", ""

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._output is not None:
            os.close(self._output)


def _cuda_in_use() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def _child(job: Job, connection: Connection, output: int, memory_limit: int, cuda_in_use: bool) -> None:
    """The child: streams the job, says how it ended, and leaves without the parent's exit handlers."""
    _detach(output)
    if cuda_in_use:
        # CUDA does not survive a fork, but still says that it is there; optimizers of the CPU would then ask it things.
        sys.modules["torch"].cuda.is_available = lambda: False
    last: tuple[End, str, str]
    try:
        _limit(memory_limit, job.time_limit)
        for value in job.stream():
            connection.send(("item", value))
        last = ("done", "", "")
    except UsageError as error:
        last = ("unusable", one_line(error, 1000), traceback.format_exc())
    except CandidateFault as error:
        last = ("fault", one_line(error, 1000), traceback.format_exc())
    except SystemExit as error:
        last = ("fault", f"it called sys.exit({error.code!r})", traceback.format_exc())
    except MemoryError:
        last = ("fault", f"it ran out of memory (limit {memory_limit / 2**30:g} GiB)", "")
    except BaseException as error:
        last = ("internal", f"symcheck failed: {describe_exception(error)}", traceback.format_exc())
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    status = 0
    try:
        connection.send(("end", last))
    except BaseException:
        status = 1
    os._exit(status)


def _detach(output: int) -> None:
    """A process group, output pipe and signal handling of the child's own."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with open(os.devnull) as null:
        os.dup2(null.fileno(), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    faulthandler.disable()  # it would write to wherever the parent's standard error was
    # pytest, notebooks and the like put objects of their own here, which write into the parent's buffers.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - they live as long as the process
    sys.stdout = open(1, "w", buffering=1, errors="replace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="replace", closefd=False)  # noqa: SIM115


def _limit(memory: int, seconds: float) -> None:
    """Address space, core dumps, and CPU time in case the parent dies before it can stop the child."""
    import resource  # not on Windows

    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
    limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_CPU, int(2 * seconds) + 60)]
    if (pages := _pages_in_use()) is not None:
        limits.append((resource.RLIMIT_AS, pages * resource.getpagesize() + memory))
    for which, soft in limits:
        hard = resource.getrlimit(which)[1]
        with contextlib.suppress(ValueError, OSError):  # macOS refuses some of them
            resource.setrlimit(which, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _pages_in_use() -> int | None:
    """Pages of address space in use now; None where there is no /proc (and no working RLIMIT_AS either)."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[0])
    except OSError:
        return None
