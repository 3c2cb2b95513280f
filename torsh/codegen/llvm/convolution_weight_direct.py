"""Gradients of convolutions' weights without packed windows, for planes whose lines are long enough.

Lines of the input are copied with their padding; the elements that one element of the kernel meets then lie a fixed distance
from each other, and register tiles read them one by one, as factors of whole vectors of the gradient. What is packed is the
gradient alone, (channels * kernel) times less than windows. Sums, [(channel, tap)][row], are turned at the end.
"""
from __future__ import annotations

from typing import Final

from torsh.codegen.llvm.convolution import even_blocks
from torsh.codegen.llvm.convolution_lines import COPY, apart, in_plane, line_length, write_copy_lines
from torsh.codegen.llvm.gemm import MERGE
from torsh.codegen.llvm.gemm_pack import PACK
from torsh.codegen.llvm.gemm_shape import Shape, arguments, pairs
from torsh.codegen.llvm.template_builder import Builder, Module, Operand, ignore
from torsh.compiler.convolution import WEIGHT_PARAMETERS

SHORTEST_LINE: Final = 12
MOST_ROWS: Final = 12        # of a tile: each has an address in a register
_SEGMENT_BYTES: Final = 16
# sums[row of the tile][columns] of products of b's rows with elements of x: row r's are at offsets[r] + the positions of the
# segments (start, stop), ``step`` apart.
TAPS = ("ptr x", "ptr offsets", "ptr b", "ptr segments", "i64 count", "i64 step", "ptr sums", "i64 columns", "i1 again")
TURN_OUT = ("ptr from", "ptr c", "i64 c_row", "i64 n", "i64 rows")
DIRECT = ("ptr params", "ptr g", "ptr x", "ptr c", "i64 m", "i64 channels", "i64 first", "i64 count", "ptr work")


class _Room:
    """How the work memory is cut; in elements or (places) bytes."""

    def __init__(self, shape: Shape) -> None:
        size = shape.number.kind_bytes
        whole = shape.packed_columns * shape.depth
        self.sums, self.copies = whole * 9 // 16 // shape.columns * shape.columns, whole // 4
        self.panel = 0
        self.segments = (shape.depth + shape.lanes) * shape.columns * size
        self.offsets = self.segments + (shape.depth + 2) * _SEGMENT_BYTES
        self.sums_at = -(-(self.offsets + self.sums // shape.columns * 8) // 64) * 64
        self.copies_at = self.sums_at + self.sums * size
        self.end = self.copies_at + self.copies * size


def direct_bytes(shape: Shape) -> int:
    """Memory that is worked in."""
    return _Room(shape).end


def write_direct(module: Module, shape: Shape) -> None:
    """The function ``direct``, for calls for which :func:`suits_direct` holds."""
    most = _most_rows(shape)
    for rows in range(1, most + 1):
        _write_tile(module, shape, rows)
    table = ", ".join(["ptr null", *(f"ptr @taps{rows}" for rows in range(1, most + 1))])
    module.functions.append(f"@taps = internal constant [{most + 1} x ptr] [{table}]")
    write_copy_lines(module, shape, WEIGHT_PARAMETERS)
    if shape.masks:
        _write_turn_out(module, shape)
    _write_direct(module, shape)


def _most_rows(shape: Shape) -> int:
    return min(shape.rows, MOST_ROWS)


def _geometry(b: Builder, shape: Shape, word: dict[str, str]) -> tuple[Operand, Operand, Operand]:
    """(most positions of a block, elements of a padded line, elements of a channel's lines)."""
    line = line_length(b, shape, word)
    whole_lines = b.mul(b.div(shape.depth, word["counts2"]), word["counts2"])
    most = b.select(b.equal(whole_lines, 0), shape.depth, whole_lines)
    lines = b.add(b.div(b.sub(most, 1), word["counts2"]), 1)              # and one that the block may begin in
    return most, line, apart(b, shape, b.mul(line, _lines(b, word, b.add(lines, 1))))


def _lines(b: Builder, word: dict[str, str], lines: Operand) -> Operand:
    """Lines of the input that so many lines of positions meet."""
    return b.add(b.add(b.mul(b.sub(lines, 1), word["stride1"]), b.mul(b.sub(word["kernel1"], 1), word["dilation1"])), 1)


def suits_direct(b: Builder, shape: Shape, word: dict[str, str]) -> str:
    """Is the input a plane with lines that are long enough, in a usual layout, whose padded lines fit?"""
    room = _Room(shape)
    forward = [b.less(0, word["dilation1"]), b.less(0, word["dilation2"])]
    long = b.less(SHORTEST_LINE - 1, word["counts2"])
    plane = _geometry(b, shape, word)[2]
    return b.both(in_plane(b, word), *forward, long, b.less(plane, room.copies + 1),
                  b.less(word["taps"], room.sums // shape.columns + 1))


def _write_tile(module: Module, shape: Shape, rows: int) -> None:
    values, lanes, vectors, kind = shape.values, shape.lanes, shape.vectors, shape.number.kind
    vector = values.vector(lanes)
    b = Builder(module, f"taps{rows}", arguments(TAPS))
    starts = [b.at("%x", b.load("i64", b.at("%offsets", row, "i64"), 8), kind) for row in range(rows)]

    def product(parts: int) -> list[str]:
        def segment(number: str, panel: str, *sums: str) -> list[str]:
            entry = b.at("%segments", b.mul(number, 2), "i64")

            def position(index: str, panel: str, *sums: str) -> list[str]:
                columns = [values.load(b, b.at(panel, part * lanes, kind), lanes) for part in range(parts)]
                result = []
                for row, start in enumerate(starts):
                    factor = b.splat(kind, lanes, values.load(b, b.at(start, index, kind)))
                    result += [values.multiply_add(b, factor, column, sums[row * parts + part], lanes)
                               for part, column in enumerate(columns)]
                return [b.at(panel, shape.columns, kind), *result]

            return b.loop(b.load("i64", entry, 8), b.load("i64", b.at(entry, 1, "i64"), 8), "%step", position,
                          [("ptr", panel)] + [(vector, value) for value in sums])

        found = b.loop(0, "%count", 1, segment, [("ptr", "%b")] + [(vector, "zeroinitializer")] * (rows * parts))[1:]
        return [found[row * parts + part] if part < parts else "zeroinitializer"
                for row in range(rows) for part in range(vectors)]

    sums = b.when(b.less("%columns", lanes + 1), lambda: product(1), lambda: product(vectors), [vector] * (rows * vectors))
    places = [b.at("%sums", number * lanes, kind) for number in range(rows * vectors)]

    def added() -> list[str]:
        return [values.add(b, value, values.load(b, at, lanes), lanes) for value, at in zip(sums, places, strict=True)]

    for value, at in zip(b.when("%again", added, lambda: sums, [vector] * len(sums)), places, strict=True):
        values.store(b, value, at, lanes)
    b.finish()


def _write_turn_out(module: Module, shape: Shape) -> None:
    """c[row][n] = from[n][row]."""
    values, lanes, kind = shape.values, shape.lanes, shape.number.kind
    b = Builder(module, "turn_out", arguments(TURN_OUT))
    last = b.sub("%n", 1)

    def square(i: str, j: str) -> None:
        mask = b.mask(lanes, 8 * shape.number.kind_bytes, b.min(b.sub("%n", j), lanes))
        rows = [values.load(b, b.at("%from", b.add(b.mul(b.min(b.add(j, number), last), shape.columns), i), kind), lanes)
                for number in range(lanes)]
        height = b.sub("%rows", i)
        for number, value in enumerate(b.transpose(kind, shape.number.kind_bytes, rows)):
            to = b.at("%c", b.add(b.mul(b.add(i, number), "%c_row"), j), kind)
            existing = b.splat("i1", lanes, b.less(number, height))
            values.store_masked(b, value, to, lanes, b(f"and <{lanes} x i1> {mask}, {existing}"))

    b.loop(0, "%rows", lanes, lambda i: ignore(b.loop(0, "%n", lanes, lambda j: square(i, j))))
    b.finish()


def _write_direct(module: Module, shape: Shape) -> None:
    kind, stored, columns = shape.number.kind, shape.number.stored, shape.columns
    room = _Room(shape)
    b = Builder(module, "direct", arguments(DIRECT))
    word = b.words(WEIGHT_PARAMETERS)
    panel, segments, offsets, sums, copies = [b.at("%work", at, "i8") for at in (
        room.panel, room.segments, room.offsets, room.sums_at, room.copies_at)]
    taps, width = word["taps"], word["counts2"]
    period = b.mul(word["counts1"], width)
    most, line, plane = _geometry(b, shape, word)
    stop = b.add("%first", "%count")
    channels_at_once = even_blocks(b, "%channels", b.min(b.div(room.copies, plane), b.div(room.sums // columns, taps)))

    def table(c: str) -> None:
        def tap(t: str) -> None:
            y, x = b.div(t, word["kernel2"]), b.rem(t, word["kernel2"])
            at = b.add(b.mul(b.mul(y, word["dilation1"]), line), b.mul(x, word["dilation2"]))
            b.store("i64", b.add(b.mul(c, plane), at), b.at(offsets, b.add(b.mul(c, taps), t), "i64"), 8)

        b.loop(0, taps, 1, tap)

    def channels_loop(c0: str) -> None:
        channels = b.min(channels_at_once, b.sub("%channels", c0))
        n = b.mul(channels, taps)
        b.loop(0, channels, 1, table)
        rows_at_once = b.mul(b.div(room.sums // columns, n), columns)
        b.loop(0, "%m", rows_at_once, lambda i0: rows_loop(c0, channels, n, i0, b.min(rows_at_once, b.sub("%m", i0))))

    def rows_loop(c0: str, channels: Operand, n: Operand, i0: str, m: Operand) -> None:
        def image(item: str) -> None:
            origin = b.mul(item, period)
            low = b.select(b.less("%first", origin), origin, "%first")
            high = b.min(stop, b.add(origin, period))
            x = b.at("%x", b.add(b.mul(item, word["x_batch"]), b.mul(c0, word["x_channel"])), stored)
            g = b.at("%g", b.add(b.mul(item, word["g_batch"]), b.mul(i0, word["g_row"])), stored)
            b.loop(low, high, most, lambda p: positions(x, g, channels, n, m, p, b.min(most, b.sub(high, p)), b.sub(p, origin)))

        b.loop(b.div("%first", period), b.add(b.div(b.sub(stop, 1), period), 1), 1, image)

        def out(i: str) -> None:
            rows = b.min(b.sub(m, i), columns)
            c = b.at("%c", b.add(b.mul(b.add(i0, i), word["c_row"]), b.mul(c0, taps)), kind)
            source = b.at(sums, b.mul(i, n), kind)
            if shape.masks:
                b.call("turn_out", *pairs(TURN_OUT, (source, c, word["c_row"], n, rows)))
            else:
                b.call("merge_values", *pairs(MERGE, (source, c, 1, word["c_row"], "null", 0, 0, "false", "false", n, rows,
                                                      columns)))

        b.loop(0, m, columns, out)

    def positions(x: str, g: str, channels: Operand, n: Operand, m: Operand, p: str, k: Operand, inside: Operand) -> None:
        y, x0 = b.div(inside, width), b.rem(inside, width)
        behind = b.add(x0, k)
        count = b.ceil_div(behind, width)

        def segment(s: str) -> None:
            origin = b.mul(s, width)
            begin, end = b.select(b.less(origin, x0), x0, origin), b.min(b.add(origin, width), behind)
            start = b.mul(b.mul(s, word["stride1"]), line)
            entry = b.at(segments, b.mul(s, 2), "i64")
            for place, position in enumerate((begin, end)):
                b.store("i64", b.add(start, b.mul(b.sub(position, origin), word["stride2"])), b.at(entry, place, "i64"), 8)

        b.loop(0, count, 1, segment)
        first_line = b.sub(b.mul(y, word["stride1"]), word["padding1"])
        b.call("copy_lines", *pairs(COPY, (
            "%params", x, first_line, b.sub(0, word["padding2"]), _lines(b, word, count), channels, copies, line, plane)))
        again = b.less("%first", p)
        tiles = b.ceil_div(n, _most_rows(shape))
        high = b.ceil_div(n, tiles)
        full_tiles = b.sub(n, b.mul(tiles, b.sub(high, 1)))

        def row_panel(i: str) -> None:
            rows = b.min(b.sub(m, i), columns)
            source = b.at(g, b.add(b.mul(i, word["g_row"]), inside), stored)
            b.call("pack", *pairs(PACK, (source, word["g_row"], 1, panel, k, rows, columns)))
            target = b.at(sums, b.mul(i, n), kind)

            def tile(number: str, r: str) -> list[Operand]:
                height = b.select(b.less(number, full_tiles), high, b.sub(high, 1))
                function = b.load("ptr", b.at("@taps", height, "ptr"), 8)
                given = pairs(TAPS, (copies, b.at(offsets, r, "i64"), panel, segments, count, word["stride2"],
                                     b.at(target, b.mul(r, columns), kind), rows, again))
                b.do(f"call void {function}({', '.join(f'{kind} {value}' for kind, value in given)})")
                return [b.add(r, height)]

            b.loop(0, tiles, 1, tile, [("i64", 0)])

        b.loop(0, m, columns, row_panel)

    b.loop(0, "%channels", channels_at_once, channels_loop)
    b.finish()
