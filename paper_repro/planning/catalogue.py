"""What planning has to know of the presets and optimizer configurations that there are."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from paper_repro.configurations import parse_configuration
from paper_repro.presets import Preset, load_preset
from paper_repro.records import Precision


class Presets:
    """The `paper_repro.planning.study.Catalogue` of the preset files. Unknown names raise ValueError, one line."""

    def family(self, preset: str) -> str:
        """The model family, e.g. ``qwen3``."""
        return _preset(preset).family

    def steps(self, preset: str) -> int:
        """Optimizer steps of a full run."""
        return _preset(preset).steps

    def precision(self, preset: str) -> Precision:
        """That of its runs."""
        return _preset(preset).precision

    def auxiliary(self, preset: str) -> bool:
        """Whether router losses are added to the objective."""
        return _preset(preset).balance_loss > 0 or _preset(preset).z_loss > 0

    def rates(self, preset: str, optimizer: str) -> Mapping[str, float]:
        """Learning rates by role, as the preset has them for the rules of this configuration."""
        return _rates(preset, optimizer)


@functools.cache
def _preset(name: str) -> Preset:
    return load_preset(name)


@functools.cache
def _rates(preset: str, optimizer: str) -> Mapping[str, float]:
    return parse_configuration(optimizer).rates(_preset(preset))
