"""The interpreter of many digits agrees with the one in float64, and has the digits it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from symcheck.trace.exact import FUNCTIONS, interpret_exact
from symcheck.trace.functions import MAPS
from symcheck.trace.interpret import interpret
from symcheck.trace.program import BUNDLES, Line, Program

EPS = 2.0**-52
SEEDS = st.integers(0, 2**31)


def _both(op: str, operands: Sequence[Any], at: Mapping[str, Any], size: Sequence[int]) -> tuple[Any, Any]:
    """The value of one line in float64 and to 60 digits."""
    arrays = [np.asarray(value) for value in operands]
    lines = [Line("input", (), {"name": f"state:{i}"}, value.ndim) for i, value in enumerate(arrays)]
    lines.append(Line(op, tuple(range(len(arrays))), at, len(size)))
    sizes = [*(value.shape for value in arrays), tuple(size)]
    arguments = (Program(tuple(lines), {}), {}, {f"state:{i}": value for i, value in enumerate(arrays)}, sizes)
    return interpret(*arguments)[-1], interpret_exact(*arguments)[-1]


POINTS = [-2.5, -1.5, -1.0, -0.75, -0.5, 0.0, 0.25, 0.5, 1.0, 1.5, 2.5, 3.0]
PARAMETERS = {"clamp": ["-1/2", "3/4"], "power": ["3"]}


@pytest.mark.parametrize("fn", sorted(MAPS))
def test_elementwise_functions_agree(fn: str) -> None:
    arity, count, _ = MAPS[fn]
    grid = np.array(np.meshgrid(*[POINTS] * arity)).reshape(arity, -1)
    args = PARAMETERS.get(fn, ["1/2"] * count)
    ours, exact = _both("map", list(grid), {"fn": fn, **({"args": args} if args else {})}, grid.shape[1:])
    exact = exact.astype(np.float64)
    finite = np.isfinite(ours) & np.isfinite(exact)
    assert (np.isfinite(ours) == np.isfinite(exact)).all() or fn in ("digamma", "lgamma")  # poles
    scale = np.maximum(abs(exact), abs(grid).max(0) + EPS)
    assert (abs(ours[finite] - exact[finite]) <= 32 * EPS * scale[finite]).all()


def test_every_function_has_both() -> None:
    assert FUNCTIONS.keys() == MAPS.keys()


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_programs_agree_to_the_conditioning(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((4, 3)), rng.standard_normal((4, 3))
    for op, at, size in [
        ("contract", {"indices": [[0, 1], [2, 1]], "out": [0, 2]}, (4, 4)),
        ("contract", {"indices": [[0, 1], [0, 1]], "out": [1], "mean": True}, (3,)),
        ("add", {"signs": [1, -1]}, (4, 3)),
    ]:
        ours, exact = _both(op, [x, y], at, size)
        assert abs(ours - exact.astype(np.float64)).max() <= 16 * EPS * (1 + abs(x).max()) * (1 + abs(y).max())
    for fn, axes, size in [
        ("max", [0], (3,)),
        ("median", [1], (4,)),
        ("logsumexp", [0, 1], ()),
        ("sort", [0], (3, 4)),
        ("prod", [1], (4,)),
        ("any", [0], (3,)),
    ]:
        ours, exact = _both("symmetric", [x], {"fn": fn, "axes": axes}, size)
        assert np.max(abs(ours - exact.astype(np.float64))) <= 64 * EPS * (1 + abs(x).max()) ** 3


def _matrix(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-4, 5, shape) / 4


@given(SEEDS, st.sampled_from([(2, 3, 3), (4, 2), (2, 4)]))
@settings(max_examples=25, deadline=None)
def test_factorisations_rebuild_the_matrix_to_all_digits(seed: int, shape: tuple[int, ...]) -> None:
    x = _matrix(np.random.default_rng(seed), *shape)
    tall = x.swapaxes(-1, -2) @ x

    def bundle(op: str, value: np.ndarray) -> list[np.ndarray]:
        lines = (Line("input", (), {"name": "state:x"}, value.ndim), Line(op, (0,), {}, -1))
        values = interpret_exact(Program(lines, {}), {}, {"state:x": value}, [value.shape, ()])
        return [values[1][name] for name in BUNDLES[op]]

    with mp.workdps(60):
        tiny = mpf(10) ** -38  # 60 digits, less the guard, less three for entries up to 20 and sums of four
        values, vectors = bundle("eigh", tall)
        assert np.max(abs((vectors * values[..., None, :]) @ vectors.swapaxes(-1, -2) - tall)) < tiny
        u, s, vh = bundle("svd", x)
        assert np.max(abs((u * s[..., None, :]) @ vh - x)) < tiny
        q, r = bundle("qr", x)
        assert np.max(abs(q @ r - x)) < tiny
        plus = tall + np.eye(tall.shape[-1])
        lower = _both("cholesky", [plus], {}, plus.shape)[1]
        assert np.max(abs(lower @ lower.swapaxes(-1, -2) - plus)) < tiny
        inverse = _both("inverse", [plus], {}, plus.shape)[1]
        assert np.max(abs(inverse @ plus - np.eye(plus.shape[-1]))) < tiny


def test_expm() -> None:
    x = _matrix(np.random.default_rng(0), 3, 3)
    ours, exact = _both("expm", [x], {}, x.shape)
    assert abs(ours - exact.astype(np.float64)).max() <= 64 * EPS * abs(ours).max()


def test_qr_has_the_signs_of_lapack() -> None:
    x = np.random.default_rng(0).standard_normal((5, 3))
    ours = np.linalg.qr(x)
    lines = (Line("input", (), {"name": "state:x"}, 2), Line("qr", (0,), {}, -1))
    exact = interpret_exact(Program(lines, {}), {}, {"state:x": x}, [x.shape, ()])[1]
    assert abs(ours.Q - exact["q"].astype(np.float64)).max() < 64 * EPS


def test_what_cancels_is_zero() -> None:
    third = np.array([Fraction(1, 3)] * 3 + [Fraction(-1)], dtype=object)
    total = _both("contract", [third], {"indices": [[0]], "out": []}, ())[1]
    assert total == 0
    x = np.array([[1.0, 2.0], [2.0, 4.0]])
    assert mp.isnan(_both("inverse", [x], {}, x.shape)[1][0, 0])
    assert mp.isnan(_both("cholesky", [x], {}, x.shape)[1][0, 0])


def test_equal_matrices_have_equal_factors() -> None:
    third = mpf(1) / 3
    with mp.workdps(60):
        a = np.array([[2, third, 0], [third, 2, 0], [0, 0, 2 + third]], dtype=object)
        b = np.array([[x + mpf(10) ** -59 for x in row] for row in a], dtype=object)
    lines = (Line("input", (), {"name": "state:x"}, 2), Line("eigh", (0,), {}, -1))
    first, second = (interpret_exact(Program(lines, {}), {}, {"state:x": x}, [(3, 3), ()])[1] for x in (a, b))
    assert all(np.array_equal(first[name], second[name]) for name in BUNDLES["eigh"])


def test_digits() -> None:
    program = Program((Line("number", (), {"value": "1/3"}),), {})
    for digits in (30, 90):
        value = interpret_exact(program, {}, {}, [()], digits)[0]
        with mp.workdps(120):
            assert 0 < abs(value[()] - mpf(1) / 3) < mpf(10) ** -digits
