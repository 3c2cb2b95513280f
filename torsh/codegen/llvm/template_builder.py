"""A small writer of LLVM text for the template kernels: values, loops, branches and the words of a call.

Operands are strings as they stand in LLVM text (``%t4``, ``0``) or Python integers.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Operand = str | int
Carried = Sequence[tuple[str, Operand]]
ENTRY = "ptr %table, ptr %params, ptr %status, i64 %begin, i64 %end"   # arguments of a kernel
LANE_BYTES = 16   # x86 and ARM shuffle cheapest within 128 bits


@dataclass(slots=True)
class Module:
    """LLVM text under construction: functions, and the declarations that they need.

    tables: functions of libraries, by name: (table, position there). hides_counters: LLVM does not see how loops count. Otherwise it
    spends up to a third of all time on reducing the strength of what is made of counters, which helps loops that do little
    else than compute addresses.
    """

    functions: list[str] = field(default_factory=list)
    declarations: dict[str, None] = field(default_factory=dict)
    tables: dict[str, tuple[str, int]] = field(default_factory=dict)
    hides_counters: bool = True

    def declare(self, text: str) -> None:
        """Declare an intrinsic once."""
        self.declarations[f"declare {text}"] = None

    def render(self) -> str:
        """The text of the module."""
        return "\n".join([*self.declarations, *self.functions]) + "\n"


class Builder:
    """Writes one function. Use :meth:`loop` and :meth:`when` for control flow, calling the builder to compute a value."""

    def __init__(self, module: Module, name: str, arguments: str, internal: bool = True) -> None:
        self.module = module
        linkage = "internal " if internal else ""
        attributes = "noinline nounwind" if internal else "nounwind"
        self.lines = [f"define {linkage}void @{name}({arguments}) {attributes} {{", "entry:"]
        self.count = 0
        self.block = "entry"

    def finish(self) -> None:
        """End the function and hand it to the module."""
        self.lines += ["  ret void", "}"]
        self.module.functions.append("\n".join(self.lines))

    def __call__(self, expression: str) -> str:
        """A new value."""
        self.count += 1
        self.lines.append(f"  %t{self.count} = {expression}")
        return f"%t{self.count}"

    def do(self, statement: str) -> None:
        """An instruction without a value."""
        self.lines.append("  " + statement)

    def label(self) -> str:
        """A new name of a block."""
        self.count += 1
        return f"b{self.count}"

    def place(self, label: str) -> None:
        """Start the block ``label``."""
        self.lines.append(label + ":")
        self.block = label

    # Integer arithmetic (64 bits); Python integers are folded.
    def add(self, a: Operand, b: Operand) -> Operand:
        """a + b."""
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if a == 0 or b == 0:
            return b if a == 0 else a
        return self(f"add i64 {a}, {b}")

    def sub(self, a: Operand, b: Operand) -> Operand:
        """a - b."""
        if isinstance(a, int) and isinstance(b, int):
            return a - b
        return a if b == 0 else self(f"sub i64 {a}, {b}")

    def mul(self, a: Operand, b: Operand) -> Operand:
        """a * b."""
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        if a == 1 or b == 1:
            return b if a == 1 else a
        return 0 if a == 0 or b == 0 else self(f"mul i64 {a}, {b}")

    def div(self, a: Operand, b: Operand) -> Operand:
        """a // b of numbers that are not negative."""
        return a if b == 1 else self(f"udiv i64 {a}, {b}")

    def rem(self, a: Operand, b: Operand) -> Operand:
        """a % b of numbers that are not negative."""
        return 0 if b == 1 else self(f"urem i64 {a}, {b}")

    def ceil_div(self, a: Operand, b: Operand) -> Operand:
        """a / b rounded up, of numbers that are not negative."""
        return self.div(self.add(a, self.sub(b, 1)), b)

    def min(self, a: Operand, b: Operand) -> Operand:
        """The smaller one."""
        return self.select(self.less(a, b), a, b)

    def less(self, a: Operand, b: Operand) -> str:
        """a < b, signed."""
        return self(f"icmp slt i64 {a}, {b}")

    def equal(self, a: Operand, b: Operand) -> str:
        """a == b."""
        return self(f"icmp eq i64 {a}, {b}")

    def both(self, *conditions: str) -> str:
        """All conditions."""
        result = conditions[0]
        for other in conditions[1:]:
            result = self(f"and i1 {result}, {other}")
        return result

    def select(self, condition: str, a: Operand, b: Operand, kind: str = "i64") -> str:
        """a if condition else b."""
        return self(f"select i1 {condition}, {kind} {a}, {kind} {b}")

    # Memory
    def at(self, pointer: Operand, index: Operand, kind: str) -> str:
        """The address of element ``index``."""
        return str(pointer) if index == 0 else self(f"getelementptr {kind}, ptr {pointer}, i64 {index}")

    def load(self, kind: str, pointer: Operand, align: int = 1) -> str:
        """Load one value."""
        return self(f"load {kind}, ptr {pointer}, align {align}")

    def store(self, kind: str, value: Operand, pointer: Operand, align: int = 1) -> None:
        """Store one value."""
        self.do(f"store {kind} {value}, ptr {pointer}, align {align}")

    def stack(self, nbytes: int) -> str:
        """Aligned memory of this invocation. Only in the first block of a function."""
        return self(f"alloca [{nbytes} x i8], align 64")

    # Control flow
    def loop(self, low: Operand, high: Operand, step: Operand, body: Callable[..., Sequence[Operand] | None],
             carried: Carried = ()) -> list[str]:
        """``for i in range(low, high, step): carried = body(i, *carried)``; returns the last carried values."""
        before, head, end = self.block, self.label(), self.label()
        self.do(f"br i1 {self.less(low, high)}, label %{head}, label %{end}")
        self.place(head)
        counter = f"%i{self.count}"
        values = [f"%p{self.count}.{number}" for number in range(len(carried))]
        position = len(self.lines)
        fresh = list(body(counter, *values) or ())
        hides = self.module.hides_counters and any(counter in line for line in self.lines[position:])
        following = self.add(counter, step)
        self.do(f"br i1 {self.less(following, high)}, label %{head}, label %{end}")
        name = f"{counter}.0" if hides else counter
        phis = [f"  {name} = phi i64 [ {low}, %{before} ], [ {following}, %{self.block} ]"]
        for value, (kind, start), new in zip(values, carried, fresh, strict=True):
            phis.append(f"  {value} = phi {kind} [ {start}, %{before} ], [ {new}, %{self.block} ]")
        if hides:
            phis.append(f'  {counter} = call i64 asm "", "=r,0"(i64 {name})')
        self.lines[position:position] = phis
        last = self.block
        self.place(end)
        return [self(f"phi {kind} [ {start}, %{before} ], [ {new}, %{last} ]")
                for (kind, start), new in zip(carried, fresh, strict=True)]

    def advance(self, low: Operand, high: Operand, body: Callable[..., Sequence[Operand]], carried: Carried = ()) -> list[str]:
        """``at = low; while at < high: at, carried = body(at, *carried)``; returns the last carried values."""
        before, head, inside, end = self.block, self.label(), self.label(), self.label()
        self.do(f"br label %{head}")
        self.place(head)
        at, values = f"%at.{head}", [f"%value{number}.{head}" for number in range(len(carried))]
        position = len(self.lines)
        self.do(f"br i1 {self.less(at, high)}, label %{inside}, label %{end}")
        self.place(inside)
        following = list(body(at, *values))
        self.do(f"br label %{head}")
        phis = [(at, "i64", low), *[(value, kind, start) for value, (kind, start) in zip(values, carried, strict=True)]]
        self.lines[position:position] = [f"  {value} = phi {kind} [ {start}, %{before} ], [ {new}, %{self.block} ]"
                                         for (value, kind, start), new in zip(phis, following, strict=True)]
        self.place(end)
        return values

    def when(self, condition: str, yes: Callable[[], Sequence[Operand] | None],
             no: Callable[[], Sequence[Operand] | None] | None = None, kinds: Sequence[str] = ()) -> list[str]:
        """``yes() if condition else no()``; both return values of the types ``kinds``."""
        first, second, end = self.label(), self.label(), self.label()
        self.do(f"br i1 {condition}, label %{first}, label %{second}")
        results: list[tuple[list[Operand], str]] = []
        for label, branch in ((first, yes), (second, no)):
            self.place(label)
            values = list((branch() if branch is not None else None) or ())
            self.do(f"br label %{end}")
            results.append((values, self.block))
        self.place(end)
        (a, from_a), (b, from_b) = results
        return [self(f"phi {kind} [ {x}, %{from_a} ], [ {y}, %{from_b} ]") for kind, x, y in zip(kinds, a, b, strict=True)]

    def call(self, name: str, *arguments: tuple[str, Operand]) -> None:
        """Call a function of this module, or of a library."""
        table, position = self.module.tables.get(name, ("", 0))
        function = self.load("ptr", self.at(f"@{table}", position, "ptr"), 8) if table else f"@{name}"
        self.do(f"call void {function}({', '.join(f'{kind} {value}' for kind, value in arguments)})")

    # Words of a call
    def words(self, names: Sequence[str], base: Operand = "%params") -> dict[str, str]:
        """Load the parameter words called ``names``; ``extents[6]`` gives extents0 ... extents5."""
        result: dict[str, str] = {}
        position = 0
        for name in names:
            plain, _, number = name.partition("[")
            for part in range(int(number[:-1])) if number else [None]:
                word = self.load("i64", self.at(base, position, "i64"), 8)
                result[plain if part is None else f"{plain}{part}"] = word
                position += 1
        return result

    def buffer(self, slot: Operand, offset: Operand) -> str:
        """The address of a buffer, from its word in the table and its byte offset."""
        base = self.load("ptr", self.at("%table", slot, "i64"), 8)
        return self.at(base, offset, "i8")

    # Vectors
    def splat(self, kind: str, lanes: int, value: Operand) -> str:
        """A vector with ``value`` in all lanes."""
        vector = f"<{lanes} x {kind}>"
        one = self(f"insertelement {vector} poison, {kind} {value}, i64 0")
        return self(f"shufflevector {vector} {one}, {vector} poison, <{lanes} x i32> zeroinitializer")

    def shuffle(self, kind: str, lanes: int, a: str, b: str, picks: Sequence[int]) -> str:
        """The lanes ``picks`` of a and b (b's start at ``lanes``)."""
        text = ", ".join(f"i32 {x}" for x in picks)
        return self(f"shufflevector <{lanes} x {kind}> {a}, <{lanes} x {kind}> {b}, <{len(picks)} x i32> <{text}>")

    def mask(self, lanes: int, bits: int, count: Operand) -> str:
        """<lanes x i1> with the first ``count`` (0 ... lanes) lanes set, made with integers of ``bits`` bits."""
        iota = ", ".join(f"i{bits} {x}" for x in range(lanes))
        small = count if bits == 64 else self(f"trunc i64 {count} to i{bits}")
        limit = self.splat(f"i{bits}", lanes, small)
        return self(f"icmp ult <{lanes} x i{bits}> <{iota}>, {limit}")

    def masked_load(self, kind: str, lanes: int, pointer: Operand, mask: str) -> str:
        """Load the lanes of the mask, zero for others, touching no other memory."""
        vector, name = f"<{lanes} x {kind}>", f"@llvm.masked.load.v{lanes}{mangled(kind)}.p0"
        self.module.declare(f"{vector} {name}(ptr, i32, <{lanes} x i1>, {vector})")
        return self(f"call {vector} {name}(ptr {pointer}, i32 1, <{lanes} x i1> {mask}, {vector} zeroinitializer)")

    def masked_store(self, kind: str, lanes: int, value: str, pointer: Operand, mask: str) -> None:
        """Store the lanes of the mask, touching no other memory."""
        vector, name = f"<{lanes} x {kind}>", f"@llvm.masked.store.v{lanes}{mangled(kind)}.p0"
        self.module.declare(f"void {name}({vector}, ptr, i32, <{lanes} x i1>)")
        self.do(f"call void {name}({vector} {value}, ptr {pointer}, i32 1, <{lanes} x i1> {mask})")

    def prefetch(self, pointer: Operand, write: bool = False) -> None:
        """Ask for a cache line."""
        self.module.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        self.do(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 {int(write)}, i32 3, i32 1)")

    def transpose(self, kind: str, itemsize: int, rows: Sequence[str]) -> list[str]:
        """Transpose a square of vectors: row i, lane j -> row j, lane i.

        Only shuffles within 128-bit lanes, then shuffles of whole lanes: one instruction each.
        """
        n = len(rows)
        group = min(max(LANE_BYTES // itemsize, 1), n)
        lanes = n // group
        result: list[str] = []
        for start in range(0, n, group):
            part, width = list(rows[start:start + group]), group
            while width > 1:
                low = [lane * group + x // 2 + (n if x % 2 else 0) for lane in range(lanes) for x in range(group)]
                high = [x + group // 2 for x in low]
                pairs = [(part[x], part[x + group // 2]) for x in range(group // 2)]
                part = [self.shuffle(kind, n, a, b, picks) for a, b in pairs for picks in (low, high)]
                width //= 2
            result += part
        even = [x for lane in range(0, 2 * lanes, 2) for x in range(lane * group, (lane + 1) * group)]
        odd = [x + group for x in even]
        final: list[str] = [""] * n
        for column in range(group):
            part, width = [result[lane * group + column] for lane in range(lanes)], lanes
            while width > 1:
                evens = [self.shuffle(kind, n, part[x], part[x + 1], even) for x in range(0, lanes, 2)]
                odds = [self.shuffle(kind, n, part[x], part[x + 1], odd) for x in range(0, lanes, 2)]
                part, width = evens + odds, width // 2
            for lane in range(lanes):
                final[lane * group + column] = part[lane]
        return final


def ignore(_: object) -> None:
    """Drop the result of a loop or branch, in a lambda that returns nothing."""


def mangled(kind: str) -> str:
    """How a type is called in the name of an intrinsic."""
    return {"float": "f32", "double": "f64", "half": "f16", "bfloat": "bf16"}.get(kind, kind)
