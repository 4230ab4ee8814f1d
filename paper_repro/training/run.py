"""One training run, from a `RunSpec` to a `RunRecord`. Read `run_one`, then `_train`: that is all of it."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import groups
import paper_repro
import reference
import symcheck
from paper_repro.data.manifest import Manifest, read_manifest
from paper_repro.data.stream import Sequences, TokenStream
from paper_repro.presets import Preset, data_root, load_preset
from paper_repro.records import Outcome, RunInterrupted, RunRecord, RunSpec, code_version, read_record, run_id
from paper_repro.training import checkpoint
from paper_repro.training.certify import certify_stack
from paper_repro.training.diagnostics import Diagnostics
from paper_repro.training.distributed import DividedOptimizer, Team, team
from paper_repro.training.log import Jsonl, Progress, Sink, TensorBoard
from paper_repro.training.loss import cross_entropy, load_balance, router_z
from paper_repro.training.model import arithmetic, compiled, exact_products, initial_model, logits_of, repeatable
from paper_repro.training.routers import Routers
from paper_repro.training.schedule import Scheduler
from paper_repro.training.stack import make_optimizer

CHECKPOINT_SECONDS = 600.0
"""Time between checkpoints of a run that nobody stops."""
_POINTS = 200
"""A curve has about this many points, each the mean of the steps since the last."""
_WARMING = 3
"""Steps after each start that are not timed: compilation, allocation."""
_HOPELESS = 10.0
"""A loss beyond so many times that of a uniform guess has left the range of sensible values."""

Stop = Callable[[], bool]


@dataclass
class _Progress:
    """Everything that a run knows of its past; a checkpoint keeps it, as JSON.

    ``timed`` steps took ``timed_seconds``: all but the first few after each start, without evaluation.
    """

    step: int = 0
    seconds: float = 0.0
    timed: int = 0
    timed_seconds: float = 0.0
    window: list[float] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)
    diagnostics: dict[str, list[float]] = field(default_factory=dict)
    start: dict[str, list[float]] = field(default_factory=dict)
    symmetry: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Run:
    """What the steps of a run work with."""

    spec: RunSpec
    preset: Preset
    steps: int
    team: Team
    model: nn.Module
    call: Callable[..., Any]
    routers: Routers
    divided: DividedOptimizer
    scheduler: Scheduler
    train: Sequences
    held_out: Sequences
    forward: Callable[[], Any]
    per_forward: int
    diagnostics: Diagnostics
    progress: _Progress
    sinks: list[Sink]

    def say(self, values: Mapping[str, float]) -> None:
        for sink in self.sinks:
            sink.point(self.progress.step, values)


class _Diverged(Exception):
    """The loss is no number any more, or beyond hope."""


def run_one(
    spec: RunSpec,
    *,
    results: Path,
    data: Path | None = None,
    device: str | None = None,
    stop: Stop | None = None,
    progress: bool = True,
    tensorboard: bool = False,
    certify: bool = True,
    deterministic: bool = False,
    sequences_per_forward: int | None = None,
) -> RunRecord:
    """Trains ``spec``, or goes on with it, and writes its record; a run that has a record is not repeated.

    Under torchrun every process calls this with the same arguments and returns the same record.

    Args:
        spec: the run.
        results: folder of the records; checkpoints and logs live in ``checkpoints`` and ``logs`` inside while needed.
        data: folder of the data sets (`paper_repro.presets.data_root`).
        device: ``cpu``, ``cuda`` or None for a GPU if there is one.
        stop: asked after every step (every ten under torchrun); true ends this call.
        progress: whether to say on standard error how far it is.
        tensorboard: whether to write TensorBoard files into ``results/logs/<id>``.
        certify: whether symcheck examines the stack first (kept in the data folder, so that it does so only once).
        deterministic: bit-for-bit repeatable on a GPU too, where it costs speed; on a CPU every run is.
        sequences_per_forward: instead of the preset's: less memory, the same run but for rounding.

    Raises:
        RunInterrupted: ``stop`` was true; the checkpoint is written.
        ValueError: one line, for an unknown preset or optimizer, missing data, or sizes that do not fit.
    """
    preset = load_preset(spec.preset)
    root = data_root(data)
    manifest = read_manifest(root / preset.data)
    identity = run_id(spec, manifest.hash)
    processes = team(device)
    with repeatable(deterministic), arithmetic(spec.precision, processes.device) as forward:
        path = results / f"{identity}.json"
        done = processes.agree(read_record(path) if path.exists() else None)
        if done is not None:
            return done
        folder = results / "checkpoints" / identity
        run = _set_up(spec, preset, root / preset.data, manifest, processes, forward, sequences_per_forward)
        if (saved := processes.agree(checkpoint.latest(folder))) is not None:
            _resume(run, saved)
        elif certify:
            run.progress.symmetry = processes.agree(_certified(run, root) if processes.leads else {})
        if processes.leads:
            run.sinks = _sinks(run, results, identity, progress, tensorboard)
        outcome: Outcome = "finished"
        message: str | None = None
        try:
            _train(run, folder, identity, stop)
        except _Diverged as error:
            outcome, message = "diverged", str(error)
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # a decomposition of NaN
            outcome, message = "diverged", str(error).splitlines()[0]
        except torch.OutOfMemoryError as error:
            outcome, message = "failed", str(error).splitlines()[0]
        finally:
            run.routers.close()
            for sink in run.sinks:
                sink.close()
        record = _record(run, identity, manifest, outcome, message)
        if processes.leads:
            record.write(results)
            shutil.rmtree(folder, ignore_errors=True)
        processes.wait()
        return record


def _set_up(
    spec: RunSpec,
    preset: Preset,
    folder: Path,
    manifest: Manifest,
    processes: Team,
    forward: Callable[[], Any],
    sequences_per_forward: int | None,
) -> _Run:
    if manifest.vocabulary > preset.model["vocab_size"]:
        raise ValueError(
            f"{folder} has {manifest.vocabulary} tokens, preset {preset.name} a vocabulary of "
            f"{preset.model['vocab_size']}: use the data set {preset.data!r} as it was meant"
        )
    if processes.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(processes.device)
    steps = spec.steps or preset.steps
    per_forward = _per_forward(preset, processes.size, sequences_per_forward)
    model = initial_model(preset, spec.seed, processes.device, spec.precision)
    routers = Routers(model)
    optimizer = make_optimizer(model, spec, preset)
    call: Callable[..., Any] = compiled(model, preset, processes.device)
    if processes.size > 1:
        call = DistributedDataParallel(model)
    diagnostics = Diagnostics(model, routers)
    return _Run(
        spec=spec,
        preset=preset,
        steps=steps,
        team=processes,
        model=model,
        call=call,
        routers=routers,
        divided=DividedOptimizer(optimizer, processes),
        scheduler=Scheduler(optimizer, steps, preset.warmup),
        train=_sequences(folder, manifest, "train", preset, spec.seed if preset.order == "shuffled" else None),
        held_out=_sequences(folder, manifest, spec.split, preset, None),
        forward=forward,
        per_forward=per_forward,
        diagnostics=diagnostics,
        progress=_Progress(start=diagnostics.start),
        sinks=[],
    )


def _sequences(folder: Path, manifest: Manifest, split: str, preset: Preset, seed: int | None) -> Sequences:
    return Sequences(TokenStream(folder, manifest, split), preset.sequence_length, seed)


def _per_forward(preset: Preset, processes: int, wanted: int | None) -> int:
    """How many sequences go through the model at once in one process: a divisor of its share, at most ``wanted``."""
    share, rest = divmod(preset.sequences_per_step, processes)
    if rest:
        raise ValueError(
            f"preset {preset.name} has {preset.sequences_per_step} sequences per step, which {processes} processes "
            "cannot share equally"
        )
    most = min(share, wanted or preset.sequences_per_forward)
    return max(count for count in range(1, most + 1) if share % count == 0)


def _train(run: _Run, folder: Path, identity: str, stop: Stop | None) -> None:
    """The loop. Raises `_Diverged`, or `RunInterrupted` with a checkpoint in ``folder``."""
    progress = run.progress
    every = max(1, run.steps // _POINTS)
    began, saved = time.monotonic() - progress.seconds, time.monotonic()
    if progress.step == 0:
        _evaluate(run)
        _measure(run)
    first = progress.step
    while progress.step < run.steps:
        factor = run.scheduler.set(progress.step)
        before = time.monotonic()
        progress.window.append(_step(run))
        if progress.step - first >= _WARMING:
            progress.timed += 1
            progress.timed_seconds += time.monotonic() - before
        progress.step += 1
        progress.seconds = time.monotonic() - began
        last = progress.step == run.steps
        if progress.step % every == 0 or last or not math.isfinite(progress.window[-1]):
            _point(run, factor)
        if progress.step % run.preset.evaluate_every == 0 or last:
            _evaluate(run)
        if progress.step % run.preset.measure_every == 0 or last:
            _measure(run)
        if last:
            break
        stopping, due = _intent(run, stop, saved)
        if stopping or due:
            _save(run, folder)
            saved = time.monotonic()
        if stopping:
            raise RunInterrupted(f"run {identity} stopped after step {progress.step} of {run.steps}; call it again")
    progress.seconds = time.monotonic() - began


def _step(run: _Run) -> float:
    """One optimizer step on the next global batch; the mean loss, without auxiliary losses."""
    share = run.preset.sequences_per_step // run.team.size
    first = run.progress.step * run.preset.sequences_per_step + run.team.rank * share
    pieces = range(first, first + share, run.per_forward)
    total = torch.zeros((), device=run.team.device)
    for start in pieces:
        tokens = run.train.batch(range(start, start + run.per_forward)).to(run.team.device, non_blocking=True)
        with _unsynchronised(run.call, start != pieces[-1]):
            loss, auxiliary = _objective(run, tokens)
            torch.autograd.backward((loss + auxiliary) / len(pieces))
        total += loss.detach() / len(pieces)
    run.divided.step()
    return float(run.team.mean(total).item())


def _objective(run: _Run, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and the weighted auxiliary losses of the routers, on one piece of a batch."""
    preset = run.preset
    if not (preset.balance_loss or preset.z_loss):
        with run.forward():
            logits = logits_of(run.call, tokens)
        return cross_entropy(logits, tokens, run.spec.target_offset), logits.new_zeros(())
    with run.routers.recording() as router_logits, run.forward():
        logits = logits_of(run.call, tokens)
    balance = preset.balance_loss * load_balance(router_logits, run.routers.top_k)
    return cross_entropy(logits, tokens, run.spec.target_offset), balance + preset.z_loss * router_z(router_logits)


def _unsynchronised(call: Any, wanted: bool) -> Any:
    """DDP adds gradients up over the processes once per step, in the last piece."""
    return call.no_sync() if wanted and isinstance(call, DistributedDataParallel) else nullcontext()


def _point(run: _Run, factor: float) -> None:
    """Closes a window of the training curve. Raises `_Diverged`."""
    progress = run.progress
    loss = math.fsum(progress.window) / len(progress.window) if all(map(math.isfinite, progress.window)) else math.nan
    progress.window = []
    for key, value in (("step", progress.step), ("train_loss", loss), ("rate", factor)):
        progress.curves.setdefault(key, []).append(value)
    run.say({"train_loss": loss, "rate": factor, "seconds": progress.seconds})
    limit = _HOPELESS * math.log(run.preset.model["vocab_size"])
    if not loss <= limit:
        raise _Diverged(f"training loss {loss:g} at step {progress.step}")


@torch.no_grad()
def _evaluate(run: _Run) -> None:
    """Mean cross-entropy of the first held-out sequences, in float32. Raises `_Diverged` if it is no number."""
    count = min(run.preset.evaluation_sequences, run.held_out.count)
    total = torch.zeros((), dtype=torch.float64, device=run.team.device)
    with exact_products():
        for start in range(run.team.rank * run.per_forward, count, run.team.size * run.per_forward):
            positions = range(start, min(start + run.per_forward, count))
            tokens = run.held_out.batch(positions).to(run.team.device)
            # Past the compiled forward pass of training, which is of another precision and batch size.
            logits = logits_of(run.model.forward, tokens)
            total += cross_entropy(logits, tokens, run.spec.target_offset).double() * len(positions)
    loss = run.team.sum(total).item() / count
    for key, value in (("val_step", run.progress.step), ("val_loss", loss)):
        run.progress.curves.setdefault(key, []).append(value)
    run.say({"val_loss": loss})
    if not math.isfinite(loss):
        raise _Diverged(f"validation loss {loss:g} at step {run.progress.step}")


def _measure(run: _Run) -> None:
    count = min(run.per_forward, run.held_out.count)
    found = run.diagnostics.measure(run.held_out.batch(range(count)).to(run.team.device))
    for key, value in {"step": run.progress.step, **found}.items():
        run.progress.diagnostics.setdefault(key, []).append(value)
    run.say(found)


def _intent(run: _Run, stop: Stop | None, saved: float) -> tuple[bool, bool]:
    """Whether to stop here, and whether a checkpoint is due; processes agree on it every ten steps."""
    if run.team.size > 1 and run.progress.step % 10:
        return False, False
    return run.team.agree((stop is not None and stop(), time.monotonic() - saved > CHECKPOINT_SECONDS))


def _save(run: _Run, folder: Path) -> None:
    kept = dataclasses.asdict(run.progress)
    checkpoint.save(folder, run.progress.step, run.model, run.divided, kept, run.team)


def _resume(run: _Run, saved: Path) -> None:
    run.progress = _Progress(**checkpoint.load(saved, run.model, run.divided, run.team))
    run.diagnostics.start = run.progress.start


def _certified(run: _Run, root: Path) -> dict[str, Any]:
    return certify_stack(run.divided.optimizer, root / ".certified", _sources(groups, reference, symcheck))


def _sinks(run: _Run, results: Path, identity: str, progress: bool, tensorboard: bool) -> list[Sink]:
    sinks: list[Sink] = [Jsonl(results / "logs" / f"{identity}.jsonl")]
    if tensorboard:
        sinks.append(TensorBoard(results / "logs" / identity))
    if progress:
        title = f"{run.spec.preset} {run.spec.optimizer} seed {run.spec.seed}"
        sinks.append(Progress(title, run.steps, run.progress.step))
    return sinks


def _record(run: _Run, identity: str, manifest: Manifest, outcome: Outcome, message: str | None) -> RunRecord:
    progress, where = run.progress, run.team.device
    losses = progress.curves.get("train_loss", [])
    tail = losses[-max(1, len(losses) // 10) :]
    held_out = min(run.preset.evaluation_sequences, run.held_out.count)
    timed, seconds = (progress.timed, progress.timed_seconds) if progress.timed else (progress.step, progress.seconds)
    per_step = seconds / timed if timed else math.nan
    return RunRecord(
        id=identity,
        spec=run.spec,
        manifest=manifest.hash,
        code=code_version(run.spec.preset),
        device={
            "type": where.type,
            "name": torch.cuda.get_device_name(where) if where.type == "cuda" else platform.machine(),
            "count": run.team.size,
        },
        versions=_versions(),
        throughput={
            "tokens_per_second": run.preset.tokens_per_step / per_step,
            "seconds_per_step": per_step,
            "peak_memory_bytes": torch.cuda.max_memory_allocated(where) if where.type == "cuda" else None,
        },
        curves={"step": [], "train_loss": [], "val_step": [], "val_loss": [], **progress.curves},
        diagnostics={"step": [], **progress.diagnostics},
        final={
            "step": progress.step,
            "train_loss": math.fsum(tail) / len(tail) if tail else math.nan,
            "val_loss": progress.curves["val_loss"][-1] if outcome == "finished" else math.nan,
            "tokens": progress.step * run.preset.tokens_per_step,
            "parameters": sum(each.numel() for each in run.model.parameters()),
            "evaluation_tokens": held_out * (run.preset.sequence_length + 1 - run.spec.target_offset),
        },
        outcome=outcome,
        message=message,
        symmetry=progress.symmetry,
        seconds=progress.seconds,
    )


def _versions() -> dict[str, str]:
    """Versions of what ran; ``sources`` is a hash of the code of rules and training."""
    names = ("symcheck", "torch", "transformers", "tokenizers", "numpy")
    found = {name: metadata.version(name) for name in names}
    return {"python": platform.python_version(), **found, "sources": _sources(reference, paper_repro)}


def _sources(*packages: ModuleType) -> str:
    digest = hashlib.sha256()
    for package in packages:
        for path in sorted(Path(str(package.__file__)).parent.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
