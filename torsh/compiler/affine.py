"""Affine index maps: which element of an expression a point of a kernel's axes needs.

A *form* is one coordinate as a function of the axes: ``(offset, coefficient of axis 0, coefficient of axis 1, ...)``. A *map*
has a form for every dimension of an expression. Views turn the map of their result into that of their argument
(:func:`through`), so chains of views cost nothing in a kernel: they end as the strides of a memory access.

Only reshape can leave this algebra: to split a coordinate into two, the kernel's own axis may have to be split
(:class:`NeedSplit`), and where even that does not help, the argument has to be stored first (:class:`Inexpressible`).
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from torsh.core.shape import contiguous_strides
from torsh.ops.expr import Expr, Shape

Form = tuple[int, ...]
Map = tuple[Form, ...]


class NeedSplit(Exception):
    """Axis number ``axis`` has to become two axes, the second of extent ``inner``."""

    def __init__(self, axis: int, inner: int) -> None:
        super().__init__(axis, inner)
        self.axis = axis
        self.inner = inner


class Inexpressible(Exception):
    """No affine map leads through this view."""


def constant_form(offset: int, axes: int) -> Form:
    """The same coordinate at all points."""
    return (offset,) + (0,) * axes


def identity(factors: Sequence[tuple[int, ...]]) -> Map:
    """The map of an expression whose dimensions are the axes; each dimension is one axis or the product of several."""
    count = sum(map(len, factors))
    forms, axis = [], 0
    for parts in factors:
        form = [0] * (count + 1)
        step = 1
        for k in reversed(range(len(parts))):
            form[1 + axis + k] = step if parts[k] != 1 else 0
            step *= parts[k]
        axis += len(parts)
        forms.append(tuple(form))
    return tuple(forms)


def flat(forms: Map, strides: Sequence[int], axes: int) -> Form:
    """The address of an element: the sum of coordinates times strides."""
    total = [0] * (axes + 1)
    for form, stride in zip(forms, strides, strict=True):
        if stride == 1:
            total = [t + c for t, c in zip(total, form, strict=True)]
        elif stride:
            total = [t + c * stride for t, c in zip(total, form, strict=True)]
    return tuple(total)


def combine(a: Form, b: Form, scale: int = 1) -> Form:
    """a + scale * b"""
    return tuple([x + scale * y for x, y in zip(a, b, strict=True)])


def shifted(form: Form, offset: int, scale: int = 1) -> Form:
    """scale * form + offset"""
    if scale == 1:
        return (form[0] + offset, *form[1:])
    return (form[0] * scale + offset, *[c * scale for c in form[1:]])


def unflatten(form: Form, shape: Sequence[int], extents: Sequence[int]) -> list[Form]:
    """The coordinates, within ``shape``, of the element at a row-major position."""
    strides = contiguous_strides(shape)
    wide = [d for d, n in enumerate(shape) if n != 1]
    axes = len(extents)
    result = [constant_form(0, axes)] * len(shape)
    rest = form
    for d in wide[:-1]:
        quotient, rest = _divide(rest, strides[d], extents)
        result[d] = quotient
    if wide:
        result[wide[-1]] = rest
    return result


def _divide(form: Form, stride: int, extents: Sequence[int]) -> tuple[Form, Form]:
    """(form // stride, form % stride), if both are affine."""
    quotient, rest = [0], [0]
    low = high = 0
    for axis, c in enumerate(form[1:]):
        if c % stride == 0:
            quotient.append(c // stride)
            rest.append(0)
            continue
        quotient.append(0)
        rest.append(c)
        reach = c * (extents[axis] - 1)
        low, high = low + min(reach, 0), high + max(reach, 0)
    quotient[0] = (form[0] + low) // stride
    rest[0] = form[0] - quotient[0] * stride
    if rest[0] + high < stride:
        return tuple(quotient), tuple(rest)
    for axis, c in enumerate(rest[1:]):
        if c > 0 and stride % c == 0:
            inner = stride // c
            if inner < extents[axis] and extents[axis] % inner == 0:
                raise NeedSplit(axis, inner)
    raise Inexpressible


def split_axis(factors: Sequence[tuple[int, ...]], axis: int, inner: int) -> list[tuple[int, ...]]:
    """The factors after axis number ``axis`` became two."""
    result, position = [], 0
    for parts in factors:
        if position <= axis < position + len(parts):
            k = axis - position
            parts = (*parts[:k], parts[k] // inner, inner, *parts[k + 1:])
            position -= 1
            axis = -1
        position += len(parts)
        result.append(parts)
    return result


# ---- views -------------------------------------------------------------------------------------------------------------

def _permute(attr: Any, shape: Shape, out: Shape, forms: Map, extents: Sequence[int]) -> Map:
    result = list(forms)
    for position, axis in enumerate(attr):
        result[axis] = forms[position]
    return tuple(result)


def broadcast(shape: Shape, out: Shape, forms: Map, axes: int) -> Map:
    """The map of an operand that is broadcast to ``out``, aligned at the right."""
    if shape == out:
        return forms
    extra = len(out) - len(shape)
    zero = constant_form(0, axes)
    return tuple([zero if n == 1 and out[d + extra] != 1 else forms[d + extra] for d, n in enumerate(shape)])


def _expand(attr: Any, shape: Shape, out: Shape, forms: Map, extents: Sequence[int]) -> Map:
    return broadcast(shape, out, forms, len(extents))


def _slice(attr: Any, shape: Shape, out: Shape, forms: Map, extents: Sequence[int]) -> Map:
    return tuple([shifted(form, start, step) for form, (start, _, step) in zip(forms, attr, strict=True)])


def _select(attr: Any, shape: Shape, out: Shape, forms: Map, extents: Sequence[int]) -> Map:
    dim, index = attr
    return (*forms[:dim], constant_form(index, len(extents)), *forms[dim:])


def _diagonal(attr: Any, shape: Shape, out: Shape, forms: Map, extents: Sequence[int]) -> Map:
    shift, i, j = attr
    rest = iter(forms[:-1])
    along = forms[-1]
    row, column = (along, shifted(along, shift)) if shift >= 0 else (shifted(along, -shift), along)
    return tuple([row if d == i else column if d == j else next(rest) for d in range(len(shape))])


def _unfold(attr: Any, shape: Shape, out: Shape, forms: Map, extents: Sequence[int]) -> Map:
    dim, _, step = attr
    inside = combine(forms[-1], forms[dim], step)
    return (*forms[:dim], inside, *forms[dim + 1:-1])


def _as_strided(attr: Any, shape: Shape, out: Shape, forms: Map, extents: Sequence[int]) -> Map:
    address = shifted(flat(forms, attr[1], len(extents)), attr[2])
    return tuple(unflatten(address, shape, extents))


def _reshape(attr: Any, shape: Shape, out: Shape, forms: Map, extents: Sequence[int]) -> Map:
    # Blocks of dimensions with equal products are taken one by one, so that only what has to be is merged and split.
    axes = len(extents)
    result: list[Form] = []
    i = j = 0
    while i < len(shape) or j < len(out):
        first_i, first_j = i, j
        m = shape[i] if i < len(shape) else 1
        n = out[j] if j < len(out) else 1
        i, j = min(i + 1, len(shape)), min(j + 1, len(out))
        while m != n:
            if m < n and i < len(shape):
                m *= shape[i]
                i += 1
            else:
                n *= out[j]
                j += 1
        if first_j + 1 == j and first_i + 1 == i:
            result.append(forms[first_j])
            continue
        block = out[first_j:j]
        address = flat(forms[first_j:j], contiguous_strides(block), axes)
        result += unflatten(address, shape[first_i:i], extents)
    return tuple(result)


def _same(attr: Any, shape: Shape, out: Shape, forms: Map, extents: Sequence[int]) -> Map:
    return forms


_VIEWS: Final[dict[str, Callable[[Any, Shape, Shape, Map, Sequence[int]], Map]]] = {
    "permute": _permute, "expand": _expand, "slice": _slice, "select": _select, "diagonal": _diagonal, "unfold": _unfold,
    "as_strided": _as_strided, "reshape": _reshape, "detach": _same}


def through(view: Expr, forms: Map, extents: Sequence[int]) -> Map:
    """The map of a view's argument, from the map of the view."""
    return _VIEWS[view.op.name](view.attr, view.args[0].shape, view.shape, forms, extents)
