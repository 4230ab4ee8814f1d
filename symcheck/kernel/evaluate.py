"""Programs evaluated in rational intervals (``docs/proof.md``, section 1): what roots and quotients can express.

Everything else (``eigh``, ``exp``, ``random`` ...) is declined by name.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import reduce
from itertools import product
from math import prod
from typing import Any

from symcheck.kernel.document import Decline, Reject, conform, rational, text, upto
from symcheck.kernel.interval import FUNCTIONS, ONE, REDUCTIONS, ZERO, Interval, add, mul, neg, outward
from symcheck.kernel.rules import Line, check_form

Index = tuple[int, ...]
Array = tuple[Index, dict[Index, Interval]]
"""Sizes, and entries by index."""
MAX_TERMS = 1 << 20
SIZE = upto(MAX_TERMS)
EVALUATED = {*"input number array zero eye expand contract add map select symmetric round along".split()}  # noqa: SIM905
TAKE = {"sizes": [SIZE], "take": [lambda data: data == -1 or SIZE(data)]}
LINE = {"op": text, "in": [SIZE], "size": [SIZE], "at?": {"*": lambda data: True}, "values?": [rational]}


def places(sizes: Collection[int]) -> Iterable[Index]:
    """All indices into axes of these sizes, the last one fastest. Decline: too many."""
    if prod(sizes) > MAX_TERMS:
        raise Decline(f"more than {MAX_TERMS} terms")
    return product(*map(range, sizes))


def numbers(data: Sequence[str], sizes: Sequence[int]) -> Array:
    """The array of these sizes whose entries are listed as fractions."""
    if len(data) != prod(sizes):
        raise Reject(f"{len(data)} numbers for sizes {list(sizes)}")
    exact = map(Fraction, data)
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
    sizes, take, rank = tuple(at["args"]["sizes"]), at["args"]["take"], len(operands[0][0])
    kept = [axis for axis in range(rank) if axis not in at["axes"][0]]
    strings: dict[Index, list[Interval]] = {}
    for (size, entries), own in zip(operands, at["axes"], strict=True):
        if sorted(own) != [axis for axis in range(len(size)) if axis in own]:
            raise Reject(f"axes: {own} of sizes {size}")
        for index in sorted(entries, key=lambda index: [index[axis] for axis in own]):
            strings.setdefault(without(index, own), []).append(entries[index])
    batch = without(operands[0][0], at["axes"][0])
    rests = {without(size, own) for (size, _), own in zip(operands, at["axes"], strict=True)}
    if rests != {batch} or len(take) != prod(sizes) or max(take, default=0) >= min(map(len, strings.values())):
        raise Reject("axes: they do not fit the operands, or the result")
    picked = {
        (*index, *place): ZERO if k < 0 else string[k]
        for index, string in strings.items()
        for place, k in zip(places(sizes), take, strict=True)
    }
    new = [*range(rank, rank + len(sizes))]
    order = iter(new)
    out = [next(order, -1) if entry == ["new"] else entry[-1] for entry in at["out"]]
    return contract([((*batch, *sizes), picked)], [[*kept, *new]], out)


def evaluate(data: Mapping[str, Any], values: Sequence[Array], inputs: Mapping[str, Array]) -> Array:
    """The value of a line, given those of the lines before it. Decline: an operation outside rational intervals."""
    conform(data, LINE, "line")
    op, at, size = data["op"], dict(data.get("at", {})), tuple(data["size"])
    if op not in EVALUATED:
        raise Decline(f"operation {op!r}")
    if op == "along":
        if "args" not in at:
            raise Decline(f"along {at.get('fn')}")
        conform(at["args"], TAKE, "args")
    check_form(Line(op, tuple(data["in"]), {key: x for key, x in at.items() if (op, key) != ("along", "args")}))
    if any(k >= len(values) for k in data["in"]) or at.get("rank", len(size)) != len(size):
        raise Reject("in: an operand comes later, or the rank is another")
    if ("values" in data) != (op == "array" or (op == "number" and at["value"] is None)):
        raise Reject("values: only a constant that is not in the program has them, and must")
    operands = [values[k] for k in data["in"]]
    if op == "input":
        if at["name"] not in inputs:
            raise Reject(f"no input {at['name']!r}")
        result = inputs[at["name"]]
    elif op in ("number", "array"):
        result = numbers(data["values"] if "values" in data else [at["value"]], size)
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
        return expand(first, size, at["axes"])
    if op == "contract":
        return contract(operands, at["indices"], at["out"], at["mean"])
    if op == "along":
        return _take(operands, at)
    if op == "symmetric":
        return _symmetric(first, at["fn"], at["axes"])
    if any(own != first[0] for own, _ in operands):
        raise Reject("in: operands of different sizes")
    columns = {index: [x[index] for _, x in operands] for index in first[1]}
    if op == "add":
        terms = {k: [x if s > 0 else neg(x) for s, x in zip(at["signs"], xs, strict=True)] for k, xs in columns.items()}
        return first[0], {index: reduce(add, own) for index, own in terms.items()}
    if op == "map":
        parameters = [None if p is None else Fraction(p) for p in at["args"]]
        key = (at["fn"], len(operands), len(parameters))
        if key not in FUNCTIONS or (None in parameters and key[0] != "clamp"):
            raise Decline(f"map {key[0]} of {key[1]} operands and {key[2]} parameters")
        return first[0], {index: FUNCTIONS[key](*column, *parameters) for index, column in columns.items()}
    if op == "select":
        if any(mask[0] != mask[1] for mask, _, _ in columns.values()):
            raise Decline("a choice by a comparison that rounding leaves open")
        return first[0], {index: yes if mask[0] else no for index, (mask, yes, no) in columns.items()}
    return first  # round


def _symmetric(array: Array, fn: str, axes: Sequence[int]) -> Array:
    size, sort = array[0], fn == "sort"
    if fn not in REDUCTIONS or not axes or (sort and len(axes) > 1):
        raise Decline(f"symmetric {fn} over axes {axes}")
    groups: dict[Index, list[Interval]] = {}
    for index, x in array[1].items():
        groups.setdefault(without(index, axes), []).append(x)
    entries = {index + (k,) * sort: x for index, own in groups.items() for k, x in enumerate(REDUCTIONS[fn](*own))}
    return without(size, axes) + (size[axes[0]],) * sort, entries
