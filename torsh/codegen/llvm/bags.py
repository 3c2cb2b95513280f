"""Sums of rows of a table at runs of positions, as LLVM text."""
from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from torsh.codegen.llvm.copy_templates import done, entry
from torsh.codegen.llvm.gemm_pack import LINE_BYTES
from torsh.codegen.llvm.indexing_templates import checked
from torsh.codegen.llvm.numeric import numeric
from torsh.codegen.llvm.template_builder import Operand
from torsh.compiler import templates

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

VECTORS: Final = (8, 4, 1)       # of a row that are summed at a time
PREFETCHED_ROWS: Final = 12      # rows lie anywhere in memory: so many are under way


def generate_sum_of_bags(dtype_name: str, target: Target, symbol: str) -> str:
    """LLVM text of the template; work units are blocks of bags."""
    number = numeric(dtype_name, True)
    lanes = max(target.lanes(number.kind_bytes), 1)
    b = entry(symbol)
    word = b.words(templates.BAGS_PARAMETERS)
    at = {name: b.buffer(word[f"{name}_slot"], word[f"{name}_offset"]) for name in ("out", "table", "index", "starts", "each")}
    weighted = b(f"icmp ne i64 {word['has_each']}, 0")
    width, count, last = word["width"], word["count"], b.sub(word["count"], 1)

    def inside(place: Operand) -> Operand:
        return b.min(b.select(b.less(place, 0), 0, place), count)

    def bag(position: str) -> None:
        begin = inside(b.load("i64", b.at(at["starts"], position, "i64"), 8))
        more = b.less(b.add(position, 1), word["bags"])
        end = b.when(more, lambda: [inside(b.load("i64", b.at(at["starts"], b.add(position, 1), "i64"), 8))], lambda: [count], ["i64"])[0]
        out = b.at(at["out"], b.mul(position, width), number.stored)

        def part(column: Operand, vectors: int, wide: int) -> None:
            """The sums of ``vectors`` vectors (or, wide 0, of one number) of the rows."""
            shape = number.vector(wide)

            def place(i: str, *sums: str) -> list[str]:
                row = b.load("i64", b.at(at["index"], i, "i64"), 8)
                ahead = b.load("i64", b.at(at["index"], b.min(b.add(i, PREFETCHED_ROWS), last), "i64"), 8)
                for line in range(0, vectors * max(wide, 1) * number.stored_bytes, LINE_BYTES):
                    b.prefetch(b.at(b.at(at["table"], b.add(b.mul(ahead, width), column), number.stored), line, "i8"))
                factor = b.when(weighted, lambda: [number.load(b, b.at(at["each"], i, number.stored))],
                                lambda: ["1.0"], [number.kind])[0]
                there = b(f"icmp ult i64 {row}, {word['rows']}")
                counts = b.both(there, b(f"icmp ne i64 {row}, {word['padding']}"))
                source = b.at(at["table"], b.add(b.mul(row, width), column), number.stored)

                def added() -> list[str]:
                    many = b.splat(number.kind, wide, factor) if wide else factor
                    return [number.multiply_add(b, number.load(b, b.at(source, x * wide, number.stored), wide), many, total, wide)
                            for x, total in enumerate(sums)]

                found = b.when(counts, added, lambda: list(sums), [shape] * len(sums))
                b.when(there, lambda: None, lambda: checked(b, row, word["rows"], lambda: None))
                return found

            zero = "zeroinitializer" if wide else "0.0"
            for x, total in enumerate(b.loop(begin, end, 1, place, [(shape, zero)] * vectors)):
                number.store(b, total, b.at(out, b.add(column, x * wide), number.stored), wide)

        done_columns: Operand = 0
        for vectors in VECTORS:
            stop = b.sub(width, b.rem(b.sub(width, done_columns), vectors * lanes))
            b.loop(done_columns, stop, vectors * lanes, partial(part, vectors=vectors, wide=lanes))
            done_columns = stop
        b.loop(done_columns, width, 1, partial(part, vectors=1, wide=0))

    def block(unit: str) -> None:
        start = b.mul(unit, word["block"])
        b.loop(start, b.min(word["bags"], b.add(start, word["block"])), 1, bag)

    b.loop("%begin", "%end", 1, block)
    return done(b)
