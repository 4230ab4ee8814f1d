"""From a counterexample of the search to a refutation that the kernel checks (``docs/proof.md``, section 6).

A search compares in floating point. What it found is executed again here: both runs are recorded, and their programs,
the inputs and the group element become a document in which every number is a fraction. The kernel evaluates it with
rigorous bounds and does not have to believe the search.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from groups import Action, ExpertAction, ProductAction, Wreath
from groups.group import Group
from symcheck.kernel.document import Decline, Reject, load
from symcheck.kernel.refutation import SCHEMA, check_refutation
from symcheck.probe.arithmetic import Arithmetic
from symcheck.probe.relation import Horizontality, Relation, ShiftGradients, ShiftWeights
from symcheck.probe.trajectory import CandidateError, CandidateLike, Inputs
from symcheck.probe.witness import read
from symcheck.prove.claims import WIDER, ClaimedAction, equivariance_claim
from symcheck.prove.errors import NoProof
from symcheck.trace.bridge import check_bridge
from symcheck.trace.program import Step, Trace
from symcheck.trace.session import record

MAX_ENTRIES = 64
"""Entries of one tensor: witnesses are shrunk, and larger ones take the kernel too long."""
MAX_STEPS = 16
"""Calls of ``step()``: recording many takes longer than the certainty is worth."""
MAX_TERMS = 4000
"""Products of fractions in a run and in moving its inputs; the kernel does about ten thousand in a second."""
_EXACT = Arithmetic(promote=True)


def refutation(
    candidate: CandidateLike, witness: Mapping[str, Any], *, centred: bool, seed: int = 0
) -> dict[str, Any] | None:
    """The refutation that the kernel accepts of what a witness shows, or None.

    Args:
        candidate: builds the optimizer.
        witness: the document of the search (``symcheck.probe.witness.describe``).
        centred: whether the question is about gradients with ``1^T G = 0``.
        seed: of the random numbers that the candidate draws.
    """
    try:
        return build(candidate, witness, centred=centred, seed=seed)
    except NoProof:
        return None


def build(candidate: CandidateLike, witness: Mapping[str, Any], *, centred: bool, seed: int = 0) -> dict[str, Any]:
    """As :func:`refutation`.

    Raises:
        NoProof: there is none; one line that says what stands in the way.
    """
    try:
        question, inputs, relation = read(witness)
    except ValueError as error:
        raise NoProof(str(error)) from error
    inputs = inputs.first(int(witness["step"]))
    if max(math.prod(shape) for shape in inputs.shapes) > MAX_ENTRIES or inputs.steps > MAX_STEPS:
        raise NoProof("the witness is too large")
    claimed = _claimed(question.name, question.action, inputs.shapes)
    first = _trace(candidate, inputs, claimed, seed)
    if _terms(first, claimed) > MAX_TERMS:
        raise NoProof("the computation is too long for exact arithmetic")
    traces = (first, _trace(candidate, relation.transform(inputs), claimed, seed))
    variables = claimed.claim.get("variables", [])
    shapes = [[size for size, _ in axes] for axes in claimed.axes]
    document = {
        "schema": SCHEMA,
        "claim": {
            "property": question.name,
            "variables": variables,
            "tensors": [[label for _, label in axes] for axes in claimed.axes],
            "centred": centred,
        },
        "shapes": shapes,
        "weights": [_numbers(weight) for weight in inputs.weights],
        "gradients": [
            [_centred(_numbers(grad), grad.shape[0]) if centred else _numbers(grad) for grad in grads]
            for grads in inputs.grads
        ],
        "element": _element(question.action.linear, witness["transformation"], variables),
        "shifts": _shifts(relation, inputs),
        "steps": _steps(*traces),
        "differs": {"step": inputs.steps, **_entry(relation, traces, shapes)},
    }
    try:
        check_refutation(load(json.dumps(document)))
    except (Reject, Decline) as reason:
        raise NoProof(f"the kernel did not accept the refutation: {reason}") from reason
    return document


# -- what is claimed --------------------------------------------------------------------------------------------------


def _claimed(name: str, action: Action, shapes: Sequence[tuple[int, ...]]) -> ClaimedAction:
    if name == "equivariance":
        for family in _families(action):
            if str(family) in WIDER:
                # The kernel would say of a larger group that it is not respected, which nobody asked.
                raise NoProof(f"the kernel has no class for {family}")
        return equivariance_claim(action, shapes)
    if any(len(shape) != 2 for shape in shapes):
        raise NoProof("shifts along the first axis only")
    return ClaimedAction({"property": name}, None, tuple(tuple((size, None) for size in shape) for shape in shapes))


def _families(action: Action) -> Iterator[Group]:
    """The families of the factors of an action, blocks taken apart."""
    inner = action.block if isinstance(action, ExpertAction) else action
    if isinstance(inner, ProductAction):
        groups = [group for _, group in inner.variables]
        while groups:
            group = groups.pop()
            yield group
            groups += [group.inner] if isinstance(group, Wreath) else []


def _element(
    action: Action, transformation: Mapping[str, Any], variables: Sequence[Mapping[str, Any]]
) -> dict[str, list[Any]]:
    """The matrices of every variable of the claim; a list with one for each index of its fibre."""
    if not variables:
        return {}
    data = transformation["element"]
    found: dict[str, list[Any]] = {}
    if isinstance(action, ExpertAction):
        found["experts"] = [data["experts"]]
        # The kernel moves the experts first: what acts at a place belongs to the expert that has come there.
        came = [row.index("1") for row in data["experts"]]
        parts = [data["inner"][expert]["matrices"] for expert in came]
        found |= {name: [part[name] for part in parts] for name in parts[0]}
    elif isinstance(action, ProductAction):
        for name, group in action.variables:
            matrix = data["matrices"][name]
            if isinstance(group, Wreath):
                top, blocks = _blocks(matrix, group.blocks)
                found |= {f"{name}.blocks": [top], name: blocks}
            else:
                found[name] = [matrix]
    wanted = {variable["name"]: found[variable["name"]] for variable in variables}
    if any(isinstance(x, float) for matrices in wanted.values() for rows in matrices for row in rows for x in row):
        raise NoProof("the group element is not exact")
    return wanted


def _blocks(matrix: Sequence[Sequence[Any]], count: int) -> tuple[Any, list[Any]]:
    """A permutation of blocks, and what acts on the one that has come to each place."""
    size = len(matrix) // count
    places = [range(k * size, (k + 1) * size) for k in range(count)]
    top, blocks = [], []
    for rows in places:
        parts = [[[matrix[i][j] for j in columns] for i in rows] for columns in places]
        (came,) = (k for k, part in enumerate(parts) if any(x not in ("0", 0.0) for row in part for x in row))
        top.append([str(int(k == came)) for k in range(count)])
        blocks.append(parts[came])
    return top, blocks


def _shifts(relation: Relation, inputs: Inputs) -> list[list[list[str]]]:
    """A row for each tensor, once for the weights or for the gradients of every step."""
    rows: Sequence[Sequence[Fraction]] = ()
    if isinstance(relation, ShiftWeights):
        rows = [relation.row]
    elif isinstance(relation, ShiftGradients):
        rows = [relation.rows[step % len(relation.rows)] for step in range(inputs.steps)]
    return [[[str(x) for x in row] for _ in inputs.shapes] for row in rows]


def _entry(relation: Relation, traces: Sequence[Trace], shapes: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Where the weights of the two runs part most, in floating point."""
    # Motion along the orbit is a matter of the last step alone; elsewhere steps add up, and may cancel.
    since = -1 if isinstance(relation, Horizontality) else 0
    plain, twin = (_displacement(trace, since) for trace in traces)
    gaps = [
        np.nan_to_num(np.abs((left - right).numpy()))
        for left, right in zip(relation.observe(twin), relation.predict(plain), strict=True)
    ]
    which = max(range(len(gaps)), key=lambda k: gaps[k].max())
    entry = np.unravel_index(int(gaps[which].argmax()), shapes[which])
    return {"tensor": which, "entry": [int(k) for k in entry]}


def _displacement(trace: Trace, since: int) -> tuple[torch.Tensor, ...]:
    names = [(f"weight:{number}", shape) for number, shape in enumerate(trace.shapes)]
    before, after = trace.steps[since].inputs, trace.steps[-1].outputs
    return tuple(torch.tensor(np.reshape(after[name] - before[name], shape)) for name, shape in names)


# -- numbers ----------------------------------------------------------------------------------------------------------


def _numbers(tensor: torch.Tensor | np.ndarray[Any, Any]) -> list[str]:
    """All entries, exactly."""
    try:
        return [str(Fraction(float(x))) for x in tensor.reshape(-1)]
    except (ValueError, OverflowError) as error:
        raise NoProof("a number is not finite") from error


def _centred(numbers: Sequence[str], rows: int) -> list[str]:
    """The entries of a matrix minus the mean of their column: what was centred in floating point is so to rounding."""
    exact, width = [Fraction(x) for x in numbers], len(numbers) // rows
    means = [sum(exact[column::width], Fraction(0)) / rows for column in range(width)]
    return [str(x - means[place % width]) for place, x in enumerate(exact)]


# -- programs ---------------------------------------------------------------------------------------------------------


def _terms(trace: Trace, claimed: ClaimedAction) -> int:
    """How many products the kernel evaluates in a run, and in moving its inputs."""
    terms = 0
    for step in trace.steps:
        for line, size in zip(step.program.lines, step.sizes, strict=True):
            letters: dict[int, int] = {}
            if line.op == "contract":
                for own, operand in zip(line.attributes["indices"], line.operands, strict=True):
                    letters |= dict(zip(own, step.sizes[operand], strict=True))
            terms += math.prod([*letters.values()] or size)
    for axes in claimed.axes:
        widths: dict[str, int] = {}
        for width, label in axes:
            if label is not None:  # the matrix of a variable acts on all its axes at once
                widths[label[0]] = widths.get(label[0], 1) * width
        terms += len(trace.steps) * math.prod(width for width, _ in axes) * sum(widths.values())
    return terms


def _steps(one: Trace, other: Trace) -> list[dict[str, Any]]:
    """The programs that both runs take, with the constants that both use. NoProof if they do not."""
    steps = []
    for step, twin in zip(one.steps, other.steps, strict=True):
        same = step.program.to_json() == twin.program.to_json() and list(step.sizes) == list(twin.sizes)
        if not same or any(not np.array_equal(x, twin.constants[line]) for line, x in step.constants.items()):
            raise NoProof("the two runs do not take the same path with the same constants")
        steps.append(_step(step))
    return steps


def _trace(candidate: CandidateLike, inputs: Inputs, claimed: ClaimedAction, seed: int) -> Trace:
    try:
        trace = record(candidate, inputs, splits=claimed.splits, arithmetic=_EXACT, seed=seed)
    except CandidateError as error:
        raise NoProof(str(error)) from error
    if trace.unsupported is not None:
        raise NoProof(str(trace.unsupported))
    bridge = check_bridge(trace, seed=seed)
    if bridge.failure is not None:
        raise NoProof(f"the traced program is not what ran: {bridge.failure}")
    return trace


def _step(step: Step) -> dict[str, Any]:
    data = step.program.to_json()
    for number, (line, size) in enumerate(zip(data["lines"], step.sizes, strict=True)):
        line["size"] = [] if size is None else list(size)
        if line["op"] == "map":
            line["at"].setdefault("args", [])
        if line["op"] == "array" or (line["op"] == "number" and line["at"]["value"] is None):
            line["values"] = _numbers(np.asarray(step.constants[number]))
    return data
