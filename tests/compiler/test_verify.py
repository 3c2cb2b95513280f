"""The verifier: it accepts what the compiler makes, and finds what is broken on purpose."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from torsh.backend.cpu.backend import CpuBackend
from torsh.codegen.llvm import supported
from torsh.compiler import program, templates
from torsh.compiler.footprint import flops, loop_parameters_of, regions
from torsh.compiler.kernel import Access, BufferRef, Call, LoopKernel, Stage, Value
from torsh.compiler.plan import Plan
from torsh.compiler.program import compile_plan
from torsh.compiler.verify import verify_kernel, verify_lowered, verify_plan
from torsh.core.dtype import bool_, float32, float64, int32, int64
from torsh.core.errors import CompileError
from torsh.ops.common import add, exp, mul, reduce, sub
from torsh.ops.expr import TABLE, Expr, emit, leaf, no_grad_recording


def plan_of(*outputs: Expr, in_place: tuple[tuple[int, int], ...] = ()) -> Plan:
    """A fresh plan."""
    return compile_plan(outputs, in_place, supported, (0, 0))


def tensors() -> tuple[Expr, Expr]:
    """Two leaves."""
    return leaf(0, (12, 20), float32, False), leaf(1, (12, 20), float32, False)


def softmax_like() -> Plan:
    """A program with scratch memory: two products and what is between them."""
    a, b = tensors()
    with no_grad_recording():
        inner = emit(TABLE["matmul"], (a, emit(TABLE["permute"], (b,), (1, 0))))
        return plan_of(emit(TABLE["matmul"], (exp(inner), b)), sub(inner, reduce("amax", inner, (1,), True)))


def loop_call(plan: Plan) -> tuple[int, Call, LoopKernel]:
    """The first loop kernel of a plan."""
    for number, step in enumerate(plan.steps):
        if isinstance(step, Call) and isinstance(step.kernel, LoopKernel):
            return number, step, step.kernel
    raise AssertionError("no loop kernel")


def test_good_plans_pass():
    a, b = tensors()
    verify_plan(softmax_like())
    with no_grad_recording():
        verify_plan(plan_of(add(a, b), in_place=((0, 0),)))
        verify_plan(plan_of(emit(TABLE["flip"], (a,), (0,)), in_place=((0, 0),)))
        verify_plan(plan_of(emit(TABLE["cumsum"], (a,), 1), emit(TABLE["cummax_index"], (a,), 0)))


def test_the_switch(monkeypatch):
    def broken(plan: Plan) -> None:
        raise CompileError("looked at")
    monkeypatch.setattr("torsh.compiler.verify.verify_plan", broken)
    a, b = tensors()
    with pytest.raises(CompileError, match="looked at"):
        plan_of(add(a, b))
    monkeypatch.setattr(program, "VERIFY", [False])
    plan_of(add(a, b))


# ---- expressions -------------------------------------------------------------------------------------------------------

def test_composites_and_implicit_casts_are_no_lowered_expressions():
    a, _ = tensors()
    with pytest.raises(CompileError, match="softmax.*no primitive"):
        verify_lowered([exp(emit(TABLE["softmax"], (a,), 0))])
    with pytest.raises(CompileError, match="different dtypes"):
        verify_lowered([add(a, leaf(1, (12, 20), float64, False))])


# ---- kernels -----------------------------------------------------------------------------------------------------------

GOOD = LoopKernel(1, 1, "inner", (float32, float32), 0b10, (Access(0, 1, 0b11), Access(1, 0, 0b01)), 0, (
    Value("load", float32, (), 0), Value("reduce", float32, (0,), "sum"), Value("exp", float32, (1,)),
    Value("store", float32, (2,), 1)), (Stage(True, (0, 1)), Stage(False, (2, 3))))


def with_value(position: int, value: Value) -> LoopKernel:
    """The kernel with another value."""
    values = list(GOOD.values)
    values[position] = value
    return dataclasses.replace(GOOD, values=tuple(values))


@pytest.mark.parametrize(("kernel", "message"), [
    (with_value(2, Value("exp", float32, (2,))), "not all earlier"),
    (with_value(2, Value("exp", float64, (1,))), "float64 where float32"),
    (with_value(2, Value("softmax", float32, (1,))), "no elementwise primitive"),
    (with_value(2, Value("lt", float32, (1, 1))), "float32 where bool"),
    (with_value(0, Value("load", int32, (), 0)), "no.* buffer of int32"),
    (with_value(0, Value("load", float32, (), 7)), "no access 7"),
    (with_value(0, Value("index_load", float32, (), (0, 1))), "indirect dimensions"),
    (with_value(0, Value("scalar", float32, (), 0)), "no scalar parameter"),
    (with_value(0, Value("iota", int64, (), 0)), "without a buffer"),
    (with_value(1, Value("reduce", float32, (0,), "median")), "median"),
    (with_value(1, Value("reduce", float32, (0,), "argmax")), "argmax"),
    (dataclasses.replace(GOOD, stages=(Stage(True, (0, 1)),)), "stores and reductions"),
    (dataclasses.replace(GOOD, stages=(Stage(True, (1,)), Stage(False, (2, 3)))), r"needs \[0\]"),
    (dataclasses.replace(GOOD, stages=(Stage(True, (0, 1, 2, 3)),)), r"needs \[1\]"),
    (dataclasses.replace(GOOD, stages=(Stage(True, (1, 0)), Stage(False, (2, 3)))), "needs|out of order"),
    (dataclasses.replace(GOOD, stages=(Stage(False, (0, 1)), Stage(False, (2, 3)))), "outside of a loop"),
    (dataclasses.replace(GOOD, written=0b01), "written buffers"),
    (dataclasses.replace(GOOD, inner=0), "no inner|none|do not exist"),
    (dataclasses.replace(GOOD, accesses=(Access(0, 1, 0b111), Access(1, 0, 0b01))), "do not exist"),
])
def test_broken_kernels(kernel, message):
    verify_kernel(GOOD)
    with pytest.raises(CompileError, match=message):
        verify_kernel(kernel)


def test_conditions_are_bool():
    values = (Value("load", float32, (), 0), Value("reduce", float32, (0,), "sum"), Value("where", float32, (1, 1, 1)),
              Value("store", float32, (2,), 1))
    with pytest.raises(CompileError, match="condition is float32"):
        verify_kernel(dataclasses.replace(GOOD, values=values))
    fine = Value("isnan", bool_, (1,))
    with pytest.raises(CompileError, match="stores a bool as float32"):
        verify_kernel(with_value(2, fine))


# ---- plans -------------------------------------------------------------------------------------------------------------

def changed(plan: Plan, change: Callable[[list[int], LoopKernel], None]) -> Plan:
    """The plan with other parameters of its first loop kernel."""
    _, call, kernel = loop_call(plan)
    words = list(call.params)
    change(words, kernel)
    call.params = tuple(words)
    return plan


def shift_first_access(words: list[int], kernel: LoopKernel) -> None:
    """Let the first access begin one element later."""
    words[kernel.grid + kernel.inner + 2 * len(kernel.buffers)] += 1


def test_an_address_outside_of_a_buffer():
    a, b = tensors()
    plan = changed(plan_of(add(a, b)), shift_first_access)
    with pytest.raises(CompileError, match=r"step 0 \(add\): bytes \[4, 964\) of a buffer of 960 bytes read"):
        verify_plan(plan)


def test_a_wrong_number_of_parameters():
    a, b = tensors()
    with pytest.raises(CompileError, match="step 0 .*parameters"):
        verify_plan(changed(plan_of(add(a, b)), lambda words, kernel: words.append(0)))


def test_a_wrong_number_of_units():
    a, b = tensors()
    plan = plan_of(add(a, b))
    loop_call(plan)[1].units += 1
    with pytest.raises(CompileError, match="work units"):
        verify_plan(plan)


def test_a_motion_that_the_strides_do_not_have():
    a, b = tensors()

    def double(words: list[int], kernel: LoopKernel) -> None:
        words[-1] *= 2
    with pytest.raises(CompileError, match="motion|twice|bytes"):
        verify_plan(changed(plan_of(add(a, b)), double))


def test_an_order_in_which_values_are_read_before_they_are_there():
    plan = softmax_like()
    verify_plan(plan)
    plan.steps.reverse()
    with pytest.raises(CompileError, match="step 0 .*(nothing was written|in no buffer)"):
        verify_plan(plan)


def test_a_missing_step():
    plan = softmax_like()
    del plan.steps[-1]
    with pytest.raises(CompileError, match="output . is not written completely"):
        verify_plan(plan)


def test_scratch_buffers_on_top_of_each_other():
    plan = softmax_like()
    scratch = [b for b in plan.buffers if b.slot == 0]
    assert len(scratch) >= 2
    for b in scratch:
        b.offset = 0
    with pytest.raises(CompileError, match="overlap while both are in use"):
        verify_plan(plan)


def test_an_arena_that_is_too_small():
    plan = softmax_like()
    plan.scratch_bytes -= 64
    with pytest.raises(CompileError, match="outside of the arena"):
        verify_plan(plan)


def test_a_leaf_that_is_read_after_it_was_replaced():
    a, b = tensors()
    with no_grad_recording():
        outputs = (add(a, 1.0), emit(TABLE["matmul"], (a, emit(TABLE["permute"], (b,), (1, 0)))))
        plan = plan_of(*outputs, in_place=((0, 0),))
    verify_plan(plan)
    plan.steps.reverse()
    with pytest.raises(CompileError, match="reads leaf 0, which step 0 has begun to replace"):
        verify_plan(plan)


def test_a_leaf_that_is_replaced_while_other_elements_are_read():
    a, _ = tensors()
    with no_grad_recording():
        plan = plan_of(mul(emit(TABLE["flip"], (a,), (0,)), 2.0))
    verify_plan(plan)
    plan.in_place = ((0, 0),)
    with pytest.raises(CompileError, match="replaces leaf 0 while it reads other elements"):
        verify_plan(plan)


def test_a_leaf_that_a_stage_replaces_before_another_reads_it():
    a, _ = tensors()
    with no_grad_recording():
        scaled = mul(a, 2.0)
        plan = plan_of(scaled, sub(scaled, reduce("amax", scaled, (1,), True)))
    number, call, kernel = loop_call(plan)
    stores = [q for q, v in enumerate(kernel.values) if v.op == "store"]
    first = kernel.stages[0]
    early = next(q for q in stores if q in first.body) if any(q in first.body for q in stores) else stores[0]
    plan.in_place = ((0, 0),)
    if early in first.body:
        with pytest.raises(CompileError, match="before it reads them"):
            verify_plan(plan)
    else:
        verify_plan(plan)


def test_stores_that_meet():
    a, _ = tensors()

    def stand_still(words: list[int], kernel: LoopKernel) -> None:
        store = next(v.attr for v in kernel.values if v.op == "store")
        assert kernel.accesses[store].axes.bit_count() == 1
        words[-1] = 0
    with no_grad_recording(), pytest.raises(CompileError, match="twice|motion"):
        verify_plan(changed(plan_of(exp(a)), stand_still))


# ---- footprints --------------------------------------------------------------------------------------------------------

def test_parameters_by_meaning():
    a, b = tensors()
    with no_grad_recording():
        _, call, kernel = loop_call(plan_of(add(a, emit(TABLE["slice"], (b,), ((11, 12, -1), (0, 20, 1))))))
    p = loop_parameters_of(call)
    assert p.extents == (12, 20) and p.buffers == [(1, 0), (2, 0), (3, 0)]
    assert p.offsets == [0, 220, 0] and p.strides == [(20, 1), (-20, 1), (20, 1)]
    assert [r.bounds for r in regions(call)] == [(0, 960)] * 3
    assert flops(call) == 240


@pytest.mark.parametrize(("call", "expected"), [
    (templates.copy(4, BufferRef(1, 8), BufferRef(2), 10), [(2, 0, 40, False), (1, 8, 48, True)]),
    (templates.fill(4, BufferRef(1), 0, 10), [(1, 0, 40, True)]),
    (templates.transpose_copy(4, BufferRef(1), BufferRef(2), (3, 5), (1, 3), (5, 1)), [(2, 0, 60, False), (1, 0, 60, True)]),
    (templates.transpose_copy(8, BufferRef(1), BufferRef(2, 32), (5,), (-1,), (1,)), [(2, 0, 40, False), (1, 0, 40, True)]),
    (templates.scan(float32, "sum", BufferRef(1), BufferRef(2), 2, 5, 3), [(2, 0, 120, False), (1, 0, 120, True)]),
    (templates.matmul(float32, BufferRef(1), BufferRef(2), BufferRef(3), (2,), 3, 4, 5, (15, 5, 1), (0, 4, 1), (12, 4, 1)),
     [(2, 0, 120, False), (3, 0, 80, False), (1, 0, 96, True)]),
    (templates.scatter(float32, "add", BufferRef(1), BufferRef(2), BufferRef(3), 0, (3, 4), (6, 4), (4, 1), (4, 1)),
     [(2, 0, 96, False), (3, 0, 48, False), (1, 0, 96, False), (1, 0, 96, True)]),
    (templates.index_put(float32, True, BufferRef(1), (6, 4), [(BufferRef(2), (1,))], (0,), (3,), BufferRef(3), (4, 1)),
     [(2, 0, 24, False), (3, 0, 48, False), (1, 0, 96, False), (1, 0, 96, True)]),
])
def test_what_templates_touch(call: Call, expected: list[Any]):
    assert [(r.slot, *r.bounds, r.write) for r in regions(call)] == expected


def test_matmul_counts_two_operations_per_product():
    call = templates.matmul(float32, BufferRef(1), BufferRef(2), BufferRef(3), (), 3, 4, 5, (5, 1), (4, 1), (4, 1))
    assert flops(call) == 2 * 3 * 4 * 5


def test_every_compiled_program_is_verified_in_tests():
    assert program.VERIFY == [True]
    a, b = tensors()
    with no_grad_recording():
        assert CpuBackend().compile((add(a, b),), ()).plan.buffers
