"""Whole optimizers, wrong and right, for the contracts about implementations: hooks, layouts, state, shards."""

from __future__ import annotations

import math
from typing import Any

import torch

from symcheck.selftest.optimizer import FromUpdate, State, newton_schulz, row_norm


def _plain(grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
    return -0.1 * grad


def _orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    return newton_schulz(matrix, matrix / (matrix.norm() + 1e-7))


class Momentum(FromUpdate):
    """Plain gradient descent; the base of what happens during ``backward()``."""

    def __init__(self, params: list[torch.nn.Parameter]) -> None:
        super().__init__(params, _plain)


class OrthogonalisesInBackward(Momentum):
    """Newton-Schulz in a hook, on what has been accumulated so far (DeepSpeed #8443)."""

    def __init__(self, params: list[torch.nn.Parameter]) -> None:
        super().__init__(params)
        for param in self.param_groups[0]["params"]:
            param.register_post_accumulate_grad_hook(self._replace)

    @staticmethod
    def _replace(param: torch.nn.Parameter) -> None:
        if param.grad is not None:
            param.grad = _orthogonal(param.grad)


class StepsInBackward(Momentum):
    """Steps as soon as a gradient is there, and frees it: ``step()`` has nothing left to do."""

    def __init__(self, params: list[torch.nn.Parameter]) -> None:
        super().__init__(params)
        for param in self.param_groups[0]["params"]:
            param.register_post_accumulate_grad_hook(self._step)

    @staticmethod
    def _step(param: torch.nn.Parameter) -> None:
        if param.grad is not None:
            with torch.no_grad():
                param.sub_(0.1 * row_norm(param.grad))
            param.grad = None


class CountsInBackward(Momentum):
    """A hook that only looks."""

    def __init__(self, params: list[torch.nn.Parameter]) -> None:
        super().__init__(params)
        self.seen = 0
        for param in self.param_groups[0]["params"]:
            param.register_post_accumulate_grad_hook(self._count)

    def _count(self, param: torch.nn.Parameter) -> None:
        self.seen += param.numel()


class FlattensConvolutions(FromUpdate):
    """Muon on ``[out, rest]``, with the shape scale of that matrix."""

    def __init__(self, params: list[torch.nn.Parameter]) -> None:
        super().__init__(params, self._update)

    def _update(self, grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
        matrix = grad.flatten(1) if grad.ndim > 2 else grad
        return -0.1 * self.scale(grad, matrix) * _orthogonal(matrix).reshape(grad.shape)

    def scale(self, grad: torch.Tensor, matrix: torch.Tensor) -> float:
        """``sqrt(max(1, m / n))`` of the matrix."""
        return math.sqrt(max(1.0, matrix.shape[0] / matrix.shape[1]))


class ScalesByKernel(FlattensConvolutions):
    """The same with the scale of the kernel's two axes (KellerJordan/Muon #63)."""

    def scale(self, grad: torch.Tensor, matrix: torch.Tensor) -> float:
        """``sqrt(max(1, kh / kw))``."""
        return math.sqrt(max(1.0, grad.shape[-2] / grad.shape[-1]))


class ScalesHeadsTogether(FromUpdate):
    """Orthogonalises blocks of rows, with the shape scale of the whole matrix."""

    def __init__(self, params: list[torch.nn.Parameter]) -> None:
        super().__init__(params, self._update, heads=1)

    def _update(self, grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
        scale = math.sqrt(max(1.0, grad.shape[-2] / grad.shape[-1]))
        heads = grad.chunk(self.param_groups[0]["heads"])
        return -0.1 * scale * torch.cat([_orthogonal(head) for head in heads])


class InterleavesHeads(FromUpdate):
    """Takes every second row for a head: right where heads are stored so."""

    def __init__(self, params: list[torch.nn.Parameter]) -> None:
        super().__init__(params, self._update, heads=1)

    def _update(self, grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
        heads = self.param_groups[0]["heads"]
        out = torch.empty_like(grad)
        for head in range(heads):
            out[head::heads] = -0.1 * _orthogonal(grad[head::heads])
        return out


class HalfCorrectedAdam(FromUpdate):
    """Adam that forgets the bias correction of its second moment, and names its rule."""

    symcheck_rule = "adam"

    def __init__(self, params: list[torch.nn.Parameter]) -> None:
        super().__init__(params, self._update, lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)

    def _update(self, grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
        beta1, beta2 = self.param_groups[0]["betas"]
        mean = state.setdefault("exp_avg", torch.zeros_like(grad)).mul_(beta1).add_(grad, alpha=1 - beta1)
        square = (
            state.setdefault("exp_avg_sq", torch.zeros_like(grad)).mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        )
        return -mean / (1 - beta1 ** state["step"]) / (square.sqrt() + self.param_groups[0]["eps"])


class HeavyRowNorm(FromUpdate):
    """Row normalisation of a heavy ball: the rule's steps, and 20 times its momentum."""

    symcheck_rule = "row_norm"

    def __init__(self, params: list[torch.nn.Parameter]) -> None:
        super().__init__(params, self._update, lr=0.1, momentum=0.95, eps=1e-300, weight_decay=0.0)

    def _update(self, grad: torch.Tensor, state: State, weight: torch.Tensor) -> torch.Tensor:
        buffer = state.setdefault("momentum_buffer", torch.zeros_like(grad)).mul_(0.95).add_(grad)
        return -row_norm(buffer, eps=1e-300)


# -- shards ------------------------------------------------------------------------------------------------------------


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """The shard of a ``DTensor`` that this process holds, or the tensor itself."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


class _Shardwise(torch.optim.Optimizer):
    """Every process steps the shard that it holds, as if it were all there is."""

    def __init__(self, params: list[torch.nn.Parameter]) -> None:
        super().__init__(params, {"lr": 0.1})

    def update(self, grad: torch.Tensor) -> torch.Tensor:
        """The direction for one shard."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        for param in self.param_groups[0]["params"]:
            if param.grad is not None:
                local_part(param).sub_(0.1 * self.update(local_part(param.grad)))


class ShardwiseNewtonSchulz(_Shardwise):
    """Orthogonalises every shard by itself (DeepSpeed #8437)."""

    def update(self, grad: torch.Tensor) -> torch.Tensor:
        """Newton-Schulz of the shard."""
        return _orthogonal(grad)


class ShardwiseRowNorm(_Shardwise):
    """Normalises the rows of every shard: right as long as no row is cut."""

    def update(self, grad: torch.Tensor) -> torch.Tensor:
        """Rows of unit length."""
        return row_norm(grad)


class GatheringNewtonSchulz(torch.optim.Optimizer):
    """Orthogonalises the gathered gradient, stack by stack, and takes its own shard of the result."""

    def __init__(self, params: list[torch.nn.Parameter]) -> None:
        super().__init__(params, {"lr": 0.1})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        for param in self.param_groups[0]["params"]:
            if param.grad is None:
                continue
            whole = param.grad.full_tensor() if hasattr(param.grad, "full_tensor") else param.grad
            norm = torch.linalg.vector_norm(whole, dim=(-2, -1), keepdim=True)
            update = newton_schulz(whole, whole / (norm + 1e-7))
            if hasattr(param, "placements"):
                from torch.distributed.tensor import distribute_tensor

                update = distribute_tensor(update, param.device_mesh, param.placements)
            param.sub_(0.1 * update)
