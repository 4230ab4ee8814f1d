"""The truth that the block table rests on: which actions preserve a real decoder's loss, and which do not.

Each exact symmetry is checked at random group elements on the observable logits, the loss, and all gradients (which
must move by the dual action). The tolerance is `rounding_floor`, the measured rounding error of both sides; a broken
symmetry must exceed it by `BROKEN`: six orders of magnitude, far above what a wrong floor could explain and far below
the defects seen.
"""

import functools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paper_repro import catalogue as c
from paper_repro.gains import GAIN_READERS, POST_GAINS, absorb_gains, with_paired_qk_gains, with_scalar_gains
from paper_repro.invariance import defect, evaluate, rounding_floor
from paper_repro.layout import regions
from paper_repro.models import FAMILIES, tiny

pytest.importorskip("transformers")
ALL = tuple(FAMILIES)
MOE = ("olmoe", "gpt_oss")
DENSE = ("qwen3", "gemma3")
QK_NORM = ("qwen3", "gemma3", "olmoe")
GATED = ("qwen3", "gemma3", "olmoe")
TOKENS = torch.randint(0, 40, (2, 8), generator=torch.Generator().manual_seed(1))
BROKEN = 1e6


@functools.cache
def model_of(family, prepare=None, **config):
    model = tiny(family, **config)
    return prepare(model) if prepare else model


def expert_of(model):
    return 2 if model.config.model_type in {"olmoe", "gpt_oss"} else None


# (name, families, symmetry of a model, how the model is prepared, configuration)
PRESERVED = [
    ("vocabulary", ALL, c.vocabulary_permutation, None, {}),
    ("vocabulary, tied", ALL, c.vocabulary_permutation, None, {"tie_word_embeddings": True}),
    ("residual rotation, scalar gains", ALL, c.residual_rotation, with_scalar_gains, {}),
    ("residual rotation, tied", ("gemma3",), c.residual_rotation, with_scalar_gains, {"tie_word_embeddings": True}),
    ("residual rotation, absorbed gains", ("qwen3", *MOE), c.residual_rotation, absorb_gains, {}),
    ("residual signs", ALL, lambda m: c.residual_rotation(m, "Sign"), None, {}),
    ("residual permutation with gains", ALL, lambda m: c.residual_rotation(m, "Perm", gains=True), None, {}),
    ("residual signed permutation with gains", ALL, lambda m: c.residual_rotation(m, "SPerm", gains=True), None, {}),
    ("head shift", ALL, c.head_shift, None, {}),
    ("router shift", MOE, lambda m: c.router_shift(m, 0), None, {}),
    ("router shift, renormalised", ("olmoe",), lambda m: c.router_shift(m, 0), None, {"norm_topk_prob": True}),
    ("router bias shift", ("gpt_oss",), lambda m: c.router_shift(m, 1, "router_bias"), None, {}),
    ("expert permutation", MOE, lambda m: c.expert_permutation(m, 1), None, {}),
    ("neuron permutation", ALL, lambda m: c.neuron_permutation(m, 1, expert_of(m)), None, {}),
    ("up rescaling", GATED, lambda m: c.up_rescaling(m, 0, expert_of(m)), None, {}),
    ("value basis", ALL, lambda m: c.value_basis(m, 0, 1), None, {}),
    ("value rotation", ALL, lambda m: c.value_basis(m, 1, 0, "O"), None, {}),
    ("query/key rotation", ("gpt_oss",), lambda m: c.query_key_basis(m, 1, 1), None, {}),
    ("query/key rotation, paired gains", QK_NORM, lambda m: c.query_key_basis(m, 1, 1), with_paired_qk_gains, {}),
    ("query/key plane scales", ("gpt_oss",), lambda m: c.query_key_planes(m, 0, 1), None, {}),
    ("query/key plane signs", ALL, lambda m: c.query_key_planes(m, 0, 1, "Sign"), None, {}),
    ("query scale, eps 0", DENSE, lambda m: c.query_scale(m, 0, 3), None, {"rms_norm_eps": 0.0}),
    ("head permutation", ALL, lambda m: c.head_permutation(m, 1), None, {}),
    ("query head permutation", ALL, lambda m: c.query_head_permutation(m, 0, 1), None, {}),
    ("attention gain gauge", ALL, lambda m: c.gain_gauge(m, "attention_gain", 1), None, {}),
    ("mlp gain gauge", ALL, lambda m: c.gain_gauge(m, "mlp_gain", 0), None, {}),
    ("final gain gauge", ALL, lambda m: c.gain_gauge(m, "final_gain", None), None, {}),
    ("stream scale, eps 0", ALL, c.stream_scale, None, {"rms_norm_eps": 0.0}),
]
BROKEN_ACTIONS = [
    ("head shift, tied", ALL, c.head_shift, None, {"tie_word_embeddings": True}),
    ("head shift, capped logits", ("gemma3",), c.head_shift, None, {"final_logit_softcapping": 3.0}),
    ("residual rotation, generic gains", ALL, c.residual_rotation, None, {}),
    ("residual rotation, generic post-norm gains", ("gemma3",), c.residual_rotation, absorb_gains, {}),
    ("residual permutation without gains", ALL, lambda m: c.residual_rotation(m, "Perm"), None, {}),
    ("residual signed permutation without gains", ("qwen3",), lambda m: c.residual_rotation(m, "SPerm"), None, {}),
    ("residual scaling, scalar gains", ALL, lambda m: c.residual_rotation(m, "Scale+"), with_scalar_gains, {}),
    ("up rescaling", ("gpt_oss",), lambda m: c.up_rescaling(m, 0, 2), None, {}),
    ("value rotation, clipped values", ("olmoe",), lambda m: c.value_basis(m, 1, 0, "O"), None, {"clip_qkv": 0.5}),
    ("up signs", ("gpt_oss",), lambda m: c.up_rescaling(m, 0, 2, "Sign"), None, {}),
    ("gate alone permuted", ALL, lambda m: c.neuron_permutation(m, 1, expert_of(m), halves=("gate",)), None, {}),
    ("query/key rotation across planes", ("gpt_oss",), lambda m: c.query_key_basis(m, 1, 1, "O"), None, {}),
    (
        "query/key rotation, wrong pairing",
        ("gpt_oss",),
        lambda m: c.query_key_basis(m, 1, 1, "U1[interleaved]"),
        None,
        {},
    ),
    ("query/key rotation, generic gains", QK_NORM, lambda m: c.query_key_basis(m, 1, 1), None, {}),
    ("query/key plane scales under QK-norm", QK_NORM, lambda m: c.query_key_planes(m, 0, 1), None, {}),
    (
        "query scale under a norm of all heads",
        ("olmoe",),
        lambda m: c.query_scale(m, 0, 3),
        None,
        {"rms_norm_eps": 0.0},
    ),
    ("query scale, eps > 0", DENSE, lambda m: c.query_scale(m, 0, 3), None, {"rms_norm_eps": 1e-3}),
    ("stream scale, eps > 0", ALL, c.stream_scale, None, {"rms_norm_eps": 1e-3}),
]


# Where the gains sit at a special value, their own gradients leave the subspace: roles, layer (all if None).
SPECIAL = {
    with_scalar_gains: ((*GAIN_READERS, *POST_GAINS),),
    absorb_gains: ((*GAIN_READERS, *POST_GAINS),),
    with_paired_qk_gains: (("q_gain", "k_gain"), 1),
}


def expand(table):
    return [
        pytest.param(family, symmetry, prepare, config, id=f"{family}-{name}")
        for name, families, symmetry, prepare, config in table
        for family in families
    ]


def units(model, symmetry, element):
    """Defects in units of the measured rounding floor, which must itself be small enough to see a broken symmetry."""
    floor = rounding_floor(model, symmetry, element, TOKENS)
    assert max(floor.logits, floor.loss, *floor.gradients.values()) < 1e-3 / BROKEN, floor
    return defect(model, symmetry, element, TOKENS).over(floor)


def parameters_in(model, roles, layer=None):
    return {region.parameter for region in regions(model) if region.role in roles and layer in (None, region.layer)}


@pytest.mark.parametrize(("family", "make", "prepare", "config"), expand(PRESERVED))
def test_preserved(family, make, prepare, config):
    """Where gains hold a special value the symmetry lives on that subspace, and only their gradients leave it."""
    model = model_of(family, prepare, **config)
    symmetry = make(model)
    special = parameters_in(model, *SPECIAL[prepare]) if prepare else set()
    for element in symmetry.action.sample(symmetry.shapes(model), 1, rng=torch.Generator().manual_seed(7)):
        assert not element.is_identity
        found = units(model, symmetry, element)
        assert found.logits <= 1
        assert found.loss <= 1
        assert {name: value for name, value in found.gradients.items() if not value <= 1}.keys() == special
        assert all(found.gradients[name] > BROKEN for name in special)


@pytest.mark.parametrize(("family", "make", "prepare", "config"), expand(BROKEN_ACTIONS))
def test_broken(family, make, prepare, config):
    model = model_of(family, prepare, **config)
    symmetry = make(model)
    (element,) = symmetry.action.sample(symmetry.shapes(model), 1, rng=torch.Generator().manual_seed(7))
    found = units(model, symmetry, element)
    assert found.logits > BROKEN
    assert found.loss > BROKEN
    assert max(found.gradients.values()) > BROKEN


def test_moving_gradients_like_weights_is_caught():
    """The dual action matters: under a change of basis in GL the gradients do not move as the weights do."""
    model = model_of("qwen3")
    symmetry = c.value_basis(model, 0, 1)
    (element,) = symmetry.action.sample(symmetry.shapes(model), 1, rng=torch.Generator().manual_seed(7))
    before, after = (evaluate(m, TOKENS).gradients for m in (model, symmetry.transform(model, element)))
    wrong = element.act_linear(tuple(slot.read(before) for slot in symmetry.slots))
    found = [slot.read(after) for slot in symmetry.slots]
    assert all(float((a - b).abs().max() / b.abs().max()) > 0.1 for a, b in zip(wrong, found, strict=True))


def test_head_shift_moves_the_logits_themselves():
    """The quotient by the shift is needed: logits are not preserved, their differences are."""
    model = model_of("qwen3")
    symmetry = c.head_shift(model)
    (element,) = symmetry.action.sample(symmetry.shapes(model), 1, rng=torch.Generator().manual_seed(7))
    before, after = evaluate(model, TOKENS).logits, evaluate(symmetry.transform(model, element), TOKENS).logits
    assert float((after - before).abs().max()) > 0.1


@pytest.mark.parametrize("family", ALL)
def test_absorbing_gains_keeps_the_function(family):
    """A gain gauge with ``D = 1 / gain``: the logits move by rounding only, one rounding for each absorbed product."""
    model = model_of(family)
    before, after = evaluate(model, TOKENS).logits, evaluate(absorb_gains(model), TOKENS).logits
    identity = c.residual_rotation(model, "Sign")
    element = identity.action.identity(identity.shapes(model))
    floor = rounding_floor(model, identity, element, TOKENS).logits
    assert 0 < float((after - before).abs().max() / before.abs().max()) <= floor


def test_absorbing_gains_of_a_tied_model_is_refused():
    with pytest.raises(ValueError, match="untie it before absorbing"):
        absorb_gains(model_of("qwen3", tie_word_embeddings=True))


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.parametrize("family", ALL)
def test_exact_elements_preserve_too(family, data):
    """Elements that certification will use (exact, shrinking to the identity), on a symmetry drawn from the table."""
    table = [row for row in PRESERVED if family in row[1]]
    _, _, make, prepare, config = data.draw(st.sampled_from(table))
    model = model_of(family, prepare, **config)
    symmetry = make(model)
    element = data.draw(symmetry.action.elements(symmetry.shapes(model)))
    found = units(model, symmetry, element)
    special = parameters_in(model, *SPECIAL[prepare]) if prepare else set()
    assert found.logits <= 1
    assert found.loss <= 1
    assert {name for name, value in found.gradients.items() if not value <= 1} <= special
