"""Certificates of the corpus: good ones that the prover finds, bad ones that are wrong in one way each.

``python -m tests.kernel.certificates`` writes the files. Programs are written with `symcheck.trace.builder`, so the
corpus depends neither on torch's operations nor on the recorder.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from groups import parse_action
from symcheck.kernel.check import HASH, subject
from symcheck.prove.claims import equivariance_claim
from symcheck.prove.prover import machine_of, prove
from symcheck.trace.builder import Builder, Sym
from symcheck.trace.program import Program, Step, Trace

CORPUS = Path(__file__).parents[2] / "symcheck" / "kernel" / "corpus"
Document = dict[str, Any]
M, N = 5, 3
ROWS: list[list[tuple[int, ...]]] = [[(0,), (1,)]]


class Tape(Builder):
    """A builder of one step, with what optimizers are made of."""

    def __init__(self, *shape: int, state: Sequence[str] = (), dims: Sequence[tuple[int, ...]] | None = None) -> None:
        super().__init__()
        self.names = ["weight:0", "grad:0", *(f"state:{name}" for name in state)]
        self.dims = tuple(dims or ((size,) for size in shape))
        self.w = self.input("weight:0", self.dims, torch.float64)
        self.g = self.input("grad:0", self.dims, torch.float64)

    def old(self, name: str, *shape: int) -> Sym:
        """A state tensor from the step before."""
        return self.input(f"state:{name}", tuple((size,) for size in shape) if shape else self.dims, torch.float64)

    def matmul(self, x: Sym, y: Sym, left: str = "ij", right: str = "jk") -> Sym:
        """A product of two matrices, their indices written as letters."""
        rows = [[(ord(letter),) for letter in word] for word in (left, right)]
        out = [(ord(letter),) for letter in left + right if (left + right).count(letter) == 1]
        return self.contract([x, y], rows, out)

    def step(self, x: Sym, decay: float = 0.99) -> Sym:
        """The new weights."""
        return self.sub(self.scale(self.w, decay), self.scale(x, 0.125))

    def done(self, **outputs: Sym) -> Step:
        """The step, without values."""
        lines = {"weight:0" if k == "w" else f"state:{k}": v.line for k, v in outputs.items()}
        program = Program(tuple(self.lines), lines)
        inputs = {line.attributes["name"]: None for line in self.lines if line.op == "input"}
        return Step(program, dict(self.constants), inputs, dict.fromkeys(lines), list(self.sizes))


def start(*shape: int, dims: Sequence[tuple[int, ...]] | None = None, **state: tuple[int, ...]) -> Step:
    """A constructor that makes state tensors of zeros."""
    tape = Builder()
    w = tape.input("weight:0", tuple(dims or ((size,) for size in shape)), torch.float64)
    outputs = {"weight:0": w} | {
        f"state:{k}": tape.zero(tuple((size,) for size in v) if v else w.dims) for k, v in state.items()
    }
    lines = {k: v.line for k, v in outputs.items()}
    return Step(
        Program(tuple(tape.lines), lines), dict(tape.constants), {"weight:0": None}, dict.fromkeys(lines), tape.sizes
    )


def certificate(claim: Document, *steps: Step, shape: tuple[int, ...] = (M, N)) -> Document:
    """The proof of a claim about these steps."""
    proof = prove(machine_of([Trace((shape,), steps)]), claim, {"runs": {"3x2": 3}, "steps": 3, "worst": "1e-16"})
    return json.loads(json.dumps(proof.certificate))  # type: ignore[no-any-return]


def equivariance(action: str, *steps: Step, shape: tuple[int, ...] = (M, N)) -> Document:
    """The proof that the steps commute with an action."""
    return certificate(dict(equivariance_claim(parse_action(action), (shape,)).claim), *steps, shape=shape)


# -- rules -------------------------------------------------------------------------------------------------------------


def muon(iterations: int = 3) -> tuple[Step, ...]:
    """Momentum, normalised by its Frobenius norm, then Newton-Schulz."""
    t = Tape(M, N)
    m = t.add(t.scale(t.old("m"), 0.95), t.scale(t.g, 0.05))
    norm = t.map("sqrt", t.contract([m, m], ROWS * 2, []))
    x = t.mul(m, t.map("reciprocal", t.map("clamp", norm, args=[1e-7, None])))
    for _ in range(iterations):
        a = t.matmul(x, x, "ij", "kj")
        b = t.add(t.scale(a, -4.7), t.scale(t.matmul(a, a), 2.0))
        x = t.add(t.scale(x, 3.4), t.matmul(b, x))
    return start(M, N, m=()), t.done(w=t.step(x), m=m)


def row_norm() -> tuple[Step, ...]:
    """Rows divided by their lengths."""
    t = Tape(M, N)
    lengths = t.map("sqrt", t.contract([t.g, t.g], ROWS * 2, [(0,)]))
    x = t.contract([t.g, t.map("reciprocal", lengths)], [ROWS[0], [(0,)]], ROWS[0])
    return start(M, N), t.done(w=t.step(x))


def adamw() -> tuple[Step, ...]:
    """Entry by entry."""
    t = Tape(M, N)
    m = t.add(t.scale(t.old("m"), 0.9), t.scale(t.g, 0.1))
    v = t.add(t.scale(t.old("v"), 0.99), t.scale(t.mul(t.g, t.g), 0.01))
    x = t.div(m, t.add(t.map("sqrt", v), t.number(1e-8)))
    return start(M, N, m=(), v=()), t.done(w=t.step(x), m=m, v=v)


def shampoo() -> tuple[Step, ...]:
    """``(L + eps)^(-1/4) G`` by eigenvectors: a function of eigenvalues needs no simple spectrum."""
    t = Tape(M, N)
    left = t.add(t.old("L", M, M), t.matmul(t.g, t.g, "ij", "kj"))
    values, vectors = t.factor("eigh", left)
    power = t.map("power", t.add(values, t.number(1e-6)), args=[-0.25])
    root = t.contract([vectors, power, vectors], [[(0,), (1,)], [(1,)], [(2,), (1,)]], [(0,), (2,)])
    return start(M, N, L=(M, M)), t.done(w=t.step(t.matmul(root, t.g)), L=left)


def soap() -> tuple[Step, ...]:
    """Adam's second moments in the eigenbasis of the step before: a simple spectrum is assumed."""

    def step(first: bool) -> Step:
        t = Tape(M, M)
        left = t.add(*([] if first else [t.old("L", M, M)]), t.matmul(t.g, t.g, "ij", "kj"))
        _, vectors = t.factor("eigh", left)
        basis = vectors if first else t.old("Q", M, M)
        turned = t.matmul(basis, t.g, "ji", "jk")
        v = t.mul(turned, turned)
        if not first:
            v = t.add(t.scale(t.old("v"), 0.9), t.scale(v, 0.1))
        x = t.matmul(basis, t.div(turned, t.add(t.map("sqrt", v), t.number(1e-8))), "ij", "jk")
        return t.done(w=t.step(x), L=left, Q=basis, v=v)

    return step(True), step(False)


def polar() -> tuple[Step, ...]:
    """``U V^T`` over the singular values above a cutoff."""
    t = Tape(M, N)
    u, s, vh = t.factor("svd", t.g)
    mask = t.map("gt", s, t.number(1e-9))
    x = t.contract([u, mask, vh], [[(0,), (1,)], [(1,)], [(1,), (2,)]], [(0,), (2,)])
    return start(M, N), t.done(w=t.step(x))


def scaled() -> tuple[Step, ...]:
    """``W <- W - lr G W^2``: what scales the weights scales gradients inversely."""
    t = Tape(M, N)
    x = t.contract([t.g, t.w, t.w], ROWS * 3, ROWS[0])
    return start(M, N), t.done(w=t.step(x))


def heads() -> tuple[Step, ...]:
    """Every head of ``(head, row, column)`` divided by its norm."""
    dims = ((2, 3), (4,))
    t = Tape(dims=dims)
    letters: list[tuple[int, ...]] = [(0, 1), (2,)]
    norms = t.map("sqrt", t.contract([t.g, t.g], [letters] * 2, [(0,)]))
    x = t.contract([t.g, t.map("reciprocal", norms)], [letters, [(0,)]], letters)
    return start(dims=dims), t.done(w=t.step(x))


def experts() -> tuple[Step, ...]:
    """A stack of matrices, each divided by its norm."""
    t = Tape(2, 4, 3)
    letters: list[tuple[int, ...]] = [(0,), (1,), (2,)]
    norms = t.map("sqrt", t.contract([t.g, t.g], [letters] * 2, [(0,)]))
    x = t.contract([t.g, t.map("reciprocal", norms)], [letters, [(0,)]], letters)
    return start(2, 4, 3), t.done(w=t.step(x))


def centred(decay: float) -> tuple[Step, ...]:
    """The sign of the centred gradient, centred again."""
    t = Tape(M, N)

    def centre(x: Sym) -> Sym:
        return t.sub(x, t.expand_to(t.sum(x, [0], mean=True), x.dims))

    return start(M, N), t.done(w=t.step(centre(t.map("sign", centre(t.g))), decay))


def sketch() -> tuple[Step, ...]:
    """The gradient on the span of a random sketch of it, by QR."""
    t = Tape(M, N)
    noise = t.random(((N,), (2,)), "normal")
    q, _ = t.factor("qr", t.matmul(t.g, noise))
    return start(M, N), t.done(w=t.step(t.matmul(q, t.matmul(q, t.g, "ji", "jk"))))


def shift(name: str) -> Document:
    """The claim that a shift property holds."""
    return {"property": name, "tensors": 1}


def good() -> dict[str, Document]:
    """Certificates that the kernel accepts."""
    return {
        "muon": equivariance("O(rows) x O(cols)", *muon()),
        "muon-stab1": equivariance("Stab1(rows) x SPerm(cols)", *muon(1)),
        "muon-quotient": certificate(shift("shift_quotient"), *muon(1)),
        "row-norm": equivariance("SPerm(rows) x O(cols)", *row_norm()),
        "adamw": equivariance("SPerm(entries)", *adamw()),
        "shampoo": equivariance("O(rows) x O(cols)", *shampoo()),
        "soap": equivariance("O(rows) x Perm(cols)", *soap(), shape=(M, M)),
        "polar": equivariance("O(rows) x O(cols)", *polar()),
        "scaled": equivariance("Scale(rows) x Scale+(cols)", *scaled()),
        "heads": equivariance("(O wr Perm[2])(rows) x O(cols)", *heads(), shape=(6, 4)),
        "experts": equivariance("(O(rows) x O(cols)) wr Perm(experts)", *experts(), shape=(2, 4, 3)),
        "sketch": equivariance("O(rows) x O(cols)", *sketch()),
        "centred-shift": certificate(shift("shift_equivariance"), *centred(1.0)),
        "centred-quotient": certificate(shift("shift_quotient"), *centred(0.99)),
        "centred-insensitive": certificate(shift("shift_insensitivity"), *centred(0.99)),
        "centred-horizontal": certificate(shift("horizontality"), *centred(1.0)),
        "centred-stab1": equivariance("Perm(rows) x SPerm(cols)", *centred(0.99)),
    }


# -- bad ones ----------------------------------------------------------------------------------------------------------


def sealed(document: Document) -> Document:
    """With the hash that fits its claim and programs: what is wrong must be found without it."""
    document["subject"] = subject(document["claim"], document["edges"])
    return document


def written(claim: Document, lines: list[Document], outputs: dict[str, int], **more: Any) -> Document:
    """A certificate of one step from 'start' to itself, written by hand."""
    edge = {"source": "start", "target": "start", "lines": lines, "outputs": outputs, "leaks": [], "rename": {}}
    document = {
        "schema": "symcheck.certificate/1",
        "axioms": HASH,
        "claim": claim,
        "conditions": [],
        "nodes": [{"name": "start", "gauges": [], "laws": {}}],
        "edges": [edge | more],
        "bridge": {"runs": {"3x2": 1}, "steps": 1, "worst": "0"},
    }
    return sealed(document)


def line(op: str, ins: list[int], law: Any, **at: Any) -> Document:
    """A line of a certificate."""
    return {"op": op, "in": ins, "law": law, **({"at": at} if at else {})}


def variables(*rows: tuple[str, str]) -> list[Document]:
    """Declarations of variables on one axis."""
    return [{"name": name, "class": kind, "axes": 1, "fibre": None} for name, kind in rows]


ORTH = {
    "property": "equivariance",
    "variables": variables(("P", "orth"), ("Q", "orth")),
    "tensors": [[["P", 0, 1], ["Q", 0, 1]]],
}
MATRIX = {"axes": [["vec", "P", 0, 1, "0"], ["vec", "Q", 0, 1, "0"]]}
SHIFT = shift("shift_equivariance")


def inputs(law: Any = MATRIX, of_grad: Any = None) -> list[Document]:
    """Weight and gradient."""
    return [line("input", [], law, name="weight:0"), line("input", [], of_grad or law, name="grad:0")]


def changed(document: Document, *path: Any, to: Any) -> Document:
    """A copy with one entry replaced (or removed: ``to`` is `...`), and sealed."""
    document = copy.deepcopy(document)
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    if to is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return sealed(document) if path[0] != "subject" else document


def bad(proofs: dict[str, Document]) -> dict[str, Document]:
    """Certificates that are wrong in one way each."""
    sgd = [*inputs(), line("add", [0, 1], MATRIX, signs=[1, -1])]
    entries = {
        "property": "equivariance",
        "variables": [{"name": "E", "class": "perm", "axes": 2, "fibre": None}],
        "tensors": [[["E", 0, 1], ["E", 1, 1]]],
    }
    entry = {"axes": [["vec", "E", 0, 0, "0"], ["vec", "E", 1, 0, "0"]]}
    free = {"axes": [["free"], ["free"]]}
    positive = {**free, "nonneg": True}
    one = {"axes": []}
    add = {"signs": [1, -1]}
    fixed, base, moves = ["0", None], ["1", None], ["0", 0]
    unknown = [line("input", [], None, name="weight:0"), *sgd[1:2]]
    muon, soap = proofs["muon"], proofs["soap"]
    node = {"name": "away", "gauges": [], "laws": {}}
    away = {**sgd_edge(sgd), "source": "away", "target": "away"}
    return {
        "rotated-sign": written(ORTH, [*inputs(), line("map", [1], MATRIX, fn="sign", args=[]),
                                       line("add", [0, 2], MATRIX, **add)], {"weight:0": 3}),
        "weight-without-law": written(ORTH, unknown, {"weight:0": 0}),
        "law-from-nothing": written(ORTH, [*unknown, line("add", [0, 1], MATRIX, **add)], {"weight:0": 2}),
        "output-missing": written(ORTH, sgd, {}),
        "output-of-no-state": written(ORTH, sgd, {"weight:0": 2, "state:m": 1}),
        "output-is-the-gradient-of-a-scale": written(
            {**ORTH, "variables": variables(("P", "scale"), ("Q", "orth"))},
            inputs({"axes": [["vec", "P", 0, 1, "1"], MATRIX["axes"][1]]},
                   {"axes": [["vec", "P", 0, 1, "-1"], MATRIX["axes"][1]]}), {"weight:0": 1}),
        "leak-of-a-rotated-value": written(ORTH, sgd, {"weight:0": 2}, leaks=[1]),
        "no-gradient": written(ORTH, sgd[:1], {"weight:0": 0}),
        "node-never-reached": sealed({**written(ORTH, sgd, {"weight:0": 2}),
                                      "nodes": [{**node, "name": "start"}, node]}),
        "edge-from-nowhere": sealed({**written(ORTH, sgd, {"weight:0": 2}), "edges": [away],
                                     "nodes": [{**node, "name": "start"}, node]}),
        "law-of-a-weight-at-a-node": sealed({
            **written(ORTH, sgd[:2], {"weight:0": 0}),
            "nodes": [{**node, "name": "start"}, {**node, "laws": {"weight:0": None}}],
            "edges": [{**sgd_edge([*inputs(), line("array", [], None, rank=2)]), "target": "away",
                       "outputs": {"weight:0": 2}}]}),
        "law-of-a-gradient-at-a-node": sealed({
            **written(ORTH, sgd, {"weight:0": 2}),
            "nodes": [{**node, "name": "start"}, {**node, "laws": {"grad:0": {"axes": [["inv"], ["inv"]]}}}]}),
        "start-with-state": changed(written(ORTH, sgd, {"weight:0": 2}), "nodes", 0, "laws", to={"state:m": None}),
        "entries-one-by-one": written(entries, [
            *inputs(entry), line("contract", [1, 1], one, indices=[[0, 1], [0, 2]], out=[], mean=False),
            line("expand", [2], free, axes=[0, 1]), line("coerce", [3], entry), line("add", [0, 4], entry, **add)],
            {"weight:0": 5}),
        "sum-of-a-rotated-axis": written(ORTH, [
            *inputs(), line("contract", [1], one, indices=[[0, 1]], out=[], mean=False),
            line("contract", [0, 2], MATRIX, indices=[[0, 1], []], out=[0, 1], mean=False)], {"weight:0": 3}),
        "eps-on-entries": written(ORTH, [
            *inputs(), {**line("number", [], {"axes": [], "nonneg": True}), "at": {"value": "1", "nonneg": True}},
            line("expand", [2], positive, axes=[0, 1]), line("coerce", [3], MATRIX),
            line("add", [0, 4], MATRIX, **add)], {"weight:0": 5}),
        "noise-that-is-not-normal": sealed({**written(ORTH, [
            *inputs(), line("random", [], MATRIX, rank=2, distribution="symmetric"),
            line("add", [0, 2], MATRIX, **add)], {"weight:0": 3}),
            "conditions": ["in distribution over its random numbers"]}),
        "number-that-lies": written(ORTH, [*sgd, {**line("number", [], {"axes": [], "nonneg": True}),
                                                  "at": {"value": "-1", "nonneg": True}}], {"weight:0": 2}),
        "operand-ahead": changed(written(ORTH, sgd, {"weight:0": 2}), "edges", 0, "lines", 2, "in", to=[0, 2]),
        "operation-unknown": written(ORTH, [*sgd, line("frobnicate", [0], None)], {"weight:0": 2}),
        "attribute-left-over": changed(written(ORTH, sgd, {"weight:0": 2}), "edges", 0, "lines", 2, "at",
                                       to={**add, "x": 1}),
        "other-program": changed(muon, "subject", to="0" * 64),
        "bridge-of-nothing": changed(muon, "bridge", to={}),
        "condition-hidden": changed(soap, "conditions", to=[]),
        "condition-invented": changed(muon, "conditions", to=["simple spectrum"]),
        "gauge-stronger": changed(soap, "edges", 0, "lines", gauge_line(soap), "gauge", "class", to="orth"),
        "gauge-named-as-a-variable": changed(soap, "edges", 0, "lines", gauge_line(soap), "gauge", "name",
                                             to=soap["claim"]["variables"][0]["name"]),
        "gauge-not-renamed": changed(soap, "edges", 1, "rename", to={}),
        "rename-of-the-claim": changed(
            written(ORTH, [*inputs(), line("contract", [1], {"axes": MATRIX["axes"][::-1]}, indices=[[0, 1]],
                                           out=[1, 0], mean=False)], {"weight:0": 2}),
            "edges", 0, "rename", to={"P": "Q", "Q": "P"}),
        "fibre-of-nothing": changed(proofs["heads"], "claim", "variables", 1, "fibre", to="nobody"),
        "decay-is-not-equivariant-to-shifts": written(SHIFT, [
            *inputs(base, fixed), line("number", [], fixed, value="1/2", nonneg=True),
            line("contract", [0, 2], ["1/2", None], indices=[[0, 1], []], out=[0, 1], mean=False)], {"weight:0": 3}),
        "decay-claimed-away": written(SHIFT, [
            *inputs(base, fixed), line("number", [], fixed, value="1/2", nonneg=True),
            line("contract", [0, 2], base, indices=[[0, 1], []], out=[0, 1], mean=False)], {"weight:0": 3}),
        "mean-of-another-axis": written(shift("shift_insensitivity"), [
            *inputs(fixed, moves), line("contract", [1], None, indices=[[0, 1]], out=[0], mean=True),
            line("expand", [2], None, axes=[1]), line("add", [1, 3], fixed, signs=[1, -1]),
            line("add", [0, 4], fixed, signs=[1, -1])], {"weight:0": 5}),
        "mean-that-is-a-sum": written(shift("shift_insensitivity"), [
            *inputs(fixed, moves), line("contract", [1], None, indices=[[0, 1]], out=[1], mean=False),
            line("expand", [2], None, axes=[0]), line("add", [1, 3], fixed, signs=[1, -1]),
            line("add", [0, 4], fixed, signs=[1, -1])], {"weight:0": 5}),
        "law-of-another-property": written(SHIFT, [*inputs(base, {"zero": 2})], {"weight:0": 0}),
        "columns-that-do-not-sum-to-zero": written(shift("horizontality"), [
            *inputs(["1", 0], ["0", 0]), line("map", [1], ["0", 0], fn="sign", args=[]),
            line("add", [0, 2], ["1", 0], signs=[1, -1])], {"weight:0": 3}),
        "shift-that-leaks": written(SHIFT, [*inputs(base, fixed)], {"weight:0": 0}, leaks=[0]),
        "independence-of-one": written({"property": "independence", "tensors": 1, "of": "grad:0"},
                                       inputs(None), {"weight:0": 0}),
        "coupled": written({"property": "independence", "tensors": 2, "of": "grad:1"}, [
            *inputs(["0", None]), line("input", [], None, name="weight:1"), line("input", [], None, name="grad:1"),
            line("add", [0, 3], ["0", None], signs=[1, -1])], {"weight:0": 4, "weight:1": 2}),
    }  # fmt: skip


def sgd_edge(lines: list[Document]) -> Document:
    """The edge of gradient descent."""
    return {"source": "start", "target": "start", "lines": lines, "outputs": {"weight:0": 2}, "leaks": [], "rename": {}}


def gauge_line(document: Document) -> int:
    """The first line of the first edge that introduces a gauge."""
    return next(number for number, row in enumerate(document["edges"][0]["lines"]) if "gauge" in row)


def corpus() -> dict[Path, str]:
    """The text of every file."""
    proofs = good()
    groups: Sequence[tuple[str, Callable[[], dict[str, Document]]]] = (
        ("good", lambda: proofs),
        ("bad", lambda: bad(proofs)),
    )
    return {
        CORPUS / folder / f"proof-{name}.json": json.dumps(document, separators=(",", ":")) + "\n"
        for folder, make in groups
        for name, document in make().items()
    }


if __name__ == "__main__":
    for path, content in corpus().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
