"""What is measured beside the loss, for claims C7 to C11 of the reproduction.

One held-out batch, the same one every time, goes through the model in float32. Names of the series:

    head_max_logit, head_logsumexp, head_logsumexp_max     largest |logit|; mean and maximum log-sum-exp       C8
    head_row_norm, head_row_norm_cv, head_row_norm_max     mean, spread (deviation / mean), maximum of row norms
    embedding_row_norm, ..._cv, ..._max                    the same of the embedding
    head_shift, head_drift                                 shared shift of the rows, and how far it has moved
                                                           since the start, both as ||1^T W|| / sqrt(V)        C11
    router_load_cv, router_load_cv_max                     deviation / mean of the experts' loads              C7
    router_load_entropy                                    entropy of the loads / log E
    router_dead_experts                                    share of experts with under a tenth of the mean load
    router_top_load                                        largest load, times E
    router_z, router_logit_rms, router_max_logit           mean squared log-sum-exp; RMS, maximum of logits    C9
    router_shift, router_drift                             as for the head                                     C11

Router series are means over layers; ``_max`` is the worst layer. Definitions of loads as in the paper's code
(``train_gpt-oss_router_metrics.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from paper_repro.training.loss import expert_load
from paper_repro.training.model import exact_products, logits_of
from paper_repro.training.routers import Routers, shared_shift


class Diagnostics:
    """Measures one model; ``start`` holds the shared shifts of the first step, which `drift` is counted from."""

    def __init__(self, model: nn.Module, routers: Routers, start: Mapping[str, list[float]] | None = None) -> None:
        self._model = model
        self._routers = routers
        self._head = model.get_parameter("lm_head.weight")
        self._embedding = model.get_parameter("model.embed_tokens.weight")
        self.start = dict(start) if start else {key: shift.tolist() for key, shift in self._shifts().items()}

    def _shifts(self) -> dict[str, Tensor]:
        found = {"head": shared_shift(self._head)}
        return found | {f"router_{layer}": shared_shift(each) for layer, each in enumerate(self._routers.weights)}

    @torch.no_grad()
    def measure(self, tokens: Tensor) -> dict[str, float]:
        """All series at this moment; ``tokens`` is ``(batch, length + 1)`` on the model's device."""
        with exact_products(), self._routers.recording() as router_logits:
            logits = logits_of(self._model.forward, tokens).float()
        found = self._of_head(logits) | self._of_weights()
        if router_logits:
            found |= _of_routers(router_logits, self._routers.top_k)
        return found

    def _of_head(self, logits: Tensor) -> dict[str, float]:
        total = torch.logsumexp(logits, dim=-1)
        return {
            "head_max_logit": logits.abs().max().item(),
            "head_logsumexp": total.mean().item(),
            "head_logsumexp_max": total.max().item(),
        }

    def _of_weights(self) -> dict[str, float]:
        found = {}
        for name, weight in (("head", self._head), ("embedding", self._embedding)):
            norms = weight.detach().float().norm(dim=-1)
            mean = norms.mean()
            found[f"{name}_row_norm"] = mean.item()
            found[f"{name}_row_norm_cv"] = (norms.std(correction=0) / mean).item()
            found[f"{name}_row_norm_max"] = norms.max().item()
        shifts = self._shifts()
        moved = {key: shift - shift.new_tensor(self.start[key]) for key, shift in shifts.items()}
        rows = math.sqrt(self._head.shape[0])
        found["head_shift"] = rows * shifts["head"].norm().item()
        found["head_drift"] = rows * moved["head"].norm().item()
        if self._routers.weights:
            rows = math.sqrt(self._routers.weights[0].shape[0])
            for name, table in (("router_shift", shifts), ("router_drift", moved)):
                found[name] = rows * _mean([each.norm() for key, each in table.items() if key != "head"])
        return found


def _of_routers(router_logits: Sequence[Tensor], top_k: int) -> dict[str, float]:
    experts = router_logits[0].shape[-1]
    loads = [expert_load(each, top_k) for each in router_logits]
    spread = [each.std(correction=0) * experts for each in loads]
    entropy = [torch.special.entr(each).sum() / math.log(experts) for each in loads]
    totals = [torch.logsumexp(each.float(), dim=-1) for each in router_logits]
    return {
        "router_load_cv": _mean(spread),
        "router_load_cv_max": torch.stack(spread).max().item(),
        "router_load_entropy": _mean(entropy),
        "router_dead_experts": _mean([(each < 0.1 / experts).float().mean() for each in loads]),
        "router_top_load": _mean([each.max() * experts for each in loads]),
        "router_z": _mean([each.square().mean() for each in totals]),
        "router_logit_rms": _mean([each.float().square().mean().sqrt() for each in router_logits]),
        "router_max_logit": torch.stack([each.float().abs().max() for each in router_logits]).max().item(),
    }


def _mean(values: Sequence[Tensor]) -> float:
    return torch.stack(list(values)).mean().item()
