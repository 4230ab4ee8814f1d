"""The tester is tested: every mutant is caught, no correct optimizer accused, and a broken tester fails here."""

from __future__ import annotations

import dataclasses

import pytest

from symcheck.result import Verdict
from symcheck.selftest import suite
from symcheck.selftest.controls import CONTROLS
from symcheck.selftest.mutants import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_caught(mutant) -> None:
    (trial,) = suite.run([mutant])
    assert trial.passed, f"{trial.result.verdict}: {trial.result.reason}"


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: f"{control.name}-{control.property}")
def test_control_is_not_accused(control) -> None:
    (trial,) = suite.run([control])
    assert trial.passed, f"{trial.result.verdict}: {trial.result.reason}"


def test_there_are_enough_mutants_of_every_kind() -> None:
    assert len(MUTANTS) >= 40
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    exposed = {mutant.property for mutant in MUTANTS}
    from symcheck.probe.names import CONTRACTS, PROPERTIES

    assert exposed == {*PROPERTIES, *CONTRACTS}
    assert {mutant.expected for mutant in MUTANTS} == {Verdict.REFUTED, Verdict.VACUOUS, Verdict.DECLINED}


def test_a_tester_that_always_says_yes_or_always_says_no_scores_badly() -> None:
    trials = list(suite.run([MUTANTS[0], CONTROLS[0]]))
    for verdict in (Verdict.SUPPORTED, Verdict.REFUTED):
        lies = [
            dataclasses.replace(trial, result=dataclasses.replace(trial.result, verdict=verdict)) for trial in trials
        ]
        assert not suite.score(lies).perfect
    assert suite.score(trials).perfect
    assert not suite.score([]).perfect
