"""One value for every line of the specification: the configurations that tests, benchmarks and tables go through."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from reference.orthogonalizers import ORTHOGONALIZERS
from reference.rule import RULES, Rule, get_rule

_OPTIONS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "sgd": {
        "momentum": {"momentum": 0.9, "dampening": 0.1},
        "nesterov": {"momentum": 0.9, "nesterov": True},
        "decay": {"momentum": 0.9, "weight_decay": 0.1},
    },
    "signum": {"decay": {"weight_decay": 0.1}},
    "lion": {"decay": {"weight_decay": 0.1}},
    "adam": {"amsgrad": {"amsgrad": True}, "decay": {"weight_decay": 0.1}},
    "adamw": {"uncorrected_eps": {"uncorrected_eps": True, "betas": (0.9, 0.95)}, "no_decay": {"weight_decay": 0.0}},
    "rmsprop": {"centered": {"centered": True, "momentum": 0.9}, "decay": {"weight_decay": 0.1}},
    "adagrad": {"lr_decay": {"lr_decay": 0.1}, "initial": {"initial_accumulator_value": 0.1}},
    "adagrad_norm": {"b0": {"b0": 0.5}, "decay": {"weight_decay": 0.1}},
    "ssd": {},
    "right_spectral": {
        "direction": {"alpha": 0.0},
        "root": {"alpha": 0.5},
        "centred": {"center_rows": True},
        "coupled": {"backend": "polar_express"},
        "coupled_cubic": {"backend": "newton_schulz"},
        "gram_newton_schulz": {"backend": "gram_newton_schulz"},
        "decay": {"weight_decay": 0.1},
    },
    "left_spectral": {
        "centred": {"center_rows": True},
        "coupled": {"backend": "polar_express"},
        "centred_coupled": {"center_rows": True, "backend": "polar_express"},
        "decay": {"weight_decay": 0.1, "alpha": 0.0},
    },
    "row_norm": {
        "centred": {"center_rows": True},
        "unit": {"row_mode": "unit"},
        "col": {"orientation": "col"},
        "centred_col": {"orientation": "col", "center_rows": True},
        "olmoe_pair": {"orientation": "olmoe_gate_up_pair"},
        "centred_olmoe_pair": {"orientation": "olmoe_gate_up_pair", "center_rows": True},
        "gpt_oss_pair": {"orientation": "gpt_oss_gate_up_pair"},
        "centred_gpt_oss_pair": {"orientation": "gpt_oss_gate_up_pair", "center_rows": True},
        "decay": {"weight_decay": 0.1},
    },
    "hybrid": {
        "centred": {"center_rows": True},
        "col": {"orientation": "col"},
        "row_then_polar": {"order": "row_then_polar"},
        "row_then_polar_centred": {"order": "row_then_polar", "center_rows": True},
        "row_then_polar_col": {"order": "row_then_polar", "orientation": "col"},
        "row_then_polar_left_coupled": {"order": "row_then_polar", "side": "left", "backend": "polar_express"},
        "row_then_polar_gram_newton_schulz": {"order": "row_then_polar", "backend": "gram_newton_schulz"},
        "row_then_polar_olmoe_pair": {"order": "row_then_polar", "orientation": "olmoe_gate_up_pair"},
        "row_then_polar_gpt_oss_pair": {"order": "row_then_polar", "orientation": "gpt_oss_gate_up_pair"},
    },
    "muon": {
        **{name: {"orthogonalizer": name} for name in ORTHOGONALIZERS if name not in ("jordan", "qdwh_2")},
        "no_nesterov": {"nesterov": False},
        "emerging": {
            "nesterov": False,
            "orthogonalizer": "you",
            "adjust_lr": "spectral",
            "lr": 3e-4,
            "weight_decay": 0.01,
        },
        "decay": {"weight_decay": 0.1},
    },
    "muon_moonlight": {},
    "muon_torch": {"match_rms_adamw": {"adjust_lr": "match_rms_adamw", "weight_decay": 0.0}},
    "muon_heads": {"qkv": {"heads": 2}, "o": {"heads": 2, "layout": "o"}},
    "muoneq": {
        "C": {"mode": "C"},
        "RC": {"mode": "RC"},
        "phase": {"mode": "RC", "phase": 3},
        "root": {"exponent": -0.25},
        "clip": {"clip": 4.0, "weight_decay": 0.0},
        "inf": {"statistic": "inf", "momentum": 0.9, "lr": 5e-3},
        "spc": {"orthogonalizer": "jordan_spc"},
        "exact": {"orthogonalizer": "exact", "accumulation": "ema", "nesterov": False, "weight_decay": 0.0},
        "exact_C": {"mode": "C", "orthogonalizer": "exact", "accumulation": "ema", "weight_decay": 0.0},
        "theory": {"theory_momentum": True, "accumulation": "ema", "nesterov": False},
    },
    "olion": {"exact": {"orthogonalizer": "exact", "weight_decay": 0.01}},
    "adago": {
        "unbounded": {"gamma": math.inf, "v0": 0.0},
        "exact": {"orthogonalizer": "exact", "weight_decay": 0.1},
    },
    "muon_ogd": {
        "exact": {"orthogonalizer": "exact", "momentum": 0.9, "accumulation": "ema", "weight_decay": 0.1},
        "dynamic_scale": {"dynamic_scale": True},
        "collect": {"collect": 2, "dual_lr": 0.1, "dual_steps": 3, "momentum": 0.9},
        "collect_cold": {"collect": 1, "dual_lr": 0.1, "warm_start": False, "orthogonalizer": "exact"},
    },
    "muon_ogd_bilinear": {},
    "scion": {
        "unconstrained": {"constrained": False, "momentum": 0.9},
        "convolution": {"constrained": False, "kernel_positions": 2, "at_least_one": True},
        "emerging": {"momentum": 0.95, "orthogonalizer": "you"},
        "sign": {"constrained": False, "norm": "sign", "momentum": 0.9},
        "sign_constrained": {"norm": "sign"},
        "col": {"constrained": False, "norm": "col"},
        "col_transposed": {"constrained": False, "norm": "col", "transpose": True, "normalized": True},
        "row": {"constrained": False, "norm": "row"},
        "row_transposed": {"constrained": False, "norm": "row", "transpose": True, "normalized": False},
        "bias_rms": {"constrained": False, "norm": "bias_rms"},
    },
    "polargrad": {
        "polar_first": {"polar_first": True},
        "newton_schulz": {"orthogonalizer": "jordan"},
        "polar_express": {"orthogonalizer": "polar_express"},
        "emerging": {"orthogonalizer": "you", "nesterov": True, "lr": 3e-4, "weight_decay": 0.01},
        "qdwh": {"orthogonalizer": "qdwh"},
        "qdwh_2": {"orthogonalizer": "qdwh_2"},
        "decay": {"weight_decay": 0.1},
    },
    "shampoo": {
        "ema": {"beta": 0.95},
        "half": {"exponent": 0.5},
        "diagonal": {"diagonal": "both"},
        "left_diagonal": {"diagonal": "left"},
        "decay": {"weight_decay": 0.1},
    },
    "one_sided_shampoo": {"right": {"side": "right"}, "smaller": {"side": "smaller"}},
    "asgo": {"right": {"side": "right", "weight_decay": 0.0}},
    "soap": {
        "often": {"frequency": 2, "weight_decay": 0.0},
        "right": {"rotated": "right", "frequency": 2},
    },
    "ddc_shift": {
        "muon": {"base": "muon"},
        "decay": {"weight_decay": 0.1},
    },
    "dion": {"rank_3": {"rank": 3, "weight_decay": 0.0}},
    "normuon": {"exact": {"orthogonalizer": "exact"}, "paper": {"rescale": "rms", "weight_decay": 0.1}},
    "adamuon": {"exact": {"orthogonalizer": "exact", "weight_decay": 0.0}},
    "adaptive_muon": {
        "normuon": {"second_moment": "normuon", "weight_decay": 0.0},
        "namo": {"second_moment": "namo", "weight_decay": 0.0, "nesterov": True},
    },
    "adafactor": {
        "paper": {"semantics": "paper", "eps": (1e-30, 1e-3)},
        "decay": {"weight_decay": 0.1, "d": 0.5},
    },
    "lars": {"decay": {"weight_decay": 0.1}},
    "lamb": {"no_decay": {"weight_decay": 0.0}, "bounded": {"max_norm": 1.0}},
    "expert_row_norm": {"centred": {"center_rows": True}, "col": {"orientation": "col"}},
    "expert_hybrid": {
        "row_then_polar": {"order": "row_then_polar"},
        "shared_scale": {"order": "row_then_polar", "shared_scale": True},
    },
    "expert_muon": {
        "col": {"orientation": "col"},
        "olmoe_pair": {"orientation": "olmoe_gate_up_pair"},
        "gpt_oss_pair": {"orientation": "gpt_oss_gate_up_pair"},
    },
}


def _variants() -> dict[str, Rule]:
    variants: dict[str, Rule] = {}
    for name in RULES:
        variants[name] = get_rule(name)
        for option, hyper in _OPTIONS.get(name, {}).items():
            variants[f"{name}/{option}"] = get_rule(name, **hyper)
    return variants


VARIANTS: Mapping[str, Rule] = MappingProxyType(_variants())
"""Rule values by ``rule`` (the defaults) or ``rule/option``."""
