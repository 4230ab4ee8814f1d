"""How long a run takes and how much memory it needs, before it starts: counted operations over assumed speeds.

The operation and parameter counts are exact; the speeds are those of data sheets times a utilisation, and the memory
of activations is a formula. Expect the right order, not the right digit: throughput that runs have measured is in their
records.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from paper_repro.models import build
from paper_repro.presets import Preset, load_preset
from paper_repro.records import RunSpec
from paper_repro.training.stack import make_optimizer
from reference.stack import Assignment

PEAKS: Mapping[str, tuple[float, float, float]] = {
    "B200": (2.25e15, 1.1e15, 7.5e13),
    "H200": (9.9e14, 4.9e14, 6.7e13),
    "H100": (9.9e14, 4.9e14, 6.7e13),
    "A100": (3.12e14, 1.56e14, 1.95e13),
    "L40": (1.81e14, 9.0e13, 9.0e13),
    "4090": (1.65e14, 8.3e13, 8.3e13),
}
"""Part of a device's name -> dense operations per second in bfloat16, TF32 and float32, from data sheets."""

_UTILISATION = {"dense": 0.3, "experts": 0.12, "cpu": 0.5}
_NEWTON_SCHULZ_STEPS = 5


@dataclass(frozen=True)
class Estimate:
    """What a run should need.

    Attributes:
        parameters: all of them, and in ``active`` those that one token meets.
        tokens: of the whole run.
        seconds: of the whole run, evaluation included.
        bytes_per_device: weights, gradients, optimizer state, activations and logits of one device.
        speed: operations per second and device that were assumed.
        device: what they were assumed of.
        devices: how many.
    """

    parameters: int
    active: int
    tokens: int
    seconds: float
    bytes_per_device: int
    speed: float
    device: str
    devices: int


def estimate(spec: RunSpec, *, devices: int = 1, device: str | None = None) -> Estimate:
    """The estimate of ``spec`` on ``devices`` devices called ``device`` (a part of the name, such as ``H100``).

    Without ``device``: the GPU of this machine, else its processor, whose speed is measured with a few products. Raises
    ValueError for a device that is not in `PEAKS`.
    """
    preset = load_preset(spec.preset)
    with torch.device("meta"):
        model = build(preset.family, **preset.model)
    optimizer = make_optimizer(model, spec, preset)
    name, peak = _device(spec.precision, device)
    kind = "cpu" if name == "cpu" else "experts" if preset.has_router else "dense"
    speed = peak * _UTILISATION[kind]
    steps = spec.steps or preset.steps
    active = sum(_active(each, preset) for each in optimizer.assignments)
    per_token = _operations_per_token(model, optimizer.assignments, preset)
    evaluations = math.ceil(steps / preset.evaluate_every) + 1
    evaluated = preset.evaluation_sequences * preset.sequence_length * evaluations
    operations = 3 * per_token * preset.tokens_per_step * steps + per_token * evaluated
    operations += steps * sum(_orthogonalisation(each) for each in optimizer.assignments)
    state = sum(_state_bytes(each) for each in optimizer.assignments)
    parameters = sum(each.numel() for each in model.parameters())
    return Estimate(
        parameters=parameters,
        active=active,
        tokens=preset.tokens_per_step * steps,
        seconds=operations / (speed * devices),
        bytes_per_device=8 * parameters + state // devices + _working_bytes(preset, spec, devices),
        speed=speed,
        device=name,
        devices=devices,
    )


def _device(precision: str, device: str | None) -> tuple[str, float]:
    if device is None:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return "cpu", _measured()
    for name, peaks in PEAKS.items():
        if name.lower() in device.lower():
            return name, peaks[("bf16_autocast", "tf32", "fp32").index(precision)]
    raise ValueError(f"no data sheet for device {device!r}: use one of {', '.join(PEAKS)}, cpu")


def _measured(size: int = 384, times: int = 20) -> float:
    """Operations per second of float32 products on this processor."""
    a = torch.randn(size, size)
    a @ a
    began = time.perf_counter()
    for _ in range(times):
        a @ a
    return times * 2 * size**3 / (time.perf_counter() - began)


def _share(each: Assignment, preset: Preset) -> float:
    """The share of a weight's entries that one token meets."""
    if not each.route.role.startswith("expert_"):
        return 1.0
    return float(preset.model["num_experts_per_tok"]) / each.route.parameter.shape[0]


def _active(each: Assignment, preset: Preset) -> int:
    return round(each.route.parameter.numel() * _share(each, preset))


def _operations_per_token(model: nn.Module, assignments: tuple[Assignment, ...], preset: Preset) -> float:
    """Of one forward pass: two per entry of every matrix that multiplies, and attention over half the sequence."""
    matrices = sum(2 * _active(each, preset) for each in assignments if each.route.role not in ("embedding", "other"))
    heads, width = int(preset.model["num_attention_heads"]), _head_width(preset)
    attention = 2 * int(preset.model["num_hidden_layers"]) * heads * width * preset.sequence_length
    return float(matrices + attention)


def _head_width(preset: Preset) -> int:
    found = preset.model.get("head_dim") or preset.model["hidden_size"] // preset.model["num_attention_heads"]
    return int(found)


def _orthogonalisation(each: Assignment) -> float:
    """Operations of five Newton-Schulz steps on ``m x n``, ``n <= m``: ``5 (4 n^2 m + 2 n^3)``; 0 for other rules."""
    if not hasattr(each.rule, "orthogonalizer") and not hasattr(each.rule, "backend"):
        return 0.0
    shape = each.route.parameter.shape
    n, m = sorted(shape[-2:])
    return float(_NEWTON_SCHULZ_STEPS * (4 * n * n * m + 2 * n**3) * math.prod(shape[:-2]))


def _state_bytes(each: Assignment) -> int:
    state = each.rule.init(torch.empty(each.route.parameter.shape, device="meta"))
    return sum(4 * value.numel() for value in state.values() if isinstance(value, torch.Tensor))


def _working_bytes(preset: Preset, spec: RunSpec, devices: int) -> int:
    """Activations of one forward pass and its logits: what the backward pass needs, without recomputation."""
    model = preset.model
    tokens = preset.sequence_length * min(preset.sequences_per_forward, max(1, preset.sequences_per_step // devices))
    size = 2 if spec.precision == "bf16_autocast" else 4
    copies = int(model["num_experts_per_tok"]) if preset.has_router else 1
    layer = 16 * int(model["hidden_size"]) + 5 * copies * int(model["intermediate_size"])
    if preset.family == "gpt_oss":  # eager attention keeps its scores
        layer += 3 * int(model["num_attention_heads"]) * preset.sequence_length
    logits = int(model["vocab_size"]) * (8 + size)
    return tokens * (int(model["num_hidden_layers"]) * layer * size + logits)
