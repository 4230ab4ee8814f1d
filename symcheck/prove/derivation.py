"""A certificate as a page of mathematics: claim, definitions, the law of each value with its axiom, induction.

What a derivation shows is made for reading. It is derived from the certificate alone, and nothing here is believed: the
kernel reads the certificate, not the derivation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sympy import Integer

from symcheck.kernel.axioms import AXIOMS
from symcheck.prove.fold import LEAVES, Flow, Loop, loops
from symcheck.prove.formula import FACTORISATIONS, Formulas
from symcheck.prove.layout import as_latex, as_text
from symcheck.prove.naming import Names, numbers_in, rename, symbols_in
from symcheck.prove.notation import DiagMatrix, Expression, MatrixSymbol, Transpose, match, product, transpose, without
from symcheck.prove.page import Repetition, Row, Section, rows_of
from symcheck.prove.ranks import ranks_of
from symcheck.prove.statement import Statement
from symcheck.prove.transform import Image


@dataclass(frozen=True)
class Derivation:
    """A proof to read. ``statement`` is the claim; ``axioms`` are pairs of a name and what it says."""

    statement: Statement
    sections: tuple[Section, ...]
    axioms: tuple[tuple[str, str], ...]
    conditions: tuple[str, ...]
    bridge: Mapping[str, Any] = field(default_factory=dict)

    def text(self, width: int = 100) -> str:
        """The derivation in unicode for a terminal of ``width`` columns."""
        return as_text(self, width)

    def latex(self) -> str:
        """The derivation as a small LaTeX document (needs amsmath and amsthm)."""
        return as_latex(self)


def explain(certificate: Mapping[str, Any]) -> Derivation:
    """The derivation that a certificate stands for (``docs/proof.md``, section 5); it does not check it."""
    statement = Statement(certificate)
    sections: list[Section] = []
    count = 0
    used: dict[str, None] = {}
    for edge in sorted(certificate["edges"], key=statement.order):
        section = _Reader(statement, edge).section()
        again = sum(other.title.startswith(section.title) for other in sections)
        section = replace(section, title=f"{section.title}, path {again + 1}") if again else section
        same = _same(statement, sections, section, edge)
        if same is not None:
            sections.append(replace(section, items=(), same_as=same))
            continue
        items, count = _numbered(section.items, count)
        sections.append(replace(section, items=items))
        for row in rows_of(items):
            used.update(dict.fromkeys(row.axioms))
    said = {name: says for name, says, _ in AXIOMS}
    axioms = tuple((name, said.get(name, "")) for name in said if name in used)
    return Derivation(statement, tuple(sections), axioms, tuple(certificate["conditions"]), certificate["bridge"])


def _same(
    statement: Statement, earlier: Sequence[Section], section: Section, edge: Mapping[str, Any]
) -> tuple[int, tuple[tuple[Expression, Expression], ...]] | None:
    """The earlier section that has the rows of this one, and what must be put into it: zeros for state tensors that do
    not exist yet, and the values of numbers."""
    here = statement.nodes[edge["source"]]["laws"]
    absent = [path for path in statement.names if path.startswith("state:") and path not in here]
    for place, other in enumerate(earlier):
        for zeros in ([], absent) if other.same_as is None else ():
            names = frozenset(statement.symbol(path).name for path in zeros)
            values: dict[Expression, Expression] = {}
            if _alike(other, section, names, values):
                put = [(statement.symbol(path), Integer(0)) for path in zeros]
                put += [(symbol, value) for symbol, value in values.items() if symbol != value]
                return place, tuple(put)
    return None


def _alike(one: Section, two: Section, zeros: frozenset[str], values: dict[Expression, Expression]) -> bool:
    """Whether two sections have the same rows, once symbols are zero and numbers (added to ``values``) are put in."""
    if [len(getattr(item, "rows", ())) for item in one.items] != [len(getattr(item, "rows", ())) for item in two.items]:
        return False
    for a, b in zip(rows_of(one.items), rows_of(two.items), strict=True):
        if (a.left, a.images) != (b.left, b.images) or isinstance(a.right, str) != isinstance(b.right, str):
            return False
        if isinstance(a.right, str):
            if a.right != b.right:
                return False
        elif not match(without(a.right, zeros), b.right, frozenset(one.constants), values):
            return False
    return [getattr(item, "numbers", ()) for item in one.items] == [getattr(item, "numbers", ()) for item in two.items]


def _numbered(items: Sequence[Row | Repetition], count: int) -> tuple[tuple[Row | Repetition, ...], int]:
    result: list[Row | Repetition] = []
    for item in items:
        rows = []
        for row in item.rows if isinstance(item, Repetition) else (item,):
            count += 1
            rows.append(Row(row.left, row.right, row.images, row.axioms, count))
        if isinstance(item, Repetition):
            result.append(Repetition(item.count, item.start, tuple(rows), item.numbers))
        else:
            result.append(rows[0])
    return tuple(result), count


class _Reader:
    """The rows of one edge."""

    def __init__(self, statement: Statement, edge: Mapping[str, Any]) -> None:
        self.statement, self.edge, self.lines = statement, edge, edge["lines"]
        outputs = [*edge["outputs"].values(), *edge["leaks"]]
        self.flow = Flow(self.lines, outputs)
        ranks = ranks_of(self.lines, statement.ranks)
        folded = loops(self.flow)
        self.formulas = Formulas(self.flow, ranks, folded, statement.sizes)
        unlike = [loop for loop in folded if _numbers_of(self.formulas, loop) is None]
        if unlike:
            folded = [loop for loop in folded if loop not in unlike]
            self.formulas = Formulas(self.flow, ranks, folded, statement.sizes)
        self.loops = folded
        self.names = Names(statement, edge, self.formulas, folded)
        gauges = [*statement.gauges(edge["source"]), *(line["gauge"] for line in self.lines if line.get("gauge"))]
        self.motions = statement.motions.with_gauges(gauges)

    def section(self) -> Section:
        """The rows and leaks of the edge, under their names."""
        inside = {line: loop for loop in self.loops for segment in loop.segments for line in segment}
        items: list[Row | Repetition] = []
        done: set[int] = set()
        for line in self.flow.order:
            loop = inside.get(line)
            if loop is not None:
                if id(loop) not in done:
                    done.add(id(loop))
                    items.append(self._repetition(loop))
            elif self._has_row(line):
                items.append(self._row(line, self.names.symbols))
        items += self._plain_outputs()
        if all(isinstance(item, Row) and not isinstance(item.right, str) and self._keeps(item) for item in items):
            items = []
        leaks = tuple(
            dict.fromkeys((self._named(self.formulas.value(leak)), self._leak(leak)) for leak in self.edge["leaks"])
        )
        return Section(self.statement.path(self.edge), tuple(items), leaks, self._constants(items), self._gauges())

    def _constants(self, items: Sequence[Row | Repetition]) -> tuple[Expression, ...]:
        names = set(self.names.constants.values())
        found = [s for row in rows_of(items) if not isinstance(row.right, str) for s in symbols_in(row.right)]
        return tuple(sorted({s for s in found if s.name in names}, key=lambda symbol: symbol.name))

    def _gauges(self) -> tuple[tuple[Expression, str, Expression | None], ...]:
        """What the transformation leaves open in factorisations."""
        result = []
        for line in self.flow.order:
            gauge = self.lines[line].get("gauge")
            if gauge is not None:
                parts = [n for n in self.flow.order if self._is_part(n, line)]
                values = [n for n in parts if self.lines[n]["at"]["part"] in ("values", "s")]
                column = self._named(self.formulas.symbol(values[0], self.formulas.index(parts[0]))) if values else None
                kind = "loose" if self.lines[line]["op"] == "svd" and gauge["class"] == "block" else gauge["class"]
                result.append((self.motions.acting(gauge["name"], 1), kind, column))
        return tuple(result)

    def _named(self, expression: Expression) -> Expression:
        return rename(expression, self.names.symbols)

    def _has_row(self, line: int) -> bool:
        op = self.lines[line]["op"]
        return line in self.formulas.named and op not in ("input", "part")

    def _row(self, line: int, symbols: Mapping[str, str]) -> Row:
        formulas, data = self.formulas, self.lines[line]
        if data["op"] in FACTORISATIONS and data["op"] != "cholesky":
            return self._factorisation(line, symbols)
        index, inner = formulas.index(line), formulas.inner_index(line)
        left = rename(formulas.symbol(line, index), symbols)
        if data["op"] in ("random", "array"):
            words = f"{data['at']['distribution']} random numbers" if data["op"] == "random" else "constant"
            return Row(left, words, (self._image(left, data["law"]),), (data["op"],))
        right = rename(formulas.definition(line, inner), symbols)
        images = (self._image(left, data["law"]),)
        return Row(rename(formulas.symbol(line, inner), symbols), right, images, self._axioms(line))

    def _factorisation(self, line: int, symbols: Mapping[str, str]) -> Row:
        formulas, data = self.formulas, self.lines[line]
        operand = formulas.flow.root(data["in"][0])
        index = formulas.index(operand)
        parts = {self.lines[n]["at"]["part"]: n for n in self.flow.order if self._is_part(n, line)}
        found = {part: rename(formulas.symbol(n, index), symbols) for part, n in parts.items()}
        left = rename(formulas.value(operand, index), symbols)
        images = tuple(self._image(found[part], self.lines[n]["law"]) for part, n in parts.items())
        return Row(left, self._product(data["op"], found, left), images, self._axioms(line))

    def _is_part(self, n: int, bundle: int) -> bool:
        return bool(self.lines[n]["op"] == "part" and self.lines[n]["in"] == [bundle])

    @staticmethod
    def _product(op: str, parts: Mapping[str, Expression], matrix: Expression) -> Expression:
        """``U diag(s) V^T``; a part that nothing reads is a dot."""
        rows, cols = getattr(matrix, "shape", (1, 1))

        def part(name: str, size: tuple[Any, Any]) -> Expression:
            return parts.get(name, MatrixSymbol("·", *size))

        if op == "qr":
            return product(part("q", (rows, cols)), part("r", (cols, cols)))
        values, left = ("values", "vectors") if op == "eigh" else ("s", "u")
        u = part(left, (rows, rows))
        inner = u.shape[1]
        v = transpose(u) if op == "eigh" else part("vh", (inner, cols))
        middle = part(values, (inner, 1))
        return product(u, DiagMatrix(middle), v)

    def _repetition(self, loop: Loop) -> Repetition:
        symbols, start, letters = self.names.in_loop(loop)
        numbers = _numbers_of(self.formulas, loop) or {}
        rows = []
        shown: dict[Expression, tuple[Expression, ...] | None] = {}
        for place, line in enumerate(loop.segments[1]):
            if not self._has_row(line):
                continue
            row = self._row(line, symbols)
            if place in numbers and not isinstance(row.right, str):
                raw, changed = self.names.with_letters(
                    self.formulas.definition(line, self.formulas.inner_index(line)), numbers[place], letters
                )
                shown.update(changed)
                row = Row(row.left, rename(raw, symbols), row.images, row.axioms)
            rows.append(row)
        pairs = tuple((self.names.final(a), self.names.final(b)) for a, b in start)
        return Repetition(loop.repeats, pairs, tuple(rows), tuple(shown.items()))

    def _image(self, symbol: Expression, law: Any) -> tuple[Expression, Image]:
        return (symbol.arg if isinstance(symbol, Transpose) else symbol), self.motions.image(symbol, law)

    def _axioms(self, line: int) -> tuple[str, ...]:
        """The axioms of a line and of the unnamed lines it is written with, in the order of their use."""
        found: list[str] = []
        pending, seen = [line], set()
        while pending:
            n = pending.pop()
            data = self.lines[n]
            if n in seen or (n != line and (n in self.formulas.named or data["op"] in LEAVES)):
                continue
            seen.add(n)
            found += self.motions.lemmas(data, [self.lines[o] for o in data["in"]])
            pending += data["in"]
        quiet = {"round", "coerce", "contract-monomial"} if len(set(found)) > 1 else set()
        loud = [name for name in dict.fromkeys(reversed(found)) if name not in quiet]
        return tuple(loud or dict.fromkeys(found))

    @staticmethod
    def _keeps(row: Row) -> bool:
        """Whether a row says that an output is the input that it replaces."""
        return getattr(row.left, "name", "").replace("'", "") == getattr(row.right, "name", None)

    def _plain_outputs(self) -> list[Row]:
        """Outputs that are an input, a constant, or another output."""
        rows = []
        for name, number in sorted(self.edge["outputs"].items()):
            root = self.flow.root(number)
            symbol = self.names.output(name, root)
            value = self._named(self.formulas.value(root, self.formulas.index(root)))
            if value != symbol:
                rows.append(Row(symbol, value, (self._image(symbol, self.lines[number]["law"]),), self._axioms(root)))
        return rows

    def _leak(self, leak: int) -> str:
        root = self.flow.root(leak)
        image = self.motions.image(self.formulas.symbol(root, self.formulas.index(root)), self.lines[leak]["law"])
        return image if isinstance(image, str) else "moves"


def _numbers_of(formulas: Formulas, loop: Loop) -> dict[int, list[list[Expression]]] | None:
    """The numbers in every formula of a loop, by position and repetition; None if the formulas differ in more."""
    result: dict[int, list[list[Expression]]] = {}
    for place, first in enumerate(loop.segments[0]):
        if first not in formulas.named or formulas.lines[first]["op"] in ("part", *FACTORISATIONS):
            continue
        lists = [
            numbers_in(formulas.definition(seg[place], formulas.inner_index(first)), formulas) for seg in loop.segments
        ]
        if len({len(numbers) for numbers in lists}) > 1:
            return None
        result[place] = lists
    return result
