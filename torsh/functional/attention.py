"""Attention."""
from __future__ import annotations

import math
import warnings
from typing import Any

from torsh.core.dtype import DType, bool_
from torsh.core.errors import InvalidArgumentError, ShapeMismatchError
from torsh.functional.activation import softmax
from torsh.functional.common import T
from torsh.functional.convolution import linear
from torsh.functional.padding import pad
from torsh.functional.sparse_and_dropout import dropout
from torsh.graph.window import scalar_expr
from torsh.ops.attention import attention_expr
from torsh.ops.expr import Expr
from torsh.tensor.function import recorded, tensor_operand
from torsh.tensor.randomness import seeds
from torsh.tensor.tensor import Tensor


def _attention(query: Expr, key: Expr, value: Expr, mask: Expr | None, causal: bool, scale: float | None, gqa: bool) -> Expr:
    return attention_expr(query, key, value, mask, causal, scale, gqa)


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
                                 dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
                                 enable_gqa: bool = False) -> Tensor:
    """``softmax(query @ key.T * scale + mask) @ value``.

    query (..., L, E), key (..., S, E), value (..., S, V). attn_mask: bool (True takes part) or added to the scores.
    is_causal: position i attends to positions up to i. scale: ``1 / sqrt(E)`` by default. enable_gqa: key and value may have
    fewer heads (dimension -3) than query, each shared by several. dropout_p applies whenever it is not 0.

    Example::

        >>> import torsh
        >>> q = torsh.randn(1, 2, 4, 8)
        >>> torsh.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True).shape
        torsh.Size([1, 2, 4, 8])
    """
    if not dropout_p:
        return recorded(_attention, (query, key, value, attn_mask), (is_causal, scale, enable_gqa))  # type: ignore[no-any-return]
    if not 0.0 <= dropout_p <= 1.0:
        raise InvalidArgumentError(f"dropout probability has to be between 0 and 1, but got {dropout_p}")
    q, k, v, *mask = [tensor_operand(t, "scaled_dot_product_attention", i, name) for i, (t, name) in enumerate(
        ((query, "query"), (key, "key"), (value, "value"), (attn_mask, "attn_mask")), 1) if t is not None]
    drop = (scalar_expr(float(dropout_p)), *seeds(None))
    return Tensor(attention_expr(q, k, v, mask[0] if mask else None, is_causal, scale, enable_gqa, drop))

def _canonical_mask(mask: Any, mask_name: str, other: Any, other_name: str, dtype: DType, check_other: bool = True) -> Any:
    """A mask as numbers to add to the scores: of a bool mask, -inf where it is True; masks of numbers stay as they are."""
    if mask is None:
        return None
    is_float = mask.dtype.is_floating_point
    if mask.dtype is not bool_ and not is_float:
        raise AssertionError(f"only bool and floating types of {mask_name} are supported")
    if check_other and other is not None and other.dtype is not mask.dtype:
        warnings.warn(f"Support for mismatched {mask_name} and {other_name} is deprecated. Use same type for both instead.", stacklevel=3)
    return mask if is_float else T["zeros_like"](mask, dtype=dtype).masked_fill(mask, -math.inf)


def _check_attention_dims(query: Any, key: Any, value: Any, key_padding_mask: Any, attn_mask: Any, num_heads: int) -> bool:
    """Do the arguments come with a batch dimension? Raises if they do not agree on it."""
    n = query.dim()
    if n not in (2, 3):
        raise AssertionError(f"query should be unbatched 2D or batched 3D tensor but received {n}-D query tensor")
    start = f"For {'batched (3-D)' if n == 3 else 'unbatched (2-D)'} `query`, expected "
    if key.dim() != n or value.dim() != n:
        raise AssertionError(f"{start}`key` and `value` to be {n}-D but found {key.dim()}-D and {value.dim()}-D tensors respectively")
    if key_padding_mask is not None and key_padding_mask.dim() != n - 1:
        raise AssertionError(f"{start}`key_padding_mask` to be `None` or {n - 1}-D but found {key_padding_mask.dim()}-D tensor instead")
    if attn_mask is not None:
        if attn_mask.dim() not in (2, 3):
            raise AssertionError(f"{start}`attn_mask` to be `None`, 2-D or 3-D but found {attn_mask.dim()}-D tensor instead")
        expected = (num_heads, query.shape[0], key.shape[0])
        if n == 2 and attn_mask.dim() == 3 and tuple(attn_mask.shape) != expected:
            raise AssertionError(f"Expected `attn_mask` shape to be {expected} but got {attn_mask.shape}")
    return n == 3


def _check_attention_sizes(query: Any, key: Any, value: Any, embed_dim: int, num_heads: int, separate: bool) -> None:
    size = query.shape[-1]
    if size != embed_dim:
        raise AssertionError(f"was expecting embedding dimension of {embed_dim}, but got {size}")
    if size % num_heads:
        raise AssertionError(f"embed_dim {size} not divisible by num_heads {num_heads}")
    if separate:
        if tuple(key.shape[:2]) != tuple(value.shape[:2]):
            raise AssertionError(f"key's sequence and batch dims {key.shape[:2]} do not match value's {value.shape[:2]}")
    elif tuple(key.shape) != tuple(value.shape):
        raise AssertionError(f"key shape {key.shape} does not match value shape {value.shape}")


def _projected(inputs: tuple[Any, Any, Any], packed: Any, weights: tuple[Any, Any, Any], bias: Any, separate: bool) -> list[Any]:
    """Query, key and value after their projections; equal inputs with one packed weight share a product."""
    biases = (None, None, None) if bias is None else bias.chunk(3)
    if separate:
        for name, w in zip("qkv", weights, strict=True):
            if w is None:
                raise AssertionError(f"use_separate_proj_weight is True but {name}_proj_weight is None")
        return [linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True)]
    if packed is None:
        raise AssertionError("use_separate_proj_weight is False but in_proj_weight is None")
    query, key, value = inputs
    if key is value:
        if query is key:
            return list(linear(query, packed, bias).chunk(3, -1))  # type: ignore[attr-defined]
        size = query.shape[-1]
        rest = None if bias is None else bias[size:]
        both: Any = linear(key, packed[size:], rest)
        return [linear(query, packed[:size], biases[0]), *both.chunk(2, -1)]
    return [linear(x, w, b) for x, w, b in zip(inputs, packed.chunk(3), biases, strict=True)]


def _checked_attention_mask(mask: Any, length: int, span: int, groups: int) -> Any:
    """The mask with three dimensions: one for all, or one for every batch entry and head."""
    if mask is None:
        return None
    if mask.dim() not in (2, 3):
        raise ShapeMismatchError(f"attn_mask's dimension {mask.dim()} is not supported")
    expected = (length, span) if mask.dim() == 2 else (groups, length, span)
    if tuple(mask.shape) != expected:
        raise ShapeMismatchError(f"The shape of the {mask.dim()}D attn_mask is {mask.shape}, but should be {expected}.")
    return mask.unsqueeze(0) if mask.dim() == 2 else mask


def _one_more(mask: Any) -> Any:
    """A mask for one more key, which all may attend to."""
    return None if mask is None else pad(mask, (0, 1))


def _check_bias_kv(bias_k: Any, bias_v: Any, static_k: Any, static_v: Any) -> bool:
    """Are there bias entries of key and value? Both or none must be given, and no static ones with them."""
    if (bias_k is None) != (bias_v is None):
        given, other = ("bias_k", "bias_v") if bias_v is None else ("bias_v", "bias_k")
        raise AssertionError(f"{given} is set but {other} is None")
    if bias_k is None:
        return False
    for static, name in ((static_k, "key"), (static_v, "value")):
        if static is not None:
            raise AssertionError(f"bias cannot be added to static {name}.")
    return True


def _heads(x: Any, static: Any, groups: int, size: int, name: str) -> Any:
    """(L, B, E) as (B * heads, L, size), or the given static one, checked."""
    if static is None:
        return x.reshape(x.shape[0], groups, size).transpose(0, 1)
    for d, wanted in ((0, groups), (2, size)):
        if static.shape[d] != wanted:
            raise AssertionError(f"expecting static_{name}.size({d}) of {wanted}, but got {static.shape[d]}")
    return static


def _merged_mask(attn_mask: Any, key_padding_mask: Any, batch: int, num_heads: int, span: int) -> Any:
    """The sum of both masks: (1 or B * heads, L or 1, S)."""
    if key_padding_mask is None:
        return attn_mask
    for d, wanted in ((0, batch), (1, span)):
        if key_padding_mask.shape[d] != wanted:
            raise AssertionError(f"Expected key_padded_mask.shape[{d}] to be {wanted}, but got {key_padding_mask.shape[d]}")
    rows = key_padding_mask.reshape(batch, 1, 1, span).expand(-1, num_heads, -1, -1).reshape(batch * num_heads, 1, span)
    return rows if attn_mask is None else attn_mask + rows


def _attend(q: Any, k: Any, v: Any, mask: Any, heads: tuple[int, int], dropout_p: float, is_causal: bool,
            need_weights: bool) -> tuple[Any, Any]:
    """Results (B, heads, L, size) and weights (B, heads, L, S) of q, k and v (B * heads, L or S, size)."""
    if not need_weights:
        if mask is not None:
            mask = mask.unsqueeze(0) if mask.shape[0] == 1 else mask.reshape(*heads, *mask.shape[1:])
        q, k, v = (x.reshape(*heads, *x.shape[1:]) for x in (q, k, v))
        return scaled_dot_product_attention(q, k, v, mask, dropout_p, is_causal), None
    scores = T["bmm"](q * math.sqrt(1.0 / q.shape[-1]), k.transpose(-2, -1))
    weights: Any = softmax(scores if mask is None else scores + mask, -1)
    if dropout_p:
        weights = dropout(weights, dropout_p)
    return T["bmm"](weights, v).reshape(*heads, q.shape[1], v.shape[-1]), weights.reshape(*heads, *weights.shape[1:])


def multi_head_attention_forward(query: Any, key: Any, value: Any, embed_dim_to_check: int, num_heads: int, in_proj_weight: Any,
                                 in_proj_bias: Any, bias_k: Any, bias_v: Any, add_zero_attn: bool, dropout_p: float,
                                 out_proj_weight: Any, out_proj_bias: Any, training: bool = True, key_padding_mask: Any = None,
                                 need_weights: bool = True, attn_mask: Any = None, use_separate_proj_weight: bool = False,
                                 q_proj_weight: Any = None, k_proj_weight: Any = None, v_proj_weight: Any = None,
                                 static_k: Any = None, static_v: Any = None, average_attn_weights: bool = True,
                                 is_causal: bool = False) -> tuple[Any, Any]:
    """Attention of several heads with the projections around it; see :class:`torsh.nn.MultiheadAttention`.

    query (L, B, E), key and value (S, B, *), or all without B. in_proj_weight (3E, E), in_proj_bias (3E): the three input
    projections in one; with ``use_separate_proj_weight``, q_proj_weight (E, E), k_proj_weight (E, kdim) and v_proj_weight
    (E, vdim). bias_k, bias_v (1, 1, E): one more key and value. add_zero_attn: and one of zeros. key_padding_mask (B, S),
    attn_mask (L, S) or (B * heads, L, S): True, or a number that is added to the scores. is_causal: attn_mask is the causal mask.
    static_k, static_v (B * heads, S, E / heads): used instead of the projected ones.

    Returns the result (L, B, E) and, with ``need_weights``, the weights (B, L, S), or (B, heads, L, S) unless averaged.
    """
    batched = _check_attention_dims(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not batched:
        query, key, value = _with_batch(query, key, value)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, batch, size = query.shape
    padding = _canonical_mask(key_padding_mask, "key_padding_mask", attn_mask, "attn_mask", query.dtype)
    if is_causal and attn_mask is None:
        raise ShapeMismatchError("Need attn_mask if specifying the is_causal hint. You may use the Transformer module method "
                                 "`generate_square_subsequent_mask` to create this mask.")
    # The hint spares the mask only where nothing else has to be added to it.
    causal = is_causal and padding is None and not need_weights
    mask = None if causal else _canonical_mask(attn_mask, "attn_mask", None, "", query.dtype, False)
    _check_attention_sizes(query, key, value, embed_dim_to_check, num_heads, use_separate_proj_weight)
    q, k, v = _projected((query, key, value), in_proj_weight, (q_proj_weight, k_proj_weight, v_proj_weight), in_proj_bias,
                         use_separate_proj_weight)
    groups, part = batch * num_heads, size // num_heads
    mask = _checked_attention_mask(mask, length, key.shape[0], groups)
    if _check_bias_kv(bias_k, bias_v, static_k, static_v):
        k, v = (T["cat"]([x, b.expand(1, batch, size)]) for x, b in ((k, bias_k), (v, bias_v)))
        mask, padding = _one_more(mask), _one_more(padding)
    q, k, v = _heads(q, None, groups, part, "q"), _heads(k, static_k, groups, part, "k"), _heads(v, static_v, groups, part, "v")
    if add_zero_attn:
        k, v = (T["cat"]([x, x.new_zeros(groups, 1, part)], 1) for x in (k, v))
        mask, padding = _one_more(mask), _one_more(padding)
    mask = _merged_mask(mask, padding, batch, num_heads, k.shape[1])
    out, weights = _attend(q, k, v, mask, (batch, num_heads), dropout_p if training else 0.0, causal, need_weights)
    out = linear(out.permute(2, 0, 1, 3).reshape(length, batch, size), out_proj_weight, out_proj_bias)
    if weights is not None and average_attn_weights:
        weights = weights.mean(1)
    if batched:
        return out, weights
    return out.squeeze(1), None if weights is None else weights.squeeze(0)


def _with_batch(query: Any, key: Any, value: Any) -> tuple[Any, Any, Any]:
    """The inputs with a batch of one; the same tensor stays the same tensor, so that projections can be shared."""
    q = query.unsqueeze(1)
    k = q if key is query else key.unsqueeze(1)
    v = k if value is key else value.unsqueeze(1)
    return q, k, v
