"""What the schema of an aten operation says about it: its arguments and their defaults, what it writes, what it is."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

Kind = Literal["compute", "view", "empty", "leak", "equal", "inert", "dynamic"]

_EMPTY = frozenset({"empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided"})
_LEAKS = frozenset({"_local_scalar_dense", "item", "is_nonzero", "_linalg_check_errors", "_assert_async"})
"""The last two raise where the value of their first argument says so, and a candidate may catch that."""
_INERT = frozenset(
    """
    is_pinned is_same_size promote_types result_type can_cast _assert_tensor_metadata record_stream
    """.split()  # noqa: SIM905 - a table of words
)
"""They answer questions about types and sizes: no value passes."""
_UNDECLARED_VIEWS = frozenset({"_unsafe_view", "unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk"})
_BITS = frozenset({"_conj", "_neg_view"})
"""Views with a bit that says that every entry has to be conjugated or negated."""


@dataclass(frozen=True)
class Operation:
    """One overload of an operation.

    ``name`` is without overload and in-place underscore; ``arguments`` gives name and default of every argument.
    ``written`` are the arguments that it overwrites, ``out`` those of them that are nothing but results.
    """

    name: str
    kind: Kind
    is_random: bool
    arguments: tuple[tuple[str, Any], ...]
    written: tuple[str, ...]
    out: tuple[str, ...]

    @property
    def by_name(self) -> bool:
        """Whether lists of tensors are overwritten in place, several at a time."""
        return self.name.startswith("_fused_")

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments by name."""
        bound = dict(self.arguments)
        for (name, _), value in zip(self.arguments, args, strict=False):
            bound[name] = value
        bound.update(kwargs)
        return bound


@functools.cache
def operation(func: Any) -> Operation:
    """What the schema of ``func`` (a ``torch.ops.aten`` overload) says."""
    schema = func._schema
    namespace, _, name = schema.name.partition("::")
    written = [item for item in schema.arguments if item.alias_info is not None and item.alias_info.is_write]
    kind = _kind(func, namespace, name, bool(written))
    if namespace != "aten":
        name = schema.name
    elif written and name.endswith("_") and not name.endswith("__"):
        name = name.removesuffix("_")
    return Operation(
        name=name,
        kind=kind,
        is_random=torch.Tag.nondeterministic_seeded in func.tags,
        arguments=tuple(
            (item.name, item.default_value if item.has_default_value() else None) for item in schema.arguments
        ),
        written=tuple(item.name for item in written),
        out=tuple(item.name for item in written if item.kwarg_only),
    )


def _kind(func: Any, namespace: str, name: str, writes: bool) -> Kind:
    returns = func._schema.returns
    if namespace == "profiler" or name in _INERT:
        return "inert"
    if namespace != "aten":
        return "compute"
    if name in _LEAKS:
        return "leak"
    if name == "equal":
        return "equal"
    if name in _EMPTY and not writes:
        return "empty"
    if name in _BITS:
        return "compute"
    if torch.Tag.inplace_view in func.tags or name in _UNDECLARED_VIEWS:
        return "view"
    if returns and all(item.alias_info is not None and not item.alias_info.is_write for item in returns):
        return "view"
    if torch.Tag.dynamic_output_shape in func.tags and name not in {"index", "index_put"}:
        return "dynamic"
    return "compute"
