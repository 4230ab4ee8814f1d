"""From traced runs to a certificate: laws of the state that every step keeps, and a proof of each step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from symcheck.kernel.axioms import CONDITIONS
from symcheck.kernel.check import HASH, SCHEMA, Claim, check, subject
from symcheck.kernel.document import Decline, Reject, load
from symcheck.kernel.laws import EIGEN, FREE, INV, ISO, Context, Law, Variable
from symcheck.kernel.linear import ROWS, Linear, Span
from symcheck.kernel.rules import Line as KernelLine
from symcheck.prove.errors import NoProof
from symcheck.prove.infer import GAUGES, Inference, certificate_attributes, describe, law_json, widen
from symcheck.trace.program import Program, Step, Trace, with_common_numbers

START = "start"
_ROUNDS = 12


@dataclass(frozen=True)
class Edge:
    """One path through ``step()``, merged over all runs that took it, between two sets of state tensors."""

    source: str
    target: str
    program: Program
    sizes: Sequence[tuple[int, ...]]
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Machine:
    """All paths that traced runs took: what is proved of each of them holds for every run that takes no other."""

    edges: tuple[Edge, ...]
    states: Mapping[str, tuple[str, ...]]

    @property
    def factorises(self) -> bool:
        """Whether eigenvectors or singular vectors are computed."""
        return any(line.op in ("eigh", "svd") for edge in self.edges for line in edge.program.lines)


def machine_of(traces: Sequence[Trace]) -> Machine:
    """The paths of several runs of one candidate.

    Raises:
        NoProof: a run could not be followed, or uses a constant that depends on data although nothing leaked.
    """
    _constants_agree(traces)
    names: dict[frozenset[str], str] = {frozenset(): START}
    groups: dict[tuple[str, str, str], list[Step]] = {}
    for trace in traces:
        if trace.unsupported is not None:
            raise NoProof(str(trace.unsupported))
        for step in trace.steps:
            source, target = (names.setdefault(s, f"state {len(names)}") for s in (step.source, step.target))
            groups.setdefault((source, target, step.program.digest), []).append(step)
    edges = tuple(
        Edge(source, target, with_common_numbers([s.program for s in steps]), steps[0].sizes, tuple(steps))
        for (source, target, _), steps in groups.items()
    )
    return Machine(edges, {name: tuple(sorted(state)) for state, name in names.items()})


def _constants_agree(traces: Sequence[Trace]) -> None:
    """Before anything has left torch, what Python passes in cannot depend on data. If it does, something was read that
    the recorder did not see, and the laws of constants do not hold."""
    seen: dict[tuple[Any, int], Step] = {}
    for trace in traces:
        for number, step in enumerate(trace.steps):
            if step.program.leaks:
                break
            first = seen.setdefault((trace.shapes, number), step)
            if first.program.digest == step.program.digest:
                for line, value in step.constants.items():
                    if step.program.lines[line].op != "random" and not np.array_equal(value, first.constants[line]):
                        where = step.program.lines[line].where
                        raise NoProof(
                            f"a constant depends on the gradients, and nothing was seen to leave torch ({where})"
                        )


@dataclass(frozen=True)
class Proof:
    """A certificate that the kernel accepted; ``conditions`` are the assumptions it needs."""

    certificate: Mapping[str, Any]
    statement: str
    conditions: tuple[str, ...]


def prove(machine: Machine, claim: Mapping[str, Any], bridge: Mapping[str, Any] | None = None) -> Proof:
    """A proof of ``claim`` (its JSON form) for every run of the machine.

    Raises:
        NoProof: none was found; one line with the operation that has no law, and where it is.
    """
    equivariance = claim["property"] == "equivariance"
    modes = tuple(GAUGES) if equivariance and machine.factorises else ("block",)
    reason: NoProof | None = None
    for mode in modes:
        try:
            certificate = (_Search(machine, claim, mode) if equivariance else _Simple(machine, claim)).certificate()
        except NoProof as error:
            reason = reason or error
            continue
        certificate["bridge"] = dict(bridge or {"runs": {}, "steps": 0, "worst": "0"})
        try:
            accepted = check(load(json.dumps(certificate)))
        except (Reject, Decline) as error:
            raise NoProof(f"the kernel did not accept the certificate: {error}") from error
        return Proof(certificate, accepted.statement, accepted.conditions)
    raise reason or NoProof("nothing to prove")


@dataclass
class _Node:
    laws: dict[str, Any] = field(default_factory=dict)
    gauges: dict[str, Variable] = field(default_factory=dict)
    seen: bool = False


class _Search:
    """The least invariant: laws of the state tensors of every node, weakened until every step keeps them."""

    def __init__(self, machine: Machine, claim: Mapping[str, Any], mode: str) -> None:
        self.machine = machine
        self.data = claim
        self.mode = mode
        try:
            self.claim = Claim(dict(claim))
        except (Reject, Decline) as error:
            raise NoProof(str(error)) from error
        self.nodes = {name: _Node() for name in machine.states}
        self.nodes[START].seen = True
        for _ in range(_ROUNDS):
            if not sum(self._advance(edge) for edge in machine.edges):
                break
        else:
            raise NoProof("the laws of the state tensors do not settle")

    def _infer(self, number: int, edge: Edge) -> Inference:
        node = self.nodes[edge.source]
        context = Context({**self.claim.variables, **node.gauges})
        inputs = {**self.claim.laws, **node.laws}
        return Inference(edge.program, context, inputs, gauges=self.mode, prefix=f"g{number}.", shapes=edge.sizes)

    def _advance(self, edge: Edge) -> bool:
        """Weaken the laws of the target of an edge until they hold after it; whether anything changed."""
        if not self.nodes[edge.source].seen:
            return False
        number = self.machine.edges.index(edge)
        inference = self._infer(number, edge)
        target = self.nodes[edge.target]
        before = (dict(target.laws), target.seen)
        rename: dict[str, str] = {}
        for name in self.machine.states[edge.target]:
            law = inference.law(edge.program.outputs[name])
            law = law if isinstance(law, Law) else None
            if name not in target.laws:
                target.laws[name] = law if law is None else _map_gauges(law, self._canonical(target, inference, rename))
                continue
            old = target.laws[name]
            if old is None or law is None:
                target.laws[name] = None
                continue
            context = Context({**inference.context.variables, **target.gauges})
            target.laws[name] = widen(context, old, _map_gauges(law, self._matching(old, law, rename)))
        target.seen = True
        return before != (target.laws, target.seen)

    def _canonical(self, target: _Node, inference: Inference, rename: dict[str, str]) -> dict[str, str]:
        """Names for gauges that a state tensor brings to a node for the first time."""

        class Names(dict[str, str]):
            def get(self, key: str, default: Any = None) -> Any:  # only gauges are renamed
                variable = inference.context.variables[key]
                if key in claim.variables:
                    return key
                if key not in rename:
                    rename[key] = f"n{len(target.gauges)}"
                    target.gauges[rename[key]] = variable
                return rename[key]

        claim = self.claim
        return Names()

    def _matching(self, old: Law, law: Law, rename: dict[str, str]) -> dict[str, str]:
        """The names that the node has for the gauges of a law, by where they stand."""
        mapping: dict[str, str] = {}
        for a, b in zip(law.axes, old.axes, strict=False):
            if len(a) > 1 and len(b) > 1 and a[1] not in self.claim.variables and b[1] not in self.claim.variables:
                mapping[a[1]] = rename.setdefault(a[1], b[1])
        return mapping

    def certificate(self) -> dict[str, Any]:
        """The certificate; NoProof if the weights or a leak do not have the law that is claimed."""
        edges, conditions = [], set()
        for number, edge in enumerate(self.machine.edges):
            inference = self._infer(number, edge)
            edges.append(self._edge(edge, inference))
            for line in inference.out.lines:
                condition = CONDITIONS.get((line["op"], line.get("gauge", {}).get("class")))
                if condition:
                    conditions.add(condition)
                if line["op"] == "random" and line["law"] is not None:
                    conditions.add("in distribution over its random numbers")
        nodes = [
            {
                "name": name,
                "gauges": [
                    {"name": g, "class": node.gauges[g].kind, "fibre": node.gauges[g].fibre} for g in _used(node)
                ],
                "laws": {key: law_json(law) for key, law in node.laws.items()},
            }
            for name, node in self.nodes.items()
        ]
        return _document(self.data, sorted(conditions), nodes, edges)

    def _edge(self, edge: Edge, inference: Inference) -> dict[str, Any]:
        program, target = edge.program, self.nodes[edge.target]
        for leak in program.leaks:
            law = inference.law(leak)
            if law is None:
                raise NoProof(f"a value that is not known to be invariant leaves torch: {inference.blame(leak)}")
            still = all(label in (INV, FREE, ISO) or label[0] in EIGEN for label in law.axes) and not law.scalars
            if not isinstance(law, Law) or not (law.zero or still):
                where = program.lines[leak].where
                raise NoProof(f"{describe(law)} leaves torch and may decide anything ({where})")
        found: dict[str, int] = {}
        rename = self._renamed(edge, inference)
        for name, number in program.outputs.items():
            place, law = inference.out.place[number], inference.law(number)
            if name.startswith("weight:"):
                if law is None:
                    raise NoProof(inference.blame(number))
                goal = self.claim.laws[name]
            else:
                goal = target.laws[name]
                if goal is None:
                    found[name] = place
                    continue
                goal = _map_gauges(goal, rename)
            try:
                found[name] = self._as(inference, place, law, goal)
            except Reject as error:
                what = "the new weights" if name.startswith("weight:") else name.removeprefix("state:")
                raise NoProof(f"{what}: {error}") from error
        return {
            "source": edge.source,
            "target": edge.target,
            "lines": inference.out.lines,
            "outputs": found,
            "leaks": sorted({inference.out.place[leak] for leak in program.leaks}),
            "rename": {key: value for key, value in rename.items() if value in inference.context.variables},
        }

    def _renamed(self, edge: Edge, inference: Inference) -> dict[str, str]:
        """The gauges of a step by their names at its target, read off any state tensor that moves by them: one that is
        still zero has the law of the target and shows nothing.
        """
        target = self.nodes[edge.target]
        rename: dict[str, str] = {}
        unknown: set[str] = set()
        for name, number in edge.program.outputs.items():
            law, goal = inference.law(number), target.laws.get(name)
            if not isinstance(goal, Law):
                continue
            gauges = {b[1] for b in goal.axes if len(b) > 1 and b[1] in target.gauges}
            if isinstance(law, Law):
                for a, b in zip(law.axes, goal.axes, strict=False):
                    if len(a) > 1 and len(b) > 1 and b[1] in gauges and a[1] not in self.claim.variables:
                        rename.setdefault(b[1], a[1])
            unknown |= gauges
        return {**{gauge: gauge for gauge in unknown}, **rename}

    @staticmethod
    def _as(inference: Inference, place: int, law: Law, goal: Law) -> int:
        same = (law.axes, law.scalars, law.zero) == (goal.axes, goal.scalars, goal.zero)
        if same and law.sym >= goal.sym and law.nonneg >= goal.nonneg:
            return place
        return inference.coerce(place, goal)


def _used(node: _Node) -> list[str]:
    """The gauges that the laws of a node still mention, after they were weakened."""
    labels = [label for law in node.laws.values() if isinstance(law, Law) for label in law.axes if len(label) > 1]
    return sorted(node.gauges.keys() & {label[1] for label in labels})


def _map_gauges(law: Law, names: Mapping[str, str]) -> Law:
    axes = tuple((x[0], names.get(x[1], x[1]), *x[2:]) if len(x) > 1 else x for x in law.axes)
    return replace(law, axes=axes)


def _document(
    claim: Mapping[str, Any], conditions: list[str], nodes: list[dict[str, Any]], edges: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "axioms": HASH,
        "subject": subject(dict(claim), edges),
        "claim": dict(claim),
        "conditions": conditions,
        "nodes": nodes,
        "edges": edges,
    }


class _Simple:
    """The same for shifts, column sums and independence: laws without variables."""

    def __init__(self, machine: Machine, claim: Mapping[str, Any]) -> None:
        self.machine = machine
        self.data = dict(claim)
        try:
            self.claim = Claim(self.data)
        except (Reject, Decline) as error:
            raise NoProof(str(error)) from error
        self.logic = Linear(self.claim.property)
        self.laws: dict[str, dict[str, Any]] = {name: {} for name in machine.states}
        self.seen = {START}
        for _ in range(_ROUNDS):
            if not sum(self._advance(edge) for edge in machine.edges):
                break
        else:
            raise NoProof("the laws of the state tensors do not settle")

    def _lines(self, edge: Edge) -> tuple[list[KernelLine], list[Any]]:
        lines: list[KernelLine] = []
        laws: list[Any] = []
        known = {**self.claim.laws, **self.laws[edge.source]}
        for line in edge.program.lines:
            lines.append(KernelLine(line.op, tuple(line.operands), certificate_attributes(line)))
            if line.op == "input":
                laws.append(known[line.attributes["name"]])
            else:
                laws.append(self.logic.infer(lines, [laws[i] for i in line.operands]))
        return lines, laws

    def _advance(self, edge: Edge) -> bool:
        if edge.source not in self.seen:
            return False
        _, laws = self._lines(edge)
        target = self.laws[edge.target]
        before = dict(target)
        for name in self.machine.states[edge.target]:
            law = laws[edge.program.outputs[name]]
            target[name] = self._widen(target[name], law) if name in target else self._state(law)
        new = edge.target not in self.seen
        self.seen.add(edge.target)
        return new or before != target

    def _state(self, law: Any) -> Any:
        """What a state tensor may say of its law: in a quotient every step has a shift of its own."""
        if self.logic.lasting(law):
            return law
        return ROWS if self.logic.implies(law, ROWS) else None

    def _widen(self, old: Any, new: Any) -> Any:
        if self.logic.implies(new, old):
            return old
        for goal in (self._state(new), ROWS, Span(Fraction(0), 1)):
            if goal is not None and self.logic.implies(old, goal) and self.logic.implies(new, goal):
                return goal
        return None

    def certificate(self) -> dict[str, Any]:
        """The certificate; NoProof if the weights or a leak do not have the law that is claimed."""
        edges = []
        for edge in self.machine.edges:
            lines, laws = self._lines(edge)
            for leak in edge.program.leaks:
                if not self.logic.still(laws[leak]):
                    raise NoProof(f"a value that is not fixed leaves torch ({edge.program.lines[leak].where})")
            for name, goal in self.claim.goals.items():
                if not self.logic.implies(laws[edge.program.outputs[name]], goal):
                    raise NoProof(self._blame(edge, laws, edge.program.outputs[name]))
            rows = [
                {
                    "op": line.op,
                    "in": list(line.ins),
                    "law": law_json(law),
                    **({"at": dict(line.at)} if line.at else {}),
                }
                for line, law in zip(lines, laws, strict=True)
            ]
            edges.append(
                {
                    "source": edge.source,
                    "target": edge.target,
                    "lines": rows,
                    "outputs": dict(edge.program.outputs),
                    "leaks": sorted(set(edge.program.leaks)),
                    "rename": {},
                }
            )
        nodes = [
            {"name": name, "gauges": [], "laws": {key: law_json(law) for key, law in laws.items()}}
            for name, laws in self.laws.items()
        ]
        return _document(self.data, [], nodes, edges)

    def _blame(self, edge: Edge, laws: list[Any], number: int) -> str:
        while laws[number] is None:
            line = edge.program.lines[number]
            missing = [operand for operand in line.operands if laws[operand] is None]
            if not missing:
                return f"{line.op} is not known to keep it ({line.where})"
            number = missing[0]
        return f"the new weights are {law_json(laws[number])}"
