"""The strata contain what their names say, exactly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groups import BLOCKS
from symcheck.probe.strata import STRATA, draw_inputs

SHAPES = st.sampled_from([((1, 3),), ((5, 3),), ((3, 5),), ((4, 4),), ((2, 5, 3),)])


@pytest.mark.parametrize("stratum", STRATA)
@given(shapes=SHAPES, seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_inputs_are_exact_in_bfloat16_and_reproducible(stratum: str, shapes, seed: int) -> None:
    inputs = draw_inputs(stratum, shapes, 4, centre=False, seed=seed)
    again = draw_inputs(stratum, shapes, 4, centre=False, seed=seed)
    for step, other in zip(inputs.grads, again.grads, strict=True):
        assert torch.equal(step[0], other[0])
        assert torch.equal(step[0].bfloat16().double(), step[0])
    assert any(step[0].any() for step in inputs.grads)


@pytest.mark.parametrize("stratum", STRATA)
@given(shapes=SHAPES, seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_centred_gradients_sum_to_exactly_zero(stratum: str, shapes, seed: int) -> None:
    if shapes[0][-2] > 1:
        for (grad,) in draw_inputs(stratum, shapes, 3, centre=True, seed=seed).grads:
            assert not grad.sum(-2).any()


def _gradient(stratum: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return draw_inputs(stratum, (shape,), 1, centre=False, seed=seed).grads[0][0]


@given(st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_each_stratum_is_what_it_is_called(seed: int) -> None:
    assert torch.linalg.matrix_rank(_gradient("rank_deficient", (5, 4), seed)) < 4
    values = torch.linalg.svdvals(_gradient("repeated_spectrum", (5, 3), seed))
    assert torch.equal(values, torch.full_like(values, 1.5))
    zeros = _gradient("zero_rows", (5, 3), seed)
    assert not zeros[::2].any()
    assert zeros[1::2, :2].all()
    assert _gradient("ties", (5, 3), seed).abs().unique().tolist() == [1.0]
    huge = _gradient("huge_entry", (5, 3), seed).abs().flatten().sort().values
    assert huge[-1] >= 1000 * huge[-2] > 0
    assert _gradient("eps_dominated", (5, 3), seed).abs().max() < 1e-8


def test_every_block_has_a_shape_of_every_kind() -> None:
    for block in BLOCKS.values():
        lead = [shapes[0] for shapes in block.shapes]
        assert any(shape[-2] == 1 or shape[-1] == 1 for shape in lead)
        assert any(shape[-2] > shape[-1] for shape in lead)
        assert any(shape[-2] < shape[-1] for shape in lead)
        assert any(shape[-2] == shape[-1] for shape in lead)
        assert any(shape[-2] * shape[-1] > 300 for shape in lead)
