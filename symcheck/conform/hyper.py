"""From the hyper-parameters of a target to those of a rule: by name, then by synonym, and always shown.

A target is asked what it really uses (its ``param_groups``), not what was passed to it. What it has no name for keeps
the rule's default and is said to be assumed; what it has and the rule has not is listed too, unless it is switched off.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from reference.orthogonalizers import NewtonSchulz, get_orthogonalizer
from reference.rule import Rule, get_rule
from symcheck.errors import UsageError, one_line

SYNONYMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "lr": ("learning_rate", "eta"),
        "weight_decay": ("wd", "decay", "weight_decay_rate", "l2"),
        "momentum": ("mu", "beta", "beta1", "b1", "momentum_beta", "betas[0]"),
        "betas": ("beta",),
        "beta": ("alpha", "rho", "decay_rate", "smoothing", "beta2", "b2"),
        "beta2": ("b2", "betas[1]"),
        "eps": ("epsilon", "delta", "eps1", "eps[0]"),
        "nesterov": ("use_nesterov", "nesterov_momentum"),
        "center_rows": ("centre_rows", "center", "centre", "centered"),
        "centered": ("center", "centred"),
        "adjust_lr": ("adjust_lr_fn", "scale_mode", "lr_adjust"),
        "accumulation": ("momentum_mode",),
        "steps": ("num_steps", "ns_steps", "backend_steps"),
        "orthogonalizer": ("ns_coefficients",),
        "amsgrad": ("ams_grad", "use_amsgrad"),
        "initial_accumulator_value": ("initial_value",),
        "heads": ("num_heads", "n_heads"),
        "clip_threshold": ("d", "clipping_threshold"),
        "eps1": ("eps[0]", "epsilon1"),
        "eps2": ("eps[1]", "epsilon2"),
        "beta2_decay": ("decay_rate", "decay_exponent"),
    }
)
"""Field of a rule -> names that others use for it, the closest first; ``name[i]`` is one entry of a tuple."""

IMPLEMENTATION = frozenset(
    {"foreach", "fused", "capturable", "differentiable", "maximize", "precision", "initial_lr", "params"}
)
"""Options that choose a code path, not a formula; they are tried one by one."""

_NS_STEPS = ("ns_steps", "num_steps", "steps", "backend_steps", "newton_schulz_steps")
_NS_COEFFICIENTS = ("ns_coefficients", "coefficients", "ns_coeffs", "polynomial")


@dataclass(frozen=True)
class Row:
    """One hyper-parameter of the rule: its value and where it comes from."""

    field: str
    value: Any
    origin: str

    @property
    def text(self) -> str:
        """The value on one line."""
        return one_line(repr(self.value), 60)


@dataclass(frozen=True)
class Mapped:
    """A rule whose hyper-parameters are those of a target."""

    rule: Rule
    rows: tuple[Row, ...]
    unmapped: Mapping[str, Any]
    """What the target has, switched on, and the rule has not."""


def values_of(optimizer: Any, arguments: Mapping[str, object]) -> dict[str, Any]:
    """The hyper-parameters that an optimizer uses: its first parameter group, over its constructor's arguments."""
    group = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
    values = {**arguments, **group}
    return {key: value.item() if _is_scalar(value) else value for key, value in values.items()}


def _is_scalar(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.numel() == 1


def map_hyper(name: str, values: Mapping[str, Any], overrides: Mapping[str, object]) -> Mapped:
    """The rule ``name`` with the target's ``values``, and ``overrides`` (``--against-set``) above them.

    Raises:
        UsageError: unknown rule or hyper-parameter, or a value that the rule refuses.
    """
    try:
        default = get_rule(name)
    except ValueError as error:
        raise UsageError(f"--against rule:{name}: {error}") from None
    try:
        get_rule(name, **overrides)
    except (TypeError, ValueError) as error:
        for key, value in overrides.items():
            before = getattr(default, key, value)
            if _converted(key, value, before) is _MISFIT:
                raise UsageError(
                    f"--against-set {key}={one_line(repr(value), 60)}: expected a value such as {before!r}"
                ) from None
        raise UsageError(f"--against rule:{name}: {error}") from None
    used: set[str] = set()
    names = [field.name for field in dataclasses.fields(default)]
    rows = [_row(default, name, values, overrides, used, set(names)) for name in names]
    try:
        rule = get_rule(name, **{row.field: row.value for row in rows})
    except (TypeError, ValueError) as error:
        raise UsageError(f"{error}: set it with --against-set NAME=VALUE") from None
    unmapped = {key: value for key, value in values.items() if key not in used | IMPLEMENTATION and value}
    return Mapped(rule, tuple(rows), unmapped)


def _row(
    default: Rule,
    field: str,
    values: Mapping[str, Any],
    overrides: Mapping[str, object],
    used: set[str],
    names: set[str],
) -> Row:
    before = getattr(default, field)
    if field in overrides:
        return Row(field, overrides[field], "--against-set")
    if field == "orthogonalizer" and field not in values:
        return _orthogonalizer(default, values, used, names)
    if field == "betas" and field not in values and (pair := _pair(values, used)) is not None:
        return Row(field, *pair)
    # A name that is a field of the rule itself is not a synonym for another one.
    for name in (field, *(synonym for synonym in SYNONYMS.get(field, ()) if synonym not in names)):
        found, value = _lookup(values, name)
        if found and (converted := _converted(field, value, before)) is not _MISFIT:
            used.add(name.partition("[")[0])
            return Row(field, converted, name)
    if field == "weight_decay":
        # What has no decay decays by nothing, whatever the rule's own default is.
        return Row(field, 0.0, "the target has none")
    return Row(field, before, "rule's default")


_MISFIT: Any = object()


def _converted(field: str, value: Any, before: Any) -> Any:
    """A target's value in the form of the rule's field, or `_MISFIT` for one of another kind."""
    if field == "adjust_lr" and value is None:
        return "original"
    if isinstance(before, bool):
        return bool(value) if isinstance(value, (bool, int)) else _MISFIT
    if isinstance(before, float):
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else _MISFIT
    if isinstance(before, tuple) and isinstance(value, (tuple, list)):
        return tuple(value) if len(value) == len(before) else _MISFIT
    if before is None or value is None or isinstance(value, type(before)):
        return value
    return _MISFIT


def _lookup(values: Mapping[str, Any], name: str) -> tuple[bool, Any]:
    key, bracket, index = name.partition("[")
    if key not in values:
        return False, None
    if not bracket:
        return True, values[key]
    entry = int(index.rstrip("]"))
    sequence = values[key]
    if not isinstance(sequence, (tuple, list)) or len(sequence) <= entry:
        return False, None
    return True, sequence[entry]


def _pair(values: Mapping[str, Any], used: set[str]) -> tuple[tuple[float, float], str] | None:
    for first, second in (("beta1", "beta2"), ("b1", "b2"), ("momentum", "beta2"), ("beta_1", "beta_2")):
        if first in values and second in values:
            used.update((first, second))
            return (float(values[first]), float(values[second])), f"{first}, {second}"
    return None


def _orthogonalizer(default: Rule, values: Mapping[str, Any], used: set[str], names: set[str]) -> Row:
    """The rule's own method with the target's coefficients, number of steps and eps."""
    method = get_orthogonalizer(default.orthogonalizer)  # type: ignore[attr-defined]
    if not isinstance(method, NewtonSchulz):
        return Row("orthogonalizer", default.orthogonalizer, "rule's default")  # type: ignore[attr-defined]
    origin = []
    schedule = method.schedule
    for name in _NS_COEFFICIENTS:
        found = values.get(name)
        if isinstance(found, (tuple, list)) and found:
            rows = found if isinstance(found[0], (tuple, list)) else [found]
            if all(len(row) == 3 for row in rows):
                schedule = tuple(tuple(map(float, row)) for row in rows)  # type: ignore[misc]
                schedule = schedule if len(schedule) > 1 else schedule * len(method.schedule)
                origin.append(name)
                break
    for name in _NS_STEPS:
        if name not in names and isinstance(values.get(name), int) and values[name] > 0:
            schedule = resized(schedule, values[name])
            origin.append(name)
            break
    eps = method.eps
    if "eps" not in names and isinstance(values.get("eps"), float):
        eps = values["eps"]
        origin.append("eps")
    used.update(origin)
    if not origin:
        return Row("orthogonalizer", default.orthogonalizer, "rule's default")  # type: ignore[attr-defined]
    changed = dataclasses.replace(method, schedule=schedule, eps=eps)
    # The name is what people know; a value of its own only where something differs.
    value = default.orthogonalizer if changed == method else changed  # type: ignore[attr-defined]
    return Row("orthogonalizer", value, ", ".join(origin))


def resized(schedule: Any, steps: int) -> Any:
    """A schedule of ``steps`` quintics: the first ones, or with the last repeated."""
    return (schedule + (schedule[-1],) * max(0, steps - len(schedule)))[:steps]


def constructor_arguments(factory: Callable[..., Any]) -> dict[str, Any]:
    """The names of a constructor's options with their defaults (None where there is none)."""
    try:
        parameters = list(inspect.signature(factory).parameters.values())[1:]
    except (TypeError, ValueError):
        return {}
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {p.name: None if p.default is p.empty else p.default for p in named}
