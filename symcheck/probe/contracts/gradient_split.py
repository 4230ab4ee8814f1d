"""`gradient_split`: a step on accumulated micro-batch gradients is the step on their sum."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from symcheck.probe.contracts.outcome import Outcome, Setting, equal_bits
from symcheck.probe.strata import Shapes
from symcheck.probe.trajectory import Inputs, Tensors, build, seed_everything, take_step
from symcheck.result import Evidence, Verdict

STEPS = 3
PARTS = (2, 4)
"""Micro-batches of one step."""


def gradient_split(setting: Setting) -> Outcome:
    """Run ``backward()`` once for every micro-batch and once for their sum, then one step each; compare bitwise.

    The gradients are dyadic, so that autograd's sum of them is exact, and real backward passes are run, so that hooks
    of the optimizer on its parameters fire as in training.
    """
    if not setting.nature.reproducible or setting.nature.seed_dependent:
        return Outcome(Verdict.DECLINED, "its update is random: two runs cannot be compared to the last bit")
    shapes_list = setting.shapes(2)
    for shapes in shapes_list:
        for parts in PARTS:
            micro = [setting.draw("generic", shapes, STEPS, offset=part) for part in range(parts)]
            split = _train(setting, micro)
            whole = _train(setting, [_sum(micro)])
            for number, (one, other) in enumerate(zip(split, whole, strict=True), start=1):
                if not all(equal_bits(a, b) for a, b in zip(one, other, strict=True)):
                    return _refuted(number, parts, one, other, shapes)
    tried = tuple(shape for shapes in shapes_list for shape in shapes)
    return Outcome(
        Verdict.SUPPORTED, evidence=Evidence(examples=len(PARTS) * len(shapes_list), steps=STEPS, shapes=tried)
    )


def _sum(micro: Sequence[Inputs]) -> Inputs:
    """One batch whose gradients are the sums of those of the micro-batches."""
    first = micro[0]
    grads = tuple(
        tuple(torch.stack([part.grads[step][tensor] for part in micro]).sum(0) for tensor in range(len(first.weights)))
        for step in range(first.steps)
    )
    return Inputs(first.weights, grads)


def _train(setting: Setting, micro: Sequence[Inputs]) -> list[Tensors]:
    """The displacement of every training step, from before its first backward pass to after ``step()``."""
    seed_everything(setting.seed)
    params = [torch.nn.Parameter(weight.clone()) for weight in micro[0].weights]
    optimizer = build(setting.candidate, params)
    displacements = []
    for step in range(micro[0].steps):
        before = [param.detach().clone() for param in params]
        for param in params:
            param.grad = None
        for part in micro:
            # The gradient of this loss is the one that was drawn, wherever the weights are.
            loss = torch.stack([(grad * param).sum() for grad, param in zip(part.grads[step], params, strict=True)])
            loss.sum().backward()  # type: ignore[no-untyped-call]
        take_step(optimizer, step + 1)
        displacements.append(tuple(param.detach() - old for param, old in zip(params, before, strict=True)))
    return displacements


def _refuted(step: int, parts: int, split: Tensors, whole: Tensors, shapes: Shapes) -> Outcome:
    size = max(float(tensor.abs().max()) for tensor in (*split, *whole))
    difference = max(float(torch.nan_to_num(a - b, nan=size).abs().max()) for a, b in zip(split, whole, strict=True))
    defect = difference / size if size else 0.0
    return Outcome(
        Verdict.REFUTED,
        f"step {step} on the gradients of {parts} micro-batches differs from the step on their sum by {defect:.2g} of "
        "the update: something that is not linear runs on every backward pass",
        evidence=Evidence(examples=1, steps=step, defect=defect, shapes=shapes),
    )
