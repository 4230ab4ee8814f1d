"""What certification costs: seconds per question and per candidate, and what the randomised arithmetic adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

import symcheck
from groups import get_block
from reference.optimizers import OPTIMIZERS
from symcheck.probe import Question, probe
from symcheck.probe.arithmetic import PLAIN, Arithmetic, Census
from symcheck.probe.strata import draw_inputs
from symcheck.probe.trajectory import run
from symcheck.target import Candidate

CANDIDATES: Mapping[str, Callable[[Any], torch.optim.Optimizer]] = {
    "AdamW": lambda params: torch.optim.AdamW(params, lr=0.1),
    "torch.optim.Muon": lambda params: torch.optim.Muon(params, lr=0.1),
    "rule:row_norm": lambda params: OPTIMIZERS["row_norm"](params, lr=0.1),
    "rule:right_spectral": lambda params: OPTIMIZERS["right_spectral"](params, lr=0.1),
}


def _candidate(name: str) -> Candidate:
    return Candidate(name, {"lr": 0.1}, CANDIDATES[name])


@pytest.mark.parametrize(
    ("name", "block", "verdict"),
    [
        ("AdamW", "coordinate", "supported"),
        ("AdamW", "embedding", "refuted"),
        ("torch.optim.Muon", "matrix", "supported"),
        ("rule:row_norm", "embedding", "supported"),
        ("rule:right_spectral", "matrix", "supported"),
    ],
)
def test_one_block(benchmark: Any, name: str, block: str, verdict: str) -> None:
    """The equivariance of one optimizer on one block, quick budget; a refutation includes its smallest witness."""
    question = Question(block, "equivariance", str(get_block(block).action))
    benchmark.group = "seconds per candidate: one block, quick budget"

    def certify() -> list[symcheck.Result]:
        return list(probe(_candidate(name), [question], budget="quick", dtypes=["float64"], seed=0))

    (result,) = benchmark.pedantic(certify, rounds=2)
    assert result.verdict == verdict


@pytest.mark.parametrize("budget", ["quick", "ci"])
def test_survey(benchmark: Any, budget: str) -> None:
    """Every block, property and contract of one optimizer, in its own process, as ``symcheck certify TARGET`` does."""
    benchmark.group = "seconds per candidate: all blocks, properties and contracts"
    report = benchmark.pedantic(symcheck.certify, ("torch.optim.AdamW",), {"budget": budget}, rounds=1)
    benchmark.extra_info["questions"] = report.counts["planned"]
    assert report.exit_code == 0


ARITHMETICS: Mapping[str, Callable[[], Arithmetic]] = {
    "noise": lambda: Arithmetic(noise=1),
    "promotion": lambda: Arithmetic(promote=True),
    "census": lambda: Arithmetic(census=Census()),
}


@pytest.mark.parametrize("shape", [(5, 3), (40, 24)], ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("name", CANDIDATES)
def test_arithmetic(
    compare: Callable[..., None], benchmark: Any, name: str, arithmetic: str, shape: tuple[int, int]
) -> None:
    """A run of eight steps with every rounding randomised (or casts undone, or recorded) against a plain run."""
    candidate = _candidate(name)
    inputs = draw_inputs("generic", (shape,), 8, centre=False, seed=0)
    benchmark.group = f"eight steps of a {shape[0]} x {shape[1]} weight in another arithmetic"
    compare(
        lambda: run(candidate, inputs, ARITHMETICS[arithmetic]()),
        {"plain run": lambda: run(candidate, inputs, PLAIN)},
    )
