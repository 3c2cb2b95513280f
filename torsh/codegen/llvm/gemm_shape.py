"""Blocking of matrix products for a target and an element type, and the argument lists that their functions share."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torsh.codegen.llvm.numeric import Numeric, numeric
from torsh.codegen.llvm.template_builder import Operand

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

# c[m, n] = a[m, k] @ b[k, n], plus init (its rows ``ldi`` apart) if has_init; c and init have contiguous rows of the
# computing type, a and b any strides and the type in memory; work: memory for packed panels.
COMPUTE = ("ptr a", "i64 a_row", "i64 a_column", "ptr b", "i64 b_row", "i64 b_column", "ptr c", "i64 ldc", "ptr init",
           "i64 ldi", "i1 has_init", "i64 m", "i64 n", "i64 k", "ptr work")


@dataclass(frozen=True, slots=True)
class Shape:
    """Register and cache blocking for a target and an element type."""

    number: Numeric
    lanes: int
    rows: int            # rows of a register tile
    vectors: int         # columns of a register tile, in vectors
    depth: int           # k of a packed panel
    packed_columns: int  # columns of b that are packed at a time, for the second-level cache
    dot_rows: int
    dot_columns: int
    masks: bool          # loads and stores under a mask cost no more than others
    local_rows: int      # rows of a block on the stack
    paired: bool = False # bfloat16 with an instruction that adds two products: panels hold pairs along k

    @property
    def values(self) -> Numeric:
        """The computing type as it lies in packed panels, blocks on the stack and (unless converted) in c."""
        return Numeric(self.number.name, self.number.kind, self.number.kind, self.number.fused)

    @property
    def columns(self) -> int:
        """Columns of a register tile."""
        return self.lanes * self.vectors

    @property
    def row_width(self) -> int:
        """Elements per k of a packed panel of a: the rows, rounded up to whole vectors."""
        return -(-self.rows // self.lanes) * self.lanes


def shape_for(dtype_name: str, target: Target) -> Shape:
    """The blocking for a dtype on a target."""
    arm = target.triple.startswith(("aarch64", "arm64"))
    fused = arm or "+fma" in target.features or target.has_avx512
    number = numeric(dtype_name, fused)
    lanes = target.lanes(number.kind_bytes)
    wide_file = arm or target.has_avx512     # 32 vector registers
    # Panels of b take 200 KiB (small second-level caches) to 400 KiB; all memory of an invocation is on the stack.
    depth, packed = (192, 512 if wide_file else 256) if number.kind_bytes <= 4 else (128, 384 if wide_file else 192)
    local_rows = 56 if number.kind_bytes <= 4 else 28
    if not number.is_float:
        return Shape(number, lanes, 4, 2, depth, packed, 2, 2, target.has_avx512, local_rows)
    rows, vectors = (14, 2) if target.has_avx512 else (8, 3) if arm else (6, 2)
    dot_rows, dot_columns = (4, 6) if wide_file else (3, 4)
    # Two products per instruction: up to 1.8 times as fast on AMD (Zen 4), slower than two plain ones on Intel.
    adds_pairs = target.has_avx512 and "+avx512bf16" in target.features and target.cpu.startswith("znver")
    paired = dtype_name == "bfloat16" and adds_pairs
    return Shape(number, lanes, rows, vectors, depth, packed, dot_rows, dot_columns, target.has_avx512, local_rows, paired)


def arguments(names: Sequence[str]) -> str:
    """An argument list as LLVM text."""
    return ", ".join(" %".join(name.split()) for name in names)


def pairs(names: Sequence[str], values: Sequence[Operand]) -> list[tuple[str, Operand]]:
    """(type, value) of a call, given the argument list."""
    return [(name.split()[0], value) for name, value in zip(names, values, strict=True)]
