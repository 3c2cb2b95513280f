"""Fills, copies and permuted copies as LLVM text."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torsh.codegen.llvm.template_builder import ENTRY, Builder, Module, Operand, ignore
from torsh.compiler import templates

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target


def entry(symbol: str) -> Builder:
    """The builder of a kernel that does little else than move elements."""
    return Builder(Module(hides_counters=False), symbol, ENTRY, internal=False)


def done(b: Builder) -> str:
    """The text of the module."""
    b.finish()
    return b.module.render()


def offset_of(b: Builder, indices: Sequence[Operand], strides: Sequence[Operand]) -> Operand:
    """The sum of index * stride."""
    total: Operand = 0
    for index, stride in zip(indices, strides, strict=True):
        total = b.add(total, b.mul(index, stride))
    return total


def unravel(b: Builder, number: Operand, extents: Sequence[Operand]) -> list[Operand]:
    """Row-major indices of position ``number``."""
    result: list[Operand] = []
    for extent in reversed(extents[1:]):
        result.append(b.rem(number, extent))
        number = b.div(number, extent)
    return [number, *reversed(result)]


def each_position(b: Builder, extents: Sequence[Operand], body: Callable[[list[str]], None]) -> None:
    """``body`` with the row-major indices of all work units of this invocation: divided once, then counted on."""
    def unit(_: str, *indices: str) -> list[Operand]:
        body(list(indices))
        result: list[Operand] = list(indices)
        carry: Operand = 1
        for axis in reversed(range(1, len(indices))):
            up = b.add(indices[axis], carry)
            wraps = b.equal(up, extents[axis])
            result[axis] = b.select(wraps, 0, up)
            carry = b(f"zext i1 {wraps} to i64")
        result[0] = b.add(indices[0], carry)
        return result

    def units() -> None:                   # there may be none, because an extent is 0
        b.loop("%begin", "%end", 1, unit, [("i64", start) for start in unravel(b, "%begin", extents)])

    b.when(b.less("%begin", "%end"), units)


def _item(itemsize: int) -> str:
    return f"i{8 * itemsize}"


def generate_fill(itemsize: int, target: Target, symbol: str) -> str:
    """LLVM text of the fill template."""
    b, kind, lanes = entry(symbol), _item(itemsize), target.lanes(itemsize)
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
    return done(b)


# ---------------------------------------------------------------------------------------------------- lines
@dataclass(slots=True)
class _Line:
    """How a line of items is moved, a vector of source items at a time.

    step: 1, or -1 where the source is walked backwards. times: how often each item is stored, one after the other.
    """

    b: Builder
    itemsize: int
    lanes: int
    step: int = 1
    times: int = 1

    @property
    def kind(self) -> str:
        """LLVM type of an item."""
        return _item(self.itemsize)

    @property
    def align(self) -> int:
        """What is known of addresses."""
        return min(self.itemsize, 8)

    def _start(self, source: Operand, place: Operand) -> str:
        """Where the vector at a place of the line begins in memory."""
        if self.step > 0:
            return self.b.at(source, place, self.kind)
        return self.b.at(source, self.b.sub(1 - self.lanes, place), self.kind)

    def _stored(self, value: str) -> list[str]:
        """The vectors to be stored for a vector as it was loaded."""
        lanes, b = self.lanes, self.b
        if self.step < 0:
            value = b.shuffle(self.kind, lanes, value, value, list(reversed(range(lanes))))
        if self.times == 1:
            return [value]
        return [b.shuffle(self.kind, lanes, value, value, [(part * lanes + k) // self.times for k in range(lanes)])
                for part in range(self.times)]

    def vectors(self, to: Operand, source: Operand, place: Operand, parts: int = 1) -> None:
        """Whole vectors from a place on."""
        b, shape = self.b, f"<{self.lanes} x {self.kind}>"
        places = [b.add(place, part * self.lanes) for part in range(parts)]
        values = [b.load(shape, self._start(source, p), self.align) for p in places]
        for p, value in zip(places, values, strict=True):
            there = b.at(to, b.mul(p, self.times), self.kind)
            for number, vector in enumerate(self._stored(value)):
                b.store(shape, vector, b.at(there, number * self.lanes, self.kind), self.align)

    def item(self, to: Operand, source: Operand, place: Operand) -> None:
        """One item."""
        b = self.b
        value = b.load(self.kind, b.at(source, b.mul(place, self.step), self.kind), self.align)
        there = b.at(to, b.mul(place, self.times), self.kind)
        for number in range(self.times):
            b.store(self.kind, value, b.at(there, number, self.kind), self.align)

    def run(self, to: Operand, source: Operand, count: Operand) -> None:
        """At least a vector's worth of items; the last vector may overlap the one before it."""
        b, lanes = self.b, self.lanes
        many, whole = b.sub(count, b.rem(count, 4 * lanes)), b.sub(count, b.rem(count, lanes))
        b.loop(0, many, 4 * lanes, lambda i: self.vectors(to, source, i, 4))
        b.loop(many, whole, lanes, lambda i: self.vectors(to, source, i))
        b.when(b.less(whole, count), lambda: self.vectors(to, source, b.sub(count, lanes)))

    def short(self, count: Operand) -> Callable[[Operand, Operand], None]:
        """What moves ``count`` items, less than a vector's worth: (to, source)."""
        b, lanes, bits = self.b, self.lanes, min(8 * self.itemsize, 32)
        read = b.mask(lanes, bits, count)
        if self.step < 0:
            read = b.shuffle("i1", lanes, read, read, list(reversed(range(lanes))))
        masks = [b.mask(lanes, bits, count)] if self.times == 1 else []
        for part in range(self.times if self.times > 1 else 0):
            left = b.sub(b.mul(count, self.times), part * lanes)
            masks.append(b.mask(lanes, bits, b.select(b.less(left, 0), 0, b.min(left, lanes))))

        def move(to: Operand, source: Operand) -> None:
            vectors = self._stored(b.masked_load(self.kind, lanes, self._start(source, 0), read))
            for part, (vector, mask) in enumerate(zip(vectors, masks, strict=True)):
                b.masked_store(self.kind, lanes, vector, b.at(to, part * lanes, self.kind), mask)
        return move

    def rows(self, masks: bool, to: tuple[str, str], source: tuple[str, str], rows: Operand, count: Operand) -> None:
        """Lines of ``count`` items; to, source: the first line, and the step to the next. masks: can vectors be masked?"""
        b = self.b

        def each(body: Callable[[Operand, Operand], None]) -> None:
            def row(_: str, there: str, here: str) -> list[Operand]:
                body(there, here)
                return [b.at(there, to[1], self.kind), b.at(here, source[1], self.kind)]

            b.loop(0, rows, 1, row, [("ptr", to[0]), ("ptr", source[0])])

        def items(there: Operand, here: Operand) -> None:
            b.loop(0, count, 1, lambda j: self.item(there, here, j))

        b.when(b.less(count, self.lanes), lambda: each(self.short(count) if masks else items),
               lambda: each(lambda there, here: self.run(there, here, count)))


def _has_masks(itemsize: int, target: Target) -> bool:
    """Are there instructions that load and store some items of a vector?"""
    return itemsize <= 8 if target.has_avx512 else target.lanes(1) == 32 and itemsize in (4, 8)


def generate_copy(target: Target, symbol: str) -> str:
    """LLVM text of the copy template; it counts in bytes."""
    b = entry(symbol)
    word = b.words(templates.COPY_PARAMETERS)
    out, src = b.buffer(word["out_slot"], word["out_offset"]), b.buffer(word["src_slot"], word["src_offset"])
    line = _Line(b, 1, target.lanes(1))

    def unit(number: str) -> None:
        start = b.mul(number, word["block"])
        count = b.min(b.sub(word["count"], start), word["block"])
        to, source = b.at(out, start, "i8"), b.at(src, start, "i8")
        b.when(b.less(count, line.lanes), lambda: ignore(b.loop(0, count, 1, lambda i: line.item(to, source, i))),
               lambda: line.run(to, source, count))

    b.loop("%begin", "%end", 1, unit)
    return done(b)


# ---------------------------------------------------------------------------------------------------- permuted copies
def generate_transpose_copy(itemsize: int, form: str | int, target: Target, symbol: str) -> str:
    """LLVM text of the permuted copy: ``form`` is "rows", "tiles" (the source is contiguous along the last axis but one), or
    how often each item of a contiguous row is stored."""
    b, kind, masks = entry(symbol), _item(itemsize), _has_masks(itemsize, target)
    word = b.words(templates.TRANSPOSE_PARAMETERS)
    out, src = b.buffer(word["out_slot"], word["out_offset"]), b.buffer(word["src_slot"], word["src_offset"])
    given = [[word[f"{name}{x}"] for x in range(templates.COPY_RANK)] for name in ("extents", "out_strides", "src_strides")]
    extents, to_strides, from_strides = [words[:-1] for words in given] if isinstance(form, int) else given
    row_blocks, column_blocks = b.ceil_div(extents[-2], word["row_block"]), b.ceil_div(extents[-1], word["column_block"])

    def unit(indices: list[str]) -> None:
        *outer, row_block, column_block = indices
        row, column = b.mul(row_block, word["row_block"]), b.mul(column_block, word["column_block"])
        where = [*outer, row, column]
        to = b.at(out, offset_of(b, where, to_strides), kind)
        source = b.at(src, offset_of(b, where, from_strides), kind)
        rows = b.min(b.sub(extents[-2], row), word["row_block"])
        columns = b.min(b.sub(extents[-1], column), word["column_block"])
        if isinstance(form, int):
            line = _Line(b, itemsize, target.lanes(itemsize), times=form)
            line.rows(masks, (to, to_strides[-2]), (source, from_strides[-2]), rows, columns)
        elif form == "tiles":
            lanes = min(target.lanes(itemsize), 16)
            _copy_tiles(b, itemsize, lanes, (to, to_strides[-2]), (source, from_strides[-1]), rows, columns)
        else:
            _copy_rows(_Line(b, itemsize, target.lanes(itemsize)), masks, (to, to_strides[-2], to_strides[-1]),
                       (source, from_strides[-2], from_strides[-1]), rows, columns)

    each_position(b, [*extents[:-2], row_blocks, column_blocks], unit)
    return done(b)


def _copy_rows(line: _Line, masks: bool, to: tuple[str, str, str], source: tuple[str, str, str], rows: Operand,
               columns: Operand) -> None:
    """Rows that are contiguous, backwards, or neither."""
    b, kind = line.b, line.kind
    backward = _Line(b, line.itemsize, line.lanes, -1)

    def strided() -> None:
        def row(i: str) -> None:
            here, there = b.at(source[0], b.mul(i, source[1]), kind), b.at(to[0], b.mul(i, to[1]), kind)

            def item(j: str) -> None:
                value = b.load(kind, b.at(here, b.mul(j, source[2]), kind), line.align)
                b.store(kind, value, b.at(there, b.mul(j, to[2]), kind), line.align)

            b.loop(0, columns, 1, item)

        b.loop(0, rows, 1, row)

    def walked(way: _Line) -> Callable[[], None]:
        return lambda: way.rows(masks, to[:2], source[:2], rows, columns)

    along = b.equal(to[2], 1)
    b.when(b.both(along, b.equal(source[2], 1)), walked(line), lambda: ignore(
        b.when(b.both(along, b.equal(source[2], -1)), walked(backward), strided)))


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
