"""Gradients of convolutions' weights without packed windows, for planes whose lines are long enough.

Lines of the input are copied with their padding; the elements that one element of the kernel meets then lie a fixed distance
from each other, and register tiles read them one by one, as factors of whole vectors of the gradient. What is packed is the
gradient alone, (channels * kernel) times less than windows. Sums, [(channel, tap)][row], are turned at the end.

Where the target has pairs, those are of positions in as many lines each, one below the other: the lines are copied as pairs.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Final

from torsh.codegen.llvm.convolution import even_blocks
from torsh.codegen.llvm.convolution_lines import COPY, COPY_PAIRS, FAR, apart, in_plane, line_length
from torsh.codegen.llvm.convolution_pairs import JOIN
from torsh.codegen.llvm.convolution_tiles import POINTS, TURN_OUT, most_rows
from torsh.codegen.llvm.gemm import MERGE
from torsh.codegen.llvm.gemm_pack import PACK
from torsh.codegen.llvm.gemm_shape import Shape, arguments, pairs
from torsh.codegen.llvm.template_builder import Builder, Module, Operand
from torsh.compiler.convolution import WEIGHT_PARAMETERS

SHORTEST_LINE: Final = 12
DIRECT = ("ptr params", "ptr g", "ptr x", "ptr c", "i64 m", "i64 channels", "i64 first", "i64 count", "ptr work")


class _Room:
    """How the work memory is cut; in elements or (places) bytes."""

    def __init__(self, shape: Shape) -> None:
        size = shape.number.kind_bytes
        whole = shape.packed_columns * shape.depth
        self.sums, self.copies = whole * 9 // 16 // shape.columns * shape.columns, whole // 4
        self.panel = 0
        self.places = (shape.depth * (2 if shape.word else 1) + shape.lanes) * shape.columns * size
        self.offsets = self.places + (shape.depth + 1) * 8
        self.sums_at = -(-(self.offsets + self.sums // shape.columns * 8) // 64) * 64
        self.copies_at = self.sums_at + self.sums * size
        self.end = self.copies_at + self.copies * size


def direct_bytes(shape: Shape) -> int:
    """Memory that is worked in."""
    return _Room(shape).end


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


def write_direct(module: Module, shape: Shape) -> None:
    """The function ``direct``, for calls for which :func:`suits_direct` holds."""
    kind, stored, columns = shape.number.kind, shape.number.stored, shape.columns
    room = _Room(shape)
    b = Builder(module, "direct", arguments(DIRECT))
    zeros = b.stack(columns * shape.number.kind_bytes)
    word = b.words(WEIGHT_PARAMETERS)
    b.loop(0, columns, 1, lambda column: shape.values.store(b, shape.values.zero, b.at(zeros, column, kind)))
    panel, places, offsets, sums, copies = [b.at("%work", at, "i8") for at in (
        room.panel, room.places, room.offsets, room.sums_at, room.copies_at)]
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
            if shape.word:
                pairs_of_lines(low, high, origin, lambda p, k, second: positions(x, g, channels, n, m, p, k, b.sub(p, origin), second))
            else:
                b.loop(low, high, most,
                       lambda p: positions(x, g, channels, n, m, p, b.min(most, b.sub(high, p)), b.sub(p, origin), 0))

        b.loop(b.div("%first", period), b.add(b.div(b.sub(stop, 1), period), 1), 1, image)

        def out(i: str) -> None:
            rows = b.min(b.sub(m, i), columns)
            c = b.at("%c", b.add(b.mul(b.add(i0, i), word["c_row"]), b.mul(c0, taps)), kind)
            source = b.at(sums, b.mul(i, n), kind)
            if shape.masks:
                b.call("turn_out", *pairs(TURN_OUT, (source, c, word["c_row"], n, rows, zeros)))
            else:
                b.call("merge_values", *pairs(MERGE, (source, c, 1, word["c_row"], "null", 0, 0, "false", "false", n, rows,
                                                      columns)))

        b.loop(0, m, columns, out)

    def pairs_of_lines(low: Operand, high: Operand, origin: Operand, body: Callable[[str, Operand, Operand], None]) -> None:
        """Blocks of k positions and as many ``second`` ones, which follow; in front and behind, where lines are not whole, none."""
        start = b.rem(b.sub(low, origin), width)
        total = b.sub(high, low)
        head = b.select(b.equal(start, 0), 0, b.min(total, b.sub(width, start)))
        in_block = b.div(shape.depth, width)
        lines = b.select(b.equal(in_block, 0), 0, b.div(b.sub(total, head), b.mul(width, 2)))      # of either half
        blocks = b.ceil_div(lines, b.select(b.equal(in_block, 0), 1, in_block))
        rest = b.add(low, b.add(head, b.mul(b.mul(lines, 2), width)))
        of_head, at_once = b.ceil_div(head, shape.depth), b.ceil_div(lines, b.select(b.equal(blocks, 0), 1, blocks))
        pairs_end = b.add(of_head, blocks)
        head_end = b.add(low, head)

        def block(number: str, p: str) -> list[Operand]:
            is_head, before_rest = b.less(number, of_head), b.less(number, pairs_end)
            is_pair = b(f"xor i1 {is_head}, {before_rest}")
            half = b.min(b.mul(at_once, width), b.div(b.sub(rest, p), 2))
            stop = b.select(is_head, head_end, high)
            k = b.select(is_pair, half, b.min(b.sub(stop, p), shape.depth))
            second = b.select(is_pair, k, 0)
            body(p, k, second)
            return [b.add(p, b.add(k, second))]

        b.loop(0, b.add(pairs_end, b.ceil_div(b.sub(high, rest), shape.depth)), 1, block, [("i64", low)])

    def positions(x: str, g: str, channels: Operand, n: Operand, m: Operand, p: str, k: Operand, inside: Operand,
                  second: Operand) -> None:
        y, x0 = b.div(inside, width), b.rem(inside, width)
        count = b.ceil_div(b.add(x0, k), width)

        def place(position: str) -> None:
            at = b.add(x0, position)
            at = b.add(b.mul(b.mul(b.div(at, width), word["stride1"]), line), b.mul(b.rem(at, width), word["stride2"]))
            b.store("i64", at, b.at(places, position, "i64"), 8)

        b.loop(0, k, 1, place)
        first_line = b.sub(b.mul(y, word["stride1"]), word["padding1"])
        given = ("%params", x, first_line, b.sub(0, word["padding2"]), _lines(b, word, count), channels, copies, line, plane)
        if shape.word:
            is_pair = b.less(0, second)
            below = b.select(is_pair, b.mul(b.div(second, width), word["stride1"]), 0)
            b.call("copy_lines", *pairs(COPY_PAIRS, (*given, b.mul(below, word["x_strides1"]), b.select(is_pair, below, FAR), 0, 0)))
        else:
            b.call("copy_lines", *pairs(COPY, given))
        again = b.less("%first", p)
        tiles = b.ceil_div(n, most_rows(shape))
        high = b.ceil_div(n, tiles)
        full_tiles = b.sub(n, b.mul(tiles, b.sub(high, 1)))

        def row_panel(i: str) -> None:
            rows = b.min(b.sub(m, i), columns)
            source = b.at(g, b.add(b.mul(i, word["g_row"]), inside), stored)
            b.call("pack", *pairs(PACK, (source, word["g_row"], 1, panel, b.add(k, second), rows, columns)))
            if shape.word:
                b.call("join", *pairs(JOIN, (panel, 1, k, panel, k, second, columns)))
            target = b.at(sums, b.mul(i, n), kind)

            def tile(number: str, r: str) -> list[Operand]:
                height = b.select(b.less(number, full_tiles), high, b.sub(high, 1))
                function = b.load("ptr", b.at("@points", height, "ptr"), 8)
                given = pairs(POINTS, (copies, b.at(offsets, r, "i64"), places, panel, k,
                                       b.at(target, b.mul(r, columns), kind), rows, again))
                b.do(f"call void {function}({', '.join(f'{kind} {value}' for kind, value in given)})")
                return [b.add(r, height)]

            b.loop(0, tiles, 1, tile, [("i64", 0)])

        b.loop(0, m, columns, row_panel)

    b.loop(0, "%channels", channels_at_once, channels_loop)
    b.finish()
