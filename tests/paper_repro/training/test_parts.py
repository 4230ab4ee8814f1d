"""Loss, schedules, router losses, diagnostics and what is said of them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_repro.models import build, tiny
from paper_repro.training import schedule
from paper_repro.training.diagnostics import Diagnostics
from paper_repro.training.loss import cross_entropy, expert_load, load_balance, router_z
from paper_repro.training.model import _cast_experts, logits_of
from paper_repro.training.routers import Routers

transformers = pytest.importorskip("transformers")
EPS = torch.finfo(torch.float32).eps


def tokens(batch=2, length=9, vocabulary=40, seed=0):
    return torch.randint(0, vocabulary, (batch, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("family", ["qwen3", "gemma3", "olmoe", "gpt_oss"])
def test_offset_two_is_what_the_paper_s_code_trains(family):
    """Its loader shifts the labels once, and the model's own loss once more."""
    model, rows = tiny(family), tokens()
    with torch.no_grad():
        logits = logits_of(model, rows)
        twice = model(input_ids=rows[:, :-1], labels=rows[:, 1:]).loss
        once = model(input_ids=rows[:, :-1], labels=rows[:, :-1]).loss
    # Both are means of the same numbers in float32, added in another order.
    assert abs(cross_entropy(logits, rows, 2) - twice) <= rows.numel() * EPS * twice
    assert abs(cross_entropy(logits[:, :-1], rows[:, :-1], 1) - once) <= rows.numel() * EPS * once


def test_offset_one_uses_every_position_and_targets_are_where_they_belong():
    rows = torch.tensor([[1, 2, 3, 4]])
    for offset in (1, 2, 3):
        logits = torch.full((1, 3, 5), -30.0)
        for place in range(4 - offset):
            logits[0, place, rows[0, place + offset]] = 30.0
        assert cross_entropy(logits, rows, offset) < 1e-12
    for offset in (0, 4):
        with pytest.raises(ValueError, match="offset"):
            cross_entropy(torch.zeros(1, 3, 5), rows, offset)
    with pytest.raises(ValueError, match="need 4 tokens"):
        cross_entropy(torch.zeros(1, 3, 5), rows[:, :3], 1)


@given(st.integers(110, 400))
def test_schedules_are_those_of_the_source(steps):
    other = schedule.warmup_then_cosine(steps, 100)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = transformers.get_cosine_schedule_with_warmup(optimizer, 100, steps)
    for step in range(0, steps, 7):
        assert other(step) == pytest.approx(theirs.lr_lambdas[0](step), rel=1e-12, abs=1e-15)
    main = schedule.flat_then_linear(steps)
    values = [main(step) for step in range(steps)]
    assert values[: int(0.6 * steps)] == [1.0] * int(0.6 * steps)
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(1 / steps / 0.4, rel=1e-9)
    assert main(steps) == pytest.approx(0, abs=1e-11)


@given(st.integers(2, 6), st.integers(1, 2), st.integers(0, 99))
def test_router_losses_against_loops(experts, top_k, seed):
    generator = torch.Generator().manual_seed(seed)
    layers = [torch.randn(7, experts, generator=generator) for _ in range(2)]
    balance, z = [], []
    for logits in layers:
        counts = [0] * experts
        for row in logits.tolist():
            for expert in sorted(range(experts), key=lambda e: -row[e])[:top_k]:
                counts[expert] += 1
        assert expert_load(logits, top_k).tolist() == pytest.approx([count / (7 * top_k) for count in counts])
        mean = torch.softmax(logits, -1).mean(0).tolist()
        balance.append(experts * sum(count / (7 * top_k) * p for count, p in zip(counts, mean, strict=True)))
        z.append(sum(math.log(sum(map(math.exp, row))) ** 2 for row in logits.tolist()) / 7)
    assert load_balance(layers, top_k).item() == pytest.approx(sum(balance) / 2, rel=1e-5)
    assert router_z(layers).item() == pytest.approx(sum(z) / 2, rel=1e-5)


def test_balance_pushes_towards_experts_with_less_load():
    logits = torch.tensor([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]], requires_grad=True)
    load_balance([logits], 1).backward()
    assert (logits.grad[:, 0] > 0).all()
    assert (logits.grad[:, 1:] < 0).all()


@pytest.mark.parametrize("family", ["olmoe", "gpt_oss"])
def test_router_logits_are_those_of_transformers(family):
    model, rows = tiny(family), tokens()
    routers = Routers(model)
    with torch.no_grad(), routers.recording() as taken:
        theirs = model(input_ids=rows[:, :-1], output_router_logits=True).router_logits
    assert len(taken) == len(routers.weights) == 2
    for mine, other in zip(taken, theirs, strict=True):
        assert torch.equal(mine, other.flatten(0, -2))
    logits_of(model, rows)
    assert len(taken) == 2  # only while recording


def test_a_dense_model_has_no_routers():
    assert not Routers(tiny("qwen3")).weights


def test_diagnostics_are_what_their_names_say():
    model = tiny("olmoe")
    routers = Routers(model)
    diagnostics = Diagnostics(model, routers)
    rows = tokens()
    with torch.no_grad():
        logits = logits_of(model, rows)
    found = diagnostics.measure(rows)
    head = model.lm_head.weight.detach()
    assert found["head_max_logit"] == pytest.approx(logits.abs().max().item(), rel=1e-6)
    assert found["head_logsumexp"] == pytest.approx(torch.logsumexp(logits, -1).mean().item(), rel=1e-6)
    assert found["head_row_norm_cv"] == pytest.approx(
        (head.norm(dim=1).std(correction=0) / head.norm(dim=1).mean()).item()
    )
    assert found["head_shift"] == pytest.approx(head.sum(0).norm().item() / math.sqrt(40), rel=1e-6)
    assert found["head_drift"] == found["router_drift"] == 0
    assert 0 <= found["router_load_entropy"] <= 1 + 4 * EPS
    assert found["router_load_cv"] <= found["router_load_cv_max"]
    assert found["router_top_load"] >= 1


@given(st.floats(0.01, 10), st.integers(0, 99))
def test_drift_sees_a_shared_shift_and_nothing_that_is_centred(size, seed):
    model = tiny("gpt_oss")
    routers = Routers(model)
    diagnostics = Diagnostics(model, routers)
    generator = torch.Generator().manual_seed(seed)
    head = model.lm_head.weight
    moved = torch.randn(head.shape, generator=generator, dtype=head.dtype)
    with torch.no_grad():
        head += size * (moved - moved.mean(0))
        centred = diagnostics.measure(tokens())["head_drift"]
        shift = torch.randn(head.shape[1], generator=generator, dtype=head.dtype)
        head += size * shift
        shifted = diagnostics.measure(tokens())["head_drift"]
    # The mean of 40 rows of size up to `size` is taken in float32.
    assert centred <= 40 * math.sqrt(head.numel()) * EPS * (size * 5 + head.abs().max().item())
    assert shifted == pytest.approx(math.sqrt(40) * size * shift.norm().item(), rel=1e-2)


def test_equal_loads_have_no_spread_and_dead_experts_are_counted():
    model = tiny("olmoe")
    routers = Routers(model)
    with torch.no_grad():
        for weight in routers.weights:
            weight.zero_()  # all logits equal: the same two experts win for every token
    found = Diagnostics(model, routers).measure(tokens())
    assert found["router_dead_experts"] == 0.5
    assert found["router_load_cv"] == pytest.approx(1.0)
    assert found["router_top_load"] == pytest.approx(2.0)
    assert found["router_load_entropy"] == pytest.approx(0.5)
    assert found["router_z"] == pytest.approx(math.log(4) ** 2)
    assert found["router_logit_rms"] == 0


@pytest.mark.parametrize("family", ["olmoe", "gpt_oss"])
def test_autocast_reaches_experts_in_grouped_products(family):
    """Gradients come back to the float32 parameters, close to those of float32."""
    names = {"olmoe": {"num_experts": 4}, "gpt_oss": {"num_local_experts": 4, "head_dim": 16}}[family]
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_experts_per_tok": 2}
    torch.manual_seed(0)
    model = build(family, experts_implementation="grouped_mm", **sizes, **heads, **names)
    rows = tokens(vocabulary=64)
    full = logits_of(model, rows)
    cross_entropy(full, rows, 1).backward()
    exact = {name: each.grad.clone() for name, each in model.named_parameters() if "experts" in name}
    model.zero_grad()
    _cast_experts(model)
    seen = []
    experts = next(each for name, each in model.named_modules() if name.endswith("experts"))
    hook = experts.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = logits_of(model, rows)
    hook.remove()
    cross_entropy(rough, rows, 1).backward()
    assert not torch.equal(rough.float(), full)
    for name, each in model.named_parameters():
        if name in exact:
            assert each.grad.dtype == torch.float32
            assert not torch.equal(each.grad, exact[name])
            # Rounding to 8 bits in a handful of products in a row.
            assert (each.grad - exact[name]).norm() <= 32 * 2**-8 * exact[name].norm()
    with torch.no_grad():  # outside autocast nothing is cast
        assert torch.equal(logits_of(model, rows), full)
