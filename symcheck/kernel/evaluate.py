"""Programs evaluated in rational intervals (``docs/proof.md``, section 1): what roots and quotients can express.

Everything else (``eigh``, ``exp``, ``random`` ...) is declined by name.
"""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import reduce
from math import prod
from typing import Any

from symcheck.kernel.document import Decline, Reject, fields, fraction, integer, items, text
from symcheck.kernel.interval import FUNCTIONS, ONE, REDUCTIONS, ZERO, Interval, add, mul, neg, outward

Array = tuple[tuple[int, ...], list[Interval]]
"""Sizes, and entries in row-major order."""
MAX_TERMS = 1 << 20
_OPERATIONS: Mapping[str, tuple[int, str, str]] = {  # operands (-1: at least one), required and optional attributes
    "input": (0, "name", ""), "number": (0, "value", "nonneg"), "array": (0, "rank", ""), "zero": (0, "rank", ""),
    "eye": (0, "", ""), "expand": (1, "axes", ""), "contract": (-1, "indices out", "mean"), "add": (-1, "signs", ""),
    "map": (-1, "fn", "args"), "select": (3, "", ""), "symmetric": (1, "fn axes", ""), "round": (1, "dtype", ""),
    "along": (-1, "fn axes out", "linear args"),
}  # fmt: skip


def numbers(data: object, sizes: Sequence[int], at: str) -> Array:
    """The array of these sizes whose entries are listed as fractions."""
    return tuple(sizes), [(fraction(x, at=at),) * 2 for x in items(data, prod(sizes), at=at)]


def integers(data: object, low: int, high: int, at: str) -> list[int]:
    """A list of integers in a range."""
    return [integer(x, low, high, at=at) for x in items(data, at=at)]


def _axes(sizes: Sequence[int]) -> list[tuple[int, int]]:
    return [(size, prod(sizes[axis + 1 :])) for axis, size in enumerate(sizes)]


def _offsets(axes: Iterable[tuple[int, int]]) -> list[int]:
    """Where the entries of axes of these sizes and strides lie, the last axis fastest."""
    result = [0]
    for size, stride in axes:
        if len(result) * size > MAX_TERMS:
            raise Decline(f"more than {MAX_TERMS} terms")
        result = [start + i * stride for start in result for i in range(size)]
    return result


def expand(array: Array, size: Sequence[int], new: Sequence[int]) -> Array:
    """``array`` repeated along the axes ``new`` of the result."""
    if tuple(n for axis, n in enumerate(size) if axis not in new) != array[0]:
        raise Reject(f"sizes {array[0]} do not expand to {size}")
    own = iter(_axes(array[0]))
    places = _offsets((n, 0) if axis in new else next(own) for axis, n in enumerate(size))
    return tuple(size), [array[1][k] for k in places]


def contract(
    arrays: Sequence[Array], indices: Sequence[Sequence[int]], out: Sequence[int], mean: bool = False
) -> Array:
    """Sum (or mean) over all letters that are not in ``out`` of the product of the arrays."""
    sizes: dict[int, int] = {}
    strides: list[dict[int, int]] = [{} for _ in arrays]
    if [len(size) for size, _ in arrays] != [len(letters) for letters in indices]:
        raise Reject("indices: one letter for each axis of each operand")
    for (size, _), letters, own in zip(arrays, indices, strides, strict=True):
        for letter, (n, stride) in zip(letters, _axes(size), strict=True):
            own[letter] = own.get(letter, 0) + stride
            if sizes.setdefault(letter, n) != n:
                raise Reject(f"indices: letter {letter} stands for {sizes[letter]} and for {n} places")
    summed = [letter for letter in sizes if letter not in out]
    if len(sizes) != len(summed) + len(out):
        raise Reject("out: a letter is unknown or repeated")
    _offsets((n, 0) for n in sizes.values())  # declines what is too large
    starts, steps = (
        list(zip(*(_offsets((sizes[k], own.get(k, 0)) for k in letters) for own in strides), strict=True))
        for letters in (out, summed)
    )
    share, entries = Fraction(1, len(steps) if mean else 1), [own for _, own in arrays]
    sums = (
        reduce(add, (reduce(mul, (x[i + j] for x, i, j in zip(entries, start, step, strict=True))) for step in steps))
        for start in starts
    )
    return tuple(sizes[letter] for letter in out), [mul((share, share), total) for total in sums]


def _take(operands: Sequence[Array], at: Mapping[str, Any]) -> Array:
    """``along`` with ``args``: entries of the listed axes of all operands, strung together and picked from."""
    if "args" not in at:
        raise Decline(f"along {at.get('fn')}")
    args = fields(at["args"], {"take", "sizes"}, at="args")
    sizes = tuple(integers(args["sizes"], 1, MAX_TERMS, "sizes"))
    ranks = [len(size) for size, _ in operands]
    listed = [integers(a, 0, 99, "axes") for a in items(at["axes"], len(operands), at="axes")]
    kept = [[axis for axis in range(rank) if axis not in own] for rank, own in zip(ranks, listed, strict=True)]
    batch = {tuple(size[axis] for axis in own) for (size, _), own in zip(operands, kept, strict=True)}
    if len(batch) != 1 or any(sorted(a + b) != list(range(r)) for a, b, r in zip(listed, kept, ranks, strict=True)):
        raise Reject("axes: they do not fit the operands")
    starts, steps = (
        [_offsets(_axes(size)[axis] for axis in own) for (size, _), own in zip(operands, group, strict=True)]
        for group in (kept, listed)
    )
    take = integers(args["take"], -1, sum(map(len, steps)) - 1, "take")
    entries = []
    for start in zip(*starts, strict=True):
        core = [x[s + j] for (_, x), s, own in zip(operands, start, steps, strict=True) for j in own]
        entries += [ZERO if k < 0 else core[k] for k in take]
    new = list(range(ranks[0], ranks[0] + len(sizes)))
    unused = iter(new)
    out = [next(unused, -1) if x == ["new"] else _batch(x) for x in items(at["out"], at="out")]
    if len(take) != prod(sizes):
        raise Reject(f"take: {len(take)} entries for {prod(sizes)} places")
    return contract([((*batch.pop(), *sizes), entries)], [[*kept[0], *new]], out)


def _batch(data: object) -> int:
    name, axis = items(data, 2, at="out")
    return integer(axis, 0, 99, at=text(name, {"batch"}, at="out"))


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
    result = _sources(op, at, line, size, inputs) if arity == 0 else _operations(op, at, operands, size)
    if result[0] != size:
        raise Reject(f"size: the value has {result[0]}, not {size}")
    return size, [outward(x) for x in result[1]]


def _sources(
    op: str, at: Mapping[str, Any], line: Mapping[str, Any], size: tuple[int, ...], inputs: Mapping[str, Array]
) -> Array:
    if op == "input":
        return inputs[text(at["name"], inputs.keys(), at="name")]
    if op in ("number", "array"):
        return numbers(line["values"] if "values" in line else [at["value"]], size, "values")
    places = _offsets(_axes(size))
    if op == "eye" and (len(size) != 2 or size[0] != size[1]):
        raise Reject("size: not square")
    return size, [ONE if op == "eye" and k % (size[0] + 1) == 0 else ZERO for k in places]


def _operations(op: str, at: Mapping[str, Any], operands: Sequence[Array], size: tuple[int, ...]) -> Array:
    first = operands[0]
    if op == "expand":
        return expand(first, size, integers(at["axes"], 0, 99, "axes"))
    if op == "contract":
        letters = [integers(x, 0, 99, "indices") for x in items(at["indices"], at="indices")]
        return contract(operands, letters, integers(at["out"], 0, 99, "out"), at.get("mean", False))
    if op == "along":
        return _take(operands, at)
    if op == "symmetric":
        axes = integers(at["axes"], 0, len(first[0]) - 1, "axes")
        function = REDUCTIONS.get(text(at["fn"], at="fn"))
        if function is None or len(set(axes)) != len(axes) or not axes or (at["fn"] == "sort" and len(axes) > 1):
            raise Decline(f"symmetric {at['fn']} over axes {axes}")
        steps = _offsets(_axes(first[0])[axis] for axis in axes)
        starts = _offsets(n for axis, n in enumerate(_axes(first[0])) if axis not in axes)
        kept = tuple(n for axis, n in enumerate(first[0]) if axis not in axes)
        entries = [x for start in starts for x in function(*(first[1][start + step] for step in steps))]
        return (*kept, len(steps)) if at["fn"] == "sort" else kept, entries
    if any(own != first[0] for own, _ in operands):
        raise Reject("in: operands of different sizes")
    columns = zip(*(entries for _, entries in operands), strict=True)
    if op == "add":
        signs = [integer(s, -1, 1, at="signs") for s in items(at["signs"], len(operands), at="signs")]
        return first[0], [reduce(add, map(_signed, signs, column)) for column in columns]
    if op == "map":
        parameters = [None if p is None else fraction(p, at="args") for p in items(at.get("args", []), at="args")]
        key = (text(at["fn"], at="fn"), len(operands), len(parameters))
        if key not in FUNCTIONS or (None in parameters and key[0] != "clamp"):
            raise Decline(f"map {key[0]} of {key[1]} operands and {key[2]} parameters")
        return first[0], [FUNCTIONS[key](*column, *parameters) for column in columns]
    if op == "select":
        return first[0], [_chosen(*column) for column in columns]
    return first  # round


def _signed(sign: int, x: Interval) -> Interval:
    if sign == 0:
        raise Reject("signs: 1 or -1")
    return x if sign > 0 else neg(x)


def _chosen(mask: Interval, yes: Interval, no: Interval) -> Interval:
    if mask[0] != mask[1]:
        raise Decline("a choice by a comparison that rounding leaves open")
    return yes if mask[0] else no
