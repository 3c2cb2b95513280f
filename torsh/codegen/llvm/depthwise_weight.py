"""Gradients of depthwise convolutions' weights as LLVM text: sums over positions of products of two lines, kept in vectors.

Lines of the gradient are read where they are, those of the input from copies with padding, each once for a column of the kernel.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from torsh.codegen.llvm.depthwise_lines import VECTORS, Copies, ask, column_mask, lane_sum, lines_together, write_copy_lines
from torsh.codegen.llvm.depthwise_planes import generate_for_planes
from torsh.codegen.llvm.gemm_shape import Shape, arguments, pairs, shape_for
from torsh.codegen.llvm.template_builder import ENTRY, Builder, Module, Operand
from torsh.compiler.depthwise import DEPTHWISE_WEIGHT_PARAMETERS
from torsh.ops.convolution_primitives import MOST_TAPS

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

# sums[column][row] += products of ``count`` lines of g and of x, whose elements are where :data:`depthwise.LINES` has them, of
# ``items`` batch items.
LINES = ("ptr x", "i64 x_item", "i64 line", "ptr sums", "i64 height", "i64 width", "i64 y_step", "i64 row_step", "ptr places",
         "ptr g", "i64 g_item", "i64 g_line", "i64 items", "i64 count", "i64 columns")
ENOUGH_SUMS = 8      # that do not wait for each other


def generate_depthwise_weight(dtype_name: str, height: int, stride: int, narrow: bool, target: Target, symbol: str) -> str:
    """LLVM text of the template. height: of kernels, if they follow this stride in both dimensions, without gaps; or 0.

    narrow: all planes suit :mod:`depthwise_planes`.
    """
    shape = shape_for(dtype_name, target)
    if narrow and shape.masks:
        return generate_for_planes(shape, symbol)
    module = Module()
    write_copy_lines(module, shape, DEPTHWISE_WEIGHT_PARAMETERS, stride, 1)
    if height:
        _write_columns(module, shape, height, stride)
    else:
        _write_elements(module, shape)
    _write_entry(module, shape, stride, symbol)
    return module.render()


def _load(b: Builder, shape: Shape, at: str, mask: str, left: Operand, stored: bool) -> str:
    """A vector of what is left of a line, zeros behind it. stored: as it is in memory, or as it is computed with."""
    number, lanes = (shape.number if stored else shape.values), shape.lanes
    if shape.masks:
        return number.load_masked(b, at, lanes, mask)
    return b.when(b.less(left, lanes), lambda: [number.load_masked(b, at, lanes, mask)], lambda: [number.load(b, at, lanes)],
                  [number.vector(lanes)])[0]


def _write_columns(module: Module, shape: Shape, height: int, stride: int) -> None:
    """For kernels of this height: sums for a whole column of the kernel are in registers."""
    values, number, lanes, kind = shape.values, shape.number, shape.lanes, shape.number.kind
    vector = values.vector(lanes)
    b = Builder(module, "lines", arguments(LINES))
    sets = -(-ENOUGH_SUMS // height) if shape.masks or height == 3 else 1
    together = lines_together(shape)
    whole = b.mul(b.div("%count", together), together)

    def lines(x: str, g: str, mask: str, left: Operand, rows: int, sums: list[str]) -> list[str]:
        gradients = [_load(b, shape, b.at(g, b.mul("%g_line", row), number.stored), mask, left, True) for row in range(rows)]
        for line in range(stride * (rows - 1) + height):
            value = _load(b, shape, x, mask, left, False)
            for row in range(rows):
                tap = line - stride * row
                if 0 <= tap < height:
                    place = row % sets * height + tap
                    sums[place] = values.multiply_add(b, value, gradients[row], sums[place], lanes)
            x = b.at(x, "%line", kind)
        return sums

    def tap(place: str) -> None:
        origin = b.at("%x", b.load("i64", b.at("%places", place, "i64"), 8), kind)
        to = b.at("%sums", b.mul(b.mul(place, height), lanes), kind)

        def item(number_of_item: str, *sums: str) -> list[str]:
            x0 = b.at(origin, b.mul(number_of_item, "%x_item"), kind)
            g0 = b.at("%g", b.mul(number_of_item, "%g_item"), number.stored)

            def column(j: str, *sums: str) -> list[str]:
                left = b.sub("%columns", j)
                mask = column_mask(b, shape, left)

                def some(y: Operand, rows: int, sums: tuple[str, ...]) -> list[str]:
                    g = b.at(g0, b.add(b.mul(y, "%g_line"), j), number.stored)
                    return lines(b.at(x0, b.add(b.mul(y, "%row_step"), j), kind), g, mask, left, rows, list(sums))

                most = b.loop(0, whole, together, lambda y, *s: some(y, together, s), [(vector, v) for v in sums])
                return b.loop(whole, "%count", 1, lambda y, *s: some(y, 1, s), [(vector, v) for v in most])

            return b.loop(0, "%columns", lanes, column, [(vector, v) for v in sums])

        sums = b.loop(0, "%items", 1, item, [(vector, "zeroinitializer")] * (sets * height))
        for row in range(height):
            total = values.load(b, b.at(to, row * lanes, kind), lanes)
            for value in sums[row::height]:
                total = values.add(b, total, value, lanes)
            values.store(b, total, b.at(to, row * lanes, kind), lanes)

    b.loop(0, "%width", 1, tap)
    b.finish()


def _write_elements(module: Module, shape: Shape) -> None:
    """For any kernel: one element of it after another, with several vectors of a line."""
    values, number, lanes, kind = shape.values, shape.number, shape.lanes, shape.number.kind
    vector = values.vector(lanes)
    b = Builder(module, "lines", arguments(LINES))

    def element(place: str, row: str) -> None:
        origin = b.at("%x", b.add(b.load("i64", b.at("%places", place, "i64"), 8), b.mul(row, "%y_step")), kind)
        to = b.at("%sums", b.mul(b.add(b.mul(place, "%height"), row), lanes), kind)

        def line(number_of_line: str, *sums: str) -> list[str]:
            item, y = b.div(number_of_line, "%count"), b.rem(number_of_line, "%count")
            x = b.at(origin, b.add(b.mul(item, "%x_item"), b.mul(y, "%row_step")), kind)
            g = b.at("%g", b.add(b.mul(item, "%g_item"), b.mul(y, "%g_line")), number.stored)
            whole = b.mul(b.div("%columns", VECTORS * lanes), VECTORS * lanes)

            def vectors(j: str, *sums: str) -> list[str]:
                return [values.multiply_add(b, values.load(b, b.at(x, b.add(j, v * lanes), kind), lanes),
                                            number.load(b, b.at(g, b.add(j, v * lanes), number.stored), lanes), total, lanes)
                        for v, total in enumerate(sums)]

            def rest(j: str, total: str) -> list[str]:
                left = b.sub("%columns", j)
                mask = column_mask(b, shape, left)
                return [values.multiply_add(b, _load(b, shape, b.at(x, j, kind), mask, left, False),
                                            _load(b, shape, b.at(g, j, number.stored), mask, left, True), total, lanes)]

            sums_ = b.loop(0, whole, VECTORS * lanes, vectors, [(vector, v) for v in sums])
            return [*b.loop(whole, "%columns", lanes, rest, [(vector, sums_[0])]), *sums_[1:]]

        sums = b.loop(0, b.mul("%items", "%count"), 1, line, [(vector, "zeroinitializer")] * VECTORS)
        total = values.load(b, to, lanes)
        for value in sums:
            total = values.add(b, total, value, lanes)
        values.store(b, total, to, lanes)

    b.loop(0, "%width", 1, lambda place: b.loop(0, "%height", 1, lambda row: element(place, row)) and None)
    b.finish()


def _write_entry(module: Module, shape: Shape, stride: int, symbol: str) -> None:
    """The kernel: work units are channels, whose batch items are summed."""
    number, kind, stored, lanes = shape.number, shape.number.kind, shape.number.stored, shape.lanes
    b = Builder(module, symbol, ENTRY, internal=False)
    sums = b.stack(MOST_TAPS * lanes * number.kind_bytes)
    work = b.stack(Copies.nbytes(shape))
    word = b.words(DEPTHWISE_WEIGHT_PARAMETERS)
    starts = {name: b.buffer(word[f"{name}_slot"], word[f"{name}_offset"]) for name in ("c", "g", "x")}
    copies = Copies(b, shape, word, stride, 1, work)
    steps = b.mul(copies.down_and_across()[0], copies.line), b.mul(word["stride1"], copies.line)

    def output(group: str, row: str) -> None:
        b.loop(0, word["taps"], 1, lambda tap: shape.values.store(
            b, "zeroinitializer", b.at(sums, b.mul(tap, lanes), kind), lanes))
        x = b.at(starts["x"], b.mul(group, word["x_group"]), stored)
        g = b.at(starts["g"], b.add(b.mul(group, word["g_group"]), b.mul(row, word["g_row"])), stored)

        def items(first: str) -> None:
            number_of = b.min(copies.channels, b.sub(word["batch"], first))

            more = b.less(b.add(first, number_of), word["batch"])
            # From these batch items to the next ones, or to the first ones of the next channel.
            x_step, g_step = [b.select(more, b.mul(number_of, item), b.sub(group, b.mul(first, item)))
                              for item, group in ((word["x_batch"], word["x_group"]), (word["g_batch"], word["g_row"]))]

            def ask_gradients(y: str, count: Operand) -> None:
                ahead = copies.ahead(y, count, word["counts2"], g_step)
                start = b.at(g, b.add(b.add(b.mul(first, word["g_batch"]), b.mul(y, word["counts2"])), ahead), stored)
                b.loop(0, number_of, 1, lambda item: ask(b, b.at(start, b.mul(item, word["g_batch"]), stored),
                                                         b.mul(count, word["counts2"]), number.stored_bytes))

            def block(y: str, count: Operand, column: str, columns: Operand) -> None:
                copies.copy(number_of, y, column, count, x_step)
                ask_gradients(y, count)
                inside = b.add(b.add(b.mul(y, word["counts2"]), column), b.mul(first, word["g_batch"]))
                b.call("lines", *pairs(LINES, (copies.memory, copies.plane, copies.line, sums, word["kernel1"],
                                               word["kernel2"], *steps, copies.places, b.at(g, inside, stored),
                                               word["g_batch"], word["counts2"], number_of, count, columns)))

            copies.take(number_of, lambda place: b.at(x, b.mul(b.add(first, place), word["x_batch"]), stored))
            copies.blocks(block)

        b.loop(0, word["batch"], copies.channels, items)
        c = b.at(starts["c"], b.mul(b.add(b.mul(group, word["rows"]), row), word["taps"]), kind)

        def tap(ky: str, kx: str) -> None:
            walked = [b.select(b.less(word[f"dilation{d}"], 0), b.sub(b.sub(word[f"kernel{d}"], 1), k), k)
                      for d, k in ((1, ky), (2, kx))]
            place = b.add(b.mul(walked[1], word["kernel1"]), walked[0])
            total = shape.values.load(b, b.at(sums, b.mul(place, lanes), kind), lanes)
            shape.values.store(b, lane_sum(b, shape, total), b.at(c, b.add(b.mul(ky, word["kernel2"]), kx), kind))

        b.loop(0, word["kernel1"], 1, lambda ky: b.loop(0, word["kernel2"], 1, lambda kx: tap(ky, kx)) and None)

    b.loop("%begin", "%end", 1, lambda group: b.loop(0, word["rows"], 1, lambda row: output(group, row)) and None)
    b.finish()
