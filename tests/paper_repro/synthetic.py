"""Records that no training made: what planning and reports are tested on. Small, and a function of their arguments."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from paper_repro.records import Precision, RunRecord, RunSpec, code_version, run_id

MANIFEST = "ab" * 32
STEPS = 60


class Catalogue:
    """Presets and rates of a world in which every run has `STEPS` steps."""

    def family(self, preset: str) -> str:
        name = preset.partition("/")[2]
        families = ("qwen3", "gemma3", "olmoe", "gpt_oss")
        return next(family for family in families if name.startswith(family.replace("_", "-")))

    def steps(self, preset: str) -> int:
        return STEPS

    def precision(self, preset: str) -> Precision:
        return "fp32"

    def auxiliary(self, preset: str) -> bool:
        return preset.endswith("-router")

    def rates(self, preset: str, optimizer: str) -> Mapping[str, float]:
        base = {"embedding": 0.1, "lm_head": 0.01, "mlp": 0.02, "attention": 0.02, "other": 0.005}
        return {**base, "router": 0.001} if self.family(preset) in ("olmoe", "gpt_oss") else base


def record(
    spec: RunSpec,
    loss: float = 4.0,
    *,
    outcome: str = "finished",
    manifest: str = MANIFEST,
    code: str | None = None,
    device: str = "synthetic device",
    diagnostics: Mapping[str, list[float]] | None = None,
) -> RunRecord:
    """A run whose validation loss falls from 7.6 to ``loss`` along an exponential."""
    steps = spec.steps or STEPS
    every = max(1, steps // 6)
    val_step = list(range(0, steps + 1, every))
    step = list(range(1, steps + 1))
    noise = random.Random(spec.canonical())

    def curve(at: float) -> float:
        return loss + (7.6 - loss) * (math.exp(-5 * at / steps) - math.exp(-5)) / (1 - math.exp(-5))

    series: dict[str, Any] = {"step": val_step, **(diagnostics or {})}
    finished = outcome == "finished"
    return RunRecord(
        id=run_id(spec, manifest),
        spec=spec,
        manifest=manifest,
        code=code or code_version(spec.preset),
        device={"type": "cuda", "name": device, "count": 1},
        versions={"python": "3.11", "torch": "2.13.0", "transformers": "5.23.0", "sources": "0" * 12},
        throughput={"tokens_per_second": 1000.0, "seconds_per_step": 0.5, "peak_memory_bytes": None},
        curves={
            "step": step,
            "train_loss": [curve(at) + noise.gauss(0, 0.01) for at in step],
            "val_step": val_step,
            "val_loss": [curve(at) for at in val_step],
        },
        diagnostics=series,
        final={"step": steps, "train_loss": curve(steps), "val_loss": loss if finished else math.nan, "tokens": 1e4},
        outcome=outcome,  # type: ignore[arg-type]
        message=None if finished else "train loss became nan at step 7",
        symmetry={},
        seconds=0.6 * steps,
    )
