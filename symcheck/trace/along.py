"""Functions along axes: what ``along`` lines compute, by name, for numpy arrays of any type of entry.

A function sees its operands with the unlisted ("batch") axes first, in their order, and the listed ("core") axes last,
as listed; so does its result, with the new axes last. Whatever only moves entries (slices, concatenations, triangles)
has one form, ``args`` with ``take`` and ``sizes``, and its name is for the reader; nothing else has ``args``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Values = Sequence[Array]


def apply_along(
    fn: str,
    args: Mapping[str, Any],
    operands: Values,
    axes: Sequence[Sequence[int]],
    out: Sequence[Sequence[Any]],
) -> Array:
    """The value of an ``along`` line (``docs/proof.md``, section 1).

    Raises:
        ValueError: an unknown ``fn``, or axes that do not fit the operands or the result.
        TypeError: ``args`` that ``fn`` does not have.
    """
    if len(axes) != len(operands) or not operands:
        raise ValueError(f"{fn} lists axes of {len(axes)} operands and has {len(operands)}")
    batches = [
        [axis for axis in range(value.ndim) if axis not in listed] for value, listed in zip(operands, axes, strict=True)
    ]
    values = [
        np.transpose(value, [*batch, *listed]) for value, batch, listed in zip(operands, batches, axes, strict=True)
    ]
    count = len(batches[0])
    shapes = {tuple(value.shape[:count]) for value in values}
    if len(shapes) > 1 or any(len(batch) != count for batch in batches):
        raise ValueError(f"the unlisted axes of the operands of {fn} differ: {sorted(shapes)}")
    if args:
        result = _take(values, count, **args)
    elif fn in ALONG:
        result = ALONG[fn](values, count)
    else:
        raise ValueError(f"unknown function along axes {fn!r}")
    order, new = [], count
    for entry in out:
        if entry[0] == "batch":
            order.append(batches[0].index(entry[1]))
        elif list(entry) == ["new"]:
            order.append(new)
            new += 1
        else:
            raise ValueError(f"unknown axis {entry!r} in the result of {fn}")
    if sorted(order) != list(range(result.ndim)):
        raise ValueError(f"{list(out)} are not the {result.ndim} axes of the result of {fn}")
    return np.transpose(result, order)


def _take(values: Values, batch: int, *, take: Sequence[int], sizes: Sequence[int]) -> Array:
    """Entry ``j`` of the result is entry ``take[j]`` of all core entries of all operands strung together; 0 for -1."""
    shape = values[0].shape[:batch]
    flat = np.concatenate([value.reshape(*shape, -1) for value in values], axis=-1)
    zero = np.zeros((*shape, 1), dtype=flat.dtype)
    indices = np.asarray(take, dtype=np.int64)
    if np.any((indices < -1) | (indices >= flat.shape[-1])):
        raise ValueError(f"an index is outside {flat.shape[-1]} entries")
    return np.concatenate([flat, zero], axis=-1)[..., indices].reshape((*shape, *sizes))


def _one(values: Values, batch: int) -> Array:
    (value,) = values
    if value.ndim != batch + 1:
        raise ValueError(f"{value.ndim - batch} axes are listed, not 1")
    return value


def _accumulate(function: np.ufunc) -> Callable[[Values, int], Array]:
    def run(values: Values, batch: int) -> Array:
        result: Array = function.accumulate(_one(values, batch), axis=-1)
        return result

    return run


def _argsort(values: Values, batch: int) -> Array:
    value = _one(values, batch)
    order: Array = np.argsort(value, axis=-1, kind="stable").astype(value.dtype)
    return order


def _gather(values: Values, batch: int) -> Array:
    """``result[..., i] = operand0[..., operand1[..., i]]``."""
    value, index = (_one([value], batch) for value in values)
    positions = index.astype(np.int64)
    if np.any(positions != index) or np.any((positions < 0) | (positions >= value.shape[-1])):
        raise ValueError(f"an index is outside {value.shape[-1]} entries or no integer")
    return np.take_along_axis(value, positions, axis=-1)


ALONG: Mapping[str, Callable[[Values, int], Array]] = MappingProxyType(
    {
        "cumsum": _accumulate(np.add),
        "cumprod": _accumulate(np.multiply),
        "cummax": _accumulate(np.maximum),
        "cummin": _accumulate(np.minimum),
        "argsort": _argsort,
        "gather": _gather,
    }
)
"""What an ``along`` line may compute beyond moving entries, by name."""
