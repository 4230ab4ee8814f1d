"""``torch.optim`` front ends for training, e.g. ``reference.fast.optimizers.Muon(params, precision="bfloat16")``.

One class per rule, with the name, hyper-parameters, state and checkpoints of its namesake in `reference.optimizers`,
and the formula too: the rule itself, called on stacks of parameters. Only polynomial orthogonalisers are replaced, by
the same polynomials in another precision; exact polar factors and coupled inverse roots stay what they are, in the
dtype of the parameter. Parameters may be ``DTensor`` (FSDP2, tensor and expert parallelism), see
`reference.fast.sharding`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from reference.fast import sharding
from reference.fast.execution import Execution, as_execution
from reference.fast.precision import Precision
from reference.fast.step import advance, move, pieces, reads_weight, stacked, store
from reference.optimizers import (
    COMPUTE_DTYPE,
    RuleBasedOptimizer,
    RuleOptimizer,
    as_matrices,
    gradient_of,
    initial_state,
)
from reference.optimizers import (
    OPTIMIZERS as REFERENCE,
)
from reference.rule import Rule
from reference.stack import Assignment, LayerwiseOptimizer


class FastSteps(RuleBasedOptimizer):
    """Replaces how a `RuleBasedOptimizer` carries out a step; its rules, groups and checkpoints stay."""

    execution: Execution

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "execution": self.execution}

    def _stacks(self, rule: Rule, parameters: Sequence[Tensor]) -> list[list[Tensor]]:
        """As in the base class, equal in sharding too, and no larger than the execution allows."""
        stacks: dict[Any, list[Tensor]] = {}
        for parameter in parameters:
            if parameter not in self.state or not self.state[parameter]:
                self.state[parameter] = _fresh_state(rule, parameter)
            counts = tuple(item for item in self.state[parameter].items() if not isinstance(item[1], Tensor))
            placement = (parameter.device_mesh, parameter.placements) if isinstance(parameter, DTensor) else None
            key = (parameter.shape, parameter.dtype, parameter.device, placement, counts)
            stacks.setdefault(key, []).append(parameter)
        return [chunk for stack in stacks.values() for chunk in self._chunks(stack)]

    def _chunks(self, stack: Sequence[Tensor]) -> list[list[Tensor]]:
        first = stack[0]
        count = self.execution.bytes_at_a_time(first.device) // max(1, _bytes(first))
        if isinstance(first, DTensor):  # so that every rank gets as many whole matrices
            ranks = first.device_mesh.size()
            count = max(1, count // ranks) * ranks
        count = max(1, count)
        return [list(stack[start : start + count]) for start in range(0, len(stack), count)]

    def _step_stack(self, rule: Rule, parameters: Sequence[Tensor], maximize: bool) -> None:
        rule = self.execution.apply(rule)
        states = [self.state[parameter] for parameter in parameters]
        if self.execution.low_precision_state:
            _cast(states, parameters[0].dtype)
        with self.execution.float32_products():
            if not isinstance(parameters[0], DTensor):
                grads = [gradient_of(parameter) for parameter in parameters]
                self._step_pieces(rule, parameters, grads, states, maximize)
            elif sharding.runs_on_shards(rule, parameters[0], states[0]):
                with sharding.shards(parameters, states) as local:
                    self._step_pieces(rule, *local, maximize)
            else:
                sharding.step_together(rule, parameters, states, maximize)

    def _step_pieces(
        self,
        rule: Rule,
        parameters: Sequence[Tensor],
        grads: Sequence[Tensor],
        states: Sequence[dict[str, Any]],
        maximize: bool,
    ) -> None:
        """Steps the parameters as a whole, or cut along their first axis if they are large and the rule allows it."""
        size = self.execution.bytes_at_a_time(parameters[0].device)
        first = parameters[0]
        if len(parameters) > 1 or _bytes(first) <= size or sharding.couples_first_axis(rule, first.ndim):
            _step_tensors(rule, parameters, grads, states, maximize)
            return
        (parameter,), (grad,), (state,) = parameters, grads, states
        entries = size // COMPUTE_DTYPE[parameter.dtype].itemsize
        part = state
        for rows in pieces(parameter, state, entries):
            part = {key: value[rows] if isinstance(value, Tensor) else value for key, value in state.items()}
            _step_tensors(rule, [parameter[rows]], [grad[rows]], [part], maximize)
        for key in state.keys() - part.keys():
            del state[key]
        state.update({key: value for key, value in part.items() if not isinstance(value, Tensor)})


def _bytes(parameter: Tensor) -> int:
    """The size of a parameter in the precision of the computation; of a sharded one, of its mean shard.

    Ranks may have shards of different sizes, and must come to the same conclusions.
    """
    ranks = parameter.device_mesh.size() if isinstance(parameter, DTensor) else 1
    return -(-parameter.numel() // ranks) * COMPUTE_DTYPE[parameter.dtype].itemsize


def _fresh_state(rule: Rule, parameter: Tensor) -> dict[str, Any]:
    if isinstance(parameter, DTensor):
        return sharding.fresh_state(rule, parameter)
    return initial_state(rule, parameter, parameter.device)


def _cast(states: Sequence[dict[str, Any]], dtype: torch.dtype) -> None:
    for state in states:
        state.update({key: value.to(dtype) for key, value in state.items() if isinstance(value, Tensor)})


def _step_tensors(
    rule: Rule,
    parameters: Sequence[Tensor],
    grads: Sequence[Tensor],
    states: Sequence[dict[str, Any]],
    maximize: bool,
) -> None:
    dtype = COMPUTE_DTYPE[parameters[0].dtype]
    grad = _matrices(grads, dtype)
    state = {
        key: _matrices([each[key] for each in states], dtype) if isinstance(value, Tensor) else value
        for key, value in states[0].items()
    }
    weight = _matrices(parameters, dtype) if reads_weight(rule) else None
    step, factor, new = advance(rule, -grad if maximize else grad, state, weight)
    move(parameters, step, factor)
    store(states, new)


def _matrices(tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    return stacked([as_matrices(tensor) for tensor in tensors], dtype)


class FastRuleOptimizer(FastSteps, RuleOptimizer):
    """One rule for all parameters; the base of the generated classes."""

    def __init__(
        self,
        params: Any,
        lr: float | Tensor | None = None,
        *,
        precision: Precision | Execution = "bfloat16",
        maximize: bool = False,
        **hyper: Any,
    ) -> None:
        self.execution = as_execution(precision)
        super().__init__(params, lr, maximize=maximize, **hyper)


class FastLayerwiseOptimizer(FastSteps, LayerwiseOptimizer):
    """The layerwise optimizer for training, made by ``reference.build_stack(model, precision=...)``."""

    def __init__(
        self, assignments: Sequence[Assignment], *, precision: Precision | Execution, maximize: bool = False
    ) -> None:
        self.execution = as_execution(precision)
        super().__init__(assignments, maximize=maximize)


def _fast_class(reference: type[RuleOptimizer]) -> type[FastRuleOptimizer]:
    """The fast front end with the signature and docstring of its reference."""
    signature = inspect.signature(reference)
    precision = inspect.Parameter("precision", inspect.Parameter.KEYWORD_ONLY, default="bfloat16")
    namespace = {
        "rule_type": reference.rule_type,
        "__module__": __name__,
        "__qualname__": reference.__name__,
        "__doc__": f"{inspect.getdoc(reference)}\n\nFast: ``precision`` is a name or an `Execution`.",
        "__signature__": signature.replace(parameters=[*signature.parameters.values(), precision]),
    }
    return type(reference.__name__, (FastRuleOptimizer,), namespace)


OPTIMIZERS: Mapping[str, type[FastRuleOptimizer]] = {name: _fast_class(each) for name, each in REFERENCE.items()}
"""The fast front end of every rule, by the rule's name."""

globals().update({optimizer.__name__: optimizer for optimizer in OPTIMIZERS.values()})

__all__ = ["OPTIMIZERS", "Execution", "FastLayerwiseOptimizer", "FastRuleOptimizer", "FastSteps"]
__all__ += sorted(optimizer.__name__ for optimizer in OPTIMIZERS.values())

if TYPE_CHECKING:

    def __getattr__(name: str) -> type[FastRuleOptimizer]: ...
