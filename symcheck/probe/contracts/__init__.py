"""Contracts: what a correct implementation keeps beside equivariance, and what public optimizers were seen to break.

Each contract is a function from a candidate to an `Outcome`. It is one module, named after the contract.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

from groups import Block
from symcheck.probe.contracts.backend_agreement import backend_agreement
from symcheck.probe.contracts.block_independence import block_independence
from symcheck.probe.contracts.checkpoint import checkpoint
from symcheck.probe.contracts.gradient_split import gradient_split
from symcheck.probe.contracts.layout import layout
from symcheck.probe.contracts.outcome import Outcome, Setting
from symcheck.probe.contracts.purity import purity
from symcheck.probe.contracts.scale_orbit import scale_orbit
from symcheck.probe.contracts.shard_invariance import shard_invariance
from symcheck.probe.contracts.singular_stability import singular_stability
from symcheck.probe.contracts.state_conformance import state_conformance
from symcheck.probe.names import Budget
from symcheck.probe.nature import Nature
from symcheck.probe.trajectory import CandidateLike
from symcheck.result import Verdict

_CHECKS: Mapping[str, Callable[[Setting], Outcome]] = MappingProxyType(
    {
        "purity": purity,
        "block_independence": block_independence,
        "scale_orbit": scale_orbit,
        "singular_stability": singular_stability,
        "checkpoint": checkpoint,
        "backend_agreement": backend_agreement,
        "gradient_split": gradient_split,
        "layout": layout,
        "state_conformance": state_conformance,
        "shard_invariance": shard_invariance,
    }
)


def check_contract(
    name: str, candidate: CandidateLike, nature: Nature, block: Block, budget: Budget, seed: int
) -> Outcome:
    """Check one contract of a candidate on shapes of ``block``.

    Raises:
        CandidateError: the candidate raised on an ordinary input.
    """
    setting = Setting(candidate, nature, block, budget, seed)
    outcome = _CHECKS[name](setting)
    if outcome.verdict is Verdict.SUPPORTED and setting.stands_still():
        return Outcome(Verdict.VACUOUS, "the update is zero, or not finite: nothing could have failed")
    if outcome.verdict is Verdict.REFUTED and outcome.evidence.witness is None:
        witness = {
            "schema": "symcheck.witness/1",
            "target": candidate.target,
            "config": dict(getattr(candidate, "config", {})),
            "block": block.name,
            "property": name,
            "reason": outcome.reason,
            "seed": seed,
        }
        return dataclasses.replace(outcome, evidence=dataclasses.replace(outcome.evidence, witness=witness))
    return outcome


__all__ = ["Outcome", "Setting", "check_contract"]
