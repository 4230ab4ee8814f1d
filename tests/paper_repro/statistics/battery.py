"""Questions about `paper_repro.statistics` with known answers; a mutant must get one of them wrong."""

from __future__ import annotations

import math

from scipy import stats

from paper_repro import statistics
from paper_repro.statistics import Comparison, Finding, Margins

CLEAR = (-0.020, -0.025, -0.018, -0.022, -0.021)
OTHERS = {"other": Comparison((0.01, -0.02, 0.03)), "not run": Comparison(())}


def finding(*differences: float, direction: str = "lower", alone: bool = True, **margins: float) -> Finding:
    member = Comparison(differences, direction, Margins(**margins))  # type: ignore[arg-type]
    return statistics.judge({"this": member, **({} if alone else OTHERS)})["this"].finding


def answers() -> None:
    """Raises AssertionError at the first wrong answer."""
    # A planted effect is found, on either side, and only where the claim looks for it.
    assert finding(*CLEAR) is Finding.CONFIRMED
    assert finding(*(-d for d in CLEAR)) is Finding.REFUTED
    assert finding(*CLEAR, direction="higher") is Finding.REFUTED
    assert finding(*(-d for d in CLEAR), direction="higher") is Finding.CONFIRMED
    # Every part of the rule decides one of these.
    one_wrong_sign = (-0.050, -0.051, -0.049, -0.052, -0.050, -0.049, 0.001)
    assert stats.ttest_1samp(one_wrong_sign, 0, alternative="less").pvalue < 0.05
    assert finding(*one_wrong_sign) is Finding.INCONCLUSIVE, "all seeds must have the claimed sign"
    small = (-0.0029, -0.00291, -0.00289, -0.0028)
    assert finding(*small) is Finding.NO_DIFFERENCE, "a certain difference below 0.003 is no effect"
    assert finding(*small, effect=0.002) is Finding.CONFIRMED, "an effect goes before equivalence"
    assert finding(-0.0040, -0.0041, -0.0039, -0.0040) is Finding.CONFIRMED
    assert finding(-0.006, 0.006, -0.006, 0.006) is Finding.INCONCLUSIVE, "equivalence looks at the spread"
    assert finding(0.0059, 0.0061, 0.0060, -0.0001) is Finding.INCONCLUSIVE, "equivalence looks at both sides"
    assert finding(-0.0059, -0.0061, -0.0060, 0.0001) is Finding.INCONCLUSIVE, "equivalence looks at both sides"
    assert finding(0.001, -0.001, 0.0005) is Finding.NO_DIFFERENCE
    # One-sided p between 0.025 and 0.05: a two-sided test would not confirm, nor would the rest of a family.
    borderline = (-0.010, -0.030, -0.018, -0.004)
    p = stats.ttest_1samp(borderline, 0, alternative="less").pvalue
    assert 0.025 < p < 0.05
    assert finding(*borderline) is Finding.CONFIRMED
    assert finding(*borderline, alone=False) is Finding.INCONCLUSIVE, "Holm counts every member, run or not"
    # p just above 0.05 with the biased deviation just below.
    biased = (-0.002, -0.012, -0.0009, -0.014)
    assert 0.05 < stats.ttest_1samp(biased, 0, alternative="less").pvalue < 0.07
    assert finding(*biased) is Finding.INCONCLUSIVE
    # Evidence that is none.
    assert finding() is Finding.NOT_RUN
    assert finding(-1.0) is Finding.INCONCLUSIVE
    assert finding(-0.02, -0.02, -0.02) is Finding.INCONCLUSIVE, "seeds that change nothing are one seed"
    assert finding(0.0, 0.0) is Finding.NO_DIFFERENCE, "the same run twice"
    # Holm, by hand.
    adjusted = statistics.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    expected = {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    assert all(math.isclose(adjusted[name], expected[name]) for name in expected)
    # Against scipy's own tests.
    judged = statistics.judge({"this": Comparison(CLEAR)})["this"]
    reference = stats.ttest_1samp(CLEAR, 0, alternative="less")
    assert math.isclose(judged.p_claimed, reference.pvalue, rel_tol=1e-9)
    assert math.isclose(judged.p_opposite, 1 - reference.pvalue, rel_tol=1e-9)
    low, high = stats.ttest_1samp(CLEAR, 0).confidence_interval(0.95)
    assert math.isclose(judged.interval[0], low, rel_tol=1e-9)
    assert math.isclose(judged.interval[1], high, rel_tol=1e-9)
    sides = [
        stats.ttest_1samp(small, bound, alternative=side).pvalue
        for bound, side in ((0.005, "less"), (-0.005, "greater"))
    ]
    judged = statistics.judge({"this": Comparison(small)})["this"]
    assert math.isclose(judged.p_equivalent, max(sides), rel_tol=1e-9)
    # Seeds to add: enough of them, and never more than eight in all.
    assert statistics.judge({"this": Comparison((-0.010, -0.024))})["this"].seeds_to_add == 1
    assert statistics.judge({"this": Comparison((-0.010, 0.010))})["this"].seeds_to_add == 6
    assert statistics.judge({"this": Comparison((-0.010, 0.010) * 4)})["this"].seeds_to_add == 0
    assert statistics.judge({"this": Comparison(CLEAR)})["this"].seeds_to_add == 0
