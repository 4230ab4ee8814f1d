"""Linear algebra over the rationals on small dense matrices (numpy object arrays of fractions)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from groups.element import Element

Matrix = npt.NDArray[np.object_]


def rational_square(rows: Any) -> Matrix:
    """A square matrix of fractions from integers, fractions, strings such as ``"3/5"`` or floats with integer values.

    Raises ValueError, without a place, for anything else: a decimal such as 0.6 is not the fraction that was meant.
    """
    dense = [list(row) for row in (rows.tolist() if isinstance(rows, np.ndarray) else rows)]
    if not dense or any(len(row) != len(dense) for row in dense):
        raise ValueError(f"expected a square matrix, got rows of lengths {[len(row) for row in dense]}")
    for value in (value for row in dense for value in row):
        if isinstance(value, float) and not value.is_integer():
            raise ValueError(f"expected integers, fractions or strings such as '3/5', got the float {value}")
    try:
        return matrix([[Fraction(value) for value in row] for row in dense])
    except (TypeError, ValueError, ZeroDivisionError):
        raise ValueError("expected integers, fractions or strings such as '3/5'") from None


def matrix(rows: Sequence[Sequence[Fraction]]) -> Matrix:
    """The object array of these rows."""
    return np.array([list(row) for row in rows], dtype=object)


def identity(n: int) -> Matrix:
    """The identity matrix."""
    return matrix([[Fraction(int(i == j)) for j in range(n)] for i in range(n)])


def dense(element: Element) -> Matrix:
    """An exact element as an object array."""
    return matrix(element.exact or ())


class Span:
    """A subspace of rational vectors, kept in echelon form."""

    def __init__(self, vectors: Iterable[Iterable[Fraction]] = ()) -> None:
        self._rows: dict[int, Matrix] = {}
        for vector in vectors:
            self.add(vector)

    def _reduce(self, vector: Iterable[Fraction]) -> Matrix:
        rest = np.array(list(vector), dtype=object)
        for pivot in sorted(self._rows):
            if rest[pivot]:
                rest = rest - rest[pivot] * self._rows[pivot]
        return rest

    def contains(self, vector: Iterable[Fraction]) -> bool:
        """Whether the vector is in the subspace."""
        return not self._reduce(vector).any()

    def add(self, vector: Iterable[Fraction]) -> bool:
        """Adds a vector; False if it was in the subspace already."""
        rest = self._reduce(vector)
        pivots = rest.nonzero()[0]
        if not len(pivots):
            return False
        self._rows[int(pivots[0])] = rest / rest[pivots[0]]
        return True

    def orthogonal_complement(self, dimension: int) -> list[Matrix]:
        """A basis of the vectors with zero dot product with every vector of the subspace."""
        reduced: dict[int, Matrix] = {}
        for pivot in sorted(self._rows, reverse=True):
            row = self._rows[pivot]
            for other, done in reduced.items():
                row = row - row[other] * done
            reduced[pivot] = row
        basis = []
        for free in set(range(dimension)) - set(reduced):
            vector = np.array([Fraction(0)] * dimension, dtype=object)
            vector[free] = Fraction(1)
            for pivot, row in reduced.items():
                vector[pivot] = -row[free]
            basis.append(vector)
        return basis


def exponential(x: Matrix) -> Element | None:
    """``exp(x)`` exactly if ``x`` is nilpotent, so that the series ends; else None."""
    term = total = identity(len(x))
    for k in range(1, len(x) + 1):
        term = term @ x / k
        if not term.any():
            return Element.from_exact(total.tolist())
        total = total + term
    return None
