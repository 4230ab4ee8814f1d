"""How a candidate computes: its casts, its random numbers, and what it does where it cannot be followed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from symcheck.probe.arithmetic import PLAIN, ROUNDOFF, Arithmetic, Census
from symcheck.probe.measure import is_smooth
from symcheck.probe.trajectory import CandidateError, CandidateLike, Inputs, Tensors, run

_UNITS = {str(dtype).removeprefix("torch."): unit for dtype, unit in ROUNDOFF.items()}
_HIDDEN = "float32"
"""What arithmetic outside of torch computes in, if it does not behave like float64."""
_COARSE = 8.0
"""Roundoffs of a hidden type by which inputs are jittered: one alone is often rounded away again."""
_FAITHFUL = 2.0**-48
"""What is granted to arithmetic outside of torch that does: a few float64 roundings of every input."""


@dataclass(frozen=True)
class Nature:
    """What kind of code the candidate is, found before any property is judged."""

    arithmetic: Arithmetic
    """The arithmetic in which structure is judged: as it runs, or with its casts undone."""
    casts: tuple[str, ...]
    """Lower precisions that it computes in when its parameters are float64."""
    unseen: float
    """Amplitude of rounding that neither promotion nor noise can follow; zero if there is none."""
    random: tuple[str, ...]
    """Random operations it was seen to use."""
    reproducible: bool
    """Whether two runs from one seed agree bitwise."""
    seed_dependent: bool
    """Whether runs from two seeds differ."""
    factorises: bool
    """Whether it computes eigenvectors or singular vectors, which may not be unique."""
    notes: tuple[str, ...] = ()


def observe(candidate: CandidateLike, *several: Inputs) -> Nature:
    """Find out how the candidate computes on these trajectories, all of them together.

    Raises:
        CandidateError: it cannot be run.
    """
    census = Census()
    reproducible, seed_dependent = True, False
    for inputs in several:
        # Under a census some kernels take another path, with other last bits: only plain runs are compared.
        first, again, other = (run(candidate, inputs, seed=seed) for seed in (1, 1, 2))
        reproducible &= _equal(first, again)
        seed_dependent |= not _equal(again, other)
        run(candidate, inputs, Arithmetic(census=census), seed=1)
    arithmetic, residual = _promoted(candidate, several, census)
    unseen, notes = 0.0, []
    if residual or census.escapes:
        smooth = all(is_smooth(candidate, inputs, arithmetic, seed=1) for inputs in several)
        unseen = _FAITHFUL if smooth else _COARSE * max(_UNITS[name] for name in {_HIDDEN, *residual})
        if not smooth:
            ways = [f"casts to {name} that cannot be undone" for name in sorted(residual)]
            ways += [f"leaves torch through {name}" for name in sorted(census.escapes)]
            notes.append(f"{', '.join(ways)}: defects near {unseen:.0e} count as rounding")
    return Nature(
        arithmetic=arithmetic,
        casts=tuple(sorted(census.casts)),
        unseen=unseen,
        random=tuple(sorted(census.random)),
        reproducible=reproducible,
        seed_dependent=seed_dependent,
        factorises=census.factorises,
        notes=tuple(notes),
    )


def _promoted(candidate: CandidateLike, several: Sequence[Inputs], census: Census) -> tuple[Arithmetic, set[str]]:
    """The arithmetic that undoes the casts that were seen, and the casts that it cannot undo."""
    if not census.casts:
        return PLAIN, set()
    left = Census()
    try:
        for inputs in several:
            run(candidate, inputs, Arithmetic(promote=True, census=left), seed=1)
    except CandidateError:
        return PLAIN, census.casts
    return Arithmetic(promote=True), left.casts


def _equal(first: list[Tensors], second: list[Tensors]) -> bool:
    return all(
        torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
        for x, y in zip(first, second, strict=True)
        for a, b in zip(x, y, strict=True)
    )
