from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from paper_repro import records
from paper_repro.records import RunSpec, code_version, run_id


@pytest.fixture
def presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "smoke").mkdir()
    monkeypatch.setattr(records, "PRESETS", tmp_path)
    code_version.cache_clear()
    yield tmp_path / "smoke"
    code_version.cache_clear()


def test_a_changed_preset_is_another_run(presets: Path) -> None:
    spec = RunSpec("smoke/tiny", "adamw")
    ids = []
    for text in ("steps = 40\nwidth = 8", "width = 8  # small\nsteps = 40", "steps = 41\nwidth = 8"):
        (presets / "tiny.toml").write_text(text)
        code_version.cache_clear()
        ids.append(run_id(spec, "manifest"))
    assert ids[0] == ids[1]  # order and comments say nothing
    assert ids[0] != ids[2]


@pytest.mark.parametrize("other", [RunSpec("smoke/tiny", "muon"), RunSpec("smoke/tiny", "adamw", seed=1)])
def test_another_question_is_another_run(other: RunSpec) -> None:
    assert run_id(RunSpec("smoke/tiny", "adamw"), "m") not in (run_id(other, "m"), run_id(other, "n"))
