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
from reference.rules.adafactor import Adafactor
from reference.rules.adam import Adam
from reference.rules.adaptive import AdaGrad, RMSprop
from reference.rules.row_norm import RowNorm
from reference.rules.sgd import SGD
from reference.rules.sign import Lion
from reference.rules.soap import SOAP
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
    elif isinstance(rule, SGD) and rule.momentum:
        yield from _sgd()
    elif isinstance(rule, Adafactor):
        yield from _adafactor()
    elif isinstance(rule, SOAP):
        text = "the first moment keeps its coordinates when the eigenbasis changes (a stale basis)"
        yield around("basis", text, _stale_basis(flipped=False))
        # A stale moment sees the signs of eigenvectors, which the rule does not: those of the authors' code too.
        yield around("basis", f"{text}, with eigenvectors by eigh(G) in reverse", _stale_basis(flipped=True))


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
        mean: torch.Tensor = new["mean"]
        square: torch.Tensor = new["largest_square"] if "largest_square" in new else new["square"]
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


# -- SGD ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SGDFormula:
    """Momentum SGD: ``b = mu b + gain g`` and a step along ``b``, or ``look g + mu b`` with Nesterov.

    ``averaged`` makes the gain ``1 - mu`` and ``damp_first`` applies it to the first gradient too; ``old`` steps along
    the buffer of before; ``rate_inside`` keeps the learning rate in the buffer.
    """

    averaged: bool = False
    damp_first: bool = False
    damp_look: bool = False
    old: bool = False
    rate_inside: bool = False

    def __call__(self, inner: Step) -> Step:
        """The step in place of ``inner``."""

        def step(
            rule: Any, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
        ) -> tuple[torch.Tensor, State]:
            mu, count = rule.momentum, state["step"]
            used = grad + rule.decay_rate * weight if rule.decay_rate else grad
            used = rule.lr * used if self.rate_inside else used
            gain = 1 - mu if self.averaged else 1 - rule.dampening
            gain = gain if count or self.damp_first else 1.0
            buffer = mu * state["momentum"] + gain * used
            along = state["momentum"] if self.old else buffer
            if rule.nesterov:
                along = (1 - mu if self.damp_look else 1.0) * used + mu * along
            rate = 1.0 if self.rate_inside else rule.lr
            return -rate * along, {"step": count + 1, "momentum": buffer}

        return step


def _sgd() -> Iterator[Suspect]:
    def formula(text: str, family: str, weight: int = 1, **changes: bool) -> Suspect:
        return around(family, text, SGDFormula(**changes), weight)

    average = "momentum is a moving average, m = mu m + (1 - mu) g, not a heavy ball"
    yield formula(average, "momentum", averaged=True, damp_first=True, damp_look=True)
    yield formula(f"{average}, but for the look-ahead", "momentum", 2, averaged=True, damp_first=True)
    yield formula("the gradient is damped by 1 - momentum", "dampening", averaged=True)
    yield formula("the first gradient is damped too", "dampening", damp_first=True)
    yield formula("the look-ahead damps the gradient: (1 - mu) g + mu b", "nesterov", damp_look=True)
    yield formula("the step uses the momentum of before this gradient", "momentum", old=True)
    yield formula("the learning rate is inside the momentum buffer", "momentum", rate_inside=True)


# -- Adafactor ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AdafactorFormula:
    """How Adafactor's step is read off its averages: without its clipping, its relative size, the bound of the rate; or
    with norms over the whole of a stack."""

    clip: bool = True
    relative: bool = True
    bounded: bool = True
    whole: bool = False
    root: bool = True

    def __call__(self, inner: Step) -> Step:
        """The step in place of ``inner``."""

        def step(
            rule: Any, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
        ) -> tuple[torch.Tensor, State]:
            _, new = inner(rule, grad, state, weight, shape)
            eps = torch.finfo(grad.dtype).eps if rule.eps[0] is None else rule.eps[0]
            if "square" in new:
                variance = new["square"]
            else:
                rows, columns = new["row_square"], new["column_square"]
                variance = divide_or_zero(rows * columns, rows.mean(-2, keepdim=True).clamp(min=eps))
            variance = variance.clamp(min=eps * eps)
            update = grad / (variance.sqrt() if self.root else variance)
            if self.clip:
                update = update / (self._rms(update) / rule.d).clamp(min=1.0)
            rate = min(rule.lr, new["step"] ** -0.5) if self.bounded else rule.lr
            size = self._rms(weight).clamp(min=rule.eps[1]) if self.relative else 1.0
            return -rate * size * update - rule.lr * rule.decay_rate * weight, new

        return step

    def _rms(self, x: torch.Tensor) -> torch.Tensor:
        """The root mean square of every matrix, or of everything."""
        if self.whole or x.ndim < 2:
            return x.square().mean().sqrt()
        return x.square().mean((-2, -1), keepdim=True).sqrt()


def _adafactor() -> Iterator[Suspect]:
    def formula(text: str, family: str, weight: int = 1, **changes: bool) -> Suspect:
        return around(family, text, AdafactorFormula(**changes), weight)

    yield formula("the update is not clipped by its root mean square", "clipping", clip=False)
    yield formula("the step is not scaled by the size of the weights", "relative step", relative=False)
    yield formula("the learning rate is not bounded by 1/sqrt(t)", "relative step", bounded=False)
    yield formula("the learning rate is neither bounded nor relative", "relative step", bounded=False, relative=False)
    yield formula("the root of the second moment is missing", "moments", 2, root=False)
    yield Suspect(
        "layout",
        "norms are those of the whole tensor, not of every matrix of it",
        lambda oracle: dataclasses.replace(
            oracle, step=AdafactorFormula(whole=True)(oracle.step), view=lambda shape: shape
        ),
    )


# -- SOAP --------------------------------------------------------------------------------------------------------------


def _stale_basis(*, flipped: bool) -> Callable[[Step], Step]:
    def wrap(inner: Step) -> Step:
        def step(
            rule: Rule, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
        ) -> tuple[torch.Tensor, State]:
            displacement, new = inner(rule, grad, state, weight, shape)
            sides = [side for side in ("left", "right") if side in new]
            if state["step"] == 0:
                first = {f"{side}_basis": torch.linalg.eigh(new[side])[1].flip(-1) for side in sides}
                return displacement, ({**new, **first} if flipped else new)
            momentum = new["momentum"]
            if "left" in sides:
                momentum = state["left_basis"].mT @ (new["left_basis"] @ momentum)
            if "right" in sides:
                momentum = (momentum @ new["right_basis"].mT) @ state["right_basis"]
            return displacement, {**new, "momentum": momentum}

        return step

    return wrap
