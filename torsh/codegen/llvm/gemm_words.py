"""Words of several elements along k, and the instructions that multiply them and add their products to a sum."""
from __future__ import annotations

from typing import Final

from torsh.codegen.llvm.gemm_shape import Shape, Word
from torsh.codegen.llvm.numeric import Numeric, shaped
from torsh.codegen.llvm.template_builder import Builder

HIGH_BITS: Final = -0x7F7F7F80      # a word of the highest bit of each byte, that is 128 as an unsigned number


def word_element(b: Builder, number: Numeric, word: Word, raw: str, lanes: int) -> str:
    """What was loaded, as elements of words."""
    if number.stored == word.element:
        return raw
    extend = "sext" if number.signed else "zext"
    return b(f"{extend} {shaped(number.stored, lanes)} {raw} to {shaped(word.element, lanes)}")


def multiply_add(b: Builder, shape: Shape, word: Word | None, left: str, right: str, total: str) -> str:
    """left * right + total; of words, the products of all elements are added."""
    if word is None:
        return shape.values.multiply_add(b, left, right, total, shape.lanes)
    lanes, name = shape.lanes, f"@llvm.{word.instruction}"
    sums, elements = shape.values.vector(lanes), f"<{word.size * lanes} x {word.operand}>"
    left, right = (b(f"bitcast <{lanes} x i32> {value} to {elements}") for value in (left, right))
    given = ([(sums, total)] if word.adds else []) + [(elements, left), (elements, right)]
    b.module.declare(f"{sums} {name}({', '.join(kind for kind, _ in given)})")
    product = b(f"call {sums} {name}({', '.join(f'{kind} {value}' for kind, value in given)})")
    return product if word.adds else shape.values.add(b, product, total, lanes)
