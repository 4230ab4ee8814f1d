"""Random arrays, for the few rules whose state starts at random."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace, device, is_torch_array


def normal(shape: tuple[int, ...], like: Any) -> Any:
    """Independent standard normal numbers in the library and dtype and on the device of ``like``.

    Drawn from torch's global generator of that device for torch arrays, from numpy's (``numpy.random.seed``) for
    others.
    """
    if is_torch_array(like):
        import torch

        return torch.randn(shape, dtype=like.dtype, device=like.device)
    import numpy as np

    drawn = np.random.standard_normal(shape)  # noqa: NPY002  (the global generator, as in torch)
    return array_namespace(like).asarray(drawn, dtype=like.dtype, device=device(like))
