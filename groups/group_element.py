# ruff: noqa: D102  (what overrides a documented method is documented there)
"""Elements of actions: what moves the tensors of a block, its linear part, and its dual."""

from __future__ import annotations

import abc
import sys
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from groups.element import Element
from groups.images import image_element, image_group

if TYPE_CHECKING:
    from groups.action import Action, Factor, ProductAction
    from groups.experts import ExpertAction

T = TypeVar("T")
"""A torch tensor (float64, any device), a float64 numpy array, or a numpy object array of fractions."""
Shapes = tuple[tuple[int, ...], ...]
Translation = tuple[Fraction, ...] | tuple[float, ...]


class GroupElement(abc.ABC):
    """One element of an :class:`~groups.action.Action` on tensors of given shapes; immutable.

    Tensors are passed and returned as tuples in the order of ``action.tensors``; further leading axes are a batch, all
    of which is moved by this element. Object arrays of fractions are moved exactly, torch and numpy arrays in float64.
    What is returned is always new and contiguous.
    The three maps raise ValueError if the number or the shapes of the tensors do not fit, TypeError for other dtypes.
    """

    action: Action
    shapes: Shapes

    def act(self, tensors: tuple[T, ...]) -> tuple[T, ...]:
        """``g.W = rho(g) W + tau(g)``, for weights."""
        return self._move(self._checked(tensors), "act")

    def act_linear(self, tensors: tuple[T, ...]) -> tuple[T, ...]:
        """``rho(g) U``, for displacements."""
        return self._move(self._checked(tensors), "linear")

    def act_dual(self, tensors: tuple[T, ...]) -> tuple[T, ...]:
        """``rho(g)^{-T} G``, for gradients; a translation does not move them."""
        return self._move(self._checked(tensors), "dual")

    @property
    @abc.abstractmethod
    def is_exact(self) -> bool:
        """Whether all matrices and translations are known as fractions."""

    @property
    @abc.abstractmethod
    def is_identity(self) -> bool:
        """Whether nothing moves."""

    @property
    @abc.abstractmethod
    def is_dyadic(self) -> bool:
        """Whether all entries are exact in binary floating point."""

    @abc.abstractmethod
    def __matmul__(self, other: Any) -> Any: ...

    @abc.abstractmethod
    def __invert__(self) -> Any: ...

    @abc.abstractmethod
    def to_json(self) -> dict[str, Any]:
        """JSON-ready data, fractions as strings such as ``"3/5"``; read back by ``action.element_from_json``."""

    @abc.abstractmethod
    def _move(self, tensors: tuple[Any, ...], mode: str) -> tuple[Any, ...]: ...

    def _checked(self, tensors: tuple[Any, ...]) -> tuple[Any, ...]:
        names = self.action.tensors
        if len(tensors) != len(names):
            raise ValueError(f"{self.action}: expected {len(names)} tensors ({', '.join(names)}), got {len(tensors)}")
        for name, shape, tensor in zip(names, self.shapes, tensors, strict=True):
            if tuple(tensor.shape[tensor.ndim - len(shape) :]) != shape:
                got = tuple(tensor.shape)
                raise ValueError(f"{self.action}: tensor {name} has shape {got}, this element acts on {shape}")
            if str(tensor.dtype) not in ("float64", "torch.float64", "object"):
                raise TypeError(
                    f"{self.action}: tensor {name} has dtype {tensor.dtype}; groups act in float64 or on fractions"
                )
        return tensors

    def _same_action(self, other: GroupElement) -> None:
        if (self.action, self.shapes) != (other.action, other.shapes):
            raise ValueError(
                f"cannot multiply elements of {self.action} on {self.shapes} and of {other.action} on {other.shapes}"
            )


@dataclass(frozen=True, eq=True)
class ProductElement(GroupElement):
    """An element of a :class:`~groups.action.ProductAction`: one matrix per variable, one row vector per shift."""

    action: ProductAction
    shapes: Shapes
    values: tuple[Element, ...]
    """In the order of ``action.variables``."""
    translations: tuple[Translation | None, ...]
    """In the order of ``action.tensors``; None where the action has no shift."""

    def _element(self, factor: Factor, dual: bool) -> Element:
        index = self.action.variable_names.index(factor.variable)
        value = self.values[index]
        # Asking the family first keeps a rounded orthogonal matrix bitwise its own dual.
        if factor.image:
            value = image_element(self.action.variables[index][1], value, factor.image)
        if dual == factor.dual or image_group(self.action.variables[index][1], factor.image).is_orthogonal:
            return value
        return value.dual

    def _move(self, tensors: tuple[Any, ...], mode: str) -> tuple[Any, ...]:
        moved = []
        for tensor, shape, factors, translation in zip(
            tensors, self.shapes, self.action.factors, self.translations, strict=True
        ):
            result = _copy(tensor)  # nobody who writes to a moved tensor may reach the original
            for factor in factors:
                result = _apply(self._element(factor, mode == "dual"), result, factor.axis, len(shape))
            if translation is not None and mode == "act":
                result = result + _row_vector(translation, result)
            moved.append(result)
        return tuple(moved)

    @property
    def is_exact(self) -> bool:
        floats = any(isinstance(c, float) for t in self.translations for c in t or ())
        return all(value.is_exact for value in self.values) and not floats

    @property
    def is_dyadic(self) -> bool:
        if not self.is_exact or not all(value.is_dyadic for value in self.values):
            return False
        return all(Fraction(c).denominator.bit_count() == 1 for t in self.translations for c in t or ())

    @property
    def is_identity(self) -> bool:
        return all(value.is_identity for value in self.values) and not any(
            c for t in self.translations for c in t or ()
        )

    def __matmul__(self, other: ProductElement) -> ProductElement:
        if not isinstance(other, ProductElement):
            return NotImplemented
        self._same_action(other)
        values = tuple(a @ b for a, b in zip(self.values, other.values, strict=True))
        # rho(g)(W + 1 c^T) = rho(g) W + 1 (B c)^T with B the column matrix of g, because the row matrix fixes 1.
        translations: tuple[Any, ...] = tuple(
            None if c is None or d is None else _sum(c, self._turn(k, d))
            for k, (c, d) in enumerate(zip(self.translations, other.translations, strict=True))
        )
        return ProductElement(self.action, self.shapes, values, translations)

    def __invert__(self) -> ProductElement:
        orthogonal = [group.is_orthogonal for _, group in self.action.variables]
        values = tuple(v.transpose if known else ~v for v, known in zip(self.values, orthogonal, strict=True))
        inverse = ProductElement(self.action, self.shapes, values, self.translations)
        translations: tuple[Any, ...] = tuple(
            None if c is None else tuple(-x for x in inverse._turn(k, c)) for k, c in enumerate(self.translations)
        )
        return ProductElement(self.action, self.shapes, values, translations)

    def _turn(self, index: int, c: Translation) -> Translation:
        """``B c``: a translation of tensor ``index`` moved by the column matrix of this element."""
        for factor in self.action.factors[index]:
            if factor.axis == "cols":
                element = self._element(factor, dual=False)
                exact = element.is_exact and all(isinstance(x, Fraction) for x in c)
                return tuple(element.apply(np.array(c, dtype=object if exact else np.float64)).tolist())
        return c

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"shapes": [list(shape) for shape in self.shapes]}
        names = self.action.variable_names
        data["matrices"] = {name: matrix_to_json(value) for name, value in zip(names, self.values, strict=True)}
        shifts = {
            name: [c if isinstance(c, float) else str(c) for c in t]
            for name, t in zip(self.action.tensors, self.translations, strict=True)
            if t is not None
        }
        return data | ({"shift": shifts} if shifts else {})


@dataclass(frozen=True, eq=True)
class ExpertElement(GroupElement):
    """An element of ``(inner) wr Perm(experts)``: expert ``e`` moves by ``inner[e]``, then to place ``pi(e)``."""

    action: ExpertAction
    shapes: Shapes
    inner: tuple[GroupElement, ...]
    permutation: Element

    def _move(self, tensors: tuple[Any, ...], mode: str) -> tuple[Any, ...]:
        experts = [g._move(tuple(t[..., e, :, :] for t in tensors), mode) for e, g in enumerate(self.inner)]
        stacks = zip(*[experts[e] for e in _columns(self.permutation)], strict=True)
        return tuple(_stack(list(stack)) for stack in stacks)

    @property
    def is_exact(self) -> bool:
        return all(g.is_exact for g in self.inner)

    @property
    def is_dyadic(self) -> bool:
        return all(g.is_dyadic for g in self.inner)

    @property
    def is_identity(self) -> bool:
        return self.permutation.is_identity and all(g.is_identity for g in self.inner)

    def __matmul__(self, other: ExpertElement) -> ExpertElement:
        if not isinstance(other, ExpertElement):
            return NotImplemented
        self._same_action(other)
        # The other element has moved expert e to place pi(e) by the time this one acts.
        places = _columns(~other.permutation)
        inner = tuple(self.inner[place] @ g for place, g in zip(places, other.inner, strict=True))
        return ExpertElement(self.action, self.shapes, inner, self.permutation @ other.permutation)

    def __invert__(self) -> ExpertElement:
        inner = tuple(~self.inner[e] for e in _columns(self.permutation))
        return ExpertElement(self.action, self.shapes, inner, ~self.permutation)

    def to_json(self) -> dict[str, Any]:
        return {
            "shapes": [list(shape) for shape in self.shapes],
            "experts": matrix_to_json(self.permutation),
            "inner": [g.to_json() for g in self.inner],
        }


def _sum(left: Translation, right: Translation) -> tuple[Any, ...]:
    pairs: zip[tuple[Any, Any]] = zip(left, right, strict=True)
    return tuple(x + y for x, y in pairs)


def _columns(permutation: Element) -> list[int]:
    """For each place, the index of what a permutation moves there."""
    return [row[0][0] for row in permutation.rows or ()]


def _apply(element: Element, array: Any, axis: str, ndim: int) -> Any:
    """The matrix along one axis of the block; ``ndim`` is the block's own number of axes, those before are a batch."""
    if axis == "entries":
        batch = tuple(array.shape[: array.ndim - ndim])
        return _along(element, array.reshape((*batch, element.size)), -1).reshape(array.shape)
    if axis == "all":
        return _along(element, array.reshape((*array.shape, 1)), -1).reshape(array.shape)
    return _along(element, array, {"rows": -2, "cols": -1, "experts": -3}[axis])


def _along(element: Element, array: Any, axis: int) -> Any:
    """``matrix @ array`` along ``axis`` (negative)."""
    if is_torch(array):
        import torch

        matrix = torch.tensor(element.matrix, device=array.device)
        moved = torch.movedim(torch.tensordot(matrix, array, dims=([1], [axis % array.ndim])), 0, axis)
        return moved.contiguous()  # memory layout must not tell a moved tensor from another
    return element.apply(array, axis)


def _copy(array: Any) -> Any:
    return array.clone() if is_torch(array) else array.copy()


def _row_vector(translation: Translation, like: Any) -> Any:
    if is_torch(like):
        import torch

        return torch.tensor([float(c) for c in translation], dtype=like.dtype, device=like.device)
    if like.dtype == object:
        if not all(isinstance(c, Fraction) for c in translation):
            raise ValueError("an element known in floating point only cannot act exactly on fractions")
        return np.array(translation, dtype=object)
    return np.array([float(c) for c in translation])


def _stack(arrays: list[Any]) -> Any:
    if is_torch(arrays[0]):
        import torch

        return torch.stack(arrays, dim=-3)
    return np.stack(arrays, axis=-3)


def is_torch(array: Any) -> bool:
    """Whether the array is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def matrix_to_json(element: Element) -> list[list[str | float]]:
    """Rows of strings for an exact element, of floats otherwise."""
    if element.exact is not None:
        return [[str(value) for value in row] for row in element.exact]
    return [[float(value) for value in row] for row in element.matrix]


def matrix_from_json(data: Any, where: str) -> Element:
    """Inverse of :func:`matrix_to_json`. Raises ValueError, one line, for anything else."""
    try:
        if any(isinstance(value, float) for row in data for value in row):
            return Element.from_float(data)
        return Element.from_exact(data)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{where}: not the matrix of a group element ({error})") from None


def translation_from_json(data: Any, size: int, where: str) -> Translation:
    """A row vector from JSON. Raises ValueError, one line, if it is not one of that size."""
    if not isinstance(data, list) or len(data) != size:
        raise ValueError(f"{where}: the shift is a list of {size} numbers, got {data!r}")
    try:
        if any(isinstance(value, float) for value in data):
            floats = tuple(float(value) for value in data)
            if not np.isfinite(floats).all():
                raise ValueError("infinity or NaN")
            return floats
        return tuple(Fraction(value) for value in data)
    except (TypeError, ValueError, ZeroDivisionError):
        raise ValueError(f"{where}: the shift is a list of finite numbers, got {data!r}") from None
