"""Suspects around the rule's own step: what goes into it, what becomes of its result, and when weights decay."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from reference.orthogonalizers import NewtonSchulz, get_orthogonalizer
from reference.rule import Rule, State
from reference.transforms.normalize import divide_or_zero, floored
from symcheck.conform.oracle import Shape, Step
from symcheck.conform.suspect import Suspect, around


def suspects(rule: Rule) -> Iterator[Suspect]:
    """Suspects of the gradient, the momentum buffer, weight decay, the shape scale and the learning rate."""
    yield from _gradients()
    yield from _momentum(rule)
    yield from _decay(rule)
    yield from _scales(rule)


def _gradients() -> Iterator[Suspect]:
    def of(text: str, change: Callable[[torch.Tensor], torch.Tensor], weight: int = 1) -> Suspect:
        def wrap(inner: Step) -> Step:
            return lambda rule, grad, state, w, shape: inner(rule, change(grad), state, w, shape)

        return around("gradient", text, wrap, weight)

    yield of("the sign of the gradient is flipped (it maximises)", lambda grad: -grad)
    yield of("the gradient is normalised by its norm first", lambda grad: grad / grad.norm(), 2)
    yield of("the gradient is clipped to norm 1 first", lambda grad: grad / grad.norm().clamp(min=1.0), 2)
    yield Suspect(
        "gradient",
        "an earlier step overwrote the gradient in p.grad",
        lambda oracle: dataclasses.replace(oracle, as_seen=True),
    )


# -- momentum ----------------------------------------------------------------------------------------------------------


def _momentum(rule: Rule) -> Iterator[Suspect]:
    mu = getattr(rule, "momentum", 0.0)
    # Some keep a momentum of other things than gradients: what is said below is about gradients.
    if not mu or rule.name == "rmsprop" or getattr(rule, "polar_first", False):
        return
    is_average = getattr(rule, "accumulation", "ema") == "ema" and rule.name != "sgd"
    if is_average and not hasattr(rule, "accumulation"):
        yield around(
            "momentum",
            "momentum is a heavy ball, b = mu b + g, not a moving average",
            _scaled(lambda rule: 1 / (1 - rule.momentum)),
        )
    if is_average:
        yield around("momentum", "the moving average starts with the first gradient, not with zero", _starts_full)
        yield around("momentum", "the moving average is corrected for its zero start", _corrected)
    if not hasattr(rule, "nesterov"):
        yield around("nesterov", "Nesterov's look-ahead is on", _ahead)
    elif getattr(rule, "nesterov", False):
        look = _look_ahead
        yield around(
            "nesterov", "the look-ahead swaps its coefficients: mu g + (1 - mu) m", look(lambda mu: (mu, 1 - mu))
        )
        yield around("nesterov", "the look-ahead adds the whole gradient: g + mu m", look(lambda mu: (1.0, mu)))
        yield around("nesterov", "the look-ahead damps the gradient: (1 - mu) g + mu b", look(lambda mu: (1 - mu, mu)))
    if rule.name != "sgd":
        yield around("momentum", "the step uses the momentum of before this gradient", _late)
    text = "the momentum buffer is normalised in place by what follows (an alias is written)"
    yield around("momentum", text, _normalised_in_place)


def _scaled(factor: Callable[[Any], float]) -> Callable[[Step], Step]:
    """The gradient times a factor, coupled decay included: what turns one momentum convention into the other."""

    def wrap(inner: Step) -> Step:
        def step(
            rule: Rule, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
        ) -> tuple[torch.Tensor, State]:
            coupled = rule.decay == "coupled"
            c = factor(rule)
            return inner(rule, c * grad, state, c * weight if coupled else weight, shape)

        return step

    return wrap


def _starts_full(inner: Step) -> Step:
    def step(
        rule: Rule, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
    ) -> tuple[torch.Tensor, State]:
        first = not state.get("_started", False)
        state = {**state, "momentum": grad} if first else state
        displacement, new = inner(rule, grad, state, weight, shape)
        return displacement, {**new, "_started": True}

    return step


def _corrected(inner: Step) -> Step:
    def step(
        rule: Rule, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
    ) -> tuple[torch.Tensor, State]:
        count = state.get("_count", 0) + 1
        correction = 1 - rule.momentum**count  # type: ignore[attr-defined]
        scaled = {**state, "momentum": state["momentum"] / correction}
        displacement, new = inner(rule, grad / correction, scaled, weight, shape)
        return displacement, {**new, "momentum": correction * new["momentum"], "_count": count}

    return step


def _ahead(inner: Step) -> Step:
    """Average the gradient into the momentum once more for the step, and forget that again."""

    def step(
        rule: Rule, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
    ) -> tuple[torch.Tensor, State]:
        _, new = inner(rule, grad, state, weight, shape)
        displacement, _ = inner(rule, grad, {**new, **_counts(state)}, weight, shape)
        return displacement, new

    return step


def _look_ahead(weights: Callable[[float], tuple[float, float]], *, old: bool = False) -> Callable[[Step], Step]:
    """A step along ``a g + b m`` with the new buffer ``m``, or the ``old`` one: a rule without look-ahead is fed what
    gives just that."""

    def wrap(inner: Step) -> Step:
        def step(
            rule: Rule, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
        ) -> tuple[torch.Tensor, State]:
            _, new = inner(rule, grad, state, weight, shape)
            plain = dataclasses.replace(rule, nesterov=False) if hasattr(rule, "nesterov") else rule  # type: ignore[call-arg]
            mu = rule.momentum  # type: ignore[attr-defined]
            a, b = weights(mu)
            gain = 1 - mu if getattr(rule, "accumulation", "ema") == "ema" else 1.0
            wanted = a * grad + b * (state if old else new)["momentum"]
            none = {**new, "momentum": torch.zeros_like(grad)}
            displacement, _ = inner(plain, wanted / gain, none, weight, shape)
            return displacement, new

        return step

    return wrap


def _late(inner: Step) -> Step:
    """The old buffer, with its look-ahead if there is one."""

    def step(
        rule: Rule, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
    ) -> tuple[torch.Tensor, State]:
        average = getattr(rule, "accumulation", "ema") == "ema"

        def weights(mu: float) -> tuple[float, float]:
            if not getattr(rule, "nesterov", False):
                return 0.0, 1.0
            return (1 - mu if average else 1.0), mu

        return _look_ahead(weights, old=True)(inner)(rule, grad, state, weight, shape)

    return step


def _normalised_in_place(inner: Step) -> Step:
    """What follows if the orthogonalisation writes to its argument: without look-ahead that is the buffer itself."""

    def step(
        rule: Rule, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
    ) -> tuple[torch.Tensor, State]:
        displacement, new = inner(rule, grad, state, weight, shape)
        if getattr(rule, "nesterov", False):
            return displacement, new
        method = get_orthogonalizer(getattr(rule, "orthogonalizer", "exact"))
        norm = torch.linalg.vector_norm(new["momentum"], dim=(-2, -1), keepdim=True)
        if isinstance(method, NewtonSchulz):
            norm = floored(method.margin * norm, method.eps, method.floor)
        return displacement, {**new, "momentum": divide_or_zero(new["momentum"], norm)}

    return step


def _counts(state: State) -> State:
    return {name: value for name, value in state.items() if isinstance(value, int)}


# -- weight decay ------------------------------------------------------------------------------------------------------

Decay = Callable[[Rule, torch.Tensor, torch.Tensor, Shape], torch.Tensor]
"""``(rule, displacement without decay, weight, shape) -> displacement``."""


def _decay(rule: Rule) -> Iterator[Suspect]:
    if not rule.decay_rate:
        return

    def after(text: str, add: Decay, weight: int = 1) -> Suspect:
        def wrap(inner: Step) -> Step:
            def step(
                rule: Rule, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
            ) -> tuple[torch.Tensor, State]:
                displacement, new = _undecayed(inner, rule, grad, state, weight, shape)
                return add(rule, displacement, weight, shape), new

            return step

        return around("decay", text, wrap, weight)

    if rule.decay == "coupled":
        text = "weight decay is decoupled (AdamW), not added to the gradient"
        yield after(text, lambda rule, d, w, shape: d - rule.lr * rule.decay_rate * w)
    else:
        yield around("decay", "weight decay is coupled: added to the gradient before the moments", _coupled)
    yield after(
        "weights decay after the update, not before",
        lambda rule, d, w, shape: d - rule.lr * rule.decay_rate * (w + d),
    )
    if rule.name == "soap":  # the one rule here that decays after the update
        yield around("decay", "weights decay before the update, not after", _decayed_first)
    yield after(
        "weight decay is not multiplied by the learning rate", lambda rule, d, w, shape: d - rule.decay_rate * w
    )
    yield after("weights do not decay at all", lambda rule, d, w, shape: d)
    yield after("weight decay grows the weights", lambda rule, d, w, shape: d + rule.lr * rule.decay_rate * w, 2)
    yield after("weight decay is halved", lambda rule, d, w, shape: d - rule.lr * rule.decay_rate * w / 2, 2)
    yield after(
        "weight decay uses the learning rate squared", lambda rule, d, w, shape: d - rule.lr**2 * rule.decay_rate * w, 2
    )
    for name, scale in SCALES.items():
        if name != "1":
            yield after(
                f"weight decay uses the learning rate adjusted by {name}",
                lambda rule, d, w, shape, scale=scale: d - rule.lr * scale(w.shape) * rule.decay_rate * w,  # type: ignore[misc]
                2,
            )


def _decayed_first(inner: Step) -> Step:
    def step(
        rule: Rule, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
    ) -> tuple[torch.Tensor, State]:
        displacement, new = inner(rule, grad, state, weight, shape)
        bare, _ = _undecayed(inner, rule, grad, state, weight, shape)
        return displacement + rule.lr * rule.decay_rate * bare, new

    return step


def _undecayed(
    inner: Step, rule: Rule, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
) -> tuple[torch.Tensor, State]:
    """The rule's step without its decay; it still sees the weights, which may set its size."""
    if rule.weight_decay:
        return inner(dataclasses.replace(rule, weight_decay=0.0), grad, state, weight, shape)
    displacement, new = inner(rule, grad, state, weight, shape)
    # A rule that decays without being asked to (Scion's constrained steps) does so at its own rate.
    return displacement + rule.lr * rule.decay_rate * weight, new


def _coupled(inner: Step) -> Step:
    def step(
        rule: Rule, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
    ) -> tuple[torch.Tensor, State]:
        return _undecayed(inner, rule, grad + rule.decay_rate * weight, state, weight, shape)

    return step


# -- size of the step --------------------------------------------------------------------------------------------------

Scale = Callable[[Shape], float]

SCALES: dict[str, Scale] = {
    "1": lambda s: 1.0,
    "sqrt(max(1, m/n))": lambda s: math.sqrt(max(1.0, s[-2] / s[-1])),
    "sqrt(max(1, n/m))": lambda s: math.sqrt(max(1.0, s[-1] / s[-2])),
    "max(1, m/n)": lambda s: max(1.0, s[-2] / s[-1]),
    "max(1, n/m)": lambda s: max(1.0, s[-1] / s[-2]),
    "sqrt(m/n)": lambda s: math.sqrt(s[-2] / s[-1]),
    "sqrt(n/m)": lambda s: math.sqrt(s[-1] / s[-2]),
    "sqrt(max(m, n))": lambda s: math.sqrt(max(s[-2:])),
    "0.2 sqrt(max(m, n))": lambda s: 0.2 * math.sqrt(max(s[-2:])),
    "sqrt(min(m, n))": lambda s: math.sqrt(min(s[-2:])),
    "0.2 sqrt(m n)": lambda s: 0.2 * math.sqrt(s[-2] * s[-1]),
    "sqrt(m)": lambda s: math.sqrt(s[-2]),
    "sqrt(n)": lambda s: math.sqrt(s[-1]),
    "1/sqrt(m)": lambda s: 1 / math.sqrt(s[-2]),
    "1/sqrt(n)": lambda s: 1 / math.sqrt(s[-1]),
}
"""Shape scales in use for a step of an ``m x n`` matrix."""


def _scales(rule: Rule) -> Iterator[Suspect]:
    yield _resized("the learning rate is applied twice", lambda rule, shape, viewed: rule.lr)
    yield _resized("the learning rate is not applied", lambda rule, shape, viewed: 1 / rule.lr if rule.lr else 1.0)
    yield _resized("nothing moves: the step is zero", lambda rule, shape, viewed: 0.0)
    yield _resized("the step is doubled", lambda rule, shape, viewed: 2.0, 3)
    yield _resized("the step is halved", lambda rule, shape, viewed: 0.5, 3)
    if rule.min_ndim < 2:
        return
    own = _scale_name(rule)
    for name, scale in SCALES.items():
        if name == own:
            continue
        text = f"the shape scale is {name}, not {own}"
        if name == "1":
            text = f"the shape scale {own} is missing"
        elif {name, own} == {"sqrt(max(1, m/n))", "sqrt(max(1, n/m))"}:
            text = f"the shape scale is transposed: {name}, not {own}"

        def ratio(rule: Rule, shape: Shape, viewed: Shape, scale: Scale = scale) -> float:
            return scale(viewed) / SCALES[_scale_name(rule)](viewed)

        yield _resized(text, ratio)
    for text, chosen in (("the last two", slice(-2, None)), ("the first two", slice(0, 2))):

        def of_axes(rule: Rule, shape: Shape, viewed: Shape, chosen: slice = chosen) -> float:
            mine = SCALES[_scale_name(rule)]
            return mine(shape[chosen]) / mine(viewed) if len(shape) > 2 else 1.0

        if own != "1":
            yield _resized(f"the shape scale is that of {text} axes, not of the flattened matrix", of_axes)


def _resized(text: str, factor: Callable[[Rule, Shape, Shape], float], weight: int = 1) -> Suspect:
    """The step, without decay, times a factor."""

    def wrap(inner: Step) -> Step:
        def step(
            rule: Rule, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
        ) -> tuple[torch.Tensor, State]:
            displacement, new = inner(rule, grad, state, weight, shape)
            bare = displacement
            if rule.decay == "decoupled" and rule.decay_rate:
                bare, _ = _undecayed(inner, rule, grad, state, weight, shape)
            return factor(rule, shape, tuple(weight.shape)) * bare + (displacement - bare), new

        return step

    return around("scale", text, wrap, weight)


def _scale_name(rule: Rule) -> str:
    return {"original": "sqrt(max(1, m/n))", "match_rms_adamw": "0.2 sqrt(max(m, n))"}.get(
        getattr(rule, "adjust_lr", ""), "1"
    )
