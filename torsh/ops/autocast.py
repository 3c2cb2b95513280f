"""Which operations autocast computes in lower precision, and which in float32: PyTorch's lists for the CPU.

Operations are named as in the op table, or as the functions that record them. An operation that is not listed takes its operands
as they are. See :class:`torsh.autocast`.
"""
from __future__ import annotations

from typing import Any, Final

from torsh.core.dtype import DType, float32, float64, promote_types
from torsh.ops.common import cast
from torsh.ops.expr import CACHES, MEMO_GRAD, MEMO_NO_GRAD, AutocastMemo, Expr, autocast_operands, recording

LOWER: Final = frozenset((
    "linear", "matmul", "mm", "bmm", "addmm", "addbmm", "baddbmm", "convolution", "scaled_dot_product_attention", "attention"))
IN_FLOAT32: Final = frozenset((
    "avg_pool3d", "binary_cross_entropy", "binary_cross_entropy_with_logits", "cdist", "cosine_embedding_loss", "cross_entropy",
    "ctc_loss", "grid_sample", "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "margin_ranking_loss", "mse_loss",
    "multi_margin_loss", "multilabel_margin_loss", "nll_loss", "poisson_nll_loss", "prod", "quantile", "nanquantile",
    "smooth_l1_loss", "soft_margin_loss", "trace", "triplet_margin_loss"))
WIDEST: Final = frozenset(("cat", "stack", "index_copy"))
AUTOCAST: Final = LOWER | IN_FLOAT32 | WIDEST


def operands(name: str, dtype: DType, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The operands of an operation under autocast to ``dtype``; float64 and what is not floating point stays as it is."""
    if name in LOWER:
        want = dtype
    elif name in IN_FLOAT32:
        want = float32
    elif name in WIDEST:
        want = dtype
        for a in args:
            if _eligible(a):
                want = promote_types(want, a.dtype)
    else:
        return args
    return tuple([cast(a, want) if _eligible(a) else a for a in args])


def as_autocast(name: str, *args: Any) -> tuple[Any, ...]:
    """:func:`operands`, for functions that check dtypes themselves: as they are, where autocast is off."""
    memo = recording.memo
    return operands(name, memo.dtype, args) if isinstance(memo, AutocastMemo) else args


def _eligible(a: Any) -> bool:
    return isinstance(a, Expr) and a.dtype.category == 2 and a.dtype is not float64


autocast_operands.append(operands)
_memos: Final[dict[DType, tuple[AutocastMemo, AutocastMemo]]] = {}


def memos_for(dtype: DType | None) -> tuple[dict[Any, Expr], dict[Any, Expr]]:
    """The memos (without gradients, with gradients) of recording under autocast to ``dtype``; None: not under autocast."""
    if dtype is None:
        return MEMO_NO_GRAD, MEMO_GRAD
    found = _memos.get(dtype)
    if found is None:
        found = _memos[dtype] = AutocastMemo(dtype, MEMO_NO_GRAD), AutocastMemo(dtype, MEMO_GRAD)
        CACHES.extend(found)
    return found
