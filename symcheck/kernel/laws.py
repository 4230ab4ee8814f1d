"""How a value moves when the inputs are transformed: a law, a label for each of its axes, and how labels combine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from symcheck.kernel.document import Reject, fields, flag, fraction, integer, items, text

Label = tuple[Any, ...]
"""``("inv",) ("free",) ("iso",) ("eig" | "eig0" | "eig1", gauge) ("vec", variable, sub, k, e)``"""
INV, FREE, ISO = ("inv",), ("free",), ("iso",)
EIGEN = ("eig", "eig0", "eig1")
MONOMIAL = {"perm": (1, 0, 0), "sign": (0, 1, 0), "sperm": (1, 1, 0), "scale+": (0, 0, 1), "scale": (0, 1, 1)}
"""Whether elements of the class permute, reflect and scale entries."""
LINEAR = ("orth", "stab1", "block")
FULL, LOOSE, CORE = 0, 1, 2
"""Faces of a block gauge: a full axis moves with all of it; where the spectrum is zero a loose one is anything (the
null vectors of a reduced SVD are not unique up to a rotation), a core is zero."""


@dataclass(frozen=True)
class Variable:
    """A group element: its class, on how many axes it acts at once, and the variable whose index it depends on."""

    kind: str
    axes: int = 1
    fibre: str | None = None


@dataclass(frozen=True)
class Law:
    """Labels of the axes, characters ``(k, e)`` of variables that act on whole tensors, and facts."""

    axes: tuple[Label, ...]
    scalars: tuple[tuple[str, int, Fraction], ...] = ()
    sym: bool = False
    nonneg: bool = False
    zero: bool = False


def zero(rank: int) -> Law:
    """The law of the value 0, which obeys every law."""
    return Law((FREE,) * rank, sym=True, nonneg=True, zero=True)


class Context:
    """The variables of a claim and the gauges in scope; knows which labels make sense."""

    def __init__(self, variables: Mapping[str, Variable]) -> None:
        self.variables = dict(variables)

    def of(self, label: Label) -> Variable:
        """The variable of a ``vec`` or ``eig`` label."""
        if label[1] not in self.variables:
            raise Reject(f"unknown variable {label[1]}")
        return self.variables[label[1]]

    def flags(self, label: Label) -> tuple[int, int, int]:
        """Whether the variable of a ``vec`` permutes, reflects, scales; (0, 0, 0) for a linear class."""
        return MONOMIAL.get(self.of(label).kind, (0, 0, 0)) if label[0] == "vec" else (0, 0, 0)

    def linear(self, label: Label) -> bool:
        """Whether the label belongs to a variable that mixes entries."""
        return label[0] == "vec" and self.of(label).kind in LINEAR

    def vec(self, variable: str, sub: int, k: int, e: Fraction = Fraction(0)) -> Label:
        """The ``vec`` label in normal form; Reject if the class has none like it."""
        label = ("vec", variable, sub, k, e)
        kind, (permutes, reflects, scales) = self.of(label).kind, self.flags(label)
        if kind in LINEAR:
            if k not in (1, 2) or e:
                raise Reject(f"{variable}: a product of {k} vectors of class {kind} has no law")
            return label
        k = k % 2 if reflects else 0
        if e and not scales:
            raise Reject(f"{variable}: class {kind} has no scale")
        return ("vec", variable, sub, k, e) if permutes or k or e else INV

    def check(self, law: Law) -> Law:
        """The law, if it is well formed: whole blocks of sub-axes, one base for every fibre, one delta."""
        vecs = [label for label in law.axes if label[0] == "vec"]
        for label in vecs:
            variable = self.of(label)
            if variable.axes > 1 and sorted(v[2:] for v in vecs if v[1] == label[1]) != [
                (sub, *label[3:]) for sub in range(variable.axes)
            ]:
                raise Reject(f"{label[1]} acts on {variable.axes} axes at once")
        for label in law.axes:
            fibre = self.of(label).fibre if label[0] in ("vec", *EIGEN) else None
            if fibre is not None and sum(v[1] == fibre for v in vecs) != 1:
                raise Reject(f"{label[1]} needs one axis of {fibre}")
        if law.axes.count(ISO) not in (0, 2):
            raise Reject("delta has two axes")
        return law

    def read(self, data: Any, path: str) -> Law | None:
        """A law from JSON."""
        if data is None:
            return None
        if type(data) is dict and "zero" in data:
            return zero(integer(fields(data, {"zero"}, at=path)["zero"], 0, 64, at=path))
        fields(data, {"axes"}, {"scalars", "sym", "nonneg"}, at=path)
        axes = tuple(self._label(item, path) for item in items(data["axes"], at=path))
        rows = [items(row, 3, at=path) for row in items(data.get("scalars", []), at=path)]
        scalars = tuple((text(v, at=path), integer(k, 0, 1, at=path), fraction(e, at=path)) for v, k, e in rows)
        names = [name for name, _, _ in scalars]
        if any(self.of(("vec", n)).axes or not (k or e) for n, k, e in scalars) or sorted(set(names)) != names:
            raise Reject(f"{path}: characters {rows} are not those of scalar variables in normal form")
        facts = [flag(data.get(fact, False), at=path) for fact in ("sym", "nonneg")]
        return self.check(Law(axes, scalars, *facts))

    def _label(self, data: Any, path: str) -> Label:
        head = items(data, at=path)
        if head == ["inv"] or head == ["free"] or head == ["iso"]:
            return (head[0],)
        if len(head) == 2 and head[0] in EIGEN and self.of(("eig", head[1])).kind == "block":
            return (head[0], head[1])
        if len(head) != 5 or head[0] != "vec":
            raise Reject(f"{path}: unknown label {head}")
        name, sub, k = text(head[1], at=path), integer(head[2], 0, 8, at=path), integer(head[3], 0, 2, at=path)
        variable = self.of(("vec", name))
        if sub >= (3 if variable.kind == "block" else variable.axes):
            raise Reject(f"{path}: {name} has no sub-axis {sub}")
        label = self.vec(name, sub, k, fraction(head[4], at=path))
        if label != (*head[:4], fraction(head[4], at=path)):
            raise Reject(f"{path}: label {head} is not in normal form")
        return label

    def product(self, labels: Sequence[Label]) -> Label:
        """The label of an index that runs through several factors; absent factors are not listed."""
        labels = [label for label in labels if label != FREE]
        vecs = [label for label in labels if label[0] == "vec"]
        rest = [label for label in labels if label[0] != "vec"]
        if not labels or labels == [ISO]:
            return labels[0] if labels else FREE
        if ISO in labels:
            raise Reject("delta shares an index")
        if not vecs:
            if INV in rest or len({label[1] for label in rest}) > 1:
                return INV
            kinds = {label[0] for label in rest}
            return ("eig0" if "eig0" in kinds else "eig", rest[0][1])  # c times what is one is not one
        name, kind = vecs[0][1], self.of(vecs[0]).kind
        if any(label[1] != name for label in vecs) or (kind != "block" and len({label[2] for label in vecs}) > 1):
            raise Reject(f"an index is moved by {name} and by another")
        sub = vecs[0][2]
        if kind == "block":
            if any(label[1:] != (name,) for label in rest):
                raise Reject(f"an index of the eigenspaces of {name} is scaled by something else")
            faces = {label[2] for label in vecs} | {CORE for label in rest if label[0] == "eig0"}
            sub = max(faces)  # zero times anything is zero, and anything else times anything is anything
        elif rest and (kind in LINEAR or self.flags(vecs[0])[0]):
            raise Reject(f"an index moved by {name} meets one that does not move")
        return self.vec(name, sub, sum(v[3] for v in vecs), sum((v[4] for v in vecs), Fraction(0)))

    def summable(self, label: Label) -> bool:
        """Whether the sum over an index with this label is invariant."""
        if label[0] != "vec":
            return label != ISO
        kind, sub, k, e = self.of(label).kind, *label[2:]
        if kind in LINEAR:
            return kind == "stab1" or (k == 2 and not (kind == "block" and sub == LOOSE))
        return not k and not e

    def through(self, law: Law, parity: str, degree: Fraction | None, only: Iterable[int] | None = None) -> Law:
        """The law after an elementwise function of this parity and degree (on the axes ``only``)."""
        axes = list(law.axes)
        for axis in range(len(axes)) if only is None else only:
            label = axes[axis]
            if label == ISO or self.linear(label):
                raise Reject("an elementwise function of an axis that is rotated")
            if label[0] == "vec":
                axes[axis] = self.vec(label[1], label[2], *_character(label[3], label[4], parity, degree))
        scalars = [(name, *_character(k, e, parity, degree)) for name, k, e in law.scalars]
        return Law(tuple(axes), tuple(s for s in scalars if s[1] or s[2]))

    def scalars(self, laws: Sequence[Law]) -> tuple[tuple[str, int, Fraction], ...]:
        """The characters of a product."""
        names = sorted({s[0] for law in laws for s in law.scalars})
        total = [
            (n, sum(s[1] for law in laws for s in law.scalars if s[0] == n) % 2,
             sum((s[2] for law in laws for s in law.scalars if s[0] == n), Fraction(0)))
            for n in names
        ]  # fmt: skip
        return tuple(s for s in total if s[1] or s[2])


def _character(k: int, e: Fraction, parity: str, degree: Fraction | None) -> tuple[int, Fraction]:
    if (k and parity == "none") or (e and degree is None):
        raise Reject("a function that is neither odd nor even of a sign, or not homogeneous of a scale")
    return (0 if parity == "even" else k), (e * degree if degree is not None else e)


def merge_eigen(one: Label, two: Label) -> Label:
    """The weaker of two labels that differ at most in what is known on the null space."""
    if one == two:
        return one
    if one[0] in EIGEN and two[0] in EIGEN and one[1] == two[1]:
        return ("eig", one[1])
    raise Reject(f"labels {one} and {two} differ: coerce one of them")


def merge(laws: Sequence[Law]) -> Law:
    """The common law of the operands of an elementwise operation; Reject unless they agree."""
    if any(len(law.axes) != len(laws[0].axes) or law.scalars != laws[0].scalars for law in laws):
        raise Reject("operands of different rank or character")
    axes = laws[0].axes
    for law in laws[1:]:
        axes = tuple(map(merge_eigen, axes, law.axes))
    return Law(axes, laws[0].scalars)


def common_zero(laws: Sequence[Law]) -> Law:
    """The law of what is zero if all these values are."""
    merge(laws)
    return zero(len(laws[0].axes))


def weaker(context: Context, law: Law, to: Law) -> bool:
    """Whether ``law`` implies ``to``."""
    if len(law.axes) != len(to.axes):
        return False
    if law.zero:
        return all(label[0] != "eig1" for label in to.axes)
    if law.scalars != to.scalars or to.zero or (to.sym and not law.sym) or (to.nonneg and not law.nonneg):
        return False
    iso = [axis for axis, label in enumerate(law.axes) if label == ISO]
    if iso and to.axes[iso[0]] != ISO and not _delta(context, to.axes[iso[0]], to.axes[iso[1]]):
        return False
    return all(
        label == goal or axis in iso or _implies(context, label, goal)
        for axis, (label, goal) in enumerate(zip(law.axes, to.axes, strict=True))
    )


def _implies(context: Context, label: Label, goal: Label) -> bool:
    if label == FREE:
        if goal[0] != "vec":
            return goal == INV or goal[0] == "eig"
        return goal[3:] == ((1, 0) if context.of(goal).kind == "stab1" else (0, 0))
    if label[0] in EIGEN:
        return goal == INV or goal == ("eig", label[1])
    return (
        label[0] == goal[0] == "vec"
        and (label[1], label[3:]) == (goal[1], goal[3:])
        and context.of(label).kind == "block"
        and (label[2] == CORE or goal[2] == LOOSE)
    )


def _delta(context: Context, one: Label, two: Label) -> bool:
    if one == two == INV:
        return True
    if one[0] != "vec" or two[0] != "vec" or one[1:4] != two[1:4] or one[4] != -two[4]:
        return False
    return context.of(one).axes == 1 and one[3] < 2 and (context.of(one).kind != "block" or one[2] != CORE)
