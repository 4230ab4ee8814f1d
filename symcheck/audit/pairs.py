"""The nine pairs of {Perm, SPerm, O} on rows and columns, over tall, wide and square matrices: 27 cells each.

Cells are ordered by containment. A proof for a pair is a proof for all smaller pairs, on the same shapes and on fewer
of them; a counterexample is one for all larger pairs. So a few questions decide all cells. A cheap numerical test
guesses which, and its guesses cost or save questions but never make an answer.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from groups import parse_action
from symcheck.decide import decide
from symcheck.probe.arithmetic import Arithmetic
from symcheck.probe.measure import compare
from symcheck.probe.names import Question
from symcheck.probe.relation import Property
from symcheck.probe.strata import Shapes, draw_inputs
from symcheck.probe.trajectory import CandidateError, ConfiguredCandidate
from symcheck.result import ORDINARY, Result, Verdict

CLASSES = ("Perm", "SPerm", "O")
"""The classes on each axis, each contained in the next one."""
PAIRS = tuple(itertools.product(CLASSES, CLASSES))
FORMS: Mapping[str, tuple[Shapes, ...]] = MappingProxyType(
    {
        "tall": (((3, 2),), ((4, 2),), ((5, 3),), ((24, 16),)),
        "wide": (((2, 3),), ((2, 4),), ((3, 5),), ((16, 24),)),
        "square": (((2, 2),), ((3, 3),), ((4, 4),), ((16, 16),)),
    }
)
"""Shapes to trace and search, by form. Sides of one are left out: they are tall and wide and symmetric in more ways."""
CELLS = tuple(itertools.product(FORMS, PAIRS))
_EVERYWHERE = tuple(itertools.chain.from_iterable(zip(*FORMS.values(), strict=True)))
_GUESS_STEPS = 12
_GUESS = 1e-6
"""A numerical defect above this share of the update is expected to be one."""

Pair = tuple[str, str]
Ask = Callable[[str, Pair], Result]
"""Answers about one form, or about all of them ("")."""


@dataclass(frozen=True)
class Cell:
    """One form, one pair, and the verdict. ``by`` is the question whose proof or counterexample decided it: a form, or
    "all" of them, and a pair."""

    form: str
    pair: Pair
    verdict: Verdict
    reason: str
    conditions: tuple[str, ...]
    by: tuple[str, Pair]

    @property
    def implied(self) -> bool:
        """Whether the cell follows from another question than its own."""
        return self.by != (self.form, self.pair)


def spec(pair: Pair) -> str:
    """The action of a pair."""
    return f"{pair[0]}(rows) x {pair[1]}(cols)"


def below(small: Pair, large: Pair) -> bool:
    """Containment of pairs."""
    return all(CLASSES.index(a) <= CLASSES.index(b) for a, b in zip(small, large, strict=True))


def asking(candidate: ConfiguredCandidate, budget: str, seed: int) -> Ask:
    """Answers from proofs and searches; every form has traces of its own."""
    shapes = {"": _EVERYWHERE, **FORMS}

    def ask(form: str, pair: Pair) -> Result:
        waiting[form].append(Question("matrix", "equivariance", spec(pair), shapes[form]))
        return next(answers[form])

    def questions(form: str) -> Iterator[Question]:
        while waiting[form]:
            yield waiting[form].pop()

    waiting: dict[str, list[Question]] = {form: [] for form in shapes}
    answers = {form: decide(candidate, questions(form), budget=budget, dtypes=(), seed=seed) for form in shapes}
    return ask


def classify(
    candidate: ConfiguredCandidate, *, budget: str = "quick", seed: int = 0, prune: bool = True
) -> tuple[list[Cell], list[Result]]:
    """All cells of one candidate, in the order of ``CELLS``, and the answers that they come from.

    Without ``prune`` every cell is asked about by itself.
    """
    ask = asking(candidate, budget, seed)
    return fill(ask, _guesses(candidate, seed) if prune else None)


def fill(ask: Ask, guesses: Mapping[tuple[str, Pair], bool] | None) -> tuple[list[Cell], list[Result]]:
    """All cells, and the answers that they come from; ``guesses`` say which should hold (None: ask about each)."""
    table = _Table(ask)
    if guesses is None:
        for form, pair in CELLS:
            table.ask(form, pair)
        return [table.cells[cell] for cell in CELLS], table.answers
    for pair in reversed(PAIRS):  # what should hold everywhere, largest first
        if all(guesses[form, pair] and (form, pair) not in table.cells for form in FORMS):
            table.ask("", pair)
    for form in FORMS:
        while left := [pair for pair in PAIRS if (form, pair) not in table.cells]:
            true = [pair for pair in left if guesses[form, pair]]
            table.ask(form, true[-1] if true else left[0])
    return [table.cells[cell] for cell in CELLS], table.answers


class _Table:
    """Cells as they become known."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self.cells: dict[tuple[str, Pair], Cell] = {}
        self.answers: list[Result] = []

    def ask(self, form: str, pair: Pair) -> None:
        """Ask one question, and draw the conclusions. One about all forms says nothing about them if it fails."""
        started = time.perf_counter()
        result = self._ask(form, pair)
        self.answers.append(dataclasses.replace(result, seconds=round(time.perf_counter() - started, 3)))
        by = (form or "all", pair)
        for other_form, other in CELLS:
            if form not in ("", other_form):
                continue
            mine = (other_form, other) == (form, pair)
            proved = result.verdict is Verdict.PROVED and below(other, pair)
            refuted = result.verdict is Verdict.REFUTED and below(pair, other) and form
            known = self.cells.get((other_form, other))
            if mine or ((proved or refuted) and known is None):
                self.cells[other_form, other] = Cell(
                    other_form, other, result.verdict, result.reason, result.conditions, by
                )


def _guesses(candidate: ConfiguredCandidate, seed: int) -> dict[tuple[str, Pair], bool]:
    """For every cell whether it should hold: a pair does exactly if each class does on its own axis."""
    single = {
        (form, axis): [name for name in CLASSES if _respects(candidate, form, f"{name}({axis})", seed)]
        for form in FORMS
        for axis in ("rows", "cols")
    }
    return {(form, pair): pair[0] in single[form, "rows"] and pair[1] in single[form, "cols"] for form, pair in CELLS}


def _respects(candidate: ConfiguredCandidate, form: str, action: str, seed: int) -> bool:
    """Whether an exact and a random element are respected on ordinary gradients of one shape."""
    asked = Property("equivariance", parse_action(action), centred=False)
    shapes = FORMS[form][2]
    inputs = draw_inputs(ORDINARY, shapes, _GUESS_STEPS, centre=False, seed=seed)
    relations = asked.random(shapes, 2, torch.Generator().manual_seed(seed))
    try:
        trials = [compare(candidate, inputs, relation, Arithmetic(promote=True), seed=seed) for relation in relations]
    except CandidateError:
        return True
    return all(defect.value < _GUESS for trial in trials for defect in trial.defects())
