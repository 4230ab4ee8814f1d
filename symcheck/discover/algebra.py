"""A numerical estimate of the connected part of an optimizer's symmetry group, independent of proofs and of searches.

A one-parameter group ``exp(sA)`` of linear maps of the entries, ``A`` in ``gl(mn)``, is a symmetry exactly if the
linearised equivariance condition holds at every input: with displacements ``U = F(W, G_1..T)`` of T steps, weights that
move by ``A`` and gradients that move by the dual ``-A^T``,

    dF[A W, -A^T G_1, ..., -A^T G_T] = A F .

It is linear in ``A``. So the Jacobian of F at a few random inputs gives a linear system whose null space is the Lie
algebra; what acts on rows, on columns, or on both together are subspaces of ``gl(mn)`` and need no further runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from groups import FAMILIES, Group
from symcheck.discover.generators import random_points
from symcheck.discover.jacobian import FloatArray, Linearised
from symcheck.probe.nature import Nature, observe
from symcheck.probe.trajectory import CandidateLike

STEPS = 3
"""Long enough for the state to matter, and for what a first step hides (a zero second moment)."""
LONG = 12
"""Steps of the first trajectories, which go past a warm-up and a switch to another rule."""
LONG_POINTS = 2
OVERDETERMINED = 1.5
"""Equations per unknown of ``gl(mn)``, where a trajectory counts for no more than its different gradients."""
REDRAWS = 2
"""How many times as many points may be drawn as are needed: where the update has a kink nearby, there is no derivative.
"""
NULL = 4.0
"""A singular value up to this many errors is zero: the error is measured in a few random directions only, which can
fall short of the truth by such a factor."""
CLEAR = 2.0**7
"""A singular value is not zero from this many errors on; in between the answer is ambiguous."""
RELEVANT = 1e-3
"""An estimate with a larger error than this, relative to the update, cannot tell a symmetry from its absence."""
SUBSPACES = ("rows", "cols", "rows + cols", "entries")
"""Where an algebra acts: ``X G``, ``G Y^T``, ``X G + G Y^T`` with X and Y coupled or not, any map of the entries."""
_ANGLE = 1e-2
"""Computed null spaces are off by the error over the gap, ``1 / CLEAR`` at most; different algebras by order one."""


@dataclass(frozen=True, eq=False)
class Algebra:
    """The symmetry algebra within one subspace of ``gl(mn)``.

    ``basis`` is orthonormal, ``(dimension, mn, mn)``; ``orthogonal`` and ``diagonal`` are the dimensions of its
    rotations and scalings. ``largest_null`` and ``smallest_other`` are the singular values beside the gap, relative to
    the update (None where there is none). ``parts`` are the known algebras that it contains and ``rest`` the number of
    dimensions that they do not explain.
    """

    where: str
    shape: tuple[int, int]
    basis: FloatArray
    orthogonal: int
    diagonal: int
    largest_null: float | None
    smallest_other: float | None
    ambiguous: bool
    parts: tuple[str, ...]
    rest: int

    @property
    def dimension(self) -> int:
        """The number of independent infinitesimal symmetries."""
        return len(self.basis)

    @property
    def single(self) -> FloatArray | None:
        """The one infinitesimal symmetry ``X`` of an axis, its (first) largest entry 1; None if there are others."""
        if len(self.basis) != 1 or self.where not in ("rows", "cols"):
            return None
        m, n = self.shape
        only = np.einsum("iaja->ij" if self.where == "rows" else "aiaj->ij", self.basis[0].reshape(m, n, m, n))
        # The entries of a rotation are equally large up to rounding: the first of them decides the sign.
        return np.asarray(only / only.flat[np.argmax(np.abs(only) > (1 - _ANGLE) * np.abs(only).max())])

    def contains(self, span: FloatArray) -> bool:
        """Whether every matrix of ``span``, ``(k, mn, mn)``, lies in the algebra."""
        return _within(span, self.basis)


@dataclass(frozen=True, eq=False)
class Estimate:
    """The algebras of one candidate on matrices of one shape, by subspace.

    ``error`` bounds the error of every singular value, relative to the update. ``vacuous`` says why there is nothing to
    estimate, and then there are no algebras.
    """

    shape: tuple[int, int]
    error: float
    algebras: Mapping[str, Algebra]
    vacuous: str = ""


def lie_algebra(
    candidate: CandidateLike,
    shape: tuple[int, int] = (3, 4),
    *,
    nature: Nature | None = None,
    seed: int = 0,
) -> Estimate:
    """Estimate the symmetry algebra of ``candidate`` on matrices of ``shape`` from Jacobians of whole trajectories.

    ``nature`` says in which arithmetic it is judged (its casts undone) and how much it rounds unseen; it is observed if
    it is not given. The error of the singular values is measured, not assumed: see ``Linearised.error``.

    Raises:
        CandidateError: the candidate raised.
    """
    needed = int(np.ceil(OVERDETERMINED * shape[0] * shape[1] / STEPS))
    points = random_points(shape, STEPS, REDRAWS * needed, seed)
    if nature is None:
        nature = observe(candidate, points[0])
    systems: list[FloatArray] = []
    squares: list[float] = []
    for number, point in enumerate(points):
        if len(systems) == needed:
            break
        # Each point has its own random numbers: a symmetry of one draw is not one of the rule.
        length = LONG if len(systems) < LONG_POINTS else STEPS
        linear = Linearised(candidate, point, nature, steps=length, seed=seed + number)
        if not np.isfinite(linear.value).all():
            return Estimate(shape, 0.0, {}, "the update is NaN or infinite")
        if not linear.value.any():
            continue
        jacobian = linear.jacobian()
        error = linear.error(jacobian) * float(np.linalg.norm(linear.argument))
        if error > RELEVANT and needed - len(systems) < len(points) - number:
            continue
        systems.append(_system(linear, jacobian))
        squares.append(error**2)
    if not systems:
        return Estimate(shape, 0.0, {}, f"the update is zero in all of {LONG} steps")
    # Every singular value is off by at most the norm of the error of the whole system (Weyl).
    error = float(np.sqrt(np.mean(squares)))
    system = np.concatenate(systems) / np.sqrt(len(squares))
    return Estimate(shape, error, {where: _algebra(where, system, shape, error) for where in SUBSPACES})


def _system(linear: Linearised, jacobian: FloatArray) -> FloatArray:
    """The matrix of ``A -> dF[A W, -A^T G] - A F``, ``(values, (mn)^2)``."""
    size, steps = linear.entries, linear.steps
    weights, *grads = linear.argument.reshape(-1, size)
    by_weights, *by_grads = np.split(jacobian, len(linear.argument) // size, axis=1)
    residual = np.einsum("ka,b->kab", by_weights, weights)
    for grad, by_grad in zip(grads, by_grads, strict=True):
        residual -= np.einsum("kb,a->kab", by_grad, grad)
    moved = np.einsum("tb,ca->tcab", linear.value.reshape(steps, size), np.eye(size))
    return np.asarray((residual - moved.reshape(residual.shape)).reshape(steps * size, size * size))


def _algebra(where: str, system: FloatArray, shape: tuple[int, int], error: float) -> Algebra:
    size = shape[0] * shape[1]
    space = _orthonormal(embedded(where, None, shape))
    _, singular, right = np.linalg.svd(system @ space.T, full_matrices=True)
    # Fewer equations than unknowns leave the rest of the space null.
    values = np.concatenate([singular, np.zeros(len(right) - len(singular))])
    null = values <= NULL * error
    others, nulls = values[~null], values[null]
    basis = (right[null] @ space).reshape(-1, size, size)
    parts, rest = _parts(where, basis, shape)
    return Algebra(
        where,
        shape,
        basis,
        _meet(basis, (basis - basis.transpose(0, 2, 1)) / 2),
        _meet(basis, basis * np.eye(size)),
        float(nulls.max()) if nulls.size else None,
        float(others.min()) if others.size else None,
        error > RELEVANT or bool((others < CLEAR * error).any()),
        parts,
        rest,
    )


def _meet(basis: FloatArray, projected: FloatArray) -> int:
    """The dimension of the intersection of a space with another one, given its basis projected there."""
    if not len(basis):
        return 0
    cosines = np.linalg.svd(projected.reshape(len(basis), -1), compute_uv=False)
    return int((cosines > 1 - _ANGLE**2).sum())


def _parts(where: str, basis: FloatArray, shape: tuple[int, int]) -> tuple[tuple[str, ...], int]:
    """The largest known algebras within the span of ``basis``, and how many dimensions remain."""
    known = sorted(_known(where, shape), key=lambda entry: -len(_orthonormal(entry[1])))
    names: list[str] = []
    explained = basis[:0]
    for name, span in known:
        if _within(span, basis) and not _within(span, explained):
            names.append(name)
            explained = _orthonormal(np.concatenate([explained, span])).reshape(-1, *basis.shape[1:])
    return tuple(names), len(basis) - len(explained)


def _known(where: str, shape: tuple[int, int]) -> Iterator[tuple[str, FloatArray]]:
    """Algebras by name: those of the families on an axis, and some that no family has."""
    m, n = shape
    if where in ("rows + cols", "entries"):
        yield from _known("rows", shape)
        yield from _known("cols", shape)
    if where == "rows + cols":
        return
    for name, family in FAMILIES.items():
        try:
            span = embedded(where, family, shape)
        except ValueError:
            continue  # a family that does not exist at this size
        if len(span) and name != "Scale":  # which has the algebra of its connected part
            yield f"{name}({where})", span
    if where == "entries":
        rotations = [np.array(FAMILIES["O"].lie_algebra(size)).reshape(-1, size, size) for size in shape]
        yield "O(cols) of each row", _tensor(_each(m), rotations[1])
        yield "O(rows) of each column", _tensor(rotations[0], _each(n))
        yield "shifts of rows", _tensor(_shifts(m), _all(n))
        yield "shifts of cols", _tensor(_all(m), _shifts(n))
    else:
        yield f"shifts of {where}", _on_axis(where, _shifts(m if where == "rows" else n), shape)
    yield "scaling of all weights", np.eye(m * n)[None]


def embedded(where: str, family: Group | None, shape: tuple[int, int]) -> FloatArray:
    """The Lie algebra of a family (None: all of ``gl``) on an axis, as maps of the entries, ``(k, mn, mn)``.

    Raises:
        ValueError: the family does not exist at this size.
    """
    if where == "rows + cols":
        return np.concatenate([embedded("rows", family, shape), embedded("cols", family, shape)])
    size = {"rows": shape[0], "cols": shape[1], "entries": shape[0] * shape[1]}[where]
    if family is None:
        return _on_axis(where, _all(size), shape)
    family.check_size(size)
    return _on_axis(where, np.array(family.lie_algebra(size), dtype=np.float64).reshape(-1, size, size), shape)


def _on_axis(where: str, basis: FloatArray, shape: tuple[int, int]) -> FloatArray:
    if where == "rows":
        return _tensor(basis, np.eye(shape[1])[None])
    return _tensor(np.eye(shape[0])[None], basis) if where == "cols" else basis


def _tensor(left: FloatArray, right: FloatArray) -> FloatArray:
    """All ``X (x) Y``: the maps ``G -> X G Y^T`` of the entries."""
    size = left.shape[-1] * right.shape[-1]
    return np.asarray(np.einsum("kij,lab->kliajb", left, right).reshape(-1, size, size))


def _all(size: int) -> FloatArray:
    return np.eye(size * size).reshape(-1, size, size)


def _each(size: int) -> FloatArray:
    return np.stack([np.diag(unit) for unit in np.eye(size)])


def _shifts(size: int) -> FloatArray:
    """All ``v 1^T``. They move gradients by a shift and displacements along 1: both vanish for a centred rule."""
    return np.asarray(np.einsum("ki,j->kij", np.eye(size), np.ones(size)))


def _orthonormal(span: FloatArray) -> FloatArray:
    """An orthonormal basis, ``(rank, (mn)^2)``, of the span of matrices with small integer entries."""
    _, values, right = np.linalg.svd(span.reshape(len(span), span.shape[-1] ** 2), full_matrices=False)
    return np.asarray(right[values > _ANGLE * values.max(initial=0.0)])


def _within(span: FloatArray, basis: FloatArray) -> bool:
    """Whether the span lies in that of the orthonormal ``basis``, up to the error of a computed null space."""
    flat, frame = span.reshape(len(span), span.shape[-1] ** 2), basis.reshape(len(basis), basis.shape[-1] ** 2)
    rest = flat - (flat @ frame.T) @ frame
    return bool((np.linalg.norm(rest, axis=1) <= _ANGLE * np.linalg.norm(flat, axis=1)).all())
