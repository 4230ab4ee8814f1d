"""Proofs about one candidate: what to trace, what to claim of it, and whether the conditions hold where they must."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from groups import Action, ExpertAction, Factor, O, Perm, ProductAction, Wreath, parse_action
from groups.group import Group
from groups.images import image_group
from groups.pieces import Pieces
from symcheck.kernel.__main__ import BUNDLE
from symcheck.probe.arithmetic import Arithmetic
from symcheck.probe.names import Budget
from symcheck.probe.strata import STRATA, Shapes, draw_inputs
from symcheck.probe.trajectory import CandidateError, CandidateLike, Inputs
from symcheck.prove.claims import ClaimedAction, equivariance_claim, with_units
from symcheck.prove.errors import NoProof
from symcheck.prove.prover import Machine, Proof, machine_of, prove
from symcheck.result import ORDINARY
from symcheck.trace.bridge import Bridge, check_bridge
from symcheck.trace.interpret import interpret
from symcheck.trace.program import Step, Trace
from symcheck.trace.session import record

EXACT = Arithmetic(promote=True)
STRATUM_STEPS = 2
UNIT_STEPS = 8
STEPS = 3
"""Length of a traced run; one run for every set of axes is long, to pass warm-ups and switches."""
CROSSINGS = 4
"""Steps on which every path through the code is re-executed and compared; more of them would say nothing new."""
GAP = 1e-9
"""Relative distance of eigenvalues that counts as a simple spectrum: far above rounding, far below any ordinary gap."""
NO_UNIT_AXES = "no axis of length one"
ANOTHER_PATH = "another path through the code"
_OBLONG: tuple[Shapes, ...] = (((3, 5),), ((5, 3),), ((4, 4),))
_INDEPENDENCE: tuple[tuple[Shapes, ...], ...] = (
    (((5, 3), (4, 2)), ((4, 3), (4, 3)), ((3, 5), (3, 5))),
    (((4, 8), (8, 4)), ((8, 4), (8, 4)), ((4, 8), (4, 8))),
    (((2, 4, 3), (3, 3, 2)), ((2, 4, 3), (2, 4, 3)), ((2, 3, 4), (2, 3, 4))),
)
"""Pairs of weights of one shape or of two: matrices, matrices that heads divide, stacks of matrices. An optimizer that
does not take the first may take the next."""


@dataclass(frozen=True)
class Proved:
    """Accepted certificates that together answer a question, one for every pattern of axes longer than one."""

    proofs: tuple[Proof, ...]
    paths: frozenset[str]
    """The digests of the programs that the proofs are about."""
    shapes: tuple[str, ...] = ()
    """The condition on shapes, if some have no proof."""

    @property
    def conditions(self) -> tuple[str, ...]:
        """What the proofs assume."""
        return (*sorted({condition for proof in self.proofs for condition in proof.conditions}), *self.shapes)

    @property
    def document(self) -> dict[str, Any]:
        """The certificates as one document of the kernel."""
        return {"schema": BUNDLE, "certificates": [dict(proof.certificate) for proof in self.proofs]}


class Workshop:
    """Traces a candidate once for every block and answers questions about it with proofs.

    It is traced with its casts undone: a proof is about exact arithmetic, and the bridge about structure.
    """

    def __init__(self, candidate: CandidateLike, budget: Budget, *, seed: int = 0) -> None:
        self.candidate = candidate
        self.budget = budget
        self.seed = seed
        self._traces: dict[Any, Trace | CandidateError] = {}
        self._bridges: dict[Any, Bridge] = {}
        self._chiefs: dict[Any, Shapes] = {}
        self._bridged: Counter[str] = Counter()

    def prove(self, property: str, action: Action, block: Sequence[Shapes]) -> Proved:
        """A proof that the candidate has the property on every shape of the block that it takes.

        Raises:
            NoProof: one line that says why there is none.
            CandidateError: the candidate raised on an ordinary input of every shape.
        """
        if property == "horizontality":
            try:
                return self._prove(property, action, block)
            except NoProof as reason:
                return self._by_reflection(block, reason)
        return self._prove(property, action, block)

    def prove_independence(self) -> Proved:
        """A proof that what one matrix does depends on no other one's gradients; raises as `prove`."""
        refusal: CandidateError | None = None
        for pairs in _INDEPENDENCE:
            try:
                return self._prove_independence(pairs)
            except CandidateError as error:
                refusal = refusal or error
        raise refusal or NoProof("no shape to trace")

    def _prove_independence(self, pairs: Sequence[Shapes]) -> Proved:
        proofs, runs = [], []
        for shapes in pairs:
            machine, keys = self._machine([shapes], None)
            runs += keys
            for number in range(len(shapes)):
                claim = {"property": "independence", "tensors": len(shapes), "of": f"grad:{number}"}
                proofs.append(prove(machine, claim, self._bridge(keys)))
        return self._proved(proofs, runs)

    def prove_degree(self, degree: Fraction) -> Proved:
        """A proof of ``U(c G) = c^degree U(G)`` for every ``c > 0``: weights that move by ``c^degree`` follow gradients
        that move by ``c``."""
        return self._prove_character("scale+", [0, str(Fraction(degree))], [0, "1"])

    def prove_oddness(self) -> Proved:
        """A proof of ``U(-G) = -U(G)``, with the weights reflected too."""
        return self._prove_character("sign", [1, "0"], [1, "0"])

    def _prove_character(self, family: str, weight: list[Any], grad: list[Any]) -> Proved:
        moved = {"weight": weight, "grad": grad}
        claim = {
            "property": "equivariance",
            "variables": [{"name": "c", "class": family, "axes": 0, "fibre": None}],
            "tensors": [[None, None]],
            # An exponent of zero is no character: then the weights stay where they are.
            "characters": {f"{kind}:0": [["c", *row]] for kind, row in moved.items() if row != [0, "0"]},
        }
        machine, keys = self._machine(_OBLONG, None)
        return self._proved([prove(machine, claim, self._bridge(keys))], keys)

    # -- claims --------------------------------------------------------------------------------------------------

    def _prove(self, property: str, action: Action, block: Sequence[Shapes]) -> Proved:
        attempts = _wider(action) if property == "equivariance" else (action,)
        reason: NoProof | None = None
        for attempt in attempts:
            try:
                return self._attempt(property, attempt, block)
            except NoProof as error:
                reason = error
        raise reason or NoProof("nothing to prove")

    def _attempt(self, property: str, action: Action, block: Sequence[Shapes]) -> Proved:
        """Certificates for every pattern of axes. The fullest one must have a proof; where a single row or column has
        none, that is a condition."""
        proofs: list[Proof] = []
        runs: list[Any] = []
        refusal: CandidateError | None = None
        conditions: tuple[str, ...] = ()
        for pattern in self._patterns(property, action, block):
            if property != "equivariance" and not _has_rows(pattern[0]):
                continue  # a single row has no shift to speak of
            try:
                proof, keys = self._pattern(property, action, pattern)
            except CandidateError as error:
                refusal = refusal or error
                continue
            except NoProof:
                if not proofs:
                    raise
                conditions = (NO_UNIT_AXES,)
                continue
            proofs.append(proof)
            runs += keys
        if not proofs:
            raise refusal or NoProof("no shape to trace")
        return self._proved(proofs, runs, conditions)

    def _pattern(self, property: str, action: Action, pattern: Sequence[Shapes]) -> tuple[Proof, list[Any]]:
        claimed = self._claim(property, action, pattern[0])
        if claimed.unsaid:
            raise NoProof(claimed.unsaid)
        # Most questions that have no proof have none on ordinary gradients: those first.
        machine, _ = self._machine(pattern[:1], claimed, action, ordinary=True)
        prove(machine, claimed.claim)
        machine, keys = self._machine(pattern, claimed, action)
        self._conditions_hold(prove(machine, claimed.claim), keys)
        return prove(machine, claimed.claim, self._bridge(keys)), keys

    def _claim(self, property: str, action: Action, shapes: Shapes) -> ClaimedAction:
        if property == "equivariance":
            return with_units(equivariance_claim(action, shapes))
        return ClaimedAction({"property": property, "tensors": 1}, None)

    def _patterns(self, property: str, action: Action, block: Sequence[Shapes]) -> list[list[Shapes]]:
        """The shapes of a block, grouped by their claim, which knows the axes longer than one: each group has programs
        of its own. Those with most axes come first."""
        groups: dict[str, list[Shapes]] = {}
        for shapes in block:
            claim = self._claim(property, action, shapes).claim
            groups.setdefault(json.dumps([claim, _mask(shapes)]), []).append(shapes)

        def axes(group: list[Shapes]) -> int:
            splits = self._claim(property, action, group[0]).splits
            if splits is None:
                return sum(map(sum, _mask(group[0])))
            return sum(len(axis) for tensor in splits for axis in tensor)

        return sorted(groups.values(), key=axes, reverse=True)

    def _by_reflection(self, block: Sequence[Shapes], reason: NoProof) -> Proved:
        """Horizontality as a corollary. ``H = I - (2/m) 1 1^T`` is orthogonal, fixes every gradient with ``1^T G = 0``
        and shifts the weights. A rule that commutes with it and ignores shifts has ``U = H U``, so ``1^T U = 0``."""
        block = [shapes for shapes in block if _has_rows(shapes)]
        try:
            rotated = self._prove("equivariance", parse_action("O(rows)"), block)
            shifted = self._prove("shift_equivariance", parse_action("Shift(rows)"), block)
        except NoProof:
            raise reason from None
        paths, shapes = rotated.paths | shifted.paths, tuple({*rotated.shapes, *shifted.shapes})
        return Proved((*rotated.proofs, *shifted.proofs), paths, shapes)

    # -- traces --------------------------------------------------------------------------------------------------

    def _machine(
        self,
        pattern: Sequence[Shapes],
        claimed: ClaimedAction | None,
        action: Action | None = None,
        *,
        ordinary: bool = False,
    ) -> tuple[Machine, list[Any]]:
        traces, keys = [], []
        refusal: CandidateError | None = None
        # How heads are cut belongs to the claim; whole tensors are the same for all claims.
        split = json.dumps(claimed.claim) if claimed is not None and claimed.splits is not None else ""
        for shapes, stratum, steps in [(pattern[0], ORDINARY, STEPS)] if ordinary else self._runs(pattern, split):
            splits = None
            if split and action is not None:
                splits = equivariance_claim(action, shapes).splits
            key = (shapes, splits, stratum, steps)
            trace = self._trace(key)
            if isinstance(trace, CandidateError):
                refusal = trace
                continue
            traces.append(trace)
            keys.append(key)
        if not traces:
            raise refusal or NoProof("no shape to trace")
        return machine_of(traces), keys

    def _runs(self, pattern: Sequence[Shapes], split: str) -> Iterator[tuple[Shapes, str, int]]:
        """What to trace of shapes with the same axes: ordinary gradients on all of them, every stratum and the long
        run on one that is neither square nor a single row.

        Programs have no sizes, so this chief shape may come from another block whose tensors have the same axes.
        """
        oblong = [shapes for shapes in pattern if all(len(set(shape[-2:])) > 1 for shape in shapes)]
        chief = self._chiefs.setdefault((_mask(pattern[0]), split), min(oblong, key=_extent, default=pattern[0]))
        unit = min(min(shape[-2:]) for shape in chief) < 2
        yield chief, ORDINARY, UNIT_STEPS if unit else self.budget.long
        for shapes in pattern:
            yield shapes, ORDINARY, STEPS
        for stratum in STRATA:
            if stratum != ORDINARY and not unit:
                yield chief, stratum, STRATUM_STEPS

    def _trace(self, key: Any) -> Trace | CandidateError:
        if key not in self._traces:
            shapes, splits, stratum, steps = key
            inputs = draw_inputs(stratum, shapes, steps, centre=False, seed=self.seed)
            try:
                self._traces[key] = record(self.candidate, inputs, splits=splits, arithmetic=EXACT, seed=self.seed)
            except CandidateError as error:
                self._traces[key] = error
        return self._traces[key]

    def _bridge(self, keys: Sequence[Any]) -> dict[str, Any]:
        """Re-execute the programs; NoProof where they are not what ran. Says which runs they come from too: the number
        of steps by shape."""
        steps, worst = 0, 0.0
        runs: dict[str, int] = {}
        blurred: dict[tuple[str, str], NoProof] = {}
        for key in keys:
            trace = self._traces[key]
            if not isinstance(trace, Trace):
                continue
            size = _size(key[0])
            runs[size] = max(len(trace.steps) - 1, runs.get(size, 0))
            if key not in self._bridges:
                new = self._uncrossed(trace)
                if not new:
                    continue
                self._bridges[key] = check_bridge(replace(trace, steps=trace.steps[:new]), seed=self.seed)
            bridge = self._bridges[key]
            if bridge.failure is not None:
                if key[2] != ORDINARY and not _finite(trace):
                    continue  # the claim is about finite values
                failure = NoProof(f"the traced program is not what ran ({key[2]} gradients): {bridge.failure}")
                if not bridge.blurred:
                    raise failure
                blurred.update(dict.fromkeys(bridge.blurred, failure))
            steps, worst = steps + bridge.steps, max(worst, bridge.worst)
        for output, failure in blurred.items():
            # What rounding decides in one run has to be compared in another one of the same program.
            if not any(output in bridge.sharp for bridge in self._bridges.values()):
                raise failure
        return {"runs": runs, "steps": steps, "worst": f"{worst:.3g}"}

    def _uncrossed(self, trace: Trace) -> int:
        """How many steps to re-execute, so that every path is crossed often enough; they are counted as done."""
        last = 0
        for number, step in enumerate(trace.steps, start=1):
            if self._bridged[step.program.digest] < CROSSINGS:
                self._bridged[step.program.digest] += 1
                last = number
        return last

    def _conditions_hold(self, proof: Proof, keys: Sequence[Any]) -> None:
        """NoProof if the proof assumes what does not hold on ordinary gradients, where the block's claim must hold."""
        for key in keys:
            trace = self._traces[key]
            if key[2] != ORDINARY or not isinstance(trace, Trace):
                continue
            for step in trace.steps:
                for condition in proof.conditions:
                    if not _holds(condition, step):
                        raise NoProof(
                            f"the proof assumes a {condition}, which ordinary {_size(key[0])} gradients do not have"
                        )

    def _proved(self, proofs: Sequence[Proof], keys: Sequence[Any], shapes: tuple[str, ...] = ()) -> Proved:
        traces = [trace for key in keys if isinstance(trace := self._traces[key], Trace)]
        return Proved(tuple(proofs), frozenset(s.program.digest for trace in traces for s in trace.steps), shapes)

    def excuses(self, proved: Proved, *runs: Inputs) -> str:
        """Why a proof does not cover these runs: a condition that fails there, or a path that it is not about.

        Empty if it covers them: then a counterexample among them contradicts it.
        """
        for inputs in runs:
            trace = record(self.candidate, inputs, arithmetic=EXACT, seed=self.seed)
            if trace.unsupported is not None or any(s.program.digest not in proved.paths for s in trace.steps):
                return ANOTHER_PATH
            for condition in proved.conditions:
                if not all(_holds(condition, step) for step in trace.steps):
                    return condition
        return ""


def _has_rows(shapes: Shapes) -> bool:
    return all(shape[0] > 1 for shape in shapes)


def _size(shapes: Shapes) -> str:
    return " + ".join("x".join(map(str, shape)) for shape in shapes)


def _mask(shapes: Shapes) -> tuple[tuple[bool, ...], ...]:
    return tuple(tuple(size > 1 for size in shape) for shape in shapes)


def _extent(shapes: Shapes) -> tuple[int, Shapes]:
    """Order of shapes by size. Blocks with the same shapes in another order have the same smallest one."""
    return abs(sum(math.prod(shape) for shape in shapes) - 15 * len(shapes)), shapes


def _wider(action: Action) -> tuple[Action, ...]:
    """Actions to prove instead, widest first: they contain this one, and are easier to say in laws."""
    inner = action.block if isinstance(action, ExpertAction) else action
    if not isinstance(inner, ProductAction) or not inner.is_orthogonal:
        return (action,)
    wider = [found for found in (_without_heads(inner), _untied(inner)) if found is not None]
    return (*(found.over_experts() if isinstance(action, ExpertAction) else found for found in wider), action)


def _without_heads(action: ProductAction) -> Action | None:
    """All rotations of the axes that are cut into heads, where no other tensor moves by an image of them."""
    cut = any(isinstance(group, Wreath) for _, group in action.variables)
    if not cut or any(factor.image for factors in action.factors for factor in factors):
        return None
    variables = tuple((name, O if isinstance(group, Wreath) else group) for name, group in action.variables)
    return ProductAction(action.tensors, variables, action.factors, action.shifts)


def _untied(action: ProductAction) -> Action | None:
    """Every tensor moved by an element of its own, and heads in any order, if that makes an action that laws describe
    out of one that they do not: images of variables, copies, heads that keep their places."""
    groups = dict(action.variables)
    plain = not any(factor.image for factors in action.factors for factor in factors)
    if plain and all(_permuted(group) == group for group in groups.values()):
        return None
    variables, rows = [], []
    for tensor, factors in zip(action.tensors, action.factors, strict=True):
        own = [(f"{tensor}.{f.axis}", _permuted(image_group(groups[f.variable], f.image)), f) for f in factors]
        variables += [(name, group) for name, group, _ in own]
        rows.append(tuple(Factor(name, f.axis, f.dual) for name, _, f in own))
    return ProductAction(action.tensors, tuple(variables), tuple(rows), action.shifts)


def _permuted(group: Group) -> Group:
    """A family that contains ``group``, with its heads and copies in any order and moved independently."""
    blocks, inner = 1, group
    while isinstance(inner, Pieces):
        blocks *= inner.blocks
        inner = inner.inner
    return group if blocks == 1 else Wreath(inner, Perm, blocks)


def _finite(trace: Trace) -> bool:
    return all(np.isfinite(value).all() for step in trace.steps for value in step.outputs.values())


def _holds(condition: str, step: Step) -> bool:
    """Whether a side condition holds in one traced step, for all factorisations that it is about."""
    op = {"simple": "eigh", "full": "qr"}.get(condition.split()[0], "")
    op = "svd" if "singular" in condition else op
    if not any(line.op == op for line in step.program.lines):
        return True
    values = interpret(step.program, step.constants, step.inputs, step.sizes)
    return all(
        isinstance(value, dict) and _simple(condition, value)
        for line, value in zip(step.program.lines, values, strict=True)
        if line.op == op
    )


def _simple(condition: str, parts: Mapping[str, Any]) -> bool:
    if condition.startswith("full rank"):
        diagonal = np.abs(np.diagonal(parts["r"], axis1=-2, axis2=-1))
        return bool((diagonal > GAP * max(diagonal.max(initial=0.0), 1e-300)).all())
    spectrum = np.sort(np.asarray(parts["values"] if "values" in parts else parts["s"]), axis=-1)
    top = max(float(np.abs(spectrum).max(initial=0.0)), 1e-300)
    positive = condition == "simple spectrum" or bool((spectrum > GAP * top).all())
    gaps = np.diff(spectrum, axis=-1) if condition.startswith("simple") else np.ones(0)
    return positive and bool((gaps > GAP * top).all())
