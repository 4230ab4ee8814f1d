"""Every family and every action that the tests of this folder run over, as parametrised arguments.

A test with arguments ``family, size`` runs over :data:`FAMILY_CASES`, one with ``family, largest`` over
the largest size of each family only, one with ``action, shapes`` over :data:`ACTION_CASES`.
"""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from groups import BLOCKS, CATALOGUE, FAMILIES, matrix_group, parse_action, parse_group

settings.register_profile("groups", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("groups")


def unit(n, *entries):
    matrix = np.zeros((n, n), dtype=int)
    for i, j, value in entries:
        matrix[i, j] = value
    return matrix


def symplectic():
    """Sp(2): the matrices that preserve the form J of a plane; its algebra is sl(2)."""
    basis = [unit(2, (0, 1, 1)), unit(2, (1, 0, 1)), unit(2, (0, 0, 1), (1, 1, -1))]
    return matrix_group("Sp2", [[[0, 1], [-1, 0]]], basis)


def lorentz():
    """O(2, 1), with a rational boost so that exact elements leave the rotations."""
    boost = [["5/4", "3/4", 0], ["3/4", "5/4", 0], [0, 0, 1]]
    boosts = [unit(3, (0, 1, 1), (1, 0, 1)), unit(3, (0, 2, 1), (2, 0, 1))]
    discrete = [np.diag([-1, 1, 1]), np.diag([1, 1, -1]), boost]
    return matrix_group("Lorentz", discrete, [*boosts, unit(3, (1, 2, 1), (2, 1, -1))])


def quaternions():
    """The finite quaternion group of order 8 as real matrices."""
    i = [[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]]
    j = [[0, 0, -1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, -1, 0, 0]]
    return matrix_group("Quaternion", [i, j])


def drift():
    """A one-parameter group of shears: not closed under transposition."""
    return matrix_group("Drift", [], [unit(2, (0, 1, 1))])


USER_GROUPS = {group.name: group for group in (symplectic(), lorentz(), quaternions(), drift())}
WREATHS = (
    "(O wr Perm[2])",
    "(GL wr 1[2])",
    "(U1[half] wr 1[2])",
    "(Perm wr Perm[2])",
    "(Scale wr Cyclic[3])",
    "(1 wr Perm[3])",
    "(Perm[2] x O)",
    "(Perm[3] x GL)",
    "((Perm[2] x U1[half]) wr Perm[2])",
    "((1[2] x O) wr Perm[2])",
)


def _fits(group, n):
    try:
        group.check_size(n)
    except ValueError:
        return False
    return True


FAMILY_CASES = [(group, n) for group in FAMILIES.values() for n in (1, 2, 3, 4) if _fits(group, n)]
FAMILY_CASES += [(parse_group(spec), n) for spec in WREATHS for n in (2, 3, 4, 6, 8) if _fits(parse_group(spec), n)]
FAMILY_CASES += [(group, group.size) for group in USER_GROUPS.values()]

ROLES = {
    **dict.fromkeys(("embedding", "lm_head"), (5, 4)),
    **dict.fromkeys(("reader", "gate", "up", "router"), (3, 4)),
    **dict.fromkeys(("writer", "down"), (4, 3)),
    **dict.fromkeys(("query", "key", "value"), (4, 3)),
    "output": (3, 4),
    "gain": (4, 1),
    "W": (3, 2),
}
STACKS = {"router": (3, 4), "gate": (3, 2, 4), "up": (3, 2, 4), "down": (3, 4, 2)}
EXTRA = (
    ("1", ((2, 3),)),
    ("O(rows)", ((3, 2),)),
    ("SPerm(entries)", ((2, 3),)),
    ("O(entries)", ((2, 2),)),
    ("Perm(entries)", ((2, 2, 2),)),
    ("P(rows) x P(cols) where P = GL", ((3, 3),)),
    ("P(rows) x P*(cols) where P = GL", ((3, 3),)),
    ("Stab1(rows) x GL(cols) + Shift(rows)", ((3, 2),)),
    ("Stab1(rows) x Scale*(cols) + Shift(rows)", ((4, 3),)),
    ("Cyclic(rows) x Cyclic(cols)", ((3, 4),)),
    ("Sp2(rows) x Lorentz*(cols)", ((2, 3),)),
    ("Drift(rows) x Quaternion(cols)", ((2, 4),)),
    ("Perm(rows) x O(cols) x Perm(experts)", ((3, 2, 2),)),
    ("(Stab1(rows) x Scale(cols) + Shift(rows)) wr Perm(experts)", ((2, 2, 3),)),
    ("((O wr Perm[2])(rows)) wr Perm(experts)", ((2, 4, 1),)),
    ("(up: D(rows); down: D*(cols) where D = GL) wr Perm(experts)", ((3, 2, 1), (3, 1, 2))),
    ("Scale(all)", ((3, 2),)),
    ("embedding: c(all) x R(cols); reader: c*(all) x R(cols) where c = Scale, R = O", ((3, 4), (2, 4))),
    ("(a: c(all); b: c*(all) x Scale(cols) where c = Scale+) wr Perm(experts)", ((2, 2, 3), (2, 1, 2))),
    ("reader: P(cols); gain: |P|(rows) where P = SPerm", ((3, 4), (4, 1))),
    ("gate: |M|(rows); up: M(rows); down: M*(cols) where M = Monomial", ((4, 2), (4, 2), (2, 4))),
    ("query: H(rows); key: H/2(rows) where H = ((Perm[2] x U1[half]) wr Perm[2])", ((8, 2), (4, 2))),
    ("value: H/2*(rows); output: H(cols) where H = ((1[2] x GL) wr Perm[2])", ((4, 3), (3, 8))),
    ("query: H(rows); key: H/3(rows) where H = (Perm[3] x Scale)", ((6, 2), (2, 2))),
)


def catalogue_shapes(name, action):
    roles = ROLES | (STACKS if name == "expert_permutation" else {})
    return tuple(roles[tensor] for tensor in action.tensors)


ACTION_CASES = [(block.action, block.shapes[3]) for block in BLOCKS.values()]
ACTION_CASES += [(action, catalogue_shapes(name, action)) for name, action in CATALOGUE.items()]
ACTION_CASES += [(parse_action(spec, USER_GROUPS), shapes) for spec, shapes in EXTRA]


def pytest_generate_tests(metafunc):
    if {"family", "size"} <= set(metafunc.fixturenames):
        ids = [f"{group}-{n}" for group, n in FAMILY_CASES]
        metafunc.parametrize(("family", "size"), FAMILY_CASES, ids=ids)
    if {"family", "largest"} <= set(metafunc.fixturenames):
        cases = list(dict(FAMILY_CASES).items())
        metafunc.parametrize(("family", "largest"), cases, ids=[str(group) for group, _ in cases])
    if {"action", "shapes"} <= set(metafunc.fixturenames):
        cases = list(dict.fromkeys(ACTION_CASES))
        metafunc.parametrize(("action", "shapes"), cases, ids=[f"{action}-{shapes}" for action, shapes in cases])


@pytest.fixture(scope="session")
def user_groups():
    return USER_GROUPS


@pytest.fixture(scope="session")
def fractions_like():
    """A function from shapes and a seed to tuples of object arrays of small fractions."""

    def make(shapes, seed):
        rng = np.random.default_rng(seed)
        tensors = []
        for shape in shapes:
            flat = [
                Fraction(int(p), int(q))
                for p, q in zip(rng.integers(-4, 5, np.prod(shape)), rng.integers(1, 4, np.prod(shape)), strict=True)
            ]
            array = np.empty(len(flat), dtype=object)
            array[:] = flat
            tensors.append(array.reshape(shape))
        return tuple(tensors)

    return make
