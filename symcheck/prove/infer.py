"""Finding laws: one pass over the lines of a step, weakening operands where an axiom needs it.

Nothing here is believed. Every law comes from the kernel's own rules, and the kernel checks the result again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from symcheck.kernel.document import Reject
from symcheck.kernel.laws import CORE, EIGEN, FREE, INV, ISO, SPECTRAL, Context, Label, Law
from symcheck.kernel.rules import Line as KernelLine
from symcheck.kernel.rules import infer
from symcheck.trace.program import Line, Program

FACTORISATIONS = ("eigh", "svd", "qr", "cholesky")
GAUGES: Mapping[str, Mapping[str, str]] = {
    "block": {"eigh": "block", "svd": "partial"},
    "core": {"eigh": "block", "svd": "block"},
    "simple": {"eigh": "sign", "svd": "sign"},
}
"""What is assumed of eigenvectors: nothing, no null space, or a simple spectrum."""


@dataclass
class Emitted:
    """The lines of a certificate's edge: those of the program, and the coercions between them."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    laws: list[Any] = field(default_factory=list)
    place: dict[int, int] = field(default_factory=dict)
    """Where each line of the program went."""
    reasons: dict[int, str] = field(default_factory=dict)
    """Why a line of the program has no law."""


class Inference:
    """Laws of all lines of one program, from the laws of its inputs."""

    def __init__(
        self,
        program: Program,
        context: Context,
        inputs: Mapping[str, Law | None],
        *,
        gauges: str,
        prefix: str,
        shapes: Sequence[tuple[int, ...]],
    ) -> None:
        self.program = program
        self.context = context
        self.inputs = inputs
        self.gauges = GAUGES[gauges]
        self.prefix = prefix
        self.shapes = shapes
        self.out = Emitted()
        self.coerced: dict[tuple[int, Law], int] = {}
        self.weights = [
            (shapes[number], law)
            for name, number in program.inputs.items()
            if name.startswith("weight:") and isinstance(law := inputs.get(name), Law)
        ]
        for number, line in enumerate(program.lines):
            self._line(number, line)

    # -- results -------------------------------------------------------------------------------------------------

    def law(self, number: int) -> Any:
        """The law of a line of the program."""
        return self.out.laws[self.out.place[number]]

    def blame(self, number: int) -> str:
        """Why a line has no law: the first ancestor that has none although its operands do."""
        while number not in self.out.reasons:
            line = self.program.lines[number]
            missing = [operand for operand in line.operands if self.law(operand) is None]
            if not missing:
                return f"{line.op} has no law"
            number = missing[0]
        return self.out.reasons[number]

    def coerce(self, place: int, goal: Law) -> int:
        """The emitted line ``place`` under a weaker law. Raises Reject if it does not follow."""
        law = self.out.laws[place]
        if law == goal:
            return place
        if (place, goal) not in self.coerced:
            if not isinstance(law, Law) or not self.context.implies(law, self.context.check(goal)):
                raise Reject(f"{describe(law)} does not become {describe(goal)}")
            self.coerced[place, goal] = self._emit(KernelLine("coerce", (place,)), goal)
        return self.coerced[place, goal]

    # -- one line ------------------------------------------------------------------------------------------------

    def _emit(self, line: KernelLine, law: Any) -> int:
        row: dict[str, Any] = {"op": line.op, "in": list(line.ins), "law": law_json(law)}
        if line.at:
            row["at"] = dict(line.at)
        if line.gauge and law is not None:
            row["gauge"] = {"name": line.gauge[0], "class": line.gauge[1]}
        self.out.lines.append(row)
        self.out.laws.append(law)
        return len(self.out.laws) - 1

    def _line(self, number: int, line: Line) -> None:
        ins = tuple(self.out.place[operand] for operand in line.operands)
        at = certificate_attributes(line)
        law: Any = None
        kernel = KernelLine(line.op, ins, at)
        try:
            if line.op == "input":
                law = self.inputs.get(at["name"])
                if law is None:
                    self.out.reasons[number] = f"the state {at['name'].removeprefix('state:')} has no law"
            elif line.op == "random":
                law = self._random(number, at)
            elif any(self.out.laws[i] is None for i in ins):
                pass
            elif line.op == "part":
                law = self.out.laws[ins[0]][at["part"]]
            else:
                kernel, law = self._apply(kernel)
        except Reject as reason:
            where = f" ({line.where})" if line.where else ""
            self.out.reasons[number] = f"{_short(reason)}{where}"
        self.out.place[number] = self._emit(kernel, law)

    def _apply(self, line: KernelLine) -> tuple[KernelLine, Any]:
        laws = [self.out.laws[i] for i in line.ins]
        if any(not isinstance(law, Law) for law in laws):
            raise Reject("a bundle is no value")
        if line.op in ("add", "map", "along"):
            line = self._together(line, laws)
        elif line.op == "select":
            line = self._chosen(line, laws)
        elif line.op in ("inverse", "expm", *FACTORISATIONS):
            line = self._matrix(line, laws[0])
        laws = [self.out.laws[i] for i in line.ins]
        try:
            return line, infer(self.context, line, laws)
        except Reject:
            if line.op != "contract" or not any(ISO in law.axes for law in laws):
                raise
        line = self._deltas(line, laws)
        return line, infer(self.context, line, [self.out.laws[i] for i in line.ins])

    def _together(self, line: KernelLine, laws: list[Law]) -> KernelLine:
        """Operands of an elementwise operation under their common law."""
        if line.op == "along":
            return self._strung(line, laws)
        vanishing = all(law.zero for law in laws)
        if vanishing and (line.op == "add" or len(laws) == 1):
            if line.op == "add":
                return line
            try:
                infer(self.context, line, laws)
                return line
            except Reject:
                pass
        if len(laws) == 1 and not vanishing:
            return line
        goal = join(self.context, [law for law in laws if not law.zero] or [constant(len(laws[0].axes))])
        ins = tuple(self._under(place, law, goal) for place, law in zip(line.ins, laws, strict=True))
        return replace(line, ins=ins)

    def _under(self, place: int, law: Law, goal: Law) -> int:
        """The operand with the goal's axes, keeping facts and what it knows beyond about null spaces."""
        if law.zero:
            return self.coerce(place, replace(goal, sym=True, nonneg=True))
        axes = tuple(
            a if a[0] in EIGEN and g[0] == "eig" and a[1] == g[1] else g
            for a, g in zip(law.axes, goal.axes, strict=True)
        )
        return self.coerce(place, replace(law, axes=axes))

    def _strung(self, line: KernelLine, laws: list[Law]) -> KernelLine:
        """Operands of ``along``: their batch axes under a common law."""
        batches = []
        for law, listed in zip(laws, line.at["axes"], strict=True):
            batches.append(Law(tuple(x for a, x in enumerate(law.axes) if a not in listed), law.scalars))
        known = [batch for batch, law in zip(batches, laws, strict=True) if not law.zero]
        if not known:
            return line
        goal = join(self.context, known)
        ins = []
        for place, law, listed in zip(line.ins, laws, line.at["axes"], strict=True):
            rest = iter(goal.axes)
            axes = tuple(law.axes[a] if a in listed else next(rest) for a in range(len(law.axes)))
            ins.append(self._under(place, law, replace(law, axes=axes, scalars=goal.scalars, zero=False)))
        return replace(line, ins=tuple(ins))

    def _chosen(self, line: KernelLine, laws: list[Law]) -> KernelLine:
        mask, *others = laws
        goal = join(self.context, [law for law in others if not law.zero] or [constant(len(mask.axes))])
        lifted = []
        for m, g in zip(mask.axes, goal.axes, strict=True):
            plain = ("eig", m[1]) if m[0] in EIGEN else m
            lifted.append(plain if g == FREE and m not in (FREE, ISO) else g)
        if mask.zero:
            line = replace(line, ins=(self.coerce(line.ins[0], constant(len(mask.axes))), *line.ins[1:]))
        goal = replace(goal, axes=tuple(lifted))
        chosen = []
        for place, law in zip(line.ins[1:], others, strict=True):
            if law.zero:  # zero vanishes on null spaces too
                axes = tuple(("eig0", x[1]) if x[0] in EIGEN else x for x in goal.axes)
                free = self.coerce(place, replace(goal, axes=axes, sym=True, nonneg=True))
                chosen.append(free)
            else:
                chosen.append(self._under(place, law, goal))
        return replace(line, ins=(line.ins[0], *chosen))

    def _matrix(self, line: KernelLine, law: Law) -> KernelLine:
        if line.op != "inverse" and ISO in law.axes:
            axes = tuple(INV if label == ISO else label for label in law.axes)
            line = replace(line, ins=(self.coerce(line.ins[0], replace(law, axes=axes)),))
        elif law.zero or FREE in law.axes[-2:]:
            axes = (*law.axes[:-2], *(INV if label == FREE else label for label in law.axes[-2:]))
            line = replace(line, ins=(self.coerce(line.ins[0], replace(law, axes=axes, zero=False)),))
        if line.op not in FACTORISATIONS:
            return line
        law = self.out.laws[line.ins[0]]
        left, right = law.axes[-2:]
        if left[0] != "vec" and right[0] != "vec" and line.op not in ("eigh", "svd"):
            return line
        if line.op == "qr":
            signs = right == INV or (right[0] == "vec" and self.context.of(right).kind == "sign")
            kind = "sign" if signs else "orth"
        else:
            kind = "orth" if line.op == "cholesky" else self.gauges[line.op]
        return replace(line, gauge=(f"{self.prefix}{len(self.out.laws)}", kind))

    def _deltas(self, line: KernelLine, laws: list[Law]) -> KernelLine:
        """A delta that shares an index takes the law of what it meets."""
        rows, ins = line.at["indices"], list(line.ins)
        for number, law in enumerate(laws):
            if ISO not in law.axes:
                continue
            axes = list(law.axes)
            for axis, label in enumerate(law.axes):
                if label == ISO:
                    axes[axis] = self._meets(rows[number][axis], number, rows, laws)
            pair = [label for label, old in zip(axes, law.axes, strict=True) if old == ISO]
            one = next((label for label in pair if label != INV), INV)
            two = one if one[0] != "vec" else (*one[:4], -one[4])
            replaced = iter((one, two))
            axes = [next(replaced) if old == ISO else old for old in law.axes]
            ins[number] = self.coerce(line.ins[number], replace(law, axes=tuple(axes)))
        return replace(line, ins=tuple(ins))

    @staticmethod
    def _meets(letter: int, number: int, rows: list[list[int]], laws: list[Law]) -> Label:
        for other, row in enumerate(rows):
            for axis, letter_ in enumerate(row):
                if other != number and letter_ == letter and laws[other].axes[axis] not in (FREE, ISO):
                    return laws[other].axes[axis]
        return INV

    def _random(self, number: int, at: Mapping[str, Any]) -> Law:
        """The law of noise, guessed from sizes: whatever moves an axis of that size of a weight."""
        size, kind = self.shapes[number], at["distribution"]
        for shape, law in self.weights:
            if shape == size:
                return self._noise(law.axes, kind)
        labels: list[Label] = []
        for extent in size:
            found = [
                label for shape, law in self.weights for n, label in zip(shape, law.axes, strict=True) if n == extent
            ]
            labels.append(found[0] if found else INV)
        return self._noise(tuple(labels), kind)

    def _noise(self, axes: tuple[Label, ...], kind: str) -> Law:
        allowed = tuple(
            label
            if label[0] == "vec"
            and not label[4]
            and (not self.context.linear(label) or kind == "normal")
            and (kind != "iid" or not label[3])
            else INV
            for label in axes
        )
        try:
            return self.context.check(Law(allowed))
        except Reject:
            return Law((INV,) * len(axes))


def constant(rank: int) -> Law:
    """The law of an array that is one number everywhere."""
    return Law((FREE,) * rank)


def join(context: Context, laws: Sequence[Law]) -> Law:
    """The strongest law that all of them imply, as far as it is found. Raises Reject."""
    if not laws:
        raise Reject("nothing to join")
    best = laws[0]
    for law in laws[1:]:
        if len(law.axes) != len(best.axes) or law.scalars != best.scalars:
            raise Reject(f"{describe(best)} meets {describe(law)}")
        best = Law(tuple(_join(context, a, b) for a, b in zip(best.axes, law.axes, strict=True)), best.scalars)
        iso = best.axes.count(ISO)
        if iso == 1:
            raise Reject("delta meets what is not square")
    return context.check(best)


def _join(context: Context, one: Label, two: Label) -> Label:
    if one == two:
        return one
    for a, b in ((one, two), (two, one)):
        if a == ISO:
            return b
        if a == FREE:
            return ("eig", b[1]) if b[0] in EIGEN else b
        if a[0] in EIGEN:
            if b[0] in EIGEN and b[1] == a[1]:
                return ("eig", a[1])
            if b == INV or b[0] in EIGEN:
                return INV
        if a[0] == b[0] == "vec" and (a[1], CORE, a[3:]) == (b[1], a[2], b[3:]) and context.of(a).kind in SPECTRAL:
            return b
    raise Reject(f"an axis that is {describe_label(one)} meets one that is {describe_label(two)}")


def widen(context: Context, old: Law | None, new: Law | None) -> Law | None:
    """The law of a state tensor that has been seen under two laws; None if they have nothing in common."""
    if old is None or new is None:
        return None
    if old.zero or new.zero:
        return new if old.zero else old
    try:
        law = join(context, [old, new])
    except Reject:
        return None
    return replace(law, sym=old.sym and new.sym, nonneg=old.nonneg and new.nonneg)


def certificate_attributes(line: Line) -> dict[str, Any]:
    """The attributes of a line as certificates have them: without sizes."""
    at = dict(line.attributes)
    if line.op == "along":
        arguments = at.pop("args", {})
        if "take" in arguments:
            at["fn"] = "take"
    if line.op == "map":
        at.setdefault("args", [])
    return at


def law_json(law: Any) -> Any:
    """A law as the JSON of certificates."""
    if isinstance(law, dict):
        return [law_json(part) for part in law.values()]
    if isinstance(law, tuple):
        return [str(item) if isinstance(item, Fraction) else item for item in law]
    if not isinstance(law, Law):
        return None
    if law.zero:
        return {"zero": len(law.axes)}
    data: dict[str, Any] = {"axes": [[str(x) if isinstance(x, Fraction) else x for x in label] for label in law.axes]}
    if law.scalars:
        data["scalars"] = [[name, k, str(e)] for name, k, e in law.scalars]
    for fact in ("sym", "nonneg"):
        if getattr(law, fact):
            data[fact] = True
    return data


def describe_label(label: Label) -> str:
    """A label in words."""
    if label[0] != "vec":
        return {"inv": "invariant", "free": "constant", "iso": "a delta"}.get(label[0], f"a spectrum of {label[-1]}")
    name, k, e = label[1], label[3], label[4]
    return f"moved by {name}" + (f" (power {k})" if k > 1 else "") + (f" (scaled by power {e})" if e else "")


def describe(law: Any) -> str:
    """A law in words."""
    if not isinstance(law, Law):
        return "a value without a law"
    if law.zero:
        return "zero"
    return "a value with axes " + (", ".join(map(describe_label, law.axes)) or "none")


def _short(reason: Exception) -> str:
    return " ".join(str(reason).split())[:200]
