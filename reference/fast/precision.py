"""The arithmetic in which polynomials of matrices are evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch

Precision: TypeAlias = Literal["bfloat16", "float16", "tf32", "float32", "float64"]


@dataclass(frozen=True)
class Arithmetic:
    """How a matrix product rounds: its factors to ``product_unit``, its sums to ``sum_unit``, its result to ``unit``.

    All are unit roundoffs (half the distance from 1 to the next number); ``smallest`` is half the smallest positive
    number, the error of a result that underflows.
    """

    dtype: torch.dtype
    unit: float
    product_unit: float
    sum_unit: float
    smallest: float


ARITHMETIC: Mapping[Precision, Arithmetic] = MappingProxyType(
    {
        "bfloat16": Arithmetic(torch.bfloat16, 2.0**-8, 0.0, 2.0**-24, 2.0**-134),
        "float16": Arithmetic(torch.float16, 2.0**-11, 0.0, 2.0**-24, 2.0**-25),
        # Stored as float32; the tensor cores round the factors of a product to eleven bits.
        "tf32": Arithmetic(torch.float32, 2.0**-24, 2.0**-11, 2.0**-24, 2.0**-150),
        "float32": Arithmetic(torch.float32, 2.0**-24, 0.0, 2.0**-24, 2.0**-150),
        "float64": Arithmetic(torch.float64, 2.0**-53, 0.0, 2.0**-53, 2.0**-1075),
    }
)
"""Products of half precision numbers are exact in float32, in which every backend adds them up."""


def arithmetic(precision: str) -> Arithmetic:
    """The arithmetic of a name; ValueError for an unknown one, listing the known."""
    for name, value in ARITHMETIC.items():
        if name == precision:
            return value
    raise ValueError(f"unknown precision {precision!r}; known: {', '.join(ARITHMETIC)}")
