"""The optimizers that symcheck certifies without being asked for one: torch.optim and the reference rules.

What to expect of each is derived, not typed in: an optimizer declares the largest group that it respects and its
traits; a block's row of the table follows from whether that group contains the block's (``groups`` decides that).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from symcheck.claims import Claim, Expectation
from symcheck.errors import UsageError
from symcheck.result import Verdict
from symcheck.target import Factory, Target, locate_in_module

if TYPE_CHECKING:
    from groups import Action, Block
    from reference import JointRule, Traits

PROVED = Expectation(Verdict.PROVED)
SUPPORTED = Expectation(Verdict.SUPPORTED)

UNPROVED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "dion": frozenset({"horizontality"}),
        "muon_heads": frozenset({"shift_equivariance", "shift_quotient", "horizontality"}),
    }
)
"""Properties that a rule has and that no proof reaches: the laws of shifts do not follow an axis cut into heads, and do
not know that QR keeps a span."""

CONDITIONAL: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "soap": {
            "equivariance": "the eigenvectors of a repeated eigenvalue are arbitrary, and zero is one unless m = n",
            "horizontality": "eigenvectors of the eigenvalue zero are arbitrary mixtures with the all-ones vector",
        }
    }
)
"""Properties that a rule has under a side condition which some shapes of every block violate: refuted there, why."""

RANDOM: Mapping[str, str] = MappingProxyType(
    {"dion": "starts from a random matrix: equivariant in law, for a fixed draw under rotations of the rows only"}
)
"""Rules with a random initial state. What fails for a fixed draw may hold in law, so the search refutes nothing."""

KEPT_CONTRACTS = ("purity", "block_independence", "checkpoint")
"""Contracts that every optimizer here is expected to keep. The others measure: a degree, an error, or agreement of code
paths that not everyone has."""


@dataclass(frozen=True)
class TorchOptimizer:
    """What one class of ``torch.optim`` is, independent of its configuration.

    ``symmetry`` is the largest group on one matrix, empty where ``declined`` says why there is nothing to ask.
    ``linear``: the update is linear in the gradients; ``keeps_range``: its columns stay in the span of theirs.
    ``decay`` names the options that pull on the weights and how they enter. ``weight_scaled``: the size of the update
    depends on the weights. ``matrices_only``: it refuses parameters that are not two-dimensional.
    ``broken_contracts``: the contracts it is known not to keep, with the reason.
    """

    symmetry: str = ""
    linear: bool = False
    keeps_range: bool = False
    decay: tuple[tuple[str, Literal["coupled", "decoupled"]], ...] = (("weight_decay", "coupled"),)
    weight_scaled: bool = False
    matrices_only: bool = False
    declined: str = ""
    broken_contracts: Mapping[str, str] = field(default_factory=dict)
    configs: tuple[Mapping[str, object], ...] = ({},)

    def traits(self, options: Mapping[str, object]) -> Traits:
        """The traits of one configuration, given all constructor arguments with their defaults."""
        from reference import Traits

        modes = {mode for option, mode in self.decay if options.get(option)}
        if options.get("decoupled_weight_decay") and "coupled" in modes:
            modes = {"decoupled"}
        weight_free = not modes and not self.weight_scaled
        return Traits(
            degree=None,  # eps and step-size bounds leave no exact degree: measured, not claimed
            shift_equivariant=weight_free,
            shift_quotient=weight_free or (not self.weight_scaled and (self.linear or modes == {"decoupled"})),
            shift_insensitive=False,
            horizontal=(self.linear or self.keeps_range) and weight_free,
        )


_COORDINATE_WISE = "SPerm(entries)"

TORCH_OPTIM: Mapping[str, TorchOptimizer] = MappingProxyType(
    {
        "ASGD": TorchOptimizer(
            "O(entries)",
            linear=True,
            decay=(("weight_decay", "coupled"), ("lambd", "decoupled")),
            configs=({}, {"lambd": 0.0}),
        ),
        "Adadelta": TorchOptimizer(_COORDINATE_WISE),
        # The update is scaled by the root mean square of the weights: invariant under rotations, not under a shift.
        "Adafactor": TorchOptimizer(
            "SPerm(rows) x SPerm(cols)", decay=(("weight_decay", "decoupled"),), weight_scaled=True
        ),
        "Adagrad": TorchOptimizer(_COORDINATE_WISE),
        "Adam": TorchOptimizer(_COORDINATE_WISE, configs=({}, {"amsgrad": True}, {"weight_decay": 0.1})),
        "AdamW": TorchOptimizer(
            _COORDINATE_WISE, decay=(("weight_decay", "decoupled"),), configs=({}, {"weight_decay": 0.0})
        ),
        "Adamax": TorchOptimizer(_COORDINATE_WISE),
        "LBFGS": TorchOptimizer(declined="step() needs a closure that re-evaluates the loss"),
        "Muon": TorchOptimizer(
            "O(rows) x O(cols)",
            keeps_range=True,
            decay=(("weight_decay", "decoupled"),),
            matrices_only=True,
            configs=({}, {"weight_decay": 0.0}),
        ),
        "NAdam": TorchOptimizer(
            _COORDINATE_WISE,
            broken_contracts={"checkpoint": "load_state_dict casts mu_product from float32 to the parameter's dtype"},
        ),
        "RAdam": TorchOptimizer(_COORDINATE_WISE),
        "RMSprop": TorchOptimizer(_COORDINATE_WISE, configs=({}, {"centered": True, "momentum": 0.9})),
        "Rprop": TorchOptimizer(
            _COORDINATE_WISE,
            decay=(),
            broken_contracts={"purity": "lr is the first step size only: with lr = 0 it moves by step_sizes[0]"},
        ),
        "SGD": TorchOptimizer(
            "O(entries)",
            linear=True,
            configs=({}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "weight_decay": 0.1}),
        ),
        "SparseAdam": TorchOptimizer(declined="takes sparse gradients only"),
    }
)
"""Every optimizer of torch.optim that has been analysed; a newer one is certified without expectations."""


def derived_claim(
    symmetry: str,
    traits: Traits,
    *,
    dimensions: frozenset[int],
    broken_contracts: Mapping[str, str],
    unproved: frozenset[str] = frozenset(),
) -> Claim:
    """The claim on every block of the table that follows from a rule's group and traits.

    ``dimensions`` are the numbers of axes that a parameter may have, 2 and 3 for most; ``unproved`` the properties of
    which only support is expected.
    """
    from groups import BLOCKS, JOINT_BLOCKS
    from symcheck.probe.names import ALL, PROPERTIES

    answers = {
        "shift_equivariance": (traits.shift_equivariant, "the update depends on the weights"),
        "shift_quotient": (traits.shift_quotient, "the centred update depends on the weights"),
        "shift_insensitivity": (traits.shift_insensitive, "the update does not remove a common row of the gradient"),
        "horizontality": (traits.horizontal, "the update moves along the shift orbit"),
    }
    expectations = {(ALL, name): SUPPORTED for name in KEPT_CONTRACTS}
    expectations |= {(ALL, name): Expectation(Verdict.REFUTED, why) for name, why in broken_contracts.items()}
    for name, block in BLOCKS.items():
        refused = {len(shape) for shapes in block.shapes for shape in shapes} - dimensions
        held = (contains(symmetry, name), f"its group {symmetry} does not contain the block's")
        for key in PROPERTIES if block.action.shift else ("equivariance",):
            holds, why = answers.get(key, held)
            if refused:
                expectations[name, key] = Expectation(Verdict.DECLINED, f"takes no parameter with {min(refused)} axes")
            else:
                reached = SUPPORTED if key in unproved else PROVED
                expectations[name, key] = reached if holds else Expectation(Verdict.REFUTED, why)
    for name, block in JOINT_BLOCKS.items():
        if {len(shape) for shapes in block.shapes for shape in shapes} - dimensions:
            continue
        if contains(symmetry, name):
            expectations[name, "equivariance"] = SUPPORTED  # laws reach some of these actions only
        elif block.action.is_orthogonal or traits.shift_quotient:
            # The largest orthogonal group says nothing of stretches. But a direction that does not see the weights
            # cannot undo what a stretch does to gradients.
            why = f"its group {symmetry} does not contain the block's"
            expectations[name, "equivariance"] = Expectation(Verdict.REFUTED, why)
    return Claim(symmetry=symmetry, degree=traits.degree, expectations=expectations)


@functools.cache
def contains(symmetry: str, block: str) -> bool:
    """Whether ``symmetry`` (acting on every tensor by itself) contains the linear part of the block's action."""
    from groups import ExpertAction, get_block, parse_action

    small, large = get_block(block).action.linear, parse_action(symmetry)
    if isinstance(small, ExpertAction) and not isinstance(large, ExpertAction):
        small = small.block  # a rule of matrices steps the matrices of a stack independently
    return all(_part(small, tensor) <= large for tensor in small.tensors)


def _part(action: Action, tensor: str) -> Action:
    """What a joint action does to one of its tensors; to the matrices of a stack whose order it changes."""
    from groups import Perm, ProductAction

    if len(action.tensors) == 1 or not isinstance(action, ProductAction):
        return action
    own = action.restrict(tensor)
    kept = tuple(f for f in own.factors[0] if f.axis != "experts" or not own.groups[f.variable] <= Perm)
    names = {factor.variable for factor in kept}
    return ProductAction(own.tensors, tuple(v for v in own.variables if v[0] in names), (kept,), own.shifts)


def torch_claim(name: str, settings: Mapping[str, object]) -> Claim | None:
    """What is claimed of ``torch.optim.<name>`` with these constructor arguments; None for one not analysed."""
    import torch

    from groups import BLOCKS, JOINT_BLOCKS
    from symcheck.probe.names import plan

    known = TORCH_OPTIM.get(name)
    if known is None:
        return None
    if known.declined:
        refused = Expectation(Verdict.DECLINED, known.declined)
        return Claim(expectations={(q.block, q.property): refused for q in plan((*BLOCKS, *JOINT_BLOCKS), None, None)})
    parameters = inspect.signature(getattr(torch.optim, name)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return derived_claim(
        known.symmetry,
        known.traits({**defaults, **settings}),
        dimensions=frozenset({2}) if known.matrices_only else frozenset({2, 3}),
        broken_contracts=known.broken_contracts,
    )


def torch_target(name: str, settings: Mapping[str, object]) -> Target:
    """The target ``torch.optim.<name>`` with the claims for this configuration."""
    return Target(f"torch.optim.{name}", locate_in_module("torch.optim", name), settings, torch_claim(name, settings))


def rule_target(name: str, settings: Mapping[str, object]) -> Target:
    """The target ``rule:<name>``; UsageError for a rule or hyper-parameter that does not exist."""
    from reference import get_rule
    from reference.joint import JOINT_RULES

    if name in JOINT_RULES:
        return joint_target(name, settings)
    try:
        rule = get_rule(name, **{"lr": 0.1, **settings})
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None

    def locate() -> Factory:
        import reference.optimizers

        return reference.optimizers.OPTIMIZERS[name]

    claim = derived_claim(
        rule.symmetry,
        rule.traits,
        dimensions=frozenset({2, 3}) - frozenset(range(type(rule).min_ndim)),
        broken_contracts={},
        unproved=UNPROVED.get(name, frozenset()),
    )
    found = {key: _exception(name, key[1], each) for key, each in claim.expectations.items()}
    return Target(f"rule:{name}", locate, settings, replace(claim, expectations=found))


def _exception(rule: str, key: str, expected: Expectation) -> Expectation:
    """What to expect of a rule where group and traits alone say ``expected``."""
    if expected.verdict is Verdict.REFUTED and rule in RANDOM:
        return Expectation(Verdict.DECLINED, RANDOM[rule])
    if expected.verdict in (Verdict.PROVED, Verdict.SUPPORTED) and key in CONDITIONAL.get(rule, {}):
        return Expectation(Verdict.REFUTED, CONDITIONAL[rule][key])
    return expected


def joint_target(name: str, settings: Mapping[str, object]) -> Target:
    """The target of a joint rule, for the joint blocks that have its tensors; UsageError as in `rule_target`."""
    from groups import JOINT_BLOCKS, parse_action
    from reference.joint import get_joint_rule
    from symcheck.probe.names import ALL

    try:
        rule = get_joint_rule(name, **{"lr": 0.1, **settings})
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None

    def locate() -> Factory:
        import reference.joint.optimizers

        return reference.joint.optimizers.OPTIMIZERS[name]

    group = parse_action(rule.symmetry)
    blocks = tuple(name for name, block in JOINT_BLOCKS.items() if _is_for(rule, block))
    expectations = {(ALL, contract): SUPPORTED for contract in KEPT_CONTRACTS}
    for block in blocks:
        why = f"its group {group} does not contain the block's"
        held = JOINT_BLOCKS[block].action <= group
        reached = SUPPORTED if block in _LAWLESS or (block, rule.base) in _LAWLESS else PROVED
        expectations[block, "equivariance"] = reached if held else Expectation(Verdict.REFUTED, why)
    return Target(f"rule:{name}", locate, settings, Claim(expectations=expectations), blocks or None)


def _is_for(rule: JointRule, block: Block) -> bool:
    """Whether a joint rule takes the tensors of a block."""
    if block.action.tensors != rule.tensors:
        return False
    try:
        for shapes in block.shapes:
            rule.check_shapes(shapes)
    except ValueError:
        return False
    return True


_LAWLESS: frozenset[str | tuple[str, str]] = frozenset(
    {"swiglu_whole", ("query_key_rope", "adam"), ("grouped_query_key", "adam")}
)
"""Joint blocks that no law describes, or none that Adam obeys: monomial matrices with their permutations, and rotations
of single planes (Muon obeys those of whole heads, which has a law)."""

_SWIGLU = "gate: 1; up: D(rows); down: D*(cols) where D = Scale"
_GAIN = "gain: D(rows); gate: D*(cols); up: D*(cols) where D = Scale"
_STREAM = "embedding: c(all); output: c(all); down: c(all) where c = Scale+"
_VALUES = "value: B(rows); output: B(cols) where B = (O wr 1[2])"
_ROPE = "query: A(rows); key: A(rows) where A = (U1[half] wr 1[2])"
_GROUPED = "value: H/2(rows); output: H(cols) where H = ((1[2] x O) wr 1[2])"

JOINT_CONFIGS: Mapping[str, tuple[Mapping[str, object], ...]] = MappingProxyType(
    {
        "ddc_rescaling": (
            *({}, {"base": "muon"}, {"horizontal": True, "weight_decay": 0.1}),
            *({"gauge": _SWIGLU, "base": "muon"}, {"gauge": _GAIN}),
        ),
        "ddc_scale": ({}, {"base": "muon"}, {"gauge": _STREAM}),
        "ddc_rotation": (
            *({"gauge": _VALUES}, {"gauge": _VALUES, "base": "muon"}),
            *({"gauge": _ROPE}, {"gauge": _ROPE, "base": "muon"}, {"gauge": _GROUPED}),
        ),
    }
)
"""Configurations of the joint rules to certify, each on the joint blocks that have its tensors."""

RULE_CONFIGS: Mapping[str, tuple[Mapping[str, object], ...]] = MappingProxyType(
    {
        "ddc_shift": ({"base": "muon"}, {"weight_decay": 0.1}),
        "adaptive_muon": ({"second_moment": "namo"},),
        "hybrid": ({"center_rows": True},),
        "lars": ({"weight_decay": 0.1},),
        "left_spectral": ({"center_rows": True},),
        "muon": ({"orthogonalizer": "turbo"},),
        "muon_heads": ({"heads": 2}, {"heads": 2, "layout": "o"}),
        "muon_ogd": ({"collect": 2},),
        "muoneq": ({"mode": "C"}, {"mode": "RC", "phase": 3}),
        "right_spectral": ({"center_rows": True},),
        "row_norm": ({"center_rows": True}, {"weight_decay": 0.1}, {"orientation": "col"}),
        "shampoo": ({"diagonal": "left"},),
        "scion": ({"norm": "row"}, {"norm": "col"}, {"norm": "sign"}),
    }
)
"""Configurations of a reference rule to certify beside its default one: those with another group or other traits."""


def builtin_targets() -> tuple[Target, ...]:
    """Every configuration that ``certify`` without a TARGET runs: the reference rules, then torch.optim."""
    from reference import RULES

    rules = [rule_target(name, config) for name in RULES for config in ({}, *RULE_CONFIGS.get(name, ()))]
    rules += [joint_target(name, config) for name, configs in JOINT_CONFIGS.items() for config in configs]
    return (*rules, *(torch_target(name, config) for name in torch_names() for config in _configs(name)))


def _configs(name: str) -> tuple[Mapping[str, object], ...]:
    return TORCH_OPTIM[name].configs if name in TORCH_OPTIM else ({},)


def torch_names() -> tuple[str, ...]:
    """The optimizer classes that the installed torch has, e.g. ``AdamW``."""
    import torch

    from symcheck.target import is_optimizer_class

    return tuple(sorted(name for name, value in vars(torch.optim).items() if is_optimizer_class(value)))
