"""Norm gains: the one thing that decides whether the residual stream and the query-key planes may rotate."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from paper_repro.layout import regions

GAIN_READERS: Mapping[str, tuple[str, ...]] = {
    "attention_gain": ("q", "k", "v"),
    "mlp_gain": ("gate", "up", "router"),
    "final_gain": ("lm_head",),
}
"""Role of a norm's gain -> roles of the matrices that read its output."""
POST_GAINS = ("attention_post_gain", "mlp_post_gain")
"""Gains between a writer and the residual stream (Gemma 3): no matrix reads them, so none can absorb them."""


def absorb_gains(model: nn.Module) -> nn.Module:
    """A copy with the same function whose readers carry the gains, ``W -> W diag(gain)``, and whose gains are one.

    Gains after a writer and gains of a QK-norm stay as they are. Raises ValueError for a tied embedding, whose matrix
    cannot carry the final gain.
    """
    absorbed = copy.deepcopy(model)
    parameters = {name: parameter.detach() for name, parameter in absorbed.named_parameters()}
    table = regions(absorbed)
    for gain in (region for region in table if region.role in GAIN_READERS):
        value = gain.view(parameters[gain.parameter])
        readers = [r for r in table if r.role in GAIN_READERS[gain.role] and r.layer == gain.layer]
        if not readers:
            raise ValueError(
                f"no matrix reads {gain.parameter!r} alone (tied embedding): untie it before absorbing the gain"
            )
        for reader in readers:
            reader.view(parameters[reader.parameter]).mul_(value + gain.offset)
        value.fill_(1.0 - gain.offset)
    return absorbed


def with_scalar_gains(model: nn.Module, value: float = 1.25) -> nn.Module:
    """A copy (another function) in which every gain on the residual stream is the number ``value``."""
    return _with_gains(model, (*GAIN_READERS, *POST_GAINS), lambda gain: torch.full_like(gain, value))


def with_paired_qk_gains(model: nn.Module) -> nn.Module:
    """A copy (another function) in which the gains of a QK-norm agree inside each RoPE plane ``(j, j + d_h/2)`` of
    each head.
    """
    config: Any = model.config
    width = int(config.head_dim)

    def pair(gain: torch.Tensor) -> torch.Tensor:
        planes = gain.view(-1, 2, width // 2)
        return planes[:, :1].expand_as(planes).reshape(gain.shape)

    return _with_gains(model, ("q_gain", "k_gain"), pair)


def _with_gains(model: nn.Module, roles: tuple[str, ...], change: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    changed = copy.deepcopy(model)
    parameters = {name: parameter.detach() for name, parameter in changed.named_parameters()}
    for region in regions(changed):
        if region.role in roles:
            stored = region.view(parameters[region.parameter])
            stored.copy_(change(stored + region.offset) - region.offset)
    return changed
