"""The model of a preset, ready to train: initialised from the seed, in the precision of the run, compiled once.

A process that trains many runs keeps its last model and gives it new weights in place, so that torch.compile's work is
done once per preset and precision.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from paper_repro.models import build
from paper_repro.presets import Preset
from paper_repro.records import Precision

_CAST_EXPERTS = "grouped_mm_in_autocast"
_last: tuple[str, nn.Module] | None = None


def initial_model(preset: Preset, seed: int, device: torch.device, precision: Precision) -> nn.Module:
    """The preset's model with the weights that ``seed`` gives, the same on every device; in training mode.

    The model of the last call is used again if it fits: do not keep it.
    """
    global _last
    key = json.dumps([preset.family, dict(preset.model), str(device), precision], sort_keys=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = build(preset.family, **preset.model)
    if _last is None or _last[0] != key:
        _last = None  # the old model must go before the new one comes
        model = fresh.to(device).train()
        if precision == "bf16_autocast" and device.type == "cuda":
            _cast_experts(model)
        _last = key, model
        return model
    model = _last[1]
    model.load_state_dict(fresh.state_dict())
    model.zero_grad(set_to_none=True)
    return model.train()


def compiled(model: nn.Module, preset: Preset, device: torch.device) -> Callable[..., Any]:
    """What to call in training: the model under torch.compile where the preset says so and there is a GPU."""
    if not preset.compile or device.type != "cuda":
        return model
    if not hasattr(model, "_compiled_call_impl") or model._compiled_call_impl is None:
        model.compile(dynamic=False)
    return model


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[Callable[[], Any]]:
    """Sets the precision of float32 matrix products for a run and gives the context of the forward pass.

    ``fp32``: no tensor cores; ``tf32``: as the paper's runs; ``bf16_autocast``: autocast in the forward pass and TF32
    elsewhere. What was set before comes back.
    """

    def forward() -> Any:
        if precision == "bf16_autocast":
            return torch.autocast(device.type, dtype=torch.bfloat16)
        return nullcontext()

    with _products("ieee" if precision == "fp32" else "tf32"):
        yield forward


def exact_products() -> AbstractContextManager[None]:
    """float32 products in float32, for evaluation and diagnostics in every precision of training."""
    return _products("ieee")


@contextmanager
def _products(precision: str) -> Iterator[None]:
    matmul: Any = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = precision
    try:
        yield
    finally:
        matmul.fp32_precision = before


@contextmanager
def repeatable(wanted: bool) -> Iterator[None]:
    """Deterministic kernels where there are any, if ``wanted``; a warning names an operation that has none."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def logits_of(model: Callable[..., Any], tokens: Tensor) -> Tensor:
    """Logits ``(batch, length, vocabulary)`` for ``tokens`` ``(batch, length + 1)``, of which the last is not seen."""
    logits: Tensor = model(input_ids=tokens[:, :-1], use_cache=False).logits
    return logits


class _Cast:
    """A module of stacked experts whose parameters read as ``dtype``: autocast does not reach grouped products."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        self._module = module
        self._dtype = dtype

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        return value.to(self._dtype) if isinstance(value, nn.Parameter) else value


def _cast_experts(model: nn.Module) -> None:
    """Makes stacked experts that use grouped products follow autocast; others are left as they are."""
    config: Any = model.config
    if getattr(config, "_experts_implementation", None) != "grouped_mm":
        return
    moe = importlib.import_module("transformers.integrations.moe")
    grouped = moe.grouped_mm_experts_forward

    def forward(module: nn.Module, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(hidden.device.type):
            result: Tensor = grouped(module, hidden, chosen, weights)
            return result
        dtype = torch.get_autocast_dtype(hidden.device.type)
        result = grouped(_Cast(module, dtype), hidden.to(dtype), chosen, weights)
        return result.to(hidden.dtype)

    moe.ALL_EXPERTS_FUNCTIONS.register(_CAST_EXPERTS, forward)
    # The public setter checks against transformers' own names only.
    config._experts_implementation_internal = _CAST_EXPERTS
