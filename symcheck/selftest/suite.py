"""The test of the tester: every mutant must be caught, and no control accused."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

from groups import get_block
from symcheck.claims import Claim
from symcheck.decide import decide
from symcheck.kernel.__main__ import verify
from symcheck.kernel.document import Decline, Reject
from symcheck.probe.names import CONTRACTS, Question
from symcheck.result import Result, Verdict
from symcheck.selftest.controls import CONTROLS, Control
from symcheck.selftest.mutants import MUTANTS, Mutant
from symcheck.target import Candidate


@dataclass(frozen=True)
class Trial:
    """One mutant or control and what became of it."""

    subject: Mutant | Control
    result: Result
    seconds: float

    @property
    def is_mutant(self) -> bool:
        """Whether it is a mutant rather than a control."""
        return isinstance(self.subject, Mutant)

    @property
    def passed(self) -> bool:
        """A mutant got the verdict that exposes it; a control was neither refuted nor found in error."""
        if isinstance(self.subject, Mutant):
            return self.result.verdict is self.subject.expected
        return self.result.verdict in (Verdict.SUPPORTED, Verdict.PROVED)


@dataclass(frozen=True)
class Score:
    """What a self-test adds up to."""

    mutants: int
    killed: int
    controls: int
    false_alarms: int

    @property
    def perfect(self) -> bool:
        """Every mutant killed, no false alarm, and there was something to test."""
        return self.mutants == self.killed > 0 and self.controls > 0 == self.false_alarms


def run(subjects: Sequence[Mutant | Control] | None = None, *, budget: str = "quick", seed: int = 0) -> Iterator[Trial]:
    """Try every mutant and every control (or the given ones), in order."""
    everything: list[Mutant | Control] = [*MUTANTS, *CONTROLS]
    for subject in everything if subjects is None else subjects:
        started = time.perf_counter()
        action = getattr(subject, "action", None)
        if subject.property in CONTRACTS:
            question = Question(subject.block, subject.property, "-")
        else:
            question = Question(subject.block, subject.property, action or str(get_block(subject.block).action))
        claim = Claim(degree=subject.degree) if isinstance(subject, Mutant) else None
        candidate = Candidate(f"selftest:{subject.name}", {}, subject.make, claim)
        (result,) = decide(candidate, [question], budget=budget, dtypes=["float64"], seed=seed)
        yield Trial(subject, result, time.perf_counter() - started)


def score(trials: Sequence[Trial]) -> Score:
    """Kill rate and false alarms of a finished self-test."""
    mutants = [trial for trial in trials if trial.is_mutant]
    controls = [trial for trial in trials if not trial.is_mutant]
    return Score(
        mutants=len(mutants),
        killed=sum(trial.passed for trial in mutants),
        controls=len(controls),
        false_alarms=sum(not trial.passed for trial in controls),
    )


def judge_corpus() -> tuple[int, list[str]]:
    """The kernel over its corpus: how many documents there are, and those that it judged wrongly."""
    folder = resources.files("symcheck.kernel") / "corpus"
    total, wrong = 0, []
    for kind, verdict in (("good", None), ("bad", Reject), ("outside", Decline)):
        for path in sorted((folder / kind).iterdir(), key=lambda item: item.name):
            total += 1
            try:
                verify(path.read_bytes())
                answer: type[Exception] | None = None
            except (Reject, Decline) as error:
                answer = type(error)
            if answer is not verdict:
                wrong.append(f"{kind}/{path.name}")
    return total, wrong
