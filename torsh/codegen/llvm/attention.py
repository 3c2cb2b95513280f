"""Attention forward: blocks of keys against blocks of queries, with running maxima and sums (Dao et al., 2022).

A work unit is a block of queries of one batch item (or several whole items that are small).
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from torsh.codegen.llvm.attention_parts import (
    DRAWN,
    GROUP,
    PANELS,
    ROWS,
    UNROLLED,
    Parts,
    Words,
    begin,
    carve,
    common_libraries,
    item_offsets,
    lane_limits,
    load_drawn,
    seen,
    write_rows,
)
from torsh.codegen.llvm.gemm_shape import arguments, pairs
from torsh.codegen.llvm.libraries import declare_libraries
from torsh.codegen.llvm.math_exponential import log
from torsh.codegen.llvm.template_builder import ENTRY, Builder, Operand
from torsh.compiler.attention import FORWARD_PARAMETERS, WORK_BYTES
from torsh.compiler.kernel import TemplateKernel

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

OPERANDS = ("query", "key", "value", "mask")
SOFTMAX = ("ptr scores", "ptr mask", "ptr kept", "ptr top", "ptr total", "ptr factor", "i64 n", "i64 limit", "i1 diagonal",
           "double scale")
ADD = ("ptr total", "ptr part", "ptr factor", "i64 rows", "i64 width")
FINISH = ("ptr top", "ptr total", "ptr logsumexp", "i64 queries", "i1 wanted")
BLOCK = ("ptr params", "ptr out", "ptr logsumexp", "ptr query", "ptr key", "ptr value", "ptr mask", "i64 start", "i64 count",
         "ptr work", "i64 item", *DRAWN)


def attention_libraries(dtype_name: str, mask: str, dropout: bool, target: Target) -> dict[str, TemplateKernel]:
    """The libraries of the template."""
    return common_libraries(dtype_name, mask, target)


def generate_attention(dtype_name: str, mask: str, dropout: bool, target: Target, symbol: str) -> str:
    """LLVM text of the attention template."""
    parts = begin(dtype_name, mask, dropout, target)
    declare_libraries(parts.module, attention_libraries(dtype_name, mask, dropout, target))
    write_rows(parts, parts.shape.number)
    _write_softmax(parts)
    _write_add(parts)
    _write_finish(parts)
    _Block(parts).write()
    _write_entry(parts, symbol)
    return parts.module.render()


# ---------------------------------------------------------------------------------------------------- softmax
def _write_softmax(parts: Parts) -> None:
    """Scores of one vector of queries become weights; updates maxima and sums. factor: of what was summed before.

    n keys; ``limit``: the last key of the first query, if the block is on the diagonal.
    """
    number, lanes, columns, vector = parts.number, parts.shape.lanes, parts.shape.columns, parts.vector
    minus_infinity = parts.constant("0xFFF0000000000000")
    b = Builder(parts.module, "softmax", arguments(SOFTMAX))

    def at(row: Operand) -> str:
        return b.at("%scores", b.mul(row, columns), number.kind)

    def larger(x: str, y: str) -> str:
        return b(f"select <{lanes} x i1> {b(f'fcmp ogt {vector} {x}, {y}')}, {vector} {x}, {vector} {y}")

    whole = parts.rounded(b, "%n", UNROLLED)
    b.loop("%n", whole, 1, lambda r: number.store(b, minus_infinity, at(r), lanes))
    old = number.load(b, "%top", lanes)

    scale = parts.scalar(b, "%scale")

    def score_at(r: Operand) -> str:
        return b(f"fmul {vector} {number.load(b, at(r), lanes)}, {scale}")

    def plain() -> list[Operand]:
        tops = b.loop(0, whole, UNROLLED, lambda r, *tops: [
            larger(score_at(b.add(r, k)), top) for k, top in enumerate(tops)], [(vector, old)] * UNROLLED)
        return [larger(larger(tops[0], tops[1]), larger(tops[2], tops[3])), scale]

    def masked(r: str, top: str) -> list[Operand]:
        added = number.load(b, b.at("%mask", b.mul(r, columns), number.kind), lanes)
        score = number.add(b, score_at(r), added, lanes)
        number.store(b, score, at(r), lanes)
        return [larger(score, top)]

    def on_diagonal(r: str, top: str) -> list[Operand]:
        score = b(f"select <{lanes} x i1> {seen(parts, b, limits, r)}, {vector} {score_at(r)}, {vector} {minus_infinity}")
        number.store(b, score, at(r), lanes)
        return [larger(score, top)]

    one = parts.constant("1.0")         # what was masked is scaled already
    if parts.mask == "none":
        limits = lane_limits(parts, b, "%limit")
        top, scale = b.when("%diagonal", lambda: [*b.loop(0, "%n", 1, on_diagonal, [(vector, old)]), one], plain, [vector] * 2)
    else:
        top, scale = b.loop(0, "%n", 1, masked, [(vector, old)])[0], one
    nothing = b(f"fcmp oeq {vector} {top}, {minus_infinity}")
    bottom = b(f"select <{lanes} x i1> {nothing}, {vector} zeroinitializer, {vector} {top}")
    factor = parts.exp(b, b(f"fsub {vector} {old}, {bottom}"))
    below = b(f"fneg {vector} {bottom}")

    def weights(r: str, *sums: str) -> list[Operand]:
        result: list[Operand] = []
        for k in range(UNROLLED):
            place = at(b.add(r, k))
            weight = parts.exp(b, number.multiply_add(b, number.load(b, place, lanes), scale, below, lanes))
            used = weight
            if parts.dropout:            # sums are those of all weights
                factor_of = number.load(b, b.at("%kept", b.mul(b.add(r, k), columns), number.kind), lanes)
                used = b(f"fmul {vector} {weight}, {factor_of}")
            number.store(b, used, place, lanes)
            result.append(number.add(b, sums[k], weight, lanes))
        return result
    sums = b.loop(0, whole, UNROLLED, weights, [(vector, "zeroinitializer")] * UNROLLED)
    total = number.add(b, number.add(b, sums[0], sums[1], lanes), number.add(b, sums[2], sums[3], lanes), lanes)
    number.store(b, number.multiply_add(b, number.load(b, "%total", lanes), factor, total, lanes), "%total", lanes)
    number.store(b, top, "%top", lanes)
    number.store(b, factor, "%factor", lanes)
    b.finish()


def _write_add(parts: Parts) -> None:
    """total[row] = total[row] * factor[row] + part[row]."""
    number, lanes = parts.number, parts.shape.lanes
    b = Builder(parts.module, "add_part", arguments(ADD))

    def row(r: str) -> None:
        start = b.mul(r, "%width")
        factor = b.splat(number.kind, lanes, number.load(b, b.at("%factor", r, number.kind)))

        def some(j: str) -> None:
            index = b.add(start, j)
            at = b.at("%total", index, number.kind)
            part = number.load(b, b.at("%part", index, number.kind), lanes)
            number.store(b, number.multiply_add(b, number.load(b, at, lanes), factor, part, lanes), at, lanes)
        b.loop(0, "%width", lanes, some)
    b.loop(0, "%rows", 1, row)
    b.finish()


def _write_finish(parts: Parts) -> None:
    """Sums become the factors of the result; the logarithm of the sum of exponentials, if it is wanted."""
    number, lanes, vector = parts.number, parts.shape.lanes, parts.vector
    b = Builder(parts.module, "finish", arguments(FINISH))

    def some(i: str) -> None:
        place = b.at("%total", i, number.kind)
        total = number.load(b, place, lanes)

        def logarithm() -> None:
            found = number.add(b, parts.inline(b, log, total), number.load(b, b.at("%top", i, number.kind), lanes), lanes)
            mask = b.mask(lanes, 8 * number.kind_bytes, b.min(b.sub("%queries", i), lanes))
            number.store_masked(b, found, b.at("%logsumexp", i, number.kind), lanes, mask)
        b.when("%wanted", logarithm)
        inverse = b(f"fdiv {vector} {parts.constant('1.0')}, {total}")
        if parts.mask != "none":         # queries that see no key at all get zeros
            nothing = b(f"fcmp oeq {vector} {total}, zeroinitializer")
            inverse = b(f"select <{lanes} x i1> {nothing}, {vector} zeroinitializer, {vector} {inverse}")
        number.store(b, inverse, place, lanes)
    b.loop(0, "%queries", lanes, some)
    b.finish()


# ---------------------------------------------------------------------------------------------------- blocks
class _Block:
    """Writes the function ``block``: the result for ``count`` queries from ``start`` of one batch item."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.b = b = Builder(parts.module, "block", arguments(BLOCK))
        self.word = word = Words(b, FORWARD_PARAMETERS)
        shape, columns = parts.shape, parts.shape.columns
        self.size, self.width = word["size"], word["width"]
        self.causal = b(f"icmp ne i64 {word['causal']}, 0")
        self.scale = parts.scale(b, word)
        self.near = parts.in_place(b, word["value_row"], word["value_column"], self.width)
        self.span = b.select(self.causal, b.min(word["keys"], b.add("%start", "%count")), word["keys"])      # keys that are seen
        self.tiles = b.ceil_div("%count", columns)
        deep, self.broad = parts.rounded(b, self.size, shape.lanes), parts.rounded(b, self.width, columns)
        self.query_panel, self.key_panel = b.mul(deep, columns), b.mul(deep, shape.row_width)
        rows, scores = b.mul(self.tiles, columns), b.mul(b.add(word["key_block"], UNROLLED), columns)
        names = ("queries", "scores", "masks", "kept", "part", "total", "top", "sum", "factor", "keys", "values")
        sizes = (b.mul(self.tiles, self.query_panel), scores, scores, scores, b.mul(columns + GROUP, self.broad),
                 b.mul(b.add(rows, GROUP), self.broad), rows, rows, columns,
                 b.mul(b.ceil_div(word["key_block"], shape.rows), self.key_panel), b.mul(word["key_block"], self.broad))
        self.place = dict(zip(names, carve(b, "%work", parts.kind, *sizes), strict=True))

    def write(self) -> None:
        """The whole function."""
        b, word, place, kind = self.b, self.word, self.place, self.parts.kind
        b.loop(0, self.tiles, 1, self.prepare)
        b.loop(0, self.span, word["key_block"], self.key_step)
        wanted = b(f"icmp ne i64 {word['has_logsumexp']}, 0")
        b.call("finish", *pairs(FINISH, (place["top"], place["sum"], b.at("%logsumexp", "%start", kind), "%count", wanted)))
        out = b.at("%out", b.mul("%start", self.width), self.parts.shape.number.stored)
        values = (place["total"], self.broad, out, self.width, place["sum"], 1, "false", "%count", self.width)
        b.when(b(f"icmp ne i64 {word['has_out']}, 0"), lambda: b.call("rows", *pairs(ROWS, values)))
        b.finish()

    def _matrix(self, name: str, row: Operand) -> tuple[str, str, str]:
        """Where a row of an operand is, and its strides."""
        step = self.word[f"{name}_row"]
        return self.b.at(f"%{name}", self.b.mul(row, step), self.parts.shape.number.stored), step, self.word[f"{name}_column"]

    def prepare(self, t: str) -> None:
        """A block of queries in the order in which products want it, and nothing summed yet."""
        b, parts, columns = self.b, self.parts, self.parts.shape.columns
        first = b.mul(t, columns)
        to = b.at(self.place["queries"], b.mul(t, self.query_panel), parts.kind)
        count = b.min(b.sub("%count", first), columns)
        parts.pack(b, *self._matrix("query", b.add("%start", first)), to, self.size, count, columns)
        for x in range(0, columns, parts.shape.lanes):
            for name, value in (("top", parts.constant("0xFFF0000000000000")), ("sum", "zeroinitializer")):
                parts.number.store(b, value, b.at(self.place[name], b.add(first, x), parts.kind), parts.shape.lanes)

    def key_step(self, j: str) -> None:
        """One block of keys against all queries that see it."""
        b, place = self.b, self.place
        n = b.min(self.word["key_block"], b.sub(self.span, j))
        b.call("pack_panels", *pairs(PANELS, (*self._matrix("key", j), place["keys"], self.size, n)))
        values = self.parts.row_matrix(b, self.near, self._matrix("value", j), place["values"], n, self.width, self.broad)
        blind = b.div(b.select(b.less("%start", j), b.sub(j, "%start"), 0), self.parts.shape.columns)
        b.loop(b.select(self.causal, blind, 0), self.tiles, 1, lambda t: self.query_step(t, j, n, values))

    def query_step(self, t: str, j: str, n: Operand, values: tuple[str, Operand]) -> None:
        """One block of queries against a block of keys."""
        b, word, place, parts, kind = self.b, self.word, self.place, self.parts, self.parts.kind
        shape, columns = parts.shape, parts.shape.columns
        first = b.mul(t, columns)
        i, mine = b.add("%start", first), b.min(b.sub("%count", first), columns)
        ahead = b.sub(i, j)                                  # the last key that the first query sees
        n = b.select(self.causal, b.min(n, b.add(ahead, mine)), n)
        diagonal = b.both(self.causal, b.less(ahead, b.sub(n, 1)))
        queries = b.at(place["queries"], b.mul(t, self.query_panel), kind)
        parts.product(b, "panel", place["keys"], self.key_panel, 1, shape.row_width, queries, columns, place["scores"], columns, "false",
                      n, mine, self.size)
        parts.pack_mask(b, word, i, j, place["masks"], n, mine)

        def softmax(x: str) -> None:
            scores, masks, kept, factor = (b.at(place[name], x, kind) for name in ("scores", "masks", "kept", "factor"))
            top, total = (b.at(place[name], b.add(first, x), kind) for name in ("top", "sum"))
            parts.draw(b, word, b.add(i, x), j, kept, n)
            b.call("softmax", *pairs(SOFTMAX, (scores, masks, kept, top, total, factor, n, b.add(ahead, x), diagonal, self.scale)))
        b.loop(0, mine, shape.lanes, softmax)
        self._sum(j, n, mine, b.at(place["total"], b.mul(first, self.broad), kind), values)

    def _sum(self, j: str, n: Operand, mine: Operand, total: str, values: tuple[str, Operand]) -> None:
        """Add the weighted values of a block of keys to what the blocks before it gave."""
        b, parts, place, broad = self.b, self.parts, self.place, self.broad
        given = (place["scores"], parts.shape.rows, 1, parts.shape.columns, *values)

        def further() -> None:
            parts.product(b, "panel", *given, place["part"], broad, "false", mine, self.width, n)
            b.call("add_part", *pairs(ADD, (total, place["part"], place["factor"], mine, broad)))
        b.when(b.equal(j, 0), lambda: parts.product(b, "panel", *given, total, broad, "false", mine, self.width, n), further)


def _write_entry(parts: Parts, symbol: str) -> None:
    """The kernel: work units are (group of batch items, block of queries)."""
    number = parts.shape.number
    b = Builder(parts.module, symbol, ENTRY, internal=False)
    work = b.stack(WORK_BYTES + 64)
    word = Words(b, FORWARD_PARAMETERS)
    starts = {name: b.buffer(word[f"{name}_slot"], word[f"{name}_offset"]) for name in (*OPERANDS, "out", "logsumexp")}
    batch = [word[f"batch{x}"] for x in range(4)]
    total = b.mul(b.mul(batch[0], batch[1]), b.mul(batch[2], batch[3]))
    blocks = b.ceil_div(word["queries"], word["query_block"])
    drawn = load_drawn(parts, b, word)

    def unit(number_of: str) -> None:
        group, block = b.div(number_of, blocks), b.rem(number_of, blocks)
        start = b.mul(block, word["query_block"])
        count = b.min(word["query_block"], b.sub(word["queries"], start))

        def item(index: str) -> None:
            offsets = item_offsets(b, word, OPERANDS, index)
            at = [b.at(starts[name], offsets[name], "i8" if name == "mask" and parts.mask == "bool" else number.stored)
                  for name in OPERANDS]
            rows = b.mul(index, word["queries"])
            b.call("block", *pairs(BLOCK, ("%params", b.at(starts["out"], b.mul(rows, word["width"]), number.stored),
                                           b.at(starts["logsumexp"], rows, number.kind), *at, start, count, work, index, *drawn)))
        first = b.mul(group, word["batch_block"])
        b.loop(first, b.min(total, b.add(first, word["batch_block"])), 1, item)
    b.loop("%begin", "%end", 1, unit)
    b.finish()
