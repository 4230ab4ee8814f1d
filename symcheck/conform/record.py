"""What a target does, step by step: displacements, every tensor of its state, and what becomes of the gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from symcheck.probe.arithmetic import PLAIN, Arithmetic
from symcheck.probe.contracts.outcome import equal_bits
from symcheck.probe.trajectory import CandidateLike, Inputs, Tensors, build, seed_everything, take_step


@dataclass
class Record:
    """A run of a target. Everything is float64 and a copy; ``states`` holds the state of every parameter after each
    step, by name, nested names joined by dots."""

    displacements: list[Tensors] = field(default_factory=list)
    states: list[list[Mapping[str, torch.Tensor]]] = field(default_factory=list)
    weights: list[Tensors] = field(default_factory=list)
    """The weights before each step."""
    seen: list[Tensors] = field(default_factory=list)
    """The gradients that each step found in ``p.grad``."""
    overwritten: int | None = None
    """The first step that changed a gradient it was given."""


def record(
    candidate: CandidateLike,
    inputs: Inputs,
    arithmetic: Arithmetic = PLAIN,
    *,
    rates: Sequence[float] | None = None,
    keep_gradients: bool = False,
    seed: int = 0,
) -> Record:
    """Run the target along ``inputs``; with ``keep_gradients`` every step finds the tensors of the first in ``p.grad``,
    as whoever steps twice on one gradient does.

    Raises:
        CandidateError: its constructor or a step raised.
    """
    seed_everything(seed)
    out = Record()
    with arithmetic.active():
        params = [torch.nn.Parameter(weight.clone()) for weight in inputs.weights]
        optimizer = build(candidate, params)
        for number, grads in enumerate(inputs.grads, start=1):
            if rates is not None:
                _set_rate(optimizer, rates[number - 1])
            if number == 1 or not keep_gradients:
                for param, grad in zip(params, grads, strict=True):
                    param.grad = grad.clone()
            before = tuple(param.detach().clone() for param in params)
            seen = tuple(_grad(param).clone() for param in params)
            take_step(optimizer, number)
            if out.overwritten is None and not all(
                equal_bits(_grad(param), old) for param, old in zip(params, seen, strict=True)
            ):
                out.overwritten = number
            out.weights.append(tuple(old.double() for old in before))
            out.seen.append(tuple(grad.double() for grad in seen))
            out.displacements.append(
                tuple(param.detach().double() - old.double() for param, old in zip(params, before, strict=True))
            )
            out.states.append([dict(_entries(optimizer.state.get(param, {}))) for param in params])
    return out


def _grad(param: torch.nn.Parameter) -> torch.Tensor:
    return param.grad if param.grad is not None else torch.zeros_like(param)


def _set_rate(optimizer: Any, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _entries(value: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every floating-point tensor or number in a state, by dotted name."""
    if isinstance(value, torch.Tensor):
        if value.layout is torch.strided and not value.is_complex() and value.dtype != torch.bool:
            yield name, value.detach().double().clone()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield name, torch.tensor(float(value), dtype=torch.float64)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _entries(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _entries(item, f"{name}[{index}]")
