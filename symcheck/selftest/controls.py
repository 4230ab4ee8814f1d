"""Correct optimizers that are easy to accuse: a check that refutes one of them raises a false alarm.

Each one is equivariant in exact arithmetic and unkind in floating point: casts, cancellations next to a sign,
discontinuities, spectra without a gap, branches on invariants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from symcheck.selftest import implementations
from symcheck.selftest.optimizer import FromUpdate, State, Update, momentum, newton_schulz, polar, row_norm


@dataclass(frozen=True)
class Control:
    """A correct optimizer, and a property that it has."""

    name: str
    looks: str
    block: str
    property: str
    make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]
    action: str | None = None
    """Another action than the block's."""


CONTROLS: list[Control] = []


def _control(block: str, looks: str, *properties: str, action: str | None = None) -> Callable[[Update], Update]:
    """Register an update function as a control for one or several properties (equivariance if none is named)."""

    def register(update: Update) -> Update:
        name = update.__name__.strip("_")
        CONTROLS.extend(
            Control(name, looks, block, asked, lambda params: FromUpdate(params, update), action)
            for asked in properties or ("equivariance",)
        )
        return update

    return register


@_control("embedding", "nothing: the plain rule")
def row_norm_rule(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * row_norm(momentum(grad, state))


@_control("matrix", "an exact polar factor jumps where a singular value vanishes")
def exact_polar(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * polar(momentum(grad, state))


@_control("matrix", "bfloat16 inside Newton-Schulz: 1 % of rounding")
def newton_schulz_in_bfloat16(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    x = momentum(grad, state).bfloat16()
    return -0.1 * newton_schulz(x, x / (x.norm() + 1e-7)).to(grad.dtype)


@_control("matrix", "float32 inside Newton-Schulz")
def newton_schulz_in_float32(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    x = momentum(grad, state).float()
    return -0.1 * newton_schulz(x, x / (x.norm() + 1e-7)).to(grad.dtype)


@_control("matrix", "computed in numpy, where nothing can be followed")
def polar_in_numpy(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    import numpy as np

    left, values, right = np.linalg.svd(grad.numpy(), full_matrices=False)
    keep = values > max(grad.shape) * np.finfo(np.float64).eps * values.max(initial=0.0)
    return torch.from_numpy(-0.1 * (left * keep) @ right)


@_control("matrix", "computed in numpy, in float32")
def newton_schulz_in_numpy_float32(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    import numpy as np

    start = grad.numpy().astype(np.float32)
    x: np.ndarray[Any, np.dtype[np.float32]] = start / np.float32(np.linalg.norm(start) + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = np.float32(3.4445) * x + (np.float32(-4.7750) * gram + np.float32(2.0315) * gram @ gram) @ x
    return torch.from_numpy(-0.1 * x.astype(np.float64))


@_control("coordinate", "the sign of entries that cancel to zero (OLion, arXiv 2602.01105)")
def sign_of_newton_schulz(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * newton_schulz(grad, grad / (grad.norm() + 1e-7)).sign()


@_control("coordinate", "the sign of a momentum that cancels")
def sign_of_momentum(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * momentum(grad, state).sign()


@_control("coordinate", "the sign of centred entries")
def sign_of_centred(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * (grad - grad.mean(-2, keepdim=True)).sign()


@_control("matrix", "eigenvectors of a Gram with a null space, used per eigenspace (Shampoo, arXiv 1802.09568)")
def shampoo(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    state["left"] = state.get("left", 1e-4 * torch.eye(grad.shape[-2], dtype=grad.dtype)) + grad @ grad.mT
    state["right"] = state.get("right", 1e-4 * torch.eye(grad.shape[-1], dtype=grad.dtype)) + grad.mT @ grad
    return -0.1 * _root(state["left"]) @ grad @ _root(state["right"])


def _root(gram: torch.Tensor) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(gram)
    root: torch.Tensor = (vectors * values.pow(-0.25)) @ vectors.mT
    return root


@_control(
    "lm_head",
    "centring makes the Gram singular",
    "equivariance",
    "shift_equivariance",
    "shift_quotient",
    "shift_insensitivity",
    "horizontality",
)
def centred_row_norm(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    work = grad - grad.mean(-2, keepdim=True)
    update = row_norm(work)
    return -0.1 * (update - update.mean(-2, keepdim=True))


@_control("router", "decay moves the shared row, but not its quotient", "equivariance", "shift_quotient")
def decayed_polar(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * polar(grad) - 1e-2 * weight


@_control("matrix", "a trust ratio couples entries through invariant norms")
def trust_ratio(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * grad * weight.norm() / (grad.norm() + 1e-8)


@_control("matrix", "a branch on an invariant norm, and a warm-up")
def branches_on_the_norm(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    size = float(grad.norm())
    return -0.1 * min(1.0, state["step"] / 10) * (grad / size if size > 1.0 else grad)


@_control("embedding", "a mask by row norms jumps at ties")
def larger_half_of_the_rows(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    norms = torch.linalg.vector_norm(grad, dim=-1, keepdim=True)
    return -0.1 * grad * (norms >= norms.mean()).to(grad.dtype)


@_control("embedding", "rows without a gradient are left out")
def skips_idle_rows(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    busy = (grad != 0).any(-1, keepdim=True)
    return -0.1 * torch.where(busy, row_norm(momentum(grad, state)), torch.zeros_like(grad))


@_control("coordinate", "an entrywise running maximum")
def amsgrad(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    state["square"] = 0.99 * state.get("square", torch.zeros_like(grad)) + 0.01 * grad * grad
    state["max"] = torch.maximum(state["square"], state.get("max", torch.zeros_like(grad)))
    return -0.1 * grad / (state["max"].sqrt() + 1e-8)


@_control("matrix", "one random number for the whole matrix: equivariant for every seed")
def random_scale(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * torch.rand((), dtype=grad.dtype) * polar(grad)


@_control("matrix", "a QR factor with the signs fixed", action="O(rows)")
def orthonormal_columns(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    q, r = torch.linalg.qr(grad)
    return -0.1 * q * torch.diagonal(r).sign() if q.shape == grad.shape else -0.1 * grad / (grad.norm() + 1e-8)


@_control("attention_qkv", "one polar factor for each head")
def polar_of_heads(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * torch.cat([polar(head) for head in grad.chunk(2)])


@_control("experts", "one normalisation for all experts, through an invariant")
def experts_share_a_scale(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * row_norm(grad) * grad.norm()


@_control("matrix", "float32 from the tenth step on, where nobody looks for casts any more")
def casts_late(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    x = momentum(grad, state) if state["step"] < 10 else momentum(grad, state).float()
    return -0.1 * newton_schulz(x, x / (x.norm() + 1e-7)).to(grad.dtype)


@_control("matrix", "float32 for blocks of more than a hundred entries")
def casts_large_blocks(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    x = grad.float() if grad.numel() > 100 else grad
    return -0.1 * newton_schulz(x, x / (x.norm() + 1e-7)).to(grad.dtype)


@_control("matrix", "a norm in float32, a single number")
def norm_in_float32(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * grad / (grad.square().sum(dtype=torch.float32).sqrt() + 1e-8)


@_control("matrix", "a Python number that becomes float32 outside of torch")
def scale_in_numpy_float32(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    import numpy as np

    return -0.1 * grad * float(np.float32(1.0) / np.float32(grad.norm().item() + 1e-8))


@_control("matrix", "another thread, where nothing can be followed, and an amplified null space")
def computed_in_a_thread(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        x = grad / (grad.norm() + 1e-7)
        return -0.1 * pool.submit(newton_schulz, grad, x, 12).result()


@_control("embedding", "exact zeros of a Gram matrix, which no rotated matrix has")
def rows_orthogonal_to_all_others(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    gram = grad @ grad.mT
    apart = ((gram - torch.diag(gram.diagonal())) == 0).all(-1, keepdim=True)
    return -0.1 * row_norm(grad) * torch.where(apart, 0.5, 1.0).to(grad.dtype)


@_control("coordinate", "an indexed addition rounds when it reaches the weights")
def indexed_addition(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    rows = torch.arange(grad.shape[-2])
    moved = weight.detach().clone().index_put_((rows,), -1e-9 * grad, accumulate=True)
    return moved - weight


@_control("matrix", "a matrix exponential, which torch cuts off by the 1-norm of its argument")
def rotates_by_an_exponential(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    turn = grad @ weight.mT - weight @ grad.mT
    return torch.linalg.matrix_exp(-0.01 * turn) @ weight - weight


@_control("embedding", "random, but normal noise has no preferred basis: equivariant in distribution")
def adds_normal_noise(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * row_norm(grad + torch.randn_like(grad))


@_control("matrix", "momentum that restarts where it opposes the gradient: a jump where their product is zero")
def restarts(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    before = state.get("momentum", torch.zeros_like(grad))
    state["momentum"] = torch.where((before * grad).sum() < 0, 0.0, 0.9) * before + grad
    return -0.1 * state["momentum"]


@_control("matrix", "a jump in numpy, where symcheck can only jitter what goes in")
def restarts_in_numpy(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    before = state.get("momentum", torch.zeros_like(grad))
    opposed = float(np.vdot(before.numpy(), grad.numpy())) < 0
    state["momentum"] = grad + (0.0 if opposed else 0.9) * before
    return -0.1 * state["momentum"]


@_control("matrix", "a rate that follows the sign of a product of gradients")
def rate_by_a_sign(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    before = state.get("before", torch.zeros_like(grad))
    state["rate"] = state.get("rate", torch.ones((), dtype=grad.dtype)) * (1 + 0.2 * torch.sign((before * grad).sum()))
    state["before"] = grad.clone()
    return -0.1 * state["rate"] * grad


@_control("matrix", "a floor of a norm, which is an integer on small inputs")
def floor_of_a_norm(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * grad / (1 + torch.floor(grad.square().sum()))


class _PairedRows(torch.optim.Optimizer):
    """Normalises gate and up rows of a neuron together, and the down columns by themselves."""

    def __init__(self, params: list[torch.nn.Parameter]) -> None:
        super().__init__(params, {"lr": 0.1})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        gate, up, down = self.param_groups[0]["params"]
        norms = torch.linalg.vector_norm(torch.cat([gate.grad, up.grad], dim=-1), dim=-1, keepdim=True) + 1e-8
        for param, update in ((gate, gate.grad / norms), (up, up.grad / norms), (down, row_norm(down.grad.mT).mT)):
            param.sub_(0.1 * update)


CONTROLS.append(Control("paired_rows", "three tensors move together", "swiglu", "equivariance", _PairedRows))
CONTROLS += [
    Control(
        "counts_in_backward", "a hook on every gradient", "all", "gradient_split", implementations.CountsInBackward
    ),
    Control("flattens_convolutions", "a scale by shape", "all", "layout", implementations.FlattensConvolutions),
    Control(
        "heavy_row_norm",
        "its momentum is 20 times the rule's",
        "all",
        "state_conformance",
        implementations.HeavyRowNorm,
    ),
    Control(
        "gathering_newton_schulz",
        "every process computes all of it",
        "all",
        "shard_invariance",
        implementations.GatheringNewtonSchulz,
    ),
]
