"""Strict JSON: one text has one meaning, and every field is read by a typed reader that names its path."""

from __future__ import annotations

import json
import re
from collections.abc import Set as AbstractSet
from fractions import Fraction
from typing import Any

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


def load(source: str | bytes) -> object:
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
        value: object = json.loads(
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


def fields(
    data: object, required: AbstractSet[str], optional: AbstractSet[str] = frozenset(), *, at: str = "document"
) -> dict[str, Any]:
    """An object with all ``required`` keys and no others than the ``optional`` ones."""
    if type(data) is not dict:
        raise Reject(f"{at}: {_short(data)} is no object")
    if wrong := sorted((required - data.keys()) | (data.keys() - required - optional)):
        raise Reject(f"{at}: key {_short(wrong[0])} is {'missing' if wrong[0] in required else 'unknown'}")
    return data


def items(data: object, length: int | None = None, *, at: str) -> list[Any]:
    """A list, of ``length`` entries where given."""
    if type(data) is not list or length not in (None, len(data)):
        raise Reject(f"{at}: {_short(data)} is no list{'' if length is None else f' of {length}'}")
    return data


def text(data: object, choices: AbstractSet[str] | None = None, *, at: str) -> str:
    """A string, one of ``choices`` where given."""
    if type(data) is not str or (choices is not None and data not in choices):
        raise Reject(f"{at}: {_short(data)} is no text" + ("" if choices is None else f" of {_short(sorted(choices))}"))
    return data


def integer(data: object, low: int, high: int, *, at: str) -> int:
    """An integer with ``low <= value <= high`` (a boolean is none)."""
    if type(data) is not int or not low <= data <= high:
        raise Reject(f"{at}: {_short(data)} is no integer from {low} to {high}")
    return data


def flag(data: object, *, at: str) -> bool:
    """A boolean."""
    if type(data) is not bool:
        raise Reject(f"{at}: {_short(data)} is neither true nor false")
    return data


def fraction(data: object, *, at: str) -> Fraction:
    """A rational number, written as ``str(Fraction)`` writes it: ``-3/5``, ``0``."""
    if type(data) is str and len(data) <= MAX_FRACTION and _FRACTION.fullmatch(data):
        value = Fraction(data)
        if str(value) == data:
            return value
    raise Reject(f"{at}: {_short(data)} is no fraction in lowest terms, written like '-3/5'")
