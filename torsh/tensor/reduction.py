"""Reductions: sums, extremes, statistics and norms over dimensions."""
from __future__ import annotations

from collections import namedtuple
from typing import Any, Final

from torsh.core.dtype import DType, bool_, float32, get_default_dtype, int64
from torsh.core.errors import ArgumentTypeError, DTypeError, IndexOutOfRangeError, ShapeMismatchError, UnsupportedDTypeError
from torsh.core.shape import normalise_dim
from torsh.graph.handle import Handle, expr_of
from torsh.ops.common import sum_to
from torsh.ops.expr import TABLE, Expr, constant, emit, emit1, emit2
from torsh.tensor.function import METHODS, function, recorded, scalar_type_name, tensor_operand
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


@function("sum", recall=True)
def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """Sum over the given dimensions (all by default); integers are summed in int64."""
    e = tensor_operand(input, "sum")
    check_axis(dim, "sum")
    if dtype is not None:
        e = cast(e, dtype)
    elif e.dtype.category < 2:
        e = cast(e, int64)
    if e.dtype is bool_:
        return _truth(Tensor(e), dim, keepdim, "any")
    r = reduce_with("sum", e, axes_of(dim, len(e.shape)), keepdim)
    return Tensor(cast(r, e.dtype) if e.dtype.category == 1 else r)


@function("nansum", recall=True)
def nansum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """Sum that counts NaN as zero."""
    e = tensor_operand(input, "nansum")
    if e.dtype.category == 3:
        raise DTypeError("nansum does not support complex inputs")
    if e.dtype.category == 2:
        e = emit(TABLE["where"], (emit1(TABLE["isnan"], e), constant(0.0, e.dtype), e))
    return sum(Tensor(e), dim, keepdim, dtype=dtype)  # type: ignore[no-any-return]


@function("mean", recall=True)
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


@function("nanmean", recall=True)
def nanmean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """Mean of the elements that are not NaN."""
    if input.dtype.category < 2:
        raise DTypeError(f"nanmean(): expected input to have floating point or complex dtype but got {input.dtype.name}")
    if dtype is not None and dtype.category < 2:
        raise DTypeError("nanmean(): could not infer output dtype. Optional dtype must be either a floating point or complex dtype. "
                         f"Got: {scalar_type_name(dtype)}")
    count = (~input.isnan()).sum(dim, keepdim)
    return nansum(input, dim, keepdim, dtype=dtype) / count  # type: ignore[no-any-return]


@function("prod", recall=True)
def prod(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """Product over one dimension (all by default); integers are multiplied in int64."""
    e = tensor_operand(input, "prod")
    if dtype is not None:
        e = cast(e, dtype)
    elif e.dtype.category < 2:
        e = cast(e, int64)
    if e.dtype is bool_:
        return _truth(Tensor(e), dim, keepdim, "all")
    r = reduce_with("prod", e, axes_of(dim, len(e.shape)), keepdim)
    return Tensor(cast(r, e.dtype) if e.dtype.category == 1 else r)


def not_empty(e: Expr, axes: tuple[int, ...], name: str, dim: Any) -> None:
    """Reductions without identity need at least one element."""
    for a in axes:
        if e.shape[a] == 0 and 0 in e.shape:
            if dim is None:
                raise ShapeMismatchError(f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify "
                                         "the reduction dim with the 'dim' argument.")
            raise IndexOutOfRangeError(f"{name}(): Expected reduction dim {a} to have non-zero size.")


@function("amax", recall=True)
def amax(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Largest elements over the given dimensions; the gradient is shared by equal ones."""
    return _extreme(input, dim, keepdim, "amax")


@function("amin", recall=True)
def amin(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Smallest elements over the given dimensions; the gradient is shared by equal ones."""
    return _extreme(input, dim, keepdim, "amin")


def _extreme(input: Tensor, dim: Any, keepdim: bool, name: str) -> Tensor:
    e = tensor_operand(input, name)
    if e.dtype.category == 3:
        raise UnsupportedDTypeError(f"{name} not implemented for '{e.dtype.name}'")
    axes = axes_of(dim, len(e.shape))
    not_empty(e, axes, name, dim if dim != () else None)
    return Tensor(reduce_with(name, e, axes, keepdim))


@function("aminmax", recall=True)
def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """(min, max) over one dimension or all."""
    return result_tuple("aminmax", "min", "max")(amin(input, () if dim is None else dim, keepdim),
                                                 amax(input, () if dim is None else dim, keepdim))


@function("argmax", recall=True)
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Position of the (first) largest element, in one dimension or in the flattened tensor."""
    return _position(input, dim, keepdim, "argmax")


@function("argmin", recall=True)
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Position of the (first) smallest element, in one dimension or in the flattened tensor."""
    return _position(input, dim, keepdim, "argmin")


def _position(input: Tensor, dim: int | None, keepdim: bool, name: str) -> Tensor:
    e = tensor_operand(input, name)
    if e.dtype.category in (0, 3):
        raise UnsupportedDTypeError(f"{name} not implemented for '{'Bool' if e.dtype.category == 0 else 'ComplexFloat'}'")
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
            raise UnsupportedDTypeError(f"{name} not implemented for '{e.dtype.name}'")
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
    function(name, recall=True)(fn)


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


@function("any", recall=True)
def any_(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Is any element true, over the given dimensions?"""
    return _truth(input, dim, keepdim, "any")


@function("all", recall=True)
def all_(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Are all elements true, over the given dimensions?"""
    return _truth(input, dim, keepdim, "all")


def _truth(input: Tensor, dim: Any, keepdim: bool, name: str) -> Tensor:
    e = tensor_operand(input, name)
    kind = e.dtype
    truth = cast(e, bool_)
    if isinstance(dim, (tuple, list)) and not dim:      # other reductions take no dimensions for all
        return Tensor(cast(truth, kind) if kind.name == "uint8" else truth)
    axes = axes_of(dim, len(e.shape), empty_is_all=True)
    if 0 in [e.shape[a] for a in axes]:
        shape = tuple(1 if i in axes else n for i, n in enumerate(e.shape) if keepdim or i not in axes)
        value = constant(name == "all", bool_)
        r = emit1(TABLE["expand"], value, shape) if shape else value
    else:
        r = reduce_with("amax" if name == "any" else "amin", truth, axes, keepdim)
    return Tensor(cast(r, kind) if kind.name == "uint8" else r)


@function("count_nonzero", out=False, recall=True)
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
    axes = axes_of(dim, len(e.shape))
    if e.dtype.is_complex:
        return recorded(_complex_logsumexp, (input,), (axes, bool(keepdim)))  # type: ignore[no-any-return]
    return Tensor(emit1(TABLE["logsumexp"], e, (axes, keepdim)))


def _complex_logsumexp(input: Expr, axes: tuple[int, ...], keepdim: bool) -> Expr:
    real = emit1(TABLE["real"], emit1(TABLE["detach"], input))
    top = emit1(TABLE["amax"], real, (axes, True)) if axes else real
    finite = emit1(TABLE["isfinite"], top)
    top = cast(emit(TABLE["where"], (finite, top, constant(0.0, top.dtype))), input.dtype)
    total = emit1(TABLE["sum"], emit1(TABLE["exp"], emit2(TABLE["sub"], input, top)), (axes, keepdim))
    shift = top if keepdim else emit1(TABLE["reshape"], top, total.shape)
    return emit2(TABLE["add"], emit1(TABLE["log"], total), shift)


@function("sum_to_size", namespace=None, out=False)  # type: ignore[arg-type]
def sum_to_size(self: Tensor, *size: Any) -> Tensor:
    """Summed over dimensions so that the result has the given size, which must broadcast to this tensor's."""
    shape = tuple(size[0]) if len(size) == 1 and hasattr(size[0], "__iter__") else tuple(size)
    return recorded(_sum_to_size, (self,), (shape,))  # type: ignore[no-any-return]


def _sum_to_size(input: Expr, shape: tuple[int, ...]) -> Expr:
    extra = len(input.shape) - len(shape)
    if extra < 0 or any(n not in (1, m) for n, m in zip(shape, input.shape[extra:], strict=True)):
        raise ShapeMismatchError(f"size {{{list(shape)}}} is not expandable to size {{{list(input.shape)}}}.")
    if input.shape == shape:
        return emit1(TABLE["clone"], input)
    return sum_to(cast(input, int64) if input.dtype.category < 2 else input, shape)


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
        raise DTypeError(f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got "
                         f"{scalar_type_name(e.dtype)}")
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
    if input.ndim < 2:
        raise ShapeMismatchError(f"renorm: input needs at least 2 dimensions, got {input.ndim} dimensions")
    if p <= 0:
        raise ShapeMismatchError("renorm: non-positive-norm not supported")
    if maxnorm < 0:
        raise ShapeMismatchError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm}")
    axis = normalise_dim(dim, input.ndim)
    others = tuple(i for i in range(input.ndim) if i != axis)
    norms = vector_norm(input.float() if input.dtype.itemsize == 2 else input, p, others, True)
    factor = (maxnorm / (norms + 1e-7)).where(norms > maxnorm, norms.new_ones(()))
    return input * factor.to(input.dtype)  # type: ignore[no-any-return]


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
        raise UnsupportedDTypeError(f"{name} not implemented for '{e.dtype.name}'")
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


__all__ = ["float32", "expr_of", "axes_of", "picked", "reduce_with", "ValuesIndices"]
