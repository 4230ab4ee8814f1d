"""Where answers go: files that were seen to be writable before the work began, and the stream that someone looks at."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from symcheck.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

Answer = TypeVar("Answer")


@contextmanager
def writing(what: str) -> Iterator[None]:
    """UsageError, one line, where ``what`` cannot be written in the body of the ``with`` statement."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{error.filename}: the {what} cannot be written ({error.strerror})") from error


def make_room(what: str, *paths: str | None) -> None:
    """UsageError unless ``what`` can be written to every path (None and ``-`` are none); before the work, so that a
    typing error does not cost it. Makes the folders."""
    with writing(what):
        for path in (Path(path) for path in paths if path not in (None, "-")):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a"):
                pass


def write_json(data: Any, path: str | Path) -> None:
    """Write an answer to a file, or to standard output (``-``). OSError: it cannot be written."""
    text = json.dumps(data, indent=1, allow_nan=False)
    if path == "-":
        print(text)
    else:
        Path(path).write_text(text + "\n", encoding="utf-8")


def show(
    answers: Iterable[Answer],
    plain: Callable[[Answer], str],
    colourful: Callable[[Answer, Console], None] | None = None,
) -> None:
    """Print the answers on standard output if someone looks at it, there in colours if they have some; else on
    standard error."""
    stream = sys.stdout if sys.stdout.isatty() else sys.stderr
    for answer in answers:
        if colourful is not None and stream.isatty():
            from rich.console import Console

            colourful(answer, Console(file=stream, highlight=False))
        else:
            print(plain(answer), file=stream)
