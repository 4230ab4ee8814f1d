"""`purity`: a step writes its own parameters and its own state, and nothing else."""

from __future__ import annotations

import math

import torch

from symcheck.probe.contracts.outcome import Outcome, Setting, equal_bits
from symcheck.probe.strata import Shapes
from symcheck.probe.trajectory import build, seed_everything, take_step
from symcheck.result import Evidence, Verdict

STEPS = 3


def purity(setting: Setting) -> Outcome:
    """Gradients, idle parameters and outsiders stay bitwise as they were; with ``lr = 0`` the weights do too."""
    shapes_list = setting.shapes(2)
    for shapes in shapes_list:
        fault = _writes_elsewhere(setting, shapes) or _moves_at_zero_rate(setting, shapes)
        if fault:
            return Outcome(Verdict.REFUTED, fault, evidence=Evidence(examples=1, steps=STEPS, shapes=shapes))
    shapes_tried = tuple(shape for shapes in shapes_list for shape in shapes)
    return Outcome(
        Verdict.SUPPORTED, evidence=Evidence(examples=2 * len(shapes_list), steps=STEPS, shapes=shapes_tried)
    )


def _writes_elsewhere(setting: Setting, shapes: Shapes) -> str:
    inputs = setting.draw("generic", shapes, STEPS)
    seed_everything(setting.seed)
    params = [torch.nn.Parameter(weight.clone()) for weight in inputs.weights]
    idle = [torch.nn.Parameter(weight.clone()) for weight in inputs.weights]
    optimizer = build(setting.candidate, [*params, *idle])
    for group, tensors, weights in (("weights", params, inputs.weights), ("idle weights", idle, inputs.weights)):
        if not all(equal_bits(param.detach(), weight) for param, weight in zip(tensors, weights, strict=True)):
            return f"the constructor changes the {group}"
    for number, grads in enumerate(inputs.grads, start=1):
        given = [grad.clone() for grad in grads]
        for param, grad in zip(params, given, strict=True):
            param.grad = grad
        take_step(optimizer, number)
        for param, grad, original in zip(params, given, grads, strict=True):
            if not equal_bits(grad, original):
                change = float((grad - original).abs().max() / original.abs().max())
                return f"step {number} overwrites the gradient it is given (by {change:.0%} of its largest entry)"
            if param.grad is not None and param.grad is not grad and not equal_bits(param.grad, original):
                return f"step {number} replaces p.grad by another gradient"
        for param, weight in zip(idle, inputs.weights, strict=True):
            if not equal_bits(param.detach(), weight):
                return f"step {number} changes a parameter that has no gradient"
    return ""


def _moves_at_zero_rate(setting: Setting, shapes: Shapes) -> str:
    inputs = setting.draw("generic", shapes, STEPS)
    seed_everything(setting.seed)
    params = [torch.nn.Parameter(weight.clone()) for weight in inputs.weights]
    optimizer = build(setting.candidate, params)
    groups = getattr(optimizer, "param_groups", [])
    if not groups or any("lr" not in group for group in groups):
        return ""
    for group in groups:
        group["lr"] = torch.zeros_like(group["lr"]) if isinstance(group["lr"], torch.Tensor) else 0.0
    for number, grads in enumerate(inputs.grads, start=1):
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad.clone()
        take_step(optimizer, number)
        for param, weight in zip(params, inputs.weights, strict=True):
            moved = float((param.detach() - weight).abs().max())
            if math.isnan(moved) or moved > 0:
                return f"with lr = 0 step {number} moves the weights by {moved:.2g}"
    return ""
