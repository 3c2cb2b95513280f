"""Cumulative functions and orders."""
from __future__ import annotations

from typing import Any

import numpy as np

from torsh.ops.common import add, conj, div, exp, mul, slice_dim, sub, unary
from torsh.ops.expr import HOST, OPAQUE, Expr, Op, emit1, emit2


def reversed_along(e: Expr, dim: int) -> Expr:
    """The entries of a dimension in reverse order."""
    n = e.shape[dim]
    return slice_dim(e, dim, n - 1, n, -1) if n else e


def reverse_cumsum(e: Expr, dim: int) -> Expr:
    """Sums from each entry to the end."""
    return reversed_along(emit1(CUMSUM, reversed_along(e, dim), dim), dim)


def _same(attr: Any, e: Expr) -> Any:
    return e.shape, e.dtype


def _wide(function: Any) -> Any:
    def reference(attr: Any, x: Any) -> Any:
        if x.dtype.itemsize == 2 and x.dtype.kind not in "iu":
            return function(x.astype(np.float32), axis=attr).astype(x.dtype)
        return function(x, axis=attr, dtype=x.dtype)
    return reference


CUMSUM = Op("cumsum", _same, _wide(np.cumsum), kind=OPAQUE, gradient=lambda e, g: (reverse_cumsum(g, e.attr),))


def _cumprod_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    return (emit2(CUMPROD_BACKWARD, g, e.args[0], e.attr),)


CUMPROD = Op("cumprod", _same, _wide(np.cumprod), kind=OPAQUE, gradient=_cumprod_gradient)


def _cumprod_backward(attr: Any, g: Any, x: Any) -> Any:
    """d x_i = sum over k >= i of g_k times the product of x_j, j <= k, j != i: exact with zeros."""
    x, g = np.moveaxis(x, attr, 0), np.moveaxis(g, attr, 0)
    out = np.zeros_like(x)
    for i in range(len(x)):
        others = np.conj(x).copy()
        others[i] = 1
        out[i] = (g * np.cumprod(others, 0))[i:].sum(0)
    return np.moveaxis(out, 0, attr)


def _cumprod_backward_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    """Second order, where no entry is zero: through the quotient form."""
    gy, x = e.args
    from torsh.ops.expr import no_grad_recording  # noqa: F401
    y = emit1(CUMPROD, x, e.attr)
    ratio = div(g, x)
    d_gy = mul(y, emit1(CUMSUM, ratio, e.attr)) if gy.requires_grad else None
    if not x.requires_grad:
        return d_gy, None
    running = emit1(CUMSUM, ratio, e.attr)
    weighted = mul(mul(gy, y), running)
    first = div(reverse_cumsum(weighted, e.attr), x)
    second = div(mul(ratio, reverse_cumsum(mul(gy, y), e.attr)), x)
    return d_gy, sub(first, second)


CUMPROD_BACKWARD = Op("cumprod_backward", lambda attr, g, x: (x.shape, x.dtype), _cumprod_backward, kind=HOST,
                      gradient=_cumprod_backward_gradient)


def _running_index(keep: Any) -> Any:
    def reference(attr: Any, x: Any) -> Any:
        x = np.moveaxis(x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" else x, attr, 0)
        out = np.zeros(x.shape, np.int64)
        if len(x):
            best, at = np.array(x[0]), np.zeros(x.shape[1:], np.int64)
            for i in range(1, len(x)):
                with np.errstate(invalid="ignore"):
                    better = keep(x[i], best) | (np.isnan(x[i]) if x.dtype.kind == "f" else False)
                best, at = np.where(better, x[i], best), np.where(better, i, at)
                out[i] = at
        return np.ascontiguousarray(np.moveaxis(out, 0, attr))
    return reference


def _index_like(attr: Any, e: Expr) -> Any:
    from torsh.core.dtype import int64
    return e.shape, int64


CUMMAX_INDEX = Op("cummax_index", _index_like, _running_index(np.greater_equal), kind=HOST)
CUMMIN_INDEX = Op("cummin_index", _index_like, _running_index(np.less_equal), kind=HOST)


def _logcumsumexp(attr: Any, x: Any) -> Any:
    wide = x.astype(np.float32) if x.dtype.itemsize == 2 else x
    return np.logaddexp.accumulate(wide, axis=attr).astype(x.dtype)


def _logcumsumexp_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    """d x_i = exp(x_i) * sum over k >= i of g_k exp(-y_k), split by sign so that it stays in logarithms."""
    x = e.args[0]
    parts = []
    for sign in (1.0, -1.0):
        size = unary("log", unary("relu", mul(g, sign)))
        parts.append(exp(add(reversed_along(emit1(LOGCUMSUMEXP, reversed_along(sub(size, e), e.attr), e.attr), e.attr), x)))
    return (sub(parts[0], parts[1]),)


LOGCUMSUMEXP = Op("logcumsumexp", _same, _logcumsumexp, kind=HOST, gradient=_logcumsumexp_gradient)


# ---- orders ------------------------------------------------------------------------------------------------------------

def sort_keys(x: Any) -> Any:
    """An array that NumPy sorts as PyTorch sorts ``x`` (NaN last)."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" else x


def _argsort(attr: Any, x: Any) -> Any:
    dim, descending, _ = attr
    keys = sort_keys(x)
    if not descending:
        return np.argsort(keys, axis=dim, kind="stable")
    # Stable from the largest down: sort the reversed entries, then reverse the order.
    n = x.shape[dim]
    order = np.flip(np.argsort(np.flip(keys, dim), axis=dim, kind="stable"), dim)
    return np.ascontiguousarray(n - 1 - order)


ARGSORT = Op("argsort", _index_like, _argsort, kind=HOST)


def _topk(attr: Any, x: Any) -> Any:
    k, dim, largest, _ = attr
    order = _argsort((dim, largest, True), x)
    return np.ascontiguousarray(np.take(order, np.arange(k), dim))


def _topk_infer(attr: Any, e: Expr) -> Any:
    from torsh.core.dtype import int64
    k, dim, *_ = attr
    return (*e.shape[:dim], k, *e.shape[dim + 1:]), int64


TOPK = Op("topk_indices", _topk_infer, _topk, kind=HOST)
__all__ = ["conj"]
