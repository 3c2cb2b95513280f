"""Running programs on the compiled CPU backend, in guarded memory, and comparing them with the NumPy reference."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from torsh.backend.base import Storage
from torsh.backend.cpu import executable
from torsh.backend.cpu.backend import CpuBackend
from torsh.backend.cpu.memory import size_class
from torsh.backend.reference import evaluate
from torsh.ops.expr import Expr

GUARD = 256                 # bytes in front of a buffer and behind it
POISON = 0xA5               # what undefined memory holds


class Guarded(Storage):
    """Memory between guards, filled with poison; :meth:`check` fails if a guard was written."""

    __slots__ = ("block", "start")

    def __init__(self, nbytes: int) -> None:
        self.block = np.full(nbytes + 2 * GUARD + 64, POISON, np.uint8)
        address = self.block.__array_interface__["data"][0]
        self.start = GUARD + -(address + GUARD) % 64
        super().__init__(address + self.start, nbytes, self.block)

    def fill(self, array: Any) -> Guarded:
        """Store an array's elements."""
        self.block[self.start:self.start + self.nbytes] = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        return self

    def array(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """What the memory holds."""
        return self.block[self.start:self.start + self.nbytes].view(dtype).reshape(shape)

    def check(self, what: str) -> None:
        """Nobody wrote outside."""
        before, after = self.block[:self.start], self.block[self.start + self.nbytes:]
        assert (before == POISON).all() and (after == POISON).all(), f"{what}: memory outside of the buffer was written"


class GuardedBlocks:
    """Stands in for a class of the pool's blocks."""

    def __init__(self, nbytes: int) -> None:
        self.size = size_class(nbytes)
        self.taken: dict[int, Guarded] = {}

    def append(self, address: int) -> None:
        """A block is given back: look at the guards."""
        self.taken.pop(address).check("scratch memory")


class GuardedPool:
    """Stands in for the pool that scratch memory comes from."""

    def blocks(self, nbytes: int) -> GuardedBlocks:
        """A class of its own for every use."""
        return GuardedBlocks(nbytes)

    scratch = blocks

    def take(self, blocks: GuardedBlocks) -> int:
        """A poisoned block."""
        block = Guarded(blocks.size)
        blocks.taken[block.pointer] = block
        return block.pointer


@contextmanager
def guarded_scratch(share_from: int | None) -> Iterator[None]:
    """Scratch memory between guards; ``share_from``: cost from which on threads share a call."""
    saved = executable.POOL, executable.SHARE_FROM
    executable.POOL = GuardedPool()  # type: ignore[assignment,misc]
    if share_from is not None:
        executable.SHARE_FROM = share_from  # type: ignore[misc]
    try:
        yield
    finally:
        executable.POOL, executable.SHARE_FROM = saved  # type: ignore[misc]


def compiled(outputs: Sequence[Expr], leaves: Sequence[Any], scalars: Sequence[Any] = (),
             in_place: Sequence[tuple[int, int]] = (), share_from: int | None = None) -> list[Any]:
    """Values of expressions on the CPU backend; leaves that no output replaces must not change."""
    with guarded_scratch(share_from):
        program = CpuBackend().compile(tuple(outputs), tuple(in_place))
        return run(program, outputs, leaves, scalars, in_place)


def run(program: Any, outputs: Sequence[Expr], leaves: Sequence[Any], scalars: Sequence[Any],
        in_place: Sequence[tuple[int, int]]) -> list[Any]:
    """One run of a compiled program in guarded memory."""
    memories = [Guarded(np.asarray(a).nbytes).fill(a) for a in leaves]
    pairs = dict(in_place)
    into = [memories[pairs[n]] if n in pairs else Guarded(int(np.prod(e.shape)) * e.dtype.itemsize)
            for n, e in enumerate(outputs)]
    results = program.run(memories, list(scalars), into)
    for number, (memory, a) in enumerate(zip(memories, leaves, strict=True)):
        memory.check(f"leaf {number}")
        if number not in pairs.values():
            same = memory.array(np.shape(a), np.uint8 if not np.asarray(a).nbytes else np.asarray(a).dtype)
            assert same.tobytes() == np.asarray(a).tobytes(), f"leaf {number} was overwritten"
    for number, memory in enumerate(into):
        memory.check(f"output {number}")
        assert results[number] is memory
    return [m.array(e.shape, e.dtype.numpy).copy() for m, e in zip(into, outputs, strict=True)]


def reference(outputs: Sequence[Expr], leaves: Sequence[Any], scalars: Sequence[Any] = ()) -> list[Any]:
    """Values of expressions by NumPy."""
    return evaluate(outputs, list(leaves), list(scalars))


def close(got: Any, expected: Any, tolerance: float) -> str:
    """What differs by more than ``tolerance`` (absolute; 0: nothing may), or an empty string."""
    if got.dtype != expected.dtype or got.shape != expected.shape:
        return f"{got.dtype}{list(got.shape)} instead of {expected.dtype}{list(expected.shape)}"
    a, b = (x.astype(np.float64) if x.dtype.kind in "fV" else x for x in (got, expected))
    if a.dtype.kind in "fc":
        with np.errstate(all="ignore"):
            fine = (a == b) | ((a != a) & (b != b)) | (np.abs(a - b) <= tolerance)
    else:
        fine = a == b
    if fine.all():
        return ""
    where = np.argwhere(~fine)
    first = tuple(int(i) for i in where[0])
    return f"{len(where)} of {fine.size} elements differ by more than {tolerance:g}; at {first}: {a[first]} instead of {b[first]}"
