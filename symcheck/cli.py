"""The command line. Bad input is one line on standard error and exit code 2; no traceback without ``--debug``."""

from __future__ import annotations

import errno
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from symcheck import __version__
from symcheck.audit.command import audit
from symcheck.conform.command import conform
from symcheck.discover.command import discover
from symcheck.errors import UsageError, describe_exception, one_line, unknown
from symcheck.options import SECONDS, SEED, TorchCommand
from symcheck.output import end_output, make_folder, make_room, show, stream_beside, write_json, writing
from symcheck.result import Result, Verdict

if TYPE_CHECKING:
    from symcheck.report import Report
    from symcheck.run import Listener

REPORT_FOLDER = Path("symcheck-report")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_HINT = " (--debug shows where; please report it)"


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is the contract's (0 as expected, 1 refuted, 2 input, 3 open, 4 internal)."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    if sys.stdout is None:
        return _complain("standard output is closed; to see nothing, send it to /dev/null", 2)
    code = _run(argv, debug="--debug" in argv)
    end_output()
    return code


def _run(argv: list[str], *, debug: bool) -> int:
    try:
        # Not cli.main: where the reader is gone that exits with 1, which means "refuted" here.
        with cli.make_context("symcheck", argv) as context:
            code: object = cli.invoke(context)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        return _complain(one_line(error.format_message()), 2, debug)
    except UsageError as error:
        return _complain(one_line(error, 1000), 2, debug)
    except (KeyboardInterrupt, click.Abort):
        return _complain("interrupted", 3, debug)
    except BrokenPipeError:
        return 128 + signal.SIGPIPE  # the reader of our output is gone (`| head`), and no program says more
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM and error.filename is None:
            return _complain(f"standard output: cannot be written ({error.strerror})", 2, debug)
        return _complain(f"internal error: {describe_exception(error)}{'' if debug else _HINT}", 4, debug)


def _complain(line: str, code: int, debug: bool = False) -> int:
    if debug:
        traceback.print_exc()
    click.echo(f"symcheck: {line}", err=True)
    return code


_debug = click.option("--debug", is_flag=True, help="Show the traceback of an error.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="symcheck")
def cli() -> None:
    """Certify whether an optimizer respects the symmetry of the weights it updates.

    A TARGET is torch.optim.AdamW, pkg.mod:Name, path/file.py:Name, rule:row_norm, or a registered name.

    Exit codes: 0 as expected, 1 refuted or a claim contradicted, 2 unusable input, 3 declined or incomplete,
    4 internal error.
    """


@cli.command(cls=TorchCommand)
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("--block", multiple=True, metavar="B", help="Only this block (see: symcheck list blocks). Repeatable.")
@click.option("--property", "properties", multiple=True, metavar="P", help="Only this property. Repeatable.")
@click.option("--action", metavar="SPEC", help='Another action than the block\'s, e.g. "O(rows) x O(cols)".')
@click.option("--set", "settings", multiple=True, metavar="K=V", help="Constructor argument. Repeatable.")
@click.option("--dtype", multiple=True, metavar="D", help="Precision for the numeric column. Repeatable.")
@click.option("--budget", default="quick", show_default=True, metavar="quick|ci|full", help="How hard to search.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the search.")
@click.option("--time-limit", type=SECONDS, metavar="S", help="Seconds per candidate.")
@click.option("--json", "json_path", metavar="F", help="Write the JSON report to F, or to standard output (-).")
@click.option("--html", "html_path", metavar="F", help="Write the HTML report to F.")
@click.option("--certs", "certs_path", metavar="DIR", help="Store every certificate in DIR (see: symcheck verify).")
@click.option("--explain", is_flag=True, help="Print what is proved as mathematics.")
@click.option("--latex", "latex_path", metavar="F", help="Write what is proved as mathematics to F.")
@_debug
def certify(
    targets: tuple[str, ...],
    block: tuple[str, ...],
    properties: tuple[str, ...],
    action: str | None,
    settings: tuple[str, ...],
    dtype: tuple[str, ...],
    budget: str,
    seed: int,
    time_limit: float | None,
    json_path: str | None,
    html_path: str | None,
    certs_path: str | None,
    explain: bool,
    latex_path: str | None,
    debug: bool,
) -> int:
    """Prove or refute every property of every requested block; no TARGET: all reference rules and torch.optim.

    Prints tables on standard output (with --json - on standard error) and progress on standard error. Writes
    symcheck-report/report.json and report.html unless --json or --html says otherwise, and a file for every witness
    beside them.
    """
    from symcheck.run import Request
    from symcheck.run import run as run_request
    from symcheck.target import parse_settings

    request = Request(
        blocks=block or None,
        properties=properties or None,
        action=action,
        dtypes=dtype or Request.dtypes,
        budget=budget,
        seed=seed,
        time_limit=time_limit,
    )
    if json_path is None and html_path is None:
        json_path, html_path = str(REPORT_FOLDER / "report.json"), str(REPORT_FOLDER / "report.html")
    paths = [path for path in (json_path, html_path, latex_path) if path not in (None, "-")]
    make_room("report", *paths)
    make_folder("certificates", certs_path)
    with _progress() as listener:
        report = run_request(targets, parse_settings(settings), request, listener)
    try:
        if certs_path is not None:
            with writing("certificates", certs_path):
                stored = report.write_certificates(certs_path)
            click.echo(f"certificates: {stored} in {certs_path}", err=True)
        _write(report, json_path, html_path)
        if latex_path is not None:
            with writing("report", latex_path):
                Path(latex_path).write_text(_derivations(report, as_latex=True), encoding="utf-8")
    finally:
        from symcheck.table import plain_text, print_rich

        show([report], plain_text, print_rich, stream=stream_beside(json_path))
    if explain:
        click.echo(_derivations(report), file=stream_beside(json_path))
    for path in paths:
        click.echo(f"report: {path}", err=True)
    if report.failures:
        text = "\n".join(report.failures) if debug else one_line(report.failures[0].strip().splitlines()[-1]) + _HINT
        click.echo(f"symcheck: internal error: {text}", err=True)
    return report.exit_code


def _derivations(report: Report, *, as_latex: bool = False) -> str:
    """The proofs of a report as mathematics, each once, under the questions that it answers."""
    from symcheck.prove.derivation import explain
    from symcheck.prove.layout import together
    from symcheck.report import certificate_name, label

    answered: dict[str, list[str]] = {}
    documents: dict[str, Mapping[str, Any]] = {}
    for result in report.results:
        document = result.evidence.certificate
        if result.verdict is not Verdict.REFUTED and isinstance(document, Mapping):
            name = certificate_name(document)
            documents[name] = document
            answered.setdefault(name, []).append(f"{label(result)}, {result.block}: {result.property}")
    if not documents:
        return "nothing is proved"
    pages = []
    for name, questions in answered.items():
        derivation = explain(documents[name]["certificates"][0])
        heading = "; ".join(questions)
        pages.append(derivation.latex() if as_latex else f"{heading}\n\n{derivation.text()}")
    return together(pages) if as_latex else "\n\n".join(pages)


def _write(report: Report, json_path: str | None, html_path: str | None) -> None:
    with writing("report", json_path):
        if json_path == "-":
            report.write_witnesses(REPORT_FOLDER, base=Path())
            write_json(report.to_dict(), json_path)
        elif json_path is not None:
            report.to_json(json_path)
    with writing("report", html_path):
        if html_path is not None:
            report.write_witnesses(Path(html_path).parent)
            report.to_html(html_path)


@contextmanager
def _progress() -> Iterator[Listener]:
    """A listener that shows progress on standard error: a bar on a terminal, else a line per candidate."""

    def line(*, done: int, total: int, target: str, results: Sequence[Result]) -> None:
        click.echo(f"[{done}/{total}] {target}: {_tally(results)}", err=True)

    if not sys.stderr.isatty():
        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    # No refreshing thread: candidates are forked from this process, and a thread's locks would be forked with it.
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True) as progress:
        bar = progress.add_task("starting", total=None)

        def advance(*, done: int, total: int, target: str, results: Sequence[Result]) -> None:
            progress.update(bar, completed=done, total=total, description=f"{target}: {_tally(results)}")
            progress.refresh()

        progress.refresh()
        yield advance


def _tally(results: Sequence[Result]) -> str:
    counts = {verdict: sum(result.verdict is verdict for result in results) for verdict in Verdict}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)


@cli.command()
@click.argument("certificates", nargs=-1, required=True, metavar="CERT...")
@_debug
def verify(certificates: tuple[str, ...], debug: bool) -> int:
    """Check certificates and exact refutations with the kernel: exit 0 if all are accepted, 1 rejected, 2 declined.

    The kernel needs nothing but Python: python -m symcheck.kernel CERT... does the same.
    """
    from symcheck.kernel.__main__ import main

    for path in certificates:
        if not Path(path).exists():
            raise UsageError(f"{path}: no such file")
        if Path(path).is_dir():
            raise UsageError(f"{path}: a folder; name the certificates in it, e.g. {Path(path) / '*.json'}")
    return main(certificates)


cli.add_command(audit)
cli.add_command(discover)
cli.add_command(conform)


@cli.command(cls=TorchCommand)
@click.argument("witnesses", nargs=-1, required=True, metavar="WITNESS...")
@_debug
def replay(witnesses: tuple[str, ...], debug: bool) -> int:
    """Execute witness files again; exit code 0 if every defect is there, 1 if one is not."""
    from symcheck.witness import replay_file

    outcomes = [(path, replay_file(path)) for path in witnesses]
    for path, outcome in outcomes:
        click.echo(f"{path}: {'confirmed' if outcome.confirmed else 'NOT confirmed'}\n{outcome.text}")
    return 0 if all(outcome.confirmed for _, outcome in outcomes) else 1


@cli.command(cls=TorchCommand)
@click.argument("witness", metavar="WITNESS")
@_debug
def repro(witness: str, debug: bool) -> None:
    """Print a short script that shows the defect and needs only torch."""
    from symcheck.witness import script_of

    click.echo(script_of(witness), nl=False)


@cli.command(cls=TorchCommand)
@click.option("--budget", default="quick", show_default=True, metavar="quick|ci|full", help="How hard to search.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the search.")
@click.option(
    "--programs", type=click.IntRange(min=0), default=100, show_default=True, help="Random programs to prove."
)
@_debug
def selftest(budget: str, seed: int, programs: int, debug: bool) -> int:
    """Test the tester: broken optimizers that must be caught, correct ones that must not be accused, proofs of random
    programs, and the kernel's corpus of good and bad certificates.

    Prints the kill rate, the false alarms and the unsound proofs; exit code 1 unless they are 100 %, 0 and 0.
    """
    from symcheck.probe.names import BUDGETS
    from symcheck.selftest import suite
    from symcheck.selftest.examination import examine_prover

    if budget not in BUDGETS:
        raise unknown("budget", budget, BUDGETS)
    trials = []
    for trial in suite.run(budget=budget, seed=seed):
        trials.append(trial)
        kind, subject, result = "mutant" if trial.is_mutant else "control", trial.subject, trial.result
        told = "" if trial.passed else f": {result.reason}"
        mark = "✓" if trial.passed else "✗"
        click.echo(f"{mark} {kind:<7} {subject.name} ({subject.block}/{subject.property}): {result.verdict}{told}")
    score = suite.score(trials)
    click.echo(
        f"mutants killed: {score.killed}/{score.mutants} ({score.killed / score.mutants:.0%}), "
        f"false alarms: {score.false_alarms}/{score.controls}"
    )
    documents, wrong = suite.judge_corpus()
    click.echo(
        f"certificates of the corpus judged rightly: {documents - len(wrong)}/{documents} {', '.join(wrong)}".rstrip()
    )
    report = examine_prover(programs, seed)
    proved, true = sum(report.proved.values()), sum(report.equivariant.values())
    click.echo(
        f"random programs: {report.programs}, asked about {report.total} symmetries: unsound proofs "
        f"{len(report.unsound)}, proved {proved} of {true} that hold ({proved / max(true, 1):.0%})"
    )
    for finding in report.unsound:
        click.echo(f"  UNSOUND {finding}")
    return 0 if score.perfect and not report.unsound and not wrong else 1


@cli.command(name="list")
@click.argument("what", type=click.Choice(["rules", "blocks", "groups", "optimizers", "properties"]))
@_debug
def list_(what: str, debug: bool) -> None:
    """Print the names there are, each with a line that explains it."""
    from symcheck.catalogue import CATALOGUES

    entries = CATALOGUES[what]()
    width = max((len(name) for name, _ in entries), default=0)
    for name, text in entries:
        click.echo(f"{name:<{width}}  {text}".rstrip())
