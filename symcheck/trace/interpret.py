"""Re-execution of a program in float64, independent of torch and of the recorder (``docs/proof.md``, section 1).

The arithmetic is a parameter (`Arithmetic`): the same lines are evaluated in float64 here and to many digits in
``exact``. Whatever a line says that the table does not know is refused, never guessed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import reduce
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.special

from symcheck.trace.along import apply_along
from symcheck.trace.functions import MAPS
from symcheck.trace.program import BUNDLES, Line, Program

Array = npt.NDArray[Any]
Bundle = dict[str, Array]
Value = Array | Bundle

ATTRIBUTES: Mapping[str, tuple[frozenset[str], frozenset[str]]] = MappingProxyType(
    {
        op: (frozenset(required.split()), frozenset(optional.split()))
        for op, required, optional in (
            ("input", "name", ""),
            ("number", "", "value nonneg"),
            ("array", "rank", ""),
            ("zero", "rank", ""),
            ("eye", "", ""),
            ("random", "rank distribution", ""),
            ("expand", "axes", ""),
            ("contract", "indices out", "mean"),
            ("add", "signs", ""),
            ("map", "fn", "args"),
            ("select", "", ""),
            ("symmetric", "fn axes", ""),
            ("along", "fn axes out", "linear args"),
            ("inverse", "", ""),
            ("eigh", "", ""),
            ("svd", "", ""),
            ("qr", "", ""),
            ("cholesky", "", ""),
            ("expm", "", ""),
            ("part", "part", ""),
            ("round", "dtype", ""),
        )
    }
)
"""The required and the optional attributes of every operation."""


class Arithmetic:
    """Float64: how entries are represented, mapped and factorised. Subclasses replace what depends on the entries."""

    dtype: type = np.float64

    def array(self, data: Any) -> Array:
        """``data`` as an array of this arithmetic."""
        return np.asarray(data, dtype=np.float64)

    def number(self, value: str) -> Array:
        """The rank-0 array of an exact fraction."""
        return self.array(float(Fraction(value)))

    def map(self, fn: str, parameters: Sequence[Fraction | None], operands: Sequence[Array]) -> Array:
        """The elementwise function ``fn`` of the operands."""
        function = MAPS[fn][2]
        return np.asarray(function(*operands, *(None if p is None else float(p) for p in parameters)), dtype=np.float64)

    def mean(self, total: Array, count: int) -> Array:
        """A sum of ``count`` terms, divided by that."""
        return np.asarray(total / count)

    def logsumexp(self, values: Array) -> Array:
        """Over the last axis."""
        return np.asarray(scipy.special.logsumexp(values, axis=-1))

    def rounded(self, op: str, at: Mapping[str, Any], operands: Sequence[Array], value: Array) -> Array:
        """What an operation yields where its value in exact arithmetic is about ``value``."""
        return value

    def inverse(self, matrix: Array) -> Array:
        """Of square matrices; NaN where there is none. So for every factorisation."""
        return _or_nan(np.linalg.inv, matrix)

    def cholesky(self, matrix: Array) -> Array:
        """The lower factor."""
        return _or_nan(np.linalg.cholesky, matrix)

    def expm(self, matrix: Array) -> Array:
        """The matrix exponential."""
        return np.asarray(scipy.linalg.expm(matrix)) if np.isfinite(matrix).all() else np.full_like(matrix, np.nan)

    def eigh(self, matrix: Array) -> Bundle:
        """Of symmetric matrices: ascending eigenvalues."""
        n = matrix.shape[-1]
        if not np.isfinite(matrix).all():
            return {"values": np.full((*matrix.shape[:-2], n), np.nan), "vectors": np.full_like(matrix, np.nan)}
        values, vectors = np.linalg.eigh(matrix)
        return {"values": values, "vectors": vectors}

    def svd(self, matrix: Array) -> Bundle:
        """Reduced: descending singular values."""
        *batch, m, n = matrix.shape
        k = min(m, n)
        if not np.isfinite(matrix).all():
            shapes = {"u": (*batch, m, k), "s": (*batch, k), "vh": (*batch, k, n)}
            return {name: np.full(shape, np.nan) for name, shape in shapes.items()}
        u, s, vh = np.linalg.svd(matrix, full_matrices=False)
        return {"u": u, "s": s, "vh": vh}

    def qr(self, matrix: Array) -> Bundle:
        """Reduced, by Householder reflections."""
        q, r = np.linalg.qr(matrix)
        return {"q": q, "r": r}


def _or_nan(function: Callable[[Array], Array], matrix: Array) -> Array:
    try:
        return function(matrix)
    except np.linalg.LinAlgError:
        return np.full_like(matrix, np.nan)


def interpret(
    program: Program, constants: Mapping[int, Any], inputs: Mapping[str, Any], sizes: Sequence[tuple[int, ...]]
) -> list[Value]:
    """The value of every line in float64: an array, or for a bundle a dict of its parts.

    ``constants`` has the values of ``number``, ``array`` and ``random`` lines (a number that has its value in the
    program needs none), ``inputs`` the arrays by name, ``sizes`` the shape of the value of every line. Where a
    function or factorisation does not exist the value is NaN.

    Raises:
        ValueError: a line is outside the language or does not fit its operands; the line is named.
    """
    return evaluate(program, constants, inputs, sizes, Arithmetic())


def evaluate(
    program: Program,
    constants: Mapping[int, Any],
    inputs: Mapping[str, Any],
    sizes: Sequence[tuple[int, ...]],
    arithmetic: Arithmetic,
) -> list[Value]:
    """`interpret` in any arithmetic."""
    values: list[Value] = []
    with np.errstate(all="ignore"):
        for number, line in enumerate(program.lines):
            try:
                values.append(_line(line, number, values, constants, inputs, tuple(sizes[number]), arithmetic))
            except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
                raise ValueError(f"line {number} ({line.op}): {error or type(error).__name__}") from error
    return values


def _line(
    line: Line,
    number: int,
    values: Sequence[Value],
    constants: Mapping[int, Any],
    inputs: Mapping[str, Any],
    size: tuple[int, ...],
    arithmetic: Arithmetic,
) -> Value:
    if line.op not in ATTRIBUTES:
        raise ValueError("unknown operation")
    required, optional = ATTRIBUTES[line.op]
    at = line.attributes
    if wrong := (required - at.keys()) | (at.keys() - required - optional):
        raise ValueError(f"attribute {min(wrong)!r} is missing or unknown")
    if any(not 0 <= operand < number for operand in line.operands):
        raise ValueError(f"operands {line.operands} are not lines before it")
    if line.op == "part":
        return _part(values[line.operands[0]], at["part"])
    operands = [_plain(values[operand]) for operand in line.operands]
    if line.op == "input":
        result: Value = arithmetic.array(inputs[at["name"]])
    elif line.op in ("number", "array", "random"):
        result = _constant(line, number, constants, arithmetic)
    elif line.op in _SOURCES:
        result = _SOURCES[line.op](size, arithmetic)
    else:
        result = _OPERATIONS[line.op](operands, at, size, arithmetic)
    if isinstance(result, dict):
        return result
    result = arithmetic.rounded(line.op, at, operands, result)
    if result.shape != size or result.ndim != line.rank:
        raise ValueError(f"its value has shape {result.shape}, not {size} of rank {line.rank}")
    return result


def _plain(value: Value) -> Array:
    if isinstance(value, dict):
        raise ValueError("an operand is a bundle; name its part")
    return value


def _part(value: Value, name: str) -> Array:
    if not isinstance(value, dict):
        raise ValueError("its operand is no bundle")
    return value[name]


def _constant(line: Line, number: int, constants: Mapping[int, Any], arithmetic: Arithmetic) -> Array:
    if number in constants:
        return arithmetic.array(constants[number])
    if line.op == "number" and line.attributes.get("value") is not None:
        return arithmetic.number(line.attributes["value"])
    raise ValueError("it has no value in the program and none is given")


def _zero(size: tuple[int, ...], arithmetic: Arithmetic) -> Array:
    return arithmetic.array(np.zeros(size))


def _eye(size: tuple[int, ...], arithmetic: Arithmetic) -> Array:
    rows, cols = size
    return arithmetic.array(np.eye(rows, cols))


_SOURCES = {"zero": _zero, "eye": _eye}


# -- operations: (operands, attributes, size, arithmetic) -> value -----------------------------------------------------


def _expand(operands: Sequence[Array], at: Mapping[str, Any], size: tuple[int, ...], arithmetic: Arithmetic) -> Array:
    (value,) = operands
    if sorted(set(at["axes"])) != sorted(at["axes"]) or len(at["axes"]) + value.ndim != len(size):
        raise ValueError(f"axes {list(at['axes'])} do not extend rank {value.ndim} to {len(size)}")
    for axis in sorted(at["axes"]):
        value = np.expand_dims(value, axis)
    return np.broadcast_to(value, size)


def contract(operands: Sequence[Array], at: Mapping[str, Any], size: tuple[int, ...], arithmetic: Arithmetic) -> Array:
    """The value of a ``contract`` line. ValueError: its indices do not fit the operands."""
    indices, out = [list(letters) for letters in at["indices"]], list(at["out"])
    if len(indices) != len(operands) or not operands:
        raise ValueError(f"indices for {len(indices)} operands, not {len(operands)}")
    lengths: dict[int, int] = {}
    for letters, value in zip(indices, operands, strict=True):
        if len(letters) != value.ndim:
            raise ValueError(f"indices {letters} for an operand of rank {value.ndim}")
        for letter, length in zip(letters, value.shape, strict=True):
            if lengths.setdefault(letter, length) != length:
                raise ValueError(f"letter {letter} stands for sizes {lengths[letter]} and {length}")
    if len(set(out)) != len(out) or not set(out) <= lengths.keys():
        raise ValueError(f"result indices {out} repeat or occur in no operand")
    rename = {letter: position for position, letter in enumerate(lengths)}
    flat: list[Any] = []
    for value, letters in zip(operands, indices, strict=True):
        flat += [value, [rename[letter] for letter in letters]]
    total = np.asarray(np.einsum(*flat, [rename[letter] for letter in out], optimize=len(operands) > 2))
    if not at.get("mean", False):
        return total
    return arithmetic.mean(total, int(np.prod([lengths[letter] for letter in lengths if letter not in out] or [1])))


def _same_shape(operands: Sequence[Array], count: int | None = None) -> None:
    if not operands or (count is not None and len(operands) != count):
        raise ValueError(f"{len(operands)} operands, not {count or 'one or more'}")
    if any(a.shape != b.shape for a, b in pairwise(operands)):
        raise ValueError(f"operands of shapes {[value.shape for value in operands]}")


def _add(operands: Sequence[Array], at: Mapping[str, Any], size: tuple[int, ...], arithmetic: Arithmetic) -> Array:
    _same_shape(operands, len(at["signs"]))
    if any(sign not in (1, -1) for sign in at["signs"]):
        raise ValueError(f"signs {list(at['signs'])}")
    terms = [value if sign == 1 else -value for value, sign in zip(operands, at["signs"], strict=True)]
    return np.asarray(reduce(operator.add, terms))


def _map(operands: Sequence[Array], at: Mapping[str, Any], size: tuple[int, ...], arithmetic: Arithmetic) -> Array:
    if at["fn"] not in MAPS:
        raise ValueError(f"unknown function {at['fn']!r}")
    arity, count, _ = MAPS[at["fn"]]
    _same_shape(operands, arity)
    parameters = [None if text is None else Fraction(text) for text in at.get("args") or ()]
    if len(parameters) != count or (None in parameters and at["fn"] != "clamp"):
        raise ValueError(f"{at['fn']} has {count} parameters, not {list(at.get('args') or ())}")
    return arithmetic.map(at["fn"], parameters, operands)


def _select(operands: Sequence[Array], at: Mapping[str, Any], size: tuple[int, ...], arithmetic: Arithmetic) -> Array:
    _same_shape(operands, 3)
    mask, yes, no = operands
    return np.where(mask != 0, yes, no)


def _symmetric(
    operands: Sequence[Array], at: Mapping[str, Any], size: tuple[int, ...], arithmetic: Arithmetic
) -> Array:
    (value,), axes = operands, list(at["axes"])
    if len(set(axes)) != len(axes) or not set(axes) <= set(range(value.ndim)) or not axes:
        raise ValueError(f"axes {axes} of an operand of rank {value.ndim}")
    kept = [axis for axis in range(value.ndim) if axis not in axes]
    flat = np.transpose(value, kept + axes).reshape([value.shape[axis] for axis in kept] + [-1])
    fn = at["fn"]
    if fn == "sort" and len(axes) == 1:
        return np.sort(flat, axis=-1)
    if fn == "logsumexp":
        return arithmetic.logsumexp(flat)
    if fn not in _SYMMETRIC:
        raise ValueError(f"unknown symmetric function {fn!r} of {len(axes)} axes")
    return arithmetic.array(_SYMMETRIC[fn](flat))


def _median(flat: Array) -> Array:
    # The lower one of two, as in torch.
    middle = np.sort(flat, axis=-1)[..., (flat.shape[-1] - 1) // 2]
    return np.where((flat != flat).any(axis=-1), np.sum(flat, axis=-1), middle)  # a NaN anywhere is the median


_SYMMETRIC: Mapping[str, Callable[[Array], Any]] = {
    "max": lambda flat: np.max(flat, axis=-1),
    "min": lambda flat: np.min(flat, axis=-1),
    "prod": lambda flat: np.prod(flat, axis=-1),
    "any": lambda flat: (flat != 0).any(axis=-1),
    "all": lambda flat: (flat != 0).all(axis=-1),
    "median": _median,
}


def _along(operands: Sequence[Array], at: Mapping[str, Any], size: tuple[int, ...], arithmetic: Arithmetic) -> Array:
    return arithmetic.array(apply_along(at["fn"], at.get("args") or {}, operands, at["axes"], at["out"]))


def _factor(op: str) -> Callable[[Sequence[Array], Mapping[str, Any], tuple[int, ...], Arithmetic], Value]:
    def run(operands: Sequence[Array], at: Mapping[str, Any], size: tuple[int, ...], arithmetic: Arithmetic) -> Value:
        (matrix,) = operands
        if matrix.ndim < 2 or (op not in ("svd", "qr") and matrix.shape[-1] != matrix.shape[-2]):
            raise ValueError(f"shape {matrix.shape} is not one of matrices that have it")
        result: Value = getattr(arithmetic, op)(matrix)
        return result

    return run


def _round(operands: Sequence[Array], at: Mapping[str, Any], size: tuple[int, ...], arithmetic: Arithmetic) -> Array:
    (value,) = operands
    return value


_OPERATIONS: Mapping[str, Callable[[Sequence[Array], Mapping[str, Any], tuple[int, ...], Arithmetic], Value]] = {
    "expand": _expand,
    "contract": contract,
    "add": _add,
    "map": _map,
    "select": _select,
    "symmetric": _symmetric,
    "along": _along,
    "round": _round,
    **{op: _factor(op) for op in ("inverse", "cholesky", "expm", *BUNDLES)},
}
