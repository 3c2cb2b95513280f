"""Preparing calls are left out while their operand does not change, and never a moment longer.

No operation is needed for that: the programs here are plans written by hand, out[b, i] = x[b, i] + w[j(i)], where a call before brings
w into another order.
"""
from __future__ import annotations

import ctypes
import gc
import os
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from torsh.backend.base import Storage
from torsh.backend.cpu import executable, keeping, memory
from torsh.backend.cpu.backend import CpuBackend
from torsh.backend.cpu.executable import CpuExecutable
from torsh.backend.cpu.memory import POOL, allocate
from torsh.backend.reference import ReferenceBackend
from torsh.backend.reference.evaluate import storage_of_array
from torsh.backend.watch import WATCHED, overwrite, share, watch
from torsh.compiler import templates
from torsh.compiler.explain import explain
from torsh.compiler.kernel import Access, BufferRef, Call, LoopKernel, Stage, Value, grid_units, loop_parameters
from torsh.compiler.plan import HostStep, Plan, PlannedBuffer
from torsh.compiler.preparations import keepable
from torsh.compiler.program import check_same
from torsh.compiler.template import Template
from torsh.compiler.verify import verify_plan
from torsh.core.dtype import float32
from torsh.core.errors import CompileError
from torsh.core.symbolic import Tape
from torsh.ops.common import add, mul
from torsh.ops.expr import leaf, no_grad_recording

ROWS, COLUMNS = 24, 40
COUNT = ROWS * COLUMNS
KINDS = ("transposed", "copied", "doubled")


@pytest.fixture(autouse=True)
def _nothing_is_watched():
    WATCHED.clear()
    yield
    WATCHED.clear()


# ---- programs ----------------------------------------------------------------------------------------------------------

ADD = LoopKernel(2, 0, "grid", (float32, float32, float32), 0b100,
                 (Access(0, 1, 0b11), Access(1, 1, 0b10), Access(2, 1, 0b11)), 0,
                 (Value("load", float32, (), 0), Value("load", float32, (), 1), Value("add", float32, (0, 1)),
                  Value("store", float32, (2,), 2)), (Stage(False, (0, 1, 2, 3)),))
DOUBLE = LoopKernel(1, 0, "grid", (float32, float32), 0b10, (Access(0, 1, 0b1), Access(1, 1, 0b1)), 0,
                    (Value("load", float32, (), 0), Value("add", float32, (0, 0)), Value("store", float32, (1,), 1)),
                    (Stage(False, (0, 1, 2)),))


def preparation(kind: str, result: BufferRef, operand: BufferRef) -> Call:
    """A call that brings COUNT numbers into another order (or another form)."""
    if kind == "transposed":
        call = templates.transpose_copy(4, result, operand, (COLUMNS, ROWS), (1, COLUMNS), (ROWS, 1))
        return replace(call, prepares=(0, 2))
    if kind == "copied":
        return replace(templates.copy(4, result, operand, COUNT), prepares=(0, 2))
    params = loop_parameters((COUNT,), [operand, result], [(0, (1,), ()), (0, (1,), ())], [])
    return Call(DOUBLE, params, grid_units((COUNT,), 1, "grid"), COUNT, "double", prepares=(3, 1))


def prepared(kind: str, w: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What a preparation makes."""
    flat = w.reshape(ROWS, COLUMNS)
    return flat.T.reshape(-1) if kind == "transposed" else flat.reshape(-1) if kind == "copied" else 2 * flat.reshape(-1)


def addition(batch: Any, out: BufferRef, x: BufferRef, operand: BufferRef) -> Call:
    """out[b, i] = x[b, i] + operand[i]"""
    params = loop_parameters((batch, COUNT), [x, operand, out], [(0, (COUNT, 1), ()), (0, (1,), ()), (0, (COUNT, 1), ())], [])
    return Call(ADD, params, grid_units((batch, COUNT), 2, "grid"), batch * COUNT, "add", prepared=4)


def plan_of(batch: Any = 3, kinds: tuple[str, ...] = ("transposed",), in_place: tuple[tuple[int, int], ...] = (),
            weights: tuple[int, ...] = ()) -> Plan:
    """Leaves: x, then the weights (or those numbered by ``weights``); an output for each of ``kinds``."""
    weights = weights or tuple(range(len(kinds)))
    leaves = 2 + max(weights)
    steps: list[Any] = []
    scratch = PlannedBuffer(0, 64, 4 * COUNT, 0, 2 * len(kinds))
    for k, kind in enumerate(kinds):            # all in one place of the arena, one after the other
        steps.append(preparation(kind, BufferRef(0, 64), BufferRef(2 + weights[k])))
        steps.append(addition(batch, BufferRef(1 + leaves + k), BufferRef(1), BufferRef(0, 64)))
    size = 4 * batch * COUNT
    buffers = [PlannedBuffer(1, 0, size), *[PlannedBuffer(2 + w, 0, 4 * COUNT) for w in set(weights)], scratch,
               *[PlannedBuffer(1 + leaves + k, 0, size) for k in range(len(kinds))]]
    return Plan(steps, 64 + 4 * COUNT, leaves, (size,) * len(kinds), 0, in_place=in_place, buffers=buffers)


def program_of(*args: Any, **options: Any) -> CpuExecutable:
    """An executable of a verified plan."""
    plan = plan_of(*args, **options)
    verify_plan(plan)
    return CpuExecutable(plan, [])


def array_of(storage: Storage, shape: tuple[int, ...] = (COUNT,)) -> np.ndarray[Any, Any]:
    """The numbers in a storage."""
    memory_of: Any = ctypes.c_char * storage.nbytes
    return np.ndarray(shape, np.float32, memory_of.from_address(storage.pointer))


def stored(values: np.ndarray[Any, Any]) -> Storage:
    """A storage of the pool."""
    storage = allocate(values.nbytes)
    array_of(storage, values.shape)[...] = values
    return storage


def numbers(seed: int, *shape: int) -> np.ndarray[Any, Any]:
    """Some numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def result(program: CpuExecutable, x: Storage, *weights: Storage) -> list[np.ndarray[Any, Any]]:
    """One run."""
    return [array_of(s, (s.nbytes // 4 // COUNT, COUNT)).copy() for s in program.run([x, *weights], [], [])]


def forms_of(w: Storage) -> list[Storage]:
    """What is kept of a weight."""
    found = WATCHED.get(w.pointer)
    return [f for f in found.forms.values() if f is not None] if found is not None and found() is w else []


def correct(program: CpuExecutable, x: Storage, *weights: Storage, kinds: tuple[str, ...] = ("transposed",)) -> bool:
    """Does a run give what the weights say now?"""
    got = result(program, x, *weights)
    return all(np.array_equal(g, array_of(x, g.shape) + prepared(kind, array_of(w)))
               for g, kind, w in zip(got, kinds, weights, strict=True))


def spoilt(w: Storage) -> None:
    """Overwrite what is kept of a weight, to see whether programs use it."""
    for form in forms_of(w):
        array_of(form)[...] = 1000


def uses_kept(program: CpuExecutable, x: Storage, w: Storage) -> bool:
    """Does a run take all of a weight from kept memory?"""
    spoilt(w)
    got = result(program, x, w)[0]
    return np.array_equal(got, array_of(x, got.shape) + np.float32(1000))


# ---- keeping -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", KINDS)
def test_kept_from_the_second_run_on(kind):
    program, x, w = program_of(kinds=(kind,)), stored(numbers(0, 3, COUNT)), stored(numbers(1, COUNT))
    assert correct(program, x, w, kinds=(kind,)) and forms_of(w) == []
    assert correct(program, x, w, kinds=(kind,)) and len(forms_of(w)) == 1
    np.testing.assert_array_equal(array_of(forms_of(w)[0]), prepared(kind, array_of(w)))
    assert correct(program, x, w, kinds=(kind,)) and len(forms_of(w)) == 1
    assert uses_kept(program, x, w)


def test_left_out_calls_do_nothing():
    program, x, w = program_of(), stored(numbers(0, 3, COUNT)), stored(numbers(1, COUNT))
    for _ in range(2):
        result(program, x, w)
    scratch = POOL.take(program.scratch)
    ctypes.memset(scratch, 7, 64 + 4 * COUNT)
    program.scratch.append(scratch)                     # the next run takes it
    assert correct(program, x, w)
    assert ctypes.string_at(scratch, 64 + 4 * COUNT) == b"\7" * (64 + 4 * COUNT)


def test_weights_come_and_go():
    program, x = program_of(), stored(numbers(0, 3, COUNT))
    weights = [stored(numbers(k, COUNT)) for k in range(3)]
    for _ in range(4):
        for w in weights:
            assert correct(program, x, w)
    assert [len(forms_of(w)) for w in weights] == [1, 1, 1]
    assert all(uses_kept(program, x, w) for w in weights)


def test_programs_share_what_is_kept():
    small, large, w = program_of(3), program_of(8), stored(numbers(1, COUNT))
    x, y = stored(numbers(0, 3, COUNT)), stored(numbers(2, 8, COUNT))
    assert correct(small, x, w) and correct(large, y, w)
    form, = forms_of(w)
    assert correct(small, x, w) and forms_of(w) == [form]
    third = program_of(3)
    assert uses_kept(third, x, w) and uses_kept(large, y, w)


def test_several_preparations_in_one_program():
    program, x = program_of(kinds=KINDS), stored(numbers(0, 3, COUNT))
    weights = [stored(numbers(k + 1, COUNT)) for k in range(3)]
    share(weights[1])                                   # this one is prepared anew every time
    for _ in range(4):
        assert correct(program, x, *weights, kinds=KINDS)
    assert [len(forms_of(w)) for w in weights] == [1, 0, 1]
    array_of(weights[1])[...] = 5
    assert correct(program, x, *weights, kinds=KINDS)
    for w in weights:
        spoilt(w)
    first, second, third = result(program, x, *weights)
    assert np.array_equal(first, third) and np.array_equal(second, array_of(x, (3, COUNT)) + np.float32(5))


def test_one_weight_prepared_twice():
    program, x, w = program_of(kinds=("transposed", "transposed", "doubled"), weights=(0, 0, 0)), stored(numbers(0, 3, COUNT)), \
        stored(numbers(1, COUNT))
    kinds = ("transposed", "transposed", "doubled")
    for expected in (0, 2, 2):
        got = result(program, x, w)
        for g, kind in zip(got, kinds, strict=True):
            np.testing.assert_array_equal(g, array_of(x, (3, COUNT)) + prepared(kind, array_of(w)))
        assert len(forms_of(w)) == expected


def test_another_offset_of_the_operand_is_another_form():
    plan = plan_of(kinds=("copied",))
    moved = plan_of(kinds=("copied",))
    moved.steps[0] = replace(preparation("copied", BufferRef(0, 64), BufferRef(2, 128)), prepares=(0, 2))
    x, w = stored(numbers(0, 3, COUNT)), stored(numbers(1, COUNT + 32))
    first, second = CpuExecutable(plan, []), CpuExecutable(moved, [])
    for _ in range(3):
        values = array_of(w, (COUNT + 32,))
        np.testing.assert_array_equal(result(first, x, w)[0], array_of(x, (3, COUNT)) + values[:COUNT])
        np.testing.assert_array_equal(result(second, x, w)[0], array_of(x, (3, COUNT)) + values[32:])
    assert len(forms_of(w)) == 2


def test_plans_from_templates():
    tape = Tape()
    symbolic = plan_of(tape.input(0, 3))
    template = Template(symbolic, tape)
    w = stored(numbers(1, COUNT))
    for batch in (5, 9, 2):
        plan = template.plan([batch])
        assert plan is not None
        check_same(plan, plan_of(batch))
        assert correct(CpuExecutable(plan, []), stored(numbers(batch, batch, COUNT)), w)
    assert len(forms_of(w)) == 1
    with pytest.raises(CompileError, match="the template gives"):
        plan.steps[0] = replace(plan.steps[0], prepares=None)
        check_same(plan, plan_of(2))


def test_numbers_constants_and_sections(monkeypatch):
    monkeypatch.setattr(executable, "INTERRUPTIBLE", 0)         # one section for each call
    plan = replace(plan_of(), scalars=2, constants=(0.5, 0.25))
    program = CpuExecutable(plan, ["d", "8x"])
    x, w = stored(numbers(0, 3, COUNT)), stored(numbers(1, COUNT))
    assert len(program.sections) == 2
    for _ in range(4):
        got = array_of(program.run([x, w], [1.0, None], [])[0], (3, COUNT))
        np.testing.assert_array_equal(got, array_of(x, (3, COUNT)) + prepared("transposed", array_of(w)))
    assert len(forms_of(w)) == 1


def test_shared_among_threads(monkeypatch):
    monkeypatch.setattr(executable, "SHARE_FROM", 1)
    program, x, w = program_of(kinds=("doubled",)), stored(numbers(0, 3, COUNT)), stored(numbers(1, COUNT))
    for _ in range(4):
        assert correct(program, x, w, kinds=("doubled",))
    assert uses_kept(program, x, w)


def test_only_so_many_versions(monkeypatch):
    monkeypatch.setattr(keeping, "MOST_VERSIONS", 1)
    program, x = program_of(kinds=("copied", "doubled")), stored(numbers(0, 3, COUNT))
    a, b = stored(numbers(1, COUNT)), stored(numbers(2, COUNT))
    for _ in range(3):
        assert correct(program, x, a, b, kinds=("copied", "doubled"))
    share(a)
    for _ in range(3):
        assert correct(program, x, a, b, kinds=("copied", "doubled"))
    assert program.keeper is not None and len(program.keeper.versions) == 1


def test_without_memory_for_it(monkeypatch):
    def none(nbytes: int) -> Storage:
        raise MemoryError
    monkeypatch.setattr(keeping, "allocate", none)
    program, x, w = program_of(), stored(numbers(0, 3, COUNT)), stored(numbers(1, COUNT))
    for _ in range(3):
        assert correct(program, x, w) and forms_of(w) == []
    monkeypatch.undo()
    assert correct(program, x, w) and len(forms_of(w)) == 1


# ---- what is not kept --------------------------------------------------------------------------------------------------

def test_what_cannot_be_kept():
    plan = plan_of()
    preparing, adding = plan.steps
    assert [p.leaf for p in keepable(plan)] == [1]
    assert isinstance(preparing, Call) and isinstance(adding, Call)

    def of(*steps: Call, in_place: tuple[tuple[int, int], ...] = ()) -> list[Any]:
        return keepable(replace(plan, steps=list(steps), in_place=in_place))
    assert of(preparing, adding, in_place=((0, 1),)) == []                              # the program overwrites the operand
    assert len(of(preparing, adding, in_place=((0, 0),))) == 1
    assert of(preparing) == [] and of(adding) == []                                     # nobody reads it
    assert of(preparing, replace(adding, prepared=-1)) == []
    assert of(preparation("transposed", BufferRef(0, 64), BufferRef(0, 8192)), adding) == []        # the operand is no leaf
    assert of(preparation("transposed", BufferRef(0, 64), BufferRef(3)), adding) == []
    assert of(preparation("transposed", BufferRef(3), BufferRef(2)), replace(adding, prepared=4)) == []
    scaled = LoopKernel(1, 0, "grid", (float32, float32), 0b10, DOUBLE.accesses, 1, DOUBLE.values, DOUBLE.stages)
    double = preparation("doubled", BufferRef(0, 64), BufferRef(2))
    assert of(replace(double, kernel=scaled, params=(*double.params, 4)), adding) == []     # a Python number decides, too
    # Two preparations in one place: each belongs to the calls behind it.
    found = of(preparing, adding, preparation("doubled", BufferRef(0, 64), BufferRef(2)), adding, adding)
    assert [[n for n, _ in p.consumers] for p in found] == [[1], [3, 4]]


def test_programs_that_overwrite_their_weight():
    program = CpuExecutable(plan_of(1, in_place=((0, 1),)), [])
    x, w = stored(np.zeros((1, COUNT), np.float32)), stored(numbers(1, COUNT))
    for _ in range(4):
        expected = prepared("transposed", array_of(w))
        program.run([x, w], [], [w])
        np.testing.assert_array_equal(array_of(w), expected)
    assert not WATCHED and program.keeper is None


def test_memory_that_others_write():
    program, x = program_of(), stored(numbers(0, 3, COUNT))
    array = numbers(1, COUNT)
    w = Storage(array.ctypes.data, array.nbytes, array, shared=True)
    for k in range(5):
        array[...] = k
        assert correct(program, x, w)
    assert not WATCHED


# ---- writes ------------------------------------------------------------------------------------------------------------

def plus_one(engine: Any) -> Any:
    """A program that adds 1 to its only leaf, in place."""
    a = leaf(0, (COUNT,), float32, False)
    with no_grad_recording():
        return engine.compile((add(a, 1.0),), ((0, 0),))


def written_from_outside(w: Storage) -> None:
    share(w)
    array_of(w)[...] += 1


def stored_without_being_read(w: Storage) -> None:
    a = leaf(0, (COUNT,), float32, False)
    with no_grad_recording():
        program = CpuBackend().compile((mul(a, 3.0),), ())
    assert program.run([stored(numbers(9, COUNT))], [], [w]) == [w]


WRITES = {
    "in place": lambda w: plus_one(CpuBackend()).run([w], [], [w]),
    "into": stored_without_being_read,
    "bound": lambda w: plus_one(CpuBackend()).bind([w.pointer], [w.pointer])([]),
    "reference": lambda w: plus_one(ReferenceBackend()).run([w], [], [w]),
    "bound reference": lambda w: plus_one(ReferenceBackend()).bind([w.pointer], [w.pointer])([]),
    "copied": lambda w: overwrite(w.pointer, stored(numbers(7, COUNT)).pointer, 4 * COUNT),
    "shared": written_from_outside,
}


@pytest.mark.parametrize("write", WRITES)
def test_dropped_when_written(write):
    program, x, w = program_of(), stored(numbers(0, 3, COUNT)), stored(numbers(1, COUNT))
    for k in range(3):
        for _ in range(3):
            assert correct(program, x, w)
        assert len(forms_of(w)) == (write != "shared" or k == 0)
        before = array_of(w).copy()
        WRITES[write](w)
        assert forms_of(w) == [] and w.pointer not in WATCHED
        assert write in ("into", "copied") or not np.array_equal(array_of(w), before)
    assert correct(program, x, w)


def test_bound_programs_drop_at_every_run():
    program, x, w = program_of(), stored(numbers(0, 3, COUNT)), stored(numbers(1, COUNT))
    step = plus_one(CpuBackend()).bind([w.pointer], [w.pointer])
    for _ in range(3):
        step([])
        for _ in range(3):
            assert correct(program, x, w)
        assert len(forms_of(w)) == 1


def test_dropped_even_if_the_write_fails():
    program, x, w = program_of(), stored(numbers(0, 3, COUNT)), stored(numbers(1, COUNT))
    a = leaf(0, (COUNT,), float32, False)
    with no_grad_recording():
        writing = CpuBackend().compile((add(a, 1.0),), ((0, 0),))
    for _ in range(2):
        assert correct(program, x, w)

    def interrupted(table: bytes) -> int:
        array_of(w)[...] += 2
        assert correct(program, x, w)           # as another thread would
        array_of(w)[...] += 2
        raise KeyboardInterrupt
    writing.native = interrupted
    with pytest.raises(KeyboardInterrupt):
        writing.run([w], [], [w])
    assert not WATCHED and correct(program, x, w) and correct(program, x, w)


def test_training_neither_keeps_nor_leaks():
    program, x, w = program_of(), stored(numbers(0, 3, COUNT)), stored(numbers(1, COUNT))
    step = plus_one(CpuBackend())
    for _ in range(2):
        assert correct(program, x, w)
        step.run([w], [], [w])
    used = POOL.in_use
    for _ in range(50):
        assert correct(program, x, w) and forms_of(w) == []
        step.run([w], [], [w])
    assert POOL.in_use == used and not WATCHED


def test_writes_elsewhere_drop_nothing():
    program, x, w = program_of(), stored(numbers(0, 3, COUNT)), stored(numbers(1, COUNT))
    other = stored(numbers(2, COUNT))
    for _ in range(3):
        assert correct(program, x, w)
        plus_one(CpuBackend()).run([other], [], [other])
    assert len(forms_of(w)) == 1


# ---- memory ------------------------------------------------------------------------------------------------------------

def test_freed_with_the_storage():
    program, x = program_of(), stored(numbers(0, 3, COUNT))
    w = stored(numbers(1, COUNT))
    result(program, x, w)
    gc.collect()
    used = memory.memory_stats()["in_use"]
    result(program, x, w)
    form, = forms_of(w)
    assert memory.memory_stats()["in_use"] == used + POOL.blocks(4 * COUNT).size
    del form
    address, block = w.pointer, POOL.blocks(4 * COUNT).size
    del w
    assert memory.memory_stats()["in_use"] == used - block and address not in WATCHED


@pytest.mark.parametrize("pooled", [True, False])
def test_new_storages_at_an_old_address(pooled):
    program, x, array = program_of(), stored(numbers(0, 3, COUNT)), np.empty(COUNT, np.float32)
    addresses = set()
    for k in range(8):
        array[...] = k
        w = stored(array) if pooled else storage_of_array(array)
        for _ in range(1 + k % 3):
            assert correct(program, x, w)
        assert len(forms_of(w)) == (k % 3 > 0)
        addresses.add(w.pointer)
        del w
        assert not WATCHED
    assert len(addresses) <= 3


def test_a_late_end_of_an_old_storage():
    old, array = storage_of_array(numbers(0, COUNT)), None
    new = Storage(old.pointer, old.nbytes, array)           # what another thread may do before the old one is quite gone
    first = watch(old)
    second = watch(new)
    assert first is not second and WATCHED[old.pointer] is second
    del old
    assert WATCHED[new.pointer] is second and watch(new) is second
    assert first is not None and first() is None


def test_empty_cache():
    program, x, w = program_of(), stored(numbers(0, 3, COUNT)), stored(numbers(1, COUNT))
    result(program, x, w)
    used = POOL.in_use
    for _ in range(2):
        result(program, x, w)
    assert POOL.in_use > used
    memory.empty_cache()
    assert POOL.in_use == used and forms_of(w) == []
    for _ in range(3):
        assert correct(program, x, w)
    assert len(forms_of(w)) == 1


# ---- threads and processes ---------------------------------------------------------------------------------------------

def test_readers_never_see_less_than_what_was_written_before():
    program, x, w = program_of(1, kinds=("copied",)), stored(np.zeros((1, COUNT), np.float32)), stored(np.zeros(COUNT, np.float32))
    step, done, wrong = plus_one(CpuBackend()), [0], []
    end = threading.Event()

    def read() -> None:
        while not end.is_set():
            for _ in range(3):
                before = done[0]
                got = result(program, x, w)[0]
                if got.min() < before or got.max() > done[0] + 1:
                    wrong.append((before, got.min(), got.max(), done[0]))
    threads = [threading.Thread(target=read) for _ in range(3)]
    for t in threads:
        t.start()
    for k in range(300):
        step.run([w], [], [w])
        done[0] = k + 1
        if k % 10 == 0:
            end.wait(0.001)                     # so that something is kept in between
    end.set()
    for t in threads:
        t.join()
    assert not wrong and correct(program, x, w, kinds=("copied",))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_processes_have_their_own():
    program, x, w = program_of(), stored(numbers(0, 3, COUNT)), stored(numbers(1, COUNT))
    step = plus_one(CpuBackend())
    for _ in range(3):
        assert correct(program, x, w)
    child = os.fork()
    if not child:
        status = 1
        try:
            kept = len(forms_of(w)) == 1 and correct(program, x, w)
            step.run([w], [], [w])
            status = not (kept and all(correct(program, x, w) for _ in range(3)) and len(forms_of(w)) == 1)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(forms_of(w)) == 1 and correct(program, x, w)


# ---- explain and verify ------------------------------------------------------------------------------------------------

def test_explain_says_what_is_kept():
    found = explain([plan_of(kinds=("transposed", "doubled"), in_place=((0, 2),))])
    assert [k.kept for k in found.kernels] == [True, False, False, False]
    assert str(found).count("kept while its operand is not written") == 1


def broken(number: int, **changes: Any) -> Plan:
    """A plan whose step has been changed."""
    plan = plan_of()
    plan.steps[number] = replace(plan.steps[number], **changes)  # type: ignore[type-var]
    return plan


@pytest.mark.parametrize(("plan", "message"), [
    (lambda: broken(0, prepares=(0, 99)), "position 99 .* names no memory"),
    (lambda: broken(0, prepares=(-1, 2)), "position -1 .* names no memory"),
    (lambda: broken(0, prepares=(0, 4)), "reads more than that"),
    (lambda: broken(0, prepares=(0, 32)), "position 32 .* names no memory"),
    (lambda: broken(1, prepared=99), "position 99 .* names no memory"),
    (lambda: broken(1, prepared=0), "not as a prepared operand"),
    (lambda: broken(0, prepares=None), "no preparation has made"),
    (lambda: replace(plan_of(), steps=[replace(plan_of().steps[0], prepares=None), plan_of().steps[1]]), "no preparation has made"),
    (lambda: broken(1, prepared=-1), "not as a prepared operand"),
    (lambda: broken(0, prepares=(2, 2)), "reads more than that|writes more than its result"),
    (lambda: replace(plan_of(), steps=plan_of().steps[:1]), "that no call reads"),
    (lambda: replace(plan_of(), steps=[*plan_of().steps, templates.copy(4, BufferRef(3), BufferRef(0, 128), 8)]),
     "not as a prepared operand"),
    (lambda: replace(plan_of(), steps=[plan_of().steps[0], templates.fill(4, BufferRef(0, 64), 0, COUNT), plan_of().steps[1]]),
     "that no call reads"),
    (lambda: replace(plan_of(), steps=[replace(templates.copy(4, BufferRef(0, 64), BufferRef(2), COUNT // 2), prepares=(0, 2)),
                                       plan_of().steps[1]]), "reads more than was prepared"),
])
def test_broken_plans(plan, message):
    verify_plan(plan_of())
    with pytest.raises(CompileError, match=message):
        verify_plan(plan())


def test_host_steps_must_not_read_what_was_prepared():
    from torsh.compiler.plan import ArrayRef
    from torsh.ops.expr import TABLE
    plan = plan_of()
    plan.steps.append(HostStep(TABLE["argsort"], (0, False, True), (ArrayRef(BufferRef(0, 64), (COUNT,), float32),),
                               ArrayRef(BufferRef(3), (COUNT,), float32)))
    with pytest.raises(CompileError, match="not as a prepared operand"):
        verify_plan(plan)
