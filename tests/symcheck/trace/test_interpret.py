"""The interpreter computes what the table of operations says, and refuses what it does not say."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symcheck.trace.functions import MAPS
from symcheck.trace.interpret import interpret
from symcheck.trace.program import BUNDLES, Line, Program

EPS = 2.0**-52
SEEDS = st.integers(0, 2**31)


def _run(op: str, operands: Sequence[Any], at: Mapping[str, Any], size: Sequence[int]) -> np.ndarray:
    """The value of one line on given arrays."""
    arrays = [np.asarray(value, dtype=np.float64) for value in operands]
    lines = [Line("input", (), {"name": f"state:{i}"}, value.ndim) for i, value in enumerate(arrays)]
    lines.append(Line(op, tuple(range(len(arrays))), at, len(size)))
    sizes = [*(value.shape for value in arrays), tuple(size)]
    inputs = {f"state:{i}": value for i, value in enumerate(arrays)}
    return interpret(Program(tuple(lines), {}), {}, inputs, sizes)[-1]


def _matrix(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# -- elementwise functions against torch: another implementation of the same names -------------------------------------

TORCH = {
    "neg": torch.neg,
    "reciprocal": torch.reciprocal,
    "sign": torch.sign,
    "tanh": torch.tanh,
    "atan": torch.atan,
    "asin": torch.asin,
    "sin": torch.sin,
    "erf": torch.erf,
    "round": torch.round,
    "trunc": torch.trunc,
    "cube_root": lambda x: x.sign() * x.abs() ** (1 / 3),
    "clamp_symmetric": lambda x, c: x.clamp(-c, c),
    "softshrink": torch.nn.functional.softshrink,
    "hardshrink": torch.nn.functional.hardshrink,
    "sinh": torch.sinh,
    "asinh": torch.asinh,
    "abs": torch.abs,
    "square": torch.square,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "is_zero": lambda x: x == 0,
    "is_nonzero": lambda x: x != 0,
    "eq": torch.eq,
    "ne": torch.ne,
    "hypot": torch.hypot,
    "power": torch.pow,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "relu": torch.relu,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "log2": torch.log2,
    "sigmoid": torch.sigmoid,
    "softplus": torch.nn.functional.softplus,
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "ceil": torch.ceil,
    "floor": torch.floor,
    "not": torch.logical_not,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
    "clamp": torch.clamp,
    "pow": torch.pow,
    "atan2": torch.atan2,
    "fmod": torch.fmod,
    "remainder": torch.remainder,
    "and": torch.logical_and,
    "or": torch.logical_or,
    "xor": torch.logical_xor,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "elu": torch.nn.functional.elu,
    "digamma": torch.digamma,
    "lgamma": torch.lgamma,
}
POINTS = [-2.5, -1.5, -1.0, -0.75, -0.5, -0.0, 0.0, 0.25, 0.5, 1.0, 1.5, 2.5, 3.0]
PARAMETERS = {"clamp": ["-1/2", "3/4"], "power": ["3"]}


def test_every_function_has_a_comparison() -> None:
    assert TORCH.keys() == MAPS.keys()


@pytest.mark.parametrize("fn", sorted(MAPS))
def test_elementwise_functions_are_those_of_torch(fn: str) -> None:
    arity, count, _ = MAPS[fn]
    grid = np.array(np.meshgrid(*[POINTS] * arity)).reshape(arity, -1)
    args = PARAMETERS.get(fn, ["1/2"] * count)
    ours = _run("map", list(grid), {"fn": fn, **({"args": args} if args else {})}, grid.shape[1:])
    theirs = TORCH[fn](*map(torch.tensor, grid), *(float(eval(text)) for text in args)).double().numpy()
    assert np.array_equal(np.isnan(ours), np.isnan(theirs))
    assert np.array_equal(np.isinf(ours), np.isinf(theirs))
    finite = np.isfinite(theirs)
    # Either library is within a few units in the last place, or for the special functions within 32 of them, counted at
    # the size of the terms that are summed: about the argument.
    scale = np.maximum(abs(theirs), EPS if fn not in ("digamma", "lgamma") else abs(grid).max(0))
    assert (abs(ours[finite] - theirs[finite]) <= 32 * EPS * scale[finite]).all()


@given(st.floats(-3, 3), st.sampled_from(["3/2", "-1/2", "2", "-3"]))
@settings(max_examples=40, deadline=None)
def test_powers(x: float, p: str) -> None:
    value = _run("map", [[x]], {"fn": "power", "args": [p]}, (1,))[0]
    numerator, _, denominator = p.partition("/")
    exponent = int(numerator) / int(denominator or 1)
    if x < 0 and denominator:
        assert math.isnan(value)
    elif abs(x) > 2.0**-300:  # math.pow raises where the result overflows
        assert math.isclose(value, math.pow(x, exponent), rel_tol=4 * EPS)


# -- structure ---------------------------------------------------------------------------------------------------------


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_contractions(seed: int) -> None:
    a, b, v = _matrix(seed, 3, 4), _matrix(seed + 1, 5, 4), _matrix(seed + 2, 3)
    square = _matrix(seed + 3, 4, 4)

    def contract(*operands: np.ndarray, indices: list[list[int]], out: list[int], mean: bool = False) -> np.ndarray:
        pairs = itertools.chain(*(zip(i, x.shape, strict=True) for i, x in zip(indices, operands, strict=True)))
        lengths = dict(pairs)
        return _run(
            "contract", operands, {"indices": indices, "out": out, "mean": mean}, [lengths[letter] for letter in out]
        )

    # A sum of k products is within k eps of the sum of their magnitudes, in any order; here k <= 16.
    def close(x: np.ndarray, y: np.ndarray) -> bool:
        scale = (1 + max(abs(value).max() for value in (a, b, v, square))) ** 3
        return bool((abs(x - y) <= 64 * EPS * scale).all())

    assert close(contract(a, b, indices=[[0, 1], [2, 1]], out=[0, 2]), a @ b.T)
    assert close(contract(a, indices=[[7, 3]], out=[3, 7]), a.T)
    assert close(contract(a, v, indices=[[0, 1], [0]], out=[0, 1]), a * v[:, None])
    assert close(contract(square, indices=[[0, 0]], out=[0]), np.diagonal(square))
    assert close(contract(square, indices=[[0, 0]], out=[]), np.trace(square))
    assert close(contract(a, indices=[[0, 1]], out=[0], mean=True), a.mean(1))
    assert close(contract(a, indices=[[0, 1]], out=[], mean=True), a.mean())
    assert close(contract(v, a, b, indices=[[0], [0, 1], [2, 1]], out=[2]), v @ a @ b.T)
    assert close(contract(np.array(2.0), a, indices=[[], [0, 1]], out=[0, 1]), 2 * a)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_symmetric_functions(seed: int) -> None:
    x = np.round(_matrix(seed, 3, 4, 2), 1)

    def run(fn: str, axes: list[int], size: tuple[int, ...]) -> np.ndarray:
        return _run("symmetric", [x], {"fn": fn, "axes": axes}, size)

    assert np.array_equal(run("max", [0, 2], (4,)), x.max((0, 2)))
    assert np.array_equal(run("min", [1], (3, 2)), x.min(1))
    assert np.array_equal(run("sort", [1], (3, 2, 4)), np.sort(x, 1).swapaxes(1, 2))
    assert np.array_equal(run("median", [1], (3, 2)), torch.tensor(x).median(1).values.numpy())
    assert np.array_equal(run("any", [1], (3, 2)), (x != 0).any(1))
    assert np.array_equal(run("all", [1], (3, 2)), (x != 0).all(1))
    assert np.allclose(run("prod", [0], (4, 2)), x.prod(0), rtol=8 * EPS, atol=0)
    assert np.allclose(run("logsumexp", [0, 1, 2], ()), torch.tensor(x).flatten().logsumexp(0), rtol=64 * EPS)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_factorisations_rebuild_the_matrix(seed: int) -> None:
    x = _matrix(seed, 2, 5, 3)
    gram = x.swapaxes(1, 2) @ x + np.eye(3)

    def bundle(op: str, value: np.ndarray) -> list[np.ndarray]:
        lines = [Line("input", (), {"name": "state:x"}, 3), Line(op, (0,), {}, -1)]
        values = interpret(Program(tuple(lines), {}), {}, {"state:x": value}, [value.shape, ()])
        return [values[1][name] for name in BUNDLES[op]]

    scale = 64 * EPS * (1 + abs(gram).max())  # backward errors are a few eps times the norm, at size 3
    values, vectors = bundle("eigh", gram)
    assert abs((vectors * values[:, None]) @ vectors.swapaxes(1, 2) - gram).max() <= scale
    assert (np.diff(values) >= 0).all()
    u, s, vh = bundle("svd", x)
    assert abs((u * s[:, None]) @ vh - x).max() <= scale
    q, r = bundle("qr", x)
    assert abs(q @ r - x).max() <= scale
    assert abs(np.tril(r, -1)).max() == 0
    lower = _run("cholesky", [gram], {}, gram.shape)
    assert abs(lower @ lower.swapaxes(1, 2) - gram).max() <= scale
    inverse = _run("inverse", [gram], {}, gram.shape)
    assert abs(inverse @ gram - np.eye(3)).max() <= scale * abs(inverse).max()
    exponential = _run("expm", [gram / 8], {}, gram.shape)
    assert np.allclose(exponential, torch.linalg.matrix_exp(torch.tensor(gram / 8)), rtol=2.0**-40)


def test_factorisations_that_do_not_exist_are_nan() -> None:
    assert np.isnan(_run("inverse", [np.zeros((2, 2))], {}, (2, 2))).all()
    assert np.isnan(_run("cholesky", [-np.eye(2)], {}, (2, 2))).all()


def test_sources_expand_select_round() -> None:
    x = _matrix(0, 2, 3)
    assert np.array_equal(_run("zero", [], {"rank": 2}, (2, 3)), np.zeros((2, 3)))
    assert np.array_equal(_run("eye", [], {}, (3, 3)), np.eye(3))
    assert np.array_equal(_run("number", [], {"value": "3/4", "nonneg": True}, ()), 0.75)
    assert np.array_equal(_run("expand", [x], {"axes": [1, 3]}, (2, 4, 3, 5))[:, 1, :, 2], x)
    assert np.array_equal(_run("select", [x > 0, x, -x], {}, (2, 3)), abs(x))
    assert np.array_equal(_run("add", [x, x, x], {"signs": [1, -1, -1]}, (2, 3)), -x)
    assert np.array_equal(_run("round", [x], {"dtype": "bfloat16"}, (2, 3)), x)


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        ("cumsum", np.add.accumulate),
        ("cumprod", np.multiply.accumulate),
        ("cummax", np.maximum.accumulate),
        ("cummin", np.minimum.accumulate),
        ("argsort", np.argsort),
    ],
)
def test_functions_along_axes(fn: str, expected: Callable[..., np.ndarray]) -> None:
    x = _matrix(1, 4, 3)
    at = {"fn": fn, "axes": [[0]], "out": [["new"], ["batch", 1]], "linear": fn == "cumsum"}
    assert np.array_equal(_run("along", [x], at, x.shape), expected(x, axis=0))


def test_gather_and_take() -> None:
    x = _matrix(1, 4, 3)
    order = np.argsort(-x, axis=1)[:, :2]
    at = {"fn": "gather", "axes": [[1], [1]], "out": [["batch", 0], ["new"]], "linear": False}
    assert np.array_equal(_run("along", [x, order], at, (4, 2)), np.take_along_axis(x, order, 1))
    at = {"fn": "pad", "axes": [[1]], "out": [["batch", 0], ["new"]], "args": {"take": [2, -1], "sizes": [2]}}
    assert np.array_equal(_run("along", [x], at, (4, 2)), np.stack([x[:, 2], 0 * x[:, 2]], 1))


def test_along_orders_batch_and_new_axes() -> None:
    x, y = _matrix(0, 2, 3, 4), _matrix(1, 2, 5, 4)
    take = {"take": [*range(3), *range(3, 8)], "sizes": [8]}
    at = {"fn": "cat", "axes": [[1], [1]], "out": [["batch", 2], ["new"], ["batch", 0]], "linear": True, "args": take}
    assert np.array_equal(_run("along", [x, y], at, (4, 8, 2)), np.concatenate([x, y], 1).transpose(2, 1, 0))


# -- refusals ----------------------------------------------------------------------------------------------------------

X = [[1.0, 2.0], [3.0, 4.0]]
REFUSED: list[tuple[str, list[Any], dict[str, Any], tuple[int, ...]]] = [
    ("frobnicate", [X], {}, (2, 2)),
    ("coerce", [X], {}, (2, 2)),
    ("map", [X], {"fn": "frobnicate"}, (2, 2)),
    ("map", [X], {"fn": "tanh", "colour": 1}, (2, 2)),
    ("map", [X, X], {"fn": "tanh"}, (2, 2)),
    ("map", [X], {"fn": "tanh", "args": ["1"]}, (2, 2)),
    ("map", [X], {"fn": "power", "args": [None]}, (2, 2)),
    ("map", [X, [1.0, 2.0]], {"fn": "maximum"}, (2, 2)),
    ("add", [X, [1.0, 2.0]], {"signs": [1, 1]}, (2, 2)),
    ("add", [X], {"signs": [2]}, (2, 2)),
    ("add", [X], {}, (2, 2)),
    ("contract", [X], {"indices": [[0, 1]], "out": [2]}, (2,)),
    ("contract", [X], {"indices": [[0, 1]], "out": [0, 0]}, (2, 2)),
    ("contract", [X, [1.0, 2.0, 3.0]], {"indices": [[0, 1], [1]], "out": [0]}, (2,)),
    ("symmetric", [X], {"fn": "mode", "axes": [0]}, (2,)),
    ("symmetric", [X], {"fn": "sort", "axes": [0, 1]}, (4,)),
    ("along", [X], {"fn": "frobnicate", "axes": [[0]], "out": [["batch", 1]]}, (2,)),
    ("along", [X], {"fn": "cumsum", "axes": [[0]], "out": [["batch", 1]]}, (2,)),
    ("along", [X], {"fn": "cumsum", "axes": [[0]], "out": [["batch", 1], ["new"]], "args": {"x": 1}}, (2, 2)),
    ("along", [X], {"fn": "s", "axes": [[0]], "out": [["batch", 1]], "args": {"take": [2], "sizes": []}}, (2,)),
    ("expand", [X], {"axes": [0]}, (2, 2)),
    ("part", [X], {"part": "q"}, (2, 2)),
    ("inverse", [[[1.0, 2.0, 3.0]] * 2], {}, (2, 3)),
    ("number", [], {"value": None}, ()),
    ("array", [], {"rank": 1}, (2,)),
    ("round", [X], {"dtype": "bfloat16"}, (2, 3)),
]


@pytest.mark.parametrize(("op", "operands", "at", "size"), REFUSED)
def test_what_the_table_does_not_say_is_refused(
    op: str, operands: list[Any], at: dict[str, Any], size: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=rf"line {len(operands)} \({op}\): "):
        _run(op, operands, at, size)


def test_a_line_reads_only_lines_before_it() -> None:
    lines = (Line("add", (1,), {"signs": [1]}), Line("number", (), {"value": "1"}))
    with pytest.raises(ValueError, match=r"line 0 \(add\): "):
        interpret(Program(lines, {}), {}, {}, [(), ()])
