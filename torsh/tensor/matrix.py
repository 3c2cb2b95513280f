"""Products of vectors, matrices and tensors."""
from __future__ import annotations

from typing import Any, Final

from torsh.core.dtype import DType, int8, int32, typed, uint8
from torsh.core.errors import ArgumentTypeError, DTypeError, ShapeMismatchError
from torsh.graph.handle import expr_of
from torsh.ops.autocast import as_autocast
from torsh.ops.common import cast
from torsh.ops.contraction import einsum_expr, matmul_expr, tensordot_expr
from torsh.ops.expr import TABLE, Expr, emit1, emit2
from torsh.tensor.arithmetic import promoted, scaled
from torsh.tensor.function import METHODS, accepting_out, function, recorded_two, scalar_type_name, tensor_operand
from torsh.tensor.tensor import Tensor

# How some of PyTorch's errors call dtypes.
C_NAMES: Final = {"float32": "float", "float64": "double", "int16": "short int", "int32": "int", "int64": "long int",
                   "uint8": "unsigned char", "float16": "c10::Half", "bfloat16": "c10::BFloat16",
                   "complex64": "c10::complex<float>", "complex128": "c10::complex<double>"}


def same_dtype(a: Expr, b: Expr, name: str) -> None:
    """Matrix products do not promote: both operands have one dtype."""
    if a.dtype is not b.dtype:
        raise DTypeError(f"{name}: expected m1 and m2 to have the same dtype, but got: {a.dtype.name} != {b.dtype.name}")


def dimensions(e: Expr, n: int, name: str, argument: str) -> None:
    """Check the number of dimensions of a matrix argument."""
    if len(e.shape) != n:
        raise ShapeMismatchError(f"{name}: {argument} must be {'a matrix' if n == 2 else f'a {n}D tensor'}, got "
                                 f"{len(e.shape)}-D tensor")


@function("matmul", out=False)
def matmul(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Matrix product with PyTorch's rules for vectors and broadcasting of leading dimensions."""
    if out is None:
        return recorded_two(_matmul, input, other)  # type: ignore[no-any-return]
    return _matmul_into(input, other, out=out)  # type: ignore[no-any-return]


_matmul_into: Final = accepting_out(matmul, "matmul")


def _matmul(input: Expr, other: Expr) -> Expr:
    same_dtype(input, other, "matmul")
    return matmul_expr(input, other)


@function("mm")
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """Product of two matrices."""
    a, b = as_autocast("mm", tensor_operand(input, "mm"), tensor_operand(mat2, "mm", 2, "mat2"))
    dimensions(a, 2, "mm", "self")
    dimensions(b, 2, "mm", "mat2")
    same_dtype(a, b, "mm")
    if a.shape[1] != b.shape[0]:
        raise ShapeMismatchError(f"mat1 and mat2 shapes cannot be multiplied ({a.shape[0]}x{a.shape[1]} and "
                                 f"{b.shape[0]}x{b.shape[1]})")
    return Tensor(emit2(TABLE["matmul"], a, b))


@function("_int_mm", method=False)
def int_mm(input: Tensor, mat2: Tensor) -> Tensor:
    """Product of two matrices of int8 (the first also of uint8), summed as int32."""
    a, b = tensor_operand(input, "_int_mm"), tensor_operand(mat2, "_int_mm", 2, "mat2")
    for e, argument in ((a, "self"), (b, "mat2")):
        if len(e.shape) != 2:
            raise ShapeMismatchError(f"int_mm_out_cpu: Expected {argument} to be of dimension 2 but got {len(e.shape)}")
    if a.shape[1] != b.shape[0]:
        raise ShapeMismatchError(f"int_mm_out_cpu: self.size(1) needs to match mat2.size(0) but got {a.shape[1]} and "
                                 f"{b.shape[0]}")
    for e, argument, expected in ((a, "self", "int8 or uint8"), (b, "mat2", "of type int8")):
        if e.dtype is not int8 and not (argument == "self" and e.dtype is uint8):
            raise DTypeError(f"int_mm_out_cpu: Expected {argument} dtype to be {expected} but got "
                             f"{C_NAMES.get(e.dtype.name, e.dtype.name)}")
    return Tensor(emit2(TABLE["matmul"], cast(a, int32), cast(b, int32)))


@function("bmm")
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """Products of two batches of matrices."""
    a, b = as_autocast("bmm", tensor_operand(input, "bmm"), tensor_operand(mat2, "bmm", 2, "mat2"))
    for e, argument in ((a, "batch1"), (b, "batch2")):
        if len(e.shape) != 3:
            raise ShapeMismatchError(f"{argument} must be a 3D tensor")
    same_dtype(a, b, "bmm")
    if a.shape[0] != b.shape[0] or a.shape[2] != b.shape[1]:
        raise ShapeMismatchError(f"Expected size for first two dimensions of batch2 tensor to be: [{a.shape[0]}, {a.shape[2]}] "
                                 f"but got: [{b.shape[0]}, {b.shape[1]}].")
    return Tensor(emit2(TABLE["matmul"], a, b))


@function("mv")
def mv(input: Tensor, vec: Tensor) -> Tensor:
    """Matrix times vector."""
    a, b = tensor_operand(input, "mv"), tensor_operand(vec, "mv", 2, "vec")
    if len(a.shape) != 2 or len(b.shape) != 1:
        raise ShapeMismatchError(f"vector + matrix @ vector expected, got {len(b.shape)}, {len(a.shape)}, {len(b.shape)}")
    return matmul(input, vec)  # type: ignore[no-any-return]


@function("dot")
def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """Inner product of two vectors."""
    a, b = tensor_operand(input, "dot"), tensor_operand(tensor, "dot", 2, "tensor")
    if len(a.shape) != 1 or len(b.shape) != 1:
        raise ShapeMismatchError(f"1D tensors expected, but got {len(a.shape)}D and {len(b.shape)}D tensors")
    if a.dtype is not b.dtype:
        raise DTypeError(f"dot : expected both vectors to have same dtype, but found {scalar_type_name(a.dtype)} and "
                         f"{scalar_type_name(b.dtype)}")
    if a.shape != b.shape:
        raise ShapeMismatchError(f"inconsistent tensor size, expected tensor [{a.shape[0]}] and src [{b.shape[0]}] to have the "
                                 f"same number of elements, but got {a.shape[0]} and {b.shape[0]} elements respectively")
    return Tensor(matmul_expr(a, b))


@function("vdot")
def vdot(input: Tensor, other: Tensor) -> Tensor:
    """Inner product of two vectors, the first conjugated."""
    return dot(input.conj(), other)  # type: ignore[no-any-return]


@function("inner")
def inner(input: Tensor, other: Tensor) -> Tensor:
    """Products summed over the last dimensions."""
    if not input.ndim or not other.ndim:
        return input * other
    if input.shape[-1] != other.shape[-1]:
        raise ShapeMismatchError(f"inner() the last dimension must match on both input tensors but got shapes "
                                 f"{list(input.shape)} and {list(other.shape)}")
    return tensordot(input, other, ([-1], [-1]))  # type: ignore[no-any-return]


@function("outer", aliases=("ger",))
def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """All products of elements of two vectors."""
    if input.ndim != 1 or vec2.ndim != 1:
        raise ShapeMismatchError(f"outer: Expected 1-D argument, but got {input.ndim}-D and {vec2.ndim}-D")
    return input.unsqueeze(1) * vec2  # type: ignore[no-any-return]


@function("cross")
def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """Cross products of 3-vectors along a dimension (the first of size 3 by default)."""
    if dim is None:
        dim = next((i for i, n in enumerate(input.shape) if n == 3), None)
        if dim is None:
            raise ShapeMismatchError("no dimension of size 3 in input")
    return linalg_cross(input, other, dim=dim)  # type: ignore[no-any-return]


@function("cross", namespace="linalg", method=False)
def linalg_cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """Cross products of 3-vectors along a dimension."""
    if input.ndim != other.ndim:
        raise ShapeMismatchError("linalg.cross: inputs must have the same number of dimensions.")
    if input.shape[dim] != 3 or other.shape[dim] != 3:
        raise ShapeMismatchError(f"linalg.cross: inputs dimension {dim} must have length 3. Got {input.shape[dim]} and "
                                 f"{other.shape[dim]}")
    return input.roll(-1, dim) * other.roll(-2, dim) - input.roll(-2, dim) * other.roll(-1, dim)  # type: ignore[no-any-return]


def _scaled_sum(input: Tensor, product: Tensor, beta: Any, alpha: Any, name: str) -> Tensor:
    """``beta * input + alpha * product``; ``input`` is ignored (NaN too) for beta = 0."""
    p = expr_of(product)
    e, = as_autocast(name, expr_of(input))
    if e.dtype is not p.dtype:
        raise DTypeError(f"{name}: self and mat2 must have the same dtype, but got {scalar_type_name(e.dtype)} and "
                         f"{scalar_type_name(p.dtype)}")
    try:
        input.expand(p.shape)
    except RuntimeError as error:
        raise ShapeMismatchError(str(error)) from None
    dtype = p.dtype
    alpha, beta = typed(alpha, dtype), typed(beta, dtype)
    p = scaled(p, alpha, dtype, name)
    if beta != 0:
        p = emit2(TABLE["add"], scaled(e, beta, dtype, name), p)
    return Tensor(p if p.dtype is dtype else emit1(TABLE["cast"], p, dtype.name))


@function("addmm", inplace=True)
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * input + alpha * (mat1 @ mat2)``."""
    return _scaled_sum(input, mm(mat1, mat2), beta, alpha, "addmm")


@function("addmv", inplace=True)
def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * input + alpha * (mat @ vec)``."""
    return _scaled_sum(input, mv(mat, vec), beta, alpha, "addmv")


@function("addr", inplace=True)
def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * input + alpha * outer(vec1, vec2)``."""
    product = outer(vec1, vec2)
    alpha, beta = (typed(v, promoted(expr_of(input), expr_of(product))) for v in (alpha, beta))
    if beta == 0:
        return product * alpha  # type: ignore[no-any-return]
    input.expand(product.shape)
    return input * beta + product * alpha  # type: ignore[no-any-return]


def _summed(products: Tensor) -> Tensor:
    return products.sum(0, dtype=products.dtype)


@function("addbmm", inplace=True)
def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * input + alpha * sum(batch1 @ batch2)``."""
    return _scaled_sum(input, _summed(bmm(batch1, batch2)), beta, alpha, "addbmm")


@function("baddbmm", inplace=True)
def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * input + alpha * (batch1 @ batch2)``."""
    return _scaled_sum(input, bmm(batch1, batch2), beta, alpha, "baddbmm")


@function("einsum", method=False, out=False)
def einsum(*args: Any) -> Tensor:
    """Sums of products by an equation such as ``"bij,bjk->bik"`` (or PyTorch's sublist format)."""
    equation, operands = args[0], list(args[1:])
    if isinstance(equation, str):
        if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
            operands = list(operands[0])
        return Tensor(einsum_expr(equation, [tensor_operand(o, "einsum") for o in operands]))
    tensors, lists = list(args[0::2]), list(args[1::2])
    output = None
    if len(args) % 2:
        output = tensors.pop()
    text = ",".join(sublist(s) for s in lists) + ("" if output is None else "->" + sublist(output))
    return Tensor(einsum_expr(text, [tensor_operand(o, "einsum") for o in tensors]))


def sublist(numbers: Any) -> str:
    """One operand's subscripts of the sublist format as letters."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    return "".join("..." if n is Ellipsis else letters[n] for n in numbers)


@function("tensordot", method=False)
def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Products summed over the listed dimensions (or the last/first ``dims``)."""
    if isinstance(dims, int):
        if dims < 0:
            raise ShapeMismatchError(f"tensordot expects dims >= 0, but got dims={dims}")
        if dims > min(a.ndim, b.ndim):
            raise ShapeMismatchError(f"tensordot expects dims < ndim_a or ndim_b, but got dims={dims}")
        dims = (list(range(a.ndim - dims, a.ndim)), list(range(dims)))
    elif isinstance(dims, Tensor):
        dims = dims.tolist()
    left, right = ([d] if isinstance(d, int) else list(d) for d in dims)
    return Tensor(tensordot_expr(expr_of(a), expr_of(b), tuple(left), tuple(right)))


@function("kron")
def kron(input: Tensor, other: Tensor) -> Tensor:
    """Kronecker product."""
    n = max(input.ndim, other.ndim)
    a = (1,) * (n - input.ndim) + tuple(input.shape)
    b = (1,) * (n - other.ndim) + tuple(other.shape)
    x = input.reshape([v for s in a for v in (s, 1)])
    y = other.reshape([v for s in b for v in (1, s)])
    return (x * y).reshape([s * t for s, t in zip(a, b, strict=True)])  # type: ignore[no-any-return]


@function("trace", out=False)
def trace(input: Tensor) -> Tensor:
    """Sum of the diagonal of a matrix."""
    if input.ndim != 2:
        raise ShapeMismatchError(f"trace: expected a matrix, but got tensor with dim {input.ndim}")
    return input.diagonal().sum()  # type: ignore[no-any-return]


METHODS["__matmul__"] = lambda self, other: recorded_two(_matmul, self, other) if isinstance(other, Tensor) else NotImplemented
METHODS["__rmatmul__"] = lambda self, other: matmul(other, self)
METHODS["__imatmul__"] = lambda self, other: METHODS["copy_"](self, matmul(self, other))
__all__ = ["ArgumentTypeError", "DType", "matmul", "mm"]
