"""Checking a certificate: every line against its axiom, every step against the invariant of the state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from symcheck.kernel.axioms import HASH
from symcheck.kernel.document import Decline, Reject, fields, integer, items, text
from symcheck.kernel.laws import EIGEN, FREE, INV, ISO, MONOMIAL, Context, Label, Law, Variable, weaker
from symcheck.kernel.linear import FIXED, FREE_OF, INFERENCE, implies, inputs, outputs, read_simple
from symcheck.kernel.rules import CONDITIONS, Line, infer

SCHEMA = "symcheck.certificate/1"


@dataclass(frozen=True)
class Accepted:
    """What an accepted document proves, in words, and the conditions under which."""

    statement: str
    conditions: tuple[str, ...]


def check(document: Any) -> Accepted:
    """Accept a certificate, or raise Reject or Decline with the reason."""
    data = fields(document, {"schema", "axioms", "claim", "conditions", "nodes", "edges", "bridge"})
    text(data["schema"], {SCHEMA}, at="schema")
    if text(data["axioms"], at="axioms") != HASH:
        raise Decline("axioms: the certificate was written for another table of axioms")
    fields(data["bridge"], {"steps", "worst"}, at="bridge")
    claim = Claim(data["claim"])
    nodes = {}
    for item in items(data["nodes"], at="nodes"):
        node = fields(item, {"name", "gauges", "laws"}, at="nodes")
        nodes[text(node["name"], at="nodes")] = _Node(claim, node)
    if len(nodes) != len(data["nodes"]) or "start" not in nodes or nodes["start"].laws:
        raise Reject("nodes: names must differ, and 'start' has no state")
    conditions: set[str] = set()
    moved, reached = False, {"start"}
    for number, item in enumerate(items(data["edges"], at="edges")):
        edge = _Edge(claim, nodes, item, f"edge {number}")
        if edge.source.name not in reached:
            raise Reject(f"edge {number}: no edge before it leads to {edge.source.name!r}")
        reached.add(edge.target.name)
        conditions |= edge.conditions
        moved |= any(line.op == "input" and line.at["name"].startswith("grad:") for line in edge.lines)
    if not moved or reached != set(nodes):
        raise Reject("edges: no step that sees a gradient, or a node that is never reached")
    if items(data["conditions"], at="conditions") != sorted(conditions):
        raise Reject(f"conditions: must be {sorted(conditions)}")
    return Accepted(claim.statement, tuple(sorted(conditions)))


class Claim:
    """What is claimed: a property, the variables that act, and how they act on weights and gradients."""

    def __init__(self, data: Any) -> None:
        self.property = text(data.get("property") if type(data) is dict else None, at="claim")
        self.variables: dict[str, Variable] = {}
        self.laws: dict[str, Any] = {}
        if self.property in INFERENCE:
            self._simple(data)
        elif self.property == "equivariance":
            self._equivariance(fields(data, {"property", "variables", "tensors"}, {"characters"}, at="claim"))
        else:
            raise Decline(f"claim: unknown property {self.property!r}")
        self.weights = [name for name in self.laws if name.startswith("weight:")]

    def _simple(self, data: Any) -> None:
        free = self.property == "independence"
        fields(data, {"property", "tensors"} | ({"of"} if free else set()), at="claim")
        count = integer(data["tensors"], 1, 64 if free else 1, at="claim")
        for kind in ("weight", "grad"):
            for number in range(count):
                name = f"{kind}:{number}"
                self.laws[name] = FREE_OF if free else inputs(self.property, name)
        self.of = text(data["of"], set(self.laws), at="claim") if free else ""
        if free:
            # The other gradient may be anything, and its own weight with it.
            number = self.of.partition(":")[2]
            self.laws[f"weight:{number}"] = self.laws[f"grad:{number}"] = None
        what = {"independence": f"the other weights do not depend on {self.of}"}
        self.statement = what.get(self.property, f"{self.property} of the weights, rows being their first axis")

    def _equivariance(self, data: Mapping[str, Any]) -> None:
        for item in items(data["variables"], at="variables"):
            row = fields(item, {"name", "class", "axes", "fibre"}, at="variables")
            name, kind = (
                text(row["name"], at="variables"),
                text(row["class"], {*MONOMIAL, "orth", "stab1"}, at="variables"),
            )
            fibre = row["fibre"]
            if name in self.variables or (fibre is not None and self.variables.get(fibre) != Variable("perm")):
                raise Reject(f"variables: {name} is named twice, or its fibre is no permutation of its own")
            self.variables[name] = Variable(kind, integer(row["axes"], 0, 8, at="variables"), fibre)
        context, words = Context(self.variables), []
        for number, item in enumerate(items(data["tensors"], at="tensors")):
            axes = [None if a is None else items(a, 3, at="tensors") for a in items(item, at="tensors")]
            for kind, side in (("weight", 1), ("grad", -1)):
                law = context.check(Law(tuple(INV if a is None else self._label(context, a, side) for a in axes)))
                self.laws[f"{kind}:{number}"] = law
            words.append(" x ".join("1" if a is None else f"{a[0]}{'*' * (a[2] < 0)}" for a in axes))
        for kind, rows in fields(data.get("characters", {}), set(), {"weight", "grad"}, at="characters").items():
            law = context.read({"axes": [], "scalars": rows}, "characters")
            for name in [n for n in self.laws if law is not None and n.startswith(kind)]:
                self.laws[name] = replace(self.laws[name], scalars=law.scalars if law else ())
        kinds = ", ".join(
            f"{name} in {v.kind}{f' for each {v.fibre}' if v.fibre else ''}" for name, v in self.variables.items()
        )
        self.statement = f"equivariance under {'; '.join(words)} for {kinds or 'nothing'}"

    @staticmethod
    def _label(context: Context, axis: list[Any], side: int) -> Label:
        name, sub, power = (
            text(axis[0], at="tensors"),
            integer(axis[1], 0, 7, at="tensors"),
            integer(axis[2], -1, 1, at="tensors"),
        )
        variable = context.of(("vec", name))
        if power == 0 or sub >= variable.axes:
            raise Reject(f"tensors: {axis}")
        scales = MONOMIAL.get(variable.kind, (0, 0, 0))[2]
        return context.vec(name, sub, 1, Fraction(side * power * scales))

    def read(self, context: Context, data: Any, path: str) -> Any:
        """A law of this property from JSON."""
        return read_simple(data, path) if self.property in INFERENCE else context.read(data, path)


class _Node:
    """The state tensors present at some time, their laws, and the gauges that these mention."""

    def __init__(self, claim: Claim, data: Mapping[str, Any]) -> None:
        self.name = text(data["name"], at="nodes")
        self.gauges: dict[str, Variable] = {}
        for item in items(data["gauges"], at="gauges"):
            row = fields(item, {"name", "class", "fibre"}, at="gauges")
            name = text(row["name"], at="gauges")
            kind = text(row["class"], {"sign", "orth", "block"}, at="gauges")
            if name in claim.variables or name in self.gauges or row["fibre"] not in (None, *claim.variables):
                raise Reject(f"gauges: {name}")
            self.gauges[name] = Variable(kind, 1, row["fibre"])
        context = Context({**claim.variables, **self.gauges})
        laws = fields(data["laws"], set(), {k for k in data["laws"] if k.startswith("state:")}, at="laws")
        self.laws = {name: claim.read(context, law, name) for name, law in laws.items()}
        if claim.property == "shift_quotient" and any(law and law[0] == "base" for law in self.laws.values()):
            raise Reject("laws: in a quotient every step has a shift of its own")


class _Edge:
    """One step: its lines are checked on construction."""

    def __init__(self, claim: Claim, nodes: Mapping[str, _Node], item: Any, path: str) -> None:
        data = fields(item, {"source", "target", "lines", "outputs", "leaks", "rename"}, at=path)
        self.source, self.target = (nodes[text(data[k], set(nodes), at=path)] for k in ("source", "target"))
        self.claim, self.path = claim, path
        self.context = Context({**claim.variables, **self.source.gauges})
        self.lines: list[Line] = []
        self.laws: list[Any] = []
        self.conditions: set[str] = set()
        for number, row in enumerate(items(data["lines"], at=path)):
            try:
                self._line(number, row)
            except Reject as reason:
                raise Reject(f"{path}, line {number}: {reason}") from None
        for leak in items(data["leaks"], at=path):
            if not self._invariant(self.laws[integer(leak, 0, len(self.laws) - 1, at=path)]):
                raise Reject(f"{path}: line {leak} leaves the program and is not invariant")
        self._outputs(data)

    def _line(self, number: int, row: Any) -> None:
        data = fields(row, {"op", "in", "law"}, {"at", "gauge"}, at="line")
        ins = tuple(integer(i, 0, number - 1, at="in") for i in items(data["in"], at="in"))
        at = data.get("at", {})
        fields(at, set(), set(at), at="at")
        gauge = None
        if "gauge" in data:
            named = fields(data["gauge"], {"name", "class"}, at="gauge")
            gauge = (
                text(named["name"], at="gauge"),
                text(named["class"], {"sign", "orth", "block", "core"}, at="gauge"),
            )
        line = Line(text(data["op"], at="op"), ins, at, gauge)
        self.lines.append(line)
        operands = [self.laws[i] for i in ins]
        bundle = (
            type(data["law"]) is list and line.op in ("eigh", "svd", "qr") and self.claim.property == "equivariance"
        )
        law = self._infer(line, operands, data["law"])
        if law is None and data["law"] is not None:
            raise Reject("a law from nothing")
        if bundle and isinstance(law, dict):
            declared = [self.claim.read(self.context, part, "law") for part in data["law"]]
            same = declared == list(law.values())
        else:
            same = data["law"] is None or self.claim.read(self.context, data["law"], "law") == law
        if not same:
            raise Reject(f"{line.op} does not have the law {data['law']}")
        self.laws.append(None if data["law"] is None else law)

    def _infer(self, line: Line, operands: Sequence[Any], declared: Any) -> Any:
        if line.op == "input":
            name = text(fields(dict(line.at), {"name"}, at="input")["name"], at="input")
            known = {**self.claim.laws, **self.source.laws}
            if line.ins or name not in known:
                raise Reject(f"input {name!r} does not exist here")
            return known[name]
        if declared is None:
            return None
        if line.op == "coerce":
            goal = self.claim.read(self.context, declared, "law")
            fields(dict(line.at), set(), at="coerce")
            simple = self.claim.property in INFERENCE
            if len(operands) != 1 or operands[0] is None:
                raise Reject("coerce: nothing is known")
            if not (implies(operands[0], goal) if simple else weaker(self.context, operands[0], goal)):
                raise Reject(f"coerce: {operands[0]} does not imply {declared}")
            return goal
        if self.claim.property in INFERENCE:
            return INFERENCE[self.claim.property](self.lines, line, operands)
        if None in operands:
            return None
        if line.op == "random":
            return self._random(line, declared)
        if line.op == "part":
            part = text(fields(dict(line.at), {"part"}, at="part")["part"], at="part")
            if len(operands) != 1 or type(operands[0]) is not dict or part not in operands[0]:
                raise Reject(f"part: {part}")
            return operands[0][part]
        if any(type(law) is dict for law in operands):
            raise Reject("a bundle is no value")
        law = infer(self.context, line, operands)
        if line.gauge and (line.op, line.gauge[1]) in CONDITIONS:
            self.conditions.add(CONDITIONS[line.op, line.gauge[1]])
        return law

    def _random(self, line: Line, declared: Any) -> Any:
        data = fields(dict(line.at), {"rank", "distribution"}, at="random")
        kind, law = (
            text(data["distribution"], {"normal", "symmetric", "iid"}, at="random"),
            self.claim.read(self.context, declared, "law"),
        )
        bad = line.ins or law.scalars or law.sym or law.nonneg or law.zero or len(law.axes) != data["rank"]
        for label in law.axes:
            if label[0] == "vec":
                bad |= (
                    label[1] not in self.claim.variables
                    or label[4] != 0
                    or label[3] > (kind != "iid")
                    or (self.context.linear(label) and kind != "normal")
                )
            else:
                bad |= label != INV
        if bad:
            raise Reject(f"random: {kind} numbers do not have this law")
        self.conditions.add("in distribution over its random numbers")
        return law

    def _invariant(self, law: Any) -> bool:
        if self.claim.property == "horizontality":
            return True  # a statement about one run, not about two
        if self.claim.property in INFERENCE:
            return law in (FIXED, FREE_OF)
        return isinstance(law, Law) and (
            law.zero or (not law.scalars and all(x in (INV, FREE, ISO) or x[0] in EIGEN for x in law.axes))
        )

    def _outputs(self, data: Mapping[str, Any]) -> None:
        rename = {
            text(k, at="rename"): text(v, at="rename")
            for k, v in fields(data["rename"], set(self.target.gauges), at="rename").items()
        }
        for old, new in rename.items():
            if self.context.variables.get(new) != self.target.gauges[old] or new in self.claim.variables:
                raise Reject(f"{self.path}: gauge {old} cannot become {new}")
        found = fields(data["outputs"], {*self.claim.weights, *self.target.laws}, at=f"{self.path}, outputs")
        for name, number in found.items():
            law = self.laws[integer(number, 0, len(self.laws) - 1, at=self.path)]
            if name in self.target.laws:
                goal = self.target.laws[name]
                good = goal is None or (
                    implies(law, goal) if type(goal) is tuple else _fits(law, _renamed(goal, rename))
                )
            elif self.claim.property == "independence":
                good = self.claim.laws[name] is None or law == FREE_OF
            elif self.claim.property in INFERENCE:
                good = outputs(self.claim.property, law)
            else:
                good = _fits(law, self.claim.laws[name])
            if not good:
                raise Reject(f"{self.path}: output {name} does not have the law that is claimed")


def _fits(law: Any, goal: Law) -> bool:
    if (
        not isinstance(law, Law)
        or law.zero != goal.zero
        or (goal.sym and not law.sym)
        or (goal.nonneg and not law.nonneg)
    ):
        return False
    return (law.axes, law.scalars) == (goal.axes, goal.scalars)


def _renamed(law: Law, rename: Mapping[str, str]) -> Law:
    axes = tuple((x[0], rename.get(x[1], x[1]), *x[2:]) if len(x) > 1 else x for x in law.axes)
    return replace(law, axes=axes)
