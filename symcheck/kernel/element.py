"""Exact group elements: matrices of rational numbers that provably belong to the class of their variable."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import prod
from operator import mul
from typing import NamedTuple

from symcheck.kernel.document import Reject, fields, fraction, integer, items, text
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


def _matrix(data: object, kind: str, name: str) -> Matrix:
    size = integer(len(items(data, at=name)), 1, MAX_SIZE, at=f"size of {name}")
    rows = [[fraction(x, at=name) for x in items(row, size, at=name)] for row in items(data, at=name)]
    if not _belongs(kind, rows):
        raise Reject(f"element {name}: a matrix is not of class {kind}")
    return rows


def read_variables(data: object, element: object) -> dict[str, Variable]:
    """The variables of a claim with their matrices. Reject: a matrix that does not belong to the class."""
    variables: dict[str, Variable] = {}
    rows = [fields(row, {"name", "class", "axes", "fibre"}, at="variables") for row in items(data, at="variables")]
    matrices_of = fields(element, {text(row["name"], at="variables") for row in rows}, at="element")
    for row in rows:
        name, kind = row["name"], text(row["class"], {*DIAGONAL, *ORTHOGONAL}, at="class")
        fibre = row["fibre"] if row["fibre"] is None else text(row["fibre"], variables.keys(), at="fibre")
        if name in variables or (fibre is not None and variables[fibre][:3] != ("perm", 1, None)):
            raise Reject(f"variables: {name} is there twice, or its fibre is no permutation of one axis")
        matrices = [_matrix(own, kind, name) for own in items(matrices_of[name], at=name)]
        if len({len(own) for own in matrices}) != 1:
            raise Reject(f"element {name}: no matrices, or of different sizes")
        # The inverse transpose of an orthogonal matrix is the matrix itself.
        dual = [[[1 / x if x and kind in DIAGONAL else x for x in line] for line in own] for own in matrices]
        variables[name] = Variable(kind, integer(row["axes"], 1, 8, at="axes"), fibre, matrices, dual)
    return variables


def read_labels(data: object, variables: Mapping[str, Variable]) -> list[Label]:
    """How the axes of one tensor move."""
    labels: list[Label] = []
    for item in items(data, at="tensors"):
        if item is None:
            labels.append(None)
            continue
        name, sub, exponent = items(item, 3, at="tensors")
        if integer(exponent, -1, 1, at="exponent") == 0:
            raise Reject("tensors: an exponent is 1 or -1")
        place = integer(sub, 0, variables[text(name, variables.keys(), at="tensors")].axes - 1, at="sub-axis")
        labels.append((name, place, exponent))
    return labels


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
