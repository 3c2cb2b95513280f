"""Matrix products with few columns: c^T = b^T a^T, in register tiles of some columns of c times whole vectors of its rows.

Where n is little more than a multiple of a vector, many lanes of tiles along n stay empty; along m they are full. What is packed
is the same as otherwise: the columns of b as the rows of tiles, the rows of a as panels, one at a time for all columns. Sums,
[column][row], are kept in memory for several panels and all of k, then turned by transposing squares (a library, see ``libraries.py``).
"""
from __future__ import annotations

from typing import Final

from torsh.codegen.llvm.blocks import even_blocks
from torsh.codegen.llvm.gemm_pack import LARGEST_SQUARE, PACK, asking
from torsh.codegen.llvm.gemm_shape import COMPUTE, MERGE, Shape, arguments, pairs
from torsh.codegen.llvm.gemm_tiles import TILE
from torsh.codegen.llvm.numeric import Numeric
from torsh.codegen.llvm.template_builder import Builder, Module, Operand, ignore

# c[row][n] = from[n][row] (+ init[row][n]); rows of ``from`` are as long as a register tile. Without masks only whole squares.
TURN: Final = ("ptr from", "ptr c", "i64 ldc", "ptr init", "i64 ldi", "i1 has_init", "i64 n", "i64 rows")


def has_turned(shape: Shape) -> bool:
    """Can operands be exchanged? The instruction for words of bytes wants unsigned ones on the left."""
    return shape.word is None or shape.word.size < 4


def suits_turned(b: Builder, shape: Shape) -> str:
    """Is it less work? In products of vectors.

    Turning squares of sums costs half of one for each sum, copying an element of b to the panels of tiles, which do not fill
    vectors, a quarter, one of a an eighth.
    """
    along_n, along_m = b.mul("%m", b.ceil_div("%n", shape.lanes)), b.mul("%n", b.ceil_div("%m", shape.lanes))
    copied_b = b.select(right_in_place(b, shape), b.mul(2, "%n"), 0)      # which need not be copied otherwise
    copied_a = b.select(left_in_place(b, shape), "%m", 0)                 # which need not be copied here
    saved = b.mul(b.add(b.mul(8, b.sub(along_n, along_m)), b.sub(copied_a, copied_b)), "%k")
    return b.less(b.mul(along_n, 4 * shape.lanes), saved)


def square_side(shape: Shape) -> int:
    """Rows of a square that is transposed."""
    return min(shape.lanes, LARGEST_SQUARE)


def write_turn(module: Module, shape: Shape, name: str) -> None:
    """The function TURN, a library."""
    values, kind, side = shape.values, shape.number.kind, square_side(shape)
    b = Builder(module, name, arguments(TURN), internal=False)
    last = b.sub("%n", 1)

    def square(i: str, j: str) -> None:
        rows = [values.load(b, b.at("%from", b.add(b.mul(b.min(b.add(j, row), last), shape.columns), i), kind), side)
                for row in range(side)]
        turned = b.transpose(kind, shape.number.kind_bytes, rows)
        mask = b.mask(side, 8 * shape.number.kind_bytes, b.min(b.sub("%n", j), side)) if shape.masks else ""
        height = b.sub("%rows", i)
        masks = [b.select(b.less(row, height), mask, "zeroinitializer", f"<{side} x i1>") if mask else "" for row in range(side)]

        def added() -> list[str]:
            result = []
            for row, value in enumerate(turned):
                at = b.at("%init", b.add(b.mul(b.add(i, row), "%ldi"), j), kind)
                old = values.load_masked(b, at, side, masks[row]) if mask else values.load(b, at, side)
                result.append(values.add(b, value, old, side))
            return result

        for row, value in enumerate(b.when("%has_init", added, lambda: turned, [values.vector(side)] * side)):
            at = b.at("%c", b.add(b.mul(b.add(i, row), "%ldc"), j), kind)
            if mask:
                values.store_masked(b, value, at, side, masks[row])
            else:
                values.store(b, value, at, side)

    b.loop(0, "%rows", side, lambda i: ignore(b.loop(0, "%n", side, lambda j: square(i, j))))
    b.finish()


def write_turned(module: Module, shape: Shape, pack_b: str) -> None:
    """The function ``turned``, with the arguments COMPUTE; pack_b: the function that packs b."""
    kind, left, right = shape.number.kind, shape.left.stored, shape.right.stored
    columns, size = shape.columns, shape.number.kind_bytes
    b = Builder(module, "turned", arguments(COMPUTE))
    # The work memory: a panel of a, panels of b, sums.
    most_tiles = shape.packed_columns // 2 // shape.row_width
    panels_at, sums_at = columns * shape.depth, (columns + most_tiles * shape.row_width) * shape.depth
    most_sums = shape.work_bytes // size - sums_at
    panel, panels_b, sums = (b.at("%work", at * size, "i8") for at in (0, panels_at, sums_at))
    group = shape.word.size if shape.word else 1
    steps = b.ceil_div("%k", group)
    steps = b.select(b.less(steps, 1), 1, steps)
    depth = b(f"and i64 {b.add(even_blocks(b, steps, shape.depth), 15)}, -16")
    columns_at_once = even_blocks(b, "%n", most_tiles * shape.rows)
    panels_at_once = even_blocks(b, b.ceil_div("%m", columns), b.div(most_sums, b.mul(columns_at_once, columns)))
    rows_at_once = b.mul(panels_at_once, columns)
    in_place = left_in_place(b, shape)

    def each_tile(n: Operand, body: object) -> None:
        """body(number, its first column, its columns): as many tiles as needed, of about the same width."""
        tiles = b.ceil_div(n, shape.rows)
        wide = b.ceil_div(n, tiles)
        full_tiles = b.sub(n, b.mul(tiles, b.sub(wide, 1)))

        def tile(number: str, j: str) -> list[Operand]:
            width = b.select(b.less(number, full_tiles), wide, b.sub(wide, 1))
            body(number, j, width)  # type: ignore[operator]
            return [b.add(j, width)]

        b.loop(0, tiles, 1, tile, [("i64", 0)])

    def panel_of_tile(number: str) -> str:
        return b.at(panels_b, b.mul(b.mul(number, depth), shape.row_width), kind)

    def columns_loop(j0: str) -> None:
        n = b.min(columns_at_once, b.sub("%n", j0))
        b.loop(0, "%m", rows_at_once, lambda i0: rows_loop(j0, n, i0))

    def rows_loop(j0: str, n: Operand, i0: str) -> None:
        m = b.min(rows_at_once, b.sub("%m", i0))
        b.loop(0, steps, depth, lambda p0: depth_loop(j0, n, i0, m, p0))

        def turn(i: str) -> None:
            row = b.add(i0, i)
            c = b.at("%c", b.add(b.mul(row, "%ldc"), j0), kind)
            init = b.at("%init", b.add(b.mul(row, "%ldi"), j0), kind)
            _turn(b, shape, b.at(sums, b.mul(i, n), kind), c, init, n, b.min(b.sub(m, i), columns))

        b.loop(0, m, columns, turn)

    def depth_loop(j0: str, n: Operand, i0: str, m: Operand, p0: str) -> None:
        k, k0 = b.min(depth, b.sub(steps, p0)), b.mul(p0, group)
        elements = b.min(b.mul(depth, group), b.sub("%k", k0))
        again = b.less(0, p0)

        def pack_tile(number: str, j: str, width: Operand) -> None:
            source = b.at("%b", b.add(b.mul(b.add(j0, j), "%b_column"), b.mul(k0, "%b_row")), right)
            b.call(pack_b, *pairs(PACK, (source, "%b_column", "%b_row", panel_of_tile(number), elements, width, shape.row_width)))

        each_tile(n, pack_tile)

        def row_panel(i: str) -> None:
            rows = b.min(b.sub(m, i), columns)
            source = b.at("%a", b.add(b.mul(b.add(i0, i), "%a_row"), b.mul(k0, "%a_column")), left)
            own = b.both(in_place, b.equal(rows, columns))
            b.when(own, lambda: None, lambda: b.call("pack_a", *pairs(PACK, (
                source, "%a_row", "%a_column", panel, elements, rows, columns))))
            used, k_step = b.select(own, source, panel, "ptr"), b.select(own, "%a_column", columns)

            # While the panel is used, the next one is asked for: some rows in front of each tile. (Packing does it, too, but all at
            # once, and what is contiguous along m is in long runs.)
            following, step = b.at(source, b.mul(columns, "%a_row"), left), b.mul("%a_row", shape.left.stored_bytes)
            condition = b.both(b.equal("%a_column", 1), b.less(shape.rows, n))
            ask = asking(b, condition, following, step, b.mul(elements, shape.left.stored_bytes), b.sub(b.sub(m, i), columns),
                         columns, b.ceil_div(n, shape.rows))

            def multiply(number: str, j: str, width: Operand) -> None:
                ask(number)
                function = b.load("ptr", b.at("@tiles", width, "ptr"), 8)
                to = b.at(sums, b.add(b.mul(i, n), b.mul(j, columns)), kind)
                given = pairs(TILE, (panel_of_tile(number), used, k_step, to, columns, to, columns, again, k, rows))
                b.do(f"call void {function}({', '.join(f'{kind} {value}' for kind, value in given)})")

            each_tile(n, multiply)

        b.loop(0, m, columns, row_panel)

    b.loop(0, "%n", columns_at_once, columns_loop)
    b.finish()


def _turn(b: Builder, shape: Shape, source: str, c: str, init: str, n: Operand, rows: Operand) -> None:
    """Turn the sums of a panel: whole squares, and, where there are no masks, the rest one by one."""
    if shape.masks:
        b.call("turn", *pairs(TURN, (source, c, "%ldc", init, "%ldi", "%has_init", n, rows)))
        return
    kind, side = shape.number.kind, square_side(shape)
    whole_n, whole_rows = b.sub(n, b.rem(n, side)), b.sub(rows, b.rem(rows, side))
    b.call("turn", *pairs(TURN, (source, c, "%ldc", init, "%ldi", "%has_init", whole_n, whole_rows)))

    def rest(column: Operand, row: Operand, n: Operand, rows: Operand) -> None:
        place, start = (b.at(x, b.add(b.mul(row, step), column), kind) for x, step in ((c, "%ldc"), (init, "%ldi")))
        b.call("merge_values", *pairs(MERGE, (
            b.at(source, b.add(b.mul(column, shape.columns), row), kind), place, 1, "%ldc", start, 1, "%ldi", "%has_init", "false",
            n, rows, shape.columns)))

    b.when(b.less(whole_n, n), lambda: rest(whole_n, 0, b.sub(n, whole_n), whole_rows))
    b.when(b.less(whole_rows, rows), lambda: rest(0, whole_rows, n, b.sub(rows, whole_rows)))


def right_in_place(b: Builder, shape: Shape) -> str:
    """Are panels of b read where they are when tiles go along n?"""
    return _reads_in_place(b, shape, shape.right, "%m", "%b_row", "%b_column")


def left_in_place(b: Builder, shape: Shape) -> str:
    """Are panels of a read where they are when tiles go along m?"""
    return _reads_in_place(b, shape, shape.left, "%n", "%a_column", "%a_row")


def _reads_in_place(b: Builder, shape: Shape, number: Numeric, others: Operand, k_step: Operand, step: Operand) -> str:
    """Whether full panels are read where they are: contiguous elements, and too few rows or columns (others) to pay for a copy.

    Elements whose k are a multiple of 4 KiB apart fall in the same few sets of the cache, so they are copied unless read once.
    """
    if number.converts or shape.word:
        return "false"
    apart = b(f"and i64 {b.mul(k_step, number.stored_bytes)}, 4095")
    once = b.less(others, shape.rows + 1)
    few = b.both(b.less(others, 65), b("icmp ne i64 " + f"{apart}, 0"))
    return b.both(b.equal(step, 1), b(f"or i1 {once}, {few}"))
