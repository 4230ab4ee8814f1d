"""Whether the smoke runs did what they are for: run to the end, and learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from paper_repro.planning.metrics import final_loss, initial_loss
from paper_repro.records import RunRecord
from paper_repro.report.document import Section


@dataclass(frozen=True)
class Learnt:
    """How many runs there are, how many finished, and how many of them ended below the loss they began with."""

    runs: int
    finished: int
    fell: int
    smallest: float
    largest: float

    @property
    def all(self) -> bool:
        """Whether every run finished with a lower loss."""
        return self.runs == self.finished == self.fell

    @property
    def sentence(self) -> str:
        """The same in words."""
        text = f"{self.finished} of {self.runs} smoke runs finished; the validation loss fell in {self.fell} of them"
        return text + (f", by {self.smallest:.2f} to {self.largest:.2f} nats" if self.fell else "")


def learnt(records: Sequence[RunRecord]) -> Learnt:
    """Counts over smoke runs."""
    finished = [record for record in records if record.outcome == "finished"]
    falls = [initial_loss(record) - final_loss(record) for record in finished]
    fell = [fall for fall in falls if fall > 0]
    return Learnt(len(records), len(finished), len(fell), min(fell, default=math.nan), max(fell, default=math.nan))


def smoke_section(records: Sequence[RunRecord]) -> Section:
    """The first section of a smoke report, in the place of verdicts."""
    return Section("Did it work?", paragraphs=(learnt(records).sentence + ".",))
