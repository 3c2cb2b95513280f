"""Gradients of convolutions' weights as LLVM text: products summed over all positions of all batch items.

Rows are those of the result's gradient, columns (channel, tap) pairs. Windows are gathered along positions, as in the forward
product, into a strip of one vector of positions, whose transpose goes to the panel.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from torsh.codegen.llvm.blocks import even_blocks, run_of_blocks
from torsh.codegen.llvm.convolution import blocking, common_libraries
from torsh.codegen.llvm.convolution_pairs import join_halves, write_join
from torsh.codegen.llvm.convolution_weight_direct import DIRECT, direct_bytes, suits_direct, write_direct
from torsh.codegen.llvm.convolution_windows import TAP_BYTES, TAP_TABLE, WINDOWS
from torsh.codegen.llvm.gemm import MERGE, write_merge
from torsh.codegen.llvm.gemm_pack import LARGEST_SQUARE, PACK
from torsh.codegen.llvm.gemm_shape import Shape, arguments, pairs
from torsh.codegen.llvm.gemm_tiles import TILE
from torsh.codegen.llvm.libraries import declare_libraries, windows_library
from torsh.codegen.llvm.template_builder import ENTRY, Builder, Module, Operand, ignore
from torsh.compiler.convolution import WEIGHT_PARAMETERS
from torsh.compiler.kernel import TemplateKernel
from torsh.ops.convolution_primitives import MOST_TAPS

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

TURN = ("ptr from", "i64 rows", "ptr to", "i64 width")
STRIP = ("ptr params", "ptr x", "i64 position", "i64 k", "i64 channels", "ptr table", "ptr strip", "ptr panels")
# c[m, (channel, tap)] = the sum over positions ``first`` to ``first + count`` of g[m, position] times windows.
BLOCK = ("ptr params", "ptr g", "ptr x", "ptr c", "i64 m", "i64 channels", "i64 first", "i64 count", "ptr work")


def generate_convolution_weight(dtype_name: str, target: Target, symbol: str) -> str:
    """LLVM text of the template. Its result is of the type that is summed in."""
    shape = blocking(dtype_name, target, 1, 5 / 4)
    module = Module()
    declare_libraries(module, convolution_weight_libraries(dtype_name, target))
    write_merge(module, shape, "merge_values", shape.values)
    if shape.word:
        write_join(module, shape)
    _write_turn(module, shape)
    _write_panels(module, shape)
    write_direct(module, shape)
    _write_block(module, shape)
    _write_entry(module, shape, symbol)
    return module.render()


def convolution_weight_libraries(dtype_name: str, target: Target) -> dict[str, TemplateKernel]:
    """The libraries of the template."""
    shape = blocking(dtype_name, target, 1, 1)
    return {**common_libraries(shape), "window_functions": windows_library(shape, WEIGHT_PARAMETERS)}


def _write_turn(module: Module, shape: Shape) -> None:
    """to[lane][row] = from[row][lane] for up to one vector of rows."""
    values, lanes, kind = shape.values, shape.lanes, shape.number.kind
    side = min(lanes, LARGEST_SQUARE)
    b = Builder(module, "turn", arguments(TURN))
    last = b.sub("%rows", 1)

    def square(first: Operand, start: Operand) -> None:
        rows = [values.load(b, b.at("%from", b.add(b.mul(b.min(b.add(first, row), last), lanes), start), kind), side)
                for row in range(side)]
        for lane, value in enumerate(b.transpose(kind, shape.number.kind_bytes, rows)):
            values.store(b, value, b.at("%to", b.add(b.mul("%width", b.add(start, lane)), first), kind), side)

    if side == lanes:
        square(0, 0)
    else:
        b.loop(0, lanes, side, lambda first: ignore(b.loop(0, lanes, side, lambda start: square(first, start))))
    b.finish()


def _write_panels(module: Module, shape: Shape) -> None:
    """Panels [position][(channel, tap)] of ``k`` positions, rounded up to whole vectors."""
    lanes, columns, kind = shape.lanes, shape.columns, shape.number.kind
    b = Builder(module, "panels", arguments(STRIP))
    taps = b.words(WEIGHT_PARAMETERS)["taps"]
    n = b.mul("%channels", taps)

    def vector(k: str) -> None:
        count = b.min(b.sub("%k", k), lanes)
        b.call("windows", *pairs(WINDOWS, ("%params", "%x", b.add("%position", k), count, "%strip", lanes, "%table",
                                           taps, "%channels")))

        def turn(j: str) -> None:
            panel = b.add(b.mul(b.div(j, columns), shape.depth * columns), b.rem(j, columns))
            to = b.at("%panels", b.add(panel, b.mul(k, columns)), kind)
            b.call("turn", *pairs(TURN, (b.at("%strip", b.mul(j, lanes), kind), b.min(b.sub(n, j), lanes), to, columns)))

        b.loop(0, n, lanes, turn)

    b.loop(0, "%k", lanes, vector)
    b.finish()


def _write_block(module: Module, shape: Shape) -> None:
    number, kind, stored = shape.number, shape.number.kind, shape.number.stored
    b = Builder(module, "block", arguments(BLOCK))
    panel_a, strip, panels = [b.at("%work", at, "i8") for at in _places(shape)[:3]]
    scratch = b.stack(shape.rows * shape.columns * number.kind_bytes)
    table = b.stack(MOST_TAPS * TAP_BYTES)
    word = b.words(WEIGHT_PARAMETERS)
    b.call("tap_table", *pairs(TAP_TABLE, ("%params", table, 0, word["taps"])))
    tiles = b.ceil_div("%m", shape.rows)
    high = b.ceil_div("%m", tiles)
    full_tiles = b.sub("%m", b.mul(tiles, b.sub(high, 1)))
    period = b.mul(word["counts0"], b.mul(word["counts1"], word["counts2"]))
    at_once = even_blocks(b, "%channels", b.div(shape.packed_columns, word["taps"]))

    def channels_loop(channel: str) -> None:
        channels = b.min(at_once, b.sub("%channels", channel))
        b.loop(0, "%count", shape.depth, lambda p: depth_loop(channel, channels, p))

    def depth_loop(channel: str, channels: Operand, done: str) -> None:
        k, position = b.min(b.sub("%count", done), shape.depth), b.add("%first", done)
        x = b.at("%x", b.mul(channel, word["x_channel"]), stored)
        b.call("panels", *pairs(STRIP, ("%params", x, position, k, channels, table, strip, panels)))
        n, j0 = b.mul(channels, word["taps"]), b.mul(channel, word["taps"])
        again = b.less(0, done)
        words = b.ceil_div(k, 2) if shape.word else k
        if shape.word:
            b.loop(0, n, shape.columns, lambda j: ignore(join_halves(b, shape, b.at(panels, b.mul(j, shape.depth), kind), k,
                                                                     shape.columns)))

        def row_tile(tile: str, i: str) -> list[Operand]:
            rows = b.select(b.less(tile, full_tiles), high, b.sub(high, 1))
            _pack_rows(b, shape, word, b.at("%g", b.mul(i, word["g_row"]), stored), period, position, k, rows, panel_a)
            join_halves(b, shape, panel_a, k, shape.row_width)
            function = b.load("ptr", b.at("@tiles", rows, "ptr"), 8)
            c_row = b.at("%c", b.add(b.mul(i, word["c_row"]), j0), kind)

            def column_tile(j: str) -> None:
                width, c = b.min(b.sub(n, j), shape.columns), b.at(c_row, j, kind)
                panel = b.at(panels, b.mul(j, shape.depth), kind)

                def tile(to: str, ldc: Operand, has_init: str) -> None:
                    values = (panel_a, panel, shape.columns, to, ldc, to, ldc, has_init, words, width)
                    b.do(f"call void {function}({', '.join(f'{x} {y}' for x, y in pairs(TILE, values))})")

                def beside() -> None:
                    tile(scratch, shape.columns, "false")
                    b.call("merge_values", *pairs(MERGE, (scratch, c, word["c_row"], 1, "null", 0, 0, "false", again, rows,
                                                          width, shape.columns)))

                if shape.masks:
                    tile(c, word["c_row"], again)
                else:
                    b.when(b.equal(width, shape.columns), lambda: tile(c, word["c_row"], again), beside)

            b.loop(0, n, shape.columns, column_tile)
            return [b.add(i, rows)]

        b.loop(0, tiles, 1, row_tile, [("i64", 0)])

    b.loop(0, "%channels", at_once, channels_loop)
    b.finish()


def _pack_rows(b: Builder, shape: Shape, word: dict[str, str], g: str, period: Operand, start: Operand, k: Operand,
               rows: Operand, panel: str) -> None:
    """Pack the gradient's rows, image by image. What packing rounds up is overwritten by the next image."""
    stop = b.add(start, k)

    def image(item: str) -> None:
        origin = b.mul(item, period)
        low = b.select(b.less(start, origin), origin, start)
        count = b.sub(b.min(stop, b.add(origin, period)), low)
        source = b.at(g, b.add(b.mul(item, word["g_batch"]), b.sub(low, origin)), shape.number.stored)
        to = b.at(panel, b.mul(b.sub(low, start), shape.row_width), shape.number.kind)
        b.call("pack", *pairs(PACK, (source, word["g_row"], 1, to, count, rows, shape.row_width)))

    b.loop(b.div(start, period), b.add(b.div(b.sub(stop, 1), period), 1), 1, image)


def _places(shape: Shape) -> tuple[int, int, int, int]:
    """Offsets in bytes of the panel of a, the strip of windows, the panels of b, and the end."""
    size = shape.number.kind_bytes
    strip = shape.row_width * (shape.depth + shape.lanes) * size
    panels = strip + (shape.packed_columns + shape.lanes) * shape.lanes * size
    return 0, strip, panels, panels + (shape.packed_columns + shape.columns) * shape.depth * size + 64


def _write_entry(module: Module, shape: Shape, symbol: str) -> None:
    """The kernel: work units are (part of the positions and group, block of channels, row block), row blocks fastest."""
    number, stored = shape.number, shape.number.stored
    b = Builder(module, symbol, ENTRY, internal=False)
    work = b.stack(max(_places(shape)[3], direct_bytes(shape)))
    word = b.words(WEIGHT_PARAMETERS)
    starts = {name: b.buffer(word[f"{name}_slot"], word[f"{name}_offset"]) for name in ("c", "g", "x")}
    direct = suits_direct(b, shape, word)
    period = b.mul(word["counts0"], b.mul(word["counts1"], word["counts2"]))
    row_blocks, column_blocks = b.ceil_div(word["rows"], word["m_block"]), b.ceil_div(word["channels"], word["n_block"])
    positions = b.mul(period, word["batch"])
    share = b.ceil_div(positions, word["parts"])

    def units(unit: str) -> list[Operand]:
        item, row, column, rows, columns = run_of_blocks(b, unit, row_blocks, column_blocks)
        group, part = b.rem(item, word["groups"]), b.div(item, word["groups"])
        i0, c0, first = b.mul(row, word["m_block"]), b.mul(column, word["n_block"]), b.mul(part, share)
        m = b.min(b.sub(word["rows"], i0), b.mul(rows, word["m_block"]))
        channels = b.min(b.sub(word["channels"], c0), b.mul(columns, word["n_block"]))
        offset = b.add(b.mul(item, word["c_group"]), b.add(b.mul(i0, word["c_row"]), b.mul(c0, word["taps"])))
        c = b.at(starts["c"], offset, number.kind)
        x = b.at(starts["x"], b.add(b.mul(group, word["x_group"]), b.mul(c0, word["x_channel"])), stored)
        g = b.at(starts["g"], b.add(b.mul(group, word["g_group"]), b.mul(i0, word["g_row"])), stored)
        given = ("%params", g, x, c, m, channels, first, b.min(share, b.sub(positions, first)), work)
        b.when(direct, lambda: b.call("direct", *pairs(DIRECT, given)), lambda: b.call("block", *pairs(BLOCK, given)))
        return [b.add(unit, b.mul(rows, columns))]

    b.advance("%begin", "%end", units)
    b.finish()
