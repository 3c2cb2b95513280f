"""Gradients of depthwise convolutions' weights for narrow planes, as LLVM text: all positions of a plane are one line.

Where lines of the result are as far apart as those of the input, an element of the kernel meets every position at the same
distance. Nothing is copied, and vectors reach over the ends of lines; where a window stands outside of the input, masks, which are
the same for all planes, load zeros. The sums of all elements of a small kernel are in registers, and each vector of the gradient is
loaded once. For targets where masks cost nothing.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torsh.codegen.llvm.depthwise_lines import lane_sum
from torsh.codegen.llvm.gemm_shape import Shape, arguments, pairs
from torsh.codegen.llvm.template_builder import ENTRY, Builder, Module, Operand
from torsh.compiler.depthwise import DEPTHWISE_WEIGHT_PARAMETERS, MOST_NARROW, MOST_TOGETHER

MASK_BYTES: Final = 2
# One mask for each vector of positions, ``step`` masks apart: those that (down, across) moves into a plane of height * width
# elements. pitch: positions of a line.
MASKS = ("ptr masks", "i64 step", "i64 vectors", "i64 down", "i64 across", "i64 height", "i64 width", "i64 pitch", "i64 lines")
# sums[tap] = the sum of g[position] * x[distances[tap] + position] over the positions of all batch items. masks: for each vector
# of positions, those of the taps, then that of g.
SUMS = ("ptr x", "i64 x_item", "ptr g", "i64 g_item", "i64 items", "ptr distances", "ptr masks", "i64 vectors", "ptr sums")
STEP: Final = MOST_TOGETHER + 1      # masks of a vector
MOST_ITEMS: Final = 2                # batch items that are summed at a time


def generate_for_planes(shape: Shape, symbol: str) -> str:
    """LLVM text of the template ``depthwise_weight`` for narrow planes."""
    module = Module()
    _write_masks(module, shape)
    _write_sums(module, shape)
    _write_entry(module, shape, symbol)
    return module.render()


def _write_masks(module: Module, shape: Shape) -> None:
    b, lanes = Builder(module, "masks", arguments(MASKS)), shape.lanes
    vector, one = f"<{lanes} x i32>", f"<{lanes} x i1>"

    def splat(value: Operand) -> str:
        return b.splat("i32", lanes, b(f"trunc i64 {value} to i32"))

    down, across, height, width, pitch, lines = [splat(f"%{name}") for name in ("down", "across", "height", "width", "pitch", "lines")]
    step_x, step_y = splat(b.rem(lanes, "%pitch")), splat(b.div(lanes, "%pitch"))
    # Quotients of these numbers and a half are not near any integer.
    halves = ", ".join(f"float {lane}.5" for lane in range(lanes))
    quotient = b(f"fdiv <{lanes} x float> <{halves}>, {b(f'uitofp {vector} {pitch} to <{lanes} x float>')}")
    first_y = b(f"fptoui <{lanes} x float> {quotient} to {vector}")
    iota = ", ".join(f"i32 {lane}" for lane in range(lanes))
    first_x = b(f"sub {vector} <{iota}>, {b(f'mul {vector} {first_y}, {pitch}')}")

    def one_vector(v: str, x: str, y: str) -> list[str]:
        inside = b(f"icmp ult {vector} {b(f'add {vector} {x}, {across}')}, {width}")
        below = b(f"icmp ult {vector} {b(f'add {vector} {y}, {down}')}, {height}")
        there = b(f"icmp ult {vector} {y}, {lines}")
        mask = b(f"and {one} {b(f'and {one} {inside}, {below}')}, {there}")
        bits = b(f"bitcast {one} {mask} to i{lanes}")
        to = b.at("%masks", b.mul(b.mul(v, "%step"), MASK_BYTES), "i8")
        b.store("i16", bits if lanes == 16 else b(f"zext i{lanes} {bits} to i16"), to)
        x, y = b(f"add {vector} {x}, {step_x}"), b(f"add {vector} {y}, {step_y}")
        beyond = b(f"icmp uge {vector} {x}, {pitch}")
        x = b(f"select {one} {beyond}, {vector} {b(f'sub {vector} {x}, {pitch}')}, {vector} {x}")
        return [x, b(f"sub {vector} {y}, {b(f'sext {one} {beyond} to {vector}')}")]

    b.loop(0, "%vectors", 1, one_vector, [(vector, first_x), (vector, first_y)])
    b.finish()


def _load_mask(b: Builder, shape: Shape, masks: str, index: Operand) -> str:
    lanes = shape.lanes
    bits = b.load("i16", b.at(masks, b.mul(index, MASK_BYTES), "i8"))
    return b(f"bitcast i{lanes} {bits if lanes == 16 else b(f'trunc i16 {bits} to i{lanes}')} to <{lanes} x i1>")


def _write_sums(module: Module, shape: Shape) -> None:
    number, lanes, kind, stored = shape.number, shape.lanes, shape.number.kind, shape.number.stored
    values, vector = shape.values, shape.values.vector(shape.lanes)
    b = Builder(module, "sums", arguments(SUMS))
    distances = [b.load("i64", b.at("%distances", tap, "i64"), 8) for tap in range(MOST_TOGETHER)]

    def items(first_item: str, count: int, sums: Sequence[str]) -> list[str]:
        """Sums with the products of some batch items, which share the masks."""
        x, g = [b.at(f"%{name}", b.mul(first_item, f"%{name}_item"), stored) for name in ("x", "g")]
        at = [b.at(x, distance, stored) for distance in distances]

        def some(v: str, *sums: str) -> list[str]:
            here = b.mul(v, lanes)
            masks = b.at("%masks", b.mul(b.mul(v, STEP), MASK_BYTES), "i8")
            x_places, g_places = [[b.add(here, b.mul(number_of, f"%{name}_item")) for number_of in range(2 * count)]
                                  for name in ("x", "g")]
            for place, following in zip(x_places[count:], g_places[count:], strict=True):
                b.prefetch(b.at(x, place, stored))
                b.prefetch(b.at(g, following, stored))
            there = _load_mask(b, shape, masks, MOST_TOGETHER)
            gradients = [number.load_masked(b, b.at(g, place, stored), lanes, there) for place in g_places[:count]]
            totals = []
            for tap, total in enumerate(sums):
                mask = _load_mask(b, shape, masks, tap)
                for place, gradient in zip(x_places[:count], gradients, strict=True):
                    value = number.load_masked(b, b.at(at[tap], place, stored), lanes, mask)
                    total = values.multiply_add(b, value, gradient, total, lanes)
                totals.append(total)
            return totals

        return b.loop(0, "%vectors", 1, some, [(vector, total) for total in sums])

    whole = b.mul(b.div("%items", MOST_ITEMS), MOST_ITEMS)
    sums = b.loop(0, whole, MOST_ITEMS, lambda item, *sums: items(item, MOST_ITEMS, sums), [(vector, "zeroinitializer")] * MOST_TOGETHER)
    sums = b.loop(whole, "%items", 1, lambda item, *sums: items(item, 1, sums), [(vector, total) for total in sums])
    for tap, total in enumerate(sums):
        values.store(b, lane_sum(b, shape, total), b.at("%sums", tap, kind))
    b.finish()


def _write_entry(module: Module, shape: Shape, symbol: str) -> None:
    """The kernel: work units are channels, whose batch items are summed."""
    values, kind, stored = shape.values, shape.number.kind, shape.number.stored
    b = Builder(module, symbol, ENTRY, internal=False)
    distances, sums = b.stack(8 * MOST_TOGETHER), b.stack(8 * MOST_TOGETHER)
    masks = b.stack(MASK_BYTES * STEP * -(-MOST_NARROW // shape.lanes))
    word = b.words(DEPTHWISE_WEIGHT_PARAMETERS)
    starts = {name: b.buffer(word[f"{name}_slot"], word[f"{name}_offset"]) for name in ("c", "g", "x")}
    vectors = b.ceil_div(b.mul(word["counts1"], word["counts2"]), shape.lanes)
    _fill_tables(b, word, vectors, distances, masks)

    def output(group: str, row: str) -> None:
        x = b.at(starts["x"], b.mul(group, word["x_group"]), stored)
        g = b.at(starts["g"], b.add(b.mul(group, word["g_group"]), b.mul(row, word["g_row"])), stored)
        b.call("sums", *pairs(SUMS, (x, word["x_batch"], g, word["g_batch"], word["batch"], distances, masks, vectors, sums)))
        c = b.at(starts["c"], b.mul(b.add(b.mul(group, word["rows"]), row), word["taps"]), kind)
        b.loop(0, word["taps"], 1, lambda tap: values.store(b, values.load(b, b.at(sums, tap, kind)), b.at(c, tap, kind)))

    b.loop("%begin", "%end", 1, lambda group: b.loop(0, word["rows"], 1, lambda row: output(group, row)) and None)
    b.finish()


def _fill_tables(b: Builder, word: dict[str, str], vectors: Operand, distances: str, masks: str) -> None:
    def fill(tap: Operand, down: Operand, across: Operand, height: Operand, width: Operand) -> None:
        b.call("masks", *pairs(MASKS, (b.at(masks, b.mul(tap, MASK_BYTES), "i8"), STEP, vectors, down, across, height, width,
                                       word["counts2"], word["counts1"])))

    def tap(ky: str, kx: str) -> None:
        down, across = [b.sub(b.mul(k, word[f"dilation{d}"]), word[f"padding{d}"]) for d, k in ((1, ky), (2, kx))]
        number = b.add(b.mul(ky, word["kernel2"]), kx)
        b.store("i64", b.add(b.mul(down, word["counts2"]), across), b.at(distances, number, "i64"), 8)
        fill(number, down, across, word["sizes1"], word["sizes2"])

    def missing(number: str) -> None:
        b.store("i64", 0, b.at(distances, number, "i64"), 8)
        fill(number, 0, 0, 0, 0)

    b.loop(0, word["kernel1"], 1, lambda ky: b.loop(0, word["kernel2"], 1, lambda kx: tap(ky, kx)) and None)
    b.loop(word["taps"], MOST_TOGETHER, 1, missing)
    fill(MOST_TOGETHER, 0, 0, word["counts1"], word["counts2"])
