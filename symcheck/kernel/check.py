"""Checking a certificate: every line against its axiom, every step against the invariant of the state."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from symcheck.kernel.axioms import CONDITIONS, HASH
from symcheck.kernel.document import Decline, Reject, fields, integer, items, text
from symcheck.kernel.laws import EIGEN, FREE, INV, ISO, MONOMIAL, Context, Label, Law, Variable, weaker
from symcheck.kernel.linear import FIXED, FREE_OF, INFERENCE, implies, inputs, outputs, read_simple
from symcheck.kernel.rules import RULES, Line, infer

SCHEMA = "symcheck.certificate/1"
NOISE = "in distribution over its random numbers"
OPERATIONS = {*RULES, "input", "random", "part", "coerce"}


@dataclass(frozen=True)
class Accepted:
    """What an accepted document proves, in words, and the conditions under which."""

    statement: str
    conditions: tuple[str, ...]


def subject(claim: Any, edges: Sequence[Mapping[str, Any]]) -> str:
    """What is proved of what: the hash of a claim and of the programs, without the laws that prove it."""
    programs = [
        [e["source"], e["target"], e["outputs"], e["leaks"], [[x["op"], x["in"], x.get("at")] for x in e["lines"]]]
        for e in edges
    ]
    return hashlib.sha256(json.dumps([claim, programs], sort_keys=True).encode()).hexdigest()


def check(document: Any) -> Accepted:
    """Accept a certificate, or raise Reject or Decline with the reason."""
    keys = {"schema", "axioms", "subject", "claim", "conditions", "nodes", "edges", "bridge"}
    data = fields(document, keys)
    text(data["schema"], {SCHEMA}, at="schema")
    if text(data["axioms"], at="axioms") != HASH:
        raise Decline("axioms: the certificate was written for another table of axioms")
    bridge = fields(data["bridge"], {"steps", "worst"}, at="bridge")
    integer(bridge["steps"], 0, 1 << 53, at="bridge"), text(bridge["worst"], at="bridge")
    claim = Claim(data["claim"])
    nodes: dict[str, _Node] = {}
    for item in items(data["nodes"], at="nodes"):
        node = _Node(claim, fields(item, {"name", "gauges", "laws"}, at="nodes"))
        nodes[node.name] = node
    if len(nodes) != len(data["nodes"]) or "start" not in nodes or nodes["start"].laws:
        raise Reject("nodes: names must differ, and 'start' has no state")
    conditions: set[str] = set()
    reached, gradients = {"start"}, False
    for number, item in enumerate(items(data["edges"], at="edges")):
        edge = _Edge(claim, nodes, item, f"edge {number}")
        if edge.source.name not in reached:
            raise Reject(f"edge {number}: no edge before it leads to {edge.source.name!r}")
        reached.add(edge.target.name)
        conditions |= edge.conditions
        gradients |= any(line.op == "input" and line.at["name"].startswith("grad:") for line in edge.lines)
    if not gradients or reached != set(nodes):
        raise Reject("edges: no step that sees a gradient, or a node that is never reached")
    if text(data["subject"], at="subject") != subject(data["claim"], data["edges"]):
        raise Reject("subject: the certificate was written for another claim or another program")
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
        count = integer(data["tensors"], 1 + free, 64 if free else 1, at="claim")
        names = [f"{kind}:{number}" for kind in ("weight", "grad") for number in range(count)]
        self.laws = {name: FREE_OF if free else inputs(self.property, name) for name in names}
        self.statement = f"{self.property} of the weights, rows being their first axis"
        if free:
            of = text(data["of"], set(names), at="claim")
            for kind in ("weight", "grad"):  # the other gradient may be anything, and its own weight with it
                self.laws[f"{kind}:{of.partition(':')[2]}"] = None
            self.statement = f"the other weights do not depend on {of}"

    def _equivariance(self, data: Mapping[str, Any]) -> None:
        for item in items(data["variables"], at="variables"):
            row = fields(item, {"name", "class", "axes", "fibre"}, at="variables")
            name, kind = text(row["name"], at="variables"), {*MONOMIAL, "orth", "stab1"}
            fibre = None if row["fibre"] is None else text(row["fibre"], at="variables")
            if name in self.variables or (fibre is not None and self.variables.get(fibre) != Variable("perm")):
                raise Reject(f"variables: {name} is named twice, or its fibre is no permutation of its own")
            axes = integer(row["axes"], 0, 8, at="variables")
            self.variables[name] = Variable(text(row["class"], kind, at="variables"), axes, fibre)
        context, words = Context(self.variables), []
        for number, item in enumerate(items(data["tensors"], at="tensors")):
            labels = [None if a is None else items(a, 3, at="tensors") for a in items(item, at="tensors")]
            for kind_, side in (("weight", 1), ("grad", -1)):
                law = Law(tuple(INV if a is None else self._label(context, a, side) for a in labels))
                self.laws[f"{kind_}:{number}"] = context.check(law)
            words.append(" x ".join("1" if a is None else f"{a[0]}{'*' * (a[2] < 0)}" for a in labels))
        if not words:
            raise Reject("tensors: there are none")
        for kind_, rows in fields(data.get("characters", {}), set(), {"weight", "grad"}, at="characters").items():
            read = context.read({"axes": [], "scalars": rows}, "characters")
            scalars = () if read is None else read.scalars
            for name in [n for n in self.laws if n.startswith(kind_)]:
                self.laws[name] = replace(self.laws[name], scalars=scalars)
            words.append(" ".join([kind_, *(f"{n}^({k}, {e})" for n, k, e in scalars)]))
        kinds = (f"{n} in {v.kind}{f' for each {v.fibre}' if v.fibre else ''}" for n, v in self.variables.items())
        self.statement = f"equivariance under {'; '.join(words)} for {', '.join(kinds) or 'nothing'}"

    @staticmethod
    def _label(context: Context, axis: Sequence[Any], side: int) -> Label:
        variable = context.of(("vec", text(axis[0], at="tensors")))
        sub, power = integer(axis[1], 0, variable.axes - 1, at="tensors"), integer(axis[2], -1, 1, at="tensors")
        if power == 0:
            raise Reject(f"tensors: {axis}")
        scales = MONOMIAL.get(variable.kind, (0, 0, 0))[2]
        return context.vec(axis[0], sub, 1, Fraction(side * power * scales))

    def read(self, context: Context, data: Any, path: str) -> Any:
        """A law of this property from JSON."""
        return read_simple(self.property, data, path) if self.property in INFERENCE else context.read(data, path)


class _Node:
    """The state tensors present at some time, their laws, and the gauges that these mention."""

    def __init__(self, claim: Claim, data: Mapping[str, Any]) -> None:
        self.name = text(data["name"], at="nodes")
        self.gauges: dict[str, Variable] = {}
        for item in items(data["gauges"], at="gauges"):
            row = fields(item, {"name", "class", "fibre"}, at="gauges")
            name, kind = text(row["name"], at="gauges"), text(row["class"], {"sign", "orth", "block"}, at="gauges")
            if name in claim.variables or name in self.gauges or row["fibre"] not in (None, *claim.variables):
                raise Reject(f"gauges: {name}")
            self.gauges[name] = Variable(kind, 1, row["fibre"])
        context = Context({**claim.variables, **self.gauges})
        laws = fields(data["laws"], set(), {*data["laws"]} if type(data["laws"]) is dict else set(), at="laws")
        if wrong := [name for name in laws if not name.startswith("state:")]:
            raise Reject(f"laws: {wrong[0]} is no state")
        self.laws = {name: claim.read(context, law, name) for name, law in laws.items()}
        used = {x[1] for law in self.laws.values() if isinstance(law, Law) for x in law.axes if len(x) > 1}
        if unused := sorted(self.gauges.keys() - used):
            raise Reject(f"gauges: no law mentions {unused[0]}")
        if claim.property == "shift_quotient" and any(law and law[0] == "base" for law in self.laws.values()):
            raise Reject("laws: in a quotient every step has a shift of its own")


class _Edge:
    """One step: its lines are checked on construction."""

    def __init__(self, claim: Claim, nodes: Mapping[str, _Node], item: Any, path: str) -> None:
        data = fields(item, {"source", "target", "lines", "outputs", "leaks", "rename"}, at=path)
        self.source, self.target = (nodes[text(data[k], set(nodes), at=path)] for k in ("source", "target"))
        self.claim, self.path = claim, path
        self.context = Context({**claim.variables, **self.source.gauges})
        self.known = {**claim.laws, **self.source.laws}
        self.lines: list[Line] = []
        self.laws: list[Any] = []
        self.conditions: set[str] = set()
        for number, row in enumerate(items(data["lines"], at=path)):
            try:
                self._line(number, row)
            except Reject as reason:
                raise Reject(f"{path}, line {number}: {reason}") from None
        for leak in items(data["leaks"], at=path):
            if not self._invariant(self._law(leak)):
                raise Reject(f"{path}: line {leak} leaves the program and is not invariant")
        self._outputs(data)

    def _law(self, number: Any) -> Any:
        return self.laws[integer(number, 0, len(self.laws) - 1, at=self.path)]

    def _line(self, number: int, row: Any) -> None:
        data = fields(row, {"op", "in", "law"}, {"at", "gauge"}, at="line")
        op, declared = text(data["op"], OPERATIONS, at="op"), data["law"]
        ins = tuple(integer(i, 0, number - 1, at="in") for i in items(data["in"], at="in"))
        at = data.get("at", {})
        fields(at, set(), {*at} if type(at) is dict else set(), at="at")
        gauge = None
        if "gauge" in data:
            named = fields(data["gauge"], {"name", "class"}, at="gauge")
            gauge = (text(named["name"], at="gauge"), text(named["class"], at="gauge"))
            if op not in {op for op, _ in CONDITIONS} or declared is None:
                raise Reject(f"{op} has no gauge")
        line = Line(op, ins, at, gauge)
        self.lines.append(line)
        law = self._infer(line, [self.laws[i] for i in ins], declared)
        if isinstance(law, dict):
            parts = items(declared, len(law), at="law")
            same = [self.claim.read(self.context, part, "law") for part in parts] == list(law.values())
        else:
            same = declared is None or self.claim.read(self.context, declared, "law") == law
        if not same or (law is None and declared is not None):
            raise Reject(f"{op} does not have the law {declared}")
        self.laws.append(None if declared is None else law)

    def _infer(self, line: Line, operands: Sequence[Any], declared: Any) -> Any:
        simple = INFERENCE.get(self.claim.property)
        if line.op == "input":
            name = text(fields(line.at, {"name"}, at="input")["name"], set(self.known), at="input")
            items(list(line.ins), 0, at="input")
            return self.known[name]
        if declared is None:
            return None
        if line.op in ("coerce", "random") and (line.op == "coerce" or not simple):
            goal = self.claim.read(self.context, declared, "law")
            good = self._coerced(line, operands, goal) if line.op == "coerce" else self._random(line, goal)
            return goal if good else None
        if simple:
            return simple(self.lines, line, operands)
        if line.op == "part":
            (bundle,) = items(list(operands), 1, at="part")
            parts = bundle if isinstance(bundle, dict) else {}
            return parts[text(fields(line.at, {"part"}, at="part")["part"], set(parts), at="part")]
        if not all(isinstance(law, Law) for law in operands):
            return None
        law = infer(self.context, line, operands)
        if line.gauge is not None and (line.op, line.gauge[1]) in CONDITIONS:
            self.conditions.add(CONDITIONS[line.op, line.gauge[1]])
        return law

    def _coerced(self, line: Line, operands: Sequence[Any], goal: Any) -> bool:
        fields(line.at, set(), at="coerce")
        (law,) = items(list(operands), 1, at="coerce")
        if isinstance(goal, tuple):
            return implies(law, goal)
        return isinstance(law, Law) and weaker(self.context, law, goal)

    def _random(self, line: Line, law: Law) -> bool:
        """Whether noise has this law: it is drawn anew, so the gauges of this step may not depend on it."""
        data = fields(line.at, {"rank", "distribution"}, at="random")
        kind = text(data["distribution"], {"normal", "symmetric", "iid"}, at="random")
        self.conditions.add(NOISE)
        if law != Law(law.axes) or line.ins or len(law.axes) != integer(data["rank"], 0, 64, at="random"):
            return False
        vecs = [label for label in law.axes if label != INV]
        own = all(label[0] == "vec" and label[1] in self.claim.variables for label in vecs)
        return own and all(
            not label[4] and label[3] <= (kind != "iid") and (kind == "normal" or not self.context.linear(label))
            for label in vecs
        )

    def _invariant(self, law: Any) -> bool:
        if self.claim.property == "horizontality":
            return True  # a statement about one run, not about two
        if not isinstance(law, Law):
            return law in (FIXED, FREE_OF)
        return law.zero or (not law.scalars and all(x in (INV, FREE, ISO) or x[0] in EIGEN for x in law.axes))

    def _outputs(self, data: Mapping[str, Any]) -> None:
        rename = fields(data["rename"], set(self.target.gauges), at=f"{self.path}, rename")
        for old, new in rename.items():
            found = self.context.variables.get(text(new, at="rename"))
            if found != self.target.gauges[old] or new in self.claim.variables:
                raise Reject(f"{self.path}: gauge {old} cannot become {new}")
        goals = {**{name: self.claim.laws[name] for name in self.claim.weights}, **self.target.laws}
        for name, number in fields(data["outputs"], set(goals), at=f"{self.path}, outputs").items():
            law, goal = self._law(number), goals[name]
            if isinstance(goal, Law):
                good = isinstance(law, Law) and _fits(law, goal, rename)
            elif name in self.target.laws or goal is None:
                good = goal is None or implies(law, goal)
            else:
                good = outputs(self.claim.property, law)
            if not good:
                raise Reject(f"{self.path}: output {name} does not have the law that is claimed")


def _fits(law: Law, goal: Law, rename: Mapping[str, str]) -> bool:
    """Whether a law is the goal's, whose gauges have other names, with all facts of it and perhaps more."""
    axes = tuple((x[0], rename.get(x[1], x[1]), *x[2:]) if len(x) > 1 else x for x in goal.axes)
    same = (law.axes, law.scalars, law.zero) == (axes, goal.scalars, goal.zero)
    return same and law.sym >= goal.sym and law.nonneg >= goal.nonneg
