"""Records: made once, kept, made again when something changed; and the page that shows them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from symcheck.audit import atlas, study, variants
from symcheck.audit.pairs import CELLS, spec
from symcheck.audit.study import Record, Settings
from symcheck.cli import cli, run
from symcheck.errors import UsageError
from symcheck.target import Target

QUICK = Settings(workers=1, time_limit=120.0)


def target(name: str, factory: Any, **settings: object) -> Target:
    return Target(name, lambda: factory, settings)


def broken(params: Any, lr: float = 0.1) -> Any:
    raise RuntimeError("no such luck")


def test_records_are_kept_and_made_again_for_other_versions(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    targets = [target("sgd", torch.optim.SGD), target("broken", broken)]
    made = list(study.audit(targets, QUICK, path))
    assert {record.target: len(record.cells) for record in made} == {"sgd": len(CELLS), "broken": 0}
    assert "no such luck" in next(record.reason for record in made if record.target == "broken")
    path.write_text(path.read_text()[:-20])  # as if it had been interrupted within the last line
    before = study.load(path)
    assert len(before) == 1
    again = list(study.audit(targets[:1], QUICK, path))
    assert again == before == study.load(path)
    other = list(study.audit(targets[:1], dataclasses.replace(QUICK, seed=1), path))
    assert other[0].versions != before[0].versions


def test_lines_that_are_no_records_are_named_and_spoil_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "audit.jsonl"
    targets = [target("broken", broken)]
    for garbage in ("{", "[1]", "3", '{"schema": "symcheck.audit/1"}', '{"schema": "x", "cells": []}', "[" * 200_000):
        path.write_text(garbage)  # no end of line: it was cut off
        (made,) = study.audit(targets, QUICK, path)
        assert study.load(path) == [made]
        assert study.damaged(path) == [1]
    monkeypatch.setattr(study, "targets", lambda names: targets)
    assert run(["audit", "torch.optim", "--workers", "1", "--json", str(path)]) == 3
    assert f"{path}:1: not a record, passed over (lines like this: 1)" in capsys.readouterr().err.splitlines()[0]


def test_a_hanging_candidate_is_one_line() -> None:
    def endless(params: Any, lr: float = 0.1) -> Any:
        while True:
            pass

    (record,) = study.audit([target("endless", endless)], dataclasses.replace(QUICK, time_limit=3.0))
    assert not record.cells
    assert "time limit" in record.reason


def test_every_variant_can_be_built() -> None:
    configs = [(one.name, dict(one.settings)) for one in variants.targets()]
    assert len({study.key(*config) for config in configs}) == len(configs)
    for one in variants.targets():
        one.load()
    classes = {name for name in vars(torch.optim) if isinstance(getattr(torch.optim, name), type)}
    assert set(variants.OPTIONS) | set(variants.NOT_RUNNABLE) == classes - {"Optimizer"}


def test_unknown_names_are_one_line() -> None:
    with pytest.raises(UsageError, match="plugin 'nobody'"):
        study.targets(["nobody"])


def test_what_cannot_run_is_listed_with_its_reason() -> None:
    assert "sparse" in study.not_runnable(["torch.optim"])["torch.optim.SparseAdam"]


def record(name: str, holds: dict[str, str], **config: object) -> Record:
    cells = tuple(
        {
            "form": form,
            "action": spec(pair),
            "verdict": holds.get(" x ".join(pair), "refuted"),
            "reason": "no law" if holds.get(" x ".join(pair)) == "supported" else "",
            "conditions": ["simple spectrum"] if form == "square" else [],
            "by": [form, spec(pair)],
        }
        for form, pair in CELLS
    )
    return Record(name, config, cells)


PERMS = {"Perm x Perm": "proved", "Perm x SPerm": "supported"}


def test_the_score_is_the_share_of_what_holds() -> None:
    score = atlas.score([record("a", PERMS)])
    assert (score.proved, score.supported, score.refuted, score.other) == (3, 3, 21, 0)
    assert score.share == 0.5
    assert atlas.undecided([record("a", PERMS)]) == [("a", "supported: no law", 3)]


def test_the_page_shows_the_largest_and_the_smallest() -> None:
    records = [record("p:b", PERMS, foreach=True), record("p:b", PERMS, foreach=False), Record("p:c", {}, (), "hangs")]
    page = atlas.page(records, {"p:d": "needs a model"}, {"torch": "2"})
    rows = [line for line in page.splitlines() if line.startswith("| p:b")]
    assert len(rows) == 2
    assert "foreach=False<br>foreach=True | tall, wide | Perm x Perm | Perm x O, SPerm x Perm |" in rows[0]
    assert "simple spectrum" in rows[1]
    assert "- p:d: needs a model" in page
    assert "- p:c: hangs" in page
    assert page == atlas.page(records[::-1], {"p:d": "needs a model"}, {"torch": "2"})


def test_contradictions_between_audits_are_found() -> None:
    one, two = record("a", PERMS), record("a", {"Perm x Perm": "proved"})
    assert atlas.inconsistent(one, one) == []
    assert len(atlas.inconsistent(one, two)) == 3


def test_the_command_writes_records_and_atlas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "targets", lambda: iter([target("torch.optim.SGD", torch.optim.SGD)]))
    records, page = tmp_path / "a.jsonl", tmp_path / "atlas.md"
    outcome = CliRunner().invoke(
        cli, ["audit", "torch.optim", "--json", str(records), "--atlas", str(page)], standalone_mode=False
    )
    assert outcome.exception is None
    assert outcome.return_value == 0
    assert len(json.loads(records.read_text())["cells"]) == len(CELLS)
    assert "| torch.optim.SGD | - | all | O x O | - |" in page.read_text()
