"""Reference update rules: pure, float64, one code for numpy and torch. Importing this imports no array library."""

from reference import rules as _rules  # noqa: F401  (fills RULES)
from reference.rule import RULES, Rule, State, Traits, get_rule

__all__ = ["RULES", "Rule", "State", "Traits", "get_rule"]
