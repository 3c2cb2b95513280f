"""Attention."""
from __future__ import annotations

import math
from typing import Any

from torsh.core.dtype import bool_
from torsh.core.errors import ShapeMismatchError
from torsh.functional.activation import softmax
from torsh.functional.common import T
from torsh.functional.sparse_and_dropout import dropout
from torsh.tensor.tensor import Tensor


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
                                 dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
                                 enable_gqa: bool = False) -> Tensor:
    """``softmax(query @ key.T * scale + mask) @ value``.

    query (..., L, E), key (..., S, E), value (..., S, V). attn_mask: bool (True takes part) or added to the scores.
    is_causal: position i attends to positions up to i. scale: ``1 / sqrt(E)`` by default.
    """
    if is_causal and attn_mask is not None:
        raise ShapeMismatchError("_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True")
    for t, name in ((query, "query"), (key, "key"), (value, "value")):
        if t.ndim < 2:
            raise ShapeMismatchError(f"scaled_dot_product_attention: {name} must be at least 2D, got {t.ndim}D")
        if t.dtype is not query.dtype:
            raise ShapeMismatchError("Expected query, key, and value to have the same dtype, but got query.dtype: "
                                     f"{query.dtype.name} key.dtype: {key.dtype.name} and value.dtype: {value.dtype.name} instead.")
    q, k, v = query, key, value
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        k, v = (T["repeat_interleave"](t, groups, -3) for t in (key, value))
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores: Any = T["matmul"](q * factor, k.transpose(-2, -1))  # type: ignore[operator, attr-defined]
    if is_causal:
        length, span = query.shape[-2], key.shape[-2]
        seen = T["arange"](span) <= T["arange"](length).unsqueeze(1)
        scores = T["where"](seen, scores, -math.inf)
    elif attn_mask is not None:
        scores = T["where"](attn_mask, scores, -math.inf) if attn_mask.dtype is bool_ else scores + attn_mask
    weights: Any = softmax(scores, -1)
    if attn_mask is not None and attn_mask.dtype is bool_:
        # A row without any allowed position gives zeros, as in PyTorch.
        weights = T["where"](attn_mask.any(-1, keepdim=True), weights, 0.0)  # type: ignore[attr-defined]
    if dropout_p:
        weights = dropout(weights, dropout_p)
    return T["matmul"](weights, v)  # type: ignore[no-any-return]
