"""A queue over the tiny presets, in a process that a test can kill: ``worker.py PRESETS COMMAND...``.

Steps are slow enough to be interrupted, and every one is followed by a checkpoint.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from paper_repro import cli, presets
from paper_repro.planning import study
from paper_repro.training import run

STUDY = study.parse(
    """
scale = "smoke"
[[stage]]
name = "tiny"
presets = ["smoke/qwen3"]
optimizers = ["adamw-muon", "row-muon"]
seeds = 1
"""
)


def slowly(step):
    def slow(*arguments):
        time.sleep(0.05)
        return step(*arguments)

    return slow


if __name__ == "__main__":
    torch.set_num_threads(1)
    presets.FOLDER = Path(sys.argv[1])
    study.load_study = lambda scale: STUDY  # type: ignore[assignment]
    run._step = slowly(run._step)
    run.CHECKPOINT_SECONDS = 0.0
    sys.exit(cli.run(sys.argv[2:]))
