"""How every operation turns the laws of its operands into the law of its value (``docs/proof.md``, section 3)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from symcheck.kernel.axioms import BINARY, CONDITIONS, LINEAR_ALONG, NEITHER, ODD, SYMMETRIC, Behaviour, behaviour
from symcheck.kernel.document import Maybe, Reject, conform, flag, one_of, rational, text, upto
from symcheck.kernel.laws import EIGEN, FREE, INV, ISO, SPECTRAL, Context, Label, Law, Variable, merge, zero

NOISE = "in distribution over its random numbers"


@dataclass(frozen=True)
class Line:
    """One line of a certificate; ``gauge`` is the name and class that a factorisation introduces."""

    op: str
    ins: tuple[int, ...]
    at: Mapping[str, Any] = field(default_factory=dict)
    gauge: tuple[str, str] | None = None


def check_form(line: Line) -> None:
    """Reject unless the line has the attributes and the number of operands of its operation."""
    if line.op not in OPERATIONS:
        raise Reject(f"unknown operation {line.op!r}")
    _, count, form = OPERATIONS[line.op]
    conform(line.at, form, line.op)
    if len(line.ins) != count if count is not None else not line.ins:
        raise Reject(f"{line.op} of {len(line.ins)} operands")
    if line.gauge is not None and (line.op, line.gauge[1]) not in CONDITIONS:
        raise Reject(f"{line.op}: no gauge of class {line.gauge[1]!r}")
    for name in {"signs", "indices"} & form.keys():
        if len(line.at[name]) != len(line.ins):
            raise Reject(f"{line.op}: one of {name} for each operand")
    if line.op == "contract":
        _check_letters(line.at["indices"], line.at["out"])


def infer(context: Context, line: Line, laws: Sequence[Law], goal: Law | None = None) -> Any:
    """The law of a line (for a bundle, of its parts by name) from the laws of its operands; Reject if it has none.

    The line has the right form (`check_form`). Random numbers have the law ``goal``, if their distribution does.
    """
    if line.op == "random":
        return _random(context, line, goal)
    if not all(isinstance(law, Law) for law in laws) and line.op != "part":
        raise Reject(f"{line.op} of a value without a law")
    law = OPERATIONS[line.op][0](context, line, laws)
    return context.check(law) if isinstance(law, Law) else law


# -- sources, and what only moves entries ------------------------------------------------------------------------------


def _number(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    value, nonneg = line.at["value"], line.at["nonneg"]
    if value is not None and nonneg != (Fraction(value) >= 0):
        raise Reject("number: nonneg contradicts the value")
    return Law((), nonneg=nonneg)


def _random(context: Context, line: Line, goal: Law | None) -> Law:
    """Noise is drawn anew, so the gauges of this step may not depend on it, nor a variable on its index."""
    kind = line.at["distribution"]
    if goal is None or goal != Law(goal.axes) or len(goal.axes) != line.at["rank"]:
        raise Reject("random: its law has no characters and no facts")
    for label in goal.axes:
        still = label[0] == "vec" and label[1] in context.claimed and not label[4] and label[3] <= (kind != "iid")
        if label != INV and not (still and (kind == "normal" or not context.linear(label))):
            raise Reject(f"random: {kind} numbers are not moved so")
    context.conditions.add(NOISE)
    return goal


def _expand(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    new, (law,) = line.at["axes"], laws
    rank = len(law.axes) + len(new)
    if len(set(new)) != len(new) or any(place >= rank for place in new):
        raise Reject(f"expand: axes {new} of rank {rank}")
    old = iter(law.axes)
    return replace(law, axes=tuple(FREE if p in new else next(old) for p in range(rank)), sym=law.zero)


def _is_place(entry: Any) -> bool:
    """``["new"]``, or ``["batch", axis]``."""
    return entry == ["new"] or (type(entry) is list and entry[:-1] == ["batch"] and upto(64)(entry[-1]))


def _along(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    """A linear function of some axes is the sum of the products of its operands with constant arrays; any other one
    moves as a linear one does, where the operands are only permuted."""
    listed, linear = line.at["axes"], line.at["fn"] in LINEAR_ALONG
    out = [200 + place if entry == ["new"] else entry[-1] for place, entry in enumerate(line.at["out"])]
    new = [letter for letter in out if letter >= 200]
    batch = [axis for axis in range(len(laws[0].axes)) if axis not in listed[0]]
    if linear != line.at["linear"] or sorted({*out} - {*new}) != batch or len(listed) != len(laws):
        raise Reject(f"along: {line.at['fn']} of axes {listed} has no axes {line.at['out']}")
    parts = []
    for number, (law, own) in enumerate(zip(laws, listed, strict=True)):
        rest = [axis for axis in range(len(law.axes)) if axis not in own]
        if len(rest) != len(batch) or sorted([*rest, *own]) != [*range(len(law.axes))]:
            raise Reject(f"along: axes {own} of rank {len(law.axes)}")
        names = {axis: 100 + axis for axis in own} | dict(zip(rest, batch, strict=True))
        rows = [[names[axis] for axis in range(len(law.axes))], [*(names[axis] for axis in own), *new]]
        moved = law if linear else context.through(law, Behaviour(NEITHER, None, False))
        parts.append(_product(context, (number, -1), (moved, Law((INV,) * len(rows[1]))), rows, out))
    return _sum(parts)


# -- products and sums -------------------------------------------------------------------------------------------------


def _contract(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    return _product(context, line.ins, laws, line.at["indices"], line.at["out"])


def _product(
    context: Context, ins: Sequence[int], laws: Sequence[Law], rows: Sequence[Sequence[int]], out: Sequence[int]
) -> Law:
    """The sum over all letters not in ``out`` of the product of values; equal numbers ``ins`` are one value."""
    if [len(row) for row in rows] != [len(law.axes) for law in laws]:
        raise Reject(f"contract: indices {rows} do not fit the ranks")
    _check_letters(rows, out)
    if any(law.zero for law in laws):
        return zero(len(out))
    axes = [list(law.axes) for law in laws]
    for number, labels in enumerate(axes):
        row = rows[number]
        delta = [place for place, label in enumerate(labels) if label == ISO]
        if any(row[place] not in out for place in delta):  # sum over j of delta_ij x_j is x_i
            keep, drop = sorted((row[place] for place in delta), key=lambda letter: letter not in out)
            rows = [[keep if letter == drop else letter for letter in other] for other in rows]
            labels[delta[0]] = labels[delta[1]] = FREE
    found: dict[int, list[Label]] = {}
    ties: dict[int, tuple[frozenset[int], int]] = {}
    for labels, row in zip(axes, rows, strict=True):
        for label, letter in zip(labels, row, strict=True):
            found.setdefault(letter, []).append(label)
            tie = _tie(context, label, dict(zip(row, labels, strict=True)))
            if tie is not None and ties.setdefault(letter, tie) != tie:
                raise Reject("contract: values of different fibres meet, or the axes of a variable one by one")
    combined = {letter: context.product(labels) for letter, labels in found.items()}
    if any(letter in out and base not in (*out, -1) for letter, (_, base) in ties.items()):
        raise Reject("contract: a fibre outlives its base")
    if moved := [label for letter, label in combined.items() if letter not in out and not context.summable(label)]:
        raise Reject(f"contract: the sum over an index moved by {moved[0][-1] if moved[0] == ISO else moved[0][1]}")
    factors = list(zip(ins, laws, rows, strict=True))
    signed = [(number, list(row)) for number, law, row in factors if not law.nonneg]
    return Law(
        tuple(combined[letter] for letter in out),
        context.characters(laws),
        nonneg=all(signed.count(x) % 2 == 0 for x in signed),
        sym=_symmetric_product(factors, out),
    )


def _check_letters(rows: Sequence[Sequence[int]], out: Sequence[int]) -> None:
    if len(set(out)) != len(out) or not set(out) <= {letter for row in rows for letter in row}:
        raise Reject(f"contract: output {out}")


def _tie(context: Context, label: Label, axes: Mapping[int, Label]) -> tuple[frozenset[int], int] | None:
    """The letters that an index moves together with, and that of its base: x_ab y_ac mixes entries that one
    permutation of all (a, b) keeps apart, and what differs from head to head is summed within a head."""
    variable = context.of(label) if len(label) > 1 else Variable("none")
    if variable.axes <= 1 and variable.fibre is None:
        return None
    together = frozenset(i for i, x in axes.items() if variable.axes > 1 and x[1:2] == label[1:2])
    return together, next((i for i, x in axes.items() if x[:2] == ("vec", variable.fibre)), -1)


def _symmetric_product(factors: Sequence[tuple[int, Law, Sequence[int]]], out: Sequence[int]) -> bool:
    """Whether exchanging the last two indices of a product gives the same product."""
    summed = sorted({i for _, _, row in factors for i in row} - set(out))
    if len(out) < 2 or len(summed) > 3:
        return False

    def key(renaming: Mapping[int, int]) -> list[tuple[int, list[int]]]:
        rows = [(number, [renaming.get(i, i) for i in row], law) for number, law, row in factors]
        return sorted((n, r[:-2] + sorted(r[-2:]) if law.sym else r) for n, r, law in rows)

    swap = {out[-1]: out[-2], out[-2]: out[-1]}
    return any(key({**swap, **dict(zip(summed, p, strict=True))}) == key({}) for p in itertools.permutations(summed))


def _add(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    law = _sum(laws)
    return replace(law, nonneg=law.nonneg and (law.zero or -1 not in line.at["signs"]))


def _sum(laws: Sequence[Law]) -> Law:
    law = merge(laws)
    if all(law.zero for law in laws):
        return zero(len(law.axes))
    axes = tuple(("eig", label[1]) if label[0] == "eig1" else label for label in law.axes)
    return replace(law, axes=axes, sym=all(x.sym for x in laws), nonneg=all(x.nonneg for x in laws))


def _select(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    """``where(m, x, y)`` is ``m x + (1 - m) y`` for truth values ``m``."""
    mask, *chosen = laws
    yes = _function(context, "is_nonzero", [mask])
    row = range(len(mask.axes))
    masks = (yes, _function(context, "not", [yes]))
    return _sum([_product(context, (0, 1), pair, (row, row), row) for pair in zip(masks, chosen, strict=True)])


# -- functions of entries ----------------------------------------------------------------------------------------------


def _map(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    return _function(context, line.at["fn"], laws, [None if a is None else Fraction(a) for a in line.at["args"]])


def _function(context: Context, fn: str, laws: Sequence[Law], args: Sequence[Fraction | None] = ()) -> Law:
    how = behaviour(fn, args)
    law = merge(laws)
    if len(laws) != 1 + (fn in BINARY):
        raise Reject(f"map: {fn!r} of {len(laws)} operands")
    if how.vanishes and all(law.zero for law in laws):
        return zero(len(law.axes))
    diagonal = len(laws) == 1 and how.vanishes  # f(delta_ij x) = delta_ij f(x)
    moved = context.through(law, how, [a for a, label in enumerate(law.axes) if not (diagonal and label == ISO)])
    axes = tuple(_where_zero(fn, [x.axes[a][0] for x in laws], laws, label) for a, label in enumerate(moved.axes))
    nonneg = how.sign == ">=0" or (how.sign == "+" and all(x.nonneg for x in laws))
    return replace(moved, axes=axes, sym=all(x.sym for x in laws), nonneg=nonneg)


def _where_zero(fn: str, kinds: list[str], laws: Sequence[Law], label: Label) -> Label:
    """The label of a truth value along eigenspaces: it may be known where the spectrum is zero."""
    if (kinds == ["eig0"] and fn in ("not", "is_zero")) or (kinds == ["eig1"] and fn == "is_nonzero"):
        return ("eig1", label[1])
    if kinds == ["eig1"] and fn == "not":
        return ("eig0", label[1])
    for here, other, true, false in ((0, 1, "le", "gt"), (1, 0, "ge", "lt")):  # 0 <= b, b >= 0
        if fn in (true, false) and kinds[here] == "eig0" and laws[other].nonneg:
            return ("eig1" if fn == true else "eig0", label[1])
    return label


def _symmetric(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    (law,), fn, axes = laws, line.at["fn"], line.at["axes"]
    rest = [axis for axis in range(len(law.axes)) if axis not in axes]
    if not axes or sorted([*rest, *axes]) != [*range(len(law.axes))] or (fn == "sort" and len(axes) != 1):
        raise Reject(f"symmetric: {fn} of axes {axes}")
    if any(context.linear(law.axes[a]) or not context.summable(law.axes[a]) for a in axes):
        raise Reject("symmetric: an axis that is not only permuted")
    how = SYMMETRIC[fn]
    moved = context.through(law, how, rest)
    kept = (*(moved.axes[axis] for axis in rest), *[INV] * (fn == "sort"))
    return Law(kept, moved.scalars, nonneg=how.sign == ">=0" or law.nonneg)


# -- matrices ----------------------------------------------------------------------------------------------------------


def _matrix(context: Context, line: Line, law: Law) -> tuple[tuple[Label, ...], Label, Label]:
    """The batch labels and the two sides of a matrix that group elements multiply from the left and the right."""
    if len(law.axes) < 2 or law.zero or FREE in law.axes[-2:]:
        raise Reject(f"{line.op} of no matrix")
    variables = [context.of(label) for label in law.axes if len(label) > 1]
    fibres = {variable.fibre for variable in variables}
    left, right = (INV if label[0] in EIGEN else label for label in law.axes[-2:])
    vectors = [label for label in (left, right) if label[0] == "vec"]
    turned = [label for label in vectors if context.linear(label)]
    if any(label[2:4] != (0, 1) or context.of(label).kind == "partial" for label in turned):
        raise Reject(f"{line.op} of a matrix with axes that are no vectors")
    if any(v.axes != 1 for v in variables) or any(label[1] in fibres for label in vectors):
        raise Reject(f"{line.op} of a matrix that is not multiplied from the left and the right")
    return law.axes[:-2], left, right


def _dual(context: Context, label: Label) -> Label:
    return context.vec(label[1], label[2], label[3], -label[4]) if label[0] == "vec" else label


def _inverse(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    batch, left, right = _matrix(context, line, laws[0])
    law = context.through(laws[0], Behaviour(ODD, Fraction(-1), False), range(len(batch)))
    return replace(law, axes=(*law.axes[:-2], _dual(context, right), _dual(context, left)), sym=laws[0].sym)


def _expm(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    batch, left, right = _matrix(context, line, laws[0])
    law = context.through(laws[0], Behaviour(NEITHER, None, False), range(len(batch)))
    if right != _dual(context, left):
        raise Reject("expm: of a matrix that is not conjugated")
    return replace(law, axes=(*law.axes[:-2], left, right), sym=laws[0].sym)


def _factor(context: Context, line: Line, laws: Sequence[Law]) -> Any:
    """Laws of the parts of a factorisation; its gauge enters the context."""
    op, (law,) = line.op, laws
    batch, left, right = _matrix(context, line, law)
    if any(k for _, k, _ in law.scalars) or ISO in law.axes:
        raise Reject(f"{op}: of a value with a sign, or of delta")
    if len(batch) > 1 or any(not context.flags(x)[0] or x[3] or x[4] for x in batch):
        raise Reject(f"{op}: its batch axes are no labels")
    if op in ("eigh", "cholesky") and (not law.sym or left != right):
        raise Reject(f"{op}: of a matrix that is not known to be symmetric")
    if any(context.flags(side)[2] for side in ((left,) if op == "qr" else (left, right))):
        raise Reject(f"{op}: of a matrix that is not moved by rotations")
    gauge: Label = INV
    spectrum: Label = INV
    if line.gauge is not None:
        name, kind = line.gauge
        if name in context.variables:
            raise Reject(f"{op}: there is a {name!r} already")
        if (op, kind) == ("qr", "sign") and right != INV and context.of(right).kind != "sign":
            raise Reject("qr: up to signs only where the columns are not mixed")
        context.variables[name] = Variable(kind, 1, batch[0][1] if batch else None)
        context.conditions |= {CONDITIONS[op, kind]} - {""}
        gauge, spectrum = context.vec(name, 0, 1), ("eig0", name) if kind in SPECTRAL else INV
    elif left != INV or right != INV or law.scalars or op in ("eigh", "svd"):
        # Not even vectors of an invariant matrix are determined: in a repeated eigenvalue rounding chooses the basis.
        raise Reject(f"{op}: needs a gauge")
    first, second = Law((*batch, left, gauge)), Law((*batch, gauge, right))
    values = Law((*batch, spectrum), law.scalars)
    if op == "cholesky":
        return replace(first, scalars=tuple((n, k, e / 2) for n, k, e in law.scalars))
    if op == "qr":
        return {"q": first, "r": replace(second, scalars=law.scalars)}
    if op == "eigh":
        return {"values": values, "vectors": first}
    return {"u": first, "s": replace(values, nonneg=True), "vh": second}


def _part(context: Context, line: Line, laws: Sequence[Any]) -> Law:
    if not isinstance(laws[0], dict) or line.at["part"] not in laws[0]:
        raise Reject(f"no part {line.at['part']!r}")
    law: Law = laws[0][line.at["part"]]
    return law


AXES = [upto(64)]
OPERATIONS: dict[str, tuple[Any, int | None, Any]] = {
    "input": (None, 0, {"name": text}),
    "number": (_number, 0, {"value": Maybe(rational), "nonneg": flag}),
    "array": (lambda context, line, laws: Law((INV,) * line.at["rank"]), 0, {"rank": upto(64)}),
    "zero": (lambda context, line, laws: zero(line.at["rank"]), 0, {"rank": upto(64)}),
    "eye": (lambda context, line, laws: Law((ISO, ISO), sym=True, nonneg=True), 0, {}),
    "random": (_random, 0, {"rank": upto(64), "distribution": one_of("normal", "symmetric", "iid")}),
    "expand": (_expand, 1, {"axes": AXES}),
    "contract": (_contract, None, {"indices": [[upto(999)]], "out": [upto(999)], "mean": flag}),
    "add": (_add, None, {"signs": [one_of(1, -1)]}),
    "map": (_map, None, {"fn": text, "args": [Maybe(rational)]}),
    "select": (_select, 3, {}),
    "symmetric": (_symmetric, 1, {"fn": one_of(*SYMMETRIC), "axes": AXES}),
    "along": (_along, None, {"fn": text, "axes": [AXES], "out": [_is_place], "linear": flag}),
    "inverse": (_inverse, 1, {}),
    "expm": (_expm, 1, {}),
    **dict.fromkeys(("eigh", "svd", "qr", "cholesky"), (_factor, 1, {})),
    "part": (_part, 1, {"part": text}),
    "round": (lambda context, line, laws: laws[0], 1, {"dtype": text}),
    "coerce": (lambda context, line, laws: laws[0], 1, {}),
}
"""By operation: the rule, the number of operands (None: one or more), the form of the attributes."""
