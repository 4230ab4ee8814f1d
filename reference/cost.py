"""What one step of a rule costs, counted from the operations that it runs: exact polynomials in the sizes of a weight.

The rule is run on tensors without data, every operation below torch's dispatcher is counted, and the counts on several
sizes determine a polynomial, which further sizes have to confirm.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import sympy
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from reference.rule import Rule

Polynomial = Mapping[tuple[int, int], Fraction]
"""Coefficients by the exponents of ``m`` and ``n``."""

FACTORISATIONS: Mapping[str, str] = {
    "linalg_svd": "SVD",
    "linalg_eigh": "eigendecomposition",
    "linalg_qr": "QR",
    "linalg_cholesky_ex": "Cholesky",
    "linalg_solve_ex": "solve",
    "linalg_inv_ex": "inverse",
}
"""Operations whose cost is that of their own algorithm: they are listed with their sizes, not counted as flops."""

_ALIASES = {"_linalg_svd": "linalg_svd", "_linalg_eigh": "linalg_eigh", "_linalg_solve_ex": "linalg_solve_ex"}
_FREE = frozenset({"empty", "empty_strided", "new_empty", "detach", "lift_fresh"})


@dataclass(frozen=True)
class Cost:
    """One step on one weight ``m x n`` of one regime.

    ``multiply_flops``: two for each multiplication and addition of the matrix products. ``entry_flops``: one for each
    entry that an elementwise operation writes or a reduction reads. ``traffic``: numbers read and written if every
    operation reads its operands and writes its result, views being free. ``state``: numbers kept between steps.
    ``factorisations``: name and sizes, and how often.
    """

    regime: str
    multiply_flops: Polynomial
    entry_flops: Polynomial
    traffic: Polynomial
    state: Polynomial
    factorisations: Mapping[tuple[str, str], int]


@dataclass
class _Counts(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    multiply: int = 0
    entries: int = 0
    traffic: int = 0
    factorisations: Counter[tuple[str, tuple[int, ...]]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        name = _ALIASES.get(packet.__name__, packet.__name__)
        returns = func._schema.returns
        is_view = any(each.alias_info is not None and not each.alias_info.is_write for each in returns)
        if is_view or name in _FREE:
            return out
        read = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        written = [each for each in tree_leaves(out) if isinstance(each, torch.Tensor)]
        self.traffic += sum(each.numel() for each in read + written)
        if name in FACTORISATIONS:
            self.factorisations[FACTORISATIONS[name], tuple(read[0].shape)] += 1
        elif packet in flop_registry:
            self.multiply += flop_registry[packet](*args, **(kwargs or {}), out_val=out)
        elif read:
            self.entries += max(each.numel() for each in read + written)
        return out


def step_counts(rule: Rule, shape: tuple[int, ...]) -> tuple[_Counts, int]:
    """The counts of the second step of ``rule`` on a weight of this shape, and how many numbers its state has."""
    weight, grad = (torch.empty(shape, dtype=torch.float64, device="meta") for _ in range(2))
    _, state = rule.update(grad, rule.init(weight), weight)
    with _Counts() as counts:
        rule.update(grad, state, weight)
    return counts, sum(each.numel() if isinstance(each, torch.Tensor) else 1 for each in state.values())


REGIMES: Mapping[str, Callable[[int, int], tuple[int, int]]] = {
    "m <= n": lambda a, b: (a, a + b),
    "m > n": lambda a, b: (a + b, a),
}


SIZES: tuple[tuple[int, int], ...] = (
    *((22, 4), (26, 12), (34, 4), (38, 24), (46, 12), (58, 4), (62, 24)),
    *((22, 36), (26, 48), (34, 60), (74, 8), (82, 4), (86, 20), (94, 12)),
)
"""The smaller side and by how much the other is larger: four more than a cubic has coefficients. Even, so that gate and
up rows can be paired, and twice a prime, so that ``m`` and ``n`` can be told from other sizes."""


def cost(rule: Rule) -> tuple[Cost, ...]:
    """The cost of one step of one matrix, for wide and for tall ones; one entry if it is the same polynomial."""
    found = tuple(_cost(rule, regime) for regime in REGIMES)
    wide, tall = (replace(each, regime="all m, n") for each in found)
    return (wide,) if wide == tall else found


def _cost(rule: Rule, regime: str) -> Cost:
    sizes = [REGIMES[regime](smaller, excess) for smaller, excess in SIZES]
    runs = [(m, n, *step_counts(rule, (1, m, n) if rule.min_ndim == 3 else (m, n))) for m, n in sizes]

    def fitted(value: Callable[[_Counts, int], int]) -> Polynomial:
        return fit([((m, n), value(counts, state)) for m, n, counts, state in runs])

    factorisations = {_named(runs[0], key): times for key, times in runs[0][2].factorisations.items()}
    return Cost(
        regime=regime,
        multiply_flops=fitted(lambda counts, _: counts.multiply),
        entry_flops=fitted(lambda counts, _: counts.entries),
        traffic=fitted(lambda counts, _: counts.traffic),
        state=fitted(lambda _, state: state),
        factorisations=factorisations,
    )


def _named(run: tuple[int, int, _Counts, int], key: tuple[str, tuple[int, ...]]) -> tuple[str, str]:
    m, n, *_ = run
    names = {m: "m", n: "n", m + n: "(m+n)"}
    return key[0], " x ".join(names.get(size, str(size)) for size in key[1][-2:])


MONOMIALS = tuple((degree - j, j) for degree in range(4) for j in range(degree + 1))


def fit(values: Iterable[tuple[tuple[int, int], int]]) -> Polynomial:
    """The cubic polynomial through all of the values.

    Raises:
        ValueError: there is none; more values than the ten coefficients must be given for that to say something.
    """
    sizes, counted = zip(*values, strict=True)
    matrix, inverse = _interpolation(sizes)
    wanted = sympy.Matrix(counted)
    solution = inverse * wanted
    if matrix * solution != wanted:
        raise ValueError("the counts are no cubic polynomial of the sizes")
    return {
        powers: Fraction(int(value.p), int(value.q))
        for powers, value in zip(MONOMIALS, solution, strict=True)
        if value != 0
    }


@functools.cache
def _interpolation(sizes: tuple[tuple[int, int], ...]) -> tuple[Any, Any]:
    """The matrix of monomials at these sizes, and its left inverse, exactly."""
    matrix = sympy.Matrix([[m**i * n**j for i, j in MONOMIALS] for m, n in sizes])
    gram = matrix.T * matrix
    if gram.rank() < len(MONOMIALS):
        raise ValueError(f"{len(sizes)} sizes do not determine a cubic polynomial")
    return matrix, gram.LUsolve(matrix.T)


def evaluate(polynomial: Polynomial, m: int, n: int) -> Fraction:
    """The value at a size."""
    return sum((c * m**i * n**j for (i, j), c in polynomial.items()), Fraction(0))
