"""Matrix products without packing: tiles of dot products, sums of rows, and very small products (see ``gemm.py``)."""
from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torsh.codegen.llvm.gemm_pack import LINE_BYTES
from torsh.codegen.llvm.gemm_shape import COMPUTE, Shape, arguments, pairs
from torsh.codegen.llvm.gemm_words import multiply_add, word_element
from torsh.codegen.llvm.numeric import Numeric
from torsh.codegen.llvm.template_builder import LANE_BYTES, Builder, Module, Operand

DOT_DEPTH = 1024         # k that the dot path does at a time, so that its columns stay in the first-level cache,
LONG_DEPTH = 8192        # or, if few rows use them once, its rows, so that columns are read in long runs
ROW_BLOCK = 8            # rows of b that the row path adds in one sweep
AHEAD_BYTES = 1024       # how far ahead the columns of single rows are asked for
SWEEP_VECTORS = 4        # vectors of a sweep at a time, but no more
SWEEP_COLUMNS = 64       # columns
ROW_COLUMNS = 4096       # columns of a sweep: the sums stay in the first-level cache
DOT = ("ptr a", "i64 a_row", "ptr b", "i64 b_column", "ptr c", "i64 ldc", "ptr init", "i64 ldi", "i1 has_init",
       "i64 k", "i64 columns")
SMALL = ("ptr a", "i64 a_row", "i64 a_column", "ptr b", "i64 b_row", "ptr c", "i64 ldc", "ptr init", "i64 ldi",
         "i1 has_init", "i64 k", "i64 columns")
SWEEP = ("ptr a", "i64 a_column", "ptr b", "i64 b_row", "ptr c", "ptr init", "i64 n")


def write_direct_paths(module: Module, shape: Shape) -> None:
    """The functions ``dot``, ``row`` and ``small``, with the arguments COMPUTE."""
    for rows in (shape.dot_rows, *_lower_tiles(shape)):
        _write_dot_tile(module, shape, rows)
    _write_dot(module, shape)
    for rows in (1, 4):
        for lanes in (shape.lanes,) if shape.masks else (shape.lanes, 0):
            _write_small_tile(module, shape, rows, lanes)
    _write_small(module, shape)
    for rows in (ROW_BLOCK, 1):
        _write_sweep(module, shape, rows)
    _write_row(module, shape)


# ---------------------------------------------------------------------------------------------------- dot products
def _write_dot_tile(module: Module, shape: Shape, rows: int) -> None:
    """c[rows, columns] = dot products of rows of a and columns of b (+ init); both contiguous along k."""
    number, width, word = shape.number, shape.dot_columns, shape.dot_word
    elements = shape.lanes * (word.size if word else 1)
    b = Builder(module, f"dot_tile{rows}", arguments(DOT))
    last = b.sub("%columns", 1)
    a_rows = [b.at("%a", b.mul("%a_row", row), shape.left.stored) for row in range(rows)]
    b_columns = [b.at("%b", b.mul("%b_column", b.min(column, last)), shape.right.stored) for column in range(width)]
    following = b.mul("%b_column", width)                # the columns of the next tile

    def step(k: Operand, sums: Sequence[str], mask: str | None) -> list[str]:
        left = [_dot_operand(b, shape, shape.left, start, k, mask) for start in a_rows]
        result = list(sums)
        for column in range(width):
            if mask is None:                     # what counts is how many lines are under way
                at = b.at(b_columns[column], k, shape.right.stored)
                b.prefetch(b.at(at, AHEAD_BYTES, "i8") if rows == 1 else b.at(at, following, shape.right.stored))
            right = _dot_operand(b, shape, shape.right, b_columns[column], k, mask)
            for row in range(rows):
                here = row * width + column
                result[here] = multiply_add(b, shape, word, left[row], right, result[here])
        return result

    def one(k: str, *sums: str) -> list[str]:
        """A single k, in the first lanes of the sums."""
        left = [shape.left.load(b, b.at(start, k, shape.left.stored)) for start in a_rows]
        result = list(sums)
        for column in range(width):
            right = shape.right.load(b, b.at(b_columns[column], k, shape.right.stored))
            for row in range(rows):
                here = row * width + column
                old = b(f"extractelement {vector} {sums[here]}, i64 0")
                new = number.multiply_add(b, left[row], right, old, 0)
                result[here] = b(f"insertelement {vector} {sums[here]}, {number.kind} {new}, i64 0")
        return result

    vector = number.vector(shape.lanes)
    whole = b.sub("%k", b.rem("%k", elements))
    sums = b.loop(0, whole, elements, lambda k, *sums: step(k, sums, None), [(vector, "zeroinitializer")] * (rows * width))
    if shape.masks or min(shape.left.stored_bytes, shape.right.stored_bytes) >= 4:
        bits = word.bits if word else 8 * number.kind_bytes
        sums = b.when(b.less(whole, "%k"), lambda: step(whole, sums, b.mask(elements, bits, b.sub("%k", whole))),
                      lambda: sums, [vector] * len(sums))
    else:                   # loads of small elements under a mask fall apart
        sums = b.loop(whole, "%k", 1, one, [(vector, value) for value in sums])
    _store_dot_tile(b, shape, rows, _horizontal_sums(b, shape, sums))
    b.finish()


def _dot_operand(b: Builder, shape: Shape, number: Numeric, start: str, k: Operand, mask: str | None) -> str:
    """What a dot product multiplies at a time: a vector of values or of words."""
    at, word = b.at(start, k, number.stored), shape.dot_word
    if word is None:
        return number.load_masked(b, at, shape.lanes, mask) if mask else number.load(b, at, shape.lanes)
    elements = shape.lanes * word.size
    raw = b.masked_load(number.stored, elements, at, mask) if mask else b.load(f"<{elements} x {number.stored}>", at)
    value = word_element(b, number, word, raw, elements)
    return b(f"bitcast <{elements} x {word.element}> {value} to <{shape.lanes} x i32>")


def _horizontal_sums(b: Builder, shape: Shape, vectors: Sequence[str]) -> list[tuple[str, int]]:
    """The sum over the lanes of each vector: (vector, lane) where it is. Pairs are folded into one vector at each step."""
    number, lanes = shape.number, shape.lanes
    per_lane = LANE_BYTES // number.kind_bytes
    # A vector of partial sums and, per lane, whose sum it is part of.
    current = [(vector, [position] * lanes) for position, vector in enumerate(vectors)]
    width = lanes
    while width > 1:
        # Wide pieces are whole 128-bit lanes of x, then of y; narrow ones are taken within each 128-bit lane.
        unit = lanes if width > per_lane else min(per_lane, lanes)
        low = [base + piece + x for base in range(0, lanes, unit) for side in (0, lanes)
               for piece in range(side, side + unit, width) for x in range(width // 2)]
        folded = []
        for position in range(0, len(current), 2):
            x, owners_x = current[position]
            y, owners_y = current[min(position + 1, len(current) - 1)]
            owners = owners_x + owners_y
            one = b.shuffle(number.kind, lanes, x, y, low)
            two = b.shuffle(number.kind, lanes, x, y, [pick + width // 2 for pick in low])
            folded.append((number.add(b, one, two, lanes), [owners[pick] for pick in low]))
        current, width = folded, width // 2
    places: dict[int, tuple[str, int]] = {}
    for vector, owners in current:
        for lane, owner in enumerate(owners):
            places.setdefault(owner, (vector, lane))
    return [places[position] for position in range(len(vectors))]


def _store_dot_tile(b: Builder, shape: Shape, rows: int, sums: list[tuple[str, int]]) -> None:
    number, values, width = shape.number, shape.values, shape.dot_columns
    wide = 1 << (width - 1).bit_length()
    mask = b.mask(wide, 8 * number.kind_bytes, "%columns") if shape.masks else None
    for row in range(rows):
        vector = "poison"
        for column in range(width):
            source, lane = sums[row * width + column]
            one = b(f"extractelement {number.vector(shape.lanes)} {source}, i64 {lane}")
            vector = b(f"insertelement {number.vector(wide)} {vector}, {number.kind} {one}, i64 {column}")
        c = b.at("%c", b.mul("%ldc", row), number.kind)
        init = b.at("%init", b.mul("%ldi", row), number.kind)
        if mask is not None:
            old = b.when("%has_init", partial(_masked, b, shape, init, wide, mask), lambda: ["zeroinitializer"],
                         [number.vector(wide)])
            values.store_masked(b, number.add(b, vector, old[0], wide), c, wide, mask)
        else:
            _store_scalars(b, shape, vector, wide, c, init)


def _masked(b: Builder, shape: Shape, at: str, wide: int, mask: str) -> list[str]:
    return [shape.values.load_masked(b, at, wide, mask)]


def _store_scalars(b: Builder, shape: Shape, vector: str, wide: int, c: str, init: str) -> None:
    number, values = shape.number, shape.values
    for column in range(shape.dot_columns):
        def store(column: int = column) -> None:
            one = b(f"extractelement {number.vector(wide)} {vector}, i64 {column}")
            old = b.when("%has_init", lambda: [values.load(b, b.at(init, column, number.kind))], lambda: [number.zero],
                         [number.kind])
            values.store(b, number.add(b, one, old[0], 0), b.at(c, column, number.kind))

        b.when(b.less(column, "%columns"), store)


def _lower_tiles(shape: Shape) -> tuple[int, ...]:
    """Rows of the tiles that do the rows that are left over, each once."""
    return (2, 1) if shape.dot_rows > 2 else (1,)


def _write_dot(module: Module, shape: Shape) -> None:
    """c = a @ b (+ init) with both operands contiguous along k: columns outside, so that b is read once."""
    kind = shape.number.kind
    b = Builder(module, "dot", arguments(COMPUTE))
    some_k, some_m = (b.select(b.less(size, 1), 1, size) for size in ("%k", "%m"))
    whole = b.sub("%m", b.rem("%m", shape.dot_rows))
    once = b.less("%m", shape.dot_rows + 1)
    at_once = b.select(once, b.div(LONG_DEPTH, b.select(once, some_m, 1)), DOT_DEPTH)

    def depth(p0: str) -> None:
        k = b.min(b.sub("%k", p0), at_once)
        first = b.equal(p0, 0)
        init, ldi = b.select(first, "%init", "%c", "ptr"), b.select(first, "%ldi", "%ldc")
        has_init = b.select(first, "%has_init", "true", "i1")

        def column(j: str) -> None:
            width = b.min(b.sub("%n", j), shape.dot_columns)
            right = b.at("%b", b.add(b.mul(j, "%b_column"), p0), shape.right.stored)

            def tile(rows: int, i: Operand) -> None:
                left = b.at("%a", b.add(b.mul(i, "%a_row"), p0), shape.left.stored)
                c = b.at("%c", b.add(b.mul(i, "%ldc"), j), kind)
                start = b.at(init, b.add(b.mul(i, ldi), j), kind)
                b.call(f"dot_tile{rows}", *pairs(DOT, (left, "%a_row", right, "%b_column", c, "%ldc", start, ldi, has_init,
                                                       k, width)))

            b.loop(0, whole, shape.dot_rows, lambda i: tile(shape.dot_rows, i))
            done: Operand = whole
            for rows in _lower_tiles(shape):
                left = b.sub("%m", done)
                b.when(b.less(rows - 1, left), partial(tile, rows, done))
                done = b.select(b.less(rows - 1, left), b.add(done, rows), done)

        b.loop(0, "%n", shape.dot_columns, column)

    b.loop(0, some_k, at_once, depth)
    b.finish()


# ---------------------------------------------------------------------------------------------------- small products
def _write_small_tile(module: Module, shape: Shape, rows: int, lanes: int) -> None:
    """c[rows, columns] = a @ b (+ init) for up to one vector of columns of b with contiguous rows; lanes 0: one column."""
    number, values, kind = shape.number, shape.values, shape.number.kind
    vector = number.vector(lanes)
    b = Builder(module, f"small{rows}_{lanes}", arguments(SMALL))
    mask = b.mask(lanes, 8 * number.kind_bytes, "%columns") if lanes and shape.masks else None

    def init() -> list[str]:
        starts = [b.at("%init", b.mul("%ldi", row), kind) for row in range(rows)]
        return [values.load_masked(b, at, lanes, mask) if mask else values.load(b, at, lanes) for at in starts]

    zero = "zeroinitializer" if lanes else number.zero
    sums = b.when("%has_init", init, lambda: [zero] * rows, [vector] * rows)
    a_rows = [b.at("%a", b.mul("%a_row", row), shape.left.stored) for row in range(rows)]

    def step(k: str, source: str, *sums: str) -> list[str]:
        right = shape.right.load_masked(b, source, lanes, mask) if mask else shape.right.load(b, source, lanes)
        offset = b.mul(k, "%a_column")
        result = []
        for row in range(rows):
            left = shape.left.load(b, b.at(a_rows[row], offset, shape.left.stored))
            left = b.splat(kind, lanes, left) if lanes else left
            result.append(number.multiply_add(b, left, right, sums[row], lanes))
        return [b.at(source, "%b_row", shape.right.stored), *result]

    sums = b.loop(0, "%k", 1, step, [("ptr", "%b"), *((vector, value) for value in sums)])[1:]
    for row in range(rows):
        at = b.at("%c", b.mul("%ldc", row), kind)
        if mask:
            values.store_masked(b, sums[row], at, lanes, mask)
        else:
            values.store(b, sums[row], at, lanes)
    b.finish()


def _write_small(module: Module, shape: Shape) -> None:
    """c = a @ b (+ init) for few products; b has contiguous rows."""
    kind = shape.number.kind
    b = Builder(module, "small", arguments(COMPUTE))
    whole_rows = b.sub("%m", b.rem("%m", 4))
    whole_columns = "%n" if shape.masks else b.sub("%n", b.rem("%n", shape.lanes))

    def rows(count: int, i: str) -> None:
        left = b.at("%a", b.mul(i, "%a_row"), shape.left.stored)

        def columns(lanes: int, j: str) -> None:
            c = b.at("%c", b.add(b.mul(i, "%ldc"), j), kind)
            init = b.at("%init", b.add(b.mul(i, "%ldi"), j), kind)
            width = b.min(b.sub("%n", j), max(lanes, 1))
            right = b.at("%b", j, shape.right.stored)
            b.call(f"small{count}_{lanes}", *pairs(SMALL, (left, "%a_row", "%a_column", right, "%b_row", c, "%ldc", init,
                                                           "%ldi", "%has_init", "%k", width)))

        b.loop(0, whole_columns, shape.lanes, lambda j: columns(shape.lanes, j))
        if not shape.masks:
            b.loop(whole_columns, "%n", 1, lambda j: columns(0, j))

    b.loop(0, whole_rows, 4, lambda i: rows(4, i))
    b.loop(whole_rows, "%m", 1, lambda i: rows(1, i))
    b.finish()


# ---------------------------------------------------------------------------------------------------- one row
def _write_sweep(module: Module, shape: Shape, rows: int) -> None:
    """c[n] = init[n] + the sum over ``rows`` rows of b, each times an element of a. c may be init."""
    number, values, lanes, kind = shape.right, shape.values, shape.lanes, shape.number.kind
    b = Builder(module, f"sweep{rows}", arguments(SWEEP))
    b_rows = [b.at("%b", b.mul("%b_row", row), number.stored) for row in range(rows)]
    factors = [shape.left.load(b, b.at("%a", b.mul("%a_column", row), shape.left.stored)) for row in range(rows)]
    wide = [b.splat(kind, lanes, factor) for factor in factors]
    ahead = b.mul("%b_row", ROW_BLOCK)

    def some(j: Operand, count: int, mask: str | None, width: int) -> None:
        places = [b.add(j, part * lanes) for part in range(count)]
        starts = [b.at("%init", place, kind) for place in places]
        sums = [values.load_masked(b, at, width, mask) if mask else values.load(b, at, width) for at in starts]
        for row in range(rows):
            for part, place in enumerate(places):
                at = b.at(b_rows[row], place, number.stored)
                if count > 1 and part * lanes * number.stored_bytes % LINE_BYTES == 0:
                    b.prefetch(b.at(at, ahead, number.stored))       # the same row of the next sweep
                right = number.load_masked(b, at, width, mask) if mask else number.load(b, at, width)
                sums[part] = number.multiply_add(b, wide[row] if width else factors[row], right, sums[part], width)
        for place, value in zip(places, sums, strict=True):
            if mask:
                values.store_masked(b, value, b.at("%c", place, kind), width, mask)
            else:
                values.store(b, value, b.at("%c", place, kind), width)

    vectors = min(SWEEP_VECTORS, max(SWEEP_COLUMNS // lanes, 1))
    many = b.sub("%n", b.rem("%n", vectors * lanes))
    whole = b.sub("%n", b.rem("%n", lanes))
    b.loop(0, many, vectors * lanes, lambda j: some(j, vectors, None, lanes))
    b.loop(many, whole, lanes, lambda j: some(j, 1, None, lanes))
    if shape.masks:
        mask = b.mask(lanes, 8 * number.kind_bytes, b.sub("%n", whole))
        b.when(b.less(whole, "%n"), lambda: some(whole, 1, mask, lanes))
    else:
        b.loop(whole, "%n", 1, lambda j: some(j, 1, None, 0))
    b.finish()


def _write_row(module: Module, shape: Shape) -> None:
    """c = a @ b (+ init) for one row or a few; b has contiguous rows, which are read in the order of memory."""
    values, kind = shape.values, shape.number.kind
    b = Builder(module, "row", arguments(COMPUTE))
    whole = b.sub("%k", b.rem("%k", ROW_BLOCK))

    def chunk(j0: str) -> None:
        n = b.min(b.sub("%n", j0), ROW_COLUMNS)

        def start(i: str) -> None:
            c, init = b.at("%c", b.add(b.mul(i, "%ldc"), j0), kind), b.at("%init", b.add(b.mul(i, "%ldi"), j0), kind)

            def one(j: str) -> None:
                old = b.when("%has_init", lambda: [values.load(b, b.at(init, j, kind))], lambda: [values.zero], [kind])
                values.store(b, old[0], b.at(c, j, kind))

            b.loop(0, n, 1, one)

        b.loop(0, "%m", 1, start)

        def sweep(rows: int, p: str) -> None:
            right = b.at("%b", b.add(b.mul(p, "%b_row"), j0), shape.right.stored)

            def row(i: str) -> None:
                left = b.at("%a", b.add(b.mul(i, "%a_row"), b.mul(p, "%a_column")), shape.left.stored)
                c = b.at("%c", b.add(b.mul(i, "%ldc"), j0), kind)
                b.call(f"sweep{rows}", *pairs(SWEEP, (left, "%a_column", right, "%b_row", c, c, n)))

            b.loop(0, "%m", 1, row)

        b.loop(0, whole, ROW_BLOCK, lambda p: sweep(ROW_BLOCK, p))
        b.loop(whole, "%k", 1, lambda p: sweep(1, p))

    b.loop(0, "%n", ROW_COLUMNS, chunk)
    b.finish()
