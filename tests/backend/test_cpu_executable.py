"""Running compiled programs: memory, numbers, errors, host steps, threads."""
from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import torsh
from torsh.backend.base import Storage
from torsh.backend.cpu import memory
from torsh.backend.cpu.backend import CpuBackend, scalar_formats
from torsh.backend.reference.evaluate import array_over, storage_of_array
from torsh.compiler.plan import HostStep
from torsh.core.dtype import complex64, float32, int64
from torsh.core.errors import IndexOutOfRangeError
from torsh.ops.common import add, exp, mul, reduce
from torsh.ops.expr import TABLE, Expr, emit, leaf, no_grad_recording, scalar


def build(*outputs: Expr, in_place: tuple[tuple[int, int], ...] = ()) -> Any:
    """A compiled program."""
    return CpuBackend().compile(outputs, in_place)


def values(program: Any, outputs: list[Expr], arrays: list[Any], scalars: tuple[Any, ...] = ()) -> list[Any]:
    """One run, its outputs in new memory."""
    storages = program.run([storage_of_array(a) for a in arrays], list(scalars), [None] * len(outputs))
    return [array_over(s, e.shape, e.dtype.numpy).copy() for s, e in zip(storages, outputs, strict=True)]


def test_outputs_get_memory_of_their_own_or_that_which_is_given():
    a = leaf(0, (100,), float32, False)
    with no_grad_recording():
        outputs = [exp(a), mul(a, 2.0)]
    program, x = build(*outputs), np.linspace(0, 1, 100, dtype=np.float32)
    given = CpuBackend().allocate(400)
    first, second = program.run([storage_of_array(x)], [], [None, given])
    assert second is given and first.nbytes == 400 and first.pointer % 64 == 0
    np.testing.assert_allclose(array_over(first, (100,), np.dtype(np.float32)), np.exp(x), rtol=1e-6)
    np.testing.assert_array_equal(array_over(given, (100,), np.dtype(np.float32)), 2 * x)


def test_an_output_in_the_leafs_memory():
    a = leaf(0, (50,), float32, False)
    with no_grad_recording():
        program = build(add(a, reduce("sum", a, (0,), True)), in_place=((0, 0),))
    x = np.ones(50, np.float32)
    storage = storage_of_array(x)
    for expected in (51, 51 * 51):
        assert program.run([storage], [], [storage]) == [storage]
        np.testing.assert_array_equal(x, np.full(50, expected))


def test_more_leaves_than_the_program_reads():
    a, b = leaf(0, (4,), float32, False), leaf(3, (4,), float32, False)
    with no_grad_recording():
        out = add(a, b)
    arrays = [np.full(4, k, np.float32) for k in range(6)]
    assert values(build(out), [out], arrays)[0].tolist() == [3] * 4


def test_numbers_come_from_the_table():
    a = leaf(0, (3,), float32, False)
    with no_grad_recording():
        out = add(mul(a, scalar(2, 2)), scalar(5, 1))
    program, x = build(out), np.ones(3, np.float32)
    for factor, shift in ((2.5, 1), (-1.0, 1 << 20)):
        got, = values(program, [out], [x], (None, None, factor, None, None, shift))
        assert got.tolist() == [factor + shift] * 3
    assert scalar_formats((out,)) == ["8x", "8x", "d", "8x", "8x", "q"]
    with pytest.raises(OverflowError, match="too large"):
        values(program, [out], [x], (None, None, 1.0, None, None, 1 << 64))


def test_steps_of_numpy_run_in_between():
    a, z = leaf(0, (6, 5), float32, False), leaf(1, (6,), complex64, False)
    with no_grad_recording():
        order = emit(TABLE["argsort"], (mul(a, -1.0),), (1, False, True))
        outputs = [add(emit(TABLE["gather"], (a, order), 1), 1.0), mul(z, scalar(0, 3))]
    program = build(*outputs)
    assert any(isinstance(s, HostStep) for s in program.plan.steps) and not program.simple
    x = np.random.default_rng(0).random((6, 5)).astype(np.float32)
    sorted_, product = values(program, outputs, [x, np.ones(6, np.complex64)], (2j,))
    np.testing.assert_array_equal(sorted_, -np.sort(-x, 1) + 1)
    assert product.tolist() == [2j] * 6


@pytest.mark.parametrize("bad", [7, -8])
def test_an_index_outside_is_reported_and_forgotten(bad):
    a, i = leaf(0, (7,), float32, False), leaf(1, (3,), int64, False)
    with no_grad_recording():
        out = emit(TABLE["index"], (a, i), (0,))
    program, x = build(out), np.arange(7, dtype=np.float32)
    for _ in range(2):
        with pytest.raises(IndexOutOfRangeError, match=f"index {bad} is out of bounds for dimension with size 7"):
            values(program, [out], [x, np.array([0, bad, 1])])
        assert values(program, [out], [x, np.array([6, -7, -1])])[0].tolist() == [6, 0, 6]


def test_gather_refuses_negative_positions():
    a, i = leaf(0, (7,), float32, False), leaf(1, (3,), int64, False)
    with no_grad_recording():
        out = emit(TABLE["gather"], (a, i), 0)
    with pytest.raises(IndexOutOfRangeError, match="index -2 is out of bounds for dimension with size 7"):
        values(build(out), [out], [np.zeros(7, np.float32), np.array([0, -2, 1])])


def test_scratch_memory_is_given_back_after_an_error():
    a, i = leaf(0, (70, 70), float32, False), leaf(1, (3,), int64, False)
    with no_grad_recording():
        out = emit(TABLE["matmul"], (emit(TABLE["index"], (exp(a), i), (0,)), a))
    program = build(out)
    assert program.scratch is not None
    x, wrong = np.ones((70, 70), np.float32), np.array([0, 99, 1])
    for _ in range(3):
        with pytest.raises(IndexError):
            values(program, [out], [x, wrong])
    before = memory.memory_stats()["in_use"]
    with pytest.raises(IndexError):
        values(program, [out], [x, wrong])
    assert memory.memory_stats()["in_use"] == before


def test_nothing_to_do():
    a = leaf(0, (0, 4), float32, False)
    with no_grad_recording():
        outputs = [exp(a), emit(TABLE["empty"], (), ((3,), "float32"))]
    got = values(build(*outputs), outputs, [np.zeros((0, 4), np.float32)])
    assert [g.shape for g in got] == [(0, 4), (3,)]


def test_one_program_in_several_threads_at_once():
    a = leaf(0, (300, 200), float32, False)
    with no_grad_recording():
        out = emit(TABLE["matmul"], (exp(a), emit(TABLE["permute"], (emit(TABLE["softmax"], (a,), 1),), (1, 0))))
    program = build(out)
    arrays = [np.random.default_rng(k).random((300, 200)).astype(np.float32) for k in range(4)]
    expected = [values(program, [out], [x])[0] for x in arrays]
    wrong: list[int] = []

    def work(k: int) -> None:
        for _ in range(20):
            # One thread at a time uses the pool; products of blocks of other sizes are summed in another order.
            if not np.allclose(values(program, [out], [arrays[k]])[0], expected[k], rtol=1e-5):
                wrong.append(k)
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_results_do_not_depend_on_the_number_of_threads():
    before = torsh.get_num_threads()
    x = torsh.randn(500, 300)
    i = torsh.randint(0, 500, (4000,))
    results = []
    try:
        for count in (1, 2, 3):
            torsh.set_num_threads(count)
            torsh.use_backend("cpu")                    # programs are packed anew
            total = torsh.zeros(500, 300).index_add_(0, i, x[i])
            results.append([v.numpy() for v in (x.sum(), x.softmax(0), total, x.cumsum(0), x.argmax(1))])
    finally:
        torsh.set_num_threads(before)
        torsh.use_backend("cpu")
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_backend_allocates_aligned_memory():
    s = CpuBackend().allocate(100)
    assert isinstance(s, Storage) and s.pointer % 64 == 0 and s.nbytes == 100 and not s.shared
