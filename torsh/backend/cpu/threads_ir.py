"""The threads of the native runtime as LLVM text: how they wait, sleep, are woken, share work, start and end.

A *job* is one parallel call. Its owner (the thread that holds ``@lock``) writes its fields and then the number of chunks into
the first word of ``@job``. Whoever lowers that word from a positive value has claimed a chunk, and from then until it adds
the chunks it has done to ``@done`` the fields cannot change: the owner waits for all chunks before it leaves. A worker that
is late finds nothing to claim and is never waited for, so the owner finishes alone if nobody else is scheduled.

Each thread has a *slot* with a state that it sleeps on: 0 awake, 1 asleep (2: being woken). Slot 0 is the owner's, slots
1 ... are the workers'. A sleeper says so first and looks for work afterwards; who posts work does it the other way round:
nobody sleeps through a job. Sleeping workers are woken as a tree: slot s wakes slots 2s+1 and 2s+2. Whoever ends a worker's
state 1 counts it out of ``@sleepers``.

There are two ways to sleep: a futex (Linux), or a mutex and a condition variable per slot (any POSIX system). The texts are
templates, filled by :mod:`.runtime_ir`.
"""
from __future__ import annotations

from typing import Final

# @expired tells whether $spin ns have passed since it was first called with a zero at %since.
SPIN: Final = """
define internal i1 @expired(ptr %since) nounwind {
entry:
  %time = alloca [2 x i64], align 8
  %error = call i32 @clock_gettime(i32 $clock, ptr %time)
  %seconds = load i64, ptr %time, align 8
  %rest.at = getelementptr i64, ptr %time, i64 1
  %rest = load i64, ptr %rest.at, align 8
  %whole = mul i64 %seconds, 1000000000
  %now = add i64 %whole, %rest
  %start = load i64, ptr %since, align 8
  %first = icmp eq i64 %start, 0
  br i1 %first, label %begin, label %compare
begin:
  store i64 %now, ptr %since, align 8
  ret i1 false
compare:
  %passed = sub i64 %now, %start
  %over = icmp ugt i64 %passed, $spin
  ret i1 %over
}
"""

# @doze sleeps until the state is 0. @rouse sets it to 0 and wakes the sleeper; true if it was this call that did so.
# A guest's scheduler may take a halted processor for one that the host has taken away, and then puts every thread that
# is woken on its waker's processor, where it waits until the waker sleeps. So the waker takes its own processor from the
# sleeper's affinity (@narrow, in state 2), and the sleeper restores what it noted before it slept (@settle) once it is up
# (@widen).
FUTEX: Final = """
declare i64 @syscall(i64, ...)
declare i32 @sched_getcpu()
declare i32 @sched_getaffinity(i32, i64, ptr)
declare i32 @sched_setaffinity(i32, i64, ptr)
declare i32 @pthread_setaffinity_np(ptr, i64, ptr)

define internal void @prepare(ptr %slot) nounwind {
  ret void
}

define internal void @settle(ptr %slot) nounwind {
entry:
  %mask = getelementptr i8, ptr %slot, i64 64
  %error = call i32 @sched_getaffinity(i32 0, i64 128, ptr %mask)
  %fine = icmp sge i32 %error, 0
  br i1 %fine, label %leave, label %unknown
unknown:
  store [16 x i64] zeroinitializer, ptr %mask, align 8
  br label %leave
leave:
  ret void
}

define internal void @narrow(ptr %slot) nounwind {
entry:
  %copy = alloca [16 x i64], align 8
  %here = call i32 @sched_getcpu()
  %known = icmp ult i32 %here, 1024
  br i1 %known, label %look, label %leave
look:
  %mask = getelementptr i8, ptr %slot, i64 64
  %all = load [16 x i64], ptr %mask, align 8
  store [16 x i64] %all, ptr %copy, align 8
  %cpu = zext i32 %here to i64
  %index = lshr i64 %cpu, 6
  %word.at = getelementptr i64, ptr %copy, i64 %index
  %word = load i64, ptr %word.at, align 8
  %shift = and i64 %cpu, 63
  %bit = shl i64 1, %shift
  %set = and i64 %word, %bit
  %free = icmp eq i64 %set, 0
  br i1 %free, label %leave, label %exclude
exclude:
  %rest = xor i64 %word, %bit
  store i64 %rest, ptr %word.at, align 8
  %narrowed = getelementptr i8, ptr %slot, i64 4
  store i32 1, ptr %narrowed, align 4
  %thread.at = getelementptr i8, ptr %slot, i64 8
  %thread = load ptr, ptr %thread.at, align 8
  %error = call i32 @pthread_setaffinity_np(ptr %thread, i64 128, ptr %copy)
  br label %leave
leave:
  ret void
}

define internal void @widen(ptr %slot) nounwind {
entry:
  %narrowed.at = getelementptr i8, ptr %slot, i64 4
  %narrowed = load i32, ptr %narrowed.at, align 4
  %same = icmp eq i32 %narrowed, 0
  br i1 %same, label %leave, label %restore
restore:
  store i32 0, ptr %narrowed.at, align 4
  %mask = getelementptr i8, ptr %slot, i64 64
  %error = call i32 @sched_setaffinity(i32 0, i64 128, ptr %mask)
  br label %leave
leave:
  ret void
}

define internal void @doze(ptr %slot) nounwind {
entry:
  br label %look
look:
  %state = load atomic i32, ptr %slot seq_cst, align 4
  %awake = icmp eq i32 %state, 0
  br i1 %awake, label %leave, label %sleep
sleep:
  %result = call i64 (i64, ...) @syscall(i64 $futex, ptr %slot, i64 128, i64 1, ptr null, ptr null, i64 0)
  br label %look
leave:
  ret void
}

define internal i1 @rouse(ptr %slot) nounwind {
entry:
  %pair = cmpxchg ptr %slot, i32 1, i32 2 seq_cst seq_cst
  %asleep = extractvalue { i32, i1 } %pair, 1
  br i1 %asleep, label %wake, label %leave
wake:
  call void @narrow(ptr %slot)
  store atomic i32 0, ptr %slot seq_cst, align 4
  %result = call i64 (i64, ...) @syscall(i64 $futex, ptr %slot, i64 129, i64 1, ptr null, ptr null, i64 0)
  br label %leave
leave:
  ret i1 %asleep
}
"""

CONDITION: Final = """
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_signal(ptr)

define internal void @prepare(ptr %slot) nounwind {
  %mutex = getelementptr i8, ptr %slot, i64 64
  %condition = getelementptr i8, ptr %slot, i64 128
  %error1 = call i32 @pthread_mutex_init(ptr %mutex, ptr null)
  %error2 = call i32 @pthread_cond_init(ptr %condition, ptr null)
  ret void
}

define internal void @settle(ptr %slot) nounwind {
  ret void
}

define internal void @widen(ptr %slot) nounwind {
  ret void
}

define internal void @doze(ptr %slot) nounwind {
entry:
  %mutex = getelementptr i8, ptr %slot, i64 64
  %condition = getelementptr i8, ptr %slot, i64 128
  %error1 = call i32 @pthread_mutex_lock(ptr %mutex)
  br label %look
look:
  %state = load atomic i32, ptr %slot seq_cst, align 4
  %awake = icmp eq i32 %state, 0
  br i1 %awake, label %leave, label %sleep
sleep:
  %error2 = call i32 @pthread_cond_wait(ptr %condition, ptr %mutex)
  br label %look
leave:
  %error3 = call i32 @pthread_mutex_unlock(ptr %mutex)
  ret void
}

define internal i1 @rouse(ptr %slot) nounwind {
entry:
  %pair = cmpxchg ptr %slot, i32 1, i32 0 seq_cst seq_cst
  %asleep = extractvalue { i32, i1 } %pair, 1
  br i1 %asleep, label %wake, label %leave
wake:
  %mutex = getelementptr i8, ptr %slot, i64 64
  %condition = getelementptr i8, ptr %slot, i64 128
  %error1 = call i32 @pthread_mutex_lock(ptr %mutex)
  %error2 = call i32 @pthread_cond_signal(ptr %condition)
  %error3 = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %leave
leave:
  ret i1 %asleep
}
"""

# @rouse_worker keeps the count of sleepers; @rouse_below wakes the two workers that a slot has to wake, if the job has
# chunks for them: only who has claimed a chunk may call it, so that no worker ends meanwhile; @work claims chunks of the
# job until there are none and returns how many it did; @report keeps the status words of the first thread with an error.
WORK: Final = """
define internal void @rouse_worker(i64 %number) nounwind {
entry:
  %slot = getelementptr [256 x i8], ptr @slots, i64 %number
  %mine = call i1 @rouse(ptr %slot)
  br i1 %mine, label %count, label %leave
count:
  %old = atomicrmw sub ptr @sleepers, i64 1 seq_cst
  br label %leave
leave:
  ret void
}

define internal void @rouse_below(i64 %number, i64 %count) nounwind {
entry:
  %running = load atomic i64, ptr @running monotonic, align 8
  %few = icmp slt i64 %count, %running
  %limit = select i1 %few, i64 %count, i64 %running
  %double = shl i64 %number, 1
  %left = add i64 %double, 1
  %right = add i64 %double, 2
  %some = icmp slt i64 %left, %limit
  br i1 %some, label %first, label %leave
first:
  call void @rouse_worker(i64 %left)
  %more = icmp slt i64 %right, %limit
  br i1 %more, label %second, label %leave
second:
  call void @rouse_worker(i64 %right)
  br label %leave
leave:
  ret void
}

define internal i64 @work(ptr %status, i64 %number) nounwind {
entry:
  %ticket = atomicrmw sub ptr @job, i64 1 seq_cst
  %some = icmp sgt i64 %ticket, 0
  br i1 %some, label %fields, label %nothing
nothing:
  ret i64 0
fields:
  %kernel = load ptr, ptr getelementptr (%Job, ptr @job, i64 0, i32 1), align 8
  %table = load ptr, ptr getelementptr (%Job, ptr @job, i64 0, i32 2), align 8
  %params = load ptr, ptr getelementptr (%Job, ptr @job, i64 0, i32 3), align 8
  %units = load i64, ptr getelementptr (%Job, ptr @job, i64 0, i32 4), align 8
  %chunk = load i64, ptr getelementptr (%Job, ptr @job, i64 0, i32 5), align 8
  %count = load i64, ptr getelementptr (%Job, ptr @job, i64 0, i32 6), align 8
  %sleeping = load atomic i64, ptr @sleepers seq_cst, align 8
  %all = icmp eq i64 %sleeping, 0
  br i1 %all, label %first, label %rouse
rouse:
  call void @rouse_below(i64 %number, i64 %count)
  br label %first
first:
  br label %step
step:
  %left = phi i64 [ %ticket, %first ], [ %next, %step ]
  %made = phi i64 [ 0, %first ], [ %sum, %step ]
  %index = sub i64 %count, %left
  %begin = mul i64 %index, %chunk
  %rest = sub i64 %units, %begin
  %short = icmp slt i64 %rest, %chunk
  %size = select i1 %short, i64 %rest, i64 %chunk
  %end = add i64 %begin, %size
  call void %kernel(ptr %table, ptr %params, ptr %status, i64 %begin, i64 %end)
  %sum = add i64 %made, 1
  %next = atomicrmw sub ptr @job, i64 1 seq_cst
  %again = icmp sgt i64 %next, 0
  br i1 %again, label %step, label %leave
leave:
  ret i64 %sum
}

define internal void @copy_status(ptr %to, ptr %from) nounwind {
  %to1 = getelementptr i64, ptr %to, i64 1
  %to2 = getelementptr i64, ptr %to, i64 2
  %from1 = getelementptr i64, ptr %from, i64 1
  %from2 = getelementptr i64, ptr %from, i64 2
  %word0 = load i64, ptr %from, align 8
  %word1 = load i64, ptr %from1, align 8
  %word2 = load i64, ptr %from2, align 8
  store i64 %word0, ptr %to, align 8
  store i64 %word1, ptr %to1, align 8
  store i64 %word2, ptr %to2, align 8
  ret void
}

define internal void @report(ptr %status) nounwind {
entry:
  %code = load i64, ptr %status, align 8
  %fine = icmp eq i64 %code, 0
  br i1 %fine, label %leave, label %claim
claim:
  %pair = cmpxchg ptr @fault, i32 0, i32 1 seq_cst seq_cst
  %won = extractvalue { i32, i1 } %pair, 1
  br i1 %won, label %keep, label %clear
keep:
  call void @copy_status(ptr getelementptr ({ i32, [3 x i64] }, ptr @fault, i64 0, i32 1), ptr %status)
  br label %clear
clear:
  store i64 0, ptr %status, align 8
  br label %leave
leave:
  ret void
}
"""

WORKER: Final = """
define internal ptr @worker(ptr %slot) nounwind {
entry:
  %status = alloca [4 x i64], align 32
  %since = alloca i64, align 8
  store i64 0, ptr %status, align 8
  %number.at = getelementptr i8, ptr %slot, i64 16
  %number = load i64, ptr %number.at, align 8
  br label %wait
wait:
  store i64 0, ptr %since, align 8
  br label %round
round:
  br label %spin
spin:
  %turn = phi i64 [ 0, %round ], [ %turn.next, %idle ]
  %left = load atomic i64, ptr @job acquire, align 8
  %some = icmp sgt i64 %left, 0
  br i1 %some, label %join, label %stay
stay:
  %running = load atomic i64, ptr @running monotonic, align 8
  %surplus = icmp sge i64 %number, %running
  br i1 %surplus, label %leave, label %idle
idle:
  $pause
  %turn.next = add i64 %turn, 1
  %short = icmp slt i64 %turn.next, 32
  br i1 %short, label %spin, label %look
look:
  %over = call i1 @expired(ptr %since)
  br i1 %over, label %sleepy, label %round
sleepy:
  call void @settle(ptr %slot)
  store atomic i32 1, ptr %slot seq_cst, align 4
  %before = atomicrmw add ptr @sleepers, i64 1 seq_cst
  %left2 = load atomic i64, ptr @job seq_cst, align 8
  %some2 = icmp sgt i64 %left2, 0
  %running2 = load atomic i64, ptr @running seq_cst, align 8
  %surplus2 = icmp sge i64 %number, %running2
  %up = or i1 %some2, %surplus2
  br i1 %up, label %rise, label %sleep
rise:
  %pair = cmpxchg ptr %slot, i32 1, i32 0 seq_cst seq_cst
  %mine = extractvalue { i32, i1 } %pair, 1
  br i1 %mine, label %count, label %sleep
count:
  %after = atomicrmw sub ptr @sleepers, i64 1 seq_cst
  br label %wait
sleep:
  call void @doze(ptr %slot)
  call void @widen(ptr %slot)
  br label %wait
join:
  %made = call i64 @work(ptr %status, i64 %number)
  %none = icmp eq i64 %made, 0
  br i1 %none, label %wait, label %account
account:
  call void @report(ptr %status)
  %old = atomicrmw add ptr @done, i64 %made seq_cst
  %owner = load atomic i32, ptr @slots seq_cst, align 4
  %waits = icmp eq i32 %owner, 1
  br i1 %waits, label %tell, label %wait
tell:
  %told = call i1 @rouse(ptr @slots)
  %yielded = call i32 @sched_yield()      ; the owner may have to run here
  br label %wait
leave:
  ret ptr null
}
"""

# @adjust makes the number of running threads what is wanted; its caller holds the lock. Where no thread can be started it
# settles for those there are. Workers take no signals but their own faults: the others are the interpreter's.
POOL: Final = """
define internal void @start(i64 %from, i64 %wanted) nounwind {
entry:
  %attributes = alloca [256 x i8], align 16
  %set = alloca [256 x i8], align 16
  %old = alloca [256 x i8], align 16
  %error0 = call i32 @pthread_attr_init(ptr %attributes)
  %error1 = call i32 @pthread_attr_setstacksize(ptr %attributes, i64 $stack)
  %error2 = call i32 @sigfillset(ptr %set)
$faults
  %error3 = call i32 @pthread_sigmask(i32 $set_mask, ptr %set, ptr %old)
  br label %next
next:
  %number = phi i64 [ %from, %entry ], [ %more, %started ]
  %some = icmp slt i64 %number, %wanted
  br i1 %some, label %create, label %leave
create:
  %slot = getelementptr [256 x i8], ptr @slots, i64 %number
  %thread = getelementptr i8, ptr %slot, i64 8
  %number.at = getelementptr i8, ptr %slot, i64 16
  store i64 %number, ptr %number.at, align 8
  %more = add i64 %number, 1
  store atomic i64 %more, ptr @running seq_cst, align 8
  %error = call i32 @pthread_create(ptr %thread, ptr %attributes, ptr @worker, ptr %slot)
  %fine = icmp eq i32 %error, 0
  br i1 %fine, label %started, label %refused
started:
  br label %next
refused:
  store atomic i64 %number, ptr @running seq_cst, align 8
  %settled = cmpxchg ptr @wanted, i64 %wanted, i64 %number seq_cst seq_cst
  br label %leave
leave:
  %error4 = call i32 @pthread_sigmask(i32 $set_mask, ptr %old, ptr null)
  %error5 = call i32 @pthread_attr_destroy(ptr %attributes)
  ret void
}

define internal void @dismiss(i64 %running, i64 %wanted) nounwind {
entry:
  store atomic i64 %wanted, ptr @running seq_cst, align 8
  br label %rouse
rouse:
  %number = phi i64 [ %wanted, %entry ], [ %next, %rouse ]
  call void @rouse_worker(i64 %number)
  %next = add i64 %number, 1
  %more = icmp slt i64 %next, %running
  br i1 %more, label %rouse, label %join
join:
  %last = phi i64 [ %wanted, %rouse ], [ %following, %join ]
  %slot = getelementptr [256 x i8], ptr @slots, i64 %last
  %thread.at = getelementptr i8, ptr %slot, i64 8
  %thread = load ptr, ptr %thread.at, align 8
  %error = call i32 @pthread_join(ptr %thread, ptr null)
  %following = add i64 %last, 1
  %again = icmp slt i64 %following, %running
  br i1 %again, label %join, label %leave
leave:
  ret void
}

define internal void @adjust(i64 %wanted) noinline nounwind {
entry:
  %running = load atomic i64, ptr @running monotonic, align 8
  %more = icmp sgt i64 %wanted, %running
  br i1 %more, label %grow, label %compare
grow:
  call void @start(i64 %running, i64 %wanted)
  ret void
compare:
  %fewer = icmp slt i64 %wanted, %running
  br i1 %fewer, label %shrink, label %leave
shrink:
  call void @dismiss(i64 %running, i64 %wanted)
  ret void
leave:
  ret void
}

define internal i1 @enter() nounwind {
  %pair = cmpxchg ptr @lock, i32 0, i32 1 acquire monotonic
  %won = extractvalue { i32, i1 } %pair, 1
  ret i1 %won
}

define void @torsh_pool_resize(i64 %threads) nounwind {
entry:
  %low = icmp slt i64 %threads, 1
  %least = select i1 %low, i64 1, i64 %threads
  %high = icmp sgt i64 %least, $max
  %wanted = select i1 %high, i64 $max, i64 %least
  store atomic i64 %wanted, ptr @wanted seq_cst, align 8
  %running = load atomic i64, ptr @running monotonic, align 8
  %fewer = icmp slt i64 %wanted, %running
  br i1 %fewer, label %try, label %leave
try:
  %mine = call i1 @enter()
  br i1 %mine, label %shrink, label %leave
shrink:
  %now = load atomic i64, ptr @wanted seq_cst, align 8
  call void @adjust(i64 %now)
  store atomic i32 0, ptr @lock release, align 4
  br label %leave
leave:
  ret void
}

define void @torsh_pool_reset() nounwind {
entry:
  store atomic i64 1, ptr @running seq_cst, align 8
  store i64 0, ptr @sleepers, align 8
  store i64 0, ptr @job, align 8
  store i64 0, ptr @done, align 8
  store i32 0, ptr @fault, align 4
  br label %next
next:
  %number = phi i64 [ 0, %entry ], [ %more, %next ]
  %slot = getelementptr [256 x i8], ptr @slots, i64 %number
  store atomic i32 0, ptr %slot seq_cst, align 4
  call void @prepare(ptr %slot)
  %more = add i64 %number, 1
  %again = icmp slt i64 %more, $max
  br i1 %again, label %next, label %leave
leave:
  store atomic i32 0, ptr @lock seq_cst, align 4
  ret void
}
"""
