"""The fast front ends have the same groups, by the same proofs: a cast to bfloat16 is a rounding, a stack is its
blocks."""

from __future__ import annotations

from typing import Any

import pytest

import symcheck
from symcheck import Verdict

ROOM = "reference.fast.optimizers"


@pytest.mark.parametrize(
    ("optimizer", "block", "options"),
    [
        ("Muon", "matrix", {}),
        ("RowNorm", "lm_head", {"center_rows": True}),
    ],
)
def test_is_proved(optimizer: str, block: str, options: dict[str, Any]) -> None:
    report = symcheck.certify(
        f"{ROOM}:{optimizer}", block=block, property="equivariance", dtype="float32", lr=0.02, **options
    )
    (result,) = report.results
    assert result.verdict is Verdict.PROVED, result.reason


def test_one_class_above_is_refuted() -> None:
    (result,) = symcheck.certify(f"{ROOM}:RowNorm", block="matrix", property="equivariance", lr=0.02).results
    assert result.verdict is Verdict.REFUTED
