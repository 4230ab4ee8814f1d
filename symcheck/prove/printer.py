"""One printer for the expressions of `symcheck.prove.notation`, in two scripts: unicode lines and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import sympy
from sympy import Symbol

from symcheck.prove.notation import (
    ArrayOf,
    DiagMatrix,
    Expression,
    HadamardProduct,
    Identity,
    Inverse,
    MatAdd,
    MatMul,
    MatrixSymbol,
    OneMatrix,
    ScalarOf,
    Transpose,
    ZeroMatrix,
    is_array,
)

SUM, PRODUCT, FACTOR, ATOM = range(4)
"""How tightly an expression holds together."""
GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau",
    "φ": "varphi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda",
    "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
SUPER = str.maketrans("0123456789-+()k", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺⁽⁾ᵏ")
SUB = str.maketrans("0123456789-+()kthlaeijnmprs", "₀₁₂₃₄₅₆₇₈₉₋₊₍₎ₖₜₕₗₐₑᵢⱼₙₘₚᵣₛ")
INFIX = {"lt": "<", "le": "≤", "gt": ">", "ge": "≥", "eq": "=", "ne": "≠", "and": "∧", "or": "∨", "xor": "⊻"}
WORDS = {"maximum": "max", "minimum": "min", "row_norm": "rownorm", "row_mean": "rowmean", "row_sum": "rowsum",
         "row_rms": "rowrms"}  # fmt: skip
TEX = {"<": "<", "≤": r"\le ", ">": ">", "≥": r"\ge ", "=": "=", "≠": r"\ne ", "∧": r"\wedge ", "∨": r"\vee ",
       "⊻": r"\oplus ", "↦": r"\mapsto ", "∈": r"\in ", "…": r"\dots "}  # fmt: skip
FAMILY = re.compile(r"([A-Za-z₀₁₊]+)\((.*)\)$")
NAME = re.compile(r"(?P<base>[^'_^]+)(?P<hat>\^)?(?P<prime>'*)(?:_\{(?P<sub>.*)\})?$")


def short(value: Fraction) -> tuple[str, int]:
    """A number as a person would write it: few digits, and a power of ten: ``("3.2", -8)``."""
    if value.denominator == 1 and abs(value) < 10**6:
        return str(value), 0
    if value.denominator <= 12 and value.denominator not in (2, 4, 5, 8, 10):
        return str(value), 0
    x = float(value)
    for digits in range(1, 9):
        rounded = float(f"{x:.{digits - 1}e}")
        near = 1e-6 * min(abs(x), abs(1 - x) or 1.0)
        if abs(rounded - x) <= near or (digits >= 6 and abs(rounded) != 1):
            break
    mantissa, exponent = f"{rounded:.{digits - 1}e}".split("e")
    if -4 < int(exponent) < 6:
        return repr(rounded).removesuffix(".0"), 0
    return mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa, int(exponent)


class Printer:
    """Expressions as strings; ``latex`` chooses the script."""

    def __init__(self, *, latex: bool) -> None:
        self.tex = latex

    def relation(self, *parts: Expression | str) -> str:
        """Expressions and relation signs in one line: ``relation(x, "=", y)``."""
        return " ".join(
            (TEX.get(part, part) if self.tex else part) if isinstance(part, str) else self.show(part) for part in parts
        )

    def show(self, expression: Expression, hold: int = SUM) -> str:
        """The expression, in brackets if it holds together less than ``hold``."""
        text, level = self._print(expression)
        return text if level >= hold else self._brackets(text)

    def name(self, name: str) -> str:
        """A symbol: ``X``, ``M'``, ``X_{k+1}``, ``Q^`` (with a hat)."""
        if family := FAMILY.match(name):
            return rf"\mathrm{{{family[1]}}}({family[2]})" if self.tex else name
        match = NAME.match(name)
        if match is None:
            return name
        base, prime, sub = match["base"], match["prime"], match["sub"]
        if self.tex:
            base = f"\\{GREEK[base]}" if base in GREEK else base if len(base) == 1 else rf"\mathrm{{{_escape(base)}}}"
            base = rf"\hat{{{base}}}" if match["hat"] else base
            return base + prime + (f"_{{{self._sub(sub)}}}" if sub else "")
        base += "\u0302" if match["hat"] else ""
        sub = sub.replace(" ", "") if sub else sub
        low = sub.translate(SUB) if sub else ""
        written = (
            low if sub and all(a != b or a == "," for a, b in zip(sub, low, strict=True)) else f"_{sub}" if sub else ""
        )
        return base + "′" * len(prime) + written

    def _sub(self, sub: str) -> str:
        return "".join(f"\\{GREEK[c]} " if c in GREEK else c for c in sub)

    def _brackets(self, text: str) -> str:
        return rf"\left({text}\right)" if self.tex else f"({text})"

    def _number(self, value: Fraction) -> tuple[str, int]:
        digits, exponent = short(value)
        level = ATOM if value >= 0 and "/" not in digits and not exponent else PRODUCT if value >= 0 else SUM
        if "/" in digits and self.tex:
            top, bottom = digits.lstrip("-").split("/")
            digits = ("-" if value < 0 else "") + rf"\tfrac{{{top}}}{{{bottom}}}"
        if not self.tex:
            digits = digits.replace("-", "−")
        if not exponent:
            return digits, level
        ten = f"10^{{{exponent}}}" if self.tex else "10" + str(exponent).translate(SUPER)
        if digits in ("1", "-1", "−1"):
            return digits[:-1] + ten, FACTOR
        return digits + (r" \cdot " if self.tex else "·") + ten, PRODUCT

    def _print(self, e: Expression) -> tuple[str, int]:
        if e.is_Rational:
            return self._number(Fraction(int(e.p), int(e.q)))
        if isinstance(e, MatrixSymbol | Symbol):
            return self.name(e.name), ATOM
        if isinstance(e, sympy.Add | MatAdd):
            return self._sum(e.args), SUM
        if isinstance(e, sympy.Mul | MatMul):
            return self._product(e.args)
        if isinstance(e, sympy.Pow):
            return self._power(e)
        if isinstance(e, Transpose):
            return self.show(e.arg, ATOM) + (r"^{\top}" if self.tex else "ᵀ"), FACTOR
        if isinstance(e, Inverse):
            return self.show(e.args[0], ATOM) + (r"^{-1}" if self.tex else "⁻¹"), FACTOR
        if isinstance(e, HadamardProduct):
            return self._hadamard(e.args)
        if isinstance(e, DiagMatrix):
            return self._call("diag", e.args), ATOM
        if isinstance(e, sympy.Trace):
            return self._call("tr", e.args), ATOM
        if isinstance(e, Identity):
            return "I", ATOM
        if isinstance(e, OneMatrix):
            return r"\mathbf{1}" if self.tex else "𝟏", ATOM
        if isinstance(e, ZeroMatrix):
            return "0", ATOM
        return self._function(e)

    def _sum(self, terms: Sequence[Expression]) -> str:
        text = ""
        for term in terms:
            shown = self.show(term)
            minus = shown.startswith(("−", "-"))
            if not text:
                text = shown
            else:
                text += (" − " if not self.tex else " - ") + shown[1:] if minus else " + " + shown
        return text

    def _product(self, factors: Sequence[Expression]) -> tuple[str, int]:
        sign, above, below = "", [], []
        for factor in factors:
            if factor.is_Rational and factor < 0:
                sign, factor = ("-" if self.tex else "−"), -factor
            if (
                factor.is_Rational
                and len(factors) > 1
                and self._number(Fraction(int(factor.p), int(factor.q)))[0] == "1"
            ):
                continue
            if isinstance(factor, sympy.Pow) and factor.exp.is_Rational and factor.exp < 0:
                below.append(factor.base if factor.exp == -1 else sympy.Pow(factor.base, -factor.exp, evaluate=False))
            else:
                above.append(factor)
        level = SUM if sign else PRODUCT
        matrices = [factor for factor in above if is_array(factor)]
        scalars = [factor for factor in above if not is_array(factor)]
        if not below:
            return sign + self._juxtapose(scalars, matrices), level
        bottom = below[0] if len(below) == 1 else sympy.Mul(*below, evaluate=False)
        if not self.tex:
            top = self._juxtapose(scalars, matrices) or "1"
            return f"{sign}{top} / {self.show(bottom, FACTOR)}", level
        if matrices and (len(matrices) > 1 or not isinstance(matrices[0], MatrixSymbol)):
            return rf"{sign}\frac{{{self._juxtapose(scalars, []) or '1'}}}{{{self.show(bottom)}}}\," + self._juxtapose(
                [], matrices
            ), level
        return rf"{sign}\frac{{{self._juxtapose(scalars, matrices) or '1'}}}{{{self.show(bottom)}}}", level

    def _juxtapose(self, scalars: Sequence[Expression], matrices: Sequence[Expression]) -> str:
        parts = [self.show(factor, PRODUCT if factor.is_Rational else FACTOR) for factor in scalars]
        place = 0
        while place < len(matrices):
            factor, times = matrices[place], 1
            while place + times < len(matrices) and matrices[place + times] == factor:
                times += 1
            lonely = isinstance(factor, HadamardProduct) and len(matrices) == 1
            text = self.show(factor, PRODUCT if lonely else FACTOR if times == 1 else ATOM)
            parts.append(text if times == 1 else text + self._exponent(Fraction(times)))
            place += times
        return (r" \, " if self.tex else " ").join(parts)

    def _exponent(self, exponent: Fraction, sign: str = "") -> str:
        text = sign + str(exponent)
        if self.tex:
            return f"^{{{text}}}".replace("∘", r"\circ ")
        if exponent.denominator == 1 and not sign:
            return text.translate(SUPER)
        text = text.replace("-", "−")
        return f"^{text}" if exponent.denominator == 1 and exponent > 0 else f"^({text})"

    def _power(self, e: Any) -> tuple[str, int]:
        exponent = Fraction(int(e.exp.p), int(e.exp.q))
        if exponent == Fraction(1, 2):
            return self._sqrt(e.base)
        if exponent == -1:
            return self._product([e])
        return self.show(e.base, ATOM) + self._exponent(exponent), FACTOR

    def _sqrt(self, base: Expression) -> tuple[str, int]:
        if self.tex:
            return rf"\sqrt{{{self.show(base)}}}", ATOM
        return "√" + self.show(base, ATOM), FACTOR

    def _hadamard(self, factors: Sequence[Expression]) -> tuple[str, int]:
        above = [f for f in factors if not _reciprocal(f)]
        below = [f.operands[0] for f in factors if _reciprocal(f)]
        circ, slash = (r" \circ ", r" \oslash ") if self.tex else (" ∘ ", " ⊘ ")
        top = circ.join(self.show(f, FACTOR) for f in above) or "1"
        bottom = circ.join(self.show(f, FACTOR) for f in below)
        if len(below) > 1:
            bottom = self._brackets(bottom)
        return top + (slash + bottom if below else ""), PRODUCT

    def _call(self, name: str, operands: Sequence[Expression]) -> str:
        inner = ", ".join(self.show(operand) for operand in operands)
        if self.tex:
            known = name if name in ("max", "min", "exp", "tanh", "log", "sin", "cos") else ""
            head = f"\\{known}" if known else rf"\operatorname{{{_escape(name)}}}"
            return head + rf"\left({inner}\right)"
        return f"{name}({inner})"

    def _function(self, e: ScalarOf | ArrayOf) -> tuple[str, int]:
        name, operands = e.name, e.operands
        if name == "constant":
            return self._print(operands[0])
        if name == "reciprocal":
            return self._hadamard([e])
        if name == "sqrt":
            return self._sqrt(operands[0])
        if name == "power":
            exponent = Fraction(int(operands[1].p), int(operands[1].q))
            return self.show(operands[0], ATOM) + self._exponent(exponent, "∘" * (e.shape[1] != 1)), FACTOR
        if name in ("norm", "sqnorm", "abs"):
            return self._norm(name, operands[0])
        if name == "inner":
            left, right = (r"\langle ", r" \rangle") if self.tex else ("⟨", "⟩")
            return f"{left}{self.show(operands[0])}, {self.show(operands[1])}{right}", ATOM
        if name in INFIX:
            sign = TEX[INFIX[name]] if self.tex else INFIX[name]
            return f"[{self.show(operands[0])} {sign} {self.show(operands[1])}]", ATOM
        if name in ("is_zero", "is_nonzero"):
            sign = {"is_zero": "=", "is_nonzero": "≠"}[name]
            return f"[{self.show(operands[0])} {TEX[sign] if self.tex else sign} 0]", ATOM
        if name == "select":
            mask, one, two = (self.show(operand) for operand in operands[:3])
            if self.tex:
                return rf"\begin{{cases}} {one} & {mask} \\ {two} & \text{{otherwise}} \end{{cases}}", ATOM
            return f"{{ {one} where {mask}; {two} elsewhere }}", ATOM
        if name == "acts":
            return self.show(operands[0], ATOM) + (r" \cdot " if self.tex else "·") + self.show(
                operands[1], ATOM
            ), PRODUCT
        if name.startswith("indexed"):
            return self._indexed(name.split()[1], operands)
        return self._aggregate(name, operands)

    def _aggregate(self, name: str, operands: Sequence[Expression]) -> tuple[str, int]:
        """Functions of whole arrays, by rows or by columns."""
        squared = name.endswith(("sq", "sqnorm"))
        name = {"meansq": "rms", "row_sqnorm": "row_norm", "row_meansq": "row_rms"}.get(name, name)
        if name.startswith("row_") and isinstance(operands[0], Transpose):
            name, operands = name.replace("row_", "col"), [operands[0].arg]
        text = self._call(WORDS.get(name, name), operands)
        return (text + self._exponent(Fraction(2)), FACTOR) if squared else (text, ATOM)

    def _norm(self, name: str, operand: Expression) -> tuple[str, int]:
        bar = r"\|" if self.tex else "‖"
        if name == "abs":
            bar = "|"
        inner = f"{bar}{self.show(operand)}{bar}"
        if name != "abs" and is_array(operand) and operand.shape[1] != 1:
            inner += "_{F}" if self.tex else "_F"
        return (inner + self._exponent(Fraction(2)), FACTOR) if name == "sqnorm" else (inner, ATOM)

    def _indexed(self, kind: str, operands: Sequence[Expression]) -> tuple[str, int]:
        _, summed, *factors = operands
        inner = (r" \, " if self.tex else " ").join(self.show(f, FACTOR) for f in factors)
        if not summed.name:
            return inner, PRODUCT
        if kind == "mean":
            head = rf"\operatorname{{mean}}_{{{summed.name}}}" if self.tex else f"mean_{summed.name}"
        else:
            head = rf"\sum_{{{summed.name}}}" if self.tex else f"Σ_{summed.name}"
        return f"{head} {inner}", PRODUCT


def _reciprocal(e: Expression) -> bool:
    return isinstance(e, ArrayOf) and e.name == "reciprocal"


def _escape(text: str) -> str:
    return text.replace("_", r"\_").replace("&", r"\&").replace("%", r"\%").replace("#", r"\#")
