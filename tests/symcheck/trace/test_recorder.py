"""A recorded run: what becomes a program, what leaks, and what is refused."""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing._internal.two_tensor import TwoTensor

from symcheck.probe.arithmetic import Arithmetic
from symcheck.probe.trajectory import CandidateError, Inputs, run
from symcheck.trace import Program, Trace, record
from symcheck.trace.bridge import check_bridge


@torch.jit.script
def as_list(x: torch.Tensor) -> float:
    entries: list[list[float]] = x.float().tolist()
    return entries[0][0]


class Labelled(torch.Tensor):
    """A tensor with functions of its own."""


Update = Callable[[Any, torch.Tensor, torch.Tensor], None]


def draw(shape: tuple[int, ...] = (4, 3), steps: int = 3, seed: int = 0) -> Inputs:
    rng = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(shape, generator=rng, dtype=torch.float64) for _ in range(steps + 1)]
    return Inputs((tensors[0],), tuple((grad,) for grad in tensors[1:]))


def candidate(make: Callable[[list[torch.nn.Parameter]], Any]) -> Any:
    return SimpleNamespace(target="test", make=make)


def rule(update: Update, setup: Callable[[Any, torch.Tensor], None] | None = None) -> Any:
    """A candidate that calls ``update(optimizer, weight, grad)`` without gradient tracking."""

    class Rule(torch.optim.Optimizer):
        def __init__(self, params: list[torch.nn.Parameter]) -> None:
            super().__init__(params, {})
            if setup is not None:
                with torch.no_grad():
                    setup(self, self.param_groups[0]["params"][0])

        @torch.no_grad()
        def step(self) -> None:
            for param in self.param_groups[0]["params"]:
                update(self, param, param.grad)

    return candidate(Rule)


def recorded(update: Update, setup: Any = None, inputs: Inputs | None = None) -> Trace:
    """The trace of a rule, which must have programs that the bridge confirms."""
    trace = record(rule(update, setup), inputs or draw())
    assert trace.unsupported is None, str(trace.unsupported)
    assert check_bridge(trace).failure is None
    return trace


def refused(update: Update, setup: Any = None) -> str:
    """Why a rule has no program."""
    trace = record(rule(update, setup), draw())
    assert trace.unsupported is not None
    return trace.unsupported.what


def ops(program: Program) -> list[str]:
    return [line.op for line in program.lines]


def terms(program: Program) -> dict[str, str]:
    """Every output as one expression: what programs that differ in the order of their lines have in common."""
    known: list[str] = []
    for line in program.lines:
        at = {key: value for key, value in line.attributes.items() if line.op != "number" or key != "nonneg"}
        known.append(f"{line.op}{sorted(at.items())}({', '.join(known[operand] for operand in line.operands)})")
    return {name: known[line] for name, line in program.outputs.items()}


# -- values that leave torch


def test_item_is_a_leak_and_no_baked_constant() -> None:
    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        p.sub_(g, alpha=1 / g.norm().item())

    (_, first, *_) = recorded(update).steps
    (leak,) = first.program.leaks
    assert first.program.lines[leak].rank == 0
    value = torch.tensor([step[0].norm() for step in draw().grads])[0]
    assert any(np.isclose(abs(constant), 1 / value) for constant in first.constants.values())


@pytest.mark.parametrize(
    "escape",
    [
        lambda g: g.tolist(),
        lambda g: np.asarray(g).sum(),
        lambda g: g.numpy(),
        lambda g: str(g),
        lambda g: g.untyped_storage(),
        lambda g: torch.from_dlpack(g),
        lambda g: np.from_dlpack(g),
        lambda g: torch.tensor([list(row) for row in g]),
        lambda g: torch.tensor(data=deque(list(row) for row in g)),
        lambda g: torch.Tensor([list(row) for row in g]),
        lambda g: torch.to_dlpack(g),
        lambda g: g.data_ptr(),
        lambda g: torch.stack([torch.tensor([float(entry) for entry in row]) for row in g]),
        lambda g: copy.copy(g),
    ],
)
def test_every_way_out_leaks_the_whole_value(escape: Callable[[torch.Tensor], Any]) -> None:
    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        escape(g)
        p.sub_(g)

    step = record(rule(update), draw(steps=1)).steps[1]
    grad = step.program.inputs["grad:0"]
    seen, waiting = set(), list(step.program.leaks)
    while waiting:
        seen.add(number := waiting.pop())
        waiting += step.program.lines[number].operands
    assert grad in seen


def test_hooks_of_backward_are_watched() -> None:
    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        with torch.enable_grad():
            x = g.detach().requires_grad_()
            x.register_hook(lambda grad: torch.tensor(grad.tolist(), dtype=grad.dtype))
            (x**2).sum().backward()
        p.sub_(x.grad)

    assert recorded(update).steps[1].program.leaks


def test_a_branch_leaks_what_it_depends_on() -> None:
    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        if (g > 0).all() or torch.equal(p, g):
            p.zero_()
        p.sub_(g)

    assert [len(step.program.leaks) for step in recorded(update).steps] == [0, 2, 2, 2]


def test_memory_known_outside_leaks_at_every_write() -> None:
    def setup(self: Any, p: torch.Tensor) -> None:
        self.buffer = torch.zeros_like(p)
        self.window = self.buffer.numpy()

    def update(self: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        self.buffer.add_(g)
        p.sub_(g)

    trace = recorded(update, setup)
    for step in trace.steps[1:]:
        kept = {step.program.inputs["state:buffer"], step.program.outputs["state:buffer"]}
        assert kept <= set(step.program.leaks)


def test_a_write_through_numpy_is_found_by_the_bridge() -> None:
    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        p.sub_(g)
        p.detach().numpy()[0, 0] += 1.0

    trace = record(rule(update), draw())
    assert trace.steps[1].program.leaks
    assert check_bridge(trace).failure is not None


def test_memory_shared_with_numpy_is_no_tensor_of_its_own() -> None:
    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        torch.from_numpy(p.detach().numpy()).sub_(g)

    assert "shared" in refused(update)


def test_arrays_of_numpy_are_constants_and_never_written() -> None:
    weights = np.arange(12.0).reshape(4, 3)

    def reads(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        p.sub_(g * torch.from_numpy(weights))

    def writes(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        torch.from_numpy(weights.copy()).mul_(g)

    assert "array" in ops(recorded(reads).steps[1].program)
    assert "shared" in refused(writes)


def test_memory_known_outside_before_the_recording_is_not_written() -> None:
    buffer = torch.zeros(4, 3, dtype=torch.float64)
    window = buffer.numpy()

    def update(self: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        buffer.add_(g)
        p.sub_(g, alpha=float(window[0, 0] > 0))

    assert "shared" in refused(update)


# -- state


def test_state_is_named_by_where_it_is_kept() -> None:
    def setup(self: Any, p: torch.Tensor) -> None:
        self.rate = torch.tensor(0.5)
        self.history = {"means": [torch.zeros(3, dtype=torch.float64)]}
        self.alias = self.history["means"][0].view(3, 1)
        self.weight = p.data

    def update(self: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        self.history["means"][0].lerp_(g.mean(0), 0.5)
        self.state[p]["last"] = g
        p.sub_(g - self.alias[:, 0], alpha=0.5)

    trace = recorded(update, setup)
    assert trace.steps[0].target == {"state:rate", "state:history.means[0]"}
    assert trace.steps[1].target == {"state:rate", "state:history.means[0]", "state:state[0].last"}
    assert trace.steps[2].program.digest == trace.steps[3].program.digest
    assert trace.steps[1].source == trace.steps[0].target


def test_state_in_a_closure_is_refused() -> None:
    kept: list[torch.Tensor] = []

    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        kept.append(g.clone())
        p.sub_(kept[-2] if len(kept) > 1 else g)

    assert "outside the optimizer" in refused(update)


def test_state_in_a_tensor_older_than_the_recording_is_refused() -> None:
    buffer = torch.zeros(4, 3, dtype=torch.float64)

    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        buffer.mul_(0.5).add_(g)
        p.sub_(buffer)

    assert "outside the optimizer" in refused(update)


def test_scratch_memory_outside_the_optimizer_is_fine() -> None:
    scratch = torch.zeros(4, 3, dtype=torch.float64)

    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        torch.mul(g, g, out=scratch)
        p.sub_(scratch)

    recorded(update)


def test_a_weight_moved_to_other_memory_is_followed() -> None:
    def update(self: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        self.state[p]["old"] = p.data
        p.data = p.data - g
        p.data[0].mul_(2.0)

    trace = recorded(update)
    last = trace.steps[-1].program
    assert last.outputs["state:state[0].old"] == last.inputs["weight:0"]


def test_a_deep_copy_keeps_its_value() -> None:
    def setup(self: Any, p: torch.Tensor) -> None:
        self.anchor = copy.deepcopy(p.data)

    def update(self: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        p.sub_(g).lerp_(self.anchor, 0.1)

    trace = recorded(update, setup)
    start = trace.steps[0].program
    assert start.outputs["state:anchor"] == start.inputs["weight:0"]
    assert not start.leaks


# -- memory


def test_memory_never_written_is_refused_when_it_matters() -> None:
    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        p.add_(torch.empty_like(p).mul_(0.0))

    def harmless(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        buffer = torch.empty_like(p)
        p.sub_(buffer.copy_(g))
        buffer.mul_(2.0)

    assert "nothing was written" in refused(update)
    recorded(harmless)


def test_overlapping_writes_are_refused() -> None:
    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        p.view(-1).as_strided((5, 2), (1, 1)).mul_(0.5)

    assert "overlap" in refused(update)


def test_in_place_operations_through_views() -> None:
    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        early, flat = p.t(), p.view(-1)
        p[1:3].sub_(g[1:3])
        early.mul_(2.0)
        flat[::2].add_(1.0)
        p.select(1, 2).copy_(early[0] + flat[0])
        p[:3].diagonal().add_(0.5)
        g.t_()
        p.t().sub_(g)

    recorded(update)


def test_a_transposed_write_is_only_a_transpose() -> None:
    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        p.t().sub_(g.t())

    program = recorded(update).steps[1].program
    assert set(ops(program)) <= {"input", "contract", "add", "number"}


def test_flat_buffers_hold_several_values() -> None:
    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        buffer = torch.empty(2 * p.numel(), dtype=p.dtype)
        buffer[: p.numel()] = g.flatten()
        buffer[p.numel() :] = p.flatten()
        p.sub_(buffer[: p.numel()].view_as(p))

    assert "along" not in ops(recorded(update).steps[1].program)


def test_an_operation_that_meets_its_own_writes_is_refused() -> None:
    def twice(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        torch._foreach_mul_([p, p], [g, g])

    def crossed(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        torch._foreach_add_([p, g], [g, p])

    for update in (twice, crossed):
        assert "overwrites memory" in refused(update)


# -- what ends a recording


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (lambda p, g: g.apply_(lambda entry: 2 * entry), "calls a Python function"),
        (lambda p, g: g[g > 0].sum(), "depends on values"),
        (lambda p, g: g.nonzero(), "depends on values"),
        (lambda p, g: torch.fft.fft(g).abs(), "fft"),
        (lambda p, g: g.to_sparse().to_dense(), ""),
        (lambda p, g: torch.view_as_complex(g[:, :2].contiguous()).conj(), ""),
        (lambda p, g: torch.special.i0(g), "i0"),
        (lambda p, g: g.view(torch.int64).add_(1), "read as"),
        (lambda p, g: as_list(g), "TorchScript"),
        (lambda p, g: g.as_subclass(Labelled) + 1, "class of tensors"),
        (lambda p, g: TwoTensor(g, g) + 1, "holds other tensors"),
    ],
)
def test_what_programs_cannot_say(operation: Callable[..., Any], reason: str) -> None:
    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        operation(p, g)
        p.sub_(g)

    trace = record(rule(update), draw())
    assert trace.unsupported is not None
    assert reason in trace.unsupported.what
    assert "test_recorder.py:" in trace.unsupported.where
    assert len(trace.steps) == 1


def test_the_first_reason_stays() -> None:
    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        torch.special.i0(g)
        torch.special.i1(g)

    assert "i0" in refused(update)


def test_threads_are_refused() -> None:
    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        thread = threading.Thread(target=lambda: p.data.sub_(g))
        thread.start()
        thread.join()

    assert "thread" in refused(update)


def test_an_exception_that_the_candidate_catches_is_a_decision() -> None:
    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        try:
            torch.linalg.cholesky(g[:3] - g[:3].mT)
        except torch.linalg.LinAlgError:
            p.sub_(g)

    assert "raised" in refused(update)


def test_a_candidate_that_raises_is_its_own_fault() -> None:
    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        raise RuntimeError("no")

    with pytest.raises(CandidateError, match="step 1"):
        record(rule(update), draw())


# -- programs


@pytest.mark.parametrize(("name", "settings"), [("SGD", {"lr": 0.1, "momentum": 0.9}), ("Adam", {"weight_decay": 0.1})])
def test_foreach_is_the_same_program(name: str, settings: dict[str, Any]) -> None:
    optimizer = getattr(torch.optim, name)
    traces = [
        record(candidate(lambda params, on=on: optimizer(params, foreach=on, **settings)), draw())
        for on in (False, True)
    ]
    for one, other in zip(traces[0].steps, traces[1].steps, strict=True):
        first, second = terms(one.program), terms(other.program)
        assert first.keys() == second.keys()
        assert all(first[key] == second[key] for key in first if not key.endswith(".step"))  # step + 1.0 * 1


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad"])
def test_fused_is_the_same_function(name: str) -> None:
    optimizer = getattr(torch.optim, name)
    outputs = []
    for fused in (False, True):
        trace = record(candidate(lambda params, on=fused: optimizer(params, fused=on)), draw())
        assert trace.unsupported is None, str(trace.unsupported)
        assert check_bridge(trace).failure is None
        outputs.append(trace.steps[-1].outputs)
    assert outputs[0].keys() == outputs[1].keys()


@pytest.mark.parametrize(
    "name", ["Muon", "RMSprop", "NAdam", "Adafactor", "Rprop", "ASGD", "RAdam", "Adadelta", "Adamax"]
)
def test_optimizers_of_torch(name: str) -> None:
    chosen = candidate(lambda params: getattr(torch.optim, name)(params))
    trace = record(chosen, draw(), arithmetic=Arithmetic(promote=True))
    assert trace.unsupported is None, str(trace.unsupported)
    assert check_bridge(trace).failure is None
    assert ("bfloat16" in trace.steps[1].casts) == (name == "Muon")
    assert any("torch/optim/" in line.where for line in trace.steps[1].program.lines)


def test_a_block_of_several_tensors() -> None:
    one, two = draw((4, 3)), draw((3, 1), seed=1)
    inputs = Inputs((*one.weights, *two.weights), tuple((*a, *b) for a, b in zip(one.grads, two.grads, strict=True)))
    trace = record(candidate(lambda params: torch.optim.Adam(params, foreach=True)), inputs)
    assert check_bridge(trace).failure is None
    last = trace.steps[-1]
    assert last.program.digest == trace.steps[-2].program.digest
    assert {"weight:1", "grad:1", "state:state[1].exp_avg"} <= set(last.program.inputs)
    assert last.inputs["weight:1"].shape == (3,)


def test_the_program_is_seen_above_the_arithmetic() -> None:
    chosen = candidate(lambda params: torch.optim.Muon(params))
    arithmetics = [Arithmetic(), Arithmetic(promote=True), Arithmetic(noise=1)]
    digests = {record(chosen, draw(), arithmetic=arithmetic).steps[-1].program.digest for arithmetic in arithmetics}
    assert len(digests) == 1


def test_recording_changes_nothing() -> None:
    chosen = candidate(lambda params: torch.optim.Adam(params))
    displacements = run(chosen, draw())
    trace = record(chosen, draw())
    for (moved,), step in zip(displacements, trace.steps[1:], strict=True):
        assert np.array_equal(moved.numpy(), step.outputs["weight:0"] - step.inputs["weight:0"])


def test_programs_carry_no_sizes() -> None:
    chosen = candidate(lambda params: torch.optim.Muon(params))
    digests = {record(chosen, draw(shape, steps=2)).steps[-1].program.digest for shape in ((4, 3), (9, 3), (9, 7))}
    assert len(digests) == 1


def test_a_split_axis_stays_split() -> None:
    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        heads = g.view(2, 3, 4)
        p.sub_((heads / heads.norm(dim=(1, 2), keepdim=True)).view(6, 4))

    trace = record(rule(update), draw((6, 4)), splits=(((2, 3), (4,)),))
    assert check_bridge(trace).failure is None
    step = trace.steps[1]
    assert step.inputs["weight:0"].shape == (2, 3, 4)
    assert "along" not in ops(step.program)
    with pytest.raises(ValueError, match="do not multiply"):
        record(rule(update), draw((6, 4)), splits=(((2, 2), (4,)),))


def test_random_numbers_are_recorded_as_drawn() -> None:
    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        p.sub_(g + torch.randn_like(p)).add_(torch.empty_like(p).normal_())

    step = recorded(update).steps[1]
    drawn = [number for number, line in enumerate(step.program.lines) if line.op == "random"]
    assert len(drawn) == 2
    assert all(step.constants[number].shape == (4, 3) for number in drawn)


def test_whether_a_factorisation_failed_is_known_and_where_is_not() -> None:
    """The number of the pivot depends on the order of the rows."""

    def asks(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        inverse, info = torch.linalg.inv_ex(torch.eye(4, dtype=g.dtype) + g @ g.mT)
        p.sub_(torch.where(info == 0, inverse @ g, g))

    def counts(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        p.sub_(g * (1 + torch.linalg.inv_ex(torch.eye(4, dtype=g.dtype) + g @ g.mT).info))

    recorded(asks)
    assert "pivot" in refused(counts)


def test_generators_that_only_go_forward_have_programs() -> None:
    def setup(optimizer: Any, _: torch.Tensor) -> None:
        optimizer.noise = torch.Generator().manual_seed(7)

    def update(optimizer: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        p.sub_(torch.randn(g.shape, generator=optimizer.noise, dtype=g.dtype) + torch.randn_like(g))

    lines = recorded(update, setup).steps[-1].program.lines
    assert [line.op for line in lines].count("random") == 2


def seeded(g: torch.Tensor) -> torch.Tensor:
    return torch.randn(g.shape, generator=torch.Generator().manual_seed(7), dtype=g.dtype)


def seeded_alike(g: torch.Tensor) -> torch.Tensor:
    first, second = (torch.Generator().manual_seed(seed) for seed in (7, 7 + 2**32))
    return torch.randn(g.shape, generator=first, dtype=g.dtype) * torch.randn(g.shape, generator=second, dtype=g.dtype)


def cloned(g: torch.Tensor) -> torch.Tensor:
    return torch.randn_like(g) * torch.randn(g.shape, generator=torch.default_generator.clone_state(), dtype=g.dtype)


def repeated(g: torch.Tensor) -> torch.Tensor:
    with torch.random.fork_rng():
        first = torch.randn_like(g)
    return first * torch.randn_like(g)


def made_of_data(g: torch.Tensor) -> torch.Tensor:
    state = torch.get_rng_state()
    state[24:32] = g[0, :1].clone().view(torch.uint8)
    torch.set_rng_state(state)
    return torch.randn_like(g)


@pytest.mark.parametrize("noise", [seeded, seeded_alike, cloned, repeated, made_of_data])
def test_random_numbers_that_are_not_new_have_no_program(noise: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Two equal draws are not independent, and what was drawn from data is not independent of it."""

    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        torch.rand(())
        p.sub_(noise(g))

    assert "random numbers" in refused(update)


def test_compiled_functions_are_recorded_uncompiled() -> None:
    compiled = torch.compile(lambda x: x * x)

    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        p.sub_(compiled(g))

    recorded(update)


def test_dead_lines_are_dropped_and_inputs_are_not() -> None:
    def update(_: Any, p: torch.Tensor, g: torch.Tensor) -> None:
        g.exp()

    program = recorded(update).steps[1].program
    assert ops(program) == ["input", "input"]
    assert program.outputs == {"weight:0": 0}
