"""Writing programs by hand or by chance: lines with symbolic axes, at the sizes of one shape.

The same calls on another shape write the same program, because nothing here looks at sizes but the values of ``take``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from symcheck.trace.functions import MAPS
from symcheck.trace.program import BUNDLES, Line, Program

ENTRYWISE = tuple(
    "neg abs square relu tanh sign exp sigmoid is_zero is_nonzero floor round sin cos sqrt silu".split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Node:
    """A line and the symbols of its axes: ``m``, ``n``, ``k`` (the smaller of them), a size, or a sum ``n+n``."""

    line: int
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Sized:
    """A program at one shape, as interpreters need it."""

    program: Program
    constants: Mapping[int, Any]
    sizes: tuple[tuple[int, ...], ...]


class Sketch:
    """A program in the making on weights of shape ``(m, n)``.

    With probability ``mutation`` an operation is not the one asked for, but one that fits its place.
    """

    def __init__(self, m: int, n: int, rng: random.Random, mutation: float = 0.0) -> None:
        self.rng = rng
        self.mutation = mutation
        self.lengths = {"m": m, "n": n, "k": min(m, n)}
        self.lines: list[Line] = []
        self.sizes: list[tuple[int, ...]] = []
        self.constants: dict[int, Any] = {}
        self.nodes: list[Node] = []

    def length(self, symbol: str) -> int:
        """The size of an axis."""
        return sum(self.lengths[part] if part in self.lengths else int(part) for part in symbol.split("+"))

    def finish(self, outputs: Mapping[str, Node], leaks: Sequence[Node] = ()) -> Sized:
        """The program with these outputs."""
        program = Program(
            tuple(self.lines), {name: node.line for name, node in outputs.items()}, tuple(node.line for node in leaks)
        )
        return Sized(program, self.constants, tuple(self.sizes))

    def emit(self, op: str, operands: Sequence[Node], axes: Sequence[str] | None, /, **at: Any) -> Node:
        """One line; ``axes`` is None for a bundle."""
        size = tuple(map(self.length, axes or ()))
        self.lines.append(Line(op, tuple(x.line for x in operands), at, -1 if axes is None else len(axes), "sketch"))
        self.sizes.append(size)
        node = Node(len(self.lines) - 1, tuple(axes or ()))
        if axes is not None:
            self.nodes.append(node)
        return node

    def _strays(self) -> bool:
        return self.rng.random() < self.mutation

    def _like(self, x: Node) -> Node:
        """Another value with the axes of ``x``."""
        return self.rng.choice([node for node in self.nodes if node.axes == x.axes])

    # -- sources -------------------------------------------------------------------------------------------------------

    def input(self, name: str, *axes: str) -> Node:
        """An input."""
        return self.emit("input", (), axes, name=name)

    def number(self, value: Fraction | int | str) -> Node:
        """A constant of rank 0."""
        value = Fraction(value)
        return self.emit("number", (), (), value=str(value), nonneg=value >= 0)

    def zero(self, *axes: str) -> Node:
        """Zeros."""
        return self.emit("zero", (), axes, rank=len(axes))

    def eye(self, axis: str) -> Node:
        """The identity matrix."""
        return self.emit("eye", (), (axis, axis))

    def array(self, *axes: str) -> Node:
        """A constant array whose entries differ."""
        node = self.emit("array", (), axes, rank=len(axes))
        shape = self.sizes[node.line]
        self.constants[node.line] = (1.0 + np.arange(np.prod(shape, dtype=int))).reshape(shape) / 8
        return node

    # -- operations ----------------------------------------------------------------------------------------------------

    def expand(self, x: Node, positions: Sequence[int], axes: Sequence[str]) -> Node:
        """``x`` constant along new axes: ``axes`` are all of the result, ``positions`` the new ones."""
        return self.emit("expand", (x,), axes, axes=list(positions))

    def einsum(self, formula: str, *operands: Node, mean: bool = False) -> Node:
        """A contraction, written as numpy does."""
        operands = tuple(self._like(x) if x.axes and self._strays() else x for x in operands)
        left, out = formula.replace(" ", "").split("->")
        symbols: dict[str, str] = {}
        for letters, x in zip(left.split(","), operands, strict=True):
            symbols |= dict(zip(letters, x.axes, strict=True))
        number = {letter: position for position, letter in enumerate(symbols)}
        indices = [[number[letter] for letter in letters] for letters in left.split(",")]
        axes = tuple(symbols[letter] for letter in out)
        return self.emit("contract", operands, axes, indices=indices, out=[number[i] for i in out], mean=mean)

    def times(self, x: Node, scalar: Node | Fraction | int | str) -> Node:
        """``x`` times a scalar."""
        factor = scalar if isinstance(scalar, Node) else self.number(scalar)
        letters = "ijkl"[: len(x.axes)]
        return self.einsum(f"{letters},->{letters}", x, factor)

    def product(self, x: Node, y: Node) -> Node:
        """The elementwise product."""
        letters = "ijkl"[: len(x.axes)]
        return self.einsum(f"{letters},{letters}->{letters}", x, y)

    def matmul(self, x: Node, y: Node) -> Node:
        """The product of matrices."""
        return self.einsum("ij,jk->ik", x, y)

    def transpose(self, x: Node) -> Node:
        """The transpose of a matrix."""
        return self.einsum("ij->ji", x)

    def add(self, *operands: Node, signs: Sequence[int] | None = None) -> Node:
        """A signed sum."""
        chosen = [-sign if self._strays() else sign for sign in signs or [1] * len(operands)]
        return self.emit("add", operands, operands[0].axes, signs=chosen)

    def plus(self, x: Node, scalar: Fraction | int | str) -> Node:
        """``x`` plus a constant in every entry."""
        number = self.number(scalar)
        if x.axes:
            number = self.expand(number, range(len(x.axes)), x.axes)
        return self.add(x, number)

    def map(self, fn: str, *operands: Node, args: Sequence[str | None] = ()) -> Node:
        """An elementwise function."""
        if len(operands) == 1 and self._strays():
            fn, args = self.rng.choice(ENTRYWISE), ()
        if len(operands) != MAPS[fn][0]:
            raise ValueError(f"{fn} has {MAPS[fn][0]} operands, not {len(operands)}")
        return self.emit("map", operands, operands[0].axes, fn=fn, **({"args": list(args)} if args else {}))

    def select(self, mask: Node, x: Node, y: Node) -> Node:
        """``where(mask, x, y)``."""
        return self.emit("select", (mask, x, y), x.axes)

    def symmetric(self, fn: str, x: Node, *axes: int) -> Node:
        """A function of the entries along ``axes`` that ignores their order."""
        kept = [symbol for axis, symbol in enumerate(x.axes) if axis not in axes]
        if fn == "sort":
            kept.append(x.axes[axes[0]])
        return self.emit("symmetric", (x,), kept, fn=fn, axes=list(axes))

    def take(
        self, name: str, operands: Sequence[Node], axis: int, symbol: str, indices: Callable[[list[int]], list[int]]
    ) -> Node:
        """Entries of the operands along one axis, strung together; ``indices`` sees the lengths of the pieces."""
        first = operands[0].axes
        chosen = indices([self.length(x.axes[axis]) for x in operands])
        out: list[list[Any]] = [["batch", i] if i != axis else ["new"] for i in range(len(first))]
        axes = [symbol if i == axis else s for i, s in enumerate(first)]
        at = {"axes": [[axis]] * len(operands), "linear": True, "args": {"sizes": [len(chosen)], "take": chosen}}
        return self.emit("along", operands, axes, fn=name, out=out, **at)

    def triangle(self, x: Node) -> Node:
        """The lower triangle of a square matrix."""
        n = self.length(x.axes[0])
        chosen = [i * n + j if j <= i else -1 for i in range(n) for j in range(n)]
        at = {"axes": [[0, 1]], "out": [["new"], ["new"]], "args": {"sizes": [n, n], "take": chosen}}
        return self.emit("along", (x,), x.axes, fn="tril", linear=True, **at)

    def along(self, fn: str, x: Node, axis: int) -> Node:
        """A named function along one axis."""
        out: list[list[Any]] = [["batch", i] if i != axis else ["new"] for i in range(len(x.axes))]
        return self.emit("along", (x,), x.axes, fn=fn, axes=[[axis]], out=out, linear=fn == "cumsum")

    def factor(self, op: str, x: Node) -> dict[str, Node]:
        """The parts of a factorisation; of ``inverse``, ``cholesky`` and ``expm`` the part ``""``."""
        if op not in BUNDLES:
            return {"": self.emit(op, (x,), x.axes)}
        bundle = self.emit(op, (x,), None)
        rows, cols = x.axes
        short = rows if rows == cols else "k"
        shapes = {"values": (rows,), "vectors": (rows, rows), "u": (rows, short), "s": (short,), "vh": (short, cols)}
        shapes |= {"q": (rows, short), "r": (short, cols)}
        return {name: self.emit("part", (bundle,), shapes[name], part=name) for name in BUNDLES[op]}
