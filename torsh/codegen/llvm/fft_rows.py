"""Fourier transforms along contiguous memory, cut in rows and columns, as LLVM text (see ``compiler/fft.py``)."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torsh.codegen.llvm.fft_common import Transform
from torsh.codegen.llvm.fft_passes import Pair
from torsh.codegen.llvm.template_builder import Operand, ignore
from torsh.compiler.fft import CHIRPED, FULL, HALVES_BLOCK
from torsh.ops.fourier_primitives import CHIRP_BYTES, COLUMNS, FROM_HALF, FROM_REAL, HALVES, MOST_BLOCK, ROWS, TO_HALF, WHOLE, WHOLE_BYTES

Load = Callable[[Operand, str], None]        # the numbers from a place on to an address in a block
Put = Callable[[Pair, Operand], None]        # store numbers from a place on


@dataclass(slots=True)
class Rows:
    """The parts of a transform. form: see ``compiler/fft.py``. blocks: memory for two blocks. spare: for three numbers."""

    t: Transform
    form: str
    blocks: tuple[str, str]
    spare: str

    # ---- columns -------------------------------------------------------------------------------------------------------

    def transform_columns(self, load: Load, p: Operand, to: Operand, inverse: Operand,
                          then: Callable[[], None] | None = None) -> None:
        """Transform as many columns as there are lanes, from column p on, and store them as lines of ``to``.

        then: what is done with the block before.
        """
        t, b = self.t, self.t.b
        b.loop(0, t.head["rows"], 1, lambda j: load(self._place(j, p), t.number_at(self.blocks[0], j)))
        if then:
            then()
        start, imaginary = t.turned(self.blocks[0], inverse)
        found = t.run_plan(0, start, 2 * t.lanes, imaginary, self.blocks[::-1])
        self._store_lines(found, p, to)

    def _place(self, row: Operand, column: Operand) -> Operand:
        return self.t.b.add(self.t.b.mul(row, self.t.head["columns"]), column)

    def input_columns(self, src: str, p: Operand, to: Operand) -> None:
        """The same of the input."""
        t, b = self.t, self.t.b
        plain = (self._load_pairs if t.paired else self._load_half) if t.kind == FROM_HALF else (
            self._load_real if t.widens else self._load_complex)

        def load(place: Operand, to: str) -> None:
            plain(src, place, to)

        def first() -> None:
            if t.kind == FROM_HALF:
                b.when(b.equal(p, 0), lambda: self._first_of_half(src))
            if self.form == CHIRPED:
                b.loop(0, t.head["rows"], 1, lambda j: self._multiply_chirp(self._place(j, p), t.number_at(self.blocks[0], j)))

        if self.form == FULL:
            self.transform_columns(load, p, to, t.word["inverse"], first)
            return
        count = t.length if self.form == CHIRPED else b.div(t.word["given"], 2) if t.paired else t.word["given"]
        self.transform_columns(lambda place, to: self._load_some(load, count, place, to), p, to,
                               0 if self.form == CHIRPED else t.word["inverse"], first)

    def _load_some(self, load: Load, count: Operand, place: Operand, to: str) -> None:
        """Numbers, of which there are only so many (at least a vector); the others are zero."""
        t, b = self.t, self.t.b

        def some() -> None:
            before = b.sub(count, t.lanes)
            load(before, self.spare)
            shift = b.sub(place, before)
            parts = []
            for part in (0, 1):
                moved = t.at(self.spare, (2 + 2 * part) * t.lanes)
                t.write(t.read(t.at(self.spare, part * t.lanes)), moved)
                t.write("zeroinitializer", t.at(moved, t.lanes))
                parts.append(t.read(t.at(moved, shift)))
            t.c.store((parts[0], parts[1]), to, t.lanes)

        def nothing() -> None:
            t.c.store(("zeroinitializer", "zeroinitializer"), to, t.lanes)

        whole = b.less(b.add(place, t.lanes - 1), count)
        b.when(whole, lambda: load(place, to), lambda: ignore(b.when(b.less(place, count), some, nothing)))

    def _chirp(self, place: Operand) -> Pair:
        return self.t.c.load(self.t.at(self.t.b.at(self.t.table, self.t.head["chirp"], "i8"), place), self.t.head["total"])

    def _multiply_chirp(self, place: Operand, number: str) -> None:
        """Of a block: real and imaginary parts change places first, in inverse transforms."""
        start, imaginary = self.t.turned(number)
        self.t.c.store(self.t.c.mul(self.t.c.load(start, imaginary), self._chirp(place)), number, self.t.lanes)

    def _load_complex(self, src: str, place: Operand, to: str) -> None:
        self.t.c.store(self.t.apart(self.t.at(src, self.t.b.mul(place, 2))), to, self.t.lanes)

    def _load_real(self, src: str, place: Operand, to: str) -> None:
        self.t.c.store((self.t.read(self.t.at(src, place)), "zeroinitializer"), to, self.t.lanes)

    def _load_pairs(self, src: str, place: Operand, to: str) -> None:
        """Of half a spectrum, at a place and opposite of it."""
        t, b = self.t, self.t.b
        opposite = b.sub(b.sub(t.length, place), t.lanes - 1)
        x, y = t.apart(t.at(src, b.mul(place, 2))), t.apart(t.at(src, b.mul(opposite, 2)), True)
        t.c.store(t.pairs_of(x, y, *self._turns(place)), to, t.lanes)

    def _turns(self, place: Operand) -> tuple[str, str]:
        """Cosines and sines from a place of half a spectrum on."""
        t, b = self.t, self.t.b
        cosines = t.at(b.at(t.table, t.head["halves"], "i8"), place)
        return t.read(cosines), t.read(t.at(cosines, b.add(t.length, 1)))

    def _load_half(self, src: str, place: Operand, to: str) -> None:
        """Of the whole spectrum, of which there is the first half."""
        t, b, c = self.t, self.t.b, self.t.c
        flipped = c.times(t.interior, t.sign)
        known = b.div(b.add(t.length, 1), 2)            # numbers of the half

        def forwards() -> None:
            re, im = t.apart(t.at(src, b.mul(place, 2)))
            c.store((c.times(re, t.interior), c.times(im, flipped)), to, t.lanes)

        def backwards() -> None:
            re, im = t.apart(t.at(src, b.mul(b.sub(b.sub(t.length, place), t.lanes - 1), 2)), True)
            c.store((c.times(re, t.interior), c.negative(c.times(im, flipped))), to, t.lanes)

        def mixed() -> None:
            b.loop(0, t.lanes, 1, lane)

        def lane(i: str) -> None:
            k = b.add(place, i)
            there = b.less(k, known)
            at = t.at(src, b.mul(b.select(there, k, b.sub(t.length, k)), 2))
            re = b(f"fmul {t.real} {t.one(at)}, {t.scalar(t.interior)}")
            im = b(f"fmul {t.real} {t.one(t.at(at, 1))}, {t.scalar(flipped)}")
            t.put_one(re, t.at(to, i))
            t.put_one(b.select(there, im, b(f"fneg {t.real} {im}"), t.real), t.at(to, b.add(i, t.lanes)))

        inside = b.less(b.add(place, t.lanes - 1), known)
        b.when(inside, forwards, lambda: ignore(b.when(b.less(place, known), mixed, backwards)))

    def _first_of_half(self, src: str) -> None:
        """The first number, where that of the spectrum has no imaginary part and stands for itself."""
        t, b = self.t, self.t.b
        first, to = t.one(src), self.blocks[0]
        if not t.paired:
            t.put_one(first, to)
            t.put_one("0.0", t.at(to, t.lanes))
            return
        last = t.one(t.at(src, b.mul(t.length, 2)))
        t.put_one(b(f"fadd {t.real} {first}, {last}"), to)
        t.put_one(b(f"fsub {t.real} {first}, {last}"), t.at(to, t.lanes))

    def _store_lines(self, block: str, p: Operand, to: Operand) -> None:
        """Multiply a block with twiddle factors, and store it transposed: a line per column, real parts first."""
        t, b, c = self.t, self.t.b, self.t.c
        rows, columns = t.head["rows"], t.head["columns"]
        factors = t.at(b.at(t.table, t.head["between"], "i8"), p)

        def square(k: Operand) -> None:
            numbers = []
            for i in range(t.lanes):
                row = b.add(k, i)
                factor = t.at(factors, b.mul(row, b.mul(columns, 2)))
                numbers.append(c.mul(c.load(t.number_at(block, row), t.lanes), c.load(factor, columns)))
            for part in (0, 1):
                lines = b.transpose(t.real, t.size, [x[part] for x in numbers])
                for i, line in enumerate(lines):
                    place = b.add(b.mul(b.mul(b.add(p, i), 2), rows), k)
                    t.write(line, t.at(to, b.add(place, b.mul(rows, part))))

        self.covered(rows, square)

    def covered(self, count: Operand, body: Callable[[Operand], None], begin: Operand = 0, end: Operand | None = None) -> None:
        """``body`` at every place of a vector from ``begin`` to ``end``; the last of ``count`` are done once more if need be."""
        b, lanes = self.t.b, self.t.lanes
        last = b.sub(count, lanes)
        b.loop(begin, count if end is None else b.min(end, count), lanes, lambda i: body(b.min(i, last)))

    # ---- rows ----------------------------------------------------------------------------------------------------------

    def transform_rows(self, lines: Operand, q: Operand, put: Put, inverse: Operand) -> None:
        """Transform as many lines across as there are lanes, from place q on."""
        t, b = self.t, self.t.b
        rows, columns = t.head["rows"], t.head["columns"]
        found = t.run_plan(1, t.at(lines, q), b.mul(rows, 2), rows, self.blocks)
        start, imaginary = t.turned(found, inverse)
        b.loop(0, columns, 1, lambda k: put(t.c.load(t.at(start, b.mul(k, 2 * t.lanes)), imaginary), b.add(b.mul(k, rows), q)))

    def output_rows(self, lines: Operand, q: Operand, out: Operand) -> None:
        """The same, and store the results."""
        self.transform_rows(lines, q, lambda x, place: self._put(x, place, out), self.t.word["inverse"])

    def _put(self, x: Pair, place: Operand, out: Operand) -> None:
        t, b = self.t, self.t.b
        if self.t.makes_half:
            t.c.store(x, t.at(out, place), t.length)
        elif t.kind == FROM_HALF and not t.paired:
            t.write(t.c.times(x[0], t.factor), t.at(out, place))
        elif t.kind == TO_HALF:
            self._store_some(x, place, out)
        else:
            t.together((t.c.times(x[0], t.factor), t.c.times(x[1], t.factor)), t.at(out, b.mul(place, 2)))

    def put_chirped(self, x: Pair, place: Operand, out: Operand) -> None:
        """The results of a convolution, as far as they are wanted."""
        t, b, c = self.t, self.t.b, self.t.c
        re, im = c.mul(x, self._chirp(place))
        swapped = b.equal(t.word["inverse"], 1)
        x = b.select(swapped, im, re, c.vector), b.select(swapped, re, im, c.vector)
        if t.kind == TO_HALF and not t.paired:
            self._store_some(x, place, out)
            return

        def some() -> None:
            c.store(x if self.t.makes_half else (c.times(x[0], t.factor), c.times(x[1], t.factor)), self.spare, t.lanes)
            b.loop(0, b.sub(t.length, place), 1, lane)

        def lane(i: str) -> None:
            values = t.one(t.at(self.spare, i)), t.one(t.at(self.spare, b.add(i, t.lanes)))
            at = b.add(place, i)
            if self.t.makes_half:
                places: list[Operand] = [at, b.add(at, t.length)]
            elif t.kind == FROM_HALF and not t.paired:
                places = [at]
            else:
                places = [b.mul(at, 2), b.add(b.mul(at, 2), 1)]
            for value, to in zip(values, places, strict=False):
                t.put_one(value, t.at(out, to))

        whole = b.less(b.add(place, t.lanes - 1), t.length)
        b.when(whole, lambda: self._put(x, place, out), lambda: ignore(b.when(b.less(place, t.length), some)))

    def _store_some(self, x: Pair, place: Operand, out: Operand) -> None:
        """Numbers of a spectrum, as far as they are in its first half."""
        t, b, c = self.t, self.t.b, self.t.c
        count = b.div(b.add(t.length, 1), 2)
        factor = c.times(t.factor, t.interior)
        re, im = c.times(x[0], factor), c.times(c.times(x[1], factor), t.sign)
        to = t.at(out, b.mul(place, 2))

        def some() -> None:
            for lane in range(t.lanes):
                def one(lane: int = lane) -> None:
                    for part, value in enumerate((re, im)):
                        t.put_one(b(f"extractelement {c.vector} {value}, i64 {lane}"), t.at(to, 2 * lane + part))
                b.when(b.less(b.add(place, lane), count), one)

        b.when(b.less(b.add(place, t.lanes - 1), count), lambda: t.together((re, im), to), some)

        def first() -> None:
            t.put_one(t.scalar(c.times(x[0], t.factor)), to)
            t.put_one(t.scalar(c.times(c.times(x[1], t.factor), t.sign)), t.at(to, 1))

        b.when(b.equal(place, 0), first)

    # ---- halves --------------------------------------------------------------------------------------------------------

    def make_half(self, planes: Operand, out: Operand, begin: Operand, end: Operand | None) -> None:
        """The first half of a spectrum, from the real and the imaginary parts of the transform of pairs."""
        t, b, c = self.t, self.t.b, self.t.c
        factor = c.times(t.factor, t.interior)
        flipped = c.times(factor, t.sign)

        def numbers(k: Operand) -> None:
            opposite = b.sub(b.sub(t.length, k), t.lanes - 1)
            x = c.load(t.at(planes, k), t.length)
            y = c.load(t.at(planes, opposite), t.length)
            back = list(reversed(range(t.lanes)))
            y = tuple(b.shuffle(t.real, t.lanes, part, "poison", back) for part in y)  # type: ignore[assignment]
            re, im = t.half_of(x, y, *self._turns(k))
            t.together((c.times(re, factor), c.times(im, flipped)), t.at(out, b.mul(k, 2)))

        def ends() -> None:
            re, im = t.one(planes), t.one(t.at(planes, t.length))
            for operation, place in (("fadd", 0), ("fsub", b.mul(t.length, 2))):
                double = b(f"fadd {t.real} {t.scalar(t.factor)}, {t.scalar(t.factor)}")
                value = b(f"fmul {t.real} {b(f'{operation} {t.real} {re}, {im}')}, {double}")
                t.put_one(value, t.at(out, place))
                zero = b(f"fmul {t.real} {t.scalar(t.sign)}, 0.0")
                t.put_one(zero, t.at(out, b.add(place, 1)))

        self.covered(t.length, numbers, begin, end)
        b.when(b.equal(begin, 0), ends)
        if t.kind == FROM_REAL:
            self._mirror(out, begin, t.length if end is None else b.min(end, t.length))

    def _mirror(self, out: Operand, begin: Operand, end: Operand) -> None:
        """The second half of a spectrum, from what of the first half was made from ``begin`` to ``end`` (a vector at least)."""
        t, b = self.t, self.t.b
        low = b.min(b.select(b.less(begin, 1), 1, begin), b.sub(t.length, t.lanes))
        last = b.sub(end, t.lanes)

        def numbers(i: str) -> None:
            k = b.min(i, last)
            re, im = t.apart(t.at(out, b.mul(k, 2)), True)
            place = b.sub(b.sub(t.word["n"], k), t.lanes - 1)
            t.together((re, t.c.negative(im)), t.at(out, b.mul(place, 2)))

        b.loop(low, end, t.lanes, numbers)


def _by_convolution(rows: Rows, x: str, lines: str, planes: str, out: str) -> None:
    """A transform that two of another length compute: of the input times the chirp, and back."""
    t, b = rows.t, rows.t.b
    total = t.head["total"]
    factors = b.at(t.table, t.head["filter"], "i8")

    def filtered(value: Pair, place: Operand) -> None:
        t.c.store(t.c.mul(value, t.c.load(t.at(factors, place), total)), t.at(planes, place), total)

    def load(place: Operand, to: str) -> None:
        t.c.store(t.c.load(t.at(planes, place), total), to, t.lanes)

    rows.covered(t.head["columns"], lambda p: rows.input_columns(x, p, lines))
    rows.covered(t.head["rows"], lambda q: rows.transform_rows(lines, q, filtered, 0))
    rows.covered(t.head["columns"], lambda p: rows.transform_columns(load, p, lines, 1))
    rows.covered(t.head["rows"], lambda q: rows.transform_rows(lines, q, lambda v, place: rows.put_chirped(v, place, out), 1))


def write_rows(t: Transform, part: str, form: str, blocks: tuple[str, str], work: tuple[str, str], spare: str) -> None:
    """The units of a template: items, or parts of them. work: memory for the numbers of two transforms."""
    b, rows = t.b, Rows(t, form, blocks, spare)
    out, src = b.buffer(t.word["out_slot"], t.word["out_offset"]), b.buffer(t.word["src_slot"], t.word["src_offset"])
    group = 64 // t.size

    def whole(item: Operand) -> None:
        here, there = t.offsets(item, "src", "out")
        x, y = t.at(src, here), t.at(out, there)
        target = work[1] if t.makes_half else y
        if form == CHIRPED:
            _by_convolution(rows, x, *work, target)
        else:
            rows.covered(t.head["columns"], lambda p: rows.input_columns(x, p, work[0]))
            rows.covered(t.head["rows"], lambda q: rows.output_rows(work[0], q, target))
        if target is not y:
            rows.make_half(target, y, 0, None)

    def share(unit: Operand) -> None:
        size = t.head[{COLUMNS: "columns", ROWS: "rows", HALVES: "length"}[part]]
        block = HALVES_BLOCK if part == HALVES else group
        count = b.ceil_div(size, block)
        here, there = t.offsets(b.div(unit, count), "src", "out")
        x, y = t.at(src, here), t.at(out, there)
        begin = b.mul(b.rem(unit, count), block)
        if part == HALVES:
            rows.make_half(x, y, begin, b.add(begin, block))
        elif part == COLUMNS:
            rows.covered(size, lambda p: rows.input_columns(x, p, y), begin, b.add(begin, block))
        else:
            rows.covered(size, lambda q: rows.output_rows(x, q, y), begin, b.add(begin, block))

    b.loop("%begin", "%end", 1, whole if part == WHOLE else share)


def block_bytes(t_lanes: int, size: int) -> int:
    """Memory of a block."""
    return 2 * (MOST_BLOCK + 2) * t_lanes * size


def work_bytes(lanes: int, size: int, form: str) -> int:
    """Memory of the numbers of a transform between columns and rows."""
    return (CHIRP_BYTES if form == CHIRPED else WHOLE_BYTES) + 2 * lanes * size
