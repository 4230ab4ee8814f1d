"""The four families: precision, layouts, and a total map from parameters to the block table."""

import subprocess
import sys

import pytest
import torch
from torch.nn import functional

from groups import BLOCKS
from paper_repro.invariance import evaluate
from paper_repro.layout import Region, blocks, regions
from paper_repro.models import FAMILIES, build, tiny
from paper_repro.objective import token_loss
from symcheck.probe.arithmetic import Arithmetic
from symcheck.probe.measure import UNIT

pytest.importorskip("transformers")
TOKENS = torch.randint(0, 40, (2, 8), generator=torch.Generator().manual_seed(1))


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_importing_paper_repro_does_not_import_transformers():
    code = "import sys, paper_repro, paper_repro.models, paper_repro.catalogue; sys.exit('transformers' in sys.modules)"
    assert run(code).returncode == 0


def test_missing_transformers_names_the_extra_in_one_line():
    code = "import sys; sys.modules['transformers'] = None; from paper_repro.models import build; build('qwen3')"
    last = run(code).stderr.strip().splitlines()[-1]
    assert "symcheck[repro]" in last
    assert last.startswith("ModuleNotFoundError")


def test_unknown_family_is_one_clear_line():
    with pytest.raises(ValueError, match=r"unknown model family 'llama': use one of qwen3, gemma3, olmoe, gpt_oss"):
        tiny("llama")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_every_entry_of_every_parameter_has_exactly_one_place(family, tied):
    model = tiny(family, tie_word_embeddings=tied)
    parameters = dict(model.named_parameters())
    assert blocks(model).keys() == parameters.keys()
    counts = {name: torch.zeros_like(parameter, dtype=torch.long) for name, parameter in parameters.items()}
    for region in regions(model):
        region.view(counts[region.parameter]).add_(1)  # a view: writing to it writes to the parameter
    assert all(bool((count == 1).all()) for count in counts.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_are_those_of_the_block_table(family):
    for region in regions(tiny(family)):
        assert region.block in {*BLOCKS, "other"}
        assert (region.expert_block in BLOCKS) == (region.block == "experts")


@pytest.mark.parametrize("family", FAMILIES)
def test_tied_embedding_is_an_embedding_and_not_a_head(family):
    roles = [region.role for region in regions(tiny(family, tie_word_embeddings=True))]
    assert roles.count("embedding") == 1
    assert "lm_head" not in roles


def test_a_parameter_without_a_place_is_named():
    model = tiny("qwen3")
    model.model.layers[0].register_parameter("surprise", torch.nn.Parameter(torch.zeros(3)))
    with pytest.raises(ValueError, match=r"parameter 'model\.layers\.0\.surprise' .* has no place in the block table"):
        regions(model)


@torch.no_grad()
@pytest.mark.parametrize("family", ["olmoe", "gpt_oss"])
def test_expert_layout_is_the_one_that_the_model_computes_with(family):
    """One expert written out with the matrices of the block table, ``down (act(gate x) * up x)``, equals the
    library's.
    """
    model = tiny(family)
    parameters = dict(model.named_parameters())
    parts = {r.role: r.view(parameters[r.parameter])[1] for r in regions(model) if r.layer == 0 and r.stacked}
    experts = model.model.layers[0].mlp.experts
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    gate, up = x @ parts["gate"].T, x @ parts["up"].T
    if family == "olmoe":
        expected = (functional.silu(gate) * up) @ parts["down"].T
    else:
        gate, up = gate + parts["gate_bias"], up + parts["up_bias"]
        expected = ((up + 1) * gate * torch.sigmoid(1.702 * gate)) @ parts["down"].T + parts["down_bias"]
        assert max(float(gate.max()), float(up.abs().max())) < 7, "the clamp must be inactive for this formula"
    arguments = (x, torch.ones(5, 1, dtype=torch.long), torch.ones(5, 1, dtype=torch.float64))
    actual = experts(*arguments)
    with Arithmetic(noise=0).active():
        perturbed = experts(*arguments)
    floor = float((perturbed - actual).abs().max())
    # Both sides round, each by no more than randomised rounding shows.
    assert float((actual - expected).abs().max()) <= 2 * floor < 1e-10


def test_gemma_gains_are_one_plus_the_stored_weight():
    model = build("gemma3", vocab_size=40, hidden_size=16, num_hidden_layers=1, head_dim=4, intermediate_size=12)
    gains = [r for r in regions(model) if r.role.endswith("gain")]
    assert len(gains) == 7
    parameters = dict(model.named_parameters())
    assert all(bool((parameters[r.parameter] + r.offset == 1).all()) for r in gains)


def test_gpt_oss_gets_yarn_by_default():
    """Passing ``rope_scaling=None`` does not switch YaRN off in transformers 5: the choice is pinned here."""
    for extra in ({}, {"rope_scaling": None}):
        rope = build(
            "gpt_oss", num_hidden_layers=1, num_local_experts=2, vocab_size=40, hidden_size=16, **extra
        ).config.rope_parameters
        assert (rope["rope_type"], rope["factor"]) == ("yarn", 32.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_embedding_row_is_frozen_and_no_auxiliary_loss_is_added(family):
    config = tiny(family).config
    assert config.pad_token_id is None
    assert getattr(config, "router_aux_loss_coef", 0.0) == 0.0


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_casts_are_undone_forwards_and_backwards(family):
    """A float64 model as it stands is off by float32 rounding, far more than float64 rounding can explain."""
    model = tiny(family)
    plain, promoted, noisy = (
        evaluate(model, TOKENS, arithmetic)
        for arithmetic in (Arithmetic(), Arithmetic(promote=True), Arithmetic(promote=True, noise=0))
    )
    for values in (
        [each.logits for each in (plain, promoted, noisy)],
        *([each.gradients[name] for each in (plain, promoted, noisy)] for name in plain.gradients),
    ):
        assert {value.dtype for value in values} == {torch.float64}
        cast, exact, perturbed = values
        floor = float((perturbed - exact).abs().max())
        assert float((cast - exact).abs().max()) > 1e3 * floor
        assert 0 < floor < 1e-10


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_masks_hide_the_same_and_survive_noise(family):
    """The sign of the noise on a mask is the same for all its entries: of eight seeds some must push it outwards."""
    model = tiny(family)
    library = type(model)(model.config).double().eval()
    library.load_state_dict(model.state_dict())
    assert torch.equal(model(TOKENS).logits, library(TOKENS).logits)
    for seed in range(8):
        with Arithmetic(promote=True, noise=seed).active():
            assert bool(model(TOKENS).logits.isfinite().all())


@pytest.mark.parametrize("family", FAMILIES)
def test_tiny_is_deterministic_and_generic(family):
    first, again, other = tiny(family), tiny(family), tiny(family, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    assert all(parameter.detach().std() > 0.01 for parameter in first.parameters())


def test_target_offset():
    logits = torch.randn(2, 8, 40, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    log_probabilities = logits.log_softmax(-1)
    for offset in (1, 2):
        terms = [log_probabilities[b, t, TOKENS[b, t + offset]] for b in range(2) for t in range(8 - offset)]
        difference = token_loss(logits, TOKENS, target_offset=offset) + torch.stack(terms).mean()
        # A mean of at most 14 terms, each of them with a sum of 40, on both sides.
        assert float(difference.abs()) <= 2 * 54 * UNIT * float(log_probabilities.abs().max())
    with pytest.raises(ValueError, match="target_offset 8 does not fit 8 tokens"):
        token_loss(logits, TOKENS, target_offset=8)


def test_offset_two_is_what_the_doubly_shifted_labels_of_the_paper_give():
    logits = torch.randn(2, 8, 40, generator=torch.Generator().manual_seed(3))
    inputs, labels = TOKENS, torch.cat([TOKENS[:, 1:], torch.full((2, 1), -100)], dim=1)
    shifted_again = functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(token_loss(logits, inputs, target_offset=2), shifted_again)


def test_region_of_a_plain_matrix_is_the_matrix():
    weight = torch.zeros(3, 2)
    assert Region("w", None, "q").view(weight) is weight
