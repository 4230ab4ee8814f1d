"""The torch front ends: every rule behaves as PyTorch users expect an optimizer to, and computes exactly its rule."""

import copy
import dataclasses
import inspect
import io
import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from reference import RULES, get_rule, optimizers
from reference.optimizers import OPTIMIZERS, from_rule
from reference.orthogonalizers import NewtonSchulz
from reference.rules import dion

EPS = torch.finfo(torch.float64).eps
SHAPE = (6, 4)
ANY_SHAPE = sorted(name for name, rule in RULES.items() if rule.min_ndim < 2)
MATRIX_ONLY = sorted(set(RULES) - set(ANY_SHAPE))
every_rule = pytest.mark.parametrize("name", sorted(RULES))


@pytest.fixture(autouse=True)
def one_draw(monkeypatch):
    """Random initial states depend on the shape alone, so that two runs can be compared."""

    def draw(shape, like):
        drawn = torch.randn(shape[-2:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return drawn.to(like.dtype).to(like.device).expand(shape).clone()

    monkeypatch.setattr(dion, "normal", draw)


def shape_for(name):
    """A matrix, or a stack of two for rules of expert stacks; square where eigenvectors must be unique."""
    shape = (SHAPE[0], SHAPE[0]) if "spectrum" in str(RULES[name]().side_conditions) else SHAPE
    return shape if RULES[name].min_ndim < 3 else (2, *shape)


def parameters(shape=SHAPE, count=3, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn((count, *shape), generator=generator, dtype=torch.float64).to(dtype)
    return [nn.Parameter(value.clone()) for value in values]


def gradients(params, step, seed=1):
    generator = torch.Generator().manual_seed(1000 * seed + step)
    return [torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype) for p in params]


def run(optimizer, params, steps, first=0):
    for step in range(first, first + steps):
        for parameter, grad in zip(params, gradients(params, step), strict=True):
            parameter.grad = grad
        optimizer.step()
    return [parameter.detach().clone() for parameter in params]


def same(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def rounding(steps, shape, scale):
    """What re-association may cost in ``steps`` steps: at most 64 matrix products a step, ``n`` roundings per entry,
    amplified by the largest slope of the iterations in use (485 at zero, five quintic Newton-Schulz steps).
    """
    return steps * 64 * max(shape) * 485 * EPS * scale


def test_importing_reference_does_not_import_torch():
    code = "import sys, reference; assert reference.RULES; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)


@every_rule
def test_front_end_is_named_and_documented_like_its_rule(name):
    optimizer = OPTIMIZERS[name]
    assert getattr(optimizers, optimizer.__name__) is optimizer
    assert optimizer.__name__ in optimizers.__all__
    assert RULES[name].source in optimizer.__doc__
    signature = inspect.signature(optimizer)
    assert list(signature.parameters)[:2] == ["params", "lr"]
    assert signature.parameters["lr"].default == get_rule(name).lr
    assert set(signature.parameters) - {"params", "maximize"} == {
        field.name for field in dataclasses.fields(RULES[name])
    }


@every_rule
def test_trajectory_is_the_rule_s_own(name):
    params = parameters(shape_for(name), count=1)
    weight = params[0].detach().clone()
    rule = get_rule(name, lr=0.1)
    state = rule.init(weight)
    for step in range(4):
        displacement, state = rule.update(gradients(params, step)[0], state, weight)
        weight = weight + displacement
    (found,) = run(OPTIMIZERS[name](params, lr=0.1), params, 4)
    assert (found - weight).abs().max() <= rounding(4, shape_for(name), weight.abs().max())
    assert not torch.equal(found, parameters(shape_for(name), count=1)[0])


@every_rule
def test_stacked_parameters_step_as_they_would_alone(name):
    together = parameters(shape_for(name))
    apart = parameters(shape_for(name))
    found = run(OPTIMIZERS[name](together, lr=0.1), together, 3)
    alone = OPTIMIZERS[name]([{"params": [parameter]} for parameter in apart], lr=0.1)
    for left, right in zip(found, run(alone, apart, 3), strict=True):
        assert (left - right).abs().max() <= rounding(3, shape_for(name), right.abs().max())


def assert_blocks_are_independent(factory, shape):
    """Bit for bit: the gradients of one parameter do not enter the displacement of another of the same shape."""
    results = []
    for other in (1.0, 1e6):
        params = parameters(shape)
        optimizer = factory(params)
        for step in range(3):
            for index, (parameter, grad) in enumerate(zip(params, gradients(params, step), strict=True)):
                parameter.grad = grad * other if index == 1 else grad
            optimizer.step()
        results.append([params[0].detach(), params[2].detach()])
    assert same(*results)


@every_rule
def test_a_block_does_not_feel_the_gradients_of_another(name):
    assert_blocks_are_independent(from_rule(get_rule(name, lr=0.1)), shape_for(name))


def test_the_independence_check_sees_a_coupled_rule():
    class Coupled(RULES["signsgd"]):
        def direction(self, grad, state):
            return grad / grad.norm(), state

    with pytest.raises(AssertionError):
        assert_blocks_are_independent(from_rule(Coupled(lr=0.1)), SHAPE)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_history_is_that_of_the_rules_one_by_one(data):
    """Groups, shapes, missing gradients, learning rates, checkpoints, copies: every parameter follows its own rule."""
    choices = st.sampled_from([name for name in sorted(RULES) if RULES[name].min_ndim < 3 and name != "scion"])
    groups, twins, names = [], [], []
    for _ in range(data.draw(st.integers(1, 2), label="groups")):
        name = data.draw(choices, label="rule")
        shapes = [(3, 4), (4, 3), (2, 3, 4)] + [(5,), ()] * (name in ANY_SHAPE)
        drawn = data.draw(st.lists(st.sampled_from(shapes), min_size=1, max_size=4), label="shapes")
        members = [parameters(shape, count=1, seed=seed)[0] for seed, shape in enumerate(drawn)]
        groups.append(members)
        names.append(name)
        twins.append([[parameter.detach().clone(), None] for parameter in members])
    stack = [OPTIMIZERS[name](members, lr=0.1) for name, members in zip(names, groups, strict=True)]
    for step in range(data.draw(st.integers(1, 4), label="steps")):
        lr = data.draw(st.sampled_from([0.0, 0.05, 0.1]), label="lr")
        for index, (name, optimizer) in enumerate(zip(names, stack, strict=True)):
            optimizer.param_groups[0]["lr"] = lr
            rule = get_rule(name, lr=lr)
            for parameter, twin in zip(groups[index], twins[index], strict=True):
                parameter.grad = None
                if data.draw(st.booleans(), label="has a gradient"):
                    (parameter.grad,) = gradients([parameter], step, seed=index + 1)
                    state = rule.init(twin[0]) if twin[1] is None else twin[1]
                    displacement, twin[1] = rule.update(parameter.grad, state, twin[0])
                    twin[0] = twin[0] + displacement
            optimizer.step()
            restore = data.draw(st.sampled_from(["nothing", "checkpoint", "copy"]), label="then")
            if restore == "checkpoint":
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            elif restore == "copy":
                stack[index], groups[index] = copy.deepcopy((optimizer, groups[index]))
    for members, others in zip(groups, twins, strict=True):
        for parameter, (weight, _) in zip(members, others, strict=True):
            scale = weight.abs().max().clamp(min=1)
            assert (parameter - weight).abs().max() <= rounding(4, (4, 4), scale)


@every_rule
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_checkpoint_continues_bit_for_bit(name, dtype):
    params = parameters(shape_for(name), dtype=dtype)
    optimizer = OPTIMIZERS[name](params, lr=0.1)
    run(optimizer, params, 2)
    buffer = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "params": [p.detach().clone() for p in params]}, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    expected = run(optimizer, params, 3, first=2)

    resumed = [nn.Parameter(value) for value in saved["params"]]
    other = OPTIMIZERS[name](resumed, lr=0.7)
    other.load_state_dict(saved["optimizer"])
    before = copy.deepcopy(saved["optimizer"]["state"])
    assert same(run(other, resumed, 3, first=2), expected)
    for index, entries in before.items():  # the checkpoint is copied, not adopted
        for key, value in entries.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(saved["optimizer"]["state"][index][key]))


@every_rule
@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))], ids=["copy", "pickle"]
)
def test_copies_continue_bit_for_bit(name, clone):
    params = parameters(shape_for(name))
    optimizer = OPTIMIZERS[name](params, lr=0.1)
    run(optimizer, params, 2)
    other, twins = clone((optimizer, params))
    assert other.param_groups[0]["params"][0] is twins[0]
    assert same(run(other, twins, 2, first=2), run(optimizer, params, 2, first=2))


def test_a_checkpoint_may_hold_an_orthogonalizer():
    method = NewtonSchulz(((2.0, -1.5, 0.5),) * 3, floor="clamp")
    optimizer = optimizers.Muon(parameters(), orthogonalizer=method)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    other = optimizers.Muon(parameters())
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert other.param_groups[0]["orthogonalizer"] == method


@every_rule
def test_gradients_are_neither_written_nor_kept(name):
    params = parameters(shape_for(name))
    optimizer = OPTIMIZERS[name](params, lr=0.1)
    run(optimizer, params, 2)
    grads = gradients(params, 2)
    for parameter, grad in zip(params, grads, strict=True):
        parameter.grad = grad.clone()
    optimizer.step()
    assert same([p.grad for p in params], grads)
    held = {p.grad.untyped_storage().data_ptr() for p in params} | {p.untyped_storage().data_ptr() for p in params}
    tensors = [value for p in params for value in optimizer.state[p].values() if isinstance(value, torch.Tensor)]
    assert held.isdisjoint(value.untyped_storage().data_ptr() for value in tensors)
    assert len({value.untyped_storage().data_ptr() for value in tensors}) == len(tensors)


@every_rule
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_computed_in_float32_and_rounded_once(name, dtype):
    params = parameters(shape_for(name), count=1, dtype=dtype)
    weight = params[0].detach().clone()
    rule = get_rule(name, lr=0.1)
    state = rule.init(weight.float()[None])
    optimizer = OPTIMIZERS[name](params, lr=0.1)
    for step in range(2):
        grad = gradients(params, step)[0]
        params[0].grad = grad
        optimizer.step()
        displacement, state = rule.update(grad.float()[None], state, weight.float()[None])
        weight = (weight.float() + displacement[0]).to(dtype)
        assert torch.equal(params[0], weight)
    floats = [value for value in optimizer.state[params[0]].values() if isinstance(value, torch.Tensor)]
    assert all(value.dtype == torch.float32 for value in floats)


@every_rule
def test_parameters_without_gradient_are_left_alone_and_start_later(name):
    params = parameters(shape_for(name), count=2)
    optimizer = OPTIMIZERS[name](params, lr=0.1)
    before = params[1].detach().clone()
    params[0].grad = gradients(params, 0)[0]
    optimizer.step()
    assert torch.equal(params[1], before)
    assert params[1] not in optimizer.state
    # Started one step later, the second parameter must follow the path of one that starts now.
    twin = nn.Parameter(before.clone())
    run(optimizer, params, 2, first=5)
    lone = OPTIMIZERS[name]([twin], lr=0.1)
    for step in (5, 6):
        twin.grad = gradients(params, step)[1]
        lone.step()
    assert (params[1] - twin).abs().max() <= rounding(2, shape_for(name), twin.abs().max())


@every_rule
def test_maximize_steps_along_the_negated_gradient(name):
    up, down = parameters(shape_for(name)), parameters(shape_for(name))
    ascent, descent = OPTIMIZERS[name](up, lr=0.1, maximize=True), OPTIMIZERS[name](down, lr=0.1)
    for step in range(2):
        for a, b, grad in zip(up, down, gradients(up, step), strict=True):
            a.grad, b.grad = grad, -grad
        ascent.step()
        descent.step()
    assert same(up, down)


@every_rule
def test_rules_of_a_matrix_refuse_other_shapes_and_the_others_step_them(name):
    for shape in ((5,), (), (4, 3, 2, 2)):
        param = parameters(shape=shape, count=2)
        if name in MATRIX_ONLY or (name == "scion" and len(shape) < 2):  # its default norm is spectral
            with pytest.raises(ValueError, match=rf"{name}.*{shape}".replace("(", r"\(").replace(")", r"\)")) as caught:
                OPTIMIZERS[name](param)
            assert "\n" not in str(caught.value)
        else:
            before = [p.detach().clone() for p in param]
            optimizer = OPTIMIZERS[name](param, lr=0.1)
            after = run(optimizer, param, 1)
            assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
            # Whatever has as many entries as the parameter has its shape, as torch's users expect.
            for value in optimizer.state[param[0]].values():
                if isinstance(value, torch.Tensor) and value.numel() == param[0].numel() > 1:
                    assert value.shape == shape


@pytest.mark.parametrize("name", ANY_SHAPE)
def test_a_vector_is_one_block(name):
    """Stacked vectors must not be taken for the rows of one matrix."""
    together, apart = parameters(shape=(5,), count=2), parameters(shape=(5,), count=2)
    hyper = {"norm": "bias_rms"} if name == "scion" else {}  # its default is a norm of matrices
    left = run(OPTIMIZERS[name](together, lr=0.1, **hyper), together, 2)
    right = run(OPTIMIZERS[name]([{"params": [p]} for p in apart], lr=0.1, **hyper), apart, 2)
    for a, b in zip(left, right, strict=True):
        assert (a - b).abs().max() <= rounding(2, (5,), b.abs().max())


def test_memory_layout_does_not_matter():
    generator = torch.Generator().manual_seed(3)
    value, grad = torch.randn((2, 4, 6), generator=generator, dtype=torch.float64)
    strided, dense = nn.Parameter(value.clone().T), nn.Parameter(value.clone().T.contiguous())
    for parameter in (strided, dense):
        parameter.grad = grad.clone().T
        optimizers.SGD([parameter], lr=0.1, momentum=0.9).step()
    assert not strided.is_contiguous()
    assert torch.equal(strided, dense)


def test_groups_have_their_own_hyper_parameters_and_can_be_added():
    params = parameters(count=3)
    optimizer = optimizers.RowNorm(
        [{"params": params[:1]}, {"params": params[1:2], "lr": 0.5, "center_rows": True}], lr=0.1
    )
    optimizer.add_param_group({"params": params[2:], "weight_decay": 0.25})
    twins = parameters(count=3)
    apart = [
        optimizers.RowNorm(twins[:1], lr=0.1),
        optimizers.RowNorm(twins[1:2], lr=0.5, center_rows=True),
        optimizers.RowNorm(twins[2:], lr=0.1, weight_decay=0.25),
    ]
    found = run(optimizer, params, 2)
    for step in range(2):
        for twin, grad in zip(twins, gradients(twins, step), strict=True):
            twin.grad = grad
        for each in apart:
            each.step()
    assert same(found, twins)


def test_a_refused_group_leaves_no_trace():
    params = parameters(count=1)
    optimizer = optimizers.RowNorm(params)
    for group in (
        {"params": [nn.Parameter(torch.zeros(3))]},
        {"params": parameters(count=1), "momentun": 0.9},
        {"params": parameters(count=1), "lr": -1.0},
    ):
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1, dtype=torch.float64), torch.tensor([0.1], dtype=torch.float64)])
def test_learning_rate_may_be_a_tensor_and_is_read_at_every_step(lr):
    params, twins = parameters(), parameters()
    optimizer, reference = optimizers.RowNorm(params, lr=lr), optimizers.RowNorm(twins, lr=0.1)
    assert same(run(optimizer, params, 1), run(reference, twins, 1))
    for each in (optimizer, reference):
        lr = each.param_groups[0]["lr"]
        if isinstance(lr, torch.Tensor):
            lr.fill_(0.3)
        else:
            each.param_groups[0]["lr"] = 0.3
    assert same(run(optimizer, params, 1, first=1), run(reference, twins, 1, first=1))


def test_schedulers_drive_lr_and_momentum():
    params = parameters()
    optimizer = optimizers.RowNorm(params, lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=10)
    seen = []
    for step in range(5):
        seen.append(
            (optimizer.rule_of(optimizer.param_groups[0]).lr, optimizer.rule_of(optimizer.param_groups[0]).momentum)
        )
        run(optimizer, params, 1, first=step)
        schedule.step()
    assert len(set(seen)) == 5
    other = optimizers.RowNorm(parameters(), lr=1.0)
    other.load_state_dict(optimizer.state_dict())  # the scheduler's own keys are no unknown hyper-parameters
    assert other.param_groups[0]["max_lr"] == 0.5


def test_an_invalid_value_set_later_stops_the_step_before_anything_moves():
    params = parameters(count=2)
    optimizer = optimizers.SGD([{"params": [parameter]} for parameter in params], lr=0.1)
    optimizer.param_groups[1]["lr"] = -1.0
    with pytest.raises(ValueError, match=r"^rule 'sgd': lr must be [^\n]*$"):
        run(optimizer, params, 1)
    assert same(params, parameters(count=2))


def test_momentum_may_be_scheduled_to_zero_and_back():
    params = parameters()
    optimizer = optimizers.SGD(params, lr=0.1, momentum=0.9)
    for step, momentum in enumerate((0.9, 0.0, 0.9)):
        optimizer.param_groups[0]["momentum"] = momentum
        run(optimizer, params, 1, first=step)
        optimizer.load_state_dict(optimizer.state_dict())
        assert bool(optimizer.state.get(params[0])) is (momentum > 0)


def test_closure_is_run_with_gradients_and_its_loss_returned():
    weight = nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    optimizer = optimizers.SGD([weight], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 4.0
    assert torch.equal(weight, torch.full((2, 2), 0.5, dtype=torch.float64))


def test_sparse_gradients_are_refused_before_anything_moves():
    dense, table = nn.Parameter(torch.ones(3, 2)), nn.Embedding(3, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    dense.grad = torch.ones_like(dense)
    optimizer = optimizers.SGD([dense, table.weight], lr=0.1)
    with pytest.raises(TypeError, match=r"^SGD needs dense gradients, got torch.sparse_coo .*\(3, 2\)[^\n]*$"):
        optimizer.step()
    assert torch.equal(dense, torch.ones(3, 2))


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.float8_e4m3fn])
def test_other_dtypes_are_refused(dtype):
    parameter = nn.Parameter(torch.zeros((2, 2), dtype=dtype), requires_grad=False)
    with pytest.raises(ValueError, match=rf"^rule 'sgd' .*{dtype}.*\(2, 2\)$"):
        optimizers.SGD([parameter])


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"lr": -0.1}, "lr must be"),
        ({"lr": float("nan")}, "lr must be"),
        ({"lr": torch.tensor([0.1, 0.2])}, "one element"),
        ({"weight_decay": -1.0}, "weight_decay must be"),
        ({"momentum": 1.5}, "momentum must"),
        ({"momentun": 0.9}, "unknown hyper-parameter momentun"),
    ],
)
def test_invalid_hyper_parameters_are_one_line_value_errors(hyper, message):
    with pytest.raises(ValueError, match=message) as caught:
        optimizers.RowNorm(parameters(), **hyper)
    assert "\n" not in str(caught.value)


def test_from_rule_makes_optimizers_of_a_rule_value():
    rule = get_rule("row_norm", lr=0.3, center_rows=True)
    factory = from_rule(rule)
    optimizer = factory(parameters())
    assert isinstance(optimizer, optimizers.RowNorm)
    assert optimizer.rule_of(optimizer.param_groups[0]) == rule
    assert factory(parameters(), lr=0.5).param_groups[0]["lr"] == 0.5


def test_from_rule_takes_rules_that_are_not_registered():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Halved(RULES["signsgd"]):
        """Half a step."""

        def direction(self, grad, state):
            direction, state = super().direction(grad, state)
            return direction / 2, state

    params = parameters(count=1)
    before = params[0].detach().clone()
    run(from_rule(Halved(lr=0.5))(params), params, 1)
    assert torch.allclose(
        (params[0] - before).abs(), torch.full(SHAPE, 0.25, dtype=torch.float64), rtol=0, atol=4 * EPS
    )


@pytest.mark.parametrize("revive", ["load", "unpickle"])
def test_groups_can_be_added_to_a_restored_optimizer(revive):
    optimizer = optimizers.RowNorm(parameters(), lr=0.1)
    if revive == "unpickle":
        optimizer = pickle.loads(pickle.dumps(optimizer))
    else:
        optimizer.load_state_dict(optimizer.state_dict())
    optimizer.add_param_group({"params": parameters(count=1)})
    assert optimizer.param_groups[0].keys() == optimizer.param_groups[1].keys()


@every_rule
def test_an_empty_parameter_has_nothing_to_step(name):
    empty, full = parameters((*shape_for(name)[:-1], 0), count=1), parameters(shape_for(name), count=1)
    optimizer = OPTIMIZERS[name](empty + full, lr=0.1)
    before = full[0].detach().clone()
    run(optimizer, empty + full, 2)  # the first step of SOAP moves nothing
    assert not torch.equal(full[0], before)
    optimizer.load_state_dict(optimizer.state_dict())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_rule
def test_parameters_on_two_devices_in_one_group(name):
    here, there = parameters(shape_for(name), count=1), parameters(shape_for(name), count=1)
    there = [nn.Parameter(there[0].detach().cuda())]
    optimizer = OPTIMIZERS[name](here + there, lr=0.1)
    for step in range(3):
        grad = gradients(here, step)[0]
        here[0].grad, there[0].grad = grad, grad.cuda()
        optimizer.step()
    assert (here[0] - there[0].cpu()).abs().max() <= rounding(3, shape_for(name), here[0].abs().max())
    assert all(value.is_cuda for value in optimizer.state[there[0]].values() if isinstance(value, torch.Tensor))


def test_unpickled_class_is_the_module_s():
    assert pickle.loads(pickle.dumps(optimizers.RowNorm)) is optimizers.RowNorm


def tamper_entry(saved):
    saved["state"][0]["surprise"] = torch.zeros(SHAPE)


def tamper_missing_entry(saved):
    del saved["state"][0]["momentum"]


def tamper_missing_parameter(saved):
    del saved["state"][1]


def tamper_unknown_parameter(saved):
    saved["state"][17] = saved["state"][0]


def tamper_shape(saved):
    saved["state"][0]["momentum"] = torch.zeros(2, 2)


def tamper_type(saved):
    saved["state"][0]["momentum"] = 0


def tamper_missing_hyper(saved):
    del saved["param_groups"][0]["momentum"]


def tamper_unknown_hyper(saved):
    saved["param_groups"][0]["nesterov"] = True


def tamper_invalid_hyper(saved):
    saved["param_groups"][0]["momentum"] = 7.0


def tamper_groups(saved):
    saved["param_groups"].append(saved["param_groups"][0])


def tamper_group_size(saved):
    saved["param_groups"][0]["params"].pop()


@pytest.mark.parametrize("tamper", [value for name, value in sorted(globals().items()) if name.startswith("tamper_")])
def test_a_checkpoint_with_missing_or_unknown_entries_is_refused_and_changes_nothing(tamper):
    params = parameters()
    optimizer = optimizers.RowNorm(params, lr=0.1)
    run(optimizer, params, 1)
    saved = copy.deepcopy(optimizer.state_dict())
    tamper(saved)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        optimizer.load_state_dict(saved)
    after = optimizer.state_dict()
    assert before["param_groups"] == after["param_groups"]
    assert all(torch.equal(before["state"][i]["momentum"], after["state"][i]["momentum"]) for i in range(3))
    optimizer.load_state_dict(before)  # the hooks of the failed attempt are gone


def test_user_hooks_see_the_checkpoint_first_and_the_result_last():
    params = parameters()
    optimizer = optimizers.RowNorm(params, lr=0.1)
    run(optimizer, params, 1)
    seen = []
    optimizer.register_load_state_dict_pre_hook(lambda _, saved: {**saved, "state": dict.fromkeys(range(3))})
    optimizer.register_load_state_dict_post_hook(lambda each: seen.append(len(each.state)))
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == [0]
