"""Scaled dot product attention."""
from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

from torsh.core.dtype import DType, bool_
from torsh.core.errors import DTypeError, ShapeMismatchError
from torsh.core.promotion import SCALAR_TYPE_NAMES
from torsh.core.shape import broadcast_shapes
from torsh.ops.common import add, apply, cast, full, ge, iota, mul, transpose, where
from torsh.ops.contraction import matmul
from torsh.ops.define import wide
from torsh.ops.expr import Expr, Op, Shape, emit, emit1
from torsh.ops.indexing import repeat_interleave_expr
from torsh.ops.softmax import SAFE_SOFTMAX, SOFTMAX


class Attention(NamedTuple):
    """Attribute: causal masking, the scale (None: 1 / sqrt(size)), repeated key heads, which arguments are given."""

    causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False
    mask: bool = False
    dropout: bool = False


def _check(attr: Attention, query: Expr, key: Expr, value: Expr) -> None:
    for e in (query, key, value):
        if not e.dtype.is_floating_point:
            raise DTypeError(f"scaled_dot_product_attention: expected floating-point query, key and value, got "
                             f"{SCALAR_TYPE_NAMES[e.dtype.name]}")
        if e.dtype is not query.dtype:
            raise DTypeError("Expected query, key, and value to have the same dtype, but got query.dtype: "
                             f"{query.dtype.name} key.dtype: {key.dtype.name} and value.dtype: {value.dtype.name} instead.")
        if len(e.shape) < 2:
            raise ShapeMismatchError("scaled_dot_product_attention: query, key and value need at least 2 dimensions, got "
                                     f"shapes {list(query.shape)}, {list(key.shape)} and {list(value.shape)}")
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise ShapeMismatchError("scaled_dot_product_attention: query and key need equal last dimensions, key and value "
                                 f"equal lengths, got shapes {list(query.shape)}, {list(key.shape)} and {list(value.shape)}")
    if attr.enable_gqa and (len(query.shape) < 3 or query.shape[-3] % key.shape[-3]):
        raise ShapeMismatchError("scaled_dot_product_attention: with enable_gqa the number of heads of query must be a "
                                 f"multiple of key's, got shapes {list(query.shape)} and {list(key.shape)}")


def _lead(attr: Attention, query: Expr, key: Expr, value: Expr) -> Shape:
    if attr.enable_gqa:
        heads = query.shape[-3]
        return broadcast_shapes(query.shape[:-2], (*key.shape[:-3], heads), (*value.shape[:-3], heads))
    return broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])


def _infer(attr: Attention, query: Expr, key: Expr, value: Expr, *rest: Expr) -> tuple[Shape, DType]:
    _check(attr, query, key, value)
    lead = _lead(attr, query, key, value)
    if attr.mask:
        mask = rest[0]
        if mask.dtype is not bool_ and mask.dtype is not query.dtype:
            raise DTypeError("Expected attn_mask dtype to be bool or float or to match query dtype, but got "
                             f"attn_mask.dtype: {mask.dtype.name} and  query.dtype: {query.dtype.name} instead.")
        lead = broadcast_shapes((*lead, query.shape[-2], key.shape[-2]), mask.shape)[:-2]
    return (*lead, query.shape[-2], value.shape[-1]), query.dtype


def _repeated(e: Expr, heads: int) -> Expr:
    """Every head of key or value repeated for the query heads that share it."""
    axis = len(e.shape) - 3
    return e if e.shape[axis] == heads else repeat_interleave_expr(e, heads // e.shape[axis], axis)


def _scores(attr: Attention, query: Expr, key: Expr, mask: Expr | None) -> Expr:
    scale = attr.scale if attr.scale is not None else 1.0 / math.sqrt(query.shape[-1]) if query.shape[-1] else 1.0
    work = wide(query.dtype)
    scores = mul(matmul(cast(query, work), transpose(cast(key, work), -1, -2)), scale)
    lengths = scores.shape[-2:]
    if attr.causal:
        scores = where(ge(iota(lengths, 0), iota(lengths, 1)), scores, -math.inf)
    if mask is None:
        return scores
    if mask.dtype is bool_:
        return where(mask, scores, -math.inf)
    return add(scores, cast(mask, scores.dtype))


def _decompose(e: Expr) -> Expr:
    attr: Attention = e.attr  # type: ignore[assignment]
    query, key, value, *rest = e.args
    if attr.enable_gqa:
        key, value = _repeated(key, query.shape[-3]), _repeated(value, query.shape[-3])
    if 0 in e.shape or 0 in key.shape:
        return full(e.shape, 0, e.dtype)
    scores = _scores(attr, query, key, rest[0] if attr.mask else None)
    op = SAFE_SOFTMAX if attr.mask else SOFTMAX
    weights = emit1(op, scores, len(scores.shape) - 1)
    if attr.dropout:
        weights = apply("dropout", weights, *rest[-3:])
    return matmul(cast(weights, value.dtype), value)


# attr: Attention; args: query (..., L, E), key (..., S, E), value (..., S, V), mask (..., L, S) if given, then, for dropout,
# probability, seed and offset. Differentiated through its decomposition.
SCALED_DOT_PRODUCT_ATTENTION: Final[Op] = Op("scaled_dot_product_attention", _infer, None, decompose=_decompose)


def attention_expr(query: Expr, key: Expr, value: Expr, mask: Expr | None = None, causal: bool = False,
                   scale: float | None = None, enable_gqa: bool = False,
                   dropout: tuple[Expr, Expr, Expr] | None = None) -> Expr:
    """``softmax(query @ key.T * scale + mask) @ value``; dropout: (probability, seed, offset)."""
    if mask is not None and causal:
        raise ShapeMismatchError("_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True")
    args: list[Any] = [query, key, value]
    if mask is not None:
        args.append(mask)
    if dropout is not None:
        args += dropout
    attr = Attention(bool(causal), None if scale is None else float(scale), bool(enable_gqa), mask is not None,
                     dropout is not None)
    return emit(SCALED_DOT_PRODUCT_ATTENTION, tuple(args), attr)


