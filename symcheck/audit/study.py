"""The audit of many optimizers: each in a process of its own, one record each, kept as JSON lines.

A record that is there already, made with the same versions, is not made again: an audit that was interrupted goes on.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import groups
import symcheck
from symcheck import isolate
from symcheck.audit import variants
from symcheck.errors import UsageError, unknown
from symcheck.registry import find, load_plugin, plugins, registered
from symcheck.result import Verdict
from symcheck.target import Target, plain

SCHEMA = "symcheck.audit/1"


@dataclass(frozen=True)
class Record:
    """What is known of one configuration: its cells in JSON form, or the one line that says why there are none."""

    target: str
    config: Mapping[str, Any]
    cells: tuple[Mapping[str, Any], ...] = ()
    reason: str = ""
    seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The target and its configuration."""
        return key(self.target, self.config)


@dataclass(frozen=True)
class Settings:
    """How to audit: the budget and seed of the search, whether to leave out implied questions, and limits."""

    budget: str = "quick"
    seed: int = 0
    prune: bool = True
    workers: int = 2
    time_limit: float = 600.0


def key(target: str, config: Mapping[str, Any]) -> str:
    """A name for one configuration, stable from run to run."""
    return f"{target} {json.dumps({k: plain(v) for k, v in config.items()}, sort_keys=True)}"


def targets(names: Sequence[str]) -> list[Target]:
    """The configurations of every plugin named, or of all of them. UsageError for a name that is unknown."""
    known = (variants.PLUGIN, *plugins())
    found: list[Target] = []
    for name in names or known:
        plugin = name.partition(":")[0]
        if plugin not in known:
            raise unknown("plugin", name, known)
        if plugin == variants.PLUGIN:
            found.extend(variants.targets())
            continue
        load_plugin(plugin)
        own = [full for full in registered() if full == name or full.startswith(f"{name}:")]
        if not own:
            raise unknown("optimizer", name, [full for full in registered() if full.startswith(plugin)])
        found.extend(target for full in own for target in (find(full) or ()))
    return list({_key(target): target for target in found}.values())


def not_runnable(names: Sequence[str]) -> dict[str, str]:
    """What the plugins named, or all of them, have that cannot be asked about one matrix, and why."""
    from symcheck.audit import pytorch_optimizer

    chosen = {name.partition(":")[0] for name in names or (variants.PLUGIN, *plugins())}
    found: dict[str, str] = {}
    if variants.PLUGIN in chosen:
        found |= {f"{variants.PLUGIN}.{name}": reason for name, reason in variants.NOT_RUNNABLE.items()}
    if pytorch_optimizer.PACKAGE in chosen:
        found |= {f"{pytorch_optimizer.PACKAGE}:{name}": why for name, why in pytorch_optimizer.NOT_RUNNABLE.items()}
    return found


def versions(settings: Settings) -> dict[str, str]:
    """What a record depends on: symcheck, torch, the packages audited, the budget and the seed."""
    import torch

    from symcheck import __version__
    from symcheck.audit.pytorch_optimizer import PACKAGE, version

    made = {"symcheck": f"{__version__} (sources {_sources()})", "torch": str(torch.__version__)}
    try:
        made[PACKAGE] = version()
    except UsageError:
        made[PACKAGE] = "not installed"
    pruned = "" if settings.prune else " unpruned"
    return {**made, "search": f"{settings.budget}, seed {settings.seed}{pruned}"}


@functools.cache
def _sources() -> str:
    """A hash of all that proofs and searches are made with: the sources of symcheck, but not of the audit itself."""
    folders = [Path(str(package.__file__)).parent for package in (groups, symcheck)]
    files = [(folder.name, path.relative_to(folder), path) for folder in folders for path in folder.rglob("*.py")]
    digest = hashlib.sha256()
    for package, relative, path in sorted(files):
        if relative.parts[0] != "audit":
            digest.update(f"{package}/{relative.as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def load(path: Path) -> list[Record]:
    """The records of a file of JSON lines, without lines that are none (see :func:`damaged`)."""
    return [record for record in _lines(path) if record is not None]


def damaged(path: Path) -> list[int]:
    """The numbers of the lines that are no records: one that was cut off, or anything else."""
    return [number for number, record in enumerate(_lines(path), 1) if record is None]


def _lines(path: Path) -> Iterator[Record | None]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    for line in lines:
        try:
            data = json.loads(line)
            yield Record(**{**data, "cells": tuple(data["cells"])}) if data.pop("schema") == SCHEMA else None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            yield None


def audit(chosen: Sequence[Target], settings: Settings, path: Path | None = None) -> Iterator[Record]:
    """Records of all targets, as they are made; those in ``path`` come first, and new ones are appended to it."""
    made = versions(settings)
    old = {record.key: record for record in (load(path) if path else ()) if dict(record.versions) == made}
    waiting = []
    for target in chosen:
        record = old.get(_key(target))
        if record is None:
            waiting.append(target)
        else:
            yield record
    _warm_up()
    jobs = [isolate.Job(functools.partial(_classified, target, settings), settings.time_limit) for target in waiting]
    parts: dict[int, dict[str, Any]] = {number: {} for number in range(len(jobs))}
    for event in isolate.run(jobs, workers=settings.workers):
        if isinstance(event, isolate.Item):
            parts[event.job].update(event.value)
            continue
        target = waiting[event.job]
        record = Record(
            target.name,
            {key: plain(value) for key, value in target.settings.items()},
            tuple(parts[event.job].get("cells", ())),
            "" if event.end == "done" else event.text,
            round(event.seconds, 2),
            made,
        )
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            cut_off = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
            with path.open("a", encoding="utf-8") as file:
                file.write("\n" * cut_off + json.dumps({"schema": SCHEMA, **dataclasses.asdict(record)}) + "\n")
        yield record


def _key(target: Target) -> str:
    return key(target.name, target.settings)


@functools.cache
def _warm_up() -> None:
    """Import and compute here, once, what every forked child would otherwise do for itself: exact group elements, what
    hypothesis knows of constants, torch's compiler."""
    import torch

    from symcheck.audit.pairs import classify

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a child of a process with busy threads may hang
    classify(Target("SGD", lambda: torch.optim.SGD).load())
    torch.set_num_threads(threads)


def _classified(target: Target, settings: Settings) -> Iterator[object]:
    """What a worker does; runs in the child."""
    from symcheck.audit.pairs import classify, spec

    candidate = target.load()
    cells, _ = classify(candidate, budget=settings.budget, seed=settings.seed, prune=settings.prune)
    yield {
        "cells": [
            {
                "form": cell.form,
                "action": spec(cell.pair),
                "verdict": cell.verdict.value,
                "reason": cell.reason,
                "conditions": list(cell.conditions),
                "by": [cell.by[0], spec(cell.by[1])],
            }
            for cell in cells
        ]
    }


def holds(cell: Mapping[str, Any]) -> bool:
    """Whether a cell is true as far as anybody knows: proved, or supported by the search."""
    return cell["verdict"] in (Verdict.PROVED, Verdict.SUPPORTED)


def sampled(target: Target, one_in: int) -> bool:
    """Whether a target belongs to a sample that depends on nothing but its name."""
    return int(hashlib.sha256(_key(target).encode()).hexdigest(), 16) % one_in == 0
