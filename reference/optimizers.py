"""``torch.optim`` front ends of the reference rules, e.g. ``reference.optimizers.RowNorm(params, lr=0.1)``.

One class per rule, generated from `reference.RULES` and named like the rule. All of the work is in
`RuleBasedOptimizer`, which reads a rule off each parameter group at every step, so that schedulers, per-group
hyper-parameters and checkpoints need no code of their own.

Parameters of one shape in one group are stacked on a new leading axis and stepped by one call of the rule; rules
treat leading axes as independent blocks, so this changes nothing but the speed. float16 and bfloat16 parameters are
computed in float32, with float32 state, and rounded once when they are written; float32 and float64 are computed as
they are.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from reference import RULES
from reference.orthogonalizers import QDWH, Exact, NewtonSchulz
from reference.rule import Rule

COMPUTE_DTYPE = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
}

_ANNOTATIONS = frozenset(
    {"params", "param_names", "name", "initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "swa_lr"}
)
"""Keys of a parameter group that are not hyper-parameters: what torch and its schedulers write there, and a name."""


# Hyper-parameters are part of a checkpoint; these are the only ones that torch.load(weights_only=True) does not know.
torch.serialization.add_safe_globals([Exact, NewtonSchulz, QDWH])


class RuleBasedOptimizer(torch.optim.Optimizer):
    """Steps every parameter group by the reference rule that the group describes.

    The hyper-parameters of a rule are entries of the group, read anew at every step. Subclasses say which type of
    rule a group has. Parameters with fewer than two axes are stepped as one row, and those with more than three as
    ``[out, rest]``; rules of a matrix refuse both.
    """

    group_keys: ClassVar[frozenset[str]] = frozenset({"maximize"})
    """What a group must have beside the hyper-parameters of its rule."""

    def rule_type_of(self, group: Mapping[str, Any]) -> type[Rule]:
        """The type of the rule of one parameter group."""
        raise NotImplementedError

    def rule_of(self, group: Mapping[str, Any]) -> Rule:
        """The rule of one group with its present hyper-parameters; ValueError for a value that the rule refuses."""
        rule_type = self.rule_type_of(group)
        hyper = {name: group[name] for name in _hyper_names(rule_type)}
        if isinstance(hyper["lr"], Tensor):
            if hyper["lr"].numel() != 1:
                raise ValueError(f"{rule_type.__name__}: a tensor lr must have one element, got {hyper['lr'].numel()}")
            hyper["lr"] = hyper["lr"].item()
        return rule_type(**hyper)

    def rules_of(self, group: Mapping[str, Any]) -> tuple[Rule, ...]:
        """The rule of every parameter of a group; its state is that of the parameter."""
        return (self.rule_of(group),) * len(group["params"])

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.defaults.pop("differentiable", None)  # torch adds this option, which no rule has, to what it unpickles

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of parameters, or nothing at all if the rule of the group cannot step one of them.

        Raises:
            ValueError: an unknown or invalid hyper-parameter, or a parameter that the rule does not support.
        """
        if isinstance(param_group, dict):
            group = {**self.defaults, **param_group}
            self._check_keys(group, "parameter group", _ANNOTATIONS)
            self.rule_of(group)
        super().add_param_group(param_group)
        try:
            added = self.param_groups[-1]
            for rule, parameter in zip(self.rules_of(added), added["params"], strict=True):
                check_parameter(rule, parameter)
        except ValueError:
            self.param_groups.pop()
            raise

    def _check_keys(self, group: Mapping[str, Any], what: str, allowed: frozenset[str]) -> None:
        names = _hyper_names(self.rule_type_of(group))
        known = {*names, *self.group_keys}
        for problem, keys in (("unknown", group.keys() - known - allowed), ("missing", known - group.keys())):
            if keys:
                raise ValueError(
                    f"{type(self).__name__}: {problem} hyper-parameter {', '.join(sorted(map(str, keys)))} in {what}; "
                    f"hyper-parameters are {', '.join(names)}"
                )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step for every parameter that has a gradient; returns what ``closure`` returned.

        Raises:
            TypeError: a sparse gradient.
            ValueError: a hyper-parameter was set to a value that its rule refuses. No parameter moves in either case.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for parameter in (each for group in self.param_groups for each in group["params"]):
            if parameter.grad is not None and parameter.grad.layout is not torch.strided:
                raise TypeError(
                    f"{type(self).__name__} needs dense gradients, got {parameter.grad.layout} for a parameter of "
                    f"shape {tuple(parameter.shape)}; set sparse=False where it is made"
                )
        for take in [self._step_of(group) for group in self.param_groups]:
            take()
        return loss

    def _step_of(self, group: Mapping[str, Any]) -> Callable[[], None]:
        """What a step of one group is, with all that can be refused refused by now."""
        return functools.partial(self._step_group, self.rule_of(group), group)

    def _step_group(self, rule: Rule, group: Mapping[str, Any]) -> None:
        moving = [parameter for parameter in group["params"] if parameter.grad is not None and parameter.numel()]
        for stack in self._stacks(rule, moving):
            self._step_stack(rule, stack, group["maximize"])

    def _stacks(self, rule: Rule, parameters: Sequence[Tensor]) -> list[list[Tensor]]:
        """Parameters that one call of the rule can step: equal in shape, dtype, device and number of steps so far."""
        stacks: dict[Any, list[Tensor]] = {}
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = initial_state(rule, parameter, parameter.device)
            counts = tuple(item for item in self.state[parameter].items() if not isinstance(item[1], Tensor))
            key = (parameter.shape, parameter.dtype, parameter.device, counts)
            stacks.setdefault(key, []).append(parameter)
        return list(stacks.values())

    def _step_stack(self, rule: Rule, parameters: Sequence[Tensor], maximize: bool) -> None:
        dtype = COMPUTE_DTYPE[parameters[0].dtype]
        ndim = parameters[0].ndim
        weight = _stacked(parameters, ndim).to(dtype)
        grad = _stacked([gradient_of(parameter) for parameter in parameters], ndim).to(dtype)
        states = [self.state[parameter] for parameter in parameters]
        state = {
            key: _stacked([each[key] for each in states], ndim) if isinstance(value, Tensor) else value
            for key, value in states[0].items()
        }
        displacement, state = rule.update(-grad if maximize else grad, state, weight)
        _write(parameters, weight + displacement)
        for key, value in state.items():
            if isinstance(value, Tensor):
                _write([each[key] for each in states], value)
            else:
                for each in states:
                    each[key] = value
        for each in states:  # a momentum scheduled down to zero leaves no buffer behind
            for key in each.keys() - state.keys():
                del each[key]

    def state_dict(self) -> dict[str, Any]:
        """As in torch, and None for a parameter that has never been stepped, so that a lost entry is noticed."""
        packed = super().state_dict()
        indices = [index for group in packed["param_groups"] for index in group["params"]]
        packed["state"] = {index: packed["state"].get(index) for index in indices}
        return packed

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores hyper-parameters and state exactly: the trajectory goes on bit for bit.

        State tensors are copied, moved to the device of their parameter and kept in the precision of the computation
        (torch alone would round them to the dtype of the parameter).

        Raises:
            ValueError: an unknown or missing parameter, hyper-parameter or state entry, or one of the wrong shape; the
                optimizer is unchanged then.
        """
        states: list[dict[str, Any] | None] = []

        def check(_: torch.optim.Optimizer, final: dict[str, Any]) -> None:
            states.extend(self._checked_states(final))

        def restore(_: torch.optim.Optimizer) -> None:
            parameters = [parameter for group in self.param_groups for parameter in group["params"]]
            self.state.clear()
            self.state.update({key: value for key, value in zip(parameters, states, strict=True) if value is not None})

        # After the user's own pre-hooks, which may rewrite the checkpoint, and before the user's post-hooks.
        handles = [
            self.register_load_state_dict_pre_hook(check),
            self.register_load_state_dict_post_hook(restore, prepend=True),
        ]
        try:
            super().load_state_dict(state_dict)
        finally:
            for handle in handles:
                handle.remove()

    def _checked_states(self, state_dict: Mapping[str, Any]) -> list[dict[str, Any] | None]:
        """The saved state of every parameter in order, after comparison with what this optimizer would hold."""
        groups, saved_groups = self.param_groups, state_dict["param_groups"]
        sizes, saved_sizes = ([len(each["params"]) for each in which] for which in (groups, saved_groups))
        if sizes != saved_sizes:
            raise ValueError(
                f"{type(self).__name__}: checkpoint has parameter groups of sizes {saved_sizes}, expected {sizes}"
            )
        rules: dict[Any, tuple[Rule, Tensor]] = {}
        for group, saved in zip(groups, saved_groups, strict=True):
            self._checked_rule(group, saved)
            named = zip(saved["params"], self.rules_of(saved), group["params"], strict=True)
            rules.update({index: (rule, each) for index, rule, each in named})
        saved_states = state_dict["state"]
        for problem, indices in (
            ("state for unknown parameters", saved_states.keys() - rules),
            ("no state entry for parameters", rules.keys() - saved_states.keys()),
        ):
            if indices:
                listed = ", ".join(sorted(map(str, indices)))
                raise ValueError(f"{type(self).__name__}: checkpoint has {problem} {listed}")
        return [_checked_state(rule, each, index, saved_states[index]) for index, (rule, each) in rules.items()]

    def _checked_rule(self, group: Mapping[str, Any], saved: Mapping[str, Any]) -> Rule:
        """The rule of a saved group, which must have the keys of the present one."""
        self._check_keys(saved, "checkpoint", _ANNOTATIONS | group.keys())
        return self.rule_of(saved)


class RuleOptimizer(RuleBasedOptimizer):
    """One rule for all parameters; the base of the generated classes."""

    rule_type: ClassVar[type[Rule]]

    def __init__(self, params: Any, lr: float | Tensor | None = None, *, maximize: bool = False, **hyper: Any) -> None:
        defaults = _default_hyper(self.rule_type) | hyper | {"maximize": maximize}
        if lr is not None:
            defaults["lr"] = lr
        self._check_keys(defaults, "the arguments", frozenset())
        super().__init__(params, defaults)

    def rule_type_of(self, group: Mapping[str, Any]) -> type[Rule]:
        """The rule type of the class."""
        return self.rule_type


def from_rule(rule: Rule) -> Callable[..., RuleOptimizer]:
    """A factory of optimizers of ``rule``: ``from_rule(rule)(params)``; keywords override its hyper-parameters."""
    front_end: type[RuleOptimizer] = optimizer_class(type(rule), RuleOptimizer, __name__)
    return functools.partial(front_end, **hyper_parameters(rule))


def hyper_parameters(rule: Rule) -> dict[str, Any]:
    """The hyper-parameters of a rule by name."""
    return {field.name: getattr(rule, field.name) for field in dataclasses.fields(rule)}


@functools.cache
def _hyper_names(rule_type: type[Rule]) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(rule_type))


def _default_hyper(rule_type: type[Rule]) -> dict[str, Any]:
    return hyper_parameters(rule_type())  # type: ignore[call-arg]  # every registered rule has a default lr


def as_matrices(tensor: Tensor) -> Tensor:
    """The matrix, or stack of matrices, that a rule sees: a vector is one row, a convolution kernel is ``[out, rest]``.

    State tensors of a parameter that is reshaped go the same way: they have its shape, or the matrix's with some axes
    of size 1. Those of a matrix or a stack of matrices have any shape and stay as they are.
    """
    if tensor.ndim < 2:
        return tensor.reshape(1, -1)
    return tensor.flatten(1) if tensor.ndim > 3 else tensor


def _stacked(tensors: Sequence[Tensor], ndim: int) -> Tensor:
    """Weights, gradients or state tensors of parameters with ``ndim`` axes, on a new leading axis."""
    views = [tensor.detach() if ndim in (2, 3) else as_matrices(tensor.detach()) for tensor in tensors]
    return views[0].unsqueeze(0) if len(views) == 1 else torch.stack(views)


def _write(targets: Sequence[Tensor], stack: Tensor) -> None:
    """Copies block ``i`` of a stack into target ``i``; a copy, so that no state can alias a gradient."""
    for target, value in zip(targets, stack.unbind(), strict=True):
        target.copy_(value.reshape(target.shape))


def gradient_of(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None  # parameters without gradient never reach a stack
    return parameter.grad


def initial_state(rule: Rule, parameter: Tensor, device: torch.device | str) -> dict[str, Any]:
    """The rule's state for a parameter, by torch's habit in the shape of the parameter where it has as many entries."""
    shape = as_matrices(parameter).shape
    state = rule.init(torch.empty(shape, dtype=COMPUTE_DTYPE[parameter.dtype], device=device))
    return {
        key: value.reshape(parameter.shape) if isinstance(value, Tensor) and value.shape == shape else value
        for key, value in state.items()
    }


def check_parameter(rule: Rule, parameter: Tensor) -> None:
    """ValueError, one line with rule and shape, if the rule cannot step the parameter."""
    shape = tuple(parameter.shape)
    if parameter.dtype not in COMPUTE_DTYPE:
        raise ValueError(
            f"rule {rule.name!r} steps real floating-point parameters, got {parameter.dtype} of shape {shape}"
        )
    if rule.min_ndim >= 2 and parameter.ndim not in range(rule.min_ndim, 4):
        wanted = "matrices and stacks of matrices" if rule.min_ndim == 2 else "stacks of matrices"
        raise ValueError(
            f"rule {rule.name!r} steps {wanted}, got a parameter of shape {shape}; "
            "give it to another optimizer or reshape it"
        )
    rule.init(torch.empty(shape, device="meta"))  # the rule's own opinion of the shape, before it is seen as matrices
    initial_state(rule, parameter, "meta")


def _checked_state(rule: Rule, parameter: Tensor, index: Any, saved: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A copy of the saved state of one parameter; ValueError unless it has the entries and shapes of the rule's."""
    if saved is None:
        return None
    expected = initial_state(rule, parameter, "meta")
    if saved.keys() != expected.keys():
        raise ValueError(
            f"rule {rule.name!r}: checkpoint state of parameter {index} has entries "
            f"{', '.join(sorted(map(str, saved))) or 'none'}; expected {', '.join(sorted(expected)) or 'none'}"
        )
    for key, value in expected.items():
        shapes = [tuple(each.shape) if isinstance(each, Tensor) else None for each in (saved[key], value)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"rule {rule.name!r}: checkpoint state {key!r} of parameter {index} has shape {shapes[0]}, "
                f"expected {shapes[1]}"
            )
    return {
        key: value.to(parameter.device, expected[key].dtype, copy=True) if isinstance(value, Tensor) else value
        for key, value in saved.items()
    }


@functools.cache
def optimizer_class(rule_type: type[Any], base: type[RuleOptimizer], module: str) -> type[Any]:
    """The front end of one rule, a subclass of ``base`` for ``module``, with its own signature and docstring."""
    defaults = _default_hyper(rule_type)
    keyword = inspect.Parameter.KEYWORD_ONLY
    either = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        inspect.Parameter("params", either),
        inspect.Parameter("lr", either, default=defaults["lr"]),
        *(inspect.Parameter(name, keyword, default=value) for name, value in defaults.items() if name != "lr"),
        inspect.Parameter("maximize", keyword, default=False),
    ]
    namespace = {
        "rule_type": rule_type,
        "__module__": module,
        "__qualname__": rule_type.__name__,
        "__doc__": f"{inspect.getdoc(rule_type)}\n\nFront end of rule {rule_type.name!r}. Source: {rule_type.source}.",
        "__signature__": inspect.Signature(parameters),
    }
    return type(rule_type.__name__, (base,), namespace)


OPTIMIZERS: Mapping[str, type[RuleOptimizer]] = {
    name: optimizer_class(rule, RuleOptimizer, __name__) for name, rule in RULES.items()
}
"""The front end of every rule, by the rule's name."""

globals().update({optimizer.__name__: optimizer for optimizer in OPTIMIZERS.values()})

__all__ = ["OPTIMIZERS", "RuleBasedOptimizer", "RuleOptimizer", "from_rule"]
__all__ += sorted(optimizer.__name__ for optimizer in OPTIMIZERS.values())

if TYPE_CHECKING:

    def __getattr__(name: str) -> type[RuleOptimizer]: ...
