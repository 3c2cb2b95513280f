"""PyTorch's place of :class:`DistributedSampler`."""
from torsh.data.sampler import DistributedSampler

__all__ = ["DistributedSampler"]
