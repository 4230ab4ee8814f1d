"""Products of matrices, and their factorisations."""

from __future__ import annotations

import itertools

import torch

from symcheck.trace.builder import Builder, Dims, NotInVocabulary, Sym, refine
from symcheck.trace.lowering.movement import triangle
from symcheck.trace.lowering.operands import plus, result_dtype, scaled
from symcheck.trace.lowering.table import Arguments, lowers

_INT = torch.int32


def product(builder: Builder, x: Sym, y: Sym, batch: int = 0) -> Sym:
    """Contraction of the last dimension of ``x`` with the one after the ``batch`` first dimensions of ``y``."""
    dims = [(dim, dim) for dim in range(batch)] + [(len(x.dims) - 1, batch)]
    for first, second in dims:
        sizes = refine([x.dims[first], y.dims[second]])
        x, y = builder.split(x, first, sizes), builder.split(y, second, sizes)
    left = builder.letters(x)
    right = builder.letters(y, len(x.axes))
    for first, second in dims:
        right[second] = left[first]
    return builder.contract([x, y], [left, right], [*left[:-1], *right[batch + 1 :]], dtype=result_dtype(x, y))


@lowers("mm", "bmm", "mv", "dot", "vdot", "matmul")
def _product(builder: Builder, given: Arguments) -> Sym:
    x = given["self"]
    y = next(given[name] for name in ("mat2", "vec", "tensor", "other") if name in given)
    if len(x.dims) == len(y.dims) == 3:
        return product(builder, x, y, batch=1)
    if len(x.dims) > 2 or len(y.dims) > 2:
        raise NotInVocabulary(f"the product of tensors of shapes {x.shape} and {y.shape}")
    return product(builder, x, y)


@lowers("outer", "ger")
def _outer(builder: Builder, given: Arguments) -> Sym:
    return product(builder, given["self"].unsqueeze(1), given["vec2"].unsqueeze(0))


def _added(builder: Builder, given: Arguments, result: Sym) -> Sym:
    """``beta * self + alpha * result``; with ``beta`` zero, torch ignores ``self``."""
    x, beta, alpha = given["self"], given.get("beta", 1), given.get("alpha", 1)
    if not isinstance(beta, Sym) and beta == 0:
        return builder.expand_to(scaled(builder, result, alpha), result.dims)
    dtype = result_dtype(x, result)
    return plus(builder, scaled(builder, x, beta), result, alpha, dtype)


@lowers("addmm")
def _addmm(builder: Builder, given: Arguments) -> Sym:
    return _added(builder, given, product(builder, given["mat1"], given["mat2"]))


@lowers("addmv")
def _addmv(builder: Builder, given: Arguments) -> Sym:
    return _added(builder, given, product(builder, given["mat"], given["vec"]))


@lowers("addr")
def _addr(builder: Builder, given: Arguments) -> Sym:
    return _added(builder, given, product(builder, given["vec1"].unsqueeze(1), given["vec2"].unsqueeze(0)))


@lowers("baddbmm")
def _baddbmm(builder: Builder, given: Arguments) -> Sym:
    return _added(builder, given, product(builder, given["batch1"], given["batch2"], batch=1))


@lowers("addbmm")
def _addbmm(builder: Builder, given: Arguments) -> Sym:
    stack = product(builder, given["batch1"], given["batch2"], batch=1)
    return _added(builder, given, builder.sum(stack, [0]).squeeze([0]))


@lowers("trace")
def _trace(builder: Builder, given: Arguments) -> Sym:
    x = given["self"]
    if x.shape[0] != x.shape[1]:
        raise NotInVocabulary("the trace of a matrix that is not square")
    sizes = refine(list(x.dims))
    x = builder.split(builder.split(x, 0, sizes), 1, sizes)
    letters = builder.letters(x)[0]
    return builder.contract([x], [[letters, letters]], [])


# -- factorisations ----------------------------------------------------------------------------------------------------


def _nothing(builder: Builder, like: Sym) -> Sym:
    return builder.zero(((0,),), like.dtype)


@lowers("_linalg_eigh")
def _eigh(builder: Builder, given: Arguments) -> tuple[Sym, Sym]:
    # The vocabulary's eigh is one of symmetric matrices: which triangle is read makes no difference.
    x = given["A"]
    if x.shape[-1] == 1:
        values = x.squeeze([-1])
        vectors = builder.full(x.dims, 1, x.dtype)
    else:
        values, vectors = builder.factor("eigh", x)
    return values, vectors if given["compute_v"] else _nothing(builder, x)


@lowers("_linalg_svd")
def _svd(builder: Builder, given: Arguments) -> tuple[Sym, Sym, Sym]:
    x = given["A"]
    rows, cols = x.shape[-2:]
    if not given["compute_uv"] and 1 in (rows, cols):
        squares = builder.sum(builder.mul(x, x), [-2, -1]).squeeze([-1])
        return _nothing(builder, x), builder.map("sqrt", squares), _nothing(builder, x)
    if given["compute_uv"] and given["full_matrices"] and rows != cols:
        raise NotInVocabulary("singular vectors of the kernel of a matrix")
    u, s, vh = builder.factor("svd", x)
    return (u, s, vh) if given["compute_uv"] else (_nothing(builder, x), s, _nothing(builder, x))


@lowers("linalg_qr")
def _qr(builder: Builder, given: Arguments) -> tuple[Sym, Sym]:
    x, mode = given["A"], given["mode"]
    if mode == "complete" and x.shape[-2] > x.shape[-1]:
        raise NotInVocabulary("the complement of the columns of a matrix")
    q, r = builder.factor("qr", x)
    return (_nothing(builder, x), r) if mode == "r" else (q, r)


def _fails(builder: Builder, result: Sym) -> Sym:
    """Whether a factorisation failed; it depends on the ``result``, and with it on its conditions."""
    squares = builder.sum(builder.mul(result, result), [-2, -1]).squeeze([-2, -1])
    return builder.map("is_zero", squares, dtype=_INT)


def _info(builder: Builder, result: Sym) -> Sym:
    """Zero where a factorisation succeeded, else the number of a pivot, which depends on the basis."""
    return builder.nonzero_where(_fails(builder, result), "the number of the pivot at which a factorisation failed")


@lowers("linalg_cholesky_ex")
def _cholesky(builder: Builder, given: Arguments) -> tuple[Sym, Sym]:
    factor = builder.cholesky(given["self"])
    info = _info(builder, factor)
    return builder.transpose(factor) if given["upper"] else factor, info


@lowers("cholesky", "linalg_cholesky")
def _plain_cholesky(builder: Builder, given: Arguments) -> Sym:
    factor = builder.cholesky(given["self"])
    builder.leaks.append(_fails(builder, factor).line)
    return builder.transpose(factor) if given["upper"] else factor


@lowers("linalg_inv_ex")
def _inverse(builder: Builder, given: Arguments) -> tuple[Sym, Sym]:
    result = builder.inverse(given["A"])
    return result, _info(builder, result)


def solved(builder: Builder, inverse: Sym, y: Sym, left: bool) -> Sym:
    """``inverse @ y`` or ``y @ inverse`` for matrices with the same batch dimensions."""
    batch = len(inverse.dims) - 2
    return product(builder, inverse, y, batch) if left else product(builder, y, inverse, batch)


@lowers("_linalg_solve_ex")
def _solve(builder: Builder, given: Arguments) -> tuple[Sym, ...]:
    x, y = given["A"], given["B"]
    if len(y.dims) not in (len(x.dims), 1) or (len(y.dims) == 1 and len(x.dims) != 2):
        raise NotInVocabulary(f"a system of shapes {x.shape} and {y.shape}")
    if len(y.dims) == len(x.dims) and y.dims[:-2] != x.dims[:-2]:
        raise NotInVocabulary(f"systems of shapes {x.shape} and {y.shape}")
    inverse = builder.inverse(x)
    factors = _unread(builder, x.dims, x.dtype), _unread(builder, x.dims[:-1], _INT)
    return solved(builder, inverse, y, given["left"]), *factors, _info(builder, inverse)


def _unread(builder: Builder, dims: Dims, dtype: torch.dtype) -> Sym:
    """A value outside the vocabulary: the recorder refuses the step that reads it."""
    return Sym(builder.emit("undefined", (), itertools.chain(*dims), {"why": "an LU factorisation"}), dims, dtype)


def _is_triangular(builder: Builder, x: Sym, upper: bool) -> bool:
    """Whether the value is known to be triangular: a Cholesky factor, its transpose, or the second factor of QR."""
    line, flipped = builder.lines[x.line], False
    if line.op == "contract" and len(line.operands) == 1:
        letters, out = line.attributes["indices"][0], line.attributes["out"]
        flipped = out == [*letters[:-2], letters[-1], letters[-2]] and not line.attributes["mean"]
        line = builder.lines[line.operands[0]] if flipped else line
    lower = line.op == "cholesky"
    if not lower and not (line.op == "part" and line.attributes["part"] == "r"):
        return False
    return upper == (lower == flipped)


@lowers("linalg_solve_triangular")
def _solve_triangular(builder: Builder, given: Arguments) -> Sym:
    x, y, upper = given["self"], given["B"], given["upper"]
    if given["unitriangular"]:
        raise NotInVocabulary("a unit diagonal")
    return _triangular(builder, x, y, upper=upper, left=given["left"])


def _triangular(builder: Builder, x: Sym, y: Sym, *, upper: bool, left: bool) -> Sym:
    if len(x.dims) != len(y.dims) or x.dims[:-2] != y.dims[:-2]:
        raise NotInVocabulary(f"systems of shapes {x.shape} and {y.shape}")
    if not _is_triangular(builder, x, upper):
        x = triangle(builder, x, 0, upper=upper)
    return solved(builder, builder.inverse(x), y, left)


@lowers("cholesky_solve")
def _cholesky_solve(builder: Builder, given: Arguments) -> Sym:
    factor, y, upper = given["input2"], given["self"], given["upper"]
    first = _triangular(builder, builder.transpose(factor) if upper else factor, y, upper=False, left=True)
    return _triangular(builder, factor if upper else builder.transpose(factor), first, upper=True, left=True)


@lowers("linalg_matrix_exp", "matrix_exp")
def _matrix_exp(builder: Builder, given: Arguments) -> Sym:
    return builder.expm(given["self"])
