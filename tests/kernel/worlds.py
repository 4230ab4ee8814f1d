"""What laws mean, in numbers: random group elements, values that obey a law, and whether two values obey one.

This is a second, direct implementation of ``docs/proof.md``, section 3, that shares nothing with the kernel's rules but
the names of the labels. A `World` is one choice of group elements and of the spectra of gauges; `World.draw` gives the
value of a line in two runs, the second moved by the elements; `World.holds` says whether a law is true of such a pair.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from symcheck.kernel.document import Reject
from symcheck.kernel.laws import CORE, EIGEN, FREE, ISO, MONOMIAL, SPECTRAL, Context, Label, Law, Variable

Array = npt.NDArray[np.float64]
Pair = tuple[Array, Array]
SIZE = 3
"""Every axis has this size, so that any axis may meet any other."""
TOLERANCE = 1e-9
"""Values are of order one and pass through at most a few dozen float64 operations, of 1e-16 each; a wrong law is off by
order one. Spectra of factorised matrices are apart by at least 1/2, so their vectors are determined to 1e-15."""

VARIABLES = {
    "H": Variable("perm"),
    "P": Variable("perm"),
    "S": Variable("sign"),
    "B": Variable("sperm"),
    "D": Variable("scale+"),
    "C": Variable("scale"),
    "O": Variable("orth"),
    "T": Variable("stab1"),
    "EP": Variable("perm", 2),
    "EB": Variable("sperm", 2),
    "ES": Variable("sign", 2),
    "EC": Variable("scale", 2),
    "EO": Variable("orth", 2),
    "RO": Variable("orth", 1, "H"),
    "RP": Variable("perm", 1, "H"),
    "RC": Variable("scale", 1, "H"),
    "c": Variable("scale", 0),
    "d": Variable("scale+", 0),
    "gs": Variable("sign"),
    "go": Variable("orth"),
    "gb": Variable("block"),
    "gh": Variable("block", 1, "H"),
    "gp": Variable("partial"),
    "gq": Variable("partial", 1, "H"),
}


def rotation(rng: np.random.Generator, n: int) -> Array:
    """A random orthogonal matrix."""
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


@dataclass
class Element:
    """One group element: the matrix that acts on a vector, and what monomial powers are made of."""

    matrix: Array
    signs: Array
    scales: Array
    order: npt.NDArray[np.int64]
    spectrum: npt.NDArray[np.int64]

    def power(self, k: int, e: float) -> Array:
        """The matrix of ``sign^k |d|^e`` with the permutation; for linear classes the matrix itself."""
        result = np.zeros_like(self.matrix)
        factors = self.signs**k * self.scales**e
        result[self.order, np.arange(len(self.order))] = factors
        return result


def element(rng: np.random.Generator, kind: str, n: int) -> Element:
    """A random element of a class; of a block gauge also a spectrum, often repeated or zero."""
    permutes, reflects, scales = MONOMIAL.get(kind, (0, 0, 0))
    order = rng.permutation(n) if permutes else np.arange(n)
    signs = rng.choice([-1.0, 1.0], size=n) if reflects else np.ones(n)
    lengths = rng.choice([0.25, 1.0, 4.0, 16.0], size=n) if scales else np.ones(n)
    spectrum = np.sort(rng.choice(3, size=n))
    matrix = np.eye(n)
    if kind == "orth":
        matrix = rotation(rng, n)
    elif kind == "stab1":
        basis, _ = np.linalg.qr(np.column_stack([np.ones(n), rng.normal(size=(n, n - 1))]))
        inner = np.eye(n)
        inner[1:, 1:] = rotation(rng, n - 1)
        matrix = basis @ inner @ basis.T
    elif kind in SPECTRAL:
        matrix = np.zeros((n, n))
        for level in set(spectrum):
            where = np.flatnonzero(spectrum == level)
            matrix[np.ix_(where, where)] = rotation(rng, len(where))
    return Element(matrix, signs, lengths, order, spectrum)


@dataclass
class World:
    """Group elements for all variables of a context; for a fibred one a list, by the index of its base."""

    rng: np.random.Generator
    context: Context
    sizes: dict[str, int] = field(default_factory=dict)
    """Of variables on one axis, where it is not `SIZE`."""

    def __post_init__(self) -> None:
        self.elements = _Elements(self)

    # -- drawing ---------------------------------------------------------------------------------------------------

    def draw(self, law: Law) -> Pair | None:
        """The value of a line under ``law`` in both runs; None if no such value was found."""
        rank = len(law.axes)
        if law.zero:
            return np.zeros((SIZE,) * rank), np.zeros((SIZE,) * rank)
        doubled = [a for a, label in enumerate(law.axes) if self._linear(label) and label[3] == 2]
        labels = [*law.axes, *(law.axes[a] for a in doubled)]
        x = self._entries((SIZE,) * len(labels))
        if doubled and (law.nonneg or any(self.context.of(law.axes[a]).axes > 1 for a in doubled)):
            return None
        if law.nonneg:
            x = np.abs(x)
        if law.sym and rank >= 2:
            x = x + np.swapaxes(x, rank - 1, rank - 2)
        for a, label in enumerate(labels):
            x = self._impose(x, a, label, labels)
        iso = [a for a, label in enumerate(law.axes) if label == ISO]
        if iso:
            x = self._delta(x, *iso)
        y = self.moved(x, labels)
        for a, label in enumerate(labels):
            if self._loose(label):
                y = np.where(self._null(y.shape, a, label, labels, 1), self._entries(y.shape), y)
        for a in reversed(doubled):
            x, y = (np.diagonal(v, axis1=a, axis2=v.ndim - 1) for v in (x, y))
            x, y = (np.moveaxis(v, -1, a) for v in (x, y))
        for name, k, e in law.scalars:
            own = self.elements[name][0]
            y = y * own.signs[0] ** k * own.scales[0] ** float(e)
        return (x, y) if self.facts(x, law, 0) and self.facts(y, law, 1) else None

    def _entries(self, shape: tuple[int, ...]) -> Array:
        if self.rng.random() < 0.5:
            return np.asarray(self.rng.choice([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0], size=shape))
        return np.asarray(self.rng.normal(size=shape))

    def _impose(self, x: Array, axis: int, label: Label, labels: Sequence[Label]) -> Array:
        if label == FREE:
            return np.repeat(x.take([0], axis), SIZE, axis)
        if label[0] in EIGEN:
            x = np.asarray(np.moveaxis(x.copy(), axis, -1))
            first = self._first(x.shape, label, axis, labels)
            x = np.moveaxis(np.take_along_axis(x, first, -1), -1, axis)
            null = self._null(x.shape, axis, label, labels, 0)
            return np.where(null, {"eig": x, "eig0": 0.0, "eig1": 1.0}[label[0]], x)
        if self._core(label):
            return np.where(self._null(x.shape, axis, label, labels, 0), 0.0, x)
        return x

    def _first(self, shape: tuple[int, ...], label: Label, axis: int, labels: Sequence[Label]) -> Any:
        """For every entry, ``axis`` last, the first index of the eigenspace of its index along the axis."""
        levels = np.moveaxis(self.levels(shape, axis, label, labels, 0), axis, -1)
        return (levels[..., None, :] == levels[..., :, None]).argmax(-1)

    @staticmethod
    def _delta(x: Array, one: int, two: int) -> Array:
        moved = np.moveaxis(x, (one, two), (-2, -1))
        rest = moved[..., 0, 0]
        return np.moveaxis(rest[..., None, None] * np.eye(SIZE), (-2, -1), (one, two))

    # -- the action ------------------------------------------------------------------------------------------------

    def _linear(self, label: Label) -> bool:
        return label[0] == "vec" and label[1] in self.context.variables and self.context.linear(label)

    def _core(self, label: Label) -> bool:
        return self._linear(label) and self.context.of(label).kind in SPECTRAL and label[2] == CORE

    def _loose(self, label: Label) -> bool:
        return self._linear(label) and self.context.of(label).kind == "partial" and label[2] != CORE

    def _base(self, name: str, labels: Sequence[Label]) -> int | None:
        fibre = self.context.variables[name].fibre
        return None if fibre is None else [label[:2] for label in labels].index(("vec", fibre))

    def levels(self, shape: Any, axis: int, label: Label, labels: Sequence[Label], run: int) -> npt.NDArray[Any]:
        """The spectrum along ``axis``, broadcast to ``shape``, in the first or the second run."""
        own = self.elements[label[1]]
        base = self._base(label[1], labels)
        table = np.array([x.spectrum for x in own])
        if base is None:
            spread = table[0].reshape([-1 if a == axis else 1 for a in range(len(shape))])
        else:
            if run:
                order = self.elements[str(self.context.variables[label[1]].fibre)][0].order
                table = table[np.argsort(order)]
            table = table if base < axis else table.T
            spread = table.reshape([SIZE if a in (axis, base) else 1 for a in range(len(shape))])
        return np.broadcast_to(spread, shape)

    def _null(self, shape: Any, axis: int, label: Label, labels: Sequence[Label], run: int) -> npt.NDArray[Any]:
        return self.levels(shape, axis, label, labels, run) == 0

    def moved(self, x: Array, labels: Sequence[Label], skip: Sequence[int] = ()) -> Array:
        """``x`` in the second run, if its axes move by ``labels``; the axes ``skip`` do not."""
        done: set[tuple[str, int]] = set()
        vecs = [(a, label) for a, label in enumerate(labels) if label[0] == "vec" and a not in skip]
        for a, label in sorted(vecs, key=lambda item: self.context.of(item[1]).fibre is None):  # fibres before bases
            variable, own = self.context.of(label), self.elements[label[1]]
            k, e = (label[3], float(label[4])) if variable.kind in MONOMIAL else (1, 0.0)
            matrices = [x_.power(k, e) if variable.kind in MONOMIAL else x_.matrix for x_ in own]
            if variable.axes > 1:
                if (label[1], 0) in done:
                    continue
                done.add((label[1], 0))
                axes = [b for b, other in sorted(vecs, key=lambda item: item[1][2:3]) if other[1] == label[1]]
                last = np.moveaxis(x, axes, range(-len(axes), 0))
                flat = last.reshape(*last.shape[: -len(axes)], -1)
                if variable.fibre is not None:
                    raise NotImplementedError
                x = np.moveaxis((flat @ matrices[0].T).reshape(last.shape), range(-len(axes), 0), axes)
                continue
            base = self._base(label[1], labels)
            if base is None:
                x = np.moveaxis(np.moveaxis(x, a, -1) @ matrices[0].T, -1, a)
            else:
                last = np.moveaxis(x, (base, a), (0, -1))
                x = np.moveaxis(np.stack([last[h] @ matrices[h].T for h in range(SIZE)]), (0, -1), (base, a))
        return x

    # -- checking --------------------------------------------------------------------------------------------------

    def facts(self, x: Array, law: Law, run: int) -> bool:
        """Whether what ``law`` says of the value alone is true."""
        if law.zero:
            return not np.any(np.abs(x) > TOLERANCE)
        good = True
        for a, label in enumerate(law.axes):
            if label == FREE:
                good &= _near(x, np.repeat(x.take([0], a), x.shape[a], a))
            if label[0] in EIGEN or (self._linear(label) and self.context.of(label).kind in SPECTRAL):
                null = self._null(x.shape, a, label, law.axes, run)
                if label[0] in EIGEN:
                    levels = self.levels(x.shape, a, label, law.axes, run)
                    for one, two in itertools.combinations(range(x.shape[a]), 2):
                        same = levels.take(one, a) == levels.take(two, a)
                        good &= _near(np.where(same, x.take(one, a), 0), np.where(same, x.take(two, a), 0))
                if label[0] == "eig0" or self._core(label):
                    good &= _near(np.where(null, x, 0), np.zeros_like(x))
                if label[0] == "eig1":
                    good &= _near(np.where(null, x, 1), np.ones_like(x))
        iso = [a for a, label in enumerate(law.axes) if label == ISO]
        if iso:
            good &= _near(x, self._delta(x, *iso))
        if law.sym and x.ndim >= 2:
            good &= x.shape[-1] == x.shape[-2] and _near(x, np.swapaxes(x, -1, -2))
        if law.nonneg:
            good &= not np.any(x < -TOLERANCE)
        return bool(good)

    def holds(self, pair: Pair, law: Law) -> bool:
        """Whether ``law`` is true of the values of a line in the two runs."""
        x, y = pair
        if x.shape != y.shape or x.ndim != len(law.axes) or not (self.facts(x, law, 0) and self.facts(y, law, 1)):
            return False
        if law.zero:
            return True
        traced = [a for a, label in enumerate(law.axes) if self._linear(label) and label[3] == 2]
        expected = self.moved(x, law.axes, skip=traced)
        for name, k, e in law.scalars:
            own = self.elements[name][0]
            expected = expected * own.signs[0] ** k * own.scales[0] ** float(e)
        known = np.ones(y.shape, dtype=bool)
        for a, label in enumerate(law.axes):
            if self._loose(label):
                known &= ~self._null(y.shape, a, label, law.axes, 1)
        expected, found = (np.where(known, v, 0.0) for v in (expected, y))
        for a in traced:  # the diagonal of T, moved to that of P T P^T: the traces agree, in every eigenspace
            label = law.axes[a]
            if self.context.of(label).kind in SPECTRAL:
                levels = self.levels(y.shape, a, label, law.axes, 1)
                expected, found = (
                    np.stack([np.where(levels == s, v, 0).sum(a) for s in range(SIZE)], axis=a)
                    for v in (expected, found)
                )
            else:
                expected, found = (v.sum(a, keepdims=True) for v in (expected, found))
        return _near(expected, found)


def _near(one: Array, two: Array) -> bool:
    finite = np.isfinite(one) & np.isfinite(two)
    same = (one == two) | (np.isnan(one) & np.isnan(two))
    with np.errstate(invalid="ignore"):
        close = np.abs(one - two) <= TOLERANCE * (1 + np.maximum(np.abs(one), np.abs(two)))
    return bool(np.all(same | (finite & close)))


class _Elements(dict[str, list[Element]]):
    """Elements of variables, drawn when first asked for."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def __missing__(self, name: str) -> list[Element]:
        variable, rng = self.world.context.variables[name], self.world.rng
        size = {0: 1, 1: self.world.sizes.get(name, SIZE)}.get(variable.axes, SIZE**variable.axes)
        self[name] = [element(rng, variable.kind, size) for _ in range(1 if variable.fibre is None else SIZE)]
        return self[name]


# -- random laws ---------------------------------------------------------------------------------------------------


def random_label(rng: np.random.Generator, context: Context) -> Label:
    """Any label; those of classes with several axes are made by `random_law`."""
    kind = rng.choice(["inv", "free", "eig", "vec", "vec", "vec"])
    if kind in ("inv", "free"):
        return (str(kind),)
    if kind == "eig":
        return (
            str(rng.choice(EIGEN)),
            str(rng.choice([n for n, v in context.variables.items() if v.kind in SPECTRAL])),
        )
    name = str(rng.choice([n for n, v in context.variables.items() if v.axes == 1]))
    variable = context.variables[name]
    if variable.kind not in MONOMIAL:
        sub = int(rng.choice([0, CORE])) if variable.kind in SPECTRAL else 0
        return context.vec(name, sub, int(rng.choice([1, 1, 2])))
    _, reflects, scales = MONOMIAL[variable.kind]
    return context.vec(
        name,
        0,
        int(rng.integers(2)) if reflects else 0,
        Fraction(str(rng.choice(["1", "-1", "1/2", "0"]))) if scales else Fraction(0),
    )


def complete(rng: np.random.Generator, context: Context, labels: list[Label]) -> tuple[Label, ...]:
    """``labels`` with a base for every fibre."""
    for label in list(labels):
        fibre = context.of(label).fibre if label[0] in ("vec", *EIGEN) else None
        if fibre is not None and ("vec", fibre) not in [other[:2] for other in labels]:
            labels.insert(int(rng.integers(len(labels) + 1)), context.vec(fibre, 0, 0))
    return tuple(labels)


def whole(rng: np.random.Generator, context: Context) -> list[Label]:
    """The labels of a variable that acts on two axes at once."""
    name = str(rng.choice([n for n, v in context.variables.items() if v.axes == 2]))
    kind = context.variables[name].kind
    _, reflects, scales = MONOMIAL.get(kind, (0, 0, 0))
    k = int(rng.integers(2)) if reflects else 0
    e = Fraction(str(rng.choice(["1", "-1"]))) if scales else Fraction(0)
    k = int(rng.choice([1, 2])) if kind not in MONOMIAL else k
    return [context.vec(name, sub, k, e) for sub in (0, 1)]


def random_axes(rng: np.random.Generator, context: Context, rank: int) -> tuple[Label, ...]:
    """Well-formed labels of about ``rank`` axes."""
    labels = [random_label(rng, context) for _ in range(rank)]
    if rank >= 2 and rng.random() < 0.3:
        labels[:2] = whole(rng, context)
        if rng.random() < 0.3:
            labels[:2] = labels[1::-1]
    elif rank >= 2 and rng.random() < 0.2:
        labels[-2:] = [ISO, ISO]
    elif rank >= 2 and rng.random() < 0.3:
        labels[-1] = labels[-2]
    return complete(rng, context, labels)


def random_law(rng: np.random.Generator, context: Context, rank: int) -> Law | None:
    """A random well-formed law, with facts; None if the draw was not well formed."""
    axes = random_axes(rng, context, rank)
    scalars: tuple[Any, ...] = ()
    if rng.random() < 0.25:
        k, e = int(rng.integers(2)), Fraction(str(rng.choice(["1", "0", "-1/2"])))
        scalars = (("c", k, e),) if k or e else ()
    sym = len(axes) >= 2 and axes[-1] == axes[-2] and rng.random() < 0.7
    try:
        return context.check(Law(axes, scalars, bool(sym), bool(rng.random() < 0.4)))
    except Reject:
        return None
