"""Lowering: expressions as recorded -> expressions of primitives, simplified.

Composite ops are decomposed, casts become explicit, views are merged, what does nothing vanishes. The result of an
expression does not depend on the program it is in, so it is remembered (expressions are interned).
"""
from __future__ import annotations

import threading
from collections.abc import Callable
from math import prod
from typing import Any, Final

import numpy as np

from torsh.compiler.templates import converts, selects
from torsh.core.dtype import DType, bool_, float32, int64
from torsh.core.errors import CompileError
from torsh.core.shape import broadcast_shapes
from torsh.core.symbolic import Quotient
from torsh.ops.common import cast, expand, full, number, permute, reshape
from torsh.ops.define import is_half
from torsh.ops.elementwise import lowered as explicit
from torsh.ops.expr import (
    CACHES,
    CONSTANT_OP,
    ELEMENTWISE,
    REDUCTION,
    SCALAR_OP,
    TABLE,
    VARIABLE_OP,
    VIEW,
    Expr,
    constant,
    emit,
    emit1,
    no_grad_recording,
)
from torsh.ops.scan_sort import SCANS
from torsh.ops.shape import chain_geometry, contiguous_geometry

LOWERED: Final[dict[Expr, Expr]] = {}
CACHES.append(LOWERED)


class _LoweringTable(threading.local):
    """The table in use: programs over symbolic sizes have one of their own."""

    table: dict[Expr, Expr] = LOWERED


lowering_table: Final = _LoweringTable()

_SPLIT_FROM: Final = 1 << 16       # elements from which a reduction to few results is done in two steps
_FEW: Final = 16                   # results that are too few to share among threads


def lower(e: Expr) -> Expr:
    """The expression in primitives."""
    found = lowering_table.table.get(e)
    if found is None:
        with no_grad_recording():
            _lower_all(e)
        found = lowering_table.table[e]
    return found


def _lower_all(e: Expr) -> None:
    """Fill the table for ``e`` and all it needs; a stack of its own, because graphs are deep."""
    table = lowering_table.table
    stack: list[tuple[Expr, Expr | None]] = [(e, None)]
    while stack:
        e, other = stack.pop()
        if e in table:
            continue
        if other is not None:
            table[e] = table[other]
            continue
        step = _step(e)
        if step is not e:                       # the same value, written differently
            stack.append((e, step))
            stack.append((step, None))
            continue
        missing = [a for a in e.args if a not in table]
        if missing:
            stack.append((e, None))
            stack.extend((a, None) for a in missing)
            continue
        table[e] = found = _rebuilt(e)
        if found.dtype is not e.dtype or found.shape != e.shape:     # memory is laid out for what was recorded
            raise CompileError(f"lowering {e!r} gave {found!r}")


def _step(e: Expr) -> Expr:
    """One step towards primitives: a template, a decomposition or explicit casts."""
    op = e.op
    if op.decompose is not None:
        whole = None if op.template is None else op.template(e)
        return op.decompose(e) if whole is None else whole
    if op.template is not None:         # otherwise it runs on the host
        return op.template(e) or e
    if op.kind == ELEMENTWISE and op.name != "cast":
        return explicit(e)
    if op is VARIABLE_OP or op.name == "detach":
        return e.args[0]
    return e


def _rebuilt(e: Expr) -> Expr:
    """A primitive over its lowered arguments, simplified."""
    table = lowering_table.table
    args = tuple([table[a] for a in e.args])
    rule = _SIMPLER.get(e.op.name)
    if rule is None and e.op.kind == REDUCTION:
        rule = _reduction
    if rule is not None:
        return rule(e, args)
    if e.op.kind == ELEMENTWISE and args:
        return _elementwise(e, args)
    return e if args == e.args or not args else emit(e.op, args, e.attr)


# ---- elementwise -------------------------------------------------------------------------------------------------------

def number_of(e: Expr) -> Any:
    """The number that all elements are known to be, or None."""
    while e.op.name in ("expand", "reshape"):
        e = e.args[0]
    if e.op is not CONSTANT_OP or type(e.attr[0]) is Quotient:  # type: ignore[index]
        return None
    return e.attr[0]  # type: ignore[index]


def _scalar_source(e: Expr) -> Expr:
    """A number that is only spread out is left to broadcasting."""
    source = e
    while source.op.name in ("expand", "reshape") and prod(source.args[0].shape) == 1:
        source = source.args[0]
    return source if not source.shape and source.op in (CONSTANT_OP, SCALAR_OP) else e


def _elementwise(e: Expr, args: tuple[Expr, ...]) -> Expr:
    name = e.op.name
    if name == "mul":
        for a, b in (args, args[::-1]):
            if number_of(b) == 1 and a.dtype is e.dtype:
                return expand(a, e.shape)
    elif name == "add":
        joined = _joined_parts(*args)
        if joined is not None:
            return joined
    elif name == "div" and number_of(args[1]) == 1 or name == "sub" and _is_plain_zero(args[1]):
        if args[0].dtype is e.dtype:
            return expand(args[0], e.shape)
    elif name == "where":
        known = number_of(args[0])
        if known is not None:
            return expand(args[1] if known else args[2], e.shape)
        if args[1] is args[2]:
            return expand(args[1], e.shape)
    short = tuple([_scalar_source(a) for a in args])
    if _shape_of(short) == e.shape:
        found = emit(e.op, short, e.attr)
        if found.dtype is e.dtype:          # several Python numbers by themselves would have the default dtype
            return found
    return emit(e.op, args, e.attr)


Box = tuple[tuple[int, int], ...]


def _parts(e: Expr) -> tuple[Expr, list[Expr], list[Box]] | None:
    """(zeros, writes, regions) of zeros into which disjoint boxes were written, innermost first; None for anything else."""
    writes: list[Expr] = []
    boxes: list[Box] = []
    while e.op.name == "view_write":
        region = _box(e.attr, e.shape)
        if region is None:
            return None
        writes.append(e)
        boxes.append(region)
        e = e.args[0]
    if not writes or not (_is_plain_zero(e) or e.op.name == "empty"):
        return None
    return e, writes[::-1], boxes


def _box(chain: Any, shape: tuple[int, ...]) -> Box | None:
    """The region that one slice of step 1 or one select leads to: (start, stop) per dimension."""
    if len(chain) != 1:
        return None
    (name, attr), = chain
    if name == "select":
        return tuple([(attr[1], attr[1] + 1) if d == attr[0] else (0, n) for d, n in enumerate(shape)])
    if name == "slice" and all(step == 1 for _, _, step in attr):
        return tuple([(start, start + length) for start, length, _ in attr])
    return None


def _apart(a: Box, b: Box) -> bool:
    return any(stop <= first or last <= start for (start, stop), (first, last) in zip(a, b, strict=True))


def _joined_parts(a: Expr, b: Expr) -> Expr | None:
    """The sum of zeros with parts written to different places (gradients of split, chunk, unbind): one buffer, no sum."""
    left, right = _parts(a), _parts(b)
    if left is None or right is None or a.shape != b.shape or a.dtype is not b.dtype:
        return None
    if not all(_apart(x, y) for x in left[2] for y in right[2]):
        return None
    result = left[0]
    covered = sum(prod([stop - start for start, stop in box]) for box in (*left[2], *right[2]))
    if covered == prod(a.shape):            # nothing of the zeros is left
        result = emit(TABLE["empty"], (), (a.shape, a.dtype.name))
    for write in (*left[1], *right[1]):
        result = emit(write.op, (result, write.args[1]), write.attr)
    return result


def _is_plain_zero(e: Expr) -> bool:
    number = number_of(e)
    return number is not None and number == 0 and not np.signbit(np.real(number))


def _shape_of(args: tuple[Expr, ...]) -> tuple[int, ...]:
    return broadcast_shapes(*[a.shape for a in args])


def _holds_all(wide: DType, narrow: DType) -> bool:
    """Does the wide dtype represent every value of the narrow one?"""
    if wide is narrow:
        return True
    if wide.category != narrow.category:
        return narrow is bool_ or (wide.name == "float64" and narrow.category == 1 and narrow.itemsize < 8)
    if wide.category == 2:
        return wide.itemsize > narrow.itemsize
    return wide.category == 1 and wide.itemsize > narrow.itemsize and (wide.is_signed or not narrow.is_signed)


def _cast(e: Expr, args: tuple[Expr, ...]) -> Expr:
    a = args[0]
    target = e.dtype
    if a.op.name == "cast":
        source = a.args[0]
        if _holds_all(a.dtype, source.dtype):
            return cast(source, target)
    if a.dtype is target:
        # A Python number that has become a tensor's value decides types that it did not decide before.
        return emit1(e.op, a, e.attr) if a.op is SCALAR_OP else a
    if a.op is CONSTANT_OP:
        value: Any = a.attr[0]  # type: ignore[index]
        if type(value) is Quotient and target.category == 2:
            return constant(value, target)
        with np.errstate(all="ignore"):
            exact = np.asarray(value, a.dtype.numpy).astype(target.numpy)
        return constant(exact.item() if target.name not in ("bfloat16", "float16") else float(exact), target)
    if a.op.name == "expand":
        return expand(cast(a.args[0], target), a.shape)
    return emit1(e.op, a, e.attr)


# ---- views -------------------------------------------------------------------------------------------------------------

def uniform(e: Expr) -> Expr | None:
    """The single element that the expression repeats, as a 0-dimensional expression, or None."""
    if e.op.name == "expand" and prod(e.args[0].shape) == 1:
        return reshape(e.args[0], ())
    return e if not e.shape and e.op in (CONSTANT_OP, SCALAR_OP) else None


def _view(e: Expr, args: tuple[Expr, ...]) -> Expr:
    a = args[0]
    if e.op.name != "expand":
        single = uniform(a)
        if single is not None:
            return expand(single, e.shape)
    return _VIEW_RULES[e.op.name](e, a)


def _reshape(e: Expr, a: Expr) -> Expr:
    while a.op.name == "reshape":
        a = a.args[0]
    return reshape(a, e.shape)


def _permute(e: Expr, a: Expr) -> Expr:
    axes: tuple[int, ...] = e.attr  # type: ignore[assignment]
    if a.op.name == "permute":
        axes = tuple([a.attr[x] for x in axes])  # type: ignore[index]
        a = a.args[0]
    if [x for x in axes if a.shape[x] != 1] == [x for x in range(len(axes)) if a.shape[x] != 1]:
        return _reshape(e, a)
    return permute(a, axes)


def _expand(e: Expr, a: Expr) -> Expr:
    if a.op.name == "expand":
        a = a.args[0]
    if a.shape == e.shape:
        return a
    if prod(a.shape) == 1 and a.shape and a.op.name == "reshape" and not a.args[0].shape:
        a = a.args[0]
    return expand(a, e.shape)


def _slice(e: Expr, a: Expr) -> Expr:
    spec: tuple[tuple[int, int, int], ...] = e.attr  # type: ignore[assignment]
    if a.op.name == "slice":
        inner: Any = a.attr
        spec = tuple([(s0 + start * d0, length, d0 * step) for (start, length, step), (s0, _, d0)
                      in zip(spec, inner, strict=True)])
        a = a.args[0]
    if all((start, length, step) == (0, n, 1) or (start, length, n) == (0, 1, 1)
           for (start, length, step), n in zip(spec, a.shape, strict=True)):
        return a
    return emit1(TABLE["slice"], a, spec)


def _other_view(e: Expr, a: Expr) -> Expr:
    return emit1(e.op, a, e.attr)


_VIEW_RULES: Final[dict[str, Callable[[Expr, Expr], Expr]]] = {
    "reshape": _reshape, "permute": _permute, "expand": _expand, "slice": _slice, "select": _other_view,
    "diagonal": _other_view, "unfold": _other_view, "as_strided": _other_view}


# ---- reductions --------------------------------------------------------------------------------------------------------

_EMPTY_RESULTS: Final = {"sum": 0, "prod": 1}


def _reduction(e: Expr, args: tuple[Expr, ...]) -> Expr:
    a = args[0]
    name = e.op.name
    axes = tuple([x for x in e.attr[0] if a.shape[x] != 1])  # type: ignore[index]
    if 0 in a.shape:
        return full(e.shape, _EMPTY_RESULTS.get(name, 0), e.dtype)
    if not axes:
        return full(e.shape, 0, int64) if name.startswith("arg") else reshape(cast(a, e.dtype), e.shape)
    if name in _EMPTY_RESULTS:
        a = cast(a, e.dtype)
        spread = uniform(a)
        if spread is not None and name == "sum" and e.dtype.category != 3:
            count = prod([a.shape[x] for x in axes])
            work = float32 if is_half(e.dtype) else e.dtype
            product = emit(TABLE["mul"], (cast(spread, work), number(count, work)))
            return expand(lower_again(cast(product, e.dtype)), e.shape)
    split = None if name.startswith("arg") else _two_steps(a, axes)
    if split is not None:
        shape, first, second = split
        if is_half(e.dtype):                # partial results are not rounded
            whole = reshape(emit1(e.op, emit1(e.op, reshape(cast(a, float32), shape), (first, False)), (second, False)), e.shape)
            return cast(whole, e.dtype)
        partial = emit1(e.op, reshape(a, shape), (first, False))
        return reshape(emit1(e.op, partial, (second, False)), e.shape)
    return reshape(emit1(e.op, a, (axes, False)), e.shape)


def lower_again(e: Expr) -> Expr:
    """:func:`lower` for expressions that simplification made."""
    _lower_all(e)
    return lowering_table.table[e]


def _two_steps(a: Expr, axes: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None:
    """(shape, axes reduced first, axes reduced then) where a long reduction gives too few results to share among threads."""
    shape = a.shape
    total = prod(shape)
    if total < _SPLIT_FROM:
        return None
    kept = [n for x, n in enumerate(shape) if x not in axes]
    last_kept = len(shape) - 1 not in axes
    parallel = prod(kept) if not last_kept else prod(kept[:-1]) * -(-kept[-1] // 4096)
    if parallel >= _FEW:
        return None
    for x in axes:
        parts = next((p for p in (32, 16, 64, 24, 28, 20, 30, 18, 21, 25, 27, 12, 8, 10, 14, 15, 9) if shape[x] % p == 0
                      and shape[x] > p), None)
        if parts is not None:
            split = (*shape[:x], parts, shape[x] // parts, *shape[x + 1:])
            first = tuple([y if y < x else y + 1 for y in axes])
            left = sum(1 for y in range(x) if y not in axes)
            return split, first, (left,)
    return None


# ---- moving elements ---------------------------------------------------------------------------------------------------

def _cat(e: Expr, args: tuple[Expr, ...]) -> Expr:
    dim: int = e.attr  # type: ignore[assignment]
    pieces = [cast(a, e.dtype) for a in args if prod(a.shape)]
    pieces = [lower_again(p) for p in pieces]
    if not pieces:
        return full(e.shape, 0, e.dtype)
    return pieces[0] if len(pieces) == 1 else emit(e.op, tuple(pieces), dim)


def _view_write(e: Expr, args: tuple[Expr, ...]) -> Expr:
    base, value = args
    chain: Any = e.attr
    geometry = chain_geometry(chain, base.shape)
    if geometry is not None:
        shape, strides, offset = geometry
        if not prod(shape):
            return base
        if prod(shape) == prod(base.shape) and (shape, strides, offset) == contiguous_geometry(shape):
            return reshape(value, base.shape)
    return emit(e.op, args, e.attr)


def _contiguous_scan(e: Expr, args: tuple[Expr, ...]) -> Expr:
    if not prod(e.shape):
        return full(e.shape, 0, e.dtype)
    if not e.shape:
        return cast(args[0], e.dtype)
    return emit1(e.op, lower_again(cast(args[0], e.dtype)), e.attr)


def _topk(e: Expr, args: tuple[Expr, ...]) -> Expr:
    """Along the last dimension, where the template that selects works."""
    attr: tuple[int, int, bool, bool] = e.attr  # type: ignore[assignment]
    k, dim, largest, ordered = attr
    last = len(e.shape) - 1
    if not e.shape or dim == last or not selects(k, args[0].shape[dim]):
        return emit(e.op, args, e.attr)
    axes = tuple([axis for axis in range(last + 1) if axis != dim]) + (dim,)
    found = emit(e.op, (lower_again(permute(args[0], axes)),), (k, last, largest, ordered))
    return permute(found, tuple(sorted(range(last + 1), key=axes.__getitem__)))


def _put(e: Expr, args: tuple[Expr, ...]) -> Expr:
    # Without positions, or without elements to take them, nothing is written.
    written = args[1]
    return emit(e.op, args, e.attr) if prod(written.shape) and prod(e.shape) else args[0]


def _matmul(e: Expr, args: tuple[Expr, ...]) -> Expr:
    if not prod(e.shape) or not args[0].shape[-1]:
        return full(e.shape, 0, e.dtype)
    if args[0].shape[-1] == 1:              # an outer product is elementwise, and fuses with what is done with it
        return emit(TABLE["mul"], args)
    return emit(e.op, tuple([_converted_last(a) for a in args]), e.attr)


def _converted_last(a: Expr) -> Expr:
    """An operand that is looked at before it is converted: the product reads it in its small type, and converts it then."""
    views: list[Expr] = []
    base = a
    while base.op.kind == VIEW:
        views.append(base)
        base = base.args[0]
    if not views or base.op.name != "cast" or not converts(base.args[0].dtype, base.dtype):
        return a
    source = base.args[0]
    for view in reversed(views):
        source = emit1(view.op, source, view.attr)
    return emit1(base.op, source, base.attr)


_SIMPLER: Final[dict[str, Callable[[Expr, tuple[Expr, ...]], Expr]]] = {
    "cast": _cast, "cat": _cat, "view_write": _view_write, **dict.fromkeys(SCANS, _contiguous_scan),
    "matmul": _matmul, "topk_indices": _topk, "scatter": _put, "index_put": _put, **dict.fromkeys(_VIEW_RULES, _view)}
