"""Small functions that build expressions: the vocabulary of gradient rules and decompositions.

Operands are expressions; where a Python number is given, it becomes a constant of the other operand's dtype.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torsh.core.dtype import DType, get_default_dtype
from torsh.core.shape import broadcast_shapes
from torsh.core.symbolic import Dim
from torsh.ops.expr import CONSTANT_OP, TABLE, Expr, Shape, constant, emit, emit1, emit2

Operand = Any  # Expr or a Python number


def number(value: Any, dtype: DType) -> Expr:
    """A Python number as a constant of ``dtype``."""
    if type(value) is Dim and dtype.category == 2:
        return constant(value.tape.quotient(value), dtype)
    return constant((bool, int, float, complex)[dtype.category](value), dtype)


def _pair(a: Operand, b: Operand) -> tuple[Expr, Expr]:
    if not isinstance(a, Expr):
        return number(a, b.dtype), b
    return a, b if isinstance(b, Expr) else number(b, a.dtype)


def apply(name: str, *args: Expr, attr: Any = None) -> Expr:
    """The op called ``name`` on expressions."""
    return emit(TABLE[name], args, attr)


def binary(name: str, a: Operand, b: Operand) -> Expr:
    """A binary elementwise op; numbers take the other operand's dtype."""
    a, b = _pair(a, b)
    return emit2(TABLE[name], a, b)


# ---- arithmetic --------------------------------------------------------------------------------------------------------

def add(a: Operand, b: Operand) -> Expr:
    """a + b"""
    return binary("add", a, b)


def sub(a: Operand, b: Operand) -> Expr:
    """a - b"""
    return binary("sub", a, b)


def mul(a: Operand, b: Operand) -> Expr:
    """a * b"""
    return binary("mul", a, b)


def div(a: Operand, b: Operand) -> Expr:
    """a / b"""
    return binary("div", a, b)


def pow(a: Operand, b: Operand) -> Expr:
    """a ** b"""
    return binary("pow", a, b)


def maximum(a: Operand, b: Operand) -> Expr:
    """The larger one; NaN propagates."""
    return binary("maximum", a, b)


def minimum(a: Operand, b: Operand) -> Expr:
    """The smaller one; NaN propagates."""
    return binary("minimum", a, b)


def eq(a: Operand, b: Operand) -> Expr:
    """a == b"""
    return binary("eq", a, b)


def ne(a: Operand, b: Operand) -> Expr:
    """a != b"""
    return binary("ne", a, b)


def lt(a: Operand, b: Operand) -> Expr:
    """a < b"""
    return binary("lt", a, b)


def le(a: Operand, b: Operand) -> Expr:
    """a <= b"""
    return binary("le", a, b)


def gt(a: Operand, b: Operand) -> Expr:
    """a > b"""
    return binary("gt", a, b)


def ge(a: Operand, b: Operand) -> Expr:
    """a >= b"""
    return binary("ge", a, b)


def both(a: Expr, b: Expr) -> Expr:
    """Logical and of conditions."""
    return emit2(TABLE["bitwise_and"], a, b)


def either(a: Expr, b: Expr) -> Expr:
    """Logical or of conditions."""
    return emit2(TABLE["bitwise_or"], a, b)


def negate_condition(a: Expr) -> Expr:
    """Logical not of a condition."""
    return emit1(TABLE["logical_not"], a)


def unary(name: str, a: Expr) -> Expr:
    """A unary op by name."""
    return emit1(TABLE[name], a)


def neg(a: Expr) -> Expr:
    """-a"""
    return emit1(TABLE["neg"], a)


def exp(a: Expr) -> Expr:
    """e ** a"""
    return emit1(TABLE["exp"], a)


def log(a: Expr) -> Expr:
    """Natural logarithm."""
    return emit1(TABLE["log"], a)


def sqrt(a: Expr) -> Expr:
    """Square root."""
    return emit1(TABLE["sqrt"], a)


def absolute(a: Expr) -> Expr:
    """Absolute value."""
    return emit1(TABLE["abs"], a)


def real_with(e: Expr, *numbers: Any) -> Expr:
    """An expression as it takes part in arithmetic with these Python numbers: integers meet floats as floats."""
    if e.dtype.category < 2 and any(isinstance(v, float) for v in numbers):
        return cast(e, get_default_dtype())
    return e


def square(a: Expr) -> Expr:
    """a * a"""
    return emit2(TABLE["mul"], a, a)


def conj(a: Expr) -> Expr:
    """Complex conjugate; real expressions are returned as they are."""
    return emit1(TABLE["conj"], a) if a.dtype.is_complex else a


def where(condition: Expr, a: Operand, b: Operand) -> Expr:
    """a where the condition holds, else b."""
    a, b = _pair(a, b)
    return emit(TABLE["where"], (condition, a, b))


def cast(e: Expr, dtype: DType) -> Expr:
    """The expression in another dtype (itself if it has it)."""
    return e if e.dtype is dtype else emit1(TABLE["cast"], e, dtype.name)


# ---- shapes ------------------------------------------------------------------------------------------------------------

def reshape(e: Expr, shape: Shape) -> Expr:
    """The elements in another shape."""
    return e if e.shape == shape else emit1(TABLE["reshape"], e, tuple(shape))


def permute(e: Expr, axes: Sequence[int]) -> Expr:
    """Dimensions in another order."""
    axes = tuple(axes)
    return e if axes == tuple(range(len(axes))) else emit1(TABLE["permute"], e, axes)


def transpose(e: Expr, i: int, j: int) -> Expr:
    """Two dimensions exchanged (negative ones count from the end)."""
    axes = list(range(len(e.shape)))
    axes[i], axes[j] = axes[j], axes[i]
    return permute(e, axes)


def expand(e: Expr, shape: Shape) -> Expr:
    """Broadcast to a shape."""
    return e if e.shape == tuple(shape) else emit1(TABLE["expand"], e, tuple(shape))


def unsqueeze(e: Expr, dim: int) -> Expr:
    """A dimension of size 1 inserted."""
    dim = dim + len(e.shape) + 1 if dim < 0 else dim
    return reshape(e, (*e.shape[:dim], 1, *e.shape[dim:]))


def squeeze(e: Expr, dim: int) -> Expr:
    """A dimension of size 1 removed."""
    dim = dim + len(e.shape) if dim < 0 else dim
    return reshape(e, (*e.shape[:dim], *e.shape[dim + 1:]))


def restore(e: Expr, axes: Sequence[int], keepdim: bool, rank: int) -> Expr:
    """A reduction's result with its reduced dimensions as dimensions of size 1."""
    if keepdim:
        return e
    kept = iter(e.shape)
    return reshape(e, tuple([1 if axis in axes else next(kept) for axis in range(rank)]))


def slice_dim(e: Expr, dim: int, start: int, length: int, step: int = 1) -> Expr:
    """A slice of one dimension."""
    dim = dim + len(e.shape) if dim < 0 else dim
    spec = tuple([(start, length, step) if axis == dim else (0, n, 1) for axis, n in enumerate(e.shape)])
    return e if (start, length, step) == (0, e.shape[dim], 1) else emit1(TABLE["slice"], e, spec)


def select(e: Expr, dim: int, index: int) -> Expr:
    """One entry of a dimension."""
    return emit1(TABLE["select"], e, (dim + len(e.shape) if dim < 0 else dim, index))


def full(shape: Shape, value: Any, dtype: DType) -> Expr:
    """A number in every element."""
    return expand(number(value, dtype), tuple(shape))


def zeros_like(e: Expr) -> Expr:
    """Zeros in the shape and dtype of an expression."""
    return full(e.shape, 0, e.dtype)


def ones_like(e: Expr) -> Expr:
    """Ones in the shape and dtype of an expression."""
    return full(e.shape, 1, e.dtype)


def iota(shape: Shape, axis: int) -> Expr:
    """int64 index along an axis."""
    return emit(TABLE["iota"], (), (tuple(shape), axis))


def is_zero(e: Expr) -> bool:
    """Is the expression a constant zero, possibly expanded?"""
    while e.op.name in ("expand", "reshape"):
        e = e.args[0]
    return e.op is CONSTANT_OP and not e.attr[0]  # type: ignore[index]


# ---- reductions --------------------------------------------------------------------------------------------------------

def reduce(name: str, e: Expr, axes: Sequence[int], keepdim: bool = False) -> Expr:
    """A reduction by name; axes may be negative and in any order."""
    rank = len(e.shape)
    return emit1(TABLE[name], e, (tuple(sorted([a + rank if a < 0 else a for a in axes])), keepdim))


def reduce_sum(e: Expr, axes: Sequence[int], keepdim: bool = False) -> Expr:
    """Sum over axes; the expression itself if there are none."""
    return reduce("sum", e, axes, keepdim) if len(axes) else e


def reduce_mean(e: Expr, axes: Sequence[int], keepdim: bool = False) -> Expr:
    """Mean over axes."""
    return reduce("mean", e, axes, keepdim)


def reduce_amax(e: Expr, axes: Sequence[int], keepdim: bool = False) -> Expr:
    """Maximum over axes."""
    return reduce("amax", e, axes, keepdim)


def sum_to(e: Expr, shape: Shape) -> Expr:
    """Sum over the dimensions that broadcasting from ``shape`` to the expression's shape had added or stretched."""
    if e.shape == shape:
        return e
    extra = len(e.shape) - len(shape)
    axes = [axis for axis, n in enumerate(e.shape) if axis < extra or (shape[axis - extra] == 1 and n != 1)]
    return reshape(reduce_sum(e, axes, True), shape)


def gradient_for(a: Expr, g: Expr) -> Expr:
    """A gradient brought to the shape and dtype of the argument that it is for."""
    if g.shape != a.shape:
        g = sum_to(expand(g, broadcast_shapes(g.shape, a.shape)), a.shape)
    return cast(g, a.dtype)


def chain(g: Expr, factor: Expr) -> Expr:
    """Gradient times a derivative: conjugated, as PyTorch's convention for complex functions asks."""
    return emit2(TABLE["mul"], g, conj(factor))


def indicator(condition: Expr, dtype: DType) -> Expr:
    """1 where the condition holds, else 0."""
    return cast(condition, dtype)



