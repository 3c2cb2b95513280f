"""How rows of the op table are made: inference, NumPy references and gradients that follow from a few given functions."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, bool_, complex128, float32, float64, from_numpy_dtype, int64
from torsh.core.promotion import Rule
from torsh.core.shape import broadcast_shapes
from torsh.ops.common import cast, gradient_for
from torsh.ops.expr import ELEMENTWISE, Expr, Op, Shape, promotion_priority

Array = np.ndarray[Any, Any]
# gradient of one argument: f(g, out, *args) -> Expr, all in the dtype that the op computes in
ArgumentGradient = Callable[..., Expr]
PROMOTION: Final[dict[Op, Rule]] = {}
_PYTHON_DTYPES: Final = {bool: bool_, int: int64, float: float64, complex: complex128}


# ---- NumPy -------------------------------------------------------------------------------------------------------------

def convert(value: Any, dtype: DType) -> Array:
    """An array with the elements of ``value`` in another dtype, rounded and cut as PyTorch does."""
    array = np.asarray(value)
    target = dtype.numpy
    if array.dtype == target:
        return array
    with np.errstate(all="ignore"):
        if array.dtype.kind == "c" and dtype.category not in (0, 3):
            array = array.real
        if dtype.itemsize == 2 and dtype.category == 2 and array.dtype.itemsize > 2:
            array = array.astype(np.float32)
        elif array.dtype.kind not in "biufc" and dtype.category != 2:      # bfloat16 goes through float32
            array = array.astype(np.float32)
        return array.astype(target)


def is_half(dtype: DType) -> bool:
    """Is it one of the 16-bit floating types, which are computed in float32?"""
    return dtype.category == 2 and dtype.itemsize == 2


def wide(dtype: DType) -> DType:
    """The dtype that numbers of ``dtype`` are computed in."""
    return float32 if is_half(dtype) else dtype


def operand_of(value: Any) -> tuple[DType, int]:
    """(dtype, promotion priority) of an array or Python number."""
    kind = _PYTHON_DTYPES.get(type(value))
    if kind is not None:
        return kind, 0
    return from_numpy_dtype(value.dtype), 2 if value.ndim else 1


def promoted_arrays(name: str, rule: Rule, values: Sequence[Any], round_numbers: bool) -> tuple[list[Array], DType]:
    """The arrays that an elementwise op computes with, and the dtype of its result."""
    operands = tuple([operand_of(v) for v in values])
    dtypes, result = rule(name, operands)
    return [convert(v if priority == 0 and not round_numbers else convert(v, d), wide(d))
            for v, d, (_, priority) in zip(values, dtypes, operands, strict=True)], result


def into_of(name: str, rule: Rule, function: Callable[..., Any]) -> Callable[..., bool]:
    """What writes a complex result of an elementwise op into an array, without a temporary one."""
    def into(attr: Any, out: Array, *values: Any) -> bool:
        if out.dtype.kind != "c" or attr is not None:
            return False
        arrays, _ = promoted_arrays(name, rule, values, True)
        if any(a.dtype != out.dtype for a in arrays):
            return False
        function(*arrays, out=out)
        return True
    return into


def reference_of(name: str, rule: Rule, function: Callable[..., Any], round_numbers: bool) -> Callable[..., Array]:
    """The reference of an elementwise op: ``function(*arrays)`` in the promoted dtype, halves as float32.

    round_numbers: round Python numbers to the promoted dtype first, also if it is a half.
    """
    def reference(attr: Any, *values: Any) -> Array:
        arrays, result = promoted_arrays(name, rule, values, round_numbers)
        with np.errstate(all="ignore"):
            out = function(*arrays) if attr is None else function(*arrays, attr=attr)
        return convert(out, result)
    return reference


# ---- expressions -------------------------------------------------------------------------------------------------------

def operands_of(args: Sequence[Expr]) -> tuple[tuple[DType, int], ...]:
    """The operands of a promotion rule."""
    return tuple([(a.dtype, promotion_priority(a)) for a in args])


def argument_dtypes(e: Expr) -> tuple[DType, ...]:
    """The dtypes that an elementwise expression's arguments have to be cast to before it is computed."""
    rule = PROMOTION.get(e.op)
    if rule is None:
        return tuple([a.dtype for a in e.args])
    return rule(e.op.name, operands_of(e.args))[0]


def explicit_arguments(e: Expr) -> tuple[Expr, ...]:
    """An elementwise expression's arguments, cast to the dtypes that it is computed in."""
    return tuple([cast(a, d) for a, d in zip(e.args, argument_dtypes(e), strict=True)])


def wide_arguments(e: Expr) -> tuple[Expr, ...]:
    """An elementwise expression's arguments, cast to the dtypes that it is computed in, halves to float32.

    Python numbers are not rounded to a half on the way.
    """
    dtypes = argument_dtypes(e)
    return tuple([cast(a if promotion_priority(a) == 0 else cast(a, d), wide(d))
                  for a, d in zip(e.args, dtypes, strict=True)])


def _infer(name: str, rule: Rule) -> Callable[..., tuple[Shape, DType]]:
    def infer(attr: Any, *args: Expr) -> tuple[Shape, DType]:
        dtype = rule(name, operands_of(args))[1]
        return broadcast_shapes(*[a.shape for a in args]), dtype
    return infer


def gradient_rule(gradients: Sequence[ArgumentGradient | None],
                  widen: bool) -> Callable[[Expr, Expr], tuple[Expr | None, ...]]:
    """A gradient over expressions from one function per argument; halves are computed in float32 if ``widen``."""
    def gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
        if widen:
            args, out, g = wide_arguments(e), cast(e, wide(e.dtype)), cast(g, wide(g.dtype))
        else:
            args, out = explicit_arguments(e), e
        return tuple([gradient_for(a, f(g, out, *args)) if a.requires_grad and f is not None else None
                      for a, f in zip(e.args, gradients, strict=True)])
    return gradient


def elementwise(name: str, rule: Rule, function: Callable[..., Any] | None, *gradients: ArgumentGradient | None,
                decompose: Callable[..., Expr] | None = None, kind: str = ELEMENTWISE, widen: bool = True) -> Op:
    """A row for an elementwise op.

    Args:
        rule: promotion rule.
        function: on NumPy arrays of the promoted dtypes (halves as float32); with an attribute, ``attr=`` is passed.
        gradients: none, or per argument ``f(g, out, *args) -> Expr`` (broadcast shape is fine) or None.
        decompose: ``decompose(*args) -> Expr`` over arguments in the promoted dtypes (halves as float32); with an
            attribute, ``attr=`` is passed.
        widen: compute the gradients of halves in float32.
    """
    def decomposition(e: Expr) -> Expr:
        args = wide_arguments(e)
        out = decompose(*args) if e.attr is None else decompose(*args, attr=e.attr)  # type: ignore[misc]
        return cast(out, e.dtype)
    op = Op(name, _infer(name, rule), None if function is None else reference_of(name, rule, function, decompose is None),
            gradient=gradient_rule(gradients, widen) if gradients else None,
            decompose=decomposition if decompose is not None else None, kind=kind)
    if isinstance(function, np.ufunc):
        op.into = into_of(name, rule, function)
    PROMOTION[op] = rule
    return op
