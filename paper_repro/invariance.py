"""How far a symmetry is from preserving a model's loss, next to how far rounding alone could put it.

Measuring and judging are apart: `defect` and `rounding_floor` return numbers in the same units, and the caller divides.
"""

from __future__ import annotations

import copy
import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from groups import GroupElement
from paper_repro.objective import token_loss
from paper_repro.symmetry import Symmetry
from symcheck.probe.arithmetic import Arithmetic
from symcheck.probe.measure import LEAST_FLOOR, UNIT

PROMOTED = Arithmetic(promote=True)
"""Transformers computes norms, softmax and routing in float32 whatever the parameters' type: that is undone."""


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


def evaluate(model: nn.Module, tokens: torch.Tensor, arithmetic: Arithmetic = PROMOTED) -> Evaluation:
    """Forward and backward pass of the next-token loss, by default in float64 with transformers' casts undone."""
    with arithmetic.active():
        return _run(model, tokens)


def defect(model: nn.Module, symmetry: Symmetry, element: GroupElement, tokens: torch.Tensor) -> Difference:
    """How far ``f(g . theta; g . data)`` is from ``g . f(theta; data)``: logits, loss, and gradients under the dual
    action.
    """
    predicted, observed = _sides(model, symmetry, element, tokens, PROMOTED)
    return _difference(symmetry, predicted, observed)


def rounding_floor(
    model: nn.Module, symmetry: Symmetry, element: GroupElement, tokens: torch.Tensor, *, draws: int = 4, seed: int = 0
) -> Difference:
    """What `defect` would be for an exact symmetry whose both sides round badly: an estimate, not a bound.

    By the triangle inequality the defect of an exact symmetry is at most the rounding error of one side plus that of
    the other. Each is measured by Monte Carlo arithmetic (Parker 1997): everything that a side computes, the action on
    parameters and on gradients included, is run again with every rounding randomised. An element drawn from its group
    lies in it up to rounding only, which no rounding of its action can show: the parameters are perturbed before it
    acts (`_shaken`). The largest of ``draws`` reruns counts, and for logits and loss, which are compared relative to
    themselves, at least `LEAST_FLOOR`: the few reruns of a single number may agree by chance.
    """
    predicted, observed = _sides(model, symmetry, element, tokens, PROMOTED)
    floors = [Difference(LEAST_FLOOR, LEAST_FLOOR, dict.fromkeys(predicted.gradients, 0.0))]
    for draw in range(draws):
        noisy = replace(PROMOTED, noise=seed + draw)
        shaken = _shaken(model, seed + draw)
        again_predicted, again_observed = _sides(shaken, symmetry, element, tokens, noisy)
        left = _difference(symmetry, predicted, again_predicted)
        right = _difference(symmetry, observed, again_observed)
        floors.append(left.combine(right, operator.add))
    return functools.reduce(lambda first, second: first.combine(second, max), floors)


def _sides(
    model: nn.Module, symmetry: Symmetry, element: GroupElement, tokens: torch.Tensor, arithmetic: Arithmetic
) -> tuple[Evaluation, Evaluation]:
    """``g . f(theta; data)`` and ``f(g . theta; g . data)``, each computed in ``arithmetic`` from end to end."""
    with arithmetic.active():
        predicted = _expected(model, symmetry, element, _run(model, tokens))
        observed = _run(symmetry.transform(model, element), symmetry.relabel(model, element, tokens))
    return predicted, observed


def _run(model: nn.Module, tokens: torch.Tensor) -> Evaluation:
    names, parameters = zip(*model.named_parameters(), strict=True)
    logits = model(tokens).logits
    loss = token_loss(logits, tokens)
    gradients = torch.autograd.grad(loss, parameters)
    return Evaluation(logits.detach(), loss.detach(), dict(zip(names, gradients, strict=True)))


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


def _shaken(model: nn.Module, seed: int) -> nn.Module:
    """A copy whose parameters are off by a relative error of at most one unit roundoff for each entry along the
    longest axis: an orthogonal matrix that acts on one, computed by Householder reflections, is off its group by the
    order of its size in unit roundoffs.
    """
    extent = max(max(parameter.shape) for parameter in model.parameters())
    generator = torch.Generator().manual_seed(seed)
    shaken = copy.deepcopy(model)
    for parameter in shaken.parameters():
        noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data.mul_(1.0 + extent * UNIT * (2.0 * noise - 1.0))
    return shaken
