import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from groups import GL, Element
from groups.element import block_diagonal, product

entries = st.fractions(min_value=-3, max_value=3, max_denominator=5)


@st.composite
def matrices(draw, n=3):
    rows = [[draw(entries) for _ in range(n)] for _ in range(n)]
    try:
        return Element.from_exact(rows)
    except ValueError:
        assume(False)


def exact(element):
    return np.array(element.exact, dtype=object)


@given(matrices(), matrices())
def test_product_and_inverse_are_those_of_the_matrices(a, b):
    assert (exact(a @ b) == exact(a) @ exact(b)).all()
    assert (a @ ~a).is_identity
    assert (~a @ a).is_identity
    assert ~(a @ b) == ~b @ ~a
    assert (exact(a.dual) == exact(~a).T).all()
    assert a.dual.dual == a
    assert (a @ b).dual == a.dual @ b.dual


@given(matrices())
def test_float_view_is_correctly_rounded_and_read_only(a):
    assert (a.matrix == np.array([[float(v) for v in row] for row in a.exact])).all()
    with pytest.raises(ValueError, match="read-only"):
        a.matrix[0, 0] = 7


@given(matrices(), matrices())
def test_equality_and_hash(a, b):
    assert (a == b) == (a.exact == b.exact)
    copy = Element.from_exact(a.exact)
    assert copy == a
    assert hash(copy) == hash(a)
    assert pickle.loads(pickle.dumps(a)) == a


def test_exact_and_float_elements_differ():
    # 3/5 is not a binary fraction: the float element is another matrix.
    rotation = Element.from_exact([["3/5", "-4/5"], ["4/5", "3/5"]])
    assert rotation.is_orthogonal
    assert rotation.dual is rotation
    assert rotation != Element.from_float(rotation.matrix)
    assert not rotation.is_dyadic
    assert Element.from_exact([["1/2", 0], [0, 4]]).is_dyadic
    assert not Element.from_exact([["3/2"]]).is_dyadic  # its inverse is 2/3


def test_mixed_products_are_float():
    half = Element.from_exact([[Fraction(1, 2)]])
    third = Element.from_float([[3.0]])
    assert (half @ third).exact is None
    assert (half @ third) == Element.from_float([[1.5]])
    assert (~third).matrix == pytest.approx(1 / 3, rel=np.finfo(float).eps)


def test_product_of_nothing_is_the_identity():
    assert product([], 3).is_identity
    assert Element.from_float(np.eye(2)).is_identity


def test_block_diagonal():
    a, b = Element.from_exact([[2]]), Element.from_exact([[0, 1], [1, 0]])
    assert block_diagonal([a, b]) == Element.from_exact([[2, 0, 0], [0, 0, 1], [0, 1, 0]])
    mixed = block_diagonal([Element.from_float([[2.0]]), b])
    assert not mixed.is_exact
    assert (mixed.matrix == block_diagonal([a, b]).matrix).all()


@given(GL.elements(4), st.integers(0, 2))
def test_apply_along_any_axis(a, axis):
    array = np.arange(4**3).reshape(4, 4, 4)
    objects = np.vectorize(Fraction, otypes=[object])(array)
    want = np.moveaxis(np.tensordot(a.matrix, array, axes=([1], [axis])), 0, axis)
    assert np.array_equal(a.apply(array.astype(float), axis), want)
    # Entries below 64 and small dyadic or third-fold factors: float64 is off by rounding only.
    error = np.abs(a.apply(objects, axis).astype(float) - want).max()
    assert error <= 4 * np.finfo(float).eps * np.abs(a.matrix).sum() * 64


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Element.from_exact([[1, 2]]), ValueError, "square matrix"),
        (lambda: Element.from_exact([]), ValueError, "square matrix"),
        (lambda: Element.from_exact([[1, 2], [2, 4]]), ValueError, "singular 2 x 2"),
        (lambda: Element.from_exact([[0.5]]), TypeError, "from_float"),
        (lambda: Element.from_float([[1.0, 2.0]]), ValueError, "square matrix"),
        (lambda: Element.from_float([[float("nan")]]), ValueError, "NaN"),
        (lambda: Element.from_float([[1.0, 1.0], [1.0, 1.0 + 1e-16]]), ValueError, "numerically singular"),
        (lambda: Element.identity(2) @ Element.identity(3), ValueError, "sizes 2 and 3"),
        (lambda: Element(), TypeError, "from_exact"),
        (lambda: Element.from_float([[2.0]]).apply(np.array([Fraction(1)], dtype=object)), ValueError, "exactly"),
    ],
)
def test_bad_input_gets_one_clear_line(build, error, message):
    with pytest.raises(error, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)
