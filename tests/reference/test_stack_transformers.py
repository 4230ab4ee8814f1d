"""Routing and one step on real decoders: Qwen3, Gemma 3, OLMoE and gpt-oss from tiny configurations."""

import re

import pytest
import torch

from reference.routing import route
from reference.stack import build_stack

transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
DENSE = {
    r"embed_tokens\.weight": "embedding",
    r"[qkv]_proj\.weight": "attention_qkv",
    r"o_proj\.weight": "attention_o",
    r"mlp\.(gate|up)_proj\.weight": "mlp_gate_up",
    r"mlp\.down_proj\.weight": "mlp_down",
    r"norm\.weight": "other",
    r"lm_head\.weight": "lm_head",
}
MIXTURE = {
    r"experts\.gate_up_proj": "expert_gate_up",
    r"experts\.down_proj": "expert_down",
    r"mlp\.(gate|router)\.weight": "router",
    r"\.bias|_bias|sinks": "other",
}


def build(family, **options):
    torch.manual_seed(0)
    config, model = {
        "qwen3": ("Qwen3Config", "Qwen3ForCausalLM"),
        "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM"),
        "olmoe": ("OlmoeConfig", "OlmoeForCausalLM"),
        "gpt_oss": ("GptOssConfig", "GptOssForCausalLM"),
    }[family]
    experts = {
        "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
        "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8},
    }.get(family, {"head_dim": 8})
    return getattr(transformers, model)(getattr(transformers, config)(**SIZES, **experts, **options))


@pytest.mark.parametrize("family", ["qwen3", "gemma3", "olmoe", "gpt_oss"])
@pytest.mark.parametrize("tied", [False, True])
def test_real_decoders_are_routed_and_stepped(family, tied):
    model = build(family, tie_word_embeddings=tied)
    routes = route(model)
    assert [id(each.parameter) for each in routes] == [id(parameter) for parameter in model.parameters()]
    for each in routes:
        roles = {role for pattern, role in {**DENSE, **MIXTURE}.items() if re.search(rf"({pattern})$", each.name)}
        assert roles == {each.role}, each.name
    assert any(each.role == "lm_head" for each in routes) is not tied
    assert all(each.shift for each in routes if each.role in ("lm_head", "router"))
    heads = {each.name.split(".")[-2]: each.blocks for each in routes if each.role.startswith("attention")}
    assert heads == {"q_proj": 4, "k_proj": 2, "v_proj": 2, "o_proj": 4}

    optimizer = build_stack(model)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    tokens = torch.arange(32).reshape(2, 16)
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    still = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    assert not still
    for each in routes:
        if each.shift:
            moved = (each.parameter - before[each.name]).detach()
            # Two centrings in float32; each rounds a mean over the rows, relative to the largest entry.
            rounding = 4 * moved.shape[0] ** 2 * torch.finfo(torch.float32).eps * each.parameter.abs().max()
            assert moved.sum(0).abs().max() <= rounding


def test_the_two_expert_layouts_are_told_apart():
    orientations = {
        family: [(each.units, each.matrices) for each in route(build(family)) if each.role.startswith("expert")][:2]
        for family in ("olmoe", "gpt_oss")
    }
    assert orientations == {
        "olmoe": [("row", "olmoe_gate_up_pair"), ("col", "row")],
        "gpt_oss": [("gpt_oss_gate_up_pair", "gpt_oss_gate_up_pair"), ("row", "col")],
    }


def test_gemma_s_logit_cap_ends_the_shift_symmetry():
    model = build("gemma3", tie_word_embeddings=False, final_logit_softcapping=30.0)
    assert [each.shift for each in route(model) if each.role == "lm_head"] == [False]
