"""Moving the state of a rule by an element of its group, and comparing states up to a gauge.

The one interpretation of the data that rules declare (`Rule.state_actions`, `Rule.gauges`), for any array library.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace, device

from groups import ExpertElement, GroupElement, ProductElement
from groups.action import AXES
from reference.rule import Rule, State, StateAction


def move_state(rule: Rule, element: GroupElement, state: State) -> State:
    """``rho_S state``: the state that ``rule`` would have if all of its history had been moved by ``element``.

    ``element`` acts on one tensor. ValueError for an array whose action the rule does not declare, and for magnitudes
    under a matrix that is not a signed permutation.
    """
    actions = rule.state_actions
    moved: State = {}
    for name, value in state.items():
        if isinstance(value, int):
            moved[name] = value
        elif name in actions:
            moved[name] = _move(actions[name], element, value)
        else:
            raise ValueError(f"rule {rule.name!r} does not declare how its state {name!r} moves")
    return moved


def _move(action: StateAction, element: GroupElement, array: Any) -> Any:
    xp = array_namespace(array)
    if action.axes == ("entries",):
        (moved,) = element.act_dual((array,))
    elif isinstance(element, ExpertElement):
        axis = -len(action.axes) - 1
        experts = xp.moveaxis(array, axis, 0)
        parts = [_move(action, inner, experts[e, ...]) for e, inner in enumerate(element.inner)]
        moved = _along(element.permutation.matrix, xp.moveaxis(xp.stack(parts), 0, axis), axis)
    else:
        assert isinstance(element, ProductElement)
        moved = array
        places = [*((None,) if array.ndim == len(action.axes) else ("experts",)), *action.axes]
        for offset, label in enumerate(reversed(places), start=1):
            matrix = _matrix(element, label) if label in AXES else None
            if matrix is not None:
                moved = _along(matrix, moved, -offset)
    return moved if action.signed else xp.abs(moved)


def _matrix(element: ProductElement, axis: str) -> Any:
    """The matrix by which ``element`` moves one axis of gradients, or None if it leaves it alone."""
    factor = element.action.group_on(0, axis)
    if factor is None:
        return None
    value = element.values[element.action.variable_names.index(factor.variable)]
    orthogonal = element.action.groups[factor.variable].is_orthogonal
    return value.matrix if orthogonal or factor.dual else value.dual.matrix


def _along(matrix: Any, array: Any, axis: int) -> Any:
    """``matrix @ array`` along ``axis`` (negative)."""
    xp = array_namespace(array)
    matrix = xp.asarray(matrix.copy(), dtype=array.dtype, device=device(array))
    return xp.moveaxis(xp.tensordot(matrix, array, axes=((1,), (array.ndim + axis,))), 0, axis)


def align_gauge(rule: Rule, state: State, reference: State) -> State:
    """``state`` with the signs (or the rotations) of its gauge axes chosen to be those of ``reference``.

    On every axis that `Rule.gauges` names, the signs are read off the first array that has it together with an axis
    that is none, by the inner products with the vectors of ``reference``. Rotations are the ones that bring that array
    nearest to the one in ``reference``.
    """
    aligned = dict(state)
    for label, family in rule.gauges.items():
        if family == "O":
            aligned |= _rotated(rule, label, aligned, reference)
            continue
        if family != "Sign":
            raise ValueError(f"rule {rule.name!r}: no way to align the gauge group {family!r}")
        signs = None
        for name, action in _carriers(rule, label).items():
            if name in state:
                axis = action.axes.index(label) - len(action.axes)
                other = -3 - axis  # of the last two axes
                if signs is None:
                    signs = _signs(array_namespace(state[name]).sum(state[name] * reference[name], axis=other))
                aligned[name] = aligned[name] * array_namespace(signs).expand_dims(signs, axis=other)
    return aligned


def _rotated(rule: Rule, label: str, state: State, reference: State) -> State:
    """The arrays of ``state`` with the axis ``label``, in the orthonormal basis nearest to that of ``reference``."""
    rotation = None
    rotated: State = {}
    for name, action in _carriers(rule, label).items():
        if name in state:
            xp = array_namespace(state[name])
            axis = action.axes.index(label) - len(action.axes)
            flat = _flattened(state[name], axis, len(action.axes))
            if rotation is None:
                cross = _flattened(reference[name], axis, len(action.axes)) @ xp.matrix_transpose(flat)
                u, _, vt = xp.linalg.svd(cross)
                rotation = u @ vt
            batch = state[name].ndim - len(action.axes)
            moved = xp.moveaxis(state[name], axis, batch)
            rotated[name] = xp.moveaxis(xp.reshape(rotation @ flat, moved.shape), batch, axis)
    return rotated


def _flattened(array: Any, axis: int, axes: int) -> Any:
    """``array`` with its axis ``axis`` (negative) first of its last ``axes`` axes, and the others of them one axis."""
    xp = array_namespace(array)
    batch = array.ndim - axes
    moved = xp.moveaxis(array, axis, batch)
    return xp.reshape(moved, (*moved.shape[: batch + 1], -1))


def _signs(x: Any) -> Any:
    xp = array_namespace(x)
    return xp.where(x < 0, -xp.ones_like(x), xp.ones_like(x))


def _carriers(rule: Rule, label: str) -> dict[str, StateAction]:
    """The arrays that see signs on the axis ``label``, those that see the weight's axes first."""
    found = {name: action for name, action in rule.state_actions.items() if label in action.axes and action.signed}
    return dict(sorted(found.items(), key=lambda item: not set(item[1].axes) & set(AXES)))
