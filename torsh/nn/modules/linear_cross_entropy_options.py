"""Options of the cross entropy of linearly transformed inputs."""
from __future__ import annotations

import dataclasses

from torsh.core.dtype import DType, bfloat16, float16, float32, float64
from torsh.core.errors import InvalidArgumentError


@dataclasses.dataclass(slots=True, frozen=True)
class LinearCrossEntropyOptions:
    """How :class:`torsh.nn.LinearCrossEntropyLoss` may cut its work into pieces.

    batch_chunk_size: rows per piece, or chunking_method: ``"auto"``, ``"aspect_ratio"`` or ``"aspect_ratio:N"``. acc_policy:
    ``"auto"``, ``"accurate"``, ``"balanced"`` or ``"compact"``. acc_dtype: the dtype that sums are kept in (None: float32 for
    float16 and bfloat16). allow_retain_graph: whether backward may run twice. Pieces and policies serve to save memory; here
    they are checked but change nothing, and backward may always run again.

    Raises ValueError for impossible values.
    """

    allow_retain_graph: bool = False
    batch_chunk_size: int | None = None
    chunking_method: str | None = "auto"
    acc_policy: str = "auto"
    acc_dtype: DType | None = None

    def __post_init__(self) -> None:
        if self.acc_policy not in ("auto", "accurate", "balanced", "compact"):
            raise InvalidArgumentError(f"invalid acc_policy: {self.acc_policy!r}")
        if self.chunking_method not in (None, "auto"):
            name, colon, factor = self.chunking_method.partition(":")
            if name != "aspect_ratio" or (colon and not (factor.isdigit() and int(factor) > 0)):
                raise InvalidArgumentError(f"invalid chunking_method: {self.chunking_method!r}")
        size = self.batch_chunk_size
        if size is not None and not (isinstance(size, int) and size > 0):
            raise InvalidArgumentError(f"batch_chunk_size must be positive int or None, got {size!r}")
        if self.acc_dtype not in (None, float16, bfloat16, float32, float64):
            raise InvalidArgumentError("acc_dtype must be one of {None, torsh.float16, torsh.bfloat16, torsh.float32, torsh.float64}, "
                                       f"got {self.acc_dtype!r}. Pass acc_dtype=None to let the op pick automatically.")

    def accumulated_in(self, dtype: DType) -> DType:
        """The dtype for the loss of logits of ``dtype``."""
        if self.acc_dtype is not None:
            return self.acc_dtype
        return float32 if self.acc_policy == "auto" and dtype in (float16, bfloat16) else dtype
