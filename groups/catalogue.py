"""Joint actions of decoder transformers, by name: what moves which tensors together.

The names of the tensors are roles: ``reader`` and ``writer`` stand for every matrix that reads from or writes to the
residual stream, ``up`` and ``down`` also for the two layers of a plain MLP. Which of the actions preserve the
function of a given model depends on it (norm gains, tied embeddings, routing); the tests of the models say which.
Sources: Lau and Su, arXiv 2605.18106; attention rotations also in arXiv 2502.00264.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from groups.action import Action
from groups.spec import parse_action

_SPECS = {
    "vocabulary_permutation": "embedding: P(rows); lm_head: P(rows) where P = Perm",
    "residual_rotation": "embedding: R(cols); reader: R(cols); writer: R(rows); lm_head: R(cols) where R = O",
    "residual_sign": "embedding: R(cols); reader: R(cols); writer: R(rows); lm_head: R(cols) where R = Sign",
    "residual_layernorm": "embedding: R(cols); reader: R(cols); writer: R(rows); lm_head: R(cols) where R = Stab1",
    "lm_head_shift": "Shift(rows)",
    "router_shift": "Shift(rows)",
    "expert_permutation": "router: P(rows); gate: P(experts); up: P(experts); down: P(experts) where P = Perm",
    "neuron_permutation": "gate: P(rows); up: P(rows); down: P(cols) where P = Perm",
    "neuron_scaling": "up: D(rows); down: D*(cols) where D = Scale",
    "neuron_positive_scaling": "up: D(rows); down: D*(cols) where D = Scale+",
    "neuron_sign": "up: S(rows); down: S(cols) where S = Sign",
    "head_permutation": "query: H(rows); key: H(rows); value: H(rows); output: H(cols) where H = (1 wr Perm[2])",
    "value_output_linear": "value: B(rows); output: B*(cols) where B = (GL wr 1[2])",
    "value_output_rotation": "value: B(rows); output: B(cols) where B = (O wr 1[2])",
    "query_key_linear": "query: A(rows); key: A*(rows) where A = (GL wr 1[2])",
    "query_key_rotation": "query: A(rows); key: A(rows) where A = (O wr 1[2])",
    "query_key_rope": "query: A(rows); key: A(rows) where A = (U1[half] wr 1[2])",
    "query_key_rope_interleaved": "query: A(rows); key: A(rows) where A = (U1[interleaved] wr 1[2])",
    "norm_gain": "gain: D(rows); reader: D*(cols) where D = Scale",
}

CATALOGUE: Mapping[str, Action] = MappingProxyType({name: parse_action(spec) for name, spec in _SPECS.items()})
"""Every joint action by name. Actions of heads are written for two; norm gains are columns ``(width, 1)``."""


def get_joint_action(name: str) -> Action:
    """The joint action of that name. Raises ValueError, one line, listing the known ones."""
    try:
        return CATALOGUE[name]
    except KeyError:
        raise ValueError(f"unknown joint action {name!r}; known: {', '.join(CATALOGUE)}") from None
