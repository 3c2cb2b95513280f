"""Lines of a convolution's input, copied with their padding: windows are then read in place, without masks."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torsh.codegen.llvm.gemm_shape import Shape, arguments
from torsh.codegen.llvm.template_builder import Builder, Module, Operand

# to[channel][line] = the elements from (y, x_start) on of each channel, zeros outside of the input.
COPY = ("ptr params", "ptr x", "i64 y", "i64 x_start", "i64 lines", "i64 channels", "ptr to", "i64 line", "i64 plane")
# Where the target has pairs, planes are of words. There are ``channels`` of two elements: those of a channel, and those that
# lie ``apart``, in a line that far ``below``, too. Then, for one channel, twice ``apart`` from the first one, there are
# ``singles`` planes: one of its elements and those ``shift`` further on in the line, one of its elements and zeros.
COPY_PAIRS = (*COPY, "i64 apart", "i64 below", "i64 singles", "i64 shift")
FAR = 1 << 40            # where there are no elements


def write_copy_lines(module: Module, shape: Shape, parameters: Sequence[str]) -> None:
    """The function ``copy_lines``, for calls with these parameter words."""
    number, lanes = shape.number, shape.lanes
    bits = 8 * number.kind_bytes
    b = Builder(module, "copy_lines", arguments(COPY_PAIRS if shape.word else COPY))
    word = b.words(parameters)

    def clamped(value: Operand) -> Operand:
        return b.min(b.select(b.less(value, 0), 0, value), lanes)

    def inside(x: Operand) -> str:
        outside = b.mask(lanes, bits, clamped(b.sub(0, x)))
        inside = b(f"xor <{lanes} x i1> {outside}, <{', '.join(['i1 true'] * lanes)}>")
        return b(f"and <{lanes} x i1> {b.mask(lanes, bits, clamped(b.sub(word['sizes2'], x)))}, {inside}")

    (_pairs_of_lines if shape.word else _lines)(b, shape, word, inside)
    b.finish()


def _lines(b: Builder, shape: Shape, word: Mapping[str, str], inside: Callable[[Operand], str]) -> None:
    number, values, lanes, kind = shape.number, shape.values, shape.lanes, shape.number.kind

    def vector(at: str) -> None:
        x = b.add("%x_start", at)
        mask = inside(x)

        def line(source: str, to: str, number_of_line: str) -> None:
            y = b.add("%y", number_of_line)
            exists = b(f"icmp ult i64 {y}, {word['sizes1']}")
            start = b.at(source, b.mul(y, word["x_strides1"]), number.stored)
            value = b.when(exists, lambda: [number.load_masked(b, start, lanes, mask)], lambda: ["zeroinitializer"],
                           [number.vector(lanes)])[0]
            values.store(b, value, b.at(to, b.mul(number_of_line, "%line"), kind), lanes)

        def channel(c: str) -> None:
            source = b.at("%x", b.add(b.mul(c, word["x_channel"]), x), number.stored)
            to = b.at("%to", b.add(b.mul(c, "%plane"), at), kind)
            b.loop(0, "%lines", 1, lambda number_of_line: line(source, to, number_of_line))

        b.loop(0, "%channels", 1, channel)

    b.loop(0, "%line", lanes, vector)


def _pairs_of_lines(b: Builder, shape: Shape, word: Mapping[str, str], inside: Callable[[Operand], str]) -> None:
    """Plane by plane: the two lines that a word comes from share cache lines with other vectors of them."""
    stored, lanes = shape.number.stored, shape.lanes
    halves, words = f"<{lanes} x i16>", f"<{lanes} x i32>"
    sixteen = b.splat("i32", lanes, 16)

    def half(at: str, y: Operand, mask: str) -> str:
        exists = b.splat("i1", lanes, b(f"icmp ult i64 {y}, {word['sizes1']}"))
        raw = b.masked_load(stored, lanes, at, b(f"and <{lanes} x i1> {mask}, {exists}"))
        return b(f"zext {halves} {raw} to {words}")

    def plane(number: str) -> None:
        is_pair, is_shifted = b.less(number, "%channels"), b.equal(number, "%channels")
        source = b.select(is_pair, b.mul(number, word["x_channel"]), b.mul("%apart", 2))
        further, below = b.select(is_shifted, "%shift", 0), b.select(is_pair, "%below", 0)
        step, reached = b.select(is_pair, "%apart", further), b.select(b.less("%channels", number), FAR, further)

        def vector(at: str) -> None:
            x = b.add("%x_start", at)
            masks = inside(x), inside(b.add(x, reached))
            start = b.at("%x", b.add(source, x), stored)
            target = b.at("%to", b.add(b.mul(number, "%plane"), at), "i32")

            def line(number_of_line: str) -> None:
                y = b.add("%y", number_of_line)
                here = b.at(start, b.mul(y, word["x_strides1"]), stored)
                high = b(f"shl {words} {half(b.at(here, step, stored), b.add(y, below), masks[1])}, {sixteen}")
                to = b.at(target, b.mul(number_of_line, "%line"), "i32")
                b.store(words, b(f"or {words} {half(here, y, masks[0])}, {high}"), to, 4)

            b.loop(0, "%lines", 1, line)

        b.loop(0, "%line", lanes, vector)

    b.loop(0, b.add("%channels", "%singles"), 1, plane)


def in_plane(b: Builder, word: Mapping[str, str]) -> str:
    """Are windows those of a plane whose lines are contiguous, without factors that could overflow?"""
    flat = [b.equal(word[f"{name}0"], 1) for name in ("kernel", "counts", "sizes")] + [b.equal(word["padding0"], 0)]
    small = [b.less(word[name], 1 << 15) for name in ("counts2", "stride1", "stride2", "kernel1", "kernel2", "dilation1",
                                                      "dilation2")]
    far = [b.less(-(1 << 15), word[name]) for name in ("dilation1", "dilation2")]
    return b.both(*flat, b.equal(word["x_strides2"], 1), *small, *far)


def reach(b: Builder, word: Mapping[str, str], dimension: int) -> tuple[Operand, Operand]:
    """(how far windows reach, in elements; where their first element is relative to that of the first tap, not positive)."""
    far = b.mul(b.sub(word[f"kernel{dimension}"], 1), word[f"dilation{dimension}"])
    backwards = b.less(far, 0)
    return b.select(backwards, b.sub(0, far), far), b.select(backwards, far, 0)


def line_length(b: Builder, shape: Shape, word: Mapping[str, str]) -> Operand:
    """Elements of a padded line, whole vectors."""
    line = b.add(b.add(b.mul(b.sub(word["counts2"], 1), word["stride2"]), reach(b, word, 2)[0]), 1)
    return b.mul(b.ceil_div(line, shape.lanes), shape.lanes)


def apart(b: Builder, shape: Shape, plane: Operand) -> Operand:
    """The size of a channel's lines, such that channels do not meet in the same part of a cache."""
    return b.mul(b(f"or i64 {b.div(plane, shape.lanes)}, 1"), shape.lanes)
