"""What a family of matrix groups is: one group per size, with everything that certification needs from it."""

from __future__ import annotations

import abc
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from groups.element import Element, FloatArray, product

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


class Group(abc.ABC):
    """A family of matrix groups ``G(n)``, such as ``O`` or ``Perm``; a value, printed as its name in spec strings."""

    is_orthogonal: ClassVar[bool]
    """Whether every element is orthogonal, so that the dual action is the action itself."""
    is_finite: ClassVar[bool] = False
    """Whether every ``G(n)`` is finite and its matrices have entries 0, 1 and -1 only, so that samples are exact."""
    law: ClassVar[str] = "Haar"
    """The law of :meth:`sample`: Haar, except for groups on which Haar measure cannot be normalised."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The name in spec strings."""

    @abc.abstractmethod
    def generators(self, n: int) -> tuple[Element, ...]:
        """Exact elements which, together with the exponentials of :meth:`lie_algebra`, generate ``G(n)``."""

    def lie_algebra(self, n: int) -> tuple[FloatArray, ...]:
        """A basis of the Lie algebra, ``n x n`` float64 matrices; empty for a discrete group."""
        self.check_size(n)
        return ()

    def exact(self, n: int) -> tuple[Element, ...]:
        """A few exact elements other than the identity, the dyadic ones first; empty if ``G(n)`` is trivial."""
        self.check_size(n)
        found = dict.fromkeys(element for element in self._exact(n) if not element.is_identity)
        return tuple(sorted(found, key=lambda element: not element.is_dyadic))

    @abc.abstractmethod
    def _exact(self, n: int) -> Iterable[Element]: ...

    @property
    def summary(self) -> str:
        """One line that says what the group is."""
        return (type(self).__doc__ or "").strip().partition("\n")[0]

    @property
    def is_self_dual(self) -> bool:
        """Whether the inverse transposes of the elements are known to be elements again, for every size."""
        return True

    @abc.abstractmethod
    def _contains(self, element: Element) -> bool: ...

    @abc.abstractmethod
    def _moves(self, n: int) -> list[SearchStrategy[Element]]:
        """Strategies for the simple elements whose products :meth:`elements` draws; empty if ``G(n)`` is trivial."""

    @abc.abstractmethod
    def _draw(self, n: int, count: int, rng: torch.Generator) -> torch.Tensor:
        """``count`` random elements, ``(count, n, n)`` float64, on the device of ``rng``."""

    def check_size(self, n: int) -> None:
        """Raises ValueError, one line, if there is no ``G(n)``."""
        if n < 1:
            raise ValueError(f"{self}: the size of an axis is at least 1, got {n}")

    def identity(self, n: int) -> Element:
        """The identity of ``G(n)``."""
        self.check_size(n)
        return Element.identity(n)

    def contains(self, element: Element) -> bool:
        """Whether the element is in ``G(element.size)``: exactly for exact elements, else up to rounding."""
        try:
            self.check_size(element.size)
        except ValueError:
            return False
        return self._contains(element)

    def sample(self, n: int, count: int, *, rng: torch.Generator, device: str | torch.device = "cpu") -> torch.Tensor:
        """``count`` independent random elements of ``G(n)``, a float64 tensor ``(count, n, n)`` on ``device``.

        The law is :attr:`law`. Random numbers are drawn on the device of ``rng``, so that one generator state gives the
        same elements wherever they are then used.
        """
        self.check_size(n)
        if count < 0:
            raise ValueError(f"{self}: count must not be negative, got {count}")
        return self._draw(n, count, rng).to(device)

    def elements(self, n: int) -> SearchStrategy[Element]:
        """Strategy: exact elements, as products of at most four simple moves; shrinks to the identity."""
        import hypothesis.strategies as st

        self.check_size(n)
        moves = self._moves(n)
        if not moves:
            return st.just(Element.identity(n))
        return st.lists(st.one_of(moves), max_size=4).map(lambda factors: product(factors, n))

    def __le__(self, other: Group) -> bool:
        """Subgroup order: True only if ``self(n)`` is a subgroup of ``other(n)`` for every ``n`` where both exist."""
        from groups.order import is_subfamily

        return is_subfamily(self, other) if isinstance(other, Group) else NotImplemented

    def __lt__(self, other: Group) -> bool:
        return self != other and self <= other

    def __str__(self) -> str:
        return self.name


def rounding_bound(n: int) -> float:
    """How far an ``n x n`` matrix made orthogonal in float64 may be from orthogonal, in the largest entry.

    Householder QR leaves ``|Q_computed - Q|_F <= c n^2 sqrt(n) eps`` with a small constant (Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd ed., equation 19.13); ``Q Q^T - I`` doubles it, and c = 4 covers a product
    of two.
    """
    return float(4 * n**2.5 * np.finfo(np.float64).eps)


def support(element: Element) -> npt.NDArray[np.bool_]:
    """Where the entries are not zero; for an exact element also where they are too small for a float."""
    if element.rows is None:
        return np.asarray(element.matrix != 0)
    found = np.zeros((element.size, element.size), dtype=np.bool_)
    for i, row in enumerate(element.rows):
        found[i, [j for j, _ in row]] = True
    return found


def monomial(element: Element) -> list[tuple[int, Fraction | float]] | None:
    """The ``(column, value)`` of the one non-zero entry of each row if the columns are all different, else None."""
    if element.rows is not None:
        entries: list[list[tuple[int, Fraction | float]]] = [list(row) for row in element.rows]
    else:
        entries = [[(int(j), row[j].item()) for j in np.flatnonzero(row)] for row in element.matrix]
    if any(len(row) != 1 for row in entries) or len({row[0][0] for row in entries}) != element.size:
        return None
    return [row[0] for row in entries]


def is_orthogonal(element: Element) -> bool:
    """Whether ``Q Q^T = I``: exactly for an exact element, within :func:`rounding_bound` for a float one."""
    if element.is_exact:
        return element.is_orthogonal
    defect = np.abs(element.matrix @ element.matrix.T - np.eye(element.size)).max()
    return bool(defect <= rounding_bound(element.size))
