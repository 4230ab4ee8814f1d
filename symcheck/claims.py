"""What somebody says an optimizer does, and when an answer agrees with it.

A claim names a question by a key: ``"router"`` is the equivariance of that block, ``"router/horizontality"`` another
property of it, ``"purity"`` a contract. Negative claims are claims like any other: ``refuted`` is tested too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from symcheck.errors import UsageError, unknown
from symcheck.result import Verdict

# The one place that says which verdicts meet an expectation. A claim is met by nothing weaker than what it says, a
# negative one by nothing weaker than a witness: else it would never notice that a proof or a defect is gone.
_MET_BY: Mapping[Verdict, frozenset[Verdict]] = {
    Verdict.PROVED: frozenset({Verdict.PROVED}),
    Verdict.SUPPORTED: frozenset({Verdict.PROVED, Verdict.SUPPORTED}),
    Verdict.REFUTED: frozenset({Verdict.REFUTED}),
    Verdict.VACUOUS: frozenset({Verdict.VACUOUS}),
    Verdict.DECLINED: frozenset({Verdict.DECLINED}),
    Verdict.ERROR: frozenset({Verdict.ERROR}),
}


@dataclass(frozen=True)
class Expectation:
    """The verdict that a claim predicts for one question, and why."""

    verdict: Verdict
    reason: str = ""

    def met_by(self, verdict: Verdict) -> bool:
        """Whether an answer agrees with this expectation."""
        return verdict in _MET_BY[self.verdict]


def is_met(expected: str, verdict: Verdict) -> bool:
    """Whether ``verdict`` agrees with the claimed verdict ``expected`` (a :class:`Verdict` value)."""
    return Expectation(Verdict(expected)).met_by(verdict)


@dataclass(frozen=True)
class Claim:
    """Everything claimed about one configuration of one optimizer.

    ``symmetry`` is the largest group it claims (an action spec, for a single matrix) and ``degree`` the homogeneity
    degree ``k`` of ``U(cG) = c^k U(G)`` without its eps; None where nothing is claimed. ``expectations`` maps
    ``(block, property)`` to what is expected; contracts stand under the block ``"all"``.
    """

    symmetry: str | None = None
    degree: float | None = None
    expectations: Mapping[tuple[str, str], Expectation] = field(default_factory=dict)

    def expectation(self, block: str, property: str) -> Expectation | None:
        """What is claimed about one question, or None."""
        return self.expectations.get((block, property))


def parse_expectation(key: str, value: object) -> Expectation:
    """An :class:`Expectation` from a verdict name, a ``{"verdict": ..., "reason": ...}`` table or itself."""
    if isinstance(value, Expectation):
        return value
    if isinstance(value, Mapping):
        if not set(value) <= {"verdict", "reason"} or "verdict" not in value:
            raise UsageError(f"claim {key!r}: a table needs the key 'verdict' and may have 'reason', got {list(value)}")
        return Expectation(parse_expectation(key, value["verdict"]).verdict, str(value.get("reason", "")))
    try:
        return Expectation(Verdict(str(value)))
    except ValueError:
        raise UsageError(f"claim {key!r}: {unknown('verdict', str(value), list(Verdict))}") from None


def check_blocks(blocks: Sequence[str]) -> None:
    """UsageError for a name that is not in the block table."""
    from groups import BLOCKS, JOINT_BLOCKS

    known = [*BLOCKS, *JOINT_BLOCKS]
    for block in blocks:
        if block not in known:
            raise unknown("block", block, known)


def parse_claims(claims: Mapping[str, object]) -> dict[tuple[str, str], Expectation]:
    """Claims as users write them, by ``(block, property)``; an unknown name raises :class:`UsageError`."""
    from groups import BLOCKS, JOINT_BLOCKS
    from symcheck.probe.names import ALL, CONTRACTS, PROPERTIES

    known = [*BLOCKS, *JOINT_BLOCKS]
    parsed: dict[tuple[str, str], Expectation] = {}
    for key, value in claims.items():
        block, slash, name = key.partition("/")
        if not slash and block in CONTRACTS:
            question = (ALL, block)
        elif block not in known:
            raise UsageError(f"claim {key!r}: {unknown('block or contract', block, [*known, *CONTRACTS])}")
        elif slash and name not in PROPERTIES:
            raise UsageError(f"claim {key!r}: {unknown('property', name, PROPERTIES)}")
        else:
            question = (block, name or "equivariance")
        parsed[question] = parse_expectation(key, value)
    return parsed
