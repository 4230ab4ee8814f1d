"""`equivariance_error`: the plain number, for those who want to judge for themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from groups import Action, parse_action
from symcheck.probe.arithmetic import PLAIN
from symcheck.probe.measure import compare
from symcheck.probe.relation import Property
from symcheck.probe.trajectory import Inputs, Tensors


@dataclass(frozen=True)
class _Factory:
    make: Callable[[list[torch.nn.Parameter]], Any]
    target: str = "factory"


def equivariance_error(
    optimizer_factory: Callable[[list[torch.nn.Parameter]], Any],
    action: Action | str,
    *,
    W: torch.Tensor | Tensors,
    grads: Sequence[torch.Tensor | Tensors],
    elements: int = 8,
    seed: int = 0,
) -> float:
    """The largest relative equivariance error over random group elements, on the given trajectory.

    ``optimizer_factory(params)`` builds the optimizer; ``action`` is an action or its spec string such as
    ``"Perm(rows) x O(cols)"``; ``W`` is the initial weight (or a tuple of tensors for a joint action) and ``grads`` the
    gradients of the steps. The error of a step is ``max |run(g.W, g.G) - g.run(W, G)|`` over ``max |run|``. It
    measures and does not judge: no noise floor is taken off. A displacement that is not finite on one side only gives
    infinity.

    Raises:
        ValueError: the shapes do not fit the action, or an input is not finite.
        CandidateError: the optimizer raised.
    """
    acting = parse_action(action) if isinstance(action, str) else action
    inputs = Inputs(_tuple(W), tuple(map(_tuple, grads)))
    acting.check(inputs.shapes)
    if not all(torch.isfinite(t).all() for t in (*inputs.weights, *(g for step in inputs.grads for g in step))):
        raise ValueError("equivariance_error: W and grads must be finite")
    question = Property("equivariance", acting, centred=False)
    generator = torch.Generator().manual_seed(seed)
    error = 0.0
    for relation in question.random(inputs.shapes, elements, generator):
        trial = compare(_Factory(optimizer_factory), inputs, relation, PLAIN, seed=seed)
        if not trial.finite:
            return float("inf")
        error = max([error, *(defect.value for defect in trial.defects())])
    return error


def _tuple(value: torch.Tensor | Tensors) -> Tensors:
    return tuple(tensor.detach().double() for tensor in (value if isinstance(value, tuple) else (value,)))
