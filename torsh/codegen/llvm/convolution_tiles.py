"""Register tiles of convolutions that read lines in place, and the turning of what they sum: a library (see ``libraries.py``)."""
from __future__ import annotations

from typing import Final

from torsh.codegen.llvm.gemm_pack import LARGEST_SQUARE
from torsh.codegen.llvm.gemm_shape import Shape, arguments
from torsh.codegen.llvm.gemm_words import multiply_add
from torsh.codegen.llvm.numeric import Numeric
from torsh.codegen.llvm.template_builder import Builder, Module, ignore

MOST_ROWS: Final = 12        # of a tile: each has an address in a register
# sums[row of the tile][columns] of products of b's rows with elements of x: those of a row are at starts[row] + places[k].
# There is a place behind the last one, which is read, but not used.
POINTS: Final = ("ptr x", "ptr starts", "ptr places", "ptr b", "i64 k", "ptr sums", "i64 columns", "i1 again")
# c[row][n] = from[n][row] + biases[row]; biases: as many as columns of a tile.
TURN_OUT: Final = ("ptr from", "ptr c", "i64 ldc", "i64 n", "i64 rows", "ptr biases")


def most_rows(shape: Shape) -> int:
    """Rows of the highest tile."""
    return min(shape.rows, MOST_ROWS)


def write_points(module: Module, shape: Shape, table: str) -> None:
    """A table of the tiles by their number of rows; the last entry, where there are masks, is ``turn_out``."""
    most = most_rows(shape)
    for rows in range(1, most + 1):
        _write_tile(module, shape, rows)
    functions = ["ptr null", *(f"ptr @points{rows}" for rows in range(1, most + 1))]
    if shape.masks:
        _write_turn_out(module, shape)
        functions.append("ptr @turn_out")
    module.functions.append(f"@{table} = constant [{len(functions)} x ptr] [{', '.join(functions)}]")


def _write_tile(module: Module, shape: Shape, rows: int) -> None:
    values, lanes, vectors, kind = shape.values, shape.lanes, shape.vectors, shape.number.kind
    vector = values.vector(lanes)
    panel_number = Numeric(values.name, "i32", "i32", True) if shape.word else values
    b = Builder(module, f"points{rows}", arguments(POINTS))
    starts = [b.at("%x", b.load("i64", b.at("%starts", row, "i64"), 8), kind) for row in range(rows)]
    first = b.load("i64", "%places", 8)

    def product(parts: int) -> list[str]:
        def step(number: str, place: str, panel: str, *sums: str) -> list[str]:
            # Loaded one step ahead; otherwise LLVM gathers all factors first, in more registers than there are.
            following = b.load("i64", b.at("%places", b.add(number, 1), "i64"), 8)
            columns = [panel_number.load(b, b.at(panel, part * lanes, kind), lanes) for part in range(parts)]
            result = []
            for row, start in enumerate(starts):
                factor = b.splat(panel_number.kind, lanes, panel_number.load(b, b.at(start, place, kind)))
                result += [multiply_add(b, shape, shape.word, factor, column, sums[row * parts + part])
                           for part, column in enumerate(columns)]
            return [following, b.at(panel, shape.columns, kind), *result]

        found = b.loop(0, "%k", 1, step, [("i64", first), ("ptr", "%b")] + [(vector, "zeroinitializer")] * (rows * parts))[2:]
        return [found[row * parts + part] if part < parts else "zeroinitializer"
                for row in range(rows) for part in range(vectors)]

    sums = b.when(b.less("%columns", lanes + 1), lambda: product(1), lambda: product(vectors), [vector] * (rows * vectors))
    at = [b.at("%sums", number * lanes, kind) for number in range(rows * vectors)]

    def added() -> list[str]:
        return [values.add(b, value, values.load(b, place, lanes), lanes) for value, place in zip(sums, at, strict=True)]

    for value, place in zip(b.when("%again", added, lambda: sums, [vector] * len(sums)), at, strict=True):
        values.store(b, value, place, lanes)
    b.finish()


def _write_turn_out(module: Module, shape: Shape) -> None:
    values, kind, size = shape.values, shape.number.kind, shape.number.kind_bytes
    side = min(shape.lanes, LARGEST_SQUARE)
    b = Builder(module, "turn_out", arguments(TURN_OUT))
    last = b.sub("%n", 1)

    def square(i: str, j: str) -> None:
        mask = b.mask(side, 8 * size, b.min(b.sub("%n", j), side))
        rows = [values.load(b, b.at("%from", b.add(b.mul(b.min(b.add(j, row), last), shape.columns), i), kind), side)
                for row in range(side)]
        height = b.sub("%rows", i)
        for row, value in enumerate(b.transpose(kind, size, rows)):
            bias = values.load(b, b.at("%biases", b.add(i, row), kind))
            value = values.add(b, value, b.splat(kind, side, bias), side)
            there = b(f"and <{side} x i1> {mask}, {b.splat('i1', side, b.less(row, height))}")
            values.store_masked(b, value, b.at("%c", b.add(b.mul(b.add(i, row), "%ldc"), j), kind), side, there)

    b.loop(0, "%rows", side, lambda i: ignore(b.loop(0, "%n", side, lambda j: square(i, j))))
    b.finish()
