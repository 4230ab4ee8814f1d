"""What a random program does under a group element, to many digits; and the test of a prover against it.

Group elements are exact: permutations, signs, powers of small numbers, products of rational reflections. A run starts
from zero state and takes several steps; inputs are generic and degenerate (zero rows, ties, low rank).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from mpmath import mp, mpf

from symcheck.kernel.axioms import CONDITIONS
from symcheck.selftest.programs import RandomProgram, random_program
from symcheck.trace.exact import DIGITS, exact_array, interpret_exact
from symcheck.trace.interpret import Value, interpret
from symcheck.trace.program import Program, Trace

Array = npt.NDArray[Any]

STEPS = 3
SHAPES = ((4, 3), (3, 4))
EQUAL = 1e-25
"""A defect above this is one: 60 digits, less the guard of 18, less conditioning; the smallest constant is 1e-9."""
FLOAT_EQUAL, FLOAT_DIFFERENT = 1e-9, 1e-4
"""In float64 a defect below the first suggests that there is none, above the second that there is one."""


# -- symmetries --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Symmetry:
    """A group on matrices: classes of the variables on rows and columns, or (``entries``) of one on all entries."""

    rows: str | None = None
    cols: str | None = None
    entries: str | None = None

    def __str__(self) -> str:
        if self.entries:
            return f"{self.entries}(entries)"
        return " x ".join(f"{kind or '1'}({axis})" for axis, kind in (("rows", self.rows), ("cols", self.cols)))

    @property
    def claim(self) -> dict[str, Any]:
        """The claim of equivariance, as in a certificate."""
        kinds = {"E": (self.entries, 2)} if self.entries else {"R": (self.rows, 1), "C": (self.cols, 1)}
        variables = [
            {"name": name, "class": kind, "axes": axes, "fibre": None} for name, (kind, axes) in kinds.items() if kind
        ]
        axes: list[Any] = [["E", 0, 1], ["E", 1, 1]] if self.entries else []
        if not self.entries:
            axes = [["R", 0, 1] if self.rows else None, ["C", 0, 1] if self.cols else None]
        return {"property": "equivariance", "variables": variables, "tensors": [axes]}

    def element(self, m: int, n: int, rng: random.Random) -> Element:
        """A random element for matrices of shape ``(m, n)``."""
        if self.entries:
            return Element((m, n), None, None, _sample(self.entries, m * n, rng))
        return Element((m, n), _sample(self.rows, m, rng), _sample(self.cols, n, rng), None)


SYMMETRIES = (
    *(Symmetry(rows, cols) for rows, cols in (("orth", "orth"), ("orth", None), (None, "orth"), ("perm", "orth"))),
    *(Symmetry(rows, cols) for rows, cols in (("sperm", "orth"), ("orth", "perm"), ("sperm", "sperm"))),
    *(Symmetry(rows, cols) for rows, cols in (("perm", "perm"), ("sign", "sign"), ("stab1", "orth"))),
    *(Symmetry(rows, cols) for rows, cols in (("orth", "stab1"), ("stab1", "stab1"), ("scale+", None))),
    *(Symmetry(rows, cols) for rows, cols in (("scale", "scale"), (None, "perm"))),
    *(Symmetry(entries=kind) for kind in ("sperm", "perm", "sign", "orth")),
)
"""The groups that programs are tested for."""


@dataclass(frozen=True)
class Element:
    """``W -> A W B^T`` or a matrix on the entries of W, of exact fractions; gradients move by the inverse transpose."""

    shape: tuple[int, int]
    rows: Array | None
    cols: Array | None
    entries: Array | None

    def act(self, x: Array, *, dual: bool = False) -> Array:
        """On an array of fractions (exact), of ``mpf`` or of floats; the result has entries of that kind."""
        kind: Callable[[Array], Array] = _as_fractions
        if x.dtype != object:
            kind = _as_floats
        elif not isinstance(x.flat[0], Fraction):
            kind = exact_array

        def moved(matrix: Array | None, y: Array) -> Array:
            if matrix is None:
                return y
            return np.asarray(kind(_dual(matrix) if dual else matrix) @ y)

        y = moved(self.cols, moved(self.rows, x).T).T
        return moved(self.entries, y.reshape(-1)).reshape(self.shape)


def _as_fractions(x: Array) -> Array:
    return np.asarray(np.frompyfunc(Fraction, 1, 1)(x), dtype=object)


def _as_floats(x: Array) -> Array:
    return x.astype(np.float64)


def _dual(matrix: Array) -> Array:
    """The inverse transpose of an orthogonal or of a diagonal matrix."""
    if np.array_equal(matrix, np.diag(np.diag(matrix))):
        return np.asarray(_as_fractions(np.diag([1 / entry for entry in np.diag(matrix)])))
    return matrix


def _sample(kind: str | None, n: int, rng: random.Random) -> Array | None:
    if kind is None:
        return None
    matrix = _as_fractions(np.eye(n, dtype=int).astype(object))
    if kind in ("orth", "stab1"):
        for _ in range(rng.choice((1, 2, 3))):
            v = np.array([Fraction(rng.randint(-3, 3)) for _ in range(n)], dtype=object)
            if kind == "stab1":
                v[0] -= sum(v)
            if v.any():
                matrix = matrix - np.outer(v, 2 * v / (v @ v)) @ matrix
        return np.asarray(matrix)
    if kind in ("perm", "sperm"):
        matrix = matrix[rng.sample(range(n), n)]
    factors = [Fraction(1)] * n
    if kind in ("sign", "sperm", "scale"):
        factors = [rng.choice((1, -1)) * factor for factor in factors]
    if kind in ("scale", "scale+"):
        factors = [factor * rng.choice((Fraction(1, 3), Fraction(1, 2), 1, 2)) for factor in factors]
    return np.asarray(_as_fractions(np.diag(np.array(factors, dtype=object)) @ matrix))


# -- inputs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inputs:
    """Weights and the gradients of every step, as float64."""

    kind: str
    weight: Array
    grads: tuple[Array, ...]


def _draw(kind: str, m: int, n: int, rng: np.random.Generator) -> Inputs:
    left, right = rng.integers(-2, 3, (m, 1)), rng.integers(-2, 3, (1, n))

    def one() -> Array:
        x: Array = rng.standard_normal((m, n))
        if kind == "ties":
            x = rng.integers(-1, 2, (m, n)).astype(float)
        elif kind == "rank one":
            x = float(rng.integers(1, 4)) * (left @ right)
        elif kind == "zero row and column":
            x[int(rng.integers(m))] = 0
            x[:, int(rng.integers(n))] = 0
        elif kind == "equal rows":
            x[1] = x[0]
        elif kind == "zero":
            x = np.zeros((m, n))
        elif kind == "orthogonal":
            x = 2.0 * np.eye(m, n)
        return x * {"large": 512.0, "small": 2.0**-12}.get(kind, 1.0)

    return Inputs(
        kind, one() if rng.random() < 0.5 else rng.standard_normal((m, n)), tuple(one() for _ in range(STEPS))
    )


GENERIC = ("normal", "normal")
DEGENERATE = ("ties", "rank one", "zero row and column", "equal rows", "zero", "orthogonal", "large", "small")


# -- runs --------------------------------------------------------------------------------------------------------------


@dataclass
class _Run:
    """What is compared of a run, and what it met."""

    weights: list[Array] = field(default_factory=list)
    leaks: list[Array] = field(default_factory=list)
    finite: bool = True
    violated: set[str] = field(default_factory=set)


Interpreter = Callable[[Program, Mapping[int, Any], Mapping[str, Any], Sequence[tuple[int, ...]]], list[Value]]


def _run(source: RandomProgram, weight: Array, grads: Sequence[Array], interpreter: Interpreter) -> _Run:
    """Several steps from zero state."""
    m, n = weight.shape
    sized = source.initial(m, n)
    values = interpreter(sized.program, {}, {"weight:0": weight}, sized.sizes)
    present = {name: values[line] for name, line in sized.program.outputs.items()}
    sized, run = source.at(m, n), _Run()
    for grad in grads:
        values = interpreter(sized.program, sized.constants, {**present, "grad:0": grad}, sized.sizes)
        present = {name: values[line] for name, line in sized.program.outputs.items()}
        run.weights.append(np.asarray(present["weight:0"]))
        run.leaks += [np.asarray(values[line]) for line in sized.program.leaks]
        for line, value in zip(sized.program.lines, values, strict=True):
            parts = value if isinstance(value, dict) else {"": value}
            _inspect(parts, run)
            run.violated |= {text for (op, kind), text in CONDITIONS.items() if op == line.op and _open(kind, parts)}
    return run


def _inspect(parts: Mapping[str, Array], run: _Run) -> None:
    for part in parts.values():
        if part.dtype == object:
            run.finite = run.finite and all(map(mp.isfinite, part.flat))
        else:
            run.finite = run.finite and bool(np.isfinite(part).all())


def _open(kind: str, parts: Mapping[str, Array]) -> bool:
    """Whether a factor is determined by less than a gauge of this class. Where Cholesky's does not exist it is NaN."""
    pivots = [abs(entry) for entry in np.diagonal(parts["r"])] if "r" in parts else [1]
    repeated = [part for name, part in parts.items() if name in ("values", "s") and any(np.diff(part) == 0)]
    singular = "s" in parts and parts["s"][-1] == 0
    return singular or min(pivots) <= EQUAL * max(pivots) or (kind == "sign" and bool(repeated))


def _gap(ours: Sequence[Array], theirs: Sequence[Array]) -> Any:
    """The largest difference of two lists of arrays, each relative to its largest entry; NaN if there is one."""
    worst: Any = 0
    for a, b in zip(ours, theirs, strict=True):
        scale = max((abs(x) for x in (*a.flat, *b.flat)), default=0) or 1
        for x, y in zip(a.flat, b.flat, strict=True):
            gap = abs(x - y) / scale
            worst = gap if gap != gap or gap > worst else worst  # a NaN replaces and stays: nothing is above it
    return worst


def _moved(element: Element, base: _Run, weights: Sequence[Array]) -> Any:
    with np.errstate(all="ignore"):
        return _gap([element.act(weight) for weight in base.weights], weights)


@dataclass(frozen=True)
class Defect:
    """How far a program is from commuting with an element, on which input; ``finite`` if every value of the runs is."""

    size: Any
    kind: str
    finite: bool


class Examiner:
    """Runs of one program, kept for several symmetries."""

    def __init__(self, source: RandomProgram, seed: int = 0, digits: int = DIGITS) -> None:
        self.source = source
        self.digits = digits
        rng = np.random.default_rng([source.seed % 2**32, seed])
        self.inputs = [
            _draw(kind, *SHAPES[number % len(SHAPES)], rng) for number, kind in enumerate((*GENERIC, *DEGENERATE))
        ]
        self._float: dict[int, _Run] = {}
        self._exact: dict[int, _Run] = {}

    def quick(self, symmetry: Symmetry, rng: random.Random) -> float:
        """The defect in float64 on generic inputs; NaN where nothing could be compared."""
        worst = float("nan")
        for number in range(len(GENERIC)):
            inputs = self.inputs[number]
            if number not in self._float:
                self._float[number] = _run(self.source, inputs.weight, inputs.grads, interpret)
            base = self._float[number]
            m, n = inputs.weight.shape
            element = symmetry.element(m, n, rng)
            moved = [element.act(inputs.weight), *(element.act(grad, dual=True) for grad in inputs.grads)]
            other = _run(self.source, moved[0], moved[1:], interpret)
            gap = float(max(_moved(element, base, other.weights), _gap(base.leaks, other.leaks)))
            worst = float(np.fmax(worst, gap))
            if worst > FLOAT_DIFFERENT:
                break
        return worst

    def exact(
        self, symmetry: Symmetry, rng: random.Random, conditions: Sequence[str] = (), *, degenerate: bool = True
    ) -> Iterator[Defect]:
        """The defect to many digits on every input that meets ``conditions`` and where both sides have values."""
        count = len(self.inputs) if degenerate else len(GENERIC)
        with mp.workdps(self.digits):
            for number in range(count):
                m, n = self.inputs[number].weight.shape
                yield from self._compare(number, symmetry.element(m, n, rng), conditions)

    def _compare(self, number: int, element: Element, conditions: Sequence[str]) -> Iterator[Defect]:
        if unknown := set(conditions).difference(CONDITIONS.values()):
            raise ValueError(f"unknown conditions {sorted(unknown)}: known are {sorted(CONDITIONS.values())}")
        inputs = self.inputs[number]
        weight, *grads = (_as_fractions(x) for x in (inputs.weight, *inputs.grads))

        def run(weight: Array, grads: Sequence[Array]) -> _Run:
            return _run(self.source, weight, grads, partial(interpret_exact, digits=self.digits))

        if number not in self._exact:
            self._exact[number] = run(weight, grads)
        base = self._exact[number]
        if base.violated.intersection(conditions):
            return
        other = run(element.act(weight), [element.act(grad, dual=True) for grad in grads])
        size = max(_moved(element, base, other.weights), _gap(base.leaks, other.leaks))
        if mp.isfinite(size) and not other.violated.intersection(conditions):
            yield Defect(size, inputs.kind, base.finite and other.finite)


def defect(
    program: RandomProgram,
    symmetry: Symmetry,
    rng: random.Random,
    digits: int = DIGITS,
    *,
    conditions: Sequence[str] = (),
) -> Any:
    """The largest relative ``|run(g.x) - g.run(x)|`` as an ``mpf``, over generic and degenerate inputs.

    Inputs on which a value of either run is not finite, or on which a factorisation violates one of the
    ``conditions`` ("simple spectrum" ...), are left out. Leaked values are compared too: they have to be invariant.
    """
    examiner = Examiner(program, rng.getrandbits(32), digits)
    found = (d.size for d in examiner.exact(symmetry, rng, conditions) if d.finite)
    return max(found, default=mpf(0))


# -- the prover against it ---------------------------------------------------------------------------------------------

Prove = Callable[[Sequence[Trace], Mapping[str, Any]], Sequence[str] | None]
"""From traces and a claim to the conditions of a proof, or None."""


@dataclass(frozen=True)
class Finding:
    """A proof of something false: the program, the symmetry, the input, and the size of the defect there."""

    program: RandomProgram
    symmetry: Symmetry
    conditions: tuple[str, ...]
    kind: str
    size: float


@dataclass
class Report:
    """``unsound`` must be empty. Counts are of pairs of a program and a symmetry, and by symmetry.

    ``infinite`` are defects where some value is infinite or NaN on the way but the weights are not: outside what a
    proof claims.
    """

    programs: int = 0
    total: int = 0
    equivariant: dict[str, int] = field(default_factory=dict)
    proved: dict[str, int] = field(default_factory=dict)
    unsound: list[Finding] = field(default_factory=list)
    infinite: list[Finding] = field(default_factory=list)
    unproved: list[tuple[RandomProgram, Symmetry]] = field(default_factory=list)

    @property
    def completeness(self) -> dict[str, float]:
        """By symmetry, the share of seemingly equivariant programs that were proved."""
        return {name: self.proved.get(name, 0) / count for name, count in self.equivariant.items() if count}


def check_programs(
    count: int,
    seed: int,
    prove: Prove,
    *,
    symmetries: Sequence[Symmetry] = SYMMETRIES,
    progress: Callable[[int, Report], None] | None = None,
) -> Report:
    """Ask ``prove`` about random programs under every symmetry and look for a proof of something false.

    Whatever is proved is examined to many digits on every kind of input. What is not proved counts as equivariant if
    float64 finds no defect on generic inputs; that number only measures completeness.
    """
    rng, report = random.Random(seed), Report()
    for number in range(count):
        source = random_program(rng, stateful=bool(number % 2))
        examiner = Examiner(source, seed)
        traces = tuple(source.trace(*shape) for shape in SHAPES)
        for symmetry in symmetries:
            conditions = prove(traces, symmetry.claim)
            report.total += 1
            _judge(report, examiner, symmetry, None if conditions is None else tuple(conditions), rng)
        report.programs += 1
        if progress is not None:
            progress(number, report)
    return report


def _judge(
    report: Report, examiner: Examiner, symmetry: Symmetry, conditions: tuple[str, ...] | None, rng: random.Random
) -> None:
    name = str(symmetry)
    if conditions is None:
        if examiner.quick(symmetry, rng) < FLOAT_EQUAL:
            report.equivariant[name] = report.equivariant.get(name, 0) + 1
            report.unproved.append((examiner.source, symmetry))
        return
    report.proved[name] = report.proved.get(name, 0) + 1
    report.equivariant[name] = report.equivariant.get(name, 0) + 1
    seen = set()
    for found in examiner.exact(symmetry, rng, conditions):
        if found.size > EQUAL and found.finite not in seen:
            seen.add(found.finite)
            target = report.unsound if found.finite else report.infinite
            target.append(Finding(examiner.source, symmetry, conditions, found.kind, float(found.size)))
