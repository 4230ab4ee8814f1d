"""Names for the values of a derivation: letters by custom, primes for the next state, indices for repetitions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sympy import Symbol

from symcheck.prove.fold import Loop
from symcheck.prove.formula import Formulas
from symcheck.prove.notation import Expression, MatrixSymbol, rebuild

if TYPE_CHECKING:
    from symcheck.prove.statement import Statement

MATRICES, GRAMS, COLUMNS, SCALARS, CONSTANTS = "XYZNFKJ", "ABCHKL", "uvxyzwrs", "νστρωφχψζξ", "αβγδκημπ"
CUSTOM = {"values": "λμθκ", "s": "σςλμ", "vectors": "UVZY", "u": "UZNF", "vh": "VYFN"}
"""Names of the parts of factorisations."""


def rename(expression: Expression, symbols: Mapping[str, str]) -> Expression:
    """The expression with the symbols of lines (``v12``, ``v12|h``) under their names."""

    def leaf(item: Expression) -> Expression:
        if item.is_Rational:
            return item
        base, _, index = item.name.partition("|")
        if base not in symbols:
            return item
        name = with_index(symbols[base], index)
        return MatrixSymbol(name, *item.shape) if isinstance(item, MatrixSymbol) else Symbol(name)

    return rebuild(expression, leaf)


def with_index(name: str, index: str) -> str:
    """A name with one more index: ``X_{k}`` and ``h`` make ``X_{k,h}``."""
    if not index:
        return name
    return f"{name[:-1]},{index}}}" if name.endswith("}") else f"{name}_{{{index}}}"


def primed(name: str) -> str:
    """The name of the same thing after the step: ``M_{1}`` becomes ``M'_{1}``."""
    base, brace, sub = name.partition("_{")
    return f"{base}'{brace}{sub}"


def numbers_in(expression: Expression, formulas: Formulas) -> list[Expression]:
    """The numbers of a formula from left to right: known ones, and the symbols of those that depend on the step."""
    found: list[Expression] = []

    def leaf(item: Expression) -> Expression:
        if item.is_Rational or is_number(item, formulas):
            found.append(item)
        return item

    rebuild(expression, leaf)
    return found


def symbols_in(expression: Expression) -> list[Expression]:
    """The symbols of an expression from left to right."""
    found: list[Expression] = []

    def leaf(item: Expression) -> Expression:
        if not item.is_Rational:
            found.append(item)
        return item

    rebuild(expression, leaf)
    return found


def is_number(symbol: Expression, formulas: Formulas) -> bool:
    """Whether a symbol stands for a ``number`` line."""
    name = getattr(symbol, "name", "").partition("|")[0]
    return name[:1] == "v" and name[1:].isdigit() and formulas.lines[int(name[1:])]["op"] == "number"


class Names:
    """The names of one edge: ``symbols`` maps the symbol of every named line outside loops to its name."""

    def __init__(
        self, statement: Statement, edge: Mapping[str, Any], formulas: Formulas, folded: Sequence[Loop]
    ) -> None:
        self.formulas, self.lines = formulas, formulas.lines
        self.statement = statement
        self.symbols: dict[str, str] = {}
        self.taken = set(statement.names.values()) | {v.symbol for v in statement.motions.variables.values()}
        for line in formulas.flow.order:
            if self.lines[line]["op"] == "input":
                self.symbols[f"v{line}"] = statement.names[self.lines[line]["at"]["name"]]
        for name, number in sorted(edge["outputs"].items()):
            root = formulas.flow.root(number)
            if root in formulas.named:
                self.symbols.setdefault(f"v{root}", primed(statement.names[name]))
        self._letters: dict[int, dict[int, str]] = {}
        self._starts: dict[int, list[tuple[str, int]]] = {}
        hidden = {line for loop in folded for segment in loop.segments for line in segment}
        greek = iter([*CONSTANTS, *(f"κ_{{{k}}}" for k in range(1, 999))])
        self.constants: dict[str, str] = {}
        for loop in folded:  # first, so that iterations get the letters that readers expect
            self._loop(loop)
        for line in formulas.flow.order:
            if line not in hidden and line in formulas.named and f"v{line}" not in self.symbols:
                self.symbols[f"v{line}"] = self._fresh(line)
        for line, data in enumerate(self.lines):
            if data["op"] == "number" and data["at"]["value"] is None:
                self.constants[f"v{line}"] = with_index(next(greek), "t")
        self.symbols |= self.constants

    def _fresh(self, line: int) -> str:
        data = self.lines[line]
        if data["op"] == "part":
            part = data["at"]["part"]
            return self._free(list(CUSTOM[part]) if part in CUSTOM else [f"{part.upper()}^"])
        if data["op"] == "random":
            return self._free(["Ω", "Ξ"])
        rank = self.formulas.ranks[line]
        law = data.get("law")
        axes = law.get("axes", []) if isinstance(law, dict) else []
        gram = rank > 1 and len(axes) == rank and axes[-1] == axes[-2] and axes[-1][0] == "vec"
        pool = GRAMS if gram else MATRICES if rank > 1 else COLUMNS if rank == 1 else SCALARS
        return self._free(list(pool))

    def _free(self, pool: Sequence[str]) -> str:
        more: Iterator[str] = (f"{letter}^" for letter in pool if "^" not in letter)
        last: Iterator[str] = (f"{pool[0]}_{{({k})}}" for k in itertools.count(1))
        name = next(name for name in itertools.chain(pool, more, last) if name not in self.taken)
        self.taken.add(name)
        return name

    def _loop(self, loop: Loop) -> None:
        """Letters for what a loop makes, and the names of what is left after it."""
        key, last = loop.segments[0][0], loop.segments[-1]
        letters: dict[int, str] = {}
        self._starts[key] = []
        for position, initial in loop.carried.items():
            base = letters[position] = self._fresh(loop.segments[0][position])
            if f"v{initial}" in self.symbols:
                self._starts[key].append((f"{base}_{{0}}", initial))
            else:
                self.symbols[f"v{initial}"] = f"{base}_{{0}}"
        for position, line in enumerate(loop.segments[0]):
            if position not in letters and line in self.formulas.named:
                letters[position] = self._fresh(line)
        self._letters[key] = letters
        for position, base in letters.items():
            count = loop.repeats if position in loop.carried else loop.repeats - 1
            self.symbols.setdefault(f"v{last[position]}", f"{base}_{{{count}}}")

    def in_loop(self, loop: Loop) -> tuple[dict[str, str], list[tuple[Expression, Expression]], Iterator[str]]:
        """Names inside a loop, pairs of equal symbols around it, and letters for its numbers."""
        key, formulas = loop.segments[0][0], self.formulas
        symbols = dict(self.symbols)
        pairs = []
        for position, base in self._letters[key].items():
            own, before = loop.segments[1][position], loop.segments[0][position]
            carried = position in loop.carried
            symbols[f"v{own}"] = f"{base}_{{k+1}}" if carried else f"{base}_{{k}}"
            symbols[f"v{before}"] = f"{base}_{{k}}" if carried else f"{base}_{{k-1}}"
            final = self.symbols[f"v{loop.segments[-1][position]}"]
            if carried and final != f"{base}_{{{loop.repeats}}}":
                like = formulas.symbol(own, formulas.index(own))
                pairs.append((_like(like, final), _like(like, f"{base}_{{{loop.repeats}}}")))
        for name, initial in self._starts[key]:
            symbol = formulas.value(initial, formulas.index(initial))
            pairs.append((_like(symbol, name), rename(symbol, self.symbols)))
        letters = (letter for letter in "abcdefgpqrsuvwxyz" if letter not in self.taken)
        return symbols, pairs, letters

    def final(self, expression: Expression) -> Expression:
        """An expression under the names outside loops."""
        return rename(expression, self.symbols)

    def with_letters(
        self, expression: Expression, numbers: Sequence[Sequence[Expression]], letters: Iterator[str]
    ) -> tuple[Expression, dict[Expression, tuple[Expression, ...] | None]]:
        """The formula with a letter for every number that differs between repetitions, and what the letters are."""
        shown: dict[Expression, tuple[Expression, ...] | None] = {}
        chosen: dict[tuple[Expression, ...], Expression] = {}
        place = itertools.count()

        def leaf(item: Expression) -> Expression:
            if not (item.is_Rational or is_number(item, self.formulas)):
                return item
            here = next(place)
            values = tuple(row[here] for row in numbers)
            if len(set(values)) == 1:
                return item
            if values not in chosen:
                chosen[values] = Symbol(f"{next(letters)}_{{k}}")
                shown[chosen[values]] = values if all(v.is_Rational for v in values) else None
            return chosen[values]

        return rebuild(expression, leaf), shown

    def output(self, name: str, root: int) -> Expression:
        """The symbol of an output: the name of the input that it replaces, with a prime."""
        index = self.formulas.index(root)
        like = self.formulas.symbol(root, index)
        return _like(like, with_index(primed(self.statement.names[name]), ",".join(index)))


def _like(symbol: Expression, name: str) -> Expression:
    return MatrixSymbol(name, *symbol.shape) if hasattr(symbol, "shape") else Symbol(name)
