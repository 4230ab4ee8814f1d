"""The layerwise optimizer of arXiv 2605.18106 for a whole model: one rule per role, every parameter exactly once.

``optimizer = build_stack(model)`` routes the parameters (`reference.routing`), fits the rule of each role to the layout
of each weight (heads, experts, orientation) and returns one ``torch.optim.Optimizer``; ``print(optimizer)`` shows the
routing table.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from reference.optimizers import RuleBasedOptimizer, check_parameter, hyper_parameters
from reference.routing import ROLES, Route, route
from reference.rule import RULES, Rule, get_rule

if TYPE_CHECKING:
    from reference.fast.execution import Execution
    from reference.fast.precision import Precision

DEFAULT_RULES: Mapping[str, Rule] = {
    "embedding": get_rule("row_norm", lr=1e-3),
    "lm_head": get_rule("row_norm", lr=1e-3, center_rows=True),
    "router": get_rule("row_norm", lr=5e-4, center_rows=True),
    "mlp_gate_up": get_rule("muon_heads", lr=8e-4),
    "mlp_down": get_rule("muon_heads", lr=8e-4),
    "expert_gate_up": get_rule("expert_muon", lr=8e-4),
    "expert_down": get_rule("expert_muon", lr=8e-4),
    "attention_qkv": get_rule("muon_heads", lr=8e-4),
    "attention_o": get_rule("muon_heads", lr=8e-4),
    "matrix": get_rule("muon_heads", lr=8e-4),
    "other": get_rule("adamw", lr=2e-4, betas=(0.9, 0.95), weight_decay=0.01),
}
"""The rules of the paper's training scripts with the learning rates and decays of its builder (``optim/routing.py``).

Norm gains and biases (role ``other``) decay there, and so they do here; nothing else does. Departures: a tied
embedding is not an LM head, and stacked experts are orthogonalised with gate and up apart and with the scale of their
logical shape [out, in], as dense layers are (there fused for OLMoE, and scaled by other shapes). ``overrides`` can
say otherwise.
"""


@dataclasses.dataclass(frozen=True)
class Assignment:
    """A route and the rule fitted to it; ``excluded`` is the pattern that switched off its decay, if one did."""

    route: Route
    rule: Rule
    excluded: str | None = None


class LayerwiseOptimizer(RuleBasedOptimizer):
    """One optimizer for parameters of many roles: every parameter group names its role and its rule.

    Made by `build_stack`. ``print(optimizer)`` shows the routing table with the present learning rates and decays.
    """

    group_keys = RuleBasedOptimizer.group_keys | {"role", "rule"}

    def __init__(self, assignments: Sequence[Assignment], *, maximize: bool = False) -> None:
        groups: dict[tuple[str, Rule], list[Assignment]] = {}
        for assignment in assignments:
            groups.setdefault((assignment.route.role, assignment.rule), []).append(assignment)
        self.assignments = tuple(assignments)
        super().__init__(
            [
                {
                    "params": [(each.route.name, each.route.parameter) for each in members],
                    "role": role,
                    "rule": rule.name,
                    **hyper_parameters(rule),
                }
                for (role, rule), members in groups.items()
            ],
            {"maximize": maximize},
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "assignments": self.assignments}

    def rule_type_of(self, group: Mapping[str, Any]) -> type[Rule]:
        """The rule type that the group names."""
        name = str(group.get("rule"))
        if name not in RULES:
            raise ValueError(f"unknown rule {name!r} in parameter group; known rules: {', '.join(sorted(RULES))}")
        return RULES[name]

    def table(self) -> str:
        """The routing table: parameter, role, rule, shape, learning rate, decay, and what decided."""
        groups = {name: group for group in self.param_groups for name in group.get("param_names", ())}
        rows = [("parameter", "role", "rule", "shape", "lr", "decay", "because")]
        for assignment in self.assignments:
            where = assignment.route
            rule = self.rule_of(groups[where.name])
            decay = f"{rule.decay_rate:g}" if rule.decay_rate else "none"
            if assignment.excluded is not None:
                decay += f" (excluded by {assignment.excluded!r})"
            shape = "x".join(map(str, where.parameter.shape)) or "scalar"
            rows.append((where.name, where.role, _label(rule), shape, f"{rule.lr:g}", decay, where.reason))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )

    def __repr__(self) -> str:
        return self.table()

    def _checked_states(self, state_dict: Mapping[str, Any]) -> list[dict[str, Any] | None]:
        mine = {group["role"] for group in self.param_groups}
        saved = {group.get("role") for group in state_dict["param_groups"]}
        for problem, roles in (("lacks", mine - saved), ("has unknown", saved - mine)):
            if roles:
                listed = ", ".join(sorted(map(str, roles)))
                raise ValueError(f"{type(self).__name__}: checkpoint {problem} roles {listed}")
        return super()._checked_states(state_dict)

    def _checked_rule(self, group: Mapping[str, Any], saved: Mapping[str, Any]) -> Rule:
        for key in ("role", "rule", "param_names"):
            if saved.get(key) != group[key]:
                raise ValueError(
                    f"{type(self).__name__}: checkpoint has {key} {saved.get(key)!r} where the model has {group[key]!r}"
                )
        return super()._checked_rule(group, saved)


def build_stack(
    model: nn.Module,
    rules: Mapping[str, Rule] | None = None,
    *,
    assign: Mapping[str, str] | None = None,
    overrides: Mapping[str, Rule] | None = None,
    undecayed: Collection[str] = (),
    maximize: bool = False,
    precision: Precision | Execution | None = None,
) -> LayerwiseOptimizer:
    """The layerwise optimizer for all parameters of ``model``.

    For example, another rule for the router and no decay of vectors::

        router = get_rule("left_spectral", lr=7.5e-4, center_rows=True)
        optimizer = build_stack(model, {"router": router}, undecayed=["*norm*", "*bias"])
        print(optimizer)  # the routing table

    Args:
        model: a decoder, or any module tree whose parameters can be routed.
        rules: rules by role (`reference.routing.ROLES`), with their hyper-parameters; `DEFAULT_RULES` for the rest.
        Heads,
            layouts and orientations are filled in from the model.
        assign: roles by pattern of parameter names (``fnmatch``), for what routing cannot know.
        overrides: rules by pattern of parameter names, taken exactly as given.
        undecayed: patterns of parameter names whose decay is switched off; stated in the table.
        maximize: step uphill.
        precision: None for the reference implementation; otherwise the one for training (`reference.fast`), with the
            products of polynomial orthogonalisers in "bfloat16", "float16", "tf32", "float32" or "float64", or an
            `Execution` for its other options. Rules, state and checkpoints are the same.

    Raises:
        ValueError: one line, for a parameter that cannot be routed or that its rule cannot step, an unknown role, a
            pattern that matches nothing, or a centring rule for a weight whose loss is not invariant under the shift.
    """
    chosen = dict(rules or {})
    overrides = dict(overrides or {})
    for role in chosen:
        if role not in ROLES:
            raise ValueError(f"unknown role {role!r} in rules; roles are {', '.join(ROLES)}")
    for key, value in {**chosen, **overrides}.items():
        if not isinstance(value, Rule):
            raise TypeError(f"the rule for {key!r} must be a Rule such as get_rule('row_norm'), got {value!r}")
    routes = route(model, assign)
    for argument, patterns in (("overrides", overrides), ("undecayed", undecayed)):
        for pattern in patterns:
            if not any(_matches(where, pattern) for where in routes):
                raise ValueError(f"{argument} pattern {pattern!r} matches no parameter of {type(model).__name__}")
    assignments = []
    for where in routes:
        rule = _rule_for(where, chosen, overrides)
        excluded = next((pattern for pattern in undecayed if _matches(where, pattern)), None)
        if excluded is not None:
            rule = dataclasses.replace(rule, weight_decay=0.0)
        try:
            check_parameter(rule, where.parameter)
        except ValueError as error:
            raise ValueError(f"{where.name} (role {where.role}): {error}") from error
        assignments.append(Assignment(where, rule, excluded))
    if precision is None:
        return LayerwiseOptimizer(assignments, maximize=maximize)
    from reference.fast.optimizers import FastLayerwiseOptimizer

    return FastLayerwiseOptimizer(assignments, precision=precision, maximize=maximize)


def _matches(where: Route, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in where.names)


def _rule_for(where: Route, chosen: Mapping[str, Rule], overrides: Mapping[str, Rule]) -> Rule:
    """An override as it is, the rule of the role fitted, or the default without unfounded centring and fitted."""
    for pattern, rule in overrides.items():
        if _matches(where, pattern):
            return rule
    rule = chosen.get(where.role, DEFAULT_RULES[where.role])
    if getattr(rule, "center_rows", False) and not where.shift:
        if where.role in chosen:
            raise ValueError(
                f"{where.name} (role {where.role}, {where.reason}) has no shift symmetry, so rule {rule.name!r} "
                "must not centre it: set center_rows=False"
            )
        uncentred: dict[str, Any] = {"center_rows": False}
        rule = dataclasses.replace(rule, **uncentred)
    return _fitted(rule, where)


def _fitted(rule: Rule, where: Route) -> Rule:
    """The rule with the fields set that describe how the weight is stored; a rule without such fields as it is."""
    fields = hyper_parameters(rule).keys()
    stored: dict[str, Any] = {}
    if "heads" in fields:
        stored = {"heads": where.blocks, "layout": "qkv" if where.block_axis == "rows" else "o"}
    elif "orientation" in fields:
        stored = {"orientation": where.matrices if "orthogonalizer" in fields else where.units}
        if stored["orientation"] is None:
            raise ValueError(
                f"{where.name} (role {where.role}): rule {rule.name!r} cannot tell gate from up in this layout; "
                "give the parameter a rule of its own with overrides="
            )
    return dataclasses.replace(rule, **stored)


def _label(rule: Rule) -> str:
    """The rule's name with the fields that fitting may set, where they differ from their defaults."""
    shown = {
        field.name: getattr(rule, field.name)
        for field in dataclasses.fields(rule)
        if field.name in ("heads", "layout", "orientation", "center_rows", "order")
        and getattr(rule, field.name) != field.default
    }
    return rule.name + (f"({', '.join(f'{key}={value}' for key, value in shown.items())})" if shown else "")
