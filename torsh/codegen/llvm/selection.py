"""The positions of a row's largest or smallest elements as LLVM text.

A list of the best elements so far is kept in order. Vectors are compared with the worst of them: few elements of a long row
beat it, and only those are looked at one by one.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torsh.codegen.llvm.copy_templates import done, entry
from torsh.codegen.llvm.numeric import Numeric, numeric, shaped
from torsh.codegen.llvm.template_builder import Builder, Operand
from torsh.compiler import templates

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target


@dataclass(slots=True)
class _Best:
    """The best elements of a row in order: values and positions, on the stack, with room for a vector behind them."""

    b: Builder
    number: Numeric
    largest: bool
    lanes: int
    position_lanes: int
    values: str
    positions: str
    last: Operand            # the place of the worst one

    def beats(self, new: str, old: str, lanes: int = 0) -> str:
        """Does a new element replace an older one? NaN counts as the largest; of equal elements the older one stays."""
        b, shape, flags = self.b, self.number.vector(lanes), shaped("i1", lanes)
        if not self.number.is_float:
            order = ("s" if self.number.signed else "u") + ("gt" if self.largest else "lt")
            return b(f"icmp {order} {shape} {new}, {old}")
        better = b(f"fcmp {'ugt' if self.largest else 'ult'} {shape} {new}, {old}")
        known = old if self.largest else new
        return b(f"and {flags} {better}, {b(f'fcmp ord {shape} {known}, {known}')}")

    def worst(self) -> str:
        """The value that has to be beaten."""
        return self.b.load(self.number.kind, self.b.at(self.values, self.last, self.number.kind), self.number.kind_bytes)

    def insert(self, value: str, position: Operand, count: Operand) -> None:
        """Put an element where it belongs among the first ``count``; those behind it move on by one place."""
        b, kind = self.b, self.number.kind

        def not_beaten(start: str, found: str) -> list[Operand]:
            old = b.load(self.number.vector(self.lanes), b.at(self.values, start, kind), self.number.kind_bytes)
            new = b.splat(kind, self.lanes, value)
            return [b.add(found, self.first(self.bits(self.beats(new, old, self.lanes))))]

        found, = b.loop(0, count, self.lanes, not_beaten, [("i64", 0)])
        place = b.min(found, count)             # behind the list there may be anything
        behind = b.sub(count, place)
        for array, item, size, lanes in ((self.values, kind, self.number.kind_bytes, self.lanes),
                                         (self.positions, "i64", 8, self.position_lanes)):
            here = b.at(array, place, item)
            self._move_on(here, behind, item, size, lanes)
            b.store(item, value if array is self.values else position, here, size)

    def _move_on(self, start: str, count: Operand, kind: str, size: int, lanes: int) -> None:
        """Items from an address on, one place further; what lies behind them (or on the stack behind the list) may be lost."""
        b, shape = self.b, f"<{lanes} x {kind}>"
        last = b.mul(b.div(b.add(count, lanes - 1), lanes), lanes)

        def vector(done: str) -> None:
            here = b.at(start, b.sub(b.sub(last, lanes), done), kind)
            b.store(shape, b.load(shape, here, size), b.at(here, 1, kind), size)

        b.loop(0, last, lanes, vector)

    def bits(self, flags: str) -> str:
        """A vector of conditions as an i64."""
        bits = f"i{self.lanes}"
        mask = self.b(f"bitcast <{self.lanes} x i1> {flags} to {bits}")
        return mask if self.lanes == 64 else self.b(f"zext {bits} {mask} to i64")

    def first(self, bits: str) -> str:
        """The first lane that is set, or the number of lanes."""
        b = self.b
        b.module.declare("i64 @llvm.cttz.i64(i64, i1)")
        limited = bits if self.lanes == 64 else b(f"or i64 {bits}, {1 << self.lanes}")
        return b(f"call i64 @llvm.cttz.i64(i64 {limited}, i1 false)")

    def offer(self, source: str, position: Operand) -> None:
        """Insert an element if it is good enough."""
        value = self.number.load(self.b, self.b.at(source, position, self.number.stored))
        self.b.when(self.beats(value, self.worst()), lambda: self.insert(value, position, self.last))

    def offer_vector(self, source: str, start: Operand) -> None:
        """Insert those of a vector's elements that are good enough, in order."""
        b, lanes = self.b, self.lanes
        vector = self.number.load(b, b.at(source, start, self.number.stored), lanes)
        better = self.bits(self.beats(vector, b.splat(self.number.kind, lanes, self.worst()), lanes))

        def candidates() -> None:
            b.module.declare("i64 @llvm.ctpop.i64(i64)")

            def candidate(_: str, left: str) -> list[Operand]:
                self.offer(source, b.add(start, self.first(left)))
                return [b(f"and i64 {left}, {b(f'sub i64 {left}, 1')}")]

            b.loop(0, b(f"call i64 @llvm.ctpop.i64(i64 {better})"), 1, candidate, [("i64", better)])

        b.when(b(f"icmp ne i64 {better}, 0"), candidates)

    def write(self, out: str) -> None:
        """The positions to the result."""
        b = self.b
        b.loop(0, b.add(self.last, 1), 1,
               lambda i: b.store("i64", b.load("i64", b.at(self.positions, i, "i64"), 8), b.at(out, i, "i64"), 8))


def generate_selection(dtype_name: str, largest: bool, target: Target, symbol: str) -> str:
    """LLVM text of the template that finds the k best positions of each row."""
    number = numeric(dtype_name, True)
    b, lanes = entry(symbol), min(target.lanes(number.kind_bytes), 64)
    room = 8 * templates.MOST_SELECTED + 2 * target.lanes(1)
    values, positions = b.stack(room), b.stack(room)
    b.loop(0, room, 8, lambda i: b.store("i64", 0, b.at(values, i, "i8"), 8))
    word = b.words(templates.SELECTION_PARAMETERS)
    out, src = b.buffer(word["out_slot"], word["out_offset"]), b.buffer(word["src_slot"], word["src_offset"])
    length, count = word["length"], word["count"]
    whole = b.sub(length, b.rem(b.sub(length, count), lanes))
    best = _Best(b, number, largest, lanes, target.lanes(8), values, positions, b.sub(count, 1))

    def row(index: str) -> None:
        source = b.at(src, b.mul(index, length), number.stored)
        b.loop(0, count, 1, lambda i: best.insert(number.load(b, b.at(source, i, number.stored)), i, i))
        b.loop(count, whole, lanes, lambda i: best.offer_vector(source, i))
        b.loop(whole, length, 1, lambda i: best.offer(source, i))
        best.write(b.at(out, b.mul(index, count), "i64"))

    def unit(index: str) -> None:
        start = b.mul(index, word["block"])
        b.loop(start, b.min(b.add(start, word["block"]), word["rows"]), 1, row)

    b.loop("%begin", "%end", 1, unit)
    return done(b)
