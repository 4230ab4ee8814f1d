"""Front ends of the joint rules: the rule's own trajectory, block by block, and one line for every misuse."""

from __future__ import annotations

import copy
import io

import pytest
import torch

from groups import JOINT_BLOCKS
from reference import get_joint_rule
from reference.joint import optimizers
from reference.joint.optimizers import OPTIMIZERS, DDCRescaling, DDCRotation, DDCScale

SHAPES = ((4, 3), (3, 4))
HYPER = {"lr": 0.05, "weight_decay": 0.1}
GAUGES = {
    "ddc_rescaling": "up: D(rows); down: D*(cols) where D = Scale",
    "ddc_scale": "up: c(all); down: c(all) where c = Scale+",
    "ddc_rotation": "value: B(rows); output: B(cols) where B = (O wr 1[2])",
}


def drawn(shapes, seed, dtype=torch.float64):
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=source, dtype=torch.float64).to(dtype) for shape in shapes]


def parameters(shapes, seed=0, dtype=torch.float64):
    return [torch.nn.Parameter(tensor) for tensor in drawn(shapes, seed, dtype)]


def step(optimizer, params, seed):
    for param, grad in zip(params, drawn([p.shape for p in params], seed, params[0].dtype), strict=True):
        param.grad = grad
    optimizer.step()


def values(params):
    return [param.detach().clone() for param in params]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("base", ["adam", "muon"])
def test_the_trajectory_is_the_rule_s_own(name, base):
    rule = get_joint_rule(name, gauge=GAUGES[name], base=base, **HYPER)
    params = parameters(SHAPES)
    optimizer = OPTIMIZERS[name](params, gauge=GAUGES[name], base=base, **HYPER)
    weights = tuple(values(params))
    state = rule.init(weights)
    for seed in range(1, 5):
        moved, state = rule.update(drawn(SHAPES, seed), state, weights)
        weights = tuple(w + u for w, u in zip(weights, moved, strict=True))
        step(optimizer, params, seed)
        assert all(torch.equal(a, b) for a, b in zip(values(params), weights, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_blocks_of_a_group_and_groups_do_not_feel_each_other(name):
    hyper = {"gauge": GAUGES[name], **HYPER}
    alone = []
    for number in range(3):
        params = parameters(SHAPES, number)
        optimizer = OPTIMIZERS[name](params, **hyper)
        for seed in (10, 20):
            step(optimizer, params, seed + number)
        alone += values(params)
    blocks = [parameters(SHAPES, number) for number in range(3)]
    optimizer = OPTIMIZERS[name]([{"params": [*blocks[0], *blocks[1]]}, {"params": blocks[2]}], **hyper)
    for seed in (10, 20):
        for number, params in enumerate(blocks):
            for param, grad in zip(params, drawn(SHAPES, seed + number), strict=True):
                param.grad = grad
        optimizer.step()
    together = [value for params in blocks for value in values(params)]
    assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("base", ["adam", "muon"])
def test_a_checkpoint_through_a_file_continues_bitwise(name, base):
    hyper = {"gauge": GAUGES[name], "base": base, **HYPER}
    params = parameters(SHAPES)
    optimizer = OPTIMIZERS[name](params, **hyper)
    step(optimizer, params, 1)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    others = [torch.nn.Parameter(value) for value in values(params)]
    resumed = OPTIMIZERS[name](others, lr=1.0, gauge=GAUGES[name])
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for seed in (2, 3):
        step(optimizer, params, seed)
        step(resumed, others, seed)
    assert all(torch.equal(a, b) for a, b in zip(values(params), values(others), strict=True))
    assert (others[0] != parameters(SHAPES)[0]).any()


def test_a_broken_checkpoint_is_one_line_and_changes_nothing():
    params = parameters(SHAPES)
    optimizer = DDCRescaling(params, lr=0.1)
    step(optimizer, params, 1)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"][1].pop("square")
    with pytest.raises(ValueError, match="checkpoint state of parameter 1 has entries mean, step") as caught:
        optimizer.load_state_dict(saved)
    assert "\n" not in str(caught.value)
    assert "square" in optimizer.state[params[1]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_is_computed_in_float32_and_rounded_once(dtype):
    params, exact = parameters(SHAPES, dtype=dtype), parameters(SHAPES, dtype=dtype)
    exact = [torch.nn.Parameter(p.detach().to(torch.float32)) for p in exact]
    optimizer, wide = DDCRescaling(params, lr=0.05), DDCRescaling(exact, lr=0.05)
    for param, other, grad in zip(params, exact, drawn(SHAPES, 1, dtype), strict=True):
        param.grad, other.grad = grad, grad.to(torch.float32)
    optimizer.step()
    wide.step()
    assert all(torch.equal(a, b.to(dtype)) for a, b in zip(values(params), values(exact), strict=True))
    assert all(optimizer.state[p]["mean"].dtype is torch.float32 for p in params)


def test_vectors_are_rows_biases_and_gains_included():
    gauge = "up: D(rows); bias: D(cols); down: D*(cols) where D = Scale+"
    shapes = ((4, 3), (4,), (3, 4))
    params = parameters(shapes)
    optimizer = DDCRescaling(params, lr=0.05, gauge=gauge)
    flat = parameters(shapes)
    as_matrix = [flat[0], torch.nn.Parameter(flat[1].detach()[:, None]), flat[2]]
    reference = DDCRescaling(as_matrix, lr=0.05, gauge=gauge.replace("bias: D(cols)", "bias: D(rows)"))
    for seed in (1, 2):
        step(optimizer, params, seed)
        for param, other in zip(params, as_matrix, strict=True):
            other.grad = param.grad.reshape(other.shape)
        reference.step()
    assert optimizer.state[params[1]]["mean"].shape == (4,)
    assert torch.allclose(params[1], as_matrix[1][:, 0], rtol=0, atol=1e-15)
    assert torch.equal(params[2], as_matrix[2])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_stack_of_experts_is_a_batch_of_blocks(name):
    hyper = {"gauge": GAUGES[name], **HYPER}
    stacks = parameters([(2, *shape) for shape in SHAPES])
    blocks = [[torch.nn.Parameter(stack.detach()[e].clone()) for stack in stacks] for e in range(2)]
    together, apart = OPTIMIZERS[name](stacks, **hyper), OPTIMIZERS[name]([*blocks[0], *blocks[1]], **hyper)
    for seed in (1, 2):
        step(together, stacks, seed)
        for e, block in enumerate(blocks):
            for param, stack in zip(block, stacks, strict=True):
                param.grad = stack.grad[e].clone()
        apart.step()
    for e, block in enumerate(blocks):
        for param, stack in zip(block, stacks, strict=True):
            assert torch.allclose(param, stack[e], rtol=0, atol=1e-15 * 20)


def test_an_idle_block_stands_still_and_half_a_block_is_refused():
    blocks = [parameters(SHAPES, 0), parameters(SHAPES, 1)]
    optimizer = DDCRescaling([*blocks[0], *blocks[1]], lr=0.1)
    before = values(blocks[1])
    step(optimizer, blocks[0], 1)
    assert all(torch.equal(a, b) for a, b in zip(values(blocks[1]), before, strict=True))
    assert not optimizer.state[blocks[1][0]]
    blocks[1][0].grad = torch.ones(SHAPES[0], dtype=torch.float64)
    moved = values(blocks[0])
    with pytest.raises(ValueError, match="in block 1 down has no gradient; train all of up, down or none") as caught:
        optimizer.step()
    assert "\n" not in str(caught.value)
    assert all(torch.equal(a, b) for a, b in zip(values(blocks[0]), moved, strict=True))


def test_schedulers_closures_and_maximize():
    params = parameters(SHAPES)
    optimizer = DDCRescaling(params, lr=0.1, maximize=True)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    other = parameters(SHAPES)
    reference = DDCRescaling(other, lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (params[0] @ params[1]).square().sum()
        loss.backward()
        return loss

    for rate in (0.1, 0.05):
        assert optimizer.param_groups[0]["lr"] == rate
        loss = optimizer.step(closure)
        assert loss > 0
        for param, twin in zip(params, other, strict=True):
            twin.grad = -param.grad
        reference.param_groups[0]["lr"] = rate
        reference.step()
        scheduler.step()
    assert all(torch.equal(a, b) for a, b in zip(values(params), values(other), strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DDCRescaling(parameters(((4, 3),)), lr=0.1), r"one block of 2 parameters \(up, down\) .*got 1"),
        (lambda: DDCRescaling(parameters(((4, 3), (3, 5))), lr=0.1), "size 4 on up rows but 5 on down cols"),
        (lambda: DDCRescaling(parameters(((4, 3), (3, 4))), lr=0.1, base="lion"), "base must be one of adam, muon"),
        (lambda: DDCRescaling(parameters(SHAPES), lr=0.1, nu=1), "unknown hyper-parameter nu in the arguments"),
        (
            lambda: DDCScale(parameters(((3,),)), lr=0.1, base="muon"),
            r"steps matrices .*got a parameter of shape \(3,\)",
        ),
        (
            lambda: DDCRotation(parameters(((5, 3), (3, 5))), lr=0.1, gauge=GAUGES["ddc_rotation"]),
            "2 heads do not divide an axis of size 5",
        ),
        (
            lambda: DDCRescaling([*parameters(SHAPES[:1]), *parameters(SHAPES[1:], dtype=torch.float32)], lr=0.1),
            "the parameters of a block have one dtype, got torch.float64, torch.float32",
        ),
    ],
)
def test_misuse_gets_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_refused_group_is_not_added():
    optimizer = DDCRescaling(parameters(SHAPES), lr=0.1)
    with pytest.raises(ValueError, match="got 1 parameters"):
        optimizer.add_param_group({"params": parameters(SHAPES[:1])})
    assert len(optimizer.param_groups) == 1


def test_a_hyper_parameter_set_to_nonsense_moves_nothing():
    params = parameters(SHAPES)
    optimizer = DDCRescaling([{"params": params}, {"params": parameters(SHAPES, 1)}], lr=0.1)
    optimizer.param_groups[1]["eps"] = -1.0
    before = values(params)
    with pytest.raises(ValueError, match="eps must be finite and >= 0"):
        step(optimizer, params, 1)
    assert all(torch.equal(a, b) for a, b in zip(values(params), before, strict=True))


def test_every_joint_rule_has_a_documented_front_end():
    assert {each.__name__ for each in OPTIMIZERS.values()} == {"DDCRescaling", "DDCRotation", "DDCScale"}
    for optimizer in OPTIMIZERS.values():
        assert "our construction from the published abstract of arXiv" in " ".join(optimizer.__doc__.split())
        assert optimizer.__name__ in optimizers.__all__
        assert optimizer.__module__ == "reference.joint.optimizers"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("base", ["adam", "muon"])
def test_cuda_agrees_with_the_cpu(name, base):
    here = parameters(SHAPES)
    there = [torch.nn.Parameter(p.detach().cuda()) for p in here]
    pair = [OPTIMIZERS[name](p, gauge=GAUGES[name], base=base, **HYPER) for p in (here, there)]
    for seed in (1, 2, 3):
        for a, b, grad in zip(here, there, drawn(SHAPES, seed), strict=True):
            a.grad, b.grad = grad, grad.cuda()
        for optimizer in pair:
            optimizer.step()
    # Rounding, times the slope of five Newton-Schulz steps at zero (485).
    for a, b in zip(here, there, strict=True):
        assert (a - b.cpu()).abs().max() <= 485 * 100 * torch.finfo(torch.float64).eps * a.abs().max()


def test_the_joint_blocks_of_the_default_gauges_exist():
    assert {"relu_scaling", "swiglu_scaling", "norm_scale", "value_output_rotation"} <= JOINT_BLOCKS.keys()
