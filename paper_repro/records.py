"""What a run is asked to do, and what it leaves behind: the interface between training and everything around it.

``paper_repro.training.run_one(spec, *, results, data=None, device=None, stop=None, progress=True) -> RunRecord`` trains
once. Its record is one line of JSON in ``results/<id>.json``, written at once when the run ends; ``schema/run.json``
describes it. A file that exists is a run that need not be repeated, and `run_one` then returns what it says. As soon as
``stop()`` is true, the run saves a checkpoint and raises `RunInterrupted`; called again, it goes on where it was.

This module needs neither torch nor transformers.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import os
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

SCHEMA = "paper_repro.run/1"
CODE_VERSION = "1"
"""Raise it with any change of the code that alters the numbers of a run; other changes keep results valid."""

PRESETS = Path(__file__).parent / "presets"

RATE_ROLES = ("embedding", "lm_head", "router", "mlp", "attention", "other")
"""Roles with a learning rate of their own; ``mlp`` includes the experts, ``other`` is what has no matrix symmetry."""

Precision = Literal["fp32", "tf32", "bf16_autocast"]
Split = Literal["validation", "tuning"]
Outcome = Literal["finished", "diverged", "failed"]

_SCALES = ("smoke", "scaled", "paper")


class RunInterrupted(Exception):
    """A run stopped before its end, with a checkpoint to go on from; the message says where."""


@dataclass(frozen=True)
class RunSpec:
    """One training run, complete but for the data and the code. Equal specs are equal runs.

    Attributes:
        preset: name of a file of ``presets/``, e.g. ``scaled/qwen3-s``.
        optimizer: name of an optimizer configuration (`paper_repro.configurations`), e.g. ``row-muon-left``.
        rates: learning rates by role (`RATE_ROLES`) that replace those of preset and optimizer.
        seed: decides initialisation and data order, the same ones for every optimizer.
        target_offset: 2 predicts the token after the next, as the paper's code does; 1 the next.
        precision: of the forward and backward pass; parameters and optimizer are float32.
        steps: replaces the preset's number of steps.
        split: the held-out documents that ``val_loss`` is measured on; learning rates are chosen on ``tuning``.
    """

    preset: str
    optimizer: str
    rates: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    target_offset: Literal[1, 2] = 2
    precision: Precision = "fp32"
    steps: int | None = None
    split: Split = "validation"

    def __post_init__(self) -> None:
        rates = {str(role): float(rate) for role, rate in sorted(dict(self.rates).items())}
        object.__setattr__(self, "rates", MappingProxyType(rates))
        for role, rate in rates.items():
            if role not in RATE_ROLES:
                raise ValueError(f"rates: unknown role {role!r}; roles are {', '.join(RATE_ROLES)}")
            if not (math.isfinite(rate) and rate >= 0):
                raise ValueError(f"rates: {role} must be finite and >= 0, got {rate!r}")
        if self.scale not in _SCALES:
            raise ValueError(f"preset {self.preset!r} must begin with one of {', '.join(_SCALES)}, then a slash")
        for name, choices in (
            ("target_offset", (1, 2)),
            ("precision", get_args(Precision)),
            ("split", get_args(Split)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {getattr(self, name)!r}")
        if self.seed < 0 or (self.steps is not None and self.steps < 1):
            raise ValueError(f"seed must be >= 0 and steps >= 1, got seed {self.seed} and steps {self.steps}")

    def __hash__(self) -> int:
        return hash(self.canonical())

    def __reduce__(self) -> tuple[Any, ...]:
        return RunSpec.from_json, (self.to_json(),)

    @property
    def scale(self) -> str:
        """``smoke``, ``scaled`` or ``paper``."""
        return self.preset.partition("/")[0]

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` is the inverse."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return {**values, "rates": dict(self.rates)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunSpec:
        """The spec of `to_json`. Raises ValueError naming an unknown key."""
        unknown = data.keys() - {each.name for each in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(f"run spec has unknown keys {', '.join(sorted(unknown))}")
        return cls(**data)

    def canonical(self) -> str:
        """JSON with sorted keys and no spaces: equal for equal specs, on every platform."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))


@functools.cache
def code_version(preset: str) -> str:
    """`CODE_VERSION`, and a digest of what the file of the preset says (its comments do not count)."""
    path = PRESETS / f"{preset}.toml"
    says = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return f"{CODE_VERSION}-{hashlib.sha256(json.dumps(says, sort_keys=True).encode()).hexdigest()[:8]}"


def run_id(spec: RunSpec, manifest: str) -> str:
    """The first 16 hexadecimal digits of the sha256 of spec, data manifest hash, preset and code version."""
    parts = (spec.canonical(), manifest, code_version(spec.preset))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class RunRecord:
    """What a run left behind. NaN and infinity are null in JSON and NaN here.

    Attributes:
        id: `run_id`.
        spec: what was asked.
        manifest: sha256 of the data manifest; losses compare only within one.
        code: `code_version` of the run's preset.
        device: ``type``, ``name``, ``count`` (processes).
        versions: of python, torch, transformers ...; ``sources`` is a hash of the code that ran.
        throughput: ``tokens_per_second``, ``seconds_per_step``, ``peak_memory_bytes`` (null on the CPU).
        curves: equally long ``step``, ``train_loss`` (and learning rates ...); equally long ``val_step``, ``val_loss``.
            ``step`` counts optimizer steps taken; losses are nats per token.
        diagnostics: ``step`` and equally long series: see `paper_repro.training.diagnostics`.
        final: ``step``, ``train_loss`` (mean of the last tenth), ``val_loss`` (NaN unless finished), ``tokens`` ...
        outcome: ``diverged`` is a result: the loss became NaN, infinite, or left the range of sensible values.
        message: why, in one line, unless finished.
        symmetry: what symcheck said of every rule of the stack before the first step.
        seconds: wall time of training, evaluation included, over all sessions.
    """

    id: str
    spec: RunSpec
    manifest: str
    code: str
    device: Mapping[str, Any]
    versions: Mapping[str, str]
    throughput: Mapping[str, Any]
    curves: Mapping[str, Sequence[float]]
    diagnostics: Mapping[str, Sequence[float]]
    final: Mapping[str, float]
    outcome: Outcome
    message: str | None
    symmetry: Mapping[str, Any]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain data that satisfies ``schema/run.json``."""
        values = {
            each.name: _plain(getattr(self, each.name)) for each in dataclasses.fields(self) if each.name != "spec"
        }
        return {"schema": SCHEMA, **values, "spec": self.spec.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunRecord:
        """The record of `to_json`. Raises ValueError for another schema or missing or unknown keys."""
        data = dict(data)
        if data.pop("schema", None) != SCHEMA:
            raise ValueError(f"not a run record of schema {SCHEMA}")
        names = {each.name for each in dataclasses.fields(cls)}
        if data.keys() != names:
            raise ValueError(f"run record with missing or unknown keys: {', '.join(sorted(data.keys() ^ names))}")
        numbers = {key: _numbers(data[key]) for key in ("curves", "diagnostics", "final")}
        return cls(**{**data, **numbers, "spec": RunSpec.from_json(data["spec"])})

    def write(self, results: Path) -> Path:
        """Writes ``results/<id>.json`` at once: either all of it is there afterwards, or nothing."""
        path = results / f"{self.id}.json"
        write_atomically(path, json.dumps(self.to_json(), sort_keys=True, allow_nan=False) + "\n")
        return path


def read_record(path: Path) -> RunRecord:
    """The record in ``path``. Raises ValueError, one line with the path, if it is none."""
    try:
        return RunRecord.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: {error}") from None


def read_records(results: Path) -> Iterator[RunRecord]:
    """All records of a folder, by name of the file."""
    for path in sorted(results.glob("*.json")):
        if len(path.stem) == 16 and set(path.stem) <= set("0123456789abcdef"):
            yield read_record(path)


def write_atomically(path: Path, text: str) -> None:
    """Replaces ``path`` by ``text`` in one step; a reader, or a crash, sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _plain(value: Any) -> Any:
    """The same without NaN and infinity, which JSON has not."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    return math.nan if value is None else value
