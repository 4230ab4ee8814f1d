"""The names of the questions: properties, contracts, budgets, and the plan of a certification. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from groups import get_block, parse_action

PROPERTIES: Mapping[str, str] = MappingProxyType(
    {
        "equivariance": "run(g.W, g.G_1..T) = g . run(W, G_1..T) for every element g and number of steps T",
        "shift_equivariance": "the displacement is unchanged when W is replaced by W + 1 c^T",
        "shift_quotient": "the centred displacement is unchanged when W is replaced by W + 1 c^T",
        "shift_insensitivity": "U(G + 1 c^T) = U(G): a shared row added to the gradient changes nothing",
        "horizontality": "1^T U = 0 whenever 1^T G = 0: no motion along the shift orbit",
    }
)
"""Properties of an update rule on one block (theory: arXiv 2605.18106, and its shift symmetry split into its parts)."""

CONTRACTS: Mapping[str, str] = MappingProxyType(
    {
        "purity": "step() changes nothing but its own parameters; with lr = 0 the weights stand still",
        "block_independence": "the displacement of one block does not depend on the gradients of another",
        "scale_orbit": "U(2^k G) = 2^(dk) U(G): the homogeneity degree d, and the range of k where it holds",
        "singular_stability": "on singular, tied, centred and ill-scaled inputs low precision keeps its leading digits",
        "checkpoint": "saving and loading state_dict() at any step continues bitwise the same trajectory",
        "backend_agreement": "for-loop, foreach, fused, differentiable and compiled paths agree up to rounding",
        "gradient_split": "a step on accumulated micro-batch gradients is the step on their sum, to the last bit",
        "layout": "how a parameter is stored (flattened, by heads, transposed) changes only how its update is stored",
        "state_conformance": "displacements and state follow the float64 reference of the rule that it implements",
        "shard_invariance": "a sharded step is the shard of the step; 2 and 4 processes, only when asked for by name",
    }
)
"""Contracts of an implementation; they are about the candidate as a whole, so their block is ``ALL``."""

ON_REQUEST = frozenset({"shard_invariance"})
"""Contracts that a survey leaves out because they take seconds: they are asked for by name."""

ALL = "all"
"""The block name of a contract's result."""

SHIFT_PROPERTIES = ("shift_equivariance", "shift_quotient", "shift_insensitivity", "horizontality")


@dataclass(frozen=True)
class Budget:
    """How hard the search tries.

    ``shapes`` counts block shapes, ``elements`` group elements for each of them and each stratum, ``steps`` the length
    of an ordinary trajectory, ``long`` that of the one long trajectory that runs past warm-up branches, ``examples``
    the number of further examples that hypothesis generates.
    """

    shapes: int
    elements: int
    steps: int
    long: int
    examples: int


BUDGETS: Mapping[str, Budget] = MappingProxyType(
    {
        "quick": Budget(shapes=4, elements=2, steps=5, long=32, examples=12),
        "ci": Budget(shapes=6, elements=4, steps=8, long=130, examples=60),
        "full": Budget(shapes=99, elements=10, steps=12, long=1100, examples=600),
    }
)


@dataclass(frozen=True)
class Question:
    """Does the candidate have ``property`` on ``block`` under ``action``, on its shapes or on these ``shapes``?"""

    block: str
    property: str
    action: str
    shapes: tuple[tuple[tuple[int, ...], ...], ...] | None = None


def plan(
    blocks: Sequence[str], properties: Sequence[str] | None = None, action: str | None = None
) -> tuple[Question, ...]:
    """The questions of one certification, in the order in which they are answered.

    Without ``properties``: equivariance on every block, the shift properties on the blocks that have a shift, and every
    contract that is not in `ON_REQUEST`. ``action`` replaces the blocks' own actions by a spec string such as
    ``"O(rows) x O(cols)"``.

    Raises:
        ValueError: unknown block or property, unreadable action, or a shift property asked of blocks without a shift.
    """
    known = [*PROPERTIES, *CONTRACTS]
    for name in properties or ():
        if name not in known:
            raise ValueError(f"unknown property {name!r}; known: {', '.join(known)}")
    override = parse_action(action) if action is not None else None
    questions: list[Question] = []
    for block in map(get_block, blocks):
        acting = override if override is not None else block.action
        questions.extend(
            Question(block.name, name, str(acting))
            for name in PROPERTIES
            if (properties is None or name in properties) and (acting.shift or name not in SHIFT_PROPERTIES)
        )
    asked = CONTRACTS.keys() - ON_REQUEST if properties is None else properties
    questions.extend(Question(ALL, name, "-") for name in CONTRACTS if name in asked)
    for name in properties or ():
        if name not in {question.property for question in questions}:
            raise ValueError(
                f"property {name!r} needs a block with a shift; none of {', '.join(blocks)} has one: try --block router"
            )
    return tuple(questions)
