"""The 27 cells: what pruning concludes is what asking would have said, and optimizers come out as theory says."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symcheck.audit.pairs import CELLS, CLASSES, FORMS, PAIRS, Cell, Pair, below, classify, fill, spec
from symcheck.result import Result, Verdict
from symcheck.target import Target

HEIGHTS = st.integers(-1, len(CLASSES) - 1)
"""The largest class that holds on an axis; -1: not even permutations."""
GUESSES = st.fixed_dictionaries({cell: st.booleans() for cell in CELLS})


def oracle(truth: Mapping[str, tuple[int, int]], asked: list[tuple[str, Pair]]) -> Callable[[str, Pair], Result]:
    """Answers that are right: about one form, or about all of them."""

    def ask(form: str, pair: Pair) -> Result:
        asked.append((form, pair))
        forms = [form] if form else [*FORMS]
        holds = all(all(CLASSES.index(a) <= h for a, h in zip(pair, truth[f], strict=True)) for f in forms)
        verdict = Verdict.PROVED if holds else Verdict.REFUTED
        return Result("t", {}, "matrix", "equivariance", spec(pair), verdict)

    return ask


@settings(max_examples=100, deadline=None)
@given(truth=st.fixed_dictionaries({form: st.tuples(HEIGHTS, HEIGHTS) for form in FORMS}), guesses=GUESSES)
def test_guesses_change_no_answer(truth: dict[str, tuple[int, int]], guesses: dict[Any, bool]) -> None:
    asked: list[tuple[str, Pair]] = []
    pruned, _ = fill(oracle(truth, []), guesses)
    plain, _ = fill(oracle(truth, asked), None)
    assert asked == list(CELLS)
    assert [(c.form, c.pair, c.verdict) for c in pruned] == [(c.form, c.pair, c.verdict) for c in plain]


@pytest.mark.parametrize("height", range(len(CLASSES)))
def test_what_holds_on_all_forms_is_asked_about_once(height: int) -> None:
    truth = dict.fromkeys(FORMS, (height, height))
    guesses = {(form, pair): all(CLASSES.index(name) <= height for name in pair) for form, pair in CELLS}
    cells, answers = fill(oracle(truth, []), guesses)
    assert len([answer for answer in answers if answer.verdict is Verdict.PROVED]) == 1
    assert all(cell.implied for cell in cells if cell.verdict is Verdict.PROVED)


def test_a_refutation_on_some_form_refutes_no_other() -> None:
    truth = {"tall": (-1, -1), "wide": (2, 2), "square": (2, 2)}
    cells, _ = fill(oracle(truth, []), dict.fromkeys(CELLS, True))
    assert {cell.form for cell in cells if cell.verdict is Verdict.REFUTED} == {"tall"}


def test_pairs_are_ordered() -> None:
    for a, b, c in itertools.product(PAIRS, repeat=3):
        assert not (below(a, b) and below(b, c)) or below(a, c)
    assert all(PAIRS.index(a) <= PAIRS.index(b) for a, b in itertools.product(PAIRS, PAIRS) if below(a, b))


def classified(make: Callable[..., torch.optim.Optimizer], *, prune: bool = True, **config: object) -> list[Cell]:
    return classify(Target("candidate", lambda: make, config).load(), prune=prune)[0]


def verdicts(cells: list[Cell]) -> dict[str, set[str]]:
    return {
        verdict: {" x ".join(cell.pair) for cell in cells if cell.verdict == verdict} for verdict in Verdict if verdict
    }


def test_adam_has_signed_permutations_of_rows_and_columns() -> None:
    cells = classified(torch.optim.Adam)
    signed = {"Perm x Perm", "Perm x SPerm", "SPerm x Perm", "SPerm x SPerm"}
    assert verdicts(cells)[Verdict.PROVED] == signed
    assert verdicts(cells)[Verdict.REFUTED] == {" x ".join(pair) for pair in PAIRS} - signed


class RowRule(torch.optim.Optimizer):
    """Normalised rows: permutations of rows, rotations of columns."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p -= group["lr"] * p.grad / (p.grad.norm(dim=-1, keepdim=True) + 1e-8)


def test_asked_one_by_one_it_is_the_same() -> None:
    pruned, plain = (classified(RowRule, prune=prune) for prune in (True, False))
    assert [(c.form, c.pair, c.verdict) for c in pruned] == [(c.form, c.pair, c.verdict) for c in plain]
    assert verdicts(pruned)[Verdict.PROVED] == {f"{a} x {b}" for a in ("Perm", "SPerm") for b in CLASSES}
