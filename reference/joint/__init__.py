"""Rules that step the tensors of a symmetry together: the dead-direction conditioners.

`optimizers` (the ``torch.optim`` front ends) needs torch and is imported when first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from reference.joint import shift as _shift  # noqa: F401  (an ordinary rule, listed in reference.RULES)
from reference.joint.rescaling import DDCRescaling, DDCScale
from reference.joint.rotation import DDCRotation
from reference.joint.rule import JOINT_RULES, JointRule, JointState, JointTraits, get_joint_rule

if TYPE_CHECKING:
    from reference.joint import optimizers

__all__ = [
    "JOINT_RULES",
    "DDCRescaling",
    "DDCRotation",
    "DDCScale",
    "JointRule",
    "JointState",
    "JointTraits",
    "get_joint_rule",
    "optimizers",
]


def __getattr__(name: str) -> Any:
    if name == "optimizers":
        return importlib.import_module("reference.joint.optimizers")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
