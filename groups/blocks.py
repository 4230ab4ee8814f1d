"""The parameter blocks of a decoder transformer and the symmetry that an optimizer of each must respect.

Sources: Lau and Su, arXiv 2605.18106; for the symmetries that stretch weights, the abstract of arXiv 2606.29176.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from groups.action import Action
from groups.group_element import Shapes
from groups.spec import parse_action

MATRICES = ((1, 3), (2, 1), (2, 2), (5, 3), (3, 5), (4, 4), (24, 16), (16, 24), (40, 24))
"""From tiny to larger than any internal block: one row, one column, square, tall, wide, and those again at size."""
HEAD_ROWS = ((2, 3), (2, 1), (2, 2), (6, 3), (4, 6), (4, 4), (24, 16), (16, 24), (40, 24))
"""The same for two heads stacked along the rows."""
SWIGLU_SIZES = ((1, 3), (2, 1), (2, 2), (5, 3), (3, 5), (4, 4), (24, 16), (16, 24))
"""Hidden and residual width of a SwiGLU triple."""
JOINT_SIZES = ((1, 3), (2, 1), (2, 2), (5, 3), (3, 5), (4, 4), (16, 24))
"""Number of neurons and residual width of the joint blocks."""
HEAD_SIZES = ((1, 3), (1, 1), (2, 2), (3, 4), (2, 6), (4, 3), (8, 12))
"""Size of a head, or of half of it where heads are made of planes, and residual width."""


@dataclass(frozen=True)
class Block:
    """A parameter class: the action that a compatible rule must commute with, and shapes to try, smallest first.

    ``centred_gradients`` says that the gradients of such a block satisfy ``1^T G = 0`` (softmax shift).
    """

    name: str
    action: Action
    centred_gradients: bool
    summary: str
    shapes: tuple[Shapes, ...]


def _single(sizes: tuple[tuple[int, int], ...]) -> tuple[Shapes, ...]:
    return tuple((size,) for size in sizes)


def _mirrored(sizes: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    return tuple((n, m) for m, n in sizes)


def _stacked(sizes: tuple[tuple[int, int], ...]) -> tuple[Shapes, ...]:
    return tuple(((2 + index % 2, *size),) for index, size in enumerate(sizes))


_TABLE = (
    ("matrix", "O(rows) x O(cols)", False, "general hidden matrix", _single(MATRICES)),
    ("embedding", "Perm(rows) x O(cols)", False, "token embedding, vocabulary x width", _single(MATRICES)),
    (
        *("lm_head", "Perm(rows) x O(cols) + Shift(rows)", True),
        *("untied output matrix, vocabulary x width", _single(MATRICES)),
    ),
    ("swiglu_gate", "Perm(rows) x O(cols)", False, "gate projection, hidden x width", _single(MATRICES)),
    ("swiglu_up", "Perm(rows) x O(cols)", False, "up projection, hidden x width", _single(MATRICES)),
    ("swiglu_down", "O(rows) x Perm(cols)", False, "down projection, width x hidden", _single(_mirrored(MATRICES))),
    (
        "swiglu",
        "gate: P(rows) x Q(cols); up: P(rows) x Q(cols); down: Q(rows) x P(cols) where P = Perm, Q = O",
        False,
        "gate, up and down moved together by hidden permutation and residual rotation",
        tuple(((r, d), (r, d), (d, r)) for r, d in SWIGLU_SIZES),
    ),
    (
        *("router", "Perm(rows) x O(cols) + Shift(rows)", True),
        *("softmax router, experts x width", _single(MATRICES)),
    ),
    (
        *("attention_qkv", "(O wr Perm[2])(rows) x O(cols)", False),
        *("query, key or value projection, (heads head_size) x width", _single(HEAD_ROWS)),
    ),
    (
        *("attention_o", "O(rows) x (O wr Perm[2])(cols)", False),
        *("output projection, width x (heads head_size)", _single(_mirrored(HEAD_ROWS))),
    ),
    (
        *("experts", "(Perm(rows) x O(cols)) wr Perm(experts)", False),
        *("stacked expert projections, experts x hidden x width", _stacked(MATRICES)),
    ),
    ("coordinate", "Perm(rows) x Perm(cols)", False, "a matrix whose rows and columns are labels", _single(MATRICES)),
)

BLOCKS: Mapping[str, Block] = MappingProxyType(
    {name: Block(name, parse_action(spec), centred, summary, shapes) for name, spec, centred, summary, shapes in _TABLE}
)
"""Every block by name."""


_NEURONS = tuple(((r, d), (d, r)) for r, d in JOINT_SIZES)
_HEADS = tuple(((2 * h, d), (d, 2 * h)) for h, d in HEAD_SIZES)

_JOINT_TABLE = (
    (
        *("relu_scaling", "up: D(rows); down: D*(cols) where D = Scale+"),
        *("rescaling of ReLU neurons: what comes in grows, what goes out shrinks", _NEURONS),
    ),
    (
        *("swiglu_scaling", "up: D(rows); down: D*(cols) where D = Scale"),
        *("rescaling and reflection of SwiGLU neurons, whose gate stays", _NEURONS),
    ),
    (
        "swiglu_whole",
        "gate: |M|(rows) x Q(cols); up: M(rows) x Q(cols); down: Q(rows) x M*(cols) where M = Monomial, Q = O",
        "all symmetries of a SwiGLU triple: neurons permuted, rescaled and reflected; residual rotation",
        tuple(((r, d), (r, d), (d, r)) for r, d in JOINT_SIZES),
    ),
    (
        *("value_output_rotation", "value: B(rows); output: B(cols) where B = (O wr 1[2])"),
        *("rotations of each of two heads between value and output", _HEADS),
    ),
    (
        *("value_output_linear", "value: B(rows); output: B*(cols) where B = (GL wr 1[2])"),
        *("every change of basis of each of two heads between value and output", _HEADS),
    ),
    (
        *("query_key_rope", "query: A(rows); key: A(rows) where A = (U1[half] wr 1[2])"),
        "a phase for each plane of each of two heads, which commutes with rotary positions",
        tuple(((4 * h, d), (4 * h, d)) for h, d in HEAD_SIZES),
    ),
    (
        *("query_key_linear", "query: A(rows); key: A*(rows) where A = (GL wr 1[2])"),
        "every change of basis of each of two heads between query and key, without rotary positions",
        tuple(((2 * h, d), (2 * h, d)) for h, d in HEAD_SIZES),
    ),
    (
        *("heads", "query: H(rows); key: H(rows); value: H(rows); output: H(cols) where H = (1 wr Perm[2])"),
        "permutation of two attention heads",
        tuple(((2 * h, d), (2 * h, d), (2 * h, d), (d, 2 * h)) for h, d in HEAD_SIZES),
    ),
    (
        "grouped_heads",
        "query: H(rows); key: H/2(rows); value: H/2(rows); output: H(cols) where H = ((Perm[2] x 1) wr Perm[2])",
        "grouped queries: groups of two heads permuted with the head that they share, and within",
        tuple(((4 * h, d), (2 * h, d), (2 * h, d), (d, 4 * h)) for h, d in HEAD_SIZES),
    ),
    (
        *("grouped_query_key", "query: H(rows); key: H/2(rows) where H = ((1[2] x U1[half]) wr 1[2])"),
        "grouped queries with rotary positions: one phase per plane of each shared key head",
        tuple(((8 * h, d), (4 * h, d)) for h, d in HEAD_SIZES),
    ),
    (
        *("grouped_value_output", "value: H/2(rows); output: H(cols) where H = ((1[2] x O) wr 1[2])"),
        "grouped queries: one rotation of each shared value head",
        tuple(((2 * h, d), (d, 4 * h)) for h, d in HEAD_SIZES),
    ),
    (
        "moe",
        "router: P(rows) x Q(cols); gate: P(experts) x Q(cols); up: P(experts) x Q(cols); "
        "down: P(experts) x Q(rows) where P = Perm, Q = O",
        "experts permuted together with the rows of their router; residual rotation",
        tuple(((e, d), (e, r, d), (e, r, d), (e, d, r)) for e, (r, d) in zip((2, 3) * 4, JOINT_SIZES, strict=False)),
    ),
    (
        *("norm_gain", "gain: D(rows); gate: D*(cols); up: D*(cols) where D = Scale"),
        "the gain of a norm, as a column, against the columns of all that reads it",
        tuple(((d, 1), (r, d), (r, d)) for r, d in JOINT_SIZES),
    ),
    (
        *("residual_sign", "reader: P(cols); writer: P(rows); gain: |P|(rows) where P = SPerm"),
        "signed permutation of the residual stream; gains have no sign to lose",
        tuple(((r, d), (d, r), (d, 1)) for r, d in JOINT_SIZES),
    ),
    (
        *("stream_scale", "embedding: c(all); output: c(all); down: c(all) where c = Scale+"),
        "one positive factor on all that writes to the residual stream of a pre-norm network",
        tuple(((r, d), (d, d), (d, r)) for r, d in JOINT_SIZES),
    ),
    (
        *("reader_scale", "gain: c(all); gate: c*(all); up: c*(all) where c = Scale"),
        "one factor on the gain of a norm, its inverse on all that reads it",
        tuple(((d, 1), (r, d), (r, d)) for r, d in JOINT_SIZES),
    ),
    ("norm_scale", "Scale+(all)", "one positive factor on a weight that feeds a norm", _single(MATRICES)),
)

JOINT_BLOCKS: Mapping[str, Block] = MappingProxyType(
    {name: Block(name, parse_action(spec), False, summary, shapes) for name, spec, summary, shapes in _JOINT_TABLE}
)
"""Symmetries that tie several tensors together or stretch them, by name. Most optimizers break most of them, so they
are asked about by name only, and of rules that are made for them. Head blocks have two heads, or two groups of two;
heads can be permuted only where query, key, value and output are all there."""


def get_block(name: str) -> Block:
    """The block of that name, joint or not. Raises ValueError, one line, listing the known ones."""
    found = BLOCKS.get(name) or JOINT_BLOCKS.get(name)
    if found is None:
        raise ValueError(f"unknown block {name!r}; known: {', '.join([*BLOCKS, *JOINT_BLOCKS])}")
    return found
