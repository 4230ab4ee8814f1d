from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_repro import statistics
from paper_repro.statistics import Comparison, Finding, Margins, judge

from .battery import answers

_OPPOSITE = {Finding.CONFIRMED: Finding.REFUTED, Finding.REFUTED: Finding.CONFIRMED}

# Multiples of 2^-12 near the margins: sums are exact, so relabelling changes no rounding.
_differences = st.lists(st.integers(-64, 64).map(lambda k: k / 4096), max_size=8).map(tuple)
_comparisons = st.builds(Comparison, _differences, st.sampled_from(["lower", "higher"]))
_families = st.dictionaries(st.sampled_from("abcdef"), _comparisons, min_size=1)


def test_known_answers():
    answers()


@settings(max_examples=50)
@given(_families, st.randoms(use_true_random=False))
def test_names_and_order_do_not_matter(family, random):
    names = list(family)
    shuffled = names[:]
    random.shuffle(shuffled)
    renamed = dict(zip(names, shuffled, strict=True))

    def permuted(comparison):
        values = list(comparison.differences)
        random.shuffle(values)
        return replace(comparison, differences=tuple(values))

    before = judge(family)
    after = judge({renamed[name]: permuted(family[name]) for name in sorted(names, key=renamed.__getitem__)})
    for name in names:
        assert after[renamed[name]].finding is before[name].finding
        assert after[renamed[name]].seeds_to_add == before[name].seeds_to_add
        assert math.isclose(after[renamed[name]].p_claimed, before[name].p_claimed, rel_tol=1e-9, abs_tol=1e-12)


@settings(max_examples=50)
@given(_families)
def test_exchanging_the_rivals(family):
    """Treatment and baseline exchanged: the claim's opposite. Both exchanged and the direction turned: the same."""
    mirrored = {name: replace(c, differences=tuple(-d for d in c.differences)) for name, c in family.items()}
    turned = {
        name: replace(c, direction="higher" if c.direction == "lower" else "lower") for name, c in mirrored.items()
    }
    for name, judgement in judge(family).items():
        assert judge(turned)[name].finding is judgement.finding
        found = judge(mirrored)[name].finding
        assert found is _OPPOSITE.get(judgement.finding, judgement.finding)


@settings(max_examples=50)
@given(_families, _comparisons)
def test_a_larger_family_never_decides_more(family, another):
    small, large = judge(family), judge({**family, "new": another})
    for name, judgement in small.items():
        assert large[name].p_claimed >= judgement.p_claimed
        assert large[name].p_opposite >= judgement.p_opposite
        assert large[name].p_equivalent >= judgement.p_equivalent
        if judgement.finding is Finding.INCONCLUSIVE:
            assert large[name].finding is Finding.INCONCLUSIVE


@settings(max_examples=50)
@given(_comparisons.filter(lambda c: len(c.differences) > 1), st.floats(1, 100))
def test_a_worse_seed_never_helps_the_claim(comparison, damage):
    """A run that diverged enters as a large loss; it must not confirm what it contradicts."""
    worse = damage if comparison.direction == "lower" else -damage
    judged = judge({"": replace(comparison, differences=(worse, *comparison.differences[1:]))})[""]
    assert judged.finding in (Finding.REFUTED, Finding.INCONCLUSIVE)


@settings(max_examples=50)
@given(_comparisons)
def test_findings_agree_with_their_evidence(comparison):
    judged = judge({"": comparison})[""]
    low, high = judged.interval
    assert (judged.finding is Finding.NOT_RUN) == (judged.pairs == 0)
    assert 0 <= judged.seeds_to_add <= max(0, statistics.MOST_SEEDS - judged.pairs)
    if judged.finding in _OPPOSITE:
        sign = -1 if (comparison.direction == "lower") == (judged.finding is Finding.CONFIRMED) else 1
        assert all(sign * d > 0 for d in comparison.differences)
        assert sign * judged.mean > comparison.margins.effect
    if judged.pairs:
        assert low <= judged.mean <= high


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_differences_are_finite(bad):
    with pytest.raises(ValueError, match="must be finite"):
        Comparison((0.0, bad))


@pytest.mark.parametrize(("keywords", "named"), [({"direction": "up"}, "direction"), ({"margins": None}, "")])
def test_bad_comparisons(keywords, named):
    if "margins" in keywords:
        with pytest.raises(ValueError, match="margins must be"):
            Margins(effect=math.nan)
    else:
        with pytest.raises(ValueError, match=named):
            Comparison((), **keywords)


@settings(max_examples=50)
@given(st.lists(st.floats(2, 8), min_size=2, max_size=30), st.floats(1, 9))
def test_steps_to_lies_on_the_curve(losses, target):
    steps = list(range(0, 10 * len(losses), 10))
    found = statistics.steps_to(steps, losses, target)
    if found == math.inf:
        assert min(losses) > target
        return
    assert np.interp(found, steps, losses) <= target + 1e-9 * target  # one rounding of an interpolation each way
    assert all(loss > target for step, loss in zip(steps, losses, strict=True) if step < found - 1e-6)


@settings(max_examples=50)
@given(st.lists(st.floats(2, 8), min_size=2, max_size=30))
def test_late_area_is_a_mean(losses):
    steps = list(range(len(losses)))
    area = statistics.late_area(steps, losses)
    assert min(losses) - 1e-9 <= area <= max(losses) + 1e-9  # a weighted mean, rounded
    shifted = statistics.late_area(steps, [loss + 1 for loss in losses])
    assert math.isclose(shifted, area + 1, rel_tol=1e-9)


def test_late_area_ignores_the_beginning():
    steps = [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    flat = [9.0] * 4 + [3.0] * 7
    assert statistics.late_area(steps, flat) == 3.0
    assert statistics.late_area([0, 100], [4.0, 2.0]) == 2.6  # from 3.2 at step 40 to 2
    assert math.isnan(statistics.late_area([5], [1.0]))
