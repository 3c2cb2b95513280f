"""``torch.nn.functional``: the functions of :mod:`torsh.functional` under their public name."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torsh.functional import activation, attention, convolution, interpolation, loss, normalization, padding, pooling, sparse_and_dropout
from torsh.nn.linear_cross_entropy import linear_cross_entropy

if TYPE_CHECKING:                       # the families' functions become names of this module below
    def __getattr__(name: str) -> Any: ...

_FAMILIES = (activation, attention, convolution, interpolation, loss, normalization, padding, pooling, sparse_and_dropout)
_PRIVATE = {"annotations", "T", "Any", "Tensor", "TABLE", "METHODS", "NAMESPACES"}
# Functions that PyTorch also has as torch.name.
TORCH_NAMES = frozenset(
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d avg_pool1d max_pool1d max_pool2d max_pool3d "
    "max_pool1d_with_indices adaptive_avg_pool1d adaptive_max_pool1d layer_norm group_norm instance_norm batch_norm rms_norm "
    "dropout alpha_dropout feature_alpha_dropout embedding bilinear cosine_similarity pairwise_distance cosine_embedding_loss "
    "hinge_embedding_loss margin_ranking_loss poisson_nll_loss kl_div pixel_shuffle pixel_unshuffle channel_shuffle "
    "softplus_".split())


def _public(module: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items()
            if callable(value) and not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
            and isinstance(value, type(_public))}


for _family in _FAMILIES:
    globals().update(_public(_family))
unfold = convolution.unfold
__all__ = sorted({name for family in _FAMILIES for name in _public(family)} | {linear_cross_entropy.__name__})
