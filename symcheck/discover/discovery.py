"""`discover`: the largest certified group of a candidate, whether it is tight, and what else characterises it."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from groups import FAMILIES, get_block
from symcheck.discover.algebra import LONG, STEPS, Estimate, embedded, lie_algebra
from symcheck.discover.character import Trait, characterise
from symcheck.discover.generators import hints, random_points
from symcheck.discover.jacobian import FloatArray
from symcheck.discover.lattice import ATOMS, AXES, CLASSES, HOLDS, Decide, Lattice, action, below, search
from symcheck.probe import probe
from symcheck.probe.contracts import Setting
from symcheck.probe.names import BUDGETS, Budget, Question
from symcheck.probe.nature import Nature, observe
from symcheck.probe.trajectory import CandidateError, ConfiguredCandidate, largest, run
from symcheck.report import Report
from symcheck.result import Result, Verdict

BLOCK = "matrix"
SHAPES = ((3, 4), (4, 3))
"""Where generators are tried and algebras estimated: a rule may treat wide and tall matrices differently."""
FALLBACKS = ((2, 4), (4, 2), (4, 4))
"""The same for a candidate that takes neither, because it cuts an axis into halves say."""


@dataclass(frozen=True, eq=False)
class Discovery:
    """The answer to ``symcheck discover``; plain data.

    ``groups`` are the largest groups that hold (several where no class contains them all; none: no class on any axis),
    ``proved`` the largest with a proof, ``excluded`` the smallest classes that were refuted. ``verdicts`` says it for
    every class on every axis and ``answers`` are the questions that were asked. ``disagreements`` are contradictions
    between the answers and the numerical ``estimates`` of the Lie algebra, one line each. ``reason`` says why there is
    nothing to discover, if so.
    """

    target: str
    config: Mapping[str, object]
    claimed: str | None
    groups: tuple[str, ...]
    proved: tuple[str, ...]
    excluded: tuple[str, ...]
    undecided: tuple[str, ...]
    tight: bool
    verdicts: Mapping[str, Verdict]
    answers: tuple[Result, ...]
    estimates: tuple[Estimate, ...] = ()
    disagreements: tuple[str, ...] = ()
    traits: tuple[Trait, ...] = ()
    reason: str = ""
    seconds: float = 0.0

    @property
    def meets_claim(self) -> bool | None:
        """Whether the claimed group is a largest one; None if none is claimed, or too little is known to say."""
        if self.claimed is None or self.reason:
            return None
        if str(action(self.claimed)) in self.groups:
            return True
        too_small = any(below(self.claimed, group) for group in self.groups)
        if too_small or any(below(refuted, self.claimed) for refuted in self.excluded):
            return False
        # A claim outside of the lattice, of heads say, is only contradicted by what it does not contain.
        axes = [atom for atom, verdict in self.verdicts.items() if verdict in HOLDS and not atom.endswith("(entries)")]
        return None if all(below(atom, self.claimed) for atom in axes) else False

    @property
    def exit_code(self) -> int:
        """0 answered, 1 not the group that is claimed, 3 something stayed open or the two methods disagree."""
        if self.meets_claim is False:
            return 1
        return 3 if self.reason or self.undecided or self.disagreements else 0


def discover(
    candidate: ConfiguredCandidate,
    *,
    decide: Decide | None = None,
    proofs: bool = True,
    budget: str = "quick",
    seed: int = 0,
) -> Discovery:
    """Find the largest groups under which ``candidate`` updates a matrix equivariantly, and characterise it.

    ``decide`` answers one question, an action's spec, with a result; by default :func:`proving` does. ``proofs``: it
    can prove, so that groups without a proof are looked into for the largest that has one.
    """
    started = time.perf_counter()
    decide = decide or proving(candidate, budget, seed)
    try:
        lattice, estimates, traits = _explore(candidate, decide, proofs, BUDGETS[budget], seed)
    except CandidateError as error:
        lattice, estimates, traits = Lattice(), (), ()
        lattice.ask("Perm(rows) x Perm(cols)", decide)
        reason = lattice.answers[0].reason or str(error)
    else:
        first = lattice.answers[0]
        reason = first.reason if first.verdict is Verdict.VACUOUS else ""
    claim = getattr(candidate, "claim", None)
    return Discovery(
        target=candidate.target,
        config=dict(candidate.config),
        claimed=getattr(claim, "symmetry", None),
        groups=lattice.groups,
        proved=lattice.proved,
        excluded=lattice.excluded,
        undecided=lattice.undecided,
        tight=lattice.tight,
        verdicts=dict(lattice.verdicts),
        answers=tuple(lattice.answers),
        estimates=estimates,
        disagreements=tuple(disagreements(lattice.verdicts, estimates)) if not reason else (),
        traits=traits,
        reason=reason,
        seconds=round(time.perf_counter() - started, 2),
    )


def proving(candidate: ConfiguredCandidate, budget: str, seed: int) -> Decide:
    """Answers by proof, by witness or by search: `symcheck.decide`."""
    from symcheck.decide import decide

    return _one_by_one(lambda questions: decide(candidate, questions, budget=budget, dtypes=(), seed=seed))


def searching(candidate: ConfiguredCandidate, budget: str | Budget, seed: int) -> Decide:
    """Answers by witness or by search alone: `symcheck.probe`."""
    return _one_by_one(lambda questions: probe(candidate, questions, budget=budget, dtypes=(), seed=seed))


def _one_by_one(answering: Callable[[Iterable[Question]], Iterator[Result]]) -> Decide:
    """What it learns about the candidate, its traces say, serves all questions, though the next is not known yet."""
    waiting: deque[Question] = deque()

    def questions() -> Iterator[Question]:
        while waiting:
            yield waiting.popleft()

    answers = answering(questions())

    def decide(spec: str) -> Result:
        waiting.append(Question(BLOCK, "equivariance", str(action(spec))))
        return next(answers)

    return decide


def _explore(
    candidate: ConfiguredCandidate, decide: Decide, proofs: bool, budget: Budget, seed: int
) -> tuple[Lattice, tuple[Estimate, ...], tuple[Trait, ...]]:
    shapes, steps, nature = _setting(candidate, seed)
    if steps:
        expected = hints(candidate, nature, shapes, steps=steps, seed=seed)
    else:
        expected = {atom: atom in ("Perm(rows)", "Perm(cols)") for atom in ATOMS}
    lattice = search(expected, decide, proofs=proofs)
    if lattice.answers[0].verdict is Verdict.VACUOUS:
        return lattice, (), ()
    estimates = tuple(lie_algebra(candidate, shape, nature=nature, seed=seed) for shape in shapes)
    traits = characterise(Setting(candidate, nature, get_block(BLOCK), budget, seed))
    return lattice, estimates, traits


def _setting(candidate: ConfiguredCandidate, seed: int) -> tuple[list[tuple[int, int]], int, Nature]:
    """Shapes that the candidate takes, how many steps it needs to move (0 if it does not), and its nature.

    Raises:
        CandidateError: it takes none of them.
    """
    taken: list[tuple[int, int]] = []
    failure: CandidateError | None = None
    first = math.inf
    for shape in (*SHAPES, *FALLBACKS):
        if len(taken) == len(SHAPES):
            break
        try:
            steps = run(candidate, random_points(shape, LONG, 1, seed)[0], seed=seed)
        except CandidateError as error:
            failure = failure or error
            continue
        first = min([first, *(number for number, step in enumerate(steps, start=1) if largest(step) > 0)])
        taken.append(shape)
    if not taken:
        assert failure is not None  # there are shapes to try
        raise failure
    count = 0 if math.isinf(first) else STEPS if first <= STEPS else LONG
    nature = observe(candidate, *(random_points(shape, count or STEPS, 1, seed)[0] for shape in taken))
    return taken, count, nature


def comparable(verdicts: Mapping[str, Verdict], estimates: Sequence[Estimate]) -> tuple[str, ...]:
    """The atoms with a Lie algebra about which both methods have something to say."""
    clear = [one for one in estimates if not one.vacuous]
    return tuple(
        atom
        for axis in AXES
        for atom in (f"{name}({axis})" for name in CLASSES)
        if clear
        and not any(one.algebras[axis].ambiguous for one in clear)
        and verdicts.get(atom) in (*HOLDS, Verdict.REFUTED)
        and all(len(_span(atom, one)) for one in clear)
    )


def _span(atom: str, one: Estimate) -> FloatArray:
    name, _, axis = atom.partition("(")
    return embedded(axis.rstrip(")"), FAMILIES[name], one.shape)


def disagreements(verdicts: Mapping[str, Verdict], estimates: Sequence[Estimate]) -> list[str]:
    """Where the numerical estimate contradicts an answer, for every class with a Lie algebra on every axis.

    A group that holds has its algebra among the infinitesimal symmetries of every shape. Conversely, a class whose
    algebra is found on every shape can only be refuted for its other component, which has a class of its own: signs of
    O and Scale, permutations of Stab1.
    """
    clear = [one for one in estimates if not one.vacuous]
    found = []
    for atom in comparable(verdicts, estimates):
        name, _, axis = atom.removesuffix(")").partition("(")
        within = [one.algebras[axis].contains(_span(atom, one)) for one in clear]
        if verdicts[atom] in HOLDS and not all(within):
            size = "x".join(map(str, clear[within.index(False)].shape))
            found.append(f"{atom} is {verdicts[atom]}, but its Lie algebra is not one of symmetries on {size}")
        if verdicts[atom] is Verdict.REFUTED and all(within) and _discrete_holds(name, axis, verdicts):
            found.append(f"{atom} is refuted, but its Lie algebra is one of symmetries on random inputs")
    return found


_COMPONENTS = {"O": "Sign", "Scale": "Sign", "GL": "Sign", "Stab1": "Perm"}
"""A class that meets every connected component of the other."""


def _discrete_holds(name: str, axis: str, verdicts: Mapping[str, Verdict]) -> bool:
    return name not in _COMPONENTS or verdicts.get(f"{_COMPONENTS[name]}({axis})") in HOLDS


def to_dict(discovery: Discovery) -> dict[str, Any]:
    """The discovery as JSON-ready data, an entry of ``symcheck.discovery/1``."""
    return {
        "target": discovery.target,
        "config": dict(discovery.config),
        "groups": list(discovery.groups),
        "proved": list(discovery.proved),
        "refuted": list(discovery.excluded),
        "undecided": list(discovery.undecided),
        "tight": discovery.tight,
        "claimed": discovery.claimed,
        "meets_claim": discovery.meets_claim,
        "verdicts": {atom: verdict.value for atom, verdict in discovery.verdicts.items()},
        "answers": Report(results=list(discovery.answers)).to_dict()["results"],
        "estimates": [_estimate(one) for one in discovery.estimates],
        "disagreements": list(discovery.disagreements),
        "traits": {trait.name: dataclasses.asdict(trait) for trait in discovery.traits},
        "reason": discovery.reason,
        "seconds": discovery.seconds,
    }


def _estimate(one: Estimate) -> dict[str, Any]:
    algebras = {
        where: {
            "dimension": algebra.dimension,
            "orthogonal": algebra.orthogonal,
            "diagonal": algebra.diagonal,
            "parts": list(algebra.parts),
            "rest": algebra.rest,
            "largest_null": algebra.largest_null,
            "smallest_other": algebra.smallest_other,
            "ambiguous": algebra.ambiguous,
            "generator": None if algebra.single is None else np.round(algebra.single, 6).tolist(),
        }
        for where, algebra in one.algebras.items()
    }
    return {"shape": list(one.shape), "error": one.error, "vacuous": one.vacuous, "algebras": algebras}
