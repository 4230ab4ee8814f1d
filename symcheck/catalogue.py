"""What ``symcheck list`` prints: names and one line on each. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from symcheck.errors import one_line

if TYPE_CHECKING:
    from reference import Rule

Entries = list[tuple[str, str]]


def rules() -> Entries:
    """The reference rules: largest group by default, source, and under which conditions that is the group."""
    from reference import RULES, get_rule
    from reference.joint import JOINT_RULES, get_joint_rule

    single = [(name, get_rule(name).symmetry, RULES[name].source) for name in RULES]
    joint = [(name, get_joint_rule(name).symmetry, JOINT_RULES[name].source) for name in JOINT_RULES]
    notes = {name: _notes(get_rule(name)) for name in RULES}
    return [
        (f"rule:{name}", f"{symmetry:<28} {one_line(source)}{notes.get(name, '')}")
        for name, symmetry, source in sorted(single + joint)
    ]


def _notes(rule: Rule) -> str:
    """Side conditions of the group, the gauges of the state, and the larger group of rule and state together."""
    notes = [f"if: {condition}" for condition in rule.side_conditions]
    notes += [f"gauge: {family} on {axis.replace('_', ' ')}" for axis, family in rule.gauges.items()]
    if rule.joint_symmetry != rule.symmetry:
        notes.append(f"with its state: {rule.joint_symmetry}")
    return f"  ({'; '.join(notes)})" if notes else ""


def blocks() -> Entries:
    """The block table: the action that each block's optimizer must respect; then the joint ones, asked for by name."""
    from groups import BLOCKS, JOINT_BLOCKS

    entries = [(name, f"{block.action}  ({block.summary})") for name, block in BLOCKS.items()]
    return entries + [(name, f"{block.action}  (by name: {block.summary})") for name, block in JOINT_BLOCKS.items()]


def properties() -> Entries:
    """Properties of a rule on a block, then contracts of an implementation."""
    from symcheck.probe.names import CONTRACTS, PROPERTIES

    return [*PROPERTIES.items(), *((name, f"contract: {text}") for name, text in CONTRACTS.items())]


def optimizers() -> Entries:
    """What can be certified by name: torch.optim, registered optimizers, installed plugins."""
    from symcheck import registry
    from symcheck.builtin import TORCH_OPTIM

    entries = [(f"torch.optim.{name}", one.declined or one.symmetry) for name, one in TORCH_OPTIM.items()]
    entries += [(name, "registered") for name in registry.registered()]
    return entries + [(f"{plugin}:NAME", f"entry point {registry.ENTRY_POINTS}") for plugin in registry.plugins()]


def groups() -> Entries:
    """The families of groups that an action spec may name."""
    from groups import FAMILIES

    return [(name, one_line((group.__doc__ or "").strip().splitlines()[0])) for name, group in FAMILIES.items()]


CATALOGUES: Mapping[str, Callable[[], Entries]] = {
    "rules": rules,
    "blocks": blocks,
    "groups": groups,
    "optimizers": optimizers,
    "properties": properties,
}
