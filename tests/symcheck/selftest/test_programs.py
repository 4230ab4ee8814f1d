"""Random programs are reproducible, well typed, and symmetric often enough to test a prover with."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from symcheck.selftest.defect import (
    EQUAL,
    FLOAT_EQUAL,
    SYMMETRIES,
    Examiner,
    Symmetry,
    check_programs,
    defect,
)
from symcheck.selftest.programs import STATES, RandomProgram, random_program
from symcheck.selftest.sketch import Node, Sized, Sketch
from symcheck.trace.bridge import check_bridge
from symcheck.trace.program import Trace

OXO = Symmetry("orth", "orth")


def _sample(count: int, seed: int = 0) -> list[RandomProgram]:
    rng = random.Random(seed)
    return [random_program(rng, stateful=bool(number % 2)) for number in range(count)]


def test_programs_are_a_function_of_the_seed() -> None:
    first, second = _sample(20), _sample(20)
    assert first == second
    assert [p.at(4, 3).program.digest for p in first] == [p.at(4, 3).program.digest for p in second]
    assert len({p.at(4, 3).program.digest for p in first}) == 20


def test_one_program_for_every_shape_with_declared_inputs_and_outputs() -> None:
    for program in _sample(100):
        assert len({program.at(m, n).program.digest for m, n in ((2, 3), (3, 2), (3, 3), (5, 4))}) == 1
        states = {f"state:{name}" for name in program.states}
        written = program.at(4, 3).program
        assert set(written.inputs) == {"weight:0", "grad:0"} | states
        assert set(written.outputs) == {"weight:0"} | states
        assert all(written.lines[written.inputs[f"state:{s}"]].rank == len(STATES[s]) for s in program.states)
        program.trace(4, 3)  # the interpreter checks shapes and ranks of all lines


def test_their_runs_pass_the_bridge() -> None:
    failures = [check_bridge(program.trace(4, 3, steps=2)).failure for program in _sample(25)]
    rejected = [failure for failure in failures if failure]
    assert all("nan" in failure or "inf" in failure or "ill-conditioned" in failure for failure in rejected)
    assert len(rejected) < 8


def test_the_share_of_symmetric_programs_is_useful() -> None:
    shares = dict.fromkeys(map(str, SYMMETRIES), 0)
    rng = random.Random(0)
    for program in _sample(80):
        examiner = Examiner(program)
        for symmetry in SYMMETRIES:
            shares[str(symmetry)] += examiner.quick(symmetry, rng) < FLOAT_EQUAL
    # Of 80: far enough from none and from all for each to say something, and groups in their order.
    assert 8 <= shares["orth(rows) x orth(cols)"] <= 40
    assert 24 <= shares["sperm(rows) x sperm(cols)"] <= 56
    assert 3 <= shares["sperm(entries)"] <= 27
    assert shares["orth(rows) x orth(cols)"] <= shares["perm(rows) x orth(cols)"] <= shares["perm(rows) x perm(cols)"]


# -- elements ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("symmetry", SYMMETRIES, ids=str)
def test_elements_are_of_their_group(symmetry: Symmetry) -> None:
    rng = random.Random(1)
    element = symmetry.element(4, 3, rng)
    for kind, matrix in (
        (symmetry.rows, element.rows),
        (symmetry.cols, element.cols),
        (symmetry.entries, element.entries),
    ):
        assert (kind is None) == (matrix is None)
        if kind is None:
            continue
        if kind.startswith("scale"):
            assert np.array_equal(matrix, np.diag(np.diag(matrix)))
            assert all(np.diag(matrix))
            assert kind == "scale" or min(np.diag(matrix)) > 0
        else:
            assert np.array_equal(matrix @ matrix.T, np.eye(len(matrix), dtype=int))
        if kind in ("perm", "stab1"):
            assert all(sum(row) == 1 for row in matrix)
        if kind in ("perm", "sperm", "sign"):
            assert all(sum(entry != 0 for entry in row) == 1 for row in matrix)
    x, g = np.random.default_rng(0).standard_normal((2, 4, 3))
    pairing = np.sum(element.act(x) * element.act(g, dual=True))
    assert abs(pairing - np.sum(x * g)) < 2.0**-40  # the dual action keeps <W, G>: at most 12 terms, entries below 100


# -- defects -----------------------------------------------------------------------------------------------------------


class _Handmade(RandomProgram):
    """A direction written by hand, in the place of a random one."""

    direction: Callable[[Sketch, Node], Node]

    def at(self, m: int, n: int) -> Sized:
        s = Sketch(m, n, random.Random(0))
        weight, grad = s.input("weight:0", "m", "n"), s.input("grad:0", "m", "n")
        return s.finish({"weight:0": s.add(weight, type(self).direction(s, grad), signs=[1, -1])})


def _made(direction: Callable[[Sketch, Node], Node]) -> RandomProgram:
    return type("Made", (_Handmade,), {"direction": staticmethod(direction)})(1, ())


def _polynomial(s: Sketch, x: Node) -> Node:
    gram = s.einsum("ik,jk->ij", x, x)
    return s.add(s.times(x, "3/2"), s.times(s.matmul(gram, x), "1/2"), signs=[1, -1])


def _polar(s: Sketch, x: Node) -> Node:
    parts = s.factor("svd", x)
    return s.matmul(parts["u"], parts["vh"])


EQUIVARIANT = [
    (_polynomial, OXO, ()),
    (_polar, OXO, ("non-zero singular values",)),
    (lambda s, x: s.map("sign", x), Symmetry(entries="sperm"), ()),
    (lambda s, x: s.map("tanh", x), Symmetry("sperm", "sperm"), ()),
    (lambda s, x: s.map("exp", x), Symmetry("perm", "perm"), ()),
    (lambda s, x: s.times(x, 2), Symmetry(entries="orth"), ()),
    (
        lambda s, x: s.add(x, s.expand(s.einsum("ij->j", x, mean=True), (0,), x.axes), signs=[1, -1]),
        Symmetry("stab1", "orth"),
        (),
    ),
]
BROKEN = [
    (lambda s, x: s.map("sign", x), OXO),
    (lambda s, x: s.map("abs", x), Symmetry("sperm", "sperm")),
    (lambda s, x: s.add(_polynomial(s, x), s.times(s.map("sign", x), "1/1000000000")), OXO),
    (lambda s, x: s.plus(x, "1/1000000000"), Symmetry("sign", "sign")),
    (lambda s, x: s.einsum("ij,i->ij", x, s.einsum("ij->i", x)), Symmetry("perm", "orth")),
    (lambda s, x: s.matmul(s.triangle(s.einsum("ik,jk->ij", x, x)), x), Symmetry("perm", None)),
    (lambda s, x: s.matmul(s.map("abs", s.factor("svd", x)["u"]), s.factor("svd", x)["vh"]), OXO),
    (lambda s, x: s.times(x, s.einsum("ij,ij->", x, x)), Symmetry("scale+", None)),
]


@pytest.mark.parametrize(("direction", "symmetry", "conditions"), EQUIVARIANT)
def test_symmetric_programs_have_no_defect_to_forty_digits(
    direction: Any, symmetry: Symmetry, conditions: tuple[str, ...]
) -> None:
    size = defect(_made(direction), symmetry, random.Random(0), conditions=conditions)
    # 60 digits; polar factors of the degenerate inputs here are at worst 1e4 away from the guard.
    assert size < mpf(10) ** -40


@pytest.mark.parametrize(("direction", "symmetry"), BROKEN)
def test_a_defect_is_found_however_small(direction: Any, symmetry: Symmetry) -> None:
    assert defect(_made(direction), symmetry, random.Random(0)) > EQUAL


def test_conditions_leave_inputs_out() -> None:
    program = _made(_polar)
    assert defect(program, OXO, random.Random(0)) > EQUAL  # the polar factor of a matrix of low rank is not unique
    assert defect(program, OXO, random.Random(0), conditions=["non-zero singular values"]) < EQUAL


def test_a_leak_must_be_invariant() -> None:
    class Leaking(RandomProgram):
        def at(self, m: int, n: int) -> Sized:
            s = Sketch(m, n, random.Random(0))
            weight, grad = s.input("weight:0", "m", "n"), s.input("grad:0", "m", "n")
            return s.finish({"weight:0": s.add(weight, grad, signs=[1, -1])}, [s.einsum("ij->", grad)])

    assert defect(Leaking(1, ()), OXO, random.Random(0)) > EQUAL
    assert defect(Leaking(1, ()), Symmetry("perm", "perm"), random.Random(0)) < EQUAL


# -- the prover's examination ------------------------------------------------------------------------------------------


def test_a_prover_that_proves_everything_is_caught() -> None:
    def credulous(traces: Sequence[Trace], claim: Mapping[str, Any]) -> Sequence[str] | None:
        return ()

    report = check_programs(6, 0, credulous, symmetries=[OXO, Symmetry("perm", "orth")])
    assert report.programs == 6
    assert report.total == 12 == sum(report.proved.values())
    assert report.unsound
    finding = report.unsound[0]
    assert finding.size > EQUAL
    assert defect(finding.program, finding.symmetry, random.Random(5)) > EQUAL


def test_a_prover_that_proves_nothing_is_sound_and_incomplete() -> None:
    seen: list[int] = []
    report = check_programs(10, 0, lambda traces, claim: None, symmetries=[OXO], progress=lambda n, _: seen.append(n))
    assert seen == list(range(10))
    assert not report.unsound
    assert report.completeness == {"orth(rows) x orth(cols)": 0.0}
    assert len(report.unproved) == report.equivariant[str(OXO)]


def test_precision_is_restored() -> None:
    before = mp.dps
    defect(_made(_polynomial), OXO, random.Random(0), 80)
    assert mp.dps == before
