"""`backend_agreement`: every code path that the candidate offers computes the same update."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch

from symcheck.probe.contracts.outcome import Outcome, Setting
from symcheck.probe.measure import LEAST_FLOOR, UNIT
from symcheck.probe.numeric import STABLE_WITHIN, UNITS
from symcheck.probe.strata import Shapes
from symcheck.probe.trajectory import CandidateError, Inputs, Tensors, build, largest, run, seed_everything, take_step
from symcheck.result import Evidence, Verdict

STEPS = 4
_FLAGS: Mapping[str, Mapping[str, bool]] = {
    "for-loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True, "fused": False},
    "fused": {"foreach": False, "fused": True},
}


def backend_agreement(setting: Setting) -> Outcome:
    """Compare for-loop, foreach and fused steps in float64, float32 and bfloat16, and the compiled step if time
    allows."""
    shapes_list = [shapes for shapes in setting.shapes(2) if setting.single(shapes)] or setting.shapes(1)
    paths = _paths(setting, shapes_list[0])
    if len(paths) < 2:
        return Outcome(Verdict.VACUOUS, "offers one code path only: there is nothing to compare it with")
    worst, unsupported = 0.0, []
    for shapes in shapes_list:
        inputs = setting.draw("generic", shapes, STEPS)
        for dtype, kind in (("float64", torch.float64), ("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            reference = run(setting.candidate, inputs, seed=setting.seed)
            outcomes: dict[str, list[Tensors]] = {}
            for name, configure in paths.items():
                try:
                    outcomes[name] = _run_configured(setting, inputs.to(kind), configure)
                except CandidateError as error:
                    unsupported.append(f"{name} in {dtype}: {error}")
            apart, pair = _widest(outcomes, reference)
            # Each path rounds in its own order, and the weight itself rounds when the displacement is added to it.
            bound = STABLE_WITHIN * STEPS * LEAST_FLOOR / UNIT * UNITS[dtype] * _headroom(inputs, reference)
            if apart > bound and setting.draws:
                return Outcome(
                    Verdict.DECLINED, "its update is random: paths that draw other numbers cannot be compared"
                )
            if apart > bound:
                return Outcome(
                    Verdict.REFUTED,
                    f"{pair} disagree in {dtype} by {apart:.2g} of the update; rounding explains {bound:.1g}",
                    evidence=Evidence(examples=1, steps=STEPS, defect=apart, noise_floor=bound, shapes=shapes),
                )
            worst = max(worst, apart / bound)
    return Outcome(
        Verdict.SUPPORTED,
        conditions=(f"paths compared: {', '.join(paths)}", *dict.fromkeys(unsupported)),
        evidence=Evidence(
            examples=3 * len(paths) * len(shapes_list),
            steps=STEPS,
            defect=worst * LEAST_FLOOR,
            noise_floor=LEAST_FLOOR,
            shapes=tuple(shape for shapes in shapes_list for shape in shapes),
        ),
    )


def _headroom(inputs: Inputs, trajectory: list[Tensors]) -> float:
    """How much larger the weights are than the displacements: their rounding is what a difference of weights shows."""
    smallest = min((largest(step) for step in trajectory if largest(step) > 0), default=1.0)
    return max(1.0, largest(inputs.weights) / smallest)


Configure = Callable[[Any], Callable[[], Any]]
"""From an optimizer to its step, after choosing a code path."""


def _paths(setting: Setting, shapes: Shapes) -> dict[str, Configure]:
    """The code paths that this optimizer offers on this machine."""
    optimizer = build(
        setting.candidate, [torch.nn.Parameter(torch.ones(shape, dtype=torch.float64)) for shape in shapes]
    )
    groups = getattr(optimizer, "param_groups", None) or [{}]
    offered = {flag for flag in ("foreach", "fused") if all(flag in group for group in groups)}
    if not offered:
        return {}
    paths: dict[str, Configure] = {}
    for name, flags in _FLAGS.items():
        chosen = {flag: value for flag, value in flags.items() if flag in offered}
        if name == "for-loop" or name in offered:
            configure = _flags(chosen)
            try:
                _run_configured(setting, setting.draw("generic", shapes, 1), configure)
            except CandidateError:
                continue  # not implemented on this device, for instance a fused kernel that needs CUDA
            paths[name] = configure
    if setting.budget.examples >= 60:
        paths["compiled"] = _compiled
    return paths


def _flags(values: Mapping[str, bool]) -> Configure:
    def configure(optimizer: Any) -> Callable[[], Any]:
        for group in optimizer.param_groups:
            group.update(values)
        step: Callable[[], Any] = optimizer.step
        return step

    return configure


def _compiled(optimizer: Any) -> Callable[[], Any]:
    # The eager backend traces the step as compilation does, without needing a compiler on this machine.
    step: Callable[[], Any] = torch.compile(optimizer.step, backend="eager")
    return step


class _Step:
    def __init__(self, step: Callable[[], Any]) -> None:
        self.step = step


def _run_configured(setting: Setting, inputs: Inputs, configure: Configure) -> list[Tensors]:
    seed_everything(setting.seed)
    params = [torch.nn.Parameter(weight.clone()) for weight in inputs.weights]
    optimizer = build(setting.candidate, params)
    step = _Step(configure(optimizer))
    displacements = []
    for number, grads in enumerate(inputs.grads, start=1):
        before = [param.detach().clone() for param in params]
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad.clone()
        take_step(step, number)
        displacements.append(
            tuple(param.detach().double() - old.double() for param, old in zip(params, before, strict=True))
        )
    return displacements


def _widest(outcomes: Mapping[str, list[Tensors]], reference: list[Tensors]) -> tuple[float, str]:
    """The largest difference between two paths in any step, relative to the float64 update, and which two."""
    names = list(outcomes)
    most, pair = 0.0, ""
    for first, second in itertools.pairwise(names):
        for a, b, true in zip(outcomes[first], outcomes[second], reference, strict=True):
            size = largest(true)
            difference = largest([torch.nan_to_num(x - y, nan=float("inf")) for x, y in zip(a, b, strict=True)])
            if size > 0 and difference / size > most:
                most, pair = difference / size, f"{first} and {second}"
    return most, pair
