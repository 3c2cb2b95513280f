"""``torch.nn``: neural network modules, their parameters, initialisers and helpers."""
from torsh.nn import functional, grad, init, modules, utils
from torsh.nn.modules import *  # noqa: F403 - all modules are public names of torsh.nn
from torsh.nn.modules import __all__ as _modules
from torsh.nn.parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter

__all__ = [*_modules, "Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter", "functional", "grad", "init", "modules",
           "utils"]
