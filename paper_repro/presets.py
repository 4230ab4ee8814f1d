"""Presets: what is trained, on what, for how long, as data files that are checked when they are read.

``presets/smoke``, ``scaled`` and ``paper`` hold runs, ``presets/data`` the data sets that they name. A preset says
nothing of the optimizer but its learning rates and decays; the rules are chosen by `paper_repro.configurations`.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from paper_repro.models import FAMILIES
from paper_repro.records import PRESETS, RATE_ROLES, Precision, RunSpec

if TYPE_CHECKING:
    from paper_repro.data.prepare import DataSpec

FOLDER = PRESETS
"""Where the files are; a test may look elsewhere."""

Order = Literal["shuffled", "sequential"]

Rate = float | Mapping[str, float]
"""A learning rate, or one for each choice of rule."""


@dataclass(frozen=True)
class Preset:
    """One training set-up, for any optimizer.

    Attributes:
        name: ``scale/file``.
        family: a key of `paper_repro.models.FAMILIES`.
        data: name of a data set (`load_data_spec`).
        model: arguments of the family's configuration class, vocabulary size included.
        sequence_length: tokens that the model sees at once.
        sequences_per_step: the global batch, whatever the number of processes.
        sequences_per_forward: of them, how many go through the model at once in one process.
        steps: optimizer steps.
        evaluate_every: steps between evaluations; the last step is always evaluated.
        evaluation_sequences: held-out sequences per evaluation, the same ones every time.
        measure_every: steps between diagnostics.
        precision: what the runs of this preset use (`default_spec`).
        order: ``shuffled`` by the seed in every epoch, or ``sequential`` as in the paper.
        compile: whether torch.compile pays on a GPU.
        rates: learning rates by role (`RATE_ROLES`), and there by choice of rule where they differ.
        rates_of: other rates for single optimizer configurations.
        decay: weight decay by role, 0 where there is none.
        warmup: warm-up steps of role ``other``, which the other roles have not.
        balance_loss: coefficient of the load-balancing loss of the routers, added by hand.
        z_loss: coefficient of the router z-loss.
    """

    name: str
    family: str
    data: str
    model: Mapping[str, Any]
    sequence_length: int
    sequences_per_step: int
    sequences_per_forward: int
    steps: int
    evaluate_every: int
    evaluation_sequences: int
    measure_every: int
    rates: Mapping[str, Rate]
    decay: Mapping[str, float] = field(default_factory=dict)
    rates_of: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    precision: Precision = "fp32"
    order: Order = "shuffled"
    compile: bool = False
    warmup: int = 100
    balance_loss: float = 0.0
    z_loss: float = 0.0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"unknown family {self.family!r}: use one of {', '.join(FAMILIES)}")
        if self.sequences_per_step % self.sequences_per_forward:
            raise ValueError("sequences_per_forward must divide sequences_per_step")
        for name in ("sequence_length", "sequences_per_step", "steps", "evaluate_every", "evaluation_sequences"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for table in (self.rates, self.decay, *self.rates_of.values()):
            if unknown := table.keys() - set(RATE_ROLES):
                raise ValueError(f"unknown roles {', '.join(sorted(unknown))}; roles are {', '.join(RATE_ROLES)}")
        if "vocab_size" not in self.model:
            raise ValueError("[model] must say vocab_size")

    @property
    def tokens_per_step(self) -> int:
        """Tokens that the model sees in one step."""
        return self.sequence_length * self.sequences_per_step

    @property
    def has_router(self) -> bool:
        """Whether the model is a mixture of experts."""
        return self.family in ("olmoe", "gpt_oss")

    def rate(self, role: str, choice: str, optimizer: str) -> float:
        """The learning rate of ``role`` stepped by rule ``choice`` in configuration ``optimizer``.

        Raises ValueError naming what is missing: no rate is ever guessed.
        """
        special = self.rates_of.get(optimizer, {})
        found = special[role] if role in special else self.rates.get(role)
        rate = found.get(choice) if isinstance(found, Mapping) else found
        if rate is None:
            raise ValueError(
                f"preset {self.name} has no learning rate for role {role!r} with rule {choice!r}: give one in the rates"
            )
        return float(rate)


def load_preset(name: str) -> Preset:
    """The preset ``name``, e.g. ``smoke/qwen3``. Raises ValueError, one line, if there is none or it is malformed."""
    return _parse(name, _read(name, preset_names(), "preset"))


def default_spec(preset: str, optimizer: str, **others: Any) -> RunSpec:
    """The run of ``optimizer`` on ``preset`` with the preset's precision; ``others`` are fields of `RunSpec`."""
    return RunSpec(preset, optimizer, **{"precision": load_preset(preset).precision, **others})


def preset_names() -> tuple[str, ...]:
    """All presets, by scale."""
    return tuple(
        f"{scale}/{path.stem}"
        for scale in ("smoke", "scaled", "paper")
        for path in sorted((FOLDER / scale).glob("*.toml"))
    )


def data_names() -> tuple[str, ...]:
    """All data sets that have a file."""
    return tuple(path.stem for path in sorted((FOLDER / "data").glob("*.toml")))


def load_data_spec(name: str) -> DataSpec:
    """The data set ``name``, e.g. ``pydoc``; ValueError as in `load_preset`."""
    from paper_repro.data.prepare import DataSpec

    data = _read(name, data_names(), "data set", "data")
    try:
        return DataSpec(name=name, **data)
    except TypeError as error:
        raise ValueError(f"data set {name}: {error}") from None


def data_root(folder: str | Path | None = None) -> Path:
    """Where data sets live: ``folder``, else the environment variable PAPER_REPRO_DATA, else ``paper-repro-data``."""
    return Path(folder or os.environ.get("PAPER_REPRO_DATA") or "paper-repro-data")


def _read(name: str, known: tuple[str, ...], what: str, folder: str = "") -> dict[str, Any]:
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}: use one of {', '.join(known)}")
    path = FOLDER / folder / f"{name}.toml"
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from None


def _parse(name: str, data: dict[str, Any]) -> Preset:
    fields = {each.name: each for each in dataclasses.fields(Preset)}
    unknown = data.keys() - fields.keys()
    required = {key for key, each in fields.items() if _required(each)} - {"name"}
    for problem, keys in (("unknown", unknown), ("missing", required - data.keys())):
        if keys:
            raise ValueError(f"preset {name}: {problem} keys {', '.join(sorted(keys))}")
    try:
        return Preset(name=name, **data)
    except (TypeError, ValueError) as error:
        raise ValueError(f"preset {name}: {error}") from None


def _required(each: dataclasses.Field[Any]) -> bool:
    return each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
