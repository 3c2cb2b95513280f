"""Where intermediate results of a program live: offsets in one scratch arena, reused once a value has been read last."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torsh.compiler.steps import Buffer, Step

ALIGNMENT: Final = 64


def plan(steps: Sequence[Step]) -> int:
    """Give every buffer that is neither leaf nor output its offset; the size of the arena in bytes."""
    buffers = _lifetimes(steps)
    dying: dict[int, list[Buffer]] = {}
    for b in buffers:
        dying.setdefault(b.last, []).append(b)
    free: list[tuple[int, int]] = []          # (offset, size), by offset, never adjacent
    top = 0
    position = 0
    for b in buffers:                         # in the order in which they are written first
        while position < b.first:
            for gone in dying.get(position, ()):
                top = _release(free, gone.offset, _rounded(gone.nbytes), top)
            position += 1
        size = _rounded(b.nbytes)
        fitting = [(n, offset) for offset, n in free if n >= size]
        if fitting:
            n, b.offset = min(fitting)
            free.remove((b.offset, n))
            if n > size:
                free.append((b.offset + size, n - size))
                free.sort()
        else:
            b.offset, top = _extend(free, size, top)
    return max((b.offset + _rounded(b.nbytes) for b in buffers), default=0)


def _rounded(nbytes: int) -> int:
    return max(-(-nbytes // ALIGNMENT) * ALIGNMENT, ALIGNMENT)


def _lifetimes(steps: Sequence[Step]) -> list[Buffer]:
    """Scratch buffers in the order of their first write."""
    found: dict[Buffer, None] = {}
    for position, step in enumerate(steps):
        for b in (*step.reads, *step.writes):
            if b.leaf < 0 and b.output < 0:
                if b.first < 0:
                    b.first = position
                b.last = position
                found[b] = None
    return list(found)


def _extend(free: list[tuple[int, int]], size: int, top: int) -> tuple[int, int]:
    """Take memory at the end of the arena, with what is free just before it."""
    if free and free[-1][0] + free[-1][1] == top:
        offset, _ = free.pop()
        return offset, offset + size
    return top, top + size


def _release(free: list[tuple[int, int]], offset: int, size: int, top: int) -> int:
    """Give a range back and merge it with free neighbours; the top of the arena stays."""
    free.append((offset, size))
    free.sort()
    merged: list[tuple[int, int]] = []
    for start, n in free:
        if merged and merged[-1][0] + merged[-1][1] == start:
            merged[-1] = (merged[-1][0], merged[-1][1] + n)
        else:
            merged.append((start, n))
    free[:] = merged
    return top
