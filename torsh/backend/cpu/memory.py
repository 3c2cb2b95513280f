"""Memory of CPU tensors: size classes, kept for reuse; fresh pages cost more than most kernels.

Blocks are 64-byte aligned. Small ones are cut from arenas, large ones are mappings of their own, aligned to huge pages where
that pays. A freed block goes back to the list of its class and is given out again first. :func:`empty_cache` returns large
blocks to the system; so does the pool itself when much more is kept than is in use.
"""
from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from typing import Any, Final

from torsh.backend.base import Storage

ARENA: Final = 4 << 20            # bytes that small blocks are cut from at a time
LARGE: Final = 1 << 20            # from this size on, blocks are mappings of their own
HUGE_PAGE: Final = 2 << 20
SLACK: Final = 64 << 20           # bytes that may be kept on top of half of what is in use


def size_class(nbytes: int) -> int:
    """The size of the block for ``nbytes``: a multiple of 64, at most a quarter larger (an eighth from 1 MiB on)."""
    if nbytes <= 256:
        return max(-(-nbytes // 64) * 64, 64)
    step = 1 << (nbytes.bit_length() - (3 if nbytes < LARGE else 4))
    return -(-nbytes // step) * step


class Pool:
    """All memory that tensors of this process have.

    Attributes: ``free`` (addresses of free blocks by size), ``in_use`` and ``kept`` (bytes), ``peak`` (largest ``in_use``).
    """

    def __init__(self) -> None:
        self.free: dict[int, list[int]] = {}
        self.arenas: list[Any] = []
        self.mappings: dict[int, Any] = {}
        self.position = 0
        self.end = 0
        self.in_use = 0
        self.kept = 0
        self.peak = 0

    def take(self, size: int) -> int:
        """The address of a block of a size class."""
        blocks = self.free.get(size)
        if blocks:
            try:
                address = blocks.pop()
            except IndexError:          # another thread was faster
                return self._fresh(size)
            self.kept -= size
            self.in_use += size
            if self.in_use > self.peak:
                self.peak = self.in_use
            return address
        return self._fresh(size)

    def give(self, address: int, size: int) -> None:
        """Take a block back."""
        self.in_use -= size
        self.kept += size
        blocks = self.free.get(size)
        if blocks is None:
            blocks = self.free.setdefault(size, [])
        blocks.append(address)

    def _fresh(self, size: int) -> int:
        if size >= LARGE:
            if self.kept > self.in_use // 2 + SLACK:
                self.empty_cache()
            address = self._map(size)
        else:
            if self.end - self.position < size:
                self.position = self._map(ARENA)
                self.end = self.position + ARENA
            address = self.position
            self.position += size
        self.in_use += size
        self.peak = max(self.peak, self.in_use)
        return address

    def _map(self, size: int) -> int:
        """New memory from the system, at the start of a page (of a huge page if it is that large)."""
        alignment = HUGE_PAGE if size >= HUGE_PAGE else mmap.PAGESIZE
        try:
            memory = mmap.mmap(-1, size + alignment)
        except (OSError, ValueError, OverflowError):
            raise MemoryError(f"[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to "
                              f"allocate {size} bytes.") from None
        if size >= HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
            try:
                memory.madvise(mmap.MADV_HUGEPAGE)
            except OSError:             # a kernel without huge pages
                pass
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        aligned = -(-address // alignment) * alignment
        self.mappings[aligned] = memory
        return aligned

    def empty_cache(self) -> None:
        """Return the free blocks that are mappings of their own to the system."""
        for size in [s for s in self.free if s >= LARGE]:
            blocks = self.free.pop(size)
            while blocks:
                memory = self.mappings.pop(blocks.pop(), None)
                self.kept -= size
                del memory              # unmapped with its last reference


POOL: Final = Pool()


class PooledStorage(Storage):
    """A storage whose memory goes back to the pool with it; ``owner`` is the size of its block."""

    __slots__ = ()

    def __del__(self, give: Callable[[int, int], None] = POOL.give) -> None:
        give(self.pointer, self.owner)


_new: Final = object.__new__


def pooled(nbytes: int, size: int) -> PooledStorage:
    """New memory of a size class; on the hot path of running programs."""
    storage = _new(PooledStorage)
    storage.pointer = POOL.take(size)
    storage.nbytes = nbytes
    storage.owner = size
    storage.shared = False
    return storage


def allocate(nbytes: int) -> PooledStorage:
    """New memory, 64-byte aligned, contents undefined."""
    return pooled(nbytes, size_class(nbytes))


def empty_cache() -> None:
    """Return unused memory to the system."""
    POOL.empty_cache()


def memory_stats() -> dict[str, int]:
    """Bytes: ``in_use`` by tensors, ``kept`` for reuse, ``peak`` of what was in use since the last reset."""
    return {"in_use": POOL.in_use, "kept": POOL.kept, "peak": POOL.peak}


def reset_peak() -> None:
    """Let ``peak`` start again from what is in use now."""
    POOL.peak = POOL.in_use
