"""Axes: how dimensions that merge several of them meet others."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from symcheck.trace.builder import Builder, NotInVocabulary, Sym, refine

from .lowered import Lowered
from .test_lowering import normal, quick

FACTORS = st.lists(st.integers(2, 4), max_size=4).map(tuple)


def ops(builder: Builder) -> list[str]:
    return [line.op for line in builder.lines]


@given(FACTORS, st.data())
@quick
def test_a_refinement_refines(sizes: tuple[int, ...], data: st.DataObject) -> None:
    def merged(cuts: list[bool]) -> tuple[int, ...]:
        groups: list[list[int]] = []
        for size, cut in zip(sizes, cuts, strict=True):
            if cut or not groups:
                groups.append([])
            groups[-1].append(size)
        return tuple(math.prod(group) for group in groups)

    cuts = [data.draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes))) for _ in range(2)]
    union = merged([first or second for first, second in zip(*cuts, strict=True)])
    assert refine([merged(cut) for cut in cuts]) == union
    assert refine([sizes, union]) == sizes


def test_there_is_no_refinement_of_different_splits() -> None:
    with pytest.raises(NotInVocabulary, match="split in different ways"):
        refine([(2, 3), (3, 2)])


def test_constants_take_the_axes_they_meet() -> None:
    lowered = Lowered()
    builder = lowered.builder
    x = lowered.input(normal((6, 4), 0), merged=True)
    for constant in (builder.zero(((6,), (4,))), builder.full(((6,), (4,)), 2)):
        builder.add(x, constant)
    column = builder.expand_to(lowered.input(normal((6, 1), 1)), ((6,), (4,)))
    builder.expand_to(column, ((6,), (2, 2)))
    assert "along" not in ops(builder)


@pytest.mark.parametrize("scaled", [False, True])
def test_an_identity_matrix_takes_the_axes_it_meets(scaled: bool) -> None:
    lowered = Lowered()
    builder = lowered.builder
    tensor = normal((6, 6), 0)
    x = lowered.input(tensor, merged=True)
    eye = builder.scale(builder.eye(6), 0.5) if scaled else builder.eye(6)
    total = builder.add(x, eye)
    assert "along" not in ops(builder)
    assert total.dims == ((2, 3), (2, 3))
    assert torch.equal(lowered.value(total), tensor + (0.5 if scaled else 1) * torch.eye(6))


def test_an_identity_matrix_across_a_stack_is_split_entry_by_entry() -> None:
    lowered = Lowered()
    builder = lowered.builder
    tensor = normal((6, 6, 6), 0)
    x = Sym(lowered.input(tensor.reshape(6, 36)).line, ((6,), (36,)), torch.float64)
    stack = builder.reshape(x, (6, 2, 3, 2, 3)).with_dims([[6], [2, 3], [2, 3]])
    total = builder.add(stack, builder.eye(6).unsqueeze(1))
    assert torch.equal(lowered.value(total), tensor + torch.eye(6)[:, None])


@pytest.mark.parametrize("line", ["diagonal", "product"])
def test_what_is_not_an_identity_matrix_is_split_entry_by_entry(line: str) -> None:
    lowered = Lowered()
    builder = lowered.builder
    tensor = normal((6, 6), 0)
    x, eye, y = lowered.input(tensor, merged=True), builder.eye(6), lowered.input(tensor)
    letters = builder.letters(eye)
    if line == "diagonal":  # every column of it is the diagonal
        other = builder.expand_to(builder.contract([eye], [[(0,), (0,)]], [(0,)]), ((6,), (6,)))
        expected = torch.ones((6, 6), dtype=torch.float64)
    else:
        other = builder.contract([y, eye], [letters, letters], letters)
        expected = tensor * torch.eye(6)
    assert torch.equal(lowered.value(builder.add(x, other)), tensor + expected)


def test_an_axis_is_split_by_moving_entries() -> None:
    lowered = Lowered()
    x, y = lowered.input(normal((6,), 0), merged=True), lowered.input(normal((6,), 1))
    total = lowered.builder.mul(x, y)
    (along,) = [line for line in lowered.builder.lines if line.op == "along"]
    assert along.attributes["linear"]
    assert along.attributes["fn"] == "split"
    assert torch.equal(lowered.value(total), normal((6,), 0) * normal((6,), 1))


def test_a_value_cancels_its_negative() -> None:
    lowered = Lowered()
    builder = lowered.builder
    x, y = lowered.input(normal((2, 3), 0)), lowered.input(normal((2, 3), 1))
    assert builder.lines[builder.sub(x, x).line].op == "zero"
    assert builder.lines[builder.add(builder.neg(x), x).line].op == "zero"
    assert builder.neg(builder.neg(x)) == x
    assert builder.add(x, y, x, signs=(1, 1, -1)) == y
    assert torch.equal(lowered.value(builder.sub(y, builder.neg(x))), normal((2, 3), 1) + normal((2, 3), 0))
    assert torch.equal(lowered.value(builder.add(x, x)), 2 * normal((2, 3), 0))


def test_programs_of_all_shapes_are_equal() -> None:
    """Letters count from zero and sizes are nowhere."""
    programs = []
    for rows, cols in ((2, 3), (5, 4)):
        builder = Builder()
        x = builder.input("weight:0", ((rows,), (cols,)), torch.float64)
        y = builder.mul(builder.transpose(x), builder.number(2))
        norm = builder.map("sqrt", builder.sum(builder.mul(y, y), [0]))
        builder.add(y, norm, builder.zero(((cols,), (rows,))))
        programs.append([(line.op, line.operands, dict(line.attributes)) for line in builder.lines])
    assert programs[0] == programs[1]


def test_dimensions_of_size_one_have_no_axis() -> None:
    builder = Builder()
    x = builder.input("weight:0", ((), (3,)), torch.float64)
    assert builder.sum(x, [0]) == Sym(x.line, ((), (3,)), torch.float64)
    assert builder.symmetric("max", x, [0]).line == x.line
    assert builder.transpose(x) == Sym(x.line, ((3,), ()), torch.float64)
    assert x.squeeze([0]).unsqueeze(-1).shape == (3, 1)
    assert ops(builder) == ["input"]


def test_zeros_leave_no_trace() -> None:
    builder = Builder()
    x = builder.input("x", ((2,), (3,)), torch.float64)
    zero = builder.zero(((2,), (3,)))
    assert builder.lines[builder.mul(x, zero).line].op == "zero"
    assert builder.add(x, zero).line == x.line


@pytest.mark.parametrize("negative", [False, True])
def test_a_centred_value_has_no_sum(negative: bool) -> None:
    builder = Builder()
    x = builder.input("x", ((2,), (3,)), torch.float64)
    mean = builder.sum(x, [1], mean=True)
    centred = builder.add(x, builder.neg(mean)) if negative else builder.sub(x, mean)
    assert builder.lines[builder.sum(centred, [1]).line].op == "zero"
    assert builder.lines[builder.sum(centred, [0, 1], mean=True).line].op == "zero"
    assert builder.lines[builder.sum(centred, [0]).line].op == "contract"
    assert builder.lines[builder.sum(builder.add(x, mean), [1]).line].op == "contract"
    other = builder.sub(x, builder.sum(builder.mul(x, x), [1], mean=True))
    assert builder.lines[builder.sum(other, [1]).line].op == "contract"
    total = builder.sub(x, builder.sum(x, [1]))
    assert builder.lines[builder.sum(total, [1]).line].op == "contract"


def test_a_square_is_its_own_magnitude() -> None:
    builder = Builder()
    x = builder.input("x", ((2,), (3,)), torch.float64)
    square = builder.scale(builder.mul(x, x), 0.5)
    assert builder.map("abs", square).line == square.line
    for other in (x, builder.scale(builder.mul(x, x), -0.5), builder.mul(x, x, x)):
        assert builder.lines[builder.map("abs", other).line].op == "map"
