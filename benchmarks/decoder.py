"""A decoder of plain parameters, and where benchmarks run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

DEVICES = (
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none"),
        ],
    ),
)

PEAK_TFLOPS = {
    "B200": 2250.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "RTX 4090": 165.0,
    "MI300X": 1307.0,
}
"""Dense bfloat16 peak by a part of the device's name, of the vendors' data sheets; the first that fits."""


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head_dim = width // heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)


class MLP(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)


class Layer(nn.Module):
    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.mlp = MLP(width, hidden)
        self.norm_1 = nn.RMSNorm(width)
        self.norm_2 = nn.RMSNorm(width)


class Decoder(nn.Module):
    """The parameters of a gated decoder with untied embedding and head; it computes nothing."""

    def __init__(
        self, *, layers: int = 12, width: int = 768, hidden: int = 2048, heads: int = 12, vocabulary: int = 8192
    ):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Layer(width, hidden, heads) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)


def decoder(device: str, dtype: torch.dtype = torch.float32, **sizes: int) -> Decoder:
    """A decoder with random gradients."""
    with torch.device("meta"):
        model = Decoder(**sizes).to(dtype)
    model = model.to_empty(device=device)
    rng = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=rng).mul_(0.02)
            parameter.grad = torch.randn(parameter.shape, generator=rng, device=device).to(dtype)
    return model


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The matrices of the layers, without embedding and head."""
    return [each for name, each in model.named_parameters() if each.ndim == 2 and name.startswith("layers.")]


def rest(model: nn.Module) -> list[nn.Parameter]:
    """What is not in `hidden_matrices`."""
    taken = {id(each) for each in hidden_matrices(model)}
    return [each for each in model.parameters() if id(each) not in taken]


def synchronized(device: str, *calls: Callable[[], object]) -> Callable[[], None]:
    """All calls one after another; back when the device has done them."""

    def run() -> None:
        for call in calls:
            call()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def peak_limits(device: str, flops: float) -> dict[str, float]:
    """The time of ``flops`` operations at the bfloat16 peak of the device, if its name is known."""
    if device != "cuda":
        return {}
    name = torch.cuda.get_device_name()
    known = next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)
    return {} if known is None else {f"peak of {name} ({known:g} TFLOP/s)": flops / (known * 1e12)}
