"""From the elementary lines of a certificate to formulas: a few named values, everything else written out in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from sympy import Add, Expr, Integer, Symbol

from symcheck.prove.fold import LEAVES, Flow, Loop
from symcheck.prove.network import chain
from symcheck.prove.notation import (
    ArrayOf,
    Expression,
    Identity,
    Inverse,
    MatAdd,
    MatrixSymbol,
    ScalarOf,
    Transpose,
    ZeroMatrix,
    constant,
    is_array,
    number,
    ones,
    power,
    product,
    total,
    transpose,
)
from symcheck.prove.sizes import axis_sizes

LENGTH = 8
"""Most symbols on the right-hand side of a formula before a part of it gets a name."""
SYMBOLS = frozenset({"input", "random", "array", "part"})
FACTORISATIONS = frozenset({"eigh", "svd", "qr", "cholesky"})
INDEX = "hlabcdefg"
"""Letters for the leading axes of arrays of rank three and more."""
ROOTS = {"sqnorm": "norm", "meansq": "rms", "row_sqnorm": "row_norm", "row_meansq": "row_rms"}

Index = tuple[str, ...]


class Formulas:
    """Formulas for the values of one edge, in terms of the lines that have names.

    ``ranks`` are those of the lines' values. A named line ``n`` is the symbol ``v<n>``, with the letters of its
    leading axes after a bar (``v12|h``). ``tensors`` gives the sizes of the axes of weights and gradients.
    """

    def __init__(
        self,
        flow: Flow,
        ranks: Sequence[int],
        loops: Sequence[Loop],
        tensors: Mapping[tuple[int, int], Expr] = MappingProxyType({}),
    ) -> None:
        self.flow, self.lines, self.ranks = flow, flow.lines, ranks
        self.sizes = axis_sizes(self.lines, ranks, tensors)
        self.uses = dict.fromkeys(range(len(self.lines)), 0)
        for line in flow.order:
            for operand in set(flow.operands(line)):
                self.uses[self._through(operand)] += 1
        self.named: set[int] = {line for line in flow.outputs if not self._cheap(line)}
        for loop in loops:
            last = loop.segments[-1]
            for position, initial in loop.carried.items():
                self.named |= {initial, *(segment[position] for segment in loop.segments)}
            read = {o for line in flow.order if line not in last for o in flow.operands(line)} | flow.outputs
            self.named |= read & set(last)
        self._name(loops)

    def _name(self, loops: Sequence[Loop]) -> None:
        self._weights: dict[int, int] = {}
        for line in self.flow.order:
            op, operands = self.lines[line]["op"], self.flow.operands(line)
            if op in SYMBOLS or op in FACTORISATIONS or self.inner_index(line) != self.index(line):
                self.named.add(line)
            elif not self._fits(line):
                self.named |= {line, *(o for o in map(self._through, operands) if self.lines[o]["op"] not in LEAVES)}
            inner = sorted({self._through(o) for o in operands}, key=self._weight)
            while sum(map(self._weight, inner)) > LENGTH and self._weight(inner[-1]) > 2:
                self.named.add(inner[-1])
                inner.sort(key=self._weight)
            self._weights[line] = max(1, sum(map(self._weight, inner)))
            if self.uses[line] > 1 and not self._cheap(line):
                self.named.add(line)
        for loop in loops:  # every repetition has the names of the first
            for position in range(len(loop.segments[0])):
                if any(segment[position] in self.named for segment in loop.segments):
                    self.named |= {segment[position] for segment in loop.segments}

    def _weight(self, line: int) -> int:
        return 1 if line in self.named or line not in self._weights else self._weights[line]

    def _through(self, line: int) -> int:
        """The value that an array repeats."""
        line = self.flow.root(line)
        while self.lines[line]["op"] == "expand":
            line = self.flow.root(self.lines[line]["in"][0])
        return line

    def _cheap(self, line: int) -> bool:
        """Whether a value needs no name however often it is used: constants, inputs and their transposes."""
        data = self.lines[line]
        if data["op"] in LEAVES or data["op"] == "input":
            return True
        if data["op"] == "contract" and len(data["in"]) == 1 and self.ranks[line] == self.ranks[data["in"][0]]:
            return self._cheap(self.flow.root(data["in"][0]))
        return False

    def _fits(self, line: int) -> bool:
        """Whether a line can be written as a formula about matrices; otherwise it is written with indices."""
        data, ranks = self.lines[line], [self.ranks[o] for o in self.lines[line]["in"]]
        if data["op"] == "contract":
            return self._batch(line) is not None
        if data["op"] in ("along", "symmetric"):
            return all(rank <= 2 for rank in (*ranks, self.ranks[line]))
        return True

    def _batch(self, line: int) -> int | None:
        """How many leading letters of a contraction run through it unchanged; None if no formula fits."""
        counts = range(max(self.ranks[line] - 2, 0), self.ranks[line] + 1)
        return next((count for count in counts if self._runs_through(line, count)), None)

    def _runs_through(self, line: int, count: int) -> bool:
        data = self.lines[line]
        rows, out = data["at"]["indices"], data["at"]["out"]
        head = out[:count]
        for row in rows:
            inside = [letter for letter in row if letter in head]
            if (inside and (row[:count] != head or len(inside) != count)) or len(row) - len(inside) > 2:
                return False
        rest = [[i for i in row if i not in head] for row in rows]
        return chain(rest, out[count:]) is not None

    def index(self, line: int) -> Index:
        """Letters for the leading axes of a line's value."""
        return tuple(INDEX[: max(self.ranks[line] - 2, 0)])

    def inner_index(self, line: int) -> Index:
        """The same for the formula of a line, which may be one for every entry along an axis: ``u_h = |Y_h|^2``."""
        count = self._batch(line) if self.lines[line]["op"] == "contract" else None
        return self.index(line) if count is None else tuple(INDEX[:count])

    def symbol(self, line: int, index: Index) -> Expression:
        """The symbol of a named line, at the given leading index."""
        name = f"v{line}" + (f"|{','.join(index)}" if index else "")
        shape = self._shape(line, index)
        if shape is None:
            return Symbol(name)
        if self.lines[line]["op"] == "part" and self.lines[line]["at"]["part"] == "vh":
            return Transpose(MatrixSymbol(name, *shape[::-1]))  # X = U diag(s) V^T
        return MatrixSymbol(name, *shape)

    def _shape(self, line: int, index: Index) -> tuple[Expr, Expr] | None:
        sizes = self.sizes[line][len(index) :]
        if len(sizes) == 0:
            return None
        return (sizes[-2], sizes[-1]) if len(sizes) > 1 else (sizes[0], Integer(1))

    def value(self, line: int, index: Index = ()) -> Expression:
        """The value of a line in a formula: its symbol, or its definition where it has no name."""
        line = self.flow.root(line)
        if line in self.named:
            return self.symbol(line, index)
        return self.definition(line, index)

    def definition(self, line: int, index: Index) -> Expression:
        """The formula of a line in terms of named values."""
        data = self.lines[line]
        op, at, shape = data["op"], data.get("at", {}), self._shape(line, index)
        if op == "number":
            return self.symbol(line, ()) if at["value"] is None else number(Fraction(at["value"]))
        if op == "zero":
            return number(0) if shape is None else ZeroMatrix(*shape)
        if op == "eye":
            return Identity(self._shape(line, ())[0])  # type: ignore[index]
        if op in SYMBOLS:
            return self.symbol(line, index)
        if op == "contract":
            return self._contract(line, index)
        if op == "expand":
            return self._expand(line, index)
        operands = [self.value(o, index if self.ranks[o] == self.ranks[line] else ()) for o in data["in"]]
        if op == "add":
            return _add(at["signs"], operands)
        if op == "map":
            return _map(at["fn"], at["args"], operands)
        if op == "inverse":
            return Inverse(operands[0])
        name, extra = _call(op, at, [self.ranks[o] for o in data["in"]])
        if shape is None:
            return ScalarOf(name, *operands, *extra)
        return ArrayOf(name, shape, *operands, *extra)

    def _expand(self, line: int, index: Index) -> Expression:
        data = self.lines[line]
        new = data["at"]["axes"]
        kept = tuple(letter for axis, letter in enumerate(index) if axis not in new)
        inner = self.value(data["in"][0], kept)
        shape = self._shape(line, index)
        if shape is None:
            return inner
        if not is_array(inner):
            return constant(inner, shape)
        if len(self.sizes[line]) - len(index) == 1 or inner.shape == shape:
            return inner
        if self.ranks[line] - 1 in new:
            return product(inner, transpose(ones(shape[1])))
        return product(ones(shape[0]), transpose(inner))

    def _contract(self, line: int, index: Index) -> Expression:
        data = self.lines[line]
        rows, out = [list(row) for row in data["at"]["indices"]], list(data["at"]["out"])
        operands = list(data["in"])
        for k, operand in enumerate(operands):  # an array repeated along an axis that others have, too
            root = self.flow.root(operand)
            while self.lines[root]["op"] == "expand" and root not in self.named:
                new = self.lines[root]["at"]["axes"]
                others = {i for j, row in enumerate(rows) if j != k for i in row}
                if any(rows[k][axis] not in others for axis in new):
                    break
                rows[k] = [i for axis, i in enumerate(rows[k]) if axis not in new]
                root = self.flow.root(self.lines[root]["in"][0])
            operands[k] = root
        head = len(index)
        letters = out[:head]
        ends, values = [], []
        for operand, row in zip(operands, rows, strict=True):
            inside = [letter for letter in row if letter in letters]
            values.append(self.value(operand, tuple(index[letters.index(letter)] for letter in inside)))
            ends.append([i for i in row if i not in letters])
        sizes = {i: s for o, row in zip(data["in"], data["at"]["indices"], strict=True)
                 for i, s in zip(row, self.sizes[o], strict=True)}  # fmt: skip
        plan = chain(ends, out[head:]) if self._batch(line) == head else None
        if plan is None:
            return self._indexed(line, operands, rows, out, index)
        return plan(values, sizes, data["at"]["mean"])

    def _indexed(
        self, line: int, operands: list[int], rows: list[list[int]], out: list[int], index: Index
    ) -> Expression:
        names = "ijkpqrsuvw"
        letters = {letter: names[place % len(names)] for place, letter in enumerate([*out, *_others(rows, out)])}
        values = [
            self.value(o, tuple(letters[i] for i in row)) if o in self.named else self.value(o)
            for o, row in zip(operands, rows, strict=True)
        ]
        mean = "mean" if self.lines[line]["at"]["mean"] else "sum"
        spec = Symbol("".join(letters[i] for i in out)), Symbol("".join(letters[i] for i in _others(rows, out)))
        marked = [
            Symbol(f"v{o}|{','.join(letters[i] for i in row)}") if o in self.named else value
            for o, row, value in zip(operands, rows, values, strict=True)
        ]
        shape = self._shape(line, index)
        if shape is None:
            return ScalarOf(f"indexed {mean}", *spec, *marked)
        return ArrayOf(f"indexed {mean}", shape, *spec, *marked)


def _others(rows: Sequence[Sequence[int]], out: Sequence[int]) -> list[int]:
    return list(dict.fromkeys(i for row in rows for i in row if i not in out))


def _add(signs: Sequence[int], operands: list[Expression]) -> Expression:
    """A signed sum; ``x + w (y - x)`` with a number ``w`` is shown as the average ``(1 - w) x + w y``."""
    if len(operands) == 2 and signs[0] == 1:
        x, rest = operands
        args = rest.args
        if len(args) == 2 and args[0].is_Rational and isinstance(args[1], Add | MatAdd) and len(args[1].args) == 2:
            weight = args[0] * signs[1]
            for y, z in (args[1].args, args[1].args[::-1]):
                if z == product(number(-1), x):
                    return total([product(1 - weight, x), product(weight, y)])
                if z == x:
                    return total([product(1 + weight, x), product(weight, y)])
    return total(
        [value if sign == 1 else product(number(-1), value) for sign, value in zip(signs, operands, strict=True)]
    )


def _map(fn: str, args: Sequence[str | None], operands: list[Expression]) -> Expression:
    value = operands[0]
    if fn == "neg":
        return product(number(-1), value)
    if fn == "reciprocal":
        return ArrayOf(fn, value.shape, value) if is_array(value) else power(value, Fraction(-1))
    if fn in ("sqrt", "rsqrt") or (fn == "power" and args[0] in ("1/2", "-1/2")):
        root = _root(value)
        return _map("reciprocal", [], [root]) if fn == "rsqrt" or args == ["-1/2"] else root
    if fn == "power":
        return power(value, Fraction(str(args[0])))
    if fn == "square":
        return power(value, Fraction(2))
    if fn == "clamp":
        bounds = [None if bound is None else number(Fraction(bound)) for bound in args]
        operands = [*operands, *(b for b in bounds if b is not None)]
        fn = "clamp" if None not in bounds else "minimum" if bounds[0] is None else "maximum"
    else:
        operands = [*operands, *(number(Fraction(a)) for a in args if a is not None)]
    arrays = [operand for operand in operands if is_array(operand)]
    return ArrayOf(fn, arrays[0].shape, *operands) if arrays else ScalarOf(fn, *operands)


def _root(value: Expression) -> Expression:
    """The square root; that of a sum of squares is a norm."""
    if isinstance(value, ScalarOf) and value.name in ROOTS:
        return ScalarOf(ROOTS[value.name], *value.operands)
    if isinstance(value, ArrayOf):
        if value.name in ROOTS:
            return ArrayOf(ROOTS[value.name], value.shape, *value.operands)
        return ArrayOf("sqrt", value.shape, value)
    return ArrayOf("sqrt", value.shape, value) if is_array(value) else power(value, Fraction(1, 2))


def _call(op: str, at: Mapping[str, Any], ranks: Sequence[int]) -> tuple[str, list[Expression]]:
    """The name of a function of whole arrays, and what else to show of it."""
    if op == "symmetric":
        partial = len(at["axes"]) < ranks[0]
        return at["fn"], [Symbol(f"axes {', '.join(str(a + 1) for a in sorted(at['axes']))}")] if partial else []
    if op == "along":
        listed = sorted({axis + 1 for row in at["axes"] for axis in row})
        partial = len(listed) < max(ranks)
        return at["fn"], [Symbol(f"axes {', '.join(map(str, listed))}")] if partial else []
    if op == "expand":
        return "repeat", []
    return op, []
