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
        stack_bytes: the numbers that are worked on at a time. Parameters of one shape are stepped in stacks of at most
            this size (one parameter at least), and a larger parameter in pieces, if its rule lets it be cut. A step
            needs a small multiple of it in temporary memory. None: 1 MiB on a CPU, so that intermediate results stay in
            its caches, and 256 MiB elsewhere.
    """

    precision: Precision = "bfloat16"
    low_precision_state: bool = False
    stack_bytes: int | None = None

    def __post_init__(self) -> None:
        arithmetic(self.precision)
        if self.stack_bytes is not None and self.stack_bytes < 1:
            raise ValueError(f"stack_bytes must be positive, got {self.stack_bytes}")

    def bytes_at_a_time(self, device: torch.device) -> int:
        """``stack_bytes``, or what is usual for the device."""
        if self.stack_bytes is not None:
            return self.stack_bytes
        return 2**20 if device.type == "cpu" else 2**28

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
