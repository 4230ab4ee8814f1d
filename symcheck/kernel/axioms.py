"""What the kernel believes: its axioms, and how elementwise functions treat signs, scales, zero and order.

They are data, ``axioms.json``; every certificate has the hash of it and of the code that applies it. Each
axiom is derived with sympy on small symbolic matrices and tested over exact rationals (``symcheck/prove/axioms``,
``tests``).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from symcheck.kernel.document import Reject, load

TABLE = load(Path(__file__).with_name("axioms.json").read_bytes())
AXIOMS: tuple[tuple[str, str, str], ...] = tuple(map(tuple, TABLE["axioms"]))
"""Name, statement and source."""
ODD, EVEN, NEITHER = "odd", "even", "none"


class Behaviour(NamedTuple):
    """What is known of an elementwise function: ``f(-x)``, its degree, whether ``f(0) = 0``, and its sign: ``>=0`` is
    never negative, ``+`` not where no operand is."""

    parity: str
    degree: Fraction | None
    vanishes: bool
    sign: str = "?"

    def character(self, k: int, e: Fraction) -> tuple[int, Fraction]:
        """``sign^k |d|^e`` after the function."""
        if (k and self.parity == NEITHER) or (e and self.degree is None):
            raise Reject("a function that is neither odd nor even of a sign, or not homogeneous of a scale")
        return 0 if self.parity == EVEN else k, e * (self.degree or 0)


def _behaviours(rows: Sequence[Any]) -> dict[str, Behaviour]:
    return {
        name: Behaviour(parity, None if degree is None else Fraction(degree), vanishes, sign)
        for parity, degree, vanishes, sign, names in rows
        for name in names.split()
    }


FUNCTIONS, SYMMETRIC = _behaviours(TABLE["functions"]), _behaviours(TABLE["symmetric"])
"""Every elementwise function but ``power``; functions of the entries along some axes that ignore their order."""
BINARY, LINEAR_ALONG = set(TABLE["binary"].split()), set(TABLE["linear"].split())
PARAMETERS: dict[str, int] = TABLE["parameters"]
CONDITIONS: dict[tuple[str, str], str] = {(op, kind): condition for op, kind, condition in TABLE["gauges"]}
"""The gauges that a factorisation may have, by class, and what each assumes of the matrix."""


def behaviour(fn: str, args: Sequence[Fraction | None]) -> Behaviour:
    """How a function of ``map`` with these parameters behaves. Reject: there is none."""
    lowest = min((a for a in args if a is not None), default=Fraction(0))
    if fn == "power" and len(args) == 1 and args[0] is not None:
        p = args[0]
        parity = NEITHER if p.denominator != 1 else ODD if p.numerator % 2 else EVEN
        return Behaviour(parity, p, p > 0, "+" if parity == ODD else ">=0")
    wrong = lowest < 0 and fn in ("clamp_symmetric", "softshrink", "hardshrink")
    if fn not in FUNCTIONS or len(args) != PARAMETERS.get(fn, 0) or wrong or (None in args and fn != "clamp"):
        raise Reject(f"map: unknown function {fn!r} of {[str(a) for a in args]}")
    if fn == "clamp" and args[0] is not None and lowest >= 0:
        return FUNCTIONS[fn]._replace(sign=">=0")
    return FUNCTIONS[fn]
