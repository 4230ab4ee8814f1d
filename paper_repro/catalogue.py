"""The symmetries of pre-norm decoders, as joint actions on the parameters of a model.

Every function returns one `Symmetry` of one model. A function states what moves; whether the model's function is
preserved depends on the model, and the docstring says when. Sources: vocabulary, neuron, expert and shift symmetries
arXiv 2605.18106; rotations of attention heads arXiv 2502.00264; the RoPE and QK-norm cases are derived in the
docstrings. Weights are ``[out, in]``, ``y = W x``; a factor ``A`` on rows acts as ``W -> A W``, a factor ``B`` on
columns as ``W -> W B^T``, ``B*`` is the inverse transpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import nn

from groups import parse_action
from paper_repro.gains import GAIN_READERS, POST_GAINS
from paper_repro.layout import Region, regions
from paper_repro.symmetry import Slot, Symmetry
from paper_repro.views import (
    View,
    as_one_row,
    column_blocks,
    expert_of,
    head_columns,
    head_planes,
    head_rows,
    row_blocks,
    then,
    unchanged,
)

_RESIDUAL_READERS = ("embedding", "q", "k", "v", "gate", "up", "router", "lm_head")
_RESIDUAL_WRITERS = ("o", "o_bias", "down", "down_bias")

Part = tuple[str, str, Slot]
"""Tensor name in the spec string, factor on it, and where it lies in the model."""


def vocabulary_permutation(model: nn.Module) -> Symmetry:
    """Rows of the embedding and of the LM head permute, and so do the data: preserves the loss of every model."""
    parts = _whole(model, "P(rows)", "embedding", "lm_head")
    return _symmetry("vocabulary permutation", parts, "P = Perm", relabels=True)


def residual_rotation(model: nn.Module, family: str = "O", *, gains: bool = False) -> Symmetry:
    """``W -> W Q^T`` for all that reads the residual stream (and the embedding), ``W -> Q W`` for all that writes it.

    Preserves the function for orthogonal ``Q`` if every RMSNorm gain on the stream is a scalar, for sign flips with any
    gains, and with ``gains=True`` (gains move too, by ``|Q|``) for signed permutations. Post-norm gains (Gemma 3) count
    as gains.
    """
    parts = _whole(model, "Q(cols)", *_RESIDUAL_READERS) + _whole(model, "Q(rows)", "o", "o_bias", "down")
    parts += _whole(model, "Q(cols)", "down_bias")  # of a stack of experts: one bias in each row
    if gains:
        parts += _whole(model, "|Q|(rows)", *GAIN_READERS, *POST_GAINS)
    return _symmetry(f"residual {family}", parts, f"Q = {family}")


def head_shift(model: nn.Module) -> Symmetry:
    """``W -> W + 1 c^T`` on the LM head, or on the embedding where they are tied.

    Preserves the loss (each token's logits move by one number) unless the head is tied or the logits are capped.
    """
    (region, *_) = [*_find(model, "lm_head"), *_find(model, "embedding")]
    return _shift("head shift", region, shifts_logits=True)


def router_shift(model: nn.Module, layer: int, role: str = "router") -> Symmetry:
    """``W -> W + 1 c^T`` on the router, or on its bias (``role="router_bias"``): preserves softmax routing."""
    return _shift(f"{role} shift, layer {layer}", _one(model, role, layer))


def expert_permutation(model: nn.Module, layer: int) -> Symmetry:
    """Router rows and all expert stacks permute together: preserves the function of every model."""
    parts = _whole(model, "P(rows)", "router", "router_bias", "gate_bias", "up_bias", "down_bias", layer=layer)
    parts += _whole(model, "P(experts)", "gate", "up", "down", layer=layer)
    return _symmetry(f"expert permutation, layer {layer}", parts, "P = Perm")


def neuron_permutation(
    model: nn.Module, layer: int, expert: int | None = None, *, halves: Iterable[str] = ("gate", "up")
) -> Symmetry:
    """Gate rows, up rows and down columns permute together: preserves the function of every model.

    ``halves`` is there for the counterexample: permuting one of gate and up alone breaks the function.
    """
    parts = [
        (part, "P(rows)", _slot(region, expert_of(expert)))
        for half in halves
        for part, region in _pairs(model, layer, half, f"{half}_bias")
    ]
    parts.append(("down", "P(cols)", _slot(_one(model, "down", layer), expert_of(expert))))
    return _symmetry(f"neuron permutation, layer {layer}, expert {expert}", parts, "P = Perm")


def up_rescaling(model: nn.Module, layer: int, expert: int | None = None, family: str = "Scale") -> Symmetry:
    """``U -> D U``, ``D_down -> D_down D^{-1}`` with the gate untouched: preserves gated units linear in ``up``.

    SwiGLU and GeGLU are; gpt-oss's ``(clamp(up) + 1)`` is not, even for signs.
    """
    parts = [
        (part, "D(rows)", _slot(region, expert_of(expert))) for part, region in _pairs(model, layer, "up", "up_bias")
    ]
    parts.append(("down", "D*(cols)", _slot(_one(model, "down", layer), expert_of(expert))))
    return _symmetry(f"up rescaling by {family}, layer {layer}, expert {expert}", parts, f"D = {family}")


def value_basis(model: nn.Module, layer: int, head: int, family: str = "GL") -> Symmetry:
    """``W_V -> B W_V``, ``W_O -> W_O B^{-1}`` for one key-value head and all its query heads.

    Preserves every model that does not clip its values (OLMoE's ``clip_qkv``).
    """
    parts = [
        (part, "B(rows)", _slot(region, head_rows(region.heads, head)))
        for part, region in _pairs(model, layer, "v", "v_bias")
    ]
    output = _one(model, "o", layer)
    parts += [(f"o_{i}", "B*(cols)", _slot(output, head_columns(output.heads, i))) for i in _query_heads(model, head)]
    return _symmetry(f"value {family}, layer {layer}, head {head}", parts, f"B = {family}")


def query_key_basis(model: nn.Module, layer: int, head: int, family: str = "U1[half]") -> Symmetry:
    """``W_Q -> A W_Q``, ``W_K -> A^{-T} W_K`` for one key-value head and all its query heads.

    Under RoPE, ``A`` must commute with the rotation of every plane ``(j, j + d_h/2)``: `U1[half]` and no larger
    orthogonal group. With QK-norm the gains must be equal inside each plane too, since a generic gain commutes with
    rotations by 0 and pi only.
    """
    parts = list(_query_key(model, layer, head, head_rows, "A"))
    return _symmetry(f"query/key {family}, layer {layer}, head {head}", parts, f"A = {family}")


def query_key_planes(model: nn.Module, layer: int, head: int, family: str = "Scale") -> Symmetry:
    """One number per RoPE plane: ``a_j`` times both coordinates of plane ``j`` of ``W_Q``, ``1 / a_j`` times those of
    ``W_K``.

    Preserves RoPE attention without QK-norm for all non-zero numbers, with QK-norm for signs.
    """
    parts = list(_query_key(model, layer, head, head_planes, "D"))
    return _symmetry(f"query/key planes {family}, layer {layer}, head {head}", parts, f"D = {family}")


def query_scale(model: nn.Module, layer: int, head: int) -> Symmetry:
    """One positive number times one query head: preserves a model with per-head QK-norm, exactly if its eps is zero."""
    region = _one(model, "q", layer)
    parts = [("q", "D(rows)", _slot(region, as_one_row(head_rows(region.heads, head))))]
    return _symmetry(f"query scale, layer {layer}, head {head}", parts, "D = Scale+")


def head_permutation(model: nn.Module, layer: int) -> Symmetry:
    """Key-value heads permute, with all their query heads: preserves every model.

    Whatever is indexed by head moves along: biases, attention sinks, and the gains of a QK-norm over all heads (OLMoE).
    """
    groups = _config(model).num_key_value_heads
    return _permuted_heads(model, layer, f"head permutation, layer {layer}", row_blocks(groups), column_blocks(groups))


def query_head_permutation(model: nn.Module, layer: int, head: int) -> Symmetry:
    """The query heads that share key-value head ``head`` permute: preserves every model."""
    config = _config(model)
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    queries = slice(head * heads // groups, (head + 1) * heads // groups)
    return _permuted_heads(
        model,
        layer,
        f"query head permutation, layer {layer}, head {head}",
        then(row_blocks(heads), lambda view: view[queries]),
        then(column_blocks(heads), lambda view: view[queries]),
        shared=(),
    )


def gain_gauge(model: nn.Module, role: str, layer: int | None, family: str = "Scale") -> Symmetry:
    """``gain -> D gain``, ``W -> W D^{-1}`` for all readers of that norm: preserves every untied model."""
    parts = _whole(model, "D(rows)", role, layer=layer) + _whole(model, "D*(cols)", *GAIN_READERS[role], layer=layer)
    return _symmetry(f"{role} gauge by {family}, layer {layer}", parts, f"D = {family}")


def stream_scale(model: nn.Module) -> Symmetry:
    """One positive number times the whole residual stream: preserves a model whose RMSNorm eps is zero.

    Embedding and all writers scale; where a norm follows a writer (Gemma 3), that norm's gain scales instead.
    """
    writers = POST_GAINS if _find(model, *POST_GAINS) else _RESIDUAL_WRITERS
    parts = [(region.label, "D(rows)", _slot(region, as_one_row())) for region in _find(model, "embedding", *writers)]
    return _symmetry("stream scale", parts, "D = Scale+")


def _symmetry(name: str, parts: Iterable[Part], where: str, *, relabels: bool = False) -> Symmetry:
    parts = list(parts)
    spec = "; ".join(f"{tensor}: {factor}" for tensor, factor, _ in parts) + f" where {where}"
    return Symmetry(name, parse_action(spec), tuple(slot for *_, slot in parts), relabels)


def _shift(name: str, region: Region, *, shifts_logits: bool = False) -> Symmetry:
    return Symmetry(name, parse_action("Shift(rows)"), (_slot(region),), shifts_logits=shifts_logits)


def _permuted_heads(
    model: nn.Module,
    layer: int,
    name: str,
    rows: View,
    columns: View,
    shared: tuple[str, ...] = ("k", "v", "k_bias", "v_bias"),
) -> Symmetry:
    roles = ("q", "q_bias", "sinks", *shared)
    if _config(model).model_type == "olmoe":  # its QK-norm spans all heads, so that its gains belong to heads
        roles += ("q_gain", "k_gain") if shared else ("q_gain",)
    parts = [(region.role, "P(rows)", _slot(region, rows)) for region in _find(model, *roles, layer=layer)]
    parts.append(("o", "P(rows)", _slot(_one(model, "o", layer), columns)))
    return _symmetry(name, parts, "P = Perm")


def _query_key(
    model: nn.Module, layer: int, head: int, view: Callable[[int, int], View], variable: str
) -> Iterator[Part]:
    for query in _query_heads(model, head):
        for name, region in _pairs(model, layer, "q", "q_bias"):
            yield f"{name}_{query}", f"{variable}(rows)", _slot(region, view(region.heads, query))
    for name, region in _pairs(model, layer, "k", "k_bias"):
        yield name, f"{variable}*(rows)", _slot(region, view(region.heads, head))


def _config(model: nn.Module) -> Any:
    return model.config


def _find(model: nn.Module, *roles: str, layer: int | None = None) -> list[Region]:
    return [region for region in regions(model) if region.role in roles and layer in (None, region.layer)]


def _one(model: nn.Module, role: str, layer: int | None = None) -> Region:
    found = _find(model, role, layer=layer)
    if len(found) != 1:
        raise ValueError(
            f"layer {layer} of the {_config(model).model_type!r} model has {len(found)} parts of role {role!r}, not one"
        )
    return found[0]


def _pairs(model: nn.Module, layer: int, *roles: str) -> list[tuple[str, Region]]:
    return [(region.role, region) for region in _find(model, *roles, layer=layer)]


def _query_heads(model: nn.Module, head: int) -> range:
    config = _config(model)
    shared = config.num_attention_heads // config.num_key_value_heads
    return range(head * shared, (head + 1) * shared)


def _whole(model: nn.Module, factor: str, *roles: str, layer: int | None = None) -> list[Part]:
    """All parts of these roles as they are, experts as stacks, each with ``factor``."""
    found = _find(model, *roles, layer=layer)
    return [(region.label, factor, _slot(region, axes=3 if region.stacked else 2)) for region in found]


def _slot(region: Region, view: View = unchanged, axes: int = 2) -> Slot:
    return Slot(region.parameter, then(region.view, view), region.offset, axes)
