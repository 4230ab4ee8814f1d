"""Group elements: invertible square matrices, exact over the rationals where possible, with a float64 view.

Exact matrices are kept as sparse rows. A signed permutation of the 960 entries of a 40 x 24 matrix then has 960 stored
numbers instead of 921600, and products, inverses and actions of the simple elements of witnesses stay cheap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
SparseRow = tuple[tuple[int, Fraction], ...]
SparseRows = tuple[SparseRow, ...]


class Element:
    """An invertible ``size x size`` matrix, immutable.

    Build one with :meth:`from_exact` (integers, fractions) or :meth:`from_float`. ``a @ b`` is the product, ``~a`` the
    inverse, ``a.dual`` the inverse transpose. Products and inverses of exact elements are exact.
    """

    __slots__ = ("_dual", "_matrix", "_orthogonal", "_rows", "size")

    size: int
    _rows: SparseRows | None
    _matrix: FloatArray | None
    _orthogonal: bool | None
    _dual: Element | None

    def __init__(self) -> None:
        raise TypeError("build an Element with Element.from_exact(rows) or Element.from_float(array)")

    @classmethod
    def _make(cls, size: int, rows: SparseRows | None, matrix: FloatArray | None, orthogonal: bool | None) -> Element:
        self = object.__new__(cls)
        self.size, self._rows, self._matrix, self._orthogonal, self._dual = size, rows, matrix, orthogonal, None
        return self

    @classmethod
    def from_exact(cls, rows: Iterable[Iterable[int | str | Fraction]]) -> Element:
        """The element with these exact entries (integers, fractions, or strings such as ``"3/5"``).

        Raises ValueError if the rows are not a square, invertible matrix and TypeError for floats, whose decimal digits
        are not the number that they stand for.
        """
        dense = [list(row) for row in rows]
        if not dense or any(len(row) != len(dense) for row in dense):
            raise ValueError(f"an element is a square matrix, got rows of lengths {[len(row) for row in dense]}")
        if any(isinstance(value, float) for row in dense for value in row):
            raise TypeError("exact entries are integers, fractions or strings such as '3/5'; use from_float for floats")
        element = cls.from_sparse(
            tuple(tuple((j, Fraction(value)) for j, value in enumerate(row) if Fraction(value)) for row in dense)
        )
        element.dual  # noqa: B018  (raises if the matrix is singular)
        return element

    @classmethod
    def from_sparse(cls, rows: SparseRows) -> Element:
        """The element with row ``i`` given as its non-zero ``(column, value)`` pairs in order of the columns.

        Trusted input: invertibility is not checked here but by the first inverse.
        """
        return cls._make(len(rows), rows, None, None)

    @classmethod
    def from_float(cls, array: npt.ArrayLike, *, orthogonal: bool = False) -> Element:
        """The element with this float64 matrix (copied).

        ``orthogonal`` says that the matrix was made orthogonal to rounding, so that its inverse is its transpose.
        Without it the matrix must be well enough conditioned to invert: ValueError if ``n eps cond >= 1``, where
        Gaussian elimination keeps no correct digit (Higham, Accuracy and Stability, section 9.3).
        """
        matrix = np.array(array, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
            raise ValueError(f"an element is a square matrix, got shape {matrix.shape}")
        if not np.isfinite(matrix).all():
            raise ValueError("an element has finite entries, got infinity or NaN")
        size = matrix.shape[0]
        if not orthogonal and size * np.finfo(np.float64).eps * np.linalg.cond(matrix) >= 1:
            raise ValueError(f"an element is invertible, got a numerically singular {size} x {size} matrix")
        matrix.flags.writeable = False
        return cls._make(size, None, matrix, orthogonal)

    @classmethod
    def identity(cls, size: int) -> Element:
        """The exact identity."""
        one = Fraction(1)
        return cls._make(size, tuple(((i, one),) for i in range(size)), None, True)

    @property
    def rows(self) -> SparseRows | None:
        """The exact non-zero entries by row, ``((column, value), ...)``, or None if only floats are known."""
        return self._rows

    @property
    def is_exact(self) -> bool:
        """Whether the entries are known as fractions."""
        return self._rows is not None

    @property
    def is_dyadic(self) -> bool:
        """Whether all entries, also of the inverse, have a power of two below: exact in binary floating point."""
        if self._rows is None or not _dyadic(self._rows):
            return False
        return self.is_orthogonal or _dyadic(self.dual._rows or ())

    @property
    def exact(self) -> tuple[tuple[Fraction, ...], ...] | None:
        """The dense exact matrix, or None if only floats are known."""
        if self._rows is None:
            return None
        dense = [[Fraction(0)] * self.size for _ in self._rows]
        for i, row in enumerate(self._rows):
            for j, value in row:
                dense[i][j] = value
        return tuple(tuple(row) for row in dense)

    @property
    def matrix(self) -> FloatArray:
        """The float64 matrix, read-only; each exact entry correctly rounded."""
        if self._matrix is None:
            matrix = np.zeros((self.size, self.size))
            for i, row in enumerate(self._rows or ()):
                for j, value in row:
                    matrix[i, j] = float(value)
            matrix.flags.writeable = False
            self._matrix = matrix
        return self._matrix

    @property
    def is_orthogonal(self) -> bool:
        """Whether the inverse is the transpose: decided for exact elements, as declared for float ones."""
        if self._orthogonal is None:
            rows = self._rows or ()
            self._orthogonal = sparse_product(rows, sparse_transpose(rows)) == Element.identity(self.size)._rows
        return self._orthogonal

    @property
    def is_identity(self) -> bool:
        """Whether this is exactly the identity matrix."""
        if self._rows is not None:
            return self._rows == Element.identity(self.size)._rows
        return bool(np.array_equal(self.matrix, np.eye(self.size)))

    @property
    def transpose(self) -> Element:
        """The transposed matrix."""
        if self._rows is not None:
            return self._make(self.size, sparse_transpose(self._rows), None, self._orthogonal)
        return self._make(self.size, None, _frozen(self.matrix.T), self._orthogonal)

    @property
    def dual(self) -> Element:
        """The inverse transpose, by which gradients move. Raises ValueError if an exact matrix is singular."""
        if self._dual is None:
            if self.is_orthogonal:
                self._dual = self
            elif self._rows is not None:
                self._dual = self._make(self.size, sparse_transpose(sparse_inverse(self._rows)), None, False)
                self._dual._dual = self
            else:
                self._dual = self._make(
                    self.size, None, _frozen(np.linalg.inv(self.matrix).T.astype(np.float64)), False
                )
                self._dual._dual = self
        return self._dual

    def __matmul__(self, other: Element) -> Element:
        if not isinstance(other, Element):
            return NotImplemented
        if self.size != other.size:
            raise ValueError(f"cannot multiply elements of sizes {self.size} and {other.size}")
        orthogonal = True if self._orthogonal and other._orthogonal else None
        if self._rows is not None and other._rows is not None:
            return self._make(self.size, sparse_product(self._rows, other._rows), None, orthogonal)
        orthogonal = self.is_orthogonal and other.is_orthogonal
        return self._make(self.size, None, _frozen(self.matrix @ other.matrix), orthogonal)

    def __invert__(self) -> Element:
        return self.dual.transpose

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Element):
            return NotImplemented
        if self._rows is not None or other._rows is not None:
            return self._rows == other._rows
        return bool(np.array_equal(self.matrix, other.matrix))

    def __hash__(self) -> int:
        return hash(self._rows) if self._rows is not None else hash((self.matrix + 0.0).tobytes())

    def __repr__(self) -> str:
        if self._rows is None or self.size > 8:
            return f"<Element {self.size} x {self.size}, {'exact' if self.is_exact else 'float64'}>"
        return "Element([" + ", ".join("[" + ", ".join(map(str, row)) + "]" for row in self.exact or ()) + "])"

    def apply(self, array: Any, axis: int = 0) -> Any:
        """``matrix @ array`` along one axis of a numpy array: exact for an object array of fractions, else float64.

        Raises ValueError for an object array if the element is not exact.
        """
        if array.dtype != object:
            moved = np.moveaxis(np.tensordot(self.matrix, array, axes=([1], [axis])), 0, axis)
            return np.ascontiguousarray(moved)
        if self._rows is None:
            raise ValueError("an element known in floating point only cannot act exactly on fractions")
        array = np.moveaxis(array, axis, 0)
        result = np.empty(array.shape, dtype=object)
        for i, row in enumerate(self._rows):
            result[i] = sum((value * array[j] for j, value in row), start=array[0] * 0)
        return np.ascontiguousarray(np.moveaxis(result, 0, axis))


def product(elements: Iterable[Element], size: int) -> Element:
    """The product from left to right; the identity of that size if there are no factors."""
    result = Element.identity(size)
    for element in elements:
        result = result @ element
    return result


def block_diagonal(blocks: Sequence[Element]) -> Element:
    """The block diagonal element; exact if every block is."""
    size = sum(block.size for block in blocks)
    if all(block.rows is not None for block in blocks):
        rows: list[SparseRow] = []
        for block in blocks:
            offset = len(rows)
            rows.extend(tuple((offset + j, value) for j, value in row) for row in block.rows or ())
        return Element.from_sparse(tuple(rows))
    matrix = np.zeros((size, size))
    offset = 0
    for block in blocks:
        matrix[offset : offset + block.size, offset : offset + block.size] = block.matrix
        offset += block.size
    return Element.from_float(matrix, orthogonal=all(block.is_orthogonal for block in blocks))


def _frozen(matrix: FloatArray) -> FloatArray:
    matrix = np.ascontiguousarray(matrix)
    matrix.flags.writeable = False
    return matrix


def _dyadic(rows: SparseRows) -> bool:
    return all(value.denominator.bit_count() == 1 for row in rows for _, value in row)


def sparse_transpose(rows: SparseRows) -> SparseRows:
    """The transpose of sparse rows."""
    columns: list[list[tuple[int, Fraction]]] = [[] for _ in rows]
    for i, row in enumerate(rows):
        for j, value in row:
            columns[j].append((i, value))
    return tuple(map(tuple, columns))


def sparse_product(left: SparseRows, right: SparseRows) -> SparseRows:
    """The product of sparse rows."""
    result = []
    for row in left:
        if len(row) == 1 and row[0][1] == 1:  # a permutation only reorders rows
            result.append(right[row[0][0]])
            continue
        total: dict[int, Fraction] = {}
        for k, a in row:
            for j, b in right[k]:
                total[j] = total.get(j, Fraction(0)) + a * b
        result.append(_sorted_row(total))
    return tuple(result)


def sparse_inverse(rows: SparseRows) -> SparseRows:
    """The inverse by Gauss-Jordan elimination over the rationals. Raises ValueError if singular."""
    size = len(rows)
    left = [dict(row) for row in rows]
    right = [{i: Fraction(1)} for i in range(size)]
    for k in range(size):
        pivot = next((i for i in range(k, size) if k in left[i]), None)
        if pivot is None:
            raise ValueError(f"an element is invertible, got a singular {size} x {size} matrix")
        left[k], left[pivot], right[k], right[pivot] = left[pivot], left[k], right[pivot], right[k]
        scale = 1 / left[k][k]
        for part in (left, right):
            part[k] = {j: scale * value for j, value in part[k].items()}
        for i in range(size):
            factor = left[i].get(k)
            if i != k and factor is not None:
                for part in (left, right):
                    _subtract(part[i], factor, part[k])
    return tuple(_sorted_row(row) for row in right)


def _subtract(row: dict[int, Fraction], factor: Fraction, other: dict[int, Fraction]) -> None:
    """``row -= factor * other`` in place, dropping entries that vanish."""
    for j, value in other.items():
        new = row.get(j, Fraction(0)) - factor * value
        if new:
            row[j] = new
        else:
            row.pop(j, None)


def _sorted_row(row: dict[int, Fraction]) -> SparseRow:
    return tuple(sorted((j, value) for j, value in row.items() if value))
