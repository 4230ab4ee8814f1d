"""The joint actions and blocks of `groups` are the ones that models have.

The models' symmetries are written down in `paper_repro.catalogue` head by head and expert by expert; `groups` writes
them for one block. Here each says the same as the other, or is applied to a model as it stands.
"""

import pytest
import torch

from groups import BLOCKS, CATALOGUE, parse_action
from paper_repro import catalogue as c
from paper_repro.gains import with_scalar_gains
from paper_repro.invariance import defect, rounding_floor
from paper_repro.layout import regions
from paper_repro.models import FAMILIES, tiny
from paper_repro.symmetry import Slot, Symmetry
from symcheck.probe.measure import UNIT

pytest.importorskip("transformers")
TOKENS = torch.randint(0, 40, (2, 8), generator=torch.Generator().manual_seed(1))
BROKEN = 1e6

# Joint action of `groups`, the same of a model, and which tensor plays which role there.
READERS = {"q_0": "reader", "k_1": "reader", "gate_0": "reader", "router_1": "reader"}
WRITERS = {"o_0": "writer", "down_1": "writer"}
RESIDUAL = {"embedding": "embedding", **READERS, **WRITERS, "lm_head": "lm_head"}
NEURON = {"gate": "gate", "up": "up", "down": "down"}
SAME = [
    ("vocabulary_permutation", c.vocabulary_permutation, {"embedding": "embedding", "lm_head": "lm_head"}),
    ("residual_rotation", c.residual_rotation, RESIDUAL),
    ("residual_sign", lambda m: c.residual_rotation(m, "Sign"), RESIDUAL),
    ("lm_head_shift", c.head_shift, {"W": "W"}),
    ("router_shift", lambda m: c.router_shift(m, 0), {"W": "W"}),
    (
        "expert_permutation",
        lambda m: c.expert_permutation(m, 0),
        {"router_0": "router", "gate_0": "gate", "up_0": "up", "down_0": "down"},
    ),
    ("neuron_permutation", lambda m: c.neuron_permutation(m, 0, 1), NEURON),
    ("neuron_scaling", lambda m: c.up_rescaling(m, 0, 1), {"up": "up", "down": "down"}),
    ("neuron_sign", lambda m: c.up_rescaling(m, 0, 1, "Sign"), {"up": "up", "down": "down"}),
    ("norm_gain", lambda m: c.gain_gauge(m, "attention_gain", 0), {"attention_gain_0": "gain", "q_0": "reader"}),
]


@pytest.mark.parametrize(("name", "make", "roles"), SAME, ids=[row[0] for row in SAME])
def test_joint_actions_agree(name, make, roles):
    ours, theirs = make(tiny("olmoe")).action, CATALOGUE[name]
    assert set(roles.values()) == set(theirs.tensors)
    for tensor, role in roles.items():
        assert ours.restrict(tensor) == theirs.restrict(role)


# Actions on whole projections of two heads, without grouped queries: applied to a model as `groups` states them.
ROLES = {"query": ("q", "q_bias"), "key": ("k", "k_bias"), "value": ("v", "v_bias"), "output": ("o",)}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "hidden_size": 16}
PRESERVED = [
    ("value_output_linear", ("qwen3", "gemma3", "olmoe", "gpt_oss")),
    ("value_output_rotation", ("qwen3", "gemma3", "olmoe", "gpt_oss")),
    ("query_key_rope", ("gpt_oss",)),
    ("head_permutation", ("qwen3", "gemma3")),
]
BROKEN_HERE = [
    ("query_key_linear", ("gpt_oss",)),
    ("query_key_rotation", ("gpt_oss",)),
    ("query_key_rope_interleaved", ("gpt_oss",)),
    ("head_permutation", ("olmoe", "gpt_oss")),  # gains, sinks: what else is indexed by head stays behind
]


def whole_projections(model, name):
    """The action of `groups` on the projections of layer 0; a bias moves as the rows of its matrix do."""
    action = CATALOGUE[name]
    (where,) = {f"{variable} = {group}" for variable, group in action.variables}
    clauses, slots = [], []
    table = {region.role: region for region in regions(model) if region.layer == 0}
    for tensor, (factor,) in zip(action.tensors, action.factors, strict=True):
        for role in ROLES[tensor]:
            if role in table:
                clauses.append(f"{role}: {factor.variable}{'*' if factor.dual else ''}({factor.axis})")
                slots.append(Slot(table[role].parameter, table[role].view))
    return Symmetry(name, parse_action(f"{'; '.join(clauses)} where {where}"), tuple(slots))


def units(model, symmetry):
    (element,) = symmetry.action.sample(symmetry.shapes(model), 1, rng=torch.Generator().manual_seed(8))
    assert not element.is_identity
    return defect(model, symmetry, element, TOKENS).over(rounding_floor(model, symmetry, element, TOKENS))


def rows(table):
    return [pytest.param(name, family, id=f"{family}-{name}") for name, families in table for family in families]


@pytest.mark.parametrize(("name", "family"), rows(PRESERVED))
def test_head_action_preserves(name, family):
    model = tiny(family, **HEADS)
    found = units(model, whole_projections(model, name))
    assert max(found.logits, found.loss, *found.gradients.values()) <= 1


@pytest.mark.parametrize(("name", "family"), rows(BROKEN_HERE))
def test_head_action_breaks(name, family):
    model = tiny(family, **HEADS)
    found = units(model, whole_projections(model, name))
    assert min(found.logits, found.loss, max(found.gradients.values())) > BROKEN


@pytest.mark.parametrize("family", FAMILIES)
def test_each_block_contains_the_orthogonal_symmetries_of_its_matrices(family):
    """An optimizer that respects the block's group respects what these symmetries do to the matrix alone."""
    model = tiny(family)
    blocks = {region.label: region for region in regions(model)}
    symmetries = [c.vocabulary_permutation(model), c.residual_rotation(model)]
    if family in {"olmoe", "gpt_oss"}:
        symmetries.append(c.expert_permutation(model, 0))
    seen = set()
    for symmetry in symmetries:
        for tensor in symmetry.action.tensors:
            block = blocks[tensor].block
            if block != "other":
                moved = symmetry.action.restrict(tensor)
                # The table writes the experts' stack for gate and up; a stack of down projections is its mirror image.
                mirrored = blocks[tensor].expert_block == "swiglu_down"
                claim = parse_action("(O(rows) x Perm(cols)) wr Perm(experts)") if mirrored else BLOCKS[block].action
                assert moved <= claim, (str(moved), str(claim))
                seen.add(block)
    assert {"embedding", "lm_head", "attention_qkv", "attention_o"} < seen
    shift = c.head_shift(model).action
    assert shift <= BLOCKS["lm_head"].action
    assert shift <= BLOCKS["router"].action
    assert not shift <= BLOCKS["embedding"].action


def test_the_block_action_of_the_head_is_a_symmetry_of_the_model():
    """Permutation, rotation and shift together, as one element of the block's action sees the head."""
    model = with_scalar_gains(tiny("qwen3"))
    head = dict(model.named_parameters())["lm_head.weight"].detach()
    (element,) = BLOCKS["lm_head"].action.sample((tuple(head.shape),), 1, rng=torch.Generator().manual_seed(3))
    (moved,) = element.act((head,))
    permutation, rotation = element.values
    parts = [(c.vocabulary_permutation, {"P": permutation}), (c.residual_rotation, {"Q": rotation})]
    image, tokens = model, TOKENS
    for make, values in parts:
        symmetry = make(image)
        step = symmetry.action.element(symmetry.shapes(image), values)
        image, tokens = symmetry.transform(image, step), symmetry.relabel(image, step, tokens)
    shift = c.head_shift(image)
    step = shift.action.element(shift.shapes(image), translations={"W": element.translations[0]})
    image = shift.transform(image, step)
    after = dict(image.named_parameters())["lm_head.weight"].detach()
    # The rotation sums 16 products and the shift adds one term, on both sides; a permutation is exact.
    terms = float((head.abs() @ torch.tensor(rotation.matrix).abs().T).max()) + max(map(abs, element.translations[0]))
    assert float((after - moved).abs().max()) <= 2 * 17 * UNIT * terms
