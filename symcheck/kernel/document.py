"""Strict JSON: one text has one meaning, and a document is compared with its form before anything is read of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

MAX_BYTES = 64 << 20
MAX_DEPTH = 12
MAX_INTEGER = 1 << 53
MAX_FRACTION = 4000  # characters: below the limit of Python's int(), above every float64
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)
_FRACTION = re.compile(r"-?(?:0|[1-9][0-9]*)(?:/[1-9][0-9]*)?")


class Reject(Exception):
    """The document is not a proof: one line that says where and why."""


class Decline(Exception):
    """The document may be right, but is outside what the kernel can check: one line that names it."""


# -- text --------------------------------------------------------------------------------------------------------------


def load(source: str | bytes) -> Any:
    """The value of a JSON text. Reject: not strict JSON (duplicate keys, floats, deep nesting, large ...)."""
    try:
        data = source.encode() if isinstance(source, str) else source
        if len(data) > MAX_BYTES:
            raise Reject(f"document: {len(data)} bytes, at most {MAX_BYTES} are read")
        decoded = data.decode()
        depth = 0
        for match in _TOKEN.finditer(decoded):  # the parser recurses on nesting, so look before
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
            if depth > MAX_DEPTH:
                raise Reject(f"document: nested deeper than {MAX_DEPTH}")
        value = json.loads(
            decoded, object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_number
        )
        if "\\u" in decoded:
            json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate has no encoding
        return value
    except ValueError as error:
        raise Reject(f"document: not JSON in UTF-8: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise Reject(f"document: duplicate key in an object with the keys {_short([key for key, _ in pairs])}")
    return result


def _integer(literal: str) -> int:
    if len(literal) > 17 or abs(int(literal)) >= MAX_INTEGER or literal == "-0":
        raise Reject(f"document: integer {_short(literal)} is not below 2^53")
    return int(literal)


def _number(literal: str) -> None:
    raise Reject(f"document: {_short(literal)} is no integer; other numbers are fractions as text")


def _short(data: object) -> str:
    return repr(data)[:60]


# -- forms -------------------------------------------------------------------------------------------------------------


class Maybe(NamedTuple):
    """The form of what may be null."""

    form: Any


def text(data: object) -> bool:
    """A string."""
    return type(data) is str


def flag(data: object) -> bool:
    """A boolean."""
    return type(data) is bool


def rational(data: object) -> bool:
    """A rational number, written as ``str(Fraction)`` writes it: ``-3/5``, ``0``."""
    good = type(data) is str and len(data) <= MAX_FRACTION and _FRACTION.fullmatch(data)
    return bool(good) and str(Fraction(str(data))) == data


def natural(data: object) -> bool:
    """An integer that is not negative (a boolean is none)."""
    return type(data) is int and data >= 0


def upto(high: int) -> Callable[[object], bool]:
    """An integer from 0 to ``high``."""
    return lambda data: type(data) is int and 0 <= data <= high


def anything(data: object) -> bool:
    """What has a form that is looked at later."""
    return True


def one_of(*choices: object) -> Callable[[object], bool]:
    """One of these strings or integers, listed once."""
    return lambda data: type(data) in (str, int) and data in choices


def conform(data: Any, form: Any, at: str = "document") -> None:
    """Reject unless ``data`` has the form, which looks like it.

    ``[form]`` is a list, ``(form, ...)`` a list of that length, ``{key: form}`` an object; its keys that end in ``?``
    may be missing, and the key ``*`` stands for any. Everything else is one of the functions above.
    """
    todo: list[tuple[Any, Any, tuple[Any, ...]]] = [(data, form, (at,))]
    while todo:
        data, form, path = todo.pop()
        reason = ""
        if isinstance(form, Maybe):
            todo += [] if data is None else [(data, form.form, path)]
        elif type(form) is dict and type(data) is dict:
            known = {key.removesuffix("?"): inner for key, inner in form.items()}
            wrong = [key for key in form if not key.endswith(("?", "*")) and key not in data]
            wrong += [key for key in data if key not in known and "*" not in known]
            reason = f"missing or unknown key {_short(wrong[0])}" if wrong else ""
            todo += [(value, known.get(key, known.get("*")), (*path, key)) for key, value in data.items()]
        elif type(form) is list and type(data) is list:
            todo += [(value, form[0], (*path, number)) for number, value in enumerate(data)]
        elif type(form) is tuple and type(data) is list and len(data) == len(form):
            todo += [(value, inner, (*path, n)) for n, (value, inner) in enumerate(zip(data, form, strict=True))]
        elif not callable(form) or not form(data):
            reason = f"{_short(data)} does not belong there"
        if reason:
            raise Reject(f"{'/'.join(_short(key).strip(chr(39)) for key in path)}: {reason}")
