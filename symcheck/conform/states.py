"""Which tensor of a target's state is which of the rule's: by name, else by shape and agreement up to a factor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch

from reference.rule import Rule, State
from symcheck.conform.measure import ANOTHER_FORMULA, Floors, arrays, difference
from symcheck.conform.oracle import Path
from symcheck.conform.record import Record
from symcheck.probe.measure import UNIT

SYNONYMS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "first": frozenset({"momentum", "momentum_buffer", "exp_avg", "mean", "m", "buf", "buffer", "avg", "mu"}),
        "second": frozenset({"square", "exp_avg_sq", "square_avg", "v", "nu", "sum", "second_moment", "variance"}),
        "largest": frozenset({"largest_square", "max_exp_avg_sq", "max_square", "v_max"}),
        "mean": frozenset({"mean", "grad_avg"}),
        "rows": frozenset({"row_square", "row_var", "row", "rows", "exp_avg_sq_row", "row_mean"}),
        "cols": frozenset({"column_square", "col_var", "col", "cols", "exp_avg_sq_col", "col_square", "col_mean"}),
    }
)
"""Names that implementations give to the same thing; the last part of a dotted name counts."""


@dataclass(frozen=True)
class Match:
    """A tensor ``rule`` of the rule's state is ``factor`` times smaller than ``target`` of the target's.

    ``factor`` is None where the two do not agree up to a constant; then they share a name and were compared as they
    are. ``meaning`` says what the factor is, if it is known.
    """

    rule: str
    target: str
    factor: float | None
    meaning: str = ""


@dataclass(frozen=True)
class Observed:
    """One run of the target and of the reference on the same inputs."""

    record: Record
    path: Path
    floors: Floors


def match_states(rule: Rule, runs: Sequence[Observed]) -> list[Match]:
    """A partner in the target's state for every tensor of the rule's that has one.

    Of two that fit, a shared name wins; without one only agreement up to a constant factor, in every run and at every
    step, makes a pair.
    """
    matches: list[Match] = []
    taken: set[str] = set()
    names = list(dict.fromkeys(name for run in runs for name in _rule_names(run)))
    for name in names:
        candidates = [key for key in _target_names(runs, name) if key not in taken]
        fitted = {key: _factor(rule, runs, name, key) for key in candidates}
        related = [key for key in candidates if _related(name, key)]
        agreeing = [key for key in candidates if fitted[key] is not None]
        chosen = next((key for key in related if key in agreeing), None)
        chosen = chosen or next(iter(related), None) or next(iter(agreeing), None)
        if chosen is not None:
            taken.add(chosen)
            factor = fitted[chosen]
            matches.append(Match(name, chosen, factor, _meaning(rule, factor)))
    return matches


def as_rule(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor | None:
    """A target's tensor in the shape of the rule's, if only axes of length one or a flattening tell them apart."""
    if value.numel() != like.numel() or _squeezed(value) != _squeezed(like):
        flattened = value.numel() == like.numel() and (value.ndim > 3 or value.ndim == 1 or like.ndim == 1)
        return value.reshape(like.shape) if flattened else None
    return value.reshape(like.shape)


def _squeezed(tensor: torch.Tensor) -> tuple[int, ...]:
    return tuple(extent for extent in tensor.shape if extent != 1)


def _rule_names(run: Observed) -> Iterator[str]:
    for states in run.path.states:
        for state in states:
            yield from (name for name, _ in arrays(state))


def _target_names(runs: Sequence[Observed], name: str) -> list[str]:
    """The entries of the target's state that have the shape of the rule's ``name`` wherever both are."""
    possible: dict[str, bool] = {}
    for run in runs:
        for states, own in zip(run.path.states, run.record.states, strict=True):
            for state, entries in zip(states, own, strict=False):
                if name in state and isinstance(state[name], torch.Tensor):
                    for key, value in entries.items():
                        fits = as_rule(value, state[name]) is not None
                        possible[key] = possible.get(key, True) and fits
    return [key for key, fits in possible.items() if fits]


def _related(rule: str, target: str) -> bool:
    last = target.rpartition(".")[2]
    return rule == last or any(rule in group and last in group for group in SYNONYMS.values())


def _factor(rule: Rule, runs: Sequence[Observed], name: str, key: str) -> float | None:
    """The constant ``c`` for which the target's tensor is ``c`` times the rule's wherever both are, or None."""
    pairs = [(*up_to_gauge(rule, name, a, b), floor) for a, b, floor in _pairs(runs, name, key)]
    if not pairs:
        return None
    best = max(pairs, key=lambda pair: float(pair[1].abs().max()) if pair[1].isfinite().all() else -1.0)
    norm = float((best[1] * best[1]).sum())
    if not 0.0 < norm < math.inf:
        return None
    for factor in (1.0, float((best[0] * best[1]).sum()) / norm):
        if factor and math.isfinite(factor) and all(_fits(factor, *pair) for pair in pairs):
            return factor
    return None


def _fits(factor: float, got: torch.Tensor, expected: torch.Tensor, floor: float) -> bool:
    # The factor was measured, so that it carries a unit of its own.
    apart = difference(got, factor * expected, 2 * abs(factor) * floor, step=0, tensor="", parameter=0)
    return apart.units <= ANOTHER_FORMULA


def _pairs(runs: Sequence[Observed], name: str, key: str) -> Iterator[tuple[torch.Tensor, torch.Tensor, float]]:
    for run in runs:
        for step, (states, own) in enumerate(zip(run.path.states, run.record.states, strict=True), start=1):
            for parameter, (state, entries) in enumerate(zip(states, own, strict=False)):
                if name in state and key in entries and (value := as_rule(entries[key], state[name])) is not None:
                    yield value, state[name], run.floors.of(step, parameter, name)


def _meaning(rule: Rule, factor: float | None) -> str:
    """What a factor between two states says about their conventions."""
    if factor is None or factor == 1.0:
        return ""
    known: list[tuple[str, float]] = [("the sign is flipped", -1.0)]
    for field in ("momentum", "beta"):
        beta = getattr(rule, field, 0.0)
        if 0.0 < beta < 1.0:
            known.append((f"heavy ball for a moving average: 1/(1 - {field})", 1 / (1 - beta)))
            known.append((f"a moving average for heavy ball: 1 - {field}", 1 - beta))
    for place, beta in enumerate(getattr(rule, "betas", ())):
        if 0.0 < beta < 1.0:
            known.append((f"a sum for a moving average: 1/(1 - betas[{place}])", 1 / (1 - beta)))
    if rule.lr:
        known.append(("the learning rate is inside", rule.lr))
        known.append(("the learning rate is inside, with the sign of the step", -rule.lr))
    # A factor is read off entries with a few roundings each.
    return next((text for text, value in known if abs(factor / value - 1) <= ANOTHER_FORMULA * UNIT), "")


def up_to_gauge(rule: Rule, name: str, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two tensors as they can be compared: by magnitude where an axis has a basis whose vectors have no sign."""
    action = rule.state_actions.get(name)
    if action is None or not any(axis in rule.gauges for axis in action.axes):
        return first, second
    return first.abs(), second.abs()


def rule_state(matches: Sequence[Match], entries: Mapping[str, torch.Tensor], like: State) -> State | None:
    """The rule's state that a target's state stands for, or None if a tensor of it has no partner.

    Counts are taken from ``like``, the reference's own state after as many steps.
    """
    partners = {match.rule: match for match in matches}
    state: State = {}
    for name, value in like.items():
        if not isinstance(value, torch.Tensor):
            state[name] = value
            continue
        match = partners.get(name)
        if match is None or match.target not in entries:
            return None
        own = as_rule(entries[match.target], value)
        if own is None:
            return None
        state[name] = own / (match.factor or 1.0)
    return state
