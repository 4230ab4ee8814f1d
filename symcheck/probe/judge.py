"""From questions to verdicts: what the searches and the contracts found, said in the terms of a report."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from groups import BLOCKS, JOINT_BLOCKS, Block, get_block, parse_action
from symcheck.probe.contracts import check_contract
from symcheck.probe.measure import LEAST_FLOOR, VISIBLE, Defect
from symcheck.probe.names import BUDGETS, CONTRACTS, Budget, Question
from symcheck.probe.nature import Nature, observe
from symcheck.probe.numeric import numeric_of
from symcheck.probe.relation import Property
from symcheck.probe.search import Findings, Search
from symcheck.probe.strata import Shapes, draw_inputs
from symcheck.probe.trajectory import CandidateError, ConfiguredCandidate
from symcheck.probe.witness import describe
from symcheck.result import ORDINARY, Evidence, Numeric, Result, Status, Verdict


def probe(
    candidate: ConfiguredCandidate,
    questions: Iterable[Question],
    *,
    budget: str | Budget,
    dtypes: Sequence[str],
    seed: int,
) -> Iterator[Result]:
    """Answer every question about one candidate by adversarial search, in order; one result each.

    ``dtypes`` are the parameter types (``"float64"``, ``"float32"``, ``"bfloat16"``) for the numeric column.
    """
    judge = Judge(candidate, BUDGETS[budget] if isinstance(budget, str) else budget, tuple(dtypes), seed)
    for question in questions:
        started = time.perf_counter()
        result = judge.answer(question)
        yield dataclasses.replace(result, seconds=round(time.perf_counter() - started, 4))


class Judge:
    """Answers questions about one candidate by adversarial search; what it learns about it serves all of them."""

    def __init__(self, candidate: ConfiguredCandidate, budget: Budget, dtypes: tuple[str, ...], seed: int) -> None:
        self.candidate = candidate
        self.budget = budget
        self.dtypes = dtypes
        self.seed = seed
        self.answers: dict[tuple[Any, ...], Result] = {}
        self.natures: dict[Shapes, Nature | CandidateError] = {}

    def answer(self, question: Question) -> Result:
        """The verdict on one question."""
        if question.property in CONTRACTS:
            return self._contract(question)
        block = get_block(question.block)
        action = parse_action(question.action)
        shapes = tuple(s for s in question.shapes or block.shapes if _fits(action, s))
        asked = Property(
            question.property, action, centred=block.centred_gradients or question.property == "horizontality"
        )
        block = dataclasses.replace(block, action=action, shapes=shapes)
        # Blocks that share an action and its inputs share the answer: an embedding moves like a gate projection.
        key = (asked, shapes)
        if key not in self.answers:
            self.answers[key] = self._property(question, asked, block)
        return dataclasses.replace(self.answers[key], block=question.block)

    # -- properties ----------------------------------------------------------------------------------------------

    def _property(self, question: Question, asked: Property, block: Block) -> Result:
        blank = self._blank(question)
        if not block.shapes:
            return dataclasses.replace(
                blank, verdict=Verdict.DECLINED, reason=f"no shape of block {block.name} fits {question.action}"
            )
        try:
            nature = self.nature(block)
        except CandidateError as error:
            return dataclasses.replace(blank, **self._blame(error, block))
        if not nature.reproducible:
            return dataclasses.replace(
                blank,
                verdict=Verdict.DECLINED,
                reason="two runs from the same seed differ: the candidate draws from a source that no seed reaches",
            )
        search = Search(self.candidate, nature, asked, block, self.budget, self.seed)
        try:
            found = search.run()
        except CandidateError as error:
            return dataclasses.replace(blank, **self._blame(error, block))
        if found.refutation is not None:
            return self._refuted(blank, search, search.nature)
        return self._survived(blank, search, search.nature, block)

    def _refuted(self, blank: Result, search: Search, nature: Nature) -> Result:
        if nature.seed_dependent:
            return dataclasses.replace(
                blank,
                verdict=Verdict.DECLINED,
                reason=f"the update is random ({', '.join(nature.random) or 'seed-dependent'}) and not equivariant for "
                "a fixed seed; whether its distribution is cannot be decided by search",
            )
        trial, defect = search.smallest()
        witness = describe(
            self.candidate,
            self.candidate.config,
            blank.block,
            search.question,
            trial,
            defect,
            promoted=nature.arithmetic.promote,
            unseen=nature.unseen,
            gauge=search.found.gauge,
            seed=self.seed,
        )
        evidence = Evidence(
            witness=witness,
            examples=search.found.examples,
            steps=defect.step,
            defect=defect.value,
            noise_floor=defect.floor,
            shapes=trial.inputs.shapes,
        )
        return dataclasses.replace(
            blank,
            verdict=Verdict.REFUTED,
            reason=f"the sides part at step {defect.step} by {defect.value:.2g} of the update"
            + (", which depends on the choice of eigenvectors of a repeated eigenvalue" if search.found.gauge else ""),
            conditions=nature.notes,
            evidence=evidence,
            numeric={dtype: Numeric(Status.UNTESTED) for dtype in self.dtypes},
        )

    def _survived(self, blank: Result, search: Search, nature: Nature, block: Block) -> Result:
        found = search.found
        if not found.shapes:
            return dataclasses.replace(blank, **self._blame(next(iter(found.refused.values())), block))
        vacuous = _vacuous(found)
        if vacuous:
            return dataclasses.replace(blank, verdict=Verdict.VACUOUS, reason=vacuous, evidence=_evidence(found, None))
        if ORDINARY in found.undetermined:
            floor = found.undetermined[ORDINARY]
            return dataclasses.replace(
                blank,
                verdict=Verdict.DECLINED,
                reason=f"rounding decides the update on ordinary gradients: a defect of {VISIBLE:.0%} of it would "
                f"drown in noise ({floor:.1g} of it)",
                evidence=_evidence(found, None),
            )
        worst = search.floor_of_worst()
        numeric = {
            dtype: numeric_of(self.candidate, nature, search.question, block, found, worst, dtype, self.seed)
            for dtype in self.dtypes
        }
        for dtype, status in numeric.items():
            if _another_rule(status):
                return dataclasses.replace(
                    blank,
                    verdict=Verdict.DECLINED,
                    reason=f"with {dtype} parameters it is off by {status.ordinary_error:.2g} of the update on "
                    "ordinary gradients, without computing in anything lower: another rule than in float64",
                    evidence=_evidence(found, worst),
                    numeric=numeric,
                )
        return dataclasses.replace(
            blank,
            verdict=Verdict.SUPPORTED,
            conditions=(*_conditions(found, nature), *nature.notes),
            evidence=_evidence(found, worst),
            numeric=numeric,
        )

    # -- contracts -----------------------------------------------------------------------------------------------

    def _contract(self, question: Question) -> Result:
        blank = self._blank(question)
        block = None
        failure: CandidateError | None = None
        for name in ("matrix", *BLOCKS, *JOINT_BLOCKS):
            # A contract is about the implementation: any block that the candidate takes will do, a plain matrix first.
            try:
                self.nature(get_block(name))
                block = get_block(name)
                break
            except CandidateError as error:
                failure = failure or error
        if block is None:
            assert failure is not None  # the loop ended without a block
            return dataclasses.replace(blank, **self._blame(failure, get_block("matrix")))
        try:
            outcome = check_contract(
                question.property, self.candidate, self.nature(block), block, self.budget, self.seed
            )
        except CandidateError as error:
            # The candidate takes this block: it stumbled over the contract's own set-up, an idle parameter say.
            return dataclasses.replace(blank, verdict=Verdict.ERROR, reason=str(error))
        return dataclasses.replace(
            blank,
            verdict=outcome.verdict,
            reason=outcome.reason,
            conditions=outcome.conditions,
            evidence=outcome.evidence,
            numeric=outcome.numeric,
        )

    # -- common --------------------------------------------------------------------------------------------------

    def _blank(self, question: Question) -> Result:
        return Result(
            target=self.candidate.target,
            config=dict(self.candidate.config),
            block=question.block,
            property=question.property,
            action=question.action,
            verdict=Verdict.ERROR,
        )

    def nature(self, block: Block) -> Nature:
        """How the candidate computes on this block, on its first shape that the candidate takes.

        Raises:
            CandidateError: it takes no shape of the block.
        """
        first: CandidateError | None = None
        for shapes in _plain_first(block.shapes):
            if shapes not in self.natures:
                try:
                    inputs = draw_inputs(ORDINARY, shapes, 3, centre=False, seed=self.seed)
                    self.natures[shapes] = observe(self.candidate, inputs)
                except CandidateError as error:
                    self.natures[shapes] = error
            nature = self.natures[shapes]
            if isinstance(nature, Nature):
                return nature
            first = first or nature
        assert first is not None  # every block has a shape
        raise first

    def _blame(self, error: CandidateError, block: Block) -> dict[str, Any]:
        """Verdict and reason for a candidate that raised."""
        if error.needs_closure:
            return {
                "verdict": Verdict.DECLINED,
                "reason": "step() needs a closure: its update depends on a loss function, not on given gradients",
            }
        if error.needs_sparse:
            return {
                "verdict": Verdict.DECLINED,
                "reason": "takes sparse gradients only; group elements make them dense",
            }
        if not error.where and error.stage in ("constructor", "step 1") and self._takes_some_block():
            shape = " and ".join("x".join(map(str, shape)) for shape in block.shapes[0])
            return {"verdict": Verdict.DECLINED, "reason": f"does not take a block of shape {shape}: {error}"}
        return {"verdict": Verdict.ERROR, "reason": str(error)}

    def _takes_some_block(self) -> bool:
        """Whether the candidate runs at all, if only on stacks of matrices or on vectors of another form."""
        for block in (*BLOCKS.values(), *JOINT_BLOCKS.values()):
            try:
                self.nature(block)
            except CandidateError:
                continue
            return True
        return False


def _fits(action: Any, shapes: Shapes) -> bool:
    try:
        action.check(shapes)
    except ValueError:
        return False
    return True


def _plain_first(shapes: Sequence[Shapes]) -> list[Shapes]:
    """Shapes in the order in which they tell most about a candidate: ordinary sizes before one-row and large ones."""
    return sorted(shapes, key=lambda s: (min(min(shape[-2:]) for shape in s) < 2, abs(sum(map(math.prod, s)) - 15)))


def _another_rule(numeric: Numeric) -> bool:
    """Whether a defect in the parameters' own precision is too large, where nothing is singular, to be its rounding."""
    explained = numeric.status is not Status.UNSTABLE or numeric.casts
    return not explained and numeric.ordinary_error is not None and numeric.ordinary_error > VISIBLE


def _vacuous(found: Findings) -> str:
    if ORDINARY in found.nonfinite:
        return "the update is NaN or infinite on ordinary gradients"
    if not found.moved:
        return "the update is zero on every input: nothing could have failed"
    if not found.discerning:
        return "no transformation that was tried changes the inputs of this block: nothing could have failed"
    return ""


def _conditions(found: Findings, nature: Nature) -> tuple[str, ...]:
    conditions = []
    if found.nonfinite:
        conditions.append(f"where the update is finite; it is NaN or infinite on {', '.join(sorted(found.nonfinite))}")
    rounding = sorted(set(found.undetermined) - {"hypothesis"})
    if rounding:
        conditions.append(f"where rounding does not decide the update; it does on {', '.join(rounding)}")
    if found.refused:
        names = ", ".join("+".join("x".join(map(str, shape)) for shape in shapes) for shapes in sorted(found.refused))
        conditions.append(f"on the shapes that it takes; not {names}")
    if nature.seed_dependent:
        conditions.append("for each fixed seed of its random numbers")
    return tuple(conditions)


def _evidence(found: Findings, worst: Defect | None) -> Evidence:
    return Evidence(
        examples=found.examples,
        steps=found.steps,
        defect=worst.value if worst else 0.0,
        noise_floor=worst.floor if worst else LEAST_FLOOR,
        shapes=tuple(shape for shapes in sorted(found.shapes) for shape in shapes),
    )
