"""Memory of CPU tensors: size classes, kept for reuse; fresh pages cost more than most kernels.

Blocks are 64-byte aligned. Small ones are cut from arenas, large ones are mappings of their own, aligned to huge pages where
that pays. A freed block goes back to the list of its class and is given out again first. Large scratch memory of programs is
shared by all of them, and is as large as the largest needs. :func:`empty_cache` returns large blocks to the system; so does
the pool itself when much more is kept than is in use.
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


def in_huge_pages(size: int) -> int:
    """How many bytes from the start of a block to put in huge pages: none that would take much more memory than the block."""
    whole = size // HUGE_PAGE * HUGE_PAGE
    return whole + HUGE_PAGE if whole < size and whole + HUGE_PAGE - size <= size // 8 else whole


class Blocks(list[int]):
    """Addresses of the free blocks of one size."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size


class Scratch(Blocks):
    """Large scratch memory: what is taken is any free block for this purpose that is large enough, of whatever program."""

    __slots__ = ("pool",)

    def __init__(self, size: int, pool: Pool) -> None:
        super().__init__(size)
        self.pool = pool

    def pop(self, _: Any = -1) -> int:
        """The address of the smallest block that is large enough; of a new one, in place of the smaller ones, if there is none."""
        free = self.pool.free_scratch
        for block in sorted([block for block in free if block[0] >= self.size]):
            try:
                free.remove(block)
            except ValueError:              # another thread was faster
                continue
            return block[1]
        self.pool.release_scratch()
        address = self.pool.fresh(self.size)
        self.pool.scratch_sizes[address] = self.size
        return address

    def append(self, address: int) -> None:
        """Give a block back."""
        self.pool.free_scratch.append((self.pool.scratch_sizes[address], address))


class Pool:
    """All memory that tensors of this process have.

    Attributes: ``classes`` (free blocks by size), ``free_scratch`` (size and address of free blocks of :class:`Scratch`),
    ``scratch_sizes`` (size of all of them by address), ``total`` (bytes of all blocks). Blocks are taken from a class with
    ``pop()`` and given back with ``append()``; where there is none, :meth:`fresh` makes one.
    """

    def __init__(self) -> None:
        self.classes: dict[int, Blocks] = {}
        self.free_scratch: list[tuple[int, int]] = []
        self.scratch_sizes: dict[int, int] = {}
        self.mappings: dict[int, Any] = {}
        self.position = 0
        self.end = 0
        self.total = 0

    @property
    def kept(self) -> int:
        """Bytes kept for reuse."""
        scratch = sum([size for size, _ in self.free_scratch])
        return sum([len(blocks) * blocks.size for blocks in list(self.classes.values())]) + scratch

    @property
    def in_use(self) -> int:
        """Bytes of blocks that have been taken."""
        return self.total - self.kept

    def blocks(self, nbytes: int) -> Blocks:
        """The class of blocks that ``nbytes`` are taken from."""
        size = size_class(nbytes)
        found = self.classes.get(size)
        return self.classes.setdefault(size, Blocks(size)) if found is None else found

    def scratch(self, nbytes: int) -> Blocks:
        """Where scratch memory of ``nbytes`` is taken from."""
        return self.blocks(nbytes) if nbytes < LARGE else Scratch(size_class(nbytes), self)

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
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        aligned = -(-address // alignment) * alignment
        if size >= HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
            try:
                memory.madvise(mmap.MADV_HUGEPAGE, aligned - address, in_huge_pages(size))
            except OSError:             # a kernel without huge pages
                pass
        self.mappings[aligned] = memory
        return aligned

    def empty_cache(self) -> None:
        """Return the free blocks that are mappings of their own to the system."""
        for blocks in list(self.classes.values()):
            while blocks and blocks.size >= LARGE:
                self._unmap(blocks.pop(), blocks.size)
        self.release_scratch()

    def release_scratch(self) -> None:
        """Return free large scratch memory to the system."""
        while self.free_scratch:
            size, address = self.free_scratch.pop()
            del self.scratch_sizes[address]
            self._unmap(address, size)

    def _unmap(self, address: int, size: int) -> None:
        self.mappings.pop(address, None)        # unmapped with its last reference
        self.total -= size


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


def trim_heap() -> bool:
    """Return what the C library keeps of freed memory to the system, where it can do that; LLVM leaves tens of megabytes."""
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (AttributeError, OSError, TypeError):        # another C library
        return False


def memory_stats() -> dict[str, int]:
    """Bytes: ``in_use`` by tensors, ``kept`` for reuse."""
    return {"in_use": POOL.in_use, "kept": POOL.kept}
