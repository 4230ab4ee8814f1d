"""Two processes are one process with accumulation 2; a run may go on with another number of processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from paper_repro.models import build
from paper_repro.presets import default_spec, load_preset
from paper_repro.records import read_record
from paper_repro.training.distributed import owners
from paper_repro.training.run import run_one
from paper_repro.training.stack import make_optimizer

JOBS = [
    ("smoke/qwen3", "row-muon", False),
    ("smoke/gpt-oss", "adamw-muon-left", False),
    ("smoke/olmoe", "row-row-row", True),
]


@pytest.fixture
def together(world, tiny, tmp_path):
    """The folder of results of two processes: two whole runs, and one stopped after ten steps of twelve."""
    command = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        str(Path(__file__).with_name("worker.py")),
    ]
    done = subprocess.run(
        [sys.executable, *command, str(world), str(tmp_path), json.dumps(JOBS)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[:4000]
    return tmp_path


def test_two_processes_are_one_with_accumulation_two(together, tiny, tmp_path):
    for preset, optimizer, stopped in JOBS:
        alone = run_one(
            default_spec(preset, optimizer), results=tmp_path / "alone", data=tiny, certify=False, progress=False
        )
        if stopped:  # go on alone with what two have begun
            two = run_one(default_spec(preset, optimizer), results=together, data=tiny, certify=False, progress=False)
            assert len(two.curves["step"]) == 12
        else:
            two = read_record(together / f"{alone.id}.json")
            assert two.device["count"] == 2
        # Adding two numbers and halving them is the same in every order, and every matrix is stepped by itself.
        assert two.curves == alone.curves
        assert two.diagnostics == alone.diagnostics


def test_work_is_divided_whole_and_evenly(tiny):
    preset = load_preset("smoke/olmoe")
    with torch.device("meta"):
        model = build(preset.family, **preset.model)
    optimizer = make_optimizer(model, default_spec("smoke/olmoe", "row-muon-left"))
    names = {name for name, _ in model.named_parameters()}
    for size in (1, 2, 3):
        found = owners(optimizer, size)
        assert found.keys() == names
        assert set(found.values()) == set(range(size))
        assert owners(optimizer, size) == found
