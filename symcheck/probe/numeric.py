"""The numeric column: how the code rounds as it runs, beside what it does in exact arithmetic."""

from __future__ import annotations

import torch

from groups import Block
from symcheck.probe.arithmetic import PLAIN, Arithmetic, Census
from symcheck.probe.measure import LEAST_FLOOR, UNIT, Defect, Trial, with_floors
from symcheck.probe.nature import Nature
from symcheck.probe.relation import Property, Relation
from symcheck.probe.search import Findings
from symcheck.probe.strata import draw_inputs
from symcheck.probe.trajectory import CandidateError, CandidateLike, Inputs, largest, run
from symcheck.result import ORDINARY, Numeric, Status

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
UNITS = {"float64": UNIT, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}
"""Unit roundoff of each parameter type."""

STABLE_WITHIN = 16.0
"""A defect of at most this many noise floors is what the parameters' own type explains."""

_STRATA = (ORDINARY, "rank_deficient", "scale_1e-6")


def numeric_of(
    candidate: CandidateLike,
    nature: Nature,
    question: Property,
    block: Block,
    found: Findings,
    worst: Defect | None,
    dtype: str,
    seed: int,
) -> Numeric:
    """Stability of the implementation with parameters of one type, on inputs that are exact in every type.

    The floor is what the type alone explains: the spread of randomised float64 runs, scaled by the ratio of the
    roundoffs.
    """
    if dtype == "float64" and not nature.casts and not found.nonfinite:
        ratio = worst.ratio if worst is not None else 0.0
        return Numeric(
            Status.STABLE if ratio <= STABLE_WITHIN else Status.UNSTABLE,
            defect_over_floor=ratio,
            relative_error=worst.value if worst is not None else 0.0,
            stratum=found.worst[2] if found.worst else None,
        )
    generator = torch.Generator().manual_seed(seed)
    casts: set[str] = set()
    seen: list[tuple[float, float, str]] = []
    shapes_list = [s for s in block.shapes if s in found.shapes and min(min(shape[-2:]) for shape in s) > 1][:2]
    for stratum in (*_STRATA, *sorted(found.nonfinite - {*_STRATA, "hypothesis"})):
        for shapes in shapes_list:
            inputs = draw_inputs(stratum, shapes, 2, centre=question.centred, seed=seed)
            relation = question.random(shapes, 2, generator)[-1]  # a rotation, where the group has any
            try:
                seen.append((*_native(candidate, nature, inputs, relation, dtype, casts, seed), stratum))
            except CandidateError:
                return Numeric(Status.UNSTABLE, casts=tuple(sorted(casts)), stratum=stratum)
    if not seen:
        return Numeric(Status.UNTESTED)
    # NaN sorts nowhere: an error that is not a number is the worst there is.
    ratio, error, where = max(seen, key=lambda entry: (entry[0] != entry[0], entry[0]))
    return Numeric(
        Status.STABLE if ratio <= STABLE_WITHIN else Status.UNSTABLE,
        defect_over_floor=ratio,
        relative_error=error,
        ordinary_error=max((entry[1] for entry in seen if entry[2] == ORDINARY), default=None),
        casts=tuple(sorted(casts)),
        stratum=where,
    )


def _native(
    candidate: CandidateLike,
    nature: Nature,
    inputs: Inputs,
    relation: Relation,
    dtype: str,
    casts: set[str],
    seed: int,
) -> tuple[float, float]:
    """The code's own defect: in units of the floor that ``dtype`` explains, and relative to the update."""
    kind = DTYPES[dtype]
    census = Census()
    arithmetic = Arithmetic(census=census) if nature.casts or dtype != "float64" else PLAIN
    base = run(candidate, inputs.to(kind), arithmetic, seed=seed)
    moved_inputs = relation.transform(inputs)
    moved = base if moved_inputs is inputs else run(candidate, moved_inputs.to(kind), seed=seed)
    casts |= {name for name in census.casts if UNITS.get(name, 1.0) > UNITS[dtype]}
    trial = Trial(
        inputs,
        relation,
        left=[relation.observe(tuple(t.double() for t in step)) for step in moved],
        right=[relation.predict(tuple(t.double() for t in step)) for step in base],
        sizes=[max(largest(a), largest(b)) for a, b in zip(base, moved, strict=True)],
        weight=largest(inputs.weights),
    )
    # The floor belongs to the float64 computation on the same inputs.
    structural = Trial(
        inputs,
        relation,
        left=[relation.observe(step) for step in run(candidate, moved_inputs, nature.arithmetic, seed=seed)],
        right=[relation.predict(step) for step in run(candidate, inputs, nature.arithmetic, seed=seed)],
        sizes=trial.sizes,
        weight=trial.weight,
    )
    floors = {
        defect.step: defect.floor for defect in with_floors(candidate, structural, nature.arithmetic, runs=2, seed=seed)
    }
    ratio, error = 0.0, 0.0
    for defect in trial.defects():
        scaled = floors.get(defect.step, LEAST_FLOOR) * UNITS[dtype] / UNIT
        if not defect.value / scaled <= ratio:
            ratio, error = defect.value / scaled, defect.value
    return ratio, error
