"""Automatic differentiation."""
import importlib
from typing import Any

from torsh.autograd.function import Function, FunctionContext, once_differentiable
from torsh.autograd.functions import backward, grad
from torsh.autograd.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)


def __getattr__(name: str) -> Any:
    if name in ("gradcheck", "gradgradcheck", "GradcheckError"):
        return getattr(importlib.import_module("torsh.autograd.numerical"), name)
    if name == "Variable":
        return importlib.import_module("torsh.tensor.conversion").Variable
    raise AttributeError(f"module 'torsh.autograd' has no attribute {name!r}")


__all__ = ["Function", "FunctionContext", "backward", "enable_grad", "grad", "inference_mode", "is_grad_enabled",
           "is_inference_mode_enabled", "no_grad", "once_differentiable", "set_grad_enabled"]
