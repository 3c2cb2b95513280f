"""Where intermediate results live: the scratch arena, and outputs that are written late."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from comparison import close, compiled, reference
from random_programs import RandomChoices, random_program

from torsh.codegen.llvm import supported
from torsh.compiler import memory, program
from torsh.compiler.program import compile_plan
from torsh.compiler.steps import Buffer, Step
from torsh.compiler.verify import verify_plan
from torsh.core.dtype import float32
from torsh.core.errors import CompileError
from torsh.ops.common import add, constant, mul, reduce
from torsh.ops.expr import TABLE, Expr, emit, leaf, no_grad_recording

SIDE = 512
MATRIX = SIDE * SIDE * 4


@pytest.fixture
def borrowing_always() -> Iterator[None]:
    """Small arenas borrow memory, too, and small buffers; no templates are left that were made otherwise."""
    saved = memory._LARGE_ARENA, memory._LARGE_PART
    memory._LARGE_ARENA, memory._LARGE_PART = 0, 1 << 40  # type: ignore[misc]
    program.templates_by_skeleton.known.clear()
    try:
        yield
    finally:
        memory._LARGE_ARENA, memory._LARGE_PART = saved  # type: ignore[misc]
        program.templates_by_skeleton.known.clear()


def steps_of(*uses: tuple[list[Buffer], list[Buffer]]) -> list[Step]:
    """Steps that read and write these buffers."""
    steps = []
    for number, (reads, writes) in enumerate(uses):
        step = Step(number, constant(0.0, float32))
        step.reads, step.writes = reads, writes
        steps.append(step)
    return steps


def output(number: int, nbytes: int) -> Buffer:
    """A buffer that is an output."""
    b = Buffer(nbytes)
    b.output = number
    return b


def matrix_program() -> list[Expr]:
    """Two products in memory until both are summed; then a third, which is the output."""
    x, y = leaf(0, (SIDE, SIDE), float32, False), leaf(1, (SIDE, SIDE), float32, False)
    with no_grad_recording():
        first = emit(TABLE["matmul"], (x, y))
        second = emit(TABLE["matmul"], (y, x))
        total = reduce("sum", mul(first, second), (0, 1), True)
        return [emit(TABLE["matmul"], (mul(x, total), y))]


def test_a_buffer_lives_in_an_output_that_is_written_later():
    first, second, last = Buffer(2 << 20), Buffer(2 << 20), output(0, 2 << 20)
    steps = steps_of(([], [first]), ([first], [second]), ([second], []), ([], [last]))
    assert memory.plan(steps) == 2 << 20
    assert first.inside is last and second.inside is None


def test_several_buffers_share_an_output():
    parts = [Buffer(1 << 20) for _ in range(3)]
    last = output(0, 3 << 20)
    assert memory.plan(steps_of(([], parts), (parts, []), ([], [last]))) == 0
    assert {b.inside for b in parts} == {last}
    assert sorted(b.offset for b in parts) == [0, 1 << 20, 2 << 20]


def test_outputs_that_are_there_already_lend_nothing():
    for owned in ((), (0,)):
        first, last = Buffer(2 << 20), output(0, 2 << 20)
        size = memory.plan(steps_of(([], [first]), ([first], []), ([], [last])), owned)
        assert (size, first.inside) == ((2 << 20, None) if owned else (0, last))


def test_a_buffer_that_the_output_is_computed_from_stays_in_the_arena():
    first, last = Buffer(2 << 20), output(0, 2 << 20)
    assert memory.plan(steps_of(([], [first]), ([first], [last]))) == 2 << 20
    assert first.inside is None


def test_small_arenas_stay_as_they_are():
    first, last = Buffer(4096), output(0, 4096)
    assert memory.plan(steps_of(([], [first]), ([first], []), ([], [last]))) == 4096


def test_a_program_borrows_from_its_output():
    outputs = matrix_program()
    new = compile_plan(outputs, (), supported, (0, 0))
    replaced = [compile_plan(outputs, pairs, supported, (0, 0)) for pairs in (((0, -1),), ((0, 0),))]
    assert MATRIX <= new.scratch_bytes < MATRIX + 4096
    assert [p.scratch_bytes - new.scratch_bytes for p in replaced] == [MATRIX, MATRIX]


def test_a_program_that_borrows_is_right():
    rng = np.random.default_rng(0)
    leaves = [(rng.standard_normal((SIDE, SIDE)) / SIDE).astype(np.float32) for _ in range(2)]
    outputs = matrix_program()
    for got, expected in zip(compiled(outputs, leaves), reference(outputs, leaves), strict=True):
        assert not close(got, expected, 1e-4)


def test_the_verifier_sees_loans_that_are_not_given_back():
    plan = compile_plan(matrix_program(), (), supported, (0, 0))
    lent, = [b for b in plan.buffers if b.slot == plan.output_word(0) and b.last < len(plan.steps)]
    lent.last = len(plan.steps) - 1
    with pytest.raises(CompileError, match="overlap while both are in use"):
        verify_plan(plan)


def test_the_verifier_sees_loans_of_memory_that_holds_a_value():
    plan = compile_plan(matrix_program(), (), supported, (0, 0))
    plan.in_place = ((0, 0),)
    with pytest.raises(CompileError, match="borrows memory that holds a value"):
        verify_plan(plan)


def test_random_programs_that_borrow(borrowing_always):
    borrowed = 0
    for seed in range(60_000, 60_150):
        with no_grad_recording():
            p = random_program(RandomChoices(seed))
        got = compiled(p.outputs, p.leaves, p.scalars, p.in_place)
        for a, b, tolerance in zip(got, reference(p.outputs, p.leaves, p.scalars), p.tolerances, strict=True):
            assert not close(a, b, tolerance), f"seed {seed}"
        plan = compile_plan(p.outputs, p.in_place, supported, (0, len(p.scalars)))
        borrowed += sum(b.slot > 0 and 0 <= b.first <= b.last < len(plan.steps) for b in plan.buffers)
    assert borrowed > 50


def test_sizes_of_a_program_that_borrows(borrowing_always):
    with no_grad_recording():
        for rows in range(3, 12):           # from the third on by a template, which is compared with the compiler's plan
            x, y = leaf(0, (rows, 8), float32, False), leaf(1, (8, rows), float32, False)
            first = emit(TABLE["matmul"], (x, y))
            total = reduce("sum", emit(TABLE["matmul"], (add(first, 1.0), x)), (0, 1), True)
            outputs = [emit(TABLE["matmul"], (mul(x, total), y))]
            leaves = [np.full((rows, 8), 0.5, np.float32), np.full((8, rows), 0.25, np.float32)]
            assert not close(compiled(outputs, leaves)[0], reference(outputs, leaves)[0], 1e-2)
