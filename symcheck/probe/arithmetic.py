"""Arithmetic in which a candidate is executed: as it is, with its casts undone, or with every rounding randomised.

A candidate is arbitrary code. What belongs to its mathematics and what to its rounding is told apart by running the
same code in another arithmetic, underneath torch's dispatcher:

- *promotion*: every cast to a floating-point type below float64, and every such factory, is rewritten to float64. What
  remains of a defect then is structure; what disappears was rounding (bfloat16 inside Newton-Schulz).
- *noise*: Monte Carlo arithmetic (Parker 1997). Each rounded operation is perturbed by a few units in the last
  place. The spread of several such runs is the noise floor of that very input: it contains the conditioning of the
  computation and every decision that rounding could have turned.

The noise keeps what floating-point arithmetic keeps. An elementwise operation gives equal results for equal operands
and opposite results for opposite ones, so its noise is a hash of the magnitude. A contraction depends on the order of
summation, so its operands are perturbed independently. A factorisation is backward stable normwise, not entrywise, so
its operand receives noise of the size of its largest entry.

A third arithmetic answers a question that noise cannot: eigenvectors of a repeated eigenvalue, and singular vectors
likewise, are determined up to a rotation only. *Regauging* replaces them by another valid choice. A rule whose update
changes then is not a function of its input, however reproducible one library's choice may be.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

AMPLITUDE = 2.0**-51
"""Largest relative perturbation of one operation: four unit roundoffs of float64."""

ROUNDOFF = {
    torch.float32: 2.0**-24,
    torch.float16: 2.0**-11,
    torch.bfloat16: 2.0**-8,
    torch.float8_e4m3fn: 2.0**-4,
    torch.float8_e5m2: 2.0**-3,
}
"""Unit roundoff of the floating-point types below float64; promotion rewrites them to float64."""
LOW_PRECISION = frozenset(ROUNDOFF)

# Operations whose result is exact: they move, select or compare values, or build constants. Views are recognised by
# schema.
_EXACT = frozenset(
    """
    clone copy_ _to_copy copy zeros zeros_like new_zeros ones ones_like new_ones full full_like new_full fill
    fill_ zero_ eye arange empty empty_like new_empty empty_strided new_empty_strided empty_permuted scalar_tensor
    lift_fresh lift_fresh_copy abs abs_ neg neg_ sign sign_ sgn sgn_ maximum minimum max min amax amin aminmax
    clamp clamp_ clamp_min clamp_min_ clamp_max clamp_max_ sort argsort topk kthvalue median where masked_fill
    masked_fill_ masked_select index index_select gather take take_along_dim
    cat stack repeat roll flip tril triu tril_ triu_ diag_embed floor ceil round trunc eq ne lt le gt ge isnan
    isinf isfinite any all logical_and logical_or logical_not relu relu_ copysign nonzero argmax argmin
    count_nonzero unique2 constant_pad_nd _local_scalar_dense item equal is_nonzero block_diag _foreach_abs
    _foreach_abs_ _foreach_neg _foreach_neg_ _foreach_sign _foreach_sign_ _foreach_copy_ _foreach_zero_
    _foreach_maximum _foreach_maximum_ _foreach_minimum _foreach_minimum_ _foreach_clamp_min _foreach_clamp_min_
    _foreach_clamp_max _foreach_clamp_max_ _reshape_alias alias detach set_ resize_ as_strided_ t_ transpose_
    squeeze_ unsqueeze_ nan_to_num nan_to_num_ threshold heaviside signbit
    """.split()  # noqa: SIM905 - a table of words
)
# Sums of products: the rounding depends on the order of summation.
_CONTRACTIONS = frozenset(
    """
    mm bmm addmm addmm_ addmv addmv_ addbmm baddbmm baddbmm_ addr dot vdot mv matmul linear sum mean nansum var
    var_mean std std_mean norm linalg_vector_norm _foreach_norm cumsum prod cumprod trace logsumexp _softmax
    _log_softmax dist _euclidean_dist cdist convolution native_layer_norm
    """.split()  # noqa: SIM905 - a table of words
)
_APPROXIMATE = frozenset({"linalg_matrix_exp", "matrix_exp"})
APPROXIMATE = 2.0**-40
"""Relative error granted to functions that stop short of rounding: torch's matrix exponential is off by 8e-14 at norm
0.01, where a change of basis changes the degree of its polynomial."""
_FACTORISATIONS = frozenset({"aten::_linalg_eigh", "aten::_linalg_svd"})
_EQUAL = 1e-9
"""Eigenvalues closer than this, relative to the largest, span one eigenspace: far above rounding, far below any gap."""
_ESCAPES = frozenset({"numpy", "tolist", "__array__", "__dlpack__", "item", "__float__"})
"""Ways in which floating-point values leave torch: what is computed with them elsewhere rounds unseen."""


@dataclass
class Census:
    """What a run was seen to do: lower precisions computed in, random operations, exits from torch."""

    casts: set[str] = field(default_factory=set)
    random: set[str] = field(default_factory=set)
    escapes: set[str] = field(default_factory=set)
    factorises: bool = False
    """Whether eigenvectors or singular vectors are computed."""


@dataclass(frozen=True)
class Arithmetic:
    """How to execute a candidate: ``promote`` its casts to float64, perturb every rounding from the seed ``noise``.

    ``census`` records what was seen; it costs time, so it is for one run and not for all. ``gauge`` draws another
    basis for every eigenspace of a repeated eigenvalue from this seed; with ``turn`` false it only perturbs the
    vectors by rounding, which is the control of that experiment.
    """

    promote: bool = False
    noise: int | None = None
    census: Census | None = None
    gauge: int | None = None
    turn: bool = True

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Execute the body of the ``with`` statement in this arithmetic."""
        with contextlib.ExitStack() as stack:
            if self.promote:
                stack.enter_context(_default_dtype(torch.float64))
            if self.census is not None:
                stack.enter_context(_EscapeWatch(self.census))
                stack.enter_context(thread_watch(self.census))
            if self.promote or self.noise is not None or self.census is not None or self.gauge is not None:
                stack.enter_context(_Dispatch(self))
            yield


PLAIN = Arithmetic()


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def thread_watch(census: Census) -> Iterator[None]:
    """Notice threads that are started in the body of the ``with`` statement."""
    # Dispatch modes belong to one thread: whatever another one computes is computed unseen.
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit

    def noticed(thread: threading.Thread) -> None:
        census.escapes.add("threads")
        start(thread)

    def submitted(pool: ThreadPoolExecutor, *args: Any, **kwargs: Any) -> Any:
        census.escapes.add("threads")
        return submit(pool, *args, **kwargs)

    ThreadPoolExecutor.submit = submitted  # type: ignore[assignment, method-assign]
    threading.Thread.start = noticed  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]
        ThreadPoolExecutor.submit = submit  # type: ignore[method-assign]


class _EscapeWatch(TorchFunctionMode):
    """Notices values that leave torch, where neither promotion nor noise can follow them."""

    def __init__(self, census: Census) -> None:
        super().__init__()
        self.census = census

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in _ESCAPES and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64:
            self.census.escapes.add(name)
        return func(*args, **(kwargs or {}))


class _Dispatch(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing here is compiled; the wrapper that would say so costs more than most operations.
        return False

    def __init__(self, arithmetic: Arithmetic) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.arithmetic = arithmetic
        self.generator: torch.Generator | None = None
        seed = arithmetic.noise if arithmetic.noise is not None else arithmetic.gauge
        if seed is not None:
            self.generator = torch.Generator().manual_seed(seed)
            self.key = 2.0**54 * (1 + float(torch.rand((), generator=self.generator)))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if self.arithmetic.promote and kwargs.get("dtype") in LOW_PRECISION:
            kwargs["dtype"] = torch.float64
        if self.arithmetic.census is not None:
            out = func(*args, **kwargs)
            self._record(self.arithmetic.census, func, (args, kwargs), out)
            return out
        if self.generator is None:
            return func(*args, **kwargs)
        if self.arithmetic.gauge is not None:
            return self._regauged(func, func(*args, **kwargs))
        return self._perturbed(func, args, kwargs)

    @staticmethod
    def _record(census: Census, func: Any, operands: Any, out: Any) -> None:
        if torch.Tag.nondeterministic_seeded in func.tags:
            census.random.add(str(func.overloadpacket))
        census.factorises |= func._schema.name in _FACTORISATIONS

        def look(value: torch.Tensor) -> torch.Tensor:
            # A zero-dimensional step counter is float32 in torch's own optimizers and is not a rounding of the update,
            # unless it was computed from something finer. A meta tensor has a dtype but no values.
            if value.dtype in LOW_PRECISION and not value.is_meta and (value.dim() > 0 or _has_float64(operands)):
                census.casts.add(str(value.dtype).removeprefix("torch."))
            return value

        _on_tensors(look, out)

    def _perturbed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        operation = _operation(func)
        if operation.exact:
            return func(*args, **kwargs)
        written = operation.written_tensors(args, kwargs)
        noise = self._hashed
        if operation.contraction or operation.factorisation:
            noise = self._independent
            perturb = self._normwise if operation.factorisation else self._independent

            def perturbed(value: torch.Tensor) -> torch.Tensor:
                return value if any(value is other for other in written) else perturb(value)

            args = tuple(_on_tensors(perturbed, arg) for arg in args)
            kwargs = {key: _on_tensors(perturbed, value) for key, value in kwargs.items()}
        out = func(*args, **kwargs)
        if operation.approximate:
            return _on_tensors(lambda value: self._normwise(value, APPROXIMATE), out)
        if not written:
            return _on_tensors(noise, out)
        for tensor in written:
            if tensor.dtype == torch.float64:
                tensor.copy_(noise(tensor))
        return out

    def _regauged(self, func: Any, out: Any) -> Any:
        if func._schema.name not in _FACTORISATIONS:
            return out
        if not self.arithmetic.turn:
            return _on_tensors(self._independent, out)
        if func._schema.name == "aten::_linalg_eigh":
            values, vectors = out
            return values, self._turned(values, vectors, vectors.mT)[0]
        left, values, right = out
        left, right = self._turned(values, left, right)
        return left, values, right

    def _turned(
        self, values: torch.Tensor, left: torch.Tensor, right: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Columns of ``left`` and rows of ``right`` rotated within each cluster of equal values; those of value zero
        are not tied to each other and turn independently."""
        left, right = left.clone(), right.clone()
        for index in itertools.product(*(range(extent) for extent in values.shape[:-1])):
            top = float(values[index].abs().max())
            start = 0
            for stop in range(1, values.shape[-1] + 1):
                if (
                    stop < values.shape[-1]
                    and float((values[index][stop] - values[index][stop - 1]).abs()) <= _EQUAL * top
                ):
                    continue
                turn = self._rotation(stop - start).to(left)
                left[index][:, start:stop] = left[index][:, start:stop] @ turn
                if float(values[index][start].abs()) <= _EQUAL * top:
                    turn = self._rotation(stop - start).to(left)
                right[index][start:stop] = turn.mT @ right[index][start:stop]
                start = stop
        return left, right

    def _rotation(self, size: int) -> torch.Tensor:
        drawn = torch.randn((size, size), generator=self.generator, dtype=torch.float64)
        return torch.linalg.qr(drawn).Q if size > 1 else torch.ones((1, 1), dtype=torch.float64)

    def _independent(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype == torch.complex128:
            return torch.view_as_complex(self._independent(torch.view_as_real(x)))
        if x.dtype != torch.float64:
            return x
        return self._uniform(x).add_(1.0).mul_(x)

    def _normwise(self, x: torch.Tensor, amplitude: float = AMPLITUDE) -> torch.Tensor:
        if x.dtype != torch.float64 or x.numel() == 0:
            return x
        return self._uniform(x).mul_(x.abs().amax() * (amplitude / AMPLITUDE)).add_(x)

    def _uniform(self, x: torch.Tensor) -> torch.Tensor:
        """Uniform numbers between plus and minus the amplitude, in the shape and on the device of ``x``."""
        drawn = torch.empty(x.shape, dtype=torch.float64).uniform_(-AMPLITUDE, AMPLITUDE, generator=self.generator)
        return drawn.to(x.device)

    def _hashed(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype == torch.complex128:
            return torch.view_as_complex(self._hashed(torch.view_as_real(x)))
        if x.dtype != torch.float64:
            return x
        # Noise as a function of |x|: equal values stay equal, opposite values stay opposite, and neighbours one unit in
        # the last place apart get unrelated noise, because the cosine runs through whole radians between them.
        mantissa = torch.frexp(x).mantissa
        factor = mantissa.mul_(self.key).cos_().mul_(AMPLITUDE).add_(1.0)
        return factor.nan_to_num_(nan=1.0).mul_(x)  # an infinity has no mantissa, and stays what it is


def _has_float64(operands: Any) -> bool:
    found = False

    def look(value: torch.Tensor) -> torch.Tensor:
        nonlocal found
        found |= value.dtype == torch.float64
        return value

    tree_map_only(torch.Tensor, look, operands)
    return found


def _on_tensors(function: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    if isinstance(value, torch.Tensor):  # by far the most common, and much cheaper than a walk
        return function(value)
    if isinstance(value, (list, tuple)):
        return tree_map_only(torch.Tensor, function, value)
    return value


@dataclass(frozen=True)
class _Operation:
    """What one overload does to the numbers that pass through it."""

    exact: bool
    contraction: bool
    factorisation: bool
    approximate: bool
    writes: tuple[tuple[int, str], ...]
    """Position and name of the arguments that it overwrites, be it in place, through ``out=`` or as ``_foreach_``."""

    def written_tensors(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
        """The tensors that a call overwrites."""
        written: list[torch.Tensor] = []
        for position, name in self.writes:
            value = args[position] if position < len(args) else kwargs.get(name)
            if isinstance(value, torch.Tensor):
                written.append(value)
            elif isinstance(value, (list, tuple)):
                written.extend(item for item in value if isinstance(item, torch.Tensor))
        return written


@functools.cache
def _operation(func: Any) -> _Operation:
    schema = func._schema
    name = schema.name.removeprefix("aten::")
    is_view = any(ret.alias_info is not None and not ret.alias_info.is_write for ret in schema.returns)
    contraction = name in _CONTRACTIONS or name.startswith("_fft")
    return _Operation(
        exact=name in _EXACT or is_view,
        contraction=contraction,
        factorisation=not contraction and ("linalg" in name or name in {"cholesky", "inverse", "svd", "geqrf"}),
        approximate=name in _APPROXIMATE,
        writes=tuple(
            (position, argument.name)
            for position, argument in enumerate(schema.arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
        ),
    )
