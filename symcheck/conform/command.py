"""The command ``symcheck conform``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import click

from symcheck import isolate
from symcheck.errors import UsageError, unknown
from symcheck.options import SECONDS, SEED, TorchCommand
from symcheck.output import make_room, show, stream_beside, write_json, writing

if TYPE_CHECKING:
    from symcheck.conform.conformance import Conformance, Options
    from symcheck.target import Target


@click.command(cls=TorchCommand)
@click.argument("target")
@click.option("--against", required=True, metavar="rule:NAME", help="The reference rule (see: symcheck list rules).")
@click.option("--set", "settings", multiple=True, metavar="K=V", help="Constructor argument of TARGET. Repeatable.")
@click.option("--against-set", multiple=True, metavar="K=V", help="Hyper-parameter of the rule. Repeatable.")
@click.option("--dtype", multiple=True, metavar="D", help="Type of the parameters. Repeatable; default: three.")
@click.option("--shape", multiple=True, metavar="64x32", help="Shape of a parameter. Repeatable; default: seven.")
@click.option("--steps", type=click.IntRange(min=1), metavar="N", help="Steps of a run; default: those of the budget.")
@click.option("--budget", default="quick", show_default=True, metavar="quick|ci|full", help="How hard to search.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the inputs.")
@click.option("--time-limit", type=SECONDS, metavar="S", help="Seconds in all.")
@click.option("--json", "json_path", metavar="F", help="Write the answer to F, or to standard output (-).")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def conform(
    target: str,
    against: str,
    settings: tuple[str, ...],
    against_set: tuple[str, ...],
    dtype: tuple[str, ...],
    shape: tuple[str, ...],
    steps: int | None,
    budget: str,
    seed: int,
    time_limit: float | None,
    json_path: str | None,
    debug: bool,
) -> int:
    """Compare TARGET with a float64 reference rule, step by step: displacements and every tensor of its state.

    Names the first step, tensor and entry that part, and the cause, if one of the usual suspects explains it.

    Exit codes: 0 conforms, 1 departs, 2 unusable input, 3 nothing could be compared.
    """
    from symcheck.run import Request, environment, resolve_one
    from symcheck.target import parse_settings

    request = Request(dtypes=dtype, budget=budget, seed=seed, time_limit=time_limit)
    rule = _rule_name(against)
    overrides = parse_settings(against_set)
    shapes = tuple(map(parse_shape, shape)) or None
    make_room("answer", json_path)
    # Parsed here, so that a typing error costs nothing; the target is imported in a process of its own.
    from symcheck.conform.conformance import Options
    from symcheck.conform.hyper import map_hyper

    map_hyper(rule, {}, overrides)
    options = Options(
        against=overrides,
        dtypes=dtype or Options.dtypes,
        shapes=shapes,
        steps=steps,
        budget=budget,
        seed=seed,
    )
    targets = resolve_one(target, parse_settings(settings))
    found = [isolated(one, rule, options, time_limit=request.seconds) for one in targets]
    answers = [answer for answer, _ in found if answer is not None]
    surroundings = environment(dataclasses.replace(request, dtypes=options.dtypes))
    if json_path is not None:
        _write(answers, surroundings, json_path)
    from symcheck.conform.page import text

    show(answers, text, stream=stream_beside(json_path))
    for one, (_, fault) in zip(targets, found, strict=True):
        if fault:
            click.echo(f"symcheck: {one.name}: {fault}", err=True)
    codes = {3 for _, fault in found if fault} | {answer.exit_code for answer in answers}
    return next((code for code in (1, 3) if code in codes), 0)


def isolated(target: Target, rule: str, options: Options, *, time_limit: float) -> tuple[Conformance | None, str]:
    """The comparison of one target in a process of its own, or one line that says what the candidate did.

    Raises UsageError if target or rule are unusable, RuntimeError if symcheck itself failed.
    """
    from symcheck.run import _warm_up

    def stream() -> Iterator[object]:
        yield compare(target, rule, options)

    _warm_up()
    return isolate.answer(stream, time_limit)


def compare(target: Target, rule: str, options: Options) -> Conformance:
    """The comparison of one target in this process; errors as in `symcheck.conform.conform`."""
    from symcheck.conform.conformance import conform as compare_with
    from symcheck.conform.hyper import constructor_arguments

    candidate = target.load()

    def make(extra: Mapping[str, object]) -> object:
        return dataclasses.replace(target, settings={**target.settings, **extra}).load() if extra else candidate

    return compare_with(
        make,  # type: ignore[arg-type]
        rule,
        options,
        name=target.name,
        config=candidate.config,
        arguments=constructor_arguments(target.locate()),
    )


def _rule_name(against: str) -> str:
    prefix, colon, name = against.partition(":")
    if prefix != "rule" or not colon or not name:
        raise UsageError(f"--against {against!r}: expected rule:NAME, e.g. rule:adamw (see: symcheck list rules)")
    from reference import RULES

    if name not in RULES:
        raise unknown("rule", name, RULES)
    return name


def parse_shape(text: str) -> tuple[int, ...]:
    """``"64x32"`` as ``(64, 32)``; UsageError for anything else."""
    if not re.fullmatch(r"[1-9][0-9]*(x[1-9][0-9]*)*", text):
        raise UsageError(f"--shape {text!r}: expected positive sizes joined by x, e.g. 64x32")
    return tuple(map(int, text.split("x")))


def _write(answers: list[Conformance], surroundings: Mapping[str, object], json_path: str) -> None:
    from symcheck.conform.page import to_dict

    data = {
        "schema": "symcheck.conformance/1",
        "environment": dict(surroundings),
        "results": [to_dict(answer) for answer in answers],
    }
    with writing("answer", json_path):
        write_json(data, json_path)
