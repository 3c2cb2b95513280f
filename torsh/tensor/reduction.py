"""Reductions: sums, extremes, statistics and norms over dimensions."""
from __future__ import annotations

from collections import namedtuple
from typing import Any, Final

from torsh.core.dtype import DType, bool_, float32, get_default_dtype, int64
from torsh.core.errors import ArgumentTypeError, DTypeError, IndexOutOfRangeError, ShapeMismatchError
from torsh.core.shape import normalise_dim
from torsh.graph.handle import Handle, expr_of
from torsh.ops.expr import TABLE, Expr, constant, emit, emit1, emit2
from torsh.tensor.function import METHODS, function, tensor_operand
from torsh.tensor.tensor import Tensor


def result_tuple(name: str, *fields: str) -> Any:
    """A named tuple type like PyTorch's ``torch.return_types``."""
    return namedtuple(name, fields)


ValuesIndices: Final = {name: result_tuple(name, "values", "indices") for name in (
    "max", "min", "median", "nanmedian", "mode", "kthvalue", "sort", "topk", "cummax", "cummin")}


def axes_of(dim: Any, ndim: int, *, empty_is_all: bool = True) -> tuple[int, ...]:
    """Dimensions given as None, a number or a sequence, as a sorted tuple."""
    if dim is None:
        return tuple(range(ndim))
    dims = (dim,) if isinstance(dim, int) else tuple(int(d) for d in dim)
    if not dims and empty_is_all:
        return tuple(range(ndim))
    axes = [normalise_dim(d, ndim) for d in dims]
    if len(set(axes)) != len(axes):
        repeated = next(a for a in axes if axes.count(a) > 1)
        raise ShapeMismatchError(f"dim {repeated} appears multiple times in the list of dims")
    return tuple(sorted(a for a in axes if ndim))


def reduce_with(name: str, e: Expr, axes: tuple[int, ...], keepdim: bool) -> Expr:
    """The reduction op of the table."""
    return emit1(TABLE[name], e, (axes, keepdim))


def cast(e: Expr, dtype: DType) -> Expr:
    """The expression in another dtype."""
    return e if e.dtype is dtype else emit1(TABLE["cast"], e, dtype.name)


def check_axis(values: Any, allowed: str) -> None:
    """Raise for an axis argument of a wrong type."""
    if values is not None and not isinstance(values, (int, tuple, list)) and not hasattr(values, "__iter__"):
        raise ArgumentTypeError(f"{allowed}(): argument 'dim' must be tuple of ints, not {type(values).__name__}")


@function("sum")
def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """Sum over the given dimensions (all by default); integers are summed in int64."""
    e = tensor_operand(input, "sum")
    check_axis(dim, "sum")
    if dtype is not None:
        e = cast(e, dtype)
    elif e.dtype.category < 2:
        e = cast(e, int64)
    return Tensor(reduce_with("sum", e, axes_of(dim, len(e.shape)), keepdim))


@function("nansum")
def nansum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """Sum that counts NaN as zero."""
    e = tensor_operand(input, "nansum")
    if e.dtype.category == 3:
        raise DTypeError("nansum does not support complex inputs")
    if e.dtype.category == 2:
        e = emit(TABLE["where"], (emit1(TABLE["isnan"], e), constant(0.0, e.dtype), e))
    return sum(Tensor(e), dim, keepdim, dtype=dtype)  # type: ignore[no-any-return]


@function("mean")
def mean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """Arithmetic mean over the given dimensions (all by default)."""
    e = tensor_operand(input, "mean")
    check_axis(dim, "mean")
    if dtype is not None:
        e = cast(e, dtype)
    if e.dtype.category < 2:
        raise DTypeError(f"mean(): could not infer output dtype. Input dtype must be either a floating point or complex "
                         f"dtype. Got: {e.dtype.name}")
    return Tensor(reduce_with("mean", e, axes_of(dim, len(e.shape)), keepdim))


@function("nanmean")
def nanmean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """Mean of the elements that are not NaN."""
    if input.dtype.category < 2:
        raise DTypeError(f"nanmean(): expected input to have floating point or complex dtype but got {input.dtype.name}")
    count = (~input.isnan()).sum(dim, keepdim)
    return nansum(input, dim, keepdim, dtype=dtype) / count  # type: ignore[no-any-return]


@function("prod")
def prod(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """Product over one dimension (all by default); integers are multiplied in int64."""
    e = tensor_operand(input, "prod")
    if dtype is not None:
        e = cast(e, dtype)
    elif e.dtype.category < 2:
        e = cast(e, int64)
    return Tensor(reduce_with("prod", e, axes_of(dim, len(e.shape)), keepdim))


def not_empty(e: Expr, axes: tuple[int, ...], name: str, dim: Any) -> None:
    """Reductions without identity need at least one element."""
    for a in axes:
        if e.shape[a] == 0 and 0 in e.shape:
            if dim is None:
                raise ShapeMismatchError(f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify "
                                         "the reduction dim with the 'dim' argument.")
            raise IndexOutOfRangeError(f"{name}(): Expected reduction dim {a} to have non-zero size.")


@function("amax")
def amax(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Largest elements over the given dimensions; the gradient is shared by equal ones."""
    return _extreme(input, dim, keepdim, "amax")


@function("amin")
def amin(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Smallest elements over the given dimensions; the gradient is shared by equal ones."""
    return _extreme(input, dim, keepdim, "amin")


def _extreme(input: Tensor, dim: Any, keepdim: bool, name: str) -> Tensor:
    e = tensor_operand(input, name)
    if e.dtype.category == 3:
        raise DTypeError(f"{name} not implemented for '{e.dtype.name}'")
    axes = axes_of(dim, len(e.shape))
    not_empty(e, axes, name, dim if dim != () else None)
    return Tensor(reduce_with(name, e, axes, keepdim))


@function("aminmax")
def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """(min, max) over one dimension or all."""
    return result_tuple("aminmax", "min", "max")(amin(input, () if dim is None else dim, keepdim),
                                                 amax(input, () if dim is None else dim, keepdim))


@function("argmax")
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Position of the (first) largest element, in one dimension or in the flattened tensor."""
    return _position(input, dim, keepdim, "argmax")


@function("argmin")
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Position of the (first) smallest element, in one dimension or in the flattened tensor."""
    return _position(input, dim, keepdim, "argmin")


def _position(input: Tensor, dim: int | None, keepdim: bool, name: str) -> Tensor:
    e = tensor_operand(input, name)
    if e.dtype.category in (0, 3):
        raise DTypeError(f"{name} not implemented for '{'Bool' if e.dtype.category == 0 else 'ComplexFloat'}'")
    axes = axes_of(dim, len(e.shape))
    not_empty(e, axes, name, dim)
    return Tensor(reduce_with(name, e, axes, keepdim))


def _max_or_min(name: str) -> None:
    both, extreme, position = {"max": ("maximum", "amax", "argmax"), "min": ("minimum", "amin", "argmin")}[name]

    def fn(input: Tensor, *args: Any, dim: Any = None, keepdim: bool = False, other: Any = None) -> Any:
        if args and isinstance(args[0], Handle):
            other = args[0]
        elif args:
            dim = args[0]
            keepdim = args[1] if len(args) > 1 else keepdim
        e = tensor_operand(input, name)
        if other is not None:
            return Tensor(emit2(TABLE[both], e, tensor_operand(other, name, 2, "other")))
        if e.dtype.category == 3:
            raise DTypeError(f"{name} not implemented for '{e.dtype.name}'")
        if dim is None:
            not_empty(e, axes_of(None, len(e.shape)), name, None)
            return Tensor(reduce_with(extreme, e, tuple(range(len(e.shape))), False))
        axes = axes_of(dim, len(e.shape))
        not_empty(e, axes, name, dim)
        source = cast(e, TABLE_INT8()) if e.dtype is bool_ else e
        where = reduce_with(position, source, axes, True)
        return ValuesIndices[name](*picked(e, where, axes, keepdim))
    fn.__name__ = name
    fn.__doc__ = (f"Without dim: the {name}imum element. With dim: (values, indices) over it. With another tensor: the "
                  f"elementwise {name}imum.")
    function(name)(fn)


def TABLE_INT8() -> DType:
    """The dtype in which truth values are compared."""
    from torsh.core.dtype import uint8
    return uint8


def picked(e: Expr, where: Expr, axes: tuple[int, ...], keepdim: bool) -> tuple[Tensor, Tensor]:
    """Values at positions along one dimension (gradients go to these), and the positions."""
    values = emit2(TABLE["gather"], e, where, axes[0]) if axes else e
    if not keepdim and axes:
        shape = tuple(n for i, n in enumerate(where.shape) if i not in axes)
        values, where = (emit1(TABLE["reshape"], v, shape) for v in (values, where))
    elif not axes:
        where = where if not where.shape else emit1(TABLE["reshape"], where, ())
    return Tensor(values), Tensor(where)


_max_or_min("max")
_max_or_min("min")


@function("any")
def any_(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Is any element true, over the given dimensions?"""
    return _truth(input, dim, keepdim, "any")


@function("all")
def all_(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Are all elements true, over the given dimensions?"""
    return _truth(input, dim, keepdim, "all")


def _truth(input: Tensor, dim: Any, keepdim: bool, name: str) -> Tensor:
    e = tensor_operand(input, name)
    axes = axes_of(dim, len(e.shape), empty_is_all=True)
    kind = e.dtype
    truth = cast(e, bool_)
    if 0 in [e.shape[a] for a in axes]:
        shape = tuple(1 if i in axes else n for i, n in enumerate(e.shape) if keepdim or i not in axes)
        value = constant(name == "all", bool_)
        r = emit1(TABLE["expand"], value, shape) if shape else value
    else:
        r = reduce_with("amax" if name == "any" else "amin", truth, axes, keepdim)
    return Tensor(cast(r, kind) if kind.name == "uint8" else r)


@function("count_nonzero", out=False)
def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """Number of elements that are not zero."""
    return sum(Tensor(cast(tensor_operand(input, "count_nonzero"), bool_)), dim)  # type: ignore[no-any-return]


# ---- statistics --------------------------------------------------------------------------------------------------------

def _moments(name: str) -> None:
    def fn(input: Tensor, dim: Any = None, *args: Any, unbiased: bool | None = None, correction: Any = None,
           keepdim: bool = False) -> Tensor:
        e = tensor_operand(input, name)
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        if args:
            unbiased = args[0]
            keepdim = args[1] if len(args) > 1 else keepdim
        if e.dtype.category < 2:
            raise DTypeError(f"{name}: only support floating point and complex dtypes")
        if correction is None:
            correction = 1 if unbiased is None or unbiased else 0
        return Tensor(emit1(TABLE[name], e, (axes_of(dim, len(e.shape)), bool(keepdim), correction)))
    fn.__name__ = name
    fn.__doc__ = f"{'Variance' if name == 'var' else 'Standard deviation'} over the given dimensions; correction: 1 by default."
    function(name)(fn)

    def with_mean(input: Tensor, dim: Any = None, *args: Any, unbiased: bool | None = None, correction: Any = None,
                  keepdim: bool = False) -> Any:
        if args:
            unbiased = args[0]
            keepdim = args[1] if len(args) > 1 else keepdim
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        spread = METHODS[name](input, dim, unbiased=unbiased, correction=correction, keepdim=keepdim)
        return result_tuple(name + "_mean", name, "mean")(spread, mean(input, dim, keepdim))
    with_mean.__name__ = name + "_mean"
    with_mean.__doc__ = f"({name}, mean) over the given dimensions."
    function(name + "_mean", method=False)(with_mean)


_moments("var")
_moments("std")


@function("logsumexp")
def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """``log(sum(exp(input)))``, computed without overflow."""
    e = tensor_operand(input, "logsumexp")
    if e.dtype.category < 2:
        e = cast(e, get_default_dtype())
    return Tensor(emit1(TABLE["logsumexp"], e, (axes_of(dim, len(e.shape)), keepdim)))


@function("norm")
def norm(input: Tensor, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: DType | None = None) -> Tensor:
    """p-norm over the given dimensions; p: a number, inf, -inf, ``"fro"`` or ``"nuc"``."""
    if p == "nuc":
        from torsh.tensor.function import NAMESPACES
        return NAMESPACES["linalg"]["matrix_norm"](input, "nuc", dim if dim is not None else (-2, -1), keepdim)  # type: ignore[no-any-return]
    if p is None or p == "fro":
        p = 2
    return vector_norm(input, p, dim, keepdim, dtype=dtype)  # type: ignore[no-any-return]


@function("vector_norm", namespace="linalg", method=False)
def vector_norm(x: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """Vector p-norm over the given dimensions (all by default)."""
    e = tensor_operand(x, "linalg.vector_norm", 1, "x")
    if e.dtype.category < 2:
        raise DTypeError(f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got {e.dtype.name}")
    if dtype is not None:
        e = cast(e, dtype)
    axes = axes_of(dim, len(e.shape))
    if e.dtype.category == 3:
        e = emit1(TABLE["abs"], e)
    if float(ord) < 0 or float(ord) == float("inf"):
        for a in axes:
            if e.shape[a] == 0:
                raise ShapeMismatchError(f"linalg.vector_norm cannot compute the {float(ord)} norm on an empty tensor because "
                                         "the operation does not have an identity")
    return Tensor(emit1(TABLE["norm"], e, (axes, keepdim, float(ord))))


@function("dist", out=False)
def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """p-norm of ``input - other``."""
    return vector_norm(input - other, p)  # type: ignore[no-any-return]


@function("renorm", inplace=True)
def renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """Each slice along ``dim`` scaled down so that its p-norm is at most ``maxnorm``."""
    axis = normalise_dim(dim, input.ndim)
    others = tuple(i for i in range(input.ndim) if i != axis)
    norms = vector_norm(input, p, others, True)
    factor = (norms > maxnorm).to(input.dtype) * (maxnorm / (norms + 1e-7) - 1) + 1
    return input * factor  # type: ignore[no-any-return]


@function("median")
def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The (lower) median: of all elements, or (values, indices) along one dimension."""
    return _median(input, dim, keepdim, "median")


@function("nanmedian")
def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The median that ignores NaN."""
    return _median(input, dim, keepdim, "nanmedian")


def _median(input: Tensor, dim: int | None, keepdim: bool, name: str) -> Any:
    e = tensor_operand(input, name)
    if e.dtype.category in (0, 3):
        raise DTypeError(f"{name} not implemented for '{e.dtype.name}'")
    flat = dim is None
    if flat:
        e = emit1(TABLE["reshape"], e, (input.numel(),))
        if input.numel() == 0:
            return input.new_full((), float("nan")) if e.dtype.category == 2 else input.new_full((), -2**63)
    axis = 0 if flat else normalise_dim(dim, len(e.shape))  # type: ignore[arg-type]
    if not e.shape:
        values, indices = Tensor(e), Tensor(constant(0, int64))
    else:
        not_empty(e, (axis,), name, dim)
        where = emit1(TABLE["median_index"], e, (axis, name == "nanmedian"))
        values, indices = picked(e, where, (axis,), keepdim)
    return values if flat else ValuesIndices[name](values, indices)


@function("histc", out=True)
def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """Counts of elements in equal bins between min and max (the data's extremes if both are 0)."""
    import numpy as np

    from torsh.tensor.tensor import from_array
    if input.dtype.category < 2:
        raise DTypeError(f'"histogram_cpu" not implemented for \'{input.dtype.name}\'')
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


@function("cov", out=False)
def cov(input: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None) -> Tensor:
    """Covariance matrix of variables in rows, observations in columns."""
    if input.ndim > 2:
        raise ShapeMismatchError(f"cov(): expected input to have two or fewer dimensions but got an input with {input.ndim}")
    x = input if input.ndim == 2 else input.reshape(1, -1)
    if x.dtype.category < 2:
        x = x.to(get_default_dtype())
    weights = fweights if aweights is None else aweights if fweights is None else fweights * aweights
    total: Any = x.shape[1] if weights is None else weights.sum()
    average = x.mean(1, True) if weights is None else (x * weights).sum(1, True) / total
    centred = x - average
    if weights is None or aweights is None:
        norm_factor = total - correction
    else:
        norm_factor = total - correction * (weights * aweights).sum() / total
    if isinstance(norm_factor, Handle):
        norm_factor = norm_factor.clamp(min=0)
    else:
        norm_factor = norm_factor if norm_factor > 0 else 0
    product = (centred if weights is None else centred * weights) @ centred.conj().mT / norm_factor
    return product.squeeze() if input.ndim < 2 else product  # type: ignore[no-any-return]


__all__ = ["float32", "expr_of", "axes_of", "picked", "reduce_with", "ValuesIndices"]
