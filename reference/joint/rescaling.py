"""DDC for the gauges that stretch: rescaling of neurons, norm gains, and the scale of whole weights."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from array_api_compat import array_namespace, is_numpy_array

from reference.joint.gauge import Scaled, scaled_tensors, spec
from reference.joint.rule import JointRule, JointState, JointTraits, register_joint
from reference.rule import GradientRule

CONSTRUCTION = "our construction from the published abstract of arXiv 2606.29176"


@register_joint
@dataclass(frozen=True, kw_only=True)
class DDCRescaling(JointRule):
    """Dead-direction conditioner of a rescaling gauge: our construction from the published abstract of arXiv
    2606.29176, which names the gauges and says that it conditions the state in the orbit decomposition of an invariant
    metric; no code of its author was found, and the formulas here are derived.

    Unit ``j`` is moved as ``(a_j, b_j) -> (c a_j, b_j / c)``, where ``a_j`` is what all tensors with ``D`` have of it
    (a row of ``up`` and its bias) and ``b_j`` what those with ``D*`` have (a column of ``down``). In the invariant
    metric ``|da|^2 / |a|^2 + |db|^2 / |b|^2`` the gradients ``|a_j| g_a`` and ``|b_j| g_b`` do not change with ``c``.
    The base runs on them, and its directions are multiplied by ``|a_j|`` and ``|b_j|`` again. Tensors without a factor
    are stepped by the plain base.

    ``horizontal`` also subtracts the component along the orbit, whose unit direction is ``(a / |a|, -b / |b|)`` over
    ``sqrt 2``: ``k = (<u_a, a> / |a| - <u_b, b> / |b|) / 2``, ``u_a -= k a / |a|``, ``u_b += k b / |b|`` (with one kind
    of tensor only, as for ``theta -> c theta``: ``k = <u, theta> / |theta|``).

    A unit whose weights are all zero on one side never moves there: start it from other values.
    """

    name: ClassVar[str] = "ddc_rescaling"
    source: ClassVar[str] = CONSTRUCTION

    lr: float = 1e-3
    gauge: str = "up: D(rows); down: D*(cols) where D = Scale"
    horizontal: bool = False

    @property
    def parts(self) -> tuple[GradientRule, ...]:
        """The base, for every tensor alike."""
        return (self.base_rule(),) * len(scaled_tensors(self.gauge))

    @property
    def traits(self) -> JointTraits:
        """Degree 0."""
        return JointTraits(degree=0, horizontal=self.horizontal)

    @property
    def symmetry(self) -> str:
        """Scalings, reflections and permutations of the units, and what the base respects on the other axes."""
        own = self.base_family
        units = scaled_tensors(self.gauge)
        family = "Scale" if all(one.axis in ("all", "") for one in units) else "Monomial"
        used = sum(bool(one.axis) for one in units)
        unit = "D" if used > 1 else family
        return spec(
            self.tensors, [_factors(one, unit, own, self.base) for one in units], f"D = {family}" if used > 1 else ""
        )

    def directions(
        self, grads: Sequence[Any], states: JointState, weights: Sequence[Any]
    ) -> tuple[list[Any], JointState]:
        """The base's directions on the invariant gradients, mapped back."""
        units = scaled_tensors(self.gauge)
        lengths = {
            power: _length([(w, one) for w, one in zip(weights, units, strict=True) if one.power == power])
            for power in sorted({one.power for one in units if one.axis})
        }
        scales = [_along(lengths[one.power], one) if one.axis else None for one in units]
        moved, new = [], []
        for part, grad, state, scale in zip(self.parts, grads, states, scales, strict=True):
            direction, state = part.direction(grad if scale is None else scale * grad, state)
            moved.append(direction if scale is None else scale * direction)
            new.append(state)
        return (self._horizontal(moved, weights, lengths) if self.horizontal else moved), tuple(new)

    def _horizontal(self, moved: Sequence[Any], weights: Sequence[Any], lengths: dict[int, Any]) -> list[Any]:
        """``moved`` without its component along the orbit."""
        triples = list(zip(scaled_tensors(self.gauge), moved, weights, strict=True))
        component = functools.reduce(
            operator.add,
            [
                one.power * _over(_summed(u * w, one), lengths[one.power] * lengths[one.power]) / len(lengths)
                for one, u, w in triples
                if one.axis
            ],
        )
        return [u - one.power * _along(component, one) * w if one.axis else u for one, u, w in triples]


@register_joint
@dataclass(frozen=True, kw_only=True)
class DDCScale(DDCRescaling):
    """Dead-direction conditioner of a scale gauge, for weights that feed a norm: ``theta -> c theta``, ``g -> g / c``:
    our construction from the published abstract of arXiv 2606.29176 (which of the scale symmetries of a norm the paper
    means is not known; the gain against its readers is a gauge of `DDCRescaling`).

    All tensors with the factor are one ``theta``: the base runs on ``|theta| g``, its direction is multiplied by
    ``|theta|``, and ``horizontal`` (the default here) removes the radial part ``<u, theta> theta / |theta|^2``.
    Tensors with the inverse factor are a second such unit, as in `DDCRescaling`.
    """

    name: ClassVar[str] = "ddc_scale"
    source: ClassVar[str] = CONSTRUCTION

    gauge: str = "Scale(all)"
    horizontal: bool = True


def _factors(one: Scaled, unit: str, own: str, base: str) -> list[str]:
    """How one tensor of a block moves: its units by ``unit``, its other axes by ``own``."""
    if one.axis == "" and base == "adam":
        return ["SPerm(entries)"]
    scaled = f"{unit}{'*' if one.power < 0 else ''}({one.axis})"
    others = [f"{own}({axis})" for axis in ("rows", "cols") if axis != one.axis]
    return [*others, scaled] if one.axis else others


def _summed(x: Any, one: Scaled) -> Any:
    """The sum of ``(..., m, n)`` over everything but the units, ``(..., units)``."""
    xp = array_namespace(x)
    if one.axis == "all":
        return xp.sum(x, axis=(-2, -1))[..., None]
    return xp.sum(x, axis=-1 if one.axis == "rows" else -2)


def _along(values: Any, one: Scaled) -> Any:
    """One value per unit ``(..., units)``, in a shape that multiplies a tensor."""
    return values[..., None, :] if one.axis == "cols" else values[..., None]


def _over(x: Any, length: Any) -> Any:
    """``x / length``, and zero where the length is zero.

    Nothing replaces a zero length: a constant would not grow with the weights as the others do.
    """
    import numpy  # importing the rules needs no array library

    xp = array_namespace(x)
    with numpy.errstate(divide="ignore", invalid="ignore") if is_numpy_array(x) else contextlib.nullcontext():
        return xp.where(length == 0, xp.zeros_like(x), x / length)


def _length(side: Sequence[tuple[Any, Scaled]]) -> Any:
    """The lengths of the units over all tensors of one side, ``(..., units)``."""
    square = functools.reduce(operator.add, [_summed(weight * weight, one) for weight, one in side])
    return array_namespace(square).sqrt(square)
