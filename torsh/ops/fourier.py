"""Discrete Fourier transforms over some dimensions of a tensor: templates where there is one for a size, else host ops.

There are three: complex to complex over several dimensions, real to the half of a Hermitian spectrum, and that half back to
real numbers, over one. Each knows the sizes that its input is cut or padded with zeros to, a direction and a scale, and the
gradient of each is its adjoint, which is one of them again.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, get_default_dtype
from torsh.core.errors import DTypeError
from torsh.core.promotion import SCALAR_TYPE_NAMES
from torsh.core.threads import get_num_threads
from torsh.ops.common import cast, gradient_for
from torsh.ops.define import Array
from torsh.ops.expr import HOST, Expr, Op, Shape, emit1
from torsh.ops.fourier_primitives import COMPLEX, FROM_HALF, FROM_REAL, TO_HALF, Fourier, fourier, resized

# Scales of n elements that are transformed: 1, 1 / sqrt(n), 1 / n.
UNSCALED, ROOT, MEAN = 0, 1, 2
_NORMS: Final = ("backward", "ortho", "forward")
_WORTH_SCIPY: Final = 1 << 14      # elements from which on SciPy's transforms pay for being imported


def transformable(e: Expr) -> Expr:
    """The operand of a transform: integers in the default dtype; raises PyTorch's error for 16-bit numbers."""
    if e.dtype.category < 2:
        e = cast(e, get_default_dtype())
    if e.dtype.category == 2 and e.dtype.itemsize == 2:
        raise DTypeError(f"Unsupported dtype {SCALAR_TYPE_NAMES[e.dtype.name]}")
    return e


def _with_size(shape: Shape, axes: Sequence[int], sizes: Sequence[int]) -> Shape:
    out = list(shape)
    for axis, n in zip(axes, sizes, strict=True):
        out[axis] = n
    return tuple(out)


def _library(elements: int) -> tuple[Any, dict[str, Any]]:
    """Where the transforms come from, and options for them.

    SciPy's run several transforms at once in vector registers, and on several threads; NumPy's are there without it.
    """
    if elements >= _WORTH_SCIPY:
        try:
            from scipy import fft
        except ImportError:
            return np.fft, {}
        return fft, {"workers": get_num_threads()}
    return np.fft, {}


def _norm(forward: bool, scale: int) -> str:
    return _NORMS[scale if forward else MEAN - scale]


# ---- complex to complex ------------------------------------------------------------------------------------------------

def _complex_infer(attr: Any, a: Expr) -> tuple[Shape, DType]:
    axes, sizes, _, _ = attr
    return _with_size(a.shape, axes, sizes), a.dtype.to_complex()


def _complex_reference(attr: Any, a: Any) -> Array:
    axes, sizes, forward, scale = attr
    array = np.asarray(a)
    if not axes:
        return array.astype(np.result_type(array.dtype, np.complex64))
    library, options = _library(array.size)
    transform = library.fftn if forward else library.ifftn
    return transform(array, sizes, axes, _norm(forward, scale), **options)  # type: ignore[no-any-return]


def _complex_into(attr: Any, out: Array, a: Any) -> bool:
    axes, _, forward, scale = attr
    library, options = _library(out.size)
    if a.shape != out.shape or not axes or library is np.fft:
        return False
    out[...] = a
    transform = library.fftn if forward else library.ifftn
    result = transform(out, None, axes, _norm(forward, scale), overwrite_x=True, **options)
    if result.__array_interface__["data"] != out.__array_interface__["data"]:      # SciPy may, but need not overwrite it
        out[...] = result
    return True


def _complex_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    a, = e.args
    axes, sizes, forward, scale = e.attr  # type: ignore[misc]
    return (gradient_for(a, resized(emit1(FFT, g, (axes, sizes, not forward, scale)), a.shape)),)


def _complex_template(e: Expr) -> Expr | None:
    """One dimension after the other, the last one first; None if there is no template for any."""
    axes, sizes, forward, scale = e.attr  # type: ignore[misc]
    found, changed = e.args[0], False
    for axis, n in zip(reversed(axes), reversed(sizes), strict=True):
        kind = COMPLEX if found.dtype.is_complex else FROM_REAL
        step = _in_primitives(found, kind, axis, n, forward, scale, False)
        changed = changed or step is not None
        found = emit1(FFT, found, ((axis,), (n,), forward, scale)) if step is None else step
    return found if changed else None


def _in_primitives(a: Expr, kind: str, axis: int, n: int, forward: bool, scale: int, adjoint: bool) -> Expr | None:
    """A transform over one dimension in primitives, if there are any: made for this size."""
    n, given = int(n), int(a.shape[axis])
    taken = n // 2 + 1 if kind == FROM_HALF else n
    return fourier(a, Fourier(kind, int(axis), n, bool(forward), int(scale), bool(adjoint), min(given, taken)))


# attr: (dimensions, their sizes, forward, scale); arg: complex or real
FFT: Final[Op] = Op("fft", _complex_infer, _complex_reference, gradient=_complex_gradient, kind=HOST, template=_complex_template)
FFT.into = _complex_into


# ---- real to half a spectrum, and back ---------------------------------------------------------------------------------

def _interior(spectrum: Array, axis: int, n: int) -> Array:
    """The entries of half a spectrum that stand for two of the whole one."""
    where = [slice(None)] * spectrum.ndim
    where[axis] = slice(1, (n + 1) // 2)
    return spectrum[tuple(where)]


def _to_half_infer(attr: Any, a: Expr) -> tuple[Shape, DType]:
    axis, n, *_ = attr
    return _with_size(a.shape, (axis,), (n // 2 + 1,)), a.dtype.to_complex()


def _to_half_reference(attr: Any, a: Any) -> Array:
    axis, n, forward, scale, adjoint = attr
    array = np.asarray(a)
    library, options = _library(array.size)
    transform, norm = (library.rfft, _norm(True, scale)) if forward else (library.ihfft, _norm(False, scale))
    out: Array = transform(array, n, axis, norm, **options)
    if adjoint:
        interior = _interior(out, axis, n)
        np.multiply(interior, 2, out=interior)
    return out


def _from_half_infer(attr: Any, a: Expr) -> tuple[Shape, DType]:
    axis, n, *_ = attr
    return _with_size(a.shape, (axis,), (n,)), a.dtype.to_real()


def _from_half_reference(attr: Any, a: Any) -> Array:
    axis, n, forward, scale, adjoint = attr
    if 0 in np.shape(a):                        # NumPy leaves such results as they are in memory
        return np.zeros((*np.shape(a)[:axis], n, *np.shape(a)[axis + 1:]), np.real(a).dtype)
    array = _halved(a, axis, n) if adjoint else np.asarray(a)
    library, options = _library(array.size)
    transform, norm = (library.hfft, _norm(True, scale)) if forward else (library.irfft, _norm(False, scale))
    return transform(array, n, axis, norm, **options)  # type: ignore[no-any-return]


def _halved(a: Any, axis: int, n: int) -> Array:
    array = np.array(a)
    interior = _interior(array, axis, n)
    np.multiply(interior, 0.5, out=interior)
    return array


def _from_half_into(attr: Any, out: Array, a: Any) -> bool:
    axis, n, forward, scale, adjoint = attr
    if forward or axis != out.ndim - 1 or get_num_threads() > 1 or 0 in a.shape:
        return False
    # Rows on one thread: NumPy is as fast as SciPy, and writes where it should.
    np.fft.irfft(_halved(a, axis, n) if adjoint else a, n, axis, _norm(False, scale), out=out)
    return True


def _adjoint(e: Expr, g: Expr, op: Op) -> tuple[Expr | None, ...]:
    a, = e.args
    axis, n, forward, scale, adjoint = e.attr  # type: ignore[misc]
    return (gradient_for(a, resized(emit1(op, g, (axis, n, not forward, scale, not adjoint)), a.shape)),)


def _half_template(e: Expr) -> Expr | None:
    axis, n, forward, scale, adjoint = e.attr  # type: ignore[misc]
    return _in_primitives(e.args[0], TO_HALF if e.op is FFT_TO_HALF else FROM_HALF, axis, n, forward, scale, adjoint)


# attr: (dimension, its size n among real numbers, forward, scale, adjoint: of the other op, rather than its inverse); the
# spectrum's size is n // 2 + 1. As adjoints of each other they count its interior once on the way from and twice on the way to.
FFT_TO_HALF: Final[Op] = Op("fft_to_half", _to_half_infer, _to_half_reference, kind=HOST, template=_half_template,
                            gradient=lambda e, g: _adjoint(e, g, FFT_FROM_HALF))
FFT_FROM_HALF: Final[Op] = Op("fft_from_half", _from_half_infer, _from_half_reference, kind=HOST, template=_half_template,
                              gradient=lambda e, g: _adjoint(e, g, FFT_TO_HALF))
FFT_FROM_HALF.into = _from_half_into


# ---- expressions -------------------------------------------------------------------------------------------------------

def fft_expr(e: Expr, axes: Sequence[int], sizes: Sequence[int], forward: bool, scale: int) -> Expr:
    """Transform over some dimensions, cut or padded to sizes."""
    return emit1(FFT, e, (tuple(axes), tuple(sizes), forward, scale))


def fft_to_half(e: Expr, axis: int, n: int, forward: bool, scale: int) -> Expr:
    """The first half (n // 2 + 1) of the spectrum of n real numbers."""
    return emit1(FFT_TO_HALF, e, (axis, n, forward, scale, False))


def fft_from_half(e: Expr, axis: int, n: int, forward: bool, scale: int) -> Expr:
    """The n real numbers whose spectrum has this first half."""
    return emit1(FFT_FROM_HALF, e, (axis, n, forward, scale, False))
