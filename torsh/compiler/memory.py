"""Where intermediate results of a program live: offsets in one scratch arena, reused once a value has been read last.

Outputs that get new memory have it from the start, but are often written late (gradients, after all activations are gone).
Until then large intermediate results live there, so that the arena is smaller.
"""
from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from torsh.compiler.steps import Buffer, Step

ALIGNMENT: Final = 64
# Arenas from this size on are worth it to look for memory in outputs, for buffers that are more than this part of them.
_LARGE_ARENA: Final = 1 << 20
_LARGE_PART: Final = 1024


def plan(steps: Sequence[Step], owned: Collection[int] = ()) -> int:
    """Give every buffer that is neither leaf nor output its place; the size of the arena in bytes.

    owned: outputs in memory that holds something already, which is not to be used for anything else.
    """
    buffers = _lifetimes(steps)
    size = _arena(buffers)
    kept = {b for step in steps if step.prepares for b in step.writes}      # not always written, so in no output
    if size >= _LARGE_ARENA and _borrow([b for b in buffers if b not in kept], _late_outputs(steps, owned), size):
        size = _arena([b for b in buffers if b.inside is None])
    return size


def _arena(buffers: Sequence[Buffer]) -> int:
    """Place buffers, in the order in which they are written first, in the scratch arena; its size."""
    dying: dict[int, list[Buffer]] = {}
    for b in buffers:
        dying.setdefault(b.last, []).append(b)
    free: list[tuple[int, int]] = []          # (offset, size), by offset, never adjacent
    top = 0
    position = 0
    for b in buffers:
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


def _late_outputs(steps: Sequence[Step], owned: Collection[int]) -> list[Buffer]:
    """New outputs that are not used by the first step already, the smallest first."""
    found: dict[Buffer, None] = {}
    for position, step in enumerate(steps):
        for b in (*step.reads, *step.writes):
            if b.output >= 0 and b.output not in owned and b not in found:
                found[b] = None
                b.first, b.last = position, len(steps)
    return sorted([b for b in found if b.first > 0], key=lambda b: (b.nbytes, b.first))


def _borrow(buffers: Sequence[Buffer], outputs: Sequence[Buffer], arena: int) -> bool:
    """Place buffers in outputs that are written only after they have been read last; is there any?

    The largest buffers, of those that are in use when the arena is fullest, come first.
    """
    fullest = _fullest(buffers)
    guests: dict[Buffer, list[Buffer]] = {output: [] for output in outputs}
    wanted = [b for b in buffers if b.nbytes * _LARGE_PART > arena]
    for b in sorted(wanted, key=lambda b: (not b.first <= fullest <= b.last, -b.nbytes)):
        for output in outputs:
            if output.nbytes >= b.nbytes and b.last < output.first:
                together = sorted([(g.offset, g.offset + _rounded(g.nbytes)) for g in guests[output]
                                   if g.first <= b.last and b.first <= g.last])
                offset = 0
                for start, end in together:
                    if offset + b.nbytes <= start:
                        break
                    offset = max(offset, end)
                if offset + b.nbytes <= output.nbytes:
                    b.inside, b.offset = output, offset
                    guests[output].append(b)
                    break
    return any(guests.values())


def _fullest(buffers: Sequence[Buffer]) -> int:
    """The step at which most memory is in use."""
    changes: dict[int, int] = {}
    for b in buffers:
        changes[b.first] = changes.get(b.first, 0) + b.nbytes
        changes[b.last + 1] = changes.get(b.last + 1, 0) - b.nbytes
    most = position = now = 0
    for step in sorted(changes):
        now += changes[step]
        if now > most:
            most, position = now, step
    return position


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
