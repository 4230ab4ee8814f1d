"""One module per family of rules. Importing this package fills `reference.rule.RULES`; it imports no array library."""

from reference.rules import (
    adago,
    adam,
    adaptive,
    experts,
    hybrid,
    muon,
    muon_ogd,
    muoneq,
    olion,
    row_norm,
    scion,
    sgd,
    sign,
    spectral,
)

__all__ = [
    "adago",
    "adam",
    "adaptive",
    "experts",
    "hybrid",
    "muon",
    "muon_ogd",
    "muoneq",
    "olion",
    "row_norm",
    "scion",
    "sgd",
    "sign",
    "spectral",
]
