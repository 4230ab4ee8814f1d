"""The variants of the optimizers of torch.optim: options that change the rule, times implementations."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from symcheck.target import Target, locate_in_module

PLUGIN = "torch.optim"

_DECAY = {"weight_decay": 0.1}
OPTIONS: Mapping[str, tuple[Mapping[str, object], ...]] = MappingProxyType(
    {
        "ASGD": ({}, {"lambd": 0.0, "t0": 2.0}, _DECAY),
        "Adadelta": ({}, _DECAY),
        "Adafactor": ({}, {"weight_decay": 0.1, "beta2_decay": -0.5}),
        "Adagrad": ({}, {"lr_decay": 0.1, "initial_accumulator_value": 0.1}, _DECAY),
        "Adam": ({}, {"amsgrad": True}, {"maximize": True, **_DECAY}, {"decoupled_weight_decay": True, **_DECAY}),
        "AdamW": ({}, {"amsgrad": True}, {"weight_decay": 0.0}),
        "Adamax": ({}, _DECAY),
        "Muon": ({}, {"nesterov": False, "weight_decay": 0.0}, {"adjust_lr_fn": "match_rms_adamw"}),
        "NAdam": ({}, {"decoupled_weight_decay": True, **_DECAY}),
        "RAdam": ({}, {"decoupled_weight_decay": True, **_DECAY}),
        "RMSprop": ({}, {"centered": True, "momentum": 0.9}, _DECAY),
        "Rprop": ({}, {"maximize": True}),
        "SGD": (
            {},
            {"momentum": 0.9},
            {"momentum": 0.9, "nesterov": True, "maximize": True},
            {"momentum": 0.9, "dampening": 0.5, **_DECAY},
        ),
    }
)
"""The options to try of every class; the first is the class as it comes."""

NOT_RUNNABLE: Mapping[str, str] = MappingProxyType(
    {
        "LBFGS": "step() needs a closure that re-evaluates the loss",
        "SparseAdam": "takes sparse gradients only",
    }
)
_FLAGS: Mapping[str, Mapping[str, object]] = {"foreach": {"foreach": True}, "fused": {"fused": True}}


def targets() -> Iterator[Target]:
    """One target per class, options and implementation: the loop, ``foreach`` and ``fused`` where there is one."""
    import torch

    for name, options in OPTIONS.items():
        takes = inspect.signature(getattr(torch.optim, name)).parameters
        implementations: list[Mapping[str, object]] = [{"foreach": False} if "foreach" in takes else {}]
        implementations += [flag for key, flag in _FLAGS.items() if key in takes]
        for option, implementation in itertools.product(options, implementations):
            yield Target(f"{PLUGIN}.{name}", locate_in_module(PLUGIN, name), {**option, **implementation})
