"""Complex numbers: parts, conjugates, angles and signs. Gradients follow PyTorch's conjugate convention."""
from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, get_default_dtype
from torsh.core.errors import DTypeError
from torsh.core.promotion import Operands, promoting
from torsh.core.shape import broadcast_shapes
from torsh.ops.common import (
    absolute,
    binary,
    cast,
    conj,
    div,
    eq,
    gradient_for,
    lt,
    mul,
    number,
    sub,
    unary,
    where,
    zeros_like,
)
from torsh.ops.define import elementwise
from torsh.ops.elementwise import sgn
from torsh.ops.expr import HOST, Expr, Op, Shape, emit1, emit2


def _part(name: str) -> Any:
    def infer(attr: Any, a: Expr) -> tuple[Shape, DType]:
        if not a.dtype.is_complex:
            raise DTypeError(f"{name} is not implemented for tensors with non-complex dtypes.")
        return a.shape, a.dtype.to_real()
    return infer


REAL: Final[Op] = Op("real", _part("real"), lambda attr, a: np.real(a),
                 gradient=lambda e, g: (emit2(COMPLEX, g, zeros_like(g)),), kind=HOST)
IMAG: Final[Op] = Op("imag", _part("imag"), lambda attr, a: np.imag(a),
                 gradient=lambda e, g: (emit2(COMPLEX, zeros_like(g), g),), kind=HOST)


def _complex_infer(attr: Any, real: Expr, imag: Expr) -> tuple[Shape, DType]:
    if real.dtype is not imag.dtype or not real.dtype.is_floating_point:
        raise DTypeError("Expected both inputs to be Half, Float or Double tensors but got "
                         f"{real.dtype.name} and {imag.dtype.name}")
    return broadcast_shapes(real.shape, imag.shape), real.dtype.to_complex()


def _complex_reference(attr: Any, real: Any, imag: Any) -> Any:
    out = np.empty(np.broadcast_shapes(np.shape(real), np.shape(imag)),
                   np.complex128 if np.asarray(real).dtype == np.float64 else np.complex64)
    out.real, out.imag = real, imag
    return out


def _complex_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    real, imag = e.args
    return (gradient_for(real, emit1(REAL, g)) if real.requires_grad else None,
            gradient_for(imag, emit1(IMAG, g)) if imag.requires_grad else None)


COMPLEX: Final[Op] = Op("complex", _complex_infer, _complex_reference, gradient=_complex_gradient, kind=HOST)
CONJ: Final[Op] = elementwise("conj", promoting(), np.conj, lambda g, out, a: conj(g), kind=HOST, widen=False)


def _view_as_real_infer(attr: Any, a: Expr) -> tuple[Shape, DType]:
    if not a.dtype.is_complex:
        raise DTypeError("view_as_real is only supported for complex tensors")
    return (*a.shape, 2), a.dtype.to_real()


def _view_as_complex_infer(attr: Any, a: Expr) -> tuple[Shape, DType]:
    if not a.dtype.is_floating_point or a.shape[-1:] != (2,):
        raise DTypeError("view_as_complex needs a half, float or double tensor with a last dimension of size 2, got "
                         f"{a.dtype.name} {list(a.shape)}")
    return a.shape[:-1], a.dtype.to_complex()


VIEW_AS_REAL: Final[Op] = Op("view_as_real", _view_as_real_infer, lambda attr, a: np.stack([np.real(a), np.imag(a)], -1),
                         gradient=lambda e, g: (emit1(VIEW_AS_COMPLEX, g),), kind=HOST)
VIEW_AS_COMPLEX: Final[Op] = Op("view_as_complex", _view_as_complex_infer,
                            lambda attr, a: _complex_reference(None, a[..., 0], a[..., 1]),
                            gradient=lambda e, g: (cast(emit1(VIEW_AS_REAL, g), e.args[0].dtype),), kind=HOST)


# ---- signs and angles --------------------------------------------------------------------------------------------------

def _sgn(a: Expr) -> Expr:
    if not a.dtype.is_complex:
        return unary("sign", a)
    size = absolute(a)
    return where(eq(size, 0), zeros_like(a), div(a, where(eq(size, 0), 1, size)))


def _sgn_gradient(g: Expr, out: Expr, a: Expr) -> Expr:
    if not a.dtype.is_complex:
        return zeros_like(g)
    # The part of g along the number itself does not change the sign.
    size = absolute(a)
    along = mul(out, unary("real", mul(g, conj(out))))
    return where(eq(size, 0), zeros_like(a), div(sub(g, along), where(eq(size, 0), 1, size)))


SGN: Final[Op] = elementwise("sgn", promoting(), sgn, _sgn_gradient, decompose=_sgn, widen=False)


def _angle_rule(name: str, operands: Operands) -> tuple[tuple[DType, ...], DType]:
    dtype = operands[0][0]
    if dtype.category < 2:
        dtype = get_default_dtype()
    return (dtype,), dtype.to_real()


def _angle(a: Expr) -> Expr:
    if a.dtype.is_complex:
        return binary("atan2", unary("imag", a), unary("real", a))
    return where(unary("isnan", a), a, where(lt(a, 0), number(math.pi, a.dtype), 0))


def _angle_gradient(g: Expr, out: Expr, a: Expr) -> Expr:
    if not a.dtype.is_complex:
        return zeros_like(g)
    real, imag = unary("real", a), unary("imag", a)
    scale = div(g, mul(absolute(a), absolute(a)))
    at_zero = zeros_like(g)
    zero = eq(absolute(a), 0)
    return emit2(COMPLEX, where(zero, at_zero, mul(scale, unary("neg", imag))), where(zero, at_zero, mul(scale, real)))


def _numpy_angle(a: Any) -> Any:
    return np.angle(a) if a.dtype.kind == "c" else np.where(np.isnan(a), a, np.where(a < 0, math.pi, 0))


ANGLE: Final[Op] = elementwise("angle", _angle_rule, _numpy_angle, _angle_gradient, decompose=_angle)
