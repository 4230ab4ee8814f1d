"""One module per family of rules. Importing this package fills `reference.rule.RULES`; it imports no array library."""

from reference.rules import adam, adaptive, experts, hybrid, muon, row_norm, scion, sgd, sign, spectral

__all__ = ["adam", "adaptive", "experts", "hybrid", "muon", "row_norm", "scion", "sgd", "sign", "spectral"]
