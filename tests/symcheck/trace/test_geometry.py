"""Views of memory, located and read back: whatever torch shows, the program says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symcheck.trace import storage as memory
from symcheck.trace.builder import Builder, NotInVocabulary, Sym, dims_of
from symcheck.trace.geometry import Layout, locate
from symcheck.trace.interpret import interpret
from symcheck.trace.program import Program
from symcheck.trace.storage import Region, Storage


class Box:
    """A tensor whose memory holds one input of a program."""

    def __init__(self, shape: tuple[int, ...], splits: tuple[tuple[int, ...], ...] | None = None) -> None:
        self.tensor = torch.arange(1.0, np.prod(shape) + 1, dtype=torch.float64).reshape(shape)
        self.start = self.tensor.numpy().copy()
        self.builder = Builder()
        value = self.builder.input("weight:0", splits or dims_of(shape), torch.float64)
        self.axes = value.axes
        self.storage = Storage(self.tensor.untyped_storage(), 0)
        memory.write(self.builder, self.storage, self.tensor, value)

    def shown(self, tensor: torch.Tensor) -> np.ndarray:
        """What the program says that ``tensor`` shows."""
        value = memory.read(self.builder, self.storage, tensor)
        return self.value(value).reshape(tensor.shape)

    def value(self, value: Sym) -> np.ndarray:
        program = Program(tuple(self.builder.lines), {"weight:0": value.line})
        inputs = {"weight:0": self.start.reshape(self.axes)}
        return interpret(program, self.builder.constants, inputs, self.builder.sizes)[value.line]

    def assign(self, tensor: torch.Tensor, line: float) -> None:
        """Overwrite what ``tensor`` shows by its square plus a number, in torch and in the program."""
        builder = self.builder
        before = memory.read(builder, self.storage, tensor)
        memory.write(
            builder, self.storage, tensor, builder.add(builder.mul(before, before), builder.number(line), signs=[1, -1])
        )
        tensor.copy_(tensor * tensor - line)

    @property
    def ops(self) -> list[str]:
        return [line.op for line in self.builder.lines]


@st.composite
def views(draw: st.DrawFn, tensor: torch.Tensor, *, expand: bool = True) -> torch.Tensor:
    """A chain of up to four views of ``tensor``."""
    for _ in range(draw(st.integers(0, 4))):
        tensor = draw(st.sampled_from(_STEPS if expand else _STEPS[:-1]))(draw, tensor)
    return tensor


def _permute(draw: st.DrawFn, x: torch.Tensor) -> torch.Tensor:
    return x.permute(draw(st.permutations(range(x.dim()))))


def _slice(draw: st.DrawFn, x: torch.Tensor) -> torch.Tensor:
    if not x.dim():
        return x
    dim = draw(st.integers(0, x.dim() - 1))
    start = draw(st.integers(0, x.shape[dim] - 1))
    stop = draw(st.integers(start + 1, x.shape[dim]))
    return x[(slice(None),) * dim + (slice(start, stop, draw(st.integers(1, 3))),)]


def _select(draw: st.DrawFn, x: torch.Tensor) -> torch.Tensor:
    if not x.dim():
        return x
    dim = draw(st.integers(0, x.dim() - 1))
    return x.select(dim, draw(st.integers(0, x.shape[dim] - 1)))


def _merge(draw: st.DrawFn, x: torch.Tensor) -> torch.Tensor:
    if x.dim() < 2:
        return x
    dim = draw(st.integers(0, x.dim() - 2))
    try:
        return x.view(*x.shape[:dim], -1, *x.shape[dim + 2 :])
    except RuntimeError:
        return x


def _split(draw: st.DrawFn, x: torch.Tensor) -> torch.Tensor:
    if not x.dim():
        return x.unsqueeze(0)
    dim = draw(st.integers(0, x.dim() - 1))
    first = draw(st.sampled_from([size for size in range(1, x.shape[dim] + 1) if x.shape[dim] % size == 0]))
    return x.unflatten(dim, (first, -1))


def _diagonal(draw: st.DrawFn, x: torch.Tensor) -> torch.Tensor:
    if x.dim() < 2:
        return x
    first, second = draw(st.permutations(range(x.dim())))[:2]
    offset = draw(st.sampled_from([0, 0, 1, -1]))
    found = x.diagonal(offset, first, second)
    return found if found.numel() else x


def _expand(draw: st.DrawFn, x: torch.Tensor) -> torch.Tensor:
    return x.unsqueeze(0).expand(draw(st.integers(1, 3)), *x.shape)


_STEPS = [_permute, _slice, _select, _merge, _split, _diagonal, _expand]
SHAPES = st.lists(st.integers(1, 4), min_size=0, max_size=4).map(tuple)


@given(data=st.data(), shape=SHAPES)
@settings(max_examples=50, deadline=None)
def test_any_view_is_read_as_torch_shows_it(data: st.DataObject, shape: tuple[int, ...]) -> None:
    box = Box(shape)
    view = data.draw(views(box.tensor))
    assert np.array_equal(box.shown(view), view.numpy())


@given(data=st.data(), shape=SHAPES)
@settings(max_examples=50, deadline=None)
def test_writes_through_views_are_seen_by_every_other_view(data: st.DataObject, shape: tuple[int, ...]) -> None:
    box = Box(shape)
    other = data.draw(views(box.tensor))
    for number in range(data.draw(st.integers(1, 3))):
        view = data.draw(views(box.tensor, expand=False))
        try:
            box.assign(view, float(number))
        except NotInVocabulary:  # the diagonal of a stack: refused, and nothing is known to have changed
            return
    for view in (other, box.tensor, data.draw(views(box.tensor))):
        # Squares of integers up to 256, three times squared, are exact in float64 only up to 2^53.
        np.testing.assert_allclose(box.shown(view), view.numpy(), rtol=8 * 2.0**-53)


@given(
    data=st.data(),
    offset=st.integers(0, 5),
    sizes=st.lists(st.integers(1, 4), max_size=3),
    strides=st.lists(st.integers(0, 7), min_size=3, max_size=3),
)
@settings(max_examples=50, deadline=None)
def test_arbitrary_strides_are_read_or_refused(data: st.DataObject, offset: int, sizes, strides) -> None:
    box = Box((4, 6))
    strides = strides[: len(sizes)]
    end = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if end < 24:
        view = box.tensor.as_strided(sizes, strides, offset)
        assert np.array_equal(box.shown(view), view.numpy())


def test_what_costs_nothing_emits_nothing() -> None:
    box = Box((4, 6))
    for view in (box.tensor, box.tensor.view(-1), box.tensor[None], box.tensor.view(4, 6, 1)):
        memory.read(box.builder, box.storage, view)
    assert box.ops == ["input"]
    assert memory.read(box.builder, box.storage, box.tensor.view(-1)).dims == ((4, 6),)


def test_a_split_parameter_needs_no_reshape() -> None:
    box = Box((6, 4), splits=((2, 3), (4,)))
    assert memory.read(box.builder, box.storage, box.tensor.view(2, 3, 4)).dims == ((2,), (3,), (4,))
    assert memory.read(box.builder, box.storage, box.tensor.t().unflatten(1, (2, 3))).dims == ((4,), (2,), (3,))
    assert box.ops == ["input", "contract"]


def test_permutations_and_diagonals_are_contractions() -> None:
    box = Box((4, 4))
    assert np.array_equal(box.shown(box.tensor.t()), box.tensor.t().numpy())
    assert np.array_equal(box.shown(box.tensor.diagonal()), box.tensor.diagonal().numpy())
    assert box.ops == ["input", "contract", "contract"]


def test_a_number_added_to_the_diagonal_is_a_multiple_of_the_identity() -> None:
    box = Box((3, 3))
    builder = box.builder
    diagonal = memory.read(builder, box.storage, box.tensor.diagonal())
    memory.write(builder, box.storage, box.tensor.diagonal(), builder.add(diagonal, builder.number(5)))
    box.tensor.diagonal().add_(5)
    assert np.array_equal(box.shown(box.tensor), box.tensor.numpy())
    (term,) = [line for line in builder.lines if line.op == "contract" and len(line.operands) == 2]
    assert builder.lines[term.operands[0]].op == "eye"
    assert all(-1 not in line.attributes["signs"] for line in builder.lines if line.op == "add")


def test_overlapping_writes_are_refused() -> None:
    box = Box((6,))
    windows = box.tensor.as_strided((4, 3), (1, 1))
    assert np.array_equal(box.shown(windows), windows.numpy())
    value = memory.read(box.builder, box.storage, windows)
    with pytest.raises(NotInVocabulary, match="overlap"):
        memory.write(box.builder, box.storage, windows, value)


def test_a_row_written_keeps_the_columns_apart() -> None:
    box = Box((4, 3))
    box.assign(box.tensor[1], 2.0)
    assert np.array_equal(box.shown(box.tensor), box.tensor.numpy())
    (place,) = [line for line in box.builder.lines if line.attributes.get("fn") == "place"]
    assert place.attributes["axes"] == [[0], []]
    assert place.attributes["out"] == [["new"], ["batch", 1]]


def test_memory_is_written_piece_by_piece() -> None:
    builder = Builder()
    buffer = torch.empty(6, dtype=torch.float64)
    storage = Storage(buffer.untyped_storage(), 0)
    first, second = (builder.input(f"grad:{n}", dims, torch.float64) for n, dims in enumerate([((2,),), ((2, 2),)]))
    memory.write(builder, storage, buffer[:2], first)
    memory.write(builder, storage, buffer[2:], second)
    assert memory.read(builder, storage, buffer[2:].view(2, 2)) == Sym(second.line, ((2,), (2,)), torch.float64)
    assert builder.lines[memory.read(builder, storage, buffer).line].op == "undefined"
    with pytest.raises(NotInVocabulary, match="other memory"):
        memory.write(builder, storage, buffer[1:4], builder.full(((3,),), 0))


def test_memory_read_as_another_type_is_refused() -> None:
    box = Box((4,))
    with pytest.raises(NotInVocabulary, match="read as"):
        box.shown(box.tensor.view(torch.int64))


def test_regions_of_nothing_known_are_not_guessed() -> None:
    layout = Layout((4, 6), (8, 1), 0)  # rows with a gap of two
    assert locate(layout, (4, 8), (8, 1), 0) is None
    assert locate(layout, (4,), (8,), 6) is None
    found = locate(layout, (4, 3), (8, 2), 1)
    assert found is not None
    assert found.take == (1, 3, 5)


def test_a_view_of_zeros_is_zero() -> None:
    builder = Builder()
    buffer = torch.zeros(6, dtype=torch.float64)
    storage = Storage(buffer.untyped_storage(), 0)
    storage.regions = [Region(Layout((6,), (1,), 0), builder.zero(((6,),)).line, torch.float64)]
    assert builder.lines[memory.read(builder, storage, buffer.view(2, 3)).line].op == "zero"
