"""Independent little implementations of six optimizers, each with faults that can be switched on.

They are written from the papers and torch's documentation, not from the reference rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]
JORDAN = (3.4445, -4.7750, 2.0315)


class _Optimizer(torch.optim.Optimizer):
    """Calls ``self.move(weight, gradient, state, group)`` for every parameter; ``fault`` is the planted fault."""

    fault = ""

    def move(self, weight: Tensor, grad: Tensor, state: State, group: dict[str, Any]) -> None:
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self.move(weight, weight.grad, self.state[weight], group)


class AdamW(_Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def move(self, weight: Tensor, grad: Tensor, state: State, group: dict[str, Any]) -> None:
        fault, (beta1, beta2), eps = self.fault, group["betas"], group["eps"]
        if fault == "betas swapped":
            beta1, beta2 = beta2, beta1
        lr, decay = group["lr"], group["weight_decay"]
        if fault == "sign":
            grad = -grad
        if fault == "coupled decay":
            grad = grad + decay * weight
        elif fault == "decay without lr":
            weight.mul_(1 - decay)
        elif fault != "decay after":
            weight.mul_(1 - lr * decay)
        if not state:
            state.update(t=0, exp_avg=torch.zeros_like(weight), exp_avg_sq=torch.zeros_like(weight))
        state["t"] += 1
        state["exp_avg"].mul_(beta1).add_(grad, alpha=1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        count = state["t"] + (1 if fault == "late correction" else 0)
        mean, square = state["exp_avg"] / (1 - beta1**count), state["exp_avg_sq"] / (1 - beta2**count)
        if fault == "no correction of v":
            square = state["exp_avg_sq"]
        if fault == "no correction":
            mean, square = state["exp_avg"], state["exp_avg_sq"]
        denominator = square.sqrt() + eps
        if fault == "eps inside":
            denominator = (square + eps).sqrt()
        if fault == "eps scale":
            denominator = square.sqrt() + 1e-6
        if fault == "eps uncorrected":
            denominator = (state["exp_avg_sq"].sqrt() + eps) / math.sqrt(1 - beta2**count)
        if fault == "unknown":
            denominator = denominator * (1 + 1e-4 * grad.abs().mean())
        weight.sub_(lr * mean / denominator)
        if fault == "decay after":
            weight.mul_(1 - lr * decay)


def newton_schulz(
    matrix: Tensor, steps: int, coefficients: tuple[float, float, float], eps: float, *, in_place: bool
) -> Tensor:
    a, b, c = coefficients
    x = matrix.mT if matrix.shape[-2] > matrix.shape[-1] else matrix
    norm = x.norm(dim=(-2, -1), keepdim=True) + eps
    x = x.div_(norm) if in_place else x / norm
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if matrix.shape[-2] > matrix.shape[-1] else x


class Muon(_Optimizer):
    def __init__(self, params, lr=0.02, momentum=0.95, nesterov=True, ns_steps=5, eps=1e-7, weight_decay=0.1) -> None:
        defaults = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps, "eps": eps}
        super().__init__(params, {**defaults, "weight_decay": weight_decay})

    def move(self, weight: Tensor, grad: Tensor, state: State, group: dict[str, Any]) -> None:
        fault, mu, shape = self.fault, group["momentum"], weight.shape
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        buffer = state["momentum_buffer"]
        if fault == "gradient overwritten":
            buffer.lerp_(grad, 1 - mu)
            ahead = grad.lerp_(buffer, mu) if group["nesterov"] else buffer
        elif fault == "heavy ball":
            buffer.mul_(mu).add_(grad)
            ahead = grad + mu * buffer if group["nesterov"] else buffer
        else:
            buffer.lerp_(grad, 1 - mu)
            ahead = grad.lerp(buffer, mu) if group["nesterov"] else buffer
        if fault == "no nesterov":
            ahead = buffer
        if fault == "swapped look-ahead":
            ahead = grad.lerp(buffer, 1 - mu)
        steps = group["ns_steps"] + (1 if fault == "one step more" else 0)
        coefficients = (1.5, -0.5, 0.0) if fault == "coefficients" else JORDAN
        if fault == "stack as one":
            ahead = ahead.reshape(-1, shape[-1])
        if weight.ndim > 3:
            ahead = ahead.flatten(1)
        in_place = fault == "buffer normalised"
        update = newton_schulz(ahead, steps, coefficients, group["eps"], in_place=in_place)
        rows, columns = (shape[-2], shape[-1]) if weight.ndim <= 3 else (shape[0], ahead.shape[-1])
        scale = math.sqrt(max(1, rows / columns))
        if fault == "stack as one":
            scale = math.sqrt(max(1, ahead.shape[-2] / ahead.shape[-1]))
        if fault == "scale transposed":
            scale = math.sqrt(max(1, columns / rows))
        if fault == "scale missing":
            scale = 1.0
        if fault == "scale of kernel":
            scale = math.sqrt(max(1, shape[-2] / shape[-1]))
        decay = group["lr"] * group["weight_decay"] * (scale if fault == "decay adjusted" else 1.0)
        weight.mul_(1 - decay).add_(update.reshape(shape), alpha=-group["lr"] * scale)


class SGD(_Optimizer):
    def __init__(self, params, lr=0.1, momentum=0.9, dampening=0.0, nesterov=False, weight_decay=0.0) -> None:
        defaults = {"lr": lr, "momentum": momentum, "dampening": dampening, "nesterov": nesterov}
        super().__init__(params, {**defaults, "weight_decay": weight_decay})

    def move(self, weight: Tensor, grad: Tensor, state: State, group: dict[str, Any]) -> None:
        fault, mu, lr = self.fault, group["momentum"], group["lr"]
        if fault != "decoupled decay":
            grad = grad + group["weight_decay"] * weight
        else:
            weight.mul_(1 - lr * group["weight_decay"])
        gain = 1 - (mu if fault == "dampening" else group["dampening"])
        if fault == "moving average":
            state["buf"] = mu * state.get("buf", torch.zeros_like(grad)) + (1 - mu) * grad
        elif fault == "lr in buffer":
            state["buf"] = mu * state.get("buf", torch.zeros_like(grad)) + lr * grad
        else:
            state["buf"] = mu * state["buf"] + gain * grad if "buf" in state else grad.clone()
        look = lr * grad if fault == "lr in buffer" else grad
        direction = look + mu * state["buf"] if group["nesterov"] or fault == "nesterov on" else state["buf"]
        if fault == "late momentum":
            late = state.get("late", torch.zeros_like(grad))
            state["late"] = mu * late + grad
            direction = grad + mu * late if group["nesterov"] else late
        weight.sub_(direction if fault == "lr in buffer" else lr * direction)


class Lion(_Optimizer):
    def __init__(self, params, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def move(self, weight: Tensor, grad: Tensor, state: State, group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        average = state.setdefault("exp_avg", torch.zeros_like(weight))
        mixed = beta1 * average + (1 - beta1) * grad
        if self.fault == "momentum first":
            average.lerp_(grad, 1 - beta2)
            mixed = beta1 * average + (1 - beta1) * grad
        elif self.fault == "keeps interpolation":
            average.copy_(mixed)
        else:
            average.lerp_(grad, 1 - beta2)
        weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * mixed.sign())


class RowNorm(_Optimizer):
    def __init__(self, params, lr=1e-2, momentum=0.95, eps=1e-8, weight_decay=0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "eps": eps, "weight_decay": weight_decay})

    def move(self, weight: Tensor, grad: Tensor, state: State, group: dict[str, Any]) -> None:
        mu, eps = group["momentum"], group["eps"]
        if "m" not in state:
            state["m"] = grad.clone() if self.fault == "starts full" else torch.zeros_like(weight)
        m = state["m"]
        if self.fault == "heavy ball":
            m.mul_(mu).add_(grad)
        else:
            m.mul_(mu).add_(grad, alpha=1 - mu)
        axis = -2 if self.fault == "columns" else -1
        norms = m.norm(dim=axis, keepdim=True)
        if self.fault == "eps inside":
            update = m / (m.square().sum(axis, keepdim=True) + eps).sqrt()
        elif self.fault == "clamp":
            update = m / norms.clamp(min=eps)
        else:
            update = m / (norms + eps)
        weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * update)


class Adafactor(_Optimizer):
    def __init__(self, params, lr=1e-2, beta2_decay=-0.8, eps=(None, 1e-3), d=1.0, weight_decay=0.0) -> None:
        defaults = {"lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def move(self, weight: Tensor, grad: Tensor, state: State, group: dict[str, Any]) -> None:
        fault, lr = self.fault, group["lr"]
        eps1 = torch.finfo(weight.dtype).eps if group["eps"][0] is None else group["eps"][0]
        state["t"] = state.get("t", 0) + 1
        relative = max(group["eps"][1], float(weight.square().mean().sqrt())) * min(lr, state["t"] ** -0.5)
        if fault == "no relative step":
            relative = min(lr, state["t"] ** -0.5)
        weight.mul_(1 - lr * group["weight_decay"])
        keep = 1 - state["t"] ** group["beta2_decay"]
        square = grad.square()
        row = square.mean(-1, keepdim=True) if fault != "sums" else square.sum(-1, keepdim=True)
        column = square.mean(-2, keepdim=True)
        state["row"] = keep * state.get("row", torch.zeros_like(row)) + (1 - keep) * row
        state["col"] = keep * state.get("col", torch.zeros_like(column)) + (1 - keep) * column
        variance = state["row"] @ state["col"] / state["row"].mean(-2, keepdim=True).clamp(min=eps1)
        update = grad / variance.clamp(min=eps1**2).sqrt()
        if fault != "no clipping":
            update = update / max(1.0, float(update.square().mean().sqrt()) / group["d"])
        weight.sub_(relative * update)


class SOAP(_Optimizer):
    def __init__(self, params, lr=3e-3, betas=(0.95, 0.95), eps=1e-8, frequency=10, weight_decay=0.01) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "frequency": frequency, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def move(self, weight: Tensor, grad: Tensor, state: State, group: dict[str, Any]) -> None:
        (beta1, beta2), lr = group["betas"], group["lr"]
        if not state:
            state.update(t=0, exp_avg=torch.zeros_like(grad), exp_avg_sq=torch.zeros_like(grad))
            state["L"], state["R"] = (1 - beta2) * grad @ grad.mT, (1 - beta2) * grad.mT @ grad
            state["QL"], state["QR"] = (torch.linalg.eigh(state[side])[1].flip(-1) for side in "LR")
            return
        state["t"] += 1
        left, right = state["QL"], state["QR"]
        projected = left.mT @ grad @ right
        state["exp_avg"].lerp_(projected, 1 - beta1)
        state["exp_avg_sq"].lerp_(projected.square(), 1 - beta2)
        adam = state["exp_avg"] / (state["exp_avg_sq"].sqrt() + group["eps"])
        correction = math.sqrt(1 - beta2 ** state["t"]) / (1 - beta1 ** state["t"])
        if self.fault == "decay first":
            weight.mul_(1 - lr * group["weight_decay"])
        weight.sub_(lr * correction * left @ adam @ right.mT)
        if self.fault != "decay first":
            weight.mul_(1 - lr * group["weight_decay"])
        state["L"].lerp_(grad @ grad.mT, 1 - beta2)
        state["R"].lerp_(grad.mT @ grad, 1 - beta2)
        if state["t"] % group["frequency"] == 0:
            mean = left @ state["exp_avg"] @ right.mT
            rows = (left * (state["L"] @ left)).sum(0).argsort(descending=True)
            columns = (right * (state["R"] @ right)).sum(0).argsort(descending=True)
            state["QL"] = torch.linalg.qr(state["L"] @ left[:, rows])[0]
            state["QR"] = torch.linalg.qr(state["R"] @ right[:, columns])[0]
            state["exp_avg_sq"] = state["exp_avg_sq"][rows][:, columns]
            if self.fault != "stale basis":
                state["exp_avg"] = state["QL"].mT @ mean @ state["QR"]


def planted(kind: type[_Optimizer], fault: str) -> type[_Optimizer]:
    """The optimizer ``kind`` with a fault."""
    return type(kind.__name__, (kind,), {"fault": fault})
