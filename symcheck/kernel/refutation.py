"""Refutations: a run and its transformed twin that part at one entry, whatever the rounding (``docs/proof.md``, 6)."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from symcheck.kernel.document import Decline, Reject, fields, flag, integer, items, text
from symcheck.kernel.element import act, along, read_labels, read_variables
from symcheck.kernel.evaluate import MAX_TERMS, Array, contract, evaluate, expand, integers, numbers
from symcheck.kernel.interval import ZERO, Interval, add

SCHEMA = "symcheck.refutation/1"
SHIFTED = {"shift_equivariance": "weights", "shift_quotient": "weights", "shift_insensitivity": "gradients"}


class Refuted(NamedTuple):
    """An accepted refutation in words, and the conditions that its inputs satisfy."""

    statement: str
    conditions: tuple[str, ...]


class Inputs(NamedTuple):
    """Initial weights, and the gradients of every step."""

    weights: list[Array]
    grads: list[list[Array]]


class Run(NamedTuple):
    """The weights after each call, the constructor first, and all values that left the program."""

    weights: list[list[Array]]
    leaks: list[Interval]


def _squeeze(array: Array) -> Array:
    return tuple(n for n in array[0] if n != 1), array[1]


def _run(steps: Sequence[Any], inputs: Inputs) -> Run:
    state = {f"weight:{k}": _squeeze(weight) for k, weight in enumerate(inputs.weights)}
    shapes = {name: size for name, (size, _) in state.items()}
    run = Run([], [])
    for number, data in enumerate(steps):
        step = fields(data, {"lines", "outputs", "leaks"}, at=f"step {number}")
        grads = inputs.grads[number - 1] if number else []
        known = state | {f"grad:{k}": _squeeze(grad) for k, grad in enumerate(grads)}
        values: list[Array] = []
        for line in items(step["lines"], at=f"step {number}"):
            try:
                fields(line, {"op", "in", "size"}, {"at", "values"}, at="line")
                values.append(evaluate(line, values, known))
            except (Reject, Decline) as reason:
                raise type(reason)(f"step {number}, line {len(values)}: {reason}") from None
        last, at = len(values) - 1, f"step {number}, outputs"
        outputs = step["outputs"]
        others = {name for name in outputs if name.startswith("state:")} if type(outputs) is dict else set()
        fields(outputs, shapes.keys(), others, at=at)
        state = {name: values[integer(line, 0, last, at=at)] for name, line in outputs.items()}
        if any(state[name][0] != size for name, size in shapes.items()):
            raise Reject(f"{at}: a weight changes its shape")
        run.weights.append([(weight[0], state[f"weight:{k}"][1]) for k, weight in enumerate(inputs.weights)])
        run.leaks.extend(
            x for line in integers(step["leaks"], 0, last, f"step {number}, leaks") for x in values[line][1]
        )
    return run


def _arrays(data: object, shapes: Sequence[Sequence[int]], at: str) -> list[Array]:
    return [numbers(own, shape, at) for own, shape in zip(items(data, len(shapes), at=at), shapes, strict=True)]


class Relation:
    """A property, and the transformation of the inputs for which it fails."""

    def __init__(self, claim: object, shapes: Sequence[Sequence[int]], element: object, shifts: object, steps: int):
        data = fields(claim, {"property", "variables", "tensors", "shift", "centred"}, at="claim")
        self.name = text(data["property"], {*SHIFTED, "equivariance", "horizontality"}, at="property")
        self.variables = read_variables(data["variables"], element)
        self.labels = [read_labels(own, self.variables) for own in items(data["tensors"], len(shapes), at="tensors")]
        self.axes = [
            None if axis is None else integer(axis, 0, len(shape) - 1, at="shift")
            for axis, shape in zip(items(data["shift"], len(shapes), at="shift"), shapes, strict=True)
        ]
        self.shifts = items(shifts, {"weights": 1, "gradients": steps}.get(SHIFTED.get(self.name, ""), 0), at="shifts")
        self.centred = flag(data["centred"], at="centred")
        if (self.variables and self.name != "equivariance") or (self.name == "horizontality" and not self.centred):
            raise Reject(f"claim: {self.name} has no variables, and horizontality is about centred gradients")

    def __str__(self) -> str:
        if self.name != "equivariance":
            return self.name
        tensors = [" x ".join("1" if a is None else a[0] + "*" * (a[2] < 0) for a in own) for own in self.labels]
        kinds = [f"{name} in {v.kind}{f' for each {v.fibre}' if v.fibre else ''}" for name, v in self.variables.items()]
        return f"equivariance under {'; '.join(tensors)} for {', '.join(kinds)}"

    def _moved(self, arrays: Sequence[Array], dual: bool) -> list[Array]:
        return [act(array, own, self.variables, dual) for array, own in zip(arrays, self.labels, strict=True)]

    def _shifted(self, arrays: Sequence[Array], shift: object) -> list[Array]:
        result = []
        for (size, entries), axis, data in zip(arrays, self.axes, items(shift, len(arrays), at="shifts"), strict=True):
            if axis is not None:
                row = numbers(data, [n for k, n in enumerate(size) if k != axis], "shifts")
                entries = [add(x, c) for x, c in zip(entries, expand(row, size, [axis])[1], strict=True)]
            elif data is not None:
                raise Reject("shifts: a tensor that does not move has null")
            result.append((size, entries))
        return result

    def transform(self, inputs: Inputs) -> Inputs:
        """The inputs of the twin. Reject: gradients that are claimed to be centred are not."""
        weights, grads = self._moved(inputs.weights, False), [self._moved(own, True) for own in inputs.grads]
        for own in (*inputs.grads, *grads) if self.centred else ():
            for array, axis in zip(own, self.axes, strict=True):
                places = range(len(array[0]))
                if axis is not None and set(contract([array], [places], [k for k in places if k != axis])[1]) != {ZERO}:
                    raise Reject("gradients: their sum along the shifted axis is not zero")
        if self.name == "shift_insensitivity":
            grads = [self._shifted(own, shift) for own, shift in zip(grads, self.shifts, strict=True)]
        return Inputs(self._shifted(weights, self.shifts[0]) if SHIFTED.get(self.name) == "weights" else weights, grads)

    def sides(self, plain: Run, twin: Run, which: int) -> tuple[Array, Array]:
        """What has to agree after the last step, for one tensor."""
        left, right = twin.weights[-1], plain.weights[-1 if self.name != "horizontality" else -2]
        if self.name == "equivariance":
            right = self._moved(right, False)
        if self.name == "shift_equivariance":
            right = self._shifted(right, self.shifts[0])
        if self.name not in ("shift_quotient", "horizontality"):
            return left[which], right[which]
        # Minus the mean along the axis; or that mean.
        axis = integer(self.axes[which], 0, MAX_TERMS, at="differs: shifted axis")
        places, sign = range(left[which][0][axis]), 1 if self.name == "horizontality" else -1
        mean = [Fraction(sign, len(places)) + (sign < 0 and i == j) for i in places for j in places]
        matrix = [(x, x) for x in mean]
        return along(left[which], matrix, [axis]), along(right[which], matrix, [axis])


def check_refutation(document: object) -> Refuted:
    """Accept a refutation, or raise Reject or Decline with the reason.

    Both runs use the same constants. That is right only if all values that left the program are the same, which is
    why it is declined unless they are, exactly.
    """
    names = {"schema", "claim", "shapes", "weights", "gradients", "element", "shifts", "steps", "differs"}
    data = fields(document, names)
    text(data["schema"], {SCHEMA}, at="schema")
    shapes = [integers(own, 1, MAX_TERMS, "shapes") for own in items(data["shapes"], at="shapes")]
    grads = [_arrays(own, shapes, "gradients") for own in items(data["gradients"], at="gradients")]
    inputs = Inputs(_arrays(data["weights"], shapes, "weights"), grads)
    relation = Relation(data["claim"], shapes, data["element"], data["shifts"], len(grads))
    steps = items(data["steps"], len(grads) + 1, at="steps")
    differs = fields(data["differs"], {"step", "tensor", "entry"}, at="differs")
    step = integer(differs["step"], max(1, len(grads)), len(grads), at="differs, step")
    which = integer(differs["tensor"], 0, len(shapes) - 1, at="differs, tensor")
    place, entry = 0, items(differs["entry"], len(shapes[which]), at="differs, entry")
    for n, index in zip(shapes[which], entry, strict=True):
        place = n * place + integer(index, 0, n - 1, at="differs, entry")
    moved = relation.transform(inputs)
    plain = _run(steps, inputs)
    twin = plain if relation.name == "horizontality" else _run(steps, moved)
    if twin is not plain and any(x != y or x[0] != x[1] for x, y in zip(plain.leaks, twin.leaks, strict=True)):
        raise Decline("leaks: a value that left the program is not provably the same on both sides")
    (low, high), (least, most) = (own[1][place] for own in relation.sides(plain, twin, which))
    gap = max(low - most, least - high)
    if gap <= 0:
        raise Reject(f"differs: entry {entry} of tensor {which} after step {step} may be the same on both sides")
    size = gap.numerator.bit_length() - gap.denominator.bit_length() - 1
    return Refuted(
        f"{relation} is false: entry {entry} of tensor {which} is off by more than 2^{size} after step {step}",
        ("gradients with zero sum along the shifted axis",) if relation.centred else (),
    )
