"""The training objective, computed from the logits rather than by the model."""

from __future__ import annotations

import torch
from torch.nn import functional


def token_loss(logits: torch.Tensor, tokens: torch.Tensor, *, target_offset: int = 1) -> torch.Tensor:
    """Mean cross-entropy of token ``t + target_offset`` given the tokens up to ``t``; a scalar, in nats.

    ``logits`` is ``(batch, length, vocabulary)``, ``tokens`` is ``(batch, length)``. Offset 1 is next-token
    prediction. The paper's public code shifts the labels twice, which is offset 2. Raises ValueError unless ``1 <=
    target_offset < length``.
    """
    if not 1 <= target_offset < tokens.shape[-1]:
        raise ValueError(
            f"target_offset {target_offset} does not fit {tokens.shape[-1]} tokens: use 1 (next token) or 2"
        )
    predicted = logits[:, :-target_offset].flatten(0, 1)
    return functional.cross_entropy(predicted, tokens[:, target_offset:].flatten())
