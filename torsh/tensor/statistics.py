"""Statistics of samples: covariance, histograms, numerical gradients and distances between rows."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from torsh.core.dtype import get_default_dtype
from torsh.core.errors import DTypeError, ShapeMismatchError, UnsupportedDTypeError
from torsh.core.shape import normalise_dim
from torsh.graph.handle import Handle
from torsh.ops.loss_elementwise import cdist_expr
from torsh.tensor.creation import as_tensor
from torsh.tensor.function import NAMESPACES, function, recorded
from torsh.tensor.tensor import Tensor, from_array

# ---- covariance --------------------------------------------------------------------------------------------------------

def _checked_weights(weights: Tensor | None, observations: int, name: str, categories: tuple[int, ...], kind: str) -> None:
    if weights is None:
        return
    if weights.ndim > 1:
        raise ShapeMismatchError(f"cov(): expected {name} to have one or fewer dimensions but got {name} with {weights.ndim} "
                                 "dimensions")
    if weights.dtype.category not in categories:
        raise DTypeError(f"cov(): expected {name} to have {kind} dtype but got {name} with {weights.dtype.name} dtype")
    if weights.numel() != observations:
        raise ShapeMismatchError(f"cov(): expected {name} to have the same numel as there are observations in the input but got "
                                 f"{weights.numel()} != {observations}")
    if weights.numel() and bool((weights < 0).any()):
        raise ShapeMismatchError(f"cov(): {name} cannot be negative")


@function("cov", out=False)
def cov(input: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None) -> Tensor:
    """Covariance matrix of variables in rows, observations in columns.

    fweights: how often each observation counts (integers); aweights: weights of the observations.
    """
    if input.ndim > 2:
        raise ShapeMismatchError(f"cov(): expected input to have two or fewer dimensions but got an input with {input.ndim} "
                                 "dimensions")
    if input.dtype.category == 0:
        raise DTypeError("cov(): bool dtype is not supported for input")
    x = input if input.ndim == 2 else input.reshape(1, -1)
    _checked_weights(fweights, x.shape[1], "fweights", (1,), "integral")
    _checked_weights(aweights, x.shape[1], "aweights", (2,), "floating point")
    x = x.to(get_default_dtype()) if x.dtype.category < 2 else x
    weights = fweights if aweights is None else aweights if fweights is None else fweights * aweights
    total: Any = x.shape[1] if weights is None else weights.sum()
    average = x.mean(1, True) if weights is None else (x * weights).sum(1, True) / total
    centred = x - average
    if weights is None or aweights is None:
        count = total - correction
    else:
        count = total - correction * (weights * aweights).sum() / total
    count = count.clamp(min=0) if isinstance(count, Handle) else max(count, 0)
    scaled = centred if weights is None else centred * weights
    return (scaled @ centred.conj().mT / count).squeeze()  # type: ignore[no-any-return]


@function("corrcoef", out=False)
def corrcoef(input: Tensor) -> Tensor:
    """Correlation coefficients of variables in rows, observations in columns."""
    if input.ndim > 2:
        raise ShapeMismatchError(f"corrcoef(): expected input to have two or fewer dimensions but got an input with {input.ndim} "
                                 "dimensions")
    c = cov(input)
    if not c.ndim:
        return c / c  # type: ignore[no-any-return]
    deviation = c.diagonal().sqrt()
    scaled = c / deviation.unsqueeze(-1) / deviation.unsqueeze(0)
    if not scaled.is_complex():
        return scaled.clamp(-1, 1)  # type: ignore[no-any-return]
    return NAMESPACES[""]["complex"](scaled.real.clamp(-1, 1), scaled.imag.clamp(-1, 1))  # type: ignore[no-any-return]


# ---- histograms --------------------------------------------------------------------------------------------------------

class Histogram(NamedTuple):
    """Counts, and the edges of the bins."""

    hist: Any
    bin_edges: Any


def _numbers(t: Tensor, name: str) -> np.ndarray[Any, Any]:
    if t.dtype.name not in ("float32", "float64"):
        raise UnsupportedDTypeError(f'"{name}_cpu" not implemented for \'{t.dtype.name}\'')
    return t.detach()._ndarray()  # type: ignore[no-any-return]


def _edges(values: np.ndarray[Any, Any], bins: int, low: float, high: float, fixed: bool) -> np.ndarray[Any, Any]:
    """Edges of equal bins between the limits, or the data's extremes; limits that are equal are moved apart."""
    if bins <= 0:
        raise ShapeMismatchError(f"torsh.histogramdd(): bins must be > 0, but got {bins} for dimension 0")
    if not fixed:
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if low > high:
        raise ShapeMismatchError(f"torsh.histogramdd: min should not exceed max, but got min {low} max {high} for dimension 0")
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ShapeMismatchError(f"torsh.histogramdd: dimension 0's range [{low}, {high}] is not finite")
    if low == high:
        low, high = low - 0.5 if fixed or values.size else 0.0, high + 0.5 if fixed or values.size else 1.0
    return np.linspace(low, high, bins + 1).astype(values.dtype)


@function("histc")
def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """Counts of elements in equal bins between min and max (the data's extremes if both are 0)."""
    if input.dtype.category < 2:
        raise UnsupportedDTypeError(f'"histogram_cpu" not implemented for \'{input.dtype.name}\'')
    if bins <= 0:
        raise ShapeMismatchError("bins must be > 0")
    array = input.detach()._ndarray().astype(np.float64).reshape(-1)
    if min == max == 0 and array.size:
        min, max = array.min(), array.max()
    if min == max:
        min, max = min - 1, max + 1
    if min > max:
        raise ShapeMismatchError("max must be larger than min")
    counts, _ = np.histogram(array, bins=bins, range=(min, max))
    return from_array(counts.astype(input.dtype.numpy), input.dtype)


def _counted(points: np.ndarray[Any, Any], edges: list[np.ndarray[Any, Any]], weight: Tensor | None, density: bool) -> Any:
    w = None if weight is None else weight.detach()._ndarray().reshape(-1).astype(np.float64)
    if w is not None and len(w) != len(points):
        raise ShapeMismatchError("torsh.histogramdd(): if weight tensor is provided it should have the same shape as the input "
                                 "tensor excluding its innermost dimension")
    with np.errstate(all="ignore"):
        counts, _ = np.histogramdd(points, edges, weights=w, density=density)
    return counts.astype(points.dtype)


@function("histogram")
def histogram(input: Tensor, bins: Any, *, range: Sequence[float] | None = None, weight: Tensor | None = None,
              density: bool = False) -> Any:
    """(hist, bin_edges): counts (or weights, or densities) of all elements; bins: a number, or the edges."""
    values = _numbers(input, "histogram").reshape(-1)
    if isinstance(bins, Handle):
        edges = _numbers(bins, "histogram")  # type: ignore[arg-type]
    else:
        low, high = range if range is not None else (0.0, 0.0)
        edges = _edges(values, bins, low, high, range is not None)
    counts = _counted(values.reshape(-1, 1), [edges], weight, density)
    return Histogram(from_array(counts, input.dtype), from_array(edges.copy(), input.dtype))


@function("histogramdd", method=False, out=False)
def histogramdd(input: Tensor, bins: Any, *, range: Sequence[float] | None = None, weight: Tensor | None = None,
                density: bool = False) -> Any:
    """(hist, bin_edges) of points, the rows (..., dimensions) of ``input``; bins: a number, numbers, or edges per dimension."""
    if input.ndim < 2:
        raise ShapeMismatchError(f"torsh.histogramdd(): input tensor should have at least 2 dimensions, but got {input.ndim}")
    n = input.shape[-1]
    points = _numbers(input, "histogramdd").reshape(-1, n)
    each = [bins] * n if isinstance(bins, int) else list(bins)
    if len(each) != n:
        raise ShapeMismatchError(f"torsh.histogramdd(): expected {n} sequences of bin edges for a {n}-dimensional histogram but got "
                                 f"{len(each)}")
    if range is not None and len(range) != 2 * n:
        raise ShapeMismatchError(f"torsh.histogramdd(): for a {n}-dimensional histogram range should have {2 * n} elements, but got "
                                 f"{len(range)}")
    edges = []
    for d, b in enumerate(each):
        low, high = (0.0, 0.0) if range is None else range[2 * d:2 * d + 2]
        edges.append(_numbers(b, "histogramdd") if isinstance(b, Handle) else  # type: ignore[arg-type]
                     _edges(points[:, d], b, low, high, range is not None))
    counts = _counted(points, edges, weight, density)
    return Histogram(from_array(counts, input.dtype), tuple([from_array(e.copy(), input.dtype) for e in edges]))


# ---- numerical gradient ------------------------------------------------------------------------------------------------

def _spacings(spacing: Any, dims: list[int]) -> list[Any]:
    """A number or coordinates (tensor) for every dimension."""
    if isinstance(spacing, (int, float)) or isinstance(spacing, Handle) and not spacing.ndim:  # type: ignore[attr-defined]
        return [spacing] * len(dims)
    listed = [spacing] if isinstance(spacing, Handle) else list(spacing)
    if len(listed) != len(dims):
        raise ShapeMismatchError(f"torsh.gradient expected spacing to be unspecified, a scalar or a list of length {len(dims)}, but "
                                 f"got a list of length {len(listed)}")
    return listed


def _slope(x: Any, dim: int, spacing: Any, order: int) -> Any:
    """Second-order differences inside of a dimension, one-sided ones of the given order at its ends."""
    n = x.shape[dim]
    coordinates = isinstance(spacing, Handle) and spacing.ndim  # type: ignore[attr-defined]
    if n < order + 1:
        raise ShapeMismatchError("torsh.gradient expected each dimension size to be at least edge_order+1")
    if coordinates and len(spacing) != n:
        raise ShapeMismatchError(f"torsh.gradient expected each element of spacing to have the dimension's size {n}, but got "
                                 f"{len(spacing)}")
    steps = spacing.diff() if coordinates else spacing * x.new_ones(n - 1)
    steps = steps.reshape([-1 if i == dim else 1 for i in range(x.ndim)])

    def part(t: Any, start: int, length: int) -> Any:
        return t.narrow(dim, start % t.shape[dim], length)
    slopes = x.diff(dim=dim) / steps
    if order == 1:
        ends = part(slopes, 0, 1), part(slopes, -1, 1)
    else:
        h0, h1, h2, h3 = part(steps, 0, 1), part(steps, 1, 1), part(steps, -2, 1), part(steps, -1, 1)
        first, last = part(slopes, 0, 1), part(slopes, -1, 1)
        ends = (first + (first - part(slopes, 1, 1)) * h0 / (h0 + h1), last + (last - part(slopes, -2, 1)) * h3 / (h2 + h3))
    if n == 2:
        return NAMESPACES[""]["cat"](ends, dim)
    before, after = part(steps, 0, n - 2), part(steps, 1, n - 2)
    inside = (part(slopes, 0, n - 2) * after + part(slopes, 1, n - 2) * before) / (before + after)
    return NAMESPACES[""]["cat"]([ends[0], inside, ends[1]], dim)


@function("gradient", method=False, out=False)
def gradient(input: Tensor, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> tuple[Tensor, ...]:
    """Numerical derivatives along each dimension; spacing: steps, or coordinates, of the samples."""
    if edge_order not in (1, 2):
        raise ShapeMismatchError("torsh.gradient only supports edge_order=1 and edge_order=2.")
    dims = list(range(input.ndim)) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    axes = [normalise_dim(d, input.ndim) for d in dims]
    if len(set(axes)) != len(axes):
        raise ShapeMismatchError("dim appears multiple times in the list of dims")
    x = input.to(get_default_dtype()) if input.dtype.category < 2 else input
    spacing = 1 if spacing is None else spacing
    return tuple([_slope(x, d, s, edge_order) for d, s in zip(axes, _spacings(spacing, axes), strict=True)])


# ---- distances ---------------------------------------------------------------------------------------------------------

@function("cdist", method=False, out=False)
def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str | None = None) -> Tensor:
    """p-norm distances (..., P, R) between the rows of x1 (..., P, M) and x2 (..., R, M).

    compute_mode is accepted and has no effect: distances are always computed from differences.
    """
    return recorded(cdist_expr, (x1, x2), (float(p),))  # type: ignore[no-any-return]


@function("pdist", method=False, out=False)
def pdist(input: Tensor, p: float = 2) -> Tensor:
    """p-norm distances between all pairs of rows of a matrix, in the order (0, 1), (0, 2) ... (1, 2) ..."""
    if input.ndim != 2:
        raise ShapeMismatchError(f"pdist only supports 2D tensors, got: {input.ndim}D")
    if p < 0:
        raise ShapeMismatchError("pdist only supports non-negative p values")
    rows, columns = (as_tensor(i) for i in np.triu_indices(input.shape[0], 1))
    return (input[rows] - input[columns]).norm(p, -1)  # type: ignore[no-any-return]
