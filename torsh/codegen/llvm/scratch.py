"""Scratch memory for templates that need more of it than fits on a stack: a library (see ``libraries.py``).

Blocks of one size are taken from the system when as many as there are, are in use, so there are as many as threads have
run such templates at the same time; they stay with the process.
"""
from __future__ import annotations

from typing import Final

from torsh.codegen.llvm.template_builder import Module

TAKE: Final = ("ptr to",)        # *to = the address of a block, 64-byte aligned
GIVE: Final = ("ptr block",)
_KEPT: Final = 64                # blocks at most that stay with the process


def write_scratch(module: Module, table: str, nbytes: int) -> None:
    """The functions ``take_scratch`` and ``give_scratch`` for blocks of ``nbytes``."""
    module.declare("ptr @malloc(i64)")
    module.declare("void @free(ptr)")
    module.declare("void @llvm.trap()")
    module.functions += [
        f"@kept = internal global [{_KEPT} x ptr] zeroinitializer",
        f"""define internal void @take_scratch(ptr %to) nounwind {{
entry:
  br label %look
look:
  %i = phi i64 [ 0, %entry ], [ %following, %next ]
  %slot = getelementptr ptr, ptr @kept, i64 %i
  %old = atomicrmw xchg ptr %slot, ptr null acquire
  %found = icmp ne ptr %old, null
  br i1 %found, label %take, label %next
take:
  store ptr %old, ptr %to
  ret void
next:
  %following = add i64 %i, 1
  %more = icmp ult i64 %following, {_KEPT}
  br i1 %more, label %look, label %make
make:
  %memory = call ptr @malloc(i64 {nbytes + 128})
  %none = icmp eq ptr %memory, null
  br i1 %none, label %fail, label %made
fail:
  call void @llvm.trap()
  unreachable
made:
  %address = ptrtoint ptr %memory to i64
  %above = add i64 %address, 127
  %aligned = and i64 %above, -64
  %block = inttoptr i64 %aligned to ptr
  %head = getelementptr i8, ptr %block, i64 -8
  store ptr %memory, ptr %head
  store ptr %block, ptr %to
  ret void
}}""",
        f"""define internal void @give_scratch(ptr %block) nounwind {{
entry:
  br label %look
look:
  %i = phi i64 [ 0, %entry ], [ %following, %next ]
  %slot = getelementptr ptr, ptr @kept, i64 %i
  %pair = cmpxchg ptr %slot, ptr null, ptr %block release monotonic
  %done = extractvalue {{ ptr, i1 }} %pair, 1
  br i1 %done, label %end, label %next
next:
  %following = add i64 %i, 1
  %more = icmp ult i64 %following, {_KEPT}
  br i1 %more, label %look, label %free
free:
  %head = getelementptr i8, ptr %block, i64 -8
  %memory = load ptr, ptr %head
  call void @free(ptr %memory)
  br label %end
end:
  ret void
}}""",
        f"@{table} = constant [2 x ptr] [ptr @take_scratch, ptr @give_scratch]"]
