"""The reference rules on a CUDA device: float64 agreement with the CPU, and how far bfloat16 is from float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from reference import Rule
from reference.conditioning import magnification
from reference.trajectory import trajectory
from reference.variants import VARIANTS

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none")
STEPS = 4
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
    return 8 * STEPS * sum(shape) * unit * magnification(rule)


@pytest.mark.gpu
@cuda
@every_variant
def test_float64_agrees_with_the_cpu(rule: Rule) -> None:
    for shape in SHAPES:
        weight, grads = data(rule, shape)
        expected, _ = trajectory(rule, weight, grads)
        got, state = trajectory(rule, weight.cuda(), [grad.cuda() for grad in grads])
        # 1e-12 for every rule whose method is stable: 8 * 4 steps * 40 * 2.2e-16 is below it.
        assert difference(got, expected) <= max(1e-12, allowed(rule, shape, torch.finfo(torch.float64).eps))
        assert all(each.is_cuda for each in got)
        assert all(value.is_cuda for value in state.values() if isinstance(value, Tensor))


def test_1e12_holds_wherever_the_method_is_stable() -> None:
    stable = [rule for rule in VARIANTS.values() if magnification(rule) == 1]
    assert len(stable) > len(VARIANTS) // 2
    assert all(allowed(rule, SHAPES[0], torch.finfo(torch.float64).eps) < 1e-12 for rule in stable)


@pytest.mark.gpu
@cuda
@every_variant
def test_bfloat16_error_report(rule: Rule, record_property: pytest.RecordProperty) -> None:
    """Reports ``max |U_bf16 - U_f64| / max |U_f64|`` per rule; run with ``-rA`` or ``--junit-xml`` to see it."""
    shape = SHAPES[0]
    weight, grads = data(rule, shape)
    # Rounded inputs on both sides: what is measured is the arithmetic of the rule.
    weight, grads = weight.bfloat16(), [grad.bfloat16() for grad in grads]
    expected, _ = trajectory(rule, weight.double(), [grad.double() for grad in grads])
    try:
        got, _ = trajectory(rule, weight.cuda(), [grad.cuda() for grad in grads])
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"torch has no bfloat16 kernel for this rule: {str(error).splitlines()[0]}")
    error = difference(got, expected)
    record_property("bfloat16_relative_error", error)
    print(f"bfloat16 relative error {error:.2e}")
    assert math.isfinite(error)
