"""Contractions as matrix products: a network of matrices and columns joined by indices, written as chains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from sympy import Expr, Trace

from symcheck.prove.notation import (
    ArrayOf,
    Expression,
    HadamardProduct,
    ScalarOf,
    diagonal,
    hadamard,
    ones,
    power,
    product,
    transpose,
)

Plan = Callable[[Sequence[Expression], Mapping[int, Expr], bool], Expression]
"""From the factors, the sizes of the letters, and whether to divide by the number of terms, to the formula."""


@dataclass
class _Component:
    """Letters that are joined by factors: a path. ``edges[k]`` are the factors between letters k and k + 1."""

    letters: list[int]
    edges: list[list[int]] = field(default_factory=list)


def chain(rows: Sequence[Sequence[int]], out: Sequence[int]) -> Plan | None:
    """How to write the contraction of factors with these letters as a matrix formula; None if there is none.

    Factors have at most two letters. There is a formula if, once parallel factors are joined entrywise, every connected
    part is a path whose free letters are its ends.
    """
    if any(len(row) > 2 for row in rows) or len(out) > 2:
        return None
    components = _components(rows)
    if components is None:
        return None
    parts = [(component, [i for i in component.letters if i in out]) for component in components]
    if any(not _ends(component, free) for component, free in parts):
        return None
    scalars = [factor for factor, row in enumerate(rows) if not row]

    def plan(values: Sequence[Expression], sizes: Mapping[int, Expr], mean: bool) -> Expression:
        found: dict[tuple[int, ...], Expression] = {}
        free_of = [tuple(i for i in out if i in free) for _, free in parts]
        factors = [values[factor] for factor in scalars]
        for (component, _), free in zip(parts, free_of, strict=True):
            divisors = [sizes[i] for i in component.letters if i not in free] if mean else []
            value, divided = _Writer(rows, values, sizes, divisors).write(component, free)
            factors += [] if divided else [power(size, Fraction(-1)) for size in divisors]
            if free:
                found[free] = value
            else:
                factors.append(value)
        if not out:
            return product(*factors)
        if tuple(out) in found:
            return product(*factors, found[tuple(out)])
        return product(*factors, found[(out[0],)], transpose(found[(out[1],)]))

    return plan


def _components(rows: Sequence[Sequence[int]]) -> list[_Component] | None:
    edges: dict[frozenset[int], list[int]] = {}
    for factor, row in enumerate(rows):
        if len(set(row)) == 2:
            edges.setdefault(frozenset(row), []).append(factor)
    neighbours: dict[int, list[int]] = {i: [] for row in rows for i in row}
    for pair in edges:
        one, two = sorted(pair)
        neighbours[one].append(two)
        neighbours[two].append(one)
    if any(len(near) > 2 for near in neighbours.values()):
        return None
    left, result = set(neighbours), []
    for start in sorted(neighbours, key=lambda i: len(neighbours[i])):
        if start in left:
            if len(neighbours[start]) == 2:
                return None  # a cycle
            component = _Component([start])
            left.discard(start)
            while onward := [i for i in neighbours[component.letters[-1]] if i in left]:
                component.edges.append(edges[frozenset((component.letters[-1], onward[0]))])
                component.letters.append(onward[0])
                left.discard(onward[0])
            result.append(component)
    return result


def _ends(component: _Component, free: Sequence[int]) -> bool:
    ends = {component.letters[0], component.letters[-1]}
    return set(free) <= ends


class _Writer:
    def __init__(
        self,
        rows: Sequence[Sequence[int]],
        values: Sequence[Expression],
        sizes: Mapping[int, Expr],
        mean: Sequence[Expr],
    ) -> None:
        self.rows, self.values, self.sizes, self.mean = rows, values, sizes, mean

    def write(self, component: _Component, free: Sequence[int]) -> tuple[Expression, bool]:
        """The formula of a path, from its first free letter on; and whether it divides by the sizes already."""
        letters, edges = component.letters, component.edges
        if free and letters[0] != free[0]:
            letters, edges = letters[::-1], edges[::-1]
        short = self._short(letters, edges, free)
        if short is not None:
            return short
        if len(letters) == 1 and not free:
            return self._pair(self._columns(letters[0]), letters[0]), False
        factors: list[Expression] = []
        first, last = self._columns(letters[0]), self._columns(letters[-1])
        if not free:
            factors.append(transpose(hadamard(first) if first else ones(self.sizes[letters[0]])))
        elif first and len(letters) > 1:
            factors.append(diagonal(hadamard(first)))
        elif len(letters) == 1:
            return hadamard(first), False
        for place, edge in enumerate(edges):
            if place:
                factors += [diagonal(hadamard(self._columns(letters[place])))] if self._columns(letters[place]) else []
            factors.append(self._edge(edge, letters[place]))
        if len(free) == 2:
            factors += [diagonal(hadamard(last))] if last else []
        else:
            factors.append(hadamard(last) if last else ones(self.sizes[letters[-1]]))
        return product(*factors), False

    def _short(self, letters: list[int], edges: list[list[int]], free: Sequence[int]) -> tuple[Expression, bool] | None:
        """Norms, inner products, means and row norms: one edge, or one letter, without columns at its ends."""
        if len(letters) == 1:
            own = [f for f, row in enumerate(self.rows) if list(row) == letters]
            twice = [f for f, row in enumerate(self.rows) if list(row) == letters * 2]
            if twice and not own and len(twice) == 1:
                matrix = self.values[twice[0]]
                if free:
                    return ArrayOf("diagonal", (self.sizes[letters[0]], 1), matrix), False
                return Trace(matrix), False
            if len(own) == 2 and not twice and not free and self.values[own[0]] == self.values[own[1]]:
                return self._sum("sqnorm", "meansq", (self.values[own[0]],))
            if len(own) == 1 and not twice and not free:
                return self._sum("sum", "mean", (self.values[own[0]],))
            return None
        if len(letters) != 2 or any(self._columns(i) for i in letters) or len(free) == 2:
            return None
        factors = [self.values[f] if self.rows[f][0] == letters[0] else transpose(self.values[f]) for f in edges[0]]
        if not free:
            factors = [transpose(f) for f in factors] if all(f.is_Transpose for f in factors) else factors
            if len(factors) == 1:
                return self._sum("sum", "mean", tuple(factors))
            if len(factors) == 2 and factors[0] == factors[1]:
                return self._sum("sqnorm", "meansq", (factors[0],))
            return (self._sum("inner", "mean_inner", tuple(factors))) if len(factors) == 2 else None
        kind = {1: ("row_sum", "row_mean"), 2: ("row_sqnorm", "row_meansq")}.get(len(factors))
        if kind is None or factors[0] != factors[-1]:
            return None
        name = kind[1] if self.mean == [self.sizes[letters[1]]] else kind[0]
        return ArrayOf(name, (self.sizes[letters[0]], 1), factors[0]), name == kind[1]

    def _sum(self, plain: str, mean: str, operands: tuple[Expression, ...]) -> tuple[Expression, bool]:
        if plain == "sum" and isinstance(operands[0], HadamardProduct) and len(operands[0].args) == 2 and not self.mean:
            one, two = operands[0].args
            return (ScalarOf("sqnorm", one) if one == two else ScalarOf("inner", one, two)), False
        return ScalarOf(mean if self.mean else plain, *operands), bool(self.mean)

    def _columns(self, letter: int) -> list[Expression]:
        """The columns, and the diagonals of matrices, along a letter."""
        columns: list[Any] = []
        for value, row in zip(self.values, self.rows, strict=True):
            if list(row) == [letter]:
                columns.append(value)
            elif list(row) == [letter, letter]:
                columns.append(ArrayOf("diagonal", (self.sizes[letter], 1), value))
        return columns

    def _edge(self, factors: list[int], start: int) -> Expression:
        return hadamard([self.values[f] if self.rows[f][0] == start else transpose(self.values[f]) for f in factors])

    def _pair(self, columns: list[Expression], letter: int) -> Expression:
        if len(columns) == 2:
            return ScalarOf("inner", *columns)
        return ScalarOf("sum", hadamard(columns) if columns else ones(self.sizes[letter]))
