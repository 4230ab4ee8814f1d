"""Every axiom, in numbers: whatever law the kernel infers for an operation is true of random values and elements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from symcheck.kernel.axioms import FUNCTIONS
from symcheck.kernel.document import Reject
from symcheck.kernel.laws import CORE, EIGEN, FREE, INV, ISO, SPECTRAL, Context, Law, Variable
from symcheck.kernel.rules import Line, infer
from symcheck.trace.functions import MAPS
from symcheck.trace.interpret import _OPERATIONS, Arithmetic
from tests.kernel.worlds import (
    SIZE,
    VARIABLES,
    Element,
    Pair,
    World,
    complete,
    random_axes,
    random_label,
    random_law,
    rotation,
)

DRAWS = 1500
"""Random applications of each operation; how many of them must have a law is asserted beside each."""


def values(op: str, at: dict[str, Any], operands: list[Pair], rank: int) -> Any:
    """The operation on both runs, by the interpreter of programs; for a bundle a dictionary of pairs."""
    with np.errstate(all="ignore"):
        runs = [_OPERATIONS[op]([pair[run] for pair in operands], at, (SIZE,) * rank, Arithmetic()) for run in (0, 1)]
    if isinstance(runs[0], dict):
        return {part: (runs[0][part], runs[1][part]) for part in runs[0]}
    return runs[0], runs[1]


Case = tuple[str, dict[str, Any], list[Law]]


def examine(make: Callable[[World], Case | None], draws: int = DRAWS) -> Counter[str]:
    """Draw cases; every law that is inferred must hold. Counts what was accepted."""
    rng = np.random.default_rng(20260518)
    accepted: Counter[str] = Counter()
    for number in range(draws):
        world = World(rng, Context(VARIABLES))
        case = make(world)
        if case is None:
            continue
        op, at, laws = case
        try:
            law = infer(world.context, Line(op, distinct(laws), at), laws)
        except Reject:
            accepted["rejected"] += 1
            continue
        drawn: dict[int, Pair] = {}
        for place, operand in zip(distinct(laws), laws, strict=True):
            pair = drawn.get(place) or world.draw(operand)
            if pair is None:
                break
            drawn[place] = pair
        else:
            world.context.check(law)
            result = values(op, at, [drawn[place] for place in distinct(laws)], len(law.axes))
            if not all(np.isfinite(v).all() for v in result):
                continue  # every claim is about finite values
            assert world.holds(result, law), f"{number}: {op} {at} of {laws} is not {law}"
            accepted[f"{at.get('fn', op)}"] += 1
            accepted["total"] += 1
            accepted.update({label[0] if len(label) < 5 else VARIABLES[label[1]].kind for label in law.axes})
            accepted.update(fact for fact in ("sym", "nonneg", "zero", "scalars") if getattr(law, fact))
    return accepted


def distinct(laws: list[Law]) -> tuple[int, ...]:
    """Line numbers for operands: the very same law object is the same line."""
    places: dict[int, int] = {}
    return tuple(places.setdefault(id(law), len(places)) for law in laws)


def some_law(world: World, rank: int) -> Law | None:
    if world.rng.random() < 0.08:
        return Law((FREE,) * rank, sym=True, nonneg=True, zero=True)
    return random_law(world.rng, world.context, rank)


def variant(world: World, law: Law) -> Law:
    """Another law with (almost) the same labels: what the operands of an elementwise operation have."""
    rng, axes = world.rng, list(law.axes)
    for a, label in enumerate(axes):
        if label[0] in EIGEN and rng.random() < 0.6:
            axes[a] = (str(rng.choice(EIGEN)), label[1])
        elif rng.random() < 0.04:
            axes[a] = random_label(rng, world.context)
    scalars = law.scalars if rng.random() < 0.95 else ()
    sym = law.sym and bool(rng.random() < 0.8)
    return Law(tuple(axes), scalars, sym, bool(rng.random() < 0.5))


def well_formed(world: World, laws: list[Law | None]) -> list[Law] | None:
    try:
        return [world.context.check(law) for law in laws if law is not None] if None not in laws else None
    except Reject:
        return None


def several(world: World, count: int) -> list[Law] | None:
    rng = world.rng
    first = random_law(rng, world.context, int(rng.integers(0, 4)))
    if first is None:
        return None
    zero = Law((FREE,) * len(first.axes), sym=True, nonneg=True, zero=True)
    others: list[Law | None] = [zero if rng.random() < 0.05 else variant(world, first) for _ in range(count - 1)]
    return well_formed(world, [first, *others])


def test_expand() -> None:
    def make(world: World) -> Case | None:
        law, rng = some_law(world, int(world.rng.integers(0, 4))), world.rng
        if law is None:
            return None
        count = int(rng.integers(0, 3))
        places = rng.choice(len(law.axes) + count, size=count, replace=False)
        return "expand", {"axes": [int(p) for p in places]}, [law]

    assert examine(make)["total"] > 300


def contraction(world: World) -> Case | None:
    """Letters that mostly mean the same in every operand, so that many contractions have a law."""
    rng, context = world.rng, world.context
    letters = list(random_axes(rng, context, int(rng.integers(0, 4))))
    laws: list[Law] = []
    rows: list[list[int]] = []
    for _ in range(int(rng.integers(1, 4))):
        if laws and rng.random() < 0.3:  # the same line once more
            chosen = int(rng.integers(len(laws)))
            laws.append(laws[chosen])
            rows.append(list(rows[chosen]) if rng.random() < 0.6 else [int(i) for i in rng.permutation(rows[chosen])])
            continue
        row = [int(i) for i in np.flatnonzero(rng.random(len(letters)) < 0.75)]
        row = [int(i) for i in rng.permutation(row)]
        if row and rng.random() < 0.15:
            row.append(int(rng.choice(row)))
        axes = [letters[i] for i in row]
        for a, label in enumerate(axes):
            draw = rng.random()
            if draw < 0.1:
                axes[a] = FREE
            elif draw < 0.15:
                axes[a] = INV
            elif label[0] in EIGEN or (label[0] == "vec" and context.of(label).kind in SPECTRAL):
                axes[a] = (str(rng.choice(EIGEN)), label[1]) if rng.random() < 0.5 else label
            elif draw < 0.2:
                axes[a] = random_label(rng, context)
        if len(axes) >= 2 and rng.random() < 0.15:
            axes[-2:] = [ISO, ISO]
        if rng.random() < 0.2:
            row = [int(rng.integers(4)) for _ in row]
        sym = len(axes) > 1 and axes[-1] == axes[-2] and bool(rng.random() < 0.5)
        found = well_formed(world, [Law(tuple(axes), sym=sym, nonneg=bool(rng.random() < 0.3))])
        if found is None:
            return None
        laws += found
        rows.append(row)
    if rng.random() < 0.1:
        laws.append(Law((), (("c", 1, Fraction(1)),)) if rng.random() < 0.5 else Law((), nonneg=True))
        rows.append([])
    used = sorted({i for row in rows for i in row})
    out = [i for i in used if rng.random() < 0.5]
    at = {"indices": rows, "out": [int(i) for i in rng.permutation(out)], "mean": bool(rng.random() < 0.3)}
    return "contract", at, laws


def test_contract() -> None:
    accepted = examine(contraction, 6 * DRAWS)
    assert accepted["total"] > 600
    for kind in ("perm", "sperm", "sign", "scale", "orth", "stab1", "block", "eig0", "iso", "sym", "nonneg"):
        assert accepted[kind] > 5, kind


def test_add() -> None:
    def make(world: World) -> Case | None:
        laws = several(world, int(world.rng.integers(1, 4)))
        return None if laws is None else ("add", {"signs": [int(world.rng.choice([1, -1])) for _ in laws]}, laws)

    assert examine(make)["total"] > 300


def test_every_function_is_known() -> None:
    assert {*FUNCTIONS, "power"} == set(MAPS)


@pytest.mark.parametrize("fn", sorted(MAPS))
def test_map(fn: str) -> None:
    arity, count, _ = MAPS[fn]

    def make(world: World) -> Case | None:
        laws = several(world, arity)
        texts = ["0", "1", "2", "3", "-1", "-2", "1/2", "1/3"]
        args: list[str | None] = [str(world.rng.choice(texts)) for _ in range(count)]
        if fn == "clamp" and world.rng.random() < 0.5:
            args[int(world.rng.integers(2))] = None
        return None if laws is None else ("map", {"fn": fn, "args": args}, laws)

    assert examine(make, 250)["total"] > 15


def test_select() -> None:
    def make(world: World) -> Case | None:
        rng = world.rng
        laws = several(world, 2)
        if laws is None:
            return None
        axes = [
            FREE if rng.random() < 0.3 else INV if rng.random() < 0.2 else label if label[0] != "vec"
            or world.context.of(label).kind not in SPECTRAL or rng.random() < 0.3 else ("eig", label[1])
            for label in laws[0].axes
        ]  # fmt: skip
        axes = [(str(rng.choice(EIGEN)), x[1]) if x[0] in EIGEN else x for x in axes]
        mask = well_formed(world, [Law(tuple(axes), sym=bool(rng.random() < 0.3))])
        return None if mask is None else ("select", {}, [*mask, *laws])

    assert examine(make, 4 * DRAWS)["total"] > 300


@pytest.mark.parametrize("fn", ["max", "min", "prod", "any", "all", "median", "logsumexp", "sort"])
def test_symmetric(fn: str) -> None:
    def make(world: World) -> Case | None:
        law, rng = some_law(world, int(world.rng.integers(1, 4))), world.rng
        if law is None or not law.axes:
            return None
        count = 1 if fn == "sort" else int(rng.integers(1, len(law.axes) + 1))
        return "symmetric", {"fn": fn, "axes": [int(a) for a in rng.permutation(len(law.axes))[:count]]}, [law]

    assert examine(make, 500)["total"] > 40


@pytest.mark.parametrize("fn", ["take", "cumsum", "cumprod", "cummax", "cummin", "argsort", "gather"])
def test_along(fn: str) -> None:
    """Entries are moved by an index drawn at random: the kernel does not see it."""
    linear = fn in ("take", "cumsum")

    def make(world: World) -> Case | None:
        rng = world.rng
        first = random_law(rng, world.context, int(rng.integers(1, 4)))
        if first is None or not first.axes:
            return None
        inner = [a for a, x in enumerate(first.axes) if x[0] in ("inv", "free", *EIGEN)]
        if not inner or (not linear and first.scalars):
            return None
        own = int(rng.choice(inner)) if rng.random() < 0.9 else int(rng.integers(len(first.axes)))
        rest = [a for a in range(len(first.axes)) if a != own]
        laws, axes = [first], [[own]]
        if fn == "take" and rng.random() < 0.5:
            order = [int(i) for i in rng.permutation(len(first.axes))]
            order = sorted(order, key=lambda a: (a != own, a)) if rng.random() < 0.8 else order
            other = well_formed(world, [Law(tuple(first.axes[a] for a in order), first.scalars)])
            if other is None:
                return None
            laws, axes = [*laws, *other], [*axes, [order.index(own)]]
        if fn == "gather":
            laws, axes = [*laws, variant(world, Law(first.axes))], [[own], [own]]
        out: list[list[Any]] = [["batch", a] for a in rest]
        out.insert(int(rng.integers(len(out) + 1)), ["new"])
        at = {"fn": fn, "axes": axes, "out": out, "linear": linear}
        checked = well_formed(world, list(laws))
        return None if checked is None else ("along", at, checked)

    rng = np.random.default_rng(1)
    total = 0
    for _ in range(DRAWS):
        world = World(rng, Context(VARIABLES))
        case = make(world)
        if case is None:
            continue
        op, at, laws = case
        try:
            law = infer(world.context, Line(op, distinct(laws), at), laws)
        except Reject:
            continue
        pairs = [world.draw(x) for x in laws]
        if fn == "gather":  # indices are what a program computes with: whole numbers in range
            pairs[1:] = [
                tuple(np.minimum(np.abs(np.trunc(v)), 2) for v in pair) if pair else None for pair in pairs[1:]
            ]
        if any(pair is None for pair in pairs):
            continue
        if fn == "take":
            take = [int(i) for i in rng.integers(-1, SIZE * len(laws), size=SIZE)]
            at = {**at, "args": {"sizes": [SIZE], "take": take}}
        assert world.holds(values(op, at, pairs, 0), law), f"{at} of {laws} is not {law}"
        total += 1
    assert total > 60


def test_weaker_laws_are_weaker() -> None:
    rng = np.random.default_rng(7)
    found: Counter[bool] = Counter()
    for _ in range(12 * DRAWS):
        world = World(rng, Context(VARIABLES))
        law = some_law(world, int(rng.integers(0, 4)))
        if law is None:
            continue
        axes = list(law.axes)
        for a, label in enumerate(axes):
            if rng.random() < 0.4:
                names = [n for n, v in VARIABLES.items() if v.axes == 1]
                if label == FREE:
                    name = str(rng.choice(names))
                    k = 1 if VARIABLES[name].kind in ("orth", "stab1", *SPECTRAL) else 0
                    axes[a] = INV if rng.random() < 0.3 else world.context.vec(name, 0, k)
                elif label[0] in EIGEN:
                    axes[a] = (str(rng.choice(EIGEN)), label[1]) if rng.random() < 0.6 else INV
                elif label[0] == "vec" and VARIABLES[label[1]].kind in SPECTRAL:
                    axes[a] = world.context.vec(label[1], int(rng.integers(2)), label[3])
                else:
                    axes[a] = random_label(rng, world.context)
        if ISO in law.axes and rng.random() < 0.8:
            new = random_label(rng, world.context)
            dual = (*new[:4], -new[4]) if len(new) == 5 and rng.random() < 0.9 else new
            pair = iter((new, dual))
            axes = [next(pair) if label == ISO else label for label in law.axes]
        goal = well_formed(world, [Law(complete(rng, world.context, axes), law.scalars, law.sym, law.nonneg)])
        if goal is None or len(goal[0].axes) != len(law.axes) or not world.context.implies(law, goal[0]):
            continue
        pair_ = world.draw(law)
        if pair_ is not None:
            assert world.holds(pair_, goal[0]), f"{law} does not imply {goal[0]}"
            found[law == goal[0]] += 1
    assert found[False] > 150


# -- matrices ------------------------------------------------------------------------------------------------------


def moved_by(world: World, law: Law, x: np.ndarray) -> np.ndarray:
    result = world.moved(x, law.axes)
    for name, k, e in law.scalars:
        own = world.elements[name][0]
        result = result * own.signs[0] ** k * own.scales[0] ** float(e)
    return result


def test_inverse_and_exponential() -> None:
    rng = np.random.default_rng(3)
    total: Counter[str] = Counter()
    for _ in range(8 * DRAWS):
        world = World(rng, Context(VARIABLES))
        law = random_law(rng, world.context, int(rng.integers(2, 4)))
        if law is None or len(law.axes) < 2:
            continue
        for op in ("inverse", "expm"):
            if op == "expm" and rng.random() < 0.7:
                last = law.axes[-2]
                dual = (*last[:4], -last[4]) if len(last) == 5 else last
                changed = well_formed(world, [Law((*law.axes[:-1], dual), law.scalars, law.sym and last == dual)])
                if changed is None:
                    continue
                law = changed[0]
            try:
                result = infer(world.context, Line(op, (0,)), [law])
            except Reject:
                continue
            pair = world.draw(Law(law.axes, law.scalars, law.sym))
            if pair is None or (op == "inverse" and np.min(np.abs(np.linalg.det(pair[0]))) < 0.1):
                continue
            assert world.holds(values(op, {}, [pair], len(law.axes)), result), f"{op} of {law} is not {result}"
            total[op] += 1
    assert total["inverse"] > 60
    assert total["expm"] > 40


@pytest.mark.parametrize("op", ["eigh", "svd"])
def test_vectors_of_an_invariant_matrix_need_a_gauge_too(op: str) -> None:
    law = Law((INV, INV), sym=True)
    with pytest.raises(Reject, match="needs a gauge"):
        infer(Context({}), Line(op, (0,)), [law])
    assert infer(Context({}), Line(op, (0,), {}, ("g", "block")), [law])


SIDES = ("inv", "P", "S", "B", "O", "T", "go", "RO", "RP", "gs")


@pytest.mark.parametrize(
    ("op", "kind"),
    [("eigh", "sign"), ("eigh", "block"), ("svd", "sign"), ("svd", "partial"), ("svd", "block"), ("qr", "sign"),
     ("qr", "orth"), ("cholesky", "orth"), ("qr", None), ("cholesky", None)],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (3, 5)])
def test_factorisations(op: str, kind: str | None, shape: tuple[int, int]) -> None:
    """The parts obey their laws with a gauge that exists: it is constructed from the two runs."""
    square = op in ("eigh", "cholesky")
    if square and shape != (3, 3):
        return
    rng = np.random.default_rng([len(op), *shape])
    total = 0
    for _ in range(400):
        m, n = shape
        left, right = (str(rng.choice(SIDES)) for _ in range(2))
        if kind is None:
            left = right = "inv"
        batch = bool(rng.random() < 0.4) or left[0] == "R" or right[0] == "R"
        scaled = rng.random() < 0.3
        sides = [Law((INV,)).axes[0] if s == "inv" else ("vec", s, 0, _k(s), Fraction(0)) for s in (left, right)]
        sides = [sides[0]] * 2 if square else sides
        if kind == "sign" and op == "qr":
            right = str(rng.choice(["inv", "S"]))
            sides[1] = INV if right == "inv" else ("vec", "S", 0, 1, Fraction(0))
        base = (("vec", "H", 0, 0, Fraction(0)),) if batch else ()
        law = Law((*base, *sides), (("d", 0, Fraction(1)),) if scaled else (), sym=square)
        context = Context(VARIABLES)
        try:
            parts = infer(context, Line(op, (0,), {}, ("new", kind) if kind else None), [law])
        except Reject:
            continue
        parts = parts if isinstance(parts, dict) else {"factor": parts}
        sizes = {name: m for name in (left,) if name != "inv"}
        if left == right != "inv" and m != n:
            continue
        world = World(rng, context, sizes | {name: n for name in (right,) if name != "inv"})
        x, spectrum = _matrix(rng, op, kind, m, n, SIZE if batch else 0)
        y = moved_by(world, law, x)
        pair = (x, (y + np.swapaxes(y, -1, -2)) / 2 if square else y)
        if kind is None:
            pair = (x, y if not batch else x[np.argsort(world.elements["H"][0].order)])
        found = values(op, {}, [pair], 0)
        found = found if isinstance(found, dict) else {"factor": found}
        if kind is not None:
            _gauge(world, law, found, spectrum, op, kind, base)
        for name, part in parts.items():
            assert world.holds(found[name], part), f"{name} of {op} of {law} is not {part}"
        total += 1
    assert total > 30


def _k(name: str) -> int:
    return 0 if VARIABLES[name].kind == "perm" else 1


def _matrix(
    rng: np.random.Generator, op: str, kind: str | None, m: int, n: int, batch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Matrices with a spectrum that the condition of the factorisation allows: repeated and zero where it does."""
    stack, spectra = [], []
    k = min(m, n)
    for _ in range(batch or 1):
        if op == "qr":
            x = rng.normal(size=(m, n))
            spectra.append(np.ones(k))
        else:
            if kind == "sign":
                levels = np.arange(1.0, k + 1) if op == "svd" else np.arange(-1.0, k - 1)
            elif op == "cholesky" or (op, kind) == ("svd", "block"):
                levels = rng.choice([1.0, 2.0], size=k)
            else:
                levels = rng.choice([0.0, 1.0, 2.0] if op == "svd" else [-1.0, 0.0, 1.0], size=k)
            levels = np.sort(levels)[:: -1 if op == "svd" else 1]
            u = rotation(rng, m)[:, :k]
            v = rotation(rng, n)[:, :k] if op == "svd" else u
            x = (u * levels) @ v.T
            x = (x + x.T) / 2 if op != "svd" else x
            spectra.append(levels)
        stack.append(x)
    return (np.stack(stack), np.stack(spectra)) if batch else (stack[0], spectra[0][None])


def _gauge(world: World, law: Law, found: dict[str, Pair], spectrum: np.ndarray, op: str, kind: str, base: Any) -> None:
    """The gauge that relates the vectors of the two runs, as elements of the new variable; asserts its class."""
    left = law.axes[-2]
    first = {"eigh": "vectors", "svd": "u", "qr": "q", "cholesky": "factor"}[op]
    x, y = found[first]
    moved = world.moved(x, (*base, left, INV))
    order = world.elements["H"][0].order
    matrices = []
    for h in range(len(spectrum)):
        one, two = (moved[order[h]], y[order[h]]) if base else (moved, y)
        scale = 1.0 if op != "cholesky" or not law.scalars else np.sqrt(world.elements["d"][0].scales[0])
        turn = np.linalg.lstsq(scale * one, two)[0]  # the new vectors in terms of the old ones
        matrix = turn.T
        levels = np.round(spectrum[h]).astype(int)
        if op == "svd":
            vh = [np.swapaxes(v, -1, -2) for v in found["vh"]]
            moved_right = world.moved(vh[0], (*base, law.axes[-1], INV))
            other = (moved_right[order[h]].T @ vh[1][order[h]]).T if base else (moved_right.T @ vh[1]).T
            alive = levels != 0
            assert np.allclose(matrix[np.ix_(alive, alive)], other[np.ix_(alive, alive)], atol=1e-9)
            for s in set(levels[alive]):  # where the spectrum is zero, the claim says nothing
                where = np.flatnonzero(levels == s)
                block = matrix[np.ix_(where, where)]
                assert np.allclose(block @ block.T, np.eye(len(where)), atol=1e-9)
            matrix = np.where(np.outer(alive, alive), matrix, np.eye(len(levels)))
        assert np.allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-9)
        if kind == "sign":
            assert np.allclose(np.abs(matrix), np.eye(len(matrix)), atol=1e-9)
        if kind in SPECTRAL:
            assert np.allclose(matrix[levels[:, None] != levels[None, :]], 0, atol=1e-9)
        signs = np.sign(np.diag(matrix)) if kind == "sign" else np.ones(len(matrix))
        matrices.append(Element(matrix, signs, np.ones(len(matrix)), np.arange(len(matrix)), levels))
    if "new" in world.context.variables:
        world.elements["new"] = matrices


# -- regressions: what once had a law and must not ------------------------------------------------------------------

E = Fraction(0)


def vec(name: str, sub: int = 0, k: int = 0, e: Fraction = E) -> tuple[Any, ...]:
    return ("vec", name, sub, k, e)


WRONG = {
    "entries one by one": ("contract", {"indices": [[0, 1], [0, 2]], "out": [], "mean": False},
                           [Law((vec("EP"), vec("EP", 1))), Law((vec("EP"), vec("EP", 1)))]),
    "signs of entries in a cycle": ("contract", {"indices": [[0, 1], [0, 2], [3, 1], [3, 2]], "out": [], "mean": False},
                                    [Law((vec("ES", 0, 1), vec("ES", 1, 1)))] * 4),
    "null vectors": ("contract", {"indices": [[0, 1], [2, 1]], "out": [0, 2], "mean": False},
                     [Law((vec("O", 0, 1), vec("gp", 0, 1)))] * 2),
    "null vectors through delta": ("contract", {"indices": [[0, 1], [2, 1], [1, 3]], "out": [0, 2, 3], "mean": False},
                                   [Law((vec("O", 0, 1), vec("gp", 0, 1)))] * 2
                                   + [Law((vec("gp", 0, 1), vec("gp", 0, 1)))]),
    "columns that are no vector": ("qr", {}, [Law((vec("O", 0, 1), vec("O", 0, 2)))]),
    "rows that move apart": ("inverse", {}, [Law((vec("RP"), vec("H"), INV))]),
    "a batch over rows": ("svd", {}, [Law((vec("RP"), vec("H"), INV))]),
    "a gauge with the name of a label": ("add", {"signs": [1, 1]}, [Law((("eig", "inv"),)), Law((INV,))]),
    "eigenvectors of a scaled matrix": ("eigh", {}, [Law((INV, INV), (("c", 0, Fraction(1)),), sym=True)]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_has_no_law(name: str) -> None:
    op, at, laws = WRONG[name]
    gauge = ("new", "orth") if op == "qr" else ("new", "block") if op == "svd" else None
    with pytest.raises(Reject):
        infer(Context({**VARIABLES, "inv": Variable("block")}), Line(op, tuple(range(len(laws))), at, gauge), laws)


def test_a_mask_that_is_scaled_is_not_one() -> None:
    mask, c = Law((("eig1", "gb"),)), Law(())
    at = {"indices": [[0], []], "out": [0], "mean": False}
    assert infer(Context(VARIABLES), Line("contract", (0, 1), at), [mask, c]).axes == (("eig", "gb"),)


def test_zero_is_not_one_anywhere() -> None:
    assert not Context(VARIABLES).implies(Law((FREE,), zero=True), Law((("eig1", "gb"),)))


def test_a_clamp_with_crossed_bounds_may_be_negative() -> None:
    at = {"fn": "clamp", "args": ["0", "-1"]}
    assert not infer(Context(VARIABLES), Line("map", (0,), at), [Law(())]).nonneg


def test_delta_on_null_vectors_is_no_core() -> None:
    assert not Context(VARIABLES).implies(Law((ISO, ISO)), Law((vec("gb", CORE, 1), vec("gb", CORE, 1))))


def test_variables_are_fresh() -> None:
    context = Context({"O": Variable("orth")})
    with pytest.raises(Reject):
        infer(context, Line("eigh", (0,), {}, ("O", "block")), [Law((vec("O", 0, 1),) * 2, sym=True)])
