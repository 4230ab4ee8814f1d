"""The two ways a run can go wrong that are not symcheck's fault; both carry exactly one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """The request cannot be carried out as written: names what, where and the remedy."""


class CandidateFault(Exception):
    """The optimizer under test failed outside of a question, e.g. its constructor raised. Becomes verdict ``error``."""


def one_line(text: object, limit: int = 300) -> str:
    """``text`` with every run of white space replaced by one blank, cut at ``limit`` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def describe_exception(error: BaseException) -> str:
    """``TypeName: message`` on one line."""
    message = one_line(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not in a table: close matches if there are any, else all known names."""
    names = list(map(str, known))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return UsageError(f"unknown {kind} {name!r}: did you mean {' or '.join(map(repr, close))}?")
    return UsageError(f"unknown {kind} {name!r}; known: {', '.join(names) or 'none'}")
