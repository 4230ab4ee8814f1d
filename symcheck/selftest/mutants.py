"""Broken optimizers, each of which a check must catch: how rules hide their defects, and defects that were published.

A mutant names the block and property on which it must be refuted (or found vacuous) and the reason it passes ordinary
tests: it is wrong by too little, too late, or only where nobody looks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from symcheck.result import Verdict
from symcheck.selftest import implementations
from symcheck.selftest.optimizer import FromUpdate, State, Update, momentum, newton_schulz, polar, row_norm


@dataclass(frozen=True)
class Mutant:
    """A broken optimizer, and the question that must expose it."""

    name: str
    hides: str
    block: str
    property: str
    make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]
    expected: Verdict = Verdict.REFUTED
    degree: int | None = None
    """Claimed homogeneity degree, for ``scale_orbit``."""


MUTANTS: list[Mutant] = []


def _mutant(
    block: str, property: str, hides: str, *, expected: Verdict = Verdict.REFUTED, degree: int | None = None
) -> Callable[[Update], Update]:
    """Register an update function as a mutant named after itself."""

    def register(update: Update) -> Update:
        MUTANTS.append(
            Mutant(
                update.__name__.strip("_"),
                hides,
                block,
                property,
                lambda params: FromUpdate(params, update),
                expected,
                degree,
            )
        )
        return update

    return register


# -- too little ------------------------------------------------------------------------------------------------------


@_mutant("embedding", "equivariance", "3e-6 of a sign: passes 1e-5 tolerances (Emerging-Optimizers' tests)")
def row_norm_plus_sign(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * (row_norm(grad) + 3e-6 * grad.sign())


@_mutant("embedding", "equivariance", "1e-9 of a sign: below every tolerance in use")
def row_norm_plus_tiny_sign(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * (row_norm(grad) + 1e-9 * grad.sign())


@_mutant("coordinate", "equivariance", "one part in 1e10 for each row index")
def row_index_leaks(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * row_norm(grad) * (1 + 1e-10 * torch.arange(grad.shape[-2], dtype=grad.dtype)[:, None])


@_mutant("embedding", "equivariance", "rounds the update to a grid of 1e-7")
def update_on_a_grid(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * torch.round(row_norm(grad) * 1e7) / 1e7


# -- too late --------------------------------------------------------------------------------------------------------


@_mutant("embedding", "equivariance", "correct for three steps, a sign from the fourth")
def switches_at_step_4(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * (row_norm(grad) if state["step"] < 4 else grad.sign())


@_mutant("embedding", "equivariance", "a warm-up of 20 steps (RAdam looks bi-orthogonal during its own)")
def switches_at_step_20(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * (row_norm(grad) if state["step"] < 20 else grad.sign())


@_mutant("matrix", "equivariance", "the momentum is transposed every step: visible on squares after two steps")
def transposed_momentum(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    old = state.get("momentum", torch.zeros_like(grad))
    state["momentum"] = grad + 0.9 * (old.mT if grad.shape[-1] == grad.shape[-2] else old)
    return -0.1 * polar(state["momentum"])


@_mutant("embedding", "equivariance", "an entrywise running maximum (AMSGrad) in a row-wise rule")
def entrywise_maximum(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    state["max"] = torch.maximum(grad.abs(), state.get("max", torch.zeros_like(grad)))
    return -0.1 * row_norm(grad) / (1 + 1e-3 * state["max"] / (1 + state["max"]))


# -- only where nobody looks -----------------------------------------------------------------------------------------


@_mutant("embedding", "equivariance", "entries clamped at 8: N(0,1) gradients never reach it")
def clamped_at_8(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * row_norm(grad.clamp(-8, 8))


@_mutant("embedding", "equivariance", "a zero row receives a uniform row")
def zero_rows_filled(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    empty = (grad == 0).all(-1, keepdim=True)
    return -0.1 * torch.where(empty, torch.full_like(grad, grad.shape[-1] ** -0.5), row_norm(grad))


@_mutant("coordinate", "equivariance", "ties for the largest entry are broken by the row index")
def ties_by_index(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    largest = grad.abs().amax(-1)
    boost = torch.zeros_like(largest)
    boost[largest.argmax()] = 1.0
    return -0.1 * grad * (1 + boost)[:, None]


@_mutant("embedding", "equivariance", "eps added to the entries: seen only where the gradient is as small")
def eps_on_entries(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * row_norm(grad + 1e-8, eps=1e-30)


@_mutant("embedding", "equivariance", "a sign where the gradient is tiny")
def sign_below_a_threshold(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * (row_norm(grad) if float(grad.norm()) > 1e-7 else grad.sign())


@_mutant("embedding", "equivariance", "entries above 1e5 saturate")
def saturates_when_large(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * row_norm(1e5 * torch.tanh(grad / 1e5))


@_mutant("matrix", "equivariance", "square matrices take another path")
def square_takes_another_path(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * (row_norm(grad) if grad.shape[-1] == grad.shape[-2] else polar(grad))


@_mutant("embedding", "equivariance", "blocks above 300 entries take another path")
def large_takes_another_path(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * (row_norm(grad) if grad.numel() < 300 else grad.sign())


@_mutant("embedding", "equivariance", "one-row blocks take another path")
def single_rows_take_another_path(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * (row_norm(grad) if grad.shape[-2] > 1 else grad.sign())


@_mutant("embedding", "equivariance", "a branch on one entry of the gradient")
def branches_on_an_entry(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * row_norm(grad) * (1.0 if float(grad.flatten()[0]) > 0 else 1.001)


@_mutant("matrix", "equivariance", "Adam in the eigenbasis of a Gram with a null space (SOAP on tall weights)")
def adam_in_an_eigenbasis(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    left = torch.linalg.eigh(grad @ grad.mT).eigenvectors
    right = torch.linalg.eigh(grad.mT @ grad).eigenvectors
    state["left"], state["right"] = state.get("left", left), state.get("right", right)
    state["momentum"] = 0.9 * state.get("momentum", torch.zeros_like(grad)) + grad
    return -0.1 * state["left"] @ (state["left"].mT @ state["momentum"] @ state["right"]).sign() @ state["right"].mT


@_mutant("embedding", "equivariance", "two equal rows get a sign: a rotation by rounding hides the coincidence")
def equal_rows_get_a_sign(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    equal = (grad[:, None, :] == grad[None, :, :]).all(-1).sum(-1, keepdim=True) > 1
    return -0.1 * torch.where(equal, grad.sign(), row_norm(grad))


@_mutant("embedding", "equivariance", "a gradient that repeats gets a sign")
def repeated_gradient_gets_a_sign(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    repeated = torch.equal(state.get("last", torch.zeros_like(grad)), grad)
    state["last"] = grad.clone()
    return -0.1 * (grad.sign() if repeated else row_norm(grad))


@_mutant("embedding", "equivariance", "zero weights get a sign (LoRA's B, zero-initialised heads)")
def zero_weights_get_a_sign(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * (row_norm(grad) if weight.any() else grad.sign())


@_mutant("embedding", "equivariance", "5 % of a cube behind a harmless call that reads a number")
def hides_behind_item(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    unit = grad / (grad.norm().item() + 1e-30)
    return -0.1 * (row_norm(grad) + 0.05 * unit**3)


@_mutant("embedding", "equivariance", "1e-4 of a cube behind an unused float32 constant")
def hides_behind_a_constant(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    torch.ones(2, dtype=torch.float32)
    return -0.1 * (row_norm(grad) + 1e-4 * (grad / (grad.norm() + 1e-30)) ** 3)


@_mutant("lm_head", "shift_equivariance", "the weights matter from a size of a hundred on")
def large_weights_get_a_sign(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * (row_norm(grad) if float(weight.abs().max()) < 100 else grad.sign())


@_mutant("embedding", "equivariance", "a displacement that ordinary weights round away; zero weights show it")
def drowns_in_its_weights(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -1e-13 * grad.sign()


# -- the wrong group -------------------------------------------------------------------------------------------------


@_mutant("embedding", "equivariance", "the L1 norm of a row is not invariant under rotations")
def l1_row_norm(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * grad / (grad.abs().sum(-1, keepdim=True) + 1e-8)


@_mutant("embedding", "equivariance", "nor is the largest entry")
def max_row_norm(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * grad / (grad.abs().amax(-1, keepdim=True) + 1e-8)


@_mutant("embedding", "equivariance", "centres along the wrong axis")
def centres_columns(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * row_norm(grad - grad.mean(-1, keepdim=True))


@_mutant("swiglu_down", "equivariance", "row-wise where the neurons are columns (an orientation forgotten)")
def forgotten_orientation(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * row_norm(grad)


@_mutant("matrix", "equivariance", "Newton-Schulz normalised by the largest entry")
def muon_max_entry(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * newton_schulz(grad, grad / (grad.abs().max() * max(grad.shape) + 1e-7))


@_mutant("matrix", "equivariance", "an entrywise product where a matrix product belongs")
def muon_entrywise_square(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    x = grad / (grad.norm() + 1e-7)
    gram = x @ x.mT
    return -0.1 * (2 * x - 1.5 * gram @ x + 0.5 * (gram * gram) @ x)


@_mutant("matrix", "equivariance", "scaled by the 1- and infinity-norms and not converged (QDWH after two steps)")
def qdwh_two_steps(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    scale = (grad.abs().sum(-2).max() * grad.abs().sum(-1).max()).sqrt() + 1e-30
    return -0.1 * newton_schulz(grad, grad / scale, steps=2)


@_mutant("matrix", "equivariance", "a spectral norm by two power iterations from the all-ones vector")
def power_iteration_from_ones(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    vector = torch.ones(grad.shape[-1], dtype=grad.dtype)
    for _ in range(2):
        vector = grad.mT @ (grad @ vector)
        vector = vector / (vector.norm() + 1e-30)
    return -0.1 * grad / ((grad @ vector).norm() + 1e-30)


@_mutant("matrix", "equivariance", "Gram-Schmidt on the columns: orthonormal, but it depends on their order")
def gram_schmidt(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    tall = grad if grad.shape[-2] >= grad.shape[-1] else grad.mT
    q, r = torch.linalg.qr(tall)
    update = q * torch.diagonal(r).sign()
    return -0.1 * (update if tall is grad else update.mT)


@_mutant("matrix", "equivariance", "a weight decay by sign(W)")
def sign_decay(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * polar(grad) - 1e-4 * weight.sign()


@_mutant("attention_qkv", "equivariance", "heads split one row off their boundary")
def heads_split_off_by_one(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    cut = grad.shape[-2] // 2 - 1
    return -0.1 * torch.cat([polar(grad[:cut]), polar(grad[cut:])]) if cut else -0.1 * row_norm(grad)


@_mutant("experts", "equivariance", "experts weighted by their index")
def expert_index_leaks(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * row_norm(grad) * (1 + 0.01 * torch.arange(grad.shape[0], dtype=grad.dtype)[:, None, None])


@_mutant("embedding", "equivariance", "leaves torch for numpy, and is wrong there")
def wrong_in_numpy(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    import numpy as np

    return torch.from_numpy(-0.1 * np.sign(grad.numpy()))


@_mutant("matrix", "equivariance", "wrong beneath a bfloat16 cast that could hide it")
def wrong_beneath_bfloat16(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    x = (grad / (grad.norm() + 1e-7)).bfloat16()
    return -0.1 * (newton_schulz(x, x) + 1e-3 * x.sign()).to(grad.dtype)


# -- translations ----------------------------------------------------------------------------------------------------


def _centre(x: torch.Tensor) -> torch.Tensor:
    return x - x.mean(-2, keepdim=True)


@_mutant("lm_head", "shift_equivariance", "decay moves the shared row")
def decayed_head(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * _centre(row_norm(_centre(grad))) - 1e-3 * weight


@_mutant("lm_head", "horizontality", "row normalisation after centring leaves the horizontal space")
def not_centred_again(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * row_norm(_centre(grad))


@_mutant("router", "horizontality", "not centred at all")
def uncentred_row_norm(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * row_norm(grad)


@_mutant("router", "shift_insensitivity", "a spectral rule that sees the shared row of its gradient")
def uncentred_spectral(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * polar(momentum(grad, state))


@_mutant("lm_head", "shift_quotient", "a trust ratio of the whole weight norm")
def trust_ratio(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.01 * weight.norm() * _centre(row_norm(_centre(grad)))


# -- vacuous ---------------------------------------------------------------------------------------------------------


@_mutant("embedding", "equivariance", "a zero update is equivariant", expected=Verdict.VACUOUS)
def zero_update(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(grad)


@_mutant("embedding", "equivariance", "NaN compares false with every tolerance", expected=Verdict.VACUOUS)
def nan_update(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return grad * float("nan")


@_mutant("embedding", "equivariance", "a random update cannot be refuted by one draw", expected=Verdict.DECLINED)
def random_update(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * row_norm(grad + torch.rand_like(grad))


# -- contracts -------------------------------------------------------------------------------------------------------


@_mutant("all", "purity", "momentum written into p.grad (KellerJordan/Muon: grad.lerp_)")
def overwrites_gradient(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    buffer = state.setdefault("momentum", torch.zeros_like(grad))
    buffer.lerp_(grad, 0.05)
    return -0.1 * polar(grad.lerp_(buffer, 0.95))


@_mutant("all", "purity", "coupled decay added into p.grad")
def decay_into_gradient(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * grad.add_(weight, alpha=1e-3)


@_mutant("all", "purity", "a gradient normalised in place because .to() returned it (Gram-Newton-Schulz)")
def normalises_alias(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    x = grad.to(torch.float64)
    x /= x.norm() + 1e-7
    return -0.1 * polar(x)


@_mutant("all", "scale_orbit", "a Muon that is SGD (DeepSpeed #8441)", degree=0)
def muon_that_is_sgd(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * momentum(grad, state)


@_mutant("all", "scale_orbit", "float16 before normalising overflows (DeepSpeed #8533)", degree=0)
def float16_before_normalising(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    x = grad.half().to(grad.dtype)
    return -0.1 * polar(x / x.norm())


@_mutant("all", "singular_stability", "clamp and rsqrt on a centred Gram (Emerging-Optimizers #247)")
def clamped_inverse_root(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    work = _centre(grad)
    values, vectors = torch.linalg.eigh((work @ work.mT).float())
    root = vectors @ torch.diag(values.clamp(min=1e-30).rsqrt()) @ vectors.mT
    return -0.1 * root.to(grad.dtype) @ work


# -- contracts that need an optimizer of their own -------------------------------------------------------------------


class _GlobalClip(FromUpdate):
    """Clips by the norm of all gradients together."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        pairs = [(p, p.grad) for group in self.param_groups for p in group["params"] if p.grad is not None]
        total = torch.stack([torch.linalg.vector_norm(grad) for _, grad in pairs]).norm()
        for param, grad in pairs:
            param.add_(-0.1 * grad / torch.clamp(total, min=1.0))


class _StackedPolar(FromUpdate):
    """Orthogonalises same-shape layers as one tall matrix (microsoft/dion #121)."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        by_shape: dict[torch.Size, list[torch.nn.Parameter]] = {}
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    by_shape.setdefault(param.shape, []).append(param)
        for params in by_shape.values():
            stacked = polar(torch.cat([param.grad for param in params if param.grad is not None]))
            for param, update in zip(params, stacked.chunk(len(params)), strict=True):
                param.add_(-0.1 * update)


class _ForgetsStep(FromUpdate):
    """Counts its steps on the instance, where ``state_dict`` does not see them."""

    def __init__(self, params: list[torch.nn.Parameter]) -> None:
        super().__init__(params, lambda grad, state, weight: -0.1 / self.calls * momentum(grad, state))
        self.calls = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.calls += 1
        super().step()


class _ForgetsMomentum(FromUpdate):
    """Keeps its momentum outside of ``self.state``."""

    def __init__(self, params: list[torch.nn.Parameter]) -> None:
        buffers: dict[int, torch.Tensor] = {}

        def update(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
            buffers[id(weight)] = grad + 0.9 * buffers.get(id(weight), torch.zeros_like(grad))
            return -0.1 * buffers[id(weight)]

        super().__init__(params, update)


class _ForeachDiffers(FromUpdate):
    """Its foreach path puts eps inside the root (compare pytorch #78807)."""

    def __init__(self, params: list[torch.nn.Parameter]) -> None:
        super().__init__(params, lambda grad, state, weight: grad, foreach=None)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    square = self.state[param].setdefault("square", torch.zeros_like(param))
                    square.addcmul_(param.grad, param.grad)
                    inside = 1e-3 if group["foreach"] else 0.0
                    param.add_(-0.1 * param.grad / ((square + inside).sqrt() + 1e-3 - inside))


class _TouchesIdle(FromUpdate):
    """Decays parameters that have no gradient."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for param in group["params"]:
                param.mul_(1 - 1e-3)
                if param.grad is not None:
                    param.add_(-0.1 * param.grad)


class _FloorsItsRate(FromUpdate):
    """A smallest step that a learning rate of zero does not switch off."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    param.add_(-max(group["lr"], 1e-6) * row_norm(param.grad))


class _PairsGateWithWrongUp(FromUpdate):
    """Normalises gate rows together with the up rows in reverse order."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        gate, up, *rest = params
        pair = torch.cat([gate.grad, up.grad.flip(-2)], dim=-1) if up.shape == gate.shape else gate.grad
        norms = torch.linalg.vector_norm(pair, dim=-1, keepdim=True) + 1e-8
        for param in (gate, up):
            param.add_(-0.1 * param.grad / norms)
        for param in rest:
            param.add_(-0.1 * row_norm(param.grad.mT).mT)


def _plain(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * grad


MUTANTS += [
    Mutant("global_clip", "only with two parameters", "all", "block_independence", lambda p: _GlobalClip(p, _plain)),
    Mutant(
        "stacked_polar", "only with two of one shape", "all", "block_independence", lambda p: _StackedPolar(p, _plain)
    ),
    Mutant("forgets_step", "only after loading", "all", "checkpoint", _ForgetsStep),
    Mutant("forgets_momentum", "only after loading", "all", "checkpoint", _ForgetsMomentum),
    Mutant("foreach_differs", "the default path is right", "all", "backend_agreement", _ForeachDiffers),
    Mutant("touches_idle", "frozen layers drift", "all", "purity", lambda p: _TouchesIdle(p, _plain)),
    Mutant("floors_its_rate", "only at the end of a schedule", "all", "purity", lambda p: _FloorsItsRate(p, _plain)),
    Mutant(
        "wrong_pairing",
        "each tensor alone is equivariant",
        "swiglu",
        "equivariance",
        lambda p: _PairsGateWithWrongUp(p, _plain),
    ),
    Mutant(
        "orthogonalises_in_backward",
        "only with accumulated gradients",
        "all",
        "gradient_split",
        implementations.OrthogonalisesInBackward,
    ),
    Mutant(
        "steps_in_backward", "one batch at a time is right", "all", "gradient_split", implementations.StepsInBackward
    ),
    Mutant("scales_by_kernel", "square kernels are right", "all", "layout", implementations.ScalesByKernel),
    Mutant("scales_heads_together", "one head is right", "all", "layout", implementations.ScalesHeadsTogether),
    Mutant(
        "interleaves_heads",
        "right for heads that are stored so: nothing declares how they are",
        "all",
        "layout",
        implementations.InterleavesHeads,
        expected=Verdict.DECLINED,
    ),
    Mutant(
        "half_corrected_adam",
        "it trains, faster at first",
        "all",
        "state_conformance",
        implementations.HalfCorrectedAdam,
    ),
    Mutant(
        "shardwise_newton_schulz",
        "one process is right",
        "all",
        "shard_invariance",
        implementations.ShardwiseNewtonSchulz,
    ),
]
