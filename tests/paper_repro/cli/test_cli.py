from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from paper_repro import cli
from paper_repro.planning import study
from paper_repro.planning.study import load_study
from paper_repro.records import read_records
from tests.paper_repro.cli.worker import STUDY
from tests.paper_repro.training.conftest import tiny, world  # noqa: F401

for module in ("click", "transformers", "tokenizers", "jinja2", "matplotlib"):
    pytest.importorskip(module)


@pytest.fixture
def folders(tiny, tmp_path, monkeypatch):  # noqa: F811
    """Arguments that name the folders, in a world with a plan of two runs."""
    monkeypatch.setattr(study, "load_study", lambda scale: STUDY)
    return ["--results", str(tmp_path / "results"), "--data", str(tiny)]


def call(capsys, *arguments):
    """(exit code, standard output, standard error)."""
    code = cli.run(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def test_queue_then_report_then_nothing_new(folders, capsys, tmp_path):
    options = [*folders, "--quiet", "--no-certify", "--device", "cpu"]
    code, out, err = call(capsys, "queue", "smoke", *options)
    assert code == 0, err
    assert out.count("finished, validation loss") == 2
    records = {path: path.read_bytes() for path in (tmp_path / "results").glob("*.json")}
    code, out, err = call(capsys, "queue", "smoke", *options)
    assert code == 0
    assert out == ""
    assert "nothing is left to do. 2 of 2 runs done" in err
    assert {path: path.read_bytes() for path in (tmp_path / "results").glob("*.json")} == records
    code, out, err = call(capsys, "report", *folders[:2], "--out", str(tmp_path / "report"))
    assert code == 0, err
    assert "2 of 2 smoke runs finished; the validation loss fell in 2 of them" in out
    page = (tmp_path / "report" / "smoke" / "report.md").read_text()
    assert "SMOKE" in page
    code, out, _ = call(capsys, "plan", "smoke", *folders)
    assert (code, out) == (0, "2 of 2 runs done\n")
    code, out, _ = call(capsys, "calibrate", "smoke", *options)
    assert code == 0
    assert "tokens/s" in out


def test_commands_of_a_plan_are_its_runs(folders, capsys):
    code, out, _ = call(capsys, "plan", "smoke", *folders, "--commands")
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == 2
    words = lines[0].split()
    assert words[:3] == ["-m", "paper_repro", "run"]
    code, _, err = call(capsys, *words[2:], "--no-certify", "--quiet", "--device", "cpu")
    assert code == 0, err
    code, out, _ = call(capsys, "plan", "smoke", *folders)
    assert "1 of 2 runs done" in out


def test_time_ends_a_queue(folders, capsys):
    code, out, err = call(capsys, "queue", "smoke", *folders, "--quiet", "--no-certify", "--minutes", "0")
    assert (code, out) == (0, "")
    assert "time is up; the same command goes on. 0 of 2 runs done" in err


def test_benchmark(folders, capsys, tmp_path):
    code, out, err = call(capsys, "bench", "smoke/qwen3", "--steps", "1", "--device", "cpu", *folders[:2])
    assert code == 0, err
    for rival in ("AdamW (fused)", "torch.optim.Muon", "row-muon, one matrix at a time", "hybrid-hybrid"):
        assert rival in out
    (stored,) = json.loads((tmp_path / "results" / "benchmark.json").read_text())
    for rival in stored["rivals"]:
        assert min(rival[f"{part}_seconds"] for part in ("forward", "backward", "step")) > 0
        assert rival["state_bytes"] > 0
    # AdamW keeps two moments of every parameter, and row normalisation one of most.
    by_name = {rival["name"]: rival["state_bytes"] for rival in stored["rivals"]}
    assert by_name["AdamW (fused)"] >= 2 * 4 * stored["parameters"]
    assert by_name["row-muon"] < by_name["adamw-muon"] < by_name["AdamW (fused)"]
    assert by_name["row-muon"] == by_name["row-muon, one matrix at a time"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["queue", "huge"], "'huge' is not one of"),
        (["report", "--results", "nowhere"], "no runs in nowhere"),
        (["bench", "smoke/bert"], "unknown preset 'smoke/bert'"),
        (["run", "smoke/bert", "adamw-muon"], "unknown preset 'smoke/bert'"),
        (["frobnicate"], "No such command"),
    ],
)
def test_bad_input_is_one_line(arguments, named, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert named in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("end", "codes"), [("| true", ("0", "141")), (">/dev/full", ("2",))])
def test_output_that_goes_nowhere(end, codes):
    """A closed pipe is no news, a full disk one line; neither is exit code 1, "smoke runs did not learn"."""
    command = f"{{ {sys.executable} -m paper_repro --help; echo $? >&2; }} {end}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    *said, code = done.stderr.splitlines()
    assert code in codes
    assert len(said) == (code == "2")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("command", [["queue", "scaled"], ["calibrate", "scaled"], ["bench"]])
def test_without_a_gpu_one_line_and_3(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *command, "--device", "cuda")
    assert (code, out) == (3, "")
    assert err == "paper_repro: there is no CUDA device here; nothing was run\n"
    assert not list(tmp_path.iterdir())


def test_help_and_plan_need_no_data(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(capsys, "--help")[0] == 0
    code, out, _ = call(capsys, "plan", "scaled")
    assert code == 0
    assert "wait for learning rates" in out
    assert load_study("scaled").stages[0].name in out


def test_times_are_estimated_for_a_device(folders, capsys):
    code, out, _ = call(capsys, "plan", "smoke", *folders, "--device-name", "H100")
    assert code == 0
    assert "0 of 2 runs done, 2 left: about" in out
    code, _, err = call(capsys, "plan", "smoke", *folders, "--device-name", "abacus")
    assert code == 2
    assert "no data sheet for device 'abacus'" in err


def start(world, options):  # noqa: F811
    arguments = [str(Path(__file__).with_name("worker.py")), str(world / "presets"), "queue", "smoke", *options]
    root = str(Path(__file__).parents[3])
    return subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_checkpoint(results, process, *, records):
    """Until so many runs are done and one under way has a checkpoint; fails if the process ends before that."""
    while process.poll() is None:
        done = {path.stem for path in results.glob("[0-9a-f]*.json")}
        under_way = {path.parts[-3] for path in (results / "checkpoints").glob("*/step-*/progress.json")} - done
        if len(done) == records and under_way:
            return
        time.sleep(0.01)
    pytest.fail(f"the queue ended too early: {process.communicate()}")


def test_killed_and_resumed_is_as_if_nothing_had_happened(world, folders, capsys, tmp_path):  # noqa: F811
    """One run is interrupted by a signal, the next one killed outright; the records are those of a quiet queue."""
    quiet = ["--quiet", "--no-certify", "--device", "cpu"]
    assert call(capsys, "queue", "smoke", *folders, *quiet)[0] == 0
    expected = {record.id: record for record in read_records(tmp_path / "results")}

    results = tmp_path / "stormy"
    stormy = ["--results", str(results), *folders[2:], *quiet]
    process = start(world, stormy)
    wait_for_checkpoint(results, process, records=0)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 3, err
    assert "interrupted; the same command goes on. 0 of 2 runs done" in err

    process = start(world, stormy)
    wait_for_checkpoint(results, process, records=1)
    process.kill()
    process.communicate(timeout=300)
    assert len(list(read_records(results))) == 1

    code, _, err = call(capsys, "queue", "smoke", *stormy)
    assert code == 0, err
    found = {record.id: record for record in read_records(results)}
    assert found.keys() == expected.keys()
    for identity, record in found.items():
        assert record.curves == expected[identity].curves
        assert record.diagnostics == expected[identity].diagnostics
        assert record.final == expected[identity].final
    assert not list((results / "checkpoints").glob("*/*"))
