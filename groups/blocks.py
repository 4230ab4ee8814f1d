"""The parameter blocks of a decoder transformer and the symmetry that an optimizer of each must respect.

Source: Lau and Su, arXiv 2605.18106.
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


def get_block(name: str) -> Block:
    """The block of that name. Raises ValueError, one line, listing the known ones."""
    try:
        return BLOCKS[name]
    except KeyError:
        raise ValueError(f"unknown block {name!r}; known: {', '.join(BLOCKS)}") from None
