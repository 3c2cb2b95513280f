"""Spectral normalisation (Miyato et al., 2018) by a hook before forward; see also :mod:`torsh.nn.utils.parametrizations`."""
from __future__ import annotations

from typing import Any

from torsh.autograd.modes import no_grad
from torsh.core.errors import InvalidArgumentError
from torsh.functional.common import T
from torsh.nn import functional as F
from torsh.nn.modules.conv import _ConvTransposeNd
from torsh.nn.modules.module import Module
from torsh.nn.parameter import Parameter, is_lazy
from torsh.nn.utils.weight_norm import add_hook, remove_hook


def as_matrix(weight: Any, dim: int) -> Any:
    """The weight with one row for every index of ``dim``."""
    if dim:
        weight = weight.permute(dim, *[d for d in range(weight.dim()) if d != dim])
    return weight.reshape(weight.shape[0], -1)


def random_direction(weight: Any, size: int, eps: float) -> Any:
    """A random vector of length 1."""
    return F.normalize(weight.detach().new_empty(size).normal_(0, 1), dim=0, eps=eps)


def output_dim(module: Any, dim: int | None) -> int:
    """The dimension of a weight that numbers the outputs, unless one is given."""
    return dim if dim is not None else int(isinstance(module, _ConvTransposeNd))


class SpectralNorm:
    """The hook that computes the parameter ``name`` from ``name_orig`` and the singular vectors ``name_u`` and ``name_v``."""

    def __init__(self, name: str = "weight", n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        if n_power_iterations <= 0:
            raise InvalidArgumentError(f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}")
        self.name, self.n_power_iterations, self.dim, self.eps = name, n_power_iterations, dim, eps

    def compute_weight(self, module: Module, do_power_iteration: bool) -> Any:
        """The parameter's value; with ``do_power_iteration``, the singular vectors are improved first, in place."""
        weight, u, v = (getattr(module, self.name + suffix) for suffix in ("_orig", "_u", "_v"))
        matrix = as_matrix(weight, self.dim)
        if do_power_iteration:
            with no_grad():
                for _ in range(self.n_power_iterations):
                    v = F.normalize(T["mv"](matrix.t(), u), dim=0, eps=self.eps, out=v)
                    u = F.normalize(T["mv"](matrix, v), dim=0, eps=self.eps, out=u)
                u, v = u.clone(), v.clone()
        return weight / T["dot"](u, T["mv"](matrix, v))

    def remove(self, module: Module) -> None:
        """Make the present value an ordinary parameter again."""
        with no_grad():
            weight = self.compute_weight(module, False).detach()
        for suffix in ("", "_u", "_v", "_orig"):
            delattr(module, self.name + suffix)
        module.register_parameter(self.name, Parameter(weight))

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module, module.training))


class _NoteVersion:
    """Writes into the metadata of state_dict that the singular vector v is in it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, module: Any, state_dict: Any, prefix: str, local_metadata: dict[str, Any]) -> None:
        local_metadata.setdefault("spectral_norm", {})[self.name + ".version"] = 1


def spectral_norm(module: Any, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None) -> Any:
    """Divide a parameter by its largest singular value, found by power iteration in every forward of training.

    ``name_orig`` becomes the parameter, ``name_u`` and ``name_v`` are buffers. dim: which dimension numbers the outputs (1 for
    transposed convolutions, else 0).
    """
    weight = module._parameters[name]
    if weight is None:
        raise InvalidArgumentError(f"`SpectralNorm` cannot be applied as parameter `{name}` is None")
    if is_lazy(weight):
        raise InvalidArgumentError("The module passed to `SpectralNorm` can't have uninitialized parameters. Make sure to run the "
                                   "dummy forward before applying spectral normalization")
    hook = SpectralNorm(name, n_power_iterations, output_dim(module, dim), eps)
    add_hook(module, hook, SpectralNorm, "spectral_norm")
    rows, columns = as_matrix(weight, hook.dim).shape
    delattr(module, name)
    module.register_parameter(name + "_orig", weight)
    setattr(module, name, weight.detach())
    module.register_buffer(name + "_u", random_direction(weight, rows, eps))
    module.register_buffer(name + "_v", random_direction(weight, columns, eps))
    module.register_state_dict_post_hook(_NoteVersion(name))
    return module


def remove_spectral_norm(module: Any, name: str = "weight") -> Any:
    """Undo :func:`spectral_norm`; the parameter keeps its present value."""
    remove_hook(module, SpectralNorm, name, "spectral_norm")
    for key, (hook, _) in list(module._state_dict_hooks.items()):
        if isinstance(hook, _NoteVersion) and hook.name == name:
            del module._state_dict_hooks[key]
    return module


__all__ = ["SpectralNorm", "remove_spectral_norm", "spectral_norm"]
