"""How far a symmetry is from preserving a model's loss, next to how far rounding alone could put it.

Measuring and judging are apart: `defect` and `rounding_floor` return numbers in the same units, and the caller divides.
"""

from __future__ import annotations

import copy
import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from groups import GroupElement
from paper_repro.objective import token_loss
from paper_repro.precision import float64_arithmetic, jitter_like, jittered
from paper_repro.symmetry import Symmetry


@dataclass(frozen=True)
class Evaluation:
    """Logits ``(batch, length, vocabulary)``, loss and the gradient of the loss in every parameter."""

    logits: torch.Tensor
    loss: torch.Tensor
    gradients: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Difference:
    """How two evaluations differ, relative to the size of the first: logits, loss, and gradients by parameter name.

    All gradients are relative to the largest gradient entry of the model, so that a parameter with a vanishing gradient
    needs no special case.
    """

    logits: float
    loss: float
    gradients: Mapping[str, float]

    def combine(self, other: Difference, operation: Callable[[float, float], float]) -> Difference:
        """``operation`` on each number of both."""
        gradients = {name: operation(value, other.gradients[name]) for name, value in self.gradients.items()}
        return Difference(operation(self.logits, other.logits), operation(self.loss, other.loss), gradients)

    def over(self, floor: Difference) -> Difference:
        """Each difference in units of the floor's."""
        return self.combine(floor, operator.truediv)


def evaluate(model: nn.Module, tokens: torch.Tensor, arithmetic: float64_arithmetic | None = None) -> Evaluation:
    """Forward and backward pass of the next-token loss in float64, with transformers' float32 casts lifted."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    with arithmetic or float64_arithmetic():
        logits = model(tokens).logits
        loss = token_loss(logits, tokens)
    gradients = torch.autograd.grad(loss, parameters)
    return Evaluation(logits.detach(), loss.detach(), dict(zip(names, gradients, strict=True)))


def defect(model: nn.Module, symmetry: Symmetry, element: GroupElement, tokens: torch.Tensor) -> Difference:
    """How far ``f(g . theta; g . data)`` is from ``g . f(theta; data)``: logits, loss, and gradients under the dual
    action.
    """
    moved = evaluate(symmetry.transform(model, element), symmetry.relabel(model, element, tokens))
    return _difference(symmetry, _expected(model, symmetry, element, evaluate(model, tokens)), moved)


def rounding_floor(
    model: nn.Module, symmetry: Symmetry, element: GroupElement, tokens: torch.Tensor, *, draws: int = 2, seed: int = 0
) -> Difference:
    """What `defect` would be for an exact symmetry whose both sides round as badly as they can: an estimate, not a
    bound.

    By the triangle inequality the defect of an exact symmetry is at most the rounding error of one side plus that of
    the other. Each is measured by Monte Carlo arithmetic: all operations are perturbed by the rounding error bound of
    the longest sum in the model (``jittered``), and so are the parameters before ``g`` acts, which stands for the
    rounding in forming ``g . theta``. The largest of ``draws`` reruns counts.
    """
    generator = torch.Generator().manual_seed(seed)
    scale = max(max(parameter.shape) for parameter in model.parameters())
    before = _expected(model, symmetry, element, evaluate(model, tokens))
    relabelled = symmetry.relabel(model, element, tokens)
    after = evaluate(symmetry.transform(model, element), relabelled)
    floors = []
    for _ in range(draws):
        rerun = evaluate(model, tokens, jittered(generator, scale))
        left = _difference(symmetry, before, _expected(model, symmetry, element, rerun))
        shaken = symmetry.transform(_shaken(model, generator, scale), element)
        right = _difference(symmetry, after, evaluate(shaken, relabelled, jittered(generator, scale)))
        floors.append(left.combine(right, operator.add))
    return functools.reduce(lambda first, second: first.combine(second, max), floors)


def _expected(model: nn.Module, symmetry: Symmetry, element: GroupElement, evaluation: Evaluation) -> Evaluation:
    return Evaluation(
        symmetry.logits(model, element, evaluation.logits),
        evaluation.loss,
        symmetry.dual(evaluation.gradients, element),
    )


def _difference(symmetry: Symmetry, first: Evaluation, second: Evaluation) -> Difference:
    observable = symmetry.observable(first.logits)
    size = torch.stack([gradient.abs().max() for gradient in first.gradients.values()]).max()
    return Difference(
        _largest(observable - symmetry.observable(second.logits), observable.abs().max()),
        _largest(first.loss - second.loss, first.loss.abs()),
        {name: _largest(first.gradients[name] - second.gradients[name], size) for name in first.gradients},
    )


def _largest(difference: torch.Tensor, size: torch.Tensor) -> float:
    """NaN if any entry is: a comparison that could not be made must not look like agreement."""
    return float(difference.abs().max() / size)


def _shaken(model: nn.Module, generator: torch.Generator, scale: float) -> nn.Module:
    shaken = copy.deepcopy(model)
    for parameter in shaken.parameters():
        parameter.data.mul_(jitter_like(parameter.data, generator, scale))
    return shaken
