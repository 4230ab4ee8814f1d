"""How often the statistics are wrong, by simulation from fixed seeds; and that mutants of them are noticed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from paper_repro import statistics
from paper_repro.report.method_section import SEQUENTIAL_RATE
from paper_repro.statistics import LEVEL, MOST_SEEDS, Comparison, Finding, judge

from .battery import answers

TRIALS = 1000
# A rate of 5 % is seen in 1000 trials with this standard error; three of them leave one false alarm in 700.
SLACK = 3 * math.sqrt(LEVEL * (1 - LEVEL) / TRIALS)
SPREAD = 0.01
"""Between seeds, in nats: the order of what small models show, and well above the margins."""


def families(means, seeds, rng):
    for _ in range(TRIALS):
        yield {str(i): tuple(mean + SPREAD * rng.standard_normal(seeds)) for i, mean in enumerate(means)}


def rates(means, seeds, seed):
    """Share of families in which at least one comparison gets each finding."""
    counts = dict.fromkeys(Finding, 0)
    for family in families(means, seeds, np.random.default_rng(seed)):
        found = {judged.finding for judged in judge({k: Comparison(v) for k, v in family.items()}).values()}
        for finding in found:
            counts[finding] += 1
    return {finding: count / TRIALS for finding, count in counts.items()}


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_no_effect_is_rarely_confirmed(seeds):
    """Family-wise: one false confirmation in a family of four counts, and so does one false refutation."""
    found = rates([0.0] * 4, seeds, seed=seeds)
    assert found[Finding.CONFIRMED] <= LEVEL + SLACK
    assert found[Finding.REFUTED] <= LEVEL + SLACK


def test_the_test_alone_keeps_its_level():
    """One comparison, where nothing but the t-test stands in the way: the rate is the level, not far below it."""
    found = rates([0.0], 2, seed=11)
    assert LEVEL - SLACK <= found[Finding.CONFIRMED] <= LEVEL + SLACK


def test_a_difference_is_rarely_called_none():
    """The mean lies on the margin of equivalence: the worst case for that finding."""
    rng = np.random.default_rng(1)
    means = 0.005 + 0.002 * rng.standard_normal((TRIALS, 8))
    findings = [judge({"": Comparison(tuple(row))})[""] for row in means]
    assert sum(each.p_equivalent < LEVEL for each in findings) / TRIALS <= LEVEL + SLACK


def test_planted_effects_are_found():
    found = rates([-0.03, 0.03, 0.0], 5, seed=3)
    assert found[Finding.CONFIRMED] > 0.9
    assert found[Finding.REFUTED] > 0.9


@pytest.mark.parametrize("first", [2, 3])
@pytest.mark.parametrize("impatient", [False, True])
def test_adding_seeds_while_inconclusive(first, impatient):
    """Looking again after adding seeds costs some of the level; the report states the bound.

    The impatient look after every seed, the others after as many as the judgement asks for. Equal signs in all seeds
    keep the rate from growing much.
    """
    rng = np.random.default_rng(4)
    wrong = 0
    for _ in range(TRIALS):
        values = list(SPREAD * rng.standard_normal(first))
        judged = judge({"": Comparison(tuple(values))})[""]
        while judged.finding is Finding.INCONCLUSIVE and judged.seeds_to_add:
            values += list(SPREAD * rng.standard_normal(1 if impatient else judged.seeds_to_add))
            assert len(values) <= MOST_SEEDS
            judged = judge({"": Comparison(tuple(values))})[""]
        wrong += judged.finding is Finding.CONFIRMED
    assert LEVEL < wrong / TRIALS <= SEQUENTIAL_RATE + SLACK


MUTANTS = {
    "no Holm": ("holm", lambda p_values: dict(p_values)),
    "Bonferroni": ("holm", lambda p: {k: min(1.0, len(p) * v) for k, v in p.items()}),
    "Holm without the running maximum": (
        "holm",
        lambda p: {k: min(1.0, (len(p) - i) * p[k]) for i, k in enumerate(sorted(p, key=p.get))},
    ),
    "level 10 %": ("LEVEL", 0.10),
    "level 2.5 %": ("LEVEL", 0.025),
    "five seeds at most": ("MOST_SEEDS", 5),
    "no signs": (
        "_is_effect",
        lambda values, p, margins: bool(p < LEVEL and values.size and np.mean(values) < -margins.effect),
    ),
    "no smallest effect": ("_is_effect", lambda values, p, margins: bool(p < LEVEL and np.all(values < 0))),
    "no p-value": (
        "_is_effect",
        lambda values, p, margins: bool(values.size and np.all(values < 0) and np.mean(values) < -margins.effect),
    ),
    "claim turned round": ("_towards", lambda c: -np.asarray(c.differences) * (1 if c.direction == "lower" else -1)),
    "direction ignored": ("_towards", lambda c: np.asarray(c.differences)),
    "one-sided equivalence": (
        "p_equivalent",
        lambda c: statistics.p_mean_below(np.asarray(c.differences), c.margins.equivalence),
    ),
    "equivalence by the mean": ("p_equivalent", lambda c: float(abs(np.mean(c.differences or [1])) > 0.005)),
    "equivalence because not different": (
        "p_equivalent",
        lambda c: float(abs(statistics.p_mean_below(np.asarray(c.differences), 0.0) - 0.5) > 0.4),
    ),
    "equal differences are certain": ("_is_evidence", lambda values: values.size >= 2),
    "normal instead of Student": ("special", "normal"),
    "biased deviation": ("np", "biased"),
    "two-sided": ("p_mean_below", "doubled"),
    "median": ("np", "median"),
    "as many seeds as there are": ("_seeds_to_add", lambda comparison, members: MOST_SEEDS),
    "one seed at a time": ("_seeds_to_add", lambda comparison, members: 1),
}


class _Numpy:
    """numpy with another mean or deviation."""

    def __init__(self, which):
        self.which = which

    def __getattr__(self, name):
        if self.which == "biased" and name == "std":
            return lambda values, ddof: np.std(values)
        if self.which == "median" and name == "mean":
            return np.median
        return getattr(np, name)


class _Normal:
    """The normal distribution in Student's place."""

    @staticmethod
    def stdtr(_freedom, t):
        return statistics_special().ndtr(t)

    @staticmethod
    def stdtrit(_freedom, p):
        return statistics_special().ndtri(p)


def statistics_special():
    from scipy import special

    return special


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_noticed(name, monkeypatch):
    attribute, replacement = MUTANTS[name]
    original = getattr(statistics, attribute)
    if replacement == "doubled":
        replacement = lambda values, bound: min(1.0, 2 * original(values, bound))  # noqa: E731
    elif attribute == "np":
        replacement = _Numpy(replacement)
    elif attribute == "special":
        replacement = _Normal
    monkeypatch.setattr(statistics, attribute, replacement)
    with pytest.raises(AssertionError):
        answers()
