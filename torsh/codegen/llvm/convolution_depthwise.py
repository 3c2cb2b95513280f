"""Depthwise convolutions: each output has one channel, so that lines of positions are vectors, and weights their factors.

Lines of the input are copied with their padding; of stride 2, even and odd elements apart, so that windows read vectors.
Several lines of positions are computed together: a vector of the input is loaded once for all elements of the kernel's column.
"""
from __future__ import annotations

from typing import Final

from torsh.codegen.llvm.convolution_lines import in_plane, reach
from torsh.codegen.llvm.gemm_shape import Shape, arguments, pairs
from torsh.codegen.llvm.template_builder import Builder, Module, Operand
from torsh.compiler.convolution import CONVOLUTION_PARAMETERS

COPIES_BYTES: Final = 128 << 10
MOST_TAPS: Final = 1024
LINES_TOGETHER: Final = 7
HEIGHTS: Final = (3, 5)      # of kernels, with code of their own
STRIDES: Final = (1, 2)
# c[line][position] = bias + sum over (column, row) of the kernel of weights[column][row] * x[line * row_step + row * y_step +
# places[column] + position]: ``count`` lines.
LINES = ("ptr x", "i64 line", "ptr weights", "i64 height", "i64 width", "i64 y_step", "i64 row_step", "ptr places", "ptr c",
         "i64 c_line", "i64 count", "i64 columns")
SPREAD = ("ptr params", "ptr x", "i64 y", "i64 x_start", "i64 lines", "ptr to", "i64 line")
DEPTHWISE = ("ptr table", "ptr params", "i64 begin", "i64 end", "ptr work")


def depthwise_bytes(shape: Shape) -> int:
    """Memory that is worked in."""
    return COPIES_BYTES + 2 * shape.lanes * shape.number.kind_bytes + MOST_TAPS * (8 + shape.number.kind_bytes)


def write_depthwise(module: Module, shape: Shape) -> None:
    """The function ``depthwise``: units of calls for which :func:`suits_depthwise` holds."""
    for stride in STRIDES:
        _write_spread(module, shape, stride)
        for height in HEIGHTS:
            _write_lines(module, shape, height, stride)
    _write_lines(module, shape, 0, 0)
    _write_depthwise(module, shape)


def _line(b: Builder, shape: Shape, word: dict[str, str]) -> tuple[Operand, Operand]:
    """(elements of a line, of its part that has every stride-th element)."""
    part = b.add(b.add(b.sub(word["counts2"], 1), b.ceil_div(reach(b, word, 2)[0], word["stride2"])), 1)
    part = b.mul(b.ceil_div(part, shape.lanes), shape.lanes)
    return b.mul(part, word["stride2"]), part


def _lines_at_once(b: Builder, shape: Shape, word: dict[str, str], line: Operand) -> Operand:
    """Lines of positions whose input fits; not positive if there are none."""
    left = b.sub(b.div(COPIES_BYTES // shape.number.kind_bytes, line), b.add(reach(b, word, 1)[0], 1))
    return b.add(b(f"sdiv i64 {left}, {word['stride1']}"), b(f"zext i1 {b.less(-1, left)} to i64"))


def suits_depthwise(b: Builder, shape: Shape, word: dict[str, str]) -> str:
    """One channel each, of a plane in a usual layout, the result as well, and some lines fit?"""
    period = b.mul(word["counts1"], word["counts2"])
    whole = [b.equal(word["c_run"], period), b.equal(word["c_strides2"], 1), b.equal(word["fold"], 1),
             b.equal(word["m_block"], word["rows"]), b(f"icmp sge i64 {word['n_block']}, {period}")]
    line = _line(b, shape, word)[0]
    return b.both(in_plane(b, word), b.equal(word["channels"], 1), *whole, b.less(word["stride2"], max(STRIDES) + 1),
                  b.less(0, _lines_at_once(b, shape, word, line)), b.less(word["taps"], MOST_TAPS + 1))


def _write_lines(module: Module, shape: Shape, height: int, stride: int) -> None:
    """Kernels of any height and stride, or (if given) of one, whose rows follow each other."""
    values, number, lanes, kind = shape.values, shape.number, shape.lanes, shape.number.kind
    b = Builder(module, f"lines{height}_{stride}", arguments((*LINES, f"{kind} bias")))
    start = b.splat(kind, lanes, "%bias")

    def factor(at: str) -> str:
        return b.splat(kind, lanes, values.load(b, at))

    def given(x: str, weights: str, rows: int, sums: list[str]) -> list[str]:
        factors = [factor(b.at(weights, row, kind)) for row in range(height)]
        sums = list(sums)
        for line in range(stride * (rows - 1) + height):
            value = values.load(b, x, lanes)
            for row in range(rows):
                if 0 <= line - stride * row < height:
                    sums[row] = values.multiply_add(b, value, factors[line - stride * row], sums[row], lanes)
            x = b.at(x, "%line", kind)
        return sums

    def any_height(x: str, weights: str, rows: int, sums: list[str]) -> list[str]:
        def kernel_row(number_of_row: str, *sums: str) -> list[str]:
            value = factor(b.at(weights, number_of_row, kind))
            at = b.at(x, b.mul(number_of_row, "%y_step"), kind)
            result = []
            for total in sums:
                result.append(values.multiply_add(b, values.load(b, at, lanes), value, total, lanes))
                at = b.at(at, "%row_step", kind)
            return result

        return b.loop(0, "%height", 1, kernel_row, [(values.vector(lanes), total) for total in sums])

    def together(y: Operand, rows: int) -> None:
        x, c = b.at("%x", b.mul(y, "%row_step"), kind), b.at("%c", b.mul(y, "%c_line"), number.stored)

        def column(j: str) -> None:
            def tap(place: str, *sums: str) -> list[str]:
                at = b.at(x, b.add(b.load("i64", b.at("%places", place, "i64"), 8), j), kind)
                weights = b.at("%weights", b.mul(place, "%height"), kind)
                return (given if height else any_height)(at, weights, rows, list(sums))

            sums = b.loop(0, "%width", 1, tap, [(values.vector(lanes), start)] * rows)
            mask = b.mask(lanes, 8 * number.kind_bytes, b.min(b.sub("%columns", j), lanes))
            for row, total in enumerate(sums):
                to = b.at(c, b.add(b.mul("%c_line", row), j), number.stored)
                number.store_masked(b, total, to, lanes, mask)

        b.loop(0, "%columns", lanes, column)

    def many() -> None:
        last = b.sub("%count", LINES_TOGETHER)           # the last lines may be computed twice
        b.loop(0, "%count", LINES_TOGETHER, lambda y: together(b.min(y, last), LINES_TOGETHER))

    b.when(b.less("%count", LINES_TOGETHER), lambda: _each(b, "%count", lambda y: together(y, 1)), many)
    b.finish()


def _each(b: Builder, count: Operand, body: object) -> None:
    b.loop(0, count, 1, body)  # type: ignore[arg-type]


def _write_spread(module: Module, shape: Shape, stride: int) -> None:
    """Lines with their padding, every stride-th element together."""
    number, values, lanes, kind = shape.number, shape.values, shape.lanes, shape.number.kind
    b = Builder(module, f"spread{stride}", arguments(SPREAD))
    word = b.words(CONVOLUTION_PARAMETERS)
    part_length = b.div("%line", stride)
    bits = 8 * number.kind_bytes

    def clamped(value: Operand) -> Operand:
        return b.min(b.select(b.less(value, 0), 0, value), lanes)

    def vector(at: str) -> None:
        positions = [b.add("%x_start", b.add(b.mul(at, stride), part * lanes)) for part in range(stride)]
        masks = []
        for x in positions:
            outside = b.mask(lanes, bits, clamped(b.sub(0, x)))
            inside = b(f"xor <{lanes} x i1> {outside}, <{', '.join(['i1 true'] * lanes)}>")
            masks.append(b(f"and <{lanes} x i1> {b.mask(lanes, bits, clamped(b.sub(word['sizes2'], x)))}, {inside}"))

        def line(number_of_line: str) -> None:
            y = b.add("%y", number_of_line)
            source = b.at("%x", b.mul(y, word["x_strides1"]), number.stored)
            vectors = b.when(b(f"icmp ult i64 {y}, {word['sizes1']}"), lambda: [
                number.load_masked(b, b.at(source, x, number.stored), lanes, mask)
                for x, mask in zip(positions, masks, strict=True)], lambda: ["zeroinitializer"] * stride,
                [number.vector(lanes)] * stride)
            to = b.at("%to", b.add(b.mul(number_of_line, "%line"), at), kind)
            for part in range(stride):
                value = vectors[0] if stride == 1 else b.shuffle(kind, lanes, vectors[0], vectors[1],
                                                                 range(part, 2 * lanes, 2))
                values.store(b, value, b.at(to, b.mul(part, part_length), kind), lanes)

        b.loop(0, "%lines", 1, line)

    b.loop(0, part_length, lanes, vector)
    b.finish()


def _write_depthwise(module: Module, shape: Shape) -> None:
    number, kind, stored, size = shape.number, shape.number.kind, shape.number.stored, shape.number.kind_bytes
    b = Builder(module, "depthwise", arguments(DEPTHWISE))
    word = b.words(CONVOLUTION_PARAMETERS)
    starts = {name: b.buffer(word[f"{name}_slot"], word[f"{name}_offset"]) for name in ("c", "w", "x", "bias")}
    line, part = _line(b, shape, word)
    (reach_y, first_y), (_, first_x) = reach(b, word, 1), reach(b, word, 2)
    at_once = _lines_at_once(b, shape, word, line)
    places, weights = b.at("%work", 0, "i8"), b.at("%work", 8 * MOST_TAPS, "i8")
    copies = b.at("%work", (8 + size) * MOST_TAPS, "i8")
    height, width = word["kernel1"], word["kernel2"]
    has_bias = b(f"icmp ne i64 {word['has_bias']}, 0")
    down, across = [b(f"call i64 @llvm.abs.i64(i64 {word[f'dilation{d}']}, i1 false)") for d in (1, 2)]
    module.declare("i64 @llvm.abs.i64(i64, i1)")

    def place(x: str) -> None:
        far = b.mul(x, across)
        inside = b.add(b.mul(b.rem(far, word["stride2"]), part), b.div(far, word["stride2"]))
        b.store("i64", inside, b.at(places, x, "i64"), 8)

    b.loop(0, width, 1, place)
    function = "@lines0_0"
    for stride in STRIDES:
        for rows in HEIGHTS:
            same = b.both(b.equal(height, rows), b.equal(word["stride1"], stride), b.equal(down, 1))
            function = b.select(same, f"@lines{rows}_{stride}", function, "ptr")
    spread = "@spread1"
    for stride in STRIDES[1:]:
        spread = b.select(b.equal(word["stride2"], stride), f"@spread{stride}", spread, "ptr")
    turned = [b.less(word[f"dilation{d}"], 0) for d in (1, 2)]

    def unit(item: str) -> None:
        group, batch = b.rem(item, word["groups"]), b.div(item, word["groups"])
        x = b.at(starts["x"], b.add(b.mul(batch, word["x_batch"]), b.mul(group, word["x_group"])), stored)
        c = b.at(starts["c"], b.add(b.mul(batch, word["c_batch"]), b.mul(group, word["c_group"])), stored)
        w = b.at(starts["w"], b.mul(group, word["w_group"]), stored)

        def some_lines(y: str) -> None:
            count = b.min(at_once, b.sub(word["counts1"], y))
            lines = b.add(b.add(b.mul(b.sub(count, 1), word["stride1"]), reach_y), 1)
            top = b.add(b.sub(b.mul(y, word["stride1"]), word["padding1"]), first_y)
            left = b.sub(first_x, word["padding2"])
            _call(b, spread, pairs(SPREAD, ("%params", x, top, left, lines, copies, line)))
            b.loop(0, word["rows"], 1, lambda row: output(row, y, count))

        def output(row: str, y: str, count: Operand) -> None:
            source = b.at(w, b.mul(row, word["w_row"]), stored)

            def weight(ky: str, kx: str) -> None:
                value = number.load(b, b.at(source, b.add(b.mul(ky, word["w_kernel1"]), b.mul(kx, word["w_kernel2"])), stored))
                ky_, kx_ = [b.select(flag, b.sub(b.sub(n, 1), k), k)
                            for flag, n, k in zip(turned, (height, width), (ky, kx), strict=True)]
                shape.values.store(b, value, b.at(weights, b.add(b.mul(kx_, height), ky_), kind))

            _each(b, height, lambda ky: _each(b, width, lambda kx: weight(ky, kx)))
            at = b.at(starts["bias"], b.mul(b.add(b.mul(group, word["rows"]), row), word["bias_stride"]), stored)
            bias = b.when(has_bias, lambda: [number.load(b, at)], lambda: [number.zero], [kind])[0]
            to = b.at(c, b.add(b.mul(row, word["c_row"]), b.mul(y, word["counts2"])), stored)
            _call(b, function, [*pairs(LINES, (copies, line, weights, height, width, b.mul(down, line),
                                               b.mul(word["stride1"], line), places, to, word["counts2"], count,
                                               word["counts2"])), (kind, bias)])

        b.loop(0, word["counts1"], at_once, some_lines)

    b.loop("%begin", "%end", 1, unit)
    b.finish()


def _call(b: Builder, function: str, given: list[tuple[str, Operand]]) -> None:
    b.do(f"call void {function}({', '.join(f'{kind} {value}' for kind, value in given)})")
