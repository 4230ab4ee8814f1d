"""The optimizer of a run: the one place where a configuration becomes a `LayerwiseOptimizer`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn

from paper_repro.configurations import parse_configuration
from paper_repro.presets import Preset, load_preset
from paper_repro.records import Precision, RunSpec
from reference import build_stack
from reference.stack import LayerwiseOptimizer

if TYPE_CHECKING:
    from reference.fast.precision import Precision as ProductPrecision

PRODUCTS: Mapping[Precision, ProductPrecision] = {
    "fp32": "float32",
    "tf32": "bfloat16",
    "bf16_autocast": "bfloat16",
}
"""Precision of a run -> that of the products in polynomial orthogonalisers; the paper's code uses bfloat16."""


def make_optimizer(model: nn.Module, spec: RunSpec, preset: Preset | None = None) -> LayerwiseOptimizer:
    """The layerwise optimizer of ``spec`` for ``model``.

    Raises ValueError for an unknown optimizer, or a rate that neither the spec nor the preset has.
    """
    preset = preset or load_preset(spec.preset)
    rules = parse_configuration(spec.optimizer).rules(preset, spec.rates)
    return build_stack(model, rules, precision=PRODUCTS[spec.precision])
