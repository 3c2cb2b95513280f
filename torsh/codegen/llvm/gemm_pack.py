"""Packing for matrix products: copies of operands, of any strides, in the order in which register tiles read them."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torsh.codegen.llvm.gemm_shape import Shape, arguments, pairs
from torsh.codegen.llvm.numeric import Numeric
from torsh.codegen.llvm.template_builder import Builder, Module, Operand, ignore

PREFETCHED_ROWS = 8     # how far ahead rows that are packed are asked for
PACK = ("ptr from", "i64 row_step", "i64 k_step", "ptr to", "i64 k", "i64 rows", "i64 width")

def write_pack(module: Module, shape: Shape, pack: str = "pack") -> None:
    """to[k][width] = from[row * row_step + k * k_step] for ``rows`` rows, in groups of one vector of rows.

    Whatever the strides, only elements that exist are read. k is rounded up to whole vectors in ``to``. Where the shape is
    ``paired``, a 32-bit word of ``to`` holds the elements k and k + 1 of a row, the last one zero if k is odd.
    """
    number, values, lanes = shape.number, shape.values, shape.lanes
    bits = 8 * number.kind_bytes
    writers: list[Callable[..., None]] = [partial(_pack_transposed, masks=shape.masks), _pack_copied, _pack_strided]
    if shape.paired:
        writers = [_pairs_transposed, _pairs_copied, _pairs_strided]
    for name, write in zip(("transposed", "copied", "strided"), writers, strict=True):
        b = Builder(module, f"{pack}_{name}", arguments(PACK))
        write(b, number, values, lanes, bits)
        b.finish()
    b = Builder(module, pack, arguments(PACK))

    def group(row: str) -> None:
        rows = b.min(b.sub("%rows", row), lanes)
        given = pairs(PACK, (b.at("%from", b.mul(row, "%row_step"), number.stored), "%row_step", "%k_step",
                             b.at("%to", row, number.kind), "%k", rows, "%width"))
        b.when(b.equal("%k_step", 1), lambda: b.call(f"{pack}_transposed", *given),
               lambda: ignore(b.when(b.equal("%row_step", 1), lambda: b.call(f"{pack}_copied", *given),
                                      lambda: b.call(f"{pack}_strided", *given))))

    if shape.paired:
        b.loop(0, "%rows", lanes, group)
        b.finish()
        return
    panel = b.both(b.equal("%row_step", 1), b.equal("%rows", shape.columns))
    b.when(panel, lambda: _pack_copied(b, number, values, lanes, bits, shape.vectors),
           lambda: ignore(b.loop(0, "%rows", lanes, group)))
    b.finish()


def _pack_transposed(b: Builder, number: Numeric, values: Numeric, lanes: int, bits: int, masks: bool) -> None:
    last = b.sub("%rows", 1)
    starts = [b.at("%from", b.mul(b.min(row, last), "%row_step"), number.stored) for row in range(lanes)]

    def square(k: Operand, mask: str | None) -> None:
        rows = []
        for start in starts:
            at = b.at(start, k, number.stored)
            rows.append(number.load_masked(b, at, lanes, mask) if mask else number.load(b, at, lanes))
        target = b.at("%to", b.mul(k, "%width"), number.kind)
        for column, value in enumerate(b.transpose(number.kind, number.kind_bytes, rows)):
            values.store(b, value, b.at(target, b.mul("%width", column), number.kind), lanes)

    if masks:                       # all under a mask: half as much code
        b.loop(0, "%k", lanes, lambda k: square(k, b.mask(lanes, bits, b.min(b.sub("%k", k), lanes))))
        return
    whole = b.sub("%k", b.rem("%k", lanes))
    b.loop(0, whole, lanes, lambda k: square(k, None))
    b.when(b.less(whole, "%k"), lambda: square(whole, b.mask(lanes, bits, b.sub("%k", whole))))


def _pack_copied(b: Builder, number: Numeric, values: Numeric, lanes: int, bits: int, vectors: int = 1) -> None:
    ahead = b.mul("%k_step", PREFETCHED_ROWS)

    def copy(mask: str | None) -> None:
        def one(_: str, source: str, target: str) -> list[str]:
            for part in range(vectors):
                b.prefetch(b.at(source, b.add(ahead, part * lanes), number.stored))   # rows may lie in different pages
                at = b.at(source, part * lanes, number.stored)
                value = number.load_masked(b, at, lanes, mask) if mask else number.load(b, at, lanes)
                values.store(b, value, b.at(target, part * lanes, number.kind), lanes)
            return [b.at(source, "%k_step", number.stored), b.at(target, "%width", number.kind)]

        b.loop(0, "%k", 1, one, [("ptr", "%from"), ("ptr", "%to")])

    if vectors > 1:
        copy(None)
    else:
        b.when(b.equal("%rows", lanes), lambda: copy(None), lambda: copy(b.mask(lanes, bits, "%rows")))


def _pack_strided(b: Builder, number: Numeric, values: Numeric, lanes: int, bits: int) -> None:
    def one(k: str, source: str, target: str) -> list[str]:
        def element(row: str) -> None:
            value = number.load(b, b.at(source, b.mul(row, "%row_step"), number.stored))
            values.store(b, value, b.at(target, row, number.kind))

        b.loop(0, "%rows", 1, element)
        return [b.at(source, "%k_step", number.stored), b.at(target, "%width", number.kind)]

    b.loop(0, "%k", 1, one, [("ptr", "%from"), ("ptr", "%to")])


# ---------------------------------------------------------------------------------------------------- pairs along k
def _pairs_transposed(b: Builder, number: Numeric, values: Numeric, lanes: int, bits: int) -> None:
    last = b.sub("%rows", 1)
    starts = [b.at("%from", b.mul(b.min(row, last), "%row_step"), number.stored) for row in range(lanes)]

    def square(k: Operand, mask: str | None) -> None:
        rows = []
        for start in starts:
            at = b.at(start, k, "i16")
            halves = b.masked_load("i16", 2 * lanes, at, mask) if mask else b.load(f"<{2 * lanes} x i16>", at, 2)
            rows.append(b(f"bitcast <{2 * lanes} x i16> {halves} to <{lanes} x i32>"))
        target = b.at("%to", b.mul(b.div(k, 2), "%width"), "i32")
        for column, value in enumerate(b.transpose("i32", 4, rows)):
            b.store(f"<{lanes} x i32>", value, b.at(target, b.mul("%width", column), "i32"), 4)

    whole = b.sub("%k", b.rem("%k", 2 * lanes))
    b.loop(0, whole, 2 * lanes, lambda k: square(k, None))
    b.when(b.less(whole, "%k"), lambda: square(whole, b.mask(2 * lanes, 16, b.sub("%k", whole))))


def _pairs_copied(b: Builder, number: Numeric, values: Numeric, lanes: int, bits: int) -> None:
    mask = b.mask(lanes, bits, "%rows")
    vector = f"<{lanes} x i32>"

    def load(at: str) -> str:
        return b(f"zext <{lanes} x i16> {b.masked_load('i16', lanes, at, mask)} to {vector}")

    def one(_: str, source: str, target: str) -> list[str]:
        b.prefetch(b.at(source, b.mul("%k_step", PREFETCHED_ROWS), "i16"))
        second = b.at(source, "%k_step", "i16")
        high = b(f"shl {vector} {load(second)}, {b.splat('i32', lanes, 16)}")
        b.store(vector, b(f"or {vector} {load(source)}, {high}"), target, 4)
        return [b.at(second, "%k_step", "i16"), b.at(target, "%width", "i32")]

    odd = b.rem("%k", 2)
    source, target = b.loop(0, b.sub("%k", odd), 2, one, [("ptr", "%from"), ("ptr", "%to")])
    b.when(b.equal(odd, 1), lambda: b.store(vector, load(source), target, 4))


def _pairs_strided(b: Builder, number: Numeric, values: Numeric, lanes: int, bits: int) -> None:
    def pair(k: str, source: str, target: str) -> list[str]:
        def element(row: str) -> None:
            at = b.at(source, b.mul(row, "%row_step"), "i16")
            there = b.at(b.at(target, row, "i32"), 0, "i16")
            b.store("i16", b.load("i16", at, 2), there, 2)
            second = b.when(b.less(b.add(k, 1), "%k"), lambda: [b.load("i16", b.at(at, "%k_step", "i16"), 2)], lambda: [0],
                            ["i16"])
            b.store("i16", second[0], b.at(there, 1, "i16"), 2)

        b.loop(0, "%rows", 1, element)
        return [b.at(source, b.mul("%k_step", 2), "i16"), b.at(target, "%width", "i32")]

    b.loop(0, "%k", 2, pair, [("ptr", "%from"), ("ptr", "%to")])
