"""The pool that tensors' memory comes from."""
from __future__ import annotations

import ctypes
import gc

import pytest

import torsh
from torsh.backend.cpu import memory
from torsh.backend.cpu.memory import ARENA, HUGE_PAGE, LARGE, Pool, allocate, in_huge_pages, size_class


def test_size_classes():
    assert [size_class(n) for n in (0, 1, 64, 65, 256)] == [64, 64, 64, 128, 256]
    previous = 0
    for n in [*range(1, 5000, 37), *[3 ** k for k in range(8, 20)]]:
        size = size_class(n)
        assert size % 64 == 0 and n <= size
        assert size <= max(n * 1.25, n + 64)
        assert size_class(size) == size
        if n >= LARGE:
            assert size <= n * 1.125
        previous = max(previous, size)
    assert previous > 1 << 28


def test_blocks_are_used_again():
    pool = Pool()
    blocks = pool.blocks(128)
    first = pool.take(blocks)
    blocks.append(first)
    assert (pool.in_use, pool.kept) == (0, 128)
    assert pool.take(blocks) == first
    assert pool.take(blocks) != first
    assert (pool.in_use, pool.kept) == (256, 0)


def test_small_blocks_lie_apart_in_arenas():
    pool = Pool()
    taken = sorted(pool.take(pool.blocks(192)) for _ in range(ARENA // 192 + 10))
    assert all(b - a >= 192 for a, b in zip(taken, taken[1:], strict=False))
    assert all(a % 64 == 0 for a in taken)
    assert len(pool.mappings) == 2


def test_large_blocks_are_mappings_aligned_to_huge_pages():
    pool = Pool()
    blocks = pool.blocks(5 << 20)
    block = pool.take(blocks)
    assert block % HUGE_PAGE == 0
    ctypes.memset(block, 7, blocks.size)
    assert ctypes.string_at(block + blocks.size - 1, 1) == b"\7"
    blocks.append(block)
    pool.empty_cache()
    assert (pool.kept, pool.in_use, pool.mappings, list(blocks)) == (0, 0, {}, [])


def test_huge_pages_take_little_more_than_the_block():
    assert in_huge_pages(HUGE_PAGE) == HUGE_PAGE
    assert in_huge_pages(HUGE_PAGE + LARGE // 4) == HUGE_PAGE           # the rest would take a whole huge page
    assert in_huge_pages(2 * HUGE_PAGE - LARGE // 4) == 2 * HUGE_PAGE
    for size in range(HUGE_PAGE, 20 * HUGE_PAGE, 3 << 16):
        assert size - HUGE_PAGE < in_huge_pages(size) <= size * 1.125


def test_scratch_memory_is_shared():
    pool = Pool()
    small, large = pool.scratch(2 << 20), pool.scratch(6 << 20)
    assert pool.scratch(1000) is pool.blocks(1000)
    address = pool.take(large)
    large.append(address)
    assert (pool.in_use, pool.kept) == (0, 6 << 20)
    assert pool.take(small) == address and pool.kept == 0
    small.append(address)
    assert pool.take(large) == address


def test_larger_scratch_memory_takes_the_place_of_smaller():
    pool = Pool()
    small, large = pool.scratch(2 << 20), pool.scratch(6 << 20)
    small.append(pool.take(small))
    large.append(pool.take(large))
    assert (pool.kept, len(pool.mappings), len(pool.scratch_sizes)) == (6 << 20, 1, 1)
    first, second = pool.take(small), pool.take(small)       # two programs at a time
    assert first != second and pool.in_use == 8 << 20
    small.append(first)
    small.append(second)
    assert pool.take(small) == second                        # the smaller one
    small.append(second)
    pool.empty_cache()
    assert (pool.total, pool.mappings, pool.scratch_sizes) == (0, {}, {})


def test_small_blocks_stay():
    pool = Pool()
    blocks = pool.blocks(64)
    blocks.append(pool.take(blocks))
    pool.empty_cache()
    assert len(blocks) == 1 and pool.kept == 64


def test_memory_that_is_kept_without_need_goes_back_by_itself():
    pool = Pool()
    blocks = pool.blocks(48 << 20)
    blocks.extend([pool.take(blocks) for _ in range(3)])
    pool.take(pool.blocks(3 << 20))
    assert pool.kept == 0 and len(pool.mappings) == 1


def test_memory_that_there_is_not():
    with pytest.raises(MemoryError, match="can't allocate memory: you tried to allocate"):
        pool = Pool()
        pool.take(pool.blocks(1 << 60))


def test_storages_give_their_memory_back():
    gc.collect()
    torsh.synchronize()
    before = memory.memory_stats()["in_use"]
    s = allocate(1000)
    assert memory.memory_stats()["in_use"] == before + size_class(1000)
    del s
    assert memory.memory_stats()["in_use"] == before


def test_a_training_loop_takes_no_new_memory():
    w = torsh.randn(64, 64, requires_grad=True)
    x = torsh.randn(32, 64)
    optimizer = torsh.optim.Adam([w])

    def step() -> None:
        optimizer.zero_grad()
        ((x @ w).relu() ** 2).mean().backward()
        optimizer.step()
    for _ in range(5):
        step()
    torsh.synchronize()
    in_use, total = memory.POOL.in_use, memory.POOL.in_use + memory.POOL.kept
    for _ in range(50):
        step()
    torsh.synchronize()
    assert memory.POOL.in_use == in_use
    assert memory.POOL.in_use + memory.POOL.kept == total


def test_the_heap_is_trimmed_where_that_is_possible(monkeypatch):
    assert memory.trim_heap() in (False, True)

    def none(_: None) -> object:
        return object()
    monkeypatch.setattr(memory.ctypes, "CDLL", none)
    assert not memory.trim_heap()
