"""Every lowered operation computes what torch computes: elementwise operations, logic, reductions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symcheck.trace.builder import Builder, NotInVocabulary, Sym
from symcheck.trace.lowering import lower

from .lowered import Lowered, check, run

aten = torch.ops.aten
SIZES = st.sampled_from([1, 2, 3, 4, 6])
SHAPES = st.lists(SIZES, max_size=3).map(tuple)
MATRICES = st.tuples(SIZES, SIZES)
SEEDS = st.integers(0, 2**16)
quick = settings(max_examples=25, deadline=None)


def normal(shape: tuple[int, ...], seed: int, ties: bool = False) -> torch.Tensor:
    """Random numbers between -2 and 2 and not near zero; with ``ties`` a few values only, zero among them."""
    generator = torch.Generator().manual_seed(seed)
    if ties:
        return torch.randint(-1, 2, shape, generator=generator).double()
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return torch.where(x.abs() < 0.1, 0.5, x).clamp(-2, 2)


@st.composite
def broadcast_pairs(draw: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    shape = draw(SHAPES)
    second = [size if draw(st.booleans()) else 1 for size in shape]
    if draw(st.booleans()):
        second = second[draw(st.integers(0, len(second))) :]
    pair = (shape, tuple(second))
    return pair if draw(st.booleans()) else pair[::-1]


UNARY = """
abs neg sign square sqrt rsqrt reciprocal exp expm1 log log1p log2 tanh atan asin sin cos tan sinh cosh asinh erf
erfc sigmoid silu gelu relu relu6 floor ceil trunc round frac exp2 mish softplus elu digamma lgamma logical_not
isnan isinf isfinite nan_to_num clone detach hardshrink softshrink leaky_relu hardtanh sgn
"""
POSITIVE = {"sqrt", "rsqrt", "log", "log1p", "log2", "lgamma", "digamma"}


@pytest.mark.parametrize("name", UNARY.split())
@quick
@given(shape=SHAPES, seed=SEEDS, merged=st.booleans())
def test_functions_of_one_tensor(name: str, shape: tuple[int, ...], seed: int, merged: bool) -> None:
    x = normal(shape, seed)
    x = x.abs() if name in POSITIVE else x / 4 if name == "asin" else x
    check(getattr(aten, name).default, x, merged=(merged,), factor=4096 if name in ("digamma", "tan") else 64)


BINARY = """
add.Tensor sub.Tensor mul.Tensor div.Tensor maximum minimum fmax fmin hypot atan2 eq.Tensor ne.Tensor lt.Tensor
le.Tensor gt.Tensor ge.Tensor logical_and logical_or logical_xor fmod.Tensor remainder.Tensor logaddexp heaviside
floor_divide
"""


def overload(name: str) -> Any:
    name, _, variant = name.partition(".")
    return getattr(getattr(aten, name), variant or "default")


@pytest.mark.parametrize("name", BINARY.split())
@quick
@given(shapes=broadcast_pairs(), seed=SEEDS, merged=st.tuples(st.booleans(), st.booleans()), ties=st.booleans())
def test_functions_of_two_tensors(name: str, shapes: Any, seed: int, merged: tuple[bool, bool], ties: bool) -> None:
    ties = ties and not any(word in name for word in ("div", "mod", "rem", "atan2"))
    x, y = normal(shapes[0], seed, ties), normal(shapes[1], seed + 1, ties)
    check(overload(name), x, y, merged=merged)


SCALARS = """
add.Scalar sub.Scalar mul.Scalar div.Scalar rsub.Scalar eq.Scalar ne.Scalar lt.Scalar le.Scalar gt.Scalar ge.Scalar
fmod.Scalar remainder.Scalar clamp clamp_min clamp_max fill.Scalar
"""


@pytest.mark.parametrize("name", SCALARS.split())
@pytest.mark.parametrize("scalar", [0.25, 2, -1.5, 0, -1])
@settings(max_examples=5, deadline=None)
@given(shape=SHAPES, seed=SEEDS, ties=st.booleans())
def test_a_scalar(name: str, scalar: float, shape: tuple[int, ...], seed: int, ties: bool) -> None:
    if scalar == 0 and name.startswith(("div", "fmod", "rem")):
        return
    check(overload(name), normal(shape, seed, ties), scalar)


@pytest.mark.parametrize("bounds", [(-0.5, 0.5), (0, None), (None, 0.25), (-1, 0.5), (-math.inf, 1.0), (0, 0)])
def test_clamp(bounds: tuple[float | None, float | None]) -> None:
    check(aten.clamp.default, normal((3, 4), 0), *bounds)


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_comparisons_with_infinity_and_with_itself(name: str) -> None:
    x = normal((3, 4), 0)
    for number in (math.inf, -math.inf):
        check(getattr(aten, name).Scalar, x, number)
    lowered = Lowered()
    sym = lowered.input(x)
    result = lower(lowered.builder, name, {"self": sym, "other": sym})
    assert isinstance(result, Sym)
    assert torch.equal(lowered.value(result).bool(), getattr(aten, name).Tensor(x, x))


@quick
@given(shape=SHAPES, seed=SEEDS, beta=st.sampled_from([1, 0.5, 50.0]), threshold=st.sampled_from([20, 1.5]))
def test_softplus_is_the_identity_above_its_threshold(shape: Any, seed: int, beta: float, threshold: float) -> None:
    check(aten.softplus.default, normal(shape, seed), beta, threshold)


def test_a_symmetric_clamp_is_odd() -> None:
    lowered, _ = run(aten.clamp.default, normal((3, 4), 0), -0.5, 0.5)
    assert lowered.builder.lines[-1].attributes == {"fn": "clamp_symmetric", "args": ["1/2"]}


BOUNDS = {"clamp_min": "min", "clamp_max": "max", "maximum": "other", "minimum": "other"}


@pytest.mark.parametrize("bounds", [(-0.5, 0.5), (-0.5, 1.0), (0.5, -0.5)])
@pytest.mark.parametrize(
    "order",
    [("clamp_min", "clamp_max"), ("clamp_max", "clamp_min"), ("maximum", "minimum"), ("minimum", "maximum")],
)
def test_opposite_bounds_one_after_the_other_are_one_odd_function(
    bounds: tuple[float, float], order: tuple[str, str]
) -> None:
    x = normal((4, 3), 1)
    lowered = Lowered()
    value, expected = lowered.input(x), x
    for name in order:
        low = name in ("clamp_min", "maximum")
        bound = bounds[not low]
        result = lower(lowered.builder, name, {"self": value, BOUNDS[name]: bound})
        assert isinstance(result, Sym)
        value, expected = result, expected.clamp(min=bound) if low else expected.clamp(max=bound)
    assert torch.allclose(lowered.value(value), expected, rtol=2.0**-50, atol=0)
    odd = any(line.attributes.get("fn") == "clamp_symmetric" for line in lowered.builder.lines)
    assert odd == (bounds == (-0.5, 0.5))


def test_a_number_zero_that_is_chosen_has_the_law_of_zero() -> None:
    lowered, _ = run(aten.masked_fill.Scalar, normal((3, 4), 0), normal((3, 4), 1) > 0, 0.0)
    assert [lowered.builder.lines[at].op for at in lowered.builder.lines[-1].operands].count("zero") == 1


@quick
@given(shapes=broadcast_pairs(), seed=SEEDS)
def test_clamp_by_tensors(shapes: Any, seed: int) -> None:
    x, low = normal(shapes[0], seed), normal(shapes[1], seed + 1)
    check(aten.clamp.Tensor, x, low, low + 1)
    check(aten.clamp_min.Tensor, x, low)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, -1, 0.5, -0.5, 1.5, 2.0, -2, 4, 0.25, 1 / 3])
def test_powers(exponent: float) -> None:
    x = normal((3, 4), 0)
    check(aten.pow.Tensor_Scalar, x if exponent == int(exponent) else x.abs(), exponent)
    check(aten.pow.Scalar, abs(exponent) + 1, x)
    check(aten.pow.Tensor_Tensor, x.abs(), normal((4,), 1))


@quick
@given(
    shapes=broadcast_pairs(),
    seed=SEEDS,
    factor=st.sampled_from([1, -1, 0.5, 2]),
    alpha=st.sampled_from([1, -1, 2, 0.5]),
)
def test_fused_arithmetic(shapes: Any, seed: int, factor: float, alpha: float) -> None:
    x, y, z = normal(shapes[0], seed), normal(shapes[1], seed + 1), normal(shapes[0], seed + 2)
    check(aten.addcmul.default, x, y, z, value=factor)
    check(aten.addcdiv.default, x, y, z, value=factor)
    check(aten.add.Tensor, x, y, alpha=alpha)
    check(aten.sub.Tensor, x, y, alpha=alpha)
    check(aten.lerp.Scalar, x, z, 0.25)
    check(aten.lerp.Tensor, x, z, normal(x.shape, seed + 3))
    check(aten.div.Tensor_mode, x, y, rounding_mode="floor")
    check(aten.div.Scalar_mode, x, 0.75, rounding_mode="trunc")


def test_what_is_infinite_has_a_reciprocal_and_no_other_use() -> None:
    lowered = Lowered()
    builder, x = lowered.builder, lowered.input(normal((3, 4), 0))
    infinite = lower(builder, "div", {"self": x, "other": 0})
    assert isinstance(infinite, Sym)
    assert builder.lines[builder.map("reciprocal", infinite).line].op == "zero"
    for value in (
        builder.sub(infinite, infinite),
        builder.mul(infinite, builder.zero(infinite.dims)),
        builder.mul(builder.add(infinite, x), builder.zero(infinite.dims)),
        builder.map("reciprocal", builder.neg(infinite)),
    ):
        assert value.line in builder.undefined
    assert builder.undefined.isdisjoint({x.line, builder.mul(x, x).line})


def test_division_by_a_number_is_exact() -> None:
    lowered, _ = run(aten.div.Scalar, normal((3, 4), 0), 3)
    assert [line.attributes.get("value") for line in lowered.builder.lines if line.op == "number"] == ["1/3"]


@quick
@given(shapes=broadcast_pairs(), seed=SEEDS)
def test_choices(shapes: Any, seed: int) -> None:
    x, y = normal(shapes[0], seed), normal(shapes[1], seed + 1)
    mask = y > 0
    check(aten.where.self, mask, x, y)
    check(aten.where.ScalarOther, mask, x, 0.0)
    if torch.broadcast_shapes(*shapes) == x.shape:
        check(aten.masked_fill.Scalar, x, mask, 0.0)
        check(aten.masked_fill.Tensor, x, mask, torch.tensor(2.0, dtype=torch.float64))
    whole = torch.broadcast_to(mask, torch.broadcast_shapes(*shapes)).clone()
    check(aten.bitwise_and.Tensor, whole, mask)
    check(aten.bitwise_or.Tensor, whole, mask)
    check(aten.bitwise_xor.Tensor, whole, mask)
    check(aten.bitwise_not.default, mask)
    check(aten.add.Tensor, whole, mask)
    check(aten.mul.Tensor, whole, x if whole.shape == x.shape else mask)


@st.composite
def reductions(draw: Any) -> tuple[torch.Tensor, list[int], bool, bool]:
    """A tensor, dimensions, whether to keep them, whether its dimensions are made of several axes."""
    shape = draw(st.lists(SIZES, min_size=1, max_size=3))
    dims = draw(st.lists(st.integers(-len(shape), len(shape) - 1), max_size=2, unique_by=lambda d: d % len(shape)))
    return normal(tuple(shape), draw(SEEDS), draw(st.booleans())), dims, draw(st.booleans()), draw(st.booleans())


@quick
@given(reductions())
def test_reductions_over_dimensions(case: tuple[torch.Tensor, list[int], bool, bool]) -> None:
    x, dims, keepdim, merged = case
    for name in ("sum.dim_IntList", "mean.dim", "amax", "amin", "any.dims", "all.dims"):
        if name.startswith(("any", "all")) and not dims:
            continue  # torch reads an empty list in another way there
        check(overload(name), x, dims, keepdim, merged=(merged,))
    if dims:
        check(aten.logsumexp.default, x, dims, keepdim, merged=(merged,))
        check(aten.count_nonzero.dim_IntList, x, dims, merged=(merged,))
    for order in (2, 1, 3, 0.5, 0, math.inf, -math.inf):
        check(aten.linalg_vector_norm.default, x, order, dims, keepdim, merged=(merged,), factor=256)
    count = math.prod(x.shape[dim] for dim in (dims or range(x.ndim)))
    for correction in (0, 1):
        if count > correction:
            for name in ("var", "std", "std_mean", "var_mean"):
                check(overload(f"{name}.correction"), x, dims, correction=correction, keepdim=keepdim, merged=(merged,))


def test_standard_deviation_of_equal_numbers_is_zero() -> None:
    check(aten.std.correction, torch.ones(4, dtype=torch.float64))


@quick
@given(reductions())
def test_whole_reductions(case: tuple[torch.Tensor, list[int], bool, bool]) -> None:
    x, _, _, merged = case
    for name in ("sum", "mean", "max", "min", "median", "prod", "any", "all"):
        check(getattr(aten, name).default, x, merged=(merged,))
    check(aten.sum.default, x > 0, merged=(merged,))
    check(aten.norm.Scalar, x, 2, merged=(merged,))
    check(aten.equal.default, x, x)
    check(aten.allclose.default, x, x + 1)


@quick
@given(reductions())
def test_reductions_over_one_dimension(case: tuple[torch.Tensor, list[int], bool, bool]) -> None:
    x, dims, keepdim, merged = case
    dim = dims[0] if dims else 0
    # No ties: which of them is found is not specified.
    x = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for name in ("max", "min", "median"):
        check(getattr(aten, name).dim, x, dim, keepdim, merged=(merged,))
    for name in ("argmax", "argmin"):
        check(getattr(aten, name).default, x, dim, keepdim, merged=(merged,))
        check(getattr(aten, name).default, x, None, False, merged=(merged,))
    for name in ("_softmax", "_log_softmax"):
        check(getattr(aten, name).default, x, dim, False, merged=(merged,))
    for name in ("cumsum", "cumprod"):
        check(getattr(aten, name).default, x, dim, merged=(merged,))
    check(aten.prod.dim_int, x, dim, keepdim, merged=(merged,))
    for descending in (False, True):
        check(aten.sort.default, x, dim, descending, merged=(merged,))
        check(aten.argsort.default, x, dim, descending, merged=(merged,))
    size = x.shape[dim]
    check(aten.topk.default, x, (size + 1) // 2, dim, merged=(merged,))
    check(aten.kthvalue.default, x, size, dim, keepdim, merged=(merged,))


@pytest.mark.parametrize(
    ("source", "target", "op"),
    [
        (torch.float64, torch.float32, "round"),
        (torch.float32, torch.bfloat16, "round"),
        (torch.float32, torch.float64, None),
        (torch.bfloat16, torch.float32, None),
        (torch.float16, torch.bfloat16, "round"),
        (torch.float64, torch.int64, "map"),
        (torch.float64, torch.bool, "map"),
        (torch.bool, torch.float32, None),
        (torch.int64, torch.float64, None),
    ],
)
def test_casts(source: torch.dtype, target: torch.dtype, op: str | None) -> None:
    x = torch.tensor([[1.0, 0.0, -2.5]]).to(source)
    lowered, result = run(aten._to_copy.default, x, dtype=target)
    assert (lowered.builder.lines[-1].op if len(lowered.builder.lines) > 1 else None) == op
    assert result.dtype == target
    if op != "round":
        assert torch.equal(lowered.value(result).to(target), x.to(target))


@pytest.mark.parametrize(
    "call",
    [
        lambda: run(aten._to_copy.default, torch.ones(2), dtype=torch.uint8),
        lambda: run(aten._to_copy.default, torch.ones(2), dtype=torch.complex64),
        lambda: run(aten.neg.default, torch.ones(2, dtype=torch.uint8)),
        lambda: run(aten.sub.Tensor, torch.zeros(2, dtype=torch.uint8), torch.ones(2, dtype=torch.uint8)),
        lambda: run(aten.mul.Scalar, torch.ones(2, dtype=torch.int8), 200),
        lambda: run(aten.copysign.Tensor, torch.ones(2), torch.ones(2)),
        lambda: run(aten.add.Scalar, torch.ones(2), math.inf),
        lambda: run(aten.full.default, [2], math.nan),
        lambda: run(aten.bitwise_and.Tensor, torch.ones(2, dtype=torch.int64), torch.ones(2, dtype=torch.int64)),
        lambda: run(aten.masked_select.default, torch.ones(2), torch.ones(2, dtype=torch.bool)),
        lambda: run(aten.index.Tensor, torch.ones(2), [torch.ones(2, dtype=torch.bool)]),
        lambda: run(aten.var.correction, torch.ones(1)),
        lambda: run(aten.randperm.default, 4),
        lambda: run(aten.fft_fft.default, torch.ones(2)),
    ],
)
def test_what_is_outside_is_refused(call: Any) -> None:
    with pytest.raises(NotInVocabulary):
        call()


def test_a_refusal_names_the_operation() -> None:
    with pytest.raises(NotInVocabulary, match=r"^the operation erfinv$"):
        run(aten.erfinv.default, torch.ones(2))
    with pytest.raises(NotInVocabulary, match=r"^clamp: "):
        run(aten.clamp.default, torch.ones(2), 1, 0)


def test_axes_split_in_different_ways_are_refused() -> None:
    builder = Builder()
    x = builder.input("weight:0", ((2, 3),), torch.float64)
    y = builder.input("grad:0", ((3, 2),), torch.float64)
    with pytest.raises(NotInVocabulary, match="split in different ways"):
        builder.mul(x, y)
