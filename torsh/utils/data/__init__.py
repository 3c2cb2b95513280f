"""PyTorch's name for :mod:`torsh.data`; the objects are the same."""
from torsh.data import *  # noqa: F403
from torsh.data import __all__ as __all__
from torsh.utils.data import dataloader as dataloader
from torsh.utils.data import dataset as dataset
from torsh.utils.data import distributed as distributed
from torsh.utils.data import sampler as sampler
