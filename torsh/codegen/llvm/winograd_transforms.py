"""Winograd's transforms of inputs and results as LLVM text; tiles are the lanes of vectors.

The tiles of a block run through lines, planes and batch items. What they need of memory are *pieces*, runs of tiles of one line, whose
places and masks (of the padding and the right edge) stand in a table, as they are the same for all channels. Of one channel, the
lines of all pieces are put one behind the other, so that vectors are full however narrow the images are.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torsh.codegen.llvm.gemm_shape import Shape, arguments
from torsh.codegen.llvm.numeric import Numeric
from torsh.codegen.llvm.template_builder import Builder, Module, Operand
from torsh.compiler.winograd import PIECE_WORDS

SIDE: Final = 4                  # of a tile of the input
SHARES: Final = 2                # lines are kept twice, the second time from the third column on
PREFETCHED: Final = 4            # channels ahead
# Words of a piece: its places in the input, in the lines and in the result, and the masks (of share and line, of line).
X_PLACE, LINE_PLACE, X_MASKS, C_PLACE, C_MASKS = 0, 1, 2, 10, 11
# The pieces of the tiles ``begin`` to ``end``; two more, which are not counted, for zeros behind the last tile.
PIECES: Final = ("ptr params", "i64 begin", "i64 end", "i64 c_batch", "ptr pieces", "ptr count")
GEOMETRY: Final = ("lines", "columns", "c_lines", "c_columns", "padding_lines", "padding_columns", "x_batch", "x_line")
# to = the transformed input of all tiles, a vector for each point, vector of tiles and channel; all steps in elements.
INPUT: Final = ("ptr x", "i64 x_channel", "i64 x_line", "i64 channels", "ptr pieces", "i64 count", "i64 vectors", "ptr lines",
                "i64 line", "ptr to", "i64 to_vector", "i64 to_channel", "i64 to_point")
# The same for a gradient of the result, whose tiles are those of the result.
GRADIENT: Final = ("ptr g", "i64 g_row", "i64 g_columns", "i64 rows", "ptr pieces", "i64 count", "i64 vectors", "ptr lines", "i64 line",
                   "ptr to", "i64 to_vector", "i64 to_row", "i64 to_point")
# c[row] = the results of the products from[point][vector][row][lane] (+ bias)
OUTPUT: Final = ("ptr from", "i64 from_vector", "i64 from_point", "i64 rows", "i64 vectors", "ptr pieces", "i64 count", "ptr lines",
                 "i64 line", "ptr c", "i64 c_row", "i64 c_columns", "ptr bias", "i64 bias_stride", "i1 has_bias")


def write_pieces(module: Module, shape: Shape, parameters: Sequence[str]) -> None:
    """The function PIECES for calls with these parameter words."""
    b, lanes = Builder(module, "pieces", arguments(PIECES)), shape.lanes
    word = b.words(parameters)
    across = b.div(b.add(word["c_columns"], 1), 2)
    per_item = b.mul(across, b.div(b.add(word["c_lines"], 1), 2))

    def mask(low: Operand, high: Operand, there: str) -> Operand:
        """The bits of the lanes from ``low`` to ``high``, if ``there``."""
        low, high = [b.min(b.select(b.less(n, 0), 0, n), lanes) for n in (low, high)]
        ones = [b.sub(b(f"shl i64 1, {n}"), 1) for n in (low, high)]
        bits = b(f"and i64 {ones[1]}, {b(f'xor i64 {ones[0]}, -1')}")
        return b.select(there, bits, 0)

    def piece(tile: str, number: str) -> list[Operand]:
        entry = b.at("%pieces", b.mul(number, PIECE_WORDS), "i64")
        item, inside = b.div(tile, per_item), b.rem(tile, per_item)
        line, column = b.mul(b.div(inside, across), 2), b.rem(inside, across)
        tiles = b.min(b.min(b.sub(across, column), b.sub("%end", tile)), lanes // 2)
        column, width = b.mul(column, 2), b.mul(tiles, 2)
        top, left = b.sub(line, word["padding_lines"]), b.sub(column, word["padding_columns"])
        x = b.add(b.mul(item, word["x_batch"]), b.add(b.mul(top, word["x_line"]), left))
        c = b.add(b.mul(item, "%c_batch"), b.add(b.mul(line, word["c_columns"]), column))
        words: list[Operand] = [x, b.mul(b.sub(tile, "%begin"), 2)]
        for share in range(SHARES):
            start = b.add(left, 2 * share)
            for y in range(SIDE):
                there = b(f"icmp ult i64 {b.add(top, y)}, {word['lines']}")
                words.append(mask(b.sub(0, start), b.min(width, b.sub(word["columns"], start)), there))
        words.append(c)
        for y in range(2):
            words.append(mask(0, b.min(width, b.sub(word["c_columns"], column)), b.less(b.add(line, y), word["c_lines"])))
        for position, value in enumerate(words):
            b.store("i64", value, b.at(entry, position, "i64"), 8)
        return [b.add(tile, tiles), b.add(number, 1)]

    count, = b.advance("%begin", "%end", piece, [("i64", 0)])
    for part in range(2):
        entry = b.at("%pieces", b.mul(b.add(count, part), PIECE_WORDS), "i64")
        behind = b.add(b.mul(b.sub("%end", "%begin"), 2), part * lanes)
        for position in range(PIECE_WORDS):
            b.store("i64", behind if position == LINE_PLACE else 0, b.at(entry, position, "i64"), 8)
    b.store("i64", count, "%count", 8)
    b.finish()


def _mask(b: Builder, lanes: int, entry: str, position: int) -> str:
    bits = b.load("i64", b.at(entry, position, "i64"), 8)
    return b(f"bitcast i{lanes} {b(f'trunc i64 {bits} to i{lanes}')} to <{lanes} x i1>")


def _apart(b: Builder, kind: str, lanes: int, low: str, high: str) -> tuple[str, str]:
    """The even and the odd lanes of two vectors."""
    even = b.shuffle(kind, lanes, low, high, range(0, 2 * lanes, 2))
    return even, b.shuffle(kind, lanes, low, high, range(1, 2 * lanes, 2))


def load_points(b: Builder, number: Numeric, lanes: int, at: str, step: Operand) -> list[list[str]]:
    """The vectors of all points of tiles, ``step`` apart, line by line."""
    places = [at]
    while len(places) < SIDE * SIDE:
        places.append(b.at(places[-1], step, number.kind))
    return [[number.load(b, place, lanes) for place in places[y:y + SIDE]] for y in range(0, SIDE * SIDE, SIDE)]


def _store_points(b: Builder, number: Numeric, lanes: int, columns: Sequence[Sequence[str]], to: str, step: Operand) -> None:
    """Store the vectors of all points, which are given by columns."""
    for y in range(SIDE):
        for column in columns:
            number.store(b, column[y], to, lanes)
            to = b.at(to, step, number.kind)


class _Arithmetic:
    """Sums and differences of vectors."""

    def __init__(self, b: Builder, vector: str) -> None:
        self.b = b
        self.vector = vector

    def add(self, x: str, y: str) -> str:
        return self.b(f"fadd {self.vector} {x}, {y}")

    def sub(self, x: str, y: str) -> str:
        return self.b(f"fsub {self.vector} {x}, {y}")

    def input(self, d: Sequence[str]) -> list[str]:
        """The transform of four elements of the input."""
        return [self.sub(d[0], d[2]), self.add(d[1], d[2]), self.sub(d[2], d[1]), self.sub(d[1], d[3])]

    def output(self, m: Sequence[str]) -> list[str]:
        """Two results of four products."""
        return [self.add(self.add(m[0], m[1]), m[2]), self.sub(self.sub(m[1], m[2]), m[3])]

    def gradient(self, z: tuple[str, str]) -> list[str]:
        """The transform of two elements of a gradient."""
        return [z[0], self.add(*z), self.sub(*z), self.b(f"fneg {self.vector} {z[1]}")]


def write_input(module: Module, shape: Shape, name: str) -> None:
    """A library, the function INPUT."""
    number, lanes, kind = shape.number, shape.lanes, shape.number.kind
    b = Builder(module, name, arguments(INPUT), internal=False)
    arithmetic = _Arithmetic(b, number.vector(lanes))
    rows = [[b.at("%lines", b.mul("%line", share * SIDE + y), kind) for y in range(SIDE)] for share in range(SHARES)]
    ahead = b.mul("%x_channel", PREFETCHED)

    def channel(c: str) -> None:
        x = b.at("%x", b.mul(c, "%x_channel"), kind)

        def piece(position: str) -> None:
            entry = b.at("%pieces", b.mul(position, PIECE_WORDS), "i64")
            source = b.at(x, b.load("i64", b.at(entry, X_PLACE, "i64"), 8), kind)
            place = b.load("i64", b.at(entry, LINE_PLACE, "i64"), 8)
            for y in range(SIDE):
                b.prefetch(b.at(source, ahead, kind))
                for share in range(SHARES):
                    mask = _mask(b, lanes, entry, X_MASKS + share * SIDE + y)
                    value = number.load_masked(b, b.at(source, 2 * share, kind), lanes, mask)
                    number.store(b, value, b.at(rows[share][y], place, kind), lanes)
                source = b.at(source, "%x_line", kind)

        b.loop(0, "%count", 1, piece)
        to = b.at("%to", b.mul(c, "%to_channel"), kind)

        def tiles(vector: str) -> None:
            at = b.mul(vector, 2 * lanes)
            half = []
            for y in range(SIDE):
                d: list[str] = []
                for share in range(SHARES):
                    start = b.at(rows[share][y], at, kind)
                    d += _apart(b, kind, lanes, number.load(b, start, lanes), number.load(b, b.at(start, lanes, kind), lanes))
                half.append(arithmetic.input(d))
            target = b.at(to, b.mul(vector, "%to_vector"), kind)
            whole = [arithmetic.input([half[y][x] for y in range(SIDE)]) for x in range(SIDE)]
            _store_points(b, number, lanes, whole, target, "%to_point")

        b.loop(0, "%vectors", 1, tiles)

    b.loop(0, "%channels", 1, channel)
    b.finish()


def write_gradient(module: Module, shape: Shape) -> None:
    """The function GRADIENT."""
    number, lanes, kind = shape.number, shape.lanes, shape.number.kind
    b = Builder(module, "gradient", arguments(GRADIENT))
    arithmetic = _Arithmetic(b, number.vector(lanes))
    lines = [b.at("%lines", b.mul("%line", y), kind) for y in range(2)]
    ahead = b.mul("%g_row", PREFETCHED)

    def row(k: str) -> None:
        g = b.at("%g", b.mul(k, "%g_row"), kind)

        def piece(position: str) -> None:
            entry = b.at("%pieces", b.mul(position, PIECE_WORDS), "i64")
            source = b.at(g, b.load("i64", b.at(entry, C_PLACE, "i64"), 8), kind)
            place = b.load("i64", b.at(entry, LINE_PLACE, "i64"), 8)
            for y in range(2):
                b.prefetch(b.at(source, ahead, kind))
                value = number.load_masked(b, source, lanes, _mask(b, lanes, entry, C_MASKS + y))
                number.store(b, value, b.at(lines[y], place, kind), lanes)
                source = b.at(source, "%g_columns", kind)

        b.loop(0, "%count", 1, piece)
        to = b.at("%to", b.mul(k, "%to_row"), kind)

        def tiles(vector: str) -> None:
            half = []
            for y in range(2):
                start = b.at(lines[y], b.mul(vector, 2 * lanes), kind)
                half.append(arithmetic.gradient(_apart(b, kind, lanes, number.load(b, start, lanes),
                                                       number.load(b, b.at(start, lanes, kind), lanes))))
            target = b.at(to, b.mul(vector, "%to_vector"), kind)
            whole = [arithmetic.gradient((half[0][x], half[1][x])) for x in range(SIDE)]
            _store_points(b, number, lanes, whole, target, "%to_point")

        b.loop(0, "%vectors", 1, tiles)

    b.loop(0, "%rows", 1, row)
    b.finish()


def write_output(module: Module, shape: Shape) -> None:
    """The function OUTPUT."""
    number, lanes, kind = shape.number, shape.lanes, shape.number.kind
    vector_type = number.vector(lanes)
    b = Builder(module, "output", arguments(OUTPUT))
    arithmetic = _Arithmetic(b, vector_type)
    lines = [b.at("%lines", b.mul("%line", y), kind) for y in range(2)]
    ahead = b.mul("%c_row", PREFETCHED)
    zipped = [x for lane in range(lanes) for x in (lane, lane + lanes)]

    def row(k: str) -> None:
        bias = b.when("%has_bias", lambda: [number.load(b, b.at("%bias", b.mul(k, "%bias_stride"), kind))], lambda: ["0.0"], [kind])[0]
        added = b.splat(kind, lanes, bias)
        source = b.at("%from", b.mul(k, lanes), kind)
        c = b.at("%c", b.mul(k, "%c_row"), kind)

        def tiles(vector: str) -> None:
            at = b.at(source, b.mul(vector, "%from_vector"), kind)
            half = [arithmetic.output(m) for m in load_points(b, number, lanes, at, "%from_point")]
            columns = [arithmetic.output([half[y][x] for y in range(SIDE)]) for x in range(2)]
            for y in range(2):
                pair = [arithmetic.add(columns[x][y], added) for x in range(2)]
                to = b.at(lines[y], b.mul(vector, 2 * lanes), kind)
                for part in range(2):
                    value = b.shuffle(kind, lanes, pair[0], pair[1], zipped[part * lanes:(part + 1) * lanes])
                    number.store(b, value, b.at(to, part * lanes, kind), lanes)

        b.loop(0, "%vectors", 1, tiles)

        def piece(position: str) -> None:
            entry = b.at("%pieces", b.mul(position, PIECE_WORDS), "i64")
            to = b.at(c, b.load("i64", b.at(entry, C_PLACE, "i64"), 8), kind)
            place = b.load("i64", b.at(entry, LINE_PLACE, "i64"), 8)
            for y in range(2):
                b.prefetch(b.at(to, b.add(ahead, b.mul("%c_columns", y)), kind), write=True)
                value = number.load(b, b.at(lines[y], place, kind), lanes)
                number.store_masked(b, value, b.at(to, b.mul("%c_columns", y), kind), lanes, _mask(b, lanes, entry, C_MASKS + y))

        b.loop(0, "%count", 1, piece)

    b.loop(0, "%rows", 1, row)
    b.finish()
