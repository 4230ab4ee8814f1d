"""The sympy expressions that derivations are made of; nothing here is ever evaluated or simplified.

Arrays of rank 1 are columns, arrays of rank 2 matrices; of arrays of higher rank the leading axes are written as
indices, so that every formula is one about matrices. sympy's own node classes are used where they exist; `ScalarOf` and
`ArrayOf` hold every other function by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import sympy
from sympy import Expr, Integer, Rational, Symbol
from sympy.core.symbol import Str
from sympy.matrices.expressions import (
    DiagMatrix,
    HadamardProduct,
    Identity,
    Inverse,
    MatAdd,
    MatMul,
    MatrixExpr,
    MatrixSymbol,
    OneMatrix,
    Transpose,
    ZeroMatrix,
)

Expression = Any
"""A sympy expression: ``Expr`` for scalars, ``MatrixExpr`` for arrays."""


class ScalarOf(Expr):  # type: ignore[misc]
    """A scalar function of arrays or scalars, held by its name: ``ScalarOf("norm", X)``."""

    is_commutative = True

    def __new__(cls, name: str | Str, *operands: Expression) -> ScalarOf:
        """``name`` applied to ``operands``, unevaluated."""
        return super().__new__(cls, Str(str(name)), *operands)  # type: ignore[no-any-return]

    @property
    def name(self) -> str:
        """The name of the function."""
        return str(self.args[0])

    @property
    def operands(self) -> tuple[Expression, ...]:
        """What it is applied to."""
        return tuple(self.args[1:])


class ArrayOf(MatrixExpr):  # type: ignore[misc]
    """A matrix or column that is a function, held by its name: ``ArrayOf("sqrt", (m, n), V)``."""

    def __new__(cls, name: str | Str, shape: Any, *operands: Expression) -> ArrayOf:
        """``name`` applied to ``operands``, unevaluated; the result has ``shape`` (rows, columns)."""
        return super().__new__(cls, Str(str(name)), sympy.Tuple(*shape), *operands)  # type: ignore[no-any-return]

    @property
    def shape(self) -> tuple[Expression, Expression]:
        """Rows and columns."""
        return tuple(self.args[1])

    @property
    def name(self) -> str:
        """The name of the function."""
        return str(self.args[0])

    @property
    def operands(self) -> tuple[Expression, ...]:
        """What it is applied to."""
        return tuple(self.args[2:])


def is_array(expression: Expression) -> bool:
    """Whether an expression is a matrix or a column rather than a scalar."""
    return bool(getattr(expression, "is_Matrix", False))


def is_zero(expression: Expression) -> bool:
    """Whether an expression is written as zero."""
    return isinstance(expression, ZeroMatrix) or bool(expression.is_Rational and expression == 0)


def number(value: Fraction | int) -> Expression:
    """An exact number."""
    return Rational(Fraction(value).numerator, Fraction(value).denominator)


def product(*factors: Expression) -> Expression:
    """A product of scalars and at most one chain of matrices; known numbers are gathered in front."""
    flat: list[Expression] = []
    for factor in factors:
        flat += factor.args if isinstance(factor, sympy.Mul | MatMul) else [factor]
    if any(is_zero(f) for f in flat):
        matrices = [f for f in flat if is_array(f)]
        return ZeroMatrix(matrices[0].shape[0], matrices[-1].shape[1]) if matrices else Integer(0)
    coefficient = sympy.prod([f for f in flat if f.is_Rational])
    rest = [f for f in flat if not f.is_Rational]
    rest.sort(key=lambda f: 2 if is_array(f) else not isinstance(f, Symbol))
    if coefficient != 1 or not rest:
        rest.insert(0, coefficient)
    if len(rest) == 1:
        return rest[0]
    if is_array(rest[-1]):
        return MatMul(*rest, evaluate=False)
    return sympy.Mul(*rest, evaluate=False)


def total(terms: list[Expression]) -> Expression:
    """A sum; sums among the terms are opened, zeros left out."""
    flat: list[Expression] = []
    for term in terms:
        flat += term.args if isinstance(term, sympy.Add | MatAdd) else [term]
    flat = [term for term in flat if not is_zero(term)] or flat[:1]
    if len(flat) == 1:
        return flat[0]
    if is_array(flat[0]):
        return MatAdd(*flat, evaluate=False)
    return sympy.Add(*flat, evaluate=False)


def power(base: Expression, exponent: Fraction) -> Expression:
    """A power of a scalar, or the entrywise power of an array."""
    if is_array(base):
        return ArrayOf("power", base.shape, base, number(exponent))
    return sympy.Pow(base, number(exponent), evaluate=False)


def transpose(matrix: Expression) -> Expression:
    """The transposed matrix; the transpose of a transpose is the matrix itself."""
    if isinstance(matrix, Transpose):
        return matrix.arg
    if isinstance(matrix, Identity | DiagMatrix):
        return matrix
    if is_zero(matrix):
        return ZeroMatrix(matrix.shape[1], matrix.shape[0])
    return Transpose(matrix)


def diagonal(column: Expression) -> Expression:
    """The diagonal matrix of a column; a reciprocal becomes the inverse of a diagonal matrix."""
    if isinstance(column, ArrayOf) and column.name == "reciprocal":
        return Inverse(DiagMatrix(column.operands[0]))
    return DiagMatrix(column)


def hadamard(factors: list[Expression]) -> Expression:
    """The entrywise product of arrays of one shape."""
    if any(is_zero(factor) for factor in factors):
        return ZeroMatrix(*factors[0].shape)
    return factors[0] if len(factors) == 1 else HadamardProduct(*factors, evaluate=False)


def ones(size: Expression) -> Expression:
    """The column of ones."""
    return OneMatrix(size, Integer(1))


def constant(scalar: Expression, shape: Any) -> Expression:
    """The array whose entries are all ``scalar``."""
    return ArrayOf("constant", shape, scalar)


def rebuild(expression: Expression, leaf: Callable[[Expression], Expression]) -> Expression:
    """The same tree with every leaf (symbol or number) replaced by ``leaf`` of it, again without evaluation.

    Leaves are met from left to right. Exponents and the shapes of arrays belong to the tree, not to its leaves.
    """
    if isinstance(expression, MatrixSymbol | Symbol) or expression.is_Rational:
        return leaf(expression)
    if isinstance(expression, sympy.Pow):
        return sympy.Pow(rebuild(expression.base, leaf), expression.exp, evaluate=False)
    if isinstance(expression, ScalarOf):
        return ScalarOf(expression.name, *(rebuild(item, leaf) for item in expression.operands))
    if isinstance(expression, ArrayOf):
        return ArrayOf(expression.name, expression.shape, *(rebuild(item, leaf) for item in expression.operands))
    if isinstance(expression, sympy.Add | sympy.Mul | MatAdd | MatMul | HadamardProduct):
        return expression.func(*(rebuild(item, leaf) for item in expression.args), evaluate=False)
    if isinstance(expression, Transpose | DiagMatrix | Inverse):
        return expression.func(rebuild(expression.args[0], leaf))
    return expression


def match(
    pattern: Expression, expression: Expression, free: frozenset[Expression], values: dict[Expression, Expression]
) -> bool:
    """Whether an expression is the pattern with numbers for the symbols ``free``; they are added to ``values``."""
    if pattern in free:
        return (expression.is_Rational or isinstance(expression, Symbol)) and values.setdefault(
            pattern, expression
        ) == expression
    if isinstance(pattern, MatrixSymbol | Symbol) or not pattern.args:
        return bool(pattern == expression)
    return (
        pattern.func == expression.func
        and len(pattern.args) == len(expression.args)
        and all(match(one, two, free, values) for one, two in zip(pattern.args, expression.args, strict=True))
    )


def without(expression: Expression, names: frozenset[str]) -> Expression:
    """The expression with these symbols replaced by zero, and zeros left out of its sums and products."""
    if isinstance(expression, MatrixSymbol | Symbol):
        if expression.name not in names:
            return expression
        return ZeroMatrix(*expression.shape) if is_array(expression) else Integer(0)
    if isinstance(expression, sympy.Add | MatAdd):
        return total([without(item, names) for item in expression.args])
    if isinstance(expression, sympy.Mul | MatMul):
        return product(*(without(item, names) for item in expression.args))
    if isinstance(expression, HadamardProduct):
        return hadamard([without(item, names) for item in expression.args])
    if isinstance(expression, Transpose):
        return transpose(without(expression.arg, names))
    if isinstance(expression, ScalarOf):
        return ScalarOf(expression.name, *(without(item, names) for item in expression.operands))
    if isinstance(expression, ArrayOf):
        return ArrayOf(expression.name, expression.shape, *(without(item, names) for item in expression.operands))
    if isinstance(expression, DiagMatrix | Inverse):
        return expression.func(without(expression.args[0], names))
    return expression


__all__ = [
    "ArrayOf",
    "DiagMatrix",
    "Expression",
    "HadamardProduct",
    "Identity",
    "Inverse",
    "MatAdd",
    "MatMul",
    "MatrixSymbol",
    "OneMatrix",
    "ScalarOf",
    "Transpose",
    "ZeroMatrix",
    "constant",
    "diagonal",
    "hadamard",
    "is_array",
    "is_zero",
    "match",
    "number",
    "ones",
    "power",
    "product",
    "rebuild",
    "total",
    "transpose",
    "without",
]
