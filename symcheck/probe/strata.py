"""Inputs of a search: the strata in which broken rules hide.

Every entry is a dyadic rational of few bits, so that it is exact in bfloat16, and so are its images under permutations,
sign flips and dyadic rotations. Tests on Gaussian rectangles never see a repeated singular value, a tie or a zero row;
here each has a stratum of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from symcheck.probe.trajectory import Inputs, Tensors

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Draw:
    """A seeded source of dyadic tensors."""

    generator: torch.Generator

    def dyadic(self, shape: tuple[int, ...], *, bits: int = 5, denominator: int = 8) -> torch.Tensor:
        """Non-zero entries ``k / denominator`` with ``1 <= |k| < 2**bits``, float64."""
        magnitude = torch.randint(1, 2**bits, shape, generator=self.generator).to(torch.float64)
        sign = 2 * torch.randint(0, 2, shape, generator=self.generator).to(torch.float64) - 1
        return sign * magnitude / denominator

    def index(self, high: int) -> int:
        """A uniform integer below ``high``."""
        return int(torch.randint(0, high, (), generator=self.generator))


def _generic(draw: Draw, shape: tuple[int, ...], step: int) -> torch.Tensor:
    return draw.dyadic(shape)


def _rank_deficient(draw: Draw, shape: tuple[int, ...], step: int) -> torch.Tensor:
    rank = max(1, min(shape[-2:]) // 2)
    left = draw.dyadic((*shape[:-1], rank), bits=2, denominator=2)
    return left @ draw.dyadic((*shape[:-2], rank, shape[-1]), bits=2, denominator=2)


def _repeated_spectrum(draw: Draw, shape: tuple[int, ...], step: int) -> torch.Tensor:
    # A signed permutation pattern: all non-zero singular values equal, and the row space is a coordinate space.
    size = min(shape[-2:])
    out = torch.zeros(shape, dtype=torch.float64)
    columns = torch.randperm(shape[-1], generator=draw.generator)[:size]
    rows = torch.randperm(shape[-2], generator=draw.generator)[:size]
    signs = 2 * torch.randint(0, 2, (size,), generator=draw.generator).to(torch.float64) - 1
    out[..., rows, columns] = 1.5 * signs
    return out


def _zero_rows(draw: Draw, shape: tuple[int, ...], step: int) -> torch.Tensor:
    # The same rows and columns in every step, or an average over steps would fill them.
    out = draw.dyadic(shape)
    out[..., :: 2 if shape[-2] > 1 else 1, :] *= 0.0 if shape[-2] > 1 else 1.0
    if shape[-1] > 2:
        out[..., :, -1] = 0.0
    return out


def _ties(draw: Draw, shape: tuple[int, ...], step: int) -> torch.Tensor:
    return 2.0 * torch.randint(0, 2, shape, generator=draw.generator).to(torch.float64) - 1


def _huge_entry(draw: Draw, shape: tuple[int, ...], step: int) -> torch.Tensor:
    out = draw.dyadic(shape)
    out.view(-1)[draw.index(out.numel())] = 2.0**12
    return out


def _scaled(exponent: int) -> Callable[[Draw, tuple[int, ...], int], torch.Tensor]:
    def stratum(draw: Draw, shape: tuple[int, ...], step: int) -> torch.Tensor:
        return draw.dyadic(shape) * 2.0**exponent

    return stratum


def _sparse_rows(draw: Draw, shape: tuple[int, ...], step: int) -> torch.Tensor:
    # Rare tokens: a row has a gradient in some steps only.
    out = draw.dyadic(shape)
    keep = (torch.arange(shape[-2]) + step) % 3 == 0
    return out * keep.to(torch.float64)[:, None]


def _switching_scale(draw: Draw, shape: tuple[int, ...], step: int) -> torch.Tensor:
    # Runs through accumulators, trust ratios and clamps in both directions within one trajectory.
    return draw.dyadic(shape) * 2.0 ** (8 * ((step % 3) - 1))


STRATA: Mapping[str, Callable[[Draw, tuple[int, ...], int], torch.Tensor]] = MappingProxyType(
    {
        "generic": _generic,
        "rank_deficient": _rank_deficient,
        "repeated_spectrum": _repeated_spectrum,
        "zero_rows": _zero_rows,
        "ties": _ties,
        "constant": _generic,
        "huge_entry": _huge_entry,
        "scale_1e-6": _scaled(-20),
        "scale_1e6": _scaled(20),
        "eps_dominated": _scaled(-36),
        "sparse_rows": _sparse_rows,
        "switching_scale": _switching_scale,
    }
)
"""Name -> gradient of one step; ``constant`` repeats its first. ``eps_dominated`` is 2^-36, about 1e-11, below the
usual eps of 1e-8."""


def _zero(draw: Draw, shape: tuple[int, ...], step: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.float64)


# Zero initialisation (LoRA's B, many heads), idle rows, and weights of other sizes than the update: a rule that looks
# at its weights hides its defects there. Each goes with the gradients of the stratum of that name.
_WEIGHTS = {
    "repeated_spectrum": _zero,
    "zero_rows": _zero_rows,
    "ties": _zero,
    "scale_1e-6": _scaled(-20),
    "scale_1e6": _scaled(10),
    "eps_dominated": _zero,
}


def centred(grad: torch.Tensor) -> torch.Tensor:
    """A gradient with ``1^T G = 0`` exactly: the last row becomes minus the sum of the others (which is exact on dyadic
    entries, while subtracting a mean is not)."""
    out = grad.clone()
    out[..., -1, :] = -grad[..., :-1, :].sum(-2)
    return out


def draw_inputs(stratum: str, shapes: Shapes, steps: int, *, centre: bool, seed: int) -> Inputs:
    """Weights and ``steps`` gradients of one stratum, reproducible from the seed.

    ``centre`` asks for gradients with ``1^T G = 0``, as those of an LM head or a softmax router are.
    """
    draw = Draw(torch.Generator().manual_seed(seed))
    weights = tuple(_WEIGHTS.get(stratum, _generic)(draw, shape, 0) for shape in shapes)
    grads: list[Tensors] = []
    for step in range(steps):
        if stratum == "constant" and grads:
            grads.append(grads[0])
            continue
        step_grads = tuple(STRATA[stratum](draw, shape, step) for shape in shapes)
        grads.append(tuple(map(centred, step_grads)) if centre else step_grads)
    return Inputs(weights, tuple(grads))
