"""Winograd's convolution as LLVM text: transforms around products of matrices, a block of tiles at a time.

See ``compiler/winograd.py`` for the algorithm. A work unit transforms the input of its tiles, multiplies it with the transformed
weights of its rows, one product of matrices for each of the 16 points of a tile, and transforms the products into results; all that lies
in between stays in the second-level cache for the usual numbers of channels.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from torsh.codegen.llvm.gemm_shape import Shape, arguments, pairs, shape_for
from torsh.codegen.llvm.libraries import declare_libraries, scratch_library, winograd_input_library
from torsh.codegen.llvm.scratch import GIVE, TAKE
from torsh.codegen.llvm.template_builder import ENTRY, Builder, Module, Operand
from torsh.codegen.llvm.winograd_transforms import INPUT, OUTPUT, PIECES, SHARES, SIDE, write_output, write_pieces
from torsh.compiler.kernel import TemplateKernel
from torsh.compiler.winograd import PARAMETERS, PIECE_WORDS, POINTS, SCRATCH_BYTES, WEIGHT_PARAMETERS
from torsh.ops.convolution_primitives import PANEL_ROWS

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

MOST_VECTORS: Final = 3      # of a register tile
# c[vector][row][lane] = the sum over k of a[k][row] * b[vector][k][lane] (+ c, if again), for the rows of a panel.
PRODUCT: Final = ("ptr a", "ptr b", "i64 b_vector", "ptr c", "i64 c_vector", "i64 k", "i1 again")
UNIT: Final = ("ptr table", "ptr params", "i64 group", "i64 first", "i64 tiles", "i64 row", "i64 rows", "i1 transformed", "ptr scratch")


def winograd_libraries(dtype_name: str, target: Target) -> dict[str, TemplateKernel]:
    """The libraries of Winograd's templates."""
    return {"scratch": scratch_library(SCRATCH_BYTES), "input": winograd_input_library(shape_for(dtype_name, target))}


def generate_winograd(dtype_name: str, target: Target, symbol: str) -> str:
    """LLVM text of the template ``winograd``."""
    shape = shape_for(dtype_name, target)
    module = Module()
    declare_libraries(module, winograd_libraries(dtype_name, target))
    write_pieces(module, shape, PARAMETERS)
    write_output(module, shape)
    for vectors in range(1, MOST_VECTORS + 1):
        _write_product(module, shape, vectors)
    _write_unit(module, shape)
    _write_entry(module, shape, symbol)
    return module.render()


def tile_rows(shape: Shape) -> int:
    """Rows of a panel that a register tile takes: all of them where there are 32 vector registers."""
    return PANEL_ROWS if shape.rows >= PANEL_ROWS else PANEL_ROWS // 2


def _write_product(module: Module, shape: Shape, vectors: int) -> None:
    """The function PRODUCT for so many vectors of tiles."""
    number, lanes, kind = shape.number, shape.lanes, shape.number.kind
    vector = number.vector(lanes)
    rows = tile_rows(shape)
    b = Builder(module, f"product{vectors}", arguments(PRODUCT))
    following = b.mul("%k", PANEL_ROWS)        # the next panel: weights come from far away if there are few tiles
    for first in range(0, PANEL_ROWS, rows):
        starts = [b.at("%c", b.mul("%c_vector", part), kind) for part in range(vectors)]
        to = [b.at(start, (first + row) * lanes, kind) for row in range(rows) for start in starts]
        for pointer in to:
            b.prefetch(pointer, write=True)

        def step(_: str, a: str, *given: str, asks: bool = first == 0) -> list[str]:
            columns, sums = given[:vectors], given[vectors:]
            if asks:
                b.prefetch(b.at(a, following, kind))
            values = [number.load(b, at, lanes) for at in columns]
            result = []
            for row in range(rows):
                factor = b.splat(kind, lanes, number.load(b, b.at(a, row, kind)))
                result += [number.multiply_add(b, factor, value, sums[row * vectors + part], lanes) for part, value in enumerate(values)]
            return [b.at(a, PANEL_ROWS, kind), *[b.at(at, lanes, kind) for at in columns], *result]

        start = b.when("%again", partial(_loaded, b, shape, to), lambda: ["zeroinitializer"] * (rows * vectors), [vector] * len(to))
        columns = [("ptr", b.at("%b", b.mul("%b_vector", part), kind)) for part in range(vectors)]
        sums = b.loop(0, "%k", 1, step, [("ptr", b.at("%a", first, kind)), *columns, *[(vector, value) for value in start]])
        for value, at in zip(sums[1 + vectors:], to, strict=True):
            number.store(b, value, at, lanes)
    b.finish()


def _loaded(b: Builder, shape: Shape, places: Sequence[str]) -> list[str]:
    return [shape.number.load(b, at, shape.lanes) for at in places]


def _write_unit(module: Module, shape: Shape) -> None:
    """The results of some rows and tiles. transformed: the scratch memory holds the transformed input already."""
    lanes, kind, size = shape.lanes, shape.number.kind, shape.number.kind_bytes
    b = Builder(module, "unit", arguments(UNIT))
    count = b.stack(8)
    word = b.words(PARAMETERS)
    starts = {name: b.buffer(word[f"{name}_slot"], word[f"{name}_offset"]) for name in ("c", "u", "x", "bias")}
    has_bias = b(f"icmp ne i64 {word['has_bias']}, 0")
    vectors, panels = b.ceil_div("%tiles", lanes), b.ceil_div("%rows", PANEL_ROWS)
    # A line more between points, which would otherwise share the same few places of the first-level cache.
    v_vector, c_vector = b.mul(word["k_block"], lanes), b.mul(panels, PANEL_ROWS * lanes)
    v_point, m_point = [b.add(b.mul(step, vectors), lanes) for step in (v_vector, c_vector)]
    line = b.add(b.mul(vectors, 2 * lanes), 3 * lanes)        # a vector is stored at every place, also behind the last tile
    pieces, lines = "%scratch", b.at("%scratch", b.mul(b.add(word["n_block"], 2), PIECE_WORDS * 8), "i8")
    transformed = b.at(lines, b.mul(line, SHARES * SIDE * size), "i8")
    products = b.at(transformed, b.mul(v_point, POINTS * size), "i8")
    all_panels = b.ceil_div(word["rows"], PANEL_ROWS)
    u_panel = b.mul(word["channels"], PANEL_ROWS)
    u_point = b.mul(all_panels, u_panel)
    u = b.at(starts["u"], b.mul(u_point, b.mul("%group", POINTS)), kind)
    u = b.at(u, b.mul(b.div("%row", PANEL_ROWS), u_panel), kind)
    plane = b.mul(word["c_lines"], word["c_columns"])
    c_batch = b.mul(b.mul(word["groups"], word["rows"]), plane)
    b.call("pieces", *pairs(PIECES, ("%params", "%first", b.add("%first", "%tiles"), c_batch, pieces, count)))
    number_of_pieces = b.load("i64", count, 8)
    # As many vectors at a time as fit registers; two and two rather than three and one.
    rest = b.rem(vectors, MOST_VECTORS)
    threes = b.sub(vectors, b.select(b.equal(rest, 1), 4, rest))

    def depth(k0: str) -> None:
        k = b.min(word["k_block"], b.sub(word["channels"], k0))
        x = b.at(starts["x"], b.add(b.mul("%group", word["x_group"]), b.mul(k0, word["x_channel"])), kind)
        b.when("%transformed", lambda: None, lambda: b.call("input", *pairs(INPUT, (
            x, word["x_channel"], word["x_line"], k, pieces, number_of_pieces, vectors, lines, line, transformed, v_vector, lanes,
            v_point))))
        again = b.less(0, k0)

        def point(number: str) -> None:
            left = b.at(u, b.add(b.mul(number, u_point), b.mul(k0, PANEL_ROWS)), kind)
            right, to = b.at(transformed, b.mul(number, v_point), kind), b.at(products, b.mul(number, m_point), kind)

            def panel(position: str) -> None:
                a = b.at(left, b.mul(position, u_panel), kind)
                c = b.at(to, b.mul(position, PANEL_ROWS * lanes), kind)
                def run(function: str, at: Operand) -> None:
                    b.call(function, *pairs(PRODUCT, (a, b.at(right, b.mul(at, v_vector), kind), v_vector,
                                                      b.at(c, b.mul(at, c_vector), kind), c_vector, k, again)))

                def several() -> None:
                    b.loop(0, threes, 3, lambda at: run("product3", at))
                    b.loop(threes, vectors, 2, lambda at: run("product2", at))

                b.when(b.equal(vectors, 1), lambda: run("product1", 0), several)

            b.loop(0, panels, 1, panel)

        b.loop(0, POINTS, 1, point)

    b.loop(0, word["channels"], word["k_block"], depth)
    row = b.add(b.mul("%group", word["rows"]), "%row")
    b.call("output", *pairs(OUTPUT, (
        products, c_vector, m_point, "%rows", vectors, pieces, number_of_pieces, lines, line,
        b.at(starts["c"], b.mul(row, plane), kind), plane, word["c_columns"],
        b.at(starts["bias"], b.mul(row, word["bias_stride"]), kind), word["bias_stride"], has_bias)))
    b.finish()


def _write_entry(module: Module, shape: Shape, symbol: str) -> None:
    """The kernel. Units: (group, block of tiles, block of rows), rows fastest: these share the transformed input."""
    b = Builder(module, symbol, ENTRY, internal=False)
    place = b.stack(8)
    word = b.words(PARAMETERS)
    across, down = [b.div(b.add(word[name], 1), 2) for name in ("c_columns", "c_lines")]
    tiles = b.mul(word["batch"], b.mul(across, down))
    row_blocks, tile_blocks = b.ceil_div(word["rows"], word["m_block"]), b.ceil_div(tiles, word["n_block"])
    b.call("take_scratch", *pairs(TAKE, (place,)))
    scratch = b.load("ptr", place, 8)
    whole = b.equal(word["k_block"], word["channels"])

    def unit(number: str, before: str) -> list[Operand]:
        block, row = b.div(number, row_blocks), b.mul(b.rem(number, row_blocks), word["m_block"])
        group, first = b.div(block, tile_blocks), b.mul(b.rem(block, tile_blocks), word["n_block"])
        b.call("unit", *pairs(UNIT, (
            "%table", "%params", group, first, b.min(word["n_block"], b.sub(tiles, first)), row,
            b.min(word["m_block"], b.sub(word["rows"], row)), b.both(whole, b.equal(block, before)), scratch)))
        return [block]

    b.loop("%begin", "%end", 1, unit, [("i64", -1)])
    b.call("give_scratch", *pairs(GIVE, (scratch,)))
    b.finish()


# ---------------------------------------------------------------------------------------------------- weights
def generate_winograd_weights(dtype_name: str, target: Target, symbol: str) -> str:
    """LLVM text of the template ``winograd_weights``; work units are (group, panel of rows)."""
    shape = shape_for(dtype_name, target)
    module = Module()
    _write_panel(module, shape)
    b = Builder(module, symbol, ENTRY, internal=False)
    word = b.words(WEIGHT_PARAMETERS)
    panels = b.ceil_div(word["rows"], PANEL_ROWS)

    def unit(number: str) -> None:
        group, panel = b.div(number, panels), b.rem(number, panels)
        row = b.mul(panel, PANEL_ROWS)
        kind = shape.number.kind
        w = b.at(b.buffer(word["w_slot"], word["w_offset"]),
                 b.add(b.mul(group, word["w_group"]), b.mul(row, word["w_row"])), kind)
        point = b.mul(panels, b.mul(word["channels"], PANEL_ROWS))
        u = b.at(b.buffer(word["u_slot"], word["u_offset"]),
                 b.add(b.mul(b.mul(group, POINTS), point), b.mul(row, word["channels"])), kind)
        b.call("panel", *pairs(_PANEL, (w, word["w_row"], word["w_channel"], word["w_line"], word["w_column"], u, point,
                                        b.min(PANEL_ROWS, b.sub(word["rows"], row)), word["channels"])))

    b.loop("%begin", "%end", 1, unit)
    b.finish()
    return module.render()


_PANEL: Final = ("ptr w", "i64 w_row", "i64 w_channel", "i64 w_line", "i64 w_column", "ptr u", "i64 u_point", "i64 rows", "i64 channels")


def _write_panel(module: Module, shape: Shape) -> None:
    """u[point][channel][row] = the transformed kernels of the rows of a panel, whose lanes are rows."""
    number, kind, size, lanes = shape.number, shape.number.kind, shape.number.kind_bytes, PANEL_ROWS
    vector = number.vector(lanes)
    b = Builder(module, "panel", arguments(_PANEL))
    taps = b.stack(9 * lanes * size)
    last = b.sub("%rows", 1)
    forwards = b.both(b.equal("%w_column", 1), b.equal("%w_line", 3))
    backwards = b.both(b.equal("%w_column", -1), b.equal("%w_line", -3))
    joined = b(f"or i1 {forwards}, {backwards}")
    halves = "<" + ", ".join([f"{kind} 0.5"] * lanes) + ">"
    starts = [b.at("%w", b.mul(b.min(row, last), "%w_row"), kind) for row in range(lanes)]

    def element(source: str, tap: int, row: int) -> None:
        at = b.at(source, b.add(b.mul("%w_line", tap // 3), b.mul("%w_column", tap % 3)), kind)
        number.store(b, number.load(b, at), b.at(taps, tap * lanes + row, kind))

    def channel(c: str) -> None:
        sources = [b.at(start, b.mul(c, "%w_channel"), kind) for start in starts]

        def neighbours() -> None:
            back = b.select(backwards, -8, 0)
            square = [number.load(b, b.at(source, back, kind), lanes) for source in sources]
            first, step = b.select(backwards, 8, 0), b.select(backwards, -1, 1)
            for position, value in enumerate(b.transpose(kind, size, square)):
                place = b.mul(b.add(first, b.mul(step, position)), lanes)
                number.store(b, value, b.at(taps, place, kind), lanes)
            for row, source in enumerate(sources):
                at = b.at(source, b.select(backwards, 0, 8), kind)
                number.store(b, number.load(b, at), b.at(taps, b.add(b.mul(b.add(first, b.mul(step, 8)), lanes), row), kind))

        def anywhere() -> None:
            for row, source in enumerate(sources):
                for tap in range(9):
                    element(source, tap, row)

        b.when(joined, neighbours, anywhere)
        g = [[number.load(b, b.at(taps, (3 * y + x) * lanes, kind), lanes) for x in range(3)] for y in range(3)]

        def transformed(g: list[str]) -> list[str]:
            ends = b(f"fmul {vector} {b(f'fadd {vector} {g[0]}, {g[2]}')}, {halves}")
            middle = b(f"fmul {vector} {g[1]}, {halves}")
            return [g[0], b(f"fadd {vector} {ends}, {middle}"), b(f"fsub {vector} {ends}, {middle}"), g[2]]

        half = [transformed([g[y][x] for y in range(3)]) for x in range(3)]      # [column][line]
        to = b.at("%u", b.mul(c, lanes), kind)
        for y in range(SIDE):
            for value in transformed([half[x][y] for x in range(3)]):
                number.store(b, value, to, lanes)
                to = b.at(to, "%u_point", kind)

    b.loop(0, "%channels", 1, channel)
    b.finish()
