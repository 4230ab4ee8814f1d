"""Groups of processes that step sharded parameters: forked, met through a file, gone when their time is up.

No process outlives the call. Every child dies with its parent (where the kernel offers that), gives up a collective
after a while, and is killed at the deadline; the parent reaps all of them before it returns, whatever happens.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from symcheck.errors import one_line
from symcheck.probe.arithmetic import Arithmetic
from symcheck.probe.trajectory import CandidateLike, Inputs, Tensors, build, seed_everything, take_step

COLLECTIVE_LIMIT = 30.0
"""Seconds after which a process gives up waiting for the others: one of them has taken another path."""
_PDEATHSIG = 1  # PR_SET_PDEATHSIG of prctl(2)


@dataclass(frozen=True)
class Task:
    """A trajectory of one parameter that is sharded along axis ``dim``."""

    inputs: Inputs
    dim: int


@dataclass(frozen=True)
class Answer:
    """The displacements of the whole parameter, gathered; or None and one line on what went wrong."""

    displacements: list[Tensors] | None
    error: str = ""


def run_sharded(
    candidate: CandidateLike,
    tasks: Sequence[Task],
    *,
    processes: int,
    arithmetic: Arithmetic,
    seed: int,
    time_limit: float,
) -> list[Answer]:
    """Carry out the tasks, in order, on ``processes`` processes; every one holds a shard of each parameter.

    The processes are forked, so that a candidate needs no import path. ``time_limit`` is in seconds for all tasks.
    """
    import torch.distributed
    import torch.multiprocessing

    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        return [Answer(None, "this torch is built without gloo")] * len(tasks)
    if not hasattr(os, "fork"):
        return [Answer(None, "processes cannot be forked on this system")] * len(tasks)
    context = torch.multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory(prefix="symcheck-shards-") as folder:
        arguments = (candidate, tasks, processes, arithmetic, seed, Path(folder), os.getpid())
        workers = [context.Process(target=_worker, args=(rank, *arguments)) for rank in range(processes)]
        try:
            with warnings.catch_warnings():
                # Python >= 3.12 warns of forking beside idle threads; the children run single-threaded.
                warnings.simplefilter("ignore", DeprecationWarning)
                for worker in workers:
                    worker.start()
            late = _wait(workers, time.monotonic() + time_limit)
        finally:
            for worker in workers:
                if worker.pid is not None:
                    worker.kill()
                    worker.join()
        return _collect(Path(folder), len(tasks), processes, late)


def _wait(workers: Sequence[Any], deadline: float) -> bool:
    """Until all are done or the time is up; whether it is."""
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
    return any(worker.is_alive() for worker in workers)


def _collect(folder: Path, count: int, processes: int, late: bool) -> list[Answer]:
    """What the first process gathered; where it could not, what the first process that failed said."""
    written = []
    for rank in range(processes):
        with contextlib.suppress(OSError, EOFError, pickle.UnpicklingError):
            written.append((folder / str(rank)).read_bytes())
            continue
        written.append(b"")
    answers = []
    for number in range(count):
        found = [answer for data in written if (answer := _nth(data, number)) is not None]
        failed = next((answer for answer in found if answer.error), None)
        whole = next((answer for answer in found if answer.displacements is not None), None)
        silent = "no answer within the time limit" if late else "a process ended without an answer"
        if failed is not None:
            answers.append(failed)
        elif whole is not None and len(found) == processes:
            answers.append(whole)
        else:
            answers.append(Answer(None, silent))
    return answers


def _nth(data: bytes, number: int) -> Answer | None:
    """The answer to task ``number`` in what a process wrote, one pickle after the other."""
    import io

    stream = io.BytesIO(data)
    answer: Answer | None = None
    for _ in range(number + 1):
        try:
            answer = pickle.load(stream)
        except EOFError:
            return None
    return answer


def _worker(
    rank: int,
    candidate: CandidateLike,
    tasks: Sequence[Task],
    processes: int,
    arithmetic: Arithmetic,
    seed: int,
    folder: Path,
    parent: int,
) -> None:
    """One process of the group; leaves without the parent's exit handlers."""
    _die_with(parent)
    status = 0
    try:
        import torch.distributed as dist

        torch.set_num_threads(1)
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder / 'meeting'}",
            rank=rank,
            world_size=processes,
            timeout=timedelta(seconds=COLLECTIVE_LIMIT),
        )
        with (folder / str(rank)).open("wb") as out:
            for task in tasks:
                answer = _attempt(candidate, task, processes, arithmetic, seed)
                if rank and answer.displacements is not None:
                    answer = Answer([])  # gathered alike everywhere: one copy is enough
                pickle.dump(answer, out)
                out.flush()
    except BaseException:
        status = 1
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _attempt(candidate: CandidateLike, task: Task, processes: int, arithmetic: Arithmetic, seed: int) -> Answer:
    try:
        return Answer(_steps(candidate, task, processes, arithmetic, seed))
    except Exception as error:
        return Answer(None, one_line(str(error) or type(error).__name__, 400))


def _steps(candidate: CandidateLike, task: Task, processes: int, arithmetic: Arithmetic, seed: int) -> list[Tensors]:
    """The displacements of one task. The weight and its gradients are cut here without any communication."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (processes,))
    seed_everything(seed)
    placements = [Shard(task.dim)]
    params = [torch.nn.Parameter(distribute_tensor(weight.clone(), mesh, placements)) for weight in task.inputs.weights]
    displacements = []
    with arithmetic.active():
        optimizer = build(candidate, params)
        for number, grads in enumerate(task.inputs.grads, start=1):
            before = [_whole(param) for param in params]
            for param, grad in zip(params, grads, strict=True):
                param.grad = distribute_tensor(grad.clone(), mesh, placements)
            take_step(optimizer, number)
            after = [_whole(param) for param in params]
            displacements.append(tuple(new - old for new, old in zip(after, before, strict=True)))
    assert all(isinstance(param, DTensor) for param in params)  # a candidate may not unshard what it is given
    return displacements


def _whole(param: Any) -> torch.Tensor:
    gathered: torch.Tensor = param.detach().full_tensor().clone()
    return gathered


def _die_with(parent: int) -> None:
    """Ask the kernel (Linux) to kill this process when its parent dies, and leave at once if it has."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
