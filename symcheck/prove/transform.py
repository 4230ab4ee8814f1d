"""How a value moves, as mathematics: laws of certificates as images of symbols, and the axioms that lines rest on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sympy import Symbol

from symcheck.prove.notation import (
    ArrayOf,
    Expression,
    Inverse,
    MatrixSymbol,
    ScalarOf,
    Transpose,
    is_array,
    number,
    ones,
    power,
    product,
    total,
    transpose,
)

Law = Any
"""A law in JSON (``docs/proof.md``, section 5)."""
Image = Expression | str | tuple[Expression | str, ...]
"""What a value becomes: an expression, words, or an equation that it satisfies."""
STILL = ("inv", "free", "eig", "eig0", "eig1")
GAUGES = "ΘΞΨΦΥ"


@dataclass(frozen=True)
class Variable:
    """A variable of a claim, or a gauge: the symbol it is written with, its class and the axes it acts on."""

    symbol: str
    kind: str
    axes: int = 1
    fibre: str | None = None


class Motions:
    """Images of values under the variables in scope, by the laws of a certificate."""

    def __init__(self, variables: Iterable[Mapping[str, Any]], *, linear: str = "") -> None:
        self.linear = linear
        """The property, if its laws are those of shifts, sums or independence."""
        self.variables: dict[str, Variable] = {}
        for v in variables:
            taken = {variable.symbol for variable in self.variables.values()}
            symbol = v["name"] if len(v["name"]) == 1 and v["name"].isupper() else _letter(v["class"], v["axes"], taken)
            self.variables[v["name"]] = Variable(symbol, v["class"], v["axes"], v["fibre"])

    def with_gauges(self, gauges: Iterable[Mapping[str, Any]]) -> Motions:
        """The same with the gauges of factorisations, written with Greek capitals."""
        result = Motions([], linear=self.linear)
        result.variables = dict(self.variables)
        for place, gauge in enumerate(gauges):
            symbol = GAUGES[place % len(GAUGES)] + (f"_{{{place // len(GAUGES)}}}" if place >= len(GAUGES) else "")
            result.variables[gauge["name"]] = Variable(symbol, gauge["class"])
        return result

    def image(self, symbol: Expression, law: Law) -> Image:
        """The image of a value, or words (or an equation) where none says it."""
        if law is None:
            return "no law is needed"
        if isinstance(law, list):
            return linear_image(symbol, law, self.linear)
        if law == "zero" or "zero" in law:
            return "zero, which obeys every law"
        labels = law["axes"]
        words = self._words(labels, law)
        if words is not None:
            return words
        value = self._shared(labels, symbol)
        if value is None:
            turned = isinstance(symbol, Transpose)
            factors = [self._factor(label, self._size(symbol, place)) for place, label in enumerate(labels[-2:])]
            left = [factors[0]] if factors and factors[0] is not None else []
            right = [transpose(factors[1])] if len(factors) > 1 and factors[1] is not None else []
            value = product(*left, symbol, *right)
            if turned and len(factors) == 2:
                left, right = ([f] if f is not None else [] for f in factors)
                return product(*right, symbol.arg, *map(transpose, left))
        for name, k, e in law.get("scalars", []):
            value = product(self._character(name, k, Fraction(e)), value)
        return value

    def _words(self, labels: Sequence[Any], law: Mapping[str, Any]) -> str | None:
        if all(label[0] in STILL for label in labels) and not law.get("scalars"):
            return "invariant"
        if ["iso"] in labels and len(labels) == 2 and not law.get("scalars"):
            return "a multiple of I"
        diagonal = [label for label in labels if label[0] == "vec" and label[3] == 2 and self._linear(label[1])]
        if diagonal and len(labels) <= 2:
            name = self.variables[diagonal[0][1]].symbol
            return f"moves as the diagonal of {name} · {name}ᵀ"
        if len(labels) > 3 or (len(labels) == 3 and not self._wreath(labels)):
            return "axes moved by (" + ", ".join(self._short(label) for label in labels) + ")"
        return None

    def _wreath(self, labels: Sequence[Any]) -> bool:
        head = labels[0]
        return head[0] in STILL or (head[0] == "vec" and self.variables[head[1]].kind == "perm")

    def _linear(self, name: str) -> bool:
        return self.variables[name].kind in ("orth", "stab1", "block", "partial")

    def _short(self, label: Any) -> str:
        return self.variables[label[1]].symbol if label[0] == "vec" else "1"

    def _size(self, symbol: Expression, place: int) -> Expression:
        return symbol.shape[place]

    def _shared(self, labels: Sequence[Any], symbol: Expression) -> Expression | None:
        """The image under a variable that moves all entries at once."""
        for label in labels:
            if label[0] == "vec" and self.variables[label[1]].axes > 1:
                variable = self.variables[label[1]]
                element = Symbol(variable.symbol)
                return ArrayOf(
                    "acts", symbol.shape, self._monomial(variable, element, label[3], Fraction(label[4])), symbol
                )
        return None

    def _factor(self, label: Any, size: Expression) -> Expression | None:
        """The matrix that acts on an axis; None if it is the identity."""
        if label[0] != "vec":
            return None
        variable = self.variables[label[1]]
        name = variable.symbol if variable.fibre is None else f"{variable.symbol}_{{h}}"
        return self._monomial(variable, MatrixSymbol(name, size, size), label[3], Fraction(label[4]))

    def _monomial(self, variable: Variable, element: Expression, k: int, e: Fraction) -> Expression:
        """``sign^k |d|^e`` of the entries of a monomial matrix, moved as it moves them."""
        if variable.kind == "sperm":
            return element if k % 2 else _named("abs", element)
        if variable.kind in ("scale", "scale+"):
            return self._scaled(variable, element, k, e)
        return element

    def _character(self, name: str, k: int, e: Fraction) -> Expression:
        variable = self.variables[name]
        symbol = Symbol(variable.symbol)
        return symbol if variable.kind == "sign" else self._scaled(variable, symbol, k, e)

    @staticmethod
    def _scaled(variable: Variable, element: Expression, k: int, e: Fraction) -> Expression:
        """``sign^k |d|^e`` of a number or a diagonal matrix."""
        plain = variable.kind == "scale+"
        if abs(e) == 1 and (k % 2 == 1 or plain):
            inverse = Inverse(element) if is_array(element) else power(element, Fraction(-1))
            return element if e == 1 else inverse
        size = element if plain else _named("abs", element)
        factors = [_named("sgn", element)] if k % 2 else []
        factors += [size if e == 1 else power(size, e)] if e else []
        return product(*factors)

    def acting(self, name: str, size: Expression) -> Expression:
        """The matrix of a variable."""
        return MatrixSymbol(self.variables[name].symbol, size, size)

    def lemmas(self, line: Mapping[str, Any], operands: Sequence[Mapping[str, Any]]) -> list[str]:
        """The kernel's axioms that a line rests on, by name (`symcheck.kernel.axioms`)."""
        op = line["op"]
        if self.linear:
            return linear_lemma(line.get("law"), [operand.get("law") for operand in operands], self.linear)
        if op == "contract":
            return self._contraction(line["at"], [operand.get("law") for operand in operands])
        if op in ("zero", "eye", "number", "array"):
            return ["constant"]
        return [str(operands[0]["op"] if op == "part" else op)]

    def _contraction(self, at: Mapping[str, Any], laws: Sequence[Law]) -> list[str]:
        found: list[str] = []
        for row, law in zip(at["indices"], laws, strict=True):
            if not isinstance(law, dict) or "axes" not in law:
                continue
            for letter, label in zip(row, law["axes"], strict=True):
                name = self._law_of_index(label, letter in at["out"])
                if name and name not in found:
                    found.append(name)
        return found or ["contract-monomial"]

    def _law_of_index(self, label: Any, kept: bool) -> str | None:
        if label[0] == "iso":
            return "contract-delta"
        if label[0].startswith("eig"):
            return "contract-eigen"
        if label[0] != "vec" or kept:
            return None
        variable = self.variables[label[1]]
        if variable.fibre is not None:
            return "contract-fibre"
        if variable.kind in ("block", "partial"):
            return "contract-eigen"
        names = {"orth": "contract-orth", "stab1": "contract-stab1"}
        return names.get(variable.kind, "contract-monomial")


def _letter(kind: str, axes: int, taken: set[str]) -> str:
    """A letter for a variable: by custom, rotations and permutations are P, Q, diagonal matrices D, numbers c."""
    custom = "cuv" if axes == 0 else "EFH" if axes > 1 else "DFH" if kind.startswith("scale") else "PQRSTLKJ"
    more = (f"{custom[0]}_{{{k}}}" for k in range(1, 99))
    letters: Iterable[str] = (*custom, *more)
    return next(letter for letter in letters if letter not in taken)


def _named(name: str, element: Expression) -> Expression:
    return ArrayOf(name, element.shape, element) if is_array(element) else ScalarOf(name, element)


def linear_image(symbol: Expression, law: Sequence[Any], property: str) -> Image:
    """What a law of a shift, of column sums or of independence says about a value."""
    q, axis, sums = Fraction(law[0]), law[1], property == "horizontality"
    if not q and axis is None:
        return {"horizontality": "zero", "independence": "independent"}.get(property, "fixed")
    if axis is not None and not (is_array(symbol) and symbol.shape[1] != 1):
        return "of sum zero" if sums else "moves by a constant"
    if sums:
        weight = product(number(q), _summed(MatrixSymbol("W", *symbol.shape), axis))
        return (_summed(symbol, axis), "=", weight if q else number(0))
    if axis is None:
        return total([symbol, product(number(q), ones(symbol.shape[0]), transpose(_row(symbol, 0)))])
    if axis == 0:
        return total([symbol, product(ones(symbol.shape[0]), transpose(_row(symbol, 0)))])
    return total([symbol, product(_row(symbol, 1), transpose(ones(symbol.shape[1])))])


def _row(symbol: Expression, axis: int) -> Expression:
    return MatrixSymbol("c", symbol.shape[1 - axis], 1)


def _summed(matrix: Expression, axis: int) -> Expression:
    if axis == 0:
        return product(transpose(ones(matrix.shape[0])), matrix)
    return product(matrix, ones(matrix.shape[1]))


def linear_lemma(law: Sequence[Any] | None, operands: Sequence[Sequence[Any] | None], property: str) -> list[str]:
    """The axiom by which a line has such a law."""
    zero = ["0", None]
    if law is None or (law == zero and property == "horizontality"):
        return []
    if property == "independence":
        return ["independence"]
    if property == "horizontality":
        return ["sum-linear" if operands and operands[0] is not None else "sum-centre"]
    if law == zero:
        return ["shift-centre"] if any(operand != zero for operand in operands) else []
    return ["shift-linear"]
