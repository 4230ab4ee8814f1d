"""The fast polar factor: against ``torch.linalg.svd`` in float64, and against plain products of as many operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks.decoder import DEVICES, peak_limits, synchronized
from reference.fast.polar import FastNewtonSchulz, gram_flops, polynomial_flops, uses_gram_form
from reference.orthogonalizers import ORTHOGONALIZERS, NewtonSchulz
from reference.transforms.polynomials import polar_express

CONVERGED = NewtonSchulz(polar_express(12, safety=1.01), margin=1.01)
"""Twelve steps take singular values above 1e-5 to one within float64 rounding."""
SHAPES = {
    "cpu": ((12, 64, 768), (2, 768, 768), (1, 768, 2048)),
    "cuda": ((144, 64, 768), (48, 768, 768), (24, 768, 2048), (1, 4096, 4096), (1, 4096, 14336), (1, 8192, 8192)),
}
SIDE = {"cpu": 1024, "cuda": 8192}


@pytest.mark.parametrize("shape", [(128, 128), (512, 128), (512, 512)], ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("steps", [5, 12])
def test_float64_polar(
    compare: Callable[..., None], benchmark: Any, rng: torch.Generator, shape: tuple[int, int], steps: int
) -> None:
    """Five steps, as rules take, and twelve, which converge."""
    x = torch.randn(shape, generator=rng, dtype=torch.float64)
    method = FastNewtonSchulz.of(CONVERGED if steps == 12 else ORTHOGONALIZERS["polar_express"], "float64")
    benchmark.group = f"float64 polar factor of a {shape[0]} x {shape[1]} matrix"
    compare(
        lambda: method(x),
        {
            "svd": lambda: torch.linalg.svd(x, full_matrices=False),
            "the reference's own": lambda: ORTHOGONALIZERS["exact"](x),
        },
    )


CASES = [
    pytest.param(device, shape, marks=getattr(each, "marks", ()), id=f"{device}-{'x'.join(map(str, shape))}")
    for each in DEVICES
    for device in [str(getattr(each, "values", (each,))[0])]
    for shape in SHAPES[device]
]


@pytest.mark.parametrize(("device", "shape"), CASES)
@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("jordan", "bfloat16"),
        ("jordan", "float32"),
        ("gram_newton_schulz", "bfloat16"),
        ("gram_newton_schulz", "float16"),
    ],
)
def test_polar(
    compare: Callable[..., None], benchmark: Any, device: str, shape: tuple[int, int, int], name: str, precision: str
) -> None:
    """The ratio to plain products of as many operations is one over the achieved share of what the device can do."""
    if device == "cpu" and precision == "float16":
        pytest.skip("float16 products are emulated on this CPU")
    method = FastNewtonSchulz.of(ORTHOGONALIZERS[name], precision)
    x = torch.randn(shape, generator=torch.Generator(device).manual_seed(0), device=device)
    flops = shape[0] * _flops(method, *shape[1:])
    benchmark.extra_info["flops"] = flops
    benchmark.group = f"{precision} polar factor of {shape[0]} matrices {shape[1]} x {shape[2]} on {device}"
    compare(
        synchronized(device, lambda: method(x)),
        {"plain products of as many operations": synchronized(device, _products(flops, device, precision))},
        rounds=5 if device == "cpu" else 20,
        limits=peak_limits(device, flops) if precision == "bfloat16" else None,
    )


def _products(flops: int, device: str, precision: str) -> Callable[[], None]:
    """Products of matrices that are large enough for the device, with ``flops`` operations in all."""
    side = SIDE[device]
    count = -(-flops // (2 * side**3))
    left = torch.randn(round(flops / (2 * side**2 * count)), side, device=device).to(getattr(torch, precision))
    right = torch.randn(side, side, device=device).to(left.dtype)

    def run() -> None:
        for _ in range(count):
            left @ right

    return run


def _flops(method: FastNewtonSchulz, rows: int, cols: int) -> int:
    if uses_gram_form(method, rows, cols):
        return gram_flops(rows, cols, method.schedule, method.gram_restarts or ())
    return polynomial_flops(rows, cols, method.schedule)
