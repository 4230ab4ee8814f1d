"""The fast front ends compute the rules of the reference ones; what differs is precision, copies and memory."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reference import RULES, Rule, build_stack, get_rule
from reference.conditioning import magnification
from reference.fast import optimizers as fast
from reference.fast import step
from reference.fast.bounds import polar_error_bound
from reference.fast.execution import Execution
from reference.fast.optimizers import FastLayerwiseOptimizer
from reference.fast.polar import FastNewtonSchulz
from reference.optimizers import OPTIMIZERS as REFERENCE
from reference.optimizers import RuleOptimizer, hyper_parameters
from reference.orthogonalizers import ORTHOGONALIZERS, NewtonSchulz, get_orthogonalizer
from reference.rules.muon import shape_scale
from reference.variants import VARIANTS

STEPS = 3
DOUBLE = 2.0**-53
SINGLE = 2.0**-24

every_rule = pytest.mark.parametrize("rule", [get_rule(name) for name in RULES], ids=RULES.keys())
every_variant = pytest.mark.parametrize("rule", VARIANTS.values(), ids=VARIANTS.keys())


def shape_for(rule: Rule) -> tuple[int, ...]:
    return (3, 6, 4) if rule.min_ndim == 3 else (6, 4)


def data(shape: tuple[int, ...], seed: int) -> list[Tensor]:
    """Values near one matrix with singular values in [1, 2], as a momentum sees them."""
    base = torch.randn(shape, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    u, _, vt = torch.linalg.svd(base, full_matrices=False)
    base = (u * torch.linspace(1, 2, u.shape[-1], dtype=torch.float64)) @ vt
    rng = torch.Generator().manual_seed(seed)
    return [base + 0.05 * torch.randn(shape, generator=rng, dtype=torch.float64) for _ in range(3)]


def parameters(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    return [nn.Parameter(value.to(dtype)) for value in data(shape, 0)]


def take_steps(optimizer: torch.optim.Optimizer, params: Sequence[nn.Parameter], steps: range = range(STEPS)) -> None:
    torch.manual_seed(0)  # some states start at random
    for index in steps:
        for parameter, grad in zip(params, data(tuple(params[0].shape), 1 + index), strict=True):
            parameter.grad = grad.to(parameter.dtype)
        optimizer.step()


def make(rule: Rule, params: Sequence[nn.Parameter], **options: Any) -> RuleOptimizer:
    """The front end of a rule; a fast one if a precision is named."""
    kinds: Any = fast.OPTIMIZERS if options else REFERENCE
    return kinds[rule.name](params, **options, **hyper_parameters(rule))


def largest_difference(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    worst = max(
        float((a.detach().double() - b.detach().double()).abs().max()) for a, b in zip(left, right, strict=True)
    )
    return math.inf if math.isnan(worst) else worst


def allowed(rule: Rule, unit: float) -> float:
    """A backward error of a few ``(m + n) unit`` per step and operand, magnified by the iteration, on displacements of
    at most ``lr`` times the direction; entries and directions here are below 16.
    """
    return 16 * 8 * STEPS * sum(shape_for(rule)) * unit * magnification(rule)


# The same formula --------------------------------------------------------------------------------------------------


@every_variant
def test_computes_its_reference_in_float64(rule: Rule) -> None:
    plain, quick = parameters(shape_for(rule)), parameters(shape_for(rule))
    reference, candidate = make(rule, plain), make(rule, quick, precision="float64")
    take_steps(reference, plain)
    take_steps(candidate, quick)
    assert largest_difference(plain, quick) <= allowed(rule, DOUBLE)
    assert largest_difference(plain, data(shape_for(rule), 0)) > allowed(rule, DOUBLE) or not rule.lr, "nothing moved"
    for a, b in zip(plain, quick, strict=True):
        expected, got = reference.state[a], candidate.state[b]
        assert expected.keys() == got.keys()
        for key, value in expected.items():
            if isinstance(value, Tensor):
                assert got[key].shape == value.shape
                assert got[key].dtype == value.dtype
                assert largest_difference([got[key]], [value]) <= allowed(rule, DOUBLE) * max(1, value.abs().max())
            else:
                assert got[key] == value


@pytest.mark.parametrize("name", sorted(RULES))
def test_vectors_and_convolutions_go_the_same_way(name: str) -> None:
    for shape in ((7,), (4, 2, 3, 3), ()):
        plain, quick = parameters_of(shape), parameters_of(shape)
        try:
            reference = make(get_rule(name), plain)
        except ValueError:
            with pytest.raises(ValueError, match=name):
                make(get_rule(name), quick, precision="float64")
            continue
        candidate = make(get_rule(name), quick, precision="float64")
        for optimizer, params in ((reference, plain), (candidate, quick)):
            for parameter in params:
                parameter.grad = parameter.detach() + 0.5
            optimizer.step()
            optimizer.step()
        assert largest_difference(plain, quick) <= allowed(get_rule(name), DOUBLE)


def parameters_of(shape: tuple[int, ...]) -> list[nn.Parameter]:
    rng = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=rng, dtype=torch.float64)) for _ in range(2)]


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("name", ["muon", "muon_moonlight", "muon_torch", "muon_heads", "scion", "polargrad", "ssd"])
def test_low_precision_stays_within_the_bound_of_the_polar_factor(name: str, precision: str) -> None:
    """First step: momentum and look-ahead are a multiple of the gradient, so the only low precision is the polar's.

    In PolarGrad and SSD the factor is multiplied by ``<m, factor>``, an error of at most ``|m|`` times the polar's.
    """
    options = {"orthogonalizer": "polar_express"} if name in ("polargrad", "ssd") else {}
    options |= {"constrained": False} if name == "scion" else {}
    rule = get_rule(name, lr=1.0, weight_decay=0.0, **options)
    params = [nn.Parameter(torch.zeros(6, 4)) for _ in range(3)]
    grads = [grad.float() for grad in data((6, 4), 5)]
    expected = [rule.update(grad.double(), rule.init(grad.double()), grad.double())[0] for grad in grads]
    for parameter, grad in zip(params, grads, strict=True):
        parameter.grad = grad.clone()
    make(rule, params, precision=precision).step()
    method = FastNewtonSchulz.of(get_orthogonalizer(rule.orthogonalizer), precision)
    for parameter, grad, exact in zip(params, grads, expected, strict=True):
        bound = polar_error_bound(method, grad)
        size = float(grad.norm())
        factor = {"polargrad": (2 * size) * 0.05, "ssd": 2 * size, "scion": math.sqrt(6 / 4)}.get(name)
        factor = shape_scale(getattr(rule, "adjust_lr", "original"), 6, 4) if factor is None else factor
        # The eps of the normalisation acts on the momentum, a multiple of the gradient: a relative change of eps / |m|.
        slack = 1e-6 / (0.05 * size) * float(exact.norm())
        difference = float((parameter.detach().double() - exact).norm())
        assert difference <= factor * bound * (float(exact.norm()) + 1) + slack
        assert difference > 0


@pytest.mark.parametrize("backend", ["gram_newton_schulz", ORTHOGONALIZERS["polar_express"]])
@pytest.mark.parametrize("name", ["right_spectral", "left_spectral", "hybrid"])
def test_spectral_backends_get_the_precision_too(name: str, backend: Any) -> None:
    rule = Execution("bfloat16").apply(get_rule(name, backend=backend))
    assert isinstance(rule.backend, FastNewtonSchulz)
    assert rule.backend.precision == "bfloat16"


def test_exact_and_coupled_methods_stay() -> None:
    for rule in (get_rule("polargrad"), get_rule("right_spectral"), get_rule("hybrid", backend="polar_express")):
        assert Execution("bfloat16").apply(rule) is rule


@every_variant
def test_execution_changes_the_precision_and_nothing_else(rule: Rule) -> None:
    applied = Execution("bfloat16").apply(rule)
    assert type(applied) is type(rule)
    assert applied.symmetry == rule.symmetry
    assert applied.traits == rule.traits
    before, after = hyper_parameters(rule), hyper_parameters(applied)
    for key, value in before.items():
        if isinstance(after[key], FastNewtonSchulz):
            method = get_orthogonalizer(value)
            assert isinstance(method, NewtonSchulz)
            assert after[key] == FastNewtonSchulz.of(method, "bfloat16")
        else:
            assert after[key] == value


# What a step leaves alone ------------------------------------------------------------------------------------------


@every_variant
def test_gradients_are_left_alone_and_no_state_aliases_them(rule: Rule) -> None:
    params = parameters(shape_for(rule), torch.float32)
    optimizer = make(rule, params, precision="bfloat16")
    for index in range(2):
        grads = [grad.float() for grad in data(shape_for(rule), 1 + index)]
        for parameter, grad in zip(params, grads, strict=True):
            parameter.grad = grad.clone()
        versions = [parameter.grad._version for parameter in params]
        optimizer.step()
        assert [parameter.grad._version for parameter in params] == versions
        assert all(torch.equal(parameter.grad, grad) for parameter, grad in zip(params, grads, strict=True))
        taken = {storage(parameter.grad) for parameter in params} | {storage(parameter) for parameter in params}
        for parameter in params:
            states = [value for value in optimizer.state[parameter].values() if isinstance(value, Tensor)]
            assert not taken & {storage(value) for value in states}


def storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@every_rule
def test_a_skipped_parameter_keeps_its_weight_and_state(rule: Rule) -> None:
    """States lie in stacks; stepping some of their blocks must not touch the others."""
    params = parameters(shape_for(rule))
    optimizer = make(rule, params, precision="float64")
    take_steps(optimizer, params, range(2))
    params[1].grad = None
    weight, state = params[1].detach().clone(), copy.deepcopy(optimizer.state[params[1]])
    optimizer.step()
    assert torch.equal(params[1], weight)
    for key, value in state.items():
        assert torch.equal(torch.as_tensor(optimizer.state[params[1]][key]), torch.as_tensor(value))


def test_states_are_read_in_place_and_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    original = step._in_a_row
    monkeypatch.setattr(step, "_in_a_row", lambda tensors: seen.append(original(tensors)) or seen[-1])
    params = parameters((6, 4))
    optimizer = make(get_rule("muon"), params, precision="float64")
    take_steps(optimizer, params, range(1))
    seen.clear()
    take_steps(optimizer, params, range(1))
    assert seen == [False, True]  # gradients are copied into a stack, momenta are one
    for index in range(6):  # different parts of the stack move
        params[index % 3].grad = None
        optimizer.step()
        params[index % 3].grad = torch.ones_like(params[0])
    held = {storage(optimizer.state[parameter]["momentum"]) for parameter in params}
    size = sum(optimizer.state[parameter]["momentum"].untyped_storage().nbytes() for parameter in params) / 3
    assert len(held) == 1
    assert size == 3 * 6 * 4 * 8


# Options -----------------------------------------------------------------------------------------------------------


@every_rule
def test_the_size_of_stacks_does_not_matter(rule: Rule) -> None:
    together, apart = parameters(shape_for(rule)), parameters(shape_for(rule))
    take_steps(make(rule, together, precision="float64"), together)
    take_steps(make(rule, apart, precision=Execution("float64", stack_bytes=1)), apart)
    assert largest_difference(together, apart) <= allowed(rule, DOUBLE)


@pytest.mark.parametrize(
    ("name", "shape"), [("adamw", (40, 6)), ("adamw", (40,)), ("lion", (40,)), ("row_norm", (40, 6))]
)
def test_pieces_of_a_parameter_are_the_whole_to_the_last_bit(name: str, shape: tuple[int, ...]) -> None:
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole, cut = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    rule = get_rule(name, weight_decay=0.1)
    assert len(list(step.pieces(cut, {}, 17))) > 2
    states = []
    for parameter, size in ((whole, 2**20), (cut, 17 * 8)):
        optimizer = make(rule, [parameter], precision=Execution("float64", stack_bytes=size))
        for index in range(STEPS):
            parameter.grad = start.roll(index + 1, 0)
            optimizer.step()
        states.append(dict(optimizer.state[parameter]))
    assert torch.equal(whole, cut)
    for key, value in states[0].items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(states[1][key]))


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.parametrize(
    "rule", [get_rule("muon_heads", heads=2), get_rule("hybrid", order="row_then_polar", backend="gram_newton_schulz")]
)
def test_directions_compile_to_one_graph(rule: Rule) -> None:
    """Momentum, norms, scales and polar factor: nothing in a direction depends on data."""
    applied = Execution("float32").apply(rule)
    grad = torch.stack(data((6, 4), 0)).float()
    state = applied.init(grad)
    compiled = torch.compile(applied.direction, backend="eager", fullgraph=True)
    for got, expected in zip(compiled(grad, state), applied.direction(grad, state), strict=True):
        got, expected = (each["momentum"] if isinstance(each, dict) else each for each in (got, expected))
        assert torch.equal(got, expected)


def test_stacks_are_no_larger_than_asked() -> None:
    params = [nn.Parameter(torch.zeros(4, 2)) for _ in range(5)]
    optimizer = make(get_rule("muon"), params, precision=Execution("float32", stack_bytes=2 * 32 + 31))
    assert [len(stack) for stack in optimizer._stacks(get_rule("muon"), params)] == [2, 2, 1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_state_has_the_dtype_of_the_parameter(dtype: torch.dtype) -> None:
    wide, narrow = parameters((6, 4), dtype), parameters((6, 4), dtype)
    rule = get_rule("signum", lr=1.0)
    reference = make(rule, wide, precision="float32")
    candidate = make(rule, narrow, precision=Execution("float32", low_precision_state=True))
    take_steps(reference, wide)
    take_steps(candidate, narrow)
    unit = torch.finfo(dtype).eps / 2
    for a, b in zip(wide, narrow, strict=True):
        assert reference.state[a]["momentum"].dtype == torch.float32
        assert candidate.state[b]["momentum"].dtype == dtype
        # One rounding a step of numbers below four, of which the average keeps nine tenths.
        assert (
            largest_difference([reference.state[a]["momentum"]], [candidate.state[b]["momentum"]]) <= 4 * STEPS * unit
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["muon", "adamw", "row_norm", "sgd"])
def test_half_precision_parameters_are_rounded_once(dtype: torch.dtype, name: str) -> None:
    rule = get_rule(name, weight_decay=0.1)
    params, exact = parameters((6, 4), dtype), parameters((6, 4), dtype)
    start = [parameter.detach().clone() for parameter in params]
    take_steps(make(rule, params, precision="float32"), params, range(1))
    take_steps(make(rule, exact), exact, range(1))
    unit = torch.finfo(dtype).eps
    for got, expected, before in zip(params, exact, start, strict=True):
        # Two roundings of neighbouring float32 numbers differ by at most one place.
        assert ((got - expected).abs().double() <= unit * before.abs().double().clamp(min=1.0)).all()


# Checkpoints, copies, the layerwise optimizer ----------------------------------------------------------------------


@every_rule
def test_checkpoints_are_those_of_the_reference(rule: Rule) -> None:
    plain, quick = parameters(shape_for(rule)), parameters(shape_for(rule))
    reference, candidate = make(rule, plain), make(rule, quick, precision="float64")
    take_steps(reference, plain)
    with torch.no_grad():
        for source, target in zip(plain, quick, strict=True):
            target.copy_(source)
    candidate.load_state_dict(reference.state_dict())
    take_steps(reference, plain, range(STEPS, STEPS + 1))
    take_steps(candidate, quick, range(STEPS, STEPS + 1))
    assert largest_difference(plain, quick) <= allowed(rule, DOUBLE)


@every_rule
def test_resuming_gives_the_same_bits(rule: Rule) -> None:
    whole, resumed = parameters(shape_for(rule), torch.float32), parameters(shape_for(rule), torch.float32)
    uninterrupted, first = make(rule, whole, precision="bfloat16"), make(rule, resumed, precision="bfloat16")
    take_steps(uninterrupted, whole)
    take_steps(first, resumed)
    second = make(rule, resumed, precision="bfloat16")
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for optimizer, params in ((uninterrupted, whole), (second, resumed)):
        take_steps(optimizer, params, range(STEPS, STEPS + 2))
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))


def test_copies_keep_the_execution() -> None:
    params = parameters((6, 4))
    optimizer = make(get_rule("muon"), params, precision=Execution("float32", low_precision_state=True))
    take_steps(optimizer, params)
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert other.execution == optimizer.execution
        twins = other.param_groups[0]["params"]
        take_steps(other, twins, range(STEPS, STEPS + 1))
    take_steps(optimizer, params, range(STEPS, STEPS + 1))
    assert all(torch.equal(a, b) for a, b in zip(params, twins, strict=True))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.lm_head = nn.Linear(8, 11, bias=False)


def test_build_stack_with_a_precision_is_the_layerwise_optimizer() -> None:
    torch.manual_seed(0)
    plain, quick = Model().double(), Model().double()
    quick.load_state_dict(plain.state_dict())
    reference, candidate = build_stack(plain), build_stack(quick, precision="float64")
    assert isinstance(candidate, FastLayerwiseOptimizer)
    assert candidate.table() == reference.table()
    before = [parameter.detach().clone() for parameter in plain.parameters()]
    for index in range(STEPS):
        for a, b in zip(plain.parameters(), quick.parameters(), strict=True):
            a.grad = torch.randn(a.shape, generator=torch.Generator().manual_seed(index), dtype=a.dtype)
            b.grad = a.grad.clone()
        reference.step()
        candidate.step()
    moved, got = list(plain.parameters()), list(quick.parameters())
    # lr is below 1e-3, and an orthogonalised 8 x 8 matrix has entries below 2.
    bound = max(allowed(group_rule, DOUBLE) for group_rule in map(reference.rule_of, reference.param_groups))
    assert largest_difference(moved, got) <= bound
    assert largest_difference(moved, before) > bound
    assert build_stack(plain, precision=Execution("float32")).execution == Execution("float32")


def test_wrong_options_are_refused() -> None:
    params = parameters((6, 4))
    with pytest.raises(ValueError, match="unknown precision 'half'; known: bfloat16"):
        fast.Muon(params, precision="half")
    with pytest.raises(ValueError, match="stack_bytes must be positive, got 0"):
        Execution(stack_bytes=0)
    with pytest.raises(ValueError, match="unknown hyper-parameter speed"):
        fast.Muon(params, speed=3)
