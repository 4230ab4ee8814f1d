"""Derivations of hand-made programs: what a reader must find on the page."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import pytest

from symcheck.kernel.axioms import AXIOMS
from symcheck.prove.derivation import Derivation, Repetition, explain
from symcheck.prove.printer import short
from symcheck.prove.prover import Edge, Machine, prove
from symcheck.trace.program import Line, Program


class Pen:
    """Writes a program line by line; every method returns the number of the line it wrote."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def write(self, op: str, operands: Sequence[int], rank: int, /, **attributes: Any) -> int:
        self.lines.append(Line(op, tuple(operands), attributes, rank))
        return len(self.lines) - 1

    def rank(self, line: int) -> int:
        return self.lines[line].rank

    def input(self, name: str, rank: int = 2) -> int:
        return self.write("input", (), rank, name=name)

    def number(self, value: str | None) -> int:
        return self.write("number", (), 0, value=value, nonneg=value is None or not value.startswith("-"))

    def expand(self, x: int, rank: int, axes: Sequence[int] | None = None) -> int:
        return self.write("expand", (x,), rank, axes=list(range(rank) if axes is None else axes))

    def contract(self, spec: str, *operands: int, mean: bool = False) -> int:
        left, out = spec.split("->")
        letters = {letter: k for k, letter in enumerate(dict.fromkeys(c for c in spec if c.isalpha()))}
        rows = [[letters[c] for c in row] for row in left.split(",")]
        outs = [letters[c] for c in out]
        return self.write("contract", operands, len(out), indices=rows, out=outs, mean=mean)

    def scale(self, value: str | int | None, x: int) -> int:
        factor = value if isinstance(value, int) else self.number(value)
        axes = "ijkl"[: self.rank(x)]
        return self.contract(f",{axes}->{axes}", factor, x)

    def add(self, *operands: int, signs: Sequence[int] | None = None) -> int:
        return self.write("add", operands, self.rank(operands[0]), signs=list(signs or [1] * len(operands)))

    def map(self, fn: str, *operands: int, args: Sequence[str | None] = ()) -> int:
        return self.write("map", operands, self.rank(operands[0]), fn=fn, args=list(args))

    def part(self, bundle: int, part: str, rank: int) -> int:
        return self.write("part", (bundle,), rank, part=part)

    def ema(self, state: int, x: int, beta: str = "19/20") -> int:
        return self.add(self.scale(beta, state), self.scale(str(1 - Fraction(beta)), x))

    def descend(self, weight: int, x: int, rate: str | int | None = "1/50") -> int:
        return self.add(weight, self.scale(rate, x), signs=[1, -1])

    def program(self, outputs: Mapping[str, int], leaks: Sequence[int] = ()) -> Program:
        return Program(tuple(self.lines), dict(outputs), tuple(leaks))


State = Mapping[str, int]
Update = Any


def claim(rows: str | None, cols: str | None) -> dict[str, Any]:
    """A claim on one matrix: classes of its rows and columns."""
    axes = [(name, kind) for name, kind in (("P", rows), ("Q", cols))]
    variables = [{"name": name, "class": kind, "axes": 1, "fibre": None} for name, kind in axes if kind]
    tensor = [[name, 0, 1] if kind else None for name, kind in axes]
    return {"property": "equivariance", "variables": variables, "tensors": [tensor]}


ENTRIES = {
    "property": "equivariance",
    "variables": [{"name": "E", "class": "sperm", "axes": 2, "fibre": None}],
    "tensors": [[["E", 0, 1], ["E", 1, 1]]],
}


def certificate(update: Update, ranks: Mapping[str, int], claimed: Mapping[str, Any]) -> dict[str, Any]:
    """Prove ``update(pen, weight, gradient, state)`` with a state that starts at zero."""
    state_names = [f"state:state[0].{name}" for name in ranks]
    first, later = Pen(), Pen()
    programs = []
    for pen in (first, later):
        weight, grad = pen.input("weight:0"), pen.input("grad:0")
        if pen is later:
            state = {name: pen.input(f"state:state[0].{name}", rank) for name, rank in ranks.items()}
        else:
            state = {name: pen.write("zero", (), rank, rank=rank) for name, rank in ranks.items()}
        new_weight, new_state = update(pen, weight, grad, state)
        outputs = {"weight:0": new_weight, **{f"state:state[0].{name}": line for name, line in new_state.items()}}
        programs.append(pen.program(outputs))

    def edge(source: str, target: str, program: Program) -> Edge:
        sizes = [tuple(range(2, 2 + max(line.rank, 0))) for line in program.lines]
        return Edge(source, target, program, sizes, ())

    if not ranks:
        machine = Machine((edge("start", "start", programs[0]),), {"start": ()})
    else:
        edges = (edge("start", "state 1", programs[0]), edge("state 1", "state 1", programs[1]))
        machine = Machine(edges, {"start": (), "state 1": tuple(sorted(state_names))})
    proof = prove(machine, claimed, {"runs": {"5x3": 32}, "steps": 12, "worst": "3.1e-15"})
    return copy.deepcopy(dict(proof.certificate))


def row_norm(pen: Pen, weight: int, grad: int, state: State) -> Any:
    buffer = pen.ema(state["momentum_buffer"], grad)
    norms = pen.map("sqrt", pen.contract("ij,ij->i", buffer, buffer))
    floor = pen.add(norms, pen.expand(pen.number("1/100000000"), 1))
    return pen.descend(weight, pen.contract("ij,i->ij", buffer, pen.map("reciprocal", floor))), {
        "momentum_buffer": buffer
    }


COEFFICIENTS = [("3.4445", "-4.7750", "2.0315")] * 5
POLAR = [("8.2872", "-23.5959", "17.3004"), ("4.1071", "-2.9478", "0.5448"), ("3.9486", "-2.9089", "0.5518"),
         ("3.3184", "-2.4885", "0.51"), ("2.3007", "-1.6689", "0.4188")]  # fmt: skip


def muon(iterations: int, *, wide: bool = True, table: Sequence[Sequence[str]] = COEFFICIENTS) -> Update:
    def update(pen: Pen, weight: int, grad: int, state: State) -> Any:
        buffer = pen.ema(state["momentum_buffer"], grad)
        minus = pen.add(grad, buffer, signs=[-1, 1])
        x = pen.add(grad, pen.scale("19/20", minus))
        x = pen.write("round", (x,), 2, dtype="bfloat16")
        x = x if wide else pen.contract("ij->ji", x)
        norm = pen.map("sqrt", pen.contract("ij,ij->", x, x))
        floor = pen.map("clamp", norm, args=["1/10000000", None])
        x = pen.contract("ij,->ij", x, pen.map("reciprocal", floor))
        for row in table[:iterations]:
            a, b, c = (str(Fraction(value)) for value in row)
            gram = pen.contract("ik,jk->ij", x, x)
            inner = pen.add(pen.scale(b, gram), pen.scale(c, pen.contract("ik,kj->ij", gram, gram)))
            x = pen.add(pen.scale(a, x), pen.contract("ik,kj->ij", inner, x))
        x = x if wide else pen.contract("ij->ji", x)
        decayed = pen.scale("4999/5000", weight)
        return pen.descend(decayed, x, None), {"momentum_buffer": buffer}

    return update


def adamw(pen: Pen, weight: int, grad: int, state: State) -> Any:
    mean = pen.ema(state["exp_avg"], grad, "9/10")
    square = pen.ema(state["exp_avg_sq"], pen.contract("ij,ij->ij", grad, grad), "999/1000")
    step = pen.add(state["step"], pen.number("1"))
    root = pen.scale(None, pen.map("sqrt", square))
    floor = pen.add(root, pen.expand(pen.number("1/100000000"), 2))
    direction = pen.contract("ij,ij->ij", mean, pen.map("reciprocal", floor))
    new = pen.descend(pen.scale("99999/100000", weight), direction, None)
    return new, {"exp_avg": mean, "exp_avg_sq": square, "step": step}


def shampoo(pen: Pen, weight: int, grad: int, state: State) -> Any:
    left = pen.add(state["left"], pen.contract("ik,jk->ij", grad, grad))
    right = pen.add(state["right"], pen.contract("ki,kj->ij", grad, grad))
    roots = []
    for factor in (left, right):
        ridge = pen.add(factor, pen.scale("1/1000000", pen.write("eye", (), 2)))
        bundle = pen.write("eigh", (ridge,), -1)
        values, vectors = pen.part(bundle, "values", 1), pen.part(bundle, "vectors", 2)
        power = pen.map("power", values, args=["-1/4"])
        roots.append(pen.contract("ik,k,jk->ij", vectors, power, vectors))
    direction = pen.contract("ij,jk,kl->il", roots[0], grad, roots[1])
    return pen.descend(weight, direction), {"left": left, "right": right}


CASES: Mapping[str, tuple[Update, Mapping[str, int], Mapping[str, Any]]] = {
    "row_norm": (row_norm, {"momentum_buffer": 2}, claim("sperm", "orth")),
    "muon_2": (muon(2), {"momentum_buffer": 2}, claim("orth", "orth")),
    "muon_5": (muon(5), {"momentum_buffer": 2}, claim("orth", "orth")),
    "muon_tall": (muon(5, wide=False), {"momentum_buffer": 2}, claim("orth", "orth")),
    "polar_express": (muon(5, table=POLAR), {"momentum_buffer": 2}, claim("orth", "orth")),
    "adamw": (adamw, {"exp_avg": 2, "exp_avg_sq": 2, "step": 0}, ENTRIES),
    "shampoo": (shampoo, {"left": 2, "right": 2}, claim("orth", "orth")),
}


def derivation(name: str) -> Derivation:
    return explain(certificate(*CASES[name]))


def rows(page: Derivation) -> list[str]:
    """The numbered lines of the text, without their numbers."""
    return [line.split(")", 1)[1] for line in page.text(120).splitlines() if line.lstrip().startswith("(")]


def test_row_norm_reads_like_a_page() -> None:
    page = derivation("row_norm").text(100)
    assert page.startswith("Claim. For all P ∈ SPerm(m), Q ∈ O(n):")
    assert "W ↦ P W Qᵀ, G ↦ P G Qᵀ" in page
    assert "M′ = 0.95 M + 0.05 G" in page
    assert "W′ = W − 0.02 diag(rownorm(M′) + 10⁻⁸)⁻¹ M′" in page
    assert "The lines of §1, with M = 0" in page
    assert "∎" in page


@pytest.mark.parametrize(("name", "count"), [("muon_2", 2), ("muon_5", 5), ("muon_tall", 5), ("polar_express", 5)])
def test_iterations_are_one_lemma(name: str, count: int) -> None:
    page = derivation(name)
    loops = [item for item in page.sections[0].items if isinstance(item, Repetition)]
    assert [loop.count for loop in loops] == [count]
    assert len(loops[0].rows) == 2
    assert "Aₖ = Xₖ Xₖᵀ" in page.text(100)
    assert f"X_{count}"[-1].translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")) in rows(page)[-1]


def test_iterations_with_one_polynomial_show_its_numbers() -> None:
    assert "Xₖ₊₁ = 3.4445 Xₖ + (−4.775 Aₖ + 2.0315 Aₖ²) Xₖ" in derivation("muon_5").text(100)


def test_iterations_with_other_numbers_have_letters() -> None:
    page = derivation("polar_express").text(120)
    assert "Xₖ₊₁ = aₖ Xₖ + (bₖ Aₖ + cₖ Aₖ²) Xₖ" in page
    assert "aₖ = 8.2872, 4.1071, 3.9486, 3.3184, 2.3007" in page


def test_tall_weights_are_transposed_in_and_out() -> None:
    page = derivation("muon_tall").text(100)
    assert "Xₖ₊₁ ↦ Q Xₖ₊₁ Pᵀ" in page
    assert "X₅ᵀ" in page


def test_adamw_moves_entries() -> None:
    page = derivation("adamw").text(100)
    assert "For all E ∈ SPerm(m n)" in page
    assert "V′ ↦ |E|·V′" in page
    assert "t′ = t + 1" in page
    assert "0.1 G" in page
    assert "may depend on the step" in page


def test_shampoo_names_its_gauges() -> None:
    page = derivation("shampoo").text(100)
    assert "L′ + 10⁻⁶ I = U diag(λ) Uᵀ" in page
    assert "U ↦ P U Θᵀ" in page
    assert "Θ is orthogonal and commutes with diag(λ)" in page
    assert "U diag(λ^(−1/4)) Uᵀ G V diag(μ^(−1/4)) Vᵀ" in page


def test_a_segment_that_is_read_from_outside_is_not_folded() -> None:
    def update(pen: Pen, weight: int, grad: int, state: State) -> Any:
        x, every = grad, []
        for _ in range(4):
            gram = pen.contract("ik,jk->ij", x, x)
            x = pen.add(x, pen.contract("ik,kj->ij", gram, x))
            every.append(x)
        return pen.descend(weight, pen.add(*every)), {}

    page = explain(certificate(update, {}, claim("orth", "orth")))
    assert not any(isinstance(item, Repetition) for item in page.sections[0].items)


def test_every_axiom_on_the_page_is_one_of_the_kernel() -> None:
    known = {name for name, _, _ in AXIOMS}
    for name in CASES:
        page = derivation(name)
        assert {axiom for axiom, _ in page.axioms} <= known
        assert page.axioms


@pytest.mark.parametrize("name", CASES)
def test_latex_is_balanced(name: str) -> None:
    source = derivation(name).latex()
    assert source.isascii(), [c for c in source if not c.isascii()]
    assert source.count("{") == source.count("}")
    assert source.count("$") % 2 == 0
    assert source.count(r"\left") == source.count(r"\right")
    open_: list[str] = []
    for kind, environment in re.findall(r"\\(begin|end)\{([a-z*]+)\}", source):
        if kind == "begin":
            open_.append(environment)
        else:
            assert open_.pop() == environment
    assert not open_


@pytest.mark.parametrize(("value", "shown"), [
    ("19/20", ("0.95", 0)), (Fraction(0.95), ("0.95", 0)), (Fraction(0.949999988079071), ("0.95", 0)),
    ("1/100000000", ("1", -8)), ("1/3", ("1/3", 0)), ("99999/100000", ("0.99999", 0)), ("-191/40", ("-4.775", 0)),
    ("1024", ("1024", 0)), (Fraction(1e-10) * 3, ("3", -10)),
])  # fmt: skip
def test_numbers_are_short(value: str | Fraction, shown: tuple[str, int]) -> None:
    assert short(Fraction(value)) == shown
