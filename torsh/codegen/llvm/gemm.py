"""Matrix products as LLVM text: one module for all shapes, strides and batches of an element type.

Operands may be stored in smaller types than c's (bytes, 16-bit floats): they are converted while they are packed or read.
Where an instruction multiplies several small numbers at once, panels hold words of them (``gemm_words.py``): pairs of
bfloat16, pairs of 16-bit integers, fours of bytes. The last one wants unsigned bytes on the left: 128 is added to those of
a, and the sums of a panel of b start at -128 times the sums of its columns, which stand in front of it.

How a product is done is chosen at run time, for each block of c:

- *packed*: the classical way. For each panel of k, b is copied to panels as wide as a register tile (kept in the
  second-level cache), a to panels as high as one (first level), and a family of register tiles does the arithmetic. Rows
  are split evenly, so that there is no thin last tile. b is used in place where few rows would not pay for copying it.
- *turned*: as *packed*, but c^T = b^T a^T, if few columns would leave many lanes of their last vector empty (``gemm_turned.py``).
- *dot*: few rows, both operands contiguous along k: tiles of dot products, nothing is copied.
- *row*: one row (or few, if b is to be converted) times a matrix with contiguous rows: a sum of rows of b, as fast as memory delivers them.
- *small*: products so small that packing would take most of the time.

Results go straight to c where it has contiguous rows of the computing type; otherwise (16-bit floats, strided c, bias and
accumulate together) to a block on the stack, which :func:`write_merge` then rounds and adds.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from torsh.codegen.llvm.blocks import run_of_blocks
from torsh.codegen.llvm.gemm_direct import write_direct_paths
from torsh.codegen.llvm.gemm_pack import PACK, PACK_PANELS, write_ask, write_pack_panels
from torsh.codegen.llvm.gemm_shape import COMPUTE, LOCAL_COLUMNS, MERGE, Shape, arguments, pairs, shape_for
from torsh.codegen.llvm.gemm_tiles import TILE
from torsh.codegen.llvm.gemm_turned import has_turned, right_in_place, suits_turned, write_turned
from torsh.codegen.llvm.gemm_words import HIGH_BITS, multiply_add
from torsh.codegen.llvm.libraries import declare_libraries, packing_library, tiles_library, turn_library
from torsh.codegen.llvm.numeric import Numeric
from torsh.codegen.llvm.template_builder import ENTRY, Builder, Module, Operand, ignore
from torsh.compiler.kernel import TemplateKernel
from torsh.compiler.templates import MATMUL_PARAMETERS

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

MERGED_VECTORS = 4       # vectors that are only converted, at a time
FEW_ROWS = 8             # up to so many rows, a block on the stack has more columns, so that rows of b are read in long runs
PANEL_HEAD = ("ptr panel", "i64 words")


def generate_matmul(dtype_name: str, left: str, right: str, target: Target, symbol: str) -> str:
    """LLVM text of the matmul template; left, right: dtypes of the operands in memory."""
    shape = shape_for(dtype_name, target, left, right)
    module = Module()
    declare_libraries(module, _libraries(shape))
    if shape.word:
        write_pack_panels(module, shape, "pack_panels", shape.right)
    if shape.panel_head:
        _write_panel_head(module, shape)
    write_merge(module, shape, "merge_values", shape.values)
    if shape.number.converts:
        write_merge(module, shape, "merge", shape.number)
    write_direct_paths(module, shape)
    _write_packed(module, shape)
    if has_turned(shape):
        write_ask(module)
        write_turned(module, shape, _pack_b(shape))
    _write_compute(module, shape)
    _write_block(module, shape)
    _write_entry(module, shape, symbol)
    return module.render()


def matmul_libraries(dtype_name: str, left: str, right: str, target: Target) -> dict[str, TemplateKernel]:
    """The libraries of the template."""
    return _libraries(shape_for(dtype_name, target, left, right))


def _libraries(shape: Shape) -> dict[str, TemplateKernel]:
    offset = shape.panel_head > 0
    result = {"tiles": tiles_library(shape), "pack_a": packing_library(shape, shape.left, offset)}
    if _packs_differ(shape):
        result["pack_b"] = packing_library(shape, shape.right)
    if has_turned(shape):
        result["turn"] = turn_library(shape)
    return result


def _packs_differ(shape: Shape) -> bool:
    return shape.left != shape.right or shape.panel_head > 0


def _pack_b(shape: Shape) -> str:
    return "pack_b" if _packs_differ(shape) else "pack_a"


def _write_panel_head(module: Module, shape: Shape) -> None:
    """Write in front of a panel what its sums start with: -128 times the sums of its columns, against the offset of a."""
    lanes, word = shape.lanes, shape.word
    vector = f"<{lanes} x i32>"
    b = Builder(module, "panel_head", arguments(PANEL_HEAD))
    high = b.splat("i32", lanes, HIGH_BITS)            # 128 in each byte

    def step(_: str, panel: str, *sums: str) -> list[str]:
        columns = [b.load(vector, b.at(panel, part * lanes, "i32"), 4) for part in range(shape.vectors)]
        added = [multiply_add(b, shape, word, high, column, total) for column, total in zip(columns, sums, strict=True)]
        return [b.at(panel, shape.columns, "i32"), *added]

    sums = b.loop(0, "%words", 1, step, [("ptr", "%panel"), *[(vector, "zeroinitializer")] * shape.vectors])[1:]
    for part, total in enumerate(sums):
        b.store(vector, b(f"sub {vector} zeroinitializer, {total}"), b.at("%panel", part * lanes - shape.columns, "i32"), 4)
    b.finish()


# ---------------------------------------------------------------------------------------------------- the packed way
def _write_packed(module: Module, shape: Shape) -> None:
    """c = a @ b (+ init) through packed panels; any strides of a and b."""
    kind, left, right = shape.number.kind, shape.left.stored, shape.right.stored
    b = Builder(module, "packed", arguments(COMPUTE))
    size = shape.number.kind_bytes
    panel_a = b.at("%work", 0, "i8")
    panels_b = b.at("%work", shape.row_width * shape.depth * size, "i8")
    scratch = b.stack(shape.rows * shape.columns * size)
    tiles = b.ceil_div("%m", shape.rows)
    high = b.ceil_div("%m", tiles)                       # tiles have ``high`` rows, the last ones one row less
    full_tiles = b.sub("%m", b.mul(tiles, b.sub(high, 1)))
    group = shape.word.size if shape.word else 1
    steps = b.ceil_div("%k", group)                      # k in panels: elements, or words of them
    pack_b = _pack_b(shape)
    some_k = b.select(b.less(steps, 1), 1, steps)
    depth = b.ceil_div(some_k, b.ceil_div(some_k, shape.depth))
    depth = b(f"and i64 {b.add(depth, 15)}, -16")
    in_place = right_in_place(b, shape)
    columns_at_once = b.select(in_place, "%n", shape.packed_columns)

    def columns_loop(j0: str) -> None:
        n = b.min(columns_at_once, b.sub("%n", j0))
        b_columns = b.at("%b", b.mul(j0, "%b_column"), right)
        b.loop(0, some_k, depth, lambda p0: depth_loop(j0, n, b_columns, p0))

    def depth_loop(j0: str, n: Operand, b_columns: str, p0: str) -> None:
        k = b.min(depth, b.sub(steps, p0))
        k0 = b.mul(p0, group)
        elements = b.min(b.mul(depth, group), b.sub("%k", k0))
        first = b.equal(p0, 0)
        b_block = b.at(b_columns, b.mul(k0, "%b_row"), right)
        panel_size = b.add(b.mul(depth, shape.columns), shape.panel_head)

        def pack_panel(j: str) -> None:
            width = b.min(b.sub(n, j), shape.columns)
            # Used in place: only a partial panel is packed, at the front.
            place = b.select(in_place, 0, b.mul(b.div(j, shape.columns), panel_size))
            source = b.at(b_block, b.mul(j, "%b_column"), right)
            target = b.at(panels_b, b.add(place, shape.panel_head), kind)
            b.call(pack_b, *pairs(PACK, (source, "%b_column", "%b_row", target, elements, width, shape.columns)))
            if shape.panel_head:
                b.call("panel_head", *pairs(PANEL_HEAD, (target, k)))

        whole = b.sub(n, b.rem(n, shape.columns))
        if shape.word:
            even = b.sub(elements, b.rem(elements, group))
            rows = b.both(b.equal("%b_column", 1), b.equal(even, elements))
            b.when(rows, lambda: b.call("pack_panels", *pairs(PACK_PANELS, (
                b_block, "%b_row", b.at(panels_b, shape.panel_head, kind), elements, whole, panel_size))))
            if shape.panel_head:
                b.loop(0, b.select(rows, whole, 0), shape.columns, lambda j: b.call("panel_head", *pairs(PANEL_HEAD, (
                    b.at(panels_b, b.add(b.mul(b.div(j, shape.columns), panel_size), shape.panel_head), kind), k))))
            b.loop(b.select(rows, whole, 0), n, shape.columns, pack_panel)
        else:
            b.loop(b.select(in_place, whole, 0), n, shape.columns, pack_panel)

        def row_tile(tile: str, i: str) -> list[Operand]:
            rows = b.select(b.less(tile, full_tiles), high, b.sub(high, 1))
            source = b.at("%a", b.add(b.mul(i, "%a_row"), b.mul(k0, "%a_column")), left)
            b.call("pack_a", *pairs(PACK, (source, "%a_row", "%a_column", panel_a, elements, rows, shape.row_width)))
            function = b.load("ptr", b.at("@tiles", rows, "ptr"), 8)
            c = b.at("%c", b.add(b.mul(i, "%ldc"), j0), kind)
            init = b.select(first, b.at("%init", b.add(b.mul(i, "%ldi"), j0), kind), c, "ptr")
            ldi = b.select(first, "%ldi", "%ldc")
            has_init = b.select(first, "%has_init", "true", "i1")

            def column_tile(j: str) -> None:
                width = b.min(b.sub(n, j), shape.columns)
                full = b.equal(width, shape.columns)
                own = b.both(in_place, full)
                packed = b.select(in_place, 0, b.mul(b.div(j, shape.columns), panel_size))
                panel = b.select(own, b.at(b_block, j, kind), b.at(panels_b, b.add(packed, shape.panel_head), kind), "ptr")
                step = b.select(own, "%b_row", shape.columns)
                to, start = b.at(c, j, kind), b.at(init, j, kind)

                def directly() -> None:
                    values = (panel_a, panel, step, to, "%ldc", start, ldi, has_init, k, width)
                    b.do(f"call void {function}({', '.join(f'{x} {y}' for x, y in pairs(TILE, values))})")

                def through_scratch() -> None:
                    values = (panel_a, panel, step, scratch, shape.columns, scratch, 0, "false", k, width)
                    b.do(f"call void {function}({', '.join(f'{x} {y}' for x, y in pairs(TILE, values))})")
                    b.call("merge_values", *pairs(MERGE, (scratch, to, "%ldc", 1, start, ldi, 1, has_init, "false", rows,
                                                          width, shape.columns)))

                if shape.masks:
                    directly()
                else:
                    b.when(full, directly, through_scratch)

            b.loop(0, n, shape.columns, column_tile)
            return [b.add(i, rows)]

        b.loop(0, tiles, 1, row_tile, [("i64", 0)])

    b.loop(0, "%n", columns_at_once, columns_loop)
    b.finish()


# ---------------------------------------------------------------------------------------------------- blocks of c
def write_merge(module: Module, shape: Shape, name: str, number: Numeric) -> None:
    """c = from (+ bias) (+ c), rounded to c's type; any strides of c and bias."""
    kind, lanes, values = number.kind, shape.lanes, shape.values
    b = Builder(module, name, arguments(MERGE))

    def row(i: str) -> None:
        source = b.at("%from", b.mul(i, "%ldf"), kind)
        c = b.at("%c", b.mul(i, "%c_row"), number.stored)
        bias = b.at("%bias", b.mul(i, "%bias_row"), number.stored)

        def some(j: str, width: int) -> None:
            def plus(condition: str, at: str, value: str) -> str:
                return b.when(condition, lambda: [number.add(b, value, number.load(b, at, width), width)], lambda: [value],
                              [number.vector(width)])[0]

            value = values.load(b, b.at(source, j, kind), width)
            to = b.at(c, b.mul(j, "%c_column"), number.stored)
            value = plus("%has_bias", b.at(bias, b.mul(j, "%bias_column"), number.stored), value)
            number.store(b, plus("%accumulate", to, value), to, width)

        def converted(j: str) -> None:
            for part in range(MERGED_VECTORS):
                at = b.add(j, part * lanes)
                number.store(b, values.load(b, b.at(source, at, kind), lanes), b.at(c, at, number.stored), lanes)

        b.loop(0, many, MERGED_VECTORS * lanes, converted)
        b.loop(many, whole, lanes, lambda j: some(j, lanes))
        b.loop(whole, "%n", 1, lambda j: some(j, 0))

    plain = b.both(b.equal("%c_column", 1), b(f"xor i1 {b('or i1 %has_bias, %accumulate')}, true"))
    many = b.select(plain, b.sub("%n", b.rem("%n", MERGED_VECTORS * lanes)), 0)
    contiguous = b.both(b.equal("%c_column", 1), b(f"or i1 {b('xor i1 %has_bias, true')}, {b.equal('%bias_column', 1)}"))
    whole = b.select(contiguous, b.sub("%n", b.rem("%n", lanes)), 0)
    b.loop(0, "%m", 1, row)
    b.finish()


def _write_compute(module: Module, shape: Shape) -> None:
    """Choose the way to do a block of c."""
    b = Builder(module, "compute", arguments(COMPUTE))
    given = pairs(COMPUTE, ["%" + name.split()[1] for name in COMPUTE])
    cells = b.mul("%m", "%n")
    along_k = b.both(b.equal("%a_column", 1), b.equal("%b_row", 1), b.less("%m", shape.most_dot_rows + 1))
    dot = b.both(along_k, b(f"or i1 {b.less(63, '%k')}, {b.less(cells, 65)}"))
    in_rows = b.equal("%b_column", 1)
    function = b.select(suits_turned(b, shape), "@turned", "@packed", "ptr") if has_turned(shape) else "@packed"

    def packed() -> None:
        b.do(f"call void {function}({', '.join(f'{kind} {value}' for kind, value in given)})")

    # Several rows of b that has to be converted first are better converted for each than packed for them.
    row = b.both(in_rows, b.less("%m", 6 if shape.right.converts else 2))
    small = b.both(in_rows, b.less("%m", 17), b.less(b.mul(cells, "%k"), 8193))
    b.when(dot, lambda: b.call("dot", *given), lambda: ignore(
        b.when(row, lambda: b.call("row", *given), lambda: ignore(
            b.when(small, lambda: b.call("small", *given), packed)))))
    b.finish()


BLOCK = ("ptr params", "ptr a", "ptr b", "ptr c", "ptr bias", "i64 m", "i64 n", "ptr work", "ptr local")


def _write_block(module: Module, shape: Shape) -> None:
    """A block of c of one batch item: directly where c can hold unrounded sums, else in pieces through the stack."""
    number, stored = shape.number, shape.number.stored
    b = Builder(module, "block", arguments(BLOCK))
    word = b.words(MATMUL_PARAMETERS)
    has_bias = b(f"icmp ne i64 {word['has_bias']}, 0")
    accumulate = b(f"icmp ne i64 {word['accumulate']}, 0")
    a_row, a_column, b_row, b_column = word["a_row"], word["a_column"], word["b_row"], word["b_column"]

    def directly() -> None:
        init = b.select(has_bias, "%bias", "%c", "ptr")
        ldi = b.select(has_bias, word["bias_row_stride"], word["c_row"])
        b.call("compute", *pairs(COMPUTE, ("%a", a_row, a_column, "%b", b_row, b_column, "%c", word["c_row"], init, ldi,
                                           b(f"or i1 {has_bias}, {accumulate}"), "%m", "%n", word["k"], "%work")))

    few = b.less("%m", FEW_ROWS + 1)
    rows = b.select(few, FEW_ROWS, shape.local_rows)
    columns = b.select(few, shape.local_rows * LOCAL_COLUMNS // FEW_ROWS, LOCAL_COLUMNS)

    def piece(i: str, j: str) -> None:
        m, n = b.min(b.sub("%m", i), rows), b.min(b.sub("%n", j), columns)
        a = b.at("%a", b.mul(i, a_row), shape.left.stored)
        right = b.at("%b", b.mul(j, b_column), shape.right.stored)
        b.call("compute", *pairs(COMPUTE, (a, a_row, a_column, right, b_row, b_column, "%local", columns, "%local", 0,
                                           "false", m, n, word["k"], "%work")))
        c = b.at("%c", b.add(b.mul(i, word["c_row"]), b.mul(j, word["c_column"])), stored)
        bias = b.at("%bias", b.add(b.mul(i, word["bias_row_stride"]), b.mul(j, word["bias_stride"])), stored)
        b.call("merge" if number.converts else "merge_values",
               *pairs(MERGE, ("%local", c, word["c_row"], word["c_column"], bias, word["bias_row_stride"],
                              word["bias_stride"], has_bias, accumulate, m, n, columns)))

    def in_pieces() -> None:
        b.loop(0, "%n", columns, lambda j: ignore(b.loop(0, "%m", rows, lambda i: piece(i, j))))

    if number.converts:
        in_pieces()
    else:
        one = b(f"or i1 {b('xor i1 ' + has_bias + ', true')}, {b.equal(word['bias_stride'], 1)}")
        not_both = b(f"xor i1 {b.both(has_bias, accumulate)}, true")
        b.when(b.both(b.equal(word["c_column"], 1), one, not_both), directly, in_pieces)
    b.finish()


def _write_entry(module: Module, shape: Shape, symbol: str) -> None:
    """The kernel: work units are (batch group, column block, row block), row blocks fastest; neighbours are merged."""
    size = shape.number.kind_bytes
    b = Builder(module, symbol, ENTRY, internal=False)
    work = b.stack(shape.work_bytes)
    local = b.stack(shape.local_rows * LOCAL_COLUMNS * size)
    word = b.words(MATMUL_PARAMETERS)
    starts = {name: b.buffer(word[f"{name}_slot"], word[f"{name}_offset"]) for name in ("a", "b", "c", "bias")}
    row_blocks, column_blocks = b.ceil_div(word["m"], word["m_block"]), b.ceil_div(word["n"], word["n_block"])
    batch = [word[f"batch{x}"] for x in range(4)]
    total = b.mul(b.mul(batch[0], batch[1]), b.mul(batch[2], batch[3]))

    def units(unit: str) -> list[Operand]:
        group, row_block, column_block, rows, columns = run_of_blocks(b, unit, row_blocks, column_blocks)
        i0, j0 = b.mul(row_block, word["m_block"]), b.mul(column_block, word["n_block"])
        m = b.min(b.sub(word["m"], i0), b.mul(rows, word["m_block"]))
        n = b.min(b.sub(word["n"], j0), b.mul(columns, word["n_block"]))

        def item(number: str) -> None:
            offsets: dict[str, Operand] = {
                "a": b.mul(i0, word["a_row"]), "b": b.mul(j0, word["b_column"]),
                "c": b.add(b.mul(i0, word["c_row"]), b.mul(j0, word["c_column"])),
                "bias": b.add(b.mul(i0, word["bias_row_stride"]), b.mul(j0, word["bias_stride"]))}
            index: Operand = number
            for axis in reversed(range(4)):
                here = b.rem(index, batch[axis]) if axis else index
                index = b.div(index, batch[axis]) if axis else index
                for name in ("a", "b", "c"):
                    offsets[name] = b.add(offsets[name], b.mul(here, word[f"{name}_batch{axis}"]))
            stored = {"a": shape.left.stored, "b": shape.right.stored}
            at = {name: b.at(start, offsets[name], stored.get(name, shape.number.stored)) for name, start in starts.items()}
            b.call("block", *pairs(BLOCK, ("%params", at["a"], at["b"], at["c"], at["bias"], m, n, work, local)))

        first = b.mul(group, word["batch_block"])
        b.loop(first, b.min(total, b.add(first, word["batch_block"])), 1, item)
        return [b.add(unit, b.mul(rows, columns))]

    b.advance("%begin", "%end", units)
    b.finish()
