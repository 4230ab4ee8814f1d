"""Steps of parameters that are sharded over the ranks of a device mesh (``DTensor``).

A rule couples the entries of a weight along some of its axes: `coupled_axes`. Three ways to run it follow.

- **local**: no sharded axis is coupled. Every rank steps its own shard and nothing is communicated. Coordinate-wise
  rules always, row normalisation with sharded rows, everything with sharded experts.
- **reducing**: sums are all that crosses the shards (`reduces`). The rule runs on ``DTensor`` stacks, and what is
  communicated are its sums: the squared norms of rows whose columns are sharded, the column means of centring (of
  shards of equal size; ``DTensor`` gathers uneven ones for a mean).
- **dealt**: everything else, in particular every polar factor. The stack ``(k, m, n)``, sharded along ``m`` or ``n``,
  is redistributed to be sharded along ``k``: every rank gets ``k / ranks`` whole matrices, steps them, and their
  displacements go back. Each entry travels once to its matrix and once back, for the gradient and for every state
  tensor. Matrices of one shape are dealt evenly; a single one occupies one rank.

All three compute the rule on whole matrices up to the order of sums. A rule that is not listed in the tables is dealt,
which is always right.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard, distribute_tensor
from torch.overrides import TorchFunctionMode

from reference.fast.step import advance, move, reads_weight, stacked, store
from reference.optimizers import COMPUTE_DTYPE, as_matrices, gradient_of, initial_state
from reference.rule import Rule
from reference.rules.adam import Adam, AdamW
from reference.rules.adaptive import AdaGrad, AdaGradNorm, RMSprop
from reference.rules.experts import ExpertHybrid, ExpertRowNorm
from reference.rules.row_norm import RowNorm
from reference.rules.scion import Scion
from reference.rules.sgd import SGD
from reference.rules.sign import Lion, SignSGD, Signum

Way = Literal["local", "reducing", "dealt"]

_COORDINATE_WISE: frozenset[type[Rule]] = frozenset({SGD, SignSGD, Signum, Lion, Adam, AdamW, RMSprop, AdaGrad})
_ALL = frozenset({-1, -2})


def coupled_axes(rule: Rule) -> frozenset[int]:
    """The axes of the stored weight (-1 columns, -2 rows, -3 experts) along which entries influence each other.

    An axis whose size enters the formula counts as coupled. By exact type: a subclass may couple more.
    """
    kind = type(rule)
    if kind in _COORDINATE_WISE:
        return frozenset()
    if isinstance(rule, Scion) and kind is Scion and rule.norm == "sign":
        return frozenset({-1})
    if isinstance(rule, RowNorm) and kind in (RowNorm, ExpertRowNorm) and rule.orientation in ("row", "col"):
        along = -1 if rule.orientation == "row" else -2
        return _ALL if rule.center_rows else frozenset({along})
    if isinstance(rule, ExpertHybrid) and rule.shared_scale:
        return _ALL | {-3}
    return _ALL


def reduces(rule: Rule) -> bool:
    """Whether entries influence each other through sums alone, so that the rule can run on sharded stacks."""
    kind = type(rule)
    if isinstance(rule, RowNorm) and kind in (RowNorm, ExpertRowNorm):
        return rule.orientation in ("row", "col")
    return kind is AdaGradNorm or (
        isinstance(rule, Scion) and kind is Scion and rule.norm in ("row", "col", "bias_rms")
    )


def way(rule: Rule, placements: Sequence[Placement], ndim: int) -> Way:
    """How a rule steps weights with ``ndim`` axes that lie on a mesh by ``placements``."""
    sharded = {_matrix_axis(place, ndim) - max(ndim, 2) for place in placements if isinstance(place, Shard)}
    if not sharded & coupled_axes(rule):
        return "local"
    return "reducing" if reduces(rule) else "dealt"


def fresh_state(rule: Rule, parameter: DTensor) -> dict[str, Any]:
    """The rule's first state, every tensor sharded like the parameter along the axes that it shares with it.

    Raises:
        ValueError: a placement that is not supported.
    """
    for place in parameter.placements:
        _matrix_axis(place, parameter.ndim)
    entries = initial_state(rule, torch.empty(parameter.shape, dtype=parameter.dtype, device="meta"), "meta")
    if any(isinstance(value, Tensor) for value in entries.values()):
        device = parameter.to_local().device
        entries = initial_state(rule, torch.empty(parameter.shape, dtype=parameter.dtype, device=device), device)
    return {
        # From the first rank to all others, which may have drawn other random numbers.
        key: distribute_tensor(value, parameter.device_mesh, _placements_of(value, parameter))
        if isinstance(value, Tensor)
        else value
        for key, value in entries.items()
    }


def couples_first_axis(rule: Rule, ndim: int) -> bool:
    """Whether entries of a weight with ``ndim`` axes influence each other along the first."""
    return ndim == 0 or {1: -1, 3: -3}.get(ndim, -2) in coupled_axes(rule)


def runs_on_shards(rule: Rule, parameter: DTensor, state: Mapping[str, Any]) -> bool:
    """Whether every rank can step its shard of the parameter by itself: the way is local, and the state lies alike."""
    arrays = [value for value in state.values() if isinstance(value, DTensor)]
    alike = all(value.placements == parameter.placements for value in arrays)
    return alike and way(rule, parameter.placements, parameter.ndim) == "local"


@contextlib.contextmanager
def shards(
    parameters: Sequence[Tensor], states: Sequence[dict[str, Any]]
) -> Iterator[tuple[list[Tensor], list[Tensor], list[dict[str, Any]]]]:
    """This rank's shards of parameters, gradients and states; at the end, the states are what became of theirs.

    Gradients that are not sharded like their parameter, unreduced ones included, are redistributed first.
    """
    grads = [_like(gradient_of(parameter), parameter).to_local() for parameter in parameters]
    local = [_local_state(each) for each in states]
    yield [parameter.to_local() for parameter in parameters], grads, local  # type: ignore[attr-defined]
    for state, part in zip(states, local, strict=True):
        _keep(state, part)


def step_together(rule: Rule, parameters: Sequence[Tensor], states: Sequence[dict[str, Any]], maximize: bool) -> None:
    """One step of sharded parameters of one shape and placement, with communication.

    Collective: every rank of the mesh must come here with the same parameters.
    """
    first = parameters[0]
    assert isinstance(first, DTensor)
    dtype = COMPUTE_DTYPE[first.dtype]
    grad = _stack([_like(gradient_of(parameter), parameter) for parameter in parameters], dtype)
    state = {
        key: _stack([each[key] for each in states], dtype) if isinstance(value, Tensor) else value
        for key, value in states[0].items()
    }
    weight = _stack(parameters, dtype) if reads_weight(rule) else None
    reducing = way(rule, first.placements, first.ndim) == "reducing"
    enter, leave = _passage(reducing, grad)
    gradient = -enter(grad) if maximize else enter(grad)
    entered = {key: enter(value) if isinstance(value, DTensor) else value for key, value in state.items()}
    with _CompleteSums() if reducing else contextlib.nullcontext():
        step, factor, new = advance(rule, gradient, entered, None if weight is None else enter(weight))
    move([parameter.to_local() for parameter in parameters], leave(step, grad), factor)  # type: ignore[attr-defined]
    local = [_local_state(each) for each in states]
    store(local, {key: leave(value, state[key]) if isinstance(value, Tensor) else value for key, value in new.items()})
    for each, part in zip(states, local, strict=True):
        _keep(each, part)


def _local_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """This rank's part of a state, sharing memory with it."""
    return {key: value.to_local() if isinstance(value, DTensor) else value for key, value in state.items()}


def _keep(state: dict[str, Any], local: Mapping[str, Any]) -> None:
    """Makes ``local`` this rank's part of ``state``."""
    for key in state.keys() - local.keys():
        del state[key]
    for key, value in local.items():
        old = state[key]
        state[key] = (
            DTensor.from_local(
                value, old.device_mesh, old.placements, run_check=False, shape=old.shape, stride=old.stride()
            )
            if isinstance(old, DTensor)
            else value
        )


Enter: TypeAlias = Callable[[DTensor], Tensor]
Leave: TypeAlias = Callable[[Tensor, DTensor], Tensor]


def _passage(reducing: bool, grad: DTensor) -> tuple[Enter, Leave]:
    """How stacks get to where the rule runs, and how its results get back to the shards of a stack like the second."""
    if reducing:
        return (lambda stack: stack), (lambda result, like: _redistributed(result, like.placements).to_local())
    mesh = grad.device_mesh
    dealt = [Shard(0)] * mesh.ndim

    def leave(result: Tensor, like: DTensor) -> Tensor:
        whole = DTensor.from_local(result, mesh, dealt, run_check=False, shape=like.shape, stride=like.stride())
        return _redistributed(whole, like.placements).to_local()

    return (lambda stack: _redistributed(stack, dealt).to_local()), leave


class _CompleteSums(TorchFunctionMode):
    """Inside, a sum over a sharded axis is completed as soon as it is formed.

    Left to itself ``DTensor`` may keep the shares and gather what they are subtracted from, a whole matrix.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, DTensor) and any(isinstance(place, Partial) for place in result.placements):
            complete = [Replicate() if isinstance(place, Partial) else place for place in result.placements]
            return result.redistribute(placements=complete)
        return result


def _redistributed(stack: Tensor, placements: Sequence[Placement]) -> DTensor:
    assert isinstance(stack, DTensor)
    return stack.redistribute(placements=list(placements))


def _like(grad: Tensor, parameter: Tensor) -> DTensor:
    """A gradient placed like its parameter."""
    assert isinstance(parameter, DTensor)
    if not isinstance(grad, DTensor) or grad.device_mesh != parameter.device_mesh:
        raise TypeError(
            f"the gradient of a sharded parameter of shape {tuple(parameter.shape)} must be a DTensor on the same "
            "mesh; wrap it with DTensor.from_local"
        )
    return grad.redistribute(placements=parameter.placements)


def _stack(tensors: Sequence[Tensor], dtype: torch.dtype) -> DTensor:
    """Equally placed ``DTensor`` as one stack ``(k, m, n)``; this rank's part is a view where `stacked` can make it."""
    first = tensors[0]
    assert isinstance(first, DTensor)
    local = stacked([as_matrices(each.to_local()) for each in tensors], dtype)  # type: ignore[attr-defined]
    shape = torch.Size((len(tensors), *_matrix_shape(first.shape)))
    return DTensor.from_local(
        local,
        first.device_mesh,
        [
            Shard(_matrix_axis(place, first.ndim) + 1) if isinstance(place, Shard) else place
            for place in first.placements
        ],
        run_check=False,
        shape=shape,
        stride=_contiguous_stride(shape),
    )


def _matrix_shape(shape: torch.Size) -> torch.Size:
    return as_matrices(torch.empty(shape, device="meta")).shape


def _contiguous_stride(shape: torch.Size) -> tuple[int, ...]:
    return torch.empty(shape, device="meta").stride()


def _matrix_axis(place: Placement, ndim: int) -> int:
    """The axis of the matrix, or stack, that a placement of a tensor with ``ndim`` axes shards."""
    if type(place) is Replicate:
        return 0
    if type(place) is not Shard or (ndim > 3 and place.dim != 0):
        raise ValueError(
            f"a parameter with {ndim} axes placed by {place} cannot be stepped; "
            "use Shard or Replicate, and Shard(0) for more than three axes"
        )
    return place.dim + 1 if ndim < 2 else place.dim


def _placements_of(value: Tensor, parameter: DTensor) -> list[Placement]:
    """Where a state tensor lies: sharded along the axes whose size it has in common with the parameter."""
    return [
        place
        if isinstance(place, Shard)
        and value.ndim == parameter.ndim
        and value.shape[place.dim] == parameter.shape[place.dim]
        else Replicate()
        for place in parameter.placements
    ]
