"""What the functions of linear algebra share."""
from __future__ import annotations

from typing import Any, Final

from torsh.core.dtype import bool_
from torsh.core.errors import DTypeError, ShapeMismatchError
from torsh.graph.handle import expr_of, requires_grad
from torsh.graph.window import flush
from torsh.ops.expr import Expr
from torsh.tensor.creation import ones
from torsh.tensor.function import scalar_type_name, tensor_operand
from torsh.tensor.reduction import result_tuple
from torsh.tensor.tensor import Tensor

Result: Final = {name: result_tuple(name, *fields.split()) for name, fields in {
    "linalg_cholesky_ex": "L info", "linalg_eig": "eigenvalues eigenvectors", "linalg_eigh": "eigenvalues eigenvectors",
    "linalg_inv_ex": "inverse info", "linalg_lstsq": "solution residuals rank singular_values", "linalg_lu": "P L U",
    "linalg_lu_factor": "LU pivots", "linalg_lu_factor_ex": "LU pivots info", "linalg_qr": "Q R",
    "linalg_slogdet": "sign logabsdet", "linalg_solve_ex": "result info", "linalg_svd": "U S Vh", "slogdet": "sign logabsdet",
    "svd": "U S V", "qr": "Q R", "triangular_solve": "solution cloned_coefficient", "geqrf": "a tau",
    "lu_unpack": "P L U", "_lu_with_info": "LU pivots info",
}.items()}


def settled(result: Any) -> Any:
    """The result, computed now (or later, in a step that is being captured): failures are raised at the call."""
    flush()
    return result


def connected(result: Tensor, a: Any) -> Tensor:
    """A result that does not depend on the values of ``a``, as a function of it with gradient 0."""
    if not requires_grad(a):
        return result
    zero = a.masked_fill(ones(a.shape, dtype=bool_), 0)
    return result + zero  # type: ignore[operator, no-any-return]


def at_least_matrix(name: str, a: Tensor, label: str = "A") -> Expr:
    """The expression of a tensor that must have two dimensions."""
    e = tensor_operand(a, name, 1, label)
    if len(e.shape) < 2:
        raise ShapeMismatchError(f"{name}: The input tensor {label} must have at least 2 dimensions.")
    return e


def square(name: str, a: Tensor) -> Expr:
    """The expression of a tensor that must be a batch of square matrices."""
    e = at_least_matrix(name, a)
    if e.shape[-1] != e.shape[-2]:
        raise ShapeMismatchError(f"{name}: A must be batches of square matrices, but they are {e.shape[-2]} by {e.shape[-1]} "
                                 "matrices")
    return e


def inexact(name: str, a: Tensor) -> None:
    """Raise for integers."""
    if expr_of(a).dtype.category < 2:
        raise DTypeError(f"{name}: Expected a floating point or complex tensor as input. Got {scalar_type_name(a.dtype)}")


def same_dtype(name: str, a: Tensor, b: Tensor, first: str, second: str) -> None:
    """Raise for tensors of different dtypes."""
    if a.dtype is not b.dtype:
        raise DTypeError(f"{name}: Expected {first} and {second} to have the same dtype, but found {first} of type "
                         f"{scalar_type_name(a.dtype)} and {second} of type {scalar_type_name(b.dtype)} instead")
