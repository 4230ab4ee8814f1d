"""Which groups act: the search through the lattice of classes on rows, on columns and on all entries.

An optimizer that commutes with two groups commutes with what they generate, so ``P(rows) x Q(cols)`` holds exactly if
``P(rows)`` and ``Q(cols)`` hold. The lattice of products is therefore given by its *atoms*, one class on one axis:
those that hold are closed downwards in the order of containment, and one question decides everything below or above it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from groups import Action, parse_action
from symcheck.result import Result, Verdict

CLASSES = ("Sign", "Perm", "SPerm", "Stab1", "O", "Scale+", "Scale", "GL")
"""The classes tried on each axis, smaller before larger; a product without a factor on an axis has the trivial one."""
AXES = ("rows", "cols", "entries")
ATOMS = tuple(f"{name}({axis})" for axis in AXES for name in CLASSES)

HOLDS = (Verdict.PROVED, Verdict.SUPPORTED)

Decide = Callable[[str], Result]
"""Answers whether the candidate is equivariant under an action, given its spec: by proof, by witness, or by search."""


@functools.cache
def action(spec: str) -> Action:
    """The action of a spec, parsed once."""
    return parse_action(spec)


def below(small: str, large: str) -> bool:
    """Containment of actions, by spec."""
    return small == large or action(small) <= action(large)


def maximal(specs: Iterable[str]) -> tuple[str, ...]:
    """Those that lie in no other one."""
    pool = list(dict.fromkeys(specs))
    return tuple(a for a in pool if not any(a != b and below(a, b) for b in pool))


def minimal(specs: Iterable[str]) -> tuple[str, ...]:
    """Those that contain no other one."""
    pool = list(dict.fromkeys(specs))
    return tuple(a for a in pool if not any(a != b and below(b, a) for b in pool))


def products(atoms: Iterable[str]) -> tuple[str, ...]:
    """The maximal groups that atoms make up: a class on the rows times one on the columns, or one on the entries."""
    pool = list(atoms)
    rows = maximal(atom for atom in pool if atom.endswith("(rows)")) or ("",)
    cols = maximal(atom for atom in pool if atom.endswith("(cols)")) or ("",)
    joint = [" x ".join(filter(None, pair)) for pair in ((row, col) for row in rows for col in cols)]
    return maximal([*(spec for spec in joint if spec), *(atom for atom in pool if atom.endswith("(entries)"))])


@dataclass
class Lattice:
    """What is known of every atom, and the answers it is known from.

    ``verdicts`` maps an atom to PROVED, SUPPORTED or REFUTED, or to what kept its own question from being answered.
    """

    answers: list[Result] = field(default_factory=list)
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    @property
    def groups(self) -> tuple[str, ...]:
        """The largest groups that hold, proved or supported; more than one only if no class contains them all."""
        return products(self._with(*HOLDS))

    @property
    def proved(self) -> tuple[str, ...]:
        """The largest groups with a proof."""
        return products(self._with(Verdict.PROVED))

    @property
    def excluded(self) -> tuple[str, ...]:
        """The smallest classes that were refuted: every larger one is with them."""
        return minimal(self._with(Verdict.REFUTED))

    @property
    def undecided(self) -> tuple[str, ...]:
        """The classes of which nothing is known."""
        return tuple(atom for atom in ATOMS if self.verdicts.get(atom) not in (*HOLDS, Verdict.REFUTED))

    @property
    def tight(self) -> bool:
        """Whether all that holds is proved and all else is refuted: no class is missing."""
        return set(self.verdicts.values()) <= {Verdict.PROVED, Verdict.REFUTED} and not self.undecided

    def asked(self, spec: str) -> Result | None:
        """The answer to the question about ``spec`` itself, if it was asked."""
        return next((answer for answer in self.answers if answer.action == str(action(spec))), None)

    def ask(self, spec: str, decide: Decide) -> Verdict:
        """Ask one question and draw the conclusions."""
        answer = decide(spec)
        self.answers.append(answer)
        holds, fails = answer.verdict in HOLDS, answer.verdict is Verdict.REFUTED and spec in ATOMS
        for atom in ATOMS:
            if (holds and below(atom, spec) and self.verdicts.get(atom) is not Verdict.PROVED) or (
                fails and below(spec, atom)
            ):
                self.verdicts[atom] = answer.verdict
        if spec in ATOMS:
            self.verdicts.setdefault(spec, answer.verdict)
        return answer.verdict

    def _with(self, *verdicts: Verdict) -> tuple[str, ...]:
        return tuple(atom for atom in ATOMS if self.verdicts.get(atom) in verdicts)


def search(hints: Mapping[str, bool], decide: Decide, *, proofs: bool = False) -> Lattice:
    """Decide every atom with few questions.

    ``hints`` say which atoms to expect to hold. They cost or save questions and never change an answer: the largest
    group expected is asked about first, then the largest atoms that should hold and the smallest that should not.
    ``proofs``: where a group is supported without a proof, look below it for the largest that is proved. A first
    answer that is vacuous ends the search.
    """
    lattice = Lattice()
    for spec in products(atom for atom in ATOMS if hints[atom]):
        if lattice.ask(spec, decide) is Verdict.VACUOUS:
            return lattice
    while left := [atom for atom in ATOMS if atom not in lattice.verdicts]:
        expected = [atom for atom in left if hints[atom]]
        lattice.ask((maximal(expected) or minimal(left))[0], decide)
        if len(lattice.answers) == 1 and lattice.answers[0].verdict is Verdict.VACUOUS:
            return lattice
    while proofs and (open_ := _unproved(lattice)):
        lattice.ask(open_[0], decide)
    return lattice


def _unproved(lattice: Lattice) -> tuple[str, ...]:
    """The largest supported atoms whose own question was not asked yet."""
    return maximal(
        atom for atom, verdict in lattice.verdicts.items() if verdict is Verdict.SUPPORTED and not lattice.asked(atom)
    )
