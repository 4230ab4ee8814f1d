"""Every axiom of the kernel's table, derived with sympy on generic small symbolic matrices.

`DERIVATIONS` maps the name of an axiom to a function that yields equations: expressions and matrices that must vanish,
or truth values that must hold (`symcheck.prove.axioms.elements.holds` decides). They are written for the smallest sizes
at which nothing coincides by chance; the statements are the same for all sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import sympy

from symcheck.kernel.axioms import FUNCTIONS
from symcheck.prove.axioms import contractions, factorisations, functions, shifts
from symcheck.prove.axioms.elements import SCALES, SIGNS, Equation, column, holds, permutations


def elementwise() -> Iterator[Equation]:
    """Elementwise functions commute with permutations; parity, degree, zero and sign of each are as the table says."""
    f, x = sympy.Function("f"), column("x", 3)
    for p in permutations(3):
        yield (p * x).applyfunc(f) - p * x.applyfunc(f)
    for sign, scale, value in zip(
        SIGNS, SCALES, x, strict=False
    ):  # odd and homogeneous of degree 3: signs and scales pass
        yield (sign * scale * value) ** 3 - sign * scale**3 * value**3
    for name in FUNCTIONS:
        yield from functions.parity_equations(name)
        yield from functions.degree_equations(name)
        yield from functions.zero_equations(name)
        yield from functions.sign_equations(name)
    yield from functions.power_equations()


DERIVATIONS: Mapping[str, Callable[[], Iterator[Equation]]] = MappingProxyType(
    {
        "input": contractions.dual,
        "constant": contractions.constant,
        "random": contractions.random,
        "expand": contractions.expand,
        "contract-monomial": contractions.contract_monomial,
        "contract-orth": contractions.contract_orth,
        "contract-stab1": contractions.contract_stab1,
        "contract-eigen": contractions.contract_eigen,
        "contract-delta": contractions.contract_delta,
        "contract-fibre": contractions.contract_fibre,
        "add": contractions.add,
        "map": elementwise,
        "select": contractions.select,
        "symmetric": contractions.symmetric,
        "along": contractions.along,
        "inverse": factorisations.inverse,
        "eigh": factorisations.eigh,
        "svd": factorisations.svd,
        "qr": factorisations.qr,
        "cholesky": factorisations.cholesky,
        "expm": factorisations.expm,
        "round": shifts.rounding,
        "coerce": contractions.coerce,
        "shift-linear": shifts.shift_linear,
        "shift-centre": shifts.shift_centre,
        "sum-linear": shifts.sum_linear,
        "sum-centre": shifts.sum_centre,
        "independence": shifts.independence,
    }
)
"""The derivation of every axiom by its name in `symcheck.kernel.axioms.AXIOMS`."""

__all__ = ["DERIVATIONS", "Equation", "holds"]
