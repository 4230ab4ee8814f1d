import math

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm

from groups import FAMILIES, GL, Cyclic, Element, O, Perm, Sign, SPerm, Stab1, parse_group
from groups.group import Group


def simplest(strategy, condition):
    phases = (hypothesis.Phase.generate, hypothesis.Phase.shrink)
    quick = hypothesis.settings(max_examples=100, database=None, phases=phases)
    return hypothesis.find(strategy, condition, settings=quick)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@given(data=st.data())
@hypothesis.settings(max_examples=10)
def test_group_axioms(family, size, data):
    a, b, c = (data.draw(family.elements(size)) for _ in range(3))
    one = family.identity(size)
    assert (a @ b) @ c == a @ (b @ c)
    assert one @ a == a @ one == a
    assert a @ ~a == ~a @ a == one
    for element in (a, ~a, a @ b, one):
        assert family.contains(element)


def test_exact_elements_are_nontrivial_members_dyadic_first(family, size):
    elements = family.exact(size)
    assert len(set(elements)) == len(elements)
    assert all(element.is_exact and not element.is_identity and family.contains(element) for element in elements)
    dyadic = [element.is_dyadic for element in elements]
    assert dyadic == sorted(dyadic, reverse=True)
    trivial = not family.generators(size) and not family.lie_algebra(size)
    assert bool(elements) != trivial


def test_generators_and_the_exponentials_of_the_algebra_are_members(family, size):
    assert all(element.is_exact and family.contains(element) for element in family.generators(size))
    basis = family.lie_algebra(size)
    assert all(x.shape == (size, size) for x in basis)
    if basis:
        assert np.linalg.matrix_rank(np.array([x.ravel() for x in basis])) == len(basis)
    for x in basis:
        for time in (0.3, -1.1):
            element = Element.from_float(expm(time * x), orthogonal=family.is_orthogonal)
            assert family.contains(element)


def test_samples_are_members_and_reproducible(family, size):
    batch = family.sample(size, 20, rng=rng())
    assert batch.shape == (20, size, size)
    assert batch.dtype == torch.float64
    assert torch.equal(batch, family.sample(size, 20, rng=rng()))
    for matrix in batch.numpy():
        assert family.contains(Element.from_float(matrix, orthogonal=family.is_orthogonal))
    if family.exact(size):
        assert len(torch.unique(batch, dim=0)) > 1
    assert family.sample(size, 0, rng=rng()).shape == (0, size, size)


def test_orthogonality_is_as_declared(family, size):
    everything = (*family.exact(size), *family.generators(size))
    if family.is_orthogonal:
        assert all(element.is_orthogonal for element in everything)
        assert all((x == -x.T).all() for x in family.lie_algebra(size))
    else:
        assert any(not element.is_orthogonal for element in everything)
        assert not all((x == -x.T).all() for x in family.lie_algebra(size))


def test_self_dual_families_contain_their_duals(family, size):
    if family.is_self_dual:
        assert all(family.contains(element.dual) for element in family.exact(size))
    else:
        assert not all(family.contains(element.dual) for element in family.exact(size))


def test_strategy_shrinks_to_the_identity(family, largest):
    assert simplest(family.elements(largest), lambda element: True).is_identity


def test_strategy_shrinks_to_one_move(family, largest):
    if family.exact(largest):
        element = simplest(family.elements(largest), lambda element: not element.is_identity)
        moved = (element.matrix != np.eye(largest)).any(axis=1)
        # One move touches two coordinates, or the blocks of a wreath product, or what a user gave as one generator.
        assert moved.sum() <= 2 or family not in FAMILIES.values() or family == Cyclic


def closure(generators, n):
    found = {Element.identity(n)}
    front = list(found)
    while front:
        front = [new for element in front for g in generators if (new := element @ g) not in found]
        front = list(dict.fromkeys(front))
        found.update(front)
    return found


@pytest.mark.parametrize(
    ("spec", "n", "order"),
    [
        *(("Perm", n, math.factorial(n)) for n in (1, 2, 3, 4, 5)),
        *(("SPerm", n, 2**n * math.factorial(n)) for n in (1, 2, 3)),
        *(("Sign", n, 2**n) for n in (1, 3, 5)),
        *(("Cyclic", n, n) for n in (1, 2, 5)),
        ("1", 4, 1),
        ("(1 wr Perm[3])", 6, 6),
        ("(Perm wr Perm[2])", 4, 8),
        ("(Perm wr 1[2])", 6, 36),
        ("(Sign wr Cyclic[3])", 3, 24),
    ],
)
def test_generators_generate(spec, n, order):
    group = parse_group(spec)
    members = closure(group.generators(n), n)
    assert len(members) == order
    assert all(map(group.contains, members))
    # The random elements are spread over the whole group, so they are found in the closure and reach most of it.
    drawn = {Element.from_float(matrix) for matrix in group.sample(n, 20 * order, rng=rng()).numpy()}
    assert drawn <= {Element.from_float(member.matrix) for member in members}
    # A uniform element is missed by 20 N draws with probability e^-20.
    assert len(drawn) == order


def test_finite_user_group_is_enumerated(user_groups):
    group = user_groups["Quaternion"]
    members = closure(group.generators(4), 4)
    assert len(members) == 8
    assert all(map(group.contains, members))
    assert not group.contains(Perm.generators(4)[0])
    assert group.law == "Haar"


@pytest.mark.parametrize(
    ("spec", "n", "dimension"),
    [
        ("O", 4, 6),
        ("Stab1", 4, 3),
        ("Stab1", 2, 0),
        ("GL", 3, 9),
        ("Scale", 3, 3),
        ("U1[half]", 6, 3),
        ("(O wr Perm[2])", 6, 6),
        ("Perm", 5, 0),
    ],
)
def test_dimension_of_the_lie_algebra(spec, n, dimension):
    basis = parse_group(spec).lie_algebra(n)
    assert len(basis) == dimension


def test_membership_rejects_what_is_outside():
    flip, swap = Sign.generators(4)[0], Perm.generators(4)[0]
    rotation = next(element for element in O.exact(4) if not SPerm.contains(element) and not element.is_dyadic)
    shear = GL.exact(4)[0]
    members = {
        spec: parse_group(spec) for spec in ("1", "Sign", "Perm", "SPerm", "Stab1", "O", "Scale", "Scale+", "Cyclic")
    }
    outside = {
        "1": (flip, swap),
        "Sign": (swap, rotation),
        "Perm": (flip, rotation),
        "SPerm": (rotation, shear),
        "Stab1": (flip, rotation),
        "O": (shear,),
        "Scale": (swap, shear),
        "Scale+": (flip, swap),
        "Cyclic": (swap, flip),
    }
    for spec, elements in outside.items():
        for element in elements:
            assert not members[spec].contains(element), (spec, element)
            assert not members[spec].contains(Element.from_float(element.matrix)), (spec, element)
    assert not parse_group("(O wr Perm[2])").contains(rotation @ Perm.generators(4)[1])
    assert not parse_group("U1[half]").contains(parse_group("U1[interleaved]").exact(4)[0])
    assert not O.contains(Element.from_float(1.0001 * np.eye(2)))


def test_an_entry_below_the_smallest_float_is_not_zero():
    tiny = f"1/{10**400}"
    outside = Element.from_exact([[1, tiny], [0, 1]])
    assert outside.matrix[0, 1] == 0
    for spec in ("(GL wr 1[2])", "Scale", "O", "Perm"):
        assert not parse_group(spec).contains(outside)


def test_cyclic_shifts_are_the_circulant_permutations():
    assert [Cyclic.contains(element) for element in Perm.generators(5)] == [False, True]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: O.identity(0), "at least 1, got 0"),
        (lambda: parse_group("U1[half]").identity(3), "even, got 3"),
        (lambda: parse_group("(O wr Perm[2])").exact(3), "multiple of 2, got 3"),
        (lambda: parse_group("(U1[half] wr Perm[2])").exact(2), "even, got 1"),
        (lambda: O.sample(2, -1, rng=rng()), "must not be negative"),
        (lambda: parse_group("(O wr O[2])"), "Perm, Cyclic or 1"),
        (lambda: parse_group("(O wr Perm[0])"), "at least one block"),
    ],
)
def test_bad_sizes_get_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_names_and_values():
    assert all(str(group) == name and parse_group(name) == group for name, group in FAMILIES.items())
    assert len(set(FAMILIES.values())) == len(FAMILIES)
    assert parse_group("(O wr Perm[2])") == parse_group("(O wr Perm[2])") != parse_group("(O wr Perm[3])")
    assert all(isinstance(group, Group) and group.summary.endswith(".") for group in FAMILIES.values())


def test_stabiliser_fixes_the_ones_vector():
    ones = np.ones(5)
    for element in Stab1.exact(5):
        assert (element.matrix @ ones).tolist() == pytest.approx(ones.tolist(), rel=5 * np.finfo(float).eps)
