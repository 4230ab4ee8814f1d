"""Suspects inside a formula: denominators, bias corrections, and the order in which averages are updated.

The rule keeps its own state; what differs is how the direction is read off the new state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from reference.rule import Rule, State
from reference.rules.adam import Adam
from reference.rules.adaptive import AdaGrad, RMSprop
from reference.rules.row_norm import RowNorm
from reference.rules.sign import Lion
from reference.transforms.center import center
from reference.transforms.layout import orient, unorient
from reference.transforms.normalize import divide_or_zero
from symcheck.conform.oracle import Shape, Step
from symcheck.conform.suspect import Suspect, around

Root = Callable[[torch.Tensor, float], torch.Tensor]
"""``(mean square, eps) -> denominator``."""

DENOMINATORS: dict[str, Root] = {
    "eps is inside the root: sqrt(v + eps)": lambda v, eps: (v + eps).sqrt(),
    "eps is inside the root, squared: sqrt(v + eps^2)": lambda v, eps: (v + eps * eps).sqrt(),
    "eps is a floor of the root: max(sqrt(v), eps)": lambda v, eps: v.sqrt().clamp(min=eps),
    "eps is a floor inside the root: sqrt(max(v, eps))": lambda v, eps: v.clamp(min=eps).sqrt(),
    "the root is missing: v + eps": lambda v, eps: v + eps,
}


def suspects(rule: Rule) -> Iterator[Suspect]:
    """Suspects of the formula of this rule."""
    if isinstance(rule, Adam):
        yield from _adam(rule)
    elif isinstance(rule, RMSprop) and not rule.centered and not rule.momentum:
        yield from _adaptive(lambda rule, new, grad, root: divide_or_zero(grad, root(new["square"], rule.eps)))
    elif isinstance(rule, AdaGrad):
        yield from _adaptive(
            lambda rule, new, grad, root: (
                divide_or_zero(grad, root(new["square"], rule.eps)) / (1 + (new["step"] - 1) * rule.lr_decay)
            )
        )
        yield around("average", "squared gradients are averaged with 0.99, not summed", _averaged_squares, 2)
    elif isinstance(rule, RowNorm):
        yield from _adaptive(_row_direction)
    elif isinstance(rule, Lion):
        yield from _lion()


def reread(direction: Callable[[Any, State, torch.Tensor], torch.Tensor]) -> Callable[[Step], Step]:
    """The rule's own state, and ``direction(rule, new state, gradient)`` in place of its direction."""

    def wrap(inner: Step) -> Step:
        def step(
            rule: Rule, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
        ) -> tuple[torch.Tensor, State]:
            _, new = inner(rule, grad, state, weight, shape)
            coupled = rule.decay == "coupled" and rule.decay_rate
            used = grad + rule.decay_rate * weight if coupled else grad
            displacement = -rule.lr * direction(rule, new, used)
            if rule.decay_rate and not coupled:
                displacement = displacement - rule.lr * rule.decay_rate * weight
            return displacement, new

        return step

    return wrap


def _adaptive(direction: Callable[[Any, State, torch.Tensor, Root], torch.Tensor]) -> Iterator[Suspect]:
    for text, root in DENOMINATORS.items():
        yield around(
            "eps",
            text,
            reread(lambda rule, new, grad, root=root: direction(rule, new, grad, root)),  # type: ignore[misc]
        )


def _row_direction(rule: Any, new: State, grad: torch.Tensor, root: Root) -> torch.Tensor:
    work = orient(new["momentum"], rule.orientation)
    work = center(work) if rule.center_rows else work
    out = divide_or_zero(work, root((work * work).sum(-1, keepdim=True), rule.eps))
    out = center(out) if rule.center_rows else out
    result: torch.Tensor = unorient(out, rule.orientation)
    return result


# -- Adam --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AdamFormula:
    """How Adam's direction is read off its moments after ``step`` steps.

    ``late`` counts the steps of the bias correction from another number; ``root`` replaces ``sqrt(v) + eps`` for the
    corrected mean square.
    """

    correct_mean: bool = True
    correct_square: bool = True
    root: Root = dataclasses.field(default=lambda v, eps: v.sqrt() + eps)
    late: int = 0
    root_of_uncorrected: bool = False

    def __call__(self, rule: Any, new: State, grad: torch.Tensor) -> torch.Tensor:
        """The direction."""
        beta1, beta2 = rule.betas
        count = max(1, new["step"] + self.late)
        mean, square = new["mean"], new.get("largest_square", new["square"])
        first = 1 - beta1**count if self.correct_mean else 1.0
        second = 1 - beta2**count if self.correct_square else 1.0
        if self.root_of_uncorrected:
            denominator = self.root(square, rule.eps) / second**0.5
        else:
            denominator = self.root(square / second, rule.eps)
        direction: torch.Tensor = divide_or_zero(mean / first, denominator)
        return direction


def _adam(rule: Adam) -> Iterator[Suspect]:
    def formula(text: str, family: str, weight: int = 1, **changes: Any) -> Suspect:
        return around(family, text, reread(AdamFormula(**changes)), weight)

    yield formula("no bias correction of the second moment", "bias correction", correct_square=False)
    yield formula("no bias correction of the first moment", "bias correction", correct_mean=False)
    yield formula("no bias correction", "bias correction", correct_mean=False, correct_square=False)
    yield formula("the bias correction counts one step too many", "bias correction", late=1)
    yield formula("the bias correction counts one step too few", "bias correction", late=-1)
    for text, root in DENOMINATORS.items():
        yield formula(text, "eps", root=root)
        yield formula(f"{text}, of the uncorrected v", "eps", 2, root=root, root_of_uncorrected=True)
    yield around("moments", "the second moment is of g - m (AdaBelief), not of g", _square_of(_belief), 2)
    yield around("moments", "the second moment is of the first moment, not of the gradient", _square_of(_mean), 2)
    yield around("moments", "the numerator is the gradient, not its average", reread(_without_average), 2)
    yield around("nesterov", "Nesterov's look-ahead is on (NAdam without its schedule)", reread(_nadam), 2)


def _belief(grad: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    return grad - mean


def _mean(grad: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    return mean


def _without_average(rule: Any, new: State, grad: torch.Tensor) -> torch.Tensor:
    return AdamFormula(correct_mean=False)(rule, {**new, "mean": grad}, grad)


def _nadam(rule: Any, new: State, grad: torch.Tensor) -> torch.Tensor:
    beta1 = rule.betas[0]
    return AdamFormula()(rule, {**new, "mean": beta1 * new["mean"] + (1 - beta1) * grad}, grad)


def _square_of(what: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[[Step], Step]:
    def wrap(inner: Step) -> Step:
        def step(
            rule: Any, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
        ) -> tuple[torch.Tensor, State]:
            _, new = inner(rule, grad, state, weight, shape)
            beta2 = rule.betas[1]
            value = what(grad, new["mean"])
            new = {**new, "square": beta2 * state["square"] + (1 - beta2) * value * value}
            displacement = -rule.lr * AdamFormula()(rule, new, grad)
            if rule.decay == "decoupled":
                displacement = displacement - rule.lr * rule.decay_rate * weight
            return displacement, new

        return step

    return wrap


# -- Lion, AdaGrad -----------------------------------------------------------------------------------------------------


def _lion() -> Iterator[Suspect]:
    def updated(rule: Any, new: State, grad: torch.Tensor) -> torch.Tensor:
        return torch.sign(rule.betas[0] * new["momentum"] + (1 - rule.betas[0]) * grad)

    yield around("order", "the momentum is updated before the step, not after it", reread(updated))
    yield around("order", "the sign is that of the updated momentum", reread(lambda r, new, g: new["momentum"].sign()))
    yield around("order", "the momentum keeps the interpolation of the step", _keeps_interpolation)


def _keeps_interpolation(inner: Step) -> Step:
    def step(
        rule: Any, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
    ) -> tuple[torch.Tensor, State]:
        displacement, _ = inner(rule, grad, state, weight, shape)
        beta1 = rule.betas[0]
        return displacement, {"momentum": beta1 * state["momentum"] + (1 - beta1) * grad}

    return step


def _averaged_squares(inner: Step) -> Step:
    def step(
        rule: Any, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
    ) -> tuple[torch.Tensor, State]:
        used = grad + rule.decay_rate * weight if rule.decay == "coupled" and rule.decay_rate else grad
        square = 0.99 * state["square"] + 0.01 * used * used
        new = {**state, "step": state["step"] + 1, "square": square}
        return -rule.lr * divide_or_zero(used, square.sqrt() + rule.eps), new

    return step
