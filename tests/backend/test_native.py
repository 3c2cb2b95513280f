"""The native runtime: every unit is done exactly once, errors and stops, resizing, several threads, fork, exit."""
from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from functools import cache
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")
from torsh.backend.cpu import native  # noqa: E402
from torsh.backend.cpu.jit import emit_object  # noqa: E402
from torsh.backend.cpu.runtime_ir import MAX_THREADS, runtime_text  # noqa: E402

# The table is (cells, stop flag). count adds 1 to the cell of each unit (params: the first one's number); fail does so too
# and stores {1, begin, end} as an error; stop sets the flag; slow takes some 0.1 ms more per chunk; check (params: expected,
# cell) fails unless the cell holds what is expected.
KERNELS = """
define void @count(ptr %table, ptr %params, ptr %status, i64 %begin, i64 %end) {
entry:
  %cells = load ptr, ptr %table
  %first = load i64, ptr %params
  %some = icmp slt i64 %begin, %end
  br i1 %some, label %loop, label %leave
loop:
  %unit = phi i64 [ %begin, %entry ], [ %next, %loop ]
  %index = add i64 %first, %unit
  %cell = getelementptr i64, ptr %cells, i64 %index
  %old = atomicrmw add ptr %cell, i64 1 monotonic
  %next = add i64 %unit, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %leave
leave:
  ret void
}
define void @fail(ptr %table, ptr %params, ptr %status, i64 %begin, i64 %end) {
  call void @count(ptr %table, ptr %params, ptr %status, i64 %begin, i64 %end)
  %index = getelementptr i64, ptr %status, i64 1
  %size = getelementptr i64, ptr %status, i64 2
  store i64 1, ptr %status
  store i64 %begin, ptr %index
  store i64 %end, ptr %size
  ret void
}
define void @stop(ptr %table, ptr %params, ptr %status, i64 %begin, i64 %end) {
  call void @count(ptr %table, ptr %params, ptr %status, i64 %begin, i64 %end)
  %at = getelementptr ptr, ptr %table, i64 1
  %flag = load ptr, ptr %at
  store atomic i32 1, ptr %flag monotonic, align 4
  ret void
}
define void @slow(ptr %table, ptr %params, ptr %status, i64 %begin, i64 %end) {
entry:
  br label %loop
loop:
  %turn = phi i64 [ 0, %entry ], [ %next, %loop ]
  %x = load volatile i64, ptr %params
  %next = add i64 %turn, 1
  %more = icmp slt i64 %next, 200000
  br i1 %more, label %loop, label %leave
leave:
  call void @count(ptr %table, ptr %params, ptr %status, i64 %begin, i64 %end)
  ret void
}
define void @check(ptr %table, ptr %params, ptr %status, i64 %begin, i64 %end) {
entry:
  %cells = load ptr, ptr %table
  %expected = load i64, ptr %params
  %where = getelementptr i64, ptr %params, i64 1
  %index = load i64, ptr %where
  %cell = getelementptr i64, ptr %cells, i64 %index
  %value = load i64, ptr %cell
  %same = icmp eq i64 %value, %expected
  br i1 %same, label %leave, label %bad
bad:
  store i64 1, ptr %status
  br label %leave
leave:
  ret void
}
"""
_alive: list[Any] = []


@cache
def kernels() -> dict[str, int]:
    """Addresses of the kernels above."""
    import llvmlite.binding as llvm
    names = ("count", "fail", "stop", "slow", "check")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    compiler = llvm.create_lljit_compiler()
    builder = llvm.JITLibraryBuilder().add_ir(KERNELS)
    for name in names:
        builder.export_symbol(name)
    library = builder.link(compiler, "kernels")
    _alive.extend((compiler, library))
    return {name: library[name] for name in names}


def address(array: np.ndarray) -> int:
    """Where an array's elements are."""
    return array.__array_interface__["data"][0]


class Program:
    """Calls of the kernels above: ``add`` them, then ``run``."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int, int]] = []
        self.params: list[tuple[int, int]] = []
        self.size = 0
        self.status = np.zeros(4, np.int64)
        self.flag = np.zeros(1, np.int32)

    def add(self, kernel: str, units: int, chunk: int) -> None:
        """A call with its own cells, one per unit."""
        self.calls.append((kernel, units, chunk, len(self.params)))
        self.params.append((self.size, 0))
        self.size += units

    def check(self, number: int, cell: int) -> None:
        """A sequential call that fails unless a cell holds ``number``."""
        self.calls.append(("check", 1, 0, len(self.params)))
        self.params.append((number, cell))

    def build(self) -> None:
        """Make the records."""
        self.cells = np.zeros(self.size + 1, np.int64)
        self.words = np.array(self.params, np.int64)
        self.table = np.array([address(self.cells), address(self.flag)], np.int64)
        self.records = np.zeros((len(self.calls), native.RECORD_WORDS), np.int64)
        for row, (kernel, units, chunk, params) in zip(self.records, self.calls, strict=True):
            row[:4] = kernels()[kernel], address(self.words) + 16 * params, units, chunk

    def run(self, runtime: native.NativeRuntime, begin: int = 0, end: int | None = None) -> int:
        """Run the calls."""
        return runtime.run(address(self.records), begin, len(self.calls) if end is None else end, address(self.table),
                           address(self.status), address(self.flag))


def random_program(rng: random.Random, calls: int = 40) -> Program:
    """Calls of random sizes and chunks, each checked by the next one."""
    program = Program()
    for _ in range(calls):
        units = rng.choice([0, 1, 2, 3, rng.randrange(1, 50), rng.randrange(1, 3000)])
        program.add("count", units, rng.choice([0, 1, 2, 7, rng.randrange(1, 200), units, 10**12]))
        if units:
            program.check(1, program.size - 1)
            program.check(1, program.size - units)
    program.build()
    return program


@pytest.fixture(params=["futex", "condition"], scope="module")
def runtime(request: Any) -> Any:
    """The runtime of the process, and one that sleeps on condition variables."""
    if request.param == "futex":
        made = native.native_runtime()
    else:
        made = native.NativeRuntime(native.compile_runtime(condition_variables=True))
    before = made.threads
    yield made
    made.resize(before)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_each_unit_is_done_once_and_calls_are_in_order(runtime, threads):
    rng = random.Random(threads)
    runtime.resize(threads)
    assert runtime.threads == threads
    for _ in range(15):
        program = random_program(rng)
        assert program.run(runtime) == len(program.calls), program.status
        assert (program.cells[:-1] == 1).all()
    # Short jobs one after the other: workers are late, early, spinning and asleep.
    program = Program()
    for k in range(500):
        program.add("count", 3 + k % 5, 1)
    program.build()
    for turn in range(1, 41):
        assert program.run(runtime) == 500
        assert (program.cells[:-1] == turn).all()
        if turn % 10 == 0:
            time.sleep(0.001)


def test_part_of_a_program(runtime):
    runtime.resize(2)
    program = Program()
    for _ in range(6):
        program.add("count", 10, 2)
    program.build()
    assert program.run(runtime, 2, 4) == 4
    assert program.run(runtime, 3, 3) == 3
    assert program.cells[:-1].tolist() == [0] * 20 + [1] * 20 + [0] * 20


@pytest.mark.parametrize("chunk", [0, 1, 3, 100])
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_an_error_ends_the_run_and_names_the_call(runtime, chunk, threads):
    runtime.resize(threads)
    for _ in range(50):
        program = Program()
        for kernel in ("count", "count", "fail", "count"):
            program.add(kernel, 40, chunk)
        program.build()
        assert program.run(runtime) == 2
        code, begin, end, number = program.status.tolist()
        assert (code, number) == (1, 2)
        size = chunk if threads > 1 and 0 < chunk < 40 else 40
        assert begin % size == 0 and end == min(begin + size, 40)       # the words are of one chunk
        assert program.cells[:-1].tolist() == [1] * 120 + [0] * 40
        program.status[:] = 0
        assert program.run(runtime, 3) == 4 and not program.status.any()


@pytest.mark.parametrize("chunk", [0, 5])
def test_the_stop_flag_ends_the_run_after_a_call(runtime, chunk):
    runtime.resize(2)
    program = Program()
    for kernel in ("count", "stop", "count"):
        program.add(kernel, 40, chunk)
    program.build()
    assert program.run(runtime) == 2
    assert program.cells[:-1].tolist() == [1] * 80 + [0] * 40 and not program.status.any()
    program.flag[0] = 0
    assert program.run(runtime, 2) == 3


def test_resizing_while_in_use(runtime):
    rng = random.Random(0)
    programs = [random_program(rng, 30) for _ in range(2)]
    ended = threading.Event()

    def resize() -> None:
        sizes = random.Random(1)
        while not ended.is_set():
            runtime.resize(sizes.choice([1, 2, 3, 5, 12]))
            time.sleep(0.0003)

    other = threading.Thread(target=resize)
    other.start()
    try:
        for _ in range(150):
            for program in programs:
                program.cells[:] = 0
                assert program.run(runtime) == len(program.calls), program.status
                assert (program.cells[:-1] == 1).all()
    finally:
        ended.set()
        other.join()


def test_sizes_out_of_range_are_clamped():
    runtime = native.NativeRuntime(native.compile_runtime())
    runtime.resize(0)
    assert runtime.threads == 1
    runtime.resize(10**9)
    assert runtime.threads == MAX_THREADS
    runtime.resize(1)


def test_four_threads_at_once(runtime):
    runtime.resize(3)
    failures: list[str] = []

    def use(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(60):
            program = random_program(rng, 20)
            if program.run(runtime) != len(program.calls) or not (program.cells[:-1] == 1).all():
                failures.append(str(program.status))

    users = [threading.Thread(target=use, args=(k,)) for k in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert not failures


def test_the_interpreters_lock_is_released_and_the_pool_does_not_block(runtime):
    """While one thread is in a long call, another one's calls go on."""
    runtime.resize(2)
    long = Program()
    for _ in range(20000):
        long.add("slow", 1, 0)
    long.build()
    result: list[int] = []
    other = threading.Thread(target=lambda: result.append(long.run(runtime)))
    other.start()
    short = Program()
    short.add("count", 100, 10)
    short.build()
    assert short.run(runtime) == 1
    long.flag[0] = 1
    other.join()
    assert 1 <= result[0] < 20000 and long.cells.sum() == result[0]


def test_idle_workers_use_no_processor_time(runtime):
    runtime.resize(4)
    program = Program()
    program.add("count", 100, 1)
    program.build()
    program.run(runtime)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


@pytest.mark.parametrize("triple", ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "arm64-apple-macosx14.0.0",
                                    "x86_64-apple-macosx14.0.0", "riscv64-unknown-linux-gnu"])
@pytest.mark.parametrize("condition_variables", [False, True])
def test_the_text_compiles_for_other_machines(triple, condition_variables):
    text = runtime_text(triple, condition_variables)
    assert ("@syscall" in text) == ("linux" in triple and "riscv" not in triple and not condition_variables)
    image = emit_object(text, triple)
    assert image[:4] == (b"\xcf\xfa\xed\xfe" if "apple" in triple else b"\x7fELF")
    assert all(name.encode() in image for name in native.EXPORTS)


def script(body: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run Python code that has ``runtime`` and a ``program`` of 200 parallel calls. Warnings are off: Python warns of fork()
    in a process with threads."""
    head = """
        import os, sys, threading, time
        from tests.backend.test_native import Program, native
        runtime = native.native_runtime()
        runtime.resize(3)
        program = Program()
        for _ in range(200):
            program.add("count", 64, 4)
        program.build()
        def done(times):
            return bool((program.cells[:-1] == times).all())
        """
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    text = textwrap.dedent(head) + textwrap.dedent(body)
    return subprocess.run([sys.executable, "-W", "ignore", "-c", text], cwd=root, timeout=seconds, capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": root})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_has_a_pool_of_its_own():
    done = script("""
        assert program.run(runtime) == 200 and done(1)
        busy = Program()
        busy.add("slow", 1 << 20, 1)
        busy.build()
        other = threading.Thread(target=busy.run, args=(runtime,), daemon=True)
        for turn in range(8):
            if turn == 4:
                other.start()          # holds the pool from now on; not in the children
                time.sleep(0.02)
            child = os.fork()
            if child == 0:
                fine = program.run(runtime) == 200 and done(2)
                threads = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 3   # of this child
                os._exit(0 if fine and threads == 3 else 1 if fine else 2)
            assert os.waitpid(child, 0)[1] == 0, turn
        print("fine")
        sys.stdout.flush()
        os._exit(0)
        """)
    assert done.stdout == "fine\n", done.stderr


@pytest.mark.parametrize("end, code", [("", 0), ("sys.exit(3)", 3), ("raise RuntimeError('the end')", 1)])
@pytest.mark.parametrize("asleep", [False, True])
def test_the_process_ends(end, code, asleep):
    done = script(f"""
        assert program.run(runtime) == 200 and done(1)
        time.sleep({0.02 if asleep else 0})
        print("fine", flush=True)
        {end}
        """)
    assert done.stdout == "fine\n" and done.returncode == code, done.stderr


def test_the_process_ends_while_a_daemon_thread_is_inside():
    done = script("""
        busy = Program()
        busy.add("slow", 1 << 20, 1)
        busy.build()
        threading.Thread(target=busy.run, args=(runtime,), daemon=True).start()
        time.sleep(0.05)
        assert program.run(runtime) == 200 and done(1)
        print("fine", flush=True)
        """)
    assert done.stdout == "fine\n" and done.returncode == 0, done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_workers_start_late_and_end_with_the_pool():
    done = script("""
        def tasks():
            return len(os.listdir("/proc/self/task"))
        before = tasks()
        assert program.run(runtime) == 200
        assert tasks() == before + 2
        runtime.resize(2)
        assert tasks() == before + 1
        runtime.resize(6)
        assert tasks() == before + 1
        assert program.run(runtime) == 200
        assert tasks() == before + 5
        runtime.resize(1)
        assert tasks() == before
        assert program.run(runtime) == 200 and done(3)
        print("fine", flush=True)
        """)
    assert done.stdout == "fine\n", done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_workers_take_no_signals():
    done = script("""
        import signal
        hits = []
        signal.signal(signal.SIGUSR1, lambda *_: hits.append(threading.get_ident()))
        assert program.run(runtime) == 200
        time.sleep(0.05)                     # a new thread blocks all signals until it has started
        masks = []
        for task in os.listdir("/proc/self/task"):
            for line in open(f"/proc/self/task/{task}/status"):
                if line.startswith("SigBlk"):
                    masks.append(int(line.split()[1], 16))
        blocked = [m for m in masks if m >> (signal.SIGUSR1 - 1) & 1]
        assert len(blocked) == 2 and not any(m >> (signal.SIGSEGV - 1) & 1 for m in masks), masks
        os.kill(os.getpid(), signal.SIGUSR1)
        assert hits
        print("fine", flush=True)
        """)
    assert done.stdout == "fine\n", done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space")
def test_without_memory_for_stacks_fewer_threads_do():
    done = script("""
        import resource
        def tasks():
            return len(os.listdir("/proc/self/task"))
        before = tasks()
        runtime.resize(64)
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (10 << 20), resource.RLIM_INFINITY))
        for turn in range(1, 20):
            assert program.run(runtime) == 200 and done(turn)
        assert tasks() < before + 8
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        runtime.resize(12)
        assert program.run(runtime) == 200 and done(20)
        assert tasks() == before + 11
        print("fine", flush=True)
        """)
    assert done.stdout == "fine\n", done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity")
def test_the_affinity_of_woken_workers_is_restored():
    done = script("""
        for _ in range(60):
            time.sleep(0.0005)
            program.run(runtime)
        time.sleep(0.02)
        masks = {frozenset(os.sched_getaffinity(int(task))) for task in os.listdir("/proc/self/task")}
        assert masks == {frozenset(os.sched_getaffinity(0))}, masks
        print("fine", flush=True)
        """)
    assert done.stdout == "fine\n", done.stderr


def test_one_runtime_per_process():
    runtime = native.native_runtime()
    assert native.native_runtime() is runtime
    assert runtime.run(0, 7, 7, 0, 0, 0) == 7
