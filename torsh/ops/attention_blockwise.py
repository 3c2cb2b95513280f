"""Attention in blocks of queries and keys (Dao et al., 2022, 2023): primitives that never hold all scores.

Two opaque ops, each with several results: the attribute's ``result`` names the one that an expression stands for, and compilers
compute all results of the same arguments at once.
"""
from __future__ import annotations

import math
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np

from torsh.core.dtype import DType, bool_, from_numpy_dtype
from torsh.core.shape import broadcast_shapes
from torsh.ops.define import Array, convert, wide
from torsh.ops.expr import OPAQUE, Expr, Op, Shape
from torsh.ops.random import philox

MOST_BATCH_DIMENSIONS: Final = 4
_FEW_ITEMS: Final = 8          # matrices in a batch that give threads enough to share
_CHUNK_KEYS: Final = 256


class Blockwise(NamedTuple):
    """Attribute of both primitives: which result, causal masking, the scale, whether a mask is given.

    dropout: are probability, seed and offset given? chunks: parts of the keys whose contributions to the gradient of the query are
    kept apart (backward only).
    """

    result: str
    causal: bool
    scale: float
    mask: bool
    dropout: bool = False
    chunks: int = 1


def lead_shape(query: Expr, key: Expr, value: Expr, *mask: Expr) -> Shape:
    """Batch dimensions of the result."""
    return broadcast_shapes(*[e.shape[:-2] for e in (query, key, value, *mask)])


def key_chunks(items: int, keys: int) -> int:
    """Into how many chunks keys are divided, so that few matrices are enough work for several threads."""
    return 1 if items >= _FEW_ITEMS else max(1, min(-(-_FEW_ITEMS // items), keys // _CHUNK_KEYS))


def _forward_infer(attr: Blockwise, query: Expr, key: Expr, value: Expr, *rest: Expr) -> tuple[Shape, DType]:
    lead = lead_shape(query, key, value, *rest[:attr.mask])
    if attr.result == "logsumexp":
        return (*lead, query.shape[-2]), wide(query.dtype)
    return (*lead, query.shape[-2], value.shape[-1]), query.dtype


def _backward_infer(attr: Blockwise, query: Expr, key: Expr, value: Expr, *rest: Expr) -> tuple[Shape, DType]:
    lead = lead_shape(query, key, value, *rest[:attr.mask])
    shapes = {"query": (attr.chunks, *lead, *query.shape[-2:]), "key": (*lead, *key.shape[-2:]),
              "value": (*lead, *value.shape[-2:])}
    return shapes[attr.result], wide(query.dtype)


def _scores(attr: Blockwise, query: Array, key: Array, mask: list[Any]) -> Array:
    scores = query @ np.swapaxes(key, -1, -2) * attr.scale
    if attr.causal:
        scores = np.where(np.tri(*scores.shape[-2:]) > 0, scores, -np.inf)
    if mask:
        scores = np.where(mask[0], scores, -np.inf) if np.asarray(mask[0]).dtype == bool else scores + mask[0]
    return scores


def _widened(*arrays: Any) -> list[Array]:
    """Arrays in the dtype that is computed in; conditions stay."""
    dtypes = [from_numpy_dtype(np.asarray(a).dtype) for a in arrays]
    return [a if d is bool_ else convert(a, wide(d)) for a, d in zip(arrays, dtypes, strict=True)]


def _kept(attr: Blockwise, weights: Array, drawn: list[Any]) -> Array:
    """What dropout multiplies weights with."""
    if not attr.dropout:
        return np.ones((), weights.dtype)
    chance, seed, offset = drawn
    word = philox(seed, offset, np.arange(weights.size))[0].reshape(weights.shape)
    dropped = (word >> np.uint64(8)).astype(np.float32) * np.float32(2.0 ** -24) < np.float32(chance)
    work = weights.dtype.type
    return np.where(dropped, work(0), work(1) / (work(1) - work(chance)))


def _forward_reference(attr: Blockwise, *arrays: Any) -> Array:
    dtype = from_numpy_dtype(np.asarray(arrays[0]).dtype)
    given = 3 + attr.mask
    query, key, value, *mask = _widened(*arrays[:given])
    with np.errstate(all="ignore"):
        scores = _scores(attr, query, key, mask)
        top = scores.max(-1, keepdims=True)
        weights = np.exp(scores - np.where(top == -np.inf, 0, top))
        total = weights.sum(-1, keepdims=True)
        if attr.result == "logsumexp":
            return np.log(total[..., 0]) + top[..., 0]  # type: ignore[no-any-return]
        nothing = (total == 0) & attr.mask
        weights = np.where(nothing, 0, weights / np.where(nothing, 1, total)).astype(value.dtype)
        out = weights * _kept(attr, weights, list(arrays[given:])) @ value
    lead = np.broadcast_shapes(*[np.shape(a)[:-2] for a in arrays[:given]])
    return convert(np.broadcast_to(out, (*lead, *out.shape[-2:])), dtype)


def _backward_reference(attr: Blockwise, *arrays: Any) -> Array:
    given = 3 + attr.mask
    query, key, value, *mask = _widened(*arrays[:given])
    logsumexp, delta, g = _widened(*arrays[-3:])
    lead = np.broadcast_shapes(*[np.shape(a)[:-2] for a in arrays[:given]])
    with np.errstate(all="ignore"):
        scores = _scores(attr, query, key, mask)
        bottom = np.where(logsumexp == -np.inf, np.inf, logsumexp)[..., None]
        weights = np.exp(scores - bottom).astype(g.dtype)
        kept = _kept(attr, weights, list(arrays[given:-3]))
        slopes = weights * (g @ np.swapaxes(value, -1, -2) * kept - delta[..., None]) * g.dtype.type(attr.scale)
        if attr.result == "value":
            found = np.swapaxes(weights * kept, -1, -2) @ g
        elif attr.result == "key":
            found = np.swapaxes(slopes, -1, -2) @ query
        else:
            found = slopes @ key
            parts = np.zeros((attr.chunks, *lead, *found.shape[-2:]), found.dtype)
            parts[0] = found
            return parts
    return np.ascontiguousarray(np.broadcast_to(found, (*lead, *found.shape[-2:])))


# args: query (..., L, E), key (..., S, E), value (..., S, V), mask (..., L, S) if given; leading dimensions broadcast. Then, for
# dropout, its probability (float64), seed and offset (int64): the weights are dropped that the op ``dropout`` would drop.
# Results: "out" (..., L, V); "logsumexp" of the scores (..., L), at least in float32.
BLOCKWISE_ATTENTION: Final[Op] = Op("blockwise_attention", _forward_infer, _forward_reference, kind=OPAQUE)
# args: as above, then logsumexp, delta (..., L): the sum of out times its gradient, and that gradient g (..., L, V).
# Results, for all leading dimensions and at least in float32: "query" (chunks, ..., L, E), to be summed over the first
# dimension, "key", "value".
BLOCKWISE_ATTENTION_BACKWARD: Final[Op] = Op("blockwise_attention_backward", _backward_infer, _backward_reference, kind=OPAQUE)


def default_scale(size: int) -> float:
    """The scale of scores unless one is given."""
    return 1.0 / math.sqrt(size) if size else 1.0


def items_of(lead: Shape) -> int:
    """Number of matrices of a batch."""
    return prod(lead)
