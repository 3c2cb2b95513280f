"""The native runtime as one LLVM module: runs the calls of a program; see :mod:`.threads_ir` for its threads."""
from __future__ import annotations

from dataclasses import dataclass
from string import Template
from typing import Final

from torsh.backend.cpu import threads_ir

MAX_THREADS: Final = 512
SPIN_NANOSECONDS: Final = 40_000     # how long a thread looks for work before it sleeps
STACK_BYTES: Final = 4 << 20
EXPORTS: Final = ("torsh_run", "torsh_run_table", "torsh_pool_resize", "torsh_pool_reset")


@dataclass(frozen=True, slots=True)
class Platform:
    """What differs between systems.

    Attributes: ``futex`` (number of the system call, None: use condition variables), ``pause`` (an instruction for loops
    that wait, may be empty) with its ``pause_declaration``, ``clock`` (CLOCK_MONOTONIC), ``set_mask`` (SIG_SETMASK),
    ``faults`` (signals that a thread raises by its own fault: they stay deliverable in workers).
    """

    futex: int | None
    pause: str
    pause_declaration: str
    clock: int
    set_mask: int
    faults: tuple[int, ...]


def platform_of(triple: str, condition_variables: bool = False) -> Platform:
    """The platform that an LLVM triple names; ``condition_variables``: do not use a futex where there is one."""
    machine = triple.partition("-")[0]
    pause, declaration, futex = "", "", None
    if machine in ("x86_64", "amd64"):
        pause, declaration, futex = "call void @llvm.x86.sse2.pause()", "declare void @llvm.x86.sse2.pause()", 202
    elif machine in ("aarch64", "arm64"):
        # A barrier stalls the loop for some tens of cycles; "yield" is no more than a nop on most cores.
        pause, declaration, futex = "call void @llvm.aarch64.isb(i32 15)", "declare void @llvm.aarch64.isb(i32)", 98
    if "linux" not in triple or condition_variables:
        futex = None
    apple = "apple" in triple or "darwin" in triple
    bus = 10 if apple else 7
    return Platform(futex, pause, declaration, 6 if apple else 1, 3 if apple else 2, (4, 6, 8, bus, 11))


def runtime_text(triple: str, condition_variables: bool = False) -> str:
    """The module for the system that ``triple`` names."""
    platform = platform_of(triple, condition_variables)
    faults = "\n".join(f"  %fault{k} = call i32 @sigdelset(ptr %set, i32 {number})"
                       for k, number in enumerate(platform.faults))
    sleep = threads_ir.CONDITION if platform.futex is None else threads_ir.FUTEX
    parts = (_HEAD, threads_ir.SPIN, sleep, threads_ir.WORK, threads_ir.WORKER, threads_ir.POOL, _SHARE, _RUN)
    return Template("".join(parts)).substitute(
        triple=triple, max=MAX_THREADS, spin=SPIN_NANOSECONDS, stack=STACK_BYTES, futex=platform.futex,
        pause=platform.pause, pause_declaration=platform.pause_declaration, clock=platform.clock,
        set_mask=platform.set_mask, faults=faults)


# Slot: i32 state at 0, pthread_t at 8, number at 16; then mutex at 64 and condition variable at 128, or i32 narrowed at 4
# and affinity at 64.
# Job: remaining chunks, then what a participant reads once it has claimed one; all in one cache line.
_HEAD: Final = """target triple = "$triple"

%Job = type { i64, ptr, ptr, ptr, i64, i64, i64 }

@job = internal global %Job zeroinitializer, align 128
@done = internal global [16 x i64] zeroinitializer, align 128
@lock = internal global [32 x i32] zeroinitializer, align 128
@sleepers = internal global i64 0, align 128
@running = internal global i64 1
@wanted = internal global i64 1
@fault = internal global { i32, [3 x i64] } zeroinitializer, align 128
@slots = internal global [$max x [256 x i8]] zeroinitializer, align 128

declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_join(ptr, ptr)
declare i32 @pthread_attr_init(ptr)
declare i32 @pthread_attr_setstacksize(ptr, i64)
declare i32 @pthread_attr_destroy(ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @sigfillset(ptr)
declare i32 @sigdelset(ptr, i32)
declare i32 @clock_gettime(i32, ptr)
declare i32 @sched_yield()
$pause_declaration
"""

# @share runs one call with the pool; false if the pool is in use or has no workers (nothing is done then).
_SHARE: Final = """
define internal void @wait(i64 %others) nounwind {
entry:
  %since = alloca i64, align 8
  store i64 0, ptr %since, align 8
  br label %round
round:
  br label %spin
spin:
  %turn = phi i64 [ 0, %round ], [ %turn.next, %idle ]
  %done = load atomic i64, ptr @done acquire, align 8
  %all = icmp eq i64 %done, %others
  br i1 %all, label %leave, label %idle
idle:
  $pause
  %turn.next = add i64 %turn, 1
  %short = icmp slt i64 %turn.next, 32
  br i1 %short, label %spin, label %look
look:
  %over = call i1 @expired(ptr %since)
  br i1 %over, label %sleepy, label %round
sleepy:
  store atomic i32 1, ptr @slots seq_cst, align 4
  %done2 = load atomic i64, ptr @done seq_cst, align 8
  %all2 = icmp eq i64 %done2, %others
  br i1 %all2, label %rise, label %sleep
rise:
  store atomic i32 0, ptr @slots seq_cst, align 4
  ret void
sleep:
  call void @doze(ptr @slots)
  br label %round
leave:
  ret void
}

define internal void @collect(ptr %status, ptr %own) nounwind {
entry:
  %code = load i64, ptr %own, align 8
  %fine = icmp eq i64 %code, 0
  br i1 %fine, label %others, label %mine
mine:
  call void @copy_status(ptr %status, ptr %own)
  br label %others
others:
  %flag = load atomic i32, ptr @fault acquire, align 4
  %none = icmp eq i32 %flag, 0
  br i1 %none, label %leave, label %theirs
theirs:
  call void @copy_status(ptr %status, ptr getelementptr ({ i32, [3 x i64] }, ptr @fault, i64 0, i32 1))
  store atomic i32 0, ptr @fault release, align 4
  br label %leave
leave:
  ret void
}

define internal i1 @share(ptr %kernel, ptr %table, ptr %params, ptr %status, i64 %units, i64 %chunk) noinline nounwind {
entry:
  %own = alloca [4 x i64], align 32
  %wanted = load atomic i64, ptr @wanted monotonic, align 8
  %alone = icmp slt i64 %wanted, 2
  br i1 %alone, label %no, label %try
try:
  %mine = call i1 @enter()
  br i1 %mine, label %compare, label %no
no:
  ret i1 false
compare:
  %before = load atomic i64, ptr @running monotonic, align 8
  %same = icmp eq i64 %before, %wanted
  br i1 %same, label %post, label %change
change:
  call void @adjust(i64 %wanted)
  %after = load atomic i64, ptr @running monotonic, align 8
  %empty = icmp slt i64 %after, 2
  br i1 %empty, label %give, label %post
give:
  store atomic i32 0, ptr @lock release, align 4
  ret i1 false
post:
  %less = sub i64 %units, 1
  %full = udiv i64 %less, %chunk
  %count = add i64 %full, 1
  store i64 0, ptr %own, align 8
  store ptr %kernel, ptr getelementptr (%Job, ptr @job, i64 0, i32 1), align 8
  store ptr %table, ptr getelementptr (%Job, ptr @job, i64 0, i32 2), align 8
  store ptr %params, ptr getelementptr (%Job, ptr @job, i64 0, i32 3), align 8
  store i64 %units, ptr getelementptr (%Job, ptr @job, i64 0, i32 4), align 8
  store i64 %chunk, ptr getelementptr (%Job, ptr @job, i64 0, i32 5), align 8
  store i64 %count, ptr getelementptr (%Job, ptr @job, i64 0, i32 6), align 8
  store atomic i64 0, ptr @done monotonic, align 8
  store atomic i64 %count, ptr @job seq_cst, align 8
  %made = call i64 @work(ptr %own, i64 0)
  %others = sub i64 %count, %made
  call void @wait(i64 %others)
  call void @collect(ptr %status, ptr %own)
  store atomic i32 0, ptr @lock release, align 4
  ret i1 true
}
"""

_RUN: Final = """
define i64 @torsh_run(ptr %records, i64 %begin, i64 %end, ptr %table, ptr %status, ptr %stop) nounwind {
entry:
  %some = icmp slt i64 %begin, %end
  br i1 %some, label %call, label %nothing
nothing:
  ret i64 %begin
call:
  %number = phi i64 [ %begin, %entry ], [ %next, %following ]
  %record = getelementptr [6 x i64], ptr %records, i64 %number
  %params.at = getelementptr i64, ptr %record, i64 1
  %units.at = getelementptr i64, ptr %record, i64 2
  %chunk.at = getelementptr i64, ptr %record, i64 3
  %kernel = load ptr, ptr %record, align 8
  %params = load ptr, ptr %params.at, align 8
  %units = load i64, ptr %units.at, align 8
  %chunk = load i64, ptr %chunk.at, align 8
  %next = add i64 %number, 1
  %allowed = icmp sgt i64 %chunk, 0
  %several = icmp slt i64 %chunk, %units
  %parallel = and i1 %allowed, %several
  br i1 %parallel, label %together, label %alone
together:
  %shared = call i1 @share(ptr %kernel, ptr %table, ptr %params, ptr %status, i64 %units, i64 %chunk)
  br i1 %shared, label %check, label %alone
alone:
  call void %kernel(ptr %table, ptr %params, ptr %status, i64 0, i64 %units)
  br label %check
check:
  %code = load i64, ptr %status, align 8
  %fine = icmp eq i64 %code, 0
  br i1 %fine, label %continue, label %failed
failed:
  %position = getelementptr i64, ptr %status, i64 3
  store i64 %number, ptr %position, align 8
  ret i64 %number
continue:
  %flag = load atomic i32, ptr %stop monotonic, align 4
  %go = icmp eq i32 %flag, 0
  br i1 %go, label %following, label %stopped
stopped:
  ret i64 %next
following:
  %more = icmp slt i64 %next, %end
  br i1 %more, label %call, label %finished
finished:
  ret i64 %next
}

; The same with all arguments in front of the table: one argument to convert where Python calls.
define i64 @torsh_run_table(ptr %head) nounwind {
  %begin.at = getelementptr i64, ptr %head, i64 1
  %end.at = getelementptr i64, ptr %head, i64 2
  %status.at = getelementptr i64, ptr %head, i64 3
  %stop.at = getelementptr i64, ptr %head, i64 4
  %table = getelementptr i64, ptr %head, i64 5
  %records = load ptr, ptr %head, align 8
  %begin = load i64, ptr %begin.at, align 8
  %end = load i64, ptr %end.at, align 8
  %status = load ptr, ptr %status.at, align 8
  %stop = load ptr, ptr %stop.at, align 8
  %done = call i64 @torsh_run(ptr %records, i64 %begin, i64 %end, ptr %table, ptr %status, ptr %stop)
  ret i64 %done
}
"""
