"""A derivation on a page: aligned unicode for a terminal, or a LaTeX document."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from symcheck.prove.notation import DiagMatrix
from symcheck.prove.page import Repetition, Row, Section, rows_of
from symcheck.prove.printer import Printer
from symcheck.prove.statement import PROPERTIES, Phrase

if TYPE_CHECKING:
    from symcheck.prove.derivation import Derivation

CONVENTION = (
    "Functions, the products ∘ and ⊘ (division) and added numbers act entry by entry; ′ marks values after the step; "
    "𝟏 is the column of ones. Numbers are shown to a few digits; the certificate holds them exactly."
)
DECISIONS = (
    "Python's decisions, and all constants, are functions of shapes, of the step count and of values that leave torch"
)

BEGIN, END = r"\begin{document}", r"\end{document}"
NOTHING = "Weights and state stay as they are."


def _length(text: str) -> int:
    return sum(not unicodedata.combining(c) for c in text)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _length(text))


class Page:
    """Words and formulas of a derivation in one script."""

    def __init__(self, derivation: Derivation, *, latex: bool) -> None:
        self.derivation = derivation
        self.statement = derivation.statement
        self.printer = Printer(latex=latex)
        self.tex = latex

    def phrase(self, phrase: Phrase) -> str:
        """Prose with formulas in it."""
        parts = []
        for part in phrase:
            if isinstance(part, str):
                parts.append(_plain(part) if self.tex else part)
            else:
                formula = self.printer.relation(*part)
                parts.append(f"${formula}$" if self.tex else formula.replace(" ", "\u00a0"))
        return "".join(parts)

    def math(self, *parts: Any) -> str:
        """One formula."""
        return self.phrase((parts,))

    def claim(self) -> str:
        """The claim in one paragraph."""
        statement = self.statement
        if statement.property != "equivariance":
            return f"{_capital(PROPERTIES.get(statement.property, statement.property))}."
        steps = "T" if "t" in statement.names.values() else "t"
        moves = ", ".join(self.phrase(phrase) for phrase in statement.hypothesis())
        after = ", ".join(
            self.phrase(statement.image(f"weight:{n}", statement.law(f"weight:{n}"), suffix=steps))
            for n in range(statement.count)
        )
        head = self.phrase(statement.variables())
        return (
            f"For all {head}: if the initial weights and all gradients are transformed by {moves}, then so are the "
            f"weights after every number {steps} of steps on the paths below: {after}."
        )

    def blocks(self) -> str:
        """What the index of arrays of rank three runs over."""
        if all(rank < 3 for rank in self.statement.ranks.values()):
            return ""
        variables = self.statement.motions.variables
        bases = [v.symbol for name, v in variables.items() if any(w.fibre == name for w in variables.values())]
        moved = f", and {bases[0]} moves block h to place {bases[0]}(h)" if bases else ""
        return f" The index h runs over the blocks along the first axis{moved}; images are written block by block."

    def legend(self) -> Iterable[tuple[str, str]]:
        """Names and what they are."""
        many = self.statement.count > 1
        for name in self.statement.names:
            kind, _, rest = name.partition(":")
            what = {"weight": "weight", "grad": "gradient"}.get(kind, f"state, {rest}")
            if many and kind in ("weight", "grad"):
                what += f" of tensor {int(rest) + 1}"
            yield self.math(self.statement.symbol(name)), what

    def invariant(self) -> Iterable[tuple[str, list[str]]]:
        """The law of every state tensor, by node."""
        for name, node in self.statement.nodes.items():
            laws = [self.phrase(self.statement.image(path, law, name)) for path, law in node["laws"].items()]
            if laws:
                yield name, laws

    def images(self, row: Row) -> list[str]:
        """How the values that a row defines move."""
        return [
            (f"{self.math(symbol)} {image}" if len(row.images) > 1 else image)
            if isinstance(image, str)
            else self.math(*(image if isinstance(image, tuple) else (symbol, "↦", image)))
            for symbol, image in row.images
        ] or [""]

    def repeated(self, section: Section) -> str:
        """What is said of a section that has the rows of another one."""
        place, values = section.same_as or (0, ())
        put = [self.math(symbol, "=", value) for symbol, value in values]
        where = f", with {', '.join(put)}" if put else ""
        zero = " Zero obeys every law." if any(value == 0 for _, value in values) else ""
        return f"The lines of §{place + 1}{where}, with the same laws.{zero}"

    def remarks(self, section: Section) -> Iterable[str]:
        """Gauges, unknown numbers and leaks of a section."""
        for symbol, kind, column in section.gauges:
            spectrum = f" and commutes with {self.math(DiagMatrix(column))}" if column is not None else ""
            yield {
                "sign": f"Here {self.math(symbol)} is a diagonal matrix of signs.",
                "orth": f"Here {self.math(symbol)} is orthogonal.",
                "loose": f"Here {self.math(symbol)} is orthogonal{spectrum}. Singular vectors of zero are free.",
            }.get(kind, f"Here {self.math(symbol)} is orthogonal{spectrum}: a rotation within eigenspaces.")
        if section.constants:
            names = ", ".join(self.math(constant) for constant in section.constants)
            yield f"The number{'s' if len(section.constants) > 1 else ''} {names} may depend on the step and on shapes."

    def definition(self, row: Row) -> str:
        """``X = formula``."""
        if isinstance(row.right, str):
            return self.math(row.left) + f": {row.right}"
        return self.math(row.left, "=", row.right)

    def loop_words(self, item: Repetition) -> tuple[str, str]:
        """What is said before and after the rows of a loop."""
        start = "".join(f" with {self.math(a, '=', b)}," for a, b in item.start)
        numbers = f"k = 0, …, {item.count - 1}" if item.count > 2 else "k = 0, 1"
        before = "For " + (f"${numbers}$" if self.tex else numbers.replace(" ", "\u00a0")) + start
        lists = []
        for letter, values in item.numbers:
            if values is None:
                lists.append(f"{self.math(letter)} depends on the step")
            else:
                shown = ", ".join(self.math(value) for value in values)
                lists.append(f"{self.math(letter)} = {shown}")
        after = "where " + "; ".join(lists) + "." if lists else ""
        return before.rstrip(",") + ":", after

    def control_flow(self) -> str:
        """Why control flow does not see the transformation."""
        found: dict[str, list[int]] = {}
        for number, section in enumerate(self.derivation.sections, start=1):
            for value, words in section.leaks:
                found.setdefault(f"{self.math(value)} ({words})", []).append(number)
        values = "; ".join(f"{text} in {', '.join(f'§{n}' for n in places)}" for text, places in found.items())
        return (
            f"{DECISIONS}: {values or 'here, none does'}. So the transformed run takes the same path with the same "
            "constants."
        )

    def conclusion(self) -> str:
        """The induction."""
        return (
            "Every path maps the law of the state that it starts from to the law of the state that it leaves, and "
            "moves the weights as claimed. Before the first step there is no state. The claim follows by induction "
            "over the steps."
        )

    def bridge(self) -> str:
        """Where the programs come from, and how they were compared with the code that runs."""
        bridge = self.derivation.bridge
        sizes: dict[int, list[str]] = {}
        for size, steps in sorted(bridge["runs"].items(), key=lambda run: -run[1]):
            sizes.setdefault(steps, []).append(size)
        runs = "; ".join(f"{steps} steps on {', '.join(own)}" for steps, own in sizes.items())
        return (
            f"The paths were recorded in runs of {runs}; a switch that comes later, or that other shapes bring about, "
            f"is another path. {bridge['steps']} steps were re-executed from these lines; the worst relative "
            f"difference is {bridge['worst']}."
        )


def as_text(derivation: Derivation, width: int) -> str:
    """Unicode text, at most ``width`` columns wide where formulas allow."""
    page = Page(derivation, latex=False)
    out: list[str] = []

    def paragraph(head: str, text: str) -> None:
        out.extend([*_wrap(text, width, 0, head), ""])

    paragraph("Claim. ", page.claim())
    paragraph("Notation. ", CONVENTION + page.blocks())
    out.extend(_table([(f"  {name}", what) for name, what in page.legend()]))
    out.append("")
    for condition in derivation.conditions[:1]:
        paragraph("Conditions. ", "; ".join(derivation.conditions) if condition else "")
    nodes = list(page.invariant())
    if nodes:
        paragraph("Proof. ", "By induction over the steps, with the invariant that the state moves as follows.")
        for name, laws in nodes:
            head = f"  {name}: " if len(nodes) > 1 else "  "
            out += _wrap("; ".join(laws), width, 2, head.strip() + " " * bool(head.strip()))
        out.append("")
    else:
        paragraph("Proof. ", "There is no state: one step is all there is to look at.")
    for number, section in enumerate(derivation.sections, start=1):
        out += _section(page, section, number, width)
    paragraph("Control flow. ", page.control_flow())
    paragraph("Conclusion. ", page.conclusion() + " ∎")
    out.append("Axioms used.")
    names = max((len(name) for name, _ in derivation.axioms), default=0)
    for name, says in derivation.axioms:
        head = f"  {name:{names}}  "
        out += textwrap.wrap(says, width, initial_indent=head, subsequent_indent=" " * len(head))
    out.append("")
    paragraph("Bridge. ", page.bridge())
    return "\n".join(line.replace("\u00a0", " ").rstrip() for line in out).rstrip() + "\n"


def _section(page: Page, section: Section, number: int, width: int) -> list[str]:
    out = [f"§{number} {section.title}"]
    if section.same_as is not None:
        return [*out, *_wrap(page.repeated(section), width, 6), ""]
    if not section.items:
        return [*out, *_wrap(NOTHING, width, 6), ""]
    rows = rows_of(section.items)
    images = [image for row in rows for image in page.images(row)]
    left = min(max((_length(page.definition(row)) for row in rows), default=0) + 2, width // 2)
    middle = min(max(map(_length, images), default=0), width - left - 24)
    for item in section.items:
        if isinstance(item, Row):
            out += _row(page, item, (left, middle, width), "")
            continue
        before, after = page.loop_words(item)
        out += _wrap(before, width, 6)
        for row in item.rows:
            out += _row(page, row, (left, middle, width), "  ")
        out += _wrap(after, width, 8)
    for sentence in page.remarks(section):
        out += _wrap(sentence, width, 6)
    out.append("")
    return out


def _row(page: Page, row: Row, columns: tuple[int, int, int], indent: str) -> list[str]:
    """The lines of a row: definition, images below each other, and the axioms at the right."""
    left, middle, width = columns
    margin = " " * 6
    definition = f"{f'({row.number})':>5} {indent}{page.definition(row)}"
    images, axioms = page.images(row), f"[{', '.join(row.axioms)}]" if row.axioms else ""
    lines = []
    if _length(definition) > len(margin) + left:
        lines.append(definition)
        definition = ""
    for image in images:
        lines.append(f"{_pad(definition, len(margin) + left)}   {_pad(image, middle)}")
        definition = ""
    for place in range(len(lines) - len(images), len(lines)):
        if (
            _length(lines[place].rstrip()) + 2 + len(axioms) <= width
            and _length(lines[place]) + 2 + len(axioms) <= width
        ):
            lines[place] += f"  {axioms}"
            return lines
    return [*lines, f"{'':{len(margin) + left + 5}}{axioms}"] if axioms else lines


def _wrap(text: str, width: int, indent: int, head: str = "") -> list[str]:
    """Lines of a paragraph; formulas, which have unbreakable spaces, are not broken."""
    lines = textwrap.wrap(
        head + text, width, initial_indent=" " * indent, subsequent_indent=" " * indent, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    return [line.replace("\u00a0", " ") for line in lines]


def _table(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max((_length(name) for name, _ in rows), default=0)
    return [f"{_pad(name, width)}   {what}" for name, what in rows]


def as_latex(derivation: Derivation) -> str:
    """A small document; every row is one line of an ``align*``."""
    page = Page(derivation, latex=True)
    body = [r"\begin{claim}", page.claim(), r"\end{claim}", ""]
    if derivation.conditions:
        body += [r"\paragraph{Conditions.} " + _plain("; ".join(derivation.conditions)) + ".", ""]
    body += [r"\paragraph{Notation.} " + _plain(CONVENTION + page.blocks())]
    body += ["; ".join(f"{name}: {_plain(what)}" for name, what in page.legend()) + ".", "", r"\begin{proof}"]
    for name, laws in page.invariant():
        body.append(f"Invariant of {_plain(name)}: " + "; ".join(laws) + ".")
    for number, section in enumerate(derivation.sections, start=1):
        body += ["", rf"\paragraph{{\S{number} {_plain(section.title)}.}}"]
        if section.same_as is not None:
            body.append(_plain_math(page.repeated(section)))
            continue
        body += _latex_items(page, section.items) or [NOTHING]
        body += [_plain_math(sentence) for sentence in page.remarks(section)]
    body += ["", r"\paragraph{Control flow.} " + _plain_math(page.control_flow())]
    body += ["", page.conclusion(), r"\end{proof}", "", r"\paragraph{Axioms used.}", r"\begin{description}"]
    body += [rf"\item[{_plain(name)}] {_plain(says)}." for name, says in derivation.axioms]
    body += [r"\end{description}", "", r"\paragraph{Bridge.} " + _plain(page.bridge())]
    head = [
        r"\documentclass{article}",
        r"\usepackage{amsmath,amssymb,amsthm}",
        r"\newtheorem*{claim}{Claim}",
        BEGIN,
    ]
    return "\n".join([*head, *body, END, ""])


def together(documents: Sequence[str]) -> str:
    """Several LaTeX documents as one: the preamble of the first, and every body on a page of its own."""
    bodies = [document.partition(BEGIN)[2].rpartition(END)[0] for document in documents]
    return documents[0].partition(BEGIN)[0] + BEGIN + "\\clearpage".join(bodies) + END + "\n"


def _latex_items(page: Page, items: Sequence[Row | Repetition]) -> list[str]:
    out: list[str] = []
    rows: list[str] = []

    def flush() -> None:
        if rows:
            out.extend([r"\begin{align*}", " \\\\\n".join(rows), r"\end{align*}"])
            rows.clear()

    for item in items:
        if isinstance(item, Row):
            rows.append(_latex_row(page, item))
            continue
        flush()
        before, after = page.loop_words(item)
        out.append(_plain_math(before))
        rows += [_latex_row(page, row) for row in item.rows]
        flush()
        out += [after] if after else []
    flush()
    return out


def _latex_row(page: Page, row: Row) -> str:
    left = page.printer.show(row.left)
    right = rf"\text{{{_plain(row.right)}}}" if isinstance(row.right, str) else page.printer.show(row.right)
    images = ",\\ ".join(
        rf"{page.printer.show(symbol)}\ \text{{{_plain(image)}}}"
        if isinstance(image, str)
        else page.printer.relation(*(image if isinstance(image, tuple) else (symbol, "↦", image)))
        for symbol, image in row.images
    )
    lemma = _plain(", ".join(row.axioms))
    return rf"({row.number})\quad {left} &= {right} && {images} && \text{{\footnotesize {lemma}}}"


def _plain(text: str) -> str:
    """Prose for LaTeX."""
    for sign, tex in {
        "\\": r"\textbackslash{}", "_": r"\_", "^": r"\^{}", "&": r"\&", "%": r"\%", "#": r"\#", "∘": r"$\circ$",
        "⊘": r"$\oslash$", "′": "$'$", "𝟏": r"$\mathbf{1}$", "≠": r"$\ne$", "±": r"$\pm$", "·": r"$\cdot$",
        "ᵀ": r"$^{\top}$",
        ">": "$>$", "<": "$<$", "…": r"\dots{}",
    }.items():  # fmt: skip
        text = text.replace(sign, tex)
    return text


def _plain_math(text: str) -> str:
    return text.replace("…", r"\dots{}").replace("§", r"\S")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
