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
    is_array,
    power,
    product,
    transpose,
)

Law = Any
"""A law in JSON (``docs/proof.md``, section 5)."""
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

    def __init__(self, variables: Iterable[Mapping[str, Any]]) -> None:
        self.variables: dict[str, Variable] = {}
        for v in variables:
            taken = {variable.symbol for variable in self.variables.values()}
            symbol = v["name"] if len(v["name"]) == 1 and v["name"].isupper() else _letter(v["class"], v["axes"], taken)
            self.variables[v["name"]] = Variable(symbol, v["class"], v["axes"], v["fibre"])

    def with_gauges(self, gauges: Iterable[Mapping[str, Any]]) -> Motions:
        """The same with the gauges of factorisations, written with Greek capitals."""
        result = Motions([])
        result.variables = dict(self.variables)
        for place, gauge in enumerate(gauges):
            symbol = GAUGES[place % len(GAUGES)] + (f"_{{{place // len(GAUGES)}}}" if place >= len(GAUGES) else "")
            result.variables[gauge["name"]] = Variable(symbol, gauge["class"])
        return result

    def image(self, symbol: Expression, law: Law) -> Expression | str:
        """The image of a value, or words where no formula says it."""
        if law is None:
            return "nothing is claimed"
        if isinstance(law, list):
            return simple_law(law)
        if law == "zero" or "zero" in law:
            return "zero, which obeys every law"
        labels = law["axes"]
        words = self._words(labels, law)
        if words is not None:
            return words
        value = self._shared(labels, symbol)
        if value is None:
            factors = [self._factor(label, self._size(symbol, place)) for place, label in enumerate(labels[-2:])]
            left = [factors[0]] if factors and factors[0] is not None else []
            right = [transpose(factors[1])] if len(factors) > 1 and factors[1] is not None else []
            value = product(*left, symbol, *right)
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
        return self.variables[name].kind in ("orth", "stab1", "block", "core")

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
        if variable.kind == "block" and label[2] == 1:  # the right face of singular vectors
            name += "^"
        return self._monomial(variable, MatrixSymbol(name, size, size), label[3], Fraction(label[4]))

    def _monomial(self, variable: Variable, element: Any, k: int, e: Fraction) -> Expression:
        """``sign^k |d|^e`` of the entries of a monomial matrix, moved as it moves them."""
        if variable.kind == "sperm" and k % 2 == 0:
            return _absolute(element)
        if variable.kind in ("scale", "scale+") and (k % 2, e) != (1, 1) and (variable.kind, e) != ("scale+", 1):
            if e == -1 and (k % 2 == 1 or variable.kind == "scale+"):
                return Inverse(element) if is_array(element) else power(element, Fraction(-1))
            size = _absolute(element) if variable.kind == "scale" else element
            moved = size if e == 1 else power(size, e)
            return moved if k % 2 == 0 else product(Symbol("sgn"), moved)
        return element

    def _character(self, name: str, k: int, e: Fraction) -> Expression:
        symbol = Symbol(self.variables[name].symbol)
        if e == 0:
            return symbol
        size = _absolute(symbol) if self.variables[name].kind == "scale" and e != k else symbol
        return size if e == 1 else power(size, e)

    def acting(self, name: str, size: Expression) -> Expression:
        """The matrix of a variable."""
        return MatrixSymbol(self.variables[name].symbol, size, size)

    def lemmas(self, line: Mapping[str, Any], operands: Sequence[Mapping[str, Any]]) -> list[str]:
        """The kernel's axioms that a line rests on, by name (`symcheck.kernel.axioms`)."""
        op = line["op"]
        if op == "contract":
            return self._contraction(line["at"], [operand.get("law") for operand in operands])
        if op in ("zero", "eye", "number", "array"):
            return ["constant"]
        return [operands[0]["op"] if op == "part" else op]

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
        if variable.kind in ("block", "core"):
            return "contract-eigen"
        return {"orth": "contract-orth", "stab1": "contract-stab1"}.get(variable.kind, "contract-monomial")


def _letter(kind: str, axes: int, taken: set[str]) -> str:
    """A letter for a variable: by custom, rotations and permutations are P, Q, diagonal matrices D, numbers c."""
    custom = "cuv" if axes == 0 else "EFH" if axes > 1 else "DFH" if kind.startswith("scale") else "PQRSTLKJ"
    return next(letter for letter in [*custom, *(f"{custom[0]}_{{{k}}}" for k in range(1, 99))] if letter not in taken)


def _absolute(element: Any) -> Expression:
    return ArrayOf("abs", element.shape, element) if is_array(element) else ScalarOf("abs", element)


def simple_law(law: Sequence[Any]) -> str:
    """A law of a shift, of column sums or of independence, in words."""
    if law[0] == "base":
        return "moves by the shift" if law[1] == "1" else f"moves by {law[1]} times the shift"
    if law[0] == "moves":
        return f"moves by something constant along axis {law[1] + 1}"
    if law[0] == "sum":
        rest = {"0": "", "1": " minus those of W"}.get(law[1], f" minus {law[1]} times those of W")
        return f"sums along axis {law[2] + 1}{rest} vanish"
    return {"fixed": "does not move", "zero": "zero", "independent": "independent"}[law[0]]
