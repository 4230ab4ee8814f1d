"""Checking a certificate: every line against its axiom, every step against the invariant of the state."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from symcheck.kernel.axioms import CONDITIONS
from symcheck.kernel.document import Decline, Maybe, Reject, anything, conform, natural, one_of, rational, text, upto
from symcheck.kernel.laws import INV, MONOMIAL, Context, Label, Law, Variable
from symcheck.kernel.linear import PROPERTIES, Linear
from symcheck.kernel.rules import Line, check_form, infer

SCHEMA = "symcheck.certificate/1"
SOURCES = ("document.py", "axioms.py", "axioms.json", "laws.py", "rules.py", "linear.py", "check.py")
_TEXT = "".join(Path(__file__).with_name(name).read_text("utf-8") for name in SOURCES)
HASH = hashlib.sha256(_TEXT.encode()).hexdigest()
"""What a certificate was written for: the axioms, and the code that applies them."""

CHARACTERS = [(text, natural, rational)]
VARIABLES = [{"name": text, "class": one_of(*MONOMIAL, "orth", "stab1"), "axes": upto(8), "fibre": Maybe(text)}]
AXES = [Maybe((text, natural, one_of(1, -1)))]
CLAIM = {
    "property": text, "variables": VARIABLES, "tensors": [AXES],
    "characters?": anything,
}  # fmt: skip
GAUGE = {"name": text, "class": one_of(*(kind for _, kind in CONDITIONS))}
LINE = {"op": text, "in": [natural], "law": anything, "at?": {"*": anything}, "gauge?": GAUGE}
EDGE = {
    "source": text, "target": text, "lines": [LINE], "outputs": {"*": natural}, "leaks": [natural],
    "rename": {"*": text},
}  # fmt: skip
NODE = {"name": text, "gauges": [{**GAUGE, "fibre": Maybe(text)}], "laws": {"*": anything}}
CERTIFICATE = {
    "schema": one_of(SCHEMA), "axioms": text, "subject": text, "claim": anything, "conditions": [text], "nodes": [NODE],
    "edges": [EDGE], "bridge": {"runs": {"*": natural}, "steps": natural, "worst": text},
}  # fmt: skip


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
    conform(document, CERTIFICATE)
    if document["axioms"] != HASH:
        raise Decline("axioms: the certificate was written for another kernel")
    claim = Claim(document["claim"])
    nodes = {data["name"]: Node(claim, data) for data in document["nodes"]}
    if len(nodes) != len(document["nodes"]) or "start" not in nodes or nodes["start"].laws:
        raise Reject("nodes: names must differ, and 'start' has no state")
    conditions: set[str] = set()
    reached, gradients = {"start"}, False
    for number, data in enumerate(document["edges"]):
        source, target = data["source"], data["target"]
        if source not in reached or target not in nodes:
            raise Reject(f"edge {number}: {target!r} is no node, or no edge before it leads to {source!r}")
        reached.add(target)
        try:
            conditions |= _step(claim, nodes[source], nodes[target], data)
        except Reject as reason:
            raise Reject(f"edge {number}, {reason}") from None
        gradients |= any(line["at"]["name"].startswith("grad:") for line in data["lines"] if line["op"] == "input")
    if not gradients or reached != set(nodes):
        raise Reject("edges: no step that sees a gradient, or a node that is never reached")
    if document["subject"] != subject(document["claim"], document["edges"]):
        raise Reject("subject: the certificate was written for another claim or another program")
    if document["conditions"] != sorted(conditions):
        raise Reject(f"conditions: must be {sorted(conditions)}")
    return Accepted(claim.statement, tuple(sorted(conditions)))


BASES = (Variable("perm"), Variable("sperm"))


def declared(rows: Any, variables: Mapping[str, Variable]) -> dict[str, Variable]:
    """New variables, each named once; what they are fibres of permutes, and is declared before."""
    new: dict[str, Variable] = {}
    for name, fibre, row in ((row["name"], row["fibre"], row) for row in rows):
        if name in variables or name in new or (fibre and {**variables, **new}.get(fibre) not in BASES):
            raise Reject(f"variables: {name} is named twice, or its fibre is no permutation")
        new[name] = Variable(row["class"], row.get("axes", 1), fibre)
    return new


class Claim:
    """What is claimed: a property, the variables that act, and the laws of weights and gradients."""

    def __init__(self, data: Any) -> None:
        conform(data, {"property": text, "*": anything}, "claim")
        self.property: str = data["property"]
        self.variables: dict[str, Variable] = {}
        self.laws: dict[str, Any] = {}
        self.goals: dict[str, Any] = {}
        if self.property in PROPERTIES:
            self._linear(data)
        elif self.property == "equivariance":
            self._equivariance(data)
        else:
            raise Decline(f"claim: unknown property {self.property!r}")

    def _linear(self, data: Any) -> None:
        free = self.property == "independence"
        conform(data, {"property": text, "tensors": upto(64)} | ({"of": text} if free else {}), "claim")
        logic, count = Linear(self.property), data["tensors"]
        if count < 2 if free else count != 1:
            raise Reject("claim: independence is about several tensors, shifts and sums are about one")
        for number in map(str, range(count)):
            self.laws |= {f"weight:{number}": logic.weight, f"grad:{number}": logic.grad}
            self.goals[f"weight:{number}"] = logic.goal
        self.statement = f"{self.property} of the weights, rows being their first axis"
        if free:
            number = data["of"].partition(":")[2]
            if data["of"] not in self.laws:
                raise Reject(f"claim: no input {data['of']!r}")
            # The other gradient may be anything, and its own weight with it.
            self.laws |= {f"weight:{number}": None, f"grad:{number}": None}
            self.goals[f"weight:{number}"] = None
            self.statement = f"the other weights do not depend on {data['of']}"

    def _equivariance(self, data: Any) -> None:
        conform(data, CLAIM, "claim")
        self.variables = declared(data["variables"], {})
        context, words = Context(self.variables), []
        for number, axes in enumerate(data["tensors"]):
            for kind, side in (("weight", 1), ("grad", -1)):
                law = Law(tuple(INV if axis is None else self._label(context, axis, side) for axis in axes))
                self.laws[f"{kind}:{number}"] = context.check(law)
            words.append(" x ".join("1" if a is None else f"{a[0]}{'*' * (a[2] < 0)}" for a in axes))
        if not words:
            raise Reject("tensors: there are none")
        conform(data.get("characters", {}), {f"{name}?": CHARACTERS for name in self.laws}, "characters")
        for name, rows in data.get("characters", {}).items():
            self.laws[name] = replace(self.laws[name], scalars=context.scalars(rows))
            words.append(" ".join([name, *(f"{n}^({k}, {e})" for n, k, e in self.laws[name].scalars)]))
        self.goals = {name: law for name, law in self.laws.items() if name.startswith("weight:")}
        kinds = (f"{n} in {v.kind}{f' for each {v.fibre}' if v.fibre else ''}" for n, v in self.variables.items())
        self.statement = f"equivariance under {'; '.join(words)} for {', '.join(kinds) or 'nothing'}"

    @staticmethod
    def _label(context: Context, axis: Sequence[Any], side: int) -> Label:
        name, sub, power = axis
        variable = context.of(("vec", name))
        if sub >= variable.axes:
            raise Reject(f"tensors: {name} has no axis {sub}")
        scales = MONOMIAL.get(variable.kind, (0, 0, 0))[2]
        return context.vec(name, sub, 1, Fraction(side * power * scales))

    def logic(self, gauges: Mapping[str, Variable]) -> Any:
        """The laws of the property, with these gauges in scope."""
        return Linear(self.property) if self.property in PROPERTIES else Context(self.variables, gauges)


class Node:
    """The state tensors present at some time, their laws, and the gauges that these mention."""

    def __init__(self, claim: Claim, data: Any) -> None:
        self.gauges = declared(data["gauges"], claim.variables)
        logic = claim.logic(self.gauges)
        self.laws = {name: logic.read(law) for name, law in data["laws"].items()}
        for name, law in self.laws.items():
            if not name.startswith("state:") or not logic.lasting(law):
                raise Reject(f"laws: {name} is no state, or has a law of one step only")


def _step(claim: Claim, source: Node, target: Node, data: Any) -> set[str]:
    """Check one step; the conditions that its lines need."""
    logic, known = claim.logic(source.gauges), claim.laws | source.laws
    lines: list[Line] = []
    laws: list[Any] = []
    for number, row in enumerate(data["lines"]):
        try:
            laws.append(_law(logic, known, row, lines, laws))
        except Reject as reason:
            raise Reject(f"line {number}: {reason}") from None
    outputs, rename, goals = data["outputs"], data["rename"], claim.goals | target.laws
    if outputs.keys() != goals.keys() or max([*data["leaks"], *outputs.values()], default=0) >= len(lines):
        raise Reject("the outputs are not those of the target, or there is no such line")
    for leak in data["leaks"]:
        if not logic.still(laws[leak]):
            raise Reject(f"line {leak} leaves the program and is not invariant")
    gauges = {old: logic.variables.get(new) for old, new in rename.items()}
    if gauges != target.gauges or not claim.variables.keys().isdisjoint(rename.values()):
        raise Reject("the gauges of the target are not those of this step")
    for name, number in outputs.items():
        goal = goals[name].renamed(rename) if isinstance(goals[name], Law) else goals[name]
        if not logic.implies(laws[number], goal):
            raise Reject(f"output {name} does not have the law that is claimed")
    return set(logic.conditions)


def _law(logic: Any, known: Mapping[str, Any], row: Any, lines: list[Line], laws: Sequence[Any]) -> Any:
    """The law that a line declares, if it follows from those of its operands; of a bundle, its parts by name."""
    if any(number >= len(lines) for number in row["in"]):
        raise Reject("an operand comes later")
    gauge = (row["gauge"]["name"], row["gauge"]["class"]) if "gauge" in row else None
    line = Line(row["op"], tuple(row["in"]), row.get("at", {}), gauge)
    lines.append(line)
    check_form(line)
    operands, law = [laws[number] for number in line.ins], row["law"]
    if line.op == "input" and line.at["name"] not in known:
        raise Reject(f"no input {line.at['name']!r}")
    if law is None:
        return None
    if line.op == "input":
        found = known[line.at["name"]]
    elif isinstance(logic, Linear):
        found = logic.infer(lines, operands)
    else:
        found = infer(logic, line, operands, logic.read(law) if line.op == "random" else None)
    bundle = found if isinstance(found, dict) else {"": found}
    goals = [logic.read(part) for part in (law if isinstance(found, dict) and type(law) is list else [law])]
    if len(goals) != len(bundle) or not all(map(logic.implies, bundle.values(), goals)):
        raise Reject(f"{line.op} does not have the law {law}")
    return dict(zip(bundle, goals, strict=True)) if isinstance(found, dict) else goals[0]
