"""The kernel's evaluation of every operation against the independent interpreter in float64."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symcheck.kernel.document import Decline, Reject
from symcheck.kernel.evaluate import Array, evaluate
from symcheck.trace.functions import MAPS
from symcheck.trace.interpret import interpret
from symcheck.trace.program import Line, Program

EPS = float(np.finfo(np.float64).eps)
NUMBERS = st.integers(-64, 64).map(lambda k: Fraction(k, 16))
OUTSIDE = (
    "tanh atan asin sin erf cube_root softshrink hardshrink sinh asinh cos cosh exp expm1 log log1p log2 sigmoid "
    "softplus silu gelu pow atan2 fmod remainder leaky_relu elu digamma lgamma"
)
"""What rational intervals do not cover."""
PICK = {"take": [0], "sizes": [1]}
EVALUATED = {
    "sign",
    "abs",
    "square",
    "sqrt",
    "relu",
    "power",
    "maximum",
    "minimum",
    "clamp",
    "gt",
    "ne",
    "hypot",
    "xor",
}


def both(op: str, at: dict[str, Any], operands: list[np.ndarray], size: tuple[int, ...]) -> tuple[Array, np.ndarray]:
    """A line on these operands (arrays of fractions) by the kernel and by the interpreter."""
    values = [(x.shape, {index: (entry, entry) for index, entry in np.ndenumerate(x)}) for x in operands]
    line = {"op": op, "in": list(range(len(operands))), "size": list(size), "at": at}
    lines = [Line("input", (), {"name": f"x{k}"}, x.ndim) for k, x in enumerate(operands)]
    program = Program((*lines, Line(op, tuple(range(len(operands))), at, len(size))), {})
    inputs = {f"x{k}": x.astype(np.float64) for k, x in enumerate(operands)}
    expected = interpret(program, {}, inputs, [*(x.shape for x in operands), size])[-1]
    return evaluate(line, values, {}), np.asarray(expected)


def agree(ours: Array, theirs: np.ndarray, scale: float) -> bool:
    """``scale`` bounds the sum of the sizes of the terms; 64 eps of it covers the roundings of a few dozen terms."""
    return ours[0] == theirs.shape and all(
        abs(float(low) - theirs[index]) <= 64 * EPS * scale and float(high - low) <= EPS * scale
        for index, (low, high) in ours[1].items()
    )


@st.composite
def arrays(draw: st.DrawFn, *size: int) -> np.ndarray:
    count = int(np.prod(size, dtype=int))
    return np.array([*draw(st.lists(NUMBERS, min_size=count, max_size=count)), None], dtype=object)[:-1].reshape(size)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_contract(data: st.DataObject) -> None:
    sizes = dict(enumerate(data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))))
    indices = data.draw(st.lists(st.lists(st.sampled_from(sorted(sizes)), max_size=3), min_size=1, max_size=3))
    letters = sorted({k for own in indices for k in own})
    out = data.draw(st.permutations(letters).map(lambda own: own[: data.draw(st.integers(0, len(letters)))]))
    operands = [data.draw(arrays(*(sizes[k] for k in own))) for own in indices]
    at = {"indices": indices, "out": out, "mean": data.draw(st.booleans())}
    ours, theirs = both("contract", at, operands, tuple(sizes[k] for k in out))
    assert agree(ours, theirs, 4.0**3 * 81)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_expand_and_symmetric(data: st.DataObject) -> None:
    x = data.draw(arrays(2, 3, 2))
    new = data.draw(st.sampled_from([[0], [1], [3], [0, 2], [3, 4], []]))
    size = iter(x.shape)
    full = tuple(2 if axis in new else next(size) for axis in range(3 + len(new)))
    assert agree(*both("expand", {"axes": new}, [x], full), 4.0)
    axes = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True))
    kept = tuple(n for axis, n in enumerate(x.shape) if axis not in axes)
    for fn in ("max", "min", "prod", "any", "all", "median"):
        assert agree(*both("symmetric", {"fn": fn, "axes": axes}, [x], kept), 4.0**12)
    ends = tuple(n for axis, n in enumerate(x.shape) if axis != axes[0])
    assert agree(*both("symmetric", {"fn": "sort", "axes": axes[:1]}, [x], (*ends, x.shape[axes[0]])), 4.0)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_along(data: st.DataObject) -> None:
    """Two operands, with listed axes in any order, picked into two new axes that stand anywhere."""
    one, two = data.draw(arrays(2, 3, 2)), data.draw(arrays(3, 2))
    axes = [data.draw(st.permutations([0, 2])), [1]]
    take = data.draw(st.lists(st.integers(-1, 5), min_size=4, max_size=4))
    out = data.draw(st.permutations([["batch", 1], ["new"], ["new"]]))
    at = {"fn": "cat", "axes": axes, "out": out, "linear": True, "args": {"take": take, "sizes": [2, 2]}}
    size = tuple(3 if entry == ["batch", 1] else 2 for entry in out)
    assert agree(*both("along", at, [one, two], size), 4.0)


@settings(max_examples=30, deadline=None)
@given(arrays(2, 2), arrays(2, 2), arrays(2, 2))
def test_elementwise(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> None:
    assert agree(*both("add", {"signs": [1, -1, -1]}, [x, y, z], (2, 2)), 12.0)
    assert agree(*both("select", {}, [np.sign(x), y, z], (2, 2)), 4.0)
    assert agree(*both("round", {"dtype": "float16"}, [x], (2, 2)), 4.0)
    for fn in sorted(EVALUATED):
        count, parameters, _ = MAPS[fn]
        args = {"power": ["3/2"], "clamp": ["-1/2", None]}.get(fn, [])
        operands = [abs(x) if fn in ("sqrt", "power") else x, y][:count]
        assert len(args) == parameters
        ours, theirs = both("map", {"fn": fn, "args": args}, operands, (2, 2))
        assert agree(ours, theirs, 16.0), fn


@pytest.mark.parametrize("fn", sorted(MAPS))
def test_functions_are_evaluated_or_declined_by_name(fn: str) -> None:
    count, parameters, _ = MAPS[fn]
    value = ((), {(): (Fraction(1), Fraction(1))})
    line = {"op": "map", "in": [0] * count, "size": [], "at": {"fn": fn, "args": ["1"] * parameters}}
    if fn in OUTSIDE.split():
        with pytest.raises(Decline, match=f"map {fn} "):
            evaluate(line, [value], {})
    else:
        low, high = evaluate(line, [value], {})[1][()]
        expected = float(MAPS[fn][2](*[1.0] * (count + parameters)))
        assert float(low) == float(high) == expected


@pytest.mark.parametrize(
    "line",
    [
        {"op": "eye", "in": [], "size": [2, 3]},
        {"op": "eye", "in": [], "size": [2]},
        {"op": "zero", "in": [], "size": [2], "at": {"rank": 1}, "values": ["1", "1"]},
        {"op": "array", "in": [], "size": [2], "at": {"rank": 1}},
        {"op": "array", "in": [], "size": [2], "at": {"rank": 1}, "values": ["1"]},
        {"op": "array", "in": [], "size": [2], "at": {"rank": 2}, "values": ["1", "2"]},
        {"op": "number", "in": [], "size": [], "at": {"value": "1"}, "values": ["2"]},
        {"op": "number", "in": [], "size": [], "at": {"value": None}},
        {"op": "number", "in": [], "size": [2], "at": {"value": "1"}},
        {"op": "add", "in": [0], "size": [2], "at": {"signs": [1, 1]}},
        {"op": "add", "in": [], "size": [2], "at": {"signs": []}},
        {"op": "map", "in": [0], "size": [2], "at": {"fn": "clamp", "args": ["x", None]}},
        {"op": "expand", "in": [0], "size": [3], "at": {"axes": []}},
        {"op": "contract", "in": [0, 0], "size": [], "at": {"indices": [[0]], "out": []}},
        {"op": "contract", "in": [0], "size": [2], "at": {"indices": [[0]], "out": [1]}},
        {"op": "contract", "in": [], "size": [], "at": {"indices": [], "out": []}},
        {"op": "along", "in": [0], "size": [2], "at": None},
        {"op": "along", "in": [0], "size": [2], "at": {"fn": "x", "axes": [[3]], "out": [["new"]], "args": PICK}},
        {"op": "along", "in": [0], "size": [2], "at": {"fn": "x", "axes": [[0, 0]], "out": [["new"]], "args": PICK}},
        {"op": "along", "in": [0], "size": [2], "at": {"fn": "x", "axes": [[]], "out": [["same", 0]], "args": PICK}},
        {"op": ["add"], "in": [0], "size": [2]},
    ],
)  # fmt: skip
def test_malformed_lines(line: dict[str, Any]) -> None:
    value = ((2,), {(0,): (Fraction(1),) * 2, (1,): (Fraction(2),) * 2})
    with pytest.raises(Reject):
        evaluate(line, [value], {})
