"""The claims as data (``claims.toml``), checked on load."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from typing import Any, Literal

from paper_repro.planning.metrics import METRICS
from paper_repro.statistics import Direction

FAMILIES = ("qwen3", "gemma3", "olmoe", "gpt_oss")


@dataclass(frozen=True)
class Contrast:
    """One hypothesis: on ``family``, the treatment's metric lies on the side ``direction`` of the baseline's.

    ``treatment`` and ``baseline`` are optimizer configurations (`paper_repro.configurations`). ``auxiliary``: on the
    presets that add router losses to the objective, and otherwise on those that do not.
    """

    family: str
    treatment: str
    baseline: str
    metric: str
    direction: Direction
    target_offset: Literal[1, 2] = 2
    auxiliary: bool = False

    def __post_init__(self) -> None:
        for name, known in (
            ("family", FAMILIES),
            ("metric", tuple(METRICS)),
            ("direction", ("lower", "higher")),
            ("target_offset", (1, 2)),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(map(str, known))}, got {getattr(self, name)!r}")
        if self.treatment == self.baseline:
            raise ValueError(f"{self.treatment!r} is compared with itself")


@dataclass(frozen=True)
class Claim:
    """A statement, who makes it (``paper`` or ``ours``), and the comparisons that all have to bear it out."""

    id: str
    source: Literal["paper", "ours"]
    statement: str
    comparisons: tuple[Contrast, ...]
    published: str = ""

    def __post_init__(self) -> None:
        if self.source not in ("paper", "ours"):
            raise ValueError(f"source must be paper or ours, got {self.source!r}")
        if not self.comparisons or len(set(self.comparisons)) != len(self.comparisons):
            raise ValueError("comparisons must be there, and differ")


@functools.cache
def claims() -> tuple[Claim, ...]:
    """All claims, in the order of the report. Raises ValueError, one line, for a file that is none of ours."""
    text = resources.files("paper_repro.planning").joinpath("claims.toml").read_text(encoding="utf-8")
    return parse(text)


def parse(text: str) -> tuple[Claim, ...]:
    """Claims from TOML. Raises ValueError, one line that names the claim."""
    found = []
    for number, entry in enumerate(tomllib.loads(text).get("claim", ()), start=1):
        name = entry.get("id", f"number {number}")
        try:
            contrasts = tuple(_made(Contrast, each) for each in entry.get("comparisons", ()))
            found.append(_made(Claim, {**entry, "comparisons": contrasts}))
        except (TypeError, ValueError) as error:
            raise ValueError(f"claim {name}: {error}") from None
    names = [claim.id for claim in found]
    if len(set(names)) != len(names):
        raise ValueError(f"claims: an id occurs twice in {', '.join(names)}")
    return tuple(found)


def _made(kind: Any, data: Mapping[str, Any]) -> Any:
    known = {each.name for each in fields(kind)}
    if unknown := data.keys() - known:
        raise ValueError(f"unknown keys {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}")
    return kind(**data)
