"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from reference.rule import DirectionTraits, GradientRule, State, register, require_fraction, zeros_like
from reference.transforms.momentum import heavy_ball, nesterov


@register
@dataclass(frozen=True, kw_only=True)
class SGD(GradientRule):
    """``b = mu b + (1 - dampening) g``, ``b = g`` at the first step; direction ``g + mu b`` (Nesterov) or ``b``.

    The semantics of ``torch.optim.SGD``, coupled decay included. Orthogonal in all entries at once and linear, hence
    horizontal. Not equivariant under GL: gradients transform contragrediently and the step adds them to weights.
    """

    name: ClassVar[str] = "sgd"
    source: ClassVar[str] = "pytorch torch/optim/sgd.py"
    decay: ClassVar = "coupled"

    lr: float = 1e-3
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "momentum")
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError("rule 'sgd': nesterov needs momentum > 0 and dampening = 0")

    @property
    def symmetry(self) -> str:
        """Every orthogonal transformation of the flattened weight."""
        return "O(entries)"

    @property
    def direction_traits(self) -> DirectionTraits:
        """Linear in the gradients."""
        return DirectionTraits(degree=1, linear=True, horizontal=True)

    def initial_state(self, weight: Any) -> State:
        """Zero buffer when there is momentum; the step count tells the undamped first step apart."""
        return {"step": 0, "momentum": zeros_like(weight)} if self.momentum else {}

    def direction(self, grad: Any, state: State) -> tuple[Any, State]:
        """The buffer, its look-ahead, or the gradient itself."""
        if not self.momentum:
            return grad, {}
        gain = 1.0 - self.dampening if state["step"] else 1.0
        buffer = heavy_ball(state["momentum"], grad, self.momentum, gain)
        direction = nesterov(heavy_ball, buffer, grad, self.momentum) if self.nesterov else buffer
        return direction, {"step": state["step"] + 1, "momentum": buffer}
