"""Fourier transforms side by side, one in each lane of vectors, as LLVM text (see ``compiler/fft.py``).

Real numbers are *words*; a block holds a word of all transforms in a vector, so that complex numbers are two words.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torsh.codegen.llvm.fft_common import Transform
from torsh.codegen.llvm.template_builder import Builder, Operand, ignore
from torsh.compiler.fft import CUT
from torsh.ops.fourier_primitives import FROM_HALF, FROM_REAL, TO_HALF


@dataclass(slots=True)
class Lanes:
    """Transforms side by side. sources, targets: memory for the address of each lane's first word; None: lanes are neighbours."""

    t: Transform
    form: str
    blocks: tuple[str, str]
    sources: str = ""
    targets: str = ""

    @property
    def b(self) -> Builder:
        """The builder."""
        return self.t.b

    def half(self) -> Operand:
        """Numbers of half a spectrum."""
        return self.b.add(self.b.div(self.t.word["n"], 2), 1)

    def word_at(self, block: Operand, place: Operand) -> str:
        """The address of a word of a block."""
        return self.t.at(block, self.b.mul(place, self.t.lanes))

    # ---- in and out ----------------------------------------------------------------------------------------------------

    def fetch(self, src: str) -> None:
        """All words of the inputs into the first block; where real numbers are to become complex ones, with zeros between."""
        t, b = self.t, self.b
        given = t.word["given"]
        apart = 2 if t.widens else 1
        count: Operand = given if t.reads_real else b.mul(given, 2)
        to = self.blocks[0]
        if self.sources:
            self._turn_in(count, lambda w: self.word_at(to, b.mul(w, apart)))
        elif t.reads_real:
            def line(w: str) -> None:
                t.write(t.read(t.at(src, b.mul(w, t.word["src_step"]))), self.word_at(to, b.mul(w, apart)))
            b.loop(0, count, 1, line)
        else:
            def lines(j: str) -> None:
                t.c.store(t.apart(t.at(src, b.mul(j, t.word["src_step"]))), t.number_at(to, j), t.lanes)
            b.loop(0, given, 1, lines)
        if apart == 2:
            b.loop(0, count, 1, lambda w: t.write("zeroinitializer", self.word_at(to, b.add(b.mul(w, 2), 1))))
        if self.form == CUT:
            b.loop(b.mul(count, apart), b.mul(t.length, 2), 1, lambda w: t.write("zeroinitializer", self.word_at(to, w)))

    def _squares(self, count: Operand, square: Callable[[Operand], None], word: Callable[[Operand, Operand], None]) -> None:
        """``square`` at the words where squares of vectors begin, which may overlap; ``word`` for each of few, per lane."""
        t, b = self.t, self.b
        last = b.sub(count, t.lanes)

        def few() -> None:
            b.loop(0, count, 1, lambda w: ignore(b.loop(0, t.lanes, 1, lambda lane: word(w, lane))))

        b.when(b.less(last, 0), few, lambda: ignore(b.loop(0, count, t.lanes, lambda w: square(b.min(w, last)))))

    def _address(self, addresses: str, lane: Operand, place: Operand) -> str:
        return self.t.at(self.b.load("ptr", self.b.at(addresses, lane, "ptr"), 8), place)

    def _turn_in(self, count: Operand, to: Callable[[Operand], str]) -> None:
        t, b = self.t, self.b

        def square(w: Operand) -> None:
            lines = [t.read(self._address(self.sources, lane, w)) for lane in range(t.lanes)]
            for i, line in enumerate(b.transpose(t.real, t.size, lines)):
                t.write(line, to(b.add(w, i)))

        self._squares(count, square, lambda w, lane: t.put_one(t.one(self._address(self.sources, lane, w)), t.at(to(w), lane)))

    def put(self, block: str, out: str) -> None:
        """Store the results, of which a block holds the words."""
        t, b, c = self.t, self.b, self.t.c
        real = t.kind == FROM_HALF
        count = t.word["n"] if real else b.mul(self.half() if t.kind == TO_HALF else t.word["n"], 2)
        swap = t.word["inverse"] if not real or t.paired else 0

        def word(w: Operand) -> str:
            """Where a word is: in an inverse transform, imaginary parts come first."""
            return self.word_at(block, b(f"xor i64 {w}, {swap}"))

        if self.targets:
            def square(w: Operand) -> None:
                lines = [c.times(t.read(word(b.add(w, i))), t.factor) for i in range(t.lanes)]
                for lane, line in enumerate(b.transpose(t.real, t.size, lines)):
                    t.write(line, self._address(self.targets, lane, w))

            def single(w: Operand, lane: Operand) -> None:
                value = b(f"fmul {t.real} {t.one(t.at(word(w), lane))}, {t.scalar(t.factor)}")
                t.put_one(value, self._address(self.targets, lane, w))

            self._squares(count, square, single)
        elif real:
            b.loop(0, count, 1, lambda w: t.write(c.times(t.read(word(w)), t.factor), t.at(out, b.mul(w, t.word["out_step"]))))
        else:
            def number(j: str) -> None:
                re, im = [c.times(t.read(word(b.add(b.mul(j, 2), part))), t.factor) for part in (0, 1)]
                t.together((re, im), t.at(out, b.mul(j, t.word["out_step"])))
            b.loop(0, b.div(count, 2), 1, number)

    # ---- transforms ----------------------------------------------------------------------------------------------------

    def transform(self, src: str, out: str) -> None:
        """All of it."""
        t = self.t
        self.fetch(src)
        block, other = self.blocks
        if t.kind == FROM_HALF:
            (self._prepare_pairs if t.paired else self._prepare_whole)(block, other)
            block, other = other, block
        start, imaginary = t.turned(block)
        block = t.run_plan(0, start, 2 * t.lanes, imaginary, (other, block))
        if t.kind == TO_HALF or t.makes_half or (t.kind == FROM_HALF and not t.paired):
            b = self.b
            other = b.select(b(f"icmp eq ptr {block}, {self.blocks[0]}"), self.blocks[1], self.blocks[0], "ptr")
            (self._only_real if t.kind == FROM_HALF else self._make_half if t.paired else self._cut_half)(block, other)
            block = other
        self.put(block, out)

    def _turns(self, k: Operand) -> tuple[str, str]:
        t, b = self.t, self.b
        table = b.at(t.table, t.head["halves"], "i8")
        return t.c.spread(table, k), t.c.spread(table, b.add(k, b.add(t.length, 1)))

    def _each(self, begin: Operand, end: Operand, body: Callable[[Operand], None]) -> None:
        self.b.loop(begin, end, 1, body)

    def _prepare_pairs(self, block: str, to: str) -> None:
        t, b, c = self.t, self.b, self.t.c

        def number(k: Operand) -> None:
            x, y = [c.load(t.number_at(block, place), t.lanes) for place in (k, b.sub(t.length, k))]
            c.store(t.pairs_of(x, y, *self._turns(k)), t.number_at(to, k), t.lanes)

        self._each(1, t.length, number)
        first, last = t.read(block), t.read(t.number_at(block, t.length))
        c.store((c.plus(first, last), c.minus(first, last)), to, t.lanes)

    def _prepare_whole(self, block: str, to: str) -> None:
        t, b, c = self.t, self.b, self.t.c
        flipped = c.times(t.interior, t.sign)

        def number(k: Operand) -> None:
            re, im = c.load(t.number_at(block, k), t.lanes)
            re, im = c.times(re, t.interior), c.times(im, flipped)
            c.store((re, im), t.number_at(to, k), t.lanes)
            c.store((re, c.negative(im)), t.number_at(to, b.sub(t.length, k)), t.lanes)

        self._each(1, self.half(), number)
        c.store((t.read(block), "zeroinitializer"), to, t.lanes)

    def _only_real(self, block: str, to: str) -> None:
        t = self.t
        start, _ = t.turned(block)
        self._each(0, t.length, lambda k: t.write(t.read(t.number_at(start, k)), self.word_at(to, k)))

    def _make_half(self, block: str, to: str) -> None:
        t, b, c = self.t, self.b, self.t.c
        flipped = c.times(t.interior, t.sign)

        def number(k: Operand) -> None:
            x, y = [c.load(t.number_at(block, place), t.lanes) for place in (k, b.sub(t.length, k))]
            re, im = t.half_of(x, y, *self._turns(k))
            re, im = c.times(re, t.interior), c.times(im, flipped)
            c.store((re, im), t.number_at(to, k), t.lanes)
            if t.kind == FROM_REAL:
                c.store((re, c.negative(im)), t.number_at(to, b.sub(t.word["n"], k)), t.lanes)

        self._each(1, t.length, number)
        re, im = c.load(block, t.lanes)
        for total, place in ((c.plus(re, im), 0), (c.minus(re, im), t.length)):
            c.store((c.plus(total, total), "zeroinitializer"), t.number_at(to, place), t.lanes)

    def _cut_half(self, block: str, to: str) -> None:
        t, c = self.t, self.t.c
        flipped = c.times(t.interior, t.sign)

        def number(k: Operand) -> None:
            re, im = c.load(t.number_at(block, k), t.lanes)
            c.store((c.times(re, t.interior), c.times(im, flipped)), t.number_at(to, k), t.lanes)

        self._each(1, self.half(), number)
        re, im = c.load(block, t.lanes)
        c.store((re, c.times(im, t.sign)), to, t.lanes)


def write_lanes(t: Transform, layout: str, form: str, blocks: tuple[str, str], addresses: tuple[str, str]) -> None:
    """The units of a template: groups of as many transforms as the largest vectors have lanes, or fewer at the end."""
    b, group = t.b, 64 // t.size
    out, src = b.buffer(t.word["out_slot"], t.word["out_offset"]), b.buffer(t.word["src_slot"], t.word["src_offset"])
    items, inner = t.word["items"], t.word["inner"]

    def side_by_side(unit: Operand) -> None:
        lanes = Lanes(t, form, blocks, *addresses)

        def some(first: Operand) -> None:
            for lane in range(t.lanes):     # the last one again, if there are no more
                here, there = t.offsets(b.min(b.add(first, lane), b.sub(items, 1)), "src", "out")
                b.store("ptr", t.at(src, here), b.at(addresses[0], lane, "ptr"), 8)
                b.store("ptr", t.at(out, there), b.at(addresses[1], lane, "ptr"), 8)
            lanes.transform(src, out)

        begin = b.mul(unit, group)
        b.loop(begin, b.min(items, b.add(begin, group)), t.lanes, some)

    def neighbours(unit: Operand) -> None:
        count = b.ceil_div(inner, group)
        here, there = t.offsets(b.div(unit, count), "src", "out")
        x, y = t.at(src, here), t.at(out, there)
        begin = b.mul(b.rem(unit, count), group)
        lanes = Lanes(t, form, blocks)

        def some(first: Operand) -> None:
            place = b.min(first, b.sub(inner, t.lanes))
            from_complex = not t.reads_real
            lanes.transform(t.at(x, b.mul(place, 1 + from_complex)), t.at(y, b.mul(place, 1 + (t.kind != FROM_HALF))))

        b.loop(begin, b.min(inner, b.add(begin, group)), t.lanes, some)

    b.loop("%begin", "%end", 1, side_by_side if layout == "lanes" else neighbours)
