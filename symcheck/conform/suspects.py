"""The usual suspects: what implementations get wrong, each as a change of the reference that can be run.

A suspect is accused only if the reference with that change follows the target. Nothing is guessed from how a
difference looks.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Iterator

from reference.orthogonalizers import ORTHOGONALIZERS, NewtonSchulz, get_orthogonalizer
from reference.rule import Rule
from reference.transforms.normalize import Floor
from symcheck.conform import axes, formulas, inputs
from symcheck.conform.hyper import resized
from symcheck.conform.suspect import Suspect, hyper


def suspects_for(rule: Rule) -> list[Suspect]:
    """Every suspect that makes sense for a rule, the plain ones first."""
    found = [
        *_switches(rule),
        *_choices(rule),
        *_polynomials(rule),
        *formulas.suspects(rule),
        *inputs.suspects(rule),
        *axes.suspects(rule),
        *_values(rule),
    ]
    return sorted(found, key=lambda suspect: suspect.weight)


def _switches(rule: Rule) -> Iterator[Suspect]:
    for field in dataclasses.fields(rule):
        value = getattr(rule, field.name)
        if isinstance(value, bool):
            yield hyper(field.name, f"{field.name} is {'off' if value else 'on'}", **{field.name: not value})


def _choices(rule: Rule) -> Iterator[Suspect]:
    hints = typing.get_type_hints(type(rule))
    for field in dataclasses.fields(rule):
        options = typing.get_args(hints.get(field.name))
        value = getattr(rule, field.name)
        if not isinstance(value, str) or not options or not all(isinstance(option, str) for option in options):
            continue
        for option in options:
            if option != value:
                text = _CONVENTIONS.get((field.name, option), f"{field.name} is {option!r}, not {value!r}")
                yield hyper(field.name, text, **{field.name: option})


_CONVENTIONS = {
    ("accumulation", "heavy_ball"): "momentum is a heavy ball, b = mu b + g, not a moving average",
    ("accumulation", "ema"): "momentum is a moving average, m = mu m + (1 - mu) g, not a heavy ball",
    ("row_mode", "unit"): "eps is a floor of the row norms, max(norm, eps), and is not added to them",
    ("row_mode", "inverse_eps"): "eps is added to the row norms and is no floor of them",
    ("orientation", "col"): "columns are normalised in place of rows",
    ("orientation", "row"): "rows are normalised in place of columns",
}


def _polynomials(rule: Rule) -> Iterator[Suspect]:
    if not hasattr(rule, "orthogonalizer"):
        return
    method = get_orthogonalizer(rule.orthogonalizer)

    def with_method(text: str, changed: object, family: str, weight: int = 1) -> Suspect:
        return hyper(family, text, weight, orthogonalizer=changed)

    for name, other in ORTHOGONALIZERS.items():
        if other == method:
            continue
        yield with_method(f"the orthogonalisation is {name!r} of reference.ORTHOGONALIZERS", other, "polynomial")
        if isinstance(method, NewtonSchulz) and isinstance(other, NewtonSchulz) and other.schedule != method.schedule:
            mixed = dataclasses.replace(method, schedule=other.schedule)
            if mixed != other:
                yield with_method(f"the coefficients of the polynomial are those of {name!r}", mixed, "polynomial", 2)
            same = resized(other.schedule, len(method.schedule))
            if len(other.schedule) != len(method.schedule):
                text = f"the coefficients are those of {name!r}, with {len(method.schedule)} steps"
                yield with_method(text, dataclasses.replace(method, schedule=same), "polynomial", 3)
    if isinstance(method, NewtonSchulz):
        yield from _newton_schulz(method, with_method)


def _newton_schulz(method: NewtonSchulz, suspect: Callable[..., Suspect]) -> Iterator[Suspect]:
    asked = len(method.schedule)
    for steps in range(1, 13):
        if steps != asked:
            text = f"{steps} steps of the iteration in place of {asked}"
            yield suspect(text, dataclasses.replace(method, schedule=resized(method.schedule, steps)), "steps")
    for eps in EPS:
        if eps != method.eps:
            text = f"eps of the normalisation is {eps:g}, not {method.eps:g}"
            yield suspect(text, dataclasses.replace(method, eps=eps), "eps", 2)
    floor: Floor = "clamp" if method.floor == "add" else "add"
    words = {"clamp": "is a floor of the norm, max(norm, eps)", "add": "is added to the norm, norm + eps"}
    yield suspect(f"eps {words[floor]}", dataclasses.replace(method, floor=floor), "eps")
    for margin in (1.0, 1.01, 1.02, 1.05):
        if margin != method.margin:
            text = f"the norm is divided out with margin {margin}, not {method.margin}"
            yield suspect(text, dataclasses.replace(method, margin=margin), "margin", 2)


EPS = (0.0, 1e-16, 1e-15, 1e-12, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
"""Values of eps in use."""

FRACTIONS = (0.0, 0.5, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
"""Values of decay rates of averages in use."""


def _values(rule: Rule) -> Iterator[Suspect]:
    """Another number where the rule has one: the target ignores its argument, or means something else by it."""
    for name in ("momentum", "beta", "beta2", "dampening"):
        value = getattr(rule, name, None)
        if isinstance(value, float):
            if 0.0 < value < 1.0:
                yield hyper(name, f"{name} and 1 - {name} are swapped", 1, **{name: 1 - value})
            for other in FRACTIONS:
                if other not in (value, 1 - value):
                    yield hyper(name, f"{name} is {other:g}, not {value:g}", 3, **{name: other})
    betas = getattr(rule, "betas", None)
    if betas is not None:
        yield hyper("betas", "the two betas are swapped", 1, betas=(betas[1], betas[0]))
        for place in range(2):
            for other in FRACTIONS:
                if other not in betas:
                    changed = tuple(other if place == index else beta for index, beta in enumerate(betas))
                    yield hyper("betas", f"betas[{place}] is {other:g}, not {betas[place]:g}", 3, betas=changed)
    for name in (field.name for field in dataclasses.fields(rule) if field.name.startswith("eps")):
        value = getattr(rule, name)
        if not isinstance(value, float):
            continue
        special = {f"{name} is squared": value**2, f"{name} stands under a root": math.sqrt(value)}
        for text, other in special.items():
            if other != value:
                yield hyper("eps", text, 2, **{name: other})
        for other in EPS:
            if other not in (value, *special.values()):
                yield hyper("eps", f"{name} is {other:g}, not {value:g}", 2, **{name: other})
    yield from _counts(rule)


def _counts(rule: Rule) -> Iterator[Suspect]:
    for field in dataclasses.fields(rule):
        value = getattr(rule, field.name)
        if isinstance(value, int) and not isinstance(value, bool):
            for other in range(1, 11):
                if other != value:
                    yield hyper(field.name, f"{field.name} is {other}, not {value}", 2, **{field.name: other})
