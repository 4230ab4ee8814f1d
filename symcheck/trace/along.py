"""Functions along axes: what ``along`` lines compute, by name, for numpy arrays of any type of entry.

A function sees its operands with the unlisted ("batch") axes first, in their order, and the listed ("core") axes last,
as listed; so does its result, with the new axes last. ``args`` of a line are its keyword arguments. Whatever only moves
entries (slices, concatenations, triangles) has one form, ``take`` and ``sizes``, and its name is for the reader.
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
    if "take" in args:
        result = _take(values, count, **args)
    elif fn in ALONG:
        result = ALONG[fn](values, count, **args)
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
    return np.concatenate([flat, zero], axis=-1)[..., indices].reshape(*shape, *sizes)


def _one(values: Values, batch: int, core: int | None = 1) -> Array:
    (value,) = values
    if core is not None and value.ndim != batch + core:
        raise ValueError(f"{value.ndim - batch} axes are listed, not {core}")
    return value


def _with_core(value: Array, batch: int) -> Array:
    """The operand with exactly one core axis: one that has none is one entry long."""
    if value.ndim > batch + 1:
        raise ValueError(f"{value.ndim - batch} axes are listed, not 1")
    return value[..., None] if value.ndim == batch else value


def _range(length: int, start: int, stop: int, step: int) -> slice:
    if not 0 <= start <= stop <= length or step < 1:
        raise ValueError(f"{start}:{stop}:{step} is no slice of {length} entries")
    return slice(start, stop, step)


def _at(length: int, index: int) -> int:
    if not 0 <= index < length:
        raise ValueError(f"index {index} is outside {length} entries")
    return index


def _slice(values: Values, batch: int, *, start: int, stop: int, step: int = 1) -> Array:
    value = _one(values, batch)
    return value[..., _range(value.shape[-1], start, stop, step)]


def _select(values: Values, batch: int, *, index: int) -> Array:
    value = _one(values, batch)
    return value[..., _at(value.shape[-1], index)]


def _place(values: Values, batch: int, *, start: int, stop: int | None = None, step: int = 1) -> Array:
    """Operand 0 with the entries ``start:stop:step`` replaced by operand 1."""
    base, part = values
    base, part = _one([base], batch).copy(), _with_core(part, batch)
    where = _range(base.shape[-1], start, start + 1 if stop is None else stop, step)
    if base[..., where].shape != part.shape:
        raise ValueError(f"{part.shape[-1]} entries are placed on {base[..., where].shape[-1]}")
    base[..., where] = part
    return base


def _concat(values: Values, batch: int) -> Array:
    return np.concatenate([_with_core(value, batch) for value in values], axis=-1)


def _stack(values: Values, batch: int) -> Array:
    return np.stack([_one([value], batch, 0) for value in values], axis=-1)


def _reshape(values: Values, batch: int, *, shape: Sequence[int]) -> Array:
    value = _one(values, batch, None)
    return value.reshape(*value.shape[:batch], *shape)


def _split(values: Values, batch: int, *, sizes: Sequence[int], index: int) -> Array:
    value = _one(values, batch)
    if sum(sizes) != value.shape[-1]:
        raise ValueError(f"sizes {list(sizes)} do not sum to {value.shape[-1]}")
    start = sum(sizes[:index])
    return value[..., start : start + sizes[_at(len(sizes), index)]]


def _flip(values: Values, batch: int) -> Array:
    value = _one(values, batch, None)
    return np.flip(value, tuple(range(batch, value.ndim)))


def _roll(values: Values, batch: int, *, shift: int) -> Array:
    return np.roll(_one(values, batch), shift, axis=-1)


def _accumulate(function: np.ufunc) -> Callable[..., Array]:
    def run(values: Values, batch: int) -> Array:
        result: Array = function.accumulate(_one(values, batch), axis=-1)
        return result

    return run


def _triangle(function: Callable[..., Array]) -> Callable[..., Array]:
    def run(values: Values, batch: int, *, diagonal: int = 0) -> Array:
        return function(_one(values, batch, 2), diagonal)

    return run


def _diagonal(values: Values, batch: int, *, offset: int = 0) -> Array:
    return np.diagonal(_one(values, batch, 2), offset, axis1=-2, axis2=-1).copy()


def _argsort(values: Values, batch: int, *, descending: bool = False) -> Array:
    value = _one(values, batch)
    order: Array = np.argsort(-value if descending else value, axis=-1, kind="stable").astype(value.dtype)
    return order


def _argmax(values: Values, batch: int) -> Array:
    value = _one(values, batch, None)
    order: Array = np.asarray(np.argmax(value.reshape(*value.shape[:batch], -1), axis=-1)).astype(value.dtype)
    return order


def _argmin(values: Values, batch: int) -> Array:
    return _argmax([-values[0]], batch)


def _indices(index: Array, length: int) -> Array:
    positions = np.asarray(index).astype(np.int64)
    if np.any(positions != index) or np.any((positions < 0) | (positions >= length)):
        raise ValueError(f"an index is outside {length} entries or no integer")
    return positions


def _gather(values: Values, batch: int) -> Array:
    """``result[..., i] = operand0[..., operand1[..., i]]``; without a core axis in operand 1, the one entry."""
    value, index = values
    value = _one([value], batch)
    positions = _with_core(_indices(index, value.shape[-1]), batch)
    result = np.take_along_axis(value, positions, axis=-1)
    return result[..., 0] if index.ndim == batch else result


def _index_select(values: Values, batch: int, *, index: Sequence[int]) -> Array:
    value = _one(values, batch)
    return value[..., _indices(np.asarray(index, dtype=np.int64), value.shape[-1])]


def _scatter(values: Values, batch: int) -> Array:
    """Operand 0 with ``result[..., operand1[..., i]] = operand2[..., i]``."""
    base, index, part = values
    base, part = _one([base], batch).copy(), _with_core(part, batch)
    np.put_along_axis(base, _with_core(_indices(index, base.shape[-1]), batch), part, axis=-1)
    return base


def _pad(values: Values, batch: int, *, before: int, after: int) -> Array:
    """Zeros ``before`` and ``after`` the entries of one core axis."""
    value = _with_core(values[0], batch)
    zeros = [np.zeros((*value.shape[:batch], count), dtype=value.dtype) for count in (before, after)]
    return np.concatenate([zeros[0], value, zeros[1]], axis=-1)


def _tile(values: Values, batch: int, *, repeats: int) -> Array:
    value = _one(values, batch)
    return np.concatenate([value] * repeats, axis=-1)


ALONG: Mapping[str, Callable[..., Array]] = MappingProxyType(
    {
        "slice": _slice,
        "select": _select,
        "place": _place,
        "concat": _concat,
        "stack": _stack,
        "split": _split,
        "reshape": _reshape,
        "flip": _flip,
        "roll": _roll,
        "cumsum": _accumulate(np.add),
        "cumprod": _accumulate(np.multiply),
        "cummax": _accumulate(np.maximum),
        "cummin": _accumulate(np.minimum),
        "tril": _triangle(np.tril),
        "triu": _triangle(np.triu),
        "diagonal": _diagonal,
        "argsort": _argsort,
        "argmax": _argmax,
        "argmin": _argmin,
        "gather": _gather,
        "index_select": _index_select,
        "scatter": _scatter,
        "pad": _pad,
        "tile": _tile,
    }
)
"""Every name that an ``along`` line may have."""
