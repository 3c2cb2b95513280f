"""Runs template kernels on arrays that end (or begin) at memory that may not be touched."""
from __future__ import annotations

import ctypes
import mmap
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from torsh.backend.cpu import jit
from torsh.codegen.llvm.templates import generate_template, template_libraries
from torsh.compiler.kernel import BufferRef, Call, TemplateKernel

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class StandInTarget:
    """What the templates ask of a target."""

    cpu: str
    features: str
    triple: str
    width: int
    has_avx512: bool
    machine: str = ""     # the CPU to compile for, where it is not ``cpu``

    def lanes(self, itemsize: int) -> int:
        """Elements of a vector register."""
        return self.width // itemsize


def host_targets() -> list[StandInTarget]:
    """The targets that this machine can run, the widest first."""
    features = llvm.get_host_cpu_features()
    triple, cpu = llvm.get_default_triple(), llvm.get_host_cpu_name()
    found = []
    if features.get("avx512f") and features.get("avx512bw") and features.get("avx512vl"):
        found.append(StandInTarget(cpu, features.flatten() + ",-prefer-256-bit", triple, 64, True))
    if features.get("avx2") and features.get("fma"):
        found.append(StandInTarget("haswell", "+avx,+avx2,+fma,+f16c", triple, 32, False))
    return found or [StandInTarget(cpu, features.flatten(), triple, 16, False)]


ARM = StandInTarget("neoverse-n1", "+neon", "aarch64-unknown-linux-gnu", 16, False)
WIDEST = host_targets()[0]


@cache
def compiled(kernel: TemplateKernel, target: StandInTarget) -> Any:
    """The native function of a template."""
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_int64)
    return kind(address_of(kernel, target))


@cache
def address_of(kernel: TemplateKernel, target: StandInTarget) -> int:
    """The address of the symbol of a template or library."""
    imports = {name: address_of(library, target) for name, library in template_libraries(kernel, target).items()}
    return jit.link("kernel", image_of(kernel, target), imports)


def image_of(kernel: TemplateKernel, target: StandInTarget) -> bytes:
    """The object of a template or library."""
    return jit.emit_object(generate_template(kernel, target, "kernel"), target.triple, target.machine or target.cpu, target.features)


def images_of(kernel: TemplateKernel, target: StandInTarget) -> list[bytes]:
    """The objects of a template and its libraries."""
    return [image_of(one, target) for one in (kernel, *template_libraries(kernel, target).values())]


def guarded(shape: tuple[int, ...], dtype: Any, at_end: bool = True) -> np.ndarray:
    """An uninitialised array with an inaccessible page right behind it (or right in front of it).

    The memory goes with the last array that refers to it: a process may have only so many pieces of memory (Linux: 65530).
    """
    page = mmap.PAGESIZE
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    inside = -(-max(nbytes, 1) // page) * page
    memory = mmap.mmap(-1, inside + 2 * page)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for edge in (base, base + page + inside):
        assert _libc.mprotect(ctypes.c_void_p(edge), ctypes.c_size_t(page), 0) == 0
    start = page + (inside - nbytes if at_end else 0)
    flat = np.frombuffer(memory, np.uint8, nbytes, start) if nbytes else np.empty(0, np.uint8)
    return flat.view(dtype).reshape(shape)


def guard(array: np.ndarray, at_end: bool = True) -> np.ndarray:
    """A contiguous copy of ``array`` in guarded memory."""
    result = guarded(array.shape, array.dtype, at_end)
    result[...] = array
    return result


def ref(number: int) -> BufferRef:
    """The buffer of the array at this position in :func:`run`."""
    return BufferRef(number + 1)


def strides(array: np.ndarray) -> tuple[int, ...]:
    """Strides in elements."""
    return tuple(step // array.itemsize for step in array.strides)


def run(call: Call, arrays: list[np.ndarray], target: StandInTarget = WIDEST, share: int | None = None,
        units: range | None = None) -> np.ndarray:
    """Run the units of a call (all by default), ``share`` of them per invocation; returns the status words."""
    function = compiled(call.kernel, target)
    table = np.array([0, *(array.__array_interface__["data"][0] for array in arrays)], np.int64)
    params, status = np.array(call.params, np.int64), np.zeros(4, np.int64)
    units = units or range(call.units)
    step = share or max(call.units, 1)
    for begin in range(units.start, units.stop, step):
        function(table.ctypes.data, params.ctypes.data, status.ctypes.data, begin, min(begin + step, units.stop))
    return status
