"""Reference update rules: pure, float64, one code for numpy and torch. Importing this imports no array library.

`optimizers` (the ``torch.optim`` front ends) and `build_stack` need torch and are imported when first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from reference import rules as _rules  # noqa: F401  (fills RULES)
from reference.joint import JOINT_RULES, JointRule, get_joint_rule
from reference.rule import RULES, Rule, State, Traits, get_rule

if TYPE_CHECKING:
    from reference import optimizers
    from reference.stack import build_stack

__all__ = [
    "JOINT_RULES",
    "RULES",
    "JointRule",
    "Rule",
    "State",
    "Traits",
    "build_stack",
    "get_joint_rule",
    "get_rule",
    "optimizers",
]


def __getattr__(name: str) -> Any:
    if name == "optimizers":
        return importlib.import_module("reference.optimizers")
    if name == "build_stack":
        return importlib.import_module("reference.stack").build_stack
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
