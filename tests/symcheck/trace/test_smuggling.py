"""Ways for a candidate to decide by what it sees, which no run of ordinary gradients shows: a proof must know of each.

Every way asks whether the first entry of the gradient is huge, so both branches are never seen in one recording.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import _disable_current_modes

from symcheck.probe.trajectory import Inputs
from symcheck.trace import Trace, record

HUGE = 1e30
Way = Callable[[torch.Tensor], bool]


def huge(g: torch.Tensor) -> torch.Tensor:
    return (g[0, :1] > HUGE).long()


def raises(act: Callable[[torch.Tensor], Any]) -> Way:
    def way(g: torch.Tensor) -> bool:
        try:
            act(g)
        except (RuntimeError, IndexError, ValueError, AssertionError):
            return True
        return False

    return way


@torch.jit.script
def in_a_script(g: torch.Tensor) -> bool:
    return bool(g[0, 0] > 1e30)


def in_a_fork(g: torch.Tensor) -> bool:
    child = os.fork()
    if child == 0:
        os._exit(int(g[0, 0] > HUGE))
    return os.waitpid(child, 0)[1] != 0


def in_a_process(g: torch.Tensor) -> bool:
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(bool(g[0, 0] > HUGE)))
    child.start()
    child.join()
    return bool(queue.get())


def without_modes(g: torch.Tensor) -> bool:
    with _disable_current_modes():
        return bool(g[0, 0] > HUGE)


def without_dispatch(g: torch.Tensor) -> bool:
    with torch._C._DisableTorchDispatch():
        return bool(g[0, 0] > HUGE)


def without_functions(g: torch.Tensor) -> bool:
    with torch._C.DisableTorchFunction():
        return bool(g.numpy()[0, 0] > HUGE)


def unit(g: torch.Tensor) -> torch.Tensor:
    """The identity, or zero."""
    return torch.eye(2, dtype=g.dtype) * (1 - huge(g))


WAYS: dict[str, Way] = {
    "index": raises(lambda g: torch.zeros(3)[7 * huge(g)]),
    "gather": raises(lambda g: torch.zeros(3).gather(0, 7 * huge(g))),
    "index_select": raises(lambda g: torch.zeros(3).index_select(0, 7 * huge(g))),
    "index_put": raises(lambda g: torch.zeros(3).index_put_((7 * huge(g),), torch.ones(1))),
    "scatter": raises(lambda g: torch.zeros(3).scatter_(0, 7 * huge(g), 1.0)),
    "embedding": raises(lambda g: torch.nn.functional.embedding(7 * huge(g), torch.zeros(3, 2))),
    "integer division": raises(lambda g: torch.ones(1, dtype=torch.long) // (1 - huge(g))),
    "integer division in place": raises(lambda g: torch.ones(1, dtype=torch.long).floor_divide_(1 - huge(g))),
    "rounded division": raises(
        lambda g: torch.div(torch.ones(1, dtype=torch.long), 1 - huge(g), rounding_mode="trunc")
    ),
    "remainder": raises(lambda g: torch.ones(1, dtype=torch.long) % (1 - huge(g))),
    "fmod": raises(lambda g: torch.fmod(torch.ones(1, dtype=torch.long), 1 - huge(g))),
    "probability": raises(lambda g: torch.bernoulli(2.0 * huge(g))),
    "multinomial": raises(lambda g: torch.multinomial(1.0 - 2 * huge(g), 1)),
    "deviation": raises(lambda g: torch.normal(torch.zeros(1), 1.0 - 2 * huge(g))),
    "cholesky": raises(lambda g: torch.linalg.cholesky(unit(g))),
    "inverse": raises(lambda g: torch.linalg.inv(unit(g))),
    "solve": raises(lambda g: torch.linalg.solve(unit(g), torch.ones(2, dtype=g.dtype))),
    "assertion": raises(lambda g: torch._assert_async(g[0, 0] < HUGE)),
    "validation": raises(lambda g: torch.distributions.Normal(torch.zeros(1), 1.0 - 2 * huge(g), validate_args=True)),
    "comparison": raises(lambda g: torch.testing.assert_close(g, g.clamp(max=HUGE))),
    "list index": lambda g: [False, True][huge(g)],
    "membership": lambda g: 2 * HUGE in g,
    "shape": lambda g: torch.arange(huge(g).squeeze()).numel() > 0,
    "nonzero": lambda g: len(huge(g).nonzero()) > 0,
    "printing": lambda g: "e+30" in repr(g),
    "numpy": lambda g: bool(np.asarray(g).max() > HUGE),
    "callback": lambda g: g[0, :1].clone().apply_(lambda x: float(x > HUGE)).sum() > 0.5,  # type: ignore[arg-type]
    "bits": lambda g: bool((g.view(torch.int64)[0, 0] > 1120 << 52).item()),
    "script": in_a_script,
    "fork of a script": lambda g: torch.jit.wait(torch.jit.fork(lambda x: bool(x[0, 0] > HUGE), g)),  # type: ignore[no-untyped-call]
    "fork": in_a_fork,
    "process": in_a_process,
    "no modes": without_modes,
    "no dispatch": without_dispatch,
    "no functions": without_functions,
}


def trace(decide: Way) -> Trace:
    class Rule(torch.optim.Optimizer):
        @torch.no_grad()
        def step(self) -> None:  # type: ignore[override]
            for param in self.param_groups[0]["params"]:
                param.sub_(param.grad.sign() if decide(param.grad) else param.grad)

    rng = torch.Generator().manual_seed(0)
    weight, *grads = (torch.randn(4, 3, generator=rng, dtype=torch.float64) for _ in range(3))
    made: Any = SimpleNamespace(target="test", make=lambda params: Rule(params, {}))
    return record(made, Inputs((weight,), tuple((grad,) for grad in grads)))


def sees(found: Trace) -> bool:
    """Whether what leaves the program depends on the gradient, or there is no program."""
    if found.unsupported is not None:
        return True
    program = found.steps[-1].program
    seen, waiting = set(), list(program.leaks)
    while waiting:
        seen.add(line := waiting.pop())
        waiting += program.lines[line].operands
    return program.inputs["grad:0"] in seen


@pytest.mark.parametrize("name", WAYS)
def test_it_decides(name: str) -> None:
    """The ways are real: they tell a huge gradient from an ordinary one."""
    gradient = torch.ones(4, 3, dtype=torch.float64)
    assert not WAYS[name](gradient)
    gradient[0] = 2 * HUGE
    assert WAYS[name](gradient)


@pytest.mark.parametrize("name", WAYS)
def test_no_decision_goes_unseen(name: str) -> None:
    assert sees(trace(WAYS[name]))


def test_what_decides_by_nothing_is_not_seen() -> None:
    found = trace(lambda g: g.shape[0] > 100)
    assert found.unsupported is None
    assert not sees(found)
