"""Refutations: a run and its transformed twin that part at one entry, whatever the rounding (``docs/proof.md``, 6)."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from symcheck.kernel.document import Decline, Reject, anything, conform, flag, natural, one_of, rational, upto
from symcheck.kernel.element import act, along, read_labels, read_variables
from symcheck.kernel.evaluate import MAX_TERMS, Array, contract, evaluate, expand, numbers, without
from symcheck.kernel.interval import ZERO, add

SCHEMA = "symcheck.refutation/1"
SHIFTED = {"shift_equivariance": "weights", "shift_quotient": "weights", "shift_insensitivity": "gradients"}
TENSORS = [[rational]]
"""The entries of every tensor, in row-major order."""
REFUTATION = {
    "schema": one_of(SCHEMA),
    "claim": {
        "property": one_of(*SHIFTED, "equivariance", "horizontality"), "variables": anything, "tensors": [anything],
        "centred": flag,
    },
    "shapes": [[upto(MAX_TERMS)]], "weights": TENSORS, "gradients": [TENSORS], "element": anything, "shifts": [TENSORS],
    "steps": [{"lines": [anything], "outputs": {"*": natural}, "leaks": [natural]}],
    "differs": {"step": natural, "tensor": natural, "entry": [natural]},
}  # fmt: skip


class Refuted(NamedTuple):
    """An accepted refutation in words, and the conditions that its inputs satisfy."""

    statement: str
    conditions: tuple[str, ...]


class Inputs(NamedTuple):
    """Initial weights, and the gradients of every step."""

    weights: list[Array]
    grads: list[list[Array]]


class Run(NamedTuple):
    """The weights after each call, the constructor first, and the values that left the programs."""

    weights: list[list[Array]]
    leaks: list[Array]


def _run(steps: Sequence[Any], inputs: Inputs) -> Run:
    def named(kind: str, arrays: Sequence[Array]) -> dict[str, Array]:
        # Programs do not have the axes of size one.
        ones = [[axis for axis, n in enumerate(size) if n == 1] for size, _ in arrays]
        return {
            f"{kind}:{k}": (without(size, own), {without(index, own): x for index, x in entries.items()})
            for k, ((size, entries), own) in enumerate(zip(arrays, ones, strict=True))
        }

    run, state = Run([], []), named("weight", inputs.weights)
    shapes = [size for size, _ in inputs.weights]
    sizes = {name: weight[0] for name, weight in state.items()}
    ones = [[axis for axis, n in enumerate(shape) if n == 1] for shape in shapes]
    for number, step in enumerate(steps):
        values: list[Array] = []
        known = state | named("grad", inputs.grads[number - 1] if number else [])
        for line in step["lines"]:
            try:
                values.append(evaluate(line, values, known))
            except (Reject, Decline) as reason:
                raise type(reason)(f"step {number}, line {len(values)}: {reason}") from None
        outputs = step["outputs"]
        if max([*step["leaks"], *outputs.values()], default=0) >= len(values):
            raise Reject(f"step {number}: there is no such line")
        state = {name: values[line] for name, line in outputs.items()}
        if {name: x[0] for name, x in state.items() if not name.startswith("state:")} != sizes:
            raise Reject(f"step {number}: its outputs are not the weights, or one changes its shape")
        run.weights.append([expand(state[f"weight:{k}"], shapes[k], own) for k, own in enumerate(ones)])
        run.leaks.extend(values[line] for line in step["leaks"])
    return run


class Relation:
    """A property, and the transformation of the inputs for which it fails. Shifts are along the first axis."""

    def __init__(self, claim: Any, element: object, shifts: Sequence[Any], steps: int) -> None:
        self.name: str = claim["property"]
        self.centred, self.shifts = claim["centred"], shifts
        self.variables = read_variables(claim["variables"], element)
        self.labels = [read_labels(own, self.variables) for own in claim["tensors"]]
        if len(shifts) != {"weights": 1, "gradients": steps}.get(SHIFTED.get(self.name, ""), 0):
            raise Reject("shifts: one for the weights, or for the gradients of every step")
        if (self.variables and self.name != "equivariance") or (self.name == "horizontality" and not self.centred):
            raise Reject(f"claim: {self.name} has no variables, and horizontality is about centred gradients")
        if (self.centred or self.name in SHIFTED) and not all(self.labels):
            raise Reject("tensors: shifts need an axis")

    def __str__(self) -> str:
        tensors = [" x ".join("1" if a is None else a[0] + "*" * (a[2] < 0) for a in own) for own in self.labels]
        kinds = [f"{name} in {v.kind}{f' for each {v.fibre}' if v.fibre else ''}" for name, v in self.variables.items()]
        return self.name + (f" under {'; '.join(tensors)} for {', '.join(kinds)}" if kinds else "")

    def _moved(self, arrays: Sequence[Array], dual: bool) -> list[Array]:
        return [act(array, own, self.variables, dual) for array, own in zip(arrays, self.labels, strict=True)]

    def _shifted(self, arrays: Sequence[Array], shift: Sequence[Any]) -> list[Array]:
        if len(shift) != len(arrays):
            raise Reject("shifts: one row for each tensor")
        result = []
        for (size, entries), data in zip(arrays, shift, strict=True):
            row = numbers(data, size[1:])[1]
            result.append((size, {index: add(x, row[index[1:]]) for index, x in entries.items()}))
        return result

    def transform(self, inputs: Inputs) -> Inputs:
        """The inputs of the twin. Reject: gradients that are claimed to be centred are not."""
        weights, grads = self._moved(inputs.weights, False), [self._moved(own, True) for own in inputs.grads]
        for array in (x for own in (*inputs.grads, *grads) if self.centred for x in own):
            letters = range(len(array[0]))
            if set(contract([array], [letters], letters[1:])[1].values()) != {ZERO}:
                raise Reject("gradients: their sum along the first axis is not zero")
        if SHIFTED.get(self.name) == "weights":
            weights = self._shifted(weights, self.shifts[0])
        if SHIFTED.get(self.name) == "gradients":
            grads = [self._shifted(own, shift) for own, shift in zip(grads, self.shifts, strict=True)]
        return Inputs(weights, grads)

    def sides(self, plain: Run, twin: Run, which: int) -> tuple[Array, Array]:
        """What has to agree after the last step, for one tensor."""
        left, right = twin.weights[-1], plain.weights[-2 if self.name == "horizontality" else -1]
        if self.name == "equivariance":
            right = self._moved(right, False)
        if self.name == "shift_equivariance":
            right = self._shifted(right, self.shifts[0])
        if self.name not in ("shift_quotient", "horizontality"):
            return left[which], right[which]
        # The entries minus their mean along the first axis; or that mean.
        places, sign = range(left[which][0][0]), 1 if self.name == "horizontality" else -1
        mean = [[Fraction(sign, len(places)) + (sign < 0 and i == j) for j in places] for i in places]
        return along(left[which], [mean], [0]), along(right[which], [mean], [0])


def check_refutation(document: object) -> Refuted:
    """Accept a refutation, or raise Reject or Decline with the reason.

    Both runs use the same constants. That is right only if all values that left the program are the same, which is
    why it is declined unless they are, exactly.
    """
    conform(document, REFUTATION)
    data: Any = document
    shapes, claim, differs = data["shapes"], data["claim"], data["differs"]
    tensors = [data["weights"], *data["gradients"]]
    if any(len(own) != len(shapes) for own in (*tensors, claim["tensors"])) or len(tensors) != len(data["steps"]):
        raise Reject("one shape for each tensor, and one step for each gradient after the constructor")
    weights, *grads = ([numbers(own, shape) for own, shape in zip(all_, shapes, strict=True)] for all_ in tensors)
    relation = Relation(claim, data["element"], data["shifts"], len(grads))
    which, entry, step = differs["tensor"], tuple(differs["entry"]), differs["step"]
    if which >= len(shapes) or entry not in weights[which][1] or step != len(grads) or not grads:
        raise Reject(f"differs: no step {step}, or no entry {list(entry)}")
    steps = data["steps"]
    twin_inputs = relation.transform(Inputs(weights, grads))
    plain = _run(steps, Inputs(weights, grads))
    twin = plain if relation.name == "horizontality" else _run(steps, twin_inputs)
    for one, two in zip(plain.leaks, twin.leaks, strict=True):
        if one is not two and (one != two or any(low != high for low, high in one[1].values())):
            raise Decline("leaks: a value that left the program is not provably the same on both sides")
    (low, high), (least, most) = (own[1][entry] for own in relation.sides(plain, twin, which))
    gap = max(low - most, least - high)
    if gap <= 0:
        raise Reject(f"differs: entry {list(entry)} of tensor {which} may be the same on both sides after step {step}")
    size = gap.numerator.bit_length() - gap.denominator.bit_length() - 1
    return Refuted(
        f"{relation} is false: entry {list(entry)} of tensor {which} is off by more than 2^{size} after step {step}",
        ("gradients with zero sum along the first axis",) if relation.centred else (),
    )
