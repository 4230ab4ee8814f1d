import json
from fractions import Fraction

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from groups import BLOCKS, CATALOGUE, Element, ExpertAction, ExpertElement, parse_action
from groups.images import image_element

few = hypothesis.settings(max_examples=6)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def same(left, right):
    return all((a == b).all() for a, b in zip(left, right, strict=True))


def pairing(left, right):
    return sum((a * b).sum() for a, b in zip(left, right, strict=True))


def floats(tensors):
    return tuple(tensor.astype(np.float64) for tensor in tensors)


def plus(left, right):
    return tuple(a + b for a, b in zip(left, right, strict=True))


@given(data=st.data())
@few
def test_group_axioms(action, shapes, data):
    g, h, k = (data.draw(action.elements(shapes)) for _ in range(3))
    one = action.identity(shapes)
    assert one.is_identity
    assert (g @ h) @ k == g @ (h @ k)
    assert one @ g == g @ one == g
    assert g @ ~g == ~g @ g == one
    assert ~(g @ h) == ~h @ ~g


@given(data=st.data())
@few
def test_action_is_a_homomorphism_exactly(action, shapes, fractions_like, data):
    g, h = data.draw(action.elements(shapes)), data.draw(action.elements(shapes))
    w = fractions_like(shapes, 1)
    for move in ("act", "act_linear", "act_dual"):
        once = getattr(g @ h, move)(w)
        twice = getattr(g, move)(getattr(h, move)(w))
        assert same(once, twice), move
    assert same(action.identity(shapes).act(w), w)


@given(data=st.data())
@few
def test_dual_pairing_and_linearity_exactly(action, shapes, fractions_like, data):
    g = data.draw(action.elements(shapes))
    w, v = fractions_like(shapes, 2), fractions_like(shapes, 3)
    assert pairing(g.act_dual(v), g.act_linear(w)) == pairing(v, w)
    assert same(g.act_linear(plus(w, v)), plus(g.act_linear(w), g.act_linear(v)))
    zero = tuple(tensor * 0 for tensor in w)
    assert same(g.act(w), plus(g.act_linear(w), g.act(zero)))
    for moved, shape in zip(g.act(zero), shapes, strict=True):
        # A translation is one row, repeated: 1 c^T.
        assert moved.shape == shape
        assert not action.shift or (moved == moved[..., :1, :]).all()
        assert action.shift or not moved.any()


def test_exact_elements_and_generators(action, shapes):
    elements, generators = action.exact(shapes), action.generators(shapes)
    assert len(set(elements)) == len(elements)
    for element in (*elements, *generators):
        assert element.is_exact
        assert not element.is_identity
        assert element.action == action
        assert action.element_from_json(json.loads(json.dumps(element.to_json()))) == element
    dyadic = [element.is_dyadic for element in elements]
    assert dyadic == sorted(dyadic, reverse=True)
    assert bool(elements) or str(action) == "1"


def growth(element):
    """How much larger than before the largest entry can become: at most two axes of a tensor share a variable."""
    if isinstance(element, ExpertElement):
        return max(map(growth, element.inner))
    norms = [max(np.linalg.norm(m, np.inf) for m in (v.matrix, v.dual.matrix)) for v in element.values]
    return float(np.prod(norms)) ** 2


def rounding(element, shapes):
    """A bound on the error of a moved entry of size 1.

    A matrix product over an axis of size n is off by at most n eps times the product of absolute values (Higham,
    section 3.5), on three axes and one addition; a matrix known in floating point is inverted with an error of n eps
    times its condition number, which the square of the growth bounds.
    """
    n = max(map(np.prod, shapes))
    return 4 * n * np.finfo(np.float64).eps * growth(element) ** 3


def test_exact_numpy_and_torch_agree(action, shapes, fractions_like):
    w = fractions_like(shapes, 4)
    for element in action.exact(shapes):
        for move in ("act", "act_linear", "act_dual"):
            exact = getattr(element, move)(w)
            numpy = getattr(element, move)(floats(w))
            torch_ = getattr(element, move)(tuple(map(torch.tensor, floats(w))))
            bound = rounding(element, shapes) * 5  # entries are at most 4, a translation adds at most 3
            for a, b, c in zip(exact, numpy, torch_, strict=True):
                assert isinstance(c, torch.Tensor)
                assert np.abs(a.astype(np.float64) - b).max() <= bound
                assert np.abs(c.numpy() - b).max() <= bound


def test_dyadic_elements_move_small_integers_without_rounding(action, shapes):
    values = np.random.default_rng(0).integers(-8, 9, size=sum(map(int, map(np.prod, shapes))))
    parts = np.split(values, np.cumsum([np.prod(shape) for shape in shapes])[:-1])
    w = tuple(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))
    exact = tuple(np.vectorize(Fraction, otypes=[object])(tensor) for tensor in w)
    for element in action.exact(shapes):
        if element.is_dyadic:
            assert same(floats(element.act(exact)), element.act(floats(w)))


def test_samples_are_members_and_satisfy_the_pairing(action, shapes, fractions_like):
    w, v = floats(fractions_like(shapes, 5)), floats(fractions_like(shapes, 6))
    samples = action.sample(shapes, 5, rng=rng())
    assert samples == action.sample(shapes, 5, rng=rng())
    assert len(samples) == 5
    for g in samples:
        assert action.element_from_json(json.loads(json.dumps(g.to_json()))) == g
        # Each factor is at most 4 g in size and wrong by at most 4 r; the sum runs over all entries.
        bound = 2 * 4**2 * sum(map(np.prod, shapes)) * growth(g) * rounding(g, shapes)
        assert abs(pairing(g.act_dual(v), g.act_linear(w)) - pairing(v, w)) <= bound


def test_batches_move_one_by_one(action, shapes, fractions_like):
    g = action.exact(shapes)[-1] if action.exact(shapes) else action.identity(shapes)
    w, v = fractions_like(shapes, 7), fractions_like(shapes, 8)
    batch = tuple(np.stack([a, b]) for a, b in zip(w, v, strict=True))
    for move in ("act", "act_linear", "act_dual"):
        together = getattr(g, move)(batch)
        assert same(tuple(t[0] for t in together), getattr(g, move)(w))
        assert same(tuple(t[1] for t in together), getattr(g, move)(v))


def test_results_are_new_contiguous_tensors(action, shapes, fractions_like):
    w = tuple(map(torch.tensor, floats(fractions_like(shapes, 9))))
    before = tuple(t.clone() for t in w)
    for g in (action.identity(shapes), *action.exact(shapes)[-2:]):
        for moved in (g.act(w), g.act_linear(w), g.act_dual(w)):
            assert all(t.is_contiguous() for t in moved)
            for t in moved:
                t.fill_(7.0)
        assert all(torch.equal(a, b) for a, b in zip(w, before, strict=True))


def moved_parts(element):
    """How many matrices, translations and permutations of an element are not the identity."""
    if isinstance(element, ExpertElement):
        return (not element.permutation.is_identity) + sum(map(moved_parts, element.inner))
    return sum(not value.is_identity for value in element.values) + sum(any(c or ()) for c in element.translations)


def test_strategy_shrinks_to_the_identity_and_to_one_part(action, shapes):
    phases = (hypothesis.Phase.generate, hypothesis.Phase.shrink)
    quick = hypothesis.settings(max_examples=60, database=None, phases=phases)
    elements = action.elements(shapes)
    assert hypothesis.find(elements, lambda element: True, settings=quick).is_identity
    if action.exact(shapes):
        simplest = hypothesis.find(elements, lambda element: not element.is_identity, settings=quick)
        assert moved_parts(simplest) == 1


def test_linear_part_and_duality_flags(action, shapes, fractions_like):
    assert not action.linear.shift
    assert action.linear.linear == action.linear
    w = fractions_like(shapes, 10)
    self_dual = all(same(g.act_linear(w), g.act_dual(w)) for g in action.exact(shapes))
    # An action that is not orthogonal really moves gradients in another way than displacements.
    assert self_dual == action.is_orthogonal


def test_restriction_is_what_happens_to_one_tensor(action, shapes, fractions_like):
    w = fractions_like(shapes, 11)
    for index, (name, shape) in enumerate(zip(action.tensors, shapes, strict=True)):
        alone = action.restrict(name)
        alone.check((shape,))
        if isinstance(action, ExpertAction):
            continue
        for g in action.exact(shapes):
            values = {
                new.variable: image_element(
                    action.groups[old.variable], g.values[action.variable_names.index(old.variable)], old.image
                )
                for new in alone.factors[0]
                for old in action.factors[index]
                if old.axis == new.axis
            }
            shift = {"W": g.translations[index]} if action.shifts[index] else {}
            assert same(alone.element((shape,), values, shift).act((w[index],)), (g.act(w)[index],))


def test_left_right_and_conjugation_conventions():
    a, b = Element.from_exact([[1, 2], [0, 1]]), Element.from_exact([[1, 0], [3, 2]])
    w = np.array([[Fraction(1), Fraction(2)], [Fraction(3), Fraction(5)]])
    dense = {"rows": np.array(a.exact), "cols": np.array(b.exact)}
    both = parse_action("GL(rows) x GL(cols)").element(((2, 2),), {"rows": a, "cols": b})
    assert (both.act((w,))[0] == dense["rows"] @ w @ dense["cols"].T).all()
    inverse = np.array((~a).exact)
    conjugation = parse_action("A(rows) x A*(cols) where A = GL").element(((2, 2),), {"A": a})
    assert (conjugation.act((w,))[0] == dense["rows"] @ w @ inverse).all()
    rescaling = CATALOGUE["neuron_scaling"]
    d = Element.from_exact([[2, 0], [0, -3]])
    up, down = rescaling.element(((2, 2), (2, 2)), {"D": d}).act((w, w))
    assert (down @ up == w @ w).all()
    shifted = parse_action("Shift(rows)").element(((2, 2),), translations={"W": [1, -1]})
    assert (shifted.act((w,))[0] == w + np.array([1, -1])).all()
    assert (shifted.act_linear((w,))[0] == w).all()
    assert (shifted.act_dual((w,))[0] == w).all()


def test_experts_move_by_their_own_element_and_then_change_places():
    block = parse_action("Perm(rows)")
    swap, still = Element.from_exact([[0, 1], [1, 0]]), Element.identity(2)
    inner = tuple(block.element(((2, 1),), {"rows": e}) for e in (swap, still, still))
    cycle = Element.from_exact([[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    g = block.over_experts().element(((3, 2, 1),), inner, cycle)
    w = np.arange(6.0).reshape(3, 2, 1)
    assert g.act((w,))[0].ravel().tolist() == [4, 5, 1, 0, 2, 3]


def test_entries_are_all_axes_of_the_tensor():
    action = parse_action("Perm(entries)")
    reverse = Element.from_exact(np.eye(8, dtype=int)[::-1].tolist())
    w = np.arange(8.0).reshape(2, 2, 2)
    assert action.element(((2, 2, 2),), {"entries": reverse}).act((w,))[0].ravel().tolist() == list(range(8))[::-1]


def test_catalogue_and_blocks_contain_actions_that_are_not_self_dual():
    assert not CATALOGUE["neuron_scaling"].is_orthogonal
    assert all(block.action.is_orthogonal for block in BLOCKS.values())


PAIR = ((2, 3), (3, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: parse_action("O(rows)").check(((2, 3), (2, 3))), ValueError, "expected 1 shapes"),
        (lambda: parse_action("O(rows)").check(((3,),)), ValueError, "no axis 'rows'"),
        (lambda: parse_action("O(rows)").check(((0, 3),)), ValueError, "empty axis"),
        (lambda: parse_action("Shift(rows)").check(((3,),)), ValueError, "needs rows and columns"),
        (
            lambda: parse_action("P(rows) x P(cols) where P = O").check(((2, 3),)),
            ValueError,
            "variable P has size 2 on W rows but 3 on W cols",
        ),
        (lambda: parse_action("U1[half](rows)").check(((3, 2),)), ValueError, "W rows: .*even, got 3"),
        (lambda: BLOCKS["experts"].action.check(((2, 3),)), ValueError, "stacks"),
        (
            lambda: parse_action("(a: O(rows); b: O(rows)) wr Perm(experts)").check(((2, 3, 1), (3, 3, 1))),
            ValueError,
            "same positive number of experts",
        ),
        (
            lambda: parse_action("Perm(rows)").element(((2, 1),), {"rows": Element.from_exact([[-1, 0], [0, 1]])}),
            ValueError,
            r"matrix of rows is not in Perm\(2\)",
        ),
        (
            lambda: parse_action("Perm(rows)").element(((2, 1),), {"P": Element.identity(2)}),
            ValueError,
            "nothing called 'P'",
        ),
        (lambda: parse_action("Shift(rows)").element(((2, 1),), translations={"W": [1, 2]}), ValueError, "2 entries"),
        (
            lambda: parse_action("O(rows)").identity(((2, 3),)).act((np.zeros((3, 2)),)),
            ValueError,
            r"has shape \(3, 2\)",
        ),
        (lambda: parse_action("O(rows)").identity(((2, 3),)).act(()), ValueError, "expected 1 tensors"),
        (
            lambda: parse_action("O(rows)").identity(((2, 3),)).act((np.zeros((2, 3), dtype=np.float32),)),
            TypeError,
            "dtype float32",
        ),
        (
            lambda: parse_action("O(rows)").identity(((2, 3),)) @ parse_action("O(cols)").identity(((2, 3),)),
            ValueError,
            "cannot multiply",
        ),
        (lambda: parse_action("O(rows)").element_from_json([]), ValueError, "'shapes'"),
        (
            lambda: parse_action("O(rows)").element_from_json({"shapes": [[2, 1]], "matrices": []}),
            ValueError,
            "objects",
        ),
        (
            lambda: parse_action("O(rows)").element_from_json({"shapes": [[1, 1]], "matrices": {"rows": [["a"]]}}),
            ValueError,
            "not the matrix of a group element",
        ),
        (
            lambda: parse_action("O(rows)").element_from_json({"shapes": [[1, 1]], "matrices": {"rows": [["2"]]}}),
            ValueError,
            r"not in O\(1\)",
        ),
        (
            lambda: parse_action("Shift(rows)").element_from_json({"shapes": [[1, 1]], "shift": {"W": ["x"]}}),
            ValueError,
            "list of finite numbers",
        ),
        (
            lambda: parse_action("Shift(rows)").element_from_json({"shapes": [[1, 1]], "shift": {"W": [float("nan")]}}),
            ValueError,
            "finite numbers",
        ),
        (lambda: BLOCKS["experts"].action.element_from_json({"shapes": [[2, 1, 1]]}), ValueError, "'inner'"),
        (
            lambda: parse_action("(1) wr Perm(experts)").element_from_json(
                {"shapes": [[1, 1, 1]], "inner": [{"shapes": [[1, 1]]}], "experts": [[1.0]]}
            ),
            ValueError,
            "exact permutation of size 1",
        ),
        (lambda: CATALOGUE["neuron_scaling"].restrict("gate"), ValueError, "known: up, down"),
        (lambda: parse_action("O(rows)").over_experts().over_experts(), ValueError, "nested"),
    ],
)
def test_bad_input_gets_one_clear_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_actions_on_a_gpu(action, shapes, fractions_like):
    w = floats(fractions_like(shapes, 12))
    for g in (*action.exact(shapes)[:3], *action.sample(shapes, 2, rng=rng())):
        for move in ("act", "act_linear", "act_dual"):
            here = getattr(g, move)(w)
            there = getattr(g, move)(tuple(torch.tensor(t, device="cuda") for t in w))
            for a, b in zip(here, there, strict=True):
                assert b.device.type == "cuda"
                # A few sums of products, in another order.
                assert np.abs(b.cpu().numpy() - a).max() <= 100 * np.finfo(np.float64).eps * max(1.0, np.abs(a).max())
