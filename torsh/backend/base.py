"""The interface between recording and a device: buffers, and programs that fill them."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import addressof, c_char
from typing import Any, Protocol

import numpy as np

from torsh.ops.expr import Expr


class Storage:
    """A contiguous piece of memory. Freed (returned to its pool) when no Python object refers to it any more.

    Attributes: ``pointer`` (address), ``nbytes``, ``owner`` (whatever keeps the memory alive: a pool block, a NumPy array,
    a DLPack capsule), ``shared``: True once code outside ToRSh may see this memory (``.numpy()``, ``from_numpy``,
    DLPack); it then stays the tensor's memory for good, and in-place operations write into it.
    """

    __slots__ = ("pointer", "nbytes", "owner", "shared", "__weakref__")

    def __init__(self, pointer: int, nbytes: int, owner: Any, shared: bool = False) -> None:
        self.pointer = pointer
        self.nbytes = nbytes
        self.owner = owner
        self.shared = shared


def address_of(array: np.ndarray[Any, Any]) -> int:
    """The address of a NumPy array's first element."""
    try:
        return addressof(c_char.from_buffer(array))  # type: ignore[arg-type]  # a quarter of the time of the array interface
    except (TypeError, ValueError, BufferError):        # read-only, empty or not contiguous
        return array.__array_interface__["data"][0]     # type: ignore[no-any-return]


class Executable(Protocol):
    """A compiled program."""

    def run(self, leaves: Sequence[Storage], scalars: Sequence[Any], into: Sequence[Storage | None]) -> list[Storage]:
        """Compute all outputs.

        leaves: storage of each leaf position (contiguous, in the leaf's shape). scalars: the Python numbers.
        into: per output a storage that has to hold the result, or None for a new one; empty if all are new. It may also be a
        leaf (an in-place update); it then holds the old value until the program has read it for the last time. What outputs
        that the program was not told to be ``in_place`` hold before is lost in any case, also if the program fails.
        Raises IndexOutOfRangeError (IndexError) when an index from data is outside its range.
        """


    def bind(self, leaves: Sequence[int], into: Sequence[int]) -> Callable[[Sequence[Any]], None]:
        """The program for fixed memory: a function of the Python numbers that stores all outputs at these addresses.

        leaves, into: address of each leaf position, and of each output; the memory must outlive every call.
        """


class Backend(Protocol):
    """A device that can hold buffers and run programs."""

    name: str

    def allocate(self, nbytes: int) -> Storage:
        """New memory, 64-byte aligned, contents undefined."""

    def compile(self, outputs: tuple[Expr, ...], in_place: tuple[tuple[int, int], ...]) -> Executable:
        """Compile the program that computes ``outputs``.

        in_place: pairs (output number, leaf position): the output will be stored into that leaf's own storage, or (-1) into
        a storage that holds a value already, but is no leaf.
        """

    def set_num_threads(self, count: int) -> None:
        """Use at most ``count`` threads from now on."""

    def synchronize(self) -> None:
        """Wait until everything launched is done."""
