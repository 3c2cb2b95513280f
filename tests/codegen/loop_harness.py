"""Builds loop kernels, compiles them for the targets that this machine can run, and runs them on NumPy arrays."""
from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from tests.codegen.template_harness import StandInTarget, host_targets
from torsh.codegen.llvm import generate
from torsh.compiler.kernel import (
    Access,
    BufferRef,
    LoopKernel,
    Stage,
    Value,
    grid_units,
    loop_parameters,
    motion_of,
)
from torsh.core.dtype import DType, bool_, float64, from_numpy_dtype, int64

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
TARGETS = host_targets()
_alive: list[Any] = []


def machine(target: StandInTarget) -> Any:
    """A target machine as the run time makes it."""
    return llvm.Target.from_triple(target.triple).create_target_machine(cpu=target.cpu, features=target.features, opt=1,
                                                                        codemodel="jitdefault")


@cache
def compiled(kernel: LoopKernel, target: StandInTarget) -> Any:
    """The native function of a kernel."""
    module = llvm.parse_assembly(generate(kernel, target, "kernel"))  # type: ignore[arg-type]
    module.verify()
    engine = llvm.create_mcjit_compiler(module, machine(target))
    engine.finalize_object()
    _alive.append(engine)
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_int64)
    return kind(engine.get_function_address("kernel"))


@dataclass
class Builder:
    """Collects the values of a kernel over axes of the given extents (grid axes first)."""

    extents: tuple[int, ...]
    grid: int
    vector: str = "grid"
    arrays: list[np.ndarray] = field(default_factory=list)
    written: int = 0
    accesses: list[Access] = field(default_factory=list)
    numbers: list[Any] = field(default_factory=list)
    where: list[tuple[int, tuple[int, ...], tuple[tuple[int, int], ...]]] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    body: list[int] = field(default_factory=list)

    def add(self, op: str, dtype: DType, *args: int, attr: Any = None) -> int:
        """A value of the current stage."""
        self.values.append(Value(op, dtype, args, attr))
        self.body.append(len(self.values) - 1)
        return len(self.values) - 1

    def stage(self, loop: bool = False) -> None:
        """End the current stage."""
        self.stages.append(Stage(loop, tuple(self.body)))
        self.body = []

    def access(self, array: np.ndarray | None, strides: Sequence[int], offset: int = 0, write: bool = False,
               indirect: tuple[tuple[int, int], ...] = ()) -> int:
        """An access with strides (in elements) of all axes."""
        number = -1
        if array is not None:
            number = next((k for k, a in enumerate(self.arrays) if a is array), len(self.arrays))
            if number == len(self.arrays):
                self.arrays.append(array)
            self.written |= int(write) << number
        strides = (*strides, *[0] * (len(self.extents) - len(strides)))
        axis = len(self.extents) - 1 if self.vector == "inner" else self.grid - 1
        vector = motion_of(strides[axis])
        bits = sum(1 << k for k, s in enumerate(strides) if s)
        self.accesses.append(Access(number, vector, bits, len(indirect)))
        self.where.append((offset, tuple(s for s in strides if s), indirect))
        return len(self.accesses) - 1

    def load(self, array: np.ndarray, strides: Sequence[int], offset: int = 0) -> int:
        """Load an element of an array."""
        return self.add("load", from_numpy_dtype(array.dtype), attr=self.access(array, strides, offset))

    def store(self, value: int, array: np.ndarray, strides: Sequence[int], offset: int = 0) -> None:
        """Store a value to an array."""
        self.add("store", self.values[value].dtype, value, attr=self.access(array, strides, offset, True))

    def scalar(self, value: Any) -> int:
        """A Python number."""
        self.numbers.append(value)
        dtype = bool_ if isinstance(value, bool) else float64 if isinstance(value, float) else int64
        return self.add("scalar", dtype, attr=len(self.numbers) - 1)

    def kernel(self) -> LoopKernel:
        """The kernel."""
        dtypes = tuple(from_numpy_dtype(a.dtype) for a in self.arrays)
        return LoopKernel(self.grid, len(self.extents) - self.grid, self.vector, dtypes, self.written, tuple(self.accesses),
                          len(self.numbers), tuple(self.values), tuple(self.stages))

    def prepare(self, target: StandInTarget) -> tuple[Any, tuple[Any, ...], int]:
        """The native function, the words of a call (table, params, status), and its units."""
        table = [0, *(a.__array_interface__["data"][0] for a in self.arrays)]
        first = len(table)
        for value in self.numbers:
            table.append(struct.unpack("<q", struct.pack("<d", value))[0] if isinstance(value, float) else int(value))
        params = loop_parameters(self.extents, [BufferRef(1 + k) for k in range(len(self.arrays))], self.where,
                                 list(range(first, first + len(self.numbers))))
        words = (np.array(table, np.int64), np.array(params, np.int64), np.zeros(4, np.int64))
        return compiled(self.kernel(), target), words, grid_units(self.extents, self.grid, self.vector)

    def run(self, target: StandInTarget = TARGETS[0], share: int | None = None) -> np.ndarray:
        """Run it, ``share`` units per invocation; the status words."""
        function, words, units = self.prepare(target)
        addresses = [w.ctypes.data for w in words]
        step = share or max(units, 1)
        for begin in range(0, units, step):
            function(*addresses, begin, min(begin + step, units))
        return words[2]


def element_strides(array: np.ndarray) -> tuple[int, ...]:
    """Strides in elements, 0 for axes of extent 1."""
    return tuple(0 if n == 1 else s // array.itemsize for n, s in zip(array.shape, array.strides, strict=True))


def elementwise(op: str, result: DType, *arrays: np.ndarray, attr: Any = None,
                target: StandInTarget = TARGETS[0]) -> np.ndarray:
    """One primitive on contiguous arrays of one shape."""
    flat = [a.reshape(-1) for a in arrays]
    out = np.empty(flat[0].shape, result.numpy)
    b = Builder(flat[0].shape, 1)
    value = b.add(op, result, *(b.load(a, (1,)) for a in flat), attr=attr)
    b.store(value, out, (1,))
    b.stage()
    b.run(target)
    return out.reshape(arrays[0].shape)
