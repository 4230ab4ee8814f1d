"""Witness files: executing one again, and the script that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symcheck import isolate
from symcheck.errors import UsageError
from symcheck.report import load_json

if TYPE_CHECKING:
    from symcheck.probe import Replay
    from symcheck.target import Candidate

TIME_LIMIT = 300.0
"""Seconds for one witness; it is a few small steps."""


def replay_file(path: str | Path) -> Replay:
    """Execute the witness in ``path`` again, in a process of its own.

    Raises UsageError if the file or its target is unreadable, or the optimizer cannot be built or run any more.
    """
    from symcheck.probe import replay

    found: Replay = _about(path, replay)
    return found


def script_of(path: str | Path) -> str:
    """A script that shows the witness in ``path``. UsageError if the file is no witness, or names an optimizer that
    cannot be built, or that a script cannot import."""
    from symcheck import registry
    from symcheck.probe import repro_script

    def script(candidate: Candidate, witness: dict[str, Any]) -> str:
        if registry.find(candidate.target) is not None:
            raise UsageError(f"{candidate.target} is a registered name, which a script cannot import: symcheck replay")
        return repro_script(witness)

    found: str = _about(path, script)
    return found


def _about(path: str | Path, ask: Callable[[Candidate, dict[str, Any]], object]) -> Any:
    """``ask`` about the witness in ``path`` and its optimizer, in a process of its own; errors name the file."""
    from symcheck.run import resolve_one

    witness = _read(path)

    def stream() -> Iterator[object]:
        try:
            yield ask(target.load(), witness)
        except ValueError as error:
            raise UsageError(str(error)) from error

    try:
        target = resolve_one(witness["target"], witness["config"])[0]
        answer, fault = isolate.answer(stream, TIME_LIMIT)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    if fault:
        raise UsageError(f"{path}: {fault}")
    return answer


def _read(path: str | Path) -> dict[str, Any]:
    from symcheck.probe.witness import check

    try:
        witness = load_json(path, "witness")
    except RecursionError:
        raise UsageError(f"{path}: not a witness: nested too deeply") from None
    try:
        check(witness)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    return witness
