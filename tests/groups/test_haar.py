"""First and second moments of the random elements against the Haar measure.

For a compact group of orthogonal matrices the mean of ``A`` is the orthogonal projection to the invariant vectors, and
the mean of ``A (x) A`` the projection to the invariant tensors of degree 2. Both are found here from the generators and
the Lie algebra alone, so nothing about the sampler enters. Entries are in [-1, 1]; by Hoeffding's inequality the mean
of N draws is off by more than t with probability at most ``2 exp(-N t^2 / 2)``, and the bound below is that at 1e-12
over all entries.
"""

import math

import numpy as np
import pytest
import torch

from groups import GL, PositiveScale, Scale, parse_group

DRAWS = 20_000


def hoeffding(entries, draws=DRAWS, half_range=1.0):
    return half_range * math.sqrt(2 * math.log(2 * entries / 1e-12) / draws)


def invariants(maps, algebra):
    dimension = (maps or algebra)[0].shape[0]
    conditions = [m - np.eye(dimension) for m in maps] + algebra
    _, values, rows = np.linalg.svd(np.vstack(conditions))
    null = rows[int((values > 1e-9).sum()) :]
    return null.T @ null


def expected_moments(group, n):
    generators = [g.matrix for g in group.generators(n)]
    algebra = list(group.lie_algebra(n))
    one = np.eye(n)
    second = invariants([np.kron(g, g) for g in generators], [np.kron(x, one) + np.kron(one, x) for x in algebra])
    return invariants(generators, algebra), second


def moment_errors(batch, group):
    n = batch.shape[-1]
    first, second = expected_moments(group, n)
    tensors = torch.einsum("cij,ckl->ikjl", batch, batch).reshape(n * n, n * n) / len(batch)
    return float((batch.mean(0) - torch.tensor(first)).abs().max()), float((tensors - torch.tensor(second)).abs().max())


COMPACT = ["Sign", "Cyclic", "Perm", "SPerm", "Stab1", "O", "U1[half]", "U1[interleaved]"]
COMPACT += ["(O wr Perm[2])", "(Perm wr Perm[2])", "(SPerm wr Cyclic[4])", "(O wr 1[2])"]


@pytest.mark.parametrize("spec", COMPACT)
def test_moments_are_those_of_haar_measure(spec):
    group = parse_group(spec)
    batch = group.sample(4, DRAWS, rng=torch.Generator().manual_seed(1))
    first, second = moment_errors(batch, group)
    assert first <= hoeffding(4**2)
    assert second <= hoeffding(4**4)


def test_moments_of_a_finite_user_group(user_groups):
    group = user_groups["Quaternion"]
    first, second = moment_errors(group.sample(4, DRAWS, rng=torch.Generator().manual_seed(2)), group)
    assert first <= hoeffding(4**2)
    assert second <= hoeffding(4**4)


def test_the_moments_catch_wrong_samplers():
    rng = torch.Generator().manual_seed(3)
    normal = torch.randn(DRAWS, 4, 4, generator=rng, dtype=torch.float64)
    without_sign_fix = torch.linalg.qr(normal).Q
    assert moment_errors(without_sign_fix, parse_group("O"))[0] > hoeffding(4**2)
    only_a_subgroup = parse_group("Perm").sample(4, DRAWS, rng=rng)
    assert moment_errors(only_a_subgroup, parse_group("O"))[1] > hoeffding(4**4)
    never_moves = torch.eye(4, dtype=torch.float64).repeat(DRAWS, 1, 1)
    assert moment_errors(never_moves, parse_group("Sign"))[0] > hoeffding(4**2)


def test_stated_laws_of_the_families_without_haar_probability():
    rng = torch.Generator().manual_seed(4)
    for group, signed in ((PositiveScale, False), (Scale, True)):
        factors = group.sample(3, DRAWS, rng=rng).diagonal(dim1=1, dim2=2)
        logs = factors.abs().log2()
        assert logs.abs().max() <= 1 + np.finfo(float).eps
        assert logs.mean(0).abs().max() <= hoeffding(3)
        # The variance of a uniform number on [-1, 1] is 1/3.
        assert ((logs**2).mean(0) - 1 / 3).abs().max() <= hoeffding(3)
        mean_sign = factors.sign().mean(0)
        assert mean_sign.abs().max() <= hoeffding(3) if signed else (mean_sign == 1).all()
    batch = GL.sample(4, 200, rng=rng)
    # Singular values in [1/2, 2] before three rounded products.
    assert torch.linalg.cond(batch).max() <= 4 * (1 + 100 * np.finfo(float).eps)
    assert 0 < (torch.linalg.det(batch) > 0).sum() < 200


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("spec", [*COMPACT, "GL", "Scale"])
def test_samples_on_a_gpu(spec):
    group = parse_group(spec)
    here = group.sample(4, 50, rng=torch.Generator().manual_seed(5))
    there = group.sample(4, 50, rng=torch.Generator().manual_seed(5), device="cuda")
    assert there.device.type == "cuda"
    assert torch.equal(there.cpu(), here)
    native = group.sample(4, DRAWS, rng=torch.Generator("cuda").manual_seed(5), device="cuda")
    assert native.device.type == "cuda"
    if spec in COMPACT:
        first, second = moment_errors(native.cpu(), group)
        assert first <= hoeffding(4**2)
        assert second <= hoeffding(4**4)
