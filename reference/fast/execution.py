"""How an optimizer carries out its rules: everything that changes cost and rounding, and no formula."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from reference.fast.polar import FastNewtonSchulz
from reference.fast.precision import Precision, arithmetic
from reference.orthogonalizers import NewtonSchulz, get_orthogonalizer
from reference.rule import Rule


@dataclass(frozen=True)
class Execution:
    """The options of the optimizers in `reference.fast`.

    Attributes:
        precision: of the products in polynomial orthogonalisers. All else is computed in the dtype of the parameter,
            float32 for half precision ones. ``"tf32"`` also lets coupled iterations use tensor cores; every other
            value keeps them in full float32, whatever torch was told.
        low_precision_state: keep state in the dtype of the parameter, so that bfloat16 parameters have bfloat16
            momentum; it is still computed in float32 and rounded once a step.
        stack_bytes: parameters of one shape are stepped together in stacks of at most this size (one parameter at
            least). A step needs a small multiple of it in temporary memory.
    """

    precision: Precision = "bfloat16"
    low_precision_state: bool = False
    stack_bytes: int = 2**28

    def __post_init__(self) -> None:
        arithmetic(self.precision)
        if self.stack_bytes < 1:
            raise ValueError(f"stack_bytes must be positive, got {self.stack_bytes}")

    def apply(self, rule: Rule) -> Rule:
        """``rule`` with its polynomial method, if it has one, in the precision of this execution."""
        changes: dict[str, Any] = {}
        for field in ("orthogonalizer", "backend"):
            method = getattr(rule, field, None)
            if (field == "orthogonalizer" and isinstance(method, str)) or method == "gram_newton_schulz":
                method = get_orthogonalizer(method)
            if isinstance(method, NewtonSchulz):
                changes[field] = FastNewtonSchulz.of(method, self.precision)
        return dataclasses.replace(rule, **changes) if changes else rule

    @contextlib.contextmanager
    def float32_products(self) -> Iterator[None]:
        """Inside, CUDA multiplies float32 matrices as ``precision`` says."""
        matmul: Any = torch.backends.cuda.matmul
        before = matmul.fp32_precision
        matmul.fp32_precision = "tf32" if self.precision == "tf32" else "ieee"
        try:
            yield
        finally:
            matmul.fp32_precision = before


def as_execution(precision: Precision | Execution) -> Execution:
    """An `Execution` itself, or one with this precision."""
    return precision if isinstance(precision, Execution) else Execution(precision)
