"""One module per family of rules. Importing this package fills `reference.rule.RULES`; it imports no array library."""

from reference.rules import row_norm, sgd

__all__ = ["row_norm", "sgd"]
