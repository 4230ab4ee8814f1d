"""The numerical Lie algebra of rules whose group is known."""

from __future__ import annotations

import numpy as np
import pytest

from symcheck.discover.algebra import CLEAR, Estimate, embedded, lie_algebra
from symcheck.discover.generators import random_points
from symcheck.discover.jacobian import Linearised
from symcheck.probe.nature import observe
from tests.symcheck.discover import candidates
from tests.symcheck.discover.candidates import load

# Target, settings, then dimension and parts on rows, cols, both and entries of a 3 x 4 matrix.
KNOWN = [
    ("torch.optim.SGD", {"momentum": 0.9, "weight_decay": 0.1}, 3, 6, 9, (66, "O(entries)")),
    ("torch.optim.Adam", {}, 0, 0, 0, (0,)),
    ("rule:right_spectral", {}, 3, 6, 9, (9, "O(cols)", "O(rows)")),
    # Every row is rotated on its own: O(4) three times.
    ("rule:row_norm", {}, 0, 6, 6, (18, "O(cols) of each row")),
    # What adds a shift to the gradients or moves along one is nothing to a centred rule: v 1^T times any 4 x 4 matrix.
    ("rule:row_norm", {"center_rows": True}, 3, 6, 9, (54, "shifts of rows", "O(cols)")),
    # Its step is proportional to the weights and does not answer to the scale of the gradients.
    ("torch.optim.Adafactor", {}, 1, 1, 1, (1, "scaling of all weights")),
]


@pytest.mark.parametrize(("target", "settings", "rows", "cols", "both", "entries"), KNOWN)
def test_known_algebras(
    target: str, settings: dict[str, object], rows: int, cols: int, both: int, entries: tuple[object, ...]
) -> None:
    found = lie_algebra(load(target, **settings), (3, 4))
    assert {where: algebra.dimension for where, algebra in found.algebras.items()} == {
        "rows": rows,
        "cols": cols,
        "rows + cols": both,
        "entries": entries[0],
    }
    assert found.algebras["entries"].parts == entries[1:]
    assert all(algebra.rest == 0 and not algebra.ambiguous for algebra in found.algebras.values())
    _assert_gap(found)


def _assert_gap(found: Estimate) -> None:
    for algebra in found.algebras.values():
        if algebra.largest_null is not None and algebra.smallest_other is not None:
            assert algebra.largest_null < found.error < algebra.smallest_other / CLEAR


def test_rotation_of_two_columns_is_found_and_named() -> None:
    algebra = lie_algebra(candidates.weird, (4, 3)).algebras
    assert (algebra["rows"].dimension, algebra["rows + cols"].dimension, algebra["entries"].dimension) == (0, 1, 1)
    cols = algebra["cols"]
    assert (cols.orthogonal, cols.diagonal, cols.parts, cols.rest) == (1, 0, (), 1)
    assert cols.single is not None
    np.testing.assert_allclose(np.abs(cols.single), [[0, 1, 0], [1, 0, 0], [0, 0, 0]], atol=1e-9)
    np.testing.assert_allclose(cols.single, -cols.single.T, atol=1e-9)


def test_coupled_rotations_are_one_symmetry_of_both_axes_and_none_of_either() -> None:
    trace = candidates.Made("symmetric", lambda grad, weight: -0.1 * (grad + grad.mT) / (1 + grad.trace() ** 2))
    algebra = lie_algebra(trace, (3, 3)).algebras
    assert algebra["rows"].dimension == algebra["cols"].dimension == 0
    assert (algebra["rows + cols"].dimension, algebra["rows + cols"].rest) == (3, 3)


def test_natural_gradient_has_the_general_linear_algebra() -> None:
    rows = lie_algebra(candidates.natural, (3, 4)).algebras["rows"]
    assert (rows.dimension, rows.orthogonal, rows.diagonal, rows.parts) == (9, 3, 3, ("GL(rows)",))


def test_no_gap_is_ambiguous_and_no_update_is_vacuous() -> None:
    assert all(algebra.ambiguous for algebra in lie_algebra(candidates.steps, (3, 4)).algebras.values())
    assert lie_algebra(candidates.still, (3, 4)).vacuous == "the update is zero in all of 12 steps"
    nan = candidates.Made("nan", lambda grad, weight: grad * float("nan"))
    assert "NaN" in lie_algebra(nan, (3, 4)).vacuous


def test_a_rule_that_changes_after_a_few_steps_is_followed_that_far() -> None:
    # It is heavy ball SGD, O(12), until step 6.
    assert lie_algebra(load("torch.optim.RAdam"), (3, 4)).algebras["entries"].dimension == 0


def test_points_beside_a_kink_are_drawn_anew() -> None:
    assert not any(algebra.ambiguous for algebra in lie_algebra(load("rule:signum"), (3, 4)).algebras.values())


def test_random_numbers_are_no_symmetry() -> None:
    assert lie_algebra(candidates.noise, (3, 4)).algebras["entries"].dimension == 0


def test_jacobian_and_its_error_against_the_truth() -> None:
    cubic = candidates.Made("cubic", lambda grad, weight: -0.1 * (grad**3 + weight))
    point = random_points((2, 3), 1, 1, seed=3)[0]
    linear = Linearised(cubic, point, observe(cubic, point))
    jacobian = linear.jacobian()
    truth = np.concatenate([np.eye(6), np.diag(3 * linear.argument[6:] ** 2)], 1) * -0.1 / linear.sizes[0]
    assert np.linalg.norm(jacobian - truth) <= linear.error(jacobian) < 1e-9


@pytest.mark.parametrize("shape", [(2, 3), (4, 3)])
def test_spans_of_the_families_are_maps_of_the_entries(shape: tuple[int, int]) -> None:
    from groups import O

    grad = np.random.default_rng(0).standard_normal(shape)
    for where, size in (("rows", shape[0]), ("cols", shape[1])):
        for x, embed in zip(O.lie_algebra(size), embedded(where, O, shape), strict=True):
            moved = x @ grad if where == "rows" else grad @ x.T
            np.testing.assert_allclose(embed @ grad.ravel(), moved.ravel(), atol=1e-15)
