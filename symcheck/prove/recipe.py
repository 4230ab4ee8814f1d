"""What one step computes, as a display formula: the rows of a derivation without the proof.

Guards are left out. ``select([d = 0], 0, x / select([d = 0], 1, d))`` is how code writes a quotient that is zero where
its denominator is: it is shown as ``x / d``, and `Recipe.guarded` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sympy

from symcheck.prove.derivation import Derivation
from symcheck.prove.layout import Page
from symcheck.prove.notation import (
    ArrayOf,
    DiagMatrix,
    Expression,
    HadamardProduct,
    Inverse,
    MatAdd,
    MatMul,
    MatrixSymbol,
    OneMatrix,
    ScalarOf,
    Transpose,
    diagonal,
    is_zero,
)
from symcheck.prove.page import Repetition, Row, Section, rows_of

STEP = "A step"


@dataclass(frozen=True)
class Recipe:
    """``formula`` is the body of an ``aligned`` environment (amsmath); ``legend`` the inputs and what they are, in
    LaTeX; ``constants`` the numbers that may depend on the step and on shapes; ``guarded`` whether a quotient in it is
    zero where its denominator is."""

    formula: str
    legend: tuple[tuple[str, str], ...]
    constants: tuple[str, ...]
    guarded: bool


def recipe(derivation: Derivation) -> Recipe:
    """The first path of a step from a state that has been stepped before (the last such state, if there are several).

    Raises:
        ValueError: the derivation has no such path.
    """
    steps = [section for section in derivation.sections if section.title.startswith(STEP) and section.items]
    steps = [section for section in steps if "path" not in section.title]
    if not steps:
        raise ValueError("the derivation has no step of its own")
    section = steps[-1]
    page = Page(derivation, latex=True)
    tests = frozenset(row.left for row in rows_of(section.items) if _is_test(row.right))
    lines = list(_lines(page, section.items, tests))
    legend = tuple((name.strip("$"), what) for name, what in page.legend())
    constants = tuple(page.printer.show(constant) for constant in section.constants)
    return Recipe(" \\\\\n".join(lines), legend, constants, _guards(section, tests))


def _guards(section: Section, tests: frozenset[Expression]) -> bool:
    return any(
        not isinstance(row.right, str) and _plain(row.right, tests) != row.right for row in rows_of(section.items)
    )


def _lines(page: Page, items: Sequence[Row | Repetition], tests: frozenset[Expression]) -> Iterator[str]:
    rows = [row for row in rows_of(items) if not isinstance(row.right, str)]
    used = set().union(*(_symbols(_plain(row.right, tests)) for row in rows)) if rows else set()
    for item in items:
        if isinstance(item, Row):
            if item.left not in tests or item.left in used:
                yield _row(page, item, tests)
            continue
        start = "".join(rf",\ {page.printer.relation(a, '=', b)}" for a, b in item.start)
        yield rf"& \text{{for }} k = 0, \dots, {item.count - 1}{start}:"
        for row in item.rows:
            yield r"\quad " + _row(page, row, tests)
        for letter, values in item.numbers:
            shown = r"\text{(depends on the step)}"
            if values is not None:
                shown = ",\\ ".join(page.printer.show(value) for value in values)
            yield rf"& \quad {page.printer.show(letter)} = {shown}"


def _row(page: Page, row: Row, tests: frozenset[Expression]) -> str:
    right = rf"\text{{{row.right}}}" if isinstance(row.right, str) else page.printer.show(_plain(row.right, tests))
    return f"{page.printer.show(row.left)} &= {right}"


def _is_test(right: Expression | str) -> bool:
    return isinstance(right, ScalarOf | ArrayOf) and right.name == "is_zero"


def _symbols(expression: Expression) -> set[Expression]:
    if isinstance(expression, MatrixSymbol | sympy.Symbol):
        return {expression}
    return set().union(*map(_symbols, expression.args)) if expression.args else set()


def _plain(expression: Expression, tests: frozenset[Expression]) -> Expression:
    """The expression without choices of 0 or 1 where a denominator vanishes."""

    def inner(item: Expression) -> Expression:
        return _plain(item, tests)

    if isinstance(expression, ScalarOf | ArrayOf):
        if expression.name == "select":
            mask, one, two = expression.operands[:3]
            if (_is_test(mask) or _symbols(mask) & tests) and (is_zero(one) or _is_one(one)):
                return inner(two)
        operands = [inner(item) for item in expression.operands]
        if isinstance(expression, ScalarOf):
            return ScalarOf(expression.name, *operands)
        return ArrayOf(expression.name, expression.shape, *operands)
    if isinstance(expression, sympy.Pow):
        return sympy.Pow(inner(expression.base), expression.exp, evaluate=False)
    if isinstance(expression, sympy.Add | sympy.Mul | MatAdd | MatMul | HadamardProduct):
        return expression.func(*map(inner, expression.args), evaluate=False)
    if isinstance(expression, DiagMatrix):
        return diagonal(inner(expression.args[0]))
    if isinstance(expression, Transpose | Inverse):
        return expression.func(inner(expression.args[0]))
    return expression


def _is_one(expression: Expression) -> bool:
    if isinstance(expression, ArrayOf) and expression.name == "constant":
        return bool(expression.operands[0] == 1)
    return isinstance(expression, OneMatrix) or bool(expression.is_Rational and expression == 1)
