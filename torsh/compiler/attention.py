"""Calls of the attention templates: the order of their parameters, sizes of blocks, and how the work is shared."""
from __future__ import annotations

import struct
from collections.abc import Sequence
from math import prod
from typing import Any, Final, Protocol

from torsh.compiler.kernel import BufferRef, Call, TemplateKernel
from torsh.compiler.steps import Step
from torsh.compiler.templates import BATCH_RANK, _padded, coalesce
from torsh.core.dtype import bool_
from torsh.ops.expr import Expr

_MATRICES: Final = ("query", "key", "value", "mask")
_DRAWN: Final = ("chance", "seed", "offset")          # of dropout
_BLOCKS: Final = ("causal", "scale", "batch_block", "query_block", "key_block")


def _places(names: Sequence[str]) -> tuple[str, ...]:
    return tuple([f"{name}_{part}" for name in names for part in ("slot", "offset")])


def _strides(names: Sequence[str]) -> tuple[str, ...]:
    return tuple([f"{name}_{part}" for name in names for part in ("batch[4]", "row", "column")])


# A result that nobody needs has flag 0. scale: the bits of a float64.
FORWARD_RESULTS: Final = ("out", "logsumexp")
FORWARD_PARAMETERS: Final = (
    *_places(FORWARD_RESULTS), *[f"has_{name}" for name in FORWARD_RESULTS], *_places(_MATRICES), "batch[4]", "queries", "keys",
    "size", "width", *_strides(_MATRICES), *_BLOCKS, *_places(_DRAWN))
# Work units are chunks of keys of a batch item; the gradient of the query has one part for each chunk.
BACKWARD_RESULTS: Final = ("query", "key", "value")
BACKWARD_OPERANDS: Final = (*_MATRICES, "logsumexp", "delta", "g")
BACKWARD_PARAMETERS: Final = (
    *_places([f"{name}_gradient" for name in BACKWARD_RESULTS]), *[f"has_{name}" for name in BACKWARD_RESULTS],
    *_places(BACKWARD_OPERANDS), "batch[4]", "queries", "keys", "size", "width", *_strides(BACKWARD_OPERANDS), *_BLOCKS,
    *_places(_DRAWN), "chunks")

WORK_BYTES: Final = 640 << 10        # memory of an invocation for blocks
_ITEM_WORK: Final = 1 << 18          # products that are worth a work unit
_WIDEST: Final = 32                  # elements to which code generators may round up rows of blocks, and numbers of queries
_FORWARD_BLOCKS: Final = ((256, 128), (192, 128), (128, 128), (192, 64), (128, 64), (64, 64), (64, 32), (32, 32), (32, 16))
_BACKWARD_BLOCKS: Final = ((32, 128), (32, 64), (32, 32), (32, 16))


class Operands(Protocol):
    """What places operands and results."""

    def operand(self, e: Expr) -> tuple[BufferRef, tuple[int, ...]]:
        """Where an operand's first element is, and its strides."""

    def result(self, e: Expr) -> BufferRef:
        """Where a result goes."""


def _rounded(n: int) -> int:
    return -(-n // _WIDEST) * _WIDEST


def _panels(rows: int, size: int) -> int:
    """Elements of rows in panels, each of which may be a third wider than its rows."""
    return (rows + 16) * 4 // 3 * _rounded(size)


def forward_elements(queries: int, keys: int, size: int, width: int) -> int:
    """Bound of what an invocation of the forward template keeps for blocks of queries and keys."""
    rows = _rounded(queries)
    scores = 3 * (keys + 4) * _WIDEST
    return (rows * _rounded(size) + _panels(keys, size) + keys * _rounded(width) + scores + (rows + _WIDEST + 8) * _rounded(width)
            + 3 * rows)


def backward_elements(keys: int, size: int, width: int) -> int:
    """Bound of what an invocation of the backward template keeps for a block of keys."""
    both = _rounded(size) + _rounded(width)
    scores = 4 * (keys + 4) * _WIDEST
    matrices = keys * _rounded(size) + (keys + 4) * both + 2 * _WIDEST * both + (_WIDEST + 8) * _rounded(size)
    return _panels(keys, size) + _panels(keys, width) + scores + matrices + 4 * _WIDEST


def _blocks(backward: bool, size: int, width: int, itemsize: int) -> tuple[int, int]:
    room = WORK_BYTES // max(itemsize, 4)
    for queries, keys in _BACKWARD_BLOCKS if backward else _FORWARD_BLOCKS:
        needed = backward_elements(keys, size, width) if backward else forward_elements(queries, keys, size, width)
        if needed <= room:
            return queries, keys
    raise AssertionError("attention was not divided into blocks for such long vectors")


def attention_call(step: Step, operands: Operands) -> Call:
    """The call of a step that computes results of blockwise attention, or of its gradients."""
    e = step.node
    attr: Any = e.attr
    backward = e.op.name.endswith("backward")
    query, key, value, *_ = e.args
    lead = _lead(e, backward)
    sizes = query.shape[-2], key.shape[-2], query.shape[-1], value.shape[-1]
    blocks, (batch_block, *block_sizes) = _division(backward, attr, prod(lead), sizes, query.dtype.itemsize)
    drawn = e.args[3 + attr.mask:][:3] if attr.dropout else ()
    scale, = struct.unpack("<q", struct.pack("<d", attr.scale))
    words = (*_result_words(step, operands, backward), *_operand_words(e, operands, lead, drawn, sizes), int(attr.causal), scale,
             batch_block, *block_sizes)
    for a in drawn or [None] * len(_DRAWN):
        ref = BufferRef(0) if a is None else operands.operand(a)[0]
        words += (ref.slot, ref.offset)
    if backward:
        words += (attr.chunks,)
    mask = "none" if not attr.mask else "bool" if e.args[3].dtype is bool_ else "float"
    queries, keys, size, width = sizes
    work = queries * keys * (size + width) * (3 if backward else 1) // 16
    kernel = TemplateKernel("attention_backward" if backward else "attention", (query.dtype.name, mask, attr.dropout))
    cost = prod(lead) * max(work, (queries + keys) * (size + width))
    return Call(kernel, words, -(-prod(lead) // batch_block) * blocks, cost, kernel.name)


def _division(backward: bool, attr: Any, items: int, sizes: Sequence[int], itemsize: int) -> tuple[int, tuple[int, int, int]]:
    """(work units of a batch item, (batch items of a unit, queries and keys of a block))."""
    queries, keys, size, width = sizes
    query_block, key_block = _blocks(backward, size, width, itemsize)
    blocks = attr.chunks
    if not backward:
        query_block = _rounded(-(-queries // -(-queries // query_block)))       # blocks of equal size
        blocks = -(-queries // query_block)
    batch_block = 1 if blocks > 1 else max(1, min(items, _ITEM_WORK // (queries * keys * (size + width))))
    return blocks, (batch_block, query_block, key_block)


def _result_words(step: Step, operands: Operands, backward: bool) -> list[int]:
    """Where results go, and which of them are wanted."""
    found: dict[str, BufferRef] = {x.attr.result: operands.result(x) for x in (step.node, *step.siblings)}  # type: ignore[attr-defined]
    names = BACKWARD_RESULTS if backward else FORWARD_RESULTS
    words: list[int] = []
    for name in names:
        ref = found.get(name, BufferRef(0))
        words += (ref.slot, ref.offset)
    return [*words, *[int(name in found) for name in names]]


def _operand_words(e: Expr, operands: Operands, lead: tuple[int, ...], drawn: Sequence[Expr], sizes: Sequence[int]) -> list[int]:
    """Where operands are, batch dimensions, sizes, and strides."""
    attr: Any = e.attr
    names = BACKWARD_OPERANDS if e.op.name.endswith("backward") else _MATRICES
    given = [name for name in names if name != "mask" or attr.mask]
    first = 3 + attr.mask
    args = dict(zip(given, (*e.args[:first], *e.args[first + len(drawn):]), strict=True))
    found = {name: operands.operand(a) for name, a in args.items()}
    spread = {name: _spread(a, found[name][1], lead, 1 if name in ("logsumexp", "delta") else 2) for name, a in args.items()}
    batch, merged = coalesce(lead, *[spread[name][:-2] for name in given])
    outer = dict(zip(given, merged, strict=True))
    words: list[int] = []
    for name in names:
        ref = found[name][0] if name in found else BufferRef(0)
        words += (ref.slot, ref.offset)
    words += (*_padded(batch, BATCH_RANK, 1), *sizes)
    for name in names:
        words += _padded(outer.get(name, ()), BATCH_RANK, 0)
        words += spread[name][-2:] if name in spread else (0, 0)
    return words


def _lead(e: Expr, backward: bool) -> tuple[int, ...]:
    """Batch dimensions of a call."""
    if backward:
        return e.args[-1].shape[:-2]
    return e.shape[:-1] if e.attr.result == "logsumexp" else e.shape[:-2]  # type: ignore[attr-defined]


def _spread(a: Expr, strides: Sequence[int], lead: Sequence[int], rank: int) -> tuple[int, ...]:
    """Strides over all batch dimensions, then of rows and columns (0 where the operand is a vector)."""
    own = len(a.shape) - rank
    steps = [0 if n == 1 else s for n, s in zip(a.shape[:own], strides, strict=False)]
    return (*[0] * (len(lead) - own), *steps, *strides[own:], *[0] * (2 - rank))
