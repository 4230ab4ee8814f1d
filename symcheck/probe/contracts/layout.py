"""`layout`: how a parameter is stored changes nothing but how its update is stored.

What a candidate means by an axis has to be known. Three layouts are declared: a convolution that it takes is a matrix
in one of the customary ways, a parameter with ``heads`` is so many blocks, and a parameter whose group says
``transpose`` or ``orientation`` is the transposed one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from symcheck.probe.contracts.agreement import apart, threshold
from symcheck.probe.contracts.outcome import Outcome, Setting
from symcheck.probe.trajectory import CandidateError, CandidateLike, Inputs, Tensors, build, largest, run
from symcheck.result import Evidence, Verdict

STEPS = 3
CONVOLUTIONS = ((4, 3, 3, 2), (12, 2, 1, 3), (3, 4, 2, 3))
"""Kernels that are taller and wider than they are, flattened to both: every shape scale is another one."""
HEADS = 2
SPLIT = ((12, 8), (8, 12))
"""Matrices that are split into heads, whose parts are even too."""
_AXES: Mapping[str, int] = MappingProxyType({"rows": -2, "columns": -1})
_HEADS = ("heads", "num_heads", "n_heads")
_ORIENTATIONS: Mapping[str, tuple[Any, Any]] = MappingProxyType(
    {"transpose": (False, True), "transposed": (False, True), "orientation": ("row", "col")}
)
_PROPORTIONAL = 2.0**-20
"""How exactly one factor must fit for a step to be called another one's multiple: far above rounding, far below what
two different formulas have in common."""

_Flatten = Callable[[torch.Tensor], torch.Tensor]
_READINGS: Mapping[str, _Flatten] = MappingProxyType(
    {
        "[out, rest]": lambda x: x.flatten(1),
        "a stack of kernels": lambda x: x.flatten(0, 1),
        "[all but the last axis, last axis]": lambda x: x.flatten(0, -2),
        "[out in, kernel]": lambda x: x.flatten(2).flatten(0, 1),
    }
)


@dataclass(frozen=True)
class _Finding:
    """What one layout showed: a sentence, and a defect if the layout is not kept (None if nothing can be said)."""

    text: str
    defect: float | None
    shapes: tuple[tuple[int, ...], ...] = ()


def layout(setting: Setting) -> Outcome:
    """Compare the steps of a parameter in every declared layout with those of the plain matrix that it stands for."""
    findings = [*_convolutions(setting), *_head_splits(setting), *_transpositions(setting)]
    broken = next((finding for finding in findings if finding.defect), None)
    if broken is not None and setting.draws:
        return Outcome(Verdict.DECLINED, "its update is random: another layout may draw other numbers")
    if broken is not None:
        return Outcome(
            Verdict.REFUTED,
            broken.text,
            evidence=Evidence(examples=1, steps=STEPS, defect=broken.defect, shapes=broken.shapes),
        )
    unknown = next((finding for finding in findings if finding.defect is None), None)
    if unknown is not None:
        return Outcome(Verdict.DECLINED, unknown.text)
    if findings:
        return Outcome(
            Verdict.SUPPORTED,
            conditions=tuple(finding.text for finding in findings),
            evidence=Evidence(examples=len(findings), steps=STEPS, shapes=tuple(s for f in findings for s in f.shapes)),
        )
    return Outcome(
        Verdict.VACUOUS, "takes no convolution and declares no heads and no orientation: there is one layout only"
    )


# -- convolutions ------------------------------------------------------------------------------------------------------


def _convolutions(setting: Setting) -> Iterator[_Finding]:
    """At most one finding: how every convolution is read, or how one of them contradicts all readings."""
    left = dict(_READINGS)
    nearest = ""
    for shape in CONVOLUTIONS:
        inputs = _drawn(setting, shape)
        try:
            base = run(setting.candidate, inputs, setting.nature.arithmetic, seed=setting.seed)
            limit = threshold(setting, setting.candidate, inputs, base)
        except CandidateError:
            return  # it does not take convolutions
        for name, flatten in list(left.items()):
            flat = _flattened(setting, inputs, flatten)
            if flat is None:
                del left[name]
            elif apart(setting, inputs, base, flat).ratio > limit:
                del left[name]
                factor = _factor(base, flat)
                if factor is not None and not nearest:
                    nearest = (
                        f"a convolution {'x'.join(map(str, shape))} is stepped as the matrix {name}, but {factor:.4g} "
                        "times as far: its scale is that of another shape"
                    )
    if left:
        yield _Finding(f"a convolution is read as {' or '.join(left)}", 0.0, CONVOLUTIONS)
    elif nearest:
        yield _Finding(nearest, 1.0, CONVOLUTIONS)
    else:
        yield _Finding("reads a convolution in a way of its own, which is declared nowhere", None)


def _drawn(setting: Setting, shape: tuple[int, ...]) -> Inputs:
    matrix = (shape[0], math.prod(shape[1:]))
    return setting.draw("generic", (matrix,), STEPS).map(lambda tensor: tensor.reshape(shape))


def _flattened(setting: Setting, inputs: Inputs, flatten: _Flatten) -> list[Tensors] | None:
    """The trajectory of the flattened parameter, in the shape of the convolution; None if that is not taken."""
    shape = inputs.shapes[0]
    try:
        steps = run(setting.candidate, inputs.map(flatten), setting.nature.arithmetic, seed=setting.seed)
    except CandidateError:
        return None
    return [tuple(tensor.reshape(shape) for tensor in step) for step in steps]


def _factor(base: list[Tensors], flat: list[Tensors]) -> float | None:
    """The constant by which all steps of ``base`` are longer than those of ``flat``, or None if there is none."""
    a = torch.stack([step[0] for step in base])
    b = torch.stack([step[0] for step in flat])
    norm = float((b * b).sum())
    if not norm:
        return None
    factor = float((a * b).sum()) / norm
    fits = factor > 0 and float((a - factor * b).abs().max()) <= _PROPORTIONAL * largest((a,))
    return factor if fits else None


# -- declared in the parameter group -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Configured:
    """A candidate whose parameter groups get an option after it is built."""

    base: CandidateLike
    options: Mapping[str, Any]

    @property
    def target(self) -> str:
        """The candidate's own name."""
        return self.base.target

    def make(self, params: list[torch.nn.Parameter]) -> Any:
        """The optimizer with the options."""
        optimizer = self.base.make(params)
        for group in optimizer.param_groups:
            group.update(self.options)
        return optimizer


def _options(setting: Setting) -> Mapping[str, Any]:
    """The options of the first parameter group."""
    for shapes in setting.shapes(1):
        params = [torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in shapes]
        groups = getattr(build(setting.candidate, params), "param_groups", [{}])
        return {key: value for key, value in groups[0].items() if key != "params"}
    return {}


def _head_splits(setting: Setting) -> Iterator[_Finding]:
    """At most one finding: the axis that heads are blocks of, or that they are so but for a scale by another shape."""
    options = _options(setting)
    name = next((each for each in _HEADS if type(options.get(each)) is int), None)
    if name is None:
        return
    try:
        trials = [_split(setting, name, shape) for shape in SPLIT]
    except CandidateError:
        return
    if not any(trial.effect for trial in trials):
        return  # the number was read before it was set, or not for these shapes: it declares nothing
    for axis in _AXES:
        factors = [trial.factors[axis] for trial in trials]
        if all(factor == 1.0 for factor in factors):
            yield _Finding(f"{name} are blocks of {axis}, stepped one by one", 0.0, SPLIT)
            return
    for axis in _AXES:
        factors = [trial.factors[axis] for trial in trials]
        known = [factor for factor in factors if factor is not None]
        # One factor for all shapes is a rate by the number of heads, which is nobody's mistake.
        if len(known) == len(SPLIT) and max(known) > (1 + 2 * _PROPORTIONAL) * min(known):
            yield _Finding(
                f"{name} are blocks of {axis}, but stepped {' and '.join(f'{factor:.4g}' for factor in known)} times "
                f"as far as one by one for {' and '.join('x'.join(map(str, shape)) for shape in SPLIT)}: their scale "
                "is that of another shape",
                1.0,
                SPLIT,
            )
            return
    yield _Finding(f"splits {name} in a way of its own, which is declared nowhere", None)


@dataclass(frozen=True)
class _Split:
    """What the number of heads does to the steps of one shape."""

    effect: bool
    factors: Mapping[str, float | None]
    """How much farther than one by one the blocks along each axis are stepped; None if they are stepped otherwise."""


def _split(setting: Setting, name: str, shape: tuple[int, ...]) -> _Split:
    arithmetic, seed = setting.nature.arithmetic, setting.seed
    several, single = (_Configured(setting.candidate, {name: count}) for count in (HEADS, 1))
    inputs = setting.draw("generic", (shape,), STEPS)
    base = run(several, inputs, arithmetic, seed=seed)
    limit = threshold(setting, several, inputs, base)
    factors: dict[str, float | None] = {}
    for axis, dim in _AXES.items():
        parts = [
            run(single, inputs.map(lambda x, i=i, dim=dim: x.chunk(HEADS, dim)[i]), arithmetic, seed=seed)  # type: ignore[misc]
            for i in range(HEADS)
        ]
        joined = [
            tuple(torch.cat(pieces, dim) for pieces in zip(*steps, strict=True)) for steps in zip(*parts, strict=True)
        ]
        same = apart(setting, inputs, base, joined).ratio <= limit
        factors[axis] = 1.0 if same else _factor(base, joined)
    whole = run(single, inputs, arithmetic, seed=seed)
    return _Split(apart(setting, inputs, base, whole).ratio > limit, factors)


def _transpositions(setting: Setting) -> Iterator[_Finding]:
    options = _options(setting)
    for name, (plain, turned) in _ORIENTATIONS.items():
        if options.get(name) != plain:
            continue
        shape = (6, 4)
        inputs = setting.draw("generic", (shape,), STEPS)
        try:
            base = run(setting.candidate, inputs, setting.nature.arithmetic, seed=setting.seed)
            limit = threshold(setting, setting.candidate, inputs, base)
            other = _Configured(setting.candidate, {name: turned})
            same = run(other, inputs, setting.nature.arithmetic, seed=setting.seed)
            if apart(setting, inputs, base, same).ratio <= limit:
                continue  # it has no effect in this configuration, and declares nothing
            across = run(other, inputs.map(lambda x: x.mT.contiguous()), setting.nature.arithmetic, seed=setting.seed)
        except CandidateError:
            continue
        defect = apart(setting, inputs, base, [tuple(tensor.mT for tensor in step) for step in across])
        if defect.ratio <= limit:
            yield _Finding(f"{name}={turned!r} is the transposed parameter", 0.0, (shape,))
        else:
            text = (
                f"the transposed parameter with {name}={turned!r} is stepped otherwise, by {defect.value:.2g} of the "
                "update"
            )
            yield _Finding(text, defect.value, (shape,))
