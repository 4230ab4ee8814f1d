"""Arguments of operations: scalars as values, type promotion, casts, dimensions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from symcheck.trace.builder import Builder, NotInVocabulary, Scalar, Sym


def value(builder: Builder, operand: Sym | Scalar) -> Sym:
    """A tensor as it is, a Python scalar as a number."""
    return operand if isinstance(operand, Sym) else builder.number(operand, _scalar_dtype(operand))


def _scalar_dtype(scalar: Scalar) -> torch.dtype:
    if isinstance(scalar, bool):
        return torch.bool
    return torch.int64 if isinstance(scalar, int) else torch.get_default_dtype()


def result_dtype(*operands: Sym | Scalar) -> torch.dtype:
    """Torch's type promotion: tensors with dimensions, then those without, then Python scalars, by category."""
    groups: list[list[torch.dtype]] = [[], [], []]
    for operand in operands:
        if isinstance(operand, Sym):
            groups[0 if operand.dims else 1].append(operand.dtype)
        else:
            groups[2].append(_scalar_dtype(operand))
    result: torch.dtype | None = None
    for dtypes in groups:
        for number, dtype in enumerate(dtypes[1:], 1):
            dtypes[number] = torch.promote_types(dtypes[number - 1], dtype)
        if not dtypes:
            continue
        if result is None or (not result.is_floating_point and (result == torch.bool or dtypes[-1].is_floating_point)):
            result = dtypes[-1] if result is None else torch.promote_types(result, dtypes[-1])
    if result is None:
        raise NotInVocabulary("an operation without operands")
    return computed(result)


def computed(dtype: torch.dtype) -> torch.dtype:
    """``dtype``, if arithmetic in it is that of the reals: not complex, and no integers that soon wrap around."""
    if dtype.is_complex:
        raise NotInVocabulary("complex numbers")
    if not dtype.is_floating_point and dtype not in (torch.bool, torch.int32, torch.int64):
        raise NotInVocabulary(f"arithmetic in {dtype}")
    return dtype


def float_dtype(*operands: Sym | Scalar) -> torch.dtype:
    """The type of a result that is never an integer."""
    dtype = result_dtype(*operands)
    return dtype if dtype.is_floating_point else torch.get_default_dtype()


def cast(builder: Builder, x: Sym, dtype: torch.dtype | None) -> Sym:
    """``x`` converted: to a shorter floating-point type is ``round``, to integers ``trunc``, to booleans ``!= 0``.

    Raises:
        NotInVocabulary: complex numbers; integers so short that they may wrap around.
    """
    if dtype is None or dtype == x.dtype:
        return x
    if dtype.is_complex or x.dtype.is_complex:
        raise NotInVocabulary("complex numbers")
    if dtype == torch.bool:
        return builder.map("is_nonzero", x, dtype=dtype)
    if dtype.is_floating_point:
        if x.dtype.is_floating_point and torch.promote_types(x.dtype, dtype) != dtype:
            return builder.round_(x, dtype)
        return replace(x, dtype=dtype)
    if x.dtype != torch.bool and dtype not in (torch.int32, torch.int64):
        raise NotInVocabulary(f"a conversion to {dtype}")
    return builder.map("trunc", x, dtype=dtype) if x.dtype.is_floating_point else replace(x, dtype=dtype)


def truth(builder: Builder, x: Sym) -> Sym:
    """``x != 0``: booleans as they are."""
    return cast(builder, x, torch.bool)


def scaled(builder: Builder, x: Sym, factor: Sym | Scalar) -> Sym:
    """``factor * x``; the integer 1, which is torch's default of ``alpha``, ``beta`` and ``value``, is no factor."""
    if isinstance(factor, int) and factor == 1:
        return x
    return builder.mul(x, value(builder, factor), dtype=x.dtype)


def plus(builder: Builder, x: Sym, y: Sym, alpha: Sym | Scalar, dtype: torch.dtype) -> Sym:
    """``x + alpha * y``."""
    if isinstance(alpha, int) and alpha == -1:
        return builder.sub(x, y, dtype=dtype)
    return builder.add(x, scaled(builder, y, alpha), dtype=dtype)


def reduced_dims(x: Sym, dim: Any) -> list[int]:
    """The dimensions that ``dim`` of a reduction names: None or an empty list are all of them."""
    if dim is None or dim == []:
        return list(range(len(x.dims)))
    if not x.dims:
        return []
    return [x.dim(number) for number in (dim if isinstance(dim, list | tuple) else [dim])]


def finish(x: Sym, dims: Iterable[int], keepdim: bool) -> Sym:
    """A reduced tensor, whose ``dims`` are of size one, with or without them."""
    return x if keepdim else x.squeeze(dims)


def reciprocal_number(denominator: Scalar) -> Fraction:
    """The exact reciprocal of a number."""
    if denominator == 0:
        raise NotInVocabulary("a division by the number zero")
    if isinstance(denominator, float) and not np.isfinite(denominator):
        raise NotInVocabulary(f"a division by {denominator}")
    return 1 / Fraction(denominator)


def constant(builder: Builder, x: Sym) -> np.ndarray | None:
    """The entries of a constant integer tensor, as torch shapes them; None if it is computed from inputs."""
    line = builder.lines[x.line]
    if line.op == "zero":
        return np.zeros(x.shape, dtype=np.int64)
    if line.op in ("number", "array"):
        return np.asarray(builder.constants[x.line]).astype(np.int64).reshape(x.shape)
    return None
