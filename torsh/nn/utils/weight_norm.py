"""Weight normalisation (Salimans and Kingma, 2016) by a hook before forward; see also :mod:`torsh.nn.utils.parametrizations`."""
from __future__ import annotations

import warnings
from typing import Any

from torsh.core.errors import AutogradError, InvalidArgumentError
from torsh.nn.modules.module import Module
from torsh.nn.parameter import Parameter, is_lazy
from torsh.tensor import NAMESPACES


def norm_except(v: Any, dim: int) -> Any:
    """The 2-norm over all dimensions but one, which keep size 1; with ``dim`` -1, over all."""
    norm = NAMESPACES["linalg"]["vector_norm"]
    if dim == -1:
        return norm(v)
    return norm(v, 2, [d for d in range(v.dim()) if d != dim % v.dim()], True) if v.dim() > 1 else v.abs()


def normed(v: Any, g: Any, dim: int) -> Any:
    """``v`` scaled to the norm ``g``."""
    return v * (g / norm_except(v, dim))


def add_hook(module: Module, hook: Any, kind: type, what: str) -> None:
    """Register a hook before forward, unless there is already one of its kind for the same parameter."""
    if any(isinstance(other, kind) and other.name == hook.name for other, _ in module._forward_pre_hooks.values()):  # type: ignore[attr-defined]
        raise AutogradError(f"Cannot register two {what} hooks on the same parameter {hook.name}")
    module.register_forward_pre_hook(hook)


def remove_hook(module: Any, kind: type, name: str, what: str) -> Any:
    """Remove the hook of this kind for this parameter, and let it clean up."""
    for key, (hook, _) in module._forward_pre_hooks.items():
        if isinstance(hook, kind) and hook.name == name:  # type: ignore[attr-defined]
            hook.remove(module)  # type: ignore[attr-defined]
            del module._forward_pre_hooks[key]
            return hook
    raise InvalidArgumentError(f"{what} of '{name}' not found in {module}")


class WeightNorm:
    """The hook that computes the parameter ``name`` from ``name_g`` and ``name_v``."""

    def __init__(self, name: str, dim: int | None) -> None:
        self.name, self.dim = name, -1 if dim is None else dim

    def compute_weight(self, module: Module) -> Any:
        """The parameter's value."""
        return normed(getattr(module, self.name + "_v"), getattr(module, self.name + "_g"), self.dim)

    def remove(self, module: Module) -> None:
        """Make the present value an ordinary parameter again."""
        weight = self.compute_weight(module).detach()
        for name in (self.name, self.name + "_g", self.name + "_v"):
            delattr(module, name)
        setattr(module, self.name, Parameter(weight))

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module))


def weight_norm(module: Any, name: str = "weight", dim: int | None = 0) -> Any:
    """Compute a parameter as ``g * v / norm(v)`` from parameters ``name_g`` and ``name_v``; the norm is taken for every index of
    ``dim`` (None: over all). Deprecated in favour of ``parametrizations.weight_norm``."""
    warnings.warn("`torsh.nn.utils.weight_norm` is deprecated in favor of `torsh.nn.utils.parametrizations.weight_norm`.",
                  FutureWarning, stacklevel=2)
    weight = getattr(module, name)
    if is_lazy(weight):
        raise InvalidArgumentError("The module passed to `WeightNorm` can't have uninitialized parameters. Make sure to run the dummy "
                                   "forward before applying weight normalization")
    hook = WeightNorm(name, dim)
    add_hook(module, hook, WeightNorm, "weight_norm")
    delattr(module, name)
    module.register_parameter(name + "_g", Parameter(norm_except(weight.detach(), hook.dim)))
    module.register_parameter(name + "_v", Parameter(weight.detach()))
    setattr(module, name, hook.compute_weight(module))
    return module


def remove_weight_norm(module: Any, name: str = "weight") -> Any:
    """Undo :func:`weight_norm`; the parameter keeps its present value."""
    remove_hook(module, WeightNorm, name, "weight_norm")
    return module


__all__ = ["WeightNorm", "remove_weight_norm", "weight_norm"]
