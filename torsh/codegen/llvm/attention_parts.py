"""What the attention templates share: products of blocks, packing, rows of results, and vector mathematics.

Scores are kept transposed, [keys][queries], one register tile of queries wide. So maxima, sums and exponentials run over whole
vectors of queries, and the weights lie as the next product wants to read them.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torsh.codegen.llvm.attention_product import GROUP, PRODUCT, tile_counts
from torsh.codegen.llvm.emitter import capabilities
from torsh.codegen.llvm.gemm_pack import PACK
from torsh.codegen.llvm.gemm_shape import Shape, arguments, pairs, shape_for
from torsh.codegen.llvm.libraries import packing_library, product_library
from torsh.codegen.llvm.math_common import layout, scaled
from torsh.codegen.llvm.math_exponential import exp_parts
from torsh.codegen.llvm.numeric import Numeric
from torsh.codegen.llvm.philox import philox
from torsh.codegen.llvm.template_builder import Builder, Module, Operand
from torsh.codegen.llvm.writer import Operand as Value
from torsh.codegen.llvm.writer import Writer
from torsh.compiler.kernel import TemplateKernel

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

NEAR_BYTES = 2048     # distance of rows up to which they are not copied together
UNROLLED = 4          # keys that loops over scores do at once: blocks of scores end at a multiple of it
PANELS = ("ptr from", "i64 row_step", "i64 k_step", "ptr to", "i64 k", "i64 rows")
DRAWN = ("double chance", "i64 seed", "i64 offset")
DRAW = ("ptr kept", "i64 n", "i64 first", "i64 step", *DRAWN)
ZEROS = ("ptr to", "i64 count")
ROWS = ("ptr from", "i64 ldf", "ptr to", "i64 ldt", "ptr factors", "i64 factor_step", "i1 add", "i64 rows", "i64 width")


@dataclass(frozen=True, slots=True)
class Condition(Numeric):
    """A bool mask as numbers to add to scores: 0 where it is true, else -inf."""

    def value(self, b: Builder, raw: str, lanes: int) -> str:
        """What was loaded, as a value."""
        vector = f"<{lanes} x i8>" if lanes else "i8"
        true = b(f"icmp ne {vector} {raw}, {'zeroinitializer' if lanes else 0}")
        yes, no = "zeroinitializer" if lanes else "0.0", splat_text(self.kind, lanes, "0xFFF0000000000000")
        return b(f"select {f'<{lanes} x i1>' if lanes else 'i1'} {true}, {self.vector(lanes)} {yes}, {self.vector(lanes)} {no}")


def splat_text(kind: str, lanes: int, number: str) -> str:
    """A constant in all lanes; the constant itself for lanes 0."""
    return "<" + ", ".join([f"{kind} {number}"] * lanes) + ">" if lanes else number


@dataclass(slots=True)
class Parts:
    """The module of a template under construction, and its blocking: ``columns`` queries per block of scores."""

    module: Module
    shape: Shape
    target: Target
    mask: str            # "none", "bool" or "float"
    dropout: bool

    @property
    def number(self) -> Numeric:
        """The computing type."""
        return self.shape.values

    @property
    def kind(self) -> str:
        """Its LLVM type."""
        return self.shape.number.kind

    @property
    def vector(self) -> str:
        """A vector of it."""
        return self.number.vector(self.shape.lanes)

    def constant(self, number: str) -> str:
        """A number in all lanes."""
        return splat_text(self.kind, self.shape.lanes, number)

    def scalar(self, b: Builder, value: Operand) -> str:
        """A float64 in all lanes, rounded to the computing type."""
        one = value if self.kind == "double" else b(f"fptrunc double {value} to {self.kind}")
        return b.splat(self.kind, self.shape.lanes, one)

    def scale(self, b: Builder, word: dict[str, str]) -> str:
        """The scale of scores, a float64."""
        return b(f"bitcast i64 {word['scale']} to double")

    def inline(self, b: Builder, function: Callable[..., Value], *values: str) -> str:
        """A function of the vector mathematics, written where the builder is."""
        return self.written(b, function, *[(v, self.kind, self.shape.lanes) for v in values])

    def written(self, b: Builder, function: Callable[..., Value], *values: tuple[Operand, str, int]) -> str:
        """:meth:`inline` for values of any type: (value, element type, lanes)."""
        m = Writer(*capabilities(self.target))
        m.count = b.count
        result = function(m, *[Value(m, str(v), element, lanes) for v, element, lanes in values])
        b.lines += m.scopes[0].lines
        b.count = m.count
        b.module.declarations.update(m.declarations)
        return result.text

    def exp(self, b: Builder, x: str) -> str:
        """e ** x for x that is not large."""
        return self.inline(b, exp_of_small, x)

    def rounded(self, b: Builder, n: Operand, unit: int) -> Operand:
        """n rounded up to a multiple of a power of two."""
        return b(f"and i64 {b.add(n, unit - 1)}, {-unit}")

    def product(self, b: Builder, kind: str, *values: Operand) -> None:
        """c = a @ b (+ c); kind: how a lies, "panel" or "row"."""
        b.call(f"{kind}_product", *pairs(PRODUCT, values))

    def exactly(self, b: Builder, m: Operand) -> str:
        """Do tiles reach no further than m rows?"""
        large, small = tile_counts(b, self.shape, m)
        return b.equal(b.add(b.mul(large, self.shape.rows), b.mul(small, GROUP)), m)

    def pack(self, b: Builder, *values: Operand, name: str = "pack") -> None:
        """Copy a matrix in another order."""
        b.call(name, *pairs(PACK, values))


    def in_place(self, b: Builder, row: Operand, column: Operand, width: Operand) -> str:
        """Can a product read rows where they are: whole vectors of the computing type, not far apart?"""
        if self.shape.number.converts:
            return "false"
        whole = b.equal(b.rem(width, self.shape.lanes), 0)
        return b.both(b.equal(column, 1), whole, b.less(row, NEAR_BYTES // self.shape.number.kind_bytes), b.less(-1, row))

    def row_matrix(self, b: Builder, in_place: str, matrix: tuple[str, Operand, Operand], place: str, rows: Operand, width: Operand,
                   step: Operand) -> tuple[str, Operand]:
        """(address, distance) of a matrix's rows (matrix: where it is, and its strides): its own, or those of a copy in ``place``."""
        at, row, column = matrix
        if in_place == "false":
            self.pack(b, at, column, row, place, rows, width, step)
            return place, step
        b.when(in_place, lambda: None, lambda: self.pack(b, at, column, row, place, rows, width, step))
        return b.select(in_place, at, place, "ptr"), b.select(in_place, row, step)


    def pack_mask(self, b: Builder, word: dict[str, str], i: Operand, j: Operand, place: str, keys: Operand, queries: Operand) -> None:
        """The part of the mask that belongs to a block of scores, as numbers to add, in the order of the scores."""
        if self.mask == "none":
            return
        row, column = word["mask_row"], word["mask_column"]
        kind, name = ("i8", "pack_mask") if self.mask == "bool" else (self.shape.number.stored, "pack")
        at = b.at("%mask", b.add(b.mul(i, row), b.mul(j, column)), kind)
        self.pack(b, at, row, column, place, keys, queries, self.shape.columns, name=name)

    def draw(self, b: Builder, word: dict[str, str], i: Operand, j: Operand, place: str, keys: Operand) -> None:
        """What dropout multiplies a vector's weights with: queries from i, keys from j, of the item ``%item``."""
        if self.dropout:
            row = b.add(b.mul("%item", word["queries"]), i)
            first = b.add(b.mul(row, word["keys"]), j)
            b.call("draw", *pairs(DRAW, (place, keys, first, word["keys"], "%chance", "%seed", "%offset")))


def exp_of_small(m: Writer, x: Value) -> Value:
    """e ** x for x that is not large, 0 for -inf."""
    low = (-105.0, -747.0)[layout(x).number]
    x = m.select(m.compare("olt", x, low), low, x)
    p, n, integer = exp_parts(m, x)
    return scaled(m, p + 1.0, integer, n)


def blocking(dtype_name: str, target: Target) -> Shape:
    """The blocking of both templates: register tiles without masks, two vectors of queries wide."""
    shape = shape_for(dtype_name, target)
    rows = shape.rows // GROUP * GROUP if shape.rows > 2 * GROUP else shape.rows
    return replace(shape, rows=rows, vectors=2, masks=False, paired=False)


def common_libraries(dtype_name: str, mask: str, target: Target) -> dict[str, TemplateKernel]:
    """The libraries of both templates."""
    shape = blocking(dtype_name, target)
    packed = replace(shape, masks=target.has_avx512)
    result = {"pack": packing_library(packed), "panel_product": product_library(shape, 1, "%a_step")}
    if mask == "bool":
        result["pack_mask"] = packing_library(packed, Condition("bool", "i8", shape.number.kind, True))
    return result


def begin(dtype_name: str, mask: str, dropout: bool, target: Target) -> Parts:
    """The module with what both templates need."""
    parts = Parts(Module(), blocking(dtype_name, target), target, mask, dropout)
    _write_panels(parts)
    if dropout:
        _write_draw(parts)
    return parts


def _write_panels(parts: Parts) -> None:
    """Rows of a matrix as panels, each as high as a register tile."""
    shape = parts.shape
    b = Builder(parts.module, "pack_panels", arguments(PANELS))
    panel = b.mul(parts.rounded(b, "%k", shape.lanes), shape.row_width)

    def one(i: str, to: str) -> list[Operand]:
        rows = b.min(b.sub("%rows", i), shape.rows)
        parts.pack(b, b.at("%from", b.mul(i, "%row_step"), shape.number.stored), "%row_step", "%k_step", to, "%k", rows,
                   shape.row_width)
        return [b.at(to, panel, parts.kind)]
    b.loop(0, "%rows", shape.rows, one, [("ptr", "%to")])
    b.finish()


def write_rows(parts: Parts, number: Numeric) -> None:
    """to[row] = from[row] * factors[row * factor_step] (+ to[row]), stored as ``number``."""
    lanes, values = parts.shape.lanes, parts.number
    b = Builder(parts.module, "rows", arguments(ROWS))
    whole = b.sub("%width", b.rem("%width", lanes))
    tail = b.mask(lanes, 8 * values.kind_bytes, b.sub("%width", whole))

    def row(r: str) -> None:
        source, to = b.at("%from", b.mul(r, "%ldf"), values.kind), b.at("%to", b.mul(r, "%ldt"), number.stored)
        factor = b.splat(values.kind, lanes, values.load(b, b.at("%factors", b.mul(r, "%factor_step"), values.kind)))

        def some(j: Operand, mask: str | None) -> None:
            at = b.at(to, j, number.stored)

            def plus() -> list[Operand]:
                old = number.load_masked(b, at, lanes, mask) if mask else number.load(b, at, lanes)
                return [values.multiply_add(b, value, factor, old, lanes)]
            value = values.load(b, b.at(source, j, values.kind), lanes)
            found = b.when("%add", plus, lambda: [b(f"fmul {parts.vector} {value}, {factor}")], [parts.vector])[0]
            if mask:
                number.store_masked(b, found, at, lanes, mask)
            else:
                number.store(b, found, at, lanes)
        b.loop(0, whole, lanes, lambda j: some(j, None))
        b.when(b.less(whole, "%width"), lambda: some(whole, tail))

    b.loop(0, "%rows", 1, row)
    b.finish()


def write_zeros(parts: Parts) -> None:
    """Zeros in ``count`` elements."""
    lanes, number = parts.shape.lanes, parts.number
    b = Builder(parts.module, "zeros", arguments(ZEROS))
    whole = b.sub("%count", b.rem("%count", lanes))
    b.loop(0, whole, lanes, lambda j: number.store(b, "zeroinitializer", b.at("%to", j, parts.kind), lanes))
    b.loop(whole, "%count", 1, lambda j: number.store(b, "0.0", b.at("%to", j, parts.kind)))
    b.finish()


def _write_draw(parts: Parts) -> None:
    """What dropout multiplies n weights of each query of a vector with. first: number of the first weight; step: from query to
    query."""
    lanes, kind, columns = parts.shape.lanes, parts.kind, parts.shape.columns
    long, floats = f"<{lanes} x i64>", f"<{lanes} x float>"
    b = Builder(parts.module, "draw", arguments(DRAW))
    single = b("fptrunc double %chance to float")
    bound = b.splat("float", lanes, b(f"fmul float {single}, 0x4170000000000000"))           # 2 ** 24
    work = "%chance" if kind == "double" else single
    factor = b.splat(kind, lanes, b(f"fdiv {kind} 1.0, {b(f'fsub {kind} 1.0, {work}')}"))
    lane_numbers = "<" + ", ".join(f"i64 {x}" for x in range(lanes)) + ">"
    steps = b(f"mul {long} {b.splat('i64', lanes, '%step')}, {lane_numbers}")
    start = b(f"add {long} {steps}, {b.splat('i64', lanes, '%first')}")

    def one(r: str) -> None:
        counter = b(f"add {long} {start}, {b.splat('i64', lanes, r)}")
        word = parts.written(b, lambda m, seed, offset, count: philox(m, 0, seed, offset, count) >> 8,
                             ("%seed", "i64", 0), ("%offset", "i64", 0), (counter, "i64", lanes))
        drawn = b(f"sitofp <{lanes} x i32> {b(f'trunc {long} {word} to <{lanes} x i32>')} to {floats}")
        dropped = b(f"fcmp olt {floats} {drawn}, {bound}")
        kept = b(f"select <{lanes} x i1> {dropped}, {parts.vector} zeroinitializer, {parts.vector} {factor}")
        parts.number.store(b, kept, b.at("%kept", b.mul(r, columns), kind), lanes)
    b.loop(0, "%n", 1, one)
    b.finish()


def load_drawn(parts: Parts, b: Builder, word: dict[str, str]) -> list[Operand]:
    """Probability, seed and offset of dropout."""
    if not parts.dropout:
        return ["0.0", 0, 0]
    return [b.load(kind, b.buffer(word[f"{name}_slot"], word[f"{name}_offset"]), 8)
            for name, kind in (("chance", "double"), ("seed", "i64"), ("offset", "i64"))]


def lane_limits(parts: Parts, b: Builder, limit: str) -> str:
    """Per query of a vector: the last key that it sees, counted from the first one of the block."""
    lanes = parts.shape.lanes
    iota = "<" + ", ".join(f"i64 {x}" for x in range(lanes)) + ">"
    return b(f"add <{lanes} x i64> {b.splat('i64', lanes, limit)}, {iota}")


def seen(parts: Parts, b: Builder, limits: str, key: Operand) -> str:
    """Which queries of a vector see a key."""
    lanes = parts.shape.lanes
    return b(f"icmp sle <{lanes} x i64> {b.splat('i64', lanes, key)}, {limits}")


def carve(b: Builder, work: Operand, kind: str, *counts: Operand) -> list[str]:
    """Pieces of the work memory, one behind the other."""
    result, at = [], str(work)
    for count in counts:
        result.append(at)
        at = b.at(at, count, kind)
    return result


class Words(dict[str, str]):
    """The parameters of a call by name, each read where it is used: kept in registers, they would crowd out all else."""

    def __init__(self, b: Builder, names: Sequence[str]) -> None:
        super().__init__()
        self.builder = b
        self.places: dict[str, int] = {}
        for name in names:
            plain, _, count = name.partition("[")
            for part in range(int(count[:-1])) if count else [None]:
                self.places[plain if part is None else f"{plain}{part}"] = len(self.places)

    def __missing__(self, name: str) -> str:
        return self.builder.load("i64", self.builder.at("%params", self.places[name], "i64"), 8)


def item_offsets(b: Builder, word: dict[str, str], names: tuple[str, ...], item: str) -> dict[str, Operand]:
    """Element offsets of a batch item in its operands."""
    offsets: dict[str, Operand] = dict.fromkeys(names, 0)
    index: Operand = item
    for axis in reversed(range(4)):
        here = b.rem(index, word[f"batch{axis}"]) if axis else index
        index = b.div(index, word[f"batch{axis}"]) if axis else index
        for name in names:
            offsets[name] = b.add(offsets[name], b.mul(here, word[f"{name}_batch{axis}"]))
    return offsets
