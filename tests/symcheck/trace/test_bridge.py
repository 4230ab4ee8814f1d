"""The bridge lets rounding pass and nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from symcheck.trace.bridge import check_bridge
from symcheck.trace.program import Line, Program, Step, Trace, Unsupported

LR, BETA = 0.1, 0.9
LINES = (
    Line("input", (), {"name": "weight:0"}, 2),  # 0
    Line("input", (), {"name": "grad:0"}, 2),  # 1
    Line("input", (), {"name": "state:m"}, 2),  # 2
    Line("number", (), {"value": None, "nonneg": True}),  # 3 beta
    Line("contract", (2, 3), {"indices": [[0, 1], []], "out": [0, 1]}, 2),  # 4
    Line("add", (4, 1), {"signs": [1, 1]}, 2),  # 5 momentum
    Line("contract", (5, 5), {"indices": [[0, 1], [0, 1]], "out": [0]}, 1),  # 6
    Line("map", (6,), {"fn": "sqrt"}, 1),  # 7 row norms
    Line("map", (7,), {"fn": "reciprocal"}, 1),  # 8
    Line("number", (), {"value": None, "nonneg": True}),  # 9 lr
    Line("contract", (5, 8, 9), {"indices": [[0, 1], [0], []], "out": [0, 1]}, 2),  # 10
    Line("add", (0, 10), {"signs": [1, -1]}, 2),  # 11
)
PROGRAM = Program(LINES, {"weight:0": 11, "state:m": 5})


def _trace(steps: int = 4, m: int = 5, n: int = 3) -> Trace:
    """Row-normalised momentum, run in torch."""
    generator = torch.Generator().manual_seed(0)
    weight, state = (torch.randn(m, n, generator=generator, dtype=torch.float64) for _ in range(2))
    sizes = [(m, n)] * 3 + [(), (m, n), (m, n), (m,), (m,), (m,), (), (m, n), (m, n)]
    result = []
    for _ in range(steps):
        grad = torch.randn(m, n, generator=generator, dtype=torch.float64)
        inputs = {"weight:0": weight.numpy(), "grad:0": grad.numpy(), "state:m": state.numpy()}
        state = BETA * state + grad
        weight = weight - LR * state / state.norm(dim=1, keepdim=True)
        outputs = {"weight:0": weight.numpy(), "state:m": state.numpy()}
        result.append(Step(PROGRAM, {3: BETA, 9: LR}, inputs, outputs, sizes))
    return Trace(((m, n),), tuple(result))


def _replace(trace: Trace, number: int, **changes: object) -> Trace:
    steps = list(trace.steps)
    steps[number] = dataclasses.replace(steps[number], **changes)
    return dataclasses.replace(trace, steps=tuple(steps))


def test_a_faithful_program_passes() -> None:
    bridge = check_bridge(_trace())
    assert bridge.failure is None
    assert bridge.steps == 4
    assert 0 < bridge.worst <= bridge.loosest <= 2.0**-30


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (5, Line("add", (4, 1), {"signs": [1, -1]}, 2)),
        (6, Line("contract", (1, 1), {"indices": [[0, 1], [0, 1]], "out": [0]}, 1)),
        (7, Line("map", (6,), {"fn": "power", "args": ["500001/1000000"]}, 1)),
        (10, Line("contract", (5, 8, 3), {"indices": [[0, 1], [0], []], "out": [0, 1]}, 2)),
        (11, Line("add", (0, 10), {"signs": [1, 1]}, 2)),
        (8, Line("map", (7,), {"fn": "log"}, 1)),
        (7, Line("map", (6,), {"fn": "frobnicate"}, 1)),
    ],
)
def test_a_wrong_line_is_caught(number: int, line: Line) -> None:
    lines = (*LINES[:number], line, *LINES[number + 1 :])
    bridge = check_bridge(_replace(_trace(), 2, program=dataclasses.replace(PROGRAM, lines=lines)))
    assert bridge.failure is not None
    assert bridge.failure.startswith("shape 5x3, step 2: ")
    assert bridge.steps == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_never_passes(bad: float) -> None:
    trace = _trace(1)
    outputs = {name: value.copy() for name, value in trace.steps[0].outputs.items()}
    outputs["weight:0"][1, 2] = bad
    assert "output weight:0: entry (1, 2)" in str(check_bridge(_replace(trace, 0, outputs=outputs)).failure)
    inputs = {name: value.copy() for name, value in trace.steps[0].inputs.items()}
    inputs["grad:0"][0, 0] = bad
    both = _replace(_replace(trace, 0, outputs=outputs), 0, inputs=inputs)
    assert check_bridge(both).failure is not None


def test_steps_follow_each_other() -> None:
    trace = _trace()
    inputs = dict(trace.steps[2].inputs)
    inputs["weight:0"] = inputs["weight:0"] * (1 + 2.0**-50)
    assert check_bridge(_replace(trace, 2, inputs=inputs)).failure == (
        "shape 5x3, step 2: weight:0 was changed since the step before"
    )
    outputs = {**trace.steps[1].outputs, "state:b": np.zeros(())}
    assert "state:b" in str(check_bridge(_replace(trace, 1, outputs=outputs)).failure)


def test_no_program_is_a_failure() -> None:
    trace = dataclasses.replace(_trace(), unsupported=Unsupported("item()", "file.py:3"))
    assert check_bridge(trace).failure == "shape 5x3: no program: item() (file.py:3)"


def _factor_trace(matrix: np.ndarray, parts: dict[str, np.ndarray], op: str) -> Trace:
    lines = [
        Line("input", (), {"name": "weight:0"}, 2),
        Line("input", (), {"name": "grad:0"}, 2),
        Line(op, (1,), {}, -1),
        *(Line("part", (2,), {"part": name}, value.ndim) for name, value in parts.items()),
    ]
    program = Program(tuple(lines), {"weight:0": 0, **{f"state:{name}": 3 + i for i, name in enumerate(parts)}})
    sizes = [matrix.shape, matrix.shape, (), *(value.shape for value in parts.values())]
    outputs = {"weight:0": matrix, **{f"state:{name}": value for name, value in parts.items()}}
    step = Step(program, {}, {"weight:0": matrix, "grad:0": matrix}, outputs, sizes)
    return Trace((matrix.shape,), (step,))


def test_signs_of_eigenvectors_are_free_and_nothing_else() -> None:
    x = np.random.default_rng(0).standard_normal((4, 4))
    values, vectors = np.linalg.eigh(x @ x.T)
    signs = np.array([1, -1, 1, -1])
    parts = {"values": values, "vectors": vectors * signs}
    assert check_bridge(_factor_trace(x @ x.T, parts, "eigh")).failure is None
    tilted = {**parts, "vectors": vectors * signs + 1e-9}
    assert "state:vectors" in str(check_bridge(_factor_trace(x @ x.T, tilted, "eigh")).failure)
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    both = {"u": u * signs, "s": s, "vh": vh * signs[:, None]}
    assert check_bridge(_factor_trace(x, both, "svd")).failure is None
    assert check_bridge(_factor_trace(x, {**both, "vh": vh}, "svd")).failure is not None


def test_vectors_that_rounding_leaves_open_are_no_comparison() -> None:
    parts = {"values": np.ones(3), "vectors": np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]}
    failure = str(check_bridge(_factor_trace(np.eye(3), parts, "eigh")).failure)
    assert "state:vectors is too ill-conditioned" in failure
