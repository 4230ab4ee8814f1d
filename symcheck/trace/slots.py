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

    The ``params`` themselves are left out, and stand for their index where they, or their identities, are keys. What
    only functions, modules or sets hold is not reached.
    """
    index = {id(param): number for number, param in enumerate(params)}
    seen: dict[int, Any] = {}  # holds what it has seen: the identity of a thing that is gone may return
    waiting: list[tuple[str, Any]] = [("", optimizer)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, _OPAQUE) or id(value) in seen:
            continue
        seen[id(value)] = value
        if not isinstance(value, torch.Tensor):
            waiting.extend(reversed([*_items(name, value, index), *_attributes(name, value)]))
        elif id(value) not in index:
            yield name, value


def _items(name: str, value: Any, index: Mapping[int, int]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in list(value.items()):
            yield f"{name}{_key(key, index)}", item
    elif isinstance(value, (list, tuple, deque)):
        for number, item in enumerate(value):
            yield f"{name}[{number}]", item


def _key(key: Any, index: Mapping[int, int]) -> str:
    if isinstance(key, torch.Tensor) and id(key) in index:
        return f"[{index[id(key)]}]"
    if isinstance(key, int) and key in index:
        return f"[id({index[key]})]"  # another number in every run
    if isinstance(key, str) and key.isidentifier():
        return f".{key}"
    return f"[{key!r}]" if isinstance(key, (str, int, float, tuple)) else f"[{type(key).__name__}]"


def _attributes(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    dot = f"{name}." if name else ""
    for key, item in list(getattr(value, "__dict__", {}).items()):
        yield f"{dot}{key}", item
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else tuple(slots):
            if slot not in ("__dict__", "__weakref__") and hasattr(value, slot):
                yield f"{dot}{slot}", getattr(value, slot)
