"""Promotion, noise and regauging do what the probe's verdicts rest on."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symcheck.probe.arithmetic import AMPLITUDE, Arithmetic, Census

SEEDS = st.integers(0, 2**31)


def _matrix(seed: int, rows: int = 5, cols: int = 3) -> torch.Tensor:
    return torch.randn((rows, cols), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _bfloat16_square(x: torch.Tensor) -> torch.Tensor:
    return (x.bfloat16() @ x.bfloat16().mT).to(x.dtype)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_promotion_undoes_casts(seed: int) -> None:
    x = _matrix(seed)
    assert (_bfloat16_square(x) - x @ x.mT).abs().max() > 1e-6
    with Arithmetic(promote=True).active():
        promoted = _bfloat16_square(x)
    assert torch.equal(promoted, x @ x.mT)


def test_promotion_reaches_factories_and_the_default_dtype() -> None:
    with Arithmetic(promote=True).active():
        assert torch.zeros(2, dtype=torch.bfloat16).dtype == torch.float64
        assert torch.ones(2).dtype == torch.float64
        assert torch.empty_like(torch.ones(2, dtype=torch.float64), dtype=torch.float16).dtype == torch.float64
    assert torch.ones(2).dtype == torch.float32


def test_census_sees_casts_random_numbers_and_escapes() -> None:
    census = Census()
    x = _matrix(0)
    with Arithmetic(census=census).active():
        x.bfloat16()
        torch.randn_like(x)
        x.numpy()
        torch.linalg.eigh(x.mT @ x)
    assert census.casts == {"bfloat16"}
    assert census.random == {"aten.randn_like"}
    assert census.escapes == {"numpy"}
    assert census.factorises


def test_census_of_plain_float64_is_empty() -> None:
    census = Census()
    x = _matrix(0)
    with Arithmetic(census=census).active():
        (x @ x.mT + 1).sum()
        torch.tensor(3.0) + 1  # a zero-dimensional step counter is no cast
    assert census == Census()


@given(SEEDS, SEEDS)
@settings(max_examples=30, deadline=None)
def test_elementwise_noise_keeps_ties_signs_and_zeros(seed: int, noise: int) -> None:
    x = _matrix(seed)
    both = torch.stack([x, x, -x, torch.zeros_like(x)])
    with Arithmetic(noise=noise).active():
        y = both * 3.0
    assert torch.equal(y[0], y[1])
    assert torch.equal(y[0], -y[2])
    assert torch.equal(y[3], torch.zeros_like(x))
    assert ((y - 3 * both).abs() <= 2 * AMPLITUDE * (3 * both).abs()).all()


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_noise_is_there_and_reproducible(seed: int) -> None:
    x = _matrix(seed, 8, 8)

    def noisy(key: int) -> torch.Tensor:
        with Arithmetic(noise=key).active():
            return x @ x / 3.0

    assert torch.equal(noisy(1), noisy(1))
    assert not torch.equal(noisy(1), noisy(2))


def test_noise_reaches_in_place_out_and_foreach_variants() -> None:
    x = _matrix(1)
    for operate in (
        lambda t: t.mul_(1 / 3),
        lambda t: torch.mul(x, 1 / 3, out=t),
        lambda t: torch._foreach_mul_([t], 1 / 3),
    ):
        exact, noisy = x.clone(), x.clone()
        operate(exact)
        with Arithmetic(noise=5).active():
            operate(noisy)
        assert not torch.equal(exact, noisy)
        assert ((exact - noisy).abs() <= 2 * AMPLITUDE * exact.abs()).all()


def test_noise_shows_a_decision_that_rounding_takes() -> None:
    # 0.1 + 0.2 - 0.3 is zero in the mathematics and 5e-17 in float64: its sign is nobody's property.
    values = torch.full((64,), 0.1, dtype=torch.float64)
    signs = set()
    for key in range(8):
        with Arithmetic(noise=key).active():
            signs.add(float((values + 0.2 - 0.3).sign()[0]))
    assert len(signs) > 1


def test_noise_leaves_data_movement_alone() -> None:
    x = _matrix(2)
    with Arithmetic(noise=3).active():
        moved = torch.cat([x.clone().mT.contiguous(), x.mT], dim=0).flip(0).abs().sort().values
    assert torch.equal(moved, torch.cat([x.mT, x.mT]).flip(0).abs().sort().values)


@given(SEEDS, SEEDS)
@settings(max_examples=20, deadline=None)
def test_regauged_factors_are_factors_still(seed: int, gauge: int) -> None:
    x = _matrix(seed, 6, 2)
    gram = x @ x.mT  # rank two of six: an eigenspace of dimension four
    with Arithmetic(gauge=gauge).active():
        values, vectors = torch.linalg.eigh(gram)
        u, s, vh = torch.linalg.svd(torch.cat([torch.eye(3, dtype=torch.float64), x[:3]], dim=1), full_matrices=False)
    size = float(gram.abs().max())
    # Clusters are equal to 1e-9 of the largest eigenvalue, so that is how exact a regauged factorisation is.
    assert ((vectors * values) @ vectors.mT - gram).abs().max() <= 1e-8 * size
    assert (vectors.mT @ vectors - torch.eye(6, dtype=torch.float64)).abs().max() < 1e-13
    assert ((u * s) @ vh - torch.cat([torch.eye(3, dtype=torch.float64), x[:3]], dim=1)).abs().max() <= 1e-8 * float(
        s.max()
    )


def test_regauging_turns_a_repeated_eigenspace_and_only_signs_of_a_simple_one() -> None:
    gram = torch.diag(torch.tensor([1.0, 2.0, 2.0, 5.0], dtype=torch.float64))
    plain = torch.linalg.eigh(gram).eigenvectors
    with Arithmetic(gauge=1).active():
        turned = torch.linalg.eigh(gram).eigenvectors
    assert torch.equal(turned[:, [0, 3]], plain[:, [0, 3]])
    assert (turned[:, 1:3] - plain[:, 1:3]).abs().max() > 0.01
