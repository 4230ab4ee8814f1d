"""Recording of what a candidate computes: every operation that reaches torch's dispatcher becomes lines of a program.

The real operation is executed, on real tensors; what it means is said by ``lowering``. Whatever is not understood makes
the run unsupported: the first such thing is remembered, and the candidate then runs on unrecorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from symcheck.probe.arithmetic import LOW_PRECISION
from symcheck.trace import storage as memory
from symcheck.trace.builder import Builder, NotInVocabulary, Sym, dims_of
from symcheck.trace.draws import Draws
from symcheck.trace.geometry import layout_of, locate
from symcheck.trace.location import here
from symcheck.trace.lowering import lower
from symcheck.trace.operation import Operation, operation
from symcheck.trace.program import Unsupported
from symcheck.trace.storage import OUTSIDE, Region, Storage, check_hazards, place_of

_no_functions = torch._C.DisableTorchFunction
_DIVISIONS = frozenset({"div", "floor_divide", "fmod", "remainder"})
"""Of integers: they raise where the divisor is zero."""


class Recorder(TorchDispatchMode):
    """Records one step after another; ``begin`` opens a program. Active as a context manager.

    Attributes:
        builder: the lines of the present step.
        casts: floating-point types below float64 that the present step computed in.
        unsupported: why there is no program; then nothing is recorded any more.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing here is compiled; the wrapper that would say so costs more than most operations.
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.builder = Builder()
        self.casts: set[str] = set()
        self.unsupported: Unsupported | None = None
        self.step = 0
        self._storages: dict[int, Storage] = {}
        self._draws = Draws()

    def begin(self) -> None:
        """A new step: values of earlier ones are forgotten, but for what ``hold`` declares."""
        self.builder = Builder()
        self.casts = set()
        self.step += 1

    def refuse(self, what: str, where: str | None = None) -> None:
        """The run has no program; the first reason stays."""
        if self.unsupported is None:
            self.unsupported = Unsupported(what, here() if where is None else where)

    # -- memory ----------------------------------------------------------------------------------------------------

    def hold(self, tensor: torch.Tensor, value: Sym) -> None:
        """From now on all that is known of the memory of ``tensor`` is that it shows ``value``."""
        handle = tensor.untyped_storage()
        known = self._storages.setdefault(handle._cdata, Storage(handle, self.step))
        region = Region(layout_of(value.dims, *place_of(tensor)[1:]), value.line, tensor.dtype)
        known.step, known.external, known.regions = self.step, False, [region]
        self._expose(known)

    def storage(self, tensor: torch.Tensor) -> Storage:
        """What is known of the memory of ``tensor``; one never seen before was made outside the dispatcher.

        Raises:
            NotInVocabulary: it is not a dense tensor of real numbers on the CPU.
        """
        try:
            handle = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):
            raise NotInVocabulary(f"a {tensor.layout} tensor".replace("torch.", "")) from None
        known = self._storages.get(handle._cdata)
        if known is None:
            return self._meet(tensor, handle)
        if known.step != self.step:
            known.step = self.step
            if not known.external and (known.regions or known.missing == OUTSIDE):
                known.regions, known.missing = [], OUTSIDE
        return known

    def _meet(self, tensor: torch.Tensor, handle: torch.UntypedStorage) -> Storage:
        if type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
            raise NotInVocabulary(f"a {type(tensor).__name__}, which holds other tensors")
        if tensor.device.type != "cpu" or tensor.is_complex() or tensor.is_quantized or tensor.is_nested:
            raise NotInVocabulary(f"a tensor of type {tensor.dtype} on {tensor.device.type}")
        found = Storage(handle, self.step, external=True, foreign=not handle.resizable())
        for other in self._storages.values():
            # Two windows on the same array are both constants: nothing recorded writes to either.
            if found.foreign != other.foreign and found.span and other.span:
                first, second = sorted((found.span, other.span), key=lambda span: span.start)
                if second.start < first.stop:
                    raise NotInVocabulary("memory shared with an array outside torch")
        self._storages[handle._cdata] = found
        return found

    def read(self, tensor: torch.Tensor) -> Sym:
        """The value of a tensor.

        Raises:
            NotInVocabulary: it shows memory in a way that programs cannot say.
        """
        known = self.storage(tensor)
        if known.external:
            values = memory.values(tensor)
            if not np.isfinite(values).all():  # harmless in the branch of a mask that is never taken
                return memory.undefined(
                    self.builder, dims_of(values.shape), tensor.dtype, "a constant that is not finite"
                )
            return self.builder.array(values, tensor.dtype)
        return memory.read(self.builder, known, tensor)

    def write(self, tensor: torch.Tensor, value: Sym) -> None:
        """The tensor was overwritten by ``value``, broadcast to its shape.

        Raises:
            NotInVocabulary: what the write does is not understood, or not of the type of the tensor.
        """
        _same_kind(value.dtype, tensor.dtype)
        shape = tuple(tensor.shape)
        if value.shape != shape:
            missing = len(shape) - len(value.dims)
            own = ((),) * missing + value.dims
            wanted = tuple(dim if dim or size == 1 else (size,) for dim, size in zip(own, shape, strict=True))
            value = self.builder.expand_to(value, wanted)
        known = self.storage(tensor)
        memory.write(self.builder, known, tensor, Sym(value.line, value.dims, tensor.dtype))
        self._expose(known)

    def whole(self, tensor: torch.Tensor) -> tuple[torch.Tensor, Sym] | None:
        """All that the memory of ``tensor`` holds: a tensor that shows it, and its value. None if nobody knows.

        A constant becomes memory like any other, unless others may write there.
        """
        known = self.storage(tensor)
        if (
            known.external
            and not known.foreign
            and layout_of(dims_of(tensor.shape), *place_of(tensor)[1:]).is_injective
        ):
            self._adopt(tensor)
        if len(known.regions) != 1:
            return None
        (region,) = known.regions
        location = locate(region.layout, *place_of(tensor))
        if location is None or not location.is_whole or region.dtype != tensor.dtype:
            layout = region.layout
            tensor = torch.empty(0, dtype=region.dtype).set_(known.handle, layout.offset, layout.sizes, layout.strides)
        return tensor, self.read(tensor)

    def _adopt(self, tensor: torch.Tensor) -> None:
        """An external tensor is about to be written to: no constant any more, but memory like any other."""
        known = self.storage(tensor)
        if known.foreign:
            raise NotInVocabulary("a write to memory shared with an array outside torch")
        if known.external and tensor.numel():
            known.regions = []
            value = self.read(tensor)
            known.external = False
            memory.write(self.builder, known, tensor, value)

    def leak(self, tensor: torch.Tensor, expose: bool = False) -> None:
        """The value of ``tensor`` leaves torch; with ``expose`` so do all later values of its memory."""
        self.builder.where = here()
        try:
            self.builder.leaks.append(self.read(tensor).line)
            if expose:
                known = self.storage(tensor)
                known.exposed = True
                self._expose(known)
        except NotInVocabulary as reason:
            self.refuse(str(reason))

    def _expose(self, known: Storage) -> None:
        if known.exposed and not known.external:
            self.builder.leaks.extend(region.line for region in known.regions)

    # -- operations ------------------------------------------------------------------------------------------------

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.unsupported is not None:
            return func(*args, **kwargs)
        op = operation(func)
        if op.kind == "view":
            return func(*args, **kwargs)
        if _on_meta(args, kwargs):  # shapes without values: nothing can flow from there
            bound = op.bind(args, kwargs)
            result = func(*args, **kwargs)
            if any(not tensor.is_meta for tensor in _tensors([result, *(bound[name] for name in op.written)])):
                self.refuse(f"{op.name} of a meta tensor")
            return result
        # Attributes of tensors are functions to a function mode: without this the watch for escapes would see ours.
        with _no_functions():
            self.builder.where = here()
            bound = op.bind(args, kwargs)
            arguments = self._understood(self._arguments, op, bound)
            try:
                result = func(*args, **kwargs)
            except BaseException as error:
                # The candidate may catch it: a decision that depends on data and that no leak tells.
                self.refuse(f"{op.name} raised {type(error).__name__}")
                raise
            if self.unsupported is None:
                self._understood(self._record, op, bound, arguments, result)
            return result

    def _understood(self, action: Any, op: Operation, *rest: Any) -> Any:
        try:
            return action(op, *rest)
        except NotInVocabulary as reason:
            self.refuse(str(reason))
        except Exception as error:  # whatever goes wrong in here must not reach the candidate, who could catch it
            self.refuse(f"{op.name} is not understood: {type(error).__name__}: {error}")
        return None

    def _arguments(self, op: Operation, bound: dict[str, Any]) -> dict[str, Any]:
        """All arguments but the results, tensors as values; before the operation, which may overwrite them."""
        if op.kind == "inert":
            return {}
        if op.kind == "dynamic" or (op.name == "index" and any(_is_mask(item) for item in bound["indices"])):
            raise NotInVocabulary(f"{op.name}: a shape that depends on values")
        if op.kind == "empty":
            return {}
        for tensor in _tensors([bound[name] for name in op.written]):
            self._adopt(tensor)
        if op.written:
            check_hazards(op.written, bound)
        if op.is_random:
            self._draws.before(bound)
        return {name: self._value(value) for name, value in bound.items() if name not in op.out}

    def _value(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.read(value)
        if isinstance(value, (list, tuple)):
            return [self._value(item) for item in value]
        return value

    def _record(self, op: Operation, bound: dict[str, Any], arguments: dict[str, Any], result: Any) -> None:
        builder = self.builder
        if op.kind == "inert":
            return
        if op.kind == "leak":
            line = arguments[op.arguments[0][0]].line
            builder.leaks.append(builder.flag_of(line) if op.name == "_linalg_check_errors" else line)
            return
        if op.kind == "equal":
            self._compared(arguments["self"], arguments["other"])
            return
        if op.kind == "empty":
            self._new(result, None)
            return
        if op.name == "copy" and self._copied_bytes(bound):
            return
        divisor = arguments.get("other")
        if op.name in _DIVISIONS and isinstance(divisor, Sym) and not result.dtype.is_floating_point:
            builder.leaks.append(divisor.line)  # integers are not divided by zero
        if op.is_random:
            self._draws.after(bound)
            builder.observed = memory.values(next(_tensors([bound[name] for name in op.written] or [result])))
        values = lower(builder, op.name, arguments)
        builder.observed = None
        self._casts(bound, result)
        if not op.written:
            self._results(result, values)
        elif isinstance(values, dict):
            for name, items in values.items():
                self._write_all(bound[name], items)
        elif op.out:
            single = len(op.out) == 1
            for name, value in zip(op.out, [values] if single else values, strict=True):  # type: ignore[arg-type]
                self._write_all(bound[name], value)
        elif op.written == ("self",):
            self._write_all(bound["self"], values)
        else:
            raise NotInVocabulary(f"{op.name}: writes to {', '.join(op.written)}")

    def _write_all(self, target: Any, value: Any) -> None:
        if isinstance(target, torch.Tensor):
            if isinstance(value, (list, tuple)):
                (value,) = value
            self.write(target, value)
            return
        for tensor, item in zip(target, value, strict=True):
            self.write(tensor, item)

    def _results(self, result: Any, value: Any) -> None:
        if isinstance(result, torch.Tensor):
            if isinstance(value, (list, tuple)):
                (value,) = value
            self._new(result, value)
        elif isinstance(result, (list, tuple)):
            values = value if isinstance(value, (list, tuple)) else [value]
            for item, one in zip(result, values, strict=True):
                self._results(item, one)
        elif isinstance(result, (bool, int, float)) and isinstance(value, Sym):
            self.builder.leaks.append(value.line)
        elif result is not None:
            raise NotInVocabulary(f"a {type(result).__name__} computed from tensors")

    def _new(self, tensor: torch.Tensor, value: Sym | None) -> None:
        """``tensor`` is a result; without a ``value`` nobody may read it."""
        handle = tensor.untyped_storage()
        if handle._cdata in self._storages:
            raise NotInVocabulary("a result that shares memory with an operand")
        if tensor.device.type != "cpu" or tensor.is_complex():
            raise NotInVocabulary(f"a tensor of type {tensor.dtype} on {tensor.device.type}")
        known = Storage(handle, self.step)
        if value is not None and tensor.numel():
            if value.shape != tuple(tensor.shape):
                raise NotInVocabulary(f"a result of shape {tuple(tensor.shape)} understood as {value.shape}")
            _same_kind(value.dtype, tensor.dtype)
            layout = layout_of(value.dims, *place_of(tensor)[1:])
            if not layout.is_injective:
                raise NotInVocabulary("a result whose entries overlap in memory")
            known.regions = [Region(layout, value.line, tensor.dtype)]
        self._storages[handle._cdata] = known

    def _compared(self, first: Sym, second: Sym) -> None:
        if first.shape != second.shape:
            return
        builder = self.builder
        difference = builder.sub(first, second)
        letters = builder.letters(difference)
        self.builder.leaks.append(builder.contract([difference, difference], [letters, letters], []).line)

    def _copied_bytes(self, bound: Mapping[str, Any]) -> bool:
        target, source = bound["self"], bound["src"]
        if target.dtype != torch.uint8 or source.dtype != torch.uint8:
            return False
        before, after = self.storage(source), self.storage(target)
        if not memory.copy_bytes(after, target, before, source):
            return False
        after.external, after.missing = before.external, before.missing
        self._expose(after)
        return True

    def _casts(self, bound: Mapping[str, Any], result: Any) -> None:
        asked = bound.get("dtype")
        if asked in LOW_PRECISION and isinstance(own := bound.get("self"), torch.Tensor) and own.is_floating_point():
            self.casts.add(str(asked).removeprefix("torch."))
        for tensor in _tensors([result]):
            if tensor.dtype in LOW_PRECISION and tensor.dim() > 0:
                self.casts.add(str(tensor.dtype).removeprefix("torch."))


def _tensors(values: Sequence[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _is_mask(item: Any) -> bool:
    return isinstance(item, torch.Tensor) and item.dtype in (torch.bool, torch.uint8)


def _same_kind(said: torch.dtype, real: torch.dtype) -> None:
    def kind(dtype: torch.dtype) -> str:
        return "boolean" if dtype == torch.bool else "real" if dtype.is_floating_point else "integer"

    if kind(said) != kind(real):
        raise NotInVocabulary(f"a {kind(real)} tensor understood as {kind(said)}")


def _on_meta(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if str(kwargs.get("device")) == "meta":
        return True
    return any(tensor.is_meta for tensor in _tensors((*args, *kwargs.values())))
