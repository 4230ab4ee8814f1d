"""Suspects of layout: which axes are rows and columns, and which entries belong to one matrix."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import torch

from reference.rule import Rule, State
from symcheck.conform.oracle import Shape, Step, View, as_matrices
from symcheck.conform.suspect import Suspect, around


def suspects(rule: Rule) -> Iterator[Suspect]:
    """Transposition, stacks taken as one matrix, convolutions flattened in other ways."""

    def viewed(text: str, view: View) -> Suspect:
        return Suspect("layout", text, lambda oracle: dataclasses.replace(oracle, view=view))

    if rule.min_ndim >= 2 or rule.name.startswith(("ada", "scion")):
        yield around("layout", "rows and columns are exchanged: it works along the other axis", _transposed)
    yield viewed("a stack of matrices is stepped as one matrix, of all their rows", _all_rows)
    yield viewed("a stack is flattened to [first axis, rest]", _first_and_rest)
    yield viewed("a vector is stepped as a matrix of one row", _one_row)
    yield viewed("a convolution is stepped kernel by kernel, over its last two axes", lambda shape: shape)
    yield viewed("a convolution is flattened to [all but the last axis, last axis]", _all_rows_of_kernels)
    yield Suspect(
        "stack",
        "parameters of one shape are stacked and stepped as one matrix",
        lambda oracle: dataclasses.replace(oracle, joined=True),
    )


def _all_rows(shape: Shape) -> Shape:
    if len(shape) == 3:
        return (shape[0] * shape[1], shape[2])
    return (shape[0], math.prod(shape[1:])) if len(shape) > 3 else shape


def _first_and_rest(shape: Shape) -> Shape:
    return (shape[0], math.prod(shape[1:])) if len(shape) > 2 else shape


def _one_row(shape: Shape) -> Shape:
    return as_matrices((1, *shape) if len(shape) < 2 else shape)


def _all_rows_of_kernels(shape: Shape) -> Shape:
    return (math.prod(shape[:-1]), shape[-1]) if len(shape) > 3 else shape


def _transposed(inner: Step) -> Step:
    def step(
        rule: Rule, grad: torch.Tensor, state: State, weight: torch.Tensor, shape: Shape
    ) -> tuple[torch.Tensor, State]:
        if grad.ndim < 2:
            return inner(rule, grad, state, weight, shape)
        # The state is kept as the transposed rule made it; only its first one is for the stored weight.
        own = state["_inner"] if "_inner" in state else rule.init(weight.mT)
        displacement, new = inner(rule, grad.mT, own, weight.mT, shape)
        return displacement.mT, {"_inner": new}

    return step
