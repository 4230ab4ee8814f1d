"""Which role every parameter of a decoder plays: by the module that owns it, then by name, then by shape.

Routing is total. Each parameter gets exactly one role, a tensor that two modules share gets one role for both, and a
parameter that no line below describes is an error that names it. Modules are recognised by what they are and by what
stands beside them (a ``gate`` next to ``experts`` is a router, a ``gate`` next to ``down`` is half of a gated MLP), so
transformers models work without transformers being imported. Roles follow arXiv 2605.18106.
"""

from __future__ import annotations

import fnmatch
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reference.transforms.layout import Orientation

ROLES: Mapping[str, str] = {
    "embedding": "token or position table [V, d], also when it is tied to the LM head",
    "lm_head": "untied output projection [V, d]",
    "router": "expert scores [E, d]",
    "mlp_gate_up": "gate or up projection of an MLP [r, d]",
    "mlp_down": "down projection of an MLP [d, r]",
    "expert_gate_up": "stacked gate and up projections, [E, 2r, d] or [E, d, 2r]",
    "expert_down": "stacked down projections, [E, d, r] or [E, r, d]",
    "attention_qkv": "query, key or value projection [H*dh, d], one block per head",
    "attention_o": "attention output projection [d, H*dh], one block per head",
    "matrix": "any other weight of a linear layer [m, n]",
    "other": "norm gains, biases, attention sinks and other vectors",
}

_LM_HEAD = {"lm_head", "output_projection", "unembed", "unembedding"}
_GATE_UP = {"gate_proj", "up_proj", "gate_up_proj", "gate", "up", "w1", "w3", "fc1", "fc_in", "c_fc"}
_DOWN = {"down_proj", "down", "w2", "fc2", "fc_out", "c_proj"}
_QUERY = {"q_proj", "k_proj", "v_proj", "qkv_proj", "qkv", "wq", "wk", "wv", "wqkv", "c_attn", "query", "key", "value"}
_QUERY |= {"in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"}  # torch.nn.MultiheadAttention
_OUTPUT = {"o_proj", "out_proj", "wo", "c_proj", "dense"}


@dataclass(frozen=True)
class Route:
    """One parameter, its role, and what its shape alone does not say.

    Attributes:
        names: all names under which the model reaches the tensor.
        role: a key of `ROLES`.
        reason: what decided.
        shift: whether adding one row to every row of the weight leaves the loss unchanged (softmax logits), the only
            case in which centring is a symmetry. A z-loss added by the training script breaks it and cannot be seen.
        blocks: how many independent matrices lie side by side: attention heads, or a gate on top of an up projection.
        block_axis: the axis along which they lie.
        units: the orientation in which the rows are the units (neurons) of the layer.
        matrices: the orientation in which a stack of experts is [out, in], gate and up apart; None where there is none.
    """

    parameter: Tensor = field(compare=False, repr=False)
    names: tuple[str, ...]
    role: str
    reason: str
    shift: bool = False
    blocks: int = 1
    block_axis: Literal["rows", "cols"] = "rows"
    units: Orientation = "row"
    matrices: Orientation | None = "row"

    @property
    def name(self) -> str:
        """The first name of the parameter."""
        return self.names[0]


@dataclass(frozen=True)
class _Use:
    """One place of the module tree that holds a parameter.

    ``chain`` lists (name, module) from the owner of the parameter up to the model, whose name is empty.
    """

    name: str
    leaf: str
    chain: tuple[tuple[str, nn.Module], ...]

    @property
    def module_name(self) -> str:
        return self.chain[0][0]

    @property
    def owner(self) -> nn.Module:
        return self.chain[0][1]

    @property
    def kind(self) -> str:
        return type(self.owner).__name__

    @property
    def layer(self) -> tuple[str, nn.Module]:
        """The name of a projection in its layer, and the layer: ``q_proj`` of an attention, ``down`` of an MLP."""
        if isinstance(self.owner, nn.Linear) and len(self.chain) > 1:
            return self.module_name, self.chain[1][1]
        return self.leaf, self.owner


def route(model: nn.Module, assign: Mapping[str, str] | None = None) -> tuple[Route, ...]:
    """Routes for all trainable and frozen parameters of ``model``, in the order of ``model.parameters()``.

    Args:
        model: any module tree.
        assign: patterns of parameter names (``fnmatch``) to roles; the first that matches decides before anything else.

    Raises:
        ValueError: a parameter that cannot be routed, a pattern without a parameter, an unknown role, or two parameters
            that share memory without being the same object.
    """
    assign = dict(assign or {})
    uses: dict[Tensor, list[_Use]] = {}
    for use, parameter in _uses(model):
        uses.setdefault(parameter, []).append(use)
    if not uses:
        raise ValueError(f"{type(model).__name__} has no parameters to route")
    _refuse_shared_memory({parameter: found[0].name for parameter, found in uses.items()})
    names = [use.name for found in uses.values() for use in found]
    for pattern, role in assign.items():
        if role not in ROLES:
            raise ValueError(f"assign[{pattern!r}]: unknown role {role!r}; roles are {', '.join(ROLES)}")
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"assign[{pattern!r}] matches no parameter of {type(model).__name__}")
    return tuple(_route(model, parameter, found, assign) for parameter, found in uses.items())


def _uses(model: nn.Module) -> Iterator[tuple[_Use, Tensor]]:
    """Every (place, parameter) pair, tied ones included, in registration order."""

    def walk(prefix: str, chain: tuple[tuple[str, nn.Module], ...]) -> Iterator[tuple[_Use, Tensor]]:
        for leaf, parameter in chain[0][1]._parameters.items():
            if parameter is not None:
                yield _Use(prefix + leaf, leaf, chain), parameter
        for name, child in chain[0][1]._modules.items():
            if child is not None:
                yield from walk(f"{prefix}{name}.", ((name, child), *chain))

    return walk("", (("", model),))


def _refuse_shared_memory(names: Mapping[Tensor, str]) -> None:
    """Two Parameter objects over one memory would be stepped twice: a tie that the model failed to declare."""
    taken: dict[tuple[torch.device, int], list[tuple[int, int, str]]] = {}
    for whole, name in names.items():
        # A sharded parameter (DTensor, too slow to import for a name) has the memory of its shard.
        parameter: Tensor = whole.to_local() if hasattr(whole, "to_local") else whole
        if parameter.device.type == "meta" or parameter.numel() == 0:
            continue
        entries = 1 + sum((size - 1) * stride for size, stride in zip(parameter.shape, parameter.stride(), strict=True))
        start = parameter.data_ptr()
        end = start + entries * parameter.element_size()
        others = taken.setdefault((parameter.device, parameter.untyped_storage().data_ptr()), [])
        for other_start, other_end, other in others:
            if start < other_end and other_start < end:
                raise ValueError(
                    f"parameters {other} and {name} share memory but are different objects; "
                    "tie them by assigning one Parameter to both modules"
                )
        others.append((start, end, name))


def _route(model: nn.Module, parameter: Tensor, uses: list[_Use], assign: Mapping[str, str]) -> Route:
    names = tuple(use.name for use in uses)
    for pattern, role in assign.items():
        for use in uses:
            if fnmatch.fnmatchcase(use.name, pattern):
                return _describe(model, parameter, names, role, f"assigned by {pattern!r}", use)
    found = [(*_role(model, parameter, use), use) for use in uses]
    roles = {role for role, _, _ in found}
    # A tied embedding is an embedding: shifting its rows moves the inputs too, so that is no symmetry of the loss.
    role, reason, use = next((each for each in found if each[0] == "embedding"), found[0])
    if roles - {role} - ({"lm_head"} if role == "embedding" else set()):
        places = ", ".join(f"{use.name} ({role})" for role, _, use in found)
        raise ValueError(
            f"tied parameter plays different roles: {places}; choose one with assign={{{names[0]!r}: ...}}"
        )
    return _describe(model, parameter, names, role, reason, use)


def _describe(model: nn.Module, parameter: Tensor, names: tuple[str, ...], role: str, reason: str, use: _Use) -> Route:
    """Adds to a role what its rule needs to know about the layout and the symmetry."""
    if len(names) > 1:
        reason = f"{reason}, tied to {', '.join(names[1:])}"
    if role == "lm_head":
        capped = _logits_are_capped(model)
        reason += ", soft-capped" if capped else ""
        return Route(parameter, names, role, reason, shift=not capped and len(names) == 1)
    if role == "router":
        scores = _scores(use)
        return Route(parameter, names, role, f"{reason}, {scores}", shift=not scores.startswith("sigmoid"))
    if role in ("attention_qkv", "attention_o"):
        axis: Literal["rows", "cols"] = "rows" if role == "attention_qkv" else "cols"
        blocks = parameter.shape[0 if axis == "rows" else 1] // _head_dim(parameter, role, use)
        return Route(parameter, names, role, reason, blocks=blocks, block_axis=axis)
    if role == "mlp_gate_up":
        return Route(parameter, names, role, reason, blocks=2 if use.layer[0] == "gate_up_proj" else 1)
    if role == "mlp_down":
        return Route(parameter, names, role, reason, units="col")
    if role in ("expert_gate_up", "expert_down"):
        units, matrices = _expert_orientations(parameter, role, use)
        return Route(parameter, names, role, reason, units=units, matrices=matrices)
    return Route(parameter, names, role, reason)


def _role(model: nn.Module, parameter: Tensor, use: _Use) -> tuple[str, str]:
    """(role, reason) of one place; the first line that fits decides."""
    name, layer = use.layer
    where = f"{name} of {type(layer).__name__}"
    if parameter.ndim <= 1 or "bias" in use.leaf or "norm" in use.kind.lower():
        return "other", f"{use.leaf} of {use.kind}"
    if isinstance(use.owner, nn.Embedding | nn.EmbeddingBag):
        return "embedding", use.kind
    if parameter.ndim == 3 and "expert" in f"{use.kind}.{use.module_name}".lower() and use.leaf in _GATE_UP | _DOWN:
        return ("expert_down" if use.leaf in _DOWN else "expert_gate_up"), where
    found = _matrix_role(model, parameter, use) if parameter.ndim == 2 else None
    if found is None:
        raise ValueError(
            f"cannot route parameter {use.name} (shape {tuple(parameter.shape)}, module {use.kind}); "
            f"name its role: assign={{{use.name!r}: ...}}"
        )
    return found, where


def _matrix_role(model: nn.Module, parameter: Tensor, use: _Use) -> str | None:
    """The role of a two-dimensional weight, or None when nothing tells its rows from its columns."""
    name, layer = use.layer
    if use.kind == "Conv1D":
        return None  # GPT-2's linear layer stores [in, out]
    output = getattr(model, "get_output_embeddings", lambda: None)()
    if use.module_name in _LM_HEAD or (output is not None and output is use.owner):
        return "lm_head"
    if _is_router(parameter, use):
        return "router"
    if _attention(use) is not None and name in _QUERY | _OUTPUT:
        return "attention_qkv" if name in _QUERY else "attention_o"
    beside = {*layer._modules, *layer._parameters}
    if name in _GATE_UP | _DOWN and beside & _GATE_UP and beside & _DOWN:
        return "mlp_down" if name in _DOWN else "mlp_gate_up"
    if isinstance(use.owner, nn.Linear):
        return "matrix"
    return "embedding" if "embed" in use.leaf.lower() else None


def _is_router(parameter: Tensor, use: _Use) -> bool:
    """A router calls itself so, or is a gate with experts beside it; a single row (a shared expert's gate) is none."""
    if parameter.shape[0] == 1:
        return False
    if "router" in f"{use.kind}.{use.module_name}".lower():
        return True
    beside = use.chain[1][1]._modules if len(use.chain) > 1 else {}
    return use.module_name in ("gate", "gating", "wg") and any("expert" in name.lower() for name in beside)


def _scores(use: _Use) -> str:
    """How a router turns logits into scores: what its attributes say, else which function its forward calls."""
    near = [module for _, module in use.chain[:2]]
    for module in near:
        for holder in (module, getattr(module, "config", None)):
            function = getattr(holder, "scoring_func", None)
            if isinstance(function, str):
                return f"{function} scores"
    if hasattr(use.owner, "e_score_correction_bias"):
        return "sigmoid scores"
    for module in near:
        code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
        called = set(code.co_names) if code else set()
        if called & {"softmax", "sigmoid"}:
            return "softmax scores" if "softmax" in called else "sigmoid scores"
    return "softmax scores assumed"


def _logits_are_capped(model: nn.Module) -> bool:
    """Whether a tanh soft-cap (Gemma 2) follows the LM head; it breaks the shift symmetry."""
    config = getattr(model, "config", None)
    holders = (config, getattr(config, "text_config", None))
    return any(getattr(holder, "final_logit_softcapping", None) is not None for holder in holders)


def _attention(use: _Use) -> nn.Module | None:
    """The attention layer that holds a projection, if any; a block around attention and MLP does not count."""
    for name, module in use.chain[:2]:
        if "attention" in type(module).__name__.lower() or re.fullmatch(r"(.*_)?(attn|attention)", name):
            return module
    return None


def _head_dim(parameter: Tensor, role: str, use: _Use) -> int:
    """Size of a head, from the attention layer's own attributes; it must divide the axis that holds the heads."""
    size = parameter.shape[-2 if role == "attention_qkv" else -1]
    attention = _attention(use) or use.layer[1]
    found: Any = getattr(attention, "v_head_dim", None) if role == "attention_o" else None
    found = found or getattr(attention, "head_dim", None)
    if found is None:
        counts = [
            getattr(holder, key, None)
            for holder in (attention, getattr(attention, "config", None))
            for key in ("num_heads", "n_heads", "n_head", "num_attention_heads")
        ]
        heads = next((count for count in counts if isinstance(count, int) and count > 0), None)
        found = _inner_size(attention, size) // heads if heads else None
    if not isinstance(found, int) or found <= 0 or size % found:
        raise ValueError(
            f"cannot split {use.name} (shape {tuple(parameter.shape)}) into heads: {type(attention).__name__} says "
            f"head_dim={found}; set its head_dim, or assign={{{use.name!r}: 'matrix'}}"
        )
    return found


def _inner_size(attention: nn.Module, size: int) -> int:
    """H * dh from the output projection, whose heads are neither shared nor fused; ``size`` where there is none."""
    for name in _OUTPUT & attention._modules.keys():
        weight = getattr(attention._modules[name], "weight", None)
        if isinstance(weight, Tensor) and weight.ndim == 2:
            return int(weight.shape[1])
    return size


def _expert_orientations(parameter: Tensor, role: str, use: _Use) -> tuple[Orientation, Orientation | None]:
    """(units, matrices) of stacked experts, from the shapes of gate_up and down side by side.

    With r hidden units [E, 2r, d] goes with [E, d, r], and [E, d, 2r] with [E, r, d]; no sizes fit both. Whether gate
    and up alternate cannot be seen: transformers modules say whether they are concatenated. The units of gpt-oss
    (stored [E, d, 2r], alternating) are pairs of a gate and an up column, those of OLMoE ([E, 2r, d], gate first)
    single rows, as in the paper's routing.
    """
    weights = use.owner._parameters
    gate_up = [value for name, value in weights.items() if name in _GATE_UP and value is not None]
    down = [value for name, value in weights.items() if name in _DOWN and value is not None]
    if len(gate_up) == len(down) == 1 and gate_up[0].ndim == down[0].ndim == 3:
        wide, narrow = gate_up[0].shape[1:], down[0].shape[1:]
        concatenated = bool(getattr(use.owner, "is_concatenated", True))
        if wide[0] == 2 * narrow[1] and wide[1] == narrow[0]:
            if role == "expert_down":
                return "col", "row"
            return "row", "olmoe_gate_up_pair" if concatenated else None
        if wide[1] == 2 * narrow[0] and wide[0] == narrow[1]:
            if role == "expert_down":
                return "row", "col"
            return ("col", None) if concatenated else ("gpt_oss_gate_up_pair", "gpt_oss_gate_up_pair")
    raise ValueError(
        f"cannot read the layout of {use.name} (shape {tuple(parameter.shape)}, module {use.kind}): "
        "expected one gate_up [E, 2r, d] with one down [E, d, r], or [E, d, 2r] with [E, r, d]"
    )
