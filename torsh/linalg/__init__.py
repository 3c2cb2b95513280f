"""``torch.linalg``: factorisations, solutions, eigenvalues, norms and functions of batches of matrices.

Matrices stand in the last two dimensions. Values come from NumPy's LAPACK on the host. Functions that fail for some matrices raise
:class:`LinAlgError` at the call, which therefore computes what has been recorded so far; their ``_ex`` forms return a code instead.

>>> import torsh
>>> torsh.linalg.det(torsh.tensor([[2.0, 0.0], [0.0, 3.0]]))
tensor(6.)
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torsh.core.errors import LinAlgError
from torsh.linalg import factorisations, functions, norms, solvers, spectra  # noqa: F401
from torsh.tensor import NAMESPACES, attach_methods

if TYPE_CHECKING:                       # the families' functions become names of this module below
    def __getattr__(name: str) -> Any: ...

attach_methods()
globals().update(NAMESPACES["linalg"])
__all__ = ["LinAlgError", *sorted(NAMESPACES["linalg"])]  # noqa: PLE0604
