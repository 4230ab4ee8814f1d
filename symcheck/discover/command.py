"""The command ``symcheck discover``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from symcheck import isolate
from symcheck.options import SECONDS, SEED, TorchCommand
from symcheck.output import make_folder, make_room, show, stream_beside, write_json, writing

if TYPE_CHECKING:
    from symcheck.discover.discovery import Discovery
    from symcheck.target import Target


@click.command(cls=TorchCommand)
@click.argument("target")
@click.option("--set", "settings", multiple=True, metavar="K=V", help="Constructor argument. Repeatable.")
@click.option("--budget", default="quick", show_default=True, metavar="quick|ci|full", help="How hard to search.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the search.")
@click.option("--time-limit", type=SECONDS, metavar="S", help="Seconds in all.")
@click.option("--json", "json_path", metavar="F", help="Write the answer to F, or to standard output (-).")
@click.option("--certs", "certs_path", metavar="DIR", help="Store the certificates of what is proved in DIR.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def discover(
    target: str,
    settings: tuple[str, ...],
    budget: str,
    seed: int,
    time_limit: float | None,
    json_path: str | None,
    certs_path: str | None,
    debug: bool,
) -> int:
    """Find the largest group that TARGET respects on a matrix, per axis, and characterise it.

    A numerical estimate of the Lie algebra, from Jacobians of the update, checks the answer independently.

    Exit codes: 0 answered, 1 not the group that TARGET claims, 2 unusable input, 3 something stayed open.
    """
    from symcheck.run import Request, environment, resolve_one
    from symcheck.target import parse_settings

    request = Request(budget=budget, seed=seed, time_limit=time_limit)
    make_room("answer", json_path)
    make_folder("certificates", certs_path)
    targets = resolve_one(target, parse_settings(settings))
    found: list[Discovery] = []
    faults = []
    for one in targets:
        answer, fault = isolated(one, budget=budget, seed=seed, time_limit=request.seconds)
        if answer is not None:
            found.append(answer)
        if fault:
            faults.append(f"{one.name}: {fault}")
    surroundings = {k: v for k, v in environment(request).items() if k != "dtypes"}
    if json_path is not None or certs_path is not None:
        found = _write(found, surroundings, json_path, certs_path)
    from symcheck.discover.table import plain_text, print_rich

    show(found, plain_text, print_rich, stream=stream_beside(json_path))
    for fault in faults:
        click.echo(f"symcheck: {fault}", err=True)
    codes = {3 for _ in faults} | {one.exit_code for one in found}
    return next((code for code in (1, 3) if code in codes), 0)


def isolated(target: Target, *, budget: str, seed: int, time_limit: float) -> tuple[Discovery | None, str]:
    """The discovery of one target in a process of its own, or one line that says what the candidate did.

    Raises UsageError if the target is unusable, RuntimeError if symcheck itself failed.
    """
    from symcheck.discover.discovery import discover as discover_

    def stream() -> Iterator[object]:
        yield discover_(target.load(), budget=budget, seed=seed)

    return isolate.answer(stream, time_limit)


def _write(
    found: Sequence[Discovery], surroundings: Mapping[str, object], json_path: str | None, certs_path: str | None
) -> list[Discovery]:
    """Write the JSON and the certificates; witnesses lie beside a JSON file, and the answers returned have their
    paths."""
    from symcheck.discover.discovery import to_dict
    from symcheck.report import Report

    # One list, so that no two witnesses get one name.
    report = Report(results=[answer for one in found for answer in one.answers])
    if certs_path is not None:
        with writing("certificates", certs_path):
            report.write_certificates(certs_path)
    with writing("answer", json_path):
        if json_path not in (None, "-"):
            report.write_witnesses(Path(json_path or "").parent)
        answers = iter(report.results)
        kept = [dataclasses.replace(one, answers=tuple(next(answers) for _ in one.answers)) for one in found]
        data = {
            "schema": "symcheck.discovery/1",
            "environment": dict(surroundings),
            "discoveries": [to_dict(one) for one in kept],
        }
        if json_path is not None:
            write_json(data, json_path)
    return kept
