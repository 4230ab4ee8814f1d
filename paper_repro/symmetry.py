"""A symmetry of a model: a group action of `groups` on the right entries of the right parameters.

The action knows matrices, the model knows parameters; a `Slot` is the strided view that joins them. The same slots
read the gradients, so one definition serves the statement "the function is preserved" and the statement "gradients
move by the dual action", which is what an optimizer is certified against.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from groups import Action, GroupElement
from paper_repro.views import View


@dataclass(frozen=True)
class Slot:
    """One matrix, or stack of matrices, of a joint action inside one parameter.

    ``view`` returns a strided view of the parameter. A vector is a matrix with one column; axes beyond ``axes`` are
    merged into the columns. ``offset`` is what the model adds to the stored value before using it (the action then
    moves the sum).
    """

    parameter: str
    view: View
    offset: float = 0.0
    axes: int = 2

    def read(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The stored matrix, without the offset; ``tensors`` maps parameter names to parameters or gradients."""
        view = self.view(tensors[self.parameter].detach())
        if view.ndim == 1:
            return view[:, None]
        return view if view.ndim <= self.axes else view.flatten(self.axes - 1)

    def write(self, tensors: Mapping[str, torch.Tensor], matrix: torch.Tensor) -> None:
        """Store ``matrix`` (without the offset) into the parameter, in place."""
        view = self.view(tensors[self.parameter].detach())
        view.copy_(matrix.reshape(view.shape))


@dataclass(frozen=True)
class Symmetry:
    """An action on parameters of a model; ``slots`` are in the order of ``action.tensors``.

    ``relabels``: the first slot's rows are tokens, and the data move with the parameters (a vocabulary permutation).
    ``shifts_logits``: all logits of a position may move by one number, which a softmax does not see (a shift of the
    head).
    """

    name: str
    action: Action
    slots: tuple[Slot, ...]
    relabels: bool = False
    shifts_logits: bool = False

    def shapes(self, model: nn.Module) -> tuple[tuple[int, ...], ...]:
        """Shapes of the matrices that the action moves: what `Action.elements` and `Action.sample` ask for."""
        parameters = dict(model.named_parameters())
        return tuple(tuple(slot.read(parameters).shape) for slot in self.slots)

    def transform(self, model: nn.Module, element: GroupElement) -> nn.Module:
        """A copy of ``model`` at the point ``g . theta``; tied parameters stay tied."""
        moved = copy.deepcopy(model)
        parameters = dict(moved.named_parameters())
        gained = tuple(slot.read(parameters) + slot.offset for slot in self.slots)
        for slot, matrix in zip(self.slots, element.act(gained), strict=True):
            slot.write(parameters, matrix - slot.offset)
        return moved

    def dual(self, gradients: Mapping[str, torch.Tensor], element: GroupElement) -> dict[str, torch.Tensor]:
        """The gradients that the transformed model must have: the dual action on the slots, the rest unchanged."""
        moved = {name: gradient.detach().clone() for name, gradient in gradients.items()}
        matrices = tuple(slot.read(moved) for slot in self.slots)
        for slot, matrix in zip(self.slots, element.act_dual(matrices), strict=True):
            slot.write(moved, matrix)
        return moved

    def relabel(self, model: nn.Module, element: GroupElement, tokens: torch.Tensor) -> torch.Tensor:
        """The data ``g . tokens`` that go with ``g . theta``; the same tokens unless the symmetry relabels."""
        return torch.argsort(self._source(model, element))[tokens] if self.relabels else tokens

    def logits(self, model: nn.Module, element: GroupElement, logits: torch.Tensor) -> torch.Tensor:
        """What the transformed model must output on the relabelled data where ``model`` gives ``logits``."""
        return logits[..., self._source(model, element)] if self.relabels else logits

    def observable(self, logits: torch.Tensor) -> torch.Tensor:
        """The part of the logits that must not change: all of them, or under a shift their differences."""
        return logits - logits.mean(-1, keepdim=True) if self.shifts_logits else logits

    def _source(self, model: nn.Module, element: GroupElement) -> torch.Tensor:
        """``source[i]`` is the token that the permutation sends to ``i``, read off its action on a numbered matrix."""
        numbered = tuple(
            torch.arange(shape[-2], dtype=torch.float64)[:, None].expand(shape) for shape in self.shapes(model)
        )
        return element.act_linear(numbered)[0][:, 0].round().long()
