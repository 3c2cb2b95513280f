"""Blocking of matrix products for a target and an element type, and the argument lists that their functions share."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from torsh.codegen.llvm.numeric import Numeric, numeric, stored_as
from torsh.codegen.llvm.template_builder import Operand

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

# c[m, n] = a[m, k] @ b[k, n], plus init (its rows ``ldi`` apart) if has_init; c and init have contiguous rows of the
# computing type, a and b any strides and the type in memory; work: memory for packed panels.
COMPUTE = ("ptr a", "i64 a_row", "i64 a_column", "ptr b", "i64 b_row", "i64 b_column", "ptr c", "i64 ldc", "ptr init",
           "i64 ldi", "i1 has_init", "i64 m", "i64 n", "i64 k", "ptr work")
# c[m, n] = from (+ bias) (+ c), rounded to c's type; any strides of c and bias.
MERGE = ("ptr from", "ptr c", "i64 c_row", "i64 c_column", "ptr bias", "i64 bias_row", "i64 bias_column", "i1 has_bias",
         "i1 accumulate", "i64 m", "i64 n", "i64 ldf")


@dataclass(frozen=True, slots=True)
class Word:
    """32 bits of a packed panel that hold several elements along k, whose products one instruction adds to a sum."""

    size: int            # elements
    element: str         # LLVM type of an element's bits
    operand: str         # LLVM type of an element in the instruction
    instruction: str
    adds: bool = True    # the instruction adds to the sum, too
    offset: bool = False # left elements are unsigned: 128 is added to them, and subtracted from the result again

    @property
    def bits(self) -> int:
        """Bits of an element."""
        return 32 // self.size


@dataclass(frozen=True, slots=True)
class Shape:
    """Register and cache blocking for a target and an element type."""

    number: Numeric      # of c
    lanes: int
    rows: int            # rows of a register tile
    vectors: int         # columns of a register tile, in vectors
    depth: int           # k of a packed panel (words of it, if they hold several elements)
    packed_columns: int  # columns of b that are packed at a time, for the second-level cache
    dot_rows: int
    dot_columns: int
    masks: bool          # loads and stores under a mask cost no more than others
    local_rows: int      # rows of a block on the stack
    paired: bool = False # bfloat16 with an instruction that adds two products: panels hold pairs along k
    operands: tuple[Numeric, Numeric] | None = None   # a and b as they are in memory, if not as c
    integers: tuple[Word, Word] | None = None         # small integers summed as int32: words of panels, of dot products

    @property
    def values(self) -> Numeric:
        """The computing type as it lies in packed panels, blocks on the stack and (unless converted) in c."""
        return Numeric(self.number.name, self.number.kind, self.number.kind, self.number.fused)

    @property
    def left(self) -> Numeric:
        """Elements of a."""
        return self.operands[0] if self.operands else self.number

    @property
    def right(self) -> Numeric:
        """Elements of b."""
        return self.operands[1] if self.operands else self.number

    @property
    def word(self) -> Word | None:
        """What a word of a packed panel holds; None: one value."""
        return PAIRS if self.paired else self.integers[0] if self.integers else None

    @property
    def dot_word(self) -> Word | None:
        """What the dot products of rows that lie along k multiply at a time; None: one value."""
        return PAIRS if self.paired else self.integers[1] if self.integers else None

    @property
    def most_dot_rows(self) -> int:
        """Rows up to which dot products of what lies along k are better than packing it."""
        return 16 if self.word != self.dot_word else 64

    @property
    def columns(self) -> int:
        """Columns of a register tile."""
        return self.lanes * self.vectors

    @property
    def row_width(self) -> int:
        """Elements per k of a packed panel of a: the rows, rounded up to whole vectors."""
        return -(-self.rows // self.lanes) * self.lanes

    @property
    def panel_head(self) -> int:
        """Values in front of a packed panel of b: what its sums start with, where left elements have an offset."""
        return self.columns if self.word and self.word.offset else 0

    @property
    def work_bytes(self) -> int:
        """Memory for packed panels."""
        panels = self.packed_columns + self.columns
        return ((self.row_width + panels) * self.depth + panels // self.columns * self.panel_head) * self.number.kind_bytes + 64


LOCAL_COLUMNS: Final = 256      # columns of a block on the stack
PAIRS: Final = Word(2, "i16", "bfloat", "x86.avx512bf16.dpbf16ps.512")
_BYTES: Final = ("int8", "uint8")


def shape_for(dtype_name: str, target: Target, left: str = "", right: str = "") -> Shape:
    """The blocking for a dtype on a target; left, right: dtypes of the operands in memory, if not the same."""
    arm = target.triple.startswith(("aarch64", "arm64"))
    fused = arm or "+fma" in target.features or target.has_avx512
    halves = arm or target.has_avx512 or "+f16c" in target.features
    number = replace(numeric(dtype_name, fused), halves=halves)
    lanes = target.lanes(number.kind_bytes)
    wide_file = arm or target.has_avx512     # 32 vector registers
    # Panels of b take 200 KiB (small second-level caches) to 400 KiB; all memory of an invocation is on the stack.
    depth, packed = (192, 512 if wide_file else 256) if number.kind_bytes <= 4 else (128, 384 if wide_file else 192)
    local_rows = 252 if number.kind_bytes <= 4 else 28
    if number.converts:                      # blocks of c are on the stack, with few columns
        depth, packed, local_rows = 256, LOCAL_COLUMNS, 504
    operands = None
    if (left or dtype_name, right or dtype_name) != (dtype_name, dtype_name):
        operands = stored_as(left or dtype_name, number), stored_as(right or dtype_name, number)
    integers = _integer_words(target, left, right) if dtype_name == "int32" and left in _BYTES and right in _BYTES else None
    if not number.is_float and integers is None:
        return Shape(number, lanes, 4, 2, depth, packed, 2, 2, target.has_avx512, local_rows, operands=operands)
    rows, vectors = (14, 2) if target.has_avx512 else (8, 3) if arm else (6, 2)
    dot_rows, dot_columns = (4, 6) if wide_file else (3, 4)
    # Two products per instruction: up to twice as fast on AMD (Zen 4, Zen 5), slower than two plain ones on Intel.
    adds_pairs = target.has_avx512 and "+avx512bf16" in target.features and target.cpu.startswith("znver")
    paired = dtype_name == "bfloat16" and adds_pairs
    number = replace(number, rounds=paired)
    return Shape(number, lanes, rows, vectors, depth, packed, dot_rows, dot_columns, target.has_avx512, local_rows, paired,
                 operands, integers)


def _integer_words(target: Target, left: str, right: str) -> tuple[Word, Word] | None:
    """How bytes are multiplied and summed as int32: in panels, and in dot products; None: one by one."""
    width = 32 * target.lanes(4)
    if not target.triple.startswith(("x86", "i686", "amd64")):
        return None
    dot_bytes = "+avx512vnni" in target.features and width == 512 or "+avxvnni" in target.features and width == 256
    if dot_bytes:
        pairs_of_words = Word(2, "i16", "i16", f"x86.avx512.vpdpwssd.{width}")
    else:
        name = {512: "x86.avx512.pmaddw.d.512", 256: "x86.avx2.pmadd.wd", 128: "x86.sse2.pmadd.wd"}[width]
        pairs_of_words = Word(2, "i16", "i16", name, adds=False)
    quads = Word(4, "i8", "i8", f"x86.avx512.vpdpbusd.{width}", offset=left == "int8")   # unsigned times signed bytes
    return (quads if dot_bytes and right == "int8" else pairs_of_words), pairs_of_words


def arguments(names: Sequence[str]) -> str:
    """An argument list as LLVM text."""
    return ", ".join(" %".join(name.split()) for name in names)


def pairs(names: Sequence[str], values: Sequence[Operand]) -> list[tuple[str, Operand]]:
    """(type, value) of a call, given the argument list."""
    return [(name.split()[0], value) for name, value in zip(names, values, strict=True)]
