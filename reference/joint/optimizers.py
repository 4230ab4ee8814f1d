"""``torch.optim`` front ends of the joint rules, e.g. ``reference.joint.optimizers.DDCRescaling([up, down], lr=0.1)``.

The parameters of a group are joint blocks one after another, each in the order of the rule's ``tensors``:
``[up_1, down_1, up_2, down_2, ...]``. Everything else (schedulers, checkpoints, precision) is as in
`reference.optimizers`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from reference.joint.rule import JOINT_RULES, JointRule
from reference.optimizers import COMPUTE_DTYPE, RuleOptimizer, as_matrices, gradient_of, initial_state, optimizer_class
from reference.rule import Rule


class JointRuleOptimizer(RuleOptimizer):
    """One joint rule for all groups; the base of the generated classes.

    A block is stepped if all of its parameters have gradients, and stands still if none has.
    """

    def rules_of(self, group: Mapping[str, Any]) -> tuple[Rule, ...]:
        """The base rule of every parameter.

        Raises ValueError, one line, if the parameters are no whole number of blocks.
        """
        rule: JointRule = self.rule_of(group)  # type: ignore[assignment]  # as rule_type says
        count, size = len(group["params"]), len(rule.tensors)
        if count % size:
            raise ValueError(
                f"{type(self).__name__}: a group is one block of {size} parameters ({', '.join(rule.tensors)}) after "
                f"another, got {count} parameters"
            )
        return rule.parts * (count // size)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of blocks, or nothing at all if the rule cannot step one of them.

        Raises:
            ValueError: an unknown or invalid hyper-parameter, a parameter that the base does not support, parameters
                that are no whole number of blocks, or whose shapes, dtypes or devices do not fit together.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            rule: JointRule = self.rule_of(group)  # type: ignore[assignment]
            for block in _blocks(rule, group):
                rule.check_shapes([_sizes(parameter) for parameter in block])
                for what in ("dtype", "device"):
                    if len({getattr(parameter, what) for parameter in block}) > 1:
                        listed = ", ".join(str(getattr(parameter, what)) for parameter in block)
                        raise ValueError(f"rule {rule.name!r}: the parameters of a block have one {what}, got {listed}")
        except ValueError:
            self.param_groups.pop()
            raise

    def _step_of(self, group: Mapping[str, Any]) -> Callable[[], None]:
        rule: JointRule = self.rule_of(group)  # type: ignore[assignment]
        moving = []
        for number, block in enumerate(_blocks(rule, group)):
            idle = [name for name, each in zip(rule.tensors, block, strict=True) if each.grad is None]
            if not idle:
                moving.append(block)
            elif len(idle) < len(block):
                raise ValueError(
                    f"rule {rule.name!r} steps the tensors of a block together, but in block {number} "
                    f"{', '.join(idle)} has no gradient; train all of {', '.join(rule.tensors)} or none"
                )
        return functools.partial(self._step_blocks, rule, moving, group["maximize"])

    def _step_blocks(self, rule: JointRule, blocks: Sequence[Sequence[Tensor]], maximize: bool) -> None:
        for block in blocks:
            for part, parameter in zip(rule.parts, block, strict=True):
                if not self.state[parameter]:
                    self.state[parameter] = initial_state(part, parameter, parameter.device)
            self._step_block(rule, block, maximize)

    def _step_block(self, rule: JointRule, block: Sequence[Tensor], maximize: bool) -> None:
        dtype = COMPUTE_DTYPE[block[0].dtype]
        weights = [as_matrices(parameter.detach()).to(dtype) for parameter in block]
        grads = [as_matrices(gradient_of(parameter)).to(dtype) for parameter in block]
        states = tuple(
            {key: _as_stepped(value, parameter) for key, value in self.state[parameter].items()} for parameter in block
        )
        moved, states = rule.update([-grad for grad in grads] if maximize else grads, states, weights)
        for parameter, weight, displacement, new in zip(block, weights, moved, states, strict=True):
            parameter.copy_((weight + displacement).reshape(parameter.shape))
            held = self.state[parameter]
            for key, value in new.items():
                if isinstance(value, Tensor):
                    held[key].copy_(value.reshape(held[key].shape))  # a copy, so that no state can alias a gradient
                else:
                    held[key] = value
            for key in held.keys() - new.keys():  # a momentum scheduled down to zero leaves no buffer behind
                del held[key]


def _blocks(rule: JointRule, group: Mapping[str, Any]) -> list[list[Tensor]]:
    parameters, size = group["params"], len(rule.tensors)
    return [parameters[first : first + size] for first in range(0, len(parameters), size)]


def _sizes(parameter: Tensor) -> tuple[int, ...]:
    return tuple(as_matrices(parameter).shape[-2:])


def _as_stepped(value: Any, parameter: Tensor) -> Any:
    """A state entry as the rule sees it: that of a parameter that is reshaped goes the same way."""
    return as_matrices(value) if isinstance(value, Tensor) and parameter.ndim not in (2, 3) else value


OPTIMIZERS: Mapping[str, type[JointRuleOptimizer]] = {
    name: optimizer_class(rule, JointRuleOptimizer, __name__) for name, rule in JOINT_RULES.items()
}
"""The front end of every joint rule, by the rule's name."""

globals().update({optimizer.__name__: optimizer for optimizer in OPTIMIZERS.values()})

__all__ = ["OPTIMIZERS", "JointRuleOptimizer"]
__all__ += sorted(optimizer.__name__ for optimizer in OPTIMIZERS.values())

if TYPE_CHECKING:

    def __getattr__(name: str) -> type[JointRuleOptimizer]: ...
