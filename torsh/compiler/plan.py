"""A compiled program before code generation: calls in order, and where every buffer lives."""
from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakValueDictionary

from torsh.compiler.fft import TableKey, fourier_table
from torsh.compiler.kernel import BufferRef, Call
from torsh.core.dtype import DType
from torsh.ops.expr import Op, Shape


@dataclass(slots=True)
class ArrayRef:
    """A contiguous array operand of a host step."""

    buffer: BufferRef
    shape: Shape
    dtype: DType


@dataclass(slots=True)
class HostStep:
    """An operation that runs through its NumPy reference: ``out[...] = op.reference(attr, *args)``.

    args: ArrayRef, or ("scalar", table word, DType), or ("constant", value, DType).
    """

    op: Op
    attr: Hashable
    args: tuple[Any, ...]
    out: ArrayRef


@dataclass(slots=True)
class PlannedBuffer:
    """A buffer of a program: a range of the scratch arena (slot 0), a leaf's or an output's memory, or a range that is borrowed
    from an output's memory until the output itself is written.

    first, last: numbers of the steps that use it first and last, if it lives in the arena, borrows, or lends.
    undefined: nobody fills it (``empty``).
    """

    slot: int
    offset: int
    nbytes: int
    first: int = -1
    last: int = -1
    undefined: bool = False


@dataclass(slots=True)
class Plan:
    """The steps of a program and the layout of its table.

    Table words: 0 scratch arena; 1 … leaves (in leaf-position order); then outputs; then scalars (in position order; floats as
    float64 bits, ints and bools as int64; complex numbers have no word: only host steps read them, by position); then addresses of
    tables; then constants.
    """

    steps: list[Call | HostStep]
    scratch_bytes: int
    leaves: int                       # number of leaf words (highest leaf position + 1)
    output_bytes: tuple[int, ...]     # size of each output's storage
    scalars: int                      # number of scalar words (highest scalar position + 1)
    constants: tuple[float, ...] = ()  # numbers that kernels read from the table, so that they do not depend on sizes
    tables: tuple[TableKey, ...] = ()   # memory that depends on sizes only and is made once: see :func:`table_memory`
    in_place: tuple[tuple[int, int], ...] = ()     # (output number, leaf position) whose memory is the same
    buffers: list[PlannedBuffer] = field(default_factory=list)      # for explain() and the verifier

    def leaf_word(self, position: int) -> int:
        """Table word of a leaf."""
        return 1 + position

    def output_word(self, number: int) -> int:
        """Table word of an output."""
        return 1 + self.leaves + number

    def scalar_word(self, position: int) -> int:
        """Table word of a Python number."""
        return 1 + self.leaves + len(self.output_bytes) + position


_kept: Final[WeakValueDictionary[TableKey, Any]] = WeakValueDictionary()


def table_memory(key: TableKey) -> Any:
    """The contents of a table as an array of bytes: one for all programs that hold it."""
    found = _kept.get(key)
    if found is None:
        found = _kept[key] = fourier_table(key)
    return found
