"""The subgroup orders: sound on all pairs that are tried, complete on the named families."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from groups import BLOCKS, CATALOGUE, FAMILIES, Element, ExpertAction, O, parse_action, parse_group, product_action
from groups.element import block_diagonal
from groups.images import copies, image_element
from groups.rational import Span

NAMED = list(FAMILIES.values())
WREATHS = [
    parse_group(spec)
    for spec in (
        *(
            "(O wr Perm[2])",
            "(Perm wr Perm[2])",
            "(Perm wr 1[2])",
            "(Sign wr 1[2])",
            "(Sign wr Perm[2])",
            "(GL wr 1[2])",
        ),
        *("(Stab1 wr Perm[2])", "(Scale+ wr 1[2])", "(1 wr Perm[2])", "(1 wr 1[2])", "(Cyclic wr Cyclic[2])"),
        *("(U1[half] wr 1[2])", "(SPerm wr Perm[2])", "(O wr 1[1])", "(Sign wr Perm[1])", "(Perm wr Perm[4])"),
        *(
            "(Perm[2] x O)",
            "(Perm[2] x Perm)",
            "(1[2] x O)",
            "(Perm[1] x Sign)",
            "(Perm[2] x GL)",
            "((Perm[2] x O) wr Perm[2])",
        ),
    )
]


def really_inside(small, large, n):
    """Whether the generators and the Lie algebra of ``small(n)`` lie in ``large(n)``: independent of the order."""
    algebra = Span([Fraction(value) for value in x.ravel().tolist()] for x in large.lie_algebra(n))
    return all(large.contains(g) for g in small.generators(n)) and all(
        algebra.contains([Fraction(value) for value in x.ravel().tolist()]) for x in small.lie_algebra(n)
    )


def exists(group, n):
    try:
        group.check_size(n)
    except ValueError:
        return False
    return True


def pairs(groups):
    return list(itertools.product(groups, repeat=2))


def test_order_of_families_is_sound(user_groups):
    groups = [*NAMED, *WREATHS, *user_groups.values()]
    for small, large in pairs(groups):
        if small <= large:
            for n in (1, 2, 3, 4, 8):
                if exists(small, n) and exists(large, n):
                    assert really_inside(small, large, n), (str(small), str(large), n)
                    assert all(map(large.contains, small.exact(n))), (str(small), str(large), n)


def test_order_of_the_named_families_is_complete():
    for small, large in pairs(NAMED):
        sizes = [n for n in (2, 3, 4, 6) if exists(small, n) and exists(large, n)]
        assert (small <= large) == all(really_inside(small, large, n) for n in sizes), (str(small), str(large))


def test_order_is_reflexive_transitive_and_antisymmetric():
    for a in (*NAMED, *WREATHS):
        assert a <= a
    for a, b, c in itertools.product((*NAMED, *WREATHS), repeat=3):
        if a <= b and b <= c:
            assert a <= c, (str(a), str(b), str(c))
    for a, b in pairs(NAMED):
        assert not (a <= b and b <= a) or a == b


@pytest.mark.parametrize(
    ("small", "large"),
    [
        *(("(O wr Perm[2])", "O"), ("(Perm wr Perm[2])", "Perm"), ("(Stab1 wr Perm[2])", "Stab1")),
        *(("(Perm wr Perm[2])", "(O wr Perm[2])"), ("(O wr 1[2])", "(O wr Perm[2])"), ("Sign", "(O wr Perm[2])")),
        *(("(Sign wr 1[3])", "Sign"), ("(O wr Perm[1])", "O"), ("O", "(O wr Perm[1])"), ("(1 wr 1[2])", "1")),
        *(("(GL wr 1[2])", "GL"), ("1", "(1 wr 1[2])"), ("((Perm wr Perm[2]) wr Perm[2])", "Perm")),
        *(("(Perm[2] x O)", "(O wr Perm[2])"), ("((Perm[2] x Perm) wr Perm[2])", "(Perm wr Perm[4])")),
        *(("((Perm[2] x U1[half]) wr 1[2])", "O"), ("(Perm[2] x GL)", "GL"), ("(Perm[1] x O)", "O")),
        *(("(1[2] x Scale)", "Scale"), ("((1[2] x O) wr 1[2])", "(O wr 1[4])"), ("(1[2] x O)", "(Perm[2] x O)")),
    ],
)
def test_head_structure_below(small, large):
    assert parse_group(small) <= parse_group(large)


@pytest.mark.parametrize(
    ("small", "large"),
    [
        *(("O", "(O wr Perm[2])"), ("(Sign wr Perm[2])", "Sign"), ("(O wr Perm[2])", "(O wr Perm[4])")),
        *(("U1[interleaved]", "(O wr 1[2])"), ("Perm", "(Perm wr Perm[2])"), ("(Scale wr Perm[2])", "Scale")),
        *(("(GL wr 1[2])", "O"), ("(O wr Perm[2])", "Stab1"), ("U1[half]", "U1[interleaved]"), ("Sign", "Stab1")),
        *(("(O wr Perm[2])", "(Perm[2] x O)"), ("(Perm[2] x O)", "(O wr Perm[4])"), ("(Perm[2] x Scale)", "Scale")),
        *(("(Perm[2] x O)", "(O wr 1[2])"), ("(Perm[2] x Sign)", "(Perm[2] x Perm)")),
        *(("(Perm[2] x O)", "(1[2] x O)"), ("((Perm[2] x O) wr 1[2])", "(O wr 1[4])"), ("(1[2] x O)", "(O wr 1[4])")),
    ],
)
def test_head_structure_not_below(small, large):
    assert not parse_group(small) <= parse_group(large)


def test_user_groups_are_compared_by_generators(user_groups):
    assert user_groups["Quaternion"] <= O
    assert user_groups["Quaternion"] <= parse_group("SPerm")
    assert not user_groups["Quaternion"] <= parse_group("Perm")
    assert not user_groups["Lorentz"] <= O
    assert user_groups["Drift"] <= user_groups["Sp2"]
    assert not user_groups["Sp2"] <= user_groups["Drift"]
    assert not user_groups["Quaternion"] >= O


SINGLE = [
    parse_action(spec)
    for spec in (
        *(
            "1",
            "Shift(rows)",
            "Perm(rows)",
            "O(cols)",
            "Perm(rows) x O(cols)",
            "O(rows) x O(cols)",
            "Sign(rows) x O(cols)",
        ),
        *("Perm(rows) x O(cols) + Shift(rows)", "Stab1(rows) x O(cols) + Shift(rows)", "Perm(rows) x Perm(cols)"),
        *("SPerm(rows) x SPerm(cols)", "SPerm(entries)", "O(entries)", "Perm(entries)", "Sign(entries)", "GL(entries)"),
        *("P(rows) x P(cols) where P = O", "P(rows) x P(cols) where P = Perm", "P(rows) x P*(cols) where P = GL"),
        *(
            "P(rows) x P(cols) where P = GL",
            "GL(rows) x GL(cols)",
            "Scale(rows)",
            "Scale*(rows)",
            "Scale(rows) x Scale*(cols)",
        ),
        *("(O wr Perm[2])(rows) x O(cols)", "O(rows) x (O wr Perm[2])(cols)", "Sign(rows) x Sign(cols)"),
    )
]
STACKED = [
    *(action.over_experts() for action in SINGLE),
    *map(parse_action, ("Perm(experts)", "Perm(rows) x O(cols) x Perm(experts)", "O(rows) x O(cols)", "O(experts)")),
    *map(
        parse_action, ("SPerm(entries)", "O(entries)", "Perm(entries)", "GL(entries)", "1", "Perm(rows) + Shift(rows)")
    ),
]
JOINT = [
    parse_action(spec)
    for spec in (
        "a: P(rows); b: P(cols) where P = Perm",
        "a: P(rows); b: P(cols) where P = O",
        "a: P(rows); b: P*(cols) where P = Scale",
        "a: P(rows); b: P(cols) where P = Scale",
        "a: P*(rows); b: P(cols) where P = Scale",
        "a: P*(rows); b: P(cols) where P = Scale+",
        "a: Perm(rows); b: Perm(cols)",
        "a: O(rows); b: O(cols)",
        "a: P(rows) x Q(cols); b: Q(rows) x P(cols) where P = Perm, Q = O",
        "a: P(rows); b: 1 where P = Perm",
        "a: O(rows) + Shift(rows); b: 1".replace("O(rows) + ", ""),
        "a: SPerm(entries); b: SPerm(entries)",
        "a: S(entries); b: S(entries) where S = SPerm",
        "a: S(entries); b: S(entries) where S = Perm",
        "a: S(all); b: S(all) where S = Scale+",
        "a: S(all); b: S*(all) where S = Scale",
        "a: S(all) x P(rows); b: S*(all) x P(cols) where S = Scale, P = Perm",
        "a: Scale(all) x O(rows); b: Scale(all) x O(cols)",
        "a: GL(entries); b: GL(entries)",
        "a: S(all); b: S*(all) where S = Scale+",
        "a: S(all); b: S(all) x O(cols) where S = Sign",
        "a: O(rows) x S(all); b: S(all) where S = Sign",
        "a: Scale(rows); b: Scale(rows)",
        "a: Sign(rows); b: O(rows) x O(cols)",
        "a: |P|(rows); b: P(cols) where P = SPerm",
        "a: |P|(rows); b: P*(cols) where P = Monomial",
        "a: |P|(rows); b: P*(cols) where P = Monomial+",
        "a: |P|(rows); b: |P|(cols) x P(rows) where P = SPerm",
        "a: P(rows); b: P*(cols) where P = Monomial",
    )
]
HEADS = [
    parse_action(spec)
    for spec in (
        "a: H(rows); b: H/2(rows) where H = ((Perm[2] x O) wr Perm[1])",
        "a: H(rows); b: H/2(rows) where H = (Perm[2] x O)",
        "a: H(rows); b: H/2(rows) where H = (Perm[2] x U1[half])",
        "a: H(rows); b: H/2*(rows) where H = (Perm[2] x GL)",
        "a: H(rows); b: H/2*(rows) where H = (Perm[2] x Scale)",
        "a: (O wr Perm[2])(rows); b: O(rows)",
        "a: (GL wr Perm[2])(rows); b: GL(rows)",
        "a: O(rows); b: O(rows)",
        "a: SPerm(rows); b: SPerm(rows)",
    )
]


def reproduce(element, large):
    """The element of ``large`` that ought to do the same, from the matrices of ``element``; ValueError if none."""
    if isinstance(large, ExpertAction):
        action, (experts, *_) = element.action, element.shapes[0]
        names = dict(zip(action.variable_names, element.values, strict=True))
        rest = [[factor for factor in row if factor.axis != "experts"] for row in action.factors]
        block = product_action(action.tensors, action.groups, rest, action.shifts)
        values = {name: value for name, value in names.items() if name in block.groups}
        part = block.element(tuple(shape[1:] for shape in element.shapes), values, shifts_of(element, action))
        on_experts = [names[factor.variable] for factor in action.factors[0] if factor.axis == "experts"]
        top = on_experts[0] if on_experts else Element.identity(experts)
        return large.element(element.shapes, (reproduce(part, large.block),) * experts, top)
    return large.element(element.shapes, values_for(element, large), shifts_of(element, large))


def shifts_of(element, large):
    found = zip(large.tensors, large.shifts, element.translations, strict=True)
    return {name: row for name, shift, row in found if shift and row is not None}


def values_for(element, large):
    values = {}
    for index, factors in enumerate(large.factors):
        for factor in factors:
            if factor.variable in values:
                continue
            if factor.axis == "entries":
                matrix = on_entries(element, index)
            else:
                places = {"rows": -2, "cols": -1, "experts": -3}
                size = element.shapes[index][places[factor.axis]] if factor.axis in places else 1
                matrix = Element.identity(size * copies(factor.image))
                for own in element.action.factors[index]:
                    taken = [f.axis for f in element.action.factors[index]]
                    free = [f for f in factors if f.axis not in taken]
                    if own.axis == "all" and free[:1] == [factor] and "all" not in [f.axis for f in factors]:
                        value = element.values[element.action.variable_names.index(own.variable)]
                        matrix = block_diagonal([value.dual if own.dual != factor.dual else value] * size)
                    if own.axis == factor.axis:
                        value = element.values[element.action.variable_names.index(own.variable)]
                        if own.image != factor.image:
                            value = image_element(element.action.groups[own.variable], value, own.image)
                        matrix = value.dual if own.dual != factor.dual else value
            values[factor.variable] = matrix
    return values


def on_entries(element, index):
    """What an element does to the entries of one tensor, as a matrix, column by column."""
    tensors = [np.full(shape, Fraction(0), dtype=object) for shape in element.shapes]
    columns = []
    for position in np.ndindex(element.shapes[index]):
        tensors[index][position] = Fraction(1)
        columns.append(element.act_linear(tuple(tensors))[index].ravel())
        tensors[index][position] = Fraction(0)
    return Element.from_exact(np.array(columns, dtype=object).T.tolist())


def assert_sound(small, large, shapes, fractions_like):
    w = fractions_like(shapes, 1)
    exact = small.exact(shapes)
    for element in (*exact[:2], *exact[-3:], *small.generators(shapes)):
        if isinstance(small, ExpertAction) and isinstance(large, ExpertAction):
            inner = tuple(reproduce(part, large.block) for part in element.inner)
            same = large.element(shapes, inner, element.permutation)
        elif isinstance(small, ExpertAction):
            values = {f.variable: on_entries(element, k) for k, row in enumerate(large.factors) for f in row}
            same = large.element(shapes, values)
        else:
            same = reproduce(element, large)
        for move in ("act", "act_linear", "act_dual"):
            moved = zip(getattr(element, move)(w), getattr(same, move)(w), strict=True)
            assert all((a == b).all() for a, b in moved), (str(small), str(large), move)


def fits(action, shapes):
    try:
        action.check(shapes)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("actions", "shapes", "least"),
    [
        *((SINGLE, ((2, 2),), 100), (STACKED, ((2, 2, 2),), 100)),
        *((JOINT, ((2, 2), (2, 2)), 60), (HEADS, ((4, 2), (2, 2)), 20)),
    ],
    ids=["single", "stacked", "joint", "heads"],
)
def test_order_of_actions_is_sound(actions, shapes, least, fractions_like):
    found = [(a, b) for a, b in pairs(actions) if a <= b and fits(a, shapes) and fits(b, shapes)]
    assert len(found) >= least  # or the test would say nothing
    for small, large in found:
        assert_sound(small, large, shapes, fractions_like)


@pytest.mark.parametrize("actions", [SINGLE, STACKED, JOINT, HEADS], ids=["single", "stacked", "joint", "heads"])
def test_order_of_actions_is_reflexive_and_transitive(actions):
    below = {(a, b) for a, b in pairs(actions) if a <= b}
    assert all((a, a) in below for a in actions)
    for a, b in below:
        for c in actions:
            if (b, c) in below:
                assert (a, c) in below, (str(a), str(b), str(c))


def compatible(block, spec):
    """Whether a rule of this symmetry, applied to each tensor or expert on its own, respects the block."""
    action = BLOCKS[block].action
    rule = parse_action(spec)
    if isinstance(action, ExpertAction):
        rule = rule.over_experts()
    return all(action.restrict(name).linear <= rule for name in action.tensors)


@pytest.mark.parametrize(
    ("spec", "blocks"),
    [
        ("O(entries)", set(BLOCKS)),
        ("O(rows) x O(cols)", set(BLOCKS)),
        (
            "SPerm(rows) x O(cols)",
            {"embedding", "lm_head", "router", "swiglu_gate", "swiglu_up", "experts", "coordinate"},
        ),
        (
            "Stab1(rows) x O(cols)",
            {"embedding", "lm_head", "router", "swiglu_gate", "swiglu_up", "experts", "coordinate"},
        ),
        ("O(rows) x SPerm(cols)", {"swiglu_down", "coordinate"}),
        ("SPerm(entries)", {"coordinate"}),
        ("(O wr Perm[2])(rows) x O(cols)", {"attention_qkv"}),
    ],
)
def test_expected_compatibility_of_rules_and_blocks(spec, blocks):
    # Rows of a known symmetry against the block table: Muon must not be said to break vocabulary permutation.
    assert {block for block in BLOCKS if compatible(block, spec)} == blocks


def test_joint_swiglu_asks_more_than_its_parts():
    parts = [BLOCKS[name].action for name in ("swiglu_gate", "swiglu_up", "swiglu_down")]
    assert [BLOCKS["swiglu"].action.restrict(name) for name in ("gate", "up", "down")] == parts
    assert not CATALOGUE["neuron_scaling"].restrict("up") <= parse_action("O(rows) x O(cols)")


def test_different_tensors_are_never_contained():
    assert not parse_action("1") <= parse_action("a: O(rows)")
    assert not parse_action("a: O(rows)") <= parse_action("b: O(rows)")
