"""Attention forward: blocks of keys against blocks of queries, with running maxima and sums (Dao et al., 2022).

A work unit is a block of queries of one batch item (or several whole items that are small).
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from torsh.codegen.llvm.attention_parts import (
    DRAW,
    DRAWN,
    PANELS,
    ROWS,
    UNROLLED,
    Parts,
    Words,
    begin,
    carve,
    hidden,
    item_offsets,
    lane_limits,
    load_drawn,
    seen,
    write_rows,
    write_tiles,
)
from torsh.codegen.llvm.gemm_shape import arguments, pairs
from torsh.codegen.llvm.math_exponential import log
from torsh.codegen.llvm.template_builder import ENTRY, Builder, Operand
from torsh.compiler.attention import FORWARD_PARAMETERS, WORK_BYTES

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

OPERANDS = ("query", "key", "value", "mask")
SOFTMAX = ("ptr scores", "ptr mask", "ptr kept", "ptr top", "ptr total", "ptr factor", "i64 n", "i64 limit", "i1 diagonal",
           "double scale")
ADD = ("ptr total", "ptr part", "ptr factor", "i64 rows", "i64 width")
FINISH = ("ptr top", "ptr total", "ptr logsumexp", "i64 queries", "i1 wanted")
BLOCK = ("ptr params", "ptr out", "ptr logsumexp", "ptr query", "ptr key", "ptr value", "ptr mask", "i64 start", "i64 count",
         "ptr work", "i64 item", *DRAWN)


def generate_attention(dtype_name: str, mask: str, dropout: bool, target: Target, symbol: str) -> str:
    """LLVM text of the attention template."""
    parts = begin(dtype_name, mask, dropout, target)
    write_tiles(parts, "panel", 1, "%a_step")
    write_rows(parts, parts.shape.number)
    _write_softmax(parts)
    _write_add(parts)
    _write_finish(parts)
    _write_block(parts)
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
def _write_block(parts: Parts) -> None:
    """The result for ``count`` queries from ``start`` of one batch item."""
    shape, kind, stored = parts.shape, parts.kind, parts.shape.number.stored
    columns, lanes = shape.columns, shape.lanes
    b = Builder(parts.module, "block", arguments(BLOCK))
    slot = b.stack(8)
    word = Words(b, FORWARD_PARAMETERS)
    size, width, key_block = word["size"], word["width"], word["key_block"]
    causal = b(f"icmp ne i64 {word['causal']}, 0")
    scale = parts.scale(b, word)
    tiles = b.ceil_div("%count", columns)
    rows = b.mul(tiles, columns)
    panel, broad = b.mul(parts.rounded(b, size, lanes), columns), parts.rounded(b, width, columns)
    high = b.mul(parts.rounded(b, size, lanes), shape.row_width)
    scores_size = b.mul(b.add(key_block, UNROLLED), columns)
    queries, scores, masks, kept, part, total, tops, sums, factor, keys, values = carve(
        b, "%work", kind, b.mul(tiles, panel), scores_size, scores_size, scores_size, b.mul(columns + parts.group, broad),
        b.mul(b.add(rows, parts.group), broad), rows, rows, columns, b.mul(b.ceil_div(key_block, shape.rows), high),
        b.mul(key_block, broad))

    value_in_place = parts.in_place(b, word["value_row"], word["value_column"], width)

    def prepare(t: str) -> None:
        t = hidden(b, slot, t)
        first = b.mul(t, columns)
        source = b.at("%query", b.mul(b.add("%start", first), word["query_row"]), stored)
        to = b.at(queries, b.mul(t, panel), kind)
        parts.pack(b, source, word["query_row"], word["query_column"], to, size, b.min(b.sub("%count", first), columns), columns)
        for x in range(0, columns, lanes):
            at = b.add(first, x)
            parts.number.store(b, parts.constant("0xFFF0000000000000"), b.at(tops, at, kind), lanes)
            parts.number.store(b, "zeroinitializer", b.at(sums, at, kind), lanes)
    b.loop(0, tiles, 1, prepare)
    span = b.select(causal, b.min(word["keys"], b.add("%start", "%count")), word["keys"])

    def key_step(j: str) -> None:
        j = hidden(b, slot, j)
        n = b.min(key_block, b.sub(span, j))
        b.call("pack_panels", *pairs(PANELS, (b.at("%key", b.mul(j, word["key_row"]), stored), word["key_row"],
                                              word["key_column"], keys, size, n)))
        at = b.at("%value", b.mul(j, word["value_row"]), stored)
        rows, step = parts.row_matrix(b, value_in_place, (at, word["value_row"], word["value_column"]), values, n, width, broad)
        skipped = b.div(b.select(b.less("%start", j), b.sub(j, "%start"), 0), columns)
        b.loop(b.select(causal, skipped, 0), tiles, 1, lambda t: query_step(t, j, n, rows, step))

    def query_step(t: str, j: str, n: Operand, rows: str, step: Operand) -> None:
        t = hidden(b, slot, t)
        first = b.mul(t, columns)
        i, mine = b.add("%start", first), b.min(b.sub("%count", first), columns)
        ahead = b.sub(i, j)                                  # the last key that the first query sees
        n = b.select(causal, b.min(n, b.add(ahead, mine)), n)
        diagonal = b.both(causal, b.less(ahead, b.sub(n, 1)))
        parts.product(b, "panel", keys, high, shape.row_width, b.at(queries, b.mul(t, panel), kind), columns, scores, columns,
                      "false", n, mine, size)
        if parts.mask != "none":
            mask_type = "i8" if parts.mask == "bool" else stored
            source = b.at("%mask", b.add(b.mul(i, word["mask_row"]), b.mul(j, word["mask_column"])), mask_type)
            parts.pack(b, source, word["mask_row"], word["mask_column"], masks, n, mine, columns,
                       name="pack_mask" if parts.mask == "bool" else "pack")

        def softmax(x: str) -> None:
            at = b.add(first, x)
            if parts.dropout:
                row = b.add(b.mul("%item", word["queries"]), b.add(i, x))
                number_of = b.add(b.mul(row, word["keys"]), j)
                b.call("draw", *pairs(DRAW, (b.at(kept, x, kind), n, number_of, word["keys"], *[f"%{name.split()[1]}" for name in DRAWN])))
            b.call("softmax", *pairs(SOFTMAX, (b.at(scores, x, kind), b.at(masks, x, kind), b.at(kept, x, kind), b.at(tops, at, kind),
                                               b.at(sums, at, kind), b.at(factor, x, kind), n, b.add(ahead, x), diagonal, scale)))
        b.loop(0, mine, lanes, softmax)
        to = b.at(total, b.mul(first, broad), kind)
        given = (scores, shape.rows, columns, rows, step)

        def further() -> None:
            parts.product(b, "panel", *given, part, broad, "false", mine, width, n)
            b.call("add_part", *pairs(ADD, (to, part, factor, mine, broad)))
        b.when(b.equal(j, 0), lambda: parts.product(b, "panel", *given, to, broad, "false", mine, width, n), further)

    b.loop(0, span, key_block, key_step)
    wanted = b(f"icmp ne i64 {word['has_logsumexp']}, 0")
    b.call("finish", *pairs(FINISH, (tops, sums, b.at("%logsumexp", "%start", kind), "%count", wanted)))
    out = b.at("%out", b.mul("%start", width), stored)
    b.when(b(f"icmp ne i64 {word['has_out']}, 0"), lambda: b.call(
        "rows", *pairs(ROWS, (total, broad, out, width, sums, 1, "false", "%count", width))))
    b.finish()


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
