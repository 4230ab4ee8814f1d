"""Two thousand random programs: nothing proved of them is false; and a prover that believes anything is caught."""

from __future__ import annotations

import pytest

from symcheck.selftest.defect import SYMMETRIES, check_programs
from symcheck.selftest.examination import examine_prover

PARTS = 16
PROGRAMS = 2000


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_false_is_proved_of_random_programs(part: int) -> None:
    report = examine_prover(PROGRAMS // PARTS, seed=1000 + part)
    assert report.programs == PROGRAMS // PARTS
    assert report.unsound == []
    assert sum(report.proved.values()) > 0.2 * sum(report.equivariant.values()) > 0


def test_a_prover_that_believes_anything_is_caught() -> None:
    report = check_programs(6, 3, lambda traces, claim: (), symmetries=SYMMETRIES[::4])
    assert report.unsound
