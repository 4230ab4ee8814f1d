"""What the benchmarks share: one thread, inputs, and ratios measured side by side. Nothing here asserts a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

import pytest
import torch

Compare = Callable[..., None]

_RATIOS: dict[str, dict[str, float]] = {}
"""By benchmark: how many times longer it took than what it was measured against. Printed after the tables."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def compare(benchmark: Any) -> Compare:
    """``compare(function, {"name": baseline, ...})`` times the function and, in turn with it, every baseline.

    The rounds alternate, so that what else the machine does slows both sides down. The median of the ratios, round
    by round, goes into ``extra_info["ratio"]`` and into the summary. ``limits={"name": seconds, ...}`` are times that
    are known and not measured, such as that of the peak of a device.
    """

    def run(
        function: Callable[[], object],
        baselines: Mapping[str, Callable[[], object]],
        *,
        rounds: int = 15,
        limits: Mapping[str, float] | None = None,
    ) -> None:
        seconds: dict[str, list[float]] = {name: [] for name in baselines}

        clock: Callable[[], float] = benchmark._timer  # of --benchmark-timer; time.process_time on a busy machine

        def time_baselines() -> None:
            for name, baseline in baselines.items():
                start = clock()
                baseline()
                seconds[name].append(clock() - start)

        function()  # first calls load libraries and plan workspaces
        time_baselines()
        for times in seconds.values():
            times.clear()
        benchmark.pedantic(function, setup=time_baselines, rounds=rounds)
        if benchmark.disabled:
            return
        pairs = {name: zip(benchmark.stats.stats.data, times, strict=True) for name, times in seconds.items()}
        ratios = {name: median(own / other for own, other in pair) for name, pair in pairs.items()}
        ratios |= {name: median(benchmark.stats.stats.data) / limit for name, limit in (limits or {}).items()}
        benchmark.extra_info["ratio"] = ratios
        _RATIOS[benchmark.name] = ratios

    return run


@pytest.hookimpl(trylast=True)  # after the tables
def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _RATIOS:
        return
    terminalreporter.section("ratios: time of the benchmark over time of the baseline, measured in turn")
    width = max(map(len, _RATIOS))
    for benchmark, ratios in _RATIOS.items():
        told = "   ".join(f"{_two_digits(ratio):>6} x {baseline}" for baseline, ratio in ratios.items())
        terminalreporter.write_line(f"{benchmark:<{width}}  {told}")


def _two_digits(ratio: float) -> str:
    return f"{ratio:.{max(0, 1 - math.floor(math.log10(ratio)))}f}"
