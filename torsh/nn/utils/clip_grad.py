"""Clipping of gradients. Nothing is forced: all is tensor arithmetic in the step's program."""
from __future__ import annotations

import types
import warnings
from typing import Any

from torsh.autograd.modes import no_grad
from torsh.core.errors import AutogradError
from torsh.graph.handle import Handle
from torsh.tensor import NAMESPACES
from torsh.tensor.creation import tensor


def _listed(tensors: Any) -> list[Any]:
    return [tensors] if isinstance(tensors, Handle) else list(tensors)


def _gradients(parameters: Any) -> list[Any]:
    return [p.grad for p in _listed(parameters) if p.grad is not None]


@no_grad()
def get_total_norm(tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None) -> Any:
    """The norm of all elements of several tensors.

    error_if_nonfinite: raise RuntimeError if it is NaN or infinite (this waits for the value). foreach is accepted as in PyTorch.
    """
    items = _listed(tensors)
    if not items:
        return tensor(0.0)
    norm = NAMESPACES["linalg"]["vector_norm"]
    norm_type = float(norm_type)
    total = norm(NAMESPACES[""]["stack"]([norm(t, norm_type) for t in items]), norm_type)
    if error_if_nonfinite and not bool(total.isfinite()):
        raise AutogradError(f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot be "
                            "clipped. To disable this error and scale the gradients by the non-finite norm anyway, set "
                            "`error_if_nonfinite=False`")
    return total


@no_grad()
def clip_grads_with_norm_(parameters: Any, max_norm: float, total_norm: Any, foreach: bool | None = None) -> None:
    """Scale gradients so that a total norm becomes at most ``max_norm``."""
    factor = (float(max_norm) / (total_norm + 1e-6)).clamp(max=1.0)
    for g in _gradients(parameters):
        g.mul_(factor.to(g.dtype))


def clip_grad_norm_(parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False,
                    foreach: bool | None = None) -> Any:
    """Scale all gradients so that their total norm is at most ``max_norm``; returns the norm before.

    Example::

        >>> import torsh
        >>> w = torsh.ones(4, requires_grad=True)
        >>> (3 * w).sum().backward()
        >>> torsh.nn.utils.clip_grad_norm_([w], 1.0).item(), round(w.grad.norm().item(), 4)
        (6.0, 1.0)
    """
    items = _listed(parameters)
    if not items and isinstance(parameters, types.GeneratorType):
        warnings.warn("`parameters` is an empty generator, no gradient clipping will occur.", stacklevel=2)
    total = get_total_norm(_gradients(items), float(norm_type), error_if_nonfinite)
    clip_grads_with_norm_(items, max_norm, total)
    return total


def clip_grad_norm(parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False,
                   foreach: bool | None = None) -> Any:
    """Deprecated name of :func:`clip_grad_norm_`."""
    warnings.warn("`torsh.nn.utils.clip_grad_norm` is now deprecated in favor of `torsh.nn.utils.clip_grad_norm_`.", FutureWarning,
                  stacklevel=2)
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)


@no_grad()
def clip_grad_value_(parameters: Any, clip_value: float, foreach: bool | None = None) -> None:
    """Limit all elements of gradients to [-clip_value, clip_value]."""
    bound = float(clip_value)
    for g in _gradients(parameters):
        g.clamp_(min=-bound, max=bound)
