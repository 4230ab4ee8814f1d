"""Repeated work in a program: maximal runs of consecutive segments that are the same up to numbers.

Five Newton-Schulz iterations are five segments of equal operations, each of which reads the results of the one before.
They are found without knowing what they compute, so that one lemma can speak about all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEAVES = frozenset({"number", "zero", "eye"})
"""Operations that stand for a constant wherever they are written: they take no place in a segment."""
TRANSPARENT = frozenset({"round", "coerce"})
"""Operations that are the identity in exact arithmetic."""

LONGEST = 256
"""Longest segment that is looked for; the search takes time proportional to it."""


@dataclass(frozen=True)
class Loop:
    """``repeats`` segments: ``segments[k]`` lists the lines of repetition ``k``, all of one length.

    ``carried`` maps the position (within a segment) of every value that the next repetition reads, to the line that
    plays its part in the first one.
    """

    segments: tuple[tuple[int, ...], ...]
    carried: Mapping[int, int]

    @property
    def repeats(self) -> int:
        """How often the segment occurs."""
        return len(self.segments)


class Flow:
    """What a list of certificate lines computes, seen through casts and constants."""

    def __init__(self, lines: Sequence[Mapping[str, Any]], outputs: Sequence[int]) -> None:
        self.lines = lines
        self.outputs = {self.root(line) for line in outputs}
        live: set[int] = set()
        pending = list(self.outputs)
        while pending:
            line = pending.pop()
            if line not in live:
                live.add(line)
                pending += [self.root(operand) for operand in lines[line]["in"]]
        self.order = [line for line in sorted(live) if lines[line]["op"] not in LEAVES]
        self.place = {line: place for place, line in enumerate(self.order)}
        self.gauges = {data["gauge"]["name"] for data in lines if data.get("gauge")}
        self.shapes = [self._shape(line) for line in self.order]

    def root(self, line: int) -> int:
        """The value itself, where ``line`` is a cast of it."""
        while self.lines[line]["op"] in TRANSPARENT:
            line = self.lines[line]["in"][0]
        return line

    def operands(self, line: int) -> list[int]:
        """The operands of a line, seen through casts."""
        return [self.root(operand) for operand in self.lines[line]["in"]]

    def _shape(self, line: int) -> str:
        """The operation of a line and its law, without the names of its operands and gauges."""
        data = self.lines[line]
        law = json.dumps(data.get("law"), sort_keys=True)
        names = [json.dumps(gauge) for gauge in self.gauges]
        for rank, name in enumerate(sorted((name for name in names if name in law), key=law.index)):
            law = law.replace(name, f'"gauge{rank}"')
        kinds = [self.lines[o]["op"] if self.lines[o]["op"] in LEAVES else "" for o in self.operands(line)]
        return json.dumps([data["op"], data.get("at"), law, kinds], sort_keys=True)


def loops(flow: Flow) -> list[Loop]:
    """The repeated segments, without overlap, in the order of the program."""
    return sorted(_loops(flow, 0, len(flow.order)), key=lambda loop: loop.segments[0])


def _loops(flow: Flow, low: int, high: int) -> list[Loop]:
    best = _best(flow, low, high)
    if best is None:
        return []
    start, end = flow.place[best.segments[0][0]], flow.place[best.segments[-1][-1]] + 1
    return [*_loops(flow, low, start), best, *_loops(flow, end, high)]


def _best(flow: Flow, low: int, high: int) -> Loop | None:
    shapes = flow.shapes[low:high]
    best: tuple[tuple[int, int, int, int], Loop] | None = None
    for period in range(1, min(len(shapes) // 2, LONGEST) + 1):
        start = 0
        while start + period < len(shapes):
            stop = start
            while stop + period < len(shapes) and shapes[stop] == shapes[stop + period]:
                stop += 1
            if stop - start >= period:
                for phase in range(min(period, stop - start - period + 1)):
                    loop = _loop(flow, low + start + phase, period, (stop - start - phase) // period + 1)
                    if loop is not None:
                        saved = (loop.repeats - 1) * period
                        merit = (saved, -period, -len(loop.carried), -(start + phase))
                        if best is None or merit > best[0]:
                            best = merit, loop
            start = stop + 1
    return None if best is None else best[1]


def _loop(flow: Flow, start: int, period: int, repeats: int) -> Loop | None:
    """The loop with its first segment at ``start``: as many repetitions, at most ``repeats``, as read alike."""
    sources = _sources(flow, start, period, 1)
    if sources is None:
        return None
    carried: dict[int, int] = {}
    for kind, position, initial in sources.values():
        if kind == "carried" and carried.setdefault(position, initial) != initial:
            return None
    count = 2
    while count < repeats and _sources(flow, start, period, count) == sources:
        count += 1
    while count > 1 and not _private(flow, start, period, count):
        count -= 1
    # Two equal lines in a row are hardly worth a lemma; two equal paragraphs are.
    if count < 2 or not carried or (count == 2 and period < 3):
        return None
    segments = [tuple(flow.order[start + k * period : start + (k + 1) * period]) for k in range(count)]
    return Loop(tuple(segments), carried)


def _sources(flow: Flow, start: int, period: int, repeat: int) -> dict[tuple[int, int], tuple[str, int, int]] | None:
    """Where repetition ``repeat`` reads each operand, by position and slot; None if not as the first one does.

    ``own`` and ``carried`` operands are positions in the same segment and in the one before, with the line that the
    first repetition reads instead; operands from ``outside`` are lines.
    """
    base, before = start + repeat * period, start + (repeat - 1) * period
    sources: dict[tuple[int, int], tuple[str, int, int]] = {}
    for position in range(period):
        first, here = flow.operands(flow.order[start + position]), flow.operands(flow.order[base + position])
        for slot, (one, two) in enumerate(zip(first, here, strict=True)):
            if flow.lines[one]["op"] in LEAVES:
                if flow.lines[one]["op"] != "number" and flow.lines[one] != flow.lines[two]:
                    return None
                continue
            place, origin = flow.place[two], flow.place[one]
            if place >= base and origin >= start and place - base == origin - start:
                sources[position, slot] = "own", place - base, -1
            elif before <= place < base and origin < start:
                sources[position, slot] = "carried", place - before, one
            elif place < start and one == two:
                sources[position, slot] = "outside", one, one
            else:
                return None
    return sources


def _private(flow: Flow, start: int, period: int, count: int) -> bool:
    """Whether nothing after the run reads a repetition but the last."""
    last, end = start + (count - 1) * period, start + count * period
    inner = set(flow.order[start:last])
    if inner & flow.outputs:
        return False
    return not any(operand in inner for line in flow.order[end:] for operand in flow.operands(line))
