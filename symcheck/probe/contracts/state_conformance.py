"""`state_conformance`: displacements and state follow the float64 reference of the rule that is implemented."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch

from symcheck.probe.contracts.outcome import Outcome, Setting
from symcheck.probe.trajectory import build
from symcheck.result import Evidence, Verdict

SHAPES = ((6, 4), (4, 6))
STEPS = 4

REFERENCES: Mapping[str, str] = MappingProxyType(
    {
        "torch.optim.Adafactor": "adafactor",
        "torch.optim.Adagrad": "adagrad",
        "torch.optim.Adam": "adam",
        "torch.optim.AdamW": "adamw",
        "torch.optim.Muon": "muon_torch",
        "torch.optim.RMSprop": "rmsprop",
        "torch.optim.SGD": "sgd",
    }
)
"""The reference rule of an optimizer of torch."""

ATTRIBUTE = "symcheck_rule"
"""The attribute by which an optimizer class names the reference rule that it implements."""


def state_conformance(setting: Setting) -> Outcome:
    """A short `symcheck.conform` against the rule that the candidate is, or says that it is, an implementation of."""
    # The room of conformance stands above this one; only this contract looks up to it.
    from symcheck.conform.conformance import Options, conform
    from symcheck.errors import UsageError

    rule = _rule_of(setting)
    if not rule:
        return Outcome(
            Verdict.VACUOUS,
            f"names no reference rule (a class attribute {ATTRIBUTE!r}); symcheck conform TARGET --against rule:NAME",
        )
    shapes = [shapes[0] for shapes in setting.shapes(2) if setting.single(shapes)] or list(SHAPES)
    options = Options(dtypes=("float64",), shapes=tuple(shapes), steps=STEPS, seed=setting.seed)
    try:
        found = conform(lambda extra: setting.candidate, rule, options, name=setting.candidate.target)
    except UsageError as error:
        return Outcome(Verdict.DECLINED, str(error))
    if found.declined:
        return Outcome(Verdict.DECLINED, found.declined)
    evidence = Evidence(examples=found.cases, steps=STEPS, shapes=tuple(shapes))
    if found.departure is None:
        states = ", ".join(f"{match.target} as {match.rule}" for match in found.states if match.factor is not None)
        return Outcome(
            Verdict.SUPPORTED,
            conditions=(f"against rule:{rule}" + (f"; state: {states}" if states else ""),),
            evidence=evidence,
        )
    from symcheck.conform.page import headline, place

    difference = found.departure.difference
    return Outcome(
        Verdict.REFUTED,
        f"parts from rule:{rule} at {place(difference)}: {headline(found.diagnosis)}",
        evidence=Evidence(
            examples=found.cases, steps=difference.step, defect=difference.relative, shapes=tuple(shapes)
        ),
    )


def _rule_of(setting: Setting) -> str:
    target = setting.candidate.target
    if target.startswith("rule:"):
        from reference import RULES

        return name if (name := target.removeprefix("rule:")) in RULES else ""
    if target in REFERENCES:
        return REFERENCES[target]
    for shapes in setting.shapes(1):
        params = [torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in shapes]
        return str(getattr(build(setting.candidate, params), ATTRIBUTE, ""))
    return ""
