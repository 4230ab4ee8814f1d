"""Averages of the gradients so far. All are linear, so they commute with every linear action of a symmetry."""

from __future__ import annotations

from typing import Any


def ema(average: Any, value: Any, beta: float) -> Any:
    """Exponential moving average ``beta * average + (1 - beta) * value``; zero start, no bias correction."""
    return beta * average + (1 - beta) * value


def heavy_ball(buffer: Any, grad: Any, mu: float, gain: float = 1.0) -> Any:
    """Polyak's buffer ``mu * buffer + gain * grad``; with ``gain = 1`` the moving average over ``1 - mu``."""
    return mu * buffer + gain * grad


def nesterov(accumulate: Any, buffer: Any, grad: Any, mu: float) -> Any:
    """Nesterov's look-ahead: apply ``accumulate`` (`ema` or `heavy_ball`) once more to the same gradient.

    Gives ``(1 - mu) * grad + mu * buffer`` for `ema` and ``grad + mu * buffer`` for `heavy_ball`.
    """
    return accumulate(buffer, grad, mu)
