"""Memory of CPU tensors: size classes, kept for reuse; fresh pages cost more than most kernels.

Blocks are 64-byte aligned. Small ones are cut from arenas, large ones are mappings of their own, aligned to huge pages where
that pays. A freed block goes back to the list of its class and is given out again first. :func:`empty_cache` returns large
blocks to the system; so does the pool itself when much more is kept than is in use.
"""
from __future__ import annotations

import ctypes
import mmap
from typing import Any, Final

from torsh.backend.base import Storage
from torsh.backend.watch import forget_all

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


class Blocks(list[int]):
    """Addresses of the free blocks of one size."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size


class Pool:
    """All memory that tensors of this process have.

    Attributes: ``classes`` (free blocks by size), ``total`` (bytes of all blocks). Blocks are taken from a class with
    ``pop()`` and given back with ``append()``; where there is none, :meth:`fresh` makes one.
    """

    def __init__(self) -> None:
        self.classes: dict[int, Blocks] = {}
        self.mappings: dict[int, Any] = {}
        self.position = 0
        self.end = 0
        self.total = 0

    @property
    def kept(self) -> int:
        """Bytes kept for reuse."""
        return sum([len(blocks) * blocks.size for blocks in list(self.classes.values())])

    @property
    def in_use(self) -> int:
        """Bytes of blocks that have been taken."""
        return self.total - self.kept

    def blocks(self, nbytes: int) -> Blocks:
        """The class of blocks that ``nbytes`` are taken from."""
        size = size_class(nbytes)
        found = self.classes.get(size)
        return self.classes.setdefault(size, Blocks(size)) if found is None else found

    def take(self, blocks: Blocks) -> int:
        """The address of a block."""
        try:
            return blocks.pop()
        except IndexError:
            return self.fresh(blocks.size)

    def fresh(self, size: int) -> int:
        """The address of a new block."""
        if size >= LARGE:
            kept = self.kept
            if kept > (self.total - kept) // 2 + SLACK:
                self.empty_cache()
            address = self._map(size)
        else:
            if self.end - self.position < size:
                self.position = self._map(ARENA)
                self.end = self.position + ARENA
            address = self.position
            self.position += size
        self.total += size
        return address

    def _map(self, size: int) -> int:
        """New memory from the system, at the start of a page (of a huge page if it is that large)."""
        alignment = HUGE_PAGE if size >= HUGE_PAGE else mmap.PAGESIZE
        try:
            # ACCESS_COPY: private. Python's default is memory that forked processes would write to together.
            memory = mmap.mmap(-1, size + alignment, access=mmap.ACCESS_COPY)
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
        for blocks in list(self.classes.values()):
            while blocks and blocks.size >= LARGE:
                memory = self.mappings.pop(blocks.pop(), None)
                self.total -= blocks.size
                del memory              # unmapped with its last reference


POOL: Final = Pool()


class PooledStorage(Storage):
    """A storage whose memory goes back to the pool with it; ``owner`` is the class of its block."""

    __slots__ = ()

    def __del__(self) -> None:
        try:
            self.owner.append(self.pointer)
        except AttributeError:              # interrupted while it was made
            pass


_new: Final = object.__new__


def pooled(nbytes: int, blocks: Blocks) -> PooledStorage:
    """New memory of a size class; on the hot path of running programs."""
    try:
        address = blocks.pop()
    except IndexError:
        address = POOL.fresh(blocks.size)
    storage = _new(PooledStorage)
    storage.pointer = address
    storage.nbytes = nbytes
    storage.owner = blocks
    storage.shared = False
    return storage


def allocate(nbytes: int) -> PooledStorage:
    """New memory, 64-byte aligned, contents undefined."""
    return pooled(nbytes, POOL.blocks(nbytes))


def empty_cache() -> None:
    """Return unused memory to the system, with what is kept only to save time."""
    forget_all()
    POOL.empty_cache()


def memory_stats() -> dict[str, int]:
    """Bytes: ``in_use`` by tensors, ``kept`` for reuse."""
    return {"in_use": POOL.in_use, "kept": POOL.kept}
