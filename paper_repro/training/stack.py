"""The optimizer of a run: the one place where a configuration becomes a `LayerwiseOptimizer`."""

from __future__ import annotations

from torch import nn

from paper_repro.configurations import parse_configuration
from paper_repro.presets import Preset, load_preset
from paper_repro.records import RunSpec
from reference import build_stack
from reference.stack import LayerwiseOptimizer


def make_optimizer(model: nn.Module, spec: RunSpec, preset: Preset | None = None) -> LayerwiseOptimizer:
    """The layerwise optimizer of ``spec`` for ``model``.

    Raises ValueError for an unknown optimizer, or a rate that neither the spec nor the preset has.
    """
    preset = preset or load_preset(spec.preset)
    rules = parse_configuration(spec.optimizer).rules(preset, spec.rates)
    return build_stack(model, rules)
