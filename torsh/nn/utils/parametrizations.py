"""Ready parametrizations: normalised and orthogonal weights."""
from __future__ import annotations

from typing import Any

import numpy as np

from torsh.autograd.modes import no_grad
from torsh.core.errors import IndexOutOfRangeError, InvalidArgumentError
from torsh.core.limits import finfo
from torsh.functional.common import T
from torsh.graph.handle import Handle
from torsh.nn import functional as F
from torsh.nn.modules.module import Module
from torsh.nn.utils import parametrize
from torsh.nn.utils.spectral_norm import as_matrix, output_dim, random_direction
from torsh.nn.utils.weight_norm import norm_except, normed
from torsh.ops.expr import TABLE, Expr, emit1, emit2
from torsh.tensor.function import recorded


def _tensor(module: Any, name: str) -> Any:
    value = getattr(module, name, None)
    if not isinstance(value, Handle):
        raise InvalidArgumentError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    return value


class _WeightNorm(Module):
    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Any, weight_v: Any) -> Any:
        """The weight with the norm ``weight_g`` and the direction ``weight_v``."""
        return normed(weight_v, weight_g, self.dim)

    def right_inverse(self, weight: Any) -> tuple[Any, Any]:
        """Norm and direction of a weight."""
        return norm_except(weight, self.dim), weight


def weight_norm(module: Any, name: str = "weight", dim: int | None = 0) -> Any:
    """Compute a parameter as ``g * v / norm(v)`` (Salimans and Kingma, 2016); the norm is taken for every index of ``dim`` (None:
    over all). g is ``parametrizations.<name>.original0`` and v ``original1``.

    Example::

        >>> import torsh
        >>> layer = torsh.nn.utils.parametrizations.weight_norm(torsh.nn.Linear(20, 40))
        >>> layer.parametrizations.weight.original0.shape, layer.parametrizations.weight.original1.shape
        (torsh.Size([40, 1]), torsh.Size([40, 20]))
    """
    parametrize.register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def accept_old_names(state_dict: Any, prefix: str, *rest: Any) -> None:
        """State dicts of the older form call the two tensors name_g and name_v."""
        old = [f"{prefix}{name}_{part}" for part in "gv"]
        if all(key in state_dict for key in old):
            for i, key in enumerate(old):
                state_dict[f"{prefix}parametrizations.{name}.original{i}"] = state_dict.pop(key)
    module._register_load_state_dict_pre_hook(accept_old_names)
    return module


class _SpectralNorm(Module):
    def __init__(self, weight: Any, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        super().__init__()
        n = weight.ndim
        if dim >= n or dim < -n:
            raise IndexOutOfRangeError(f"Dimension out of range (expected to be in range of [-{n}, {n - 1}] but got {dim})")
        if n_power_iterations <= 0:
            raise InvalidArgumentError(f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}")
        self.dim, self.eps = dim % n, eps
        if n > 1:
            self.n_power_iterations = n_power_iterations
            matrix = as_matrix(weight, self.dim)
            self.register_buffer("_u", random_direction(matrix, matrix.shape[0], eps))
            self.register_buffer("_v", random_direction(matrix, matrix.shape[1], eps))
            self._power_method(matrix, 15)

    @no_grad()
    def _power_method(self, matrix: Any, n_power_iterations: int) -> None:
        """Improve the estimates of the first singular vectors, in place."""
        for _ in range(n_power_iterations):
            F.normalize(T["mv"](matrix, self._v), dim=0, eps=self.eps, out=self._u)
            F.normalize(T["mv"](matrix.mH, self._u), dim=0, eps=self.eps, out=self._v)

    def forward(self, weight: Any) -> Any:
        """The weight divided by its largest singular value."""
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            self._power_method(matrix, self.n_power_iterations)
        return weight / T["vdot"](self._u.clone(), T["mv"](matrix, self._v.clone()))

    def right_inverse(self, value: Any) -> Any:
        """The value itself: a weight that is assigned may be assumed to be normalised."""
        return value


def spectral_norm(module: Any, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None) -> Any:
    """Divide a parameter by its largest singular value (Miyato et al., 2018), found by power iteration whenever the parameter is
    read in training. dim: which dimension numbers the outputs (1 for transposed convolutions, else 0).

    Example::

        >>> import torsh
        >>> layer = torsh.nn.utils.parametrizations.spectral_norm(torsh.nn.Linear(20, 40))
        >>> [name for name, _ in layer.named_buffers()]
        ['parametrizations.weight.0._u', 'parametrizations.weight.0._v']
    """
    weight = _tensor(module, name)
    step = _SpectralNorm(weight, n_power_iterations, output_dim(module, dim), eps)
    parametrize.register_parametrization(module, name, step)
    return module


def _exp(a: Expr) -> Expr:
    return emit1(TABLE["matrix_exp"], a)


def _solve(a: Expr, b: Expr) -> Expr:
    return emit2(TABLE["solve"], a, b)


def _qr(a: Expr, part: str) -> Expr:
    return emit1(TABLE["qr_" + part], a, "reduced")


def _positive_q(a: Any) -> Any:
    """The orthogonal factor Q of a = QR with a positive diagonal of R."""
    return recorded(_qr, (a,), ("q",)) * recorded(_qr, (a,), ("r",)).diagonal(dim1=-2, dim2=-1).sgn().unsqueeze(-2)


def _reflected(v: Any) -> Any:
    """The first columns of the product of the reflections I - tau v v', tau = 2 / |v|^2, for the columns v of a matrix with a unit
    diagonal, in compact form (Schreiber and Van Loan, 1989)."""
    k = v.shape[-1]
    products = v.mT @ v
    inner = products.triu(1) + T["diag_embed"](products.diagonal(dim1=-2, dim2=-1) / 2)
    return T["eye"](v.shape[-2], k, dtype=v.dtype) - v @ recorded(_solve, (inner, v[..., :k, :].mT))


class _Orthogonal(Module):
    """A matrix with orthonormal columns (or rows, if there are fewer) from an unconstrained one.

    orthogonal_map: "matrix_exp", "cayley" (both of a skew-symmetric matrix) or "householder" (a product of reflections).
    base: with ``use_trivialization``, a fixed orthogonal matrix that the result is multiplied by.
    """

    def __init__(self, weight: Any, orthogonal_map: str, *, use_trivialization: bool = True) -> None:
        super().__init__()
        if weight.is_complex() and orthogonal_map == "householder":
            raise InvalidArgumentError("The householder parametrization does not support complex tensors.")
        self.shape, self.orthogonal_map = weight.shape, orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, X: Any) -> Any:
        """The orthogonal matrix."""
        wide = X.shape[-2] < X.shape[-1]
        x = X.mT if wide else X
        if self.orthogonal_map == "householder":
            unit = x.tril(-1) + T["eye"](*x.shape[-2:], dtype=x.dtype)
            q = _reflected(unit) * x.diagonal(dim1=-2, dim2=-1).int().unsqueeze(-2)
        else:
            q = self._from_skew(x)
        if hasattr(self, "base"):
            q = self.base @ q
        return q.mT if wide else q

    def _from_skew(self, x: Any) -> Any:
        n, k = x.shape[-2:]
        low = x.tril()
        if n != k:
            low = T["cat"]([low, low.new_zeros(*x.shape[:-2], n, n - k)], -1)
        skew = low - low.mH
        if self.orthogonal_map == "matrix_exp":
            q = recorded(_exp, (skew,))
        else:
            one = T["eye"](n, dtype=x.dtype)
            q = recorded(_solve, (one - 0.5 * skew, one + 0.5 * skew))
        return q[..., :k] if n != k else q

    @no_grad()
    def right_inverse(self, Q: Any) -> Any:
        """An unconstrained matrix whose orthogonal one is (the closest to) ``Q``."""
        if tuple(Q.shape) != tuple(self.shape):
            raise InvalidArgumentError(f"Expected a matrix or batch of matrices of shape {self.shape}. Got a tensor of shape {Q.shape}.")
        wide = Q.shape[-2] < Q.shape[-1]
        q = Q.mT if wide else Q
        if not hasattr(self, "base"):
            if self.orthogonal_map != "householder":
                raise NotImplementedError("It is not possible to assign to the matrix exponential or the Cayley parametrizations when "
                                          "use_trivialization=False.")
            packed = _packed_reflections(q)
            return packed.mT if wide else packed
        n, k = q.shape[-2:]
        if n != k:
            q = _positive_q(T["cat"]([q, T["randn"](*q.shape[:-2], n, n - k, dtype=q.dtype)], -1))
        else:
            q = q.clone() if _is_orthogonal(q) else _positive_q(q)
        self.base = q
        start = T["zeros_like"](Q)
        start.diagonal(dim1=-2, dim2=-1).fill_(-1.0)
        return start


def _is_orthogonal(q: Any) -> bool:
    n, k = q.shape[-2:]
    return bool(T["allclose"](q.mH @ q, T["eye"](k, dtype=q.dtype), atol=10.0 * n * finfo(q.dtype).eps))


def _packed_reflections(q: Any) -> Any:
    """The reflections of the QR factorisation below the diagonal, and on it the signs that make their product ``q``."""
    packed, tau = np.linalg.qr(q.detach().numpy(), mode="raw")
    packed = packed.swapaxes(-1, -2).copy()
    diagonal = np.einsum("...ii->...i", packed[..., :packed.shape[-1], :])
    diagonal[...] = np.where(tau == 0, -np.sign(diagonal), np.sign(diagonal))
    return T["tensor"](packed, dtype=q.dtype)


def orthogonal(module: Any, name: str = "weight", orthogonal_map: str | None = None, *, use_trivialization: bool = True) -> Any:
    """Keep a matrix (or batch of matrices) orthogonal: orthonormal columns, or rows if there are fewer of them.

    orthogonal_map: "matrix_exp" (default for square and complex matrices), "cayley" or "householder" (default for others).
    use_trivialization: write the matrix as a fixed orthogonal one times the map; then any matrix can be assigned.

    Example::

        >>> import torsh
        >>> layer = torsh.nn.utils.parametrizations.orthogonal(torsh.nn.Linear(20, 40))
        >>> torsh.allclose(layer.weight.T @ layer.weight, torsh.eye(20), atol=1e-5)
        True
    """
    weight = _tensor(module, name)
    if weight.dim() < 2:
        raise InvalidArgumentError(f"Expected a matrix or batch of matrices. Got a tensor of {weight.dim()} dimensions.")
    if orthogonal_map is None:
        square = weight.shape[-2] == weight.shape[-1]
        orthogonal_map = "matrix_exp" if square or weight.is_complex() else "householder"
    if orthogonal_map not in ("matrix_exp", "cayley", "householder"):
        raise InvalidArgumentError('orthogonal_map has to be one of "matrix_exp", "cayley", "householder". Got: '
                                   f"{orthogonal_map}")
    step = _Orthogonal(weight, orthogonal_map, use_trivialization=use_trivialization)
    parametrize.register_parametrization(module, name, step, unsafe=True)
    return module


__all__ = ["orthogonal", "spectral_norm", "weight_norm"]
