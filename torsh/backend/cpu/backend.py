"""The CPU backend: programs are compiled to machine code."""
from __future__ import annotations

from torsh.backend.base import Storage
from torsh.backend.cpu import memory
from torsh.backend.cpu.executable import UNREAD, CpuExecutable
from torsh.backend.cpu.native import native_runtime
from torsh.codegen.llvm import supported
from torsh.compiler.program import plan_for
from torsh.ops.expr import SCALAR_OP, Expr

_FORMATS = {"bool": "q", "int64": "q", "float64": "d", "complex128": UNREAD}


class CpuBackend:
    """See :class:`torsh.backend.base.Backend`."""

    name = "cpu"

    def allocate(self, nbytes: int) -> Storage:
        """New memory, 64-byte aligned, contents undefined."""
        return memory.allocate(nbytes)

    def compile(self, outputs: tuple[Expr, ...], in_place: tuple[tuple[int, int], ...]) -> CpuExecutable:
        """Compile the program that computes ``outputs``."""
        kinds = scalar_formats(outputs)
        return CpuExecutable(plan_for(outputs, in_place, supported, len(kinds)), kinds)

    def set_num_threads(self, count: int) -> None:
        """Use at most ``count`` threads from now on."""
        native_runtime().resize(count)

    def synchronize(self) -> None:
        """Programs are done when they return."""


def scalar_formats(outputs: tuple[Expr, ...]) -> list[str]:
    """How each Python number is packed, by position; positions that no call reads take a word too."""
    found: dict[int, str] = {}
    seen: set[Expr] = set()
    stack = list(outputs)
    while stack:
        e = stack.pop()
        if e in seen:
            continue
        seen.add(e)
        if e.op is SCALAR_OP:
            found[e.attr] = _FORMATS[e.dtype.name]  # type: ignore[index]
        stack.extend(e.args)
    return [found.get(k, UNREAD) for k in range(max(found, default=-1) + 1)]
