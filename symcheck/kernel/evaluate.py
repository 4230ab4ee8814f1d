"""Programs evaluated in rational intervals (``docs/proof.md``, section 1): what roots and quotients can express.

Everything else (``eigh``, ``exp``, ``random`` ...) is declined by name.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import reduce
from itertools import product
from math import prod
from typing import Any

from symcheck.kernel.document import Decline, Reject, fields, fraction, integer, items, text
from symcheck.kernel.interval import FUNCTIONS, ONE, REDUCTIONS, ZERO, Interval, add, mul, neg, outward

Index = tuple[int, ...]
Array = tuple[Index, dict[Index, Interval]]
"""Sizes, and entries by index."""
MAX_TERMS = 1 << 20
_OPERATIONS: Mapping[str, tuple[int, str, str]] = {  # operands (-1: at least one), required and optional attributes
    "input": (0, "name", ""), "number": (0, "value", "nonneg"), "array": (0, "rank", ""), "zero": (0, "rank", ""),
    "eye": (0, "", ""), "expand": (1, "axes", ""), "contract": (-1, "indices out", "mean"), "add": (-1, "signs", ""),
    "map": (-1, "fn", "args"), "select": (3, "", ""), "symmetric": (1, "fn axes", ""), "round": (1, "dtype", ""),
    "along": (-1, "fn axes out", "linear args"),
}  # fmt: skip


def integers(data: object, low: int, high: int, at: str) -> list[int]:
    """A list of integers in a range."""
    return [integer(x, low, high, at=at) for x in items(data, at=at)]


def places(sizes: Collection[int]) -> Iterable[Index]:
    """All indices into axes of these sizes, the last one fastest. Decline: too many."""
    if prod(sizes) > MAX_TERMS:
        raise Decline(f"more than {MAX_TERMS} terms")
    return product(*map(range, sizes))


def numbers(data: object, sizes: Sequence[int], at: str) -> Array:
    """The array of these sizes whose entries are listed as fractions."""
    exact = [fraction(x, at=at) for x in items(data, prod(sizes), at=at)]
    return tuple(sizes), {index: (x, x) for index, x in zip(places(sizes), exact, strict=True)}


def without(index: Sequence[int], axes: Collection[int]) -> Index:
    """An index, or sizes, without those of some axes."""
    return tuple(n for axis, n in enumerate(index) if axis not in axes)


def expand(array: Array, size: Index, new: Collection[int]) -> Array:
    """``array`` repeated along the axes ``new`` of the result."""
    if without(size, new) != array[0]:
        raise Reject(f"sizes {array[0]} do not expand to {size}")
    return size, {index: array[1][without(index, new)] for index in places(size)}


def contract(
    arrays: Sequence[Array], indices: Sequence[Sequence[int]], out: Sequence[int], mean: bool = False
) -> Array:
    """Sum (or mean) over all letters that are not in ``out`` of the product of the arrays."""
    sizes: dict[int, int] = {}
    for (size, _), letters in zip(arrays, indices, strict=True):
        if len(size) != len(letters) or any(sizes.setdefault(k, n) != n for k, n in zip(letters, size, strict=True)):
            raise Reject(f"indices: {list(letters)} do not fit sizes {size}")
    if len(set(out)) != len(out) or not sizes.keys() >= set(out):
        raise Reject("out: a letter is unknown or repeated")
    size = tuple(sizes[k] for k in out)
    entries = dict.fromkeys(places(size), ZERO)
    for values in places(sizes.values()):
        at = dict(zip(sizes, values, strict=True))
        factors = (x[tuple(at[k] for k in letters)] for (_, x), letters in zip(arrays, indices, strict=True))
        place = tuple(at[k] for k in out)
        entries[place] = add(entries[place], reduce(mul, factors))
    share = Fraction(prod(size), prod(sizes.values())) if mean else Fraction(1)
    return size, {place: mul((share, share), x) for place, x in entries.items()}


def _take(operands: Sequence[Array], at: Mapping[str, Any]) -> Array:
    """``along`` with ``args``: the entries of the listed axes of all operands, strung together, are picked from."""
    if "args" not in at:
        raise Decline(f"along {at['fn']}")
    args = fields(at["args"], {"take", "sizes"}, at="args")
    sizes, rank = tuple(integers(args["sizes"], 1, MAX_TERMS, "sizes")), len(operands[0][0])
    listed = [integers(own, 0, 99, "axes") for own in items(at["axes"], len(operands), at="axes")]
    kept = [axis for axis in range(rank) if axis not in listed[0]]
    strings: dict[Index, list[Interval]] = {}
    for (size, entries), own in zip(operands, listed, strict=True):
        if not set(own) <= set(range(len(size))) or len(set(own)) != len(own):
            raise Reject(f"axes: {own} of sizes {size}")
        for index in sorted(entries, key=lambda index: [index[axis] for axis in own]):
            strings.setdefault(without(index, own), []).append(entries[index])
    take = integers(args["take"], -1, min(map(len, strings.values())) - 1, "take")
    batch = tuple(operands[0][0][axis] for axis in kept)
    rests = {without(size, own) for (size, _), own in zip(operands, listed, strict=True)}
    if rests != {batch} or len(take) != prod(sizes):
        raise Reject("axes: they do not fit the operands, or the result")
    picked = {
        (*index, *place): ZERO if k < 0 else string[k]
        for index, string in strings.items()
        for place, k in zip(places(sizes), take, strict=True)
    }
    new = list(range(rank, rank + len(sizes)))
    order = iter(new)
    out = [next(order, -1) if axis == ["new"] else _batch(axis, rank) for axis in items(at["out"], at="out")]
    return contract([((*batch, *sizes), picked)], [[*kept, *new]], out)


def _batch(axis: object, rank: int) -> int:
    kind, number = items(axis, 2, at="out")
    return integer(number, 0, rank - 1, at=text(kind, {"batch"}, at="out"))


def evaluate(line: Mapping[str, Any], values: Sequence[Array], inputs: Mapping[str, Array]) -> Array:
    """The value of a line, given those of the lines before it. Decline: an operation outside rational intervals."""
    op = text(line["op"], at="op")
    if op not in _OPERATIONS:
        raise Decline(f"operation {op!r}")
    arity, required, optional = _OPERATIONS[op]
    at = fields(line.get("at", {}), set(required.split()), set(optional.split()), at="at")
    size = tuple(integers(line["size"], 1, MAX_TERMS, "size"))
    integer(at.get("rank", len(size)), len(size), len(size), at="rank")
    if not all(type(at.get(key, False)) is bool for key in ("mean", "linear", "nonneg")):
        raise Reject("at: mean, linear and nonneg are true or false")
    operands = [values[k] for k in integers(line["in"], 0, len(values) - 1, "in")]
    if len(operands) != arity and (arity >= 0 or not operands):
        raise Reject(f"in: {len(operands)} operands")
    if ("values" in line) != (op == "array" or (op == "number" and at["value"] is None)):
        raise Reject("values: only a constant that is not in the program has them, and must")
    if op == "input":
        result = inputs[text(at["name"], inputs.keys(), at="name")]
    elif op in ("number", "array"):
        result = numbers(line["values"] if "values" in line else [at["value"]], size, "values")
    elif op in ("zero", "eye"):
        result = size, {index: ONE if op == "eye" and len(set(index)) == 1 else ZERO for index in places(size)}
    else:
        result = _operation(op, at, operands, size)
    if result[0] != size or (op == "eye" and (len(size) != 2 or size[0] != size[1])):
        raise Reject(f"size: the value has {result[0]}, not {size}")
    return size, {index: outward(x) for index, x in result[1].items()}


def _operation(op: str, at: Mapping[str, Any], operands: Sequence[Array], size: Index) -> Array:
    first = operands[0]
    if op == "expand":
        return expand(first, size, integers(at["axes"], 0, 99, "axes"))
    if op == "contract":
        letters = [integers(x, 0, 99, "indices") for x in items(at["indices"], len(operands), at="indices")]
        return contract(operands, letters, integers(at["out"], 0, 99, "out"), at.get("mean", False))
    if op == "along":
        return _take(operands, at)
    if op == "symmetric":
        axes, groups = integers(at["axes"], 0, len(first[0]) - 1, "axes"), dict[Index, list[Interval]]()
        function, sort = REDUCTIONS.get(text(at["fn"], at="fn")), at["fn"] == "sort"
        if function is None or len(set(axes)) != len(axes) or not axes or (sort and len(axes) > 1):
            raise Decline(f"symmetric {at['fn']} over axes {axes}")
        for index, x in first[1].items():
            groups.setdefault(without(index, axes), []).append(x)
        entries = {index + (k,) * sort: x for index, own in groups.items() for k, x in enumerate(function(*own))}
        return without(first[0], axes) + (first[0][axes[0]],) * sort, entries
    if any(own != first[0] for own, _ in operands):
        raise Reject("in: operands of different sizes")
    columns = {index: [x[index] for _, x in operands] for index in first[1]}
    if op == "add":
        signs = integers(at["signs"], -1, 1, "signs")
        if len(signs) != len(operands) or 0 in signs:
            raise Reject("signs: 1 or -1 for each operand")
        return first[0], {
            index: reduce(add, (x if s > 0 else neg(x) for s, x in zip(signs, column, strict=True)))
            for index, column in columns.items()
        }
    if op == "map":
        parameters = [None if p is None else fraction(p, at="args") for p in items(at.get("args", []), at="args")]
        key = (text(at["fn"], at="fn"), len(operands), len(parameters))
        if key not in FUNCTIONS or (None in parameters and key[0] != "clamp"):
            raise Decline(f"map {key[0]} of {key[1]} operands and {key[2]} parameters")
        return first[0], {index: FUNCTIONS[key](*column, *parameters) for index, column in columns.items()}
    if op == "select":
        if any(mask[0] != mask[1] for mask, _, _ in columns.values()):
            raise Decline("a choice by a comparison that rounding leaves open")
        return first[0], {index: yes if mask[0] else no for index, (mask, yes, no) in columns.items()}
    return first  # round
