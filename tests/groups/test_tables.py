import subprocess
import sys

import pytest

from groups import BLOCKS, CATALOGUE, FAMILIES, get_block, get_joint_action, matrix_group

# Theory: Lau and Su, arXiv 2605.18106.
TABLE = {
    "matrix": "O(rows) x O(cols)",
    "embedding": "Perm(rows) x O(cols)",
    "lm_head": "Perm(rows) x O(cols) + Shift(rows)",
    "swiglu_gate": "Perm(rows) x O(cols)",
    "swiglu_up": "Perm(rows) x O(cols)",
    "swiglu_down": "O(rows) x Perm(cols)",
    "swiglu": "gate: P(rows) x Q(cols); up: P(rows) x Q(cols); down: Q(rows) x P(cols) where P = Perm, Q = O",
    "router": "Perm(rows) x O(cols) + Shift(rows)",
    "attention_qkv": "(O wr Perm[2])(rows) x O(cols)",
    "attention_o": "O(rows) x (O wr Perm[2])(cols)",
    "experts": "(Perm(rows) x O(cols)) wr Perm(experts)",
    "coordinate": "Perm(rows) x Perm(cols)",
}


def test_block_table():
    assert {name: str(block.action) for name, block in BLOCKS.items()} == TABLE
    assert {name for name, block in BLOCKS.items() if block.centred_gradients} == {"lm_head", "router"}
    assert all(block.centred_gradients == block.action.shift for block in BLOCKS.values())


@pytest.mark.parametrize("block", BLOCKS.values(), ids=list(BLOCKS))
def test_block_shapes_fit_and_cover_every_kind(block):
    for shapes in block.shapes:
        block.action.check(shapes)
        assert block.action.exact(shapes)
    matrices = [shapes[0][-2:] for shapes in block.shapes]
    assert max(matrices[0]) <= 3
    assert (2, 2) in matrices
    assert any(m > n for m, n in matrices)
    assert any(m < n for m, n in matrices)
    assert any(m == n > 2 for m, n in matrices)
    assert any(m * n >= 24 * 16 for m, n in matrices)
    assert block.summary


@pytest.mark.parametrize("get", [get_block, get_joint_action])
def test_unknown_names_list_the_known_ones(get):
    known = BLOCKS if get is get_block else CATALOGUE
    assert all(get(name) is known[name] for name in known)
    with pytest.raises(ValueError, match=r"'nope'; known: .*") as caught:
        get("nope")
    assert all(name in str(caught.value) for name in known)
    assert "\n" not in str(caught.value)


def test_importing_is_light():
    code = "import sys, groups; sys.exit(any(m in sys.modules for m in ('torch', 'sympy', 'hypothesis', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


ROTATION = [[0, -1], [1, 0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("O", [ROTATION]), "not a free name"),
        (("two words", [ROTATION]), "not a free name"),
        (("G",), "one size, got none"),
        (("G", [[[1, 2]]]), "generator 0: expected a square matrix"),
        (("G", [ROTATION, [[1]]]), r"one size, got sizes \[1, 2\]"),
        (("G", [[[1, 1], [1, 1]]]), "generator 0: an element is invertible"),
        (("G", [[[0.6, 0.8], [-0.8, 0.6]]]), "generator 0: expected integers, fractions .* the float 0.6"),
        (("G", [[["a"]]]), "generator 0: expected integers, fractions"),
        (("G", [7]), "generator 0: "),
        (("G", [], [[[1, 2]]]), "Lie-algebra element 0: expected a square matrix"),
        (("G", [], [ROTATION, [[0, 2], [-2, 0]]]), "Lie-algebra element 1 depends linearly"),
        (
            ("G", [], [[[0, 1], [0, 0]], [[0, 0], [1, 0]]]),
            "the bracket of Lie-algebra elements 0 and 1 leaves their span",
        ),
        (("G", [[[1, 1], [0, 1]]], [ROTATION]), "conjugating Lie-algebra element 0 by generator 0 leaves their span"),
    ],
)
def test_matrix_groups_are_checked_on_construction(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        matrix_group(*arguments)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("matrix_group")


def test_families_in_the_order_of_a_listing():
    listed = [
        "1",
        "Sign",
        "Cyclic",
        "Perm",
        "SPerm",
        "Stab1",
        "O",
        "Scale+",
        "Scale",
        "Monomial+",
        "Monomial",
        "GL",
        "U1[half]",
        "U1[interleaved]",
    ]
    assert list(FAMILIES) == listed
