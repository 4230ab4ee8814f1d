"""What checking costs: seconds per certificate of the corpus, and growth with the length of a program."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

import symcheck.kernel
from symcheck.kernel.__main__ import verify
from symcheck.kernel.check import HASH, subject

# Processor time: checking is one thread, and what else the machine does is no part of it.
pytestmark = pytest.mark.benchmark(max_time=0.3, min_rounds=5, timer=time.process_time)

CORPUS = Path(symcheck.kernel.__file__).parent / "corpus" / "good"


@pytest.mark.parametrize("name", sorted(path.stem for path in CORPUS.glob("proof-*.json")))
def test_certificate(benchmark: Any, name: str) -> None:
    data = (CORPUS / f"{name}.json").read_bytes()
    benchmark.group = "certificates of the corpus"
    benchmark.extra_info["lines"] = sum(len(edge["lines"]) for edge in json.loads(data)["edges"])
    assert benchmark(verify, data).statement


def long_certificate(count: int) -> bytes:
    """Newton-Schulz with ``count`` lines: ``X <- X + X X^T X``, over and over."""
    rows, gram = ({"axes": [["vec", a, 0, 1, "0"], ["vec", b, 0, 1, "0"]]} for a, b in (("P", "Q"), ("P", "P")))
    lines: list[dict[str, Any]] = [
        {"op": "input", "in": [], "at": {"name": name}, "law": rows} for name in ("weight:0", "grad:0")
    ]
    x = 1
    while len(lines) < count:
        n = len(lines)
        lines += [
            {"op": "contract", "in": [x, x], "at": {"indices": [[0, 1], [2, 1]], "out": [0, 2], "mean": False},
             "law": {**gram, "sym": True}},
            {"op": "contract", "in": [n, x], "at": {"indices": [[0, 1], [1, 2]], "out": [0, 2], "mean": False},
             "law": rows},
            {"op": "add", "in": [x, n + 1], "at": {"signs": [1, 1]}, "law": rows},
        ]  # fmt: skip
        x = n + 2
    variables = [{"name": name, "class": "orth", "axes": 1, "fibre": None} for name in ("P", "Q")]
    claim = {"property": "equivariance", "variables": variables, "tensors": [[["P", 0, 1], ["Q", 0, 1]]]}
    edge = {"source": "start", "target": "start", "lines": lines, "outputs": {"weight:0": x}, "leaks": [], "rename": {}}
    document = {
        "schema": "symcheck.certificate/1",
        "axioms": HASH,
        "subject": subject(claim, [edge]),
        "claim": claim,
        "conditions": [],
        "nodes": [{"name": "start", "gauges": [], "laws": {}}],
        "edges": [edge],
        "bridge": {"runs": {"3x2": 1}, "steps": 1, "worst": "0"},
    }
    return json.dumps(document).encode()


@pytest.mark.parametrize("count", [10, 100, 1000, 10_000])
def test_length(benchmark: Any, count: int) -> None:
    data = long_certificate(count)
    benchmark.group = "length of a program: the mean over the number of lines stays the same"
    benchmark(verify, data)
    if not benchmark.disabled:
        benchmark.extra_info["microseconds per line"] = 1e6 * benchmark.stats.stats.median / count
