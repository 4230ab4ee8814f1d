"""Routing is total and right on plain modules, and the stack is one well-behaved optimizer."""

import copy
import dataclasses
import pickle
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reference import get_rule
from reference.routing import ROLES, route
from reference.stack import DEFAULT_RULES, build_stack

V, D, R, E, HEADS, DH = 12, 8, 6, 4, 2, 4


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.num_heads = HEADS
        self.q_proj = nn.Linear(D, HEADS * DH)
        self.k_proj = nn.Linear(D, DH, bias=False)
        self.v_proj = nn.Linear(D, DH, bias=False)
        self.o_proj = nn.Linear(HEADS * DH, D, bias=False)
        self.sinks = nn.Parameter(torch.zeros(HEADS))

    def forward(self, x):
        q = self.q_proj(x).unflatten(-1, (HEADS, DH))
        k, v = self.k_proj(x)[:, None], self.v_proj(x)[:, None]
        weight = (q * k).sum(-1, keepdim=True) + self.sinks[:, None]
        return self.o_proj((weight * v).flatten(-2))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(D, R, bias=False), nn.Linear(D, R, bias=False)
        self.down_proj = nn.Linear(R, D)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Experts(nn.Module):
    def __init__(self, transposed):
        super().__init__()
        self.is_concatenated, self.transposed = not transposed, transposed
        self.gate_up_proj = nn.Parameter(torch.randn((E, D, 2 * R) if transposed else (E, 2 * R, D)) / 4)
        self.gate_up_proj_bias = nn.Parameter(torch.zeros(E, 2 * R))
        self.down_proj = nn.Parameter(torch.randn((E, R, D) if transposed else (E, D, R)) / 4)

    def forward(self, x):
        wide, narrow = self.gate_up_proj, self.down_proj
        if not self.transposed:
            wide, narrow = wide.mT, narrow.mT
        h = torch.einsum("td,edr->ter", x, wide) + self.gate_up_proj_bias
        gate, up = (h[..., ::2], h[..., 1::2]) if self.transposed else h.chunk(2, -1)
        return torch.einsum("ter,erd->ted", F.silu(gate) * up, narrow)


class Mixture(nn.Module):
    def __init__(self, transposed=False):
        super().__init__()
        self.gate = nn.Linear(D, E, bias=False)
        self.experts = Experts(transposed)

    def forward(self, x):
        return (F.softmax(self.gate(x), -1)[..., None] * self.experts(x)).sum(-2)


class SigmoidMixture(Mixture):
    def forward(self, x):
        return (torch.sigmoid(self.gate(x))[..., None] * self.experts(x)).sum(-2)


class Decoder(nn.Module):
    def __init__(self, tied=False, mixture=Mixture):
        super().__init__()
        self.embed_tokens = nn.Embedding(V, D)
        self.norm = nn.RMSNorm(D)
        self.self_attn, self.mlp, self.moe, self.adapter = Attention(), MLP(), mixture(), nn.Linear(D, D, bias=False)
        self.lm_head = nn.Linear(D, V, bias=False)
        if tied:
            self.lm_head.weight = self.embed_tokens.weight

    def forward(self, tokens):
        x = self.embed_tokens(tokens)
        x = x + self.self_attn(x)
        x = x + self.mlp(x)
        x = x + self.moe(x)
        return self.lm_head(self.norm(self.adapter(x)))


def decoder(**options):
    torch.manual_seed(0)
    return Decoder(**options).double()


def backward(model, seed=1):
    generator = torch.Generator().manual_seed(seed)
    tokens, targets = torch.randint(V, (2, 20), generator=generator)
    model.zero_grad()
    loss = F.cross_entropy(model(tokens), targets)
    loss.backward()
    return loss.item()


def roles_of(model, **options):
    return {each.name: each.role for each in route(model, **options)}


EXPECTED = {
    "embed_tokens.weight": "embedding",
    "norm.weight": "other",
    "self_attn.sinks": "other",
    "self_attn.q_proj.weight": "attention_qkv",
    "self_attn.q_proj.bias": "other",
    "self_attn.k_proj.weight": "attention_qkv",
    "self_attn.v_proj.weight": "attention_qkv",
    "self_attn.o_proj.weight": "attention_o",
    "mlp.gate_proj.weight": "mlp_gate_up",
    "mlp.up_proj.weight": "mlp_gate_up",
    "mlp.down_proj.weight": "mlp_down",
    "mlp.down_proj.bias": "other",
    "moe.gate.weight": "router",
    "moe.experts.gate_up_proj": "expert_gate_up",
    "moe.experts.gate_up_proj_bias": "other",
    "moe.experts.down_proj": "expert_down",
    "adapter.weight": "matrix",
    "lm_head.weight": "lm_head",
}


def test_every_parameter_has_the_intended_role_exactly_once():
    model = decoder()
    assert roles_of(model) == EXPECTED
    routed = [each.parameter for each in route(model)]
    assert [id(p) for p in routed] == [id(p) for p in model.parameters()]
    stepped = [p for group in build_stack(model).param_groups for p in group["params"]]
    assert sorted(map(id, stepped)) == sorted(map(id, model.parameters()))
    assert set(EXPECTED.values()) == set(ROLES) == set(DEFAULT_RULES)


def test_heads_and_layouts_are_read_off_the_model():
    found = {each.name: each for each in route(decoder())}
    blocks = {name: (each.blocks, each.block_axis) for name, each in found.items() if each.role.startswith("attention")}
    assert blocks == {
        "self_attn.q_proj.weight": (2, "rows"),
        "self_attn.k_proj.weight": (1, "rows"),
        "self_attn.v_proj.weight": (1, "rows"),
        "self_attn.o_proj.weight": (2, "cols"),
    }
    assert found["mlp.down_proj.weight"].units == "col"
    layouts = []
    for transposed in (False, True):
        found = {each.name: each for each in route(decoder(mixture=lambda transposed=transposed: Mixture(transposed)))}
        layouts += [
            (found[f"moe.experts.{leaf}"].units, found[f"moe.experts.{leaf}"].matrices)
            for leaf in ("gate_up_proj", "down_proj")
        ]
    assert layouts == [
        ("row", "olmoe_gate_up_pair"),
        ("col", "row"),
        ("gpt_oss_gate_up_pair", "gpt_oss_gate_up_pair"),
        ("row", "col"),
    ]


def test_a_tied_embedding_is_an_embedding_and_is_never_centred():
    model = decoder(tied=True)
    table = {each.name: each for each in route(model)}
    assert "lm_head.weight" not in table
    assert table["embed_tokens.weight"].names == ("embed_tokens.weight", "lm_head.weight")
    assert table["embed_tokens.weight"].role == "embedding"
    before = model.embed_tokens.weight.detach().clone()
    optimizer = build_stack(model)
    backward(model)
    optimizer.step()
    assert (model.embed_tokens.weight - before).sum(0).abs().max() > 1e-6  # the common row can be learnt
    with pytest.raises(ValueError, match=r"^embed_tokens.weight .*tied to lm_head.weight.* center_rows=False$"):
        build_stack(model, {"embedding": get_rule("row_norm", center_rows=True)})


@pytest.mark.parametrize("name", ["lm_head.weight", "moe.gate.weight"])
def test_softmax_logits_move_horizontally(name):
    model = decoder()
    weight = model.get_parameter(name)
    before = weight.detach().clone()
    optimizer = build_stack(model)
    backward(model)
    weight.grad += 1.0  # a common row, which the loss alone never has
    optimizer.step()
    # Each of the two centrings rounds a mean of at most V terms, relative to the largest entry.
    rounding = 4 * V * torch.finfo(torch.float64).eps * weight.abs().max()
    assert (weight - before).sum(0).abs().max() <= V * rounding
    assert (weight - before).abs().max() > 1e-6


def test_sigmoid_scores_and_capped_logits_have_no_shift_symmetry():
    model = decoder(mixture=SigmoidMixture)
    model.config = type("Config", (), {"final_logit_softcapping": 30.0})()
    shifts = {each.name: each.shift for each in route(model) if each.role in ("lm_head", "router")}
    assert shifts == {"moe.gate.weight": False, "lm_head.weight": False}
    rules = {each.route.name: each.rule for each in build_stack(model).assignments}
    assert not rules["moe.gate.weight"].center_rows
    assert not rules["lm_head.weight"].center_rows
    with pytest.raises(ValueError, match=r"^moe.gate.weight .*sigmoid scores.*$"):
        build_stack(model, {"router": get_rule("left_spectral", center_rows=True)})


def test_a_gate_beside_experts_is_a_router_and_one_beside_down_is_not():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.up, self.down = nn.Linear(D, R), nn.Linear(D, R), nn.Linear(R, D)

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.experts = nn.Linear(D, E), nn.ModuleList([Gated(), Gated()])
            self.shared_expert_gate = nn.Linear(D, 1)

    found = roles_of(Shared())
    assert found["gate.weight"] == "router"
    assert found["experts.0.gate.weight"] == found["experts.1.up.weight"] == "mlp_gate_up"
    assert found["experts.1.down.weight"] == "mlp_down"
    assert found["shared_expert_gate.weight"] == "matrix"  # one row: centring would leave nothing


def test_a_block_around_attention_and_mlp_is_no_attention():
    class ResidualAttentionBlock(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn = nn.MultiheadAttention(D, 2)
            self.mlp = nn.ModuleDict({"c_fc": nn.Linear(D, R), "c_proj": nn.Linear(R, D)})

    found = roles_of(ResidualAttentionBlock())
    assert found["attn.out_proj.weight"] == "attention_o"
    assert found["mlp.c_fc.weight"] == "mlp_gate_up"
    assert found["mlp.c_proj.weight"] == "mlp_down"


def test_fused_projections_are_split():
    class FusedAttention(nn.Module):
        def __init__(self):
            super().__init__()
            self.head_dim = DH
            self.qkv_proj, self.o_proj = nn.Linear(D, 4 * DH), nn.Linear(2 * DH, D)

    class FusedMLP(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate_up_proj, self.down_proj = nn.Linear(D, 2 * R), nn.Linear(R, D)

    blocks = {each.name: each.blocks for each in route(nn.Sequential(FusedAttention(), FusedMLP()))}
    assert blocks["0.qkv_proj.weight"] == 4
    assert blocks["0.o_proj.weight"] == 2
    assert blocks["1.gate_up_proj.weight"] == 2
    assert roles_of(nn.MultiheadAttention(D, 2))["in_proj_weight"] == "attention_qkv"
    assert {each.name: each.blocks for each in route(nn.MultiheadAttention(D, 2))}["in_proj_weight"] == 6


@pytest.mark.parametrize("module", [nn.Conv2d(3, 4, 2), nn.Bilinear(2, 3, 4)], ids=["convolution", "bilinear"])
def test_what_cannot_be_routed_is_named(module):
    model = nn.ModuleDict({"block": module})
    with pytest.raises(ValueError, match=r"^cannot route parameter block.weight \(shape \(4, .*assign=[^\n]*$"):
        build_stack(model)
    assert roles_of(model, assign={"*.weight": "other"}) == {"block.weight": "other", "block.bias": "other"}
    build_stack(model, assign={"*.weight": "other"})


def test_a_weight_stored_in_out_is_not_guessed():
    class Conv1D(nn.Module):  # GPT-2's linear layer
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3, 5))

    with pytest.raises(ValueError, match="cannot route parameter weight"):
        route(Conv1D())


def test_hidden_ties_are_refused():
    model = decoder()
    model.lm_head.weight = nn.Parameter(model.embed_tokens.weight.data)
    with pytest.raises(ValueError, match=r"^parameters embed_tokens.weight and lm_head.weight share memory[^\n]*$"):
        build_stack(model)
    model = decoder()
    model.adapter.weight = model.self_attn.o_proj.weight
    with pytest.raises(
        ValueError, match=r"^tied parameter plays different roles: .*attention_o.*adapter.weight \(matrix\)"
    ):
        build_stack(model)
    assert roles_of(model, assign={"adapter.weight": "matrix"})["self_attn.o_proj.weight"] == "matrix"


def test_disjoint_views_of_one_buffer_are_not_a_tie():
    flat = torch.zeros(2 * D * D)
    model = nn.Sequential(nn.Linear(D, D, bias=False), nn.Linear(D, D, bias=False))
    for layer, part in zip(model, flat.chunk(2), strict=True):
        layer.weight = nn.Parameter(part.view(D, D))
    assert set(roles_of(model).values()) == {"matrix"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rules": {"embeding": DEFAULT_RULES["embedding"]}}, "unknown role 'embeding'"),
        ({"assign": {"*.nothing": "other"}}, r"assign\['\*.nothing'\] matches no parameter"),
        ({"assign": {"adapter.weight": "hidden"}}, "unknown role 'hidden'"),
        ({"overrides": {"nothing": DEFAULT_RULES["other"]}}, "overrides pattern 'nothing' matches no parameter"),
        ({"undecayed": ["*.gain"]}, r"undecayed pattern '\*.gain' matches no parameter"),
        ({"rules": {"other": get_rule("row_norm")}}, r"norm.weight \(role other\): rule 'row_norm' .*\(8,\)"),
        ({"assign": {"adapter.weight": "expert_down"}}, "cannot read the layout of adapter.weight"),
    ],
)
def test_unusable_arguments_are_one_line_errors(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        build_stack(decoder(), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("argument", ["rules", "overrides"])
def test_a_rule_must_be_a_rule(argument):
    with pytest.raises(TypeError, match=r"^the rule for 'other' must be a Rule such as [^\n]*, got 'sgd'$"):
        build_stack(decoder(), **{argument: {"other": "sgd"}})


def test_a_head_count_that_does_not_fit_is_refused():
    model = decoder()
    model.self_attn.head_dim = 3
    with pytest.raises(ValueError, match=r"^cannot split self_attn.q_proj.weight .*head_dim=3[^\n]*$"):
        build_stack(model)


def test_each_parameter_follows_its_own_rule():
    model = decoder()
    rules = {"router": get_rule("left_spectral", lr=0.2, center_rows=True), "mlp_down": get_rule("row_norm", lr=0.1)}
    overrides = {"adapter.*": get_rule("sgd", lr=0.5, momentum=0.9)}
    optimizer = build_stack(model, rules, overrides=overrides, undecayed=["*bias", "*norm*"])
    assignments = {each.route.name: each for each in optimizer.assignments}
    assert assignments["mlp.down_proj.weight"].rule.orientation == "col"
    assert assignments["adapter.weight"].rule == overrides["adapter.*"]
    assert assignments["moe.gate.weight"].rule == rules["router"]
    twins = {
        name: [p.detach().clone(), each.rule] for name, p in model.named_parameters() for each in [assignments[name]]
    }
    states = {name: rule.init(weight) for name, (weight, rule) in twins.items()}
    for step in range(3):
        backward(model, step)
        for name, parameter in model.named_parameters():
            weight, rule = twins[name]
            displacement, states[name] = rule.update(parameter.grad, states[name], weight)
            twins[name][0] = weight + displacement
        optimizer.step()
        for name, parameter in model.named_parameters():
            # One rounding of the same operations in another order, amplified by at most 485 (see test_optimizers).
            bound = (step + 1) * 64 * 2 * R * 485 * torch.finfo(torch.float64).eps * parameter.abs().max().clamp(min=1)
            assert (parameter - twins[name][0]).abs().max() <= bound, name
            assert not torch.equal(parameter, decoder().get_parameter(name)), name


@pytest.mark.parametrize("transposed", [False, True])
def test_heads_experts_and_halves_are_independent(transposed):
    """Scaling the gradient of one block leaves the displacement of the others as it was."""
    parts = {
        "self_attn.q_proj.weight": lambda g: g[:DH],
        "self_attn.o_proj.weight": lambda g: g[:, :DH],
        "moe.experts.down_proj": lambda g: g[0],
        "moe.experts.gate_up_proj": lambda g: g[..., ::2] if transposed else g[:, :R],
    }
    results = []
    for factor in (1.0, 100.0):
        model = decoder(mixture=lambda: Mixture(transposed))
        before = copy.deepcopy(model)
        optimizer = build_stack(model)
        backward(model)
        for name, part in parts.items():
            part(model.get_parameter(name).grad).mul_(
                factor * (1 + torch.arange(1.0, D + 1)[: part(model.get_parameter(name)).shape[-1]])
            )
        optimizer.step()
        results.append(
            {name: model.get_parameter(name).detach() - before.get_parameter(name).detach() for name in parts}
        )
    for name, part in parts.items():
        left, right = (result[name].clone() for result in results)
        part(left).zero_(), part(right).zero_()
        assert left.abs().max() > 0
        assert torch.equal(left, right), name


def test_default_rules_are_overridden_by_value():
    faster = {role: dataclasses.replace(rule, lr=10 * rule.lr) for role, rule in DEFAULT_RULES.items()}
    rates = {group["role"]: group["lr"] for group in build_stack(decoder(), faster).param_groups}
    assert rates == {role: rule.lr for role, rule in faster.items()}


def test_the_table_lists_every_parameter_and_states_the_exclusions():
    model = decoder(tied=True)
    optimizer = build_stack(model, undecayed=["*norm*"])
    lines = str(optimizer).splitlines()
    assert lines[0].split() == ["parameter", "role", "rule", "shape", "lr", "decay", "because"]
    assert [line.split()[0] for line in lines[1:]] == [name for name, _ in model.named_parameters()]
    table = {line.split()[0]: line for line in lines[1:]}
    assert "none (excluded by '*norm*')" in table["norm.weight"]
    assert " 0.01 " in table["self_attn.q_proj.bias"]
    assert " none " in table["embed_tokens.weight"]
    assert "tied to lm_head.weight" in table["embed_tokens.weight"]
    assert "muon_heads(heads=2, layout=o)" in table["self_attn.o_proj.weight"]
    for group in optimizer.param_groups:
        group["lr"] = 0.125
    assert all(" 0.125 " in line for line in str(optimizer).splitlines()[1:])


def trained(model, optimizer, steps, first=0):
    for step in range(first, first + steps):
        backward(model, step)
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_checkpoints_copies_and_schedules():
    model = decoder()
    optimizer = build_stack(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    trained(model, optimizer, 2)
    schedule.step()
    weights, state = copy.deepcopy(model.state_dict()), pickle.loads(pickle.dumps(optimizer.state_dict()))
    other, other_model = copy.deepcopy((optimizer, model))
    expected = trained(model, optimizer, 2, first=2)
    assert all(torch.equal(a, b) for a, b in zip(expected, trained(other_model, other, 2, first=2), strict=True))
    assert str(other) == str(optimizer)

    fresh = decoder()
    fresh.load_state_dict(weights)
    resumed = build_stack(fresh)
    resumed.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(expected, trained(fresh, resumed, 2, first=2), strict=True))
    assert str(resumed) == str(optimizer)


def rename_role(saved):
    saved["param_groups"][0]["role"] = "embeddings"


def drop_role(saved):
    saved["param_groups"] = [group for group in saved["param_groups"] if group["role"] != "router"]


def swap_rule(saved):
    saved["param_groups"][0]["rule"] = "sgd"


def rename_parameter(saved):
    saved["param_groups"][0]["param_names"] = ["wte.weight"]


def drop_state(saved):
    del saved["state"][0]


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (rename_role, "checkpoint lacks roles embedding"),
        (drop_role, "checkpoint lacks roles router"),
        (swap_rule, "has rule 'sgd' where the model has 'row_norm'"),
        (rename_parameter, r"has param_names \['wte.weight'\]"),
        (drop_state, "no state entry for parameters 0"),
    ],
)
def test_a_checkpoint_of_another_stack_is_refused(tamper, message):
    model = decoder()
    optimizer = build_stack(model)
    trained(model, optimizer, 1)
    saved = copy.deepcopy(optimizer.state_dict())
    tamper(saved)
    with pytest.raises(ValueError, match=message) as caught:
        optimizer.load_state_dict(saved)
    assert "\n" not in str(caught.value)


def test_an_unknown_role_in_a_checkpoint_is_refused():
    with_router, without = build_stack(decoder()), build_stack(MLP())
    with pytest.raises(ValueError, match=r"checkpoint has unknown roles .*router"):
        without.load_state_dict(with_router.state_dict())


def test_training_descends():
    model = decoder()
    optimizer = build_stack(model, {role: dataclasses.replace(rule, lr=1e-2) for role, rule in DEFAULT_RULES.items()})
    losses = []
    for _ in range(20):
        losses.append(backward(model))
        optimizer.step()
    assert losses[-1] < losses[0]


def test_transformers_is_not_imported():
    code = "import sys, reference.stack; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
