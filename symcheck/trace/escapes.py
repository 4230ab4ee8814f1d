"""Ways for values to leave torch that never reach the dispatcher: each is a leak, or ends the recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from symcheck.trace.recorder import Recorder

_MEMORY = frozenset(
    "numpy __array__ __dlpack__ data_ptr untyped_storage storage _typed_storage share_memory_".split()  # noqa: SIM905
)
"""They give away the memory itself: what is written there later is known outside as well."""
_COPIES = frozenset("tolist __repr__ __str__ __format__ __reduce__ __reduce_ex__".split())  # noqa: SIM905
_SCALARS = frozenset("item __float__ __int__ __bool__ __complex__ __index__".split())  # noqa: SIM905
"""The dispatcher sees most of these; not when torch itself calls them while it builds a tensor from a list."""
_CONSTRUCTORS = frozenset("tensor as_tensor asarray new_tensor sparse_coo_tensor scalar_tensor".split())  # noqa: SIM905
_CALLBACKS = frozenset("apply_ map_ map2_".split())  # noqa: SIM905


class EscapeWatch(TorchFunctionMode):
    """Tells the recorder of values that leave torch. Active as a context manager."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        recorder = self.recorder
        name = getattr(func, "__name__", "")
        if recorder.unsupported is not None or not args:
            return func(*args, **kwargs)
        if name in _MEMORY or name in _COPIES:
            for tensor in _tensors(args[0]):
                recorder.leak(tensor, expose=name in _MEMORY)
        elif name in _CALLBACKS:
            recorder.refuse(f"{name}: a Python function of every entry")
        elif name in _CONSTRUCTORS and not isinstance(args[0], torch.Tensor):
            for tensor in _tensors((args, tuple(kwargs.values()))):
                recorder.leak(tensor)
        elif name == "new_tensor":
            for tensor in _tensors((args[1:], tuple(kwargs.values()))):
                recorder.leak(tensor)
        elif name in _SCALARS:
            seen = len(recorder.leaks)
            result = func(*args, **kwargs)
            if len(recorder.leaks) == seen and isinstance(args[0], torch.Tensor):
                recorder.leak(args[0])
            return result
        return func(*args, **kwargs)


def _tensors(data: Any) -> Iterator[torch.Tensor]:
    if isinstance(data, torch.Tensor):
        yield data
    elif isinstance(data, (list, tuple)):
        for item in data:
            yield from _tensors(item)
    elif isinstance(data, np.ndarray) and data.dtype == object:
        yield from _tensors(data.reshape(-1).tolist())
