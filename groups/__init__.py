"""Groups, their actions on the tensors of a network, and the symmetry of each parameter block.

Importing this package imports neither torch nor hypothesis; sampling and strategies load them when they are used.
"""

from groups.action import Action, Factor, ProductAction, product_action
from groups.blocks import BLOCKS, JOINT_BLOCKS, Block, get_block
from groups.catalogue import CATALOGUE, get_joint_action
from groups.copies import Copies
from groups.element import Element
from groups.experts import ExpertAction
from groups.group import Group
from groups.group_element import ExpertElement, GroupElement, ProductElement
from groups.linear import GL, Monomial, PositiveMonomial, PositiveScale, Scale
from groups.matrix_group import MatrixGroup, matrix_group
from groups.order import FAMILIES
from groups.orthogonal import U1_HALF, U1_INTERLEAVED, O, Stab1
from groups.permutation import Cyclic, Perm, Sign, SPerm, Trivial
from groups.spec import parse_action, parse_group
from groups.wreath import Wreath

__all__ = [
    "BLOCKS",
    "CATALOGUE",
    "FAMILIES",
    "GL",
    "JOINT_BLOCKS",
    "U1_HALF",
    "U1_INTERLEAVED",
    "Action",
    "Block",
    "Copies",
    "Cyclic",
    "Element",
    "ExpertAction",
    "ExpertElement",
    "Factor",
    "Group",
    "GroupElement",
    "MatrixGroup",
    "Monomial",
    "O",
    "Perm",
    "PositiveMonomial",
    "PositiveScale",
    "ProductAction",
    "ProductElement",
    "SPerm",
    "Scale",
    "Sign",
    "Stab1",
    "Trivial",
    "Wreath",
    "get_block",
    "get_joint_action",
    "matrix_group",
    "parse_action",
    "parse_group",
    "product_action",
]
