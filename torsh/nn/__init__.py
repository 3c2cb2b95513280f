"""Neural network modules."""
from torsh.nn import functional, init, utils
from torsh.nn.modules.batchnorm import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    LayerNorm,
    PReLU,
    RMSNorm,
)
from torsh.nn.modules.container import ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from torsh.nn.modules.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from torsh.nn.modules.linear import Bilinear, Embedding, Flatten, Identity, Linear, Unflatten
from torsh.nn.modules.module import Module
from torsh.nn.modules.simple import CLASSES as _CLASSES
from torsh.nn.parameter import Buffer, Parameter

globals().update(_CLASSES)
__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "Bilinear", "Buffer", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d",
           "ConvTranspose2d", "ConvTranspose3d", "Embedding", "Flatten", "GroupNorm", "Identity", "InstanceNorm1d",
           "InstanceNorm2d", "InstanceNorm3d", "LayerNorm", "Linear", "Module", "ModuleDict", "ModuleList", "PReLU", "Parameter",
           "ParameterDict", "ParameterList", "RMSNorm", "Sequential", "Unflatten", "functional", "init", "utils"]
