import pytest
from hypothesis import given
from hypothesis import strategies as st

from groups import BLOCKS, CATALOGUE, ExpertAction, Factor, O, Perm, Wreath, parse_action, parse_group, product_action

FAMILIES = [
    "1",
    "Sign",
    "Perm",
    "SPerm",
    "O",
    "Stab1",
    "Scale+",
    "Scale",
    "GL",
    "Cyclic",
    "U1[half]",
    "U1[interleaved]",
]
groups = st.recursive(
    st.sampled_from(FAMILIES),
    lambda inner: st.builds(
        "({} wr {}[{}])".format, inner, st.sampled_from(["Perm", "Cyclic", "1"]), st.integers(1, 9)
    ),
    max_leaves=2,
)


@st.composite
def product_specs(draw, axes=("rows", "cols", "experts"), names=()):
    """A product of factors, some of shared variables, on different axes; with a shift where the rows allow one."""
    chosen = draw(st.lists(st.sampled_from(axes), unique=True, max_size=len(axes)))
    factors = []
    for axis in chosen:
        group = draw(st.sampled_from(names)) if names and draw(st.booleans()) else draw(groups)
        factors.append(f"{group}{draw(st.sampled_from(['', '*']))}({axis})")
    if not factors:
        return draw(st.sampled_from(["1", "Shift(rows)", "SPerm(entries)", "O(entries)"]))
    shift = not {"rows", "experts"} & set(chosen) and draw(st.booleans())
    return draw(st.sampled_from([" x ", "x"])).join(f" {f} " for f in factors) + (" + Shift(rows)" if shift else "")


@st.composite
def specs(draw):
    experts = draw(st.booleans())
    axes = ("rows", "cols") if experts else ("rows", "cols", "experts")
    if draw(st.booleans()):
        spec = draw(product_specs(axes))
    else:
        names = {"P": draw(groups), "Q_2": draw(groups)}
        tensors = draw(st.lists(st.sampled_from(["gate", "up", "down", "x"]), unique=True, min_size=1, max_size=4))
        spec = "; ".join(f"{tensor}: {draw(product_specs(axes, tuple(names)))}" for tensor in tensors)
        used = [name for name in names if any(f"{name}{mark}" in spec for mark in "(*")]
        if used:
            spec += " where " + ", ".join(f"{name} = {names[name]}" for name in used)
    return f"({spec}) wr Perm(experts)" if experts else spec


@given(specs())
def test_printing_and_parsing_are_inverse(spec):
    action = parse_action(spec)
    assert parse_action(str(action)) == action
    assert str(parse_action(str(action))) == str(action)
    assert hash(parse_action(str(action))) == hash(action)
    assert eval(repr(action)) == action


@given(groups)
def test_groups_round_trip(spec):
    assert str(parse_group(spec)) == spec


@given(st.text(alphabet="PermOSign1(rows)x+*;:=,[]wr where \n\"'2", max_size=40))
def test_any_text_is_parsed_or_refused_in_one_line(text):
    message = ""
    try:
        action = parse_action(text)
    except ValueError as error:
        message = str(error)
    else:
        assert parse_action(str(action)) == action
    assert "\n" not in message
    assert not message or message.startswith("action spec")


@pytest.mark.parametrize("action", [*(block.action for block in BLOCKS.values()), *CATALOGUE.values()], ids=str)
def test_table_round_trips(action):
    assert parse_action(str(action)) == action


def test_parsed_structure():
    action = parse_action("(O wr Perm[2])(rows) x Scale*(cols)")
    assert action.variables == (("rows", Wreath(O, Perm, 2)), ("cols", parse_group("Scale")))
    assert action.factors == ((Factor("rows", "rows"), Factor("cols", "cols", dual=True)),)
    joint = parse_action("gate: P(rows); down: P(cols) x O(rows) where P = Perm")
    assert joint.tensors == ("gate", "down")
    assert joint.variables == (("P", Perm), ("down.rows", O))
    assert isinstance(parse_action("(Perm(rows)) wr Perm(experts)"), ExpertAction)


def test_normal_form_makes_equal_what_means_the_same():
    assert parse_action("O(cols) x Perm(rows)") == parse_action("Perm(rows) x O(cols)")
    assert parse_action("P(rows) x O(cols) where P = Perm") == parse_action("Perm(rows) x O(cols)")
    assert parse_action("O*(rows)") == parse_action("O(rows)")  # the dual of an orthogonal matrix is itself
    assert parse_action("1(rows) x O(cols)") == parse_action("O(cols)")
    assert parse_action("P(rows) x P(cols) where P = O") != parse_action("O(rows) x O(cols)")
    assert parse_action("Scale*(rows)") != parse_action("Scale(rows)")


def test_user_groups_are_named_by_the_caller(user_groups):
    action = parse_action("(Sp2 wr Perm[2])(rows) x Lorentz*(cols)", user_groups)
    assert parse_action(str(action), user_groups) == action
    with pytest.raises(ValueError, match="expected a group"):
        parse_action("Sp2(rows)")


@pytest.mark.parametrize(
    ("spec", "position", "expected"),
    [
        ("", 0, "a group, found the end"),
        ("Perm", 4, r"'\(', found the end"),
        ("Perm(row)", 5, r"an axis \(rows, cols, entries, experts, all\), found 'row'"),
        ("Perm(rows) y O(cols)", 11, "the end, found 'y'"),
        ("Foo(rows)", 0, r"a group \(1, Sign, .*found 'Foo'"),
        ("Perm(rows) x", 12, "a group, found the end"),
        ("Perm(rows) + O(cols)", 13, "'Shift', found 'O'"),
        ("Perm(rows) + Shift(cols)", 19, "'rows', found 'cols'"),
        ("Perm(rows) & O(cols)", 11, r"a name, a number or one of .*found '&'"),
        ("O(rows) x O(rows)", 0, "two factors act on the same axis"),
        ("O(entries) x O(cols)", 0, "entries are all axes at once"),
        ("O(rows) + Shift(rows)", 0, r"needs rows in Stab1 .*got O"),
        ("O(experts) + Shift(rows)", 0, r"needs experts in Stab1 .*got O"),
        ("a: O(rows); a: O(rows)", 12, "a new tensor name"),
        ("a: O(rows); O(rows)", 12, "a tensor name and ':'"),
        ("O(rows); b: O(rows)", 9, "a new tensor name .*on every tensor or on none"),
        ("P(rows) x P(cols) where P = Bar", 28, "a group .*found 'Bar'"),
        ("P(rows) where P = O, P = Perm", 21, "a new variable name"),
        ("O(rows) where O = Perm", 14, "a new variable name"),
        ("P(rows) where P O", 16, "'='"),
        ("(O wr Perm[two])(rows)", 11, "the number of blocks, found 'two'"),
        ("(O wr SPerm[2])(rows)", 0, "permuted by Perm, Cyclic or 1, got SPerm"),
        ("(O wr Perm[0])(rows)", 0, "at least one block"),
        ("(O(rows)) wr Perm(rows)", 18, "'experts', found 'rows'"),
        ("(O(experts)) wr Perm(experts)", 0, "no factor acts on the experts axis"),
        ("U1[quarter](rows)", 0, "a group .*found 'U1'"),
        ("(Perm(rows) x O(cols)", 5, r"'wr', found '\('"),
        ("a: P(rows); b: |P(rows) where P = SPerm", 17, r"'\|', found '\('"),
        ("a: P(rows); b: |P|(rows) where P = O", 0, r"permutation of a monomial matrix; O is none of"),
        ("a: P(rows); b: P/2(rows) where P = O", 0, r"/2 needs \(Perm\[2\] x F\)"),
        ("a: P(rows); b: P/3(rows) where P = (Perm[2] x O)", 0, r"/3 needs \(Perm\[3\] x F\)"),
        ("a: P(rows); b: P/x(rows) where P = (Perm[2] x O)", 17, "the number of copies, found 'x'"),
        ("(Perm[0] x O)(rows)", 0, "at least one block"),
        ("(Sign[2] x O)(rows)", 0, "permuted by Perm or 1, got Sign"),
        ("Sign(all) + Shift(rows)", 0, "no law beside a factor on all of the tensor"),
        ("Sign(all) x O(entries)", 0, "entries are all axes at once"),
    ],
)
def test_errors_name_the_position_and_what_was_expected(spec, position, expected):
    with pytest.raises(ValueError, match=f"position {position}: .*{expected}") as caught:
        parse_action(spec)
    assert "\n" not in str(caught.value)
    assert spec in str(caught.value)


def test_unused_variable_is_an_error():
    with pytest.raises(ValueError, match="variable Q of the where clause is never used"):
        parse_action("P(rows) x P(cols) where P = O, Q = Perm")


def test_actions_can_be_built_without_a_spec():
    built = product_action(["W"], {"P": Perm, "Q": O}, [[Factor("P", "rows"), Factor("Q", "cols")]], [True])
    assert built == parse_action("Perm(rows) x O(cols) + Shift(rows)")
