"""The example of the README: momentum with rows of unit length, written as one would write it."""

import torch


class MyOptimizer(torch.optim.Optimizer):
    """``W_i <- W_i - lr M_i / |M_i|`` with ``M <- momentum M + G``, for each row ``i``."""

    def __init__(self, params, lr=0.02, momentum=0.9):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None):
        """One step for every parameter that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.mul_(group["momentum"]).add_(p.grad)
                p.sub_(group["lr"] * buffer / (buffer.norm(dim=-1, keepdim=True) + 1e-8))
