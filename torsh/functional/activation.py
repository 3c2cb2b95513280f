"""Activation functions."""
from __future__ import annotations

from typing import Any

from torsh.core.dtype import DType
from torsh.core.errors import DTypeError, InvalidArgumentError, ShapeMismatchError, UnsupportedDTypeError
from torsh.core.shape import normalise_dim
from torsh.graph.window import scalar_expr, tensor_of
from torsh.ops.activation import glu_expr, gumbel_softmax_expr, prelu_expr, rrelu_expr, softsign_expr
from torsh.ops.common import cast, neg
from torsh.ops.expr import TABLE, Expr, emit, emit1, emit2
from torsh.tensor import attach_methods
from torsh.tensor.function import METHODS, NAMESPACES, assign, check_writable, function, recalled, recorded, store_out, tensor_operand
from torsh.tensor.randomness import seeds
from torsh.tensor.tensor import Tensor

_TORCH = NAMESPACES.setdefault("", {})


def finish(input: Tensor, e: Expr, inplace: bool, name: str) -> Tensor:
    """The result, or the input overwritten with it."""
    if inplace:
        check_writable(input)
        return assign(input, Tensor(e), name + "_")  # type: ignore[no-any-return]
    return tensor_of(e)  # type: ignore[no-any-return]


def floating(input: Any, name: str) -> Expr:
    """The expression of a floating-point input; PyTorch's error for others."""
    e = tensor_operand(input, name)
    if e.dtype.category < 2:
        raise UnsupportedDTypeError(f'"{name}_cpu" not implemented for \'{e.dtype.name}\'')
    return e


@recalled
def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """``max(0, x)``; the gradient at 0 is 0."""
    e = tensor_operand(input, "relu")
    if e.dtype.category in (0, 3):
        raise UnsupportedDTypeError("Boolean inputs not supported for relu" if e.dtype.category == 0 else
                         f'"relu" not implemented for \'{e.dtype.name}\'')
    return finish(input, emit1(TABLE["relu"], e), inplace, "relu")


def relu_(input: Tensor) -> Tensor:
    """In-place :func:`relu`."""
    return relu(input, True)


@recalled
def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """``min(max(0, x), 6)``."""
    return hardtanh(input, 0.0, 6.0, inplace)


@recalled
def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """``x`` limited to [min_val, max_val]; the gradient is 0 at the limits."""
    e = tensor_operand(input, "hardtanh")
    if e.dtype.name == "bool":
        raise DTypeError("Bool inputs not supported for hardtanh")
    if min_val > max_val:
        raise InvalidArgumentError("min_val cannot be greater than max_val")
    if e.dtype.name == "uint8" and min_val < 0:
        raise DTypeError("cannot do hardtanh on an unsigned type with negative limits")
    kind = float if e.dtype.category >= 2 else int
    return finish(input, emit(TABLE["hardtanh"], (e, scalar_expr(kind(min_val)), scalar_expr(kind(max_val)))), inplace,
                  "hardtanh")


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """``x`` for positive x, else ``negative_slope * x``."""
    return finish(input, emit2(TABLE["leaky_relu"], floating(input, "leaky_relu"), scalar_expr(float(negative_slope))),
                  inplace, "leaky_relu")


@recalled
def gelu(input: Tensor, approximate: str = "none", *, out: Tensor | None = None) -> Tensor:
    """``x`` times the normal distribution function of x; approximate: ``"none"`` or ``"tanh"``."""
    if out is not None:
        return store_out(gelu, "gelu", (input, approximate), {}, out)  # type: ignore[no-any-return]
    if approximate not in ("none", "tanh"):
        raise ShapeMismatchError("approximate argument must be either none or tanh.")
    return Tensor(emit1(TABLE["gelu"], floating(input, "gelu"), approximate))


@recalled
def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """``x * sigmoid(x)``."""
    return finish(input, emit1(TABLE["silu"], floating(input, "silu")), inplace, "silu")


@recalled
def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """``x * tanh(softplus(x))``."""
    return finish(input, emit1(TABLE["mish"], floating(input, "mish")), inplace, "mish")


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0, *, out: Tensor | None = None) -> Tensor:
    """``log(1 + exp(beta * x)) / beta``; ``x`` itself where ``beta * x > threshold``."""
    if out is not None:
        return store_out(softplus, "softplus", (input, beta, threshold), {}, out)  # type: ignore[no-any-return]
    return Tensor(emit(TABLE["softplus"], (floating(input, "softplus"), scalar_expr(float(beta)), scalar_expr(float(threshold)))))


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """``x`` for positive x, else ``alpha * (exp(x) - 1)``."""
    return finish(input, emit2(TABLE["elu"], floating(input, "elu"), scalar_expr(float(alpha))), inplace, "elu")


@recalled
def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """Scaled elu with the constants of self-normalising networks (Klambauer et al., 2017)."""
    return finish(input, emit1(TABLE["selu"], floating(input, "selu")), inplace, "selu")


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """``max(0, x) + min(0, alpha * (exp(x / alpha) - 1))``."""
    if alpha == 0:
        raise ShapeMismatchError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return finish(input, emit2(TABLE["celu"], floating(input, "celu"), scalar_expr(float(alpha))), inplace, "celu")


def _simple(name: str, text: str) -> Any:
    def fn(input: Tensor, inplace: bool = False) -> Tensor:
        return finish(input, emit1(TABLE[name], floating(input, name)), inplace, name)
    fn.__name__ = name
    fn.__doc__ = text
    return fn


hardswish = _simple("hardswish", "``x * relu6(x + 3) / 6``.")
hardsigmoid = _simple("hardsigmoid", "``relu6(x + 3) / 6``.")


def hardshrink(input: Tensor, lambd: float = 0.5, *, out: Tensor | None = None) -> Tensor:
    """``x`` where ``|x| > lambd``, else 0."""
    if out is not None:
        return store_out(hardshrink, "hardshrink", (input, lambd), {}, out)  # type: ignore[no-any-return]
    return Tensor(emit2(TABLE["hardshrink"], floating(input, "hardshrink"), scalar_expr(float(lambd))))


def softshrink(input: Tensor, lambd: float = 0.5, *, out: Tensor | None = None) -> Tensor:
    """``x`` moved towards 0 by ``lambd``."""
    if out is not None:
        return store_out(softshrink, "softshrink", (input, lambd), {}, out)  # type: ignore[no-any-return]
    if lambd < 0:
        raise ShapeMismatchError(f"lambda must be greater or equal to 0, but found to be {lambd}.")
    return Tensor(emit2(TABLE["softshrink"], floating(input, "softshrink"), scalar_expr(float(lambd))))


@recalled
def tanhshrink(input: Tensor) -> Tensor:
    """``x - tanh(x)``."""
    return Tensor(emit1(TABLE["tanhshrink"], tensor_operand(input, "tanhshrink")))


@recalled
def softsign(input: Tensor) -> Tensor:
    """``x / (1 + |x|)``."""
    return recorded(softsign_expr, (input,))  # type: ignore[no-any-return]


@recalled
def logsigmoid(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """``log(sigmoid(x))``, computed without overflow."""
    if out is not None:
        return store_out(logsigmoid, "logsigmoid", (input,), {}, out)  # type: ignore[no-any-return]
    return Tensor(emit1(TABLE["logsigmoid"], floating(input, "log_sigmoid")))


def sigmoid(input: Tensor) -> Tensor:
    """``1 / (1 + exp(-x))``."""
    return Tensor(emit1(TABLE["sigmoid"], tensor_operand(input, "sigmoid")))


def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return Tensor(emit1(TABLE["tanh"], tensor_operand(input, "tanh")))


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """``x`` where ``x > threshold``, else ``value``."""
    e = tensor_operand(input, "threshold")
    kind = float if e.dtype.category >= 2 else int
    return finish(input, emit(TABLE["threshold"], (e, scalar_expr(kind(threshold)), scalar_expr(kind(value)))), inplace,
                  "threshold")


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """``x`` for positive x, else ``weight * x`` with one weight for all or one per channel (dimension 1)."""
    return recorded(prelu_expr, (input, weight))  # type: ignore[no-any-return]


def rrelu(input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False,
          inplace: bool = False) -> Tensor:
    """leaky_relu with slopes drawn from [lower, upper] in training, their mean otherwise."""
    e = floating(input, "rrelu")
    if lower > upper:
        raise ShapeMismatchError(f"Lower bound should be less than or equal to the upper bound, got {lower} and {upper}")
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    return finish(input, rrelu_expr(e, *seeds(None), scalar_expr(float(lower)), scalar_expr(float(upper))), inplace, "rrelu")


@recalled
def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half of a dimension times the sigmoid of the second half."""
    return recorded(glu_expr, (input,), (dim,))  # type: ignore[no-any-return]


def softmax_dim(name: str, dim: int | None, input: Any) -> int:
    """The dimension of softmax; PyTorch's (deprecated) choice if none is given."""
    if dim is not None:
        return dim
    import warnings
    warnings.warn(f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.",
                  UserWarning, stacklevel=3)
    return 0 if len(tensor_operand(input, name).shape) in (0, 1, 3) else 1


@recalled
def _softmax(input: Tensor, name: str, dim: int, dtype: DType | None) -> Tensor:
    e = tensor_operand(input, name)
    if dtype is not None and dtype is not e.dtype:
        e = emit1(TABLE["cast"], e, dtype.name)
    d = normalise_dim(dim, max(len(e.shape), 1))
    if e.dtype.category < 2:
        raise UnsupportedDTypeError(f'"{name}_lastdim_kernel_impl" not implemented for \'{e.dtype.name}\'')
    return tensor_of(emit1(TABLE[name], e, d))  # type: ignore[no-any-return]


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None) -> Tensor:
    """Exponentials normalised to sum to 1 along a dimension."""
    return _softmax(input, "softmax", softmax_dim("softmax", dim, input), dtype)


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None) -> Tensor:
    """Logarithm of softmax, computed without overflow."""
    return _softmax(input, "log_softmax", softmax_dim("log_softmax", dim, input), dtype)


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None) -> Tensor:
    """softmax of ``-input``."""
    return recorded(_softmin, (input,), (softmax_dim("softmin", dim, input), dtype))  # type: ignore[no-any-return]


def _softmin(input: Expr, dim: int, dtype: DType | None) -> Expr:
    e = neg(input)
    dim = normalise_dim(dim, max(len(e.shape), 1))
    return emit1(TABLE["softmax"], e if dtype is None else cast(e, dtype), dim)


def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """softmax of logits with Gumbel noise; hard: one-hot results with the soft gradient."""
    e = floating(logits, "gumbel_softmax")
    return Tensor(gumbel_softmax_expr(e, *seeds(None), scalar_expr(float(tau)), normalise_dim(dim, len(e.shape)), bool(hard)))


def torch_softmax(name: str) -> None:
    """``torsh.softmax(input, dim, dtype=None)`` and the method."""
    def fn(input: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
        return _softmax(input, name, dim, dtype)
    fn.__name__ = name
    fn.__doc__ = f"``{name}`` along a dimension."
    function(name)(fn)
    function(name, namespace="special", method=False)(fn)


torch_softmax("softmax")
torch_softmax("log_softmax")


def _in_place(fn: Any) -> Any:
    def changed(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return fn(input, *args, inplace=True, **kwargs)  # type: ignore[no-any-return]
    changed.__name__ = fn.__name__ + "_"
    changed.__doc__ = f"In-place :func:`{fn.__name__}`."
    return changed


hardtanh_, leaky_relu_, elu_, selu_, celu_, threshold_, rrelu_ = (
    _in_place(f) for f in (hardtanh, leaky_relu, elu, selu, celu, threshold, rrelu))
for _fn in (relu, selu, celu, prelu, rrelu, threshold):
    _TORCH[_fn.__name__] = _fn
for _changed in (relu_, selu_, celu_, rrelu_, threshold_):
    _TORCH[_changed.__name__] = _changed
METHODS.update({"relu": relu, "relu_": relu_, "prelu": prelu, "hardshrink": hardshrink})
_TORCH["hardshrink"] = hardshrink
attach_methods()
