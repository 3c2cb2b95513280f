"""Scaled dot product attention."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from torsh.core.dtype import DType, bool_, float64, int64
from torsh.core.errors import DTypeError, ShapeMismatchError
from torsh.core.promotion import SCALAR_TYPE_NAMES
from torsh.core.shape import broadcast_shapes
from torsh.ops.attention_blockwise import (
    BLOCKWISE_ATTENTION,
    BLOCKWISE_ATTENTION_BACKWARD,
    MOST_BATCH_DIMENSIONS,
    Blockwise,
    default_scale,
    items_of,
    key_chunks,
    lead_shape,
)
from torsh.ops.common import (
    add,
    apply,
    cast,
    eq,
    exp,
    expand,
    full,
    ge,
    iota,
    log,
    mul,
    reduce_amax,
    reduce_sum,
    reshape,
    sub,
    sum_to,
    transpose,
    where,
)
from torsh.ops.contraction import matmul
from torsh.ops.define import wide
from torsh.ops.expr import Expr, Op, Shape, emit, emit1
from torsh.ops.indexing import repeat_interleave_expr
from torsh.ops.softmax import SAFE_SOFTMAX, SOFTMAX

_FEWEST: Final = 8            # queries and keys from which on blocks are worth it
_ENOUGH: Final = 64           # queries that pay for arranging any number of keys
_LONGEST: Final = 512         # of the vectors of query, key and value


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


def _scale(attr: Attention, query: Expr) -> float:
    return default_scale(query.shape[-1]) if attr.scale is None else attr.scale


def _scores(attr: Attention, query: Expr, key: Expr, mask: Sequence[Expr]) -> Expr:
    work = wide(query.dtype)
    scores = mul(matmul(cast(query, work), transpose(cast(key, work), -1, -2)), _scale(attr, query))
    lengths = scores.shape[-2:]
    if attr.causal:
        scores = where(ge(iota(lengths, 0), iota(lengths, 1)), scores, -math.inf)
    if not mask:
        return scores
    if mask[0].dtype is bool_:
        return where(mask[0], scores, -math.inf)
    return add(scores, cast(mask[0], scores.dtype))


def _decompose(e: Expr) -> Expr:
    attr: Attention = e.attr  # type: ignore[assignment]
    query, key, value, *rest = e.args
    if attr.enable_gqa:
        key, value = _repeated(key, query.shape[-3]), _repeated(value, query.shape[-3])
    if 0 in e.shape or 0 in key.shape:
        return full(e.shape, 0, e.dtype)
    scores = _scores(attr, query, key, rest[:attr.mask])
    weights = emit1(SAFE_SOFTMAX if attr.mask else SOFTMAX, scores, len(scores.shape) - 1)
    if attr.dropout:
        weights = apply("dropout", weights, *rest[-3:])
    return matmul(cast(weights, value.dtype), value)


# ---- in blocks ---------------------------------------------------------------------------------------------------------

def in_blocks(attr: Attention, query: Expr, key: Expr, value: Expr, *rest: Expr) -> bool:
    """Is attention computed block by block? Not for few queries or keys, nor for very long vectors."""
    queries, keys = query.shape[-2], key.shape[-2]
    if queries < _FEWEST or keys < _FEWEST or (queries < _ENOUGH and keys > 2 * queries) or 0 in query.shape or 0 in value.shape:
        return False
    if attr.enable_gqa and (len(key.shape) != len(query.shape) or value.shape[-3:-2] != key.shape[-3:-2]):
        return False
    if max(query.shape[-1], value.shape[-1]) > (_LONGEST if query.dtype.itemsize <= 4 else _LONGEST // 2):
        return False
    lead = _lead(attr, query, key, value)
    if attr.mask:
        lead = broadcast_shapes((*lead, query.shape[-2], key.shape[-2]), rest[0].shape)[:-2]
    if attr.dropout and lead != lead_shape(query, query if attr.enable_gqa else key, query, *rest[:attr.mask]):
        return False                 # the value has batch dimensions that its weights do not have
    return 0 not in lead and len(lead) + attr.enable_gqa <= MOST_BATCH_DIMENSIONS


def _grouped(attr: Attention, args: Sequence[Expr]) -> list[Expr]:
    """query, key, value and mask; query heads that share a key head get a dimension of their own."""
    query, key, value, *mask = args
    mask = [expand(m, (*m.shape[:-2], query.shape[-2], key.shape[-2])) if len(m.shape) > 1
            else expand(m, (query.shape[-2], key.shape[-2])) for m in mask]
    if not attr.enable_gqa:
        return [query, key, value, *mask]
    heads = key.shape[-3]
    groups = query.shape[-3] // heads

    def divided(e: Expr) -> Expr:
        if len(e.shape) < 3:
            return e
        split = (1, 1) if e.shape[-3] == 1 else (heads, groups)
        return reshape(e, (*e.shape[:-3], *split, *e.shape[-2:]))
    shared = [reshape(e, (*e.shape[:-2], 1, *e.shape[-2:])) for e in (key, value)]
    return [reshape(query, (*query.shape[:-3], heads, groups, *query.shape[-2:])), *shared, *[divided(m) for m in mask]]


def _drawn(args: Sequence[Expr]) -> list[Expr]:
    """Probability, seed and offset of dropout, if they are given, in the dtypes that primitives take."""
    return [cast(a, dtype) for a, dtype in zip(args, (float64, int64, int64), strict=False)]


def _forward_template(result: str) -> Callable[[Expr], Expr | None]:
    def template(e: Expr) -> Expr | None:
        attr: Attention = e.attr  # type: ignore[assignment]
        args, drawn = e.args[:3 + attr.mask], e.args[3 + attr.mask:]
        if not in_blocks(attr, *args):
            return None
        made = emit(BLOCKWISE_ATTENTION, (*_grouped(attr, args), *_drawn(drawn)),
                    Blockwise(result, attr.causal, _scale(attr, args[0]), attr.mask, attr.dropout))
        return reshape(made, e.shape)
    return template


def _logsumexp_infer(attr: Attention, *args: Expr) -> tuple[Shape, DType]:
    shape, dtype = _infer(attr, *args)
    return shape[:-1], wide(dtype)


def _logsumexp(e: Expr) -> Expr:
    attr: Attention = e.attr  # type: ignore[assignment]
    query, key, _, *rest = e.args
    scores = _scores(attr, query, _repeated(key, query.shape[-3]) if attr.enable_gqa else key, rest[:attr.mask])
    top = reduce_amax(scores, (-1,), True)
    shifted = exp(sub(scores, where(eq(top, -math.inf), 0.0, top)))
    found = add(log(reduce_sum(shifted, (-1,))), reshape(top, top.shape[:-1]))
    return expand(found, e.shape)


# The logarithm of the sum of exponentials of each query's scores; attr, args: as below.
ATTENTION_LOGSUMEXP: Final[Op] = Op("attention_logsumexp", _logsumexp_infer, None, decompose=_logsumexp,
                                    template=_forward_template("logsumexp"), residual=True)


# ---- backward ----------------------------------------------------------------------------------------------------------

class AttentionBackward(NamedTuple):
    """Attribute: whose gradient ("query", "key" or "value"), and the attribute of the attention."""

    result: str
    attention: Attention


_POSITIONS: Final = {"query": 0, "key": 1, "value": 2}


def _backward_infer(attr: AttentionBackward, *args: Expr) -> tuple[Shape, DType]:
    target = args[_POSITIONS[attr.result]]
    return target.shape, target.dtype


def _backward(e: Expr) -> Expr:
    """All scores written out, as a function of query, key, value, mask and the incoming gradient: differentiable again."""
    which: AttentionBackward = e.attr  # type: ignore[assignment]
    attr, target = which.attention, e.args[_POSITIONS[which.result]]
    query, key, value, *rest = e.args
    if attr.enable_gqa:
        key, value = _repeated(key, query.shape[-3]), _repeated(value, query.shape[-3])
    work = wide(e.dtype)
    scores = _scores(attr, query, key, rest[:attr.mask])
    weights = emit1(SAFE_SOFTMAX if attr.mask else SOFTMAX, scores, len(scores.shape) - 1)
    g = cast(rest[-1], work)
    drawn = rest[attr.mask:-3]
    if which.result == "value":
        kept = apply("dropout", weights, *drawn) if attr.dropout else weights
        found = matmul(transpose(kept, -1, -2), g)
    else:
        slopes = matmul(g, transpose(cast(value, work), -1, -2))
        slopes = apply("dropout", slopes, *drawn) if attr.dropout else slopes
        slopes = mul(mul(weights, sub(slopes, reduce_sum(mul(slopes, weights), (-1,), True))), _scale(attr, query))
        turned = transpose(slopes, -1, -2) if which.result == "key" else slopes
        found = matmul(turned, cast(query if which.result == "key" else key, work))
    return cast(_summed_heads(attr, which.result, found, target), e.dtype)


def _summed_heads(attr: Attention, result: str, found: Expr, target: Expr) -> Expr:
    """A gradient summed over what broadcasting and shared heads repeated."""
    if attr.enable_gqa and result != "query" and found.shape[-3] != target.shape[-3]:
        heads = target.shape[-3]
        found = reshape(found, (*found.shape[:-3], heads, found.shape[-3] // heads, *found.shape[-2:]))
        found = reduce_sum(found, (-3,))
    return sum_to(found, target.shape)


def _backward_template(e: Expr) -> Expr | None:
    which: AttentionBackward = e.attr  # type: ignore[assignment]
    attr, target = which.attention, e.args[_POSITIONS[which.result]]
    args, (logsumexp, delta, g) = e.args[:3 + attr.mask], e.args[-3:]
    if not in_blocks(attr, *args):
        return None
    grouped = _grouped(attr, args)
    lead = lead_shape(*grouped)
    chunks = key_chunks(items_of(lead), args[1].shape[-2])
    rest = [reshape(x, (*lead, x.shape[-1])) for x in (logsumexp, delta)] + [reshape(g, (*lead, *g.shape[-2:]))]
    made = emit(BLOCKWISE_ATTENTION_BACKWARD, (*grouped, *_drawn(e.args[3 + attr.mask:-3]), *rest),
                Blockwise(which.result, attr.causal, _scale(attr, args[0]), attr.mask, attr.dropout, chunks))
    if which.result == "query":
        made = reshape(made, made.shape[1:]) if chunks == 1 else reduce_sum(made, (0,))
        made = reshape(made, (*g.shape[:-2], *made.shape[-2:]))
    elif attr.enable_gqa:
        made = reshape(made, (*g.shape[:-2], *made.shape[-2:]))
    return cast(_summed_heads(attr, which.result, made, target), e.dtype)


# args: those of the attention, the logarithm of the sum of exponentials, delta (the sum of the attention's result times its
# gradient, for each query), and the gradient of the attention's result.
ATTENTION_BACKWARD: Final[Op] = Op("attention_backward", _backward_infer, None, decompose=_backward,
                                   template=_backward_template)


def _gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...] | None:
    attr: Attention = e.attr  # type: ignore[assignment]
    if not in_blocks(attr, *e.args) or any(m.requires_grad for m in e.args[3:3 + attr.mask]):
        return None
    work = wide(e.dtype)
    logsumexp = emit(ATTENTION_LOGSUMEXP, e.args, attr)
    delta = reduce_sum(mul(cast(g, work), cast(e, work)), (-1,))
    args = (*e.args, logsumexp, delta, g)
    grads = [emit(ATTENTION_BACKWARD, args, AttentionBackward(name, attr)) if a.requires_grad else None
             for name, a in zip(_POSITIONS, e.args, strict=False)]
    return (*grads, *[None] * (len(e.args) - 3))


# attr: Attention; args: query (..., L, E), key (..., S, E), value (..., S, V), mask (..., L, S) if given, then, for dropout,
# probability, seed and offset. Computed in blocks where that can be done; where the mask needs a gradient, backward goes through
# the decomposition.
SCALED_DOT_PRODUCT_ATTENTION: Final[Op] = Op("scaled_dot_product_attention", _infer, None, gradient=_gradient,
                                             decompose=_decompose, template=_forward_template("out"))


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


