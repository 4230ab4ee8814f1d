"""Refutations: the corpus, tampering, and programs that respect their group, which nothing may refute."""

import copy
import json
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from symcheck.kernel.__main__ import main, verify
from symcheck.kernel.document import Decline, Reject
from symcheck.kernel.refutation import check_refutation
from tests.kernel import refutations
from tests.kernel.refutations import BAD, GOOD, HADAMARD, OUTSIDE, STAB, SWAP, TURN, Document, Program, changed


def test_the_committed_corpus_is_this_one() -> None:
    ours = refutations.corpus()
    assert {path: path.read_text() for path in ours} == ours


def test_the_example_of_the_documentation() -> None:
    page = (refutations.CORPUS.parents[2] / "docs" / "proof.md").read_text()
    (example,) = [part for part in page.split("```") if '"symcheck.refutation/1"' in part]
    assert verify(example.removeprefix("json")).statement.startswith("equivariance under 1 x Q for Q in orth is false")


@pytest.mark.parametrize("name", GOOD)
def test_good(name: str) -> None:
    result = verify(json.dumps(GOOD[name]))
    assert " is false: entry " in result.statement


@pytest.mark.parametrize("name", BAD)
def test_bad(name: str) -> None:
    with pytest.raises(Reject) as reason:
        verify(json.dumps(BAD[name]))
    assert len(str(reason.value).splitlines()) == 1


@pytest.mark.parametrize("name", OUTSIDE)
def test_outside(name: str) -> None:
    with pytest.raises(Decline):
        verify(json.dumps(OUTSIDE[name]))


def test_command(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    paths = {
        kind: str(refutations.CORPUS / kind / f"{next(iter(group))}.json")
        for kind, group in (("good", GOOD), ("bad", BAD), ("outside", OUTSIDE))
    }
    for kinds, code in (
        (["good"], 0),
        (["good", "bad"], 1),
        (["good", "outside"], 2),
        (["outside", "bad", "good"], 1),
        ([], 2),
    ):
        assert main([paths[kind] for kind in kinds]) == code
        assert len(capsys.readouterr().out.splitlines()) == len(kinds)
    assert main([str(tmp_path / "none.json")]) == 2


def places(data: Any) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a document."""
    stack: list[tuple[tuple[Any, ...], Any]] = [((), data)]
    while stack:
        path, value = stack.pop()
        yield path
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        stack.extend(((*path, key), child) for key, child in inner)


OPTIONAL = {"nonneg", "linear", "dtype", "mean", "fn"}
"""Attributes that the evaluation does not need, or that have a default."""


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_tampered_structure_is_never_accepted(data: st.DataObject) -> None:
    """A key left out, a key too many, or a value of another type."""
    document = copy.deepcopy(GOOD[data.draw(st.sampled_from(sorted(GOOD)))])
    path = data.draw(st.sampled_from([p for p in places(document) if p and not OPTIONAL & {p[-1]}]))
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    value = parent[path[-1]]
    how = data.draw(st.sampled_from(["remove", "add", "retype"]))
    if how == "remove":
        # A document with fewer leaks, or with a state that no later step reads, says something else.
        assume(path[-2:-1] != ("leaks",) and not str(path[-1]).startswith("state:"))
        del parent[path[-1]]
    elif how == "add" and isinstance(value, dict):
        value["extra"] = 0
    else:
        # None for the label of an axis claims less: that a smaller group does not act, which may be false as well.
        others: list[Any] = [None, True, 1.5, "x", [], {}, -(2**60), [[]]]
        if path[:2] == ("claim", "tensors") and len(path) == 4:
            others.remove(None)
        kinds = [x for x in others if type(x) is not type(value) and not (value is True and x is None)]
        parent[path[-1]] = data.draw(st.sampled_from(kinds))
    assume(document not in GOOD.values())
    with pytest.raises((Reject, Decline)):
        verify(json.dumps(document))


# -- programs that respect the group: no evaluation finds the sides apart ----------------------------------------------

ELEMENTS: dict[str, list[Any]] = {
    "orth": [TURN, SWAP, [["-1", "0"], ["0", "1"]], [["5/13", "12/13"], ["12/13", "-5/13"]]],
    "perm": [SWAP],
    "sign": [[["-1", "0"], ["0", "1"]]],
    "sperm": [[["0", "-1"], ["1", "0"]]],
}
ENTRIES = st.fractions(-3, 3, max_denominator=4)


@st.composite
def equivariant(draw: st.DrawFn) -> tuple[Document, str, str]:
    """A step that is equivariant under ``kind(rows) x orth(cols)``, and the kind: rotations of rows too, or not."""
    p = Program()
    w, g, m = (p.input(name, 2, 2) for name in ("weight:0", "grad:0", "state:m"))
    m = p.add(p.scale(draw(st.sampled_from(["9/10", "1/3"])), m), g)
    kind = draw(st.sampled_from(["orth", "sperm", "perm", "sign"]))
    d = m
    for name in draw(st.lists(st.sampled_from(["newton-schulz", "norm", "rows", "mix"]), max_size=3)):
        if name == "newton-schulz":
            gram = p.contract([d, d], [[0, 1], [2, 1]], [0, 2])
            d = p.add(p.scale("3/2", d), p.scale("1/2", p.contract([gram, d], [[0, 1], [1, 2]], [0, 2])), signs=[1, -1])
        elif name == "norm":
            square = p.add(p.contract([d, d], [[0, 1], [0, 1]], []), p.number("1/1000"))
            d = p.contract([d, p.map("rsqrt", square)], [[0, 1], []], [0, 1])
        elif name == "rows" and kind != "orth":
            square = p.contract([d, d], [[0, 1], [0, 1]], [0])
            square = p.add(square, p.expand(p.number("1/7"), [2], [0]))
            d = p.contract([d, p.map("power", square, args=["-3/2"])], [[0, 1], [0]], [0, 1])
        elif name == "mix":
            d = p.add(d, g, m, signs=[1, -1, 1])
    return p.step(weight_0=p.add(p.scale("99/100", w), p.scale("-1/10", d)), m=m), kind, "orth"


@settings(max_examples=40, deadline=None)
@given(equivariant(), st.data())
def test_what_is_equivariant_is_not_refuted(program: tuple[Document, str, str], data: st.DataObject) -> None:
    step, rows, cols = program
    numbers = [" ".join(str(data.draw(ENTRIES)) for _ in range(4)) for _ in range(3)]
    document = refutations.refutation(
        [refutations.constructor([2, 2], m=[2, 2]), step, step],
        [[2, 2]],
        numbers[:1],
        numbers[1:],
        variables=(refutations.variable("P", rows), refutations.variable("Q", cols)),
        tensors=[[["P", 0, 1], ["Q", 0, 1]]],
        element={k: [data.draw(st.sampled_from(ELEMENTS[kind]))] for k, kind in (("P", rows), ("Q", cols))},
        entry=[data.draw(st.integers(0, 1)), data.draw(st.integers(0, 1))],
    )
    with pytest.raises(Reject, match="may be the same"):
        check_refutation(document)


def _muon(*, eps_on_entries: bool) -> Document:
    p = Program()
    w, g = p.input("weight:0", 4, 4), p.input("grad:0", 4, 4)
    norm = p.map("sqrt", p.contract([g, g], [[0, 1], [0, 1]], []))
    d = p.contract([g, p.map("reciprocal", norm)], [[0, 1], []], [0, 1])
    if eps_on_entries:
        d = p.add(d, p.expand(p.number("1/1000000000000"), [4, 4], [0, 1]))
    for _ in range(5):
        gram = p.contract([d, d], [[0, 1], [2, 1]], [0, 2])
        twice = p.contract([gram, gram], [[0, 1], [1, 2]], [0, 2])
        poly = p.add(p.scale("-191/40", gram), p.scale("4063/2000", twice))
        d = p.add(p.scale("6889/2000", d), p.contract([poly, d], [[0, 1], [1, 2]], [0, 2]))
    step = p.step(weight_0=p.add(w, p.scale("-1/50", d)))
    entries = " ".join(str((7 * k * k + 3 * k) % 11 - 5) for k in range(16))
    return refutations.refutation(
        [refutations.constructor([4, 4]), step],
        [[4, 4]],
        [entries],
        [entries],
        variables=(refutations.variable("P", "orth"), refutations.variable("Q", "orth")),
        tensors=[[["P", 0, 1], ["Q", 0, 1]]],
        element={"P": [HADAMARD], "Q": [[[*TURN[0], "0", "0"], [*TURN[1], "0", "0"], [*"0010"], [*"0001"]]]},
        entry=[1, 2],
    )


def test_muon() -> None:
    """Five Newton-Schulz iterations of a 4 x 4 matrix: equal to 200 bits; a shift of entries by 1e-12 is seen."""
    with pytest.raises(Reject, match="may be the same"):
        check_refutation(_muon(eps_on_entries=False))
    assert "is false" in check_refutation(_muon(eps_on_entries=True)).statement


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("perm", [SWAP], [TURN, [["1", "1"], ["0", "0"]], [["1", "0"], ["0", "-1"]]]),
        ("sign", ELEMENTS["sign"], [SWAP, TURN, [["2", "0"], ["0", "1"]], [["0", "0"], ["0", "1"]]]),
        ("sperm", ELEMENTS["sperm"], [TURN, [["1", "1"], ["1", "-1"]], [["1", "0"], ["0", "0"]]]),
        ("orth", ELEMENTS["orth"], [[["1", "0"], ["0", "2"]], [TURN[0], ["4/5", "3/5"]], [["0", "0"], ["0", "0"]]]),
        ("stab1", [SWAP, STAB], [TURN, [["-1", "0"], ["0", "-1"]], [["2", "-1"], ["-1", "2"]]]),
        ("scale+", [[["2", "0"], ["0", "1/3"]]], [*ELEMENTS["sign"], TURN, [["0", "0"], ["0", "1"]]]),
        ("scale", [[["-2", "0"], ["0", "1/3"]]], [SWAP, [["1", "0"], ["0", "0"]]]),
    ],
)  # fmt: skip
def test_membership(kind: str, good: list[Any], bad: list[Any]) -> None:
    def judge(matrix: Any) -> None:
        n = len(matrix)
        check_refutation(
            refutations.refutation(
                [refutations.constructor([n]), refutations.descend(refutations.identity, n)],
                [[n, 1]],
                [" ".join("0" * n)],
                [" ".join("0" * n)],
                variables=(refutations.variable("P", kind),),
                tensors=[[["P", 0, 1], None]],
                element={"P": [matrix]},
                entry=[0, 0],
            )
        )

    for matrix in good:
        with pytest.raises(Reject, match="may be the same"):
            judge(matrix)
    for matrix in bad:
        with pytest.raises(Reject, match="not of class"):
            judge(matrix)


def test_dual_moves_gradients() -> None:
    """Gradient descent preconditioned by W^2 is equivariant under scales, only because gradients move by the dual."""
    p = Program()
    w, g = p.input("weight:0", 2), p.input("grad:0", 2)
    step = p.step(weight_0=p.add(w, p.times(p.times(w, w), g)))
    document = changed(GOOD["sgd-scale"], "steps", 1, to=step)
    with pytest.raises(Reject, match="may be the same"):
        check_refutation(document)
    # With the exponent -1 weights move by the dual and gradients by the matrix; it stays true.
    with pytest.raises(Reject, match="may be the same"):
        check_refutation(changed(document, "claim", "tensors", 0, 0, 2, to=-1))
    check_refutation(changed(GOOD["sgd-scale"], "claim", "tensors", 0, 0, 2, to=-1))


def test_heads_move_as_a_wreath_product() -> None:
    """Against numpy: the element of the corpus as one 4 x 4 matrix, heads exchanged after turning within them."""
    document = GOOD["sign-sgd-heads"]
    swap, turns = (
        np.array([[[Fraction(x) for x in row] for row in m] for m in document["element"][k]]) for k in ("H", "R")
    )
    matrix = np.zeros((4, 4), dtype=object)
    for to in range(2):
        for start in range(2):
            matrix[2 * to : 2 * to + 2, 2 * start : 2 * start + 2] = swap[0, to, start] * turns[to]
    grad = np.array([Fraction(x) for x in document["gradients"][0][0]])
    gap = -np.sign(matrix @ grad) + matrix @ np.sign(grad)
    for k in range(4):
        entry = changed(document, "differs", "entry", to=[k // 2, k % 2, 0])
        if gap[k]:
            assert check_refutation(entry)
        else:
            with pytest.raises(Reject, match="may be the same"):
                check_refutation(entry)
