"""Automatic differentiation."""
from typing import Any

from torsh.autograd import function as _function
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

function = _function


def __getattr__(name: str) -> Any:
    if name in ("gradcheck", "gradgradcheck", "GradcheckError"):
        from torsh.autograd import gradcheck as module
        globals().update(gradcheck=module.gradcheck, gradgradcheck=module.gradgradcheck,
                         GradcheckError=module.GradcheckError)
        return globals()[name]
    if name == "Variable":
        from torsh.tensor.tensor import Tensor
        return Tensor
    raise AttributeError(f"module 'torsh.autograd' has no attribute {name!r}")


__all__ = ["Function", "FunctionContext", "backward", "enable_grad", "function", "grad", "inference_mode", "is_grad_enabled",
           "is_inference_mode_enabled", "no_grad", "once_differentiable", "set_grad_enabled"]
