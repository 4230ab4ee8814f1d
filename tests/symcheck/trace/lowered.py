"""Run one aten operation in torch and as the lines it is lowered to, and compare."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from symcheck.trace.builder import Builder, Dims, Sym, dims_of
from symcheck.trace.interpret import interpret
from symcheck.trace.lowering import lower
from symcheck.trace.operation import operation
from symcheck.trace.program import Line, Program

EPS = 2.0**-52
SPLITS = {4: (2, 2), 6: (2, 3), 12: (2, 2, 3)}


def split_dims(shape: tuple[int, ...]) -> Dims:
    """Dimensions made of several axes wherever there is a way."""
    return tuple(SPLITS.get(size, (size,) if size > 1 else ()) for size in shape)


class Lowered:
    """The lines of operations on given tensors, and their values."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.inputs: dict[str, np.ndarray] = {}

    def input(self, tensor: torch.Tensor, merged: bool = False) -> Sym:
        name = f"state:{len(self.inputs)}"
        dims = split_dims(tuple(tensor.shape)) if merged else dims_of(tensor.shape)
        sym = self.builder.input(name, dims, tensor.dtype)
        self.inputs[name] = tensor.double().numpy().reshape(sym.axes).copy()
        return sym

    def constant(self, tensor: torch.Tensor) -> Sym:
        return self.builder.array(tensor.numpy(), tensor.dtype)

    def value(self, sym: Sym) -> torch.Tensor:
        lines = self.builder.lines
        sym = replace(sym, line=self.builder.flag_of(sym.line))  # where it is zero, that is all of an `info`
        live = {sym.line}
        for number in range(sym.line, -1, -1):
            live |= set(lines[number].operands) if number in live else set()
        # What is not read need not have a value.
        kept = [line if number in live else Line("zero", (), {"rank": 0}) for number, line in enumerate(lines)]
        sizes = [size if number in live else () for number, size in enumerate(self.builder.sizes)]
        program = Program(tuple(kept), {"weight:0": sym.line})
        value = interpret(program, self.builder.constants, self.inputs, sizes)[sym.line]
        assert not isinstance(value, dict)
        assert value.shape == sym.axes
        return torch.tensor(value).reshape(sym.shape)

    def symbolic(self, argument: Any, merged: Any = False) -> Any:
        if isinstance(argument, torch.Tensor):
            return self.input(argument, merged)
        if isinstance(argument, list | tuple) and any(isinstance(item, torch.Tensor) for item in argument):
            return [self.symbolic(item, merged) for item in argument]
        return argument


def run(func: Any, *args: Any, merged: tuple[bool, ...] = (), **kwargs: Any) -> tuple[Lowered, Any]:
    """The lowered call: an overload of ``torch.ops.aten`` with tensors for arguments, or `Sym` already."""
    lowered = Lowered()
    flags = [*merged, *[False] * len(args)]
    symbolic = [lowered.symbolic(argument, flag) for argument, flag in zip(args, flags, strict=False)]
    known = operation(func)
    arguments = known.bind(symbolic, {key: lowered.symbolic(argument) for key, argument in kwargs.items()})
    return lowered, lower(lowered.builder, known.name, {k: v for k, v in arguments.items() if k not in known.out})


def check(func: Any, *args: Any, merged: tuple[bool, ...] = (), factor: float = 64.0, **kwargs: Any) -> None:
    """Torch and the lines agree.

    ``factor``: roundings of one entry of the result, each of one unit in the last place of the largest entry in
    sight, beyond one for each entry of the operands (the terms of a sum).
    """
    lowered, result = run(func, *args, merged=merged, **kwargs)
    copies = [_copy(argument) for argument in args]
    expected = func(*copies, **kwargs)
    known = operation(func)
    if known.written:  # what is returned for an operation in place is the new value of self
        expected = copies[0]
    results = result if isinstance(result, list | tuple) else [result]
    for sym, tensor in zip(results, _list(expected), strict=True):
        close(lowered.value(sym), tensor, factor, args)
        assert sym.dtype == tensor.dtype or known.written


def _copy(argument: Any) -> Any:
    if isinstance(argument, torch.Tensor):
        return argument.clone()
    if isinstance(argument, list | tuple):
        return [_copy(item) for item in argument]
    return argument


def _list(result: Any) -> list[torch.Tensor]:
    if isinstance(result, bool):
        return [torch.tensor(result)]
    return [result] if isinstance(result, torch.Tensor) else list(result)


def close(actual: torch.Tensor, expected: torch.Tensor, factor: float, args: Any) -> None:
    assert actual.shape == expected.shape
    entries = sum(item.numel() for argument in args for item in _tensors(argument))
    largest = max(1.0, *(float(x.double().abs().max()) for x in (actual, expected) if x.numel()))
    bound = (factor + entries) * EPS * largest
    assert torch.all((actual - expected.double()).abs() <= bound), (actual, expected)


def _tensors(argument: Any) -> list[torch.Tensor]:
    if isinstance(argument, torch.Tensor):
        return [argument]
    return [item for item in argument if isinstance(item, torch.Tensor)] if isinstance(argument, list | tuple) else []
