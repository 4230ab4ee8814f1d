"""Every lowered operation computes what torch computes: products, factorisations, movement, sources, lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from symcheck.trace.builder import Builder, NotInVocabulary, Sym
from symcheck.trace.lowering import lower

from .lowered import Lowered, check, close, run
from .test_lowering import MATRICES, SEEDS, SHAPES, SIZES, normal, quick

aten = torch.ops.aten
BOTH = st.tuples(st.booleans(), st.booleans())


# -- products ----------------------------------------------------------------------------------------------------------


@quick
@given(m=SIZES, k=SIZES, n=SIZES, b=SIZES, seed=SEEDS, merged=BOTH)
def test_products(m: int, k: int, n: int, b: int, seed: int, merged: tuple[bool, bool]) -> None:
    x, y = normal((m, k), seed), normal((k, n), seed + 1)
    check(aten.mm.default, x, y, merged=merged)
    check(aten.mv.default, x, y[:, 0].clone(), merged=merged)
    check(aten.dot.default, x[0].clone(), y[:, 0].clone(), merged=merged)
    xs, ys = normal((b, m, k), seed), normal((b, k, n), seed + 1)
    check(aten.bmm.default, xs, ys, merged=merged)
    u, v = normal((m,), seed), normal((n,), seed + 1)
    check(aten.addr.default, normal((m, n), seed), u, v, merged=merged, beta=0.5, alpha=2)


@quick
@given(m=SIZES, k=SIZES, n=SIZES, seed=SEEDS, beta=st.sampled_from([0, 1, 0.5]), alpha=st.sampled_from([1, -1, 2.0]))
def test_products_added(m: int, k: int, n: int, seed: int, beta: float, alpha: float) -> None:
    x, y, z = normal((m, k), seed), normal((k, n), seed + 1), normal((m, n), seed + 2)
    check(aten.addmm.default, z, x, y, beta=beta, alpha=alpha)
    check(aten.addmm.default, z[0].clone(), x, y, beta=beta, alpha=alpha)
    check(aten.addmv.default, z[:, 0].clone(), x, y[:, 0].clone(), beta=beta, alpha=alpha)
    xs, ys = normal((2, m, k), seed), normal((2, k, n), seed + 1)
    check(aten.baddbmm.default, z.expand(2, m, n).clone(), xs, ys, beta=beta, alpha=alpha)
    check(aten.addbmm.default, z, xs, ys, beta=beta, alpha=alpha)


def test_a_product_with_beta_zero_does_not_read_its_first_operand() -> None:
    lowered, result = run(aten.addmm.default, normal((2, 2), 0), normal((2, 3), 1), normal((3, 2), 2), beta=0)
    assert lowered.builder.lines[result.line].operands == (1, 2)


@given(size=SIZES, seed=SEEDS, merged=st.booleans())
@quick
def test_trace(size: int, seed: int, merged: bool) -> None:
    check(aten.trace.default, normal((size, size), seed), merged=(merged,))


# -- factorisations ----------------------------------------------------------------------------------------------------


def positive(size: int, seed: int) -> torch.Tensor:
    x = normal((size, size + 2), seed)
    return x @ x.mT + torch.eye(size, dtype=torch.float64)


def condition(matrix: torch.Tensor) -> float:
    """Inverses are computed up to a few units of rounding times the condition number and the size."""
    return float(64 * matrix.shape[-1] * torch.linalg.cond(matrix) ** 2)


@quick
@given(size=SIZES, cols=SIZES, seed=SEEDS, merged=st.booleans())
def test_inverse_and_solutions(size: int, cols: int, seed: int, merged: bool) -> None:
    a, b = positive(size, seed), normal((size, cols), seed + 1)
    factor = condition(a)
    check(aten.linalg_inv_ex.default, a, merged=(merged,), factor=factor)
    for upper in (False, True):
        check(aten.linalg_cholesky_ex.default, a, upper=upper, merged=(merged,), factor=factor)
        check(aten.linalg_solve_triangular.default, a, b, upper=upper, factor=factor)
        check(aten.linalg_solve_triangular.default, a, b.mT.clone(), upper=upper, left=False, factor=factor)
        triangle = torch.linalg.cholesky(a, upper=upper)
        check(aten.cholesky_solve.default, b, triangle, upper, factor=factor)
    for right, left in ((b, True), (b.mT.clone(), False), (b[:, 0].clone(), True)):
        lowered, results = run(aten._linalg_solve_ex.default, a, right, left=left)
        expected = torch.linalg.solve(a, right, left=left)
        close(lowered.value(results[0]), expected, factor, (a, right))


def test_a_cholesky_factor_is_not_cut_to_a_triangle() -> None:
    for upper in (False, True):
        lowered = Lowered()
        a, b = lowered.input(positive(3, 0)), lowered.input(normal((3, 2), 1))
        factor, _ = lower(lowered.builder, "linalg_cholesky_ex", {"self": a, "upper": upper, "check_errors": False})
        given_ = {"self": factor, "B": b, "upper": upper, "left": True, "unitriangular": False}
        lower(lowered.builder, "linalg_solve_triangular", given_)
        assert not [line for line in lowered.builder.lines if line.op == "along"]
        lower(lowered.builder, "linalg_solve_triangular", {**given_, "upper": not upper})
        assert [line for line in lowered.builder.lines if line.op == "along"]


@quick
@given(shape=MATRICES, batch=st.booleans(), seed=SEEDS)
def test_factors_multiply_to_the_matrix(shape: tuple[int, int], batch: bool, seed: int) -> None:
    x = normal((2, *shape) if batch else shape, seed)
    x = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    size = shape[0]
    square = x @ x.mT + torch.diag(torch.arange(size, dtype=torch.float64))
    lowered, (values, vectors) = run(aten._linalg_eigh.default, square, "U")
    close(lowered.value(values), torch.linalg.eigvalsh(square), 256, (x,))
    v = lowered.value(vectors)
    close(v @ torch.diag_embed(lowered.value(values)) @ v.mT, square, 256, (x,))
    lowered, (_, s, _) = run(aten._linalg_svd.default, x, False, False)
    close(lowered.value(s), torch.linalg.svdvals(x), 256, (x,))
    if 1 in shape:
        for call in (aten._linalg_svd.default, aten.linalg_qr.default):
            with pytest.raises(NotInVocabulary, match="of a matrix of shape"):
                run(call, x)
        return
    lowered, (u, s, vh) = run(aten._linalg_svd.default, x)
    close(lowered.value(u) @ torch.diag_embed(lowered.value(s)) @ lowered.value(vh), x, 256, (x,))
    lowered, (q, r) = run(aten.linalg_qr.default, x)
    close(lowered.value(q) @ lowered.value(r), x, 256, (x,))
    close(lowered.value(r).tril(-1), torch.zeros_like(r_of(x)), 256, (x,))


def r_of(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.qr(x)[1]


def test_singular_vectors_of_a_kernel_are_refused() -> None:
    with pytest.raises(NotInVocabulary, match="kernel"):
        run(aten._linalg_svd.default, normal((3, 2), 0), True)
    run(aten._linalg_svd.default, normal((3, 3), 0), True)


@quick
@given(size=SIZES, seed=SEEDS)
def test_matrix_exponential(size: int, seed: int) -> None:
    x = normal((size, size), seed) / 4
    # torch stops its series at an error of a thousand roundings or so.
    check(aten.linalg_matrix_exp.default, x, factor=2**12)


# -- movement ----------------------------------------------------------------------------------------------------------


@quick
@given(shape=SHAPES, seed=SEEDS, count=st.integers(1, 3), merged=st.booleans(), at=st.integers(0, 7))
def test_joining(shape: tuple[int, ...], seed: int, count: int, merged: bool, at: int) -> None:
    xs = [normal(shape, seed + number) for number in range(count)]
    check(aten.stack.default, xs, at % (len(shape) + 1), merged=(merged,))
    if shape:
        dim = at % len(shape) - len(shape)
        longer = [torch.cat([x] * (number + 1), dim) for number, x in enumerate(xs)]
        check(aten.cat.default, longer, dim, merged=(merged,))
        check(aten.cat.default, [torch.empty(0, dtype=torch.float64), *longer], dim)


@quick
@given(shape=SHAPES, seed=SEEDS, merged=st.booleans(), data=st.data())
def test_rearranging(shape: tuple[int, ...], seed: int, merged: bool, data: Any) -> None:
    x = normal(shape, seed)
    repeats = [
        *data.draw(st.sampled_from([[], [2]])),
        *data.draw(st.lists(st.integers(1, 3), min_size=x.ndim, max_size=x.ndim)),
    ]
    check(aten.repeat.default, x, repeats, merged=(merged,))
    check(aten._unsafe_view.default, x, [x.numel()], merged=(merged,))
    sizes = data.draw(st.permutations(shape))
    if not merged:
        check(aten.reshape.default, x, [x.numel() // (sizes[0] if sizes else 1), -1]) if x.numel() else None
    check(aten.expand_copy.default, x, [2, *shape], merged=(merged,))
    order = data.draw(st.permutations(range(x.ndim)))
    check(aten.permute_copy.default, x, order, merged=(merged,))
    for dim in range(x.ndim):
        check(aten.flip.default, x, [dim, -1] if dim < x.ndim - 1 else [dim], merged=(merged,))
        check(aten.roll.default, x, [2], [dim], merged=(merged,))
        check(aten.constant_pad_nd.default, x, [1, 0, *[0, 2] * dim])
        index = torch.tensor([0, shape[dim] - 1, 0])
        lowered = Lowered()
        given_ = {"self": lowered.input(x, merged), "dim": dim, "index": lowered.constant(index)}
        close(lowered.value(_one(lowered, "index_select", given_)), x.index_select(dim, index), 0, ())
    check(aten.roll.default, x, [1], [], merged=(merged,))


def _one(lowered: Lowered, name: str, arguments: dict[str, Any]) -> Sym:
    result = lower(lowered.builder, name, arguments)
    assert isinstance(result, Sym)
    return result


@quick
@given(shape=MATRICES, seed=SEEDS, diagonal=st.integers(-3, 3), merged=st.booleans())
def test_triangles(shape: tuple[int, int], seed: int, diagonal: int, merged: bool) -> None:
    x = normal((2, *shape), seed)
    check(aten.tril.default, x, diagonal, merged=(merged,))
    check(aten.triu.default, x[0].clone(), diagonal, merged=(merged,))
    check(aten.diag_embed.default, x[0].clone(), merged=(merged,))


@quick
@given(rows=st.sampled_from([2, 3, 4]), cols=SIZES, seed=SEEDS, merged=st.booleans())
def test_computed_indices(rows: int, cols: int, seed: int, merged: bool) -> None:
    x = torch.randn((rows, cols), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    lowered = Lowered()
    a = lowered.input(x, merged)
    _, index = lower(lowered.builder, "sort", {"self": a, "dim": 0, "descending": True})
    order = x.sort(0, descending=True).indices
    close(lowered.value(_one(lowered, "gather", {"self": a, "dim": 0, "index": index})), x.gather(0, order), 0, ())
    norms = lowered.input(x.norm(dim=1))
    by_norm = _one(lowered, "argsort", {"self": norms, "dim": 0, "descending": False})
    chosen = x.norm(dim=1).argsort()
    close(lowered.value(_one(lowered, "index_select", {"self": a, "dim": 0, "index": by_norm})), x[chosen], 0, ())
    close(lowered.value(_one(lowered, "index", {"self": a, "indices": [by_norm]})), x[chosen], 0, ())
    largest = _one(lowered, "argmax", {"self": norms, "dim": 0, "keepdim": True})
    found = x[x.norm(dim=1).argmax()][None]
    close(lowered.value(_one(lowered, "index_select", {"self": a, "dim": 0, "index": largest})), found, 0, ())
    row = lowered.input(x[:1])
    arguments = {"self": row, "dim": 0, "index": lowered.input(torch.zeros((2, cols)))}
    close(lowered.value(_one(lowered, "gather", arguments)), x[[0, 0]], 0, ())


@quick
@given(shape=st.tuples(SIZES, SIZES, SIZES), seed=SEEDS, merged=st.booleans())
def test_constant_indices(shape: tuple[int, int, int], seed: int, merged: bool) -> None:
    x, places = normal(shape, seed), torch.tensor([0, shape[1] - 1, 0])
    others = torch.tensor([shape[2] - 1, 0, 0])
    lowered = Lowered()
    a, i, j = lowered.input(x, merged), lowered.constant(places), lowered.constant(others)
    read = [([None, i], x[:, places]), ([None, i, j], x[:, places, others]), ([None, None, j], x[..., others])]
    for indices, expected in read:
        close(lowered.value(_one(lowered, "index", {"self": a, "indices": indices})), expected, 0, ())
    last = torch.tensor([shape[1] - 1])
    values = normal((shape[0], 1, shape[2]), seed + 1)
    written = x.index_copy(1, last, values)
    arguments = {"self": a, "dim": 1, "index": lowered.constant(last), "source": lowered.input(values, merged)}
    close(lowered.value(_one(lowered, "index_copy", arguments)), written, 0, ())
    put = {"self": a, "indices": [None, lowered.constant(last)], "values": arguments["source"], "accumulate": False}
    close(lowered.value(_one(lowered, "index_put", put)), written, 0, ())
    mask = lowered.input(x > 0)
    put = {"self": lowered.input(x), "indices": [mask], "values": lowered.builder.number(0), "accumulate": False}
    close(lowered.value(_one(lowered, "index_put", put)), torch.where(x > 0, 0, x), 0, ())
    rows = lowered.input(x[:, 0, 0] > 0)
    put = {**put, "indices": [rows]}
    close(lowered.value(_one(lowered, "index_put", put)), torch.where((x[:, :1, :1] > 0), 0, x), 0, ())


# -- sources -----------------------------------------------------------------------------------------------------------


@quick
@given(shape=SHAPES, seed=SEEDS)
def test_sources(shape: tuple[int, ...], seed: int) -> None:
    x = normal(shape, seed)
    for name in ("zeros_like", "ones_like"):
        check(getattr(aten, name).default, x)
    check(aten.full_like.default, x, 0.5)
    check(aten.zero.default, x)
    for name in ("new_zeros", "new_ones"):
        check(getattr(aten, name).default, x, [2, 1])
    for name in ("zeros", "ones"):
        check(getattr(aten, name).default, list(shape), dtype=torch.float64)
    check(aten.full.default, list(shape), 3)
    check(aten.scalar_tensor.default, 0.1, dtype=torch.float64)
    check(aten.copy.default, x, torch.ones(()))
    for size in (1, 3):
        check(aten.eye.default, size)
    check(aten.eye.m, 3, 2)
    check(aten.arange.default, 5)
    check(aten.arange.start_step, 1, 6, 2)
    check(aten.linspace.default, 0.0, 1.0, 5, dtype=torch.float64)


def test_zeros_are_a_value_of_their_own_and_other_numbers_are_not() -> None:
    lowered, _ = run(aten.zeros.default, [2, 3])
    assert [line.op for line in lowered.builder.lines] == ["zero"]
    lowered, _ = run(aten.full.default, [2, 3], 0)
    assert [line.op for line in lowered.builder.lines] == ["number", "expand"]


def test_memory_that_was_never_written_is_not_a_number() -> None:
    lowered, result = run(aten.empty_like.default, normal((2, 3), 0))
    assert lowered.value(result).isnan().all()


@pytest.mark.parametrize(
    ("name", "arguments", "distribution"),
    [
        ("randn_like", {}, "normal"),
        ("normal", {"mean": 0.0, "std": 1.0}, "normal"),
        ("normal", {"mean": 1.0, "std": 2.0}, "normal"),
        ("rand_like", {}, "iid"),
        ("uniform", {"from": -1.0, "to": 1.0}, "symmetric"),
        ("uniform", {"from": 0.0, "to": 1.0}, "iid"),
        ("randint_like", {"low": -2, "high": 3}, "symmetric"),
        ("randint_like", {"low": 0, "high": 2}, "iid"),
        ("bernoulli", {"p": 0.5}, "iid"),
        ("bernoulli", {}, "iid"),
        ("exponential", {"lambd": 1.0}, "iid"),
    ],
)
def test_random_numbers(name: str, arguments: dict[str, Any], distribution: str) -> None:
    lowered = Lowered()
    x = lowered.input(torch.full((2, 1, 3), 0.5, dtype=torch.float64))
    drawn = np.array([[[0.0, 1.0, 1.0]], [[1.0, 0.0, 1.0]]])
    lowered.builder.observed = drawn
    result = _one(lowered, name, {"self": x, **arguments})
    assert [line.attributes["distribution"] for line in lowered.builder.lines if line.op == "random"] == [distribution]
    close(lowered.value(result), torch.tensor(drawn), 4, ())


# -- lists of tensors --------------------------------------------------------------------------------------------------


LISTS = [((2, 3), (4,)), ((1, 3), ()), ((3, 1),)]


@pytest.mark.parametrize("shapes", LISTS)
@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        (aten._foreach_abs.default, ()),
        (aten._foreach_neg.default, ()),
        (aten._foreach_sign.default, ()),
        (aten._foreach_reciprocal.default, ()),
        (aten._foreach_sigmoid.default, ()),
        (aten._foreach_exp.default, ()),
        (aten._foreach_add.List, ("list",)),
        (aten._foreach_add.Scalar, (2,)),
        (aten._foreach_add.ScalarList, ("scalars",)),
        (aten._foreach_add.Tensor, ("tensor",)),
        (aten._foreach_sub.List, ("list",)),
        (aten._foreach_sub.Scalar, (0.5,)),
        (aten._foreach_mul.List, ("list",)),
        (aten._foreach_mul.ScalarList, ("scalars",)),
        (aten._foreach_mul.Tensor, ("tensor",)),
        (aten._foreach_div.List, ("list",)),
        (aten._foreach_div.Scalar, (3,)),
        (aten._foreach_div.Tensor, ("tensor",)),
        (aten._foreach_maximum.List, ("list",)),
        (aten._foreach_minimum.Scalar, (0.5,)),
        (aten._foreach_clamp_min.Scalar, (0.5,)),
        (aten._foreach_clamp_max.List, ("list",)),
        (aten._foreach_addcmul.Scalar, ("list", "list", 0.5)),
        (aten._foreach_addcdiv.Scalar, ("list", "list", -1)),
        (aten._foreach_addcdiv.ScalarList, ("list", "list", "scalars")),
        (aten._foreach_lerp.Scalar, ("list", 0.25)),
        (aten._foreach_lerp.List, ("list", "list")),
        (aten._foreach_lerp.ScalarList, ("list", "scalars")),
        (aten._foreach_pow.Scalar, (2,)),
        (aten._foreach_norm.Scalar, (1,)),
        (aten._foreach_max.default, ()),
        (aten._foreach_copy.default, ("list",)),
    ],
)
def test_lists(call: Any, arguments: tuple[Any, ...], shapes: tuple[tuple[int, ...], ...]) -> None:
    known = {
        "list": [normal(shape, 7 + at) for at, shape in enumerate(shapes)],
        "scalars": [0.5 + at for at in range(len(shapes))],
        "tensor": torch.tensor(0.75, dtype=torch.float64),
    }
    tensors = [normal(shape, at) for at, shape in enumerate(shapes)]
    check(call, tensors, *(known.get(item, item) if isinstance(item, str) else item for item in arguments))


def test_a_number_to_a_list_of_powers() -> None:
    check(aten._foreach_pow.ScalarAndTensor, 0.9, [torch.tensor(3.0, dtype=torch.float64)])


def test_scalars_in_a_tensor_are_refused() -> None:
    x = [normal((2,), 0), normal((2,), 1)]
    with pytest.raises(NotInVocabulary, match="scalars in a tensor"):
        run(aten._foreach_addcmul.Tensor, x, x, x, torch.ones(2))


ADAM = {"beta1": 0.9, "beta2": 0.99, "eps": 1e-3}
FUSED = [
    *[
        (name, lists, {**ADAM, "lr": 0.1, "weight_decay": decay, "amsgrad": amsgrad, "maximize": maximize})
        for name in ("_fused_adam_", "_fused_adamw_")
        for lists in [("exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs", "state_steps")]
        for decay, amsgrad, maximize in [(0.0, False, False), (0.1, True, False), (0.1, False, True)]
    ],
    *[
        (
            "_fused_sgd_",
            ("momentum_buffer_list",),
            {
                "lr": 0.1,
                "weight_decay": decay,
                "momentum": 0.9,
                "dampening": dampening,
                "nesterov": nesterov,
                "maximize": maximize,
                "is_first_step": first,
            },
        )
        for decay, dampening, nesterov, maximize, first in [
            (0.0, 0.0, False, False, False),
            (0.1, 0.5, False, True, False),
            (0.1, 0.5, False, False, True),
            (0.0, 0.0, True, True, False),
        ]
    ],
    *[
        (
            "_fused_adagrad_",
            ("state_sums", "state_steps"),
            {"lr": 0.1, "lr_decay": 0.5, "weight_decay": decay, "eps": 1e-3, "maximize": maximize},
        )
        for decay, maximize in [(0.0, False), (0.1, True)]
    ],
]


@pytest.mark.parametrize(("name", "lists", "options"), FUSED)
def test_fused_kernels(name: str, lists: tuple[str, ...], options: dict[str, Any]) -> None:
    shapes = ((2, 3), (4,), (1, 3))
    tensors = {key: [normal(shape, at).abs() for at, shape in enumerate(shapes)] for key in lists}
    if "state_steps" in tensors:
        tensors["state_steps"] = [torch.tensor(float(at + 1)) for at in range(len(shapes))]
    if "max_exp_avg_sqs" in tensors and not options["amsgrad"]:
        tensors["max_exp_avg_sqs"] = []
    tensors["self"] = [normal(shape, 10 + at) for at, shape in enumerate(shapes)]
    tensors["grads"] = [normal(shape, 20 + at) for at, shape in enumerate(shapes)]
    before = {key: [tensor.clone() for tensor in items] for key, items in tensors.items()}
    lowered = Lowered()
    symbolic = {key: [lowered.input(tensor) for tensor in items] for key, items in tensors.items()}
    results = lower(lowered.builder, name.removesuffix("_"), {**symbolic, **options})
    assert isinstance(results, dict)
    order = ("self", "grads", *lists)
    getattr(aten, name).default(*(tensors[key] for key in order), **options)
    changed = {
        key for key in order if any(not torch.equal(a, b) for a, b in zip(before[key], tensors[key], strict=True))
    }
    assert set(results) >= changed
    for key, new in results.items():
        for sym, tensor in zip(new, tensors[key], strict=True):
            close(lowered.value(sym), tensor, 64, ())


def test_a_gradient_scaler_is_refused() -> None:
    with pytest.raises(NotInVocabulary, match="scaler"):
        lower(Builder(), "_fused_sgd", {"self": [], "found_inf": Sym(0, (), torch.float32)})
