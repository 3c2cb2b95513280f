"""Writes one LLVM function as text, placing every computation at the outermost scope at which its operands are known.

No LLVM optimisation runs over the text, so hoisting and merging of common subexpressions happen here: a :class:`Scope` is
the body of a loop, and :meth:`Writer.pure` appends an instruction to the scope of its deepest operand. While a loop is open
its text is kept apart, and what is hoisted lands in front of it. Instructions that are equal as text are one instruction.
"""
from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, TypeVar

FLOATS: Final = ("float", "double")
Result = TypeVar("Result")
_MANGLED: Final = {"float": "f32", "double": "f64", "half": "f16"}
Number: TypeAlias = "Operand | int | float"


class Operand:
    """An SSA value or a constant: its text, element type, lanes (0: not a vector) and the depth of its scope.

    The Python operators write instructions without any fast-math flag; numbers take the operand's type.
    """

    __slots__ = ("writer", "text", "element", "lanes", "depth", "constant")

    def __init__(self, writer: Writer, text: str, element: str, lanes: int = 0, depth: int = 0,
                 constant: Any = None) -> None:
        self.writer = writer
        self.text = text
        self.element = element
        self.lanes = lanes
        self.depth = depth
        self.constant = constant

    @property
    def type(self) -> str:
        """The LLVM type."""
        return f"<{self.lanes} x {self.element}>" if self.lanes else self.element

    @property
    def is_float(self) -> bool:
        """Whether this is floating point."""
        return self.element in FLOATS

    def __repr__(self) -> str:
        return f"{self.type} {self.text}"

    def __add__(self, other: Number) -> Operand:
        return self.writer.binary("fadd" if self.is_float else "add", self, other)

    def __radd__(self, other: Number) -> Operand:
        return self + other

    def __sub__(self, other: Number) -> Operand:
        return self.writer.binary("fsub" if self.is_float else "sub", self, other)

    def __rsub__(self, other: Number) -> Operand:
        return self.writer.binary("fsub" if self.is_float else "sub", self.writer.like(other, self), self)

    def __mul__(self, other: Number) -> Operand:
        return self.writer.binary("fmul" if self.is_float else "mul", self, other)

    def __rmul__(self, other: Number) -> Operand:
        return self * other

    def __truediv__(self, other: Number) -> Operand:
        return self.writer.binary("fdiv", self, other)

    def __rtruediv__(self, other: Number) -> Operand:
        return self.writer.binary("fdiv", self.writer.like(other, self), self)

    def __and__(self, other: Number) -> Operand:
        return self.writer.binary("and", self, other)

    def __or__(self, other: Number) -> Operand:
        return self.writer.binary("or", self, other)

    def __xor__(self, other: Number) -> Operand:
        return self.writer.binary("xor", self, other)

    def __lshift__(self, other: Number) -> Operand:
        return self.writer.binary("shl", self, other)

    def __rshift__(self, other: Number) -> Operand:
        """Logical shift to the right."""
        return self.writer.binary("lshr", self, other)

    def __neg__(self) -> Operand:
        if self.is_float:
            return self.writer.pure(f"fneg {self.type} {self.text}", (self,), self.element)
        return 0 - self


class Scope:
    """The body of a loop, of a condition, or of the function: its lines so far, and what they compute."""

    __slots__ = ("lines", "memo", "block", "pinned")

    def __init__(self, block: str, pinned: bool) -> None:
        self.lines: list[str] = []
        self.memo: dict[Any, Operand] = {}
        self.block = block          # the block that the next line is in
        self.pinned = pinned        # nothing leaves this scope outwards (the body of a condition)


class Writer:
    """Writes the body of one function; see the module's text. ``fused``: the target has fused
    multiply-add; ``wide``: it is x86 with AVX-512;
    ``half``: it converts float16."""

    def __init__(self, fused: bool = True, wide: bool = False, half: bool = True) -> None:
        self.fused = fused
        self.wide = wide
        self.half = half
        self.count = 0
        self.scopes = [Scope("body", True)]
        self.floor = 0                           # depth of the innermost pinned scope
        self.declarations: dict[str, None] = {}
        self.globals: dict[str, str] = {}

    # ---- constants ---------------------------------------------------------------------------------------------------

    def constant(self, value: Any, element: str, lanes: int = 0) -> Operand:
        """A number of an element type; in all lanes of a vector."""
        text = literal(value, element)
        return Operand(self, f"splat ({element} {text})" if lanes else text, element, lanes, 0, value)

    def like(self, value: Number, other: Operand) -> Operand:
        """``value`` as an operand of the type and lanes of ``other``."""
        if isinstance(value, Operand):
            return self.splat(value, other.lanes) if other.lanes and not value.lanes else value
        return self.constant(value, other.element, other.lanes)

    def lane_numbers(self, element: str, lanes: int) -> Operand:
        """The vector 0, 1, 2 ..."""
        return Operand(self, "<" + ", ".join(f"{element} {k}" for k in range(lanes)) + ">", element, lanes)

    # ---- instructions ------------------------------------------------------------------------------------------------

    def name(self, prefix: str = "%v") -> str:
        """A new name."""
        self.count += 1
        return f"{prefix}{self.count}"

    def pure(self, text: str, operands: Sequence[Operand], element: str, lanes: int | None = None) -> Operand:
        """The value of an instruction without side effects, written where its operands are known."""
        depth = self.floor
        for operand in operands:
            if operand.depth > depth:
                depth = operand.depth
        scope = self.scopes[depth]
        found = scope.memo.get(text)
        if found is not None:
            return found
        for outer in self.scopes[:depth]:       # computed before the condition that pins us began
            found = outer.memo.get(text)
            if found is not None:
                return found
        self.count += 1
        name = f"%v{self.count}"
        scope.lines.append(f"  {name} = {text}")
        result = Operand(self, name, element, operands[0].lanes if lanes is None else lanes, depth)
        scope.memo[text] = result
        return result

    def here(self, text: str, element: str, lanes: int = 0) -> Operand:
        """The value of an instruction that must stay in the current scope and is never merged."""
        name = self.name()
        self.do(f"{name} = {text}")
        return Operand(self, name, element, lanes, len(self.scopes) - 1)

    def do(self, text: str) -> None:
        """An instruction without a value, in the current scope."""
        self.scopes[-1].lines.append("  " + text)

    def declare(self, text: str) -> None:
        """Declare an intrinsic once."""
        self.declarations[f"declare {text}"] = None

    def splat(self, value: Operand, lanes: int) -> Operand:
        """A vector with ``value`` in all lanes."""
        if not lanes or value.lanes:
            return value
        if value.constant is not None:
            return self.constant(value.constant, value.element, lanes)
        vector = f"<{lanes} x {value.element}>"
        one = self.pure(f"insertelement {vector} poison, {value.element} {value.text}, i64 0", (value,), value.element,
                        lanes)
        return self.pure(f"shufflevector {vector} {one.text}, {vector} poison, <{lanes} x i32> zeroinitializer", (one,),
                         value.element, lanes)

    def same(self, *values: Number) -> list[Operand]:
        """Operands with the same number of lanes; numbers take the type of the first operand that is none."""
        model = next(v for v in values if isinstance(v, Operand))
        lanes = max(v.lanes for v in values if isinstance(v, Operand))
        return [self.splat(v, lanes) if isinstance(v, Operand) else self.constant(v, model.element, lanes) for v in values]

    def binary(self, op: str, a: Number, b: Number, flags: str = "") -> Operand:
        """``op a, b`` for an arithmetic instruction; trivial integer operations are folded."""
        x, y = self.same(a, b)
        if not x.is_float and y.constant is not None and not flags:
            if y.constant == 0 and op in ("add", "sub", "or", "xor", "shl", "lshr", "ashr"):
                return x
            if y.constant == 1 and op == "mul":
                return x
        return self.pure(f"{op} {flags}{x.type} {x.text}, {y.text}", (x, y), x.element)

    def shift_arithmetic(self, a: Operand, count: Number) -> Operand:
        """Signed shift to the right."""
        return self.binary("ashr", a, count)

    def compare(self, predicate: str, a: Number, b: Number) -> Operand:
        """``icmp``/``fcmp predicate``: an i1."""
        x, y = self.same(a, b)
        op = "fcmp" if x.is_float else "icmp"
        return self.pure(f"{op} {predicate} {x.type} {x.text}, {y.text}", (x, y), "i1")

    def select(self, condition: Operand, a: Number, b: Number) -> Operand:
        """``a if condition else b`` per lane."""
        lanes = max(v.lanes for v in (condition, a, b) if isinstance(v, Operand))
        x, y = self.same(a, b)
        condition, x, y = (self.splat(v, lanes) for v in (condition, x, y))
        if x.text == y.text:
            return x
        return self.pure(f"select {condition.type} {condition.text}, {x.type} {x.text}, {y.type} {y.text}",
                         (condition, x, y), x.element, lanes)

    def convert(self, op: str, a: Operand, element: str) -> Operand:
        """A conversion instruction (``fpext``, ``sitofp`` ...); nothing if the type is the same."""
        if a.element == element:
            return a
        target = f"<{a.lanes} x {element}>" if a.lanes else element
        return self.pure(f"{op} {a.type} {a.text} to {target}", (a,), element)

    def bits(self, a: Operand) -> Operand:
        """The bits of a float as an integer."""
        return self.convert("bitcast", a, {"float": "i32", "double": "i64"}[a.element])

    def from_bits(self, a: Operand) -> Operand:
        """The float with these bits."""
        return self.convert("bitcast", a, {"i32": "float", "i64": "double"}[a.element])

    def intrinsic(self, name: str, *operands: Operand) -> Operand:
        """``llvm.name`` on operands of one type, giving that type."""
        values = self.same(*operands)
        kind, first = values[0].type, values[0]
        full = f"@llvm.{name}.{mangled(first.element, first.lanes)}"
        self.declare(f"{kind} {full}({', '.join([kind] * len(values))})")
        return self.pure(f"call {kind} {full}({', '.join(f'{kind} {v.text}' for v in values)})", values, first.element)

    def fma(self, a: Number, b: Number, c: Number) -> Operand:
        """a * b + c, rounded once where the target can."""
        x, y, z = self.same(a, b, c)
        return self.intrinsic("fma", x, y, z) if self.fused else x * y + z

    def abs(self, a: Operand) -> Operand:
        """Absolute value of a float."""
        return self.intrinsic("fabs", a)

    def any(self, condition: Operand) -> Operand:
        """Whether any lane is set: an i1."""
        if not condition.lanes:
            return condition
        bits = f"i{condition.lanes}"
        packed = self.pure(f"bitcast {condition.type} {condition.text} to {bits}", (condition,), bits, 0)
        return self.compare("ne", packed, 0)

    def both(self, a: Operand | None, b: Operand | None) -> Operand | None:
        """Both conditions; None is always true."""
        if a is None or b is None:
            return a if b is None else b
        return a & b

    def extract(self, vector: Operand, lane: int) -> Operand:
        """One lane of a vector."""
        return self.pure(f"extractelement {vector.type} {vector.text}, i64 {lane}", (vector,), vector.element, 0)

    def part(self, vector: Operand, upper: bool) -> Operand:
        """The lower or upper half of a vector."""
        lanes = vector.lanes // 2
        picks = ", ".join(f"i32 {k + lanes * upper}" for k in range(lanes))
        if lanes == 1:
            return self.extract(vector, int(upper))
        return self.pure(f"shufflevector {vector.type} {vector.text}, {vector.type} poison, <{lanes} x i32> <{picks}>",
                         (vector,), vector.element, lanes)

    def pick(self, low: Operand, high: Operand, lanes: Sequence[int]) -> Operand:
        """Lanes of two vectors; those of ``high`` count on from the last of ``low``."""
        picks = ", ".join(f"i32 {k}" for k in lanes)
        return self.pure(f"shufflevector {low.type} {low.text}, {high.type} {high.text}, <{len(lanes)} x i32> <{picks}>",
                         (low, high), low.element, len(lanes))

    def reversed(self, vector: Operand) -> Operand:
        """The lanes of a vector in opposite order."""
        picks = ", ".join(f"i32 {k}" for k in reversed(range(vector.lanes)))
        return self.pure(f"shufflevector {vector.type} {vector.text}, {vector.type} poison, <{vector.lanes} x i32> <{picks}>",
                         (vector,), vector.element)

    def joined(self, low: Operand, high: Operand) -> Operand:
        """One vector of the lanes of two."""
        return self.pick(low, high, range(2 * low.lanes))

    # ---- memory ------------------------------------------------------------------------------------------------------

    def at(self, pointer: Operand, index: Operand | int, element: str) -> Operand:
        """The address of element ``index``."""
        if isinstance(index, int):
            index = self.constant(index, "i64")
        if index.constant == 0:
            return pointer
        return self.pure(f"getelementptr {element}, {pointer.type} {pointer.text}, {index.type} {index.text}",
                         (pointer, index), "ptr", max(pointer.lanes, index.lanes))

    def word(self, pointer: Operand, element: str = "i64") -> Operand:
        """The word of 8 bytes at an address that nobody writes to."""
        return self.pure(f"load {element}, ptr {pointer.text}, align 8", (pointer,), element, 0)

    # ---- control flow ------------------------------------------------------------------------------------------------

    def open(self, block: str, pinned: bool) -> Scope:
        """Begin a scope within the current one."""
        scope = Scope(block, pinned)
        self.scopes.append(scope)
        if pinned:
            self.floor = len(self.scopes) - 1
        return scope

    def close(self) -> Scope:
        """End the current scope; its lines are still to be written into the outer one."""
        scope = self.scopes.pop()
        self.floor = max(depth for depth, outer in enumerate(self.scopes) if outer.pinned)
        return scope

    def place(self, block: str) -> None:
        """Start a block in the current scope."""
        self.scopes[-1].lines.append(f"{block}:")
        self.scopes[-1].block = block

    def repeat(self, start: Sequence[Operand], body: Callable[[list[Operand]], tuple[Operand, Sequence[Operand]]],
               guard: Operand | None = None) -> list[Operand]:
        """``do: again, carried = body(carried); while again``, if ``guard`` (None: always); the last carried values."""
        head, end = self.name("loop"), self.name("done")
        outer = self.scopes[-1]
        scope = self.open(head, False)
        depth = len(self.scopes) - 1
        inside = [Operand(self, self.name("%p"), v.element, v.lanes, depth) for v in start]
        again, following = body(inside)
        self.close()
        before = outer.block
        condition = "true" if guard is None else guard.text
        self.do(f"br i1 {condition}, label %{head}, label %{end}")
        outer.lines.append(f"{head}:")
        for phi, first, new in zip(inside, start, following, strict=True):
            self.do(f"{phi.text} = phi {phi.type} [ {first.text}, %{before} ], [ {new.text}, %{scope.block} ]")
        outer.lines += scope.lines
        self.do(f"br i1 {again.text}, label %{head}, label %{end}")
        self.place(end)
        return [self.here(f"phi {v.type} [ {v.text}, %{before} ], [ {new.text}, %{scope.block} ]", v.element, v.lanes)
                for v, new in zip(start, following, strict=True)]

    def loop(self, low: Operand, high: Operand, step: int, body: Callable[[Operand, list[Operand]], Sequence[Operand]],
             carried: Sequence[Operand] = ()) -> list[Operand]:
        """``for i in range(low, high, step): carried = body(i, carried)``; the last carried values."""
        def once(values: list[Operand]) -> tuple[Operand, Sequence[Operand]]:
            fresh = body(values[0], values[1:])
            following = self.here(f"add i64 {values[0].text}, {step}", "i64")
            return self.compare("slt", following, high), [following, *fresh]

        return self.repeat([low, *carried], once, self.compare("slt", low, high))[1:]

    def when(self, condition: Operand, body: Callable[[], Sequence[Operand]], otherwise: Sequence[Operand] = (),
             unlikely: bool = False) -> list[Operand]:
        """``body() if condition else otherwise``."""
        then, end = self.name("then"), self.name("join")
        outer = self.scopes[-1]
        scope = self.open(then, True)
        results = body()
        self.close()
        before = outer.block
        weights = ", !prof !0" if unlikely else ""
        self.do(f"br i1 {condition.text}, label %{then}, label %{end}{weights}")
        outer.lines.append(f"{then}:")
        outer.lines += scope.lines
        self.do(f"br label %{end}")
        self.place(end)
        return [self.here(f"phi {new.type} [ {new.text}, %{scope.block} ], [ {old.text}, %{before} ]", new.element,
                          new.lanes) for new, old in zip(results, otherwise, strict=True)]

    def hoisted(self, depth: int, body: Callable[[], Result]) -> Result:
        """Run ``body`` (which may use control flow) in the scope at ``depth``, or the innermost pinned one."""
        depth = max(depth, self.floor)
        inner = self.scopes[depth + 1:]
        del self.scopes[depth + 1:]
        try:
            return body()
        finally:
            self.scopes += inner

    def render(self, symbol: str, attributes: str) -> str:
        """The text of the function, which does nothing if begin >= end, with its globals and declarations."""
        assert len(self.scopes) == 1
        head = (f"define void @{symbol}(ptr %table, ptr %params, ptr %status, i64 %begin, i64 %end) #0 {{\nentry:\n"
                "  %some = icmp slt i64 %begin, %end\n  br i1 %some, label %body, label %leave\nbody:\n")
        return "\n".join([*self.globals.values(), head + "\n".join(self.scopes[0].lines),
                          "  br label %leave\nleave:\n  ret void\n}", *self.declarations,
                          f"attributes #0 = {{ nounwind {attributes} }}", '!0 = !{!"branch_weights", i32 1, i32 2000}', ""])


def mangled(element: str, lanes: int) -> str:
    """How a type is called in the name of an intrinsic."""
    return f"{f'v{lanes}' if lanes else ''}{_MANGLED.get(element, element)}"


def literal(value: Any, element: str) -> str:
    """A number as LLVM writes it: floats as the bits of a double (rounded to float32 first where that is the type)."""
    if element == "i1":
        return "true" if value else "false"
    if element not in FLOATS:
        width = int(element[1:])
        whole = int(value) & ((1 << width) - 1)
        return str(whole - (1 << width) if whole >> (width - 1) else whole)
    number = float(value)
    if element == "float":
        number = round_to_float32(number)
    return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"


def round_to_float32(number: float) -> float:
    """The nearest float32."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", number))[0])
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")
