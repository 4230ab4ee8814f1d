"""The reference rules on a CUDA device: float64 agreement with the CPU, and how far bfloat16 is from float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from reference import Rule, State
from reference.conditioning import magnification
from reference.trajectory import trajectory
from reference.variants import VARIANTS

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none")
STEPS = 4
GRAMS = 1e6
"""Inverse roots and eigenvectors of Gram matrices of gradients ``base + 0.02 noise``: a condition number of ``(2 /
0.02)^2 / 4`` for the roots, gaps of about a hundredth for the eigenvectors, and entries of a hundredth that Adam
divides by."""
SHAPES = ((24, 16), (16, 24), (16, 16))
every_variant = pytest.mark.parametrize("rule", VARIANTS.values(), ids=VARIANTS.keys())


def data(rule: Rule, shape: tuple[int, int]) -> tuple[Tensor, list[Tensor]]:
    """A weight and gradients near one matrix with singular values in [1, 2], float64 on the CPU."""
    rng = torch.Generator().manual_seed(0)
    stored = (3, *shape) if rule.min_ndim == 3 else shape
    base = torch.randn(stored, generator=rng, dtype=torch.float64)
    u, _, vt = torch.linalg.svd(base, full_matrices=False)
    base = (u * torch.linspace(1, 2, u.shape[-1], dtype=torch.float64)) @ vt
    noise = [torch.randn(stored, generator=rng, dtype=torch.float64) for _ in range(STEPS + 1)]
    return noise[0], [base + 0.02 * each for each in noise[1:]]


def start(rule: Rule, weight: Tensor, device: str) -> State:
    """The rule's initial state, drawn on the CPU where it is random."""
    torch.manual_seed(0)
    return {
        name: value.to(device, weight.dtype) if isinstance(value, Tensor) else value
        for name, value in rule.init(torch.zeros(weight.shape, dtype=torch.float64)).items()
    }


def shapes_of(rule: Rule) -> tuple[tuple[int, int], ...]:
    """All shapes, or the square one for a rule that needs a simple spectrum of both Gram matrices."""
    return SHAPES[2:] if "spectrum" in str(rule.side_conditions) else SHAPES


def difference(got: list[Tensor], expected: list[Tensor]) -> float:
    """Largest difference over all steps, relative to the largest displacement; NaN counts as infinite."""
    scale = max(float(each.abs().max()) for each in expected)
    assert scale > 0
    worst = max(float((a.cpu().double() - b).abs().max()) / scale for a, b in zip(got, expected, strict=True))
    return math.inf if math.isnan(worst) else worst


def allowed(rule: Rule, shape: tuple[int, int], unit: float) -> float:
    """A backward error of a few ``(m + n) unit`` per step, magnified by the rule's own iteration.

    Steep polynomials (slope 485 to 990 at zero) and coupled or Gram iterations (its square) magnify rounding in the
    directions of small singular values, whatever the device.
    """
    return 8 * STEPS * sum(shape) * unit * magnification(rule) * (GRAMS if rule.state_actions.keys() & {"left"} else 1)


@pytest.mark.gpu
@cuda
@every_variant
def test_float64_agrees_with_the_cpu(rule: Rule) -> None:
    for shape in shapes_of(rule):
        weight, grads = data(rule, shape)
        expected, _ = trajectory(rule, weight, grads, start(rule, weight, "cpu"))
        got, state = trajectory(rule, weight.cuda(), [grad.cuda() for grad in grads], start(rule, weight, "cuda"))
        # 1e-12 for every rule whose method is stable: 8 * 4 steps * 40 * 2.2e-16 is below it.
        assert difference(got, expected) <= max(1e-12, allowed(rule, shape, torch.finfo(torch.float64).eps))
        assert all(each.is_cuda for each in got)
        assert all(value.is_cuda for value in state.values() if isinstance(value, Tensor))


def test_1e12_holds_wherever_the_method_is_stable() -> None:
    stable = [rule for rule in VARIANTS.values() if allowed(rule, SHAPES[0], 1.0) == 8 * STEPS * sum(SHAPES[0])]
    assert len(stable) > len(VARIANTS) // 3
    assert all(allowed(rule, SHAPES[0], torch.finfo(torch.float64).eps) < 1e-12 for rule in stable)


@pytest.mark.gpu
@cuda
@every_variant
def test_bfloat16_error_report(rule: Rule, record_property: pytest.RecordProperty) -> None:
    """Reports ``max |U_bf16 - U_f64| / max |U_f64|`` per rule; run with ``-rA`` or ``--junit-xml`` to see it."""
    shape = shapes_of(rule)[0]
    weight, grads = data(rule, shape)
    # Rounded inputs on both sides: what is measured is the arithmetic of the rule.
    weight, grads = weight.bfloat16(), [grad.bfloat16() for grad in grads]
    state = start(rule, weight, "cuda")
    expected, _ = trajectory(
        rule, weight.double(), [grad.double() for grad in grads], start(rule, weight.double(), "cpu")
    )
    try:
        got, _ = trajectory(rule, weight.cuda(), [grad.cuda() for grad in grads], state)
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"torch has no bfloat16 kernel for this rule: {str(error).splitlines()[0]}")
    error = difference(got, expected)
    record_property("bfloat16_relative_error", error)
    print(f"bfloat16 relative error {error:.2e}")
    assert math.isfinite(error)
