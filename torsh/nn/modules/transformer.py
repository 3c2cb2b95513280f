"""Transformers (Vaswani et al., 2017): encoder, decoder and both together."""
from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

from torsh.core.errors import InvalidArgumentError, ShapeMismatchError
from torsh.functional.attention import _canonical_mask
from torsh.functional.common import T
from torsh.nn import functional as F
from torsh.nn import init
from torsh.nn.modules.activation import GELU, ReLU
from torsh.nn.modules.attention import MultiheadAttention
from torsh.nn.modules.container import ModuleList
from torsh.nn.modules.dropout import Dropout
from torsh.nn.modules.linear import Linear
from torsh.nn.modules.module import Module
from torsh.nn.modules.normalization import LayerNorm
from torsh.ops.expr import recording

Activation = str | Callable[[Any], Any]


def _activation(activation: Activation) -> Any:
    if not isinstance(activation, str):
        return activation
    if activation not in ("relu", "gelu"):
        raise ShapeMismatchError(f"activation should be relu/gelu, not {activation}")
    return F.relu if activation == "relu" else F.gelu


def _number_of(activation: Any) -> int:
    """1 for relu, 2 for gelu, 0 for others."""
    known = ((F.relu, ReLU), (F.gelu, GELU))
    return next((k for k, (function, module) in enumerate(known, 1) if activation is function or isinstance(activation, module)), 0)


def _copies(layer: Module, count: int) -> ModuleList:
    return ModuleList([copy.deepcopy(layer) for _ in range(count)])


class _Layer(Module):
    """What encoder and decoder layers share: attention to themselves and two linear layers, each with norm and dropout."""

    attentions: tuple[str, ...] = ("self_attn",)

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
                 activation: Activation = F.relu, layer_norm_eps: float = 1e-5, batch_first: bool = False,
                 norm_first: bool = False, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        options = {"device": device, "dtype": dtype}
        for name in self.attentions:
            setattr(self, name, MultiheadAttention(d_model, nhead, dropout=dropout, bias=bias, batch_first=batch_first, **options))
        self.linear1 = Linear(d_model, dim_feedforward, bias=bias, **options)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias=bias, **options)
        self.norm_first = norm_first
        blocks = range(1, len(self.attentions) + 2)
        for k in blocks:
            setattr(self, f"norm{k}", LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **options))
        for k in blocks:
            setattr(self, f"dropout{k}", Dropout(dropout))
        self.activation = _activation(activation)
        self.activation_relu_or_gelu = _number_of(self.activation)

    def _sa_block(self, x: Any, attn_mask: Any, key_padding_mask: Any, is_causal: bool = False) -> Any:
        """Attention of the sequence to itself."""
        return self.dropout1(self.self_attn(x, x, x, attn_mask=attn_mask, key_padding_mask=key_padding_mask, need_weights=False,
                                            is_causal=is_causal)[0])

    def _feed_forward(self, x: Any) -> Any:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class TransformerEncoderLayer(_Layer):
    """Attention of a sequence to itself, then two linear layers; (S, B, d_model) or, with ``batch_first``, (B, S, d_model).

    norm_first: normalise before each block instead of after it. activation: "relu", "gelu" or a function.

    Example::

        >>> import torsh
        >>> torsh.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)(torsh.randn(2, 5, 16)).shape
        torsh.Size([2, 5, 16])
    """

    def forward(self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False) -> Any:
        """The encoded sequence.

        src_mask: (S, S) or (B * nhead, S, S); src_key_padding_mask: (B, S); True, or a number that is added to the scores.
        is_causal: a hint that src_mask is the causal mask.
        """
        padding = _canonical_mask(src_key_padding_mask, "src_key_padding_mask", src_mask, "src_mask", src.dtype)
        mask = _canonical_mask(src_mask, "src_mask", None, "", src.dtype, False)
        x = src
        if self.norm_first:
            x = x + self._sa_block(self.norm1(x), mask, padding, is_causal)
            return x + self._ff_block(self.norm2(x))
        x = self.norm1(x + self._sa_block(x, mask, padding, is_causal))
        return self.norm2(x + self._ff_block(x))

    def _ff_block(self, x: Any) -> Any:
        return self.dropout2(self._feed_forward(x))


class TransformerDecoderLayer(_Layer):
    """Attention of a sequence to itself and to the encoder's result, then two linear layers; see TransformerEncoderLayer.

    Example::

        >>> import torsh
        >>> torsh.nn.TransformerDecoderLayer(16, 4, 32)(torsh.randn(3, 2, 16), torsh.randn(5, 2, 16)).shape
        torsh.Size([3, 2, 16])
    """

    attentions = ("self_attn", "multihead_attn")

    def forward(self, tgt: Any, memory: Any, tgt_mask: Any = None, memory_mask: Any = None, tgt_key_padding_mask: Any = None,
                memory_key_padding_mask: Any = None, tgt_is_causal: bool = False, memory_is_causal: bool = False) -> Any:
        """The decoded sequence tgt (T, B, d_model); memory (S, B, d_model): the encoder's result.

        tgt_mask: (T, T); memory_mask: (T, S); tgt_key_padding_mask: (B, T); memory_key_padding_mask: (B, S).
        """
        x = tgt
        if self.norm_first:
            x = x + self._sa_block(self.norm1(x), tgt_mask, tgt_key_padding_mask, tgt_is_causal)
            x = x + self._mha_block(self.norm2(x), memory, memory_mask, memory_key_padding_mask, memory_is_causal)
            return x + self._ff_block(self.norm3(x))
        x = self.norm1(x + self._sa_block(x, tgt_mask, tgt_key_padding_mask, tgt_is_causal))
        x = self.norm2(x + self._mha_block(x, memory, memory_mask, memory_key_padding_mask, memory_is_causal))
        return self.norm3(x + self._ff_block(x))

    def _mha_block(self, x: Any, mem: Any, attn_mask: Any, key_padding_mask: Any, is_causal: bool = False) -> Any:
        """Attention to the encoder's result."""
        return self.dropout2(self.multihead_attn(x, mem, mem, attn_mask=attn_mask, key_padding_mask=key_padding_mask,
                                                 is_causal=is_causal, need_weights=False)[0])

    def _ff_block(self, x: Any) -> Any:
        return self.dropout3(self._feed_forward(x))


class TransformerEncoder(Module):
    """``num_layers`` copies of a layer, one after the other, and a norm at the end if one is given.

    enable_nested_tensor: in evaluation without gradients, with a src_key_padding_mask whose padding is at the end, padded
    positions of the result are zero (before the norm), as PyTorch has it. mask_check: whether that is checked.
    """

    def __init__(self, encoder_layer: Any, num_layers: int, norm: Module | None = None, enable_nested_tensor: bool = True,
                 mask_check: bool = True) -> None:
        super().__init__()
        self.layers = _copies(encoder_layer, num_layers)
        self.num_layers, self.norm, self.mask_check = num_layers, norm, mask_check
        self.enable_nested_tensor = self.use_nested_tensor = enable_nested_tensor
        reason = _why_padding_is_kept(encoder_layer)
        if enable_nested_tensor and reason:
            warnings.warn("enable_nested_tensor is True, but self.use_nested_tensor is False because encoder_layer" + reason,
                          stacklevel=2)
            self.use_nested_tensor = False

    def forward(self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool | None = None) -> Any:
        """The encoded sequence; see :meth:`TransformerEncoderLayer.forward`."""
        padding = _canonical_mask(src_key_padding_mask, "src_key_padding_mask", mask, "mask", src.dtype)
        mask = _canonical_mask(mask, "mask", None, "", src.dtype, False)
        out = src
        # PyTorch looks whether the mask is causal to choose a faster kernel; the result is the same without.
        for layer in self.layers:
            out = layer(out, src_mask=mask, is_causal=bool(is_causal), src_key_padding_mask=padding)
        if padding is not None and mask is None and src.dim() == 3 and self._drops_padding(src):
            out = _without_padding(out, padding != 0, self.mask_check)
        return out if self.norm is None else self.norm(out)

    def _drops_padding(self, src: Any) -> bool:
        first = self.layers[0]
        if not self.use_nested_tensor or first.training:
            return False
        return not recording.grad_enabled or not (src.requires_grad or any(p.requires_grad for p in first.parameters()))


def _why_padding_is_kept(layer: Any) -> str:
    """What in a layer keeps PyTorch from leaving padding out in evaluation; empty if nothing does."""
    if not isinstance(layer, TransformerEncoderLayer):
        return " was not TransformerEncoderLayer"
    attention = layer.self_attn
    reasons = ((layer.norm_first, ".norm_first was True"),
               (not attention.batch_first, ".self_attn.batch_first was not True(use batch_first for better inference performance)"),
               (not attention._qkv_same_embed_dim, ".self_attn._qkv_same_embed_dim was not True"),
               (attention.in_proj_bias is None, ".self_attn was passed bias=False"),
               (not layer.activation_relu_or_gelu, ".activation_relu_or_gelu was not True"),
               (layer.norm1.eps != layer.norm2.eps, ".norm1.eps was not equal to encoder_layer.norm2.eps"),
               (attention.num_heads % 2 == 1, ".self_attn.num_heads is odd"))
    return next((text for applies, text in reasons if applies), "")


def _without_padding(out: Any, padded: Any, check: bool) -> Any:
    """Zeros at the padded positions (B, S), if all padding is at the end."""
    if check:
        padded = padded & (padded[:, 1:] | ~padded[:, :-1]).all()
    return out.masked_fill(padded.unsqueeze(-1), 0.0)


class TransformerDecoder(Module):
    """``num_layers`` copies of a layer, one after the other, and a norm at the end if one is given."""

    def __init__(self, decoder_layer: Any, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = _copies(decoder_layer, num_layers)
        self.num_layers, self.norm = num_layers, norm

    def forward(self, tgt: Any, memory: Any, tgt_mask: Any = None, memory_mask: Any = None, tgt_key_padding_mask: Any = None,
                memory_key_padding_mask: Any = None, tgt_is_causal: bool | None = None, memory_is_causal: bool = False) -> Any:
        """The decoded sequence; see :meth:`TransformerDecoderLayer.forward`."""
        out = tgt
        for layer in self.layers:
            out = layer(out, memory, tgt_mask=tgt_mask, memory_mask=memory_mask, tgt_key_padding_mask=tgt_key_padding_mask,
                        memory_key_padding_mask=memory_key_padding_mask, tgt_is_causal=bool(tgt_is_causal),
                        memory_is_causal=memory_is_causal)
        return out if self.norm is None else self.norm(out)


class Transformer(Module):
    """Encoder and decoder: src (S, B, d_model) and tgt (T, B, d_model) to (T, B, d_model); B first with ``batch_first``.

    Example::

        >>> import torsh
        >>> model = torsh.nn.Transformer(16, 4, 1, 1, 32, batch_first=True)
        >>> model(torsh.randn(2, 5, 16), torsh.randn(2, 3, 16)).shape
        torsh.Size([2, 3, 16])
    """

    def __init__(self, d_model: int = 512, nhead: int = 8, num_encoder_layers: int = 6, num_decoder_layers: int = 6,
                 dim_feedforward: int = 2048, dropout: float = 0.1, activation: Activation = F.relu, custom_encoder: Any = None,
                 custom_decoder: Any = None, layer_norm_eps: float = 1e-5, batch_first: bool = False, norm_first: bool = False,
                 bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        options = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias, device, dtype)

        def norm() -> LayerNorm:
            return LayerNorm(d_model, eps=layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.encoder = custom_encoder if custom_encoder is not None else \
            TransformerEncoder(TransformerEncoderLayer(*options), num_encoder_layers, norm())
        self.decoder = custom_decoder if custom_decoder is not None else \
            TransformerDecoder(TransformerDecoderLayer(*options), num_decoder_layers, norm())
        self._reset_parameters()
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first

    def _reset_parameters(self) -> None:
        """Draw new parameters."""
        for p in self.parameters():
            if p.dim() > 1:
                init.xavier_uniform_(p)

    def forward(self, src: Any, tgt: Any, src_mask: Any = None, tgt_mask: Any = None, memory_mask: Any = None,
                src_key_padding_mask: Any = None, tgt_key_padding_mask: Any = None, memory_key_padding_mask: Any = None,
                src_is_causal: bool | None = None, tgt_is_causal: bool | None = None, memory_is_causal: bool = False) -> Any:
        """The decoded sequence; see :meth:`TransformerEncoderLayer.forward` and :meth:`TransformerDecoderLayer.forward`."""
        batch_dim = 0 if self.batch_first else 1
        if src.dim() == 3 and src.shape[batch_dim] != tgt.shape[batch_dim]:
            raise ShapeMismatchError("the batch number of src and tgt must be equal")
        if src.shape[-1] != self.d_model or tgt.shape[-1] != self.d_model:
            raise ShapeMismatchError("the feature number of src and tgt must be equal to d_model")
        memory = self.encoder(src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal)
        return self.decoder(tgt, memory, tgt_mask=tgt_mask, memory_mask=memory_mask, tgt_key_padding_mask=tgt_key_padding_mask,
                            memory_key_padding_mask=memory_key_padding_mask, tgt_is_causal=tgt_is_causal,
                            memory_is_causal=memory_is_causal)

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Any:
        """The causal mask (sz, sz): -inf above the diagonal, 0 elsewhere."""
        if sz < 0:
            raise InvalidArgumentError(f"sz must not be negative, got {sz}")
        return T["triu"](T["full"]((sz, sz), -math.inf, device=device, dtype=dtype), 1)
