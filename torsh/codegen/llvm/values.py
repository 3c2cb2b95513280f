"""How kernels hold numbers: the element type in memory, in registers, and the conversions between dtypes.

bool is i8 in memory and i1 in registers. float16 and bfloat16 are computed with in float32, and rounded after every
operation, so that results do not depend on what is fused.
"""
from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from torsh.codegen.llvm.math_common import copysign
from torsh.codegen.llvm.writer import Operand, Writer, mangled
from torsh.core.dtype import DType, bfloat16, bool_, float16

REGISTER: Final = {"bool": "i1", "uint8": "i8", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
                   "float16": "float", "bfloat16": "float", "float32": "float", "float64": "double"}
MEMORY: Final = {**REGISTER, "bool": "i8", "float16": "half", "bfloat16": "i16"}
WIDTH: Final = {"i1": 1, "i8": 1, "i16": 2, "half": 2, "i32": 4, "float": 4, "i64": 8, "double": 8, "ptr": 8}


def memory_element(m: Writer, dtype: DType) -> str:
    """LLVM type of an element in memory."""
    return "i16" if dtype is float16 and not m.half else MEMORY[dtype.name]


def is_narrow(dtype: DType) -> bool:
    """Whether values are computed in float32 and rounded."""
    return dtype is float16 or dtype is bfloat16


def constant(m: Writer, value: Any, dtype: DType) -> Operand:
    """A number as a scalar of a dtype."""
    if is_narrow(dtype):
        with np.errstate(all="ignore"):
            value = float(np.asarray(np.float32(value)).astype(dtype.numpy).astype(np.float32))
    elif dtype.category in (0, 1) and isinstance(value, float):
        value = int(value) if math.isfinite(value) else 0
    return m.constant(bool(value) if dtype is bool_ else value, REGISTER[dtype.name])


# ---- memory to registers and back --------------------------------------------------------------------------------------

def from_memory(m: Writer, raw: Operand, dtype: DType) -> Operand:
    """What was loaded, as it is computed with."""
    if dtype is bool_:
        return m.compare("ne", raw, 0)
    if dtype is bfloat16:
        return m.from_bits(m.convert("zext", raw, "i32") << 16)
    if dtype is float16:
        return m.convert("fpext", raw, "float") if m.half else _half_to_float(m, raw)
    return raw


def to_memory(m: Writer, value: Operand, dtype: DType) -> Operand:
    """A value as it is stored; narrow floats have been rounded before."""
    if dtype is bool_:
        return m.convert("zext", value, "i8")
    if dtype is bfloat16:
        return m.convert("trunc", m.bits(value) >> 16, "i16")
    if dtype is float16:
        return m.convert("fptrunc", value, "half") if m.half else _float_to_half(m, value)
    return value


def rounded(m: Writer, value: Operand, dtype: DType) -> Operand:
    """A float32 value rounded to a narrow dtype (to nearest, ties to even), still held as float32."""
    if value.constant is not None:
        return constant(m, value.constant, dtype) if not value.lanes else value
    if dtype is float16:
        if m.half:
            return m.convert("fpext", m.convert("fptrunc", value, "half"), "float")
        return _round_half(m, value)
    return _round_bits(m, value, 16)


def _round_bits(m: Writer, value: Operand, dropped: int) -> Operand:
    """Rounds away the lowest bits of a float32's mantissa; NaN stays NaN."""
    bits = m.bits(value)
    odd = (bits >> dropped) & 1
    up = (bits + odd + ((1 << (dropped - 1)) - 1)) & -(1 << dropped)
    quiet = (bits | 0x400000) & -(1 << dropped)
    return m.from_bits(m.select(m.compare("uno", value, value), quiet, up))


def _round_half(m: Writer, value: Operand) -> Operand:
    """Rounds to float16 without instructions for it."""
    magnitude = m.abs(value)
    small = (magnitude + 0.75) - 0.75                           # multiples of the smallest denormal, 2 ** -24
    normal = _round_bits(m, magnitude, 13)
    normal = m.select(m.compare("oge", normal, 65536.0), math.inf, normal)
    return copysign(m, m.select(m.compare("olt", magnitude, 2.0 ** -14), small, normal), value)


def _float_to_half(m: Writer, value: Operand) -> Operand:
    """The bits of a float32 that float16 can hold exactly."""
    bits = m.bits(value)
    sign = (bits >> 16) & 0x8000
    magnitude = m.abs(value)
    denormal = m.bits(magnitude + 0.5) & 0x7FF                  # counts the smallest denormal, 2 ** -24
    normal = (m.bits(magnitude) - (112 << 23)) >> 13
    special = ((m.bits(magnitude) >> 13) & 0x3FF) | 0x7C00
    result = m.select(m.compare("olt", magnitude, 2.0 ** -14), denormal, normal)
    result = m.select(m.compare("olt", magnitude, 65536.0), result, special)
    return m.convert("trunc", result | sign, "i16")


def _half_to_float(m: Writer, raw: Operand) -> Operand:
    """The float32 of float16 bits."""
    bits = m.convert("zext", raw, "i32")
    shifted = (bits & 0x7FFF) << 13
    scaled = m.from_bits(shifted) * 2.0 ** 112
    special = m.from_bits(shifted | 0x7F800000)
    value = m.select(m.compare("uge", bits & 0x7FFF, 0x7C00), special, scaled)
    return m.from_bits(m.bits(value) | ((bits & 0x8000) << 16))


# ---- casts -------------------------------------------------------------------------------------------------------------

def cast(m: Writer, value: Operand, source: DType, target: DType) -> Operand:
    """A value in another dtype. Floats become integers by truncation; everything but zero becomes True."""
    if source is target:
        return value
    if value.constant is not None and not value.lanes and not _undefined(value.constant, target):
        return constant(m, value.constant, target)
    element = REGISTER[target.name]
    if target is bool_:
        return m.compare("une" if value.is_float else "ne", value, 0)
    if value.is_float:
        if target.is_floating_point:
            return _float_to_float(m, value, target)
        return _float_to_integer(m, value, element)
    signed = source.is_signed and source is not bool_
    if target.is_floating_point:
        wide = m.convert("sitofp" if signed else "uitofp", value, element)
        return rounded(m, wide, target) if is_narrow(target) else wide
    if WIDTH[element] > WIDTH[value.element] or value.element == "i1":
        return m.convert("sext" if signed else "zext", value, element)
    return m.convert("trunc", value, element)


def _undefined(value: Any, target: DType) -> bool:
    """Whether the conversion of a constant is better left to the machine."""
    return isinstance(value, float) and target.is_integer and not abs(value) < 2.0 ** 31


def _float_to_float(m: Writer, value: Operand, target: DType) -> Operand:
    element = REGISTER[target.name]
    if value.element != element:
        value = m.convert("fpext" if element == "double" else "fptrunc", value, element)
    return rounded(m, value, target) if is_narrow(target) else value


def _float_to_integer(m: Writer, value: Operand, element: str) -> Operand:
    if element == "i64":
        return m.convert("fptosi", value, "i64")
    return m.convert("trunc", m.convert("fptosi", value, "i32"), element)


# ---- memory access of vectors ------------------------------------------------------------------------------------------

def load_vector(m: Writer, address: Operand, element: str, lanes: int, mask: Operand | None, pinned: bool) -> Operand:
    """``lanes`` neighbouring elements (zeros outside of the mask). ``pinned``: the memory is written to by this kernel."""
    vector = f"<{lanes} x {element}>"
    if mask is None:
        text = f"load {vector}, ptr {address.text}, align {WIDTH[element]}"
        return m.here(text, element, lanes) if pinned else m.pure(text, (address,), element, lanes)
    name = f"@llvm.masked.load.{mangled(element, lanes)}.p0"
    m.declare(f"{vector} {name}(ptr, i32, <{lanes} x i1>, {vector})")
    text = (f"call {vector} {name}(ptr {address.text}, i32 {WIDTH[element]}, <{lanes} x i1> {mask.text}, "
            f"{vector} zeroinitializer)")
    return m.here(text, element, lanes) if pinned else m.pure(text, (address, mask), element, lanes)


def store_vector(m: Writer, value: Operand, address: Operand, mask: Operand | None) -> None:
    """Store neighbouring elements, those of the mask."""
    size = WIDTH[value.element]
    if mask is None:
        m.do(f"store {value.type} {value.text}, ptr {address.text}, align {size}")
        return
    name = f"@llvm.masked.store.{mangled(value.element, value.lanes)}.p0"
    m.declare(f"void {name}({value.type}, ptr, i32, <{value.lanes} x i1>)")
    m.do(f"call void {name}({value.type} {value.text}, ptr {address.text}, i32 {size}, <{value.lanes} x i1> {mask.text})")


def scatter(m: Writer, value: Operand, addresses: Operand, mask: Operand | None) -> None:
    """Store one element per lane of the mask at addresses of their own."""
    mask = mask or m.constant(True, "i1", value.lanes)
    name = f"@llvm.masked.scatter.{mangled(value.element, value.lanes)}.v{value.lanes}p0"
    m.declare(f"void {name}({value.type}, <{value.lanes} x ptr>, i32, <{value.lanes} x i1>)")
    m.do(f"call void {name}({value.type} {value.text}, <{value.lanes} x ptr> {addresses.text}, i32 {WIDTH[value.element]}, "
         f"<{value.lanes} x i1> {mask.text})")
