"""Creation primitives, and expressions for ranges."""
from __future__ import annotations

from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, dtype_by_name, float64, int64
from torsh.core.shape import Shape
from torsh.ops.common import add, cast, eq, iota, mul
from torsh.ops.define import Array
from torsh.ops.expr import Expr, Op

CREATION: Final = "creation"


def _iota_reference(attr: tuple[Shape, int]) -> Array:
    shape, axis = attr
    line = np.arange(shape[axis], dtype=np.int64)
    return np.broadcast_to(line.reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape)


def _empty_reference(attr: tuple[Shape, str]) -> Array:
    return np.zeros(attr[0], dtype_by_name(attr[1]).numpy)


# attr (shape, axis): the index along axis
IOTA: Final[Op] = Op("iota", lambda attr: (attr[0], int64), _iota_reference, kind=CREATION)
# attr (shape, dtype name): contents undefined
EMPTY: Final[Op] = Op("empty", lambda attr: (attr[0], dtype_by_name(attr[1])), _empty_reference, kind=CREATION)


def arange(start: Any, step: Any, length: int, dtype: DType) -> Expr:
    """``start + step * i`` for i < length; start and step: expressions (run-time numbers) or Python numbers."""
    work = int64 if dtype.category < 2 else float64
    first, by = (cast(v, work) if isinstance(v, Expr) else v for v in (start, step))
    return cast(add(mul(cast(iota((length,), 0), work), by), first), dtype)


def eye(rows: int, columns: int, dtype: DType) -> Expr:
    """The matrix with ones on the diagonal."""
    return cast(eq(iota((rows, columns), 0), iota((rows, columns), 1)), dtype)
