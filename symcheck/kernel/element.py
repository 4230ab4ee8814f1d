"""Exact group elements: matrices of rational numbers that provably belong to the class of their variable."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import prod
from typing import NamedTuple

from symcheck.kernel.document import Reject, fields, fraction, integer, items, text
from symcheck.kernel.evaluate import Array, contract
from symcheck.kernel.interval import Interval

MAX_SIZE = 128  # of a matrix
DIAGONAL = {"sign", "scale+", "scale"}
ENTRIES = {"perm": {0, 1}, "sign": {-1, 0, 1}, "sperm": {-1, 0, 1}, "orth": None, "stab1": None}
Label = tuple[str, int, int] | None
"""How an axis moves: by a variable, as which of its axes, with which exponent; or not."""


class Variable(NamedTuple):
    """An element of a claim: the entries of its matrix and of the dual one, in order.

    It acts on ``axes`` axes as on one. If it depends on the index of ``fibre``, there are ``copies`` matrices.
    """

    kind: str
    axes: int
    fibre: str | None
    copies: int
    size: int
    matrix: list[Interval]
    dual: list[Interval]


def _belongs(kind: str, rows: Sequence[Sequence[Fraction]]) -> bool:
    places = range(len(rows))
    if kind in DIAGONAL and any(rows[i][j] for i in places for j in places if i != j):
        return False
    if kind not in ENTRIES:
        return all(rows[i][i] > 0 or (rows[i][i] and kind == "scale") for i in places)
    gram = (
        sum(x * y for x, y in zip(rows[i], rows[j], strict=True) if x and y) == (i == j) for i in places for j in places
    )
    allowed = ENTRIES[kind]
    return (
        all(gram)
        and (kind != "stab1" or all(sum(row) == 1 for row in rows))
        and (allowed is None or all(x in allowed for row in rows for x in row))
    )


def read_variables(data: object, element: object) -> dict[str, Variable]:
    """The variables of a claim with their matrices. Reject: a matrix that does not belong to the class."""
    variables: dict[str, Variable] = {}
    rows = [fields(row, {"name", "class", "axes", "fibre"}, at="variables") for row in items(data, at="variables")]
    matrices_of = fields(element, {text(row["name"], at="variables") for row in rows}, at="element")
    for row in rows:
        name, kind = row["name"], text(row["class"], {*DIAGONAL, *ENTRIES}, at="class")
        fibre = row["fibre"] if row["fibre"] is None else text(row["fibre"], variables.keys(), at="fibre")
        if name in variables or (fibre is not None and variables[fibre][:3] != ("perm", 1, None)):
            raise Reject(f"variables: {name} is there twice, or its fibre is no permutation of one axis")
        axes, matrices = integer(row["axes"], 1, 8, at="axes"), items(matrices_of[name], at=name)
        size = integer(len(items(matrices[0] if matrices else None, at=name)), 1, MAX_SIZE, at=f"size of {name}")
        exact: list[Fraction] = []
        for matrix in matrices:
            own = [[fraction(x, at=name) for x in items(line, size, at=name)] for line in items(matrix, size, at=name)]
            if not _belongs(kind, own):
                raise Reject(f"element {name}: a matrix is not of class {kind}")
            exact += [x for line in own for x in line]
        # The inverse transpose of an orthogonal matrix is the matrix itself.
        dual = [1 / x if x else x for x in exact] if kind in DIAGONAL else exact
        pairs = [(x, x) for x in exact], [(x, x) for x in dual]
        variables[name] = Variable(kind, axes, fibre, len(matrices), size, *pairs)
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


def along(array: Array, matrix: list[Interval], moved: Sequence[int], base: Sequence[int] = ()) -> Array:
    """A matrix acts on the axes ``moved`` as on one; there is one for each index of the axis ``base``, if given."""
    rank, sizes = len(array[0]), tuple(array[0][axis] for axis in moved)
    operator: Array = (*(array[0][axis] for axis in base), *sizes, *sizes), matrix
    new = [rank + axis for axis in moved]
    out = [axis + rank if axis in moved else axis for axis in range(rank)]
    return contract([operator, array], [[*base, *new, *moved], range(rank)], out)


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
            count, size = (prod(array[0][axis] for axis in axes) for axes in (base, moved))
            if len(base) != (variable.fibre is not None) or (count, size) != (variable.copies, variable.size):
                raise Reject(
                    f"element {name}: {variable.copies} matrices of size {variable.size}, not {count} of {size}"
                )
            array = along(array, variable.dual if dual != (exponents == {-1}) else variable.matrix, moved, base)
    return array
