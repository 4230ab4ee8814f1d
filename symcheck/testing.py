"""For the test suite of an optimizer: one test per claim.

    from symcheck.testing import parametrize_with_claims

    @parametrize_with_claims("acme:muon", budget="quick")
    def test_claims(check):
        check()

Importing this module imports neither torch nor pytest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from symcheck.claims import Expectation
from symcheck.errors import UsageError
from symcheck.target import Target

Test = TypeVar("Test", bound=Callable[..., object])


@dataclass(frozen=True)
class ClaimCheck:
    """One claim about one configuration; calling it raises AssertionError if the answer does not meet the claim."""

    target: Target
    block: str
    property: str
    expectation: Expectation
    budget: str

    def __call__(self) -> None:
        """Ask the one question that the claim is about."""
        from symcheck.run import Request, answer

        # A contract belongs to no block; it is asked for by its name alone.
        blocks = None if self.block == "all" else (self.block,)
        report = answer((self.target,), Request(blocks, (self.property,), budget=self.budget))
        result = report[self.block, self.property]
        if not self.expectation.met_by(result.verdict):
            reason = f" ({self.expectation.reason})" if self.expectation.reason else ""
            raise AssertionError(f"{report.describe(result)}{reason}")

    def __str__(self) -> str:
        options = ",".join(f"{key}={value}" for key, value in self.target.settings.items())
        return f"{self.target.name}[{options}]-{self.block}-{self.property}"


def claim_checks(*targets: object, budget: str = "ci", **settings: object) -> list[ClaimCheck]:
    """One check per claim on ``targets`` (target strings, registered names or classes; see :func:`symcheck.certify`).

    Raises UsageError for an unknown target, and for one that nobody claims anything about: it would test nothing.
    """
    from symcheck.run import resolve

    checks = []
    for target in resolve(targets, settings):
        if target.claim is None or not target.claim.expectations:
            raise UsageError(f"{target.name}: there is no claim about it; register it with claims={{...}}")
        for (block, name), expectation in target.claim.expectations.items():
            if target.blocks is None or block in (*target.blocks, "all"):
                checks.append(ClaimCheck(target, block, name, expectation, budget))
    return checks


def parametrize_with_claims(*targets: object, budget: str = "ci", **settings: object) -> Callable[[Test], Test]:
    """Decorator: run the test once per claim, with the claim's check as its argument ``check``."""
    import pytest

    checks = claim_checks(*targets, budget=budget, **settings)
    return pytest.mark.parametrize("check", checks, ids=map(str, checks))
