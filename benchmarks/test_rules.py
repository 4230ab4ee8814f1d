"""One step of a reference rule against ``torch.linalg.svd`` and ``eigh`` of the same matrix, in the same run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from reference.variants import VARIANTS

RULES = (
    *("sgd/momentum", "adamw", "row_norm", "row_norm/centred"),
    *("hybrid", "left_spectral", "right_spectral", "right_spectral/coupled", "muon_heads/qkv"),
    *("muon", "muon/polar_express", "muon/gram_newton_schulz"),
    *("polargrad", "polargrad/qdwh"),
)
SHAPES = ((128, 128), (512, 128), (128, 512))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("variant", RULES)
def test_step(
    compare: Callable[..., None], benchmark: Any, rng: torch.Generator, variant: str, shape: tuple[int, int]
) -> None:
    rule = VARIANTS[variant]
    weight, first, grad = (torch.randn(shape, generator=rng, dtype=torch.float64) for _ in range(3))
    _, state = rule.update(first, rule.init(weight), weight)
    displacement, _ = rule.update(grad, state, weight)
    assert torch.isfinite(displacement).all()
    assert displacement.abs().max() > 0
    thin = grad if shape[0] <= shape[1] else grad.mT  # the Gram matrix of the shorter side

    benchmark.group = f"one float64 step of a {shape[0]} x {shape[1]} weight"
    compare(
        lambda: rule.update(grad, state, weight),
        {
            "svd": lambda: torch.linalg.svd(grad, full_matrices=False),
            "eigh of the Gram matrix": lambda: torch.linalg.eigh(thin @ thin.mT),
        },
    )
