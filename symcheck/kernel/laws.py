"""How a value moves when the inputs are transformed: a law, a label for each of its axes, and how labels combine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from symcheck.kernel.axioms import Behaviour
from symcheck.kernel.document import Reject, anything, conform, flag, natural, rational, text, upto

Label = tuple[Any, ...]
"""``("inv",) ("free",) ("iso",) ("eig" | "eig0" | "eig1", gauge) ("vec", variable, sub, k, e)``"""
INV, FREE, ISO = ("inv",), ("free",), ("iso",)
EIGEN = ("eig", "eig0", "eig1")
MONOMIAL = {"perm": (1, 0, 0), "sign": (0, 1, 0), "sperm": (1, 1, 0), "scale+": (0, 0, 1), "scale": (0, 1, 1)}
"""Whether elements of the class permute, reflect and scale entries."""
SPECTRAL = ("block", "partial")
"""Gauges of repeated eigenvalues: rotations within eigenspaces. Reduced singular vectors are determined up to a
``partial`` one: where the spectrum is zero a matrix of low rank leaves more room than there are vectors."""
LINEAR = ("orth", "stab1", *SPECTRAL)
CORE = 1
"""As ``sub`` of an axis of a spectral gauge: the value vanishes where the spectrum is zero."""
LABELS: Mapping[str, tuple[Any, ...]] = {
    "inv": (), "free": (), "iso": (), **dict.fromkeys(EIGEN, (text,)), "vec": (text, natural, natural, rational),
}  # fmt: skip
LAW = {"axes": [[anything]], "scalars?": [(text, natural, rational)], "sym?": flag, "nonneg?": flag}


@dataclass(frozen=True)
class Variable:
    """A group element: its class, on how many axes it acts at once, and the variable whose index it depends on."""

    kind: str
    axes: int = 1
    fibre: str | None = None


@dataclass(frozen=True)
class Law:
    """Labels of the axes, characters ``(name, k, e)`` of variables that act on whole tensors, and facts."""

    axes: tuple[Label, ...]
    scalars: tuple[tuple[str, int, Fraction], ...] = ()
    sym: bool = False
    nonneg: bool = False
    zero: bool = False

    def renamed(self, names: Mapping[str, str]) -> Law:
        """The same law, whose variables have other names."""
        return replace(self, axes=tuple((x[0], *(names.get(n, n) for n in x[1:2]), *x[2:]) for x in self.axes))


def zero(rank: int) -> Law:
    """The law of the value 0, which obeys every law."""
    return Law((FREE,) * rank, sym=True, nonneg=True, zero=True)


class Context:
    """The variables of a claim and the gauges in scope; knows which labels make sense, and what lines assumed."""

    def __init__(self, variables: Mapping[str, Variable], gauges: Mapping[str, Variable] | None = None) -> None:
        self.claimed = frozenset(variables)
        self.variables = {**variables, **(gauges or {})}
        self.conditions: set[str] = set()

    def of(self, label: Label) -> Variable:
        """The variable of a ``vec`` or ``eig`` label."""
        if label[1] not in self.variables:
            raise Reject(f"unknown variable {label[1]!r}")
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
        if (k not in (1, 2) or e) if kind in LINEAR else (e and not scales):
            raise Reject(f"{variable}: class {kind} does not act by powers {k} and {e}")
        k = k if kind in LINEAR else k % 2 * reflects
        return ("vec", variable, sub, k, e) if permutes or k or e else INV

    # -- laws ------------------------------------------------------------------------------------------------------

    def check(self, law: Law) -> Law:
        """The law, if it is well formed: whole blocks of sub-axes, one base for every fibre, one delta."""
        vecs = [label for label in law.axes if label[0] == "vec"]
        for label in law.axes:
            variable = self.of(label) if len(label) > 1 else Variable("none")
            own = sorted(x[2:] for x in vecs if x[1:2] == label[1:2])
            if variable.axes > 1 and own != [(sub, *label[3:]) for sub in range(variable.axes)]:
                raise Reject(f"{label[1]} acts on {variable.axes} axes at once")
            if variable.fibre is not None and [x[1] for x in vecs].count(variable.fibre) != 1:
                raise Reject(f"{label[1]} needs one axis of {variable.fibre}")
        if law.axes.count(ISO) not in (0, 2):
            raise Reject("delta has two axes")
        return law

    def read(self, data: Any) -> Law | None:
        """A law from JSON; null if nothing is known."""
        if data is None:
            return None
        if type(data) is dict and "zero" in data:
            conform(data, {"zero": upto(64)}, "law")
            return zero(data["zero"])
        conform(data, LAW, "law")
        axes, scalars = tuple(map(self._label, data["axes"])), self.scalars(data.get("scalars", ()))
        return self.check(Law(axes, scalars, data.get("sym", False), data.get("nonneg", False)))

    def scalars(self, rows: Sequence[Any]) -> tuple[tuple[str, int, Fraction], ...]:
        """Characters from JSON."""
        scalars = tuple((name, k, Fraction(e)) for name, k, e in rows)
        good = [
            n for n, k, e in scalars if (k or e) and not self.of(("vec", n)).axes and self.vec(n, 0, k, e)[3:] == (k, e)
        ]
        if good != sorted({name for name, _, _ in scalars}):
            raise Reject(f"characters {rows} are not in normal form")
        return scalars

    def _label(self, data: list[Any]) -> Label:
        head, *rest = data or [None]
        if not text(head) or head not in LABELS:
            raise Reject(f"unknown label {data}")
        conform(rest, LABELS[head], "label")
        if head != "vec":
            if rest and self.of((head, *rest)).kind not in SPECTRAL:
                raise Reject(f"{rest[0]} has no eigenspaces")
            return (head, *rest)
        name, sub, k, e = rest
        variable, label = self.of((head, name)), (head, name, sub, k, Fraction(e))
        if sub > (CORE if variable.kind in SPECTRAL else variable.axes - 1) or self.vec(*label[1:]) != label:
            raise Reject(f"label {data} is not in normal form")
        return label

    # -- products --------------------------------------------------------------------------------------------------

    def product(self, labels: Sequence[Label]) -> Label:
        """The label of an index that runs through several factors. Reject: they do not move it alike."""
        labels = [label for label in labels if label != FREE]
        vecs = [label for label in labels if label[0] == "vec"]
        rest = {label for label in labels if label[0] != "vec"}
        if labels in ([], [ISO]):
            return ISO if labels else FREE
        if ISO in rest:
            raise Reject("delta shares an index")
        if not vecs:
            if INV in rest or len({label[1] for label in rest}) > 1:
                return INV
            kinds = {label[0] for label in rest}
            return ("eig0" if "eig0" in kinds else "eig", labels[0][1])  # c times what is one is not one
        name, kind, sub = vecs[0][1], self.of(vecs[0]).kind, max(label[2] for label in vecs)
        if any(label[1] != name or (label[2] != sub and kind not in SPECTRAL) for label in vecs):
            raise Reject(f"an index is moved by {name} and by another")
        if not all(label[1:] == (name,) or (kind in MONOMIAL and not MONOMIAL[kind][0]) for label in rest):
            raise Reject(f"an index moved by {name} meets one that does not move")
        core = kind in SPECTRAL and ("eig0", name) in rest  # zero times anything is zero
        return self.vec(name, CORE if core else sub, sum(v[3] for v in vecs), sum((v[4] for v in vecs), Fraction(0)))

    def summable(self, label: Label) -> bool:
        """Whether the sum over an index with this label is invariant."""
        if label[0] != "vec":
            return label != ISO
        kind, sub, k, e = self.of(label).kind, *label[2:]
        if kind in LINEAR:
            return kind == "stab1" or (k == 2 and (kind != "partial" or sub == CORE))
        return not k and not e

    def characters(self, laws: Sequence[Law]) -> tuple[tuple[str, int, Fraction], ...]:
        """The characters of a product."""
        found: dict[str, list[Label]] = {}
        for name, k, e in (scalar for law in laws for scalar in law.scalars):
            found.setdefault(name, []).append(("vec", name, 0, k, e))
        labels = [self.product(found[name]) for name in sorted(found)]
        return tuple((label[1], label[3], label[4]) for label in labels if label != INV)

    # -- functions of entries --------------------------------------------------------------------------------------

    def through(self, law: Law, how: Behaviour, only: Iterable[int] | None = None) -> Law:
        """The law after an elementwise function that behaves like this (on the axes ``only``)."""
        axes = list(law.axes)
        for axis in range(len(axes)) if only is None else only:
            label = axes[axis]
            if label == ISO or self.linear(label):
                raise Reject("an elementwise function of an axis that is rotated")
            if label[0] == "vec":
                axes[axis] = self.vec(label[1], label[2], *how.character(*label[3:]))
            elif label[0] in EIGEN:
                axes[axis] = ("eig0" if label[0] == "eig0" and how.vanishes else "eig", label[1])
        scalars = [(name, *how.character(k, e)) for name, k, e in law.scalars]
        return Law(tuple(axes), tuple(s for s in scalars if s[1] or s[2]))

    # -- comparing -------------------------------------------------------------------------------------------------

    def still(self, law: Law | None) -> bool:
        """Whether a value is the same in both runs."""
        return isinstance(law, Law) and not law.scalars and all(label[0] != "vec" for label in law.axes)

    def lasting(self, law: Law | None) -> bool:
        """Whether the law holds after the step too: group elements stay the same."""
        return True

    def implies(self, law: Law | None, goal: Law | None) -> bool:
        """Whether what has one law has the other; null is the law of everything."""
        if goal is None or not isinstance(law, Law) or len(law.axes) != len(goal.axes):
            return goal is None
        if law.zero:
            return all(label[0] != "eig1" for label in goal.axes)
        if law.scalars != goal.scalars or goal.zero or goal.sym > law.sym or goal.nonneg > law.nonneg:
            return False
        iso = [axis for axis, label in enumerate(law.axes) if label == ISO]
        if iso and not self._delta(*(goal.axes[axis] for axis in iso)):
            return False
        return all(
            axis in iso or self._weaker(label, aim)
            for axis, (label, aim) in enumerate(zip(law.axes, goal.axes, strict=True))
        )

    def _weaker(self, label: Label, goal: Label) -> bool:
        if label == goal:
            return True
        if label == FREE and goal[0] == "vec":  # a constant sum is kept by what only permutes, or fixes all-ones
            return goal[3:] == ((1, 0) if self.of(goal).kind == "stab1" else (0, 0))
        if label == FREE or label[0] in EIGEN:
            return goal == INV or goal == ("eig", *label[1:]) or (label == FREE and goal[0] == "eig")
        core = label[0] == "vec" and self.of(label).kind in SPECTRAL and label[2] == CORE
        return core and goal == (*label[:2], 0, *label[3:])

    def _delta(self, one: Label, two: Label) -> bool:
        """Whether ``delta_ij`` has these labels: an element acts on one axis, its inverse transpose on the other."""
        if one == two and one in (INV, ISO):
            return True
        if one[0] != "vec" or two[0] != "vec" or one[1:4] != two[1:4] or one[4] != -two[4]:
            return False
        kind, axes = self.of(one).kind, self.of(one).axes
        return axes == 1 and one[3] < 2 and (kind not in SPECTRAL or one[2] != CORE)


def merge(laws: Sequence[Law]) -> Law:
    """The common law of the operands of an elementwise operation; Reject unless they agree."""
    first = laws[0]
    if any(len(law.axes) != len(first.axes) or law.scalars != first.scalars for law in laws):
        raise Reject("operands of different rank or character")
    axes: list[Label] = []
    for labels in zip(*(law.axes for law in laws), strict=True):
        plain = {("eig", label[1]) if label[0] in EIGEN else label for label in labels}
        if len(plain) > 1:
            raise Reject(f"labels {sorted(map(str, plain))} differ: coerce one of them")
        axes.append(labels[0] if len(set(labels)) == 1 else plain.pop())
    return Law(tuple(axes), first.scalars)
