"""How a comparison is shown: what was compared with what, how far apart, and where and why they part."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from symcheck.errors import one_line

if TYPE_CHECKING:
    from symcheck.conform.conformance import Conformance, Departure, Precision
    from symcheck.conform.diagnose import Diagnosis
    from symcheck.conform.measure import Difference

_MOST = 6
"""Explanations, refusals and configurations that are listed; the JSON has all of them."""


def text(found: Conformance) -> str:
    """The whole answer as plain text."""
    lines = [f"{found.target} against rule:{found.rule}", "", *_hyper(found), *_states(found), *_precision(found)]
    lines += _refused(found)
    lines += _known(found.known)
    lines += _notes(found)
    if found.departure is not None:
        lines += ["", *_departure(found, found.departure)]
        if found.diagnosis is not None:
            lines += _causes(found.diagnosis)
        lines += ["", f"{found.target} departs from rule:{found.rule}: {headline(found.diagnosis)}"]
    elif found.declined:
        lines += ["", f"{found.target}: nothing to compare with rule:{found.rule}: {found.declined}"]
    else:
        most = max((row.units for row in found.precision if row.exact), default=0.0)
        unstable = [row.dtype for row in found.precision if not row.stable and not row.exact]
        lines += ["", f"{found.target} conforms to rule:{found.rule} in {found.cases} runs{_within(most)}"]
        if unstable:
            lines[-1] += f"; it loses precision in {' and '.join(unstable)}"
    return "\n".join(lines)


def _within(units: float) -> str:
    return f": at most {_number(units)} units" if units else ""


def headline(diagnosis: Diagnosis | None) -> str:
    """The cause in a few words."""
    if diagnosis is None or not diagnosis.explanations:
        return "cause unknown"
    first = "; and ".join(diagnosis.explanations[0].texts)
    rest = len(diagnosis.explanations) - 1
    return first + (f" (or {rest} other explanation{'s' if rest > 1 else ''})" if rest else "")


def _hyper(found: Conformance) -> Iterator[str]:
    yield from _table(
        ("hyper-parameter", "value", "from"),
        [(row.field, row.text, row.origin if row.origin != row.field else "target") for row in found.rows],
    )
    if found.unmapped:
        listed = ", ".join(f"{key}={one_line(repr(value), 40)}" for key, value in found.unmapped.items())
        yield f"  note: the rule has nothing for {listed}"
    yield ""


def _states(found: Conformance) -> Iterator[str]:
    if not found.states:
        return
    rows = []
    for match in found.states:
        if match.factor is None:
            relation = "differs" if found.departure is not None else "differs, and the steps do not show it"
        elif match.factor == 1.0:
            relation = f"equal ({_number(found.worst_states.get(match.target, 0.0))} units)"
        else:
            relation = f"{match.factor:.10g} times the rule's" + (f": {match.meaning}" if match.meaning else "")
        rows.append((match.target, match.rule, relation))
    yield from _table(("state of the target", "of the rule", ""), rows)
    yield ""


def _precision(found: Conformance) -> Iterator[str]:
    if not found.precision:
        return
    rows = []
    for row in found.precision:
        inside = f"; computes in {', '.join(row.casts)}" if row.casts else ""
        undone = row.exact and any(other.dtype == "float64" and not other.exact for other in found.precision)
        name = f"{row.dtype}, casts undone" if undone else row.dtype
        rows.append((name, str(row.cases), _number(row.units), f"{row.relative:.1e}", _judged(row) + inside))
    yield from _table(("parameters", "runs", "units", "of the update", ""), rows)
    yield "  a unit is roundoff times measured conditioning (docs/conform.md); rounding alone gives about one"


def _judged(row: Precision) -> str:
    return "rounding" if row.stable else f"more than rounding, worst on {row.where}"


def _refused(found: Conformance) -> Iterator[str]:
    if found.refused:
        yield "  not compared:"
    for why, where in list(found.refused.items())[:_MOST]:
        more = f" and {len(where) - 1} more" if len(where) > 1 else ""
        yield f"    {where[0]}{more}: {one_line(why, 200)}"
    if len(found.refused) > _MOST:
        yield f"    and {len(found.refused) - _MOST} other reasons (--json has them)"


def _known(known: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for reason, where in known.items():
        yield f"  known: parts on {where[0]}{_more(where)}: {reason}"


def _more(where: Sequence[str]) -> str:
    return f" and {len(where) - 1} more" if len(where) > 1 else ""


def _notes(found: Conformance) -> Iterator[str]:
    if found.overwrites is not None:
        yield f"  warning: step {found.overwrites} overwrites the gradient it is given in p.grad"
    for note in found.notes:
        yield f"  note: {note}"


def _departure(found: Conformance, departure: Departure) -> Iterator[str]:
    difference = departure.difference
    yield f"error: {found.target} parts from rule:{found.rule} at step {difference.step}"
    yield f"  --> {place(difference)}"
    yield f"      {departure.case}"
    yield "   |"
    yield f"   | expected {difference.expected: .17g}"
    yield f"   | got      {difference.got: .17g}"
    yield f"   | {_size(difference, departure.limit)}"
    yield "   |"
    if departure.states:
        first = ", ".join(f"{each.tensor.removeprefix('state ')} (step {each.step})" for each in departure.states)
        yield f"   = state that parts by then: {first}"
    if departure.agreeing:
        agreeing = ", ".join(name.removeprefix("state ") for name in departure.agreeing)
        yield f"   = state that still agrees: {agreeing}"
    yield f"   = {_local(departure)}"
    where = "; ".join(departure.configurations[:_MOST])
    more = len(departure.configurations) - _MOST
    yield f"   = parts in {departure.parting} of {departure.compared} runs: {where}" + (
        f"; and {more} other configurations" if more > 0 else ""
    )


def place(difference: Difference) -> str:
    """Step, tensor, parameter and entry on one line."""
    index = f"[{', '.join(map(str, difference.index))}]"
    parameter = f" of parameter {difference.parameter}" if difference.parameter else ""
    return f"step {difference.step}, {difference.tensor}{index}{parameter}"


def _size(difference: Difference, limit: float) -> str:
    share = f"{difference.relative:.2g} of the largest entry" if math.isfinite(difference.relative) else "all of it"
    if math.isinf(difference.absolute):
        share = "not finite"
    return f"off by {share}: {_number(difference.units)} units, {_number(limit)} may be rounding"


def _local(departure: Departure) -> str:
    if departure.local is None:
        return "one step from the target's own state cannot be taken: a tensor of the rule's state has no partner in it"
    if not departure.local:
        return "one step from the target's own state agrees at every step: the difference has accumulated"
    steps = _ranges(departure.local_steps)
    return f"one step from the target's own state and weights parts too (step {steps}): a fault of the step itself"


def _ranges(steps: Sequence[int]) -> str:
    """``1-3, 5`` for 1, 2, 3, 5."""
    parts: list[list[int]] = []
    for step in steps:
        if parts and step == parts[-1][-1] + 1:
            parts[-1].append(step)
        else:
            parts.append([step])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _causes(diagnosis: Diagnosis) -> Iterator[str]:
    for explanation in diagnosis.explanations[:_MOST]:
        cause = "; and ".join(explanation.texts)
        yield f"   = cause: {cause}"
        yield (
            f"            with this the reference follows the target: {_number(explanation.before)} -> "
            f"{_number(explanation.after)} units in {explanation.cases} runs, {explanation.fresh} of them on new inputs"
        )
        for other in explanation.same_as[:_MOST]:
            yield f"            the same update: {other}"
    if len(diagnosis.explanations) > _MOST:
        yield f"            and {len(diagnosis.explanations) - _MOST} more (--json has them)"
    if not diagnosis.explanations:
        pairs = f" and none of {diagnosis.pairs} pairs of them" if diagnosis.pairs else ""
        yield f"   = cause: none of {diagnosis.tried} suspects{pairs} explains it"


def _number(value: float) -> str:
    if 100 <= value < 1e5:
        return f"{value:.0f}"
    return f"{value:.2g}" if value < 100 else f"{value:.1e}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    listed = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(row[column]) for row in listed) for column in range(len(header))]
    for row in listed:
        yield "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def to_dict(found: Conformance) -> dict[str, Any]:
    """The answer as JSON-ready data (``symcheck.conformance/1``; the schema ships as ``schema/conformance-1.json``)."""
    from symcheck.target import plain

    departure = found.departure
    return {
        "target": found.target,
        "config": {key: plain(value) for key, value in found.config.items()},
        "rule": found.rule,
        "verdict": found.verdict,
        "declined": found.declined,
        "hyper_parameters": [
            {"field": row.field, "value": plain(row.value), "origin": row.origin} for row in found.rows
        ],
        "unmapped": {key: plain(value) for key, value in found.unmapped.items()},
        "states": [
            {
                "target": match.target,
                "rule": match.rule,
                "factor": match.factor,
                "meaning": match.meaning,
                "units": _finite(found.worst_states.get(match.target)),
            }
            for match in found.states
        ],
        "runs": found.cases,
        "not_compared": {why: list(where) for why, where in found.refused.items()},
        "known": {why: list(where) for why, where in found.known.items()},
        "overwrites_gradient_at_step": found.overwrites,
        "notes": list(found.notes),
        "precision": [
            {
                "dtype": row.dtype,
                "exact": row.exact,
                "runs": row.cases,
                "units": _finite(row.units),
                "relative": _finite(row.relative),
                "roundoff": row.roundoff,
                "casts": list(row.casts),
                "where": row.where,
                "stable": row.stable,
            }
            for row in found.precision
        ],
        "departure": None if departure is None else _departure_dict(departure),
        "diagnosis": None if found.diagnosis is None else _diagnosis_dict(found.diagnosis),
    }


def _departure_dict(departure: Departure) -> dict[str, Any]:
    return {
        "case": departure.case,
        "limit": departure.limit,
        **_difference_dict(departure.difference),
        "states": [_difference_dict(each) for each in departure.states],
        "agreeing": list(departure.agreeing),
        "local": departure.local,
        "local_steps": list(departure.local_steps),
        "parting": departure.parting,
        "compared": departure.compared,
        "configurations": list(departure.configurations),
    }


def _difference_dict(difference: Difference) -> dict[str, Any]:
    return {
        "step": difference.step,
        "tensor": difference.tensor,
        "parameter": difference.parameter,
        "index": list(difference.index),
        "expected": _finite(difference.expected),
        "got": _finite(difference.got),
        "units": _finite(difference.units),
        "relative": _finite(difference.relative),
    }


def _diagnosis_dict(diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "tried": diagnosis.tried,
        "pairs": diagnosis.pairs,
        "explanations": [
            {
                "causes": list(one.texts),
                "families": list(one.families),
                "units_before": _finite(one.before),
                "units_after": _finite(one.after),
                "runs": one.cases,
                "fresh": one.fresh,
                "same_update": list(one.same_as),
            }
            for one in diagnosis.explanations
        ],
    }


def _finite(value: float | None) -> float | str | None:
    """JSON has no infinity and no NaN: they are strings here."""
    return value if value is None or math.isfinite(value) else str(value)
