"""One-sided spectral preconditioning ``M (M^T M + eps I)^{-1/2}`` and the nuclear-norm scale that goes with it."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from array_api_compat import array_namespace

from reference.orthogonalizers import NewtonSchulz, get_orthogonalizer, without_eps
from reference.transforms.arrays import inner
from reference.transforms.inverse_root import coupled_inverse_root
from reference.transforms.polar import damped_polar

Side = Literal["right", "left"]
SIDES: tuple[Side, ...] = ("right", "left")
BackendName = Literal["exact", "polar_express", "newton_schulz", "gram_newton_schulz"]
Backend: TypeAlias = BackendName | NewtonSchulz
BACKENDS: tuple[BackendName, ...] = ("exact", "polar_express", "newton_schulz", "gram_newton_schulz")


def spectral_factor(m: Any, *, side: Side, backend: Backend, eps: float, steps: int) -> Any:
    """``m (m^T m + eps I)^{-1/2}`` (right) or ``(m m^T + eps I)^{-1/2} m`` (left): one map, two costs.

    ``exact``: from the SVD of ``m``. ``polar_express``, ``newton_schulz``: by ``steps`` coupled iterations on the
    damped Gram matrix of that side, as the paper's code; unconverged, the two sides differ through the Frobenius norm
    of ``eps I``. ``gram_newton_schulz``: the orthogonaliser of the paper's ``*_GramNS`` variants, which ignores
    ``side`` and has an eps of its own (zero if ``eps`` is); any other polynomial method likewise, given as a value.
    """
    if backend == "exact":
        return damped_polar(m, eps)
    if backend == "gram_newton_schulz" or isinstance(backend, NewtonSchulz):
        method = get_orthogonalizer(backend)
        return (method if eps else without_eps(method))(m)
    mt = array_namespace(m).matrix_transpose(m)
    if side == "right":
        return m @ coupled_inverse_root(mt @ m, eps=eps, method=backend, steps=steps)
    return coupled_inverse_root(m @ mt, eps=eps, method=backend, steps=steps) @ m


def scale_by_inner(factor: Any, m: Any, *, alpha: float, eps: float, axis: tuple[int, ...] = ()) -> Any:
    """``max(<m, factor>, eps)^alpha * factor``, where ``<m, polar(m)>`` is the nuclear norm.

    ``axis``: batch axes over which the inner products are added up first.
    """
    if alpha == 0:
        return factor
    xp = array_namespace(m)
    scale = inner(m, factor)
    if axis:
        scale = xp.sum(scale, axis=axis, keepdims=True)
    return xp.clip(scale, min=eps) ** alpha * factor
