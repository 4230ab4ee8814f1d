"""What is on the page of a derivation: rows, repetitions and sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from symcheck.prove.notation import Expression
from symcheck.prove.transform import Image


@dataclass(frozen=True)
class Row:
    """One definition: ``left = right``, the image of what it defines, and the axioms that give it.

    ``images`` are pairs of a symbol and its image (or words, or an equation); ``number`` counts the rows of the page.
    """

    left: Expression
    right: Expression | str
    images: tuple[tuple[Expression, Image], ...]
    axioms: tuple[str, ...]
    number: int = 0


@dataclass(frozen=True)
class Repetition:
    """A folded loop: its rows hold for every ``k`` from 0 to ``count - 1``.

    ``start`` and ``end`` are pairs of equal symbols before and after it; ``numbers`` lists the value that each letter
    takes in every repetition (None: may depend on the step).
    """

    count: int
    start: tuple[tuple[Expression, Expression], ...]
    rows: tuple[Row, ...]
    numbers: tuple[tuple[Expression, tuple[Expression, ...] | None], ...]


@dataclass(frozen=True)
class Section:
    """One path through a step: its rows, and the values that decide about control flow.

    ``constants`` are the numbers without a known value; ``gauges`` the freedom of factorisations, with its class and
    the column of eigenvalues or singular values. ``same_as`` is an earlier section with the same rows once the given
    symbols have the given values (zeros, numbers); the rows are then not repeated.
    """

    title: str
    items: tuple[Row | Repetition, ...]
    leaks: tuple[tuple[Expression, str], ...]
    constants: tuple[Expression, ...] = ()
    gauges: tuple[tuple[Expression, str, Expression | None], ...] = ()
    same_as: tuple[int, tuple[tuple[Expression, Expression], ...]] | None = None


def rows_of(items: Sequence[Row | Repetition]) -> list[Row]:
    """All rows, those of repetitions once."""
    return [row for item in items for row in (item.rows if isinstance(item, Repetition) else (item,))]
