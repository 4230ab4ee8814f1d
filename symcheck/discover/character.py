"""What characterises an update rule beside its group: reported, and never failed (theory: arXiv 2605.18106)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch

from symcheck.discover.generators import respects
from symcheck.probe.contracts import Setting, check_contract
from symcheck.probe.contracts.scale_orbit import Breaks, homogeneity
from symcheck.probe.relation import Relation
from symcheck.probe.strata import STRATA
from symcheck.probe.trajectory import CandidateError, Inputs, Tensors, build, largest, run, seed_everything, take_step
from symcheck.prove.errors import NoProof
from symcheck.prove.workshop import Proved, Workshop
from symcheck.result import ORDINARY, Verdict

STEPS = 4


@dataclass(frozen=True)
class Trait:
    """One characteristic: its answer in a word or a number, an explanation, and data for a program to read."""

    name: str
    answer: str
    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


class _Symmetry(Relation):
    """A relation without parameters, for which no witness is written."""

    @property
    def exact(self) -> bool:
        return True

    def to_json(self) -> dict[str, Any]:
        return {}


class _Odd(_Symmetry):
    """``U(-W, -G) = -U(W, G)``: of a rule that ignores its weights, ``U(-G) = -U(G)``."""

    def transform(self, inputs: Inputs) -> Inputs:
        return inputs.map(torch.neg)

    def predict(self, displacement: Tensors) -> Tensors:
        return tuple(map(torch.neg, displacement))


class _Transpose(_Symmetry):
    """``U(W^T, G^T) = U(W, G)^T``."""

    def transform(self, inputs: Inputs) -> Inputs:
        return inputs.map(lambda tensor: tensor.mT.contiguous())

    def observe(self, displacement: Tensors) -> Tensors:
        return tuple(tensor.mT for tensor in displacement)

    def predict(self, displacement: Tensors) -> Tensors:
        return displacement


@dataclass(frozen=True)
class _OtherWeights(_Symmetry):
    """``U(W', G) = U(W, G)``."""

    weights: Mapping[tuple[tuple[int, ...], ...], Tensors]

    def transform(self, inputs: Inputs) -> Inputs:
        return Inputs(self.weights[inputs.shapes], inputs.grads)

    def predict(self, displacement: Tensors) -> Tensors:
        return displacement


def characterise(setting: Setting) -> tuple[Trait, ...]:
    """Homogeneity, oddness, transpose symmetry, descent, weight dependence, coupling, randomness, state, precision.

    Raises:
        CandidateError: the candidate raised on an ordinary input.
    """
    free = _holds(setting, _OtherWeights({s: setting.draw(ORDINARY, s, 1, 17).weights for s in setting.shapes(3)}))
    nature = setting.nature
    random = ", ".join(nature.random) or "seed-dependent"
    return (
        _degree(setting),
        _oddness(setting),
        _transpose(setting),
        _descent(setting),
        Trait("weight dependence", _yes(not free), "the displacement " + ("ignores" if free else "depends on") + " W"),
        _coupling(setting),
        Trait("random", _yes(nature.seed_dependent), random if nature.seed_dependent else ""),
        _state(setting),
        Trait("computes in", ", ".join(nature.casts) or "the dtype of the parameters"),
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _holds(setting: Setting, relation: Relation) -> bool:
    """Whether a relation holds on ordinary inputs and on changing scales, for several shapes."""
    return all(
        respects(setting.candidate, setting.nature, relation, setting.draw(stratum, shapes, STEPS), setting.seed)
        for shapes in setting.shapes(3)
        for stratum in (ORDINARY, "switching_scale")
    )


def _answer(setting: Setting, relation: Relation) -> str:
    """For a random rule a failure shows nothing: for a fixed seed, other inputs meet other random numbers."""
    if _holds(setting, relation):
        return "yes"
    return "undecided" if setting.nature.seed_dependent else "no"


def _oddness(setting: Setting) -> Trait:
    proved = _is_proved(lambda: _workshop(setting).prove_oddness())
    return Trait("odd", _answer(setting, _Odd()), "U(-W, -G) = -U(W, G)" + (": proved" if proved else ""))


def _workshop(setting: Setting) -> Workshop:
    return Workshop(setting.candidate, setting.budget, seed=setting.seed)


def _is_proved(proof: Callable[[], Proved]) -> bool:
    try:
        proof()
    except (NoProof, CandidateError):
        return False
    return True


def _transpose(setting: Setting) -> Trait:
    try:
        return Trait("transpose symmetry", _answer(setting, _Transpose()), "U(W^T, G^T) = U(W, G)^T")
    except CandidateError as error:
        return Trait("transpose symmetry", "no", f"does not take the transposed shape: {error}")


def _degree(setting: Setting) -> Trait:
    name = "homogeneity degree"
    try:
        degree, low, high = homogeneity(setting, setting.shapes(2))
    except Breaks as fault:
        return Trait(name, "none", str(fault))
    if degree is None:
        return Trait(name, "none", "U(cG) is no power of c times U(G), even near c = 1")
    text = f"U(cG) = c^{degree} U(G) for c from 2^{low} to 2^{high}, within 1 %; other scales do not follow"
    if _is_proved(lambda: _workshop(setting).prove_degree(Fraction(degree).limit_denominator(64))):
        text = f"U(cG) = c^{degree} U(G) for every c > 0 where W moves by c^{degree}: proved"
    return Trait(name, str(degree), text, {"degree": degree, "from": 2.0**low, "to": 2.0**high})


def _descent(setting: Setting) -> Trait:
    """The largest cosine between a first displacement and its gradient, over all strata, from zero weights (decay is
    not an answer to the gradient); from others if nothing moves there."""
    cosines = []
    for inputs in _first_steps(setting):
        try:
            displacement = run(setting.candidate, inputs, setting.nature.arithmetic, seed=setting.seed)[0]
        except CandidateError:
            continue
        step, grad = displacement[0].flatten(), inputs.grads[0][0].flatten()
        size = float(step.norm() * grad.norm())
        if size > 0 and math.isfinite(size):
            cosines.append(float(step @ grad) / size)
    if not cosines:
        return Trait("descent", "none", "nothing moves at step 1")
    most = max(cosines)
    text = f"the cosine of U and G at step 1 is at most {most:.2g}"
    # Rounding of the two norms and the product: a few units of each of at most 20 terms.
    return Trait("descent", _yes(most <= 2.0**-46), text, {"cosine": most})


def _first_steps(setting: Setting) -> Iterator[Inputs]:
    at_zero = setting.draw(ORDINARY, setting.shapes(1)[0], 1).map(lambda tensor: tensor)
    zero = Inputs(tuple(map(torch.zeros_like, at_zero.weights)), at_zero.grads)
    moves = largest(run(setting.candidate, zero, setting.nature.arithmetic, seed=setting.seed)[0]) > 0
    for shapes in setting.shapes(2):
        for stratum in STRATA:
            inputs = setting.draw(stratum, shapes, 1)
            weights = tuple(map(torch.zeros_like, inputs.weights)) if moves else inputs.weights
            yield Inputs(weights, inputs.grads)


def _coupling(setting: Setting) -> Trait:
    name = "couples parameters"
    try:
        outcome = check_contract(
            "block_independence", setting.candidate, setting.nature, setting.block, setting.budget, setting.seed
        )
    except CandidateError as error:
        return Trait(name, "undecided", str(error))
    if outcome.verdict is Verdict.REFUTED:
        if setting.nature.seed_dependent:
            return Trait(name, "undecided", "it is random, and other parameters draw from the same source")
        return Trait(name, "yes", outcome.reason)
    return Trait(name, "no" if outcome.verdict is Verdict.SUPPORTED else "undecided", outcome.reason)


def _state(setting: Setting) -> Trait:
    """The tensors of the optimizer's state after a few steps on an m x n matrix with m and n different."""
    shapes = next((s for s in setting.shapes(4) if s[0][-2] != s[0][-1]), setting.shapes(1)[0])
    inputs = setting.draw(ORDINARY, shapes, STEPS)
    seed_everything(setting.seed)
    params = [torch.nn.Parameter(weight.clone()) for weight in inputs.weights]
    optimizer = build(setting.candidate, params)
    for number, grads in enumerate(inputs.grads, start=1):
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad.clone()
        take_step(optimizer, number)
    m, n = shapes[0][-2:]
    found = {
        path: _extents(tensor, m, n)
        for path, tensor in _tensors(getattr(optimizer, "state", {}).get(params[0], {}), "")
    }
    arrays = {path: shape for path, shape in found.items() if shape}
    listed = ", ".join(f"{path} ({shape})" for path, shape in arrays.items())
    scalars = [path for path, shape in found.items() if not shape]
    text = "; ".join(filter(None, [listed, f"numbers: {', '.join(scalars)}" if scalars else ""]))
    return Trait("state tensors", str(len(arrays)), text, {"tensors": found})


def _tensors(value: Any, path: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _tensors(item, f"{path}[{number}]")


def _extents(tensor: torch.Tensor, m: int, n: int) -> str:
    """``m x n`` for the shape of the weight; empty for a single number."""
    if tensor.numel() == 1:
        return ""
    names = {m: "m", n: "n", m * n: "mn"}
    return " x ".join(names.get(extent, str(extent)) for extent in tensor.shape)
