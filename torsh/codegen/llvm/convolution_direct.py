"""Convolutions without packed windows: register tiles of some positions times whole vectors of outputs.

Lines of the input are copied with their padding, some channels at a time; an element of the kernel then meets the elements of
neighbouring windows at fixed distances, and tiles read them one by one, as factors of vectors of weights. What is packed are
the weights, once for many positions. Sums, [position][output], are turned at the end.
"""
from __future__ import annotations

from typing import Final

from torsh.codegen.llvm.blocks import even_blocks
from torsh.codegen.llvm.convolution_lines import COPY, COPY_PAIRS, apart, in_plane, line_length, reach
from torsh.codegen.llvm.convolution_pairs import JOIN
from torsh.codegen.llvm.convolution_tiles import POINTS, TURN_OUT, most_rows
from torsh.codegen.llvm.convolution_windows import TAP_BYTES, TAP_TABLE
from torsh.codegen.llvm.gemm import MERGE
from torsh.codegen.llvm.gemm_pack import asking
from torsh.codegen.llvm.gemm_shape import Shape, arguments, pairs
from torsh.codegen.llvm.template_builder import Builder, Module, Operand
from torsh.compiler.convolution import ALL_TOGETHER, CONVOLUTION_PARAMETERS

MOST_POSITIONS: Final = 1024
FEW_POSITIONS: Final = 192   # where lines of more would not fit
SUMS_BYTES: Final = 288 << 10
COPIES_BYTES: Final = 128 << 10
LOCAL_COLUMNS: Final = 256     # of a block that is converted, or put where it belongs run by run
LEAST_PRODUCTS: Final = 24   # per position and output
WEIGHTS = ("ptr params", "ptr w", "ptr table", "i64 channel", "i64 tap", "i64 channels", "i64 taps", "i64 rows", "ptr to",
           "i64 width")
# c[m, positions] = w @ windows (+ bias): the positions ``first`` to ``first + n``. c: of the computing type, at row 0 and
# position 0; images of ``period`` positions lie ``c_batch`` apart. Where types are converted, ``direct`` puts the sums where the
# call wants them itself.
BLOCK = ("ptr params", "ptr w", "ptr x", "ptr c", "i64 ldc", "i64 period", "i64 c_batch", "ptr bias", "i64 m", "i64 first",
         "i64 n", "ptr work")


# Positions ``start`` to ``start + n`` of rows that lie LOCAL_COLUMNS apart go where the call wants them; c: at position 0.
PUT_RUNS = ("ptr params", "ptr from", "ptr c", "i64 m", "i64 start", "i64 n")


class _Room:
    """How the work memory is cut; in elements or (places) bytes."""

    def __init__(self, shape: Shape) -> None:
        size = shape.number.kind_bytes
        self.sums, self.copies = SUMS_BYTES // size, COPIES_BYTES // size
        rows = shape.depth * (2 if shape.word else 1) + shape.lanes       # before they are joined to words
        self.starts = -(-rows * shape.columns * size // 64) * 64
        self.places = self.starts + 8 * MOST_POSITIONS
        self.sums_at = -(-(self.places + 8 * (shape.depth + 1)) // 64) * 64
        self.copies_at = self.sums_at + self.sums * size
        self.turned_at = self.copies_at + self.copies * size
        self.end = self.turned_at + (shape.columns * LOCAL_COLUMNS * size if shape.number.converts else 0)


def direct_bytes(shape: Shape) -> int:
    """Memory that is worked in."""
    return _Room(shape).end


def _plane(b: Builder, shape: Shape, word: dict[str, str], positions: Operand) -> Operand:
    """Elements of a channel's lines that so many positions need."""
    period = b.mul(word["counts1"], word["counts2"])
    lines = b.mul(b.add(b.div(b.sub(positions, 1), word["counts2"]), 2), word["stride1"])
    images = b.add(b.div(b.sub(positions, 1), period), 2)
    lines = b.add(lines, b.mul(images, b.add(reach(b, word, 1)[0], 1)))
    return apart(b, shape, b.mul(line_length(b, shape, word), lines))


def _least_planes(shape: Shape) -> int:
    """Planes that one channel may need."""
    return 2 if shape.word else 1


def suits_direct(b: Builder, shape: Shape, word: dict[str, str]) -> str:
    """Is the input a plane in a usual layout, do its lines fit, and are vectors of outputs filled well?"""
    room, rows = _Room(shape), word["rows"]
    whole = b.mul(b.ceil_div(rows, shape.lanes), shape.lanes)
    # Windows are no smaller where tiles are faster.
    filled = b.less(whole, b.add(b.mul(rows, 2), 1)) if shape.word else b.less(b.mul(whole, 3), b.add(b.mul(rows, 4), 1))
    some = b.less(LEAST_PRODUCTS, b.mul(word["channels"], word["taps"]))
    fits = b.less(_plane(b, shape, word, FEW_POSITIONS), room.copies // _least_planes(shape) + 1)
    return b.both(in_plane(b, word), filled, some, fits, b.less(1, word["taps"]), b.less(word["taps"], shape.depth + 1))


def write_direct(module: Module, shape: Shape) -> None:
    """The function ``direct``, for calls for which :func:`suits_direct` holds."""
    kind, stored, columns = shape.number.kind, shape.number.stored, shape.columns
    room = _Room(shape)
    b = Builder(module, "direct", arguments(BLOCK))
    table = b.stack(shape.depth * TAP_BYTES)
    biases = b.stack(columns * shape.number.kind_bytes)
    word = b.words(CONVOLUTION_PARAMETERS)
    panel, starts, places, sums, copies, turned = [b.at("%work", at, "i8") for at in (
        0, room.starts, room.places, room.sums_at, room.copies_at, room.turned_at)]
    taps, width, line = word["taps"], word["counts2"], line_length(b, shape, word)
    period = b.mul(word["counts1"], width)
    (reach_y, first_y), (_, first_x) = reach(b, word, 1), reach(b, word, 2)
    has_bias = b(f"icmp ne i64 {word['has_bias']}, 0")
    fits = b.less(_plane(b, shape, word, MOST_POSITIONS), room.copies // _least_planes(shape) + 1)
    most = b.select(fits, MOST_POSITIONS, FEW_POSITIONS)
    positions_at_once = even_blocks(b, "%n", most)
    plane = _plane(b, shape, word, positions_at_once)
    # Where there are words, two channels at a time are one plane of words. What is left at the end is a channel with two.
    of_plane, left = (2, b.rem(word["channels"], 2)) if shape.word else (1, 0)
    planes = b.ceil_div(word["channels"], of_plane)
    planes_at_once = b.min(even_blocks(b, planes, b.div(shape.depth, taps)), b.sub(b.div(room.copies, plane), left))
    channels_at_once = b.mul(planes_at_once, of_plane)
    panels = b.ceil_div("%m", columns)
    panels_at_once = even_blocks(b, panels, b.div(room.sums, b.mul(positions_at_once, columns)))
    rows_at_once = b.mul(panels_at_once, columns)
    b.call("tap_table", *pairs(TAP_TABLE, ("%params", table, 0, taps)))

    def place(c: Operand, t: str) -> None:
        y, x = b.div(t, word["kernel2"]), b.rem(t, word["kernel2"])
        y, x = b.sub(b.mul(y, word["dilation1"]), first_y), b.sub(b.mul(x, word["dilation2"]), first_x)
        at = b.add(b.mul(c, plane), b.add(b.mul(y, line), x))
        b.store("i64", at, b.at(places, b.add(b.mul(c, taps), t), "i64"), 8)

    def place_channel(c: Operand) -> None:
        b.loop(0, taps, 1, lambda t: place(c, t))

    b.loop(0, planes_at_once, 1, place_channel)

    def odd_places(channel: Operand) -> None:
        """Neighbouring elements of the kernel, of a channel which has no other one; the last one of an odd number has none."""
        half = b.ceil_div(word["kernel2"], 2)

        def one(number: str) -> None:
            y, x = b.div(number, half), b.mul(b.rem(number, half), 2)
            is_last = b.equal(b.add(x, 1), word["kernel2"])
            y, x = b.sub(b.mul(y, word["dilation1"]), first_y), b.sub(b.mul(x, word["dilation2"]), first_x)
            at = b.add(b.mul(b.add(channel, b.select(is_last, 1, 0)), plane), b.add(b.mul(y, line), x))
            b.store("i64", at, b.at(places, b.add(b.mul(channel, taps), number), "i64"), 8)

        b.loop(0, b.mul(word["kernel1"], half), 1, one)

    def each_image(begin: Operand, end: Operand, body: object) -> None:
        """body(item, its first and last line, lines in front of them) for the images of these positions."""
        def image(item: str, before: str) -> list[Operand]:
            origin = b.mul(item, period)
            low = b.select(b.less(begin, origin), origin, begin)
            high = b.min(end, b.add(origin, period))
            top, bottom = b.div(b.sub(low, origin), width), b.div(b.sub(b.sub(high, 1), origin), width)
            lines = b.add(b.add(b.mul(b.sub(bottom, top), word["stride1"]), reach_y), 1)
            body(item, origin, low, high, top, lines, before)  # type: ignore[operator]
            return [b.add(before, lines)]

        b.loop(b.div(begin, period), b.add(b.div(b.sub(end, 1), period), 1), 1, image, [("i64", 0)])

    def positions_loop(j: str) -> None:
        begin = b.add("%first", j)
        n = b.min(positions_at_once, b.sub("%n", j))
        end = b.add(begin, n)

        def list_starts(item: str, origin: Operand, low: Operand, high: Operand, top: Operand, lines: Operand, before: str
                        ) -> None:
            def start(p: str) -> None:
                inside = b.sub(p, origin)
                y = b.add(b.mul(b.sub(b.div(inside, width), top), word["stride1"]), before)
                at = b.add(b.mul(y, line), b.mul(b.rem(inside, width), word["stride2"]))
                b.store("i64", at, b.at(starts, b.sub(p, begin), "i64"), 8)

            b.loop(low, high, 1, start)

        each_image(begin, end, list_starts)
        b.loop(0, "%m", rows_at_once, lambda i0: rows_loop(begin, end, n, i0))

    def rows_loop(begin: Operand, end: Operand, n: Operand, i0: str) -> None:
        m = b.min(rows_at_once, b.sub("%m", i0))
        b.loop(0, word["channels"], channels_at_once, lambda c0: channels_loop(begin, end, n, i0, m, c0))

        def bias(row: Operand, number: str, exists: str) -> None:
            at = b.at("%bias", b.mul(row, word["bias_stride"]), stored)
            value = b.when(exists, lambda: [shape.number.load(b, at)], lambda: [shape.values.zero], [kind])[0]
            shape.values.store(b, value, b.at(biases, number, kind))

        def put(i: str) -> None:
            rows, row = b.min(b.sub(m, i), columns), b.add(i0, i)
            source = b.at(sums, b.mul(i, n), kind)
            to = b.at("%c", b.mul(row, "%ldc"), stored)
            b.loop(0, columns, 1, lambda number: bias(b.add(row, number), number, b.both(has_bias, b.less(number, rows))))

            def turn(from_: str, c: str, ldc: Operand, count: Operand) -> None:
                if shape.masks:
                    b.call("turn_out", *pairs(TURN_OUT, (from_, c, ldc, count, rows, biases)))
                else:
                    b.call("merge_values", *pairs(MERGE, (from_, c, 1, ldc, biases, 0, 1, "true", "false", count, rows, columns)))

            def image(item: str) -> None:
                origin = b.mul(item, "%period")
                low = b.select(b.less(begin, origin), origin, begin)
                count = b.sub(b.min(end, b.add(origin, "%period")), low)
                at = b.add(b.mul(item, "%c_batch"), b.sub(low, origin))
                turn(b.at(source, b.mul(b.sub(low, begin), columns), kind), b.at(to, at, kind), "%ldc", count)

            def some(p: str) -> None:
                count = b.min(b.sub(n, p), LOCAL_COLUMNS)
                turn(b.at(source, b.mul(p, columns), kind), turned, LOCAL_COLUMNS, count)
                b.call("put_runs", *pairs(PUT_RUNS, ("%params", turned, to, rows, b.add(begin, p), count)))

            if shape.number.converts:
                b.loop(0, n, LOCAL_COLUMNS, some)
                return
            b.loop(b.div(begin, "%period"), b.add(b.div(b.sub(end, 1), "%period"), 1), 1, image)

        b.loop(0, m, columns, put)

    def channels_loop(begin: Operand, end: Operand, n: Operand, i0: str, m: Operand, c0: str) -> None:
        channels = b.min(channels_at_once, b.sub(word["channels"], c0))
        whole, odd = b.div(channels, of_plane), b.rem(channels, of_plane)
        k, odd_k = b.mul(whole, taps), b.mul(odd, b.mul(word["kernel1"], b.ceil_div(word["kernel2"], 2)))
        is_odd = b.less(0, odd)
        if shape.word:
            b.when(is_odd, lambda: odd_places(whole))

        def copy(item: str, origin: Operand, low: Operand, high: Operand, top: Operand, lines: Operand, before: str) -> None:
            x = b.at("%x", b.add(b.mul(item, word["x_batch"]), b.mul(c0, word["x_channel"])), stored)
            y = b.add(b.sub(b.mul(top, word["stride1"]), word["padding1"]), first_y)
            given = ("%params", x, y, b.sub(first_x, word["padding2"]), lines, b.div(channels, of_plane),
                     b.at(copies, b.mul(before, line), kind), line, plane)
            if shape.word:
                others = (b.mul(whole, word["x_channel"]), 0, b.mul(odd, 2), word["dilation2"])
                b.call("copy_lines", *pairs(COPY_PAIRS, given + others))
            else:
                b.call("copy_lines", *pairs(COPY, given))

        each_image(begin, end, copy)
        tiles = b.ceil_div(n, most_rows(shape))
        high = b.ceil_div(n, tiles)
        full_tiles = b.sub(n, b.mul(tiles, b.sub(high, 1)))

        dense = b.both(b.equal(word["layout"], ALL_TOGETHER), b.equal(word["w_tap"], 1))
        row_bytes, run = (b.mul(x, shape.number.stored_bytes) for x in (word["w_row"], b.mul(channels, taps)))

        def row_panel(i: str) -> None:
            rows = b.min(b.sub(m, i), columns)
            w = b.at("%w", b.mul(b.add(i0, i), word["w_row"]), stored)
            b.call("pack_weights", *pairs(WEIGHTS, ("%params", w, table, c0, 0, channels, taps, rows, panel, columns)))
            if shape.word:
                b.call("join", *pairs(JOIN, (panel, 1, k, panel, k, k, columns)))
                b.when(is_odd, lambda: _join_taps(b, word, panel, columns, k))
            target = b.at(sums, b.mul(i, n), kind)
            # The next panel's weights are asked for, some rows in front of each tile.
            following = b.at(w, b.add(b.mul(columns, word["w_row"]), b.mul(c0, taps)), stored)
            ask = asking(b, dense, following, row_bytes, run, b.sub(b.sub(m, i), columns), columns, tiles)

            def tile(place: str, p: str) -> list[Operand]:
                height = b.select(b.less(place, full_tiles), high, b.sub(high, 1))
                ask(place)
                function = b.load("ptr", b.at("@points", height, "ptr"), 8)
                given = pairs(POINTS, (copies, b.at(starts, p, "i64"), places, panel, b.add(k, odd_k),
                                       b.at(target, b.mul(p, columns), kind), rows, b.less(0, c0)))
                b.do(f"call void {function}({', '.join(f'{kind} {value}' for kind, value in given)})")
                return [b.add(p, height)]

            b.loop(0, tiles, 1, tile, [("i64", 0)])

        b.loop(0, m, columns, row_panel)
        if shape.word:
            b.when(is_odd, lambda: place_channel(whole))

    b.loop(0, "%n", positions_at_once, positions_loop)
    b.finish()


def _join_taps(b: Builder, word: dict[str, str], panel: str, columns: int, k: Operand) -> None:
    """Join the rows of neighbouring elements of the kernel of the last channel, behind k joined rows."""
    half, along = b.ceil_div(word["kernel2"], 2), word["kernel2"]

    def line(y: str) -> None:
        source = b.at(panel, b.mul(b.add(b.mul(k, 2), b.mul(y, along)), columns), "i32")
        to = b.at(panel, b.mul(b.add(k, b.mul(y, half)), columns), "i32")
        b.call("join", *pairs(JOIN, (source, 2, 1, to, half, b.div(along, 2), columns)))

    b.loop(0, word["kernel1"], 1, line)
