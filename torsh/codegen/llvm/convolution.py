"""Convolutions as LLVM text: matrix products whose right operand, the windows, is packed right from the input.

The result's positions are the columns. A call may take the positions of several batch items as one row of columns (``fold``),
so that small images fill register tiles; a tile that belongs to two images is computed beside c and then handed out.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from torsh.codegen.llvm.blocks import even_blocks, run_of_blocks
from torsh.codegen.llvm.convolution_direct import (
    BLOCK,
    LOCAL_COLUMNS,
    PUT_RUNS,
    WEIGHTS,
    direct_bytes,
    suits_direct,
    write_direct,
)
from torsh.codegen.llvm.convolution_pairs import join_halves, write_join
from torsh.codegen.llvm.convolution_windows import TAP_BYTES, TAP_TABLE, WEIGHT_PLACE, WINDOWS
from torsh.codegen.llvm.gemm import MERGE, write_merge
from torsh.codegen.llvm.gemm_pack import PACK, write_ask
from torsh.codegen.llvm.gemm_shape import Shape, arguments, pairs, shape_for
from torsh.codegen.llvm.gemm_tiles import TILE, column_masks
from torsh.codegen.llvm.libraries import declare_libraries, packing_library, points_library, tiles_library, windows_library
from torsh.codegen.llvm.template_builder import ENTRY, Builder, Module, Operand, ignore
from torsh.compiler.convolution import ALL_TOGETHER, CONVOLUTION_PARAMETERS, TAPS_TOGETHER, word_count
from torsh.compiler.kernel import TemplateKernel

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

LOCAL_BYTES = 1 << 18    # of a block on the stack, where sums are kept that c cannot hold
_FAR = 1 << 62
PACKED_TILES = 40        # of rows: panels of weights, for the second-level cache
PREFETCHED_CHANNELS = 8
PUT = ("ptr from", "ptr c", "i64 c_row", "i64 m", "i64 n")
PHASE = ("ptr table", "ptr params", "i64 begin", "i64 end", "ptr work", "ptr local")

# A tile of positions from ``start`` on, ``columns`` of a register tile apart, goes to (or is added to) c, which is as above.
HAND_OUT = ("ptr from", "ptr c", "i64 ldc", "i64 period", "i64 c_batch", "i64 start", "i64 width", "i64 rows", "i1 accumulate")


def generate_convolution(dtype_name: str, target: Target, symbol: str) -> str:
    """LLVM text of the convolution template."""
    shape = blocking(dtype_name, target, 5 / 6, 1)     # fewer products in a row are rounded less
    module = Module()
    declare_libraries(module, convolution_libraries(dtype_name, target))
    write_merge(module, shape, "merge_values", shape.values)
    if shape.number.converts:
        write_merge(module, shape, "merge", shape.number)
    if _spreads(shape):
        _write_put_apart(module, shape)
    _write_put_runs(module, shape)
    if shape.word:
        write_join(module, shape)
    _write_pack_weights(module, shape)
    _write_hand_out(module, shape)
    write_ask(module)
    write_direct(module, shape)
    _write_block(module, shape)
    _write_entry(module, shape, symbol)
    return module.render()


def convolution_libraries(dtype_name: str, target: Target) -> dict[str, TemplateKernel]:
    """The libraries of the template."""
    shape = blocking(dtype_name, target, 1, 1)
    return {**common_libraries(shape), "window_functions": windows_library(shape, CONVOLUTION_PARAMETERS)}


def common_libraries(shape: Shape) -> dict[str, TemplateKernel]:
    """The libraries of both templates of convolutions."""
    return {"tiles": tiles_library(shape), "pack": packing_library(replace(shape, paired=False)), "points": points_library(shape)}


def blocking(dtype_name: str, target: Target, depth: float, columns: float) -> Shape:
    """The blocking of matrix products with other panels of b, which cost more to fill here: factors of their sizes."""
    shape = shape_for(dtype_name, target)
    return replace(shape, depth=int(shape.depth * depth) // shape.lanes * shape.lanes,
                   packed_columns=int(shape.packed_columns * columns) // shape.columns * shape.columns)


def channel_blocks(b: Builder, channels: Operand, taps: Operand, most: int) -> tuple[Operand, Operand, Operand, Operand]:
    """How (channel, tap) pairs are cut in blocks of at most ``most``: (channels, taps of a block, blocks of taps, blocks).

    A block has all taps, or one channel.
    """
    tap_block = even_blocks(b, taps, most)
    tap_blocks = b.ceil_div(taps, tap_block)
    fitting = b.div(most, tap_block)
    channel_block = b.select(b.equal(tap_blocks, 1), even_blocks(b, channels, fitting), 1)
    return channel_block, tap_block, tap_blocks, b.mul(tap_blocks, b.ceil_div(channels, channel_block))


def _write_block(module: Module, shape: Shape) -> None:
    """Few panels of windows at a time: each is used for all rows while it is in the first-level cache, where it was written."""
    number, kind, stored = shape.number, shape.number.kind, shape.number.stored
    size = number.kind_bytes
    b = Builder(module, "block", arguments(BLOCK))
    panels_a = b.at("%work", 0, "i8")
    panel_b = b.at("%work", _weights_bytes(shape), "i8")
    scratch = b.stack(shape.rows * shape.columns * size)
    biases = b.stack(shape.rows * shape.columns * size)
    table = b.stack(shape.depth * TAP_BYTES)
    word = b.words(CONVOLUTION_PARAMETERS)
    has_bias = b(f"icmp ne i64 {word['has_bias']}, 0")
    channel_block, tap_block, tap_blocks, blocks = channel_blocks(b, word["channels"], word["taps"], shape.depth)
    columns_at_once = b.mul(b.ceil_div(even_blocks(b, "%n", shape.packed_columns), shape.columns), shape.columns)
    rows_at_once = even_blocks(b, "%m", PACKED_TILES * shape.rows)

    def columns_loop(j0: str) -> None:
        b.loop(0, "%m", rows_at_once, lambda i0: ignore(b.loop(0, blocks, 1, lambda block: depth_loop(j0, i0, block))))

    def depth_loop(j0: str, i0: str, block: str) -> None:
        m = b.min(rows_at_once, b.sub("%m", i0))
        tiles = b.ceil_div(m, shape.rows)
        high = b.ceil_div(m, tiles)                       # tiles have ``high`` rows, the last ones one row less
        full_tiles = b.sub(m, b.mul(tiles, b.sub(high, 1)))
        channel, tap = b.mul(b.div(block, tap_blocks), channel_block), b.mul(b.rem(block, tap_blocks), tap_block)
        channels, taps = b.min(channel_block, b.sub(word["channels"], channel)), b.min(tap_block, b.sub(word["taps"], tap))
        k, begin = b.mul(channels, taps), b.equal(block, 0)
        again = b(f"xor i1 {begin}, true")
        biased = b.both(has_bias, begin)
        x = b.at("%x", b.mul(channel, word["x_channel"]), stored)

        def each_tile(body: Callable[[str, Operand, Operand, str], None]) -> None:
            def step(tile: str, i: str) -> list[Operand]:
                rows = b.select(b.less(tile, full_tiles), high, b.sub(high, 1))
                body(tile, i, rows, b.at(panels_a, b.mul(tile, shape.row_width * shape.depth), kind))
                return [b.add(i, rows)]

            b.loop(0, tiles, 1, step, [("i64", i0)])

        b.call("tap_table", *pairs(TAP_TABLE, ("%params", table, tap, taps)))

        def pack(tile: str, i: Operand, rows: Operand, panel: str) -> None:
            b.call("pack_weights", *pairs(WEIGHTS, (
                "%params", b.at("%w", b.mul(i, word["w_row"]), stored), table, channel, tap, channels, taps, rows, panel,
                shape.row_width)))
            join_halves(b, shape, panel, k, shape.row_width)

        each_tile(pack)

        def column_panel(j: str) -> None:
            start = b.add("%first", j)
            width = b.min(b.sub("%n", j), shape.columns)

            def vector(inside: str) -> None:
                count = b.min(b.sub(width, inside), shape.lanes)
                b.call("windows", *pairs(WINDOWS, ("%params", x, b.add(start, inside), count, b.at(panel_b, inside, kind),
                                                   shape.columns, table, taps, channels)))

            b.loop(0, width, shape.lanes, vector)
            words = join_halves(b, shape, panel_b, k, shape.columns)
            item, inside = b.div(start, "%period"), b.rem(start, "%period")
            c_column = b.at("%c", b.add(b.mul(item, "%c_batch"), inside), kind)
            one = b("icmp sle i64 " + f"{b.add(inside, width)}, %period")
            one = one if shape.masks else b.both(one, b.equal(width, shape.columns))
            each_tile(lambda tile, i, rows, panel: compute(i, rows, panel, words, c_column, one, start, width))

        def compute(i: Operand, rows: Operand, panel: str, k: Operand, c_column: str, one: str, start: Operand, width: Operand
                    ) -> None:
            function = b.load("ptr", b.at("@tiles", rows, "ptr"), 8)
            b.when(biased, lambda: _spread_bias(b, shape, word, biases, i, rows))

            def call(to: str, ldc: Operand, init: str, ldi: Operand, has_init: str) -> None:
                values = (panel, panel_b, shape.columns, to, ldc, init, ldi, has_init, k, width)
                b.do(f"call void {function}({', '.join(f'{x} {y}' for x, y in pairs(TILE, values))})")

            def directly() -> None:
                c = b.at(c_column, b.mul(i, "%ldc"), kind)
                call(c, "%ldc", b.select(begin, biases, c, "ptr"), b.select(begin, shape.columns, "%ldc"),
                     b.select(begin, has_bias, "true", "i1"))

            def beside() -> None:
                call(scratch, shape.columns, biases, shape.columns, biased)
                b.call("hand_out", *pairs(HAND_OUT, (scratch, b.at("%c", b.mul(i, "%ldc"), kind), "%ldc", "%period",
                                                     "%c_batch", start, width, rows, again)))

            b.when(one, directly, beside)

        b.loop(j0, b.min("%n", b.add(j0, columns_at_once)), shape.columns, column_panel)

    b.loop(0, "%n", columns_at_once, columns_loop)
    b.finish()


def _write_pack_weights(module: Module, shape: Shape) -> None:
    """The panel of some rows of weights, whose (channel, tap) pairs may lie anyhow: ``layout`` says how they are walked best."""
    stored, kind, width = shape.number.stored, shape.number.kind, "%width"
    b = Builder(module, "pack_weights", arguments(WEIGHTS))
    word = b.words(CONVOLUTION_PARAMETERS)
    w = b.at("%w", b.mul("%channel", word["w_channel"]), stored)
    taps_first = b.equal(word["layout"], TAPS_TOGETHER)

    def together() -> None:
        source = b.at(w, b.mul("%tap", word["w_tap"]), stored)
        b.call("pack", *pairs(PACK, (source, word["w_row"], word["w_tap"], "%to", b.mul("%channels", "%taps"), "%rows", width)))

    def by_channel(copy: Callable[[str, str], None]) -> None:
        ahead = b.mul(word["w_channel"], PREFETCHED_CHANNELS)

        def channel(number: str) -> None:
            source = b.at(w, b.mul(number, word["w_channel"]), stored)
            following = b.at(source, ahead, stored)      # channels are far apart, often in other pages

            def ask(row: str) -> None:
                b.prefetch(b.at(following, b.mul(row, word["w_row"]), stored))

            b.loop(0, "%rows", 1, ask)
            copy(source, b.at("%to", b.mul(b.mul(number, "%taps"), width), kind))

        b.loop(0, "%channels", 1, channel)

    def neighbours(source: str, to: str) -> None:
        source = b.at(source, b.mul("%tap", word["w_tap"]), stored)
        b.call("pack", *pairs(PACK, (source, word["w_row"], word["w_tap"], to, "%taps", "%rows", width)))

    def scattered(source: str, to: str) -> None:
        def tap(number: str) -> None:
            place = b.load("i64", b.at("%table", b.add(b.mul(number, TAP_BYTES), WEIGHT_PLACE), "i8"), 8)
            start, target = b.at(source, place, stored), b.at(to, b.mul(number, width), kind)

            def row(r: str) -> None:
                value = shape.number.load(b, b.at(start, b.mul(r, word["w_row"]), stored))
                shape.values.store(b, value, b.at(target, r, kind))

            b.loop(0, "%rows", 1, row)

        b.loop(0, "%taps", 1, tap)

    b.when(b.equal(word["layout"], ALL_TOGETHER), together, lambda: ignore(b.when(
        taps_first, lambda: by_channel(neighbours), lambda: by_channel(scattered))))
    b.finish()


def _spread_bias(b: Builder, shape: Shape, word: Mapping[str, str], to: str, i: Operand,
                 rows: Operand) -> None:
    """A tile whose rows hold the biases of ``rows`` rows."""
    number, lanes = shape.number, shape.lanes

    def row(r: str) -> None:
        value = number.load(b, b.at("%bias", b.mul(b.add(i, r), word["bias_stride"]), number.stored))
        vector = b.splat(number.kind, lanes, value)
        for part in range(shape.vectors):
            at = b.at(to, b.add(b.mul(r, shape.columns), part * lanes), number.kind)
            shape.values.store(b, vector, at, lanes)

    b.loop(0, rows, 1, row)


def _write_hand_out(module: Module, shape: Shape) -> None:
    """Write (or add) a tile to the images that it belongs to."""
    values, kind, lanes = shape.values, shape.number.kind, shape.lanes
    b = Builder(module, "hand_out", arguments(HAND_OUT))
    stop = b.add("%start", "%width")

    def image(item: str) -> None:
        origin = b.mul(item, "%period")
        low = b.select(b.less("%start", origin), origin, "%start")
        high = b.min(stop, b.add(origin, "%period"))
        skipped, count = b.sub(low, "%start"), b.sub(high, low)
        source = b.at("%from", skipped, kind)
        c = b.at("%c", b.add(b.mul(item, "%c_batch"), b.sub(low, origin)), kind)
        if not shape.masks:
            b.call("merge_values", *pairs(MERGE, (source, c, "%ldc", 1, "null", 0, 0, "false", "%accumulate", "%rows", count,
                                                  shape.columns)))
            return
        masks = column_masks(b, shape, shape.vectors, count)

        def row(i: str) -> None:
            for part, mask in enumerate(masks):
                at = b.at(c, b.add(b.mul(i, "%ldc"), part * lanes), kind)
                value = values.load_masked(b, b.at(source, b.add(b.mul(i, shape.columns), part * lanes), kind), lanes, mask)
                old = b.when("%accumulate", partial(_old, b, shape, at, mask), lambda: ["zeroinitializer"],
                             [values.vector(lanes)])
                values.store_masked(b, values.add(b, value, old[0], lanes), at, lanes, mask)

        b.loop(0, "%rows", 1, row)

    b.loop(b.div("%start", "%period"), b.add(b.div(b.sub(stop, 1), "%period"), 1), 1, image)
    b.finish()


def _old(b: Builder, shape: Shape, at: str, mask: str) -> list[str]:
    return [shape.values.load_masked(b, at, shape.lanes, mask)]


def _spreads(shape: Shape) -> bool:
    """Can vectors be stored to every second element?"""
    return shape.masks and shape.number.is_float


def _write_put_runs(module: Module, shape: Shape) -> None:
    """Round runs of positions of a block and put them where they belong."""
    number, stored, kind = shape.number, shape.number.stored, shape.number.kind
    b = Builder(module, "put_runs", arguments(PUT_RUNS))
    word = b.words(CONVOLUTION_PARAMETERS)
    stop = b.add("%start", "%n")
    period = b.mul(word["counts0"], b.mul(word["counts1"], word["counts2"]))
    runs = b.div(period, word["c_run"])      # of an image

    def run(position: str) -> None:
        origin = b.mul(position, word["c_run"])
        low = b.select(b.less("%start", origin), origin, "%start")
        high = b.min(stop, b.add(origin, word["c_run"]))
        item, line = b.div(position, runs), b.rem(position, runs)
        plane, line = b.div(line, word["counts1"]), b.rem(line, word["counts1"])
        offset = b.add(b.mul(plane, word["c_strides0"]), b.mul(line, word["c_strides1"]))
        offset = b.add(b.mul(item, word["c_batch"]), offset)
        c = b.at("%c", b.add(offset, b.mul(b.sub(low, origin), word["c_strides2"])), stored)
        source, step, count = b.at("%from", b.sub(low, "%start"), kind), word["c_strides2"], b.sub(high, low)

        def put() -> None:
            b.call("merge" if number.converts else "merge_values", *pairs(MERGE, (
                source, c, word["c_row"], step, "null", 0, 0, "false", "false", "%m", count, LOCAL_COLUMNS)))

        if not _spreads(shape):
            put()
            return
        b.when(b.equal(step, 2), lambda: b.call("put_apart", *pairs(PUT, (source, c, word["c_row"], "%m", count))), put)

    b.loop(b.div("%start", word["c_run"]), b.add(b.div(b.sub(stop, 1), word["c_run"]), 1), 1, run)
    b.finish()


def _write_put_apart(module: Module, shape: Shape) -> None:
    """Rows of a block on the stack to every second element of c."""
    number, stored, lanes = shape.number, shape.number.stored, shape.lanes
    bits = 8 * number.stored_bytes
    half = lanes // 2
    b = Builder(module, "put_apart", arguments(PUT))
    even = "<" + ", ".join(f"i1 {(lane + 1) % 2}" for lane in range(lanes)) + ">"

    def vector(j: str) -> None:
        parts = []
        for part in range(2):
            count = b.sub(b.sub("%n", j), part * half)
            count = b.min(b.select(b.less(count, 0), 0, count), half)
            parts.append(b(f"and <{lanes} x i1> {b.mask(lanes, bits, b.mul(count, 2))}, {even}"))
        there = b.mask(lanes, 8 * number.kind_bytes, b.min(b.sub("%n", j), lanes))

        def row(i: str) -> None:
            at = b.at("%from", b.add(b.mul(i, LOCAL_COLUMNS), j), number.kind)
            value = number.raw(b, shape.values.load_masked(b, at, lanes, there), lanes)
            c = b.at("%c", b.add(b.mul(i, "%c_row"), b.mul(j, 2)), stored)
            for part, mask in enumerate(parts):
                wide = b.shuffle(stored, lanes, value, value, [part * half + lane // 2 for lane in range(lanes)])
                b.masked_store(stored, lanes, wide, b.at(c, part * lanes, stored), mask)

        b.loop(0, "%m", 1, row)

    b.loop(0, "%n", lanes, vector)
    b.finish()


def _weights_bytes(shape: Shape) -> int:
    """Of panels of weights: packing channel by channel writes up to a vector more than there is."""
    return shape.row_width * (PACKED_TILES * shape.depth + shape.lanes) * shape.number.kind_bytes


def _write_entry(module: Module, shape: Shape, symbol: str) -> None:
    """The kernel. Parameters: the number of phases, then a block of parameters for each, with units of its own."""
    size = shape.number.kind_bytes
    _write_phase(module, shape)
    b = Builder(module, symbol, ENTRY, internal=False)
    work = b.stack(max(_weights_bytes(shape) + shape.columns * shape.depth * size + 64, direct_bytes(shape)))
    local = b.stack(LOCAL_BYTES)
    count = b.load("i64", "%params", 8)

    def phase(number: str) -> None:
        words = b.at("%params", b.add(b.mul(number, word_count(CONVOLUTION_PARAMETERS)), 1), "i64")
        first, units = b.load("i64", words, 8), b.load("i64", b.at(words, 1, "i64"), 8)
        begin = b.sub("%begin", first)
        begin = b.select(b.less(begin, 0), 0, begin)
        b.call("phase", *pairs(PHASE, ("%table", words, begin, b.min(b.sub("%end", first), units), work, local)))

    b.loop(0, count, 1, phase)
    b.finish()


def _write_phase(module: Module, shape: Shape) -> None:
    """Units of one phase: (images and group, column block, row block), row blocks fastest."""
    number, stored = shape.number, shape.number.stored
    b = Builder(module, "phase", arguments(PHASE))
    word = b.words(CONVOLUTION_PARAMETERS)
    starts = {name: b.buffer(word[f"{name}_slot"], word[f"{name}_offset"]) for name in ("c", "w", "x", "bias")}
    period = b.mul(word["counts0"], b.mul(word["counts1"], word["counts2"]))
    columns_of_item = b.mul(word["fold"], period)
    row_blocks, column_blocks = b.ceil_div(word["rows"], word["m_block"]), b.ceil_div(columns_of_item, word["n_block"])

    direct = suits_direct(b, shape, word)
    function = b.select(direct, "@direct", "@block", "ptr")

    def units(unit: str) -> list[Operand]:
        item, row, column, rows, blocks = run_of_blocks(b, unit, row_blocks, column_blocks)
        group, batch = b.rem(item, word["groups"]), b.mul(b.div(item, word["groups"]), word["fold"])
        i0, j0 = b.mul(row, word["m_block"]), b.mul(column, word["n_block"])
        m = b.min(b.sub(word["rows"], i0), b.mul(rows, word["m_block"]))
        n = b.min(b.sub(columns_of_item, j0), b.mul(blocks, word["n_block"]))
        offsets = {"c": b.add(b.mul(batch, word["c_batch"]), b.add(b.mul(group, word["c_group"]), b.mul(i0, word["c_row"]))),
                   "x": b.add(b.mul(batch, word["x_batch"]), b.mul(group, word["x_group"])),
                   "w": b.add(b.mul(group, word["w_group"]), b.mul(i0, word["w_row"])),
                   "bias": b.mul(b.add(b.mul(group, word["rows"]), i0), word["bias_stride"])}
        at = {name: b.at(starts[name], offset, stored) for name, offset in offsets.items()}

        def directly() -> None:
            _call_block(b, function, ("%params", at["w"], at["x"], at["c"], word["c_row"], period, word["c_batch"], at["bias"], m,
                                      j0, n, "%work"))

        def in_pieces() -> None:
            high = even_blocks(b, m, LOCAL_BYTES // (LOCAL_COLUMNS * number.kind_bytes))

            def columns(j: str) -> None:
                width = b.min(b.sub(n, j), LOCAL_COLUMNS)
                b.loop(0, m, high, lambda i: _piece(b, shape, word, function, at, i, b.add(j0, j), b.min(b.sub(m, i), high),
                                                   width))

            b.loop(0, n, LOCAL_COLUMNS, columns)

        if number.converts:
            b.when(direct, directly, in_pieces)
        else:
            whole = b.both(b.equal(word["c_run"], period), b.equal(word["c_strides2"], 1))
            b.when(whole, directly, in_pieces)
        return [b.add(unit, b.mul(rows, blocks))]

    b.advance("%begin", "%end", units)
    b.finish()


def _call_block(b: Builder, function: str, given: Sequence[Operand]) -> None:
    b.do(f"call void {function}({', '.join(f'{kind} {value}' for kind, value in pairs(BLOCK, given))})")


def _piece(b: Builder, shape: Shape, word: Mapping[str, str], function: str, at: Mapping[str, str], i: Operand,
           start: Operand, m: Operand, n: Operand) -> None:
    """A block computed on the stack, whose runs of positions are then rounded and put where they belong."""
    stored, kind = shape.number.stored, shape.number.kind
    w, bias = b.at(at["w"], b.mul(i, word["w_row"]), stored), b.at(at["bias"], b.mul(i, word["bias_stride"]), stored)
    shifted = b.at("%local", b.sub(0, start), kind)
    _call_block(b, function, ("%params", w, at["x"], shifted, LOCAL_COLUMNS, _FAR, 0, bias, m, start, n, "%work"))
    c = b.at(at["c"], b.mul(i, word["c_row"]), stored)
    b.call("put_runs", *pairs(PUT_RUNS, ("%params", "%local", c, m, start, n)))
