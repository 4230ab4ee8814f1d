"""The derivative of a trajectory's displacements by its weights and gradients, with an estimate of its error."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from symcheck.probe.measure import UNIT
from symcheck.probe.nature import Nature
from symcheck.probe.trajectory import CandidateLike, Inputs, run

FloatArray = npt.NDArray[np.float64]

PROBES = 4
"""Random directions in which the error of a Jacobian is measured."""


class Linearised:
    """The displacements of a single matrix as a function of its weights and gradients, and the derivative at a point.

    The gradients of the point repeat in turn until there are ``steps`` of them. The argument is the vector of all
    entries of the point, weights first; the value that of all displacements, each step divided by its size at the
    point. Derivatives are central differences, extrapolated once (Richardson), with a step of the fifth root of the
    rounding ``u``, where truncation ``h^4`` and rounding ``u / h`` balance.

    Raises:
        CandidateError: the candidate raised, here or later.
    """

    def __init__(
        self, candidate: CandidateLike, point: Inputs, nature: Nature, *, steps: int | None = None, seed: int = 0
    ) -> None:
        self.candidate, self.point, self.arithmetic, self.seed = candidate, point, nature.arithmetic, seed
        self.steps = point.steps if steps is None else steps
        self.entries = point.weights[0].numel()
        self.argument = np.concatenate([_flat(step[0]) for step in (point.weights, *point.grads)])
        raw = self._run(self.argument)
        self.sizes = np.linalg.norm(raw.reshape(self.steps, -1), axis=1)
        self.value = self._scaled(raw)
        moving = self.sizes[self.sizes > 0]
        # Displacements are read off as differences of weights, which were rounded when the step was added.
        weight = float(np.linalg.norm(self.argument[: self.entries]))
        self.rounding = max(nature.unseen, 2 * UNIT * max([1.0, *(weight / moving)]))
        self.step = 2.0 ** max(-12, min(-2, round(float(np.log2(self.rounding)) / 5)))

    def derivative(self, direction: FloatArray, step: float) -> FloatArray:
        """Along ``direction``, whose entries are of order one at most."""
        coarse, fine = (
            (self._at(self.argument + h * direction) - self._at(self.argument - h * direction)) / (2 * h)
            for h in (step, step / 2)
        )
        return np.asarray((4 * fine - coarse) / 3)

    def jacobian(self) -> FloatArray:
        """``(values, arguments)``."""
        return np.stack([self.derivative(unit, self.step) for unit in np.eye(len(self.argument))], axis=1)

    def error(self, jacobian: FloatArray) -> float:
        """The Frobenius norm of the error E of ``jacobian``, at least that of its rounding.

        ``|E|_F^2`` is the number of arguments times the mean of ``|E v|^2`` over random unit vectors v; the truth is
        taken from differences at half the step.
        """
        generator = np.random.default_rng(self.seed)
        squares = []
        for _ in range(PROBES):
            normal = generator.standard_normal(len(self.argument))
            unit = normal / np.linalg.norm(normal)
            difference = jacobian @ unit - self.derivative(unit, self.step / 2)
            squares.append(float(difference @ difference))
        return float(np.sqrt(len(self.argument) * max(np.mean(squares), (self.rounding / self.step) ** 2)))

    def _at(self, argument: FloatArray) -> FloatArray:
        return self._scaled(self._run(argument))

    def _run(self, argument: FloatArray) -> FloatArray:
        shape = self.point.weights[0].shape
        parts = [torch.from_numpy(part.copy()).reshape(shape) for part in np.split(argument, 1 + self.point.steps)]
        grads = tuple((parts[1 + step % self.point.steps],) for step in range(self.steps))
        inputs = Inputs((parts[0],), grads)
        return np.concatenate([_flat(step[0]) for step in run(self.candidate, inputs, self.arithmetic, seed=self.seed)])

    def _scaled(self, raw: FloatArray) -> FloatArray:
        # A step that does not move gives no equations; all others count alike.
        rows = raw.reshape(self.steps, -1)
        return np.asarray((rows / np.where(self.sizes > 0, self.sizes, 1.0)[:, None]).ravel())


def _flat(tensor: torch.Tensor) -> FloatArray:
    return np.asarray(tensor.detach().double().cpu().numpy()).ravel().copy()
