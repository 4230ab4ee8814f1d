"""Transposes taken into products: nothing changes but what the program looks like."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from symcheck.trace.builder import Builder
from symcheck.trace.interpret import interpret
from symcheck.trace.program import Program
from symcheck.trace.transposes import inline_transposes


@given(st.lists(st.sampled_from("tmga"), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_outputs_stay_and_products_use_no_transpose(moves: list[str], seed: int) -> None:
    builder = Builder()
    x = builder.input("grad:0", ((3,), (3,)), torch.float64)
    matrix = [[(0,), (1,)], [(1,), (2,)]], [(0,), (2,)]
    for move in moves:
        if move == "t":
            x = builder.transpose(x)
        elif move == "m":
            x = builder.contract([builder.transpose(x), x], *matrix)
        elif move == "g":
            x = builder.contract([x, builder.transpose(x)], *matrix)
        else:
            x = builder.add(x, builder.transpose(x))
    program = Program(tuple(builder.lines), {"weight:0": x.line})
    after, sizes, constants = inline_transposes(program, builder.sizes, builder.constants)
    inputs = {"grad:0": np.random.default_rng(seed).standard_normal((3, 3))}
    old = interpret(program, builder.constants, inputs, builder.sizes)[program.outputs["weight:0"]]
    new = interpret(after, constants, inputs, sizes)[after.outputs["weight:0"]]
    assert np.array_equal(old, new) or np.allclose(old, new, rtol=1e-12, atol=1e-12 * np.abs(old).max())
    for line in after.lines:
        if line.op == "contract":
            transposed = [
                operand
                for operand in line.operands
                if after.lines[operand].op == "contract" and len(after.lines[operand].operands) == 1
            ]
            assert not transposed
