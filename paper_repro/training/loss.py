"""The objective of a run: cross-entropy from the logits, and the auxiliary losses of the routers, all by hand.

The models' own losses are not used. Transformers shifts the labels once; the paper's loader had shifted them already,
so that its objective is the token after the next (``target_offset=2``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, tokens: Tensor, target_offset: int) -> Tensor:
    """Mean cross-entropy in nats of token ``t + target_offset`` given tokens up to ``t``, in float32; a scalar.

    ``logits`` is ``(batch, length, vocabulary)`` for the first ``length`` of ``tokens`` ``(batch, length + 1)``. With
    offset 1 every position has a target, with offset 2 the last one has none, exactly as in the paper's code. Raises
    ValueError unless ``1 <= target_offset <= length``.
    """
    length = logits.shape[1]
    if tokens.shape[1] != length + 1 or not 1 <= target_offset <= length:
        raise ValueError(
            f"target_offset {target_offset}: {length} logits need {length + 1} tokens and an offset up to {length}, "
            f"got {tokens.shape[1]} tokens"
        )
    predicted = logits[:, : length + 1 - target_offset].flatten(0, 1)
    return functional.cross_entropy(predicted.float(), tokens[:, target_offset:].flatten())


def load_balance(router_logits: Sequence[Tensor], top_k: int) -> Tensor:
    """``E sum_i f_i P_i``, mean over layers: ``f_i`` the share of the top-k assignments that expert ``i`` gets
    (constant), ``P_i`` its mean probability; 1 when both are uniform. Each element of ``router_logits`` is ``(tokens,
    E)``.
    """
    losses = []
    for logits in router_logits:
        probability = torch.softmax(logits.float(), dim=-1)
        share = expert_load(logits, top_k)
        losses.append(logits.shape[-1] * (share * probability.mean(0)).sum())
    return torch.stack(losses).mean()


def router_z(router_logits: Sequence[Tensor]) -> Tensor:
    """Mean square of the routers' log-sum-exp, mean over layers (arXiv 2202.08906)."""
    return torch.stack([torch.logsumexp(each.float(), dim=-1).square().mean() for each in router_logits]).mean()


def expert_load(logits: Tensor, top_k: int) -> Tensor:
    """Share of the top-k assignments that every expert gets, ``(E,)``, sum 1; carries no gradient."""
    chosen = logits.detach().float().topk(top_k, dim=-1).indices
    counts = torch.zeros(logits.shape[-1], device=logits.device).index_add_(
        0, chosen.flatten(), torch.ones(chosen.numel(), device=logits.device)
    )
    return counts / chosen.numel()
