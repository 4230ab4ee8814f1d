"""One step of a rule on a stack of parameters, with as few copies as the formula allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from reference.rule import GradientRule, Rule


def reads_weight(rule: Rule) -> bool:
    """Whether the displacement depends on the weight; for a rule of gradients, only through its decay."""
    kind = type(rule)
    plain = isinstance(rule, GradientRule) and kind.displacement is GradientRule.displacement
    return not plain or kind.update is not Rule.update or rule.decay_rate != 0


def advance(
    rule: Rule, grad: Tensor, state: Mapping[str, Any], weight: Tensor | None
) -> tuple[Tensor, float, dict[str, Any]]:
    """``(step, factor, new state)``: the displacement is ``factor * step``, for ``grad`` of shape ``(k, m, n)``.

    ``weight`` may be None if the rule does not read it. Writes to no argument.
    """
    if weight is None:
        assert isinstance(rule, GradientRule)
        step, new = rule.direction(grad, dict(state))
        factor = -rule.lr
    else:
        step, new = rule.update(grad, dict(state), weight)
        factor = 1.0
    return step, factor, new


def stacked(tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Tensors of one shape as ``(k, ...)`` in ``dtype``, for reading: a view if they are a stack already, else a copy.

    They are if they are the blocks, in order, of one tensor, as an earlier step leaves the states (`store`).
    """
    first, count = tensors[0], len(tensors)
    if first.dtype == dtype:
        if count == 1:
            return first.unsqueeze(0)
        if _in_a_row(tensors):
            return first.as_strided((count, *first.shape), (first.numel(), *first.stride()))
    stack = torch.empty((count, *first.shape), dtype=dtype, device=first.device)
    torch._foreach_copy_(list(stack.unbind()), list(tensors))
    return stack


def _in_a_row(tensors: Sequence[Tensor]) -> bool:
    base, start = tensors[0]._base, tensors[0].storage_offset()
    return base is not None and all(
        each._base is base and each.is_contiguous() and each.storage_offset() == start + index * each.numel()
        for index, each in enumerate(tensors)
    )


def store(states: Sequence[dict[str, Any]], new: Mapping[str, Any]) -> None:
    """Makes block ``i`` of every stack in ``new`` the state of parameter ``i``, in the dtype that it had.

    The old tensors are dropped, or overwritten where they are part of something larger: a block of a stack of which
    other blocks stay in use would keep all of it in memory.
    """
    for key, value in new.items():
        if isinstance(value, Tensor):
            _store_stack(states, key, value)
        else:
            for each in states:
                each[key] = value
    for each in states:  # a momentum scheduled down to zero leaves no buffer behind
        for key in each.keys() - new.keys():
            del each[key]


def _store_stack(states: Sequence[dict[str, Any]], key: str, stack: Tensor) -> None:
    old = [each[key] for each in states]
    shared = _share_memory_with_others(old)
    stack = stack if shared else stack.to(old[0].dtype)
    blocks = [block.reshape(each.shape) for block, each in zip(stack.unbind(), old, strict=True)]
    if shared:
        torch._foreach_copy_(old, blocks)
        return
    for each, block in zip(states, blocks, strict=True):
        each[key] = block


def _share_memory_with_others(tensors: Sequence[Tensor]) -> bool:
    bases = {id(each._base): each._base.numel() for each in tensors if each._base is not None}
    return sum(bases.values()) > sum(each.numel() for each in tensors)


def move(parameters: Sequence[Tensor], step: Tensor, factor: float) -> None:
    """Adds ``factor`` times block ``i`` of ``step`` to parameter ``i``: one rounding to the dtype of the parameter."""
    blocks = [block.reshape(each.shape) for block, each in zip(step.unbind(), parameters, strict=True)]
    torch._foreach_add_(list(parameters), blocks, alpha=factor)


def pieces(tensor: Tensor, state: Mapping[str, Any], size: int) -> Iterator[slice]:
    """Cuts of the first axis of a tensor into pieces of at most ``size`` entries (one index at least).

    A single one if part of the state does not have that axis.
    """
    length = tensor.shape[0]
    arrays = [value for value in state.values() if isinstance(value, Tensor)]
    if any(value.ndim != tensor.ndim or value.shape[0] != length for value in arrays):
        yield slice(0, length)
        return
    rows = max(1, size * length // tensor.numel())
    for start in range(0, length, rows):
        yield slice(start, start + rows)
