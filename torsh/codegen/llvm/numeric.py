"""How template kernels hold numbers: a storage type in memory, and the type that they compute with."""
from __future__ import annotations

from dataclasses import dataclass, replace

from torsh.codegen.llvm.template_builder import Builder, Operand, mangled

_TYPES: dict[str, tuple[str, str]] = {   # dtype name: (in memory, computed with)
    "float32": ("float", "float"), "float64": ("double", "double"), "float16": ("half", "float"),
    "bfloat16": ("i16", "float"), "int8": ("i8", "i8"), "uint8": ("i8", "i8"), "bool": ("i8", "i8"), "int16": ("i16", "i16"),
    "int32": ("i32", "i32"), "int64": ("i64", "i64"), "complex64": ("i64", "i64"), "complex128": ("i128", "i128")}
_BYTES = {"float": 4, "double": 8, "half": 2, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "i128": 16}


@dataclass(frozen=True, slots=True)
class Numeric:
    """An element type. ``stored``: LLVM type in memory; ``kind``: LLVM type of values. bfloat16 is stored as i16.

    Small integers may be stored for values of a wider type: these are only read.
    """

    name: str
    stored: str
    kind: str
    fused: bool     # the target has fused multiply-add
    rounds: bool = False   # the target has an instruction that rounds to bfloat16
    halves: bool = True    # the target has instructions that convert float16

    @property
    def stored_bytes(self) -> int:
        """Bytes of an element in memory."""
        return _BYTES[self.stored]

    @property
    def kind_bytes(self) -> int:
        """Bytes of a value."""
        return _BYTES[self.kind]

    @property
    def is_float(self) -> bool:
        """True for floating-point values."""
        return self.kind in ("float", "double")

    @property
    def signed(self) -> bool:
        """Whether integers are signed."""
        return self.name not in ("uint8", "bool")

    @property
    def converts(self) -> bool:
        """True if memory and values differ in type."""
        return self.stored != self.kind

    @property
    def zero(self) -> str:
        """The constant zero."""
        return "0.0" if self.is_float else "0"

    def vector(self, lanes: int) -> str:
        """The type of ``lanes`` values; of one value if lanes is 0."""
        return f"<{lanes} x {self.kind}>" if lanes else self.kind

    def value(self, b: Builder, raw: str, lanes: int) -> str:
        """What was loaded, as a value."""
        if not self.converts:
            return raw
        if self.stored == "i8":
            cast = ("sitofp" if self.signed else "uitofp") if self.is_float else "sext" if self.signed else "zext"
            return b(f"{cast} {shaped(self.stored, lanes)} {raw} to {shaped(self.kind, lanes)}")
        if self.stored == "half" and not self.halves:
            return widen_half(b, raw, lanes)
        return widen(b, self.stored, self.kind, raw, lanes)

    def raw(self, b: Builder, value: str, lanes: int) -> str:
        """A value, as it is stored: rounded to nearest even."""
        if not self.converts:
            return value
        if self.stored == "i16" and self.rounds:
            rounded = b(f"fptrunc {self.vector(lanes)} {value} to {shaped('bfloat', lanes)}")
            return b(f"bitcast {shaped('bfloat', lanes)} {rounded} to {shaped('i16', lanes)}")
        if self.stored == "i16":
            return round_bfloat16(b, value, lanes)
        return b(f"fptrunc {self.vector(lanes)} {value} to {shaped(self.stored, lanes)}")

    def load(self, b: Builder, pointer: Operand, lanes: int = 0) -> str:
        """Load ``lanes`` values, or one value (lanes 0)."""
        return self.value(b, b.load(shaped(self.stored, lanes), pointer, self._align(lanes)), lanes)

    def store(self, b: Builder, value: str, pointer: Operand, lanes: int = 0) -> None:
        """Store ``lanes`` values, or one."""
        b.store(shaped(self.stored, lanes), self.raw(b, value, lanes), pointer, self._align(lanes))

    def _align(self, lanes: int) -> int:
        return min(self.stored_bytes, 8)

    def load_masked(self, b: Builder, pointer: Operand, lanes: int, mask: str) -> str:
        """Load the lanes of the mask, zeros elsewhere."""
        return self.value(b, b.masked_load(self.stored, lanes, pointer, mask), lanes)

    def store_masked(self, b: Builder, value: str, pointer: Operand, lanes: int, mask: str) -> None:
        """Store the lanes of the mask."""
        b.masked_store(self.stored, lanes, self.raw(b, value, lanes), pointer, mask)

    def add(self, b: Builder, x: str, y: str, lanes: int) -> str:
        """x + y."""
        return b(f"{'fadd' if self.is_float else 'add'} {self.vector(lanes)} {x}, {y}")

    def multiply_add(self, b: Builder, x: str, y: str, z: str, lanes: int) -> str:
        """x * y + z, rounded once where the target can."""
        vector = self.vector(lanes)
        if not self.is_float:
            return b(f"add {vector} {b(f'mul {vector} {x}, {y}')}, {z}")
        if not self.fused:
            return b(f"fadd {vector} {b(f'fmul {vector} {x}, {y}')}, {z}")
        name = f"@llvm.fma.{f'v{lanes}' if lanes else ''}{mangled(self.kind)}"
        b.module.declare(f"{vector} {name}({vector}, {vector}, {vector})")
        return b(f"call {vector} {name}({vector} {x}, {vector} {y}, {vector} {z})")


def shaped(kind: str, lanes: int) -> str:
    """``kind``, or a vector of it."""
    return f"<{lanes} x {kind}>" if lanes else kind


def widen(b: Builder, stored: str, kind: str, raw: str, lanes: int) -> str:
    """A narrow float as a wider one (bfloat16 comes as i16)."""
    if stored != "i16":
        return b(f"fpext {shaped(stored, lanes)} {raw} to {shaped(kind, lanes)}")
    wide = b(f"zext {shaped('i16', lanes)} {raw} to {shaped('i32', lanes)}")
    sixteen = "16" if not lanes else "<" + ", ".join(["i32 16"] * lanes) + ">"
    bits = b(f"shl {shaped('i32', lanes)} {wide}, {sixteen}")
    return b(f"bitcast {shaped('i32', lanes)} {bits} to {shaped(kind, lanes)}")


def widen_half(b: Builder, raw: str, lanes: int) -> str:
    """float16 -> float with integers: the exponent is adjusted by a product, which is exact for subnormal numbers too."""
    integer, floats = shaped("i32", lanes), shaped("float", lanes)

    def constant(number: int) -> str:
        return str(number) if not lanes else "<" + ", ".join([f"i32 {number}"] * lanes) + ">"

    bits = b(f"bitcast {shaped('half', lanes)} {raw} to {shaped('i16', lanes)}")
    wide = b(f"zext {shaped('i16', lanes)} {bits} to {integer}")
    sign = b(f"shl {integer} {b(f'and {integer} {wide}, {constant(0x8000)}')}, {constant(16)}")
    size = b(f"shl {integer} {b(f'and {integer} {wide}, {constant(0x7FFF)}')}, {constant(13)}")
    factor = b(f"bitcast {integer} {constant((127 + 112) << 23)} to {floats}")
    small = b(f"bitcast {integer} {size} to {floats}")
    finite = b(f"bitcast {floats} {b(f'fmul {floats} {small}, {factor}')} to {integer}")
    special = b(f"icmp uge {integer} {size}, {constant(0x1F << 23)}")
    infinite = b(f"or {integer} {size}, {constant(0x7F800000)}")
    chosen = b(f"select {shaped('i1', lanes)} {special}, {integer} {infinite}, {integer} {finite}")
    return b(f"bitcast {integer} {b(f'or {integer} {chosen}, {sign}')} to {floats}")


def round_bfloat16(b: Builder, value: str, lanes: int) -> str:
    """float -> the bits of the nearest bfloat16, ties to even; NaN stays NaN."""
    integer = shaped("i32", lanes)

    def constant(number: int) -> str:
        return str(number) if not lanes else "<" + ", ".join([f"i32 {number}"] * lanes) + ">"

    bits = b(f"bitcast {shaped('float', lanes)} {value} to {integer}")
    odd = b(f"and {integer} {b(f'lshr {integer} {bits}, {constant(16)}')}, {constant(1)}")
    up = b(f"add {integer} {b(f'add {integer} {bits}, {odd}')}, {constant(0x7FFF)}")
    quiet = b(f"or {integer} {bits}, {constant(0x400000)}")
    nan = b(f"fcmp uno {shaped('float', lanes)} {value}, {value}")
    chosen = b(f"select {shaped('i1', lanes)} {nan}, {integer} {quiet}, {integer} {up}")
    return b(f"trunc {integer} {b(f'lshr {integer} {chosen}, {constant(16)}')} to {shaped('i16', lanes)}")


def numeric(dtype_name: str, fused: bool) -> Numeric:
    """The element type of a dtype."""
    stored, kind = _TYPES[dtype_name]
    return Numeric(dtype_name, stored, kind, fused)


def stored_as(dtype_name: str, number: Numeric) -> Numeric:
    """The element type of memory of a dtype whose values are computed with as those of ``number``."""
    return replace(number, name=dtype_name, stored=_TYPES[dtype_name][0])


def identity(number: Numeric, kind: str, lanes: int) -> str:
    """The value that leaves others unchanged under ``kind`` ("sum", "prod", "max", "min"), as a constant."""
    if kind == "sum":
        one = number.zero
    elif kind == "prod":
        one = "1.0" if number.is_float else "1"
    elif number.is_float:
        bits = 0xFFF0000000000000 if kind == "max" else 0x7FF0000000000000   # infinities; also how LLVM writes a float
        one = f"0x{bits:016X}"
    else:
        width = 8 * number.kind_bytes
        low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if number.signed else (0, (1 << width) - 1)
        one = str(low if kind == "max" else high)
    return "<" + ", ".join([f"{number.kind} {one}"] * lanes) + ">" if lanes else one


def combine(b: Builder, number: Numeric, kind: str, old: str, new: str, lanes: int) -> str:
    """Two values under ``kind``. max and min propagate NaN; for bool, sum and max are "or", prod and min are "and"."""
    vector = number.vector(lanes)
    if number.name == "bool":
        return b(f"{'or' if kind in ('sum', 'max') else 'and'} {vector} {old}, {new}")
    if kind in ("sum", "prod"):
        operation = {"sum": "add", "prod": "mul"}[kind]
        return b(f"{'f' if number.is_float else ''}{operation} {vector} {old}, {new}")
    condition = shaped("i1", lanes)
    if number.is_float:
        beats = b(f"fcmp {'ogt' if kind == 'max' else 'olt'} {vector} {new}, {old}")
        takes = b(f"or {condition} {beats}, {b(f'fcmp uno {vector} {new}, {new}')}")
    else:
        sign = "s" if number.signed else "u"
        takes = b(f"icmp {sign}{'gt' if kind == 'max' else 'lt'} {vector} {new}, {old}")
    return b(f"select {condition} {takes}, {vector} {new}, {vector} {old}")
