"""A study as data (``studies/*.toml``): which runs, in which order, and how their learning rates are found."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from typing import Any, Literal, Protocol

from paper_repro.records import RATE_ROLES, Precision, RunSpec

SCALES = ("smoke", "scaled", "paper")


class Catalogue(Protocol):
    """What planning has to know of presets and configurations; see `paper_repro.planning.catalogue`."""

    def family(self, preset: str) -> str:
        """The model family, e.g. ``qwen3``."""

    def steps(self, preset: str) -> int:
        """Optimizer steps of a full run."""

    def precision(self, preset: str) -> Precision:
        """That of its runs."""

    def auxiliary(self, preset: str) -> bool:
        """Whether router losses are added to the objective, for the router diagnostics."""

    def rates(self, preset: str, optimizer: str) -> Mapping[str, float]:
        """Learning rates by role, before tuning; only roles that the model has."""


@dataclass(frozen=True)
class Tuning:
    """The search for learning rates: every factor is tried on all ``roles`` at once.

    It runs on a seed of its own, its loss is that of the tuning documents, and it takes ``steps_share`` of the steps.
    A preset that is a key of ``like`` takes the factors found on the preset named there, and an ablation (a name with
    ``+``) those of the configuration that it departs from.
    """

    factors: tuple[float, ...]
    roles: tuple[str, ...]
    seed: int
    steps_share: float
    like: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.factors or min(self.factors) <= 0 or list(self.factors) != sorted(set(self.factors)):
            raise ValueError(f"tuning.factors must be positive and increasing, got {self.factors}")
        if unknown := set(self.roles) - set(RATE_ROLES):
            raise ValueError(f"tuning.roles: unknown {', '.join(sorted(unknown))}; roles are {', '.join(RATE_ROLES)}")
        if not 0 < self.steps_share <= 1:
            raise ValueError(f"tuning.steps_share must lie in (0, 1], got {self.steps_share}")


@dataclass(frozen=True)
class Stage:
    """Every optimizer on every preset with seeds 0 to ``seeds - 1``; what an earlier stage has is not run again."""

    name: str
    presets: tuple[str, ...]
    optimizers: tuple[str, ...]
    seeds: int
    target_offset: Literal[1, 2] = 2

    def __post_init__(self) -> None:
        if not (self.presets and self.optimizers and self.seeds >= 1):
            raise ValueError(f"stage {self.name!r} needs presets, optimizers and seeds >= 1")


@dataclass(frozen=True)
class Study:
    """All runs of one scale, stages by falling value. Verdicts need ``scaled`` or ``paper``."""

    scale: Literal["smoke", "scaled", "paper"]
    stages: tuple[Stage, ...]
    tuning: Tuning | None = None

    def __post_init__(self) -> None:
        for stage in self.stages:
            for preset in stage.presets:
                RunSpec(preset, stage.optimizers[0], target_offset=stage.target_offset)
                if not preset.startswith(f"{self.scale}/"):
                    raise ValueError(f"stage {stage.name!r}: preset {preset!r} is not of scale {self.scale!r}")

    @property
    def presets(self) -> tuple[str, ...]:
        """All presets, in the order of their first stage."""
        return tuple(dict.fromkeys(preset for stage in self.stages for preset in stage.presets))

    def seeds(self, preset: str, optimizer: str, target_offset: int) -> int:
        """How many seeds are planned from the start; 0 if the study does not have these runs."""
        return max(
            (
                stage.seeds
                for stage in self.stages
                if preset in stage.presets and optimizer in stage.optimizers and stage.target_offset == target_offset
            ),
            default=0,
        )


@functools.cache
def load_study(scale: str) -> Study:
    """The study of a scale. Raises ValueError, one line that names the file, if it is unknown or wrong."""
    if scale not in SCALES:
        raise ValueError(f"unknown scale {scale!r}: use one of {', '.join(SCALES)}")
    path = resources.files("paper_repro.planning").joinpath("studies", f"{scale}.toml")
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def parse(text: str) -> Study:
    """A study from TOML. Raises TypeError or ValueError for missing, unknown or wrong entries."""
    data = tomllib.loads(text)
    stages = tuple(_made(Stage, stage) for stage in data.pop("stage", ()))
    tuning = data.pop("tuning", None)
    made: Study = _made(Study, {**data, "stages": stages, "tuning": tuning and _made(Tuning, tuning)})
    return made


def _made(kind: Any, data: Mapping[str, Any]) -> Any:
    known = {each.name for each in fields(kind)}
    if unknown := data.keys() - known:
        raise ValueError(f"unknown keys {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}")
    return kind(**{key: _frozen(value) for key, value in data.items()})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
