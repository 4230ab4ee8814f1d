"""What the commands share: the types of their options, and torch loaded so that Ctrl-C cannot break it."""

from __future__ import annotations

import math
from typing import Any

import click

from symcheck.isolate import interrupts_wait
from symcheck.limits import MAX_SECONDS, MAX_SEED

SEED = click.IntRange(0, MAX_SEED)
"""A seed."""


class _Seconds(click.FloatRange):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):  # it is in every range: no comparison with it holds
            self.fail("nan is no number of seconds.", param, ctx)
        return seconds


SECONDS = _Seconds(min=0, min_open=True, max=MAX_SECONDS)
"""A time limit in seconds."""


class TorchCommand(click.Command):
    """A command that needs torch. Its options are read first, so that help and typing errors stay fast."""

    def invoke(self, ctx: click.Context) -> Any:
        """Load torch, then run the command."""
        with interrupts_wait():
            import torch  # noqa: F401
        return super().invoke(ctx)
