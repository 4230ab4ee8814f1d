"""Running a candidate: from initial weights and a sequence of gradients to the displacement of every step."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from symcheck.probe.arithmetic import PLAIN, Arithmetic

Tensors = tuple[torch.Tensor, ...]
"""The tensors of one block, ordered as the tensors of its action."""


class CandidateLike(Protocol):
    """What the probe needs of a candidate: its name, and an optimizer for given parameters."""

    @property
    def target(self) -> str:
        """What the user called it."""

    @property
    def make(self) -> Callable[[list[torch.nn.Parameter]], Any]:
        """Builds a new optimizer over the given parameters."""


class ConfiguredCandidate(CandidateLike, Protocol):
    """A candidate together with the constructor arguments it was built with."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The constructor arguments."""


@dataclass(frozen=True)
class Inputs:
    """Initial weights and the gradients of ``T`` steps of one block; never written to."""

    weights: Tensors
    grads: tuple[Tensors, ...]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the tensors of the block."""
        return tuple(tuple(weight.shape) for weight in self.weights)

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.grads)

    def to(self, dtype: torch.dtype) -> Inputs:
        """The same inputs rounded to ``dtype``."""
        return self.map(lambda tensor: tensor.to(dtype))

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Inputs:
        """``function`` applied to the weights and to every gradient."""
        return Inputs(tuple(map(function, self.weights)), tuple(tuple(map(function, step)) for step in self.grads))

    def first(self, steps: int) -> Inputs:
        """The first ``steps`` steps of the trajectory."""
        return dataclasses.replace(self, grads=self.grads[:steps])


class CandidateError(Exception):
    """The candidate raised. ``stage`` is "constructor" or "step N"; ``cause`` is what it raised."""

    def __init__(self, stage: str, cause: BaseException) -> None:
        self.stage = stage
        self.cause = cause
        text = " ".join(str(cause).split()) or "no message"
        self.where = ""
        super().__init__(f"{stage} raised {type(cause).__name__}: {text[:300]}")

    def on(self, stratum: str, shapes: tuple[tuple[int, ...], ...]) -> CandidateError:
        """The same error with the place in the search where it was met."""
        self.where = f"on stratum {stratum}, shape {'+'.join('x'.join(map(str, shape)) for shape in shapes)}"
        self.args = (f"{self.where}: {self.args[0]}",)
        return self

    @property
    def needs_closure(self) -> bool:
        """Whether ``step()`` failed for want of a closure."""
        return "closure" in f"{type(self.cause).__name__} {self.cause}".lower()

    @property
    def needs_sparse(self) -> bool:
        """Whether ``step()`` refused a dense gradient."""
        text = str(self.cause).lower()
        return "dense gradient" in text and "sparse" in text


def seed_everything(seed: int) -> None:
    """Give every random source that a candidate may draw from the same start."""
    # torch.manual_seed also formats a stack trace for devices that are not there: too slow for thousands of runs.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - candidates draw from the global generator


def build(candidate: CandidateLike, params: list[torch.nn.Parameter]) -> Any:
    """The candidate's optimizer for ``params``.

    Raises:
        CandidateError: its constructor raised.
    """
    try:
        return candidate.make(params)
    except Exception as error:
        raise CandidateError("constructor", error) from error


def take_step(optimizer: Any, number: int) -> None:
    """One step, counted from 1.

    Raises:
        CandidateError: the step raised.
    """
    try:
        optimizer.step()
    except Exception as error:
        raise CandidateError(f"step {number}", error) from error


def run(candidate: CandidateLike, inputs: Inputs, arithmetic: Arithmetic = PLAIN, *, seed: int = 0) -> list[Tensors]:
    """The displacements ``W_t - W_{t-1}`` of every step, as one tuple of tensors for each step.

    The optimizer is built inside the arithmetic, on fresh copies of the weights, and ``inputs`` stay untouched.

    Raises:
        CandidateError: its constructor or a step raised.
    """
    seed_everything(seed)
    with arithmetic.active():
        params = [torch.nn.Parameter(weight.clone()) for weight in inputs.weights]
        optimizer = build(candidate, params)
        displacements: list[Tensors] = []
        for number, grads in enumerate(inputs.grads, start=1):
            before = [param.detach().clone() for param in params]
            for param, grad in zip(params, grads, strict=True):
                param.grad = grad.clone()
            take_step(optimizer, number)
            displacements.append(tuple(param.detach() - old for param, old in zip(params, before, strict=True)))
    return displacements


def largest(tensors: Sequence[torch.Tensor]) -> float:
    """The largest magnitude in several tensors; NaN or infinite if any entry is."""
    return max((float(tensor.abs().max()) for tensor in tensors if tensor.numel()), default=0.0, key=_nan_last)


def _nan_last(value: float) -> float:
    # max() ignores a NaN that does not come first: 0 < nan is false. Here a NaN wins over everything.
    return float("inf") if value != value else value
