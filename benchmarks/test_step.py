"""One optimizer step of a 12-layer, 768-wide decoder (97 million parameters) against torch's optimizers on the same.

float32 parameters on the CPU, bfloat16 products in Newton-Schulz on both sides; bfloat16 parameters on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks.decoder import DEVICES, Decoder, decoder, hidden_matrices, rest, synchronized
from reference import build_stack
from reference.fast import optimizers as fast
from reference.fast.execution import Execution

DTYPE = {"cpu": torch.float32, "cuda": torch.bfloat16}
ROUNDS = {"cpu": 3, "cuda": 15}

everywhere = pytest.mark.parametrize("device", DEVICES)


def torch_muon(model: Decoder, device: str) -> Callable[[], None]:
    """``torch.optim.Muon`` on the matrices of the layers and AdamW on the rest, as its documentation has it."""
    muon = torch.optim.Muon(hidden_matrices(model), lr=1e-3)
    adamw = torch.optim.AdamW(rest(model), lr=1e-3)
    return synchronized(device, muon.step, adamw.step)


@everywhere
def test_layerwise_step(compare: Callable[..., None], benchmark: Any, device: str) -> None:
    model = decoder(device, DTYPE[device])
    stack = build_stack(model, precision="bfloat16")
    adamw, fused = (torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused) for fused in (False, True))
    benchmark.group = f"one step of a 12-layer decoder on {device}"
    compare(
        synchronized(device, stack.step),
        {
            "torch.optim.Muon with AdamW": torch_muon(model, device),
            "torch.optim.AdamW": synchronized(device, adamw.step),
            "torch.optim.AdamW fused": synchronized(device, fused.step),
        },
        rounds=ROUNDS[device],
    )
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@everywhere
def test_muon_step(compare: Callable[..., None], benchmark: Any, device: str) -> None:
    """The same rule on the same matrices, whole (not by heads)."""
    params = hidden_matrices(decoder(device, DTYPE[device]))
    ours = fast.MuonTorch(params, lr=1e-3)
    theirs = torch.optim.Muon(params, lr=1e-3)
    benchmark.group = f"one Muon step of the layers on {device}"
    compare(
        synchronized(device, ours.step), {"torch.optim.Muon": synchronized(device, theirs.step)}, rounds=ROUNDS[device]
    )


@everywhere
@pytest.mark.parametrize("rule", ["row_norm", "adamw"])
def test_step_of_tables(compare: Callable[..., None], benchmark: Any, device: str, rule: str) -> None:
    """Embedding and head: what is bound by memory."""
    model = decoder(device, DTYPE[device], layers=0)
    params = [model.embedding.weight, model.lm_head.weight]
    ours = fast.OPTIMIZERS[rule](params, lr=1e-3)
    adamw, fused = (torch.optim.AdamW(params, lr=1e-3, fused=fused) for fused in (False, True))
    benchmark.group = f"one step of embedding and head on {device}"
    compare(
        synchronized(device, ours.step),
        {
            "torch.optim.AdamW": synchronized(device, adamw.step),
            "torch.optim.AdamW fused": synchronized(device, fused.step),
        },
    )


@everywhere
@pytest.mark.parametrize("width", [64, 768])
def test_batched_step(compare: Callable[..., None], benchmark: Any, device: str, width: int) -> None:
    """Stacks of equal shapes against one parameter at a time, with the same code."""
    model = decoder(device, DTYPE[device], width=width, hidden=8 * width // 3, heads=width // 16, vocabulary=64)
    together = build_stack(model, precision="bfloat16")
    apart = build_stack(model, precision="bfloat16")
    apart._chunks = lambda stack: [[parameter] for parameter in stack]
    benchmark.group = f"one layerwise step, 12 layers of width {width}, on {device}"
    compare(
        synchronized(device, together.step),
        {"one parameter at a time": synchronized(device, apart.step)},
        rounds=ROUNDS[device],
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none")
@pytest.mark.parametrize(
    "kind", ["layerwise", "layerwise, low-precision state", "torch.optim.Muon", "torch.optim.AdamW"]
)
def test_memory_of_a_step(benchmark: Any, kind: str) -> None:
    """Bytes per parameter, beside bfloat16 weights and gradients: kept between steps, and at the peak of a step."""
    model = decoder("cuda", torch.bfloat16)
    count = sum(parameter.numel() for parameter in model.parameters())
    before = torch.cuda.memory_allocated()
    step = {
        "layerwise": lambda: build_stack(model, precision="bfloat16").step,
        "low-precision state": lambda: (
            build_stack(model, precision=Execution("bfloat16", low_precision_state=True)).step
        ),
        "torch.optim.Muon": lambda: torch_muon(model, "cuda"),
        "torch.optim.AdamW": lambda: torch.optim.AdamW(model.parameters(), lr=1e-3).step,
    }[kind]()
    step()
    torch.cuda.reset_peak_memory_stats()
    benchmark.pedantic(synchronized("cuda", step), rounds=3)
    benchmark.extra_info["bytes per parameter kept"] = (torch.cuda.memory_allocated() - before) / count
    benchmark.extra_info["bytes per parameter at the peak"] = (torch.cuda.max_memory_allocated() - before) / count
    print({key: round(value, 2) for key, value in benchmark.extra_info.items()})
