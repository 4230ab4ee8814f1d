"""Four decoder families, built from Hugging Face configurations alone: no weights are ever downloaded."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from paper_repro.layout import regions

FAMILIES: Mapping[str, str] = MappingProxyType(
    {"qwen3": "Qwen3", "gemma3": "Gemma3", "olmoe": "Olmoe", "gpt_oss": "GptOss"},
)
"""Family name -> prefix of its classes in transformers."""

_SHARED: Mapping[str, Any] = {
    # A pad token freezes one embedding row, and every special token must lie inside a small vocabulary.
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
    "use_cache": False,
    "tie_word_embeddings": False,
    # The eager path is the one that every family has, and that states its arithmetic in the open.
    "attn_implementation": "eager",
}
_MOE: Mapping[str, Any] = {"experts_implementation": "eager", "router_aux_loss_coef": 0.0}
_PER_FAMILY: Mapping[str, Mapping[str, Any]] = {"qwen3": {}, "gemma3": {}, "olmoe": _MOE, "gpt_oss": _MOE}

_TINY: Mapping[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 32,
}
_WINDOWED: Mapping[str, Any] = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
# gpt-oss gets YaRN with factor 32 unless told otherwise, and a warning unless the context is 32 times the original one.
_YARN: Mapping[str, Any] = {"max_position_embeddings": 131_072}
_TINY_PER_FAMILY: Mapping[str, Mapping[str, Any]] = {
    "qwen3": {},
    "gemma3": {"query_pre_attn_scalar": 4, **_WINDOWED},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, **_WINDOWED, **_YARN},
}


def build(family: str, **config: Any) -> nn.Module:
    """A causal language model of ``family`` with transformers' own initialisation, in float32.

    ``config`` goes to the family's configuration class. Embeddings are untied and there is no pad token unless it says
    otherwise. Raises ValueError for an unknown family, ModuleNotFoundError naming the extra without transformers.
    """
    prefix = FAMILIES.get(family)
    if prefix is None:
        raise ValueError(f"unknown model family {family!r}: use one of {', '.join(FAMILIES)}")
    library = _transformers()
    name = "Gemma3TextConfig" if family == "gemma3" else f"{prefix}Config"
    settings = {**_SHARED, **_PER_FAMILY[family], **config}
    # The class itself, not the auto class's `from_config`: that one would cast the parameters to the configured dtype.
    model: nn.Module = getattr(library, f"{prefix}ForCausalLM")(getattr(library, name)(**settings))
    return model.eval()


def tiny(family: str, *, seed: int = 0, **config: Any) -> nn.Module:
    """A float64 model of two layers, width 16 and 40 tokens at a generic point of its parameter space.

    Every parameter is random: gains are not one, biases and attention sinks not zero, and weights are large enough
    that attention and routing are far from uniform. At an initialisation point many broken symmetries look intact.
    """
    model = build(family, **{**_TINY, **_TINY_PER_FAMILY.get(family, {}), **config}).double()
    generator = torch.Generator().manual_seed(seed)
    parameters = dict(model.named_parameters())
    for region in regions(model):
        view = region.view(parameters[region.parameter].data)
        noise = torch.randn(view.shape, generator=generator, dtype=view.dtype)
        if region.role == "embedding":
            view.copy_(noise)
        elif region.block == "other":
            centre = 1.0 if region.role.endswith("gain") else 0.0
            view.copy_(centre - region.offset + 0.3 * noise)
        else:
            view.copy_(noise / math.sqrt(view.shape[-1]))
    for layer in model.get_submodule("model.layers").children():
        layer.register_forward_pre_hook(_halved_mask, with_kwargs=True)
    return model


def _halved_mask(_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    # Transformers masks with the lowest number there is. Perturbed arithmetic makes it infinite, and then not a number
    # where the attention sinks are joined. Half of it has the same softmax, which is zero.
    mask = kwargs["attention_mask"]
    return args, {**kwargs, "attention_mask": mask.clamp(min=torch.finfo(mask.dtype).min / 2)}


def _transformers() -> Any:
    try:
        return importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise ModuleNotFoundError(
            "paper_repro.models needs transformers: install it with `pip install 'symcheck[repro]'`",
            name="transformers",
        ) from None
