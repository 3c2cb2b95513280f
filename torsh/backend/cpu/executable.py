"""A program ready to run on the CPU: its calls packed for the native runtime, with host steps in between."""
from __future__ import annotations

import math
import struct
import threading
from array import array
from collections.abc import Callable, Sequence
from ctypes import addressof, c_char, c_int64
from operator import attrgetter
from typing import Any, Final

import numpy as np

from torsh.backend.base import Storage
from torsh.backend.cpu import jit
from torsh.backend.cpu.keeping import Keeper, Kept
from torsh.backend.cpu.memory import POOL, pooled, trim_heap
from torsh.backend.cpu.native import HEAD_WORDS, RECORD_WORDS, native_runtime
from torsh.backend.watch import WATCHED, changed
from torsh.compiler.build import REFUSED
from torsh.compiler.kernel import Call
from torsh.compiler.plan import ArrayRef, HostStep, Plan, table_memory
from torsh.compiler.preparations import keepable
from torsh.core.errors import CompileError, IndexOutOfRangeError

SHARE_FROM: Final = 1 << 15       # cost of a call from which on threads share it
UNREAD: Final = "8x"              # format of a table word that no call reads
_RANGE_WORDS: Final = 3           # of a table's head: records, first and last call
INTERRUPTIBLE: Final = 1 << 28    # cost of calls between two looks at pending signals (some tenths of a second)

_pointer: Final = attrgetter("pointer")


class _Status(threading.local):
    """Status words of this thread's programs."""

    def __init__(self) -> None:
        self.words = (c_int64 * 4)()
        self.stop = c_int64(0)
        self.addresses = (addressof(self.words), addressof(self.stop))


_status: Final = _Status()


class CpuExecutable:
    """A compiled program; see :class:`torsh.backend.base.Executable`."""

    def __init__(self, plan: Plan, scalar_kinds: Sequence[str]) -> None:
        self.plan = plan
        runtime = native_runtime()
        self.native = runtime.run_table
        calls = [s for s in plan.steps if isinstance(s, Call)]
        self.count = len(calls)
        self.records, self.params = _packed(calls, runtime.threads)
        self.address = self.records.buffer_info()[0]
        self.sections = _sections(plan)
        self.leaves = plan.leaves
        words = HEAD_WORDS + 1 + plan.leaves + len(plan.output_bytes)
        self.pack = struct.Struct(f"={words}q{''.join(scalar_kinds)}").pack
        self.tables = [table_memory(key) for key in plan.tables]
        self.tail = struct.pack(f"={len(plan.tables)}q{len(plan.constants)}d",
                                *[t.__array_interface__["data"][0] for t in self.tables], *plan.constants)
        self.scalar_kinds = scalar_kinds
        self.used_scalars = [k for k, kind in enumerate(scalar_kinds) if kind != UNREAD]
        self.all_scalars = len(self.used_scalars) == len(scalar_kinds)
        self.outputs = [(n, POOL.blocks(n)) for n in plan.output_bytes]
        self.scratch = POOL.scratch(plan.scratch_bytes) if plan.scratch_bytes else None
        self.simple = len(self.sections) == 1 and isinstance(self.sections[0], tuple)
        self.numbers = len(scalar_kinds)
        self.plain = self.simple and self.scratch is None and self.all_scalars and not self.tail
        kept = keepable(plan)
        word = 1 + plan.leaves + len(plan.output_bytes) + len(scalar_kinds) + len(plan.tables) + len(plan.constants)
        self.keeper = Keeper(kept, self.records, calls, word, prepare) if kept else None

    def run(self, leaves: Sequence[Storage], scalars: Sequence[Any], into: Sequence[Storage | None]) -> list[Storage]:
        """Compute all outputs; see :meth:`torsh.backend.base.Executable.run`."""
        outputs: list[Any]
        if self.plain and not into and len(leaves) == self.leaves and len(scalars) == self.numbers:
            outputs = [pooled(*sizes) for sizes in self.outputs]        # nothing but one native run: the shortest way
            try:
                table = self.pack(self.address, 0, self.count, *_status.addresses, 0, *map(_pointer, leaves),
                                  *map(_pointer, outputs), *scalars)
            except struct.error:
                raise too_large() from None
            if self.native(table) != self.count:
                self.failed()
            return outputs
        if into:
            if WATCHED:
                changed([s.pointer for s in into if s is not None])
            outputs = [pooled(*sizes) if s is None else s for s, sizes in zip(into, self.outputs)]  # noqa: B905
        else:
            outputs = [pooled(*sizes) for sizes in self.outputs]
        if len(leaves) > self.leaves:
            leaves = leaves[:self.leaves]
        blocks = self.scratch
        scratch = 0 if blocks is None else POOL.take(blocks)
        try:
            kept = None if self.keeper is None else self.keeper.kept_for(leaves)
            self.run_table(scratch, (*map(_pointer, leaves), *map(_pointer, outputs)), scalars, kept)
        finally:
            if blocks is not None:
                blocks.append(scratch)
            if WATCHED and into:
                changed([s.pointer for s in into if s is not None])
        return outputs

    def bind(self, leaves: Sequence[int], into: Sequence[int]) -> Callable[[Sequence[Any]], None]:
        """See :meth:`torsh.backend.base.Executable.bind`."""
        pointers = (*leaves[:self.leaves], *into)
        blocks = self.scratch

        def run(scalars: Sequence[Any]) -> None:
            if WATCHED:
                changed(into)
            scratch = 0 if blocks is None else POOL.take(blocks)
            try:
                self.run_table(scratch, pointers, scalars)
            finally:
                if blocks is not None:
                    blocks.append(scratch)
                if WATCHED:
                    changed(into)
        return run

    def run_table(self, scratch: int, pointers: tuple[int, ...], scalars: Sequence[Any], kept: Kept | None = None) -> None:
        """Run all steps; what calls find their buffers and numbers in is the scratch memory, leaves, outputs and numbers."""
        used = self.used_scalars
        numbers = scalars[:len(used)] if self.all_scalars else [scalars[k] for k in used]
        address = self.address if kept is None else kept.records
        try:
            table = self.pack(address, 0, self.count, *_status.addresses, scratch, *pointers, *numbers)
        except struct.error:
            raise too_large() from None
        if self.tail:
            table += self.tail
        if kept is not None:
            table += kept.words
        if not self.simple:
            self.run_sections(address, table, scalars)
        elif self.native(table) != self.count:
            self.failed()

    def run_sections(self, address: int, table: bytes, scalars: Sequence[Any]) -> None:
        """Runs of calls, with host steps in between; signals are looked at after each."""
        begin = 8 * _RANGE_WORDS
        for section in self.sections:
            if isinstance(section, HostStep):
                run_host_step(section, table, scalars)
            elif self.native(struct.pack(f"={_RANGE_WORDS}q", address, *section) + table[begin:]) != section[1]:
                self.failed()

    def failed(self) -> None:
        """Raise what the status words say."""
        code, index, size, number = _status.words
        _status.words[0] = 0
        if not code:
            raise CompileError("the program was stopped")
        calls = [s for s in self.plan.steps if isinstance(s, Call)]
        if index < REFUSED // 2:
            index -= REFUSED
        raise IndexOutOfRangeError(f"index {index} is out of bounds for dimension with size {size} (in {calls[number].label})")


def prepare(call: Call, operand: int, result: int) -> bool:
    """Run one preparation (:attr:`torsh.compiler.preparations.Preparation.call`) on its own; was it done?"""
    runtime = native_runtime()
    records, params = _packed([call], runtime.threads)
    table = struct.pack(f"={HEAD_WORDS + 2}q", records.buffer_info()[0], 0, 1, *_status.addresses, operand, result)
    done = runtime.run_table(table) == 1
    _status.words[0] = 0
    del params                          # it was needed until now
    return done


def too_large() -> OverflowError:
    """The error for a Python integer that has no 64-bit form."""
    return OverflowError("Python integer too large to convert to a 64-bit number")


def _packed(calls: Sequence[Call], threads: int) -> tuple[array[int], array[int]]:
    """(records of the calls, their parameters)."""
    params = array("q", [word for c in calls for word in c.params])
    base = params.buffer_info()[0] if len(params) else 0
    words: list[int] = []
    offset = 0
    compiled = jit.statistics["compiled"]
    addresses = jit.addresses_of(c.kernel for c in calls)
    if jit.statistics["compiled"] != compiled:
        trim_heap()
    for call, address in zip(calls, addresses, strict=True):
        shared = call.cost >= SHARE_FROM and call.units > 1
        chunk = _chunk(call, max(threads, 2)) if shared else 0
        words += (address, base + 8 * offset, call.units, chunk, 0, 0)
        offset += len(call.params)
    assert len(words) == RECORD_WORDS * len(calls)
    return array("q", words), params


def _chunk(call: Call, threads: int) -> int:
    """Units that a thread takes at a time."""
    if call.pieces == 1:
        return -(-call.units // threads)
    return max(1, call.units // (call.pieces * threads))


def _sections(plan: Plan) -> list[tuple[int, int] | HostStep]:
    """Ranges of calls that run without coming back to Python, and host steps."""
    sections: list[tuple[int, int] | HostStep] = []
    begin = number = cost = 0
    for step in plan.steps:
        if isinstance(step, HostStep):
            if number > begin:
                sections.append((begin, number))
            sections.append(step)
            begin, cost = number, 0
            continue
        number += 1
        cost += step.cost
        if cost > INTERRUPTIBLE:
            sections.append((begin, number))
            begin, cost = number, 0
    if number > begin or not sections:
        sections.append((begin, number))
    return sections


def run_host_step(step: HostStep, table: bytes, scalars: Sequence[Any]) -> None:
    """Compute one operation with its NumPy reference."""
    args = [_host_argument(a, table, scalars) for a in step.args]
    assert step.op.reference is not None
    with np.errstate(all="ignore"):
        if step.op.into is not None and step.op.into(step.attr, array_at(step.out, table), *args):
            return
        result = np.asarray(step.op.reference(step.attr, *args))
    if result.shape != step.out.shape or result.dtype != step.out.dtype.numpy:
        raise CompileError(f"the reference of {step.op.name} gave {result.dtype}{list(result.shape)} where "
                           f"{step.out.dtype.name}{list(step.out.shape)} was inferred")
    array_at(step.out, table)[...] = result


def _host_argument(a: Any, table: bytes, scalars: Sequence[Any]) -> Any:
    if isinstance(a, ArrayRef):
        return array_at(a, table)
    kind, value, dtype = a
    return scalars[value] if kind == "scalar" else value


def array_at(ref: ArrayRef, table: bytes) -> Any:
    """A NumPy array over a buffer of a running program."""
    dtype = ref.dtype.numpy
    if 0 in ref.shape:
        return np.empty(ref.shape, dtype)
    address, = struct.unpack_from("=q", table, 8 * (HEAD_WORDS + ref.buffer.slot))
    memory: Any = c_char * (dtype.itemsize * math.prod(ref.shape))
    return np.ndarray(ref.shape, dtype, memory.from_address(address + ref.buffer.offset))
