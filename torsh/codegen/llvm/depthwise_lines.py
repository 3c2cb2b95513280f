"""Lines of the channels of a depthwise convolution, copied with their padding, so that windows read vectors in place.

Of stride 2, even and odd elements are apart. What stands between the elements of a spaced input, and around it, is zero.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Final

from torsh.codegen.llvm.convolution_lines import reach
from torsh.codegen.llvm.gemm_shape import Shape, arguments, pairs
from torsh.codegen.llvm.template_builder import Builder, Module, Operand
from torsh.ops.convolution_primitives import MOST_TAPS
from torsh.ops.depthwise_primitives import MOST_ELEMENTS, MOST_POSITIONS

MOST_LINES: Final = 7              # of positions that are computed together
VECTORS: Final = 4                 # of a line that are computed together where there are not so many lines
ENOUGH_ELEMENTS: Final = 8 << 10   # of lines: for the first-level cache
MOST_CHANNELS: Final = 8           # whose lines are copied before they are read
CACHE_LINE: Final = 64             # bytes
# Of some channels, ``plane`` elements apart. What is ``ahead`` elements away in memory is asked for.
COPY = ("ptr params", "ptr sources", "i64 channels", "i64 y", "i64 x_start", "i64 lines", "ptr to", "i64 line", "i64 plane",
        "i64 ahead")


def lines_together(shape: Shape) -> int:
    """Lines of positions whose sums are in registers together."""
    return min(MOST_LINES, shape.rows)


class Copies:
    """How lines are cut in blocks of positions (``at_once`` lines, ``columns``), and how copies of them lie in memory."""

    def __init__(self, b: Builder, shape: Shape, word: dict[str, str], stride: int, spacing: int, work: str) -> None:
        self.b, self.shape, self.word, self.stride = b, shape, word, stride
        (self.reach_y, self.first_y), (reach_x, self.first_x) = reach(b, word, 1), reach(b, word, 2)
        together = lines_together(shape)
        self.places, self.sources = work, b.at(work, 8 * MOST_TAPS, "i8")
        self.memory = b.at(work, 8 * (MOST_TAPS + MOST_CHANNELS), "i8")
        self.columns = b.min(word["counts2"], MOST_POSITIONS)
        # A part is made of what every stride-th element of a line is.
        part = b.add(self.columns, b.add(b.div(reach_x, stride), 1))
        step = shape.lanes * spacing
        self.part = b.mul(b.ceil_div(part, step), step)
        self.line = b.mul(self.part, stride)
        fitting, most = self._fitting(ENOUGH_ELEMENTS), self._fitting(MOST_ELEMENTS)
        fitting = b.select(b.less(fitting, together), most, fitting)
        whole = b.mul(b.div(fitting, together), together)
        fitting = b.select(b.equal(whole, 0), fitting, whole)
        self.at_once = b.min(word["counts1"], fitting)
        self.plane = b.mul(self.lines(self.at_once), self.line)
        one_block = b.both(b.equal(self.at_once, word["counts1"]), b.equal(self.columns, word["counts2"]))
        some = b.min(b.div(ENOUGH_ELEMENTS, self.plane), MOST_CHANNELS)
        self.channels = b.select(b.both(one_block, b.less(0, some)), some, 1)
        self._write_places()

    @staticmethod
    def nbytes(shape: Shape) -> int:
        """Memory of the copies and what belongs to them."""
        slack = (VECTORS + 2) * shape.lanes               # read beyond the last line, and not used
        return 8 * (MOST_TAPS + MOST_CHANNELS) + (MOST_ELEMENTS + slack) * shape.number.kind_bytes

    def _fitting(self, elements: int) -> str:
        """Lines of positions that can be computed with so many elements; at least one."""
        b = self.b
        left = b.sub(b.sub(b.div(elements, self.line), self.reach_y), 1)
        return b.select(b.less(left, 1), 1, b.add(b.div(left, self.word["stride1"]), 1))

    def lines(self, count: Operand) -> Operand:
        """Lines of the input that ``count`` lines of positions meet."""
        b = self.b
        return b.add(b.add(b.mul(b.sub(count, 1), self.word["stride1"]), self.reach_y), 1)

    def _write_places(self) -> None:
        """Where a column of the kernel meets a line, walked forwards."""
        b, across = self.b, self.down_and_across()[1]

        def place(x: str) -> None:
            far = b.mul(x, across)
            inside = b.add(b.mul(b.rem(far, self.stride), self.part), b.div(far, self.stride))
            b.store("i64", inside, b.at(self.places, x, "i64"), 8)

        b.loop(0, self.word["kernel2"], 1, place)

    def down_and_across(self) -> list[str]:
        """Dilations without their signs."""
        self.b.module.declare("i64 @llvm.abs.i64(i64, i1)")
        return [self.b(f"call i64 @llvm.abs.i64(i64 {self.word[f'dilation{d}']}, i1 false)") for d in (1, 2)]

    def take(self, number: Operand, source: Callable[[str], str]) -> None:
        """Copy the channels whose addresses are ``source(place)`` from now on."""
        self.b.loop(0, number, 1, lambda place: self.b.store("ptr", source(place), self.b.at(self.sources, place, "ptr"), 8))

    def copy(self, number: Operand, y: Operand, column: Operand, count: Operand, step: Operand) -> None:
        """Copy what ``count`` lines of positions from (y, column) on meet, of the first channels.

        What is copied next is asked for: the next lines, or the first ones of the channels that are ``step`` elements away.
        """
        b, word = self.b, self.word
        top = b.add(b.sub(b.mul(y, word["stride1"]), word["padding1"]), self.first_y)
        left = b.add(b.sub(b.mul(column, self.stride), word["padding2"]), self.first_x)
        line_step = b.mul(word["stride1"], word["x_strides1"])
        ahead = self.ahead(y, count, line_step, step)
        b.call("copy_lines", *pairs(COPY, ("%params", self.sources, number, top, left, self.lines(count), self.memory,
                                           self.line, self.plane, ahead)))

    def ahead(self, y: Operand, count: Operand, line_step: Operand, step: Operand) -> Operand:
        """How far the next block of lines is away, which is in the next channels behind the last lines of these."""
        b = self.b
        last = b.equal(b.add(y, count), self.word["counts1"])
        return b.select(last, b.sub(step, b.mul(y, line_step)), b.mul(count, line_step))

    def of_channel(self, number: Operand) -> str:
        """The copy of the ``number``-th channel."""
        return self.b.at(self.memory, self.b.mul(number, self.plane), self.shape.number.kind)

    def blocks(self, body: Callable[[str, Operand, str, Operand], None]) -> None:
        """body(first line, lines, first column, columns) for all blocks of positions."""
        b, word = self.b, self.word

        def lines(y: str) -> None:
            count = b.min(self.at_once, b.sub(word["counts1"], y))
            b.loop(0, word["counts2"], self.columns,
                   lambda j: body(y, count, j, b.min(self.columns, b.sub(word["counts2"], j))))

        b.loop(0, word["counts1"], self.at_once, lines)


def column_mask(b: Builder, shape: Shape, left: Operand) -> str:
    """The mask of a vector where ``left`` positions are left, which may be too many, or too few."""
    count = b.min(b.select(b.less(left, 0), 0, left), shape.lanes)
    return b.mask(shape.lanes, 8 * shape.number.kind_bytes, count)


def write_copy_lines(module: Module, shape: Shape, parameters: tuple[str, ...], stride: int, spacing: int) -> None:
    """The function ``copy_lines``."""
    number, values, lanes, kind = shape.number, shape.values, shape.lanes, shape.number.kind
    b = Builder(module, "copy_lines", arguments(COPY))
    word = b.words(parameters)
    part_length = b.div("%line", stride)
    odd = b("and i64 %x_start, 1") if spacing == 2 else "0"
    first = b(f"ashr i64 {b.add('%x_start', odd)}, 1") if spacing == 2 else "%x_start"
    flags = f"<{lanes} x i1>"
    # Lines from ``low`` to ``high`` exist, of a spaced input every second one.
    low = b.min(b.select(b.less("%y", 0), b.sub(0, "%y"), 0), "%lines")
    height = b.add(b.mul(b.sub(word["sizes1"], 1), word["spacing0"]), 1)
    high = b.min(b.sub(height, "%y"), "%lines")
    high = b.select(b.less(high, low), low, high)
    spacing_y = b.sub(word["spacing0"], 1)             # 0 or 1

    def masked(x: Operand) -> tuple[Operand, str]:
        outside = column_mask(b, shape, b.sub(0, x))
        inside = b(f"xor {flags} {outside}, <{', '.join(['i1 true'] * lanes)}>")
        return x, b(f"and {flags} {column_mask(b, shape, b.sub(word['sizes2'], x))}, {inside}")

    def vectors(at: str) -> None:
        """Vectors from ``at`` on of each part of all lines; of a spaced input, two vectors."""
        sources = [masked(b.add(first, b.add(b.div(b.mul(at, stride), spacing), part * lanes))) for part in range(stride)]

        def channel(number_of_channel: str) -> None:
            x = b.load("ptr", b.at("%sources", number_of_channel, "ptr"), 8)
            start = b.at("%to", b.add(b.mul(number_of_channel, "%plane"), at), kind)

            def load(y: Operand) -> list[str]:
                source = b.at(x, b.mul(y, word["x_strides1"]), number.stored)
                for place, _ in sources:
                    b.prefetch(b.at(source, b.add(place, "%ahead"), number.stored))
                return [number.load_masked(b, b.at(source, place, number.stored), lanes, mask) for place, mask in sources]

            def line(number_of_line: str) -> None:
                y = b.add("%y", number_of_line)
                if spacing == 1:
                    put(number_of_line, load(y))
                    return
                there = b.equal(b(f"and i64 {y}, {spacing_y}"), 0)
                loaded = b.when(there, lambda: load(b(f"lshr i64 {y}, {spacing_y}")), lambda: ["zeroinitializer"],
                                [number.vector(lanes)])
                put(number_of_line, _spread(b, shape, loaded[0], b.equal(odd, 0)))

            def put(number_of_line: str, loaded: list[str]) -> None:
                to = b.at(start, b.mul(number_of_line, "%line"), kind)
                if stride == 2:
                    loaded = [b.shuffle(kind, lanes, loaded[0], loaded[1], range(part, 2 * lanes, 2)) for part in range(2)]
                apart = lanes if spacing == 2 else part_length
                for part, value in enumerate(loaded):
                    values.store(b, value, b.at(to, b.mul(part, apart), kind), lanes)

            nothing = ["zeroinitializer"] * (stride * spacing)
            b.loop(0, low, 1, lambda number_of_line: put(number_of_line, nothing))
            b.loop(low, high, 1, line)
            b.loop(high, "%lines", 1, lambda number_of_line: put(number_of_line, nothing))

        b.loop(0, "%channels", 1, channel)

    b.loop(0, part_length, lanes * spacing, vectors)
    b.finish()


def _spread(b: Builder, shape: Shape, value: str, even: str) -> list[str]:
    """Two vectors with zeros between the elements of one, the first of which is at an even place or at an odd one."""
    lanes, kind, vector = shape.lanes, shape.number.kind, shape.number.vector(shape.lanes)
    result = []
    for half in range(2):
        elements = range(half * lanes // 2, (half + 1) * lanes // 2)
        first, second = [b.shuffle(kind, lanes, value, "zeroinitializer",
                                   [x for e in elements for x in ((e, lanes) if front else (lanes, e))]) for front in (True, False)]
        result.append(b.select(even, first, second, vector))
    return result


def lane_sum(b: Builder, shape: Shape, value: str) -> str:
    """The sum of a vector's lanes, by halves."""
    lanes, kind = shape.lanes, shape.number.kind
    while lanes > 1:
        low, high = [b.shuffle(kind, lanes, value, "poison", range(at, at + lanes // 2)) for at in (0, lanes // 2)]
        lanes //= 2
        value = shape.values.add(b, low, high, lanes)
    return b(f"extractelement <1 x {kind}> {value}, i64 0")


def ask(b: Builder, start: str, elements: Operand, nbytes: int, write: bool = False) -> None:
    """Ask for the memory of neighbouring elements of ``nbytes`` bytes: it comes while others are computed with."""
    b.loop(0, elements, CACHE_LINE // nbytes, lambda at: b.prefetch(b.at(start, b.mul(at, nbytes), "i8"), write))
