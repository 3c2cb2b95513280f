"""How a function of the API is declared: once, with all its spellings.

::

    @function("add", inplace=True)
    def add(input, other, *, alpha=1): ...

declares ``torsh.add``, ``Tensor.add``, ``Tensor.add_`` and the ``out=`` argument. The rules of ``out=`` and of in-place
operations (shapes, dtypes, leaves, overlapping memory) stand here and nowhere else.
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType
from torsh.core.errors import ArgumentTypeError, AutogradError, DTypeError, ShapeMismatchError
from torsh.graph.handle import Handle, expr_of, requires_grad, write
from torsh.graph.window import NODE_LIMIT, flush, scalar_expr
from torsh.ops.expr import TABLE, Expr, emit1, recording

# {namespace: {name: function}}: "" is torsh itself, "linalg" is torsh.linalg ...
NAMESPACES: Final[dict[str, dict[str, Callable[..., Any]]]] = {}
# Methods of Tensor, attached by torsh.tensor once all families are loaded.
METHODS: Final[dict[str, Callable[..., Any]]] = {}
NUMBER: Final = (bool, int, float, complex)
_SCALAR_NAMES: Final = {"bool": "Bool", "uint8": "Byte", "int8": "Char", "int16": "Short", "int32": "Int", "int64": "Long",
                        "float16": "Half", "bfloat16": "BFloat16", "float32": "Float", "float64": "Double",
                        "complex64": "ComplexFloat", "complex128": "ComplexDouble"}


def scalar_type_name(dtype: DType) -> str:
    """PyTorch's name of a dtype in error messages ("Float", "Long", ...)."""
    return _SCALAR_NAMES[dtype.name]


def function(name: str, *, namespace: str = "", method: bool | str = True, inplace: bool = False, out: bool = True,
             aliases: tuple[str, ...] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a function of the API under ``name`` (and ``aliases``), see the module's docstring.

    namespace: where the function lives ("" for torsh itself; None for methods only). method: also a method of Tensor
    (a string: under that name). inplace: also ``name_``. out: accepts ``out=``.
    """
    def declare(fn: Callable[..., Any]) -> Callable[..., Any]:
        public = accepting_out(fn, name) if out else fn
        for label in (name, *aliases):
            if namespace is not None:
                NAMESPACES.setdefault(namespace, {})[label] = public
            if method:
                METHODS[method if isinstance(method, str) and label == name else label] = public
            if inplace:
                changed = in_place(fn, label + "_")
                METHODS[label + "_"] = changed
                if namespace == "" and label in _FUNCTIONS_WITH_INPLACE:
                    NAMESPACES.setdefault("", {})[label + "_"] = changed
        return public
    return declare


# PyTorch has these in-place forms as functions too.
_FUNCTIONS_WITH_INPLACE: Final = frozenset(
    "abs acos acosh asin asinh atan atanh ceil clamp clamp_max clamp_min cos cosh deg2rad erf erfc exp exp2 expm1 fill floor "
    "frac i0 log log10 log1p log2 logit nan_to_num neg negative rad2deg reciprocal relu round rsqrt sigmoid sin sinc sinh "
    "sqrt square tan tanh trunc fix zero dropout alpha_dropout feature_dropout celu selu rrelu threshold xlogy addmv "
    "arccos arccosh arcsin arcsinh arctan arctanh absolute clip conj_physical detach embedding_renorm index_put "
    "ldexp resize_as".split())


def accepting_out(fn: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function with the argument ``out``."""
    @functools.wraps(fn)
    def with_out(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        if len(recording.window.pending) > NODE_LIMIT:
            flush()
        if out is None:
            return fn(*args, **kwargs)
        return store_out(fn, name, args, kwargs, out)
    return with_out


def store_out(fn: Callable[..., Any], name: str, args: Any, kwargs: Any, out: Any) -> Any:
    """Run with ``out=``: results are cast into the given tensors, which take the results' shapes."""
    outs = out if isinstance(out, (tuple, list)) else (out,)
    for o in outs:
        if not isinstance(o, Handle):
            raise ArgumentTypeError(f"{name}(): argument 'out' must be Tensor, not {type(o).__name__}")
    if recording.grad_enabled and any(isinstance(a, Handle) and requires_grad(a) for a in (*args, *kwargs.values(), *outs)):
        raise AutogradError(f"{name}(): functions with out=... arguments don't support automatic differentiation, but one of "
                            "the arguments requires grad.")
    result = fn(*args, **kwargs)
    results = result if isinstance(result, (tuple, list)) else (result,)
    if len(results) != len(outs):
        raise ArgumentTypeError(f"{name}(): expected a tuple of {len(results)} tensors for 'out', got {len(outs)}")
    for o, r in zip(outs, results, strict=True):
        store(o, r, name)
    if not isinstance(result, (tuple, list)):
        return out
    return type(result)(*outs) if hasattr(result, "_fields") else type(result)(outs)


def store(target: Any, result: Any, name: str) -> None:
    """Put a result into an ``out=`` tensor."""
    e = expr_of(result)
    check_cast(e.dtype, target.dtype, name)
    if e.dtype is not target.dtype:
        e = emit1(TABLE["cast"], e, target.dtype.name)
    if e.shape != expr_of(target).shape:
        target._resize_for_out(e.shape)
    write(target, e)


def check_cast(have: DType, want: DType, name: str) -> None:
    """Raise PyTorch's error if a result may not be stored in a tensor of dtype ``want``."""
    if have.category > want.category:
        raise DTypeError(f"{name}: result type {scalar_type_name(have)} can't be cast to the desired output type "
                         f"{scalar_type_name(want)}")


def in_place(fn: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The in-place form of a function."""
    def changed(self: Any, *args: Any, **kwargs: Any) -> Any:
        check_writable(self)
        return assign(self, fn(self, *args, **kwargs), name)
    changed.__name__ = changed.__qualname__ = name
    changed.__doc__ = f"In-place form of :func:`torsh.{name[:-1]}`; returns the tensor itself."
    return changed


def assign(self: Any, result: Any, name: str) -> Any:
    """Store a result in ``self``, in place."""
    e = expr_of(result)
    own = expr_of(self)
    if e.shape != own.shape:
        raise ShapeMismatchError(f"{name}: output with shape {list(own.shape)} doesn't match the broadcast shape "
                                 f"{list(e.shape)}")
    if e.dtype is not own.dtype:
        check_cast(e.dtype, own.dtype, name)
        e = emit1(TABLE["cast"], e, own.dtype.name)
    write(self, e)
    return self


def check_writable(t: Any) -> None:
    """Raise PyTorch's errors for in-place operations on leaves and on memory that overlaps itself."""
    if recording.grad_enabled:
        if t._leaf_grad:
            raise AutogradError("a leaf Variable that requires grad is being used in an in-place operation.")
        root = t._root
        if root is not None and root._leaf_grad and requires_grad(t):
            raise AutogradError("a view of a leaf Variable that requires grad is being used in an in-place operation.")
    if t._root is not None and any(op.name in ("expand", "as_strided", "unfold") for op, _ in t._chain) and t._overlaps():
        raise ShapeMismatchError("unsupported operation: more than one element of the written-to tensor refers to a single "
                                 "memory location. Please clone() the tensor before performing the operation.")


def operand(value: Any, name: str, position: int = 2, argument: str = "other") -> Expr:
    """The expression of a tensor or a Python number."""
    if isinstance(value, Handle):
        return expr_of(value)
    kind = type(value)
    if kind in NUMBER:
        return scalar_expr(value)
    if isinstance(value, np.generic):
        return scalar_expr(value.item())
    if isinstance(value, NUMBER):
        return scalar_expr(NUMBER[max(i for i, n in enumerate(NUMBER) if isinstance(value, n))](value))  # type: ignore[arg-type]
    raise ArgumentTypeError(f"{name}(): argument '{argument}' (position {position}) must be Tensor or Number, "
                            f"not {type(value).__name__}")


def tensor_operand(value: Any, name: str, position: int = 1, argument: str = "input") -> Expr:
    """The expression of an argument that has to be a tensor."""
    if isinstance(value, Handle):
        return expr_of(value)
    raise ArgumentTypeError(f"{name}(): argument '{argument}' (position {position}) must be Tensor, not {type(value).__name__}")
