"""Where each block of the block table lies in a model's parameters.

Transformers stores the same mathematical matrix in different ways: OLMoE's experts are ``[E, 2r, d]`` with the gate
rows before the up rows, gpt-oss's are ``[E, d, 2r]`` with gate and up columns interleaved. A `Region` names the block
and turns the stored tensor into the orientation of the block table (``y = W x``) as a strided view, so that writing
to the view writes to the parameter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Region:
    """A part of one parameter that is one block (or one stack of blocks) of the block table.

    ``role`` tells regions of one layer apart (``q``, ``gate``, ``router_bias``, ``attention_gain`` ...). ``block`` is
    a name of `groups.BLOCKS`, or ``other`` (gains, biases, attention sinks). ``experts`` stacks have one more axis in
    front and say in ``expert_block`` what one expert's matrix is; ``stacked`` says that the first axis counts
    experts. ``heads`` is the number of attention heads along the head axis (rows of q, k, v; columns of o). A gain is
    ``offset`` plus the stored value.
    """

    parameter: str
    layer: int | None
    role: str
    block: str = "other"
    expert_block: str | None = None
    stacked: bool = False
    heads: int = 1
    offset: float = 0.0
    transposed: bool = False
    neurons: tuple[int, int | None, int] = (0, None, 1)

    @property
    def label(self) -> str:
        """Role and layer, unique in a model: ``q_0``, ``lm_head``."""
        return self.role if self.layer is None else f"{self.role}_{self.layer}"

    def view(self, tensor: torch.Tensor) -> torch.Tensor:
        """``tensor`` (a parameter or its gradient) in the block table's orientation: a view, never a copy."""
        if self.transposed:
            tensor = tensor.mT
        if self.neurons == (0, None, 1):
            return tensor
        neurons = slice(*self.neurons)
        # The neurons are the rows of a matrix, or the entries of a bias.
        return tensor[..., neurons] if self.block == "other" else tensor[..., neurons, :]


def regions(model: nn.Module) -> tuple[Region, ...]:
    """Every entry of every parameter of a Qwen3, Gemma 3, OLMoE or gpt-oss style model, exactly once.

    A tied embedding appears once, as ``embedding``: the shift of an LM head is no symmetry of a shared matrix. Raises
    ValueError naming the parameter that no rule places.
    """
    config: Any = model.config
    return tuple(region for name, _ in model.named_parameters() for region in _place(name, config))


def blocks(model: nn.Module) -> dict[str, tuple[Region, ...]]:
    """Parameter name -> its regions; total over ``model.named_parameters()``."""
    table: dict[str, tuple[Region, ...]] = {}
    for region in regions(model):
        table[region.parameter] = (*table.get(region.parameter, ()), region)
    return table


_GLOBAL: Mapping[str, tuple[str, str]] = {
    "model.embed_tokens.weight": ("embedding", "embedding"),
    "lm_head.weight": ("lm_head", "lm_head"),
    "model.norm.weight": ("final_gain", "other"),
}
_LAYER: Mapping[str, tuple[str, str]] = {
    "self_attn.q_proj.weight": ("q", "attention_qkv"),
    "self_attn.k_proj.weight": ("k", "attention_qkv"),
    "self_attn.v_proj.weight": ("v", "attention_qkv"),
    "self_attn.o_proj.weight": ("o", "attention_o"),
    "self_attn.q_proj.bias": ("q_bias", "other"),
    "self_attn.k_proj.bias": ("k_bias", "other"),
    "self_attn.v_proj.bias": ("v_bias", "other"),
    "self_attn.o_proj.bias": ("o_bias", "other"),
    "self_attn.q_norm.weight": ("q_gain", "other"),
    "self_attn.k_norm.weight": ("k_gain", "other"),
    "self_attn.sinks": ("sinks", "other"),
    "input_layernorm.weight": ("attention_gain", "other"),
    "mlp.gate_proj.weight": ("gate", "swiglu_gate"),
    "mlp.up_proj.weight": ("up", "swiglu_up"),
    "mlp.down_proj.weight": ("down", "swiglu_down"),
    "mlp.gate.weight": ("router", "router"),
    "mlp.router.weight": ("router", "router"),
    "mlp.router.bias": ("router_bias", "other"),
}
# Gemma 3 norms what a sub-layer writes as well as what it reads, and reuses a name for another place.
_PRE_NORM: Mapping[str, tuple[str, str]] = {"post_attention_layernorm.weight": ("mlp_gain", "other")}
_SANDWICH_NORM: Mapping[str, tuple[str, str]] = {
    "post_attention_layernorm.weight": ("attention_post_gain", "other"),
    "pre_feedforward_layernorm.weight": ("mlp_gain", "other"),
    "post_feedforward_layernorm.weight": ("mlp_post_gain", "other"),
}
_HEAD_COUNT: Mapping[str, str] = {
    **dict.fromkeys(("q", "o", "q_bias", "sinks"), "num_attention_heads"),
    **dict.fromkeys(("k", "v", "k_bias", "v_bias"), "num_key_value_heads"),
}
_LAYER_NAME = re.compile(r"model\.layers\.(\d+)\.(.+)")


def _place(name: str, config: Any) -> Iterator[Region]:
    match = _LAYER_NAME.fullmatch(name)
    layer, suffix = (int(match[1]), match[2]) if match else (None, name)
    if suffix.startswith("mlp.experts."):
        yield from _place_experts(name, layer, suffix.removeprefix("mlp.experts."), config)
        return
    gemma = config.model_type == "gemma3_text"
    table = {**_LAYER, **(_SANDWICH_NORM if gemma else _PRE_NORM)} if match else _GLOBAL
    if suffix not in table:
        raise _unplaced(name, config)
    role, block = table[suffix]
    offset = 1.0 if gemma and role.endswith("gain") else 0.0
    attribute = _HEAD_COUNT.get(role)
    heads = 1 if attribute is None else int(getattr(config, attribute))
    yield Region(name, layer, role, block, heads=heads, offset=offset)


def _place_experts(name: str, layer: int | None, suffix: str, config: Any) -> Iterator[Region]:
    """The experts of OLMoE (``[E, 2r, d]``, ``[E, d, r]``) and gpt-oss (``[E, d, 2r]`` interleaved, ``[E, r, d]``)."""
    interleaved = config.model_type == "gpt_oss"
    width = int(config.intermediate_size)
    gate, up = ((0, None, 2), (1, None, 2)) if interleaved else ((0, width, 1), (width, None, 1))

    def stack(role: str, neurons: tuple[int, int | None, int] = (0, None, 1)) -> Region:
        block = f"swiglu_{role}"
        return Region(name, layer, role, "experts", block, stacked=True, transposed=interleaved, neurons=neurons)

    match suffix:
        case "gate_up_proj":
            yield stack("gate", gate)
            yield stack("up", up)
        case "down_proj":
            yield stack("down")
        case "gate_up_proj_bias" if interleaved:
            yield Region(name, layer, "gate_bias", stacked=True, neurons=gate)
            yield Region(name, layer, "up_bias", stacked=True, neurons=up)
        case "down_proj_bias" if interleaved:
            yield Region(name, layer, "down_bias", stacked=True)
        case _:
            raise _unplaced(name, config)


def _unplaced(name: str, config: Any) -> ValueError:
    return ValueError(
        f"parameter {name!r} of a {config.model_type!r} model has no place in the block table: add it to the layout"
    )
