"""The table of lowerings: one function for each aten operation, entered by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from symcheck.trace.builder import Builder, NotInVocabulary, Sym

Arguments = Mapping[str, Any]
"""The arguments of an operation by the names of its schema, defaults filled in, tensors as `Sym`."""
Result = Sym | tuple[Sym, ...] | list[Sym] | dict[str, list[Sym]]
Lowering = Callable[[Builder, Arguments], Result]
F = TypeVar("F", bound=Lowering)

TABLE: dict[str, Lowering] = {}
"""Every operation that programs can say, by its aten name without overload and in-place underscore."""


def lowers(*names: str) -> Callable[[F], F]:
    """Enter a lowering into the table."""

    def enter(function: F) -> F:
        for name in names:
            if name in TABLE:
                raise ValueError(f"{name} is lowered twice")
            TABLE[name] = function
        return function

    return enter


def lower(builder: Builder, name: str, arguments: Arguments) -> Result:
    """Emit the lines of one aten operation.

    Args:
        builder: receives the lines.
        name: the name of the operation without namespace, overload and in-place underscore (``_foreach_add``).
        arguments: all arguments of the schema by name, defaults filled in, tensors as `Sym`, ``out`` removed.

    Returns:
        The results in the order of the schema. Of an in-place operation: the new value of ``self``. Of ``_foreach_*``:
        the list of new values. Of ``_fused_*``: the new values of every list of tensors it overwrites, by name.

    Raises:
        NotInVocabulary: the operation, or this use of it, is outside the vocabulary.
    """
    if name not in TABLE:
        raise NotInVocabulary(f"the operation {name}")
    try:
        return TABLE[name](builder, arguments)
    except NotInVocabulary as error:
        raise NotInVocabulary(f"{name}: {error}") from error
