"""The pages of `rule_pages` as Markdown, from plain data. Formulas are ```math blocks, which Markdown leaves alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

Facts = Mapping[str, Any]

MARKS = {
    "proved": "proved",
    "refuted": "refuted",
    "supported": "supported (no proof, no counterexample)",
    "declined": "declined",
    "vacuous": "vacuous",
    "error": "error",
}
SHIFTS = {
    "shift_equivariance": ("shift_equivariant", "`U(W + 1 cᵀ) = U(W)`"),
    "shift_quotient": ("shift_quotient", "the row-centred `U` is the same at `W + 1 cᵀ`"),
    "shift_insensitivity": ("shift_insensitive", "`U(G + 1 cᵀ) = U(G)`"),
    "horizontality": ("horizontal", "`1ᵀ U = 0` if `1ᵀ G = 0`"),
}
NOTE = "<!-- Written by docs/rule_pages.py; changes belong into the rule. -->"


def code(text: str) -> str:
    """reST literals and references as Markdown code."""
    return re.sub(r"``(.+?)``", r"`\1`", text, flags=re.DOTALL)


def first_sentence(doc: str) -> str:
    """The first sentence of a docstring, in one line."""
    paragraph = " ".join(code(doc).split("\n\n")[0].split())
    parts = re.split(r"(?<=[.;])\s+(?=[A-Z`]|[a-z])", paragraph)
    text, literal = "", False
    for part in parts:
        text = f"{text} {part}" if text else part
        literal = text.count("`") % 2 == 1
        if part.endswith(".") and not literal:
            break
    return text.rstrip(".;")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in lines]


def polynomial(terms: Sequence[Sequence[Any]], factor: int = 1) -> str:
    """``10 m³ + 20 m² n``."""
    shown = []
    for value, i, j in terms:
        number = Fraction(value) * factor
        powers = " ".join(f"{x}{'' if p == 1 else '⁰¹²³'[p]}" for x, p in (("m", i), ("n", j)) if p)
        shown.append((number, f"{abs(number)} {powers}".strip() if abs(number) != 1 or not powers else powers))
    text = " ".join(f"{'-' if number < 0 else '+'} {term}" for number, term in shown)
    return text.removeprefix("+ ") or "0"


def degree(value: float | None) -> str:
    """``0``, ``0.5``, or none."""
    return "none" if value is None else f"{value:g}"


def group(spec: str) -> str:
    """A group as code."""
    return f"`{spec}`"


def answered(answer: Facts) -> str:
    """A verdict, with its reason where it is neither proof nor witness, and the conditions of a proof."""
    says = "; ".join(answer["conditions"]) if answer["verdict"] == "proved" else answer.get("reason", "")
    return f"{MARKS[answer['verdict']]}{f': {says}' if says else ''}"


# One rule ------------------------------------------------------------------------------------------------------------


def rule_page(facts: Facts, *, picture: bool) -> str:
    """The page of one rule."""
    sections = [
        [NOTE, "", f"# {facts['name']}", "", code(facts["doc"]), "", f"Source: {facts['source']}."],
        [f'In code: `reference.get_rule("{facts["name"]}")`; front end `reference.optimizers.{facts["class"]}`.'],
        _formula(facts),
        _symmetry(facts),
        _proof(facts),
        _state(facts),
        _defaults(facts),
        _variants(facts),
        _cost(facts),
    ]
    if picture:
        sections.append(
            [
                "## Spectrum",
                "",
                "What the polar factor of the rule, by each of its methods, or the first step of the rule itself makes "
                "of the singular values of a gradient.",
                "",
                f"![What becomes of the singular values]({facts['name']}.svg)",
            ]
        )
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _formula(facts: Facts) -> list[str]:
    formula = facts["formula"]
    if formula is None:
        return []
    body = formula["formula"].replace(r"\operatorname", r"\mathrm").replace(" & \\quad", " \\quad")
    lines = [
        "## Formula",
        "",
        "One step of the default configuration from a state that has been stepped before, on a weight with "
        "`m <= n`, read off the traced program.",
        "",
        "```math",
        r"\begin{aligned}",
        body,
        r"\end{aligned}",
        "```",
        "",
    ]
    names = "; ".join(f"$`{name}`$ {what.replace('state, state[0].', 'state ')}" for name, what in formula["legend"])
    remarks = [f"{names}. Functions, ∘ and ⊘ (division) act entry by entry; ′ marks values after the step."]
    if formula["constants"]:
        numbers = ", ".join(f"$`{name}`$" for name in formula["constants"])
        remarks.append(f"{numbers} may depend on the step and on the shape.")
    if formula["guarded"]:
        remarks.append("Where a denominator is zero the quotient is zero.")
    return [*lines, " ".join(remarks)]


def _symmetry(facts: Facts) -> list[str]:
    traits = facts["traits"]
    rows = [["Largest group", group(facts["symmetry"])]]
    if facts["joint_symmetry"] != facts["symmetry"]:
        rows.append(["The same, if the initial state moves too", group(facts["joint_symmetry"])])
    rows.append(["Degree `U(c G) = c^k U(G)`, without eps", degree(traits["degree"])])
    rows.append(["Side conditions", "; ".join(facts["side_conditions"]) or "none"])
    gauges = ", ".join(f"`{axis}`: {group(family)}" for axis, family in facts["gauges"].items())
    rows.append(["Gauges of the state", gauges or "none"])
    lines = ["## Symmetry", "", "The weight moves by `W -> A W Bᵀ`.", "", *table(["", "default configuration"], rows)]
    shift = facts["shift"]
    rows = [
        [says, "yes" if traits[trait] else "no", answered(shift[name]) if name in shift else "not asked"]
        for name, (trait, says) in SHIFTS.items()
    ]
    return [*lines, "", *table(["Shift `W -> W + 1 cᵀ`", "claimed", "found"], rows)]


def _proof(facts: Facts) -> list[str]:
    proof, name = facts["proof"], facts["name"]
    command = f'symcheck certify rule:{name} --block {proof["block"]} --action "{proof["action"]}"'
    lines = ["## Proof", ""]
    if proof["verdict"] == "proved":
        conditions = "; ".join(proof["conditions"])
        several = f" in {facts['certificates']} certificates" if facts["certificates"] > 1 else ""
        lines += [
            f"Equivariance under {group(proof['action'])} is **proved**, for every input of every "
            f"{'square ' if proof['square'] else ''}shape that takes the "
            f"traced paths{f', under the condition: {conditions}' if conditions else ''}: {facts['lines']} lines"
            f"{several}, accepted by the kernel. Read [the derivation](proofs/{name}.txt), and "
            "[how a proof works](../proof.md).",
        ]
    else:
        where = " on square weights" if proof["square"] else ""
        lines += [f"Equivariance under {group(proof['action'])}{where}: **{answered(proof)}**."]
    if proof["square"]:
        lines += ["", "Where rows and columns differ in number ordinary gradients fail the side condition: refuted."]
    lines += ["", "```", f"$ {command} --explain", "```"]
    if facts["above"]:
        rows = [[group(each["action"]), answered(each)] for each in facts["above"]]
        lines += ["", "One class above:", "", *table(["Group", "found"], rows)]
    return lines


def moves(axes: Sequence[str | None] | None, signed: bool) -> str:
    """How a state array moves, in words or as a formula."""
    if axes is None:
        return "fixed"
    if list(axes) == ["entries"]:
        return "like the gradient" if signed else "like the gradient, without signs"
    bar = "" if signed else "abs "
    named = {"rows": "A", "cols": "B"}
    if not any(axis in named for axis in axes):
        return "fixed"
    if len(axes) == 2:
        left = f"{bar}{named[axes[0]]} " if axes[0] in named else ""
        right = f" {bar}{named[axes[1]]}ᵀ" if axes[1] in named else ""
        return f"`S -> {left}S{right}`".replace("abs A", "|A|").replace("abs B", "|B|")
    return ", ".join(f"axis {place} by `{named[axis]}`" for place, axis in enumerate(axes, 1) if axis in named)


def _state(facts: Facts) -> list[str]:
    if not facts["state"]:
        return ["## State", "", "None."]
    rows = []
    for entry in facts["state"]:
        shape = " x ".join(entry["shape"]) or "a count"
        gauge = ", ".join(axis for axis in entry["axes"] or () if axis in facts["gauges"])
        only = "" if entry["default"] else " (some configurations)"
        rows.append(
            [f"`{entry['name']}`{only}", shape, moves(entry["axes"], entry["signed"]), f"`{gauge}`" if gauge else ""]
        )
    head = ["Array", "shape", "moves", "axis of a gauge"]
    if not facts["gauges"]:
        head, rows = head[:3], [row[:3] for row in rows]
    return ["## State", "", *table(head, rows)]


def _defaults(facts: Facts) -> list[str]:
    rows = [[f"`{name}`", f"`{value}`"] for name, value in facts["defaults"].items()]
    kind = {"decoupled": "decoupled", "coupled": "coupled: added to the gradient", "inner": "part of the formula"}
    return [
        "## Defaults",
        "",
        *table(["Hyper-parameter", "default"], rows),
        "",
        f"Weight decay is {kind[facts['decay']]}.",
    ]


def _variants(facts: Facts) -> list[str]:
    if not facts["variants"]:
        return []
    rows = []
    for variant in facts["variants"]:
        options = ", ".join(f"{name}={value}" for name, value in variant["options"].items()) or "the defaults"
        held = [trait.replace("_", "-") for trait, value in variant["traits"].items() if value is True]
        rows.append(
            [f"`{options}`", group(variant["symmetry"]), degree(variant["traits"]["degree"]), ", ".join(held) or "none"]
        )
    head = ["Options", "largest group", "degree", "shift traits"]
    return ["## Configurations", "", "As declared, and tested.", "", *table(head, rows)]


def _cost(facts: Facts) -> list[str]:
    rows = []
    for each in facts["cost"]:
        extra = ", ".join(f"{times} {name} of {size}" for name, size, times in each["factorisations"])
        rows.append(
            [
                f"`{each['regime']}`",
                polynomial(each["multiply_flops"]) + (f", {extra}" if extra else ""),
                polynomial(each["entry_flops"]),
                polynomial(each["traffic"], 8),
                polynomial(each["state"], 8),
            ]
        )
    head = ["Shape", "flops of products", "flops entry by entry", "bytes moved", "bytes of state"]
    return [
        "## Cost",
        "",
        "Of one ordinary step of the default configuration (the second one) on an `m x n` weight in float64, counted "
        "from the operations that run; exact polynomials. Bytes moved: every operation reads its operands and writes "
        "its result, nothing is fused. A batch costs as much as its matrices.",
        "",
        *table(head, rows),
    ]


def joint_page(facts: Facts) -> str:
    """The page of a rule of several tensors."""
    name, traits = facts["name"], facts["traits"]
    rows = [
        ["Tensors", ", ".join(facts["tensors"])],
        ["Gauge", group(facts["gauge"])],
        ["Group", group(facts["symmetry"])],
        ["Degree `U(c G) = c^k U(G)`, without eps", degree(traits["degree"])],
        ["Displacement orthogonal to the orbit", "yes" if traits["horizontal"] else "no"],
    ]
    asked = [
        [
            f"`{', '.join(f'{key}={value}' for key, value in each['options'].items()) or 'the defaults'}`",
            each["block"],
            group(each["action"]),
            answered(each),
        ]
        for each in facts["blocks"]
    ]
    defaults = [[f"`{key}`", f"`{value}`"] for key, value in facts["defaults"].items()]
    sections = [
        [NOTE, "", f"# {name}", "", code(facts["doc"]), "", f"Source: {facts['source']}."],
        [f'In code: `reference.get_joint_rule("{name}")`; front end `reference.joint.optimizers.{facts["class"]}`.'],
        ["## Symmetry", "", *table(["", "default configuration"], rows)],
        [
            "## Proof",
            "",
            "What `symcheck certify` answers on the joint blocks that have its tensors; *refuted* where the block asks "
            "for more than the rule claims.",
            "",
            *table(["Options", "block", "action of the block", "equivariance"], asked),
        ],
        ["## Defaults", "", *table(["Hyper-parameter", "default"], defaults), "", "Weight decay is decoupled."],
    ]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


# The index -----------------------------------------------------------------------------------------------------------


def index_page(data: Sequence[Facts], joint: Sequence[Facts]) -> str:
    """The tables of all rules."""
    head = ["Rule", "in short", "largest group", "proof", "tight", "degree", "products (`m <= n`)", "numbers of state"]
    joint_head = ["Rule", "in short", "group", "tensors", "degree", "on its blocks"]
    versions = ", ".join(sorted({facts["torch"] for facts in (*data, *joint)}))
    return "\n".join(
        [
            NOTE,
            "",
            "# Reference rules",
            "",
            f"{len(data)} rules of one weight, each with its default configuration. A page has the formula, the group "
            "and its proof, the state and how it moves, the defaults, other configurations and the cost. `tight`: "
            "every group one class above is refuted by a witness. Written by `python docs/rule_pages.py`; proofs, "
            f"formulas and costs were found with torch {versions}.",
            "",
            *table(head, [_index_row(facts) for facts in data]),
            "",
            f"{len(joint)} rules of several tensors, for symmetries that tie these together.",
            "",
            *table(joint_head, [_joint_row(facts) for facts in joint]),
            "",
        ]
    )


def _index_row(facts: Facts) -> list[str]:
    name, proof, wide = facts["name"], facts["proof"], facts["cost"][0]
    shown = proof["verdict"]
    if shown == "proved":
        shown = f"[proved{' on condition' if proof['conditions'] or proof['square'] else ''}](proofs/{name}.txt)"
    products = polynomial(wide["multiply_flops"])
    times = Counter[str]()
    for what, _, count in wide["factorisations"]:
        times[what] += count
    extra = ", ".join(f"{count} {what}{'s' if count > 1 else ''}" for what, count in times.items())
    tight = "yes" if all(each["verdict"] == "refuted" for each in facts["above"]) else "open"
    return [
        f"[{name}]({name}.md)",
        first_sentence(facts["doc"]),
        group(facts["symmetry"]),
        shown,
        tight if facts["above"] else "",
        degree(facts["traits"]["degree"]),
        ", ".join(part for part in (products if products != "0" else "", extra) if part) or "none",
        polynomial(wide["state"]),
    ]


def _joint_row(facts: Facts) -> list[str]:
    verdicts = Counter(each["verdict"] for each in facts["blocks"])
    return [
        f"[{facts['name']}]({facts['name']}.md)",
        first_sentence(facts["doc"]),
        group(facts["symmetry"]),
        ", ".join(facts["tensors"]),
        degree(facts["traits"]["degree"]),
        ", ".join(f"{times} {verdict}" for verdict, times in verdicts.items()),
    ]
