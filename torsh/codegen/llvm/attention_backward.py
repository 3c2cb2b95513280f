"""Attention backward: blocks of weights are computed again from the logarithm of their sums (Dao et al., 2022, 2023).

A work unit is a chunk of the keys of one batch item (or several whole items that are small). It owns the gradients of its keys and
values, and a part of the query's gradient that nobody else writes: results do not depend on the number of threads.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from torsh.codegen.llvm.attention_parts import (
    DRAWN,
    GROUP,
    PANELS,
    ROWS,
    UNROLLED,
    ZEROS,
    Parts,
    Words,
    begin,
    blocking,
    carve,
    common_libraries,
    item_offsets,
    lane_limits,
    load_drawn,
    seen,
    write_rows,
    write_zeros,
)
from torsh.codegen.llvm.gemm_shape import arguments, pairs
from torsh.codegen.llvm.libraries import declare_libraries, product_library
from torsh.codegen.llvm.template_builder import ENTRY, Builder, Operand, ignore
from torsh.compiler.attention import BACKWARD_OPERANDS, BACKWARD_PARAMETERS, BACKWARD_RESULTS, WORK_BYTES
from torsh.compiler.kernel import TemplateKernel

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

WEIGHTS = ("ptr scores", "ptr slopes", "ptr mask", "ptr kept", "ptr logsumexp", "ptr delta", "i64 n", "i64 limit", "i1 diagonal",
           "double scale")
GATHERED = ("ptr from", "i64 step", "ptr to", "i64 count")
GRADIENTS = tuple(f"{name}_gradient" for name in BACKWARD_RESULTS)
BLOCK = ("ptr params", *[f"ptr {name}" for name in (*GRADIENTS, *BACKWARD_OPERANDS)], "i64 start", "i64 stop", "ptr work", "i64 item",
         *DRAWN)


def attention_backward_libraries(dtype_name: str, mask: str, dropout: bool, target: Target) -> dict[str, TemplateKernel]:
    """The libraries of the template."""
    shape = blocking(dtype_name, target)
    return {**common_libraries(dtype_name, mask, target), "row_product": product_library(shape, shape.columns, 1)}


def generate_attention_backward(dtype_name: str, mask: str, dropout: bool, target: Target, symbol: str) -> str:
    """LLVM text of the template."""
    parts = begin(dtype_name, mask, dropout, target)
    declare_libraries(parts.module, attention_backward_libraries(dtype_name, mask, dropout, target))
    write_rows(parts, parts.number)
    write_zeros(parts)
    _write_gathered(parts)
    _write_weights(parts)
    _Block(parts).write()
    _write_entry(parts, symbol)
    return parts.module.render()


def _write_gathered(parts: Parts) -> None:
    """One number per query, one behind the other."""
    number = parts.number
    b = Builder(parts.module, "gathered", arguments(GATHERED))
    b.loop(0, "%count", 1, lambda i: number.store(
        b, number.load(b, b.at("%from", b.mul(i, "%step"), number.kind)), b.at("%to", i, number.kind)))
    b.finish()


def _write_weights(parts: Parts) -> None:
    """Scores (not scaled yet) of one vector of queries become weights, and slopes of the weights those of the scores."""
    number, lanes, columns, vector = parts.number, parts.shape.lanes, parts.shape.columns, parts.vector
    b = Builder(parts.module, "weights", arguments(WEIGHTS))
    scale, limits = parts.scalar(b, "%scale"), lane_limits(parts, b, "%limit")
    given = number.load(b, "%logsumexp", lanes)
    nothing = b(f"fcmp oeq {vector} {given}, {parts.constant('0xFFF0000000000000')}")      # a query that sees no key
    bottom = b(f"select <{lanes} x i1> {nothing}, {vector} {parts.constant('0x7FF0000000000000')}, {vector} {given}")
    below, delta = b(f"fneg {vector} {bottom}"), number.load(b, "%delta", lanes)

    def one(r: Operand, diagonal: bool) -> None:
        offset = b.mul(r, columns)
        place, slope = b.at("%scores", offset, number.kind), b.at("%slopes", offset, number.kind)
        score = number.multiply_add(b, number.load(b, place, lanes), scale, below, lanes)
        if parts.mask != "none":
            score = number.add(b, score, number.load(b, b.at("%mask", offset, number.kind), lanes), lanes)
        weight = parts.exp(b, score)
        if diagonal:
            weight = b(f"select <{lanes} x i1> {seen(parts, b, limits, r)}, {vector} {weight}, {vector} zeroinitializer")
        slope_of, used = number.load(b, slope, lanes), weight
        if parts.dropout:
            kept = number.load(b, b.at("%kept", offset, number.kind), lanes)
            slope_of, used = b(f"fmul {vector} {slope_of}, {kept}"), b(f"fmul {vector} {weight}, {kept}")
        difference = b(f"fsub {vector} {slope_of}, {delta}")
        number.store(b, used, place, lanes)
        number.store(b, b(f"fmul {vector} {b(f'fmul {vector} {weight}, {difference}')}, {scale}"), slope, lanes)

    def nothing_more(r: str) -> None:
        for name in ("%scores", "%slopes"):
            number.store(b, "zeroinitializer", b.at(name, b.mul(r, columns), number.kind), lanes)

    def several(r: str) -> None:
        for k in range(UNROLLED):            # up to 3 keys too many
            one(b.add(r, k), False)

    def plain() -> None:
        b.loop(0, "%n", UNROLLED, several)

    if parts.mask == "none":
        b.when("%diagonal", lambda: ignore(b.loop(0, "%n", 1, lambda r: one(r, True))), plain)
    else:
        plain()
    b.loop("%n", b.add("%n", GROUP - 1), 1, nothing_more)          # products may look at as many keys more
    b.finish()


class _Block:
    """Writes the function ``block``: the keys from ``start`` to ``stop`` of one batch item."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.b = b = Builder(parts.module, "block", arguments(BLOCK))
        self.word = word = Words(b, BACKWARD_PARAMETERS)
        shape, kind = parts.shape, parts.kind
        columns, lanes = shape.columns, shape.lanes
        self.size, self.width = size, width = word["size"], word["width"]
        self.causal = b(f"icmp ne i64 {word['causal']}, 0")
        self.scale = parts.scale(b, word)
        self.long, self.broad = parts.rounded(b, size, columns), parts.rounded(b, width, columns)
        deep_size, deep_width = parts.rounded(b, size, lanes), parts.rounded(b, width, lanes)
        self.key_panel, self.value_panel = b.mul(deep_size, shape.row_width), b.mul(deep_width, shape.row_width)
        self.near = {name: parts.in_place(b, word[f"{name}_row"], word[f"{name}_column"], width if name == "g" else size)
                     for name in ("query", "key", "g")}
        key_block = word["key_block"]
        scores = b.mul(b.add(key_block, UNROLLED), columns)
        panels, high = b.ceil_div(key_block, shape.rows), b.add(key_block, UNROLLED)
        self.one = b.stack(shape.number.kind_bytes)
        parts.number.store(b, "1.0", self.one)
        # Products may write whole register tiles to these results.
        self.whole = {name: b.both(b.equal(b.rem(n, columns), 0), b(f"icmp ne i64 {word[f'has_{name}']}, 0"))
                      for name, n in (("query", size), ("key", size), ("value", width))}
        names = ("queries", "slopes_of", "scores", "slopes", "masks", "kept", "query_rows", "slope_rows", "part", "logsumexp", "delta",
                 "key_sum", "value_sum", "keys", "values", "key_rows")
        sizes = (b.mul(deep_size, columns), b.mul(deep_width, columns), scores, scores, scores, scores, b.mul(self.long, columns),
                 b.mul(self.broad, columns), b.mul(self.long, columns + GROUP), columns, columns, b.mul(high, self.long),
                 b.mul(high, self.broad), b.mul(panels, self.key_panel), b.mul(panels, self.value_panel),
                 b.mul(key_block, self.long))
        self.place = dict(zip(names, carve(b, "%work", kind, *sizes), strict=True))

    def write(self) -> None:
        """The whole function."""
        b, word = self.b, self.word
        # Queries that see no key of the chunk.
        blind = b.mul(b.div("%start", self.parts.shape.columns), self.parts.shape.columns)
        blind = b.select(self.causal, b.min(word["queries"], blind), 0)
        self._if("query", lambda: b.call("zeros", *pairs(ZEROS, ("%query_gradient", b.mul(blind, self.size)))))
        b.loop("%start", "%stop", word["key_block"], self.key_step)
        b.finish()

    def _if(self, result: str, body: Callable[[], None]) -> None:
        self.b.when(self.b(f"icmp ne i64 {self.word[f'has_{result}']}, 0"), body)

    def _matrix(self, name: str, row: Operand) -> tuple[str, str, str]:
        """Where a row of an operand is, and its strides."""
        step = self.word[f"{name}_row"]
        return self.b.at(f"%{name}", self.b.mul(row, step), self.parts.shape.number.stored), step, self.word[f"{name}_column"]

    def key_step(self, j: str) -> None:
        """One block of keys: all queries, then its gradients."""
        b, word, place, columns = self.b, self.word, self.place, self.parts.shape.columns
        n = b.min(word["key_block"], b.sub("%stop", j))
        for name, panels, k in (("key", "keys", self.size), ("value", "values", self.width)):
            b.call("pack_panels", *pairs(PANELS, (*self._matrix(name, j), place[panels], k, n)))
        key_rows = self.parts.row_matrix(b, self.near["key"], self._matrix("key", j), place["key_rows"], n, self.size, self.long)
        sums = {name: self._sum(name, j, n) for name in ("key", "value")}
        first = b.select(self.causal, b.div(j, columns), 0)
        b.loop(first, b.ceil_div(word["queries"], columns), 1, lambda t: self.query_step(t, j, n, key_rows, sums))
        for name, wide in (("key", self.size), ("value", self.width)):
            direct, at, step = sums[name]
            values = (at, step, b.at(f"%{name}_gradient", b.mul(j, wide), self.parts.kind), wide, self.one, 0, "false", n, wide)
            b.when(direct, lambda: None, partial(self._store, name, values))

    def _store(self, name: str, values: tuple[Operand, ...]) -> None:
        """Copy gradients to a result that is wanted."""
        self._if(name, lambda: self.b.call("rows", *pairs(ROWS, values)))

    def _sum(self, name: str, j: str, n: Operand) -> tuple[str, Operand, Operand]:
        """Where the gradients of a block of keys are summed: (in the result itself?, address, distance of rows)."""
        b = self.b
        wide, step = (self.size, self.long) if name == "key" else (self.width, self.broad)
        direct = b.both(self.whole[name], self.parts.exactly(b, n))
        result = b.at(f"%{name}_gradient", b.mul(j, wide), self.parts.kind)
        at, step = b.select(direct, result, self.place[f"{name}_sum"], "ptr"), b.select(direct, wide, step)
        count = b.mul(b.select(direct, n, b.add(n, GROUP - 1)), step)        # with causality, blocks of queries do not see all keys
        b.call("zeros", *pairs(ZEROS, (at, b.select(self.causal, count, 0))))
        return direct, at, step

    def query_step(self, t: str, j: str, n: Operand, key_rows: tuple[str, Operand],
                   sums: dict[str, tuple[str, Operand, Operand]]) -> None:
        """One block of queries against a block of keys."""
        b, word, place, parts, kind = self.b, self.word, self.place, self.parts, self.parts.kind
        columns, rows, width = parts.shape.columns, parts.shape.rows, parts.shape.row_width
        i = b.mul(t, columns)
        mine, ahead = b.min(b.sub(word["queries"], i), columns), b.sub(i, j)
        reach = b.add(ahead, mine)
        reach = b.select(b.less(reach, 0), 0, reach)
        n = b.select(self.causal, b.min(n, reach), n)
        diagonal = b.both(self.causal, b.less(ahead, b.sub(n, 1)))
        query_rows, slope_rows = self._pack_queries(i, j, mine, n)
        parts.product(b, "panel", place["keys"], self.key_panel, 1, width, place["queries"], columns, place["scores"], columns, "false",
                      n, mine, self.size)
        parts.product(b, "panel", place["values"], self.value_panel, 1, width, place["slopes_of"], columns, place["slopes"], columns,
                      "false", n, mine, self.width)

        def weights(x: str) -> None:
            here = [b.at(place[name], x, kind) for name in ("scores", "slopes", "masks", "kept", "logsumexp", "delta")]
            parts.draw(b, word, b.add(i, x), j, here[3], n)
            b.call("weights", *pairs(WEIGHTS, (*here, n, b.add(ahead, x), diagonal, self.scale)))
        b.loop(0, mine, parts.shape.lanes, weights)
        across = rows * columns
        add = b(f"or i1 {self.causal}, {b.less(0, t)}")
        for name, source, right, k in (("value", "scores", slope_rows, self.width), ("key", "slopes", query_rows, self.size)):
            _, at, step = sums[name]
            values = (place[source], across, columns, 1, *right, at, step, add, n, k, mine)
            self._if(name, partial(parts.product, b, "row", *values))
        self._if("query", lambda: self._query_gradient(i, mine, b.less("%start", j), place["slopes"],
                                                      (rows, 1, columns, *key_rows), n))

    def _query_gradient(self, i: Operand, mine: Operand, further: str, place: str, factors: tuple[Operand, ...],
                        n: Operand) -> None:
        """Add what a block of keys contributes to the gradients of a block of queries."""
        b, parts, part = self.b, self.parts, self.place["part"]
        to = b.at("%query_gradient", b.mul(i, self.size), parts.kind)
        direct = b.both(self.whole["query"], parts.exactly(b, mine))
        at, step = b.select(direct, to, part, "ptr"), b.select(direct, self.size, self.long)
        parts.product(b, "panel", place, *factors, at, step, b.both(direct, further), mine, self.size, n)
        b.when(direct, lambda: None, lambda: b.call(
            "rows", *pairs(ROWS, (part, self.long, to, self.size, self.one, 0, further, mine, self.size))))

    def _pack_queries(self, i: Operand, j: str, mine: Operand, n: Operand) -> list[tuple[str, Operand]]:
        """Bring what belongs to a block of queries in order; the rows of the query and of the slopes."""
        b, word, place, parts = self.b, self.word, self.place, self.parts
        columns = parts.shape.columns
        found = []
        for name, across, along, k, wide in (("query", "queries", "query_rows", self.size, self.long),
                                             ("g", "slopes_of", "slope_rows", self.width, self.broad)):
            matrix = self._matrix(name, i)
            parts.pack(b, *matrix, place[across], k, mine, columns)
            found.append(parts.row_matrix(b, self.near[name], matrix, place[along], mine, k, wide))
        for name in ("logsumexp", "delta"):
            step = word[f"{name}_row"]
            b.call("gathered", *pairs(GATHERED, (b.at(f"%{name}", b.mul(i, step), parts.kind), step, place[name], mine)))
        parts.pack_mask(b, word, i, j, place["masks"], n, mine)
        return found


def _write_entry(parts: Parts, symbol: str) -> None:
    """The kernel: work units are (group of batch items, chunk of keys)."""
    stored, kind = parts.shape.number.stored, parts.kind
    b = Builder(parts.module, symbol, ENTRY, internal=False)
    work = b.stack(WORK_BYTES + 64)
    word = Words(b, BACKWARD_PARAMETERS)
    starts = {name: b.buffer(word[f"{name}_slot"], word[f"{name}_offset"]) for name in (*GRADIENTS, *BACKWARD_OPERANDS)}
    batch = [word[f"batch{x}"] for x in range(4)]
    total = b.mul(b.mul(batch[0], batch[1]), b.mul(batch[2], batch[3]))
    kinds = {"mask": "i8" if parts.mask == "bool" else stored, "logsumexp": kind, "delta": kind}
    blocks = b.ceil_div(word["keys"], word["key_block"])
    chunk_size = b.mul(b.ceil_div(blocks, word["chunks"]), word["key_block"])

    drawn = load_drawn(parts, b, word)

    def unit(number: str) -> None:
        group, chunk = b.div(number, word["chunks"]), b.rem(number, word["chunks"])
        start = b.min(b.mul(chunk, chunk_size), word["keys"])
        stop = b.min(b.add(start, chunk_size), word["keys"])

        def item(index: str) -> None:
            offsets = item_offsets(b, word, BACKWARD_OPERANDS, index)
            operands = [b.at(starts[name], offsets[name], kinds.get(name, stored)) for name in BACKWARD_OPERANDS]
            part = b.mul(b.add(b.mul(chunk, total), index), b.mul(word["queries"], word["size"]))
            keys = b.mul(index, word["keys"])
            results = [b.at(starts[name], offset, kind) for name, offset in zip(
                GRADIENTS, (part, b.mul(keys, word["size"]), b.mul(keys, word["width"])), strict=True)]
            b.call("block", *pairs(BLOCK, ("%params", *results, *operands, start, stop, work, index, *drawn)))
        first = b.mul(group, word["batch_block"])
        b.loop(first, b.min(total, b.add(first, word["batch_block"])), 1, item)
    b.loop("%begin", "%end", 1, unit)
    b.finish()
