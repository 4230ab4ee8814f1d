"""`checkpoint`: a run that was saved and loaded goes on as if nothing had happened, to the last bit."""

from __future__ import annotations

import io
from typing import Any

import torch

from symcheck.probe.contracts.outcome import Outcome, Setting, same
from symcheck.probe.trajectory import CandidateError, Inputs, Tensors, build, seed_everything, take_step
from symcheck.result import Evidence, Verdict

STEPS = 6
SAVED_AFTER = (1, 3)


def checkpoint(setting: Setting) -> Outcome:
    """Save ``state_dict()`` after a step, through a file; load it into a new optimizer; compare the rest bitwise."""
    shapes_list = setting.shapes(2)
    for shapes in shapes_list:
        inputs = setting.draw("generic", shapes, STEPS)
        whole = _continue(setting, inputs, 0)
        for moment in SAVED_AFTER:
            try:
                resumed = _continue(setting, inputs, moment)
            except CandidateError as error:
                return Outcome(
                    Verdict.REFUTED, f"after saving at step {moment} and loading: {error}", (), _evidence(shapes)
                )
            except _Unsavable as error:
                return Outcome(Verdict.REFUTED, str(error), (), _evidence(shapes))
            if not same(whole, resumed) and not setting.nature.reproducible:
                return Outcome(
                    Verdict.DECLINED,
                    "its update is random and no seed reaches it: two runs differ without a checkpoint",
                )
            if not same(whole, resumed):
                step = next(
                    number for number, (a, b) in enumerate(zip(whole, resumed, strict=True), 1) if not same([a], [b])
                )
                return Outcome(
                    Verdict.REFUTED,
                    f"saved after step {moment} and loaded, the run parts from the uninterrupted one at step {step}",
                    (),
                    _evidence(shapes),
                )
    return Outcome(
        Verdict.SUPPORTED,
        evidence=Evidence(
            examples=len(SAVED_AFTER) * len(shapes_list),
            steps=STEPS,
            shapes=tuple(shape for shapes in shapes_list for shape in shapes),
        ),
    )


class _Unsavable(Exception):
    """``state_dict()`` cannot be saved or loaded."""


def _continue(setting: Setting, inputs: Inputs, moment: int) -> list[Tensors]:
    """The displacements of a run that goes through a checkpoint after step ``moment`` (0: none)."""
    seed_everything(setting.seed)
    params = [torch.nn.Parameter(weight.clone()) for weight in inputs.weights]
    optimizer = build(setting.candidate, params)
    displacements = []
    for number, grads in enumerate(inputs.grads, start=1):
        # A random update is to continue with the random numbers of that step.
        seed_everything(setting.seed + number)
        before = [param.detach().clone() for param in params]
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad.clone()
        take_step(optimizer, number)
        displacements.append(tuple(param.detach() - old for param, old in zip(params, before, strict=True)))
        if number == moment:
            saved = _through_a_file(optimizer)
            params = [torch.nn.Parameter(param.detach().clone()) for param in params]
            optimizer = build(setting.candidate, params)
            _load(optimizer, saved)
    return displacements


def _through_a_file(optimizer: Any) -> Any:
    buffer = io.BytesIO()
    try:
        torch.save(optimizer.state_dict(), buffer)
        buffer.seek(0)
        return torch.load(buffer, weights_only=False)
    except Exception as error:
        raise _Unsavable(f"state_dict() cannot be saved: {type(error).__name__}: {error}") from error


def _load(optimizer: Any, saved: Any) -> None:
    try:
        optimizer.load_state_dict(saved)
    except Exception as error:
        raise _Unsavable(f"load_state_dict() raised {type(error).__name__}: {error}") from error


def _evidence(shapes: tuple[tuple[int, ...], ...]) -> Evidence:
    return Evidence(examples=1, steps=STEPS, shapes=shapes)
