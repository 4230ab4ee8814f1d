"""Run by torchrun: the runs that the test wants, one after the other; arguments are world, results and a JSON list."""

import json
import sys
from pathlib import Path

from paper_repro import presets
from paper_repro.records import RunInterrupted
from paper_repro.training.run import run_one


def main():
    world, results, jobs = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    presets.FOLDER = world / "presets"
    for preset, optimizer, stop in jobs:
        spec = presets.default_spec(preset, optimizer)
        try:
            run_one(
                spec,
                results=results,
                data=world / "data",
                certify=False,
                progress=False,
                stop=bool if not stop else lambda: True,
            )
        except RunInterrupted:
            continue


if __name__ == "__main__":
    main()
