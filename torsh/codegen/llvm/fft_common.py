"""What the templates of Fourier transforms share: the words of a call, the plans of its table, and how numbers get in and out."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torsh.codegen.llvm.copy_templates import offset_of, unravel
from torsh.codegen.llvm.fft_passes import PASS, Complex, Pair
from torsh.codegen.llvm.template_builder import Builder, Operand
from torsh.compiler.fft import BATCH, FOURIER_PARAMETERS, HEAD, PLAN, PLAN_WORDS
from torsh.ops.fourier_primitives import FROM_HALF, FROM_REAL, TO_HALF

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

PASSES = "fourier_passes"      # name of the library


@dataclass(slots=True)
class Transform:
    """A template of transforms under construction.

    paired: are pairs of real numbers taken for complex ones? factor, sign, interior: what results are multiplied with, what
    imaginary parts are, and what numbers are that stand for two.
    """

    c: Complex
    kind: str
    paired: bool
    word: dict[str, str]
    table: str
    head: dict[str, str]
    factor: str
    sign: str
    interior: str

    @property
    def b(self) -> Builder:
        """The builder."""
        return self.c.b

    @property
    def lanes(self) -> int:
        """Numbers in a vector."""
        return self.c.lanes

    @property
    def real(self) -> str:
        """LLVM type of a real number."""
        return self.c.number.kind

    @property
    def size(self) -> int:
        """Bytes of a real number."""
        return self.c.number.kind_bytes

    @property
    def length(self) -> str:
        """Of the complex transform."""
        return self.head["length"]

    @property
    def reads_real(self) -> bool:
        """Is the input real?"""
        return self.kind in (TO_HALF, FROM_REAL)

    @property
    def widens(self) -> bool:
        """Do real numbers become complex ones without an imaginary part?"""
        return self.reads_real and not self.paired

    @property
    def makes_half(self) -> bool:
        """Is half a spectrum made of the transform of pairs?"""
        return self.reads_real and self.paired

    # ---- memory --------------------------------------------------------------------------------------------------------

    def at(self, pointer: Operand, place: Operand) -> str:
        """The address of a real number."""
        return self.b.at(pointer, place, self.real)

    def read(self, pointer: Operand) -> str:
        """A vector."""
        return self.b.load(self.c.vector, pointer, self.size)

    def write(self, vector: str, pointer: Operand) -> None:
        """Store a vector."""
        self.b.store(self.c.vector, vector, pointer, self.size)

    def one(self, pointer: Operand) -> str:
        """A single real number."""
        return self.b.load(self.real, pointer, self.size)

    def put_one(self, value: Operand, pointer: Operand) -> None:
        """Store a single real number."""
        self.b.store(self.real, value, pointer, self.size)

    def scalar(self, vector: str) -> str:
        """The first lane."""
        return self.b(f"extractelement {self.c.vector} {vector}, i64 0")

    def apart(self, pointer: Operand, backwards: bool = False) -> Pair:
        """Neighbouring complex numbers: real parts and imaginary parts; the last one first, if backwards."""
        low, high = self.read(pointer), self.read(self.at(pointer, self.lanes))
        order = range(2 * self.lanes - 2, -1, -2) if backwards else range(0, 2 * self.lanes, 2)
        re, im = [self.b.shuffle(self.real, self.lanes, low, high, [k + part for k in order]) for part in (0, 1)]
        return re, im

    def together(self, x: Pair, pointer: Operand) -> None:
        """Store complex numbers beside each other."""
        order = [k + part * self.lanes for k in range(self.lanes) for part in (0, 1)]
        for half in range(2):
            picks = order[half * self.lanes:(half + 1) * self.lanes]
            self.write(self.b.shuffle(self.real, self.lanes, x[0], x[1], picks), self.at(pointer, half * self.lanes))

    def offsets(self, item: Operand, *operands: str) -> list[Operand]:
        """Where an item begins in operands, in real numbers."""
        b, extents = self.b, [self.word[f"extents{d}"] for d in range(BATCH)]
        strides = [[self.word[f"{name}_strides{d}"] for d in range(BATCH)] for name in operands]

        def several() -> list[Operand]:
            return [offset_of(b, unravel(b, item, extents), s) for s in strides]

        # Divisions take long.
        one = b.equal(self.word["items"], extents[-1])
        return list(b.when(one, lambda: [b.mul(item, s[-1]) for s in strides], several, ["i64"] * len(operands)))

    # ---- blocks --------------------------------------------------------------------------------------------------------
    # A block holds a number's real parts, then its imaginary parts, in all lanes; then the next number.

    def number_at(self, block: Operand, place: Operand) -> str:
        """The address of a number of a block."""
        return self.at(block, self.b.mul(place, 2 * self.lanes))

    def turned(self, block: Operand, inverse: Operand | None = None) -> tuple[str, Operand]:
        """(where the first number begins, how far imaginary parts are behind): the other way round in inverse transforms."""
        shift = self.b.mul(self.word["inverse"] if inverse is None else inverse, self.lanes)
        return self.at(block, shift), self.b.sub(self.lanes, self.b.mul(shift, 2))

    def run_plan(self, which: int, src: Operand, step: Operand, imaginary: Operand, blocks: Sequence[str]) -> str:
        """Transform numbers: through the first of two blocks, and the second one, and so on; where the results are."""
        b, start = self.b, PLAN + which * PLAN_WORDS

        def one(i: str, x: str, x_step: str, x_imaginary: str, to: str, other: str) -> Sequence[Operand]:
            words = b.at(self.table, b.add(b.mul(i, 5), start + 1), "i64")
            function, radix, columns, done, where = [b.load("i64", b.at(words, k, "i64"), 8) for k in range(5)]
            address = b.load("ptr", b.at(f"@{PASSES}", function, "ptr"), 8)
            values = (x, x_step, x_imaginary, to, 2 * self.lanes, self.lanes, columns, done, b.at(self.table, where, "i8"), radix)
            arguments = ", ".join(f"{name.split()[0]} {value}" for name, value in zip(PASS, values, strict=True))
            b.do(f"call void {address}({arguments})")
            return to, str(2 * self.lanes), str(self.lanes), other, to

        count = b.load("i64", b.at(self.table, start, "i64"), 8)
        kinds = ("ptr", "i64", "i64", "ptr", "ptr")
        carried = list(zip(kinds, (src, step, imaginary, *blocks), strict=True))
        return b.loop(0, count, 1, one, carried)[0]

    # ---- halves of spectra ---------------------------------------------------------------------------------------------

    def half_of(self, x: Pair, opposite: Pair, cosine: str, sine: str) -> Pair:
        """Numbers of a spectrum (twice as large), from those of the transform of pairs."""
        c = self.c
        total = c.plus(x[0], opposite[0]), c.minus(x[1], opposite[1])
        rest = c.minus(x[0], opposite[0]), c.plus(x[1], opposite[1])
        re = c.multiply_add(c.negative(sine), rest[0], c.multiply_add(cosine, rest[1], total[0]))
        im = c.multiply_add(c.negative(sine), rest[1], c.multiply_add(c.negative(cosine), rest[0], total[1]))
        return re, im

    def pairs_of(self, x: Pair, opposite: Pair, cosine: str, sine: str) -> Pair:
        """Numbers whose inverse transform are pairs of real numbers, from those of half a spectrum."""
        c, flipped = self.c, self.c.times(self.interior, self.sign)
        re, im = c.times(x[0], self.interior), c.times(x[1], flipped)
        other_re, other_im = c.times(opposite[0], self.interior), c.times(opposite[1], flipped)
        total, rest = (c.plus(re, other_re), c.minus(im, other_im)), (c.minus(re, other_re), c.plus(im, other_im))
        return (c.multiply_add(c.negative(sine), rest[0], c.multiply_add(c.negative(cosine), rest[1], total[0])),
                c.multiply_add(c.negative(sine), rest[1], c.multiply_add(cosine, rest[0], total[1])))


def begin(b: Builder, number: object, target: Target, kind: str, paired: bool) -> Transform:
    """Read the words of the call."""
    c = Complex(b, number, target.lanes(number.kind_bytes))  # type: ignore[arg-type, attr-defined]
    word = b.words(FOURIER_PARAMETERS)
    table = b.buffer(word["table"], 0)
    head = {name: b.load("i64", b.at(table, k, "i64"), 8) for k, name in enumerate(HEAD)}
    real = c.number.kind
    n = b(f"sitofp i64 {word['n']} to double")
    b.module.declare("double @llvm.sqrt.f64(double)")
    root = b(f"call double @llvm.sqrt.f64(double {n})")
    divisor = b.select(b.equal(word["scale"], 0), "1.0", b.select(b.equal(word["scale"], 1), root, n, "double"), "double")
    scale = b(f"fdiv double {'0.5' if kind != FROM_HALF and paired else '1.0'}, {divisor}")
    sign = b.select(b.equal(word["conjugate"], 0), "1.0", "-1.0", "double")
    interior = b.select(b.equal(word["adjoint"], 0), "1.0", "2.0" if kind == TO_HALF else "0.5", "double")
    vectors = []
    for value in (scale, sign, interior):
        value = b(f"fptrunc double {value} to float") if real == "float" else value
        vectors.append(b.splat(real, c.lanes, value))
    return Transform(c, kind, paired, word, table, head, *vectors)
