"""The reference as it is followed: a rule, and what a suspect changes in it.

An oracle without changes is the rule itself. Every change that `symcheck.conform.suspects` makes is one of four:
another hyper-parameter, another step around the rule's own, another way to read a parameter as a matrix, or other
gradients.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from reference.rule import Rule, State
from symcheck.probe.arithmetic import PLAIN, Arithmetic
from symcheck.probe.trajectory import Inputs, Tensors

Shape = tuple[int, ...]
Step = Callable[[Rule, torch.Tensor, State, torch.Tensor, Shape], tuple[torch.Tensor, State]]
"""``(rule, gradient, state, weight, shape of the parameter) -> (displacement, new state)``; the first tensors are the
parameter as the rule sees it, a matrix or a stack of them."""
View = Callable[[Shape], Shape]
"""From the shape of a parameter to the shape in which the rule sees it."""


def rule_step(
    rule: Rule, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
) -> tuple[torch.Tensor, State]:
    """The rule's own step."""
    displacement, new = rule.update(grad, state, weight)
    return displacement, new


def as_matrices(shape: Shape) -> Shape:
    """Four axes and more are a convolution, ``[out, rest]``; three are a stack of matrices; fewer stay as they are."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 3 else shape


@dataclass(frozen=True)
class Oracle:
    """A rule with the changes of a suspect.

    ``joined``: parameters of one shape are stepped as one tall matrix. ``as_seen``: the gradients are those that the
    target found in ``p.grad``, which its own earlier steps may have overwritten, not those that it was given.
    """

    rule: Rule
    step: Step = rule_step
    view: View = as_matrices
    joined: bool = False
    as_seen: bool = False

    def with_rule(self, **changes: Any) -> Oracle:
        """The same with other hyper-parameters.

        Raises:
            ValueError: the rule refuses a value.
        """
        return dataclasses.replace(self, rule=dataclasses.replace(self.rule, **changes))

    def init(self, weights: Tensors) -> list[State]:
        """The state of every parameter before the first step; one state for all of them if they are joined."""
        return [self.rule.init(weight) for weight in self._viewed(weights)]

    def update(
        self, grads: Tensors, states: Sequence[State], weights: Tensors, *, lr: float | None = None
    ) -> tuple[Tensors, list[State]]:
        """One step of every parameter: the displacements in the parameters' own shapes, and the new states."""
        rule = self.rule if lr is None else dataclasses.replace(self.rule, lr=lr)
        shapes = [tuple(weight.shape) for weight in weights]
        displacements, new = [], []
        for grad, state, weight, shape in zip(self._viewed(grads), states, self._viewed(weights), shapes, strict=False):
            displacement, after = self.step(rule, grad, state, weight, shape)
            displacements.append(displacement)
            new.append(after)
        if self._joins(weights):
            displacements = list(torch.tensor_split(displacements[0], len(shapes), dim=-2))
        return tuple(d.reshape(shape) for d, shape in zip(displacements, shapes, strict=True)), new

    def _viewed(self, tensors: Tensors) -> list[torch.Tensor]:
        viewed = [tensor.reshape(self.view(tuple(tensor.shape))) for tensor in tensors]
        return [torch.cat(viewed, dim=-2)] if self._joins(tensors) else viewed

    def _joins(self, tensors: Tensors) -> bool:
        same = len({tuple(tensor.shape) for tensor in tensors}) == 1 and tensors[0].ndim >= 2
        return self.joined and len(tensors) > 1 and same


@dataclass(frozen=True)
class Path:
    """A run of an oracle: displacement and state of every step, for every parameter."""

    displacements: list[Tensors]
    states: list[list[State]]
    weights: list[Tensors]
    """The weights before each step."""


def follow(
    oracle: Oracle,
    inputs: Inputs,
    *,
    rates: Sequence[float] | None = None,
    negate: bool = False,
    arithmetic: Arithmetic = PLAIN,
) -> Path:
    """Run the oracle in float64 along ``inputs``; ``rates`` are the learning rates of a schedule, ``negate`` flips
    every gradient (maximisation).

    Raises:
        ValueError: the rule does not take a shape.
    """
    path = Path([], [], [])
    with arithmetic.active():
        weights = tuple(weight.clone() for weight in inputs.weights)
        states = oracle.init(weights)
        for number, grads in enumerate(inputs.grads):
            path.weights.append(weights)
            given = tuple(-grad for grad in grads) if negate else grads
            displacements, states = oracle.update(given, states, weights, lr=rates[number] if rates else None)
            weights = tuple(weight + d for weight, d in zip(weights, displacements, strict=True))
            path.displacements.append(displacements)
            path.states.append(states)
    return path
