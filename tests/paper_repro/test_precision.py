"""The two arithmetics: casts to float32 are lifted, and perturbed results stay within the stated bound."""

import pytest
import torch
from torch.nn import functional

from paper_repro.precision import ROUNDOFF, float64_arithmetic, jittered


def rng():
    return torch.Generator().manual_seed(0)


CASTS = {
    "float": lambda x: x.float(),
    "to": lambda x: x.to(torch.float32),
    "to keyword": lambda x: x.to(dtype=torch.float32),
    "type": lambda x: x.type(torch.float32),
    "softmax": lambda x: functional.softmax(x, dim=-1, dtype=torch.float32),
    "sum": lambda x: x.sum(dtype=torch.float32),
    "new tensor": lambda x: torch.zeros(2, dtype=torch.float32) + x.sum().to(torch.float32),
}


@pytest.mark.parametrize("cast", CASTS.values(), ids=CASTS)
def test_every_way_to_ask_for_float32_yields_float64(cast):
    x = torch.randn(3, 4, generator=rng(), dtype=torch.float64)
    assert cast(x).dtype == torch.float32
    with float64_arithmetic():
        assert cast(x).dtype == torch.float64
    assert cast(x).dtype == torch.float32


def test_a_result_is_perturbed_within_its_bound():
    x = torch.randn(50, 40, generator=rng(), dtype=torch.float64)
    with jittered(rng(), scale=40):
        perturbed = x * 2
    relative = ((perturbed - 2 * x) / (2 * x)).abs() / ROUNDOFF
    # Half a roundoff for each of the factor and the product, beside the 40 that are asked for.
    assert 20 < float(relative.max()) <= 41


def test_views_are_not_perturbed_and_writes_through_them_last():
    x = torch.randn(4, 4, generator=rng(), dtype=torch.float64)
    with jittered(rng(), scale=40):
        assert torch.equal(x.mT.view(4, 4)[1:], x.T[1:])
        buffer = x.new_empty(2, 4)
        buffer[:, :2].copy_(x[:2, :2])
        buffer[:, 2:] = x[:2, 2:]
    assert torch.equal(buffer, x[:2])


def test_integers_and_indices_are_left_alone():
    with jittered(rng(), scale=40):
        assert torch.equal(torch.arange(5) * 2, torch.tensor([0, 2, 4, 6, 8]))


def test_gradients_are_perturbed_too():
    x = torch.randn(5, generator=rng(), dtype=torch.float64, requires_grad=True)
    with jittered(rng(), scale=40):
        (x * x).sum().backward()
    assert x.grad is not None
    relative = ((x.grad - 2 * x) / (2 * x)).detach().abs() / ROUNDOFF
    # Two perturbed operations, product and sum, each by at most 40 roundoffs.
    assert 0 < float(relative.max()) <= 2 * 41
