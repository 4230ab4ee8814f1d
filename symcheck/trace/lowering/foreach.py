"""Operations on lists of tensors: each tensor by the operation on one."""

from __future__ import annotations

import functools
from typing import Any

from symcheck.trace.builder import Builder, NotInVocabulary, Sym
from symcheck.trace.lowering.table import TABLE, Arguments, lowers

_SECOND = {"scalar": "other", "scalars": "other"}
_VALUE = {"scalars": "value"}
_UNARY = (
    "abs neg sign sqrt rsqrt reciprocal exp expm1 log log1p log2 sigmoid tanh atan asin sin cos tan sinh cosh erf erfc "
    "round trunc ceil floor frac lgamma"
)
_RENAMED: dict[str, dict[str, str]] = {
    **dict.fromkeys(("add", "sub", "mul", "div", "maximum", "minimum"), _SECOND),
    "clamp_min": {"scalar": "min", "scalars": "min", "other": "min"},
    "clamp_max": {"scalar": "max", "scalars": "max", "other": "max"},
    "addcmul": _VALUE,
    "addcdiv": _VALUE,
    "lerp": {"tensors1": "end", "weights": "weight", "scalars": "weight"},
    "pow": {},
    "norm": {},
    "max": {},
    "copy": {},
    "zero": {},
    **{name: {} for name in _UNARY.split()},
}
"""The operations, and how the arguments of the list are called by the operation on one tensor."""
_DEFAULTS: dict[str, dict[str, Any]] = {"addcmul": {"value": 1}, "addcdiv": {"value": 1}}


def _foreach(builder: Builder, given: Arguments, *, name: str) -> list[Sym]:
    if isinstance(given.get("scalars"), Sym):
        raise NotInVocabulary("scalars in a tensor")
    renamed = {_RENAMED[name].get(key, key): argument for key, argument in given.items()}
    # The exponents, not the base, may be the list.
    length = max(len(argument) for argument in renamed.values() if isinstance(argument, list | tuple))
    results = []
    for at in range(length):
        one = {
            key: argument[at] if isinstance(argument, list | tuple) else argument for key, argument in renamed.items()
        }
        result = TABLE[name](builder, {**_DEFAULTS.get(name, {}), **one})
        if not isinstance(result, Sym):
            raise NotInVocabulary("several results for each tensor")
        results.append(result)
    return results


for _name in _RENAMED:
    lowers(f"_foreach_{_name}")(functools.partial(_foreach, name=_name))
