"""The bridge: the program of every traced step, re-executed and compared with what the optimizer produced.

A proof is about a program; the bridge says that the program is what ran. Both sides round, differently, so equality is
asked up to a tolerance that is measured and not chosen: the interpreter runs again with its inputs, constants and
operations perturbed by a few units of roundoff (Monte Carlo arithmetic, Parker 1997), and the spread of every entry
over these runs is the conditioning of that very step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from symcheck.trace.interpret import Arithmetic, Bundle, contract, evaluate
from symcheck.trace.program import Step, Trace

Array = npt.NDArray[Any]

AMPLITUDE = 2.0**-51
"""Largest relative perturbation of an operation: four unit roundoffs of float64."""
RUNS = 6
"""Perturbed runs. An entry's spread is far too small by chance only if it is in all of them: p^6 for p each."""
GRANTED = 2.0**10
"""Tolerance in spreads: a sum of n terms may round n times, and the sides may use other algorithms."""
SHARP = 2.0**-20
"""An entry counts as compared where its tolerance, relative to the largest entry, is below this."""
_EXACT = frozenset(
    """
    neg sign round trunc abs is_zero is_nonzero eq ne lt le gt ge maximum minimum relu clamp clamp_symmetric hardshrink
    not and or xor ceil floor
    """.split()  # noqa: SIM905 - a table of words
)
"""Elementwise functions that do not round."""
_ROUNDS = frozenset({"contract", "add", "map"})


@dataclass(frozen=True)
class Bridge:
    """What was compared: ``steps``, the ``worst`` difference relative to the largest entry of its output, or why not.

    ``loosest`` is the largest tolerance that was granted to an entry, relative to the largest one of its output.
    ``sharp`` and ``blurred`` are the outputs, with the digests of their programs, that some step compared sharply and
    that none did. If the latter are all that failed, another run of the same program may be sharp there.
    """

    steps: int
    worst: float
    loosest: float = 0.0
    failure: str | None = None
    sharp: frozenset[tuple[str, str]] = frozenset()
    blurred: frozenset[tuple[str, str]] = frozenset()


def check_bridge(trace: Trace, *, seed: int = 0) -> Bridge:
    """Re-execute every step of ``trace``; ``failure`` names step, output and size of the first thing that differs.

    Beyond the values of all outputs it is compared that every step starts from what the one before left behind. Where
    eigenvectors or singular vectors are computed, their signs are the recorded library's choice and may be any. An
    output that rounding leaves undetermined in every entry of every step of one program is a failure too.
    """
    shapes = "+".join("x".join(map(str, shape)) for shape in trace.shapes)
    if trace.unsupported is not None:
        return Bridge(0, 0.0, failure=f"shape {shapes}: no program: {trace.unsupported}")
    worst = loosest = 0.0
    compared: dict[tuple[str, str], bool] = {}
    for number, step in enumerate(trace.steps):
        place = f"shape {shapes}, step {number}"
        failure = _continues(trace.steps[number - 1], step) if number else None
        try:
            with np.errstate(all="ignore"):
                result = _check_step(step, np.random.default_rng([seed, number]))
        except ValueError as error:
            failure = failure or str(error)
        if failure is not None:
            return Bridge(number, worst, loosest, f"{place}: {failure}")
        for name, entry in result.items():
            worst, loosest = max(worst, entry.difference), max(loosest, entry.tolerance)
            if entry.excess is not None:
                return Bridge(number, worst, loosest, f"{place}: output {name}: {entry.excess}")
            key = (step.program.digest, name)
            compared[key] = compared.get(key, False) or entry.sharp
    blurred = [key for key, sharp in compared.items() if not sharp]
    why = (
        f"shape {shapes}: output {blurred[0][1]} is too ill-conditioned to be compared in any step" if blurred else None
    )
    return Bridge(len(trace.steps), worst, loosest, why, frozenset(compared.keys() - set(blurred)), frozenset(blurred))


def _continues(before: Step, after: Step) -> str | None:
    """None if ``after`` starts from what ``before`` left: the same state tensors, the same bits."""
    if before.target != after.source:
        return f"state tensors {sorted(before.target ^ after.source)} appeared or vanished since the step before"
    for name in before.outputs.keys() & after.inputs.keys():
        # Merged dimensions may be unmerged differently in the two programs.
        if not np.array_equal(np.ravel(before.outputs[name]), np.ravel(after.inputs[name])):
            return f"{name} was changed since the step before"
    return None


@dataclass
class _Vectors(Arithmetic):
    """Float64 in which eigenvectors and singular vectors have the signs of ``reference``, by order of computation.

    With ``rng`` every input of an operation, and every operation, is perturbed by up to `AMPLITUDE`.
    """

    reference: Sequence[Array] = ()
    rng: np.random.Generator | None = None
    found: list[Array] = field(default_factory=list)

    def noise(self, magnitude: Array) -> Array:
        """Independent perturbations of entries of this magnitude; zero without ``rng``."""
        if self.rng is None:
            return np.zeros_like(magnitude)
        return np.asarray(AMPLITUDE * magnitude * self.rng.uniform(-1, 1, magnitude.shape))

    def rounded(self, op: str, at: Mapping[str, Any], operands: Sequence[Array], value: Array) -> Array:
        """``value`` with a rounding error of the size of the terms that are summed in it."""
        if self.rng is None or op not in _ROUNDS or (op == "map" and at["fn"] in _EXACT):
            return value
        if op != "map" and not at.get("mean") and all((term == np.trunc(term)).all() for term in operands):
            return value  # sums of whole numbers: indices and counters
        if op == "add":
            magnitude = np.sum([abs(term) for term in operands], axis=0)
        elif op == "contract":
            magnitude = contract([abs(term) for term in operands], at, value.shape, Arithmetic())
        else:
            magnitude = abs(value)
        return np.asarray(value + self.noise(magnitude))

    def _stirred(self, matrix: Array, symmetric: bool = False) -> Array:
        # A factorisation is backward stable normwise, not entrywise.
        largest = np.max(abs(matrix), axis=(-2, -1), keepdims=True, initial=0)
        noise = self.noise(np.broadcast_to(largest, matrix.shape))
        return np.asarray(matrix + (noise + noise.swapaxes(-1, -2) if symmetric else noise))

    def inverse(self, matrix: Array) -> Array:
        """The inverse of a perturbed matrix, and so for every factorisation."""
        return super().inverse(self._stirred(matrix))

    def cholesky(self, matrix: Array) -> Array:
        """The lower factor."""
        return super().cholesky(self._stirred(matrix, symmetric=True))

    def expm(self, matrix: Array) -> Array:
        """The matrix exponential."""
        return super().expm(self._stirred(matrix))

    def qr(self, matrix: Array) -> Bundle:
        """Its signs are a convention of Householder's method that all libraries share."""
        return super().qr(self._stirred(matrix))

    def eigh(self, matrix: Array) -> Bundle:
        """Eigenvectors with the signs of the reference."""
        parts = super().eigh(self._stirred(matrix, symmetric=True))
        signs = self._signs(parts["vectors"])
        return {**parts, "vectors": parts["vectors"] * signs}

    def svd(self, matrix: Array) -> Bundle:
        """Singular vectors with the signs of the reference."""
        parts = super().svd(self._stirred(matrix))
        signs = self._signs(parts["u"])
        return {**parts, "u": parts["u"] * signs, "vh": parts["vh"] * signs.swapaxes(-1, -2)}

    def _signs(self, vectors: Array) -> Array:
        signs = np.ones_like(vectors[..., :1, :])
        if len(self.found) < len(self.reference):
            inner = np.sum(vectors * self.reference[len(self.found)], axis=-2, keepdims=True)
            signs = np.where(inner < 0, -1.0, 1.0)
        self.found.append(vectors * signs)
        return signs


@dataclass(frozen=True)
class _Entry:
    """One output of one step: largest difference and tolerance relative to its largest entry, and what exceeds."""

    difference: float
    tolerance: float
    sharp: bool
    excess: str | None


def _check_step(step: Step, rng: np.random.Generator) -> dict[str, _Entry]:
    if step.program.outputs.keys() != step.outputs.keys():
        difference = sorted(step.program.outputs.keys() ^ step.outputs.keys())
        raise ValueError(f"outputs {difference} are not both in the program and in the run")
    base = _Vectors()
    expected = _outputs(step, base)
    spread = {name: np.zeros_like(value) for name, value in expected.items()}
    for _ in range(RUNS):
        for name, value in _outputs(step, _Vectors(base.found, rng)).items():
            # A perturbed run that is not finite says nothing about rounding: it grants nothing.
            spread[name] = np.fmax(spread[name], np.where(np.isfinite(value), abs(value - expected[name]), 0))
    result = _compare(step, expected, spread)
    if base.found and any(entry.excess for entry in result.values()):
        result = _compare(step, _with_signs(step, base.found), spread)
    return result


def _outputs(step: Step, arithmetic: _Vectors) -> dict[str, Array]:
    """The outputs of the program; with noise in the arithmetic, on perturbed inputs and constants."""

    def jitter(value: Any, exact: bool) -> Array:
        data = np.asarray(value, dtype=np.float64)
        return data if exact and np.array_equal(data, np.trunc(data)) else data + arithmetic.noise(abs(data))

    # Whole numbers (indices, counters, flags) are the same on both sides.
    constants = {line: jitter(value, exact=True) for line, value in step.constants.items()}
    inputs = {name: jitter(value, exact=name.startswith("state:")) for name, value in step.inputs.items()}
    values = evaluate(step.program, constants, inputs, step.sizes, arithmetic)
    result = {}
    for name, line in step.program.outputs.items():
        value = values[line]
        if isinstance(value, dict):
            raise ValueError(f"output {name} is a bundle")
        result[name] = value
    return result


def _compare(step: Step, expected: Mapping[str, Array], spread: Mapping[str, Array]) -> dict[str, _Entry]:
    result = {}
    for name, ours in expected.items():
        theirs = np.asarray(step.outputs[name], dtype=np.float64)
        if ours.shape != theirs.shape:
            raise ValueError(f"output {name} has shape {theirs.shape}, in the program {ours.shape}")
        largest = float(np.max(abs(theirs), initial=0.0, where=np.isfinite(theirs)))
        difference = abs(ours - theirs)
        tolerance = GRANTED * (spread[name] + AMPLITUDE * largest)
        excess = None
        within = (difference <= tolerance) & np.isfinite(ours) & np.isfinite(theirs)
        if not within.all():
            where = tuple(int(i) for i in np.argwhere(~within)[0])
            excess = (
                f"entry {where} of {ours.shape} is {theirs[where]:.17g}, in the program {ours[where]:.17g}: "
                f"a difference of {difference[where]:.3g}, where rounding explains {tolerance[where]:.3g}"
            )
        scale = largest or 1.0
        relative = [float(np.max(x, initial=0.0)) / scale for x in (difference, tolerance)]
        sharp = tolerance.size == 0 or bool((tolerance <= SHARP * largest).any())
        result[name] = _Entry(relative[0], relative[1], sharp, excess)
    return result


def _with_signs(step: Step, vectors: Sequence[Array]) -> dict[str, Array]:
    """The outputs under the signs of the vectors that bring them closest to the run's, one sign after the other."""

    def attempt(reference: Sequence[Array]) -> tuple[float, dict[str, Array]]:
        outputs = _outputs(step, _Vectors(reference))
        gaps = [np.sum((value - np.asarray(step.outputs[name])) ** 2) for name, value in outputs.items()]
        return float(np.sum(gaps)), outputs

    chosen = [value.copy() for value in vectors]
    gap, outputs = attempt(chosen)
    for value in chosen:
        for column in np.ndindex(*value.shape[:-2], value.shape[-1]):
            where = (*column[:-1], slice(None), column[-1])
            value[where] *= -1
            flipped, candidate = attempt(chosen)
            if flipped < gap:
                gap, outputs = flipped, candidate
            else:
                value[where] *= -1
    return outputs
