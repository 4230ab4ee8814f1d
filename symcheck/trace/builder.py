"""Emission of program lines for torch tensors: sizes, broadcasting and merged dimensions on top of the vocabulary.

A tensor is a `Sym`: a line of the program, and for every dimension of the tensor the sizes of the axes that make it up.
A dimension of size one has no axis, a flattened one has several. The methods of `Builder` take and return `Sym`; what
they emit is the vocabulary of ``docs/proof.md``, section 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from symcheck.trace.program import BUNDLES, Line
from symcheck.trace.sym import Dims, NotInVocabulary, Scalar, Sym, dims_of, exact, refine

__all__ = ["Builder", "Dims", "NotInVocabulary", "Scalar", "Sym", "dims_of", "exact", "refine"]


class Builder:
    """Lines of a program in the making.

    Attributes:
        lines: the lines so far.
        sizes: the shape of the value of every line in this run (of a bundle: ``()``).
        constants: the value of every ``number``, ``array`` and (once known) ``random`` line.
        undefined: the lines that have no value, and those computed from them.
        where: source location stamped on new lines; the recorder sets it before each call of ``lower``.
        observed: what torch computed for the (first) result of the call being lowered, a float64 array of the
            tensor's shape. The recorder sets it before it lowers a random operation: drawn numbers go to ``constants``.
        leaks: the lines whose values left torch, or decide whether an operation raises: a candidate may catch that.
    """

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.sizes: list[tuple[int, ...]] = []
        self.constants: dict[int, float | np.ndarray] = {}
        self.undefined: set[int] = set()
        self.where = ""
        self.observed: np.ndarray | None = None
        self.leaks: list[int] = []

    def emit(
        self, op: str, operands: Sequence[int], sizes: Iterable[int], attributes: Mapping[str, Any] | None = None
    ) -> int:
        """Append a line whose value has shape ``sizes``; returns its number."""
        sizes = tuple(sizes)
        rank = -1 if op in BUNDLES else len(sizes)
        self.lines.append(Line(op, tuple(operands), dict(attributes or {}), rank, self.where))
        self.sizes.append(sizes)
        if op == "undefined" or not self.undefined.isdisjoint(operands):
            self.undefined.add(len(self.lines) - 1)
        return len(self.lines) - 1

    # -- sources ---------------------------------------------------------------------------------------------------

    def input(self, name: str, dims: Dims, dtype: torch.dtype) -> Sym:
        """The input ``name`` (``weight:0``, ``grad:0``, ``state:PATH``) with these dimensions."""
        return Sym(self.emit("input", (), itertools.chain(*dims), {"name": name}), dims, dtype)

    def number(self, value: Scalar, dtype: torch.dtype = torch.float64) -> Sym:
        """A constant without dimensions, exactly."""
        fraction = exact(value)
        line = self.emit("number", (), (), {"value": str(fraction), "nonneg": fraction >= 0})
        self.constants[line] = float(fraction)
        return Sym(line, (), dtype)

    def array(self, values: np.ndarray, dtype: torch.dtype = torch.float64) -> Sym:
        """A constant array made outside torch or from nothing, of the shape of ``values``; all finite."""
        if not np.isfinite(values).all():
            raise NotInVocabulary("a constant that is not finite")
        dims = dims_of(values.shape)
        sizes = tuple(itertools.chain(*dims))
        if not sizes:
            value = values.reshape(()).item()
            return replace(self.number(value, dtype), dims=dims)
        line = self.emit("array", (), sizes, {"rank": len(sizes)})
        self.constants[line] = np.array(values, dtype=np.float64).reshape(sizes)
        return Sym(line, dims, dtype)

    def zero(self, dims: Dims, dtype: torch.dtype = torch.float64) -> Sym:
        """Zeros."""
        sizes = tuple(itertools.chain(*dims))
        return Sym(self.emit("zero", (), sizes, {"rank": len(sizes)}), dims, dtype)

    def full(self, dims: Dims, value: Scalar, dtype: torch.dtype = torch.float64) -> Sym:
        """One number everywhere."""
        return self.expand_to(self.number(value, dtype), dims)

    def eye(self, size: int, dtype: torch.dtype = torch.float64) -> Sym:
        """The identity matrix."""
        if size == 1:
            return replace(self.number(1, dtype), dims=((), ()))
        return Sym(self.emit("eye", (), (size, size)), ((size,), (size,)), dtype)

    def random(self, dims: Dims, distribution: str, dtype: torch.dtype = torch.float64) -> Sym:
        """Independent random numbers: ``normal`` (standard), ``symmetric`` or ``iid``; ``constants`` is set later."""
        sizes = tuple(itertools.chain(*dims))
        return Sym(self.emit("random", (), sizes, {"rank": len(sizes), "distribution": distribution}), dims, dtype)

    # -- shape -----------------------------------------------------------------------------------------------------

    def split(self, x: Sym, dim: int, sizes: tuple[int, ...]) -> Sym:
        """``x`` with dimension ``dim`` made of axes of these ``sizes``, a refinement of those it has."""
        dim = x.dim(dim)
        if x.dims[dim] == sizes:
            return x
        dims = (*x.dims[:dim], sizes, *x.dims[dim + 1 :])
        constant = self._constant_with(x, dims, x.positions(dim))
        if constant is not None:
            return constant
        remaining = list(sizes)
        done: list[int] = []
        for size in x.dims[dim]:
            parts: list[int] = []
            while math.prod(parts) < size:
                parts.append(remaining.pop(0))
            if math.prod(parts) != size:
                raise NotInVocabulary(f"dimension of axes {x.dims[dim]} split into {sizes}")
            if len(parts) > 1:
                x = self._split_axis(x, dim, len(done), tuple(parts))
            done += parts
        return x

    def _constant_with(self, x: Sym, dims: Dims, positions: tuple[int, ...]) -> Sym | None:
        """``x`` with other ``dims``, which differ at ``positions`` only, if its line is constant there; else None."""
        line = self.lines[x.line]
        if line.op == "zero":
            return self.zero(dims, x.dtype)
        if line.op != "expand" or not set(positions) <= set(line.attributes["axes"]):
            return None
        kept = [axis for axis in range(len(x.axes)) if axis not in set(line.attributes["axes"])]
        shift = len(list(itertools.chain(*dims))) - len(x.axes)
        kept = [axis + shift if axis > positions[-1] else axis for axis in kept]
        return Sym(self._expand(line.operands[0], kept, tuple(itertools.chain(*dims))), dims, x.dtype)

    def _split_axis(self, x: Sym, dim: int, within: int, parts: tuple[int, ...]) -> Sym:
        axis = x.positions(dim)[within]
        dims = (*x.dims[:dim], (*x.dims[dim][:within], *parts, *x.dims[dim][within + 1 :]), *x.dims[dim + 1 :])
        out: list[int | None] = [*range(axis), *[None] * len(parts), *range(axis + 1, len(x.axes))]
        return self.take("split", [x], [[axis]], out, parts, range(math.prod(parts)), dims)

    def merge(self, x: Sym, dim: int) -> Sym:
        """``x`` with dimension ``dim`` one axis (unless it has none): laws of its axes are lost."""
        dim = x.dim(dim)
        if len(x.dims[dim]) < 2:
            return x
        positions = x.positions(dim)
        size = math.prod(x.dims[dim])
        out: list[int | None] = [*range(positions[0]), None, *range(positions[-1] + 1, len(x.axes))]
        dims = (*x.dims[:dim], (size,), *x.dims[dim + 1 :])
        return self.take("merge", [x], [list(positions)], out, (size,), range(size), dims)

    def reshape(self, x: Sym, shape: Sequence[int]) -> Sym:
        """``x`` in row-major order with another shape; axes are split where a new dimension begins within one."""
        if math.prod(shape) != x.numel:
            raise ValueError(f"a tensor of shape {x.shape} cannot be reshaped to {tuple(shape)}")
        wanted = tuple(int(size) for size in shape if size != 1)
        flat = x.with_dims([x.axes])
        try:
            flat = self.split(flat, 0, refine([x.axes, wanted])) if flat.axes else flat
        except NotInVocabulary:
            # Entries of an axis are spread over several: a movement of entries that no law of the axes survives.
            listed, out = range(len(x.axes)), [None] * len(wanted)
            flat = self.take("reshape", [flat], [listed], out, wanted, range(x.numel), (wanted,))
        remaining = list(flat.axes)
        dims: list[tuple[int, ...]] = []
        for size in shape:
            parts: list[int] = []
            while math.prod(parts) < size:
                parts.append(remaining.pop(0))
            dims.append(tuple(parts))
        return flat.with_dims(dims)

    def broadcast_dims(self, operands: Sequence[Sym]) -> Dims:
        """The dimensions that operands broadcast to, each split as finely as any operand splits it."""
        count = max((len(x.dims) for x in operands), default=0)
        dims = []
        for back in range(count, 0, -1):
            splits = {x.dims[-back] for x in operands if len(x.dims) >= back} - {()}
            if len({math.prod(sizes) for sizes in splits}) > 1:
                raise ValueError(f"shapes {[x.shape for x in operands]} do not broadcast")
            dims.append(refine(sorted(splits)) if splits else ())
        return tuple(dims)

    def _aligned(self, x: Sym, dims: Dims) -> Sym:
        """``x`` with as many dimensions as ``dims``, each of size one or split in the same way."""
        if len(x.dims) > len(dims):
            raise ValueError(f"a tensor of shape {x.shape} does not expand to {dims}")
        x = replace(x, dims=((),) * (len(dims) - len(x.dims)) + x.dims)
        if len(dims) > 1 and dims[-1] == dims[-2] and x.dims[-1] == x.dims[-2] not in ((), dims[-1]):
            x = self._split_identity(x, dims[-1]) or x
        for dim, sizes in enumerate(dims):
            if x.dims[dim] not in ((), sizes):
                x = self.split(x, dim, sizes)
        return x

    def _split_identity(self, x: Sym, sizes: tuple[int, ...]) -> Sym | None:
        """A multiple of the identity matrix with both dimensions split, as product of identities; None for others."""
        line = self.lines[x.line]
        factors, matrix = [], x.line
        if line.op == "contract" and not line.attributes["mean"]:
            factors = [Sym(at, (), x.dtype) for at in line.operands if not self.lines[at].rank]
            (matrix, *others) = [at for at in line.operands if self.lines[at].rank] or [x.line]
            if others or line.attributes["out"] not in line.attributes["indices"]:
                return None
        if self.lines[matrix].op != "eye":
            return None
        pairs = [((2 * at,), (2 * at + 1,)) for at in range(len(sizes))]
        rows, cols = (tuple(pair[side][0] for pair in pairs) for side in (0, 1))
        batch: list[tuple[int, ...]] = [()] * (len(x.dims) - 2)
        eyes = [self.eye(size) for size in sizes]
        return self.contract([*factors, *eyes], [*[()] * len(factors), *pairs], [*batch, rows, cols], dtype=x.dtype)

    def expand_to(self, x: Sym, dims: Dims) -> Sym:
        """``x`` constant along what it lacks of ``dims``, by torch's rules of broadcasting."""
        x = self._aligned(x, dims)
        kept: list[int] = []
        position = 0
        for own, wanted in zip(x.dims, dims, strict=True):
            kept += range(position, position + len(own))
            position += len(wanted)
        if len(kept) == position:
            return replace(x, dims=dims)
        return Sym(self._expand(x.line, kept, tuple(itertools.chain(*dims))), dims, x.dtype)

    def _expand(self, line: int, kept: Sequence[int], sizes: tuple[int, ...]) -> int:
        new = [axis for axis in range(len(sizes)) if axis not in set(kept)]
        return self.emit("expand", (line,), sizes, {"axes": new}) if new else line

    def permute(self, x: Sym, order: Sequence[int]) -> Sym:
        """The dimensions of ``x`` in another order."""
        letters = self.letters(x)
        return self.contract([x], [letters], [letters[x.dim(dim)] for dim in order], dtype=x.dtype)

    def transpose(self, x: Sym, first: int = -1, second: int = -2) -> Sym:
        """Two dimensions exchanged."""
        order = list(range(len(x.dims)))
        first, second = x.dim(first), x.dim(second)
        order[first], order[second] = second, first
        return self.permute(x, order)

    # -- operations ------------------------------------------------------------------------------------------------

    def letters(self, x: Sym, start: int = 0) -> list[tuple[int, ...]]:
        """A letter for every axis of ``x``, grouped by dimension, counted from ``start``."""
        counter = itertools.count(start)
        return [tuple(next(counter) for _ in dim) for dim in x.dims]

    def contract(
        self,
        operands: Sequence[Sym],
        indices: Sequence[Sequence[Sequence[int]]],
        out: Sequence[Sequence[int]],
        mean: bool = False,
        dtype: torch.dtype | None = None,
    ) -> Sym:
        """Sum of products. ``indices`` and ``out`` give the letters grouped by dimension, like ``Sym.dims``."""
        size: dict[int, int] = {}
        for x, letters in zip(operands, indices, strict=True):
            for letter, axis in zip(itertools.chain(*letters), x.axes, strict=True):
                if size.setdefault(letter, axis) != axis:
                    raise NotInVocabulary(f"axes of sizes {size[letter]} and {axis} contracted with each other")
        names = {letter: number for number, letter in enumerate(size)}
        flat = [[names[letter] for letter in itertools.chain(*letters)] for letters in indices]
        result = [names[letter] for letter in itertools.chain(*out)]
        dims = tuple(tuple(size[letter] for letter in group) for group in out)
        dtype = operands[0].dtype if dtype is None else dtype
        if any(self.lines[x.line].op == "zero" for x in operands) and not self._no_value(operands):
            return self.zero(dims, dtype)  # values are finite
        if len(operands) == 1 and self._centred(operands[0].line, set(flat[0]) - set(result), flat[0]):
            return self.zero(dims, dtype)
        if len(operands) == 1 and flat[0] == result:
            return Sym(operands[0].line, dims, dtype)
        attributes = {"indices": flat, "out": result, "mean": mean}
        line = self.emit("contract", [x.line for x in operands], itertools.chain(*dims), attributes)
        return Sym(line, dims, dtype)

    def _centred(self, at: int, summed: set[int], letters: Sequence[int]) -> bool:
        """Whether a value is ``x - mean(x)`` with the mean over some of the ``summed`` letters: such a sum is zero."""
        line = self.lines[at]
        if at in self.undefined or line.op != "add" or len(line.operands) != 2:
            return False
        if self.lines[line.operands[1]].op != "expand":
            return False
        (value, spread), (first, sign) = line.operands, line.attributes["signs"]
        axes, mean = set(self.lines[spread].attributes["axes"]), self.lines[self.lines[spread].operands[0]]
        if mean.op == "add" and list(mean.attributes["signs"]) == [-1]:
            mean, sign = self.lines[mean.operands[0]], -sign
        if first == sign:
            return False
        rest = [axis for axis in range(line.rank) if axis not in axes]
        return (
            mean.op == "contract"
            and bool(mean.attributes["mean"])
            and mean.operands == (value,)
            and mean.attributes == {"indices": [list(range(line.rank))], "out": rest, "mean": True}
            and len(set(letters)) == len(letters)
            and {letters[axis] for axis in axes} <= summed
        )

    def mul(self, *operands: Sym, dtype: torch.dtype | None = None) -> Sym:
        """The product, broadcast."""
        dims = self.broadcast_dims(operands)
        aligned = [self._aligned(x, dims) for x in operands]
        counter = itertools.count()
        letters = [tuple(next(counter) for _ in sizes) for sizes in dims]
        indices = [[group if own else () for group, own in zip(letters, x.dims, strict=True)] for x in aligned]
        return self.contract(aligned, indices, letters, dtype=dtype)

    def scale(self, x: Sym, value: Scalar, dtype: torch.dtype | None = None) -> Sym:
        """``x`` times a number."""
        return self.mul(x, self.number(value), dtype=dtype or x.dtype)

    def sum(self, x: Sym, dims: Iterable[int], mean: bool = False, dtype: torch.dtype | None = None) -> Sym:
        """Sum, or mean, over ``dims``, which stay with size one."""
        gone = {x.dim(dim) for dim in dims}
        letters = self.letters(x)
        out = [() if number in gone else group for number, group in enumerate(letters)]
        return self.contract([x], [letters], out, mean=mean, dtype=dtype)

    def add(self, *operands: Sym, signs: Sequence[int] | None = None, dtype: torch.dtype | None = None) -> Sym:
        """The signed sum, broadcast. A value and its negative cancel, zeros are left out; the negative of a negative is
        the value."""
        dims = self.broadcast_dims(operands)
        dtype = dtype or operands[0].dtype
        terms: list[tuple[int, int]] = []
        for x, sign in zip(operands, signs or [1] * len(operands), strict=True):
            at = self.expand_to(x, dims).line
            if self.lines[at].op == "zero":
                continue
            if self.lines[at].op == "add" and list(self.lines[at].attributes["signs"]) == [-1]:
                at, sign = self.lines[at].operands[0], -sign
            if (at, -sign) in terms and at not in self.undefined:
                terms.remove((at, -sign))
            else:
                terms.append((at, sign))
        if not terms:
            return self.zero(dims, dtype)
        if len(terms) == 1 and terms[0][1] == 1:
            return Sym(terms[0][0], dims, dtype)
        attributes = {"signs": [sign for _, sign in terms]}
        return Sym(self.emit("add", [at for at, _ in terms], itertools.chain(*dims), attributes), dims, dtype)

    def sub(self, x: Sym, y: Sym, dtype: torch.dtype | None = None) -> Sym:
        """``x - y``."""
        return self.add(x, y, signs=(1, -1), dtype=dtype)

    def neg(self, x: Sym) -> Sym:
        """``-x``."""
        return self.add(x, signs=(-1,))

    def map(self, fn: str, *operands: Sym, args: Sequence[Scalar | None] = (), dtype: torch.dtype | None = None) -> Sym:
        """An elementwise function, broadcast; ``args`` its parameters. A sum of squares is its own magnitude."""
        dims = self.broadcast_dims(operands)
        if fn == "reciprocal" and self.lines[operands[0].line].attributes.get("infinite"):
            return self.zero(dims, dtype or operands[0].dtype)
        if fn == "abs" and self._nonneg(operands[0].line):
            return replace(operands[0], dtype=dtype or operands[0].dtype)
        if fn in ("is_zero", "is_nonzero"):
            operands = (replace(operands[0], line=self.flag_of(operands[0].line)),)
        lines = [self.expand_to(x, dims).line for x in operands]
        attributes: dict[str, Any] = {"fn": fn}
        if args:
            attributes["args"] = [None if value is None else str(exact(value)) for value in args]
        return Sym(self.emit("map", lines, itertools.chain(*dims), attributes), dims, dtype or operands[0].dtype)

    def infinite(self, dims: Dims, dtype: torch.dtype, why: str) -> Sym:
        """What is infinite in every entry: its reciprocal is zero, and a program that reads it otherwise is refused."""
        line = self.emit("undefined", (), itertools.chain(*dims), {"why": why, "infinite": True})
        return Sym(line, dims, dtype)

    def nonzero_where(self, flag: Sym, why: str) -> Sym:
        """An integer of which nothing is known but that it is zero where ``flag`` is; whoever reads more is refused."""
        return replace(flag, line=self.emit("undefined", (), flag.axes, {"why": why, "flag": flag.line}))

    def flag_of(self, line: int) -> int:
        """The line that is zero where this one is: itself, or the flag of `nonzero_where`."""
        return int(self.lines[line].attributes.get("flag", line))

    def _no_value(self, operands: Iterable[Sym]) -> bool:
        return not self.undefined.isdisjoint(x.line for x in operands)

    def _nonneg(self, at: int, depth: int = 4) -> bool:
        """Whether a value is negative nowhere, as its own line and a few before it show."""
        line = self.lines[at]
        if line.op != "contract" or not depth:
            return bool(line.op == "zero" or (line.op == "number" and line.attributes["nonneg"]))
        factors = list(zip(line.operands, map(tuple, line.attributes["indices"]), strict=True))
        return all(factors.count(factor) % 2 == 0 or self._nonneg(factor[0], depth - 1) for factor in factors)

    def div(self, x: Sym, y: Sym, dtype: torch.dtype | None = None) -> Sym:
        """``x / y``."""
        return self.mul(x, self.map("reciprocal", y), dtype=dtype)

    def select(self, mask: Sym, x: Sym, y: Sym, dtype: torch.dtype | None = None) -> Sym:
        """``where(mask, x, y)``, broadcast; ``y`` where the mask is zero by itself, like ``isnan``."""
        dims = self.broadcast_dims((mask, x, y))
        if self.lines[mask.line].op == "zero":
            return replace(self.expand_to(y, dims), dtype=dtype or x.dtype)
        if self._is_number_zero(x) or self._is_number_zero(
            y
        ):  # zeros have more laws than a number that happens to be 0
            x, y = (self.zero(dims, z.dtype) if self._is_number_zero(z) else z for z in (x, y))
        lines = [self.expand_to(value, dims).line for value in (mask, x, y)]
        return Sym(self.emit("select", lines, itertools.chain(*dims)), dims, dtype or x.dtype)

    def _is_number_zero(self, x: Sym) -> bool:
        line = self.lines[x.line]
        return line.op == "number" and line.attributes["value"] == "0"

    def symmetric(self, fn: str, x: Sym, dims: Iterable[int], dtype: torch.dtype | None = None) -> Sym:
        """A function of the entries along ``dims`` that ignores their order; ``dims`` stay with size one.

        ``sort`` (ascending, one dimension) keeps its dimension, merged into one axis.
        """
        gone = sorted({x.dim(dim) for dim in dims})
        if fn == "sort":
            return self._sort(x, gone[0])
        axes = [axis for dim in gone for axis in x.positions(dim)] if x.dims else []
        if not axes:
            return replace(x, dtype=dtype or x.dtype)
        left = tuple(() if number in gone else sizes for number, sizes in enumerate(x.dims))
        line = self.emit("symmetric", (x.line,), itertools.chain(*left), {"fn": fn, "axes": axes})
        return Sym(line, left, dtype or x.dtype)

    def _sort(self, x: Sym, dim: int) -> Sym:
        if not x.dims or not x.dims[dim]:
            return x
        x = self.merge(x, dim)
        order = [number for number in range(len(x.dims)) if number != dim] + [dim]
        left = tuple(x.dims[number] for number in order)
        attributes = {"fn": "sort", "axes": list(x.positions(dim))}
        last = Sym(self.emit("symmetric", (x.line,), itertools.chain(*left), attributes), left, x.dtype)
        return self.permute(last, [order.index(number) for number in range(len(order))])

    def along(
        self,
        fn: str,
        operands: Sequence[Sym],
        axes: Sequence[Sequence[int]],
        out: Sequence[int | None],
        dims: Dims,
        *,
        linear: bool,
        args: Mapping[str, Any] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Sym:
        """A function of the listed ``axes``. ``out``: an axis of the first operand, or None for a new one.

        Raises:
            NotInVocabulary: the other axes of the operands do not correspond.
        """
        kept = [
            tuple(size for axis, size in enumerate(x.axes) if axis not in set(listed))
            for x, listed in zip(operands, axes, strict=True)
        ]
        if len(set(kept)) > 1:
            raise NotInVocabulary(f"{fn} of tensors whose other axes differ: {kept}")
        attributes: dict[str, Any] = {
            "fn": fn,
            "axes": [list(listed) for listed in axes],
            "out": [["new"] if axis is None else ["batch", axis] for axis in out],
            "linear": linear,
        }
        if args:
            attributes["args"] = dict(args)
        line = self.emit("along", [x.line for x in operands], itertools.chain(*dims), attributes)
        return Sym(line, dims, dtype or operands[0].dtype)

    def take(
        self,
        fn: str,
        operands: Sequence[Sym],
        axes: Sequence[Sequence[int]],
        out: Sequence[int | None],
        sizes: Sequence[int],
        indices: Iterable[int],
        dims: Dims,
    ) -> Sym:
        """The linear ``along`` that moves entries, whatever its name: slices, concatenations, triangles, permutations.

        The entries along the listed axes of every operand, row-major in the order listed, are strung together. Entry
        ``j`` of the new axes (of these ``sizes``, row-major, in the order of ``out``) is entry ``indices[j]`` of that
        string, or 0 where ``indices[j]`` is -1.
        """
        args = {"sizes": [int(size) for size in sizes], "take": [int(index) for index in indices]}
        return self.along(fn, operands, axes, out, dims, linear=True, args=args)

    def round_(self, x: Sym, dtype: torch.dtype) -> Sym:
        """A cast to another floating-point type."""
        line = self.emit("round", (x.line,), x.axes, {"dtype": str(dtype).removeprefix("torch.")})
        return Sym(line, x.dims, dtype)

    # -- matrices --------------------------------------------------------------------------------------------------

    def matrix(self, x: Sym, what: str) -> Sym:
        """``x`` with its last two dimensions one axis each; `NotInVocabulary` where one is of size one."""
        if len(x.dims) < 2 or not x.dims[-1] or not x.dims[-2]:
            raise NotInVocabulary(f"{what} of a matrix of shape {x.shape[-2:]}")
        return self.merge(self.merge(x, -1), -2)

    def inverse(self, x: Sym) -> Sym:
        """The inverse of the matrices in the last two dimensions."""
        if x.shape[-2:] == (1, 1):
            return self.map("reciprocal", x)
        x = self.matrix(x, "inverse")
        return Sym(self.emit("inverse", (x.line,), x.axes), x.dims, x.dtype)

    def cholesky(self, x: Sym) -> Sym:
        """The lower Cholesky factor of the symmetric matrices in the last two dimensions."""
        if x.shape[-2:] == (1, 1):
            return self.map("sqrt", x)
        x = self.matrix(x, "cholesky")
        return Sym(self.emit("cholesky", (x.line,), x.axes), x.dims, x.dtype)

    def expm(self, x: Sym) -> Sym:
        """The exponential of the matrices in the last two dimensions."""
        if x.shape[-2:] == (1, 1):
            return self.map("exp", x)
        x = self.matrix(x, "expm")
        return Sym(self.emit("expm", (x.line,), x.axes), x.dims, x.dtype)

    def factor(self, op: str, x: Sym) -> tuple[Sym, ...]:
        """The parts of ``eigh``, ``svd`` or ``qr`` (reduced) of the matrices in the last two dimensions."""
        x = self.matrix(x, op)
        *batch, (rows,), (cols,) = x.dims
        rank = min(rows, cols)
        shapes: dict[str, tuple[tuple[int, ...], ...]] = {
            "eigh": ((rank,), (rank, rank)),
            "svd": ((rows, rank), (rank,), (rank, cols)),
            "qr": ((rows, rank), (rank, cols)),
        }
        line = self.emit(op, (x.line,), ())
        return tuple(
            self.part(line, name, (*batch, *((size,) for size in shape)), x.dtype)
            for name, shape in zip(BUNDLES[op], shapes[op], strict=True)
        )

    def part(self, bundle: int, name: str, dims: Dims, dtype: torch.dtype) -> Sym:
        """One value of a bundle."""
        return Sym(self.emit("part", (bundle,), itertools.chain(*dims), {"part": name}), dims, dtype)
