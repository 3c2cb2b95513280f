"""Kernel IR: what the compiler hands to a code generator. It names no target.

A *loop kernel* walks a grid of independent points; at each point it runs its stages in order::

    for g in grid axes:                    # independent, any order, any number of threads
        for stage in stages:
            if stage.loop:
                for i in inner axes:       # sequential; reductions accumulate over it
                    stage.body
                reductions of the stage become values of the grid point
            else:
                stage.body                 # once per grid point

All extents, strides, offsets and buffers are run-time parameters, so one kernel serves all shapes of a rank. What is fixed
are the operations, the dtypes and, per memory access, how it moves along the vector axis (not at all, by one element forwards
or backwards, or by a run-time stride). The vector axis is the last inner axis if there are inner axes and ``vector`` is
``"inner"``, else the last grid axis (``"grid"``): lanes then are neighbouring grid points, and reductions keep one accumulator
per lane.

A *template* is a kernel that the code generator writes as a whole (GEMM, scatter, scan ...), chosen by name.

Both have the same native signature (see :data:`SIGNATURE`) and both are called through a :class:`Call`.
"""
from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from torsh.core.dtype import DType

# void kernel(ptr table, ptr params, ptr status, i64 begin, i64 end)
#   table:  i64 words: base addresses of buffers, and Python numbers as doubles/int64 (word 0 is the scratch arena)
#   params: i64 words: the call's parameters, in the order of parameter_words()
#   status: i64[4]: {code, index, size, position of the call}; code 0: fine. A kernel that meets an index outside
#           its range stores {1, index, size} there, uses index 0 instead and goes on: nothing is read or written
#           outside of a buffer.
#   begin, end: the share of the work units [0, units) that this invocation does
SIGNATURE: Final = "void (ptr table, ptr params, ptr status, i64 begin, i64 end)"

ZERO: Final = 0       # the access does not move along the vector axis
ONE: Final = 1        # it moves by one element
STRIDED: Final = 2    # it moves by a run-time stride
SECOND: Final = 3     # it moves by two elements
BACK: Final = 4       # it moves by one element backwards
_MOTIONS: Final = {0: ZERO, 1: ONE, 2: SECOND, -1: BACK}


def motion_of(stride: int) -> int:
    """How an access with this stride moves."""
    return _MOTIONS.get(stride, STRIDED)


class Value(NamedTuple):
    """One SSA operation of a kernel; referred to by its position in ``LoopKernel.values``.

    op, args and attr by kind:

    - ``"load"`` attr = access number: the element at the access's address.
    - ``"store"`` args = (value,), attr = access number.
    - ``"index_load"`` args = int64 index values, attr = (access number, k): loads from access + sum(index_j * stride_j),
      where index_j is checked against bound_j (negative ones count from the end); strides and bounds are parameters
      of the access ("indirect" dimensions).
    - ``"scalar"`` attr = scalar parameter number: a Python number from the table. Its dtype is int64 or float64 (bool is
      stored as int64 0/1 and read as bool).
    - ``"constant"`` attr = Python value.
    - ``"iota"`` attr = access number without a buffer: offset + sum(axis index * stride), an int64.
    - ``"reduce"`` args = (value,), attr = "sum" | "prod" | "max" | "min" | "argmax" | "argmin": folds the value over the
      inner axes; usable in later stages. max and min propagate NaN. argmax/argmin give the int64 position in the
      row-major order of the inner axes, the first of equal ones, of a NaN if there is one.
    - ``"cast"`` to this value's dtype.
    - any elementwise primitive of the op table, by its name (``"add"``, ``"exp"``, ``"where"``, ``"philox"`` ...).
    """

    op: str
    dtype: DType
    args: tuple[int, ...] = ()
    attr: Hashable = None


class Stage(NamedTuple):
    """Positions of the values of one stage, in order; ``loop``: run over the inner axes."""

    loop: bool
    body: tuple[int, ...]


class Access(NamedTuple):
    """How a kernel addresses memory (or counts, for iota): which buffer parameter, and its motion along the vector axis.

    ``axes``: bit k is set if the access moves along axis k (grid axes first, then inner axes); others have stride 0 and
    no parameter is read for them. ``indirect``: number of data-dependent dimensions (index_load).
    ``masked``: not used by plain loads.
    """

    buffer: int          # buffer parameter number; -1 for iota
    vector: int          # ZERO, ONE, SECOND, BACK or (any stride) STRIDED
    axes: int            # bit set of axes with a stride parameter
    indirect: int = 0


@dataclass(frozen=True, slots=True)
class LoopKernel:
    """A kernel as described above. Hashable: equal kernels are compiled once, whatever the sizes."""

    grid: int                        # number of grid axes, >= 1
    inner: int                       # number of inner axes, 0 for purely elementwise kernels
    vector: str                      # "grid" or "inner"
    buffers: tuple[DType, ...]       # element types of the buffer parameters
    written: int                     # bit set of the buffers that are written
    accesses: tuple[Access, ...]
    scalars: int                     # number of scalar parameters
    values: tuple[Value, ...]
    stages: tuple[Stage, ...]
    _hash: list[int] = field(default_factory=list, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        if not self._hash:               # kernels are looked up again and again, and hashing all of one takes microseconds
            self._hash.append(hash((self.grid, self.inner, self.vector, self.buffers, self.written, self.accesses, self.scalars,
                                    self.values, self.stages)))
        return self._hash[0]


@dataclass(frozen=True, slots=True)
class TemplateKernel:
    """A kernel written as a whole by the code generator: its name there and what specialises it."""

    name: str
    options: tuple[Hashable, ...] = ()


Kernel = LoopKernel | TemplateKernel


@dataclass(slots=True)
class BufferRef:
    """Where a buffer is: a word of the table, plus a byte offset."""

    slot: int
    offset: int = 0


@dataclass(slots=True)
class Call:
    """One launch of a kernel: numbers only.

    For a LoopKernel ``params`` is, in this order (see :func:`loop_parameters`):
    extents of all axes (grid, then inner); per buffer: table word, byte offset; per access: element offset, then one
    stride per set bit of ``axes`` in axis order, then per indirect dimension (stride, bound); per scalar: table word.
    ``units``: work units that may be shared among threads. For a LoopKernel: the number of grid points (the product of the
    grid extents) when ``vector`` is "inner"; with "grid", rows of the last axis are cut in blocks of
    :data:`GRID_BLOCK` elements, and units = product of the leading extents * ceil(last extent / GRID_BLOCK).
    ``cost``: rough number of elementary operations (elements touched), from which the runtime decides on threads.
    ``prepares``: the call only brings one operand of later calls into another order, and may be left out as long as that
    operand's memory is not written: (position in ``params`` of the table word, followed by the byte offset, of its result, of its
    operand). ``prepared``: the same position of the operand of a call that was prepared by the call before it; -1: none.
    """

    kernel: Kernel
    params: tuple[int, ...]
    units: int
    cost: int
    label: str = ""                  # the ops it stands for, for explain() and error messages
    reads: tuple[int, ...] = ()      # buffer numbers of the program (for explain and the verifier)
    writes: tuple[int, ...] = ()
    pieces: int = 4                  # chunks of units per thread; fewer where each chunk repeats work of the others
    prepares: tuple[int, int] | None = None
    prepared: int = -1


GRID_BLOCK: Final = 4096


def grid_units(extents: tuple[int, ...], grid: int, vector: str) -> int:
    """Work units of a LoopKernel with these axis extents."""
    units = 1
    for n in extents[:grid - 1]:
        units *= n
    last = extents[grid - 1]
    return units * last if vector == "inner" else units * -(-last // GRID_BLOCK)


def loop_parameters(extents: tuple[int, ...], buffers: list[BufferRef],
                    accesses: list[tuple[int, tuple[int, ...], tuple[tuple[int, int], ...]]],
                    scalars: list[int]) -> tuple[int, ...]:
    """The parameter words of a loop kernel's call.

    accesses: per access (element offset, strides of its moving axes in axis order, ((stride, bound) per indirect dim)).
    scalars: table words.
    """
    words = list(extents)
    for ref in buffers:
        words += (ref.slot, ref.offset)
    for offset, strides, indirect in accesses:
        words.append(offset)
        words.extend(strides)
        for pair in indirect:
            words.extend(pair)
    return (*words, *scalars)
