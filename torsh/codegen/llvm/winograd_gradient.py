"""Gradients of the weights of Winograd's convolution as LLVM text.

The convolution is linear in the transformed kernel, the transformed input and, read as a sum over all results times their gradients, in the
transformed gradient; so the gradient of the kernel takes the products of the last two, summed over all tiles: G'(Z V)G with the
matrices of the forward transforms. Tiles are the lanes of vectors, whose sums are added up once per block of tiles.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from torsh.codegen.llvm.gemm_shape import Shape, arguments, pairs, shape_for
from torsh.codegen.llvm.libraries import declare_libraries
from torsh.codegen.llvm.scratch import GIVE, TAKE
from torsh.codegen.llvm.template_builder import ENTRY, Builder, Module, Operand
from torsh.codegen.llvm.winograd import tile_rows, winograd_libraries
from torsh.codegen.llvm.winograd_transforms import (
    GRADIENT,
    INPUT,
    PIECES,
    SHARES,
    SIDE,
    load_points,
    write_gradient,
    write_pieces,
)
from torsh.compiler.winograd import GRADIENT_PARAMETERS, PIECE_WORDS, POINTS
from torsh.ops.convolution_primitives import PANEL_ROWS

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

MOST_COLUMNS: Final = 3      # channels of a register tile
# sums[channel][row] = the sum over all lanes of z[row] * v[channel] (+ sums, if again); vectors of tiles are neighbours.
DOT: Final = ("ptr z", "ptr v", "i64 step", "i64 vectors", "ptr sums", "i1 again")
# c[row][channel][tap] of the sums at each point
FINISH: Final = ("ptr sums", "i64 point", "i64 channels", "i64 rows", "ptr c", "i64 c_row")
UNIT: Final = ("ptr table", "ptr params", "i64 group", "i64 part", "i64 row", "i64 rows", "i64 channel", "i64 channels", "ptr scratch")


def generate_winograd_gradient(dtype_name: str, target: Target, symbol: str) -> str:
    """LLVM text of the template ``winograd_gradient``."""
    shape = shape_for(dtype_name, target)
    module = Module()
    declare_libraries(module, winograd_libraries(dtype_name, target))
    write_pieces(module, shape, GRADIENT_PARAMETERS)
    write_gradient(module, shape)
    for columns in range(1, MOST_COLUMNS + 1):
        _write_dot(module, shape, columns)
    _write_finish(module, shape)
    _write_unit(module, shape)
    _write_entry(module, shape, symbol)
    return module.render()


def lane_sums(b: Builder, shape: Shape, vectors: Sequence[str]) -> list[str]:
    """The sums of the lanes of some vectors, as the lanes of vectors; their number is a power of two."""
    number, kind, lanes, count = shape.number, shape.number.kind, shape.lanes, len(vectors)
    if count > lanes:
        return [total for start in range(0, count, lanes) for total in lane_sums(b, shape, vectors[start:start + lanes])]
    while lanes > count:
        lanes //= 2
        halves = [[b.shuffle(kind, 2 * lanes, x, "poison", range(start, start + lanes)) for start in (0, lanes)] for x in vectors]
        vectors = [number.add(b, low, high, lanes) for low, high in halves]
    group = 1
    while group < lanes:
        first = [lane + (lanes if lane // group % 2 else 0) - (group if lane // group % 2 else 0) for lane in range(lanes)]
        second = [x + group for x in first]
        vectors = [number.add(b, b.shuffle(kind, lanes, x, y, first), b.shuffle(kind, lanes, x, y, second), lanes)
                   for x, y in zip(vectors[::2], vectors[1::2], strict=True)]
        group *= 2
    return list(vectors)


def _write_dot(module: Module, shape: Shape, columns: int) -> None:
    """The function DOT for so many channels and the rows of a panel."""
    number, lanes, kind = shape.number, shape.lanes, shape.number.kind
    vector = number.vector(lanes)
    rows = tile_rows(shape)
    b = Builder(module, f"dot{columns}", arguments(DOT))
    v = [b.at("%v", b.mul("%step", column), kind) for column in range(columns)]
    for first in range(0, PANEL_ROWS, rows):
        z = [b.at("%z", b.mul("%step", first + row), kind) for row in range(rows)]

        def step(position: str, *sums: str, z: Sequence[str] = z) -> list[str]:
            at = b.mul(position, lanes)
            channels = [number.load(b, b.at(start, at, kind), lanes) for start in v]
            result: list[str] = []
            for row, start in enumerate(z):
                value = number.load(b, b.at(start, at, kind), lanes)
                result += [number.multiply_add(b, value, channel, sums[row * columns + column], lanes)
                           for column, channel in enumerate(channels)]
            return result

        found = b.loop(0, "%vectors", 1, step, [(vector, "zeroinitializer")] * (rows * columns))
        for column in range(columns):
            totals = lane_sums(b, shape, found[column::columns])
            width = rows // len(totals)
            for part, total in enumerate(totals):
                at = b.at("%sums", column * PANEL_ROWS + first + part * width, kind)
                added = b.when("%again", _adding(b, shape, total, at, width), _unchanged(total), [number.vector(width)])[0]
                number.store(b, added, at, width)
    b.finish()


def _adding(b: Builder, shape: Shape, value: str, at: str, width: int) -> Callable[[], list[str]]:
    return lambda: [shape.number.add(b, value, shape.number.load(b, at, width), width)]


def _unchanged(value: str) -> Callable[[], list[str]]:
    return lambda: [value]


def _write_finish(module: Module, shape: Shape) -> None:
    """The function FINISH: lanes are the rows of a panel."""
    number, kind, size, lanes = shape.number, shape.number.kind, shape.number.kind_bytes, PANEL_ROWS
    vector = number.vector(lanes)
    b = Builder(module, "finish", arguments(FINISH))
    last_tap = b.stack(lanes * size)
    halves = "<" + ", ".join([f"{kind} 0.5"] * lanes) + ">"

    def turned(m: Sequence[str]) -> list[str]:
        half = [b(f"fmul {vector} {b(f'{operation} {vector} {m[1]}, {m[2]}')}, {halves}") for operation in ("fadd", "fsub")]
        return [number.add(b, m[0], half[0], lanes), half[1], number.add(b, half[0], m[3], lanes)]

    def channel(position: str) -> None:
        at = b.at("%sums", b.mul(position, lanes), kind)
        columns = [turned(m) for m in load_points(b, number, lanes, at, "%point")]      # [line][column of the kernel]
        by_column = [turned([columns[y][x] for y in range(SIDE)]) for x in range(3)]
        taps = [by_column[x][y] for y in range(3) for x in range(3)]
        number.store(b, taps[8], last_tap, lanes)
        to = b.at("%c", b.mul(position, 9), kind)
        for row, value in enumerate(b.transpose(kind, size, taps[:8])):
            def put(row: int = row, value: str = value) -> None:
                start = b.at(to, b.mul("%c_row", row), kind)
                number.store(b, value, start, lanes)
                number.store(b, number.load(b, b.at(last_tap, row, kind)), b.at(start, 8, kind))

            b.when(b.less(row, "%rows"), put)

    b.loop(0, "%channels", 1, channel)
    b.finish()


def _write_unit(module: Module, shape: Shape) -> None:
    """Some rows and channels of one part of the sum, in one group."""
    lanes, kind, size = shape.lanes, shape.number.kind, shape.number.kind_bytes
    b = Builder(module, "unit", arguments(UNIT))
    count = b.stack(8)
    word = b.words(GRADIENT_PARAMETERS)
    starts = {name: b.buffer(word[f"{name}_slot"], word[f"{name}_offset"]) for name in ("c", "g", "x")}
    across, down = [b.div(b.add(word[name], 1), 2) for name in ("c_columns", "c_lines")]
    tiles = b.mul(word["batch"], b.mul(across, down))
    share = b.ceil_div(tiles, word["parts"])
    begin = b.mul("%part", share)
    end = b.min(tiles, b.add(begin, share))
    panels = b.ceil_div("%rows", PANEL_ROWS)
    step = b.mul(b.ceil_div(word["n_block"], lanes), lanes)
    line = b.add(b.mul(step, 2), 3 * lanes)
    # A line more between points, which would otherwise share the same few places of the first-level cache.
    v_point, z_point = b.add(b.mul("%channels", step), lanes), b.add(b.mul(b.mul(panels, PANEL_ROWS), step), lanes)
    p_panel = b.mul("%channels", PANEL_ROWS)
    p_point = b.add(b.mul(panels, p_panel), lanes)
    pieces, lines = "%scratch", b.at("%scratch", b.mul(b.add(word["n_block"], 2), PIECE_WORDS * 8), "i8")
    v = b.at(lines, b.mul(line, SHARES * SIDE * size), "i8")
    z = b.at(v, b.mul(v_point, POINTS * size), "i8")
    sums = b.at(z, b.mul(z_point, POINTS * size), "i8")
    x = b.at(starts["x"], b.add(b.mul("%group", word["x_group"]), b.mul("%channel", word["x_channel"])), kind)
    g = b.at(starts["g"], b.add(b.mul("%group", word["g_group"]), b.mul("%row", word["g_row"])), kind)

    def block(first: str) -> None:
        stop = b.min(end, b.add(first, word["n_block"]))
        vectors = b.ceil_div(b.sub(stop, first), lanes)
        b.call("pieces", *pairs(PIECES, ("%params", first, stop, word["g_batch"], pieces, count)))
        all_pieces = b.add(b.load("i64", count, 8), 2)
        b.call("input", *pairs(INPUT, (x, word["x_channel"], word["x_line"], "%channels", pieces, all_pieces, vectors, lines, line,
                                       v, lanes, step, v_point)))
        b.call("gradient", *pairs(GRADIENT, (g, word["g_row"], word["c_columns"], "%rows", pieces, all_pieces, vectors, lines, line,
                                             z, lanes, step, z_point)))
        again = b.less(begin, first)

        def point(number: str) -> None:
            left, right = b.at(z, b.mul(number, z_point), kind), b.at(v, b.mul(number, v_point), kind)
            to = b.at(sums, b.mul(number, p_point), kind)

            def panel(position: str) -> None:
                a, p = b.at(left, b.mul(position, b.mul(step, PANEL_ROWS)), kind), b.at(to, b.mul(position, p_panel), kind)

                def run(columns: int, c: Operand) -> None:
                    b.call(f"dot{columns}", *pairs(DOT, (a, b.at(right, b.mul(c, step), kind), step, vectors,
                                                         b.at(p, b.mul(c, PANEL_ROWS), kind), again)))

                rest = b.rem("%channels", MOST_COLUMNS)
                whole = b.sub("%channels", rest)
                b.loop(0, whole, MOST_COLUMNS, lambda c: run(MOST_COLUMNS, c))
                for columns in range(1, MOST_COLUMNS):
                    b.when(b.equal(rest, columns), partial(run, columns, whole))

            b.loop(0, panels, 1, panel)

        b.loop(0, POINTS, 1, point)

    b.loop(begin, end, word["n_block"], block)
    c_row = b.mul(word["channels"], 9)
    c = b.mul(b.add(b.mul(b.add(b.mul("%part", word["groups"]), "%group"), word["rows"]), "%row"), c_row)
    c = b.at(starts["c"], b.add(c, b.mul("%channel", 9)), kind)

    def finish(position: str) -> None:
        row = b.mul(position, PANEL_ROWS)
        b.call("finish", *pairs(FINISH, (b.at(sums, b.mul(position, p_panel), kind), p_point, "%channels", b.sub("%rows", row),
                                         b.at(c, b.mul(row, c_row), kind), c_row)))

    def nothing() -> None:
        """A part without tiles."""
        b.loop(0, "%rows", 1, lambda row: b.loop(0, b.mul("%channels", 9), 1, lambda at: shape.number.store(
            b, shape.number.zero, b.at(c, b.add(b.mul(row, c_row), at), kind))) and None)

    b.when(b.less(begin, end), lambda: b.loop(0, panels, 1, finish) and None, nothing)
    b.finish()


def _write_entry(module: Module, shape: Shape, symbol: str) -> None:
    """The kernel. Units: (part, group, block of rows, block of channels), channels fastest."""
    b = Builder(module, symbol, ENTRY, internal=False)
    place = b.stack(8)
    word = b.words(GRADIENT_PARAMETERS)
    row_blocks, channel_blocks = b.ceil_div(word["rows"], word["m_block"]), b.ceil_div(word["channels"], word["k_block"])
    b.call("take_scratch", *pairs(TAKE, (place,)))
    scratch = b.load("ptr", place, 8)

    def unit(number: str) -> None:
        rest, channel = b.div(number, channel_blocks), b.mul(b.rem(number, channel_blocks), word["k_block"])
        rest, row = b.div(rest, row_blocks), b.mul(b.rem(rest, row_blocks), word["m_block"])
        b.call("unit", *pairs(UNIT, (
            "%table", "%params", b.rem(rest, word["groups"]), b.div(rest, word["groups"]), row,
            b.min(word["m_block"], b.sub(word["rows"], row)), channel, b.min(word["k_block"], b.sub(word["channels"], channel)), scratch)))

    b.loop("%begin", "%end", 1, unit)
    b.call("give_scratch", *pairs(GIVE, (scratch,)))
    b.finish()
