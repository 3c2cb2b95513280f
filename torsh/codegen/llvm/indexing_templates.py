"""Scatter and index_put as LLVM text."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torsh.codegen.llvm.copy_templates import done, entry, offset_of, unravel
from torsh.codegen.llvm.numeric import Numeric, combine, numeric
from torsh.codegen.llvm.template_builder import Builder, Operand
from torsh.compiler import templates

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

_COMBINE = {"add": "sum", "mul": "prod", "amax": "max", "amin": "min"}


def checked(b: Builder, index: str, size: str, body: Callable[[], None]) -> None:
    """Do ``body`` if 0 <= index < size, else report the index."""
    def report() -> None:
        for word, value in ((1, index), (2, size), (0, 1)):
            b.store("i64", value, b.at("%status", word, "i64"), 8)

    b.when(b(f"icmp ult i64 {index}, {size}"), body, report)


# ---------------------------------------------------------------------------------------------------- scatter
def generate_scatter(dtype_name: str, mode: str, target: Target, symbol: str) -> str:
    """LLVM text of the scatter template."""
    number = numeric(dtype_name, True)
    b, kind = entry(symbol), number.stored
    word = b.words(templates.SCATTER_PARAMETERS)
    out, src = b.buffer(word["out_slot"], word["out_offset"]), b.buffer(word["src_slot"], word["src_offset"])
    index = b.buffer(word["index_slot"], word["index_offset"])
    extents = [word[f"extents{x}"] for x in range(6)]
    out_strides, index_strides, src_strides = ([word[f"{name}_strides{x}"] for x in range(6)]
                                               for name in ("out", "index", "src"))
    blocks = b.ceil_div(extents[5], word["inner_block"])

    def unit(number_of_unit: str) -> None:
        *outer, block = unravel(b, number_of_unit, [*extents[:4], blocks])
        start = b.mul(block, word["inner_block"])
        stop = b.min(extents[5], b.add(start, word["inner_block"]))
        to = b.at(out, offset_of(b, outer, out_strides[:4]), kind)
        indices = b.at(index, offset_of(b, outer, index_strides[:4]), "i64")
        source = b.at(src, offset_of(b, outer, src_strides[:4]), kind)

        def line(p: str) -> None:
            def position(_: str, indices: str, source: str, to: str) -> list[str]:
                where = b.load("i64", indices, 8)
                there = b.at(to, b.mul(where, word["index_step"]), kind)
                checked(b, where, word["size"], lambda: _put(b, number, mode, there, source, 0))
                return [b.at(indices, index_strides[5], "i64"), b.at(source, src_strides[5], kind),
                        b.at(to, out_strides[5], kind)]

            b.loop(start, stop, 1, position, [
                ("ptr", b.at(indices, offset_of(b, (p, start), index_strides[4:]), "i64")),
                ("ptr", b.at(source, offset_of(b, (p, start), src_strides[4:]), kind)),
                ("ptr", b.at(to, offset_of(b, (p, start), out_strides[4:]), kind))])

        b.loop(0, extents[4], 1, line)

    b.loop("%begin", "%end", 1, unit)
    return done(b)


def _put(b: Builder, number: Numeric, mode: str, to: str, source: str, lanes: int) -> None:
    """``*to = *source``, or the two combined."""
    if mode == "set":
        shape = f"<{lanes} x {number.stored}>" if lanes else number.stored
        align = min(number.stored_bytes, 8)
        b.store(shape, b.load(shape, source, align), to, align)
        return
    old, new = number.load(b, to, lanes), number.load(b, source, lanes)
    number.store(b, combine(b, number, _COMBINE[mode], old, new, lanes), to, lanes)


# ---------------------------------------------------------------------------------------------------- index_put
def generate_index_put(dtype_name: str, accumulate: bool, indices: int, target: Target, symbol: str) -> str:
    """LLVM text of the index_put template with this many indices."""
    number = numeric(dtype_name, True)
    b, kind, mode = entry(symbol), number.stored, "add" if accumulate else "set"
    lanes = max(target.lanes(number.kind_bytes), 1)
    word = b.words(templates.INDEX_PUT_PARAMETERS)
    base = 4 + 5 * 4 + 1
    each = [b.words(templates.INDEX_PUT_PER_INDEX, b.at("%params", base + 8 * x, "i64")) for x in range(indices)]
    arrays = [b.buffer(own["slot"], own["offset"]) for own in each]
    out, src = b.buffer(word["out_slot"], word["out_offset"]), b.buffer(word["src_slot"], word["src_offset"])
    extents = [word[f"rest_extents{x}"] for x in range(4)]
    to_strides = [word[f"out_rest_strides{x}"] for x in range(4)]
    from_strides = [word[f"src_rest_strides{x}"] for x in range(4)]
    blocks = b.ceil_div(extents[3], word["inner_block"])
    contiguous = b.both(b.equal(to_strides[3], 1), b.equal(from_strides[3], 1))

    def unit(number_of_unit: str) -> None:
        *outer, block = unravel(b, number_of_unit, [*extents[:3], blocks])
        start = b.mul(block, word["inner_block"])
        count = b.min(b.sub(extents[3], start), word["inner_block"])
        to = b.at(out, offset_of(b, [*outer, start], to_strides), kind)
        source = b.at(src, offset_of(b, [*outer, start], from_strides), kind)
        whole = b.select(contiguous, b.sub(count, b.rem(count, lanes)), 0)

        def row(there: str, here: str) -> None:
            b.loop(0, whole, lanes, lambda j: _put(b, number, mode, b.at(there, j, kind), b.at(here, j, kind), lanes))
            b.loop(whole, count, 1, lambda j: _put(b, number, mode, b.at(there, b.mul(j, to_strides[3]), kind),
                                                   b.at(here, b.mul(j, from_strides[3]), kind), 0))

        def position(where: list[str]) -> None:
            here = b.at(source, offset_of(b, where, [word[f"src_index_strides{x}"] for x in range(4)]), kind)
            _resolve(b, list(zip(each, arrays, strict=True)), where, 0, lambda offset: row(b.at(to, offset, kind), here))

        _nest(b, [word[f"index_extents{x}"] for x in range(4)], position)

    b.loop("%begin", "%end", 1, unit)
    return done(b)


def _nest(b: Builder, extents: Sequence[str], body: Callable[[list[str]], None], indices: tuple[str, ...] = ()) -> None:
    """Nested loops over the extents."""
    if not extents:
        body(list(indices))
        return
    b.loop(0, extents[0], 1, lambda i: _nest(b, extents[1:], body, (*indices, i)))


def _resolve(b: Builder, indices: list[tuple[dict[str, str], str]], where: list[str], offset: Operand,
             body: Callable[[Operand], None]) -> None:
    """Load the indices of a position one after the other; ``body`` gets the offset in out if all are in range."""
    if not indices:
        body(offset)
        return
    own, array = indices[0]
    given = b.load("i64", b.at(array, offset_of(b, where, [own[f"strides{x}"] for x in range(4)]), "i64"), 8)
    index = b.select(b.less(given, 0), b.add(given, own["size"]), given)

    def report() -> None:
        for word, value in ((1, given), (2, own["size"]), (0, 1)):
            b.store("i64", value, b.at("%status", word, "i64"), 8)

    b.when(b(f"icmp ult i64 {index}, {own['size']}"),
           lambda: _resolve(b, indices[1:], where, b.add(offset, b.mul(index, own["out_stride"])), body), report)
