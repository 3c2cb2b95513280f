"""Batch normalisation."""
from __future__ import annotations

from typing import Any

from torsh.core.errors import InvalidArgumentError
from torsh.nn import functional as F
from torsh.nn import init
from torsh.nn.modules.lazy import LazyModuleMixin
from torsh.nn.modules.module import Module
from torsh.nn.parameter import Parameter, UninitializedBuffer, UninitializedParameter
from torsh.tensor.creation import empty, ones, tensor, zeros


class _NormBase(Module):
    """Scale, shift and running statistics per channel."""

    _version = 2
    num_features: int
    ranks: tuple[int, ...] = ()

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, device: Any = None, dtype: Any = None, *, bias: bool = True) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        options = {"device": device, "dtype": dtype}
        for name, wanted in (("weight", affine), ("bias", affine and bias)):
            self.register_parameter(name, Parameter(empty(num_features, **options)) if wanted else None)
        self.register_buffer("running_mean", zeros(num_features, **options) if track_running_stats else None)
        self.register_buffer("running_var", ones(num_features, **options) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", tensor(0, device=device) if track_running_stats else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Start the running statistics over."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Scale 1, shift 0, statistics started over."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _check_input_dim(self, input: Any) -> None:
        if self.ranks and input.dim() not in self.ranks:
            raise InvalidArgumentError(f"expected {' or '.join(f'{r}D' for r in self.ranks)} input (got {input.dim()}D input)")

    def extra_repr(self) -> str:
        """Sizes and options."""
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}")

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *rest: Any) -> None:
        version = local_metadata.get("version")
        key = prefix + "num_batches_tracked"
        if (version is None or version < 2) and self.track_running_stats and key not in state_dict:
            # Checkpoints of version 1 did not count batches.
            known = self.num_batches_tracked
            state_dict[key] = known if known is not None else tensor(0)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


class _BatchNorm(_NormBase):
    """Batch normalisation (Ioffe and Szegedy, 2015)."""

    def forward(self, input: Any) -> Any:
        """The standardised input; in training the running statistics move."""
        self._check_input_dim(input)
        factor = 0.0 if self.momentum is None else self.momentum
        training = self.training
        if training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:           # a cumulative average needs the count itself
                factor = 1.0 / float(self.num_batches_tracked)
        mean, var = self.running_mean, self.running_var
        use_batch = training or (mean is None and var is None)
        keep = not training or self.track_running_stats
        return F.batch_norm(input, mean if keep else None, var if keep else None, self.weight, self.bias, use_batch, factor, self.eps)


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L).

    Example::

        >>> import torsh
        >>> torsh.nn.BatchNorm1d(100)(torsh.randn(20, 100)).shape
        torsh.Size([20, 100])
    """

    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W).

    Example::

        >>> import torsh
        >>> torsh.nn.BatchNorm2d(3)(torsh.randn(2, 3, 4, 5)).shape
        torsh.Size([2, 3, 4, 5])
    """

    ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of (N, C, D, H, W)."""

    ranks = (5,)


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation over all processes of a group; with one process the same as BatchNorm.

    Input: (N, C, *), at least 2 dimensions. With more than one process it needs :mod:`torsh.distributed`; see forward.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, process_group: Any = None, device: Any = None, dtype: Any = None, *,
                 bias: bool = True) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.process_group = process_group

    def _check_input_dim(self, input: Any) -> None:
        if input.dim() < 2:
            raise InvalidArgumentError(f"expected at least 2D input (got {input.dim()}D input)")

    def forward(self, input: Any) -> Any:
        """The standardised input.

        Raises NotImplementedError for groups of several processes while training: use BatchNorm with larger batches there.
        """
        group = self.process_group
        if self.training and group is not None and group.size() > 1:
            raise NotImplementedError("SyncBatchNorm over several processes is not supported: use BatchNorm with larger batches, or "
                                      "GroupNorm, whose statistics need no other process")
        return super().forward(input)

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: Any = None) -> Module:
        """Replace every BatchNorm in a module by a SyncBatchNorm with the same parameters and statistics."""
        result = module
        if isinstance(module, _BatchNorm) and not isinstance(module, SyncBatchNorm):
            new = cls(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats, process_group,
                      bias=module.bias is not None or not module.affine)
            if module.affine:
                new.weight, new.bias = module.weight, module.bias
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                new._buffers[name] = module._buffers[name]
            new.train(module.training)
            result = new
        for name, child in module.named_children():
            result.add_module(name, cls.convert_sync_batchnorm(child, process_group))
        return result


class _LazyNormBase(LazyModuleMixin, _NormBase):
    """A normalisation whose num_features come from the first input."""

    def __init__(self, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True, track_running_stats: bool = True,
                 device: Any = None, dtype: Any = None, *, bias: bool = True) -> None:
        super().__init__(0, eps, momentum, False, False, device, dtype)
        self.affine, self.track_running_stats = affine, track_running_stats
        options = {"device": device, "dtype": dtype}
        if affine:
            self.weight = UninitializedParameter(**options)
            if bias:
                self.bias = UninitializedParameter(**options)
        if track_running_stats:
            self.running_mean = UninitializedBuffer(**options)
            self.running_var = UninitializedBuffer(**options)
            self.num_batches_tracked = tensor(0, device=device)

    def reset_parameters(self) -> None:
        """Start over, once there are parameters."""
        if not self.has_uninitialized_params() and self.num_features != 0:
            super().reset_parameters()

    def initialize_parameters(self, input: Any) -> None:
        """Take the number of channels of the first input."""
        if self.num_features == 0:              # also after a state_dict was loaded before the first call
            self.num_features = self._channels(input)
        if self.has_uninitialized_params():
            for t in (self.weight, self.bias, self.running_mean, self.running_var):
                if t is not None:
                    t.materialize((self.num_features,))
            self.reset_parameters()

    def _channels(self, input: Any) -> int:
        return input.shape[1]  # type: ignore[no-any-return]


class LazyBatchNorm1d(_LazyNormBase, _BatchNorm):
    """A BatchNorm1d whose num_features come from the first input."""

    cls_to_become = BatchNorm1d
    ranks = (2, 3)


class LazyBatchNorm2d(_LazyNormBase, _BatchNorm):
    """A BatchNorm2d whose num_features come from the first input."""

    cls_to_become = BatchNorm2d
    ranks = (4,)


class LazyBatchNorm3d(_LazyNormBase, _BatchNorm):
    """A BatchNorm3d whose num_features come from the first input."""

    cls_to_become = BatchNorm3d
    ranks = (5,)
