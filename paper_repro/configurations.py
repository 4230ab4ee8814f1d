"""Optimizer configurations of the paper, by name: which rule steps which role.

A name is ``<vocabulary>-<units>`` for a dense model and ``<vocabulary>-<units>-<router>`` for a mixture of experts:

    vocabulary  embedding and LM head       adamw, row, hybrid, right
    units       SwiGLU weights or experts   muon, hybrid, row, adamw
    router                                  adamw, row, left, left_uncentered, hybrid

``row-muon-left`` is row normalisation for the vocabulary, Muon for the experts, the centred left-spectral rule for the
router. Attention is head-wise Muon, and gains, biases and sinks AdamW, as in the paper. Any rule of `reference` may
stand in a place by its own name (``adamw-lion``); ``muon`` among the units is the paper's, with Polar Express. A single
name steps every matrix by that rule (``adamw``, ``lion``).

Learning rates of the hybrid rule are in the units of the paper's code. There, the Gram Newton-Schulz step divides its
argument ``D``, the row-normalised momentum, by its norm *in place*, so that the scale ``nu = <D, polar(D)>`` taken next
is smaller by ``||D|| = sqrt(rows)`` than the formula says (read in Dao-AILab/gram-newton-schulz
``GramNewtonSchulz.__call__`` and ``optim/hybrid.py``). Our rule is the formula; its rate is divided by ``sqrt(rows)``.

Behind ``+`` come departures, for ablations: ``uncentred`` leaves the shared shift in the head's and router's updates,
``decayed`` gives embedding, head and router the weight decay of the other roles.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paper_repro.presets import Preset
from reference import RULES, get_rule
from reference.rule import Rule

RATE_ROLE: Mapping[str, str] = {
    "embedding": "embedding",
    "lm_head": "lm_head",
    "router": "router",
    "mlp_gate_up": "mlp",
    "mlp_down": "mlp",
    "expert_gate_up": "mlp",
    "expert_down": "mlp",
    "attention_qkv": "attention",
    "attention_o": "attention",
    "matrix": "attention",
    "other": "other",
}
"""Role of `reference.routing` -> role that has a learning rate (`paper_repro.records.RATE_ROLES`)."""

_ADAMW: Mapping[str, Any] = {"name": "adamw", "betas": (0.9, 0.95), "eps": 1e-8}
# The order and the orthogonaliser of the paper's training scripts; the defaults of its classes are others.
_HYBRID: Mapping[str, Any] = {"name": "hybrid", "order": "row_then_polar", "backend": "gram_newton_schulz"}

_VOCABULARY: Mapping[str, Mapping[str, Any]] = {
    "adamw": _ADAMW,
    "row": {"name": "row_norm"},
    "hybrid": _HYBRID,
    "right": {"name": "right_spectral", "backend": "gram_newton_schulz"},
}
_UNITS: Mapping[str, Mapping[str, Any]] = {
    "adamw": _ADAMW,
    "muon": {"name": "muon_heads"},
    "hybrid": _HYBRID,
    "row": {"name": "row_norm"},
}
_EXPERTS: Mapping[str, Mapping[str, Any]] = {
    "adamw": _ADAMW,
    "muon": {"name": "expert_muon"},
    "hybrid": {**_HYBRID, "name": "expert_hybrid"},
    "row": {"name": "expert_row_norm"},
}
_ROUTER: Mapping[str, Mapping[str, Any]] = {
    "adamw": _ADAMW,
    "row": {"name": "row_norm", "center_rows": True},
    "left": {"name": "left_spectral", "backend": "polar_express", "center_rows": True},
    "left_uncentered": {"name": "left_spectral", "backend": "polar_express"},
    "hybrid": {**_HYBRID, "side": "left", "center_rows": True},
}
_ATTENTION: Mapping[str, Mapping[str, Any]] = {"muon": {"name": "muon_heads"}, "adamw": _ADAMW}

_CHOICES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "embedding": _VOCABULARY,
    "lm_head": {choice: {**hyper, "center_rows": True} for choice, hyper in _VOCABULARY.items() if choice != "adamw"}
    | {"adamw": _ADAMW},
    "router": _ROUTER,
    **dict.fromkeys(("mlp_gate_up", "mlp_down"), _UNITS),
    **dict.fromkeys(("expert_gate_up", "expert_down"), _EXPERTS),
    **dict.fromkeys(("attention_qkv", "attention_o", "matrix"), _ATTENTION),
    "other": {"adamw": _ADAMW},
}
"""Role of `reference.routing` -> choice -> the rule's name and what differs from its defaults."""

DEPARTURES: Mapping[str, str] = {
    "uncentred": "no centring in the rules of LM head and router",
    "decayed": "embedding, LM head and router decay like the attention weights",
}
_SHIFTED = ("lm_head", "router")
_UNDECAYED = ("embedding", *_SHIFTED)


@dataclass(frozen=True)
class Configuration:
    """Which choice of rule steps which part of a model; see the module for the names."""

    name: str
    vocabulary: str
    units: str
    router: str | None
    attention: str = "muon"
    departures: frozenset[str] = frozenset()

    def choice(self, role: str) -> str:
        """The choice for a role of `reference.routing`; a dense model's ``router`` raises ValueError."""
        match RATE_ROLE[role]:
            case "embedding" | "lm_head":
                return self.vocabulary
            case "mlp":
                return self.units
            case "attention":
                return self.attention
            case "router":
                if self.router is None:
                    raise ValueError(
                        f"optimizer {self.name!r} has no rule for the router: add one, as in row-muon-left"
                    )
                return self.router
            case _:
                return "adamw"

    def rule(self, role: str, preset: Preset, rates: Mapping[str, float]) -> Rule:
        """The rule of ``role`` with learning rate and decay; ``rates`` by `RATE_ROLES` go before the preset's."""
        choice, rate_role = self.choice(role), RATE_ROLE[role]
        hyper = dict(_CHOICES[role].get(choice) or {"name": choice})
        name = hyper.pop("name")
        fields = {each.name for each in dataclasses.fields(RULES[name])}
        if "uncentred" in self.departures and role in _SHIFTED:
            hyper["center_rows"] = False
        decay = preset.decay.get(rate_role, 0.0)
        if "decayed" in self.departures and role in _UNDECAYED:
            decay = preset.decay.get("attention", 0.0)
        if name == "scion":
            decay = 0.0  # its constrained steps shrink the weight already, and it refuses decay
        rate = rates[rate_role] if rate_role in rates else self._rate(role, preset)
        if choice == "hybrid":
            rate /= math.sqrt(_units(role, preset))
        hyper = {key: value for key, value in hyper.items() if key in fields}
        return get_rule(name, lr=rate, weight_decay=decay, **hyper)

    def _rate(self, role: str, preset: Preset) -> float:
        return preset.rate(RATE_ROLE[role], self.choice(role), self.name.partition("+")[0])

    def rates(self, preset: Preset) -> dict[str, float]:
        """The preset's learning rates by `RATE_ROLES`, in the units of `RunSpec.rates`; ValueError as in `rules`."""
        return {RATE_ROLE[role]: self._rate(role, preset) for role in _roles(preset)}

    def rules(self, preset: Preset, rates: Mapping[str, float] | None = None) -> dict[str, Rule]:
        """The rules of all roles that a model of the preset's family can have.

        Raises ValueError for a rate that neither ``rates`` nor the preset has, or for a router without a rule.
        """
        return {role: self.rule(role, preset, rates or {}) for role in _roles(preset)}


def _roles(preset: Preset) -> tuple[str, ...]:
    """The roles of `reference.routing` that a model of the preset's family has."""
    absent = ("mlp_gate_up", "mlp_down") if preset.has_router else ("router", "expert_gate_up", "expert_down")
    return tuple(role for role in RATE_ROLE if role not in (*absent, "matrix"))


def _units(role: str, preset: Preset) -> int:
    """How many rows the hybrid rule normalises in a weight of this role."""
    if role in ("embedding", "lm_head"):
        return int(preset.model["vocab_size"])
    if role == "router":
        return int(preset.model.get("num_experts") or preset.model["num_local_experts"])
    return int(preset.model["intermediate_size"])


def parse_configuration(name: str) -> Configuration:
    """The configuration ``name``. Raises ValueError, one line, naming what is unknown and what there is."""
    base, *departures = name.split("+")
    places = base.split("-")
    if unknown := set(departures) - DEPARTURES.keys():
        raise ValueError(f"optimizer {name!r}: unknown departure {min(unknown)!r}; known: {', '.join(DEPARTURES)}")
    if not 1 <= len(places) <= 3:
        raise ValueError(f"optimizer {name!r}: write <vocabulary>-<units>[-<router>], or one rule for all matrices")
    if len(places) == 1:
        (only,) = places
        _check(name, only, {"adamw": {}})
        return Configuration(name, only, only, only, attention=only, departures=frozenset(departures))
    for place, choices in zip(places, (_VOCABULARY, _UNITS, _ROUTER), strict=False):
        _check(name, place, choices)
    router = places[2] if len(places) == 3 else None
    return Configuration(name, places[0], places[1], router, departures=frozenset(departures))


def _check(name: str, choice: str, choices: Mapping[str, Any]) -> None:
    if choice not in choices and choice not in RULES:
        raise ValueError(
            f"optimizer {name!r}: unknown choice {choice!r}; use {', '.join(choices)}, or a rule of reference: "
            f"{', '.join(sorted(RULES))}"
        )
