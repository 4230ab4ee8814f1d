"""Names of state tensors: the same in every run."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from symcheck.trace.slots import tensors_of


def names(*params: torch.Tensor) -> list[str]:
    state = {
        "by_tensor": {param: {"m": torch.zeros(2)} for param in params},
        "by_identity": {id(param): torch.zeros(2) for param in params},
        "by_number": {0: torch.zeros(2), "a b": torch.zeros(2)},
    }
    return [name for name, _ in tensors_of(SimpleNamespace(state=state, params=list(params)), params)]


def test_parameters_and_their_identities_stand_for_their_index() -> None:
    found = names(torch.zeros(2), torch.zeros(3))
    assert found == names(torch.zeros(2), torch.zeros(3))
    assert len(set(found)) == len(found)
    assert {"state.by_tensor[1].m", "state.by_identity[id(1)]", "state.by_number[0]"} <= set(found)
    assert not any(name.startswith("params") for name in found)
