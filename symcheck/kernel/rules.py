"""How every operation turns the laws of its operands into the law of its value (``docs/proof.md``, section 3)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from symcheck.kernel.axioms import (
    BINARY,
    LINEAR_ALONG,
    NEITHER,
    NON_NEGATIVE,
    ODD,
    SIGN_PRESERVING,
    SYMMETRIC,
    behaviour,
)  # fmt: skip
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
    merge,
    zero,
)


@dataclass(frozen=True)
class Line:
    """One line of a certificate; ``gauge`` is the name and class that a factorisation introduces."""

    op: str
    ins: tuple[int, ...]
    at: Mapping[str, Any] = field(default_factory=dict)
    gauge: tuple[str, str] | None = None


CONDITIONS = {
    ("eigh", "sign"): "simple spectrum",
    ("svd", "sign"): "simple non-zero singular values",
    ("svd", "core"): "non-zero singular values",
    ("qr", "sign"): "independent leading columns",
    ("qr", "orth"): "full rank",
    ("cholesky", "orth"): "positive definite",
}


def infer(context: Context, line: Line, laws: Sequence[Law]) -> Any:
    """The law of a line (for a bundle, of its parts by name) from the laws of its operands; Reject if it has none."""
    rule = RULES.get(line.op)
    if rule is None:
        raise Reject(f"unknown operation {line.op!r}")
    return rule(context, line, laws)


def _at(line: Line, *names: str) -> list[Any]:
    data = fields(dict(line.at), set(names), at=line.op)
    return [data[name] for name in names]


def _operands(line: Line, laws: Sequence[Law], count: int | None = None) -> None:
    if len(laws) != count if count is not None else not laws:
        raise Reject(f"{line.op} of {len(laws)} operands")


def _number(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    _operands(line, laws, 0)
    value, nonneg = _at(line, "value", "nonneg")
    if value is not None and flag(nonneg, at="number") != (fraction(value, at="number") >= 0):
        raise Reject("number: nonneg contradicts the value")
    return Law((), nonneg=flag(nonneg, at="number"))


def _constant(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    _operands(line, laws, 0)
    if line.op == "eye":
        _at(line)
        return Law((ISO, ISO), sym=True, nonneg=True)
    rank = integer(_at(line, "rank")[0], 0, 64, at=line.op)
    return zero(rank) if line.op == "zero" else Law((INV,) * rank)


def _expand(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    _operands(line, laws, 1)
    places = [integer(p, 0, 64, at="expand") for p in items(_at(line, "axes")[0], at="expand")]
    rank = len(laws[0].axes) + len(places)
    if len(set(places)) != len(places) or any(p >= rank for p in places):
        raise Reject(f"expand: axes {places} of rank {rank}")
    old = iter(laws[0].axes)
    axes = tuple(FREE if p in places else next(old) for p in range(rank))
    return replace(laws[0], axes=axes, sym=laws[0].zero)


def letters(line: Line, ranks: Sequence[int]) -> tuple[list[list[int]], list[int]]:
    """The index letters of a ``contract`` line, checked against the ranks of its operands."""
    indices, out, mean = _at(line, "indices", "out", "mean")
    flag(mean, at="contract")
    rows = [
        [integer(i, 0, 999, at="contract") for i in items(row, at="contract")] for row in items(indices, at="contract")
    ]
    out = [integer(i, 0, 999, at="contract") for i in items(out, at="contract")]
    if [len(row) for row in rows] != list(ranks) or not rows:
        raise Reject(f"contract: indices {rows} for ranks {list(ranks)}")
    if len(set(out)) != len(out) or not set(out) <= {i for row in rows for i in row}:
        raise Reject(f"contract: output {out}")
    return rows, out


def _contract(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    rows, out = letters(line, [len(law.axes) for law in laws])
    if any(law.zero for law in laws):
        return zero(len(out))
    axes = [list(law.axes) for law in laws]
    for number, labels in enumerate(axes):
        if ISO in labels:  # sum over j of delta_ij x_j is x_i
            one, two = (p for p, label in enumerate(labels) if label == ISO)
            keep, drop = rows[number][one], rows[number][two]
            keep, drop = (keep, drop) if drop not in out else (drop, keep)
            if keep == drop or drop not in out:
                labels[one] = labels[two] = FREE
                rows = [[keep if i == drop else i for i in row] for row in rows]
            elif sum(row.count(keep) + row.count(drop) for row in rows) > 2:
                raise Reject("contract: delta shares an index with another factor")
    found: dict[int, list[Label]] = {}
    bases: dict[int, set[int]] = {}
    tuples: dict[str, set[tuple[int, int, int]]] = {}
    for number, (labels, row) in enumerate(zip(axes, rows, strict=True)):
        for label, letter in zip(labels, row, strict=True):
            found.setdefault(letter, []).append(label)
            if label[0] == "vec" and context.of(label).axes > 1:
                tuples.setdefault(label[1], set()).add((number, label[2], letter))
            if label[0] in ("vec", *EIGEN) and (fibre := context.of(label).fibre) is not None:
                base = [r for r, other in zip(row, labels, strict=True) if other[0] == "vec" and other[1] == fibre]
                bases.setdefault(letter, set()).update(base)
                if len(base) != 1:
                    raise Reject(f"contract: {label[1]} without its base {fibre}")
    combined = {letter: context.product(labels) for letter, labels in found.items()}
    for name, places in tuples.items():  # x_ab y_ac mixes entries that one permutation of all (a, b) keeps apart
        if len({place[1:] for place in places}) != context.variables[name].axes:
            raise Reject(f"contract: the axes of {name} are contracted one by one")
    for letter, base in bases.items():
        if len(base) != 1 or (letter in out and not base <= set(out)):
            raise Reject("contract: values of different fibres meet")
    for letter, label in combined.items():
        if letter not in out and not context.summable(label):
            raise Reject(f"contract: the sum over an index moved by {label[1] if len(label) > 1 else 'delta'}")
    law = Law(tuple(combined[letter] for letter in out), context.scalars(laws))
    factors = list(zip(line.ins, laws, rows, strict=True))
    signed = [(number, tuple(row)) for number, law_, row in factors if not law_.nonneg]
    nonneg = all(signed.count(factor) % 2 == 0 for factor in signed)
    return context.check(replace(law, nonneg=nonneg, sym=_symmetric_product(factors, out)))


def _symmetric_product(factors: list[tuple[int, Law, list[int]]], out: list[int]) -> bool:
    """Whether exchanging the last two indices of a product gives the same product."""
    if len(out) < 2:
        return False
    summed = sorted({i for _, _, row in factors for i in row} - set(out))
    if len(summed) > 3:
        return False

    def key(renaming: Mapping[int, int]) -> list[tuple[int, list[int]]]:
        rows = [(number, [renaming.get(i, i) for i in row], law) for number, law, row in factors]
        return sorted((n, r[:-2] + sorted(r[-2:]) if law.sym else r) for n, r, law in rows)

    swap = {out[-1]: out[-2], out[-2]: out[-1]}
    return any(key({**swap, **dict(zip(summed, p, strict=True))}) == key({}) for p in itertools.permutations(summed))


def _add(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    _operands(line, laws)
    signs = [integer(s, -1, 1, at="add") for s in items(_at(line, "signs")[0], len(laws), at="add")]
    if 0 in signs:
        raise Reject("add: sign 0")
    if all(law.zero for law in laws):
        return merge_zero(laws)
    law = merge(laws)
    axes = tuple(("eig", label[1]) if label[0] == "eig1" else label for label in law.axes)
    nonneg = all(x.nonneg for x in laws) and -1 not in signs
    return replace(law, axes=axes, sym=all(x.sym for x in laws), nonneg=nonneg)


def merge_zero(laws: Sequence[Law]) -> Law:
    """The law of a combination of zeros."""
    merge(laws)
    return zero(len(laws[0].axes))


def _map(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    fn, args = _at(line, "fn", "args")
    fn = text(fn, at="map")
    args = [None if a is None else fraction(a, at="map") for a in items(args, at="map")]
    how = behaviour(fn, args) if fn != "power" or (len(args) == 1 and args[0] is not None) else None
    counts = {"power": 1, "clamp": 2, "clamp_symmetric": 1, "softshrink": 1, "hardshrink": 1, "leaky_relu": 1}
    if how is None or len(args) != counts.get(fn, 0) or (None in args and fn != "clamp"):
        raise Reject(f"map: unknown function {fn!r} of {args}")
    if fn in ("clamp_symmetric", "softshrink", "hardshrink") and args[0] < 0:
        raise Reject(f"map: {fn} with a negative bound is not odd")
    _operands(line, laws, 2 if fn in BINARY else 1)
    parity, degree, vanishes = how
    if vanishes and all(law.zero for law in laws):
        return merge_zero(laws)
    if len(laws) == 1 and vanishes and ISO in laws[0].axes:
        rest = context.through(laws[0], parity, degree, [a for a, label in enumerate(laws[0].axes) if label != ISO])
    else:
        rest = context.through(merge(laws), parity, degree)
    axes = tuple(_null(fn, [law.axes[a] for law in laws], laws, label, vanishes) for a, label in enumerate(rest.axes))
    nonneg = fn in NON_NEGATIVE or (fn in SIGN_PRESERVING and laws[0].nonneg) or (
        fn == "power" and (parity == "even" or args[0].denominator != 1 or laws[0].nonneg)
    ) or (fn == "clamp" and args[0] is not None and all(a is None or a >= 0 for a in args)) or (fn == "maximum" and any(x.nonneg for x in laws)) or (fn == "minimum" and all(x.nonneg for x in laws))  # fmt: skip
    return replace(rest, axes=axes, sym=all(x.sym for x in laws), nonneg=nonneg)


def _null(fn: str, labels: list[Label], laws: Sequence[Law], label: Label, vanishes: bool) -> Label:
    """What is known about a function of values along the spectrum where the spectrum is zero."""
    if label[0] not in EIGEN:
        return label
    kinds = [x[0] for x in labels]
    small = {0: "le", 1: "ge"}
    for a in (0, 1) if len(laws) == 2 else ():
        if kinds[a] == "eig0" and laws[1 - a].nonneg and fn in ("le", "ge", "lt", "gt"):
            if fn == small[a]:
                return ("eig1", label[1])  # 0 <= b
            if fn == ("gt", "lt")[a]:
                return ("eig0", label[1])  # not 0 > b
    if (kinds == ["eig1"] and fn == "not") or (kinds == ["eig0"] and vanishes):
        return ("eig0", label[1])
    if kinds == ["eig0"] and fn in ("not", "is_zero"):
        return ("eig1", label[1])
    return ("eig0" if vanishes and set(kinds) == {"eig0"} else "eig", label[1])


def _select(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    _operands(line, laws, 3)
    _at(line)
    mask, one, two = laws
    law = merge([one, two])
    if mask.scalars or len(mask.axes) != len(law.axes):
        raise Reject("select: the mask has a character or another rank")
    axes = []
    for m, a, b, label in zip(mask.axes, one.axes, two.axes, law.axes, strict=True):
        if label[0] in EIGEN and m[0] in EIGEN and m[1] == label[1]:
            low = [x[0] == "eig0" for x in (m, a, b)]
            if (low[1] and (low[2] or m[0] == "eig1")) or (low[0] and low[2]):
                axes.append(("eig0", label[1]))
            elif a[0] == b[0] == "eig1" or (m[0] == a[0] == "eig1") or (low[0] and b[0] == "eig1"):
                axes.append(("eig1", label[1]))
            else:
                axes.append(("eig", label[1]))
            continue
        if m == FREE:
            axes.append(label)
            continue
        m = ("eig", m[1]) if m[0] in EIGEN else m
        if (m[0] == "vec" and (context.linear(m) or m[3] or m[4] or label == FREE)) or label == ISO:
            raise Reject("select: a mask that moves")
        axes.append(INV if label == FREE else context.product([m, label]))
    facts = {"sym": all(x.sym for x in laws), "nonneg": one.nonneg and two.nonneg}
    return context.check(Law(tuple(axes), law.scalars, **facts))


def _symmetric(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    _operands(line, laws, 1)
    fn, listed = _at(line, "fn", "axes")
    law, how = laws[0], SYMMETRIC.get(text(fn, at="symmetric"))
    axes = [integer(a, 0, len(law.axes) - 1, at="symmetric") for a in items(listed, at="symmetric")]
    if how is None or len(set(axes)) != len(axes) or not axes or (fn == "sort" and len(axes) != 1):
        raise Reject(f"symmetric: {fn} of axes {axes}")
    for label in (law.axes[a] for a in axes):
        if context.linear(label) or not context.summable(label):
            raise Reject("symmetric: an axis that is not only permuted")
    rest = [a for a in range(len(law.axes)) if a not in axes]
    law = replace(context.through(law, *how, only=rest), nonneg=law.nonneg or fn in ("any", "all"))
    kept = tuple(("eig", law.axes[a][1]) if law.axes[a][0] in EIGEN else law.axes[a] for a in rest)
    return context.check(replace(law, axes=kept + ((INV,) if fn == "sort" else ())))


def _along(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    data = fields(dict(line.at), {"fn", "axes", "out", "linear"}, at="along")
    linear = flag(data["linear"], at="along")
    if linear != (text(data["fn"], at="along") in LINEAR_ALONG):
        raise Reject(f"along: {data['fn']} is {'not ' if linear else ''}linear")
    _operands(line, laws)
    batches, ids = [], []
    for law, listed in zip(laws, items(data["axes"], len(laws), at="along"), strict=True):
        own = [integer(a, 0, len(law.axes) - 1, at="along") for a in items(listed, at="along")]
        if (
            len(set(own)) != len(own)
            or any(law.axes[a][0] not in ("inv", "free", *EIGEN) for a in own)
            or ISO in law.axes
        ):
            raise Reject(f"along: {data['fn']} acts on an axis that moves")
        ids = ids or [a for a in range(len(law.axes)) if a not in own]
        batches.append(replace(law, axes=tuple(x for a, x in enumerate(law.axes) if a not in own), zero=False))
    batch = merge(batches)
    batch = replace(batch, axes=tuple(("eig", x[1]) if x[0] in EIGEN else x for x in batch.axes))
    if not linear:
        batch = context.through(batch, NEITHER, None)
    first = ids if batch.axes else []
    axes: list[Label] = []
    used = []
    for entry in items(data["out"], at="along"):
        row = items(entry, at="along")
        if row == ["new"]:
            axes.append(INV)
        elif len(row) == 2 and row[0] == "batch" and type(row[1]) is int and row[1] in first:
            axes.append(batch.axes[first.index(row[1])])
            used.append(row[1])
        else:
            raise Reject(f"along: output axis {row}")
    if sorted(used) != sorted(first):
        raise Reject("along: an axis is lost or doubled")
    if linear and all(law.zero for law in laws):
        return zero(len(axes))
    return context.check(Law(tuple(axes), batch.scalars))


def _dual(context: Context, label: Label) -> Label:
    if label == FREE or (context.linear(label) and label[2:4] != (FULL, 1)):
        raise Reject("inverse of what is no matrix")
    return context.vec(*label[1:4], -label[4]) if label[0] == "vec" else INV if label[0] in EIGEN else label


def _inverse(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    _matrix(context, line, laws)
    law = laws[0]
    batch = range(len(law.axes) - 2)
    rest = context.through(law, ODD, Fraction(-1), only=batch)
    if any(label[0] in EIGEN for label in rest.axes[:-2]):
        raise Reject("inverse: a batch of eigenspaces")
    pair = (_dual(context, law.axes[-1]), _dual(context, law.axes[-2]))
    return context.check(replace(rest, axes=rest.axes[:-2] + pair, sym=law.sym))


def _matrix(context: Context, line: Line, laws: Sequence[Law]) -> None:
    _operands(line, laws, 1)
    _at(line)
    axes = laws[0].axes
    if len(axes) < 2 or laws[0].zero or FREE in axes[-2:]:
        raise Reject(f"{line.op} of no matrix")
    moving = [label for label in axes if label[0] == "vec"]
    if any(context.of(label).axes != 1 for label in moving):
        raise Reject(f"{line.op} of a matrix whose entries move as one vector")
    bases = {context.of(label).fibre for label in axes if label[0] in ("vec", *EIGEN)} - {None}
    if any(label[1] in bases for label in axes[-2:] if label[0] == "vec"):
        raise Reject(f"{line.op} of a matrix whose rows move differently")


def _factor(context: Context, line: Line, laws: Sequence[Law]) -> dict[str, Law]:
    """Laws of the parts of a factorisation; its gauge enters the context."""
    _matrix(context, line, laws)
    law = laws[0]
    *batch, left, right = law.axes
    exponents = [s for s in law.scalars if s[2]]
    if (line.op != "cholesky" and any(s[1] for s in law.scalars)) or ISO in law.axes:
        raise Reject(f"{line.op}: of a value with a sign, or of delta")
    if (
        any(label[0] != "vec" or not context.flags(label)[0] or label[3] or label[4] for label in batch)
        or len(batch) > 1
    ):
        raise Reject(f"{line.op}: its batch axes are no labels")
    if line.op in ("eigh", "cholesky") and (not law.sym or left != right):
        raise Reject(f"{line.op}: of a matrix that is not known to be symmetric")
    sides = (left,) if line.op == "qr" else (left, right)
    if any(side[0] == "vec" and context.flags(side)[2] for side in sides) or any(
        context.linear(side) and side[2:4] != (FULL, 1) for side in (left, right)
    ):
        raise Reject(f"{line.op}: of a matrix that is not moved by rotations")
    left, right = (INV if side[0] in EIGEN else side for side in (left, right))
    b, name = tuple(batch), None
    if line.gauge is None:
        if left != INV or right != INV or exponents:
            raise Reject(f"{line.op}: needs a gauge")
        g = h = s = INV
    else:
        name, kind = line.gauge
        if name in context.variables or ((line.op, kind) not in CONDITIONS and kind != "block"):
            raise Reject(f"{line.op}: gauge {name} of class {kind}")
        if kind == "block" and line.op not in ("eigh", "svd"):
            raise Reject(f"{line.op}: gauge {name} of class {kind}")
        diagonal = right == INV or (right[0] == "vec" and context.of(right).kind == "sign")
        if line.op == "qr" and kind == "sign" and not diagonal:
            raise Reject("qr: up to signs only where the columns are not mixed")
        context.variables[name] = Variable("block" if kind == "core" else kind, 1, batch[0][1] if batch else None)
        face = CORE if kind == "core" else LOOSE if (line.op, kind) == ("svd", "block") else FULL
        g = h = context.vec(name, face, 1)
        s = INV if kind == "sign" else ("eig0", name)
    scaled, halved = tuple(exponents), tuple((n, k, e / 2) for n, k, e in exponents)
    if line.op == "eigh":
        return {"values": Law((*b, s), scaled), "vectors": Law((*b, left, g))}
    if line.op == "svd":
        return {"u": Law((*b, left, g)), "s": Law((*b, s), scaled, nonneg=True), "vh": Law((*b, h, right))}
    if line.op == "qr":
        return {"q": Law((*b, left, g)), "r": Law((*b, g, right), scaled)}
    if any(k for _, k, _ in law.scalars):
        raise Reject("cholesky: of a value with a sign")
    return {"factor": Law((*b, left, g), halved)}


def _cholesky(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    return _factor(context, line, laws)["factor"]


def _expm(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    _matrix(context, line, laws)
    law = laws[0]
    *batch, left, right = (*law.axes[:-2], *(INV if label[0] in EIGEN else label for label in law.axes[-2:]))
    if law.scalars or any(
        label != INV and (label[0] != "vec" or context.linear(label) or label[3] or label[4]) for label in batch
    ):
        raise Reject("expm: of a value with a character")
    pair = {left, right}
    if pair != {ISO} and right != _dual(context, left):
        raise Reject("expm: of a matrix that is not conjugated")
    return replace(law, axes=(*batch, left, right), nonneg=False)


def _round(context: Context, line: Line, laws: Sequence[Law]) -> Law:
    _operands(line, laws, 1)
    text(_at(line, "dtype")[0], at="round")
    return laws[0]


RULES = {
    "number": _number, "array": _constant, "zero": _constant, "eye": _constant, "expand": _expand,
    "contract": _contract, "add": _add, "map": _map, "select": _select, "symmetric": _symmetric, "along": _along,
    "inverse": _inverse, "eigh": _factor, "svd": _factor, "qr": _factor, "cholesky": _cholesky, "expm": _expm,
    "round": _round,
}  # fmt: skip
