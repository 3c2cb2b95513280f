"""Register tiles of matrix products, which all templates share: a library (see ``libraries.py``)."""
from __future__ import annotations

from typing import Final

from torsh.codegen.llvm.gemm_shape import Shape, arguments, pairs
from torsh.codegen.llvm.gemm_words import multiply_add
from torsh.codegen.llvm.numeric import Numeric
from torsh.codegen.llvm.template_builder import Builder, Module, Operand

TILE: Final = ("ptr a", "ptr b", "i64 b_step", "ptr c", "i64 ldc", "ptr init", "i64 ldi", "i1 has_init", "i64 k", "i64 columns")
STRIDED_TILE: Final = (*TILE, "i64 a_step")
HALF_TILE: Final = 8     # rows of a tile from which on its halves are high enough to keep the arithmetic busy


def write_tiles(module: Module, shape: Shape, table: str) -> None:
    """The register tiles, and a table of them by their number of rows."""
    most = shape.rows if shape.word else min(HALF_TILE, shape.rows)       # instructions for words take longer
    whole = (*range(1, most + 1), shape.rows)
    for rows in range(1, shape.rows + 1):
        if rows in whole:
            write_tile(module, shape, rows)
        else:
            _write_halves(module, shape, rows)
    tiles = ", ".join(["ptr null", *(f"ptr @tile{rows}" for rows in range(1, shape.rows + 1))])
    module.functions.append(f"@{table} = constant [{shape.rows + 1} x ptr] [{tiles}]")


def _write_halves(module: Module, shape: Shape, rows: int) -> None:
    """A tile as two lower ones, which are nearly as fast: machine code for every height would take long to make."""
    kind, upper = shape.number.kind, rows - rows // 2
    b = Builder(module, f"tile{rows}", arguments(TILE))
    given = {name.split()[1]: "%" + name.split()[1] for name in TILE}
    b.call(f"tile{upper}", *pairs(TILE, list(given.values())))
    given.update(a=b.at("%a", upper, kind), c=b.at("%c", b.mul("%ldc", upper), kind),
                 init=b.at("%init", b.mul("%ldi", upper), kind))
    b.call(f"tile{rows - upper}", *pairs(TILE, list(given.values())))
    b.finish()


def write_tile(module: Module, shape: Shape, rows: int, name: str = "tile", a_row: int = 1,
               a_step: Operand | None = None) -> None:
    """c[rows, columns] = a panel @ b panel (+ init). a: [k][row_width], b: rows ``b_step`` apart, of the computing type.

    With ``a_step`` (a number, or "%a_step"), which then is a last argument: a's element (row, k) is at
    row * a_row + k * a_step. Without masks, all columns are written, so the caller gives a scratch block for a partial tile.
    """
    number, lanes, vectors = shape.values, shape.lanes, shape.vectors
    panel_number = Numeric(number.name, "i32", "i32", True) if shape.word else number   # a word has the size of a sum
    kind, vector = number.kind, number.vector(lanes)
    b = Builder(module, f"{name}{rows}", arguments(TILE if a_step is None else STRIDED_TILE))
    step_of_a = shape.row_width if a_step is None else a_step
    c_rows = [b.at("%c", b.mul("%ldc", row), kind) for row in range(rows)]
    for pointer in c_rows:
        for part in range(vectors):
            b.prefetch(b.at(pointer, part * lanes, kind), write=True)

    def product(parts: int) -> list[str]:
        """The sums of the first vectors of each row; zeros for the others."""
        def step(_: str, a: str, panel: str, *sums: str) -> list[str]:
            columns = [panel_number.load(b, b.at(panel, part * lanes, kind), lanes) for part in range(parts)]
            result = []
            for row in range(rows):
                value = b.splat(panel_number.kind, lanes, panel_number.load(b, b.at(a, row * a_row, kind)))
                result += [multiply_add(b, shape, shape.word, value, column, sums[row * parts + part])
                           for part, column in enumerate(columns)]
            return [b.at(a, step_of_a, kind), b.at(panel, "%b_step", kind), *result]

        start = ["zeroinitializer"] * parts
        if shape.panel_head:
            start = [number.load(b, b.at("%b", part * lanes - shape.panel_head, kind), lanes) for part in range(parts)]
        sums = b.loop(0, "%k", 1, step, [("ptr", "%a"), ("ptr", "%b")] + [(vector, value) for value in start] * rows)[2:]
        return [sums[row * parts + part] if part < parts else "zeroinitializer"
                for row in range(rows) for part in range(vectors)]

    narrow = b.less("%columns", lanes + 1)
    sums = b.when(narrow, lambda: product(1), lambda: product(vectors), [vector] * (rows * vectors))
    masks = column_masks(b, shape, vectors, "%columns") if shape.masks else []

    def init() -> list[str]:
        result = []
        for row in range(rows):
            start = b.at("%init", b.mul("%ldi", row), kind)
            for part in range(vectors):
                at = b.at(start, part * lanes, kind)
                old = number.load_masked(b, at, lanes, masks[part]) if masks else number.load(b, at, lanes)
                result.append(number.add(b, sums[row * vectors + part], old, lanes))
        return result

    sums = b.when("%has_init", init, lambda: sums, [vector] * len(sums))
    for row in range(rows):
        for part in range(vectors):
            at, value = b.at(c_rows[row], part * lanes, kind), sums[row * vectors + part]
            if masks:
                number.store_masked(b, value, at, lanes, masks[part])
            else:
                number.store(b, value, at, lanes)
    b.finish()


def column_masks(b: Builder, shape: Shape, vectors: int, columns: Operand) -> list[str]:
    """Masks of the vectors of a tile whose first ``columns`` columns exist."""
    bits = 8 * shape.number.kind_bytes
    masks = []
    for part in range(vectors):
        left = b.sub(columns, part * shape.lanes)
        left = b.select(b.less(left, 0), 0, left)
        masks.append(b.mask(shape.lanes, bits, b.min(left, shape.lanes)))
    return masks
