"""One training step, split into forward, backward and optimizer, for every optimizer configuration and its rivals.

The rivals are AdamW (fused), torch.optim.Muon on the matrices that it takes with AdamW on the rest, and for one
configuration the same stack stepping one matrix at a time, and by the fast path of `reference`. All share one model and
take turns, round after round, so that whatever else the machine does slows all of them down alike; medians over the
rounds are reported. Learning rates are zero: the arithmetic is the same, and the model stays where it is.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from paper_repro.configurations import parse_configuration
from paper_repro.presets import Preset, load_preset
from paper_repro.records import RATE_ROLES, RunSpec, write_atomically
from paper_repro.training.loss import cross_entropy
from paper_repro.training.model import arithmetic, initial_model, logits_of
from paper_repro.training.stack import make_optimizer
from reference import build_stack
from reference.fast.precision import Precision
from reference.stack import LayerwiseOptimizer

SCHEMA = "paper_repro.benchmark/1"
FILE = "benchmark.json"

_DENSE = ("adamw-muon", "row-muon", "hybrid-muon", "right-muon", "row-row", "hybrid-hybrid")
_EXPERTS = ("adamw-muon-adamw", "row-muon-adamw", "row-muon-row", "row-muon-left", "hybrid-hybrid-hybrid")
_OTHER_WAYS = ("row-muon", "row-muon-row")
"""Configurations that are also stepped one matrix at a time, and by the fast path."""
_NO_RATES = dict.fromkeys(RATE_ROLES, 0.0)
_WARM_UP = 2


@dataclass
class _Rival:
    """What is timed, and its times in seconds so far."""

    name: str
    optimizers: Sequence[torch.optim.Optimizer]
    times: dict[str, list[float]] = field(
        default_factory=lambda: {part: [] for part in ("forward", "backward", "step")}
    )
    transient: int | None = None

    @property
    def state_bytes(self) -> int:
        """Bytes of all tensors that the optimizers keep between steps."""
        states = [value for each in self.optimizers for state in each.state.values() for value in state.values()]
        return sum(each.numel() * each.element_size() for each in states if isinstance(each, Tensor))


def compare(preset: str, *, steps: int = 5, device: str | None = None) -> dict[str, Any]:
    """The benchmark of one preset as plain data: per rival, median seconds of each part and bytes.

    ``step_bytes`` is the most memory that a step takes beyond what it finds and keeps; measured on GPUs only.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    found = load_preset(preset)
    with arithmetic(found.precision, where) as forward:
        model = initial_model(found, 0, where, found.precision)
        rivals = _rivals(model, found)
        tokens = _tokens(found, where)
        for round_ in range(_WARM_UP + steps):
            for rival in rivals:
                _one_step(rival, model, tokens, forward, where, keep=round_ >= _WARM_UP)
    return {
        "schema": SCHEMA,
        "preset": preset,
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else f"CPU ({platform.machine()})",
        "threads": torch.get_num_threads() if where.type == "cpu" else None,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "precision": found.precision,
        "parameters": sum(each.numel() for each in model.parameters()),
        "tokens_per_step": tokens.shape[0] * found.sequence_length,
        "rounds": steps,
        "rivals": [
            {
                "name": rival.name,
                **{f"{part}_seconds": median(times) for part, times in rival.times.items()},
                "state_bytes": rival.state_bytes,
                "step_bytes": rival.transient,
            }
            for rival in rivals
        ],
    }


def store(found: Mapping[str, Any], results: Path) -> Path:
    """Puts one benchmark into the file of the folder, in the place of an earlier one of the same preset and device."""
    path = results / FILE
    every = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    kept = [each for each in every if (each["preset"], each["device"]) != (found["preset"], found["device"])]
    kept = sorted([*kept, dict(found)], key=lambda each: (each["preset"], each["device"]))
    write_atomically(path, json.dumps(kept, indent=1) + "\n")
    return path


def _rivals(model: nn.Module, preset: Preset) -> list[_Rival]:
    parameters = list(model.parameters())
    fused: dict[str, Any] = {"lr": 0.0, "betas": (0.9, 0.95), "fused": True}
    matrices = [
        each for name, each in model.named_parameters() if each.ndim == 2 and "embed" not in name and "head" not in name
    ]
    others = [each for each in parameters if not any(each is matrix for matrix in matrices)]
    rivals = [
        _Rival("AdamW (fused)", [torch.optim.AdamW(parameters, **fused)]),
        _Rival(
            "torch.optim.Muon, AdamW (fused) on the rest",
            [torch.optim.Muon(matrices, lr=0.0), torch.optim.AdamW(others, **fused)],
        ),
    ]
    for name in _EXPERTS if preset.has_router else _DENSE:
        stack = _stack(model, preset, name)
        rivals.append(_Rival(name, [stack]))
        if name in _OTHER_WAYS:
            single = [LayerwiseOptimizer([each]) for each in stack.assignments]
            rivals.append(_Rival(f"{name}, one matrix at a time", single))
            products: Precision = "bfloat16" if parameters[0].device.type == "cuda" else "float32"
            rules = parse_configuration(name).rules(preset, _NO_RATES)
            rivals.append(_Rival(f"{name}, fast path in {products}", [build_stack(model, rules, precision=products)]))
    return rivals


def _stack(model: nn.Module, preset: Preset, optimizer: str) -> LayerwiseOptimizer:
    return make_optimizer(model, RunSpec(preset.name, optimizer, rates=_NO_RATES), preset)


def _tokens(preset: Preset, where: torch.device) -> Tensor:
    """One piece of a batch of uniform tokens, as many sequences as go through the model at once."""
    generator = torch.Generator().manual_seed(0)
    shape = (preset.sequences_per_forward, preset.sequence_length + 1)
    return torch.randint(int(preset.model["vocab_size"]), shape, generator=generator).to(where)


def _one_step(
    rival: _Rival,
    model: nn.Module,
    tokens: Tensor,
    forward: Callable[[], Any],
    where: torch.device,
    *,
    keep: bool,
) -> None:
    model.zero_grad(set_to_none=True)
    marks = [_now(where)]
    with forward():
        logits = logits_of(model, tokens)
    loss = cross_entropy(logits, tokens, 2)
    marks.append(_now(where))
    loss.backward()  # type: ignore[no-untyped-call]
    del logits, loss
    marks.append(_now(where))
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
        before = torch.cuda.memory_allocated(where)
    for each in rival.optimizers:
        each.step()
    marks.append(_now(where))
    if where.type == "cuda" and keep:
        rival.transient = max(rival.transient or 0, torch.cuda.max_memory_allocated(where) - before)
    if keep:
        for part, start, end in zip(rival.times, marks, marks[1:], strict=False):
            rival.times[part].append(end - start)


def _now(where: torch.device) -> float:
    """Seconds, after everything that was asked of the device is done."""
    if where.type == "cuda":
        torch.cuda.synchronize(where)
    return time.perf_counter()
