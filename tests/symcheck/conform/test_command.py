"""The command: its answers as text and JSON, its exit codes, one line for every mistake."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from symcheck.cli import run
from symcheck.conform.command import parse_shape
from symcheck.errors import UsageError

QUICK = ("--shape", "4x3", "--steps", "2")

MINE = """
import torch
class EpsInside(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8):
        super().__init__(params, dict(lr=lr, alpha=alpha, eps=eps))
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                v = self.state[p].setdefault("v", torch.zeros_like(p))
                v.mul_(group["alpha"]).addcmul_(p.grad, p.grad, value=1 - group["alpha"])
                p.sub_(group["lr"] * p.grad / (v + group["eps"]).sqrt())
class Exits(torch.optim.SGD):
    def step(self, closure=None):
        raise SystemExit(5)
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)


def _schema() -> dict[str, object]:
    return json.loads(resources.files("symcheck").joinpath("schema/conformance-1.json").read_text())


def test_conforming_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["conform", "torch.optim.SGD", "--against", "rule:sgd", "--dtype", "float64", *QUICK]) == 0
    assert "torch.optim.SGD conforms to rule:sgd" in capsys.readouterr().out


def test_departure_with_its_cause_in_text_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["conform", "mine.py:EpsInside", "--against", "rule:rmsprop", "--json", "answer.json", *QUICK]
    assert run(arguments) == 1
    page = capsys.readouterr().out
    assert "error: mine.py:EpsInside parts from rule:rmsprop at step 1" in page
    assert "= cause: eps is inside the root: sqrt(v + eps)" in page
    answer = json.loads((tmp_path / "answer.json").read_text())
    jsonschema.validate(answer, _schema())
    (result,) = answer["results"]
    assert result["verdict"] == "departs"
    assert result["departure"]["step"] == 1
    assert result["diagnosis"]["explanations"][0]["causes"] == ["eps is inside the root: sqrt(v + eps)"]
    assert [row["rule"] for row in result["states"]] == ["square"]
    origins = {row["field"]: row["origin"] for row in result["hyper_parameters"]}
    assert origins["beta"] == "alpha"  # a synonym, and it is shown
    assert origins["momentum"] == "rule's default"


def test_json_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["conform", "rule:sgd", "--against", "rule:sgd", "--set", "momentum=0.9", "--json", "-", *QUICK]
    assert run(arguments) == 0
    answer = json.loads(capsys.readouterr().out)
    jsonschema.validate(answer, _schema())
    assert answer["results"][0]["verdict"] == "conforms"


def test_settings_of_target_and_rule(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["conform", "torch.optim.SGD", "--against", "rule:sgd", "--set", "momentum=0.9", "--dtype", "float64"]
    assert run([*arguments, "--against-set", "momentum=0.8", *QUICK]) == 1
    assert "= cause: momentum is 0.9, not 0.8" in capsys.readouterr().out


def test_a_target_that_leaves_is_a_fault_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["conform", "mine.py:Exits", "--against", "rule:sgd", *QUICK]) == 3
    assert "sys.exit(5)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--against", "adamw"], "expected rule:NAME"),
        (["--against", "rule:adamx"], "did you mean"),
        (["--against", "rule:sgd", "--shape", "4by3"], "expected positive sizes joined by x"),
        (["--against", "rule:sgd", "--dtype", "float63"], "unknown dtype"),
        (["--against", "rule:sgd", "--budget", "huge"], "unknown budget"),
        (["--against", "rule:sgd", "--against-set", "mu=0.9"], "has no hyper-parameter 'mu'"),
        (["--against", "rule:sgd", "--against-set", "lr=abc"], "--against-set lr='abc': expected a value such as 0."),
        (
            ["--against", "rule:adamw", "--against-set", "betas=3"],
            "--against-set betas=3: expected a value such as (0.",
        ),
        (["--against", "rule:sgd", "--against-set", "lr=-1"], "lr"),
        (["--against", "rule:sgd", "--set", "speed=3"], "unknown argument 'speed'"),
        ([], "--against"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["conform", "torch.optim.SGD", *arguments]) == 2
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1
    assert says in err


def test_shapes() -> None:
    assert parse_shape("64x32") == (64, 32)
    assert parse_shape("7") == (7,)
    for wrong in ("", "0x3", "4x", "x4", "4X3", "-1"):
        with pytest.raises(UsageError):
            parse_shape(wrong)
