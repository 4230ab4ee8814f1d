"""The joint blocks are symmetries of networks: each keeps the loss of a tiny one, and moves its gradient by the dual.

The networks are written out; nothing here knows how an action is implemented.
"""

import math

import numpy as np
import pytest
import torch

from groups import BLOCKS, CATALOGUE, JOINT_BLOCKS, get_block

WIDTH, BATCH = 4, 7
EPS = torch.finfo(torch.float64).eps
silu = torch.nn.functional.silu


def data(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rms_norm(x):
    return x / x.square().mean(-1, keepdim=True).sqrt()


def attention(q, k, v):
    """Causal attention of heads ``(heads, length, size)``."""
    scores = (q @ k.mT).masked_fill(~torch.ones(BATCH, BATCH).tril().bool(), -math.inf)
    return torch.softmax(scores, -1) @ v


def heads(x, weight, count):
    return (x @ weight.mT).reshape(BATCH, count, -1).transpose(0, 1)


def joined(x):
    return x.transpose(0, 1).reshape(BATCH, -1)


def rotary(x):
    """Rotary positions in the layout of transformers: plane ``j`` is coordinates ``j`` and ``j + size / 2``."""
    half = x.shape[-1] // 2
    angles = torch.arange(BATCH, dtype=torch.float64)[:, None] * 0.7 ** torch.arange(half, dtype=torch.float64)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1)


def shared(x):
    """Every key or value head, once for each of the two heads that share it."""
    return x.repeat_interleave(2, 0)


def relu(x, up, down):
    return torch.relu(x @ up.mT) @ down.mT


def swiglu(x, up, down):
    return (silu(x @ data(len(up), WIDTH, seed=2).mT) * (x @ up.mT)) @ down.mT


def whole_swiglu(x, gate, up, down):
    return (silu(x @ gate.mT) * (x @ up.mT)) @ down.mT


def value_output(x, value, output):
    q, k = (heads(x, data(4, WIDTH, seed=s), 2) for s in (3, 4))
    return joined(attention(q, k, heads(x, value, 2))) @ output.mT


def query_key(x, query, key):
    return attention(heads(x, query, 2), heads(x, key, 2), x)


def query_key_rope(x, query, key):
    return attention(rotary(heads(x, query, 2)), rotary(heads(x, key, 2)), x)


def all_heads(x, query, key, value, output):
    return joined(attention(*(heads(x, w, 2) for w in (query, key, value)))) @ output.mT


def grouped_heads(x, query, key, value, output):
    q, k, v = heads(x, query, 4), shared(heads(x, key, 2)), shared(heads(x, value, 2))
    return joined(attention(q, k, v)) @ output.mT


def grouped_query_key(x, query, key):
    return attention(rotary(heads(x, query, 4)), shared(rotary(heads(x, key, 2))), x)


def grouped_value_output(x, value, output):
    q, k = (heads(x, data(8, WIDTH, seed=s), 4) for s in (3, 4))
    return joined(attention(q, k, shared(heads(x, value, 2)))) @ output.mT


def moe(x, router, gate, up, down):
    hidden = silu(x @ gate.mT) * (x @ up.mT)  # experts x batch x hidden
    return torch.einsum("be,ebd->bd", torch.softmax(x @ router.mT, -1), hidden @ down.mT)


def norm_gain(x, gain, gate, up):
    x = rms_norm(x) * gain[:, 0]
    return silu(x @ gate.mT) * (x @ up.mT)


def residual_sign(x, reader, writer, gain):
    return torch.tanh((rms_norm(x) * gain[:, 0]) @ reader.mT) @ writer.mT


def stream(x, embedding, output, down):
    h = data(BATCH, len(embedding)) @ embedding
    h = h + torch.tanh(rms_norm(h)) @ output.mT
    h = h + torch.tanh(rms_norm(h) @ data(WIDTH, down.shape[1])) @ down.mT
    return rms_norm(h)


def normed(x, weight):
    return rms_norm((x @ weight.mT).flatten())


NETWORKS = {
    "relu_scaling": relu,
    "swiglu_scaling": swiglu,
    "swiglu_whole": whole_swiglu,
    "value_output_rotation": value_output,
    "value_output_linear": value_output,
    "query_key_rope": query_key_rope,
    "query_key_linear": query_key,
    "heads": all_heads,
    "grouped_heads": grouped_heads,
    "grouped_query_key": grouped_query_key,
    "grouped_value_output": grouped_value_output,
    "moe": moe,
    "norm_gain": norm_gain,
    "residual_sign": residual_sign,
    "stream_scale": stream,
    "reader_scale": norm_gain,
    "norm_scale": normed,
}
RESIDUAL = {"swiglu_whole": "Q", "moe": "Q", "residual_sign": "P"}
"""Blocks on the residual stream itself: the variable that moves what is read from it and what is written to it."""
WRONG = {
    # The same networks under what a careless table would say.
    "relu_scaling": "up: D(rows); down: D*(cols) where D = Scale",
    "swiglu_scaling": "up: D(rows); down: D(cols) where D = Scale",
    "swiglu_whole": "gate: M(rows); up: M(rows); down: M*(cols) where M = Monomial",
    "value_output_rotation": "value: B(rows); output: B(cols) where B = (O wr Perm[2])",
    "value_output_linear": "value: B(rows); output: B(cols) where B = (GL wr 1[2])",
    "query_key_rope": "query: A(rows); key: A(rows) where A = (U1[interleaved] wr 1[2])",
    "query_key_linear": "query: A(rows); key: A(rows) where A = (GL wr Perm[2])",
    "heads": "query: (1 wr Perm[2])(rows); key: H(rows); value: H(rows); output: H(cols) where H = (1 wr Perm[2])",
    "grouped_heads": "query: (1 wr Perm[4])(rows); output: (1 wr Perm[4])(cols); key: 1; value: 1",
    "grouped_query_key": "query: (U1[half] wr 1[4])(rows); key: 1",
    "grouped_value_output": "value: (O wr 1[2])(rows); output: (O wr 1[4])(cols)",
    "moe": "router: 1; gate: P(experts); up: P(experts); down: P(experts) where P = Perm",
    "norm_gain": "gain: D(rows); gate: D(cols); up: D(cols) where D = Scale",
    "residual_sign": "reader: P(cols); writer: P(rows); gain: P(rows) where P = SPerm",
    "stream_scale": "embedding: c(all); output: c(all); down: 1 where c = Scale+",
    "reader_scale": "gain: c(all); gate: c*(all); up: c(all) where c = Scale",
    "norm_scale": "Scale+(rows)",
}


def shapes_of(block):
    """Shapes of the block whose residual width is that of the data."""
    r = 3
    sizes = {"gate": (r, WIDTH), "up": (r, WIDTH), "down": (WIDTH, r), "gain": (WIDTH, 1), "router": (3, WIDTH)}
    sizes |= {"reader": (r, WIDTH), "writer": (WIDTH, r), "embedding": (5, WIDTH), "W": (3, WIDTH)}
    sizes |= dict.fromkeys(("query", "key", "value"), (4, WIDTH)) | {"output": (WIDTH, 4)}
    if block.name.startswith("grouped"):
        sizes |= {"query": (8, WIDTH), "output": (WIDTH, 8)}
    if block.name in ("query_key_rope", "grouped_query_key"):  # two planes, or their order would not matter
        sizes |= {tensor: (2 * sizes[tensor][0], WIDTH) for tensor in ("query", "key")}
    if block.name == "moe":
        sizes |= {"gate": (3, r, WIDTH), "up": (3, r, WIDTH), "down": (3, WIDTH, r)}
    return tuple(sizes[tensor] for tensor in block.action.tensors)


def evaluate(network, x, target, tensors):
    """Loss and gradients, by automatic differentiation."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    out = network(x, *leaves)
    loss = (out - target).square().mean() if target is not None else (out * data(*out.shape, seed=9)).sum()
    return loss.detach(), torch.autograd.grad(loss, leaves)


def defect(block, element, weights):
    """How far the loss and the gradients are from moving as ``element`` says, relative to their size."""
    network = NETWORKS[block.name]
    x, target = data(BATCH, WIDTH), data(BATCH, WIDTH, seed=8) if block.name in RESIDUAL else None
    loss, grads = evaluate(network, x, target, weights)
    if block.name in RESIDUAL and RESIDUAL[block.name] in element.action.variable_names:
        value = element.values[element.action.variable_names.index(RESIDUAL[block.name])]
        turn = torch.tensor(value.matrix)
        x, target = x @ turn.mT, target @ turn.mT
    moved_loss, moved_grads = evaluate(network, x, target, element.act_linear(weights))
    expected = element.act_dual(grads)
    size = max(float(g.abs().max()) for g in expected)
    gaps = [float((a - b).abs().max()) / size for a, b in zip(moved_grads, expected, strict=True)]
    return max([abs(float(moved_loss - loss)) / max(1.0, abs(float(loss))), *gaps])


@pytest.mark.parametrize("name", JOINT_BLOCKS)
def test_the_block_keeps_the_loss_and_moves_its_gradient_by_the_dual(name):
    block = JOINT_BLOCKS[name]
    shapes = shapes_of(block)
    weights = tuple(data(*shape, seed=20 + k) for k, shape in enumerate(shapes))
    elements = [*block.action.exact(shapes), *block.action.sample(shapes, 3, rng=torch.Generator().manual_seed(0))]
    assert any(not g.is_identity for g in elements)
    # A few hundred operations, of numbers that an element stretches by at most 4 and its dual by 4 once more.
    assert max(defect(block, g, weights) for g in elements) <= 16 * 300 * EPS


@pytest.mark.parametrize("name", JOINT_BLOCKS)
def test_the_network_would_notice_a_wrong_table(name):
    from groups import parse_action

    block = JOINT_BLOCKS[name]
    action = parse_action(WRONG[name])
    order = [action.tensors.index(tensor) for tensor in block.action.tensors]
    shapes = shapes_of(block)
    weights = tuple(data(*shape, seed=20 + k) for k, shape in enumerate(shapes))

    class Reordered:
        def __init__(self, element):
            self.element, self.action, self.values = element, action, element.values

        def __getattr__(self, move):
            def act(tensors):
                moved = getattr(self.element, move)(tuple(tensors[order.index(k)] for k in range(len(tensors))))
                return tuple(moved[k] for k in order)

            return act

    given = tuple(shapes[order.index(k)] for k in range(len(shapes)))
    assert max(defect(block, Reordered(g), weights) for g in action.exact(given)) > 1e-3


@pytest.mark.parametrize("name", JOINT_BLOCKS)
def test_gradients_are_slopes_of_the_loss(name):
    """By central differences of step h = eps^(1/3), whose error is of the order h^2 in units of third derivatives."""
    block = JOINT_BLOCKS[name]
    weights = tuple(data(*shape, seed=20 + k) for k, shape in enumerate(shapes_of(block)))
    along = tuple(data(*shape, seed=40 + k) for k, shape in enumerate(shapes_of(block)))
    x, target = data(BATCH, WIDTH), data(BATCH, WIDTH, seed=8) if name in RESIDUAL else None
    _, grads = evaluate(NETWORKS[name], x, target, weights)
    slope = sum(float((g * v).sum()) for g, v in zip(grads, along, strict=True))
    h = EPS ** (1 / 3)
    up, down = (
        evaluate(NETWORKS[name], x, target, tuple(w + s * h * v for w, v in zip(weights, along, strict=True)))[0]
        for s in (1, -1)
    )
    size = sum(float((g * v).abs().sum()) for g, v in zip(grads, along, strict=True))
    assert abs(float(up - down) / (2 * h) - slope) <= 1e3 * h**2 * size


@pytest.mark.parametrize("block", JOINT_BLOCKS.values(), ids=list(JOINT_BLOCKS))
def test_shapes_fit_and_grow(block):
    assert get_block(block.name) is block
    assert not block.centred_gradients
    assert not block.action.shift
    for shapes in block.shapes:
        block.action.check(shapes)
        assert len(block.action.exact(shapes)) > 0
    sizes = [sum(math.prod(shape) for shape in shapes) for shapes in block.shapes]
    assert min(sizes[2:]) >= 2 * 2
    assert max(sizes) >= 100


def test_no_name_is_in_both_tables():
    assert not JOINT_BLOCKS.keys() & BLOCKS.keys()


def test_the_joint_blocks_contain_the_catalogue():
    """What the catalogue of joint actions says of the same tensors is part of a block."""
    pairs = {
        "neuron_positive_scaling": "relu_scaling",
        "neuron_scaling": "swiglu_scaling",
        "neuron_permutation": "swiglu_whole",
        "value_output_linear": "value_output_linear",
        "value_output_rotation": "value_output_rotation",
        "query_key_linear": "query_key_linear",
        "query_key_rope": "query_key_rope",
        "head_permutation": "heads",
    }
    for small, large in pairs.items():
        assert CATALOGUE[small] <= JOINT_BLOCKS[large].action, (small, large)
    assert JOINT_BLOCKS["relu_scaling"].action <= JOINT_BLOCKS["swiglu_scaling"].action
    assert not JOINT_BLOCKS["swiglu_scaling"].action <= JOINT_BLOCKS["relu_scaling"].action
    assert JOINT_BLOCKS["value_output_rotation"].action <= JOINT_BLOCKS["value_output_linear"].action


def test_the_keys_of_a_group_move_by_what_its_queries_share():
    shapes = ((8, 1), (4, 1))
    block = JOINT_BLOCKS["grouped_query_key"]
    element = block.action.sample(shapes, 1, rng=torch.Generator().manual_seed(4))[0]
    query = element.act_linear((torch.eye(8, dtype=torch.float64)[:, :1], torch.zeros(4, 1, dtype=torch.float64)))[0]
    assert query.count_nonzero() == 2  # the first coordinate stays in one head and one plane
    big = element.values[0].matrix.reshape(2, 2, 2, 2, 2, 2)  # group, copy, coordinate; twice
    small = element.action.restrict("key")
    assert str(small) == "(U1[half] wr 1[2])(rows)"
    columns = [element.act_linear((torch.zeros(8, 1).double(), e[:, None]))[1] for e in torch.eye(4).double()]
    keys = torch.cat(columns, 1).numpy().reshape(2, 2, 2, 2)
    assert np.allclose(big.sum(axis=(1, 4)), 2 * keys, rtol=0, atol=8 * EPS)
