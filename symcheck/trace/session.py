"""One recorded run of a candidate: the program of its constructor and of every step."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from symcheck.probe.arithmetic import PLAIN, Arithmetic, Census, thread_watch
from symcheck.probe.trajectory import CandidateLike, Inputs, build, seed_everything, take_step
from symcheck.trace import storage as memory
from symcheck.trace.builder import NotInVocabulary, Sym
from symcheck.trace.escapes import watching
from symcheck.trace.geometry import Dims
from symcheck.trace.program import Line, Program, Step, Trace, live_lines
from symcheck.trace.recorder import Recorder
from symcheck.trace.slots import tensors_of
from symcheck.trace.transposes import inline_transposes
from symcheck.trace.unstack import unstack

Splits = Sequence[Sequence[Sequence[int]]]
"""For every tensor of the block and each of its axes the sizes of the program axes that make it up."""


def record(
    candidate: CandidateLike,
    inputs: Inputs,
    *,
    splits: Splits | None = None,
    arithmetic: Arithmetic = PLAIN,
    seed: int = 0,
) -> Trace:
    """Run ``candidate`` on ``inputs`` and record what it computes (``docs/proof.md``, section 1).

    Args:
        candidate: builds the optimizer, within the recording.
        inputs: initial weights, and the gradients of every step; they stay untouched.
        splits: sizes of the program axes of every tensor and axis; ``(2, 3)`` makes 6 rows two heads of three. Without
            it every axis is one. Sizes of one are dropped.
        arithmetic: executes the operations that are recorded.
        seed: of the random numbers that the candidate draws.

    Returns:
        ``steps[0]`` is the constructor, then one step for each call of ``step()``, or those before ``unsupported``.

    Raises:
        CandidateError: the constructor or a step raised.
        ValueError: ``splits`` that do not fit the shapes.
    """
    dims = _declared(inputs.shapes, splits)
    seed_everything(seed)
    session = _Session(dims)
    steps: list[Step] = []
    with torch.compiler.set_stance("force_eager"), arithmetic.active():
        session.params = [torch.nn.Parameter(weight.clone()) for weight in inputs.weights]
        for number in range(inputs.steps + 1):
            if number:
                for param, grad in zip(session.params, inputs.grads[number - 1], strict=True):
                    param.grad = grad.clone()
            before = session.begin(with_grads=number > 0)
            with session.watching():
                if number:
                    take_step(session.optimizer, number)
                else:
                    session.optimizer = build(candidate, session.params)
            step = session.end(before)
            if step is None:
                break
            steps.append(step)
    return Trace(inputs.shapes, tuple(steps), session.recorder.unsupported)


def _declared(shapes: Sequence[tuple[int, ...]], splits: Splits | None) -> tuple[Dims, ...]:
    if splits is None:
        return tuple(tuple((size,) if size > 1 else () for size in shape) for shape in shapes)
    declared = tuple(
        tuple(tuple(size for size in axis if size != 1) for axis in tensor_splits) for tensor_splits in splits
    )
    if tuple(Sym(0, dims, torch.float64).shape for dims in declared) != tuple(shapes):
        raise ValueError(f"splits {splits} do not multiply to the shapes {tuple(shapes)}; give the sizes of every axis")
    return declared


@dataclass
class _Kept:
    """A state tensor at the end of a step: its value, the tensor that shows it, and the numbers in it."""

    value: Sym
    tensor: torch.Tensor
    numbers: Any


@dataclass
class _Session:
    """The tensors of a run from one step to the next."""

    dims: tuple[Dims, ...]
    recorder: Recorder = field(default_factory=Recorder)
    params: list[torch.nn.Parameter] = field(default_factory=list)
    optimizer: Any = None
    state: dict[str, _Kept] = field(default_factory=dict)
    census: Census = field(default_factory=Census)

    def begin(self, with_grads: bool) -> dict[str, Any]:
        """Open the program of a step; returns the values of its inputs by name."""
        recorder = self.recorder
        recorder.begin()
        values: dict[str, Any] = {}
        for number, (param, dims) in enumerate(zip(self.params, self.dims, strict=True)):
            self._input(f"weight:{number}", param.data, dims, values)
        for number, (param, dims) in enumerate(zip(self.params, self.dims, strict=True)):
            if with_grads and param.grad is not None:
                self._input(f"grad:{number}", param.grad, dims, values)
        for name, kept in sorted(self.state.items()):
            value = recorder.builder.input(name, kept.value.dims, kept.value.dtype)
            recorder.hold(kept.tensor, value)
            values[name] = kept.numbers
        return values

    def _input(self, name: str, tensor: torch.Tensor, dims: Dims, values: dict[str, Any]) -> None:
        self.recorder.hold(tensor, self.recorder.builder.input(name, dims, tensor.dtype))
        values[name] = memory.values(tensor).reshape([*itertools.chain(*dims)])

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Record what is executed in the body of the ``with`` statement."""
        recorder = self.recorder
        with thread_watch(self.census), watching(recorder):
            yield
        if self.census.escapes:
            recorder.refuse("a thread of its own", "")

    def end(self, inputs: dict[str, Any]) -> Step | None:
        """Close the program of a step; None if the run has none."""
        recorder = self.recorder
        if recorder.unsupported is None:
            try:
                outputs = self._outputs()
                recorder.builder.where = ""
                return _step(recorder, outputs, inputs)
            except NotInVocabulary as reason:
                recorder.refuse(str(reason), recorder.builder.where)
        return None

    def _outputs(self) -> dict[str, _Kept]:
        recorder = self.recorder
        outputs: dict[str, _Kept] = {}
        homes: set[int] = set()
        for number, (param, dims) in enumerate(zip(self.params, self.dims, strict=True)):
            tensor = param.data
            value = recorder.read(tensor)
            if value.shape != Sym(0, dims, tensor.dtype).shape:
                raise NotInVocabulary(f"a weight that changes its shape to {value.shape}")
            value = memory.conform(recorder.builder, value, dims)
            if (home := tensor.untyped_storage()._cdata) in homes:
                raise NotInVocabulary("two weights in the same memory")
            homes.add(home)
            outputs[f"weight:{number}"] = _Kept(value, tensor, _numbers(tensor, value))
        self.state = {}
        for path, tensor in tensors_of(self.optimizer, self.params):
            home = recorder.storage(tensor).handle._cdata
            if home in homes or not tensor.numel():
                continue
            homes.add(home)
            shown = recorder.whole(tensor)
            if shown is not None:
                tensor, value = shown
                self.state[f"state:{path}"] = _Kept(value, tensor, _numbers(tensor, value))
        return {**outputs, **self.state}


def _numbers(tensor: torch.Tensor, value: Sym) -> Any:
    return memory.values(tensor).reshape(value.axes)


def _step(recorder: Recorder, outputs: dict[str, _Kept], inputs: dict[str, Any]) -> Step:
    builder = recorder.builder
    roots = {name: kept.value.line for name, kept in outputs.items()}
    live = live_lines(builder.lines, [*roots.values(), *builder.leaks])
    new = {old: number for number, old in enumerate(live)}
    lines: list[Line] = []
    for old in live:
        line = builder.lines[old]
        if line.op == "undefined":
            builder.where = line.where
            raise NotInVocabulary(f"the step reads {line.attributes['why']}")
        operands = tuple(new[operand] for operand in line.operands)
        lines.append(Line(line.op, operands, line.attributes, line.rank, line.where))
    program = Program(
        tuple(lines),
        {name: new[line] for name, line in roots.items()},
        tuple(sorted({new[at] for at in builder.leaks})),
    )
    constants = {new[old]: value for old, value in builder.constants.items() if old in new}
    program, sizes, constants = unstack(program, [builder.sizes[old] for old in live], constants)
    program, sizes, constants = inline_transposes(program, sizes, constants)
    return Step(
        program=program,
        constants=constants,
        inputs=inputs,
        outputs={name: kept.numbers for name, kept in outputs.items()},
        sizes=sizes,
        casts=tuple(sorted(recorder.casts)),
    )
