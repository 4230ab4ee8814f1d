"""Presets and configurations against the reference code: sizes, layouts, routing, rates, decays."""

import json
import math

import pytest
import torch

from paper_repro.configurations import parse_configuration
from paper_repro.layout import regions
from paper_repro.models import build
from paper_repro.presets import data_names, default_spec, load_data_spec, load_preset, preset_names
from paper_repro.training.stack import make_optimizer
from reference import RULES

pytest.importorskip("transformers")


def meta(name):
    preset = load_preset(name)
    with torch.device("meta"):
        return preset, build(preset.family, **preset.model)


def rates(optimizer):
    """Role -> (rule, rate, decay) of a stack."""
    return {each.route.role: (each.rule.name, each.rule.lr, each.rule.weight_decay) for each in optimizer.assignments}


SIZES = {
    # name: (parameters in millions, tokens per step, steps, evaluation tokens), as in the reference's README
    "paper/qwen3": (626, 229_376, 30_000, 10_551_296),
    "paper/gemma3": (1087, 147_456, 50_000, 10_469_376),
    "paper/olmoe": (2824, 163_840, 30_000, 10_485_760),
    "paper/gpt-oss": (3468, 65_536, 60_000, 10_485_760),
    "paper/olmoe-router": (2824, 163_840, 30_000, 10_485_760),
    "paper/gpt-oss-router": (3468, 65_536, 60_000, 10_485_760),
    "scaled/qwen3-s": (42, 32_768, 1800, 262_144),
    "scaled/gemma3-s": (49, 32_768, 1800, 262_144),
    "scaled/qwen3-m": (110, 32_768, 1800, 262_144),
    "scaled/olmoe-s": (126, 32_768, 1800, 262_144),
    "scaled/olmoe-s-router": (126, 32_768, 1800, 262_144),
    "scaled/gpt-oss-s": (127, 32_768, 1800, 262_144),
    "scaled/gpt-oss-s-router": (127, 32_768, 1800, 262_144),
    "scaled/olmoe-m": (234, 32_768, 1800, 262_144),
    **{f"smoke/{name}": (1, 1024, 40, 4096) for name in ("qwen3", "gemma3", "olmoe", "gpt-oss")},
}


def test_every_preset_is_listed_here():
    assert set(preset_names()) == SIZES.keys()


@pytest.mark.parametrize("name", SIZES)
def test_sizes_and_what_must_not_drift(name):
    preset, model = meta(name)
    millions = sum(each.numel() for each in model.parameters()) / 1e6
    assert (round(millions), preset.tokens_per_step, preset.steps) == SIZES[name][:3]
    assert preset.evaluation_sequences * preset.sequence_length == SIZES[name][3]
    config = model.config
    assert config.pad_token_id is None  # one would freeze an embedding row
    assert not config.tie_word_embeddings
    assert model.get_input_embeddings().weight is not model.get_output_embeddings().weight
    assert next(model.parameters()).dtype == torch.float32
    assert preset.data in data_names()
    if preset.has_router:
        assert config._experts_implementation in ("eager", "grouped_mm")  # batched_mm takes seconds a step on a CPU
        assert config.router_aux_loss_coef == 0
    if preset.family == "gpt_oss":
        rope = config.rope_parameters
        assert (rope["rope_type"], rope["factor"], rope["rope_theta"]) == ("yarn", 32.0, 150_000)
        assert config._attn_implementation == "eager"
        silent = build(
            "gpt_oss", num_hidden_layers=1, hidden_size=8, vocab_size=8, intermediate_size=8, num_local_experts=2
        )
        # What the reference gets without asking for it (rope_scaling=None) is what the presets pin.
        assert {key: rope[key] for key in silent.config.rope_parameters} == silent.config.rope_parameters


@pytest.mark.parametrize("name", [name for name in SIZES if name.startswith("paper/")])
def test_published_shards_have_the_model_s_vocabulary(name):
    preset = load_preset(name)
    spec = load_data_spec(preset.data)
    assert (spec.source, spec.vocabulary) == ("hub", preset.model["vocab_size"])
    assert preset.order == "sequential"
    assert preset.precision == "tf32"
    assert preset.warmup == 100


PUBLISHED = [
    # preset, optimizer, embedding, head, hidden matrices, router, other: the reference README's commands
    ("qwen3", "row-muon", 5e-1, 5e-3, 2e-2, None, 5e-2),
    ("qwen3", "hybrid-muon", 1e0, 1e-2, 2e-2, None, 5e-2),
    ("qwen3", "adamw-muon", 1e-1, 1e-3, 2e-2, None, 5e-2),
    ("qwen3", "row-hybrid", 5e-1, 5e-3, 2e-2, None, 5e-2),
    ("qwen3", "hybrid-hybrid", 1e0, 1e-2, 2e-2, None, 5e-2),
    ("qwen3", "adamw-hybrid", 1e-1, 1e-3, 2e-2, None, 5e-2),
    ("gemma3", "row-muon", 2.5e-3, 2.5e-3, 2e-2, None, 5e-2),
    ("gemma3", "hybrid-muon", 2.5e-3, 2.5e-3, 2e-2, None, 5e-2),
    ("gemma3", "adamw-muon", 5e-4, 5e-4, 2e-2, None, 5e-2),
    ("gemma3", "row-hybrid", 5e-3, 5e-3, 2e-2, None, 5e-2),
    ("gemma3", "hybrid-hybrid", 1e-2, 1e-2, 2e-2, None, 5e-2),
    ("gemma3", "adamw-hybrid", 5e-4, 5e-4, 2e-2, None, 5e-2),
    ("olmoe", "row-muon-row", 5e-1, 5e-3, 5e-3, 7.5e-4, 1e-2),
    ("olmoe", "row-muon-left", 5e-1, 5e-3, 5e-3, 7.5e-4, 1e-2),
    ("olmoe", "row-muon-adamw", 5e-1, 5e-3, 5e-3, 7.5e-4, 1e-2),
    ("olmoe", "adamw-muon-adamw", 5e-4, 5e-4, 5e-3, 7.5e-4, 1e-2),
    ("gpt-oss", "row-muon-row", 1e-1, 1e-3, 1e-3, 7.5e-4, 5e-3),
    ("gpt-oss", "row-muon-left", 1e-1, 1e-3, 1e-3, 7.5e-4, 5e-3),
    ("gpt-oss", "row-muon-adamw", 1e-1, 1e-3, 1e-3, 7.5e-4, 5e-3),
    ("gpt-oss", "adamw-muon-adamw", 5e-4, 5e-4, 1e-3, 7.5e-4, 5e-3),
]
MODELS = {name: meta(f"paper/{name}") for name in ("qwen3", "gemma3", "olmoe", "gpt-oss")}


@pytest.mark.parametrize(("name", "optimizer", "embedding", "head", "hidden", "router", "other"), PUBLISHED)
def test_published_hyper_parameters_role_by_role(name, optimizer, embedding, head, hidden, router, other):
    preset, model = MODELS[name]
    found = rates(make_optimizer(model, default_spec(preset.name, optimizer), preset))
    vocabulary, units, *rest = optimizer.split("-")
    rule = {"row": "row_norm", "hybrid": "hybrid", "adamw": "adamw", "left": "left_spectral"}
    # The paper's code divides the scale of the hybrid rule by the norm of a matrix with that many unit rows.
    rows = preset.model["vocab_size"] if vocabulary == "hybrid" else 1
    assert found.pop("embedding") == (rule[vocabulary], embedding / math.sqrt(rows), 0)
    assert found.pop("lm_head") == (rule[vocabulary], head / math.sqrt(rows), 0)
    assert found.pop("other") == ("adamw", other, 1e-3)
    for role in ("attention_qkv", "attention_o"):
        assert found.pop(role) == ("muon_heads", hidden, 1e-3)
    if router is None:
        expected = {"muon": "muon_heads", "hybrid": "hybrid"}[units]
        rate = hidden / math.sqrt(preset.model["intermediate_size"] if units == "hybrid" else 1)
        assert [found.pop(role) for role in ("mlp_gate_up", "mlp_down")] == [(expected, rate, 1e-3)] * 2
    else:
        assert found.pop("router") == (rule[rest[0]], router, 0)
        assert [found.pop(role) for role in ("expert_gate_up", "expert_down")] == [("expert_muon", hidden, 1e-3)] * 2
    assert not found


def test_rates_of_runs_are_in_the_units_of_the_preset():
    preset, _ = MODELS["qwen3"]
    configuration = parse_configuration("hybrid-hybrid")
    rates = configuration.rates(preset)
    assert rates == {"embedding": 1.0, "lm_head": 1e-2, "mlp": 2e-2, "attention": 2e-2, "other": 5e-2}
    assert configuration.rules(preset, rates) == configuration.rules(preset)


def test_rules_have_the_details_of_the_training_scripts():
    preset, model = MODELS["olmoe"]
    extra = dict.fromkeys(("embedding", "lm_head", "mlp", "router"), 0.001)

    def rule(name, role):
        return parse_configuration(name).rule(role, preset, extra)

    for choice in ("row", "hybrid", "right"):
        assert not rule(f"{choice}-muon-row", "embedding").center_rows
        assert rule(f"{choice}-muon-row", "lm_head").center_rows
        assert not rule(f"{choice}-muon-row+uncentred", "lm_head").center_rows
    for choice, centred in (("row", True), ("left", True), ("left_uncentered", False), ("hybrid", True)):
        assert rule(f"row-muon-{choice}", "router").center_rows is centred
    for role in ("embedding", "lm_head", "router", "other"):
        assert rule("adamw", role).betas == (0.9, 0.95)
    assert rule("hybrid-hybrid-hybrid", "embedding").order == "row_then_polar"
    assert rule("hybrid-hybrid-hybrid", "expert_down").order == "row_then_polar"
    assert rule("row-muon-row", "attention_qkv").orthogonalizer == "polar_express_2e-2"
    assert rule("row-muon-row", "lm_head").weight_decay == 0
    assert rule("row-muon-row+decayed", "lm_head").weight_decay == 1e-3
    assert rule("row-lion-row", "expert_down").name == "lion"
    assert model.config.num_experts == 32


@pytest.mark.parametrize("name", ["smoke/qwen3", "smoke/olmoe", "smoke/gpt-oss", "smoke/gemma3"])
def test_routing_agrees_with_the_layout(name):
    preset, model = meta(name)
    optimizer = make_optimizer(model, default_spec(name, "row-muon-left"), preset)
    found = {each.route.name: each.route.role for each in optimizer.assignments}
    expected = {
        "embedding": {"embedding"},
        "lm_head": {"lm_head"},
        "router": {"router"},
        "attention_qkv": {"attention_qkv"},
        "attention_o": {"attention_o"},
        "swiglu_gate": {"mlp_gate_up"},
        "swiglu_up": {"mlp_gate_up"},
        "swiglu_down": {"mlp_down"},
        "experts": {"expert_gate_up", "expert_down"},
        "other": {"other"},
    }
    for region in regions(model):
        assert found[region.parameter] in expected[region.block]


@pytest.mark.parametrize("rule", sorted(RULES.keys() - {"muon"}))  # among the units a name of the paper's head-wise one
def test_every_rule_of_reference_can_be_asked_for(rule):
    """In the place of the SwiGLU weights; rules of stacks need experts, and say so."""
    name = "smoke/olmoe" if rule.startswith("expert") else "smoke/qwen3"
    preset, model = meta(name)
    optimizer = "row-{}-row" if preset.has_router else "row-{}"
    spec = default_spec(name, optimizer.format(rule), rates={"mlp": 1e-3})
    assert rule in {each.rule.name for each in make_optimizer(model, spec, preset).assignments}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("row-muno", "unknown choice 'muno'"),
        ("row-muon-left-x", "write <vocabulary>-<units>"),
        ("row-muon+decay", "unknown departure 'decay'"),
        ("", "unknown choice ''"),
    ],
)
def test_unknown_configurations_are_one_line(name, message):
    with pytest.raises(ValueError, match=message) as error:
        parse_configuration(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("steps = 12", "steps = 0"), "steps must be at least 1"),
        (("steps = 12", "stops = 12"), "unknown keys stops"),
        (("sequences_per_forward = 4", "sequences_per_forward = 3"), "must divide"),
        (("mlp = ", "ffn = "), "unknown roles ffn"),
        (("vocab_size", "vocabulary"), r"\[model\] must say vocab_size"),
        (('family = "qwen3"', 'family = "llama"'), "unknown family 'llama'"),
        (("[model]", "[model"), "toml"),
    ],
)
def test_malformed_presets_are_one_line(world, tmp_path, monkeypatch, change, message):
    (tmp_path / "smoke").mkdir()
    text = (world / "presets/smoke/qwen3.toml").read_text()
    assert change[0] in text
    (tmp_path / "smoke/qwen3.toml").write_text(text.replace(*change))
    monkeypatch.setattr("paper_repro.presets.FOLDER", tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        load_preset("smoke/qwen3")
    assert "\n" not in str(error.value)


def test_data_specs_load():
    for name in data_names():
        spec = load_data_spec(name)
        assert spec.name == name
        json.dumps(dict(spec.options))
