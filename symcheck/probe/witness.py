"""Witnesses: a refutation as data, its replay, and a script that anyone can run.

A witness holds the exact group element, the exact weights and gradients, the step at which the two sides part, and
both sides as they were computed. Numbers are strings of rationals, so that nothing is rounded on the way through JSON.
"""

from __future__ import annotations

import keyword
import pprint
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import torch

from groups import parse_action
from symcheck.errors import one_line
from symcheck.kernel.document import Reject, anything, conform, flag, natural, one_of, rational, text, upto
from symcheck.limits import MAX_SEED
from symcheck.probe.measure import Defect, Trial
from symcheck.probe.names import CONTRACTS
from symcheck.probe.relation import SIDES, Equivariance, Property, Relation
from symcheck.probe.trajectory import CandidateLike, Inputs

SCHEMA = "symcheck.witness/1"


def _real(data: object) -> bool:
    """A number of JSON, of a size that can be computed with."""
    return type(data) in (int, float) and -(2.0**1023) < data < 2.0**1023  # type: ignore[operator]


def _numbers(data: object) -> bool:
    """Lists and objects, nested at will, of rationals in strings; of plain numbers where an element is not exact."""
    todo = [data]
    while todo:
        part = todo.pop()
        if isinstance(part, list | dict):
            todo += part.values() if isinstance(part, dict) else part
        elif not (_real(part) or rational(part)):
            return False
    return True


_ANY = {"schema": one_of(SCHEMA), "target": text, "config": {"*": anything}, "seed?": upto(MAX_SEED), "*": anything}
_CONTRACT = {**_ANY, "property": one_of(*CONTRACTS)}
_FORM = {
    **_ANY,
    "block": text,
    "property": one_of(*SIDES),
    "action": text,
    "transformation": _numbers,
    "weights": [_numbers],
    "grads": [[_numbers]],
    "step": natural,
    "promoted?": flag,
    "unseen?": _real,
    "gauge?": flag,
}


def rationals(tensor: torch.Tensor) -> Any:
    """A tensor as nested lists of exact rationals in strings."""
    if tensor.dim() == 0:
        value = float(tensor)
        return str(Fraction(value)) if value - value == 0 else str(value)
    return [rationals(part) for part in tensor]


def tensor_of(data: Any) -> torch.Tensor:
    """The float64 tensor of nested lists of rationals.

    Raises:
        ValueError: an entry is not a rational, or the lists are ragged.
    """

    def floats(part: Any) -> Any:
        return [floats(item) for item in part] if isinstance(part, list) else float(Fraction(part))

    return torch.tensor(floats(data), dtype=torch.float64)


def describe(
    candidate: CandidateLike,
    config: Mapping[str, Any],
    block: str,
    question: Property,
    trial: Trial,
    defect: Defect,
    *,
    promoted: bool,
    unseen: float,
    gauge: bool,
    seed: int,
) -> dict[str, Any]:
    """The witness document of a refuting trial."""
    step = defect.step
    return {
        "schema": SCHEMA,
        "target": candidate.target,
        "config": dict(config),
        "block": block,
        "property": question.name,
        "action": str(question.action),
        "tensors": list(question.action.tensors),
        "exact": trial.relation.exact,
        "transformation": trial.relation.to_json(),
        "weights": [rationals(weight) for weight in trial.inputs.weights],
        "grads": [[rationals(grad) for grad in grads] for grads in trial.inputs.grads[:step]],
        "step": step,
        "sides": list(SIDES[question.name]),
        "left": [tensor.tolist() for tensor in trial.left[step - 1]],
        "right": [tensor.tolist() for tensor in trial.right[step - 1]],
        "defect": defect.value,
        "noise_floor": defect.floor,
        "promoted": promoted,
        "unseen": unseen,
        "gauge": gauge,
        "seed": seed,
    }


def check(witness: Mapping[str, Any]) -> None:
    """Compare a document with the form of a witness, before anything is computed from what it says.

    Raises:
        ValueError: the document is not a witness, or is damaged.
    """
    if witness.get("schema") != SCHEMA:
        raise ValueError(f"not a witness: its schema is {witness.get('schema')!r}, expected {SCHEMA!r}")
    try:
        conform(dict(witness), _CONTRACT if witness.get("property") in list(CONTRACTS) else _FORM, "witness")
    except Reject as reason:
        raise ValueError(f"damaged {reason}") from None


def read(witness: Mapping[str, Any]) -> tuple[Property, Inputs, Relation]:
    """The question, the inputs and the transformation that a witness document holds.

    Raises:
        ValueError: the document is not a witness, or is damaged.
    """
    check(witness)
    try:
        question = Property(witness["property"], parse_action(witness["action"]), centred=False)
        inputs = Inputs(
            tuple(map(tensor_of, witness["weights"])),
            tuple(tuple(map(tensor_of, grads)) for grads in witness["grads"]),
        )
        relation = question.from_json(witness["transformation"], inputs.shapes)
    except KeyError as error:
        raise ValueError(f"damaged witness/transformation: it has no {error}") from None
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"damaged witness: {error}") from None
    if not 1 <= witness["step"] <= inputs.steps:
        raise ValueError(f"damaged witness: step {witness['step']}, but there are gradients of {inputs.steps} steps")
    for number, grads in enumerate(inputs.grads):
        if tuple(tuple(grad.shape) for grad in grads) != inputs.shapes:
            raise ValueError(f"damaged witness/grads/{number}: their shapes are not those of the weights")
    return question, inputs, relation


_SCRIPT = """\
# {title}
import torch
{load}
def run(weights, steps):
    params = [torch.nn.Parameter(torch.tensor(w, dtype=torch.float64)) for w in weights]
    optimizer = Optimizer(params{arguments})
    for grads in steps:
        before = [p.detach().clone() for p in params]
        for p, g in zip(params, grads):
            p.grad = torch.tensor(g, dtype=torch.float64)
        optimizer.step()
    return [p.detach() - b for p, b in zip(params, before)]

W = {weights}
G = {grads}  # G[t][i]: step t, tensor i
{moved}
left, right = {left}, {right}
for a, b in zip(left, right):
    print("{name_left} =", a.tolist()); print("{name_right} =", b.tolist())
    print("largest difference:", float((a - b).abs().max()))
"""


def repro_script(witness: Mapping[str, Any]) -> str:
    """A short script that shows the witness with nothing but torch (and the candidate's own library) installed.

    Raises:
        ValueError: the document is not a witness, or is damaged.
    """
    if witness.get("property") in CONTRACTS:
        raise ValueError(
            f"a witness of the contract {witness['property']} is replayed, it has no script: symcheck replay"
        )
    question, inputs, relation = read(witness)
    moved = relation.transform(inputs)
    lines, left, right = _moved_lines(question, inputs, relation, moved)
    return _SCRIPT.format(
        title=one_line(
            f"{witness['target']} on {witness['block']}: {question.name} under {question.action} "
            f"fails at step {witness['step']}"
        ),
        load=_load_lines(str(witness["target"])),
        arguments="".join(f", {_name(key)}={value!r}" for key, value in witness["config"].items()),
        weights=_literal([rationals(weight) for weight in inputs.weights]),
        grads=_literal([[rationals(grad) for grad in grads] for grads in inputs.grads]),
        moved="\n".join(lines),
        left=left,
        right=right,
        name_left=SIDES[question.name][0],
        name_right=SIDES[question.name][1],
    )


def _moved_lines(question: Property, inputs: Inputs, relation: Relation, moved: Inputs) -> tuple[list[str], str, str]:
    """The lines that define the transformed inputs, and the two sides as expressions."""
    if question.name == "horizontality":
        return [], "[u.mean(-2) for u in run(W, G)]", "[0 * u.mean(-2) for u in run(W, G)]"
    lines = [
        f"gW = {_literal([rationals(weight) for weight in moved.weights])}",
        f"gG = {_literal([[rationals(grad) for grad in grads] for grads in moved.grads])}",
    ]
    if isinstance(relation, Equivariance):
        lines.append(
            f"rho = {_literal([rationals(matrix) for matrix in _matrices(inputs, relation)])}  # g on flattened tensors"
        )
        acted = "[(torch.tensor(r, dtype=torch.float64) @ u.flatten()).view_as(u) for r, u in zip(rho, run(W, G))]"
        return lines, "run(gW, gG)", acted
    if question.name == "shift_quotient":
        centre = "[u - u.mean(-2, keepdim=True) for u in run({})]"
        return lines, centre.format("gW, gG"), centre.format("W, G")
    return lines, "run(gW, gG)", "run(W, G)"


def _matrices(inputs: Inputs, relation: Equivariance) -> list[torch.Tensor]:
    """The linear map of each tensor on its flattened entries, read off the basis."""
    maps = []
    for index, weight in enumerate(inputs.weights):
        columns = []
        for entry in range(weight.numel()):
            basis = [torch.zeros_like(other) for other in inputs.weights]
            basis[index].view(-1)[entry] = 1.0
            columns.append(relation.element.act_linear(tuple(basis))[index].reshape(-1))
        maps.append(torch.stack(columns, dim=1))
    return maps


def _literal(data: Any) -> str:
    """Nested lists of rational strings as Python source: ``[[3/5, 0]]``; long decimals where the rational is
    unwieldy."""

    def shown(part: Any) -> Any:
        return [shown(item) for item in part] if isinstance(part, list) else _Bare(part)

    return pprint.pformat(shown(data), width=112, compact=True)


class _Bare:
    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        if len(self.text) <= 12:
            return self.text
        value = float(Fraction(self.text))
        near = Fraction(value).limit_denominator(1000)
        # 3/5 is not a float64; the closest small fraction is written where it rounds to the very same number.
        return str(near) if float(near) == value else repr(value)


def _name(text: str) -> str:
    """``text`` if it is a dotted name. Nothing else of a witness is written into a script as it stands."""
    if not all(part.isidentifier() and not keyword.iskeyword(part) for part in text.split(".")):
        raise ValueError(f"damaged witness: {text!r} is no name")
    return text


def _load_lines(target: str) -> str:
    if target.startswith("rule:"):
        return f"from reference.optimizers import OPTIMIZERS\nOptimizer = OPTIMIZERS[{target[5:]!r}]"
    if ".py:" in target:
        path, _, name = target.rpartition(":")
        return (
            f"import importlib.util\nspec = importlib.util.spec_from_file_location('candidate', {path!r})\n"
            f"module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
            f"Optimizer = module.{_name(name)}"
        )
    module, _, name = target.rpartition(":" if ":" in target else ".")
    first, _, inner = _name(name).partition(".")
    return f"from {_name(module)} import {first} as Optimizer" + (f"\nOptimizer = Optimizer.{inner}" if inner else "")
