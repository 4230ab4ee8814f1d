"""Spec strings of actions: parser and printer, inverse to each other.

Grammar (white space is free)::

    action  = joint | "(" joint ")" "wr" "Perm" "(" "experts" ")"
    joint   = clause { ";" clause } [ "where" name "=" group { "," name "=" group } ]
    clause  = [ tensor ":" ] ( "1" | term { "x" term } [ "+" shift ] | shift )
    term    = factor [ "*" ] "(" ( "rows" | "cols" | "entries" | "experts" | "all" ) ")"
    factor  = group | name | "|" name "|" | name "/" copies
    shift   = "Shift" "(" "rows" ")"
    group   = family | "(" group "wr" ( "Perm" | "Cyclic" | "1" ) "[" blocks "]" ")"
            | "(" ( "Perm" | "1" ) "[" copies "]" "x" group ")"

``|M|`` is the permutation that a monomial matrix ``M`` contains, ``H/2`` what two copies that move alike have in common
(see `groups.images`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from groups.action import AXES, SINGLE, Action, Factor, ProductAction, product_action
from groups.copies import Copies
from groups.experts import ExpertAction
from groups.group import Group
from groups.images import PATTERN, Image, quotient
from groups.order import FAMILIES
from groups.wreath import Wreath

_TOKEN = re.compile(r"\s*(?:((?:Scale|Monomial)\+|[A-Za-z_]\w*|\d+|[()\[\]:;,=*+|/])|(\S))")
_KEYWORDS = ("x", "wr", "where", "Shift", *AXES)
_V = TypeVar("_V")


def parse_action(spec: str, groups: Mapping[str, Group] | None = None) -> Action:
    """The action of a spec string such as ``Perm(rows) x O(cols) + Shift(rows)``.

    ``groups`` gives the user-defined matrix groups that the spec mentions, by name. Raises ValueError with one
    line that names the position and what was expected there.
    """
    parser = _Parser(spec, groups or {})
    action = parser.action()
    parser.expect_end()
    return action


def parse_group(spec: str, groups: Mapping[str, Group] | None = None) -> Group:
    """The family of a spec string such as ``(O wr Perm[4])``; errors as in :func:`parse_action`."""
    parser = _Parser(spec, groups or {})
    group = parser.group()
    parser.expect_end()
    return group


class _Parser:
    """Recursive descent over a list of tokens ``(text, position)``, the last of them the empty end token."""

    def __init__(self, spec: str, groups: Mapping[str, Group]) -> None:
        self.spec, self.named = spec, {**FAMILIES, **groups}
        self.tokens: list[tuple[str, int]] = []
        for match in _TOKEN.finditer(spec):
            if match[2]:
                self.fail("a name, a number or one of ()[]:;,=*+|/", match[2], match.start(2))
            self.tokens.append((match[1], match.start(1)))
        self.tokens.append(("", len(spec)))
        self.next = 0

    def fail(self, expected: str, found: str | None = None, position: int | None = None) -> None:
        text, place = self.tokens[self.next] if position is None else (found, position)
        shown = f"'{text}'" if text else "the end"
        raise ValueError(f"action spec {self.spec!r}, position {place}: expected {expected}, found {shown}")

    @property
    def token(self) -> str:
        return self.tokens[self.next][0]

    def peek(self, offset: int) -> str:
        return self.tokens[min(self.next + offset, len(self.tokens) - 1)][0]

    def accept(self, text: str) -> bool:
        found = self.token == text
        self.next += found
        return found

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.fail(f"'{text}'")

    def expect_end(self) -> None:
        if self.token:
            self.fail("the end")

    def at(self, start: int, build: Callable[[], _V]) -> _V:
        """Runs ``build``; an error in it is reported at token ``start``."""
        try:
            return build()
        except ValueError as error:
            place = self.tokens[start][1]
            raise ValueError(f"action spec {self.spec!r}, position {place}: {error}") from None

    def action(self) -> Action:
        if not self._is_expert_wreath():
            return self.joint()
        start = self.next
        self.expect("(")
        block = self.joint()
        for text in (")", "wr", "Perm", "(", "experts", ")"):
            self.expect(text)
        return self.at(start, lambda: ExpertAction(block))

    def _is_expert_wreath(self) -> bool:
        """Whether a parenthesis opens here and a ``wr`` follows where it closes."""
        depth = 0
        for offset in range(len(self.tokens) - self.next):
            depth += (self.peek(offset) == "(") - (self.peek(offset) == ")")
            if depth == 0:
                return self.token == "(" and self.peek(offset + 1) == "wr"
        return False

    def joint(self) -> ProductAction:
        start = self.next
        names: list[str] = []
        clauses: list[tuple[list[Factor], bool]] = []
        uses: list[int] = []
        while True:
            names.append(self.tensor_name(names))
            clauses.append(self.clause(uses))
            if not self.accept(";"):
                break
        variables = self.where() if self.accept("where") else {}
        groups = self._resolve(uses, variables)
        factors = [clause[0] for clause in clauses]
        return self.at(start, lambda: product_action(names, groups, factors, [clause[1] for clause in clauses]))

    def tensor_name(self, before: list[str]) -> str:
        if self.peek(1) != ":":
            if before:
                self.fail("a tensor name and ':'")
            return SINGLE
        if before == [SINGLE] or self.token in (*before, SINGLE) or not self.token.isidentifier():
            self.fail(f"a new tensor name (not {SINGLE}), on every tensor or on none")
        name = self.token
        self.next += 2
        return name

    def clause(self, uses: list[int]) -> tuple[list[Factor], bool]:
        if self.token == "1" and self.peek(1) not in ("*", "("):
            self.next += 1
            return [], False
        if self.token == "Shift":
            return [], self.shift()
        factors = [self.term(uses)]
        while self.accept("x"):
            factors.append(self.term(uses))
        return factors, self.accept("+") and self.shift()

    def shift(self) -> bool:
        for text in ("Shift", "(", "rows", ")"):
            self.expect(text)
        return True

    def term(self, uses: list[int]) -> Factor:
        """A factor whose variable is, until the ``where`` clause is known, the index of its first token."""
        pattern = self.accept("|")
        start = self.next
        uses.append(start)
        if self.token == "(" or self.peek(1) == "[":
            self.group()
        elif (self.token.isidentifier() and self.token not in _KEYWORDS) or self.token in self.named:
            self.next += 1
        else:
            self.fail("a group")
        image: Image = ""
        if pattern:
            self.expect("|")
            image = PATTERN
        elif self.accept("/"):
            image = quotient(self.number("the number of copies"))
        dual = self.accept("*")
        self.expect("(")
        axis = self.token
        if axis not in AXES:
            self.fail(f"an axis ({', '.join(AXES)})")
        self.next += 1
        self.expect(")")
        text = self.tokens[start][0]
        # A name with brackets is a family (U1[half]), never a variable of the where clause.
        shared = text.isidentifier() and text not in self.named and self.tokens[start + 1][0] != "["
        return Factor(text if shared else f"#{start}", axis, dual, image)

    def where(self) -> dict[str, Group]:
        variables: dict[str, Group] = {}
        while True:
            name = self.token
            if not name.isidentifier() or name in (*_KEYWORDS, *self.named, *variables):
                self.fail("a new variable name that is no family, axis or keyword")
            self.next += 1
            self.expect("=")
            variables[name] = self.group()
            if not self.accept(","):
                return variables

    def _resolve(self, uses: list[int], variables: Mapping[str, Group]) -> dict[str, Group]:
        """The group of every factor: a variable of the ``where`` clause, or the group written in place."""
        resolved, end, free = dict(variables), self.next, set(variables)
        for start in uses:
            self.next = start
            name = self.token
            if name in variables:
                free.discard(name)
            else:
                resolved[f"#{start}"] = self.group()
        self.next = end
        if free:
            raise ValueError(f"action spec {self.spec!r}: variable {min(free)} of the where clause is never used")
        return resolved

    def group(self) -> Group:
        start = self.next
        if self.accept("("):
            if self.peek(1) == "[" and self.token in self.named:
                return self.copies(start)
            inner = self.group()
            self.expect("wr")
            top = self.group()
            self.expect("[")
            blocks = self.number("the number of blocks")
            self.expect("]")
            self.expect(")")
            return self.at(start, lambda: Wreath(inner, top, blocks))
        name = self.token
        if self.peek(1) == "[" and name not in self.named:
            name = f"{name}[{self.peek(2)}]"
        if name not in self.named:
            self.fail(f"a group ({', '.join(self.named)}, (F wr Perm[H]), or a variable of the where clause)")
        self.next += 4 if name.endswith("]") else 1
        return self.named[name]

    def copies(self, start: int) -> Group:
        """``Perm[2] x O)``, after the parenthesis."""
        top = self.named[self.token]
        self.next += 2
        count = self.number("the number of copies")
        for text in ("]", "x"):
            self.expect(text)
        inner = self.group()
        self.expect(")")
        return self.at(start, lambda: Copies(inner, top, count))

    def number(self, what: str) -> int:
        if not self.token.isdigit():
            self.fail(what)
        self.next += 1
        return int(self.tokens[self.next - 1][0])


def format_action(action: Action) -> str:
    """The spec string of an action; ``parse_action`` reads it back."""
    if isinstance(action, ExpertAction):
        return f"({format_action(action.block)}) wr Perm(experts)"
    if not isinstance(action, ProductAction):
        raise TypeError(f"not an action: {action!r}")
    clauses = []
    for tensor, factors, shift in zip(action.tensors, action.factors, action.shifts, strict=True):
        text = " x ".join(_format_factor(action, factor) for factor in factors)
        text = " + ".join(filter(None, [text, "Shift(rows)" if shift else ""])) or "1"
        clauses.append(text if action.tensors == (SINGLE,) else f"{tensor}: {text}")
    shared = [f"{name} = {group}" for name, group in action.variables if name.isidentifier() and name not in AXES]
    return "; ".join(clauses) + (f" where {', '.join(shared)}" if shared else "")


def _format_factor(action: ProductAction, factor: Factor) -> str:
    shared = factor.variable.isidentifier() and factor.variable not in AXES
    group = factor.variable if shared else str(action.groups[factor.variable])
    group = f"|{group}|" if factor.image == PATTERN else f"{group}{factor.image}"
    return f"{group}{'*' if factor.dual else ''}({factor.axis})"
