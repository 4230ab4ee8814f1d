"""Shifts of router and head: sigmoid routing, auxiliary losses, and gradients whose columns sum to zero."""

import math

import pytest
import torch

from groups import parse_action
from paper_repro import catalogue
from paper_repro.invariance import defect, evaluate, rounding_floor
from paper_repro.layout import regions
from paper_repro.models import FAMILIES, tiny
from paper_repro.symmetry import Slot, Symmetry
from reference.routing import route
from symcheck.probe.arithmetic import Arithmetic
from symcheck.probe.measure import LEAST_FLOOR, UNIT

transformers = pytest.importorskip("transformers")
TOKENS = torch.randint(0, 40, (2, 8), generator=torch.Generator().manual_seed(1))
BROKEN = 1e6


def sigmoid_routed(**config):
    """A DeepSeek-V3 decoder: sigmoid scores choose and weigh the experts."""
    width = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 12, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "v_head_dim": 4, "max_position_embeddings": 32}
    latent = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4}
    experts = {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 12}
    routing = {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 0}
    plain = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None, "use_cache": False}
    eager = {"attn_implementation": "eager", "experts_implementation": "eager"}
    settings = transformers.DeepseekV3Config(
        **width, **heads, **latent, **experts, **routing, **plain, **eager, **config
    )
    model = transformers.DeepseekV3ForCausalLM(settings).double().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = noise / math.sqrt(parameter.shape[-1]) if parameter.ndim > 1 else 1 + 0.3 * noise
    return model


@pytest.mark.parametrize("renormalised", [False, True])
def test_shift_breaks_sigmoid_routing(renormalised):
    model = sigmoid_routed(norm_topk_prob=renormalised)
    symmetry = Symmetry("shift", parse_action("Shift(rows)"), (Slot("model.layers.0.mlp.gate.weight", lambda w: w),))
    (element,) = symmetry.action.sample(symmetry.shapes(model), 1, rng=torch.Generator().manual_seed(7))
    found = defect(model, symmetry, element, TOKENS).over(rounding_floor(model, symmetry, element, TOKENS))
    assert min(found.logits, found.loss, max(found.gradients.values())) > BROKEN
    gradient = evaluate(model, TOKENS).gradients["model.layers.0.mlp.gate.weight"]
    assert float(gradient.sum(0).abs().max()) > 1e-3 * float(gradient.abs().max())
    assert [each.shift for each in route(model) if each.role == "router"] == [False]


@torch.no_grad()
def of_router_logits(model, loss, arithmetic):
    """``loss`` of the router logits of the first layer, ``(tokens, experts)``."""
    seen = []
    (router, *_) = (m for name, m in model.named_modules() if name.endswith((".mlp.gate", ".mlp.router")))
    handle = router.register_forward_hook(lambda _module, _inputs, output: seen.append(output[0]))
    with arithmetic.active():
        model(TOKENS)
        value = float(loss(seen[0]))
    handle.remove()
    return value


def auxiliary_loss(model, loss):
    """A loss of the router logits, and how far randomised rounding moves it."""
    value = of_router_logits(model, loss, Arithmetic(promote=True))
    reruns = [of_router_logits(model, loss, Arithmetic(promote=True, noise=seed)) for seed in range(4)]
    return value, max(LEAST_FLOOR * abs(value), *(abs(rerun - value) for rerun in reruns))


def load_balance(logits):
    """Switch-style loss of one layer: experts times the product of the fraction routed (top 2) and the mean
    probability.
    """
    probabilities = logits.softmax(-1)
    chosen = torch.zeros_like(logits).scatter(1, logits.topk(2, dim=-1).indices, 1.0)
    return logits.shape[-1] * (chosen.mean(0) * probabilities.mean(0)).sum()


def z_loss(logits):
    return logits.logsumexp(-1).square().mean()


@pytest.mark.parametrize("family", ["olmoe", "gpt_oss"])
def test_shift_preserves_the_load_balance_loss_and_breaks_the_z_loss(family):
    model = tiny(family)
    symmetry = catalogue.router_shift(model, 0)
    (element,) = symmetry.action.sample(symmetry.shapes(model), 1, rng=torch.Generator().manual_seed(7))
    moved = symmetry.transform(model, element)
    for loss, preserved in ((load_balance, True), (z_loss, False)):
        (before, left), (after, right) = auxiliary_loss(model, loss), auxiliary_loss(moved, loss)
        if preserved:
            assert abs(after - before) <= left + right
        else:
            assert abs(after - before) > BROKEN * (left + right)


def column_sums(model, role):
    """``max |1^T G|`` of the gradients in one role, next to what rounding alone makes of it (one pair for each layer).

    The floor is how far randomised rounding moves the column sums, plus the rounding of the summation over the rows
    itself: a unit roundoff of the sum of magnitudes for each addition.
    """
    exact = evaluate(model, TOKENS).gradients
    reruns = [evaluate(model, TOKENS, Arithmetic(promote=True, noise=seed)).gradients for seed in range(2)]
    for region in regions(model):
        if region.role == role:
            gradient = region.view(exact[region.parameter])
            assert float(gradient.abs().max()) > 0
            summation = gradient.shape[0] * UNIT * float(gradient.abs().sum(0).max())
            changes = [(region.view(rerun[region.parameter]) - gradient).sum(0).abs().max() for rerun in reruns]
            yield float(gradient.sum(0).abs().max()), float(max(changes)) + summation


HORIZONTAL = [
    *((family, "lm_head") for family in FAMILIES),
    ("olmoe", "router"),
    ("gpt_oss", "router"),
    ("gpt_oss", "router_bias"),
]


@pytest.mark.parametrize(("family", "role"), HORIZONTAL)
def test_gradient_is_horizontal(family, role):
    found = list(column_sums(tiny(family), role))
    assert found
    assert all(size <= floor for size, floor in found), found


@pytest.mark.parametrize(
    ("family", "role", "config"),
    [
        *((family, "embedding", {"tie_word_embeddings": True}) for family in FAMILIES),
        ("gemma3", "lm_head", {"final_logit_softcapping": 3.0}),
    ],
)
def test_gradient_of_a_tied_or_capped_head_is_not_horizontal(family, role, config):
    found = list(column_sums(tiny(family, **config), role))
    assert found
    assert all(size > BROKEN * floor for size, floor in found), found
