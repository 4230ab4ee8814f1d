"""How every operation turns the laws of its operands into the law of its value (``docs/proof.md``, section 3)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from symcheck.kernel import axioms
from symcheck.kernel.axioms import CONDITIONS, NEITHER, ODD
from symcheck.kernel.document import Reject, fields, flag, fraction, integer, items, text
from symcheck.kernel.laws import (
    CORE,
    EIGEN,
    FREE,
    FULL,
    INV,
    ISO,
    LOOSE,
    Context,
    Label,
    Law,
    Variable,
    common_zero,
    merge,
    zero,
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One line of a certificate; ``gauge`` is the name and class that a factorisation introduces."""

    op: str
    ins: tuple[int, ...]
    at: Mapping[str, Any] = field(default_factory=dict)
    gauge: tuple[str, str] | None = None


def infer(context: Context, line: Line, laws: Sequence[Law]) -> Any:
    """The law of a line (for a bundle, of its parts by name) from the laws of its operands; Reject if it has none."""
    rule, count, names = RULES.get(line.op, (None, 0, ""))
    if rule is None:
        raise Reject(f"unknown operation {line.op!r}")
    if len(laws) != count if count is not None else not laws:
        raise Reject(f"{line.op} of {len(laws)} operands")
    fields(dict(line.at), set(names.split()), at=line.op)
    return rule(context, line, laws)


def places(line: Line) -> list[int]:
    """The new axes of an ``expand`` line."""
    return [integer(place, 0, 64, at="expand") for place in items(line.at.get("axes"), at="expand")]


def signs(line: Line) -> list[int]:
    """The signs of an ``add`` line."""
    found = [integer(s, -1, 1, at="add") for s in items(line.at.get("signs"), len(line.ins), at="add")]
    if 0 in found:
        raise Reject("add: sign 0")
    return found


def letters(line: Line, ranks: Sequence[int]) -> tuple[list[list[int]], list[int]]:
    """The index letters of a ``contract`` line, checked against the ranks of its operands."""
    *rows, out = (
        [integer(i, 0, 999, at="contract") for i in items(row, at="contract")]
        for row in (*items(line.at.get("indices"), at="contract"), line.at.get("out"))
    )
    flag(line.at.get("mean"), at="contract")
    if [len(row) for row in rows] != list(ranks) or not rows:
        raise Reject(f"contract: indices {rows} for ranks {list(ranks)}")
    if len(set(out)) != len(out) or not set(out) <= {i for row in rows for i in row}:
        raise Reject(f"contract: output {out}")
    return rows, out


# -- sources, and what only moves entries ------------------------------------------------------------------------------


def _number(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    value, nonneg = line.at["value"], flag(line.at["nonneg"], at="number")
    if value is not None and nonneg != (fraction(value, at="number") >= 0):
        raise Reject("number: nonneg contradicts the value")
    return Law((), nonneg=nonneg)


def _constant(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    if line.op == "eye":
        return Law((ISO, ISO), sym=True, nonneg=True)
    rank = integer(line.at["rank"], 0, 64, at=line.op)
    return zero(rank) if line.op == "zero" else Law((INV,) * rank)


def _expand(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    new = places(line)
    rank = len(laws[0].axes) + len(new)
    if len(set(new)) != len(new) or any(place >= rank for place in new):
        raise Reject(f"expand: axes {new} of rank {rank}")
    old = iter(laws[0].axes)
    return replace(laws[0], axes=tuple(FREE if p in new else next(old) for p in range(rank)), sym=laws[0].zero)


def _along(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    fn, linear = text(line.at["fn"], at="along"), flag(line.at["linear"], at="along")
    if linear != (fn in axioms.LINEAR_ALONG):
        raise Reject(f"along: {fn} is {'not ' if linear else ''}linear")
    batches: list[Law] = []
    ids: list[int] = []
    for law, listed in zip(laws, items(line.at["axes"], len(laws), at="along"), strict=True):
        own = [integer(a, 0, len(law.axes) - 1, at="along") for a in items(listed, at="along")]
        still = all(law.axes[a][0] in ("inv", "free", *EIGEN) for a in own) and ISO not in law.axes
        if len(set(own)) != len(own) or not still:
            raise Reject(f"along: {fn} acts on an axis that moves")
        rest = [a for a in range(len(law.axes)) if a not in own]
        ids = ids or rest
        batches.append(Law(tuple(law.axes[a] for a in rest), law.scalars))
    batch = merge(batches)
    batch = replace(batch, axes=tuple(("eig", x[1]) if x[0] in EIGEN else x for x in batch.axes))
    if not linear:
        batch = context.through(batch, NEITHER, None)
    entries = [None if e == ["new"] else items(e, 2, at="along") for e in items(line.at["out"], at="along")]
    old = [integer(e[1], 0, 64, at="along") for e in entries if e]
    if sorted(old) != ids or any(e and e[0] != "batch" for e in entries):
        raise Reject(f"along: output axes {entries}")
    axes = tuple(batch.axes[ids.index(e[1])] if e else INV for e in entries)
    if linear and all(law.zero for law in laws):
        return zero(len(axes))
    return context.check(Law(axes, batch.scalars))


def _round(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    text(line.at["dtype"], at="round")
    return laws[0]


# -- products and sums -------------------------------------------------------------------------------------------------


def _contract(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    rows, out = letters(line, [len(law.axes) for law in laws])
    if any(law.zero for law in laws):
        return zero(len(out))
    axes = [list(law.axes) for law in laws]
    for number, labels in enumerate(axes):
        if ISO in labels:  # sum over j of delta_ij x_j is x_i
            one, two = (p for p, label in enumerate(labels) if label == ISO)
            keep, drop = sorted((rows[number][one], rows[number][two]), key=lambda letter: letter not in out)
            if keep == drop or drop not in out:
                labels[one] = labels[two] = FREE
                rows = [[keep if i == drop else i for i in row] for row in rows]
            elif rows[number].count(keep) + rows[number].count(drop) > 2 or any(
                letter in (keep, drop) and label != FREE
                for other, row in enumerate(rows)
                for letter, label in zip(row, axes[other], strict=True)
                if other != number
            ):
                raise Reject("contract: delta shares an index with another factor")
    found: dict[int, list[Label]] = {}
    bases: dict[int, set[int]] = {}
    subs: dict[str, set[tuple[int, int]]] = {}
    for labels, row in zip(axes, rows, strict=True):
        for label, letter in zip(labels, row, strict=True):
            found.setdefault(letter, []).append(label)
            variable = context.of(label) if label[0] in ("vec", *EIGEN) else None
            if variable and variable.axes > 1:
                subs.setdefault(label[1], set()).add((label[2], letter))
            if variable and variable.fibre is not None:
                base = [r for r, other in zip(row, labels, strict=True) if other[:2] == ("vec", variable.fibre)]
                bases.setdefault(letter, set()).update(base)
    combined = {letter: context.product(labels) for letter, labels in found.items()}
    if any(len(pairs) != context.variables[name].axes for name, pairs in subs.items()):
        # x_ab y_ac mixes entries that one permutation of all (a, b) keeps apart
        raise Reject("contract: the axes of a variable are contracted one by one")
    if any(len(base) != 1 or (letter in out and not base <= set(out)) for letter, base in bases.items()):
        raise Reject("contract: values of different fibres meet")
    if moved := [label for letter, label in combined.items() if letter not in out and not context.summable(label)]:
        raise Reject(f"contract: the sum over an index moved by {moved[0][-1] if moved[0] == ISO else moved[0][1]}")
    factors = list(zip(line.ins, laws, rows, strict=True))
    signed = [(number, row) for number, law, row in factors if not law.nonneg]
    facts = {"nonneg": all(signed.count(x) % 2 == 0 for x in signed), "sym": _symmetric_product(factors, out)}
    return context.check(Law(tuple(combined[letter] for letter in out), context.scalars(laws), **facts))


def _symmetric_product(factors: list[tuple[int, Law, list[int]]], out: list[int]) -> bool:
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
    positive = -1 not in signs(line)
    if all(law.zero for law in laws):
        return common_zero(laws)
    law = merge(laws)
    axes = tuple(("eig", label[1]) if label[0] == "eig1" else label for label in law.axes)
    return replace(law, axes=axes, sym=all(x.sym for x in laws), nonneg=positive and all(x.nonneg for x in laws))


# -- functions of entries ----------------------------------------------------------------------------------------------


def _map(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    fn = text(line.at["fn"], at="map")
    args = [None if a is None else fraction(a, at="map") for a in items(line.at["args"], at="map")]
    count = axioms.PARAMETERS.get(fn, 0)
    bound = args[0] if args and fn in ("clamp_symmetric", "softshrink", "hardshrink") else 0
    if len(args) != count or (None in args and fn != "clamp") or bound is None or bound < 0:
        raise Reject(f"map: {fn!r} of {args}")
    how = axioms.behaviour(fn, args)
    if how is None or len(laws) != 1 + (fn in axioms.BINARY):
        raise Reject(f"map: {fn!r} of {len(laws)} operands is unknown")
    parity, degree, vanishes = how
    if vanishes and all(law.zero for law in laws):
        return common_zero(laws)
    diagonal = len(laws) == 1 and vanishes and ISO in laws[0].axes  # f(delta_ij x) = delta_ij f(x)
    rest = [a for a, label in enumerate(laws[0].axes) if not (diagonal and label == ISO)]
    law = context.through(merge(laws), parity, degree, rest)
    axes = tuple(_null(fn, [x.axes[a] for x in laws], laws, label, vanishes) for a, label in enumerate(law.axes))
    known = [x.nonneg for x in laws]
    nonneg = (
        fn in axioms.NON_NEGATIVE
        or (fn in axioms.SIGN_PRESERVING and known[0])
        or (fn == "power" and (parity != ODD or known[0]))
        or (fn == "clamp" and args[0] is not None and all(a is None or a >= 0 for a in args))
        or (fn == "maximum" and any(known))
        or (fn == "minimum" and all(known))
    )
    return replace(law, axes=axes, sym=all(x.sym for x in laws), nonneg=nonneg)


def _null(fn: str, labels: list[Label], laws: Sequence[Law], label: Label, vanishes: bool) -> Label:
    """What is known about a function of values along the spectrum where the spectrum is zero."""
    if label[0] not in EIGEN:
        return label
    kinds = [x[0] for x in labels]
    if len(laws) == 2:
        for a, (true, false) in enumerate((("le", "gt"), ("ge", "lt"))):  # 0 <= b, b >= 0
            if kinds[a] == "eig0" and laws[1 - a].nonneg and fn in (true, false):
                return ("eig1" if fn == true else "eig0", label[1])
    if (set(kinds) == {"eig0"} and vanishes) or (kinds == ["eig1"] and fn == "not"):
        return ("eig0", label[1])
    return ("eig1" if kinds == ["eig0"] and fn in ("not", "is_zero") else "eig", label[1])


def _select(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    mask, one, two = laws
    law = merge([one, two])
    if mask.scalars or len(mask.axes) != len(law.axes):
        raise Reject("select: the mask has a character or another rank")
    axes: list[Label] = []
    for m, a, b, label in zip(mask.axes, one.axes, two.axes, law.axes, strict=True):
        if m == FREE:
            axes.append(label)
        elif label[0] in EIGEN and m[0] in EIGEN and m[1] == label[1]:
            chosen = {"eig0": {b[0]}, "eig1": {a[0]}}.get(m[0], {a[0], b[0]})  # where the spectrum is zero
            axes.append((chosen.pop() if len(chosen) == 1 else "eig", label[1]))
        elif label == ISO or (m[0] == "vec" and (context.linear(m) or m[3] or m[4] or label == FREE)):
            raise Reject("select: a mask that moves")
        else:
            m = ("eig", m[1]) if m[0] in EIGEN else m
            axes.append(INV if label == FREE else context.product([m, label]))
    facts = {"sym": all(x.sym for x in laws), "nonneg": one.nonneg and two.nonneg}
    return context.check(Law(tuple(axes), law.scalars, **facts))


def _symmetric(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    (law,), fn = laws, text(line.at["fn"], set(axioms.SYMMETRIC), at="symmetric")
    axes = [integer(a, 0, len(law.axes) - 1, at="symmetric") for a in items(line.at["axes"], at="symmetric")]
    if len(set(axes)) != len(axes) or not axes or (fn == "sort" and len(axes) != 1):
        raise Reject(f"symmetric: {fn} of axes {axes}")
    if any(context.linear(law.axes[a]) or not context.summable(law.axes[a]) for a in axes):
        raise Reject("symmetric: an axis that is not only permuted")
    rest = [a for a in range(len(law.axes)) if a not in axes]
    moved = context.through(law, *axioms.SYMMETRIC[fn], rest)
    kept = tuple(("eig", x[1]) if x[0] in EIGEN else x for x in (moved.axes[a] for a in rest))
    result = Law(kept + ((INV,) if fn == "sort" else ()), moved.scalars, nonneg=law.nonneg or fn in ("any", "all"))
    return context.check(result)


# -- matrices ----------------------------------------------------------------------------------------------------------


def _matrix(context: Context, line: Line, law: Law) -> tuple[tuple[Label, ...], Label, Label]:
    """The batch labels and the two sides of a matrix that group elements multiply from the left and the right."""
    if len(law.axes) < 2 or law.zero or FREE in law.axes[-2:]:
        raise Reject(f"{line.op} of no matrix")
    variables = [context.of(label) for label in law.axes if label[0] in ("vec", *EIGEN)]
    fibres = {variable.fibre for variable in variables}
    left, right = (INV if label[0] in EIGEN else label for label in law.axes[-2:])
    whole = all(label[2:4] == (FULL, 1) for label in (left, right) if context.linear(label))
    if any(v.axes != 1 for v in variables) or any(x[0] == "vec" and x[1] in fibres for x in (left, right)) or not whole:
        raise Reject(f"{line.op} of a matrix that is not multiplied from the left and the right")
    return law.axes[:-2], left, right


def _dual(context: Context, label: Label) -> Label:
    return context.vec(label[1], label[2], label[3], -label[4]) if label[0] == "vec" else label


def _inverse(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    batch, left, right = _matrix(context, line, laws[0])
    rest = context.through(laws[0], ODD, Fraction(-1), range(len(batch)))
    if any(label[0] in EIGEN for label in batch):
        raise Reject("inverse: a batch of eigenspaces")
    pair = (_dual(context, right), _dual(context, left))
    return context.check(replace(rest, axes=rest.axes[:-2] + pair, sym=laws[0].sym))


def _expm(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    batch, left, right = _matrix(context, line, laws[0])
    still = all(x == INV or (x[0] == "vec" and not context.linear(x) and not x[3] and not x[4]) for x in batch)
    if laws[0].scalars or not still or right != _dual(context, left):
        raise Reject("expm: of a matrix that is not conjugated, or with a character")
    return Law((*batch, left, right), sym=laws[0].sym)


def _factor(context: Context, line: Line, laws: Sequence[Law]) -> Any:
    """Laws of the parts of a factorisation; its gauge enters the context."""
    op, law = line.op, laws[0]
    batch, left, right = _matrix(context, line, law)
    if any(k for _, k, _ in law.scalars) or ISO in law.axes:
        raise Reject(f"{op}: of a value with a sign, or of delta")
    if len(batch) > 1 or any(not context.flags(x)[0] or x[3] or x[4] for x in batch):
        raise Reject(f"{op}: its batch axes are no labels")
    if op in ("eigh", "cholesky") and (not law.sym or left != right):
        raise Reject(f"{op}: of a matrix that is not known to be symmetric")
    if any(context.flags(side)[2] for side in ((left,) if op == "qr" else (left, right))):
        raise Reject(f"{op}: of a matrix that is not moved by rotations")
    g: Label = INV
    s: Label = INV
    if line.gauge is not None:
        name, kind = line.gauge
        if name in context.variables or (op, kind) not in {*CONDITIONS, ("eigh", "block"), ("svd", "block")}:
            raise Reject(f"{op}: gauge {name} of class {kind}")
        if (op, kind) == ("qr", "sign") and right != INV and context.of(right).kind != "sign":
            raise Reject("qr: up to signs only where the columns are not mixed")
        block = kind in ("block", "core")
        context.variables[name] = Variable("block" if block else kind, 1, batch[0][1] if batch else None)
        g = context.vec(name, CORE if kind == "core" else LOOSE if block and op == "svd" else FULL, 1)
        s = ("eig0", name) if block else INV
    elif left != INV or right != INV or law.scalars or op in ("eigh", "svd"):
        # Not even vectors of an invariant matrix are determined: in a repeated eigenvalue rounding chooses the basis.
        raise Reject(f"{op}: needs a gauge")
    if op == "cholesky":
        return Law((*batch, left, g), tuple((n, k, e / 2) for n, k, e in law.scalars))
    first, second = Law((*batch, left, g)), Law((*batch, g, right))
    if op == "qr":
        return {"q": first, "r": replace(second, scalars=law.scalars)}
    spectrum = Law((*batch, s), law.scalars, nonneg=op == "svd")
    return {"values": spectrum, "vectors": first} if op == "eigh" else {"u": first, "s": spectrum, "vh": second}


RULES: dict[str, Any] = {
    "number": (_number, 0, "value nonneg"), "array": (_constant, 0, "rank"), "zero": (_constant, 0, "rank"),
    "eye": (_constant, 0, ""), "expand": (_expand, 1, "axes"), "along": (_along, None, "fn axes out linear"),
    "contract": (_contract, None, "indices out mean"), "add": (_add, None, "signs"), "map": (_map, None, "fn args"),
    "select": (_select, 3, ""), "symmetric": (_symmetric, 1, "fn axes"), "round": (_round, 1, "dtype"),
    "inverse": (_inverse, 1, ""), "expm": (_expm, 1, ""), "eigh": (_factor, 1, ""), "svd": (_factor, 1, ""),
    "qr": (_factor, 1, ""), "cholesky": (_factor, 1, ""),
}  # fmt: skip
"""By operation: the rule, the number of operands (None: one or more), the names of the attributes."""
