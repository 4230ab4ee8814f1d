"""A suspect: one thing that an implementation may do differently, as a change of the reference that can be run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from symcheck.conform.oracle import Oracle, Step

Change = Callable[[Oracle], Oracle]


@dataclass(frozen=True)
class Suspect:
    """A change of the reference.

    ``text`` says what the target would then do, ``family`` what it is about. ``weight`` orders explanations: plain
    mistakes first, far-fetched ones last.
    """

    family: str
    text: str
    change: Change
    weight: int = 1


def hyper(family: str, text: str, weight: int = 1, **changes: object) -> Suspect:
    """A suspect that only changes hyper-parameters."""
    return Suspect(family, text, lambda oracle: oracle.with_rule(**changes), weight)


def around(family: str, text: str, wrap: Callable[[Step], Step], weight: int = 1) -> Suspect:
    """A suspect that puts something around the step of the oracle."""
    return Suspect(family, text, lambda oracle: dataclasses.replace(oracle, step=wrap(oracle.step)), weight)
