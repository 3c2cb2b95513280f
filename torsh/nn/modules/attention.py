"""Attention of several heads."""
from __future__ import annotations

from typing import Any

from torsh.core.errors import InvalidArgumentError
from torsh.functional.attention import _canonical_mask
from torsh.nn import functional as F
from torsh.nn import init
from torsh.nn.modules.linear import NonDynamicallyQuantizableLinear
from torsh.nn.modules.module import Module
from torsh.nn.parameter import Parameter
from torsh.tensor.creation import empty


class MultiheadAttention(Module):
    """Scaled dot-product attention of ``num_heads`` heads (Vaswani et al., 2017), with projections before and after.

    kdim, vdim: features of key and value (embed_dim by default). add_bias_kv: one more, learned, key and value.
    add_zero_attn: one more key and value of zeros. batch_first: (B, L, E) instead of (L, B, E).

    Example::

        >>> import torsh
        >>> x = torsh.randn(2, 5, 8)
        >>> out, weights = torsh.nn.MultiheadAttention(8, 2, batch_first=True)(x, x, x)
        >>> out.shape, weights.shape
        (torsh.Size([2, 5, 8]), torsh.Size([2, 5, 5]))
    """

    batch_first: bool

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, add_bias_kv: bool = False,
                 add_zero_attn: bool = False, kdim: int | None = None, vdim: int | None = None, batch_first: bool = False,
                 device: Any = None, dtype: Any = None) -> None:
        if embed_dim <= 0 or num_heads <= 0:
            raise InvalidArgumentError(f"embed_dim and num_heads must be greater than 0, got embed_dim={embed_dim} and "
                                       f"num_heads={num_heads} instead")
        super().__init__()
        if embed_dim % num_heads:
            raise AssertionError("embed_dim must be divisible by num_heads")
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self._qkv_same_embed_dim = self.kdim == embed_dim and self.vdim == embed_dim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        options = {"device": device, "dtype": dtype}
        self._add_projections(bias, options)
        self.out_proj = NonDynamicallyQuantizableLinear(embed_dim, embed_dim, bias=bias, device=device, dtype=dtype)
        self.bias_k = Parameter(empty((1, 1, embed_dim), **options)) if add_bias_kv else None
        self.bias_v = Parameter(empty((1, 1, embed_dim), **options)) if add_bias_kv else None
        self._reset_parameters()

    def _add_projections(self, bias: bool, options: dict[str, Any]) -> None:
        """One weight for all three inputs where their sizes allow it, else one each."""
        size = self.embed_dim
        shapes: dict[str, tuple[int, ...] | None] = {"q_proj_weight": (size, size), "k_proj_weight": (size, self.kdim),
                                                     "v_proj_weight": (size, self.vdim), "in_proj_weight": None}
        if self._qkv_same_embed_dim:
            shapes = {"in_proj_weight": (3 * size, size), **dict.fromkeys(list(shapes)[:3])}
        shapes["in_proj_bias"] = (3 * size,) if bias else None
        for name, shape in shapes.items():
            self.register_parameter(name, None if shape is None else Parameter(empty(shape, **options)))

    def _reset_parameters(self) -> None:
        """Draw new parameters."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                init.xavier_normal_(extra)

    def forward(self, query: Any, key: Any, value: Any, key_padding_mask: Any = None, need_weights: bool = True,
                attn_mask: Any = None, average_attn_weights: bool = True, is_causal: bool = False) -> tuple[Any, Any]:
        """The result and the weights of attention (None unless ``need_weights``).

        query: (L, B, embed_dim), key: (S, B, kdim), value: (S, B, vdim); with ``batch_first``, B comes first; or all without B.
        key_padding_mask: (B, S), True (or a number that is added): this key takes no part. attn_mask: (L, S) or
        (B * num_heads, L, S), True: this query does not see this key. average_attn_weights: weights (B, L, S), else
        (B, num_heads, L, S). is_causal: a hint that attn_mask is the causal mask.
        """
        key_padding_mask = _canonical_mask(key_padding_mask, "key_padding_mask", attn_mask, "attn_mask", query.dtype)
        attn_mask = _canonical_mask(attn_mask, "attn_mask", None, "", query.dtype, False)
        swap = self.batch_first and query.dim() == 3
        if swap:
            query, key, value = _swapped(query, key, value)
        out, weights = F.multi_head_attention_forward(
            query, key, value, self.embed_dim, self.num_heads, self.in_proj_weight, self.in_proj_bias, self.bias_k, self.bias_v,
            self.add_zero_attn, self.dropout, self.out_proj.weight, self.out_proj.bias, training=self.training,
            key_padding_mask=key_padding_mask, need_weights=need_weights, attn_mask=attn_mask,
            use_separate_proj_weight=not self._qkv_same_embed_dim, q_proj_weight=self.q_proj_weight,
            k_proj_weight=self.k_proj_weight, v_proj_weight=self.v_proj_weight, average_attn_weights=average_attn_weights,
            is_causal=is_causal)
        return out.transpose(0, 1) if swap else out, weights


def _swapped(query: Any, key: Any, value: Any) -> tuple[Any, Any, Any]:
    """The inputs with their first two dimensions swapped; the same tensor stays the same, so that projections can be shared."""
    q = query.transpose(0, 1)
    k = q if key is query else key.transpose(0, 1)
    v = k if value is key else value.transpose(0, 1)
    return q, k, v
