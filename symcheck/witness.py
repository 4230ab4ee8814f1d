"""Witness files: executing one again, and the script that shows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symcheck import isolate
from symcheck.errors import UsageError
from symcheck.report import load_json

if TYPE_CHECKING:
    from symcheck.probe import Replay

TIME_LIMIT = 300.0
"""Seconds for one witness; it is a few small steps."""


def replay_file(path: str | Path) -> Replay:
    """Execute the witness in ``path`` again, in a process of its own.

    Raises UsageError if the file or its target is unreadable, or the optimizer cannot be built or run any more.
    """
    import symcheck.probe
    from symcheck.run import resolve_one

    witness = _read(path)
    target = resolve_one(witness["target"], witness["config"])[0]

    def stream() -> Iterator[object]:
        try:
            yield symcheck.probe.replay(target.load(), witness)
        except ValueError as error:
            raise UsageError(f"{path}: {error}") from error

    outcome: Replay | None = None
    for event in isolate.run([isolate.Job(stream, TIME_LIMIT)], workers=1):
        if isinstance(event, isolate.Item):
            outcome = event.value
        elif event.end == "internal":
            raise RuntimeError(event.details or event.text)
        elif event.end != "done":
            raise UsageError(event.text if event.end == "unusable" else f"{path}: {event.text}")
    if outcome is None:
        raise RuntimeError("the replay ended without an answer")
    return outcome


def script_of(path: str | Path) -> str:
    """A script that shows the witness in ``path``; UsageError if the file is no witness."""
    from symcheck.probe import repro_script

    try:
        return repro_script(_read(path))
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error


def _read(path: str | Path) -> dict[str, Any]:
    data = load_json(path, "witness")
    for key, kind in (("schema", str), ("target", str), ("config", dict)):
        if not isinstance(data.get(key), kind):
            raise UsageError(f"{path}: not a witness: {key!r} is missing or not a {kind.__name__}")
    if not data["schema"].startswith("symcheck.witness/"):
        raise UsageError(f"{path}: not a witness: its schema is {data['schema']!r}")
    return data
