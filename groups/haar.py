"""Batched random elements in torch, ``(count, n, n)`` float64 on the device of the generator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


def _normal(shape: tuple[int, ...], rng: torch.Generator) -> torch.Tensor:
    return torch.randn(shape, generator=rng, dtype=torch.float64, device=rng.device)


def _uniform(shape: tuple[int, ...], rng: torch.Generator) -> torch.Tensor:
    return torch.rand(shape, generator=rng, dtype=torch.float64, device=rng.device)


def _one_hot(columns: torch.Tensor) -> torch.Tensor:
    """Rows with a 1 at the given column: ``(count, n)`` indices to ``(count, n, n)``."""
    return torch.nn.functional.one_hot(columns, columns.shape[-1]).to(torch.float64)


def identities(n: int, count: int, rng: torch.Generator) -> torch.Tensor:
    """Copies of the identity."""
    return torch.eye(n, dtype=torch.float64, device=rng.device).repeat(count, 1, 1)


def permutations(n: int, count: int, rng: torch.Generator) -> torch.Tensor:
    """Uniform permutations: the ranks of independent uniform numbers (ties have probability below n^2 2^-53)."""
    return _one_hot(_uniform((count, n), rng).argsort(dim=-1))


def cyclic_shifts(n: int, count: int, rng: torch.Generator) -> torch.Tensor:
    """Uniform cyclic shifts."""
    shifts = torch.randint(n, (count, 1), generator=rng, device=rng.device)
    return _one_hot((torch.arange(n, device=rng.device) - shifts) % n)


def signs(n: int, count: int, rng: torch.Generator) -> torch.Tensor:
    """Independent fair signs on the diagonal."""
    bits = torch.randint(2, (count, n), generator=rng, device=rng.device)
    return torch.diag_embed((2 * bits - 1).to(torch.float64))


def orthogonal(n: int, count: int, rng: torch.Generator) -> torch.Tensor:
    """Haar orthogonal matrices: Q of the QR factorisation of a Gaussian matrix with the diagonal of R made positive.

    Without the sign fix the law depends on the sign convention of the QR code and is not Haar (Mezzadri,
    arXiv math-ph/0609050).
    """
    q, r = torch.linalg.qr(_normal((count, n, n), rng))
    signs = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)
    return torch.as_tensor(q * signs.unsqueeze(-2))


def complement_of_ones(n: int, device: torch.device) -> torch.Tensor:
    """An orthonormal basis ``(n, n - 1)`` of the complement of the all-ones vector (Helmert's)."""
    basis = torch.zeros(n, n - 1, dtype=torch.float64, device=device)
    for k in range(1, n):
        basis[:k, k - 1] = 1 / math.sqrt(k * (k + 1))
        basis[k, k - 1] = -k / math.sqrt(k * (k + 1))
    return basis


def stabiliser(n: int, count: int, rng: torch.Generator) -> torch.Tensor:
    """Haar elements of the stabiliser of the ones vector: ``B Q B^T + 1 1^T / n`` with Q Haar in O(n - 1)."""
    basis = complement_of_ones(n, rng.device)
    return basis @ orthogonal(n - 1, count, rng) @ basis.T + 1 / n


def plane_rotations(n: int, planes: Sequence[tuple[int, int]], count: int, rng: torch.Generator) -> torch.Tensor:
    """An independent uniform angle for each coordinate plane."""
    angles = 2 * math.pi * _uniform((count, len(planes)), rng)
    first = torch.tensor([i for i, _ in planes], device=rng.device)
    second = torch.tensor([j for _, j in planes], device=rng.device)
    result = torch.zeros(count, n, n, dtype=torch.float64, device=rng.device)
    result[:, first, first] = result[:, second, second] = angles.cos()
    result[:, second, first] = angles.sin()
    result[:, first, second] = -angles.sin()
    return result


def positive_scalings(n: int, count: int, rng: torch.Generator) -> torch.Tensor:
    """Independent log-uniform factors in [1/2, 2] on the diagonal."""
    return torch.diag_embed(torch.exp2(2 * _uniform((count, n), rng) - 1))


def words(
    generators: torch.Tensor, algebra: torch.Tensor, n: int, length: int, count: int, rng: torch.Generator
) -> torch.Tensor:
    """Products of ``length`` random letters of a generated group.

    A letter is a uniform choice among the identity and the generators with their inverses (``generators``: (g, n, n)),
    times the exponential of a Gaussian combination of the Lie-algebra basis (``algebra``: (a, n, n)) with standard
    deviation ``1 / (2 sqrt(a length))`` per coefficient.
    """
    letters = torch.cat([torch.eye(n, dtype=torch.float64)[None], generators]).to(rng.device)
    result = identities(n, count, rng)
    for _ in range(length):
        result = result @ letters[torch.randint(len(letters), (count,), generator=rng, device=rng.device)]
        if len(algebra):
            scale = 1 / (2 * math.sqrt(len(algebra) * length))
            combination = scale * _normal((count, len(algebra)), rng)
            result = result @ torch.linalg.matrix_exp(torch.tensordot(combination, algebra.to(rng.device), dims=1))
    return result
