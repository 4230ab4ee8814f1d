"""What a run says while it trains: a line (or a bar) with loss and time left, a JSONL log, TensorBoard."""

from __future__ import annotations

import importlib
import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

_SECONDS_BETWEEN_LINES = 5.0


class Sink(Protocol):
    """Something that hears about a run."""

    def point(self, step: int, values: Mapping[str, float]) -> None:
        """After ``step`` steps these are the values."""

    def close(self) -> None:
        """The run is over, or interrupted."""


class Jsonl:
    """One line of JSON per point, appended; a resumed run repeats the steps since its last checkpoint."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def point(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the line; NaN and infinity become null."""
        finite = {key: value if math.isfinite(value) else None for key, value in values.items()}
        self._file.write(json.dumps({"step": step, **finite}) + "\n")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class TensorBoard:
    """Scalars for TensorBoard; needs the package ``tensorboard`` (extra ``tensorboard``)."""

    def __init__(self, folder: Path) -> None:
        try:
            module = importlib.import_module("torch.utils.tensorboard")
        except ModuleNotFoundError as error:
            if error.name != "tensorboard":
                raise
            raise ModuleNotFoundError(
                "--tensorboard needs tensorboard: install it with `pip install 'symcheck[tensorboard]'`",
                name="tensorboard",
            ) from None
        self._writer: Any = module.SummaryWriter(str(folder))

    def point(self, step: int, values: Mapping[str, float]) -> None:
        """One scalar per value."""
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)

    def close(self) -> None:
        """Flushes and closes."""
        self._writer.close()


class Progress:
    """Where the run is, on standard error: a bar of rich in a terminal, else a line now and then."""

    def __init__(self, title: str, total: int, first: int) -> None:
        self._title = title
        self._total = total
        self._first = first
        self._began = time.monotonic()
        self._spoke = -math.inf
        self._last: dict[str, float] = {}
        self._bar: Any = _bar(title, total, first)

    def point(self, step: int, values: Mapping[str, float]) -> None:
        """Shows the newest losses, and the time left from the speed since the start or the resumption."""
        self._last.update({key: value for key, value in values.items() if key in ("train_loss", "val_loss")})
        text = "  ".join(f"{key.removesuffix('_loss')} {value:.4f}" for key, value in self._last.items())
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, losses=text)
            return
        now = time.monotonic()
        finished = step == self._total and "val_loss" in values
        if now - self._spoke < _SECONDS_BETWEEN_LINES and not finished:
            return
        self._spoke = now
        left = (now - self._began) * (self._total - step) / max(1, step - self._first)
        print(f"{self._title}  step {step}/{self._total}  {text}  {duration(left)} left", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()


def _bar(title: str, total: int, first: int) -> Any:
    if not sys.stderr.isatty():
        return None
    try:
        rich = importlib.import_module("rich.progress")
        console = importlib.import_module("rich.console").Console(stderr=True)
    except ModuleNotFoundError:
        return None
    columns = ("{task.description}", rich.BarColumn(), rich.MofNCompleteColumn(), "{task.fields[losses]}")
    bar = rich.Progress(*columns, rich.TimeRemainingColumn(), console=console)
    bar.add_task(title, total=total, completed=first, losses="")
    bar.start()
    return bar


def duration(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
