"""The command line. Bad input is one line on standard error and exit code 2; no traceback without ``--debug``."""

from __future__ import annotations

import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from paper_repro.data.command import command as data
from paper_repro.planning.study import SCALES
from paper_repro.training.command import DEFAULT_RESULTS
from paper_repro.training.command import command as run_command
from symcheck.output import end_output

DEFAULT_REPORT = Path("paper-repro-report")
UNUSABLE, INCOMPLETE, INTERNAL = 2, 3, 4
_HINT = " (--debug shows where; please report it)"
_Folder = click.Path(file_okay=False, path_type=Path)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code: 0 done, 1 smoke runs did not learn, 2 input, 3 incomplete, 4 internal."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    code = _run([each for each in argv if each != "--debug"], debug="--debug" in argv)
    end_output()
    return code


def _run(argv: list[str], *, debug: bool) -> int:
    try:
        # Not cli.main: where the reader is gone that exits with 1, which means something else here.
        with cli.make_context("paper_repro", argv) as context:
            code: object = cli.invoke(context)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        return _complain(error.format_message(), UNUSABLE, debug)
    except BrokenPipeError:
        return 128 + signal.SIGPIPE  # the reader of our output is gone (`| head`), and no program says more
    except (ValueError, ModuleNotFoundError, OSError) as error:
        return _complain(str(error), UNUSABLE, debug)
    except (KeyboardInterrupt, click.Abort):
        return _complain("interrupted", INCOMPLETE, debug)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else INTERNAL
    except Exception as error:
        return _complain(f"internal error: {type(error).__name__}: {error}{'' if debug else _HINT}", INTERNAL, debug)


def _complain(text: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"paper_repro: {' '.join(text.split())}", file=sys.stderr)
    return code


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Rerun arXiv 2605.18106: symmetry-compatible optimizers on four kinds of language models.

    A SCALE is smoke (CPU, minutes, no verdicts), scaled (one GPU, hours) or paper (eight GPUs, days). `queue SCALE`
    does all that is left of its plan, `report` writes what the runs say.

    Exit codes: 0 done, 1 smoke runs that did not learn, 2 unusable input, 3 incomplete or no GPU, 4 internal error.
    Every command takes --debug.
    """


cli.add_command(data)
cli.add_command(run_command)

_scale = click.argument("scale", type=click.Choice(SCALES))
_results = click.option(
    "--results", type=_Folder, default=DEFAULT_RESULTS, show_default=True, help="Folder of records."
)
_data = click.option("--data", type=_Folder, help="Folder of the data sets; made where one is missing.")
_device = click.option("--device", type=click.Choice(["cpu", "cuda"]), help="A GPU if there is one, unless said.")
_minutes = click.option("--minutes", type=click.FloatRange(min=0), help="Stop after so long; the next call goes on.")
_quiet = click.option("--quiet", is_flag=True, help="No progress within a run.")
_no_certify = click.option("--no-certify", is_flag=True, help="Do not ask symcheck about the optimizers first.")


@cli.command()
@_scale
@_results
@_data
@click.option("--commands", is_flag=True, help="Print one command for each run that can start now, for a scheduler.")
@click.option("--all", "everything", is_flag=True, help="List runs that are done as well.")
@click.option("--device-name", metavar="NAME", help="Estimate times not yet measured for this device, e.g. H100.")
@click.option("--devices", type=click.IntRange(min=1), default=1, help="For --device-name: how many.")
def plan(
    scale: str,
    results: Path,
    data: Path | None,
    commands: bool,
    everything: bool,
    device_name: str | None,
    devices: int,
) -> None:
    """What remains to be run, in order of value, and how long it will take.

    Times are measured ones of the same preset; before there are any, unknown, or with --device-name estimates from
    counted operations and data sheets.
    """
    from paper_repro.planning.listing import as_command, overview, table

    jobs = _planner(scale, results, data)()
    if device_name is not None:
        from paper_repro.planning.listing import estimated

        jobs = estimated(jobs, device_name, devices)
    if commands:
        for job in jobs:
            if job.status == "todo" and job.spec is not None:
                click.echo(as_command(job.spec, results, data))
        return
    for line in table(job for job in jobs if everything or job.status != "done"):
        click.echo(line)
    click.echo(overview(jobs))


@cli.command()
@_scale
@_results
@_data
@_device
@_minutes
@_quiet
@_no_certify
def queue(scale: str, minutes: float | None, **options: Any) -> int:
    """Do the plan of SCALE: learning rates first, then runs in order of value.

    One queue works in a folder of results. It may be stopped at any moment (Ctrl-C, a signal TERM, --minutes): the run
    under way leaves a checkpoint, and the next call goes on from it.
    """
    return _work(scale, minutes, tuning_only=False, **options)


@cli.command()
@_scale
@_results
@_data
@_device
@_minutes
@_quiet
@_no_certify
def calibrate(scale: str, minutes: float | None, **options: Any) -> int:
    """Do the trials of learning rates alone, and show rates, throughput and memory so far.

    Every configuration gets the same number of trials, AdamW included, on a seed and documents of their own. `queue`
    does the same where it needs them.
    """
    code = _work(scale, minutes, tuning_only=True, **options)
    from paper_repro.planning.listing import calibration

    for line in calibration(_runs(scale, options["results"], options["data"])):
        click.echo(line)
    return code


@cli.command()
@_results
@click.option("--out", type=_Folder, default=DEFAULT_REPORT, show_default=True, help="One folder per scale inside.")
def report(results: Path, out: Path) -> int:
    """Write the report of every scale that has results: Markdown, HTML, figures. Needs nothing but the results."""
    from paper_repro.planning.catalogue import Presets
    from paper_repro.records import read_records
    from paper_repro.report.build import write_reports
    from paper_repro.report.smoke_section import learnt

    for path in write_reports(results, out, Presets()):
        click.echo(f"report: {path}")
    smoke = [record for record in read_records(results) if record.spec.scale == "smoke"]
    if smoke:
        click.echo(learnt(smoke).sentence)
        return 0 if learnt(smoke).all else 1
    return 0


@cli.command()
@click.argument("presets", metavar="[PRESET]...", nargs=-1)
@click.option(
    "--steps", type=click.IntRange(min=1), default=5, show_default=True, help="Timed steps; medians are shown."
)
@_device
@_results
def bench(presets: tuple[str, ...], steps: int, device: str | None, results: Path) -> None:
    """Time one training step, split into forward, backward and optimizer, for every optimizer configuration.

    All rivals take turns in one process: AdamW (fused), torch.optim.Muon, the layerwise configurations, and the same
    layerwise stack stepping one matrix at a time. The result goes to RESULTS and into the next report.
    """
    from paper_repro.benchmark import compare, store
    from paper_repro.report.benchmark_section import lines

    _require(device)
    for preset in presets or ("smoke/qwen3", "smoke/olmoe"):
        found = compare(preset, steps=steps, device=device)
        store(found, results)
        for line in lines(found):
            click.echo(line)


def _work(
    scale: str,
    minutes: float | None,
    *,
    tuning_only: bool,
    results: Path,
    data: Path | None,
    device: str | None,
    quiet: bool,
    no_certify: bool,
) -> int:
    """Queue and calibrate: 0 when what was asked is done or time is up, 3 when interrupted or something failed."""
    _require(device)
    from paper_repro.planning.listing import overview, started
    from paper_repro.planning.plan import TUNING, Job
    from paper_repro.planning.queue import work
    from paper_repro.presets import data_root
    from paper_repro.records import RunRecord, RunSpec
    from paper_repro.training import run_one
    from paper_repro.training.command import summary

    _make_data(scale, data)
    for path in (results / "checkpoints").glob("*"):
        if (results / f"{path.name}.json").exists():  # killed between the record and the end of the run
            shutil.rmtree(path, ignore_errors=True)
    planner = _planner(scale, results, data)

    def jobs() -> list[Job]:
        return [job for job in planner() if not tuning_only or job.stage == TUNING]

    def train(spec: RunSpec, stop: Callable[[], bool]) -> RunRecord:
        return run_one(
            spec,
            results=results,
            data=data_root(data),
            device=device,
            stop=stop,
            progress=not quiet,
            certify=not no_certify,
        )

    done = work(
        jobs,
        train,
        results=results,
        seconds=None if minutes is None else 60 * minutes,
        before=lambda job, every: click.echo(started(job, every), err=True),
        after=lambda record: click.echo(summary(record)),
    )
    if done.ending != "signal":
        from paper_repro.report.build import store_departures

        store_departures(results)
    endings = {
        "finished": "nothing is left to do",
        "time": "time is up; the same command goes on",
        "signal": "interrupted; the same command goes on",
        "waiting": "stopped: all trials of some learning rates diverged, see `plan`",
    }
    click.echo(f"{endings[done.ending]}. {overview(planner())}", err=True)
    failed = Counter(record.outcome for record in done.added)["failed"]
    return INCOMPLETE if failed or done.ending in ("signal", "waiting") else 0


def _runs(scale: str, results: Path, data: Path | None) -> Any:
    from paper_repro.data.manifest import read_manifest
    from paper_repro.planning.catalogue import Presets
    from paper_repro.planning.runs import Runs
    from paper_repro.planning.study import load_study
    from paper_repro.presets import data_root, load_preset
    from paper_repro.records import read_records

    study = load_study(scale)
    manifests = {}
    for preset in study.presets:
        folder = data_root(data) / load_preset(preset).data
        if (folder / "manifest.json").exists():
            manifests[preset] = read_manifest(folder).hash
    return Runs.of(study, Presets(), read_records(results), manifests)


def _planner(scale: str, results: Path, data: Path | None) -> Callable[[], Any]:
    from paper_repro.planning.claims import claims
    from paper_repro.planning.plan import make_plan

    return lambda: make_plan(_runs(scale, results, data), claims())


def _make_data(scale: str, data: Path | None) -> None:
    """The data sets of all presets of the scale, where they are missing."""
    from paper_repro.data.prepare import prepare
    from paper_repro.planning.study import load_study
    from paper_repro.presets import data_root, load_data_spec, load_preset

    for name in dict.fromkeys(load_preset(preset).data for preset in load_study(scale).presets):
        if not (data_root(data) / name / "manifest.json").exists():
            prepare(load_data_spec(name), data_root(data), lambda line: click.echo(line, err=True))


def _require(device: str | None) -> None:
    """Ends the program with one line and code 3 if a GPU is asked for and there is none."""
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            click.echo("paper_repro: there is no CUDA device here; nothing was run", err=True)
            sys.exit(INCOMPLETE)
