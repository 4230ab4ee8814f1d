"""Two maps from parameters to blocks, made independently, agree: the models' layout and the router of `reference`."""

import pytest
import torch

from paper_repro.layout import blocks
from paper_repro.models import FAMILIES, tiny
from reference.routing import route
from reference.transforms.layout import orient

pytest.importorskip("transformers")

ROLES = {
    "embedding": "embedding",
    "lm_head": "lm_head",
    "router": "router",
    "swiglu_gate": "mlp_gate_up",
    "swiglu_up": "mlp_gate_up",
    "swiglu_down": "mlp_down",
    "attention_qkv": "attention_qkv",
    "attention_o": "attention_o",
    "other": "other",
}
EXPERT_ROLES = {"swiglu_gate": "expert_gate_up", "swiglu_up": "expert_gate_up", "swiglu_down": "expert_down"}
GATE_UP_PAIRS = {"olmoe": "olmoe_gate_up_pair", "gpt_oss": "gpt_oss_gate_up_pair"}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_roles_and_heads_agree(family, tied):
    model = tiny(family, tie_word_embeddings=tied)
    routes = {each.name: each for each in route(model)}
    table = blocks(model)
    assert routes.keys() == table.keys()
    for name, found in table.items():
        for region in found:
            roles = EXPERT_ROLES if region.block == "experts" else ROLES
            assert routes[name].role == roles[region.expert_block or region.block]
            if region.block.startswith("attention"):
                assert routes[name].blocks == region.heads


@pytest.mark.parametrize(
    ("family", "config"),
    [
        *((family, {}) for family in FAMILIES),
        *((family, {"tie_word_embeddings": True}) for family in FAMILIES),
        ("gemma3", {"final_logit_softcapping": 3.0}),
    ],
)
def test_the_stack_centres_where_the_shift_is_a_symmetry(family, config):
    """`test_symmetries` and `test_routing_and_heads` show on the model which of these shifts preserve its loss."""
    shifted = {each.role for each in route(tiny(family, **config)) if each.shift}
    assert ("lm_head" in shifted) == (not config)
    assert ("router" in shifted) == (family in {"olmoe", "gpt_oss"})
    assert shifted <= {"lm_head", "router"}


@pytest.mark.parametrize("family", GATE_UP_PAIRS)
def test_pairs_of_gate_and_up_agree(family):
    """The pair matrix of a rule has the columns ``gate_1, up_1, gate_2, up_2, ...``, in both stored layouts."""
    model = tiny(family)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    weight = dict(model.named_parameters())[name].detach()
    gate, up = (region.view(weight) for region in blocks(model)[name])
    pair = orient(weight, GATE_UP_PAIRS[family])
    assert torch.equal(pair[..., 0::2], gate)
    assert torch.equal(pair[..., 1::2], up)
