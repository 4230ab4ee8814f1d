"""Ways for values to leave torch that never reach the dispatcher: each is a leak, or ends the recording."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.utils._python_dispatch as modes
from torch.overrides import TorchFunctionMode

from symcheck.trace.recorder import Recorder

_MEMORY = frozenset(
    """
    numpy __array__ __dlpack__ data_ptr const_data_ptr mutable_data_ptr untyped_storage storage storage_type
    _typed_storage share_memory_
    """.split()  # noqa: SIM905 - a table of words
)
"""They give away the memory itself: what is written there later is known outside as well."""
_COPIES = frozenset({"tolist", "__repr__", "__str__", "__format__", "__reduce__", "__reduce_ex__"})
_SCALARS = frozenset({"item", "__float__", "__int__", "__bool__", "__complex__", "__index__"})
"""The dispatcher sees most of these; not when torch itself calls them while it builds a tensor from a list."""
_CONSTRUCTORS = frozenset({"tensor", "as_tensor", "asarray", "new_tensor", "scalar_tensor"})
_CALLBACKS = frozenset({"apply_", "map_", "map2_", "lobpcg"})
_GUARDS = ("_DisableTorchDispatch", "DisableTorchFunction", "_ExcludeDispatchKeyGuard")
"""Within them nothing is watched. What was imported from ``torch._C`` by name goes unnoticed."""
_PLAIN = frozenset({torch.Tensor, torch.nn.Parameter, torch.nn.Buffer})


class EscapeWatch(TorchFunctionMode):
    """Tells the recorder of values that leave torch. Active as a context manager."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder
        self.copying = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        recorder = self.recorder
        if recorder.unsupported is not None:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if any(cls not in _PLAIN for cls in types):  # what its own functions do would go unseen
            recorder.refuse("a class of tensors of its own")
        elif name in _MEMORY or name in _COPIES:
            for tensor in _tensors(args[:1]):
                recorder.leak(tensor, expose=name in _MEMORY)
            self.copying = name in _COPIES  # torch switches modes off in order to print
            try:
                return func(*args, **kwargs)
            finally:
                self.copying = False
        elif name in _CALLBACKS:
            recorder.refuse(f"{name} calls a Python function in the midst of torch")
        elif name in _CONSTRUCTORS:
            for tensor in _tensors(args[name == "new_tensor" :]):
                if tensor is not args[0]:  # a copy of a tensor reaches the dispatcher
                    recorder.leak(tensor)
            for tensor in _tensors(tuple(kwargs.values())):
                recorder.leak(tensor)
        elif name in _SCALARS:
            seen = len(recorder.builder.leaks)
            result = func(*args, **kwargs)
            if len(recorder.builder.leaks) == seen and isinstance(args[0], torch.Tensor):
                recorder.leak(args[0])
            return result
        return func(*args, **kwargs)


def _tensors(data: Any) -> Iterator[torch.Tensor]:
    if isinstance(data, torch.Tensor):
        yield data
    elif isinstance(data, (str, bytes, bytearray, range)):
        return
    elif isinstance(data, np.ndarray):
        if data.dtype == object:
            yield from _tensors(data.reshape(-1).tolist())
    elif hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        for item in data:
            yield from _tensors(item)


_recording: list[Recorder] = []


def _about_to_fork() -> None:
    for recorder in _recording:
        recorder.refuse("a copy of the process, which has all values")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_about_to_fork)


@contextlib.contextmanager
def watching(recorder: Recorder) -> Iterator[None]:
    """Record what is executed in the body of the ``with`` statement, and watch for what leaves torch."""
    watch = EscapeWatch(recorder)
    with watch, recorder, _unseen_by_modes(watch):
        yield


@contextlib.contextmanager
def _unseen_by_modes(watch: EscapeWatch) -> Iterator[None]:
    """Watch what no mode sees: lists made within TorchScript, capsules, code of the candidate in ``backward``, copies
    of the process, and that modes are switched off.
    """
    recorder = watch.recorder
    script, method = torch._C.ScriptFunction.__call__, torch._C.ScriptMethod.__call__
    capsule, engine = torch._C._to_dlpack, torch.autograd.graph._engine_run_backward

    def scripted(call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(script: Any, *args: Any, **kwargs: Any) -> Any:
            if "prim::tolist" in str(getattr(script, "inlined_graph", "prim::tolist")):
                recorder.refuse("a list made by TorchScript")
            return call(script, *args, **kwargs)

        return watched

    def to_dlpack(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        recorder.leak(tensor, expose=True)
        return capsule(tensor, *args, **kwargs)

    def run_backward(*args: Any, **kwargs: Any) -> Any:
        with EscapeWatch(recorder):  # a function mode is off while it handles a call, here that of ``backward``
            return engine(*args, **kwargs)

    def pop(key: Any = None) -> Any:
        mode = pop_mode(key)
        if mode is recorder and not watch.copying:
            recorder.refuse("code that torch's modes are switched off for")
        return mode

    def unguarded(name: str) -> tuple[Any, str, Callable[..., Any], Any]:
        guard = getattr(torch._C, name)

        def made(*args: Any, **kwargs: Any) -> Any:
            recorder.refuse(f"code within torch._C.{name}")
            return guard(*args, **kwargs)

        return torch._C, name, made, guard

    pop_mode = torch._C._pop_torch_dispatch_stack
    replaced = (
        *map(unguarded, _GUARDS),
        (modes, "_pop_torch_dispatch_stack", pop, pop_mode),
        (torch._C.ScriptFunction, "__call__", scripted(script), script),
        (torch._C.ScriptMethod, "__call__", scripted(method), method),
        (torch, "to_dlpack", to_dlpack, capsule),
        (torch.utils.dlpack, "to_dlpack", to_dlpack, capsule),
        (torch.autograd, "_engine_run_backward", run_backward, engine),
    )
    for place, name, watched, _ in replaced:
        setattr(place, name, watched)
    _recording.append(recorder)
    try:
        yield
    finally:
        _recording.remove(recorder)
        for place, name, _, original in replaced:
            setattr(place, name, original)
