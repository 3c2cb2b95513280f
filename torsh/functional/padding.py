"""Padding."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torsh.core.errors import InvalidArgumentError, ShapeMismatchError
from torsh.functional.common import T
from torsh.graph.handle import expr_of
from torsh.graph.window import scalar_expr
from torsh.ops.expr import TABLE, emit
from torsh.tensor.arithmetic import typed_number
from torsh.tensor.tensor import Tensor


def constant_pad(x: Tensor, pads: Sequence[tuple[int, int]], value: Any) -> Tensor:
    """(before, after) entries of ``value`` added to each dimension; negative numbers cut off."""
    if not any(a or b for a, b in pads):
        return x
    e = expr_of(x)
    return Tensor(emit(TABLE["constant_pad"], (e, scalar_expr(typed_number(value, e.dtype))), tuple(pads)))


def pad(input: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Tensor:
    """Pad the last dimensions: ``pad`` lists (before, after) from the last dimension on.

    mode: ``"constant"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
    """
    amounts = [int(p) for p in pad]
    if len(amounts) % 2:
        raise ShapeMismatchError("Padding length must be divisible by 2")
    if len(amounts) // 2 > input.ndim:
        raise ShapeMismatchError(f"Padding length should be less than or equal to two times the input dimension but got padding "
                                 f"length {len(amounts)} and input of dimension {input.ndim}")
    pairs = list(zip(amounts[0::2], amounts[1::2], strict=True))
    pads = [(0, 0)] * (input.ndim - len(pairs)) + pairs[::-1]
    for (a, b), n in zip(pads, input.shape, strict=True):
        if n + a + b < 0:
            raise ShapeMismatchError(f"The input size {n}, plus negative padding {a} and {b} resulted in a negative output size, "
                                     "which is invalid.")
    if mode == "constant":
        out = constant_pad(input, pads, 0 if value is None else value)
        return out.clone() if out is input else out  # type: ignore[attr-defined, no-any-return]
    if value not in (None, 0):
        raise InvalidArgumentError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}: use constant, reflect, replicate or circular")
    return positioned(input, pads, mode)


def positioned(x: Tensor, pads: Sequence[tuple[int, int]], mode: str) -> Tensor:
    """Padding whose entries are taken from the input, one dimension after the other."""
    for d, (a, b) in enumerate(pads):
        if not (a or b):
            continue
        n = x.shape[d]
        spots = positions(n, a, b, mode)
        x = x.index_select(d, T["tensor"](spots, dtype=T["arange"](1).dtype))  # type: ignore[attr-defined]
    return x


def positions(n: int, before: int, after: int, mode: str) -> list[int]:
    """Which entries of a dimension of size n the padded dimension shows."""
    wanted = range(-before, n + after)
    if mode == "replicate":
        return [min(max(i, 0), n - 1) for i in wanted]
    if mode == "circular":
        if max(before, after) > n:
            raise ShapeMismatchError("Padding value causes wrapping around more than once.")
        return [i % n for i in wanted]
    if max(before, after) >= n:
        raise ShapeMismatchError(f"Padding size should be less than the corresponding input dimension, but got: padding ({before}, "
                                 f"{after}) at dimension of size {n}")
    return [-i if i < 0 else 2 * (n - 1) - i if i >= n else i for i in wanted]
