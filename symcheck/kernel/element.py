"""Exact group elements: matrices of rational numbers that provably belong to the class of their variable."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from fractions import Fraction
from math import prod
from operator import mul
from typing import Any, NamedTuple

from symcheck.kernel.check import AXES, VARIABLES, declared
from symcheck.kernel.document import Reject, conform, rational
from symcheck.kernel.evaluate import Array, contract, places

MAX_SIZE = 128
DIAGONAL = {"sign", "scale+", "scale"}
ORTHOGONAL = {"perm": {0, 1}, "sign": {-1, 0, 1}, "sperm": {-1, 0, 1}, "orth": None, "stab1": None}
"""Classes of orthogonal matrices, and the entries that they may have."""
Matrix = list[list[Fraction]]
Label = tuple[str, int, int] | None
"""How an axis moves: by a variable, as which of its axes, with which exponent; or not."""


class Variable(NamedTuple):
    """An element of a claim and its dual: one matrix that acts on ``axes`` axes as on one, or one for each index of
    ``fibre``."""

    kind: str
    axes: int
    fibre: str | None
    matrices: list[Matrix]
    dual: list[Matrix]


def _belongs(kind: str, rows: Matrix) -> bool:
    n, allowed = range(len(rows)), ORTHOGONAL.get(kind)
    if kind in DIAGONAL and any(rows[i][j] for i in n for j in n if i != j):
        return False
    if kind not in ORTHOGONAL:
        return all(rows[i][i] > 0 or (rows[i][i] and kind == "scale") for i in n)
    if (allowed and any(x not in allowed for row in rows for x in row)) or (
        kind == "stab1" and {*map(sum, rows)} != {1}
    ):
        return False
    return all(sum(map(mul, rows[i], rows[j])) == (i == j) for i in n for j in n)


def read_variables(data: Any, element: Any) -> dict[str, Variable]:
    """The variables of a claim with their matrices. Reject: a matrix that does not belong to the class."""
    conform(data, VARIABLES, "variables")
    conform(element, {row["name"]: [[[rational]]] for row in data}, "element")
    variables: dict[str, Variable] = {}
    for name, (kind, axes, fibre) in ((name, astuple(v)) for name, v in declared(data, {}).items()):
        matrices = [[[Fraction(x) for x in line] for line in rows] for rows in element[name]]
        sizes = {len(rows) for rows in matrices} | {len(row) for rows in matrices for row in rows}
        if len(sizes) != 1 or not 0 < min(sizes) <= MAX_SIZE:
            raise Reject(f"element {name}: no matrices, or of different sizes")
        if not all(_belongs(kind, rows) for rows in matrices):
            raise Reject(f"element {name}: a matrix is not of class {kind}")
        # The inverse transpose of an orthogonal matrix is the matrix itself.
        dual = [[[1 / x if x and kind in DIAGONAL else x for x in line] for line in own] for own in matrices]
        variables[name] = Variable(kind, axes, fibre, matrices, dual)
    return variables


def read_labels(data: Any, variables: Mapping[str, Variable]) -> list[Label]:
    """How the axes of one tensor move."""
    conform(data, AXES, "tensors")
    for item in data:
        if item is not None and (item[0] not in variables or item[1] >= variables[item[0]].axes):
            raise Reject(f"tensors: {item[:2]} is no axis of a variable")
    return [item and (item[0], item[1], item[2]) for item in data]


def along(array: Array, matrices: Sequence[Matrix], moved: Sequence[int], base: Sequence[int] = ()) -> Array:
    """A matrix acts on the axes ``moved`` as on one; there is one for each index of the axis ``base``, if given."""
    rank, sizes = len(array[0]), tuple(array[0][axis] for axis in moved)
    operator = {
        (*(k for _ in base), *i, *j): (rows[a][b],) * 2
        for k, rows in enumerate(matrices)
        for a, i in enumerate(places(sizes))
        for b, j in enumerate(places(sizes))
    }
    new = [rank + axis for axis in moved]
    out = [axis + rank if axis in moved else axis for axis in range(rank)]
    size = (*(len(matrices) for _ in base), *sizes, *sizes)
    return contract([(size, operator), array], [[*base, *new, *moved], range(rank)], out)


def act(array: Array, labels: Sequence[Label], variables: Mapping[str, Variable], dual: bool) -> Array:
    """``array`` moved by the element, or by its dual. Reject: the labels do not fit its sizes."""
    if len(labels) != len(array[0]):
        raise Reject(f"tensors: {len(labels)} axes for sizes {array[0]}")
    for name, variable in variables.items():  # a fibre comes after what permutes it
        found = sorted((label[1], axis, label[2]) for axis, label in enumerate(labels) if label and label[0] == name)
        base = [axis for axis, label in enumerate(labels) if label and label[0] == variable.fibre]
        for group in [[one] for one in found] if variable.axes == 1 else [found] if found else []:
            moved, exponents = [axis for _, axis, _ in group], {exponent for _, _, exponent in group}
            if [sub for sub, _, _ in group] != list(range(variable.axes)) or len(exponents) != 1:
                raise Reject(f"tensors: {name} acts on {variable.axes} axes at once, on each of them once")
            matrices = variable.dual if dual != (exponents == {-1}) else variable.matrices
            count, size = (prod(array[0][axis] for axis in axes) for axes in (base, moved))
            if len(base) != (variable.fibre is not None) or (count, size) != (len(matrices), len(matrices[0])):
                raise Reject(f"element {name}: {len(matrices)} matrices of {len(matrices[0])}, not {count} of {size}")
            array = along(array, matrices, moved, base)
    return array
