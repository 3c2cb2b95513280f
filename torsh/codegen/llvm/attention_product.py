"""Products of blocks that lie in the caches, for attention: a library (see ``libraries.py``)."""
from __future__ import annotations

from typing import Final

from torsh.codegen.llvm.gemm_shape import Shape, arguments, pairs
from torsh.codegen.llvm.gemm_tiles import STRIDED_TILE, write_tile
from torsh.codegen.llvm.template_builder import Builder, Module, Operand

DEPTH: Final = 128           # products that are added in a row
GROUP: Final = 4             # rows of the small register tile
PRODUCT: Final = ("ptr a", "i64 a_tile", "i64 a_row", "i64 a_step", "ptr b", "i64 b_step", "ptr c", "i64 ldc", "i1 add", "i64 m",
                  "i64 n", "i64 k")


def tile_counts(b: Builder, shape: Shape, m: Operand) -> tuple[Operand, Operand]:
    """How many large and small register tiles m rows take. The small ones may reach up to 3 rows further."""
    most = (shape.rows - 1) // GROUP * GROUP               # rows that are left to small tiles
    large = b.div(b.add(m, shape.rows - 1 - most), shape.rows)
    left = b.sub(m, b.mul(large, shape.rows))
    return large, b.select(b.less(0, left), b.ceil_div(left, GROUP), 0)


def write_product(module: Module, shape: Shape, name: str, tile_row: int, tile_step: Operand) -> None:
    """c[m, n] = a @ b (+ c). Large tiles of a lie ``a_tile`` apart; a and c have up to 3 rows more, b and c whole register tiles of
    columns. Long sums are added in parts, which keeps errors small. tile_row, tile_step: where a tile's elements lie
    (``a_row`` and ``a_step`` of :func:`write_tile`)."""
    for rows in (GROUP, shape.rows):
        write_tile(module, shape, rows, "tile", tile_row, tile_step)
    kind = shape.number.kind
    b = Builder(module, name, arguments(PRODUCT), internal=False)
    large, small = tile_counts(b, shape, "%m")
    a_group, c_group, c_tile = b.mul("%a_row", GROUP), b.mul("%ldc", GROUP), b.mul("%ldc", shape.rows)

    def depth(k0: str) -> None:
        k = b.min(b.sub("%k", k0), DEPTH)
        add = b(f"or i1 %add, {b.less(0, k0)}")
        right = b.at("%b", b.mul(k0, "%b_step"), kind)

        def row_tile(t: str, a: str, c: str) -> list[Operand]:
            whole = b.less(t, large)
            function = b.select(whole, f"@tile{shape.rows}", f"@tile{GROUP}", "ptr")

            def column_tile(j: str) -> None:
                to = b.at(c, j, kind)
                values = (a, b.at(right, j, kind), "%b_step", to, "%ldc", to, "%ldc", add, k, b.sub("%n", j), "%a_step")
                b.do(f"call void {function}({', '.join(f'{x} {y}' for x, y in pairs(STRIDED_TILE, values))})")
            b.loop(0, "%n", shape.columns, column_tile)
            return [b.at(a, b.select(whole, "%a_tile", a_group), kind), b.at(c, b.select(whole, c_tile, c_group), kind)]

        b.loop(0, b.add(large, small), 1, row_tile, [("ptr", b.at("%a", b.mul(k0, "%a_step"), kind)), ("ptr", "%c")])

    b.loop(0, b.select(b.less("%k", 1), 1, "%k"), DEPTH, depth)
    b.finish()
