"""Tensors made from nothing: constants, and random numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch

from symcheck.trace.builder import Builder, Dims, NotInVocabulary, Sym, dims_of
from symcheck.trace.lowering.operands import cast, scaled, value
from symcheck.trace.lowering.table import Arguments, lowers


def _made(given: Arguments) -> tuple[Dims, torch.dtype]:
    """The dimensions and the type of a new tensor: of ``self`` where nothing else is said."""
    like = given.get("self")
    dims = dims_of(given["size"]) if "size" in given else like.dims if isinstance(like, Sym) else ()
    dtype = given.get("dtype") or (like.dtype if isinstance(like, Sym) else torch.get_default_dtype())
    if dtype.is_complex:
        raise NotInVocabulary("complex numbers")
    if 0 in (size for dim in dims for size in dim):
        raise NotInVocabulary("tensors without entries")
    return dims, dtype


@lowers("zeros", "zeros_like", "new_zeros", "zero", "_efficientzerotensor")
def _zeros(builder: Builder, given: Arguments) -> Sym:
    return builder.zero(*_made(given))


@lowers("ones", "ones_like", "new_ones")
def _ones(builder: Builder, given: Arguments) -> Sym:
    dims, dtype = _made(given)
    return builder.full(dims, 1, dtype)


@lowers("full", "full_like", "new_full")
def _full(builder: Builder, given: Arguments) -> Sym:
    dims, dtype = _made(given)
    filling = value(builder, given["fill_value"])
    if "self" not in given and given.get("dtype") is None:
        dtype = filling.dtype
    return builder.expand_to(cast(builder, filling, dtype), dims)


@lowers("fill")
def _fill(builder: Builder, given: Arguments) -> Sym:
    x = given["self"]
    return builder.expand_to(cast(builder, value(builder, given["value"]), x.dtype), x.dims)


@lowers("scalar_tensor")
def _scalar_tensor(builder: Builder, given: Arguments) -> Sym:
    return builder.number(given["s"], given.get("dtype") or torch.get_default_dtype())


_EMPTY = "empty empty_like new_empty empty_strided new_empty_strided empty_permuted"


@lowers(*_EMPTY.split())
def _empty(builder: Builder, given: Arguments) -> Sym:
    # Whatever is in memory. NaN, so that a program which depends on it cannot be re-executed.
    dims, dtype = _made(given)
    sizes = tuple(size for dim in dims for size in dim)
    line = builder.emit("array", (), sizes, {"rank": len(sizes)})
    builder.constants[line] = np.full(sizes, np.nan)
    return Sym(line, dims, dtype)


@lowers("eye")
def _eye(builder: Builder, given: Arguments) -> Sym:
    rows, cols, dtype = given["n"], given.get("m"), given.get("dtype") or torch.get_default_dtype()
    if cols is None or rows == cols:
        return builder.eye(rows, dtype)
    return builder.array(np.eye(rows, cols), dtype)


@lowers("arange")
def _arange(builder: Builder, given: Arguments) -> Sym:
    start, end, step = given.get("start", 0), given["end"], given.get("step", 1)
    integral = all(isinstance(number, int) for number in (start, end, step))
    dtype = given.get("dtype") or (torch.int64 if integral else torch.get_default_dtype())
    count = max(0, math.ceil((Fraction(end) - Fraction(start)) / Fraction(step)))
    if count == 0 or (not integral and not dtype.is_floating_point):
        raise NotInVocabulary("a range without entries, or rounded to integers")
    return builder.array(start + step * np.arange(count), dtype)


@lowers("linspace")
def _linspace(builder: Builder, given: Arguments) -> Sym:
    start, end, steps = given["start"], given["end"], given["steps"]
    if isinstance(start, Sym) or isinstance(end, Sym):
        raise NotInVocabulary("a range between computed numbers")
    return builder.array(np.linspace(start, end, steps), given.get("dtype") or torch.get_default_dtype())


# -- random numbers ----------------------------------------------------------------------------------------------------


def drawn(builder: Builder, dims: Dims, distribution: str, dtype: torch.dtype, values: np.ndarray | None) -> Sym:
    """New random numbers, whose ``values`` in this run are known if the recorder gave the result."""
    result = builder.random(dims, distribution, dtype)
    if values is not None:
        builder.constants[result.line] = np.asarray(values, dtype=np.float64).reshape(result.axes)
    return result


@lowers("randn", "randn_like")
def _randn(builder: Builder, given: Arguments) -> Sym:
    dims, dtype = _made(given)
    return drawn(builder, dims, "normal", dtype, builder.observed)


@lowers("normal")
def _normal(builder: Builder, given: Arguments) -> Sym:
    if "self" not in given:
        raise NotInVocabulary("normal numbers with computed mean or deviation")
    dims, dtype = _made(given)
    mean, deviation = given["mean"], given["std"]
    if not deviation > 0:
        raise NotInVocabulary(f"a standard deviation of {deviation}")
    values = None if builder.observed is None else (builder.observed - mean) / deviation
    noise = drawn(builder, dims, "normal", dtype, values)
    noise = noise if deviation == 1 else scaled(builder, noise, deviation)
    return noise if mean == 0 else builder.add(noise, builder.number(mean), dtype=dtype)


@lowers("rand", "rand_like")
def _rand(builder: Builder, given: Arguments) -> Sym:
    dims, dtype = _made(given)
    return drawn(builder, dims, "iid", dtype, builder.observed)


@lowers("uniform")
def _uniform(builder: Builder, given: Arguments) -> Sym:
    dims, dtype = _made(given)
    symmetric = given["from"] == -given["to"]
    return drawn(builder, dims, "symmetric" if symmetric else "iid", dtype, builder.observed)


@lowers("randint", "randint_like")
def _randint(builder: Builder, given: Arguments) -> Sym:
    dims, dtype = _made(given)
    if "self" not in given and given.get("dtype") is None:
        dtype = torch.int64
    symmetric = given.get("low", 0) == -(given["high"] - 1)
    return drawn(builder, dims, "symmetric" if symmetric else "iid", dtype, builder.observed)


@lowers("exponential", "log_normal", "geometric")
def _positive(builder: Builder, given: Arguments) -> Sym:
    dims, dtype = _made(given)
    return drawn(builder, dims, "iid", dtype, builder.observed)


@lowers("cauchy")
def _cauchy(builder: Builder, given: Arguments) -> Sym:
    dims, dtype = _made(given)
    return drawn(builder, dims, "symmetric" if given["median"] == 0 else "iid", dtype, builder.observed)


@lowers("bernoulli")
def _bernoulli(builder: Builder, given: Arguments) -> Sym:
    x, p = given["self"], given.get("p")
    if p is None or isinstance(p, Sym):
        # True where a uniform number is below the probability: 0 and 1 stand for what was drawn.
        values = None if builder.observed is None else 1 - builder.observed
        probability = x if p is None else p
        builder.leaks.append(probability.line)  # one outside of [0, 1] raises
        uniform = drawn(builder, x.dims, "iid", x.dtype, values)
        return replace(builder.map("lt", uniform, probability), dtype=x.dtype)
    return drawn(builder, x.dims, "iid", x.dtype, builder.observed)
