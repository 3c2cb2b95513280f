"""Depthwise convolutions as LLVM text: lines of positions are vectors, elements of the kernel their factors.

Several lines of positions are computed together: a vector of the input is loaded once for a whole column of the kernel.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from torsh.codegen.llvm.depthwise_lines import (
    MOST_LINES,
    VECTORS,
    Copies,
    ask,
    column_mask,
    lines_together,
    write_copy_lines,
)
from torsh.codegen.llvm.gemm_shape import Shape, arguments, pairs, shape_for
from torsh.codegen.llvm.template_builder import ENTRY, Builder, Module, Operand
from torsh.compiler.depthwise import DEPTHWISE_PARAMETERS

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

# c[line][position] = bias + the sum over (row, column) of the kernel of w[row * w_row + column * w_column] *
# x[line * row_step + row * y_step + places[column] + position]: ``count`` lines.
LINES = ("ptr x", "i64 line", "ptr w", "i64 w_row", "i64 w_column", "i64 height", "i64 width", "i64 y_step", "i64 row_step",
         "ptr places", "ptr c", "i64 c_line", "i64 count", "i64 columns")


def generate_depthwise(dtype_name: str, height: int, stride: int, spacing: int, target: Target, symbol: str) -> str:
    """LLVM text of the template. height: of kernels, if they follow this stride in both dimensions, without gaps; or 0."""
    shape = shape_for(dtype_name, target)
    module = Module()
    write_copy_lines(module, shape, DEPTHWISE_PARAMETERS, stride, spacing)
    _write_lines(module, shape, height, stride)
    _write_entry(module, shape, stride, spacing, symbol)
    return module.render()


def _write_lines(module: Module, shape: Shape, height: int, stride: int) -> None:
    values, number, lanes, kind = shape.values, shape.number, shape.lanes, shape.number.kind
    b = Builder(module, "lines", arguments((*LINES, f"{kind} bias")))
    start = b.splat(kind, lanes, "%bias")
    together = lines_together(shape)
    paired = together == MOST_LINES                # enough registers for two vectors of each line

    def factor(w: str, row: Operand) -> str:
        return b.splat(kind, lanes, number.load(b, b.at(w, b.mul("%w_row", row), number.stored)))

    def column_of(x: str, w: str, rows: int, sums: list[str]) -> list[str]:
        """Sums with the products of a column of the kernel, whose height is known: a line of x meets several rows of it."""
        factors = [factor(w, row) for row in range(height)]
        vectors = len(sums) // rows
        for line in range(stride * (rows - 1) + height):
            for v in range(vectors):
                value = values.load(b, b.at(x, v * lanes, kind), lanes)
                for row in range(rows):
                    tap, place = line - stride * row, row * vectors + v
                    if 0 <= tap < height:
                        sums[place] = values.multiply_add(b, value, factors[tap], sums[place], lanes)
            x = b.at(x, "%line", kind)
        return sums

    def any_column(x: str, w: str, rows: int, sums: list[str]) -> list[str]:
        def kernel_row(number_of_row: str, *sums: str) -> list[str]:
            by = factor(w, number_of_row)
            at = b.at(x, b.mul(number_of_row, "%y_step"), kind)
            vectors = len(sums) // rows
            places = [b.at(b.at(at, b.mul("%row_step", row), kind), v * lanes, kind)
                      for row in range(rows) for v in range(vectors)]
            return [values.multiply_add(b, values.load(b, place, lanes), by, total, lanes)
                    for place, total in zip(places, sums, strict=True)]

        return b.loop(0, "%height", 1, kernel_row, [(values.vector(lanes), total) for total in sums])

    def block(y: Operand, rows: int, vectors: int, low: Operand, high: Operand) -> None:
        """Positions from ``low`` to ``high`` of some lines, some vectors at a time."""
        x, c = b.at("%x", b.mul(y, "%row_step"), kind), b.at("%c", b.mul(y, "%c_line"), number.stored)

        def column(j: str) -> None:
            def tap(place: str, *sums: str) -> list[str]:
                at = b.at(x, b.add(b.load("i64", b.at("%places", place, "i64"), 8), j), kind)
                w = b.at("%w", b.mul("%w_column", place), number.stored)
                return (column_of if height else any_column)(at, w, rows, list(sums))

            sums = b.loop(0, "%width", 1, tap, [(values.vector(lanes), start)] * (rows * vectors))
            left = b.sub("%columns", j)
            masks = [column_mask(b, shape, b.sub(left, v * lanes)) for v in range(vectors)]
            for place, total in enumerate(sums):
                row, v = divmod(place, vectors)
                to = b.at(b.at(c, b.add(b.mul("%c_line", row), j), number.stored), v * lanes, number.stored)
                _store(b, shape, total, to, masks[v], b.sub(left, v * lanes))

        b.loop(low, high, lanes * vectors, column)

    def many() -> None:
        last = b.sub("%count", together)           # the last lines may be computed twice
        pairs_end = b.mul(b.div(b.add("%columns", lanes - 1), 2 * lanes), 2 * lanes) if paired else 0

        def some(y: str) -> None:
            start = b.min(y, last)
            if paired:
                block(start, together, 2, 0, pairs_end)
            block(start, together, 1, pairs_end, "%columns")

        b.loop(0, "%count", together, some)

    def few() -> None:
        b.loop(0, "%count", 1, lambda y: block(y, 1, 1 if height else VECTORS, 0, "%columns"))

    b.when(b.less("%count", together), few, many)
    b.finish()


def _store(b: Builder, shape: Shape, value: str, to: str, mask: str, left: Operand) -> None:
    """Store what is left of a vector of positions."""
    number, lanes = shape.number, shape.lanes

    def masked() -> None:
        number.store_masked(b, value, to, lanes, mask)

    if shape.masks:
        masked()
    else:
        b.when(b.less(left, lanes), masked, lambda: number.store(b, value, to, lanes))


def _walk(b: Builder, word: dict[str, str], dimension: int) -> tuple[Operand, Operand]:
    """(first element of the weight as lines are walked, forwards; step to the next one) along a dimension."""
    step, turned = word[f"w_kernel{dimension}"], b.less(word[f"dilation{dimension}"], 0)
    last = b.mul(b.sub(word[f"kernel{dimension}"], 1), step)
    return b.select(turned, last, 0), b.select(turned, b.sub(0, step), step)


def _write_entry(module: Module, shape: Shape, stride: int, spacing: int, symbol: str) -> None:
    """The kernel: work units are channels of batch items."""
    number, kind, stored = shape.number, shape.number.kind, shape.number.stored
    b = Builder(module, symbol, ENTRY, internal=False)
    work = b.stack(Copies.nbytes(shape))
    word = b.words(DEPTHWISE_PARAMETERS)
    starts = {name: b.buffer(word[f"{name}_slot"], word[f"{name}_offset"]) for name in ("c", "w", "x", "bias")}
    copies = Copies(b, shape, word, stride, spacing, work)
    has_bias = b(f"icmp ne i64 {word['has_bias']}, 0")
    steps = b.mul(copies.down_and_across()[0], copies.line), b.mul(word["stride1"], copies.line)
    period = b.mul(word["counts1"], word["counts2"])
    (first_row, w_row), (first_column, w_column) = _walk(b, word, 1), _walk(b, word, 2)
    first_tap = b.add(first_row, first_column)

    def channels(first: str) -> None:
        number_of = b.min(copies.channels, b.sub("%end", first))

        def source(place: str) -> str:
            item = b.add(first, place)
            offset = b.add(b.mul(b.div(item, word["groups"]), word["x_batch"]),
                           b.mul(b.rem(item, word["groups"]), word["x_group"]))
            return b.at(starts["x"], offset, stored)

        def block(y: str, count: Operand, column: str, columns: Operand) -> None:
            def compute(place: str, row: str) -> None:
                item = b.add(first, place)
                group, output = b.rem(item, word["groups"]), b.add(b.mul(item, word["rows"]), row)
                tap = b.add(b.add(b.mul(group, word["w_group"]), b.mul(row, word["w_row"])), first_tap)
                at = b.at(starts["bias"], b.mul(b.add(b.mul(group, word["rows"]), row), word["bias_stride"]), stored)
                bias = b.when(has_bias, lambda: [number.load(b, at)], lambda: [number.zero], [kind])[0]
                inside = b.add(b.mul(y, word["counts2"]), column)
                c = b.at(starts["c"], b.add(b.mul(output, period), inside), stored)
                b.call("lines", *pairs(LINES, (copies.of_channel(place), copies.line, b.at(starts["w"], tap, stored), w_row, w_column,
                                               word["kernel1"], word["kernel2"], *steps, copies.places, c, word["counts2"],
                                               count, columns)), (kind, bias))

            copies.copy(number_of, y, column, count, b.mul(number_of, word["x_group"]))
            results = b.add(b.mul(b.mul(first, word["rows"]), period), b.mul(y, word["counts2"]))
            ask(b, b.at(starts["c"], results, stored), b.mul(b.mul(count, word["counts2"]), number_of), number.stored_bytes, True)
            b.loop(0, number_of, 1, lambda place: b.loop(0, word["rows"], 1, lambda row: compute(place, row)) and None)

        copies.take(number_of, source)
        copies.blocks(block)

    b.loop("%begin", "%end", copies.channels, channels)
    b.finish()
