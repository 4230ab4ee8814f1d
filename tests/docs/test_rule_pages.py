"""The committed pages of the reference rules are those that the rules give now."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch

from reference import JOINT_RULES, RULES

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS))

import rule_markdown  # noqa: E402
import rule_pages  # noqa: E402

DATA = rule_pages.load()
AGAIN = "run: python docs/rule_pages.py"
TRACED = ("sgd", "row_norm", "olion")
"""Rules that are proved and counted again here."""


def test_every_rule_has_a_page_and_every_page_a_rule() -> None:
    names = {*RULES, *JOINT_RULES}
    assert set(DATA) == names, AGAIN
    written = {path.name for path in rule_pages.HERE.glob("*.md")}
    assert written == {f"{name}.md" for name in names} | {"README.md"}, AGAIN


@pytest.mark.parametrize("name", rule_pages.NAMES)
def test_declarations_are_up_to_date(name: str) -> None:
    stored = DATA[name]
    declared = json.loads(json.dumps(rule_pages.declared(name)))
    assert {key: stored[key] for key in declared} == declared, AGAIN


def test_pages_are_written_from_what_is_stored() -> None:
    for name, text in rule_pages.pages(DATA).items():
        assert (rule_pages.HERE / name).read_text(encoding="utf-8") == text, f"{name}: {AGAIN}"


@pytest.mark.parametrize("name", TRACED)
def test_formula_proof_and_cost_are_found_again(name: str) -> None:
    stored = DATA[name]
    if stored["torch"] != torch.__version__.partition("+")[0]:
        pytest.skip(f"the page was written with torch {stored['torch']}, which may take other operations")
    facts, derivation = rule_pages.traced(name)
    facts = json.loads(json.dumps(facts))
    assert {key: stored[key] for key in facts} == facts, f"{AGAIN} {name}"
    assert (rule_pages.HERE / "proofs" / f"{name}.txt").read_text(encoding="utf-8") == derivation, f"{AGAIN} {name}"


def test_what_is_proved_has_a_derivation_and_what_is_not_has_none() -> None:
    proved = {name for name in RULES if DATA[name]["proof"]["verdict"] == "proved"}
    assert {path.stem for path in (rule_pages.HERE / "proofs").glob("*.txt")} == proved


def test_no_verdict_contradicts_a_declaration() -> None:
    for name in RULES:
        facts = DATA[name]
        assert facts["proof"]["verdict"] != "refuted", name
        for prop, answer in facts["shift"].items():
            trait, _ = rule_markdown.SHIFTS[prop]
            wrong = "refuted" if facts["traits"][trait] else "proved"
            assert answer["verdict"] != wrong, (name, prop)


def test_pictures_and_links_exist() -> None:
    for path in rule_pages.HERE.glob("*.md"):
        text = re.sub(r"`[^`]*`", "", path.read_text(encoding="utf-8"))
        for target in (part.partition(")")[0] for part in text.split("](")[1:]):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_a_changed_default_would_be_noticed() -> None:
    changed = {**DATA, "sgd": {**DATA["sgd"], "defaults": {**DATA["sgd"]["defaults"], "lr": "7"}}}
    assert rule_pages.pages(changed)["sgd.md"] != (rule_pages.HERE / "sgd.md").read_text(encoding="utf-8")


def test_an_unknown_rule_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert rule_pages.main(["rownorm"]) == 2
    assert "unknown rule or option 'rownorm'; known rules: " in capsys.readouterr().err


def test_groups_one_class_above() -> None:
    assert rule_pages.above("Perm(rows) x O(cols)") == [
        "SPerm(rows) x O(cols)",
        "Stab1(rows) x O(cols)",
        "Perm(rows) x GL(cols)",
    ]
    assert "O(entries)" in rule_pages.above("O(rows) x O(cols)")
    assert rule_pages.above("(SPerm(rows) x O(cols)) wr Perm(experts)")[0] == "(O(rows) x O(cols)) wr Perm(experts)"


@pytest.mark.parametrize(
    ("axes", "signed", "text"),
    [
        (None, True, "fixed"),
        (["entries"], False, "like the gradient, without signs"),
        (["rows", "rows"], True, "`S -> A S Aᵀ`"),
        (["cols", "basis"], True, "`S -> B S`"),
        ([None, "cols"], False, "`S -> S |B|ᵀ`"),
        (["directions", "rows", "cols"], True, "axis 2 by `A`, axis 3 by `B`"),
        ([None, None], True, "fixed"),
    ],
)
def test_words_for_the_action_on_a_state(axes: list[str | None] | None, signed: bool, text: str) -> None:
    assert rule_markdown.moves(axes, signed) == text


def test_polynomials_and_sentences() -> None:
    assert (
        rule_markdown.polynomial([["10", 3, 0], ["-1", 1, 1], ["1/2", 0, 1], ["5", 0, 0]]) == "10 m³ - m n + 1/2 n + 5"
    )
    assert rule_markdown.polynomial([["10", 2, 1]], 8) == "80 m² n"
    assert rule_markdown.polynomial([]) == "0"
    assert rule_markdown.first_sentence("``U = g``; small.\nMore. And\n\nmore.") == "`U = g`; small"
