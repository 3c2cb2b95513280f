"""Scatter, index_put, fills and copies as LLVM text."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torsh.codegen.llvm.numeric import Numeric, combine, numeric
from torsh.codegen.llvm.template_builder import ENTRY, Builder, Module, Operand
from torsh.compiler import templates

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

_COMBINE = {"add": "sum", "mul": "prod", "amax": "max", "amin": "min"}


def _entry(symbol: str) -> Builder:
    return Builder(Module(hides_counters=False), symbol, ENTRY, internal=False)


def _done(b: Builder) -> str:
    b.finish()
    return b.module.render()


def _item(itemsize: int) -> str:
    return f"i{8 * itemsize}"


def _offset(b: Builder, indices: Sequence[Operand], strides: Sequence[Operand]) -> Operand:
    """The sum of index * stride."""
    total: Operand = 0
    for index, stride in zip(indices, strides, strict=True):
        total = b.add(total, b.mul(index, stride))
    return total


def _unravel(b: Builder, number: Operand, extents: Sequence[Operand]) -> list[Operand]:
    """Row-major indices of position ``number``."""
    result: list[Operand] = []
    for extent in reversed(extents[1:]):
        result.append(b.rem(number, extent))
        number = b.div(number, extent)
    return [number, *reversed(result)]


def _checked(b: Builder, index: str, size: str, body: Callable[[], None]) -> None:
    """Do ``body`` if 0 <= index < size, else report the index."""
    def report() -> None:
        for word, value in ((1, index), (2, size), (0, 1)):
            b.store("i64", value, b.at("%status", word, "i64"), 8)

    b.when(b(f"icmp ult i64 {index}, {size}"), body, report)


# ---------------------------------------------------------------------------------------------------- fill and copy
def generate_fill(itemsize: int, target: Target, symbol: str) -> str:
    """LLVM text of the fill template."""
    b, kind, lanes = _entry(symbol), _item(itemsize), target.lanes(itemsize)
    word = b.words(templates.FILL_PARAMETERS)
    out = b.buffer(word["out_slot"], word["out_offset"])
    value = word["value"] if itemsize == 8 else b(f"trunc i64 {word['value']} to {kind}")
    vector = b.splat(kind, lanes, value)

    def unit(number: str) -> None:
        start = b.mul(number, word["block"])
        count = b.min(b.sub(word["count"], start), word["block"])
        to = b.at(out, start, kind)
        whole = b.sub(count, b.rem(count, lanes))
        b.loop(0, whole, lanes, lambda i: b.store(f"<{lanes} x {kind}>", vector, b.at(to, i, kind), itemsize))
        b.loop(whole, count, 1, lambda i: b.store(kind, value, b.at(to, i, kind), itemsize))

    b.loop("%begin", "%end", 1, unit)
    return _done(b)


def _copy_run(b: Builder, kind: str, lanes: int, align: int, to: str, source: str, count: Operand) -> None:
    """Copy ``count`` contiguous items: four vectors at a time, then vectors, then items."""
    def some(i: Operand, parts: int, width: int) -> None:
        shape = f"<{width} x {kind}>" if width else kind
        places = [b.add(i, part * width) for part in range(parts)]
        values = [b.load(shape, b.at(source, place, kind), align) for place in places]
        for place, value in zip(places, values, strict=True):
            b.store(shape, value, b.at(to, place, kind), align)

    many, whole = b.sub(count, b.rem(count, 4 * lanes)), b.sub(count, b.rem(count, lanes))
    b.loop(0, many, 4 * lanes, lambda i: some(i, 4, lanes))
    b.loop(many, whole, lanes, lambda i: some(i, 1, lanes))
    b.loop(whole, count, 1, lambda i: some(i, 1, 0))


def generate_copy(target: Target, symbol: str) -> str:
    """LLVM text of the copy template; it counts in bytes."""
    b = _entry(symbol)
    word = b.words(templates.COPY_PARAMETERS)
    out, src = b.buffer(word["out_slot"], word["out_offset"]), b.buffer(word["src_slot"], word["src_offset"])

    def unit(number: str) -> None:
        start = b.mul(number, word["block"])
        count = b.min(b.sub(word["count"], start), word["block"])
        _copy_run(b, "i8", target.lanes(1), 1, b.at(out, start, "i8"), b.at(src, start, "i8"), count)

    b.loop("%begin", "%end", 1, unit)
    return _done(b)


# ---------------------------------------------------------------------------------------------------- permuted copies
def generate_transpose_copy(itemsize: int, form: str, target: Target, symbol: str) -> str:
    """LLVM text of the permuted copy: ``form`` is "rows" or "tiles" (the source is contiguous along the last axis but one)."""
    b, kind = _entry(symbol), _item(itemsize)
    word = b.words(templates.TRANSPOSE_PARAMETERS)
    out, src = b.buffer(word["out_slot"], word["out_offset"]), b.buffer(word["src_slot"], word["src_offset"])
    extents, to_strides, from_strides = ([word[f"{name}{x}"] for x in range(templates.COPY_RANK)]
                                         for name in ("extents", "out_strides", "src_strides"))
    row_blocks, column_blocks = b.ceil_div(extents[-2], word["row_block"]), b.ceil_div(extents[-1], word["column_block"])

    def unit(number: str) -> None:
        *outer, row_block, column_block = _unravel(b, number, [*extents[:-2], row_blocks, column_blocks])
        row, column = b.mul(row_block, word["row_block"]), b.mul(column_block, word["column_block"])
        where = [*outer, row, column]
        to = b.at(out, _offset(b, where, to_strides), kind)
        source = b.at(src, _offset(b, where, from_strides), kind)
        rows = b.min(b.sub(extents[-2], row), word["row_block"])
        columns = b.min(b.sub(extents[-1], column), word["column_block"])
        if form == "tiles":
            lanes = min(target.lanes(itemsize), 16)
            _copy_tiles(b, itemsize, lanes, (to, to_strides[-2]), (source, from_strides[-1]), rows, columns)
        else:
            _copy_rows(b, itemsize, target.lanes(itemsize), (to, to_strides[-2], to_strides[-1]),
                       (source, from_strides[-2], from_strides[-1]), rows, columns)

    b.loop("%begin", "%end", 1, unit)
    return _done(b)


def _copy_rows(b: Builder, itemsize: int, lanes: int, to: tuple[str, str, str], source: tuple[str, str, str],
               rows: Operand, columns: Operand) -> None:
    kind, align = _item(itemsize), min(itemsize, 8)

    def row(i: str) -> None:
        here, there = b.at(source[0], b.mul(i, source[1]), kind), b.at(to[0], b.mul(i, to[1]), kind)

        def item(j: str) -> None:
            value = b.load(kind, b.at(here, b.mul(j, source[2]), kind), align)
            b.store(kind, value, b.at(there, b.mul(j, to[2]), kind), align)

        contiguous = b.both(b.equal(source[2], 1), b.equal(to[2], 1))
        b.when(contiguous, lambda: _copy_run(b, kind, max(lanes, 1), align, there, here, columns),
               lambda: b.loop(0, columns, 1, item) and None)

    b.loop(0, rows, 1, row)


def _copy_tiles(b: Builder, itemsize: int, lanes: int, to: tuple[str, str], source: tuple[str, str], rows: Operand,
                columns: Operand) -> None:
    """to[row * stride + column] = source[row + column * stride], by transposing squares in registers."""
    kind, vector = _item(itemsize), f"<{lanes} x {_item(itemsize)}>"
    whole_rows, whole_columns = b.sub(rows, b.rem(rows, lanes)), b.sub(columns, b.rem(columns, lanes))

    def square(row: str, column: str) -> None:
        here = b.at(source[0], b.add(row, b.mul(column, source[1])), kind)
        there = b.at(to[0], b.add(b.mul(row, to[1]), column), kind)
        given = [b.load(vector, b.at(here, b.mul(source[1], x), kind), itemsize) for x in range(lanes)]
        for x, value in enumerate(b.transpose(kind, itemsize, given)):
            b.store(vector, value, b.at(there, b.mul(to[1], x), kind), itemsize)

    def items(row: str, first: Operand) -> None:
        def item(column: str) -> None:
            value = b.load(kind, b.at(source[0], b.add(row, b.mul(column, source[1])), kind), itemsize)
            b.store(kind, value, b.at(to[0], b.add(b.mul(row, to[1]), column), kind), itemsize)

        b.loop(first, columns, 1, item)

    b.loop(0, whole_rows, lanes, lambda row: b.loop(0, whole_columns, lanes, lambda column: square(row, column)) and None)
    b.loop(0, whole_rows, 1, lambda row: items(row, whole_columns))
    b.loop(whole_rows, rows, 1, lambda row: items(row, 0))


# ---------------------------------------------------------------------------------------------------- scatter
def generate_scatter(dtype_name: str, mode: str, target: Target, symbol: str) -> str:
    """LLVM text of the scatter template."""
    number = numeric(dtype_name, True)
    b, kind = _entry(symbol), number.stored
    word = b.words(templates.SCATTER_PARAMETERS)
    out, src = b.buffer(word["out_slot"], word["out_offset"]), b.buffer(word["src_slot"], word["src_offset"])
    index = b.buffer(word["index_slot"], word["index_offset"])
    extents = [word[f"extents{x}"] for x in range(6)]
    out_strides, index_strides, src_strides = ([word[f"{name}_strides{x}"] for x in range(6)]
                                               for name in ("out", "index", "src"))
    blocks = b.ceil_div(extents[5], word["inner_block"])

    def unit(number_of_unit: str) -> None:
        *outer, block = _unravel(b, number_of_unit, [*extents[:4], blocks])
        start = b.mul(block, word["inner_block"])
        stop = b.min(extents[5], b.add(start, word["inner_block"]))
        to = b.at(out, _offset(b, outer, out_strides[:4]), kind)
        indices = b.at(index, _offset(b, outer, index_strides[:4]), "i64")
        source = b.at(src, _offset(b, outer, src_strides[:4]), kind)

        def line(p: str) -> None:
            def position(_: str, indices: str, source: str, to: str) -> list[str]:
                where = b.load("i64", indices, 8)
                there = b.at(to, b.mul(where, word["index_step"]), kind)
                _checked(b, where, word["size"], lambda: _put(b, number, mode, there, source, 0))
                return [b.at(indices, index_strides[5], "i64"), b.at(source, src_strides[5], kind),
                        b.at(to, out_strides[5], kind)]

            b.loop(start, stop, 1, position, [
                ("ptr", b.at(indices, _offset(b, (p, start), index_strides[4:]), "i64")),
                ("ptr", b.at(source, _offset(b, (p, start), src_strides[4:]), kind)),
                ("ptr", b.at(to, _offset(b, (p, start), out_strides[4:]), kind))])

        b.loop(0, extents[4], 1, line)

    b.loop("%begin", "%end", 1, unit)
    return _done(b)


def _put(b: Builder, number: Numeric, mode: str, to: str, source: str, lanes: int) -> None:
    """``*to = *source``, or the two combined."""
    if mode == "set":
        shape = f"<{lanes} x {number.stored}>" if lanes else number.stored
        align = min(number.stored_bytes, 8)
        b.store(shape, b.load(shape, source, align), to, align)
        return
    old, new = number.load(b, to, lanes), number.load(b, source, lanes)
    number.store(b, combine(b, number, _COMBINE[mode], old, new, lanes), to, lanes)


# ---------------------------------------------------------------------------------------------------- index_put
def generate_index_put(dtype_name: str, accumulate: bool, indices: int, target: Target, symbol: str) -> str:
    """LLVM text of the index_put template with this many indices."""
    number = numeric(dtype_name, True)
    b, kind, mode = _entry(symbol), number.stored, "add" if accumulate else "set"
    lanes = max(target.lanes(number.kind_bytes), 1)
    word = b.words(templates.INDEX_PUT_PARAMETERS)
    base = 4 + 5 * 4 + 1
    each = [b.words(templates.INDEX_PUT_PER_INDEX, b.at("%params", base + 8 * x, "i64")) for x in range(indices)]
    arrays = [b.buffer(own["slot"], own["offset"]) for own in each]
    out, src = b.buffer(word["out_slot"], word["out_offset"]), b.buffer(word["src_slot"], word["src_offset"])
    extents = [word[f"rest_extents{x}"] for x in range(4)]
    to_strides = [word[f"out_rest_strides{x}"] for x in range(4)]
    from_strides = [word[f"src_rest_strides{x}"] for x in range(4)]
    blocks = b.ceil_div(extents[3], word["inner_block"])
    contiguous = b.both(b.equal(to_strides[3], 1), b.equal(from_strides[3], 1))

    def unit(number_of_unit: str) -> None:
        *outer, block = _unravel(b, number_of_unit, [*extents[:3], blocks])
        start = b.mul(block, word["inner_block"])
        count = b.min(b.sub(extents[3], start), word["inner_block"])
        to = b.at(out, _offset(b, [*outer, start], to_strides), kind)
        source = b.at(src, _offset(b, [*outer, start], from_strides), kind)
        whole = b.select(contiguous, b.sub(count, b.rem(count, lanes)), 0)

        def row(there: str, here: str) -> None:
            b.loop(0, whole, lanes, lambda j: _put(b, number, mode, b.at(there, j, kind), b.at(here, j, kind), lanes))
            b.loop(whole, count, 1, lambda j: _put(b, number, mode, b.at(there, b.mul(j, to_strides[3]), kind),
                                                   b.at(here, b.mul(j, from_strides[3]), kind), 0))

        def position(where: list[str]) -> None:
            here = b.at(source, _offset(b, where, [word[f"src_index_strides{x}"] for x in range(4)]), kind)
            _resolve(b, list(zip(each, arrays, strict=True)), where, 0, lambda offset: row(b.at(to, offset, kind), here))

        _nest(b, [word[f"index_extents{x}"] for x in range(4)], position)

    b.loop("%begin", "%end", 1, unit)
    return _done(b)


def _nest(b: Builder, extents: Sequence[str], body: Callable[[list[str]], None], indices: tuple[str, ...] = ()) -> None:
    """Nested loops over the extents."""
    if not extents:
        body(list(indices))
        return
    b.loop(0, extents[0], 1, lambda i: _nest(b, extents[1:], body, (*indices, i)))


def _resolve(b: Builder, indices: list[tuple[dict[str, str], str]], where: list[str], offset: Operand,
             body: Callable[[Operand], None]) -> None:
    """Load the indices of a position one after the other; ``body`` gets the offset in out if all are in range."""
    if not indices:
        body(offset)
        return
    own, array = indices[0]
    given = b.load("i64", b.at(array, _offset(b, where, [own[f"strides{x}"] for x in range(4)]), "i64"), 8)
    index = b.select(b.less(given, 0), b.add(given, own["size"]), given)

    def report() -> None:
        for word, value in ((1, given), (2, own["size"]), (0, 1)):
            b.store("i64", value, b.at("%status", word, "i64"), 8)

    b.when(b(f"icmp ult i64 {index}, {own['size']}"),
           lambda: _resolve(b, indices[1:], where, b.add(offset, b.mul(index, own["out_stride"])), body), report)
