"""What a discovery looks like: tables as data, and the sentences that go with them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from symcheck.discover.discovery import comparable
from symcheck.discover.lattice import ATOMS, HOLDS, action, below, maximal
from symcheck.result import Verdict
from symcheck.table import GLYPHS, Cell, Grid, plain_grid, print_grid

if TYPE_CHECKING:
    from rich.console import Console

    from symcheck.discover.algebra import Algebra, Estimate
    from symcheck.discover.discovery import Discovery
    from symcheck.discover.jacobian import FloatArray

_TEXT = 72
"""Width of the last column of the characterisation."""


def grids(found: Discovery) -> list[Grid]:
    """The group with its estimate, and the characterisation."""
    config = ", ".join(f"{key}={value}" for key, value in found.config.items())
    title = f"{found.target}({config})"
    if found.reason:
        return []
    headers = ["acts on", "largest class", "verdict", "refuted"]
    clear = [one for one in found.estimates if not one.vacuous]
    for one in clear:
        headers += [f"algebra {_size(one)}", "gap"]
    rows = []
    for axis in ("rows", "cols", "rows + cols", "entries"):
        row = [Cell(axis), *_axis(found, axis)]
        for one in clear:
            row += [Cell(_dimension(one.algebras[axis])), Cell(_gap(one.algebras[axis]))]
        rows.append(tuple(row))
    traits = [
        (Cell(trait.name if not number else ""), Cell(trait.answer if not number else ""), Cell(line))
        for trait in found.traits
        for number, line in enumerate(textwrap.wrap(trait.text, _TEXT) or [""])
    ]
    return [
        Grid(title, tuple(headers), tuple(rows)),
        Grid("Characterisation", ("trait", "answer", "meaning"), tuple(traits)),
    ]


def _axis(found: Discovery, axis: str) -> list[Cell]:
    if axis == "rows + cols":
        joint = [group for group in found.groups if " x " in group]
        return [Cell(" or ".join(joint)), *(_verdict(found, joint)), Cell("")]
    mine = [atom for atom in found.verdicts if atom.endswith(f"({axis})")]
    largest = maximal(atom for atom in mine if found.verdicts[atom] in HOLDS)
    names = " or ".join(atom.removesuffix(f"({axis})") for atom in largest)
    excluded = " ".join(atom.removesuffix(f"({axis})") for atom in found.excluded if atom in mine)
    return [Cell(names or "1"), *_verdict(found, list(largest)), Cell(excluded)]


def _verdict(found: Discovery, specs: list[str]) -> list[Cell]:
    """The weakest verdict of several groups that hold."""
    if not specs:
        return [Cell("")]
    verdicts = {verdict for spec in specs for atom, verdict in found.verdicts.items() if below(atom, spec)}
    weakest = Verdict.SUPPORTED if Verdict.SUPPORTED in verdicts else Verdict.PROVED
    return [Cell(GLYPHS[weakest], weakest)]


def _dimension(algebra: Algebra) -> str:
    """For example ``9: O(rows) + O(cols)``."""
    if algebra.ambiguous:
        return "ambiguous"
    rest = [f"{algebra.rest} more"] if algebra.rest else []
    return f"{algebra.dimension}" + (f": {' + '.join([*algebra.parts, *rest])}" if algebra.dimension else "")


def _gap(algebra: Algebra) -> str:
    """The largest singular value that counts as zero, and the smallest that does not."""
    ends = (algebra.largest_null, algebra.smallest_other)
    return " | ".join("-" if value is None else f"{value:.0e}" for value in ends)


def _size(one: Estimate) -> str:
    return "x".join(map(str, one.shape))


def sentences(found: Discovery) -> Iterator[tuple[str, Verdict | None]]:
    """The conclusions, each with the verdict that colours it."""
    if found.reason:
        first = found.answers[0].verdict if found.answers else Verdict.ERROR
        yield f"{found.target}: {first}: {found.reason}", first
        return
    proved = found.groups == found.proved
    word = "proved" if proved else "supported, not proved"
    groups = " and ".join(found.groups) or "none of the classes on any axis"
    verdict = Verdict.PROVED if proved and found.groups else Verdict.SUPPORTED
    yield f"largest group: {groups}" + (f" ({word})" if found.groups else ""), verdict
    if found.proved and not proved:
        yield f"largest group with a proof: {' and '.join(found.proved)}", Verdict.PROVED
    refuted = ", ".join(found.excluded)
    if found.undecided:
        names = "every class on every axis" if len(found.undecided) == len(ATOMS) else ", ".join(found.undecided)
        reasons = dict.fromkeys(one.reason for one in found.answers if one.action in found.undecided and one.reason)
        yield f"undecided: {names}: {'; '.join(reasons)}", Verdict.DECLINED
    elif refuted:
        tight = "this is tight: " if found.tight else ""
        yield f"{tight}every class outside of it is refuted, by witnesses against {refuted}", None
    for one in found.answers:
        if one.verdict in HOLDS and one.conditions:
            yield f"{one.action}: {one.verdict} under conditions: {'; '.join(one.conditions)}", None
    yield from _cross_check(found)
    if found.claimed is not None:
        said = {True: "confirmed", False: "NOT confirmed", None: "not decided"}[found.meets_claim]
        yield f"claimed: {action(found.claimed)}: {said}", Verdict.REFUTED if found.meets_claim is False else None


def _cross_check(found: Discovery) -> Iterator[tuple[str, Verdict | None]]:
    for one in found.estimates:
        if one.vacuous:
            yield f"no numerical estimate on {_size(one)}: {one.vacuous}", None
        unclear = ", ".join(axis for axis, algebra in one.algebras.items() if algebra.ambiguous)
        if unclear:
            text = f"the numerical estimate on {_size(one)} is ambiguous for {unclear}: its error is {one.error:.0e}"
            yield text, Verdict.DECLINED
        for axis, algebra in one.algebras.items():
            if algebra.rest and algebra.single is not None and not algebra.ambiguous:
                yield f"a symmetry of {axis} on {_size(one)} of no class: exp(sX), X = {_matrix(algebra.single)}", None
    for line in found.disagreements:
        yield f"THE NUMERICAL ESTIMATE DISAGREES: {line}", Verdict.ERROR
    if comparable(found.verdicts, found.estimates) and not found.disagreements:
        errors = ", ".join(f"{one.error:.0e}" for one in found.estimates)
        yield f"the numerical estimate of the Lie algebra agrees (error of its singular values: {errors})", None


def _matrix(x: FloatArray) -> str:
    """For example ``E12 - E21``: the sum of the entries that are not zero, to two digits."""
    terms = [
        f"{'-' if x[i, j] < 0 else '+'} {'' if abs(abs(x[i, j]) - 1) < 5e-3 else f'{abs(x[i, j]):.2g} '}E{i + 1}{j + 1}"
        for i, j in np.argwhere(np.abs(x) > 5e-3)
    ]
    return " ".join(terms).removeprefix("+ ")


def plain_text(found: Discovery, width: int = 160) -> str:
    """The whole discovery as text."""
    parts = [plain_grid(piece) for grid in grids(found) for piece in grid.split(width)]
    return "\n\n".join([*parts, "\n".join(text for text, _ in sentences(found))])


def print_rich(found: Discovery, console: Console) -> None:
    """The same in colour, fitted to the terminal."""
    from rich.text import Text

    from symcheck.table import STYLES

    for grid in grids(found):
        for piece in grid.split(console.width - 2 * len(grid.headers)):
            print_grid(piece, console)
    for text, verdict in sentences(found):
        console.print(Text(text, style=STYLES[verdict] if verdict else ""), soft_wrap=True)
