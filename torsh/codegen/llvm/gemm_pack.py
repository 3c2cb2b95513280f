"""Packing for matrix products: copies of operands, of any strides, in the order in which register tiles read them."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torsh.codegen.llvm.gemm_shape import Shape, arguments, pairs
from torsh.codegen.llvm.gemm_words import HIGH_BITS, word_element
from torsh.codegen.llvm.numeric import Numeric, shaped
from torsh.codegen.llvm.template_builder import Builder, Module, Operand, ignore

PREFETCHED_ROWS = 8     # how far ahead rows that are packed are asked for
LARGEST_SQUARE = 16     # rows that are transposed at a time: shuffles of more elements take long to compile
PACK_PANELS = ("ptr from", "i64 k_step", "ptr to", "i64 k", "i64 columns", "i64 panel_step")
LINE_BYTES = 64         # of a line of the caches
# Ask the caches for the runs ``begin`` to ``end`` of bytes, which start ``step`` bytes apart.
ASK = ("ptr from", "i64 step", "i64 begin", "i64 end", "i64 nbytes")
PACK = ("ptr from", "i64 row_step", "i64 k_step", "ptr to", "i64 k", "i64 rows", "i64 width")


def write_pack(module: Module, shape: Shape, pack: str, number: Numeric, offset: bool) -> None:
    """A library, the function ``pack``: to[k][width] = from[row * row_step + k * k_step] for ``rows`` rows, in groups of one vector.

    Whatever the strides, only elements that exist are read. k may be rounded up to whole vectors in ``to``. Where the shape has
    words, a 32-bit word of ``to`` holds several elements along k of a row, zeros behind the last one. number: the elements
    in memory. offset: 128 is added to elements of 8 bits.
    """
    packing = _Packing(pack, number, shape, offset)
    plain = (_pack_transposed, _pack_copied, _pack_strided)
    writers = (_words_transposed, _words_copied, _words_strided) if shape.word else plain
    names = (f"{pack}_transposed", f"{pack}_copied", f"{pack}_strided")
    for name, write in zip(names, writers, strict=True):
        b = Builder(module, name, arguments(PACK))
        write(b, packing)
        b.finish()
    b = Builder(module, pack, arguments(PACK), internal=False)
    stored = packing.number.stored

    def group(row: str) -> None:
        rows = b.min(b.sub("%rows", row), shape.lanes)
        given = pairs(PACK, (b.at("%from", b.mul(row, "%row_step"), stored), "%row_step", "%k_step",
                             b.at("%to", row, shape.number.kind), "%k", rows, "%width"))
        copied = b.equal("%row_step", 1)
        if packing.narrow:
            copied = b.both(copied, b.equal(rows, shape.lanes))
        b.when(b.equal("%k_step", 1), lambda: b.call(names[0], *given),
               lambda: ignore(b.when(copied, lambda: b.call(names[1], *given), lambda: b.call(names[2], *given))))

    panel = b.both(b.equal("%row_step", 1), b.equal("%rows", shape.columns))
    copy = _words_copied if shape.word else _pack_copied
    b.when(panel, lambda: copy(b, packing, shape.vectors),
           lambda: ignore(b.loop(0, "%rows", shape.lanes, group)))
    b.finish()


def write_ask(module: Module) -> None:
    """The function ASK, for what is packed soon: packing asks, too, but for all at once."""
    b = Builder(module, "ask", arguments(ASK))

    def run(number: str) -> None:
        start = b.at("%from", b.mul(number, "%step"), "i8")
        b.loop(0, "%nbytes", LINE_BYTES, lambda at: b.prefetch(b.at(start, at, "i8")))

    b.loop("%begin", "%end", 1, run)
    b.finish()


def asking(b: Builder, condition: str, following: str, step: Operand, nbytes: Operand, left: Operand, most: int, parts: Operand
           ) -> Callable[[Operand], None]:
    """A function that asks for one of so many parts of the next panel, of at most ``most`` runs; left: runs from there on."""
    some = b.both(condition, b.less(0, left))
    runs = b.select(some, b.min(left, most), 0)
    share = b.ceil_div(runs, parts)

    def ask(part: Operand) -> None:
        begin = b.mul(part, share)
        b.call("ask", *pairs(ASK, (following, step, begin, b.min(b.add(begin, share), runs), nbytes)))

    return ask


@dataclass(frozen=True, slots=True)
class _Packing:
    """What is packed, and how: the name of the functions, elements in memory, blocking."""

    name: str
    number: Numeric
    shape: Shape
    offset: bool

    @property
    def narrow(self) -> bool:
        """Do loads under a mask fall apart, because of the size of elements?"""
        return not self.shape.masks and (self.number.stored_bytes < 4 or self.shape.word is not None)


def _squares(b: Builder, packing: _Packing, k_of_square: int, bits: int,
             square: Callable[[Operand, str | None], None]) -> None:
    """square(k, mask of the elements along k) for all k; where masks cost much, the last ones are packed one by one."""
    whole = b.sub("%k", b.rem("%k", k_of_square))
    if packing.shape.masks:
        b.loop(0, "%k", k_of_square,
               lambda k: square(k, b.mask(k_of_square, bits, b.min(b.sub("%k", k), k_of_square))))
        return
    b.loop(0, whole, k_of_square, lambda k: square(k, None))
    if packing.narrow:
        b.when(b.less(whole, "%k"), lambda: _rest_strided(b, packing, whole))
    else:
        b.when(b.less(whole, "%k"), lambda: square(whole, b.mask(k_of_square, bits, b.sub("%k", whole))))


def _rest_strided(b: Builder, packing: _Packing, done: Operand) -> None:
    """Pack what is left from ``done`` on, a multiple of a word."""
    words = b.div(done, packing.shape.word.size if packing.shape.word else 1)
    source = b.at("%from", b.mul(done, "%k_step"), packing.number.stored)
    target = b.at("%to", b.mul(words, "%width"), packing.shape.number.kind)
    b.call(f"{packing.name}_strided", *pairs(PACK, (source, "%row_step", "%k_step", target, b.sub("%k", done), "%rows", "%width")))


def _pack_transposed(b: Builder, packing: _Packing) -> None:
    number, values = packing.number, packing.shape.values
    side = min(packing.shape.lanes, LARGEST_SQUARE)
    last = b.sub("%rows", 1)
    following = b.mul("%rows", "%row_step")              # the rows that are packed next are asked for

    def starts_from(first: Operand) -> list[str]:
        return [b.at("%from", b.mul(b.min(b.add(first, row), last), "%row_step"), number.stored) for row in range(side)]

    def some_rows(first: Operand, starts: list[str], k: Operand, mask: str | None) -> None:
        rows = []
        for start in starts:
            at = b.at(start, k, number.stored)
            b.prefetch(b.at(at, following, number.stored))
            rows.append(number.load_masked(b, at, side, mask) if mask else number.load(b, at, side))
        target = b.at("%to", b.add(b.mul(k, "%width"), first), number.kind)
        for column, value in enumerate(b.transpose(number.kind, number.kind_bytes, rows)):
            values.store(b, value, b.at(target, b.mul("%width", column), number.kind), side)

    def square(k: Operand, mask: str | None) -> None:
        if side == packing.shape.lanes:
            some_rows(0, all_starts, k, mask)
        else:
            b.loop(0, "%rows", side, lambda first: some_rows(first, starts_from(first), k, mask))

    all_starts = starts_from(0) if side == packing.shape.lanes else []
    _squares(b, packing, side, 8 * number.kind_bytes, square)


def _pack_copied(b: Builder, packing: _Packing, vectors: int = 1) -> None:
    number, values, lanes = packing.number, packing.shape.values, packing.shape.lanes
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

    if vectors > 1 or packing.narrow:
        copy(None)
    elif packing.shape.masks:
        copy(b.mask(lanes, 8 * number.kind_bytes, "%rows"))
    else:
        b.when(b.equal("%rows", lanes), lambda: copy(None), lambda: copy(b.mask(lanes, 8 * number.kind_bytes, "%rows")))


def _pack_strided(b: Builder, packing: _Packing) -> None:
    number, values = packing.number, packing.shape.values

    def one(k: str, source: str, target: str) -> list[str]:
        def element(row: str) -> None:
            value = number.load(b, b.at(source, b.mul(row, "%row_step"), number.stored))
            values.store(b, value, b.at(target, row, number.kind))

        b.loop(0, "%rows", 1, element)
        return [b.at(source, "%k_step", number.stored), b.at(target, "%width", number.kind)]

    b.loop(0, "%k", 1, one, [("ptr", "%from"), ("ptr", "%to")])


# ---------------------------------------------------------------------------------------------------- words along k
def _with_offset(b: Builder, packing: _Packing, value: str, lanes: int) -> str:
    """Words of elements, 128 added to each if that is wanted."""
    if not packing.offset:
        return value
    high: Operand = b.splat("i32", lanes, HIGH_BITS) if lanes else HIGH_BITS
    return b(f"xor {shaped('i32', lanes)} {value}, {high}")


def _words_transposed(b: Builder, packing: _Packing) -> None:
    number, lanes, word = packing.number, packing.shape.lanes, packing.shape.word
    assert word is not None
    elements = lanes * word.size
    last = b.sub("%rows", 1)
    starts = [b.at("%from", b.mul(b.min(row, last), "%row_step"), number.stored) for row in range(lanes)]
    following = b.mul("%rows", "%row_step")              # the rows that are packed next are asked for

    def square(k: Operand, mask: str | None) -> None:
        rows = []
        for start in starts:
            at = b.at(start, k, number.stored)
            b.prefetch(b.at(at, following, number.stored))
            raw = b.masked_load(number.stored, elements, at, mask) if mask else b.load(f"<{elements} x {number.stored}>", at)
            value = word_element(b, number, word, raw, elements)
            row = b(f"bitcast <{elements} x {word.element}> {value} to <{lanes} x i32>")
            rows.append(_with_offset(b, packing, row, lanes))
        target = b.at("%to", b.mul(b.div(k, word.size), "%width"), "i32")
        for column, value in enumerate(b.transpose("i32", 4, rows)):
            b.store(f"<{lanes} x i32>", value, b.at(target, b.mul("%width", column), "i32"), 4)

    _squares(b, packing, elements, word.bits, square)


def _words_copied(b: Builder, packing: _Packing, vectors: int = 1) -> None:
    number, lanes, word = packing.number, packing.shape.lanes, packing.shape.word
    assert word is not None
    wide = lanes * vectors
    mask = None if packing.narrow or vectors > 1 else b.mask(lanes, 32, "%rows")

    def load(at: str) -> str:
        b.prefetch(b.at(at, b.mul("%k_step", PREFETCHED_ROWS), number.stored))
        raw = b.masked_load(number.stored, wide, at, mask) if mask else b.load(f"<{wide} x {number.stored}>", at)
        return word_element(b, number, word, raw, wide)

    def one(k: str, source: str, target: str) -> list[str]:
        rows, at = [], source
        for _ in range(word.size):
            rows.append(load(at))
            at = b.at(at, "%k_step", number.stored)
        words = _interleaved(b, rows, word.bits, wide)
        _store_words(b, packing, words, target, vectors)
        return [at, b.at(target, "%width", "i32")]

    whole = b.sub("%k", b.rem("%k", word.size))
    b.loop(0, whole, word.size, one, [("ptr", "%from"), ("ptr", "%to")])
    b.when(b.less(whole, "%k"), lambda: _rest_strided(b, packing, whole))


def write_pack_panels(module: Module, shape: Shape, name: str, number: Numeric) -> None:
    """Pack whole panels of b whose rows are contiguous, row after row: memory is read in long runs.

    to[panel][word][column]: panels ``panel_step`` apart.
    """
    word = shape.word
    assert word is not None
    packing = _Packing("pack_b" if number != shape.left else "pack_a", number, shape, False)
    b = Builder(module, name, arguments(PACK_PANELS))

    def words(k: str, source: str, target: str) -> list[str]:
        starts = [source]
        for _ in range(word.size):
            starts.append(b.at(starts[-1], "%k_step", number.stored))

        def panel(column: str, to: str) -> list[str]:
            rows = []
            for start in starts[:-1]:
                at = b.at(start, column, number.stored)
                b.prefetch(b.at(at, b.mul("%k_step", 2 * word.size), number.stored))
                raw = b.load(f"<{shape.columns} x {number.stored}>", at)
                rows.append(word_element(b, number, word, raw, shape.columns))
            _store_words(b, packing, _interleaved(b, rows, word.bits, shape.columns), to, shape.vectors)
            return [b.at(to, "%panel_step", "i32")]

        b.loop(0, "%columns", shape.columns, panel, [("ptr", target)])
        return [starts[-1], b.at(target, shape.columns, "i32")]

    b.loop(0, "%k", word.size, words, [("ptr", "%from"), ("ptr", "%to")])
    b.finish()


def _store_words(b: Builder, packing: _Packing, words: str, target: str, vectors: int) -> None:
    lanes = packing.shape.lanes
    for part in range(vectors):
        picks = range(part * lanes, (part + 1) * lanes)
        value = words if vectors == 1 else b.shuffle("i32", vectors * lanes, words, "poison", picks)
        value = _with_offset(b, packing, value, lanes)
        b.store(f"<{lanes} x i32>", value, b.at(target, part * lanes, "i32"), 4)


def _interleaved(b: Builder, rows: Sequence[str], bits: int, lanes: int) -> str:
    """Words of the elements of rows: lane by lane the element of each row."""
    while len(rows) > 1:
        picks = [x for lane in range(lanes) for x in (lane, lane + lanes)]
        joined = [b.shuffle(f"i{bits}", lanes, rows[x], rows[x + 1], picks) for x in range(0, len(rows), 2)]
        rows = [b(f"bitcast <{2 * lanes} x i{bits}> {value} to <{lanes} x i{2 * bits}>") for value in joined]
        bits *= 2
    return rows[0]


def _words_strided(b: Builder, packing: _Packing) -> None:
    number, word = packing.number, packing.shape.word
    assert word is not None

    def words(k: str, source: str, target: str) -> list[str]:
        count = b.min(b.sub("%k", k), word.size)

        def row(r: str) -> None:
            start, to = b.at(source, b.mul(r, "%row_step"), number.stored), b.at(target, r, "i32")

            def element(position: str, total: str) -> list[str]:
                raw = b.load(number.stored, b.at(start, b.mul(position, "%k_step"), number.stored))
                bits = b(f"zext {word.element} {word_element(b, number, word, raw, 0)} to i32")
                shift = b(f"trunc i64 {b.mul(position, word.bits)} to i32")
                return [b(f"or i32 {total}, {b(f'shl i32 {bits}, {shift}')}")]

            total = b.loop(0, count, 1, element, [("i32", 0)])[0]
            b.store("i32", _with_offset(b, packing, total, 0), to, 4)

        b.loop(0, "%rows", 1, row)
        return [b.at(source, b.mul("%k_step", word.size), number.stored), b.at(target, "%width", "i32")]

    b.loop(0, "%k", word.size, words, [("ptr", "%from"), ("ptr", "%to")])
