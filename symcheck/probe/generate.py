"""Examples from hypothesis: small integers with many zeros and ties, and group elements that shrink to the identity."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import hypothesis
import torch
from hypothesis import strategies as st
from hypothesis.errors import Flaky, NoSuchExample, Unsatisfiable

from symcheck.probe.relation import Property, Relation
from symcheck.probe.strata import Shapes, centred
from symcheck.probe.trajectory import Inputs

Example = tuple[Inputs, Relation]

_MOST_CALLS = 120

_QUIET: dict[str, Any] = {
    "database": None,
    "deadline": None,
    "derandomize": False,
    "suppress_health_check": list(hypothesis.HealthCheck),
    "verbosity": hypothesis.Verbosity.quiet,
}


@st.composite
def _example(draw: st.DrawFn, question: Property, shapes_list: Sequence[Shapes], most_steps: int) -> Example:
    shapes = draw(st.sampled_from(sorted(shapes_list, key=lambda s: sum(a * b for a, b in (t[-2:] for t in s)))))
    steps = draw(st.integers(1, most_steps))
    entry = st.integers(-4, 4) | st.sampled_from([Fraction(1, 2), Fraction(64), Fraction(1, 64)])

    def tensor(shape: tuple[int, ...]) -> torch.Tensor:
        size = 1
        for extent in shape:
            size *= extent
        values = draw(st.lists(entry, min_size=size, max_size=size))
        return torch.tensor([float(value) for value in values], dtype=torch.float64).reshape(shape)

    weights = tuple(tensor(shape) for shape in shapes)
    grads = [tuple(tensor(shape) for shape in shapes) for _ in range(steps)]
    if question.centred:
        grads = [tuple(map(centred, step)) for step in grads]
    return Inputs(weights, tuple(grads)), draw(question.strategy(shapes))


def _usable(question: Property, shapes: Sequence[Shapes]) -> list[Shapes]:
    return [s for s in shapes if not question.centred or s[0][-2] > 1]


def examples(question: Property, shapes: Sequence[Shapes], count: int, seed: int) -> Iterator[Example]:
    """``count`` generated examples of a question, reproducible from the seed."""
    usable = [s for s in _usable(question, shapes) if sum(a * b for a, b in (t[-2:] for t in s)) <= 40]
    if not usable:
        return
    collected: list[Example] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=count, phases=[hypothesis.Phase.generate], **_QUIET)
    @hypothesis.given(_example(question, usable, 3))
    def collect(example: Example) -> None:
        collected.append(example)

    collect()
    yield from collected


def shrink(
    question: Property,
    shapes: Sequence[Shapes],
    steps: int,
    refutes: Callable[[Inputs, Relation], bool],
    source: random.Random,
) -> Example | None:
    """The simplest generated example for which ``refutes`` holds, or None if hypothesis finds none."""
    usable = _usable(question, shapes)
    if not usable or steps > 8:
        return None
    calls = itertools.count()
    simplest: list[Example] = []

    def condition(example: Example) -> bool:
        # Hypothesis bounds the examples it draws but not those it shrinks through. Its later finds are simpler ones.
        if next(calls) >= _MOST_CALLS or not refutes(*example):
            return False
        simplest.append(example)
        return True

    settings: Any = hypothesis.settings(
        max_examples=_MOST_CALLS // 3, phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink], **_QUIET
    )
    # Once the calls are used up the condition says no to what it said yes to before, which hypothesis calls flaky.
    with contextlib.suppress(NoSuchExample, Unsatisfiable, Flaky):
        hypothesis.find(_example(question, usable, steps), condition, settings=settings, random=source)
    return simplest[-1] if simplest else None
