"""Padding."""
from __future__ import annotations

from collections.abc import Sequence

from torsh.core.errors import ShapeMismatchError
from torsh.ops.expr import TABLE, Expr, emit1
from torsh.ops.padding import pad_by_copies
from torsh.ops.shape import constant_pad_expr
from torsh.tensor.function import recorded
from torsh.tensor.tensor import Tensor


def pairs_of(pad: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """(before, after) of the padded dimensions, first dimension first."""
    return tuple(zip(pad[0::2], pad[1::2], strict=True))[::-1]


def _check_copies(input: Expr, pad: tuple[int, ...], mode: str) -> None:
    rank, padded = len(input.shape), len(pad) // 2
    if padded > 3 or rank not in (padded + 1, padded + 2):
        raise NotImplementedError("Only 2D, 3D, 4D, 5D padding with non-constant padding are supported for now")
    lead = rank - padded
    if 0 in input.shape[1 if lead == 2 else 0:]:
        raise ShapeMismatchError(f"Expected {padded + 1}D or {padded + 2}D (batch mode) tensor with possibly 0 batch size and other "
                                 f"non-zero dimensions for input, but got: {list(input.shape)}")
    for n, (before, after) in zip(input.shape[lead:], pairs_of(pad), strict=True):
        if n + before + after < (0 if mode == "circular" else 1):
            raise ShapeMismatchError(f"input (size {n}) is too small: padding ({before}, {after}) gives size {n + before + after}")


def _pad(input: Expr, pad: tuple[int, ...], mode: str, value: float | None) -> Expr:
    pad = tuple([int(p) for p in pad])
    if len(pad) % 2:
        raise ShapeMismatchError("Padding length must be divisible by 2")
    if len(pad) // 2 > len(input.shape):
        raise ShapeMismatchError("Padding length should be less than or equal to two times the input dimension but got padding "
                                 f"length {len(pad)} and input of dimension {len(input.shape)}")
    if mode == "constant":
        return constant_pad_expr(input, pad, 0 if value is None else value)
    if value not in (None, 0):
        raise ShapeMismatchError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}: use constant, reflect, replicate or circular")
    _check_copies(input, pad, mode)
    if mode == "circular" and min(pad) < 0:             # what is cut off does not come back at the other end
        input = constant_pad_expr(input, [min(p, 0) for p in pad], 0)
        pad = tuple([max(p, 0) for p in pad])
    out = pad_by_copies(input, pairs_of(pad), mode)
    return out if out is not input else emit1(TABLE["clone"], input)


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Pad the last dimensions: ``pad`` lists (before, after) from the last dimension on; negative numbers cut off.

    mode: ``"constant"`` (with ``value``, 0 by default), ``"reflect"``, ``"replicate"`` or ``"circular"``.

    Example::

        >>> import torsh
        >>> torsh.nn.functional.pad(torsh.ones(2), (1, 0))
        tensor([0., 1., 1.])
    """
    return recorded(_pad, (input,), (tuple(pad), mode, value))  # type: ignore[no-any-return]
