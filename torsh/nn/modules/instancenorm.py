"""Instance normalisation."""
from __future__ import annotations

import warnings
from typing import Any

from torsh.core.errors import InvalidArgumentError
from torsh.nn import functional as F
from torsh.nn.modules.batchnorm import _LazyNormBase, _NormBase


class _InstanceNorm(_NormBase):
    """Instance normalisation (Ulyanov et al., 2016)."""

    rank = 0                        # dimensions of an unbatched input

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = False,
                 track_running_stats: bool = False, device: Any = None, dtype: Any = None, *, bias: bool = True) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def _check_input_dim(self, input: Any) -> None:
        if input.dim() not in (self.rank, self.rank + 1):
            raise InvalidArgumentError(f"expected {self.rank}D or {self.rank + 1}D input (got {input.dim()}D input)")

    def forward(self, input: Any) -> Any:
        """Every channel of every sample standardised."""
        self._check_input_dim(input)
        batched = input.dim() == self.rank + 1
        channels = input.shape[1 if batched else 0]
        if channels != self.num_features:
            text = f"expected input's size at dim={1 if batched else 0} to match num_features ({self.num_features}), but got: {channels}."
            if self.affine:
                raise InvalidArgumentError(text)
            warnings.warn(f"input's size at dim={1 if batched else 0} does not match num_features. You can silence this warning by "
                          "not passing in num_features, which is not used because affine=False", stacklevel=2)
        x = input if batched else input.unsqueeze(0)
        out: Any = F.instance_norm(x, self.running_mean, self.running_var, self.weight, self.bias,
                                   self.training or not self.track_running_stats,
                                   0.0 if self.momentum is None else self.momentum, self.eps)
        return out if batched else out.squeeze(0)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing_keys: Any,
                              unexpected_keys: Any, error_msgs: list[str]) -> None:
        if local_metadata.get("version") is None and not self.track_running_stats:
            stale = [prefix + n for n in ("running_mean", "running_var") if prefix + n in state_dict]
            if stale:
                error_msgs.append(f"Unexpected running stats buffer(s) {' and '.join(stale)} for {type(self).__name__} with "
                                  "track_running_stats=False. If the checkpoint is meant to have them, set "
                                  "track_running_stats=True.")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)


class InstanceNorm1d(_InstanceNorm):
    """Instance normalisation of (N, C, L) or (C, L)."""

    rank = 2


class InstanceNorm2d(_InstanceNorm):
    """Instance normalisation of (N, C, H, W) or (C, H, W).

    Example::

        >>> import torsh
        >>> torsh.nn.InstanceNorm2d(3)(torsh.randn(2, 3, 4, 5)).shape
        torsh.Size([2, 3, 4, 5])
    """

    rank = 3


class InstanceNorm3d(_InstanceNorm):
    """Instance normalisation of (N, C, D, H, W) or (C, D, H, W)."""

    rank = 4


class _LazyInstanceNorm(_LazyNormBase, _InstanceNorm):
    def __init__(self, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True, track_running_stats: bool = True,
                 device: Any = None, dtype: Any = None, *, bias: bool = True) -> None:
        super().__init__(eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def _channels(self, input: Any) -> int:
        self._check_input_dim(input)
        return input.shape[-self.rank]  # type: ignore[no-any-return]


class LazyInstanceNorm1d(_LazyInstanceNorm):
    """An InstanceNorm1d whose num_features come from the first input."""

    cls_to_become = InstanceNorm1d
    rank = 2


class LazyInstanceNorm2d(_LazyInstanceNorm):
    """An InstanceNorm2d whose num_features come from the first input."""

    cls_to_become = InstanceNorm2d
    rank = 3


class LazyInstanceNorm3d(_LazyInstanceNorm):
    """An InstanceNorm3d whose num_features come from the first input."""

    cls_to_become = InstanceNorm3d
    rank = 4
