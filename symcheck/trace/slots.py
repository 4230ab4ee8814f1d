"""Names for the tensors that an optimizer keeps: ``state[0].exp_avg``, ``param_groups[0].lr``."""

from __future__ import annotations

import types
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

_OPAQUE = (
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    type,
    torch.Generator,
    torch.dtype,
    torch.device,
    weakref.ref,
    str,
    bytes,
    int,
    float,
    complex,
    type(None),
)


def tensors_of(optimizer: object, params: Sequence[torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor that can be reached through attributes, dicts, lists and tuples of ``optimizer``, by name.

    The ``params`` themselves are left out, and stand for their index where they are keys. What only functions, modules
    or sets hold is not reached.
    """
    index = {id(param): number for number, param in enumerate(params)}
    yield from _walk("", optimizer, index, set())


def _walk(name: str, value: Any, index: Mapping[int, int], seen: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, _OPAQUE) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        if id(value) not in index:
            yield name, value
        return
    if isinstance(value, Mapping):
        for key, item in list(value.items()):
            yield from _walk(f"{name}{_key(key, index)}", item, index, seen)
    elif isinstance(value, (list, tuple, deque)):
        for number, item in enumerate(value):
            yield from _walk(f"{name}[{number}]", item, index, seen)
    for key, item in _attributes(value):
        yield from _walk(f"{name}.{key}" if name else key, item, index, seen)


def _key(key: Any, index: Mapping[int, int]) -> str:
    if isinstance(key, torch.Tensor) and id(key) in index:
        return f"[{index[id(key)]}]"
    if isinstance(key, str) and key.isidentifier():
        return f".{key}"
    return f"[{key!r}]" if isinstance(key, (str, int, float, tuple)) else f"[{type(key).__name__}]"


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    yield from list(getattr(value, "__dict__", {}).items())
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else tuple(slots):
            if slot not in ("__dict__", "__weakref__") and hasattr(value, slot):
                yield slot, getattr(value, slot)
