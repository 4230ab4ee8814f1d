"""Throughput of ``groups``: random elements per second, and entries moved per second by an action."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from groups import get_block, parse_action, parse_group

pytestmark = pytest.mark.benchmark(max_time=0.3, min_rounds=5)

FAMILIES = ("Perm", "SPerm", "Cyclic", "O", "Stab1", "U1[half]", "(O wr Perm[4])", "Scale", "GL")
SIZES = (16, 64, 256)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", FAMILIES)
def test_sampling(benchmark: Any, rng: torch.Generator, family: str, size: int) -> None:
    count = 4096 // size
    group = parse_group(family)
    benchmark.group = f"sampling: {count} elements of size {size}"
    benchmark.extra_info["elements"] = count
    sample = benchmark(group.sample, size, count, rng=rng)
    assert sample.shape == (count, size, size)


@pytest.mark.parametrize("size", [4, 16])
@pytest.mark.parametrize("family", ["Perm", "O", "Stab1", "(O wr Perm[4])"])
def test_exact_elements(benchmark: Any, family: str, size: int) -> None:
    group = parse_group(family)
    benchmark.group = f"exact elements of size {size}: all of exact(n), and the product of the first and the last"

    def build_and_multiply() -> Any:
        elements = group.exact(size)
        return elements[0] @ elements[-1]

    assert benchmark(build_and_multiply).is_exact


SPECS = {
    "matrix": "O(rows) x O(cols)",
    "embedding": "Perm(rows) x O(cols)",
    "router": "Perm(rows) x O(cols) + Shift(rows)",
    "attention_qkv": "(O wr Perm[4])(rows) x O(cols)",
}


@pytest.mark.parametrize("library", ["torch", "numpy"])
@pytest.mark.parametrize("shape", [(64, 64), (512, 256)], ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("block", SPECS)
def test_action_float(benchmark: Any, rng: torch.Generator, block: str, shape: tuple[int, int], library: str) -> None:
    (element,) = parse_action(SPECS[block]).sample((shape,), 1, rng=rng)
    weight = torch.randn(shape, generator=rng, dtype=torch.float64)
    tensors = (weight,) if library == "torch" else (weight.numpy(),)
    benchmark.group = f"action on a float64 {shape[0]} x {shape[1]} weight"
    (moved,) = benchmark(element.act, tensors)
    assert moved.shape == shape


@pytest.mark.parametrize("block", ["matrix", "embedding", "router", "attention_qkv", "swiglu", "experts"])
def test_action_exact(benchmark: Any, block: str) -> None:
    chosen = get_block(block)
    shapes = chosen.shapes[3]
    element = chosen.action.exact(shapes)[-1]
    tensors = tuple(
        np.array([Fraction(k % 7 - 3, 2) for k in range(int(np.prod(shape)))], dtype=object).reshape(shape)
        for shape in shapes
    )
    benchmark.group = "action on fractions"
    benchmark.extra_info["shapes"] = [list(shape) for shape in shapes]
    moved = benchmark(element.act, tensors)
    assert all(isinstance(entry, Fraction) for tensor in moved for entry in tensor.flat)


@pytest.mark.parametrize("batch", [1, 32])
def test_action_batched(benchmark: Any, rng: torch.Generator, batch: int) -> None:
    """One element on a stack of weights: leading axes are a batch."""
    (element,) = parse_action("O(rows) x O(cols)").sample(((64, 64),), 1, rng=rng)
    stack = torch.randn((batch, 64, 64), generator=rng, dtype=torch.float64)
    benchmark.group = "action on a stack of 64 x 64 weights"
    (moved,) = benchmark(element.act, (stack,))
    assert moved.shape == stack.shape
