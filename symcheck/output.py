"""Where answers go: files that were seen to be writable before the work began, and the stream that someone looks at."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from symcheck.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

Answer = TypeVar("Answer")


@contextmanager
def writing(what: str, path: str | Path | None = None) -> Iterator[None]:
    """UsageError, one line, where ``what`` cannot be written in the body of the ``with`` statement; to ``path``, where
    the error itself does not say (a full disk has no name)."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        where = error.filename or ("standard output" if path in (None, "-") else path)
        raise UsageError(f"{where}: the {what} cannot be written ({error.strerror})") from error


def make_room(what: str, *paths: str | None) -> None:
    """UsageError unless ``what`` can be written to every path (None and ``-`` are none); before the work, so that a
    typing error does not cost it. Makes the folders."""
    with writing(what):
        for path in (Path(path) for path in paths if path not in (None, "-")):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a"):
                pass


def make_folder(what: str, folder: str | None) -> None:
    """The same for a folder (None is none) that will hold ``what``."""
    if folder is None:
        return
    with writing(what, folder):
        if Path(folder).exists() and not Path(folder).is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "not a folder", folder)
        Path(folder).mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)


def write_json(data: Any, path: str | Path) -> None:
    """Write an answer to a file, or to standard output (``-``). OSError: it cannot be written."""
    text = json.dumps(data, indent=1, allow_nan=False)
    if path == "-":
        print(text, flush=True)
    else:
        Path(path).write_text(text + "\n", encoding="utf-8")


def stream_beside(json_path: str | None) -> TextIO:
    """Where people read: standard output, unless JSON goes there."""
    return sys.stderr if json_path == "-" else sys.stdout


def show(
    answers: Iterable[Answer],
    plain: Callable[[Answer], str],
    colourful: Callable[[Answer, Console], None] | None = None,
    *,
    stream: TextIO,
) -> None:
    """Print the answers, on a terminal in colours if they have some."""
    for answer in answers:
        if colourful is not None and stream.isatty():
            from rich.console import Console

            colourful(answer, Console(file=stream, highlight=False))
        else:
            print(plain(answer), file=stream)


def end_output() -> None:
    """Flush standard output. Where it cannot be written the caller has said so, or nobody is there to be told; Python
    must not complain about it at exit."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
