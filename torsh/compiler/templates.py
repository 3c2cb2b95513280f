"""Calls of template kernels: what they compute, the order of their parameters, and how the work is shared.

Every function returns a :class:`~torsh.compiler.kernel.Call`. Strides, extents and offsets are element counts unless a name
says bytes. The order of the parameter words is fixed here, and code generators read them in that order: see the
``*_PARAMETERS`` tuples (a name with ``[n]`` stands for n words).
"""
from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Final

from torsh.compiler.kernel import BufferRef, Call, TemplateKernel
from torsh.core.dtype import DType
from torsh.core.errors import InvalidArgumentError

BATCH_RANK: Final = 4
COPY_RANK: Final = 9         # windows of a batched, grouped, three-dimensional convolution
SCATTER_RANK: Final = 6
INDEX_RANK: Final = 4
REST_RANK: Final = 4
MAX_INDICES: Final = 6
MOST_SELECTED: Final = 64

MATMUL_PARAMETERS: Final = (
    "c_slot", "c_offset", "a_slot", "a_offset", "b_slot", "b_offset", "bias_slot", "bias_offset", "bias_stride", "has_bias",
    "accumulate", "batch[4]", "m", "n", "k", "a_batch[4]", "a_row", "a_column", "b_batch[4]", "b_row", "b_column",
    "c_batch[4]", "c_row", "c_column", "batch_block", "m_block", "n_block", "bias_row_stride")
SCAN_PARAMETERS: Final = (
    "out_slot", "out_offset", "src_slot", "src_offset", "outer", "length", "inner", "src_outer", "src_length", "src_inner",
    "outer_block", "inner_block")
SCATTER_PARAMETERS: Final = (
    "out_slot", "out_offset", "index_slot", "index_offset", "src_slot", "src_offset", "size", "index_step",
    "extents[6]", "out_strides[6]", "index_strides[6]", "src_strides[6]", "inner_block")
INDEX_PUT_PARAMETERS: Final = (
    "out_slot", "out_offset", "src_slot", "src_offset", "index_extents[4]", "src_index_strides[4]", "rest_extents[4]",
    "out_rest_strides[4]", "src_rest_strides[4]", "inner_block")
INDEX_PUT_PER_INDEX: Final = ("slot", "offset", "size", "out_stride", "strides[4]")
SELECTION_PARAMETERS: Final = ("out_slot", "out_offset", "src_slot", "src_offset", "rows", "length", "count", "block")
BAGS_PARAMETERS: Final = (
    "out_slot", "out_offset", "table_slot", "table_offset", "index_slot", "index_offset", "starts_slot", "starts_offset", "each_slot",
    "each_offset", "has_each", "bags", "count", "rows", "width", "padding", "block")
FILL_PARAMETERS: Final = ("out_slot", "out_offset", "value", "count", "block")
COPY_PARAMETERS: Final = ("out_slot", "out_offset", "src_slot", "src_offset", "count", "block")
TRANSPOSE_PARAMETERS: Final = (
    "out_slot", "out_offset", "src_slot", "src_offset", "extents[9]", "src_strides[9]", "out_strides[9]", "row_block",
    "column_block")

_CONVERTED: Final = {"float32": ("bool", "int8", "uint8", "float16", "bfloat16"), "int32": ("bool", "int8", "uint8")}
_STREAM_BYTES: Final = 1 << 16
_REPEATS: Final = (2, 3, 4, 8)       # how often items are stored one after the other without being read again
_UNIT_PRODUCTS: Final = 1 << 20
_LEAST_ROWS: Final = 28              # of a work unit of a small product: two register tiles


def ceil_div(a: int, b: int) -> int:
    """a / b rounded up."""
    return -(-a // b)


def _padded(values: Sequence[int], rank: int, fill: int) -> tuple[int, ...]:
    """``values`` with ``fill`` put in front, so that there are ``rank`` of them."""
    if len(values) > rank:
        raise InvalidArgumentError(f"a template takes at most {rank} dimensions here that cannot be merged, got "
                                   f"{len(values)}; make the operands contiguous first")
    return (fill,) * (rank - len(values)) + tuple(values)


def coalesce(extents: Sequence[int], *strides: Sequence[int]) -> tuple[list[int], list[list[int]]]:
    """Merge neighbouring dimensions that all operands walk as one, and drop those of extent 1.

    Returns the new extents and, per operand, the new strides. Order is kept.
    """
    kept: list[int] = []
    merged: list[list[int]] = [[] for _ in strides]
    for axis, extent in enumerate(extents):
        if extent == 1:
            continue
        if kept and all(own[-1] == given[axis] * extent for own, given in zip(merged, strides, strict=True)):
            kept[-1] *= extent
            for own, given in zip(merged, strides, strict=True):
                own[-1] = given[axis]
        else:
            kept.append(extent)
            for own, given in zip(merged, strides, strict=True):
                own.append(given[axis])
    return kept, merged


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Element strides of a contiguous array."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= max(extent, 1)
    return tuple(reversed(strides))


def matmul(dtype: DType, c: BufferRef, a: BufferRef, b: BufferRef, batch: Sequence[int], m: int, n: int, k: int,
           a_strides: Sequence[int], b_strides: Sequence[int], c_strides: Sequence[int],
           bias: tuple[BufferRef, int] | None = None, accumulate: bool = False,
           stored: tuple[DType, DType] | None = None) -> Call:
    """c[..., m, n] = a[..., m, k] @ b[..., k, n], plus ``bias[n]`` in every row, plus the old c if ``accumulate``.

    dtype: of all operands: float32, float64, float16, bfloat16 (the last two are summed in float32 and rounded once), or an
    integer type (wraps around). stored: what a and b are in memory, if they are to be converted to float32 or int32 first
    (see :func:`converts`). batch: extents. ``*_strides``: one per batch dimension, then row, then column; any values
    for a and b (0 repeats, negative walks backwards), c must not overlap itself nor a, b, bias. bias: (buffer, stride).
    At most 4 batch dimensions may remain after merging.
    """
    if dtype.category not in (1, 2):
        raise InvalidArgumentError(f"the matmul template takes integer and floating-point types, got {dtype}")
    left, right = stored if stored is not None else (dtype, dtype)
    if not all(own is dtype or converts(own, dtype) for own in (left, right)):
        raise InvalidArgumentError(f"the matmul template does not convert {left} and {right} to {dtype}")
    bias_ref, bias_column = bias if bias is not None else (BufferRef(0), 0)
    bias_row = 0
    extents, (a_batch, b_batch, c_batch) = coalesce(batch, a_strides[:-2], b_strides[:-2], c_strides[:-2])
    (a_row, a_column), (b_row, b_column), (c_row, c_column) = a_strides[-2:], b_strides[-2:], c_strides[-2:]
    # A batch that shares b (a Linear layer on several leading dimensions) is one taller matrix.
    while extents and b_batch[-1] == 0 and (m == 1 or (a_batch[-1] == m * a_row and c_batch[-1] == m * c_row)):
        if m == 1:
            a_row, c_row = a_batch[-1], c_batch[-1]
        m *= extents.pop()
        a_batch.pop(), b_batch.pop(), c_batch.pop()
    # Code generators like rows: a column vector, or a transposed result, is computed as c^T = b^T a^T.
    if (n == 1 and m > 1) or (c_column != 1 and c_row == 1 and m > 1):
        a, b, m, n, left, right = b, a, n, m, right, left
        a_batch, b_batch = b_batch, a_batch
        a_row, a_column, b_row, b_column = b_column, b_row, a_column, a_row
        c_row, c_column = c_column, c_row
        bias_row, bias_column = bias_column, bias_row
    total = prod(extents)
    batch_block, m_block, n_block = _matmul_blocks(total, m, n, k)
    units = ceil_div(total, batch_block) * ceil_div(m, m_block) * ceil_div(n, n_block)
    params = (c.slot, c.offset, a.slot, a.offset, b.slot, b.offset, bias_ref.slot, bias_ref.offset, bias_column,
              int(bias is not None), int(accumulate), *_padded(extents, BATCH_RANK, 1), m, n, k,
              *_padded(a_batch, BATCH_RANK, 0), a_row, a_column, *_padded(b_batch, BATCH_RANK, 0), b_row, b_column,
              *_padded(c_batch, BATCH_RANK, 0), c_row, c_column, batch_block, m_block, n_block, bias_row)
    cost = max(total * m * n * k // 8, total * (m * n + (m + n) * k))
    return Call(TemplateKernel("matmul", (dtype.name, left.name, right.name)), params, units, cost, "matmul")


def converts(stored: DType, dtype: DType) -> bool:
    """Does the matmul template read operands of a dtype as another one?"""
    return stored.name in _CONVERTED.get(dtype.name, ())


def _matmul_blocks(batch: int, m: int, n: int, k: int) -> tuple[int, int, int]:
    """Batch items, rows and columns of one work unit: enough of them to share, each big enough to be worth it.

    Neighbouring units that one invocation gets are done as one, so small units cost nothing when there is one thread.
    """
    products = max(m * n * k, 1)
    if products * batch <= _UNIT_PRODUCTS and products > _UNIT_PRODUCTS // 8 and m >= 2 * _LEAST_ROWS:
        return 1, ceil_div(m, 4 if m >= 4 * _LEAST_ROWS else 2), n       # small, but two threads are faster
    if products <= _UNIT_PRODUCTS // 4:
        return max(1, min(batch, _UNIT_PRODUCTS // 4 // products)), max(m, 1), max(n, 1)
    # At most 32 units, of 2**20 products or (few rows: what counts is reading b) 2**18 elements of b. Blocks of fewer than
    # 60 rows or 128 columns would spend too much of their time on packing.
    units = min(32, max(1, products // _UNIT_PRODUCTS, n * k // (_UNIT_PRODUCTS // 4)))
    row_blocks = max(1, min(m // 60, ceil_div(units, max(1, n // 256))))
    least_columns = 64 if row_blocks == 1 else 128 if row_blocks <= 4 else 192
    column_blocks = max(1, min(n // least_columns, units // row_blocks))
    m_block, n_block = ceil_div(m, row_blocks), ceil_div(ceil_div(n, column_blocks), 64) * 64
    return 1, m_block, n_block


def _refuse_complex(dtype: DType, what: str) -> None:
    if dtype.is_complex:
        raise InvalidArgumentError(f"the {what} template does not combine complex numbers (got {dtype}); "
                                   "run the operation through its reference, or on view_as_real")


def scan(dtype: DType, kind: str, out: BufferRef, src: BufferRef, outer: int, length: int, inner: int,
         src_strides: tuple[int, int, int] | None = None) -> Call:
    """Cumulative ``kind`` ("sum", "prod", "max", "min") over the middle axis of (outer, length, inner).

    out is contiguous; src_strides: of the three axes, contiguous by default. max and min propagate NaN. float32 sums and
    products are carried in float64, 16-bit floats in float32, integers and bool (max, min) in their own type.
    """
    if kind not in ("sum", "prod", "max", "min"):
        raise InvalidArgumentError(f"unknown kind of scan: {kind!r}")
    _refuse_complex(dtype, "scan")
    strides = src_strides if src_strides is not None else (length * inner, inner, 1)
    inner_block = min(inner, 512) if inner > 1 else 1
    outer_block = max(1, 16384 // max(1, length * inner))
    units = ceil_div(outer, outer_block) * ceil_div(inner, max(inner_block, 1))
    params = (out.slot, out.offset, src.slot, src.offset, outer, length, inner, *strides, outer_block, max(inner_block, 1))
    return Call(TemplateKernel("scan", (dtype.name, kind)), params, units, 2 * outer * length * inner, f"cum{kind}")


def scatter(dtype: DType, mode: str, out: BufferRef, index: BufferRef, src: BufferRef, dim: int, index_shape: Sequence[int],
            out_shape: Sequence[int], index_strides: Sequence[int], src_strides: Sequence[int]) -> Call:
    """out[p with p[dim] = index[p]] (mode) src[p] for every position p of ``index_shape``.

    mode: "set", "add", "mul", "amax" or "amin". out is contiguous and already holds the base. index is int64; one outside
    [0, out_shape[dim]) sets the status and is skipped. Positions along ``dim`` are done in order: the result does not
    depend on the number of threads. At most 6 dimensions.
    """
    if mode not in ("set", "add", "mul", "amax", "amin"):
        raise InvalidArgumentError(f"unknown mode of scatter: {mode!r}")
    if mode != "set":
        _refuse_complex(dtype, "scatter")
    out_strides = contiguous_strides(out_shape)
    others = [axis for axis in range(len(index_shape)) if axis != dim]
    extents, (outs, indexes, sources) = coalesce([index_shape[x] for x in others], [out_strides[x] for x in others],
                                                 [index_strides[x] for x in others], [src_strides[x] for x in others])
    # The order of axes: those shared among units, then two that a unit walks. Of these, dim is the inner one if it is the
    # last dimension, else the outer one: a unit then takes a block of the last dimension.
    nothing = (1, 0, 0, 0)
    along = (index_shape[dim], 0, index_strides[dim], src_strides[dim]) if index_shape else nothing
    inside = not index_shape or dim == len(index_shape) - 1
    other = nothing
    if extents and (not inside or len(extents) == SCATTER_RANK - 1):
        other = (extents.pop(), outs.pop(), indexes.pop(), sources.pop())
    walked = (other, along) if inside else (along, other)
    inner_block = max(walked[1][0], 1) if inside else min(max(walked[1][0], 1), 256)
    units = prod(extents) * ceil_div(walked[1][0], inner_block)
    words: list[int] = []
    for leading, trailing, fill in zip((extents, outs, indexes, sources), zip(*walked, strict=True), nothing, strict=True):
        words += _padded([*leading, *trailing], SCATTER_RANK, fill)
    size, step = (out_shape[dim], out_strides[dim]) if index_shape else (1, 0)
    params = (out.slot, out.offset, index.slot, index.offset, src.slot, src.offset, size, step, *words, inner_block)
    return Call(TemplateKernel("scatter", (dtype.name, mode)), params, units, 4 * prod(index_shape), f"scatter_{mode}")


def index_put(dtype: DType, accumulate: bool, out: BufferRef, out_shape: Sequence[int],
              indices: Sequence[tuple[BufferRef, Sequence[int]]], dims: Sequence[int], index_shape: Sequence[int],
              src: BufferRef, src_strides: Sequence[int]) -> Call:
    """``out[..., i0, ..., i1, ...] = src`` (or ``+=``) as PyTorch's index_put_.

    out: contiguous, already holds the base. indices: int64 (buffer, strides over ``index_shape``: 0 where broadcast), one
    per dimension in ``dims`` (ascending); negative ones count from the end, others outside set the status and are skipped.
    src_strides: over the value's full shape, that is ``index_shape`` in place of the indexed dimensions if they are
    neighbours, else in front, with the dimensions that are not indexed. Positions are done in order, so the last of
    equal ones wins and sums do not depend on the number of threads. index_add and the gradient of an embedding are
    ``dims=(0,)``, ``accumulate=True``.
    """
    if not 1 <= len(indices) <= MAX_INDICES or len(indices) != len(dims):
        raise InvalidArgumentError(f"index_put takes 1 to {MAX_INDICES} indices, one per dimension, got {len(indices)}")
    if accumulate:
        _refuse_complex(dtype, "index_put")
    out_strides = contiguous_strides(out_shape)
    rest = [axis for axis in range(len(out_shape)) if axis not in dims]
    neighbours = all(second == first + 1 for first, second in pairwise(dims))
    front = dims[0] if neighbours else 0
    src_index = list(src_strides[front:front + len(index_shape)])
    src_rest = [*src_strides[:front], *src_strides[front + len(index_shape):]]
    positions, (src_index, *index_strides) = coalesce(index_shape, src_index, *(strides for _, strides in indices))
    extents, (out_rest, src_rest) = coalesce([out_shape[x] for x in rest], [out_strides[x] for x in rest], src_rest)
    if not extents:
        extents, out_rest, src_rest = [1], [1], [1]
    # Only sums over many positions are worth cutting the rows in pieces; each piece reads all indices again.
    inner_block = min(max(extents[-1], 1), 256 if accumulate or extents[-1] >= 1024 else 1024)
    units = prod(extents[:-1]) * ceil_div(extents[-1], inner_block)
    params = (out.slot, out.offset, src.slot, src.offset,
              *_padded(positions, INDEX_RANK, 1), *_padded(src_index, INDEX_RANK, 0),
              *_padded(extents, REST_RANK, 1), *_padded(out_rest, REST_RANK, 0), *_padded(src_rest, REST_RANK, 0),
              inner_block)
    for (ref, _), dim, strides in zip(indices, dims, index_strides, strict=True):
        params += (ref.slot, ref.offset, out_shape[dim], out_strides[dim], *_padded(strides, INDEX_RANK, 0))
    cost = prod(index_shape) * (len(indices) + 2 * prod(extents))
    return Call(TemplateKernel("index_put", (dtype.name, accumulate, len(indices))), params, units, cost,
                "index_put_accumulate" if accumulate else "index_put")


def selects(count: int, length: int) -> bool:
    """Does the selection template suit this many of so many elements? It is made for few that beat the best ones so far."""
    return 0 < count <= MOST_SELECTED and 4 * count <= length


def selection(dtype: DType, largest: bool, out: BufferRef, src: BufferRef, rows: int, length: int, count: int) -> Call:
    """The positions (int64) of the ``count`` largest (or smallest) elements of each row, best first, of equal ones the first.

    Both are contiguous. NaN counts as the largest. See :func:`selects`.
    """
    _refuse_complex(dtype, "selection")
    block = max(1, 8192 // max(1, length))
    params = (out.slot, out.offset, src.slot, src.offset, rows, length, count, block)
    return Call(TemplateKernel("selection", (dtype.name, largest)), params, ceil_div(rows, block), 2 * rows * length, "topk")


def sum_of_bags(dtype: DType, out: BufferRef, table: BufferRef, index: BufferRef, starts: BufferRef, each: BufferRef | None, bags: int,
                count: int, rows: int, width: int, padding: int) -> Call:
    """out[bag] = the sum of table[index[i]] (times each[i]) for the places i from starts[bag] to the next bag's start.

    All contiguous; index and starts are int64. Places beyond ``count`` and indices that are ``padding`` are left out, others outside of
    the table's ``rows`` reported. 16-bit floats are summed in float32 and rounded once.
    """
    _refuse_complex(dtype, "sum_of_bags")
    work = max(1, count * width)
    block = max(1, bags * 8192 // work)
    each_ref = each or BufferRef(0)
    params = (out.slot, out.offset, table.slot, table.offset, index.slot, index.offset, starts.slot, starts.offset, each_ref.slot,
              each_ref.offset, int(each is not None), bags, count, rows, width, padding, block)
    return Call(TemplateKernel("sum_of_bags", (dtype.name,)), params, ceil_div(bags, block), work, "embedding_bag")


def fill(itemsize: int, out: BufferRef, value_bits: int, count: int) -> Call:
    """Store ``count`` contiguous items with the bit pattern ``value_bits`` (itemsize 1, 2, 4 or 8)."""
    block = _STREAM_BYTES // itemsize
    signed = value_bits - (1 << 64) if value_bits >= 1 << 63 else value_bits
    params = (out.slot, out.offset, signed, count, block)
    return Call(TemplateKernel("fill", (itemsize,)), params, ceil_div(count, block), count, "fill")


def copy(itemsize: int, out: BufferRef, src: BufferRef, count: int) -> Call:
    """Copy ``count`` contiguous items of ``itemsize`` bytes; the buffers do not overlap."""
    nbytes = count * itemsize
    params = (out.slot, out.offset, src.slot, src.offset, nbytes, _STREAM_BYTES)
    return Call(TemplateKernel("copy"), params, ceil_div(nbytes, _STREAM_BYTES), ceil_div(nbytes, 4), "copy")


def transpose_copy(itemsize: int, out: BufferRef, src: BufferRef, extents: Sequence[int], src_strides: Sequence[int],
                   out_strides: Sequence[int]) -> Call:
    """out[p] = src[p] for all positions of ``extents``, each with its own strides (``permute().contiguous()``).

    itemsize: 1, 2, 4, 8 or 16. out must not overlap itself nor src. At most :data:`COPY_RANK` dimensions after merging. Where the fastest
    dimensions of the two differ, it is copied in tiles; where items of a row are stored several times, in one pass over the row.
    """
    extents, src_strides, out_strides = list(extents), list(src_strides), list(out_strides)
    for axis, n in enumerate(extents):      # what the source walks backwards, the result may as well
        if src_strides[axis] == -1 and out_strides[axis] != 1:
            src = BufferRef(src.slot, src.offset - (n - 1) * itemsize)
            out = BufferRef(out.slot, out.offset + (n - 1) * out_strides[axis] * itemsize)
            src_strides[axis], out_strides[axis] = 1, -out_strides[axis]
    order = sorted(range(len(extents)), key=lambda axis: (-abs(out_strides[axis]), -extents[axis]))
    sizes, (sources, outs) = coalesce([extents[x] for x in order], [src_strides[x] for x in order],
                                      [out_strides[x] for x in order])
    if not sizes:
        sizes, sources, outs = [1], [1], [1]
    form: str | int = "rows"
    if len(sizes) > 1 and outs[-1] == 1 and sources[-1] == 0 and sources[-2] == 1 and outs[-2] == sizes[-1] and itemsize <= 8:
        form = next((times for times in _REPEATS if sizes[-1] == times), "rows")
    if form == "rows" and outs[-1] == 1 and sources[-1] != 1 and sources[-1] != -1 and 1 in sources and itemsize <= 8:
        form = "tiles"
    if form == "tiles":   # the source's contiguous dimension goes last but one
        axis = sources.index(1)
        for values in (sizes, sources, outs):
            moved = values.pop(axis)
            values.insert(len(values) - 1, moved)
        row_block, column_block = max(1, min(sizes[-2], 64)), max(1, min(sizes[-1], 256))
        units = prod(sizes[:-2]) * ceil_div(sizes[-2], row_block) * ceil_div(sizes[-1], column_block)
    else:
        walked = sizes if form == "rows" else sizes[:-1]
        items = _STREAM_BYTES // itemsize
        column_block = min(max(walked[-1], 1), items)
        rows = walked[-2] if len(walked) > 1 else 1
        row_block = max(1, min(rows, items // column_block))
        units = prod(walked[:-2]) * ceil_div(rows, row_block) * ceil_div(walked[-1], column_block)
    params = (out.slot, out.offset, src.slot, src.offset, *_padded(sizes, COPY_RANK, 1), *_padded(sources, COPY_RANK, 0),
              *_padded(outs, COPY_RANK, 0), row_block, column_block)
    kernel = TemplateKernel("transpose_copy", (itemsize, form))
    return Call(kernel, params, units, 2 * prod(extents), "copy")
