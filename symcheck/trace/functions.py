"""The elementwise functions of ``map`` lines in float64 (``docs/proof.md``, section 1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.special

Array = npt.NDArray[Any]


def _clamp(x: Array, low: float | None, high: float | None) -> Array:
    bounded = x if low is None else np.maximum(x, low)
    return bounded if high is None else np.minimum(bounded, high)


MAPS: Mapping[str, tuple[int, int, Callable[..., Any]]] = MappingProxyType(
    {
        # name: (operands, parameters, function)
        "neg": (1, 0, np.negative),
        "reciprocal": (1, 0, lambda x: 1 / x),
        "sign": (1, 0, np.sign),
        "tanh": (1, 0, np.tanh),
        "atan": (1, 0, np.arctan),
        "asin": (1, 0, np.arcsin),
        "sin": (1, 0, np.sin),
        "erf": (1, 0, scipy.special.erf),
        "round": (1, 0, np.round),
        "trunc": (1, 0, np.trunc),
        "cube_root": (1, 0, np.cbrt),
        "clamp_symmetric": (1, 1, lambda x, c: np.minimum(np.maximum(x, -c), c)),
        "softshrink": (1, 1, lambda x, c: np.where(np.abs(x) > c, x - c * np.sign(x), x * 0)),
        "hardshrink": (1, 1, lambda x, c: np.where(np.abs(x) > c, x, x * 0)),
        "sinh": (1, 0, np.sinh),
        "asinh": (1, 0, np.arcsinh),
        "abs": (1, 0, np.abs),
        "square": (1, 0, np.square),
        "cos": (1, 0, np.cos),
        "cosh": (1, 0, np.cosh),
        "is_zero": (1, 0, lambda x: x == 0),
        "is_nonzero": (1, 0, lambda x: x != 0),
        "eq": (2, 0, np.equal),
        "ne": (2, 0, np.not_equal),
        "hypot": (2, 0, np.hypot),
        "power": (1, 1, np.power),
        "sqrt": (1, 0, np.sqrt),
        "rsqrt": (1, 0, lambda x: 1 / np.sqrt(x)),
        "relu": (1, 0, lambda x: np.maximum(x, 0)),
        "exp": (1, 0, np.exp),
        "expm1": (1, 0, np.expm1),
        "log": (1, 0, np.log),
        "log1p": (1, 0, np.log1p),
        "log2": (1, 0, np.log2),
        "sigmoid": (1, 0, scipy.special.expit),
        "softplus": (1, 0, lambda x: np.logaddexp(0, x)),
        "silu": (1, 0, lambda x: x * scipy.special.expit(x)),
        "gelu": (1, 0, lambda x: x * scipy.special.ndtr(x)),
        "ceil": (1, 0, np.ceil),
        "floor": (1, 0, np.floor),
        "not": (1, 0, lambda x: x == 0),
        "maximum": (2, 0, np.maximum),
        "minimum": (2, 0, np.minimum),
        "lt": (2, 0, np.less),
        "le": (2, 0, np.less_equal),
        "gt": (2, 0, np.greater),
        "ge": (2, 0, np.greater_equal),
        "clamp": (1, 2, _clamp),
        "pow": (2, 0, np.power),
        "atan2": (2, 0, np.arctan2),
        "fmod": (2, 0, np.fmod),
        "remainder": (2, 0, np.remainder),
        "and": (2, 0, np.logical_and),
        "or": (2, 0, np.logical_or),
        "xor": (2, 0, np.logical_xor),
        "leaky_relu": (1, 1, lambda x, c: np.where(x > 0, x, c * x)),
        "elu": (1, 0, lambda x: np.where(x > 0, x, np.expm1(x))),
        "digamma": (1, 0, scipy.special.digamma),
        "lgamma": (1, 0, scipy.special.gammaln),
    }
)
"""The elementwise functions: number of operands, number of parameters, and the function in float64."""
