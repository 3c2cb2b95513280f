"""Convolutions of bfloat16 by an instruction that adds the products of two pairs: rows of panels become halves of 32-bit words.

Panels are packed as for other elements, as floats, which hold the bits of a bfloat16 in front of zeros; then two rows are joined
to one. Any two elements along k may share a word, as long as they do in both operands; of a word with one element, the other half
is zero in both: products of what is not there with infinity would be NaN.
"""
from __future__ import annotations

from typing import Final

from torsh.codegen.llvm.gemm_shape import Shape, arguments, pairs
from torsh.codegen.llvm.template_builder import Builder, Module, Operand

# to[row] = from[row * step] and (for the first ``both`` ones) from[row * step + apart] as one row of words; ``to`` may be ``from``.
JOIN: Final = ("ptr from", "i64 step", "i64 apart", "ptr to", "i64 count", "i64 both", "i64 width")
HIGH_HALF: Final = -65536


def write_join(module: Module, shape: Shape) -> None:
    """The function ``join``, for panels whose width is a number of whole vectors."""
    lanes = shape.lanes
    vector = f"<{lanes} x i32>"
    b = Builder(module, "join", arguments(JOIN))
    high = b.splat("i32", lanes, HIGH_HALF)
    sixteen = b.splat("i32", lanes, 16)
    apart = b.mul("%apart", "%width")

    def row(number: str) -> None:
        source, to = b.at("%from", b.mul(b.mul(number, "%step"), "%width"), "i32"), b.at("%to", b.mul(number, "%width"), "i32")
        is_pair = b.less(number, "%both")
        kept = b.select(is_pair, high, "zeroinitializer", vector)
        other = b.at(source, b.select(is_pair, apart, 0), "i32")

        def words(column: str) -> None:
            low = b(f"lshr {vector} {b.load(vector, b.at(source, column, 'i32'), 4)}, {sixteen}")
            second = b(f"and {vector} {b.load(vector, b.at(other, column, 'i32'), 4)}, {kept}")
            b.store(vector, b(f"or {vector} {low}, {second}"), b.at(to, column, "i32"), 4)

        b.loop(0, "%width", lanes, words)

    b.loop(0, "%count", 1, row)
    b.finish()


def join_halves(b: Builder, shape: Shape, panel: str, k: Operand, width: int) -> Operand:
    """Join the rows of the second half of a panel to those of the first one, if the target has pairs; returns what k is then."""
    if not shape.word:
        return k
    half = b.ceil_div(k, 2)
    b.call("join", *pairs(JOIN, (panel, 1, half, panel, half, b.sub(k, half), width)))
    return half
