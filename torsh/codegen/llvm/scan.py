"""Cumulative sums, products, maxima and minima as LLVM text."""
from __future__ import annotations

from typing import TYPE_CHECKING

from torsh.codegen.llvm.numeric import Numeric, combine, identity, numeric
from torsh.codegen.llvm.template_builder import ENTRY, Builder, Module, Operand
from torsh.compiler.templates import SCAN_PARAMETERS

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

GROUP = 4   # vectors side by side that are carried together when lanes lie along the inner axis


def generate_scan(dtype_name: str, kind: str, target: Target, symbol: str) -> str:
    """LLVM text of the scan template: ``kind`` is "sum", "prod", "max" or "min"."""
    number = numeric(dtype_name, True)
    if number.name == "float32" and kind in ("sum", "prod"):
        number = Numeric(number.name, "float", "double", True)   # carried in double precision, as PyTorch does
    lanes = target.lanes(number.kind_bytes)
    module = Module(hides_counters=False)
    b = Builder(module, symbol, ENTRY, internal=False)
    word = b.words(SCAN_PARAMETERS)
    out, src = b.buffer(word["out_slot"], word["out_offset"]), b.buffer(word["src_slot"], word["src_offset"])
    inner_blocks = b.ceil_div(word["inner"], word["inner_block"])

    def unit(number_of_unit: str) -> None:
        first = b.mul(b.div(number_of_unit, inner_blocks), word["outer_block"])
        start = b.mul(b.rem(number_of_unit, inner_blocks), word["inner_block"])
        stop = b.min(word["inner"], b.add(start, word["inner_block"]))

        def row(o: str) -> None:
            source = b.at(src, b.mul(o, word["src_outer"]), number.stored)
            to = b.at(out, b.mul(o, b.mul(word["length"], word["inner"])), number.stored)
            b.when(b.equal(word["inner"], 1), lambda: _along_length(b, number, kind, lanes, word, source, to),
                   lambda: _along_inner(b, number, kind, lanes, word, source, to, start, stop))

        b.loop(first, b.min(word["outer"], b.add(first, word["outer_block"])), 1, row)

    b.loop("%begin", "%end", 1, unit)
    b.finish()
    return module.render()


def _along_inner(b: Builder, number: Numeric, kind: str, lanes: int, word: dict[str, str], source: str, to: str,
                 start: Operand, stop: Operand) -> None:
    """Independent scans side by side, one per lane where the inner axis is contiguous."""
    step = word["src_inner"]
    size = b.sub(stop, start)
    many = b.sub(size, b.rem(size, GROUP * lanes))
    whole = b.sub(size, b.rem(size, lanes))
    contiguous = b.equal(step, 1)
    many = b.add(start, b.select(contiguous, many, 0))
    whole = b.add(start, b.select(contiguous, whole, 0))

    def columns(i: str, count: int, width: int) -> None:
        one = identity(number, kind, width)
        source_i, to_i = b.at(source, b.mul(i, step), number.stored), b.at(to, i, number.stored)

        def position(_: str, x: str, y: str, *carried: str) -> list[str]:
            result = []
            for part, old in enumerate(carried):
                value = number.load(b, b.at(x, part * width, number.stored), width)
                result.append(combine(b, number, kind, old, value, width))
                number.store(b, result[-1], b.at(y, part * width, number.stored), width)
            return [b.at(x, word["src_length"], number.stored), b.at(y, word["inner"], number.stored), *result]

        b.loop(0, word["length"], 1, position, [("ptr", source_i), ("ptr", to_i)] + [(number.vector(width), one)] * count)

    b.loop(start, many, GROUP * lanes, lambda i: columns(i, GROUP, lanes))
    b.loop(many, whole, lanes, lambda i: columns(i, 1, lanes))
    b.loop(whole, stop, 1, lambda i: columns(i, 1, 0))


def _along_length(b: Builder, number: Numeric, kind: str, lanes: int, word: dict[str, str], source: str, to: str) -> None:
    """One scan. Contiguous elements go through a prefix scan in a register, so that only one step per vector is serial."""
    length, step = word["length"], word["src_length"]
    vector = number.vector(lanes)
    one = identity(number, kind, lanes)
    # Shuffles with zeros become expanding moves on AVX-512, which are several times slower; -0 adds nothing, too.
    filler = one.replace("double 0.0", "double -0.0").replace("float 0.0", "float -0.0")
    whole = b.select(b.equal(step, 1), b.sub(length, b.rem(length, lanes)), 0)

    def block(i: str, carried: str) -> list[str]:
        value = number.load(b, b.at(source, i, number.stored), lanes)
        distance = 1
        while distance < lanes:
            picks = [lanes + x if x < distance else x - distance for x in range(lanes)]
            value = combine(b, number, kind, b.shuffle(number.kind, lanes, value, filler, picks), value, lanes)
            distance *= 2
        number.store(b, combine(b, number, kind, carried, value, lanes), b.at(to, i, number.stored), lanes)
        total = b.shuffle(number.kind, lanes, value, "poison", [lanes - 1] * lanes)
        return [combine(b, number, kind, carried, total, lanes)]

    carried = b.loop(0, whole, lanes, block, [(vector, one)])[0]
    last = b(f"extractelement {vector} {carried}, i64 0")

    def element(i: str, old: str) -> list[str]:
        value = combine(b, number, kind, old, number.load(b, b.at(source, b.mul(i, step), number.stored)), 0)
        number.store(b, value, b.at(to, i, number.stored))
        return [value]

    b.loop(whole, length, 1, element, [(number.kind, last)])
