"""Products of matrices and what is made of them: matmul, linear, bilinear, tensordot, einsum.

``matmul`` is the primitive: batched, with broadcast leading dimensions, both arguments at least 2-D and of one dtype.
"""
from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, bool_, from_numpy_dtype
from torsh.core.errors import DTypeError, InvalidArgumentError, ShapeMismatchError
from torsh.core.promotion import SCALAR_TYPE_NAMES, not_implemented
from torsh.core.shape import broadcast_shapes, normalise_dim
from torsh.ops.common import (
    add,
    apply,
    cast,
    conj,
    expand,
    mul,
    permute,
    reduce_sum,
    reshape,
    select,
    squeeze,
    sub,
    sum_to,
    transpose,
    unsqueeze,
)
from torsh.ops.define import Array, convert, wide
from torsh.ops.expr import OPAQUE, Expr, Op, Shape, emit, emit2

LARGE_COMPLEX: Final = 1 << 22   # multiplications from which on the parts of complex numbers are worth taking apart

MANY: Final = 4                  # thin products whose sum is one product of joined operands

# ---- matmul ------------------------------------------------------------------------------------------------------------

def check_product(name: str, a: Expr, b: Expr) -> None:
    """Raise PyTorch's errors for matrices (the last two dimensions) that cannot be multiplied."""
    if a.dtype is not b.dtype:
        raise DTypeError(f"{name}: mat1 and mat2 must have the same dtype, but got {SCALAR_TYPE_NAMES[a.dtype.name]} and "
                         f"{SCALAR_TYPE_NAMES[b.dtype.name]}")
    if a.dtype is bool_:
        raise not_implemented(name, a.dtype)
    if a.shape[-1] == b.shape[-2]:
        return
    if len(a.shape) > 2 and len(b.shape) > 2:
        batch = prod(broadcast_shapes(a.shape[:-2], b.shape[:-2]))
        raise ShapeMismatchError(f"Expected size for first two dimensions of batch2 tensor to be: [{batch}, {a.shape[-1]}] "
                                 f"but got: [{batch}, {b.shape[-2]}].")
    rows = prod(a.shape[:-1])
    raise ShapeMismatchError(f"mat1 and mat2 shapes cannot be multiplied ({rows}x{a.shape[-1]} and "
                             f"{b.shape[-2]}x{b.shape[-1]})")


def _matmul_infer(attr: None, a: Expr, b: Expr) -> tuple[Shape, DType]:
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise ShapeMismatchError(f"matmul: both arguments must have at least 2 dimensions, got shapes {list(a.shape)} and "
                                 f"{list(b.shape)}")
    check_product("matmul", a, b)
    return (*broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), a.dtype


def _matmul_reference(attr: None, a: Any, b: Any) -> Array:
    dtype = from_numpy_dtype(np.asarray(a).dtype)
    with np.errstate(all="ignore"):
        return convert(np.matmul(convert(a, wide(dtype)), convert(b, wide(dtype))), dtype)


def rows_of(e: Expr) -> Expr:
    """The expression as one matrix: all leading dimensions become rows."""
    return reshape(e, (prod(e.shape[:-1]), e.shape[-1]))


def matmul(a: Expr, b: Expr) -> Expr:
    """The product of matrices, batched."""
    return emit2(MATMUL if a.dtype.category < 3 else COMPLEX_MATMUL, a, b)


def summed_products(a: Expr, b: Expr) -> Expr:
    """The sum over the first dimension of a[n] @ b[n]."""
    n, rows, inner = a.shape[0], a.shape[-2], a.shape[-1]
    columns = b.shape[-1]
    if n == 1:
        return reshape(matmul(a, b), (*a.shape[1:-1], columns))
    # Either the products are written and added, or the operands are rearranged so that one product does it all.
    if rows * columns <= inner * (rows + columns):
        return reduce_sum(matmul(a, b), (0,))
    rank = len(a.shape)
    left = permute(a, (*range(1, rank - 1), 0, rank - 1))
    right = permute(b, (*range(1, rank - 2), 0, rank - 2, rank - 1))
    return matmul(reshape(left, (*a.shape[1:-1], n * inner)), reshape(right, (*b.shape[1:-2], n * inner, columns)))


def sum_of(pieces: Sequence[Expr]) -> Expr:
    """The sum of expressions of one shape.

    Products of matrices that are larger than their operands (the gradients of a weight that many steps of a recurrence use) are
    one product of the joined operands: it is written once.
    """
    thin = [e for e in pieces if e.op is MATMUL and len(e.shape) == 2
            and 2 * e.args[0].shape[1] * (e.shape[0] + e.shape[1]) < e.shape[0] * e.shape[1]] if len(pieces) >= MANY else []
    if len(thin) >= MANY:
        chosen = set(thin)
        pieces = [_joined_products(thin), *[e for e in pieces if e not in chosen]]
    total = pieces[0]
    for piece in pieces[1:]:
        total = add(total, piece)
    return total


def _joined_products(products: Sequence[Expr]) -> Expr:
    """The sum of a[n] @ b[n] as one product."""
    left, right = [e.args[0] for e in products], [e.args[1] for e in products]
    if all(a.op.name == "transpose" for a in left):
        joined = transpose(apply("cat", *[a.args[0] for a in left], attr=0), 0, 1)
    else:
        joined = apply("cat", *left, attr=1)
    return matmul(joined, apply("cat", *right, attr=0))


def _shared(e: Expr, result: Expr) -> bool:
    """Is one matrix used for all of a batch?"""
    return len(result.shape) > 2 and prod(e.shape[:-2]) == 1


def _left_gradient(a: Expr, b: Expr, g: Expr) -> Expr:
    turned = transpose(conj(b), -1, -2)
    if _shared(a, g):
        count = prod(g.shape[:-2])
        full_b = expand(turned, (*g.shape[:-2], *turned.shape[-2:]))
        out = summed_products(reshape(g, (count, *g.shape[-2:])), reshape(full_b, (count, *turned.shape[-2:])))
        return reshape(out, a.shape)
    return sum_to(matmul(g, turned), a.shape)


def _right_gradient(a: Expr, b: Expr, g: Expr) -> Expr:
    if _shared(b, g):
        full_a = expand(conj(a), (*g.shape[:-2], *a.shape[-2:]))
        return reshape(matmul(transpose(rows_of(full_a), 0, 1), rows_of(g)), b.shape)
    return sum_to(matmul(transpose(conj(a), -1, -2), g), b.shape)


def _matmul_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    a, b = e.args
    return (_left_gradient(a, b, g) if a.requires_grad else None, _right_gradient(a, b, g) if b.requires_grad else None)


MATMUL: Final[Op] = Op("matmul", _matmul_infer, _matmul_reference, gradient=_matmul_gradient, kind=OPAQUE)


def _small_complex(e: Expr) -> Expr | None:
    """The primitive, where taking complex numbers apart costs more than products of their parts save."""
    return emit(MATMUL, e.args) if prod(e.shape) * e.args[0].shape[-1] < LARGE_COMPLEX else None


def _by_parts(e: Expr) -> Expr:
    """Four products of real matrices: the parts, read in place by their strides."""
    (a, a_imag), (b, b_imag) = [[select(apply("view_as_real", x), -1, part) for part in (0, 1)] for x in e.args]
    real = sub(matmul(a, b), matmul(a_imag, b_imag))
    imag = add(matmul(a, b_imag), matmul(a_imag, b))
    return apply("view_as_complex", apply("cat", unsqueeze(real, -1), unsqueeze(imag, -1), attr=len(e.shape)))


COMPLEX_MATMUL: Final[Op] = Op("complex_matmul", _matmul_infer, _matmul_reference, gradient=_matmul_gradient,
                               decompose=_by_parts, template=_small_complex)


def matmul_expr(a: Expr, b: Expr) -> Expr:
    """``a @ b`` with PyTorch's rules for vectors: a 1-D operand is a row (left) or a column (right), removed afterwards."""
    m, n = len(a.shape), len(b.shape)
    if m == 0 or n == 0:
        raise ShapeMismatchError(f"both arguments to matmul need to be at least 1D, but they are {m}D and {n}D")
    if m == 1 and n == 1 and a.shape != b.shape:
        raise ShapeMismatchError(f"inconsistent tensor size, expected tensor [{a.shape[0]}] and src [{b.shape[0]}] to have "
                                 f"the same number of elements, but got {a.shape[0]} and {b.shape[0]} elements respectively")
    if m == 2 and n == 1 and a.shape[1] != b.shape[0]:
        raise ShapeMismatchError(f"size mismatch, got input ({a.shape[0]}), mat ({a.shape[0]}x{a.shape[1]}), vec "
                                 f"({b.shape[0]})")
    out = matmul(a if m > 1 else unsqueeze(a, 0), b if n > 1 else unsqueeze(b, 1))
    if n == 1:
        out = squeeze(out, -1)
    return squeeze(out, -2 if n > 1 else -1) if m == 1 else out


# ---- linear ------------------------------------------------------------------------------------------------------------

def _linear_infer(attr: None, x: Expr, weight: Expr, *bias: Expr) -> tuple[Shape, DType]:
    if not x.shape or len(weight.shape) != 2:
        raise ShapeMismatchError(f"linear: needs an input with at least one dimension and a 2-D weight, got shapes "
                                 f"{list(x.shape)} and {list(weight.shape)}")
    for other in (weight, *bias):
        if other.dtype is not x.dtype:
            raise DTypeError(f"linear: mat1 and mat2 must have the same dtype, but got {SCALAR_TYPE_NAMES[x.dtype.name]} "
                             f"and {SCALAR_TYPE_NAMES[other.dtype.name]}")
    if x.dtype is bool_:
        raise not_implemented("linear", x.dtype)
    outputs, inputs = weight.shape
    if x.shape[-1] != inputs:
        raise ShapeMismatchError(f"linear: mat1 and mat2 shapes cannot be multiplied ({prod(x.shape[:-1])}x{x.shape[-1]} "
                                 f"and {inputs}x{outputs})")
    if bias and bias[0].shape not in ((outputs,), (1,), ()):
        raise ShapeMismatchError(f"linear: the bias of shape {list(bias[0].shape)} does not fit a weight of shape "
                                 f"{list(weight.shape)}; expected [{outputs}]")
    return (*x.shape[:-1], outputs), x.dtype


def _linear_reference(attr: None, x: Any, weight: Any, *bias: Any) -> Array:
    dtype = from_numpy_dtype(np.asarray(x).dtype)
    x, weight, *bias = [convert(v, wide(dtype)) for v in (x, weight, *bias)]  # type: ignore[assignment]
    with np.errstate(all="ignore"):
        out = np.matmul(x, np.transpose(weight))
        return convert(out + bias[0] if bias else out, dtype)


def _linear(e: Expr) -> Expr:
    x, weight, *bias = e.args
    out = matmul(x if len(x.shape) > 1 else unsqueeze(x, 0), transpose(weight, 0, 1))
    out = add(out, bias[0]) if bias else out
    return reshape(out, e.shape)


def _linear_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    x, weight, *bias = e.args
    rows = rows_of(g)
    grads: list[Expr | None] = [None, None]
    if x.requires_grad:
        grads[0] = matmul(g, conj(weight)) if len(g.shape) > 1 else reshape(matmul(rows, conj(weight)), x.shape)
    if weight.requires_grad:
        grads[1] = matmul(transpose(rows, 0, 1), rows_of(conj(x)))
    if bias:
        grads.append(sum_to(g, bias[0].shape) if bias[0].requires_grad else None)
    return tuple(grads)


# args: x (..., inputs), weight (outputs, inputs), bias (outputs) optional
LINEAR: Final[Op] = Op("linear", _linear_infer, _linear_reference, gradient=_linear_gradient, decompose=_linear)


def linear_expr(x: Expr, weight: Expr, bias: Expr | None = None) -> Expr:
    """``x @ weight.T + bias``; weight: (outputs, inputs), or (inputs,) for one output without a dimension of its own."""
    if len(weight.shape) == 1:
        out = matmul_expr(x, weight)
        return out if bias is None else add(out, bias)
    return emit(LINEAR, (x, weight) if bias is None else (x, weight, bias))


def bilinear_expr(a: Expr, b: Expr, weight: Expr, bias: Expr | None = None) -> Expr:
    """``out[..., o] = sum(a[..., i] * weight[o, i, j] * b[..., j]) + bias[o]``."""
    if a.shape[:-1] != b.shape[:-1]:
        raise ShapeMismatchError(f"bilinear(): input batch dimensions do not match: got {list(a.shape)} and {list(b.shape)}")
    outputs, i, j = weight.shape
    if (a.shape[-1], b.shape[-1]) != (i, j):
        raise ShapeMismatchError(f"bilinear(): input sizes {a.shape[-1]} and {b.shape[-1]} do not match the weight of shape "
                                 f"{list(weight.shape)}")
    spread = reshape(permute(weight, (1, 0, 2)), (i, outputs * j))
    rows = reshape(matmul(rows_of(a), spread), (prod(a.shape[:-1]), outputs, j))
    out = reshape(matmul(rows, unsqueeze(rows_of(b), 2)), (*a.shape[:-1], outputs))
    return out if bias is None else add(out, bias)


# ---- tensordot ---------------------------------------------------------------------------------------------------------

def tensordot_expr(a: Expr, b: Expr, left: Sequence[int], right: Sequence[int]) -> Expr:
    """Products summed over dimensions ``left`` of a and ``right`` of b; the other dimensions of a, then those of b."""
    if len(left) != len(right):
        raise ShapeMismatchError("both dimension lists should have same length")
    first = [normalise_dim(d, len(a.shape)) for d in left]
    second = [normalise_dim(d, len(b.shape)) for d in right]
    for i, j in zip(first, second, strict=True):
        m, n = a.shape[i], b.shape[j]
        if m != n and m != 1 and n != 1:
            raise ShapeMismatchError(f"contracted dimensions need to match, but first has size {m} in dim {i} and second "
                                     f"has size {n} in dim {j}")
        # A dimension of size 1 against a longer one: the longer one is summed.
        a = _summed(a, i) if n == 1 != m else a
        b = _summed(b, j) if m == 1 != n else b
    kept_a = [d for d in range(len(a.shape)) if d not in first]
    kept_b = [d for d in range(len(b.shape)) if d not in second]
    inner = prod([a.shape[d] for d in first])
    shape = (*[a.shape[d] for d in kept_a], *[b.shape[d] for d in kept_b])
    x = reshape(permute(a, kept_a + first), (prod(shape[:len(kept_a)]), inner))
    y = reshape(permute(b, second + kept_b), (inner, prod(shape[len(kept_a):])))
    return reshape(matmul(x, y), shape)


def _summed(e: Expr, axis: int) -> Expr:
    return cast(reduce_sum(e, (axis,), True), e.dtype)


# ---- einsum ------------------------------------------------------------------------------------------------------------

Labels = tuple[str, ...]


def _subscripts(text: str, start: int) -> list[str]:
    """The labels of one operand; "..." for an ellipsis."""
    labels: list[str] = []
    position = 0
    while position < len(text):
        c = text[position]
        if c == " ":
            position += 1
        elif text.startswith("...", position):
            if "..." in labels:
                raise InvalidSubscriptsError(f"einsum(): found '.' for operand {start} for which an ellipsis was already "
                                             "found")
            labels.append("...")
            position += 3
        elif c.isascii() and c.isalpha():
            labels.append(c)
            position += 1
        else:
            raise InvalidSubscriptsError(f"einsum(): invalid subscript given at index {position} in the equation string, "
                                         "subscripts must be in [a-zA-Z]")
    return labels


class InvalidSubscriptsError(InvalidArgumentError, RuntimeError):
    """An equation of einsum that cannot be read, or does not fit its operands (also a RuntimeError)."""


def _explicit(labels: list[str], rank: int | None, number: int) -> Labels:
    """Labels with the ellipsis replaced by one label per dimension, counted from the right."""
    if "..." not in labels:
        if rank is not None and len(labels) != rank:
            raise InvalidSubscriptsError(
                f"einsum(): the number of subscripts in the equation ({len(labels)}) does not match the number of "
                f"dimensions ({rank}) for operand {number} and no ellipsis was given")
        return tuple(labels)
    assert rank is not None
    extra = rank - (len(labels) - 1)
    if extra < 0:
        raise InvalidSubscriptsError(f"einsum(): the number of subscripts in the equation ({len(labels) - 1}) is more than "
                                     f"the number of dimensions ({rank}) for operand {number}")
    at = labels.index("...")
    return (*labels[:at], *[f"...{extra - 1 - i}" for i in range(extra)], *labels[at + 1:])


def _parse(equation: str, operands: Sequence[Expr]) -> tuple[list[Labels], Labels]:
    """Labels of the operands and of the result."""
    left, arrow, right = equation.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(operands):
        word = "more" if len(operands) > len(inputs) else "fewer"
        raise InvalidSubscriptsError(f"einsum(): {word} operands were provided than specified in the equation")
    lists = [_explicit(_subscripts(text, i), len(e.shape), i)
             for i, (text, e) in enumerate(zip(inputs, operands, strict=True))]
    dots = sorted({x for labels in lists for x in labels if len(x) > 1}, key=lambda x: -int(x[3:]))
    if not arrow:
        counts: dict[str, int] = {}
        for labels in lists:
            for x in labels:
                counts[x] = counts.get(x, 0) + 1
        return lists, (*dots, *sorted(x for x, n in counts.items() if n == 1 and len(x) == 1))
    output: list[str] = []
    for x in _subscripts(right, len(inputs)):
        output += dots if x == "..." else [x]
    known = {x for labels in lists for x in labels}
    for x in output:
        if x not in known:
            raise InvalidSubscriptsError(f"einsum(): output subscript {x} does not appear in the equation for any input "
                                         "operand")
        if output.count(x) > 1:
            raise InvalidSubscriptsError(f"einsum(): output subscript {x} appears more than once in the output")
    return lists, tuple(output)


def _diagonals(e: Expr, labels: Labels, number: int) -> tuple[Expr, Labels]:
    """Repeated labels of one operand replaced by diagonals."""
    while len(set(labels)) < len(labels):
        x = next(x for x in labels if labels.count(x) > 1)
        i = labels.index(x)
        j = labels.index(x, i + 1)
        if e.shape[i] != e.shape[j]:
            raise InvalidSubscriptsError(f"einsum(): subscript {x} is repeated for operand {number} but the sizes don't "
                                         f"match, {e.shape[j]} != {e.shape[i]}")
        e = apply("diagonal", e, attr=(0, i, j))
        labels = (*[y for k, y in enumerate(labels) if k not in (i, j)], x)
    return e, labels


def _check_sizes(terms: list[tuple[Expr, Labels]]) -> None:
    sizes: dict[str, int] = {}
    for number, (e, labels) in enumerate(terms):
        for n, x in zip(e.shape, labels, strict=True):
            known = sizes.get(x, 1)
            if known != n and known != 1 and n != 1:
                raise InvalidSubscriptsError(f"einsum(): subscript {x} has size {n} for operand {number} which does not "
                                             f"broadcast with previously seen size {known}")
            sizes[x] = n if known == 1 else known


def _without(e: Expr, labels: Labels, drop: set[str]) -> tuple[Expr, Labels]:
    """Sum over the labels in ``drop``."""
    axes = [i for i, x in enumerate(labels) if x in drop]
    if not axes:
        return e, labels
    return cast(reduce_sum(e, axes), e.dtype), tuple([x for x in labels if x not in drop])


def _arranged(e: Expr, labels: Labels, order: Sequence[str]) -> Expr:
    """Dimensions in the order of the labels, with size 1 where a label is missing."""
    e = permute(e, [labels.index(x) for x in order if x in labels])
    sizes = iter(e.shape)
    return reshape(e, tuple([next(sizes) if x in labels else 1 for x in order]))


def _contract(a: tuple[Expr, Labels], b: tuple[Expr, Labels], needed: set[str]) -> tuple[Expr, Labels]:
    """The product of two terms, summed over the labels that are not needed any more."""
    # A dimension of size 1 in one term only repeats: it is dropped there.
    for x in set(a[1]) & set(b[1]):
        if a[0].shape[a[1].index(x)] == 1:
            a = squeeze(a[0], a[1].index(x)), tuple([y for y in a[1] if y != x])
        elif b[0].shape[b[1].index(x)] == 1:
            b = squeeze(b[0], b[1].index(x)), tuple([y for y in b[1] if y != x])
    a = _without(*a, set(a[1]) - needed - set(b[1]))
    b = _without(*b, set(b[1]) - needed - set(a[1]))
    common = [x for x in a[1] if x in b[1]]
    batch, inner = [x for x in common if x in needed], [x for x in common if x not in needed]
    rows, columns = [x for x in a[1] if x not in common], [x for x in b[1] if x not in common]
    order = (*batch, *rows, *columns)
    if not inner:
        return mul(_arranged(*a, order), _arranged(*b, order)), order
    sizes = {x: e.shape[i] for e, labels in (a, b) for i, x in enumerate(labels)}
    lead, m, n, k = [tuple([sizes[x] for x in group]) for group in (batch, rows, columns, inner)]
    left = reshape(_arranged(*a, (*batch, *rows, *inner)), (*lead, prod(m), prod(k)))
    right = reshape(_arranged(*b, (*batch, *inner, *columns)), (*lead, prod(k), prod(n)))
    return reshape(matmul(left, right), (*lead, *m, *n)), order


def einsum_expr(equation: str, operands: Sequence[Expr]) -> Expr:
    """Sum of products by an equation such as ``"...ij,...jk->...ik"``: terms are contracted from left to right."""
    if not operands:
        raise InvalidArgumentError("einsum(): must provide at least one operand")
    lists, output = _parse(equation, operands)
    terms = [_diagonals(e, labels, i) for i, (e, labels) in enumerate(zip(operands, lists, strict=True))]
    _check_sizes(terms)
    result = terms[0]
    for number, term in enumerate(terms[1:], 1):
        needed = set(output).union(*[labels for _, labels in terms[number + 1:]])
        result = _contract(result, term, needed)
    e, labels = _without(*result, set(result[1]) - set(output))
    return _arranged(e, labels, output)
