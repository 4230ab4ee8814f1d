"""From a question to its verdict: search for a counterexample, look for a proof, and never let both stand."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from groups import get_block, parse_action
from symcheck.probe.judge import Judge
from symcheck.probe.names import BUDGETS, CONTRACTS, PROPERTIES, Question
from symcheck.probe.trajectory import CandidateError, ConfiguredCandidate
from symcheck.probe.witness import read
from symcheck.prove.errors import NoProof
from symcheck.prove.refute import refutation
from symcheck.prove.workshop import ANOTHER_PATH, Proved, Workshop
from symcheck.result import Evidence, Result, Verdict

PROVABLE = frozenset({*PROPERTIES, "block_independence"})
"""Questions that a certificate can answer."""


def decide(
    candidate: ConfiguredCandidate, questions: Iterable[Question], *, budget: str, dtypes: Sequence[str], seed: int
) -> Iterator[Result]:
    """Answer every question about one candidate, in order; one result each.

    Every question is searched for a counterexample, whether it has a proof or not. A proof turns "supported" into
    "proved". A counterexample that a proof covers is a defect of symcheck, and reported as an error. One that stands is
    executed again in exact arithmetic where the kernel can.
    """
    decider = _Decider(candidate, Judge(candidate, BUDGETS[budget], tuple(dtypes), seed), budget, seed)
    for question in questions:
        started = time.perf_counter()
        result = decider.answer(question)
        yield dataclasses.replace(result, seconds=round(time.perf_counter() - started, 4))


class _Decider:
    def __init__(self, candidate: ConfiguredCandidate, judge: Judge, budget: str, seed: int) -> None:
        self.candidate = candidate
        self.judge = judge
        self.budget = BUDGETS[budget]
        self.seed = seed
        self.workshop = Workshop(candidate, self.budget, seed=seed)
        self.known: dict[tuple[object, ...], Proved | NoProof] = {}
        self.refuted: dict[tuple[object, ...], Mapping[str, Any] | None] = {}

    def answer(self, question: Question) -> Result:
        """The verdict on one question."""
        result = self._decided(question)
        certified = result.verdict is Verdict.REFUTED and question.property in PROPERTIES
        return self._certified(question, result) if certified else result

    def _decided(self, question: Question) -> Result:
        result = self.judge.answer(question)
        if question.property not in PROVABLE:
            return result
        random = result.verdict is Verdict.DECLINED and self._is_random(question)
        if result.verdict not in (Verdict.SUPPORTED, Verdict.REFUTED) and not random:
            return result
        try:
            proved = self._proof(question)
        except CandidateError as error:
            proved = NoProof(str(error))
        if isinstance(proved, NoProof):
            return result if result.reason else dataclasses.replace(result, reason=f"no proof: {proved}")
        if result.verdict is Verdict.REFUTED:
            return self._reconcile(question, result, proved)
        return self._proved(result, proved)

    def _proved(self, result: Result, proved: Proved, note: str = "") -> Result:
        evidence = dataclasses.replace(result.evidence, certificate=proved.document, witness=None)
        conditions = tuple(dict.fromkeys([*proved.conditions, *result.conditions]))
        return dataclasses.replace(
            result, verdict=Verdict.PROVED, reason=note, conditions=conditions, evidence=evidence
        )

    def _reconcile(self, question: Question, result: Result, proved: Proved) -> Result:
        """A proof and a counterexample: the one that does not apply gives way."""
        witness = result.evidence.witness
        if question.property in CONTRACTS or witness is None or isinstance(witness, str):
            return result  # a contract is about more than the claim that is proved
        _, inputs, relation = read(witness)
        inputs = inputs.first(int(witness["step"]))
        excuse = self.workshop.excuses(proved, inputs, relation.transform(inputs))
        if excuse == ANOTHER_PATH:
            return result
        if excuse:
            evidence = dataclasses.replace(result.evidence, defect=None)
            kept = dataclasses.replace(result, evidence=evidence)
            return self._proved(kept, proved, f"where the condition fails, {result.reason}")
        return dataclasses.replace(
            result,
            verdict=Verdict.ERROR,
            reason=f"symcheck contradicts itself: there is a proof, and {result.reason}; please report this",
            evidence=Evidence(witness=witness, certificate=proved.document),
        )

    def _certified(self, question: Question, result: Result) -> Result:
        """The refutation with a document that the kernel accepts, where there is one."""
        witness = result.evidence.witness
        if not isinstance(witness, Mapping):
            return result
        centred = get_block(question.block).centred_gradients or question.property == "horizontality"
        # The judge gives blocks that share an action the same witness.
        key = (question.property, question.action, centred, id(witness))
        if key not in self.refuted:
            self.refuted[key] = refutation(self.candidate, witness, centred=centred, seed=self.seed)
        document = self.refuted[key]
        if document is None:
            return result
        evidence = dataclasses.replace(result.evidence, certificate=document)
        return dataclasses.replace(result, reason=f"{result.reason}, certified in exact arithmetic", evidence=evidence)

    # -- proofs --------------------------------------------------------------------------------------------------

    def _proof(self, question: Question) -> Proved | NoProof:
        contract = question.property in CONTRACTS
        block = get_block("matrix" if contract else question.block)
        action = block.action if contract else parse_action(question.action)
        shapes = tuple(shapes for shapes in question.shapes or block.shapes if _fits(question, shapes))
        key = (question.property, str(action), shapes)
        if key not in self.known:
            try:
                self.known[key] = (
                    self.workshop.prove_independence()
                    if contract
                    else self.workshop.prove(question.property, action, shapes)
                )
            except NoProof as reason:
                self.known[key] = reason
        return self.known[key]

    def _is_random(self, question: Question) -> bool:
        if question.property in CONTRACTS:
            return False
        try:
            return bool(self.judge.nature(get_block(question.block)).random)
        except CandidateError:
            return False


def _fits(question: Question, shapes: tuple[tuple[int, ...], ...]) -> bool:
    if question.property in CONTRACTS:
        return True
    try:
        parse_action(question.action).check(shapes)
    except ValueError:
        return False
    return True
